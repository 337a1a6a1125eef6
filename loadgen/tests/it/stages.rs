//! Stages and thresholds: figures of their own, exit codes, and files for those who gate by them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::broker::{Script, Scripted};
use crate::common::{Done, run, start};
use ringload::report::{Check, Ended, Judgement};

/// A file that is gone with the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(end: &str, text: &str) -> Temporary {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringload-stages-{}-{number}{end}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Temporary(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A publisher of 200 messages per second and its subscriber.
fn scenario(head: &str) -> Temporary {
    let groups = "[[group]]\nname = \"s\"\nsubscribe = \"t/{run}\"\n\
                  [[group]]\nname = \"p\"\npublish = \"t/{run}\"\nrate = 200\n";
    Temporary::new(".toml", &format!("drain = \"300ms\"\n{head}\n{groups}"))
}

/// The run is valid, or the machine was busy: then nothing may be judged.
fn judged(done: &Done, code: i32) -> bool {
    let result = done.result();
    if result.validity.valid {
        assert_eq!(done.code, Some(code), "{done:#?}");
        return true;
    }
    assert_eq!(done.code, Some(3), "{done:#?}");
    let mut verdicts = result.verdicts.iter();
    assert!(verdicts.all(|verdict| verdict.judgement == Judgement::NotJudged));
    false
}

#[test]
fn every_stage_has_figures_and_a_verdict_of_its_own() {
    let file = scenario(
        "thresholds = [\"lost <= 2\", \"s: latency.p50 < 10s\"]\n\
         [[stage]]\nname = \"calm\"\nfor = \"500ms\"\nthresholds = [\"lost = 0\"]\n\
         [[stage]]\nname = \"spike\"\nfor = \"500ms\"\nrate = \"400 %\"\nthresholds = [\"lost = 0\"]\n\
         [[stage]]\nname = \"steps\"\nfor = \"400ms\"\nrate = \"100..200 % in 2\"\n",
    );
    let broker = Scripted::start(Script {
        lose: [300, 301].into(),
        ..Script::default()
    });
    let done = run(broker.port, &[file.name(), "--no-sys"]);
    let result = done.result();
    let names: Vec<&str> = result
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["calm", "spike", "steps, 100 %", "steps, 200 %"],
        "{done:#?}"
    );
    // Messages belong to the stage in which they were due, to the last one.
    let ledgers = result
        .stages
        .iter()
        .map(|stage| (stage.ledger.owed, stage.ledger.lost));
    let ledgers: Vec<(u64, u64)> = ledgers.collect();
    assert_eq!(ledgers, [(100, 0), (400, 2), (40, 0), (80, 0)], "{done:#?}");
    assert_eq!(result.totals.ledger.owed, 620);
    let counts = result
        .stages
        .iter()
        .map(|stage| stage.latency.as_ref().unwrap().corrected.count);
    let counts: Vec<u64> = counts.collect();
    for (count, expected) in counts.iter().zip([100, 398, 40, 80]) {
        // Stamps are cut to microseconds, so that the first of a stage may seem to be before it.
        assert!(count.abs_diff(expected) <= 2, "{counts:?}");
    }
    assert!(done.stdout.contains("steps, 200 %"), "{}", done.stdout);
    if judged(&done, 4) {
        let judgements = result.verdicts.iter().map(|verdict| verdict.judgement);
        use Judgement::{Missed, Passed};
        assert_eq!(
            judgements.collect::<Vec<_>>(),
            [Passed, Passed, Passed, Missed]
        );
        assert_eq!(result.verdicts[3].stage.as_deref(), Some("spike"));
        let mut lines = done.stdout.lines();
        let headline = lines.next().unwrap_or_default();
        assert!(
            headline.starts_with("MISSED: 1 of 4 thresholds"),
            "{headline}"
        );
        let head = lines.take(4).collect::<Vec<_>>().join("\n");
        assert!(head.contains("MISSED    spike: lost = 0 (2)"), "{head}");
    }
}

#[test]
fn a_run_within_its_limits_passes_and_the_files_say_so() {
    let file = scenario("warmup = 0\nduration = \"500ms\"\nthresholds = [\"rate >= 90 %\"]\n");
    let (junit, csv) = (Temporary::new(".xml", ""), Temporary::new(".csv", ""));
    let broker = Scripted::start(Script::default());
    let args = [
        file.name(),
        "--no-sys",
        "--threshold",
        "latency.max < 1h",
        "--junit",
        junit.name(),
        "--csv",
        csv.name(),
    ];
    let done = run(broker.port, &args);
    let text = junit.text();
    if judged(&done, 0) {
        assert!(
            text.contains("tests=\"3\" failures=\"0\" errors=\"0\""),
            "{text}"
        );
    } else {
        assert!(text.contains("errors=\"3\""), "{text}");
    }
    assert!(
        csv.text().starts_with("second,span_s,stage,sent"),
        "{}",
        csv.text()
    );
    assert!(csv.text().lines().count() >= 2, "{}", csv.text());
    let done = run(
        broker.port,
        &[file.name(), "--no-sys", "--threshold", "received > 1000k"],
    );
    assert_ne!(done.code, Some(0), "{done:#?}");
    judged(&done, 4);
}

#[test]
fn a_limit_that_is_broken_for_long_ends_the_run() {
    let file = scenario(
        "[[stage]]\nfor = \"2m\"\nabort = \"latency.p99 > 900ms for 1s\"\n\
         [[stage]]\nname = \"later\"\nfor = \"1m\"\nthresholds = [\"lost = 0\"]\n",
    );
    let broker = Scripted::start(Script {
        mute: Some(100),
        ..Script::default()
    });
    let done = run(broker.port, &[file.name(), "--no-sys"]);
    let result = done.result();
    assert_eq!(result.run.ended, Ended::Aborted, "{done:#?}");
    assert!(result.run.phases.window_s < 60.0, "{done:#?}");
    assert_eq!(result.stages.len(), 1);
    let verdicts = &result.verdicts;
    assert_eq!(verdicts[0].judgement, Judgement::NotJudged, "{verdicts:?}");
    assert_eq!(verdicts[1].threshold, "abort: latency.p99 > 900ms for 1s");
    if result.validity.valid {
        assert_eq!(
            (done.code, verdicts[1].judgement),
            (Some(4), Judgement::Missed)
        );
    }
}

#[test]
fn a_run_that_comes_to_nothing_leaves_a_result_that_says_so() {
    let file = scenario("thresholds = [\"lost = 0\"]\n");
    let junit = Temporary::new(".xml", "");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let done = run(port, &[file.name(), "--junit", junit.name()]);
    assert_eq!(done.code, Some(1), "{done:#?}");
    let result = done.result();
    assert_eq!(
        (result.run.ended, result.validity.valid),
        (Ended::Failed, false)
    );
    let reason = &result.validity.reasons[0];
    assert_eq!(reason.check, Check::Failed);
    assert!(reason.text.contains("nothing listens"), "{reason:?}");
    assert_eq!(result.verdicts[0].judgement, Judgement::NotJudged);
    assert!(junit.text().contains("errors=\"2\""), "{}", junit.text());
}

#[test]
fn clients_that_come_and_go_lose_nothing_that_they_are_owed() {
    let file = Temporary::new(
        ".toml",
        "warmup = 0\nduration = \"1500ms\"\n\
         [[group]]\nname = \"s\"\nclients = 10\nsubscribe = \"t/{run}/#\"\nonline = \"exp(200ms)\"\n\
         away = \"10ms..50ms\"\n\
         [[group]]\nname = \"p\"\nclients = 10\nqos = 1\npublish = \"t/{run}/{index}\"\nrate = 20\n\
         online = \"300ms\"\naway = \"100ms\"\n",
    );
    let broker = Scripted::start(Script::default());
    let done = run(broker.port, &[file.name(), "--no-sys"]);
    assert_eq!(done.code, Some(0), "{done:#?}");
    let result = done.result();
    let ledger = &result.totals.ledger;
    assert_eq!((ledger.lost, ledger.misrouted), (0, 0), "{done:#?}");
    assert_eq!(ledger.owed, ledger.delivered + ledger.excused);
    for group in &result.groups {
        assert!(group.reconnects > 0, "{done:#?}");
    }
    // What would have been due while they are away is not sent later.
    let sent = result.groups[1].publish.as_ref().unwrap().sent;
    assert!((1..300).contains(&sent), "{sent}");
}

#[test]
fn a_run_shows_itself_while_it_goes_on() {
    let file = scenario("warmup = 0\nduration = \"1h\"\n");
    let broker = Scripted::start(Script::default());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let args = [file.name(), "--no-sys", "--metrics", &address];
    let running = start(broker.port, &args);
    // Until a second is over.
    let mut text = String::new();
    while !text.contains("ringload_latency_seconds{quantile=\"0.99\"} ") {
        text.clear();
        if let Ok(mut stream) = TcpStream::connect(&address) {
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
            stream.read_to_string(&mut text).unwrap();
        }
    }
    for part in [
        "HTTP/1.1 200 OK",
        "\nringload_clients 2\n",
        "\nringload_clients_ready 2\n",
        "\n# TYPE ringload_deliveries_total counter\n",
        "\nringload_stage 1\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(running.finish().code, Some(130));
}
