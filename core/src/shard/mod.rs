//! The shard: a synchronous, deterministic state machine.

pub mod event;
pub mod outbox;

use std::sync::Arc;

pub use event::{CloseCause, Event, GatherId, MsgClass, PeerIdentity, ShardMsg};
pub use outbox::{Close, Handover, Outbox};

use crate::connection::{BufferPool, Output};
use crate::ids::{ConnId, ShardId};
use crate::limits::Limits;
use crate::time::Instant;
use crate::topic::InterestTable;

/// What a shard is made with.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard it is.
    pub id: ShardId,
    /// How many shards there are; `id < shards`.
    pub shards: usize,
    /// Secret of this process: keys every hash that a client could aim at, and seeds the shard's
    /// random generator. The same for all shards.
    pub secret: [u64; 2],
    /// The bounds.
    pub limits: Arc<Limits>,
    /// The table that all shards share.
    pub interest: Arc<InterestTable>,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    pool: BufferPool,
}

impl Shard {
    /// A shard without clients.
    pub fn new(config: ShardConfig) -> Shard {
        Shard {
            config,
            pool: BufferPool::new(),
        }
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.config.id
    }

    /// Takes in one event and puts the effects into `out`. Never blocks, never fails.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) {
        let _ = (now, event, out);
    }

    /// When to call with `Event::DeadlineReached` at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Everything that `conn` has to send. Ask for connections that were reported dirty and have no
    /// output in flight, and again when an output has been sent.
    pub fn take_output(&mut self, conn: ConnId) -> Option<Output> {
        let _ = conn;
        None
    }

    /// Gives the buffers of a sent output back.
    pub fn recycle(&mut self, output: Output) {
        match output {
            Output::One(buffer) => self.pool.put(buffer),
            Output::Many(_) => {}
        }
    }
}
