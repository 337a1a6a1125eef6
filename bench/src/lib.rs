//! Shared set-up of the criterion suites: one shard with clients, driven without sockets.

mod bench;
mod client;
mod samples;
mod stopwatch;

pub use bench::{Bench, shard};
pub use client::{
    answer, connect, connect_with, publish_with, publishes, subscribe, subscribe_all, unsubscribe,
    unsubscribe_all,
};
pub use samples::{Sample, samples};
pub use stopwatch::Stopwatch;
