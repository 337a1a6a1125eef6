//! What holds between two ticks, beyond what each type asserts of itself.

use std::collections::HashSet;

use ringmq_core::codec::QoS;

use super::Fleet;
use super::client::{INFLIGHT_MAX, Phase, Publisher, Removal};

impl Fleet {
    /// Panics if what is counted as it changes is not what a walk over all clients finds, or if a
    /// client waits for something that has no deadline. At the end of a tick: each one in tests,
    /// the first of each stage where assertions are on.
    pub(super) fn check_invariants(&self) {
        self.ledger.check_invariants();
        assert!(self.credited.is_empty(), "credits wait for the next tick");
        assert!(self.credits.iter().all(|count| *count == 0), "told twice");
        for queue in [&self.deadlines, &self.pongs] {
            assert!(
                queue.iter().is_sorted_by_key(|(at, _, _)| *at),
                "what is due first stands first"
            );
        }
        let deadlines: HashSet<(u32, u32)> = (self.deadlines.iter())
            .map(|(_, index, attempt)| (*index, *attempt))
            .collect();
        let (mut ready, mut pending, mut removing) = (0, 0, 0);
        let mut connecting = vec![0; self.squads.len()];
        let mut underway = vec![0; self.squads.len()];
        for (index, client) in self.clients.iter().enumerate() {
            let group = usize::from(client.group);
            match client.phase {
                Phase::Dialing | Phase::Greeting | Phase::Subscribing => {
                    connecting[group] += 1;
                    let attempt = (index as u32, client.attempt);
                    assert!(
                        deadlines.contains(&attempt),
                        "client {index} may wait for ever"
                    );
                }
                Phase::Ready if self.shared.plan.sys_group != Some(group) => ready += 1,
                Phase::Ready | Phase::Away | Phase::Closing(_) | Phase::Gone => {}
            }
            if let Some(publisher) = &client.publisher {
                publisher.check_invariants();
                pending += publisher.pending.len() as u64;
                underway[group] += publisher.inflight.len() as u64;
                removing += u32::from(publisher.removal == Removal::Sent);
            }
        }
        assert_eq!(self.ready_count, ready, "clients that are ready");
        assert_eq!(self.pending_count, pending, "messages that wait");
        assert_eq!(self.removing_count, removing, "clients that removed theirs");
        for (group, squad) in self.squads.iter().enumerate() {
            assert_eq!(squad.connecting, connecting[group], "clients that connect");
            let counts = &self.meter.counts[group];
            let settled = counts.acknowledged + counts.unacknowledged;
            if self.shared.plan.specs[group].qos > QoS::AtMostOnce {
                assert_eq!(
                    counts.sent,
                    settled + underway[group],
                    "every message is acknowledged, given up or underway"
                );
            }
        }
    }
}

impl Publisher {
    fn check_invariants(&self) {
        let count = self.inflight.len();
        assert!(count <= usize::from(INFLIGHT_MAX), "{count} underway");
        let ids: HashSet<u16> = self.inflight.iter().map(|entry| entry.id).collect();
        assert_eq!(ids.len(), count, "an identifier is used once at a time");
        assert!(!ids.contains(&0), "0 is no identifier [MQTT-2.2.1-3]");
    }
}
