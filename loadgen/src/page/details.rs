//! What is known of runs beyond plots and tables: distributions, books, commands, machines.

use maud::{Markup, html};

use super::machines::machines;
use super::search::Search;
use super::subject::{Scenario, Subject};
use super::text;
use super::view::all_files;
use crate::report::{Latency, Ledger, Machine, ResultFile, StageResult, ThreadUse};
use crate::secrets::{MASK, masked};

/// What is known of a subject beyond the table.
pub(super) fn particulars(subject: &Subject) -> Markup {
    let file = subject.typical();
    html! {
        details {
            summary { bdi { (subject.label) } ": details" }
            (machines(file))
            (stages(file))
            (latencies(file))
            (ledgers(file))
            (troubles(file))
            (sys(file))
            p { "To run it again, with the same identifiers and payloads:" }
            pre tabindex="0" { @for round in subject.rounds() { (again(round)) "\n" } }
            @if let Some(broker) = &file.broker { p { "Command of the broker:" } pre tabindex="0" { (masked_line(&broker.command)) } }
        }
    }
}

/// The stages of the run, and their steps.
fn stages(file: &ResultFile) -> Markup {
    let load = |stage: &StageResult| match (stage.load_from, stage.load_to) {
        (from, to) if from == to => text::share(to),
        (from, to) => format!("{} to {}", text::share(from), text::share(to)),
    };
    html! { @if !file.stages.is_empty() {
        p { "Stages of a typical round:" }
        div.card tabindex="0" { table {
            thead { tr {
                th { "stage" } th { "begins" } th { "takes" } th { "load" } th { "published" } th { "delivered" }
                th { "p50" } th { "p99" } th { "lost" } th { "CPU, cores" }
            } }
            tbody { @for stage in &file.stages { tr {
                td { (stage.name) }
                td { (text::seconds(stage.at_s)) }
                td { (text::seconds(stage.span_s)) }
                td { (load(stage)) }
                td { (text::rate(stage.sent_per_s)) }
                td { (text::rate(stage.received_per_s)) }
                @if let Some(pair) = &stage.latency {
                    td { (text::micros(pair.corrected.p50_us as f64)) }
                    td { (text::micros(pair.corrected.p99_us as f64)) }
                } @else { td { "–" } td { "–" } }
                (fault(stage.ledger.lost))
                td { (stage.broker_cores.map_or_else(|| "–".to_owned(), text::digits)) }
            } } }
        } }
    } }
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
        div.card tabindex="0" { table {
            thead { tr {
                th { "times" } th { "count" } th { "min" } th { "mean" } th { "p50" } th { "p90" } th { "p99" } th { "p99.9" }
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
        div.card tabindex="0" { table {
            thead { tr {
                th { "deliveries" } th { "owed" } th { "delivered" } th { "lost" } th { "excused" } th { "duplicated" }
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
            div.card tabindex="0" { table {
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

/// Results of earlier versions have passwords in them.
pub(super) fn without_passwords(toml: &str) -> String {
    let line = |line: &str| {
        if line.trim_start().starts_with("password =") {
            format!("password = \"{MASK}\"\n")
        } else {
            format!("{line}\n")
        }
    };
    toml.lines().map(line).collect()
}

/// The command of a broker is one line, and so were those of earlier versions.
fn masked_line(command: &str) -> String {
    let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    masked(&words).join(" ")
}

/// The command that repeats a run.
fn again(round: &ResultFile) -> String {
    let mut words = masked(&round.run.command);
    if !words.iter().any(|word| word.starts_with("--run-id")) {
        words.extend(["--run-id".to_owned(), round.run.run_id.clone()]);
    }
    words.join(" ")
}

/// Everything that others need to judge the numbers, or to measure again.
pub(super) fn disclosure(scenarios: &[Scenario], searches: &[Search]) -> Markup {
    let mut machines: Vec<&Machine> = Vec::new();
    let of_runs = all_files(scenarios).map(|file| &file.run.machine);
    for machine in of_runs.chain(searches.iter().map(|search| &search.machine)) {
        if !machines.iter().any(|known| facts(known) == facts(machine)) {
            machines.push(machine);
        }
    }
    html! {
        section id="how" {
            h2 { a href="#how" { "How it was measured" } }
            @for machine in machines {
                div.card tabindex="0" { table.facts { tbody {
                    @for (name, value) in facts(machine) {
                        tr { th scope="row" { (name) } td { (value) } }
                    }
                } } }
            }
            @if !scenarios.is_empty() { (runs(scenarios)) }
        }
    }
}

/// When each run was made, and what the generator used.
fn runs(scenarios: &[Scenario]) -> Markup {
    html! {
        div.card tabindex="0" { table {
            thead { tr {
                th { "run" } th { "began" } th { "window" } th { "load before" } th { "generator" }
                th { "waited" } th { "behind schedule" } th { "id" }
            } }
            tbody { @for scenario in scenarios { @for subject in &scenario.subjects {
                @for round in subject.rounds() { (measured(subject, scenario, round)) }
            } } }
        } }
    }
}

fn measured(subject: &Subject, scenario: &Scenario, round: &ResultFile) -> Markup {
    let generator = &round.validity.generator;
    let most = |of: fn(&ThreadUse) -> Option<f64>| {
        let shares = generator.threads.iter().filter_map(of);
        shares
            .reduce(f64::max)
            .map_or_else(|| "–".to_owned(), text::share)
    };
    let lag = generator.schedule_lag.as_ref().filter(|lag| lag.count > 0);
    let lag = lag.map_or_else(|| "–".to_owned(), |lag| text::micros(lag.p99_us as f64));
    html! { tr {
        td {
            span class={ "dot " (subject.color) } {}
            bdi { (subject.label) } ", " (scenario.title)
            @if !round.validity.valid { small.bad { "not valid" } }
        }
        td { (text::date(round.run.started_unix_ms)) }
        td { (text::seconds(round.run.phases.window_s)) }
        td { (text::digits(round.run.machine.load_before)) }
        td { (most(|thread| thread.cpu_share)) }
        td { (most(|thread| thread.wait_share)) }
        td { (lag) }
        td { (round.run.run_id) }
    } }
}

/// What is known of a machine, without what differs from run to run.
fn facts(machine: &Machine) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut push = |name: &str, value: &str| {
        if !value.is_empty() {
            facts.push((name.to_owned(), value.to_owned()));
        }
    };
    push("host", &machine.host);
    push("processor", &machine.cpu);
    push("cores for ringload", &machine.cores.to_string());
    push("memory", &text::bytes(machine.memory_bytes as f64));
    push("kernel", &machine.kernel);
    push(
        "frequency governor",
        machine.governor.as_deref().unwrap_or("none"),
    );
    for (name, value) in &machine.sysctls {
        push(name, value);
    }
    facts
}
