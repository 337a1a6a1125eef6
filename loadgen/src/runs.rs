//! `ringload run`: from the options to a result, and what is written of it.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::agent;
use crate::assemble;
use crate::bound::Snapshot;
use crate::cli::{self, RunOptions};
use crate::engine::{self, Outcome};
use crate::fleet::{CANNOT, NO_ANSWER, REFUSED, WRITTEN_OFF};
use crate::inside::Inside;
use crate::progress::Progress;
use crate::report::{Ended, Judgement, ResultFile};
use crate::setup::{self, Failure, Setup};
use crate::{csv, histograms, junit, summary};

/// Runs a scenario; gives the exit code.
pub fn run(options: &RunOptions) -> Result<u8, Failure> {
    let interrupted = setup::on_interrupt().map_err(|error| Failure::Run(error.to_string()))?;
    let run = options.run.unwrap_or_else(setup::random_run);
    for warning in options.warnings.iter().filter(|_| !options.quiet) {
        // Where it cannot be written, there is nobody left to report that to.
        let _ = writeln!(io::stderr(), "ringload: warning: {warning}");
    }
    match measure(options, run, interrupted) {
        Ok((result, outcome)) => {
            if let Some(path) = &options.histograms {
                let name = &result.run.scenario.name;
                let log = histogram_log(name, &options.target, &outcome);
                write(path, &log).map_err(Failure::Run)?;
            }
            let code = exit_code(&result, options.strict, options.keep_going);
            conclude(&result, options, code).map_err(Failure::Run)?;
            Ok(code)
        }
        Err(Failure::Run(why)) => {
            write_failed(options, run, &why).map_err(Failure::Run)?;
            Err(Failure::Run(why))
        }
        Err(Failure::Usage(problems)) => Err(Failure::Usage(problems)),
    }
}

/// Runs a scenario, and writes and shows nothing but its progress; with the exit code that it would
/// have.
pub fn measured(
    options: &RunOptions,
    interrupted: &Arc<AtomicBool>,
) -> Result<(ResultFile, u8), Failure> {
    let run = options.run.unwrap_or_else(setup::random_run);
    let (result, _) = measure(options, run, interrupted.clone())?;
    let code = exit_code(&result, options.strict, options.keep_going);
    Ok((result, code))
}

fn measure(
    options: &RunOptions,
    run: u16,
    interrupted: Arc<AtomicBool>,
) -> Result<(ResultFile, Outcome), Failure> {
    let before = look_inside(options);
    let (result, outcome) = match &options.on {
        Some(on) => agent::lead::measure(options, on, run, interrupted)?,
        None => make(options, run, interrupted)?,
    };
    let inside = Inside::between(&before, &look_inside(options));
    Ok((ResultFile { inside, ..result }, outcome))
}

/// Makes a run on this machine.
fn make(
    options: &RunOptions,
    run: u16,
    interrupted: Arc<AtomicBool>,
) -> Result<(ResultFile, Outcome), Failure> {
    let Setup {
        plan,
        options: how,
        carrier,
        sources,
        files_max,
    } = setup::set_up(options, options.scenario.clone(), run, interrupted)?;
    let context = setup::context(options, carrier, sources, files_max);
    let outcome = engine::run(plan, how, &mut Progress::new(options.quiet))
        .map_err(|why| Failure::Run(format!("{}: {why}", options.target)))?;
    Ok((assemble::assemble(&outcome, context), outcome))
}

/// What the control plane says, if it is named and answers.
fn look_inside(options: &RunOptions) -> Snapshot {
    let mut snapshot = Snapshot::default();
    if let Some(admin) = &options.admin {
        let _ = admin.add_to(&mut snapshot);
    }
    snapshot
}

/// Who reads a result file finds one that says why there is nothing in it.
fn write_failed(options: &RunOptions, run: u16, why: &str) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.unwrap_or_default().as_millis() as u64;
    let context = setup::context(options, None, Vec::new(), 0);
    let run_id = format!("{run:04x}");
    let result = assemble::failed(&options.scenario, &run_id, now_ms, context, why);
    write_files(&result, options)
}

/// The files that were asked for.
fn write_files(result: &ResultFile, options: &RunOptions) -> Result<(), String> {
    match &options.json {
        Some(path) if path.as_os_str() == cli::STDOUT => {
            // There is nobody left to report a failure to.
            let _ = io::stdout().write_all(result.to_json().as_bytes());
        }
        Some(path) => write(path, result.to_json().as_bytes())?,
        None => {}
    }
    if let Some(path) = &options.junit {
        write(path, junit::junit(result).as_bytes())?;
    }
    if let Some(path) = &options.csv {
        write(path, csv::csv(result).as_bytes())?;
    }
    Ok(())
}

/// Writes the result and shows it.
fn conclude(result: &ResultFile, options: &RunOptions, code: u8) -> Result<(), String> {
    write_files(result, options)?;
    let json = options.json.as_deref();
    let to_stdout = json.is_some_and(|path| path.as_os_str() == cli::STDOUT);
    let is_colored = match to_stdout {
        true => console::colors_enabled_stderr(),
        false => console::colors_enabled(),
    };
    let text = summary::summary(result, is_colored);
    // Where it cannot be written, there is nobody left to report that to.
    let _ = match (options.quiet, to_stdout) {
        (false, true) => io::stderr().write_all(text.as_bytes()),
        (false, false) => io::stdout().write_all(text.as_bytes()),
        // Even with --quiet, the reason for a failure is shown.
        (true, _) if code != 0 => {
            let why = summary::verdict(result);
            writeln!(io::stderr(), "ringload: {}", why.trim_end())
        }
        (true, _) => Ok(()),
    };
    Ok(())
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
    let has = |wanted| {
        let mut verdicts = result.verdicts.iter();
        verdicts.any(|verdict| verdict.judgement == wanted)
    };
    match result.run.ended {
        Ended::Interrupted => INTERRUPTED,
        Ended::Broken | Ended::Lost | Ended::Failed => BROKEN,
        Ended::Planned | Ended::Aborted if has(Judgement::Missed) => MISSED,
        Ended::Planned | Ended::Aborted if has(Judgement::NotJudged) => INVALID,
        Ended::Planned | Ended::Aborted if strict && (has_faults || !result.validity.valid) => {
            INVALID
        }
        Ended::Planned | Ended::Aborted => u8::from(is_broken) * BROKEN,
    }
}

fn histogram_log(name: &str, target: &str, outcome: &Outcome) -> Vec<u8> {
    let began =
        UNIX_EPOCH + Duration::from_millis(outcome.started_unix_ms) + outcome.published_after;
    let mut log = histograms::header(name, target, began);
    log.extend_from_slice(&outcome.histograms);
    log
}

/// Writes a file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Exit code: something went wrong with the broker, or there is no result.
pub const BROKEN: u8 = 1;
/// Exit code: the result says nothing about the broker, or with --strict has faults.
pub const INVALID: u8 = 3;
/// Exit code: a threshold was missed.
pub const MISSED: u8 = 4;
/// Exit code: ended by Ctrl-C.
pub const INTERRUPTED: u8 = 130;
