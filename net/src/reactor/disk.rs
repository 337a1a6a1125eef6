//! What the core asks of the disk: writes and syncs go to the ring, the rest to the keeper.
//!
//! Invariants:
//! - every operation is answered to the core once; `pending` holds those that are not.
//! - a file that can be written is in `files`, from the answer to its `Create` until it is published or removed. What
//!   is under way keeps it open beyond that.
//!
//! Not here: what is written, and which answers wait for it (`ringmq_core`).

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crossbeam::channel::Sender;
use ringmq_core::ids::ShardId;
use ringmq_core::shard::Event;
use ringmq_core::store::{Block, Clocks, DiskDone, DiskError, DiskOp, FileKind, FileName, OpId};
use ringmq_core::time::Instant;
use rustix::io::Errno;
use tracing::{error, warn};

use super::{Core, Reactor};
use crate::store::LogFailure;
use crate::store::keeper::{Errand, KeeperLink, Kept};
use ringmq_ring::{FileWrite, Ring, clock, wall_clock};

/// What the reactors share of the disk.
#[derive(Clone, Debug)]
pub(crate) struct DiskShared {
    pub(crate) keeper: KeeperLink,
    /// Where it is told that a log has failed.
    pub(crate) failures: Sender<LogFailure>,
}

/// The files of one shard.
#[derive(Debug)]
pub(super) struct Disk {
    shared: DiskShared,
    files: HashMap<FileName, Arc<OwnedFd>>,
    pending: HashMap<OpId, Pending>,
    /// The core knows that the disk is almost full.
    is_scarce: bool,
}

/// An operation that has no answer yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    file: FileName,
    /// The file is being made. Nothing that is recorded is in it.
    is_create: bool,
}

impl Disk {
    pub(super) fn new(shared: DiskShared) -> Disk {
        Disk {
            shared,
            files: HashMap::new(),
            pending: HashMap::new(),
            is_scarce: false,
        }
    }

    /// Files that can be written.
    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.files.len()
    }

    /// Nothing is under way but files that are being made: who ends does not need them, and they take seconds.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.values().all(|pending| pending.is_create)
    }

    /// Starts an operation.
    fn carry_out(&mut self, shard: ShardId, op: DiskOp, ring: &mut impl Ring) {
        let keeper = &self.shared.keeper;
        let is_create = matches!(op, DiskOp::Create { .. });
        let (id, file) = match op {
            DiskOp::Create { op, file, size } => {
                keeper.ask(shard, op, Errand::Create { file, size });
                (op, file)
            }
            DiskOp::Write {
                op,
                file,
                at,
                block,
                sync,
            } => {
                if file.kind == FileKind::Log && at >= HURRY_AT {
                    keeper.hurry();
                }
                ring.write(op, self.open_file(file), FileWrite { at, block, sync });
                (op, file)
            }
            DiskOp::Sync { op, file } => {
                ring.sync(op, self.open_file(file));
                (op, file)
            }
            DiskOp::Publish { op, file } => {
                self.files.remove(&file);
                keeper.ask(shard, op, Errand::Publish { file });
                (op, file)
            }
            DiskOp::Remove { op, file } => {
                self.files.remove(&file);
                keeper.ask(shard, op, Errand::Remove { file });
                (op, file)
            }
        };
        let before = self.pending.insert(id, Pending { file, is_create });
        assert!(before.is_none(), "an operation has a number of its own");
    }

    fn open_file(&self, file: FileName) -> &Arc<OwnedFd> {
        let file = self.files.get(&file);
        file.expect("what is written was created, and neither published nor removed")
    }
}

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Closes the turn of the core, before its effects become visible, and starts what it asks of the disk.
    pub(super) fn end_turn(&mut self, now: Instant) {
        let Some(disk) = &mut self.disk else {
            let is_asked = !self.outbox.disk.is_empty();
            assert!(!is_asked, "a core without a log asks nothing of the disk");
            return;
        };
        // Read anew: a batch must not seem older than what this turn has heard of other shards, for a backup cuts
        // all logs at one time.
        let clocks = Clocks {
            boot: clock().max(now),
            wall_ns: wall_clock(),
        };
        self.core.end_turn(clocks, &mut self.outbox);
        for op in self.outbox.disk.drain(..) {
            disk.carry_out(self.id, op, &mut self.ring);
        }
        if let Some(error) = self.outbox.disk_failure.take() {
            let shard = self.id;
            error!(%shard, %error, "the log failed: no acknowledgement leaves any more");
            self.shared.settled.give_up();
            // If nobody listens, nobody can end the broker in an orderly way either.
            let _ = disk.shared.failures.send(LogFailure { shard, error });
        }
    }

    /// Takes what the keeper has done and found.
    pub(super) fn take_kept(&mut self, now: Instant) {
        let is_scarce = self.inbox().is_scarce();
        if let Some(disk) = &mut self.disk
            && disk.is_scarce != is_scarce
        {
            disk.is_scarce = is_scarce;
            let event = Event::SpaceChanged { is_scarce };
            self.core.handle(now, event, &mut self.outbox);
        }
        while let Some(Kept { done, opened }) = self.inbox().take_kept() {
            if let (Some((name, file)), Some(disk)) = (opened, &mut self.disk) {
                disk.files.insert(name, file);
            }
            self.on_disk_done(now, done);
        }
    }

    /// A write or a sync ended.
    pub(super) fn on_stored(
        &mut self,
        now: Instant,
        op: OpId,
        result: Result<(), Errno>,
        block: Option<Block>,
    ) {
        let result = result.map_err(|errno| match errno {
            Errno::NOSPC | Errno::DQUOT => DiskError::Full,
            other => DiskError::Failed(other.raw_os_error()),
        });
        self.on_disk_done(now, DiskDone { op, result, block });
    }

    fn on_disk_done(&mut self, now: Instant, done: DiskDone) {
        let disk = self.disk.as_mut();
        let disk = disk.expect("nobody else asks anything of the disk");
        let pending = disk.pending.remove(&done.op);
        let Pending { file, .. } = pending.expect("an operation is answered once");
        match done.result {
            Ok(()) => {}
            Err(DiskError::Full) => warn!(shard = %self.id, %file, "no room for the file"),
            Err(error) => warn!(shard = %self.id, %file, %error, "the disk failed"),
        }
        let event = Event::DiskDone(done);
        self.core.handle(now, event, &mut self.outbox);
    }
}

/// A log that is so far into its segment may soon need the next one, in bytes: a quarter of the smallest segment.
const HURRY_AT: u64 = 16 << 20;
