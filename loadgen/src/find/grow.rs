//! The search for the most connections: each trial connects so many, holds them, and measures.
//!
//! Connections take time from when they were due: groups have a rate at which they connect, and
//! attempts that wait for others are late. A broker that lets not everybody in holds fewer. Before
//! memory, files or a table run out, the search ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::file::{Outcome, Round, TrialNote};
use super::judge::{Judge, Judged};
use super::room::Points;
use super::{FindOptions, Vary, bound_of, show};
use crate::bound::{Snapshot, Watch};
use crate::engine::{Finished, Stop, Trial, Trials, Wanted};
use crate::fleet::{CANNOT, CLOSED, MALFORMED, NO_ANSWER, REFUSED, Troubles};
use crate::process::{self, CpuTime};
use crate::report::Trouble;
use crate::scenario::Scenario;
use crate::scenario::rates::Rates;
use crate::search::{Cause, Confirmation, Pooled, Search, Step, Verdict};
use crate::setup::{self, Failure, Setup};
use crate::shared::now_ns;

/// One search, with what ended it early.
pub(super) fn search(
    options: &FindOptions,
    pids: &[u32],
    interrupted: &Arc<AtomicBool>,
) -> Result<(Option<Round>, Option<Stop>), Failure> {
    let first = options.run.scenario.client_count() as f64;
    let mut grown = Grown {
        options,
        pids,
        interrupted,
        search: Search::new(options.goal, first),
        watch: Watch::of(pids),
        points: Points::default(),
        notes: Vec::new(),
        seen: Vec::new(),
        troubles: Troubles::default(),
        stopped: None,
        at_s: 0.0,
    };
    let base = grown.watch.sample(now_ns());
    grown.points.add(0.0, base.clone());
    let stop = match grown.run(&base) {
        Ok(()) => None,
        Err(Halt::Stop(stop)) => Some(stop),
        Err(Halt::Failure(Failure::Run(why))) => Some(Stop::Failed(why)),
        Err(Halt::Failure(usage)) => return Err(usage),
    };
    let has_begun = !grown.notes.is_empty();
    Ok((has_begun.then(|| grown.round(stop.is_some())), stop))
}

/// What ends a search before its end.
enum Halt {
    Stop(Stop),
    Failure(Failure),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Halt {
        Halt::Stop(stop)
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Halt {
        Halt::Failure(failure)
    }
}

struct Grown<'a> {
    options: &'a FindOptions,
    pids: &'a [u32],
    interrupted: &'a Arc<AtomicBool>,
    search: Search,
    watch: Watch,
    points: Points,
    notes: Vec<TrialNote>,
    /// What the kernel counted in each trial that was not void, with its load.
    seen: Vec<(f64, Outcome, Box<[Snapshot; 2]>)>,
    troubles: Troubles,
    /// Why no more are tried.
    stopped: Option<String>,
    /// Of all trials so far.
    at_s: f64,
}

impl Grown<'_> {
    fn run(&mut self, base: &Snapshot) -> Result<(), Halt> {
        loop {
            let (load, hold, confirms) = match self.search.next_step() {
                Step::Trial { load } => (load, HOLD, false),
                Step::Confirm { load, seconds } => {
                    (load, Duration::from_secs(u64::from(seconds)), true)
                }
                Step::Done(_) => return Ok(()),
            };
            let (trial, judged, pooled) = self.one(load, hold)?;
            match (confirms, judged.verdict) {
                (false, verdict) => self.search.record(verdict),
                (true, Verdict::Good) => {
                    self.search.record_confirmation(Confirmation::Held(pooled))
                }
                (true, Verdict::Bad) => self
                    .search
                    .record_confirmation(Confirmation::Missed(pooled)),
                (true, Verdict::Void(cause)) => {
                    self.search.record_confirmation(Confirmation::Void(cause));
                }
            }
            let note = self.notes.last().expect("a trial was made");
            let answer = self.search.answer();
            show::trial(self.options, confirms, note, trial.span_s, &answer);
            self.look_ahead();
            self.rest(base)?;
        }
    }

    /// Connects so many, holds them, and measures.
    fn one(&mut self, load: f64, hold: Duration) -> Result<(Trial, Judged, Vec<Pooled>), Halt> {
        let scenario = scaled(&self.options.run.scenario, load, self.options.vary);
        let run = self.options.run.run.unwrap_or_else(setup::random_run);
        let mut run_options = self.options.run.clone();
        // Who is not let in is counted.
        run_options.keep_going = true;
        let Setup {
            plan,
            options: mut how,
            ..
        } = setup::set_up(&run_options, scenario, run, self.interrupted.clone())?;
        how.pids = self.pids.to_vec();
        let judge = Judge::new(&plan, &self.options.limits, self.pids);
        let wanted = plan.scenario.client_count();
        let before = self.watch.sample(now_ns());
        let began = Own::now();
        let mut trials = Trials::connect(plan, how)?;
        let disturbance = began.disturbance(self.options.run.threads);
        let missing = wanted.saturating_sub(trials.ready());
        let per_s = judge.base_per_s();
        let span = hold.max(judge.span(per_s.max(1.0)));
        let measured = match missing {
            0 => trials.trial(Wanted {
                factor: 1.0,
                span,
                underway_max: judge.underway_max(per_s.max(1.0), span),
                quiet: judge.quiet(),
            }),
            // There is nothing to see of the others.
            _ => Ok(Trial::nothing()),
        };
        let after = self.watch.sample(now_ns());
        let Finished { troubles, times } = trials.finish();
        let mut trial = measured?;
        trial.connect = times.into_iter().map(|times| times.connect).collect();
        let mut judged = judge.judge(&trial, per_s, span);
        if missing > 0 {
            let why = first_of(&troubles);
            judged.verdict = Verdict::Bad;
            judged.why = format!("{missing} of {wanted} did not get in: {why}");
        } else if judged.verdict == Verdict::Bad
            && let Some((cause, why)) = disturbance
        {
            judged.verdict = Verdict::Void(cause);
            judged.why = why;
        }
        self.points
            .add(wanted.saturating_sub(missing) as f64, after.clone());
        let mut note = judge.note(&trial, per_s, &judged);
        note.load = load;
        note.at_s = self.at_s;
        self.at_s += (now_ns() - began.at_ns) as f64 / 1e9;
        if note.outcome != Outcome::Void {
            let snapshots = Box::new([before, after]);
            self.seen.push((load, note.outcome, snapshots));
        }
        self.notes.push(note);
        self.troubles.merge(troubles);
        let pooled = judge.pooled(&trial);
        Ok((trial, judged, pooled))
    }

    /// Nothing is tried for which there is no room.
    fn look_ahead(&mut self) {
        if self.options.to_the_end {
            return;
        }
        if let Some(end) = self.points.end()
            && self.search.limit(end.connections)
        {
            self.stopped = Some(end.why);
        }
    }

    /// The broker gets time to forget who has left.
    fn rest(&self, base: &Snapshot) -> Result<(), Stop> {
        let begin = now_ns();
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Stop::Interrupted);
            }
            std::thread::sleep(LOOK);
            let waited = now_ns() - begin;
            let files = |seen: &Snapshot| seen.files.map(|room| room.used);
            let left = match (files(base), files(&self.watch.sample(now_ns()))) {
                (Some(before), Some(open)) => open.saturating_sub(before),
                _ => 0,
            };
            if (waited > REST_NS && left <= FILES_LEFT) || waited > REST_MAX_NS {
                return Ok(());
            }
        }
    }

    fn round(self, cut_short: bool) -> Round {
        let answer = self.search.answer();
        let has_pids = !self.pids.is_empty();
        let bound = has_pids.then(|| bound_of(&answer, &self.seen, &self.notes));
        let troubles = self.troubles.0.into_iter();
        Round {
            bound: bound.flatten(),
            growth: Some(self.points.growth(self.stopped)),
            answer,
            deliveries_per_message: 1.0,
            trials: self.notes,
            troubles: troubles
                .map(|(kind, (count, first))| Trouble { kind, count, first })
                .collect(),
            cut_short,
        }
    }
}

/// What ringload itself had used up to a time.
#[derive(Clone, Copy, Debug)]
struct Own {
    at_ns: u64,
    cpu: Option<CpuTime>,
    wait_ns: Option<u64>,
}

impl Own {
    fn now() -> Own {
        Own {
            at_ns: now_ns(),
            cpu: CpuTime::of(&[std::process::id()]),
            wait_ns: process::own_wait_ns(),
        }
    }

    /// Whose fault it may be that connections were late since then, other than the broker's.
    fn disturbance(self, threads: usize) -> Option<(Cause, String)> {
        let now = Own::now();
        let span_s = (now.at_ns - self.at_ns) as f64 / 1e9 * threads as f64;
        let waited = now.wait_ns.zip(self.wait_ns);
        let waited = waited.map_or(0.0, |(now, then)| now.saturating_sub(then) as f64 / 1e9);
        let used = now.cpu.zip(self.cpu);
        let used = used.map_or(0.0, |(now, then)| now.since(then).total_s());
        let percent = |part_s: f64| part_s / span_s * 100.0;
        if waited > WAIT_SHARE * span_s {
            let why = format!(
                "the generator waited for its core for {:.0} % of the time in which it connected",
                percent(waited)
            );
            return Some((Cause::Machine, why));
        }
        let why = format!(
            "the generator used {:.0} % of its cores to connect",
            percent(used)
        );
        (used > BUSY_SHARE * span_s).then_some((Cause::Generator, why))
    }
}

/// Why the first client did not get in.
fn first_of(troubles: &Troubles) -> String {
    let kinds = [REFUSED, NO_ANSWER, CLOSED, CANNOT, MALFORMED];
    let found = kinds
        .iter()
        .find_map(|kind| troubles.0.get_key_value(*kind));
    found.map_or("for no reason".to_owned(), |(kind, (_, first))| {
        format!("{kind}: {first}")
    })
}

/// The scenario with so many connections in all. With `connections` the messages stay as many as
/// they are: groups that publish keep their clients, if there are others.
fn scaled(scenario: &Scenario, connections: f64, vary: Vary) -> Scenario {
    let mut scenario = scenario.clone();
    let has_others = scenario.groups.iter().any(|group| group.publish.is_none());
    let grows = |publishes: bool| vary == Vary::Scale || !publishes || !has_others;
    let (mut fixed, mut growing) = (0.0, 0.0);
    for group in &scenario.groups {
        match grows(group.publish.is_some()) {
            true => growing += f64::from(group.clients),
            false => fixed += f64::from(group.clients),
        }
    }
    let factor = ((connections - fixed) / growing).max(0.0);
    for group in &mut scenario.groups {
        let publishes = group.publish.is_some();
        if !grows(publishes) {
            continue;
        }
        let before = f64::from(group.clients);
        group.clients = ((before * factor).round() as u32).clamp(1, CLIENTS_MAX);
        if publishes && vary == Vary::Connections {
            let share = before / f64::from(group.clients);
            group.rate = group.rate.take().map(|rates| times(&rates, share));
        }
    }
    scenario
}

/// Rates that are all larger by a factor.
fn times(rates: &Rates, factor: f64) -> Rates {
    match rates {
        Rates::Same(all) => Rates::Same(all * factor),
        Rates::Between(low, high) => Rates::Between(low * factor, high * factor),
        Rates::Weighted(all) => {
            let all = all.iter().map(|(rate, weight)| (rate * factor, *weight));
            Rates::Weighted(all.collect())
        }
        Rates::LogNormal(median, sigma) => Rates::LogNormal(median * factor, *sigma),
        Rates::Zipf(most, exponent) => Rates::Zipf(most * factor, *exponent),
    }
}

/// The scenario as such a search takes it: every group connects at a rate, and waits for nobody.
pub(super) fn prepared(mut scenario: Scenario) -> Scenario {
    scenario.stages.clear();
    scenario.thresholds.clear();
    scenario.warmup = Duration::ZERO;
    for group in &mut scenario.groups {
        group.connect_rate.get_or_insert(CONNECT_RATE);
        group.connecting_max = CONNECTING_MAX;
    }
    scenario
}

/// How long all are held in a trial.
const HOLD: Duration = Duration::from_secs(5);
/// Connections per second of a group that says nothing of it.
const CONNECT_RATE: f64 = 1000.0;
/// The most that a scenario can have, too.
const CONNECTING_MAX: u32 = 4096;
const CLIENTS_MAX: u32 = 4_000_000;
const LOOK: Duration = Duration::from_millis(100);
/// Threads that used so much of their time have none left.
const BUSY_SHARE: f64 = 0.95;
/// Threads that waited for their core for longer were late because of others.
const WAIT_SHARE: f64 = 0.1;
/// After a trial.
const REST_NS: u64 = 500_000_000;
/// A broker that has not closed its sockets by then will not.
const REST_MAX_NS: u64 = 15_000_000_000;
/// Files of a broker that come and go.
const FILES_LEFT: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    /// Clients of the groups, and messages per second of the last one.
    fn scaled_to(text: &str, connections: f64, vary: Vary) -> (Vec<u32>, f64) {
        let scenario = scaled(&file::parse("f.toml", text).unwrap(), connections, vary);
        let clients = scenario.groups.iter().map(|group| group.clients).collect();
        let last = scenario.groups.last().unwrap();
        let rate = last
            .rate
            .as_ref()
            .map_or(0.0, |rates| rates.sum(last.clients, 0));
        (clients, rate)
    }

    #[test]
    fn connections_grow_and_messages_do_not() {
        let idle = "[[group]]\nname = \"i\"\nclients = 90\nsubscribe = \"t\"\n";
        let busy = "[[group]]\nname = \"p\"\nclients = 10\npublish = \"t/{index}\"\nrate = 5\n";
        let both = format!("{idle}{busy}");
        for (text, connections, vary, clients, rate) in [
            (&both, 1000.0, Vary::Connections, vec![990, 10], 50.0),
            (&both, 1000.0, Vary::Scale, vec![900, 100], 500.0),
            (&both, 5.0, Vary::Connections, vec![1, 10], 50.0),
            (&busy.to_owned(), 100.0, Vary::Connections, vec![100], 50.0),
            (&busy.to_owned(), 100.0, Vary::Scale, vec![100], 500.0),
            (&idle.to_owned(), 45.0, Vary::Connections, vec![45], 0.0),
        ] {
            let found = scaled_to(text, connections, vary);
            assert_eq!(found, (clients, rate), "{connections} {vary:?}");
        }
    }
}
