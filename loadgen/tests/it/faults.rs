//! Against a broker that does wrong on purpose: the report names each fault, and counts it exactly.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::broker::{Script, Scripted};
use crate::common::{Done, run, start};
use ringload::report::{Check, Ended, Ledger, Pace, Trouble};
use ringmq_core::codec::{QoS, ReasonCode};

/// Two publishers with 200 messages each, each with a subscriber.
fn pairs<'a>(qos: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        "pairs",
        "--publishers",
        "2",
        "--subscribers",
        "2",
        "--rate",
        "2000",
        "--qos",
        qos,
        "--set",
        "publishers.messages=200",
        "--set",
        "drain=500ms",
        "--no-sys",
    ];
    args.extend_from_slice(more);
    args
}

fn ledger(done: &Done, qos: u8) -> Ledger {
    let result = done.result();
    let line = result.qos.iter().find(|line| line.qos == qos);
    line.unwrap_or_else(|| panic!("no QoS {qos}: {result:#?}"))
        .ledger
}

fn expected(change: impl FnOnce(&mut Ledger)) -> Ledger {
    let mut ledger = Ledger {
        owed: 400,
        delivered: 400,
        order_checked: true,
        ..Ledger::default()
    };
    change(&mut ledger);
    ledger
}

fn set(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    numbers.into_iter().collect()
}

#[test]
fn a_broker_that_does_right_has_no_faults_at_any_qos() {
    for qos in ["0", "1", "2"] {
        for protocol in ["3.1.1", "5.0"] {
            let broker = Scripted::start(Script::default());
            let done = run(
                broker.port,
                &pairs(qos, &["--protocol", protocol, "--strict"]),
            );
            assert_eq!(
                ledger(&done, qos.parse().unwrap()),
                expected(|_| {}),
                "QoS {qos} {protocol}"
            );
            let result = done.result();
            assert!(result.troubles.is_empty(), "{:?}", result.troubles);
            assert_eq!(result.run.ended, Ended::Planned);
            let publish = result.groups[1].publish.as_ref().unwrap();
            assert_eq!(
                (publish.sent, publish.skipped, publish.refused),
                (400, 0, 0)
            );
            assert_eq!(publish.acknowledged, if qos == "0" { 0 } else { 400 });
            assert_eq!(publish.pace, Pace::Rate { per_client: 2000.0 });
            let receive = result.groups[0].receive.as_ref().unwrap();
            assert_eq!(receive.received, 400);
            // The first ones of all are on the edge of the window, and stamps are rounded.
            let timed = receive.latency.as_ref().unwrap().corrected.count;
            assert!((398..=400).contains(&timed), "{timed}");
        }
    }
}

#[test]
fn each_kind_of_fault_is_named_and_counted_exactly() {
    for qos in ["0", "1", "2"] {
        let number: u8 = qos.parse().unwrap();
        let check = |name: &str, script: Script, expected: Ledger| {
            let broker = Scripted::start(script);
            let done = run(broker.port, &pairs(qos, &[]));
            assert_eq!(
                ledger(&done, number),
                expected,
                "{name} at QoS {qos}\n{}",
                done.stdout
            );
        };
        let script = |change: fn(&mut Script)| {
            let mut script = Script::default();
            change(&mut script);
            script
        };
        let lost = expected(|l| {
            l.delivered -= 7;
            l.lost = 7;
        });
        // The last ones of all too, which nothing follows.
        check(
            "lose",
            script(|s| s.lose = set([1, 20, 21, 22, 77, 399, 400])),
            lost,
        );
        check(
            "duplicate",
            script(|s| s.duplicate = set([3, 50, 51, 400])),
            expected(|l| l.duplicated = 4),
        );
        // Far enough apart that each has a later delivery of its client.
        check(
            "reorder",
            script(|s| s.swap = set([10, 100, 200])),
            expected(|l| l.out_of_order = 3),
        );
        check(
            "corrupt body",
            script(|s| s.corrupt_body = set([5, 6, 300])),
            expected(|l| l.corrupt = 3),
        );
        check(
            "corrupt header",
            script(|s| s.corrupt_header = set([7, 8, 301])),
            expected(|l| l.corrupt = 3),
        );
        check(
            "truncate",
            script(|s| s.truncate = set([9, 302])),
            expected(|l| l.corrupt = 2),
        );
        check(
            "another topic",
            script(|s| s.wrong_topic = set([11, 303])),
            expected(|l| l.corrupt = 2),
        );
        if qos != "0" {
            let script = script(|s| s.wrong_qos = set([12, 13, 14]));
            let broker = Scripted::start(script);
            let done = run(broker.port, &pairs(qos, &[]));
            let faults = done.result().totals.ledger;
            assert_eq!(
                (faults.wrong_qos, faults.lost, faults.delivered),
                (3, 0, 400),
                "QoS {qos}"
            );
        }
    }
}

#[test]
fn faults_of_all_kinds_in_one_run_are_told_apart() {
    let script = Script {
        lose: set([2, 30, 31, 350]),
        duplicate: set([40, 41, 42]),
        repeat: set([45, 46]),
        swap: set([60, 120]),
        corrupt_header: set([150]),
        corrupt_body: set([151, 152]),
        misroute: set([200]),
        ..Script::default()
    };
    let expected = expected(|l| {
        l.delivered -= 4;
        l.lost = 4;
        l.duplicated = 5;
        l.duplicated_marked = 2;
        l.out_of_order = 2;
        l.corrupt = 3;
        l.misrouted = 1;
    });
    for (qos, threads) in [("1", "1"), ("1", "2"), ("2", "2")] {
        let broker = Scripted::start(script.clone());
        let done = run(
            broker.port,
            &pairs(qos, &["--strict", "--threads", threads]),
        );
        let case = format!("QoS {qos}, {threads} threads");
        assert_eq!(ledger(&done, qos.parse().unwrap()), expected, "{case}");
        assert_eq!(done.code, Some(3), "--strict, {case}");
        assert!(
            done.stdout
                .contains("FAULTS: 4 lost, 5 duplicated, 2 out of order, 3 corrupt, 1 misrouted"),
            "{case}: {}",
            done.stdout
        );
    }
}

#[test]
fn small_payloads_are_counted_and_no_more() {
    let broker = Scripted::start(Script {
        lose: set([1, 2, 3]),
        duplicate: set([10]),
        ..Script::default()
    });
    // One subscriber, so that it is the same one that loses and gets twice.
    let mut args = pairs("0", &["--payload", "8"]);
    for arg in args.iter_mut().filter(|arg| **arg == "2") {
        *arg = "1";
    }
    let done = run(broker.port, &args);
    // The duplicate of one message makes up for the loss of another: they look the same.
    let expected = expected(|l| {
        l.owed = 200;
        l.delivered = 198;
        l.lost = 2;
        l.unchecked = 198;
    });
    assert_eq!(ledger(&done, 0), expected);
    assert!(done.result().totals.latency.is_none());
}

#[test]
fn a_run_does_not_end_before_its_retained_messages_are_removed() {
    let broker = Scripted::start(Script {
        removal: Duration::from_millis(2),
        ..Script::default()
    });
    let group = "name=keepers clients=2 publish=r/{run}/{index}/{message%100} rate=2000 \
                 messages=100 retain=true";
    let args = ["--group", group, "--no-sys"];
    let done = run(broker.port, &args);
    assert_eq!(done.result().run.ended, Ended::Planned);
    assert_eq!(broker.retained.load(Ordering::SeqCst), 0, "left behind");
}

#[test]
fn messages_from_elsewhere_are_not_ours() {
    for (topic, payload) in [("news/today", vec![0; 64]), ("news/today", vec![1])] {
        let broker = Scripted::start(Script {
            foreign: Some((topic.to_owned(), payload)),
            ..Script::default()
        });
        let done = run(broker.port, &pairs("0", &[]));
        assert_eq!(ledger(&done, 0), expected(|l| l.foreign = 2));
    }
}

#[test]
fn publications_without_an_acknowledgement_are_not_lost_by_the_broker() {
    for qos in ["1", "2"] {
        let broker = Scripted::start(Script {
            ignore: set([100, 101]),
            lose: set([5]),
            ..Script::default()
        });
        let done = run(broker.port, &pairs(qos, &["--set", "duration=3s"]));
        let expected = expected(|l| {
            l.delivered -= 3;
            l.lost = 1;
            l.excused = 2;
        });
        assert_eq!(ledger(&done, qos.parse().unwrap()), expected, "QoS {qos}");
        assert_eq!(
            done.result().groups[1]
                .publish
                .as_ref()
                .unwrap()
                .acknowledged,
            398
        );
    }
}

#[test]
fn publications_that_are_refused_are_counted_and_not_owed() {
    for qos in ["1", "2"] {
        let broker = Scripted::start(Script {
            refuse_publish: set([7, 8, 9]),
            ..Script::default()
        });
        let done = run(broker.port, &pairs(qos, &["--protocol", "5.0"]));
        let expected = expected(|l| {
            l.delivered -= 3;
            l.excused = 3;
        });
        assert_eq!(ledger(&done, qos.parse().unwrap()), expected, "QoS {qos}");
        let result = done.result();
        assert_eq!(result.groups[1].publish.as_ref().unwrap().refused, 3);
        let trouble = &result.troubles[0];
        assert_eq!(
            (trouble.kind.as_str(), trouble.count),
            ("publication refused", 3)
        );
        assert_eq!(trouble.first, "QuotaExceeded (0x97)");
    }
}

#[test]
fn a_pause_of_the_broker_shows_in_the_open_loop_and_hides_in_the_closed_one() {
    let stalled = || {
        Scripted::start(Script {
            stall: Some((200, Duration::from_secs(1))),
            ..Script::default()
        })
    };
    let args = [
        "pairs",
        "--publishers",
        "5",
        "--subscribers",
        "5",
        "--warmup",
        "0",
        "--duration",
        "3",
        "--no-sys",
    ];
    let run = |more: &[&str]| {
        let all: Vec<&str> = args.iter().chain(more).copied().collect();
        let done = run(stalled().port, &all);
        let latency = done.result().totals.latency.clone().unwrap();
        assert_eq!(done.result().totals.ledger.lost, 0);
        latency
    };
    // 1,000 messages per second: a third of them falls into the pause or waits for its end.
    let open = run(&["--rate", "200"]);
    assert!(open.corrected.p90_us > 300_000, "{open:#?}");
    assert!(open.corrected.p999_us > 900_000, "{open:#?}");
    // One message of each client is underway: five of thousands wait for the end of the pause.
    let closed = run(&["--window", "1"]);
    assert!(closed.corrected.max_us > 900_000, "{closed:#?}");
    assert!(closed.corrected.p90_us < 300_000, "{closed:#?}");
    // The schedule goes on, but the clients wait for acknowledgements: the time at the socket hides
    // it.
    let held = run(&[
        "--rate",
        "200",
        "--qos",
        "1",
        "--set",
        "publishers.inflight_max=1",
    ]);
    assert!(held.corrected.p90_us > 300_000, "{held:#?}");
    assert!(held.uncorrected.p90_us < 300_000, "{held:#?}");
    assert!(held.uncorrected.max_us > 900_000, "{held:#?}");
}

#[test]
fn a_delay_of_single_messages_shows_in_the_latencies_of_just_so_many() {
    let delayed = |numbers: std::ops::RangeInclusive<u64>, seconds| {
        numbers.map(move |number| (number, Duration::from_secs(seconds)))
    };
    for qos in ["0", "1", "2"] {
        let broker = Scripted::start(Script {
            delay: delayed(40..=49, 1)
                .chain(delayed(50..=50, 2))
                .chain(delayed(51..=51, 3))
                .collect(),
            ..Script::default()
        });
        // 100 publishers with a message each, so that nothing is overtaken by its successor.
        let args = [
            "pairs",
            "--publishers",
            "100",
            "--subscribers",
            "100",
            "--rate",
            "10",
            "--qos",
            qos,
            "--set",
            "publishers.messages=1",
            "--set",
            "drain=10s",
            "--no-sys",
        ];
        let done = run(broker.port, &args);
        let result = done.result();
        let all = expected(|l| (l.owed, l.delivered) = (100, 100));
        assert_eq!(ledger(&done, qos.parse().unwrap()), all, "QoS {qos}");
        // By size: 88 without a delay, ten with a second, one with two and one with three. A busy
        // machine adds to each, and takes from none.
        let latency = &result.totals.latency.as_ref().unwrap().corrected;
        assert!((98..=100).contains(&latency.count), "QoS {qos}");
        assert!(latency.p50_us < 1_000_000, "QoS {qos}: {latency:#?}");
        assert!(latency.p90_us >= 1_000_000, "QoS {qos}: {latency:#?}");
        assert!(latency.p90_us < 2_000_000, "QoS {qos}: {latency:#?}");
        assert!(latency.p99_us >= 2_000_000, "QoS {qos}: {latency:#?}");
        assert!(latency.max_us >= 3_000_000, "QoS {qos}: {latency:#?}");
    }
}

#[test]
fn a_broker_that_does_not_let_clients_in_is_an_error_with_a_reason() {
    // The port of a client: in use, so that nobody can come to listen there.
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpStream::connect(somebody.local_addr().unwrap()).unwrap();
    let closed_port = nobody.local_addr().unwrap().port();
    let nothing_listens = format!("ringload: 127.0.0.1:{closed_port}: cannot connect: client ");
    let done = run(closed_port, &pairs("0", &[]));
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains(&nothing_listens), "{}", done.stderr);
    assert!(
        done.stderr.contains("nothing listens on 127.0.0.1"),
        "{}",
        done.stderr
    );
    let script = |change: fn(&mut Script)| {
        let mut script = Script::default();
        change(&mut script);
        script
    };
    for (script, protocol, expected) in [
        (
            script(|s| s.refuse = Some(ReasonCode::NotAuthorized)),
            "3.1.1",
            "NotAuthorized (0x87); check --user and --password-file",
        ),
        (
            script(|s| s.refuse = Some(ReasonCode::Banned)),
            "5.0",
            "refused: client ringload-",
        ),
        (
            script(|s| s.silent = true),
            "3.1.1",
            "no answer: client ringload-",
        ),
        (
            script(|s| s.close_at_once = true),
            "3.1.1",
            "if the port is for TLS add --tls",
        ),
        (
            script(|s| s.refuse_subscribe = true),
            "5.0",
            "NotAuthorized (0x87); check what the user may subscribe to",
        ),
        (
            script(|s| s.refuse_subscribe = true),
            "3.1.1",
            "UnspecifiedError (0x80); check what the user may subscribe to",
        ),
        (
            script(|s| s.grant = Some(QoS::AtMostOnce)),
            "3.1.1",
            "grants QoS 0 at most; lower `qos`",
        ),
        (
            script(|s| s.garbage = Some(b"HTTP/1.1 400 Bad Request".to_vec())),
            "3.1.1",
            "an answer of HTTP: this port speaks HTTP or MQTT over WebSockets; for the latter write \
             --target ws://HOST:PORT/mqtt",
        ),
        (
            script(|s| s.garbage = Some(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
            "3.1.1",
            "`SSH-2.0-OpenSSH_9.2`, which is not MQTT; check the port of --target",
        ),
        (
            script(|s| s.garbage = Some(vec![0x20, 2, 0, 99])),
            "3.1.1",
            "malformed packet: client ringload-",
        ),
    ] {
        let broker = Scripted::start(script);
        let done = run(
            broker.port,
            &pairs(
                "1",
                &["--protocol", protocol, "--set", "answer_timeout=700ms"],
            ),
        );
        assert_eq!(done.code, Some(1), "{expected}: {done:#?}");
        assert!(
            done.stderr.contains(expected),
            "{expected}: {}",
            done.stderr
        );
        assert_eq!(done.result().run.ended, Ended::Failed, "{expected}");
        assert!(!done.stderr.contains("{run}"), "{}", done.stderr);
    }
}

#[test]
fn with_keep_going_refusals_are_counted() {
    let broker = Scripted::start(Script {
        refuse_subscribe: true,
        ..Script::default()
    });
    let done = run(broker.port, &pairs("1", &["--keep-going"]));
    let result = done.result();
    assert_eq!((result.totals.clients, result.totals.connected), (4, 2));
    let trouble = &result.troubles[0];
    assert_eq!((trouble.kind.as_str(), trouble.count), ("refused", 2));
}

#[test]
fn a_broker_that_goes_away_ends_the_run_with_what_there_is() {
    let broker = Scripted::start(Script {
        close_all: Some(300),
        ..Script::default()
    });
    let args = [
        "pairs",
        "--rate",
        "100",
        "--warmup",
        "0",
        "--duration",
        "60",
        "--no-sys",
    ];
    let done = run(broker.port, &args);
    assert_eq!(done.code, Some(1), "{done:#?}");
    let result = done.result();
    assert_eq!(result.run.ended, Ended::Broken);
    assert!(!result.validity.valid);
    assert!(result.qos[0].received >= 299);
    let trouble = &result.troubles[0];
    assert_eq!(
        (trouble.kind.as_str(), trouble.count),
        ("closed by the broker", 100)
    );
    assert!(done.stdout.contains("ABORTED"), "{}", done.stdout);
}

#[test]
fn a_broker_that_stopped_responding_is_reported() {
    // By schedule, 500 messages per second; in a closed loop, all that may be underway.
    let paces = [["--rate", "100"], ["--window", "20"]];
    let falls = [
        (1, "no delivery and no acknowledgement arrived, "),
        (500, "nothing arrived in the last "),
    ];
    // Each of them does little but wait.
    std::thread::scope(|scope| {
        for pace in paces {
            for qos in ["0", "1", "2"] {
                for (from, expected) in falls {
                    scope.spawn(move || silence_is_reported(pace, qos, from, expected));
                }
            }
        }
    });
}

fn silence_is_reported(pace: [&str; 2], qos: &str, from: u64, expected: &str) {
    let broker = Scripted::start(Script {
        mute: Some(from),
        ..Script::default()
    });
    let mut args = vec!["pairs", "--publishers", "5", "--subscribers", "5"];
    args.extend(["--warmup", "0", "--duration", "4s", "--qos", qos]);
    args.extend(["--set", "drain=500ms", "--no-sys"]);
    args.extend(pace);
    let done = run(broker.port, &args);
    let case = format!("{pace:?} QoS {qos} from {from}: {done:#?}");
    assert_eq!(done.code, Some(1), "{case}");
    let result = done.result();
    assert_eq!(result.run.ended, Ended::Planned, "{case}");
    let silent = |trouble: &&Trouble| trouble.kind == "broker fell silent";
    let trouble = result.troubles.iter().find(silent);
    let trouble = trouble.unwrap_or_else(|| panic!("{case}"));
    assert!(trouble.first.contains(expected), "{case}");
    assert!(done.stdout.contains("broker fell silent"), "{case}");
}

#[test]
fn a_broker_that_sends_nonsense_in_the_middle_is_an_error() {
    let broker = Scripted::start(Script {
        garble: Some(200),
        ..Script::default()
    });
    let done = run(broker.port, &pairs("1", &["--set", "duration=3s"]));
    assert_eq!(done.code, Some(1), "{done:#?}");
    let trouble = &done.result().troubles[0];
    assert_eq!(
        (trouble.kind.as_str(), trouble.count),
        ("malformed packet", 1)
    );
}

#[test]
fn a_broker_that_does_not_answer_a_ping_is_gone() {
    let args = [
        "connect",
        "--set",
        "idle.clients=5",
        "--set",
        "idle.keep_alive=1s",
        "--set",
        "answer_timeout=1s",
        "--no-sys",
        "--duration",
    ];
    let mut long = args.to_vec();
    long.push("60s");
    let broker = Scripted::start(Script {
        mute: Some(1),
        ..Script::default()
    });
    let done = run(broker.port, &long);
    assert_eq!(done.code, Some(1), "{done:#?}");
    let result = done.result();
    assert_eq!(result.run.ended, Ended::Broken);
    let trouble = &result.troubles[0];
    assert_eq!(
        (trouble.kind.as_str(), trouble.count),
        ("no answer to a ping", 5)
    );
    assert!(trouble.first.contains("no PINGRESP arrived"), "{trouble:?}");
    let mut short = args.to_vec();
    short.push("3s");
    let done = run(Scripted::start(Script::default()).port, &short);
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert!(done.result().troubles.is_empty(), "{done:#?}");
}

/// Runs until the progress shows this step, and presses Ctrl-C.
fn interrupt_at(step: &str, script: Script, args: &[&str]) -> Done {
    let broker = Scripted::start(script);
    let mut running = start(broker.port, args);
    let mut line = String::new();
    let stderr = running.child.stderr.as_mut().unwrap();
    let mut reader = std::io::BufReader::new(stderr);
    while !line.contains(step) {
        line.clear();
        assert!(
            std::io::BufRead::read_line(&mut reader, &mut line).unwrap() > 0,
            "it ended by itself"
        );
    }
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let done = running.finish();
    assert_eq!(done.code, Some(130), "{step}: {done:#?}");
    assert_eq!(done.result().run.ended, Ended::Interrupted, "{step}");
    assert!(done.stdout.contains("INTERRUPTED"), "{}", done.stdout);
    done
}

#[test]
fn an_interrupted_run_reports_what_there_is() {
    let pairs = ["pairs", "--rate", "20", "--warmup", "0", "--no-sys"];
    let mut long = pairs.to_vec();
    long.extend_from_slice(&["--duration", "600"]);
    let done = interrupt_at("measuring", Script::default(), &long);
    let result = done.result();
    assert!(result.qos[0].received > 0);
    assert_eq!(
        result.totals.ledger.lost, 0,
        "what was on its way still came"
    );
}

#[test]
fn every_step_of_a_run_can_be_interrupted() {
    let slow = [
        "connect",
        "--set",
        "idle.connect_rate=1",
        "--set",
        "idle.clients=1000",
        "--no-sys",
    ];
    let done = interrupt_at("connecting", Script::default(), &slow);
    let totals = &done.result().totals;
    assert!(totals.connected < 1000, "{totals:#?}");
    let warm = ["pairs", "--rate", "20", "--warmup", "600", "--no-sys"];
    let done = interrupt_at("warming up", Script::default(), &warm);
    let checks: Vec<Check> = done
        .result()
        .validity
        .reasons
        .iter()
        .map(|reason| reason.check)
        .collect();
    // A window that never began has no share of the CPU.
    assert!(!checks.contains(&Check::Cpu), "{checks:?}");
    assert!(checks.contains(&Check::Interrupted), "{checks:?}");
    let mute = Script {
        mute: Some(1),
        ..Script::default()
    };
    let drained = [
        "pairs",
        "--rate",
        "20",
        "--warmup",
        "0",
        "--duration",
        "1",
        "--set",
        "drain=600s",
        "--no-sys",
    ];
    interrupt_at("draining", mute, &drained);
}

#[test]
fn the_brokers_counts_are_shown_beside_ringloads() {
    let broker = Scripted::start(Script {
        sys: Some(100),
        ..Script::default()
    });
    let mut args = pairs("0", &[]);
    args.retain(|arg| *arg != "--no-sys");
    let done = run(broker.port, &args);
    let sys = done.result().sys.as_ref().unwrap();
    assert_eq!(sys.version.as_deref(), Some("scripted version 1"));
    let counter = &sys.counters[0];
    assert_eq!(counter.topic, "$SYS/broker/publish/messages/received");
    // The last report came with delivery 400, when the broker had received all but what was on its
    // way.
    assert!((300.0..=400.0).contains(&counter.broker), "{counter:?}");
    assert!(
        counter.ours >= counter.broker && counter.ours <= 400.0,
        "{counter:?}"
    );
    assert_eq!(
        done.result().totals.clients,
        4,
        "the listener is not one of the clients"
    );
}

#[test]
fn more_clients_than_files_are_refused_before_the_run() {
    let program = env!("CARGO_BIN_EXE_ringload");
    let script = format!("ulimit -n 120 && exec {program} run connect --set idle.clients=200");
    let done = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(
        stderr.contains(
            "200 clients need 272 open files, and this process may have 120; raise the \
             limit (ulimit -n 272)"
        ),
        "{stderr}"
    );
}
