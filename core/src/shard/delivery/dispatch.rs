//! The sessions of a shard, with everything needed to send to them.

use super::encodings::{Encodings, RunScratch};
use crate::auth::Access;
use crate::codec::QoS;
use crate::connection::BufferPool;
use crate::limits::Limits;
use crate::message::{Message, MessageParts};
use crate::origin::{Exchange, Origin, Reached};
use crate::session::gather::Gathers;
use crate::session::{Delivery, KeptMatch, Link, Session, Sessions, WindowRooms};
use crate::shard::share::groups::Shares;
use crate::shard::sys::cases::Cases;
use crate::shard::sys::metrics::Metrics;
use crate::shard::sys::records::Records;
use crate::shard::sys::traces::Traces;
use crate::sizes::SizeCounts;
use crate::stages::{Recorder, Stamp};
use crate::store::Journal;
use crate::time::Instant;
use crate::trace_set::TraceSet;
use foldhash::fast::FixedState;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The sessions of a shard and what it takes to send to them.
pub struct Dispatch {
    pub limits: Arc<Limits>,
    pub sessions: Sessions,
    pub gathers: Gathers,
    pub pool: BufferPool,
    pub metrics: Metrics,
    /// How long things take, as far as the core knows.
    pub stages: Box<Recorder>,
    /// Sizes of the payloads that clients of this shard have published.
    pub sizes: Box<SizeCounts>,
    pub records: Records,
    /// The last losses.
    pub cases: Cases,
    /// What is traced; `None`: nothing.
    pub traces: Option<Box<Traces>>,
    pub shares: Shares,
    /// What has to outlive the process.
    pub journal: Journal,
    pub held: Held,
    pub(in crate::shard) window_rooms: WindowRooms,
    /// Who may connect, and what they may do.
    pub access: Arc<Access>,
    /// Counts the times that `access` was replaced.
    pub rules: u32,
    pub(in crate::shard) encodings: Encodings,
    pub(in crate::shard) runs: RunScratch,
    /// Keys tables whose keys clients choose.
    pub hasher: FixedState,
}

impl fmt::Debug for Dispatch {
    /// What the shard does next depends on; neither bounds and rules, which are given, nor what only
    /// counts the past. Tests compare whole shards by their text, hundreds of thousands of times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dispatch {
            limits: _,
            sessions,
            gathers,
            pool,
            metrics: _,
            stages: _,
            sizes: _,
            records,
            cases: _,
            traces: _,
            shares,
            journal,
            held,
            window_rooms,
            access: _,
            rules,
            encodings,
            runs,
            hasher: _,
        } = self;
        f.debug_struct("Dispatch")
            .field("sessions", sessions)
            .field("gathers", gathers)
            .field("pool", pool)
            .field("records", records)
            .field("shares", shares)
            .field("journal", journal)
            .field("held", held)
            .field("window_rooms", window_rooms)
            .field("rules", rules)
            .field("encodings", encodings)
            .field("runs", runs)
            .finish_non_exhaustive()
    }
}

/// What the sessions of a shard keep for their clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Messages in queues.
    pub queued_messages: u64,
    /// Memory of those. A message that waits for several clients counts for each.
    pub queued_bytes: u64,
    /// Memory of the messages that are in flight and kept.
    pub inflight_bytes: u64,
}

impl Held {
    /// A message has left a queue.
    pub(in crate::shard) fn dequeue(&mut self, message: &Message) {
        self.queued_messages -= 1;
        self.queued_bytes -= message.size() as u64;
    }

    /// It is as much as may be.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.queued_bytes + self.inflight_bytes >= limits.total_queued_bytes_max
            || self.queued_messages >= u64::from(limits.total_queued_messages_max)
    }
}

/// A message being delivered: borrowed from its packet until somebody has to keep it.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub parts: MessageParts<'a>,
    /// If it is to come once over any crash, and goes to other shards.
    pub exchange: Option<Arc<Exchange>>,
    /// A member of a shared subscription may keep it in the log.
    pub may_be_recorded: bool,
    /// The traces of its topic.
    pub traced: TraceSet,
    shared: Option<Arc<Message>>,
    now: Instant,
}

impl<'a> Outgoing<'a> {
    /// Of a packet that is being handled.
    pub fn new(parts: MessageParts<'a>, now: Instant) -> Outgoing<'a> {
        Outgoing {
            now,
            parts,
            exchange: None,
            may_be_recorded: true,
            traced: TraceSet::default(),
            shared: None,
        }
    }

    /// Of a message that is shared already.
    pub fn of(message: &'a Arc<Message>) -> Outgoing<'a> {
        Outgoing {
            // Of no use: the message is there.
            now: Instant::ZERO,
            parts: message.parts(),
            exchange: None,
            may_be_recorded: true,
            traced: TraceSet::default(),
            shared: Some(message.clone()),
        }
    }

    /// What is recorded with it.
    pub(in crate::shard) fn origin(&self) -> Option<Origin> {
        Some(self.exchange.as_ref()?.origin)
    }

    /// Who has it since before a crash.
    pub(in crate::shard) fn reached(&self) -> Option<Arc<Reached>> {
        self.exchange.as_ref()?.reached.clone()
    }

    /// The message to keep; the first call makes the one copy.
    pub fn share(&mut self) -> &Arc<Message> {
        self.shared
            .get_or_insert_with(|| Arc::new(Message::new(self.parts, Stamp::of(self.now))))
    }
}

/// How one subscriber gets a message.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct DeliveryOptions<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub matched: Matched<'a>,
    /// The generation of the rules.
    pub rules: u32,
}

impl DeliveryOptions<'_> {
    pub(in crate::shard) fn delivery(&self, outgoing: &mut Outgoing<'_>) -> Delivery {
        Delivery {
            message: outgoing.share().clone(),
            qos: self.qos,
            retain: self.retain,
            matched: self.matched.kept(),
            rules: self.rules,
        }
    }
}

/// The subscriptions by which one subscriber gets a message.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) enum Matched<'a> {
    /// Subscriptions of its own, with these identifiers.
    Own(&'a [NonZeroU32]),
    /// A shared subscription chose it.
    Shared(&'a Arc<KeptMatch>),
}

impl Matched<'_> {
    pub(in crate::shard) fn ids(&self) -> &[NonZeroU32] {
        match self {
            Matched::Own(ids) => ids,
            Matched::Shared(kept) => &kept.subscription_ids,
        }
    }

    /// To keep beside the message.
    pub(in crate::shard) fn kept(&self) -> Option<Arc<KeptMatch>> {
        match *self {
            Matched::Own([]) => None,
            Matched::Own(ids) => Some(Arc::new(KeptMatch {
                subscription_ids: ids.into(),
                share: None,
            })),
            Matched::Shared(kept) => Some(kept.clone()),
        }
    }
}

/// Whether a message of QoS 1 or 2 for a connected session can go out at once: nothing waits before it.
pub(in crate::shard) fn is_ready(
    session: &Session,
    link: &Link,
    pool: &BufferPool,
    limits: &Limits,
) -> bool {
    session.queue.is_empty()
        && !session.window.has_resends()
        && session.window.has_room(
            session.queue.next_number(),
            link.receive_maximum,
            limits.inflight_bytes_max,
        )
        && !is_busy(link, pool, limits)
}

/// Whether what can wait has to: so much waits for the socket of a client, or for those of the shard
/// together, that the rest of what may is left to messages that cannot wait. A client that keeps up with
/// these loses none of them while it is given retained or queued ones.
pub(in crate::shard) fn is_busy(link: &Link, pool: &BufferPool, limits: &Limits) -> bool {
    let bytes = link.unsent_bytes();
    bytes > limits.unsent_bytes_max / UNSENT_SHARE_OF_WAITING
        || (bytes > UNSENT_SIZE_SMALL && pool.unsent.bytes > limits.total_unsent_bytes_max / 2)
}

/// Whether a client takes its messages too slowly: so much waits for its socket, or a good deal while
/// too much waits for those of the shard together.
pub(in crate::shard) fn is_slow(link: &Link, pool: &BufferPool, limits: &Limits) -> bool {
    let bytes = link.unsent_bytes();
    bytes > limits.unsent_bytes_max
        || (bytes > UNSENT_SIZE_SMALL && pool.unsent.bytes > limits.total_unsent_bytes_max)
}

/// What can wait takes a quarter of what may wait for a socket: by default that and one packet of the
/// largest size leave a quarter for others.
const UNSENT_SHARE_OF_WAITING: u32 = 4;

/// A connection to which no more waits to be sent is never slow because of others.
const UNSENT_SIZE_SMALL: u32 = 64 * 1024;

impl Dispatch {
    /// No sessions yet.
    pub fn new(
        limits: Arc<Limits>,
        sessions: Sessions,
        shares: Shares,
        access: Arc<Access>,
        journal: Journal,
        others: usize,
        seed: u64,
    ) -> Dispatch {
        Dispatch {
            access,
            rules: 0,
            limits,
            sessions,
            gathers: Gathers::new(others, seed),
            pool: BufferPool::new(),
            metrics: Metrics::default(),
            stages: Box::default(),
            sizes: Box::default(),
            records: Records::default(),
            cases: Cases::default(),
            traces: None,
            shares,
            journal,
            held: Held::default(),
            window_rooms: WindowRooms::default(),
            encodings: Encodings::default(),
            runs: RunScratch::default(),
            hasher: FixedState::with_seed(seed),
        }
    }
}
