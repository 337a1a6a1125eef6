//! Every scenario that is built in, at a size that a test can afford, against Ringmq with two
//! shards.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use crate::common::{Done, at, run, start_command};
use ringload::report::{Ended, Ledger};
use ringload::scenario::builtin;
use ringmq::{Broker, BrokerConfig};
use ringmq_core::limits::Limits;

/// One broker for all tests of this file.
fn port() -> u16 {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(start).local_addresses()[0].port()
}

fn start() -> Broker {
    Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards: 2,
        sys_interval: Duration::from_millis(300),
        ..BrokerConfig::default()
    })
    .unwrap()
}

fn total(done: &Done) -> Ledger {
    done.result().totals.ledger
}

/// Everything that was owed came, and nothing else did.
fn assert_clean(done: &Done) {
    let ledger = total(done);
    let expected = Ledger {
        owed: ledger.owed,
        delivered: ledger.owed,
        order_checked: true,
        ..Ledger::default()
    };
    assert_eq!(ledger, expected, "{done:#?}");
    assert!(ledger.owed > 0, "{done:#?}");
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert!(done.result().troubles.is_empty(), "{done:#?}");
}

#[test]
fn closed_loops_lose_nothing_at_any_qos() {
    for scenario in ["pairs", "fan-out", "fan-in", "shared"] {
        for qos in ["0", "1", "2"] {
            for (threads, protocol) in [("1", "5.0"), ("3", "3.1.1")] {
                // Shared subscriptions are of both versions, the announcement of 5.0 only.
                let args = [
                    scenario,
                    "--qos",
                    qos,
                    "--threads",
                    threads,
                    "--protocol",
                    protocol,
                    "--duration",
                    "300ms",
                    "--warmup",
                    "100ms",
                    "--no-sys",
                ];
                let done = run(port(), &args);
                assert_clean(&done);
                let result = done.result();
                assert_eq!(result.qos.len(), 1, "{scenario}");
                assert!(
                    result.totals.received_per_s > 0.0,
                    "{scenario} {qos} {threads}"
                );
                assert_eq!(result.validity.generator.threads.len().to_string(), threads);
            }
        }
    }
}

#[test]
fn scenarios_by_schedule_lose_nothing() {
    for (scenario, more) in [
        (
            "mixed",
            &[
                "--set",
                "devices.clients=100",
                "--set",
                "operators.publish=ringload/{run}/command/{message%100}",
                "--set",
                "idle.clients=10",
                "--set",
                "alarm.rate=2",
            ][..],
        ),
        (
            "singlenode-fanout-1-1K-1-1K",
            &["--subscribers", "100", "--rate", "5"],
        ),
        (
            "singlenode-fanout-5-1000-5-250K",
            &["--subscribers", "50", "--rate", "20"],
        ),
        ("singlenode-p2p-1K-1K-1K-1K", &[]),
        (
            "singlenode-p2p-50K-50K-50K-50K",
            &["--publishers", "500", "--subscribers", "500"],
        ),
        ("singlenode-sharedsub-1K-5-1K-1K", &["--publishers", "200"]),
        (
            "singlenode-sharedsub-50K-500-50K-50K",
            &[
                "--publishers",
                "300",
                "--subscribers",
                "20",
                "--set",
                "publishers.publish=test/large/{number}",
                "--set",
                "subscribers.subscribe=$share/large/test/large/#",
            ],
        ),
    ] {
        let mut args = vec![
            scenario,
            "--duration",
            "2",
            "--warmup",
            "0",
            "--threads",
            "2",
        ];
        args.extend_from_slice(more);
        let done = run(port(), &args);
        assert_clean(&done);
        let latency = done.result().totals.latency.as_ref().unwrap();
        assert!(latency.corrected.p50_us >= latency.uncorrected.p50_us);
        assert!(latency.corrected.count > 0);
    }
}

/// Five topics of each publisher, of which three have an alias, because the broker takes no more.
#[test]
fn topics_by_alias_arrive_like_others() {
    let few = Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        limits: Limits {
            topic_alias_max: 3,
            ..Limits::default()
        },
        ..BrokerConfig::default()
    })
    .unwrap();
    let port = few.local_addresses()[0].port();
    for qos in ["0", "1", "2"] {
        let done = run(
            port,
            &[
                "--group",
                "name=s clients=3 protocol=5.0 subscribe=a/{index}/+",
                "--group",
                "name=p clients=3 protocol=5.0 publish=a/{index}/{message%5} topic_aliases=4 \
                 messages=100 window=5",
                "--qos",
                qos,
                "--no-sys",
            ],
        );
        assert_clean(&done);
        assert_eq!(total(&done).delivered, 300);
    }
}

#[test]
fn clients_that_only_connect_are_counted() {
    for (scenario, more) in [
        ("connect", &[][..]),
        (
            "singlenode-conn-tcp-10K-100",
            &["--set", "clients.connect_rate=1000"],
        ),
        ("singlenode-conn-tcp-1M-5K", &[]),
    ] {
        let group = if scenario == "connect" {
            "idle.clients=400"
        } else {
            "clients.clients=400"
        };
        let mut args = vec![scenario, "--set", group, "--duration", "100ms"];
        args.extend_from_slice(more);
        let done = run(port(), &args);
        assert_eq!(done.code, Some(0), "{done:#?}");
        let result = done.result();
        assert_eq!(
            (result.totals.connected, result.groups[0].connected),
            (400, 400)
        );
        assert_eq!(result.groups[0].connect.as_ref().unwrap().count, 400);
        assert!(result.qos.is_empty());
        if scenario.contains("10K") {
            // A rate is kept, not only aimed at: 400 at 1,000 per second take 0.4 s, and without one some ms. The span
            // begins when its first client does, which may be late.
            assert!(
                result.run.phases.connect_s >= 0.2,
                "{:?}",
                result.run.phases
            );
        }
    }
}

#[test]
fn late_subscribers_get_every_retained_message_and_none_is_left_behind() {
    let args = [
        "retained-flood",
        "--publishers",
        "2",
        "--subscribers",
        "5",
        "--threads",
        "2",
    ];
    // A broker of its own: other tests publish below the same topic.
    let broker = start();
    let port = broker.local_addresses()[0].port();
    let done = run(port, &args);
    assert_clean(&done);
    let result = done.result();
    assert_eq!(total(&done).owed, 5 * 2000);
    let readers = result.groups[1].receive.as_ref().unwrap();
    assert_eq!(readers.retained.as_ref().unwrap().count, 5 * 2000);
    assert!(readers.latency.is_none(), "they are as old as they are");
    assert_eq!(result.run.ended, Ended::Planned);
    // Nothing is left: who subscribes to everything gets nothing.
    let nosy = [
        "--group",
        "subscribe=ringload/#",
        "--duration",
        "200ms",
        "--warmup",
        "0",
    ];
    let done = run(port, &nosy);
    assert_eq!(
        done.result().groups[0].receive.as_ref().unwrap().received,
        0
    );
}

#[test]
fn sessions_wait_while_their_clients_are_cut_off() {
    let broker = start();
    let port = broker.local_addresses()[0].port();
    for protocol in ["5.0", "3.1.1"] {
        let args = [
            "reconnect-storm",
            "--subscribers",
            "100",
            "--publishers",
            "10",
            "--set",
            "devices.cut_every=600ms",
            "--set",
            "devices.cut_for=100ms",
            "--duration",
            "2",
            "--warmup",
            "0",
            "--protocol",
            protocol,
        ];
        let done = run(port, &args);
        let (ledger, result) = (total(&done), done.result());
        assert_eq!((ledger.lost, ledger.excused), (0, 0), "{done:#?}");
        assert_eq!(ledger.delivered, ledger.owed);
        assert_eq!(ledger.out_of_order + ledger.corrupt + ledger.misrouted, 0);
        assert_eq!(
            ledger.duplicated, ledger.duplicated_marked,
            "sent again, and said so"
        );
        assert!(result.groups[0].reconnects >= 200, "{done:#?}");
        assert!(result.troubles.is_empty(), "{done:#?}");
        // No session is left behind.
        let look = [
            "connect",
            "--set",
            "idle.clients=1",
            "--duration",
            "1s",
            "--sys-wait",
            "5s",
        ];
        let done = run(port, &look);
        let last = &done.result().sys.as_ref().unwrap().last;
        let sessions = last
            .iter()
            .find(|(topic, _)| topic == "$SYS/broker/clients/disconnected");
        assert_eq!(sessions.unwrap().1, "0", "{protocol}");
    }
}

#[test]
fn clean_subscribers_that_are_cut_off_are_owed_nothing_meanwhile() {
    let args = [
        "pairs",
        "--rate",
        "100",
        "--qos",
        "1",
        "--set",
        "subscribers.cut_every=500ms",
        "--set",
        "subscribers.cut_for=100ms",
        "--duration",
        "2",
        "--warmup",
        "0",
    ];
    let done = run(port(), &args);
    let ledger = total(&done);
    assert_eq!(
        (ledger.lost, ledger.corrupt, ledger.out_of_order),
        (0, 0, 0),
        "{done:#?}"
    );
    assert!(ledger.excused > 0 && ledger.delivered > 0, "{done:#?}");
    assert_eq!(ledger.owed, ledger.delivered + ledger.excused);
}

#[test]
fn a_subscriber_that_does_not_read_costs_the_others_nothing() {
    let args = [
        "slow-subscriber",
        "--duration",
        "2",
        "--warmup",
        "0",
        "--set",
        "fast.clients=10",
        "--payload",
        "4KiB",
        "--rate",
        "100",
    ];
    let done = run(port(), &args);
    let (ledger, result) = (total(&done), done.result());
    assert_eq!(
        (ledger.lost, ledger.corrupt, ledger.duplicated),
        (0, 0, 0),
        "{done:#?}"
    );
    assert_eq!(ledger.delivered, ledger.owed);
    let stalled = result.groups[1].receive.as_ref().unwrap();
    assert!(stalled.may_lose && stalled.ledger.owed > 0);
    // It reads in the drain, so that what was kept for it came after the window.
    assert_eq!(stalled.received_per_s, 0.0, "{stalled:#?}");
    assert_eq!(ledger.owed, 10 * stalled.ledger.owed);
}

/// What a storm of a scenario of bystanders and fifty others came to.
fn storm(scenario: &str, more: &[&str]) -> Done {
    let mut args = vec![
        scenario,
        "--set",
        "crowd.clients=50",
        "--before",
        "1s",
        "--no-sys",
    ];
    args.extend_from_slice(more);
    start_command("storm", &at(port()), &args).finish()
}

fn all_came_back_and_their_old_sockets_were_closed(done: &Done) {
    let storm = done.result().storm.as_ref().unwrap();
    assert_eq!(
        (storm.hit, storm.back, storm.attempts),
        (50, 50, 50),
        "{done:#?}"
    );
    assert_eq!((storm.silent, storm.silent_closed), (50, 50), "{done:#?}");
    assert_eq!(total(done).lost, 0, "{done:#?}");
}

#[test]
fn identifiers_are_taken_over_and_the_first_connections_closed() {
    let done = storm("takeover-storm", &[]);
    all_came_back_and_their_old_sockets_were_closed(&done);
    assert!(done.result().troubles.is_empty(), "{done:#?}");
}

#[test]
fn silent_clients_are_closed_when_their_keep_alive_is_over() {
    let args = [
        "--set",
        "crowd.keep_alive=2s",
        "--backoff",
        "exp(9s, 1, 9s, none)",
    ];
    let done = storm("silent-death", &args);
    all_came_back_and_their_old_sockets_were_closed(&done);
}

#[test]
fn every_session_is_there_after_a_storm() {
    let args = [
        "reconnect-storm",
        "--set",
        "devices.clients=40",
        "--set",
        "senders.clients=4",
        "--of",
        "devices",
        "--before",
        "1s",
        "--backoff",
        "exp(500ms, 2, 2s, full)",
        "--no-sys",
    ];
    let done = start_command("storm", &at(port()), &args).finish();
    let storm = done.result().storm.as_ref().unwrap();
    assert_eq!((storm.hit, storm.back), (40, 40), "{done:#?}");
    assert_eq!(
        (storm.sessions, storm.sessions_present),
        (40, 40),
        "{done:#?}"
    );
    let ledger = total(&done);
    assert_eq!((ledger.lost, ledger.excused), (0, 0), "{done:#?}");
    assert!(done.result().troubles.is_empty(), "{done:#?}");
}

#[test]
fn connections_are_varied_up_to_where_it_was_to_end() {
    let args = [
        "--group",
        "name=idle clients=20 connect_rate=2000",
        "--group",
        "name=pair publish=v/{run} subscribe=v/{run} rate=50",
        "--vary",
        "connections",
        "--slo",
        "connect.p99 < 30s",
        "--quick",
        "--up-to",
        "100",
        "--confirm",
        "0",
    ];
    let (code, text, file) = start_command("find-max", &at(port()), &args).finish_search();
    assert_eq!(code, Some(0), "{text}");
    let answer = &file.rounds[0].answer;
    assert_eq!(answer.lower, Some(100.0), "{text}");
    assert!(
        file.sentence
            .starts_with("holds at least 100 connections of"),
        "{text}"
    );
    let trials = &file.rounds[0].trials;
    assert!(
        trials.iter().all(|trial| trial.connect_p99_us.is_some()),
        "{text}"
    );
    // As many messages as before.
    let last = trials.last().unwrap();
    assert!((last.sent_per_s / 50.0 - 1.0).abs() < 0.2, "{last:?}");
}

#[test]
fn every_scenario_that_is_built_in_has_a_test_here() {
    let source = concat!(include_str!("scenarios.rs"), include_str!("restarts.rs"));
    for (name, _) in builtin::ALL {
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn the_brokers_own_figures_agree_and_its_costs_are_measured() {
    let me = std::process::id().to_string();
    let args = [
        "pairs",
        "--rate",
        "50",
        "--duration",
        "2",
        "--warmup",
        "0",
        "--sys-wait",
        "5s",
        "--pid",
        &me,
        "--label",
        "here",
    ];
    let done = run(port(), &args);
    assert_clean(&done);
    let result = done.result();
    assert_eq!(result.run.label.as_deref(), Some("here"));
    let sys = result.sys.as_ref().unwrap();
    assert!(
        sys.version.as_ref().unwrap().starts_with("ringmq version"),
        "{sys:?}"
    );
    // Other tests use the same broker: it has counted at least ours.
    let counter = sys
        .counters
        .iter()
        .find(|c| c.topic.ends_with("publish/messages/received"));
    let counter = counter.unwrap();
    assert!(
        counter.ours > 4000.0 && counter.broker >= counter.ours * 0.99,
        "{counter:?}"
    );
    let cost = result.broker.as_ref().unwrap();
    let me = std::env::current_exe().unwrap();
    let me = me.file_name().unwrap().to_str().unwrap();
    assert!(
        cost.command.contains(me) && cost.rss_peak_bytes > Some(1 << 20),
        "{cost:?}"
    );
    assert!(cost.user_cores.unwrap() + cost.system_cores.unwrap() > 0.0);
    assert!(
        result.timeline.len() >= 2 && result.timeline.iter().all(|s| s.broker_rss_bytes.is_some())
    );
    let sent: u64 = result.timeline.iter().map(|second| second.sent).sum();
    assert_eq!(
        sent, result.qos[0].sent,
        "every message is in one of the seconds"
    );
    let received: u64 = result.timeline.iter().map(|second| second.received).sum();
    assert_eq!(received, result.qos[0].received);
}
