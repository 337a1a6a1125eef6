//! Tells good trials from bad ones, and from those that say nothing about the broker.

use std::time::Duration;

use ringmq_core::codec::QoS;
use ringmq_problem::{Complaint, Place, Problem};

use super::Vary;
use super::file::{Outcome, TrialNote};
use crate::assemble;
use crate::engine::Trial;
use crate::meter::{Counts, Received};
use crate::plan::Plan;
use crate::report::{Check, Judgement, Ledger, Reason, ThreadUse};
use crate::scenario::threshold::{Fault, Metric, Point, Relation, Threshold, Timed};
use crate::scenario::{Group, Scenario};
use crate::search::{Cause, Pooled, Verdict, deliveries_min, pooled};
use crate::self_check::{self, Facts};
use crate::tally::Tally as _;
use crate::times::{Delays, Times};
use crate::verdict::{self, Figure, Measured};

/// What trials are judged by.
#[derive(Debug)]
pub(super) struct Judge {
    limits: Vec<Threshold>,
    groups: Vec<Group>,
    /// Messages per second of each group at factor 1, and of all.
    rates: Vec<f64>,
    base_per_s: f64,
    /// Deliveries, or acknowledgements, that a message owes in the mean.
    copies: f64,
    has_feedback: bool,
    /// How long nothing may arrive, in the scenario.
    drain: Duration,
    broker_cores: u32,
}

/// What a trial came to.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// For people.
    pub(super) why: String,
}

impl Judge {
    pub(super) fn new(plan: &Plan, limits: &[Threshold], pids: &[u32]) -> Judge {
        let groups = plan.scenario.groups.clone();
        let (mut base_per_s, mut owed_per_s, mut has_feedback) = (0.0, 0.0, false);
        let mut rates = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let per_s = plan.per_s(index);
            rates.push(per_s);
            if per_s == 0.0 {
                continue;
            }
            let planned = &plan.groups[index];
            let streams = group.clients * planned.topics;
            let copies = (0..streams).map(|at| plan.streams.copies(planned.first_stream + at));
            let copies: u64 = copies.map(u64::from).sum();
            base_per_s += per_s;
            owed_per_s += per_s * copies as f64 / f64::from(streams.max(1));
            has_feedback |= copies > 0 || group.qos > QoS::AtMostOnce;
        }
        Judge {
            limits: limits.to_vec(),
            drain: plan.scenario.drain,
            groups,
            rates,
            base_per_s,
            // Where nothing is published, nothing is owed.
            copies: match base_per_s > 0.0 {
                true => owed_per_s / base_per_s,
                false => 1.0,
            },
            has_feedback,
            broker_cores: assemble::cores_of(pids.first()),
        }
    }

    /// Messages per second at factor 1.
    pub(super) fn base_per_s(&self) -> f64 {
        self.base_per_s
    }

    /// Something comes back, so that a closed loop is one.
    pub(super) fn has_feedback(&self) -> bool {
        self.has_feedback
    }

    pub(super) fn copies_per_message(&self) -> f64 {
        self.copies
    }

    /// How long a trial is: a second, or some more for enough deliveries, and for a queue to grow
    /// beyond the limit at a small overload.
    pub(super) fn span(&self, load: f64) -> Duration {
        let per_s = (load * self.copies).max(1e-9);
        let quantiles = self.quantiles().into_iter();
        let wanted = quantiles.map(|quantile| deliveries_min(quantile) as f64 / per_s);
        let possible = wanted.filter(|seconds| *seconds <= TRIAL_MAX_S);
        let growing = (self.longest_s() * LIMITS_PER_TRIAL).min(TRIAL_MAX_S);
        Duration::from_secs_f64(possible.fold(growing.max(1.0), f64::max).ceil())
    }

    /// The longest latency in the limits, seconds.
    fn longest_s(&self) -> f64 {
        let times = self.limits.iter().filter_map(|limit| match limit.metric {
            Metric::Time(Timed::Latency, _) => Some(limit.bound / 1e6),
            _ => None,
        });
        times.fold(0.0, f64::max)
    }

    /// Percentiles of latencies in the limits, ascending.
    fn quantiles(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.limits.iter().filter_map(quantile_of).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }

    /// With more underway at a time, a trial of this load cannot be good any more: those that are
    /// late already are more than a limit permits.
    pub(super) fn underway_max(&self, load: f64, span: Duration) -> u64 {
        let per_s = load * self.copies.max(1.0);
        let all = per_s * span.as_secs_f64();
        let bounds = self.limits.iter().filter_map(|limit| {
            let late = match limit.metric {
                Metric::Time(Timed::Latency, Point::Quantile(share)) => 1.0 - share,
                Metric::Time(Timed::Latency, Point::Max) => 0.0,
                _ => return None,
            };
            let in_time = per_s * limit.bound / 1e6;
            Some((UNDERWAY_FACTOR * in_time).max(2.0 * late * all))
        });
        let least = bounds.fold(f64::INFINITY, f64::min);
        least.max(UNDERWAY_MIN) as u64
    }

    /// Once nothing has arrived for so long, the rest of a trial counts as lost.
    pub(super) fn quiet(&self) -> Duration {
        let longest = self.longest_s().min(QUIET_MAX_S);
        let quiet = Duration::from_secs_f64(longest * UNDERWAY_FACTOR);
        quiet.max(QUIET_MIN).min(self.drain.max(QUIET_MIN))
    }

    pub(super) fn judge(&self, trial: &Trial, load: f64, span: Duration) -> Judged {
        let scope = Scope {
            trial,
            judge: self,
            load,
        };
        let mut missed = Vec::new();
        for limit in self
            .limits
            .iter()
            .filter(|limit| self.is_judged(limit, load, span))
        {
            let verdict = verdict::judge(limit, &scope);
            if verdict.judgement != Judgement::Passed {
                missed.push(format!("{} is {}", metric_of(limit), verdict.shown));
            }
        }
        if trial.is_hopeless {
            missed.insert(0, "too much was underway".to_owned());
        }
        let facts = Facts {
            p99_us: scope.times(None, Timed::Latency).quantile(0.99),
            broker_is_busy: trial
                .broker_cores
                .is_some_and(|cores| cores > BUSY_SHARE * f64::from(self.broker_cores)),
            sources: Vec::new(),
            files_max: 0,
        };
        let reasons = self_check::check_trial(&trial.threads, &trial.lag, &facts);
        // A limit that was met in spite of a disturbance was met.
        match (missed.is_empty(), reasons.first()) {
            (true, _) => Judged {
                verdict: Verdict::Good,
                why: String::new(),
            },
            (false, Some(reason)) => Judged {
                verdict: Verdict::Void(cause(&reasons, &trial.threads)),
                why: reason.text.clone(),
            },
            (false, None) => Judged {
                verdict: Verdict::Bad,
                why: missed.join(", "),
            },
        }
    }

    /// A percentile that a trial has too few deliveries for is left to the confirmation, if another
    /// one can be judged.
    fn is_judged(&self, limit: &Threshold, load: f64, span: Duration) -> bool {
        let deliveries = load * self.copies * span.as_secs_f64();
        let is_enough = |quantile: f64| deliveries >= deliveries_min(quantile) as f64 * ENOUGH;
        match quantile_of(limit) {
            Some(quantile) => {
                let lowest = self.quantiles().first().copied();
                is_enough(quantile) || lowest == Some(quantile)
            }
            None => true,
        }
    }

    /// The percentiles of the limits over all seconds of a confirmation.
    pub(super) fn pooled(&self, trial: &Trial) -> Vec<Pooled> {
        let quantiles = self.quantiles().into_iter();
        quantiles
            .filter_map(|quantile| pooled(&trial.seconds, quantile))
            .collect()
    }

    pub(super) fn note(&self, trial: &Trial, load: f64, judged: &Judged) -> TrialNote {
        let scope = Scope {
            trial,
            judge: self,
            load,
        };
        let times = scope.times(None, Timed::Latency);
        TrialNote {
            at_s: trial.at_s,
            span_s: trial.span_s,
            load,
            outcome: match judged.verdict {
                Verdict::Good => Outcome::Good,
                Verdict::Bad => Outcome::Bad,
                Verdict::Void(_) => Outcome::Void,
            },
            why: judged.why.clone(),
            sent_per_s: scope.sent_per_s(None),
            received_per_s: scope.received_per_s(None),
            p50_us: times.quantile(0.5),
            p99_us: times.quantile(0.99),
            max_us: times.quantile(1.0),
            lost: trial.lost,
            broker_cores: trial.broker_cores,
            connect_p99_us: scope.times(None, Timed::Connect).quantile(0.99),
        }
    }
}

/// What is wrong with these limits in this scenario.
pub(super) fn check(scenario: &Scenario, limits: &[Threshold], vary: Vary) -> Vec<Problem> {
    let connects = vary != Vary::Rate;
    let complain = |limit: &Threshold, what: &str, fix: &str| {
        let what = format!("has `{}`, {what}", limit.as_str());
        Complaint::new(what, fix).at(Place::CommandLine, "--slo")
    };
    let mut problems = Vec::new();
    for limit in limits {
        let has_group = limit.group.is_some();
        match limit.metric {
            _ if is_wrong_way(limit) => problems.push(complain(
                limit,
                "which more load does not break: a search needs what the broker has to keep to",
                &format!("write {} < and the most that is fine", metric_of(limit)),
            )),
            Metric::Time(Timed::Connect, _) if connects => {}
            Metric::Time(Timed::Acknowledge | Timed::Connect, _)
            | Metric::MemorySlope
            | Metric::LatencySlope
            | Metric::Memory
            | Metric::Troubles => problems.push(complain(
                limit,
                "which no trial of a second has",
                "use latency, lost and the other faults, rate, received, broker.cpu or \
                 broker.cpu_per_delivery",
            )),
            Metric::Fault(Fault::Lost) if has_group => problems.push(complain(
                limit,
                "and losses of a trial are not told apart by groups",
                "remove the group",
            )),
            Metric::Time(Timed::Latency, _)
            | Metric::Fault(_)
            | Metric::Rate
            | Metric::Received
            | Metric::CpuPerDelivery
            | Metric::Cpu => {}
        }
    }
    let is_latency = |limit: &Threshold| match limit.metric {
        Metric::Time(Timed::Latency, _) => true,
        Metric::Time(Timed::Connect, _) => connects,
        _ => false,
    };
    if !limits.iter().any(is_latency) {
        let what = "names no latency: a queue that grows for a second would pass";
        let fix = match connects {
            true => "add --slo \"connect.p99 < 1s\"",
            false => "add --slo \"latency.p99 < 10ms\"",
        };
        problems.push(Complaint::new(what, fix).at(Place::CommandLine, "--slo"));
    }
    problems.extend(scenario.check_limits(limits));
    problems
}

/// Whose fault it was: the generator has the core that it wants, and is too slow; or others have it.
fn cause(reasons: &[Reason], threads: &[ThreadUse]) -> Cause {
    let has = |check| reasons.iter().any(|reason| reason.check == check);
    let waited = threads.iter().filter_map(|thread| thread.wait_share);
    let waited = waited.fold(0.0, f64::max);
    match (has(Check::CpuWait), has(Check::Cpu)) {
        (true, _) => Cause::Machine,
        (false, true) => Cause::Generator,
        (false, false) if waited > WAITED_MIN => Cause::Machine,
        (false, false) => Cause::Generator,
    }
}

fn quantile_of(limit: &Threshold) -> Option<f64> {
    match limit.metric {
        Metric::Time(Timed::Latency, Point::Quantile(quantile)) => Some(quantile),
        _ => None,
    }
}

/// What grows with the load has a lower bound, or an exact time: more load would only help.
fn is_wrong_way(limit: &Threshold) -> bool {
    match limit.metric {
        Metric::Time(Timed::Latency | Timed::Connect, _) => {
            !limit.is_upper() || limit.relation == Relation::Equal
        }
        Metric::Fault(_) | Metric::Cpu | Metric::CpuPerDelivery => !limit.is_upper(),
        Metric::Time(..)
        | Metric::Rate
        | Metric::Received
        | Metric::Troubles
        | Metric::Memory
        | Metric::MemorySlope
        | Metric::LatencySlope => false,
    }
}

/// `latency.p99` of `latency.p99 < 5ms`.
fn metric_of(limit: &Threshold) -> &str {
    let text = limit.as_str();
    let end = text.find(['<', '>', '=']).unwrap_or(text.len());
    text[..end].trim_end()
}

/// A trial, for limits.
struct Scope<'a> {
    trial: &'a Trial,
    judge: &'a Judge,
    load: f64,
}

impl Scope<'_> {
    fn is_meant(&self, index: usize, name: Option<&str>) -> bool {
        let group = self.judge.groups.get(index);
        group.is_some_and(|group| name.is_none_or(|name| group.name == name))
    }

    /// Losses that are planned for are not among all.
    fn is_read(&self, index: usize, name: Option<&str>) -> bool {
        self.is_meant(index, name) && (name.is_some() || !self.judge.groups[index].may_lose)
    }

    fn per_s(&self, count: u64) -> f64 {
        count as f64 / self.trial.span_s.max(1e-9)
    }

    fn sum(&self, name: Option<&str>, of: impl Fn(&Counts) -> u64) -> u64 {
        let counts = self.trial.counts.iter().enumerate();
        let meant = counts.filter(|(index, _)| self.is_meant(*index, name));
        meant.map(|(_, counts)| of(counts)).sum()
    }
}

impl Measured for Scope<'_> {
    fn times(&self, group: Option<&str>, timed: Timed) -> Times {
        if timed == Timed::Connect {
            let mut all = Times::default();
            for (index, times) in self.trial.connect.iter().enumerate() {
                if self.is_meant(index, group) {
                    all.add(times);
                }
            }
            return all;
        }
        let mut all = Delays::default();
        for ((index, _), delays) in &self.trial.delays {
            if timed == Timed::Latency && self.is_read(usize::from(*index), group) {
                all.add(delays);
            }
        }
        all.corrected()
    }

    fn faults(&self, group: Option<&str>, fault: Fault) -> (u64, u64) {
        let mut ledger = Ledger::default();
        for (index, counts) in self.trial.counts.iter().enumerate() {
            if self.is_read(index, group) {
                let received: Received = counts.received_all();
                ledger.add(&received.ledger);
            }
        }
        ledger.lost = self.trial.lost;
        let received = self.sum(group, |counts| counts.received_all().count);
        (fault.count(&ledger), received + self.trial.lost)
    }

    fn sent_per_s(&self, group: Option<&str>) -> f64 {
        self.per_s(self.sum(group, |counts| counts.sent))
    }

    fn schedule_kept(&self, group: Option<&str>) -> Option<f64> {
        let rates = self.judge.rates.iter().enumerate();
        let meant = rates.filter(|(index, _)| self.is_meant(*index, group));
        let at_one: f64 = meant.map(|(_, rate)| rate).sum();
        let wanted = at_one * self.load / self.judge.base_per_s;
        (wanted > 0.0).then(|| self.sent_per_s(group) / wanted)
    }

    fn received_per_s(&self, group: Option<&str>) -> f64 {
        self.per_s(self.sum(group, |counts| counts.received_all().count))
    }

    fn of_run(&self, metric: Metric) -> Option<Figure> {
        let value = match metric {
            Metric::Cpu => self.trial.broker_cores,
            Metric::CpuPerDelivery => {
                let received = self.received_per_s(None);
                let cores = self.trial.broker_cores.filter(|_| received > 0.0);
                cores.map(|cores| cores * 1e6 / received)
            }
            Metric::Time(..)
            | Metric::Fault(_)
            | Metric::Rate
            | Metric::Received
            | Metric::Troubles
            | Metric::Memory
            | Metric::MemorySlope
            | Metric::LatencySlope => None,
        };
        value.map(|value| Figure {
            value,
            interval: None,
        })
    }
}

/// A trial at 2 % above what a broker takes has a queue of 2 % of its length in the end: it should
/// miss the limit.
const LIMITS_PER_TRIAL: f64 = 50.0;
/// A trial that needs more deliveries than it has in a second goes on for so long.
const TRIAL_MAX_S: f64 = 4.0;
/// With this part of the deliveries that a percentile wants, a trial may judge it.
const ENOUGH: f64 = 0.9;
/// Messages that are underway for longer than this many limits will not be in time.
const UNDERWAY_FACTOR: f64 = 4.0;
/// What a broker may have in hand at any load.
const UNDERWAY_MIN: f64 = 100.0;
const QUIET_MIN: Duration = Duration::from_millis(500);
/// A limit beyond that does not make trials wait.
const QUIET_MAX_S: f64 = 60.0;
/// A broker that uses this share of its cores is at its limit.
const BUSY_SHARE: f64 = 0.9;
/// A thread that waited for this share of a trial was late because of others.
const WAITED_MIN: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    /// Of a publisher for ten subscribers, and its acknowledgements.
    fn judge(limits: &[&str]) -> Judge {
        let text = "[[group]]\nname = \"s\"\nclients = 10\nsubscribe = \"t\"\n\
                    [[group]]\nname = \"p\"\nclients = 4\npublish = \"t\"\nrate = 5\n";
        let plan = Plan::new(file::parse("f.toml", text).unwrap(), "0000", 1, false).unwrap();
        let limits: Vec<Threshold> = limits
            .iter()
            .map(|text| Threshold::parse(text).unwrap())
            .collect();
        Judge::new(&plan, &limits, &[])
    }

    /// 10,000 messages in a second, with 100,000 deliveries, so many of them late.
    fn trial(late: u64) -> Trial {
        let mut delays = Delays::default();
        delays.record(1000, 0, 100_000 - late);
        delays.record(50_000, 0, late);
        let mut counts = vec![Counts::default(); 2];
        counts[0].received[0].count = 100_000;
        counts[1].sent = 10_000;
        Trial {
            at_s: 3.0,
            span_s: 1.0,
            is_hopeless: false,
            delays: [((0, 0), delays)].into(),
            seconds: Vec::new(),
            lag: Times::default(),
            threads: vec![ThreadUse {
                cpu_share: Some(0.5),
                wait_share: Some(0.0),
            }],
            counts,
            lost: 0,
            broker_cores: None,
            connect: Vec::new(),
        }
    }

    fn verdict(judge: &Judge, trial: &Trial) -> Verdict {
        judge.judge(trial, 10_000.0, Duration::from_secs(1)).verdict
    }

    #[test]
    fn loads_are_messages_and_limits_see_deliveries() {
        let judge = judge(&["latency.p99 < 5ms", "lost = 0"]);
        assert_eq!(
            (judge.base_per_s(), judge.copies_per_message()),
            (20.0, 10.0)
        );
        assert!(judge.has_feedback());
        let note = judge.note(
            &trial(0),
            10_000.0,
            &judge.judge(&trial(0), 10_000.0, Duration::from_secs(1)),
        );
        assert_eq!(
            (note.sent_per_s, note.received_per_s),
            (10_000.0, 100_000.0)
        );
        assert_eq!(note.outcome, Outcome::Good);
    }

    #[test]
    fn a_limit_that_is_missed_is_bad_and_void_if_it_may_be_our_fault() {
        let judge = judge(&["latency.p99 < 5ms", "lost = 0", "rate >= 99 %"]);
        assert_eq!(verdict(&judge, &trial(500)), Verdict::Good);
        assert_eq!(verdict(&judge, &trial(2000)), Verdict::Bad);
        let mut lossy = trial(0);
        lossy.lost = 1;
        assert_eq!(verdict(&judge, &lossy), Verdict::Bad);
        let mut slow = trial(0);
        slow.counts[1].sent = 9000;
        assert_eq!(verdict(&judge, &slow), Verdict::Bad);
        let mut hopeless = trial(0);
        hopeless.is_hopeless = true;
        assert_eq!(verdict(&judge, &hopeless), Verdict::Bad);
        for (cpu_share, wait_share, expected) in [
            (0.99, 0.0, Verdict::Void(Cause::Generator)),
            (0.5, 0.3, Verdict::Void(Cause::Machine)),
            (0.99, 0.3, Verdict::Void(Cause::Machine)),
        ] {
            let mut disturbed = trial(2000);
            disturbed.threads[0] = ThreadUse {
                cpu_share: Some(cpu_share),
                wait_share: Some(wait_share),
            };
            assert_eq!(verdict(&judge, &disturbed), expected);
            // What was good in spite of it was good.
            disturbed.delays = trial(0).delays;
            assert_eq!(verdict(&judge, &disturbed), Verdict::Good);
        }
    }

    #[test]
    fn trials_are_long_enough_for_their_limits() {
        for (limit, load, expected_s) in [
            ("latency.p99 < 5ms", 1000.0, 1),
            // 1,000 deliveries take two seconds.
            ("latency.p99 < 5ms", 50.0, 2),
            // 10,000 would take too long; the limit is judged all the same, for want of another.
            ("latency.p99.9 < 5ms", 100.0, 1),
            // An overload of 2 % shows after fifty times the limit.
            ("latency.p99 < 40ms", 1000.0, 2),
            ("latency.p99 < 10s", 1000.0, 4),
        ] {
            let span = judge(&[limit]).span(load);
            assert_eq!(span, Duration::from_secs(expected_s), "{limit} {load}");
        }
        let both = judge(&["latency.p99 < 5ms", "latency.p99.9 < 5ms"]);
        let second = Duration::from_secs(1);
        let judged: Vec<bool> = both
            .limits
            .iter()
            .map(|limit| both.is_judged(limit, 100.0, second))
            .collect();
        assert_eq!(judged, [true, false]);
    }

    #[test]
    fn a_trial_is_hopeless_only_beyond_what_its_limits_permit() {
        let second = Duration::from_secs(1);
        for (limit, expected) in [
            // Four limits' worth of 100,000 per second; the 1 % that may be late is less.
            ("latency.p99 < 10ms", 4000),
            ("latency.p99 < 1ms", 2000),
            // Half may be late.
            ("latency.p50 < 10ms", 100_000),
            ("latency.max < 10us", 100),
        ] {
            let underway = judge(&[limit]).underway_max(10_000.0, second);
            assert!(underway.abs_diff(expected) <= 1, "{limit}: {underway}");
        }
    }
}
