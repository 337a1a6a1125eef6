//! State shared by the threads of a run: the plan, the stage, and a board on which each thread
//! posts its progress.
//!
//! All of it is atomics with one writer, but for the course of the load, which threads read when it
//! has changed; nothing here waits.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};

use crate::course::Course;
use crate::payload::Payloads;
use crate::plan::Plan;
use crate::scenario::{Group, Start, stage};

/// What the threads of a run share.
#[derive(Debug)]
pub struct Shared {
    /// What each client does.
    pub plan: Plan,
    /// Payloads of this run.
    pub payloads: Payloads,
    /// When the run began: stamps count from here.
    pub origin_ns: u64,
    /// A client that cannot connect or subscribe is counted, and does not end the run.
    pub keep_going: bool,
    /// Deliveries that arrived of what each slot (publishing group and thread) published.
    pub arrived: Box<[AtomicU64]>,
    /// By thread.
    pub boards: Box<[Board]>,
    stage: AtomicU8,
    publish_at: AtomicU64,
    window_start: AtomicU64,
    window_end: AtomicU64,
    question: AtomicU64,
    course: Mutex<Arc<Course>>,
    /// Goes up when the course changes.
    course_version: AtomicU64,
    report: AtomicU64,
    /// When an open loop begins; before, every group is a closed one.
    open_at: AtomicU64,
}

/// What a thread shows the others.
#[derive(Debug)]
pub struct Board {
    /// Messages published.
    pub sent: AtomicU64,
    /// Deliveries.
    pub received: AtomicU64,
    /// Messages published that owe a delivery or an acknowledgement.
    pub asked: AtomicU64,
    /// Deliveries that they owe, or acknowledgements where nobody subscribes.
    pub owed: AtomicU64,
    /// Deliveries and acknowledgements.
    pub heard: AtomicU64,
    /// Messages of QoS 1 and 2 without their last acknowledgement.
    pub unacknowledged: AtomicU64,
    /// Messages that are due, and wait for their acknowledgement window or their socket.
    pub pending: AtomicU64,
    /// Troubles.
    pub errors: AtomicU64,
    /// Clients that are connected and subscribed.
    pub ready: AtomicU64,
    /// Clients that have yet to connect and subscribe for the first time, or to fail in that.
    pub settling: AtomicU32,
    /// Of groups that start with the window: the same.
    pub settling_late: AtomicU32,
    /// Publishers with a limited number of messages that have not sent and settled them all.
    pub unfinished: AtomicU32,
    /// Deliveries that are owed and did not arrive; [`UNKNOWN`] while some still arrive. Counted
    /// after question number `answered` was asked.
    pub outstanding: AtomicU64,
    /// See [`Shared::ask`].
    pub answered: AtomicU64,
    /// When the last delivery arrived.
    pub arrived_at: AtomicU64,
    /// When the last delivery or acknowledgement arrived.
    pub heard_at: AtomicU64,
    /// When the first client dialled; [`UNKNOWN`] before.
    pub dialed_at: AtomicU64,
    /// Clients that a storm has hit.
    pub hit: AtomicU64,
    /// Of those, clients that are back.
    pub back: AtomicU64,
    /// When the last client so far was settled, of those that connect before the publishing.
    pub settled_at: AtomicU64,
    /// The thread sleeps, or is about to.
    pub parked: AtomicBool,
    /// Written to in order to wake it.
    pub wakeup: OwnedFd,
}

/// The stage of a run. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Clients connect and subscribe.
    Connect,
    /// Publishers publish: warm-up, then the window.
    Publish,
    /// Nothing is published any more; what is owed may still arrive.
    Drain,
    /// Clients disconnect.
    End,
}

/// Not known, or never.
pub const UNKNOWN: u64 = u64::MAX;

impl Shared {
    /// Before anything began. There is a board for each of the wake-up descriptors.
    pub fn new(plan: Plan, payloads: Payloads, keep_going: bool, wakeups: Vec<OwnedFd>) -> Shared {
        let slots = plan.groups.len() * plan.threads;
        let limited = |wanted: fn(&Group) -> bool, thread| -> u32 {
            let groups = plan.specs.iter().enumerate();
            groups
                .filter(|(index, group)| plan.sys_group != Some(*index) && wanted(group))
                .map(|(index, _)| plan.clients_on(index, thread).len() as u32)
                .sum()
        };
        let boards = wakeups.into_iter().enumerate().map(|(thread, wakeup)| {
            let settling = limited(|group| group.start == Start::First, thread);
            let settling_late = limited(|group| group.start == Start::Window, thread);
            let unfinished = limited(|group| group.messages.is_some(), thread);
            Board {
                sent: AtomicU64::new(0),
                received: AtomicU64::new(0),
                asked: AtomicU64::new(0),
                owed: AtomicU64::new(0),
                heard: AtomicU64::new(0),
                unacknowledged: AtomicU64::new(0),
                pending: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                ready: AtomicU64::new(0),
                settling: AtomicU32::new(settling),
                settling_late: AtomicU32::new(settling_late),
                unfinished: AtomicU32::new(unfinished),
                outstanding: AtomicU64::new(UNKNOWN),
                answered: AtomicU64::new(0),
                arrived_at: AtomicU64::new(0),
                heard_at: AtomicU64::new(0),
                dialed_at: AtomicU64::new(UNKNOWN),
                hit: AtomicU64::new(0),
                back: AtomicU64::new(0),
                settled_at: AtomicU64::new(0),
                parked: AtomicBool::new(false),
                wakeup,
            }
        });
        let course = match (plan.scenario.stages.as_slice(), &plan.scenario.storm) {
            ([], None) => Course::steady(),
            ([], Some(storm)) => storm.course(),
            (stages, _) => stage::course(&stage::parts(stages)),
        };
        Shared {
            boards: boards.collect(),
            arrived: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            plan,
            payloads,
            origin_ns: now_ns(),
            keep_going,
            stage: AtomicU8::new(Stage::Connect as u8),
            publish_at: AtomicU64::new(UNKNOWN),
            window_start: AtomicU64::new(UNKNOWN),
            window_end: AtomicU64::new(UNKNOWN),
            question: AtomicU64::new(0),
            course: Mutex::new(Arc::new(course)),
            course_version: AtomicU64::new(0),
            report: AtomicU64::new(0),
            open_at: AtomicU64::new(0),
        }
    }

    /// Of a run whose stamps count from another time: that of all its machines.
    pub fn with_origin(self, origin_ns: u64) -> Shared {
        Shared { origin_ns, ..self }
    }

    /// How the load changes over time, and the version of that.
    pub fn course(&self) -> (Arc<Course>, u64) {
        // Nothing panics while it has the lock: the course is whole.
        let course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        (course.clone(), self.course_version())
    }

    /// Version of the course.
    #[inline]
    pub fn course_version(&self) -> u64 {
        self.course_version.load(Ordering::Acquire)
    }

    /// Changes the course, and wakes all threads. What is past must stay as it was, and what
    /// changes should lie some milliseconds ahead, so that all threads know of it in time.
    pub fn set_course(&self, course: Course) {
        let mut current = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(course);
        self.course_version.fetch_add(1, Ordering::AcqRel);
        drop(current);
        self.wake_all();
    }

    /// Asks every thread to report what it has measured since its last report.
    pub fn ask_for_report(&self) -> u64 {
        let number = self.report.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake_all();
        number
    }

    /// Number of the last report that was asked for.
    #[inline]
    pub fn report_wanted(&self) -> u64 {
        self.report.load(Ordering::Acquire)
    }

    /// When schedules begin to count; before, groups publish as messages arrive.
    #[inline]
    pub fn open_at(&self) -> u64 {
        self.open_at.load(Ordering::Acquire)
    }

    /// Sets when schedules begin to count.
    pub fn set_open_at(&self, at: u64) {
        self.open_at.store(at, Ordering::Release);
    }

    fn wake_all(&self) {
        self.boards.iter().for_each(Board::wake);
    }

    /// The stage of the run.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Connect,
            1 => Stage::Publish,
            2 => Stage::Drain,
            _ => Stage::End,
        }
    }

    /// Advances the run and wakes all threads. Times that belong to the stage are set before.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        self.wake_all();
    }

    /// When publishing begins.
    pub fn publish_at(&self) -> u64 {
        self.publish_at.load(Ordering::Acquire)
    }

    /// When the window begins.
    pub fn window_start(&self) -> u64 {
        self.window_start.load(Ordering::Acquire)
    }

    /// When it ends, and with it the publishing.
    pub fn window_end(&self) -> u64 {
        self.window_end.load(Ordering::Acquire)
    }

    /// Sets when publishing begins.
    pub fn set_publish_at(&self, at: u64) {
        self.publish_at.store(at, Ordering::Release);
    }

    /// Sets when the window begins.
    pub fn set_window_start(&self, at: u64) {
        self.window_start.store(at, Ordering::Release);
    }

    /// Sets when the window ends.
    pub fn set_window_end(&self, at: u64) {
        self.window_end.store(at, Ordering::Release);
    }

    /// Asks every thread what is outstanding now that nothing is sent any more: what a thread had
    /// counted before may not know of the last messages of another.
    pub fn ask(&self) {
        self.question.fetch_add(1, Ordering::AcqRel);
        self.wake_all();
    }

    /// Number of the last question.
    pub fn question(&self) -> u64 {
        self.question.load(Ordering::Acquire)
    }

    /// Every thread has answered the last question.
    pub fn is_answered(&self) -> bool {
        let question = self.question();
        let mut boards = self.boards.iter();
        boards.all(|board| board.answered.load(Ordering::Acquire) == question)
    }

    /// What is outstanding, as counted since the last question; [`UNKNOWN`] if a thread has not
    /// answered.
    pub fn outstanding(&self) -> u64 {
        if self.is_answered() {
            self.sum(|board| board.outstanding.load(Ordering::Acquire))
        } else {
            UNKNOWN
        }
    }

    /// A number of all boards, summed.
    pub fn sum(&self, of: impl Fn(&Board) -> u64) -> u64 {
        self.boards.iter().map(of).fold(0, u64::saturating_add)
    }

    /// The latest of the times that the boards show.
    pub fn latest(&self, of: impl Fn(&Board) -> &AtomicU64) -> u64 {
        let times = self
            .boards
            .iter()
            .map(|board| of(board).load(Ordering::Relaxed));
        times.max().unwrap_or(0)
    }

    /// Notes deliveries of what a slot published, and wakes the thread that waits for them.
    pub fn credit(&self, slot: usize, count: u64, from: usize) {
        self.arrived[slot].fetch_add(count, Ordering::SeqCst);
        let thread = self.plan.thread_of(slot);
        if thread != from && self.boards[thread].parked.swap(false, Ordering::SeqCst) {
            self.boards[thread].wake();
        }
    }
}

impl Board {
    /// Wakes the thread.
    pub fn wake(&self) {
        // Fails only if the counter of the descriptor is full: then the thread is being woken
        // already.
        let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
    }
}

/// The clock of the run, nanoseconds. The same that the ring's timer goes by.
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
