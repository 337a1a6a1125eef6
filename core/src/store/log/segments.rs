//! The segments of a log: one is always made ahead of the one that is written.
//!
//! Invariant: the segments stand one behind the other, from the first that is needed to the last that was
//! asked for.

use std::collections::VecDeque;
use std::time::Duration;

use super::names::{next_op, segment_name};
use crate::ids::LogPosition;
use crate::store::disk::{DiskError, DiskOp, FileName, OpId};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Segments {
    size: u64,
    /// Behind the last one.
    end: LogPosition,
    list: VecDeque<Segment>,
    /// Removals under way.
    removals: Vec<OpId>,
    /// When the disk is asked again for what it had no room for.
    retry_at: Option<Instant>,
    /// It had no room the last time.
    is_scarce: bool,
}

#[derive(Debug)]
struct Segment {
    position: LogPosition,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked(OpId),
    /// There was no room.
    Refused,
    Ready,
}

impl Segments {
    pub(super) fn new(size: u64) -> Segments {
        Segments {
            size,
            end: LogPosition(0),
            list: VecDeque::new(),
            removals: Vec::new(),
            retry_at: None,
            is_scarce: false,
        }
    }

    /// Asks for what is missing up to the segment behind the one of `next`.
    #[inline]
    pub(super) fn ask(&mut self, next: LogPosition, last_op: &mut u64, ops: &mut Vec<DiskOp>) {
        while self.end.0 <= next.0 + self.size {
            let op = next_op(last_op);
            self.list.push_back(Segment {
                position: self.end,
                state: State::Asked(op),
            });
            ops.push(self.create(op, self.end));
            self.end = LogPosition(self.end.0 + self.size);
        }
    }

    fn create(&self, op: OpId, position: LogPosition) -> DiskOp {
        DiskOp::Create {
            op,
            file: segment_name(position),
            size: self.size,
        }
    }

    /// Whether a batch at this position can be written.
    pub(super) fn is_ready(&self, position: LogPosition) -> bool {
        let first = self
            .list
            .front()
            .expect("the present one is never freed")
            .position;
        let index = (position.0 - first.0) / self.size;
        let segment = self.list.get(index as usize);
        segment.is_some_and(|segment| segment.state == State::Ready)
    }

    /// An answer of the disk.
    pub(super) fn on_done(
        &mut self,
        op: OpId,
        result: Result<(), DiskError>,
        now: Instant,
    ) -> Result<(), DiskError> {
        if let Some(index) = self.removals.iter().position(|one| *one == op) {
            self.removals.swap_remove(index);
            return result;
        }
        let asked = State::Asked(op);
        let segment = self.list.iter_mut().rev().find(|one| one.state == asked);
        let segment = segment.expect("the disk answers what it was asked");
        match result {
            Ok(()) => {
                segment.state = State::Ready;
                self.is_scarce = false;
            }
            // Nothing that was promised is touched: it may wait.
            Err(DiskError::Full) => {
                segment.state = State::Refused;
                self.retry_at = Some(now + RETRY_AFTER);
                self.is_scarce = true;
            }
            Err(DiskError::Failed(_)) => return result,
        }
        Ok(())
    }

    /// The disk had no room for the last segment that it was asked for.
    pub(super) fn is_scarce(&self) -> bool {
        self.is_scarce
    }

    /// When [`Segments::retry`] is due.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Asks again for what there was no room for.
    pub(super) fn retry(&mut self, last_op: &mut u64, ops: &mut Vec<DiskOp>) {
        self.retry_at = None;
        for index in 0..self.list.len() {
            if self.list[index].state == State::Refused {
                let op = next_op(last_op);
                self.list[index].state = State::Asked(op);
                ops.push(self.create(op, self.list[index].position));
            }
        }
    }

    /// The files in which something of this range stands.
    pub(super) fn between(
        &self,
        from: LogPosition,
        to: LogPosition,
    ) -> impl Iterator<Item = FileName> + use<> {
        let (first, end) = (from.0 / self.size, to.0.div_ceil(self.size));
        let size = self.size;
        (first..end).map(move |index| segment_name(LogPosition(index * size)))
    }

    /// Removes those that end at or before the position.
    pub(super) fn free_before(
        &mut self,
        position: LogPosition,
        last_op: &mut u64,
        ops: &mut Vec<DiskOp>,
    ) {
        while self
            .list
            .front()
            .is_some_and(|one| one.position.0 + self.size <= position.0)
        {
            let segment = self.list.pop_front().expect("there is a first one");
            assert_eq!(segment.state, State::Ready, "it has been written");
            let op = next_op(last_op);
            self.removals.push(op);
            let file = segment_name(segment.position);
            ops.push(DiskOp::Remove { op, file });
        }
    }
}

/// As often as the free space is looked at.
const RETRY_AFTER: Duration = Duration::from_secs(1);
