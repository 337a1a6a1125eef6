//! Which shards may have a subscriber for a topic; shared by all shards, without locks.
//!
//! A table of buckets with one bit per shard. A filter without wildcards is one key, its text; a
//! filter with wildcards has the key of its literal levels before the first wildcard. A key owns a
//! bit in two buckets, so that a collision has to happen twice. A topic asks for its own key and
//! those of all its prefixes. A wrong yes costs a useless forward; a wrong no cannot happen:
//!
//! - Only shard `s` changes bit `s` of any bucket, and it counts what it keeps there, so no other
//!   shard and no other filter can take a bit away that a filter needs.
//! - **A subscription is seen.** `add` sets the bits and then bumps the generation, both before it
//!   returns. A publish that is later than the SUBACK (the subscriber's answer travelled to the
//!   publisher somehow, and each hop synchronises) has `add` before it in happens-before order, so
//!   by coherence its loads give the bits, also with relaxed ordering.
//! - **A cache is not stale.** A cache stores the generation that was read *before* its answer was
//!   made, and is void if the generation is another one. If `add` happens before the check, the
//!   check reads the bumped generation or a later one. If the cache has that one too, it was read
//!   (Acquire) before the cached probes from a bump (Release, and a chain of read-modify-writes
//!   keeps the release sequence), so those probes saw the bits. If not, the cache is void.
//!
//! A broker with a data directory has a second set of buckets, of the same keys: what durable
//! sessions want with QoS 1 or 2, shared subscriptions included. Only there is something recorded,
//! so only for these shards does an acknowledgement wait. A filter gets its bits there before, and
//! loses them after, those of the first set, and a publish reads there last: whoever sees a shard
//! because of a durable session, sees that it is one. Generations cover both.
//!
//! Invariants:
//! - bit `s` of a bucket is set exactly while shard `s` counts at least one key there.
//! - after the last filter is removed every word is zero.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::atomics::{AtomicU64, Ordering, fence, zeroed_words};
use super::filter::TopicFilter;
use super::name::TopicName;
use super::shard_set::ShardSet;
use super::share_hints::ShareHints;
use super::table::{Hashed, Table};
use crate::ids::ShardId;

/// The interest table of a broker.
pub struct InterestTable {
    generation: Generation,
    words: Box<[AtomicU64]>,
    /// Of durable sessions; `None`: there are none.
    durable_words: Option<Box<[AtomicU64]>>,
    layout: Layout,
    key: [u64; 2],
    share_hints: ShareHints,
}

/// Every shard polls it for every publish: alone in its cache lines (two, because they are fetched
/// in pairs), or changes of buckets beside it would slow all of them down.
#[repr(align(128))]
struct Generation(AtomicU64);

/// How buckets lie in words: `lanes` bits each, one per shard, rounded up to a power of two. Few
/// shards make a small table, which stays in the cache.
#[derive(Clone, Copy)]
struct Layout {
    shards: u32,
    lanes_log2: u32,
    buckets_log2: u32,
}

impl InterestTable {
    /// Buckets for a million filters: with two probes a topic that nobody wants meets a false yes
    /// of a given shard in fewer than one of a hundred cases while the shard has 200,000 filters.
    pub const BUCKETS_LOG2: u32 = 22;

    /// A table without interest. It takes `2^buckets_log2 * shards / 8` bytes of address space, and
    /// memory only where bits are set. `seed` keys its hashes and has to be a secret.
    pub fn new(shards: usize, buckets_log2: u32, seed: u64) -> InterestTable {
        assert!(
            (1..=ShardId::COUNT_MAX).contains(&shards),
            "{shards} shards do not fit a word"
        );
        assert!((6..32).contains(&buckets_log2), "2^6 to 2^31 buckets");
        let layout = Layout {
            shards: shards as u32,
            lanes_log2: shards.next_power_of_two().ilog2(),
            buckets_log2,
        };
        InterestTable {
            generation: Generation(AtomicU64::new(0)),
            words: zeroed_words(layout.words()),
            durable_words: None,
            layout,
            key: [seed, !seed.rotate_left(32)],
            share_hints: ShareHints::new(seed),
        }
    }

    /// The same table, for shards that record: what durable sessions want is told apart.
    #[must_use]
    pub fn with_durable(mut self) -> InterestTable {
        self.durable_words = Some(zeroed_words(self.layout.words()));
        self
    }

    /// The shards that may have a subscriber for a topic.
    ///
    /// To cache the answer, read [`generation`](InterestTable::generation) first.
    pub fn shards_for(&self, topic: TopicName<'_>) -> ShardSet {
        self.probe_all(&self.words, topic)
    }

    /// The shards that may record a message of QoS 1 or 2 on a topic, for a subscriber or a member
    /// of a shared subscription. To be read after [`shards_for`](InterestTable::shards_for).
    pub fn durable_shards_for(&self, topic: TopicName<'_>) -> ShardSet {
        let Some(words) = &self.durable_words else {
            return ShardSet::EMPTY;
        };
        // Pairs with the changes of `words`: this is read after them, and was written before.
        fence(Ordering::Acquire);
        self.probe_all(words, topic)
    }

    fn probe_all(&self, words: &[AtomicU64], topic: TopicName<'_>) -> ShardSet {
        let text = topic.as_bytes();
        let mut set = self.probe(words, self.exact_key(text));
        // [MQTT-4.7.2-1] filters that start with a wildcard do not see `$` topics.
        if !topic.is_system() {
            set |= self.probe(words, self.root_key());
        }
        let mut prefix = self.prefix_hasher();
        let mut from = 0;
        for (depth, level) in text
            .split(|byte| *byte == b'/')
            .take(PREFIX_LEVELS_MAX)
            .enumerate()
        {
            // The slash belongs to the level after it: `a`, then `/b`.
            let to = from + level.len() + usize::from(depth > 0);
            prefix.write(&text[from..to]);
            from = to;
            set |= self.probe(words, prefix.finish());
        }
        ShardSet::of_bits(set)
    }

    /// Changes after every change of a bit. An answer made at one generation holds for it.
    pub fn generation(&self) -> u64 {
        self.generation.0.load(Ordering::Acquire)
    }

    /// What shards say of their members of shared subscriptions.
    pub fn share_hints(&self) -> &ShareHints {
        &self.share_hints
    }

    /// No shard has a subscriber. Looks at the whole table: for tests and shutdown checks.
    pub fn is_clear(&self) -> bool {
        let durable = self.durable_words.iter().flatten();
        self.words
            .iter()
            .chain(durable)
            .all(|word| word.load(Ordering::Relaxed) == 0)
            && self.share_hints.is_clear()
    }

    /// The shards that have a bit in both buckets of a key.
    fn probe(&self, words: &[AtomicU64], key: u64) -> u64 {
        let [one, two] = self.layout.buckets(key);
        self.layout.bits(words, one) & self.layout.bits(words, two)
    }

    fn bump(&self) {
        self.generation.0.fetch_add(1, Ordering::SeqCst);
    }

    fn key_of(&self, filter: &TopicFilter) -> u64 {
        if filter.is_exact() {
            return self.exact_key(filter.pattern().as_bytes());
        }
        let Some(literal) = filter.literal_prefix() else {
            return self.root_key();
        };
        let literal = literal.as_bytes();
        let size = memchr::memchr_iter(b'/', literal)
            .nth(PREFIX_LEVELS_MAX - 1)
            .unwrap_or(literal.len());
        let mut prefix = self.prefix_hasher();
        prefix.write(&literal[..size]);
        prefix.finish()
    }

    fn exact_key(&self, text: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.key[0], self.key[1]).hash(text)
    }

    fn root_key(&self) -> u64 {
        SipHasher13::new_with_keys(self.key[0] ^ 1, self.key[1]).finish()
    }

    fn prefix_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.key[0] ^ 2, self.key[1])
    }
}

impl fmt::Debug for InterestTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterestTable")
            .field("shards", &self.layout.shards)
            .field("words", &self.words.len())
            .finish_non_exhaustive()
    }
}

impl Layout {
    fn words(self) -> usize {
        1 << (self.buckets_log2 + self.lanes_log2 - 6)
    }

    /// Two buckets from different bits of a hash.
    fn buckets(self, key: u64) -> [u32; 2] {
        let mask = (1 << self.buckets_log2) - 1;
        [(key as u32) & mask, ((key >> 32) as u32) & mask]
    }

    /// Word of a bucket, and the position of its lowest bit there.
    fn place(self, bucket: u32) -> (usize, u32) {
        let per_word_log2 = 6 - self.lanes_log2;
        let lane = bucket & ((1 << per_word_log2) - 1);
        ((bucket >> per_word_log2) as usize, lane << self.lanes_log2)
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.shards)
    }

    /// The shards that have a bit in a bucket.
    fn bits(self, words: &[AtomicU64], bucket: u32) -> u64 {
        let (word, shift) = self.place(bucket);
        // Relaxed: the order comes from how the subscription became known (see above).
        words[word].load(Ordering::Relaxed) >> shift & self.mask()
    }

    fn change(self, words: &[AtomicU64], bucket: u32, shard: ShardId, is_set: bool) {
        let is_known = shard.index() < self.shards as usize;
        assert!(is_known, "shard {shard} has no lane in this table");
        let (word, shift) = self.place(bucket);
        let bit = 1_u64 << (shift + shard.index() as u32);
        if is_set {
            words[word].fetch_or(bit, Ordering::SeqCst)
        } else {
            words[word].fetch_and(!bit, Ordering::SeqCst)
        };
    }
}

/// The interest of one shard: the only writer of its bit.
#[derive(Debug)]
pub struct Interest {
    counts: Counts,
    durable: Counts,
}

impl Interest {
    /// The interest of a shard without subscribers.
    pub fn new(shard: ShardId) -> Interest {
        let counts = || Counts {
            shard,
            of_buckets: Table::new(),
        };
        Interest {
            counts: counts(),
            durable: counts(),
        }
    }

    /// The shard has a subscriber for a filter; once per different filter. When it returns, every
    /// later publish finds the shard.
    pub fn add(&mut self, table: &InterestTable, filter: &TopicFilter) {
        self.counts.add(table, &table.words, filter);
    }

    /// The last subscriber for a filter is gone; once for each `add`.
    pub fn remove(&mut self, table: &InterestTable, filter: &TopicFilter) {
        self.counts.remove(table, &table.words, filter);
    }

    /// The shard has a durable session that takes messages on a filter with QoS 1 or 2; once per
    /// subscription, and before `add`.
    pub fn add_durable(&mut self, table: &InterestTable, filter: &TopicFilter) {
        if let Some(words) = &table.durable_words {
            self.durable.add(table, words, filter);
        }
    }

    /// Such a subscription is gone; once for each `add_durable`, and after `remove`.
    pub fn remove_durable(&mut self, table: &InterestTable, filter: &TopicFilter) {
        if let Some(words) = &table.durable_words {
            self.durable.remove(table, words, filter);
        }
    }

    /// Panics if an invariant does not hold, for a shard that has subscribers for `filters_count`
    /// filters, and so many durable subscriptions; walks all buckets in use.
    pub fn assert_invariants(
        &self,
        table: &InterestTable,
        filters_count: usize,
        durable_count: usize,
    ) {
        let layout = table.layout;
        self.counts
            .assert_invariants(layout, &table.words, filters_count);
        match &table.durable_words {
            Some(words) => self.durable.assert_invariants(layout, words, durable_count),
            None => assert_eq!(durable_count, 0, "without a log no session is durable"),
        }
    }
}

/// What one shard keeps in one set of buckets.
struct Counts {
    shard: ShardId,
    of_buckets: Table<Count>,
}

impl Counts {
    fn add(&mut self, table: &InterestTable, words: &[AtomicU64], filter: &TopicFilter) {
        let mut is_changed = false;
        for bucket in table.layout.buckets(table.key_of(filter)) {
            let is_it = |count: &Count| count.bucket == bucket;
            let none = || Count { bucket, keys: 0 };
            let hash = bucket_hash(bucket);
            let (count, is_new) = self.of_buckets.find_or_insert(hash, is_it, none);
            count.keys += 1;
            if is_new {
                table.layout.change(words, bucket, self.shard, true);
                is_changed = true;
            }
        }
        if is_changed {
            table.bump();
        }
    }

    fn remove(&mut self, table: &InterestTable, words: &[AtomicU64], filter: &TopicFilter) {
        let mut is_changed = false;
        for bucket in table.layout.buckets(table.key_of(filter)) {
            let is_it = |count: &Count| count.bucket == bucket;
            let count = self
                .of_buckets
                .find_mut(bucket_hash(bucket), is_it)
                .expect("a filter is removed once for each time it was added");
            count.keys -= 1;
            if count.keys == 0 {
                self.of_buckets.remove(bucket_hash(bucket), is_it);
                table.layout.change(words, bucket, self.shard, false);
                is_changed = true;
            }
        }
        if is_changed {
            table.bump();
        }
    }

    fn assert_invariants(&self, layout: Layout, words: &[AtomicU64], keys_count: usize) {
        self.of_buckets.assert_invariants();
        let mut keys = 0;
        for count in self.of_buckets.iter() {
            assert!(count.keys > 0, "a bucket without keys is not kept");
            let shards = ShardSet::of_bits(layout.bits(words, count.bucket));
            assert!(
                shards.contains(self.shard),
                "a bucket with keys has its bit"
            );
            keys += count.keys as usize;
        }
        assert_eq!(keys, 2 * keys_count, "a filter has a key in two buckets");
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts")
            .field("shard", &self.shard)
            .field("buckets", &self.of_buckets.len())
            .finish()
    }
}

/// How many keys a bucket has; at least one.
struct Count {
    bucket: u32,
    keys: u32,
}

impl Hashed for Count {
    fn hash(&self) -> u64 {
        bucket_hash(self.bucket)
    }
}

/// Bucket numbers are bits of a keyed hash already: they only have to be spread over the word.
fn bucket_hash(bucket: u32) -> u64 {
    let mixed = u64::from(bucket).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

/// Literal levels that make a key; deeper ones are cut off, which bounds the probes of one topic
/// to `2 * (PREFIX_LEVELS_MAX + 2)` and only costs filters that deep some precision.
const PREFIX_LEVELS_MAX: usize = 16;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::testing::{Random, filter, name};
    use super::*;

    #[test]
    fn interest_misses_nobody_and_leaves_nothing() {
        for (seed, shards, buckets_log2) in [
            (1, 1, 6),
            (2, 2, 6),
            (3, 3, 7),
            (4, 16, 9),
            (5, 33, 10),
            (6, 64, 12),
            (7, 64, 6),
        ] {
            let table = InterestTable::new(shards, buckets_log2, seed);
            let mut random = Random::new(seed);
            let mut interests: Vec<Interest> = (0..shards)
                .map(|s| Interest::new(ShardId::new(s)))
                .collect();
            let mut model: Vec<(usize, TopicFilter)> = Vec::new();
            for step in 0..2000 {
                if random.below(2000) >= step {
                    let (shard, filter) = (random.below(shards), random.filter());
                    if !model.contains(&(shard, filter.clone())) {
                        interests[shard].add(&table, &filter);
                        model.push((shard, filter));
                    }
                } else if !model.is_empty() {
                    let (shard, filter) = model.swap_remove(random.below(model.len()));
                    interests[shard].remove(&table, &filter);
                }
                let topic = random.topic();
                let set = table.shards_for(name(&topic));
                for (shard, filter) in &model {
                    let is_found = set.contains(ShardId::new(*shard));
                    assert!(
                        is_found || !filter.matches(topic.as_bytes()),
                        "{filter}: {topic}"
                    );
                }
            }
            for (shard, filter) in model {
                assert!(!table.is_clear());
                interests[shard].remove(&table, &filter);
            }
            assert!(table.is_clear());
            assert!(
                interests
                    .iter()
                    .all(|interest| interest.counts.of_buckets.capacity() == 0)
            );
        }
    }

    #[test]
    fn durable_interest_is_that_of_durable_subscriptions_and_nobody_elses() {
        for (seed, shards, buckets_log2) in [(1, 1, 6), (2, 3, 7), (3, 64, 22)] {
            let table = InterestTable::new(shards, buckets_log2, seed).with_durable();
            let mut random = Random::new(seed);
            let mut interests: Vec<Interest> = (0..shards)
                .map(|s| Interest::new(ShardId::new(s)))
                .collect();
            // Several sessions of a shard may have one filter: it is counted for each.
            let mut model: Vec<(usize, TopicFilter, bool)> = Vec::new();
            for step in 0..2000 {
                if random.below(2000) >= step {
                    let is_durable = random.below(2) == 0;
                    let (shard, filter) = (random.below(shards), random.filter());
                    if is_durable {
                        interests[shard].add_durable(&table, &filter);
                    }
                    interests[shard].add(&table, &filter);
                    model.push((shard, filter, is_durable));
                } else if !model.is_empty() {
                    let (shard, filter, is_durable) = model.swap_remove(random.below(model.len()));
                    interests[shard].remove(&table, &filter);
                    if is_durable {
                        interests[shard].remove_durable(&table, &filter);
                    }
                }
                let topic = random.topic();
                let all = table.shards_for(name(&topic));
                let durable = table.durable_shards_for(name(&topic));
                assert_eq!(all.and(durable), durable, "{topic}: seed {seed}");
                for (shard, filter, is_durable) in &model {
                    if *is_durable && filter.matches(topic.as_bytes()) {
                        assert!(durable.contains(ShardId::new(*shard)), "{filter}: {topic}");
                    }
                }
                let of = |shard: ShardId| {
                    let all = model.iter();
                    all.filter(move |one| one.0 == shard.index())
                };
                for shard in durable.iter() {
                    assert!(of(shard).any(|one| one.2), "{topic}: seed {seed}");
                }
                if step % 100 == 0 {
                    for (shard, interest) in interests.iter().enumerate() {
                        let all = of(ShardId::new(shard));
                        let durable_count = all.clone().filter(|one| one.2).count();
                        interest.assert_invariants(&table, all.count(), durable_count);
                    }
                }
            }
            for (shard, filter, is_durable) in model {
                assert!(!table.is_clear());
                interests[shard].remove(&table, &filter);
                if is_durable {
                    interests[shard].remove_durable(&table, &filter);
                }
            }
            assert!(table.is_clear());
        }
    }

    #[test]
    fn the_generation_covers_durable_interest() {
        let table = InterestTable::new(2, 22, 7).with_durable();
        let mut interest = Interest::new(ShardId::new(0));
        interest.add(&table, &filter("a/+"));
        let before = table.generation();
        interest.add_durable(&table, &filter("a/+"));
        let added = table.generation();
        assert_ne!(before, added);
        interest.add_durable(&table, &filter("a/#"));
        interest.remove_durable(&table, &filter("a/+"));
        assert_eq!(table.generation(), added);
        interest.remove_durable(&table, &filter("a/#"));
        assert_ne!(table.generation(), added);
    }

    #[test]
    fn a_topic_asks_for_the_keys_of_every_filter_that_matches_it() {
        for (text, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("#", "a/b", true),
            ("+/b", "a/b", true),
            ("a/#", "a", true),
            ("a/b/+", "a/b/c", true),
            ("a/b/+", "a/bc/c", false),
            ("/+", "/a", true),
            ("/+", "a/a", false),
            ("//#", "//", true),
            ("//#", "/", true),
            ("//#", "/a", false),
            // The key is coarser than the filter.
            ("a/+/c", "a/b/d", true),
            // [MQTT-4.7.2-1]
            ("#", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("$share/g/a/+", "a/b", true),
            ("$share/g/a/b", "a/b", true),
            ("$share/g/a/b", "$share/g/a/b", false),
        ] {
            let table = InterestTable::new(2, 16, 7);
            let shard = ShardId::new(1);
            let mut interest = Interest::new(shard);
            interest.add(&table, &filter(text));
            let set = table.shards_for(name(topic));
            assert_eq!(set.contains(shard), expected, "{text} vs {topic}");
            assert_eq!(set.len(), usize::from(expected));
        }
    }

    #[test]
    fn the_deepest_filter_is_found_and_the_probes_stay_bounded() {
        // THREATS 9, T15
        let table = InterestTable::new(2, 16, 7);
        let mut interest = Interest::new(ShardId::new(0));
        for depth in [14, 15, 16, 17, 18, 126] {
            let literal = vec!["x"; depth].join("/");
            let filter = filter(&format!("{literal}/#"));
            interest.add(&table, &filter);
            assert!(!table.shards_for(name(&literal)).is_empty(), "{depth}");
            assert!(!table.shards_for(name(&format!("{literal}/y"))).is_empty());
            interest.remove(&table, &filter);
            assert!(table.is_clear());
        }
    }

    #[test]
    fn the_generation_changes_with_the_bits() {
        let table = InterestTable::new(2, 22, 7);
        let mut interest = Interest::new(ShardId::new(0));
        let before = table.generation();
        interest.add(&table, &filter("a/+"));
        let added = table.generation();
        assert_ne!(before, added);
        // The same key: no bit changes, so no cache is void.
        interest.add(&table, &filter("a/#"));
        assert_eq!(table.generation(), added);
        interest.remove(&table, &filter("a/+"));
        assert_eq!(table.generation(), added);
        interest.remove(&table, &filter("a/#"));
        assert_ne!(table.generation(), added);
    }

    #[test]
    fn useless_forwards_are_rare() {
        let table = InterestTable::new(4, 18, 7);
        let mut interest = Interest::new(ShardId::new(3));
        // As full as the default table with 200,000 filters on one shard.
        for n in 0..12_500 {
            interest.add(&table, &filter(&format!("site/{n}/+")));
        }
        let wrong = (0..10_000).filter(|n| {
            let topic = format!("other/{n}/a");
            !table.shards_for(name(&topic)).is_empty()
        });
        let wrong = wrong.count();
        assert!(wrong < 500, "{wrong} of 10,000");
    }

    #[test]
    fn a_set_lists_its_shards() {
        let set = ShardSet::EMPTY.with(ShardId::new(63)).with(ShardId::new(0));
        let shards: Vec<usize> = set.iter().map(ShardId::index).collect();
        assert_eq!(shards, [0, 63]);
        assert_eq!(set.len(), 2);
        assert!(set.without(ShardId::new(0)).contains(ShardId::new(63)));
        assert!(!set.contains(ShardId::new(5)));
        assert!(ShardSet::EMPTY.is_empty());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    use super::super::testing::{filter, name};
    use super::*;

    #[test]
    fn loom_after_suback_a_publish_finds_the_shard() {
        loom::model(|| {
            let table = Arc::new(InterestTable::new(2, 6, 7));
            let suback = Arc::new(AtomicBool::new(false));
            let publisher = {
                let (table, suback) = (Arc::clone(&table), Arc::clone(&suback));
                thread::spawn(move || {
                    let is_subscribed = suback.load(Ordering::Acquire);
                    let set = table.shards_for(name("a"));
                    assert!(!is_subscribed || set.contains(ShardId::new(0)));
                })
            };
            Interest::new(ShardId::new(0)).add(&table, &filter("a"));
            suback.store(true, Ordering::Release);
            publisher.join().unwrap();
        });
    }

    #[test]
    fn loom_who_sees_a_shard_because_of_a_durable_session_sees_that_it_is_one() {
        loom::model(|| {
            let table = Arc::new(InterestTable::new(2, 6, 7).with_durable());
            let publisher = {
                let table = Arc::clone(&table);
                thread::spawn(move || {
                    let set = table.shards_for(name("a"));
                    let durable = table.durable_shards_for(name("a"));
                    assert_eq!(set.and(durable), set);
                })
            };
            let mut interest = Interest::new(ShardId::new(0));
            interest.add_durable(&table, &filter("a"));
            interest.add(&table, &filter("a"));
            publisher.join().unwrap();
        });
    }

    #[test]
    fn loom_a_cached_answer_is_never_stale_after_suback() {
        loom::model(|| {
            let table = Arc::new(InterestTable::new(2, 6, 7));
            let suback = Arc::new(AtomicBool::new(false));
            let publisher = {
                let (table, suback) = (Arc::clone(&table), Arc::clone(&suback));
                thread::spawn(move || {
                    let generation = table.generation();
                    let cached = table.shards_for(name("a"));
                    let is_subscribed = suback.load(Ordering::Acquire);
                    let set = if table.generation() == generation {
                        cached
                    } else {
                        table.shards_for(name("a"))
                    };
                    assert!(!is_subscribed || set.contains(ShardId::new(0)));
                })
            };
            Interest::new(ShardId::new(0)).add(&table, &filter("a"));
            suback.store(true, Ordering::Release);
            publisher.join().unwrap();
        });
    }

    #[test]
    fn loom_shards_that_share_a_bucket_do_not_lose_each_others_bits() {
        loom::model(|| {
            let table = Arc::new(InterestTable::new(2, 6, 7));
            let other = {
                let table = Arc::clone(&table);
                thread::spawn(move || {
                    let mut interest = Interest::new(ShardId::new(1));
                    interest.add(&table, &filter("a"));
                    interest.remove(&table, &filter("a"));
                })
            };
            let mut interest = Interest::new(ShardId::new(0));
            interest.add(&table, &filter("a"));
            assert!(table.shards_for(name("a")).contains(ShardId::new(0)));
            other.join().unwrap();
            let set = table.shards_for(name("a"));
            assert_eq!(set, ShardSet::EMPTY.with(ShardId::new(0)));
            interest.remove(&table, &filter("a"));
            assert!(table.is_clear());
        });
    }
}
