//! Answers as CSV (RFC 4180): a line of names, and one for each row.

use serde_json::Value;

/// Rows, one after the other. The first says which columns there are.
#[derive(Debug, Default)]
pub(super) struct Csv {
    columns: Option<Vec<String>>,
}

impl Csv {
    /// The text of a line of a list; nothing for its end.
    pub(super) fn next(&mut self, line: &Value) -> String {
        let Some(object) = line
            .as_object()
            .filter(|_| line.get("missing_shards").is_none())
        else {
            return String::new();
        };
        let mut text = String::new();
        let columns = self.columns.get_or_insert_with(|| {
            let columns: Vec<String> = object.keys().cloned().collect();
            text = row(columns
                .iter()
                .map(|column| cell(&Value::from(column.as_str()))));
            columns
        });
        text + &row(columns.iter().map(|column| cell(&line[column])))
    }

    /// A whole answer: the rows of its list, or itself as the only row.
    pub(super) fn whole(answer: &Value) -> String {
        let mut csv = Csv::default();
        let lists = answer
            .as_object()
            .into_iter()
            .flat_map(|object| object.values());
        let is_list = |value: &&Value| {
            value
                .as_array()
                .is_some_and(|rows| rows.iter().any(Value::is_object))
        };
        match lists.into_iter().find(is_list) {
            Some(rows) => rows
                .as_array()
                .into_iter()
                .flatten()
                .map(|row| csv.next(row))
                .collect(),
            None => {
                let mut only = answer.clone();
                if let Some(object) = only.as_object_mut() {
                    object.remove("missing_shards");
                }
                csv.next(&only)
            }
        }
    }
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(",") + "\r\n"
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts = parts
                .iter()
                .map(|part| part.as_str().map_or(part.to_string(), str::to_owned));
            parts.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
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
        assert_eq!(
            Csv::whole(&json!({"clients": [], "missing_shards": []})),
            "clients\r\n\r\n"
        );
    }
}
