//! When checkpoints are made, and how far the one at hand is.

use std::sync::Arc;
use std::time::Duration;

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
    /// While the disk is almost full: when the next one may begin.
    scarce_at: Option<Instant>,
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
    /// Shards whose receipts of what it lets go of may not be durable.
    pub(in crate::shard) receipts_missing: usize,
}

/// How far it is.
#[derive(Debug)]
pub enum Step {
    /// Sessions from this slot on; of the first one, deliveries from there on were not written yet.
    Sessions(u32, Option<(SessionId, DeliveryNo)>),
    /// Retained messages from there on.
    Retained(Cursor),
    /// Everything is written; the log has to be durable up to this turn, and receipts on other shards.
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
            scarce_at: None,
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

    /// The one at hand stands at a retained message.
    pub fn has_cursor(&self) -> bool {
        let step = self.current.as_ref().map(|current| &current.step);
        matches!(step, Some(Step::Retained(cursor)) if !cursor.is_at_start())
    }

    /// When the next slice is due.
    pub fn deadline(&self) -> Option<Instant> {
        let Some(current) = &self.current else {
            return self.scarce_at;
        };
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

    /// Another shard has all receipts durable that this checkpoint waits for; it may have been given up since.
    pub fn on_receipts_durable(&mut self, checkpoint: LogPosition) {
        if let Some(current) = &mut self.current
            && current.writer.file().position == checkpoint
        {
            assert!(current.receipts_missing > 0, "a shard answers once");
            current.receipts_missing -= 1;
        }
    }

    /// Whether the disk is almost full: then one is made at once, and again and again, for what clients have taken
    /// goes only with it.
    pub fn note_scarce(&mut self, is_scarce: bool, now: Instant) {
        if is_scarce != self.scarce_at.is_some() {
            self.scarce_at = is_scarce.then_some(now);
        }
    }

    /// While the disk is almost full, the next one is to wait a while.
    pub fn wait_if_scarce(&mut self, now: Instant) {
        if self.scarce_at.is_some() {
            self.scarce_at = Some(now + SCARCE_PAUSE);
        }
    }

    /// Another one is to begin.
    pub fn are_due(&mut self, position: LogPosition, now: Instant) -> bool {
        if self.current.is_some() {
            return false;
        }
        let logged = position.0 - self.last_at.0;
        let is_scarce = self.scarce_at.is_some_and(|at| at <= now);
        if is_scarce {
            self.wait_if_scarce(now);
        }
        // Without anything new it would be the same one.
        self.is_wanted || logged >= self.bytes_min.max(self.last_size) || (is_scarce && logged > 0)
    }
}

/// While the disk is almost full, checkpoints free what clients have taken: so often.
const SCARCE_PAUSE: Duration = Duration::from_secs(10);
/// Bytes of log between two checkpoints, at least: what a start may have to read besides a checkpoint.
const BYTES_MIN: u64 = 256 * 1024 * 1024;
