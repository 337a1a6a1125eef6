//! A set of shards, one bit each.

use crate::ids::ShardId;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// No shard.
    pub const EMPTY: ShardSet = ShardSet(0);

    /// One bit per shard.
    pub(super) fn of_bits(bits: u64) -> ShardSet {
        ShardSet(bits)
    }

    /// Tells whether a shard is in the set.
    pub fn contains(self, shard: ShardId) -> bool {
        self.0 >> shard.index() & 1 == 1
    }

    /// The set and one more shard.
    #[must_use]
    pub fn with(self, shard: ShardId) -> ShardSet {
        ShardSet(self.0 | 1 << shard.index())
    }

    /// The set but for one shard.
    #[must_use]
    pub fn without(self, shard: ShardId) -> ShardSet {
        ShardSet(self.0 & !(1 << shard.index()))
    }

    /// The shards that are in both sets.
    #[must_use]
    pub fn and(self, other: ShardSet) -> ShardSet {
        ShardSet(self.0 & other.0)
    }

    /// There is no shard in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Shards in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The shards, ascending.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let index = bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
            (index < u64::BITS).then(|| ShardId::new(index as usize))
        })
    }
}
