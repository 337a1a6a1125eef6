//! Rows of the list of threats that need many clients, much time or chance; docs/threats.md.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;
use crate::world::{Feed, SocketId, World};
use ringmq_core::limits::Limits;
use ringmq_core::shard::{CloseCause, Gauges};

fn world(shards: usize, limits: Limits) -> World {
    World::new(shards, &Arc::new(limits), Feed::Whole)
}

/// A CONNECT of MQTT 3.1.1; gives whether there was a session.
fn connect(world: &mut World, id: &str, is_clean: bool) -> (SocketId, bool) {
    let socket = world.open();
    let mut bytes = vec![0x10, 12 + id.len() as u8, 0, 4];
    bytes.extend_from_slice(b"MQTT\x04");
    bytes.extend_from_slice(&[u8::from(is_clean) << 1, 0, 0, 0, id.len() as u8]);
    bytes.extend_from_slice(id.as_bytes());
    world.send(socket, &bytes);
    let answer = world.received(socket)[..4].to_vec();
    assert_eq!((&answer[..2], answer[3]), (&[0x20, 2][..], 0));
    (socket, answer[2] == 1)
}

fn subscribe(world: &mut World, socket: SocketId, filter: &str) {
    let mut bytes = vec![0x82, 5 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
    bytes.extend_from_slice(filter.as_bytes());
    bytes.push(0);
    world.send(socket, &bytes);
}

fn unsubscribe(world: &mut World, socket: SocketId, filter: &str) {
    let mut bytes = vec![0xA2, 4 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
    bytes.extend_from_slice(filter.as_bytes());
    world.send(socket, &bytes);
}

/// PUBLISH packets among what a client got from `from` on; all packets here are short.
fn publishes(world: &World, socket: SocketId, from: usize) -> usize {
    let mut rest = &world.received(socket)[from..];
    let mut count = 0;
    while let [first, size, ..] = rest {
        count += usize::from(first >> 4 == 3);
        rest = &rest[2 + usize::from(*size)..];
    }
    count
}

fn cut_all(world: &mut World) {
    for socket in world.sockets() {
        if !world.is_closed(socket) {
            world.cut(socket, CloseCause::PeerClosed);
        }
    }
}

fn check_empty(world: &World) {
    for gauges in world.gauges() {
        assert_eq!(gauges, Gauges::default());
    }
}

// (threat 29): the shard has nothing to do for them until their deadline.
#[test]
fn ten_thousand_connections_without_a_byte_are_one_deadline() {
    let mut world = world(2, Limits::default());
    let sockets: Vec<_> = (0..10_000).map(|_| world.open()).collect();
    let before = format!("{:?}", world.state());
    world.wait(Duration::from_millis(9_999));
    assert_eq!(
        format!("{:?}", world.state()),
        before,
        "nothing happens before it"
    );
    assert!(sockets.iter().all(|&socket| !world.is_closed(socket)));
    world.wait(Duration::from_millis(1));
    assert!(sockets.iter().all(|&socket| world.is_closed(socket)));
    check_empty(&world);
}

/// A client of the test below, and what it is subscribed to.
struct Member {
    socket: Option<SocketId>,
    filters: BTreeSet<&'static str>,
}

const FILTERS: [&str; 3] = ["t", "$share/a/t", "$share/b/t"];

// (threat 32) (threat 48): each plain subscriber gets a copy, and one member of each group.
#[test]
fn plain_and_shared_subscriptions_to_one_topic_come_and_go() {
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let mut world = world(1 + seed as usize % 3, Limits::default());
        let (publisher, _) = connect(&mut world, "publisher", true);
        let mut members: Vec<Member> = (0..4)
            .map(|_| Member {
                socket: None,
                filters: BTreeSet::new(),
            })
            .collect();
        for _ in 0..400 {
            let at = dice.below(members.len());
            change(&mut world, at, &mut members[at], &mut dice);
            check_fan_out(&mut world, publisher, &members);
        }
        for (at, member) in members.iter_mut().enumerate() {
            let (socket, _) = connect(&mut world, &format!("m{at}"), true);
            member.socket = Some(socket);
        }
        cut_all(&mut world);
        check_empty(&world);
    }
}

fn change(world: &mut World, at: usize, member: &mut Member, dice: &mut Dice) {
    let filter = FILTERS[dice.below(3)];
    match (dice.below(8), member.socket) {
        (0, Some(socket)) => {
            world.cut(socket, CloseCause::Failed(104));
            member.socket = None;
        }
        (1, _) | (_, None) => {
            let is_clean = dice.below(3) == 0;
            let (socket, was_there) = connect(world, &format!("m{at}"), is_clean);
            assert!(!(is_clean && was_there));
            if !was_there {
                member.filters.clear();
            }
            member.socket = Some(socket);
        }
        (2..=4, Some(socket)) => {
            unsubscribe(world, socket, filter);
            member.filters.remove(filter);
        }
        (_, Some(socket)) => {
            subscribe(world, socket, filter);
            member.filters.insert(filter);
        }
    }
}

fn check_fan_out(world: &mut World, publisher: SocketId, members: &[Member]) {
    let online: Vec<(SocketId, &Member)> = members
        .iter()
        .filter_map(|member| Some((member.socket?, member)))
        .collect();
    let before: Vec<usize> = online
        .iter()
        .map(|(socket, _)| world.received(*socket).len())
        .collect();
    world.send(publisher, &[0x30, 4, 0, 1, b't', b'x']);
    let mut copies = 0;
    for ((socket, member), before) in online.iter().zip(before) {
        let got = publishes(world, *socket, before);
        let plain = usize::from(member.filters.contains("t"));
        assert!((plain..=member.filters.len()).contains(&got));
        copies += got;
    }
    let has = |filter: &str| online.iter().any(|(_, m)| m.filters.contains(filter));
    let plain = online.iter().filter(|(_, m)| m.filters.contains("t"));
    let groups = FILTERS[1..].iter().filter(|filter| has(filter));
    assert_eq!(copies, plain.count() + groups.count());
}

// (threat 47) (threat 48): one connection is left, with one session, and it works.
#[test]
fn one_identifier_from_everywhere_has_one_session_and_one_connection() {
    for shards in 1..=3 {
        let mut dice = Dice::new(shards as u64);
        let mut world = world(shards, Limits::default());
        let (publisher, _) = connect(&mut world, "publisher", true);
        let mut last = None;
        for round in 0..5_000 {
            let is_clean = dice.below(3) == 0;
            let (socket, was_there) = connect(&mut world, "victim", is_clean);
            assert!(!(is_clean && was_there));
            if let Some(last) = last.replace(socket) {
                assert!(world.is_closed(last), "round {round}");
            }
            let filter = FILTERS[dice.below(3)];
            match dice.below(3) {
                0 => unsubscribe(&mut world, socket, filter),
                _ => subscribe(&mut world, socket, filter),
            }
            world.send(publisher, &[0x30, 4, 0, 1, b't', b'x']);
            world.send(publisher, &[0x32, 6, 0, 1, b't', 0, 1, b'x']);
            if dice.below(4) == 0 {
                world.cut(socket, CloseCause::Failed(104));
                last = None;
            }
        }
        let (socket, _) = connect(&mut world, "victim", true);
        let gauges = world.gauges();
        assert_eq!(gauges.iter().map(|g| g.sessions).sum::<usize>(), 2);
        assert_eq!(gauges.iter().map(|g| g.connections).sum::<usize>(), 2);
        subscribe(&mut world, socket, "t");
        world.send(publisher, &[0x30, 4, 0, 1, b't', b'x']);
        assert_eq!(publishes(&world, socket, 4), 1);
        cut_all(&mut world);
        check_empty(&world);
    }
}
