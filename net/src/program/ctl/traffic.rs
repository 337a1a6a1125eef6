//! The verbs about what goes through the broker: the busiest topics.

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::objects::Console;
use super::show::{count, missing, text};
use super::{Failure, query};

#[derive(Debug, Subcommand)]
pub(super) enum Topics {
    /// The topics on which clients publish most, in the last one to two minutes
    Top {
        /// Of what
        #[arg(long, value_name = "BY", default_value = "messages")]
        by: TopicsBy,
        /// At most so many: 20 unless given
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
}

/// By what topics are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TopicsBy {
    /// Messages
    Messages,
    /// Bytes of payload
    Bytes,
}

impl TopicsBy {
    fn name(self) -> &'static str {
        match self {
            TopicsBy::Messages => "messages",
            TopicsBy::Bytes => "bytes",
        }
    }
}

impl Console<'_> {
    /// `topics`.
    pub(super) fn topics(&mut self, verb: &Topics) -> Result<(), Failure> {
        let Topics::Top { by, limit } = verb;
        let path = "/api/v1/topics/top".to_owned()
            + &query([
                ("by", Some(by.name().to_owned())),
                ("limit", limit.map(|limit| limit.to_string())),
            ]);
        let answer = self.server.get(&path)?;
        self.say(&answer, topics)
    }
}

/// The busiest topics, and how exact that is.
fn topics(answer: &Value) -> String {
    let rows = answer["topics"].as_array().into_iter().flatten();
    let mut shown = String::new();
    for (index, topic) in rows.enumerate() {
        if index == 0 {
            shown += "    MESSAGES    PER S           BYTES       PER S  TOPIC\n";
        }
        shown += &format!(
            "{:>12}  {:>7}  {:>14}  {:>10}  {}\n",
            count(&topic["messages"]),
            rate(&topic["messages_per_s"]),
            count(&topic["bytes"]),
            rate(&topic["bytes_per_s"]),
            text(&topic["topic"]),
        );
    }
    let span = answer["span_s"].as_f64().unwrap_or_default();
    let exactness = match answer["error"].as_u64() {
        Some(0) | None => "counts are exact".to_owned(),
        Some(_) => {
            let error = count(&answer["error"]);
            format!(
                "a count may be too low by up to {error} {}",
                text(&answer["by"])
            )
        }
    };
    shown += &match shown.is_empty() {
        true => format!("nothing was published in the last {span:.0} s\n"),
        false => format!("of the last {span:.0} s; {exactness}\n"),
    };
    shown + &missing(answer)
}

/// With a decimal if it is small.
fn rate(value: &Value) -> String {
    let rate = value.as_f64().unwrap_or_default();
    match rate < 10.0 {
        true => format!("{rate:.1}"),
        false => count(&(rate.round() as u64).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn topics_are_shown_with_their_rates_and_the_error() {
        let shown = topics(&json!({
            "by": "messages", "span_s": 83.0, "error": 12, "missing_shards": [],
            "topics": [{
                "topic": "site/4\u{202e}", "messages": 1234567, "bytes": 9, "messages_per_s": 14874.3,
                "bytes_per_s": 0.1,
            }],
        }));
        for part in [
            "1,234,567   14,874               9         0.1  site/4\\u{202e}\n",
            "of the last 83 s; a count may be too low by up to 12 messages\n",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        let none = topics(&json!({"topics": [], "span_s": 60.0, "error": 0}));
        assert_eq!(none, "nothing was published in the last 60 s\n");
    }
}
