//! Trials on one engine: clients connect once, and the rate of their schedules changes from trial to
//! trial.
//!
//! A trial is a segment of the course. It is over when its time is, or early when more is underway
//! than can come to a good end; then everything that is underway arrives, or has had its time to, so
//! that the next trial begins with nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::worker::{Boundary, Ended as ThreadEnded, Event, Report};
use super::{Options, Threads};
use crate::course::{Course, Segment};
use crate::fleet::Troubles;
use crate::meter::{Counts, GroupTimes, Interval};
use crate::plan::Plan;
use crate::process::CpuTime;
use crate::report::ThreadUse;
use crate::shared::{Board, Shared, Stage, UNKNOWN, now_ns};
use crate::tally::Tally as _;
use crate::times::{Delays, Times};

/// A running engine, between trials.
#[derive(Debug)]
pub struct Trials {
    shared: Arc<Shared>,
    options: Options,
    events: Receiver<Event>,
    handles: Vec<JoinHandle<()>>,
    publish_at: u64,
    course: Course,
    /// What was measured since the last trial began.
    gathered: Gathered,
    /// Deliveries that never came, of earlier trials.
    written_off: u64,
    outstanding: u64,
    reports: Vec<Option<Box<Report>>>,
    ended: Vec<Option<Box<ThreadEnded>>>,
    /// Since when nobody is connected.
    empty_since: Option<u64>,
}

/// What the threads have reported.
#[derive(Debug, Default)]
struct Gathered {
    delays: BTreeMap<(u32, u16, u8), Delays>,
    lag: Times,
    /// By second of the publishing.
    seconds: BTreeMap<u32, Times>,
    /// By thread.
    boundaries: Vec<Vec<Boundary>>,
}

/// What is wanted of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The rate, as a factor of that of the groups.
    pub factor: f64,
    /// How long.
    pub span: Duration,
    /// With more messages underway it is over at once; deliveries.
    pub underway_max: u64,
    /// Once nothing has arrived for so long, the rest counts as lost.
    pub quiet: Duration,
}

/// What a trial showed.
#[derive(Debug)]
pub struct Trial {
    /// When it began, seconds after the publishing.
    pub at_s: f64,
    /// How long it took.
    pub span_s: f64,
    /// It was over early: too much was underway.
    pub is_hopeless: bool,
    /// Times of deliveries, by group and QoS.
    pub delays: BTreeMap<(u16, u8), Delays>,
    /// The same for each second of it, over all groups, corrected.
    pub seconds: Vec<Times>,
    /// How late the generator was.
    pub lag: Times,
    /// By thread.
    pub threads: Vec<ThreadUse>,
    /// What was counted in its time, by group.
    pub counts: Vec<Counts>,
    /// Deliveries that never came.
    pub lost: u64,
    /// CPU of the broker, cores; absent without `--pid`.
    pub broker_cores: Option<f64>,
    /// How long connections took, by group; only of trials that connect their clients.
    pub connect: Vec<Times>,
}

/// What is known once everybody has left.
#[derive(Debug)]
pub struct Finished {
    /// What went wrong in all.
    pub troubles: Troubles,
    /// Times of the whole run, by group.
    pub times: Vec<GroupTimes>,
}

impl Trial {
    /// One in which nothing was measured.
    pub fn nothing() -> Trial {
        Trial {
            at_s: 0.0,
            span_s: 0.0,
            is_hopeless: false,
            delays: BTreeMap::new(),
            seconds: Vec::new(),
            lag: Times::default(),
            threads: Vec::new(),
            counts: Vec::new(),
            lost: 0,
            broker_cores: None,
            connect: Vec::new(),
        }
    }
}

/// Why there is no next trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The user wants it to end.
    Interrupted,
    /// It makes no sense to go on.
    Failed(String),
}

impl Trials {
    /// Starts the threads, and waits until everybody is connected and subscribed.
    pub fn connect(plan: Plan, options: Options) -> Result<Trials, Stop> {
        let threads = super::start_all(plan, &options).map_err(Stop::Failed)?;
        let Threads {
            shared,
            events,
            handles,
        } = threads;
        let count = shared.plan.threads;
        let mut trials = Trials {
            shared,
            options,
            events,
            handles,
            publish_at: UNKNOWN,
            course: Course::idle(),
            gathered: Gathered::new(count),
            written_off: 0,
            outstanding: 0,
            reports: (0..count).map(|_| None).collect(),
            ended: (0..count).map(|_| None).collect(),
            empty_since: None,
        };
        let settling = |board: &Board| u64::from(board.settling.load(Ordering::Acquire));
        while trials.shared.sum(settling) > 0 {
            if let Err(stop) = trials.look(LOOK_NS) {
                trials.finish();
                return Err(stop);
            }
        }
        Ok(trials)
    }

    /// Lets every group publish as messages arrive, and gives the messages per second that came
    /// through. The first third is not counted.
    pub fn closed_loop(&mut self, span: Duration) -> Result<f64, Stop> {
        let span_ns = span.as_nanos() as u64;
        let segment = Segment {
            begin_ns: span_ns / 3,
            end_ns: span_ns,
        };
        self.course.add_segment(segment);
        self.shared.set_course(self.course.clone());
        self.shared.set_open_at(UNKNOWN);
        self.begin();
        self.wait_until(self.publish_at + span_ns)?;
        self.shared.set_open_at(now_ns());
        self.settle(Duration::from_secs(2))?;
        let counts = self.counts(0)?;
        let sent: u64 = counts.iter().map(|counts| counts.sent).sum();
        Ok(sent as f64 * 1e9 / (segment.end_ns - segment.begin_ns) as f64)
    }

    /// The publishing begins, with nothing.
    fn begin(&mut self) {
        self.publish_at = now_ns() + LEAD_NS;
        self.shared.set_publish_at(self.publish_at);
        self.shared.set_window_start(self.publish_at);
        self.shared.set_stage(Stage::Publish);
    }

    /// One trial, from the first message to the last delivery.
    pub fn trial(&mut self, wanted: Wanted) -> Result<Trial, Stop> {
        if self.publish_at == UNKNOWN {
            self.begin();
        }
        self.gathered = Gathered::new(self.shared.plan.threads);
        let begin_ns = now_ns() + LEAD_NS - self.publish_at;
        let mut end_ns = begin_ns + wanted.span.as_nanos() as u64;
        self.course
            .append(begin_ns, wanted.factor, wanted.factor, 0);
        self.course.append(end_ns, 0.0, 0.0, 0);
        let segment = self.course.add_segment(Segment { begin_ns, end_ns });
        self.shared.set_course(self.course.clone());
        self.wait_until(self.publish_at + begin_ns)?;
        let broker = (now_ns(), CpuTime::of(&self.options.pids));
        let mut is_hopeless = false;
        while now_ns() < self.publish_at + end_ns {
            if !is_hopeless && self.underway() > wanted.underway_max {
                is_hopeless = true;
                // What is past stays as it was: threads may have sent up to now.
                end_ns = end_ns.min(now_ns() + LEAD_NS - self.publish_at);
                self.course.append(end_ns, 0.0, 0.0, 0);
                self.course.end_segment(end_ns);
                self.shared.set_course(self.course.clone());
            }
            let left = (self.publish_at + end_ns).saturating_sub(now_ns());
            self.look(left.min(UNDERWAY_NS))?;
        }
        let broker_cores = self.cores_since(broker);
        // Whoever is later than that has shown that it cannot keep up.
        self.wait_until(self.publish_at + end_ns + LATE_NS)?;
        self.course.give_up_before(end_ns);
        self.shared.set_course(self.course.clone());
        self.settle(wanted.quiet)?;
        let counts = self.counts(segment)?;
        let lost = self.lost();
        let boundaries = &self.gathered.boundaries;
        let threads = boundaries.iter().map(|marks| used(marks)).collect();
        let begin_s = (begin_ns / SECOND_NS) as u32;
        Ok(Trial {
            at_s: begin_ns as f64 / 1e9,
            span_s: (end_ns - begin_ns) as f64 / 1e9,
            is_hopeless,
            seconds: std::mem::take(&mut self.gathered.seconds)
                .into_iter()
                .filter(|(second, _)| *second >= begin_s)
                .map(|(_, times)| times)
                .collect(),
            delays: std::mem::take(&mut self.gathered.delays)
                .into_iter()
                .filter(|((of, _, _), _)| *of == segment)
                .map(|((_, group, qos), delays)| ((group, qos), delays))
                .collect(),
            lag: std::mem::take(&mut self.gathered.lag),
            threads,
            counts,
            lost,
            broker_cores,
            connect: Vec::new(),
        })
    }

    /// Waits for a time, and listens meanwhile.
    pub fn rest(&mut self, span: Duration) -> Result<(), Stop> {
        self.wait_until(now_ns() + span.as_nanos() as u64)
    }

    /// Clients that are connected and subscribed.
    pub fn ready(&self) -> u64 {
        self.shared.sum(|board| board.ready.load(Ordering::Acquire))
    }

    /// Everybody leaves.
    pub fn finish(mut self) -> Finished {
        self.shared.set_window_end(now_ns());
        self.shared.set_stage(Stage::Drain);
        self.shared.set_stage(Stage::End);
        let begin = now_ns();
        while self.ended.iter().any(Option::is_none) && now_ns() - begin < END_NS {
            match self.events.recv_timeout(Duration::from_nanos(LOOK_NS)) {
                Ok(Event::Ended(ended)) => {
                    let thread = ended.thread;
                    self.ended[thread] = Some(ended);
                }
                Ok(Event::Fatal(_) | Event::Interval(_) | Event::Report(_) | Event::Sys(_)) => {}
                Ok(Event::Lost(_)) => unreachable!("a search is made on one machine"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let mut troubles = Troubles::default();
        let mut times = vec![GroupTimes::default(); self.shared.plan.specs.len()];
        let is_whole = self.ended.iter().all(Option::is_some);
        for ended in self.ended.into_iter().flatten() {
            troubles.merge(ended.troubles);
            for (sum, of_thread) in times.iter_mut().zip(&ended.meter.times) {
                sum.add(of_thread);
            }
        }
        // A thread that does not end has a bug, and is not waited for.
        for handle in self.handles.into_iter().filter(|_| is_whole) {
            let _ = handle.join();
        }
        Finished { troubles, times }
    }

    fn wait_until(&mut self, at: u64) -> Result<(), Stop> {
        loop {
            let left = at.saturating_sub(now_ns());
            if left == 0 {
                return Ok(());
            }
            self.look(left.min(LOOK_NS))?;
        }
    }

    /// Takes what the threads send, for so long.
    fn look(&mut self, span_ns: u64) -> Result<(), Stop> {
        let until = now_ns() + span_ns;
        loop {
            if self.options.interrupted.load(Ordering::Relaxed) {
                return Err(Stop::Interrupted);
            }
            let left = until.saturating_sub(now_ns());
            match self.events.recv_timeout(Duration::from_nanos(left)) {
                Ok(event) => self.on_event(event)?,
                Err(RecvTimeoutError::Timeout) => return self.check_connected(),
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "a thread of ringload has ended; this is a bug in ringload";
                    return Err(Stop::Failed(why.to_owned()));
                }
            }
        }
    }

    fn check_connected(&mut self) -> Result<(), Stop> {
        let ready = self.shared.sum(|board| board.ready.load(Ordering::Acquire));
        if ready > 0 || self.publish_at == UNKNOWN {
            self.empty_since = None;
            return Ok(());
        }
        let now = now_ns();
        match now - *self.empty_since.get_or_insert(now) > DESERTED_NS {
            true => Err(Stop::Failed("all connections were lost".to_owned())),
            false => Ok(()),
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), Stop> {
        match event {
            Event::Fatal(why) => return Err(Stop::Failed(why)),
            Event::Interval(interval) => self.gathered.add(&interval),
            Event::Report(report) => {
                let thread = report.thread;
                self.gathered.add(&report.interval);
                let marks = report.boundaries.iter().cloned();
                self.gathered.boundaries[thread].extend(marks);
                self.reports[thread] = Some(report);
            }
            // What the broker says of itself is compared in runs.
            Event::Sys(_) => {}
            Event::Lost(_) => unreachable!("a search is made on one machine"),
            Event::Ended(ended) => {
                let thread = ended.thread;
                self.ended[thread] = Some(ended);
            }
        }
        Ok(())
    }

    /// Asks every thread, and waits for its answer.
    fn report(&mut self) -> Result<(), Stop> {
        let number = self.shared.ask_for_report();
        let begin = now_ns();
        let is_missing = |report: &Option<Box<Report>>| {
            report.as_ref().is_none_or(|report| report.number < number)
        };
        while self.reports.iter().any(is_missing) {
            self.look(REPORT_NS)?;
            if now_ns() - begin > END_NS {
                let why = "a thread of ringload does not answer; this is a bug in ringload";
                return Err(Stop::Failed(why.to_owned()));
            }
        }
        Ok(())
    }

    /// Deliveries that are underway, as far as the boards tell; messages that wait count as well.
    fn underway(&self) -> u64 {
        let owed = self.shared.sum(|board| board.owed.load(Ordering::Relaxed));
        let pending = self
            .shared
            .sum(|board| board.pending.load(Ordering::Relaxed));
        self.missing(owed) + pending
    }

    /// What is owed and has not arrived, without what earlier trials have given up.
    fn missing(&self, owed: u64) -> u64 {
        let arrived = self.shared.arrived.iter();
        let arrived: u64 = arrived.map(|slot| slot.load(Ordering::SeqCst)).sum();
        owed.saturating_sub(arrived + self.written_off)
    }

    /// Waits until nothing is underway, or nothing has arrived for so long.
    fn settle(&mut self, quiet: Duration) -> Result<(), Stop> {
        let begin = now_ns();
        let (mut last, mut changed_at, mut pause_ns) = (u64::MAX, begin, SETTLE_NS);
        loop {
            self.report()?;
            let reports = self.reports.iter().flatten();
            let (mut owed, mut pending) = (0, 0);
            for report in reports {
                owed += report.owed;
                pending += report.pending;
            }
            let missing = self.missing(owed);
            let now = now_ns();
            if missing + pending != last {
                (last, changed_at) = (missing + pending, now);
            }
            let is_quiet = now - changed_at > quiet.as_nanos() as u64;
            // A thread in the middle of a turn may not have come to the end of the segment.
            let boundaries = &self.gathered.boundaries;
            let is_marked = boundaries.iter().all(|marks| marks.len() >= 2);
            let is_over = last == 0 || is_quiet || now - begin > SETTLE_MAX_NS;
            if is_over && is_marked {
                self.written_off += missing;
                // The books were read before the last deliveries came.
                return self.report();
            }
            self.look(pause_ns)?;
            pause_ns = (pause_ns * 2).min(LOOK_NS);
        }
    }

    /// What was counted in a segment, over all threads.
    fn counts(&self, segment: u32) -> Result<Vec<Counts>, Stop> {
        let mut sums = vec![Counts::default(); self.shared.plan.specs.len()];
        for marks in &self.gathered.boundaries {
            let [.., begin, end] = marks.as_slice() else {
                let why = format!("segment {segment} has no end; this is a bug in ringload");
                return Err(Stop::Failed(why));
            };
            for (group, sum) in sums.iter_mut().enumerate() {
                sum.add(&end.counts[group].since(&begin.counts[group]));
            }
        }
        Ok(sums)
    }

    /// Deliveries that are missing since the last time.
    fn lost(&mut self) -> u64 {
        let reports = self.reports.iter().flatten();
        let outstanding = reports.map(|report| report.outstanding).sum();
        let before = std::mem::replace(&mut self.outstanding, outstanding);
        outstanding.saturating_sub(before)
    }

    fn cores_since(&self, before: (u64, Option<CpuTime>)) -> Option<f64> {
        let (at, cpu) = before;
        let used = CpuTime::of(&self.options.pids)?.since(cpu?);
        let span_s = now_ns().saturating_sub(at).max(1) as f64 / 1e9;
        let has_pids = !self.options.pids.is_empty();
        has_pids.then(|| used.total_s() / span_s)
    }
}

impl Gathered {
    fn new(threads: usize) -> Gathered {
        Gathered {
            boundaries: vec![Vec::new(); threads],
            ..Gathered::default()
        }
    }

    fn add(&mut self, interval: &Interval) {
        for (place, delays) in &interval.window {
            let key = (place.segment, place.group, place.qos);
            self.delays.entry(key).or_default().add(delays);
            let second = self.seconds.entry(interval.second).or_default();
            second.add(&delays.corrected());
        }
        self.lag.add(&interval.lag);
    }
}

/// What a thread used of its core between the last two boundaries.
fn used(marks: &[Boundary]) -> ThreadUse {
    let [.., begin, end] = marks else {
        return ThreadUse::default();
    };
    let (begin, end) = (&begin.mark, &end.mark);
    let span = end.at_ns.saturating_sub(begin.at_ns) as f64;
    if span <= 0.0 {
        return ThreadUse::default();
    }
    let waits = begin.wait_ns.zip(end.wait_ns);
    ThreadUse {
        cpu_share: Some(end.cpu_ns.saturating_sub(begin.cpu_ns) as f64 / span),
        wait_share: waits.map(|(begin, end)| end.saturating_sub(begin) as f64 / span),
    }
}

const SECOND_NS: u64 = 1_000_000_000;
/// The threads hear of a change before it takes place.
const LEAD_NS: u64 = 20_000_000;
/// So long after a trial its last messages may be sent.
const LATE_NS: u64 = 100_000_000;
/// The main thread looks around this often.
const LOOK_NS: u64 = 50_000_000;
/// What is underway is looked at this often: the boards are as fresh as that.
const UNDERWAY_NS: u64 = 20_000_000;
/// An answer takes a turn of each thread.
const REPORT_NS: u64 = 500_000;
/// Between two looks at what is still underway; twice as long each time.
const SETTLE_NS: u64 = 2_000_000;
/// However much still arrives: what was sent in some seconds has arrived by then.
const SETTLE_MAX_NS: u64 = 30_000_000_000;
/// How long to wait for clients that reconnect.
const DESERTED_NS: u64 = 5_000_000_000;
/// Threads that do not end or answer have a bug.
const END_NS: u64 = 20_000_000_000;
