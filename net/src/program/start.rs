//! From settings to a running broker, until it stops.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use ringmq::admin::{Admin, AdminConfig, SettingShown, StartProblem};
use ringmq::store::LogFailure;
use ringmq::{Admission, Broker, BrokerConfig, Endpoint, StartError, Tallies};
use ringmq_core::shard::Remains;
use rustix::rand::{GetRandomFlags, getrandom};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use crate::access::advice::{advice, on_one_line};
use crate::access::{self, Loaded};
use crate::log;
use crate::notify::{self, Watchdog};
use crate::probe::facts::{Facts, raise_limits};
use crate::probe::{Finding, Plan};
use crate::reload::{self, LOOK_INTERVAL, Reload, Reply};
use crate::settings::cli::CommandLine;
use crate::settings::file::{Configuration, Problem, count};
use crate::settings::listen::{Listen, Scheme};
use crate::settings::{self, Settings};
use crate::steward::Passes;

/// Why the broker could not run.
#[derive(Debug)]
pub enum Failure {
    /// A file that the settings name cannot be used.
    Settings(Vec<Problem>),
    /// The machine does not let it.
    Machine(Vec<Finding>),
    /// The log or the signals could not be set up.
    Setup(&'static str, io::Error),
    /// A shard could not start.
    Start(StartError),
    /// The control plane could not start.
    Admin(StartProblem),
    /// What is to be kept cannot be stored any more.
    Log(LogFailure),
}

/// Runs the broker until a signal ends it.
pub fn run(line: CommandLine, configuration: &Configuration) -> Result<(), Failure> {
    let settings = &configuration.settings;
    let key = random_key().map_err(|error| Failure::Setup("random numbers", error))?;
    let tallies = Arc::default();
    if settings.store.place().is_some() {
        // The sessions of users who are not in a half-written file would end.
        reload::wait_for_rest(&line, settings);
    }
    let access = access::load(settings, key, &tallies);
    let access = access.map_err(Failure::Settings)?;
    let mut admin = access::control::config(&settings.admin).map_err(Failure::Settings)?;
    let reload = Reload::new(line, settings.clone(), key, Arc::clone(&tallies), &admin);
    // Before the first thread, so that all of them leave the signals to the one that waits.
    let (sender, requests) = channel();
    watch_signals(sender.clone()).map_err(|error| Failure::Setup("signals", error))?;
    admin.steward = Some(Arc::new(Passes::to(sender.clone())));
    log::start(&settings.log_filter, &settings.log_format)
        .map_err(|error| Failure::Setup("the log", error))?;
    let channel = (sender, &requests);
    let parts = Parts {
        access,
        admin,
        reload,
        tallies,
    };
    let ended = serve(settings, parts, channel);
    log::finish();
    ended
}

/// What the settings have led to.
struct Parts {
    access: Loaded,
    admin: AdminConfig,
    reload: Reload,
    tallies: Arc<Tallies>,
}

fn serve(
    settings: &Settings,
    parts: Parts,
    (sender, requests): (Sender<Request>, &Receiver<Request>),
) -> Result<(), Failure> {
    let mut reload = parts.reload;
    raise_limits();
    let tcp = settings
        .all_listeners()
        .filter_map(|(listen, _)| listen.endpoint.address());
    let facts = Facts::gather(&tcp.collect::<Vec<_>>(), settings.store.place());
    let (plan, warnings) = Plan::make(&facts, settings).map_err(Failure::Machine)?;
    for Finding { what, fix } in &warnings {
        warn!("{what}. Fix: {fix}");
    }
    let doubts = advice(settings);
    for problem in &doubts {
        warn!("{}", on_one_line(problem));
    }
    parts.tallies.set_warnings(doubts.len());
    let tallies = Arc::clone(&parts.tallies);
    let config = broker_config(settings, parts.access, tallies, &plan);
    let broker = Broker::start(&config).map_err(Failure::Start)?;
    let listens: Vec<Listen> = settings
        .all_listeners()
        .zip(broker.endpoints())
        .map(|((listen, _), endpoint)| listen.at(endpoint))
        .collect();
    let facts_shown = facts_of(settings, &plan, &listens, parts.tallies, reload.shown());
    let admin = match Admin::start(parts.admin, facts_shown, broker.asker()) {
        Ok(admin) => admin,
        Err(problem) => {
            broker.shutdown();
            broker.join();
            return Err(Failure::Admin(problem));
        }
    };
    info!(
        version = crate::VERSION,
        kernel = facts.kernel_release,
        shards = plan.shards,
        cores = %plan.pinning,
        "started"
    );
    for address in admin.addresses() {
        info!(%address, "control plane");
    }
    // Nobody has to read it: a closed stdout is not an error.
    let _ = io::stdout().write_all(greeting(settings, &plan, &listens).as_bytes());
    if settings.store.place().is_some() {
        watch_logs(&broker, sender);
    }
    notify::ready();
    let failure = run_until_stopped(&broker, &mut reload, requests);
    admin.note_stopping();
    broker.shutdown();
    let remains = broker.join();
    drop(admin);
    if let Some(failure) = failure {
        return Err(Failure::Log(failure));
    }
    if let (None, Some(text)) = (settings.store.place(), shown_remains(remains)) {
        info!("{text} end here; --data-dir keeps them");
    }
    info!("stopped");
    Ok(())
}

/// Gives the reason, if nobody asked for the stop.
fn run_until_stopped(
    broker: &Broker,
    reload: &mut Reload,
    requests: &Receiver<Request>,
) -> Option<LogFailure> {
    let mut watchdog = Watchdog::asked_for(Instant::now());
    loop {
        if let Some(watchdog) = &mut watchdog {
            watchdog.look(Instant::now(), broker);
        }
        match requests.recv_timeout(LOOK_INTERVAL) {
            Ok(Request::Reload) => {
                notify::reloading();
                if reload.on_signal(broker) {
                    notify::ready();
                }
            }
            Ok(Request::ReloadFor { why, reply }) => {
                notify::reloading();
                if reload.on_request(broker, why, reply) {
                    notify::ready();
                }
            }
            Ok(Request::Check { toml, name, reply }) => {
                let _ = reply.send(reload.check(&toml, name.as_deref()));
            }
            Err(RecvTimeoutError::Timeout) => {
                if reload.look(broker) {
                    notify::ready();
                }
            }
            Ok(Request::Stop(signal)) => {
                info!(signal, "stopping");
                notify::stopping();
                return None;
            }
            Ok(Request::GiveUp(failure)) => {
                notify::stopping();
                // Clients are told; those that do not listen are not waited for.
                start_deadline(GIVE_UP_TIME_MAX, EXIT_LOG_FAILED.into());
                return Some(failure);
            }
            // The watching thread outlives this one, so the channel does not close before.
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// "1 retained message, 4 queued messages and 2 sessions"; `None`: nothing.
fn shown_remains(remains: Remains) -> Option<String> {
    let parts = [
        (remains.retained, "retained message"),
        (remains.messages, "queued message"),
        (remains.sessions, "session"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let mut parts: Vec<String> = parts.map(|(number, noun)| count(*number, noun)).collect();
    let last = parts.pop()?;
    Some(match parts.is_empty() {
        true => last,
        false => format!("{} and {last}", parts.join(", ")),
    })
}

/// What is asked of the thread that started the broker.
#[derive(Debug)]
pub enum Request {
    /// By a signal of this name.
    Stop(&'static str),
    /// Read settings and files again, by a signal.
    Reload,
    /// The same, for somebody who waits.
    ReloadFor {
        /// For the log.
        why: String,
        /// Who wants to know what came of it.
        reply: Reply,
    },
    /// Look at a configuration file.
    Check {
        /// Its text.
        toml: String,
        /// What messages call it.
        name: Option<String>,
        /// Who wants to know.
        reply: Reply,
    },
    /// Nobody asks for it: a log has failed.
    GiveUp(LogFailure),
}

/// Asks for the end when a log has failed. The thread ends with the process.
fn watch_logs(broker: &Broker, sender: Sender<Request>) {
    let failures = broker.log_failures().clone();
    let watch = move || {
        if let Ok(failure) = failures.recv() {
            // The other end is gone only when the process ends anyway.
            let _ = sender.send(Request::GiveUp(failure));
        }
    };
    let started = std::thread::Builder::new()
        .name("logs".to_owned())
        .spawn(watch);
    if let Err(error) = started {
        warn!(%error, "if a log fails, the broker acknowledges nothing more, but does not end");
    }
}

/// Yields what signals ask for. A second one to stop ends the process at once, and so does an end that
/// takes too long.
fn watch_signals(sender: Sender<Request>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                // The other end is gone only when the process ends anyway.
                match signal {
                    SIGHUP => drop(sender.send(Request::Reload)),
                    _ if stopping => {
                        log::finish();
                        std::process::exit(128 + signal);
                    }
                    _ => {
                        stopping = true;
                        start_deadline(STOP_TIME_MAX, 1);
                        let name = if signal == SIGINT {
                            "SIGINT"
                        } else {
                            "SIGTERM"
                        };
                        let _ = sender.send(Request::Stop(name));
                    }
                }
            }
        })?;
    Ok(())
}

/// Without this thread a stuck shard would keep the process; without the thread it still ends.
fn start_deadline(most: Duration, code: i32) {
    let _ = std::thread::Builder::new()
        .name("deadline".to_owned())
        .spawn(move || {
            std::thread::sleep(most);
            log::finish();
            let _ = writeln!(
                io::stderr(),
                "ringmq: the shards did not stop within {} s: cut short",
                most.as_secs_f32()
            );
            std::process::exit(code);
        });
}

/// Of this process alone.
fn random_key() -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    let filled = getrandom(&mut key, GetRandomFlags::empty())?;
    if filled == key.len() {
        Ok(key)
    } else {
        Err(io::Error::other("the kernel gave less than was asked for"))
    }
}

fn broker_config(
    settings: &Settings,
    access: Loaded,
    tallies: Arc<Tallies>,
    plan: &Plan,
) -> BrokerConfig {
    BrokerConfig {
        listen: settings.listener_configs(),
        shards: plan.shards,
        cores: plan.pinning.cores.clone(),
        limits: settings.limits.clone(),
        sys_interval: settings.sys_interval,
        access: access.access,
        authenticators: access.authenticators,
        auth: settings.auth.service,
        ring: settings.ring,
        inbox_messages_max: settings.inbox_messages_max,
        admission: Admission {
            connections_max: usize::try_from(plan.connections_max).unwrap_or(usize::MAX),
            ..settings.admission
        },
        tallies,
        store: settings.store.config(),
    }
}

/// What the control plane tells of the broker without asking it.
fn facts_of(
    settings: &Settings,
    plan: &Plan,
    listens: &[Listen],
    tallies: Arc<Tallies>,
    settings_shown: Arc<ArcSwap<Vec<SettingShown>>>,
) -> ringmq::admin::Facts {
    let data_dir = settings.store.place();
    ringmq::admin::Facts {
        version: crate::VERSION,
        started_at: SystemTime::now(),
        listeners: listens.iter().map(ToString::to_string).collect(),
        connections_max: plan.connections_max.into(),
        data_dir: data_dir.map(|path| path.display().to_string()),
        limits: Arc::new(settings.limits.clone()),
        tallies,
        settings: settings_shown,
    }
}

/// What a user at a terminal wants to know first.
fn greeting(settings: &Settings, plan: &Plan, listens: &[Listen]) -> String {
    let shown: Vec<String> = listens.iter().map(ToString::to_string).collect();
    let limit = |flag: &str| {
        let row = settings::by_flag(flag).expect("a setting of the table");
        row.show(&(row.get)(settings))
    };
    let mut text = format!(
        "ringmq {} listens on {} for MQTT 3.1.1 and 5.0, {}\n\
         {}, {}; room for {} connections\n\
         limits: packets of {}; per client {} messages or {} queued, {} subscriptions; \
         sessions kept {}{}\n",
        crate::VERSION,
        shown.join(", "),
        shown_credentials(settings, listens),
        count(plan.shards, "shard"),
        plan.pinning,
        plan.connections_max,
        limit("packet-size-max"),
        limit("queued-messages-max"),
        limit("queued-bytes-max"),
        limit("subscriptions-max"),
        limit("session-expiry-max"),
        match settings.store.place() {
            Some(path) => format!(", in {}", path.display()),
            None => ", in memory".to_owned(),
        },
    );
    let plain = listens
        .iter()
        .find_map(|listen| match (listen.scheme, &listen.endpoint) {
            (Scheme::Mqtt, Endpoint::Tcp(address)) => Some(*address),
            (Scheme::Mqtt | Scheme::Mqtts | Scheme::Ws | Scheme::Wss, _) => None,
        });
    if let Some(address) = plain {
        let (host, port) = (reachable(address.ip()), address.port());
        text += &format!(
            "try it in two other terminals:\n\
             \x20 mosquitto_sub -h {host} -p {port} -t 'demo/#' -v\n\
             \x20 mosquitto_pub -h {host} -p {port} -t demo/hello -m 'Hello'\n"
        );
    }
    text + "stop it with Ctrl-C\n"
}

/// What clients come in with. `listens` are the listeners of the settings as they run.
fn shown_credentials(settings: &Settings, listens: &[Listen]) -> String {
    let auth = &settings.auth;
    let has_hook = !auth.hooks.authentication_url.is_empty();
    let mut listeners = settings.all_listeners();
    let has_certificates = listeners.any(|(listen, layers)| listen.proves_clients(layers));
    let ways = [
        (auth.has_users(), "passwords"),
        (auth.jwt.is_on(), "tokens"),
        (has_hook, "a hook that judges them"),
        (has_certificates, "certificates"),
    ];
    let ways = ways.iter().filter(|(is_on, _)| *is_on);
    let ways: Vec<&str> = ways.map(|(_, way)| *way).collect();
    let running = settings.all_listeners().zip(listens);
    let open = running.filter(|((listen, layers), _)| settings.lets_in_nameless(listen, layers));
    let open: Vec<String> = open.map(|(_, running)| running.to_string()).collect();
    let ways = ways.join(" or ");
    match (&ways[..], open.len()) {
        ("", _) => "without passwords".to_owned(),
        (ways, 0) => format!("with {ways}"),
        (ways, count) if count == listens.len() => format!("with {ways}, also for anybody"),
        (ways, _) => format!("with {ways}, and for anybody on {}", open.join(", ")),
    }
}

/// An address to connect to from this machine.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => ip,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Settings(problems) => {
                let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&shown.join("\n"))
            }
            Failure::Machine(findings) => {
                f.write_str("cannot start")?;
                for Finding { what, fix } in findings {
                    write!(f, "\n  {what}\n    fix: {fix}")?;
                }
                Ok(())
            }
            Failure::Setup(what, error) => write!(f, "cannot set up {what}: {error}"),
            Failure::Start(error) => write!(f, "cannot start: {error}"),
            Failure::Admin(problem) => write!(f, "cannot start: {problem}"),
            Failure::Log(failure) => write!(
                f,
                "{failure}; what was acknowledged is stored, and nothing else was promised: look \
                 at the disk, then start again"
            ),
        }
    }
}

/// EX_IOERR of `sysexits.h`: what is to be kept cannot be stored any more.
pub const EXIT_LOG_FAILED: u8 = 74;
/// From a log that failed to the end of the process.
const GIVE_UP_TIME_MAX: Duration = Duration::from_millis(900);
/// The clients are told and the sockets closed well within it; service managers allow more.
const STOP_TIME_MAX: Duration = Duration::from_millis(4500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::file::Source;

    #[test]
    fn what_ends_with_the_process_is_counted() {
        let remains = |retained, messages, sessions| Remains {
            sessions,
            messages,
            retained,
        };
        for (remains, expected) in [
            (remains(0, 0, 0), None),
            (remains(0, 0, 1), Some("1 session")),
            (remains(2, 0, 1), Some("2 retained messages and 1 session")),
            (
                remains(1, 4, 2),
                Some("1 retained message, 4 queued messages and 2 sessions"),
            ),
        ] {
            assert_eq!(shown_remains(remains).as_deref(), expected);
        }
    }

    #[test]
    fn the_banner_says_who_may_connect() {
        let tls = "certificate = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n";
        let (local, secure) = ("127.0.0.1:1", "mqtts://127.0.0.1:2");
        let rules = "[auth]\nacl_file = \"r\"\n";
        let users = "[auth]\npassword_file = \"p\"\nacl_file = \"r\"\n";
        let anybody = "allow_anonymous = true\n";
        let demand = |word: &str| format!("[tls]\n{tls}client_certificate = \"{word}\"\n");
        for (listen, rest, expected) in [
            (vec![local], String::new(), "without passwords"),
            (vec![local], users.to_owned(), "with passwords"),
            (
                vec![local],
                format!("{anybody}{users}"),
                "with passwords, also for anybody",
            ),
            (
                vec![secure],
                format!("{}{rules}", demand("optional")),
                "with certificates",
            ),
            (
                vec![local, secure],
                format!("{}{rules}", demand("optional")),
                "with certificates, and for anybody on 127.0.0.1:1",
            ),
            (
                vec![local, secure],
                format!("{}{users}", demand("required")),
                "with passwords or certificates",
            ),
            (
                vec![local, secure],
                format!("{anybody}{}{users}", demand("required")),
                "with passwords or certificates, and for anybody on 127.0.0.1:1",
            ),
            (
                vec![secure],
                format!("{anybody}{}{rules}", demand("optional")),
                "with certificates, also for anybody",
            ),
            (
                vec![local],
                format!("[proxy]\ntrusted = \"10.0.0.1\"\ncommon_name = true\n{rules}"),
                "with certificates",
            ),
        ] {
            let text = format!("[network]\nlisten = {listen:?}\n{rest}");
            let name = "f.toml";
            let source = Some(Source { name, text: &text });
            let settings = Configuration::resolve(source, &[]).unwrap().settings;
            let listens: Vec<Listen> = settings.listen.clone();
            assert_eq!(shown_credentials(&settings, &listens), expected, "{text}");
        }
    }
}
