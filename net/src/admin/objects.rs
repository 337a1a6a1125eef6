//! What one client has, and retained messages: to look at, and to delete.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http_body_util::channel::{Channel, Sender};
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, ClientQuery, RetainedQuery};
use ringmq_core::topic::TopicFilter;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::info;

use super::Control;
use super::findings::{self, QueuedView, SubscriptionView};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::{begin_listing, no_answer, no_such_client, read_filter, read_id, wrong_query};

type Shared = State<Arc<Control>>;

/// How much of a list about one client.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    cursor: Option<u64>,
}

/// `GET /clients/ID/subscriptions`.
pub(super) async fn subscriptions_of(
    State(control): Shared,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let client = read_id(id)?;
    let read = |answer| {
        let Answer::SubscriptionsOf(page) = answer else {
            return None;
        };
        Some(page.map(|page| {
            let views = page.rows.into_iter().map(SubscriptionView::of);
            (views.collect(), page.next)
        }))
    };
    let ask = Ask::SubscriptionsOf;
    let (views, cursor): (Vec<SubscriptionView>, _) =
        of_client(&control, &client, query, ask, read).await?;
    Ok(Json(json!({"subscriptions": views, "cursor": cursor})))
}

/// `GET /clients/ID/queue`.
pub(super) async fn queue_of(
    State(control): Shared,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let client = read_id(id)?;
    let read = |answer| {
        let Answer::QueueOf(page) = answer else {
            return None;
        };
        Some(page.map(|page| {
            let views = page.rows.iter().map(QueuedView::of);
            (views.collect(), page.next)
        }))
    };
    let (views, cursor): (Vec<QueuedView>, _) =
        of_client(&control, &client, query, Ask::QueueOf, read).await?;
    Ok(Json(json!({"queue": views, "cursor": cursor})))
}

/// Rows about one client, as many as were asked for, and where to go on. `read` gives `None` for
/// another answer, and `Some(None)` if the client has no session.
async fn of_client<T: Serialize>(
    control: &Control,
    client: &str,
    query: Result<Query<PageQuery>, QueryRejection>,
    ask: impl Fn(ClientQuery) -> Ask,
    read: impl Fn(Answer) -> Option<Option<(Vec<T>, Option<u64>)>>,
) -> Result<(Vec<T>, Option<u64>), Problem> {
    let Query(query) = query.map_err(|error| wrong_query(&error, "limit and cursor"))?;
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let shard = control.asker.home_of(client);
    let mut rows = Vec::new();
    let mut from = query.cursor.unwrap_or(0);
    loop {
        let ask = ask(ClientQuery {
            client_id: client.into(),
            from,
            rows_max: limit - rows.len(),
        });
        let answer = control.asker.ask_one(shard, ask).await;
        let Some(found) = answer.and_then(&read) else {
            return Err(no_answer(shard.index()));
        };
        let (more, next) = found.ok_or_else(|| no_such_client(client))?;
        rows.extend(more);
        match next {
            Some(next) if rows.len() < limit => from = next,
            next => return Ok((rows, next)),
        }
    }
}

/// `DELETE /sessions/ID`.
pub(super) async fn end_session(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let client = read_id(id)?;
    let ask = Ask::EndSession {
        client_id: client.as_str().into(),
    };
    let shard = control.asker.home_of(&client);
    let Some(Answer::EndSession(was_there)) = control.asker.ask_one(shard, ask).await else {
        info!(target: "ringmq::admin", caller, client, "end session: the shard does not answer");
        return Err(no_answer(shard.index()));
    };
    info!(target: "ringmq::admin", caller, client, was_there, "end session");
    match was_there {
        true => Ok(Json(json!({"deleted": client}))),
        false => Err(no_such_client(&client)),
    }
}

/// `GET /retained/TOPIC`.
pub(super) async fn retained(
    State(control): Shared,
    topic: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let topic = read_id(topic)?;
    let ask = Ask::RetainedOf {
        topic: topic.as_str().into(),
    };
    let shard = control.asker.home_of_topic(&topic);
    let Some(Answer::RetainedOf(row)) = control.asker.ask_one(shard, ask).await else {
        return Err(no_answer(shard.index()));
    };
    let row = row.ok_or_else(|| no_such_retained(&topic))?;
    Ok(Json(findings::retained(&row, true)))
}

/// `DELETE /retained/TOPIC`.
pub(super) async fn delete_retained(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    topic: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let topic = read_id(topic)?;
    refuse_own(&topic)?;
    let ask = Ask::Unretain {
        topic: topic.as_str().into(),
    };
    let shard = control.asker.home_of_topic(&topic);
    let Some(Answer::Unretain(was_there)) = control.asker.ask_one(shard, ask).await else {
        info!(target: "ringmq::admin", caller, topic, "delete retained: the shard does not answer");
        return Err(no_answer(shard.index()));
    };
    info!(target: "ringmq::admin", caller, topic, was_there, "delete retained");
    match was_there {
        true => Ok(Json(json!({"deleted": topic}))),
        false => Err(no_such_retained(&topic)),
    }
}

fn no_such_retained(topic: &str) -> Problem {
    let what = format!("no message is retained on {topic:?}");
    let fix = "GET /api/v1/retained lists all; topics are percent-encoded in paths";
    Problem::new(StatusCode::NOT_FOUND, what, fix).for_ctl("`ringmq ctl retained list` lists all")
}

/// What the broker says of itself is not deleted: it would come back with the next change only.
fn refuse_own(topic: &str) -> Result<(), Problem> {
    if !topic.starts_with("$SYS") {
        return Ok(());
    }
    let what = "messages on $SYS are the broker's own";
    let fix = "`sys_interval` = 0 turns them off";
    Err(Problem::new(StatusCode::FORBIDDEN, what, fix))
}

/// Which retained messages are to be deleted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteOrder {
    filter: String,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
    /// So many a second at most; without it, as fast as it goes.
    rate: Option<u32>,
}

/// `POST /retained/delete`: a line a second with how many, and one at the end.
pub(super) async fn delete_many(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    order: Result<Json<DeleteOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(order) = order.map_err(|error| {
        let fix = "send {\"filter\": \"a/#\"}, perhaps with dry_run and rate";
        Problem::new(error.status(), error.body_text(), fix)
    })?;
    refuse_own(&order.filter)?;
    let sweep = Sweep {
        filter: read_filter(&order.filter)?,
        leave: begin_listing(&control)?,
        rate: order.rate.unwrap_or(u32::MAX).max(1),
        is_dry: order.dry_run,
        control,
        caller,
    };
    let (sender, channel) = Channel::<Bytes, io::Error>::new(1);
    tokio::spawn(sweep.run(sender));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(channel)).into_response())
}

/// A deletion under way. It ends when its reader is gone.
struct Sweep {
    control: Arc<Control>,
    leave: OwnedSemaphorePermit,
    caller: String,
    filter: TopicFilter,
    rate: u32,
    is_dry: bool,
}

impl Sweep {
    async fn run(self, mut sender: Sender<Bytes, io::Error>) {
        let began = Instant::now();
        let (mut count, mut missing) = (0_u64, Vec::new());
        let mut told_at = began;
        for shard in 0..self.control.asker.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let Some((more, after)) = self.step(shard, from).await else {
                    missing.push(shard);
                    break;
                };
                count += more;
                next = after;
                let is_due = told_at.elapsed() >= TOLD_EVERY;
                if is_due && !tell(&mut sender, &json!({"deleted_so_far": count})).await {
                    return self.log(count, "its reader is gone");
                }
                if is_due {
                    told_at = Instant::now();
                }
                if !self.is_dry {
                    let due = Duration::from_secs_f64(count as f64 / f64::from(self.rate));
                    sleep_until(began + due).await;
                }
            }
        }
        self.log(count, "done");
        let name = if self.is_dry {
            "would_delete"
        } else {
            "deleted"
        };
        tell(
            &mut sender,
            &json!({name: count, "missing_shards": missing}),
        )
        .await;
    }

    /// A page of a shard: how many, and where to go on. `None`: it does not answer.
    async fn step(&self, shard: usize, from: u32) -> Option<(u64, Option<u32>)> {
        let query = RetainedQuery {
            from,
            // A tenth of a second of the rate.
            rows_max: (self.rate / 10).max(1) as usize,
            filter: Some(self.filter.clone()),
        };
        let shard = ShardId::new(shard);
        let asker = &self.control.asker;
        if self.is_dry {
            let answer = asker
                .ask_page(&self.leave, shard, Ask::Retained(query))
                .await;
            let Some(Answer::Retained(page)) = answer else {
                return None;
            };
            return Some((page.rows.len() as u64, page.next));
        }
        let answer = asker
            .ask_page(&self.leave, shard, Ask::UnretainPage(query))
            .await;
        let Some(Answer::UnretainPage(dealt)) = answer else {
            return None;
        };
        Some((u64::from(dealt.count), dealt.next))
    }

    fn log(&self, count: u64, outcome: &str) {
        let filter = self.filter.as_str();
        let (caller, dry_run) = (&self.caller, self.is_dry);
        info!(target: "ringmq::admin", caller, filter, dry_run, count, outcome, "delete retained");
    }
}

/// False if nobody reads.
async fn tell(sender: &mut Sender<Bytes, io::Error>, line: &Value) -> bool {
    let line = Bytes::from(format!("{line}\n"));
    matches!(
        timeout(READER_TIME_MAX, sender.send_data(line)).await,
        Ok(Ok(()))
    )
}

/// Rows if the request does not say.
const LIMIT: usize = 100;
/// Most rows of an answer.
const LIMIT_MAX: usize = 10_000;
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// A reader that takes nothing for so long is gone.
const READER_TIME_MAX: Duration = Duration::from_secs(30);
