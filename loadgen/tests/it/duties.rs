//! What the broker's CONNACK demands is done, what the broker may not do is counted, and whatever
//! was due and did not happen is told.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::Ordering;

use crate::common::broker::{Script, Scripted};
use crate::common::{Done, run};
use ringload::report::{Check, Trouble};
use ringmq_core::codec::QoS;

/// A publisher with 100 messages and its subscriber.
fn pair<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        "pairs",
        "--publishers",
        "1",
        "--subscribers",
        "1",
        "--rate",
        "500",
        "--protocol",
        "5.0",
        "--set",
        "publishers.messages=100",
        "--set",
        "drain=300ms",
        "--warmup",
        "0",
        "--duration",
        "2s",
        "--no-sys",
    ];
    args.extend_from_slice(more);
    args
}

/// What a broker does otherwise.
type Change = fn(&mut Script);

fn trouble<'a>(done: &'a Done, kind: &str) -> &'a Trouble {
    let mut troubles = done.result().troubles.iter();
    let found = troubles.find(|trouble| trouble.kind == kind);
    found.unwrap_or_else(|| panic!("no trouble `{kind}`: {done:#?}"))
}

fn script(change: impl FnOnce(&mut Script)) -> Scripted {
    let mut script = Script::default();
    change(&mut script);
    Scripted::start(script)
}

#[test]
fn messages_without_acknowledgement_and_those_queued_behind_them_are_reported() {
    for (limit, underway) in [("inflight_max", 2), ("the broker's", 3)] {
        let broker = script(|s| {
            s.no_acknowledgements = true;
            if limit != "inflight_max" {
                s.terms = Some(|terms| terms.receive_maximum = Some(3));
            }
        });
        let bound = if limit == "inflight_max" { "2" } else { "1000" };
        let set = format!("publishers.inflight_max={bound}");
        let done = run(broker.port, &pair(&["--qos", "1", "--set", &set]));
        assert_eq!(done.code, Some(1), "{limit}: {done:#?}");
        let publish = done.result().groups[1].publish.as_ref().unwrap();
        assert_eq!(
            (publish.sent, publish.unacknowledged, publish.skipped),
            (underway, Some(underway), 100 - underway),
            "{limit}"
        );
        assert_eq!(broker.counted().published, underway);
        assert_eq!(trouble(&done, "message never acknowledged").count, underway);
        let never_sent = trouble(&done, "message never sent");
        assert_eq!(never_sent.count, 100 - underway);
        let why = format!("{underway} messages waited for their acknowledgement");
        assert!(never_sent.first.ends_with(&why), "{never_sent:?}");
        assert!(
            done.stdout.contains("message never sent"),
            "{}",
            done.stdout
        );
    }
}

#[test]
fn a_broker_that_refuses_every_publication_is_an_error() {
    let broker = script(|s| s.refuse_publish = (1..=100).collect());
    let done = run(broker.port, &pair(&["--qos", "1"]));
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert_eq!(trouble(&done, "publication refused").count, 100);
}

#[test]
fn the_brokers_keep_alive_replaces_the_clients() {
    let broker = script(|s| s.terms = Some(|terms| terms.server_keep_alive = Some(1)));
    let args = [
        "connect",
        "--set",
        "idle.clients=3",
        "--set",
        "idle.protocol=5.0",
        "--duration",
        "2500ms",
        "--no-sys",
    ];
    let done = run(broker.port, &args);
    assert_eq!(done.code, Some(0), "{done:#?}");
    // Each after three quarters of a second, however late: two in 2.5 s at least, and none with
    // their own 60 s.
    assert!(broker.counted().pings >= 6, "{:?}", broker.counted());
}

#[test]
fn limits_of_the_broker_that_a_scenario_exceeds_are_named() {
    let cases: [(Change, &[&str], &str); 9] = [
        (
            |s| s.terms = Some(|t| t.maximum_qos = Some(QoS::AtMostOnce)),
            &["--qos", "1"],
            "the broker takes QoS 0 at most; lower `qos`",
        ),
        (
            |s| s.terms = Some(|t| t.retain_available = Some(false)),
            &["--set", "publishers.retain=true"],
            "the broker keeps no retained messages; leave out `retain`",
        ),
        (
            |s| s.terms = Some(|t| t.maximum_packet_size = Some(100)),
            &["--payload", "90"],
            "the broker takes packets of 100 bytes at most, and PUBLISH has up to 116 here; lower \
             `payload`",
        ),
        (
            |s| s.terms = Some(|t| t.maximum_packet_size = Some(20)),
            &["--payload", "0", "--set", "publishers.publish=t"],
            "the broker takes packets of 20 bytes at most, and SUBSCRIBE has",
        ),
        (
            |s| s.terms = Some(|t| t.wildcard_available = Some(false)),
            &["--set", "subscribers.subscribe=ringload/{run}/pairs/+"],
            "the broker has no wildcard subscriptions; subscribe without + and #",
        ),
        (
            |s| s.terms = Some(|t| t.shared_available = Some(false)),
            &[
                "--set",
                "subscribers.subscribe=$share/g/ringload/{run}/pairs/0",
            ],
            "the broker has no shared subscriptions; subscribe without $share/",
        ),
        (
            |s| s.terms = Some(|t| t.session_expiry_s = Some(0)),
            &["--set", "subscribers.clean=false"],
            "the broker keeps sessions for 0 s only; use clean = true",
        ),
        (
            |s| s.terms = Some(|t| t.assigned_client_id = Some("x")),
            &[],
            "CONNACK assigns the client identifier `x`, and CONNECT had one",
        ),
        (
            |_| {},
            &["--set", "publishers.client_id="],
            "CONNACK assigns no client identifier, and CONNECT had none",
        ),
    ];
    for (change, more, expected) in cases {
        let done = run(script(change).port, &pair(more));
        assert_eq!(done.code, Some(1), "{expected}: {done:#?}");
        assert!(
            done.stderr.contains(expected),
            "{expected}: {}",
            done.stderr
        );
    }
}

#[test]
fn clients_may_leave_their_names_to_the_broker() {
    let broker = script(|s| s.terms = Some(|terms| terms.assigned_client_id = Some("assigned")));
    let args = [
        "--group",
        "name=g clients=2 protocol=5.0 client_id= publish=t/{index} rate=100 messages=10",
        "--no-sys",
    ];
    let done = run(broker.port, &args);
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert_eq!(broker.counted().published, 20);
}

#[test]
fn live_messages_with_retain_are_counted() {
    let wrong: BTreeSet<u64> = [3, 50, 100].into();
    for (qos, retain) in [("0", "false"), ("1", "true"), ("2", "true")] {
        let broker = script(|s| s.live_retain = wrong.clone());
        let set = format!("publishers.retain={retain}");
        let done = run(
            broker.port,
            &pair(&["--qos", qos, "--set", &set, "--strict"]),
        );
        let ledger = done.result().totals.ledger;
        assert_eq!(
            (ledger.wrong_retain, ledger.delivered, ledger.lost),
            (3, 100, 0),
            "QoS {qos}, retain {retain}: {done:#?}"
        );
        assert_eq!(done.code, Some(3));
        assert!(
            done.stdout.contains("FAULTS: 3 with a wrong RETAIN"),
            "{}",
            done.stdout
        );
    }
}

#[test]
fn what_connect_and_subscribe_did_not_ask_for_is_no_message() {
    let cases: [(Change, &str); 2] = [
        (
            |s| s.alias = [5].into(),
            "PUBLISH with a topic alias, and CONNECT permits none",
        ),
        (
            |s| s.subscription_id = [5].into(),
            "PUBLISH with a subscription identifier, and SUBSCRIBE gave none",
        ),
    ];
    for (change, expected) in cases {
        let done = run(script(change).port, &pair(&[]));
        assert_eq!(done.code, Some(1), "{done:#?}");
        let trouble = trouble(&done, "malformed packet");
        assert!(trouble.first.ends_with(expected), "{trouble:?}");
    }
}

#[test]
fn a_broker_that_sends_more_at_a_time_than_the_client_takes_is_counted() {
    for qos in ["1", "2"] {
        let args = |messages| {
            pair(&[
                "--qos",
                qos,
                "--set",
                "subscribers.receive_maximum=4",
                "--set",
                messages,
            ])
        };
        let done = run(
            script(|s| s.gather = Some(10)).port,
            &args("publishers.messages=10"),
        );
        assert_eq!(done.code, Some(1), "QoS {qos}: {done:#?}");
        let trouble = trouble(&done, "rule of MQTT broken");
        assert!(trouble.count >= 1 && trouble.count <= 6, "{trouble:?}");
        assert!(
            trouble.first.contains("with a Receive Maximum of 4"),
            "{trouble:?}"
        );
        let done = run(
            script(|s| s.gather = Some(4)).port,
            &args("publishers.messages=4"),
        );
        assert_eq!(done.code, Some(0), "QoS {qos}: {done:#?}");
    }
}

#[test]
fn retained_messages_of_a_disconnected_client_are_removed_too() {
    let group = "name=g clients=2 publish=r/{index}/{message%5} rate=100 retain=true messages=20";
    let broker = script(|s| s.throw_out = Some(11));
    let done = run(
        broker.port,
        &["--group", group, "--no-sys", "--duration", "1s"],
    );
    assert_eq!(done.code, Some(1), "{done:#?}");
    // Two of them, and the one that came back.
    assert_eq!(broker.counted().connects, 3);
    let kinds: Vec<&str> = done
        .result()
        .troubles
        .iter()
        .map(|t| t.kind.as_str())
        .collect();
    assert!(
        !kinds.contains(&"retained message left behind"),
        "{kinds:?}"
    );
    // The stand-in counts retained messages up and removals down: both clients removed all five
    // topics.
    let stored = broker.counted().published;
    assert_eq!(broker.retained.load(Ordering::SeqCst), stored - 10);
}

#[test]
fn retained_messages_that_cannot_be_removed_are_reported() {
    let broker = script(|s| s.close_all = Some(30));
    let args = [
        "--group",
        "name=s subscribe=r/#",
        "--group",
        "name=p publish=r/{message%5} rate=100 retain=true messages=1000",
        "--no-sys",
        "--duration",
        "2s",
    ];
    let refusing = run(broker.port, &args);
    // It lets the client in again, so that all are removed.
    assert!(
        refusing
            .result()
            .troubles
            .iter()
            .all(|t| t.kind != "retained message left behind")
    );
    let broker = script(|s| {
        s.close_all = Some(30);
        s.refuse_again = true;
    });
    let done = run(broker.port, &args);
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert_eq!(trouble(&done, "retained message left behind").count, 5);
}

#[test]
fn a_short_run_has_the_rates_that_the_broker_counts() {
    for (clients, messages, window) in [(20_u64, 50_u64, "5"), (5, 300, "3")] {
        let broker = script(|_| {});
        let publishers =
            format!("name=p clients={clients} publish=t/a messages={messages} window={window}");
        let args = [
            "--group",
            "name=s clients=2 subscribe=t/a",
            "--group",
            &publishers,
            "--warmup",
            "0s",
            "--no-sys",
        ];
        let done = run(broker.port, &args);
        let (result, counted) = (done.result(), broker.counted());
        assert_eq!(counted.published, clients * messages);
        assert_eq!(counted.delivered, 2 * clients * messages);
        let seconds = result.run.phases.window_s;
        let sent = (result.totals.sent_per_s * seconds).round() as u64;
        let received = (result.totals.received_per_s * seconds).round() as u64;
        assert_eq!((sent, received), (counted.published, counted.delivered));
    }
}

#[test]
fn a_report_of_unknown_age_is_not_compared_and_the_others_agree_with_the_broker() {
    let broker = script(|s| {
        s.sys = Some(40);
        s.sys_retained = true;
    });
    let mut args = pair(&[]);
    args.retain(|arg| *arg != "--no-sys");
    let done = run(broker.port, &args);
    let sys = done.result().sys.as_ref().unwrap();
    let received = |c: &&ringload::report::SysCounter| c.topic.ends_with("messages/received");
    let counter = sys.counters.iter().find(received).unwrap();
    // With deliveries 40 and 80, and so with publications 40 and 80.
    assert_eq!(counter.broker, 40.0, "{sys:?}");
    assert!(counter.ours >= 30.0 && counter.ours <= 60.0, "{counter:?}");
    // A single report of this run is shown, and compared with nothing.
    let broker = script(|s| {
        s.sys = Some(60);
        s.sys_retained = true;
    });
    let done = run(broker.port, &args);
    let sys = done.result().sys.as_ref().unwrap();
    assert!(sys.counters.is_empty() && !sys.last.is_empty(), "{sys:?}");
    assert!(done.stdout.contains("not compared"), "{}", done.stdout);
}

#[test]
fn a_broker_that_died_has_no_figures() {
    let broker = script(|_| {});
    let mut victim = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = victim.id().to_string();
    let slow = ["--pid", &pid, "--set", "publishers.rate=50"];
    let running = crate::common::start(broker.port, &pair(&slow));
    while broker.counted().published == 0 {
        std::thread::yield_now();
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    let done = running.finish();
    let cost = done.result().broker.as_ref().unwrap();
    assert_eq!((cost.user_cores, cost.user_ns_per_delivery), (None, None));
    assert_eq!(
        (cost.rss_peak_bytes, cost.rss_per_connection_bytes),
        (None, None)
    );
    assert!(
        done.stdout.contains("broker    - + - cores"),
        "{}",
        done.stdout
    );
    assert!(done.result().timeline.last().unwrap().broker_cpu.is_none());
}

#[test]
fn no_password_is_in_a_result_and_json_goes_to_stdout() {
    let broker = script(|_| {});
    let target = format!("127.0.0.1:{}", broker.port);
    let output = Command::new(env!("CARGO_BIN_EXE_ringload"))
        .args(["run"])
        .args(pair(&[
            "--user",
            "u",
            "--password",
            "S3cret",
            "--json",
            "-",
        ]))
        .args(["--set", "publishers.password=S3cret", "--target", &target])
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        !stdout.contains("S3cret") && !stderr.contains("S3cret"),
        "{stdout}{stderr}"
    );
    let result: ringload::report::ResultFile = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result.groups[1].publish.as_ref().unwrap().sent, 100);
    assert!(
        result.run.command.contains(&"***".to_owned()),
        "{:?}",
        result.run.command
    );
    assert!(
        stderr.contains("ledger"),
        "the summary goes to stderr: {stderr}"
    );
    let check = |reason: &ringload::report::Reason| reason.check != Check::Interrupted;
    assert!(result.validity.reasons.iter().all(check));
}

#[test]
fn messages_due_while_a_publisher_is_away_are_late_and_not_left_out() {
    let broker = script(|s| s.throw_out = Some(20));
    let more = ["--qos", "1", "--set", "publishers.reconnect=true"];
    let done = run(broker.port, &pair(&more));
    let publish = done.result().groups[1].publish.as_ref().unwrap();
    assert_eq!((publish.sent, publish.skipped), (100, 0), "{done:#?}");
    assert_eq!(publish.acknowledged + publish.unacknowledged.unwrap(), 100);
    // It comes back after 100 ms: what was due in that time is late by it.
    let latency = &done.result().totals.latency.as_ref().unwrap();
    assert!(latency.corrected.max_us >= 50_000, "{latency:#?}");
    // One that does not come back: every message is in the books.
    let done = run(script(|s| s.throw_out = Some(20)).port, &pair(&[]));
    let publish = done.result().groups[1].publish.as_ref().unwrap();
    assert_eq!(publish.sent + publish.skipped, 100, "{done:#?}");
    assert_eq!(trouble(&done, "message never sent").count, publish.skipped);
    assert_eq!(done.code, Some(1));
}

#[test]
fn a_window_goes_on_after_its_subscribers_were_cut() {
    for (qos, more) in [("1", "0s"), ("0", "300ms")] {
        let broker = script(|_| {});
        let cut_for = format!("subscribers.cut_for={more}");
        let args = [
            "pairs",
            "--publishers",
            "2",
            "--subscribers",
            "2",
            "--window",
            "5",
            "--qos",
            qos,
            "--warmup",
            "0",
            "--duration",
            "2s",
            "--set",
            "drain=300ms",
            "--set",
            "subscribers.cut_every=500ms",
            "--set",
            &cut_for,
            "--no-sys",
        ];
        let done = run(broker.port, &args);
        let kinds: Vec<&str> = done
            .result()
            .troubles
            .iter()
            .map(|t| t.kind.as_str())
            .collect();
        assert!(kinds.is_empty(), "QoS {qos}, {more}: {kinds:?}");
        // Three cuts at least: a window that stood still would have ended with the first.
        let reconnects = done.result().groups[0].reconnects;
        assert!(reconnects >= 4, "{reconnects}");
        let seconds = &done.result().timeline;
        assert!(
            seconds.len() >= 2 && seconds[1].received > 20,
            "QoS {qos}, {more}: {seconds:#?}"
        );
    }
}
