//! The clients with the most of something.
//!
//! All sessions are looked at, page by page, and only the best are kept.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, SessionFilter, SessionPage, SessionQuery, SessionRow};
use serde::Deserialize;
use serde_json::json;

use super::Control;
use super::listing::{Form, Span};
use super::problem::Problem;
use super::routes::{begin_listing, read_limit};
use super::view::ClientView;

/// By what clients are ordered, the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Messages in the queue.
    Queued,
    /// Bytes that have not left.
    Unsent,
    /// Messages from the client.
    In,
    /// Messages to it.
    Out,
    /// Messages for it that were lost, on this connection.
    Dropped,
    /// Bytes in both directions.
    Bytes,
    /// Subscriptions.
    Subscriptions,
}

impl Order {
    fn of(self, row: &SessionRow) -> u64 {
        let link = row.link.as_ref();
        let counts = link.map(|link| link.counts).unwrap_or_default();
        match self {
            Order::Queued => row.queued_messages as u64,
            Order::Unsent => link.map_or(0, |link| u64::from(link.unsent_bytes)),
            Order::In => counts.received,
            Order::Out => counts.sent,
            Order::Dropped => counts.dropped,
            Order::Bytes => counts.bytes,
            Order::Subscriptions => row.subscriptions as u64,
        }
    }
}

/// Answers with those that have most.
pub(super) async fn top(
    control: &Control,
    filter: &SessionFilter,
    order: Order,
    span: &Span,
    form: Form,
) -> Result<Response, Problem> {
    if span.cursor.is_some() {
        let what = "what is sorted comes as one page";
        let fix = "leave the cursor out, and raise limit for more";
        return Err(Problem::new(StatusCode::BAD_REQUEST, what, fix));
    }
    let limit = read_limit(span.limit, (LIMIT, LIMIT_MAX))?;
    let leave = begin_listing(control)?;
    let mut best: Vec<(u64, usize, SessionRow)> = Vec::new();
    let mut missing = Vec::new();
    for shard in 0..control.asker.shards() {
        let mut next = Some(0);
        while let Some(from) = next {
            let ask = Ask::Sessions(SessionQuery {
                from,
                rows_max: SessionPage::ROWS_MAX,
                filter: filter.clone(),
            });
            let answer = control
                .asker
                .ask_page(&leave, ShardId::new(shard), ask)
                .await;
            let Some(Answer::Sessions(page)) = answer else {
                missing.push(shard);
                break;
            };
            best.extend(
                page.rows
                    .into_iter()
                    .map(|row| (order.of(&row), shard, row)),
            );
            keep_best(&mut best, limit);
            next = page.next;
        }
    }
    let clients = best
        .into_iter()
        .map(|(_, shard, row)| ClientView::of(shard, row));
    let clients: Vec<ClientView> = clients.collect();
    let end = json!({"cursor": null, "missing_shards": missing});
    Ok(match form {
        Form::Json => Json(json!({"clients": clients, "cursor": null, "missing_shards": missing}))
            .into_response(),
        Form::Lines => {
            let line = |client: &ClientView| {
                serde_json::to_string(client).expect("a view is text and numbers") + "\n"
            };
            let lines: String = clients.iter().map(line).collect();
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            (kind, format!("{lines}{end}\n")).into_response()
        }
    })
}

/// The largest first; of equal ones those that came first.
fn keep_best(best: &mut Vec<(u64, usize, SessionRow)>, count: usize) {
    best.sort_by_key(|(value, _, _)| std::cmp::Reverse(*value));
    best.truncate(count);
}

/// Clients if the request does not say.
const LIMIT: usize = 20;
/// Most clients of an answer.
const LIMIT_MAX: usize = 1000;
