//! The TLS layer of one connection: rustls without buffers of its own.
//!
//! Invariants:
//! - an idle connection holds no buffer: `part` has no memory unless a record is incomplete.
//! - `part` holds at most [`PART_SIZE_MAX`] bytes once the handshake is done, and at most
//!   [`HANDSHAKE_SIZE_MAX`] before.
//! - rustls keeps positions in the bytes that it has not consumed: it is called with exactly those,
//!   `part`, each time, also to write. Anything else makes it panic on a fragmented message.
//! - the expensive steps happen in [`Tls::advance`] alone, so that their pace can be controlled.
//!
//! Not here: files (`terms.rs`), certificates and the names in them (`ringmq-certificates`).

mod fault;
mod hello;
mod terms;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ringmq_certificates::IdentityField;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, HandshakeKind, InvalidMessage, PeerMisbehaved, ProtocolVersion};

use fault::Fault;

pub(crate) use terms::SESSIONS_MAX;
pub use terms::{Demand, RecordSize, TlsFiles, TlsTerms};

/// TLS of one connection.
pub struct Tls {
    terms: Arc<TlsTerms>,
    /// `None` until the client has sent something, so that one that only connects costs no more
    /// than TCP; and after the end.
    session: Option<Box<UnbufferedServerConnection>>,
    /// The part of a record, or of a message in several records, that has arrived.
    part: Vec<u8>,
    /// Bytes of `part` that rustls has seen, and needs again with the rest of their message. Used
    /// during the handshake.
    seen: usize,
    is_established: bool,
    /// It has failed, or was finished: nothing more is read or written.
    is_over: bool,
}

/// Why TLS ends a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// The handshake failed, or a record is wrong. The client was told by an alert.
    Protocol(rustls::Error),
    /// The handshake is longer than any legitimate one.
    HandshakeTooLong,
    /// A message after the handshake is.
    MessageTooLong,
    /// The certificate does not say who the client is.
    NoIdentity,
    /// The server name that the client sent (SNI) is invalid.
    ServerName(Box<[u8]>),
}

/// A handshake that has just completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// The user name, if it comes from the certificate.
    pub identity: Option<String>,
    /// It presented a valid certificate.
    pub has_certificate: bool,
    /// It resumed a session: no signature was made.
    pub resumed: bool,
}

/// The outcome of decoding.
#[derive(Debug, Default)]
pub struct Taken {
    /// The handshake completed.
    pub established: Option<Established>,
    /// The peer has closed TLS: nothing follows.
    pub closed: bool,
}

impl Tls {
    /// A connection that has sent nothing.
    pub fn new(terms: Arc<TlsTerms>) -> Tls {
        Tls {
            terms,
            session: None,
            part: Vec::new(),
            seen: 0,
            is_established: false,
            is_over: false,
        }
    }

    /// Collects bytes of a handshake; true if they can be processed.
    pub fn gather(&mut self, bytes: &[u8]) -> Result<bool, TlsError> {
        if self.part.len() + bytes.len() > HANDSHAKE_SIZE_MAX {
            return Err(TlsError::HandshakeTooLong);
        }
        self.part.extend_from_slice(bytes);
        Ok(self.is_due())
    }

    /// A whole record of the handshake has arrived, or something that cannot be one.
    pub fn is_due(&self) -> bool {
        if self.is_established || self.is_over {
            return false;
        }
        match next_record(&self.part[self.seen..]) {
            Record::Partial => false,
            Record::Whole(_) | Record::Wrong => true,
        }
    }

    /// Continues the handshake. Responses are appended to `wire`; bytes that follow the handshake
    /// are decrypted and appended to `plain`. `current` are the current terms of the listener: a
    /// client that began under others is judged by these at the end.
    pub fn advance(
        &mut self,
        current: &Arc<TlsTerms>,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Taken, TlsError> {
        if self.is_over {
            return Ok(Taken::default());
        }
        if self.session.is_none() {
            self.terms = Arc::clone(current);
            let config = Arc::clone(&self.terms.config);
            let session = UnbufferedServerConnection::new(config).map_err(TlsError::Protocol)?;
            self.session = Some(Box::new(session));
        }
        let mut part = std::mem::take(&mut self.part);
        let mut seen = self.seen;
        while let Record::Whole(size) = next_record(&part[seen..]) {
            seen += size;
        }
        let before = plain.len();
        let outcome = self.process(&mut part, plain, wire);
        let outcome = outcome.and_then(|(mut taken, used)| {
            self.part = part[used..].to_vec();
            taken.established = self.establish(current, wire)?;
            Ok((taken, used))
        });
        match outcome {
            Ok((taken, used)) => {
                self.seen = seen.saturating_sub(used);
                // rustls waits for a whole record header, and no more of it may ever arrive.
                let next = next_record(&self.part[self.seen..]);
                if !self.is_established && matches!(next, Record::Wrong) {
                    self.end();
                    let error = InvalidMessage::InvalidContentType;
                    return Err(TlsError::Protocol(error.into()));
                }
                Ok(taken)
            }
            Err(error) => {
                // Nothing that a rejected client sent counts.
                plain.truncate(before);
                self.end();
                Err(error)
            }
        }
    }

    /// Decrypts bytes of an established connection; `scratch` is overwritten.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Taken, TlsError> {
        if self.is_over {
            return Ok(Taken::default());
        }
        assert!(self.is_established, "a handshake goes on in `advance`");
        scratch.clear();
        scratch.append(&mut self.part);
        scratch.extend_from_slice(bytes);
        self.part = Vec::new();
        let outcome = self.process(scratch, plain, wire);
        match outcome {
            Ok((_, used)) if scratch.len() - used > PART_SIZE_MAX => {
                self.end();
                Err(TlsError::MessageTooLong)
            }
            Ok((taken, used)) => {
                self.part = scratch[used..].to_vec();
                Ok(taken)
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// Processes records as far as they are whole. Returns how many bytes were used.
    fn process(
        &mut self,
        records: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(Taken, usize), TlsError> {
        let session = self
            .session
            .as_deref_mut()
            .expect("a session takes bytes in");
        let mut taken = Taken::default();
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                session.process_tls_records(&mut records[used..]);
            let is_idle = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain.extend_from_slice(record.map_err(TlsError::Protocol)?.payload);
                    }
                    false
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    push_data(&mut data, wire);
                    false
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    taken.closed = true;
                    false
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => true,
                // Nothing else can happen: early data is not accepted.
                Ok(_) => true,
                Err(error) => {
                    push_alert(session, wire);
                    return Err(match error {
                        Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) => {
                            TlsError::ServerName(hello::server_name(&records[used..]))
                        }
                        error => TlsError::Protocol(error),
                    });
                }
            };
            used += discard;
            if is_idle {
                break;
            }
        }
        Ok((taken, used))
    }

    /// If the handshake has completed: who is the client?
    fn establish(
        &mut self,
        current: &Arc<TlsTerms>,
        wire: &mut Vec<u8>,
    ) -> Result<Option<Established>, TlsError> {
        let session = self.session.as_deref().expect("it takes bytes in");
        if session.is_handshaking() {
            return Ok(None);
        }
        self.is_established = true;
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let chain = session.peer_certificates().unwrap_or_default();
        let is_current = Arc::ptr_eq(&self.terms, current);
        self.terms = Arc::clone(current);
        let mut admitted = Ok(());
        if resumed || !is_current {
            // The certificate was judged when the session began, or under other terms: it may have
            // expired or been revoked since.
            admitted = self.terms.admit(chain).map_err(TlsError::Protocol);
        }
        let has_certificate = !chain.is_empty();
        let mut identity = None;
        if let (Ok(()), [own, ..]) = (&admitted, chain)
            && self.terms.identity != IdentityField::None
        {
            identity = self.terms.identity.of(own);
            if identity.is_none() {
                admitted = Err(TlsError::NoIdentity);
            }
        }
        match admitted {
            Ok(()) => Ok(Some(Established {
                identity,
                has_certificate,
                resumed,
            })),
            Err(error) => {
                self.finish(wire);
                Err(error)
            }
        }
    }

    /// The handshake is done.
    pub fn is_established(&self) -> bool {
        self.is_established
    }

    /// Encrypts, and appends to `wire`. Only while [`Tls::is_established`].
    pub fn encode(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        let records = plain.len() / self.terms.record_size;
        self.write(
            wire,
            records * RECORD_ROOM + plain.len(),
            |traffic, room| traffic.encrypt(plain, room),
        );
    }

    /// Appends the alert that closes TLS.
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        self.write(wire, 0, |traffic, room| traffic.queue_close_notify(room));
        self.end();
    }

    fn end(&mut self) {
        self.is_over = true;
        self.session = None;
        self.part = Vec::new();
    }

    fn write(
        &mut self,
        wire: &mut Vec<u8>,
        size: usize,
        mut write: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) {
        let Some(session) = self.session.as_deref_mut() else {
            return; // It is over: nobody reads what would be written.
        };
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                session.process_tls_records(&mut self.part[used..]);
            let is_done = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    append(wire, size + HANDSHAKE_ROOM, |room| {
                        write(&mut traffic, room).map_err(|e| match e {
                            EncryptError::InsufficientSize(e) => Some(e.required_size),
                            // 2^64 records: not in the lifetime of a machine.
                            EncryptError::EncryptExhausted => None,
                        })
                    });
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    push_data(&mut data, wire);
                    false
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => false,
                // The session is over: nobody reads what would be written.
                Ok(_) | Err(_) => true,
            };
            used += discard;
            if is_done {
                self.part.drain(..used);
                return;
            }
        }
    }

    /// Whether an admitted client would be admitted under other terms, which apply to it from here
    /// on. A handshake in progress is judged at its end.
    pub fn recheck(&mut self, terms: &Arc<TlsTerms>) -> Result<(), TlsError> {
        let Some(session) = self.session.as_ref().filter(|_| self.is_established) else {
            return Ok(());
        };
        self.terms = Arc::clone(terms);
        let chain = session.peer_certificates().unwrap_or_default();
        terms.admit(chain).map_err(TlsError::Protocol)
    }

    /// The client was judged by these terms.
    pub fn is_under(&self, terms: &Arc<TlsTerms>) -> bool {
        Arc::ptr_eq(&self.terms, terms)
    }

    /// The negotiated version.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.session.as_ref()?.protocol_version()
    }

    /// Memory held for incomplete input.
    pub fn partial_size(&self) -> usize {
        self.part.capacity()
    }
}

type Traffic<'a> = WriteTraffic<'a, ServerConnectionData>;

/// What the input begins with.
enum Record {
    /// A record of this size.
    Whole(usize),
    /// Less than a record.
    Partial,
    /// Something that cannot be one. Other protocols are recognized by their first byte.
    Wrong,
}

fn next_record(bytes: &[u8]) -> Record {
    if bytes
        .first()
        .is_some_and(|kind| !RECORD_KINDS.contains(kind))
    {
        return Record::Wrong;
    }
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<RECORD_HEAD_SIZE>() else {
        return Record::Partial;
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        size if size > RECORD_SIZE_MAX => Record::Wrong,
        size if bytes.len() < RECORD_HEAD_SIZE + size => Record::Partial,
        size => Record::Whole(RECORD_HEAD_SIZE + size),
    }
}

fn push_data(data: &mut EncodeTlsData<'_, ServerConnectionData>, wire: &mut Vec<u8>) {
    append(wire, HANDSHAKE_ROOM, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(error) => Some(error.required_size),
            EncodeError::AlreadyEncoded => None,
        })
    });
}

/// Appends the alert of a failure. While there is something to send, rustls does not process input.
fn push_alert(session: &mut UnbufferedServerConnection, wire: &mut Vec<u8>) {
    while session.wants_write() {
        match session.process_tls_records(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => push_data(&mut data, wire),
            Ok(_) | Err(_) => return,
        }
    }
}

/// Appends what `write` writes; it is asked again with the room that it says it needs.
fn append(
    wire: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) {
    let start = wire.len();
    let mut room = room;
    loop {
        wire.resize(start + room, 0);
        match write(&mut wire[start..]) {
            Ok(size) => return wire.truncate(start + size),
            Err(Some(required)) if required > room => room = required,
            Err(_) => return wire.truncate(start),
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("version", &self.version())
            .field("is_established", &self.is_established)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TlsError::Protocol(error) => write!(f, "TLS: {}", Fault(error)),
            TlsError::HandshakeTooLong => f.write_str("TLS: the handshake is too long"),
            TlsError::MessageTooLong => f.write_str("TLS: a message is too long"),
            TlsError::NoIdentity => {
                f.write_str("TLS: the client certificate has no usable identity")
            }
            TlsError::ServerName(name) => write!(
                f,
                "TLS: the client calls the broker `{}` (SNI), which is not a host name: let it \
                 connect to a DNS name (letters, digits, hyphens, dots) or to an address, or turn \
                 SNI off",
                name.escape_ascii()
            ),
        }
    }
}

/// A chain of certificates of a client takes a few KiB.
pub(crate) const HANDSHAKE_SIZE_MAX: usize = 64 * 1024;
/// First bytes of the records of a handshake, an alert or application data.
const RECORD_KINDS: std::ops::RangeInclusive<u8> = 20..=23;
const RECORD_HEAD_SIZE: usize = 5;
/// RFC 8446, section 5.2.
pub(crate) const RECORD_SIZE_MAX: usize = (1 << 14) + 256;
/// A record, and the messages of some bytes that clients send after the handshake.
pub(crate) const PART_SIZE_MAX: usize = 2 * RECORD_SIZE_MAX;
/// More than a record takes besides its content: head, nonce, kind, tag.
const RECORD_ROOM: usize = 64;
/// A record of small content; larger ones are asked for.
const HANDSHAKE_ROOM: usize = 2 * RECORD_ROOM;
