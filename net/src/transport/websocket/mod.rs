//! The WebSocket layer: an HTTP request, then frames that carry MQTT.
//!
//! Invariant: at most [`HEADER_SIZE_MAX`] bytes of a request are buffered, and nothing of a data
//! frame.

mod frames;
mod handshake;
mod origin;

use std::ops::ControlFlow;

use ringmq_core::time::Instant;

pub use frames::Status;
pub(crate) use frames::{CONTROL_SIZE_MAX, PINGS_MAX};
use frames::{Frames, push_close, push_header};
pub use handshake::UpgradeError;
pub(crate) use handshake::{FIELDS_MAX, HEADER_SIZE_MAX};
pub use origin::{Origin, OriginFault, Origins};

/// One WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The request is incomplete.
    Upgrading(Vec<u8>),
    Open(Box<Frames>),
    /// A close frame or a refusal was sent: nothing follows it, and input is ignored.
    Closed,
}

/// Why the broker ends a WebSocket. The client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The request was refused.
    Refused(UpgradeError),
    /// A frame was invalid.
    Frame(Status),
}

impl WebSocket {
    /// A connection that has sent nothing.
    pub fn new() -> WebSocket {
        WebSocket {
            state: State::Upgrading(Vec::new()),
        }
    }

    /// Decodes bytes: MQTT bytes are appended to `plain`, responses to `answer`. False if the
    /// client has closed the WebSocket.
    pub fn decode(
        &mut self,
        now: Instant,
        bytes: &[u8],
        origins: &Origins,
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<bool, Breach> {
        let mut bytes = bytes;
        if let State::Upgrading(request) = &mut self.state {
            match take_request(request, &mut bytes)
                .and_then(|whole| whole.map(|r| handshake::accept(&r, origins)).transpose())
            {
                Ok(None) => return Ok(true),
                Ok(Some(accepted)) => {
                    answer.extend_from_slice(accepted.as_bytes());
                    self.state = State::Open(Box::new(Frames::new(now)));
                }
                Err(refusal) => {
                    answer.extend_from_slice(refusal.answer().as_bytes());
                    self.state = State::Closed;
                    return Err(Breach::Refused(refusal));
                }
            }
        }
        let State::Open(frames) = &mut self.state else {
            return Ok(false);
        };
        match frames.decode(now, bytes, plain, answer) {
            Ok(ControlFlow::Continue(())) => Ok(true),
            Ok(ControlFlow::Break(())) => {
                self.state = State::Closed;
                Ok(false)
            }
            Err(status) => {
                push_close(answer, Some(status));
                self.state = State::Closed;
                Err(Breach::Frame(status))
            }
        }
    }

    /// The request was answered, and neither side has closed.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Appends the header for `size` bytes of MQTT. Only while [`WebSocket::is_open`].
    pub fn push_header(&self, size: usize, wire: &mut Vec<u8>) {
        push_header(wire, size);
    }

    /// Appends a close frame, unless the WebSocket has ended.
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        if self.is_open() {
            push_close(wire, Some(Status::NORMAL));
        }
        self.state = State::Closed;
    }

    /// Memory held for incomplete input.
    pub fn partial_size(&self) -> usize {
        match &self.state {
            State::Upgrading(request) => request.capacity(),
            State::Open(_) | State::Closed => 0,
        }
    }
}

impl Default for WebSocket {
    fn default() -> WebSocket {
        WebSocket::new()
    }
}

/// Moves bytes up to the empty line into `request`, and returns it once that has arrived.
fn take_request(request: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, UpgradeError> {
    let seen = request.len();
    let size = bytes.len().min(HEADER_SIZE_MAX + 1 - seen);
    request.extend_from_slice(&bytes[..size]);
    // Other protocols are recognized by their first byte; they might never send an empty line.
    let start = &request[..request.len().min(METHOD.len())];
    if !METHOD.starts_with(start) {
        return Err(UpgradeError::NotHttp);
    }
    // Only what is new is searched, so a request in small pieces costs no more than a whole one.
    let from = seen.saturating_sub(END.len() - 1);
    let found = request[from..].windows(END.len()).position(|w| w == END);
    match found {
        Some(at) => {
            let end = from + at + END.len();
            *bytes = &bytes[end - seen..];
            request.truncate(end);
            Ok(Some(std::mem::take(request)))
        }
        None if request.len() > HEADER_SIZE_MAX => Err(UpgradeError::TooLong),
        None => Ok(None),
    }
}

const METHOD: &[u8] = b"GET ";
const END: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    type Outcome = (Vec<u8>, String, Result<bool, Breach>);

    fn decode_in(chunk_size: usize, bytes: &[u8]) -> Outcome {
        let mut socket = WebSocket::new();
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        let mut end = Ok(true);
        for chunk in bytes.chunks(chunk_size) {
            let origins = Origins::default();
            end = socket.decode(Instant::ZERO, chunk, &origins, &mut plain, &mut answer);
            if end != Ok(true) {
                break;
            }
            assert!(socket.partial_size() <= 2 * (HEADER_SIZE_MAX + 1));
        }
        (plain, String::from_utf8_lossy(&answer).into_owned(), end)
    }

    #[test]
    fn frames_may_follow_the_request_at_once_or_in_any_pieces() {
        let stream = [REQUEST.as_bytes(), b"\x82\x83\0\0\0\0abc\x82\x81\0\0\0\0d"].concat();
        let whole = decode_in(usize::MAX, &stream);
        assert_eq!(whole.0, b"abcd");
        assert!(whole.1.starts_with("HTTP/1.1 101 "));
        assert_eq!(whole.2, Ok(true));
        for chunk_size in 1..stream.len() {
            assert_eq!(decode_in(chunk_size, &stream), whole, "in {chunk_size}s");
        }
    }

    // Threat 88: garbage is refused at its first byte, a long header at its bound.
    #[test]
    fn what_is_not_a_request_is_refused_early() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(1 << 20));
        for (bytes, refusal) in [
            (
                b"\x10\x0C\0\x04MQTT\x04\x02\0\0".as_slice(),
                UpgradeError::NotHttp,
            ),
            (b"\x16\x03\x01\x02\0", UpgradeError::NotHttp),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UpgradeError::NotHttp),
            (b"\r\n\r\n", UpgradeError::NotHttp),
            (b"get / HTTP/1.1\r\n\r\n", UpgradeError::NotHttp),
            (long.as_bytes(), UpgradeError::TooLong),
        ] {
            for chunk_size in [1, 7, 4096, usize::MAX] {
                let (plain, answer, end) = decode_in(chunk_size, bytes);
                assert_eq!(end, Err(Breach::Refused(refusal)), "{bytes:?}");
                let status = match refusal {
                    UpgradeError::TooLong => "HTTP/1.1 431 ",
                    _ => "HTTP/1.1 400 ",
                };
                assert!(plain.is_empty() && answer.starts_with(status));
            }
        }
    }

    #[test]
    fn after_its_end_nothing_is_read_and_it_is_closed_once() {
        let mut socket = WebSocket::new();
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        let mut take = |socket: &mut WebSocket, bytes: &[u8]| {
            socket.decode(
                Instant::ZERO,
                bytes,
                &Origins::default(),
                &mut plain,
                &mut answer,
            )
        };
        assert_eq!(take(&mut socket, REQUEST.as_bytes()), Ok(true));
        let mut wire = Vec::new();
        socket.finish(&mut wire);
        assert_eq!(wire, b"\x88\x02\x03\xE8");
        socket.finish(&mut wire);
        assert_eq!(wire.len(), 4);
        assert_eq!(take(&mut socket, b"\x82\x83\0\0\0\0abc"), Ok(false));
        assert!(plain.is_empty());
    }
}
