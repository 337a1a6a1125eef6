//! The file of a checkpoint: batches one behind the other, two on their way to the disk at most.
//!
//! Not here: what is in it and in which order (`shard/checkpoint.rs`), reading (`replay.rs`).

use super::batch::{Batch, LogIdentity, Place, Stamp};
use super::block::Block;
use super::disk::{Clocks, DiskDone, DiskError, DiskOp, FileKind, FileName, OpId};
use super::record::{Footer, Record};
use crate::ids::LogPosition;

/// A checkpoint that is being written.
#[derive(Debug)]
pub struct CheckpointWriter {
    identity: LogIdentity,
    block_size: u32,
    file: FileName,
    /// Where the next batch goes.
    at: u64,
    open: Batch,
    records: u64,
    state: State,
    /// Operations that are not answered.
    under_way: Vec<OpId>,
    next_op: u64,
    spare: Vec<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The file is being made.
    Creating,
    Writing,
    /// Its footer is on its way.
    Closing,
    /// It is being given its name.
    Publishing,
    Published,
    /// The disk is full, or failed: the file is of no use.
    Failed(DiskError),
}

impl CheckpointWriter {
    /// Begins a checkpoint of what holds from `position` on. `first_op` and the numbers behind it are its own.
    pub fn new(
        identity: LogIdentity,
        block_size: u32,
        position: LogPosition,
        first_op: u64,
        ops: &mut Vec<DiskOp>,
    ) -> CheckpointWriter {
        let file = FileName {
            kind: FileKind::Checkpoint,
            position,
        };
        let mut writer = CheckpointWriter {
            identity,
            block_size,
            file,
            at: 0,
            open: Batch::new(Block::default()),
            records: 0,
            state: State::Creating,
            under_way: Vec::new(),
            next_op: first_op,
            spare: Vec::new(),
        };
        let op = writer.next_op();
        ops.push(DiskOp::Create { op, file, size: 0 });
        writer
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record<'_>) {
        assert!(
            self.is_writing(),
            "a checkpoint that is closed takes no records"
        );
        self.open.push(record);
        self.records += 1;
    }

    /// More may be pushed.
    pub fn is_writing(&self) -> bool {
        matches!(self.state, State::Creating | State::Writing)
    }

    /// The disk keeps up: a slice may be pushed and written.
    pub fn is_ready(&self) -> bool {
        self.state == State::Writing && self.under_way.len() < 2
    }

    /// Bytes that were pushed and not written yet.
    pub fn open_size(&self) -> usize {
        self.open.size() - Batch::HEADER_SIZE
    }

    /// Bytes of the file so far.
    pub fn size(&self) -> u64 {
        self.at
    }

    /// Writes what was pushed.
    pub fn write(&mut self, clocks: Clocks, ops: &mut Vec<DiskOp>) {
        if self.open.is_empty() {
            return;
        }
        let spare = self.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.open, Batch::new(spare));
        let stamp = Stamp {
            identity: self.identity,
            position: LogPosition(self.at),
            durable_upto: self.file.position,
            clocks,
            place: Place::Checkpoint,
        };
        let block = batch.finish(&stamp, self.block_size);
        let (file, at, op) = (self.file, self.at, self.next_op());
        self.at += block.size() as u64;
        let sync = false; // Publishing makes all of it durable.
        ops.push(DiskOp::Write {
            op,
            file,
            at,
            block,
            sync,
        });
    }

    /// Writes the footer, and gives the file its name when everything is written. The log has to be durable up
    /// to what was pushed last, or the checkpoint would hold what is lost.
    pub fn close(&mut self, clocks: Clocks, ops: &mut Vec<DiskOp>) {
        let records = self.records;
        self.push(&Record::Footer(Footer { records }));
        self.write(clocks, ops);
        self.state = State::Closing;
    }

    /// Takes an answer of the disk, if it is one to this file. A disk that is full spoils the checkpoint alone.
    pub fn on_done(&mut self, done: DiskDone, ops: &mut Vec<DiskOp>) -> Option<DiskDone> {
        let Some(index) = self.under_way.iter().position(|op| *op == done.op) else {
            return Some(done);
        };
        self.under_way.swap_remove(index);
        self.spare.extend(done.block);
        if let Err(error) = done.result {
            self.state = State::Failed(error);
        }
        match self.state {
            State::Creating => self.state = State::Writing,
            State::Closing if self.under_way.is_empty() => {
                self.state = State::Publishing;
                let (file, op) = (self.file, self.next_op());
                ops.push(DiskOp::Publish { op, file });
            }
            State::Publishing => self.state = State::Published,
            State::Writing | State::Closing | State::Published | State::Failed(_) => {}
        }
        None
    }

    /// How it ended, once all its operations are answered: with the position from which on the log is
    /// needed; `None`: it goes on.
    pub fn outcome(&self) -> Option<Result<LogPosition, DiskError>> {
        match self.state {
            State::Published => Some(Ok(self.file.position)),
            State::Failed(error) if self.under_way.is_empty() => Some(Err(error)),
            State::Creating
            | State::Writing
            | State::Closing
            | State::Publishing
            | State::Failed(_) => None,
        }
    }

    /// The file.
    pub fn file(&self) -> FileName {
        self.file
    }

    /// Where the numbers of its operations go on.
    pub fn last_op(&self) -> u64 {
        self.next_op
    }

    fn next_op(&mut self) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.under_way.push(op);
        op
    }
}
