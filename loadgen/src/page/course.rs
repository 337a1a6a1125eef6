//! Plots over time: load, latencies, CPU, memory, connections.

use std::ops::Range;

use super::plot::{Axis, Cell, Line, LinePlot, Look, Mark, Plot, Span, log_ticks, time_ticks_to};
use super::plots::{axis_from_0, log_axis, max_of};
use super::subject::Subject;
use super::{storm, text};
use crate::report::{Buckets, ResultFile, Second};

/// The plots of a scenario, with the names of their files.
pub(super) fn plots(subjects: &[Subject]) -> Vec<(&'static str, Option<Plot>)> {
    let time = Time::of(subjects);
    let mut plots = match subjects {
        [only] => vec![
            (
                "rate-over-time",
                time.draw("Messages per second", only_load(only), &DELIVERED),
            ),
            (
                "latency-over-time",
                heat_map(only, &time).or_else(|| time.compare(subjects, &P99)),
            ),
            (
                "cpu-over-time",
                time.draw("CPU, cores", only_cpu(only), &CORES),
            ),
        ],
        many => vec![
            ("load-over-time", time.compare(many, &PUBLISHED)),
            ("rate-over-time", time.compare(many, &DELIVERED)),
            ("p99-over-time", time.compare(many, &P99)),
            ("cpu-over-time", time.compare(many, &CORES)),
        ],
    };
    plots.push(("memory-over-time", time.compare(subjects, &RSS)));
    let vary = subjects
        .iter()
        .any(|subject| readiness(subject.typical()).is_some());
    if vary {
        let named = Time {
            marks: match subjects {
                [only] => recoveries(only.typical()),
                _ => Vec::new(),
            },
            ..time
        };
        plots.push(("connections-over-time", named.compare(subjects, &READY)));
    }
    plots
}

/// The most important values of a run in a line: for a tile.
pub(super) fn values(file: &ResultFile, of: fn(&Second) -> Option<f64>) -> Vec<f64> {
    let values = whole_seconds(file).filter_map(of).collect::<Vec<f64>>();
    let each = values.len().div_ceil(SPARK_POINTS_MAX).max(1);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    values.chunks(each).map(mean).collect()
}

/// Something that is known for each second.
pub(super) struct Course {
    title: &'static str,
    pub(super) of: fn(&Second) -> Option<f64>,
    /// Logarithms on the axis.
    is_log: bool,
    text: fn(f64) -> String,
    /// One value for several seconds.
    fold: fn(&[f64]) -> f64,
}

const PUBLISHED: Course = Course {
    title: "Published per second",
    of: |second| Some(second.sent as f64 / second.span_s),
    is_log: false,
    text: text::rate,
    fold: mean,
};
pub(super) const DELIVERED: Course = Course {
    title: "Delivered per second",
    of: |second| Some(second.received as f64 / second.span_s),
    ..PUBLISHED
};
pub(super) const P99: Course = Course {
    title: "p99 latency",
    of: |second| Some(second.p99_us?.max(1) as f64),
    is_log: true,
    text: text::micros,
    fold: largest,
};
const P50: Course = Course {
    of: |second| Some(second.p50_us?.max(1) as f64),
    ..P99
};
const CORES: Course = Course {
    title: "CPU of the broker, cores",
    of: |second| second.broker_cpu,
    is_log: false,
    text: text::digits,
    fold: mean,
};
const GENERATOR: Course = Course {
    of: |second| second.generator_cpu,
    ..CORES
};
const RSS: Course = Course {
    title: "Memory of the broker",
    // In MiB, for round numbers on the axis.
    of: |second| Some(second.broker_rss_bytes? as f64 / f64::from(1 << 20)),
    is_log: false,
    text: |mib| text::bytes(mib * f64::from(1 << 20)),
    fold: largest,
};
const READY: Course = Course {
    title: "Connected clients",
    of: |second| Some(second.ready? as f64),
    is_log: false,
    text: |count| text::count(count.round() as u64),
    fold: |values| values.iter().copied().fold(f64::INFINITY, f64::min),
};

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Without pieces at the end that are so short that their rates are meaningless.
fn whole_seconds(file: &ResultFile) -> impl Iterator<Item = &Second> {
    file.timeline
        .iter()
        .filter(|second| second.span_s >= SPAN_MIN_S)
}

/// Published beside delivered.
fn only_load(subject: &Subject) -> Vec<Line> {
    let published = line(subject, &PUBLISHED);
    let delivered = line(subject, &DELIVERED);
    // Where each publication is delivered once, one line would hide the other.
    let same = delivered.points.iter().zip(&published.points);
    let is_same = same
        .into_iter()
        .all(|(a, b)| (a.1 - b.1).abs() <= 0.01 * b.1.max(1.0));
    if is_same {
        return vec![Line {
            name: "published and delivered".to_owned(),
            ..delivered
        }];
    }
    vec![
        Line {
            name: "delivered".to_owned(),
            ..delivered
        },
        Line {
            name: "published".to_owned(),
            color: "soft",
            look: Look::Dashed,
            ..published
        },
    ]
}

/// The broker beside the generator.
fn only_cpu(subject: &Subject) -> Vec<Line> {
    let broker = Line {
        name: "broker".to_owned(),
        ..line(subject, &CORES)
    };
    let generator = Line {
        name: "ringload".to_owned(),
        color: "soft",
        look: Look::Dashed,
        ..line(subject, &GENERATOR)
    };
    let lines = [broker, generator].into_iter();
    lines.filter(|line| !line.points.is_empty()).collect()
}

fn line(subject: &Subject, course: &Course) -> Line {
    let seconds: Vec<&Second> = whole_seconds(subject.typical()).collect();
    let each = seconds.len().div_ceil(POINTS_MAX).max(1);
    let point = |seconds: &[&Second]| {
        let values: Vec<f64> = seconds.iter().filter_map(|s| (course.of)(s)).collect();
        if values.is_empty() {
            return None;
        }
        let y = (course.fold)(&values);
        let y = if course.is_log { y.log10() } else { y };
        Some((middle_of(seconds), y))
    };
    Line {
        name: subject.label.clone(),
        color: subject.color,
        look: if subject.is_invalid() {
            Look::Dashed
        } else {
            Look::Solid
        },
        points: seconds.chunks(each).filter_map(point).collect(),
    }
}

fn middle_of(seconds: &[&Second]) -> f64 {
    let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
    f64::midpoint(first.at_s, last.at_s + last.span_s)
}

/// The axis that all plots of a scenario have in common.
struct Time {
    axis: Axis,
    spans: Vec<Span>,
    marks: Vec<Mark>,
    stops: Vec<f64>,
}

impl Time {
    fn of(subjects: &[Subject]) -> Time {
        let lines: Vec<Line> = subjects.iter().map(|s| line(s, &DELIVERED)).collect();
        let half = if lines.iter().any(|line| line.points.len() < POINTS_MAX / 2) {
            0.5
        } else {
            0.0
        };
        let end = max_of(&lines, |point| point.0).unwrap_or(0.0) + half;
        let phases = subjects[0].typical().run.phases;
        let window_end = phases.warmup_s + phases.window_s;
        let span = |range: Range<f64>, name: &str, is_shaded| Span {
            range: range.start.min(end)..range.end.min(end),
            name: name.to_owned(),
            is_shaded,
        };
        let mut spans = Vec::new();
        if phases.warmup_s > 0.0 {
            spans.push(span(0.0..phases.warmup_s, "warm-up", true));
        }
        for (number, stage) in subjects[0].typical().stages.iter().enumerate() {
            let range = stage.at_s..stage.at_s + stage.span_s;
            // Every other one, so that neighbours are told apart.
            spans.push(span(range, &stage.name, number % 2 == 1));
        }
        if window_end < end {
            spans.push(span(window_end..end, "drain", true));
        }
        let longest = lines.iter().max_by_key(|line| line.points.len());
        let stops = longest.map(|line| line.points.iter().map(|point| point.0).collect());
        Time {
            axis: Axis {
                range: 0.0..end.max(1.0),
                ticks: time_ticks_to(end),
                text: text::seconds,
            },
            spans,
            // Their text stands where they come from.
            marks: match subjects {
                [only] => without_text(recoveries(only.typical())),
                _ => Vec::new(),
            },
            stops: stops.unwrap_or_default(),
        }
    }

    /// One line for each subject that has the course.
    fn compare(&self, subjects: &[Subject], course: &Course) -> Option<Plot> {
        let lines = subjects.iter().map(|subject| line(subject, course));
        self.draw(course.title, lines.collect(), course)
    }

    fn draw(&self, title: &str, lines: Vec<Line>, course: &Course) -> Option<Plot> {
        let lines: Vec<Line> = lines.into_iter().filter(|l| l.points.len() > 1).collect();
        let y = match course.is_log {
            true => log_axis(&lines)?,
            false => axis_from_0(&lines, course.text)?,
        };
        Some(self.plot(title, y).draw(&lines))
    }

    fn plot(&self, title: &str, y: Axis) -> LinePlot {
        let mut plot = LinePlot::new(title, self.axis.clone(), y);
        plot.spans = self.spans.iter().map(Span::clone).collect();
        plot.marks = self.marks.iter().map(Mark::clone).collect();
        plot.stops = self.stops.clone();
        plot.has_time = true;
        plot
    }
}

/// How often each latency was, second by second, under p50, p99 and the largest one.
fn heat_map(subject: &Subject, time: &Time) -> Option<Plot> {
    let seconds: Vec<&Second> = whole_seconds(subject.typical()).collect();
    let each = seconds.len().div_ceil(COLUMNS_MAX).max(1);
    let columns: Vec<(Range<f64>, Buckets)> = seconds
        .chunks(each)
        .map(|seconds| {
            let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
            (first.at_s..last.at_s + last.span_s, merged(seconds))
        })
        .collect();
    let all = || columns.iter().flat_map(|(_, buckets)| buckets.iter());
    let hottest = all().map(|(_, count)| count).max()?;
    let (low, high) = (all().map(|c| c.0).min()?, all().map(|c| c.0).max()?);
    let edge = |number: u32| Buckets::begin(number).log10();
    let heat = |count: u64| (1.0 + count as f64).ln() / (1.0 + hottest as f64).ln();
    let range = edge(low)..edge(high + 1).max(edge(low) + 1.0);
    let y = Axis {
        ticks: log_ticks(&range),
        range,
        text: |y| text::micros(10_f64.powf(y)),
    };
    let mut plot = time.plot("Latency over time", y);
    // Nobody could read their names there.
    plot.spans.clear();
    for (x, buckets) in &columns {
        plot.cells
            .extend(buckets.iter().map(|(number, count)| Cell {
                x: x.clone(),
                y: edge(number)..edge(number + 1),
                heat: 0.05 + 0.8 * heat(count),
            }));
    }
    let named = |name: &str, color, course: &Course| Line {
        name: name.to_owned(),
        color,
        ..line(subject, course)
    };
    let lines = [named("p50", "ink", &P50), named("p99", "s2", &P99)];
    Some(plot.draw(&lines))
}

fn merged(seconds: &[&Second]) -> Buckets {
    let mut sum = Buckets::default();
    for buckets in seconds
        .iter()
        .filter_map(|second| second.latencies.as_ref())
    {
        for (number, count) in buckets.iter() {
            sum.add_to(number, count);
        }
    }
    sum
}

/// The least and the most clients that were connected at the same time, if these differ.
fn readiness(file: &ResultFile) -> Option<(u64, u64)> {
    let ready = || file.timeline.iter().filter_map(|second| second.ready);
    let (least, most) = (ready().min()?, ready().max()?);
    (least < most).then_some((least, most))
}

/// Where clients were missing, and all are back.
fn recoveries(file: &ResultFile) -> Vec<Mark> {
    if let Some(marks) = storm::marks(file) {
        return marks;
    }
    let Some((_, most)) = readiness(file) else {
        return Vec::new();
    };
    let mut marks = Vec::new();
    let mut missing_since: Option<f64> = None;
    let known = whole_seconds(file).filter_map(|second| Some((second, second.ready?)));
    // Before all are connected for the first time nobody is missing.
    for (second, ready) in known.skip_while(|(_, ready)| *ready < most) {
        let end = second.at_s + second.span_s;
        match missing_since {
            None if ready < most => missing_since = Some(second.at_s),
            Some(since) if ready == most => {
                marks.push(Mark {
                    x: end,
                    text: format!("back, {}", text::seconds(end - since)),
                });
                missing_since = None;
            }
            None | Some(_) => {}
        }
    }
    marks
}

fn without_text(marks: Vec<Mark>) -> Vec<Mark> {
    let mute = |mark| Mark {
        text: String::new(),
        ..mark
    };
    marks.into_iter().map(mute).collect()
}

/// Shorter pieces at the end of a timeline are left out.
const SPAN_MIN_S: f64 = 0.5;
/// Longer runs are shown in longer pieces.
const POINTS_MAX: usize = 300;
/// The same for heat maps.
const COLUMNS_MAX: usize = 100;
/// The same for the lines in tiles.
const SPARK_POINTS_MAX: usize = 60;
