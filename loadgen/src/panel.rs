//! The panel on a terminal while a run goes on.
//!
//! Rows are never wider than the terminal, so that a row is one line of the screen; what takes them
//! away again relies on that.

use console::Style;

use crate::progress::{Snapshot, micros, short};
use crate::report::Second;
use crate::shared::Stage;

/// The panel for a terminal of this width: rows, separated by line feeds.
pub fn draw(snapshot: &Snapshot<'_>, width: usize, is_colored: bool) -> String {
    // The last column stays free: a full line makes some terminals go to the next one.
    let width = width.saturating_sub(1).min(WIDTH_MAX);
    let look = Look { is_colored };
    let mut rows = vec![head(snapshot, width, &look), bar(snapshot, width, &look)];
    rows.extend(courses(snapshot, width, &look));
    rows.extend(troubles(snapshot, width, &look));
    rows.join("\n")
}

/// How rows are coloured.
struct Look {
    is_colored: bool,
}

impl Look {
    fn with(&self, style: Style, text: &str) -> String {
        style
            .force_styling(self.is_colored)
            .apply_to(text)
            .to_string()
    }

    fn soft(&self, text: &str) -> String {
        self.with(Style::new().dim(), text)
    }

    fn bold(&self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }
}

/// What is run, and what it is doing.
fn head(s: &Snapshot<'_>, width: usize, look: &Look) -> String {
    let elapsed = s.now_ns.saturating_sub(s.began_ns) as f64 / 1e9;
    let step = match s.stage {
        Stage::Publish if s.window.1 != u64::MAX && s.window.1 > s.now_ns => {
            let left = (s.window.1 - s.now_ns) as f64 / 1e9;
            format!("{}, {left:.0} s left", s.step())
        }
        Stage::Connect | Stage::Publish | Stage::Drain | Stage::End => {
            format!("{} for {elapsed:.0} s", s.step())
        }
    };
    let step = cut(&step, width);
    let room = width.saturating_sub(columns(&step) + 2);
    let name = cut(s.name, room);
    let gap = width.saturating_sub(columns(&name) + columns(&step));
    format!(
        "{}{}{}",
        look.bold(&name),
        " ".repeat(gap),
        look.soft(&step)
    )
}

/// How far it is: with the connecting first, then with the window.
fn bar(s: &Snapshot<'_>, width: usize, look: &Look) -> String {
    let share = match s.stage {
        Stage::Connect => s.ready as f64 / s.clients.max(1) as f64,
        Stage::Publish => s.share().unwrap_or(0.0),
        Stage::Drain | Stage::End => 1.0,
    };
    let share = share.clamp(0.0, 1.0);
    let number = cut(&format!(" {:3.0} %", share * 100.0), width);
    let room = width.saturating_sub(columns(&number));
    let done = (room as f64 * share).round() as usize;
    let color = match s.stage {
        Stage::Connect => Style::new().yellow(),
        Stage::Publish | Stage::Drain | Stage::End => Style::new().cyan(),
    };
    format!(
        "{}{}{number}",
        look.with(color, &"━".repeat(done)),
        look.soft(&"─".repeat(room - done))
    )
}

/// A value of the last second, and how it came about.
struct Course {
    name: &'static str,
    of: fn(&Second) -> Option<f64>,
    text: fn(f64) -> String,
    color: fn(Style) -> Style,
}

const COURSES: [Course; 5] = [
    Course {
        name: "published",
        of: |second| Some(second.sent as f64 / second.span_s),
        text: |rate| format!("{}/s", short(rate)),
        color: Style::blue,
    },
    Course {
        name: "delivered",
        of: |second| Some(second.received as f64 / second.span_s),
        text: |rate| format!("{}/s", short(rate)),
        color: Style::green,
    },
    Course {
        name: "p99",
        of: |second| Some(second.p99_us? as f64),
        text: |us| micros(us as u64),
        color: Style::magenta,
    },
    Course {
        name: "broker CPU",
        of: |second| second.broker_cpu,
        text: |cores| format!("{cores:.2} cores"),
        color: Style::yellow,
    },
    Course {
        name: "memory",
        of: |second| Some(second.broker_rss_bytes? as f64),
        text: |bytes| format!("{:.1} MiB", bytes / f64::from(1 << 20)),
        color: Style::yellow,
    },
];

/// Clients, and what has been measured so far.
fn courses(s: &Snapshot<'_>, width: usize, look: &Look) -> Vec<String> {
    let clients = format!("{} of {}", s.ready, s.clients);
    let mut rows = vec![row("clients", &clients, width, look)];
    for course in &COURSES {
        let values = s
            .seconds
            .iter()
            .map(course.of)
            .collect::<Vec<Option<f64>>>();
        let Some(last) = values.last().copied().flatten() else {
            continue;
        };
        let text = row(course.name, &(course.text)(last), width, look);
        let room = width.saturating_sub(LABEL_WIDTH + VALUE_WIDTH);
        let recent = &values[values.len().saturating_sub(room)..];
        let line = look.with((course.color)(Style::new()), &sparkline(recent));
        rows.push(text + &line);
    }
    rows
}

fn row(name: &str, value: &str, width: usize, look: &Look) -> String {
    let label = cut(&format!("{name:LABEL_WIDTH$}"), width);
    let room = width.saturating_sub(columns(&label)).min(VALUE_WIDTH);
    let value = cut(&format!("{value:<VALUE_WIDTH$}"), room);
    format!("{}{value}", look.soft(&label))
}

fn troubles(s: &Snapshot<'_>, width: usize, look: &Look) -> Option<String> {
    // What is on its way is not lost yet: losses are known at the end.
    let text = format!(
        "{} troubles so far: lost connections, refusals, faults",
        s.errors
    );
    let red = Style::new().red().bold();
    (s.errors > 0).then(|| look.with(red, &cut(&text, width)))
}

/// Heights from nothing to the largest value; a second without a value is a gap.
fn sparkline(values: &[Option<f64>]) -> String {
    let largest = values.iter().flatten().copied().fold(0.0, f64::max);
    let height = |value: &Option<f64>| match value {
        None => ' ',
        Some(value) if largest > 0.0 => {
            let step = value / largest * (HEIGHTS.len() - 1) as f64;
            HEIGHTS[(step.round() as usize).min(HEIGHTS.len() - 1)]
        }
        Some(_) => HEIGHTS[0],
    };
    values.iter().map(height).collect()
}

/// A text of at most so many columns.
fn cut(text: &str, width: usize) -> String {
    match width {
        0 => String::new(),
        width => console::truncate_str(text, width, "…").into_owned(),
    }
}

/// What a text takes on a terminal.
fn columns(text: &str) -> usize {
    console::measure_text_width(text)
}

const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// On wider terminals the panel keeps together.
const WIDTH_MAX: usize = 110;
const LABEL_WIDTH: usize = 12;
const VALUE_WIDTH: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds() -> Vec<Second> {
        let second = |n: u64| Second {
            at_s: n as f64,
            span_s: 1.0,
            sent: n * 1000,
            received: n * 1000,
            p99_us: (n != 3).then_some(n * 100),
            broker_cpu: Some(0.5),
            broker_rss_bytes: Some(20 << 20),
            ..Second::default()
        };
        (1..=90).map(second).collect()
    }

    fn snapshot<'a>(name: &'a str, stage: Stage, seconds: &'a [Second]) -> Snapshot<'a> {
        Snapshot {
            name,
            now_ns: 6_000_000_000,
            began_ns: 0,
            stage,
            window: (1_000_000_000, 11_000_000_000),
            clients: 100,
            ready: 100,
            sent: 1,
            received: 1,
            errors: 2,
            seconds,
        }
    }

    #[test]
    fn no_row_is_as_wide_as_the_terminal() {
        let seconds = seconds();
        let name = "a scenario with a very long name, against broker.example.com:1883, ü, 漢字";
        for stage in [Stage::Connect, Stage::Publish, Stage::Drain, Stage::End] {
            for width in [0, 1, 7, 20, 40, 60, 80, 200] {
                for is_colored in [false, true] {
                    let panel = draw(&snapshot(name, stage, &seconds), width, is_colored);
                    for row in panel.lines() {
                        let taken = console::measure_text_width(row);
                        assert!(taken < width.max(1), "{width}: {taken}: {row:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn colours_are_left_out_when_they_are_not_wanted() {
        let seconds = seconds();
        let snapshot = snapshot("pairs", Stage::Publish, &seconds);
        assert!(!draw(&snapshot, 80, false).contains('\x1b'));
        assert!(
            draw(&snapshot, 80, true).contains("\x1b[31m"),
            "troubles are red"
        );
    }

    #[test]
    fn the_panel_tells_how_far_the_run_is_and_what_the_last_second_brought() {
        let seconds = seconds();
        let panel = draw(&snapshot("pairs", Stage::Publish, &seconds), 60, false);
        let rows: Vec<&str> = panel.lines().collect();
        assert!(rows[0].starts_with("pairs ") && rows[0].ends_with("measuring, 5 s left"));
        assert!(
            rows[1].ends_with("  50 %") && rows[1].contains("━─"),
            "{}",
            rows[1]
        );
        assert_eq!(rows[2].trim_end(), "clients     100 of 100");
        assert!(rows[4].starts_with("delivered   90.0k/s ") && rows[4].ends_with('█'));
        assert!(rows[6].starts_with("broker CPU  0.50 cores"), "{}", rows[6]);
        assert_eq!(rows.len(), 9, "{panel}");
        let none = draw(&snapshot("pairs", Stage::Connect, &[]), 60, false);
        assert_eq!(none.lines().count(), 4, "nothing is measured yet: {none}");
    }

    #[test]
    fn a_sparkline_has_gaps_where_nothing_is_known() {
        let values = [Some(0.0), None, Some(4.0), Some(8.0)];
        assert_eq!(sparkline(&values), "▁ ▅█");
        assert_eq!(sparkline(&[Some(0.0), Some(0.0)]), "▁▁");
    }
}
