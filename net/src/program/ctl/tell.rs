//! Answers about losses, subscribers, retained messages and drains, as text.

use serde_json::Value;

use super::show::{count, missing, pairs, short_span, span, text};

/// The columns of a table: titles, widths, keys. What stands last has no width.
pub(super) struct Columns {
    list: &'static [(&'static str, usize, &'static str)],
    /// What there is none of.
    name: &'static str,
}

/// Subscriptions of a client.
pub(super) static SUBSCRIPTIONS: Columns = Columns {
    list: &[
        ("QOS", 3, "qos"),
        ("NO LOCAL", 8, "no_local"),
        ("RETAIN", 6, "retain_as_published"),
        ("ID", 9, "id"),
        ("FILTER", 0, "filter"),
    ],
    name: "subscriptions",
};
/// Subscribers of a topic or a filter.
pub(super) static SUBSCRIBERS: Columns = Columns {
    list: &[
        ("QOS", 3, "qos"),
        ("NO LOCAL", 8, "no_local"),
        ("CONNECTED", 9, "connected"),
        ("FILTER", 30, "filters"),
        ("CLIENT", 0, "client_id"),
    ],
    name: "subscribers",
};
/// What waits for a client.
pub(super) static QUEUE: Columns = Columns {
    list: &[
        ("NUMBER", 9, "number"),
        ("QOS", 3, "qos"),
        ("BYTES", 9, "payload_bytes"),
        ("EXPIRES", 7, "expires_in_s"),
        ("TOPIC", 0, "topic"),
    ],
    name: "messages",
};
/// Retained messages.
pub(super) static RETAINED: Columns = Columns {
    list: &[
        ("QOS", 3, "qos"),
        ("BYTES", 9, "payload_bytes"),
        ("EXPIRES", 7, "expires_in_s"),
        ("TOPIC", 0, "topic"),
    ],
    name: "retained messages",
};

/// A table, row by row.
pub(super) struct Table {
    columns: &'static Columns,
    count: usize,
}

impl Table {
    pub(super) fn of(columns: &'static Columns) -> Table {
        Table { columns, count: 0 }
    }

    /// The text of a line of a list: a row, or its end.
    pub(super) fn next(&mut self, line: &Value) -> String {
        if line.get("missing_shards").is_some() {
            return self.end(line);
        }
        let mut shown = String::new();
        if self.count == 0 {
            shown += &row(self
                .columns
                .list
                .iter()
                .map(|(title, width, _)| (*title, *width)));
        }
        self.count += 1;
        let cells: Vec<(String, usize)> = self
            .columns
            .list
            .iter()
            .map(|(_, width, key)| (cell(key, &line[*key]), *width))
            .collect();
        shown + &row(cells.iter().map(|(cell, width)| (&**cell, *width)))
    }

    /// What is left to say at the end of a list.
    pub(super) fn end(&self, line: &Value) -> String {
        let mut shown = match self.count {
            0 => format!("no {}\n", self.columns.name),
            _ => String::new(),
        };
        if let Some(cursor) = line["cursor"].as_str() {
            shown += &format!("there are more: --cursor {cursor}\n");
        }
        shown + &missing(line)
    }
}

fn cell(key: &str, value: &Value) -> String {
    match (key, value) {
        ("expires_in_s", Value::Number(seconds)) => {
            seconds.as_u64().map_or_else(String::new, short_span)
        }
        ("payload_bytes", value) => count(value),
        (_, Value::Array(parts)) => {
            let parts: Vec<String> = parts.iter().map(text).collect();
            parts.join(" ")
        }
        (_, value) => text(value),
    }
}

fn row<'a>(cells: impl Iterator<Item = (&'a str, usize)>) -> String {
    let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
    let line: Vec<String> = cells.collect();
    format!("{}\n", line.join("  ").trim_end())
}

/// A name, without control characters.
pub(super) fn plain(name: &str) -> String {
    text(&Value::from(name))
}

/// What one client has lost: a sentence for each reason, and what to do.
pub(super) fn losses_of(answer: &Value) -> String {
    let losses = answer["losses"].as_array().into_iter().flatten();
    let state = match (answer["connected"] == true, answer["away_for_s"].as_u64()) {
        (true, _) => "the client is connected".to_owned(),
        (false, Some(seconds)) => format!("the client is away for {}", span(&seconds.into())),
        (false, None) => "the client is away".to_owned(),
    };
    let mut shown = String::new();
    for loss in losses {
        shown += &format!(
            "{} {}, {}, the last on {}: {}{}; {state}\n  {}\n  \
             fix: {} (docs/missing-messages.md)\n",
            count(&loss["count"]),
            if loss["count"] == 1 {
                "message"
            } else {
                "messages"
            },
            period(&loss["first"], &loss["last"]),
            text(&loss["topic"]),
            text(&loss["reason"]),
            bound(&loss["bound"]),
            text(&loss["meaning"]),
            text(&loss["fix"]),
        );
    }
    match shown.is_empty() {
        true => format!("nothing was lost since this session began; {state}\n"),
        false => shown,
    }
}

/// `, queued_messages_max = 10,000`
fn bound(bound: &Value) -> String {
    match bound {
        Value::Null => String::new(),
        bound => format!(", {} = {}", text(&bound["name"]), count(&bound["max"])),
    }
}

/// `14:02:11 to 14:09:40`, with dates if they differ.
fn period(first: &Value, last: &Value) -> String {
    let (first, last) = (text(first), text(last));
    match (first.split_once('T'), last.split_once('T')) {
        (Some(_), Some(_)) if first == last => format!("at {first}"),
        (Some((day, _)), Some((other, time))) if day == other => format!("{first} to {time}"),
        _ => format!("{first} to {last}"),
    }
}

/// The last cases, the newest first.
pub(super) fn losses(answer: &Value) -> String {
    let mut shown = String::new();
    for (index, loss) in answer["losses"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        if index == 0 {
            shown +=
                "LAST                     COUNT  REASON            CLIENT                TOPIC\n";
        }
        shown += &format!(
            "{:<20}  {:>8}  {:<16}  {:<20}  {}\n",
            text(&loss["at"]),
            count(&loss["count"]),
            text(&loss["reason"]),
            text(&loss["client_id"]),
            text(&loss["topic"]),
        );
    }
    if shown.is_empty() {
        shown += "nothing was lost that is still remembered\n";
    }
    shown + &missing(answer)
}

/// Who gets a message.
pub(super) fn explain(answer: &Value) -> String {
    let mut shown = String::new();
    if let Value::Object(publisher) = &answer["publisher"] {
        let client = text(&publisher["client_id"]);
        shown += &format!("{client} publishes: {}\n", text(&publisher["why"]));
    }
    let mut all = 0;
    for subscriber in answer["subscribers"].as_array().into_iter().flatten() {
        all += 1;
        let verdict = if subscriber["gets"] == true {
            "gets"
        } else {
            "NO  "
        };
        shown += &format!(
            "{verdict}  {:<24}  qos {}  {}  ({})\n",
            text(&subscriber["client_id"]),
            text(&subscriber["qos"]),
            text(&subscriber["why"]),
            cell("filters", &subscriber["filters"]),
        );
    }
    let topic = text(&answer["topic"]);
    shown += &match all {
        0 => format!("nobody has a subscription that matches {topic}\n"),
        _ => format!(
            "{} of {all} would get a message of QoS {} on {topic}\n",
            answer["would_get"], answer["qos"]
        ),
    };
    if answer["publisher"]["may_publish"] == false {
        shown += "none of them, since the publisher may not publish it\n";
    }
    if answer["has_more"] == true {
        shown += "there are more subscribers: --limit shows them\n";
    }
    shown + &missing(answer)
}

/// A retained message.
pub(super) fn retained(answer: &Value) -> String {
    let payload = match &answer["payload"] {
        Value::Null => format!("base64 {}", text(&answer["payload_base64"])),
        payload => text(payload),
    };
    pairs(&[
        ("topic", text(&answer["topic"])),
        ("qos", text(&answer["qos"])),
        ("bytes", count(&answer["payload_bytes"])),
        (
            "expires",
            match &answer["expires_in_s"] {
                Value::Null => "never".to_owned(),
                seconds => format!("in {}", span(seconds)),
            },
        ),
        ("publisher", text(&answer["publisher"])),
        ("payload", payload),
    ])
}

/// How far a drain is.
pub(super) fn drain(answer: &Value) -> String {
    if answer["draining"] == false {
        return match answer.get("left") {
            Some(left) => format!("cancelled; {} clients had left\n", count(left)),
            None => "not draining\n".to_owned(),
        };
    }
    let n = |key: &str| count(&answer[key]);
    match answer["phase"].as_str() {
        Some("waiting") => format!(
            "not ready; no connection is accepted from {} s on, {} s have passed\n",
            n("wait"),
            n("for_s")
        ),
        Some("leaving") => format!(
            "leaving: {} of {} clients so far, over {} s\n",
            n("left"),
            n("clients"),
            n("over")
        ),
        _ => format!(
            "drained: {} clients have left; no connection is accepted\n",
            n("left")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_loss_is_a_sentence_with_a_fix() {
        let shown = losses_of(&json!({
            "connected": false, "away_for_s": 420,
            "losses": [{
                "reason": "queue_full", "count": 9912, "topic": "site/4/power",
                "first": "2026-11-30T14:02:11Z", "last": "2026-11-30T14:09:40Z",
                "bound": {"name": "queued_messages_max", "max": 10000},
                "meaning": "the queue of the client is full", "fix": "raise the bound",
            }],
        }));
        let expected = "9,912 messages, 2026-11-30T14:02:11Z to 14:09:40Z, \
            the last on site/4/power: queue_full, queued_messages_max = 10,000; \
            the client is away for 7 m 0 s\n  the queue of the client is full\n  \
            fix: raise the bound (docs/missing-messages.md)\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_table_has_titles_once_and_says_what_is_missing() {
        let mut table = Table::of(&RETAINED);
        let row = json!({"topic": "a\nb", "qos": 1, "payload_bytes": 1234, "expires_in_s": 90});
        let first = table.next(&row);
        assert!(first.starts_with("QOS  BYTES"), "{first}");
        assert!(
            first.ends_with("1    1,234      90s      a\\nb\n"),
            "{first}"
        );
        assert!(!table.next(&row).contains("QOS"));
        let end = table.next(&json!({"cursor": null, "missing_shards": [1]}));
        assert_eq!(end, "shard 1 does not answer: what it has is missing\n");
        let none = Table::of(&RETAINED).end(&json!({"cursor": null}));
        assert_eq!(none, "no retained messages\n");
    }

    #[test]
    fn who_gets_a_message_is_counted() {
        let shown = explain(&json!({
            "topic": "t", "qos": 1, "would_get": 1, "has_more": false, "missing_shards": [],
            "publisher": {
                "client_id": "p", "may_publish": false, "why": "no access rule allows it",
            },
            "subscribers": [
                {
                    "client_id": "a", "gets": true, "qos": 1, "why": "goes out at once",
                    "filters": ["t", "#"],
                },
                {
                    "client_id": "b", "gets": false, "qos": 0, "why": "not connected",
                    "filters": ["t"],
                },
            ],
        }));
        for part in [
            "p publishes: no access rule allows it\n",
            "goes out at once  (t #)\n",
            "1 of 2 would get a message of QoS 1 on t\n",
            "none of them",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
