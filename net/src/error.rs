//! Why a broker cannot start, and what to do about it.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::store::StoreError;
use crate::transport::{Endpoint, TlsProblem};

/// Why a broker cannot start. The text says what is wrong and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The number of shards is out of range.
    ShardCount {
        /// As configured.
        wanted: usize,
    },
    /// The list of CPUs does not have one CPU per shard.
    CoreCount {
        /// Shards configured.
        shards: usize,
        /// CPUs configured.
        cores: usize,
    },
    /// A CPU does not exist, or this process may not use it.
    CoreForbidden {
        /// As configured.
        cpu: usize,
    },
    /// An address cannot be listened on.
    Listen {
        /// As configured.
        endpoint: Endpoint,
        /// Why.
        problem: ListenProblem,
    },
    /// A file of TLS cannot be used.
    Tls {
        /// Of which listener.
        endpoint: Endpoint,
        /// Why.
        problem: TlsProblem,
    },
    /// The data directory cannot be used.
    Store(StoreError),
    /// io_uring cannot be used.
    Ring(RingProblem),
    /// The executor cannot start.
    Executor {
        /// What it says.
        message: String,
    },
    /// A system call failed that rarely fails.
    System {
        /// What was tried.
        action: &'static str,
        /// The errno, or 0.
        errno: i32,
        /// In words.
        message: String,
    },
    /// A shard panicked while it started.
    Panicked,
}

/// Why an address cannot be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenProblem {
    /// Another process listens there.
    InUse,
    /// The port is reserved for privileged processes.
    Forbidden,
    /// No interface has this address.
    NotLocal,
    /// The machine has no such kind of addresses (IPv6 is off).
    NoFamily,
    /// Out of file descriptors.
    Descriptors,
    /// The service manager passed no socket of this name, or not to this process.
    NotPassed,
    /// It passed several of this name.
    PassedTwice,
    /// What it passed does not listen for streams.
    NoListener,
    /// Something else: the errno.
    Other(i32),
}

/// Why io_uring cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingProblem {
    /// `kernel.io_uring_disabled` is 1 or 2.
    Disabled {
        /// Its value.
        level: u8,
    },
    /// A seccomp filter (usual in containers) or a security module forbids it.
    Forbidden,
    /// The kernel has no io_uring, or a seccomp filter says so.
    Missing,
    /// The kernel is older than 6.1.
    TooOld {
        /// Release of the running kernel.
        release: String,
    },
    /// RLIMIT_MEMLOCK, or the memory of the machine, is too small.
    Memory,
    /// Out of file descriptors.
    Descriptors,
    /// Something else: the errno.
    Other(i32),
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::ShardCount { wanted } => {
                write!(f, "{wanted} shards: choose 1 to 64")
            }
            StartError::CoreCount { shards, cores } => write!(
                f,
                "{cores} CPUs are listed for {shards} shards: list one for each shard, or none"
            ),
            StartError::CoreForbidden { cpu } => write!(
                f,
                "CPU {cpu} does not exist, or this process may not use it: list CPUs that \
                 `taskset -p` shows as allowed, or none"
            ),
            StartError::Listen { endpoint, problem } => {
                write!(f, "cannot listen on {endpoint}: {problem}")
            }
            StartError::Tls { endpoint, problem } => {
                write!(f, "cannot use TLS on {endpoint}: {problem}")
            }
            StartError::Store(error) => write!(f, "{error}"),
            StartError::Ring(problem) => write!(f, "cannot use io_uring: {problem}"),
            StartError::Executor { message } => write!(
                f,
                "cannot start the executor of a shard: {message}; check that io_uring is allowed, \
                 and raise the locked memory limit (ulimit -l, LimitMEMLOCK) to 512 KiB per shard"
            ),
            StartError::System {
                action,
                message,
                errno: _,
            } => write!(
                f,
                "cannot {action}: {message}; check the limits of this process (ulimit -a)"
            ),
            StartError::Panicked => write!(f, "a shard panicked while it started; see above"),
        }
    }
}

impl fmt::Display for ListenProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenProblem::InUse => write!(
                f,
                "the port is in use; stop the other process (`ss -atnp` shows it) or choose \
                 another port"
            ),
            ListenProblem::Forbidden => write!(
                f,
                "permission denied; choose a port from 1024 up, or allow lower ones \
                 (CAP_NET_BIND_SERVICE, net.ipv4.ip_unprivileged_port_start)"
            ),
            ListenProblem::NotLocal => write!(
                f,
                "no network interface has this address; use one that `ip address` shows, or \
                 0.0.0.0 or [::] for all"
            ),
            ListenProblem::NoFamily => write!(
                f,
                "this machine does not support this kind of address; is IPv6 turned off \
                 (net.ipv6.conf.all.disable_ipv6)?"
            ),
            ListenProblem::Descriptors => write!(
                f,
                "too many open files; raise the limit (ulimit -n, LimitNOFILE)"
            ),
            ListenProblem::NotPassed => write!(
                f,
                "the service manager passed no socket of this name; start ringmq from a service whose \
                 .socket unit has it as FileDescriptorName="
            ),
            ListenProblem::PassedTwice => write!(
                f,
                "several sockets of this name were passed; give each a .socket unit with a \
                 FileDescriptorName= of its own"
            ),
            ListenProblem::NoListener => write!(
                f,
                "the socket that was passed does not listen for streams; use ListenStream= with \
                 Accept=no in the .socket unit"
            ),
            ListenProblem::Other(errno) => write!(f, "{}", Errno::from_raw_os_error(*errno)),
        }
    }
}

impl fmt::Display for RingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingProblem::Disabled { level } => write!(
                f,
                "it is disabled by kernel.io_uring_disabled={level}; allow it with `sysctl -w \
                 kernel.io_uring_disabled=0`"
            ),
            RingProblem::Forbidden => write!(
                f,
                "permission denied, most likely by the seccomp profile of a container; use a \
                 profile that allows io_uring_setup, io_uring_enter and io_uring_register"
            ),
            RingProblem::Missing => write!(
                f,
                "the kernel does not have it, or a seccomp profile hides it; use a kernel from \
                 6.1 up, and a profile that allows io_uring_setup, io_uring_enter and \
                 io_uring_register"
            ),
            RingProblem::TooOld { release } => write!(
                f,
                "kernel {release} lacks a feature of it that Ringmq needs; use 6.1 or newer"
            ),
            RingProblem::Memory => write!(
                f,
                "not enough memory; raise the locked memory limit (ulimit -l, LimitMEMLOCK) to \
                 2 MiB per shard, or configure smaller rings"
            ),
            RingProblem::Descriptors => write!(
                f,
                "too many open files; raise the limit (ulimit -n, LimitNOFILE)"
            ),
            RingProblem::Other(errno) => write!(f, "{}", Errno::from_raw_os_error(*errno)),
        }
    }
}

impl From<Errno> for ListenProblem {
    fn from(errno: Errno) -> ListenProblem {
        match errno {
            Errno::ADDRINUSE => ListenProblem::InUse,
            Errno::ACCESS | Errno::PERM => ListenProblem::Forbidden,
            Errno::ADDRNOTAVAIL => ListenProblem::NotLocal,
            Errno::AFNOSUPPORT => ListenProblem::NoFamily,
            Errno::MFILE | Errno::NFILE => ListenProblem::Descriptors,
            other => ListenProblem::Other(other.raw_os_error()),
        }
    }
}

/// Names what is wrong with io_uring, from the error of its setup.
pub(crate) fn ring_error(error: &io::Error) -> StartError {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let release = rustix::system::uname().release().to_string_lossy().into();
    StartError::Ring(ring_problem(errno, sysctl.as_deref(), release))
}

fn ring_problem(errno: Option<Errno>, sysctl: Option<&str>, release: String) -> RingProblem {
    match errno {
        Some(Errno::PERM | Errno::ACCESS) => match sysctl.and_then(|s| s.trim().parse().ok()) {
            Some(level @ 1..) => RingProblem::Disabled { level },
            Some(0) | None => RingProblem::Forbidden,
        },
        Some(Errno::NOSYS) => RingProblem::Missing,
        // The flags that 6.1 brought are unknown to older ones.
        Some(Errno::INVAL) => RingProblem::TooOld { release },
        Some(Errno::NOMEM) => RingProblem::Memory,
        Some(Errno::MFILE | Errno::NFILE) => RingProblem::Descriptors,
        Some(other) => RingProblem::Other(other.raw_os_error()),
        None => RingProblem::Other(0),
    }
}

/// Names something that rarely fails.
pub(crate) fn system_error(action: &'static str, error: io::Error) -> StartError {
    StartError::System {
        action,
        errno: error.raw_os_error().unwrap_or(0),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_for_missing_io_uring_is_distinguished() {
        let release = || "5.15.0".to_owned();
        for (errno, sysctl, expected) in [
            (Errno::PERM, Some("2\n"), RingProblem::Disabled { level: 2 }),
            (Errno::PERM, Some("0\n"), RingProblem::Forbidden),
            (Errno::PERM, None, RingProblem::Forbidden),
            (Errno::NOSYS, None, RingProblem::Missing),
            (
                Errno::INVAL,
                None,
                RingProblem::TooOld { release: release() },
            ),
            (Errno::NOMEM, None, RingProblem::Memory),
            (Errno::MFILE, None, RingProblem::Descriptors),
            (Errno::IO, None, RingProblem::Other(5)),
        ] {
            assert_eq!(ring_problem(Some(errno), sysctl, release()), expected);
        }
    }

    #[test]
    fn a_listener_error_names_the_address_and_the_fix() {
        let address = Endpoint::Tcp("[::1]:80".parse().unwrap());
        for (errno, fix) in [
            (Errno::ADDRINUSE, "ss -atnp"),
            (Errno::ACCESS, "CAP_NET_BIND_SERVICE"),
            (Errno::ADDRNOTAVAIL, "ip address"),
            (Errno::AFNOSUPPORT, "disable_ipv6"),
            (Errno::MFILE, "ulimit -n"),
        ] {
            let (endpoint, problem) = (address.clone(), errno.into());
            let text = StartError::Listen { endpoint, problem }.to_string();
            assert!(text.contains("[::1]:80") && text.contains(fix), "{text}");
        }
    }
}
