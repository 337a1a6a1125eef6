//! What each policy promises, fault by fault: the table of docs/durability.md. Without a log, `none`, there is nothing to
//! promise; `net/tests/it/durable.rs` has that.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::{START, connected, disk, read_all};
use crate::dice::Dice;
use crate::world::World;
use ringmq_core::limits::Limits;
use ringmq_core::store::Policy;
use ringmq_sim::Crash;

const INTERVAL: Duration = Duration::from_millis(200);

fn world(policy: Policy) -> World {
    let mut disk = disk();
    disk.policy = policy;
    World::with_disk(1, &Arc::new(Limits::default()), disk, START)
}

fn restart(mut world: World, how: Crash, dice: &mut Dice) -> World {
    let now = world.now() + Duration::from_millis(10);
    let mut disk = world.disk.take().expect("there is a disk");
    disk.crash(how, &mut || dice.one_in(2));
    World::with_disk(1, &Arc::new(Limits::default()), disk, now)
}

/// Publishes for a while, and gives how many acknowledged messages were lost that were older than the interval, and how
/// many in all. What is lost is the end of what was recorded, whatever it is.
fn losses(policy: Policy, fault: Crash, seed: u64) -> (usize, usize) {
    let mut dice = Dice::new(seed);
    let mut world = world(policy);
    let mut subscriber = connected(&mut world, "s");
    subscriber.subscribe(&mut world, "t", 1);
    read_all(&mut world, &mut [&mut subscriber]);
    subscriber.cut(&mut world);
    let mut publisher = connected(&mut world, "p");
    world.wait(2 * INTERVAL);
    let mut acked_at = Vec::new();
    for number in 0..dice.below(300) as u32 {
        publisher.publish(&mut world, number, 1);
        read_all(&mut world, &mut [&mut publisher]);
        assert!(
            publisher.acked.contains(&number),
            "the disk is at once done"
        );
        acked_at.push(world.now());
        world.wait(Duration::from_micros(dice.below(10_000) as u64));
    }
    let ended_at = world.now();
    let mut world = restart(world, fault, &mut dice);
    subscriber.connect(&mut world);
    read_all(&mut world, &mut [&mut subscriber]);
    let lost: Vec<usize> = (0..acked_at.len())
        .filter(|number| !subscriber.got.contains_key(&(*number as u32)))
        .collect();
    let first = acked_at.len() - lost.len();
    assert!(
        lost.iter().copied().eq(first..acked_at.len()),
        "a prefix is kept"
    );
    let is_old = |number: &&usize| acked_at[**number] + INTERVAL < ended_at;
    (lost.iter().filter(is_old).count(), lost.len())
}

// (threat T1) (threat T2)
#[test]
fn each_policy_loses_what_it_says_and_nothing_else() {
    let interval = Policy::Interval(INTERVAL);
    for (policy, fault, may_lose) in [
        (Policy::Always, Crash::Kill, false),
        (Policy::Always, Crash::Power, false),
        (interval, Crash::Kill, false),
        (interval, Crash::Power, true),
    ] {
        let mut lost = 0;
        for seed in 0..SEEDS {
            let (old, all) = losses(policy, fault, seed);
            assert_eq!(old, 0, "{policy:?} {fault:?} seed {seed}");
            lost += all;
        }
        assert_eq!(lost > 0, may_lose, "{policy:?} {fault:?}: {lost}");
    }
}

/// A PUBLISH of QoS 2 that a subscriber has noted and the disk has not: another message could get its identifier after a
/// loss of power, and would be swallowed.
#[test]
fn by_interval_qos_2_is_delivered_when_it_is_synced() {
    let mut world = world(Policy::Interval(INTERVAL));
    let mut subscriber = connected(&mut world, "s");
    let mut publisher = connected(&mut world, "p");
    subscriber.subscribe(&mut world, "t", 2);
    read_all(&mut world, &mut [&mut subscriber]);
    world.wait(2 * INTERVAL);
    publisher.publish(&mut world, 1, 2);
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert!(publisher.acked.contains(&1) && subscriber.got.is_empty());
    world.wait(INTERVAL + Duration::from_millis(1));
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert_eq!(subscriber.got.get(&1), Some(&1));
    // QoS 1 may be repeated.
    publisher.publish(&mut world, 2, 1);
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert_eq!(subscriber.got.get(&2), Some(&1));
}

/// The next identifiers after a loss of power are those of lost messages; nothing that comes later is swallowed.
fn exchange(seed: u64, policy: Policy, fault: Crash) {
    let mut dice = Dice::new(seed);
    let mut world = world(policy);
    let mut subscriber = connected(&mut world, "s");
    subscriber.subscribe(&mut world, "t", 2);
    read_all(&mut world, &mut [&mut subscriber]);
    world.wait(2 * INTERVAL);
    let mut publisher = connected(&mut world, "p");
    let mut number = 0;
    let mut later = Vec::new();
    for crash in 0..4 {
        for _ in 0..dice.below(60) {
            match dice.below(4) {
                0 => world.wait(Duration::from_millis(dice.below(100) as u64)),
                1 => _ = subscriber.read(&mut world),
                2 => _ = publisher.read(&mut world),
                _ => {
                    number += 1;
                    publisher.publish(&mut world, number, 2);
                }
            }
        }
        for client in [&mut subscriber, &mut publisher] {
            client.lose();
        }
        world = restart(world, fault, &mut dice);
        for client in [&mut subscriber, &mut publisher] {
            client.connect(&mut world);
        }
        settle(&mut world, &mut subscriber, &mut publisher);
        // Everything from here on is whole: these come, once.
        number += 1;
        publisher.publish(&mut world, number, 2);
        settle(&mut world, &mut subscriber, &mut publisher);
        later.push((crash, number));
    }
    for (crash, number) in later {
        let times = subscriber.got.get(&number).copied();
        assert_eq!(times, Some(1), "{number} after crash {crash}, seed {seed}");
    }
}

fn settle(world: &mut World, subscriber: &mut Client, publisher: &mut Client) {
    for _ in 0..5 {
        read_all(world, &mut [subscriber, publisher]);
        world.wait(INTERVAL);
    }
    assert!(publisher.is_idle());
}

// (threat T2)
#[test]
fn what_comes_after_a_loss_of_power_is_not_taken_for_what_was_lost() {
    for seed in 0..SEEDS {
        exchange(seed, Policy::Always, Crash::Power);
        exchange(seed, Policy::Interval(INTERVAL), Crash::Kill);
        exchange(seed, Policy::Interval(INTERVAL), Crash::Power);
    }
}

const SEEDS: u64 = 150;
