//! Clients that fall silent: their sockets stay open, and nothing is sent or read on them any more,
//! as on those of a machine without power. The kernel still answers for it, as a network would not;
//! the broker waits for an answer of its peer all the same.

use std::os::fd::OwnedFd;

use ringmq_ring::Ring;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Driver;

impl Driver {
    /// The client says nothing any more, and its slot is free for another connection. A send that
    /// is underway comes to its end before.
    pub(super) fn silence(&mut self, client: u32) {
        let conn = self.conn(client);
        let socket = &mut self.sockets[client as usize];
        if socket.closing {
            return;
        }
        (socket.closing, socket.silent) = (true, true);
        if socket.receiving {
            self.ring.cancel_receive(conn);
            socket.ops += 1;
        }
        self.proceed(client);
    }

    /// Nothing is underway on a socket that fell silent.
    pub(super) fn keep(&mut self, client: u32, socket: OwnedFd) {
        self.silent.push(socket);
        self.open_count -= 1;
        self.forget(client);
    }

    /// Sockets that fell silent, and how many of them the broker has closed since.
    pub fn silent_sockets(&self) -> (u64, u64) {
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let sockets = self.silent.iter();
        let mut asked: Vec<PollFd<'_>> = sockets
            .map(|socket| PollFd::new(socket, PollFlags::RDHUP))
            .collect();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A failure leaves the answers empty: then none is known to be closed.
        let _ = poll(&mut asked, Some(&at_once));
        let closed = asked
            .iter()
            .filter(|asked| asked.revents().intersects(ended));
        (self.silent.len() as u64, closed.count() as u64)
    }
}
