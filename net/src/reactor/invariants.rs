//! What holds between two turns, beyond what each type asserts of itself.

use std::collections::HashSet;

use ringmq_core::ids::ConnId;

use super::slot::{Phase, Slot};
use super::{Core, Reactor};
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    /// What costs nothing to check: at the end of each turn, where assertions are on.
    pub(super) fn assert_settled(&self) {
        assert!(
            !self.stalled || self.outbox.posted_count() > 0,
            "only what did not fit stalls a shard"
        );
        assert!(
            self.rearm.is_empty() || self.stalled,
            "who may be read is read"
        );
        if self.slots.live_count() == 0 {
            assert_eq!(self.leaving_count, 0, "nobody is there to leave");
            assert_eq!(self.partial_bytes, 0, "held for nobody");
        }
    }

    /// Panics if what is counted as it changes is not what a walk over all connections finds, or if
    /// a connection waits for something that nobody will do. At the end of a turn: each one in
    /// tests, one now and then where assertions are on.
    pub(super) fn check_invariants(&self) {
        self.slots.check_invariants();
        let flushes: HashSet<ConnId> = self.flushes.iter().map(|(_, conn)| *conn).collect();
        let rearm: HashSet<ConnId> = self.rearm.iter().copied().collect();
        let handshakes: HashSet<ConnId> = self.handshakes.iter().copied().collect();
        assert!(
            self.flushes.iter().is_sorted_by_key(|(at, _)| *at),
            "who is cut first stands first"
        );
        let (mut leaving_count, mut partial_bytes) = (0, 0);
        for (conn, slot) in self.slots.iter_live() {
            assert!(
                !is_to_be_read(slot) || slot.receiving || rearm.contains(&conn),
                "{conn:?} is never read again: {slot:?}"
            );
            match slot.phase {
                Phase::Leaving(_) => leaving_count += 1,
                Phase::Draining | Phase::Lingering => assert!(
                    flushes.contains(&conn),
                    "a peer that does not read could hold {conn:?} for ever"
                ),
                Phase::Free | Phase::Open | Phase::Closing(_) => {}
            }
            if let Some(transport) = &slot.transport {
                partial_bytes += transport.counted_size;
                assert_eq!(
                    transport.is_queued,
                    handshakes.contains(&conn),
                    "the handshake of {conn:?} is queued or not"
                );
                assert!(
                    transport.is_queued || !transport.is_due() || slot.phase != Phase::Open,
                    "the handshake of {conn:?} never goes on"
                );
            }
        }
        assert_eq!(self.leaving_count, leaving_count, "connections that leave");
        assert_eq!(self.partial_bytes, partial_bytes, "bytes held in part");
    }
}

/// The connection has to be read.
fn is_to_be_read(slot: &Slot) -> bool {
    let waits_for_handshake = slot.transport.as_ref().is_some_and(|t| t.is_due());
    let is_wanted = match slot.phase {
        Phase::Open => slot.mute || !(slot.paused || waits_for_handshake),
        Phase::Draining | Phase::Lingering => true,
        Phase::Free | Phase::Leaving(_) | Phase::Closing(_) => false,
    };
    is_wanted && !slot.ended
}
