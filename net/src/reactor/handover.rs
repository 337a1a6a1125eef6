//! Handover: a connection moves to its home shard, once, after its CONNECT was read.
//!
//! The socket moves with its layers and everything received from it. The kernel may hold nothing of
//! it at that time; since a connection that is not at home uses single-shot receives, that is
//! usually the case at once.

use ringmq_core::auth::PeerIdentity;
use ringmq_core::ids::ConnId;
use ringmq_core::shard::{CloseCause, Handover};
use ringmq_core::time::Instant;

use super::slot::{Leaving, Newcomer, Phase};
use super::{Core, Reactor};
use crate::counters::count;
use crate::inbox::Moved;
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Starts the handovers that the core asked for, and sends connections that are ready.
    pub(super) fn move_departures(&mut self, now: Instant) {
        let mut handovers = std::mem::take(&mut self.outbox.handovers);
        for handover in handovers.drain(..) {
            self.start_departure(now, handover);
        }
        handovers.append(&mut self.outbox.handovers);
        self.outbox.handovers = handovers;
        // One inbox that is full does not hold up connections to the others.
        for _ in 0..self.departures.len() {
            let Some((target, moved)) = self.departures.pop_front() else {
                break;
            };
            if let Err(moved) = self.shared.inboxes[target.index()].send(self.id, moved) {
                self.departures.push_back((target, moved));
            }
        }
    }

    fn start_departure(&mut self, now: Instant, handover: Handover) {
        let Handover {
            conn,
            target,
            bytes,
        } = handover;
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        if slot.phase != Phase::Open {
            // It failed in the same turn: `Closed` says so.
            return;
        }
        slot.phase = Phase::Leaving(Box::new(Leaving { target, bytes }));
        self.leaving_count += 1;
        if slot.receiving {
            self.ring.cancel_receive(conn);
            slot.op_started();
        }
        self.proceed(now, conn);
    }

    /// The slot is quiet: its socket leaves.
    pub(super) fn depart(&mut self, now: Instant, conn: ConnId) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let phase = std::mem::replace(&mut slot.phase, Phase::Closing(CloseCause::HandedOver));
        let (Phase::Leaving(leaving), Some(socket)) = (phase, slot.socket.take()) else {
            panic!("only a leaving connection with a socket departs");
        };
        self.leaving_count -= 1;
        let newcomer = slot.newcomer.take().map_or(
            Newcomer {
                peer: PeerIdentity::default(),
                since: now,
                permit: slot.permit,
            },
            |newcomer| *newcomer,
        );
        let newcomer = Newcomer {
            permit: slot.permit,
            ..newcomer
        };
        let transport = slot.transport.take();
        if let Some(transport) = &transport {
            self.partial_bytes -= transport.counted_size;
        }
        let moved = Moved {
            socket,
            newcomer,
            transport,
            bytes: leaving.bytes,
        };
        count!(self.counts, moved);
        self.departures.push_back((leaving.target, Box::new(moved)));
        self.forget(now, conn, CloseCause::HandedOver);
    }

    /// Adopts a connection whose home is here.
    pub(super) fn adopt(&mut self, now: Instant, moved: Moved) {
        if self.ending.is_some() {
            count!(self.counts, refused);
            self.shared.permits.give_back(moved.newcomer.permit);
            return; // Drops the socket, which closes it.
        }
        let Moved {
            socket,
            mut newcomer,
            mut transport,
            bytes,
        } = moved;
        // The turn that accepted it may have begun after this one.
        newcomer.since = newcomer.since.min(now);
        let counted_size = transport.as_ref().map_or(0, |t| t.counted_size);
        self.partial_bytes += counted_size;
        // Nobody checks connections on their way: the terms of TLS may have changed.
        let rechecked = match &mut transport {
            Some(transport) => transport.recheck_arrived(),
            None => Ok(()),
        };
        let bytes = match rechecked {
            Ok(()) => &bytes[..],
            Err(_) => &[],
        };
        let Some(conn) = self.admit(now, socket, newcomer, None, transport, bytes) else {
            self.partial_bytes -= counted_size;
            return;
        };
        if let Err(failure) = rechecked {
            self.end_revoked(now, conn, &failure);
        }
    }
}
