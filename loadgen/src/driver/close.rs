//! Closing: what is underway ends first.

use std::os::fd::AsFd;

use ringmq_core::ids::ConnId;
use ringmq_ring::Ring;

use super::{Driver, Socket};
use crate::shared::now_ns;

impl Driver {
    pub(super) fn close(&mut self, client: u32) {
        let conn = self.conn(client);
        let socket = &mut self.sockets[client as usize];
        if socket.closing {
            return;
        }
        socket.closing = true;
        match &socket.socket {
            Some(_) if socket.connecting => {
                self.ring.cancel_connect(conn);
                socket.ops += 1;
            }
            Some(fd) if socket.ops > 0 => self.ring.hang_up(fd.as_fd()),
            Some(_) | None => {}
        }
        self.proceed(client);
    }

    /// Closes a socket that only waited for its operations to end.
    pub(super) fn proceed(&mut self, client: u32) {
        let conn = self.conn(client);
        let socket = &mut self.sockets[client as usize];
        if !socket.closing || socket.ops > 0 {
            return;
        }
        match socket.socket.take() {
            Some(fd) if socket.silent => self.keep(client, fd),
            Some(fd) => {
                self.ring.close(conn, fd);
                socket.ops += 1;
            }
            // It was never opened.
            None => self.forget(client),
        }
    }

    pub(super) fn on_closed(&mut self, conn: ConnId) {
        let socket = &mut self.sockets[conn.index as usize];
        assert_eq!(
            socket.generation, conn.generation,
            "a close ends its socket"
        );
        socket.ops -= 1;
        self.open_count -= 1;
        self.forget(conn.index);
    }

    pub(super) fn forget(&mut self, client: u32) {
        let socket = &mut self.sockets[client as usize];
        *socket = Socket {
            generation: socket.generation.wrapping_add(1),
            ..Socket::default()
        };
        self.fleet.on_closed(client, now_ns());
    }
}
