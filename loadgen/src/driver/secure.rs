//! TLS between a socket and the fleet.

use ringmq_ring::{Lease, Ring};

use super::Driver;
use crate::fleet::Loss;
use crate::tls::{Channel, Terms};

/// A socket with TLS.
#[derive(Debug)]
pub(super) struct Secure {
    pub(super) channel: Channel,
    /// Records that wait for the send underway.
    pub(super) wire: Vec<u8>,
    /// Plain bytes in the send underway.
    pub(super) flying: u32,
    /// The fleet knows of the connection.
    pub(super) announced: bool,
}

impl Driver {
    pub(super) fn open_channel(&mut self, client: u32, now: u64, terms: &Terms) {
        let mut wire = Vec::new();
        match Channel::open(terms, &mut wire) {
            Ok(channel) => {
                self.sockets[client as usize].secure = Some(Box::new(Secure {
                    channel,
                    wire,
                    flying: 0,
                    announced: false,
                }));
                self.transmit(client, now);
            }
            Err(why) => self
                .fleet
                .on_lost(client, now, Loss::Dial(format!("TLS: {why}"))),
        }
    }

    /// Processes records: the handshake first, then the packets of the broker.
    pub(super) fn on_records(&mut self, client: u32, now: u64, lease: &Lease) {
        let Some(secure) = &mut self.sockets[client as usize].secure else {
            return;
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let bytes = self.ring.bytes(lease);
        let received = secure.channel.receive(bytes, &mut plain, &mut secure.wire);
        let is_established = secure.channel.is_established();
        let is_new = is_established && !secure.announced;
        secure.announced |= is_new;
        if is_new {
            self.fleet.on_connected(client, now);
        }
        self.transmit(client, now);
        if !plain.is_empty() {
            self.fleet.on_bytes(client, now, &plain);
        }
        self.plain = plain;
        if let Err(why) = received {
            let fix = match (is_established, why.starts_with("invalid peer certificate")) {
                (true, _) => "",
                (false, true) => {
                    "; name the CA with --tls FILE, or take any certificate with --tls insecure"
                }
                (false, false) => "; if the port is not for TLS leave out --tls",
            };
            self.fleet
                .on_lost(client, now, Loss::Dial(format!("TLS: {why}{fix}")));
        }
    }
}
