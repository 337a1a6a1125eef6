//! Connecting: a socket for a client, and what came of it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use ringmq_core::ids::ConnId;
use ringmq_ring::bind_source;
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_tcp_nodelay};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::Driver;
use crate::fleet::Loss;
use crate::peer::Peer;
use crate::shared::now_ns;

impl Driver {
    pub(super) fn dial(&mut self, client: u32, now: u64) {
        let conn = self.conn(client);
        match self.open_socket(client) {
            Ok(fd) => {
                self.open_count += 1;
                self.ring.connect(conn, fd.as_fd(), self.target);
                let socket = &mut self.sockets[client as usize];
                socket.socket = Some(fd);
                socket.connecting = true;
                socket.ops += 1;
            }
            Err(why) => self.fleet.on_lost(client, now, Loss::Dial(why)),
        }
    }

    fn open_socket(&mut self, client: u32) -> Result<OwnedFd, String> {
        let fd = self
            .make_socket(client)
            .map_err(|errno| self.explain_dial(errno))?;
        if let Peer::Tcp(_) = self.peer
            && let Some(source) = self.sources.take()
        {
            bind_source(fd.as_fd(), source).map_err(|errno| match errno {
                Errno::ADDRNOTAVAIL => {
                    format!("{source} is not an address of this machine; check --source")
                }
                _ => format!("cannot connect from {source}: {errno}; check --source"),
            })?;
        }
        Ok(fd)
    }

    fn make_socket(&self, client: u32) -> Result<OwnedFd, Errno> {
        let (family, protocol) = match self.peer {
            Peer::Tcp(SocketAddr::V4(_)) => (AddressFamily::INET, Some(ipproto::TCP)),
            Peer::Tcp(SocketAddr::V6(_)) => (AddressFamily::INET6, Some(ipproto::TCP)),
            Peer::Unix(_) => (AddressFamily::UNIX, None),
        };
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::STREAM, flags, protocol)?;
        if let Peer::Tcp(_) = self.peer {
            set_tcp_nodelay(&fd, true)?;
        }
        if let Some(size) = self.fleet.receive_buffer(client) {
            set_socket_recv_buffer_size(&fd, size as usize)?;
        }
        Ok(fd)
    }

    fn explain_dial(&mut self, errno: Errno) -> String {
        let address = self.peer.clone();
        match errno {
            Errno::NOENT => {
                format!("{address} does not exist; start the broker, or check --target")
            }
            Errno::ACCESS => {
                format!("{address} may not be used by this user; check the permissions of the file")
            }
            Errno::AGAIN => {
                format!("{address} has no room for more connections; lower connecting_max")
            }
            Errno::CONNREFUSED => {
                format!("nothing listens on {address}; start the broker, or check --target")
            }
            Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => {
                self.ports_exhausted += 1;
                format!(
                    "no local port left for connections to {address}; add addresses with --source"
                )
            }
            Errno::MFILE | Errno::NFILE => {
                self.files_exhausted += 1;
                "no file descriptor left; raise the limit (ulimit -n)".to_owned()
            }
            Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => {
                format!(
                    "{address} cannot be reached ({errno}); check --target, routes and firewalls"
                )
            }
            _ => format!("{address}: {errno}"),
        }
    }

    pub(super) fn on_connected(&mut self, conn: ConnId, result: Result<(), Errno>) {
        let socket = &mut self.sockets[conn.index as usize];
        if socket.generation == conn.generation {
            socket.connecting = false;
        }
        let Some(client) = self.op_ended(conn) else {
            return;
        };
        let now = now_ns();
        match result {
            Ok(()) => {
                self.open_layers(client, now);
                self.rearm.push(client);
            }
            Err(errno) => {
                let why = self.explain_dial(errno);
                self.fleet.on_lost(client, now, Loss::Dial(why));
            }
        }
    }
}
