//! Plots as SVG, with what a page needs to show values under the pointer.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use super::theme::{self, AXIS, GRID, INK, SHADE, SOFT, SURFACE};

/// A drawing of its own: `<svg …>…</svg>`.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) svg: String,
    pub(super) hover: Option<Hover>,
}

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: String,
    /// See [`theme::series`].
    pub(super) color: usize,
    /// Ascending in x.
    pub(super) points: Vec<(f64, f64)>,
}

/// One axis, in the coordinates of the points.
#[derive(Clone)]
pub(super) struct Axis {
    pub(super) range: Range<f64>,
    pub(super) ticks: Vec<f64>,
    pub(super) text: fn(f64) -> String,
}

/// One bar: a value, and what is said about it.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) color: usize,
    pub(super) value: f64,
    pub(super) text: String,
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
    color: String,
    /// For each place: position and value.
    values: Vec<Option<(i32, String)>>,
}

/// What a line plot shows besides its lines.
pub(super) struct LinePlot {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// A range of x that is not measured.
    pub(super) shade: Option<Range<f64>>,
    /// Where the pointer can stop, and how a value there is written.
    pub(super) stops: Vec<f64>,
    pub(super) stop_text: fn(f64) -> String,
    pub(super) value_text: fn(f64) -> String,
}

impl LinePlot {
    /// Draws the lines.
    pub(super) fn draw(self, lines: &[Line]) -> Plot {
        let mut svg = String::new();
        let hover = {
            let backend = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT));
            let area = backend.into_drawing_area();
            self.draw_on(&area, lines)
        };
        Plot {
            svg: labelled(&svg, &self.title),
            title: self.title,
            hover: Some(hover),
        }
    }

    fn draw_on(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, lines: &[Line]) -> Hover {
        area.fill(&SURFACE.rgb()).expect(IN_MEMORY);
        draw_text(area, &self.title, (16, 14), &title_style());
        let legend_rows = draw_legend(area, lines);
        let mut chart = ChartBuilder::on(area)
            .margin_top(46 + 18 * legend_rows)
            .margin_right(24)
            .margin_bottom(8)
            .x_label_area_size(26)
            .y_label_area_size(64)
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .expect(IN_MEMORY);
        if let Some(shade) = &self.shade {
            let corners = [
                (shade.start, self.y.range.start),
                (shade.end, self.y.range.end),
            ];
            let shade = Rectangle::new(corners, SHADE.rgb().filled());
            chart.draw_series([shade]).expect(IN_MEMORY);
        }
        chart
            .configure_mesh()
            .bold_line_style(GRID.rgb())
            .light_line_style(TRANSPARENT)
            .axis_style(AXIS.rgb())
            .label_style(small_style())
            .x_labels(self.x.ticks.len())
            .y_labels(self.y.ticks.len())
            .set_all_tick_mark_size(4)
            .draw()
            .expect(IN_MEMORY);
        for line in lines {
            let style = theme::series(line.color).rgb().stroke_width(2);
            let series = LineSeries::new(line.points.iter().copied(), style);
            chart.draw_series(series).expect(IN_MEMORY);
        }
        let plotting = chart.plotting_area();
        let place = |x: f64, y: f64| plotting.map_coordinate(&(x, y));
        let (_, pixels) = plotting.get_pixel_range();
        self.hover(lines, pixels, place)
    }

    fn hover(
        &self,
        lines: &[Line],
        pixels: Range<i32>,
        place: impl Fn(f64, f64) -> (i32, i32),
    ) -> Hover {
        let places = self.stops.iter();
        let places = places.map(|&x| (place(x, self.y.range.start).0, (self.stop_text)(x)));
        let of_line = |line: &Line| HoverLine {
            name: line.name.clone(),
            color: theme::series(line.color).css(),
            values: self
                .stops
                .iter()
                .map(|&x| {
                    let y = interpolate(&line.points, x)?;
                    Some((place(x, y).1, (self.value_text)(y)))
                })
                .collect(),
        };
        Hover {
            top: pixels.start,
            bottom: pixels.end,
            places: places.collect(),
            lines: lines.iter().map(of_line).collect(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (f64::from(to - from) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.text)(*value)
    }
}

/// Draws bars from left to right, one below the other, in panels side by side: a title for each
/// panel, names only in the first one.
pub(super) fn bars(title: &str, panels: &[(String, Vec<Bar>)]) -> Plot {
    let rows = panels.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0);
    let columns = panels.len().clamp(1, PANELS_MAX);
    let lines = panels.len().div_ceil(columns);
    let panel_height = 40 + rows as u32 * BAR_PITCH;
    let height = 44 + lines as u32 * panel_height + 8;
    let mut svg = String::new();
    {
        let backend = SVGBackend::with_string(&mut svg, (WIDTH, height));
        let area = backend.into_drawing_area();
        area.fill(&SURFACE.rgb()).expect(IN_MEMORY);
        draw_text(&area, title, (16, 14), &title_style());
        let width = (WIDTH as i32 - 32) / columns as i32;
        for (index, (name, bars)) in panels.iter().enumerate() {
            let (line, column) = (index / columns, index % columns);
            let left = 16 + column as i32 * width;
            let top = 44 + line as i32 * panel_height as i32;
            draw_panel(&area, name, bars, (left, top), width - 16);
        }
    }
    Plot {
        svg: labelled(&svg, title),
        title: title.to_owned(),
        hover: None,
    }
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    name: &str,
    bars: &[Bar],
    (left, top): (i32, i32),
    width: i32,
) {
    draw_text(area, &fit(name, width), (left, top), &panel_style());
    let largest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let names = bars.iter().map(|bar| fit(&bar.name, width * 2 / 5));
    let names: Vec<String> = names.collect();
    let label_width = names.iter().map(|name| text_width(name)).max();
    let value_width = bars.iter().map(|bar| text_width(&bar.text)).max();
    let from = left + label_width.unwrap_or(0) + 10;
    let room = left + width - from - value_width.unwrap_or(0) - 8;
    for (row, bar) in bars.iter().enumerate() {
        let y = top + 24 + row as i32 * BAR_PITCH as i32;
        let middle = y + BAR_HEIGHT / 2;
        let share = if largest > 0.0 {
            bar.value / largest
        } else {
            0.0
        };
        // A value of nothing much is still to be seen.
        let to = from + ((f64::from(room) * share) as i32).max(2);
        let right = small_style().pos(Pos::new(HPos::Right, VPos::Center));
        draw_text(area, &names[row], (from - 8, middle), &right);
        let color = theme::series(bar.color).rgb();
        let rectangle = Rectangle::new([(from, y), (to, y + BAR_HEIGHT)], color.filled());
        area.draw(&rectangle).expect(IN_MEMORY);
        let value = ink_style().pos(Pos::new(HPos::Left, VPos::Center));
        draw_text(area, &bar.text, (to + 6, middle), &value);
    }
}

/// Returns the number of rows.
fn draw_legend(area: &DrawingArea<SVGBackend<'_>, Shift>, lines: &[Line]) -> u32 {
    if lines.len() < 2 {
        return 0;
    }
    let (mut x, mut y, mut rows) = (16, 40, 1);
    for line in lines {
        let name = fit(&line.name, WIDTH as i32 - 32 - 34);
        let width = text_width(&name) + 34;
        if x + width > WIDTH as i32 - 16 && x > 16 {
            (x, y, rows) = (16, y + 18, rows + 1);
        }
        let color = theme::series(line.color).rgb();
        let swatch = Rectangle::new([(x, y + 4), (x + 14, y + 8)], color.filled());
        area.draw(&swatch).expect(IN_MEMORY);
        draw_text(area, &name, (x + 20, y), &small_style());
        x += width;
    }
    rows
}

fn draw_text(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    text: &str,
    at: (i32, i32),
    style: &TextStyle<'_>,
) {
    area.draw(&Text::new(text, at, style)).expect(IN_MEMORY);
}

fn title_style() -> TextStyle<'static> {
    ("sans-serif", 15, FontStyle::Bold)
        .into_font()
        .color(&INK.rgb())
}

fn panel_style() -> TextStyle<'static> {
    ("sans-serif", 12, FontStyle::Bold)
        .into_font()
        .color(&SOFT.rgb())
}

fn small_style() -> TextStyle<'static> {
    ("sans-serif", TEXT_SIZE).into_font().color(&SOFT.rgb())
}

fn ink_style() -> TextStyle<'static> {
    ("sans-serif", TEXT_SIZE).into_font().color(&INK.rgb())
}

/// About: the reader's font is not known here. Generous, so that nothing overlaps.
fn text_width(text: &str) -> i32 {
    text.chars().count() as i32 * TEXT_SIZE * 3 / 5
}

/// A text that takes no more than this width: what is left out in the middle is `…`, because names
/// of one kind begin alike and often end alike, too. Marks that turn the direction of a text around
/// go.
fn fit(text: &str, width: i32) -> String {
    let all: Vec<char> = text.chars().filter(|c| !is_direction(*c)).collect();
    let count_max = (width * 5 / (TEXT_SIZE * 3)).max(3) as usize;
    if all.len() <= count_max {
        return all.into_iter().collect();
    }
    let end = (count_max - 1) / 2;
    let start = count_max - 1 - end;
    let (head, tail) = (&all[..start], &all[all.len() - end..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

/// Marks of the bidirectional algorithm of Unicode: embeddings, overrides, isolates.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}' | '\u{061C}')
}

/// Tells readers who do not see the drawing what it is.
fn labelled(svg: &str, title: &str) -> String {
    let escaped = title
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;");
    svg.replacen(
        "<svg ",
        &format!("<svg role=\"img\" aria-label=\"{escaped}\" "),
        1,
    )
}

/// The value of a line at `x`, between its neighbours.
fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
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
    (0..=5)
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

/// SVG into a string does not fail.
const IN_MEMORY: &str = "drawing into memory";
const WIDTH: u32 = 620;
const HEIGHT: u32 = 300;
const TEXT_SIZE: i32 = 12;
const BAR_HEIGHT: i32 = 14;
const BAR_PITCH: u32 = 22;
/// Panels side by side.
const PANELS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (max, expected) in [
            (1.0, vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (784_000.0, vec![0.0, 200_000.0, 400_000.0, 600_000.0]),
            (12.0, vec![0.0, 5.0, 10.0]),
        ] {
            let ticks = ticks_to(max);
            let same = ticks
                .iter()
                .zip(&expected)
                .all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(same && ticks.len() == expected.len(), "{max}: {ticks:?}");
        }
        let decades = log_ticks(&(1.0..4.0));
        assert_eq!(decades, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(log_ticks(&(1.9..2.8)).len(), 3, "100, 200, 500");
    }

    #[test]
    fn long_names_are_cut_and_lie_over_nothing() {
        let long = "mosquitto 2.0.22 (Debian 12, default configuration, TLS 1.3)";
        let name = fit(long, 116);
        assert!(text_width(&name) <= 116, "{name}");
        assert!(
            name.starts_with("mosquit") && name.ends_with("1.3)"),
            "{name}"
        );
        assert_eq!(fit("short", 116), "short");
        assert_eq!(fit("x / \u{202E}rtl", 116), "x / rtl");
        let bar = |color| Bar {
            name: long.to_owned(),
            color,
            value: 1.0 + color as f64,
            text: "784 k/s".to_owned(),
        };
        let panels = ["pairs, QoS 0", long].map(|name| (name.to_owned(), vec![bar(0), bar(1)]));
        let svg = bars("Deliveries per second", &panels).svg;
        // No bar is turned around: its room has a positive width.
        let widths = svg.split("<rect ").skip(1).filter_map(|rect| {
            let (_, rest) = rect.split_once("width=\"")?;
            rest.split('"').next()?.parse::<i32>().ok()
        });
        let widths: Vec<i32> = widths.collect();
        assert!(
            widths.len() >= 5 && widths.iter().all(|width| *width >= 2),
            "{widths:?}"
        );
        assert!(widths.iter().any(|width| *width > 60), "{widths:?}");
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
