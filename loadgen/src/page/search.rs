//! What a search for the largest load tried and found, as a plot: the latency of each trial at its
//! load.

use super::plot::{Axis, Bound, Line, LinePlot, Look, Mark, Plot, Span, log_ticks, ticks_to};
use super::plots::{log_range, max_of};
use super::text;
use crate::report::{SearchResult, TrialOutcome};

/// Trials as dots, the limit as a line, the load that was found with its interval. `None` if no
/// latency was limited.
pub(super) fn plot(search: &SearchResult) -> Option<Plot> {
    let limit = search.latency?;
    let lines: Vec<Line> = OUTCOMES
        .iter()
        .map(|&(outcome, name, color)| {
            let trials = search
                .trials
                .iter()
                .filter(|trial| trial.outcome == outcome);
            let point = |us: f64| us.max(1.0).log10();
            let points = trials.filter_map(|trial| Some((trial.load, point(trial.latency_us?))));
            Line {
                name: name.to_owned(),
                color,
                look: Look::Dots,
                points: points.collect(),
            }
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    let bound = limit.us.max(1.0).log10();
    let highest = max_of(&lines, |point| point.1)?.max(bound);
    let lowest = (-max_of(&lines, |point| -point.1)?).min(bound);
    let range = log_range(lowest, highest);
    let y = Axis {
        ticks: log_ticks(&range),
        range,
        text: |y| text::micros(10_f64.powf(y)),
    };
    let most = max_of(&lines, |point| point.0)?;
    let x_max = most.max(search.high.unwrap_or(most)) * 1.04;
    let x = Axis {
        range: 0.0..x_max,
        ticks: ticks_to(x_max),
        text: text::scaled,
    };
    let percentile = format!("p{}", text::digits(limit.quantile * 100.0));
    let title = format!("{percentile} latency by load, {}", search.unit);
    let mut plot = LinePlot::new(&title, x, y);
    plot.bounds.push(Bound {
        y: bound,
        text: format!("{percentile} < {}", text::micros(limit.us)),
    });
    if let (Some(low), Some(high)) = (search.low, search.high) {
        plot.spans.push(Span {
            range: low..high,
            name: String::new(),
            is_shaded: true,
        });
    }
    plot.marks.extend(search.load.map(|load| Mark {
        x: load,
        text: match (search.low, search.high) {
            (Some(low), Some(high)) => {
                let (low, high) = (text::scaled(low), text::scaled(high));
                format!("{} (95 %: {low} to {high})", text::scaled(load))
            }
            (_, _) => text::scaled(load),
        },
    }));
    Some(plot.draw(&lines))
}

/// With their names and classes.
const OUTCOMES: [(TrialOutcome, &str, &str); 3] = [
    (TrialOutcome::Good, "good", "good"),
    (TrialOutcome::Bad, "bad", "bad"),
    (TrialOutcome::Void, "void: not the broker's fault", "soft"),
];
