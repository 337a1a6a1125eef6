//! Listening sockets: one per shard and TCP address, so that the kernel spreads connections over
//! shards. A Unix socket, or one that was passed, exists once, and all shards accept from it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::rate::Pace;
use ringmq_core::time::Instant;
use rustix::fs::unlink;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::{
    set_ipv6_v6only, set_socket_keepalive, set_socket_reuseaddr, set_socket_reuseport,
    set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay, set_tcp_user_timeout,
};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, ipproto,
    listen, socket_with,
};

use crate::error::ListenProblem;
use crate::passed::Passed;
use crate::patience::Patience;
use crate::transport::{Endpoint, Stack, is_ipv6_only};

/// A listening socket of one shard, and what its accept does.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The socket.
    pub(crate) socket: OwnedFd,
    /// The accept.
    pub(crate) accepting: Accepting,
    /// The layers of its connections.
    pub(crate) stack: Arc<Stack>,
    /// How far its clients are ahead of their permitted rate.
    pub(crate) pace: Pace,
}

/// What the multishot accept of a listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// It is with the kernel.
    Armed,
    /// It ended, and has to be armed again in this turn.
    Ended,
    /// It failed for lack of a resource. Armed again when a connection closes, or then.
    Paused {
        /// Try again at the latest.
        until: Instant,
    },
    /// Clients exceed their rate; further ones wait in the kernel until then.
    Throttled {
        /// Go on then.
        until: Instant,
        /// The accept is no longer with the kernel.
        ended: bool,
    },
    /// The broker is being drained: clients wait in the kernel.
    Shut {
        /// The accept is no longer with the kernel.
        ended: bool,
    },
    /// The shard shuts down.
    Stopped,
}

impl Listener {
    /// Its accept starts with the first turn.
    pub(crate) fn new(socket: OwnedFd, stack: Arc<Stack>) -> Listener {
        Listener {
            socket,
            stack,
            accepting: Accepting::Ended,
            pace: Pace::default(),
        }
    }
}

/// Opens listening sockets for `count` shards, and says where they listen: port 0 takes a free one,
/// the same for all.
/// `all` are the addresses of all listeners, `passed` the sockets that were passed.
pub(crate) fn open(
    endpoint: &Endpoint,
    count: usize,
    all: &[SocketAddr],
    passed: &mut Passed,
) -> Result<(Vec<OwnedFd>, Endpoint), ListenProblem> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let ipv6_only = is_ipv6_only(*address, all.iter().copied());
            let (sockets, local) = open_tcp(*address, ipv6_only, count)?;
            Ok((sockets, Endpoint::Tcp(local)))
        }
        Endpoint::Unix(path) => Ok((open_unix(path, count)?, endpoint.clone())),
        Endpoint::Passed(name) => {
            let socket = passed.remove(name)?;
            // It may be a Unix socket, which knows none of this; whoever has made it has chosen the rest.
            if local_address(&socket).is_some() {
                set_tcp_nodelay(&socket, true)?;
                notice_dead_peers(&socket)?;
            }
            Ok((shared(socket, count)?, endpoint.clone()))
        }
    }
}

fn open_unix(path: &Path, count: usize) -> Result<Vec<OwnedFd>, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    if let Err(errno) = bind(&socket, &address) {
        if errno != Errno::ADDRINUSE || !is_abandoned(path, &address) {
            return Err(errno);
        }
        unlink(path)?;
        bind(&socket, &address)?;
    }
    listen(&socket, BACKLOG)?;
    shared(socket, count)
}

/// One socket for `count` shards.
fn shared(socket: OwnedFd, count: usize) -> Result<Vec<OwnedFd>, Errno> {
    let others = (1..count).map(|_| fcntl_dupfd_cloexec(&socket, 0));
    let mut sockets = others.collect::<Result<Vec<_>, _>>()?;
    sockets.push(socket);
    Ok(sockets)
}

/// A socket that an earlier run left behind, which nobody listens on.
fn is_abandoned(path: &Path, address: &SocketAddrUnix) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    is_socket && probe.is_ok_and(|probe| connect(&probe, address) == Err(Errno::CONNREFUSED))
}

fn open_tcp(
    address: SocketAddr,
    ipv6_only: bool,
    count: usize,
) -> Result<(Vec<OwnedFd>, SocketAddr), Errno> {
    // Sockets that share a port would also share it with any other process of this user, which
    // would take half of the connections. A plain bind first finds out whether the port is in use.
    let probe = socket(address, ipv6_only)?;
    Patience::new().attempt(address, || bind(&probe, &address), || true)?;
    let local = local_address(&probe).unwrap_or(address);
    drop(probe);
    let sockets = (0..count).map(|_| {
        let socket = socket(address, ipv6_only)?;
        set_socket_reuseport(&socket, count > 1)?;
        // Accepted sockets inherit all of these, which saves calls for each.
        set_tcp_nodelay(&socket, true)?;
        notice_dead_peers(&socket)?;
        bind(&socket, &local)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    });
    Ok((sockets.collect::<Result<_, Errno>>()?, local))
}

/// A peer that is gone without a word is found out about by MQTT's keep alive, if the client asked
/// for one. For the others, and for data that nobody acknowledges, the kernel gives up after a
/// while.
fn notice_dead_peers(socket: &OwnedFd) -> Result<(), Errno> {
    set_socket_keepalive(socket, true)?;
    set_tcp_keepidle(socket, SILENCE)?;
    set_tcp_keepintvl(socket, PROBE_INTERVAL)?;
    set_tcp_keepcnt(socket, PROBES)?;
    // Less than all probes take would make one lost probe the end.
    let patience = SILENCE + PROBE_INTERVAL * PROBES;
    set_tcp_user_timeout(socket, patience.as_millis() as u32)
}

fn socket(address: SocketAddr, ipv6_only: bool) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of an earlier run in TIME_WAIT do not block the port.
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Whatever `net.ipv6.bindv6only` says, which differs between systems.
        set_ipv6_v6only(&socket, ipv6_only)?;
    }
    Ok(socket)
}

fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    getsockname(socket).ok()?.try_into().ok()
}

/// Silence after which the kernel asks whether the peer is there. Clients with a usual keep alive
/// say something before.
const SILENCE: Duration = Duration::from_secs(120);
/// Between two such questions without an answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(20);
/// Questions without an answer that end a connection.
const PROBES: u32 = 4;
/// Connections that wait for an accept; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_of_an_address_share_the_free_port_that_was_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (sockets, local) = open_tcp(address.parse().unwrap(), false, 3).unwrap();
            assert_ne!(local.port(), 0);
            for socket in &sockets {
                assert_eq!(local_address(socket), Some(local));
            }
        }
    }

    #[test]
    fn a_port_that_another_broker_shares_among_its_shards_is_in_use() {
        let (_sockets, local) = open_tcp("127.0.0.1:0".parse().unwrap(), false, 2).unwrap();
        assert_eq!(open_tcp(local, false, 2).unwrap_err(), Errno::ADDRINUSE);
    }

    #[test]
    fn all_addresses_serve_both_families_unless_ipv4_has_a_listener_of_its_own() {
        use std::net::TcpStream;
        let open = |text: &str, all: &[SocketAddr]| {
            let endpoint = Endpoint::Tcp(text.parse().unwrap());
            let (sockets, local) = open(&endpoint, 2, all, &mut Passed::default()).unwrap();
            (sockets, local.address().unwrap().port())
        };
        let (_sockets, port) = open("[::]:0", &[]);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(TcpStream::connect(("::1", port)).is_ok());
        drop(_sockets);
        let all = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        let all = all.map(|text| text.parse::<SocketAddr>().unwrap());
        let _ipv4 = open(&all[0].to_string(), &all);
        let (_ipv6, _) = open(&all[1].to_string(), &all);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(TcpStream::connect(("::1", port)).is_ok());
    }

    // Fault T12.
    #[test]
    fn accepted_connections_notice_that_their_peer_is_gone() {
        use rustix::net::sockopt::{socket_keepalive, tcp_keepidle, tcp_nodelay, tcp_user_timeout};
        let (sockets, local) = open_tcp("127.0.0.1:0".parse().unwrap(), false, 1).unwrap();
        let _client = std::net::TcpStream::connect(local).unwrap();
        let accepted = rustix::net::accept(&sockets[0]).unwrap();
        assert!(socket_keepalive(&accepted).unwrap() && tcp_nodelay(&accepted).unwrap());
        assert_eq!(tcp_keepidle(&accepted).unwrap(), SILENCE);
        assert_eq!(tcp_user_timeout(&accepted).unwrap(), 200_000);
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("ringmq-listener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("socket");
        let sockets = open_unix(&path, 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert_eq!(open_unix(&path, 1).unwrap_err(), Errno::ADDRINUSE);
        drop(sockets);
        drop(open_unix(&path, 1).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(open_unix(&path, 1).unwrap_err(), Errno::ADDRINUSE);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
