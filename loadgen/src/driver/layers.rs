//! TLS and WebSocket between a socket and the fleet.

use ringmq_ring::{Lease, Ring};

use super::Driver;
use crate::fleet::Loss;
use crate::tls::{Channel, Terms};
use crate::websocket::{Resource, WebSocket};

/// What is between a socket and MQTT; one of both at least.
#[derive(Debug)]
pub(super) struct Layers {
    tls: Option<Channel>,
    websocket: Option<WebSocket>,
    /// What waits for the send underway.
    pub(super) wire: Vec<u8>,
    /// Plain bytes in the send underway.
    pub(super) flying: u32,
    /// The fleet knows of the connection.
    pub(super) announced: bool,
}

impl Layers {
    fn open(
        terms: Option<(&Terms, u32)>,
        resource: Option<&Resource>,
        seed: u64,
    ) -> Result<Layers, String> {
        let mut wire = Vec::new();
        let mut tls = match terms {
            Some((terms, number)) => Some(Channel::open(terms, number, &mut wire)?),
            None => None,
        };
        let websocket = resource.map(|resource| {
            let mut request = Vec::new();
            let websocket = WebSocket::open(resource, seed, &mut request);
            // During the handshake it waits in the channel.
            push(&mut tls, &request, &mut wire);
            websocket
        });
        Ok(Layers {
            tls,
            websocket,
            wire,
            flying: 0,
            announced: false,
        })
    }

    /// Packets may be sent.
    fn is_open(&self) -> bool {
        let tls = self.tls.as_ref().is_none_or(Channel::is_established);
        tls && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Whether TLS, if there is any, goes on with an earlier session.
    fn is_resumed(&self) -> Option<bool> {
        self.tls.as_ref().map(Channel::is_resumed)
    }

    /// What the layers were doing before they were open.
    pub(super) fn opening(&self) -> Option<&'static str> {
        let in_tls = self.tls.as_ref().is_some_and(|tls| !tls.is_established());
        match (in_tls, self.announced) {
            (_, true) => None,
            (true, false) => Some("TLS"),
            (false, false) => Some("WebSocket"),
        }
    }

    /// Sends packets.
    pub(super) fn send(&mut self, plain: &[u8]) {
        self.flying += plain.len() as u32;
        match &mut self.websocket {
            None => push(&mut self.tls, plain, &mut self.wire),
            Some(websocket) if self.tls.is_none() => websocket.send(plain, &mut self.wire),
            Some(websocket) => {
                let mut frame = Vec::new();
                websocket.send(plain, &mut frame);
                push(&mut self.tls, &frame, &mut self.wire);
            }
        }
    }

    /// Takes bytes in: packets are appended to `plain`.
    fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), Loss> {
        let Some(websocket) = &mut self.websocket else {
            return decrypt(&mut self.tls, bytes, plain, &mut self.wire);
        };
        let mut frames = Vec::new();
        let decrypted = decrypt(&mut self.tls, bytes, &mut frames, &mut self.wire);
        let mut responses = Vec::new();
        let received = websocket.receive(&frames, plain, &mut responses);
        if !responses.is_empty() {
            push(&mut self.tls, &responses, &mut self.wire);
        }
        decrypted?;
        received.map_err(|why| match self.announced {
            true => Loss::Closed(why),
            false => Loss::Dial(format!("WebSocket: {why}")),
        })
    }
}

/// To the socket, through TLS if there is any.
fn push(tls: &mut Option<Channel>, bytes: &[u8], wire: &mut Vec<u8>) {
    match tls {
        Some(channel) => channel.send(bytes, wire),
        None => wire.extend_from_slice(bytes),
    }
}

/// From the socket, through TLS if there is any.
fn decrypt(
    tls: &mut Option<Channel>,
    bytes: &[u8],
    plain: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> Result<(), Loss> {
    let Some(channel) = tls else {
        plain.extend_from_slice(bytes);
        return Ok(());
    };
    channel.receive(bytes, plain, wire).map_err(|why| {
        let is_untrusted = why.starts_with("invalid peer certificate");
        let fix = match (channel.is_established(), is_untrusted) {
            (true, _) => "",
            (false, true) => {
                "; name the CA with --tls FILE, or take any certificate with --tls insecure"
            }
            (false, false) => "; if the port is not for TLS leave out --tls",
        };
        Loss::Dial(format!("TLS: {why}{fix}"))
    })
}

impl Driver {
    /// The socket of a client is connected: layers begin, or the fleet does.
    pub(super) fn open_layers(&mut self, client: u32, now: u64) {
        let terms = self.tls[self.fleet.group_of(client)].as_ref();
        let resource = self.websocket.as_ref();
        if terms.is_none() && resource.is_none() {
            return self.fleet.on_connected(client, now);
        }
        let seed = now ^ u64::from(client) << 40;
        let terms = terms.map(|terms| (terms, self.fleet.number_of(client)));
        match Layers::open(terms, resource, seed) {
            Ok(layers) => {
                self.sockets[client as usize].layers = Some(Box::new(layers));
                self.transmit(client, now);
            }
            Err(why) => self
                .fleet
                .on_lost(client, now, Loss::Dial(format!("TLS: {why}"))),
        }
    }

    /// Takes in what came to a socket with layers: handshakes first, then the packets of the broker.
    pub(super) fn on_layered(&mut self, client: u32, now: u64, lease: &Lease) {
        let Some(layers) = &mut self.sockets[client as usize].layers else {
            return;
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let received = layers.receive(self.ring.bytes(lease), &mut plain);
        let is_new = layers.is_open() && !layers.announced;
        layers.announced |= is_new;
        if is_new {
            if let Some(is_resumed) = layers.is_resumed() {
                self.fleet.on_handshake(client, is_resumed);
            }
            self.fleet.on_connected(client, now);
        }
        self.transmit(client, now);
        if !plain.is_empty() {
            self.fleet.on_bytes(client, now, &plain);
        }
        self.plain = plain;
        if let Err(loss) = received {
            self.fleet.on_lost(client, now, loss);
        }
    }
}
