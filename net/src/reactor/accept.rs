//! Accepting connections.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::auth::PeerIdentity;
use ringmq_core::ids::ConnId;
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::{CloseCause, Event};
use ringmq_core::time::Instant;
use rustix::io::Errno;
use rustix::net::getpeername;
use tracing::warn;

use super::listener::Accepting;
use super::slot::Newcomer;
use super::{Core, Reactor};
use crate::admission::{Cells, Permit};
use crate::counters::count;
use crate::transport::Transport;
use ringmq_ring::{Receive, Ring};

impl<R: Ring, C: Core> Reactor<R, C> {
    pub(super) fn on_accepted(
        &mut self,
        now: Instant,
        listener: usize,
        result: Result<OwnedFd, Errno>,
        more: bool,
    ) {
        if !more {
            let accepting = &mut self.listeners[listener].accepting;
            match accepting {
                Accepting::Armed => *accepting = Accepting::Ended,
                Accepting::Throttled { ended, .. } | Accepting::Shut { ended } => *ended = true,
                Accepting::Ended | Accepting::Paused { .. } | Accepting::Stopped => {}
            }
        }
        match result {
            Ok(socket) => {
                count!(self.counts, accepted);
                self.welcome(now, listener, socket);
                self.keep_pace(now, listener);
            }
            // The connection was gone before it was accepted.
            Err(Errno::CONNABORTED | Errno::INTR | Errno::AGAIN | Errno::PROTO) => {}
            // By a shutdown, or because clients connect too fast.
            Err(Errno::CANCELED) => {}
            // Out of descriptors or memory, or another failure that trying again at once does not
            // cure.
            Err(errno) => self.pause_accept(now, listener, errno),
        }
    }

    fn welcome(&mut self, now: Instant, listener: usize, socket: OwnedFd) {
        let stack = Arc::clone(&self.listeners[listener].stack);
        let address = peer_of(&socket);
        if !stack.lets_in(address) {
            count!(self.counts, proxies_refused);
            let failure = "its address is not in proxy.trusted";
            self.log_failure(now, Some(&stack), address, &failure);
            return; // Drops the socket, which closes it.
        }
        // The client behind a proxy is not known yet.
        let counted = address.filter(|_| !stack.has_proxy());
        let permit = match self.ending {
            None => self.permit_for(now, counted.map(|address| address.ip())),
            Some(_) => None,
        };
        let Some((permit, refusal)) = permit else {
            count!(self.counts, refused);
            return; // Drops the socket, which closes it.
        };
        let newcomer = Newcomer {
            peer: PeerIdentity {
                address,
                name: None,
                listener: Some(stack.name_shared()),
                is_unproven: stack.asks_for_proof(),
            },
            since: now,
            permit,
        };
        self.admit(now, socket, newcomer, refusal, stack.transport(), &[]);
    }

    /// A permit for one more connection; or a temporary one, to tell the client why it may not
    /// stay. `None` if there is not even that.
    fn permit_for(
        &mut self,
        now: Instant,
        ip: Option<IpAddr>,
    ) -> Option<(Permit, Option<Refusal>)> {
        let permits = Arc::clone(&self.shared.permits);
        let given = permits.take().and_then(|()| {
            let cells = match ip {
                Some(ip) => self.permit_of_address(now, ip),
                None => Ok(None),
            };
            cells.inspect_err(|_| permits.give_back(Permit::Regular(None)))
        });
        match given {
            Ok(cells) => Some((Permit::Regular(cells), None)),
            Err(refusal) => permits
                .take_unwelcome()
                .then_some((Permit::Unwelcome, Some(refusal))),
        }
    }

    /// A permit among the connections of an address.
    fn permit_of_address(&mut self, now: Instant, ip: IpAddr) -> Result<Option<Cells>, Refusal> {
        let permits = &self.shared.permits;
        let bounds = permits.bounds();
        let rate = bounds.connect_rate_per_address_max;
        if rate == 0 && bounds.connections_per_address_max == 0 {
            return Ok(None);
        }
        let cells = permits.cells(ip);
        self.address_rates.admit(now, cells, rate)?;
        permits.take_of_address(cells)
    }

    /// A proxy has announced the address of a connection: it counts from here on.
    pub(super) fn count_address(&mut self, now: Instant, conn: ConnId, ip: IpAddr) {
        let slot = self.slots.get(conn).expect("the caller looked it up");
        if slot.permit != Permit::Regular(None) {
            return; // It has been counted, or may not stay.
        }
        let permit = self.permit_of_address(now, ip);
        let slot = self.slots.get(conn).expect("just seen");
        match permit {
            Ok(cells) => slot.permit = Permit::Regular(cells),
            Err(refusal) if self.shared.permits.take_unwelcome() => {
                let before = std::mem::replace(&mut slot.permit, Permit::Unwelcome);
                self.shared.permits.give_back(before);
                let event = Event::Unwelcome { conn, refusal };
                self.core.handle(now, event, &mut self.outbox);
            }
            Err(_) => {
                count!(self.counts, refused);
                self.cut(now, conn, CloseCause::Requested);
            }
        }
    }

    /// Stops accepting for a while if clients exceed their rate: they wait in the kernel.
    fn keep_pace(&mut self, now: Instant, index: usize) {
        let rate = self.shared.permits.bounds().connect_rate_max;
        if rate == 0 {
            return;
        }
        let listener = &mut self.listeners[index];
        let Err(until) = listener.pace.take(now, 1, rate) else {
            return;
        };
        match &mut listener.accepting {
            Accepting::Armed => {
                count!(self.counts, accepts_throttled);
                listener.accepting = Accepting::Throttled {
                    until,
                    ended: false,
                };
                self.ring.cancel_accept(index);
            }
            Accepting::Ended => {
                count!(self.counts, accepts_throttled);
                listener.accepting = Accepting::Throttled { until, ended: true };
            }
            // Accepted before the kernel knew.
            Accepting::Throttled { until: at, .. } => *at = until,
            Accepting::Paused { .. } | Accepting::Shut { .. } | Accepting::Stopped => {}
        }
    }

    /// Gives a counted connection a slot and presents it to the core, with what was received of it.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        socket: OwnedFd,
        newcomer: Newcomer,
        refusal: Option<Refusal>,
        transport: Option<Box<Transport>>,
        bytes: &[u8],
    ) -> Option<ConnId> {
        let permit = newcomer.permit;
        let since = newcomer.since;
        let peer = newcomer.peer.clone();
        let has_layers = transport.is_some();
        let conn = match self.slots.insert(socket, newcomer, transport) {
            Ok(conn) => conn,
            Err(_socket) => {
                count!(self.counts, refused);
                self.shared.permits.give_back(permit);
                return None;
            }
        };
        let accepted = Event::Accepted { conn, peer, since };
        self.core.handle(now, accepted, &mut self.outbox);
        if let Some(refusal) = refusal {
            let event = Event::Unwelcome { conn, refusal };
            self.core.handle(now, event, &mut self.outbox);
        }
        if !bytes.is_empty() {
            let received = Event::Received { conn, bytes };
            self.core.handle(now, received, &mut self.outbox);
        }
        if has_layers {
            self.settle_in(now, conn);
        }
        self.rearm.push(conn);
        Some(conn)
    }

    /// Descriptors and memory become free when connections close, or with time; until then an
    /// accept would fail again and again. Connected clients are not affected.
    fn pause_accept(&mut self, now: Instant, listener: usize, errno: Errno) {
        count!(self.counts, accept_pauses);
        let accepting = &mut self.listeners[listener].accepting;
        if !matches!(accepting, Accepting::Shut { .. }) {
            *accepting = Accepting::Paused {
                until: now + ACCEPT_PAUSE,
            };
        }
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
        if self.shared.permits.are_doors_shut() {
            return self.shut_accepts();
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let arm = match listener.accepting {
                Accepting::Armed | Accepting::Stopped => false,
                Accepting::Shut { ended } => ended,
                Accepting::Ended => true,
                Accepting::Paused { until } => closed_some || until <= now,
                Accepting::Throttled { until, ended } => ended && until <= now,
            };
            if arm {
                listener.accepting = Accepting::Armed;
                self.ring.accept(index, listener.socket.as_fd());
            }
        }
    }

    /// Accepts nobody, as long as the broker is being drained.
    fn shut_accepts(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let ended = match listener.accepting {
                Accepting::Armed => {
                    self.ring.cancel_accept(index);
                    false
                }
                Accepting::Ended | Accepting::Paused { .. } => true,
                Accepting::Throttled { ended, .. } => ended,
                Accepting::Shut { .. } | Accepting::Stopped => continue,
            };
            listener.accepting = Accepting::Shut { ended };
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
    let peer: SocketAddr = getpeername(socket).ok().flatten()?.try_into().ok()?;
    // IPv4 clients on a socket for both families keep their IPv4 address.
    Some(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
}

/// How long accepting pauses unless a connection closes.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Failures to accept are logged this often at most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
