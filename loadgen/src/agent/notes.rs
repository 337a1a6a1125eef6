//! What a result says of the machines that made the run: whether each of them kept up, and how well
//! their clocks are known.

use std::ops::Range;

use super::crossing::Crossing;
use crate::engine::Outcome;
use crate::report::{
    self, Check, Generator, Group, Judgement, Machine, Reason, ThreadUse, Validity, Verdict,
};
use crate::scenario::threshold::{Metric, Threshold, Timed};
use crate::self_check::{self, Facts};
use crate::times::Times;

/// The machines of a run.
#[derive(Debug)]
pub struct Agents {
    agents: Vec<Agent>,
    /// Of the deliveries that were owed, those from another machine.
    crossing_share: f64,
    crossing: Crossing,
}

/// One of them.
#[derive(Debug)]
pub struct Agent {
    /// As ssh knows it.
    pub host: String,
    /// What it is.
    pub machine: Machine,
    /// Clients there.
    pub clients: u64,
    /// Its threads, among those of the run.
    pub threads: Range<usize>,
    /// Local addresses.
    pub sources: Vec<String>,
    /// Files that it may open.
    pub files_max: u64,
    /// How late its threads were.
    pub lag: Times,
    /// Its clock minus ours, when the run began.
    pub ahead_ns: i64,
    /// That is known to within this, over the whole run.
    pub error_ns: u64,
    /// Why it was lost.
    pub lost: Option<String>,
}

impl Agents {
    /// Of a run; `crossing_share` is what came to cross.
    pub fn new(agents: Vec<Agent>, crossing_share: f64, crossing: Crossing) -> Agents {
        Agents {
            agents,
            crossing_share,
            crossing,
        }
    }

    /// Why the numbers are not valid, by machine.
    pub fn reasons(&self, outcome: &Outcome, facts: &Facts) -> Vec<Reason> {
        let mut all = Vec::new();
        for agent in &self.agents {
            let reasons = agent.reasons(outcome, facts).into_iter();
            all.extend(reasons.map(|reason| Reason {
                text: format!("{}: {}", agent.host, reason.text),
                ..reason
            }));
        }
        all
    }

    /// What a result says of them. `groups` are those of the result.
    pub fn report(&self, outcome: &Outcome, facts: &Facts, groups: &[Group]) -> report::Agents {
        report::Agents {
            crossing_share: self.crossing_share,
            clock_error_us: self.clock_error_us(),
            latency_judged: self.is_known(groups),
            machines: self
                .agents
                .iter()
                .map(|agent| agent.report(outcome, facts))
                .collect(),
        }
    }

    /// Latencies of which the clocks know too little are not judged.
    pub fn withhold(&self, verdicts: &mut [Verdict], groups: &[Group]) {
        if self.is_known(groups) {
            return;
        }
        let is_latency = |verdict: &&mut Verdict| {
            let metric = Threshold::parse(&verdict.threshold).map(|limit| limit.metric);
            matches!(
                metric,
                Ok(Metric::Time(Timed::Latency, _) | Metric::LatencySlope)
            )
        };
        for verdict in verdicts.iter_mut().filter(is_latency) {
            verdict.judgement = Judgement::NotJudged;
            verdict.shown += &format!(
                ", and between machines known to within {:.0} us only",
                self.clock_error_us()
            );
        }
    }

    /// Of a delivery from one machine to another: both clocks may be wrong.
    fn clock_error_us(&self) -> f64 {
        let mut errors: Vec<u64> = self.agents.iter().map(|agent| agent.error_ns).collect();
        errors.sort_unstable();
        errors.iter().rev().take(2).sum::<u64>() as f64 / 1e3
    }

    /// No group gets messages of other machines whose latencies are not far above the error.
    fn is_known(&self, groups: &[Group]) -> bool {
        let crossed = groups.iter().enumerate();
        let crossed = crossed.filter(|(index, _)| self.crossing.reaches(*index));
        let medians = crossed.filter_map(|(_, group)| {
            let pair = group.receive.as_ref()?.latency.as_ref()?;
            Some(pair.corrected.p50_us as f64)
        });
        medians.fold(f64::INFINITY, f64::min) >= self.clock_error_us() * MEDIAN_TO_ERROR
    }
}

impl Agent {
    fn reasons(&self, outcome: &Outcome, facts: &Facts) -> Vec<Reason> {
        if let Some(why) = &self.lost {
            // It begins with the host.
            let text = why.strip_prefix(&format!("{}: ", self.host)).unwrap_or(why);
            return vec![Reason {
                check: Check::Agent,
                text: text.to_owned(),
            }];
        }
        self_check::check_trial(&self.used(outcome), &self.lag, facts)
    }

    fn used(&self, outcome: &Outcome) -> Vec<ThreadUse> {
        let threads = outcome.threads.get(self.threads.clone());
        let threads = threads.unwrap_or_default().iter();
        threads.map(|thread| thread.used).collect()
    }

    fn report(&self, outcome: &Outcome, facts: &Facts) -> report::Agent {
        let reasons = self.reasons(outcome, facts);
        report::Agent {
            host: self.host.clone(),
            clients: self.clients,
            machine: self.machine.clone(),
            clock_ahead_us: self.ahead_ns as f64 / 1e3,
            clock_error_us: self.error_ns as f64 / 1e3,
            validity: Validity {
                valid: reasons.is_empty(),
                reasons,
                generator: Generator {
                    threads: self.used(outcome),
                    schedule_lag: self.lag.latency(),
                    sources: self.sources.clone(),
                    files_max: self.files_max,
                },
            },
        }
    }
}

/// Of latencies that are this much longer, the clocks change little.
const MEDIAN_TO_ERROR: f64 = 10.0;
