//! What one client has, and retained messages: to look at, and to delete one by one.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use ringmq_core::shard::{Answer, Ask, ClientQuery};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::Control;
use super::findings::{self, QueuedView, SubscriptionView};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::{no_answer, no_such_client, read_id, read_limit, wrong_query};

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
    let limit = read_limit(query.limit, (LIMIT, LIMIT_MAX))?;
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
pub(super) fn refuse_own(topic: &str) -> Result<(), Problem> {
    if !topic.starts_with("$SYS") {
        return Ok(());
    }
    let what = "messages on $SYS are the broker's own";
    let fix = "`sys_interval` = 0 turns them off";
    Err(Problem::new(StatusCode::FORBIDDEN, what, fix))
}

/// Rows if the request does not say.
const LIMIT: usize = 100;
/// Most rows of an answer.
const LIMIT_MAX: usize = 10_000;
