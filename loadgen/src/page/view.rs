//! The page: what is on it, from top to bottom.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::details::{disclosure, particulars, without_passwords};
use super::plot::Plot;
use super::plots::{
    Named, cpu_ns, file_name, has_messages, is_open_loop, received_per_s, took_place,
};
use super::search::Search;
use super::subject::{Scenario, Subject, describe};
use super::table::{self, Cell, Table, Verdict};
use super::verdict::{doubts, thresholds, verdict};
use super::{course, search, storm, text, theme};
use crate::report::{ResultFile, Second};

/// What a page is made of.
pub(super) struct Contents<'a> {
    pub(super) scenarios: &'a [Scenario],
    /// Plots across scenarios.
    pub(super) overview: &'a [Named],
    /// Those of each scenario.
    pub(super) plots: &'a [Vec<Named>],
    pub(super) searches: &'a [Search],
    /// Plots of each search.
    pub(super) found: &'a [Vec<Named>],
}

/// All of it.
pub(super) fn page(title: Option<&str>, contents: &Contents<'_>) -> Markup {
    let title = title.map_or_else(|| heading(contents), str::to_owned);
    let &Contents {
        scenarios,
        overview,
        plots,
        searches,
        found,
    } = contents;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(theme::style_sheet())) (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { (title) }
                    (subtitle(contents))
                    (brokers(contents))
                    @if scenarios.len() > 1 { (navigation(scenarios)) }
                }
                main {
                    (verdict(scenarios))
                    (thresholds(scenarios))
                    (doubts(scenarios))
                    @for (search, plots) in searches.iter().zip(found) {
                        (search::section(search, plots))
                    }
                    @if !overview.is_empty() {
                        section id="overview" { h2 { "Overview" } (figures(overview, "overview")) }
                    }
                    @for (scenario, plots) in scenarios.iter().zip(plots) {
                        (section(scenario, plots))
                    }
                    (disclosure(scenarios, searches))
                }
                footer { (legend()) }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    }
}

fn heading(contents: &Contents<'_>) -> String {
    let scenarios = contents.scenarios;
    match (scenarios, &subjects(scenarios)[..]) {
        ([], _) => match contents.searches {
            [search] => format!("The largest load: {}", search.title()),
            searches => format!("{} searches for the largest load", searches.len()),
        },
        ([scenario], [subject]) => {
            format!("{}: {}", text::isolated(&subject.label), scenario.title)
        }
        ([scenario], subjects) => format!("{} brokers: {}", subjects.len(), scenario.title),
        (_, [subject]) => {
            let label = text::isolated(&subject.label);
            format!("{label} in {} scenarios", scenarios.len())
        }
        (_, subjects) => format!(
            "{} brokers in {} scenarios",
            subjects.len(),
            scenarios.len()
        ),
    }
}

/// The first subject of each label.
fn subjects(scenarios: &[Scenario]) -> Vec<&Subject> {
    let mut subjects: Vec<&Subject> = Vec::new();
    for subject in scenarios.iter().flat_map(|scenario| &scenario.subjects) {
        if !subjects.iter().any(|known| known.label == subject.label) {
            subjects.push(subject);
        }
    }
    subjects
}

fn subtitle(contents: &Contents<'_>) -> Markup {
    let files: Vec<&ResultFile> = all_files(contents.scenarios).collect();
    let searches = contents.searches.iter();
    let started = files.iter().map(|file| file.run.started_unix_ms);
    let started = started.chain(searches.clone().map(|search| search.started_unix_ms));
    let started = started.min();
    let all_machines = files.iter().map(|file| &file.run.machine);
    let all_machines = all_machines.chain(searches.map(|search| &search.machine));
    let mut machines: Vec<String> = Vec::new();
    for machine in all_machines {
        let memory = text::bytes(machine.memory_bytes as f64);
        let cores = match machine.cores {
            1 => "1 core".to_owned(),
            cores => format!("{cores} cores"),
        };
        let line = format!(
            "{cores} of {}, {memory}, Linux {}",
            machine.cpu, machine.kernel
        );
        if !machines.contains(&line) {
            machines.push(line);
        }
    }
    html! {
        p {
            @match files.len() { 0 => {}, 1 => { "1 run, " }, runs => { (runs) " runs, " } }
            (text::date(started.unwrap_or(0)))
        }
        @for machine in machines { p { (machine) } }
    }
}

/// Every run of the page.
pub(super) fn all_files(scenarios: &[Scenario]) -> impl Iterator<Item = &ResultFile> {
    let subjects = scenarios.iter().flat_map(|scenario| &scenario.subjects);
    subjects.flat_map(|subject| subject.rounds())
}

/// Who is who, with versions.
fn brokers(contents: &Contents<'_>) -> Markup {
    html! {
        ul.brokers {
            @for subject in subjects(contents.scenarios) {
                li {
                    span class={ "dot " (subject.color) } {}
                    bdi { (subject.label) }
                    @if let Some(version) = version(subject) { small { bdi { (version) } } }
                }
            }
            li { span class="dot soft" {} "ringload" small { (generators(contents).join(", ")) } }
        }
    }
}

/// The broker's own word, if it is not in the label anyway.
fn version(subject: &Subject) -> Option<&str> {
    let rounds = subject.rounds().iter();
    let mut versions = rounds.filter_map(|file| file.sys.as_ref()?.version.as_deref());
    versions
        .next()
        .filter(|version| !subject.label.contains(*version))
}

fn generators<'a>(contents: &Contents<'a>) -> Vec<&'a str> {
    let runs = all_files(contents.scenarios).map(|file| &file.run.ringload);
    let searches = contents.searches.iter().map(|search| &search.ringload);
    let mut versions: Vec<&str> = Vec::new();
    for version in runs.chain(searches) {
        if !versions.contains(&version.as_str()) {
            versions.push(version);
        }
    }
    versions
}

fn navigation(scenarios: &[Scenario]) -> Markup {
    html! {
        nav aria-label="Scenarios" { @for scenario in scenarios {
            a href={ "#" (file_name(&scenario.title)) } { (scenario.title) }
        } }
    }
}

fn section(scenario: &Scenario, plots: &[Named]) -> Markup {
    let first = scenario.subjects[0].typical();
    let id = file_name(&scenario.title);
    html! {
        section id=(id) {
            h2 { a href={ "#" (id) } { (scenario.title) } }
            p { (scenario.about) }
            ul.groups { @for group in &first.groups { li { (describe(group)) } } }
            @if took_place(first) {
                @if let [subject] = &scenario.subjects[..] { (tiles(subject)) }
                div.card tabindex="0" role="region" aria-label={ "Numbers of " (scenario.title) } { (table(&table::of(scenario))) }
            } @else { p { "It did not take place; there are no numbers." } }
            (storm::section(scenario))
            @if !is_open_loop(first) && first.totals.latency.is_some() {
                p { "A closed loop waits for the broker: these latencies are those of a queue that \
                     is always full, and they hide stalls of the broker." }
            }
            (figures(plots, &id))
            @for subject in &scenario.subjects { (particulars(subject)) }
            details { summary { "The scenario as a file" } pre tabindex="0" { (without_passwords(&first.run.scenario.toml)) } }
        }
    }
}

/// A number in large digits, and its course.
struct Tile {
    number: String,
    name: &'static str,
    course: Vec<f64>,
    is_bad: bool,
}

impl Tile {
    fn new(number: String, name: &'static str) -> Tile {
        Tile {
            number,
            name,
            course: Vec::new(),
            is_bad: false,
        }
    }

    fn with_course(self, file: &ResultFile, of: fn(&Second) -> Option<f64>) -> Tile {
        Tile {
            course: course::values(file, of),
            ..self
        }
    }
}

/// The most important numbers of a run on its own.
fn tiles(subject: &Subject) -> Markup {
    let file = subject.typical();
    let latency = file.totals.latency.as_ref().map(|pair| &pair.corrected);
    let mut tiles: Vec<Tile> = Vec::new();
    if has_messages(file) {
        let rate = received_per_s(file).map_or_else(|| "–".to_owned(), text::rate);
        tiles.push(Tile::new(rate, "deliveries").with_course(file, course::DELIVERED.of));
    } else {
        tiles.push(Tile::new(
            text::rate(file.totals.connects_per_s),
            "connections",
        ));
    }
    if let Some(latency) = latency.filter(|latency| latency.count > 0) {
        tiles.push(Tile::new(
            text::micros(latency.p50_us as f64),
            "p50 latency",
        ));
        let p99 = Tile::new(text::micros(latency.p99_us as f64), "p99 latency");
        tiles.push(p99.with_course(file, course::P99.of));
        tiles.push(Tile::new(
            text::micros(latency.p999_us as f64),
            "p99.9 latency",
        ));
    }
    if let Some(cpu) = cpu_ns(file) {
        let cpu = Tile::new(text::nanos(cpu), "CPU per delivery");
        tiles.push(cpu.with_course(file, |second| second.broker_cpu));
    }
    let lost = file.totals.ledger.lost;
    if file.totals.ledger.owed > 0 {
        tiles.push(Tile {
            is_bad: lost > 0,
            ..Tile::new(text::count(lost), "lost")
        });
    }
    let is_invalid = subject.is_invalid();
    html! {
        div.tiles.invalid[is_invalid] {
            @for tile in tiles { div.tile {
                b.bad[tile.is_bad] { (tile.number) }
                span { (tile.name) @if is_invalid { ", not valid" } }
                (sparkline(&tile.course))
            } }
        }
    }
}

/// The shape of a course, without numbers.
fn sparkline(values: &[f64]) -> Markup {
    let largest = values.iter().copied().fold(0.0, f64::max);
    if values.len() < 3 || largest <= 0.0 {
        return html! {};
    }
    let step = 100.0 / (values.len() - 1) as f64;
    let point = |(index, value): (usize, &f64)| {
        format!(
            "{:.1},{:.1}",
            index as f64 * step,
            23.0 - 22.0 * value / largest
        )
    };
    let points: Vec<String> = values.iter().enumerate().map(point).collect();
    html! {
        svg.spark viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true" {
            polyline points=(points.join(" ")) {}
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        table {
            thead { tr {
                th { "broker" }
                @for column in &table.columns { th title=(column.hint) { (column.name) } }
            } }
            tbody { @for row in &table.rows {
                tr {
                    td {
                        span class={ "dot " (row.color) } {}
                        bdi { (row.label) }
                        @if row.is_invalid { small.bad { "not valid" } }
                    }
                    @for cell in &row.cells { (self::cell(cell.as_ref())) }
                }
            } }
        }
    }
}

fn cell(cell: Option<&Cell>) -> Markup {
    let Some(cell) = cell else {
        return html! { td { "–" } };
    };
    let class = match cell.verdict {
        Verdict::Plain => None,
        Verdict::Best => Some("best"),
        Verdict::Bad => Some("bad"),
    };
    html! {
        td class=[class] {
            (cell.text)
            @if let Some(spread) = &cell.spread { small { (spread) } }
        }
    }
}

/// Plots of a section; those over time share their cursor.
fn figures(plots: &[Named], section: &str) -> Markup {
    html! {
        div.plots {
            @for named in plots.iter().filter(|named| named.plot.panels.is_empty()) {
                (figure(&named.plot, section))
            }
        }
        @for named in plots.iter().filter(|named| !named.plot.panels.is_empty()) {
            h3 { (named.plot.title) }
            div.plots { @for panel in &named.plot.panels { figure { (PreEscaped(panel)) } } }
        }
    }
}

fn figure(plot: &Plot, section: &str) -> Markup {
    let hover = plot
        .hover
        .as_ref()
        .map(|hover| serde_json::to_string(hover).expect("numbers and text"));
    let cursor = plot.has_time.then_some(section);
    html! { figure data-hover=[hover] data-cursor=[cursor] { (PreEscaped(&plot.svg)) } }
}

fn legend() -> Markup {
    html! {
        p { "Latency is the time from when a message was due to its arrival at the subscriber. \
             Curves of percentiles end where ten values are left, with their 95 % interval shaded. \
             Hatched and dashed: runs that are not valid. "
            "Numbers are medians of the valid rounds, with minimum and maximum below; curves show \
             a median round. "
            "Counts of lost and other messages are sums over all rounds. Bold: the best of the \
             brokers that lost nothing." }
        p { "Made by ringload " (env!("RINGMQ_VERSION")) "." }
    }
}
