//! The deterministic simulator of Ringmq's shards.
