//! The life cycle of clients: connecting, deadlines, keep alive, planned cuts, loss.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;

use ringmq_core::codec::encode_pingreq;

use super::client::{Phase, Removal};
use super::pace::{Pacer, Schedule, Window};
use super::{Client, Fleet};
use crate::plan::Plan;
use crate::scenario::Start;
use crate::scenario::value::show_span;
use crate::shared::Stage;

/// The part of a group that lives on this thread.
#[derive(Debug)]
pub(super) struct Squad {
    pub(super) group: usize,
    /// The first of its clients on this thread; the others follow.
    pub(super) first: u32,
    /// Their indexes in the group.
    pub(super) range: Range<u32>,
    /// Clients that dial when their turn comes.
    pub(super) dials: VecDeque<u32>,
    /// Clients on their way from dialling to ready.
    pub(super) connecting: u32,
    connecting_max: u32,
    /// Time between two dials; 0: none.
    pub(super) dial_step_ns: f64,
    pub(super) next_dial_at: f64,
    started: bool,
    pub(super) pacer: Option<Pacer>,
    /// A closed loop in place of the schedule, before that begins.
    pub(super) probe: Option<Window>,
    pub(super) next_cut: Option<u64>,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It could not be made.
    Dial(String),
    /// The broker closed it.
    Closed(String),
    /// The broker did not answer CONNECT or SUBSCRIBE in time.
    Silent,
    /// The broker said no.
    Refused(String),
    /// The broker sent what no broker may send.
    Malformed(String),
    /// We closed it.
    Ours,
}

impl Loss {
    /// Whether a broker that is restarted looks like this to its clients.
    fn is_of_restart(&self) -> bool {
        match self {
            Loss::Dial(_) | Loss::Closed(_) | Loss::Silent => true,
            Loss::Refused(_) | Loss::Malformed(_) | Loss::Ours => false,
        }
    }
}

impl Squad {
    pub(super) fn new(plan: &Plan, group: usize, first: u32, range: Range<u32>) -> Squad {
        let spec = &plan.specs[group];
        let count = range.len() as u32;
        let share = f64::from(count) / f64::from(spec.clients.max(1));
        let arrivals = plan.scenario.arrivals;
        let pacer = match (&spec.rate, spec.window) {
            (Some(_), _) if count > 0 && spec.publish.is_some() => {
                let seed = plan.seed(group);
                let number = |place| plan.groups[group].number(place);
                let schedule = Schedule::new(spec, arrivals, range.clone(), seed, number);
                Some(Pacer::Schedule(schedule))
            }
            (None, Some(window)) if count > 0 => Some(Pacer::Window(Window::new(window, count))),
            _ => None,
        };
        Squad {
            group,
            first,
            dials: VecDeque::new(),
            connecting: 0,
            connecting_max: ((f64::from(spec.connecting_max) * share).ceil() as u32).max(1),
            dial_step_ns: spec
                .connect_rate
                .map_or(0.0, |rate| 1e9 / (rate * share.max(1e-9))),
            next_dial_at: 0.0,
            started: false,
            probe: matches!(pacer, Some(Pacer::Schedule(_)))
                .then(|| Window::new(probe_window(spec.clients), count)),
            pacer,
            next_cut: None,
            range,
        }
    }

    pub(super) fn next_dial(&self) -> Option<u64> {
        let waits = !self.dials.is_empty() && self.connecting < self.connecting_max;
        waits.then_some(self.next_dial_at as u64)
    }

    /// So many arrivals have been seen.
    pub(super) fn has_seen(&self, arrived: u64) -> bool {
        match &self.pacer {
            Some(Pacer::Window(window)) => window.has_seen(arrived),
            Some(Pacer::Schedule(_)) | None => true,
        }
    }

    /// The same of the closed loop before the schedule.
    pub(super) fn probe_has_seen(&self, arrived: u64) -> bool {
        self.probe
            .as_ref()
            .is_none_or(|probe| probe.has_seen(arrived))
    }

    fn start(&mut self, now: u64) {
        self.started = true;
        self.dials
            .extend(self.first..self.first + self.range.len() as u32);
        self.next_dial_at = now as f64;
    }

    /// From here on everybody dials when it is due, whatever is underway.
    pub(super) fn open_up(&mut self, now: u64) {
        self.connecting_max = u32::MAX;
        self.dial_step_ns = 0.0;
        self.next_dial_at = now as f64;
    }

    /// A client waits for its turn. The schedule has not run on while nobody did.
    fn enqueue(&mut self, client: u32, now: u64) {
        if self.dials.is_empty() {
            self.next_dial_at = self.next_dial_at.max(now as f64);
        }
        self.dials.push_back(client);
    }
}

impl Fleet {
    /// Lets the groups of the first wave begin to connect.
    pub fn start(&mut self, now: u64) {
        let shared = self.shared.clone();
        for squad in &mut self.squads {
            if shared.plan.specs[squad.group].start == Start::First {
                squad.start(now);
            }
        }
    }

    pub(super) fn start_late_groups(&mut self, now: u64) {
        if now < self.shared.window_start() {
            return;
        }
        for squad in self.squads.iter_mut().filter(|squad| !squad.started) {
            squad.start(now);
        }
    }

    pub(super) fn on_stage(&mut self, now: u64) {
        match self.stage {
            Stage::Connect => {}
            Stage::Publish => {
                for squad in &mut self.squads {
                    let spec = &self.shared.plan.specs[squad.group];
                    let begin = self.shared.window_start().min(now + u64::MAX / 4);
                    squad.next_cut = spec.cut_every.map(|every| begin + every.as_nanos() as u64);
                }
                self.plan_all_to_leave(now);
            }
            Stage::Drain => {
                for squad in &mut self.squads {
                    squad.next_cut = None;
                }
                self.return_all(now);
            }
            Stage::End => self.part_all(),
        }
    }

    pub(super) fn dial_due(&mut self, now: u64) {
        while let Some(&Reverse((at, client))) = self.delayed.peek()
            && at <= now
        {
            self.delayed.pop();
            let group = self.group_of(client);
            self.squads[group].enqueue(client, now);
        }
        for squad in &mut self.squads {
            let mut left = DIALS_PER_TURN_MAX;
            while left > 0
                && squad.next_dial().is_some_and(|at| at <= now)
                && let Some(index) = squad.dials.pop_front()
            {
                let client = &mut self.clients[index as usize];
                if client.phase != Phase::Away || (self.stage == Stage::End && !self.purging) {
                    continue;
                }
                client.phase = Phase::Dialing;
                client.attempt = client.attempt.wrapping_add(1);
                // In an open loop a connection takes time from when it was due.
                let due = self.storm.as_deref().and_then(|storm| storm.due_at(index));
                client.since = match (due, squad.dial_step_ns > 0.0) {
                    (Some(due), _) => due,
                    (None, true) => squad.next_dial_at as u64,
                    (None, false) => now,
                };
                if let Some(storm) = &mut self.storm {
                    storm.on_dial(index, now);
                }
                let board = &self.shared.boards[self.thread];
                board.dialed_at.fetch_min(now, Ordering::Relaxed);
                left -= 1;
                squad.connecting += 1;
                squad.next_dial_at += squad.dial_step_ns;
                let timeout = self.shared.plan.scenario.answer_timeout;
                let deadline = now + timeout.as_nanos() as u64;
                self.deadlines.push_back((deadline, index, client.attempt));
                self.outbox.dials.push(index);
            }
        }
    }

    pub(super) fn check_deadlines(&mut self, now: u64) {
        while let Some(&(at, index, attempt)) = self.pongs.front() {
            let client = &self.clients[index as usize];
            let is_waiting =
                client.attempt == attempt && client.phase == Phase::Ready && client.pinged;
            if is_waiting && at > now {
                break;
            }
            self.pongs.pop_front();
            if is_waiting {
                self.lose(index, now, Loss::Silent);
            }
        }
        while let Some(&(at, index, attempt)) = self.deadlines.front() {
            let client = &self.clients[index as usize];
            let is_waiting = client.attempt == attempt
                && match client.phase {
                    Phase::Dialing | Phase::Greeting | Phase::Subscribing => true,
                    Phase::Away | Phase::Ready | Phase::Closing(_) | Phase::Gone => false,
                };
            if is_waiting && at > now {
                return;
            }
            self.deadlines.pop_front();
            if is_waiting {
                self.lose(index, now, Loss::Silent);
            }
        }
    }

    /// The client is connected and has what it subscribed to.
    pub(super) fn on_ready(&mut self, index: u32, now: u64) {
        let group = self.group_of(index);
        let client = &mut self.clients[index as usize];
        client.phase = Phase::Ready;
        let first_time = !std::mem::replace(&mut client.settled, true);
        if let Some(ping_ns) = client.ping_ns() {
            let look = (now + ping_ns, index, client.attempt);
            self.pings.push(Reverse(look));
        }
        self.squads[group].connecting -= 1;
        if self.shared.plan.sys_group != Some(group) {
            self.count_ready(1);
        }
        if first_time {
            self.settle(group, now);
        } else {
            self.meter.counts[group].reconnects += 1;
        }
        if self.stage == Stage::Publish {
            self.plan_to_leave(index, now);
        }
        self.storm_ready(index, now);
        if self.clients[index as usize].publisher.is_some() {
            self.publish_pending(index, now);
        }
    }

    pub(super) fn count_ready(&mut self, change: i64) {
        self.ready_count = self.ready_count.saturating_add_signed(change);
        let board = &self.shared.boards[self.thread];
        board.ready.store(self.ready_count, Ordering::Release);
    }

    /// One client less to wait for.
    fn settle(&self, group: usize, now: u64) {
        if self.shared.plan.sys_group == Some(group) {
            return;
        }
        let board = &self.shared.boards[self.thread];
        if self.shared.plan.specs[group].start == Start::First {
            board.settled_at.store(now, Ordering::Relaxed);
        }
        let counter = match self.shared.plan.specs[group].start {
            Start::First => &board.settling,
            Start::Window => &board.settling_late,
        };
        counter.fetch_sub(1, Ordering::AcqRel);
    }

    /// Ends a connection from our side and does what follows from the reason.
    pub(super) fn lose(&mut self, index: u32, now: u64, loss: Loss) {
        let phase = self.clients[index as usize].phase;
        match phase {
            Phase::Away | Phase::Closing(_) | Phase::Gone => return,
            Phase::Dialing | Phase::Greeting | Phase::Subscribing | Phase::Ready => {}
        }
        self.note_loss(index, now, phase, &loss);
        let again = self.storm_return(index, now, &loss);
        let again = again.or_else(|| self.dials_again(index, now, &loss));
        self.leave(index, phase, &loss);
        self.clients[index as usize].phase = Phase::Closing(again);
        self.outbox.closes.push(index);
    }

    /// The socket of the client is closed: the last event of a connection.
    pub fn on_closed(&mut self, index: u32, now: u64) {
        let client = &mut self.clients[index as usize];
        let Phase::Closing(again) = client.phase else {
            return;
        };
        client.framer = Default::default();
        client.flying = 0;
        match again {
            Some(at) if self.stage < Stage::End => {
                client.phase = Phase::Away;
                self.delayed.push(Reverse((at.max(now), index)));
            }
            Some(_) | None => {
                client.phase = Phase::Gone;
                self.finish(index);
            }
        }
    }

    /// The broker or the kernel ended the connection; the driver closes the socket.
    pub fn on_lost(&mut self, index: u32, now: u64, loss: Loss) {
        self.lose(index, now, loss);
    }

    /// What the end of a connection means for what was underway.
    fn leave(&mut self, index: u32, phase: Phase, loss: &Loss) {
        let group = self.group_of(index);
        let keeps_session = !self.shared.plan.specs[group].clean;
        match phase {
            Phase::Dialing | Phase::Greeting | Phase::Subscribing => {
                self.squads[group].connecting -= 1;
            }
            Phase::Ready if self.shared.plan.sys_group != Some(group) => self.count_ready(-1),
            Phase::Ready | Phase::Away | Phase::Closing(_) | Phase::Gone => {}
        }
        let client = &mut self.clients[index as usize];
        let out = std::mem::take(&mut client.out);
        client.dirty = false;
        if let Some(reader) = &mut client.reader {
            reader.unsettled = 0;
        }
        if let Some(publisher) = &mut client.publisher
            && publisher.removal == Removal::Sent
        {
            publisher.removal = match loss {
                Loss::Closed(_) => Removal::Done,
                Loss::Dial(_)
                | Loss::Silent
                | Loss::Refused(_)
                | Loss::Malformed(_)
                | Loss::Ours => Removal::Due,
            };
            self.removing_count -= 1;
        }
        if !keeps_session {
            if let Some(reader) = &mut client.reader {
                reader.receipts.clear();
                // Clients that we disconnect at the end were there for everything that was sent.
                if let (Some(own), true) = (reader.own, self.stage < Stage::End) {
                    self.ledger.set_gone(own, true);
                    self.excuse(index);
                }
            }
            self.give_up_inflight(index);
        }
        self.recycle(out);
    }

    fn note_loss(&mut self, index: u32, now: u64, phase: Phase, loss: &Loss) {
        let group = self.group_of(index);
        if *loss == Loss::Ours
            || self.stage == Stage::End
            || self.shared.plan.sys_group == Some(group)
        {
            return;
        }
        let first_time = !self.clients[index as usize].settled;
        let is_of_restart = self.shared.plan.scenario.restarts && loss.is_of_restart();
        if !first_time && (is_of_restart || self.storm_failure(index, phase, loss)) {
            return;
        }
        self.meter.errors += 1;
        let step = match phase {
            Phase::Dialing => "while connecting",
            Phase::Greeting => "before CONNACK",
            Phase::Subscribing => "before SUBACK",
            Phase::Ready | Phase::Away | Phase::Closing(_) | Phase::Gone => "",
        };
        let (kind, detail) = match loss {
            Loss::Dial(why) => (CANNOT, why.clone()),
            Loss::Closed(why) => {
                let hint = match (phase, self.shared.plan.specs[group].tls) {
                    (Phase::Greeting, false) => NOT_PLAIN,
                    (Phase::Dialing, true) => NOT_TLS,
                    _ => "",
                };
                let detail = format!("{why} {step}");
                (CLOSED, format!("{}{hint}", detail.trim_end()))
            }
            Loss::Silent => match phase {
                Phase::Dialing => (
                    NO_ANSWER,
                    self.overdue("the TCP handshake or that of TLS was not answered"),
                ),
                Phase::Greeting => (NO_ANSWER, self.overdue("no CONNACK arrived")),
                Phase::Subscribing => (NO_ANSWER, self.overdue("no SUBACK arrived")),
                Phase::Ready | Phase::Away | Phase::Closing(_) | Phase::Gone => {
                    (NO_PONG, self.overdue("no PINGRESP arrived"))
                }
            },
            Loss::Refused(why) => (REFUSED, why.clone()),
            Loss::Malformed(why) => (MALFORMED, why.clone()),
            Loss::Ours => return,
        };
        let name = self.name_of(index);
        if first_time && self.shared.keep_going {
            self.clients[index as usize].settled = true;
            self.settle(group, now);
        } else if first_time && self.fatal.is_none() {
            self.fatal = Some(format!("{kind}: client {name}: {detail}"));
        }
        self.troubles
            .add(kind, || format!("client {name}: {detail}"));
    }

    fn overdue(&self, what: &str) -> String {
        let timeout = show_span(self.shared.plan.scenario.answer_timeout);
        format!("{what} within {timeout} (answer_timeout)")
    }

    /// When the client dials again after this.
    fn dials_again(&self, index: u32, now: u64, loss: &Loss) -> Option<u64> {
        let spec = &self.shared.plan.specs[self.group_of(index)];
        match loss {
            Loss::Ours => match spec.cut_every {
                Some(_) => Some(now + spec.cut_for.as_nanos() as u64),
                None => self.returns_at(index, now),
            },
            Loss::Dial(_)
            | Loss::Closed(_)
            | Loss::Silent
            | Loss::Refused(_)
            | Loss::Malformed(_) => {
                let comes_back =
                    spec.reconnect || spec.cut_every.is_some() || spec.online.is_some();
                comes_back.then_some(now + RECONNECT_PAUSE_NS)
            }
        }
    }

    pub(super) fn cut_due(&mut self, now: u64) {
        for at in 0..self.squads.len() {
            let squad = &mut self.squads[at];
            if squad.next_cut.is_none_or(|cut| cut > now) || now >= self.shared.window_end() {
                continue;
            }
            let every = self.shared.plan.specs[squad.group].cut_every;
            squad.next_cut = every.map(|every| now + every.as_nanos() as u64);
            let clients = squad.first..squad.first + squad.range.len() as u32;
            for index in clients {
                if self.clients[index as usize].phase == Phase::Ready {
                    self.lose(index, now, Loss::Ours);
                }
            }
        }
    }

    /// A client that said nothing for three quarters of its keep alive pings.
    pub(super) fn ping_due(&mut self, now: u64) {
        while let Some(&Reverse((time, index, attempt))) = self.pings.peek()
            && time <= now
        {
            self.pings.pop();
            let client = &self.clients[index as usize];
            let Some(ping_ns) = client.ping_ns() else {
                continue;
            };
            if client.phase != Phase::Ready || client.attempt != attempt {
                continue;
            }
            let due = client.sent_at.saturating_add(ping_ns);
            if due > now {
                self.pings.push(Reverse((due, index, attempt)));
                continue;
            }
            self.pings.push(Reverse((now + ping_ns, index, attempt)));
            encode_pingreq(self.out(index));
            self.mark_dirty(index);
            self.await_pong(index, now);
        }
    }

    /// Anything that arrives is an answer: PINGRESP may be queued behind messages. A client that
    /// reads slowly would blame itself.
    fn await_pong(&mut self, index: u32, now: u64) {
        if self.receive_rate(index).is_some() {
            return;
        }
        let timeout = self.shared.plan.scenario.answer_timeout.as_nanos() as u64;
        let client = &mut self.clients[index as usize];
        client.pinged = true;
        self.pongs.push_back((now + timeout, index, client.attempt));
    }

    /// Every client that is still connected.
    pub fn connected(&self) -> Vec<u32> {
        let has_socket = |client: &Client| match client.phase {
            Phase::Dialing | Phase::Greeting | Phase::Subscribing | Phase::Ready => true,
            Phase::Away | Phase::Closing(_) | Phase::Gone => false,
        };
        let all = self.clients.iter().enumerate();
        all.filter(|(_, client)| has_socket(client))
            .map(|(index, _)| index as u32)
            .collect()
    }

    /// Closes a client at the end of the run, whatever it is doing.
    pub fn dismiss(&mut self, index: u32, now: u64) {
        self.lose(index, now, Loss::Ours);
    }
}

/// Messages underway of each client of the closed loop that shows how much a broker takes at most:
/// a thousand in all, if that is not too many or too few for one client.
fn probe_window(clients: u32) -> u32 {
    (1000 / clients.max(1)).clamp(1, 10)
}

/// Servers of other protocols close such connections, and so do brokers that reject them.
const NOT_PLAIN: &str = "; if the port is for TLS add --tls, if it is for WebSockets write \
                         --target ws://HOST:PORT/mqtt, else see the broker's log";
/// What a port for plain MQTT does with a handshake.
const NOT_TLS: &str = "; if the port is not for TLS leave out --tls";
/// Trouble: the connection could not be made.
pub const CANNOT: &str = "cannot connect";
/// Trouble: CONNECT or SUBSCRIBE was refused.
pub const REFUSED: &str = "refused";
/// Trouble: CONNECT or SUBSCRIBE was not answered.
pub const NO_ANSWER: &str = "no answer";
/// Trouble: the broker ended a connection.
pub const CLOSED: &str = "closed by the broker";
/// Trouble: the broker sent what no broker may send.
pub const MALFORMED: &str = "malformed packet";
/// Trouble: the broker did not answer PINGREQ.
pub const NO_PONG: &str = "no answer to a ping";
/// Trouble: the broker stopped to answer.
pub const SILENT: &str = "broker fell silent";
/// After a loss a client waits this long.
const RECONNECT_PAUSE_NS: u64 = 100_000_000;
/// Of a group. The kernel makes the handshakes of a turn one after the other, some 30 us each: with
/// more of them the last one would wait for the others, and its CONNECT and all CONNACKs for the
/// next turn.
pub(super) const DIALS_PER_TURN_MAX: u32 = 8;
