//! Checkpoints: what the shard holds, written slice by slice between turns, so that the log before it can go.
//!
//! A slice says what holds when it is made. The log from the position of the checkpoint on tells the rest, and
//! tells some of it twice, which changes nothing (`store/recovered.rs`). Rules, needed as `core/tests/it/models` shows
//! (`checkpoint.rs`, and `origins.rs` for the last one):
//! 1. A session's deliveries may be spread over slices; `Numbers` comes with the last one.
//! 2. A body is known by a number, not by its address, which is used again: so the message is kept
//!    as long as its number.
//! 3. The file is closed only when the log is durable up to the last slice, and when what sessions that
//!    ended had owed is durable elsewhere.
//! 4. It says nothing of origins: so the receipts of all messages before its position are durable, too.
//!
//! Not here: the file (`store/checkpoint.rs`).

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::Shard;
use super::checkpoints::{Current, Step};
use super::entry::recorded::{terms_of, will_record};
use super::mail::message::ShardMsg;
use super::mail::outbox::Outbox;
use crate::codec::RetainHandling;
use crate::ids::{ClientKey, DeliveryNo, LogPosition, SessionId, SessionNo, TurnSeq};
use crate::message::MessageParts;
use crate::session::{Delivery, Expiry, Session, Unsettled, unsettled};
use crate::store::{
    BodyNo, CheckpointWriter, Clocks, DiskOp, MessageRecord, OpId, Opened, Receiver, ReceiverTerms,
    Receivers, Record, SubscribedRecord, ticket_records,
};
use crate::time::Instant;
use crate::topic::{Cursor, PageSize};

impl Shard {
    /// Has checkpoints made whenever the log has grown by so many bytes; for tests and the simulator, whose logs are
    /// small.
    pub fn set_checkpoint_bytes_min(&mut self, bytes: u64) {
        self.checkpoints.bytes_min = bytes;
    }

    /// Goes on with a checkpoint, or begins one; at the end of a turn, when the log has got what the turn recorded.
    pub(super) fn checkpoint(&mut self, clocks: Clocks, out: &mut Outbox) {
        let Some(position) = self.dispatch.journal.position() else {
            return;
        };
        let is_scarce = self.dispatch.journal.is_scarce();
        self.checkpoints.note_scarce(is_scarce, clocks.boot);
        // What is still owed by sessions of an earlier start is in no slot, and in no turn before it is given.
        if self.owed.is_empty()
            && self.checkpoints.are_due(position, clocks.boot)
            && self.dispatch.journal.can_begin_segment()
        {
            self.begin_checkpoint(clocks, out);
        }
        let ops = &mut out.disk;
        let Some(mut current) = self.checkpoints.current.take() else {
            return;
        };
        self.write_slice(&mut current, position, clocks, ops);
        if let Step::Log(turn) = current.step
            && current.receipts_missing == 0
            && self
                .dispatch
                .journal
                .is_through(turn, current.writer.file().position)
            && current.writer.is_ready()
        {
            current.writer.close(clocks, ops);
            current.step = Step::Closed;
        }
        match current.writer.outcome() {
            None => self.checkpoints.current = Some(current),
            Some(result) => self.end_checkpoint(*current, result.is_ok(), clocks.boot, ops),
        }
    }

    fn begin_checkpoint(&mut self, clocks: Clocks, out: &mut Outbox) {
        let ops = &mut out.disk;
        let (identity, block_size) = self.dispatch.journal.format().expect("there is a log");
        let position = self.dispatch.journal.begin_segment(clocks, ops);
        let checkpoints = &mut self.checkpoints;
        let first_op = checkpoints.next_op;
        let writer = CheckpointWriter::new(identity, block_size, position, first_op, ops);
        checkpoints.is_wanted = false;
        checkpoints.last_at = position;
        checkpoints.current = Some(Box::new(Current {
            writer,
            step: Step::Sessions(0, None),
            bodies: HashMap::default(),
            paced_at: position,
            due_at: clocks.boot,
            receipts_missing: self.config.shards - 1,
        }));
        for shard in self.other_shards() {
            let checkpoint = position;
            out.post(shard, ShardMsg::ReceiptsWanted { checkpoint });
        }
    }

    fn end_checkpoint(
        &mut self,
        current: Current,
        is_ok: bool,
        now: Instant,
        ops: &mut Vec<DiskOp>,
    ) {
        if let Step::Retained(cursor) = current.step {
            self.retained.close(cursor);
        }
        let file = current.writer.file();
        let checkpoints = &mut self.checkpoints;
        checkpoints.next_op = current.writer.last_op();
        checkpoints.wait_if_scarce(now);
        let unneeded = if is_ok {
            checkpoints.last_size = current.writer.size();
            self.dispatch.journal.free_before(file.position, ops);
            checkpoints.previous.replace(file)
        } else {
            Some(file) // It is tried again when the log has grown as much once more.
        };
        if let Some(file) = unneeded {
            let op = OpId(checkpoints.next_op);
            checkpoints.next_op += 1;
            checkpoints.removals.push(op);
            ops.push(DiskOp::Remove { op, file });
        }
    }

    /// Writes the next slice, if it is due: a fixed rate, and at least as much as was logged meanwhile, or a busy
    /// log would starve it.
    fn write_slice(
        &mut self,
        current: &mut Current,
        position: LogPosition,
        clocks: Clocks,
        ops: &mut Vec<DiskOp>,
    ) {
        let logged = position.0.saturating_sub(current.paced_at.0) as usize;
        let is_due = current.due_at <= clocks.boot || logged >= SLICE_SIZE;
        if !is_due || !current.writer.is_ready() {
            return;
        }
        let size = SLICE_SIZE.max(logged.min(SLICE_SIZE_MAX));
        current.paced_at = position;
        current.due_at = clocks.boot + SLICE_PAUSE;
        while current.writer.open_size() < size {
            match std::mem::replace(&mut current.step, Step::Closed) {
                Step::Sessions(slot, part) => {
                    current.step = self.write_sessions(current, slot, part, size);
                }
                Step::Retained(cursor) => {
                    current.step = self.write_retained(current, cursor, clocks.boot);
                }
                done @ (Step::Log(_) | Step::Closed) => {
                    current.step = done;
                    break;
                }
            }
        }
        current.writer.write(clocks, ops);
    }

    /// Writes what one slot holds, or the next part of it.
    fn write_sessions(
        &mut self,
        current: &mut Current,
        slot: u32,
        part: Option<(SessionId, DeliveryNo)>,
        size: usize,
    ) -> Step {
        let (found, has_more) = self.dispatch.sessions.at(slot);
        let next = if has_more {
            Step::Sessions(slot + 1, None)
        } else {
            Step::Retained(self.retained.open())
        };
        let Some(id) = found else { return next };
        let session = self.dispatch.sessions.get(id).expect("just found");
        let Some(no) = session.no else { return next };
        let from = match part {
            // The slot may be another session's by now: what was begun has ended.
            Some((begun, from)) if begun == id => from,
            Some(_) | None => {
                self.write_session(&mut current.writer, id, no);
                DeliveryNo(0)
            }
        };
        let session = self.dispatch.sessions.get(id).expect("just found");
        for (delivery, left) in unsettled(&session.window, &session.queue, from) {
            if current.writer.open_size() >= size {
                return Step::Sessions(slot, Some((id, delivery)));
            }
            write_delivery(current, no, delivery, &left);
        }
        let next_delivery = session.queue.next_number();
        current.writer.push(&Record::Numbers { no, next_delivery });
        next
    }

    /// Writes everything of a session but its deliveries.
    fn write_session(&self, writer: &mut CheckpointWriter, id: SessionId, no: SessionNo) {
        let session = self.dispatch.sessions.get(id).expect("the caller found it");
        writer.push(&Record::Opened(Opened {
            no,
            client_id: &session.client_id,
            terms: terms_of(session),
        }));
        if let Some(will) = &session.will {
            writer.push(&Record::Will(will_record(no, will)));
        }
        if session.link.is_none() {
            let at = away_since(session);
            writer.push(&Record::Away { no, at });
        }
        for filter in &session.subscriptions {
            let options = self.options_of(id, filter);
            // It has been sent its retained messages, or has a gather.
            let handling = RetainHandling::default();
            let record = SubscribedRecord::new(no, filter, options, handling);
            writer.push(&Record::Subscribed(record));
            if session.feed.as_ref().is_some_and(|feed| feed.has(filter)) {
                let filter = filter.clone();
                writer.push(&Record::Gather { no, filter });
            }
        }
        for id in session.receipts.iter() {
            writer.push(&Record::Received { no, id });
        }
        let receipts = &session.receipts;
        // What is not in here is complete by the time of the footer.
        ticket_records(
            no,
            receipts.next_ticket(),
            receipts.partials(),
            &mut |record| {
                writer.push(record);
            },
        );
    }

    fn write_retained(&mut self, current: &mut Current, cursor: Cursor, now: Instant) -> Step {
        let mut messages = Vec::new();
        let rest = self
            .retained
            .page_of_all(cursor, RETAINED_PAGE, now, &mut messages);
        for message in messages {
            let parts = message.parts();
            if parts.publisher != ClientKey::BROKER {
                current.writer.push(&Record::Retained(parts.into()));
            }
        }
        match rest {
            Some(cursor) => Step::Retained(cursor),
            // What the present turn does is still to come.
            None => Step::Log(TurnSeq(self.dispatch.journal.turn().0 - 1)),
        }
    }
}

fn write_delivery(current: &mut Current, no: SessionNo, delivery: DeliveryNo, left: &Unsettled) {
    let (message, terms) = match left {
        Unsettled::Released => {
            let record = Record::Phase2 { no, delivery };
            return current.writer.push(&record);
        }
        Unsettled::Unsent(message) => (message, terms(message, false)),
        Unsettled::MaybeSent(message) => (message, terms(message, true)),
    };
    let receivers = [Receiver {
        no,
        delivery,
        terms,
    }];
    let receivers = Receivers::listed(&receivers);
    let message = &message.message;
    let address = Arc::as_ptr(message) as usize;
    if let Some((body, _)) = current.bodies.get(&address) {
        let body = *body;
        let record = Record::MoreReceivers { body, receivers };
        return current.writer.push(&record);
    }
    let body = (Arc::strong_count(message) > 1).then(|| {
        let body = BodyNo(current.bodies.len() as u64);
        current.bodies.insert(address, (body, message.clone()));
        body
    });
    let parts = MessageParts {
        author: None,
        ..message.parts()
    };
    current.writer.push(&Record::Message(MessageRecord {
        message: parts.into(),
        origin: None, // The log from its position on says so, or the receipt is durable.
        body,
        receivers,
    }));
}

fn terms(delivery: &Delivery, may_have_been_sent: bool) -> ReceiverTerms {
    ReceiverTerms {
        qos: delivery.qos,
        retain: delivery.retain,
        matched: delivery.matched.clone(),
        may_have_been_sent,
    }
}

/// Since when a client is away, as far as its timers know; nothing else depends on it.
fn away_since(session: &Session) -> Instant {
    let before = |at: Instant, span: Duration| {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(at.as_nanos().saturating_sub(nanos))
    };
    match (session.expires_at, session.expiry, session.will_at) {
        (Some(at), Expiry::After(span), _) => before(at, span),
        (_, _, Some(at)) => before(
            at,
            session.will.as_ref().map_or(Duration::ZERO, |w| w.delay),
        ),
        (_, _, None) => Instant::ZERO,
    }
}

/// What is written in one turn: 200 us of a core.
const SLICE_SIZE: usize = 64 * 1024;
/// The same, while the log is busy.
const SLICE_SIZE_MAX: usize = 1024 * 1024;
/// 64 MiB in a second.
const SLICE_PAUSE: Duration = Duration::from_millis(1);
const RETAINED_PAGE: PageSize = PageSize {
    messages: 256,
    bytes: SLICE_SIZE / 2,
    nodes: 4096,
};
