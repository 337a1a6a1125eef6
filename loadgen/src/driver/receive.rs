//! What comes in: bytes for the fleet, at the pace at which a client reads.

use std::cmp::Reverse;
use std::os::fd::AsFd;

use ringmq_ring::{Input, Receive, Received, Ring};
use rustix::io::Errno;

use super::Driver;
use super::layers::Layers;
use crate::fleet::Loss;
use crate::shared::{Stage, UNKNOWN, now_ns};

impl Driver {
    pub(super) fn on_received(&mut self, received: Received) {
        let Received { conn, input, more } = received;
        let client = conn.index;
        let socket = &mut self.sockets[client as usize];
        let is_live = socket.generation == conn.generation && !socket.closing;
        let now = now_ns();
        match input {
            Input::Chunk(lease) => {
                if is_live {
                    if self.sockets[client as usize].layers.is_some() {
                        self.on_layered(client, now, &lease);
                    } else {
                        self.fleet.on_bytes(client, now, self.ring.bytes(&lease));
                    }
                    if let Some(rate) = self.fleet.receive_rate(client) {
                        // At 0 bytes per second, after the end of time.
                        let pause = u64::from(lease.size()) * 1_000_000_000 / rate.max(1);
                        let at = if rate == 0 { UNKNOWN } else { now + pause };
                        self.slow.push(Reverse((at, client)));
                    }
                }
                self.ring.give_back(lease);
            }
            Input::End if is_live => {
                let layers = self.sockets[client as usize].layers.as_deref();
                let why = match layers.and_then(Layers::opening) {
                    Some(layer) => format!("the connection ended in the {layer} handshake"),
                    None => "the connection ended".to_owned(),
                };
                self.fleet.on_lost(client, now, Loss::Closed(why));
            }
            Input::Failed(Errno::NOBUFS | Errno::INTR | Errno::AGAIN | Errno::CANCELED) => {}
            Input::Failed(errno) if is_live => {
                self.fleet
                    .on_lost(client, now, Loss::Closed(errno.to_string()));
            }
            Input::End | Input::Failed(_) => {}
        }
        if !more && self.sockets[client as usize].generation == conn.generation {
            self.sockets[client as usize].receiving = false;
            if self.op_ended(conn).is_some() && !self.is_slow(client) {
                self.rearm.push(client);
            }
        }
    }

    /// Its next receive is scheduled.
    fn is_slow(&self, client: u32) -> bool {
        self.fleet.receive_rate(client).is_some()
    }

    pub(super) fn receive(&mut self, client: u32) {
        let conn = self.conn(client);
        let how = if self.fleet.reads_slowly(client) {
            Receive::Once
        } else {
            Receive::Multishot
        };
        let socket = &mut self.sockets[client as usize];
        if let (false, false, Some(fd)) = (socket.closing, socket.receiving, &socket.socket) {
            self.ring.receive(conn, fd.as_fd(), how);
            socket.receiving = true;
            socket.ops += 1;
        }
    }

    pub(super) fn resume_slow(&mut self, now: u64) {
        let all = self.fleet.stage() >= Stage::Drain;
        while let Some(&Reverse((at, client))) = self.slow.peek()
            && (all || at <= now)
        {
            self.slow.pop();
            self.rearm.push(client);
        }
    }
}
