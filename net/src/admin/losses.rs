//! What was lost: by client, and the last cases of all shards.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ringmq_core::loss::{DropReason, Loss};
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::{Answer, Ask, LossQuery, LossRow};
use ringmq_core::topic::TopicFilter;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Control;
use super::findings::{LossView, TallyView};
use super::problem::Problem;
use super::routes::{
    begin_listing, no_answer, no_such_client, read_filter, read_id, read_limit, wrong_query,
};

/// Which cases a request asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LossesQuery {
    client: Option<Box<str>>,
    /// A topic, or a filter that matches topics.
    topic: Option<String>,
    reason: Option<Box<str>>,
    /// Seconds back.
    since: Option<u64>,
    limit: Option<usize>,
}

/// `GET /losses`: the newest cases of all shards, in the order of time.
pub(super) async fn losses(
    State(control): State<Arc<Control>>,
    query: Result<Query<LossesQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) =
        query.map_err(|error| wrong_query(&error, "client, topic, reason, since and limit"))?;
    if let Some(reason) = query.reason.as_deref()
        && !Loss::is_reason(reason)
    {
        let fix = "docs/missing-messages.md lists the reasons";
        let what = format!("{reason:?} is not a reason");
        return Err(Problem::new(StatusCode::BAD_REQUEST, what, fix));
    }
    let filter = query.topic.as_deref().map(read_filter).transpose()?;
    let limit = read_limit(query.limit, (LIMIT, LIMIT_MAX))?;
    let leave = begin_listing(&control)?;
    let mut found: Vec<(usize, LossRow)> = Vec::new();
    let mut missing = Vec::new();
    for shard in 0..control.asker.shards() {
        let gathered = gather(&control, &leave, shard, (&query, &filter), limit).await;
        match gathered {
            Some(rows) => found.extend(rows.into_iter().map(|row| (shard, row))),
            None => missing.push(shard),
        }
    }
    found.sort_by_key(|(_, row)| row.ago);
    found.truncate(limit);
    let views: Vec<LossView> = found
        .iter()
        .map(|(shard, row)| LossView::of(*shard, row))
        .collect();
    Ok(Json(json!({"losses": views, "missing_shards": missing})))
}

/// The newest cases of one shard.
async fn gather(
    control: &Control,
    leave: &OwnedSemaphorePermit,
    shard: usize,
    (query, filter): (&LossesQuery, &Option<TopicFilter>),
    limit: usize,
) -> Option<Vec<LossRow>> {
    let mut rows = Vec::new();
    let mut before = None;
    loop {
        let ask = Ask::Losses(LossQuery {
            before,
            rows_max: limit - rows.len(),
            client_id: query.client.clone(),
            filter: filter.clone(),
            reason: query.reason.clone(),
            age_max: query.since.map(Duration::from_secs),
        });
        let shard = ringmq_core::ids::ShardId::new(shard);
        let Some(Answer::Losses(page)) = control.asker.ask_page(leave, shard, ask).await else {
            return None;
        };
        rows.extend(page.rows);
        before = page.next.filter(|_| rows.len() < limit);
        if before.is_none() {
            return Some(rows);
        }
    }
}

/// `GET /clients/ID/losses`.
pub(super) async fn losses_of(
    State(control): State<Arc<Control>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let client = read_id(id)?;
    let ask = Ask::LossesOf {
        client_id: client.as_str().into(),
    };
    let shard = control.asker.home_of(&client);
    let Some(Answer::LossesOf(found)) = control.asker.ask_one(shard, ask).await else {
        return Err(no_answer(shard.index()));
    };
    let found = found.ok_or_else(|| no_such_client(&client))?;
    let views: Vec<TallyView> = found.tallies.iter().map(TallyView::of).collect();
    Ok(Json(json!({
        "client_id": client,
        "connected": found.is_connected,
        "away_for_s": found.away_for.map(|span| span.as_secs()),
        "losses": views,
    })))
}

/// What it means, in a few words.
pub(super) fn meaning_of(loss: Loss) -> &'static str {
    match loss {
        Loss::Refused(refusal) => refusal.text(),
        Loss::Dropped(reason) => match reason {
            DropReason::SlowSocket => "QoS 0, and the client takes its bytes too slowly",
            DropReason::QueueFull => "the queue of the client is full",
            DropReason::PacketTooLarge => "larger than the client takes",
            DropReason::Expired => "the message expired before it could be sent",
            DropReason::RetainedFull => "delivered, but not retained: the limit is reached",
            DropReason::NoMember => "no member of the shared subscription could take it",
            DropReason::ShardFull => "all queues of the shard together are full",
            DropReason::Denied => "the access rules changed while it waited, and deny it",
        },
    }
}

/// What to do about it.
pub(super) fn fix_of(loss: Loss) -> &'static str {
    match loss {
        Loss::Dropped(reason) => match reason {
            DropReason::SlowSocket => {
                "publish with QoS 1, send less, or raise unsent_bytes_max; see its network"
            }
            DropReason::QueueFull => {
                "raise the bound, let messages expire, or end its session sooner"
            }
            DropReason::PacketTooLarge => {
                "publish smaller messages, or raise Maximum Packet Size in the client's CONNECT"
            }
            DropReason::Expired => {
                "raise the Message Expiry Interval, or see why the client is away or slow"
            }
            DropReason::RetainedFull => {
                "raise retained_messages_max or retained_bytes_max, or delete what nobody needs"
            }
            DropReason::NoMember => "keep a member connected, or set shared.queued_while_away",
            DropReason::ShardFull => {
                "raise total_queued_messages_max or total_queued_bytes_max, or end the sessions \
                 of clients that never come back"
            }
            DropReason::Denied => "allow the client the topic in the access rules",
        },
        Loss::Refused(refusal) => {
            let found = REFUSED.iter().find(|(known, _)| *known == refusal);
            found.map_or("docs/missing-messages.md says more", |(_, fix)| fix)
        }
    }
}

/// Refusals that are about a topic or a filter, and what to do about them.
pub(super) const REFUSED: &[(Refusal, &str)] = &[
    (
        Refusal::PublishDenied,
        "allow the client to publish there in the access rules",
    ),
    (
        Refusal::WillDenied,
        "allow the client to publish its will in the access rules",
    ),
    (
        Refusal::ReservedTopic,
        "publish elsewhere: topics below $SYS are the broker's",
    ),
    (
        Refusal::TopicName,
        "publish without wildcards, within topic_size_max and topic_levels_max",
    ),
    (
        Refusal::PayloadFormat,
        "send UTF-8, or do not declare the payload as such",
    ),
    (
        Refusal::RetainedFull,
        "raise retained_messages_max or retained_bytes_max, or delete what nobody needs",
    ),
    (
        Refusal::DiskFull,
        "make room on the disk of the data directory",
    ),
    (
        Refusal::SubscribeDenied,
        "allow the client to receive there in the access rules",
    ),
    (
        Refusal::TopicFilter,
        "write a topic filter, within topic_size_max and topic_levels_max",
    ),
    (
        Refusal::SubscriptionsFull,
        "raise subscriptions_max, or subscribe with wildcards",
    ),
    (
        Refusal::SharedSubscription,
        "turn shared subscriptions on (shared.available)",
    ),
    (Refusal::Wildcard, "turn wildcards on (wildcards_available)"),
];

/// Cases if the request does not say.
const LIMIT: usize = 100;
/// Most cases of an answer.
const LIMIT_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever asks why a message is missing is sent there.
    #[test]
    fn the_manual_has_every_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/missing-messages.md");
        let page = std::fs::read_to_string(path).unwrap();
        let dropped = DropReason::ALL.iter().map(|reason| reason.name());
        let refused = REFUSED
            .iter()
            .map(|(refusal, _)| format!("`refused/{}`", refusal.name()));
        for place in dropped.map(|name| format!("### `{name}`\n")).chain(refused) {
            assert!(page.contains(&place), "{place} is missing");
        }
    }
}
