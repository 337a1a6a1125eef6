//! What is owed is not forgotten too early: receipts that a checkpoint lets go of, what an ended session leaves to its
//! group, retained messages that are being sent.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::{START, connected, crash, disk, read_all};
use crate::dice::Dice;
use crate::world::{SECRET, World};
use ringmq_core::home::Home;
use ringmq_core::limits::Limits;

pub fn world(limits: &Arc<Limits>) -> World {
    World::with_disk(2, limits, disk(), START)
}

pub fn restart(mut world: World, limits: &Arc<Limits>, dice: &mut Dice) -> World {
    let now = world.now() + Duration::from_millis(10);
    let mut disk = world.disk.take().expect("there is a disk");
    crash(&mut disk, dice);
    World::with_disk(2, limits, disk, now)
}

/// A client whose home is this shard.
pub fn connected_on(world: &mut World, shard: usize, prefix: &str) -> Client {
    let home = Home::new(SECRET, 2);
    let names = (0..).map(|n| format!("{prefix}{n}"));
    let mut on_shard = names.filter(|name| home.of_client(name).index() == shard);
    connected(world, &on_shard.next().expect("there is one"))
}

fn published(world: &World) -> usize {
    world.disk.as_ref().expect("there is a disk").published
}

#[test]
fn a_checkpoint_waits_for_the_receipts_of_what_it_lets_go_of() {
    for seed in 0..20 {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let mut world = world(&limits);
        let mut publisher = connected_on(&mut world, 0, "p");
        let mut subscriber = connected_on(&mut world, 1, "s");
        let mut other = connected_on(&mut world, 1, "o");
        subscriber.subscribe(&mut world, "t", 2);
        read_all(&mut world, &mut [&mut subscriber]);
        world.hold_disk(0, true);
        publisher.publish(&mut world, 7, 2);
        read_all(&mut world, &mut [&mut subscriber]);
        assert_eq!(subscriber.got.get(&7), Some(&1));
        let before = published(&world);
        for number in 100..300 {
            other.publish(&mut world, number, 1);
            read_all(&mut world, &mut [&mut other, &mut subscriber]);
        }
        world.wait(Duration::from_secs(1));
        assert_eq!(published(&world), before, "the receipt is not durable");
        if dice.one_in(2) {
            world.hold_disk(0, false);
            world.wait(Duration::from_secs(1));
            assert!(published(&world) > before, "it is");
        }
        let mut world = restart(world, &limits, &mut dice);
        for client in [&mut publisher, &mut subscriber] {
            client.connect(&mut world);
            read_all(&mut world, &mut [client]);
        }
        read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
        assert!(publisher.acked.contains(&7) && publisher.is_idle());
        assert_eq!(subscriber.got.get(&7), Some(&1), "seed {seed}");
    }
}

#[test]
fn what_an_ended_session_leaves_to_its_group_is_there_after_a_crash() {
    for seed in 0..20 {
        let limits = Arc::new(Limits {
            share_queued_while_away: true,
            ..Limits::default()
        });
        let mut dice = Dice::new(seed);
        let mut world = world(&limits);
        let mut first = connected_on(&mut world, 0, "a");
        let mut second = connected_on(&mut world, 1, "b");
        first.subscribe(&mut world, "$share/g/t", 1);
        read_all(&mut world, &mut [&mut first]);
        first.cut(&mut world);
        let mut publisher = connected(&mut world, "p");
        publisher.publish(&mut world, 7, 1);
        read_all(&mut world, &mut [&mut publisher]);
        assert!(
            publisher.acked.contains(&7),
            "it waits for the first member"
        );
        second.subscribe(&mut world, "$share/g/t", 1);
        read_all(&mut world, &mut [&mut second]);
        second.cut(&mut world);
        // The session ends durably, and nobody else has the message durably.
        world.hold_disk(1, true);
        first.is_clean = true;
        first.connect(&mut world);
        read_all(&mut world, &mut [&mut first]);
        assert_eq!(first.last_session_present, Some(false));
        for _ in 0..2 {
            world = restart(world, &limits, &mut dice);
        }
        second.connect(&mut world);
        read_all(&mut world, &mut [&mut second]);
        assert!(second.got.contains_key(&7), "seed {seed}");
    }
}

#[test]
fn retained_messages_that_are_being_sent_in_a_crash_are_sent_after_it() {
    for seed in 0..20 {
        let limits = Arc::new(Limits {
            inflight_messages_max: 1,
            ..Limits::default()
        });
        let mut dice = Dice::new(seed);
        let mut world = world(&limits);
        let mut publisher = connected(&mut world, "p");
        for (number, topic) in (0..).zip(b"abcd") {
            publisher.publish_retained(&mut world, *topic, number);
            read_all(&mut world, &mut [&mut publisher]);
        }
        let mut subscriber = connected(&mut world, "s");
        subscriber.subscribe(&mut world, "t", 1);
        read_all(&mut world, &mut [&mut subscriber]);
        // The subscriber takes its time, so there is no room for what is retained.
        publisher.publish(&mut world, 7, 1);
        subscriber.subscribe(&mut world, "+", 1);
        read_all(&mut world, &mut [&mut publisher]);
        for _ in 0..2 {
            world = restart(world, &limits, &mut dice);
        }
        subscriber.connect(&mut world);
        read_all(&mut world, &mut [&mut subscriber]);
        assert!(
            (0..4).all(|number| subscriber.got.contains_key(&number)),
            "seed {seed}"
        );
        // It is done: another start sends nothing again.
        let got = subscriber.got.clone();
        world.wait(Duration::from_secs(1));
        let mut world = restart(world, &limits, &mut dice);
        subscriber.connect(&mut world);
        read_all(&mut world, &mut [&mut subscriber]);
        assert_eq!(subscriber.got, got, "seed {seed}");
    }
}

// (seed 0xd5c9fc47 of the simulator)
#[test]
fn what_a_subscriber_has_been_given_is_retained_after_a_crash() {
    let home = Home::new(SECRET, 2);
    for (seed, owner) in (0..20).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let (limits, mut dice) = (Arc::default(), Dice::new(seed));
        let is_owned = |topic: &u8| home.of_topic(&[*topic]).index() == owner;
        let topic = (b'a'..=b'z').find(is_owned).expect("there is one");
        let filter = char::from(topic).to_string();
        let mut world = world(&limits);
        let mut publisher = connected_on(&mut world, 0, "p");
        let mut subscriber = connected_on(&mut world, 1, "s");
        subscriber.subscribe(&mut world, &filter, 2);
        read_all(&mut world, &mut [&mut subscriber]);
        publisher.retain(&mut world, topic, 1, 2);
        read_all(&mut world, &mut [&mut publisher, &mut subscriber]);
        // The subscriber's shard has the next value, and the publisher's shard has not.
        world.hold_disk(0, true);
        publisher.retain(&mut world, topic, 2, 2);
        read_all(&mut world, &mut [&mut subscriber]);
        assert_eq!(subscriber.got.get(&2), Some(&1));
        for _ in 0..2 {
            world = restart(world, &limits, &mut dice);
        }
        let mut late = connected(&mut world, "late");
        late.subscribe(&mut world, &filter, 1);
        read_all(&mut world, &mut [&mut late]);
        let got: Vec<u32> = late.got.keys().copied().collect();
        assert_eq!(got, [2], "seed {seed}, owner {owner}");
    }
}
