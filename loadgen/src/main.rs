//! The program: command line, run, output.
//!
//! Exit codes: 0 done, 1 could not run or something went wrong with the broker, 2 wrong command
//! line or scenario, 3 done but invalid or with faults (only with --strict), 130 ended by Ctrl-C.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, UNIX_EPOCH};

use ringload::assemble::{self, Context};
use ringload::cli::{self, Command, RunOptions};
use ringload::driver::Way;
use ringload::engine::{self, Options, Outcome};
use ringload::fleet::{CANNOT, NO_ANSWER, REFUSED, WRITTEN_OFF};
use ringload::peer::Peer;
use ringload::plan::Plan;
use ringload::progress::Progress;
use ringload::report::{Ended, ResultFile};
use ringload::sources::Sources;
use ringload::tls::Terms;
use ringload::{histograms, page, process, summary};
use ringmq_problem::Problem;
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help(help)) => say(&help.text()),
        Ok(Command::Say(text)) => say(&text),
        Ok(Command::ManPages(directory)) => man_pages(&directory),
        Ok(Command::List { json: true }) => say(&cli::list_as_json()),
        Ok(Command::List { json: false }) => say(&cli::list()),
        Ok(Command::Show(scenario)) => say(&scenario.to_toml()),
        Ok(Command::Report(request)) => page::command(&request),
        Ok(Command::Run(options)) => match run(*options) {
            Ok(code) => ExitCode::from(code),
            Err(Failure::Usage(problems)) => refuse(&problems),
            Err(Failure::Run(why)) => {
                complain(&why);
                ExitCode::FAILURE
            }
        },
        Err(problems) => refuse(&problems),
    }
}

fn man_pages(directory: &Path) -> ExitCode {
    match ringmq_problem::papers::write_man_pages(cli::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            complain(&complaint);
            ExitCode::FAILURE
        }
    }
}

/// Why there is no result.
enum Failure {
    /// The user has to change something.
    Usage(Vec<Problem>),
    /// The run did not take place.
    Run(String),
}

fn run(mut options: RunOptions) -> Result<u8, Failure> {
    let clients = options.scenario.client_count();
    let files_max = open_files(clients, options.threads).map_err(Failure::Run)?;
    check_pids(&options.pids).map_err(Failure::Run)?;
    let machine = process::machine();
    let run = options.run.unwrap_or_else(random_run);
    let plan = Plan::new(
        std::mem::take(&mut options.scenario),
        &format!("{run:04x}"),
        options.threads,
        options.with_sys,
    );
    let plan = plan.map_err(Failure::Usage)?;
    let way = way(&plan, &options)?;
    let automatic = || match &way.peer {
        Peer::Tcp(address) => Sources::automatic(*address, clients, process::local_ports()),
        Peer::Unix(_) => Sources::default(),
    };
    let sources = options.sources.unwrap_or_else(automatic);
    let shown_sources = sources
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let carrier = way.carrier();
    let name = plan.scenario.name.clone();
    let how = Options {
        name: format!("{name} against {}", options.target),
        sources,
        way,
        cores: options.cores,
        pids: options.pids.clone(),
        run,
        keep_going: options.keep_going,
        sys_wait: options.sys_wait,
        interrupted: on_interrupt().map_err(|error| Failure::Run(error.to_string()))?,
    };
    let outcome = engine::run(plan, how, &mut Progress::new(options.quiet))
        .map_err(|why| Failure::Run(format!("{}: {why}", options.target)))?;
    let context = Context {
        label: options.label,
        command: std::env::args_os()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect(),
        target: options.target.clone(),
        carrier,
        machine,
        broker_command: options
            .pids
            .first()
            .map(|pid| process::command_of(*pid))
            .unwrap_or_default(),
        broker_cores: assemble::cores_of(options.pids.first()),
        pids: options.pids,
        sources: shown_sources,
        files_max,
    };
    let result = assemble::assemble(&outcome, context);
    if let Some(path) = &options.histograms {
        let log = histogram_log(&name, &options.target, &outcome);
        write(path, &log).map_err(Failure::Run)?;
    }
    let code = exit_code(&result, options.strict, options.keep_going);
    conclude(&result, options.json.as_deref(), options.quiet, code).map_err(Failure::Run)
}

/// How the clients of a plan get to the broker.
fn way(plan: &Plan, options: &RunOptions) -> Result<Way, Failure> {
    let peer = cli::choose(&options.peers)
        .map_err(|why| Failure::Run(format!("{}: {why}", options.target)))?;
    let groups = plan.specs.iter();
    let tls = groups.map(|group| Terms::of(group, &options.host));
    let tls = tls.collect::<Result<Vec<_>, _>>();
    Ok(Way {
        peer,
        tls: tls.map_err(|problem| Failure::Usage(vec![problem]))?,
        websocket: options.websocket.clone(),
    })
}

fn check_pids(pids: &[u32]) -> Result<(), String> {
    match pids.iter().find(|pid| !process::is_alive(**pid)) {
        Some(pid) => Err(format!("--pid {pid}: no such process")),
        None => Ok(()),
    }
}

/// Writes the result and shows it; gives the exit code back.
fn conclude(result: &ResultFile, json: Option<&Path>, quiet: bool, code: u8) -> Result<u8, String> {
    let to_stdout = json.is_some_and(|path| path.as_os_str() == cli::STDOUT);
    match json {
        Some(_) if to_stdout => {
            say(&result.to_json());
        }
        Some(path) => write(path, result.to_json().as_bytes())?,
        None => {}
    }
    if !quiet && to_stdout {
        // There is nobody left to report a failure to.
        let text = summary::summary(result, console::colors_enabled_stderr());
        let _ = io::stderr().write_all(text.as_bytes());
    } else if !quiet {
        say(&summary::summary(result, console::colors_enabled()));
    } else if code != 0 {
        // Even with --quiet, the reason for a failure is shown.
        complain(&summary::verdict(result).trim_end());
    }
    Ok(code)
}

fn exit_code(result: &ResultFile, strict: bool, keep_going: bool) -> u8 {
    let has_faults = !summary::faults(&result.totals.ledger).is_empty();
    let is_broken = result.troubles.iter().any(|trouble| {
        let kind = trouble.kind.as_str();
        if keep_going {
            ![CANNOT, REFUSED, NO_ANSWER, WRITTEN_OFF].contains(&kind)
        } else {
            // What a window writes off at QoS 0 may be lost, which is a matter of the ledger.
            kind != WRITTEN_OFF
        }
    });
    match result.run.ended {
        Ended::Interrupted => 130,
        Ended::Broken => 1,
        Ended::Planned if strict && (has_faults || !result.validity.valid) => 3,
        Ended::Planned => u8::from(is_broken),
    }
}

fn histogram_log(name: &str, target: &str, outcome: &Outcome) -> Vec<u8> {
    let began =
        UNIX_EPOCH + Duration::from_millis(outcome.started_unix_ms) + outcome.published_after;
    let mut log = histograms::header(name, target, began);
    log.extend_from_slice(&outcome.histograms);
    log
}

/// Raises the limit of open files as far as possible; an error if that is not enough.
fn open_files(clients: u64, threads: usize) -> Result<u64, String> {
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
fn on_interrupt() -> io::Result<Arc<AtomicBool>> {
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

fn random_run() -> u16 {
    let mut bytes = [0; 2];
    // Without entropy the run continues: the number only tells runs apart.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(what: &dyn Display) {
    let _ = writeln!(io::stderr(), "ringload: {what}");
}

fn refuse(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        complain(problem);
    }
    ExitCode::from(2)
}
