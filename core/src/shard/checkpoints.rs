//! When checkpoints are made, and how far the one at hand is.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::ids::{DeliveryNo, LogPosition, SessionId, TurnSeq};
use crate::message::Message;
use crate::store::{BodyNo, CheckpointWriter, DiskDone, DiskOp, FileName, OpId};
use crate::time::Instant;
use crate::topic::Cursor;

/// When checkpoints are made, and the one at hand.
#[derive(Debug)]
pub struct Checkpoints {
    /// The log grows by this much at least before the next one, in bytes.
    pub(in crate::shard) bytes_min: u64,
    /// Where the log stood when the last one began.
    pub(in crate::shard) last_at: LogPosition,
    /// Its size.
    pub(in crate::shard) last_size: u64,
    /// One is due, whatever the log's size.
    pub(in crate::shard) is_wanted: bool,
    pub(in crate::shard) current: Option<Box<Current>>,
    /// The last one that was finished.
    pub(in crate::shard) previous: Option<FileName>,
    /// Files that are being removed.
    pub(in crate::shard) removals: Vec<OpId>,
    pub(in crate::shard) next_op: u64,
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub struct Current {
    pub(in crate::shard) writer: CheckpointWriter,
    pub(in crate::shard) step: Step,
    /// Messages with several owners, by address.
    pub(in crate::shard) bodies: HashMap<usize, (BodyNo, Arc<Message>), FixedState>,
    /// Where the log stood at the last slice: a slice at least as large as what came since keeps up.
    pub(in crate::shard) paced_at: LogPosition,
    /// When the next slice is due.
    pub(in crate::shard) due_at: Instant,
}

/// How far it is.
#[derive(Debug)]
pub enum Step {
    /// Sessions from this slot on; of the first one, deliveries from there on were not written yet.
    Sessions(u32, Option<(SessionId, DeliveryNo)>),
    /// Retained messages from there on.
    Retained(Cursor),
    /// Everything is written; the log has to be durable up to this turn.
    Log(TurnSeq),
    /// The footer is written.
    Closed,
}

impl Default for Checkpoints {
    /// None yet.
    fn default() -> Checkpoints {
        Checkpoints {
            bytes_min: BYTES_MIN,
            last_at: LogPosition(0),
            last_size: 0,
            is_wanted: false,
            current: None,
            previous: None,
            removals: Vec::new(),
            next_op: OpId::OTHERS,
        }
    }
}

impl Checkpoints {
    /// Has one made, whatever the size of the log.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// When the next slice is due.
    pub fn deadline(&self) -> Option<Instant> {
        let current = self.current.as_ref()?;
        // The disk and the log say when to go on with the others.
        let is_slice = matches!(current.step, Step::Sessions(..) | Step::Retained(_));
        (is_slice && current.writer.is_ready()).then_some(current.due_at)
    }

    /// Takes an answer of the disk, if it is one to a checkpoint.
    pub fn on_done(&mut self, done: DiskDone, ops: &mut Vec<DiskOp>) -> Option<DiskDone> {
        if let Some(index) = self.removals.iter().position(|op| *op == done.op) {
            self.removals.swap_remove(index);
            return None; // A file that is left is removed at the next start.
        }
        match &mut self.current {
            Some(current) => current.writer.on_done(done, ops),
            None => Some(done),
        }
    }

    /// Another one is to begin.
    pub fn are_due(&self, position: LogPosition) -> bool {
        let logged = position.0 - self.last_at.0;
        self.current.is_none() && (self.is_wanted || logged >= self.bytes_min.max(self.last_size))
    }
}

/// Bytes of log between two checkpoints, at least: what a start may have to read besides a checkpoint.
const BYTES_MIN: u64 = 256 * 1024 * 1024;
