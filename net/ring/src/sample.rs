//! Where a thread is that does not come back: its program counter and its stack, taken by a signal.
//!
//! The thread is interrupted, and writes both into a pipe with one system call. It allocates nothing, takes no lock and
//! reads no memory itself: the kernel copies the stack, and stops at what is not mapped. So a thread may be sampled
//! wherever it is, in the allocator too. Whoever asked reads the pipe, and makes names of addresses at leisure.
//!
//! Invariant: at most one sample is wanted at a time ([`Sampler::sample`] takes `&mut self`, and there is one sampler).

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::Pid;

/// Takes samples of threads of this process.
#[derive(Debug)]
pub struct Sampler {
    samples: PipeReader,
}

/// Where a thread was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The address of the instruction that was to come next.
    pub counter: u64,
    /// The words of its stack, from its top on. Those that are addresses of code are where functions return to, or have been.
    pub stack: Vec<u64>,
}

impl Sampler {
    /// Installs the handler of [`SIGNAL`]. `None`: there is a sampler already.
    ///
    /// # Errors
    /// There is no pipe, or the kernel does not take the handler.
    pub fn install() -> io::Result<Option<Sampler>> {
        if IS_INSTALLED.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
        let (samples, writer): (PipeReader, PipeWriter) = io::pipe()?;
        ioctl_fionbio(&samples, true)?;
        ioctl_fionbio(&writer, true)?;
        // Open as long as the process runs: a signal may come at any time.
        PIPE.store(writer.into_raw_fd(), Ordering::Release);
        install_handler()?;
        Ok(Some(Sampler { samples }))
    }

    /// Takes a sample of a thread. `None`: it did not answer in time, or is gone.
    pub fn sample(&mut self, thread: Pid) -> Option<Sample> {
        let mut bytes = vec![0; HEAD_SIZE + STACK_SIZE_MAX];
        // What came too late for whoever asked before.
        while self.samples.read(&mut bytes).is_ok_and(|size| size > 0) {}
        IS_WANTED.store(true, Ordering::Release);
        let sent = send_signal(thread);
        let has_answered = sent && self.wait();
        IS_WANTED.store(false, Ordering::Relaxed);
        if !has_answered {
            return None;
        }
        let size = self.samples.read(&mut bytes).ok()?;
        let words = bytes[..size].chunks_exact(size_of::<u64>());
        let mut words = words.map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
        Some(Sample {
            counter: words.next()?,
            stack: words.collect(),
        })
    }

    /// Until there is something to read.
    fn wait(&self) -> bool {
        let patience = Timespec::try_from(PATIENCE).expect("a short time fits");
        let mut ready = [PollFd::new(&self.samples, PollFlags::IN)];
        poll(&mut ready, Some(&patience)).is_ok_and(|count| count > 0)
    }
}

fn install_handler() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask. The handler lives as long as the program, has the
    // signature that SA_SIGINFO asks for, and does only what a handler may (see there).
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Interrupts one thread; false: it is gone.
fn send_signal(thread: Pid) -> bool {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: `tgkill` takes three integers and touches no memory of ours. The signal has a handler: `install` came before.
    let result = unsafe {
        let thread = thread.as_raw_nonzero().get();
        libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL)
    };
    result == 0
}

/// Runs on the thread that is sampled, between any two of its instructions.
extern "C" fn on_signal(
    _signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    if !IS_WANTED.swap(false, Ordering::Acquire) {
        return; // Somebody else has sent it.
    }
    // SAFETY: with SA_SIGINFO the kernel passes a `ucontext_t`, which lives until the handler returns.
    let (counter, stack) = registers(unsafe { &*context.cast::<libc::ucontext_t>() });
    let parts = [
        libc::iovec {
            iov_base: (&raw const counter).cast_mut().cast(),
            iov_len: HEAD_SIZE,
        },
        libc::iovec {
            iov_base: stack as *mut libc::c_void,
            iov_len: STACK_SIZE_MAX,
        },
    ];
    // SAFETY: `writev` may be called in a handler. It only reads: `counter` is a local variable of this size, and what of the
    // stack is not mapped ends the copy, or fails it, in the kernel. Nothing here reads that memory. The pipe is never closed
    // and does not block. `errno` is put back, because the interrupted code may be about to look at it.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::writev(PIPE.load(Ordering::Acquire), parts.as_ptr(), 2);
        *errno = before;
    }
}

/// Program counter and stack pointer.
#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> (u64, u64) {
    let registers = &context.uc_mcontext.gregs;
    let of = |index: libc::c_int| registers[index as usize] as u64;
    (of(libc::REG_RIP), of(libc::REG_RSP))
}

/// Program counter and stack pointer.
#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> (u64, u64) {
    (context.uc_mcontext.pc, context.uc_mcontext.sp)
}

/// Ignored by a process without a handler, and used by nobody else: no socket of ours has an owner for urgent data.
const SIGNAL: libc::c_int = libc::SIGURG;
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
static IS_WANTED: AtomicBool = AtomicBool::new(false);
static PIPE: AtomicI32 = AtomicI32::new(-1);
const HEAD_SIZE: usize = size_of::<u64>();
/// Deeper than a turn goes; a quarter of what a pipe holds.
const STACK_SIZE_MAX: usize = 16 * 1024;
/// A thread that runs takes a signal within microseconds.
const PATIENCE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_thread_that_runs_is_found_where_it_is() {
        let mut sampler = Sampler::install().unwrap().expect("the first one");
        assert!(Sampler::install().unwrap().is_none(), "there is one only");
        let goes_on = Arc::new(AtomicBool::new(true));
        let (told, thread_id) = std::sync::mpsc::channel();
        let flag = Arc::clone(&goes_on);
        let thread = std::thread::spawn(move || {
            // Computed, as far as the compiler knows: a constant would be elsewhere.
            let marker = std::hint::black_box(0x5EED_0000_5EED_u64);
            std::hint::black_box(&marker);
            told.send(rustix::thread::gettid()).unwrap();
            while flag.load(Ordering::Relaxed) {
                std::hint::black_box(&marker);
            }
        });
        let thread_id = thread_id.recv().unwrap();
        let of = |sample: &Sample| sample.stack.contains(&0x5EED_0000_5EED);
        // On a busy machine the thread may have no core for long.
        let samples = (0..1000).filter_map(|_| sampler.sample(thread_id));
        let samples: Vec<Sample> = samples.take(20).collect();
        goes_on.store(false, Ordering::Relaxed);
        thread.join().unwrap();
        assert!(samples.iter().any(of), "its stack is seen");
        assert!(samples.iter().all(|sample| sample.counter != 0));
        assert_eq!(sampler.sample(thread_id), None, "it is gone");
    }
}
