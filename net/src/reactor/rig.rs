//! The inbox and the reactor without sockets and without a kernel, for the suites in `bench`: the
//! cost of a whole turn in the broker itself. Not part of the public interface of this library.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::shard::ShardMsg;
use ringmq_core::store::OpId;
use ringmq_core::time::Instant;

use super::listener::Listener;
use super::{Core, HeardTable, Reactor, Settled, Shared};
use crate::admission::{Admission, Permits};
use crate::auth::AuthService;
use crate::counters::Counters;
use crate::inbox::{Inbox, Mail};
use crate::transport::{Stack, Transport};
use ringmq_ring::Flight;
use ringmq_ring::Lease;
use ringmq_ring::{Completion, FileWrite, Input, Receive, Received, Ring, Submission};

/// The reactor of the only shard of a broker, on a ring that completes every operation at once.
pub struct Rig<C> {
    reactor: Reactor<EchoRing, C>,
    clients: Vec<ConnId>,
    now: Instant,
}

impl<C: Core> Rig<C> {
    /// A reactor with `count` connections that have said nothing yet.
    pub fn new(core: C, count: usize) -> io::Result<Rig<C>> {
        let shared = Shared {
            inboxes: [Inbox::new(1024)?].into(),
            permits: Arc::new(Permits::new(Admission {
                connections_max: count,
                ..Admission::default()
            })),
            partial_bytes_max: u64::MAX,
            terms_generation: Arc::default(),
            heard: Arc::new(HeardTable::new(1)),
            auth: Arc::new(AuthService::closed()),
            counters: Arc::new(Counters::default()),
            tallies: Arc::default(),
            disk: None,
            settled: Arc::new(Settled::new(1)),
        };
        let listeners = vec![Listener::new(socket()?, Arc::new(Stack::plain()))];
        let ring = EchoRing::default();
        let mut rig = Rig {
            reactor: Reactor::new(ShardId::new(0), ring, core, listeners, shared),
            clients: Vec::new(),
            now: Instant::from_nanos(1),
        };
        for _ in 0..count {
            rig.reactor.ring.posted.push_back(Completion::Accepted {
                listener: 0,
                result: Ok(socket()?),
                more: true,
            });
        }
        while rig.reactor.slots.live_count() < count {
            rig.turn();
        }
        rig.clients = rig.reactor.slots.live();
        Ok(rig)
    }

    /// Bytes that arrived from a client; the next turn takes them in. `is_first`: its CONNECT,
    /// which comes in a single shot.
    pub fn receive(&mut self, client: usize, bytes: &[u8], is_first: bool) {
        let conn = self.clients[client];
        self.reactor.ring.post_bytes(conn, bytes, !is_first);
    }

    /// One turn with its submission.
    pub fn turn(&mut self) {
        self.now = self.now + TURN_INTERVAL;
        self.reactor.turn(self.now);
        self.reactor.submit();
    }

    /// What the turns before sent and no turn has seen the completion of: the client, and the
    /// bytes.
    pub fn sent(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let posted = self.reactor.ring.posted.iter();
        posted.filter_map(|completion| match completion {
            Completion::Sent { conn, flight, .. } => {
                let bytes = flight
                    .pieces(usize::MAX, usize::MAX)
                    .collect::<Vec<_>>()
                    .concat();
                Some((conn.index as usize, bytes))
            }
            _ => None,
        })
    }
}

/// Turns follow each other so fast: no time-out is due in a suite.
const TURN_INTERVAL: Duration = Duration::from_nanos(100);

/// The layers of a connection to a listener that has some.
pub fn transport(stack: &Arc<Stack>) -> Transport {
    Transport::new(stack)
}

/// The inbox of one shard.
#[derive(Debug)]
pub struct Mailbox(Inbox);

impl Mailbox {
    /// An inbox for up to `messages_max` messages.
    pub fn new(messages_max: usize) -> io::Result<Mailbox> {
        Inbox::new(messages_max).map(Mailbox)
    }

    /// Delivers messages, or gives back those that did not fit.
    pub fn post(&self, from: ShardId, messages: Vec<ShardMsg>) -> Result<(), Vec<ShardMsg>> {
        self.0.post(from, Instant::ZERO, messages)
    }

    /// Reader: the next batch.
    pub fn take(&self) -> Option<Vec<ShardMsg>> {
        match self.0.take()? {
            Mail::Messages { messages, .. } => Some(messages),
            Mail::Connection(_) | Mail::Decided { .. } => unreachable!("nobody sends one"),
        }
    }

    /// Reader: goes to sleep; whoever posts next has to wake it.
    pub fn park(&self) {
        self.0.announce_park();
    }

    /// Reader: awake again, with the wake-up taken back.
    pub fn unpark(&self) {
        self.0.withdraw_park();
        rustix::io::read(self.0.wakeup(), &mut [0; 8]).expect("somebody woke the reader");
    }
}

/// A ring whose sockets take everything, at the next submission.
#[derive(Debug, Default)]
struct EchoRing {
    pushed: Vec<Completion>,
    posted: VecDeque<Completion>,
    chunks: Vec<Vec<u8>>,
    chunks_free: Vec<u16>,
}

impl EchoRing {
    fn post_bytes(&mut self, conn: ConnId, bytes: &[u8], more: bool) {
        let id = self.chunks_free.pop().unwrap_or_else(|| {
            self.chunks.push(Vec::new());
            (self.chunks.len() - 1) as u16
        });
        let chunk = &mut self.chunks[usize::from(id)];
        chunk.clear();
        chunk.extend_from_slice(bytes);
        let input = Input::Chunk(Lease::new(id, bytes.len() as u32));
        let received = Received { conn, input, more };
        self.posted.push_back(Completion::Received(received));
    }
}

impl Ring for EchoRing {
    fn accept(&mut self, _listener: usize, _socket: BorrowedFd<'_>) {}

    fn cancel_accept(&mut self, _listener: usize) {}

    fn receive(&mut self, _conn: ConnId, _socket: BorrowedFd<'_>, _how: Receive) {}

    fn send(&mut self, conn: ConnId, _socket: BorrowedFd<'_>, flight: Flight) {
        let size: usize = flight.pieces(usize::MAX, usize::MAX).map(<[u8]>::len).sum();
        self.pushed.push(Completion::Sent {
            conn,
            flight,
            result: Ok(size as u32),
        });
    }

    fn cancel_receive(&mut self, conn: ConnId) {
        self.pushed.push(Completion::Cancelled { conn });
    }

    fn hang_up(&mut self, _socket: BorrowedFd<'_>) {}

    fn close(&mut self, conn: ConnId, _socket: OwnedFd) {
        self.pushed.push(Completion::Closed { conn });
    }

    fn write(&mut self, op: OpId, _file: &Arc<OwnedFd>, write: FileWrite) {
        self.pushed.push(Completion::Stored {
            op,
            result: Ok(()),
            block: Some(write.block),
        });
    }

    fn sync(&mut self, op: OpId, _file: &Arc<OwnedFd>) {
        self.pushed.push(Completion::Stored {
            op,
            result: Ok(()),
            block: None,
        });
    }

    fn set_timer(&mut self, _at: Instant) {}

    fn reap(&mut self, _count_max: usize) {}

    fn pop(&mut self) -> Option<Completion> {
        self.posted.pop_front()
    }

    fn is_ready(&mut self) -> bool {
        !self.posted.is_empty()
    }

    fn bytes(&self, lease: &Lease) -> &[u8] {
        &self.chunks[usize::from(lease.id())]
    }

    fn give_back(&mut self, lease: Lease) {
        self.chunks_free.push(lease.id());
    }

    fn submit(&mut self) -> Submission {
        self.posted.extend(self.pushed.drain(..));
        Submission::Done
    }

    fn submit_and_wait(&mut self) -> Submission {
        self.submit()
    }

    fn arm_notice(&mut self) -> Submission {
        self.submit()
    }

    fn disarm_notice(&mut self) {}

    fn overflow_count(&self) -> u64 {
        0
    }
}

/// Something to own in place of a socket: it is never read or written.
fn socket() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}
