//! What goes out: at most one send of each client is underway.

use std::os::fd::AsFd;

use ringmq_core::connection::Output;
use ringmq_core::ids::ConnId;
use ringmq_ring::{Flight, Ring};
use rustix::io::Errno;

use super::Driver;
use crate::fleet::Loss;
use crate::shared::now_ns;

impl Driver {
    pub(super) fn transmit(&mut self, client: u32, now: u64) {
        let conn = self.conn(client);
        let socket = &mut self.sockets[client as usize];
        let (false, false, Some(fd)) = (socket.sending, socket.closing, &socket.socket) else {
            return;
        };
        let output = match &mut socket.layers {
            None => self.fleet.take_output(client, now),
            Some(layers) => {
                if layers.announced
                    && let Some(plain) = self.fleet.take_output(client, now)
                {
                    layers.send(&plain);
                    self.fleet.recycle(plain);
                }
                let wire = std::mem::take(&mut layers.wire);
                (!wire.is_empty()).then_some(wire)
            }
        };
        if let Some(output) = output {
            self.ring
                .send(conn, fd.as_fd(), Flight::new(Output::One(output)));
            socket.sending = true;
            socket.ops += 1;
        }
    }

    pub(super) fn on_sent(&mut self, conn: ConnId, mut flight: Flight, result: Result<u32, Errno>) {
        let client = conn.index;
        if self.sockets[client as usize].generation != conn.generation {
            return;
        }
        self.sockets[client as usize].sending = false;
        let is_live = self.op_ended(conn).is_some();
        let now = now_ns();
        let failure = match result {
            Ok(0) => Some(Errno::PIPE),
            Ok(size) => {
                flight.advance(size);
                match &mut self.sockets[client as usize].layers {
                    None => self.fleet.on_sent(client, size),
                    Some(layers) if flight.is_landed() => {
                        self.fleet
                            .on_sent(client, std::mem::take(&mut layers.flying));
                    }
                    Some(_) => {}
                }
                None
            }
            Err(Errno::INTR | Errno::AGAIN) => None,
            Err(errno) => Some(errno),
        };
        let socket = &mut self.sockets[client as usize];
        if is_live
            && failure.is_none()
            && !flight.is_landed()
            && let Some(fd) = &socket.socket
        {
            self.ring.send(conn, fd.as_fd(), flight);
            socket.sending = true;
            socket.ops += 1;
            return;
        }
        if let Output::One(buffer) = flight.into_output() {
            self.fleet.recycle(buffer);
        }
        match failure {
            Some(errno) if is_live => {
                self.fleet
                    .on_lost(client, now, Loss::Closed(errno.to_string()));
            }
            Some(_) | None if is_live => {
                self.fleet.on_drained(client, now);
                self.transmit(client, now);
            }
            Some(_) | None => {}
        }
    }
}
