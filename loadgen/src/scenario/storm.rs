//! A storm: many clients are cut at once, stay away, and return by their back-off.
//!
//! Not here: what the clients do (`fleet::storm`), and when it is over (`engine::storm`).

use std::collections::HashMap;
use std::time::Duration;

use ringmq_problem::{Complaint, Place, Problem};

use super::keyed::keyed;
use super::threshold::{Metric, Point, Threshold, Timed};
use super::value;
use super::{Group, Keyed as _, Scenario, Start};
use crate::course::{Course, Segment};

/// What happens to the clients, and what has to come of it.
#[derive(Clone, Debug)]
pub struct Storm {
    /// How connections end.
    pub event: Event,
    /// Of how many clients, 0 to 1.
    pub share: f64,
    /// Of which groups; empty: of all.
    pub of: Vec<String>,
    /// When clients return.
    pub backoff: Backoff,
    /// How long is published before.
    pub before: Duration,
    /// How long recovery may take.
    pub within: Duration,
    /// In a good second so many of the clients are back, 0 to 1.
    pub back: f64,
    /// What a good second keeps to.
    pub limits: Vec<Threshold>,
    /// Where keys were set, by name; for messages.
    places: HashMap<&'static str, Place>,
    /// Where the storm begins.
    place: Place,
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The sockets are closed, without DISCONNECT.
    Cut,
    /// The clients ping once more and say nothing then; their sockets stay open, and the broker
    /// hears of nothing.
    Silence,
    /// A second client with the same identifier connects at once; the sockets of the first stay
    /// open, and do not answer.
    Takeover,
}

/// How long a client waits before an attempt: `base * factor ^ attempts`, and `most` at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Before the first attempt.
    pub base: Duration,
    /// For every attempt that failed.
    pub factor: f64,
    /// The longest.
    pub most: Duration,
    /// How much of it is chance.
    pub jitter: Jitter,
}

/// How much of a wait is chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// All of it: anything from 0 to the wait.
    Full,
    /// Half: anything from half the wait to the wait.
    Equal,
    /// Nothing.
    None,
}

impl Default for Storm {
    fn default() -> Storm {
        Storm {
            event: Event::Cut,
            share: 1.0,
            of: Vec::new(),
            backoff: Backoff::default(),
            before: Duration::from_secs(5),
            within: Duration::from_secs(120),
            back: 0.99,
            limits: Vec::new(),
            places: HashMap::new(),
            place: Place::CommandLine,
        }
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            base: Duration::from_secs(1),
            factor: 2.0,
            most: Duration::from_secs(60),
            jitter: Jitter::Full,
        }
    }
}

keyed!(Storm, |_, key| format!("storm.{key}"));

impl Storm {
    /// A storm that begins at a place.
    pub fn at(place: Place) -> Storm {
        Storm {
            place,
            ..Storm::default()
        }
    }

    /// Whether it hits clients of a group.
    pub fn hits(&self, group: &Group) -> bool {
        self.of.is_empty() || self.of.contains(&group.name)
    }

    /// Whether it hits this client of a group that it hits: the share, evenly spread.
    pub fn hits_client(&self, index: u32) -> bool {
        let upto = |count: u64| (count as f64 * self.share + ROUNDING).floor();
        upto(u64::from(index) + 1) > upto(u64::from(index))
    }

    /// The load, and its parts as far as they are known before: what comes before the storm, and
    /// the rest.
    pub fn course(&self) -> Course {
        let before_ns = self.before.as_nanos() as u64;
        let mut course = Course::steady();
        for (begin_ns, end_ns) in [(0, before_ns), (before_ns, FOREVER_NS)] {
            course.add_segment(Segment { begin_ns, end_ns });
        }
        course
    }

    /// The longest that a run takes: the good seconds that show the recovery come after it.
    pub fn span_max(&self) -> Duration {
        self.before + self.within + Duration::from_secs(GOOD_S + 1)
    }

    /// A limit that is known second by second.
    pub fn limit(text: &str) -> Result<Threshold, Complaint> {
        let limit = Threshold::parse(text)?;
        match is_of_seconds(&limit) {
            true => Ok(limit),
            false => Err(Complaint::new(
                format!("has `{text}`, which is not known second by second"),
                "use latency.pN, latency.max, received, rate, broker.cpu or broker.memory",
            )),
        }
    }
}

/// Whether a limit is known second by second.
pub fn is_of_seconds(limit: &Threshold) -> bool {
    match limit.metric {
        Metric::Time(Timed::Latency, Point::Quantile(_) | Point::Max) => true,
        Metric::Rate | Metric::Received | Metric::Cpu | Metric::Memory => {
            limit.group.is_none() && !limit.is_share
        }
        Metric::Time(..)
        | Metric::Fault(_)
        | Metric::Troubles
        | Metric::CpuPerDelivery
        | Metric::MemorySlope
        | Metric::LatencySlope => false,
    }
}

impl Event {
    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Event, Complaint> {
        let known = EVENTS.iter().find(|(_, name)| *name == text);
        known
            .map(|(event, _)| *event)
            .ok_or_else(|| Complaint::new(format!("is `{text}`"), "write cut, silence or takeover"))
    }

    /// As a user would write it.
    pub fn show(self) -> &'static str {
        let known = EVENTS.iter().find(|(event, _)| *event == self);
        known.expect("every event has a name").1
    }

    /// The sockets stay open.
    pub fn leaves_sockets(self) -> bool {
        match self {
            Event::Cut => false,
            Event::Silence | Event::Takeover => true,
        }
    }
}

impl Backoff {
    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Backoff, Complaint> {
        let wrong = || {
            let what = format!("is `{text}`, which is no back-off");
            Complaint::new(what, BACKOFF_FIX)
        };
        let inside = text.trim().strip_prefix("exp(");
        let inside = inside.and_then(|text| text.strip_suffix(')'));
        let parts: Vec<&str> = inside
            .ok_or_else(wrong)?
            .split(',')
            .map(str::trim)
            .collect();
        let [base, factor, most, jitter] = parts[..] else {
            return Err(wrong());
        };
        let factor = factor.parse::<f64>().ok();
        let factor = factor.filter(|factor| (1.0..=FACTOR_MAX).contains(factor));
        let jitter = match jitter {
            "full" => Jitter::Full,
            "equal" => Jitter::Equal,
            "none" => Jitter::None,
            _ => return Err(wrong()),
        };
        let backoff = Backoff {
            base: value::span(base).map_err(|_| wrong())?,
            factor: factor.ok_or_else(wrong)?,
            most: value::span(most).map_err(|_| wrong())?,
            jitter,
        };
        // Clients that try again at once would do nothing else.
        if backoff.base < WAIT_MIN || backoff.most < backoff.base {
            let what = format!("is `{text}`, whose times are too short or the wrong way round");
            return Err(Complaint::new(what, BACKOFF_FIX));
        }
        Ok(backoff)
    }

    /// As a user would write it.
    pub fn show(&self) -> String {
        let (base, most) = (value::show_span(self.base), value::show_span(self.most));
        let jitter = match self.jitter {
            Jitter::Full => "full",
            Jitter::Equal => "equal",
            Jitter::None => "none",
        };
        format!("exp({base}, {}, {most}, {jitter})", self.factor)
    }

    /// How long to wait after so many attempts; `draw` is any number, as random as can be.
    pub fn wait_ns(&self, attempts: u32, draw: u64) -> u64 {
        let grown = self.base.as_nanos() as f64 * self.factor.powf(f64::from(attempts));
        let wait = grown.min(self.most.as_nanos() as f64);
        let share = (draw >> 11) as f64 / (1u64 << 53) as f64;
        let drawn = match self.jitter {
            Jitter::Full => wait * share,
            Jitter::Equal => wait / 2.0 + wait / 2.0 * share,
            Jitter::None => wait,
        };
        drawn as u64
    }
}

/// `50 %`, as a share of all; above 0.
pub fn share(text: &str) -> Result<f64, Complaint> {
    let number = text.trim().strip_suffix('%').map(str::trim_end);
    let number = number.and_then(|number| number.parse::<f64>().ok());
    match number.filter(|number| *number > 0.0 && *number <= 100.0) {
        Some(number) => Ok(number / 100.0),
        None => Err(Complaint::new(
            format!("is `{text}`, which is no share"),
            "write a share above 0 such as 50 %, and 100 % at most",
        )),
    }
}

/// A share as a user would write it.
pub fn show_share(share: f64) -> String {
    format!("{} %", super::stage::percent(share))
}

impl Scenario {
    /// The scenario with a storm that comes from the command line: what ends connections by
    /// schedule goes, as do stages; limits that are known second by second become those of a good
    /// second, if there are no others.
    pub fn into_storm(mut self) -> Scenario {
        if self.storm.is_none() && !self.name.ends_with("storm") {
            self.name += "-storm";
        }
        if self.storm.is_none() {
            self.about += " (as a storm)";
        }
        let mut storm = self.storm.take().unwrap_or_default();
        if storm.limits.is_empty() {
            let (of_seconds, others) = self.thresholds.drain(..).partition(is_of_seconds);
            (storm.limits, self.thresholds) = (of_seconds, others);
        }
        self.storm = Some(storm);
        self.stages.clear();
        for key in ["warmup", "duration"] {
            self.places.remove(key);
        }
        for group in &mut self.groups {
            group.cut_every = None;
            group.cut_for = Duration::ZERO;
        }
        self
    }

    /// What is wrong with a storm in this scenario.
    pub(super) fn check_storm(&self, problems: &mut Vec<Problem>) {
        let Some(storm) = &self.storm else {
            return;
        };
        for name in &storm.of {
            if !self.groups.iter().any(|group| group.name == *name) {
                let names: Vec<&str> = self.groups.iter().map(|group| &*group.name).collect();
                let what = format!("names `{name}`, which is no group");
                let fix = format!("the groups are {}", names.join(", "));
                problems.push(storm.complain("of", what, fix));
            }
        }
        let whole = |span: Duration| span.subsec_nanos() == 0 && !span.is_zero();
        for (key, span) in [("before", storm.before), ("within", storm.within)] {
            if !whole(span) {
                let what = "is not a number of whole seconds, and seconds are looked at as a whole";
                problems.push(storm.complain(key, what, "write such as \"5s\""));
            }
        }
        for limit in &storm.limits {
            if let Some(complaint) = self.check_threshold(limit, false) {
                problems.push(storm.complain("slo", complaint.what, complaint.fix));
            }
        }
        if !self.stages.is_empty() || self.restarts {
            let what = "does not fit a scenario with stages or `restarts`";
            problems.push(storm.complain("event", what, "remove the one or the other"));
        }
        for key in ["warmup", "duration"] {
            if self.places.contains_key(key) {
                let what = "is set, and the storm says how long the run is";
                problems.push(self.complain(key, what, "remove it, and see storm.before"));
            }
        }
        for group in &self.groups {
            check_group(storm, group, problems);
        }
    }
}

fn check_group(storm: &Storm, group: &Group, problems: &mut Vec<Problem>) {
    let is_hit = storm.hits(group);
    let own_ends = group.cut_every.is_some() || group.online.is_some();
    for (key, is_set, fix) in [
        (
            "messages",
            group.messages.is_some(),
            "remove it: the storm ends the run",
        ),
        (
            "start",
            group.start == Start::Window,
            "write start = \"first\"",
        ),
        (
            "cut_every",
            is_hit && group.cut_every.is_some(),
            OWN_ENDS_FIX,
        ),
        ("online", is_hit && group.online.is_some(), OWN_ENDS_FIX),
        (
            "client_id",
            is_hit
                && !own_ends
                && storm.event == Event::Takeover
                && group.client_id.as_str().is_empty(),
            "write a pattern: nobody takes over an identifier that is always a new one",
        ),
    ] {
        if is_set {
            let what = "does not fit a storm";
            problems.push(group.complain(key, what, fix));
        }
    }
}

/// How many good seconds in a row show that a broker has recovered.
pub const GOOD_S: u64 = 5;
/// The end of a part that goes on.
const FOREVER_NS: u64 = u64::MAX / 4;
/// Shares of large groups are not exact.
const ROUNDING: f64 = 1e-9;
/// A tenfold wait after one failure is a typing error.
const FACTOR_MAX: f64 = 10.0;
const WAIT_MIN: Duration = Duration::from_millis(1);
const BACKOFF_FIX: &str = "write exp(BASE, FACTOR, MOST, full|equal|none), such as \
                           \"exp(1s, 2, 60s, full)\"";
const OWN_ENDS_FIX: &str = "remove it, or leave the group out with storm.of";
const EVENTS: [(Event, &str); 3] = [
    (Event::Cut, "cut"),
    (Event::Silence, "silence"),
    (Event::Takeover, "takeover"),
];

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;
    use crate::payload::mix;

    #[test]
    fn a_back_off_reads_back() {
        for text in [
            "exp(1s, 2, 60s, full)",
            "exp(500ms, 1.5, 1m, equal)",
            "exp(20s, 1, 20s, none)",
        ] {
            let backoff = Backoff::parse(text).unwrap();
            assert_eq!(Backoff::parse(&backoff.show()).unwrap(), backoff, "{text}");
        }
        assert_eq!(Backoff::default().show(), "exp(1s, 2, 1m, full)");
        for text in [
            "",
            "1s",
            "exp(1s, 2, 60s)",
            "exp(1s, 0.5, 60s, full)",
            "exp(60s, 2, 1s, full)",
            "exp(0, 2, 1s, full)",
            "exp(1s, 2, 60s, some)",
            "exp(1s, 2, 60s, full",
        ] {
            assert!(Backoff::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn waits_grow_up_to_the_longest_and_lie_where_their_jitter_says() {
        for (text, attempts, low_ms, high_ms) in [
            ("exp(1s, 2, 60s, none)", 0, 1000, 1000),
            ("exp(1s, 2, 60s, none)", 3, 8000, 8000),
            ("exp(1s, 2, 60s, none)", 6, 60_000, 60_000),
            ("exp(1s, 2, 60s, none)", u32::MAX, 60_000, 60_000),
            ("exp(1s, 2, 60s, full)", 2, 0, 4000),
            ("exp(1s, 2, 60s, equal)", 2, 2000, 4000),
            ("exp(7s, 1, 60s, none)", 9, 7000, 7000),
        ] {
            let backoff = Backoff::parse(text).unwrap();
            let waits = (0..2000).map(|n| backoff.wait_ns(attempts, mix(n)) / 1_000_000);
            let waits: Vec<u64> = waits.collect();
            let (least, most) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
            let near = (high_ms - low_ms) / 50;
            assert!((low_ms..=low_ms + near).contains(&least), "{text}: {least}");
            assert!((high_ms - near..=high_ms).contains(&most), "{text}: {most}");
        }
    }

    #[test]
    fn a_share_of_the_clients_is_spread_and_exact() {
        for (share, clients, expected) in [(1.0, 7, 7), (0.5, 10, 5), (0.1, 100, 10), (0.3, 10, 3)]
        {
            let storm = Storm {
                share,
                ..Storm::default()
            };
            let hit = (0..clients).filter(|index| storm.hits_client(*index));
            assert_eq!(hit.count(), expected, "{share} of {clients}");
        }
        assert_eq!(super::share("37.5%").unwrap(), 0.375);
        for text in ["0 %", "101 %", "50", "x %"] {
            assert!(super::share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_storm_in_a_file_reads_back() {
        let text = "[storm]\nevent = \"takeover\"\nshare = \"40 %\"\nof = [\"d\"]\n\
                    backoff = \"exp(2s, 3, 40s, equal)\"\nbefore = \"3s\"\nwithin = \"30s\"\n\
                    back = \"95 %\"\nslo = [\"latency.p99 < 5ms\"]\n\
                    [[group]]\nname = \"d\"\nclients = 5\nsubscribe = \"t\"\n";
        let scenario = file::parse("f.toml", text).unwrap();
        assert!(scenario.check().is_empty(), "{:?}", scenario.check());
        let again = file::parse("g.toml", &scenario.to_toml()).unwrap();
        assert_eq!(scenario.to_toml(), again.to_toml());
        let storm = again.storm.unwrap();
        assert_eq!(
            (storm.event, storm.share, storm.back),
            (Event::Takeover, 0.4, 0.95)
        );
        assert_eq!(storm.limits[0].as_str(), "latency.p99 < 5ms");
        assert_eq!(storm.span_max(), Duration::from_secs(3 + 30 + 6));
    }

    #[test]
    fn limits_of_seconds_become_those_of_a_good_second() {
        let text = "thresholds = [\"latency.p99 < 5ms\", \"lost = 0\"]\nduration = \"20s\"\n\
                    [[group]]\nname = \"d\"\nsubscribe = \"t\"\ncut_every = \"5s\"\n";
        let scenario = file::parse("f.toml", text).unwrap().into_storm();
        assert!(scenario.check().is_empty(), "{:?}", scenario.check());
        let storm = scenario.storm.as_ref().unwrap();
        assert_eq!(storm.limits[0].as_str(), "latency.p99 < 5ms");
        assert_eq!(scenario.thresholds[0].as_str(), "lost = 0");
        assert_eq!(scenario.groups[0].cut_every, None);
    }

    #[test]
    fn what_does_not_fit_a_storm_is_named() {
        for (text, expected) in [
            ("of = [\"x\"]", "storm.of names `x`, which is no group"),
            ("before = \"500ms\"", "storm.before is not a number"),
            ("event = \"flood\"", "storm.event is `flood`"),
            (
                "slo = [\"lost = 0\"]",
                "storm.slo has `lost = 0`, which is not known",
            ),
            ("back = \"200 %\"", "storm.back is `200 %`"),
            ("backof = \"\"", "storm.backof is not a key\n"),
        ] {
            let text = format!("[storm]\n{text}\n[[group]]\nname = \"d\"\nsubscribe = \"t\"\n");
            let problems = match file::parse("f.toml", &text) {
                Ok(scenario) => scenario.check(),
                Err(problems) => problems,
            };
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            let said = problems[0].to_string();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
