//! The main thread of a run, stage by stage.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::hearing::Hearing;
use super::seconds::{Beside, Seconds};
use super::storm::{self, Presence};
use super::worker::{Ended as ThreadEnded, Event};
use super::{BrokerSample, BrokerSamples, Options, Outcome, SysSample, ThreadOutcome};
use crate::fleet::{SILENT, Troubles};
use crate::meter::Interval;
use crate::metrics::Latest;
use crate::process::CpuTime;
use crate::progress::{Progress, Snapshot};
use crate::report::{Ended, Phases, ThreadUse};
use crate::scenario::Start;
use crate::shared::{Shared, Stage, UNKNOWN, now_ns};

/// The main thread of a run.
pub(super) struct Control<'a> {
    shared: Arc<Shared>,
    options: Options,
    events: Receiver<Event>,
    /// For those who watch from elsewhere.
    latest: Latest,
    progress: &'a mut Progress,
    began_at: u64,
    publish_at: u64,
    drain_at: u64,
    ended_at: u64,
    asked_again: bool,
    stage: Stage,
    ended: Ended,
    connected: u64,
    seconds: Seconds,
    storm: Option<storm::Course>,
    broker: Option<BrokerSamples>,
    /// CPU time of the broker at the beginnings and ends of the stages, in turn.
    broker_parts: Vec<(u64, Option<CpuTime>)>,
    sys: Vec<SysSample>,
    threads: Vec<Option<Box<ThreadEnded>>>,
    fatal: Option<String>,
    /// Clients were connected once, and since when there are none.
    empty_since: Option<u64>,
    hearing: Hearing,
    /// The report about a broker that stopped responding.
    silence: Option<String>,
}

impl<'a> Control<'a> {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: Options,
        events: Receiver<Event>,
        latest: Latest,
        progress: &'a mut Progress,
    ) -> Control<'a> {
        let now = now_ns();
        Control {
            threads: (0..shared.plan.threads).map(|_| None).collect(),
            broker: (!options.pids.is_empty()).then(BrokerSamples::default),
            broker_parts: Vec::new(),
            seconds: Seconds::new(&shared.plan),
            storm: shared.plan.scenario.storm.as_ref().map(storm::Course::of),
            shared,
            options,
            events,
            latest,
            progress,
            began_at: now,
            publish_at: UNKNOWN,
            drain_at: UNKNOWN,
            ended_at: UNKNOWN,
            asked_again: false,
            stage: Stage::Connect,
            ended: Ended::Planned,
            connected: 0,
            sys: Vec::new(),
            fatal: None,
            empty_since: None,
            hearing: Hearing::default(),
            silence: None,
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome, String> {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let pids = self.options.pids.clone();
        if let Some(broker) = &mut self.broker {
            broker.before = BrokerSample::of(&pids);
        }
        while self.threads.iter().any(Option::is_none) {
            let now = now_ns();
            match self.stage {
                Stage::Connect => self.in_connect(now),
                Stage::Publish => self.in_publish(now),
                Stage::Drain => self.in_drain(now),
                // Threads end by themselves; one that does not has a bug, and is not waited for.
                Stage::End if now.saturating_sub(self.ended_at) > END_NS => break,
                Stage::End => {}
            }
            self.show(now);
            let wait = self.next_look(now).saturating_sub(now_ns());
            match self.events.recv_timeout(Duration::from_nanos(wait)) {
                Ok(event) => self.on_event(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.progress.finish();
        if let Some(broker) = &mut self.broker {
            broker.end = BrokerSample::of(&pids);
        }
        if let Some(why) = self.fatal.take() {
            return Err(why);
        }
        self.outcome(started.as_millis() as u64)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Fatal(why) => {
                self.fatal.get_or_insert(why);
                self.finish(now_ns());
            }
            Event::Interval(interval) => self.on_interval(&interval),
            Event::Report(_) => unreachable!("no report was asked for"),
            Event::Lost(why) => self.on_machine_lost(why),
            Event::Sys(updates) => {
                let sent = self.shared.sum(|board| board.sent.load(Ordering::Relaxed));
                let received = self
                    .shared
                    .sum(|board| board.received.load(Ordering::Relaxed));
                let samples = updates.into_iter().map(|update| SysSample {
                    update,
                    sent,
                    received,
                });
                self.sys.extend(samples);
            }
            Event::Ended(ended) => {
                let thread = ended.thread;
                self.threads[thread] = Some(ended);
            }
        }
    }

    /// A part of the clients is gone, and nobody knows what they sent.
    fn on_machine_lost(&mut self, why: String) {
        let now = now_ns();
        match self.stage {
            Stage::Connect => {
                self.fatal.get_or_insert(why);
                self.finish(now);
            }
            Stage::Publish => {
                self.ended = Ended::Lost;
                self.drain(now);
            }
            Stage::Drain | Stage::End => self.ended = Ended::Lost,
        }
    }

    fn on_interval(&mut self, interval: &Interval) {
        let beside = self.beside();
        self.seconds.add(interval, now_ns(), &beside);
        let last = self.seconds.last().cloned();
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// What there is to see of a run at this moment.
    fn beside(&self) -> Beside {
        let broker = || BrokerSample::of(&self.options.pids);
        Beside {
            broker: self
                .broker
                .as_ref()
                .map_or_else(BrokerSample::default, |_| broker()),
            own_cpu: match &self.options.elsewhere {
                Some(elsewhere) => elsewhere.cpu(),
                None => CpuTime::of(&[std::process::id()]),
            },
            ready: self.shared.sum(|board| board.ready.load(Ordering::Relaxed)),
            presence: Presence::of(&self.shared),
        }
    }

    /// Everybody connects; then the publishing begins.
    fn in_connect(&mut self, now: u64) {
        self.connected = self.shared.sum(|board| board.ready.load(Ordering::Relaxed));
        if self.is_interrupted() {
            self.ended = Ended::Interrupted;
            return self.finish(now);
        }
        let settling = self
            .shared
            .sum(|board| u64::from(board.settling.load(Ordering::Acquire)));
        if settling > 0 {
            return;
        }
        if let Some(broker) = &mut self.broker {
            broker.connected = BrokerSample::of(&self.options.pids);
        }
        let elsewhere = self.options.elsewhere.as_ref();
        self.publish_at = now + elsewhere.map_or(LEAD_NS, |elsewhere| elsewhere.lead_ns);
        let beside = self.beside();
        self.seconds.begin(self.publish_at, &beside);
        let warmup = if self.is_limited() {
            0
        } else {
            self.shared.plan.scenario.warmup_span().as_nanos() as u64
        };
        self.shared.set_publish_at(self.publish_at);
        if !self.window_comes_later() {
            self.open_window(self.publish_at + warmup);
        }
        self.enter(Stage::Publish);
    }

    fn open_window(&mut self, at: u64) {
        let duration = self.shared.plan.scenario.window_span().as_nanos() as u64;
        self.shared.set_window_start(at);
        self.shared.set_window_end(at.saturating_add(duration));
    }

    fn in_publish(&mut self, now: u64) {
        self.look_at_broker(now);
        self.hearing.listen(&self.shared, now);
        if self.is_interrupted() {
            self.ended = Ended::Interrupted;
            return self.drain(now);
        }
        if self.is_deserted(now) {
            self.ended = Ended::Broken;
            return self.drain(now);
        }
        if self.seconds.aborted().is_some() {
            self.ended = Ended::Aborted;
            return self.drain(now);
        }
        let recovered = self.seconds.recovered_s().is_some();
        if let Some(storm) = &mut self.storm
            && storm.look(&self.shared, now, recovered)
        {
            return self.drain(now);
        }
        if now >= self.shared.window_end() {
            return self.drain(self.shared.window_end());
        }
        let sum = |of: fn(&crate::shared::Board) -> u64| self.shared.sum(of);
        let unfinished = sum(|board| u64::from(board.unfinished.load(Ordering::Acquire)));
        if unfinished > 0 || !self.is_limited() {
            return;
        }
        if self.shared.window_start() == UNKNOWN {
            return self.open_window(now);
        }
        // All is sent. The window closes when all has arrived.
        let late = sum(|board| u64::from(board.settling_late.load(Ordering::Acquire)));
        if late == 0 && self.shared.question() == 0 {
            self.shared.ask();
        }
        let outstanding = self.shared.outstanding();
        let arrived_at = self.arrived_at().max(self.shared.window_start());
        let silent =
            now.saturating_sub(arrived_at) > self.shared.plan.scenario.drain.as_nanos() as u64;
        if late == 0 && now > self.shared.window_start() && (outstanding == 0 || silent) {
            self.drain(arrived_at.max(self.shared.window_start() + 1));
        }
    }

    /// Nothing is published any more.
    fn drain(&mut self, window_end: u64) {
        if self.shared.window_start() > window_end {
            self.shared.set_window_start(window_end);
        }
        self.shared.set_window_end(window_end);
        self.look_at_broker(now_ns());
        self.drain_at = now_ns();
        self.enter(Stage::Drain);
        self.shared.ask();
    }

    fn in_drain(&mut self, now: u64) {
        self.hearing.listen(&self.shared, now);
        if self.is_interrupted() {
            self.ended = Ended::Interrupted;
        }
        let scenario = &self.shared.plan.scenario;
        // A thread that has answered has heard of the drain and sends nothing more; when all have,
        // what they count is final but for what arrives.
        if !self.asked_again && self.shared.is_answered() {
            self.asked_again = true;
            self.shared.ask();
        }
        let is_final = self.asked_again && self.shared.is_answered();
        let outstanding = if is_final {
            self.shared.outstanding()
        } else {
            UNKNOWN
        };
        let waiting = |board: &crate::shared::Board| {
            let pending = board.pending.load(Ordering::Relaxed);
            pending + board.unacknowledged.load(Ordering::Relaxed)
        };
        let is_settled = outstanding == 0 && self.shared.sum(waiting) == 0;
        let heard_at = self.shared.latest(|board| &board.heard_at);
        let silent =
            now.saturating_sub(heard_at.max(self.drain_at)) > scenario.drain.as_nanos() as u64;
        let ready = self.shared.sum(|board| board.ready.load(Ordering::Relaxed));
        // After a restart they come back.
        let nobody = ready == 0 && !scenario.restarts;
        let in_haste = self.ended == Ended::Interrupted && now - self.drain_at > INTERRUPTED_NS;
        let is_over = is_settled || silent || nobody || in_haste;
        if is_over && (self.ended != Ended::Planned || !self.waits_for_sys(now)) {
            // Who is away cannot be answered.
            let is_whole = matches!(self.ended, Ended::Planned | Ended::Aborted);
            if is_whole && ready >= self.connected {
                self.silence = self.hearing.silence(&self.shared);
            }
            self.finish(now);
        }
    }

    /// The broker's own counters are published at intervals: those that cover the whole run are
    /// worth a wait.
    fn waits_for_sys(&self, now: u64) -> bool {
        let wait = self.options.sys_wait.as_nanos() as u64;
        let settled_at = self.arrived_at().max(self.drain_at) + SYS_SETTLED_NS;
        let is_fresh = self.sys.last().is_some_and(|sample| {
            let at = sample.update.at_ns;
            at > settled_at && now.saturating_sub(at) > SYS_WHOLE_NS
        });
        wait > 0 && !self.sys.is_empty() && !is_fresh && now.saturating_sub(self.drain_at) < wait
    }

    fn finish(&mut self, now: u64) {
        if self.stage < Stage::End {
            self.ended_at = now;
            self.enter(Stage::End);
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.shared.set_stage(stage);
    }

    fn look_at_broker(&mut self, now: u64) {
        let (start, end) = (self.shared.window_start(), self.shared.window_end());
        let Some(broker) = &mut self.broker else {
            return;
        };
        let pids = &self.options.pids;
        if broker.window_start.is_none() && now >= start {
            broker.window_start = Some((now, CpuTime::of(pids)));
        }
        if broker.window_end.is_none() && now >= end {
            broker.window_end = Some((now, CpuTime::of(pids)));
        }
        while self.next_boundary().is_some_and(|at| at <= now.min(end)) {
            let sample = (now, CpuTime::of(&self.options.pids));
            self.broker_parts.push(sample);
        }
    }

    /// When the next stage begins, or the one that is running ends, with a broker to look at.
    fn next_boundary(&self) -> Option<u64> {
        let number = self.broker_parts.len();
        let (course, _) = self.shared.course();
        let segment = course.segments().get(number / 2)?;
        let at = match number % 2 {
            0 => segment.begin_ns,
            _ => segment.end_ns,
        };
        Some(self.publish_at.saturating_add(at)).filter(|_| self.broker.is_some())
    }

    /// When something may have to be done.
    fn next_look(&self, now: u64) -> u64 {
        let mut next = now + LOOK_NS;
        let boundary = self.next_boundary().unwrap_or(UNKNOWN);
        for at in [
            self.shared.window_start(),
            self.shared.window_end(),
            boundary,
        ] {
            if at > now {
                next = next.min(at);
            }
        }
        next
    }

    fn show(&mut self, now: u64) {
        if !self.progress.is_due(now) {
            return;
        }
        let relaxed = Ordering::Relaxed;
        let shared = &self.shared;
        let snapshot = Snapshot {
            name: &self.options.name,
            now_ns: now,
            began_ns: self.began_at,
            stage: self.stage,
            window: (shared.window_start(), shared.window_end()),
            clients: shared.plan.scenario.client_count(),
            ready: shared.sum(|board| board.ready.load(relaxed)),
            sent: shared.sum(|board| board.sent.load(relaxed)),
            received: shared.sum(|board| board.received.load(relaxed)),
            errors: shared.sum(|board| board.errors.load(relaxed)),
            seconds: self.seconds.closed(),
        };
        self.progress.show(&snapshot);
    }

    fn is_interrupted(&self) -> bool {
        self.options.interrupted.load(Ordering::Relaxed)
    }

    /// All that publish have a limit: the run ends when they are done.
    fn is_limited(&self) -> bool {
        let mut publishers = self
            .shared
            .plan
            .specs
            .iter()
            .filter(|group| group.publish.is_some())
            .peekable();
        publishers.peek().is_some() && publishers.all(|group| group.messages.is_some())
    }

    /// The window begins when those with a limit are done, and others connect then.
    fn window_comes_later(&self) -> bool {
        let late = self
            .shared
            .plan
            .specs
            .iter()
            .any(|group| group.start == Start::Window);
        late && self.is_limited()
    }

    /// Nobody is connected, and nobody will reconnect.
    fn is_deserted(&mut self, now: u64) -> bool {
        // After a storm all may be away for long; how long that goes on is its own bound.
        if self.storm.is_some() {
            return false;
        }
        if self.shared.sum(|board| board.ready.load(Ordering::Relaxed)) > 0 {
            self.empty_since = None;
            return false;
        }
        let comes_back =
            self.shared.plan.specs.iter().any(|group| {
                group.reconnect || group.cut_every.is_some() || group.online.is_some()
            });
        let patience = if comes_back { DESERTED_NS } else { 4 * LOOK_NS };
        let scenario = &self.shared.plan.scenario;
        let patience = match scenario.restarts {
            true => patience.max(scenario.drain.as_nanos() as u64),
            false => patience,
        };
        now.saturating_sub(*self.empty_since.get_or_insert(now)) > patience
    }

    fn arrived_at(&self) -> u64 {
        self.shared.latest(|board| &board.arrived_at)
    }

    /// How long each part took, and from the first dial until all were connected.
    fn phases(&self) -> (Phases, f64) {
        let window = (self.shared.window_start(), self.shared.window_end());
        let span = |from: u64, to: u64| to.saturating_sub(from.min(to)) as f64 / 1e9;
        let has_published = self.publish_at != UNKNOWN;
        let published = |span: f64| if has_published { span } else { 0.0 };
        let heard_at = self.shared.latest(|board| &board.heard_at);
        let drained = heard_at.max(window.1.min(now_ns()));
        let settled_at = self.shared.latest(|board| &board.settled_at);
        // Some may never have been settled: then the wait for them ended with the run.
        let connected_at = if has_published && settled_at > 0 {
            settled_at
        } else {
            self.publish_at.min(now_ns())
        };
        let dialed_at = self.shared.boards.iter();
        let dialed_at = dialed_at.map(|board| board.dialed_at.load(Ordering::Relaxed));
        let dialed_at = dialed_at.min().unwrap_or(UNKNOWN);
        let phases = Phases {
            connect_s: span(self.began_at, connected_at),
            warmup_s: published(span(self.publish_at, window.0)),
            window_s: published(span(window.0, window.1)),
            drain_s: published(span(window.1, drained)),
        };
        (phases, span(dialed_at, connected_at))
    }

    fn outcome(self, started_unix_ms: u64) -> Result<Outcome, String> {
        let (phases, connecting_s) = self.phases();
        let published_at = self.publish_at.min(now_ns());
        let is_aborted = self.ended == Ended::Aborted;
        let aborted = self.seconds.aborted().filter(|_| is_aborted).cloned();
        let whole = self.seconds.finish();
        let mut troubles = Troubles::default();
        if let Some(why) = self.silence {
            troubles.add(SILENT, || why);
        }
        let (mut ports_exhausted, mut files_exhausted) = (0, 0);
        let mut threads = Vec::new();
        for ended in self.threads {
            let ended =
                *ended.ok_or("a thread of ringload did not end; this is a bug in ringload")?;
            troubles.merge(ended.troubles.clone());
            ports_exhausted += ended.ports_exhausted;
            files_exhausted += ended.files_exhausted;
            threads.push(thread_outcome(ended));
        }
        Ok(Outcome {
            shared: self.shared,
            ended: self.ended,
            phases,
            connected: self.connected,
            connecting_s,
            started_unix_ms,
            published_after: Duration::from_nanos(published_at.saturating_sub(self.began_at)),
            seconds: whole.seconds,
            delays: whole.delays,
            lag: whole.lag,
            broker_parts: self.broker_parts,
            aborted,
            recovered_s: whole.recovered_s,
            histograms: whole.histograms,
            threads,
            troubles,
            broker: self.broker,
            sys: self.sys,
            ports_exhausted,
            files_exhausted,
            settled: None,
        })
    }
}

fn thread_outcome(ended: ThreadEnded) -> ThreadOutcome {
    let [start, end] = ended.window;
    let mut used = ThreadUse::default();
    if let (Some(start), Some(end)) = (start, end) {
        let span = end.at_ns.saturating_sub(start.at_ns) as f64;
        // A window that was closed before it began says nothing.
        if span > 0.0 {
            used.cpu_share = Some(end.cpu_ns.saturating_sub(start.cpu_ns) as f64 / span);
            let waits = start.wait_ns.zip(end.wait_ns);
            used.wait_share = waits.map(|(start, end)| end.saturating_sub(start) as f64 / span);
        }
    }
    let boundaries = ended.boundaries.into_iter();
    let [start, end] = ended.counts;
    let window = start.zip(end).map(|(start, end)| [start, end]);
    ThreadOutcome {
        ledger: ended.ledger,
        meter: ended.meter,
        uncertain: ended.uncertain,
        window,
        boundaries: boundaries.map(|boundary| boundary.counts).collect(),
        part_ends: ended.part_ends,
        storm: ended.storm,
        used,
    }
}

/// The threads hear of the publishing before it begins.
const LEAD_NS: u64 = 20_000_000;
/// The main thread looks around this often.
const LOOK_NS: u64 = 50_000_000;
/// How long to wait for clients that reconnect.
const DESERTED_NS: u64 = 5_000_000_000;
/// Who pressed Ctrl-C wants an end.
const INTERRUPTED_NS: u64 = 500_000_000;
/// Threads spend at most four seconds on disconnecting, and ten on ending sessions.
const END_NS: u64 = 20_000_000_000;
/// A report of the broker so long after the last message covers all of them.
const SYS_SETTLED_NS: u64 = 100_000_000;
/// A report is many messages: it is complete when none has arrived for so long.
const SYS_WHOLE_NS: u64 = 100_000_000;
