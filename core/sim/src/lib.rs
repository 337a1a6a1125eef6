//! The deterministic simulator of Ringmq's shards.

mod rng;

pub use rng::Rng;
