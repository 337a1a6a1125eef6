//! Which shards can take a message of a shared subscription at once: hints, shared by all shards
//! without locks.
//!
//! Membership is told by message, because it has to be exact; how busy members are changes with
//! every message, and only helps to choose. So a shard keeps three bits per group: one of its
//! members takes messages at once, one is connected, for one more may wait. Groups whose hash is
//! the same share their bits. A wrong hint costs a message between shards, never a message.
//!
//! Invariant: bit `s` is written by shard `s` only, and is set exactly while shard `s` counts a
//! group there.

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use super::atomics::{AtomicU64, Ordering, zeroed_words};
use super::filter::TopicFilter;
use super::shard_set::ShardSet;
use crate::ids::ShardId;

/// The hints of a broker.
pub struct ShareHints {
    /// One bit per shard; the words of a bucket stand side by side.
    words: Box<[AtomicU64]>,
    key: [u64; 2],
}

/// What a shard has in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A member that takes a message at once.
    Ready = 0,
    /// A member that is connected, or better.
    Online = 1,
    /// A member for which more may wait, or better.
    Room = 2,
}

/// Where the hints of a group stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HintBucket(u16);

impl ShareHints {
    /// No shard has anything. `seed` keys the hashes and has to be a secret.
    pub(super) fn new(seed: u64) -> ShareHints {
        ShareHints {
            words: zeroed_words(BUCKETS * HINTS),
            key: [!seed, seed.rotate_left(32)],
        }
    }

    /// Where the hints of a group stand; `filter` is its whole text.
    pub fn bucket(&self, filter: &TopicFilter) -> HintBucket {
        let hash =
            SipHasher13::new_with_keys(self.key[0], self.key[1]).hash(filter.as_str().as_bytes());
        HintBucket((hash % BUCKETS as u64) as u16)
    }

    /// The shards that say so of this group, or of another one in its bucket.
    pub fn shards(&self, bucket: HintBucket, hint: Hint) -> ShardSet {
        // Relaxed: nothing is concluded from a hint.
        ShardSet::of_bits(self.word(bucket, hint).load(Ordering::Relaxed))
    }

    /// No shard says anything. Looks at the whole table: for tests and shutdown checks.
    pub(super) fn is_clear(&self) -> bool {
        self.words
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == 0)
    }

    fn word(&self, bucket: HintBucket, hint: Hint) -> &AtomicU64 {
        &self.words[usize::from(bucket.0) * HINTS + hint as usize]
    }
}

/// What one shard says: the only writer of its bit.
#[derive(Debug)]
pub struct OwnHints {
    shard: ShardId,
    /// Groups that say so, where there is one.
    counts: HashMap<(HintBucket, Hint), u32, foldhash::fast::FixedState>,
}

impl OwnHints {
    /// Of a shard without members.
    pub fn new(shard: ShardId) -> OwnHints {
        OwnHints {
            shard,
            counts: HashMap::default(),
        }
    }

    /// Panics if an invariant does not hold, for a shard whose groups say `said`.
    pub fn assert_invariants(
        &self,
        hints: &ShareHints,
        said: impl Iterator<Item = (HintBucket, Hint)>,
    ) {
        let mut counts = self.counts.clone();
        for place in said {
            let count = counts.get_mut(&place);
            *count.expect("what a group says is counted") -= 1;
        }
        assert!(counts.values().all(|&left| left == 0), "no group says so");
        for &(bucket, hint) in self.counts.keys() {
            let is_set = hints.shards(bucket, hint).contains(self.shard);
            assert!(is_set, "what is counted is set");
        }
    }

    /// One more group of the bucket says so, or one less; in pairs.
    pub fn say(&mut self, hints: &ShareHints, bucket: HintBucket, hint: Hint, is_so: bool) {
        let bit = 1_u64 << self.shard.index();
        let count = self.counts.entry((bucket, hint)).or_insert(0);
        if is_so {
            *count += 1;
            if *count == 1 {
                hints.word(bucket, hint).fetch_or(bit, Ordering::Relaxed);
            }
        } else {
            assert!(*count > 0, "a hint is taken back once");
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&(bucket, hint));
                hints.word(bucket, hint).fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }
}

/// Hints per group.
const HINTS: usize = 3;
/// 96 KiB of words; more groups than this share bits.
const BUCKETS: usize = 4096;
