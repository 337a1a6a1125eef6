//! What is wrong with stages and thresholds that no key shows alone.

use std::collections::HashSet;

use ringmq_core::codec::QoS;
use ringmq_problem::{Complaint, Place, Problem};

use super::Keyed as _;
use super::stage::{Load, Stage, name_of};
use super::threshold::{Metric, Threshold, Timed};
use super::{Group, Scenario};

impl Scenario {
    pub(super) fn check_stages(&self, problems: &mut Vec<Problem>) {
        if self.stages.is_empty() {
            return;
        }
        for key in ["warmup", "duration"] {
            if self.places.contains_key(key) {
                let what = "is set, and the stages say how long the run is";
                problems.push(self.complain(key, what, "remove it"));
            }
        }
        let mut names = HashSet::new();
        for (number, stage) in self.stages.iter().enumerate() {
            stage.check(problems);
            if !names.insert(name_of(stage, number)) {
                let what = "is given to two stages";
                problems.push(stage.complain("name", what, "change one of them"));
            }
        }
        let changes = |stage: &Stage| stage.load != Load::Steady(1.0) || !stage.spread.is_zero();
        let all_the_same = !self.stages.iter().any(changes);
        for group in self.groups.iter().filter(|group| group.publish.is_some()) {
            for (key, is_set, what, fix) in [
                (
                    "messages",
                    group.messages.is_some(),
                    "is set, and the stages say how long the run is",
                    "remove it",
                ),
                (
                    "ramp",
                    !group.ramp.is_zero(),
                    "is set, and a stage can do that",
                    "write a [[stage]] with rate = \"0..100 %\"",
                ),
                (
                    "window",
                    group.window.is_some() && !all_the_same,
                    "makes a closed loop, whose rate no stage can change",
                    "use `rate`",
                ),
            ] {
                if is_set {
                    problems.push(group.complain(key, what, fix));
                }
            }
        }
    }

    pub(super) fn check_thresholds(&self, problems: &mut Vec<Problem>) {
        for limit in &self.thresholds {
            if let Some(complaint) = self.check_threshold(limit, false) {
                problems.push(self.complain("thresholds", complaint.what, complaint.fix));
            }
        }
        for stage in &self.stages {
            for limit in &stage.thresholds {
                if let Some(complaint) = self.check_threshold(limit, true) {
                    problems.push(stage.complain("thresholds", complaint.what, complaint.fix));
                }
            }
        }
    }

    /// What is wrong with these limits, which stand on the command line, in this scenario.
    pub fn check_limits(&self, limits: &[Threshold]) -> Vec<Problem> {
        let complaints = limits
            .iter()
            .filter_map(|limit| self.check_threshold(limit, false));
        complaints
            .map(|complaint| complaint.at(Place::CommandLine, "--slo"))
            .collect()
    }

    /// What is wrong with a limit in this scenario.
    pub(super) fn check_threshold(&self, limit: &Threshold, of_stage: bool) -> Option<Complaint> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        if let Some(name) = &limit.group {
            groups.retain(|group| group.name == *name);
        }
        let (what, fix) = if groups.is_empty() {
            let names: Vec<&str> = self.groups.iter().map(|group| &*group.name).collect();
            let fix = format!("the groups are {}", names.join(", "));
            ("which names no group", fix)
        } else {
            let (what, fix) = is_never(limit, &groups).or_else(|| is_of_all(limit, of_stage))?;
            (what, fix.to_owned())
        };
        let what = format!("has `{}`, {what}", limit.as_str());
        Some(Complaint::new(what, fix))
    }
}

/// What these groups never have.
fn is_never(limit: &Threshold, groups: &[&Group]) -> Option<(&'static str, &'static str)> {
    let any = |of: fn(&Group) -> bool| groups.iter().any(|group| of(group));
    let publishes = any(|group| group.publish.is_some());
    let subscribes = any(|group| !group.subscribe.is_empty());
    let acknowledged = any(|group| group.publish.is_some() && group.qos > QoS::AtMostOnce);
    let scheduled = any(|group| group.rate.is_some());
    match limit.metric {
        Metric::Time(Timed::Latency, _) | Metric::Fault(_) | Metric::Received if !subscribes => {
            Some((
                "and nobody subscribes there",
                "name a group with `subscribe`",
            ))
        }
        Metric::Time(Timed::Acknowledge, _) if !acknowledged => Some((
            "and nothing there is acknowledged",
            "name a group that publishes with QoS 1 or 2",
        )),
        Metric::Rate if !publishes => {
            Some(("and nobody publishes there", "name a group with `publish`"))
        }
        Metric::Rate if limit.is_share && !scheduled => Some((
            "and a closed loop has no schedule",
            "use `rate` in the group, or compare with a number",
        )),
        Metric::Time(..)
        | Metric::Fault(_)
        | Metric::Received
        | Metric::Rate
        | Metric::CpuPerDelivery
        | Metric::Cpu
        | Metric::Memory
        | Metric::MemorySlope
        | Metric::LatencySlope
        | Metric::Troubles => None,
    }
}

/// What only the run as a whole has.
fn is_of_all(limit: &Threshold, of_stage: bool) -> Option<(&'static str, &'static str)> {
    let (by_group, by_stage) = match limit.metric {
        Metric::Time(Timed::Latency, _) | Metric::Fault(_) | Metric::Received | Metric::Rate => {
            (true, true)
        }
        Metric::Time(Timed::Acknowledge | Timed::Connect, _) => (true, false),
        Metric::CpuPerDelivery | Metric::Cpu => (false, true),
        Metric::Memory | Metric::MemorySlope | Metric::LatencySlope | Metric::Troubles => {
            (false, false)
        }
    };
    if of_stage && !by_stage {
        return Some((
            "which is not told apart by stages",
            "put it above the first [[stage]]",
        ));
    }
    let is_wrong = limit.group.is_some() && !by_group;
    is_wrong.then_some(("which is not told apart by groups", "remove the group"))
}
