//! Clients without sockets: what happened goes in, the outbox and the counters are looked at.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringmq_core::codec::{Publish, QoS, Version};
use rustix::event::{EventfdFlags, eventfd};

use super::Fleet;
use super::life::DIALS_PER_TURN_MAX;
use crate::payload::Payloads;
use crate::plan::Plan;
use crate::scenario::file;
use crate::shared::{Shared, Stage};

/// The only thread of a run of this scenario.
fn fleet(scenario: &str) -> (Arc<Shared>, Fleet) {
    let scenario = file::parse("test.toml", scenario).unwrap();
    let plan = Plan::new(scenario, "0000", 1, false).unwrap();
    let wakeup: OwnedFd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let payloads = Payloads::new(0, 64);
    let shared = Arc::new(Shared::new(plan, payloads, false, vec![wakeup]));
    let fleet = Fleet::new(shared.clone(), 0);
    (shared, fleet)
}

/// Dials, connects and subscribes, with the answers of a broker.
fn connect(fleet: &mut Fleet, client: u32) {
    fleet.on_connected(client, 1);
    fleet.on_bytes(client, 1, &[0x20, 2, 0, 0]);
    fleet.on_bytes(client, 1, &[0x90, 3, 0, 1, 0]);
}

#[test]
fn a_crowd_does_not_connect_in_one_turn() {
    let (_, mut fleet) = fleet("[[group]]\nname = \"g\"\nclients = 100\n");
    fleet.start(0);
    for turn in 1..=3 {
        fleet.tick(1);
        assert_eq!(fleet.outbox.dials.len() as u32, turn * DIALS_PER_TURN_MAX);
        assert!(fleet.next_wake(1) <= 1, "the rest is due");
    }
}

#[test]
fn the_removal_of_retained_messages_is_no_delivery() {
    let groups = "[[group]]\nname = \"r\"\nsubscribe = \"t\"\n\
                  [[group]]\nname = \"p\"\npublish = \"t\"\nrate = 1\nretain = true\n";
    let mut empty = Vec::new();
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: b"t",
        packet_id: None,
        properties: Default::default(),
        payload: b"",
    }
    .encode(Version::V311, &mut empty);
    for (stage, corrupt) in [(Stage::Publish, 1), (Stage::End, 0)] {
        let (shared, mut fleet) = fleet(groups);
        fleet.start(0);
        fleet.tick(1);
        connect(&mut fleet, 0);
        // The thread itself may not have seen the end: another one removes the messages.
        shared.set_stage(stage);
        fleet.on_bytes(0, 2, &empty);
        let received = &fleet.meter.counts[0].received[0];
        assert_eq!(
            (received.count, received.ledger.corrupt),
            (corrupt, corrupt)
        );
    }
}
