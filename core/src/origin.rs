//! Where a QoS 2 message comes from that goes to several shards, so that its repetition after a crash goes to nobody
//! who has it.
//!
//! Rules, each of which some schedule needs (`core/tests/it/durable`, `core/tests/it/models/origins.rs`):
//! 1. Whoever keeps the message records its origin with it.
//! 2. The shard of the publisher records that all have it when that is durable everywhere, and only then.
//! 3. A start takes together what all shards have recorded. What not all have is *partial*: the repetition goes to the
//!    other sessions, and to groups of which no member has it, under the same ticket.
//! 4. A ticket is never used for another message, or an old message could be taken for the new one.
//! 5. A checkpoint, which has no origins, waits until the receipts of what it lets go of are durable.
//!
//! Not here: what is recorded (`store`), the start (`store/recovered.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ids::{PacketId, SessionNo};
use crate::topic::TopicFilter;

/// Names a QoS 2 message of a session that outlives its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who published it.
    pub no: SessionNo,
    /// As what.
    pub id: PacketId,
    /// Tells apart what had the same identifier, one after the other.
    pub ticket: u64,
}

/// An exchange that is under way among shards.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What it is about.
    pub origin: Origin,
    /// Who has the message since before a crash; `None`: it is no repetition.
    pub reached: Option<Arc<Reached>>,
}

/// Who has a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// By subscriptions of their own.
    pub sessions: BTreeSet<SessionNo>,
    /// By one of their members.
    pub groups: Vec<Arc<TopicFilter>>,
}

/// A message that not all have who are to get it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// The ticket it has.
    pub ticket: u64,
    /// Who has it.
    pub reached: Arc<Reached>,
}
