//! Searches against brokers whose limit is known. On a machine that is busy with other things they
//! may find nothing, but nothing that is wrong.

use std::time::Duration;

use crate::common::ceiling::{Ceiling, Limits};
use crate::common::start_command;
use ringload::find::file::CapacityFile;
use ringload::search::{Answer, Conclusion};

/// What a search of twenty pairs found; nothing, if the machine was busy.
fn search(limits: Limits, args: &[&str]) -> Option<(CapacityFile, Answer)> {
    let broker = Ceiling::start(limits);
    let mut all = vec!["pairs", "--publishers", "20", "--subscribers", "20"];
    all.extend_from_slice(args);
    let (code, text, file) = start_command("find-max", broker.port, &all).finish_search();
    assert!(
        code.is_some_and(|code| [0, 3].contains(&code)),
        "{code:?}: {text}"
    );
    let answer = file.rounds[0].answer.clone();
    assert!(text.contains("msg/s"), "{text}");
    let disturbed = broker.disturbances();
    if answer.conclusion != Conclusion::Found || disturbed > DISTURBED_MAX {
        eprintln!("void: {disturbed} disturbances of the broker, {text}");
        return None;
    }
    Some((file, answer))
}

fn check(limits: Limits, truth: f64, args: &[&str]) {
    let Some((file, answer)) = search(limits, args) else {
        return;
    };
    let load = answer.load.or(answer.lower).unwrap();
    let (low, high) = (answer.low.unwrap(), answer.high.unwrap());
    assert!(
        (load / truth - 1.0).abs() < 0.05 || (low <= truth && truth <= high),
        "{load} ({low} to {high}) instead of {truth}: {}",
        file.sentence
    );
}

#[test]
fn the_limit_of_a_broker_that_serves_one_after_the_other_is_found() {
    let limits = Limits {
        service: Duration::from_micros(250),
        ..Limits::default()
    };
    let slo = ["--slo", "latency.p99 < 20ms", "--slo", "lost = 0"];
    let args = [&slo[..], &["--quick", "--confirm", "0"]].concat();
    check(limits, 4000.0, &args);
}

/// For the night.
#[test]
#[ignore = "takes two hours"]
fn every_limit_is_found_twenty_times_of_twenty() {
    let service = Duration::from_micros(250);
    let plain = Limits {
        service,
        ..Limits::default()
    };
    let pausing = Limits {
        pause: Some((Duration::from_millis(15), Duration::from_secs(1))),
        ..plain
    };
    let losing = Limits {
        service: Duration::from_micros(20),
        loses_beyond: Some(3000.0),
        ..Limits::default()
    };
    let burning = Limits {
        burns: true,
        ..plain
    };
    let slo = |limit| ["--slo", limit, "--slo", "lost = 0", "--confirm", "0"];
    for round in 0..20 {
        eprintln!("round {round}");
        check(plain, 4000.0, &slo("latency.p99 < 20ms"));
        // A pause of 15 ms delays those of the last 5 ms by more than 10: 1 % at half of the limit.
        check(pausing, 2000.0, &slo("latency.p99 < 10ms"));
        check(losing, 3000.0, &slo("latency.p99 < 20ms"));
        check(burning, 4000.0, &slo("latency.p99 < 20ms"));
    }
}

/// The broker's thread came late so often: a machine that has a core for it does not do that.
const DISTURBED_MAX: u64 = 20;
