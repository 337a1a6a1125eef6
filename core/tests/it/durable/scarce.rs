//! A disk that gets full: nothing acknowledged is lost, what is there can be taken, and that frees the disk.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::{connected, read_all, restart, world};
use crate::dice::Dice;
use crate::world::World;
use ringmq_core::limits::Limits;
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::Metrics;
use ringmq_core::store::DiskError;

const ROOM: usize = 160 * 1024;
/// Less free space than this is scarce: a segment, and a checkpoint.
const FREE_MIN: usize = 48 * 1024;

/// What the shell does each second.
fn look(world: &mut World) {
    let used = world.disk.as_ref().expect("a disk").used();
    world.tell_space(used + FREE_MIN > ROOM);
}

/// A subscriber who is away, and publishers who send until the disk is full. Gives how many were acknowledged.
fn fill(world: &mut World, publisher: &mut Client) -> usize {
    for number in 0..4_000 {
        if !publisher.is_up(world) {
            break;
        }
        publisher.publish(world, number, 1);
        read_all(world, &mut [publisher]);
        world.wait(Duration::from_millis(1));
        look(world);
    }
    publisher.acked.len()
}

// (threat T5)
#[test]
fn a_full_disk_refuses_until_clients_have_taken_what_is_there() {
    let mut world = world(1);
    let mut subscriber = connected(&mut world, "s");
    subscriber.subscribe(&mut world, "t", 1);
    read_all(&mut world, &mut [&mut subscriber]);
    subscriber.cut(&mut world);
    let mut publisher = connected(&mut world, "p");
    world.disk.as_mut().expect("a disk").room = Some(ROOM);
    let acked = fill(&mut world, &mut publisher);
    assert!(
        (10..4_000).contains(&acked),
        "{acked} until the disk was full"
    );
    assert!(!publisher.is_up(&world), "MQTT 3.1.1 is told by the end");
    assert_eq!(world.failure, None);
    let refused = |of: &Metrics| of.refused.0[Refusal::DiskFull as usize];
    assert_eq!(world.metrics().map(refused).sum::<u64>(), 1);
    // Acknowledgements are recorded in what is left, and checkpoints free the rest.
    subscriber.connect(&mut world);
    read_all(&mut world, &mut [&mut subscriber]);
    let got = |client: &Client| publisher.acked.iter().all(|n| client.got.contains_key(n));
    assert!(got(&subscriber));
    for _ in 0..30 {
        world.wait(Duration::from_secs(1));
        look(&mut world);
    }
    assert_eq!(world.failure, None);
    publisher.connect(&mut world);
    read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
    publisher.publish(&mut world, 9_000, 1);
    read_all(&mut world, &mut [&mut publisher]);
    assert!(publisher.acked.contains(&9_000), "there is room again");
}

// (threat T5)
#[test]
fn what_the_disk_has_no_room_for_any_more_ends_the_broker() {
    let mut world = world(1);
    let mut subscriber = connected(&mut world, "s");
    let mut client = connected(&mut world, "c");
    let used = world.disk.as_ref().expect("a disk").used();
    world.disk.as_mut().expect("a disk").room = Some(used);
    // What goes on whatever happens uses up what was kept back.
    let mut count = 0;
    while world.failure.is_none() {
        subscriber.subscribe(&mut world, "t", 1);
        read_all(&mut world, &mut [&mut subscriber, &mut client]);
        world.wait(Duration::from_millis(100));
        count += 1;
        assert!(count < 10_000, "the reserve has an end");
    }
    assert_eq!(world.failure, Some(DiskError::Full));
    assert!(count > 10, "{count} subscriptions found room");
    // Nothing is answered any more.
    subscriber.is_subscribed = false;
    subscriber.subscribe(&mut world, "t", 1);
    world.wait(Duration::from_secs(30));
    read_all(&mut world, &mut [&mut subscriber]);
    assert!(!subscriber.is_subscribed);
}

#[test]
fn a_checkpoint_is_made_when_space_gets_scarce_and_again_only_if_something_happened() {
    let mut world = world(1);
    let mut client = connected(&mut world, "c");
    world.wait(Duration::from_secs(1));
    let published = |world: &World| world.disk.as_ref().expect("a disk").published;
    client.subscribe(&mut world, "t", 1);
    read_all(&mut world, &mut [&mut client]);
    let before = published(&world);
    world.tell_space(true);
    world.wait(Duration::from_secs(5));
    assert_eq!(published(&world), before + 1);
    world.wait(Duration::from_secs(60));
    assert_eq!(published(&world), before + 1, "nothing has changed");
    client.subscribe(&mut world, "u", 1);
    world.wait(Duration::from_secs(11));
    assert_eq!(published(&world), before + 2);
    world.tell_space(false);
    client.subscribe(&mut world, "v", 1);
    world.wait(Duration::from_secs(60));
    assert_eq!(published(&world), before + 2);
}

/// A disk of any size, filled, emptied and crashed at random. Gives whether something was refused.
fn run(seed: u64) -> bool {
    let mut dice = Dice::new(seed);
    let shards = 1 + dice.below(2);
    let mut world = world(shards);
    let mut subscriber = connected(&mut world, "s");
    subscriber.subscribe(&mut world, "t", 1);
    read_all(&mut world, &mut [&mut subscriber]);
    let mut publisher = connected(&mut world, "p");
    let room = world.disk.as_ref().expect("a disk").used() + dice.below(100 * 1024);
    world.disk.as_mut().expect("a disk").room = Some(room);
    let (mut number, mut was_refused) = (0, false);
    for _ in 0..dice.below(1_500) {
        match dice.below(40) {
            0 => subscriber.cut(&mut world),
            1..=3 if !subscriber.is_up(&world) => subscriber.connect(&mut world),
            4 => {
                let disk = world.disk.as_mut().expect("a disk");
                disk.room = Some(
                    disk.room
                        .expect("it is full")
                        .saturating_add(dice.below(32 * 1024)),
                );
            }
            5 => world.tell_space(dice.one_in(2)),
            6..=9 => world.wait(Duration::from_millis(300)),
            _ if publisher.is_up(&world) => {
                number += 1;
                publisher.publish(&mut world, number, 1 + dice.below(2) as u8);
            }
            _ => {
                was_refused = true;
                publisher.connect(&mut world);
            }
        }
        read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
        if world.failure.is_some() {
            break;
        }
    }
    for client in [&mut subscriber, &mut publisher] {
        client.lose();
    }
    world.disk.as_mut().expect("a disk").room = None;
    let mut world = restart(world, shards, &mut dice);
    for _ in 0..20 {
        for client in [&mut subscriber, &mut publisher] {
            if !client.is_up(&world) {
                client.connect(&mut world);
            }
        }
        read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
        world.wait(Duration::from_millis(50));
    }
    for number in &publisher.acked {
        assert!(
            subscriber.got.contains_key(number),
            "{number} is lost, seed {seed}"
        );
    }
    was_refused
}

// (threat T5)
#[test]
fn nothing_acknowledged_is_lost_wherever_the_disk_gets_full() {
    let refused = (0..SEEDS).filter(|&seed| run(seed)).count();
    assert!(refused > 0, "some disk gets full");
}

#[test]
fn without_a_log_there_is_no_scarcity() {
    let limits = Arc::new(Limits::default());
    let mut world = World::new(1, &limits, crate::world::Feed::Whole);
    world.tell_space(true);
    let mut client = connected(&mut world, "c");
    client.subscribe(&mut world, "t", 1);
    read_all(&mut world, &mut [&mut client]);
    client.publish(&mut world, 1, 1);
    read_all(&mut world, &mut [&mut client]);
    assert!(client.acked.contains(&1));
}

const SEEDS: u64 = 200;
