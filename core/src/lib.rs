//! The sans-io core of Ringmq: no sockets, no files, no clock, no threads.
//!
//! A broker is a handful of shards, one per core. A [`shard::Shard`] is a synchronous,
//! deterministic state machine: events go in with [`shard::Shard::handle`], effects come out in an
//! [`shard::Outbox`], bytes are pulled with [`shard::Shard::take_output`]. The shell around it
//! (package `ringmq`) owns sockets and time; the simulator (package `ringmq-sim`) is another shell.
//!
//! Where to start reading: `shard/mod.rs`, then `shard/on_publish.rs` and `shard/delivery` for
//! the way of a message, `session/gather.rs` for the one subtle protocol.
//!
//! # Invariants
//!
//! 1. A shard never blocks, never reads a clock, and draws no randomness it was not given.
//! 2. Only shard s writes the state of clients whose home is s, and only s writes bit s of the
//!    interest table.
//! 3. After SUBACK, no matching publish handled later by any shard misses this subscription.
//! 4. Messages of one publisher on one topic at one QoS keep their order on every path.
//! 5. A slot is reused only when none of its operations is in flight; a completion of another
//!    generation is ignored.
//! 6. Every queue has a bound in `limits.rs`; every refusal is a named, counted outcome.
//! 7. What was acknowledged under a durable policy is in the log of the shard that owes it.
#![forbid(unsafe_code)]

pub mod auth;
pub mod codec;
pub mod connection;
pub mod home;
pub mod ids;
pub mod limits;
pub mod loss;
pub mod message;
pub mod origin;
pub mod rate;
pub mod refusal;
pub mod session;
pub mod shard;
pub mod sizes;
pub mod stages;
pub mod store;
pub mod time;
pub mod topic;
pub mod trace_set;
