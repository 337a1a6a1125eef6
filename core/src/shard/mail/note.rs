//! What happens to clients, for the log. Made only if the shell wants it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::end::End;
use crate::auth::Identity;
use crate::codec::{QoS, Version};
use crate::ids::ConnId;
use crate::refusal::Refusal;
use crate::session::{LinkCounts, Session};

/// Something that happened to a client.
#[derive(Clone, Debug)]
pub enum Note {
    /// Its CONNECT took effect.
    Connected(Box<Arrival>),
    /// Its connection is no longer its session's.
    Disconnected(Box<Departure>),
    /// Other users or rules came, and all sessions have been looked at.
    Reviewed {
        /// Clients that were disconnected: they are let in no more.
        cut_off: u32,
        /// Sessions that have ended with that, or without a connection.
        ended: u32,
    },
    /// It wants a subscription.
    Subscribed {
        /// Who.
        client_id: Box<str>,
        /// The filter, as it came.
        filter: Box<str>,
        /// The QoS that it asked for.
        qos: QoS,
        /// Why it does not get it; `None`: it does.
        refused: Option<Refusal>,
    },
    /// It gives a subscription up.
    Unsubscribed {
        /// Who.
        client_id: Box<str>,
        /// The filter, as it came.
        filter: Box<str>,
    },
    /// It published.
    Published {
        /// Who.
        client_id: Box<str>,
        /// The topic, cut at [`TOPIC_SIZE_MAX`](crate::shard::TOPIC_SIZE_MAX) bytes.
        topic: Box<[u8]>,
        /// With this QoS.
        qos: QoS,
        /// To be retained.
        retain: bool,
        /// Bytes of payload, of all messages together.
        payload_size: usize,
        /// Messages: more than one, if they came in one piece.
        count: u32,
        /// Why nobody gets it.
        refused: Option<Refusal>,
    },
}

/// Whom a note is about.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its client identifier.
    pub client_id: Box<str>,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Where it is; `None`: on this machine, at a Unix socket.
    pub peer: Option<SocketAddr>,
}

/// A client that has connected.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its connection.
    pub conn: ConnId,
    /// Who.
    pub party: Party,
    /// The listener, as the shell calls it.
    pub listener: Option<Arc<str>>,
    /// What it speaks.
    pub version: Version,
    /// It wants a new session.
    pub clean: bool,
    /// It has an earlier session.
    pub session_present: bool,
    /// In seconds; 0: none.
    pub keep_alive_s: u16,
}

/// A client that has gone.
#[derive(Clone, Debug)]
pub struct Departure {
    /// Who.
    pub party: Party,
    /// Why.
    pub end: End,
    /// How long it was connected.
    pub after: Duration,
    /// What went over its connection.
    pub counts: LinkCounts,
}

impl Party {
    /// The client of a session that is, or was, at `peer`.
    pub(in crate::shard) fn of(session: &Session, peer: Option<SocketAddr>) -> Party {
        Party {
            client_id: session.client_id.clone(),
            identity: session.identity.clone(),
            peer,
        }
    }
}

/// Which notes the shell wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoteKinds {
    /// Of clients that come and go.
    pub clients: bool,
    /// Of each SUBSCRIBE, UNSUBSCRIBE and PUBLISH.
    pub packets: bool,
}

/// The notes of a turn, as far as they are wanted: at most [`Notes::NOTES_MAX`].
#[derive(Debug, Default)]
pub struct Notes {
    /// What to note; the shell sets it.
    pub wanted: NoteKinds,
    list: Vec<Note>,
    left_out: u64,
}

impl Notes {
    /// Some 500 KiB: more than a log takes in the time of a turn. Further ones are counted.
    pub const NOTES_MAX: usize = 4096;

    /// Adds one, if there is room.
    pub(in crate::shard) fn push(&mut self, note: Note) {
        if self.list.len() < Notes::NOTES_MAX {
            self.list.push(note);
        } else {
            self.left_out += 1;
        }
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes them all, in their order, and says how many there was no room for.
    pub fn take(&mut self) -> (Vec<Note>, u64) {
        let left_out = std::mem::take(&mut self.left_out);
        (std::mem::take(&mut self.list), left_out)
    }
}
