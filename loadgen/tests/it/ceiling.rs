//! Searches against brokers whose limit is known. On a machine that is busy with other things they
//! may find nothing, but nothing that is wrong.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::ceiling::{Ceiling, Limits};
use crate::common::{at, start_command};
use ringload::bound::What;
use ringload::find::file::CapacityFile;
use ringload::search::{Answer, Conclusion};

/// What a search of twenty pairs found; nothing, if the machine was busy.
fn search(limits: Limits, args: &[&str]) -> Option<(CapacityFile, Answer)> {
    let broker = Ceiling::start(limits);
    let mut all = vec!["pairs", "--publishers", "20", "--subscribers", "20"];
    all.extend_from_slice(args);
    let (code, text, file) = start_command("find-max", &at(broker.port), &all).finish_search();
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

#[test]
fn a_search_that_is_interrupted_says_what_is_known() {
    let broker = Ceiling::start(Limits {
        service: Duration::from_micros(250),
        ..Limits::default()
    });
    let args = ["pairs", "--slo", "latency.p99 < 20ms"];
    let mut running = start_command("find-max", &at(broker.port), &args);
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut line = String::new();
    // The first trial is told when it is over.
    while !["good", "bad", "void"]
        .iter()
        .any(|word| line.contains(word))
    {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    let pid = Pid::from_child(&running.child);
    kill_process(pid, Signal::INT).unwrap();
    let (code, text, file) = running.finish_search();
    assert_eq!(code, Some(130), "{text}");
    assert!(
        file.interrupted && !file.rounds[0].trials.is_empty(),
        "{file:?}"
    );
    assert_eq!(file.rounds[0].answer.conclusion, Conclusion::Unfinished);
    assert!(
        text.contains("of `pairs` with latency.p99 < 20ms"),
        "{text}"
    );
}

#[test]
fn a_search_that_cannot_begin_leaves_a_file_that_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let args = ["pairs", "--slo", "latency.p99 < 20ms"];
    let (code, text, file) = start_command("find-max", &at(port), &args).finish_search();
    assert_eq!(code, Some(1), "{text}");
    let why = file.failed.unwrap();
    assert!(why.contains("nothing listens"), "{why}");
    assert!(file.rounds.is_empty() && file.sentence.starts_with("was not measured: "));
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
        let pid = std::process::id().to_string();
        let args = [&slo("latency.p99 < 20ms")[..], &["--pid", &pid]].concat();
        if let Some((file, _)) = search(burning, &args) {
            let bound = file.rounds[0].bound.as_ref().unwrap();
            assert!(
                matches!(bound.by.what, What::OneThread | What::NoCore),
                "{bound:?}"
            );
        }
    }
}

/// The broker's thread came late so often: a machine that has a core for it does not do that.
const DISTURBED_MAX: u64 = 20;
