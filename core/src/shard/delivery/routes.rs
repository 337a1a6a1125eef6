//! Hot topics: a topic that was published before finds its subscribers with one hash.
//!
//! A direct-mapped cache: one candidate per hash, replaced on a miss. A cached topic is also known
//! to be valid, so its bytes are not checked again.
//!
//! Invariant: an entry is used only while both its generations are current: any change of a subscription
//! on this shard, of another shard's interest, or of the set of shared subscription groups voids it.

use foldhash::fast::FixedState;
use std::fmt;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use super::guard::Guard;
use crate::ids::GroupId;
use crate::ids::SessionId;
use crate::shard::share::groups::Shares;
use crate::topic::{
    InterestTable, Route, ShardSet, SubscriptionIndex, TopicError, TopicLimits, TopicName,
};

/// The cache of one shard.
pub struct RouteCache {
    slots: Vec<Option<Box<CachedRoutes>>>,
    state: FixedState,
    limits: TopicLimits,
    /// Routes in all slots, to bound the memory.
    routes_count: usize,
}

/// Where messages on one topic go.
#[derive(Debug, Default)]
pub struct CachedRoutes {
    topic: Box<[u8]>,
    generation: u64,
    interest_generation: u64,
    /// Subscribers of this shard, one entry each.
    pub routes: Vec<Route>,
    /// Subscription identifiers that `routes` refer to.
    pub ids: Vec<NonZeroU32>,
    /// Shards with an interest, this one perhaps among them.
    pub shards: ShardSet,
    /// Shared subscriptions of all shards.
    pub groups: Vec<GroupId>,
    /// Clients may not publish here, but for their own state.
    pub reserved: bool,
    /// Some of those who may, if there are rules.
    pub writers: Vec<SessionId>,
}

/// Topics in the cache at most. Power of two.
const SLOTS: usize = 4096;
/// Routes in the cache at most: 16 to 32 bytes each.
const ROUTES_MAX: usize = 512 * 1024;

impl fmt::Debug for RouteCache {
    /// The slots in use: tests compare whole shards by their text, thousands of times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.slots.iter().flatten()).finish()
    }
}

impl RouteCache {
    /// An empty cache.
    pub fn new(seed: u64, limits: TopicLimits) -> RouteCache {
        RouteCache {
            slots: Vec::new(),
            state: FixedState::with_seed(seed),
            limits,
            routes_count: 0,
        }
    }

    /// The hash that finds a topic here.
    pub fn hash(&self, topic: &[u8]) -> u64 {
        self.state.hash_one(topic)
    }

    /// Takes the routes of a topic out; [`RouteCache::put`] gives them back after use.
    ///
    /// # Errors
    /// The bytes are not a topic name.
    pub fn take(
        &mut self,
        topic: &[u8],
        hash: u64,
        index: &SubscriptionIndex,
        interest: &InterestTable,
        shares: &Shares,
        guard: Option<Guard<'_>>,
    ) -> Result<Box<CachedRoutes>, TopicError> {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        // Read before the table is: a bit that is set in between makes the entry stale, not wrong.
        let interest_generation = interest.generation();
        // Both only grow: their sum stays the same only if both do.
        let generation = index.generation() + shares.generation();
        let mut cached = self.slots[hash as usize % SLOTS].take();
        if let Some(entry) = &cached
            && entry.generation == generation
            && entry.interest_generation == interest_generation
            && *entry.topic == *topic
        {
            return Ok(cached.take().expect("just seen"));
        }
        let name = match TopicName::parse(topic, &self.limits) {
            Ok(name) => name,
            Err(error) => {
                self.slots[hash as usize % SLOTS] = cached;
                return Err(error);
            }
        };
        let mut entry = cached.unwrap_or_default();
        self.routes_count -= entry.routes.len();
        if *entry.topic != *topic {
            entry.topic = topic.into();
        }
        entry.routes.clear();
        entry.ids.clear();
        index.routes(name, &mut entry.routes, &mut entry.ids);
        if let Some(guard) = guard {
            let may_receive = |route: &Route| guard.may_receive(route.session(), topic);
            entry.routes.retain(may_receive);
        }
        entry.writers.clear();
        entry.routes.shrink_to(2 * entry.routes.len() + 8);
        entry.shards = interest.shards_for(name);
        shares.groups_for(name, &mut entry.groups);
        entry.reserved = is_reserved(topic);
        entry.generation = generation;
        entry.interest_generation = interest_generation;
        self.routes_count += entry.routes.len();
        Ok(entry)
    }

    /// Forgets everything: other rules hold.
    pub fn clear(&mut self) {
        self.slots = Vec::new();
        self.routes_count = 0;
    }

    /// Panics if an invariant does not hold; walks all slots. Nobody has routes taken out.
    pub fn assert_invariants(&self) {
        let mut routes_count = 0;
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(entry) = slot else { continue };
            routes_count += entry.routes.len();
            let place = self.hash(&entry.topic) as usize % SLOTS;
            assert_eq!(place, index, "a topic stands where its hash leads");
        }
        assert_eq!(routes_count, self.routes_count, "routes are counted");
    }

    /// Gives routes back to the cache.
    pub fn put(&mut self, hash: u64, entry: Box<CachedRoutes>) {
        if self.routes_count > ROUTES_MAX {
            // Many topics with very many subscribers each: start afresh rather than grow.
            self.slots.iter_mut().for_each(|slot| *slot = None);
            self.routes_count = 0;
            return;
        }
        self.slots[hash as usize % SLOTS] = Some(entry);
    }
}

/// The topic on which a bridge tells whether it is connected: Mosquitto's does so by default, and as its will.
/// Only that of its own client identifier is a client's to write.
pub fn is_state_of(client_id: &str, topic: &[u8]) -> bool {
    let name = topic.strip_prefix(b"$SYS/broker/connection/");
    name.and_then(|name| name.strip_suffix(b"/state")) == Some(client_id.as_bytes())
}

/// Topics that only the broker itself writes: a client that could would forge statistics, or reach
/// names that are filters' syntax.
pub fn is_reserved(topic: &[u8]) -> bool {
    if topic.first() != Some(&b'$') {
        return false;
    }
    let level = topic.split(|&byte| byte == b'/').next().unwrap_or_default();
    matches!(level, b"$SYS" | b"$share" | b"$CONTROL")
}
