//! Who gets a message on a topic, and who would not, and why.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use ringmq_core::codec::QoS;
use ringmq_core::ids::ShardId;
use ringmq_core::limits::Limits;
use ringmq_core::session::Standing;
use ringmq_core::shard::{
    Answer, Ask, Fate, MatchPlace, MessageTerms, Publishing, SubscriberQuery, SubscriberRow, Whose,
};
use ringmq_core::topic::{TopicLimits, TopicName};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Control;
use super::findings::SubscriberView;
use super::problem::Problem;
use super::routes::{begin_listing, no_answer, read_limit, read_topic, wrong_query};

/// Which message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    topic: String,
    /// Who would publish it.
    from: Option<Box<str>>,
    qos: Option<u8>,
    /// Bytes of its payload.
    size: Option<u32>,
    limit: Option<usize>,
}

/// `GET /explain`.
pub(super) async fn explain(
    State(control): State<Arc<Control>>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) =
        query.map_err(|error| wrong_query(&error, "topic, from, qos, size and limit"))?;
    let topic = read_topic(&query.topic)?;
    let message = MessageTerms {
        publisher: query.from.clone(),
        qos: read_qos(query.qos)?,
        payload_size: query.size.unwrap_or(0),
    };
    check_limits(&topic, &message, &control.facts.limits)?;
    let publisher = match &query.from {
        Some(from) => Some(publishing(&control, from, &topic).await?),
        None => None,
    };
    let limit = read_limit(query.limit, (LIMIT, LIMIT_MAX))?;
    let leave = begin_listing(&control)?;
    let mut found: Vec<(usize, SubscriberRow)> = Vec::new();
    let (mut missing, mut has_more) = (Vec::new(), false);
    for shard in 0..control.asker.shards() {
        let left = limit - found.len();
        match gather(&control, &leave, shard, (&topic, &message), left).await {
            Some((rows, more)) => {
                has_more |= more;
                found.extend(rows.into_iter().map(|row| (shard, row)));
            }
            None => missing.push(shard),
        }
    }
    let (views, getting) = judge(found);
    Ok(Json(json!({
        "topic": topic,
        "from": query.from,
        "publisher": publisher,
        "qos": message.qos as u8,
        "subscribers": views,
        // Of each group, one.
        "would_get": getting,
        "has_more": has_more,
        "missing_shards": missing,
    })))
}

/// Of a group, those who stand best are meant. Gives also how many messages would go out.
fn judge(found: Vec<(usize, SubscriberRow)>) -> (Vec<SubscriberView>, usize) {
    let standing_of = |row: &SubscriberRow| match row.fate {
        Some(Fate::OneOf { standing, .. }) => Some(standing),
        Some(_) | None => None,
    };
    let mut best: HashMap<Box<str>, Standing> = HashMap::new();
    let mut single = 0;
    for (_, row) in &found {
        match (&row.group, standing_of(row)) {
            (Some(group), Some(standing)) => {
                let best = best.entry(group.clone()).or_insert(standing);
                *best = standing.max(*best);
            }
            _ => single += usize::from(row.fate.as_ref().is_some_and(Fate::is_got)),
        }
    }
    let views = found.into_iter().map(|(shard, row)| {
        let best = row
            .group
            .as_ref()
            .and_then(|group| best.get(group))
            .copied();
        let is_passed_over = standing_of(&row).is_some_and(|standing| Some(standing) < best);
        let view = SubscriberView::of(shard, row);
        if is_passed_over {
            view.passed_over()
        } else {
            view
        }
    });
    (views.collect(), single + best.len())
}

/// Subscribers of one shard, at most so many, and whether there are more. `None`: it does not
/// answer.
async fn gather(
    control: &Control,
    leave: &OwnedSemaphorePermit,
    shard: usize,
    (topic, message): (&str, &MessageTerms),
    limit: usize,
) -> Option<(Vec<SubscriberRow>, bool)> {
    let mut rows: Vec<SubscriberRow> = Vec::new();
    let mut from = MatchPlace::default();
    loop {
        // One more tells whether there is another.
        let ask = Ask::Subscribers(SubscriberQuery {
            of: Whose::Topic(topic.into()),
            from,
            rows_max: limit - rows.len() + 1,
            message: Some(message.clone()),
        });
        let answer = control
            .asker
            .ask_page(leave, ShardId::new(shard), ask)
            .await;
        let Some(Answer::Subscribers(page)) = answer else {
            return None;
        };
        rows.extend(page.rows);
        if rows.len() > limit {
            rows.truncate(limit);
            return Some((rows, true));
        }
        match page.next {
            Some(next) => from = next,
            None => return Some((rows, false)),
        }
    }
}

/// What the publisher is told.
async fn publishing(control: &Control, client: &str, topic: &str) -> Result<Value, Problem> {
    let ask = Ask::MayPublish {
        client_id: client.into(),
        topic: topic.into(),
    };
    let shard = control.asker.home_of(client);
    let Some(Answer::MayPublish(publishing)) = control.asker.ask_one(shard, ask).await else {
        return Err(no_answer(shard.index()));
    };
    let (may, why) = match publishing {
        Publishing::Unknown => (
            None,
            "it has no session: what it may publish is not known".to_owned(),
        ),
        Publishing::Allowed => (Some(true), "it may publish there".to_owned()),
        Publishing::Reserved => (Some(false), "only the broker publishes there".to_owned()),
        Publishing::Denied { by: Some(rule) } => (Some(false), format!("a rule denies it: {rule}")),
        Publishing::Denied { by: None } => (Some(false), "no access rule allows it".to_owned()),
    };
    Ok(json!({"client_id": client, "may_publish": may, "why": why}))
}

/// What no client can publish is not explained.
fn check_limits(topic: &str, message: &MessageTerms, limits: &Limits) -> Result<(), Problem> {
    let refused =
        |what: String, fix: &str| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what, fix));
    if let Err(error) = TopicName::parse(topic.as_bytes(), &TopicLimits::of(limits)) {
        let (size, levels) = (limits.topic_size_max, limits.topic_levels_max);
        let what = format!(
            "no client can publish on this topic: {error} (topic_size_max = {size}, topic_levels_max = {levels})"
        );
        return refused(what, "use a shorter one, or raise these");
    }
    if message.qos > limits.qos_max {
        let (qos, max) = (message.qos as u8, limits.qos_max as u8);
        let what =
            format!("a client that publishes with QoS {qos} is disconnected: qos_max = {max}");
        return refused(what, "publish with a lower QoS, or raise qos_max");
    }
    let size = topic.len() as u64 + u64::from(message.payload_size);
    if size > u64::from(limits.packet_size_max) {
        let max = limits.packet_size_max;
        let what =
            format!("a client that publishes so much is disconnected: packet_size_max = {max}");
        return refused(what, "publish less at once, or raise packet_size_max");
    }
    Ok(())
}

fn read_qos(qos: Option<u8>) -> Result<QoS, Problem> {
    match qos {
        None | Some(0) => Ok(QoS::AtMostOnce),
        Some(1) => Ok(QoS::AtLeastOnce),
        Some(2) => Ok(QoS::ExactlyOnce),
        Some(other) => {
            let what = format!("{other} is not a QoS");
            Err(Problem::new(StatusCode::BAD_REQUEST, what, "use 0, 1 or 2"))
        }
    }
}

/// Subscribers if the request does not say.
const LIMIT: usize = 1000;
/// Most subscribers of an answer.
const LIMIT_MAX: usize = 10_000;
