//! Answers as tables.

use std::time::SystemTime;

use serde_json::Value;

/// The broker at a glance.
pub(super) fn status(broker: &Value) -> String {
    let ready = match broker["ready"] == true {
        true => "ready",
        false => "not ready",
    };
    let listeners = broker["listeners"].as_array().into_iter().flatten();
    let listeners: Vec<String> = listeners.map(text).collect();
    let n = |key: &str| count(&broker[key]);
    let responding = broker["shards_responding"] == broker["shards"];
    let shards = match responding {
        true => n("shards"),
        false => format!(
            "{}, of which {} answer",
            n("shards"),
            n("shards_responding")
        ),
    };
    pairs(&[
        (
            "ringmq",
            format!(
                "{}, pid {}, {ready}",
                text(&broker["version"]),
                text(&broker["pid"])
            ),
        ),
        ("up", span(&broker["uptime_s"])),
        ("listens on", listeners.join(", ")),
        (
            "data",
            match &broker["data_dir"] {
                Value::Null => "in memory".to_owned(),
                path => text(path),
            },
        ),
        ("shards", shards),
        (
            "connections",
            format!("{} of {}", n("connections"), n("connections_max")),
        ),
        (
            "sessions",
            format!("{}, {} connected", n("sessions"), n("sessions_connected")),
        ),
        (
            "subscriptions",
            format!(
                "{}, {} shared",
                n("subscriptions"),
                n("shared_subscriptions")
            ),
        ),
        ("retained", n("retained_messages")),
        (
            "queued",
            format!("{}, {} bytes", n("queued_messages"), n("queued_bytes")),
        ),
        (
            "published",
            format!(
                "{} in, {} out",
                n("publishes_received"),
                n("publishes_sent")
            ),
        ),
        ("dropped", n("messages_dropped")),
        ("refused", n("connects_refused")),
    ])
}

/// A row for each shard.
pub(super) fn shards(answer: &Value) -> String {
    const COLUMNS: [(&str, &str); 10] = [
        ("shard", "shard"),
        ("connections", "connections"),
        ("sessions", "sessions"),
        ("subscriptions", "subscriptions"),
        ("queued", "queued_messages"),
        ("inbox", "inbox_messages"),
        ("in", "publishes_received"),
        ("out", "publishes_sent"),
        ("dropped", "messages_dropped"),
        ("turns", "turns"),
    ];
    let mut rows = vec![COLUMNS.map(|(title, _)| title.to_owned()).to_vec()];
    rows[0].extend(["cpu s".to_owned(), "answers".to_owned()]);
    for shard in answer["shards"].as_array().into_iter().flatten() {
        let mut row: Vec<String> = COLUMNS.iter().map(|(_, key)| count(&shard[*key])).collect();
        row.push(
            shard["cpu_s"]
                .as_f64()
                .map_or("-".to_owned(), |cpu| format!("{cpu:.1}")),
        );
        row.push(
            if shard["responding"] == true {
                "yes"
            } else {
                "NO"
            }
            .to_owned(),
        );
        rows.push(row);
    }
    let widths = (0..rows[0].len()).map(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let widths: Vec<usize> = widths.collect();
    let mut table = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"));
        table += &(cells.collect::<Vec<_>>().join("  ") + "\n");
    }
    table
}

/// Stalls, the newest first: each with the reason and the place.
pub(super) fn stalls(answer: &Value) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_ms = now.unwrap_or_default().as_millis() as u64;
    let mut shown = String::new();
    for stall in answer["stalls"].as_array().into_iter().flatten() {
        let why = match text(&stall["kind"]).as_str() {
            "running" => "was busy with one turn".to_owned(),
            "waiting" => "waited for a core".to_owned(),
            _ => match &stall["kernel_function"] {
                Value::String(function) => format!("waited for the kernel, in {function}"),
                _ => "waited for the kernel".to_owned(),
            },
        };
        let goes_on = match stall["has_ended"] == true {
            true => "",
            false => " so far",
        };
        let (shard, took) = (text(&stall["shard"]), text(&stall["took_ms"]));
        let since_ms = now_ms.saturating_sub(stall["noticed_unix_ms"].as_u64().unwrap_or(0));
        let when = short_span(since_ms / 1000);
        shown += &format!("{when} ago: shard {shard} {why}: {took} ms{goes_on}\n");
        for function in stall["functions"].as_array().into_iter().flatten() {
            shown += &format!("    {}\n", text(function));
        }
    }
    match shown.is_empty() {
        true => "none\n".to_owned(),
        false => shown,
    }
}

/// Everything about one client.
pub(super) fn client(client: &Value) -> String {
    let fields = client.as_object().into_iter().flatten();
    let rows: Vec<(&str, String)> = fields
        .map(|(name, value)| {
            let shown = match name.as_str() {
                "expiry_s" if value.is_null() => "never".to_owned(),
                _ => text(value),
            };
            (name.as_str(), shown)
        })
        .collect();
    pairs(&rows)
}

/// The table of clients, row by row.
#[derive(Debug, Default)]
pub(super) struct Rows {
    count: usize,
}

impl Rows {
    /// The text of a line of the listing: a client, or its end.
    pub(super) fn next(&mut self, line: &Value) -> String {
        if line.get("client_id").is_none() {
            return self.end(line);
        }
        let mut shown = String::new();
        if self.count == 0 {
            shown += "STATE      FOR  PROTOCOL    QUEUED        IN       OUT   DROPPED  \
                      SUBSCRIPTIONS  PEER                   CLIENT\n";
        }
        self.count += 1;
        let is_connected = line["connected"] == true;
        let state = if is_connected { "connected" } else { "away" };
        shown += &format!(
            "{state:<9} {:>4}  {:<8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>13}  {:<21}  {}{}\n",
            line["connected_for_s"]
                .as_u64()
                .map_or("-".to_owned(), short_span),
            text(&line["protocol"]),
            count(&line["queued_messages"]),
            count(&line["in"]),
            count(&line["out"]),
            count(&line["dropped"]),
            count(&line["subscriptions"]),
            text(&line["peer"]),
            text(&line["client_id"]),
            match &line["user"] {
                Value::Null => String::new(),
                user => format!(" ({})", text(user)),
            },
        );
        shown
    }

    fn end(&self, line: &Value) -> String {
        let mut shown = match self.count {
            0 => "no clients\n".to_owned(),
            _ => String::new(),
        };
        if let Some(cursor) = line["cursor"].as_str() {
            shown += &format!("there are more: --cursor {cursor}\n");
        }
        for shard in line["missing_shards"].as_array().into_iter().flatten() {
            shown += &format!("shard {shard} does not answer: its clients are missing\n");
        }
        shown
    }
}

/// Names and values, one below the other.
pub(super) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let row = |(name, value): &(&str, String)| format!("{name:<width$}  {value}\n");
    rows.iter().map(row).collect()
}

/// Which shards have not answered.
pub(super) fn missing(answer: &Value) -> String {
    let shards = answer["missing_shards"].as_array().into_iter().flatten();
    let line = |shard| format!("shard {shard} does not answer: what it has is missing\n");
    shards.map(line).collect()
}

/// A value, with its text cleaned.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// Without control characters, which could tell a terminal what to do, and without those that turn the direction of
/// writing, which could make a name look like another.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| match c.is_control() || is_bidi_control(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Unicode's Bidi_Control.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// 1234567 as `1,234,567`.
pub(super) fn count(value: &Value) -> String {
    let Some(number) = value.as_u64() else {
        return text(value);
    };
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

pub(super) fn span(seconds: &Value) -> String {
    let seconds = seconds.as_u64().unwrap_or(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} m {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} m"),
        _ => format!("{days} d {hours} h"),
    }
}

/// In four characters.
pub(super) fn short_span(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..360_000 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_shows_no_control_characters() {
        let mut rows = Rows::default();
        let shown = rows.next(&json!({
            "client_id": "a\u{1b}[31m\n", "user": null, "connected": false, "protocol": "5.0",
            "peer": null, "queued_messages": 12345, "subscriptions": 1, "connected_for_s": null,
        }));
        let row = shown.lines().nth(1).unwrap();
        assert!(row.ends_with("a\\u{1b}[31m\\n"), "{shown}");
        assert!(row.contains(" 12,345 "), "{shown}");
        let end = rows.next(&json!({"cursor": "0.7", "missing_shards": [3]}));
        let expected =
            "there are more: --cursor 0.7\nshard 3 does not answer: its clients are missing\n";
        assert_eq!(end, expected);
        let nobody = Rows::default().next(&json!({"cursor": null, "missing_shards": []}));
        assert_eq!(nobody, "no clients\n");
    }

    #[test]
    fn spans_are_short() {
        for (seconds, long, short) in [
            (7, "7 s", "7s"),
            (125, "2 m 5 s", "2m"),
            (7300, "2 h 1 m", "2h"),
            (273_600, "3 d 4 h", "76h"),
            (864_000, "10 d 0 h", "10d"),
        ] {
            assert_eq!(span(&json!(seconds)), long);
            assert_eq!(short_span(seconds), short);
        }
    }
}
