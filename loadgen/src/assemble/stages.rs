//! Figures of single stages, and what became of the thresholds.

use std::collections::HashMap;

use ringmq_core::codec::QoS;

use super::{QOS_ALL, Sums, settle, storm};
use crate::course::Segment;
use crate::engine::Outcome;
use crate::ledger::Settled;
use crate::meter::{Counts, GroupTimes};
use crate::plan::Plan;
use crate::report::{BrokerCost, Judgement, Ledger, Second, StageResult, Verdict};
use crate::scenario::Group;
use crate::scenario::stage::{self, Part};
use crate::scenario::threshold::{Fault, Metric, Timed};
use crate::tally::Tally as _;
use crate::times::{Delays, Times};
use crate::verdict::{self, Figure, Measured};

/// The stages that took place, and what became of each threshold.
pub(super) fn judged(
    sums: &Sums,
    outcome: &Outcome,
    broker: Option<&BrokerCost>,
) -> (Vec<StageResult>, Vec<Verdict>) {
    let scenario = &outcome.shared.plan.scenario;
    let window_ns = (outcome.shared.window_start(), outcome.shared.window_end());
    let publish_at = outcome.shared.publish_at();
    let whole = Segment {
        begin_ns: window_ns.0.saturating_sub(publish_at),
        end_ns: window_ns.1.saturating_sub(publish_at),
    };
    let of_run = Scope {
        sums,
        outcome,
        segment: whole,
        cores: broker.and_then(|broker| Some(broker.user_cores? + broker.system_cores?)),
        rss_peak: broker.and_then(|broker| broker.rss_peak_bytes),
    };
    let limits = scenario.thresholds.iter();
    let mut verdicts: Vec<Verdict> = limits.map(|limit| verdict::judge(limit, &of_run)).collect();
    let mut stages = Vec::new();
    let parts = match &scenario.storm {
        Some(_) => storm::phases(outcome),
        None => stage::parts(&scenario.stages),
    };
    let all = of_parts(outcome, &parts, whole.end_ns);
    for (number, (part, of_part)) in parts.iter().zip(&all).enumerate() {
        // Phases of a storm have no limits of their own.
        let stage = scenario.stages.get(part.stage);
        let limits = stage.iter().flat_map(|stage| &stage.thresholds);
        let scope = of_part.as_ref().map(|(segment, sums)| Scope {
            sums,
            outcome,
            segment: *segment,
            cores: cores(outcome, number),
            rss_peak: None,
        });
        verdicts.extend(limits.map(|limit| Verdict {
            stage: Some(part.name.clone()),
            ..match &scope {
                Some(scope) => verdict::judge(limit, scope),
                None => not_reached(limit.as_str()),
            }
        }));
        stages.extend(scope.map(|scope| result(&scope, part)));
    }
    verdicts.extend(outcome.aborted.as_ref().map(|aborted| {
        Verdict {
            threshold: format!("abort: {}", aborted.limit),
            stage: parts
                .iter()
                .find(|part| part.stage == aborted.stage)
                .map(|part| part.name.clone()),
            judgement: Judgement::Missed,
            value: aborted.value,
            shown: "the run was ended".to_owned(),
        }
    }));
    (stages, verdicts)
}

fn not_reached(limit: &str) -> Verdict {
    Verdict {
        threshold: limit.to_owned(),
        stage: None,
        judgement: Judgement::NotJudged,
        value: None,
        shown: "the stage did not take place".to_owned(),
    }
}

fn result(scope: &Scope<'_>, part: &Part) -> StageResult {
    let totals = scope.sums.totals(scope.outcome);
    StageResult {
        name: part.name.clone(),
        at_s: scope.segment.begin_ns as f64 / 1e9,
        span_s: scope.sums.window_s,
        load_from: part.from,
        load_to: part.to,
        sent_per_s: totals.sent_per_s,
        received_per_s: totals.received_per_s,
        latency: totals.latency,
        ledger: totals.ledger,
        broker_cores: scope.cores,
    }
}

/// The sums of each part of the run; nothing for one that did not take place.
fn of_parts(outcome: &Outcome, parts: &[Part], end_ns: u64) -> Vec<Option<(Segment, Sums)>> {
    if parts.is_empty() {
        return Vec::new();
    }
    let mut settled: Vec<HashMap<(u16, QoS), Settled>> = vec![HashMap::new(); parts.len()];
    settle(outcome, &part_ends(outcome, parts.len()), &mut settled);
    let (course, _) = outcome.shared.course();
    let mut all = Vec::new();
    for (number, settled) in settled.into_iter().enumerate() {
        let planned = course.segments()[number];
        let segment = Segment {
            end_ns: planned.end_ns.min(end_ns),
            ..planned
        };
        let took_place = segment.begin_ns < end_ns;
        all.push(took_place.then(|| (segment, Sums::of_part(outcome, number, segment, settled))));
    }
    all
}

/// By stage but the last, the last sequence of every stream; empty without stages.
pub fn part_ends_of(outcome: &Outcome) -> Vec<Vec<u32>> {
    match stage::parts(&outcome.shared.plan.scenario.stages).len() {
        0 => Vec::new(),
        count => part_ends(outcome, count),
    }
}

/// By part but the last, the last sequence of every stream.
fn part_ends(outcome: &Outcome, count: usize) -> Vec<Vec<u32>> {
    let streams = &outcome.shared.plan.streams;
    let mut ends = vec![vec![0; streams.count()]; count - 1];
    for noted in outcome.threads.iter().flat_map(|thread| &thread.part_ends) {
        for (part, last) in ends.iter_mut().zip(&noted.ends) {
            part[noted.stream as usize] = *last;
        }
    }
    ends
}

/// CPU of the broker in a part, cores.
fn cores(outcome: &Outcome, part: usize) -> Option<f64> {
    let at = |number: usize| outcome.broker_parts.get(number).copied();
    let end = at(part * 2 + 1).or(outcome.broker.and_then(|broker| broker.window_end));
    let ((begin_ns, begin), (end_ns, end)) = at(part * 2).zip(end)?;
    let span_s = end_ns.saturating_sub(begin_ns) as f64 / 1e9;
    (span_s > 0.0).then_some(end?.since(begin?).total_s() / span_s)
}

impl Sums {
    /// Of one part. Its ledger counts what arrived until the next part began, the last one's until
    /// the end.
    fn of_part(
        outcome: &Outcome,
        number: usize,
        segment: Segment,
        settled: HashMap<(u16, QoS), Settled>,
    ) -> Sums {
        let groups = outcome.shared.plan.specs.len();
        let mut sums = Sums {
            counts: vec![Counts::default(); groups],
            window: vec![Counts::default(); groups],
            window_s: (segment.end_ns - segment.begin_ns) as f64 / 1e9,
            times: vec![GroupTimes::default(); groups],
            delays: HashMap::new(),
            settled,
            orders_checked: true,
        };
        for thread in &outcome.threads {
            sums.orders_checked &= thread.ledger.checks_shared_order();
            let Some(begin) = thread.boundaries.get(number * 2) else {
                continue;
            };
            let last = &thread.meter.counts;
            let window_end = thread.window.as_ref().map_or(last, |[_, end]| end);
            let end = thread.boundaries.get(number * 2 + 1).unwrap_or(window_end);
            let next = thread.boundaries.get(number * 2 + 2).unwrap_or(last);
            for group in 0..groups {
                sums.window[group].add(&end[group].since(&begin[group]));
                sums.counts[group].add(&next[group].since(&begin[group]));
            }
        }
        for (place, delays) in &outcome.delays {
            if place.segment as usize == number {
                let key = (usize::from(place.group), place.qos);
                sums.delays.entry(key).or_default().add(delays);
            }
        }
        sums
    }
}

/// A run or a part of it, for thresholds.
struct Scope<'a> {
    sums: &'a Sums,
    outcome: &'a Outcome,
    segment: Segment,
    cores: Option<f64>,
    rss_peak: Option<u64>,
}

impl Scope<'_> {
    fn plan(&self) -> &Plan {
        &self.outcome.shared.plan
    }

    /// The groups that a limit looks at.
    fn groups(&self, name: Option<&str>) -> impl Iterator<Item = (usize, &Group)> {
        let groups = self.plan().scenario.groups.iter().enumerate();
        let name = name.map(str::to_owned);
        groups.filter(move |(_, group)| match &name {
            Some(name) => group.name == *name,
            None => true,
        })
    }

    /// Those whose deliveries it looks at: losses that are planned for are not among all.
    fn readers(&self, name: Option<&str>) -> impl Iterator<Item = usize> {
        let is_one = name.is_some();
        self.groups(name)
            .filter(move |(_, group)| !group.subscribe.is_empty() && (is_one || !group.may_lose))
            .map(|(index, _)| index)
    }

    /// Seconds of the timeline that lie in it as a whole.
    fn seconds(&self) -> impl Iterator<Item = &Second> {
        let (begin, end) = (
            self.segment.begin_ns as f64 / 1e9,
            self.segment.end_ns as f64 / 1e9,
        );
        let seconds = self.outcome.seconds.iter();
        seconds.filter(move |second| second.at_s >= begin && second.at_s + second.span_s <= end)
    }

    fn slope(&self, of: impl Fn(&Second) -> Option<f64>) -> Option<Figure> {
        let point = |second: &Second| Some((second.at_s / 3600.0, of(second)?));
        let points: Vec<(f64, f64)> = self.seconds().filter_map(point).collect();
        verdict::slope(&points)
    }
}

impl Measured for Scope<'_> {
    fn times(&self, group: Option<&str>, timed: Timed) -> Times {
        let mut times = Times::default();
        match timed {
            Timed::Connect => self
                .groups(group)
                .for_each(|(index, _)| times.add(&self.sums.times[index].connect)),
            Timed::Acknowledge => self
                .groups(group)
                .for_each(|(index, _)| times.add(&self.sums.times[index].acknowledge)),
            Timed::Latency => {
                let mut delays = Delays::default();
                for index in self.readers(group) {
                    let of_qos = |qos: &QoS| self.sums.delays.get(&(index, *qos as u8));
                    let found = QOS_ALL.iter().filter_map(of_qos);
                    found.for_each(|of_qos| delays.add(of_qos));
                }
                times = delays.corrected();
            }
        }
        times
    }

    fn faults(&self, group: Option<&str>, fault: Fault) -> (u64, u64) {
        let mut ledger = Ledger::default();
        for index in self.readers(group) {
            ledger.add(&self.sums.receipts(self.plan(), index).ledger);
        }
        (fault.count(&ledger), ledger.owed)
    }

    fn sent_per_s(&self, group: Option<&str>) -> f64 {
        let sent = |(index, _): (usize, &Group)| self.sums.per_s(self.sums.window[index].sent);
        self.groups(group).map(sent).sum()
    }

    fn schedule_kept(&self, group: Option<&str>) -> Option<f64> {
        let (course, _) = self.outcome.shared.course();
        let (mut sent, mut wanted) = (0.0, 0.0);
        // A closed loop has no schedule, and who is away does not keep it.
        for (index, spec) in self.groups(group) {
            let per_s = self.plan().per_s(index);
            if per_s == 0.0 || spec.online.is_some() {
                continue;
            }
            let ramp_ns = spec.ramp.as_nanos() as f64;
            let work_at = |ns: u64| match ns as f64 {
                at if at < ramp_ns => at * at / (2.0 * ramp_ns),
                at if ramp_ns > 0.0 => at - ramp_ns / 2.0,
                at => course.work_at(at),
            };
            let work_ns = work_at(self.segment.end_ns) - work_at(self.segment.begin_ns);
            wanted += per_s * work_ns / 1e9;
            sent += self.sums.window[index].sent as f64;
        }
        (wanted > 0.0).then_some(sent / wanted)
    }

    fn received_per_s(&self, group: Option<&str>) -> f64 {
        let of_group = |(index, _): (usize, &Group)| {
            let window: &Counts = &self.sums.window[index];
            self.sums.per_s(window.received_all().count)
        };
        self.groups(group).map(of_group).sum()
    }

    fn of_run(&self, metric: Metric) -> Option<Figure> {
        let value = match metric {
            Metric::Troubles => {
                let counts = self.outcome.troubles.0.values().map(|(count, _)| *count);
                Some(counts.sum::<u64>() as f64)
            }
            Metric::Cpu => self.cores,
            Metric::CpuPerDelivery => {
                let received: f64 = self.received_per_s(None);
                let cores = self.cores.filter(|_| received > 0.0);
                cores.map(|cores| cores * 1e6 / received)
            }
            Metric::Memory => self.rss_peak.map(|bytes| bytes as f64),
            Metric::MemorySlope => {
                return self.slope(|second| second.broker_rss_bytes.map(|bytes| bytes as f64));
            }
            Metric::LatencySlope => return self.slope(|second| second.p99_us.map(|us| us as f64)),
            Metric::Time(..) | Metric::Fault(_) | Metric::Rate | Metric::Received => None,
        };
        value.map(|value| Figure {
            value,
            interval: None,
        })
    }
}
