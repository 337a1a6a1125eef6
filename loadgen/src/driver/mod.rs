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

mod close;
mod dial;
mod layers;
mod receive;
mod silence;
mod transmit;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;

use ringmq_core::ids::ConnId;
use ringmq_core::time::Instant;
use ringmq_ring::{Completion, KernelRing, Ring, RingConfig, Submission, Target};

use crate::fleet::Fleet;
use crate::peer::Peer;
use crate::shared::{Board, UNKNOWN, now_ns};
use crate::sources::Sources;
use crate::tls::Terms;
use crate::websocket::Resource;
use layers::Layers;

/// The sockets of one thread.
#[derive(Debug)]
pub struct Driver {
    ring: KernelRing,
    target: Target,
    peer: Peer,
    sources: Sources,
    /// TLS, by group.
    tls: Vec<Option<Terms>>,
    /// What a WebSocket is opened on.
    websocket: Option<Resource>,
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
    /// Sockets of clients that fell silent.
    silent: Vec<OwnedFd>,
    /// What a chunk held, behind the layers.
    plain: Vec<u8>,
    /// The kernel had no local port left.
    pub ports_exhausted: u64,
    /// The process had no file left.
    pub files_exhausted: u64,
}

/// How clients get to the broker.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where it is.
    pub peer: Peer,
    /// TLS, by group of the plan.
    pub tls: Vec<Option<Terms>>,
    /// Over WebSocket.
    pub websocket: Option<Resource>,
}

impl Way {
    /// What carries MQTT, if it is neither TCP nor TLS alone.
    pub fn carrier(&self) -> Option<&'static str> {
        match (&self.peer, &self.websocket) {
            (Peer::Unix(_), _) => Some("Unix socket"),
            (Peer::Tcp(_), Some(_)) => Some("WebSocket"),
            (Peer::Tcp(_), None) => None,
        }
    }
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
    /// What is closing is its slot: the socket itself stays open, and says nothing.
    silent: bool,
    layers: Option<Box<Layers>>,
}

impl Driver {
    /// A driver for the calling thread, and no other.
    pub fn new(fleet: Fleet, way: Way, sources: Sources, wakeup: OwnedFd) -> io::Result<Driver> {
        let config = RingConfig {
            entries: 4096,
            buffers_count: BUFFERS_COUNT,
            buffer_size: BUFFER_SIZE,
            ..RingConfig::default()
        };
        let mut ring = KernelRing::new(config, wakeup)?;
        Ok(Driver {
            target: match &way.peer {
                Peer::Tcp(address) => ring.add_target(*address),
                Peer::Unix(address) => ring.add_target(address.clone()),
            },
            ring,
            peer: way.peer,
            sources,
            tls: way.tls,
            websocket: way.websocket,
            silent: Vec::new(),
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

    /// Processes the completions of the kernel; returns their number.
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
            let silences = std::mem::take(&mut self.fleet.outbox.silences);
            let dirty = std::mem::take(&mut self.fleet.outbox.dirty);
            let all = [&dials, &closes, &silences, &dirty];
            if all.iter().all(|clients| clients.is_empty()) {
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
            for client in &silences {
                self.silence(*client);
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

    fn set_timer(&mut self, at: u64) {
        if at != UNKNOWN && self.timer.is_none_or(|set| at < set) {
            self.ring.set_timer(Instant::from_nanos(at));
            self.timer = Some(at);
        }
    }
}

/// A call that brings fewer has brought all that was there.
const FULL_CALL: usize = 16;
/// So many completions are processed before anything is sent: more would leave the broker without
/// work meanwhile.
const COMPLETIONS_WANTED: usize = 160;
/// Completions of one call.
const COMPLETIONS_MAX: usize = 1024;
/// 16 MiB in all, touched only when needed.
const BUFFERS_COUNT: u16 = 1024;
/// What one completion brings at most: a window of messages to one subscriber.
const BUFFER_SIZE: u32 = 16 * 1024;
