//! Storms against a broker that turns clients away by a script: what is counted is known exactly.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::broker::{Script, Scripted};
use crate::common::{Done, Running, at, start_command};
use ringload::report::Judgement;

/// A scenario that is gone with the test.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Twenty subscribers that are hit, and one that is not; each gets 100 messages per second.
fn scenario(storm: &str) -> Temporary {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("ringload-storms-{}-{number}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    let text = format!(
        "drain = \"500ms\"\n\
         [storm]\nof = \"crowd\"\nbefore = \"1s\"\n{storm}\n\
         [[group]]\nname = \"crowd\"\nclients = 20\nsubscribe = \"t/{{run}}\"\n\
         [[group]]\nname = \"bystander\"\nsubscribe = \"t/{{run}}\"\n\
         [[group]]\nname = \"p\"\npublish = \"t/{{run}}\"\nrate = 100\n"
    );
    std::fs::write(&path, text).unwrap();
    Temporary(path)
}

/// Connections of the scenario before the storm.
const CONNECTED: u64 = 22;

fn start(broker: &Scripted, file: &Temporary, more: &[&str]) -> Running {
    let mut args = vec![file.0.to_str().unwrap(), "--no-sys"];
    args.extend_from_slice(more);
    start_command("storm", &at(broker.port), &args)
}

/// A busy machine makes a run invalid: then nothing may be judged.
fn judged(done: &Done, code: i32) {
    let result = done.result();
    match result.validity.valid {
        true => assert_eq!(done.code, Some(code), "{done:#?}"),
        false => {
            assert_eq!(done.code, Some(3), "{done:#?}");
            assert_eq!(result.verdicts[0].judgement, Judgement::NotJudged);
        }
    }
}

#[test]
fn every_attempt_of_a_storm_is_counted_and_a_recovery_is_seen() {
    let broker = Scripted::start(Script {
        turn_away: Some((CONNECTED, 30)),
        ..Script::default()
    });
    let file = scenario("backoff = \"exp(200ms, 1, 200ms, none)\"");
    let done = start(&broker, &file, &[]).finish();
    let result = done.result();
    let storm = result.storm.as_ref().unwrap();
    assert_eq!(
        (storm.hit, storm.back, storm.attempts),
        (20, 20, 50),
        "{done:#?}"
    );
    let [failure] = &storm.failures[..] else {
        panic!("{storm:#?}");
    };
    assert!(
        failure.why.starts_with("refused: ServerUnavailable"),
        "{failure:?}"
    );
    assert_eq!(failure.count, 30);
    assert_eq!(broker.counted().connects, CONNECTED + 50);
    // The broker has recovered when it lets in the last one; seconds are looked at as a whole.
    let (recovered, all) = (storm.recovered_s.unwrap(), storm.returned(1.0).unwrap());
    assert!(all >= 0.2 * 2.5, "{storm:#?}");
    assert!((recovered - all).abs() <= 2.0, "{storm:#?}");
    assert_eq!(storm.first_message.as_ref().unwrap().count, 20);
    let phases: Vec<&str> = result.stages.iter().map(|stage| &*stage.name).collect();
    assert_eq!(phases, ["before", "away", "returning", "after"]);
    let excused: u64 = result.stages.iter().map(|stage| stage.ledger.excused).sum();
    assert_eq!(excused, result.totals.ledger.excused);
    assert!(
        excused > 0 && result.stages[3].ledger.excused == 0,
        "{done:#?}"
    );
    assert_eq!(result.totals.ledger.lost, 0, "{done:#?}");
    let bystander = storm
        .latencies
        .iter()
        .filter(|latency| latency.is_bystander);
    assert_eq!(bystander.count(), 4, "{storm:#?}");
    assert!(result.troubles.is_empty(), "{:?}", result.troubles);
    let head = done.stdout.lines().next().unwrap();
    assert!(head.starts_with("RECOVERED in "), "{}", done.stdout);
    judged(&done, 0);
}

#[test]
fn a_broker_that_lets_nobody_in_again_does_not_recover() {
    let broker = Scripted::start(Script {
        turn_away: Some((CONNECTED, u64::MAX)),
        ..Script::default()
    });
    let file = scenario("backoff = \"exp(300ms, 1, 300ms, full)\"\nwithin = \"2s\"");
    let done = start(&broker, &file, &["--cut", "50%"]).finish();
    let result = done.result();
    let storm = result.storm.as_ref().unwrap();
    assert_eq!((storm.hit, storm.back, storm.recovered_s), (10, 0, None));
    assert_eq!(storm.returned(0.5), None);
    let head = done.stdout.lines().next().unwrap();
    let expected = "NOT RECOVERED within 2s after 10 clients were cut: 0 back";
    assert!(head.starts_with(expected), "{}", done.stdout);
    judged(&done, 4);
}

#[test]
fn several_back_offs_are_told_apart_in_one_file() {
    let broker = Scripted::start(Script {
        // The first storm is over before its first attempt that would be let in.
        turn_away: Some((CONNECTED, 40)),
        ..Script::default()
    });
    let file = scenario("within = \"2s\"");
    let args = [
        "--backoff",
        "exp(1s, 1, 1s, none)",
        "--backoff",
        "exp(100ms, 1, 100ms, none)",
        "--label",
        "scripted",
    ];
    let (code, text, found) = start(&broker, &file, &args).finish_storms();
    assert_eq!(found.runs.len(), 2, "{text}");
    let labels: Vec<&str> = found
        .runs
        .iter()
        .map(|run| run.run.label.as_deref().unwrap())
        .collect();
    assert_eq!(
        labels,
        [
            "scripted, exp(1s, 1, 1s, none)",
            "scripted, exp(100ms, 1, 100ms, none)"
        ]
    );
    assert!(text.contains(&found.sentence), "{text}");
    if found.runs.iter().all(|run| run.validity.valid) {
        assert_eq!(code, Some(0), "{text}");
    }
    // A page takes them apart again.
    let path = std::env::temp_dir().join(format!("ringload-storms-{}.json", std::process::id()));
    std::fs::write(&path, serde_json::to_string(&found).unwrap()).unwrap();
    let html = path.with_extension("html");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringload"))
        .args([
            "report",
            path.to_str().unwrap(),
            "-o",
            html.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(&html).unwrap();
    let _ = (std::fs::remove_file(&path), std::fs::remove_file(&html));
    for expected in [
        ">back-off</th>",
        "exp(100ms, 1, 100ms, none)",
        "Connected clients",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn sockets_of_clients_that_are_taken_over_or_fall_silent_stay_open() {
    for (event, backoff) in [
        ("takeover", "exp(1s, 1, 1s, none)"),
        ("silence", "exp(100ms, 1, 100ms, none)"),
    ] {
        let broker = Scripted::start(Script::default());
        let file = scenario(&format!("backoff = \"{backoff}\""));
        let done = start(&broker, &file, &["--event", event]).finish();
        let storm = done.result().storm.as_ref().unwrap();
        assert_eq!(
            (storm.hit, storm.back, storm.attempts),
            (20, 20, 20),
            "{event}"
        );
        // This broker knows of no identifiers, and closes nothing.
        assert_eq!((storm.silent, storm.silent_closed), (20, 0), "{event}");
        let pings = broker.counted().pings;
        assert_eq!(pings, if event == "silence" { 20 } else { 0 }, "{event}");
        if event == "takeover" {
            assert!(
                storm.returned(0.5).unwrap() < 1.0,
                "they do not wait: {storm:#?}"
            );
        }
        assert_eq!(done.result().totals.ledger.lost, 0, "{done:#?}");
        judged(&done, 0);
    }
}

#[test]
fn a_storm_that_cannot_be_is_refused_with_a_fix() {
    for (args, expected) in [
        (
            &["pairs", "--cut", "0%"][..],
            "--cut is `0%`, which is no share",
        ),
        (
            &["pairs", "--backoff", "2s"],
            "--backoff is `2s`, which is no back-off",
        ),
        (
            &["pairs", "--of", "nobody"],
            "storm.of names `nobody`, which is no group",
        ),
        (
            &["pairs", "--slo", "lost = 0"],
            "--slo has `lost = 0`, which is not known second by second",
        ),
        (&["pairs", "--duration", "5"], "--duration is not an option"),
        (
            &[
                "pairs",
                "--csv",
                "x.csv",
                "--backoff",
                "exp(1s, 2, 60s, full)",
                "--backoff",
                "exp(1s, 1, 1s, none)",
            ],
            "--csv is for one run",
        ),
        (&[], "storm needs a scenario"),
        (
            &["pairs", "--set", "publishers.messages=5"],
            "publishers.messages does not fit a storm",
        ),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringload"))
            .arg("storm")
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(
            text.contains(expected) && text.contains("fix: "),
            "{args:?}: {text}"
        );
    }
}
