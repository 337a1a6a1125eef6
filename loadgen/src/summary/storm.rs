//! A storm in the summary: when who was back, what it took, and the phases.

use std::fmt::Write as _;

use super::{UNKNOWN, brief, put};
use crate::progress::short;
use crate::report::{Latency, ResultFile, StageResult, Storm};
use crate::scenario::storm::show_share;

/// The verdict, which stands first: the storm is what the run is about.
pub(super) fn headline(storm: &Storm) -> String {
    let sentence = &storm.sentence;
    match storm.recovered_s {
        Some(_) => sentence.replacen("recovered", "RECOVERED", 1),
        None => sentence.replacen("did not recover", "NOT RECOVERED", 1),
    }
}

pub(super) fn put_storm(text: &mut String, result: &ResultFile) {
    let Some(storm) = &result.storm else {
        return;
    };
    text.push('\n');
    let mut what = format!(
        "{} of {} clients at {:.0} s; back-off {}",
        storm.event, storm.hit, storm.at_s, storm.backoff
    );
    if storm.silent > 0 {
        let _ = write!(
            what,
            "; the broker closed {} of {} silent sockets",
            storm.silent_closed, storm.silent
        );
    }
    put(text, "storm", &what);
    let good = storm.limits.iter().map(String::as_str);
    let good: Vec<String> = std::iter::once(format!("{} back", show_share(storm.back_wanted)))
        .chain(good.map(str::to_owned))
        .collect();
    put(text, "good is", &good.join(", "));
    put(text, "back", &returns(storm));
    put(text, "attempts", &attempts(storm));
    put_times(
        text,
        "connect",
        "from due to CONNACK",
        storm.connect.as_ref(),
    );
    put_times(
        text,
        "dialled",
        "late by ringload itself",
        storm.lag.as_ref(),
    );
    put_times(
        text,
        "message",
        "the first after a return",
        storm.first_message.as_ref(),
    );
    if storm.sessions > 0 {
        let sessions = format!("{} of {} present", storm.sessions_present, storm.sessions);
        put(text, "sessions", &sessions);
    }
    if storm.handshakes_full + storm.handshakes_resumed > 0 {
        let handshakes = format!(
            "{} handshakes in full, {} resumed",
            storm.handshakes_full, storm.handshakes_resumed
        );
        put(text, "TLS", &handshakes);
    }
    if let Some(bytes) = storm.memory_peak_bytes {
        let cores = storm.cpu_peak_cores;
        let cores = cores.map_or(UNKNOWN.to_owned(), |cores| format!("{cores:.2}"));
        let peak = format!(
            "{:.1} MiB and {cores} cores in a second after it",
            bytes as f64 / (1 << 20) as f64
        );
        put(text, "peak", &peak);
    }
    put_phases(text, &result.stages);
    put_bystanders(text, storm);
}

fn returns(storm: &Storm) -> String {
    let one = |share: f64, after_s: Option<f64>| match after_s {
        Some(after_s) => format!("{} after {after_s:.2} s", show_share(share)),
        None => format!("{} never", show_share(share)),
    };
    let all = storm.returns.iter();
    let all: Vec<String> = all.map(|back| one(back.share, back.after_s)).collect();
    all.join(", ")
}

fn attempts(storm: &Storm) -> String {
    let failed: u64 = storm.failures.iter().map(|failure| failure.count).sum();
    let mut text = format!("{}, of which {failed} failed", storm.attempts);
    for failure in storm.failures.iter().take(FAILURES_SHOWN) {
        let _ = write!(text, "; {} x {}", failure.count, failure.why);
    }
    text
}

fn put_times(text: &mut String, label: &str, what: &str, latency: Option<&Latency>) {
    if let Some(latency) = latency {
        let times = [latency.p50_us, latency.p99_us, latency.max_us].map(brief);
        let [p50, p99, max] = times;
        put(
            text,
            label,
            &format!("{what}: p50 {p50}, p99 {p99}, max {max}"),
        );
    }
}

/// In 80 columns.
fn put_phases(text: &mut String, phases: &[StageResult]) {
    let _ = write!(text, "\n{:10}", "phase");
    for head in [
        "span", "sent/s", "out/s", "p50", "p99", "owed", "excused", "lost",
    ] {
        let width = if head == "span" { 7 } else { 9 };
        let _ = write!(text, "{head:>width$}");
    }
    text.push('\n');
    for phase in phases {
        let latency = phase.latency.as_ref().map(|pair| &pair.corrected);
        let time = |of: fn(&Latency) -> u64| {
            latency.map_or(UNKNOWN.to_owned(), |latency| brief(of(latency)))
        };
        let count = |count: u64| match count {
            0..1_000_000 => count.to_string(),
            _ => short(count as f64),
        };
        let _ = write!(
            text,
            "{:10}{:>7}",
            phase.name,
            format!("{:.1} s", phase.span_s)
        );
        for cell in [
            short(phase.sent_per_s),
            short(phase.received_per_s),
            time(|latency| latency.p50_us),
            time(|latency| latency.p99_us),
            count(phase.ledger.owed),
            count(phase.ledger.excused),
            count(phase.ledger.lost),
        ] {
            let _ = write!(text, "{cell:>9}");
        }
        text.push('\n');
    }
}

/// Who is not hit notices by the latency.
fn put_bystanders(text: &mut String, storm: &Storm) {
    let mut groups: Vec<&str> = Vec::new();
    for latency in storm
        .latencies
        .iter()
        .filter(|latency| latency.is_bystander)
    {
        if !groups.contains(&latency.group.as_str()) {
            groups.push(&latency.group);
        }
    }
    for group in groups {
        let phases = storm
            .latencies
            .iter()
            .filter(|latency| latency.group == group);
        let phases: Vec<String> = phases
            .map(|latency| format!("{} {}", latency.phase, brief(latency.p99_us)))
            .collect();
        put(
            text,
            "bystander",
            &format!("p99 of {group}: {}", phases.join(", ")),
        );
    }
}

/// Others are rarer.
const FAILURES_SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Failure, PhaseLatency, Return};

    #[test]
    fn a_storm_is_told_in_eighty_columns() {
        let phase = |phase: &str, p99_us| PhaseLatency {
            phase: phase.to_owned(),
            group: "bystanders".to_owned(),
            is_bystander: true,
            count: 10_000,
            p50_us: 100,
            p99_us,
            max_us: 2 * p99_us,
        };
        let storm = Storm {
            event: "takeover".to_owned(),
            hit: 15_000,
            backoff: "exp(1s, 2, 1m, full)".to_owned(),
            at_s: 5.0,
            back: 15_000,
            back_wanted: 0.99,
            limits: vec!["bystanders: latency.p99 < 5ms".to_owned()],
            recovered_s: Some(3.0),
            returns: vec![
                Return {
                    share: 0.5,
                    after_s: Some(1.234),
                },
                Return {
                    share: 0.99,
                    after_s: None,
                },
            ],
            attempts: 20_000,
            failures: vec![Failure {
                why: "refused: ServerBusy (0x89)".to_owned(),
                count: 5000,
            }],
            silent: 15_000,
            silent_closed: 14_999,
            latencies: vec![phase("before", 300), phase("returning", 4200)],
            sentence: "recovered in 3 s after 15000 clients were taken over".to_owned(),
            ..Storm::default()
        };
        let stage = StageResult {
            name: "returning".to_owned(),
            at_s: 5.0,
            span_s: 123.4,
            load_from: 1.0,
            load_to: 1.0,
            sent_per_s: 123_456.0,
            received_per_s: 123_456.0,
            latency: Some(Default::default()),
            ledger: crate::report::Ledger {
                owed: 123_456_789,
                excused: 999_999,
                lost: 999_999,
                ..Default::default()
            },
            broker_cores: None,
        };
        let mut text = format!("{}\n", headline(&storm));
        put_phases(&mut text, &[stage]);
        for line in [returns(&storm), attempts(&storm)] {
            put(&mut text, "back", &line);
        }
        put_bystanders(&mut text, &storm);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        for expected in [
            "RECOVERED in 3 s after 15000",
            "50 % after 1.23 s, 99 % never",
            "20000, of which 5000 failed; 5000 x refused: ServerBusy (0x89)",
            "p99 of bystanders: before 300 us, returning 4.20 ms",
            "  123.46M   999999   999999",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}
