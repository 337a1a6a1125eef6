//! What `ringload find-max` found: the file that it writes, as far as a page shows it, and the latency
//! of each trial at its load.
//!
//! Whatever else is in such a file is left out here on purpose: it may grow.

use std::fs;
use std::io;
use std::path::Path;

use maud::{Markup, PreEscaped, html};
use serde::Deserialize;

use super::Head;
use super::plot::{Axis, Bound, Line, LinePlot, Look, Mark, Plot, Span, log_ticks, ticks_to};
use super::plots::{Named, file_name, log_range, max_of};
use super::text;
use super::verdict::{capital, of};
use crate::find::Vary;
use crate::report::{Machine, ScenarioNote};
use crate::scenario::value;
use crate::secrets::{masked, masked_address};

/// A search for the largest load that keeps to some limits, or several of the same.
#[derive(Debug, Deserialize)]
pub(super) struct Search {
    label: Option<String>,
    pub(super) ringload: String,
    command: Vec<String>,
    pub(super) started_unix_ms: u64,
    scenario: ScenarioNote,
    target: String,
    pub(super) machine: Machine,
    limits: Vec<String>,
    sentence: String,
    /// Why it came to nothing, or to less than was wanted.
    failed: Option<String>,
    #[serde(default)]
    vary: Vary,
    rounds: Vec<Round>,
}

#[derive(Debug, Deserialize)]
struct Round {
    answer: Answer,
    /// Trials and confirmations.
    trials: Vec<Trial>,
    /// It did not come to its end.
    #[serde(default)]
    cut_short: bool,
}

#[derive(Debug, Deserialize)]
struct Answer {
    load: Option<f64>,
    /// Its 95 % interval.
    low: Option<f64>,
    high: Option<f64>,
    /// Without confirmations.
    trials: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Trial {
    load: f64,
    outcome: Outcome,
    p99_us: Option<f64>,
    /// Where connections were varied.
    connect_p99_us: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Good,
    Bad,
    Void,
}

impl Search {
    /// Reads a file; `None` if it is of another kind.
    pub(super) fn read(path: &Path) -> io::Result<Option<Search>> {
        let bytes = fs::read(path)?;
        match serde_json::from_slice::<Head>(&bytes) {
            Ok(head) if head.format == FORMAT => {}
            Ok(_) | Err(_) => return Ok(None),
        }
        let search: Result<Search, _> = serde_json::from_slice(&bytes);
        let search = search.map_err(|error| {
            let what = format!("is a result of find-max that cannot be read: {error}");
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
        Ok(Some(search))
    }

    /// `ringmq, pairs`.
    pub(super) fn title(&self) -> String {
        let label = self
            .label
            .clone()
            .unwrap_or_else(|| masked_address(&self.target));
        format!("{}, {}", text::isolated(&label), self.scenario.name)
    }

    /// `40 trials and 1 confirmation`, as the terminal counts them.
    fn made(&self) -> String {
        let (mut trials, mut all) = (0, 0);
        for round in &self.rounds {
            let count = round.trials.len();
            all += count;
            trials += round
                .answer
                .trials
                .map_or(count, |trials| trials.min(count));
        }
        match all - trials {
            0 => of(trials, "trial"),
            confirmations => format!(
                "{} and {}",
                of(trials, "trial"),
                of(confirmations, "confirmation")
            ),
        }
    }

    /// One for each round.
    pub(super) fn plots(&self, number: usize) -> Vec<Named> {
        // Connections may have no messages to be late.
        let has_latency = |round: &Round| round.trials.iter().any(|trial| trial.p99_us.is_some());
        let of = match self.rounds.iter().any(has_latency) {
            true => Shown::Latency,
            false => Shown::Connect,
        };
        let limits = self.limits.iter();
        let limit = limits
            .clone()
            .find_map(|limit| p99_limit(limit, of.metric()));
        let rounds = self.rounds.iter().enumerate();
        let plots = rounds.filter_map(|(index, round)| {
            let name = format!("{}-{number}-{index}", file_name(&self.scenario.name));
            Some(Named {
                name: format!("capacity-{name}"),
                plot: round.plot(limit, of, self.vary)?,
            })
        });
        plots.collect()
    }
}

/// Which time a plot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Of deliveries.
    Latency,
    /// Of connections.
    Connect,
}

impl Shown {
    fn metric(self) -> &'static str {
        match self {
            Shown::Latency => "latency.p99",
            Shown::Connect => "connect.p99",
        }
    }

    fn of(self, trial: &Trial) -> Option<f64> {
        match self {
            Shown::Latency => trial.p99_us,
            Shown::Connect => trial.connect_p99_us,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Shown::Latency => "p99 latency of trials by load",
            Shown::Connect => "p99 of connecting, by load",
        }
    }
}

/// A load for people.
fn load_text(vary: Vary) -> fn(f64) -> String {
    match vary {
        Vary::Rate => text::rate,
        Vary::Connections | Vary::Scale => |count| text::count(count.round() as u64),
    }
}

/// The bound of `latency.p99 < 5ms`, microseconds. Limits of groups and of other percentiles have no
/// place in a plot of the p99 of all.
fn p99_limit(limit: &str, metric: &str) -> Option<f64> {
    let rest = limit.strip_prefix(metric)?.trim_start();
    let bound = rest.strip_prefix("<=").or_else(|| rest.strip_prefix('<'))?;
    let span = value::span(bound.trim()).ok()?;
    Some(span.as_secs_f64() * 1e6)
}

/// What was found.
pub(super) fn section(search: &Search, plots: &[Named]) -> Markup {
    let limits = search.limits.join(", ");
    html! {
        section {
            h2 { "The largest load: " (search.title()) }
            p { (search.scenario.about) }
            div.card.found {
                p { b { (capital(&search.sentence)) "." } }
                @if let Some(why) = &search.failed { p.bad { "The search failed: " (why) "." } }
                p { (search.made()) "; good is what keeps to " (limits) }
            }
            div.plots { @for named in plots { figure { (PreEscaped(&named.plot.svg)) } } }
            details {
                summary { "To search again" }
                pre tabindex="0" { (masked(&search.command).join(" ")) }
            }
        }
    }
}

impl Round {
    /// Trials as dots, the limit as a line, the load that was found with its interval. `None` if no
    /// trial has a latency.
    fn plot(&self, limit_us: Option<f64>, of: Shown, vary: Vary) -> Option<Plot> {
        let lines: Vec<Line> = OUTCOMES
            .iter()
            .map(|&(outcome, name, color)| {
                let trials = self.trials.iter().filter(|trial| trial.outcome == outcome);
                let point = |us: f64| us.max(1.0).log10();
                let points = trials.filter_map(|trial| Some((trial.load, point(of.of(trial)?))));
                Line {
                    name: name.to_owned(),
                    color,
                    look: Look::Dots,
                    points: points.collect(),
                }
            })
            .filter(|line| !line.points.is_empty())
            .collect();
        let bound = limit_us.map(|us| us.max(1.0).log10());
        let highest = max_of(&lines, |point| point.1)?;
        let lowest = -max_of(&lines, |point| -point.1)?;
        let range = log_range(
            bound.map_or(lowest, |bound| bound.min(lowest)),
            bound.map_or(highest, |bound| bound.max(highest)),
        );
        let y = Axis {
            ticks: log_ticks(&range),
            range,
            text: |y| text::micros(10_f64.powf(y)),
        };
        let most = max_of(&lines, |point| point.0)?;
        let x_max = most.max(self.answer.high.unwrap_or(most)) * 1.04;
        let x = Axis {
            range: 0.0..x_max,
            ticks: ticks_to(x_max),
            text: load_text(vary),
        };
        let mut plot = LinePlot::new(of.title(), x, y);
        plot.bounds.extend(bound.zip(limit_us).map(|(y, us)| Bound {
            y,
            text: format!("p99 < {}", text::micros(us)),
        }));
        // What a search has not finished is no answer.
        if !self.cut_short {
            self.answer.show(&mut plot, load_text(vary));
        }
        Some(plot.draw(&lines))
    }
}

impl Answer {
    fn show(&self, plot: &mut LinePlot, shown: fn(f64) -> String) {
        let interval = self.low.zip(self.high);
        plot.spans.extend(interval.map(|(low, high)| Span {
            range: low..high,
            name: String::new(),
            is_shaded: true,
        }));
        plot.marks.extend(self.load.map(|load| Mark {
            x: load,
            text: match interval {
                Some((low, high)) => {
                    let (low, high) = (text::scaled(low), text::scaled(high));
                    format!("{} (95 %: {low} to {high})", shown(load))
                }
                None => shown(load),
            },
        }));
    }
}

/// The `format` of such a file.
pub(super) const FORMAT: &str = "ringload-capacity";
/// With their names and classes.
const OUTCOMES: [(Outcome, &str, &str); 3] = [
    (Outcome::Good, "good", "good"),
    (Outcome::Bad, "bad", "bad"),
    (Outcome::Void, "void: not the broker's fault", "soft"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_p99_of_all_have_a_place_in_the_plot() {
        for (limit, expected) in [
            ("latency.p99 < 5ms", Some(5000.0)),
            ("latency.p99 <= 200us", Some(200.0)),
            ("latency.p999 < 5ms", None),
            ("devices: latency.p99 < 5ms", None),
            ("lost = 0", None),
        ] {
            assert_eq!(p99_limit(limit, "latency.p99"), expected, "{limit}");
        }
    }
}
