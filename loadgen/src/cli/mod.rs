//! The command line.
//!
//! Keys of scenarios come from the table in `scenario::keys`; only what is not a key of a scenario
//! is defined here.

mod capture;
mod factors;
mod flags;
mod forecast;
mod given;
mod help;
mod overlay;
mod storm;
mod target;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use ringmq_problem::usage::{path_of, problem_of, subject_of};
use ringmq_problem::{Complaint, Place, Problem, nearest, papers};

use crate::admin::Admin;
use crate::agent::On;
use crate::capacity::measure;
use crate::capture as captured;
use crate::find::FindOptions;
use crate::page::Request;
use crate::peer::Peer;
use crate::scenario::keys;
use crate::scenario::{Scenario, builtin};
use crate::sources::Sources;
use crate::storm::StormOptions;
use crate::websocket::Resource;
use flags::{FIND_MAX, STORM, flags_of};
pub use forecast::PredictRequest;
use given::Given;
use help::COMMANDS;
pub use help::{Help, command, list, list_as_json, manual, version_line};
pub use target::{choose, reach};

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Run a scenario.
    Run(Box<RunOptions>),
    /// Search for the largest load.
    FindMax(Box<FindOptions>),
    /// Cut all clients, and look how the broker recovers.
    Storm(Box<StormOptions>),
    /// List the scenarios that are built in; as JSON, for programs.
    List {
        /// As JSON.
        json: bool,
    },
    /// Print a scenario.
    Show(Box<Scenario>),
    /// Make a page of results.
    Report(Request),
    /// Make a scenario of what a broker does.
    Capture(captured::Request),
    /// Measure what things cost a broker.
    Plan(measure::Request),
    /// Say what a scenario takes.
    Predict(Box<PredictRequest>),
    /// Do a part of a run for another machine.
    Agent,
    /// Print a help text.
    Help(Help),
    /// Write pages for `man` into a directory.
    ManPages(PathBuf),
    /// Print a text: the version, completions.
    Say(String),
}

/// How a scenario is to be run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What to do, all options applied.
    pub scenario: Scenario,
    /// The broker, as written.
    pub target: String,
    /// Its name or address alone: what its certificate is for.
    pub host: String,
    /// Its addresses, in the order in which they are tried.
    pub peers: Vec<Peer>,
    /// What a WebSocket is opened on.
    pub websocket: Option<Resource>,
    /// Threads of the generator.
    pub threads: usize,
    /// Cores to bind them to.
    pub cores: Vec<usize>,
    /// Local addresses, if given.
    pub sources: Option<Sources>,
    /// Processes of the broker.
    pub pids: Vec<u32>,
    /// Its control plane.
    pub admin: Option<Admin>,
    /// Name for tables and plots.
    pub label: Option<String>,
    /// Where to write the result; `-` is stdout.
    pub json: Option<PathBuf>,
    /// Where to write the raw histograms.
    pub histograms: Option<PathBuf>,
    /// Where to write what became of the thresholds.
    pub junit: Option<PathBuf>,
    /// Where to write the seconds.
    pub csv: Option<PathBuf>,
    /// Where to show metrics while it goes on.
    pub metrics: Option<SocketAddr>,
    /// Number of the run, if given.
    pub run: Option<u16>,
    /// Count clients that cannot connect.
    pub keep_going: bool,
    /// Show no progress and no summary.
    pub quiet: bool,
    /// Listen to `$SYS`.
    pub with_sys: bool,
    /// Wait for it at the end.
    pub sys_wait: Duration,
    /// Exit with 3 on faults and invalid runs.
    pub strict: bool,
    /// Print the scenario and stop.
    pub print: bool,
    /// What is slow or dear at the service of a preset.
    pub warnings: Vec<String>,
    /// Other machines make the run.
    pub on: Option<On>,
}

impl Command {
    /// Reads the arguments, without the name of the program.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Vec<Problem>> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut root = help::command();
        let named = std::iter::once(OsString::from("ringload")).chain(args.iter().cloned());
        let matches = match root.try_get_matches_from_mut(named) {
            Ok(matches) => matches,
            Err(error) => return refused(&error, &root, &args),
        };
        let Some((name, matches)) = matches.subcommand() else {
            return Ok(Command::Help(Help::Short));
        };
        let one = |problem| vec![problem];
        match name {
            "help" => {
                let topic = matches.get_one::<String>("command");
                help_of(topic.map(String::as_str)).map_err(one)
            }
            "list" => Ok(Command::List {
                json: matches.get_flag("json"),
            }),
            "report" => Ok(Command::Report(help::request_of(matches))),
            "agent" => Ok(Command::Agent),
            "capture" => capture::capture(matches),
            "plan" => forecast::plan(matches).map_err(one),
            "predict" => forecast::predict(matches),
            "completions" => {
                let shell = matches.get_one("shell").expect("clap wants a shell");
                let script = papers::completions(help::command(), *shell);
                Ok(Command::Say(script))
            }
            "man" => Ok(match matches.get_one::<PathBuf>("directory") {
                Some(directory) => Command::ManPages(directory.clone()),
                None => Command::Say(papers::man_page(help::command())),
            }),
            _ => {
                let given = Given::of(name, matches).map_err(one)?;
                if name == FIND_MAX {
                    if given.scenario.is_none() && !given.has_groups() {
                        let fix = "write ringload find-max NAME; `ringload list` shows the names";
                        let problem = problem(FIND_MAX, "needs a scenario", fix.to_owned());
                        return Err(one(problem));
                    }
                    return Ok(Command::FindMax(Box::new(given.understand_search()?)));
                }
                if name == STORM {
                    return storm(given);
                }
                if name == "show" && given.scenario.is_none() {
                    let fix =
                        "write ringload show NAME; `ringload list` shows the names".to_owned();
                    return Err(one(problem("show", "needs a scenario", fix)));
                }
                let options = given.understand()?;
                if name == "show" || options.print {
                    return Ok(Command::Show(Box::new(options.scenario)));
                }
                Ok(Command::Run(Box::new(options)))
            }
        }
    }
}

/// `ringload storm SCENARIO`.
fn storm(given: Given) -> Result<Command, Vec<Problem>> {
    if given.scenario.is_none() && !given.has_groups() {
        let fix = "write ringload storm NAME; `ringload list` shows the names".to_owned();
        return Err(vec![problem(STORM, "needs a scenario", fix)]);
    }
    let options = given.understand_storm()?;
    Ok(match options.run.print {
        true => Command::Show(Box::new(options.run.scenario)),
        false => Command::Storm(Box::new(options)),
    })
}

/// `ringload help [COMMAND]`.
fn help_of(topic: Option<&str>) -> Result<Command, Problem> {
    let Some(word) = topic else {
        return Ok(Command::Help(Help::Short));
    };
    match Help::of(word) {
        Some(help) => Ok(Command::Help(help)),
        None => {
            let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
            let fix = match nearest(word, names.iter().copied()) {
                Some(near) => format!("did you mean `ringload help {near}`?"),
                None => format!("the commands are {}", names.join(", ")),
            };
            Err(problem(&format!("help: `{word}`"), "is not a command", fix))
        }
    }
}

/// What clap does not take: help and the version are no problems.
fn refused(
    error: &clap::Error,
    root: &clap::Command,
    args: &[OsString],
) -> Result<Command, Vec<Problem>> {
    let path = path_of(root, args);
    let command = path.get(1).map(|command| command.get_name());
    let subject = subject_of(error);
    let refuse = |problem| Err(vec![problem]);
    match (error.kind(), command) {
        (ErrorKind::DisplayVersion, _) => Ok(Command::Say(error.render().to_string())),
        (ErrorKind::DisplayHelp, command) => {
            let is_long = args.iter().find(|arg| *arg == "-h" || *arg == "--help");
            Ok(Command::Help(match command.and_then(Help::of) {
                None | Some(Help::Run) if is_long.is_none_or(|arg| arg == "-h") => Help::Short,
                None => Help::Run,
                Some(help) => help,
            }))
        }
        (ErrorKind::UnknownArgument, None) => refuse(before_command(&subject)),
        (ErrorKind::InvalidSubcommand, None) => refuse(unknown_command(&subject)),
        (ErrorKind::UnknownArgument, Some(command @ ("run" | "show" | FIND_MAX | STORM))) => {
            refuse(unknown_option(command, subject.trim_start_matches('-')))
        }
        (ErrorKind::TooManyValues, Some("run" | "show" | FIND_MAX | STORM)) => refuse(problem(
            &subject,
            "takes no value",
            format!("write {subject} alone"),
        )),
        (ErrorKind::UnknownArgument, Some("help")) => refuse(problem(
            "help",
            "takes no option",
            "write ringload help COMMAND".to_owned(),
        )),
        (ErrorKind::UnknownArgument, Some("list")) => {
            let subject = match subject.starts_with('-') {
                true => format!("list: {subject}"),
                false => format!("list: `{subject}`"),
            };
            let fix = "write ringload list, or ringload list --json".to_owned();
            refuse(problem(&subject, "is too much", fix))
        }
        (_, Some("run" | "show" | FIND_MAX | STORM)) => {
            refuse(without_command(problem_of(error, root, args)))
        }
        _ => refuse(problem_of(error, root, args)),
    }
}

/// Options of `run` and `show` are named alone: there are no others to take them for.
fn without_command(problem: Problem) -> Problem {
    let (subject, what) = problem.what.split_once(' ').unwrap_or(("", &problem.what));
    Problem {
        subject: subject.to_owned(),
        what: what.to_owned(),
        ..problem
    }
}

fn unknown_command(word: &str) -> Problem {
    let fix = match nearest(word, COMMANDS.iter().map(|(name, _)| *name)) {
        Some(near) => format!("did you mean `ringload {near}`?"),
        None if builtin::text(word).is_some() || word.ends_with(".toml") => {
            format!("did you mean `ringload run {word}`?")
        }
        None => SEE_HELP.to_owned(),
    };
    problem(&format!("`{word}`"), "is not a command", fix)
}

fn unknown_option(command: &str, name: &str) -> Problem {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    let others = ["run", FIND_MAX, STORM];
    let mut others = others.iter().filter(|other| **other != command);
    let elsewhere = others.find(|other| flags_of(other).any(|flag| flag.name == name));
    let near = nearest(name, flags_of(command).map(|flag| flag.name));
    let fix = match (near, elsewhere) {
        (Some(flag), _) => format!("did you mean --{flag}?"),
        (None, Some(other)) => format!("it is an option of `ringload {other}`"),
        (None, None) if keys::of_group(&name.replace('-', "_")).is_some() => {
            format!(
                "it is a key of a group: --set GROUP.{}=VALUE",
                name.replace('-', "_")
            )
        }
        (None, None) => SEE_HELP.to_owned(),
    };
    problem(&format!("{dashes}{name}"), "is not an option", fix)
}

fn before_command(option: &str) -> Problem {
    problem(
        option,
        "comes before the command",
        "write ringload run SCENARIO first, then options".to_owned(),
    )
}

fn at(name: &str, complaint: Complaint) -> Problem {
    complaint.at(Place::CommandLine, format!("--{name}"))
}

fn problem(subject: &str, what: &str, fix: String) -> Problem {
    Complaint::new(what, fix).at(Place::CommandLine, subject)
}

/// As a file: what the program prints.
pub const STDOUT: &str = "-";
const SEE_HELP: &str = "`ringload --help` lists everything";

#[cfg(test)]
mod tests;
