//! Keyed hashing of topic texts: clients choose them, so nobody may be able to make them collide.

use siphasher::sip::SipHasher13;
use siphasher::sip128;

/// The key of one table.
#[derive(Clone, Copy)]
pub(super) struct HashKey([u64; 2]);

impl HashKey {
    pub(super) fn new(seed: u64) -> HashKey {
        HashKey([seed, seed.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15])
    }

    /// Hash of `text` in one of many independent domains (the parent of a level, say).
    pub(super) fn hash(self, domain: u32, text: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.0[0] ^ u64::from(domain), self.0[1]).hash(text)
    }
}

/// The key of digests.
#[derive(Clone, Copy)]
pub(super) struct DigestKey(HashKey);

/// 128 bits that stand for a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u64; 2]);

impl DigestKey {
    pub(super) fn new(seed: u64) -> DigestKey {
        DigestKey(HashKey::new(seed))
    }

    pub(super) fn digest(self, text: &[u8]) -> Digest {
        let HashKey([one, two]) = self.0;
        let digest = sip128::SipHasher13::new_with_keys(one, two).hash(text);
        Digest([digest.h1, digest.h2])
    }
}

impl Digest {
    pub(super) fn hash(self) -> u64 {
        self.0[0]
    }
}
