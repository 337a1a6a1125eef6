//! Which plots a page has, and what is in them.

use std::ops::Range;

use super::bars::{self, Bar, Panel};
use super::plot::{Axis, Line, LinePlot, Look, Plot, log_ticks, ticks_to};
use super::subject::Scenario;
use super::{course, curve, text, title};
use crate::report::{Ended, Pace, ResultFile};

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
    let loads = load_curves(scenarios).into_iter();
    let loads = loads.enumerate().map(|(number, plot)| Named {
        name: format!("overview-load-{number}"),
        plot,
    });
    let plots = [
        ("cpu", "CPU per delivery, less is better", CPU),
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
        ("memory", "Memory per connection, less is better", MEMORY),
    ];
    let plots = plots.into_iter().filter_map(|(name, title, measure)| {
        let panels = panels(scenarios, measure);
        (!panels.is_empty()).then(|| Named {
            name: format!("overview-{name}"),
            plot: bars::draw(title, &panels),
        })
    });
    loads.chain(plots).collect()
}

/// Of one scenario.
pub(super) fn of(scenario: &Scenario) -> Vec<Named> {
    let subjects = &scenario.subjects;
    if !subjects.iter().any(|subject| took_place(subject.typical())) {
        return Vec::new();
    }
    let mut plots: Vec<(&str, Option<Plot>)> = Vec::new();
    if subjects.len() > 1 {
        for (name, title, measure) in [
            ("rate", "Deliveries per second, more is better", RATE),
            ("cpu", "CPU per delivery, less is better", CPU),
            (
                "connect",
                "Connections per second, more is better",
                CONNECTS,
            ),
        ] {
            let panel = panel(scenario, measure);
            plots.push((name, panel.map(|panel| bars::draw(title, &[panel]))));
        }
    }
    plots.push(("latency", curve::latency(subjects)));
    plots.extend(course::plots(subjects));
    if let [only] = &subjects[..] {
        plots.push(("resources", resources(only.typical())));
    }
    let id = file_name(&scenario.title);
    let named = plots.into_iter().filter_map(|(name, plot)| {
        Some(Named {
            name: format!("{id}-{name}"),
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
const CONNECTS: Measure = (connects_per_s, text::rate);
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

/// Of a run that is about connections.
pub(super) fn connects_per_s(file: &ResultFile) -> Option<f64> {
    (took_place(file) && !has_messages(file)).then_some(file.totals.connects_per_s)
}

/// Otherwise every number of it is 0, and says nothing.
pub(super) fn took_place(file: &ResultFile) -> bool {
    file.run.ended != Ended::Failed
}

/// There is something to deliver; otherwise the run is about connections.
pub(super) fn has_messages(file: &ResultFile) -> bool {
    file.groups.iter().any(|group| group.publish.is_some())
}

/// One panel for each scenario that has the number. A single subject is compared with itself: one
/// panel with all scenarios.
fn panels(scenarios: &[Scenario], measure: Measure) -> Vec<Panel> {
    let by_scenario = scenarios.iter().filter_map(|s| panel(s, measure));
    let panels: Vec<Panel> = by_scenario.collect();
    let mut names = panels
        .iter()
        .flat_map(|panel| &panel.bars)
        .map(|bar| &bar.name);
    let first = names.next().cloned();
    match first {
        Some(label) if names.all(|name| *name == label) => {
            let bars = panels.into_iter().flat_map(|panel| {
                let title = panel.title;
                panel.bars.into_iter().map(move |bar| Bar {
                    name: title.clone(),
                    ..bar
                })
            });
            vec![Panel {
                title: label,
                bars: bars.collect(),
                full: None,
            }]
        }
        _ => panels,
    }
}

fn panel(scenario: &Scenario, (of, text): Measure) -> Option<Panel> {
    let bars = scenario.subjects.iter().filter_map(|subject| {
        let spread = subject.spread(of)?;
        Some(Bar {
            name: subject.label.clone(),
            color: subject.color,
            value: spread.median,
            text: text(spread.median),
            spread: (subject.counted().len() > 1).then_some((spread.min, spread.max)),
            is_invalid: subject.is_invalid(),
        })
    });
    let bars: Vec<Bar> = bars.collect();
    (!bars.is_empty()).then(|| Panel {
        title: scenario.title.clone(),
        bars,
        full: None,
    })
}

/// Where scenarios differ in their load alone: the latency at each of the loads.
fn load_curves(scenarios: &[Scenario]) -> Vec<Plot> {
    let mut families: Vec<(String, Vec<&Scenario>)> = Vec::new();
    for scenario in scenarios {
        let file = scenario.subjects[0].typical();
        if !is_open_loop(file) {
            continue;
        }
        let family = title::family(file);
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, members)) => members.push(scenario),
            None => families.push((family, vec![scenario])),
        }
    }
    let drawn = families.iter();
    drawn
        .filter(|(_, members)| members.len() >= LOADS_MIN)
        .filter_map(|(_, members)| load_curve(members))
        .collect()
}

fn load_curve(members: &[&Scenario]) -> Option<Plot> {
    let mut lines: Vec<Line> = Vec::new();
    for subject in members.iter().flat_map(|scenario| &scenario.subjects) {
        let load = title::planned_rate(subject.typical());
        let (Some(load), Some(p99)) = (load, subject.spread(OPEN_P99.0)) else {
            continue;
        };
        let point = (load, p99.median.max(1.0).log10());
        match lines.iter_mut().find(|line| line.name == subject.label) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name: subject.label.clone(),
                color: subject.color,
                look: Look::Solid,
                points: vec![point],
            }),
        }
        if subject.is_invalid() {
            let doubtful = lines.iter_mut().find(|line| line.name == subject.label);
            doubtful.expect("it was just drawn").look = Look::Dashed;
        }
    }
    for line in &mut lines {
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    let x_max = max_of(&lines, |point| point.0)? * 1.04;
    let x = Axis {
        range: 0.0..x_max,
        ticks: ticks_to(x_max),
        text: text::rate,
    };
    let first = members[0].subjects[0].typical();
    let title = format!("p99 latency against load: {}", title::without_load(first));
    let mut plot = LinePlot::new(&title, x, log_axis(&lines)?);
    let mut stops: Vec<f64> = lines.iter().flat_map(|l| &l.points).map(|p| p.0).collect();
    stops.sort_by(f64::total_cmp);
    stops.dedup();
    plot.stops = stops;
    Some(plot.draw(&lines))
}

/// How much of what has a limit was used.
fn resources(file: &ResultFile) -> Option<Plot> {
    let mut bars: Vec<Bar> = Vec::new();
    let mut push = |name: &str, share: Option<f64>, text: String| {
        bars.extend(share.filter(|share| share.is_finite()).map(|share| Bar {
            name: name.to_owned(),
            color: match share {
                share if share >= SHARE_FULL => "bad",
                share if share >= SHARE_HIGH => "doubt",
                _ => "s1",
            },
            value: share,
            text,
            spread: None,
            is_invalid: false,
        }));
    };
    let clients = file.totals.clients as f64;
    let of =
        |used: f64, max: u64| format!("{}+ of {}", text::scaled(used), text::scaled(max as f64));
    if let Some(broker) = &file.broker {
        let used = broker.user_cores.zip(broker.system_cores);
        let used = used.map(|(user, system)| user + system);
        let cores = broker.cores.map(f64::from);
        let shown = text::digits(used.unwrap_or(0.0));
        let text = format!("{shown} of {}", broker.cores.unwrap_or(0));
        push(
            "broker: cores",
            used.zip(cores).map(|(used, all)| used / all),
            text,
        );
        let (peak, all) = (broker.rss_peak_bytes, file.run.machine.memory_bytes as f64);
        let shown = text::bytes(peak.unwrap_or(0) as f64);
        push("broker: memory", peak.map(|peak| peak as f64 / all), shown);
        let files = broker.files_max.map(|max| clients / max as f64);
        push(
            "broker: open files",
            files,
            of(clients, broker.files_max.unwrap_or(0)),
        );
    }
    let generator = &file.validity.generator;
    for (number, used) in generator.threads.iter().enumerate() {
        let name = format!("ringload: thread {number}");
        push(
            &name,
            used.cpu_share,
            text::share(used.cpu_share.unwrap_or(0.0)),
        );
        let waited = used.wait_share.filter(|share| *share >= WAIT_SHOWN);
        push(
            "its wait for a core",
            waited,
            text::share(waited.unwrap_or(0.0)),
        );
    }
    let files = (generator.files_max > 0).then(|| clients / generator.files_max as f64);
    push(
        "ringload: open files",
        files,
        of(clients, generator.files_max),
    );
    let panel = Panel {
        title: String::new(),
        full: Some(1.0),
        bars,
    };
    (!panel.bars.is_empty()).then(|| bars::draw("Used of what there is", &[panel]))
}

/// An axis from 0.
pub(super) fn axis_from_0(lines: &[Line], text: fn(f64) -> String) -> Option<Axis> {
    let max = max_of(lines, |point| point.1)?;
    let max = if max > 0.0 { max * 1.08 } else { 1.0 };
    Some(Axis {
        range: 0.0..max,
        ticks: ticks_to(max),
        text,
    })
}

/// An axis of times, as logarithms.
pub(super) fn log_axis(lines: &[Line]) -> Option<Axis> {
    let max = max_of(lines, |point| point.1)?;
    let min = -max_of(lines, |point| -point.1)?;
    let range = log_range(min, max);
    Some(Axis {
        ticks: log_ticks(&range),
        range,
        text: |y| text::micros(10_f64.powf(y)),
    })
}

/// At least a decade, so that noise does not look like a mountain.
pub(super) fn log_range(min: f64, max: f64) -> Range<f64> {
    let middle = f64::midpoint(min, max);
    (min.min(middle - 0.5) - 0.05)..(max.max(middle + 0.5) + 0.05)
}

/// The largest of what all points have.
pub(super) fn max_of(lines: &[Line], of: impl Fn(&(f64, f64)) -> f64) -> Option<f64> {
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

/// So many loads make a curve.
const LOADS_MIN: usize = 3;
/// From here on a resource may be what a run is bound by.
const SHARE_FULL: f64 = 0.9;
const SHARE_HIGH: f64 = 0.7;
/// Less waiting is not worth a bar.
const WAIT_SHOWN: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_words_with_dashes() {
        assert_eq!(file_name("pairs, QoS 0 and 1"), "pairs-qos-0-and-1");
    }
}
