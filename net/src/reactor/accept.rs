//! Accepting connections.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringmq_core::ids::ConnId;
use ringmq_core::shard::{Event, PeerIdentity};
use ringmq_core::time::Instant;
use rustix::io::Errno;
use rustix::net::getpeername;
use tracing::warn;

use super::{Core, Reactor};
use crate::counters::count;
use crate::listener::Accepting;
use crate::ring::{Receive, Ring};
use crate::slot::Newcomer;
use crate::transport::Transport;

impl<R: Ring, C: Core> Reactor<R, C> {
    pub(super) fn on_accepted(
        &mut self,
        now: Instant,
        listener: usize,
        result: Result<OwnedFd, Errno>,
        more: bool,
    ) {
        if !more && self.listeners[listener].accepting == Accepting::Armed {
            self.listeners[listener].accepting = Accepting::Ended;
        }
        match result {
            Ok(socket) => {
                count!(self.counts, accepted);
                self.welcome(now, listener, socket);
            }
            // The connection was gone before it was accepted.
            Err(Errno::CONNABORTED | Errno::INTR | Errno::AGAIN | Errno::PROTO) => {}
            Err(Errno::CANCELED) if self.ending.is_some() => {}
            // Out of descriptors or memory, or something else that does not pass by trying at once.
            Err(errno) => self.pause_accept(now, listener, errno),
        }
    }

    fn welcome(&mut self, now: Instant, listener: usize, socket: OwnedFd) {
        let stack = Arc::clone(&self.listeners[listener].stack);
        let address = peer_of(&socket);
        if !stack.lets_in(address) {
            count!(self.counts, proxies_refused);
            return; // Drops the socket, which closes it.
        }
        if self.ending.is_some() || !self.take_place() {
            count!(self.counts, refused);
            return; // Drops the socket, which closes it.
        }
        let newcomer = Newcomer {
            peer: PeerIdentity {
                address,
                name: None,
            },
            since: now,
        };
        self.admit(now, socket, newcomer, stack.transport(), &[]);
    }

    /// Counts one more connection of the broker, unless it has as many as it may have.
    fn take_place(&self) -> bool {
        let connections = &self.shared.connections;
        let is_free = connections.fetch_add(1, Ordering::Relaxed) < self.shared.connections_max;
        if !is_free {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Gives a counted connection a slot and presents it to the core, with what was received of it.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        socket: OwnedFd,
        newcomer: Newcomer,
        transport: Option<Box<Transport>>,
        bytes: &[u8],
    ) {
        let since = newcomer.since;
        let peer = newcomer.peer.clone();
        let has_layers = transport.is_some();
        let conn = match self.slots.insert(socket, newcomer, transport) {
            Ok(conn) => conn,
            Err(_socket) => {
                count!(self.counts, refused);
                self.shared.connections.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        let accepted = Event::Accepted { conn, peer, since };
        self.core.handle(now, accepted, &mut self.outbox);
        if !bytes.is_empty() {
            let received = Event::Received { conn, bytes };
            self.core.handle(now, received, &mut self.outbox);
        }
        if has_layers {
            self.settle_in(now, conn);
        }
        self.rearm.push(conn);
    }

    /// Descriptors and memory come back when connections close, or with time; until then an accept
    /// would fail again and again. Clients that are connected are not affected.
    fn pause_accept(&mut self, now: Instant, listener: usize, errno: Errno) {
        count!(self.counts, accept_pauses);
        self.listeners[listener].accepting = Accepting::Paused {
            until: now + ACCEPT_PAUSE,
        };
        let quiet = self
            .accept_logged_at
            .is_some_and(|at| now.saturating_since(at) < LOG_INTERVAL);
        if !quiet {
            self.accept_logged_at = Some(now);
            warn!(
                shard = self.id.index(),
                error = %errno,
                "cannot accept connections; raise the limit of open files (ulimit -n, \
                 LimitNOFILE) or lower the limit of connections"
            );
        }
    }

    pub(super) fn arm_accepts(&mut self, now: Instant) {
        let closed_some = std::mem::take(&mut self.closed_some);
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let arm = match listener.accepting {
                Accepting::Armed | Accepting::Stopped => false,
                Accepting::Ended => true,
                Accepting::Paused { until } => closed_some || until <= now,
            };
            if arm {
                listener.accepting = Accepting::Armed;
                self.ring.accept(index, listener.socket.as_fd());
            }
        }
    }

    /// How a connection receives: in single shots until it is certain that it stays.
    pub(super) fn receive_mode(&mut self, conn: ConnId) -> Receive {
        let Some(slot) = self.slots.get(conn) else {
            return Receive::Once;
        };
        if slot.newcomer.is_some() && self.core.is_home(conn) {
            slot.newcomer = None;
        }
        match slot.newcomer {
            Some(_) => Receive::Once,
            None => Receive::Multishot,
        }
    }
}

fn peer_of(socket: &OwnedFd) -> Option<SocketAddr> {
    getpeername(socket).ok().flatten()?.try_into().ok()
}

/// How long accepting pauses unless a connection closes.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Trouble with accepting is logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
