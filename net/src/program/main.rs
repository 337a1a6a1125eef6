//! The broker as a program: settings, start-up checks, the broker, signals.
//!
//! Exit codes: 0 stopped as requested, 1 could not run or not stop in time, 2 wrong settings, 74 what is to be kept
//! could not be stored any more, 75 (`ringmq log`) a broker has the data directory, 128 + n cut short by a second signal n.
//!
//! A closed stdout or stderr never ends the broker: Rust ignores SIGPIPE, and nothing here prints
//! with macros that panic when they cannot write.

#![forbid(unsafe_code)]

mod access;
mod ctl;
mod data;
mod doctor;
mod import;
mod line;
mod log;
mod notify;
mod passwd;
mod probe;
mod reload;
mod settings;
mod start;
mod steward;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use line::Order;
use probe::Finding;
use ringmq_problem::secret::hide_in_line;
use settings::cli::{Action, CommandLine};
use settings::file::{Configuration, Problem, count};
use start::Failure;

/// Gives the memory of a peak back to the kernel, a few seconds later and by a thread of its own; glibc's keeps what lies below
/// anything that is still in use.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let order = match line::parse(args.iter().cloned()) {
        Ok(order) => order,
        Err(problems) => {
            return match data::wrong_use(&args, &problems[0]) {
                Some(ended) => end(&ended),
                None => refuse(&problems),
            };
        }
    };
    match order {
        Order::Broker(line) => broker(line),
        Order::Import(path) => match import::run(&path) {
            Ok(import::Imported { toml, said }) => {
                let _ = io::stderr().write_all(said.as_bytes());
                say(&toml)
            }
            Err(problem) => refuse(&[problem]),
        },
        Order::Passwd(line) => match passwd::run(line) {
            Ok(said) => say(&said),
            Err(problem) => refuse(&[problem]),
        },
        Order::Log(line) => end(&data::run(&line)),
        Order::Ctl(line) => ctl::run(&line),
        Order::Doctor(line) => match doctor::run(&line) {
            Ok((said, code)) => end(&data::Ended {
                code,
                said,
                complaint: None,
            }),
            Err(problems) => refuse(&problems),
        },
        Order::ManPages(directory) => man_pages(&directory),
        Order::Say(text) => say(&text),
    }
}

/// Runs the broker, or says how it would run.
fn broker(line: CommandLine) -> ExitCode {
    let configuration = match Configuration::load(&line) {
        Ok(configuration) => configuration,
        Err(problems) => return refuse(&problems),
    };
    match line.action {
        Action::CheckConfig => check(&line, &configuration),
        Action::PrintConfig => say(&configuration.to_toml()),
        Action::Run => match start::run(line, &configuration) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Settings(problems)) => refuse(&problems),
            Err(failure) => {
                complain(&failure);
                match failure {
                    Failure::Log(_) => ExitCode::from(start::EXIT_LOG_FAILED),
                    Failure::Settings(_)
                    | Failure::Machine(_)
                    | Failure::Setup(..)
                    | Failure::Admin(_)
                    | Failure::Start(_) => ExitCode::FAILURE,
                }
            }
        },
    }
}

fn man_pages(directory: &Path) -> ExitCode {
    match ringmq_problem::papers::write_man_pages(line::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            complain(&complaint);
            ExitCode::FAILURE
        }
    }
}

/// How a tool for data directories has ended.
fn end(ended: &data::Ended) -> ExitCode {
    if let Some(complaint) = &ended.complaint {
        complain(complaint);
    }
    match say(&ended.said) {
        ExitCode::SUCCESS => ExitCode::from(ended.code),
        failed => failed,
    }
}

/// What a start would find, without one.
fn check(line: &CommandLine, configuration: &Configuration) -> ExitCode {
    if let Err(problems) = access::check(&configuration.settings) {
        return refuse(&problems);
    }
    let (refusals, doubts) = probe::store::look(&configuration.settings);
    for Finding { what, fix } in &refusals {
        complain(&format_args!("{what}\n  fix: {fix}"));
    }
    if !refusals.is_empty() {
        return ExitCode::from(EXIT_WRONG_SETTINGS);
    }
    let mut report = check_report(line, configuration);
    for Finding { what, fix } in &doubts {
        report += &format!("warning: {what}\n  fix: {fix}\n");
    }
    say(&report)
}

/// "FILE: ok", and every setting that differs from its default.
fn check_report(line: &CommandLine, configuration: &Configuration) -> String {
    let name = match &line.file {
        Some(path) => path.display().to_string(),
        None => "command line".to_owned(),
    };
    let mut report = format!("{name}: ok\n");
    let changed: Vec<_> = configuration.changed().collect();
    if changed.is_empty() && configuration.tables.is_empty() {
        report += "every setting has its default\n";
    } else {
        report += &format!("{} from the default:\n", differ(changed.len()));
    }
    for (row, value, place) in changed {
        report += &format!(
            "  {} = {}  ({place}; default {})\n",
            row.name(),
            hide_in_line(&row.kind.show_toml(&value)),
            row.kind.show_toml(&row.default_value())
        );
    }
    for table in &configuration.tables {
        report += &format!("  {table}\n");
    }
    for problem in access::advice::advice(&configuration.settings) {
        report += &format!("warning: {problem}\n");
    }
    report
}

fn differ(number: usize) -> String {
    let verb = if number == 1 { "differs" } else { "differ" };
    format!("{} {verb}", count(number, "setting"))
}

fn refuse(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        complain(problem);
    }
    ExitCode::from(EXIT_WRONG_SETTINGS)
}

fn complain(text: &dyn Display) {
    let _ = writeln!(io::stderr(), "ringmq: {text}");
}

fn say(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        // `ringmq --help | head -1`: the reader has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

const EXIT_WRONG_SETTINGS: u8 = 2;
/// With the commit, if it is known: "0.1.0 (0123456789)".
const VERSION: &str = env!("RINGMQ_VERSION");
