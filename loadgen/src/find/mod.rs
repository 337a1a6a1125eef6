//! `ringload find-max`: the largest rate of a scenario at which a broker keeps to the limits, or
//! the most connections (`grow`).
//!
//! [`Search`] says which load is next, [`Trials`] applies it to clients that stay connected, and
//! [`judge`] tells good from bad from void. What is known so far is known at any time: Ctrl-C ends a
//! search with an answer.

pub mod file;
mod grow;
mod judge;
mod open_loop;
pub mod room;
mod show;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmq_problem::Problem;

use crate::admin::Admin;
use crate::assemble::Context;
use crate::bound::{self, Bound, Known, Snapshot};
use crate::cli::{self, RunOptions, STDOUT};
use crate::engine::{Finished, Stop, Trial, Trials, Wanted};
use crate::process;
use crate::report::ScenarioNote;
use crate::runs::{BROKEN, INTERRUPTED, INVALID, MISSED, write};
use crate::scenario::Scenario;
use crate::scenario::threshold::Threshold;
use crate::search::{Answer, Conclusion, Confirmation, Goal, Search, Step, Verdict};
use crate::secrets;
use crate::setup::{self, Failure, Setup};
use crate::shared::now_ns;
use file::{CapacityFile, Outcome, Round, TrialNote};
use judge::Judge;
use open_loop::open_loop;
use serde::{Deserialize, Serialize};

/// What is searched, and how.
#[derive(Debug)]
pub struct FindOptions {
    /// Scenario, broker and generator; the scenario is an open loop.
    pub run: RunOptions,
    /// What every second has to keep to.
    pub limits: Vec<Threshold>,
    /// So many searches, each with a broker that was started again.
    pub repeat: u32,
    /// Starts the broker again.
    pub restart: Option<String>,
    /// How exactly, and how long.
    pub goal: Goal,
    /// What grows.
    pub vary: Vary,
    /// Do not stop before memory, files or tables run out.
    pub to_the_end: bool,
}

/// What a search makes larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vary {
    /// The rates of all publishers.
    #[default]
    Rate,
    /// The clients, with as many messages as before.
    Connections,
    /// Clients and messages.
    Scale,
}

impl Vary {
    /// What loads are counted in.
    pub fn unit(self) -> &'static str {
        match self {
            Vary::Rate => "msg/s",
            Vary::Connections | Vary::Scale => "connections",
        }
    }
}

/// Searches, and shows what was found; gives the exit code.
pub fn find_max(options: &FindOptions) -> Result<u8, Failure> {
    let interrupted = setup::on_interrupt().map_err(|error| Failure::Run(error.to_string()))?;
    let mut file = file_of(options);
    let mut pids = options.run.pids.clone();
    let mut ended = None;
    for number in 0..options.repeat {
        if let Some(command) = &options.restart {
            match restart(command, &options.run) {
                Ok(pid) => pids = pid.map_or(pids, |pid| vec![pid]),
                Err(why) => ended = Some(Stop::Failed(why)),
            }
        }
        if ended.is_none() {
            show::begin(options, number);
            let found = match options.vary {
                Vary::Rate => search(options, &pids, &interrupted),
                Vary::Connections | Vary::Scale => grow::search(options, &pids, &interrupted),
            };
            let (round, stop) = match found {
                Ok(found) => found,
                Err(Failure::Run(why)) => (None, Some(Stop::Failed(why))),
                Err(Failure::Usage(problems)) => return Err(Failure::Usage(problems)),
            };
            file.rounds.extend(round);
            ended = stop;
        }
        if ended.is_some() {
            break;
        }
    }
    conclude(options, file, ended)
}

/// Writes and shows what is known.
fn conclude(
    options: &FindOptions,
    mut file: CapacityFile,
    ended: Option<Stop>,
) -> Result<u8, Failure> {
    if let Some(Stop::Failed(why)) = &ended {
        file.failed = Some(why.clone());
    }
    file.interrupted = ended == Some(Stop::Interrupted);
    file.sentence = file::sentence(&file);
    let text = file.to_json();
    let to_stdout = match &options.run.json {
        Some(path) if path.as_os_str() == STDOUT => {
            show::out(&text);
            true
        }
        Some(path) => {
            write(path, text.as_bytes()).map_err(Failure::Run)?;
            false
        }
        None => false,
    };
    show::end(&file, options.run.quiet, to_stdout);
    match ended {
        Some(Stop::Failed(why)) => Err(Failure::Run(why)),
        Some(Stop::Interrupted) => Ok(INTERRUPTED),
        None => Ok(exit_code(&file)),
    }
}

fn exit_code(file: &CapacityFile) -> u8 {
    let code = |round: &Round| match round.answer.conclusion {
        Conclusion::Found | Conclusion::AtLeast(crate::search::Ceiling::LoadMax) => 0,
        Conclusion::NoneMeets => MISSED,
        // The generator, or other programs, kept the search from seeing more.
        Conclusion::AtLeast(_) | Conclusion::Unfinished => INVALID,
    };
    file.rounds.iter().map(code).max().unwrap_or(BROKEN)
}

fn file_of(options: &FindOptions) -> CapacityFile {
    let Context {
        label,
        command,
        target,
        machine,
        broker_command,
        ..
    } = setup::context(&options.run, None, Vec::new(), 0);
    let scenario = &options.run.scenario;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    CapacityFile {
        format: file::FORMAT.to_owned(),
        version: file::FORMAT_VERSION,
        label,
        ringload: env!("CARGO_PKG_VERSION").to_owned(),
        command: secrets::masked(&command),
        started_unix_ms: now.unwrap_or_default().as_millis() as u64,
        scenario: ScenarioNote {
            name: scenario.name.clone(),
            about: scenario.about.clone(),
            toml: scenario.to_toml(),
        },
        target,
        machine,
        broker_command,
        limits: options
            .limits
            .iter()
            .map(|limit| limit.as_str().to_owned())
            .collect(),
        sentence: String::new(),
        failed: None,
        interrupted: false,
        searches: Some(options.repeat),
        vary: options.vary,
        rounds: Vec::new(),
    }
}

/// One search, with what ended it early.
fn search(
    options: &FindOptions,
    pids: &[u32],
    interrupted: &Arc<AtomicBool>,
) -> Result<(Option<Round>, Option<Stop>), Failure> {
    let run = options.run.run.unwrap_or_else(setup::random_run);
    let scenario = options.run.scenario.clone();
    let Setup {
        plan,
        options: mut how,
        ..
    } = setup::set_up(&options.run, scenario, run, interrupted.clone())?;
    how.pids = pids.to_vec();
    let judge = Judge::new(&plan, &options.limits, pids);
    let mut trials = match Trials::connect(plan, how) {
        Ok(trials) => trials,
        Err(stop) => return Ok((None, Some(stop))),
    };
    let first = if judge.has_feedback() {
        trials.closed_loop(PROBE)
    } else {
        Ok(judge.base_per_s())
    };
    let first = match first {
        Ok(most) => (most * FIRST_SHARE).max(judge.base_per_s() * FIRST_MIN),
        Err(stop) => {
            trials.finish();
            return Ok((None, Some(stop)));
        }
    };
    let mut hunt = Hunt {
        options,
        judge,
        trials,
        search: Search::new(options.goal, first),
        notes: Vec::new(),
        seen: Vec::new(),
        watch: (!pids.is_empty()).then(|| bound::Watch::of(pids)),
        admin: options.run.admin.as_ref(),
    };
    let stop = hunt.run().err();
    Ok((Some(hunt.round(stop.is_some())), stop))
}

/// A search on running clients.
struct Hunt<'a> {
    options: &'a FindOptions,
    judge: Judge,
    trials: Trials,
    search: Search,
    notes: Vec<TrialNote>,
    /// What the kernel counted in each trial that was not void, with its load.
    seen: Vec<(f64, Outcome, Box<[Snapshot; 2]>)>,
    /// Of the processes of the broker, if they are named.
    watch: Option<bound::Watch>,
    /// Its control plane, if it is named.
    admin: Option<&'a Admin>,
}

impl Hunt<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        loop {
            match self.search.next_step() {
                Step::Trial { load } => {
                    let (trial, verdict) = self.one(load, self.judge.span(load))?;
                    self.search.record(verdict);
                    self.show(&trial, false);
                    // An overload leaves traces beyond the messages that have arrived.
                    if trial.is_hopeless {
                        self.trials.rest(SETTLE)?;
                    }
                }
                Step::Confirm { load, seconds } => {
                    let span = Duration::from_secs(u64::from(seconds));
                    let (trial, verdict) = self.one(load, span)?;
                    let pooled = self.judge.pooled(&trial);
                    self.search.record_confirmation(match verdict {
                        Verdict::Good => Confirmation::Held(pooled),
                        Verdict::Bad => Confirmation::Missed(pooled),
                        Verdict::Void(cause) => Confirmation::Void(cause),
                    });
                    self.show(&trial, true);
                }
                Step::Done(_) => return Ok(()),
            }
        }
    }

    fn one(&mut self, load: f64, span: Duration) -> Result<(Trial, Verdict), Stop> {
        let wanted = Wanted {
            factor: load / self.judge.base_per_s(),
            span,
            underway_max: self.judge.underway_max(load, span),
            quiet: self.judge.quiet(),
        };
        let before = self.look();
        let trial = self.trials.trial(wanted)?;
        let after = self.look();
        let judged = self.judge.judge(&trial, load, span);
        let note = self.judge.note(&trial, load, &judged);
        if note.outcome != Outcome::Void {
            let snapshots = Box::new([before, after]);
            self.seen.push((load, note.outcome, snapshots));
        }
        self.notes.push(note);
        Ok((trial, judged.verdict))
    }

    /// What is counted of the broker up to now.
    fn look(&self) -> Snapshot {
        let mut snapshot = match &self.watch {
            Some(watch) => watch.sample(now_ns()),
            None => Snapshot {
                at_ns: now_ns(),
                ..Snapshot::default()
            },
        };
        if let Some(admin) = self.admin {
            // What does not answer is not known for this trial.
            let _ = admin.add_to(&mut snapshot);
        }
        snapshot
    }

    fn show(&self, trial: &Trial, confirms: bool) {
        let note = self.notes.last().expect("a trial was made");
        let answer = self.search.answer();
        show::trial(self.options, confirms, note, trial.span_s, &answer);
    }

    /// What is known, at the end or before.
    fn round(self, cut_short: bool) -> Round {
        let answer = self.search.answer();
        let is_watched = self.watch.is_some() || self.admin.is_some();
        let bound = is_watched
            .then(|| bound_of(&answer, &self.seen, &self.notes))
            .flatten();
        let Finished { troubles, .. } = self.trials.finish();
        let copies = self.judge.copies_per_message();
        Round {
            answer,
            bound,
            growth: None,
            deliveries_per_message: copies,
            trials: self.notes,
            troubles: troubles
                .0
                .into_iter()
                .map(|(kind, (count, first))| crate::report::Trouble { kind, count, first })
                .collect(),
            cut_short,
        }
    }
}

/// What the lowest bad load was bound by; or else the highest good one, which shows what comes
/// next.
fn bound_of(
    answer: &Answer,
    seen: &[(f64, Outcome, Box<[Snapshot; 2]>)],
    notes: &[TrialNote],
) -> Option<Bound> {
    let by_load = |one: &&(f64, Outcome, _), other: &&(f64, Outcome, _)| one.0.total_cmp(&other.0);
    let of = |outcome| seen.iter().filter(move |seen| seen.1 == outcome);
    let above = |seen: &&(f64, Outcome, Box<[Snapshot; 2]>)| {
        answer.lower.is_none_or(|lower| seen.0 > lower)
    };
    let bad = of(Outcome::Bad).filter(above).min_by(by_load);
    let good = of(Outcome::Good).max_by(by_load);
    let stages = match (good, bad) {
        (Some((_, _, good)), Some((_, _, bad))) => bound::stages_at(good, bad),
        _ => Vec::new(),
    };
    let (_, _, snapshots) = bad.or(good)?;
    let void = notes
        .iter()
        .rev()
        .find(|note| note.outcome == Outcome::Void);
    let is_ours = matches!(
        answer.conclusion,
        Conclusion::AtLeast(crate::search::Ceiling::Generator)
    );
    let known = Known {
        generator: void.filter(|_| is_ours).map(|note| note.why.clone()),
        stages,
    };
    let [before, after] = &**snapshots;
    Some(bound::bound(before, after, &known))
}

/// Starts the broker again, and waits until it takes connections. The command may print the number
/// of its process last.
fn restart(command: &str, options: &RunOptions) -> Result<Option<u32>, String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .map_err(|error| format!("--restart: cannot run sh: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let last = why.lines().rfind(|line| !line.trim().is_empty());
        let last = last.map_or(String::new(), |last| format!(": {last}"));
        return Err(format!(
            "--restart: `{command}` ended with {}{last}",
            output.status
        ));
    }
    let begin = now_ns();
    while let Err(why) = cli::choose(&options.peers) {
        if now_ns() - begin > RESTART_NS {
            return Err(format!("--restart: nothing listens there again: {why}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let pid = text
        .split_whitespace()
        .last()
        .and_then(|word| word.parse().ok());
    match pid {
        Some(pid) if !process::is_alive(pid) => Err(format!(
            "--restart: `{command}` printed {pid}, which is no process"
        )),
        pid => Ok(pid),
    }
}

/// What is wrong with these limits and this scenario.
pub fn check(scenario: &Scenario, limits: &[Threshold], vary: Vary) -> Vec<Problem> {
    judge::check(scenario, limits, vary)
}

/// The scenario as a search takes it.
pub fn prepared(mut scenario: Scenario, vary: Vary) -> Result<Scenario, Vec<Problem>> {
    scenario.storm = None;
    let publishes = scenario.groups.iter().any(|group| group.publish.is_some());
    match (vary, publishes) {
        (Vary::Rate, _) => open_loop(scenario),
        // Idle connections have no loop.
        (Vary::Connections | Vary::Scale, false) => Ok(grow::prepared(scenario)),
        (Vary::Connections | Vary::Scale, true) => open_loop(scenario).map(grow::prepared),
    }
}

/// How long the closed loop is that shows where to begin.
const PROBE: Duration = Duration::from_secs(3);
/// A closed loop takes all there is: a schedule at this share of it has room to breathe.
const FIRST_SHARE: f64 = 0.8;
/// Of the scenario's own rate: with less, a closed loop has shown nothing.
const FIRST_MIN: f64 = 0.001;
/// After an overload.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a broker may take to start.
const RESTART_NS: u64 = 30_000_000_000;
