//! The broker: its shards, each on a thread and a core of its own.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Receiver};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use ringmq_core::auth::Access;
use ringmq_core::home::Home;
use ringmq_core::ids::ShardId;
use ringmq_core::limits::Limits;
use ringmq_core::shard::{Remains, Shard, ShardConfig};
use ringmq_core::topic::InterestTable;
use rustix::process::Pid;
use rustix::thread::{gettid, sched_getaffinity};
use tracing::warn;

use crate::admin::Asker;
use crate::admission::{Admission, Permits};
use crate::auth::{AuthService, AuthServiceConfig, Authenticators};
use crate::counters::{Counters, Counts, Tallies};
use crate::error::{StartError, ring_error, system_error};
use crate::inbox::Inbox;
use crate::passed::Passed;
use crate::random::random_words;
use crate::reactor::listener;
use crate::reactor::listener::Listener;
use crate::reactor::{Core, DiskShared, HeardTable, Progress, Reactor, Settled, Shared};
use crate::store::{self, LogFailure, StoreConfig};
use crate::transport::{Endpoint, ListenerConfig, Stack, TlsProblem, TlsTerms};
use ringmq_ring::clock;
use ringmq_ring::{KernelRing, RingConfig, Wait, wakeup_file};

/// What a broker is made with.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where to listen, and for what.
    pub listen: Vec<ListenerConfig>,
    /// How many shards; `1..=64`.
    pub shards: usize,
    /// The CPU that each shard is pinned to. Empty: they are not pinned.
    pub cores: Vec<usize>,
    /// The bounds of the shards.
    pub limits: Limits,
    /// How often `$SYS` is published; zero: never.
    pub sys_interval: Duration,
    /// Who may connect.
    pub access: Access,
    /// Who finds out what the shards cannot tell.
    pub authenticators: Authenticators,
    /// How much of the machine that may take.
    pub auth: AuthServiceConfig,
    /// The size of each shard's ring.
    pub ring: RingConfig,
    /// Messages of other shards that wait for one shard. A shard that finds the inbox of another
    /// full stops reading its sockets until there is room.
    pub inbox_messages_max: usize,
    /// How many may be connected, and how often they may come.
    pub admission: Admission,
    /// What is counted outside of the shards, for `$SYS`.
    pub tallies: Arc<Tallies>,
    /// Where sessions and messages are kept; `None`: they end with the process.
    pub store: Option<StoreConfig>,
}

impl Default for BrokerConfig {
    /// One shard on the loopback address.
    fn default() -> BrokerConfig {
        BrokerConfig {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 1883)).into()],
            shards: 1,
            cores: Vec::new(),
            limits: Limits::default(),
            sys_interval: Duration::from_secs(10),
            access: Access::default(),
            authenticators: Authenticators::default(),
            auth: AuthServiceConfig::default(),
            ring: RingConfig::default(),
            inbox_messages_max: 64 * 1024,
            admission: Admission::default(),
            tallies: Arc::default(),
            store: None,
        }
    }
}

/// A running broker. Runs until [`Broker::shutdown`]; dropping it does not end it.
#[derive(Debug)]
pub struct Broker {
    endpoints: Vec<Endpoint>,
    stacks: Vec<Arc<Stack>>,
    terms_generation: Arc<AtomicU64>,
    inboxes: Arc<[Inbox]>,
    permits: Arc<Permits>,
    auth: Arc<AuthService>,
    counters: Vec<Arc<Counters>>,
    /// Where the session of a client is.
    home: Home,
    /// The threads of the shards, as the kernel knows them.
    thread_ids: Vec<(ShardId, Pid)>,
    threads: Vec<JoinHandle<Remains>>,
    /// One per shard, until all of them can begin.
    gates: Vec<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
    log_failures: Receiver<LogFailure>,
}

impl Broker {
    /// Starts a broker, with what its data directory holds. Returns when every shard accepts connections, or why one
    /// cannot; then none of them runs.
    pub fn start(config: &BrokerConfig) -> Result<Broker, StartError> {
        check_shards(config)?;
        let secret = random_words().map_err(|e| system_error("draw random numbers", e.into()))?;
        let [first, second, interest_seed]: [u64; 3] = secret;
        let opened = config.store.as_ref();
        let opened = opened.map(|store| store::open(store, config.shards));
        let mut opened = opened.transpose().map_err(StartError::Store)?;
        let secret = opened
            .as_ref()
            .map_or([first, second], store::Opened::secret);
        let interest =
            InterestTable::new(config.shards, InterestTable::BUCKETS_LOG2, interest_seed);
        let interest = Arc::new(if opened.is_some() {
            interest.with_durable()
        } else {
            interest
        });
        let limits = Arc::new(config.limits.clone());
        if let Some(opened) = &opened {
            opened.prepare(&limits).map_err(StartError::Store)?;
        }
        let starts = opened.as_mut().map(|opened| opened.take_starts(&limits));
        // Each is taken once, by the thread of its shard.
        let starts: Vec<_> = starts.into_iter().flatten().map(Some).collect();
        let starts = Mutex::new(starts);
        let shards = config.shards;
        let sys_interval = config.sys_interval;
        let access = Arc::new(config.access.clone());
        let core = move |id: ShardId| {
            let mut starts = starts.lock().unwrap_or_else(PoisonError::into_inner);
            let start = starts.get_mut(id.index()).and_then(Option::take);
            drop(starts);
            let (log, part) = start.map(|start| (start.log, start.part)).unzip();
            let mut shard = Shard::new(ShardConfig {
                id,
                shards,
                secret,
                limits: Arc::clone(&limits),
                interest: Arc::clone(&interest),
                sys_interval,
                access: Arc::clone(&access),
                log,
            });
            if let Some(part) = part {
                shard.restore(clock(), part);
            }
            shard
        };
        Broker::launch(config, core, opened, Home::new(secret, shards))
    }

    /// Starts a broker whose shards are made by `core`, each on its own thread; otherwise as
    /// [`Broker::start`]. Such shards have no log: `config.store` is not used.
    pub fn start_with<C, F>(config: &BrokerConfig, core: F) -> Result<Broker, StartError>
    where
        C: Core,
        F: Fn(ShardId) -> C + Send + Sync + 'static,
    {
        check_shards(config)?;
        // Nobody asks such shards for clients.
        let home = Home::new([0; 2], config.shards);
        Broker::launch(config, core, None, home)
    }

    fn launch<C, F>(
        config: &BrokerConfig,
        core: F,
        opened: Option<store::Opened>,
        home: Home,
    ) -> Result<Broker, StartError>
    where
        C: Core,
        F: Fn(ShardId) -> C + Send + Sync + 'static,
    {
        let cores = assign_cores(config)?;
        let stacks = load_stacks(config)?;
        let (sockets, endpoints) = open_listeners(config)?;
        let inboxes: Result<Arc<[Inbox]>, _> = (0..config.shards)
            .map(|_| Inbox::new(config.inbox_messages_max))
            .collect();
        let inboxes = inboxes.map_err(|e| system_error("create an eventfd", e))?;
        let auth = AuthService::start(
            config.auth,
            config.authenticators.clone(),
            &inboxes,
            &config.tallies,
        )?;
        let (failures, log_failures) = channel::unbounded();
        let kept = opened
            .map(|opened| opened.keep(&inboxes, &config.limits))
            .transpose()?;
        let (keeper, thread) = kept.unzip();
        let disk = keeper.map(|keeper| DiskShared { keeper, failures });
        let mut broker = Broker {
            endpoints,
            stacks,
            terms_generation: Arc::new(AtomicU64::new(0)),
            inboxes,
            permits: Arc::new(Permits::new(config.admission)),
            auth: Arc::new(auth),
            counters: Vec::new(),
            home,
            thread_ids: Vec::new(),
            threads: Vec::new(),
            gates: Vec::new(),
            keeper: thread,
            log_failures,
        };
        broker.start_shards(config, core, sockets, cores, disk)?;
        Ok(broker)
    }

    /// Starts a thread for each shard, and opens the doors when all of them are ready.
    fn start_shards<C, F>(
        &mut self,
        config: &BrokerConfig,
        core: F,
        sockets: Vec<Vec<OwnedFd>>,
        cores: Vec<Option<usize>>,
        disk: Option<DiskShared>,
    ) -> Result<(), StartError>
    where
        C: Core,
        F: Fn(ShardId) -> C + Send + Sync + 'static,
    {
        let broker = self;
        let heard = Arc::new(HeardTable::new(config.shards));
        let settled = Arc::new(Settled::new(config.shards));
        let core = Arc::new(core);
        let (ready, started) = mpsc::channel();
        for (index, (sockets, cpu)) in sockets.into_iter().zip(cores).enumerate() {
            let counters = Arc::new(Counters::default());
            broker.counters.push(Arc::clone(&counters));
            let seed = ShardSeed {
                id: ShardId::new(index),
                cpu,
                ring: config.ring,
                listeners: (sockets.into_iter().zip(&broker.stacks))
                    .map(|(socket, stack)| Listener::new(socket, Arc::clone(stack)))
                    .collect(),
                shared: Shared {
                    inboxes: Arc::clone(&broker.inboxes),
                    permits: Arc::clone(&broker.permits),
                    partial_bytes_max: config.limits.partial_bytes_max,
                    terms_generation: Arc::clone(&broker.terms_generation),
                    heard: Arc::clone(&heard),
                    auth: Arc::clone(&broker.auth),
                    counters,
                    tallies: Arc::clone(&config.tallies),
                    disk: disk.clone(),
                    settled: Arc::clone(&settled),
                },
            };
            let (core, ready) = (Arc::clone(&core), ready.clone());
            let (gate, opens) = mpsc::channel();
            broker.gates.push(gate);
            let thread = thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || run_shard(seed, &*core, &ready, &opens))
                .map_err(|e| broker.abandon(system_error("start a thread", e)))?;
            broker.threads.push(thread);
        }
        drop(ready);
        for _ in 0..config.shards {
            // A closed channel means that a shard panicked; the panic has been reported.
            let outcome = started.recv().unwrap_or(Err(StartError::Panicked));
            let thread_id = outcome.map_err(|e| broker.abandon(e))?;
            broker.thread_ids.push(thread_id);
        }
        for gate in broker.gates.drain(..) {
            // It waits for this; if it is gone, it has panicked, and `join` tells.
            let _ = gate.send(());
        }
        Ok(())
    }

    /// Where it listens, in the order of the configuration, with real ports.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The TCP addresses of [`Broker::endpoints`].
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.endpoints
            .iter()
            .filter_map(Endpoint::address)
            .collect()
    }

    /// Reads the files of TLS again: certificates, keys, CA and CRLs. `listeners` are those that
    /// the broker was started with, in the same order; their files may be others. Nothing changes
    /// before [`Broker::publish_tls`].
    ///
    /// # Errors
    /// What is wrong, by listener: all of it.
    pub fn load_tls(listeners: &[ListenerConfig]) -> Result<TlsReload, Vec<StartError>> {
        let mut terms = Vec::new();
        let mut errors = Vec::new();
        for listener in listeners {
            match Stack::load_terms(listener) {
                Ok(loaded) => terms.push(loaded),
                Err(problem) => errors.push(tls_error(listener, problem)),
            }
        }
        if errors.is_empty() {
            Ok(TlsReload { terms })
        } else {
            Err(errors)
        }
    }

    /// Puts what was read in force: for every connection to come, and for those that are there:
    /// clients whose certificates would not be accepted any more are closed. Nobody else notices.
    pub fn publish_tls(&self, reload: TlsReload) {
        for (stack, terms) in self.stacks.iter().zip(reload.terms) {
            if let Some(terms) = terms {
                stack.replace_terms(terms);
            }
        }
        self.terms_generation.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// Replaces users and rules. Connected clients that are no longer permitted are told so and
    /// closed.
    pub fn replace_access(&self, access: Access, authenticators: Authenticators) {
        let access = Arc::new(access);
        self.auth.replace(authenticators);
        for inbox in self.inboxes.iter() {
            inbox.replace_access(Arc::clone(&access));
        }
    }

    /// Wakes every shard: each makes at least one more turn.
    pub fn wake(&self) {
        for inbox in self.inboxes.iter() {
            inbox.nudge();
        }
    }

    /// The counters of each shard.
    pub fn counts(&self) -> Vec<Counts> {
        self.counters.iter().map(|c| c.read()).collect()
    }

    /// Asks the shards what they hold, as long as they run.
    pub fn asker(&self) -> Asker {
        Asker::new(
            Arc::clone(&self.inboxes),
            self.counters.clone(),
            self.home,
            self.thread_ids.clone(),
            Arc::clone(&self.permits),
            self.stacks.clone(),
        )
    }

    /// Asks every shard to say goodbye to its clients and to end, within 5 seconds.
    pub fn shutdown(&self) {
        for inbox in self.inboxes.iter() {
            inbox.request_shutdown();
        }
    }

    /// Where it is told that a log has failed. The broker acknowledges nothing more of that shard, and is to be ended:
    /// what it has not acknowledged may be lost.
    pub fn log_failures(&self) -> &Receiver<LogFailure> {
        &self.log_failures
    }

    /// Waits until every shard has ended. Gives what they held: it is gone, unless there is a data directory.
    ///
    /// # Panics
    /// If a shard panicked.
    pub fn join(self) -> Remains {
        let mut all = Remains::default();
        for thread in self.threads {
            match thread.join() {
                Ok(remains) => all += remains,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        // It ends with the last shard, and gives the data directory free.
        if let Some(Err(panic)) = self.keeper.map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        remove_sockets(&self.endpoints);
        all
    }

    /// Ends the shards that already run, after another one could not start.
    fn abandon(&mut self, error: StartError) -> StartError {
        self.gates.clear();
        self.shutdown();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        remove_sockets(&self.endpoints);
        error
    }
}

/// Terms of TLS that were read and checked, for [`Broker::publish_tls`].
#[derive(Debug)]
pub struct TlsReload {
    /// In the order of the listeners; `None`: no TLS.
    terms: Vec<Option<TlsTerms>>,
}

/// What a shard's thread is started with.
struct ShardSeed {
    id: ShardId,
    cpu: Option<usize>,
    ring: RingConfig,
    listeners: Vec<Listener>,
    shared: Shared,
}

/// The thread of a shard. The ring has to be made on the thread that uses it. No shard handles anything before all are
/// made and hold what was recovered: a message would miss the subscriptions of those that are not.
fn run_shard<C: Core>(
    seed: ShardSeed,
    core: &dyn Fn(ShardId) -> C,
    ready: &mpsc::Sender<Result<(ShardId, Pid), StartError>>,
    opens: &mpsc::Receiver<()>,
) -> Remains {
    let made = executor(seed.cpu).and_then(|executor| {
        let wakeup = seed.shared.inboxes[seed.id.index()].wakeup().try_clone();
        let wakeup = wakeup.map_err(|e| system_error("copy an eventfd", e))?;
        let copy = wakeup.try_clone();
        let copy = copy.map_err(|e| system_error("copy an eventfd", e))?;
        let ring = KernelRing::new(seed.ring, copy).map_err(|e| ring_error(&e))?;
        Ok((executor, ring, wakeup))
    });
    // The starter hears of success or failure; if it is gone, there is nobody to tell.
    match made {
        Ok((executor, ring, wakeup)) => {
            let core = core(seed.id);
            let reactor = Reactor::new(seed.id, ring, core, seed.listeners, seed.shared);
            let _ = ready.send(Ok((seed.id, gettid())));
            if opens.recv().is_err() {
                return Remains::default(); // Another shard cannot start.
            }
            executor.run(async move {
                match seed.ring.wait {
                    Wait::Ring => drive_alone(reactor, seed.ring.busy_poll),
                    Wait::Executor => drive(reactor, wakeup).await,
                }
            })
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            Remains::default()
        }
    }
}

/// Turn after turn, on a thread that has nothing else to do.
fn drive_alone<C: Core>(mut reactor: Reactor<KernelRing, C>, busy_poll: Duration) -> Remains {
    loop {
        match timed_turn(&mut reactor) {
            Progress::Busy => reactor.submit(),
            Progress::Idle if finds_work(&mut reactor, busy_poll) => {}
            Progress::Idle => reactor.submit_and_sleep(),
            Progress::Ended => return reactor.remains(clock()),
        }
    }
}

fn timed_turn<C: Core>(reactor: &mut Reactor<KernelRing, C>) -> Progress {
    let began = clock();
    let progress = reactor.turn(began);
    reactor.note_turn(began, clock());
    progress
}

/// Looks for work without sleeping: waking up costs more than it does, in time and, under load, in
/// CPU.
fn finds_work<C: Core>(reactor: &mut Reactor<KernelRing, C>, busy_poll: Duration) -> bool {
    if busy_poll.is_zero() {
        return false;
    }
    let until = clock() + busy_poll;
    loop {
        reactor.submit();
        if reactor.has_work() {
            return true;
        }
        if clock() >= until {
            return false;
        }
        std::hint::spin_loop();
    }
}

/// Turn after turn, with room for other tasks of the executor between them.
async fn drive<C: Core>(mut reactor: Reactor<KernelRing, C>, wakeup: OwnedFd) -> Remains {
    let wakeup = wakeup_file(wakeup);
    loop {
        match timed_turn(&mut reactor) {
            Progress::Busy => {
                reactor.submit();
                glommio::executor().yield_if_needed().await;
            }
            Progress::Idle => {
                if reactor.submit_and_park() {
                    // One read takes the counter back to zero, however many signals came. It fails
                    // only if the executor ends.
                    let _ = wakeup.read_at(0, size_of::<u64>()).await;
                    reactor.unpark();
                }
                glommio::executor().yield_if_needed().await;
            }
            Progress::Ended => return reactor.remains(clock()),
        }
    }
}

fn executor(cpu: Option<usize>) -> Result<LocalExecutor, StartError> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .io_memory(EXECUTOR_MEMORY)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(PREEMPT_INTERVAL)
        .make()
        .map_err(|e| StartError::Executor {
            message: e.to_string(),
        })
}

fn check_shards(config: &BrokerConfig) -> Result<(), StartError> {
    let wanted = config.shards;
    if (1..=ShardId::COUNT_MAX).contains(&wanted) {
        Ok(())
    } else {
        Err(StartError::ShardCount { wanted })
    }
}

/// The CPU of each shard, or `None` for all of them.
fn assign_cores(config: &BrokerConfig) -> Result<Vec<Option<usize>>, StartError> {
    if config.cores.is_empty() {
        return Ok(vec![None; config.shards]);
    }
    if config.cores.len() != config.shards {
        return Err(StartError::CoreCount {
            shards: config.shards,
            cores: config.cores.len(),
        });
    }
    let allowed =
        sched_getaffinity(None).map_err(|e| system_error("read the affinity", e.into()))?;
    let is_usable = |cpu: usize| cpu < rustix::thread::CpuSet::MAX_CPU && allowed.is_set(cpu);
    match config.cores.iter().find(|&&cpu| !is_usable(cpu)) {
        Some(&cpu) => Err(StartError::CoreForbidden { cpu }),
        None => Ok(config.cores.iter().copied().map(Some).collect()),
    }
}

fn load_stacks(config: &BrokerConfig) -> Result<Vec<Arc<Stack>>, StartError> {
    let stacks = config.listen.iter().map(|listener| {
        let loaded = Stack::load(listener).map(Arc::new);
        loaded.map_err(|problem| tls_error(listener, problem))
    });
    stacks.collect()
}

fn tls_error(listener: &ListenerConfig, problem: TlsProblem) -> StartError {
    StartError::Tls {
        endpoint: listener.endpoint.clone(),
        problem,
    }
}

/// Unix sockets outlive the process that made them; those that were passed belong to who made them.
fn remove_sockets(endpoints: &[Endpoint]) {
    for endpoint in endpoints {
        if let Endpoint::Unix(path) = endpoint {
            // Gone already, or not ours to remove: the next start finds out.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// For each shard its sockets, one per listener; and where they listen, with real ports.
fn open_listeners(config: &BrokerConfig) -> Result<(Vec<Vec<OwnedFd>>, Vec<Endpoint>), StartError> {
    let mut by_shard: Vec<Vec<OwnedFd>> = (0..config.shards).map(|_| Vec::new()).collect();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let addresses = config.listen.iter().filter_map(|l| l.endpoint.address());
    let addresses: Vec<_> = addresses.collect();
    let takes_passed = |l: &ListenerConfig| matches!(l.endpoint, Endpoint::Passed(_));
    let mut passed = match config.listen.iter().any(takes_passed) {
        true => Passed::take(),
        false => Passed::default(),
    };
    for ListenerConfig { endpoint, .. } in &config.listen {
        let opened = listener::open(endpoint, config.shards, &addresses, &mut passed);
        let (sockets, local) = opened.map_err(|problem| {
            remove_sockets(&endpoints);
            let endpoint = endpoint.clone();
            StartError::Listen { endpoint, problem }
        })?;
        endpoints.push(local);
        for (shard, socket) in by_shard.iter_mut().zip(sockets) {
            shard.push(socket);
        }
    }
    for name in passed.names() {
        warn!(
            name,
            "a socket was passed that no listener takes: it is closed"
        );
    }
    Ok((by_shard, endpoints))
}

/// Pinned buffers of an executor, for direct I/O on files: the smallest useful amount instead of
/// the 10 MiB of the default, which count against RLIMIT_MEMLOCK.
const EXECUTOR_MEMORY: usize = 64 * 1024;
/// The executor's rings serve the wake-up and files, not sockets.
const EXECUTOR_RING_DEPTH: usize = 32;
/// How long turns may follow each other before other tasks of the executor get a chance.
const PREEMPT_INTERVAL: Duration = Duration::from_millis(10);
