//! Connections with layers below MQTT: PROXY, TLS, WebSocket.
//!
//! Bytes are decoded before they become `Event::Received`, outputs are encoded before they are
//! sent. A TLS handshake takes some hundred microseconds, as much as some hundred messages: a turn
//! works on at most [`HANDSHAKES_MAX`] of them, and the rest wait without being read, so that a
//! storm of handshakes does not slow down connected clients.
//!
//! Not here: what the layers do (`transport`).

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringmq_core::connection::{Chunk, Output};
use ringmq_core::ids::ConnId;
use ringmq_core::shard::{CloseCause, Event};
use ringmq_core::time::Instant;
use tracing::{debug, info};

use super::slot::Phase;
use super::{Core, Reactor};
use crate::counters::count;
use crate::transport::{Decoded, Failure, Handshake, PeerNews, Stack};
use ringmq_ring::Flight;
use ringmq_ring::Lease;
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Decodes a chunk. Returns its size.
    pub(super) fn take_in_layers(&mut self, now: Instant, conn: ConnId, lease: Lease) -> usize {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let transport = slot.transport.as_deref_mut();
        let transport = transport.expect("the caller saw the layers");
        let outcome = transport.decode(now, self.ring.bytes(&lease), &mut self.scratch);
        let size = lease.size() as usize;
        self.ring.give_back(lease);
        self.on_decoded(now, conn, outcome);
        self.proceed(now, conn);
        size
    }

    /// Continues some of the waiting handshakes.
    pub(super) fn advance_handshakes(&mut self, now: Instant) {
        if self.stalled && self.ending.is_none() {
            return; // What follows a handshake may have messages to other shards in it.
        }
        for _ in 0..HANDSHAKES_MAX {
            let Some(conn) = self.handshakes.pop_front() else {
                return;
            };
            let Some(slot) = self.slots.get(conn) else {
                continue;
            };
            let Some(transport) = &mut slot.transport else {
                continue;
            };
            transport.is_queued = false;
            match slot.phase {
                Phase::Open => {
                    let outcome = transport.advance(now, &mut self.scratch);
                    self.on_decoded(now, conn, outcome);
                    self.rearm.push(conn);
                }
                // A connection leaves after its CONNECT, which follows the handshake.
                Phase::Free
                | Phase::Draining
                | Phase::Lingering
                | Phase::Leaving(_)
                | Phase::Closing(_) => {}
            }
        }
    }

    /// Passes on what was decoded, and acts on the outcome.
    fn on_decoded(&mut self, now: Instant, conn: ConnId, outcome: Result<Decoded, Failure>) {
        if let Ok(decoded) = &outcome {
            self.note_handshake(decoded.handshake);
        }
        let (news, end) = match outcome {
            Ok(Decoded { peer, ended, .. }) => (peer, ended.then_some(Ok(()))),
            Err(failure) => (None, Some(Err(failure))),
        };
        if let Some(news) = news {
            self.identify(now, conn, news);
        }
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let bytes = self.scratch.plain.as_slice();
        match &mut slot.phase {
            _ if bytes.is_empty() => {}
            Phase::Open => {
                let event = Event::Received { conn, bytes };
                self.core.handle(now, event, &mut self.outbox);
            }
            Phase::Leaving(leaving) => leaving.bytes.extend_from_slice(bytes),
            Phase::Free | Phase::Draining | Phase::Lingering | Phase::Closing(_) => {}
        }
        let is_full = self.count_partial(conn).is_err();
        match end {
            Some(Ok(())) => self.end_layers(now, conn),
            Some(Err(failure)) => self.fail_layers(now, conn, &failure),
            None if is_full => self.cut(now, conn, CloseCause::TransportFailed),
            None => self.settle_in(now, conn),
        }
    }

    /// Queues what the layers of a connection wait for; ends the connection if they have ended.
    pub(super) fn settle_in(&mut self, now: Instant, conn: ConnId) {
        let Some(slot) = self.slots.get(conn) else {
            return;
        };
        let Some(transport) = &mut slot.transport else {
            return;
        };
        if transport.is_spent() {
            self.partial_bytes -= transport.counted_size;
            slot.transport = None;
            return;
        }
        if transport.has_pending() {
            self.sent.push(conn);
        }
        if transport.is_due() && !transport.is_queued {
            transport.is_queued = true;
            self.handshakes.push_back(conn);
        }
        if transport.is_over() && slot.phase == Phase::Open {
            // They ended on the way here.
            self.flush_layers(now, conn);
        }
    }

    /// A layer has identified the peer.
    fn identify(&mut self, now: Instant, conn: ConnId, news: PeerNews) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let Some(newcomer) = &mut slot.newcomer else {
            return;
        };
        let told = news.address;
        if let Some(address) = told {
            newcomer.peer.address = Some(address);
        }
        if let Some(name) = news.name {
            newcomer.peer.name = Some(name.into());
        }
        if let Some(is_unproven) = news.is_unproven {
            newcomer.peer.is_unproven = is_unproven;
        }
        let peer = newcomer.peer.clone();
        let event = Event::Identified { conn, peer };
        self.core.handle(now, event, &mut self.outbox);
        if let Some(address) = told {
            self.count_address(now, conn, address.ip());
        }
    }

    fn note_handshake(&mut self, handshake: Option<Handshake>) {
        match handshake {
            None => {}
            Some(Handshake::Full) => count!(self.counts, tls_handshakes),
            Some(Handshake::Resumed) => {
                count!(self.counts, tls_handshakes);
                count!(self.counts, tls_resumed);
            }
        }
    }

    /// Counts the incomplete input that the layers of a connection hold.
    ///
    /// # Errors
    /// The connections of the shard hold too much, and this one is not among the small ones.
    fn count_partial(&mut self, conn: ConnId) -> Result<(), PartialsFull> {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let Some(transport) = &mut slot.transport else {
            return Ok(());
        };
        let size = transport.partial_size();
        let before = std::mem::replace(&mut transport.counted_size, size);
        self.partial_bytes = self.partial_bytes - before + size;
        let is_over = self.partial_bytes as u64 > self.shared.partial_bytes_max;
        if is_over && size > PARTIAL_SIZE_SMALL {
            Err(PartialsFull)
        } else {
            Ok(())
        }
    }

    /// The peer has ended a layer: it gets the answer that it waits for.
    fn end_layers(&mut self, now: Instant, conn: ConnId) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        if let Some(transport) = &mut slot.transport {
            transport.finish();
        }
        self.flush_layers(now, conn);
    }

    fn fail_layers(&mut self, now: Instant, conn: ConnId, failure: &Failure) {
        count!(self.counts, transports_failed);
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let address = slot.newcomer.as_ref().and_then(|n| n.peer.address);
        let transport = slot.transport.as_ref();
        let stack = transport.map(|transport| Arc::clone(transport.stack()));
        self.log_failure(now, stack.as_deref(), address, failure);
        self.flush_layers(now, conn);
    }

    /// Anyone who can connect can fail, and must not be able to fill the log.
    pub(super) fn log_failure(
        &mut self,
        now: Instant,
        stack: Option<&Stack>,
        address: Option<SocketAddr>,
        failure: &dyn Display,
    ) {
        let listener = stack.map_or("-", Stack::name);
        let peer = address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        match self.failures_logged.admit(now) {
            Some(0) => info!(listener, peer, "closed: {failure}"),
            Some(missed) => info!(listener, peer, missed, "closed: {failure}"),
            None => debug!(listener, peer, "closed: {failure}"),
        }
    }

    /// Sends the last bytes of the layers, and closes. The core hears of it in the end.
    fn flush_layers(&mut self, now: Instant, conn: ConnId) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        match slot.phase {
            Phase::Open => self.start_flush(now, conn),
            // Its home finds out.
            Phase::Leaving(_) => {}
            Phase::Free | Phase::Draining | Phase::Lingering | Phase::Closing(_) => {}
        }
    }

    /// As `transmit`, for a connection with layers that may send.
    pub(super) fn transmit_layers(&mut self, now: Instant, conn: ConnId, is_last: bool) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        let Some(transport) = slot.transport.as_deref_mut() else {
            return;
        };
        let output = if transport.is_open() {
            self.core.take_output(conn)
        } else {
            None
        };
        let flight = match output {
            Some(output) => {
                let carried = u32::try_from(output.size()).unwrap_or(u32::MAX);
                let buffer = self.wires.take();
                let (wire, spent) = transport.encode(output, buffer, &mut self.scratch);
                if let Some(spent) = spent {
                    self.core.recycle(spent);
                }
                Flight::encoded(wire, carried)
            }
            None => {
                if is_last {
                    transport.finish();
                }
                if !transport.has_pending() {
                    if is_last {
                        self.finish_flush(now, conn);
                    }
                    return;
                }
                Flight::encoded(Output::One(transport.take_pending()), 0)
            }
        };
        self.launch(now, conn, flight);
    }

    /// Returns the buffers of a flight to where they came from.
    pub(super) fn recycle(&mut self, flight: Flight) {
        if !flight.is_encoded() {
            self.core.recycle(flight.into_output());
            return;
        }
        match flight.into_output() {
            Output::One(buffer) => self.wires.put(buffer),
            // What is between the payloads is the layer's.
            Output::Many(chunks) => {
                for chunk in chunks {
                    match chunk {
                        Chunk::Own(buffer) => self.wires.put(buffer),
                        Chunk::Shared(_) => {}
                    }
                }
            }
        }
    }

    /// The terms of TLS may have changed, and with them who may stay.
    pub(super) fn recheck_terms(&mut self, now: Instant) {
        let generation = self.shared.terms_generation.load(Ordering::Acquire);
        if generation != self.terms_seen {
            self.terms_seen = generation;
            let mut live = self.slots.live();
            live.retain(|conn| self.slots.get(*conn).is_some_and(|s| s.transport.is_some()));
            self.rechecks = live;
        }
        for _ in 0..RECHECKS_MAX {
            let Some(conn) = self.rechecks.pop() else {
                return;
            };
            let Some(slot) = self.slots.get(conn) else {
                continue;
            };
            let Some(transport) = &mut slot.transport else {
                continue;
            };
            if slot.phase == Phase::Open
                && let Err(failure) = transport.recheck()
            {
                self.end_revoked(now, conn, &failure);
            }
        }
    }

    /// Closes a client that is no longer permitted to connect.
    pub(super) fn end_revoked(&mut self, now: Instant, conn: ConnId, failure: &Failure) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        if let Some(transport) = &mut slot.transport {
            transport.finish();
        }
        self.fail_layers(now, conn, failure);
    }
}

/// The layers of all connections hold too much incomplete input.
struct PartialsFull;

/// How often failures are logged.
#[derive(Debug, Default)]
pub(super) struct LogSpan {
    since: Instant,
    logged: u64,
    missed: u64,
}

impl LogSpan {
    /// Whether one more may be logged, and how many were not since the last that was.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_since(self.since) >= LOG_SPAN {
            self.since = now;
            self.logged = 0;
        }
        if self.logged == LOGGED_MAX {
            self.missed += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.missed))
    }
}

/// Handshake steps of one turn: at most two milliseconds, with the slowest keys that are usual.
pub(crate) const HANDSHAKES_MAX: usize = 4;
/// Certificates looked at again in one turn: some hundred microseconds each.
const RECHECKS_MAX: usize = 8;
/// A connection that holds no more than this is never closed because of others.
const PARTIAL_SIZE_SMALL: usize = 4096;
/// Failures that are logged in one [`LOG_SPAN`].
const LOGGED_MAX: u64 = 5;
const LOG_SPAN: Duration = Duration::from_secs(10);
