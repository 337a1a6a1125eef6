//! What a client keeps between its connections.

use std::collections::{BTreeMap, VecDeque};

use ringmq_core::time::Instant;

use crate::message::MessageIndex;

/// What outlives a connection.
#[derive(Debug, Default)]
pub struct Session {
    pub past: Past,
    pub outgoing: VecDeque<Outgoing>,
    /// QoS 2 messages received and not released.
    pub received: BTreeMap<u16, MessageIndex>,
    pub last_packet_id: u16,
}

/// What the client knows about its session at the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Past {
    /// There is none, or an empty one.
    #[default]
    None,
    /// There is one, and the last connection to it ended then.
    Known { lost_at: Instant },
    /// Not known.
    Doubt,
    /// A CONNECT without answer may have begun a new one: the next CONNECT has a clean start, so
    /// that the two are not taken for each other.
    CleanDoubt,
}

/// A QoS 1 or 2 message on its way to the broker.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub packet_id: u16,
    pub message: MessageIndex,
    /// PUBREC came.
    pub released: bool,
}
