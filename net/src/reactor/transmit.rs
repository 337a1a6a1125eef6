//! Sending: pulls the output of connections that have some, one send at a time.

use std::os::fd::AsFd;
use std::time::Duration;

use ringmq_core::connection::Pending;
use ringmq_core::ids::ConnId;
use ringmq_core::shard::{CloseCause, Event};
use ringmq_core::stages::{Stage, Stamp};
use ringmq_core::time::Instant;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::slot::Phase;
use super::{Core, Reactor};
use crate::counters::count;
use ringmq_ring::Flight;
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Asks every connection that was reported dirty, or whose send ended, for output.
    pub(super) fn transmit_all(&mut self, now: Instant) {
        let sends = self.counts.sends;
        for index in 0..self.outbox.dirty.len() {
            self.transmit_or_wait(now, self.outbox.dirty[index]);
        }
        self.outbox.dirty.clear();
        for index in 0..self.sent.len() {
            self.transmit_or_wait(now, self.sent[index]);
        }
        self.sent.clear();
        let is_busy = self.counts.sends - sends >= BUSY_SENDS_MIN;
        if !is_busy || now >= self.answers_since + ANSWERS_WAIT_MAX {
            self.transmit_answers(now);
        }
    }

    /// Sends, unless answers are all that pends: those wait while the shard is busy, so that what comes meanwhile goes
    /// with them. A send costs more than all else about an acknowledgement.
    fn transmit_or_wait(&mut self, now: Instant, conn: ConnId) {
        if self.core.pending(conn) == Pending::Answers {
            if self.answers.is_empty() {
                self.answers_since = now;
            }
            self.answers.push(conn);
        } else {
            self.transmit(now, conn);
        }
    }

    fn transmit_answers(&mut self, now: Instant) {
        for index in 0..self.answers.len() {
            let conn = self.answers[index];
            // Unless something pressing has taken them along.
            if self.core.pending(conn) != Pending::Nothing {
                self.transmit(now, conn);
            }
        }
        self.answers.clear();
    }

    /// Sends what pends, unless a send is in flight: then its end asks again.
    pub(super) fn transmit(&mut self, now: Instant, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        let (may_send, is_last) = match slot.phase {
            Phase::Open => (!slot.sending && !slot.mute, false),
            Phase::Draining => (!slot.sending, true),
            Phase::Free | Phase::Lingering | Phase::Leaving(_) | Phase::Closing(_) => {
                (false, false)
            }
        };
        if !may_send {
            if slot.sending
                && slot.waiting_since == Stamp::UNKNOWN
                && self.core.pending(conn) != Pending::Nothing
            {
                slot.waiting_since = Stamp::of(now);
            }
            return;
        }
        if slot.transport.is_some() {
            self.transmit_layers(now, conn, is_last);
        } else {
            match self.core.take_output(conn) {
                Some(output) => self.launch(now, conn, Flight::new(output)),
                None if is_last => self.finish_flush(now, conn),
                None => {}
            }
        }
        // Nothing was behind the send that has ended.
        if let Some(slot) = self.slots.get(conn)
            && !slot.sending
        {
            slot.waiting_since = Stamp::UNKNOWN;
        }
    }

    /// Sends new output.
    pub(super) fn launch(&mut self, now: Instant, conn: ConnId, flight: Flight) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        if let Some(since) = slot.waiting_since.moment() {
            slot.waiting_since = Stamp::UNKNOWN;
            self.stages.record(Stage::SendWait, since, now);
            let of = Some(conn);
            self.core.trace_stage(of, Stage::SendWait, (since, now));
        }
        self.hand_over_flight(now, conn, flight);
    }

    fn hand_over_flight(&mut self, now: Instant, conn: ConnId, mut flight: Flight) {
        flight.launched_at = now;
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let socket = slot.socket.as_ref().expect("a live phase has a socket");
        count!(self.counts, sends);
        self.ring.send(conn, socket.as_fd(), flight);
        slot.sending = true;
        slot.op_started();
    }

    pub(super) fn on_sent(
        &mut self,
        now: Instant,
        conn: ConnId,
        mut flight: Flight,
        result: Result<u32, Errno>,
    ) {
        let Some(slot) = self.slots.get(conn) else {
            self.recycle(flight);
            return;
        };
        slot.sending = false;
        slot.op_ended();
        let span = (flight.launched_at, now);
        self.stages.record(Stage::Send, span.0, span.1);
        self.core.trace_stage(Some(conn), Stage::Send, span);
        let may_go_on = match slot.phase {
            Phase::Open | Phase::Draining => true,
            Phase::Free | Phase::Lingering | Phase::Leaving(_) | Phase::Closing(_) => false,
        };
        // What a layer has begun to say is said before the connection leaves.
        let is_leaving = matches!(slot.phase, Phase::Leaving(_));
        let mut failure = None;
        match result {
            // A stream that takes nothing is no stream any more.
            Ok(0) => failure = Some(Errno::PIPE),
            Ok(size) => {
                count!(self.counts, sent_bytes, size);
                let size = flight.advance(size);
                if may_go_on && size > 0 {
                    let event = Event::SendProgress { conn, size };
                    self.core.handle(now, event, &mut self.outbox);
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => failure = Some(errno),
        }
        if (may_go_on || is_leaving) && failure.is_none() && !flight.is_landed() {
            count!(self.counts, short_sends);
            self.hand_over_flight(now, conn, flight);
            return;
        }
        self.recycle(flight);
        match failure {
            Some(errno) if may_go_on => self.on_send_failed(now, conn, errno),
            Some(_) | None => self.sent.push(conn),
        }
        self.proceed(now, conn);
    }

    /// The peer takes nothing more, but may have said something before that has not been read yet:
    /// a DISCONNECT, after which it closed its socket, makes the send fail before the receive tells
    /// of it. So the connection lasts until it is read to the end, whatever the core thinks of
    /// reading it.
    fn on_send_failed(&mut self, now: Instant, conn: ConnId, errno: Errno) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        if slot.phase != Phase::Open || slot.ended {
            self.cut(now, conn, CloseCause::Failed(errno.raw_os_error()));
            return;
        }
        slot.mute = true;
        if let Some(socket) = &slot.socket {
            // So that there is an end, whatever made the send fail. Fails if there is one already.
            let _ = shutdown(socket, Shutdown::Both);
        }
        self.rearm.push(conn);
    }
}

/// Sends of a turn that let answers wait: their ends begin the next turn at once.
const BUSY_SENDS_MIN: u64 = 4;
/// How long answers wait at most, but for the turn during which that ends.
const ANSWERS_WAIT_MAX: Duration = Duration::from_micros(100);
