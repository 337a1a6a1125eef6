//! `ringload storm`: a run whose clients are cut at once, once for each back-off, and what came of
//! all of them.
//!
//! A storm is a run as any other (`scenario::storm`, `engine`); here is what several of them make.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::{RunOptions, STDOUT};
use crate::report::{Judgement, ResultFile};
use crate::runs::{self, BROKEN, INTERRUPTED, INVALID, MISSED, write};
use crate::scenario::storm::Backoff;
use crate::setup::{self, Failure};
use crate::summary;

/// What is to be tried.
#[derive(Debug)]
pub struct StormOptions {
    /// The run; its scenario has a storm.
    pub run: RunOptions,
    /// By which clients return, one after the other; at least one.
    pub backoffs: Vec<Backoff>,
}

/// The value of [`StormFile::format`].
pub const FORMAT: &str = "ringload-storms";
/// Goes up when a field changes its meaning or goes away; new optional fields leave it.
pub const FORMAT_VERSION: u32 = 1;

/// Storms with several back-offs: what `ringload storm --json FILE` writes then. With one, it
/// writes the result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StormFile {
    /// [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// With which the broker recovers, for people.
    pub sentence: String,
    /// One for each back-off that was tried.
    pub runs: Vec<ResultFile>,
}

/// Runs the storms; gives the exit code.
pub fn storm(options: &StormOptions) -> Result<u8, Failure> {
    if let [backoff] = options.backoffs[..] {
        return runs::run(&with(&options.run, backoff, false));
    }
    let interrupted = setup::on_interrupt().map_err(|error| Failure::Run(error.to_string()))?;
    let (mut all, mut codes) = (Vec::new(), Vec::new());
    let mut failed = None;
    for (number, backoff) in options.backoffs.iter().enumerate() {
        if number > 0 {
            rest(&interrupted);
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let run = with(&options.run, *backoff, true);
        say(&options.run, &format!("back-off {}\n", backoff.show()));
        match runs::measured(&run, &interrupted) {
            Ok((result, code)) => {
                say(
                    &options.run,
                    &format!("{}\n", summary::summary(&result, false)),
                );
                all.push(result);
                codes.push(code);
            }
            Err(Failure::Run(why)) => {
                failed = Some(why);
                break;
            }
            Err(usage) => return Err(usage),
        }
    }
    let file = StormFile {
        format: FORMAT.to_owned(),
        version: FORMAT_VERSION,
        sentence: sentence(&all),
        runs: all,
    };
    conclude(&options.run, &file).map_err(Failure::Run)?;
    match failed {
        Some(why) => Err(Failure::Run(why)),
        None if interrupted.load(Ordering::Relaxed) => Ok(INTERRUPTED),
        None => Ok(exit_code(&codes)),
    }
}

/// The run with one back-off. In reports, several are told apart by it.
fn with(run: &RunOptions, backoff: Backoff, is_one_of_many: bool) -> RunOptions {
    let mut run = run.clone();
    if let Some(storm) = &mut run.scenario.storm {
        storm.backoff = backoff;
    }
    if is_one_of_many {
        let label = run.label.as_ref().unwrap_or(&run.target);
        run.label = Some(format!("{label}, {}", backoff.show()));
    }
    run
}

/// What is left of one storm is not to count for the next.
fn rest(interrupted: &Arc<AtomicBool>) {
    let mut left = REST;
    while !left.is_zero() && !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(STEP);
        left = left.saturating_sub(STEP);
    }
}

/// It recovers with one of them at least: that is the question. What else went wrong counts if
/// it went wrong each time.
fn exit_code(codes: &[u8]) -> u8 {
    let order = [0, BROKEN, INVALID, MISSED, INTERRUPTED];
    let found = order.into_iter().find(|code| codes.contains(code));
    found.unwrap_or(BROKEN)
}

fn sentence(runs: &[ResultFile]) -> String {
    let (mut with, mut without, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for result in runs {
        let Some(storm) = &result.storm else {
            continue;
        };
        let verdict = result.verdicts.first().map(|verdict| verdict.judgement);
        match (verdict, storm.recovered_s) {
            (Some(Judgement::Passed), Some(seconds)) => {
                with.push(format!("{} in {seconds:.0} s", storm.backoff));
            }
            (Some(Judgement::NotJudged), _) => unknown.push(storm.backoff.clone()),
            _ => without.push(storm.backoff.clone()),
        }
    }
    let mut parts = Vec::new();
    for (word, names) in [
        ("recovers with", with),
        ("does not recover with", without),
        ("is not judged with", unknown),
    ] {
        if !names.is_empty() {
            parts.push(format!("{word} {}", names.join(" and ")));
        }
    }
    match parts.is_empty() {
        true => "was not measured".to_owned(),
        false => parts.join("; "),
    }
}

fn conclude(run: &RunOptions, file: &StormFile) -> Result<(), String> {
    let sentence = format!("{} {}\n", run.target, file.sentence);
    match &run.json {
        Some(path) if path.as_os_str() == STDOUT => {
            // There is nobody left to report a failure to.
            let _ = io::stdout().write_all(file.to_json().as_bytes());
            say(run, &sentence);
        }
        Some(path) => {
            write(path, file.to_json().as_bytes())?;
            say(run, &sentence);
        }
        None => say(run, &sentence),
    }
    Ok(())
}

fn say(run: &RunOptions, text: &str) {
    let to_stdout = run
        .json
        .as_deref()
        .is_some_and(|path| path.as_os_str() == STDOUT);
    let _ = match (run.quiet, to_stdout) {
        (true, _) => Ok(()),
        (false, true) => io::stderr().write_all(text.as_bytes()),
        (false, false) => io::stdout().write_all(text.as_bytes()),
    };
}

impl StormFile {
    /// Reads a file; `None` if it is of another kind.
    pub fn read(path: &Path) -> io::Result<Option<StormFile>> {
        let bytes = std::fs::read(path)?;
        match serde_json::from_slice::<Head>(&bytes) {
            Ok(head) if head.format == FORMAT => {}
            Ok(_) | Err(_) => return Ok(None),
        }
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("no map with other keys than text");
        text.push('\n');
        text
    }
}

/// What is looked at first.
#[derive(Deserialize)]
struct Head {
    format: String,
}

/// Between two storms: clients have left, and the broker comes to rest.
const REST: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_back_off_with_which_it_recovers_is_enough() {
        for (codes, expected) in [
            (&[0, MISSED][..], 0),
            (&[MISSED, MISSED], MISSED),
            (&[INVALID, MISSED], INVALID),
            (&[BROKEN, 0], 0),
            (&[], BROKEN),
        ] {
            assert_eq!(exit_code(codes), expected, "{codes:?}");
        }
    }
}
