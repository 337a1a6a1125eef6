//! Thresholds: what a run has to keep to, as users write it.
//!
//! `latency.p99 < 5ms`, `lost = 0`, `devices: connect.p99 < 1s`, `rate >= 99 %`. Judging is left to
//! `verdict`.

use std::time::Duration;

use ringmq_problem::{Complaint, nearest};

use super::value;
use crate::report::Ledger;

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Of one group; `None`: of all.
    pub group: Option<String>,
    /// What is looked at.
    pub metric: Metric,
    /// How it compares.
    pub relation: Relation,
    /// With what, in the unit of the metric.
    pub bound: f64,
    /// `bound` is a share of what was owed or planned, 0 to 1.
    pub is_share: bool,
    /// As it was written, with single spaces.
    text: String,
}

/// What a threshold looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// A time, in microseconds.
    Time(Timed, Point),
    /// Deliveries that went wrong.
    Fault(Fault),
    /// Messages published per second; as a share, of what the schedule wanted.
    Rate,
    /// Deliveries per second.
    Received,
    /// Troubles of all kinds.
    Troubles,
    /// CPU of the broker per delivery, in microseconds.
    CpuPerDelivery,
    /// CPU of the broker, cores.
    Cpu,
    /// Largest resident memory of the broker, bytes.
    Memory,
    /// How fast that grows, bytes per hour.
    MemorySlope,
    /// How fast the latency of a second grows, microseconds per hour.
    LatencySlope,
}

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timed {
    /// From the time at which a message was due to its delivery.
    Latency,
    /// From PUBLISH to its last acknowledgement.
    Acknowledge,
    /// From dialling to CONNACK.
    Connect,
}

/// A point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point {
    /// The value that this share does not exceed.
    Quantile(f64),
    /// The mean.
    Mean,
    /// The largest.
    Max,
}

/// What may go wrong with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never came.
    Lost,
    /// It came again.
    Duplicated,
    /// It came after a later one.
    OutOfOrder,
    /// It is not what was published.
    Corrupt,
    /// It came to somebody else.
    Misrouted,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
}

/// A limit that ends the run when it is broken for some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Abort {
    /// What must not hold.
    pub threshold: Threshold,
    /// For how long, whole seconds.
    pub span: Duration,
}

impl Threshold {
    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Threshold, Complaint> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (group, rest) = match text.split_once(':') {
            Some((group, rest)) => (Some(group.trim().to_owned()), rest.trim()),
            None => (None, text.as_str()),
        };
        let (metric, relation, bound) = split(rest).ok_or_else(|| {
            let what = format!("has `{text}`, which compares nothing");
            Complaint::new(what, format!("write METRIC < VALUE, such as {EXAMPLES}"))
        })?;
        let metric = Metric::parse(metric)?;
        let (bound, is_share) = metric.bound(bound)?;
        let threshold = Threshold {
            group,
            metric,
            relation,
            bound,
            is_share,
            text,
        };
        match threshold.is_decided() {
            None => Ok(threshold),
            Some(word) => {
                let what = format!("has `{}`, which {word}", threshold.text);
                Err(Complaint::new(what, metric.fix_of_zero()))
            }
        }
    }

    /// What is never below zero, or never zero either, needs no run to tell: `never holds` or
    /// `always holds`.
    fn is_decided(&self) -> Option<&'static str> {
        if self.bound != 0.0 || self.metric.can_be_negative() {
            return None;
        }
        match self.relation {
            Relation::Below => Some("never holds"),
            Relation::AtLeast => Some("always holds"),
            Relation::AtMost | Relation::Equal if !self.metric.can_be_zero() => Some("never holds"),
            Relation::Above if !self.metric.can_be_zero() => Some("always holds"),
            Relation::AtMost | Relation::Equal | Relation::Above => None,
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a value keeps to it.
    pub fn holds(&self, value: f64) -> bool {
        match self.relation {
            Relation::Below => value < self.bound,
            Relation::AtMost => value <= self.bound,
            Relation::Equal => value == self.bound,
            Relation::AtLeast => value >= self.bound,
            Relation::Above => value > self.bound,
        }
    }

    /// Large values are bad ones.
    pub fn is_upper(&self) -> bool {
        match self.relation {
            Relation::Below | Relation::AtMost | Relation::Equal => true,
            Relation::AtLeast | Relation::Above => false,
        }
    }

    /// A value of its metric, for people.
    pub fn show(&self, value: f64) -> String {
        match self.metric {
            _ if self.is_share => format!("{} %", trimmed(value * 100.0)),
            Metric::Time(..) | Metric::CpuPerDelivery => show_micros(value),
            Metric::Fault(_) | Metric::Troubles => format!("{value:.0}"),
            Metric::Rate | Metric::Received => format!("{}/s", trimmed(value)),
            Metric::Cpu => format!("{value:.2} cores"),
            Metric::Memory => show_bytes(value),
            Metric::MemorySlope => format!("{}/h", show_bytes(value)),
            Metric::LatencySlope => format!("{}/h", show_micros(value)),
        }
    }
}

impl Fault {
    /// How often it happened.
    pub fn count(self, ledger: &Ledger) -> u64 {
        match self {
            Fault::Lost => ledger.lost,
            Fault::Duplicated => ledger.duplicated,
            Fault::OutOfOrder => ledger.out_of_order,
            Fault::Corrupt => ledger.corrupt,
            Fault::Misrouted => ledger.misrouted,
        }
    }
}

impl Abort {
    /// Reads `latency.p99 > 1s for 5s`.
    pub fn parse(text: &str) -> Result<Abort, Complaint> {
        let (limit, span) = text.rsplit_once(" for ").ok_or_else(|| {
            let what = format!("is `{text}`, which does not say for how long");
            Complaint::new(
                what,
                "write a limit and a time, such as latency.p99 > 1s for 5s",
            )
        })?;
        let threshold = Threshold::parse(limit)?;
        let span = value::span(span.trim())?;
        if span.is_zero() || span.subsec_nanos() > 0 {
            let what = format!("is `{text}`, and seconds are looked at as a whole");
            return Err(Complaint::new(what, "write whole seconds, from 1s on"));
        }
        match threshold.metric {
            Metric::Time(Timed::Latency, Point::Quantile(_) | Point::Max)
            | Metric::Rate
            | Metric::Received
            | Metric::Troubles
            | Metric::Cpu
            | Metric::Memory
                if threshold.group.is_none() && !threshold.is_share =>
            {
                Ok(Abort { threshold, span })
            }
            _ => Err(Complaint::new(
                format!("is `{text}`, which is not known second by second"),
                "use latency.pN, latency.max, rate, received, troubles, broker.cpu or \
                 broker.memory, of all groups",
            )),
        }
    }

    /// As a user would write it.
    pub fn show(&self) -> String {
        format!(
            "{} for {}",
            self.threshold.as_str(),
            value::show_span(self.span)
        )
    }
}

impl Metric {
    fn parse(text: &str) -> Result<Metric, Complaint> {
        if let Some((_, metric)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Ok(*metric);
        }
        let (name, point) = text.split_once('.').unwrap_or((text, ""));
        let timed = TIMED.iter().find(|(known, _)| *known == name);
        let Some((name, timed)) = timed else {
            let names = PLAIN.iter().map(|(name, _)| *name);
            let all = names.chain(TIMED.iter().map(|(name, _)| *name));
            let fix = match nearest(name, all) {
                Some(near) if TIMED.iter().any(|(name, _)| *name == near) => {
                    format!("did you mean `{near}.p99`?")
                }
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write such as {EXAMPLES}"),
            };
            let what = format!("has `{text}`, which is not measured");
            return Err(Complaint::new(what, fix));
        };
        match Point::parse(point) {
            Some(point) => Ok(Metric::Time(*timed, point)),
            None => Err(Complaint::new(
                format!("has `{text}`, which is no point of a distribution"),
                format!("write {name}.p99, with a number below 100, {name}.mean or {name}.max"),
            )),
        }
    }

    /// The value, and whether it is a share.
    fn bound(self, text: &str) -> Result<(f64, bool), Complaint> {
        if let Some(number) = text.strip_suffix('%') {
            let can = matches!(self, Metric::Fault(_) | Metric::Rate);
            let number = number.trim().parse::<f64>().ok().filter(|_| can);
            return match number.filter(|number| (0.0..=1e6).contains(number)) {
                Some(number) => Ok((number / 100.0, true)),
                None => Err(self.complain(text)),
            };
        }
        let span = |text: &str| value::span(text).map(|span| span.as_secs_f64() * 1e6);
        let value = match self {
            Metric::Time(..) => unit(text).then(|| span(text).ok()).flatten(),
            // Spans are whole nanoseconds, and so is what a delivery costs.
            Metric::CpuPerDelivery => match text.strip_suffix("ns") {
                Some(number) => number.trim().parse().ok().map(|ns: f64| ns / 1e3),
                None => unit(text).then(|| span(text).ok()).flatten(),
            },
            Metric::Fault(_) | Metric::Troubles => {
                let count = value::count(text, 0, u64::MAX >> 12);
                count.ok().map(|count| count as f64)
            }
            Metric::Rate | Metric::Received => match text {
                "0" => Some(0.0),
                text => value::rate(text).ok(),
            },
            Metric::Cpu => text.parse().ok(),
            Metric::Memory => bytes(text),
            Metric::MemorySlope => text.strip_suffix("/h").and_then(bytes),
            Metric::LatencySlope => {
                let text = text.strip_suffix("/h").filter(|text| unit(text));
                text.and_then(|text| span(text).ok())
            }
        };
        let value = value.filter(|value| value.is_finite() && *value >= 0.0);
        value
            .map(|value| (value, false))
            .ok_or_else(|| self.complain(text))
    }

    /// A slope may fall.
    fn can_be_negative(self) -> bool {
        matches!(self, Metric::MemorySlope | Metric::LatencySlope)
    }

    /// Whatever takes time or memory takes some.
    fn can_be_zero(self) -> bool {
        !matches!(
            self,
            Metric::Time(..) | Metric::CpuPerDelivery | Metric::Memory
        )
    }

    /// What to write in place of a limit of zero that a run cannot change.
    fn fix_of_zero(self) -> &'static str {
        match self {
            Metric::Time(..) => "write a time above 0, such as latency.p99 < 5ms",
            Metric::CpuPerDelivery => "write a time above 0, such as 2us",
            Metric::Memory => "write a size above 0, such as 512MiB",
            Metric::Fault(_) | Metric::Troubles => "write = 0 for none, or < and a limit above 0",
            Metric::Rate
            | Metric::Received
            | Metric::Cpu
            | Metric::MemorySlope
            | Metric::LatencySlope => "write a limit above 0",
        }
    }

    fn complain(self, text: &str) -> Complaint {
        let fix = match self {
            Metric::Time(..) => "write a time with its unit, such as 5ms",
            Metric::CpuPerDelivery => "write a time with its unit, such as 2us or 500ns",
            Metric::Fault(_) => "write a number, or a share of what was owed such as 0.1 %",
            Metric::Troubles => "write a number",
            Metric::Rate => "write messages per second, or a share of the schedule such as 99 %",
            Metric::Received => "write deliveries per second",
            Metric::Cpu => "write a number of cores, such as 1.5",
            Metric::Memory => "write a size, such as 512MiB",
            Metric::MemorySlope => "write a size per hour, such as 1MiB/h",
            Metric::LatencySlope => "write a time per hour, such as 1ms/h",
        };
        Complaint::new(
            format!("has `{text}`, which it cannot be compared with"),
            fix,
        )
    }

    /// It needs to know the processes of the broker.
    pub fn needs_pid(self) -> bool {
        match self {
            Metric::CpuPerDelivery | Metric::Cpu | Metric::Memory | Metric::MemorySlope => true,
            Metric::Time(..)
            | Metric::Fault(_)
            | Metric::Rate
            | Metric::Received
            | Metric::Troubles
            | Metric::LatencySlope => false,
        }
    }
}

impl Point {
    fn parse(text: &str) -> Option<Point> {
        match text {
            "mean" => Some(Point::Mean),
            "max" => Some(Point::Max),
            text => {
                let share: f64 = text.strip_prefix('p')?.parse().ok()?;
                let is_right = share > 0.0 && share < 100.0;
                // 99.9 / 100 is not 0.999.
                is_right.then_some(Point::Quantile((share * 1e6).round() / 1e8))
            }
        }
    }
}

/// `a < b`, in three.
fn split(text: &str) -> Option<(&str, Relation, &str)> {
    let at = text.find(['<', '>', '='])?;
    let (metric, rest) = text.split_at(at);
    let signs = [
        ("<=", Relation::AtMost),
        (">=", Relation::AtLeast),
        ("==", Relation::Equal),
        ("<", Relation::Below),
        (">", Relation::Above),
        ("=", Relation::Equal),
    ];
    let (sign, relation) = signs.iter().find(|(sign, _)| rest.starts_with(sign))?;
    let bound = rest[sign.len()..].trim();
    let (metric, is_whole) = (metric.trim(), !bound.is_empty());
    (!metric.is_empty() && is_whole).then_some((metric, *relation, bound))
}

/// A time has its unit: `5` might be meant in any.
fn unit(text: &str) -> bool {
    text == "0" || text.ends_with(|c: char| c.is_ascii_alphabetic())
}

fn bytes(text: &str) -> Option<f64> {
    value::size(text.trim(), 1 << 60)
        .ok()
        .map(|size| size as f64)
}

fn show_micros(us: f64) -> String {
    match us.abs() {
        n if n >= 1e6 => format!("{} s", trimmed(us / 1e6)),
        n if n >= 1e3 => format!("{} ms", trimmed(us / 1e3)),
        _ => format!("{} us", trimmed(us)),
    }
}

fn show_bytes(bytes: f64) -> String {
    match bytes.abs() {
        n if n >= f64::from(1 << 30) => format!("{} GiB", trimmed(bytes / f64::from(1 << 30))),
        n if n >= f64::from(1 << 20) => format!("{} MiB", trimmed(bytes / f64::from(1 << 20))),
        _ => format!("{} KiB", trimmed(bytes / 1024.0)),
    }
}

/// Three digits or so, without zeros at the end.
fn trimmed(number: f64) -> String {
    let text = match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.3}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

const EXAMPLES: &str = "latency.p99 < 5ms, lost = 0 or rate >= 99 %";
const TIMED: [(&str, Timed); 3] = [
    ("latency", Timed::Latency),
    ("acknowledge", Timed::Acknowledge),
    ("connect", Timed::Connect),
];
const PLAIN: [(&str, Metric); 13] = [
    ("lost", Metric::Fault(Fault::Lost)),
    ("duplicated", Metric::Fault(Fault::Duplicated)),
    ("out_of_order", Metric::Fault(Fault::OutOfOrder)),
    ("corrupt", Metric::Fault(Fault::Corrupt)),
    ("misrouted", Metric::Fault(Fault::Misrouted)),
    ("rate", Metric::Rate),
    ("received", Metric::Received),
    ("troubles", Metric::Troubles),
    ("broker.cpu_per_delivery", Metric::CpuPerDelivery),
    ("broker.cpu", Metric::Cpu),
    ("broker.memory", Metric::Memory),
    ("broker.memory_slope", Metric::MemorySlope),
    ("latency.slope", Metric::LatencySlope),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_with_their_units() {
        use Metric::*;
        for (text, group, metric, bound, is_share) in [
            (
                "latency.p99 < 5ms",
                None,
                Time(Timed::Latency, Point::Quantile(0.99)),
                5000.0,
                false,
            ),
            (
                "devices: connect.p99.9<=1s",
                Some("devices"),
                Time(Timed::Connect, Point::Quantile(0.999)),
                1e6,
                false,
            ),
            (
                "acknowledge.max < 1s",
                None,
                Time(Timed::Acknowledge, Point::Max),
                1e6,
                false,
            ),
            (
                "lost = 0",
                None,
                Metric::Fault(super::Fault::Lost),
                0.0,
                false,
            ),
            (
                "lost < 0.1 %",
                None,
                Metric::Fault(super::Fault::Lost),
                0.001,
                true,
            ),
            ("rate >= 99 %", None, Rate, 0.99, true),
            ("rate >= 20k", None, Rate, 20_000.0, false),
            (
                "broker.cpu_per_delivery < 2us",
                None,
                CpuPerDelivery,
                2.0,
                false,
            ),
            (
                "broker.cpu_per_delivery < 500ns",
                None,
                CpuPerDelivery,
                0.5,
                false,
            ),
            (
                "broker.memory_slope < 1MiB/h",
                None,
                MemorySlope,
                1_048_576.0,
                false,
            ),
            ("latency.slope < 1ms/h", None, LatencySlope, 1000.0, false),
            ("broker.memory < 1GiB", None, Memory, 1_073_741_824.0, false),
        ] {
            let read = Threshold::parse(text).unwrap();
            assert_eq!(read.group.as_deref(), group, "{text}");
            assert_eq!((read.metric, read.is_share), (metric, is_share), "{text}");
            assert!((read.bound - bound).abs() < 1e-9, "{text}: {}", read.bound);
        }
    }

    #[test]
    fn wrong_thresholds_say_what_to_write() {
        for (text, what, fix) in [
            ("latency.p99", "compares nothing", "write METRIC < VALUE"),
            ("< 5ms", "compares nothing", "write METRIC < VALUE"),
            ("latency.p99 <", "compares nothing", "write METRIC < VALUE"),
            (
                "latncy.p99 < 5ms",
                "`latncy.p99`, which is not measured",
                "did you mean `latency.p99`?",
            ),
            (
                "lots = 0",
                "`lots`, which is not measured",
                "did you mean `lost`?",
            ),
            (
                "latency.p100 < 5ms",
                "no point of a distribution",
                "write latency.p99",
            ),
            (
                "latency.p99 < 5",
                "`5`, which it cannot be compared with",
                "write a time with its unit",
            ),
            (
                "latency.p99 < 5 %",
                "cannot be compared",
                "write a time with its unit",
            ),
            ("lost = 1s", "cannot be compared", "write a number"),
            (
                "broker.memory_slope < 1MiB",
                "cannot be compared",
                "such as 1MiB/h",
            ),
        ] {
            let complaint = Threshold::parse(text).unwrap_err();
            assert!(complaint.what.contains(what), "{text}: {complaint:?}");
            assert!(complaint.fix.contains(fix), "{text}: {complaint:?}");
        }
    }

    #[test]
    fn what_no_run_can_change_is_no_limit() {
        for (text, what) in [
            ("latency.p99 < 0ms", "never holds"),
            ("latency.p99 <= 0us", "never holds"),
            ("connect.max > 0s", "always holds"),
            ("lost < 0", "never holds"),
            ("lost < 0 %", "never holds"),
            ("rate >= 0", "always holds"),
            ("broker.memory = 0", "never holds"),
            ("latency.p99 > 0ms for 5s", "always holds"),
        ] {
            let complaint = match text.contains(" for ") {
                true => Abort::parse(text).unwrap_err(),
                false => Threshold::parse(text).unwrap_err(),
            };
            assert!(complaint.what.contains(what), "{text}: {complaint:?}");
            assert!(complaint.fix.contains("0"), "{text}: {complaint:?}");
        }
        for text in [
            "lost = 0",
            "lost <= 0 %",
            "received > 0",
            "received = 0",
            "broker.memory_slope < 0/h",
            "latency.slope <= 0/h",
        ] {
            assert!(Threshold::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_limit_ends_the_run_only_if_seconds_tell_it() {
        let abort = Abort::parse("latency.p99 > 1s for 5s").unwrap();
        assert_eq!(abort.show(), "latency.p99 > 1s for 5s");
        assert_eq!(abort.span, Duration::from_secs(5));
        for text in [
            "latency.p99 > 1s",
            "latency.p99 > 1s for 500ms",
            "latency.p99 > 1s for 0s",
            "lost > 0 for 5s",
            "g: latency.p99 > 1s for 5s",
            "latency.mean > 1s for 5s",
        ] {
            assert!(Abort::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_shown_in_their_units() {
        for (text, value, expected) in [
            ("latency.p99 < 5ms", 1234.0, "1.234 ms"),
            ("latency.p99 < 5ms", 85.0, "85 us"),
            ("lost = 0", 3.0, "3"),
            ("lost < 1 %", 0.0005, "0.05 %"),
            ("rate >= 99 %", 0.995, "99.5 %"),
            ("rate >= 20k", 20_000.0, "20000/s"),
            ("broker.memory_slope < 1MiB/h", 2_097_152.0, "2 MiB/h"),
        ] {
            assert_eq!(Threshold::parse(text).unwrap().show(value), expected);
        }
    }
}
