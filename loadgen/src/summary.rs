//! The summary of a result on the terminal: one sentence about it first, then some twenty lines of
//! at most 80 columns.

mod storm;

use std::fmt::Write as _;

use console::Style;

use crate::inside::Inside;
use crate::progress::{micros, short};
use crate::report::{Agents, Ended, Judgement, Latency, Ledger, ResultFile, ThreadUse};
use crate::scenario::stage;

/// The result; with colours for a terminal.
pub fn summary(result: &ResultFile, is_colored: bool) -> String {
    let mut text = headline(result, is_colored);
    put_thresholds(&mut text, result);
    put_head(&mut text, result);
    put_rates(&mut text, result);
    put_latencies(&mut text, result);
    match &result.storm {
        Some(_) => storm::put_storm(&mut text, result),
        None => put_stages(&mut text, result),
    }
    put_ledgers(&mut text, result, is_colored);
    put_broker(&mut text, result);
    put_sys(&mut text, result);
    for (name, said) in result.inside.iter().flat_map(Inside::lines) {
        put(&mut text, name, &said);
    }
    put_generator(&mut text, result);
    put_doubts(&mut text, result);
    text
}

/// What went wrong, or should be known before the numbers are used: for who does not want the rest.
pub fn verdict(result: &ResultFile) -> String {
    let mut text = headline(result, false);
    put_doubts(&mut text, result);
    text
}

/// Whether the numbers count, and whether the broker did what it had to.
fn headline(result: &ResultFile, is_colored: bool) -> String {
    let missed = judged(result, Judgement::Missed);
    let ledger = &result.totals.ledger;
    let faults = faults(ledger);
    let mut parts: Vec<String> = Vec::new();
    match result.run.ended {
        Ended::Planned => {}
        Ended::Interrupted => {
            parts.push("INTERRUPTED: this is the run up to that point".to_owned())
        }
        Ended::Broken => parts.push("ABORTED: all connections were lost".to_owned()),
        Ended::Lost => parts.push("ABORTED: an agent was lost".to_owned()),
        Ended::Aborted => parts.push("ABORTED: by the scenario, which says when to".to_owned()),
        Ended::Failed => parts.push("FAILED: nothing was measured".to_owned()),
    }
    if missed > 0 {
        parts.push(format!(
            "MISSED: {missed} of {} thresholds",
            result.verdicts.len()
        ));
    }
    if !result.validity.valid {
        parts.push("INVALID: do not compare these numbers".to_owned());
    }
    if !faults.is_empty() {
        parts.push(format!("FAULTS: {}", faults.join(", ")));
    }
    let color = match (missed > 0 || !faults.is_empty(), parts.is_empty()) {
        (true, _) => Style::new().red().bold(),
        (false, false) => Style::new().yellow().bold(),
        (false, true) => Style::new().green().bold(),
    };
    if parts.is_empty() {
        let met = match judged(result, Judgement::Passed) {
            0 => "",
            1 => ", and the threshold was met",
            _ => ", and all thresholds were met",
        };
        parts.push(match ledger.owed {
            0 => format!("VALID{met}"),
            owed => format!("VALID: {owed} deliveries arrived once and in order{met}"),
        });
    }
    if let Some(storm) = &result.storm {
        parts.insert(0, storm::headline(storm));
    }
    let all = parts.join("; ");
    let sentences = match all.chars().count() <= COLUMNS {
        true => vec![all],
        false => parts,
    };
    let color = color.force_styling(is_colored);
    let mut text = String::new();
    for sentence in sentences {
        for (number, line) in wrapped(&sentence, COLUMNS, COLUMNS - 2).iter().enumerate() {
            let indent = if number == 0 { "" } else { "  " };
            let _ = writeln!(text, "{indent}{}", color.apply_to(line));
        }
    }
    text
}

fn judged(result: &ResultFile, judgement: Judgement) -> usize {
    let verdicts = result.verdicts.iter();
    verdicts
        .filter(|verdict| verdict.judgement == judgement)
        .count()
}

fn put_head(text: &mut String, result: &ResultFile) {
    let (run, totals) = (&result.run, &result.totals);
    put(text, &run.scenario.name, &run.scenario.about);
    let target = format!(
        "{}; {} of {} clients connected in {:.2} s ({}/s)",
        run.target,
        totals.connected,
        totals.clients,
        run.phases.connect_s,
        short(totals.connects_per_s),
    );
    put(text, "target", &target);
    let phases = run.phases;
    let window = format!(
        "{:.2} s after {:.2} s of warm-up, drained in {:.2} s",
        phases.window_s, phases.warmup_s, phases.drain_s
    );
    put(text, "window", &window);
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
    let rates = format!(
        "published {}/s, delivered {}/s, {} bytes of payload per s",
        rate(totals.sent_per_s),
        rate(totals.received_per_s),
        rate(totals.received_bytes_per_s),
    );
    put(text, "rate", &rates);
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
    let _ = write!(text, "\n{:24}{:>8}", "latency", "count");
    for head in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        let _ = write!(text, "{head:>8}");
    }
    text.push('\n');
    for (name, latency) in rows {
        put_name(text, &name, 24);
        let _ = write!(text, "{:>8}", short(latency.count as f64));
        let values = [
            latency.p50_us,
            latency.p90_us,
            latency.p99_us,
            latency.p999_us,
            latency.p9999_us,
            latency.max_us,
        ];
        for value in values {
            let _ = write!(text, "{:>8}", brief(value));
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
        let percent = |share: f64| match share >= 0.01 {
            true => (share * 1000.0).round() / 10.0,
            false => stage::percent(share),
        };
        let (from, to) = (percent(stage.load_from), percent(stage.load_to));
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

fn put_ledgers(text: &mut String, result: &ResultFile, is_colored: bool) {
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
    let _ = write!(text, "\n{:16}{:>12}{:>12}", "ledger", "owed", "delivered");
    let heads = ["lost", "duplicated", "disorder", "corrupt"];
    for (head, width) in heads.iter().zip(FAULT_WIDTHS) {
        let _ = write!(text, "{head:>width$}");
    }
    text.push('\n');
    let red = Style::new().red().bold().force_styling(is_colored);
    for (name, ledger) in rows {
        put_name(text, &name, 16);
        let _ = write!(text, "{:>12}{:>12}", ledger.owed, ledger.delivered);
        let faults = [
            ledger.lost,
            ledger.duplicated,
            ledger.out_of_order,
            ledger.corrupt,
        ];
        for (count, width) in faults.into_iter().zip(FAULT_WIDTHS) {
            let number = format!("{count:>width$}");
            let _ = match count {
                0 => write!(text, "{number}"),
                _ => write!(text, "{}", red.apply_to(number)),
            };
        }
        text.push('\n');
        put_rare(text, ledger);
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
    let found = rare.iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = found
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    if !ledger.order_checked {
        parts.push("order not checked".to_owned());
    }
    if !parts.is_empty() {
        put(text, "", &parts.join(", "));
    }
}

fn put_broker(text: &mut String, result: &ResultFile) {
    let Some(broker) = &result.broker else {
        return;
    };
    let cores =
        |cores: Option<f64>| cores.map_or(UNKNOWN.to_owned(), |cores| format!("{cores:.2}"));
    let mut used = format!(
        "{} + {} cores (user + system)",
        cores(broker.user_cores),
        cores(broker.system_cores)
    );
    if let (Some(user), Some(system)) = (broker.user_ns_per_delivery, broker.system_ns_per_delivery)
    {
        let _ = write!(used, ", {user:.0} + {system:.0} ns per delivery");
    }
    if let Some(connect) = broker.connect_us_per_connection {
        let _ = write!(used, ", {connect:.0} us per connection");
    }
    put(text, "broker", &used);
    let mib = |bytes: Option<u64>| match bytes {
        Some(bytes) => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
        None => UNKNOWN.to_owned(),
    };
    let mut memory = format!(
        "{} before, {} with all connected, {} at most",
        mib(broker.rss_before_bytes),
        mib(broker.rss_connected_bytes),
        mib(broker.rss_peak_bytes)
    );
    match broker.rss_per_connection_bytes {
        Some(bytes) => {
            let _ = write!(memory, "; {:.2} KiB per connection", bytes / 1024.0);
        }
        None if result.totals.connected >= CONNECTIONS_MIN
            && broker.rss_before_bytes.is_some()
            && broker.rss_connected_bytes.is_some() =>
        {
            memory.push_str(
                "; per connection unknown: the broker had memory of earlier ones left, restart it",
            );
        }
        None => {}
    }
    put(text, "memory", &memory);
}

fn put_sys(text: &mut String, result: &ResultFile) {
    let Some(sys) = &result.sys else {
        return;
    };
    if sys.counters.is_empty() {
        let why = "not compared: that takes two reports of the broker within the run (--sys-wait)";
        put(text, "$SYS", why);
    }
    for counter in &sys.counters {
        let compared = format!(
            "{}: the broker counted {:.0} in {:.0} s, ringload {:.0}",
            counter.topic, counter.broker, sys.span_s, counter.ours
        );
        put(text, "$SYS", &compared);
    }
}

fn put_generator(text: &mut String, result: &ResultFile) {
    let generator = &result.validity.generator;
    let shares: Vec<String> = generator
        .threads
        .iter()
        .map(|thread| share_of_core(*thread))
        .collect();
    let mut used = format!("{} of a core", shares.join(", "));
    if let Some(lag) = &generator.schedule_lag {
        let _ = write!(
            used,
            "; behind schedule by {} (p99), {} at most",
            micros(lag.p99_us),
            micros(lag.max_us)
        );
    }
    match &result.agents {
        Some(agents) => put_agents(text, agents),
        None => put(text, "generator", &used),
    }
}

/// Each machine that made a part of the run, and what came from one to another.
fn put_agents(text: &mut String, agents: &Agents) {
    for agent in &agents.machines {
        let threads = agent.validity.generator.threads.iter();
        let shares: Vec<String> = threads.map(|thread| share_of_core(*thread)).collect();
        let mut what = format!(
            "{}: {} clients, {} of a core",
            agent.host,
            agent.clients,
            shares.join(", ")
        );
        if let Some(lag) = &agent.validity.generator.schedule_lag {
            let _ = write!(what, "; behind schedule by {} (p99)", micros(lag.p99_us));
        }
        put(text, "agent", &what);
    }
    if agents.crossing_share > 0.0 {
        let judged = match agents.latency_judged {
            true => "",
            false => ", more than a tenth of the median: latencies are not judged",
        };
        let what = format!(
            "{:.0} % of the deliveries, whose latencies are known to within {}{judged}",
            agents.crossing_share * 100.0,
            micros(agents.clock_error_us.ceil() as u64)
        );
        put(text, "crossing", &what);
    }
}

fn share_of_core(thread: ThreadUse) -> String {
    match thread.cpu_share {
        Some(share) => format!("{:.0} %", share * 100.0),
        None => UNKNOWN.to_owned(),
    }
}

fn put_thresholds(text: &mut String, result: &ResultFile) {
    for verdict in &result.verdicts {
        let judgement = match verdict.judgement {
            Judgement::Passed => "passed",
            Judgement::Missed => "MISSED",
            Judgement::NotJudged => "unjudged",
        };
        let stage = verdict.stage.as_deref().map(|stage| format!("{stage}: "));
        let (stage, threshold) = (stage.unwrap_or_default(), &verdict.threshold);
        put(
            text,
            judgement,
            &format!("{stage}{threshold} ({})", verdict.shown),
        );
    }
}

/// Troubles, and the reasons why the run is invalid.
fn put_doubts(text: &mut String, result: &ResultFile) {
    for trouble in &result.troubles {
        let what = format!("{} x {}: {}", trouble.count, trouble.kind, trouble.first);
        put(text, "trouble", &what);
    }
    for reason in &result.validity.reasons {
        put(text, "invalid", &reason.text);
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

/// A label and what there is to say, in as many lines as it takes.
fn put(text: &mut String, label: &str, what: &str) {
    let first = COLUMNS.saturating_sub(label.chars().count() + 1);
    let mut indent = format!("{label:LABEL$}");
    if !indent.is_empty() && !indent.ends_with(' ') {
        indent.push_str(": ");
    }
    let lines = wrapped(
        what,
        first.min(COLUMNS - indent.chars().count()),
        COLUMNS - LABEL,
    );
    for line in lines {
        let _ = writeln!(text, "{}", format!("{indent}{line}").trim_end());
        indent = " ".repeat(LABEL);
    }
}

/// A name in its column, or on a line of its own.
fn put_name(text: &mut String, name: &str, width: usize) {
    if name.chars().count() < width {
        let _ = write!(text, "{name:width$}");
    } else {
        let _ = write!(text, "{name}\n{:width$}", "");
    }
}

/// Lines of at most so many columns, the first one and the others, broken between words. There is
/// one at least; a word that is longer has a line of its own.
fn wrapped(text: &str, first: usize, others: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = first;
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one at least");
        let taken = line.chars().count();
        if taken > 0 && taken + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
            room = others;
        } else {
            if taken > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A time in seven columns: `85 us`, `3.42 ms`, `342 ms`, `12.3 s`.
fn brief(us: u64) -> String {
    let (value, unit) = match us {
        0..1000 => return format!("{us} us"),
        1000..1_000_000 => (us as f64 / 1e3, "ms"),
        _ => (us as f64 / 1e6, "s"),
    };
    match value {
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

/// In place of an unknown number.
const UNKNOWN: &str = "-";
/// With so many connections the memory of each should be known.
const CONNECTIONS_MIN: u64 = 100;
/// Of the oldest terminals, of mails, and of code reviews.
const COLUMNS: usize = 80;
/// Of the columns of lost, duplicated, out of order and corrupt.
const FAULT_WIDTHS: [usize; 4] = [9, 12, 10, 9];
/// What labels take.
const LABEL: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_seven_columns() {
        for (us, expected) in [
            (0, "0 us"),
            (999, "999 us"),
            (3420, "3.42 ms"),
            (9_996, "10.0 ms"),
            (342_499, "342 ms"),
            (999_999, "1000 ms"),
            (1_200_000, "1.20 s"),
            (3_600_000_000, "3600 s"),
        ] {
            assert_eq!(brief(us), expected);
            assert!(expected.len() <= 7);
        }
    }

    #[test]
    fn sentences_are_broken_between_words() {
        let mut text = String::new();
        put(&mut text, "memory", &"0123456789 ".repeat(15));
        put(&mut text, "a-scenario-with-a-name", "about");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines.iter().all(|line| line.len() <= COLUMNS), "{text}");
        assert!(lines[0].starts_with("memory    0123456789 0"), "{text}");
        assert!(lines[1].starts_with("          0123456789 0"), "{text}");
        assert_eq!(lines[3], "a-scenario-with-a-name: about");
        assert_eq!(wrapped("", 10, 10), [""]);
        assert_eq!(wrapped("a bcdefghijkl m", 5, 5), ["a", "bcdefghijkl", "m"]);
    }
}
