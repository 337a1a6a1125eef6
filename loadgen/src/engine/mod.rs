//! A run: threads, stages and outcome.
//!
//! The main thread takes the run through its [`Stage`]s, samples the broker once per second and
//! shows progress; the worker threads ([`worker`]) do everything else. [`run`] never hangs: every
//! stage is bounded.

mod abort;
mod control;
mod hearing;
mod seconds;
mod storm;
mod trials;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::agent::{Elsewhere, Settlement};
use crate::driver::Way;
use crate::fleet::{PartEnds, StormTally, SysUpdate, Troubles};
use crate::meter::{Counts, Meter, Place};
use crate::metrics::{self, Latest};
use crate::payload::Payloads;
use crate::plan::Plan;
use crate::process::{CpuTime, Memory};
use crate::progress::Progress;
use crate::report::{Ended, Phases, Second, ThreadUse};
use crate::shared::Shared;
use crate::sources::Sources;
use crate::times::{Delays, Times};
pub use abort::Aborted;
use control::Control;
pub use trials::{Finished, Stop, Trial, Trials, Wanted};
use worker::Setup;
pub(crate) use worker::{Boundary, Ended as ThreadEnded, Event, Mark};

/// How a run is to be run, apart from what is to be done.
#[derive(Debug)]
pub struct Options {
    /// What is run, for people.
    pub name: String,
    /// How clients get to the broker.
    pub way: Way,
    /// Local addresses.
    pub sources: Sources,
    /// Cores to bind the threads to, in turn; empty: none.
    pub cores: Vec<usize>,
    /// Processes of the broker.
    pub pids: Vec<u32>,
    /// Number of the run.
    pub run: u16,
    /// Clients that cannot connect are counted, and do not end the run.
    pub keep_going: bool,
    /// How long to wait for the broker's `$SYS` after the drain.
    pub sys_wait: Duration,
    /// Where a run shows its metrics.
    pub metrics: Option<TcpListener>,
    /// Set when the user wants the run to end.
    pub interrupted: Arc<AtomicBool>,
    /// Other machines make the run.
    pub elsewhere: Option<Elsewhere>,
}

/// What came out of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was shared, with the plan.
    pub shared: Arc<Shared>,
    /// Why it ended.
    pub ended: Ended,
    /// How long each part took.
    pub phases: Phases,
    /// Clients that were connected when the publishing began.
    pub connected: u64,
    /// From the first dial until they were.
    pub connecting_s: f64,
    /// When the run began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// How long after that the publishing began.
    pub published_after: Duration,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Times of deliveries that belong to the window, by stage, group and QoS.
    pub delays: BTreeMap<Place, Delays>,
    /// How late the generator itself was.
    pub lag: Times,
    /// CPU time of the broker when the stages began and ended, in turn, with the time.
    pub broker_parts: Vec<(u64, Option<CpuTime>)>,
    /// What ended the run early.
    pub aborted: Option<Aborted>,
    /// When good seconds began after a storm, seconds after it; absent if they did not.
    pub recovered_s: Option<u64>,
    /// The same second by second, in HdrHistogram's log format.
    pub histograms: Vec<u8>,
    /// What the threads handed over.
    pub threads: Vec<ThreadOutcome>,
    /// What went wrong.
    pub troubles: Troubles,
    /// The broker.
    pub broker: Option<BrokerSamples>,
    /// What the broker said of itself, with what we had counted at that time.
    pub sys: Vec<SysSample>,
    /// The kernel had no local port, or no file, left.
    pub ports_exhausted: u64,
    /// The same for files.
    pub files_exhausted: u64,
    /// What other machines settled, and what is known of them; if they made the run.
    pub settled: Option<Settlement>,
}

/// What a thread handed over.
#[derive(Debug)]
pub struct ThreadOutcome {
    /// What arrived.
    pub ledger: crate::ledger::Ledger,
    /// What was counted.
    pub meter: Meter,
    /// Messages that the broker refused or never acknowledged.
    pub uncertain: Vec<(u32, u32)>,
    /// Counters when the window began and ended.
    pub window: Option<[Vec<Counts>; 2]>,
    /// Counters when the stages began and ended, in turn.
    pub boundaries: Vec<Vec<Counts>>,
    /// Where its streams stood when each stage but the last was over.
    pub part_ends: Vec<PartEnds>,
    /// What a storm did, with the sockets that it left silent and those of them that the broker
    /// closed.
    pub storm: Option<(StormTally, (u64, u64))>,
    /// What it used of its core in the window.
    pub used: ThreadUse,
}

/// What was seen of the broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrokerSamples {
    /// Before the first client connected.
    pub before: BrokerSample,
    /// When all were connected.
    pub connected: BrokerSample,
    /// When the window began, with the time.
    pub window_start: Option<(u64, Option<CpuTime>)>,
    /// When it ended.
    pub window_end: Option<(u64, Option<CpuTime>)>,
    /// At the end of the run.
    pub end: BrokerSample,
}

/// What the broker had used at one moment; unknown when one of its processes is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct BrokerSample {
    /// CPU time.
    pub cpu: Option<CpuTime>,
    /// Memory.
    pub memory: Option<Memory>,
}

impl BrokerSample {
    /// Of these processes, now.
    pub fn of(pids: &[u32]) -> BrokerSample {
        BrokerSample {
            cpu: CpuTime::of(pids),
            memory: Memory::of(pids),
        }
    }
}

/// A value from `$SYS`, beside ours.
#[derive(Clone, Debug)]
pub struct SysSample {
    /// What the broker said.
    pub update: SysUpdate,
    /// Messages that we had sent at that time.
    pub sent: u64,
    /// Deliveries that we had at that time.
    pub received: u64,
}

/// Runs a plan. An error says why there is nothing to report.
pub fn run(plan: Plan, mut options: Options, progress: &mut Progress) -> Result<Outcome, String> {
    let threads = start_all(plan, &options)?;
    let latest = Latest::default();
    if let Some(listener) = options.metrics.take() {
        metrics::serve(listener, threads.shared.clone(), latest.clone())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    let outcome = Control::new(threads.shared, options, threads.events, latest, progress).run();
    for handle in threads.handles {
        // A thread that panicked has said so; the outcome is missing its part and therefore an
        // error.
        let _ = handle.join();
    }
    outcome
}

/// Starts all threads of a plan here.
fn start_all(plan: Plan, options: &Options) -> Result<Threads, String> {
    let count = plan.threads;
    let (shared, wakeups) = shared(plan, options)?;
    Threads::start(shared, wakeups, options, 0..count)
}

/// Runs a plan whose threads are on other machines: `lead` connects them to what is shared here,
/// and reports what they do.
pub(crate) fn run_elsewhere(
    plan: Plan,
    mut options: Options,
    progress: &mut Progress,
    lead: impl FnOnce(&Arc<Shared>, Sender<Event>),
) -> Result<Outcome, String> {
    let (shared, _theirs) = shared(plan, &options)?;
    let (sender, events) = mpsc::channel();
    let latest = Latest::default();
    if let Some(listener) = options.metrics.take() {
        metrics::serve(listener, shared.clone(), latest.clone())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    lead(&shared, sender);
    Control::new(shared, options, events, latest, progress).run()
}

/// The part of a run that is made here, for another machine that leads it.
pub(crate) fn start_part(
    plan: Plan,
    options: &Options,
    threads: Range<usize>,
    origin_ns: u64,
) -> Result<Threads, String> {
    let (shared, theirs) = shared(plan, options)?;
    let shared = Arc::new(
        Arc::into_inner(shared)
            .expect("nobody else has it yet")
            .with_origin(origin_ns),
    );
    Threads::start(shared, theirs, options, threads)
}

/// What the threads of a plan share, and what wakes each.
fn shared(plan: Plan, options: &Options) -> Result<(Arc<Shared>, Vec<OwnedFd>), String> {
    let sizes = plan.specs.iter().map(|group| group.payload.max());
    let payloads = Payloads::new(options.run, sizes.max().unwrap_or(0));
    let descriptors = (0..plan.threads)
        .map(|_| wakeup_pair())
        .collect::<io::Result<Vec<_>>>();
    let descriptors = descriptors.map_err(|error| format!("cannot make an eventfd: {error}"))?;
    let (ours, theirs): (Vec<OwnedFd>, Vec<OwnedFd>) = descriptors.into_iter().unzip();
    let shared = Shared::new(plan, payloads, options.keep_going, ours);
    Ok((Arc::new(shared), theirs))
}

/// The threads of a run.
pub(crate) struct Threads {
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Receiver<Event>,
    pub(crate) handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts those of a plan that are made here: they begin to connect at once.
    fn start(
        shared: Arc<Shared>,
        wakeups: Vec<OwnedFd>,
        options: &Options,
        here: Range<usize>,
    ) -> Result<Threads, String> {
        let (sender, events) = mpsc::channel();
        let mut handles = Vec::new();
        let wakeups = wakeups.into_iter().enumerate();
        for (thread, wakeup) in wakeups.filter(|(thread, _)| here.contains(thread)) {
            let number = thread - here.start;
            let setup = Setup {
                shared: shared.clone(),
                thread,
                way: options.way.clone(),
                sources: options.sources.clone().rotated(number, here.len()),
                wakeup,
                core: options
                    .cores
                    .get(number % options.cores.len().max(1))
                    .copied(),
                events: sender.clone(),
            };
            let handle = std::thread::Builder::new()
                .name(format!("ringload-{number}"))
                .spawn(move || worker::run(setup))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            handles.push(handle);
        }
        Ok(Threads {
            shared,
            events,
            handles,
        })
    }
}

/// Both ends of what wakes a thread: an eventfd in blocking mode, as the ring wants it.
fn wakeup_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let descriptor = eventfd(0, EventfdFlags::CLOEXEC)?;
    Ok((descriptor.try_clone()?, descriptor))
}
