//! Where a broker is, as sockets see it.

use std::fmt;
use std::net::SocketAddr;

use rustix::net::SocketAddrUnix;

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(SocketAddrUnix),
}

impl Peer {
    /// It is on this machine, so that both ends of a connection are.
    pub fn is_local(&self) -> bool {
        match self {
            Peer::Tcp(address) => address.ip().is_loopback(),
            Peer::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Tcp(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix(address) => {
                let path = address.path_bytes().unwrap_or_default();
                write!(f, "unix:{}", String::from_utf8_lossy(path))
            }
        }
    }
}
