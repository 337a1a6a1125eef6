//! Storms: the verdict and the numbers of each run that had one, and what to mark over time.

use maud::{Markup, html};

use super::plot::Mark;
use super::subject::Scenario;
use super::text;
use super::verdict::capital;
use crate::report::{ResultFile, Storm};

/// What storms came to, side by side; nothing if no run had one.
pub(super) fn section(scenario: &Scenario) -> Markup {
    let storms = scenario.subjects.iter();
    let storms: Vec<_> = storms
        .filter_map(|subject| Some((subject, subject.typical().storm.as_ref()?)))
        .collect();
    html! { @if !storms.is_empty() {
        @for (_, storm) in &storms { p { b { (capital(&storm.sentence)) "." } } }
        div.card tabindex="0" { table {
            thead { tr {
                th { "storm" } th { "back-off" } th { "recovered" } th { "50 % back" } th { "90 %" } th { "99 %" } th { "all" }
                th { "attempts" } th { "failed" } th { "connect p99" } th { "sessions" } th { "memory" } th { "CPU, cores" }
            } }
            tbody { @for (subject, storm) in &storms { tr {
                td { span class={ "dot " (subject.color) } {} bdi { (subject.label) } }
                td { (storm.backoff) }
                @match storm.recovered_s {
                    Some(after_s) => { td { (text::seconds(after_s)) } }
                    None => { td.bad { "never" } }
                }
                @for share in [0.5, 0.9, 0.99, 1.0] { (time(storm.returned(share))) }
                td { (text::count(storm.attempts)) }
                td { (text::count(failed(storm))) }
                td { (storm.connect.as_ref().map_or_else(dash, |connect| text::micros(connect.p99_us as f64))) }
                td { @if storm.sessions > 0 { (text::count(storm.sessions_present)) " of " (text::count(storm.sessions)) } @else { "–" } }
                td { (storm.memory_peak_bytes.map_or_else(dash, |bytes| text::bytes(bytes as f64))) }
                td { (storm.cpu_peak_cores.map_or_else(dash, text::digits)) }
            } } }
        } }
        @for (subject, storm) in &storms { (latencies(&subject.label, storm)) (failures(&subject.label, storm)) }
    } }
}

fn dash() -> String {
    "–".to_owned()
}

fn time(after_s: Option<f64>) -> Markup {
    html! { td { (after_s.map_or_else(dash, |after_s| format!("{after_s:.2} s"))) } }
}

fn failed(storm: &Storm) -> u64 {
    storm.failures.iter().map(|failure| failure.count).sum()
}

/// p99 of each group in each phase.
fn latencies(label: &str, storm: &Storm) -> Markup {
    html! { @if !storm.latencies.is_empty() {
        details {
            summary { "Latency by phase: " bdi { (label) } }
            div.card tabindex="0" { table {
                thead { tr { th { "group" } th { "phase" } th { "count" } th { "p50" } th { "p99" } th { "max" } } }
                tbody { @for one in &storm.latencies { tr {
                    td { (one.group) @if one.is_bystander { small { "not hit" } } }
                    td { (one.phase) }
                    td { (text::count(one.count)) }
                    @for us in [one.p50_us, one.p99_us, one.max_us] { td { (text::micros(us as f64)) } }
                } } }
            } }
        }
    } }
}

fn failures(label: &str, storm: &Storm) -> Markup {
    html! { @if !storm.failures.is_empty() {
        details {
            summary { "Attempts that failed: " bdi { (label) } }
            ul { @for failure in &storm.failures { li { (text::count(failure.count)) " × " (failure.why) } } }
        }
    } }
}

/// What happened when; `None` if the run had no storm.
pub(super) fn marks(file: &ResultFile) -> Option<Vec<Mark>> {
    let storm = file.storm.as_ref()?;
    let mark = |after_s: Option<f64>, text: &str| {
        after_s.map(|after_s| Mark {
            x: storm.at_s + after_s,
            text: text.to_owned(),
        })
    };
    let marks = [
        mark(Some(0.0), &storm.event),
        mark(storm.returned(0.5), "50 %"),
        // Side by side, their names would lie on each other.
        mark(storm.returned(1.0), "all back").or_else(|| mark(storm.returned(0.99), "99 %")),
        mark(storm.recovered_s, "recovered"),
    ];
    Some(marks.into_iter().flatten().collect())
}
