//! The sans-io core of Ringmq.
#![forbid(unsafe_code)]

pub mod codec;
pub mod connection;
pub mod ids;
pub mod limits;
pub mod message;
pub mod shard;
pub mod time;
pub mod topic;
