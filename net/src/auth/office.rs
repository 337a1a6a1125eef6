//! The threads of the service: they start on demand, take requests from two lines, and answer the
//! shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::Receiver;
use ringmq_core::auth::{AuthRequest, Verdict};
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_ring::clock;
use tracing::warn;

use super::line::Line;
use super::{Authenticators, Stage};
use crate::admission::AddressPrefix;
use crate::counters::{Tallies, Tally};
use crate::error::{StartError, system_error};
use crate::inbox::{Decision, Inbox};

/// Authenticators between two reloads.
#[derive(Debug, Default)]
pub(super) struct Judges {
    pub(super) generation: u64,
    pub(super) authenticators: Authenticators,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) shard: ShardId,
    pub(super) request: AuthRequest,
    /// Once a thread has started on it: by whom it is judged, and how far it has come.
    pub(super) progress: Option<(Arc<Judges>, Stage)>,
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    Prefix(AddressPrefix),
    /// The address is unknown: a client of a Unix socket, or one that authenticates again.
    Connection(ShardId, ConnId),
}

impl Job {
    /// The source whose turn it takes.
    fn source(&self) -> Source {
        match self.request.peer.address {
            Some(address) => Source::Prefix(AddressPrefix::of(address.ip())),
            None => Source::Connection(self.shard, self.request.conn),
        }
    }
}

/// Queues requests as they arrive, and ends the threads when the service ends.
#[derive(Debug)]
pub(super) struct Porter {
    pub(super) arriving: Receiver<Job>,
    pub(super) office: Arc<Office>,
}

impl Porter {
    /// Until the service is dropped.
    pub(super) fn run(self) {
        for job in &self.arriving {
            self.office.stand_in_line(Role::Computes, job);
        }
        self.office.computing.line.close();
        self.office.waiting.line.close();
    }
}

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It passes on requests that have to wait.
    Computes,
    Waits,
}

/// The threads of one role, and their queue. A thread starts when more requests wait than threads
/// are idle, and stays.
#[derive(Debug)]
pub(super) struct Crew {
    line: Line<Source, Job>,
    name: &'static str,
    /// `count <= count_max`.
    count: AtomicUsize,
    count_max: usize,
}

impl Crew {
    /// No threads yet; `count_max` at most, and at least one.
    pub(super) fn new(name: &'static str, count_max: usize, queue_max: usize) -> Crew {
        Crew {
            line: Line::new(queue_max),
            name,
            count: AtomicUsize::new(0),
            count_max: count_max.max(1),
        }
    }

    /// The number of a new thread, if one is needed and allowed.
    fn hire(&self) -> Option<usize> {
        if !self.line.is_short_handed() {
            return None;
        }
        let more = |count| (count < self.count_max).then_some(count + 1);
        let hired = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        hired.ok()
    }

    /// A thread that was hired could not start.
    fn dismiss(&self) {
        let before = self.count.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "only who was hired is dismissed");
    }
}

/// State shared by the threads.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) computing: Crew,
    pub(super) waiting: Crew,
    pub(super) judges: Arc<ArcSwap<Judges>>,
    pub(super) answers: Answers,
}

impl Office {
    fn crew(&self, role: Role) -> (&Crew, Tally) {
        match role {
            Role::Computes => (&self.computing, Tally::LoginOverflows),
            Role::Waits => (&self.waiting, Tally::HookOverflows),
        }
    }

    /// Queues a request, and makes sure that there is a thread for it.
    fn stand_in_line(self: &Arc<Office>, role: Role, job: Job) {
        let (crew, overflows) = self.crew(role);
        if let Some(displaced) = crew.line.push(job.source(), job) {
            self.answers.turn_away(displaced, overflows);
        }
        if let Some(number) = crew.hire() {
            let office = Arc::clone(self);
            let spawned = spawn(format!("{}-{number}", crew.name), move || office.work(role));
            if let Err(error) = spawned {
                crew.dismiss();
                warn!(%error, "cannot start a login thread, so logins wait; raise the limit of \
                               threads (ulimit -u, TasksMax)");
            }
        }
    }

    fn work(self: &Arc<Office>, role: Role) {
        // On Linux this is a property of the thread.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            warn!(%error, "cannot lower the priority of a login thread");
        }
        while let Some(job) = self.crew(role).0.line.pop() {
            self.work_on(role, job);
        }
    }

    fn work_on(self: &Arc<Office>, role: Role, mut job: Job) {
        if clock() >= job.request.deadline {
            // The client is gone, and hashing would delay the others. The shard has closed the
            // connection, unless an open one authenticates again.
            return self.answers.give(job, Verdict::Unavailable, 0);
        }
        let progress = job.progress.take();
        let (judges, stage) =
            progress.unwrap_or_else(|| (self.judges.load_full(), Stage::first(&job.request)));
        let judged = judges
            .authenticators
            .judge(&job.request, stage, role == Role::Waits);
        match (judged, role) {
            (Ok(verdict), _) => self.answers.give(job, verdict, judges.generation),
            (Err(stage), Role::Computes) => {
                job.progress = Some((judges, stage));
                self.stand_in_line(Role::Waits, job);
            }
            (Err(_), Role::Waits) => unreachable!("nothing waits for who may wait"),
        }
    }
}

/// The way back to the shards.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) inboxes: Arc<[Inbox]>,
    pub(super) tallies: Arc<Tallies>,
}

impl Answers {
    /// Too many requests wait.
    fn turn_away(&self, job: Job, tally: Tally) {
        self.tallies.add(tally);
        self.give(job, Verdict::Unavailable, 0);
    }

    /// An inbox is full for moments only; an answer past its deadline helps nobody. The generation
    /// matters only if access is granted.
    fn give(&self, job: Job, verdict: Verdict, generation: u64) {
        let Job { shard, request, .. } = job;
        let deadline = request.deadline;
        let mut decision = Box::new(Decision {
            request,
            verdict,
            generation,
        });
        while let Err(refused) = self.inboxes[shard.index()].decide(decision) {
            if clock() >= deadline {
                return;
            }
            decision = refused;
            thread::sleep(RETRY_PAUSE);
        }
    }
}

/// Starts a thread that nobody waits for.
pub(super) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let spawned = thread::Builder::new().name(name).spawn(run);
    spawned
        .map(drop)
        .map_err(|error| system_error("start a thread", error))
}

/// Halfway between normal and lowest priority.
const NICENESS: i32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(1);
