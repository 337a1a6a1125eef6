//! The topics on which clients publish most.
//!
//! Each shard counts what its own clients publish, and lists those with the most; here they are added up. The
//! answer says by how much a count may be too low.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, TopicOrder, TopicPage, TopicQuery, Traffic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Control;
use super::problem::Problem;
use super::routes::{begin_listing, read_limit, wrong_query};

/// Which topics.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicsQuery {
    #[serde(default)]
    by: By,
    limit: Option<usize>,
}

/// By what topics are ordered, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum By {
    #[default]
    Messages,
    Bytes,
}

impl From<By> for TopicOrder {
    fn from(by: By) -> TopicOrder {
        match by {
            By::Messages => TopicOrder::Messages,
            By::Bytes => TopicOrder::Bytes,
        }
    }
}

/// A topic, all shards together.
#[derive(Debug, Serialize)]
struct TopicView {
    topic: String,
    messages: u64,
    bytes: u64,
    messages_per_s: f64,
    bytes_per_s: f64,
}

/// `GET /topics/top`.
pub(super) async fn top(
    State(control): State<Arc<Control>>,
    query: Result<Query<TopicsQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| wrong_query(&error, "by and limit"))?;
    let limit = read_limit(query.limit, (LIMIT, LIMIT_MAX))?;
    let leave = begin_listing(&control)?;
    let mut sum = Sum::default();
    let mut missing = Vec::new();
    for shard in 0..control.asker.shards() {
        let gathered = sum.gather(&control, &leave, shard, query.by.into(), limit);
        if gathered.await.is_none() {
            missing.push(shard);
        }
    }
    let uptime = control.facts.started_at.elapsed().unwrap_or_default();
    let span = sum.span.min(uptime).max(Duration::from_secs(1));
    let views = sum.views(query.by.into(), limit, span);
    Ok(Json(json!({
        "by": query.by,
        "topics": views,
        "span_s": span.as_secs_f64().round(),
        "error": sum.error,
        "missing_shards": missing,
    })))
}

/// What the shards have said so far.
#[derive(Debug, Default)]
struct Sum {
    topics: HashMap<u64, (Box<[u8]>, Traffic)>,
    /// By how much a topic may have been counted too little.
    error: u64,
    span: Duration,
}

impl Sum {
    /// Adds what a shard has counted; `None`: it does not answer, or no longer.
    async fn gather(
        &mut self,
        control: &Control,
        leave: &OwnedSemaphorePermit,
        shard: usize,
        by: TopicOrder,
        limit: usize,
    ) -> Option<()> {
        let mut next = Some(0);
        let mut errors = Errors::default();
        while let Some(from) = next {
            let ask = Ask::Topics(TopicQuery {
                from,
                // What is first on one shard may be far behind on another.
                rows_max: (4 * limit).max(ROWS_MIN),
                by,
            });
            let shard = ShardId::new(shard);
            let Some(Answer::Topics(page)) = control.asker.ask_page(leave, shard, ask).await else {
                return None;
            };
            next = page.next;
            errors.note(from, page.error);
            self.add(page);
        }
        self.error += errors.total();
        Some(())
    }

    fn add(&mut self, page: TopicPage) {
        self.span = self.span.max(page.span);
        for row in page.rows {
            let entry = self.topics.entry(row.key);
            let (_, traffic) = entry.or_insert_with(|| (row.topic, Traffic::default()));
            traffic.add(row.traffic);
        }
    }

    fn views(&mut self, by: TopicOrder, limit: usize, span: Duration) -> Vec<TopicView> {
        let mut topics: Vec<(Box<[u8]>, Traffic)> =
            std::mem::take(&mut self.topics).into_values().collect();
        // Those that were counted only before this span.
        topics.retain(|(_, traffic)| traffic.messages > 0);
        topics.sort_by(|(one, first), (other, second)| {
            let by_traffic = by.of(*second).cmp(&by.of(*first));
            by_traffic.then_with(|| one.cmp(other))
        });
        let rate = |count: u64| (count as f64 / span.as_secs_f64() * 10.0).round() / 10.0;
        let view = |(topic, traffic): (Box<[u8]>, Traffic)| TopicView {
            topic: String::from_utf8_lossy(&topic).into_owned(),
            messages: traffic.messages,
            bytes: traffic.bytes,
            messages_per_s: rate(traffic.messages),
            bytes_per_s: rate(traffic.bytes),
        };
        topics.into_iter().take(limit).map(view).collect()
    }
}

/// How much may be missing of a topic on one shard, where it stands in the summary and in one part of the
/// cache.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    summary: u64,
    cache: u64,
}

impl Errors {
    fn note(&mut self, part: u32, error: u64) {
        match part {
            0 => self.summary = error,
            _ => self.cache = self.cache.max(error),
        }
    }

    fn total(self) -> u64 {
        self.summary + self.cache
    }
}

/// Topics if the request does not say.
const LIMIT: usize = 20;
/// Most topics of an answer.
const LIMIT_MAX: usize = 1000;
/// Fewer rows of a shard make the error large.
const ROWS_MIN: usize = 100;

#[cfg(test)]
mod tests {
    use ringmq_core::shard::TopicRow;

    use super::*;

    fn page(rows: &[(u64, &str, u64)]) -> TopicPage {
        let row = |(key, topic, messages): &(u64, &str, u64)| TopicRow {
            key: *key,
            topic: topic.as_bytes().into(),
            traffic: Traffic {
                messages: *messages,
                bytes: 100_u64.checked_div(*messages).unwrap_or(0),
            },
        };
        TopicPage {
            rows: rows.iter().map(row).collect(),
            ..TopicPage::default()
        }
    }

    #[test]
    fn what_several_shards_count_of_a_topic_adds_up() {
        let mut sum = Sum::default();
        sum.add(page(&[(1, "a", 3), (2, "b", 4)]));
        sum.add(page(&[(1, "a", 2), (4, "d", 0)]));
        let views = sum.views(TopicOrder::Messages, 3, Duration::from_secs(10));
        let shown: Vec<_> = views
            .iter()
            .map(|view| (&*view.topic, view.messages, view.messages_per_s))
            .collect();
        assert_eq!(shown, [("a", 5, 0.5), ("b", 4, 0.4)]);
        let mut errors = Errors::default();
        for (part, error) in [(0, 5), (1, 2), (2, 7), (3, 1)] {
            errors.note(part, error);
        }
        assert_eq!(errors.total(), 12);
    }
}
