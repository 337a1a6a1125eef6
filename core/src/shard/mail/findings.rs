//! What a shard answers beside its sessions: who gets what, what waits, what is retained, what was
//! lost.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::QoS;
use crate::loss::{Bound, Cut, DropReason, Loss};
use crate::message::Message;
use crate::session::Standing;
use crate::topic::TopicFilter;

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Rows<T, P> {
    /// The rows; perhaps none, although there is a next page.
    pub rows: Vec<T>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<P>,
}

impl<T, P> Default for Rows<T, P> {
    fn default() -> Rows<T, P> {
        Rows {
            rows: Vec::new(),
            next: None,
        }
    }
}

/// What a client has lost.
#[derive(Clone, Debug, Default)]
pub struct ClientLosses {
    /// By reason.
    pub tallies: Vec<TallyRow>,
    /// For so long the client has been away; `None`: it is there, or nobody knows.
    pub away_for: Option<Duration>,
    /// It is connected.
    pub is_connected: bool,
}

/// What a client has lost for one reason.
#[derive(Clone, Debug)]
pub struct TallyRow {
    /// The reason.
    pub loss: Loss,
    /// How many.
    pub count: u64,
    /// So long ago the first was.
    pub first_ago: Duration,
    /// So long ago the last was.
    pub last_ago: Duration,
    /// The topic or filter of the last.
    pub topic: Cut,
    /// The bound that the last reached.
    pub bound: Option<Bound>,
}

/// Which subscribers a page is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberQuery {
    /// Whose.
    pub of: Whose,
    /// Where to begin; the default, or what the page before says.
    pub from: MatchPlace,
    /// At most that many rows; at least one.
    pub rows_max: usize,
    /// To say what would become of such a message.
    pub message: Option<MessageTerms>,
}

/// Whose subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those who would get a message on this topic.
    Topic(Box<str>),
    /// Those who have subscribed with this filter.
    Filter(TopicFilter),
}

/// A place among subscribers: which filter or group, which of its subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MatchPlace {
    /// Filters first, then groups.
    pub source: u32,
    /// 0-based.
    pub at: u32,
}

/// A message that is only talked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTerms {
    /// Who would publish it.
    pub publisher: Option<Box<str>>,
    /// With this QoS.
    pub qos: QoS,
    /// Bytes of its payload.
    pub payload_size: u32,
}

/// A subscriber.
#[derive(Clone, Debug)]
pub struct SubscriberRow {
    /// Where it is: where a page that begins with it begins.
    pub place: MatchPlace,
    /// Who.
    pub client_id: Box<str>,
    /// Who that is.
    pub user: Option<Box<str>>,
    /// It is connected.
    pub is_connected: bool,
    /// Its filters that match. May be short of some, if the client has very many.
    pub filters: Vec<Box<str>>,
    /// The group that it is in, by share name and filter.
    pub group: Option<Box<str>>,
    /// Granted maximum QoS; with a message, the QoS that it is sent with.
    pub qos: QoS,
    /// It does not get what it publishes itself.
    pub no_local: bool,
    /// It gets the RETAIN flag of the PUBLISH.
    pub retain_as_published: bool,
    /// Identifiers of the subscriptions.
    pub ids: Vec<NonZeroU32>,
    /// What would become of the message, if there is one.
    pub fate: Option<Fate>,
}

/// What would become of a message for a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes out at once.
    Sent,
    /// It waits in the queue.
    Waits {
        /// Messages that wait already.
        ahead: usize,
    },
    /// The client is away, and QoS 0 does not wait.
    NotKept,
    /// The client publishes it, and its subscriptions are No Local.
    NoLocal,
    /// The rules deny it.
    Denied {
        /// The rule; `None`: no rule allows it.
        by: Option<Box<str>>,
    },
    /// It would be dropped.
    Lost {
        /// Why.
        reason: DropReason,
        /// The bound that is reached.
        bound: Option<Bound>,
    },
    /// One member of the group gets it.
    OneOf {
        /// Members of the group, on all shards.
        members: usize,
        /// How well this one can take a message.
        standing: Standing,
    },
}

impl Fate {
    /// The subscriber gets the message, at once or later.
    pub fn is_got(&self) -> bool {
        match self {
            Fate::Sent | Fate::Waits { .. } | Fate::OneOf { .. } => true,
            Fate::NotKept | Fate::NoLocal | Fate::Denied { .. } | Fate::Lost { .. } => false,
        }
    }
}

/// Whether a client may publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// It has no session: what it may do is not known.
    Unknown,
    /// It may.
    Allowed,
    /// Only the broker publishes there.
    Reserved,
    /// The rules deny it.
    Denied {
        /// The rule; `None`: no rule allows it.
        by: Option<Box<str>>,
    },
}

/// A page about one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientQuery {
    /// Which client.
    pub client_id: Box<str>,
    /// Where to begin; 0, or what the page before says.
    pub from: u64,
    /// At most that many rows; at least one.
    pub rows_max: usize,
}

/// A subscription of a client.
#[derive(Clone, Debug)]
pub struct SubscriptionRow {
    /// The filter, with the share name if it is a shared one.
    pub filter: Box<str>,
    /// Granted maximum QoS.
    pub qos: QoS,
    /// The client does not get what it publishes itself.
    pub no_local: bool,
    /// It gets the RETAIN flag of the PUBLISH.
    pub retain_as_published: bool,
    /// Subscription Identifier.
    pub id: Option<NonZeroU32>,
}

/// A message that waits for a client.
#[derive(Clone, Debug)]
pub struct QueuedRow {
    /// Which of all that the session ever took.
    pub number: u64,
    /// The message, payload included.
    pub message: Arc<Message>,
    /// With this QoS.
    pub qos: QoS,
    /// It expires so much later.
    pub expires_in: Option<Duration>,
}

/// Which retained messages a page is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainedQuery {
    /// The first place to look at; 0, or what the page before says.
    pub from: u32,
    /// At most that many rows; at least one.
    pub rows_max: usize,
    /// Only on topics that this matches; `None`: all but those that begin with a dollar sign.
    pub filter: Option<TopicFilter>,
}

/// A retained message.
#[derive(Clone, Debug)]
pub struct RetainedRow {
    /// Where it is: where a page that begins with it begins.
    pub place: u32,
    /// The message, payload included.
    pub message: Arc<Message>,
    /// It expires so much later.
    pub expires_in: Option<Duration>,
}

/// Which topics a page is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicQuery {
    /// Where to begin; 0, or what the page before says.
    pub from: u32,
    /// At most that many rows; at least one. Bounded by [`TopicPage::ROWS_MAX`].
    pub rows_max: usize,
    /// Those with the most of this.
    pub by: TopicOrder,
}

/// By what topics are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicOrder {
    /// Messages.
    Messages,
    /// Bytes of payload.
    Bytes,
}

/// Topics on which clients of the shard have published of late, those with the most first.
///
/// A topic may stand on two pages: its counts add up.
#[derive(Clone, Debug, Default)]
pub struct TopicPage {
    /// The topics.
    pub rows: Vec<TopicRow>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<u32>,
    /// By how much a topic of this part, listed or not, may have been counted too little.
    pub error: u64,
    /// Since so long ago is counted.
    pub span: Duration,
}

impl TopicPage {
    /// Most rows of a page.
    pub const ROWS_MAX: usize = 256;
}

/// A topic on which clients publish.
#[derive(Clone, Debug)]
pub struct TopicRow {
    /// Its keyed hash, the same on all shards.
    pub key: u64,
    /// The topic, cut at [`TOPIC_SIZE_MAX`](crate::shard::TOPIC_SIZE_MAX) bytes.
    pub topic: Box<[u8]>,
    /// What was published on it.
    pub traffic: Traffic,
}

/// What was published on a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages of clients.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl Traffic {
    /// Adds both.
    pub fn add(&mut self, more: Traffic) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    /// There is none.
    pub fn is_none(self) -> bool {
        self == Traffic::default()
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Traffic) -> Traffic {
        Traffic {
            messages: self.messages.max(other.messages),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// Have clients leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveOrder {
    /// The first slot to look at; 0, or what the answer before says.
    pub from: u32,
    /// Only clients that have sent nothing for so long.
    pub idle_min: Duration,
    /// At most so many.
    pub count_max: u32,
    /// The server that clients are to use.
    pub redirect: Option<Box<str>>,
}

/// How many have been dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dealt {
    /// How many.
    pub count: u32,
    /// Where to go on; `None`: this was the end.
    pub next: Option<u32>,
}
