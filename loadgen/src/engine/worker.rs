//! One thread of the generator, from start to hand-over.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use serde::{Deserialize, Serialize};

use crate::driver::{Driver, Way};
use crate::fleet::{Fleet, PartEnds, StormTally, SysUpdate, Troubles};
use crate::ledger::Ledger;
use crate::meter::{Counts, Interval, Meter};
use crate::process::{pin_to, thread_cpu_ns, thread_wait_ns};
use crate::shared::{Shared, Stage, UNKNOWN, now_ns};
use crate::sources::Sources;

/// Messages of a thread to the main thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// Continuing makes no sense.
    Fatal(String),
    /// A second is over.
    Interval(Box<Interval>),
    /// What was asked for.
    Report(Box<Report>),
    /// The broker said something of itself.
    Sys(Vec<SysUpdate>),
    /// The thread has ended.
    Ended(Box<Ended>),
    /// A machine of the run is gone, with its threads; who, and why.
    Lost(String),
}

/// What a thread has measured since its last report.
#[derive(Debug)]
pub(crate) struct Report {
    /// Which thread.
    pub(crate) thread: usize,
    /// Number of the report that was asked for.
    pub(crate) number: u64,
    /// What happened since.
    pub(crate) interval: Interval,
    /// Beginnings and ends of segments since.
    pub(crate) boundaries: Vec<Boundary>,
    /// Deliveries and acknowledgements that are owed by all that was published.
    pub(crate) owed: u64,
    /// Messages that are due and wait for their socket or for room.
    pub(crate) pending: u64,
    /// Deliveries that are missing here.
    pub(crate) outstanding: u64,
}

/// The beginning or the end of a segment on one thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Boundary {
    /// By group.
    pub(crate) counts: Vec<Counts>,
    /// What the thread had used.
    pub(crate) mark: Mark,
}

/// What a thread hands over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) thread: usize,
    pub(crate) ledger: Ledger,
    pub(crate) meter: Meter,
    pub(crate) troubles: Troubles,
    pub(crate) uncertain: Vec<(u32, u32)>,
    /// Counters at the beginning and the end of the window.
    pub(crate) counts: [Option<Vec<Counts>>; 2],
    /// CPU time, about then.
    pub(crate) window: [Option<Mark>; 2],
    /// Beginnings and ends of segments that were not reported.
    pub(crate) boundaries: Vec<Boundary>,
    /// Where the streams of this thread stood when each stage but the last was over.
    pub(crate) part_ends: Vec<PartEnds>,
    /// What a storm did, with the sockets that it left silent and those of them that the broker
    /// closed.
    pub(crate) storm: Option<(StormTally, (u64, u64))>,
    pub(crate) ports_exhausted: u64,
    pub(crate) files_exhausted: u64,
}

/// What the thread has used up to a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) at_ns: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) wait_ns: Option<u64>,
}

/// What a thread needs to begin.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: usize,
    pub(super) way: Way,
    pub(super) sources: Sources,
    pub(super) wakeup: OwnedFd,
    pub(super) core: Option<usize>,
    pub(super) events: Sender<Event>,
}

/// One thread of the generator.
struct Worker {
    shared: Arc<Shared>,
    thread: usize,
    driver: Driver,
    events: Sender<Event>,
    window: [Option<Mark>; 2],
    boundaries: Vec<Boundary>,
    storm: Option<(StormTally, (u64, u64))>,
    /// Number of the last report.
    reported: u64,
    shown_at: u64,
}

/// The body of a thread.
pub(super) fn run(setup: Setup) {
    let events = setup.events.clone();
    match Worker::new(setup) {
        Ok(mut worker) => {
            worker.work();
            worker.part();
            // The main thread is gone only if it has given up waiting.
            let _ = events.send(Event::Ended(Box::new(worker.end())));
        }
        Err(why) => {
            let _ = events.send(Event::Fatal(why));
        }
    }
}

impl Worker {
    fn new(setup: Setup) -> Result<Worker, String> {
        if let Some(core) = setup.core {
            pin_to(core).map_err(|error| format!("cannot run on core {core}: {error}"))?;
        }
        let fleet = Fleet::new(setup.shared.clone(), setup.thread);
        let driver =
            Driver::new(fleet, setup.way, setup.sources, setup.wakeup).map_err(|error| {
                format!(
                    "cannot set up io_uring: {error}; it needs Linux 6.1, and \
                     kernel.io_uring_disabled = 0"
                )
            })?;
        Ok(Worker {
            shared: setup.shared,
            thread: setup.thread,
            driver,
            events: setup.events,
            window: [None, None],
            boundaries: Vec::new(),
            storm: None,
            reported: 0,
            shown_at: 0,
        })
    }

    /// Turns until the run is over.
    fn work(&mut self) {
        self.driver.fleet.start(now_ns());
        loop {
            let now = self.driver.turn();
            self.mark(now);
            self.show(now);
            self.report(now);
            if self.shared.stage() == Stage::End {
                // Who leaves now leaves for good.
                let storm = self.driver.fleet.take_storm();
                self.storm = storm.map(|tally| (tally, self.driver.silent_sockets()));
                // The last second is not a whole one.
                let interval = self.driver.fleet.meter.end_second();
                let _ = self.events.send(Event::Interval(Box::new(interval)));
                return;
            }
            let until = self
                .driver
                .next_wake(now)
                .min(self.next_mark())
                .min(self.driver.fleet.next_boundary())
                .min(self.driver.fleet.next_second());
            self.driver.submit(&self.shared.boards[self.thread], until);
        }
    }

    /// Disconnects and closes everything, within bounds of time.
    fn part(&mut self) {
        let board = &self.shared.boards[self.thread];
        let begin = now_ns();
        self.driver.turn();
        let is_busy = |driver: &Driver, span: u64| {
            (driver.is_sending() && span < FLUSH_NS)
                || (driver.fleet.is_removing() && span < REMOVE_NS)
        };
        while is_busy(&self.driver, now_ns() - begin) {
            self.driver.submit(board, now_ns() + TICK_NS);
            self.driver.turn();
        }
        let begin = now_ns();
        for client in self.driver.fleet.connected() {
            self.driver.fleet.dismiss(client, now_ns());
        }
        self.driver.turn();
        while self.driver.open_count() > 0 && now_ns() - begin < FLUSH_NS {
            self.driver.submit(board, now_ns() + TICK_NS);
            self.driver.turn();
        }
        let begin = now_ns();
        if self.driver.fleet.start_purge(begin) {
            while !self.driver.fleet.is_purged() && now_ns() - begin < PURGE_NS {
                self.driver.turn();
                self.driver.submit(board, now_ns() + TICK_NS);
            }
        }
    }

    fn end(mut self) -> Ended {
        self.driver.fleet.note_left_behind();
        self.driver.fleet.give_up_all();
        let part_ends = self.driver.fleet.part_ends();
        let fleet = self.driver.fleet;
        Ended {
            thread: self.thread,
            ledger: fleet.ledger,
            meter: fleet.meter,
            troubles: fleet.troubles,
            uncertain: fleet.uncertain,
            counts: fleet.marks,
            window: self.window,
            boundaries: self.boundaries,
            part_ends,
            storm: self.storm,
            ports_exhausted: self.driver.ports_exhausted,
            files_exhausted: self.driver.files_exhausted,
        }
    }

    fn next_mark(&self) -> u64 {
        match &self.window {
            [None, _] => self.shared.window_start(),
            [Some(_), None] => self.shared.window_end(),
            [Some(_), Some(_)] => UNKNOWN,
        }
    }

    /// Reads the CPU time when the window begins and when it ends.
    fn mark(&mut self, now: u64) {
        while self.next_mark() <= now {
            let at = usize::from(self.window[0].is_some());
            self.window[at] = Some(Mark::at(now));
        }
        let marks = self.driver.fleet.segment_marks.drain(..);
        let boundary = |counts| Boundary {
            counts,
            mark: Mark::at(now),
        };
        self.boundaries.extend(marks.map(boundary));
    }

    /// Reports what was measured, if that was asked for.
    fn report(&mut self, now: u64) {
        let number = self.shared.report_wanted();
        if number == self.reported {
            return;
        }
        self.reported = number;
        let fleet = &mut self.driver.fleet;
        fleet.show(now);
        let report = Report {
            thread: self.thread,
            number,
            interval: fleet.meter.cut(),
            boundaries: std::mem::take(&mut self.boundaries),
            owed: fleet.meter.owed,
            pending: fleet.pending_count(),
            outstanding: fleet.outstanding(),
        };
        let _ = self.events.send(Event::Report(Box::new(report)));
    }

    /// Shows the others how far this thread is.
    fn show(&mut self, now: u64) {
        let fleet = &mut self.driver.fleet;
        if let Some(why) = fleet.take_fatal() {
            let _ = self.events.send(Event::Fatal(why));
        }
        if !fleet.sys.is_empty() {
            // Our counters of the same moment stand beside them.
            self.shown_at = now;
            fleet.show(now);
            let _ = self.events.send(Event::Sys(std::mem::take(&mut fleet.sys)));
        }
        if now.saturating_sub(self.shown_at) >= SHOW_NS {
            self.shown_at = now;
            fleet.show(now);
        }
        for interval in fleet.intervals.drain(..) {
            let _ = self.events.send(Event::Interval(Box::new(interval)));
        }
    }
}

impl Mark {
    fn at(now: u64) -> Mark {
        Mark {
            at_ns: now,
            cpu_ns: thread_cpu_ns(),
            wait_ns: thread_wait_ns(),
        }
    }
}

/// For the progress line and the end of the drain.
const SHOW_NS: u64 = 20_000_000;
const TICK_NS: u64 = 20_000_000;
/// How long to wait for a broker that does not read the rest at the end.
const FLUSH_NS: u64 = 2_000_000_000;
/// A broker that reads slowly gets this long to remove what was retained.
const REMOVE_NS: u64 = 5_000_000_000;
/// Ending sessions takes a connection each.
const PURGE_NS: u64 = 10_000_000_000;
