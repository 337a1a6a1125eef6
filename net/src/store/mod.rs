//! Durability, the shell's side of it: the data directory, what is read from it at a start, and the thread that
//! makes and removes files.
//!
//! - `examine`: a look before the start.
//! - `data_dir`, `manifest`: what a data directory holds, and who may use it.
//! - `recovery`: from logs and checkpoints to what each shard begins with; `seal`: what is left of the files then.
//! - `tools`: looking at a data directory, repairing, copying and moving it.
//! - `keeper`: making, naming and removing files, for all shards; `zeros`: what segments are made of.
//!
//! Not here: what is written, and in which format (`ringmq_core::store`); writes and syncs (`reactor/disk.rs`).

mod data_dir;
mod error;
mod examine;
#[cfg(test)]
mod folder;
pub(crate) mod keeper;
mod manifest;
#[cfg(test)]
mod played;
mod recovery;
mod seal;
mod state;
#[cfg(test)]
mod tests;
pub mod tools;
mod zeros;

use std::fmt;
use std::path::PathBuf;

use ringmq_core::ids::ShardId;
use ringmq_core::limits::Limits;
use ringmq_core::store::{DiskError, Downtime, Policy};

pub use error::{StoreError, StoreFault};
pub use examine::{BLOCK_SIZE, Direct, DirectoryFacts, FileSystem, Presence};
pub(crate) use recovery::{Opened, open};

/// Where a broker keeps what is to outlive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data directory. It is made, if the directory above it exists.
    pub data_dir: PathBuf,
    /// When acknowledgements may leave.
    pub policy: Policy,
    /// With less space on the file system, in bytes, what would be stored is refused.
    pub free_bytes_min: u64,
    /// Whether time between two boots of the machine counts for what expires.
    pub downtime: Downtime,
}

/// Bytes of a segment of a log: the largest packet has room in one, with all who receive it.
pub fn segment_size(limits: &Limits) -> u64 {
    let packets = 2 * u64::from(limits.packet_size_max);
    packets
        .max(SEGMENT_SIZE_MIN)
        .next_multiple_of(BLOCK_SIZE.into())
}

/// Bytes that the logs of so many shards take up as soon as they are begun: the segments that are written, the next
/// ones, and those that are kept back.
pub fn space_needed(limits: &Limits, shards: usize) -> u64 {
    3 * segment_size(limits).saturating_mul(shards as u64)
}

/// The log of a shard cannot be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFailure {
    /// Whose.
    pub shard: ShardId,
    /// What happened.
    pub error: DiskError,
}

impl fmt::Display for LogFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogFailure { shard, error } = self;
        write!(f, "the log of shard {shard} failed: {error}")
    }
}

/// Takes 35 ms to fill with zeros, and a quarter of a second to fill with records at the pace of a good disk.
pub(crate) const SEGMENT_SIZE_MIN: u64 = 64 << 20;
