//! Stages: parts of a run with a rate of their own, one after the other.

use std::collections::HashMap;
use std::time::Duration;

use ringmq_problem::{Complaint, Place, Problem};

use super::Keyed as _;
use super::keyed::keyed;
use super::threshold::{Abort, Threshold};
use super::value;
use crate::course::{Course, Segment};

/// A stage as it is written. One with steps becomes several parts.
#[derive(Clone, Debug)]
pub struct Stage {
    /// For reports; empty: its number.
    pub name: String,
    /// How long it takes.
    pub span: Duration,
    /// Of the rate of each group.
    pub load: Load,
    /// How long it takes to get from the load before to this one.
    pub spread: Duration,
    /// What it has to keep to.
    pub thresholds: Vec<Threshold>,
    /// What ends the run.
    pub abort: Option<Abort>,
    /// Where keys were set, by name; for messages.
    places: HashMap<&'static str, Place>,
    /// Where the stage begins.
    place: Place,
}

/// A share of the rate of each group; 1 is all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// `100 %`.
    Steady(f64),
    /// `0..100 %`: evenly from the first to the second.
    Ramp(f64, f64),
    /// `100..1000 % in 10`: the first, the last, and so many in all.
    Steps(f64, f64, u32),
}

/// A part of a run with figures of its own: a stage, or one step of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// For reports.
    pub name: String,
    /// The stage that it belongs to.
    pub stage: usize,
    /// The load at its beginning.
    pub from: f64,
    /// The load at its end.
    pub to: f64,
    /// How long it takes.
    pub span: Duration,
    /// How long it takes to get from the load before to `from`.
    pub spread: Duration,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage {
            name: String::new(),
            span: Duration::ZERO,
            load: Load::Steady(1.0),
            spread: Duration::ZERO,
            thresholds: Vec::new(),
            abort: None,
            places: HashMap::new(),
            place: Place::CommandLine,
        }
    }
}

keyed!(Stage, |stage, key| match stage.name.as_str() {
    "" => format!("stage.{key}"),
    name => format!("{name}.{key}"),
});

impl Stage {
    /// A stage that begins at a place.
    pub fn at(place: Place) -> Stage {
        Stage {
            place,
            ..Stage::default()
        }
    }

    /// Everything that is wrong with it alone.
    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        if self.span.is_zero() && self.places.contains_key("for") {
            let what = "is 0, and a stage takes some time";
            problems.push(self.complain("for", what, "write a time above 0, such as \"1m\""));
        } else if self.span.is_zero() {
            problems.push(self.complain(
                "for",
                "says how long the stage takes, and is missing",
                "add for = \"1m\"",
            ));
        }
        if self.spread > self.span {
            let what = "is longer than the stage";
            problems.push(self.complain("spread", what, "make it `for` at most"));
        }
        let is_steady = matches!(self.load, Load::Steady(_));
        if !is_steady && !self.spread.is_zero() {
            let what = "is set, but `rate` is no steady one";
            problems.push(self.complain("spread", what, "remove it, or write rate = \"100 %\""));
        }
    }
}

impl Load {
    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Load, Complaint> {
        let wrong = || {
            let what = format!("is `{text}`, which is no share of the groups' rates");
            let fix = "write a share such as 100 %, a ramp such as 0..100 %, or steps such as \
                       100..1000 % in 10";
            Complaint::new(what, fix)
        };
        let (shares, steps) = match text.split_once(" in ") {
            Some((shares, steps)) => (shares, Some(value::count(steps.trim(), 2, STEPS_MAX)?)),
            None => (text, None),
        };
        let shares = shares.trim().strip_suffix('%').ok_or_else(wrong)?;
        let share = |text: &str| -> Result<f64, Complaint> {
            let text = text.trim();
            let number = text.trim_end_matches('%').trim_end().parse::<f64>().ok();
            let number = number.filter(|number| (0.0..=SHARE_MAX).contains(number));
            number.map(|number| number / 100.0).ok_or_else(wrong)
        };
        match (shares.split_once(".."), steps) {
            (None, None) => Ok(Load::Steady(share(shares)?)),
            (None, Some(_)) => Err(wrong()),
            (Some((from, to)), None) => Ok(Load::Ramp(share(from)?, share(to)?)),
            (Some((from, to)), Some(steps)) => {
                Ok(Load::Steps(share(from)?, share(to)?, steps as u32))
            }
        }
    }

    /// As a user would write it.
    pub fn show(&self) -> String {
        match self {
            Load::Steady(share) => format!("{} %", percent(*share)),
            Load::Ramp(from, to) => format!("{}..{} %", percent(*from), percent(*to)),
            Load::Steps(from, to, steps) => {
                format!("{}..{} % in {steps}", percent(*from), percent(*to))
            }
        }
    }
}

/// The parts of these stages, in order.
pub fn parts(stages: &[Stage]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, stage) in stages.iter().enumerate() {
        let name = name_of(stage, number);
        let part = |name, from, to, span| Part {
            name,
            stage: number,
            from,
            to,
            span,
            spread: stage.spread,
        };
        match stage.load {
            Load::Steady(share) => parts.push(part(name, share, share, stage.span)),
            Load::Ramp(from, to) => parts.push(part(name, from, to, stage.span)),
            Load::Steps(from, to, steps) => {
                let shares = shares_of(from, to, steps);
                for (share, shown) in shares.iter().copied().zip(percents(&shares)) {
                    let name = format!("{name}, {shown} %");
                    parts.push(part(name, share, share, stage.span / steps));
                }
            }
        }
    }
    parts
}

/// How reports call a stage: its name, or its number.
pub(super) fn name_of(stage: &Stage, number: usize) -> String {
    match stage.name.as_str() {
        "" => format!("stage {}", number + 1),
        name => name.to_owned(),
    }
}

fn shares_of(from: f64, to: f64, steps: u32) -> Vec<f64> {
    let share = |step| from + (to - from) * f64::from(step) / f64::from(steps - 1);
    (0..steps).map(share).collect()
}

/// Shares as percent for names: with one decimal, or as many as tell neighbours apart.
fn percents(shares: &[f64]) -> Vec<String> {
    let round = |share: f64, unit: f64| (share * 100.0 * unit).round() / unit;
    let is_told_apart = |unit: f64| {
        let mut pairs = shares.windows(2);
        pairs.all(|pair| pair[0] == pair[1] || round(pair[0], unit) != round(pair[1], unit))
    };
    let units = [10.0, 100.0, 1e3, 1e4];
    let unit = units
        .into_iter()
        .find(|unit| is_told_apart(*unit))
        .unwrap_or(1e6);
    let shown = shares.iter().map(|share| round(*share, unit).to_string());
    shown.collect()
}

/// The load over time that these parts make, each a segment; nothing comes after them.
pub fn course(parts: &[Part]) -> Course {
    let mut course = Course::idle();
    let (mut at_ns, mut before) = (0, 0.0);
    for part in parts {
        let span_ns = part.span.as_nanos() as u64;
        let spread_ns = part.spread.as_nanos() as u64;
        if spread_ns > 0 {
            course.append(at_ns, before, part.from, spread_ns);
        } else {
            course.append(at_ns, part.from, part.to, span_ns);
        }
        course.add_segment(Segment {
            begin_ns: at_ns,
            end_ns: at_ns + span_ns,
        });
        at_ns += span_ns;
        before = part.to;
    }
    course.append(at_ns, 0.0, 0.0, 0);
    course
}

/// A share as percent, without noise behind the point.
pub fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

/// More have no line each on a screen.
const STEPS_MAX: u64 = 100;
/// A thousand times the rate: what is more was meant in another unit.
const SHARE_MAX: f64 = 100_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(span_s: u64, load: &str, spread_s: u64) -> Stage {
        Stage {
            span: Duration::from_secs(span_s),
            load: Load::parse(load).unwrap(),
            spread: Duration::from_secs(spread_s),
            ..Stage::default()
        }
    }

    fn parts_of(stages: &[Stage]) -> Vec<String> {
        parts(stages).into_iter().map(|part| part.name).collect()
    }

    #[test]
    fn loads_read_back() {
        for (text, load) in [
            ("100 %", Load::Steady(1.0)),
            ("0..100 %", Load::Ramp(0.0, 1.0)),
            ("100..1000 % in 10", Load::Steps(1.0, 10.0, 10)),
            ("0.5 %", Load::Steady(0.005)),
        ] {
            assert_eq!(Load::parse(text).unwrap(), load, "{text}");
            assert_eq!(load.show(), text);
        }
        assert_eq!(Load::parse("50%").unwrap(), Load::Steady(0.5));
        assert_eq!(Load::parse("0%..50%").unwrap(), Load::Ramp(0.0, 0.5));
        for text in [
            "",
            "100",
            "100 % in 3",
            "1..2 % in 1",
            "-1 %",
            "x %",
            "1..% ",
        ] {
            assert!(Load::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_scenario_with_stages_reads_back() {
        let text = "arrivals = \"bursts(3)\"\nthresholds = [\"lost = 0\", \"rate >= 99 %\"]\n\
                    [[stage]]\nfor = \"1m\"\nrate = \"0..100 %\"\n\
                    [[stage]]\nname = \"x\"\nfor = 10\nspread = \"2s\"\nrate = \"400 %\"\n\
                    thresholds = \"lost = 0\"\nabort = \"latency.p99 > 1s for 5s\"\n\
                    [[group]]\nname = \"s\"\nsubscribe = \"a/#\"\nonline = \"exp(5m)\"\n\
                    away = \"1s..2s\"\n\
                    [[group]]\nname = \"p\"\npublish = \"a/{message%4}\"\n\
                    rate = \"lognormal(2, 1.1)\"\ntopics = \"zipf(1.1)\"\n";
        let read = |text: &str| super::super::file::parse("f.toml", text).unwrap();
        let shown = read(text).to_toml();
        assert_eq!(read(&shown).to_toml(), shown);
        for line in text.lines().filter(|line| line.contains('=')) {
            let value = line.split_once(" = ").unwrap().1;
            let value = value.split('"').nth(1).unwrap_or(value);
            assert!(shown.contains(value), "{line}: {shown}");
        }
        assert!(read(&shown).check().is_empty());
    }

    #[test]
    fn stages_follow_each_other_and_steps_are_parts() {
        let thirds: Vec<String> = parts_of(&[stage(4, "100..200 % in 4", 0)]);
        assert_eq!(thirds[1..3], ["stage 1, 133.3 %", "stage 1, 166.7 %"]);
        let close: Vec<String> = parts_of(&[stage(3, "1..1.1 % in 3", 0)]);
        assert_eq!(close, ["stage 1, 1 %", "stage 1, 1.05 %", "stage 1, 1.1 %"]);
        let stages = [
            stage(10, "0..100 %", 0),
            stage(6, "100..300 % in 3", 0),
            stage(4, "50 %", 2),
        ];
        let parts = parts(&stages);
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        let expected = [
            "stage 1",
            "stage 2, 100 %",
            "stage 2, 200 %",
            "stage 2, 300 %",
            "stage 3",
        ];
        assert_eq!(names, expected);
        let course = course(&parts);
        let work: Vec<f64> = course
            .segments()
            .iter()
            .map(|segment| course.work_of(*segment) / 1e9)
            .collect();
        // The last one comes down from 300 % within two seconds, and has two at 50 %.
        for (work, expected) in work.iter().zip([5.0, 2.0, 4.0, 6.0, 4.5]) {
            assert!((work - expected).abs() < 1e-6, "{work} {expected}");
        }
        assert_eq!(course.due_ns(21.5e9 + 1.0), None, "nothing comes after");
    }
}
