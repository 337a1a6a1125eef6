//! The end of connections: what a client says with its DISCONNECT still counts, and what the broker says when its log
//! has failed.
//!
//! Who sends DISCONNECT sends and reads nothing more [MQTT-3.14.4-1] [MQTT-3.14.4-2]: answers that wait for the log
//! then are dropped. What they answer has happened, and a client that comes back is answered when it asks again.

use super::client::Client;
use super::{connected, read_all, restart, world};
use crate::dice::Dice;
use crate::world::World;

/// All who are not connected come back, and everybody goes on until nothing is left to do.
fn go_on(world: &mut World, clients: &mut [&mut Client]) {
    for _ in 0..3 {
        for client in clients.iter_mut() {
            if !client.is_up(world) {
                client.connect(world);
            }
        }
        read_all(world, clients);
    }
}

#[test]
fn what_is_said_with_disconnect_happens_and_is_answered_later() {
    for (shards, is_crash) in [(1, false), (2, false), (1, true), (2, true)] {
        let mut dice = Dice::new(1);
        let mut world = world(shards);
        let mut subscriber = connected(&mut world, "s");
        subscriber.subscribe(&mut world, "t", 2);
        let mut leaver = connected(&mut world, "l");
        leaver.subscribe(&mut world, "t", 1);
        let mut publishers: Vec<Client> = ["p", "q", "r"]
            .map(|name| connected(&mut world, name))
            .into();
        read_all(&mut world, &mut [&mut subscriber, &mut leaver]);

        // UNSUBSCRIBE, PUBLISH of QoS 1 and 2: the answer waits, and DISCONNECT is there.
        leaver.is_leaving = true;
        leaver.unsubscribe(&mut world, "t");
        for (number, qos) in [(1, 1), (2, 2)] {
            let publisher = &mut publishers[number as usize - 1];
            publisher.is_leaving = true;
            publisher.publish(&mut world, number, qos);
            assert!(publisher.acked.is_empty() && !publisher.is_up(&world));
        }
        // PUBREL.
        publishers[2].publish(&mut world, 3, 2);
        publishers[2].is_leaving = true;
        read_all(&mut world, &mut [&mut publishers[2]]);
        assert!(!publishers[2].is_up(&world) && !publishers[2].is_idle());
        read_all(&mut world, &mut [&mut subscriber]);
        assert_eq!(subscriber.got.len(), 3, "nobody waits for who has left");

        if is_crash {
            subscriber.lose();
            world = restart(world, shards, &mut dice);
        }
        let [p, q, r] = &mut publishers[..] else {
            unreachable!("there are three")
        };
        go_on(&mut world, &mut [&mut subscriber, &mut leaver, p, q, r]);
        for (publisher, number) in publishers.iter().zip(1..) {
            assert!(publisher.acked.contains(&number) && publisher.is_idle());
        }
        assert!(subscriber.got[&1] >= 1);
        assert_eq!((subscriber.got[&2], subscriber.got[&3]), (1, 1));
        let after = &mut publishers[0];
        after.publish(&mut world, 4, 1);
        go_on(&mut world, &mut [&mut subscriber, &mut leaver, after]);
        assert!(subscriber.got.contains_key(&4));
        assert!(!leaver.got.contains_key(&4), "it has unsubscribed");
    }
}

#[test]
fn a_log_that_has_failed_is_told_to_clients_as_an_error() {
    let mut world = world(1);
    let socket = world.open();
    world.send(
        socket,
        b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02v5",
    );
    let mut client = connected(&mut world, "c");
    world.disk.as_mut().expect("a disk").room = Some(0);
    for number in 0..10_000 {
        client.subscribe(&mut world, &format!("t/{number}"), 1);
        world.wait(std::time::Duration::from_millis(10));
        if world.failure.is_some() {
            break;
        }
    }
    assert!(world.failure.is_some());
    let before = world.received(socket).len();
    world.shut_down();
    let disconnect = &world.received(socket)[before..];
    assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x80));
}
