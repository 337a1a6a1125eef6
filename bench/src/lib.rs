//! Shared set-up of the criterion suites: one shard with clients, driven without sockets.

mod bench;
mod client;
mod samples;
mod stopwatch;

pub use bench::{Bench, shard};
pub use client::{answer, connect, publishes, subscribe, unsubscribe};
pub use samples::{Sample, samples};
pub use stopwatch::Stopwatch;
