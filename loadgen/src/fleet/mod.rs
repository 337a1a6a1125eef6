//! The clients of one thread as a state machine without sockets: bytes and times in, bytes and
//! wishes out.
//!
//! The driver tells what happened (`on_connected`, `on_bytes`, `on_closed`) and calls
//! [`Fleet::tick`] once per turn; then it carries out what stands in the [`Outbox`] and pulls the
//! output of the dirty clients.
//!
//! Invariants:
//! - a client has at most one connection, and the fleet hears of its end once.
//! - every message that was sent is in the ledgers' books; what a message owes follows from the
//!   plan.
//! - whatever a broker sends, a client goes on, is closed or counts a trouble: nothing panics.
//!
//! The subjects: `life` (dialling, deadlines, cuts, pings), `greet` (CONNECT to SUBACK), `publish`
//! (what is sent and acknowledged), `receive` (what arrives), `pace` (when), `part` (how a run
//! ends), `terms` (what CONNACK permits), `absent` (what subscribers that are away miss), `churn` (clients that come and go), `sys`
//! (what the broker says of itself), `topics` (which is next), `storm` (all are cut, and return).

mod absent;
mod churn;
mod client;
mod greet;
mod invariants;
mod life;
mod pace;
mod part;
mod publish;
mod receive;
mod storm;
mod sys;
mod terms;
#[cfg(test)]
mod tests;
mod topics;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ringmq_core::codec::QoS;
use serde::{Deserialize, Serialize};

use crate::course::Course;
use crate::ledger::{Ledger, ReaderId};
use crate::meter::{Counts, Interval, Meter};
use crate::plan::Reading;
use crate::shared::{Shared, Stage, UNKNOWN};
use client::{Client, Phase, Publisher, Reader, Removal};
use life::Squad;
pub use life::{CANNOT, CLOSED, Loss, MALFORMED, NO_ANSWER, NO_PONG, REFUSED, SILENT};
pub use part::LEFT_BEHIND;
pub use publish::{NEVER_ACKNOWLEDGED, NEVER_SENT, PartEnds, REFUSED_PUBLICATION, WRITTEN_OFF};
pub use receive::BROKEN_RULE;
use storm::Storm;
pub use storm::StormTally;
pub use sys::SysUpdate;
use topics::Topics;

/// The clients of one thread.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    thread: usize,
    clients: Vec<Client>,
    squads: Vec<Squad>,
    /// What arrived, exactly.
    pub ledger: Ledger,
    /// What was counted and timed.
    pub meter: Meter,
    /// What went wrong.
    pub troubles: Troubles,
    /// What the driver is to do.
    pub outbox: Outbox,
    /// What the broker said of itself since the driver last looked.
    pub sys: Vec<SysUpdate>,
    /// Messages that the broker refused or never acknowledged.
    pub uncertain: Vec<(u32, u32)>,
    stage: Stage,
    /// How the load changes over time, and which version of that this is.
    course: Arc<Course>,
    course_version: u64,
    /// By group, what its topics are drawn from.
    topics: Vec<Option<Topics>>,
    /// The segment of the last delivery.
    near: u32,
    /// Counters at the beginnings and ends of the segments, in turn; of those that were not
    /// collected yet.
    pub segment_marks: Vec<Vec<Counts>>,
    /// Beginnings and ends that are past.
    boundaries: usize,
    /// Schedules count; before, groups publish as messages arrive.
    is_open: bool,
    /// Clients that reconnect, each with its time.
    delayed: BinaryHeap<Reverse<(u64, u32)>>,
    /// When clients that come and go leave, with their attempt.
    leaves: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Clients that have to be answered by a time, with their attempt. All get the same span.
    deadlines: VecDeque<(u64, u32, u32)>,
    /// When the keep alive of a client is due, with its attempt.
    pings: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Clients that have to hear something after a ping by a time, with their attempt.
    pongs: VecDeque<(u64, u32, u32)>,
    /// Messages that are due and wait, of all clients.
    pending_count: u64,
    /// Seconds that are over and not collected yet.
    pub intervals: Vec<Interval>,
    /// Counters at the beginning and the end of the window.
    pub marks: [Option<Vec<Counts>>; 2],
    /// When the subscribers that are away were last excused.
    excused_at: u64,
    /// Arrivals by slot that the other threads do not know yet.
    credits: Vec<u64>,
    credited: Vec<u16>,
    /// Buffers that are not in use.
    pool: Vec<Vec<u8>>,
    ready_count: u64,
    /// What a storm does to them.
    storm: Option<Box<Storm>>,
    /// Clients that removed their retained messages and are still connected.
    removing_count: u32,
    /// When the last delivery came, and when the last delivery or acknowledgement.
    arrived_at: u64,
    heard_at: u64,
    outstanding_known: bool,
    /// Sessions are being ended, see `start_purge`.
    purging: bool,
    /// What ends the run at once.
    fatal: Option<String>,
}

/// What the driver is to do.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Clients with something to send.
    pub dirty: Vec<u32>,
    /// Clients to connect.
    pub dials: Vec<u32>,
    /// Clients to close: at once, or with a reset.
    pub closes: Vec<u32>,
    /// Clients that fall silent: their sockets stay open, and nothing reads them.
    pub silences: Vec<u32>,
}

/// What went wrong, by kind: how often, and the first case.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Troubles(pub BTreeMap<String, (u64, String)>);

impl Troubles {
    /// Counts a trouble. Kinds are few: they do not name clients.
    pub fn add(&mut self, kind: &str, case: impl FnOnce() -> String) {
        self.add_many(kind, 1, case);
    }

    /// Counts a trouble so many times; never, if that is 0.
    pub fn add_many(&mut self, kind: &str, times: u64, case: impl FnOnce() -> String) {
        match self.0.get_mut(kind) {
            Some((count, _)) => *count += times,
            None if times > 0 => {
                self.0.insert(kind.to_owned(), (times, case()));
            }
            None => {}
        }
    }

    /// Adds those of another thread.
    pub fn merge(&mut self, other: Troubles) {
        for (kind, (count, first)) in other.0 {
            self.0.entry(kind).or_insert((0, first)).0 += count;
        }
    }
}

impl Fleet {
    /// The clients of a thread, all of them away.
    pub fn new(shared: Arc<Shared>, thread: usize) -> Fleet {
        let plan = &shared.plan;
        let (course, course_version) = shared.course();
        let mut fleet = Fleet {
            ledger: Ledger::new(plan.shared_pairs(thread)),
            meter: Meter::new(plan.groups.len()),
            credits: vec![0; shared.arrived.len()],
            shared: shared.clone(),
            thread,
            clients: Vec::new(),
            squads: Vec::new(),
            troubles: Troubles::default(),
            outbox: Outbox::default(),
            sys: Vec::new(),
            uncertain: Vec::new(),
            stage: Stage::Connect,
            course,
            course_version,
            topics: (0..plan.groups.len())
                .map(|at| Topics::of(plan, at))
                .collect(),
            near: 0,
            segment_marks: Vec::new(),
            boundaries: 0,
            is_open: false,
            delayed: BinaryHeap::new(),
            leaves: BinaryHeap::new(),
            deadlines: VecDeque::new(),
            pings: BinaryHeap::new(),
            pongs: VecDeque::new(),
            pending_count: 0,
            intervals: Vec::new(),
            marks: [None, None],
            excused_at: 0,
            credited: Vec::new(),
            pool: Vec::new(),
            ready_count: 0,
            storm: Storm::of(plan),
            removing_count: 0,
            arrived_at: 0,
            heard_at: 0,
            outstanding_known: false,
            purging: false,
            fatal: None,
        };
        let mut shares = HashMap::new();
        for group in 0..plan.groups.len() {
            let range = plan.clients_on(group, thread);
            fleet.add_squad(&shared, group, range, &mut shares);
        }
        fleet
    }

    fn add_squad(
        &mut self,
        shared: &Shared,
        group: usize,
        range: Range<u32>,
        shares: &mut HashMap<u32, ReaderId>,
    ) {
        let (spec, planned) = (&shared.plan.specs[group], &shared.plan.groups[group]);
        let first = self.clients.len() as u32;
        for index in range.clone() {
            let mut client = Client::new(group as u16, index);
            if spec.publish.is_some() {
                client.publisher = Some(Box::new(Publisher {
                    inflight: VecDeque::new(),
                    inflight_max: spec.inflight_max.min(client::INFLIGHT_MAX),
                    last_id: 0,
                    stuck: Vec::new(),
                    pending: VecDeque::new(),
                    topic: 0,
                    drawn: 0,
                    introduced: Vec::new(),
                    left: spec.messages.unwrap_or(u64::MAX),
                    finished: false,
                    removal: Removal::Due,
                    parts_ended: Vec::new(),
                }));
            }
            if let Some(reading) = planned.readers.get(index as usize) {
                client.reader = Some(Box::new(self.add_reader(shared, group, reading, shares)));
            }
            self.clients.push(client);
        }
        self.squads
            .push(Squad::new(&shared.plan, group, first, range));
    }

    fn add_reader(
        &mut self,
        shared: &Shared,
        group: usize,
        reading: &Reading,
        shares: &mut HashMap<u32, ReaderId>,
    ) -> Reader {
        let plan = &shared.plan;
        let spec = &plan.specs[group];
        let ledger = &mut self.ledger;
        let is_late = spec.start == crate::scenario::Start::Window;
        let mut add = |matched: &Arc<crate::plan::Matched>| {
            let reader = ledger.add(group as u16, spec.qos, matched.clone());
            // Until it subscribes, it is owed nothing.
            ledger.set_gone(reader, is_late);
            reader
        };
        let own = reading.own.as_ref().map(&mut add);
        let share = reading.share.as_ref();
        let share = share.map(|share| {
            *shares
                .entry(share.id)
                .or_insert_with(|| add(&share.matched))
        });
        let small = |stream: u32| plan.sender(stream).payload.max() < crate::payload::HEADER_SIZE;
        let own_streams = reading.own.iter().flat_map(|own| own.streams());
        let share_streams = reading
            .share
            .iter()
            .flat_map(|share| share.matched.streams());
        let any_small_group = plan.specs.iter().any(|group| {
            group.publish.is_some() && group.payload.max() < crate::payload::HEADER_SIZE
        });
        Reader {
            own,
            share,
            receipts: VecDeque::new(),
            unsettled: 0,
            subscribed_at: 0,
            takes_small: any_small_group && own_streams.chain(share_streams).any(small),
        }
    }

    /// How many clients.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Group of a client, among those of the plan.
    pub fn group_of(&self, client: u32) -> usize {
        usize::from(self.clients[client as usize].group)
    }

    /// The number of a client in its group.
    pub fn number_of(&self, client: u32) -> u32 {
        let client = &self.clients[client as usize];
        self.shared.plan.groups[usize::from(client.group)].number(client.index)
    }

    /// The reason why continuing makes no sense, once.
    pub fn take_fatal(&mut self) -> Option<String> {
        self.fatal.take()
    }

    /// Does everything that is due; once per turn, after all events.
    pub fn tick(&mut self, now: u64) {
        let stage = self.shared.stage();
        let is_new = stage != self.stage;
        if is_new {
            self.stage = stage;
            self.on_stage(now);
        }
        if self.shared.course_version() != self.course_version {
            (self.course, self.course_version) = self.shared.course();
            for squad in &mut self.squads {
                if let Some(pace::Pacer::Schedule(schedule)) = &mut squad.pacer {
                    schedule.skip_to(self.course.given_up());
                }
            }
        }
        self.is_open = now >= self.shared.open_at();
        self.mark(now);
        self.check_deadlines(now);
        self.dial_due(now);
        match stage {
            Stage::Connect | Stage::Drain => self.ping_due(now),
            Stage::Publish => {
                self.start_late_groups(now);
                self.cut_due(now);
                self.storm_due(now);
                self.leave_due(now);
                self.ping_due(now);
                self.excuse_the_absent(now);
                self.publish_due(now);
            }
            Stage::End => {}
        }
        self.flush_credits();
        if cfg!(test) || cfg!(debug_assertions) && is_new {
            self.check_invariants();
        }
    }

    /// Reads the counters when the window begins and when it ends, and ends seconds: call before
    /// anything is counted that happens at `now`.
    #[inline]
    fn mark(&mut self, now: u64) {
        while now >= self.next_second() {
            self.intervals.push(self.meter.end_second());
        }
        if self.marks[0].is_none() && now >= self.shared.window_start() {
            self.marks[0] = Some(self.meter.counts.clone());
        }
        if self.marks[1].is_none() && now >= self.shared.window_end() {
            self.marks[1] = Some(self.meter.counts.clone());
        }
        while now >= self.next_boundary() {
            self.segment_marks.push(self.meter.counts.clone());
            self.boundaries += 1;
        }
    }

    /// When the next segment begins, or the one that is running ends; [`UNKNOWN`] if there is none.
    pub fn next_boundary(&self) -> u64 {
        let number = self.boundaries;
        let Some(segment) = self.course.segments().get(number / 2) else {
            return UNKNOWN;
        };
        let at = match number % 2 {
            0 => segment.begin_ns,
            _ => segment.end_ns,
        };
        let at = self.shared.publish_at().saturating_add(at);
        // What was planned behind the end does not take place.
        if at > self.shared.window_end() {
            UNKNOWN
        } else {
            at
        }
    }

    /// When the second that is running ends; [`UNKNOWN`] before the publishing.
    pub fn next_second(&self) -> u64 {
        let ended = u64::from(self.meter.seconds_ended());
        let begin = self.shared.publish_at();
        begin.saturating_add((ended + 1) * SECOND_NS)
    }

    /// When the next tick is due at the latest, if nothing happens before.
    pub fn next_wake(&self, now: u64) -> u64 {
        let mut next = now + HOUSEKEEPING_NS;
        let mut consider = |at: Option<u64>| next = next.min(at.unwrap_or(UNKNOWN));
        consider(self.deadlines.front().map(|(at, _, _)| *at));
        consider(self.pings.peek().map(|Reverse((at, _, _))| *at));
        consider(self.pongs.front().map(|(at, _, _)| *at));
        consider(self.delayed.peek().map(|Reverse((at, _))| *at));
        if self.stage == Stage::Publish {
            consider(self.leaves.peek().map(|Reverse((at, _, _))| *at));
            consider(self.storm_at());
        }
        for squad in &self.squads {
            consider(squad.next_dial());
            consider(squad.next_cut);
            if self.stage == Stage::Publish {
                consider(self.next_publish(squad));
            }
        }
        next
    }

    /// Shows the others how far this thread is.
    pub fn show(&mut self, now: u64) {
        let board = &self.shared.boards[self.thread];
        board.sent.store(self.meter.sent(), Ordering::Relaxed);
        board
            .received
            .store(self.meter.received(), Ordering::Relaxed);
        board.asked.store(self.meter.asked, Ordering::Relaxed);
        board.owed.store(self.meter.owed, Ordering::Relaxed);
        let heard = self.meter.received() + self.meter.acks;
        board.heard.store(heard, Ordering::Relaxed);
        let specs = &self.shared.plan.specs;
        let unacknowledged = specs.iter().zip(&self.meter.counts).map(|(spec, counts)| {
            let is_owed = spec.qos > QoS::AtMostOnce;
            let settled = counts.acknowledged + counts.unacknowledged;
            u64::from(is_owed) * counts.sent.saturating_sub(settled)
        });
        board
            .unacknowledged
            .store(unacknowledged.sum(), Ordering::Relaxed);
        board.pending.store(self.pending_count, Ordering::Relaxed);
        board.heard_at.store(self.heard_at, Ordering::Relaxed);
        board.errors.store(self.meter.errors, Ordering::Relaxed);
        board.arrived_at.store(self.arrived_at, Ordering::Relaxed);
        // Counting what is missing visits every cell: only when nothing more arrives.
        let question = self.shared.question();
        let quiet = now.saturating_sub(self.arrived_at) > QUIET_NS;
        let is_new = board.answered.load(Ordering::Relaxed) != question;
        if question == 0 || (self.outstanding_known && quiet && !is_new) {
            return;
        }
        self.outstanding_known = quiet;
        let outstanding = if quiet { self.outstanding() } else { UNKNOWN };
        board.outstanding.store(outstanding, Ordering::Release);
        board.answered.store(question, Ordering::Release);
    }

    /// Messages that are due and wait.
    pub fn pending_count(&self) -> u64 {
        self.pending_count
    }

    /// Deliveries that are missing here, of all that was published so far.
    pub fn outstanding(&self) -> u64 {
        let streams = &self.shared.plan.streams;
        self.ledger
            .outstanding(|stream| streams.last_sequence(stream))
    }

    /// Everything that a client has to send, once.
    pub fn take_output(&mut self, client: u32, now: u64) -> Option<Vec<u8>> {
        let client = &mut self.clients[client as usize];
        client.dirty = false;
        if client.out.is_empty() {
            return None;
        }
        client.sent_at = now;
        client.flying += client.out.len() as u32;
        if let Some(reader) = &mut client.reader {
            reader.unsettled = 0;
        }
        Some(std::mem::take(&mut client.out))
    }

    /// The socket took `size` bytes.
    pub fn on_sent(&mut self, client: u32, size: u32) {
        let client = &mut self.clients[client as usize];
        client.flying = client.flying.saturating_sub(size);
    }

    /// All of an output was sent, or its socket is gone.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= POOLED_SIZE_MAX && self.pool.len() < POOLED_COUNT_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    /// The socket took all it was given: there may be room for what waited.
    pub fn on_drained(&mut self, client: u32, now: u64) {
        let waits = |publisher: &Publisher| !publisher.pending.is_empty();
        if self.clients[client as usize]
            .publisher
            .as_deref()
            .is_some_and(waits)
        {
            self.mark(now);
            self.publish_pending(client, now);
        }
    }

    /// Whether the driver reads this client only so fast.
    pub fn receive_rate(&self, client: u32) -> Option<u64> {
        match self.stage {
            Stage::Connect | Stage::Publish => {}
            Stage::Drain | Stage::End => return None,
        }
        let client = &self.clients[client as usize];
        // It is slow at reading messages, not at connecting.
        let is_ready = client.phase == Phase::Ready;
        self.shared.plan.specs[usize::from(client.group)]
            .receive_rate
            .filter(|_| is_ready)
    }

    /// Whether the client reads one piece at a time, because it may have to slow down.
    pub fn reads_slowly(&self, client: u32) -> bool {
        let spec = &self.shared.plan.specs[self.group_of(client)];
        spec.receive_rate.is_some() && self.stage < Stage::Drain
    }

    /// Size of the receive buffer of a client's socket, if it is not the kernel's choice.
    pub fn receive_buffer(&self, client: u32) -> Option<u32> {
        self.shared.plan.specs[self.group_of(client)].receive_buffer
    }

    /// Where the fleet believes the run to stand.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Another thread has reported something since the last tick.
    pub fn has_news(&self) -> bool {
        let is_open = self.is_open;
        let arrived = |squad: &Squad| {
            let slot = squad.group * self.shared.plan.threads + self.thread;
            let arrived = self.shared.arrived[slot].load(Ordering::SeqCst);
            squad.has_seen(arrived) && (is_open || squad.probe_has_seen(arrived))
        };
        self.shared.stage() != self.stage
            || self.shared.course_version() != self.course_version
            || !self.squads.iter().all(arrived)
    }

    /// The buffer of a client, to append a packet; then call `mark_dirty`.
    fn out(&mut self, client: u32) -> &mut Vec<u8> {
        let out = &mut self.clients[client as usize].out;
        if out.capacity() == 0 {
            *out = self.pool.pop().unwrap_or_default();
        }
        out
    }

    fn mark_dirty(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if !std::mem::replace(&mut client.dirty, true) {
            self.outbox.dirty.push(index);
        }
    }

    fn flush_credits(&mut self) {
        for slot in self.credited.drain(..) {
            let count = std::mem::take(&mut self.credits[usize::from(slot)]);
            self.shared.credit(usize::from(slot), count, self.thread);
        }
    }

    fn credit(credits: &mut [u64], credited: &mut Vec<u16>, slot: usize, count: u64) {
        if credits[slot] == 0 {
            credited.push(slot as u16);
        }
        credits[slot] += count;
    }

    /// Its client identifier, or its place in its group if the broker assigns one.
    fn name_of(&self, index: u32) -> String {
        let client = &self.clients[index as usize];
        let spec = &self.shared.plan.specs[usize::from(client.group)];
        let mut name = String::new();
        spec.client_id.fill(self.filling(client), &mut name);
        if name.is_empty() {
            format!("number {} of group {}", client.index, spec.name)
        } else {
            name
        }
    }

    fn filling(&self, client: &Client) -> crate::scenario::pattern::Filling<'_> {
        crate::scenario::pattern::Filling {
            run: &self.shared.plan.run,
            group: &self.shared.plan.specs[usize::from(client.group)].name,
            index: self.shared.plan.groups[usize::from(client.group)].number(client.index),
            message: 0,
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;
/// The board is read this often.
const HOUSEKEEPING_NS: u64 = 50_000_000;
/// Nothing arrived for this long: perhaps nothing more will.
const QUIET_NS: u64 = 20_000_000;
const POOLED_SIZE_MAX: usize = 256 * 1024;
const POOLED_COUNT_MAX: usize = 1024;
