//! Which shard is a client's home: keyed hashes that a client cannot aim.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::ids::{ClientKey, ShardId};

/// The secret, and the number of shards.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    secret: [u64; 2],
    shards: usize,
}

impl Home {
    /// Homes among `shards` shards.
    pub fn new(secret: [u64; 2], shards: usize) -> Home {
        assert!(
            (1..=ShardId::COUNT_MAX).contains(&shards),
            "{shards} shards cannot be"
        );
        Home { secret, shards }
    }

    /// The shard that holds the session of a client.
    pub fn of_client(&self, client_id: &str) -> ShardId {
        self.shard(b'c', client_id.as_bytes())
    }

    /// The shard that holds the retained message of a topic.
    pub fn of_topic(&self, topic: &[u8]) -> ShardId {
        self.shard(b't', topic)
    }

    /// Names a client without its name.
    pub fn client_key(&self, client_id: &str) -> ClientKey {
        ClientKey(self.hash(b'k', client_id.as_bytes()))
    }

    fn hash(&self, purpose: u8, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        hasher.write_u8(purpose);
        hasher.write(bytes);
        hasher.finish()
    }

    fn shard(&self, purpose: u8, bytes: &[u8]) -> ShardId {
        if self.shards == 1 {
            return ShardId::new(0); // At a start, a million topics are not even looked at.
        }
        let hash = self.hash(purpose, bytes);
        // The high bits of a product: as even as a remainder, without the division.
        ShardId::new(((u128::from(hash) * self.shards as u128) >> 64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_spread_evenly_and_depend_on_the_secret() {
        for shards in [1, 2, 3, 16, 64] {
            let (home, other) = (Home::new([1, 2], shards), Home::new([1, 3], shards));
            let mut counts = vec![0_usize; shards];
            let mut moved = 0;
            for n in 0..64_000 {
                let topic = format!("site/{}/device/{n}", n % 7);
                let owner = home.of_topic(topic.as_bytes());
                counts[owner.index()] += 1;
                moved += usize::from(owner != other.of_topic(topic.as_bytes()));
            }
            let fair = 64_000 / shards;
            for count in counts {
                assert!(count.abs_diff(fair) < fair / 4, "{count} of {fair}");
            }
            assert!(shards == 1 || moved > 64_000 / 4);
        }
    }
}
