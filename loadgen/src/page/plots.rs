//! Which plots a page has, and what is in them.

use super::plot::{Axis, Bar, Line, LinePlot, Plot, bars, log_ticks, ticks_to};
use super::subject::{Scenario, Subject};
use super::text;
use crate::report::{Latency, LatencyPair, Pace, ResultFile, Second};

/// A plot and the name of its file, `pairs-qos-1-latency`.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) plot: Plot,
}

/// Across scenarios; only worth it if there are several.
pub(super) fn overview(scenarios: &[Scenario]) -> Vec<Named> {
    if scenarios.len() < 2 {
        return Vec::new();
    }
    let plots = [
        ("cpu", "CPU of the broker per delivery, less is better", CPU),
        ("rate", "Deliveries per second, more is better", RATE),
        (
            "p99",
            "p99 latency at a given rate, less is better",
            OPEN_P99,
        ),
        (
            "connect",
            "Connections per second, more is better",
            CONNECTS,
        ),
        (
            "memory",
            "Memory of the broker per connection, less is better",
            MEMORY,
        ),
    ];
    let plots = plots.into_iter().filter_map(|(name, title, measure)| {
        let panels = panels(scenarios, measure);
        (!panels.is_empty()).then(|| Named {
            name: format!("overview-{name}"),
            plot: bars(title, &panels),
        })
    });
    plots.collect()
}

/// Of one scenario.
pub(super) fn of(scenario: &Scenario) -> Vec<Named> {
    let subjects = &scenario.subjects;
    let mut plots: Vec<(&str, Option<Plot>)> = Vec::new();
    if subjects.len() > 1 {
        for (name, title, measure) in [
            ("rate", "Deliveries per second, more is better", RATE),
            ("cpu", "CPU of the broker per delivery, less is better", CPU),
            (
                "connect",
                "Connections per second, more is better",
                CONNECTS,
            ),
        ] {
            let panel = panel(scenario, measure);
            plots.push((name, panel.map(|panel| bars(title, &[panel]))));
        }
    }
    plots.push(("latency", latency(subjects)));
    plots.push(("rate-over-time", over_time(subjects, &DELIVERIES)));
    plots.push(("p99-over-time", over_time(subjects, &P99)));
    plots.push(("cpu-over-time", over_time(subjects, &CORES)));
    plots.push(("memory-over-time", over_time(subjects, &RSS)));
    let plots = plots.into_iter();
    let named = plots.filter_map(|(name, plot)| {
        Some(Named {
            name: format!("{}-{name}", file_name(&scenario.title)),
            plot: plot?,
        })
    });
    named.collect()
}

/// A number of a run, and how it is written; absent where it is meaningless.
type Measure = (fn(&ResultFile) -> Option<f64>, fn(f64) -> String);

const CPU: Measure = (cpu_ns, text::nanos);
const RATE: Measure = (
    |file| received_per_s(file).filter(|_| !is_open_loop(file)),
    text::rate,
);
const OPEN_P99: Measure = (
    |file| {
        let latency = file
            .totals
            .latency
            .as_ref()
            .filter(|_| is_open_loop(file))?;
        Some(latency.corrected.p99_us as f64)
    },
    text::micros,
);
const CONNECTS: Measure = (
    |file| (!has_messages(file)).then_some(file.totals.connects_per_s),
    text::rate,
);
const MEMORY: Measure = (
    |file| {
        let broker = file.broker.as_ref().filter(|_| !has_messages(file))?;
        broker.rss_per_connection_bytes
    },
    text::bytes,
);

/// User and system CPU of the broker per delivery.
pub(super) fn cpu_ns(file: &ResultFile) -> Option<f64> {
    let broker = file.broker.as_ref()?;
    Some(broker.user_ns_per_delivery? + broker.system_ns_per_delivery?)
}

/// Some group publishes by schedule.
pub(super) fn is_open_loop(file: &ResultFile) -> bool {
    let mut published = file
        .groups
        .iter()
        .filter_map(|group| group.publish.as_ref());
    published.any(|publish| matches!(publish.pace, Pace::Rate { .. }))
}

/// Unknown without a window.
pub(super) fn received_per_s(file: &ResultFile) -> Option<f64> {
    let is_known = has_messages(file) && file.run.phases.window_s > 0.0;
    is_known.then_some(file.totals.received_per_s)
}

/// There is something to deliver; otherwise the run is about connections.
pub(super) fn has_messages(file: &ResultFile) -> bool {
    file.groups.iter().any(|group| group.publish.is_some())
}

/// One panel for each scenario that has the number. A single subject is compared with itself: one
/// panel with all scenarios.
fn panels(scenarios: &[Scenario], measure: Measure) -> Vec<(String, Vec<Bar>)> {
    let by_scenario = scenarios.iter().filter_map(|s| panel(s, measure));
    let panels: Vec<(String, Vec<Bar>)> = by_scenario.collect();
    let mut names = panels
        .iter()
        .flat_map(|(_, bars)| bars)
        .map(|bar| &bar.name);
    let first = names.next().cloned();
    match first {
        Some(label) if names.all(|name| *name == label) => {
            let bars = panels.into_iter().flat_map(|(title, bars)| {
                bars.into_iter().map(move |bar| Bar {
                    name: title.clone(),
                    ..bar
                })
            });
            vec![(label, bars.collect())]
        }
        _ => panels,
    }
}

/// The subjects of a scenario that have a number.
fn panel(scenario: &Scenario, (of, text): Measure) -> Option<(String, Vec<Bar>)> {
    let bar = |subject: &Subject| {
        let value = subject.spread(of)?.median;
        Some(Bar {
            name: subject.label.clone(),
            color: subject.color,
            value,
            text: text(value),
        })
    };
    let bars: Vec<Bar> = scenario.subjects.iter().filter_map(bar).collect();
    (!bars.is_empty()).then(|| (scenario.title.clone(), bars))
}

fn latency(subjects: &[Subject]) -> Option<Plot> {
    let lines = match subjects {
        [subject] => views_of(subject),
        many => {
            let line = |subject: &Subject| {
                let latency = subject.typical().totals.latency.as_ref()?;
                curve(&subject.label, subject.color, &latency.corrected)
            };
            many.iter().filter_map(line).collect()
        }
    };
    let x_max = max_of(&lines, |point| point.0)?;
    let y = log_axis(&lines)?;
    let plot = LinePlot {
        title: "Latency by percentile".to_owned(),
        x: Axis {
            range: 0.0..x_max,
            ticks: (0..=7).map(f64::from).filter(|x| *x <= x_max).collect(),
            text: |x| format!("{} %", percent(x)),
        },
        y,
        shade: None,
        stops: stops(x_max),
        stop_text: |x| format!("p{}", percent(x)),
        value_text: |y| text::micros(10_f64.powf(y)),
    };
    Some(plot.draw(&lines))
}

/// A run on its own shows both views of its latency, or those of each QoS.
fn views_of(subject: &Subject) -> Vec<Line> {
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
    let lines = views.iter().enumerate();
    lines
        .filter_map(|(color, (name, latency))| curve(name, color, latency))
        .collect()
}

/// Percentiles as `-log10(1 - p)`, so that each further nine takes the same room; times as
/// logarithms.
fn curve(name: &str, color: usize, latency: &Latency) -> Option<Line> {
    if latency.count == 0 {
        return None;
    }
    let named = [
        (0.0, latency.min_us),
        (50.0, latency.p50_us),
        (90.0, latency.p90_us),
        (99.0, latency.p99_us),
        (99.9, latency.p999_us),
        (99.99, latency.p9999_us),
        (100.0, latency.max_us),
    ];
    let points = if latency.curve.is_empty() {
        &named[..]
    } else {
        &latency.curve[..]
    };
    // The largest of n values is plotted where one in n is.
    let end = (latency.count as f64).log10();
    let mut line: Vec<(f64, f64)> = Vec::new();
    for (percentile, us) in points {
        let x = (-(1.0 - percentile / 100.0).log10()).clamp(0.0, end);
        let y = (*us).max(1) as f64;
        if line.last().is_none_or(|last| last.0 < x) {
            line.push((x, y.log10()));
        }
    }
    Some(Line {
        name: name.to_owned(),
        color,
        points: line,
    })
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

/// Something that is known for each second.
struct Course {
    title: &'static str,
    of: fn(&Second) -> Option<f64>,
    /// Logarithms on the axis.
    is_log: bool,
    text: fn(f64) -> String,
}

const DELIVERIES: Course = Course {
    title: "Deliveries per second over time",
    of: |second| Some(second.received as f64 / second.span_s),
    is_log: false,
    text: text::rate,
};
const P99: Course = Course {
    title: "p99 latency over time",
    of: |second| Some(second.p99_us?.max(1) as f64),
    is_log: true,
    text: text::micros,
};
const CORES: Course = Course {
    title: "CPU of the broker over time, cores",
    of: |second| second.broker_cpu,
    is_log: false,
    text: text::digits,
};
const RSS: Course = Course {
    title: "Memory of the broker over time",
    // In MiB, for round numbers on the axis.
    of: |second| Some(second.broker_rss_bytes? as f64 / f64::from(1 << 20)),
    is_log: false,
    text: |mib| text::bytes(mib * f64::from(1 << 20)),
};

fn over_time(subjects: &[Subject], course: &Course) -> Option<Plot> {
    let line = |subject: &Subject| {
        // The last second is often so short that its rate is meaningless.
        let seconds = subject
            .typical()
            .timeline
            .iter()
            .filter(|s| s.span_s >= SPAN_MIN_S);
        let point = |second: &Second| {
            let y = (course.of)(second)?;
            let y = if course.is_log { y.log10() } else { y };
            Some((second.at_s + second.span_s / 2.0, y))
        };
        let points: Vec<(f64, f64)> = seconds.filter_map(point).collect();
        (points.len() > 1).then(|| Line {
            name: subject.label.clone(),
            color: subject.color,
            points,
        })
    };
    let lines: Vec<Line> = subjects.iter().filter_map(line).collect();
    let x_max = max_of(&lines, |point| point.0)? + 0.5;
    let (y, value_text): (Axis, fn(f64) -> String) = if course.is_log {
        (log_axis(&lines)?, |y| text::micros(10_f64.powf(y)))
    } else {
        (axis_from_0(&lines, course.text)?, course.text)
    };
    let warmup = subjects[0].typical().run.phases.warmup_s;
    let first = lines[0].points.iter();
    let plot = LinePlot {
        title: course.title.to_owned(),
        x: Axis {
            range: 0.0..x_max,
            ticks: ticks_to(x_max),
            text: text::seconds,
        },
        y,
        shade: (warmup > 0.0).then(|| 0.0..warmup.min(x_max)),
        stops: first.map(|point| point.0).collect(),
        stop_text: |x| format!("{:.0} to {:.0} s", x - 0.5, x + 0.5),
        value_text,
    };
    Some(plot.draw(&lines))
}

fn axis_from_0(lines: &[Line], text: fn(f64) -> String) -> Option<Axis> {
    let max = max_of(lines, |point| point.1)?;
    let max = if max > 0.0 { max * 1.08 } else { 1.0 };
    Some(Axis {
        range: 0.0..max,
        ticks: ticks_to(max),
        text,
    })
}

/// At least a decade, so that noise does not look like a mountain.
fn log_axis(lines: &[Line]) -> Option<Axis> {
    let max = max_of(lines, |point| point.1)?;
    let min = -max_of(lines, |point| -point.1)?;
    let middle = f64::midpoint(min, max);
    let range = (min.min(middle - 0.5) - 0.05)..(max.max(middle + 0.5) + 0.05);
    Some(Axis {
        ticks: log_ticks(&range),
        range,
        text: |y| text::micros(10_f64.powf(y)),
    })
}

fn max_of(lines: &[Line], of: impl Fn(&(f64, f64)) -> f64) -> Option<f64> {
    let values = lines.iter().flat_map(|line| &line.points).map(of);
    values.reduce(f64::max)
}

/// Letters, digits and `-`.
pub(super) fn file_name(title: &str) -> String {
    let dashed: String = title
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let words: Vec<&str> = dashed.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// Shorter pieces at the end of a timeline are left out.
const SPAN_MIN_S: f64 = 0.5;

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
    fn names_of_files_are_words_with_dashes() {
        assert_eq!(file_name("pairs, QoS 0 and 1"), "pairs-qos-0-and-1");
    }
}
