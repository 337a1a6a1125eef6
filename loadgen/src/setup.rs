//! What a run needs before it can begin: the broker's address, files, ports, TLS, a number.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringmq_problem::Problem;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::assemble::{self, Context};
use crate::bound::Snapshot;
use crate::cli::{self, RunOptions};
use crate::driver::Way;
use crate::engine::Options;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::process;
use crate::scenario::Scenario;
use crate::sources::Sources;
use crate::tls::Terms;
use crate::websocket;

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The user has to change something.
    Usage(Vec<Problem>),
    /// The run did not take place.
    Run(String),
}

/// What is needed to run a scenario.
#[derive(Debug)]
pub struct Setup {
    /// What each client does.
    pub plan: Plan,
    /// How it is run.
    pub options: Options,
    /// What carries MQTT, if it is neither TCP nor TLS alone.
    pub carrier: Option<&'static str>,
    /// Local addresses, as they are shown.
    pub sources: Vec<String>,
    /// Files that the process may open.
    pub files_max: u64,
}

/// Everything up to the first connection.
pub fn set_up(
    options: &RunOptions,
    scenario: Scenario,
    run: u16,
    interrupted: Arc<AtomicBool>,
) -> Result<Setup, Failure> {
    let clients = scenario.sockets_max();
    let files_max = open_files(clients, options.threads).map_err(Failure::Run)?;
    check_pids(&options.pids).map_err(Failure::Run)?;
    if let Some(admin) = &options.admin {
        let looked = admin.add_to(&mut Snapshot::default());
        looked.map_err(|why| Failure::Run(format!("--admin {why}")))?;
    }
    let metrics = listen(options.metrics)?;
    let run_id = format!("{run:04x}");
    let plan = Plan::new(scenario, &run_id, options.threads, options.with_sys);
    let plan = plan.map_err(Failure::Usage)?;
    let place = Place {
        target: options.target.clone(),
        host: options.host.clone(),
        peers: options.peers.clone(),
        websocket: options.websocket.clone(),
    };
    let way = way(&plan, &place, 0..plan.threads)?;
    let automatic = || match &way.peer {
        Peer::Tcp(address) => Sources::automatic(*address, clients, process::local_ports()),
        Peer::Unix(_) => Sources::default(),
    };
    let sources = options.sources.clone().unwrap_or_else(automatic);
    let shown = sources.addresses().iter().map(ToString::to_string);
    let shown = shown.collect();
    let carrier = way.carrier();
    let name = format!("{} against {}", plan.scenario.name, options.target);
    Ok(Setup {
        plan,
        options: Options {
            name,
            way,
            sources,
            cores: options.cores.clone(),
            pids: options.pids.clone(),
            run,
            keep_going: options.keep_going,
            sys_wait: options.sys_wait,
            metrics,
            interrupted,
            elsewhere: None,
        },
        carrier,
        sources: shown,
        files_max,
    })
}

/// What a result contains besides what was measured.
pub fn context(
    options: &RunOptions,
    carrier: Option<&'static str>,
    sources: Vec<String>,
    files_max: u64,
) -> Context {
    let command = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let pid = options.pids.first();
    Context {
        label: options.label.clone(),
        command: command.collect(),
        target: options.target.clone(),
        carrier,
        machine: process::machine(),
        broker_command: pid.map(|pid| process::command_of(*pid)).unwrap_or_default(),
        broker_cores: assemble::cores_of(pid),
        pids: options.pids.clone(),
        sources,
        files_max,
        agents: None,
    }
}

/// Where metrics are shown.
pub(crate) fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Failure> {
    let listen = |address| {
        let why = |error| Failure::Run(format!("--metrics: cannot listen on {address}: {error}"));
        TcpListener::bind(address).map_err(why)
    };
    address.map(listen).transpose()
}

pub(crate) fn check_pids(pids: &[u32]) -> Result<(), String> {
    match pids.iter().find(|pid| !process::is_alive(**pid)) {
        Some(pid) => Err(format!("--pid {pid}: no such process")),
        None => Ok(()),
    }
}

/// Where a broker is.
#[derive(Debug)]
pub struct Place {
    /// As results name it.
    pub target: String,
    /// Its name or address alone: what its certificate is for.
    pub host: String,
    /// Its addresses, in the order in which they are tried.
    pub peers: Vec<Peer>,
    /// What a WebSocket is opened on.
    pub websocket: Option<websocket::Resource>,
}

/// How the clients of some threads of a plan get to the broker.
pub(crate) fn way(plan: &Plan, place: &Place, threads: Range<usize>) -> Result<Way, Failure> {
    let peer = cli::choose(&place.peers)
        .map_err(|why| Failure::Run(format!("{}: {why}", place.target)))?;
    let groups = plan.specs.iter().enumerate();
    let tls = groups.map(|(group, spec)| {
        let places = threads
            .clone()
            .flat_map(|thread| plan.clients_on(group, thread));
        let numbers = places.map(|place| plan.groups[group].number(place));
        Terms::of(spec, &place.host, &plan.run, numbers)
    });
    let tls = tls.collect::<Result<Vec<_>, _>>();
    Ok(Way {
        peer,
        tls: tls.map_err(|problem| Failure::Usage(vec![problem]))?,
        websocket: place.websocket.clone(),
    })
}

/// Raises the limit of open files as far as possible; an error if that is not enough.
pub(crate) fn open_files(clients: u64, threads: usize) -> Result<u64, String> {
    let needed = clients + threads as u64 * 8 + 64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = limit
            .maximum
            .map_or(needed, |maximum| maximum.max(needed.min(maximum)));
        limit.current = Some(raised);
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if current < needed {
        return Err(format!(
            "{clients} clients need {needed} open files, and this process may have {current}; \
             raise the limit (ulimit -n {needed}), or use fewer clients"
        ));
    }
    Ok(current)
}

/// The first Ctrl-C or SIGTERM ends the run early, the second one the process.
pub fn on_interrupt() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            128 + signal,
            interrupted.clone(),
        )?;
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    Ok(interrupted)
}

/// A number that tells runs apart.
pub fn random_run() -> u16 {
    let mut bytes = [0; 2];
    // Without entropy the run continues: the number only tells runs apart.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}
