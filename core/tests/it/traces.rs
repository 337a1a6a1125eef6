//! What traces tell, and that nobody notices them; and which topics are busy.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmq_core::codec::Direction;
use ringmq_core::limits::Limits;
use ringmq_core::shard::{
    Answer, Ask, CloseCause, DeliveryStep, TopicOrder, TopicQuery, TraceEvent, TraceOf, TraceOrder,
    Traced,
};
use ringmq_core::topic::{TopicFilter, TopicLimits};

use crate::dice::Dice;
use crate::world::{Feed, SocketId, World};

const SHARDS: usize = 2;

fn world() -> World {
    World::new(SHARDS, &Arc::new(Limits::default()), Feed::Whole)
}

/// A CONNECT of MQTT 3.1.1 with user and password, whose session stays.
fn connect(world: &mut World, id: &str) -> SocketId {
    let mut body = b"\x00\x04MQTT\x04\xC0\x00\x00".to_vec();
    for text in [id, "ada", "secret"] {
        body.extend([0, text.len() as u8]);
        body.extend(text.as_bytes());
    }
    let socket = world.open();
    world.send(socket, &[&[0x10, body.len() as u8][..], &body].concat());
    socket
}

fn publish(topic: &str, qos: u8, payload: &str) -> Vec<u8> {
    let mut body = vec![0, topic.len() as u8];
    body.extend(topic.as_bytes());
    if qos > 0 {
        body.extend([0, 7]);
    }
    body.extend(payload.as_bytes());
    [&[0x30 | qos << 1, body.len() as u8][..], &body].concat()
}

fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1, 0, filter.len() as u8];
    body.extend(filter.as_bytes());
    body.push(qos);
    [&[0x82, body.len() as u8][..], &body].concat()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, &TopicLimits::default()).expect("it is one")
}

fn begin(world: &mut World, index: u8, of: &TraceOf, payload_max: usize) {
    for shard in 0..SHARDS {
        let order = TraceOrder {
            index,
            of: of.clone(),
            payload_max,
            has_stages: true,
        };
        world.ask(shard, Ask::Trace(order));
        assert!(matches!(
            world.ask(shard, Ask::FindTraced { from: 0 }),
            Answer::FindTraced(None)
        ));
    }
}

fn end(world: &mut World, index: u8) {
    for shard in 0..SHARDS {
        world.ask(shard, Ask::EndTrace { index });
        world.ask(shard, Ask::FindTraced { from: 0 });
    }
}

fn events(world: &mut World) -> Vec<TraceEvent> {
    let mut events = Vec::new();
    for shard in 0..SHARDS {
        loop {
            let Answer::Traced(page) = world.ask(shard, Ask::Traced) else {
                panic!("events were asked for");
            };
            assert_eq!(page.left_out, 0);
            events.extend(page.events);
            if !page.has_more {
                break;
            }
        }
    }
    events
}

/// An event in a few words.
fn words(event: &TraceEvent) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let what = match &event.what {
        Traced::Connected { .. } => "connected".to_owned(),
        Traced::Refused(refusal) => format!("refused {}", refusal.name()),
        Traced::Ended(reason) => format!("ended {reason}"),
        Traced::Packet(direction, packet) => {
            let arrow = match direction {
                Direction::FromClient => '>',
                Direction::FromServer => '<',
            };
            let message = packet.message.as_ref().map(|message| {
                let payload = text(&message.payload);
                format!(" {} {payload:?}", text(&message.topic))
            });
            let filters = packet.filters.iter().map(|filter| format!(" {filter}"));
            let filters: String = filters.collect();
            let (kind, message) = (packet.kind, message.unwrap_or_default());
            format!("{arrow} {kind:?}{filters}{message}")
        }
        Traced::Published(publish) => format!(
            "published {} {:?}: {}+{}",
            text(&publish.message.topic),
            text(&publish.message.payload),
            publish.subscribers,
            publish.shards
        ),
        Traced::Delivery { topic, step, .. } => {
            let step = match step {
                DeliveryStep::Sent(count) => format!("sent {count}"),
                DeliveryStep::Queued(ahead) => format!("queued {ahead}"),
                DeliveryStep::SentFromQueue => "sent from the queue".to_owned(),
                DeliveryStep::Lost(loss, _) => format!("lost {}", loss.name()),
            };
            format!("{} {step}", text(topic))
        }
        Traced::Rules(step) => format!("{step:?}"),
        Traced::Stage(stage, _) => stage.name().to_owned(),
    };
    format!("{}: {}", event.client_id, what.trim_end())
}

#[test]
fn a_client_is_traced_before_it_is_there_and_while_it_is_away() {
    let mut world = world();
    let of = TraceOf::Client("meter".into());
    begin(&mut world, 4, &of, 3);
    let meter = connect(&mut world, "meter");
    let other = connect(&mut world, "other");
    world.send(meter, &subscribe("t", 1));
    world.send(other, &publish("t", 1, "abcdef"));
    world.send(meter, &publish("u", 0, "xyzxyz"));
    world.send(meter, b"\x40\x02\x00\x01");
    world.cut(meter, CloseCause::PeerClosed);
    world.send(other, &publish("t", 1, "while away"));
    let told: Vec<String> = events(&mut world).iter().map(words).collect();
    let expected = [
        "meter: connected",
        "meter: < Connack",
        "meter: > Subscribe t",
        "meter: < Suback",
        "meter: t sent 1",
        "meter: < Publish t \"abc\"",
        "meter: > Publish u \"xyz\"",
        "meter: published u \"xyz\": 0+0",
        "meter: > Puback",
        "meter: ack",
        "meter: ended closed_by_client",
        "meter: t queued 0",
    ];
    assert_eq!(told, expected);
    end(&mut world, 4);
    connect(&mut world, "meter");
    assert!(events(&mut world).is_empty(), "it has ended");
}

#[test]
fn a_topic_is_traced_on_every_shard() {
    let mut world = world();
    let clients: Vec<SocketId> = (0..6)
        .map(|number| connect(&mut world, &format!("c{number}")))
        .collect();
    for socket in &clients[1..4] {
        world.send(*socket, &subscribe("a/#", 1));
    }
    world.cut(clients[3], CloseCause::PeerClosed);
    begin(&mut world, 0, &TraceOf::Topic(filter("a/+")), 0);
    // In one piece: a run.
    world.send(
        clients[0],
        &[publish("a/b", 0, "1"), publish("a/b", 0, "2")].concat(),
    );
    world.send(clients[0], &publish("a/b", 1, "3"));
    world.send(clients[0], &publish("a/b/c", 1, "4"));
    let mut told: Vec<String> = events(&mut world).iter().map(words).collect();
    told.sort();
    let published = told
        .iter()
        .filter(|line| line.contains("published a/b \"\""));
    assert_eq!(published.count(), 2, "{told:?}");
    for line in [
        "c1: a/b sent 1",
        "c1: a/b sent 2",
        "c2: a/b sent 2",
        "c3: a/b queued 0",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
    assert!(told.iter().all(|line| !line.contains("a/b/c")), "{told:?}");
    end(&mut world, 0);
    world.send(clients[0], &publish("a/b", 0, "5"));
    assert!(events(&mut world).is_empty());
}

#[test]
fn what_a_trace_tells_has_no_secrets() {
    let mut world = world();
    begin(&mut world, 0, &TraceOf::Client("c".into()), 0);
    begin(&mut world, 1, &TraceOf::Topic(filter("#")), 0);
    let client = connect(&mut world, "c");
    world.send(client, &subscribe("t", 0));
    world.send(client, &publish("t", 0, "confidential"));
    let told = events(&mut world);
    assert!(told.len() >= 7, "{told:?}");
    let shown = format!("{told:?}");
    for payload in [&b"secret"[..], b"confidential"] {
        let bytes = format!("{payload:?}");
        let bytes = bytes.trim_matches(['[', ']']);
        assert!(!shown.contains(bytes), "{shown}");
    }
    assert!(!shown.contains("secret") && !shown.contains("confidential"));
}

/// Two worlds with the same clients, one of them traced: the same bytes come out of both.
#[test]
fn nobody_notices_that_he_is_traced() {
    for seed in 0..60 {
        let mut worlds = [world(), world()];
        begin(&mut worlds[1], 0, &TraceOf::Topic(filter("#")), 9);
        begin(&mut worlds[1], 1, &TraceOf::Client("c1".into()), 9);
        for world in &mut worlds {
            let mut dice = Dice::new(seed);
            let clients: Vec<SocketId> = (0..5)
                .map(|number| connect(world, &format!("c{number}")))
                .collect();
            for _ in 0..60 {
                let client = clients[dice.below(clients.len())];
                let topic = dice.pick(&["a", "a/b", "b"]);
                let bytes = match dice.below(4) {
                    0 => subscribe(dice.pick(&["a", "#", "+/b"]), dice.below(3) as u8),
                    _ => {
                        let message = publish(topic, dice.below(2) as u8, "payload");
                        message.repeat(1 + dice.below(4))
                    }
                };
                world.send(client, &bytes);
            }
        }
        let [plain, traced] = &worlds;
        for socket in plain.sockets() {
            assert_eq!(
                plain.received(socket),
                traced.received(socket),
                "seed {seed}"
            );
        }
        assert!(plain.metrics().eq(traced.metrics()), "seed {seed}");
    }
}

#[test]
fn busy_topics_are_counted_where_they_are_published() {
    let mut world = world();
    let clients: Vec<SocketId> = (0..8)
        .map(|number| connect(&mut world, &format!("c{number}")))
        .collect();
    world.send(clients[0], &subscribe("#", 0));
    for (number, socket) in clients.iter().enumerate() {
        world.send(*socket, &publish("a", 0, "xx").repeat(1 + number));
        world.send(*socket, &publish("b", 1, "yyyyyyyyyyyyyyyyyyyy"));
    }
    let mut counted: BTreeMap<Vec<u8>, (u64, u64)> = BTreeMap::new();
    for shard in 0..SHARDS {
        let mut next = Some(0);
        while let Some(from) = next {
            let query = TopicQuery {
                from,
                rows_max: 10,
                by: TopicOrder::Bytes,
            };
            let Answer::Topics(page) = world.ask(shard, Ask::Topics(query)) else {
                panic!("topics were asked for");
            };
            assert_eq!(page.error, 0);
            for row in page.rows {
                let entry = counted.entry(row.topic.into()).or_default();
                entry.0 += row.traffic.messages;
                entry.1 += row.traffic.bytes;
            }
            next = page.next;
        }
    }
    let expected = [(b"a".to_vec(), (36, 72)), (b"b".to_vec(), (8, 160))];
    assert_eq!(counted, BTreeMap::from(expected));
}
