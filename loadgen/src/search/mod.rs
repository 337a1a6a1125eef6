//! The search for the largest load that meets its thresholds: trial results in, next load or answer
//! out. No sockets, no clock.
//!
//! The method is that of RFC 9971 (MLRsearch), with thresholds in the place of a loss ratio. A
//! trial is one second at one load. It is *good* if every threshold was met, *bad* if not, and
//! *void* if the generator or the machine was at fault: a void trial says nothing of the broker,
//! and is repeated. A load is a bound once the trials that are still missing cannot change the
//! verdict (Appendix A of the RFC, where all trials have the full length):
//!
//! ```text
//! n trials, b of them bad, r = max(0, D - n) missing:
//! upper bound if b > (n + r) / 2, lower bound if b + r <= (n + r) / 2, open otherwise
//! ```
//!
//! So a clear load takes 10 trials with D = 20, and the load that is found is the one at which the
//! *median second* meets the thresholds. Three passes, (D, width) = (3, 16 %), (9, 6 %), (20, 2 %),
//! widen until there is a bound on both sides, then halve in log space; a pass begins with the
//! bounds of the one before, which need more trials now. Of contradicting bounds the lowest upper
//! one counts, and the highest lower one below it, as in the RFC.
//!
//! What is said comes from all trials ([`posterior`]), and holds for the median second;
//! what holds over a minute is looked at afterwards ([`confirm`]).
//!
//! Where this differs from the RFC, or goes beyond it:
//! - The width between passes doubles with every step of widening: a first guess that is off by 10
//!   takes 5 steps instead of 16.
//! - The exceed ratio is one half, fixed: the load at which half of the seconds are bad is where
//!   the curve of good seconds is steepest, and what the posterior estimates.
//! - A load that came out void six times, and in more than two of three trials, is beyond the reach
//!   of the generator. It ends the search upwards like an upper bound, and makes the answer "at
//!   least".
//! - The trials have a budget. A load at the very boundary can take 20 of them, and a search that
//!   meets three such loads is no better for it: the posterior has what it needs by then.
//! - A confirmation that failed goes down by 1, 2, 4 widths. If the capacity varies by 5 % from
//!   second to second, a 99th percentile over a minute holds some 13 % below the load of the median
//!   second: three steps of one width confirm fewer than 10 of 100 simulated searches, these more
//!   than 90.

pub mod confirm;
mod loads;
mod posterior;

use serde::{Deserialize, Serialize};

pub use confirm::{Pooled, deliveries_min, pooled};
use loads::{Bracket, Class, Loads};

/// What is searched for, and how exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// D: trials after which a load is a bound at the latest. RFC 9971 calls it Goal Duration Sum.
    pub trials_per_load: u32,
    /// The bounds in the end lie no farther apart than this share of the load; over 0.
    pub width: f64,
    /// Seconds of a confirmation; 0: none is made.
    pub confirm_s: u32,
    /// Trials in all, void ones included: then the search ends with what it knows.
    pub trials_max: u32,
    /// No load above this is tried.
    pub load_max: f64,
}

impl Default for Goal {
    fn default() -> Goal {
        Goal {
            trials_per_load: 20,
            width: 0.02,
            confirm_s: 60,
            trials_max: 120,
            load_max: f64::INFINITY,
        }
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One trial of one second at this load; its result goes to [`Search::record`].
    Trial {
        /// In the unit of the first load.
        load: f64,
    },
    /// A run at this load, whose result goes to [`Search::record_confirmation`].
    Confirm {
        /// In the unit of the first load.
        load: f64,
        /// How long.
        seconds: u32,
    },
    /// That was all.
    Done(Box<Answer>),
}

/// What a trial showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every threshold was met.
    Good,
    /// One was missed, or the trial was ended because too much was underway.
    Bad,
    /// It shows nothing about the broker.
    Void(Cause),
}

/// Why a trial is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The generator could not keep its own schedule.
    Generator,
    /// Other programs took the cores.
    Machine,
}

/// What a confirmation showed.
#[derive(Clone, Debug, PartialEq)]
pub enum Confirmation {
    /// Every threshold was met over the whole time; with the percentiles that were looked at.
    Held(Vec<Pooled>),
    /// One was missed.
    Missed(Vec<Pooled>),
    /// It shows nothing about the broker.
    Void(Cause),
}

/// A search under way.
#[derive(Clone, Debug)]
pub struct Search {
    goal: Goal,
    first: f64,
    loads: Loads,
    /// Index into the passes.
    pass: usize,
    /// The bounds of the pass before, which this pass begins with.
    hint: Bracket,
    /// The next step of widening, as a logarithm.
    step: f64,
    /// The load at hand, until it is a bound.
    current: Option<f64>,
    /// The lowest load that the generator does not reach.
    reach: Option<f64>,
    phase: Phase,
    confirmations: Vec<Confirmed>,
    confirmations_void: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Trials,
    Confirming { load: f64 },
    Done,
}

/// What is known, at the end or before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What kind of statement this is.
    pub conclusion: Conclusion,
    /// The load at which half of the undisturbed seconds meet the thresholds; absent if all trials
    /// were good, or none.
    pub load: Option<f64>,
    /// The lower end of its 95 % interval; absent if no trial was good.
    pub low: Option<f64>,
    /// The upper end; absent if no trial was bad.
    pub high: Option<f64>,
    /// How soft the limit is: from this share below the load to this share above it, the share of
    /// good seconds falls from 73 % to 27 %. Absent without `load`.
    pub spread: Option<f64>,
    /// The share of seconds that miss the thresholds at any load: pauses of the broker, or of the
    /// machine. Absent without `load`.
    pub epsilon: Option<Epsilon>,
    /// The highest load that the trials show to be met, in the strictest pass that has one.
    pub lower: Option<f64>,
    /// The lowest load that they show to be missed, or that is beyond the reach of the generator.
    pub upper: Option<f64>,
    /// All trials, void ones included: seconds of the search.
    pub trials: u32,
    /// Of those, void by fault of the generator.
    pub void_generator: u32,
    /// Of those, void because of other programs.
    pub void_machine: u32,
    /// The loads that were tried, ascending.
    pub tried: Vec<Tried>,
    /// Confirmations in the order in which they were made; the last one held, or none did.
    pub confirmations: Vec<Confirmed>,
}

/// What kind of statement an [`Answer`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conclusion {
    /// Bounds on both sides, as close as wanted.
    Found,
    /// At least `lower`: nothing above it could be seen.
    AtLeast(Ceiling),
    /// No load that was tried meets the thresholds, down to a thousandth of the first one.
    NoneMeets,
    /// The search was interrupted, or its trials were used up: the bounds are wider than wanted,
    /// and one may be absent.
    Unfinished,
}

/// What kept a search from seeing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ceiling {
    /// The generator.
    Generator,
    /// Other programs on this machine.
    Machine,
    /// [`Goal::load_max`].
    LoadMax,
}

/// Seconds that miss the thresholds at any load, as shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epsilon {
    /// The mean of what the trials permit.
    pub mean: f64,
    /// The lower end of a 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A load that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// The load.
    pub load: f64,
    /// Good trials.
    pub good: u32,
    /// Bad trials.
    pub bad: u32,
    /// Void trials.
    pub void: u32,
}

/// A confirmation that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// At this load.
    pub load: f64,
    /// For so long.
    pub seconds: u32,
    /// Every threshold was met.
    pub held: bool,
    /// The percentiles that were looked at.
    pub percentiles: Vec<Pooled>,
}

impl Search {
    /// A search that begins with this load: [`FIRST_SHARE`] of what a closed loop gets through.
    ///
    /// # Panics
    /// If the first load, or a bound of the goal, is not above 0.
    pub fn new(goal: Goal, first: f64) -> Search {
        assert!(first > 0.0 && first.is_finite(), "a first load of {first}");
        assert!(goal.width > 0.0 && goal.load_max > 0.0 && goal.trials_per_load > 0);
        Search {
            goal,
            first: first.min(goal.load_max),
            loads: Loads::default(),
            pass: 0,
            hint: Bracket::default(),
            step: goal.passes()[0].step(),
            current: None,
            reach: None,
            phase: Phase::Trials,
            confirmations: Vec::new(),
            confirmations_void: 0,
        }
    }

    /// What is to be done. Asked again before a result was recorded, it says the same.
    pub fn next_step(&mut self) -> Step {
        if self.phase == Phase::Trials {
            if let Some(load) = self.next_load() {
                return Step::Trial { load };
            }
            self.phase = match self.bracket().lower {
                Some(load) if self.goal.confirm_s > 0 => Phase::Confirming { load },
                Some(_) | None => Phase::Done,
            };
        }
        match self.phase {
            Phase::Confirming { load } => Step::Confirm {
                load,
                seconds: self.goal.confirm_s,
            },
            Phase::Trials | Phase::Done => Step::Done(Box::new(self.answer())),
        }
    }

    /// No load above this is tried from here on; true if that is news.
    pub fn limit(&mut self, load_max: f64) -> bool {
        let is_lower = load_max < self.goal.load_max;
        if is_lower {
            self.goal.load_max = load_max;
            // A load that was chosen before, and is above, is not tried any more.
            self.current = self.current.filter(|load| *load <= load_max);
        }
        is_lower
    }

    /// The result of the trial that [`Search::next_step`] asked for.
    ///
    /// # Panics
    /// If it asked for none.
    pub fn record(&mut self, verdict: Verdict) {
        let load = self.current.filter(|_| self.phase == Phase::Trials);
        let load = load.expect("a trial was asked for");
        let tried = self.loads.record(load, verdict);
        if matches!(verdict, Verdict::Void(_))
            && tried.void >= VOID_MIN
            && tried.void > 2 * (tried.good + tried.bad)
            && self.reach.is_none_or(|reach| load < reach)
        {
            self.reach = Some(load);
        }
    }

    /// The result of the confirmation that [`Search::next_step`] asked for.
    ///
    /// # Panics
    /// If it asked for none.
    pub fn record_confirmation(&mut self, confirmation: Confirmation) {
        let Phase::Confirming { load } = self.phase else {
            panic!("no confirmation was asked for");
        };
        let (held, percentiles) = match confirmation {
            Confirmation::Held(percentiles) => (true, percentiles),
            Confirmation::Missed(percentiles) => (false, percentiles),
            Confirmation::Void(_) => {
                self.confirmations_void += 1;
                if self.confirmations_void >= CONFIRMATIONS_VOID_MAX {
                    self.phase = Phase::Done;
                }
                return;
            }
        };
        self.confirmations.push(Confirmed {
            load,
            seconds: self.goal.confirm_s,
            held,
            percentiles,
        });
        let missed = self.confirmations.len();
        self.phase = if held || missed >= CONFIRMATIONS_MAX {
            Phase::Done
        } else {
            let widths = f64::from(1 << (missed - 1));
            Phase::Confirming {
                load: load * (-self.goal.last_pass().step() * widths).exp(),
            }
        };
    }

    /// What is known so far. At any time: a search that is interrupted has an answer too, and says
    /// that it is unfinished.
    pub fn answer(&self) -> Answer {
        let bracket = self.bracket();
        let estimate = posterior::estimate(self.loads.tried());
        // Never narrower than the bounds: the posterior believes in its curve, they do not.
        let low = estimate.map(|estimate| estimate.low);
        let low = min_of(low, bracket.lower).or(self.loads.highest_good());
        let high = estimate.map(|estimate| estimate.high);
        let high = max_of(high, self.upper_bound()).or(self.loads.lowest_bad());
        let void = self.loads.void();
        Answer {
            conclusion: self.conclusion(bracket),
            load: estimate.map(|estimate| estimate.load),
            low,
            high,
            spread: estimate.map(|estimate| estimate.spread),
            epsilon: estimate.map(|estimate| estimate.epsilon),
            lower: bracket.lower,
            upper: bracket.upper,
            trials: self.loads.trials(),
            void_generator: void.generator,
            void_machine: void.machine,
            tried: self.loads.tried().to_vec(),
            confirmations: self.confirmations.clone(),
        }
    }

    /// The load of the next trial; `None` if the trials are over.
    fn next_load(&mut self) -> Option<f64> {
        if self.trials_are_over() {
            return None;
        }
        loop {
            let pass = self.goal.passes()[self.pass];
            if let Some(load) = self.current
                && self.loads.class(load, pass.trials) == Class::Open
                && self.reach.is_none_or(|reach| load < reach)
            {
                return Some(load);
            }
            self.current = self.choose(pass);
            if self.current.is_some() {
                return self.current;
            }
            if self.pass + 1 == PASSES {
                return None;
            }
            self.hint = self.bracket_of(pass);
            self.pass += 1;
            self.step = self.goal.passes()[self.pass].step();
        }
    }

    /// Widens until there are bounds on both sides, then halves; `None`: they are close enough, or
    /// there is nothing to widen to.
    fn choose(&mut self, pass: Pass) -> Option<f64> {
        let is_open = |load: &f64| self.loads.class(*load, pass.trials) == Class::Open;
        let Bracket { lower, upper } = self.bracket_of(pass);
        match (lower, upper) {
            (None, None) => {
                let load = self.hint.lower.or(self.hint.upper).unwrap_or(self.first);
                Some(load.min(self.goal.load_max))
            }
            (Some(lower), None) => {
                let earlier = self.hint.upper.filter(|load| *load > lower);
                if let Some(load) = earlier.filter(is_open) {
                    return Some(load);
                }
                let load = (lower * self.widen().exp()).min(self.goal.load_max);
                (lower < self.goal.load_max).then_some(load)
            }
            (None, Some(upper)) => {
                let earlier = self.hint.lower.filter(|load| *load < upper);
                if let Some(load) = earlier.filter(is_open) {
                    return Some(load);
                }
                let floor = self.first / FIRST_PARTS;
                let load = (upper / self.widen().exp()).max(floor);
                (upper > floor).then_some(load)
            }
            (Some(lower), Some(upper)) => {
                let load = (lower * upper).sqrt().min(self.goal.load_max);
                (pass.is_wide(lower, upper) && load > lower).then_some(load)
            }
        }
    }

    /// The step to widen by, which doubles.
    fn widen(&mut self) -> f64 {
        let step = self.step;
        self.step *= 2.0;
        step
    }

    fn trials_are_over(&self) -> bool {
        let trials = self.loads.trials();
        trials >= self.goal.trials_max || self.is_mostly_void()
    }

    /// More than a third of the trials are void, and not by chance. Those beyond the reach of the
    /// generator are not counted: they have shown what they can.
    fn is_mostly_void(&self) -> bool {
        let reach = self.reach.unwrap_or(f64::INFINITY);
        let (void, trials) = self.loads.void_below(reach);
        trials >= self.goal.trials_per_load && 3 * void > trials + 3 * VOID_CHANCE
    }

    /// The bounds of a pass. What the generator does not reach is the end, as an upper bound is.
    fn bracket_of(&self, pass: Pass) -> Bracket {
        self.loads.bracket(pass.trials, self.reach)
    }

    /// The bounds of the strictest pass that has a lower one, or else an upper one.
    fn bracket(&self) -> Bracket {
        let passes = self.goal.passes();
        let brackets = passes[..=self.pass].iter().rev();
        let brackets: Vec<Bracket> = brackets.map(|pass| self.bracket_of(*pass)).collect();
        let best = brackets.iter().find(|bracket| bracket.lower.is_some());
        let best = best.or_else(|| brackets.iter().find(|bracket| bracket.upper.is_some()));
        best.copied().unwrap_or_default()
    }

    /// The upper bound that bad trials show; not the reach of the generator.
    fn upper_bound(&self) -> Option<f64> {
        let bracket = self.bracket();
        bracket.upper.filter(|_| bracket.upper != self.reach)
    }

    fn conclusion(&self, bracket: Bracket) -> Conclusion {
        let is_out_of_reach = self.reach.is_some() && bracket.upper == self.reach;
        let ceiling = if is_out_of_reach || self.is_mostly_void() {
            Some(self.loads.void().main_cause().into())
        } else {
            let is_at_end = bracket.lower.is_some_and(|load| load >= self.goal.load_max);
            is_at_end.then_some(Ceiling::LoadMax)
        };
        match (bracket.lower, bracket.upper, ceiling) {
            (Some(_), _, Some(ceiling)) => Conclusion::AtLeast(ceiling),
            (None, Some(upper), None) if upper <= self.first / FIRST_PARTS => Conclusion::NoneMeets,
            (_, _, _) if self.is_found() => Conclusion::Found,
            (_, _, _) => Conclusion::Unfinished,
        }
    }

    /// The last pass has bounds on both sides, as close as wanted.
    fn is_found(&self) -> bool {
        let pass = self.goal.last_pass();
        let Bracket { lower, upper } = self.bracket_of(pass);
        let both = lower.zip(upper);
        both.is_some_and(|(lower, upper)| !pass.is_wide(lower, upper))
    }
}

/// One of the three rounds of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pass {
    /// Trials after which a load is a bound at the latest.
    trials: u32,
    width: f64,
}

impl Pass {
    /// The width as a logarithm.
    fn step(self) -> f64 {
        self.width.ln_1p()
    }

    fn is_wide(self, lower: f64, upper: f64) -> bool {
        (upper / lower).ln() > self.step() * (1.0 + ROUNDING)
    }
}

impl Goal {
    fn passes(&self) -> [Pass; PASSES] {
        let part = |twentieths: u32| (self.trials_per_load * twentieths).div_ceil(20);
        [(part(3), 8.0), (part(9), 3.0), (self.trials_per_load, 1.0)].map(|(trials, widths)| Pass {
            trials,
            width: self.width * widths,
        })
    }

    fn last_pass(&self) -> Pass {
        self.passes()[PASSES - 1]
    }
}

impl Answer {
    /// Share of the trials that were void.
    pub fn void_share(&self) -> f64 {
        f64::from(self.void_generator + self.void_machine) / f64::from(self.trials.max(1))
    }

    /// The load that met the thresholds over a whole confirmation; `None` if none did, or none was
    /// made.
    pub fn confirmed(&self) -> Option<&Confirmed> {
        self.confirmations.last().filter(|last| last.held)
    }

    /// By which factor the load of another answer is larger than this one, if the two differ by
    /// more than chance: their intervals do not overlap. (Each is a 95 % interval, so two answers
    /// about the same broker differ in less than one of a hundred cases.)
    pub fn differs_from(&self, other: &Answer) -> Option<f64> {
        let is_apart = |below: Option<f64>, above: Option<f64>| {
            below.zip(above).is_some_and(|(below, above)| below < above)
        };
        let (ours, theirs) = self.load.zip(other.load)?;
        let differ = is_apart(self.high, other.low) || is_apart(other.high, self.low);
        differ.then(|| theirs / ours)
    }
}

impl From<Cause> for Ceiling {
    fn from(cause: Cause) -> Ceiling {
        match cause {
            Cause::Generator => Ceiling::Generator,
            Cause::Machine => Ceiling::Machine,
        }
    }
}

fn min_of(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.zip(other)
        .map(|(one, other)| one.min(other))
        .or(one)
        .or(other)
}

fn max_of(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.zip(other)
        .map(|(one, other)| one.max(other))
        .or(one)
        .or(other)
}

/// A search begins with this part of what a closed loop gets through: latencies are fine there as a
/// rule, and the limit is not far.
pub const FIRST_SHARE: f64 = 0.8;
const PASSES: usize = 3;
/// Fewer void trials at a load are chance.
const VOID_MIN: u32 = 6;
/// So many void trials more than a third are chance: the bound is looked at after every trial.
const VOID_CHANCE: u32 = 3;
/// The first confirmation, and three below it.
const CONFIRMATIONS_MAX: usize = 4;
/// A confirmation that is void twice is given up: the trials have shown what the machine permits.
const CONFIRMATIONS_VOID_MAX: u32 = 2;
/// The search goes down to this part of the first load, and no further.
const FIRST_PARTS: f64 = 1000.0;
/// Square roots of products are not exact.
const ROUNDING: f64 = 1e-9;

#[cfg(test)]
mod tests;
