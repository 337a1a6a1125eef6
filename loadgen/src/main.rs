//! The program: command line, run, output.
//!
//! Exit codes: 0 done, 1 could not run or something went wrong with the broker, 2 wrong command
//! line or scenario, 3 done but invalid (with thresholds, or with --strict) or with faults (with
//! --strict), 4 a threshold was missed, or no load keeps to the limits, 130 ended by Ctrl-C.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use ringload::cli::{self, Command};
use ringload::setup::Failure;
use ringload::{find, page, runs};
use ringmq_problem::Problem;

fn main() -> ExitCode {
    match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help(help)) => say(&help.text()),
        Ok(Command::Say(text)) => say(&text),
        Ok(Command::ManPages(directory)) => man_pages(&directory),
        Ok(Command::List { json: true }) => say(&cli::list_as_json()),
        Ok(Command::List { json: false }) => say(&cli::list()),
        Ok(Command::Show(scenario)) => say(&scenario.to_toml()),
        Ok(Command::Report(request)) => page::command(&request),
        Ok(Command::Run(options)) => code_of(runs::run(&options)),
        Ok(Command::FindMax(options)) => code_of(find::find_max(&options)),
        Err(problems) => refuse(&problems),
    }
}

fn code_of(done: Result<u8, Failure>) -> ExitCode {
    match done {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Usage(problems)) => refuse(&problems),
        Err(Failure::Run(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
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
