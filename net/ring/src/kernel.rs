//! io_uring: [`KernelRing`].
//!
//! Invariants:
//! - what the kernel reads or writes belongs to the ring from the submission until the completion:
//!   outputs sit in `Sends`, blocks of files in `Files`, receive buffers in `Buffers`. Nobody else can free them.
//! - an operation (a write of a file with its sync is one) has one last completion (without `F_MORE`); `inflight` counts those outstanding.
//! - a push never fails: what the submission queue has no room for waits in `backlog`, in order; entries that
//!   belong together stay together.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::types::{CancelBuilder, Fd, TimeoutFlags, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, opcode, squeue};
use ringmq_core::ids::ConnId;
use ringmq_core::store::OpId;
use ringmq_core::time::Instant;
use rustix::io::Errno;
use rustix::net::SocketAddrAny;
use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::buffers::{Buffers, GROUP, Lease};
use crate::files::{Files, Landed};
use crate::flight::Flight;
use crate::ring::{
    Completion, FileWrite, Input, Receive, Received, Ring, RingConfig, Submission, Wait,
};
use crate::sends::Sends;
use crate::tag::{Tag, pack, unpack};

/// An address to connect to, known to one ring: see [`KernelRing::add_target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(usize);

/// io_uring.
pub struct KernelRing {
    /// Field order matters: the ring is closed before the memory it may use is freed.
    ring: IoUring,
    wakeup: OwnedFd,
    /// Leaked if the ring is dropped with operations in flight.
    memory: ManuallyDrop<Memory>,
    reaped: VecDeque<cqueue::Entry>,
    backlog: VecDeque<Vec<squeue::Entry>>,
    /// Operations whose last completion is outstanding.
    inflight: usize,
    timer_set: bool,
    overflows: u64,
}

/// Everything that the kernel reads from or writes to.
struct Memory {
    buffers: Buffers,
    sends: Sends,
    files: Files,
    /// The kernel copies it when it takes the submission.
    timer: Box<Timespec>,
    /// The count read from the wake-up descriptor; of no interest.
    signals: Box<u64>,
    /// Only grows: a connect may wait in the backlog.
    #[expect(clippy::vec_box, reason = "the kernel is given their addresses")]
    targets: Vec<Box<SocketAddrAny>>,
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
    /// eventfd in blocking mode. A reactor that waits in the ring is woken by it through a read;
    /// one that waits in the executor reads it there, and completions signal it while that is
    /// armed.
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
        confine_workers(&ring.submitter())?;
        let mut buffers = Buffers::new(config.buffers_count, config.buffer_size);
        buffers.register(&ring.submitter())?;
        let mut ring = KernelRing {
            ring,
            wakeup,
            memory: ManuallyDrop::new(Memory {
                buffers,
                sends: Sends::default(),
                files: Files::default(),
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
    pub fn add_target(&mut self, address: impl Into<SocketAddrAny>) -> Target {
        self.memory.targets.push(Box::new(address.into()));
        Target(self.memory.targets.len() - 1)
    }

    /// Connects the socket of a connection. For clients: a broker connects to nobody, so that this
    /// is not part of what a reactor needs.
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

    /// Ends the operation of this kind of a connection. The kernel finds it in a hash table of 256
    /// lists.
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
        self.push_chain(&[entry]);
    }

    /// Pushes the entries of one operation, which the kernel has to get in one submission.
    fn push_chain(&mut self, entries: &[squeue::Entry]) {
        self.inflight += 1;
        if !self.backlog.is_empty() || !self.try_push(entries) {
            // The queue is full: more operations in one turn than it has entries.
            if self.submit() == Submission::Again || !self.try_push(entries) {
                self.backlog.push_back(entries.to_vec());
            }
        }
    }

    fn try_push(&mut self, entries: &[squeue::Entry]) -> bool {
        // SAFETY: every entry is built in this module and refers to nothing but file descriptors,
        // which the kernel resolves at submission, and to `self.memory`, which stays allocated and in
        // place until the operation's last completion: sends and blocks are removed only by `land`, and the
        // bytes of both are on the heap; gathers, targets and the timer are boxed, and `drop` leaks all of it if
        // anything is in flight.
        unsafe { self.ring.submission().push_multiple(entries).is_ok() }
    }

    /// Submits, and returns when at least `wanted` completions are there.
    fn enter(&mut self, wanted: u32) -> Submission {
        loop {
            while let Some(entries) = self.backlog.pop_front() {
                if !self.try_push(&entries) {
                    self.backlog.push_front(entries);
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
                // The rest, once the kernel has memory again.
                Ok(0) if pushed > 0 => return Submission::Again,
                Ok(taken) if taken < pushed as usize => {
                    self.inflight += self.memory.files.distrust_chains();
                }
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
                let (conn, flight) = self.memory.sends.land(rest as usize);
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
            Tag::Write | Tag::Sync => {
                let landed = self.memory.files.land(tag, rest as usize, result);
                let Landed { op, result, block } = landed?;
                Some(Completion::Stored { op, result, block })
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
        let socket = Fd(socket.as_raw_fd());
        let (index, entry) = self.memory.sends.launch(conn, socket, flight);
        self.push(entry.user_data(Tag::Send.with(u64::from(index))));
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

    fn write(&mut self, op: OpId, file: &Arc<OwnedFd>, write: FileWrite) {
        let entries = self.memory.files.launch_write(op, file, write);
        let room = self.ring.params().sq_entries() as usize;
        assert!(entries.len() <= room, "a chain fits the queue");
        self.push_chain(&entries);
    }

    fn sync(&mut self, op: OpId, file: &Arc<OwnedFd>) {
        let entries = self.memory.files.launch_sync(op, file);
        self.push_chain(&entries);
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

    // No wake-up is lost: the kernel waits only while the queue has fewer completions than asked
    // for, and looks again after it announced the waiter to itself.
    fn submit_and_wait(&mut self) -> Submission {
        self.enter(1)
    }

    // No notice is lost: the kernel signals only when it adds work to an empty list, and only if
    // the disabled flag is clear at that moment. The flag is cleared first; then `enter` empties
    // the list with an atomic exchange, and runs what was on it. Work added before the exchange is
    // thus posted when `enter` returns, where the caller looks; work added after it finds an empty
    // list and, the exchange being a full barrier, the cleared flag: it signals. The taskrun flag
    // would save the call, but is not ordered with the disabled flag on every architecture.
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

/// Keeps the threads of the kernel that carry out what cannot be done at once (writes to files, and their syncs) on the
/// cores of the process. By themselves they run on any core of its cpuset, whatever its affinity
/// [io_uring_register(2), IORING_REGISTER_IOWQ_AFF].
fn confine_workers(submitter: &Submitter<'_>) -> io::Result<()> {
    // Not those of this thread, which may have a core of its own.
    let allowed = sched_getaffinity(Some(getpid()))?;
    // SAFETY: a set of zeros is one without CPUs.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)) {
        // SAFETY: both kinds of set have room for the same number of CPUs.
        unsafe { libc::CPU_SET(cpu, &mut cores) };
    }
    submitter.register_iowq_aff(&cores)
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

/// A cancelled socket operation completes in the call that cancels it, or the next.
const CANCEL_ROUNDS_MAX: usize = 4;
const NANOS_PER_SEC: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
