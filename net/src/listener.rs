//! Listening sockets: one per shard and address, so that the kernel spreads connections over shards.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use ringmq_core::time::Instant;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport, set_tcp_nodelay,
};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with,
};

/// A listening socket of one shard, and what its accept does.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The socket.
    pub(crate) socket: OwnedFd,
    /// The accept.
    pub(crate) accepting: Accepting,
}

/// What the multishot accept of a listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// It is with the kernel.
    Armed,
    /// It ended, and has to be armed again in this turn.
    Ended,
    /// It failed for want of a resource. Armed again when a connection is closed, or then.
    Paused {
        /// Try again at the latest.
        until: Instant,
    },
    /// The shard shuts down.
    Stopped,
}

impl Listener {
    /// Its accept starts with the first turn.
    pub(crate) fn new(socket: OwnedFd) -> Listener {
        Listener {
            socket,
            accepting: Accepting::Ended,
        }
    }
}

/// Opens `count` listening sockets on one address, and says which address that is: port 0 takes a
/// free one, the same for all.
pub(crate) fn open(address: SocketAddr, count: usize) -> Result<(Vec<OwnedFd>, SocketAddr), Errno> {
    // Sockets that share a port would share it with any other process of this user as well, which
    // would take half of the connections. A plain bind first finds out if somebody is there.
    let probe = socket(address)?;
    bind(&probe, &address)?;
    let local = local_address(&probe).unwrap_or(address);
    drop(probe);
    let sockets = (0..count).map(|_| {
        let socket = socket(address)?;
        set_socket_reuseport(&socket, count > 1)?;
        // Accepted sockets inherit it, which saves a call for each.
        set_tcp_nodelay(&socket, true)?;
        bind(&socket, &local)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    });
    Ok((sockets.collect::<Result<_, Errno>>()?, local))
}

fn socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of an earlier run in TIME_WAIT do not block the port.
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `[::]` next to `0.0.0.0` are two listeners, on every system.
        set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    getsockname(socket).ok()?.try_into().ok()
}

/// Connections that wait for an accept; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_of_an_address_share_the_free_port_that_was_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (sockets, local) = open(address.parse().unwrap(), 3).unwrap();
            assert_ne!(local.port(), 0);
            for socket in &sockets {
                assert_eq!(local_address(socket), Some(local));
            }
        }
    }

    #[test]
    fn a_port_that_another_broker_shares_among_its_shards_is_in_use() {
        let (_sockets, local) = open("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(open(local, 2).unwrap_err(), Errno::ADDRINUSE);
    }
}
