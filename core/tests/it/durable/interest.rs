//! Who waits for other shards: publishers whose messages are recorded there, and nobody else.

use std::sync::Arc;

use super::client::Client;
use super::{connected, read_all, world};
use crate::world::{Feed, World};
use ringmq_core::limits::Limits;
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::Metrics;

/// So many that each of two shards is the home of some.
const CLIENTS: usize = 8;

fn connected_clean(world: &mut World, name: &str) -> Client {
    let mut client = Client::new(name);
    client.is_clean = true;
    client.connect(world);
    read_all(world, &mut [&mut client]);
    assert!(client.is_up(world));
    client
}

fn publish(world: &mut World, publisher: &mut Client, number: u32) {
    publisher.publish(world, number, 1);
    read_all(world, &mut [publisher]);
    assert!(publisher.acked.contains(&number), "{number}");
}

/// Marks that a publish led to.
fn marks_of(world: &mut World, publisher: &mut Client, number: u32) -> usize {
    let before = world.marks_passed;
    publish(world, publisher, number);
    world.marks_passed - before
}

/// Clients with a filter, on both shards.
fn subscribers(world: &mut World, is_clean: bool, filter: &str, qos: u8) -> Vec<Client> {
    let mut all: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            let name = format!("s{number}");
            if is_clean {
                connected_clean(world, &name)
            } else {
                connected(world, &name)
            }
        })
        .collect();
    for client in &mut all {
        client.subscribe(world, filter, qos);
        read_all(world, &mut [client]);
        assert!(client.is_subscribed);
    }
    all
}

#[test]
fn only_what_is_recorded_elsewhere_costs_a_mark() {
    for (is_clean, filter, qos, marks) in [
        (true, "t", 1, 0),
        (true, "#", 2, 0),
        (true, "$share/g/t", 1, 0),
        (false, "t", 0, 0),
        (false, "$share/g/t", 0, 0),
        (false, "t", 1, 1),
        (false, "+", 2, 1),
        // Nobody with this topic.
        (false, "u/#", 1, 0),
    ] {
        let mut world = world(2);
        let mut publisher = connected_clean(&mut world, "p");
        let mut all = subscribers(&mut world, is_clean, filter, qos);
        let found = marks_of(&mut world, &mut publisher, 1);
        assert_eq!(found, marks, "{filter} with QoS {qos}, clean: {is_clean}");
        for client in &mut all {
            read_all(&mut world, &mut [client]);
        }
        let got: u32 = all.iter().flat_map(|client| client.got.get(&1)).sum();
        let copies = match filter {
            "u/#" => 0,
            _ if filter.starts_with('$') => 1,
            _ => CLIENTS as u32,
        };
        assert_eq!(got, copies, "{filter}");
    }
}

#[test]
fn interest_is_durable_as_long_as_sessions_are() {
    let mut world = world(2);
    let mut publisher = connected_clean(&mut world, "p");
    let mut all = subscribers(&mut world, false, "t", 1);
    assert_eq!(marks_of(&mut world, &mut publisher, 1), 1);
    // With a lower QoS nothing is recorded any more.
    for client in &mut all {
        client.subscribe(&mut world, "t", 0);
        read_all(&mut world, &mut [client]);
    }
    assert_eq!(marks_of(&mut world, &mut publisher, 2), 0);
    for client in &mut all {
        client.subscribe(&mut world, "t", 2);
        read_all(&mut world, &mut [client]);
    }
    assert_eq!(marks_of(&mut world, &mut publisher, 3), 1);
    // Sessions that are away stay.
    all.iter_mut().for_each(|client| client.cut(&mut world));
    assert_eq!(marks_of(&mut world, &mut publisher, 4), 1);
    // A clean session takes the place of each.
    for client in &mut all {
        client.is_clean = true;
        client.connect(&mut world);
        client.subscribe(&mut world, "t", 1);
        read_all(&mut world, &mut [client]);
    }
    assert_eq!(marks_of(&mut world, &mut publisher, 5), 0);
}

/// The same client, with MQTT 5 and without Clean Start: it resumes its session, which is to end with this connection.
#[test]
fn a_connect_with_expiry_0_takes_durable_interest_away() {
    for filter in ["t", "$share/g/t"] {
        let mut world = world(2);
        let mut publisher = connected_clean(&mut world, "p");
        let mut all = subscribers(&mut world, false, filter, 1);
        let marks = marks_of(&mut world, &mut publisher, 1);
        assert!(marks == 1 || filter != "t", "a member may live here");
        all.iter_mut().for_each(|client| client.cut(&mut world));
        for number in 0..CLIENTS {
            let socket = world.open();
            let name = format!("s{number}");
            let mut bytes = b"\x10\x0f\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x02".to_vec();
            bytes.extend_from_slice(name.as_bytes());
            world.send(socket, &bytes);
            let connack = world.received(socket);
            assert_eq!(connack[2..4], [1, 0], "the session is there");
        }
        assert_eq!(marks_of(&mut world, &mut publisher, 2), 0, "{filter}");
        world.gauges(); // Checks the invariants.
    }
}

// (threat T5)
#[test]
fn a_full_disk_refuses_only_what_would_be_recorded() {
    let refused = |world: &World| -> u64 {
        let count = |of: &Metrics| of.refused.0[Refusal::DiskFull as usize];
        world.metrics().map(count).sum()
    };
    for (is_clean, filter, qos, is_refused) in [
        (true, "t", 1, false),
        (true, "$share/g/t", 1, false),
        (false, "t", 0, false),
        (false, "t", 1, true),
        (false, "$share/g/t", 1, true),
    ] {
        let mut world = world(2);
        let mut publisher = connected_clean(&mut world, "p");
        subscribers(&mut world, is_clean, filter, qos);
        world.tell_space(true);
        publisher.publish(&mut world, 1, 1);
        read_all(&mut world, &mut [&mut publisher]);
        assert_eq!(publisher.acked.contains(&1), !is_refused, "{filter} {qos}");
        assert_eq!(refused(&world), u64::from(is_refused), "{filter} {qos}");
    }
}

#[test]
fn without_a_log_there_are_no_marks() {
    let mut world = World::new(2, &Arc::new(Limits::default()), Feed::Whole);
    let mut publisher = connected(&mut world, "p");
    subscribers(&mut world, false, "t", 1);
    assert_eq!(marks_of(&mut world, &mut publisher, 1), 0);
}
