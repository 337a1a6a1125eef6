//! Which shard keeps the retained message of a topic.

use siphasher::sip::SipHasher13;

use crate::ids::ShardId;

/// The shard that owns a topic: a keyed hash, the same on every shard of the process.
///
/// `shards` is the number of shards, `secret` that of [`ShardConfig`](crate::shard::ShardConfig):
/// without it nobody can aim at one shard.
pub fn owner_of_topic(topic: &[u8], shards: usize, secret: &[u64; 2]) -> ShardId {
    assert!(shards > 0, "a broker has a shard");
    let hash = SipHasher13::new_with_keys(secret[0], secret[1]).hash(topic);
    // The high word of `hash * shards` is in `0..shards`, and even.
    ShardId::new(((u128::from(hash) * shards as u128) >> 64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_spread_evenly_and_depend_on_the_secret() {
        for shards in [1, 2, 3, 16, 64] {
            let mut counts = vec![0_usize; shards];
            let mut moved = 0;
            for n in 0..64_000 {
                let topic = format!("site/{}/device/{n}", n % 7);
                let owner = owner_of_topic(topic.as_bytes(), shards, &[1, 2]);
                counts[owner.index()] += 1;
                moved += usize::from(owner != owner_of_topic(topic.as_bytes(), shards, &[1, 3]));
            }
            let fair = 64_000 / shards;
            for count in counts {
                assert!(count.abs_diff(fair) < fair / 4, "{count} of {fair}");
            }
            assert!(shards == 1 || moved > 64_000 / 4);
        }
    }
}
