//! Input of a shard: events of the shell, and messages of other shards.

use super::ask::Ask;
use super::message::ShardMsg;
use crate::auth::PeerIdentity;
use std::sync::Arc;

use crate::auth::{Access, Verdict};
use crate::ids::{ConnId, ShardId};
use crate::refusal::Refusal;
use crate::store::DiskDone;
use crate::time::Instant;

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
    /// The answer to an operation of `Outbox::disk`.
    DiskDone(DiskDone),
    /// The disk is almost full, or is not any more. At first it is not.
    SpaceChanged {
        /// What would grow on it is to be refused.
        is_scarce: bool,
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
    /// The shell wants to know something: one answer is put into `Outbox::answers`.
    Asked {
        /// What.
        ask: Ask,
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
