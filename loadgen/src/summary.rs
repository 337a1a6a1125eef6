//! The summary of a result on the terminal.

use std::fmt::Write as _;

use crate::progress::{micros, short};
use crate::report::{Ended, Judgement, Latency, Ledger, ResultFile};
use crate::scenario::stage;

/// The result in some twenty lines.
pub fn summary(result: &ResultFile) -> String {
    let mut text = String::new();
    put_verdicts(&mut text, result);
    put_head(&mut text, result);
    put_rates(&mut text, result);
    put_latencies(&mut text, result);
    put_stages(&mut text, result);
    put_ledgers(&mut text, result);
    put_broker(&mut text, result);
    put_sys(&mut text, result);
    put_generator(&mut text, result);
    text + &doubts(result)
}

/// What was missed, what went wrong, and what should be known before the numbers are used; empty if
/// nothing.
pub fn verdict(result: &ResultFile) -> String {
    let mut text = String::new();
    for missed in &result.verdicts {
        if missed.judgement == Judgement::Missed {
            let _ = writeln!(text, "MISSED    {} ({})", missed.threshold, missed.shown);
        }
    }
    text + &doubts(result)
}

fn doubts(result: &ResultFile) -> String {
    let mut text = String::new();
    for trouble in &result.troubles {
        let _ = writeln!(
            text,
            "trouble   {} x {}: {}",
            trouble.count, trouble.kind, trouble.first
        );
    }
    put_verdict(&mut text, result);
    text
}

/// What became of the thresholds, before all else: that was the question.
fn put_verdicts(text: &mut String, result: &ResultFile) {
    for verdict in &result.verdicts {
        let word = match verdict.judgement {
            Judgement::Passed => "passed",
            Judgement::Missed => "MISSED",
            Judgement::NotJudged => "NOT JUDGED",
        };
        let stage = verdict.stage.iter().map(|name| format!("{name}: "));
        let stage: String = stage.collect();
        let _ = writeln!(
            text,
            "{word:11}{stage}{} ({})",
            verdict.threshold, verdict.shown
        );
    }
    if !result.verdicts.is_empty() {
        text.push('\n');
    }
}

fn put_head(text: &mut String, result: &ResultFile) {
    let (run, totals) = (&result.run, &result.totals);
    let _ = writeln!(text, "{}: {}", run.scenario.name, run.scenario.about);
    let _ = writeln!(
        text,
        "target    {}; {} of {} clients connected in {:.2} s ({}/s)",
        run.target,
        totals.connected,
        totals.clients,
        run.phases.connect_s,
        short(totals.connects_per_s),
    );
    let phases = run.phases;
    let _ = writeln!(
        text,
        "window    {:.2} s after {:.2} s of warm-up, drained in {:.2} s",
        phases.window_s, phases.warmup_s, phases.drain_s
    );
}

fn put_rates(text: &mut String, result: &ResultFile) {
    let totals = &result.totals;
    let rate = |rate: f64| {
        if result.run.phases.window_s > 0.0 {
            short(rate)
        } else {
            UNKNOWN.to_owned()
        }
    };
    let _ = writeln!(
        text,
        "rate      published {}/s, delivered {}/s, {} bytes of payload per s",
        rate(totals.sent_per_s),
        rate(totals.received_per_s),
        rate(totals.received_bytes_per_s),
    );
}

fn put_latencies(text: &mut String, result: &ResultFile) {
    let mut rows: Vec<(String, &Latency)> = Vec::new();
    for group in &result.groups {
        if let Some(connect) = &group.connect {
            rows.push((format!("{} connect", group.name), connect));
        }
        if let Some(acknowledge) = group.publish.as_ref().and_then(|p| p.acknowledge.as_ref()) {
            rows.push((format!("{} acknowledged", group.name), acknowledge));
        }
        let Some(receive) = &group.receive else {
            continue;
        };
        if let Some(pair) = &receive.latency {
            rows.push((group.name.clone(), &pair.corrected));
            if pair.corrected != pair.uncorrected {
                rows.push((format!("{} uncorrected", group.name), &pair.uncorrected));
            }
        }
        if let Some(retained) = &receive.retained {
            rows.push((format!("{} retained", group.name), retained));
        }
    }
    for line in &result.qos {
        if let Some(pair) = line.latency.as_ref().filter(|_| result.qos.len() > 1) {
            rows.push((format!("QoS {}", line.qos), &pair.corrected));
        }
    }
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "\n{:24}{:>11}", "latency", "count");
    for head in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        let _ = write!(text, "{head:>10}");
    }
    text.push('\n');
    for (name, latency) in rows {
        let _ = write!(text, "{name:24}{:>11}", short(latency.count as f64));
        let values = [
            latency.p50_us,
            latency.p90_us,
            latency.p99_us,
            latency.p999_us,
            latency.p9999_us,
            latency.max_us,
        ];
        for value in values {
            let _ = write!(text, "{:>10}", micros(value));
        }
        text.push('\n');
    }
}

fn put_stages(text: &mut String, result: &ResultFile) {
    if result.stages.is_empty() {
        return;
    }
    let _ = write!(text, "\n{:24}{:>11}{:>10}", "stage", "load", "span");
    for head in ["sent/s", "out/s", "p50", "p99", "max", "lost", "cores"] {
        let _ = write!(text, "{head:>10}");
    }
    text.push('\n');
    for stage in &result.stages {
        let (from, to) = (
            stage::percent(stage.load_from),
            stage::percent(stage.load_to),
        );
        let load = match from == to {
            true => format!("{to} %"),
            false => format!("{from}..{to} %"),
        };
        let span = format!("{:.1} s", stage.span_s);
        let _ = write!(text, "{:24}{load:>11}{span:>10}", stage.name);
        let latency = stage.latency.as_ref().map(|pair| &pair.corrected);
        let time = |of: fn(&Latency) -> u64| {
            latency.map_or(UNKNOWN.to_owned(), |latency| micros(of(latency)))
        };
        let cores = stage.broker_cores;
        let cells = [
            short(stage.sent_per_s),
            short(stage.received_per_s),
            time(|latency| latency.p50_us),
            time(|latency| latency.p99_us),
            time(|latency| latency.max_us),
            stage.ledger.lost.to_string(),
            cores.map_or(UNKNOWN.to_owned(), |cores| format!("{cores:.2}")),
        ];
        for cell in cells {
            let _ = write!(text, "{cell:>10}");
        }
        text.push('\n');
    }
}

fn put_ledgers(text: &mut String, result: &ResultFile) {
    let mut rows: Vec<(String, &Ledger)> = Vec::new();
    for line in &result.qos {
        rows.push((format!("QoS {}", line.qos), &line.ledger));
    }
    for group in &result.groups {
        if let Some(receive) = group.receive.as_ref().filter(|receive| receive.may_lose) {
            rows.push((format!("{} (may lose)", group.name), &receive.ledger));
        }
    }
    rows.retain(|(_, ledger)| {
        *ledger != &Ledger::default() && ledger.owed + ledger.foreign + ledger.misrouted > 0
    });
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "\n{:24}", "ledger");
    for head in [
        "owed",
        "delivered",
        "lost",
        "duplicated",
        "disorder",
        "corrupt",
    ] {
        let _ = write!(text, "{head:>12}");
    }
    text.push('\n');
    for (name, ledger) in rows {
        let _ = write!(text, "{name:24}");
        let values = [
            ledger.owed,
            ledger.delivered,
            ledger.lost,
            ledger.duplicated,
            ledger.out_of_order,
            ledger.corrupt,
        ];
        for value in values {
            let _ = write!(text, "{value:>12}");
        }
        put_rare(text, ledger);
        text.push('\n');
    }
    text.push('\n');
}

/// Counts that are usually zero, and then not worth a column.
fn put_rare(text: &mut String, ledger: &Ledger) {
    let rare = [
        (ledger.excused, "excused"),
        (ledger.misrouted, "misrouted"),
        (ledger.wrong_qos, "with another QoS"),
        (ledger.wrong_retain, "with a wrong RETAIN"),
        (ledger.foreign, "foreign"),
        (ledger.unchecked, "too small to check"),
    ];
    for (count, name) in rare.iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, "  {count} {name}");
    }
    if !ledger.order_checked {
        text.push_str("  order not checked");
    }
}

fn put_broker(text: &mut String, result: &ResultFile) {
    let Some(broker) = &result.broker else {
        return;
    };
    let cores =
        |cores: Option<f64>| cores.map_or(UNKNOWN.to_owned(), |cores| format!("{cores:.2}"));
    let _ = write!(
        text,
        "broker    {} + {} cores (user + system)",
        cores(broker.user_cores),
        cores(broker.system_cores)
    );
    if let (Some(user), Some(system)) = (broker.user_ns_per_delivery, broker.system_ns_per_delivery)
    {
        let _ = write!(text, ", {user:.0} + {system:.0} ns per delivery");
    }
    if let Some(connect) = broker.connect_us_per_connection {
        let _ = write!(text, ", {connect:.0} us per connection");
    }
    let mib = |bytes: Option<u64>| match bytes {
        Some(bytes) => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
        None => UNKNOWN.to_owned(),
    };
    let _ = write!(
        text,
        "\nmemory    {} before, {} with all connected, {} at most",
        mib(broker.rss_before_bytes),
        mib(broker.rss_connected_bytes),
        mib(broker.rss_peak_bytes)
    );
    match broker.rss_per_connection_bytes {
        Some(bytes) => {
            let _ = write!(text, "; {:.2} KiB per connection", bytes / 1024.0);
        }
        None if result.totals.connected >= CONNECTIONS_MIN
            && broker.rss_before_bytes.is_some()
            && broker.rss_connected_bytes.is_some() =>
        {
            text.push_str(
                "; per connection unknown: the broker had memory of earlier ones left, restart it",
            );
        }
        None => {}
    }
    text.push('\n');
}

fn put_sys(text: &mut String, result: &ResultFile) {
    let Some(sys) = &result.sys else {
        return;
    };
    if sys.counters.is_empty() {
        text.push_str(
            "$SYS      not compared: that takes two reports of the broker within the run \
             (--sys-wait)\n",
        );
    }
    for counter in &sys.counters {
        let _ = writeln!(
            text,
            "$SYS      {}: the broker counted {:.0} in {:.0} s, ringload {:.0}",
            counter.topic, counter.broker, sys.span_s, counter.ours
        );
    }
}

fn put_generator(text: &mut String, result: &ResultFile) {
    let generator = &result.validity.generator;
    let shares: Vec<String> = generator
        .threads
        .iter()
        .map(|thread| match thread.cpu_share {
            Some(share) => format!("{:.0} %", share * 100.0),
            None => UNKNOWN.to_owned(),
        })
        .collect();
    let _ = write!(text, "generator {} of a core", shares.join(", "));
    if let Some(lag) = &generator.schedule_lag {
        let _ = write!(
            text,
            "; behind schedule by {} (p99), {} at most",
            micros(lag.p99_us),
            micros(lag.max_us)
        );
    }
    text.push('\n');
}

fn put_verdict(text: &mut String, result: &ResultFile) {
    match result.run.ended {
        Ended::Planned => {}
        Ended::Interrupted => {
            text.push_str("INTERRUPTED: the results cover the run up to this point\n")
        }
        Ended::Broken => text.push_str("ABORTED: all connections were lost\n"),
        Ended::Aborted => text.push_str("ABORTED: by the scenario, which says when to\n"),
        Ended::Failed => text.push_str("FAILED: nothing was measured\n"),
    }
    if !result.validity.valid {
        text.push_str("INVALID: do not compare these numbers\n");
        for reason in &result.validity.reasons {
            let _ = writeln!(text, "  - {}", reason.text);
        }
    }
    let ledger = &result.totals.ledger;
    let faults = faults(ledger);
    if !faults.is_empty() {
        let _ = writeln!(text, "FAULTS: {}", faults.join(", "));
    }
}

/// What a broker should not have done, in words.
pub fn faults(ledger: &Ledger) -> Vec<String> {
    let all = [
        (ledger.lost, "lost"),
        (ledger.duplicated, "duplicated"),
        (ledger.out_of_order, "out of order"),
        (ledger.corrupt, "corrupt"),
        (ledger.misrouted, "misrouted"),
        (ledger.wrong_qos, "with another QoS"),
        (ledger.wrong_retain, "with a wrong RETAIN"),
    ];
    let found = all.iter().filter(|(count, _)| *count > 0);
    found
        .map(|(count, name)| format!("{count} {name}"))
        .collect()
}

/// In place of an unknown number.
const UNKNOWN: &str = "-";
/// With so many connections the memory of each should be known.
const CONNECTIONS_MIN: u64 = 100;
