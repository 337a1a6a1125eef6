//! Plots with two axes, and what a page needs to show values under the pointer.

use std::ops::Range;

use serde::Serialize;

use super::svg::{Anchor, Area, Svg, fit, text_width};

/// A drawing of its own.
pub(super) struct Plot {
    pub(super) title: String,
    /// `<svg …>…</svg>`, as a file.
    pub(super) svg: String,
    /// The same in pieces, which a page arranges to its width; empty: it is one piece.
    pub(super) panels: Vec<String>,
    pub(super) hover: Option<Hover>,
    /// Plots of one section that have the same places share their cursor.
    pub(super) has_time: bool,
}

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: String,
    /// A class: see [`super::theme::series`].
    pub(super) color: &'static str,
    pub(super) look: Look,
    /// Ascending in x.
    pub(super) points: Vec<(f64, f64)>,
}

/// How the points of a line are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Connected.
    Solid,
    /// Connected, behind what is solid: a plan, a run that does not count.
    Dashed,
    /// Each for itself.
    Dots,
}

/// One axis, in the coordinates of the points.
#[derive(Clone)]
pub(super) struct Axis {
    pub(super) range: Range<f64>,
    pub(super) ticks: Vec<f64>,
    pub(super) text: fn(f64) -> String,
}

/// A range of x that is something else than the rest, and what it is.
#[derive(Clone)]
pub(super) struct Span {
    pub(super) range: Range<f64>,
    pub(super) name: String,
    pub(super) is_shaded: bool,
}

/// Where a line may as well lie.
pub(super) struct Band {
    pub(super) color: &'static str,
    /// x, lowest and highest y.
    pub(super) points: Vec<(f64, f64, f64)>,
}

/// A piece of a heat map.
pub(super) struct Cell {
    pub(super) x: Range<f64>,
    pub(super) y: Range<f64>,
    /// 0 to 1.
    pub(super) heat: f64,
}

/// Something that happened.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) text: String,
}

/// A bound for y.
pub(super) struct Bound {
    pub(super) y: f64,
    pub(super) text: String,
}

/// A plot; lines are given to [`LinePlot::draw`].
pub(super) struct LinePlot {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) spans: Vec<Span>,
    pub(super) bands: Vec<Band>,
    pub(super) cells: Vec<Cell>,
    pub(super) marks: Vec<Mark>,
    pub(super) bounds: Vec<Bound>,
    /// Where the pointer can stop, and how a value there is written.
    pub(super) stops: Vec<f64>,
    pub(super) stop_text: fn(f64) -> String,
    pub(super) value_text: fn(f64) -> String,
    pub(super) has_time: bool,
}

/// Where the pointer finds what, in pixels of the drawing.
#[derive(Serialize)]
pub(super) struct Hover {
    top: i32,
    bottom: i32,
    /// Position, and what the place is called.
    places: Vec<(i32, String)>,
    lines: Vec<HoverLine>,
}

#[derive(Serialize)]
struct HoverLine {
    name: String,
    color: &'static str,
    /// For each place: position and value.
    values: Vec<Option<(i32, String)>>,
}

impl LinePlot {
    /// A plot with nothing but its axes.
    pub(super) fn new(title: &str, x: Axis, y: Axis) -> LinePlot {
        LinePlot {
            title: title.to_owned(),
            value_text: y.text,
            stop_text: x.text,
            x,
            y,
            spans: Vec::new(),
            bands: Vec::new(),
            cells: Vec::new(),
            marks: Vec::new(),
            bounds: Vec::new(),
            stops: Vec::new(),
            has_time: false,
        }
    }

    /// Draws the lines.
    pub(super) fn draw(self, lines: &[Line]) -> Plot {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        svg.text((14.0, 24.0), Anchor::Start, "ink solid title", &self.title);
        let rows = draw_legend(&mut svg, lines);
        let labels = self.y.ticks.iter().map(|tick| (self.y.text)(*tick));
        let label_width = labels.map(|label| text_width(&label)).fold(0.0, f64::max);
        let left = 14.0 + label_width + 6.0;
        let top = 40.0 + LEGEND_PITCH * rows as f64;
        let view = View {
            plot: &self,
            area: Area {
                left,
                top,
                width: WIDTH - 14.0 - left,
                height: HEIGHT - 30.0 - top,
            },
        };
        view.draw_ground(&mut svg);
        view.draw_axes(&mut svg);
        view.draw_lines(&mut svg, lines);
        view.draw_remarks(&mut svg);
        let hover = (!self.stops.is_empty()).then(|| view.hover(lines));
        Plot {
            svg: svg.finish(&self.title),
            title: self.title,
            panels: Vec::new(),
            hover,
            has_time: self.has_time,
        }
    }
}

/// A plot within the rectangle between its axes.
struct View<'a> {
    plot: &'a LinePlot,
    area: Area,
}

impl View<'_> {
    fn x(&self, x: f64) -> f64 {
        self.area.left + self.area.width * share(&self.plot.x.range, x)
    }

    fn y(&self, y: f64) -> f64 {
        let height = self.area.height - self.headroom();
        self.bottom() - height * share(&self.plot.y.range, y)
    }

    /// Where nothing is drawn but names.
    fn headroom(&self) -> f64 {
        let plot = self.plot;
        let has_names = plot.spans.iter().any(|span| !span.name.is_empty());
        match has_names || (!plot.has_time && !plot.marks.is_empty()) {
            true => 19.0,
            false => 0.0,
        }
    }

    fn bottom(&self) -> f64 {
        self.area.top + self.area.height
    }

    /// What lies behind the grid.
    fn draw_ground(&self, svg: &mut Svg) {
        for span in &self.plot.spans {
            let (from, to) = (self.x(span.range.start), self.x(span.range.end));
            let area = Area {
                left: from,
                width: to - from,
                ..self.area
            };
            if span.is_shaded {
                svg.rect(area, "shade solid");
            }
            let middle = f64::midpoint(from, to);
            if text_width(&span.name) <= to - from {
                let at = (middle, self.area.top + 13.0);
                svg.text(at, Anchor::Middle, "soft solid", &span.name);
            } else if to - from >= TEXT_HEIGHT {
                let at = (middle + 4.5, self.bottom() - 6.0);
                svg.text_upwards(at, "soft solid", &span.name);
            }
        }
        for cell in &self.plot.cells {
            let (left, right) = (self.x(cell.x.start), self.x(cell.x.end));
            let (bottom, top) = (self.y(cell.y.start), self.y(cell.y.end));
            let area = Area {
                left,
                top,
                width: right - left,
                height: bottom - top,
            };
            svg.tint(area, "s1 solid cell", cell.heat);
        }
    }

    fn draw_axes(&self, svg: &mut Svg) {
        let (left, right) = (self.area.left, self.area.left + self.area.width);
        let bottom = self.bottom();
        for tick in &self.plot.y.ticks {
            let y = self.y(*tick);
            svg.line((left, y), (right, y), "grid stroke thin");
            let at = (left - 6.0, y + 4.5);
            svg.text(at, Anchor::End, "soft solid", &(self.plot.y.text)(*tick));
        }
        svg.line((left, bottom), (right, bottom), "axis stroke thin");
        let mut free_from = 0.0;
        for tick in &self.plot.x.ticks {
            let (x, text) = (self.x(*tick), (self.plot.x.text)(*tick));
            svg.line((x, bottom), (x, bottom + 4.0), "axis stroke thin");
            // The last label keeps within the drawing.
            let half = text_width(&text) / 2.0;
            let middle = x.min(WIDTH - 6.0 - half);
            if middle - half >= free_from {
                let at = (middle, bottom + 18.0);
                svg.text(at, Anchor::Middle, "soft solid", &text);
                free_from = middle + half + 6.0;
            }
        }
    }

    fn draw_lines(&self, svg: &mut Svg, lines: &[Line]) {
        for band in &self.plot.bands {
            let there = band.points.iter().map(|point| (point.0, point.2));
            let back = band.points.iter().rev().map(|point| (point.0, point.1));
            let around = there.chain(back).map(|(x, y)| (self.x(x), self.y(y)));
            svg.polygon(around, &format!("{} solid area", band.color));
        }
        for line in lines {
            let points = line.points.iter().map(|&(x, y)| (self.x(x), self.y(y)));
            let color = line.color;
            match line.look {
                Look::Solid => svg.polyline(points.clone(), &format!("{color} stroke")),
                Look::Dashed => svg.polyline(points.clone(), &format!("{color} stroke dashed")),
                Look::Dots => {}
            }
            let radius = match line.look {
                Look::Dots => 4.0,
                // Few values are not as sure as a line looks.
                Look::Solid | Look::Dashed if line.points.len() <= FEW => 3.0,
                Look::Solid | Look::Dashed => continue,
            };
            for at in points {
                svg.dot(at, radius, &format!("{color} solid"));
            }
        }
    }

    /// Marks and bounds, in front of the lines.
    fn draw_remarks(&self, svg: &mut Svg) {
        let right = self.area.left + self.area.width;
        for bound in &self.plot.bounds {
            let y = self.y(bound.y);
            svg.line((self.area.left, y), (right, y), "bad stroke dashed");
            let at = (self.area.left + 4.0, y - 5.0);
            svg.text(at, Anchor::Start, "bad solid", &bound.text);
        }
        for (index, mark) in self.plot.marks.iter().enumerate() {
            let x = self.x(mark.x);
            svg.line((x, self.area.top), (x, self.bottom()), "good stroke dashed");
            // Neighbours do not lie on each other, and few lines are down there.
            let y = match self.plot.has_time {
                true => self.bottom() - 8.0 - 16.0 * (index % 3) as f64,
                false => self.area.top + 13.0,
            };
            let is_left = x + 5.0 + text_width(&mark.text) > right;
            let (x, anchor) = if is_left {
                (x - 5.0, Anchor::End)
            } else {
                (x + 5.0, Anchor::Start)
            };
            if !mark.text.is_empty() {
                svg.text((x, y), anchor, "good solid", &mark.text);
            }
        }
    }

    fn hover(&self, lines: &[Line]) -> Hover {
        let plot = self.plot;
        let places = plot.stops.iter();
        let places = places.map(|&x| (self.x(x).round() as i32, (plot.stop_text)(x)));
        let of_line = |line: &Line| HoverLine {
            name: line.name.clone(),
            color: line.color,
            values: plot
                .stops
                .iter()
                .map(|&x| {
                    let y = interpolate(&line.points, x)?;
                    Some((self.y(y).round() as i32, (plot.value_text)(y)))
                })
                .collect(),
        };
        let connected = lines.iter().filter(|line| line.look != Look::Dots);
        Hover {
            top: self.area.top as i32,
            bottom: self.bottom() as i32,
            places: places.collect(),
            lines: connected.map(of_line).collect(),
        }
    }
}

/// Returns the number of rows.
fn draw_legend(svg: &mut Svg, lines: &[Line]) -> usize {
    if lines.len() < 2 {
        return 0;
    }
    let (mut x, mut y, mut rows) = (14.0, 46.0, 1);
    for line in lines {
        let name = fit(&line.name, WIDTH - 28.0 - 34.0);
        let width = text_width(&name) + 34.0;
        if x + width > WIDTH - 14.0 && x > 14.0 {
            (x, y, rows) = (14.0, y + LEGEND_PITCH, rows + 1);
        }
        let (color, middle) = (line.color, y - 4.0);
        match line.look {
            Look::Solid => {
                svg.line((x, middle), (x + 14.0, middle), &format!("{color} stroke"));
            }
            Look::Dashed => {
                let class = format!("{color} stroke dashed");
                svg.line((x, middle), (x + 14.0, middle), &class);
            }
            Look::Dots => svg.dot((x + 7.0, middle), 4.0, &format!("{color} solid")),
        }
        svg.text((x + 20.0, y), Anchor::Start, "soft solid", &name);
        x += width;
    }
    rows
}

fn share(range: &Range<f64>, value: f64) -> f64 {
    ((value - range.start) / (range.end - range.start)).clamp(0.0, 1.0)
}

/// The value of a line at `x`, between its neighbours.
pub(super) fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.partition_point(|point| point.0 < x);
    let next = points.get(after)?;
    if next.0 == x {
        return Some(next.1);
    }
    let before = points[after.checked_sub(1)?];
    Some(before.1 + (next.1 - before.1) * (x - before.0) / (next.0 - before.0))
}

/// Ticks of a linear axis from 0: 1, 2 or 5 times a power of ten apart, at most six of them.
pub(super) fn ticks_to(max: f64) -> Vec<f64> {
    let step = steps().find(|step| step * 5.0 >= max).unwrap_or(max);
    ticks(step, max)
}

/// Ticks of an axis of seconds, in steps that people count in.
pub(super) fn time_ticks_to(max_s: f64) -> Vec<f64> {
    let step = TIME_STEPS.iter().find(|step| **step * 6.0 >= max_s);
    match step {
        Some(step) => ticks(*step, max_s),
        None => ticks_to(max_s),
    }
}

fn ticks(step: f64, max: f64) -> Vec<f64> {
    (0..=6)
        .map(|n| f64::from(n) * step)
        .take_while(|tick| *tick <= max * 1.001)
        .collect()
}

/// Powers of ten, twice and five times of them, from very small to very large.
fn steps() -> impl Iterator<Item = f64> {
    (-6..=15).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)))
}

/// For axes that show logarithms: the steps within a range, as logarithms. With more than six, the
/// powers of ten alone.
pub(super) fn log_ticks(range: &Range<f64>) -> Vec<f64> {
    let within = |tick: &f64| (range.start..=range.end).contains(tick);
    let all: Vec<f64> = steps().map(f64::log10).filter(within).collect();
    match all.len() {
        0..=6 => all,
        _ => (-6..=15).map(f64::from).filter(within).collect(),
    }
}

/// A page shows plots at about this width, on a phone too, so that the text keeps its size.
pub(super) const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 250.0;
const LEGEND_PITCH: f64 = 18.0;
/// Of the text in drawings.
const TEXT_HEIGHT: f64 = 15.0;
/// Lines with so few points show them.
const FEW: usize = 16;
/// Seconds, minutes, hours.
const TIME_STEPS: [f64; 14] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (ticks, expected) in [
            (ticks_to(1.0), vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (ticks_to(784_000.0), vec![0.0, 2e5, 4e5, 6e5]),
            (ticks_to(12.0), vec![0.0, 5.0, 10.0]),
            (time_ticks_to(4.0), vec![0.0, 1.0, 2.0, 3.0, 4.0]),
            (time_ticks_to(12.5), vec![0.0, 5.0, 10.0]),
            (
                time_ticks_to(170.0),
                vec![0.0, 30.0, 60.0, 90.0, 120.0, 150.0],
            ),
            (time_ticks_to(3700.0), vec![0.0, 1800.0, 3600.0]),
        ] {
            let same = ticks
                .iter()
                .zip(&expected)
                .all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(same && ticks.len() == expected.len(), "{ticks:?}");
        }
        let decades = log_ticks(&(1.0..4.0));
        assert_eq!(decades, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(log_ticks(&(1.9..2.8)).len(), 3, "100, 200, 500");
    }

    #[test]
    fn between_two_points_a_line_is_straight() {
        let points = [(0.0, 0.0), (2.0, 10.0)];
        for (x, expected) in [
            (-1.0, None),
            (0.0, Some(0.0)),
            (1.0, Some(5.0)),
            (2.0, Some(10.0)),
            (3.0, None),
        ] {
            assert_eq!(interpolate(&points, x), expected, "{x}");
        }
    }
}
