//! The reactor of a shard: the loop around [`Shard::handle`].
//!
//! Work is done in turns. A turn takes completions, hands them to the core as events, drains the
//! inbox, checks the deadline, and then carries out the effects: messages to other shards, output
//! of connections that have some, closes, handovers. One system call then submits all operations of
//! the turn, and waits for completions if there is nothing left to do.
//!
//! Invariants:
//! - one send per connection is in flight; newer output collects in the core.
//! - a turn is bounded: [`COMPLETIONS_MAX`] completions, [`BYTES_MAX`] bytes, [`MAIL_MAX`] batches.
//! - while a message to another shard does not fit its inbox, nothing is read from sockets, but the
//!   own inbox is drained: kinds of messages form a DAG, so this ends.
//! - messages become visible by class over all targets: forwards, then retains, then answers.
//! - `partial_bytes` is the memory that the layers below MQTT use for incomplete input.
//!
//! The subjects: `accept`, `ask`, `receive`, `hearing`, `transmit`, `layers`, `post`, `close`, `handover`, `disk`,
//! `records`, `notes`, `shutdown`.

mod accept;
mod ask;
mod close;
mod disk;
mod handover;
mod hearing;
mod invariants;
mod layers;
pub(crate) mod listener;
mod memory;
mod notes;
mod post;
mod receive;
mod records;
pub mod rig;
mod shutdown;
pub(crate) mod slot;
#[cfg(test)]
mod tests;
mod transmit;

pub(crate) use disk::DiskShared;
pub(crate) use hearing::HeardTable;
pub(crate) use layers::HANDSHAKES_MAX;
pub(crate) use shutdown::Settled;

pub use notes::log_filter_has_changed;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ringmq_core::auth::{AuthRequest, Verdict};
use ringmq_core::connection::{BufferPool, Output, Pending};
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::shard::{Close, Deadlines, Event, Outbox, ProcessCounts, Remains, Shard};
use ringmq_core::stages::{Recorder, Stage};
use ringmq_core::store::Clocks;
use ringmq_core::time::Instant;

use disk::Disk;
use hearing::Hearing;

use receive::Held;

use crate::admission::{AddressRates, Permits};
use crate::auth::AuthService;
use crate::counters::{Counters, Counts, Tallies, count};
use crate::inbox::{Decision, Inbox, Mail, Moved};
use crate::transport::Scratch;
use listener::{Accepting, Listener};
use ringmq_ring::{Completion, Received, Ring, Submission};
use slot::Slots;

/// The state machine that a reactor drives; see [`Shard`].
pub trait Core {
    /// Takes in one event.
    fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox);
    /// The end of a turn, before its effects are carried out. A core without a log has nothing to do then.
    fn end_turn(&mut self, _clocks: Clocks, _out: &mut Outbox) {}
    /// Everything that was recorded is durable, here and on the other shards.
    fn is_durable(&self) -> bool {
        true
    }
    /// What is left when all connections are closed.
    fn remains(&mut self, _now: Instant) -> Remains {
        Remains::default()
    }
    /// When to call with `Event::DeadlineReached` at the latest, once what bears on it was heard.
    fn deadlines(&self) -> Deadlines;
    /// Everything that the connection has to send.
    fn take_output(&mut self, conn: ConnId) -> Option<Output>;
    /// What the connection has to send.
    fn pending(&self, _conn: ConnId) -> Pending {
        Pending::Pressing
    }
    /// Gives the buffers of a sent output back.
    fn recycle(&mut self, output: Output);
    /// The connection stays on this shard: its CONNECT was accepted here.
    fn is_home(&self, conn: ConnId) -> bool;
    /// Something of a connection has taken so long or, of none, a turn: for traces.
    fn trace_stage(&mut self, _of: Option<ConnId>, _stage: Stage, _span: (Instant, Instant)) {}
}

impl Core for Shard {
    fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) {
        Shard::handle(self, now, event, out);
    }

    fn end_turn(&mut self, clocks: Clocks, out: &mut Outbox) {
        Shard::end_turn(self, clocks, out);
    }

    fn is_durable(&self) -> bool {
        Shard::is_durable(self)
    }

    fn remains(&mut self, now: Instant) -> Remains {
        Shard::remains(self, now)
    }

    fn deadlines(&self) -> Deadlines {
        Shard::deadlines(self)
    }

    fn take_output(&mut self, conn: ConnId) -> Option<Output> {
        Shard::take_output(self, conn)
    }

    fn pending(&self, conn: ConnId) -> Pending {
        Shard::pending(self, conn)
    }

    fn recycle(&mut self, output: Output) {
        Shard::recycle(self, output);
    }

    fn is_home(&self, conn: ConnId) -> bool {
        Shard::is_home(self, conn)
    }

    fn trace_stage(&mut self, of: Option<ConnId>, stage: Stage, span: (Instant, Instant)) {
        Shard::trace_stage(self, of, stage, span);
    }
}

/// What a reactor shares with the others of its broker.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// One inbox per shard.
    pub(crate) inboxes: Arc<[Inbox]>,
    /// Permits for connections.
    pub(crate) permits: Arc<Permits>,
    /// Most bytes that the layers of a shard's connections hold of what has come in part.
    pub(crate) partial_bytes_max: u64,
    /// Grows when listeners have new terms of TLS.
    pub(crate) terms_generation: Arc<AtomicU64>,
    /// How far the shards have listened.
    pub(crate) heard: Arc<HeardTable>,
    /// Finds out who clients are.
    pub(crate) auth: Arc<AuthService>,
    /// Where this shard publishes its counters.
    pub(crate) counters: Arc<Counters>,
    /// What is counted outside of the shards.
    pub(crate) tallies: Arc<Tallies>,
    /// Where the logs are; `None`: nothing outlives the process.
    pub(crate) disk: Option<DiskShared>,
    /// Which shards have nothing left to do, in a shutdown.
    pub(crate) settled: Arc<Settled>,
}

/// What a turn left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to do at once.
    Busy,
    /// Nothing to do until something happens.
    Idle,
    /// The shard has shut down.
    Ended,
}

/// The reactor of one shard.
pub(crate) struct Reactor<R, C> {
    id: ShardId,
    ring: R,
    core: C,
    outbox: Outbox,
    slots: Slots,
    listeners: Vec<Listener>,
    shared: Shared,
    /// Connections whose send ended in this turn: ask them for output again.
    sent: Vec<ConnId>,
    /// Connections whose answers wait for others to go with, and since when the first one does.
    answers: Vec<ConnId>,
    answers_since: Instant,
    /// Connections whose receive ended in this turn.
    rearm: Vec<ConnId>,
    /// What waits until this shard is no longer stalled. Bounded by the receive buffers, plus one
    /// end, one move and one verdict per connection.
    held: VecDeque<Held>,
    /// Input of connections that may be about to send CONNECT. Bounded by one per connection.
    first: Vec<Received>,
    /// A message did not fit an inbox.
    stalled: bool,
    /// How far this shard has listened.
    hearing: Hearing,
    /// Buffers of the layers below MQTT, and what they wait for.
    scratch: Scratch,
    wires: BufferPool,
    partial_bytes: usize,
    /// Connections whose TLS handshake is to go on, in the order of their coming. Each stands here
    /// once.
    handshakes: VecDeque<ConnId>,
    /// Connections to look at, because the terms of TLS have changed.
    rechecks: Vec<ConnId>,
    terms_seen: u64,
    failures_logged: layers::LogSpan,
    /// Connections in phase `Leaving`.
    leaving_count: usize,
    /// Connections that are on their way out of this shard.
    departures: VecDeque<(ShardId, Box<Moved>)>,
    /// Closes that the core asked for and that no turn has come to yet.
    closes: VecDeque<Close>,
    /// Connections that close when they are flushed, with the time at which they are cut. All get
    /// the same span, so the order is that of time.
    flushes: VecDeque<(Instant, ConnId)>,
    /// What the ring's timer is set to.
    timer: Option<Instant>,
    /// Set when a connection closed, which may have freed what an accept was short of.
    closed_some: bool,
    /// How often addresses have come.
    address_rates: AddressRates,
    /// When trouble with accepting was last logged.
    accept_logged_at: Option<Instant>,
    /// Set during a shutdown: when what is left is cut, and when the reactor ends in any case.
    ending: Option<shutdown::Ending>,
    disk: Option<Disk>,
    counts: Counts,
    /// How long things take, as far as the core does not know.
    stages: Box<Recorder>,
    /// When the core is told the counts again, at the earliest.
    tell_counts_at: Instant,
    log_filters_seen: u32,
}

impl<R: Ring, C: Core> Reactor<R, C> {
    /// A reactor without connections.
    pub(crate) fn new(
        id: ShardId,
        ring: R,
        core: C,
        listeners: Vec<Listener>,
        shared: Shared,
    ) -> Reactor<R, C> {
        let mut outbox = Outbox::new(shared.inboxes.len());
        outbox.notes.wanted = notes::wanted();
        Reactor {
            id,
            ring,
            core,
            disk: shared.disk.clone().map(Disk::new),
            outbox,
            slots: Slots::new(),
            listeners,
            shared,
            sent: Vec::new(),
            answers: Vec::new(),
            answers_since: Instant::ZERO,
            rearm: Vec::new(),
            held: VecDeque::new(),
            first: Vec::new(),
            stalled: false,
            hearing: Hearing::new(),
            scratch: Scratch::default(),
            wires: BufferPool::new(),
            partial_bytes: 0,
            handshakes: VecDeque::new(),
            rechecks: Vec::new(),
            terms_seen: 0,
            failures_logged: layers::LogSpan::default(),
            leaving_count: 0,
            departures: VecDeque::new(),
            closes: VecDeque::new(),
            flushes: VecDeque::new(),
            timer: None,
            closed_some: false,
            address_rates: AddressRates::default(),
            accept_logged_at: None,
            ending: None,
            counts: Counts::default(),
            stages: Box::default(),
            tell_counts_at: Instant::ZERO,
            log_filters_seen: 0,
        }
    }

    /// What is left of the core, after [`Progress::Ended`].
    pub(crate) fn remains(mut self, now: Instant) -> Remains {
        self.core.remains(now)
    }

    /// One turn, up to the submission. `now` is the only clock reading of it.
    pub(crate) fn turn(&mut self, now: Instant) -> Progress {
        count!(self.counts, turns);
        self.shared.counters.pulse.begin(now);
        self.inbox().take_nudge();
        self.heed_log_filter();
        let others_heard = self.ask_others(now);
        self.take_completions(now, CALLS_MAX);
        self.take_kept(now);
        self.take_mail(now);
        self.answer_ask(now);
        self.advance_handshakes(now);
        self.recheck_terms(now);
        self.note_heard(now, others_heard);
        self.check_deadlines(now);
        self.ask_who_they_are(now);
        self.end_turn(now);
        self.flush_posts(now);
        self.transmit_all(now);
        self.close_requested(now);
        self.move_departures(now);
        self.publish_heard();
        self.set_readings();
        self.rearm_receives();
        self.arm_accepts(now);
        self.log_records();
        self.log_notes();
        self.publish();
        if cfg!(debug_assertions) {
            self.assert_settled();
            if cfg!(test) || self.counts.turns.is_multiple_of(TURNS_PER_WALK) {
                self.check_invariants();
            }
        }
        if self.has_ended(now) {
            self.retire_heard();
            Progress::Ended
        } else if self.has_work() {
            Progress::Busy
        } else {
            Progress::Idle
        }
    }

    /// A turn has ended.
    pub(crate) fn note_turn(&mut self, began: Instant, ended: Instant) {
        self.shared.counters.pulse.rest();
        self.stages.record(Stage::Turn, began, ended);
        self.core.trace_stage(None, Stage::Turn, (began, ended));
    }

    /// Hands the operations of a busy turn to the kernel.
    pub(crate) fn submit(&mut self) {
        let submission = self.ring.submit();
        self.count_submission(submission);
    }

    /// Hands the operations of an idle turn to the kernel and blocks until there is a completion.
    /// Mail is one: it signals the wake-up descriptor, which the ring reads.
    pub(crate) fn submit_and_sleep(&mut self) {
        if self.announce_park() {
            count!(self.counts, parks);
            let submission = self.ring.submit_and_wait();
            self.count_submission(submission);
        } else {
            self.submit();
        }
        self.inbox().withdraw_park();
    }

    /// Hands the operations of an idle turn to the kernel and prepares for sleep in the executor;
    /// false if there is something to do after all. A completion signals the executor then.
    pub(crate) fn submit_and_park(&mut self) -> bool {
        let may_park = self.announce_park();
        let submission = self.ring.submit();
        self.count_submission(submission);
        if !may_park || self.has_work() || submission == Submission::Again {
            self.inbox().withdraw_park();
            return false;
        }
        let submission = self.ring.arm_notice();
        if self.has_work() || submission == Submission::Again {
            count!(self.counts, parks_averted);
            self.unpark();
            return false;
        }
        count!(self.counts, parks);
        true
    }

    /// Awake again.
    pub(crate) fn unpark(&mut self) {
        self.ring.disarm_notice();
        self.inbox().withdraw_park();
    }

    /// Sets the timer and tells the other shards that this one is about to sleep; false if there is
    /// news in the inbox. First announce, then look: whoever delivers after the look sees the
    /// announcement and signals.
    fn announce_park(&mut self) -> bool {
        self.set_timer();
        self.inbox().announce_park();
        let has_news = self.inbox().has_news() || self.shutdown_is_news();
        count!(self.counts, parks_averted, has_news);
        !has_news
    }

    fn count_submission(&mut self, submission: Submission) {
        match submission {
            Submission::Done => {}
            Submission::Again => count!(self.counts, submits_again),
        }
    }

    /// Takes what the kernel has. It hands over some twenty completions per call (Linux, since
    /// 6.13), so that it is asked again, up to `calls_max` times.
    fn take_completions(&mut self, now: Instant, calls_max: usize) {
        self.hearing.is_dry = false;
        let mut bytes = self.release_held(now);
        self.take_reaped(now, &mut bytes);
        for _ in 0..calls_max {
            if bytes >= BYTES_MAX {
                break;
            }
            self.submit();
            if !self.ring.is_ready() {
                self.hearing.is_dry = true;
                break;
            }
            self.take_reaped(now, &mut bytes);
        }
    }

    /// Takes completions that need no call. `bytes` counts what the turn has received.
    fn take_reaped(&mut self, now: Instant, bytes: &mut usize) {
        self.ring.reap(COMPLETIONS_MAX);
        while *bytes < BYTES_MAX
            && let Some(completion) = self.ring.pop()
        {
            count!(self.counts, completions);
            self.hearing.took_completion();
            match completion {
                Completion::Accepted {
                    listener,
                    result,
                    more,
                } => self.on_accepted(now, listener, result, more),
                Completion::Received(received) => *bytes += self.on_received(now, received),
                Completion::Sent {
                    conn,
                    flight,
                    result,
                } => self.on_sent(now, conn, flight, result),
                Completion::Cancelled { conn } => self.on_cancelled(now, conn),
                Completion::Closed { conn } => self.on_closed(now, conn),
                Completion::Connected { .. } => unreachable!("a broker connects to nobody"),
                Completion::Stored { op, result, block } => {
                    self.on_stored(now, op, result, block);
                }
                Completion::TimerFired => self.timer = None,
            }
        }
    }

    /// Takes what other shards sent, and what may be a CONNECT.
    ///
    /// A CONNECT may take over a connection of the same client. Whatever reached that connection
    /// before it, a DISCONNECT above all, has to be handled before it, although the kernel posts
    /// completions of different sockets in no such order: so all that the kernel has by then is
    /// taken between taking the one and handling it.
    fn take_mail(&mut self, now: Instant) {
        if let Some(access) = self.inbox().take_access() {
            let event = Event::AccessReplaced { access };
            self.core.handle(now, event, &mut self.outbox);
        }
        let mails: Vec<Mail> = (0..MAIL_MAX).map_while(|_| self.inbox().take()).collect();
        let first = std::mem::take(&mut self.first);
        // The verdict on a CONNECT lets it take effect.
        let is_connect = |mail: &Mail| match mail {
            Mail::Connection(_) | Mail::Decided { .. } => true,
            Mail::Messages { .. } => false,
        };
        if !first.is_empty() || mails.iter().any(is_connect) {
            self.take_completions(now, CALLS_BEFORE_CONNECT_MAX);
        }
        for received in first {
            self.hold_or_take_in(now, received);
        }
        let taken = !mails.is_empty();
        self.hearing.took_mails(mails.len());
        for mail in mails {
            match mail {
                Mail::Messages {
                    from,
                    messages,
                    posted_at,
                    ..
                } => {
                    // The clocks of two cores may differ by a little: then it took no time.
                    self.stages.record(Stage::Inbox, posted_at, now);
                    for message in messages {
                        count!(self.counts, messages, message.weight() as u64);
                        let event = Event::FromShard { from, message };
                        self.core.handle(now, event, &mut self.outbox);
                    }
                }
                Mail::Connection(moved) if self.has_to_hold() => {
                    self.held.push_back(Held::Connection(moved));
                }
                Mail::Connection(moved) => self.adopt(now, *moved),
                Mail::Decided(decision) if self.has_to_hold() => {
                    self.held.push_back(Held::Decided(decision));
                }
                Mail::Decided(decision) => self.on_decided(now, *decision),
            }
        }
        if taken {
            for shard in self.inbox().take_refused() {
                self.shared.inboxes[shard.index()].nudge();
            }
        }
    }

    fn check_deadlines(&mut self, now: Instant) {
        self.begin_shutdown_if_asked(now);
        let heard = self.hearing.heard();
        if self.core.deadlines().are_due(now, heard) {
            self.tell_counts(now);
            let event = Event::DeadlineReached { heard };
            self.core.handle(now, event, &mut self.outbox);
        }
        self.cut_overdue_flushes(now);
        self.cut_all_if_overdue(now);
    }

    /// Hands on what the core wants to know of its clients.
    fn ask_who_they_are(&mut self, now: Instant) {
        for request in std::mem::take(&mut self.outbox.auth_requests) {
            self.ask_who_it_is(now, request);
        }
    }

    /// If too many requests wait, the verdict is "unavailable".
    fn ask_who_it_is(&mut self, now: Instant, request: AuthRequest) {
        if let Err(request) = self.shared.auth.ask(self.id, request) {
            count!(self.counts, auth_overflows);
            let event = Event::AuthDecided {
                conn: request.conn,
                was_known: request.known.is_some(),
                verdict: Verdict::Unavailable,
            };
            self.core.handle(now, event, &mut self.outbox);
        }
    }

    /// Lets a verdict take effect. If the authenticators that granted access have been replaced,
    /// the current ones are asked: a reload also applies to clients that are just logging in.
    fn on_decided(&mut self, now: Instant, decision: Decision) {
        let Decision {
            request,
            verdict,
            generation,
        } = decision;
        let is_stale = generation != self.shared.auth.generation();
        if is_stale && matches!(verdict, Verdict::Granted(_)) {
            return self.ask_who_it_is(now, request);
        }
        let event = Event::AuthDecided {
            conn: request.conn,
            was_known: request.known.is_some(),
            verdict,
        };
        self.core.handle(now, event, &mut self.outbox);
    }

    /// Tells the core what the reactor has counted, for `$SYS`, unless it was told a moment ago.
    fn tell_counts(&mut self, now: Instant) {
        if now < self.tell_counts_at {
            return;
        }
        self.tell_counts_at = now + TELL_INTERVAL;
        let counts = self.counts.named();
        let tallies = match self.id.index() {
            0 => Some(self.shared.tallies.named()),
            _ => None,
        };
        let process = tallies.as_ref().map(|counts| ProcessCounts {
            memory_bytes: memory::private_bytes(),
            counts,
        });
        let event = Event::ShellCounted {
            counts: &counts,
            process,
        };
        self.core.handle(now, event, &mut self.outbox);
    }

    /// Something can be done without any news.
    pub(crate) fn has_work(&mut self) -> bool {
        let outbox = &self.outbox;
        self.ring.is_ready()
            || self.inbox().has_news()
            || (outbox.posted_count() > 0 && !self.stalled)
            || !(self.held.is_empty() || self.stalled)
            || !(outbox.dirty.is_empty() && outbox.closes.is_empty() && outbox.handovers.is_empty())
            || !(self.sent.is_empty()
                && self.answers.is_empty()
                && self.first.is_empty()
                && outbox.readings.is_empty())
            || !(self.rearm.is_empty() || self.stalled)
            || !(self.handshakes.is_empty() || self.stalled)
            || !(self.rechecks.is_empty() && outbox.auth_requests.is_empty())
            || !self.closes.is_empty()
    }

    /// Sets the timer for the next deadline, unless it fires before that anyway. Only a parked
    /// reactor needs it: a busy one looks at the clock in each turn.
    fn set_timer(&mut self) {
        let accepts = self.listeners.iter().filter_map(|l| match l.accepting {
            Accepting::Paused { until } => Some(until),
            Accepting::Throttled { until, ended: true } => Some(until),
            // Its end is a completion.
            Accepting::Throttled { ended: false, .. } => None,
            Accepting::Armed | Accepting::Ended | Accepting::Shut { .. } | Accepting::Stopped => {
                None
            }
        });
        let next = accepts
            .chain(self.next_deadline())
            .chain(self.next_of_shutdown())
            .min();
        if let Some(at) = next
            && self.timer.is_none_or(|set| at < set)
        {
            self.ring.set_timer(at);
            self.timer = Some(at);
        }
    }

    fn inbox(&self) -> &Inbox {
        &self.shared.inboxes[self.id.index()]
    }

    fn publish(&mut self) {
        self.counts.overflows = self.ring.overflow_count();
        self.shared.counters.publish(&self.counts);
    }
}

/// A walk over 15,000 connections takes a millisecond or two, where assertions are on.
const TURNS_PER_WALK: u64 = 4096;
/// Deadlines of clients may come in every turn; `$SYS` is published once in a second at most.
const TELL_INTERVAL: Duration = Duration::from_millis(500);
/// Completions taken at once: a burst of this many takes some 100 us.
const COMPLETIONS_MAX: usize = 1024;
/// Calls for more completions in one turn: with more input in a turn, more of what a client gets
/// goes out in one send. Two of them gain most of what there is to gain
/// (results/2026-11-29-receives.md).
const CALLS_MAX: usize = 2;
/// Calls that find out what came before a CONNECT: as much as [`COMPLETIONS_MAX`], twenty by
/// twenty.
const CALLS_BEFORE_CONNECT_MAX: usize = 50;
/// Bytes received in one turn: what a gigabit link brings in 4 ms.
const BYTES_MAX: usize = 512 * 1024;
/// Batches and connections taken from the inbox in one turn.
const MAIL_MAX: usize = 64;
