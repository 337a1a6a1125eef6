//! The program: command line, run, output.
//!
//! Exit codes: 0 done, 1 could not run or something went wrong with the broker, 2 wrong command
//! line or scenario, 3 done but invalid (with thresholds, or with --strict) or with faults (with
//! --strict), 4 a threshold was missed, no load keeps to the limits, or
//! the broker did not recover from a storm, 130 ended by Ctrl-C.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

use ringload::agent;
use ringload::capacity::file::PlanFile;
use ringload::capacity::load::Load;
use ringload::capacity::{self, measure};
use ringload::cli::{self, Command, PredictRequest};
use ringload::plan::Plan;
use ringload::setup::Failure;
use ringload::{capture, find, page, runs, setup, storm};
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
        Ok(Command::Capture(request)) => code_of(capture::capture(&request)),
        Ok(Command::Plan(request)) => plan(&request),
        Ok(Command::Predict(request)) => predict(&request),
        Ok(Command::Run(options)) => code_of(runs::run(&options)),
        Ok(Command::Agent) => {
            let stdin = BufReader::new(io::stdin());
            ExitCode::from(agent::serve::serve(stdin, io::stdout()))
        }
        Ok(Command::FindMax(options)) => code_of(find::find_max(&options)),
        Ok(Command::Storm(options)) => code_of(storm::storm(&options)),
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

/// `ringload plan`.
fn plan(request: &measure::Request) -> ExitCode {
    let interrupted = match setup::on_interrupt() {
        Ok(interrupted) => interrupted,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let mut say_line = |line: &str| {
        let _ = writeln!(io::stderr(), "{line}");
    };
    let file = match measure::plan(request, &interrupted, &mut say_line) {
        Ok(file) => file,
        Err(measure::Failure::Usage(problems)) => return refuse(&problems),
        Err(measure::Failure::Run(why)) => {
            complain(&why);
            return ExitCode::FAILURE;
        }
        Err(measure::Failure::Interrupted) => {
            complain(&"interrupted: no plan is written");
            return ExitCode::from(130);
        }
    };
    let written = runs::write(&request.out, file.to_json().as_bytes());
    match written.and_then(|()| capacity::summary::summary(&file)) {
        Ok(text) => say(&format!("{text}written to {}\n", request.out.display())),
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// `ringload predict`.
fn predict(request: &PredictRequest) -> ExitCode {
    let plan = match Plan::new(request.scenario.clone(), "0000", 1, false) {
        Ok(plan) => plan,
        Err(problems) => return refuse(&problems),
    };
    let files = request
        .plans
        .iter()
        .map(|path| PlanFile::read(path).map_err(|error| format!("{}: {error}", path.display())));
    let files = files.collect::<Result<Vec<PlanFile>, String>>();
    let text = files.and_then(|files| {
        let load = Load::of(&plan)?;
        Ok(capacity::predict::predict(&files, &request.scenario, load, request.question)?.text())
    });
    match text {
        Ok(text) => say(&text),
        Err(why) => {
            complain(&why);
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
