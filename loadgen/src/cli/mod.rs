//! The command line.
//!
//! Keys of scenarios come from the table in `scenario::keys`; only what is not a key of a scenario
//! is defined here.

mod given;
mod help;
mod overlay;
mod target;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::Arg;
use ringmq_problem::{Complaint, Place, Problem, nearest};

use crate::scenario::keys;
use crate::scenario::{Scenario, builtin};
use crate::sources::Sources;
use given::{Given, Read};
use help::{COMMANDS, FLAGS};
pub use help::{Help, list, list_as_json, manual, version_line};
pub use target::choose;

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Run a scenario.
    Run(Box<RunOptions>),
    /// List the scenarios that are built in; as JSON, for programs.
    List {
        /// As JSON.
        json: bool,
    },
    /// Print a scenario.
    Show(Box<Scenario>),
    /// Make a page of results: the rest of the command line is `page`'s to read.
    Report,
    /// Print a help text.
    Help(Help),
    /// Print the version.
    Version,
}

/// How a scenario is to be run.
#[derive(Debug)]
pub struct RunOptions {
    /// What to do, all options applied.
    pub scenario: Scenario,
    /// The broker, as written.
    pub target: String,
    /// Its addresses, in the order in which they are tried.
    pub addresses: Vec<SocketAddr>,
    /// Threads of the generator.
    pub threads: usize,
    /// Cores to bind them to.
    pub cores: Vec<usize>,
    /// Local addresses, if given.
    pub sources: Option<Sources>,
    /// Processes of the broker.
    pub pids: Vec<u32>,
    /// Name for tables and plots.
    pub label: Option<String>,
    /// Where to write the result; `-` is stdout.
    pub json: Option<PathBuf>,
    /// Where to write the raw histograms.
    pub histograms: Option<PathBuf>,
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
}

impl Command {
    /// Reads the arguments, without the name of the program.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Vec<Problem>> {
        let mut parser = lexopt::Parser::from_args(args);
        let one = |problem| vec![problem];
        let first = match parser.next().map_err(|error| one(not_an_option(&error)))? {
            None | Some(Arg::Short('h')) => return Ok(Command::Help(Help::Short)),
            Some(Arg::Long("help")) => return Ok(Command::Help(Help::Run)),
            Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
            Some(Arg::Value(word)) => word.to_string_lossy().into_owned(),
            Some(Arg::Long(name)) => return Err(one(before_command(&format!("--{name}")))),
            Some(Arg::Short(letter)) => return Err(one(before_command(&format!("-{letter}")))),
        };
        match first.as_str() {
            "help" => Command::help(&mut parser).map_err(one),
            "list" => Command::list(&mut parser).map_err(one),
            "report" => Ok(Command::Report),
            "run" | "show" => {
                let given = match Given::read(&mut parser).map_err(one)? {
                    Read::Given(given) => *given,
                    Read::Help(help) => return Ok(Command::Help(help)),
                };
                if first == "show" && given.scenario.is_none() {
                    let fix =
                        "write ringload show NAME; `ringload list` shows the names".to_owned();
                    return Err(one(problem("show", "needs a scenario", fix)));
                }
                let options = given.understand()?;
                if first == "show" || options.print {
                    return Ok(Command::Show(Box::new(options.scenario)));
                }
                Ok(Command::Run(Box::new(options)))
            }
            other => {
                let fix = match nearest(other, COMMANDS.iter().map(|(name, _)| *name)) {
                    Some(near) => format!("did you mean `ringload {near}`?"),
                    None if builtin::text(other).is_some() || other.ends_with(".toml") => {
                        format!("did you mean `ringload run {other}`?")
                    }
                    None => SEE_HELP.to_owned(),
                };
                Err(one(problem(&format!("`{other}`"), "is not a command", fix)))
            }
        }
    }

    /// `ringload help [COMMAND]`.
    fn help(parser: &mut lexopt::Parser) -> Result<Command, Problem> {
        let Some(arg) = parser.next().map_err(|error| not_an_option(&error))? else {
            return Ok(Command::Help(Help::Short));
        };
        let Arg::Value(word) = arg else {
            return Err(problem(
                "help",
                "takes no option",
                "write ringload help COMMAND".to_owned(),
            ));
        };
        let word = word.to_string_lossy();
        match Help::of(&word) {
            Some(help) => Ok(Command::Help(help)),
            None => {
                let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
                let fix = match nearest(&word, names.iter().copied()) {
                    Some(near) => format!("did you mean `ringload help {near}`?"),
                    None => format!("the commands are {}", names.join(", ")),
                };
                Err(problem(&format!("help: `{word}`"), "is not a command", fix))
            }
        }
    }

    /// `ringload list [--json]`.
    fn list(parser: &mut lexopt::Parser) -> Result<Command, Problem> {
        let mut json = false;
        while let Some(arg) = parser.next().map_err(|error| not_an_option(&error))? {
            let text = match arg {
                Arg::Long("json") => {
                    json = true;
                    continue;
                }
                Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(Help::List)),
                Arg::Long(name) => format!("--{name}"),
                Arg::Short(letter) => format!("-{letter}"),
                Arg::Value(text) => format!("`{}`", text.to_string_lossy()),
            };
            let fix = "write ringload list, or ringload list --json".to_owned();
            return Err(problem(&format!("list: {text}"), "is too much", fix));
        }
        Ok(Command::List { json })
    }
}

fn unknown_option(name: &str) -> Problem {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    let fix = match nearest(name, FLAGS.iter().map(|flag| flag.name)) {
        Some(flag) => format!("did you mean --{flag}?"),
        None if keys::of_group(&name.replace('-', "_")).is_some() => {
            format!(
                "it is a key of a group: --set GROUP.{}=VALUE",
                name.replace('-', "_")
            )
        }
        None => SEE_HELP.to_owned(),
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

/// The parser fails only on a value for an option that takes none, and on text that is not an
/// option.
fn not_an_option(error: &lexopt::Error) -> Problem {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            problem(option, "takes no value", format!("write {option} alone"))
        }
        other => problem(
            "an argument",
            &format!("is wrong: {other}"),
            SEE_HELP.to_owned(),
        ),
    }
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
