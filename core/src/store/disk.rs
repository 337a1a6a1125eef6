//! What the core asks of the disk, and what the disk answers.
//!
//! The shell carries out each [`DiskOp`] and answers it once with a [`DiskDone`], in any order.

use std::fmt;
use std::time::Duration;

use super::block::Block;
use crate::ids::LogPosition;
use crate::time::Instant;

/// Names an operation of one shard until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

impl OpId {
    /// [`Log`](super::Log) counts its operations from 0. Who else writes to the directory of the shard
    /// counts from here.
    pub const OTHERS: u64 = 1 << 63;
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// A segment of the log.
    Log,
    /// What the shard held when the log had come to this position.
    Checkpoint,
}

/// A file in the directory of the present epoch and this shard. Displayed as its name on the disk:
/// `00000000000a4000.log`, `00000000000a4000.ckp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName {
    /// What is in it.
    pub kind: FileKind,
    /// Of its first byte, in the log; of a checkpoint: where the log goes on.
    pub position: LogPosition,
}

/// An operation.
#[derive(Debug)]
pub enum DiskOp {
    /// Make the file: zero-filled, `size` bytes, content and name durable. (A checkpoint is made under a
    /// temporary name, `.ckp.tmp`.)
    Create {
        /// Names the operation.
        op: OpId,
        /// Which file.
        file: FileName,
        /// Bytes.
        size: u64,
    },
    /// Write at this offset and, if `sync`, make it durable. Of one file several may be under way; they may
    /// end in any order.
    Write {
        /// Names the operation.
        op: OpId,
        /// Which file.
        file: FileName,
        /// Offset in the file, a multiple of the block size.
        at: u64,
        /// The bytes, a multiple of the block size.
        block: Block,
        /// Answer only when it is durable.
        sync: bool,
    },
    /// Make everything written to the file durable.
    Sync {
        /// Names the operation.
        op: OpId,
        /// Which file.
        file: FileName,
    },
    /// Give a finished checkpoint its name: fsync, rename, fsync of the directory.
    Publish {
        /// Names the operation.
        op: OpId,
        /// Which file.
        file: FileName,
    },
    /// The file is not needed any more.
    Remove {
        /// Names the operation.
        op: OpId,
        /// Which file.
        file: FileName,
    },
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// No space left: nothing was changed, and the same may work later.
    Full,
    /// An errno. What is on the disk is not known any more.
    Failed(i32),
}

/// The answer to a [`DiskOp`].
#[derive(Debug)]
pub struct DiskDone {
    /// Which.
    pub op: OpId,
    /// Whether everything was done.
    pub result: Result<(), DiskError>,
    /// The block of a write, to be used again.
    pub block: Option<Block>,
}

/// Two clocks, read together by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The clock that deadlines are on; begins anew when the machine starts.
    pub boot: Instant,
    /// Nanoseconds since 1970, as far as the machine knows.
    pub wall_ns: u64,
}

/// When answers may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// When what they promise survives the loss of power.
    Always,
    /// When it survives the end of the process. A loss of power takes what was recorded in so much time
    /// before it, and in that of one sync.
    Interval(Duration),
}

impl DiskOp {
    /// The answer to it; the block of a write comes back.
    pub fn answered(self, result: Result<(), DiskError>) -> DiskDone {
        let (op, block) = match self {
            DiskOp::Write { op, block, .. } => (op, Some(block)),
            DiskOp::Create { op, .. }
            | DiskOp::Sync { op, .. }
            | DiskOp::Publish { op, .. }
            | DiskOp::Remove { op, .. } => (op, None),
        };
        DiskDone { op, result, block }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extension = match self.kind {
            FileKind::Log => "log",
            FileKind::Checkpoint => "ckp",
        };
        write!(f, "{:016x}.{extension}", self.position.0)
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::Full => f.write_str("no space left on the disk"),
            DiskError::Failed(errno) => write!(f, "the disk failed with error {errno}"),
        }
    }
}
