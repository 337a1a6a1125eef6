//! What a reactor needs of its ring: [`Ring`]. `KernelRing` is io_uring; tests drive the same
//! reactor with a ring that only pretends, and the load generator uses the same ring as a client.
//!
//! Not here: what to do with a completion (`reactor` in `ringmq`).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::ids::ConnId;
use ringmq_core::store::{Block, OpId};
use ringmq_core::time::Instant;
use rustix::io::Errno;

use crate::buffers::Lease;
use crate::flight::Flight;

/// The size of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Operations that one turn can submit without a second system call.
    pub entries: u32,
    /// Receive buffers of a shard; a power of two, at most 32,768.
    pub buffers_count: u16,
    /// Bytes of one receive buffer: what one completion brings at most.
    pub buffer_size: u32,
    /// How the reactor sleeps.
    pub wait: Wait,
    /// How long a reactor that waits in the ring looks for work before it sleeps; zero: not at all.
    pub busy_poll: Duration,
}

/// How a reactor without work sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// In the data-plane ring: one system call submits and waits. Nothing else runs on the thread
    /// meanwhile, so this is for shards whose executor has no other tasks.
    Ring,
    /// In the executor, on an eventfd that the data-plane ring signals: some ten system calls per
    /// wake-up, and other tasks of the executor run.
    Executor,
}

impl Default for RingConfig {
    /// 128 buffers of 16 KiB: an idle shard touches little memory, a busy one has 2 MiB in flight.
    /// A receive brings 16 messages of 1 KiB, and a large one in few pieces; with 64 KiB, 64 KiB
    /// messages come in bursts that slow sockets do not keep up with
    /// (results/2026-11-29-receives.md).
    fn default() -> RingConfig {
        RingConfig {
            entries: 4096,
            buffers_count: 128,
            buffer_size: 16 * 1024,
            wait: Wait::Ring,
            busy_poll: Duration::ZERO,
        }
    }
}

/// How often a receive completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// Once: for a connection that may move to another shard.
    Once,
    /// Until it fails: for a connection that is home.
    Multishot,
}

/// What the kernel reports.
#[derive(Debug)]
pub enum Completion {
    /// A listener has a connection, or trouble.
    Accepted {
        /// Index of the listener.
        listener: usize,
        /// The socket.
        result: Result<OwnedFd, Errno>,
        /// The accept goes on by itself.
        more: bool,
    },
    /// A receive brought something.
    Received(Received),
    /// A send ended.
    Sent {
        /// The connection it was for.
        conn: ConnId,
        /// What was sent, not yet advanced by `result`.
        flight: Flight,
        /// Bytes that the socket took.
        result: Result<u32, Errno>,
    },
    /// A cancel was carried out; the cancelled operation completes on its own.
    Cancelled {
        /// The connection it was for.
        conn: ConnId,
    },
    /// The socket is closed.
    Closed {
        /// The connection it was for.
        conn: ConnId,
    },
    /// A connect ended.
    Connected {
        /// The connection it was for.
        conn: ConnId,
        /// The socket is connected, or why it is not.
        result: Result<(), Errno>,
    },
    /// A write or a sync of a file ended. A write counts as failed if it was short, or if the sync that was
    /// asked for with it failed.
    Stored {
        /// Which one.
        op: OpId,
        /// What became of it.
        result: Result<(), Errno>,
        /// What was written; `None` if the kernel may still read from it.
        block: Option<Block>,
    },
    /// The timer fired and has to be set again.
    TimerFired,
}

/// A write of a file.
#[derive(Debug)]
pub struct FileWrite {
    /// Offset in the file; without the cache of the kernel (O_DIRECT) a multiple of the size of its blocks.
    pub at: u64,
    /// What to write.
    pub block: Block,
    /// Make it durable, with everything that was written to the file before.
    pub sync: bool,
}

/// One completion of a receive.
#[derive(Debug)]
pub struct Received {
    /// The connection it was for.
    pub conn: ConnId,
    /// What it brought.
    pub input: Input,
    /// The receive goes on by itself.
    pub more: bool,
}

/// What a receive brought.
#[derive(Debug)]
pub enum Input {
    /// Bytes.
    Chunk(Lease),
    /// The FIN of the peer.
    End,
    /// An error.
    Failed(Errno),
}

/// How a submission went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// The kernel has everything.
    Done,
    /// The kernel is short of memory, or wants its completions reaped first: submit again in the
    /// next turn.
    Again,
}

/// What the reactor needs of a ring. Operations are pushed, and start at the next submission.
pub trait Ring {
    /// Accepts connections until that fails.
    fn accept(&mut self, listener: usize, socket: BorrowedFd<'_>);
    /// Ends the accept of a listener.
    fn cancel_accept(&mut self, listener: usize);
    /// Receives into a provided buffer.
    fn receive(&mut self, conn: ConnId, socket: BorrowedFd<'_>, how: Receive);
    /// Sends what is left of the flight, or the first part of what is large.
    fn send(&mut self, conn: ConnId, socket: BorrowedFd<'_>, flight: Flight);
    /// Ends the receive of a connection early.
    fn cancel_receive(&mut self, conn: ConnId);
    /// Ends the stream of a connection in both directions: what is in flight on its socket
    /// completes soon, each operation on its own, and nothing is sent after it. The hang-up itself
    /// has no completion.
    fn hang_up(&mut self, socket: BorrowedFd<'_>);
    /// Closes the socket.
    fn close(&mut self, conn: ConnId, socket: OwnedFd);
    /// Writes to a file. Several writes of one file may be under way, and end in any order.
    fn write(&mut self, op: OpId, file: &Arc<OwnedFd>, write: FileWrite);
    /// Makes durable what was written to a file by writes that have completed.
    fn sync(&mut self, op: OpId, file: &Arc<OwnedFd>);
    /// Sets the timer, in place of what it was set to.
    fn set_timer(&mut self, at: Instant);

    /// Takes up to `count_max` completions over from the kernel, counting those not popped yet.
    fn reap(&mut self, count_max: usize);
    /// The next completion that was reaped.
    fn pop(&mut self) -> Option<Completion>;
    /// A reap or pop would find something.
    fn is_ready(&mut self) -> bool;
    /// The bytes of a chunk.
    fn bytes(&self, lease: &Lease) -> &[u8];
    /// Gives the buffer of a chunk back to the kernel.
    fn give_back(&mut self, lease: Lease);

    /// Hands all that was pushed to the kernel and lets it post completions.
    fn submit(&mut self) -> Submission;
    /// Submits, and blocks until there is a completion.
    fn submit_and_wait(&mut self) -> Submission;
    /// Submits; from here on, a completion signals the executor.
    fn arm_notice(&mut self) -> Submission;
    /// From here on, completions are quiet.
    fn disarm_notice(&mut self);
    /// How many times the completion queue was too small.
    fn overflow_count(&self) -> u64;
}
