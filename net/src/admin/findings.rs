//! What is shown of losses, subscribers, queues and retained messages, as JSON.

use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringmq_core::loss::{Bound, Cut};
use ringmq_core::session::Standing;
use ringmq_core::shard::{
    Fate, LossRow, QueuedRow, RetainedRow, SubscriberRow, SubscriptionRow, TallyRow,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::clock;
use super::losses::{fix_of, meaning_of};

/// A reason, and how often it occurred to one client.
#[derive(Debug, Serialize)]
pub(super) struct TallyView {
    reason: &'static str,
    count: u64,
    first: String,
    last: String,
    topic: String,
    bound: Option<BoundView>,
    meaning: &'static str,
    fix: &'static str,
}

impl TallyView {
    pub(super) fn of(row: &TallyRow) -> TallyView {
        TallyView {
            reason: row.loss.name(),
            count: row.count,
            first: clock::ago(row.first_ago),
            last: clock::ago(row.last_ago),
            topic: text(&row.topic),
            bound: row.bound.map(BoundView::of),
            meaning: meaning_of(row.loss),
            fix: fix_of(row.loss),
        }
    }
}

/// A case.
#[derive(Debug, Serialize)]
pub(super) struct LossView {
    shard: usize,
    at: String,
    client_id: Option<String>,
    topic: String,
    reason: &'static str,
    count: u64,
    bound: Option<BoundView>,
}

impl LossView {
    pub(super) fn of(shard: usize, row: &LossRow) -> LossView {
        let client = text(&row.client);
        LossView {
            shard,
            at: clock::ago(row.ago),
            client_id: Some(client).filter(|client| !client.is_empty()),
            topic: text(&row.topic),
            reason: row.loss.name(),
            count: row.count,
            bound: row.bound.map(BoundView::of),
        }
    }
}

/// A bound that was reached.
#[derive(Debug, Serialize)]
pub(super) struct BoundView {
    name: &'static str,
    max: u64,
}

impl BoundView {
    fn of(bound: Bound) -> BoundView {
        BoundView {
            name: bound.name,
            max: bound.max,
        }
    }
}

/// A subscriber of a topic or a filter.
#[derive(Debug, Serialize)]
pub(super) struct SubscriberView {
    client_id: Box<str>,
    user: Option<Box<str>>,
    connected: bool,
    shard: usize,
    filters: Vec<Box<str>>,
    /// Share name and filter of the group.
    group: Option<Box<str>>,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    ids: Vec<NonZeroU32>,
    #[serde(flatten)]
    fate: Option<FateView>,
}

impl SubscriberView {
    /// A member of a group in which another one stands better.
    pub(super) fn passed_over(mut self) -> SubscriberView {
        if let Some(fate) = &mut self.fate {
            fate.gets = false;
            fate.fate = "other_of_group";
            fate.why = format!("another member of the group gets it; {}", fate.why);
        }
        self
    }

    pub(super) fn of(shard: usize, row: SubscriberRow) -> SubscriberView {
        SubscriberView {
            client_id: row.client_id,
            user: row.user,
            connected: row.is_connected,
            shard,
            filters: row.filters,
            group: row.group,
            qos: row.qos as u8,
            no_local: row.no_local,
            retain_as_published: row.retain_as_published,
            ids: row.ids,
            fate: row.fate.as_ref().map(FateView::of),
        }
    }
}

/// What would become of a message.
#[derive(Debug, Serialize)]
struct FateView {
    /// It gets the message, at once or later; of a group, one of its members.
    gets: bool,
    fate: &'static str,
    /// In a sentence.
    why: String,
    bound: Option<BoundView>,
}

impl FateView {
    fn of(fate: &Fate) -> FateView {
        let (gets, name, why) = match fate {
            Fate::Sent => (true, "sent", "goes out at once".to_owned()),
            Fate::Waits { ahead } => {
                let why = format!("waits in the queue, behind {ahead} others");
                (true, "queued", why)
            }
            Fate::NotKept => {
                let why = "not connected, and QoS 0 does not wait";
                (false, "away", why.to_owned())
            }
            Fate::NoLocal => {
                let why = "it publishes this itself, and its subscription is No Local";
                (false, "no_local", why.to_owned())
            }
            Fate::Denied { by: Some(rule) } => {
                (false, "denied", format!("a rule denies it: {rule}"))
            }
            Fate::Denied { by: None } => (false, "denied", "no access rule allows it".to_owned()),
            Fate::Lost { reason, bound } => {
                let meaning = meaning_of((*reason).into());
                let why = match bound {
                    None => meaning.to_owned(),
                    Some(bound) => format!("{meaning}: {} = {}", bound.name, bound.max),
                };
                (false, reason.name(), why)
            }
            Fate::OneOf { members, standing } => {
                let standing = match standing {
                    Standing::Ready => "ready",
                    Standing::Online => "busy",
                    Standing::Away => "away",
                    Standing::Full => "full",
                };
                let why = format!("one of {members} members of the group; this one is {standing}");
                (true, "one_of_group", why)
            }
        };
        let bound = match fate {
            Fate::Lost { bound, .. } => bound.map(BoundView::of),
            Fate::Sent
            | Fate::Waits { .. }
            | Fate::NotKept
            | Fate::NoLocal
            | Fate::Denied { .. }
            | Fate::OneOf { .. } => None,
        };
        FateView {
            gets,
            fate: name,
            why,
            bound,
        }
    }
}

/// A subscription of one client.
#[derive(Debug, Serialize)]
pub(super) struct SubscriptionView {
    filter: Box<str>,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    id: Option<NonZeroU32>,
}

impl SubscriptionView {
    pub(super) fn of(row: SubscriptionRow) -> SubscriptionView {
        SubscriptionView {
            filter: row.filter,
            qos: row.qos as u8,
            no_local: row.no_local,
            retain_as_published: row.retain_as_published,
            id: row.id,
        }
    }
}

/// A message that waits: no payload.
#[derive(Debug, Serialize)]
pub(super) struct QueuedView {
    number: u64,
    topic: String,
    qos: u8,
    payload_bytes: usize,
    expires_in_s: Option<u64>,
}

impl QueuedView {
    pub(super) fn of(row: &QueuedRow) -> QueuedView {
        QueuedView {
            number: row.number,
            topic: String::from_utf8_lossy(row.message.topic()).into_owned(),
            qos: row.qos as u8,
            payload_bytes: row.message.parts().payload.len(),
            expires_in_s: row.expires_in.as_ref().map(Duration::as_secs),
        }
    }
}

/// A retained message.
pub(super) fn retained(row: &RetainedRow, with_payload: bool) -> Value {
    let parts = row.message.parts();
    let mut view = json!({
        "topic": String::from_utf8_lossy(parts.topic),
        "qos": parts.qos as u8,
        "payload_bytes": parts.payload.len(),
        "expires_in_s": row.expires_in.as_ref().map(Duration::as_secs),
        "publisher": parts.author.map(|author| &*author.client_id),
    });
    if with_payload {
        // One of them, so that nobody has to guess.
        match std::str::from_utf8(parts.payload) {
            Ok(text) => view["payload"] = text.into(),
            Err(_) => view["payload_base64"] = STANDARD.encode(parts.payload).into(),
        }
    }
    view
}

fn text(cut: &Cut) -> String {
    String::from_utf8_lossy(cut.as_bytes()).into_owned()
}
