//! The sockets of one thread: turns of the ring around a [`Fleet`].
//!
//! Work is done in turns, as in the broker: completions go in, what is due is published, and one
//! system call submits all of it and waits if there is nothing to do. Each client has at most one
//! send underway; what comes meanwhile gathers in the fleet.
//!
//! Invariants:
//! - a socket is closed only when none of its operations is in flight, and its slot is used again
//!   only after that; a completion of another generation is ignored.
//! - `ops` counts connect, receive, send, cancel and close.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use ringmq_core::connection::Output;
use ringmq_core::ids::ConnId;
use ringmq_core::time::Instant;
use ringmq_ring::{
    Completion, Flight, Input, KernelRing, Lease, Receive, Received, Ring, RingConfig, Submission,
    Target, bind_source,
};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::fleet::{Fleet, Loss};
use crate::shared::{Board, Stage, UNKNOWN, now_ns};
use crate::sources::Sources;
use crate::tls::{Channel, Terms};

/// The sockets of one thread.
#[derive(Debug)]
pub struct Driver {
    ring: KernelRing,
    target: Target,
    address: SocketAddr,
    sources: Sources,
    /// TLS, by group.
    tls: Vec<Option<Terms>>,
    /// What the clients do.
    pub fleet: Fleet,
    sockets: Vec<Socket>,
    /// Clients whose receive ended in this turn.
    rearm: Vec<u32>,
    /// Slow clients, with the time at which they read again.
    slow: BinaryHeap<Reverse<(u64, u32)>>,
    /// What the ring's timer is set to.
    timer: Option<u64>,
    open_count: usize,
    /// What a chunk of TLS held.
    plain: Vec<u8>,
    /// The kernel had no local port left.
    pub ports_exhausted: u64,
    /// The process had no file left.
    pub files_exhausted: u64,
}

#[derive(Debug, Default)]
struct Socket {
    socket: Option<OwnedFd>,
    generation: u32,
    ops: u8,
    connecting: bool,
    receiving: bool,
    sending: bool,
    closing: bool,
    secure: Option<Box<Secure>>,
}

/// A socket with TLS.
#[derive(Debug)]
struct Secure {
    channel: Channel,
    /// Records that wait for the send underway.
    wire: Vec<u8>,
    /// Plain bytes in the send underway.
    flying: u32,
    /// The fleet knows of the connection.
    announced: bool,
}

impl Driver {
    /// A driver on the calling thread, which has to be the one that uses it.
    pub fn new(
        fleet: Fleet,
        address: SocketAddr,
        sources: Sources,
        tls: Vec<Option<Terms>>,
        wakeup: OwnedFd,
    ) -> io::Result<Driver> {
        let config = RingConfig {
            entries: 4096,
            buffers_count: BUFFERS_COUNT,
            buffer_size: BUFFER_SIZE,
            ..RingConfig::default()
        };
        let mut ring = KernelRing::new(config, wakeup)?;
        Ok(Driver {
            target: ring.add_target(address),
            ring,
            address,
            sources,
            tls,
            plain: Vec::new(),
            sockets: (0..fleet.client_count())
                .map(|_| Socket::default())
                .collect(),
            fleet,
            rearm: Vec::new(),
            slow: BinaryHeap::new(),
            timer: None,
            open_count: 0,
            ports_exhausted: 0,
            files_exhausted: 0,
        })
    }

    /// One turn, up to the submission. Returns the time that it began.
    pub fn turn(&mut self) -> u64 {
        // Linux from 6.13 on hands over some twenty completions per call. With a turn for each call
        // a fast broker would get its work in small pieces, which costs both sides more
        // (results/2026-11-28-ringload-speed.md).
        let mut count = 0;
        loop {
            let taken = self.take_completions();
            count += taken;
            if taken < FULL_CALL || count >= COMPLETIONS_WANTED {
                break;
            }
            self.ring.submit();
        }
        let now = now_ns();
        self.fleet.tick(now);
        self.resume_slow(now);
        self.carry_out(now);
        now
    }

    /// Submits what the turn pushed, and sleeps until `until` unless there is something to do.
    pub fn submit(&mut self, board: &Board, until: u64) {
        if self.ring.is_ready() || until <= now_ns() {
            self.ring.submit();
            return;
        }
        self.set_timer(until);
        board
            .parked
            .store(true, std::sync::atomic::Ordering::SeqCst);
        // Whoever had news before the store has written to the descriptor, or finds us in the next
        // turn.
        let submission = if self.fleet.has_news() {
            self.ring.submit()
        } else {
            self.ring.submit_and_wait()
        };
        board
            .parked
            .store(false, std::sync::atomic::Ordering::SeqCst);
        match submission {
            Submission::Done | Submission::Again => {}
        }
    }

    /// When the next turn is due at the latest.
    pub fn next_wake(&self, now: u64) -> u64 {
        let slow = self.slow.peek().map_or(UNKNOWN, |Reverse((at, _))| *at);
        self.fleet.next_wake(now).min(slow)
    }

    /// Sockets that are not closed yet.
    pub fn open_count(&self) -> usize {
        self.open_count
    }

    /// Something is still being sent.
    pub fn is_sending(&self) -> bool {
        self.sockets
            .iter()
            .any(|socket| socket.sending && !socket.closing)
    }

    /// Takes in what the kernel has handed over; how many completions that were.
    fn take_completions(&mut self) -> usize {
        self.ring.reap(COMPLETIONS_MAX);
        let mut count = 0;
        while let Some(completion) = self.ring.pop() {
            count += 1;
            match completion {
                Completion::Received(received) => self.on_received(received),
                Completion::Sent {
                    conn,
                    flight,
                    result,
                } => self.on_sent(conn, flight, result),
                Completion::Connected { conn, result } => self.on_connected(conn, result),
                Completion::Cancelled { conn } => {
                    self.op_ended(conn);
                }
                Completion::Closed { conn } => self.on_closed(conn),
                Completion::TimerFired => self.timer = None,
                Completion::Accepted { .. } => unreachable!("nothing listens here"),
                Completion::Stored { .. } => unreachable!("nothing is stored here"),
            }
        }
        count
    }

    /// What the fleet asked for.
    fn carry_out(&mut self, now: u64) {
        // Handlers may ask for more: it is carried out in the same turn.
        loop {
            let dials = std::mem::take(&mut self.fleet.outbox.dials);
            let closes = std::mem::take(&mut self.fleet.outbox.closes);
            let dirty = std::mem::take(&mut self.fleet.outbox.dirty);
            if dials.is_empty() && closes.is_empty() && dirty.is_empty() {
                break;
            }
            for client in &dials {
                self.dial(*client, now);
            }
            for client in &dirty {
                self.transmit(*client, now);
            }
            for client in &closes {
                self.close(*client);
            }
        }
        while let Some(client) = self.rearm.pop() {
            self.receive(client);
        }
    }

    fn conn(&self, client: u32) -> ConnId {
        ConnId {
            index: client,
            generation: self.sockets[client as usize].generation,
        }
    }

    /// The socket that the operation was for, if it still is the same; counts the end of the
    /// operation.
    fn op_ended(&mut self, conn: ConnId) -> Option<u32> {
        let socket = self.sockets.get_mut(conn.index as usize)?;
        if socket.generation != conn.generation {
            return None;
        }
        assert!(socket.ops > 0, "a completion without an operation");
        socket.ops -= 1;
        self.proceed(conn.index);
        let socket = &self.sockets[conn.index as usize];
        (!socket.closing).then_some(conn.index)
    }

    fn dial(&mut self, client: u32, now: u64) {
        let conn = self.conn(client);
        match self.open_socket(client) {
            Ok(fd) => {
                self.open_count += 1;
                self.ring.connect(conn, fd.as_fd(), self.target);
                let socket = &mut self.sockets[client as usize];
                socket.socket = Some(fd);
                socket.connecting = true;
                socket.ops += 1;
            }
            Err(why) => self.fleet.on_lost(client, now, Loss::Dial(why)),
        }
    }

    fn open_socket(&mut self, client: u32) -> Result<OwnedFd, String> {
        let fd = self
            .make_socket(client)
            .map_err(|errno| self.explain_dial(errno))?;
        if let Some(source) = self.sources.take() {
            bind_source(fd.as_fd(), source).map_err(|errno| match errno {
                Errno::ADDRNOTAVAIL => {
                    format!("{source} is not an address of this machine; check --source")
                }
                _ => format!("cannot connect from {source}: {errno}; check --source"),
            })?;
        }
        Ok(fd)
    }

    fn make_socket(&self, client: u32) -> Result<OwnedFd, Errno> {
        let family = match self.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        set_tcp_nodelay(&fd, true)?;
        if let Some(size) = self.fleet.receive_buffer(client) {
            set_socket_recv_buffer_size(&fd, size as usize)?;
        }
        Ok(fd)
    }

    fn explain_dial(&mut self, errno: Errno) -> String {
        let address = self.address;
        match errno {
            Errno::CONNREFUSED => {
                format!("nothing listens on {address}; start the broker, or check --target")
            }
            Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => {
                self.ports_exhausted += 1;
                format!(
                    "no local port left for connections to {address}; add addresses with --source"
                )
            }
            Errno::MFILE | Errno::NFILE => {
                self.files_exhausted += 1;
                "no file descriptor left; raise the limit (ulimit -n)".to_owned()
            }
            Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => {
                format!(
                    "{address} cannot be reached ({errno}); check --target, routes and firewalls"
                )
            }
            _ => format!("{address}: {errno}"),
        }
    }

    fn on_connected(&mut self, conn: ConnId, result: Result<(), Errno>) {
        let socket = &mut self.sockets[conn.index as usize];
        if socket.generation == conn.generation {
            socket.connecting = false;
        }
        let Some(client) = self.op_ended(conn) else {
            return;
        };
        let now = now_ns();
        match result {
            Ok(()) => {
                match self.tls[self.fleet.group_of(client)].clone() {
                    None => self.fleet.on_connected(client, now),
                    Some(terms) => self.open_channel(client, now, &terms),
                }
                self.rearm.push(client);
            }
            Err(errno) => {
                let why = self.explain_dial(errno);
                self.fleet.on_lost(client, now, Loss::Dial(why));
            }
        }
    }

    fn on_received(&mut self, received: Received) {
        let Received { conn, input, more } = received;
        let client = conn.index;
        let socket = &mut self.sockets[client as usize];
        let is_live = socket.generation == conn.generation && !socket.closing;
        let now = now_ns();
        match input {
            Input::Chunk(lease) => {
                if is_live {
                    if self.sockets[client as usize].secure.is_some() {
                        self.on_records(client, now, &lease);
                    } else {
                        self.fleet.on_bytes(client, now, self.ring.bytes(&lease));
                    }
                    if let Some(rate) = self.fleet.receive_rate(client) {
                        // At 0 bytes per second, after the end of time.
                        let pause = u64::from(lease.size()) * 1_000_000_000 / rate.max(1);
                        let at = if rate == 0 { UNKNOWN } else { now + pause };
                        self.slow.push(Reverse((at, client)));
                    }
                }
                self.ring.give_back(lease);
            }
            Input::End if is_live => {
                let secure = self.sockets[client as usize].secure.as_deref();
                let why = match secure {
                    Some(secure) if !secure.channel.is_established() => {
                        "the connection ended in the TLS handshake"
                    }
                    Some(_) | None => "the connection ended",
                };
                self.fleet
                    .on_lost(client, now, Loss::Closed(why.to_owned()));
            }
            Input::Failed(Errno::NOBUFS | Errno::INTR | Errno::AGAIN | Errno::CANCELED) => {}
            Input::Failed(errno) if is_live => {
                self.fleet
                    .on_lost(client, now, Loss::Closed(errno.to_string()));
            }
            Input::End | Input::Failed(_) => {}
        }
        if !more && self.sockets[client as usize].generation == conn.generation {
            self.sockets[client as usize].receiving = false;
            if self.op_ended(conn).is_some() && !self.is_slow(client) {
                self.rearm.push(client);
            }
        }
    }

    /// Its next receive has its time.
    fn is_slow(&self, client: u32) -> bool {
        self.fleet.receive_rate(client).is_some()
    }

    fn receive(&mut self, client: u32) {
        let conn = self.conn(client);
        let how = if self.fleet.reads_slowly(client) {
            Receive::Once
        } else {
            Receive::Multishot
        };
        let socket = &mut self.sockets[client as usize];
        if let (false, false, Some(fd)) = (socket.closing, socket.receiving, &socket.socket) {
            self.ring.receive(conn, fd.as_fd(), how);
            socket.receiving = true;
            socket.ops += 1;
        }
    }

    fn resume_slow(&mut self, now: u64) {
        let all = self.fleet.stage() >= Stage::Drain;
        while let Some(&Reverse((at, client))) = self.slow.peek()
            && (all || at <= now)
        {
            self.slow.pop();
            self.rearm.push(client);
        }
    }

    fn transmit(&mut self, client: u32, now: u64) {
        let conn = self.conn(client);
        let socket = &mut self.sockets[client as usize];
        let (false, false, Some(fd)) = (socket.sending, socket.closing, &socket.socket) else {
            return;
        };
        let output = match &mut socket.secure {
            None => self.fleet.take_output(client, now),
            Some(secure) => {
                if secure.announced
                    && let Some(plain) = self.fleet.take_output(client, now)
                {
                    secure.flying += plain.len() as u32;
                    secure.channel.send(&plain, &mut secure.wire);
                    self.fleet.recycle(plain);
                }
                let wire = std::mem::take(&mut secure.wire);
                (!wire.is_empty()).then_some(wire)
            }
        };
        if let Some(output) = output {
            self.ring
                .send(conn, fd.as_fd(), Flight::new(Output::One(output)));
            socket.sending = true;
            socket.ops += 1;
        }
    }

    fn open_channel(&mut self, client: u32, now: u64, terms: &Terms) {
        let mut wire = Vec::new();
        match Channel::open(terms, &mut wire) {
            Ok(channel) => {
                self.sockets[client as usize].secure = Some(Box::new(Secure {
                    channel,
                    wire,
                    flying: 0,
                    announced: false,
                }));
                self.transmit(client, now);
            }
            Err(why) => self
                .fleet
                .on_lost(client, now, Loss::Dial(format!("TLS: {why}"))),
        }
    }

    /// Takes in records: the handshake first, then what the broker says.
    fn on_records(&mut self, client: u32, now: u64, lease: &Lease) {
        let Some(secure) = &mut self.sockets[client as usize].secure else {
            return;
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let bytes = self.ring.bytes(lease);
        let received = secure.channel.receive(bytes, &mut plain, &mut secure.wire);
        let is_established = secure.channel.is_established();
        let is_new = is_established && !secure.announced;
        secure.announced |= is_new;
        if is_new {
            self.fleet.on_connected(client, now);
        }
        self.transmit(client, now);
        if !plain.is_empty() {
            self.fleet.on_bytes(client, now, &plain);
        }
        self.plain = plain;
        if let Err(why) = received {
            let fix = match (is_established, why.starts_with("invalid peer certificate")) {
                (true, _) => "",
                (false, true) => {
                    "; name the CA with --tls FILE, or take any certificate with --tls insecure"
                }
                (false, false) => "; if the port is not for TLS leave out --tls",
            };
            self.fleet
                .on_lost(client, now, Loss::Dial(format!("TLS: {why}{fix}")));
        }
    }

    fn on_sent(&mut self, conn: ConnId, mut flight: Flight, result: Result<u32, Errno>) {
        let client = conn.index;
        if self.sockets[client as usize].generation != conn.generation {
            return;
        }
        self.sockets[client as usize].sending = false;
        let is_live = self.op_ended(conn).is_some();
        let now = now_ns();
        let failure = match result {
            Ok(0) => Some(Errno::PIPE),
            Ok(size) => {
                flight.advance(size);
                match &mut self.sockets[client as usize].secure {
                    None => self.fleet.on_sent(client, size),
                    Some(secure) if flight.is_landed() => {
                        self.fleet
                            .on_sent(client, std::mem::take(&mut secure.flying));
                    }
                    Some(_) => {}
                }
                None
            }
            Err(Errno::INTR | Errno::AGAIN) => None,
            Err(errno) => Some(errno),
        };
        let socket = &mut self.sockets[client as usize];
        if is_live
            && failure.is_none()
            && !flight.is_landed()
            && let Some(fd) = &socket.socket
        {
            self.ring.send(conn, fd.as_fd(), flight);
            socket.sending = true;
            socket.ops += 1;
            return;
        }
        if let Output::One(buffer) = flight.into_output() {
            self.fleet.recycle(buffer);
        }
        match failure {
            Some(errno) if is_live => {
                self.fleet
                    .on_lost(client, now, Loss::Closed(errno.to_string()));
            }
            Some(_) | None if is_live => {
                self.fleet.on_drained(client, now);
                self.transmit(client, now);
            }
            Some(_) | None => {}
        }
    }

    fn close(&mut self, client: u32) {
        let conn = self.conn(client);
        let socket = &mut self.sockets[client as usize];
        if socket.closing {
            return;
        }
        socket.closing = true;
        match &socket.socket {
            Some(_) if socket.connecting => {
                self.ring.cancel_connect(conn);
                socket.ops += 1;
            }
            Some(fd) if socket.ops > 0 => self.ring.hang_up(fd.as_fd()),
            Some(_) | None => {}
        }
        self.proceed(client);
    }

    /// Closes a socket that only waited for its operations to end.
    fn proceed(&mut self, client: u32) {
        let conn = self.conn(client);
        let socket = &mut self.sockets[client as usize];
        if !socket.closing || socket.ops > 0 {
            return;
        }
        match socket.socket.take() {
            Some(fd) => {
                self.ring.close(conn, fd);
                socket.ops += 1;
            }
            // It was never opened.
            None => self.forget(client),
        }
    }

    fn on_closed(&mut self, conn: ConnId) {
        let socket = &mut self.sockets[conn.index as usize];
        assert_eq!(
            socket.generation, conn.generation,
            "a close ends its socket"
        );
        socket.ops -= 1;
        self.open_count -= 1;
        self.forget(conn.index);
    }

    fn forget(&mut self, client: u32) {
        let socket = &mut self.sockets[client as usize];
        *socket = Socket {
            generation: socket.generation.wrapping_add(1),
            ..Socket::default()
        };
        self.fleet.on_closed(client, now_ns());
    }

    fn set_timer(&mut self, at: u64) {
        if at != UNKNOWN && self.timer.is_none_or(|set| at < set) {
            self.ring.set_timer(Instant::from_nanos(at));
            self.timer = Some(at);
        }
    }
}

/// A call that brings fewer has brought all that was there.
const FULL_CALL: usize = 16;
/// So many are taken in before anything is sent: more would leave the broker without work
/// meanwhile.
const COMPLETIONS_WANTED: usize = 160;
/// Completions of one call.
const COMPLETIONS_MAX: usize = 1024;
/// 16 MiB in all, touched only when needed.
const BUFFERS_COUNT: u16 = 1024;
/// What one completion brings at most: a window of messages to one subscriber.
const BUFFER_SIZE: u32 = 16 * 1024;
