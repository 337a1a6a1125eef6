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
    /// The slot that `sweep` looks at next.
    swept: usize,
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
    /// Shards that may record a message of QoS 1 or 2.
    pub durable: ShardSet,
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
            swept: 0,
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
        self.sweep(generation, interest_generation);
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
        entry.durable = interest.durable_shards_for(name);
        shares.groups_for(name, &mut entry.groups);
        entry.reserved = is_reserved(topic);
        entry.generation = generation;
        entry.interest_generation = interest_generation;
        self.routes_count += entry.routes.len();
        Ok(entry)
    }

    /// Frees some of what is void: topics that nobody publishes any more would stay for ever. Twice as much as a
    /// miss may add.
    fn sweep(&mut self, generation: u64, interest_generation: u64) {
        for _ in 0..2 {
            let slot = &mut self.slots[self.swept];
            self.swept = (self.swept + 1) % SLOTS;
            let is_void = |entry: &mut Box<CachedRoutes>| {
                (entry.generation, entry.interest_generation) != (generation, interest_generation)
            };
            if let Some(entry) = slot.take_if(is_void) {
                self.routes_count -= entry.routes.len();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::codec::QoS;
    use crate::ids::ShardId;
    use crate::limits::ShareStrategy;
    use crate::topic::{SubscriptionOptions, TopicFilter};

    #[test]
    fn topics_that_nobody_publishes_any_more_are_forgotten() {
        let limits = TopicLimits::default();
        let interest = Arc::new(InterestTable::new(1, 6, 1));
        let own = ShardId::new(0);
        let shares = Shares::new(own, ShareStrategy::Random, interest.clone(), 1);
        let mut index = SubscriptionIndex::new(1);
        let mut cache = RouteCache::new(1, limits);
        let session = SessionId {
            index: 0,
            generation: 0,
        };
        let options = SubscriptionOptions {
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            subscription_id: None,
        };
        for round in 0..20 {
            let filter = TopicFilter::parse(&format!("t/{round}/+"), &limits).unwrap();
            index.subscribe(&filter, session, options);
            for number in 0..1000 {
                let topic = format!("t/{round}/{number}");
                let hash = cache.hash(topic.as_bytes());
                let taken = cache.take(topic.as_bytes(), hash, &index, &interest, &shares, None);
                cache.put(hash, taken.unwrap());
            }
            cache.assert_invariants();
            let kept = cache.slots.iter().flatten().count();
            assert!(kept <= 3000, "{kept} topics are kept in round {round}");
        }
    }
}
