//! Collects facts about the machine. Judges nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use io_uring::{IoUring, Probe, opcode};
use ringmq::Patience;
use ringmq::store::DirectoryFacts;
use ringmq::transport::is_ipv6_only;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::value::parse_cores;

/// What there is to know.
#[derive(Clone, Debug)]
pub struct Facts {
    /// As `uname -r` prints it.
    pub kernel_release: String,
    /// Whether a ring like those of the shards can be set up.
    pub ring: Result<(), RingRefusal>,
    /// `kernel.io_uring_disabled`; kernels before 6.6 have none.
    pub io_uring_disabled: Option<u8>,
    /// Whether a seccomp filter watches this process.
    pub seccomp_filtered: bool,
    /// Open files.
    pub open_files: Bound,
    /// Bytes of locked memory; `None`: no limit.
    pub locked_memory: Option<Bound>,
    /// `net.core.somaxconn`; `None`: not readable here.
    pub somaxconn: Option<u32>,
    /// The first port that is not reserved for root.
    pub unprivileged_port_start: u16,
    /// The cores that this process may run on, ascending.
    pub cores: Vec<usize>,
    /// The machine has more: a cpuset or an affinity mask confines the process to these.
    pub is_confined: bool,
    /// One per address to listen on.
    pub binds: Vec<Bind>,
    /// The data directory, if there is to be one.
    pub data_dir: Option<DirectoryFacts>,
}

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What holds; the process may raise it to `hard`.
    pub soft: u64,
    /// What root set.
    pub hard: u64,
}

/// The kernel did not let us have a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingRefusal {
    /// At which step.
    pub step: RingStep,
    /// Why; 0 at `Operations`.
    pub errno: i32,
}

/// The steps to a ring that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingStep {
    /// `io_uring_setup`, with the flags of the shards.
    Setup,
    /// `io_uring_register`.
    Register,
    /// The operations that the shards submit.
    Operations,
}

/// An address, and whether it can be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub address: SocketAddr,
    /// Why not; `None`: it can.
    pub refusal: Option<BindRefusal>,
}

/// An address that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindRefusal {
    /// Why.
    pub errno: i32,
    /// What has it, if it is a socket of this machine.
    pub holder: Option<Holder>,
}

/// The socket that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// It listens; otherwise it is a connection that was made from this port.
    pub is_listener: bool,
    /// Name and number of its process, if that can be seen: only root sees those of other users.
    pub process: Option<String>,
}

impl Holder {
    /// Its process, if it is a broker that listens. Only root sees those of other users.
    pub fn broker(&self) -> Option<&str> {
        let process = self.process.as_deref().filter(|_| self.is_listener)?;
        process.starts_with("ringmq (pid ").then_some(process)
    }
}

impl Facts {
    /// Reads them. Raise the limits first.
    pub fn gather(listen: &[SocketAddr], data_dir: Option<&Path>) -> Facts {
        let cores = allowed_cores();
        let mut patience = Patience::new();
        Facts {
            kernel_release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            ring: try_ring(),
            io_uring_disabled: read_number("/proc/sys/kernel/io_uring_disabled"),
            seccomp_filtered: seccomp_filtered(),
            open_files: bound(getrlimit(Resource::Nofile)).unwrap_or(NO_BOUND),
            locked_memory: bound(getrlimit(Resource::Memlock)),
            somaxconn: read_number("/proc/sys/net/core/somaxconn"),
            unprivileged_port_start: read_number("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .unwrap_or(1024),
            is_confined: online_cores().is_some_and(|online| cores.len() < online),
            cores,
            binds: listen
                .iter()
                .map(|&address| {
                    let ipv6_only = is_ipv6_only(address, listen.iter().copied());
                    try_bind(address, ipv6_only, &mut patience)
                })
                .collect(),
            data_dir: data_dir.map(DirectoryFacts::gather),
        }
    }
}

/// Raises open files and locked memory to what root allows. What fails shows in the facts.
pub fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = getrlimit(resource);
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let _ = setrlimit(resource, raised);
    }
}

fn bound(limit: Rlimit) -> Option<Bound> {
    let soft = limit.current?;
    Some(Bound {
        soft,
        hard: limit.maximum.unwrap_or(u64::MAX),
    })
}

fn try_ring() -> Result<(), RingRefusal> {
    let refused = |step| {
        move |error: std::io::Error| RingRefusal {
            step,
            errno: error.raw_os_error().unwrap_or(0),
        }
    };
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
        .map_err(refused(RingStep::Setup))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(refused(RingStep::Register))?;
    let needed = [
        opcode::Accept::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::SendMsg::CODE,
        opcode::Close::CODE,
        opcode::Timeout::CODE,
        opcode::Write::CODE,
        opcode::Fsync::CODE,
    ];
    if needed.iter().all(|&code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err(RingRefusal {
            step: RingStep::Operations,
            errno: 0,
        })
    }
}

/// Listens for a moment, without the port sharing that the shards use among themselves: another
/// broker of this user would share the port with us, and each would get some of the clients.
fn try_bind(address: SocketAddr, ipv6_only: bool, patience: &mut Patience) -> Bind {
    // A process that is seen to have the port is not about to let go of it.
    let may_pass = || find_holder(address).is_none_or(|holder| holder.process.is_none());
    let tried = patience.attempt(address, || listen_briefly(address, ipv6_only), may_pass);
    let refusal = tried.err().map(|errno| BindRefusal {
        errno: errno.raw_os_error(),
        holder: find_holder(address),
    });
    Bind { address, refusal }
}

fn listen_briefly(address: SocketAddr, ipv6_only: bool) -> Result<(), Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = SocketType::STREAM;
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, ipv6_only)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 1)
}

/// How many cores the machine runs; `None` if it does not say.
fn online_cores() -> Option<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    parse_cores(text.trim()).ok().map(|cores| cores.len())
}

/// The cores that this process may run on, ascending.
pub(super) fn allowed_cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&core| set.is_set(core))
            .collect(),
        // More than 1,024 cores do not fit the set: then the first ones it is.
        Err(_) => {
            (0..std::thread::available_parallelism().map_or(1, |cores| cores.get())).collect()
        }
    }
}

fn seccomp_filtered() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .filter_map(|line| line.strip_prefix("Seccomp:"))
            .any(|mode| mode.trim() != "0")
    })
}

fn read_number<T: std::str::FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Who has the port: a socket that listens, or else a connection.
fn find_holder(address: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let find = |is_listener: bool| {
        let mut tables = tables.iter();
        let inode = tables.find_map(|table| find_socket(table, address, is_listener))?;
        Some(Holder {
            is_listener,
            process: find_process(inode),
        })
    };
    find(true).or_else(|| find(false))
}

/// The process of a socket.
fn find_process(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|target| target.as_os_str() == wanted.as_str());
        if holds {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", command.trim().escape_debug()));
        }
    }
    None
}

/// The inode of the socket that stands in the way of `address`, out of a table of the kernel.
fn find_socket(table: &str, address: SocketAddr, is_listener: bool) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let local = columns.next()?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        let (ip, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let ip = parse_kernel_ip(ip)?.to_canonical();
        let wanted = address.ip().to_canonical();
        let clash = ip == wanted || ip.is_unspecified() || wanted.is_unspecified();
        // In TIME_WAIT it stands in nobody's way.
        let is_wanted = (state == LISTENING) == is_listener && state != TIME_WAIT;
        if is_wanted && port == address.port() && clash {
            inode.parse().ok()
        } else {
            None
        }
    })
}

/// The kernel prints addresses as words of 32 bits in the order of the machine.
fn parse_kernel_ip(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (index, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

/// `TCP_LISTEN` in the tables of the kernel.
const LISTENING: &str = "0A";
/// `TCP_TIME_WAIT`.
const TIME_WAIT: &str = "06";

/// Stands for "no limit".
const NO_BOUND: Bound = Bound {
    soft: u64::MAX,
    hard: u64::MAX,
};

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_listener_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bind = try_bind(address, false, &mut Patience::new());
        let refusal = bind.refusal.expect("the port is taken");
        assert_eq!(refusal.errno, libc::EADDRINUSE);
        let holder = refusal.holder.expect("we hold it ourselves");
        assert!(holder.is_listener);
        let process = holder.process.expect("we see ourselves");
        let own = format!("(pid {})", std::process::id());
        assert!(process.ends_with(&own), "{process}");
        drop(listener);
        assert_eq!(try_bind(address, false, &mut Patience::new()).refusal, None);
    }

    #[test]
    fn a_connection_that_was_made_from_the_port_is_found() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let address = client.local_addr().unwrap();
        let refusal = try_bind(address, false, &mut Patience::new())
            .refusal
            .expect("the port is taken");
        let holder = refusal.holder.expect("we hold it ourselves");
        assert!(!holder.is_listener);
        let own = format!("(pid {})", std::process::id());
        assert!(
            holder
                .process
                .is_some_and(|process| process.ends_with(&own))
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: 0100007F:075B 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 111 1 x\n\
             \x20  1: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 x\n\
             \x20  2: 00000000000000000000000001000000:075C 0:0000 0A 0:0 0:0 0     0        0 333 1 x\n\
             \x20  3: 00000000:075D 0:0000 0A 0:0 0:0 0     0        0 444 1 x\n";
        for (address, expected) in [
            ("127.0.0.1:1883", Some(222)),
            ("0.0.0.0:1883", Some(222)),
            ("127.0.0.2:1883", None),
            ("[::1]:1884", Some(333)),
            ("127.0.0.1:1885", Some(444)),
            ("127.0.0.1:1886", None),
        ] {
            assert_eq!(
                find_socket(table, address.parse().unwrap(), true),
                expected,
                "{address}"
            );
        }
        let local = "127.0.0.1:1883".parse().unwrap();
        assert_eq!(find_socket(table, local, false), Some(111));
        for table in ["", "x\ny z : 0A"] {
            assert_eq!(find_socket(table, local, true), None);
        }
    }

    #[test]
    fn the_facts_of_this_machine_are_plausible() {
        let facts = Facts::gather(&[], None);
        assert!(!facts.kernel_release.is_empty());
        assert!(!facts.cores.is_empty());
        assert!(facts.open_files.soft > 0);
    }
}
