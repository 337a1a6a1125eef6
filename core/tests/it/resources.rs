//! What hostile clients may make a shard hold; rows of the threat list, section 1b.

use std::sync::Arc;
use std::time::Duration;

use crate::world::{Feed, SocketId, World};
use ringmq_core::limits::Limits;
use ringmq_core::shard::{CloseCause, DropReason, Gauges};

/// A CONNECT of MQTT 3.1.1 with a clean session.
fn connect(world: &mut World, id: &str) -> SocketId {
    let socket = world.open();
    let mut bytes = vec![0x10, 12 + id.len() as u8, 0, 4];
    bytes.extend_from_slice(b"MQTT\x04\x02\x00\x00\x00");
    bytes.push(id.len() as u8);
    bytes.extend_from_slice(id.as_bytes());
    world.send(socket, &bytes);
    assert_eq!(world.received(socket), [0x20, 2, 0, 0]);
    socket
}

fn world(limits: Limits) -> World {
    World::new(2, &Arc::new(limits), Feed::Whole)
}

fn sum(world: &World, of: impl Fn(&Gauges) -> u64) -> u64 {
    world.gauges().iter().map(of).sum()
}

fn cut_all(world: &mut World) {
    for socket in world.sockets() {
        world.cut(socket, CloseCause::PeerClosed);
    }
    assert_eq!(world.gauges(), vec![Gauges::default(); 2]);
}

// (threat 1): a declared length allocates nothing, and one that nobody may declare yet is refused.
#[test]
fn a_declared_length_costs_nothing_before_its_bytes_come() {
    let mut world = world(Limits::default());
    for _ in 0..1000 {
        // How the refusal is told depends on the version: only the bytes up to it are waited for,
        // and kept.
        let refused = world.open();
        world.send(refused, &[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert!(!world.is_closed(refused));
        world.send(refused, &[0, 4, b'M', b'Q', b'T', b'T', 4]);
        assert!(world.is_closed(refused));
        let waits = world.open();
        world.send(waits, &[0x10, 0xFF, 0x7F, 0, 4]);
        assert!(!world.is_closed(waits));
    }
    let held = sum(&world, |gauges| gauges.partial_bytes);
    assert!(held <= 1000 * 512, "{held} bytes for 1,000 beginnings");
    cut_all(&mut world);
}

// (threat 33)
#[test]
fn incomplete_packets_hold_a_bounded_amount_of_memory() {
    const BUDGET: u64 = 1024 * 1024;
    let mut world = world(Limits {
        partial_bytes_max: BUDGET,
        ..Limits::default()
    });
    let canary = connect(&mut world, "canary");
    let mut closed = 0;
    for index in 0..100 {
        let socket = connect(&mut world, &format!("hog-{index}"));
        // 1,000,000 bytes are announced, 200,000 come.
        let mut bytes = vec![0x30, 0xC0, 0x84, 0x3D, 0, 1, b't'];
        bytes.resize(200_000, 0);
        world.send(socket, &bytes);
        closed += usize::from(world.is_closed(socket));
        assert!(
            world
                .gauges()
                .iter()
                .all(|gauges| gauges.partial_bytes <= BUDGET)
        );
    }
    assert!(closed > 80, "{closed} of 100 were closed");
    // One that holds little is not closed for what the others hold.
    world.send(canary, &[0x30, 4, 0, 1]);
    world.send(canary, b"tx");
    world.send(canary, &[0xC0, 0]);
    assert_eq!(world.received(canary)[4..], [0xD0, 0]);
    assert!(!world.is_closed(canary));
    cut_all(&mut world);
}

// (threat 30)
#[test]
fn a_connect_in_drops_is_cut_at_its_absolute_deadline() {
    let mut world = world(Limits::default());
    let socket = world.open();
    for byte in [0x10, 40, 0, 4] {
        world.send(socket, &[byte]);
        world.wait(Duration::from_millis(2400));
    }
    assert!(!world.is_closed(socket));
    world.wait(Duration::from_millis(500));
    assert!(world.is_closed(socket), "ten seconds from accept");
    cut_all(&mut world);
}

// (threat 31): one identifier, a million times, is one receipt and one message.
#[test]
fn a_qos_2_identifier_that_is_repeated_and_never_released_holds_one_receipt() {
    let mut world = world(Limits::default());
    let watcher = connect(&mut world, "watcher");
    world.send(watcher, &[0x82, 6, 0, 1, 0, 1, b't', 0]);
    let socket = connect(&mut world, "hog");
    world.send(socket, &[0x34, 6, 0, 1, b't', 0, 7, b'x']);
    let batch = [0x3C, 6, 0, 1, b't', 0, 7, b'x'].repeat(1000);
    for _ in 0..1000 {
        world.send(socket, &batch);
    }
    assert_eq!(sum(&world, |gauges| gauges.receipts as u64), 1);
    let answered = world.received(socket).len() - 4;
    assert_eq!(answered, 4 * 1_000_001, "each is answered");
    let delivered = world.received(watcher).len() - 4 - 5;
    assert_eq!(delivered, 6, "delivered once");
    cut_all(&mut world);
}

// (threat 37)
#[test]
fn sessions_that_outlive_their_clients_are_bounded() {
    let mut world = world(Limits {
        sessions_max: 100,
        ..Limits::default()
    });
    let mut refused = 0;
    for index in 0..1000 {
        let socket = world.open();
        let id = format!("c{index:04}");
        let mut bytes = vec![0x10, 12 + 5, 0, 4];
        bytes.extend_from_slice(b"MQTT\x04\x00\x00\x00\x00\x05");
        bytes.extend_from_slice(id.as_bytes());
        world.send(socket, &bytes);
        // Return code 3: the server is unavailable [MQTT3-3.2.2-5].
        refused += usize::from(world.received(socket) == [0x20, 2, 0, 3]);
        world.cut(socket, CloseCause::PeerClosed);
    }
    let held = sum(&world, |gauges| gauges.sessions as u64);
    assert_eq!(held, 200, "100 of each shard");
    assert_eq!(refused, 800);
    world.wait(Duration::from_secs(8 * 24 * 3600));
    cut_all(&mut world);
}

// (threat 35)
#[test]
fn retained_messages_are_bounded_by_bytes_and_existing_ones_stay() {
    let mut world = world(Limits {
        retained_bytes_max: 1024 * 1024,
        ..Limits::default()
    });
    let socket = connect(&mut world, "hog");
    for index in 0..1000_u16 {
        let topic = [
            b'r',
            b'0' + (index / 100) as u8,
            b'0' + (index / 10 % 10) as u8,
            b'0' + (index % 10) as u8,
        ];
        // 10,006 bytes follow the header.
        let mut bytes = vec![0x31, 0x96, 0x4E, 0, 4];
        bytes.extend_from_slice(&topic);
        bytes.resize(3 + 10_006, b'x');
        world.send(socket, &bytes);
    }
    let kept = sum(&world, |gauges| gauges.retained as u64);
    assert!(
        (150..=210).contains(&kept),
        "{kept} of 10,000 bytes in 2 MiB"
    );
    let reader = connect(&mut world, "reader");
    world.send(reader, &[0x82, 6, 0, 1, 0, 1, b'#', 0]);
    let got = (world.received(reader).len() - 4 - 5) as u64 / 10_009;
    assert_eq!(got, kept, "all that is kept is served");
    for index in 0..1000_u16 {
        let topic = [
            b'r',
            b'0' + (index / 100) as u8,
            b'0' + (index / 10 % 10) as u8,
            b'0' + (index % 10) as u8,
        ];
        let mut bytes = vec![0x31, 6, 0, 4];
        bytes.extend_from_slice(&topic);
        world.send(socket, &bytes);
    }
    cut_all(&mut world);
}

/// PUBLISH with RETAIN of `r/NNNNNN`, 14 bytes each.
fn retain(world: &mut World, socket: SocketId, numbers: std::ops::Range<usize>, payload: &[u8]) {
    let mut bytes = Vec::new();
    for number in numbers {
        bytes.extend([0x31, 10 + payload.len() as u8, 0, 8]);
        bytes.extend(format!("r/{number:06}").as_bytes());
        bytes.extend(payload);
    }
    world.send(socket, &bytes);
}

// (threat 42): a shard looks at a bounded number of topics in one go, and everything is served.
#[test]
fn a_subscription_to_everything_gets_a_hundred_thousand_retained_messages_in_pages() {
    const COUNT: usize = 100_000;
    let mut world = world(Limits::default());
    let hog = connect(&mut world, "hog");
    for start in (0..COUNT).step_by(1000) {
        retain(&mut world, hog, start..start + 1000, b"xx");
    }
    let reader = connect(&mut world, "reader");
    let before = world.deadlines_met;
    world.send(reader, &[0x82, 6, 0, 1, 0, 1, b'#', 0]);
    // 8,192 topics at most between two deadlines of a shard, of 50,000 on each.
    assert!(world.deadlines_met - before >= 2 * (50_000 / 8192 - 1));
    let got = &world.received(reader)[4 + 5..];
    assert_eq!(got.len(), COUNT * 14);
    let mut topics: Vec<&[u8]> = got.chunks(14).map(|packet| &packet[4..12]).collect();
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), COUNT, "each of them once");
    for start in (0..COUNT).step_by(1000) {
        retain(&mut world, hog, start..start + 1000, b"");
    }
    cut_all(&mut world);
}

// (threat 42): who asks for everything and takes nothing is sent no more than it may pile up.
#[test]
fn clients_that_subscribe_to_everything_and_read_nothing_hold_a_page_each() {
    let mut world = world(Limits {
        unsent_bytes_max: 64 * 1024,
        ..Limits::default()
    });
    let hog = connect(&mut world, "hog");
    for start in (0..20_000).step_by(1000) {
        retain(&mut world, hog, start..start + 1000, &[b'x'; 100]);
    }
    let mut stalled = Vec::new();
    for index in 0..50 {
        let socket = connect(&mut world, &format!("s{index}"));
        world.stall(socket, true);
        world.send(socket, &[0x82, 6, 0, 1, 0, 1, b'#', 0]);
        stalled.push(socket);
    }
    let unsent = sum(&world, |gauges| gauges.unsent_bytes);
    assert!(unsent <= 50 * (64 * 1024 + 112 + 5), "{unsent}");
    let cursors = sum(&world, |gauges| gauges.cursors as u64);
    assert_eq!(cursors, 100, "one place in each store for each of them");
    // One goes on, and gets all of it; the others leave, and nothing of them stays.
    world.stall(stalled[0], false);
    assert_eq!(world.received(stalled[0]).len() - 4 - 5, 20_000 * 112);
    for &socket in &stalled {
        world.cut(socket, CloseCause::PeerClosed);
    }
    assert_eq!(sum(&world, |gauges| gauges.cursors as u64), 0);
    for start in (0..20_000).step_by(1000) {
        retain(&mut world, hog, start..start + 1000, b"");
    }
    cut_all(&mut world);
}

/// Messages that were lost to full sockets.
fn lost_to_slow_sockets(world: &World) -> u64 {
    let dropped = world
        .metrics()
        .map(|m| m.dropped[DropReason::SlowSocket as usize]);
    dropped.sum()
}

// What can wait leaves room to what cannot.
#[test]
fn live_messages_are_not_lost_to_retained_or_queued_ones() {
    let mut world = world(Limits {
        unsent_bytes_max: 64 * 1024,
        ..Limits::default()
    });
    let hog = connect(&mut world, "hog");
    for start in (0..5000).step_by(1000) {
        retain(&mut world, hog, start..start + 1000, &[b'x'; 100]);
    }
    // One is given retained messages with QoS 0; to the other one messages of QoS 1 are sent.
    let reader = connect(&mut world, "reader");
    let queued = connect(&mut world, "queued");
    world.send(queued, &[0x82, 6, 0, 1, 0, 1, b'q', 1]);
    world.send(queued, &[0x82, 6, 0, 1, 0, 1, b'l', 0]);
    world.stall(reader, true);
    world.stall(queued, true);
    let mut bytes = vec![0x32, 105, 0, 1, b'q', 0, 1];
    bytes.resize(107, b'x');
    world.send(hog, &bytes.repeat(1000));
    world.send(reader, &[0x82, 6, 0, 1, 0, 1, b'#', 0]);
    assert!(sum(&world, |gauges| gauges.unsent_bytes) > 2 * 16 * 1024);
    // 30,000 bytes to each.
    let live = [0x30, 98, 0, 1, b'l'].into_iter().chain([b'x'; 95]);
    let live: Vec<u8> = live.collect();
    world.send(hog, &live.repeat(300));
    world.stall(reader, false);
    let is_live = |packet: &[u8]| packet == live;
    let got = &world.received(reader)[4 + 5..];
    assert!(got.windows(100).filter(|packet| is_live(packet)).count() == 300);
    assert_eq!(lost_to_slow_sockets(&world), 0);
    world.stall(queued, false);
    let got = world.received(queued);
    assert!(got.windows(100).filter(|packet| is_live(packet)).count() == 300);
    for start in (0..5000).step_by(1000) {
        retain(&mut world, hog, start..start + 1000, b"");
    }
    cut_all(&mut world);
}

// (threat 42): filters of one client have a bound, and those above it are refused one by one.
#[test]
fn the_subscriptions_of_a_client_are_bounded() {
    let mut world = world(Limits::default());
    let hog = connect(&mut world, "hog");
    for packet in 0..100_u32 {
        // 1,000 filters `f/NNNNNN/+` of 10 bytes.
        let mut body = vec![0, 1];
        for number in 0..1000 {
            body.extend([0, 10]);
            body.extend(format!("f/{:06}/+", packet * 1000 + number).as_bytes());
            body.push(0);
        }
        let mut bytes = vec![
            0x82,
            (body.len() % 128) as u8 | 0x80,
            (body.len() / 128) as u8,
        ];
        bytes.extend(body);
        world.send(hog, &bytes);
    }
    assert_eq!(sum(&world, |gauges| gauges.subscriptions as u64), 10_000);
    let refused: u64 = world
        .metrics()
        .map(|m| m.refused.0.iter().sum::<u64>())
        .sum();
    assert_eq!(refused, 90_000);
    assert!(!world.is_closed(hog));
    cut_all(&mut world);
}
