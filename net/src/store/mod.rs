//! Durability, the shell's side of it: the data directory, what is read from it at a start, and the thread that
//! makes and removes files.
//!
//! - `examine`: a look before the start.
//! - `data_dir`, `manifest`: what a data directory holds, and who may use it.
//! - `recovery`: from logs and checkpoints to what each shard begins with.
//! - `keeper`: making, naming and removing files, for all shards.
//!
//! Not here: what is written, and in which format (`ringmq_core::store`); writes and syncs (`reactor/disk.rs`).

mod data_dir;
mod error;
mod examine;
#[cfg(test)]
mod folder;
pub(crate) mod keeper;
mod manifest;
mod recovery;

use std::fmt;
use std::path::PathBuf;

use ringmq_core::ids::ShardId;
use ringmq_core::store::{DiskError, FileName};

pub use error::{StoreError, StoreFault};
pub use examine::{BLOCK_SIZE, Direct, DirectoryFacts, FileSystem, Presence};
pub(crate) use recovery::{Opened, open};

/// Where a broker keeps what is to outlive it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The data directory. It is made, if the directory above it exists.
    pub data_dir: PathBuf,
}

/// The log of a shard cannot be written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFailure {
    /// Whose.
    pub shard: ShardId,
    /// In which file.
    pub file: FileName,
    /// What happened.
    pub error: DiskError,
}

impl fmt::Display for LogFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogFailure { shard, file, error } = self;
        write!(f, "the log of shard {shard} failed: {file}: {error}")
    }
}
