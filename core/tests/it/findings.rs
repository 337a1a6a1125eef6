//! What is said of subscribers, losses and retained messages, against what then happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::codec::QoS;
use ringmq_core::limits::Limits;
use ringmq_core::shard::{
    Answer, Ask, CloseCause, Dealt, Fate, LeaveOrder, LossQuery, MatchPlace, MessageTerms,
    Publishing, RetainedQuery, SubscriberQuery, SubscriberRow, Whose,
};
use ringmq_core::topic::{TopicFilter, TopicLimits};

use crate::dice::Dice;
use crate::world::{Feed, SocketId, World};

const SHARDS: usize = 2;

/// A CONNECT of MQTT 5.0 whose session outlives it by an hour.
fn connect(world: &mut World, id: &str) -> SocketId {
    let mut body = b"\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00\x0E\x10".to_vec();
    body.extend([0, id.len() as u8]);
    body.extend(id.as_bytes());
    let socket = world.open();
    world.send(socket, &[&[0x10, body.len() as u8][..], &body].concat());
    socket
}

fn subscribe(world: &mut World, socket: SocketId, filter: &str, options: u8) {
    let mut body = vec![0, 1, 0, 0, filter.len() as u8];
    body.extend(filter.as_bytes());
    body.push(options);
    world.send(socket, &[&[0x82, body.len() as u8][..], &body].concat());
}

fn publish(world: &mut World, socket: SocketId, topic: &str, qos: u8, payload: &str) {
    let mut body = vec![0, topic.len() as u8];
    body.extend(topic.as_bytes());
    if qos > 0 {
        body.extend([0, 1]);
    }
    body.push(0);
    body.extend(payload.as_bytes());
    let first = 0x30 | qos << 1;
    world.send(socket, &[&[first, body.len() as u8][..], &body].concat());
}

fn subscribers(
    world: &mut World,
    dice: &mut Dice,
    of: &Whose,
    message: Option<&MessageTerms>,
) -> Vec<SubscriberRow> {
    let mut rows = Vec::new();
    for shard in 0..SHARDS {
        let mut next = Some(MatchPlace::default());
        while let Some(from) = next {
            let ask = Ask::Subscribers(SubscriberQuery {
                of: of.clone(),
                from,
                rows_max: 1 + dice.below(4),
                message: message.cloned(),
            });
            let Answer::Subscribers(page) = world.ask(shard, ask) else {
                panic!("subscribers were asked for");
            };
            rows.extend(page.rows);
            next = page.next;
        }
    }
    rows
}

fn queued(world: &mut World, id: &str) -> usize {
    let rows = (0..SHARDS).filter_map(|shard| {
        let client_id = id.into();
        match world.ask(shard, Ask::Session { client_id }) {
            Answer::Session(row) => row.map(|row| row.queued_messages),
            other => panic!("{other:?}"),
        }
    });
    rows.sum()
}

/// One of all who there are.
struct Client {
    id: String,
    /// `None`: it is away.
    socket: Option<SocketId>,
    filters: Vec<(String, u8)>,
}

#[test]
fn who_is_said_to_get_a_message_gets_it_and_nobody_else() {
    const FILTERS: [&str; 6] = ["a/b", "a/+", "#", "a/#", "+/b", "b"];
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let limits = Limits {
            queued_messages_max: dice.pick(&[1, 1000]),
            ..Limits::default()
        };
        let mut world = World::new(SHARDS, &Arc::new(limits), Feed::Whole);
        let mut clients: Vec<Client> = Vec::new();
        for number in 0..12 {
            let id = format!("c{number}");
            let socket = connect(&mut world, &id);
            let mut filters: Vec<(String, u8)> = Vec::new();
            for _ in 0..dice.below(4) {
                // With a QoS, and perhaps No Local.
                let options = dice.below(3) as u8 | if dice.one_in(3) { 4 } else { 0 };
                let filter = dice.pick(&FILTERS);
                subscribe(&mut world, socket, filter, options);
                filters.retain(|(other, _)| other != filter);
                filters.push((filter.to_owned(), options));
            }
            let is_away = number > 0 && dice.one_in(3);
            if is_away {
                world.cut(socket, CloseCause::PeerClosed);
            }
            clients.push(Client {
                id,
                socket: Some(socket).filter(|_| !is_away),
                filters,
            });
        }
        let publisher = clients[0].socket.expect("it stays");
        let other = connect(&mut world, "other");
        for round in 0..4 {
            let qos = dice.below(2) as u8;
            let from = if dice.one_in(2) { "c0" } else { "other" };
            let message = MessageTerms {
                publisher: Some(from.into()),
                qos: [QoS::AtMostOnce, QoS::AtLeastOnce][usize::from(qos)],
                payload_size: 7,
            };
            let of = Whose::Topic("a/b".into());
            let rows = subscribers(&mut world, &mut dice, &of, Some(&message));
            let named: BTreeSet<&str> = rows.iter().map(|row| &*row.client_id).collect();
            assert_eq!(named.len(), rows.len(), "seed {seed}: somebody twice");
            let before: Vec<(usize, usize)> = clients
                .iter()
                .map(|client| held(&mut world, client))
                .collect();
            let socket = if from == "c0" { publisher } else { other };
            publish(&mut world, socket, "a/b", qos, "payload");
            for (client, before) in clients.iter().zip(before) {
                let got = held(&mut world, client) != before;
                let row = rows.iter().find(|row| *row.client_id == *client.id);
                let is_subscribed = client.filters.iter().any(|(filter, _)| filter != "b");
                let context = format!("seed {seed}, round {round}: {} {row:?}", client.id);
                assert_eq!(row.is_some(), is_subscribed, "{context}");
                let fate = row.and_then(|row| row.fate.as_ref());
                let is_told = matches!(fate, Some(Fate::Sent | Fate::Waits { .. }));
                assert_eq!(got, is_told, "{context}");
            }
        }
    }
}

/// What a client has got, the messages alone, and what waits for it.
fn held(world: &mut World, client: &Client) -> (usize, usize) {
    let received = client.socket.map_or(0, |socket| {
        let text = world.received(socket);
        text.windows(7)
            .filter(|window| window == b"payload")
            .count()
    });
    (received, queued(world, &client.id))
}

#[test]
fn members_of_a_group_are_named_as_one_of_several() {
    let mut world = World::new(SHARDS, &Arc::new(Limits::default()), Feed::Whole);
    let mut dice = Dice::new(1);
    for id in ["m1", "m2", "m3"] {
        let socket = connect(&mut world, id);
        subscribe(&mut world, socket, "$share/g/t/+", 1);
    }
    let message = MessageTerms {
        publisher: None,
        qos: QoS::AtLeastOnce,
        payload_size: 1,
    };
    let of = Whose::Topic("t/1".into());
    let rows = subscribers(&mut world, &mut dice, &of, Some(&message));
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(row.group.as_deref(), Some("$share/g/t/+"));
        assert!(
            matches!(row.fate, Some(Fate::OneOf { members: 3, .. })),
            "{row:?}"
        );
    }
    let filter = TopicFilter::parse("$share/g/t/+", &TopicLimits::default()).unwrap();
    let rows = subscribers(&mut world, &mut dice, &Whose::Filter(filter), None);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.fate.is_none()));
}

#[test]
fn retained_messages_are_listed_once_and_deleted_by_filter() {
    let mut world = World::new(SHARDS, &Arc::new(Limits::default()), Feed::Whole);
    let client = connect(&mut world, "c");
    for number in 0..300 {
        let topic = format!("t/{number}");
        let mut body = vec![0, topic.len() as u8];
        body.extend(topic.as_bytes());
        body.extend(b"\x00x");
        world.send(client, &[&[0x31, body.len() as u8][..], &body].concat());
    }
    let list = |world: &mut World, filter: Option<&str>| {
        let filter = filter.map(|text| TopicFilter::parse(text, &TopicLimits::default()).unwrap());
        let mut topics = Vec::new();
        for shard in 0..SHARDS {
            let mut next = Some(0);
            while let Some(from) = next {
                let query = RetainedQuery {
                    from,
                    rows_max: 17,
                    filter: filter.clone(),
                };
                let Answer::Retained(page) = world.ask(shard, Ask::Retained(query)) else {
                    panic!("retained messages were asked for");
                };
                let topic = |message: &[u8]| String::from_utf8(message.to_vec()).unwrap();
                topics.extend(page.rows.iter().map(|row| topic(row.message.topic())));
                next = page.next;
            }
        }
        topics.sort();
        topics
    };
    let all = list(&mut world, None);
    assert_eq!(all.len(), 300);
    assert_eq!(list(&mut world, Some("+/7")), ["t/7"]);
    let mut deleted = 0;
    for shard in 0..SHARDS {
        let mut next = Some(0);
        while let Some(from) = next {
            let query = RetainedQuery {
                from,
                rows_max: 10,
                filter: Some(TopicFilter::parse("t/#", &TopicLimits::default()).unwrap()),
            };
            let Answer::UnretainPage(dealt) = world.ask(shard, Ask::UnretainPage(query)) else {
                panic!("a deletion was asked for");
            };
            let Dealt { count, next: after } = dealt;
            deleted += count;
            next = after;
        }
    }
    assert_eq!(deleted, 300);
    assert!(list(&mut world, None).is_empty());
    assert!(world.gauges().iter().all(|gauges| gauges.retained == 0));
}

#[test]
fn losses_are_counted_by_client_and_listed_by_case() {
    let limits = Limits {
        queued_messages_max: 2,
        ..Limits::default()
    };
    let mut world = World::new(1, &Arc::new(limits), Feed::Whole);
    let subscriber = connect(&mut world, "s");
    subscribe(&mut world, subscriber, "t/#", 1);
    world.cut(subscriber, CloseCause::PeerClosed);
    let publisher = connect(&mut world, "p");
    for topic in ["t/1", "t/2", "t/3", "t/3", "t/4"] {
        publish(&mut world, publisher, topic, 1, "x");
        world.wait(Duration::from_secs(1));
    }
    let of = |client: &str| Ask::LossesOf {
        client_id: client.into(),
    };
    let Answer::LossesOf(Some(losses)) = world.ask(0, of("s")) else {
        panic!("it has a session");
    };
    let [tally] = &losses.tallies[..] else {
        panic!("{losses:?}");
    };
    assert_eq!((tally.loss.name(), tally.count), ("queue_full", 3));
    assert_eq!(tally.topic.as_bytes(), b"t/4");
    let bound = tally.bound.expect("a bound was reached");
    assert_eq!((bound.name, bound.max), ("queued_messages_max", 2));
    assert_eq!(tally.first_ago, Duration::from_secs(3));
    assert_eq!(tally.last_ago, Duration::from_secs(1));
    assert_eq!(losses.away_for, Some(Duration::from_secs(5)));
    let Answer::LossesOf(Some(none)) = world.ask(0, of("p")) else {
        panic!("it has a session");
    };
    assert!(none.tallies.is_empty());
    assert!(matches!(world.ask(0, of("nobody")), Answer::LossesOf(None)));
    let query = LossQuery {
        rows_max: 10,
        client_id: Some("s".into()),
        ..LossQuery::default()
    };
    let Answer::Losses(page) = world.ask(0, Ask::Losses(query)) else {
        panic!("losses were asked for");
    };
    let cases = page
        .rows
        .iter()
        .map(|row| (row.topic.as_bytes(), row.count));
    assert_eq!(cases.collect::<Vec<_>>(), [(&b"t/4"[..], 1), (b"t/3", 2)]);
}

#[test]
fn whoever_has_been_silent_for_long_enough_leaves_and_no_more_than_wanted() {
    let mut world = World::new(1, &Arc::new(Limits::default()), Feed::Whole);
    let idle: Vec<SocketId> = (0..5)
        .map(|n| connect(&mut world, &format!("i{n}")))
        .collect();
    world.wait(Duration::from_secs(10));
    let busy = connect(&mut world, "busy");
    let mut leave = |idle_s, count_max, from| {
        let order = LeaveOrder {
            from,
            idle_min: Duration::from_secs(idle_s),
            count_max,
            redirect: None,
        };
        match world.ask(0, Ask::Leave(order)) {
            Answer::Leave(dealt) => dealt,
            other => panic!("{other:?}"),
        }
    };
    let first = leave(5, 3, 0);
    assert_eq!(first.count, 3);
    let rest = leave(5, 100, first.next.expect("there are more"));
    assert_eq!((rest.count, rest.next), (2, None));
    assert_eq!(leave(0, 100, 0).count, 1);
    assert_eq!(leave(0, 100, 0).count, 0);
    assert!(
        idle.iter()
            .chain([&busy])
            .all(|&socket| world.is_closed(socket))
    );
}

#[test]
fn whether_a_client_may_publish_is_said() {
    let mut world = World::new(1, &Arc::new(Limits::default()), Feed::Whole);
    connect(&mut world, "c");
    for (client_id, topic, expected) in [
        ("c", "t", Publishing::Allowed),
        ("c", "$SYS/t", Publishing::Reserved),
        ("nobody", "t", Publishing::Unknown),
    ] {
        let ask = Ask::MayPublish {
            client_id: client_id.into(),
            topic: topic.into(),
        };
        let Answer::MayPublish(publishing) = world.ask(0, ask) else {
            panic!("it was asked for");
        };
        assert_eq!(publishing, expected, "{client_id} {topic}");
    }
}
