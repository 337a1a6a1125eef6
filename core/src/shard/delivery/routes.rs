//! Hot topics: a topic that was published before finds its subscribers with one hash.
//!
//! A direct-mapped cache: one candidate per hash, replaced on a miss. A cached topic is also known
//! to be valid, so its bytes are not checked again.
//!
//! Invariant: an entry is used only while both its generations are current: any change of a subscription
//! on this shard, of another shard's interest, of the set of shared subscription groups, or of what is traced
//! voids it.

use foldhash::fast::FixedState;
use std::fmt;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use super::guard::Guard;
use super::traffic::{Counted, Summary, Tally, Windows, span_of, window_of};
use crate::ids::GroupId;
use crate::ids::SessionId;
use crate::shard::mail::findings::{TopicPage, TopicQuery, TopicRow, Traffic};
use crate::shard::share::groups::Shares;
use crate::shard::sys::records::TOPIC_SIZE_MAX;
use crate::time::Instant;
use crate::topic::{
    InterestTable, Route, ShardSet, SubscriptionIndex, TopicError, TopicFilter, TopicLimits,
    TopicName,
};
use crate::trace_set::TraceSet;

/// The cache of one shard.
pub struct RouteCache {
    slots: Vec<Option<Box<CachedRoutes>>>,
    state: FixedState,
    limits: TopicLimits,
    /// Routes in all slots, to bound the memory.
    routes_count: usize,
    /// The slot that `sweep` looks at next.
    swept: usize,
    /// Topics that are traced, by the index of the trace.
    traces: Vec<(u8, TopicFilter)>,
    /// How often these have changed.
    traces_generation: u64,
    windows: Windows,
    /// Of the topics that were in a slot.
    summary: Summary,
}

/// Where messages on one topic go.
#[derive(Debug, Default)]
pub struct CachedRoutes {
    topic: Box<[u8]>,
    /// What clients of this shard have published.
    tally: Tally,
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
    /// The traces that it belongs to.
    pub traced: TraceSet,
}

/// Topics in the cache at most. Power of two.
const SLOTS: usize = 4096;
/// Slots that are looked at for a page of topics: some 20 us.
const PART: usize = 1024;
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
            traces: Vec::new(),
            traces_generation: 0,
            windows: Windows::default(),
            summary: Summary::default(),
        }
    }

    /// The hash that finds a topic here.
    pub fn hash(&self, topic: &[u8]) -> u64 {
        self.state.hash_one(topic)
    }

    /// The topic with this hash, if it is here.
    pub fn topic_of(&self, hash: u64) -> Option<&[u8]> {
        let slot = self.slots.get(hash as usize % SLOTS)?.as_ref()?;
        (self.hash(&slot.topic) == hash).then_some(&slot.topic)
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
        // All only grow: their sum stays the same only if all do.
        let generation = index.generation() + shares.generation() + self.traces_generation;
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
            let before = std::mem::replace(&mut entry.topic, topic.into());
            let tally = std::mem::take(&mut entry.tally);
            self.sum_up(before, tally);
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
        entry.traced = self.traces_of(topic);
        entry.generation = generation;
        entry.interest_generation = interest_generation;
        self.routes_count += entry.routes.len();
        Ok(entry)
    }

    /// Topics that `filter` matches belong to a trace from here on.
    pub fn trace(&mut self, index: u8, filter: TopicFilter) {
        self.traces.push((index, filter));
        self.traces_generation += 1;
    }

    /// No topics belong to a trace any more.
    pub fn end_trace(&mut self, index: u8) {
        self.traces.retain(|(other, _)| *other != index);
        self.traces_generation += 1;
    }

    fn traces_of(&self, topic: &[u8]) -> TraceSet {
        let traces = self.traces.iter();
        let meant = traces.filter(|(_, filter)| filter.matches(topic));
        meant.fold(TraceSet::default(), |set, (index, _)| {
            set.with(TraceSet::of(*index))
        })
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
                self.sum_up(entry.topic, entry.tally);
            }
        }
    }

    /// Forgets everything: other rules hold.
    pub fn clear(&mut self) {
        for entry in std::mem::take(&mut self.slots).into_iter().flatten() {
            self.sum_up(entry.topic, entry.tally);
        }
        self.routes_count = 0;
    }

    /// Counts what a client has published on the topic of an entry.
    pub fn count(&mut self, entry: &mut CachedRoutes, now: Instant, more: Traffic) {
        entry.tally.add(self.windows.advance(now), more);
    }

    /// Keeps the counts of a topic that leaves the cache.
    fn sum_up(&mut self, topic: Box<[u8]>, tally: Tally) {
        let window = self.windows.number();
        if !tally.total(window).is_none() {
            self.summary.add(window, self.hash(&topic), topic, tally);
        }
    }

    /// The topics with the most of the summary, or of a part of the slots.
    pub fn page(&self, query: &TopicQuery, now: Instant) -> TopicPage {
        let window = window_of(now);
        let mut page = TopicPage {
            span: span_of(now),
            ..TopicPage::default()
        };
        // The summary comes first: what goes there meanwhile is missed, and not counted twice.
        let part = query.from as usize;
        let mut found: Vec<Counted<'_>> = match part.checked_sub(1) {
            None => {
                page.error = query.by.of(self.summary.error(window));
                self.summary.topics(window).collect()
            }
            Some(before) => {
                let slots = self.slots.iter().skip(before * PART).take(PART);
                let counted = slots.flatten().map(|entry| Counted {
                    key: None,
                    topic: &entry.topic,
                    traffic: entry.tally.total(window),
                });
                counted.filter(|row| !row.traffic.is_none()).collect()
            }
        };
        found.sort_unstable_by_key(|row| std::cmp::Reverse(query.by.of(row.traffic)));
        let rows_max = query.rows_max.clamp(1, TopicPage::ROWS_MAX);
        let left_out = found.get(rows_max);
        page.error += left_out.map_or(0, |row| query.by.of(row.traffic));
        let row = |row: &Counted<'_>| TopicRow {
            key: row.key.unwrap_or_else(|| self.hash(row.topic)),
            topic: row.topic[..row.topic.len().min(TOPIC_SIZE_MAX)].into(),
            traffic: row.traffic,
        };
        page.rows = found.iter().take(rows_max).map(row).collect();
        page.next = (part * PART < self.slots.len()).then(|| query.from + 1);
        page
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
        self.summary.assert_invariants();
    }

    /// Gives routes back to the cache.
    pub fn put(&mut self, hash: u64, entry: Box<CachedRoutes>) {
        if self.routes_count > ROUTES_MAX {
            // Many topics with very many subscribers each: start afresh rather than grow.
            self.clear();
            self.sum_up(entry.topic, entry.tally);
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
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::codec::QoS;
    use crate::ids::ShardId;
    use crate::limits::ShareStrategy;
    use crate::shard::mail::findings::TopicOrder;
    use crate::topic::SubscriptionOptions;

    const OPTIONS: SubscriptionOptions = SubscriptionOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        subscription_id: None,
    };

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
        for round in 0..20 {
            let filter = TopicFilter::parse(&format!("t/{round}/+"), &limits).unwrap();
            index.subscribe(&filter, session, OPTIONS);
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

    /// Whatever leaves the cache, and why: counts are never too high, nor lower than the error says.
    #[test]
    fn topics_are_counted_in_the_cache_and_beyond() {
        for seed in 0..8 {
            let mut random = fastrand::Rng::with_seed(seed);
            let limits = TopicLimits::default();
            let interest = Arc::new(InterestTable::new(1, 6, 1));
            let shares = Shares::new(ShardId::new(0), ShareStrategy::Random, interest.clone(), 1);
            let mut index = SubscriptionIndex::new(1);
            let mut cache = RouteCache::new(seed, limits);
            let mut model: BTreeMap<String, u64> = BTreeMap::new();
            let topics = random.usize(100..30_000);
            let now = Instant::ZERO + Duration::from_secs(90);
            for step in 0..20_000 {
                let topic = format!("t/{}", random.usize(..topics).min(random.usize(..topics)));
                let hash = cache.hash(topic.as_bytes());
                let taken = cache.take(topic.as_bytes(), hash, &index, &interest, &shares, None);
                let mut entry = taken.unwrap();
                let traffic = Traffic {
                    messages: 1,
                    bytes: 3,
                };
                cache.count(&mut entry, now, traffic);
                cache.put(hash, entry);
                *model.entry(topic).or_default() += 1;
                if step % 5000 == 4999 {
                    cache.clear();
                }
                if step % 3000 == 2999 {
                    let filter = TopicFilter::parse(&format!("s/{step}"), &limits).unwrap();
                    let session = SessionId {
                        index: 0,
                        generation: 0,
                    };
                    index.subscribe(&filter, session, OPTIONS);
                }
            }
            let (listed, error) = all_topics(&cache, now, 1 + random.usize(..300));
            for (topic, exact) in model {
                let counted = listed.get(&topic).copied().unwrap_or(0);
                assert!(
                    counted <= exact && exact <= counted + error,
                    "seed {seed}, {topic}: {counted} of {exact}, error {error}"
                );
            }
        }
    }

    fn all_topics(
        cache: &RouteCache,
        now: Instant,
        rows_max: usize,
    ) -> (BTreeMap<String, u64>, u64) {
        let mut listed = BTreeMap::new();
        let (mut in_summary, mut in_slots) = (0, 0);
        let mut next = Some(0);
        while let Some(from) = next {
            let query = TopicQuery {
                from,
                rows_max,
                by: TopicOrder::Messages,
            };
            let page = cache.page(&query, now);
            assert!(page.rows.len() <= rows_max);
            for row in page.rows {
                assert_eq!(row.traffic.bytes, 3 * row.traffic.messages);
                let topic = String::from_utf8(row.topic.into()).unwrap();
                *listed.entry(topic).or_default() += row.traffic.messages;
            }
            match from {
                0 => in_summary = page.error,
                _ => in_slots = page.error.max(in_slots),
            }
            next = page.next;
        }
        // A topic stands in one slot, and perhaps in the summary.
        (listed, in_summary + in_slots)
    }
}
