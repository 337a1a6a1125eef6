//! QoS 2 of a client that comes and goes: what it is told, and when. The rules of sessions, of which each was missed by
//! some schedule of the model from which the design came; `models/origins.rs` has those of messages.

use std::sync::Arc;
use std::time::Duration;

use super::owed::{connected_on, restart, world};
use super::{read_all, world as world_of};
use crate::dice::Dice;

#[test]
fn connack_waits_until_the_session_is_durable() {
    let mut world = world_of(1);
    world.hold_disk(0, true);
    let mut client = super::client::Client::new("c");
    client.connect(&mut world);
    read_all(&mut world, &mut [&mut client]);
    assert!(!client.is_up(&world));
    world.hold_disk(0, false);
    read_all(&mut world, &mut [&mut client]);
    assert!(client.is_up(&world));
}

#[test]
fn what_was_sent_before_connack_in_a_session_that_is_lost_is_not_taken_for_another_message() {
    for seed in 0..20 {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let mut world = world(&limits);
        let mut subscriber = connected_on(&mut world, 1, "s");
        let mut publisher = connected_on(&mut world, 0, "p");
        publisher.is_clean = true;
        publisher.connect(&mut world);
        read_all(&mut world, &mut [&mut publisher]);
        publisher.cut(&mut world);
        publisher.is_clean = false;
        subscriber.subscribe(&mut world, "t", 2);
        read_all(&mut world, &mut [&mut subscriber]);
        world.hold_disk(0, true);
        publisher.connect(&mut world);
        publisher.send_publish(&mut world, 5, 1, 2, false);
        read_all(&mut world, &mut [&mut subscriber]);
        let mut world = restart(world, &limits, &mut dice);
        publisher.connect(&mut world);
        read_all(&mut world, &mut [&mut publisher]);
        publisher.send_publish(&mut world, 5, 2, 2, false);
        subscriber.connect(&mut world);
        read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
        assert_eq!(subscriber.got.get(&2), Some(&1), "seed {seed}");
    }
}

#[test]
fn who_comes_back_hears_nothing_of_a_message_that_is_not_durable_everywhere() {
    let limits = Arc::default();
    let mut world = world(&limits);
    let mut subscriber = connected_on(&mut world, 1, "s");
    let mut publisher = connected_on(&mut world, 0, "p");
    subscriber.subscribe(&mut world, "t", 2);
    read_all(&mut world, &mut [&mut subscriber]);
    world.hold_disk(1, true);
    publisher.publish(&mut world, 7, 2);
    // It repeats the message on a connection that takes over.
    publisher.lose();
    publisher.connect(&mut world);
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert!(publisher.acked.is_empty() && subscriber.got.is_empty());
    world.hold_disk(1, false);
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert!(publisher.acked.contains(&7));
    assert_eq!(subscriber.got.get(&7), Some(&1));
}

#[test]
fn a_session_that_begins_anew_repeats_nothing_of_the_one_before_it() {
    for seed in 0..20 {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let mut world = world(&limits);
        let mut subscriber = connected_on(&mut world, 1, "s");
        let mut publisher = connected_on(&mut world, 0, "p");
        subscriber.subscribe(&mut world, "t", 2);
        read_all(&mut world, &mut [&mut subscriber]);
        // The subscriber has it, and the publisher's shard knows nothing of that.
        world.hold_disk(0, true);
        publisher.send_publish(&mut world, 5, 1, 2, false);
        read_all(&mut world, &mut [&mut subscriber]);
        let mut world = restart(world, &limits, &mut dice);
        publisher.lose();
        publisher.is_clean = true;
        publisher.connect(&mut world);
        read_all(&mut world, &mut [&mut publisher]);
        publisher.cut(&mut world);
        publisher.is_clean = false;
        publisher.connect(&mut world);
        read_all(&mut world, &mut [&mut publisher]);
        // Another message under the identifier of the one that was under way, marked by a client that has sent it
        // on a connection that is gone.
        publisher.send_publish(&mut world, 5, 2, 2, true);
        subscriber.connect(&mut world);
        read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
        assert_eq!(subscriber.got.get(&2), Some(&1), "seed {seed}");
    }
}

// PUBREC leaves when all have the message, and the note of that is written behind it.
#[test]
fn pubrel_frees_an_identifier_though_a_crash_has_lost_the_receipt() {
    for seed in 0..20 {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let mut world = world(&limits);
        let mut subscriber = connected_on(&mut world, 1, "s");
        let mut publisher = connected_on(&mut world, 0, "p");
        subscriber.subscribe(&mut world, "t", 2);
        read_all(&mut world, &mut [&mut subscriber]);
        world.hold_disk(0, true);
        publisher.publish(&mut world, 7, 2);
        read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
        assert!(publisher.acked.contains(&7) && !publisher.is_idle());
        let mut world = restart(world, &limits, &mut dice);
        for client in [&mut publisher, &mut subscriber] {
            client.connect(&mut world);
            read_all(&mut world, &mut [client]);
        }
        assert!(publisher.is_idle(), "PUBCOMP has come");
        if dice.one_in(2) {
            world.wait(Duration::from_millis(20));
            world = restart(world, &limits, &mut dice);
            for client in [&mut publisher, &mut subscriber] {
                client.connect(&mut world);
                read_all(&mut world, &mut [client]);
            }
        }
        // The first attempt at the next message was lost with a connection.
        publisher.send_publish(&mut world, 1, 8, 2, true);
        read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
        assert_eq!(subscriber.got.get(&8), Some(&1), "seed {seed}");
        assert_eq!(subscriber.got.get(&7), Some(&1), "seed {seed}");
    }
}
