//! `$SYS`: what subscribers of it see, for one to three shards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::world::{Feed, SocketId, World};
use ringmq_core::limits::Limits;
use ringmq_core::shard::CloseCause;

const INTERVAL: Duration = Duration::from_secs(10);
/// The texts of all topics, each once or more, in the order in which they came.
type Seen = BTreeMap<String, Vec<String>>;

fn started(shards: usize) -> World {
    let mut world = World::with_sys(shards, &Arc::new(Limits::default()), Feed::Whole, INTERVAL);
    world.wait(Duration::from_secs(1));
    world
}

fn connect(world: &mut World, id: &str) -> SocketId {
    let socket = world.open();
    let mut bytes = vec![0x10, 12 + id.len() as u8, 0, 4];
    bytes.extend_from_slice(b"MQTT\x04\x02\x00\x00\x00");
    bytes.push(id.len() as u8);
    bytes.extend_from_slice(id.as_bytes());
    world.send(socket, &bytes);
    assert_eq!(world.received(socket), [0x20, 2, 0, 0]);
    socket
}

/// Subscribes at QoS 0.
fn subscribe(world: &mut World, socket: SocketId, filter: &str) {
    let mut bytes = vec![0x82, filter.len() as u8 + 5, 0, 1, 0, filter.len() as u8];
    bytes.extend_from_slice(filter.as_bytes());
    bytes.push(0);
    world.send(socket, &bytes);
}

fn publish(world: &mut World, socket: SocketId, topic: &str, payload: &str) {
    let size = 2 + topic.len() + payload.len();
    let mut bytes = vec![0x30, size as u8, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(payload.as_bytes());
    world.send(socket, &bytes);
}

/// The messages among what came after the first `skipped` bytes.
fn seen(world: &World, socket: SocketId, skipped: usize) -> Seen {
    let mut bytes = &world.received(socket)[skipped..];
    let mut seen = Seen::new();
    while let [first, size, rest @ ..] = bytes {
        assert!(*size < 128, "the texts are short");
        let (body, next) = rest.split_at(usize::from(*size));
        bytes = next;
        if first >> 4 == 3 {
            let (topic, text) = body[2..].split_at(usize::from(body[1]));
            let topic = String::from_utf8(topic.to_vec()).expect("a topic is text");
            let text = String::from_utf8(text.to_vec()).expect("a value is text");
            seen.entry(topic).or_default().push(text);
        }
    }
    seen
}

fn last<'a>(seen: &'a Seen, topic: &str) -> &'a str {
    let texts = seen.get(&format!("$SYS/broker/{topic}"));
    let texts = texts.unwrap_or_else(|| panic!("{topic} is not published"));
    texts.last().expect("a topic that was seen has a text")
}

#[test]
fn a_new_subscriber_gets_every_topic_of_mosquitto_as_a_retained_message() {
    for shards in 1..=3 {
        let mut world = started(shards);
        let watcher = connect(&mut world, "watcher");
        subscribe(&mut world, watcher, "$SYS/#");
        let seen = seen(&world, watcher, 0);
        let version = last(&seen, "version");
        assert!(version.starts_with("ringmq version "), "{version}");
        let counts = "clients/total clients/maximum clients/connected clients/active clients/disconnected \
            clients/inactive clients/expired messages/stored store/messages/count store/messages/bytes \
            subscriptions/count shared_subscriptions/count messages/received messages/sent bytes/received \
            bytes/sent publish/bytes/received publish/bytes/sent publish/messages/received \
            publish/messages/sent publish/messages/dropped connections/socket/count packet/out/count \
            packet/out/bytes";
        for topic in counts.split_whitespace().chain(["retained messages/count"]) {
            last(&seen, topic).parse::<u64>().unwrap();
        }
        for name in "messages/received messages/sent publish/dropped publish/received publish/sent \
            bytes/received bytes/sent sockets connections"
            .split_whitespace()
        {
            for minutes in [1, 5, 15] {
                let text = last(&seen, &format!("load/{name}/{minutes}min"));
                assert_eq!(text, "0.00", "nothing happened before the first turn");
            }
        }
        for shard in 0..shards {
            last(&seen, &format!("shards/{shard}/dropped/queue_full"));
        }
        assert!(!seen.contains_key(&format!("$SYS/broker/shards/{shards}/sessions")));
    }
}

#[test]
fn sums_over_all_shards_come_at_each_interval_and_only_when_they_changed() {
    for shards in 1..=3 {
        let mut world = started(shards);
        let watcher = connect(&mut world, "watcher");
        subscribe(&mut world, watcher, "$SYS/broker/+/#");
        let others: Vec<SocketId> = (0..5)
            .map(|n| connect(&mut world, &format!("c{n}")))
            .collect();
        for &other in &others {
            subscribe(&mut world, other, "t");
        }
        publish(&mut world, others[0], "t", "hello");
        let before = world.received(watcher).len();
        world.wait(INTERVAL);
        let first = seen(&world, watcher, before);
        assert_eq!(last(&first, "clients/connected"), "6");
        assert_eq!(last(&first, "clients/total"), "6");
        assert_eq!(last(&first, "subscriptions/count"), "6");
        assert_eq!(last(&first, "connections/socket/count"), "6");
        assert_eq!(last(&first, "publish/messages/received"), "1");
        assert_eq!(last(&first, "publish/bytes/received"), "5");
        // 6 CONNECT, 6 SUBSCRIBE, 1 PUBLISH.
        assert_eq!(last(&first, "messages/received"), "13");
        // CONNECT, SUBSCRIBE and PUBLISH: 21 + 5 * 16, 22 + 5 * 8, 10.
        assert_eq!(last(&first, "bytes/received"), "173");
        assert_ne!(last(&first, "load/connections/1min"), "0.00");
        assert!(
            !first.contains_key("$SYS/broker/version"),
            "it has not changed"
        );
        assert!(!first.contains_key("$SYS/broker/clients/expired"));

        let before = world.received(watcher).len();
        for other in others {
            world.cut(other, CloseCause::PeerClosed);
        }
        world.wait(INTERVAL);
        let second = seen(&world, watcher, before);
        assert_eq!(last(&second, "clients/connected"), "1");
        assert_eq!(last(&second, "clients/active"), "1");
        assert!(!second.contains_key("$SYS/broker/clients/maximum"));
        assert!(last(&second, "uptime").ends_with(" seconds"));
    }
}

#[test]
fn leading_wildcards_do_not_reach_it_and_clients_cannot_write_it() {
    let mut world = started(2);
    let curious = connect(&mut world, "curious");
    subscribe(&mut world, curious, "#");
    subscribe(&mut world, curious, "+/broker/uptime");
    world.wait(2 * INTERVAL);
    assert!(seen(&world, curious, 0).is_empty());

    let watcher = connect(&mut world, "watcher");
    subscribe(&mut world, watcher, "$SYS/broker/version");
    publish(&mut world, curious, "$SYS/broker/version", "forged");
    let seen = seen(&world, watcher, 0);
    assert_eq!(seen["$SYS/broker/version"].len(), 1);
    assert!(last(&seen, "version").starts_with("ringmq"));
}

#[test]
fn it_is_silent_without_an_interval_and_after_shutdown() {
    let mut world = World::new(2, &Arc::new(Limits::default()), Feed::Whole);
    let watcher = connect(&mut world, "watcher");
    subscribe(&mut world, watcher, "$SYS/#");
    world.wait(3 * INTERVAL);
    assert!(seen(&world, watcher, 0).is_empty());

    let mut world = started(2);
    world.shut_down();
    world.wait(3 * INTERVAL);
    let timers: usize = world.gauges().iter().map(|gauges| gauges.timers).sum();
    assert_eq!(timers, 0);
}

/// The topics that Mosquitto 2.1 publishes without bridges and without `log_dest topic`, below
/// `$SYS/broker/`. A list apart from the code, to compare with.
const OF_MOSQUITTO: &[&str] = &[
    "version",
    "uptime",
    "clients/total",
    "clients/maximum",
    "clients/disconnected",
    "clients/inactive",
    "clients/connected",
    "clients/active",
    "clients/expired",
    "messages/stored",
    "store/messages/count",
    "store/messages/bytes",
    "subscriptions/count",
    "shared_subscriptions/count",
    "retained messages/count",
    "heap/current",
    "heap/maximum",
    "messages/received",
    "messages/sent",
    "bytes/received",
    "bytes/sent",
    "publish/bytes/received",
    "publish/bytes/sent",
    "packet/out/count",
    "packet/out/bytes",
    "connections/socket/count",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
];
const LOADS_OF_MOSQUITTO: &[&str] = &[
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

#[test]
fn the_topics_are_those_of_mosquitto_and_those_of_shards_and_no_others() {
    let mut world = World::with_sys(2, &Arc::new(Limits::default()), Feed::Whole, INTERVAL);
    world.tell_memory(1_000_000);
    world.wait(Duration::from_secs(1));
    world.tell_memory(600_000);
    world.wait(INTERVAL);
    let watcher = connect(&mut world, "watcher");
    subscribe(&mut world, watcher, "$SYS/#");
    let seen = seen(&world, watcher, 0);
    let mut expected: Vec<String> = OF_MOSQUITTO
        .iter()
        .map(|t| format!("$SYS/broker/{t}"))
        .collect();
    for load in LOADS_OF_MOSQUITTO {
        expected.extend([1, 5, 15].map(|n| format!("$SYS/broker/load/{load}/{n}min")));
    }
    // What the shell counts for the whole broker.
    expected.push("$SYS/broker/reloads/failed".to_owned());
    expected.sort();
    let published: Vec<&String> = seen
        .keys()
        .filter(|topic| !topic.starts_with("$SYS/broker/shards/"))
        .collect();
    assert_eq!(published, expected.iter().collect::<Vec<_>>());
    assert_eq!(last(&seen, "heap/current"), "600000");
    assert_eq!(last(&seen, "heap/maximum"), "1000000");
    assert_eq!(last(&seen, "reloads/failed"), "3");
}

/// Exporters make a metric of each topic and take the first number of its text for the value. A
/// name that two topics share ends the exporter.
#[test]
fn every_topic_maps_to_its_own_metric_with_a_numeric_value() {
    let mut world = started(3);
    let watcher = connect(&mut world, "watcher");
    subscribe(&mut world, watcher, "$SYS/#");
    let seen = seen(&world, watcher, 0);
    let mut names = std::collections::BTreeSet::new();
    for (topic, texts) in &seen {
        let path = topic.strip_prefix("$SYS/").expect("that was subscribed to");
        let name = path.replace(['/', ' '], "_");
        assert!(names.insert(name.clone()), "{topic}");
        let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(name.chars().all(is_fit) && name.starts_with(char::is_alphabetic));
        let is_number = |text: &String| {
            text.split(' ')
                .next()
                .is_some_and(|n| n.parse::<f64>().is_ok())
        };
        assert!(
            topic == "$SYS/broker/version" || texts.iter().all(is_number),
            "{topic}: {texts:?}"
        );
    }
    assert!(names.len() > 150);
}

#[test]
fn drops_and_refusals_are_reported_by_reason_and_shard() {
    let mut world = started(2);
    let client = connect(&mut world, "client");
    // A reserved topic, twice; a third client that takes over.
    publish(&mut world, client, "$SYS/a", "x");
    publish(&mut world, client, "$SYS/b", "x");
    connect(&mut world, "client");
    world.wait(INTERVAL);
    let watcher = connect(&mut world, "watcher");
    subscribe(&mut world, watcher, "$SYS/broker/shards/+/refused/+");
    subscribe(&mut world, watcher, "$SYS/broker/shards/+/dropped/+");
    let seen = seen(&world, watcher, 0);
    let sum = |name: &str| -> u64 {
        let texts = (0..2).map(|shard| last(&seen, &format!("shards/{shard}/{name}")));
        texts
            .map(|text| text.parse::<u64>().expect("a number"))
            .sum()
    };
    assert_eq!(sum("refused/reserved_topic"), 2);
    assert_eq!(sum("refused/taken_over"), 1);
    assert_eq!(sum("refused/keep_alive"), 0);
    assert_eq!(sum("dropped/queue_full"), 0);
}

#[test]
fn unsent_output_is_reported() {
    let mut world = started(1);
    let slow = connect(&mut world, "slow");
    subscribe(&mut world, slow, "t");
    world.stall(slow, true);
    let client = connect(&mut world, "client");
    for _ in 0..3 {
        publish(&mut world, client, "t", "12345");
    }
    world.wait(INTERVAL);
    let watcher = connect(&mut world, "watcher");
    subscribe(&mut world, watcher, "$SYS/broker/packet/#");
    // 3 PUBLISH of 10 bytes.
    let before = seen(&world, watcher, 0);
    assert_eq!(last(&before, "packet/out/count"), "3");
    assert_eq!(last(&before, "packet/out/bytes"), "30");
    world.stall(slow, false);
    world.wait(INTERVAL);
    let after = seen(&world, watcher, 0);
    assert_eq!(last(&after, "packet/out/count"), "0");
    assert_eq!(last(&after, "packet/out/bytes"), "0");
}
