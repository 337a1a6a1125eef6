//! What went over the connection of a client.

use std::fmt;

/// Counts of one connection, since its CONNECT took effect.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// PUBLISH packets from the client.
    pub received: u64,
    /// PUBLISH packets to the client, repeated ones included.
    pub sent: u64,
    /// Messages for the client that were lost.
    pub dropped: u64,
    /// Bytes in both directions, as far as MQTT has them.
    pub bytes: u64,
    /// Payload of the PUBLISH packets from the client.
    pub payload_bytes: u64,
    /// Of these packets, those with QoS 1 and with QoS 2, modulo 2^32.
    pub acknowledged: [u32; 2],
    /// The keyed hash of the topic of the last of them.
    pub topic: u64,
}

impl fmt::Debug for LinkCounts {
    /// No numbers: what a shard does next does not depend on them, and tests compare shards by
    /// their text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkCounts")
    }
}
