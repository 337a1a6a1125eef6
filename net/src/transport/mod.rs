//! The layers between a socket and MQTT: `TCP -> [PROXY] -> [TLS] -> [WebSocket] -> MQTT`.
//!
//! Each layer is bytes in, bytes out, with neither socket nor clock, so that it can be tested with
//! its input cut anywhere. A plain connection has no [`Transport`] at all.
//!
//! Invariants:
//! - `pending` goes out before anything that is encoded later, and holds at most
//!   [`PENDING_SIZE_MAX`] bytes that the peer has not taken.
//! - after a failure or an end nothing is decoded, and nothing but `pending` goes out.
//!
//! Not here: when to decode and encode (`reactor`).

mod output;
mod proxy;
mod stack;
mod tls;
mod websocket;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ringmq_core::connection::Output;
use ringmq_core::time::Instant;
use rustls::ProtocolVersion;

use output::{FRAME_SIZE_MAX, encrypt, frame, parts};
pub use proxy::{Announced, Network, ProxyError, ProxyHeader};
pub use ringmq_certificates::{IdentityField, Lifetime, TlsProblem, lifetimes};
pub use stack::{Endpoint, ListenerConfig, ProxyRules, Stack, is_ipv6_only};
use tls::Tls;
pub use tls::{Demand, RecordSize, TlsError, TlsFiles, TlsTerms};
pub use websocket::{Breach, Origin, OriginFault, Origins, Status, UpgradeError, WebSocket};

/// Bounds of the layers, for the table of all bounds.
pub(crate) mod bounds {
    pub(crate) use super::proxy::{
        HEADER_SIZE_MAX as PROXY_SIZE_MAX, V1_SIZE_MAX as PROXY_V1_SIZE_MAX,
    };
    pub(crate) use super::tls::{HANDSHAKE_SIZE_MAX, PART_SIZE_MAX, RECORD_SIZE_MAX, SESSIONS_MAX};
    pub(crate) use super::websocket::{
        CONTROL_SIZE_MAX, FIELDS_MAX, HEADER_SIZE_MAX as REQUEST_SIZE_MAX, PINGS_MAX,
    };

    pub(crate) const PENDING_SIZE_MAX: usize = super::PENDING_SIZE_MAX;
}

/// The layers of one connection.
#[derive(Debug)]
pub struct Transport {
    /// The rules of the layers.
    stack: Arc<Stack>,
    /// Until the header has arrived.
    proxy: Option<ProxyHeader>,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    /// Bytes for the socket that the layers themselves produced.
    pending: Vec<u8>,
    stage: Stage,
    /// The part of [`Transport::partial_size`] that the reactor has counted.
    pub(crate) counted_size: usize,
    /// Is in the queue of handshakes.
    pub(crate) is_queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Bytes go both ways, or will once the layers are open.
    Live,
    /// The end of the layers is in `pending`, or was sent.
    Over,
}

/// Buffers that decoding and encoding overwrite; one set per shard.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Decoded bytes of MQTT.
    pub plain: Vec<u8>,
    records: Vec<u8>,
    middle: Vec<u8>,
    answer: Vec<u8>,
}

/// The outcome of decoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// A layer has identified the peer.
    pub peer: Option<PeerNews>,
    /// A TLS handshake ended.
    pub handshake: Option<Handshake>,
    /// The peer has ended a layer: nothing follows.
    pub ended: bool,
}

/// The kind of handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A full one.
    Full,
    /// One that resumed a session.
    Resumed,
}

/// What a layer has learned about the peer. `None` leaves the value as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNews {
    /// Address of the client.
    pub address: Option<SocketAddr>,
    /// Its verified user name.
    pub name: Option<String>,
    /// If the listener asks for client certificates: whether this client has none.
    pub is_unproven: Option<bool>,
}

/// Why the layers end a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The PROXY header.
    Proxy(ProxyError),
    /// TLS.
    Tls(TlsError),
    /// WebSocket.
    WebSocket(Breach),
    /// The peer does not read the responses of the layers.
    PendingFull,
}

impl Transport {
    /// The layers of its listener.
    pub(crate) fn stack(&self) -> &Arc<Stack> {
        &self.stack
    }

    /// The version of TLS that was agreed on, if there is TLS.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        match self.tls.as_ref()?.version()? {
            ProtocolVersion::TLSv1_2 => Some("1.2"),
            ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => Some("other"),
        }
    }

    /// The layers of a connection that has just been accepted.
    pub(crate) fn new(stack: &Arc<Stack>) -> Transport {
        Transport {
            proxy: stack.proxy.is_some().then(ProxyHeader::default),
            tls: stack.tls.as_ref().map(|tls| Tls::new(tls.terms())),
            websocket: stack.websocket.is_some().then(WebSocket::new),
            pending: Vec::new(),
            stage: Stage::Live,
            counted_size: 0,
            is_queued: false,
            stack: Arc::clone(stack),
        }
    }

    /// Decodes bytes from the socket. Afterwards `scratch.plain` has the MQTT bytes in them, even
    /// if later bytes are invalid. A TLS handshake continues only in [`Transport::advance`].
    pub fn decode(
        &mut self,
        now: Instant,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Decoded, Failure> {
        scratch.plain.clear();
        if self.stage == Stage::Over {
            return Ok(Decoded::default());
        }
        self.decode_layers(now, bytes, scratch)
            .and_then(|decoded| self.check_pending(decoded))
            .inspect_err(|_| self.stage = Stage::Over)
    }

    fn decode_layers(
        &mut self,
        now: Instant,
        mut bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Decoded, Failure> {
        let mut decoded = Decoded::default();
        if let Some(header) = &mut self.proxy {
            let Some(announced) = header.take_in(&mut bytes).map_err(Failure::Proxy)? else {
                return Ok(decoded);
            };
            self.proxy = None;
            decoded.peer = self.stack.believe(announced);
        }
        match (&mut self.tls, &self.websocket) {
            (Some(tls), _) if !tls.is_established() => {
                tls.gather(bytes).map_err(Failure::Tls)?;
                Ok(decoded)
            }
            (Some(_), _) => self.decode_tls(now, Some(bytes), scratch, decoded),
            (None, Some(_)) => {
                decoded.ended = self.decode_websocket(now, bytes, scratch)?;
                Ok(decoded)
            }
            (None, None) => {
                scratch.plain.extend_from_slice(bytes);
                Ok(decoded)
            }
        }
    }

    /// A TLS handshake waits to be continued.
    pub fn is_due(&self) -> bool {
        self.stage == Stage::Live && self.tls.as_ref().is_some_and(Tls::is_due)
    }

    /// Continues the TLS handshake, which may take some hundred microseconds; otherwise like
    /// [`Transport::decode`].
    pub fn advance(&mut self, now: Instant, scratch: &mut Scratch) -> Result<Decoded, Failure> {
        scratch.plain.clear();
        if !self.is_due() {
            return Ok(Decoded::default());
        }
        self.decode_tls(now, None, scratch, Decoded::default())
            .and_then(|decoded| self.check_pending(decoded))
            .inspect_err(|_| self.stage = Stage::Over)
    }

    /// Decrypts bytes, or continues the handshake, and decodes the content. What was decrypted
    /// before a failure still counts.
    fn decode_tls(
        &mut self,
        now: Instant,
        bytes: Option<&[u8]>,
        scratch: &mut Scratch,
        mut decoded: Decoded,
    ) -> Result<Decoded, Failure> {
        let tls = self.tls.as_mut().expect("the caller saw TLS");
        let listener = self
            .stack
            .tls
            .as_ref()
            .expect("TLS is that of the listener");
        let mut inner = std::mem::take(match self.websocket {
            Some(_) => &mut scratch.middle,
            None => &mut scratch.plain,
        });
        inner.clear();
        let taken = match bytes {
            Some(bytes) => tls.decode(bytes, &mut scratch.records, &mut inner, &mut self.pending),
            None => tls.advance(&listener.terms(), &mut inner, &mut self.pending),
        };
        if self.websocket.is_some() {
            let ended = self.decode_websocket(now, &inner, scratch);
            scratch.middle = inner;
            decoded.ended = ended?;
        } else {
            scratch.plain = inner;
        }
        let taken = taken.map_err(Failure::Tls)?;
        decoded.ended |= taken.closed;
        if let Some(established) = taken.established {
            decoded.handshake = Some(if established.resumed {
                Handshake::Resumed
            } else {
                Handshake::Full
            });
            let peer = decoded.peer.get_or_insert_default();
            peer.is_unproven = Some(self.stack.asks_for_proof() && !established.has_certificate);
            if established.identity.is_some() {
                peer.name = established.identity;
            }
        }
        Ok(decoded)
    }

    /// True when the client has closed the WebSocket.
    fn decode_websocket(
        &mut self,
        now: Instant,
        bytes: &[u8],
        scratch: &mut Scratch,
    ) -> Result<bool, Failure> {
        let (Some(websocket), Some(origins)) = (&mut self.websocket, &self.stack.websocket) else {
            return Ok(false);
        };
        if bytes.is_empty() {
            return Ok(false);
        }
        let Scratch { plain, answer, .. } = scratch;
        answer.clear();
        let is_open = websocket.decode(now, bytes, origins, plain, answer);
        match &mut self.tls {
            _ if answer.is_empty() => {}
            Some(tls) => tls.encode(answer, &mut self.pending),
            None => self.pending.extend_from_slice(answer),
        }
        Ok(!is_open.map_err(Failure::WebSocket)?)
    }

    fn check_pending(&self, decoded: Decoded) -> Result<Decoded, Failure> {
        match self.pending.len() {
            0..=PENDING_SIZE_MAX => Ok(decoded),
            _ => Err(Failure::PendingFull),
        }
    }

    /// MQTT may be encoded: the layers are established, and have not ended.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Live
            && self.proxy.is_none()
            && self.tls.as_ref().is_none_or(Tls::is_established)
            && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Nothing more is decoded, and nothing but pending bytes is sent.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// No layer is left: bytes are those of MQTT.
    pub fn is_spent(&self) -> bool {
        self.proxy.is_none()
            && self.tls.is_none()
            && self.websocket.is_none()
            && self.pending.is_empty()
    }

    /// There are bytes for the socket besides those of MQTT.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The bytes for the socket besides those of MQTT.
    pub fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Encodes output after the pending bytes; only while [`Transport::is_open`]. `buffer` is empty
    /// and has room. Returns the bytes for the socket, and the output if they no longer need it.
    pub fn encode(
        &mut self,
        output: Output,
        buffer: Vec<u8>,
        scratch: &mut Scratch,
    ) -> (Output, Option<Output>) {
        let mut wire = buffer;
        wire.append(&mut self.pending);
        let frame_size_max = match self.websocket {
            Some(_) => FRAME_SIZE_MAX,
            None => usize::MAX,
        };
        match (&mut self.tls, &self.websocket) {
            (Some(tls), websocket) => {
                let middle = &mut scratch.middle;
                middle.clear();
                for part in parts(&output, frame_size_max) {
                    if let (Some(websocket), Some(size)) = (websocket, part.frame_size) {
                        websocket.push_header(size, middle);
                    }
                    encrypt(tls, part.bytes(), middle, &mut wire);
                }
                (Output::One(wire), Some(output))
            }
            (None, Some(websocket)) => {
                let framed = frame(websocket, &output, wire);
                (framed, Some(output))
            }
            (None, None) => (output, None),
        }
    }

    /// Ends the layers from our side; the bytes that tell the peer are pending afterwards.
    pub fn finish(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        let mut close = Vec::new();
        if let Some(websocket) = &mut self.websocket {
            websocket.finish(&mut close);
        }
        match &mut self.tls {
            Some(tls) if tls.is_established() => {
                if !close.is_empty() {
                    tls.encode(&close, &mut self.pending);
                }
                tls.finish(&mut self.pending);
            }
            Some(_) => {}
            None => self.pending.append(&mut close),
        }
        self.stage = Stage::Over;
    }

    /// Checks the client against the current terms of its listener.
    pub(crate) fn recheck(&mut self) -> Result<(), Failure> {
        match (&mut self.tls, &self.stack.tls) {
            (Some(tls), Some(listener)) => tls.recheck(&listener.terms()).map_err(Failure::Tls),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Like `recheck`, for a connection that has just moved to this shard and may have missed a
    /// change.
    pub(crate) fn recheck_arrived(&mut self) -> Result<(), Failure> {
        match (&self.tls, &self.stack.tls) {
            (Some(tls), Some(listener)) if !tls.is_under(&listener.terms()) => self.recheck(),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Memory held for incomplete input.
    pub fn partial_size(&self) -> usize {
        self.proxy.as_ref().map_or(0, ProxyHeader::partial_size)
            + self.tls.as_ref().map_or(0, Tls::partial_size)
            + self.websocket.as_ref().map_or(0, WebSocket::partial_size)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Proxy(error) => error.fmt(f),
            Failure::Tls(error) => error.fmt(f),
            Failure::WebSocket(Breach::Refused(refusal)) => write!(f, "WebSocket: {refusal}"),
            Failure::WebSocket(Breach::Frame(Status(status))) => {
                write!(f, "WebSocket: invalid frame, closed with {status}")
            }
            Failure::PendingFull => f.write_str("the peer does not read its responses"),
        }
    }
}

/// A flight of a TLS handshake takes some KiB; everything else is smaller. More than this
/// accumulates only if a peer makes requests and does not read.
const PENDING_SIZE_MAX: usize = 64 * 1024;
