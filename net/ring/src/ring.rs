//! The data-plane ring of a shard: [`Ring`] is what the reactor needs of it, [`KernelRing`] is
//! io_uring. Tests drive the same reactor with a ring that only pretends. The load generator uses the
//! same ring as a client.
//!
//! Invariants:
//! - what the kernel reads or writes belongs to the ring from the submission until the completion:
//!   outputs sit in `flights`, receive buffers in `Buffers`. Nobody else can free them.
//! - an operation has one last completion (without `F_MORE`); `inflight` counts those outstanding.
//! - a push never fails: what the submission queue has no room for waits in `backlog`, in order.
//!
//! Not here: what to do with a completion (`reactor`).

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use glommio::io::BufferedFile;
use io_uring::types::{CancelBuilder, Fd, TimeoutFlags, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use ringmq_core::ids::ConnId;
use ringmq_core::time::Instant;
use rustix::io::Errno;
use rustix::net::SocketAddrAny;

use crate::buffers::{Buffers, GROUP, Lease};
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
    /// 128 buffers of 16 KiB: an idle shard touches little memory, a busy one has 2 MiB in flight. A receive brings
    /// 16 messages of 1 KiB, and a large one in few pieces; with 64 KiB, 64 KiB messages come in bursts that slow
    /// sockets do not keep up with (results/2026-11-29-receives.md).
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
    /// The timer fired and has to be set again.
    TimerFired,
}

/// An address to connect to, known to one ring: see [`KernelRing::add_target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(usize);

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
    /// Ends the stream of a connection in both directions: what is in flight on its socket completes
    /// soon, each operation on its own, and nothing is sent after it. The hang-up itself has no completion.
    fn hang_up(&mut self, socket: BorrowedFd<'_>);
    /// Closes the socket.
    fn close(&mut self, conn: ConnId, socket: OwnedFd);
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

/// io_uring.
pub struct KernelRing {
    /// Field order matters: the ring is closed before the memory it may use is freed.
    ring: IoUring,
    wakeup: OwnedFd,
    /// Leaked if the ring is dropped with operations in flight.
    memory: ManuallyDrop<Memory>,
    reaped: VecDeque<cqueue::Entry>,
    backlog: VecDeque<squeue::Entry>,
    /// Operations whose last completion is outstanding.
    inflight: usize,
    timer_set: bool,
    overflows: u64,
}

/// Everything that the kernel reads from or writes to.
struct Memory {
    buffers: Buffers,
    flights: Vec<Option<InFlight>>,
    flights_free: Vec<u32>,
    /// The kernel copies it when it takes the submission.
    timer: Box<Timespec>,
    /// The count read from the wake-up descriptor; of no interest.
    signals: Box<u64>,
    /// Only grows: a connect may wait in the backlog.
    #[expect(clippy::vec_box, reason = "the kernel is given their addresses")]
    targets: Vec<Box<SocketAddrAny>>,
}

/// A flight that is with the kernel.
struct InFlight {
    conn: ConnId,
    flight: Flight,
    /// For a send of several pieces: what the kernel is pointed to.
    gather: Option<Box<Gather>>,
}

/// The header of a gathering send. Boxed, because the kernel has its address.
struct Gather {
    header: libc::msghdr,
    pieces: Vec<libc::iovec>,
}

impl std::fmt::Debug for KernelRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelRing")
            .field("inflight", &self.inflight)
            .finish_non_exhaustive()
    }
}

impl KernelRing {
    /// Sets a ring up on the calling thread, which has to be the one that uses it. `wakeup` is an
    /// eventfd in blocking mode. A reactor that waits in the ring is woken by it through a read; one
    /// that waits in the executor reads it there, and completions signal it while that is armed.
    pub fn new(config: RingConfig, wakeup: OwnedFd) -> io::Result<KernelRing> {
        // The completion queue takes a burst of one completion per connection without overflow; an
        // overflow costs speed, but loses nothing.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(config.entries.saturating_mul(4))
            .build(config.entries)?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_submit_stable() {
            return Err(Errno::INVAL.into());
        }
        let mut buffers = Buffers::new(config.buffers_count, config.buffer_size);
        buffers.register(&ring.submitter())?;
        let mut ring = KernelRing {
            ring,
            wakeup,
            memory: ManuallyDrop::new(Memory {
                buffers,
                flights: Vec::new(),
                flights_free: Vec::new(),
                timer: Box::new(Timespec::new()),
                signals: Box::new(0),
                targets: Vec::new(),
            }),
            reaped: VecDeque::new(),
            backlog: VecDeque::new(),
            inflight: 0,
            timer_set: false,
            overflows: 0,
        };
        match config.wait {
            Wait::Ring => ring.listen_for_signals(),
            Wait::Executor => {
                let wakeup = ring.wakeup.as_raw_fd();
                ring.ring.submitter().register_eventfd(wakeup)?;
                ring.ring.completion().disable_eventfd();
            }
        }
        Ok(ring)
    }

    /// Makes an address known, for [`KernelRing::connect`]. It is kept as long as the ring.
    pub fn add_target(&mut self, address: SocketAddr) -> Target {
        self.memory.targets.push(Box::new(address.into()));
        Target(self.memory.targets.len() - 1)
    }

    /// Connects the socket of a connection. For clients: a broker connects to nobody, so that this is
    /// not part of what a reactor needs.
    pub fn connect(&mut self, conn: ConnId, socket: BorrowedFd<'_>, target: Target) {
        let address = &self.memory.targets[target.0];
        let socket = Fd(socket.as_raw_fd());
        let entry = opcode::Connect::new(socket, address.as_ptr().cast(), address.addr_len());
        self.push(entry.build().user_data(Tag::Connect.with(pack(conn))));
    }

    /// Ends the connect of a connection early.
    pub fn cancel_connect(&mut self, conn: ConnId) {
        self.cancel(conn, Tag::Connect);
    }

    /// Ends the operation of this kind of a connection. The kernel finds it in a hash table of 256 lists.
    fn cancel(&mut self, conn: ConnId, kind: Tag) {
        let entry = opcode::AsyncCancel::new(kind.with(pack(conn))).build();
        self.push(entry.user_data(Tag::Cancel.with(pack(conn))));
    }

    /// Reads the wake-up counter, which takes it back to zero; completes when it is signalled.
    fn listen_for_signals(&mut self) {
        let wakeup = Fd(self.wakeup.as_raw_fd());
        let signals = (&raw mut *self.memory.signals).cast();
        let entry = opcode::Read::new(wakeup, signals, size_of::<u64>() as u32).build();
        self.push(entry.user_data(Tag::Signal.with(0)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.inflight += 1;
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            // The queue is full: more operations in one turn than it has entries.
            if self.submit() == Submission::Again || !self.try_push(&entry) {
                self.backlog.push_back(entry);
            }
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry is built in this module and refers to nothing but file descriptors,
        // which the kernel resolves at submission, and to `self.memory`, which stays allocated and in
        // place until the operation's last completion: flights are removed only by `land`, gathers,
        // targets and the timer are boxed, and `drop` leaks all of it if anything is in flight.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// Submits, and returns when at least `wanted` completions are there.
    fn enter(&mut self, wanted: u32) -> Submission {
        loop {
            while let Some(entry) = self.backlog.pop_front() {
                if !self.try_push(&entry) {
                    self.backlog.push_front(entry);
                    break;
                }
            }
            let pushed = self.ring.submission().len() as u32;
            // What did not fit the queue has to be submitted before anything is waited for.
            let wanted = if self.backlog.is_empty() { wanted } else { 0 };
            // Without this flag the kernel posts nothing: it defers all its work to us.
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: no argument is passed, and the flags ask for nothing but the submission of
            // what was pushed and the posting of completions.
            let entered = unsafe {
                let submitter = self.ring.submitter();
                submitter.enter::<libc::sigset_t>(pushed, wanted, flags, None)
            };
            match entered.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO)) {
                Ok(taken) if taken == pushed as usize && self.backlog.is_empty() => {
                    return Submission::Done;
                }
                // Part of it: the rest, once the kernel has memory again.
                Ok(0) if pushed > 0 => return Submission::Again,
                Ok(_) => {}
                // A signal ended the wait: the turn that follows finds nothing, and waits again.
                Err(Errno::INTR) if wanted > 0 => return Submission::Done,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::BUSY) => return Submission::Again,
                // Anything else (EBADR: completions were lost) leaves slots that wait forever.
                Err(errno) => panic!("io_uring_enter failed: {errno}"),
            }
        }
    }

    /// Stores the flight for the kernel, and makes the entry that sends it.
    fn launch(&mut self, conn: ConnId, socket: Fd, flight: Flight) -> squeue::Entry {
        let index = self.memory.flights_free.pop().unwrap_or_else(|| {
            self.memory.flights.push(None);
            (self.memory.flights.len() - 1) as u32
        });
        let stored = self.memory.flights[index as usize].insert(InFlight {
            conn,
            flight,
            gather: None,
        });
        let entry = match stored.flight.contiguous() {
            Some(bytes) => {
                let size = bytes.len().min(SEND_SIZE_MAX);
                opcode::Send::new(socket, bytes.as_ptr(), size as u32)
                    .flags(SEND_FLAGS)
                    .build()
            }
            None => {
                let gather = stored.gather.insert(Gather::new(&stored.flight));
                opcode::SendMsg::new(socket, &raw const gather.header)
                    .flags(SEND_FLAGS as u32)
                    .build()
            }
        };
        entry.user_data(Tag::Send.with(u64::from(index)))
    }

    fn land(&mut self, index: usize) -> InFlight {
        let landed = self.memory.flights[index].take();
        self.memory.flights_free.push(index as u32);
        landed.expect("a send completes once")
    }

    /// Cancels everything that is in flight, and drops what comes of it.
    fn end_all(&mut self) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(entry.user_data(Tag::Quiet.with(0)));
        for _ in 0..CANCEL_ROUNDS_MAX {
            self.submit();
            self.reap(usize::MAX);
            while self.pop().is_some() {}
        }
    }

    /// What a receive brought, and in which buffer.
    fn input_of(&mut self, result: Result<u32, Errno>, buffer: Option<u16>) -> Input {
        let buffers = &mut self.memory.buffers;
        let lease = buffer.map(|id| buffers.lend(id, result.unwrap_or(0)));
        match (result, lease) {
            (Ok(1..), Some(lease)) => Input::Chunk(lease),
            (Ok(1..), None) => panic!("a receive without a buffer"),
            (result, lease) => {
                if let Some(lease) = lease {
                    buffers.give_back(lease);
                }
                if result == Err(Errno::NOBUFS) {
                    buffers.give_more();
                }
                result.map_or_else(Input::Failed, |_| Input::End)
            }
        }
    }

    /// What a completion means; `None` for those that only say that a wish was heard.
    fn decode(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let (tag, rest) = Tag::split(entry.user_data());
        let more = cqueue::more(entry.flags());
        if !more {
            assert!(self.inflight > 0, "a completion without an operation");
            self.inflight -= 1;
        }
        let result = match entry.result() {
            value @ 0.. => Ok(value.unsigned_abs()),
            error => Err(Errno::from_raw_os_error(-error)),
        };
        match tag {
            Tag::Accept => Some(Completion::Accepted {
                listener: rest as usize,
                // SAFETY: a successful accept made this descriptor for us, and nobody else has it.
                result: result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) }),
                more,
            }),
            Tag::Receive => {
                let conn = unpack(rest);
                let input = self.input_of(result, cqueue::buffer_select(entry.flags()));
                Some(Completion::Received(Received { conn, input, more }))
            }
            Tag::Send => {
                let InFlight { conn, flight, .. } = self.land(rest as usize);
                Some(Completion::Sent {
                    conn,
                    flight,
                    result,
                })
            }
            Tag::Cancel => Some(Completion::Cancelled { conn: unpack(rest) }),
            Tag::Close => Some(Completion::Closed { conn: unpack(rest) }),
            Tag::Connect => Some(Completion::Connected {
                conn: unpack(rest),
                result: result.map(|_| ()),
            }),
            Tag::Timer => {
                self.timer_set = false;
                Some(Completion::TimerFired)
            }
            Tag::Signal => {
                // Fails only by the cancel of `drop`. What was signalled, the reactor looks up.
                if result.is_ok() {
                    self.listen_for_signals();
                }
                None
            }
            Tag::TimerUpdate => {
                // Too late: it fired, and `TimerFired` makes the reactor set it again.
                let is_fine = matches!(result, Ok(_) | Err(Errno::NOENT | Errno::ALREADY));
                assert!(is_fine, "the timer cannot be set: {result:?}");
                None
            }
            Tag::Quiet => None,
        }
    }
}

impl Ring for KernelRing {
    fn accept(&mut self, listener: usize, socket: BorrowedFd<'_>) {
        let entry = opcode::AcceptMulti::new(Fd(socket.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(entry.user_data(Tag::Accept.with(listener as u64)));
    }

    fn cancel_accept(&mut self, listener: usize) {
        let entry = opcode::AsyncCancel::new(Tag::Accept.with(listener as u64)).build();
        self.push(entry.user_data(Tag::Quiet.with(0)));
    }

    fn receive(&mut self, conn: ConnId, socket: BorrowedFd<'_>, how: Receive) {
        let socket = Fd(socket.as_raw_fd());
        let entry = match how {
            // Length 0: as much as the picked buffer holds.
            Receive::Once => opcode::Recv::new(socket, std::ptr::null_mut(), 0)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Receive::Multishot => opcode::RecvMulti::new(socket, GROUP).build(),
        };
        self.push(entry.user_data(Tag::Receive.with(pack(conn))));
    }

    fn send(&mut self, conn: ConnId, socket: BorrowedFd<'_>, flight: Flight) {
        let entry = self.launch(conn, Fd(socket.as_raw_fd()), flight);
        self.push(entry);
    }

    fn cancel_receive(&mut self, conn: ConnId) {
        self.cancel(conn, Tag::Receive);
    }

    // Not a cancel by file descriptor: the kernel looks for its target among all that is armed, on
    // whatever socket (results/2026-11-29-closes.md). A shutdown wakes what waits on this one.
    fn hang_up(&mut self, socket: BorrowedFd<'_>) {
        // Fails if the stream has ended already: then nothing waits on it.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }

    fn close(&mut self, conn: ConnId, socket: OwnedFd) {
        let entry = opcode::Close::new(Fd(socket.into_raw_fd())).build();
        self.push(entry.user_data(Tag::Close.with(pack(conn))));
    }

    fn set_timer(&mut self, at: Instant) {
        let nanos = at.as_nanos();
        *self.memory.timer = Timespec::new()
            .sec(nanos / NANOS_PER_SEC)
            .nsec((nanos % NANOS_PER_SEC) as u32);
        let timer = &raw const *self.memory.timer;
        if self.timer_set {
            // It keeps its clock, which an update may not name.
            let entry = opcode::TimeoutUpdate::new(Tag::Timer.with(0), timer)
                .flags(TimeoutFlags::ABS)
                .build();
            self.push(entry.user_data(Tag::TimerUpdate.with(0)));
        } else {
            self.timer_set = true;
            let entry = opcode::Timeout::new(timer)
                .flags(TimeoutFlags::ABS | TimeoutFlags::BOOTTIME)
                .build();
            self.push(entry.user_data(Tag::Timer.with(0)));
        }
    }

    fn reap(&mut self, count_max: usize) {
        let room = count_max.saturating_sub(self.reaped.len());
        self.reaped.extend(self.ring.completion().take(room));
    }

    fn pop(&mut self) -> Option<Completion> {
        while let Some(entry) = self.reaped.pop_front() {
            if let Some(completion) = self.decode(&entry) {
                return Some(completion);
            }
        }
        None
    }

    fn is_ready(&mut self) -> bool {
        !self.reaped.is_empty() || !self.ring.completion().is_empty()
    }

    fn bytes(&self, lease: &Lease) -> &[u8] {
        self.memory.buffers.bytes(lease)
    }

    fn give_back(&mut self, lease: Lease) {
        self.memory.buffers.give_back(lease);
    }

    fn submit(&mut self) -> Submission {
        let queue = self.ring.submission();
        let overflowed = queue.cq_overflow();
        let idle = queue.is_empty() && !queue.taskrun() && !overflowed;
        drop(queue);
        self.overflows += u64::from(overflowed);
        if idle && self.backlog.is_empty() {
            return Submission::Done;
        }
        self.enter(0)
    }

    // No wake-up is lost: the kernel waits only while the queue has fewer completions than asked for,
    // and looks again after it announced the waiter to itself.
    fn submit_and_wait(&mut self) -> Submission {
        self.enter(1)
    }

    // No notice is lost: the kernel signals only when it adds work to an empty list, and only if
    // the disabled flag is clear at that moment. The flag is cleared first; then `enter` empties the
    // list with an atomic exchange, and runs what was on it. Work added before the exchange is thus
    // posted when `enter` returns, where the caller looks; work added after it finds an empty list
    // and, the exchange being a full barrier, the cleared flag: it signals. The taskrun flag would
    // save the call, but is not ordered with the disabled flag on every architecture.
    fn arm_notice(&mut self) -> Submission {
        self.ring.completion().enable_eventfd();
        self.enter(0)
    }

    fn disarm_notice(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    fn overflow_count(&self) -> u64 {
        self.overflows
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        self.end_all();
        if self.inflight > 0 {
            // The kernel ends the operations of a closed ring on its own time: it may still use the
            // memory. The process is about to end, so leaking it costs nothing.
            return;
        }
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        // SAFETY: dropped once, here, and not used again. Nothing is in flight and the buffer ring
        // is unregistered, so the kernel has no use for the memory.
        unsafe { ManuallyDrop::drop(&mut self.memory) }
    }
}

impl Gather {
    /// The header for what is left of the flight, or as much of it as one send takes.
    fn new(flight: &Flight) -> Box<Gather> {
        let pieces: Vec<_> = flight
            .pieces(PIECES_MAX, SEND_SIZE_MAX)
            .map(|piece| libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            })
            .collect();
        // SAFETY: a C struct of integers and pointers, for which all zeros is a valid value.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        let mut gather = Box::new(Gather { header, pieces });
        // The heap memory of `pieces` stays in place: nobody touches the vector again.
        gather.header.msg_iov = gather.pieces.as_mut_ptr();
        gather.header.msg_iovlen = gather.pieces.len();
        gather
    }
}

/// What an operation is, in the top byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Accept = 1,
    Receive,
    Send,
    Cancel,
    Close,
    Timer,
    TimerUpdate,
    /// Somebody signalled the wake-up descriptor.
    Signal,
    /// The completion says nothing.
    Quiet,
    Connect,
}

impl Tag {
    fn with(self, rest: u64) -> u64 {
        assert!(rest < 1 << TAG_SHIFT, "the rest has 56 bits");
        (self as u64) << TAG_SHIFT | rest
    }

    fn split(user_data: u64) -> (Tag, u64) {
        let tag = match user_data >> TAG_SHIFT {
            1 => Tag::Accept,
            2 => Tag::Receive,
            3 => Tag::Send,
            4 => Tag::Cancel,
            5 => Tag::Close,
            6 => Tag::Timer,
            7 => Tag::TimerUpdate,
            8 => Tag::Signal,
            9 => Tag::Quiet,
            10 => Tag::Connect,
            other => panic!("a completion of an unknown kind: {other}"),
        };
        (tag, user_data & ((1 << TAG_SHIFT) - 1))
    }
}

/// 24 bits of index above 32 bits of generation.
fn pack(conn: ConnId) -> u64 {
    u64::from(conn.index) << 32 | u64::from(conn.generation)
}

fn unpack(rest: u64) -> ConnId {
    ConnId {
        index: (rest >> 32) as u32,
        generation: rest as u32,
    }
}

/// Binds a socket that is about to connect to a local address and leaves its port to the connect: then
/// one address has as many ports for each target as there are, instead of so many for all.
pub fn bind_source(socket: BorrowedFd<'_>, address: IpAddr) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and the option is an integer of this size,
    // which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size,
        )
    };
    if result != 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    rustix::net::bind(socket, &SocketAddr::new(address, 0))
}

/// The file that the executor waits on while the reactor is parked. Closed by the executor.
pub fn wakeup_file(wakeup: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is open and owned, and its ownership goes to the file.
    unsafe { BufferedFile::from_raw_fd(wakeup.into_raw_fd()) }
}

/// No SIGPIPE; and the kernel goes on by itself until all is sent, so that a short send is an error.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
/// IOV_MAX: what one gathering send may consist of. The rest follows when it completed.
const PIECES_MAX: usize = 1024;
/// Bytes of one send. What the socket took of it is told at its end only: until then a client that reads
/// all the time looks as if it had not read any of it, and `unsent_bytes_max` (2 MiB) is judged by that.
const SEND_SIZE_MAX: usize = 64 * 1024;
/// A cancelled socket operation completes in the call that cancels it, or the next.
const CANCEL_ROUNDS_MAX: usize = 4;
const NANOS_PER_SEC: u64 = 1_000_000_000;
const TAG_SHIFT: u32 = 56;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use ringmq_core::connection::{Chunk, Output};
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn ring(entries: u32, buffers_count: u16) -> KernelRing {
        let config = RingConfig {
            entries,
            buffers_count,
            buffer_size: 64,
            ..RingConfig::default()
        };
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        KernelRing::new(config, wakeup).unwrap()
    }

    fn conn(index: u32) -> ConnId {
        ConnId {
            index,
            generation: 7,
        }
    }

    /// Everything that completes without waiting.
    fn completions(ring: &mut KernelRing) -> Vec<Completion> {
        let mut all = Vec::new();
        loop {
            ring.submit();
            ring.reap(usize::MAX);
            let before = all.len();
            all.extend(std::iter::from_fn(|| ring.pop()));
            if all.len() == before {
                return all;
            }
        }
    }

    #[test]
    fn operations_beyond_the_queue_and_completions_beyond_theirs_are_not_lost() {
        // One entry for submissions, four for completions.
        let mut ring = ring(1, 64);
        let mut pairs: Vec<_> = (0..64).map(|_| UnixStream::pair().unwrap()).collect();
        for (index, (ours, theirs)) in pairs.iter_mut().enumerate() {
            ring.receive(conn(index as u32), ours.as_fd(), Receive::Multishot);
            theirs.write_all(&[index as u8]).unwrap();
        }
        for round in 0..3 {
            let mut seen = [0; 64];
            for completion in completions(&mut ring) {
                let Completion::Received(Received { conn, input, more }) = completion else {
                    panic!("{completion:?}")
                };
                let index = conn.index as usize;
                if let Input::Chunk(lease) = input {
                    assert_eq!(ring.bytes(&lease), [conn.index as u8]);
                    seen[index] += 1;
                    ring.give_back(lease);
                }
                // A multishot whose completion does not fit ends with it.
                if !more {
                    ring.receive(conn, pairs[index].0.as_fd(), Receive::Multishot);
                }
            }
            assert_eq!(seen, [1; 64], "round {round}");
            // All wake at once, outside of a submission.
            ring.submit();
            for (index, (_, theirs)) in pairs.iter_mut().enumerate() {
                theirs.write_all(&[index as u8]).unwrap();
            }
        }
        assert!(ring.overflow_count() > 0);
    }

    #[test]
    fn a_receive_without_a_free_buffer_says_so_and_works_again_with_one() {
        let mut ring = ring(8, 1);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[1; 100]).unwrap();
        ring.receive(conn(3), ours.as_fd(), Receive::Multishot);
        let mut found = completions(&mut ring).into_iter();
        let Some(Completion::Received(Received {
            input: Input::Chunk(lease),
            ..
        })) = found.next()
        else {
            panic!("no chunk")
        };
        assert_eq!(lease.size(), 64);
        let exhausted = found.next();
        assert!(
            matches!(
                &exhausted,
                Some(Completion::Received(Received {
                    input: Input::Failed(Errno::NOBUFS),
                    more: false,
                    ..
                }))
            ),
            "{exhausted:?}"
        );
        ring.give_back(lease);
        ring.receive(conn(3), ours.as_fd(), Receive::Once);
        let rest = completions(&mut ring);
        assert!(
            matches!(
                &rest[..],
                [Completion::Received(Received {
                    input: Input::Chunk(lease),
                    more: false,
                    ..
                })] if lease.size() == 36
            ),
            "{rest:?}"
        );
    }

    /// A connected pair of each kind of socket that a listener accepts.
    fn pairs() -> [(OwnedFd, OwnedFd); 2] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        [(ours.into(), theirs.into()), (accepted.into(), tcp.into())]
    }

    #[test]
    fn a_hang_up_ends_what_waits_on_the_socket_and_nothing_else() {
        for half_closed in [false, true] {
            for (ours, theirs) in pairs() {
                let mut ring = ring(8, 4);
                let (other, _peer) = UnixStream::pair().unwrap();
                ring.receive(conn(2), other.as_fd(), Receive::Multishot);
                ring.receive(conn(1), ours.as_fd(), Receive::Multishot);
                let mut expected = 1;
                if half_closed {
                    rustix::net::shutdown(&ours, rustix::net::Shutdown::Write).unwrap();
                } else {
                    // One send is more than the sockets take: it waits in the kernel.
                    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
                    rustix::net::sockopt::set_socket_recv_buffer_size(&theirs, 4096).unwrap();
                    let output = Output::Many(vec![Chunk::Own(vec![0; 4 << 20])]);
                    let mut flight = Flight::new(output);
                    while let Some(Completion::Sent {
                        flight: back,
                        result,
                        ..
                    }) = {
                        ring.send(conn(1), ours.as_fd(), flight);
                        completions(&mut ring).pop()
                    } {
                        flight = back;
                        flight.advance(result.unwrap());
                    }
                    expected = 2;
                }
                assert!(completions(&mut ring).is_empty());
                let before = ring.inflight;
                ring.hang_up(ours.as_fd());
                let ended = completions(&mut ring);
                assert_eq!(
                    before - ring.inflight,
                    expected,
                    "nothing but what was armed"
                );
                for completion in &ended {
                    match completion {
                        Completion::Sent {
                            conn: of, flight, ..
                        } => {
                            assert_eq!((*of, flight.is_landed()), (conn(1), false));
                        }
                        Completion::Received(Received {
                            conn: of,
                            input: Input::End,
                            more: false,
                        }) => {
                            assert_eq!(*of, conn(1));
                        }
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(ended.len(), expected);
            }
        }
    }

    #[test]
    fn what_the_socket_took_of_a_large_flight_is_told_part_by_part() {
        const SIZE: usize = 5 * SEND_SIZE_MAX / 2;
        for output in [
            Output::One(vec![7; SIZE]),
            Output::Many(vec![
                Chunk::Own(vec![7; 100]),
                Chunk::Own(vec![7; SIZE - 100]),
            ]),
        ] {
            let mut ring = ring(8, 1);
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let reader = std::thread::spawn(move || {
                let mut bytes = vec![0; SIZE];
                std::io::Read::read_exact(&mut theirs, &mut bytes).unwrap();
                bytes
            });
            let mut flight = Flight::new(output);
            let mut parts = Vec::new();
            while !flight.is_landed() {
                ring.send(conn(1), ours.as_fd(), flight);
                ring.submit_and_wait();
                let ended = completions(&mut ring).pop().expect("a send completes");
                let Completion::Sent {
                    flight: back,
                    result,
                    ..
                } = ended
                else {
                    panic!("{ended:?}")
                };
                flight = back;
                parts.push(result.unwrap() as usize);
                flight.advance(*parts.last().unwrap() as u32);
            }
            assert_eq!(parts, [SEND_SIZE_MAX, SEND_SIZE_MAX, SEND_SIZE_MAX / 2]);
            assert!(reader.join().unwrap().iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn a_ring_dropped_in_the_middle_of_its_work_ends_it_first() {
        let mut ring = ring(8, 4);
        let (ours, theirs) = UnixStream::pair().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
        ring.receive(conn(1), ours.as_fd(), Receive::Multishot);
        let output = Output::One(vec![0; 1 << 21]);
        ring.send(conn(1), ours.as_fd(), Flight::new(output));
        ring.set_timer(Instant::from_nanos(u64::MAX / 2));
        assert!(completions(&mut ring).is_empty());
        assert_eq!(ring.inflight, 4, "receive, send, timer and wake-up");
        ring.end_all();
        assert_eq!(ring.inflight, 0);
        drop((ring, theirs));
    }

    #[test]
    fn a_timer_that_is_set_again_fires_at_the_new_time_and_once() {
        let mut ring = ring(8, 1);
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now = boot.tv_sec as u64 * NANOS_PER_SEC + boot.tv_nsec as u64;
        for far in [3600, 60, 0] {
            ring.set_timer(Instant::from_nanos(now + far * NANOS_PER_SEC));
            ring.submit();
        }
        let mut fired = Vec::new();
        while fired.is_empty() {
            ring.submit_and_wait();
            fired = completions(&mut ring);
        }
        assert!(matches!(fired[..], [Completion::TimerFired]), "{fired:?}");
        // Set after it fired, it is a timer of its own.
        ring.set_timer(Instant::from_nanos(now));
        ring.submit_and_wait();
        let again = completions(&mut ring);
        assert!(matches!(again[..], [Completion::TimerFired]), "{again:?}");
    }

    #[test]
    fn a_connect_reaches_a_listener_and_says_when_there_is_none() {
        let mut ring = ring(8, 1);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = ring.add_target(address);
        let connect = |ring: &mut KernelRing, index| {
            let socket = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            )
            .unwrap();
            ring.connect(conn(index), socket.as_fd(), target);
            ring.submit_and_wait();
            let ended = completions(ring);
            let [Completion::Connected { conn: of, result }] = ended[..] else {
                panic!("{ended:?}")
            };
            assert_eq!(of, conn(index));
            (socket, result)
        };
        let (socket, result) = connect(&mut ring, 1);
        assert_eq!(result, Ok(()));
        let (accepted, peer) = listener.accept().unwrap();
        let ours = rustix::net::getsockname(&socket).unwrap();
        assert_eq!(peer, ours.try_into().unwrap());
        drop((accepted, listener, socket));
        assert_eq!(connect(&mut ring, 2).1, Err(Errno::CONNREFUSED));
    }

    #[test]
    fn a_send_to_a_closed_peer_is_an_error_and_no_signal() {
        let mut ring = ring(8, 1);
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let output = Output::One(b"x".to_vec());
        ring.send(conn(1), ours.as_fd(), Flight::new(output));
        let ended = completions(&mut ring);
        let [Completion::Sent { result, .. }] = &ended[..] else {
            panic!("{ended:?}")
        };
        assert_eq!(*result, Err(Errno::PIPE));
    }
}
