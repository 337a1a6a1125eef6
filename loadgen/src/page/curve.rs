//! Latency by percentile, with what can be said about it: the curve ends where few values are left,
//! and its 95 % interval is shown.

use super::plot::{Axis, Band, Line, LinePlot, Look, Plot, interpolate};
use super::plots::{is_open_loop, log_axis, max_of};
use super::subject::Subject;
use crate::report::{Buckets, Latency, LatencyPair, ResultFile};

/// The curves of all subjects; of one alone, both views of it, or its QoS levels.
pub(super) fn latency(subjects: &[Subject]) -> Option<Plot> {
    let curves: Vec<Curve> = match subjects {
        [only] => views_of(only),
        many => {
            let curve = |subject: &Subject| {
                let file = subject.typical();
                let latency = file.totals.latency.as_ref()?;
                let mut curve = Curve::of(&subject.label, subject.color, &latency.corrected, file)?;
                if subject.is_invalid() {
                    curve.line.look = Look::Dashed;
                }
                Some(curve)
            };
            many.iter().filter_map(curve).collect()
        }
    };
    let (lines, bands): (Vec<Line>, Vec<Band>) = curves
        .into_iter()
        .map(|curve| (curve.line, curve.band))
        .unzip();
    let x_max = max_of(&lines, |point| point.0)?;
    let median = 2_f64.log10();
    let ticks = std::iter::once(median).chain((1..=7).map(f64::from));
    let x = Axis {
        range: 0.0..x_max,
        ticks: ticks.filter(|x| *x <= x_max).collect(),
        text: |x| format!("p{}", percent(x)),
    };
    let mut plot = LinePlot::new("Latency by percentile", x, log_axis(&lines)?);
    plot.bands = bands;
    plot.stops = stops(x_max);
    Some(plot.draw(&lines))
}

/// A curve and where it may as well lie.
struct Curve {
    line: Line,
    band: Band,
}

fn views_of(subject: &Subject) -> Vec<Curve> {
    let file = subject.typical();
    let views: Vec<(String, &Latency)> = match (&file.qos[..], &file.totals.latency) {
        ([_, _, ..], _) => {
            let qos = file.qos.iter();
            let of_qos = qos.filter_map(|q| Some((q.qos, &q.latency.as_ref()?.corrected)));
            of_qos.map(|(qos, l)| (format!("QoS {qos}"), l)).collect()
        }
        (_, Some(LatencyPair { corrected, .. })) if !is_open_loop(file) => {
            vec![(subject.label.clone(), corrected)]
        }
        (
            _,
            Some(LatencyPair {
                corrected,
                uncorrected,
            }),
        ) => vec![
            ("from when it was due".to_owned(), corrected),
            ("from when it was sent".to_owned(), uncorrected),
        ],
        (_, None) => Vec::new(),
    };
    let curves = views.iter().zip(["s1", "s2", "s3"]);
    curves
        .filter_map(|((name, latency), color)| Curve::of(name, color, latency, file))
        .collect()
}

impl Curve {
    /// `None` with too few values for any percentile.
    fn of(name: &str, color: &'static str, latency: &Latency, file: &ResultFile) -> Option<Curve> {
        let end = end_of(latency.count);
        if end < 2_f64.log10() {
            return None;
        }
        let all = quantiles(latency);
        let mut points: Vec<(f64, f64)> = all.iter().copied().filter(|p| p.0 < end).collect();
        points.extend(interpolate(&all, end).map(|y| (end, y)));
        let tails = Tails::of(file);
        let band = points.iter().filter_map(|&(x, y)| {
            let (low, high) = interval(x, latency.count, tails.inflation(10_f64.powf(y)));
            let within = |x: f64| interpolate(&all, x.min(all.last()?.0));
            Some((x, within(low)?, within(high)?))
        });
        Some(Curve {
            band: Band {
                color,
                points: band.collect(),
            },
            line: Line {
                name: name.to_owned(),
                color,
                look: Look::Solid,
                points,
            },
        })
    }
}

/// The last percentile of so many values that is shown.
fn end_of(count: u64) -> f64 {
    (count as f64 / VALUES_LEFT).log10()
}

/// Percentiles as `-log10(1 - p)`, so that each further nine takes the same room; times as
/// logarithms. Up to the largest value, which stands where one in n is.
fn quantiles(latency: &Latency) -> Vec<(f64, f64)> {
    let named = [
        (0.0, latency.min_us),
        (50.0, latency.p50_us),
        (90.0, latency.p90_us),
        (99.0, latency.p99_us),
        (99.9, latency.p999_us),
        (99.99, latency.p9999_us),
        (100.0, latency.max_us),
    ];
    let points = match &latency.curve[..] {
        [] => &named[..],
        curve => curve,
    };
    let end = (latency.count as f64).log10();
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (percentile, us) in points {
        let x = (-(1.0 - percentile / 100.0).log10()).clamp(0.0, end);
        let y = (*us).max(1) as f64;
        if line.last().is_none_or(|last| last.0 < x) {
            line.push((x, y.log10()));
        }
    }
    line
}

/// The 95 % interval of a percentile, as percentiles: the share of values beyond it is binomial,
/// with a variance that is larger by `inflation`.
fn interval(x: f64, count: u64, inflation: f64) -> (f64, f64) {
    let beyond = 10_f64.powf(-x);
    let half = 1.96 * (inflation * beyond * (1.0 - beyond) / count as f64).sqrt();
    let place = |beyond: f64| -beyond.clamp(1.0 / count as f64, 1.0).log10();
    (place(beyond + half), place(beyond - half))
}

/// How slow deliveries are spread over the seconds of the window.
struct Tails<'a> {
    seconds: Vec<&'a Buckets>,
}

impl Tails<'_> {
    fn of(file: &ResultFile) -> Tails<'_> {
        let begin = file.run.phases.warmup_s;
        let window = begin..begin + file.run.phases.window_s;
        let seconds = file
            .timeline
            .iter()
            .filter(|second| window.contains(&second.at_s));
        Tails {
            seconds: seconds
                .filter_map(|second| second.latencies.as_ref())
                .collect(),
        }
    }

    /// Slow deliveries come in bunches, so that a second tells less than its many values seem to:
    /// by how much the share of those above `us` varies more from second to second than by chance.
    fn inflation(&self, us: f64) -> f64 {
        let from = Buckets::number(us as u64);
        let counts: Vec<(f64, f64)> = self
            .seconds
            .iter()
            .map(|buckets| {
                let all: u64 = buckets.counts.iter().sum();
                let above = buckets.iter().filter(|(number, _)| *number >= from);
                (
                    above.map(|(_, count)| count).sum::<u64>() as f64,
                    all as f64,
                )
            })
            .collect();
        let above: f64 = counts.iter().map(|count| count.0).sum();
        let all: f64 = counts.iter().map(|count| count.1).sum();
        let share = above / all;
        if counts.len() < SECONDS_MIN || !(share > 0.0 && share < 1.0) {
            return 1.0;
        }
        let squares = counts
            .iter()
            .map(|(above, all)| (above - share * all).powi(2));
        let variance = squares.sum::<f64>() / (counts.len() - 1) as f64;
        let by_chance = all / counts.len() as f64 * share * (1.0 - share);
        (variance / by_chance).max(1.0)
    }
}

/// `99.9` at 3: as many digits as tell it from its neighbours.
fn percent(x: f64) -> String {
    let decimals = if x.fract() == 0.0 {
        x - 2.0
    } else {
        x.floor() - 1.0
    };
    let decimals = decimals.max(0.0) as usize;
    format!("{:.*}", decimals, 100.0 * (1.0 - 10_f64.powf(-x)))
}

fn stops(x_max: f64) -> Vec<f64> {
    let median = 2_f64.log10();
    let mut stops: Vec<f64> = (0..)
        .map(|n| f64::from(n) / 10.0)
        .take_while(|x| *x <= x_max)
        .collect();
    stops[..]
        .iter_mut()
        .filter(|x| (**x - median).abs() < 0.01)
        .for_each(|x| *x = median);
    stops
}

/// A curve ends where so many values are left: what lies beyond is one bad moment, not a property
/// of the broker.
const VALUES_LEFT: f64 = 10.0;
/// With fewer of them nothing is known about bunches.
const SECONDS_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_as_many_nines_as_they_need() {
        for (x, expected) in [
            (0.0, "0"),
            (2_f64.log10(), "50"),
            (1.0, "90"),
            (1.5, "97"),
            (2.0, "99"),
            (2.5, "99.7"),
            (3.0, "99.9"),
            (4.0, "99.99"),
            (4.5, "99.997"),
        ] {
            assert_eq!(percent(x), expected, "{x}");
        }
    }

    #[test]
    fn an_interval_is_that_of_the_binomial_distribution() {
        // 1 % of 100,000 is 1,000, give or take 1.96 x 31.5.
        let (low, high) = interval(2.0, 100_000, 1.0);
        let beyond = |x: f64| (10_f64.powf(-x) * 100_000.0).round();
        assert_eq!((beyond(low), beyond(high)), (1062.0, 938.0));
        let (wide, _) = interval(2.0, 100_000, 4.0);
        assert_eq!(
            beyond(wide),
            1123.0,
            "four times the variance, twice the width"
        );
        let (_, end) = interval(4.9, 100_000, 100.0);
        assert_eq!(beyond(end), 1.0, "no further than the largest value");
    }

    #[test]
    fn a_curve_ends_where_ten_values_are_left() {
        let subject = |count: u64| {
            let latency = Latency {
                count,
                min_us: 40,
                p50_us: 100,
                p90_us: 180,
                p99_us: 400,
                p999_us: 900,
                p9999_us: 2000,
                max_us: 3000,
                ..Latency::default()
            };
            quantiles(&latency)
        };
        let all = subject(350_000);
        assert_eq!(
            all.last().unwrap().0,
            350_000_f64.log10(),
            "the largest value"
        );
        assert!(end_of(350_000) < all.last().unwrap().0);
        assert_eq!((end_of(350_000) * 100.0).round(), 454.0, "p99.997");
        assert!(end_of(10) <= 0.0);
    }

    #[test]
    fn slow_deliveries_in_one_second_say_less_than_in_all() {
        let second = |slow: u64| {
            let mut buckets = Buckets::default();
            buckets.add(100, 10_000 - slow);
            buckets.add(10_000, slow);
            buckets
        };
        let inflation = |slow: [u64; 5]| {
            let seconds: Vec<Buckets> = slow.into_iter().map(second).collect();
            let tails = Tails {
                seconds: seconds.iter().collect(),
            };
            tails.inflation(5_000.0)
        };
        assert_eq!(inflation([100, 100, 100, 100, 100]), 1.0);
        assert_eq!(inflation([0, 0, 0, 0, 0]), 1.0);
        let bunched = inflation([500, 0, 0, 0, 0]);
        assert!((400.0..600.0).contains(&bunched), "{bunched}");
    }
}
