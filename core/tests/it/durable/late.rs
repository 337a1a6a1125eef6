//! What comes late does not count: a note that something is given, behind what followed it; a client whose session was over.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::owed::{connected_on, restart, world};
use super::{START, crash, disk, read_all};
use crate::dice::Dice;
use crate::world::World;
use ringmq_core::limits::Limits;

/// A subscriber of `t` on shard 1 that keeps its session.
fn subscribed(world: &mut World, qos: u8) -> Client {
    let mut subscriber = connected_on(world, 1, "s");
    subscriber.subscribe(world, "t", qos);
    read_all(world, &mut [&mut subscriber]);
    subscriber
}

#[test]
fn the_will_of_a_client_that_takes_over_or_comes_back_at_once_is_kept() {
    for seed in 0..40 {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let mut world = world(&limits);
        let mut subscriber = subscribed(&mut world, 1);
        let mut client = connected_on(&mut world, 0, "c");
        subscriber.cut(&mut world);
        // In half of the cases nothing is known of the first wills before the crash.
        let is_held = dice.one_in(2);
        world.hold_disk(1, true);
        for number in 1..=3 {
            client.will = Some(number);
            if dice.one_in(2) {
                client.cut(&mut world);
            }
            client.connect(&mut world);
        }
        world.hold_disk(1, is_held);
        if dice.one_in(2) {
            world.wait(Duration::from_millis(20));
        }
        let mut world = restart(world, &limits, &mut dice);
        world.wait(Duration::from_millis(20));
        subscriber.connect(&mut world);
        read_all(&mut world, &mut [&mut subscriber]);
        let got: Vec<u32> = subscriber.got.keys().copied().collect();
        assert_eq!(got, [1, 2, 3], "seed {seed}");
    }
}

#[test]
fn a_will_that_is_owed_is_not_forgotten_when_the_session_is_not_kept_any_more() {
    for seed in 0..20 {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let mut world = world(&limits);
        let mut subscriber = subscribed(&mut world, 1);
        let mut client = connected_on(&mut world, 0, "c");
        subscriber.cut(&mut world);
        client.will = Some(1);
        client.connect(&mut world);
        world.hold_disk(1, true);
        client.connect_for_the_last_time(&mut world);
        let mut world = restart(world, &limits, &mut dice);
        subscriber.connect(&mut world);
        read_all(&mut world, &mut [&mut subscriber]);
        assert!(subscriber.got.contains_key(&1), "seed {seed}");
    }
}

#[test]
fn an_identifier_that_was_released_early_is_free_after_a_crash() {
    for seed in 0..20 {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let mut world = world(&limits);
        let mut subscriber = subscribed(&mut world, 2);
        let mut publisher = connected_on(&mut world, 0, "p");
        // PUBREL does not wait for PUBREC.
        let early = b"\x34\x09\x00\x01t\x00\x05\x00\x00\x00\x01\x62\x02\x00\x05";
        publisher.send(&mut world, early);
        read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
        if dice.one_in(2) {
            world.wait(Duration::from_millis(20));
        }
        let mut world = restart(world, &limits, &mut dice);
        for client in [&mut publisher, &mut subscriber] {
            client.connect(&mut world);
            read_all(&mut world, &mut [client]);
        }
        publisher.send_publish(&mut world, 5, 2, 2, false);
        read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
        assert_eq!(subscriber.got.get(&2), Some(&1), "seed {seed}");
        assert_eq!(subscriber.got.get(&1), Some(&1), "seed {seed}");
    }
}

#[test]
fn a_client_that_comes_at_once_finds_no_session_that_was_over() {
    let limits = Limits {
        session_expiry_max_s: 10,
        ..Limits::default()
    };
    let limits = Arc::new(limits);
    for (down_s, is_there) in [(9, true), (11, false)] {
        let mut world = World::with_disk(2, &limits, disk(), START);
        let mut client = connected_on(&mut world, 0, "c");
        client.cut(&mut world);
        world.wait(Duration::from_millis(20));
        let now = world.now() + Duration::from_secs(down_s);
        let mut disk = world.disk.take().expect("there is a disk");
        crash(&mut disk, &mut Dice::new(1));
        let mut world = World::with_disk_unheard(2, &limits, disk, now);
        client.connect(&mut world);
        read_all(&mut world, &mut [&mut client]);
        assert_eq!(client.last_session_present, Some(is_there));
        world.wait(Duration::from_secs(20));
        assert!(client.is_up(&world), "no timer is left of it");
    }
}

#[test]
fn a_will_that_was_due_is_published_though_its_client_comes_at_once() {
    let (limits, mut dice) = (Arc::default(), Dice::new(1));
    let mut world = world(&limits);
    let mut subscriber = subscribed(&mut world, 1);
    let mut client = connected_on(&mut world, 0, "c");
    client.will = Some(1);
    client.connect(&mut world);
    read_all(&mut world, &mut [&mut client]);
    let now = world.now() + Duration::from_secs(1);
    let mut disk = world.disk.take().expect("there is a disk");
    crash(&mut disk, &mut dice);
    let mut world = World::with_disk_unheard(2, &limits, disk, now);
    client.will = None;
    client.connect(&mut world);
    subscriber.connect(&mut world);
    read_all(&mut world, &mut [&mut client, &mut subscriber]);
    assert_eq!(client.last_session_present, Some(true));
    assert_eq!(subscriber.got.get(&1), Some(&1));
}
