//! Closing: at once, or after pending output was sent.

use std::os::fd::AsFd as _;
use std::time::Duration;

use ringmq_core::ids::ConnId;
use ringmq_core::shard::{Close, CloseCause, Event};
use ringmq_core::time::Instant;
use rustix::net::{Shutdown, shutdown};

use super::slot::Phase;
use super::{Core, Reactor};
use crate::counters::count;
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Carries out the closes that the core asked for. Thousands of clients may end at once, and a
    /// close takes the kernel some 10 us: closes beyond the bound of a turn wait for the next ones.
    pub(super) fn close_requested(&mut self, now: Instant) {
        self.closes.extend(self.outbox.closes.drain(..));
        for _ in 0..CLOSES_MAX {
            let Some(Close { conn, flush }) = self.closes.pop_front() else {
                return;
            };
            if flush {
                self.start_flush(now, conn);
            } else {
                self.cut(now, conn, CloseCause::Requested);
            }
        }
    }

    pub(super) fn start_flush(&mut self, now: Instant, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        match slot.phase {
            Phase::Open => {
                slot.phase = Phase::Draining;
                // A paused one is read again, for the FIN of the peer.
                self.rearm.push(conn);
                self.flushes.push_back((now + FLUSH_SPAN, conn));
                self.transmit(now, conn);
            }
            Phase::Free
            | Phase::Draining
            | Phase::Lingering
            | Phase::Leaving(_)
            | Phase::Closing(_) => {}
        }
    }

    /// Everything is sent: our FIN follows, and the connection waits for that of the peer.
    pub(super) fn finish_flush(&mut self, now: Instant, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        if let Some(socket) = &slot.socket {
            // Fails if the peer has reset the connection: then it is over all the same.
            let _ = shutdown(socket, Shutdown::Write);
        }
        slot.phase = Phase::Lingering;
        if slot.ended {
            self.cut(now, conn, CloseCause::Requested);
        }
    }

    /// Ends every operation of the connection, then closes its socket.
    pub(super) fn cut(&mut self, now: Instant, conn: ConnId, cause: CloseCause) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        match slot.phase {
            Phase::Free | Phase::Closing(_) => return,
            Phase::Leaving(_) => self.leaving_count -= 1,
            Phase::Open | Phase::Draining | Phase::Lingering => {}
        }
        slot.phase = Phase::Closing(cause);
        if let (false, Some(socket)) = (slot.is_quiet(), &slot.socket) {
            self.ring.hang_up(socket.as_fd());
        }
        self.proceed(now, conn);
    }

    pub(super) fn on_cancelled(&mut self, now: Instant, conn: ConnId) {
        if let Some(slot) = self.slots.get(conn) {
            slot.op_ended();
            slot.pausing = false;
            // Read again and paused again while the cancel was on its way.
            self.pause(conn);
            self.proceed(now, conn);
        }
    }

    /// Takes the next step of a slot that only waited for its operations to end.
    pub(super) fn proceed(&mut self, now: Instant, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        if !slot.is_quiet() {
            return;
        }
        match slot.phase {
            Phase::Closing(_) => {
                if let Some(socket) = slot.socket.take() {
                    self.ring.close(conn, socket);
                    slot.op_started();
                }
            }
            Phase::Leaving(_) => self.depart(now, conn),
            Phase::Free | Phase::Open | Phase::Draining | Phase::Lingering => {}
        }
    }

    pub(super) fn on_closed(&mut self, now: Instant, conn: ConnId) {
        let slot = self.slots.get(conn).expect("a close ends the slot");
        slot.op_ended();
        let Phase::Closing(why) = slot.phase else {
            panic!("a close without a reason");
        };
        count!(self.counts, closed);
        self.shared.permits.give_back(slot.permit);
        self.closed_some = true;
        self.forget(now, conn, why);
    }

    /// The last event of the connection.
    pub(super) fn forget(&mut self, now: Instant, conn: ConnId, why: CloseCause) {
        let slot = self.slots.get(conn).expect("only a live slot is forgotten");
        if let Some(transport) = slot.transport.take() {
            self.partial_bytes -= transport.counted_size;
        }
        self.slots.free(conn);
        let event = Event::Closed { conn, why };
        self.core.handle(now, event, &mut self.outbox);
    }

    /// Cuts peers that do not read what is left, or do not close their side; those beyond the bound
    /// of a turn in the next ones, for which the timer is set. Like silence, this counts only while
    /// the shard listens.
    pub(super) fn cut_overdue_flushes(&mut self, now: Instant) {
        let heard = self.hearing.heard().here;
        let mut cut_count = 0;
        while let Some(&(at, conn)) = self.flushes.front() {
            // Those that ended in time are only removed.
            let is_live = self.slots.get(conn).is_some();
            if is_live && (at > heard || cut_count == CLOSES_MAX) {
                break;
            }
            self.flushes.pop_front();
            self.cut(now, conn, CloseCause::Requested);
            cut_count += usize::from(is_live);
        }
    }
}

/// Closes begun in one turn, and peers cut in one: a millisecond of each at most.
pub(super) const CLOSES_MAX: usize = 64;

/// How long a connection that is being closed may take to send what is left and to close its side:
/// some round trips of the slowest link. A peer that does not read cannot hold its slot for longer.
const FLUSH_SPAN: Duration = Duration::from_secs(1);
