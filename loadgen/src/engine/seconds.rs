//! The per-second figures of a run: added up over the threads, condensed, then dropped.
//!
//! Histograms are large and runs are long: a second that all threads have reported is reduced to
//! one line of numbers, a few lines of the histogram log, and its share of the sums.

use std::collections::{BTreeMap, VecDeque};

use super::BrokerSample;
use super::abort::{Aborted, Watch};
use super::storm::{self, Presence};
use crate::histograms;
use crate::meter::{Interval, Place};
use crate::plan::Plan;
use crate::process::CpuTime;
use crate::report::Second;
use crate::times::{Delays, Times};

/// The seconds of a run.
#[derive(Debug)]
pub(super) struct Seconds {
    threads: usize,
    groups: Vec<String>,
    publish_at: u64,
    /// Seconds that not every thread has reported, from number `closed.len()` on.
    open: VecDeque<Open>,
    closed: Vec<Second>,
    delays: BTreeMap<Place, Delays>,
    lag: Times,
    /// Looks for what ends the run.
    watch: Watch,
    /// Looks for the recovery from a storm.
    storm: Option<storm::Watch>,
    histograms: Vec<u8>,
    /// CPU time of the broker and of ringload when they were last looked at, and when that was.
    broker_cpu: Option<CpuTime>,
    own_cpu: Option<CpuTime>,
    seen_ns: u64,
}

/// What is seen at the end of a second, beside what the threads report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// The broker; absent without `--pid`.
    pub(super) broker: BrokerSample,
    /// CPU time of ringload.
    pub(super) own_cpu: Option<CpuTime>,
    /// Clients connected and subscribed.
    pub(super) ready: u64,
    /// Who is back after a storm.
    pub(super) presence: Presence,
}

/// All seconds of a run.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) seconds: Vec<Second>,
    pub(super) delays: BTreeMap<Place, Delays>,
    pub(super) lag: Times,
    pub(super) histograms: Vec<u8>,
    /// See [`Recovery::recovered_s`](crate::recovery::Recovery::recovered_s).
    pub(super) recovered_s: Option<u64>,
}

#[derive(Debug, Default)]
struct Open {
    sum: Interval,
    reports: usize,
    /// When the first report of it came.
    at_ns: u64,
    broker_cores: Option<f64>,
    broker_resident: Option<u64>,
    own_cores: Option<f64>,
    ready: u64,
    presence: Presence,
}

impl Seconds {
    pub(super) fn new(plan: &Plan) -> Seconds {
        Seconds {
            threads: plan.threads,
            groups: plan.specs.iter().map(|group| group.name.clone()).collect(),
            publish_at: u64::MAX,
            open: VecDeque::new(),
            closed: Vec::new(),
            delays: BTreeMap::new(),
            lag: Times::default(),
            watch: Watch::new(&plan.scenario.stages),
            storm: plan.scenario.storm.as_ref().map(storm::Watch::of),
            histograms: Vec::new(),
            broker_cpu: None,
            own_cpu: None,
            seen_ns: 0,
        }
    }

    /// The publishing begins.
    pub(super) fn begin(&mut self, publish_at: u64, beside: &Beside) {
        self.publish_at = publish_at;
        self.broker_cpu = beside.broker.cpu;
        self.own_cpu = beside.own_cpu;
        self.seen_ns = publish_at;
    }

    /// A thread has reported a second; beside it what is seen at this moment.
    pub(super) fn add(&mut self, interval: &Interval, now: u64, beside: &Beside) {
        let Some(at) = (interval.second as usize).checked_sub(self.closed.len()) else {
            return;
        };
        while self.open.len() <= at {
            let span = now.saturating_sub(self.seen_ns).max(1) as f64 / 1e9;
            let cores = |now: Option<CpuTime>, earlier: Option<CpuTime>| {
                let (now, earlier) = now.zip(earlier)?;
                Some(now.since(earlier).total_s() / span)
            };
            self.open.push_back(Open {
                at_ns: now,
                broker_cores: cores(beside.broker.cpu, self.broker_cpu),
                broker_resident: beside.broker.memory.map(|memory| memory.resident),
                own_cores: cores(beside.own_cpu, self.own_cpu),
                ready: beside.ready,
                presence: beside.presence,
                ..Open::default()
            });
            self.broker_cpu = beside.broker.cpu;
            self.own_cpu = beside.own_cpu;
            self.seen_ns = now;
        }
        for (place, delays) in &interval.window {
            self.delays.entry(*place).or_default().add(delays);
        }
        self.lag.add(&interval.lag);
        self.open[at].sum.add(interval);
        self.open[at].reports += usize::from(interval.is_whole);
        while self
            .open
            .front()
            .is_some_and(|open| open.reports >= self.threads)
        {
            self.close_first();
        }
    }

    /// What ends the run early, once it has happened.
    pub(super) fn aborted(&self) -> Option<&Aborted> {
        self.watch.aborted()
    }

    /// See [`Recovery::recovered_s`](crate::recovery::Recovery::recovered_s).
    pub(super) fn recovered_s(&self) -> Option<u64> {
        self.storm.as_ref().and_then(storm::Watch::recovered_s)
    }

    /// The last second that is complete.
    pub(super) fn last(&self) -> Option<&Second> {
        self.closed.last()
    }

    /// The seconds that are complete.
    pub(super) fn closed(&self) -> &[Second] {
        &self.closed
    }

    pub(super) fn finish(mut self) -> Whole {
        while !self.open.is_empty() {
            self.close_first();
        }
        Whole {
            recovered_s: self.recovered_s(),
            seconds: self.closed,
            delays: self.delays,
            lag: self.lag,
            histograms: self.histograms,
        }
    }

    fn close_first(&mut self) {
        let Some(open) = self.open.pop_front() else {
            return;
        };
        let number = self.closed.len() as u64;
        let begin = self.publish_at.saturating_add(number * 1_000_000_000);
        let span_s = open.at_ns.saturating_sub(begin).min(1_000_000_000) as f64 / 1e9;
        let (volume, corrected) = (open.sum.volume, open.sum.corrected());
        // A second may have two stages.
        let mut of_groups: BTreeMap<(u16, u8), Delays> = BTreeMap::new();
        for (place, delays) in open.sum.window {
            let both = of_groups.entry((place.group, place.qos)).or_default();
            both.add(&delays);
        }
        for ((group, qos), delays) in &of_groups {
            let name = format!("{}.qos{qos}", self.groups[usize::from(*group)]);
            histograms::append(&mut self.histograms, number, span_s, &name, delays);
        }
        let second = Second {
            at_s: number as f64,
            span_s,
            sent: volume.sent,
            received: volume.received,
            received_bytes: volume.received_bytes,
            connects: volume.connects,
            errors: volume.errors,
            p50_us: corrected.quantile(0.5),
            p99_us: corrected.quantile(0.99),
            max_us: corrected.quantile(1.0),
            broker_cpu: open.broker_cores,
            broker_rss_bytes: open.broker_resident,
            ready: Some(open.ready),
            generator_cpu: open.own_cores,
            latencies: corrected.buckets(),
        };
        self.watch.see(&second, &corrected);
        if let Some(storm) = &mut self.storm {
            let groups = &self.groups;
            let latencies = |name: Option<&str>| match name {
                None => corrected.clone(),
                Some(name) => of_group(&of_groups, groups, name),
            };
            storm.see(&second, open.presence, latencies);
        }
        self.closed.push(second);
    }
}

/// Corrected latencies of one group.
fn of_group(all: &BTreeMap<(u16, u8), Delays>, groups: &[String], name: &str) -> Times {
    let mut sum = Delays::default();
    for ((group, _), delays) in all {
        if groups[usize::from(*group)] == name {
            sum.add(delays);
        }
    }
    sum.corrected()
}
