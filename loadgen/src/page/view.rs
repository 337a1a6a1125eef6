//! The page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::Plot;
use super::plots::{Named, cpu_ns, file_name, has_messages, is_open_loop, received_per_s};
use super::subject::{Scenario, Subject, describe};
use super::table::{self, Cell, Table, Verdict};
use super::{text, theme};
use crate::report::{Latency, Ledger, ResultFile};
use crate::secrets::{MASK, masked};

/// All of it. `plots` has those of each scenario.
pub(super) fn page(
    title: Option<&str>,
    scenarios: &[Scenario],
    overview: &[Named],
    plots: &[Vec<Named>],
) -> Markup {
    let title = title.map_or_else(|| heading(scenarios), str::to_owned);
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
                    (subtitle(scenarios))
                    @if scenarios.len() > 1 { (navigation(scenarios)) }
                }
                main {
                    (doubts(scenarios))
                    @if !overview.is_empty() { section { h2 { "Overview" } (figures(overview)) } }
                    @for (scenario, plots) in scenarios.iter().zip(plots) {
                        (section(scenario, plots))
                    }
                }
                footer { (legend()) }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    }
}

fn heading(scenarios: &[Scenario]) -> String {
    match (scenarios, &labels(scenarios)[..]) {
        ([scenario], [label]) => format!("{}: {}", text::isolated(label), scenario.title),
        ([scenario], labels) => format!("{} brokers: {}", labels.len(), scenario.title),
        (_, [label]) => format!("{} in {} scenarios", text::isolated(label), scenarios.len()),
        (_, labels) => format!("{} brokers in {} scenarios", labels.len(), scenarios.len()),
    }
}

fn labels(scenarios: &[Scenario]) -> Vec<&str> {
    let mut labels: Vec<&str> = Vec::new();
    for subject in scenarios.iter().flat_map(|scenario| &scenario.subjects) {
        if !labels.contains(&subject.label.as_str()) {
            labels.push(&subject.label);
        }
    }
    labels
}

fn subtitle(scenarios: &[Scenario]) -> Markup {
    let files: Vec<&ResultFile> = all_files(scenarios).collect();
    let started = files.iter().map(|file| file.run.started_unix_ms).min();
    let mut machines: Vec<String> = Vec::new();
    for file in &files {
        let machine = &file.run.machine;
        let memory = text::bytes(machine.memory_bytes as f64);
        let line = format!("{}, {memory}, Linux {}", machine.cpu, machine.kernel);
        if !machines.contains(&line) {
            machines.push(line);
        }
    }
    html! {
        p { (files.len()) @if files.len() == 1 { " run" } @else { " runs" } ", " (text::date(started.unwrap_or(0))) }
        @for machine in machines { p { (machine) } }
    }
}

fn all_files(scenarios: &[Scenario]) -> impl Iterator<Item = &ResultFile> {
    let subjects = scenarios.iter().flat_map(|scenario| &scenario.subjects);
    subjects.flat_map(|subject| subject.rounds())
}

fn navigation(scenarios: &[Scenario]) -> Markup {
    html! {
        nav { @for scenario in scenarios {
            a href={ "#" (file_name(&scenario.title)) } { (scenario.title) }
        } }
    }
}

/// Runs that cannot be trusted, before anybody reads a number.
fn doubts(scenarios: &[Scenario]) -> Markup {
    let doubtful: Vec<&ResultFile> = all_files(scenarios)
        .filter(|file| !file.validity.valid)
        .collect();
    html! {
        @if !doubtful.is_empty() {
            div.card.notice {
                p.bad { (doubtful.len()) " of these runs are invalid" }
                p { "They are ignored where the same broker has a valid round of the scenario." }
                details open[doubtful.len() <= DOUBTS_SHOWN] {
                    summary { "Why" }
                    ul { @for file in doubtful { @for reason in &file.validity.reasons {
                        li { bdi { (file.run.label.as_deref().unwrap_or(&file.run.target)) } ", " (file.run.scenario.name) ": " (reason.text) }
                    } } }
                }
            }
        }
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
            @if let [subject] = &scenario.subjects[..] { (tiles(subject)) }
            div.card { (table(&table::of(scenario))) }
            @if !is_open_loop(first) && first.totals.latency.is_some() {
                p { "A closed loop waits for the broker: these latencies are those of a queue that \
                     is always full, and they hide stalls of the broker." }
            }
            (figures(plots))
            @for subject in &scenario.subjects { (particulars(subject)) }
            details { summary { "The scenario as a file" } pre { (without_passwords(&first.run.scenario.toml)) } }
        }
    }
}

/// The command of a broker is one line, and so were those of earlier versions.
fn masked_line(command: &str) -> String {
    let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    masked(&words).join(" ")
}

/// Results of earlier versions have passwords in them.
fn without_passwords(toml: &str) -> String {
    let line = |line: &str| {
        if line.trim_start().starts_with("password =") {
            format!("password = \"{MASK}\"\n")
        } else {
            format!("{line}\n")
        }
    };
    toml.lines().map(line).collect()
}

/// The most important numbers of a run on its own.
fn tiles(subject: &Subject) -> Markup {
    let file = subject.typical();
    let latency = file.totals.latency.as_ref().map(|pair| &pair.corrected);
    let mut tiles: Vec<(String, &str)> = Vec::new();
    if has_messages(file) {
        let rate = received_per_s(file).map_or_else(|| "–".to_owned(), text::rate);
        tiles.push((rate, "deliveries"));
    } else {
        tiles.push((text::rate(file.totals.connects_per_s), "connections"));
    }
    if let Some(latency) = latency.filter(|latency| latency.count > 0) {
        tiles.push((text::micros(latency.p50_us as f64), "p50 latency"));
        tiles.push((text::micros(latency.p99_us as f64), "p99 latency"));
        tiles.push((text::micros(latency.p999_us as f64), "p99.9 latency"));
    }
    if let Some(cpu) = cpu_ns(file) {
        tiles.push((text::nanos(cpu), "CPU per delivery"));
    }
    let lost = file.totals.ledger.lost;
    html! {
        div.tiles {
            @for (number, name) in tiles { div.tile { b { (number) } span { (name) } } }
            @if file.totals.ledger.owed > 0 {
                div.tile { b.bad[lost > 0] { (text::count(lost)) } span { "lost" } }
            }
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
                        span.dot style={ "background:" (theme::series(row.color).css()) } {}
                        bdi { (row.label) }
                        @if row.is_invalid { small.bad { "invalid" } }
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

fn figures(plots: &[Named]) -> Markup {
    html! { div.plots { @for named in plots { (figure(&named.plot)) } } }
}

fn figure(plot: &Plot) -> Markup {
    let hover = plot
        .hover
        .as_ref()
        .map(|hover| serde_json::to_string(hover).expect("numbers and text"));
    html! { figure data-hover=[hover] title=[plot.hover.is_none().then_some(&plot.title)] { (PreEscaped(&plot.svg)) } }
}

/// What is known of a subject beyond the table.
fn particulars(subject: &Subject) -> Markup {
    let file = subject.typical();
    html! {
        details {
            summary { bdi { (subject.label) } ": details" }
            (latencies(file))
            (ledgers(file))
            (troubles(file))
            (sys(file))
            p { "Commands of all rounds, with the load average before each:" }
            pre { @for round in subject.rounds() {
                (masked(&round.run.command).join(" ")) "  # " (round.run.machine.load_before)
                @if !round.validity.valid { ", not valid" } "\n"
            } }
            @if let Some(broker) = &file.broker { p { "Command of the broker:" } pre { (masked_line(&broker.command)) } }
        }
    }
}

/// Every distribution of the run.
fn latencies(file: &ResultFile) -> Markup {
    let mut rows: Vec<(String, &Latency)> = Vec::new();
    for qos in &file.qos {
        if let Some(pair) = &qos.latency {
            rows.push((format!("QoS {}, from when due", qos.qos), &pair.corrected));
            rows.push((
                format!("QoS {}, from when sent", qos.qos),
                &pair.uncorrected,
            ));
        }
    }
    for group in &file.groups {
        let receive = group.receive.as_ref();
        let received = receive.and_then(|receive| Some(&receive.latency.as_ref()?.corrected));
        let retained = receive.and_then(|receive| receive.retained.as_ref());
        let acknowledge = group.publish.as_ref().and_then(|p| p.acknowledge.as_ref());
        for (what, latency) in [
            ("received, from when due", received),
            ("acknowledged", acknowledge),
            ("retained message after SUBSCRIBE", retained),
            ("connected", group.connect.as_ref()),
        ] {
            rows.extend(latency.map(|latency| (format!("{}: {what}", group.name), latency)));
        }
    }
    let rows = rows
        .into_iter()
        .filter(|(_, latency)| latency.count > 0)
        .collect::<Vec<_>>();
    html! { @if !rows.is_empty() {
        p { "Latencies of a typical round:" }
        div.card { table {
            thead { tr {
                th { "" } th { "count" } th { "min" } th { "mean" } th { "p50" } th { "p90" } th { "p99" } th { "p99.9" }
                th { "p99.99" } th { "max" }
            } }
            tbody { @for (name, latency) in rows { tr {
                td { (name) }
                td { (text::count(latency.count)) }
                td { (text::micros(latency.min_us as f64)) }
                td { (text::micros(latency.mean_us)) }
                @for us in [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.p9999_us, latency.max_us] {
                    td { (text::micros(us as f64)) }
                }
            } } }
        } }
    } }
}

fn ledgers(file: &ResultFile) -> Markup {
    let by_qos = file
        .qos
        .iter()
        .map(|qos| (format!("QoS {}", qos.qos), &qos.ledger));
    let by_group = file.groups.iter().filter_map(|group| {
        let receive = group.receive.as_ref()?;
        Some((group.name.clone(), &receive.ledger))
    });
    let ledgers: Vec<(String, &Ledger)> = by_qos.chain(by_group).collect();
    html! { @if !ledgers.is_empty() {
        p { "Every delivery owed in a typical round:" }
        div.card { table {
            thead { tr {
                th { "" } th { "owed" } th { "delivered" } th { "lost" } th { "excused" } th { "duplicated" }
                th { "out of order" } th { "corrupt" } th { "misrouted" } th { "wrong QoS" } th { "wrong RETAIN" } th { "foreign" }
            } }
            tbody { @for (name, ledger) in ledgers { tr {
                td { (name) }
                td { (text::count(ledger.owed)) }
                td { (text::count(ledger.delivered)) }
                (fault(ledger.lost))
                td { (text::count(ledger.excused)) }
                (fault(ledger.duplicated))
                @if ledger.order_checked { (fault(ledger.out_of_order)) } @else { td { "not checked" } }
                (fault(ledger.corrupt))
                (fault(ledger.misrouted))
                (fault(ledger.wrong_qos))
                (fault(ledger.wrong_retain))
                (fault(ledger.foreign))
            } } }
        } }
    } }
}

fn fault(count: u64) -> Markup {
    html! { td.bad[count > 0] { (text::count(count)) } }
}

fn troubles(file: &ResultFile) -> Markup {
    html! { @if !file.troubles.is_empty() {
        p { "Troubles:" }
        ul { @for trouble in &file.troubles {
            li { (trouble.kind) ", " (text::count(trouble.count)) " times; first: " (trouble.first) }
        } }
    } }
}

fn sys(file: &ResultFile) -> Markup {
    let Some(sys) = &file.sys else {
        return html! {};
    };
    html! {
        @if let Some(version) = &sys.version { p { "Version of the broker: " (version) } }
        @if !sys.counters.is_empty() {
            p { "Counters of the broker and of ringload over the same " (text::seconds(sys.span_s)) ":" }
            div.card { table {
                thead { tr { th { "topic" } th { "broker" } th { "ringload" } } }
                tbody { @for counter in &sys.counters { tr {
                    td { (counter.topic) }
                    td { (text::count(counter.broker as u64)) }
                    td { (text::count(counter.ours as u64)) }
                } } }
            } }
        }
    }
}

fn legend() -> Markup {
    html! {
        p { "Latency is the time from when a message was due to its arrival at the subscriber. "
            "Numbers are medians of the valid rounds, with minimum and maximum below; curves show \
             a median round. "
            "Counts of lost and other messages are sums over all rounds. Bold: the best of the \
             brokers that lost nothing." }
        p { "Made by ringload " (env!("CARGO_PKG_VERSION")) "." }
    }
}

/// With more of them the reasons are folded, so that the numbers stay near.
const DOUBTS_SHOWN: usize = 4;
