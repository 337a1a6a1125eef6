//! Judges thresholds: what a run, a stage or a trial of a search has measured, against what it had
//! to keep to.

use crate::capacity::slope::theil_sen;
use crate::report::{Judgement, Verdict};
use crate::scenario::threshold::{Fault, Metric, Point, Threshold, Timed};
use crate::times::Times;

/// What thresholds are judged by. A group is a name in the scenario; `None` stands for all of them.
pub trait Measured {
    /// Times of all that happened.
    fn times(&self, group: Option<&str>, timed: Timed) -> Times;

    /// Deliveries that went wrong, and how many were owed.
    fn faults(&self, group: Option<&str>, fault: Fault) -> (u64, u64);

    /// Messages published per second.
    fn sent_per_s(&self, group: Option<&str>) -> f64;

    /// The share of the messages of an open loop that were published; `None` if none was due.
    fn schedule_kept(&self, group: Option<&str>) -> Option<f64>;

    /// Deliveries per second.
    fn received_per_s(&self, group: Option<&str>) -> f64;

    /// A figure of the broker or of the run as a whole; `None` if it is not known.
    fn of_run(&self, metric: Metric) -> Option<Figure>;
}

/// A figure, with its 95 % interval if it is an estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// The ends of its interval.
    pub interval: Option<(f64, f64)>,
}

/// What became of a limit.
pub fn judge(limit: &Threshold, measured: &dyn Measured) -> Verdict {
    let figure = figure(limit, measured);
    let (passed, shown) = match figure {
        None => (false, "not measured".to_owned()),
        Some(figure) => {
            let value = limit.show(figure.value);
            match figure.interval {
                None => (limit.holds(figure.value), value),
                Some((low, high)) => {
                    // Only what is beyond chance is missed.
                    let near = if limit.is_upper() { low } else { high };
                    let ends = (limit.show(low), limit.show(high));
                    let shown = format!("{value} (95 %: {} to {})", ends.0, ends.1);
                    (limit.holds(near), shown)
                }
            }
        }
    };
    Verdict {
        threshold: limit.as_str().to_owned(),
        stage: None,
        judgement: match passed {
            true => Judgement::Passed,
            false => Judgement::Missed,
        },
        value: figure.map(|figure| figure.value),
        shown,
    }
}

/// Of an invalid run nothing is judged: then no limit passes.
pub fn withhold(verdicts: &mut [Verdict]) {
    for verdict in verdicts {
        verdict.judgement = Judgement::NotJudged;
    }
}

fn figure(limit: &Threshold, measured: &dyn Measured) -> Option<Figure> {
    let group = limit.group.as_deref();
    let value = match limit.metric {
        Metric::Time(timed, point) => {
            let times = measured.times(group, timed);
            match point {
                Point::Quantile(share) => times.quantile(share).map(|us| us as f64),
                Point::Max => times.quantile(1.0).map(|us| us as f64),
                Point::Mean => times.mean(),
            }
        }
        Metric::Fault(fault) => {
            let (count, owed) = measured.faults(group, fault);
            match limit.is_share {
                true => (owed > 0).then(|| count as f64 / owed as f64),
                false => Some(count as f64),
            }
        }
        Metric::Rate if limit.is_share => measured.schedule_kept(group),
        Metric::Rate => Some(measured.sent_per_s(group)),
        Metric::Received => Some(measured.received_per_s(group)),
        Metric::Troubles
        | Metric::CpuPerDelivery
        | Metric::Cpu
        | Metric::Memory
        | Metric::MemorySlope
        | Metric::LatencySlope => return measured.of_run(limit.metric),
    };
    value.map(|value| Figure {
        value,
        interval: None,
    })
}

/// The slope of points (x, y) per unit of x, with its 95 % interval ([`theil_sen`]). `None` with less
/// than [`SLOPE_POINTS_MIN`] points.
pub fn slope(points: &[(f64, f64)]) -> Option<Figure> {
    if points.len() < SLOPE_POINTS_MIN {
        return None;
    }
    let slope = theil_sen(&thinned(points))?;
    Some(Figure {
        value: slope.slope,
        interval: Some((slope.low, slope.high)),
    })
}

/// Means of neighbours, so that a day of seconds does not make billions of pairs.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(SLOPE_POINTS_MAX);
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        let sum = |of: fn(&(f64, f64)) -> f64| chunk.iter().map(of).sum::<f64>();
        (sum(|point| point.0) / count, sum(|point| point.1) / count)
    };
    points.chunks(each).map(mean).collect()
}

/// A slope over less than half a minute is noise.
pub const SLOPE_POINTS_MIN: usize = 30;
const SLOPE_POINTS_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    /// A run with the same figures everywhere.
    struct Plain {
        us: u64,
        faults: (u64, u64),
        sent: f64,
        kept: Option<f64>,
        received: f64,
        of_run: Option<Figure>,
    }

    impl Measured for Plain {
        fn times(&self, group: Option<&str>, _: Timed) -> Times {
            let mut times = Times::default();
            if group != Some("silent") {
                (0..100).for_each(|n| times.record(self.us * (1 + n / 99)));
            }
            times
        }

        fn faults(&self, _: Option<&str>, _: Fault) -> (u64, u64) {
            self.faults
        }

        fn sent_per_s(&self, _: Option<&str>) -> f64 {
            self.sent
        }

        fn schedule_kept(&self, _: Option<&str>) -> Option<f64> {
            self.kept
        }

        fn received_per_s(&self, _: Option<&str>) -> f64 {
            self.received
        }

        fn of_run(&self, _: Metric) -> Option<Figure> {
            self.of_run
        }
    }

    /// Every metric in a limit that passes and one that is missed.
    #[test]
    fn each_limit_passes_and_is_missed() {
        let figure = |value| {
            Some(Figure {
                value,
                interval: None,
            })
        };
        let plain = Plain {
            us: 1000,
            faults: (3, 1000),
            sent: 990.0,
            kept: Some(0.99),
            received: 500.0,
            of_run: figure(2.0),
        };
        for (text, expected) in [
            ("latency.p99 < 1.1ms", true),
            ("latency.p99 < 1ms", false),
            ("latency.max < 1.5ms", false),
            ("latency.max <= 2.1ms", true),
            ("latency.mean < 1.1ms", true),
            ("latency.mean < 1ms", false),
            ("acknowledge.p50 < 2ms", true),
            ("acknowledge.p50 < 1us", false),
            ("connect.p90 < 2ms", true),
            ("connect.p90 > 2ms", false),
            ("silent: latency.p99 < 1s", false),
            ("lost = 0", false),
            ("lost <= 3", true),
            ("lost < 1 %", true),
            ("lost < 0.1 %", false),
            ("duplicated = 3", true),
            ("out_of_order < 3", false),
            ("corrupt < 4", true),
            ("misrouted > 3", false),
            ("rate >= 99 %", true),
            ("rate >= 99.5 %", false),
            ("rate >= 1000", false),
            ("rate > 900", true),
            ("received >= 500", true),
            ("received > 500", false),
            ("troubles <= 2", true),
            ("troubles = 0", false),
            ("broker.cpu_per_delivery < 3us", true),
            ("broker.cpu_per_delivery < 2us", false),
            ("broker.cpu <= 2", true),
            ("broker.cpu < 1.5", false),
            ("broker.memory < 1KiB", true),
            ("broker.memory < 1", false),
            ("broker.memory_slope < 1KiB/h", true),
            ("broker.memory_slope < 2/h", false),
            ("latency.slope < 3us/h", true),
            ("latency.slope < 2us/h", false),
        ] {
            let limit = Threshold::parse(text).unwrap();
            let verdict = judge(&limit, &plain);
            let passed = verdict.judgement == Judgement::Passed;
            assert_eq!(passed, expected, "{text}: {verdict:?}");
        }
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        let nothing = Plain {
            us: 1,
            faults: (0, 0),
            sent: 0.0,
            kept: None,
            received: 0.0,
            of_run: None,
        };
        for text in [
            "silent: latency.p99 < 1s",
            "lost < 1 %",
            "rate >= 99 %",
            "broker.memory < 1GiB",
        ] {
            let verdict = judge(&Threshold::parse(text).unwrap(), &nothing);
            assert_eq!(verdict.judgement, Judgement::Missed, "{text}");
            assert_eq!(
                (verdict.value, verdict.shown.as_str()),
                (None, "not measured")
            );
        }
        let mut verdicts = vec![judge(&Threshold::parse("lost = 0").unwrap(), &nothing)];
        assert_eq!(verdicts[0].judgement, Judgement::Passed);
        withhold(&mut verdicts);
        assert_eq!(verdicts[0].judgement, Judgement::NotJudged);
    }

    #[test]
    fn a_slope_is_missed_only_beyond_chance() {
        // One unit per step, with noise of ten and an outlier.
        let noise = |n: u64| (crate::payload::mix(n) % 20) as f64 - 10.0;
        let mut points: Vec<(f64, f64)> =
            (0..2000).map(|n| (n as f64, n as f64 + noise(n))).collect();
        points[1000].1 += 1e6;
        let figure = slope(&points).unwrap();
        let (low, high) = figure.interval.unwrap();
        assert!((figure.value - 1.0).abs() < 0.01, "{figure:?}");
        assert!(low < 1.0 && 1.0 < high && high - low < 0.05, "{figure:?}");
        assert_eq!(slope(&points[..SLOPE_POINTS_MIN - 1]), None);
        for (bound, expected) in [("990m", true), ("2", true), ("900m", false)] {
            let bound = match bound.strip_suffix('m') {
                Some(thousandths) => thousandths.parse::<f64>().unwrap() / 1000.0,
                None => bound.parse().unwrap(),
            };
            let mut limit = Threshold::parse("broker.memory_slope < 1/h").unwrap();
            limit.bound = bound;
            let near = Figure {
                value: 1.0,
                interval: Some((0.95, 1.05)),
            };
            let plain = Plain {
                us: 1,
                faults: (0, 0),
                sent: 0.0,
                kept: None,
                received: 0.0,
                of_run: Some(near),
            };
            let verdict = judge(&limit, &plain);
            assert_eq!(verdict.judgement == Judgement::Passed, expected, "{bound}");
            assert!(verdict.shown.contains("95 %"), "{}", verdict.shown);
        }
    }
}
