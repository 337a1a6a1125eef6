//! Where a shard records what has to outlive it, and learns what is durable.
//!
//! Handlers push records and note what they post; the shard ends its turn here, and hears which answers may leave.
//! Without a data directory there is no log: nothing is recorded, every turn is done, and this costs one test per call.
//!
//! Invariants:
//! - `receivers` is empty between two messages, `settled` between two turns.
//! - once the log has failed, nothing is released any more.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::batch::LogIdentity;
use super::disk::{Clocks, DiskDone, DiskError, DiskOp};
use super::gate::{After, Gate, Released};
use super::log::{Log, LogConfig};
use super::record::{
    DeliveryRange, DeliveryRanges, MessageRecord, Receiver, Receivers, Record, StoredMessage,
};
use crate::ids::{DeliveryNo, LogPosition, PacketId, SessionId, SessionNo, ShardId, TurnSeq};
use crate::message::MessageParts;
use crate::origin::Origin;
use crate::session::{LogProgress, Until, Will};
use crate::time::Instant;
use crate::topic::ShardSet;

/// The journal of one shard.
#[derive(Debug, Default)]
pub struct Journal(Option<Box<Recording>>);

#[derive(Debug)]
struct Recording {
    log: Log,
    /// Make the first segments; the disk gets them at the end of the first turn.
    first_ops: Vec<DiskOp>,
    gate: Gate,
    /// Sessions numbered so far in this epoch.
    sessions: u64,
    /// What the packet or message at hand has led to.
    effects: Effects,
    /// Who took the message at hand.
    receivers: Vec<Receiver>,
    /// Deliveries that ended in this turn.
    settled: Vec<(SessionNo, DeliveryNo)>,
    /// Sessions that have used up their packet identifiers, as far as the log knows.
    without_identifiers: Vec<SessionId>,
    /// Answers of the disk that came in this turn.
    done: Vec<DiskDone>,
    /// The shell has said that the disk is almost full.
    is_scarce: bool,
    /// Sessions for which something waits until it survives the loss of power.
    without_sync: Vec<SessionId>,
    /// As of this position they have been looked at.
    looked_at: LogPosition,
    receipts_wanted: Vec<ReceiptsWanted>,
    /// Wills whose `WillGone` is still to come: when they were published, and what is owed until then.
    // No secret seed: the broker numbers sessions.
    wills: HashMap<SessionNo, (TurnSeq, Box<Will>), FixedState>,
    /// QoS 2 messages whose `Spread` is still to come: their tickets, until PUBREL.
    spreading: HashMap<(SessionNo, PacketId), u64, FixedState>,
    has_failed: bool,
}

/// A checkpoint of another shard waits for receipts.
#[derive(Debug)]
struct ReceiptsWanted {
    shard: ShardId,
    checkpoint: LogPosition,
    until: ReceiptsAre,
}

#[derive(Debug)]
enum ReceiptsAre {
    /// Recorded, when all turns before this one are done.
    Recorded(TurnSeq),
    /// Durable, when all turns up to this one are.
    Durable(TurnSeq),
}

#[derive(Debug, Default)]
struct Effects {
    is_recorded: bool,
    posted: ShardSet,
}

/// What a turn led to.
#[derive(Debug, Default)]
pub struct TurnEnd {
    /// What has become possible.
    pub released: Released,
    /// The turn that ended, and the shards that are to get a mark behind what it posted to them.
    pub marks: Option<(TurnSeq, ShardSet)>,
    /// Checkpoints of other shards that need not wait for receipts of this one any longer.
    pub receipts_durable: Vec<(ShardId, LogPosition)>,
}

impl Journal {
    /// A journal that records, among `shards` shards.
    pub fn on(config: LogConfig, shards: usize) -> Journal {
        let mut first_ops = Vec::new();
        Journal(Some(Box::new(Recording {
            log: Log::new(config, &mut first_ops),
            first_ops,
            gate: Gate::new(shards),
            sessions: 0,
            effects: Effects::default(),
            receivers: Vec::new(),
            settled: Vec::new(),
            without_identifiers: Vec::new(),
            done: Vec::new(),
            is_scarce: false,
            without_sync: Vec::new(),
            looked_at: LogPosition(0),
            receipts_wanted: Vec::new(),
            wills: HashMap::default(),
            spreading: HashMap::default(),
            has_failed: false,
        })))
    }

    /// Something is recorded at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Before a packet or a message of another shard is handled.
    pub fn begin(&mut self) {
        if let Some(recording) = &mut self.0 {
            recording.effects = Effects::default();
        }
    }

    /// Records something that an answer promises.
    pub fn record(&mut self, record: &Record<'_>) {
        if let Some(recording) = &mut self.0 {
            recording.log.push(record);
            recording.note_recorded();
        }
    }

    /// Records something that no answer waits for.
    pub fn record_lazily(&mut self, record: &Record<'_>) {
        if let Some(recording) = &mut self.0 {
            recording.log.push_lazy(record);
            recording.gate.note_lazy();
        }
    }

    /// After an event: what it has recorded stays together in the log.
    pub fn end_event(&mut self) {
        if let Some(recording) = &mut self.0 {
            recording.log.end_event();
        }
    }

    /// Notes that something was posted which another shard may record.
    pub fn note_posted(&mut self, shard: ShardId) {
        if let Some(recording) = &mut self.0 {
            recording.gate.note_posted(shard);
            recording.effects.posted = recording.effects.posted.with(shard);
        }
    }

    /// After a message of another shard was handled: its next mark waits for what that led to.
    pub fn note_done_for(&mut self, source: ShardId) {
        if let Some(recording) = &mut self.0 {
            let Effects {
                is_recorded,
                posted,
            } = recording.effects;
            recording.gate.note_done_for(source, is_recorded, posted);
        }
    }

    /// The number of a new session that outlives its connection; `None`: nothing is recorded.
    pub fn number_session(&mut self) -> Option<SessionNo> {
        let recording = self.0.as_mut()?;
        let LogIdentity { epoch, shard, .. } = recording.log.identity();
        let counter = recording.sessions;
        recording.sessions += 1;
        Some(SessionNo::new(epoch, shard, counter))
    }

    /// A session took the message at hand.
    pub fn receive(&mut self, receiver: Receiver) {
        if let Some(recording) = &mut self.0 {
            recording.receivers.push(receiver);
            recording.note_recorded();
        }
    }

    /// Records the message at hand, if sessions that outlive their connections took it.
    pub fn end_message(&mut self, parts: &MessageParts<'_>, origin: Option<Origin>) {
        let Some(recording) = &mut self.0 else { return };
        if recording.receivers.is_empty() {
            return;
        }
        // Only who published a retained message matters later: a start may find that it is to be retained.
        let may_be_retained = parts.retain && origin.is_some();
        let message = MessageParts {
            author: parts.author.filter(|_| may_be_retained),
            ..*parts
        };
        let record = Record::Message(MessageRecord {
            message: StoredMessage::from(message),
            origin,
            body: None,
            receivers: Receivers::listed(&recording.receivers),
        });
        recording.log.push(&record);
        recording.receivers.clear();
    }

    /// A delivery is over.
    pub fn settle(&mut self, no: SessionNo, delivery: DeliveryNo) {
        if let Some(recording) = &mut self.0 {
            recording.settled.push((no, delivery));
        }
    }

    /// Records the identifier of a QoS 2 message, at once or when all shards that got it have it durably.
    pub fn record_receipt(&mut self, no: SessionNo, id: PacketId, origin: Option<Origin>) {
        let Some(recording) = &mut self.0 else { return };
        match origin {
            Some(origin) if !recording.effects.posted.is_empty() => {
                recording.spreading.insert((no, id), origin.ticket);
                self.then(After::Spread(origin));
            }
            Some(origin) => self.record(&Record::Spread(origin)),
            None => self.record(&Record::Received { no, id }),
        }
    }

    /// Records that the identifier of a QoS 2 message is free again.
    pub fn record_released(&mut self, no: SessionNo, id: PacketId) {
        let Some(recording) = &mut self.0 else { return };
        // PUBREL before PUBREC: nothing is left to be repeated, and a receipt behind this record would be one of
        // the next message.
        if let Some(ticket) = recording.spreading.remove(&(no, id)) {
            self.record(&Record::Spread(Origin { no, id, ticket }));
        }
        self.record(&Record::Released { no, id });
    }

    /// What is recorded once everything of the present turn is durable, everywhere.
    pub fn then(&mut self, after: After) {
        if let Some(recording) = &mut self.0 {
            recording.gate.then(after);
        }
    }

    /// The will of a session was published: it is owed until the present turn is durable, everywhere.
    pub fn note_will_published(&mut self, no: SessionNo, will: Box<Will>) {
        if let Some(recording) = &mut self.0 {
            let turn = recording.gate.turn();
            recording.gate.then(After::WillGone(no));
            let earlier = recording.wills.insert(no, (turn, will));
            assert!(earlier.is_none(), "another will took it over");
        }
    }

    /// Before a session gets another will: one that was published and is still owed is now the will of a new
    /// session, for the other one would replace it in the log.
    pub fn hand_over_will(&mut self, no: SessionNo) -> Option<(SessionNo, Box<Will>)> {
        let (turn, will) = self.0.as_mut()?.wills.remove(&no)?;
        let heir = self.number_session()?;
        let gate = &mut self.0.as_mut()?.gate;
        gate.replace(turn, After::WillGone(no), After::WillGone(heir));
        Some((heir, will))
    }

    /// The turn for which an answer has to wait that belongs to what is handled now, or to what was
    /// done in `last` for its session; `None`: it may leave.
    pub fn needs(&self, last: TurnSeq) -> Option<TurnSeq> {
        let recording = self.0.as_ref()?;
        let needs = self.turn_of_effects().unwrap_or(last);
        (!recording.gate.is_done(needs)).then_some(needs)
    }

    /// The present turn, if the packet or message at hand has had something recorded or posted.
    pub fn turn_of_effects(&self) -> Option<TurnSeq> {
        let recording = self.0.as_ref()?;
        let effects = &recording.effects;
        let has_any = effects.is_recorded || !effects.posted.is_empty();
        has_any.then(|| recording.gate.turn())
    }

    /// The present turn; 0 if nothing is recorded.
    pub fn turn(&self) -> TurnSeq {
        self.0.as_ref().map_or(TurnSeq(0), |on| on.gate.turn())
    }

    /// Everything of a turn is durable.
    pub fn is_done(&self, turn: TurnSeq) -> bool {
        self.0.as_ref().is_none_or(|on| on.gate.is_done(turn))
    }

    /// What something waits for is done.
    pub fn is_safe(&self, until: Until) -> bool {
        let Until { turn, is_synced } = until;
        self.0
            .as_ref()
            .is_none_or(|on| on.gate.is_done(turn) && (!is_synced || on.log.is_synced(turn)))
    }

    /// Something for a session waits until a turn that is done survives the loss of power.
    pub fn wait_for_sync(&mut self, session: SessionId) {
        if let Some(recording) = &mut self.0
            && recording.without_sync.last() != Some(&session)
        {
            recording.without_sync.push(session);
        }
    }

    /// A loss of power may take what was answered.
    pub fn may_forget(&self) -> bool {
        self.0.as_ref().is_some_and(|on| on.log.may_forget())
    }

    /// The disk is almost full: what would grow on it is to be refused.
    pub fn is_scarce(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|on| on.is_scarce || on.log.is_scarce())
    }

    /// The log has failed: nothing is released any more.
    pub fn has_failed(&self) -> bool {
        self.0.as_ref().is_some_and(|on| on.has_failed)
    }

    /// The shell has looked at the free space.
    pub fn set_scarce(&mut self, is_scarce: bool) {
        if let Some(recording) = &mut self.0 {
            recording.is_scarce = is_scarce;
        }
    }

    /// A new segment can be begun without waiting for the disk.
    pub fn can_begin_segment(&self) -> bool {
        self.0.as_ref().is_some_and(|on| on.log.can_begin_segment())
    }

    /// The turn to wait for by whoever waits for all turns up to `last`, and not only for that one.
    pub fn behind_all(&mut self, last: TurnSeq) -> TurnSeq {
        self.0.as_mut().map_or(last, |on| on.gate.behind_all(last))
    }

    /// An answer to a session waits for a turn that is not done.
    pub fn wait(&mut self, turn: TurnSeq, session: SessionId) {
        let recording = self
            .0
            .as_mut()
            .expect("only what is recorded is waited for");
        recording.gate.wait(turn, session);
    }

    /// How far the log is, for packet identifiers; `None`: there is none.
    pub fn progress(&self) -> Option<LogProgress> {
        let recording = self.0.as_ref()?;
        Some(LogProgress {
            durable: recording.log.synced_with_lazy(),
            recorded: if recording.settled.is_empty() {
                recording.gate.last_recorded()
            } else {
                recording.gate.turn()
            },
        })
    }

    /// A session waits until more of what it settled is durable.
    pub fn wait_for_identifiers(&mut self, id: SessionId) {
        if let Some(recording) = &mut self.0
            && recording.without_identifiers.last() != Some(&id)
        {
            recording.without_identifiers.push(id);
        }
    }

    /// The disk has answered; heeded at the end of the turn.
    pub fn on_disk_done(&mut self, done: DiskDone) {
        let recording = self.0.as_mut().expect("the disk was asked");
        recording.done.push(done);
    }

    /// A mark of another shard: it wants to hear when what it posted before is durable.
    pub fn on_mark(&mut self, from: ShardId, upto: TurnSeq) -> Released {
        let mut released = Released::default();
        if let Some(recording) = &mut self.0
            && !recording.has_failed
        {
            recording.gate.on_mark(from, upto, &mut released);
            recording.record_after(&mut released);
        }
        released
    }

    /// Another shard is durable for what was posted to it in these turns, the first and the last.
    pub fn on_peer_durable(&mut self, peer: ShardId, turns: [TurnSeq; 2]) -> Released {
        let mut released = Released::default();
        if let Some(recording) = &mut self.0
            && !recording.has_failed
        {
            recording.gate.on_peer_durable(peer, turns, &mut released);
            recording.record_after(&mut released);
        }
        released
    }

    /// A checkpoint of another shard waits for the receipts of what that shard has had from this one: it was posted
    /// in earlier turns.
    pub fn on_receipts_wanted(&mut self, shard: ShardId, checkpoint: LogPosition) {
        let recording = self.0.as_mut().expect("all shards have a log, or none");
        let until = ReceiptsAre::Recorded(recording.gate.turn());
        // An earlier checkpoint of it was given up.
        recording
            .receipts_wanted
            .retain(|wanted| wanted.shard != shard);
        recording.receipts_wanted.push(ReceiptsWanted {
            shard,
            checkpoint,
            until,
        });
    }

    /// Ends the turn: what it recorded is written as soon as the disk is free.
    ///
    /// # Errors
    /// The disk failed: nothing is durable any more, and the process has to end.
    pub fn end_turn(
        &mut self,
        clocks: Clocks,
        ops: &mut Vec<DiskOp>,
    ) -> Result<TurnEnd, DiskError> {
        match &mut self.0 {
            Some(recording) if !recording.has_failed => recording.end_turn(clocks, ops),
            Some(_) | None => Ok(TurnEnd::default()),
        }
    }

    /// When `end_turn` has something to do without an event.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.as_ref()?.log.deadline()
    }

    /// Bytes that are recorded and not durable.
    pub fn pending_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |on| on.log.pending_bytes())
    }

    /// Turns that are not durable everywhere.
    pub fn open_turns(&self) -> usize {
        self.0.as_ref().map_or(0, |on| on.gate.open_count())
    }

    /// Everything up to a turn is durable, everywhere and whatever nobody waited for included; and so is
    /// the log before this position.
    pub fn is_through(&self, turn: TurnSeq, position: LogPosition) -> bool {
        self.0.as_ref().is_none_or(|on| {
            on.log.synced_with_lazy() >= turn
                && on.log.synced() >= position
                && on.gate.oldest_open() > turn
        })
    }

    /// Begins a segment, from which on a checkpoint needs the log.
    pub fn begin_segment(&mut self, clocks: Clocks, ops: &mut Vec<DiskOp>) -> LogPosition {
        let recording = self.0.as_mut().expect("there is a log");
        recording.log.begin_segment(clocks, ops)
    }

    /// A checkpoint is durable: segments before this are not needed any more.
    pub fn free_before(&mut self, position: LogPosition, ops: &mut Vec<DiskOp>) {
        if let Some(recording) = &mut self.0 {
            recording.log.free_before(position, ops);
        }
    }

    /// Whose batches the log consists of, and the size of its blocks.
    pub fn format(&self) -> Option<(LogIdentity, u32)> {
        let recording = self.0.as_ref()?;
        Some((recording.log.identity(), recording.log.block_size()))
    }

    /// Where the log goes on; `None`: there is none.
    pub fn position(&self) -> Option<LogPosition> {
        Some(self.0.as_ref()?.log.position())
    }
}

impl Recording {
    fn note_recorded(&mut self) {
        self.effects.is_recorded = true;
        self.gate.note_recorded();
    }

    fn end_turn(&mut self, clocks: Clocks, ops: &mut Vec<DiskOp>) -> Result<TurnEnd, DiskError> {
        assert!(self.receivers.is_empty(), "each message was recorded");
        ops.append(&mut self.first_ops);
        for done in std::mem::take(&mut self.done) {
            if let Err(error) = self.log.on_done(done, clocks, ops) {
                self.has_failed = true;
                return Err(error);
            }
        }
        if self.log.deadline().is_some_and(|at| at <= clocks.boot) {
            self.log.on_deadline(clocks, ops);
        }
        if let Some(error) = self.log.fault() {
            self.has_failed = true;
            return Err(error);
        }
        let mut released = Released::default();
        self.gate.on_own_durable(self.log.durable(), &mut released);
        released.sessions.append(&mut self.without_identifiers);
        if self.looked_at < self.log.synced() {
            self.looked_at = self.log.synced();
            released.sessions.append(&mut self.without_sync);
        }
        self.record_after(&mut released);
        self.record_settled();
        let receipts_durable = self.find_receipts();
        let ended = self.gate.end_turn();
        if let Some((turn, _)) = ended {
            self.log.end_turn(turn, clocks, ops);
        }
        Ok(TurnEnd {
            released,
            marks: ended.filter(|(_, posted)| !posted.is_empty()),
            receipts_durable,
        })
    }

    /// Finds the checkpoints of other shards whose receipts are durable by now.
    fn find_receipts(&mut self) -> Vec<(ShardId, LogPosition)> {
        let Recording { gate, log, .. } = self;
        let mut durable = Vec::new();
        self.receipts_wanted.retain_mut(|wanted| {
            if let ReceiptsAre::Recorded(turn) = wanted.until
                && gate.oldest_open() >= turn
            {
                wanted.until = ReceiptsAre::Durable(gate.last_recorded());
            }
            let is_durable = matches!(wanted.until, ReceiptsAre::Durable(turn)
                if log.synced_with_lazy() >= turn);
            if is_durable {
                durable.push((wanted.shard, wanted.checkpoint));
            }
            !is_durable
        });
        durable
    }

    /// Records what waited for turns that are done.
    fn record_after(&mut self, released: &mut Released) {
        for after in released.after.drain(..) {
            match after {
                After::WillGone(no) => _ = self.wills.remove(&no),
                After::Spread(Origin { no, id, ticket }) => {
                    if self.spreading.get(&(no, id)) != Some(&ticket) {
                        continue; // PUBREL has come.
                    }
                    self.spreading.remove(&(no, id));
                }
                After::Passed(_) => {}
            }
            self.log.push_lazy(&after.record());
            self.gate.note_lazy();
        }
    }

    /// One record per session, with ranges.
    fn record_settled(&mut self) {
        self.settled.sort_unstable();
        self.settled.dedup();
        let mut ranges: Vec<DeliveryRange> = Vec::new();
        for of_session in self.settled.chunk_by(|one, next| one.0 == next.0) {
            ranges.clear();
            for &(_, delivery) in of_session {
                match ranges.last_mut() {
                    Some(range) if range.last.0 + 1 == delivery.0 => range.last = delivery,
                    _ => ranges.push(DeliveryRange {
                        first: delivery,
                        last: delivery,
                    }),
                }
            }
            self.log.push_lazy(&Record::Settled {
                no: of_session[0].0,
                ranges: DeliveryRanges::listed(&ranges),
            });
            self.gate.note_lazy();
        }
        self.settled.clear();
    }
}
