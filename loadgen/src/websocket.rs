//! The client's side of a WebSocket (RFC 6455), as MQTT uses it: bytes in, bytes out, no sockets.
//!
//! The broker's side is in `ringmq`. It is not the same code: only a client masks, only a server
//! answers the request, and a load generator need not bear what an enemy sends, only notice it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// What the request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The broker as the user named it, with its port.
    pub host: String,
    /// `/mqtt`.
    pub path: String,
}

/// A WebSocket of one client.
#[derive(Debug)]
pub struct WebSocket {
    /// What the broker's answer has to hold; `None` once it has come.
    expected: Option<String>,
    /// The answer, or the header of a frame, as far as it has come; payload of a control frame.
    head: Vec<u8>,
    frame: Option<Frame>,
    masks: Masks,
}

/// A frame whose header has come.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    /// Payload that has not come yet.
    rest: u64,
}

impl WebSocket {
    /// Begins: the request is appended to `wire`.
    pub fn open(resource: &Resource, seed: u64, wire: &mut Vec<u8>) -> WebSocket {
        let mut masks = Masks(seed | 1);
        let nonce: Vec<u8> = (0..4).flat_map(|_| masks.next()).collect();
        let key = STANDARD.encode(nonce);
        let Resource { host, path } = resource;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        wire.extend_from_slice(request.as_bytes());
        let digest = Sha1::digest(format!("{key}{GUID}"));
        WebSocket {
            expected: Some(STANDARD.encode(digest)),
            head: Vec::new(),
            frame: None,
            masks,
        }
    }

    /// The broker has agreed: packets may be sent.
    pub fn is_open(&self) -> bool {
        self.expected.is_none()
    }

    /// Takes bytes in: packets are appended to `plain`, responses to `wire`. An error says why the
    /// connection is over.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), String> {
        if let Some(expected) = &self.expected {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(size) = judge_answer(&self.head, expected)? else {
                return Ok(());
            };
            bytes = &bytes[size - before..];
            self.head.clear();
            self.expected = None;
        }
        while !bytes.is_empty() {
            let Some(frame) = self.frame.take() else {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                self.frame = read_header(&self.head)?;
                if self.frame.is_some() {
                    self.head.clear();
                }
                if self.frame.is_some_and(|frame| frame.rest == 0) {
                    self.end_frame(wire)?;
                }
                continue;
            };
            let size = (bytes.len() as u64).min(frame.rest) as usize;
            let (payload, rest) = bytes.split_at(size);
            bytes = rest;
            match frame.opcode {
                CONTINUATION | BINARY => plain.extend_from_slice(payload),
                _ => self.head.extend_from_slice(payload),
            }
            let rest = frame.rest - size as u64;
            self.frame = Some(Frame { rest, ..frame });
            if rest == 0 {
                self.end_frame(wire)?;
            }
        }
        Ok(())
    }

    /// Sends packets: one frame is appended to `wire`.
    pub fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        assert!(self.is_open(), "packets follow the answer");
        self.push(BINARY, plain, wire);
    }

    fn end_frame(&mut self, wire: &mut Vec<u8>) -> Result<(), String> {
        let frame = self.frame.take().expect("a frame ends that began");
        let payload = match frame.opcode {
            CONTINUATION | BINARY => return Ok(()),
            _ => std::mem::take(&mut self.head),
        };
        match frame.opcode {
            PING => self.push(PONG, &payload, wire),
            PONG => {}
            _ => {
                let code = match payload[..] {
                    [high, low, ..] => format!(" (status {})", u16::from_be_bytes([high, low])),
                    _ => String::new(),
                };
                return Err(format!("the broker closed the WebSocket{code}"));
            }
        }
        Ok(())
    }

    fn push(&mut self, opcode: u8, payload: &[u8], wire: &mut Vec<u8>) {
        wire.push(FIN | opcode);
        match payload.len() {
            size @ 0..=125 => wire.push(MASKED | size as u8),
            size @ 126..=0xFFFF => {
                wire.push(MASKED | 126);
                wire.extend_from_slice(&(size as u16).to_be_bytes());
            }
            size => {
                wire.push(MASKED | 127);
                wire.extend_from_slice(&(size as u64).to_be_bytes());
            }
        }
        let mask = self.masks.next();
        wire.extend_from_slice(&mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        wire.extend(masked.map(|(byte, mask)| byte ^ mask));
    }
}

/// The frame that a header announces; `None` if that has not come as a whole.
fn read_header(head: &[u8]) -> Result<Option<Frame>, String> {
    let &[first, second, ref extended @ ..] = head else {
        return Ok(None);
    };
    let opcode = first & 0x0F;
    let is_known = matches!(opcode, CONTINUATION | BINARY | CLOSE | PING | PONG);
    if first & RESERVED != 0 || second & MASKED != 0 || !is_known {
        let what = format!("a WebSocket frame that MQTT does not have ({first:#04x})");
        return Err(format!("the broker sent {what}"));
    }
    let length = match (second, extended.len()) {
        (126, 2) | (127, 8) => extended
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        (126 | 127, _) => return Ok(None),
        (length, _) => u64::from(length),
    };
    if opcode >= CLOSE && length > 125 {
        return Err("the broker sent a control frame of a WebSocket that is too long".to_owned());
    }
    Ok(Some(Frame {
        opcode,
        rest: length,
    }))
}

/// How long the broker's answer is, once all of it has come.
fn judge_answer(answer: &[u8], expected: &str) -> Result<Option<usize>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let size = match parsed.parse(answer) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) if answer.len() < ANSWER_SIZE_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => {
            return Err(
                "the broker's answer is not HTTP; if the port is not for WebSocket, \
                        write mqtt:// in --target"
                    .to_owned(),
            );
        }
    };
    let (code, reason) = (parsed.code.unwrap_or(0), parsed.reason.unwrap_or(""));
    if code != 101 {
        return Err(format!(
            "the broker answers HTTP {code} {reason}; check port and path of --target"
        ));
    }
    let field = |name: &str| {
        let mut fields = parsed.headers.iter();
        let field = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(field.value)
    };
    if field("Sec-WebSocket-Accept") != Some(expected.as_bytes()) {
        return Err("the broker's answer belongs to another request (Sec-WebSocket-Accept)".into());
    }
    // [MQTT-6.0.0-4] The server names the subprotocol that it has chosen.
    if field("Sec-WebSocket-Protocol") != Some(b"mqtt") {
        return Err("the broker does not agree to the WebSocket subprotocol `mqtt`".to_owned());
    }
    Ok(Some(size))
}

/// Masks of frames. They have to differ; nobody has to be kept from guessing them, as pages in a
/// browser would have to be. Xorshift, from a seed that is not 0.
#[derive(Debug)]
struct Masks(u64);

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 as u32).to_ne_bytes()
    }
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// More than any broker has to say.
const ANSWER_SIZE_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> Resource {
        Resource {
            host: "127.0.0.1:8083".to_owned(),
            path: "/mqtt".to_owned(),
        }
    }

    /// A WebSocket, and the answer that opens it.
    fn begun() -> (WebSocket, Vec<u8>) {
        let mut wire = Vec::new();
        let socket = WebSocket::open(&resource(), 7, &mut wire);
        assert!(wire.starts_with(b"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:8083\r\n"));
        let accept = socket.expected.clone().unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             sec-websocket-accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        (socket, answer.into_bytes())
    }

    #[test]
    fn the_key_is_answered_as_the_standard_says() {
        // RFC 6455, section 1.3.
        let digest = Sha1::digest(format!("dGhlIHNhbXBsZSBub25jZQ=={GUID}"));
        assert_eq!(STANDARD.encode(digest), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn any_chunking_is_the_same() {
        let (_, mut input) = begun();
        let long = vec![b'x'; 300];
        input.extend_from_slice(&[FIN | BINARY, 3, b'a', b'b', b'c', FIN | PING, 2, b'h', b'i']);
        input.extend_from_slice(&[BINARY, 126, 1, 44]);
        input.extend_from_slice(&long);
        input.extend_from_slice(&[
            FIN | PONG,
            0,
            FIN | CONTINUATION,
            127,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
        ]);
        input.push(b'!');
        let expected = [b"abc", &long[..], b"!"].concat();
        for size in [1, 2, 7, 100, 10_000] {
            let (mut socket, _) = begun();
            let (mut plain, mut wire) = (Vec::new(), Vec::new());
            for chunk in input.chunks(size) {
                socket.receive(chunk, &mut plain, &mut wire).unwrap();
            }
            assert!(socket.is_open() && plain == expected, "{size}");
            let &[head, length, ref mask @ .., h, i] = &wire[..] else {
                panic!("{wire:?}")
            };
            assert_eq!((head, length), (FIN | PONG, MASKED | 2));
            assert_eq!([h ^ mask[0], i ^ mask[1]], *b"hi");
        }
    }

    #[test]
    fn frames_have_the_shortest_length_and_a_mask() {
        let (mut socket, answer) = begun();
        let (mut plain, mut wire) = (Vec::new(), Vec::new());
        socket.receive(&answer, &mut plain, &mut wire).unwrap();
        for (size, head) in [
            (1, &[130, 129][..]),
            (125, &[130, 253]),
            (126, &[130, 254, 0, 126]),
            (65_536, &[130, 255, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let packet: Vec<u8> = (0..size).map(|n| n as u8).collect();
            wire.clear();
            socket.send(&packet, &mut wire);
            let (start, rest) = wire.split_at(head.len());
            let (mask, masked) = rest.split_at(4);
            let unmasked = masked.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
            assert_eq!(start, head, "{size}");
            assert!(unmasked.eq(packet), "{size}");
        }
    }

    #[test]
    fn what_is_no_websocket_for_mqtt_is_named() {
        let status = |text: &str| text.as_bytes().to_vec();
        let (_, answer) = begun();
        let text = String::from_utf8(answer.clone()).unwrap();
        for (input, expected) in [
            (
                status("HTTP/1.1 404 Not Found\r\n\r\n"),
                "HTTP 404 Not Found; check port and path",
            ),
            (status("\x20\x02\x00\x00"), "is not HTTP"),
            (
                status(&text.replace("Protocol: mqtt", "Protocol: chat")),
                "subprotocol `mqtt`",
            ),
            (
                status(&text.replace("accept: ", "accept: x")),
                "another request",
            ),
            (
                [&answer[..], &[FIN | CLOSE, 2, 3, 234]].concat(),
                "closed the WebSocket (status 1002)",
            ),
            (
                [&answer[..], &[FIN | CLOSE, 0]].concat(),
                "closed the WebSocket",
            ),
            (
                [&answer[..], &[FIN | 1, 1, b'x']].concat(),
                "that MQTT does not have (0x81)",
            ),
            (
                [&answer[..], &[FIN | BINARY, 0x81]].concat(),
                "that MQTT does not have",
            ),
        ] {
            let (mut socket, _) = begun();
            let result = socket.receive(&input, &mut Vec::new(), &mut Vec::new());
            let error = result.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
