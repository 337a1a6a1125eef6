//! Bars from left to right, one below the other, in panels.

use super::plot::{Plot, WIDTH};
use super::svg::{Anchor, Area, Svg, fit, text_width};

/// One bar: a value, and what is said about it.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    /// A class: see [`super::theme::series`].
    pub(super) color: &'static str,
    pub(super) value: f64,
    pub(super) text: String,
    /// The smallest and the largest value of several rounds.
    pub(super) spread: Option<(f64, f64)>,
    /// It does not count.
    pub(super) is_invalid: bool,
}

/// Bars that are compared with each other.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
    /// What the whole width stands for; absent: the largest value.
    pub(super) full: Option<f64>,
}

/// Draws panels: a page puts them next to each other as there is room, a file has two in a row.
pub(super) fn draw(title: &str, panels: &[Panel]) -> Plot {
    if let [only] = panels {
        let svg = draw_panel(title, only).finish(title);
        return plot(title, svg, Vec::new());
    }
    let drawn: Vec<Svg> = panels
        .iter()
        .map(|panel| draw_panel(&panel.title, panel))
        .collect();
    let rows: Vec<f64> = panels
        .chunks(COLUMNS)
        .map(|row| row.iter().map(height).fold(0.0, f64::max))
        .collect();
    let mut all = Svg::new(WIDTH * COLUMNS as f64, 36.0 + rows.iter().sum::<f64>());
    all.text((14.0, 24.0), Anchor::Start, "ink solid title", title);
    let mut top = 36.0;
    for (row, height) in drawn.chunks(COLUMNS).zip(rows) {
        for (column, panel) in row.iter().enumerate() {
            all.place((WIDTH * column as f64, top), panel);
        }
        top += height;
    }
    let named = panels.iter().zip(&drawn);
    let pieces = named.map(|(panel, svg)| svg.finish(&format!("{title}: {}", panel.title)));
    plot(title, all.finish(title), pieces.collect())
}

fn plot(title: &str, svg: String, panels: Vec<String>) -> Plot {
    Plot {
        title: title.to_owned(),
        svg,
        panels,
        hover: None,
        has_time: false,
    }
}

fn height(panel: &Panel) -> f64 {
    let pitch = if panel.is_stacked() {
        STACKED_PITCH
    } else {
        PITCH
    };
    36.0 + panel.bars.len() as f64 * pitch + 8.0
}

impl Panel {
    /// Names that are long have lines of their own.
    fn is_stacked(&self) -> bool {
        self.bars
            .iter()
            .any(|bar| text_width(&bar.name) > NAME_WIDTH_MAX)
    }
}

fn draw_panel(title: &str, panel: &Panel) -> Svg {
    let bars = &panel.bars;
    let mut svg = Svg::new(WIDTH, height(panel));
    let title = fit(title, WIDTH - 20.0);
    svg.text((14.0, 24.0), Anchor::Start, "ink solid title", &title);
    let end = |bar: &Bar| bar.spread.map_or(bar.value, |spread| spread.1);
    let largest = bars.iter().map(end).fold(0.0, f64::max);
    let full = panel.full.unwrap_or(largest);
    let widest = |of: fn(&Bar) -> &str| {
        let widths = bars.iter().map(|bar| text_width(of(bar)));
        widths.fold(0.0, f64::max)
    };
    let value_width = widest(|bar| &bar.text);
    let left = match panel.is_stacked() {
        true => 14.0,
        false => 14.0 + widest(|bar| &bar.name) + 8.0,
    };
    let room = (WIDTH - 14.0 - left - value_width - 8.0).max(40.0);
    let length = |value: f64| match full > 0.0 {
        true => room * (value / full).clamp(0.0, 1.0),
        false => 0.0,
    };
    for (row, bar) in bars.iter().enumerate() {
        let top = draw_name(&mut svg, panel, row, left);
        let (middle, baseline) = (top + BAR_HEIGHT / 2.0, top + BAR_HEIGHT - 2.5);
        let area = Area {
            left,
            top,
            // A value of nothing much is still to be seen.
            width: length(bar.value).max(2.0),
            height: BAR_HEIGHT,
        };
        if panel.full.is_some() {
            svg.rect(
                Area {
                    width: room,
                    ..area
                },
                "shade solid",
            );
        }
        if bar.is_invalid {
            svg.hatched(area, bar.color);
        } else {
            svg.rect(area, &format!("{} solid", bar.color));
        }
        let mut to = left + area.width;
        if let Some((min, max)) = bar.spread {
            let (from, until) = (left + length(min), left + length(max));
            svg.line((from, middle), (until, middle), "ink stroke thin");
            for x in [from, until] {
                svg.line((x, middle - 3.0), (x, middle + 3.0), "ink stroke thin");
            }
            to = to.max(until);
        }
        if panel.full.is_some() {
            to = left + room;
        }
        svg.text((to + 6.0, baseline), Anchor::Start, "ink solid", &bar.text);
    }
    svg
}

/// Returns where the bar begins, from the top.
fn draw_name(svg: &mut Svg, panel: &Panel, row: usize, left: f64) -> f64 {
    let name = &panel.bars[row].name;
    if panel.is_stacked() {
        let top = 36.0 + row as f64 * STACKED_PITCH;
        let name = fit(name, WIDTH - 28.0);
        svg.text((left, top + 12.0), Anchor::Start, "soft solid", &name);
        return top + 18.0;
    }
    let top = 36.0 + row as f64 * PITCH;
    let at = (left - 8.0, top + BAR_HEIGHT - 2.5);
    svg.text(at, Anchor::End, "soft solid", name);
    top
}

const BAR_HEIGHT: f64 = 15.0;
const PITCH: f64 = 23.0;
/// With names above the bars.
const STACKED_PITCH: f64 = 42.0;
/// Longer names are cut.
const NAME_WIDTH_MAX: f64 = 150.0;
/// Panels next to each other, in a file.
const COLUMNS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: f64) -> Bar {
        Bar {
            name: "mosquitto 2.0.22 (Debian 12, default configuration, TLS 1.3)".to_owned(),
            color: "s1",
            value,
            text: "784 k/s".to_owned(),
            spread: Some((value * 0.9, value * 1.1)),
            is_invalid: false,
        }
    }

    #[test]
    fn long_names_leave_room_for_bars() {
        let panel = |title: &str| Panel {
            title: title.to_owned(),
            bars: vec![bar(1.0), bar(2.0), bar(0.0)],
            full: None,
        };
        let plot = draw("Deliveries per second", &[panel("one"), panel("two")]);
        assert_eq!(plot.panels.len(), 2);
        // No bar is turned around: its room has a positive width.
        let widths = plot.svg.split("<rect ").skip(1).filter_map(|rect| {
            let (_, rest) = rect.split_once("width=\"")?;
            rest.split('"').next()?.parse::<f64>().ok()
        });
        let widths: Vec<f64> = widths.collect();
        assert!(
            widths.len() >= 9 && widths.iter().all(|width| *width >= 2.0),
            "{widths:?}"
        );
        let bars = widths
            .iter()
            .filter(|width| **width > 40.0 && **width < WIDTH);
        assert!(bars.count() > 2, "{widths:?}");
    }

    #[test]
    fn what_does_not_count_looks_different() {
        let panel = |is_invalid| Panel {
            title: String::new(),
            bars: vec![Bar {
                is_invalid,
                ..bar(1.0)
            }],
            full: None,
        };
        let filled = "class=\"s1 solid\"";
        assert!(draw("x", &[panel(false)]).svg.contains(filled));
        assert!(!draw("x", &[panel(true)]).svg.contains(filled));
    }
}
