//! The log of one shard: what is written where, and how far it is durable.
//!
//! Records gather in the open batch. It is sealed, which gives it its position, and written as soon as
//! fewer than two writes are under way; meanwhile it grows, so a slow disk makes batches larger, without a
//! timer. A batch lies in one segment; what is left of a segment that is too small for the next batch ends with
//! an empty batch that says so.
//!
//! Invariants:
//! - sealed batches and those under way stand one behind the other up to `next`; a batch that was sealed
//!   never changes.
//! - what is durable is a prefix: a batch counts when all before it are durable too.
//! - a block that was written is never written again.
//! - after a failed operation nothing is ever durable again: what is on the disk is not known.
//!
//! Not here: who waits for what (`shard`), the contents of records, reading (`replay.rs`).

mod names;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use names::{next_op, segment_name};
use segments::Segments;

use super::batch::{Batch, LogIdentity, Place, Stamp};
use super::block::Block;
use super::disk::{Clocks, DiskDone, DiskError, DiskOp, OpId, Policy};
use super::record::Record;
use crate::ids::{LogPosition, ShardId, TurnSeq};
use crate::time::Instant;

/// What a log is made with.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Whose log.
    pub shard: ShardId,
    /// Of which start.
    pub epoch: u32,
    /// Of the data directory.
    pub log_id: u128,
    /// Bytes of a segment, a multiple of the block size. The largest record fits into one.
    pub segment_size: u64,
    /// What the disk writes as a whole: a power of two, at least 512.
    pub block_size: u32,
    /// When answers may leave.
    pub policy: Policy,
}

/// The log.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    segments: Segments,
    open: Batch,
    /// Somebody waits for what is in `open`, or has waited long enough.
    is_owed: bool,
    /// When what nobody waits for is written all the same.
    lazy_at: Option<Instant>,
    sealed: VecDeque<Sealed>,
    under_way: VecDeque<UnderWay>,
    /// Where the next batch goes that is sealed.
    next: LogPosition,
    /// The last turn that has ended.
    turn: TurnSeq,
    written: Reach,
    /// What survives the loss of power.
    synced: Reach,
    sync: Sync,
    vouching: Vouching,
    /// In `sealed` and `under_way`.
    pending_bytes: u64,
    next_op: u64,
    /// To be used again.
    spare: Vec<Block>,
    /// A batch waits for a segment that the disk has no room for: when that is over.
    starved_at: Option<Instant>,
    fault: Option<DiskError>,
}

/// How far something has come.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    /// All batches before it.
    position: LogPosition,
    /// All turns up to it, but for what was recorded lazily.
    turn: TurnSeq,
    /// All turns up to it.
    whole_turn: TurnSeq,
}

/// A batch that waits for its write.
#[derive(Debug)]
struct Sealed {
    batch: Batch,
    position: LogPosition,
    place: Place,
    reach: Reach,
}

/// A batch that is being written.
#[derive(Debug)]
struct UnderWay {
    op: OpId,
    size: u64,
    reach: Reach,
    is_done: bool,
}

/// Syncs by the clock ([`Policy::Interval`]).
#[derive(Debug, Default)]
struct Sync {
    at: Option<Instant>,
    /// Under way.
    ops: Vec<OpId>,
    /// What is durable when they are done.
    target: Reach,
}

/// The last batch before a pause could not be told from a torn one, if it rots: an empty batch behind it
/// says that it was durable.
#[derive(Debug, Default)]
struct Vouching {
    /// Behind the last batch with records.
    needed: LogPosition,
    /// The largest `durable_upto` written.
    given: LogPosition,
    /// When the log has been idle for long enough.
    at: Option<Instant>,
}

impl Log {
    /// An empty log, at position 0. `ops`: makes its first segments.
    pub fn new(config: LogConfig, ops: &mut Vec<DiskOp>) -> Log {
        let block_size = u64::from(config.block_size);
        assert!(
            block_size.is_power_of_two() && block_size >= 512,
            "blocks of {block_size} bytes cannot be"
        );
        assert!(
            config.segment_size > 0 && config.segment_size.is_multiple_of(block_size),
            "segments of {} bytes cannot be",
            config.segment_size
        );
        let mut log = Log {
            config,
            segments: Segments::new(config.segment_size),
            open: Batch::new(Block::with_capacity(BLOCK_CAPACITY)),
            is_owed: false,
            lazy_at: None,
            sealed: VecDeque::new(),
            under_way: VecDeque::new(),
            next: LogPosition(0),
            turn: TurnSeq(0),
            written: Reach::default(),
            synced: Reach::default(),
            sync: Sync::default(),
            vouching: Vouching::default(),
            pending_bytes: 0,
            next_op: 0,
            spare: Vec::new(),
            starved_at: None,
            fault: None,
        };
        log.segments.ask(log.next, &mut log.next_op, ops);
        log
    }

    /// Records something that an answer of this turn waits for.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        self.is_owed = true;
        self.append(record);
    }

    /// Records something that nobody waits for: it goes with the next batch, or after 10 ms.
    #[inline]
    pub fn push_lazy(&mut self, record: &Record<'_>) {
        self.append(record);
    }

    #[inline]
    fn append(&mut self, record: &Record<'_>) {
        let size = self.open.size();
        self.open.push(record);
        if self.open.size() as u64 > self.config.segment_size {
            self.split_at(size);
        }
    }

    /// What belongs together does not fit into one segment.
    #[cold]
    fn split_at(&mut self, size: usize) {
        let mut rest = Batch::new(self.spare_block());
        self.open.split_off(size, &mut rest);
        assert!(
            rest.size() as u64 <= self.config.segment_size,
            "a record of {} bytes does not fit into a segment of {}",
            rest.size(),
            self.config.segment_size
        );
        self.seal_and_open(rest);
    }

    /// An event was handled: what it recorded stays together, but a next one may go to another batch.
    #[inline]
    pub fn end_event(&mut self) {
        if self.open.size() > BATCH_SIZE_ENOUGH {
            self.seal_open();
        }
    }

    /// What was pushed so far belongs to turns up to this one.
    pub fn end_turn(&mut self, turn: TurnSeq, clocks: Clocks, ops: &mut Vec<DiskOp>) {
        assert!(turn > self.turn, "turn {turn:?} after {:?}", self.turn);
        self.turn = turn;
        if self.fault.is_some() {
            self.open = Batch::new(Block::default());
            return;
        }
        if !self.open.is_empty() && !self.is_owed {
            self.lazy_at.get_or_insert(clocks.boot + LAZY_MAX);
        }
        let (is_owed, is_open) = (self.is_owed, !self.open.is_empty());
        let last = self.last_reach();
        if !is_owed {
            last.turn = turn;
        }
        if !is_open {
            last.whole_turn = turn;
        }
        self.submit(clocks, ops);
    }

    /// The disk has answered. An error is for ever, and comes again with every other answer: nothing that
    /// waits may be answered any more.
    pub fn on_done(
        &mut self,
        done: DiskDone,
        clocks: Clocks,
        ops: &mut Vec<DiskOp>,
    ) -> Result<(), DiskError> {
        if let Some(block) = done.block
            && self.spare.len() < SPARE_COUNT_MAX
            && block.capacity() <= SPARE_SIZE_MAX
        {
            self.spare.push(block);
        }
        if self.fault.is_none()
            && let Err(fault) = self.settle(done.op, done.result, clocks)
        {
            self.fault = Some(fault);
        }
        self.submit(clocks, ops);
        self.fault.map_or(Ok(()), Err)
    }

    fn settle(
        &mut self,
        op: OpId,
        result: Result<(), DiskError>,
        clocks: Clocks,
    ) -> Result<(), DiskError> {
        if let Some(write) = self.under_way.iter_mut().find(|write| write.op == op) {
            result?;
            write.is_done = true;
            self.note_written(clocks);
        } else if let Some(index) = self.sync.ops.iter().position(|one| *one == op) {
            result?;
            self.sync.ops.swap_remove(index);
            if self.sync.ops.is_empty() {
                self.note_synced(self.sync.target, clocks);
            }
        } else {
            self.segments.on_done(op, result, clocks.boot)?;
        }
        Ok(())
    }

    fn note_written(&mut self, clocks: Clocks) {
        while self.under_way.front().is_some_and(|write| write.is_done) {
            let write = self.under_way.pop_front().expect("there is a first one");
            self.written = write.reach;
            self.pending_bytes -= write.size;
        }
        match self.config.policy {
            Policy::Always => self.note_synced(self.written, clocks),
            Policy::Interval(span) => self.plan_sync(span, clocks),
        }
    }

    fn note_synced(&mut self, upto: Reach, clocks: Clocks) {
        if upto.position > self.synced.position {
            self.synced = upto;
            self.vouching.at = Some(clocks.boot + IDLE_MIN);
        }
        if let Policy::Interval(span) = self.config.policy {
            self.plan_sync(span, clocks);
        }
    }

    fn plan_sync(&mut self, span: Duration, clocks: Clocks) {
        if self.sync.ops.is_empty() && self.written.position > self.synced.position {
            self.sync.at.get_or_insert(clocks.boot + span);
        }
    }

    /// When to call [`Log::on_deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        if self.fault.is_some() {
            return None;
        }
        let idle = self.vouching.at.filter(|_| self.has_to_vouch());
        let room = [self.segments.retry_at(), self.starved_at];
        let deadlines = [self.lazy_at, self.sync.at, idle].into_iter().chain(room);
        deadlines.flatten().min()
    }

    /// Nothing else is going on, and the last batch with records has nobody to vouch for it.
    fn has_to_vouch(&self) -> bool {
        self.vouching.needed > self.vouching.given
            && self.synced.position >= self.vouching.needed
            && self.under_way.is_empty()
            && self.sealed.is_empty()
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, clocks: Clocks, ops: &mut Vec<DiskOp>) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= clocks.boot);
        if self.fault.is_some() {
            return;
        }
        if is_due(self.sync.at) {
            self.sync.at = None;
            self.submit_syncs(ops);
        }
        if is_due(self.starved_at) {
            // What clients do in the meantime, acknowledgements above all, would pile up without end.
            self.fault = Some(DiskError::Full);
            return;
        }
        if is_due(self.segments.retry_at()) {
            self.segments.retry(&mut self.next_op, ops);
        }
        if is_due(self.lazy_at) {
            self.lazy_at = None;
            self.is_owed = true;
        } else if is_due(self.vouching.at) && self.has_to_vouch() {
            let end = LogPosition(self.next.0 + u64::from(self.config.block_size));
            self.seal_empty(Place::Log, end);
        }
        self.submit(clocks, ops);
    }

    fn submit_syncs(&mut self, ops: &mut Vec<DiskOp>) {
        self.sync.target = self.written;
        let (from, to) = (self.synced.position, self.sync.target.position);
        for file in self.segments.between(from, to) {
            let op = next_op(&mut self.next_op);
            self.sync.ops.push(op);
            ops.push(DiskOp::Sync { op, file });
        }
    }

    /// Ends the open batch, which has records.
    fn seal_open(&mut self) {
        let next = Batch::new(self.spare_block());
        self.is_owed = false;
        self.lazy_at = None;
        self.seal_and_open(next);
    }

    fn seal_and_open(&mut self, next: Batch) {
        let batch = std::mem::replace(&mut self.open, next);
        if self.size_on_disk(&batch) > self.left_of_segment() {
            self.end_segment();
        }
        let reach = Reach {
            position: LogPosition(self.next.0 + self.size_on_disk(&batch)),
            turn: self.turn,
            whole_turn: self.turn,
        };
        self.vouching.needed = reach.position;
        self.seal(batch, Place::Log, reach);
    }

    /// What is left of the segment is not used.
    fn end_segment(&mut self) {
        let position = LogPosition(self.next.0 + self.left_of_segment());
        self.seal_empty(Place::EndOfSegment, position);
    }

    /// A batch without records makes no turn durable.
    fn seal_empty(&mut self, place: Place, end: LogPosition) {
        let reach = Reach {
            position: end,
            ..*self.last_reach()
        };
        self.seal(Batch::new(Block::default()), place, reach);
    }

    /// Puts a batch behind all others.
    fn seal(&mut self, batch: Batch, place: Place, reach: Reach) {
        self.pending_bytes += self.size_on_disk(&batch);
        self.sealed.push_back(Sealed {
            batch,
            position: self.next,
            place,
            reach,
        });
        self.next = reach.position;
    }

    /// How far everything is when the last batch is written that there is.
    fn last_reach(&mut self) -> &mut Reach {
        let under_way = self.under_way.back_mut().map(|batch| &mut batch.reach);
        let sealed = self.sealed.back_mut().map(|batch| &mut batch.reach);
        sealed.or(under_way).unwrap_or(&mut self.written)
    }

    fn size_on_disk(&self, batch: &Batch) -> u64 {
        (batch.size() as u64).next_multiple_of(u64::from(self.config.block_size))
    }

    /// The whole segment, if nothing is in it.
    fn left_of_segment(&self) -> u64 {
        self.config.segment_size - self.next.0 % self.config.segment_size
    }

    /// Writes what may be written.
    fn submit(&mut self, clocks: Clocks, ops: &mut Vec<DiskOp>) {
        if self.fault.is_some() {
            return;
        }
        while self.under_way.len() < UNDER_WAY_MAX {
            if self.sealed.is_empty() && self.is_owed {
                self.seal_open();
            }
            self.segments.ask(self.next, &mut self.next_op, ops);
            let Some(position) = self.sealed.front().map(|batch| batch.position) else {
                return;
            };
            if !self.segments.is_ready(position) {
                if self.segments.is_scarce() {
                    self.starved_at.get_or_insert(clocks.boot + STARVED_MAX);
                }
                return;
            }
            self.starved_at = None;
            let batch = self.sealed.pop_front().expect("there is a first one");
            ops.push(self.write(batch, clocks));
        }
        self.segments.ask(self.next, &mut self.next_op, ops);
    }

    fn write(&mut self, sealed: Sealed, clocks: Clocks) -> DiskOp {
        let stamp = Stamp {
            identity: self.identity(),
            position: sealed.position,
            durable_upto: self.synced.position,
            clocks,
            place: sealed.place,
        };
        self.vouching.given = self.synced.position;
        let block = sealed.batch.finish(&stamp, self.config.block_size);
        let op = next_op(&mut self.next_op);
        self.under_way.push_back(UnderWay {
            op,
            size: block.size() as u64,
            reach: sealed.reach,
            is_done: false,
        });
        let at = sealed.position.0 % self.config.segment_size;
        DiskOp::Write {
            op,
            file: segment_name(LogPosition(sealed.position.0 - at)),
            at,
            block,
            sync: self.config.policy == Policy::Always,
        }
    }

    /// Begins a new segment, for a checkpoint: what was recorded so far is before the position, all else
    /// from there on.
    pub fn begin_segment(&mut self, clocks: Clocks, ops: &mut Vec<DiskOp>) -> LogPosition {
        if !self.open.is_empty() {
            self.seal_open();
        }
        if !self.next.0.is_multiple_of(self.config.segment_size) {
            self.end_segment();
        }
        // Nothing else may be recorded for a long time, and the checkpoint waits for this.
        self.submit(clocks, ops);
        self.next
    }

    /// A checkpoint is durable from where on the log is needed: removes the segments before it.
    pub fn free_before(&mut self, position: LogPosition, ops: &mut Vec<DiskOp>) {
        assert!(
            position <= self.synced.position,
            "the checkpoint came before its log"
        );
        self.segments.free_before(position, &mut self.next_op, ops);
    }

    /// The last turn up to which everything is as safe as the policy says, but for what was recorded
    /// lazily.
    pub fn durable(&self) -> TurnSeq {
        self.written.turn
    }

    /// As [`Log::durable`], with what was recorded lazily.
    pub fn durable_with_lazy(&self) -> TurnSeq {
        self.written.whole_turn
    }

    /// Where the next batch goes, if it fits into its segment.
    pub fn position(&self) -> LogPosition {
        self.next
    }

    /// Everything before it survives the loss of power.
    pub fn synced(&self) -> LogPosition {
        self.synced.position
    }

    /// What was recorded up to a turn survives the loss of power, if it is as safe as the policy says.
    pub fn is_synced(&self, turn: TurnSeq) -> bool {
        !self.may_forget() || self.synced_reach().turn >= turn
    }

    /// A loss of power may take what is as safe as the policy says.
    pub fn may_forget(&self) -> bool {
        self.config.policy != Policy::Always
    }

    /// As [`Log::durable_with_lazy`], for what survives the loss of power.
    pub fn synced_with_lazy(&self) -> TurnSeq {
        self.synced_reach().whole_turn
    }

    fn synced_reach(&self) -> Reach {
        if self.synced.position == self.written.position {
            self.written // With turns that needed nothing written.
        } else {
            self.synced
        }
    }

    /// Why nothing is durable any more.
    pub fn fault(&self) -> Option<DiskError> {
        self.fault
    }

    /// A new segment can be begun: it is there.
    pub fn can_begin_segment(&self) -> bool {
        let left = self.left_of_segment();
        left == self.config.segment_size || self.segments.is_ready(LogPosition(self.next.0 + left))
    }

    /// Bytes recorded and not yet as safe as the policy says.
    pub fn pending_bytes(&self) -> u64 {
        let open = (self.open.size() - Batch::HEADER_SIZE) as u64;
        self.pending_bytes + open
    }

    /// The disk had no room for the next segment; it is asked again each second.
    pub fn is_scarce(&self) -> bool {
        self.segments.is_scarce()
    }

    /// What the disk writes as a whole, in bytes.
    pub fn block_size(&self) -> u32 {
        self.config.block_size
    }

    /// What every batch of it says; those of its checkpoints too.
    pub fn identity(&self) -> LogIdentity {
        LogIdentity {
            log_id: self.config.log_id,
            epoch: self.config.epoch,
            shard: self.config.shard,
        }
    }

    fn spare_block(&mut self) -> Block {
        let spare = self.spare.pop();
        spare.unwrap_or_else(|| Block::with_capacity(BLOCK_CAPACITY))
    }
}

/// Two: while one is made durable, the next one is written. More would only make smaller batches.
const UNDER_WAY_MAX: usize = 2;
/// Beyond this a batch is long enough for any disk.
const BATCH_SIZE_ENOUGH: usize = 1 << 20;
/// What nobody waits for is written after so long.
const LAZY_MAX: Duration = Duration::from_millis(10);
/// A batch waits so long for a segment that there is no room for.
const STARVED_MAX: Duration = Duration::from_secs(10);
/// A pause of so long is not a gap between two batches of a busy log.
const IDLE_MIN: Duration = Duration::from_millis(10);
/// What a turn of a busy shard records fits.
const BLOCK_CAPACITY: usize = 64 << 10;
/// One for each write, one for the open batch.
const SPARE_COUNT_MAX: usize = UNDER_WAY_MAX + 1;
/// A larger one goes back to the allocator.
const SPARE_SIZE_MAX: usize = 4 << 20;
