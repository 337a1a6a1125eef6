//! Answers as CSV (RFC 4180): a line of names, and one for each row.

use ringmq::admin::row_keys;
use serde_json::{Map, Value};

use super::show::text;

/// Rows, one after the other, below a line of names.
#[derive(Debug, Default)]
pub(super) struct Csv {
    columns: Option<Vec<String>>,
    /// Columns if there is no row.
    expected: Vec<&'static str>,
}

impl Csv {
    /// Of a list of all shards, line by line.
    pub(super) fn of(list: &str) -> Csv {
        Csv::of_answer(&[list, "cursor", "missing_shards"], list)
    }

    /// Of a list about one client.
    pub(super) fn of_client(list: &str) -> Csv {
        Csv::of_answer(&[list, "cursor"], list)
    }

    fn of_answer(keys: &[&str], list: &str) -> Csv {
        let expected = row_keys(keys, list).expect("the control plane describes its lists");
        Csv {
            columns: None,
            expected,
        }
    }

    /// The text of a line of a list: a row, or its end.
    pub(super) fn next(&mut self, line: &Value) -> String {
        match line.as_object() {
            Some(object) if line.get("missing_shards").is_none() => self.row(object),
            Some(_) | None => self.end(),
        }
    }

    /// What is left to say at the end: the names, if there was no row.
    pub(super) fn end(&mut self) -> String {
        match self.columns {
            Some(_) => String::new(),
            None => row(self.expected.iter().map(|name| (*name).to_owned())),
        }
    }

    fn row(&mut self, object: &Map<String, Value>) -> String {
        let mut text = String::new();
        let columns = self.columns.get_or_insert_with(|| {
            let columns: Vec<String> = object.keys().cloned().collect();
            text = row(columns.iter().map(|name| quoted(name.clone())));
            columns
        });
        let value = |name: &String| object.get(name).unwrap_or(&Value::Null);
        text + &row(columns.iter().map(|name| cell(value(name))))
    }

    /// A whole answer: the rows of its list, or itself as the only row.
    pub(super) fn whole(answer: &Value) -> String {
        let Some(object) = answer.as_object() else {
            return String::new();
        };
        let keys: Vec<&str> = object.keys().map(String::as_str).collect();
        let list = object.iter().find_map(|(name, value)| {
            let rows = value.as_array()?;
            // A file without problems is about something else.
            let is_empty = rows.is_empty() && name != "problems";
            let expected = match is_empty {
                true => row_keys(&keys, name)?,
                false => Vec::new(),
            };
            let is_list = is_empty || rows.iter().any(Value::is_object);
            is_list.then_some((rows, expected))
        });
        let mut csv = Csv::default();
        match list {
            Some((rows, expected)) => {
                csv.expected = expected;
                let rows = rows.iter().filter_map(Value::as_object);
                let text: String = rows.map(|row| csv.row(row)).collect();
                text + &csv.end()
            }
            None => {
                let mut only = object.clone();
                only.remove("missing_shards");
                csv.row(&only)
            }
        }
    }
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(",") + "\r\n"
}

fn cell(value: &Value) -> String {
    let text = plain(value);
    match value {
        Value::String(_) | Value::Array(_) | Value::Object(_) => quoted(harmless(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => text,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts: Vec<String> = parts.iter().map(plain).collect();
            parts.join(" ")
        }
        Value::Object(parts) => match (parts.get("name"), parts.get("max")) {
            (Some(name), Some(max)) => format!("{} = {}", plain(name), plain(max)),
            _ => {
                let part = |(name, value): (&String, &Value)| format!("{name} = {}", plain(value));
                let parts: Vec<String> = parts.iter().map(part).collect();
                parts.join("; ")
            }
        },
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Names come from clients: no formula for a spreadsheet (OWASP, CSV Injection), and nothing that could
/// tell a terminal what to do.
fn harmless(cell: String) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let shown = text(&Value::from(cell));
    match is_formula {
        true => format!("'{shown}"),
        false => shown,
    }
}

fn quoted(cell: String) -> String {
    match cell.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_have_one_head_and_quotes_where_they_are_needed() {
        let mut csv = Csv::default();
        let first = csv.next(&json!({"a": "x, \"y\"", "b": null}));
        assert_eq!(first, "a,b\r\n\"x, \"\"y\"\"\",\r\n");
        assert_eq!(csv.next(&json!({"b": 7, "a": ["p", "q"]})), "p q,7\r\n");
        assert_eq!(csv.next(&json!({"cursor": null, "missing_shards": []})), "");
        let whole = Csv::whole(&json!({"shards": [{"shard": 0}, {"shard": 1}]}));
        assert_eq!(whole, "shard\r\n0\r\n1\r\n");
        assert_eq!(Csv::whole(&json!({"ready": true})), "ready\r\ntrue\r\n");
    }

    #[test]
    fn an_empty_list_has_its_names_and_no_row() {
        let busiest = json!({
            "by": "messages", "topics": [], "span_s": 60.0, "error": 0, "missing_shards": [],
        });
        let names = "bytes,bytes_per_s,messages,messages_per_s,topic\r\n";
        assert_eq!(Csv::whole(&busiest), names);
        for (list, first) in [
            ("clients", "bridge,bytes,client_id,"),
            ("retained", "expires_in_s,payload_bytes,"),
            ("subscriptions", "client_id,connected,"),
        ] {
            let names = Csv::of(list).next(&json!({"cursor": null, "missing_shards": []}));
            assert!(
                names.starts_with(first) && names.ends_with("\r\n"),
                "{list}: {names}"
            );
            assert_eq!(names.lines().count(), 1);
        }
        let queue = Csv::of_client("queue").end();
        assert!(queue.starts_with("expires_in_s,number,"), "{queue}");
        let traces = Csv::whole(&json!({"traces": []}));
        assert!(traces.starts_with("address,began,client,"), "{traces}");
        let valid = Csv::whole(&json!({"valid": true, "problems": [], "warnings": []}));
        assert_eq!(valid, "problems,valid,warnings\r\n,true,\r\n");
    }

    #[test]
    fn cells_are_no_formulas_and_steer_nothing() {
        for (value, expected) in [
            (json!("=1+1"), "'=1+1"),
            (json!("+1"), "'+1"),
            (json!("-1"), "'-1"),
            (json!("@a, b"), "\"'@a, b\""),
            (json!("\ta"), "'\\ta"),
            (json!("\ra"), "'\\ra"),
            (json!(["=a", "b"]), "'=a b"),
            (json!("a=b"), "a=b"),
            (json!("a\u{1b}[31m\u{202e}"), "a\\u{1b}[31m\\u{202e}"),
            (json!(-1.5), "-1.5"),
            (
                json!({"name": "queued_messages_max", "max": 10}),
                "queued_messages_max = 10",
            ),
        ] {
            assert_eq!(cell(&value), expected, "{value}");
        }
    }
}
