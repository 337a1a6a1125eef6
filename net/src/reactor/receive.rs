//! Receiving: from a completion to `Event::Received`.

use std::os::fd::AsFd;

use ringmq_core::ids::ConnId;
use ringmq_core::shard::{CloseCause, Event, Reading};
use ringmq_core::time::Instant;
use rustix::io::Errno;

use super::slot::Phase;
use super::{BYTES_MAX, Core, Reactor};
use crate::counters::count;
use crate::inbox::{Decision, Moved};
use ringmq_ring::{Input, Received, Ring};

/// What waits until the shard is no longer stalled, in the order of its coming: a CONNECT must not
/// overtake what reached an earlier connection of the same client before it.
#[derive(Debug)]
pub(super) enum Held {
    /// Of a connection of this shard.
    Input(Received),
    /// A connection whose home is here, with its CONNECT.
    Connection(Box<Moved>),
    /// The verdict on a CONNECT.
    Decided(Box<Decision>),
}

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Takes input in, or holds it while the shard is stalled. Returns the bytes taken in.
    pub(super) fn on_received(&mut self, now: Instant, received: Received) -> usize {
        if self
            .slots
            .get(received.conn)
            .is_some_and(|slot| slot.newcomer.is_some())
        {
            self.first.push(received);
            return 0;
        }
        self.hold_or_take_in(now, received)
    }

    /// What came has to wait: the shard is stalled, or more came before it and waits.
    pub(super) fn has_to_hold(&self) -> bool {
        let holds = self.stalled || !self.held.is_empty();
        holds && self.ending.is_none()
    }

    /// Takes in what came, unless it has to wait. Returns the bytes taken in.
    pub(super) fn hold_or_take_in(&mut self, now: Instant, received: Received) -> usize {
        if self.has_to_hold() {
            self.held.push_back(Held::Input(received));
            return 0;
        }
        self.take_in(now, received)
    }

    /// Takes in what was held, once the shard is no longer stalled. Returns the bytes taken in.
    pub(super) fn release_held(&mut self, now: Instant) -> usize {
        let mut bytes = 0;
        while (!self.stalled || self.ending.is_some())
            && bytes < BYTES_MAX
            && let Some(held) = self.held.pop_front()
        {
            match held {
                Held::Input(received) => bytes += self.take_in(now, received),
                Held::Connection(moved) => self.adopt(now, *moved),
                Held::Decided(decision) => self.on_decided(now, *decision),
            }
        }
        bytes
    }

    fn take_in(&mut self, now: Instant, received: Received) -> usize {
        let Received { conn, input, more } = received;
        let Some(slot) = self.slots.get(conn) else {
            // The socket of this completion is gone, and the slot may serve another one.
            if let Input::Chunk(lease) = input {
                self.ring.give_back(lease);
            }
            return 0;
        };
        if !more {
            slot.receiving = false;
            slot.op_ended();
            self.rearm.push(conn);
        }
        let size = match input {
            Input::Chunk(lease) => {
                let bytes = self.ring.bytes(&lease);
                count!(self.counts, receives);
                count!(self.counts, received_bytes, lease.size());
                match &mut slot.phase {
                    Phase::Open | Phase::Leaving(_) if slot.transport.is_some() => {
                        return self.take_in_layers(now, conn, lease);
                    }
                    Phase::Open => {
                        let event = Event::Received { conn, bytes };
                        self.core.handle(now, event, &mut self.outbox);
                    }
                    Phase::Leaving(leaving) => leaving.bytes.extend_from_slice(bytes),
                    Phase::Free | Phase::Draining | Phase::Lingering | Phase::Closing(_) => {}
                }
                let size = lease.size() as usize;
                self.ring.give_back(lease);
                size
            }
            Input::End => {
                slot.ended = true;
                self.on_input_ended(now, conn, CloseCause::PeerClosed);
                0
            }
            Input::Failed(Errno::NOBUFS) => {
                count!(self.counts, buffers_exhausted);
                0
            }
            Input::Failed(Errno::INTR | Errno::AGAIN | Errno::CANCELED) => 0,
            Input::Failed(errno) => {
                slot.ended = true;
                self.on_input_ended(now, conn, CloseCause::Failed(errno.raw_os_error()));
                0
            }
        };
        self.proceed(now, conn);
        size
    }

    fn on_input_ended(&mut self, now: Instant, conn: ConnId, cause: CloseCause) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        match slot.phase {
            Phase::Open => self.cut(now, conn, cause),
            // The peer has read all it wanted.
            Phase::Lingering => self.cut(now, conn, CloseCause::Requested),
            // It may still read: what is pending is sent first.
            Phase::Draining => {}
            // Its home finds out when it receives.
            Phase::Leaving(_) => {}
            Phase::Free | Phase::Closing(_) => {}
        }
    }

    /// Stops reading connections, or goes on, as the core asked.
    pub(super) fn set_readings(&mut self) {
        let mut readings = std::mem::take(&mut self.outbox.readings);
        for Reading { conn, paused } in readings.drain(..) {
            let Some(slot) = self.slots.get(conn) else {
                continue;
            };
            slot.paused = paused;
            if paused {
                self.pause(conn)
            } else {
                self.rearm.push(conn)
            }
        }
        self.outbox.readings = readings;
    }

    /// Ends the receive of a paused connection.
    pub(super) fn pause(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        let is_unwanted = slot.phase == Phase::Open && slot.paused && !slot.mute;
        let ends = is_unwanted && slot.receiving && !slot.pausing;
        if ends {
            self.ring.cancel_receive(conn);
            slot.pausing = true;
            slot.op_started();
            count!(self.counts, reads_paused);
        }
    }

    /// Receives go on where one ended, unless there is nothing to receive for.
    pub(super) fn rearm_receives(&mut self) {
        if self.stalled {
            return;
        }
        while let Some(conn) = self.rearm.pop() {
            let how = self.receive_mode(conn);
            let Some(slot) = self.slots.get(conn) else {
                continue;
            };
            let wanted = match slot.phase {
                // What a handshake needs is taken up first.
                Phase::Open if slot.mute => !slot.ended,
                Phase::Open if slot.transport.as_ref().is_some_and(|t| t.is_due()) => false,
                Phase::Open => !slot.ended && !slot.paused,
                Phase::Draining | Phase::Lingering => !slot.ended,
                Phase::Free | Phase::Leaving(_) | Phase::Closing(_) => false,
            };
            if let (true, false, Some(socket)) = (wanted, slot.receiving, &slot.socket) {
                self.ring.receive(conn, socket.as_fd(), how);
                slot.receiving = true;
                slot.op_started();
            }
        }
    }
}
