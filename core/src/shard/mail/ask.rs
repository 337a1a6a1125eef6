//! What the shell asks a shard, and what the shard answers.
//!
//! Nobody reads a shard's state from outside: who wants to know something asks, and is answered within the same
//! event. Every question is bounded, whatever the shard holds; what does not fit comes with the next one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::findings::{
    ClientLosses, ClientQuery, Dealt, LeaveOrder, MatchPlace, Publishing, QueuedRow, RetainedQuery,
    RetainedRow, Rows, SubscriberQuery, SubscriberRow, SubscriptionRow, TopicPage, TopicQuery,
};
use super::trace::{TraceOrder, TracePage};
use crate::auth::Identity;
use crate::codec::Version;
use crate::session::{Expiry, LinkCounts};
use crate::shard::sys::cases::{LossPage, LossQuery};
use crate::shard::sys::report::Report;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What the shard has counted since its start, and holds.
    Report,
    /// A page of its sessions.
    Sessions(SessionQuery),
    /// One session.
    Session {
        /// Whose.
        client_id: Box<str>,
    },
    /// The last losses.
    Losses(LossQuery),
    /// What one client has lost.
    LossesOf {
        /// Which.
        client_id: Box<str>,
    },
    /// A page of the subscribers of a topic or a filter.
    Subscribers(SubscriberQuery),
    /// Whether a client may publish.
    MayPublish {
        /// Which.
        client_id: Box<str>,
        /// Where.
        topic: Box<str>,
    },
    /// A page of the subscriptions of a client.
    SubscriptionsOf(ClientQuery),
    /// A page of what waits for a client.
    QueueOf(ClientQuery),
    /// A page of the retained messages of this shard.
    Retained(RetainedQuery),
    /// One retained message.
    RetainedOf {
        /// Its topic.
        topic: Box<str>,
    },
    /// A page of the topics on which most is published.
    Topics(TopicQuery),
    /// Begin a trace. Another one of the same index has ended, and its clients were looked at again.
    Trace(TraceOrder),
    /// Look again at which traces clients belong to: behind the begin and the end of a trace of an
    /// address.
    FindTraced {
        /// The first slot to look at; 0, or what the answer before says.
        from: u32,
    },
    /// What the traces have to tell, once.
    Traced,
    /// End a trace.
    EndTrace {
        /// Which.
        index: u8,
    },
    /// Delete a retained message. This and what follows changes something.
    Unretain {
        /// Its topic.
        topic: Box<str>,
    },
    /// Delete what such a page would have.
    UnretainPage(RetainedQuery),
    /// End a session, and the connection if there is one.
    EndSession {
        /// Whose.
        client_id: Box<str>,
    },
    /// Disconnect the clients of such a page.
    DisconnectPage {
        /// Which.
        query: SessionQuery,
        /// Publish their wills, as if the connections had been lost.
        with_will: bool,
    },
    /// End the sessions of such a page, and the connections if there are any.
    EndPage(SessionQuery),
    /// Have some clients leave.
    Leave(LeaveOrder),
    /// Disconnect a client.
    Disconnect {
        /// Which.
        client_id: Box<str>,
        /// Publish its will, as if the connection had been lost.
        with_will: bool,
    },
}

/// Which sessions a page is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// The first slot to look at; 0, or [`SessionPage::next`] of the page before.
    pub from: u32,
    /// At most that many rows; at least one. Bounded by [`SessionPage::ROWS_MAX`].
    pub rows_max: usize,
    /// Only of such clients.
    pub filter: SessionFilter,
}

/// Which sessions to list: those that all of this is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The client is connected, or away.
    pub is_connected: Option<bool>,
    /// It is this one.
    pub client_id: Option<Box<str>>,
    /// The client identifier begins so.
    pub prefix: Box<str>,
    /// It belongs to this user.
    pub user: Option<Box<str>>,
    /// It is connected from this address.
    pub address: Option<IpAddr>,
    /// At least so many messages wait in its queue.
    pub queued_messages_min: usize,
}

/// An answer, of the same name as its question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What the shard has counted and holds.
    Report(Box<Report>),
    /// Some sessions.
    Sessions(SessionPage),
    /// The session; `None`: the client has none here.
    Session(Option<Box<SessionRow>>),
    /// Some of the last losses.
    Losses(LossPage),
    /// What the client has lost; `None`: it has no session here.
    LossesOf(Option<ClientLosses>),
    /// Some subscribers.
    Subscribers(Rows<SubscriberRow, MatchPlace>),
    /// Whether the client may.
    MayPublish(Publishing),
    /// Some subscriptions; `None`: it has no session here.
    SubscriptionsOf(Option<Rows<SubscriptionRow, u64>>),
    /// Some of what waits; `None`: it has no session here.
    QueueOf(Option<Rows<QueuedRow, u64>>),
    /// Some retained messages.
    Retained(Rows<RetainedRow, u32>),
    /// The retained message, if there is one.
    RetainedOf(Option<RetainedRow>),
    /// Some topics.
    Topics(TopicPage),
    /// It has begun.
    Trace,
    /// Where to go on; `None`: all have been looked at.
    FindTraced(Option<u32>),
    /// Some events.
    Traced(TracePage),
    /// It has ended, if there was one.
    EndTrace,
    /// There was one.
    Unretain(bool),
    /// How many were deleted.
    UnretainPage(Dealt),
    /// There was one.
    EndSession(bool),
    /// How many were disconnected.
    DisconnectPage(Dealt),
    /// How many have ended.
    EndPage(Dealt),
    /// How many have left.
    Leave(Dealt),
    /// What has become of the client.
    Disconnect(Disconnected),
}

/// Some sessions, in the order of their slots.
///
/// A session that was there from the first page to the last is listed once; one that came or ended meanwhile, once
/// or not at all.
#[derive(Clone, Debug, Default)]
pub struct SessionPage {
    /// The sessions; perhaps none, although there is a next page.
    pub rows: Vec<SessionRow>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<u32>,
}

impl SessionPage {
    /// Most rows of a page: some 30 us.
    pub const ROWS_MAX: usize = 256;
    /// Most slots that are looked at for a page: a million sessions of which none matches take a thousand pages.
    pub const SLOTS_MAX: u32 = 1024;
    /// Identifiers in a page, in bytes; the last may exceed it.
    pub const TEXT_SIZE_MAX: usize = 64 * 1024;
}

/// A session at a moment.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its slot: where a page that begins with it begins.
    pub slot: u32,
    /// Whose it is.
    pub client_id: Box<str>,
    /// Who that is.
    pub identity: Arc<Identity>,
    /// Of the present or the last connection.
    pub version: Version,
    /// How long it outlives its connection.
    pub expiry: Expiry,
    /// When it ends, if the client stays away: so much later; `None`: it does not end by time, or the client is there.
    pub ends_in: Option<Duration>,
    /// The connection; `None`: the client is away.
    pub link: Option<LinkRow>,
    /// The topic on which the client published last over this connection, cut as in lists of topics; `None`:
    /// it has not, or that was long ago.
    pub topic: Option<Box<[u8]>>,
    /// Its subscriptions, shared ones among them.
    pub subscriptions: usize,
    /// Messages in its queue.
    pub queued_messages: usize,
    /// Bytes in its queue.
    pub queued_bytes: u64,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub inflight: usize,
    /// QoS 2 messages from the client that are not complete.
    pub receipts: usize,
    /// It has a will.
    pub has_will: bool,
}

/// The connection of a session at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// Where the client is; `None`: on this machine, at a Unix socket.
    pub peer: Option<SocketAddr>,
    /// For so long it has been there.
    pub connected_for: Duration,
    /// It says that it is a bridge.
    pub is_bridge: bool,
    /// For so long no packet has come.
    pub silent_for: Duration,
    /// Silence after which it counts as lost; `None`: never.
    pub silence_max: Option<Duration>,
    /// Bytes that have not left.
    pub unsent_bytes: u32,
    /// What went over it.
    pub counts: LinkCounts,
    /// It is not read at the moment: it sends too much, or takes too little.
    pub is_paused: bool,
}

/// What has become of a client that was to be disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnected {
    /// It was connected.
    Done,
    /// It has a session, and no connection.
    Away,
    /// It has no session here.
    Unknown,
}
