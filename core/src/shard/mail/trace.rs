//! What a trace tells: packets of clients, and what is decided about their messages.
//!
//! Secrets are not in it: of CONNECT and AUTH nothing but that they came, of messages the payload only if
//! the trace wants it, and no properties.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::codec::{Direction, PacketKind, QoS, ReasonCode, Version};
use crate::ids::PacketId;
use crate::loss::Bound;
use crate::loss::Loss;
use crate::refusal::Refusal;
use crate::stages::Stage;
use crate::topic::TopicFilter;
use crate::trace_set::TraceSet;

/// What to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOrder {
    /// Which of the traces; below [`TraceSet::TRACES_MAX`].
    pub index: u8,
    /// What is of interest.
    pub of: TraceOf,
    /// Bytes of each payload, from its beginning; bounded by [`TraceOrder::PAYLOAD_SIZE_MAX`].
    pub payload_max: usize,
    /// How long things took is of interest too.
    pub has_stages: bool,
}

impl TraceOrder {
    /// Most bytes of a payload in an event.
    pub const PAYLOAD_SIZE_MAX: usize = 1024;
}

/// Of what a trace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceOf {
    /// A client, whether it is there or not.
    Client(Box<str>),
    /// Messages on topics that this matches.
    Topic(TopicFilter),
    /// Clients of an address.
    Address(IpAddr),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct TraceEvent {
    /// So long ago.
    pub ago: Duration,
    /// Which traces it belongs to.
    pub traces: TraceSet,
    /// To which client; empty: it is not known, or nobody in particular.
    pub client_id: Box<str>,
    /// Where the client is; `None`: it is away, or at a Unix socket.
    pub peer: Option<SocketAddr>,
    /// What.
    pub what: Traced,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Traced {
    /// A CONNECT took effect.
    Connected {
        /// What the client speaks.
        version: Version,
        /// It wants a new session.
        clean: bool,
        /// It has an earlier session.
        session_present: bool,
        /// In seconds; 0: none.
        keep_alive_s: u16,
    },
    /// A connection was not let in.
    Refused(Refusal),
    /// A connection ended: the name of the reason.
    Ended(&'static str),
    /// A packet from the client, or one on its way to it.
    Packet(Direction, TracedPacket),
    /// A message was published, and has been given to those who get it.
    Published(TracedPublish),
    /// A message for the client.
    Delivery {
        /// The topic, cut at [`TOPIC_SIZE_MAX`](crate::shard::TOPIC_SIZE_MAX) bytes.
        topic: Box<[u8]>,
        /// With this QoS.
        qos: QoS,
        /// What has become of it.
        step: DeliveryStep,
    },
    /// The rules that the shell has given the client for a while.
    Rules(RulesStep),
    /// Something of the client took so long; a turn is that of all that was noted in it.
    Stage(Stage, Duration),
}

/// What has become of a message for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStep {
    /// On its way, so many at once.
    Sent(u32),
    /// It waits behind so many others.
    Queued(usize),
    /// It had waited, and is on its way.
    SentFromQueue,
    /// It is lost, or refused.
    Lost(Loss, Option<Bound>),
}

/// What happened to rules that end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulesStep {
    /// The shell was asked for them again.
    Asked,
    /// They go on.
    Renewed,
    /// The client has none any more.
    Denied,
    /// No answer: they are asked for again, until they end.
    Unavailable,
}

/// A packet.
#[derive(Clone, Debug)]
pub struct TracedPacket {
    /// What it is.
    pub kind: PacketKind,
    /// Bytes of it.
    pub size: usize,
    /// Its identifier.
    pub packet_id: Option<PacketId>,
    /// What an answer says, or why the connection ends; at most [`TracedPacket::LIST_SIZE_MAX`].
    pub reasons: Vec<ReasonCode>,
    /// What it subscribes to or not any more; likewise.
    pub filters: Vec<Box<str>>,
    /// The message of a PUBLISH.
    pub message: Option<TracedMessage>,
}

impl TracedPacket {
    /// Filters, or reasons, of one packet.
    pub const LIST_SIZE_MAX: usize = 16;
}

/// A message.
#[derive(Clone, Debug)]
pub struct TracedMessage {
    /// The topic, cut at [`TOPIC_SIZE_MAX`](crate::shard::TOPIC_SIZE_MAX) bytes; empty: the alias
    /// stands for it.
    pub topic: Box<[u8]>,
    /// In place of the topic, or from here on.
    pub topic_alias: Option<u16>,
    /// With this QoS.
    pub qos: QoS,
    /// To be retained, or retained before.
    pub retain: bool,
    /// Sent again.
    pub dup: bool,
    /// Bytes of payload.
    pub payload_size: usize,
    /// Its beginning, if a trace wants it.
    pub payload: Box<[u8]>,
}

/// What was published.
#[derive(Clone, Debug)]
pub struct TracedPublish {
    /// The message, or the first of several; the bytes are those of all.
    pub message: TracedMessage,
    /// Messages.
    pub count: u32,
    /// Why nobody gets it.
    pub refused: Option<Refusal>,
    /// The access rule that denies it, if one does.
    pub denied_by: Option<Box<str>>,
    /// Subscribers of the shard of the publisher that may have it.
    pub subscribers: usize,
    /// Shared subscriptions that match.
    pub groups: usize,
    /// Other shards that it went to.
    pub shards: usize,
}

/// Some events, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct TracePage {
    /// The events.
    pub events: Vec<TraceEvent>,
    /// Events since the page before that there was no room for.
    pub left_out: u64,
    /// There are more already.
    pub has_more: bool,
}

impl TracePage {
    /// Most events of a page.
    pub const EVENTS_MAX: usize = 256;
}
