//! What was acknowledged survives: shards with a log on a disk that loses what it was not asked to keep.

mod client;
mod disconnect;
mod interest;
mod late;
mod owed;
mod policies;
mod rights;
mod scarce;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;
use crate::world::{SECRET, World};
use client::Client;
use ringmq_core::limits::Limits;
use ringmq_core::time::Instant;
use ringmq_sim::{Crash, Disk};

const START: Instant = Instant::from_nanos(1_000_000_000_000);

pub fn disk() -> Disk {
    Disk::new(SECRET, 16 * 1024)
}

fn crash(disk: &mut Disk, dice: &mut Dice) {
    let how = dice.pick(&[Crash::Kill, Crash::Power]);
    disk.crash(how, &mut || dice.one_in(2));
}

fn world(shards: usize) -> World {
    World::with_disk(shards, &Arc::new(Limits::default()), disk(), START)
}

/// The process is killed, and started again with so many shards.
fn restart(mut world: World, shards: usize, dice: &mut Dice) -> World {
    let now = world.now() + Duration::from_millis(10);
    let mut disk = world.disk.take().expect("there is a disk");
    crash(&mut disk, dice);
    World::with_disk(shards, &Arc::new(Limits::default()), disk, now)
}

fn connected(world: &mut World, name: &str) -> Client {
    let mut client = Client::new(name);
    client.connect(world);
    read_all(world, &mut [&mut client]);
    assert!(client.is_up(world));
    client
}

fn read_all(world: &mut World, clients: &mut [&mut Client]) {
    while clients.iter_mut().any(|client| client.read(world)) {}
}

#[test]
fn an_answer_waits_for_the_disk() {
    let mut world = world(1);
    let mut subscriber = connected(&mut world, "s");
    let mut publisher = connected(&mut world, "p");
    subscriber.subscribe(&mut world, "t", 1);
    read_all(&mut world, &mut [&mut subscriber]);
    assert!(subscriber.is_subscribed);
    world.hold_disk(0, true);
    publisher.publish(&mut world, 7, 1);
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert_eq!(subscriber.got.get(&7), Some(&1), "QoS 1 may be repeated");
    assert!(publisher.acked.is_empty());
    world.hold_disk(0, false);
    read_all(&mut world, &mut [&mut publisher]);
    assert!(publisher.acked.contains(&7));
}

#[test]
fn qos_2_is_delivered_when_it_is_durable() {
    let mut world = world(1);
    let mut subscriber = connected(&mut world, "s");
    let mut publisher = connected(&mut world, "p");
    subscriber.subscribe(&mut world, "t", 2);
    read_all(&mut world, &mut [&mut subscriber]);
    world.hold_disk(0, true);
    publisher.publish(&mut world, 7, 2);
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert!(subscriber.got.is_empty() && publisher.acked.is_empty());
    world.hold_disk(0, false);
    read_all(&mut world, &mut [&mut subscriber, &mut publisher]);
    assert_eq!(subscriber.got.get(&7), Some(&1));
    assert!(publisher.acked.contains(&7) && publisher.is_idle());
}

// (threat T7)
#[test]
fn the_answer_waits_for_the_disk_of_another_shard() {
    for (slow, other) in [(0, 1), (1, 0)] {
        let mut world = world(2);
        // Some subscriber lives on each shard.
        let mut subscribers: Vec<Client> = (0..8)
            .map(|n| connected(&mut world, &format!("s{n}")))
            .collect();
        let mut publisher = connected(&mut world, "p");
        for subscriber in &mut subscribers {
            subscriber.subscribe(&mut world, "t", 1);
            read_all(&mut world, &mut [subscriber]);
        }
        world.hold_disk(slow, true);
        publisher.publish(&mut world, 7, 1);
        read_all(&mut world, &mut [&mut publisher]);
        assert!(publisher.acked.is_empty(), "shard {slow} is not durable");
        assert_eq!(world.disk.as_ref().expect("a disk").waiting(other), 0);
        world.hold_disk(slow, false);
        read_all(&mut world, &mut [&mut publisher]);
        assert!(publisher.acked.contains(&7));
    }
}

// (threat 55)
#[test]
fn sessions_queues_and_retained_messages_are_there_after_a_crash() {
    for (before, after) in [(1, 1), (2, 2), (1, 3), (3, 1)] {
        let mut dice = Dice::new(1);
        let mut world = world(before);
        let mut subscriber = connected(&mut world, "s");
        let mut publisher = connected(&mut world, "p");
        assert_eq!(subscriber.last_session_present, Some(false));
        subscriber.subscribe(&mut world, "t", 2);
        read_all(&mut world, &mut [&mut subscriber]);
        subscriber.cut(&mut world);
        for (number, qos) in [(1, 1), (2, 2), (3, 1)] {
            publisher.publish(&mut world, number, qos);
            read_all(&mut world, &mut [&mut publisher]);
        }
        publisher.publish_retained(&mut world, b'r', 9);
        read_all(&mut world, &mut [&mut publisher]);
        assert_eq!(publisher.acked.len(), 4);
        let mut world = restart(world, after, &mut dice);
        let gauges = world.gauges();
        let queued: usize = gauges.iter().map(|g| g.queued_messages + g.inflight).sum();
        assert_eq!(queued, 3);
        subscriber.connect(&mut world);
        read_all(&mut world, &mut [&mut subscriber]);
        assert_eq!(subscriber.last_session_present, Some(true));
        let got: Vec<_> = subscriber
            .got
            .iter()
            .map(|(n, times)| (*n, *times))
            .collect();
        assert_eq!(got, [(1, 1), (2, 1), (3, 1)]);
        subscriber.subscribe(&mut world, "r", 1);
        read_all(&mut world, &mut [&mut subscriber]);
        assert_eq!(subscriber.got.get(&9), Some(&1), "retained");
    }
}

#[test]
fn the_checkpoint_of_a_start_is_finished_though_nothing_happens() {
    for shards in [1, 3] {
        let mut world = world(shards);
        let mut client = connected(&mut world, "c");
        client.cut(&mut world);
        let mut world = restart(world, shards, &mut Dice::new(1));
        world.wait(Duration::from_secs(1));
        let disk = world.disk.as_ref().expect("there is a disk");
        assert_eq!(disk.published, 2 * shards, "one of each start");
        let mut world = restart(world, shards, &mut Dice::new(1));
        client.connect(&mut world);
        read_all(&mut world, &mut [&mut client]);
        assert_eq!(client.last_session_present, Some(true));
    }
}

#[test]
fn packet_identifiers_go_round_as_the_log_frees_them() {
    let limits = Arc::new(Limits {
        queued_messages_max: 100_000,
        queued_bytes_max: 100_000_000,
        ..Limits::default()
    });
    let mut world = World::with_disk(1, &limits, disk(), START);
    let mut subscriber = connected(&mut world, "s");
    subscriber.subscribe(&mut world, "t", 1);
    read_all(&mut world, &mut [&mut subscriber]);
    let mut publishers: Vec<Client> = (0..80)
        .map(|n| connected(&mut world, &format!("p{n}")))
        .collect();
    for round in 0..3 {
        // Nothing that is settled is durable: identifiers run out, and messages wait.
        world.hold_disk(0, true);
        for (at, publisher) in publishers.iter_mut().enumerate() {
            for n in 0..1_000 {
                let number = (round * 80 + at as u32) * 1_000 + n;
                publisher.send_publish(&mut world, n as u16 + 1, number, 1, false);
                subscriber.read(&mut world);
            }
        }
        read_all(&mut world, &mut [&mut subscriber]);
        let got = subscriber.got.len() - round as usize * 80_000;
        assert!((20_000..=65_535).contains(&got), "{got}");
        world.hold_disk(0, false);
        for _ in 0..10 {
            world.wait(Duration::from_millis(50));
            read_all(&mut world, &mut [&mut subscriber]);
        }
        assert_eq!(subscriber.got.len(), (round as usize + 1) * 80_000);
    }
    assert!(subscriber.got.values().all(|&times| times == 1));
}

// (threat 59)
#[test]
fn a_session_that_expired_while_the_broker_was_down_is_gone() {
    let limits = Limits {
        session_expiry_max_s: 10,
        ..Limits::default()
    };
    let limits = Arc::new(limits);
    for (down_s, is_there) in [(9, true), (11, false)] {
        let mut world = World::with_disk(1, &limits, disk(), START);
        let mut client = connected(&mut world, "c");
        client.cut(&mut world);
        world.wait(Duration::from_millis(20));
        let now = world.now() + Duration::from_secs(down_s);
        let mut disk = world.disk.take().expect("there is a disk");
        crash(&mut disk, &mut Dice::new(1));
        let mut world = World::with_disk(1, &limits, disk, now);
        world.wait(Duration::from_millis(1));
        client.connect(&mut world);
        read_all(&mut world, &mut [&mut client]);
        assert_eq!(client.last_session_present, Some(is_there));
    }
}

// (threat 41)
#[test]
fn a_checkpoint_is_written_in_slices_between_turns() {
    let mut world = world(1);
    let mut publisher = connected(&mut world, "p");
    for number in 0..2_000 {
        let mut client = connected(&mut world, &format!("c{number}"));
        client.subscribe(&mut world, "t", 1);
        client.cut(&mut world);
    }
    for number in 0..100 {
        publisher.publish(&mut world, number, 1);
        read_all(&mut world, &mut [&mut publisher]);
    }
    world.wait(Duration::from_secs(2));
    let disk = world.disk.as_ref().expect("there is a disk");
    assert!(disk.published > 0);
    let largest = disk.largest_slice;
    assert!(
        (1..=80 * 1024).contains(&largest),
        "{largest} bytes in one turn"
    );
}

/// A world that is killed again and again, and what its clients remember.
struct Trial {
    world: World,
    dice: Dice,
    clients: Vec<Client>,
    next: u32,
    /// Messages that were published when these subscribers were subscribed for sure.
    due: Vec<(u32, u8, Vec<usize>)>,
    subscribers: usize,
    is_one_shard: bool,
}

impl Trial {
    fn step(&mut self) {
        let count = self.clients.len();
        match self.dice.below(24) {
            0..=5 => self.publish(),
            6..=14 => {
                let at = self.dice.below(count);
                self.clients[at].read(&mut self.world);
            }
            15..=18 => self.turn_disk(),
            19 => {
                let at = self.dice.below(count);
                if !self.clients[at].is_up(&self.world) {
                    self.clients[at].connect(&mut self.world);
                }
            }
            20 => {
                let at = self.dice.below(count);
                self.clients[at].cut(&mut self.world);
            }
            21 => {
                let at = self.dice.below(self.subscribers);
                if self.clients[at].is_up(&self.world) {
                    let qos = 1 + (at % 2) as u8;
                    self.clients[at].subscribe(&mut self.world, "t", qos);
                }
            }
            22 => {
                let shard = self.dice.below(self.world.gauges().len());
                let is_held = self.dice.one_in(2);
                self.world.hold_disk(shard, is_held);
            }
            _ if self.dice.one_in(3) => self.crash(),
            _ => self.world.wait(Duration::from_millis(20)),
        }
    }

    fn publish(&mut self) {
        let at = self.subscribers + self.dice.below(self.clients.len() - self.subscribers);
        if !self.clients[at].is_up(&self.world) {
            return;
        }
        let qos = 1 + self.dice.below(2) as u8;
        let number = self.next;
        self.next += 1;
        let subscribed = (0..self.subscribers).filter(|&at| self.clients[at].is_subscribed);
        self.due.push((number, qos, subscribed.collect()));
        self.clients[at].publish(&mut self.world, number, qos);
    }

    fn turn_disk(&mut self) {
        let disk = self.world.disk.as_ref().expect("there is a disk");
        let shard = self.dice.below(disk.held.len());
        let waiting = disk.waiting(shard);
        if waiting > 0 {
            let at = self.dice.below(waiting);
            self.world.end_disk_op(shard, at);
        }
    }

    fn crash(&mut self) {
        let shards = if self.is_one_shard {
            1
        } else {
            1 + self.dice.below(3)
        };
        for client in &mut self.clients {
            client.lose();
        }
        let empty = World::new(1, &Arc::new(Limits::default()), crate::world::Feed::Whole);
        let world = std::mem::replace(&mut self.world, empty);
        self.world = restart(world, shards, &mut self.dice);
    }

    fn heal(&mut self) {
        for shard in 0..self.world.gauges().len() {
            self.world.hold_disk(shard, false);
        }
        for _ in 0..50 {
            for client in &mut self.clients {
                if !client.is_up(&self.world) {
                    client.connect(&mut self.world);
                }
            }
            let mut all: Vec<&mut Client> = self.clients.iter_mut().collect();
            read_all(&mut self.world, &mut all);
            self.world.wait(Duration::from_millis(20));
        }
    }

    fn check(&self) {
        assert!(
            self.clients.iter().all(Client::is_idle),
            "everything comes to rest"
        );
        let acked = |number| {
            self.clients
                .iter()
                .any(|client| client.acked.contains(&number))
        };
        for (number, qos, subscribers) in &self.due {
            for &at in subscribers {
                let times = self.clients[at].got.get(number).copied().unwrap_or(0);
                assert!(
                    times > 0 || !acked(*number),
                    "message {number} is lost for {at}"
                );
                let is_exactly_once = *qos == 2 && at % 2 == 1;
                assert!(
                    times <= 1 || !is_exactly_once,
                    "message {number} {times} times for {at}"
                );
            }
        }
    }
}

fn run(seed: u64, is_one_shard: bool) -> usize {
    let mut dice = Dice::new(seed);
    let shards = if is_one_shard { 1 } else { 1 + dice.below(3) };
    let subscribers = 3;
    let mut trial = Trial {
        world: world(shards),
        dice,
        clients: (0..5).map(|n| Client::new(&format!("c{n}"))).collect(),
        next: 1,
        due: Vec::new(),
        subscribers,
        is_one_shard,
    };
    for at in 0..trial.clients.len() {
        trial.clients[at].connect(&mut trial.world);
    }
    for _ in 0..300 {
        trial.step();
    }
    trial.heal();
    trial.check();
    trial.world.disk.as_ref().map_or(0, |disk| disk.published)
}

// (threat 50) (threat 54)
#[test]
fn nothing_acknowledged_is_lost_in_crashes_and_qos_2_comes_once() {
    let checkpoints: usize = (0..SEEDS).map(|seed| run(seed, true)).sum();
    assert!(checkpoints > 0, "some trial finishes a checkpoint");
}

#[test]
fn nothing_acknowledged_is_lost_in_crashes_of_several_shards() {
    for seed in 0..SEEDS {
        run(seed, false);
    }
}

const SEEDS: u64 = 300;
