//! Drawings: SVG elements with classes, which the style sheet of `theme` paints.

use std::fmt::Write as _;

/// A drawing that is being made. Places are pixels from its upper left corner.
pub(super) struct Svg {
    size: (f64, f64),
    elements: String,
}

/// Where a text lies to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Svg {
    /// Nothing but its background.
    pub(super) fn new(width: f64, height: f64) -> Svg {
        let mut svg = Svg::group(width, height);
        let all = Area {
            left: 0.0,
            top: 0.0,
            width,
            height,
        };
        svg.rect(all, "surface solid");
        svg
    }

    /// Nothing at all.
    fn group(width: f64, height: f64) -> Svg {
        Svg {
            size: (width, height),
            elements: String::new(),
        }
    }

    pub(super) fn rect(&mut self, area: Area, class: &str) {
        let Area {
            left,
            top,
            width,
            height,
        } = area;
        let (left, top) = (short(left), short(top));
        let (width, height) = (short(width), short(height));
        self.put(format_args!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" class=\"{class}\"/>"
        ));
    }

    /// A rectangle that shows the background to some degree.
    pub(super) fn tint(&mut self, area: Area, class: &str, opacity: f64) {
        let before = self.elements.len();
        self.rect(area, class);
        let opacity = format!(" opacity=\"{}\"/>", short(opacity));
        let end = self.elements.len() - "/>".len();
        debug_assert!(end > before, "a rectangle was drawn");
        self.elements.replace_range(end.., &opacity);
    }

    /// A bar that does not count: its outline, and stripes.
    pub(super) fn hatched(&mut self, area: Area, color: &str) {
        let Area {
            left,
            top,
            width,
            height,
        } = area;
        let (right, bottom) = (left + width, top + height);
        let mut d = String::new();
        let mut x = left - height + HATCH;
        while x < right {
            // A stripe rises to the right; what lies outside of the bar is left out.
            let (from, to) = (x.max(left), (x + height).min(right));
            let (low, high) = (bottom - (from - x), bottom - (to - x));
            let _ = write!(
                d,
                "M{} {}L{} {}",
                short(from),
                short(low),
                short(to),
                short(high)
            );
            x += HATCH;
        }
        self.path(&d, &format!("{color} stroke thin"));
        self.rect(area, &format!("{color} stroke thin"));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.polyline([from, to].into_iter(), class);
    }

    /// Straight lines from point to point.
    pub(super) fn polyline(&mut self, points: impl Iterator<Item = (f64, f64)>, class: &str) {
        self.path(&joined(points), class);
    }

    /// What these points enclose.
    pub(super) fn polygon(&mut self, points: impl Iterator<Item = (f64, f64)>, class: &str) {
        self.path(&(joined(points) + "Z"), class);
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, class: &str) {
        let (x, y, radius) = (short(x), short(y), short(radius));
        self.put(format_args!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" class=\"{class}\"/>"
        ));
    }

    /// A text; `at` is on its base line.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y, text) = (short(x), short(y), escaped(text));
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{y}\"{anchor} class=\"{class}\">{text}</text>"
        ));
    }

    /// A text from the bottom to the top; `at` is where it begins, on its base line.
    pub(super) fn text_upwards(&mut self, (x, y): (f64, f64), class: &str, text: &str) {
        let (x, y, text) = (short(x), short(y), escaped(text));
        self.put(format_args!(
            "<text transform=\"translate({x} {y}) rotate(-90)\" class=\"{class}\">{text}</text>"
        ));
    }

    /// Another drawing, within this one.
    pub(super) fn place(&mut self, (x, y): (f64, f64), other: &Svg) {
        let (x, y, elements) = (short(x), short(y), &other.elements);
        self.put(format_args!(
            "<g transform=\"translate({x} {y})\">{elements}</g>"
        ));
    }

    /// The element. `title` tells readers who do not see it what it is.
    pub(super) fn finish(&self, title: &str) -> String {
        let ((width, height), elements) = (self.size, &self.elements);
        let (width, height, title) = (short(width), short(height), escaped(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" aria-label=\"{title}\">{elements}</svg>"
        )
    }

    fn path(&mut self, d: &str, class: &str) {
        self.put(format_args!("<path d=\"{d}\" class=\"{class}\"/>"));
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.elements.write_fmt(element);
    }
}

/// A path from point to point.
fn joined(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (index, (x, y)) in points.enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(d, "{command}{} {}", short(x), short(y));
    }
    d
}

/// About: the reader's font is not known here. Generous, so that nothing overlaps.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER_WIDTH
}

/// A text that takes no more than this width: what is left out in the middle is `…`, because names
/// of one kind begin alike and often end alike, too. Marks that turn the direction of a text around
/// go.
pub(super) fn fit(text: &str, width: f64) -> String {
    let all: Vec<char> = text.chars().filter(|c| !is_direction(*c)).collect();
    let count_max = ((width / CHARACTER_WIDTH) as usize).max(3);
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

/// A number with one decimal at most.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

/// Of the text in drawings, which has 13 px.
const CHARACTER_WIDTH: f64 = 7.4;
/// Between stripes.
const HATCH: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_in_the_middle() {
        let long = "mosquitto 2.0.22 (Debian 12, default configuration, TLS 1.3)";
        let name = fit(long, 150.0);
        assert!(text_width(&name) <= 150.0, "{name}");
        assert!(
            name.starts_with("mosquit") && name.ends_with("1.3)"),
            "{name}"
        );
        assert_eq!(fit("short", 150.0), "short");
        assert_eq!(fit("x / \u{202E}rtl", 150.0), "x / rtl");
    }

    #[test]
    fn stripes_stay_within_their_bar() {
        for width in [2.0, 9.0, 120.0] {
            let mut svg = Svg::group(200.0, 50.0);
            let area = Area {
                left: 10.0,
                top: 5.0,
                width,
                height: 14.0,
            };
            svg.hatched(area, "s1");
            let (_, d) = svg.elements.split_once("d=\"").unwrap();
            let (d, _) = d.split_once('"').unwrap();
            let numbers: Vec<f64> = d
                .split(['M', 'L', ' '])
                .filter(|word| !word.is_empty())
                .map(|word| word.parse().unwrap())
                .collect();
            assert!(numbers.len() >= 4, "{width}: {d}");
            for point in numbers.chunks(2) {
                let inside =
                    (10.0..=10.0 + width).contains(&point[0]) && (5.0..=19.0).contains(&point[1]);
                assert!(inside, "{width}: {point:?}");
            }
        }
    }

    #[test]
    fn what_is_said_is_text() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text((0.0, 0.0), Anchor::Start, "ink", "<b>&\"");
        let drawn = svg.finish("a\"><script>");
        assert!(drawn.contains(">&lt;b>&amp;&quot;</text>"), "{drawn}");
        assert!(
            drawn.contains("aria-label=\"a&quot;>&lt;script>\""),
            "{drawn}"
        );
    }
}
