//! What goes into a shard, and what goes from shard to shard.

use std::net::SocketAddr;
use std::sync::Arc;

use super::parcel::Parcel;
use super::refusal::Refusal;
use super::sys::Report;
use crate::auth::{Access, Verdict};
use crate::ids::{ConnId, LogPosition, SessionId, ShardId};
use crate::message::Message;
use crate::time::Instant;
use crate::topic::TopicFilter;

/// Everything that can happen to a shard.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection is there. Its first packet has to be CONNECT.
    Accepted {
        /// Not in use on this shard.
        conn: ConnId,
        /// Who is at the other end.
        peer: PeerIdentity,
        /// When the listener accepted it: the CONNECT deadline counts from here, also after a
        /// handover.
        since: Instant,
    },
    /// A layer below MQTT has told who is there: in place of what `Accepted` said. Comes before the
    /// first bytes, if it comes.
    Identified {
        /// A live connection.
        conn: ConnId,
        /// Who is at the other end.
        peer: PeerIdentity,
    },
    /// There is no room for a connection: its CONNECT is answered with this, and nothing else.
    Unwelcome {
        /// A live connection, before its first bytes.
        conn: ConnId,
        /// What stands against it.
        refusal: Refusal,
    },
    /// Bytes came in, plaintext, cut anywhere; valid for this call only.
    Received {
        /// A live connection.
        conn: ConnId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// The socket took bytes of an [`Output`](crate::connection::Output).
    SendProgress {
        /// A live connection.
        conn: ConnId,
        /// Bytes that left.
        size: u32,
    },
    /// The last event of a `ConnId`, after every operation on it has ended.
    Closed {
        /// Free for another use after this call.
        conn: ConnId,
        /// Why it ended.
        why: CloseCause,
    },
    /// A message of another shard. Messages of one source arrive in the order they were posted.
    FromShard {
        /// Who sent it.
        from: ShardId,
        /// What it says.
        message: ShardMsg,
    },
    /// The answer to an [`AuthRequest`](crate::auth::AuthRequest) of the outbox. May come late: for a
    /// connection that is gone it says nothing.
    AuthDecided {
        /// Whose request it was.
        conn: ConnId,
        /// It was [known](crate::auth::AuthRequest::known) already.
        was_known: bool,
        /// The answer.
        verdict: Verdict,
    },
    /// Other users, other rules. Who is connected stays so only if the new ones let it in.
    AccessReplaced {
        /// The same for all shards.
        access: Arc<Access>,
    },
    /// The log is durable up to there.
    Persisted {
        /// Records at or before it are safe.
        upto: LogPosition,
    },
    /// What the shell itself has counted since its start, for `$SYS`: names that are topic levels, and
    /// values. Worth telling before each `DeadlineReached`.
    ShellCounted {
        /// Replaces what was told before.
        counts: &'a [(&'static str, u64)],
        /// What is not of one shard; told to the first one.
        process: Option<ProcessCounts<'a>>,
    },
    /// A deadline has passed and what has to be heard before it is judged was heard: see [`Deadlines`].
    DeadlineReached {
        /// How far the shell has listened.
        heard: Heard,
    },
    /// The broker ends: say goodbye (0x8B) and close every connection.
    ShutdownRequested,
}

/// How far the shell has listened: all that had arrived at its sockets and inboxes by then was handed on.
///
/// A client is judged by what it did, not by when the broker came to look: after a pause of the process, or while a
/// shard may not read its sockets, what was sent in time still waits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// By this shard, to its handlers.
    pub here: Instant,
    /// By every shard, and handed over to whoever it concerns; at most `here`.
    pub everywhere: Instant,
}

impl Heard {
    /// A shell that has nothing unread.
    pub fn all(now: Instant) -> Heard {
        Heard {
            here: now,
            everywhere: now,
        }
    }
}

/// The earliest deadlines of a shard, by what has to be heard before they are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Nothing: no client can avert it.
    pub of_clock: Option<Instant>,
    /// The connections of this shard: one of them may have said what averts it.
    pub of_connections: Option<Instant>,
    /// Every connection there is: a client may be back, by whatever shard accepted it.
    pub of_absence: Option<Instant>,
}

impl Deadlines {
    /// The earliest of all.
    pub fn earliest(&self) -> Option<Instant> {
        let all = [self.of_clock, self.of_connections, self.of_absence];
        all.into_iter().flatten().min()
    }

    /// Whether one of them is to be judged.
    pub fn are_due(&self, now: Instant, heard: Heard) -> bool {
        let is_due = |deadline: Option<Instant>, upto| deadline.is_some_and(|at| at <= upto);
        is_due(self.of_clock, now)
            || is_due(self.of_connections, heard.here)
            || is_due(self.of_absence, heard.everywhere)
    }
}

/// What the shell has counted for all shards together.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessCounts<'a> {
    /// Memory in bytes, if it is known.
    pub memory_bytes: Option<u64>,
    /// Names of one or more topic levels, below those of the broker, and values.
    pub counts: &'a [(&'static str, u64)],
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Address of the peer; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// The verified name in its certificate, if the listener takes one from there.
    pub name: Option<Arc<str>>,
    /// Its listener has clients prove themselves by certificates, and this one has shown none.
    pub is_unproven: bool,
}

/// Why a connection ended, seen from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The peer closed its side.
    PeerClosed,
    /// The shard asked for it.
    Requested,
    /// What it sent is not of the layers below MQTT (PROXY, TLS, WebSocket) that its listener has.
    TransportFailed,
    /// The socket failed; the number is the errno.
    Failed(i32),
    /// The connection moved to its home shard.
    HandedOver,
}

/// Messages between shards. The kinds form a DAG: a handler of one kind posts only later kinds (or a
/// second `Barrier`, once; a `Share`, within a bound of hops), so that draining the inboxes ends. The
/// pages of retained messages are as many as there are, and a subscription has one question under way; a
/// `RetainedReply` leads to a `Barrier` if subscriptions have waited for it, once for each of them at most.
#[derive(Clone, Debug)]
pub enum ShardMsg {
    /// Publishes that the receiving shard may have subscribers for.
    Forwards(Parcel),
    /// One that suits no parcel.
    Forward(Arc<Message>),
    /// A retained publish (or its deletion) for the shard that the topic belongs to.
    Retain(Arc<Message>),
    /// "Tell me once everything that you handled before this is on its way."
    Barrier {
        /// Names it at the asking shard.
        barrier: BarrierId,
    },
    /// Answer to `Barrier`.
    BarrierAck {
        /// As asked.
        barrier: BarrierId,
    },
    /// Asks for retained messages.
    RetainedQuery(Vec<Question>),
    /// Answers questions of `RetainedQuery`, perhaps not all of one.
    RetainedReply(Vec<Page>),
    /// No more pages are wanted for these.
    RetainedStop(Vec<GatherId>),
    /// A message for one member of a shared subscription.
    Share(Share),
    /// A session of the sending shard is a member of these groups from now on.
    Join {
        /// Names the SUBACK that waits at the sending shard.
        join: JoinId,
        /// With share names.
        filters: Arc<[Arc<TopicFilter>]>,
        /// The member.
        session: SessionId,
        /// When it joined.
        since: Instant,
    },
    /// Answer to `Join`: every message handled here after it sees the member.
    JoinAck {
        /// As told.
        join: JoinId,
    },
    /// A session of the sending shard is a member of these groups no more.
    Leave {
        /// With share names.
        filters: Arc<[TopicFilter]>,
        /// The former member.
        session: SessionId,
    },
    /// What a shard has counted and holds, for the sums of `$SYS`.
    Report(Box<Report>),
}

/// A message on its way to one member of a shared subscription.
#[derive(Clone, Debug)]
pub struct Share {
    /// The message.
    pub message: Arc<Message>,
    /// The group.
    pub filter: Arc<TopicFilter>,
    /// The member that was chosen; the receiving shard may know better.
    pub wish: SessionId,
    /// Shards that it went through.
    pub hops: u8,
}

/// Names a SUBACK that waits for other shards; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JoinId(pub u64);

/// Names one running retained gather of a shard; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatherId {
    /// Whose subscription it is for.
    pub session: SessionId,
    /// Counts the gathers of the shard.
    pub number: u64,
}

/// Names a barrier that a shard has asked the others to answer; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BarrierId(pub u64);

/// Asks an owner of topics for a page of its retained messages.
#[derive(Clone, Debug)]
pub struct Question {
    /// Names the gather at the asking shard.
    pub gather: GatherId,
    /// For those that this filter, without share name, matches; `None`: for the page after the one before.
    pub filter: Option<Arc<TopicFilter>>,
}

/// A page of retained messages.
#[derive(Clone, Debug)]
pub struct Page {
    /// As asked.
    pub gather: GatherId,
    /// The messages.
    pub messages: Vec<Arc<Message>>,
    /// There are more to ask for.
    pub more: bool,
}

/// The order in which the messages of one turn have to become visible (see `gather.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MsgClass {
    /// First: live messages.
    Forward = 0,
    /// Second: retained messages.
    Retain = 1,
    /// Last: questions and answers.
    Answer = 2,
}

impl MsgClass {
    /// How many classes there are.
    pub const COUNT: usize = 3;
    /// In the order of becoming visible.
    pub const ALL: [MsgClass; MsgClass::COUNT] =
        [MsgClass::Forward, MsgClass::Retain, MsgClass::Answer];
}

impl ShardMsg {
    /// The class that decides when the message may become visible.
    pub fn class(&self) -> MsgClass {
        match self {
            ShardMsg::Forwards(_) | ShardMsg::Forward(_) | ShardMsg::Share(_) => MsgClass::Forward,
            ShardMsg::Retain(_) => MsgClass::Retain,
            ShardMsg::Barrier { .. }
            | ShardMsg::BarrierAck { .. }
            | ShardMsg::RetainedQuery(_)
            | ShardMsg::RetainedReply(_)
            | ShardMsg::RetainedStop(_)
            | ShardMsg::Join { .. }
            | ShardMsg::JoinAck { .. }
            | ShardMsg::Leave { .. }
            | ShardMsg::Report(_) => MsgClass::Answer,
        }
    }

    /// What it takes up of an inbox.
    pub fn weight(&self) -> usize {
        match self {
            ShardMsg::Forwards(parcel) => parcel.len(),
            _ => 1,
        }
    }
}
