//! WebSocket frames (RFC 6455, section 5): from a client's frames to the bytes of MQTT.
//!
//! Nothing is buffered: the payload of a data frame is passed on as it arrives, whatever length the
//! frame claims, so a frame costs no memory. Packet limits are enforced by the MQTT decoder.
//!
//! Invariants:
//! - `header_size <= HEADER_SIZE_MAX`; `control` holds at most [`CONTROL_SIZE_MAX`] bytes and no
//!   memory unless a control frame is incomplete.
//! - the result does not depend on how the input was cut.
//!
//! Not here: the HTTP request that comes first (`handshake.rs`).

use std::ops::ControlFlow;
use std::time::Duration;

use ringmq_core::time::Instant;

/// The stream of frames of one client, read up to some byte.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER_SIZE_MAX],
    header_size: u8,
    /// The frame whose payload is being read; its header was whole.
    frame: Option<Frame>,
    /// A data message has begun, and its last frame has not come.
    in_message: bool,
    /// Payload of a control frame.
    control: Vec<u8>,
    pings: Pings,
}

/// A frame whose header is known.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    /// Payload that has not come yet.
    rest: u64,
    /// Turned so that the next byte is masked with the first.
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Binary,
    Close,
    Ping,
    Pong,
}

/// A breach of the protocol: the status code of the close frame that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

impl Frames {
    pub(super) fn new(now: Instant) -> Frames {
        Frames {
            header: [0; HEADER_SIZE_MAX],
            header_size: 0,
            frame: None,
            in_message: false,
            control: Vec::new(),
            pings: Pings {
                since: now,
                count: 0,
            },
        }
    }

    /// Takes bytes in: payload is appended to `plain`, answers to `answer`.
    pub(super) fn decode(
        &mut self,
        now: Instant,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<ControlFlow<()>, Status> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_header(&mut bytes)? {
                    Some(frame) => frame,
                    None => return Ok(ControlFlow::Continue(())),
                },
            };
            let size = bytes
                .len()
                .min(usize::try_from(frame.rest).unwrap_or(usize::MAX));
            let (payload, rest) = bytes.split_at(size);
            bytes = rest;
            let target = match frame.kind {
                Kind::Binary => &mut *plain,
                Kind::Close | Kind::Ping | Kind::Pong => &mut self.control,
            };
            append_unmasked(payload, frame.mask, target);
            if frame.rest > size as u64 {
                let mut frame = frame;
                frame.rest -= size as u64;
                frame.mask.rotate_left(size % 4);
                self.frame = Some(frame);
                return Ok(ControlFlow::Continue(()));
            }
            self.frame = None;
            match frame.kind {
                Kind::Binary => {}
                Kind::Close => return self.on_close(answer),
                Kind::Ping => self.on_ping(now, answer)?,
                Kind::Pong => self.control = Vec::new(), // Asked for or not, it says nothing.
            }
        }
    }

    /// Reads up to the end of the next header; `None` if that has not come.
    fn read_header(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Status> {
        loop {
            let wanted = self.wanted_header_size()?;
            let have = usize::from(self.header_size);
            if have == wanted {
                break;
            }
            let size = bytes.len().min(wanted - have);
            if size == 0 {
                return Ok(None);
            }
            let (taken, rest) = bytes.split_at(size);
            self.header[have..have + size].copy_from_slice(taken);
            self.header_size += size as u8;
            *bytes = rest;
        }
        let frame = self.judge_header()?;
        self.header_size = 0;
        self.frame = Some(frame);
        Ok(Some(frame))
    }

    /// How long the header is, as far as that is known. What the first two bytes say is judged as
    /// soon as they are there.
    fn wanted_header_size(&self) -> Result<usize, Status> {
        if self.header_size < 2 {
            return Ok(2);
        }
        let [first, second, ..] = self.header;
        if first & RSV_BITS != 0 {
            // No extension was negotiated, compression least of all.
            return Err(Status::PROTOCOL_ERROR);
        }
        if second & MASK_BIT == 0 {
            return Err(Status::PROTOCOL_ERROR);
        }
        let (is_final, length) = (first & FIN_BIT != 0, second & !MASK_BIT);
        match first & OPCODE_BITS {
            CONTINUATION if self.in_message => {}
            BINARY if !self.in_message => {}
            // [MQTT-6.0.0-1] MQTT travels in binary frames; anything else ends the connection.
            TEXT if !self.in_message => return Err(Status::UNSUPPORTED),
            CLOSE | PING | PONG if is_final && usize::from(length) <= CONTROL_SIZE_MAX => {}
            _ => return Err(Status::PROTOCOL_ERROR),
        }
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        Ok(2 + extended + 4)
    }

    /// The frame that a whole header announces.
    fn judge_header(&mut self) -> Result<Frame, Status> {
        let header = &self.header[..usize::from(self.header_size)];
        let (extended, mask) = header[2..].split_at(header.len() - 2 - 4);
        let mut length = u64::from(header[1] & !MASK_BIT);
        if !extended.is_empty() {
            let wide = extended
                .iter()
                .fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
            // The most significant bit has to be 0, and the shortest form has to be used.
            let shorter_max = if extended.len() == 2 { 125 } else { 0xFFFF };
            if wide > i64::MAX as u64 || wide <= shorter_max {
                return Err(Status::PROTOCOL_ERROR);
            }
            length = wide;
        }
        let is_final = header[0] & FIN_BIT != 0;
        let kind = match header[0] & OPCODE_BITS {
            CONTINUATION | BINARY => {
                self.in_message = !is_final;
                Kind::Binary
            }
            CLOSE => Kind::Close,
            PING => Kind::Ping,
            PONG => Kind::Pong,
            other => unreachable!("opcode {other} was refused"),
        };
        Ok(Frame {
            kind,
            rest: length,
            mask: [mask[0], mask[1], mask[2], mask[3]],
        })
    }

    fn on_close(&mut self, answer: &mut Vec<u8>) -> Result<ControlFlow<()>, Status> {
        let payload = std::mem::take(&mut self.control);
        match payload.as_slice() {
            [] => push_close(answer, None),
            [_] => return Err(Status::PROTOCOL_ERROR),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(Status::PROTOCOL_ERROR);
                }
                if std::str::from_utf8(reason).is_err() {
                    return Err(Status::NOT_UTF8);
                }
                push_close(answer, Some(Status(code)));
            }
        }
        Ok(ControlFlow::Break(()))
    }

    fn on_ping(&mut self, now: Instant, answer: &mut Vec<u8>) -> Result<(), Status> {
        let payload = std::mem::take(&mut self.control);
        if now.saturating_since(self.pings.since) >= PING_SPAN {
            self.pings = Pings {
                since: now,
                count: 0,
            };
        }
        if self.pings.count == PINGS_MAX {
            return Err(Status::POLICY);
        }
        self.pings.count += 1;
        answer.extend_from_slice(&[FIN_BIT | PONG, payload.len() as u8]);
        answer.extend_from_slice(&payload);
        Ok(())
    }
}

/// The pings of one span of time.
#[derive(Clone, Copy, Debug)]
struct Pings {
    since: Instant,
    count: u8,
}

impl Status {
    /// The end of a connection that nobody is to blame for.
    pub(super) const NORMAL: Status = Status(1000);
    const PROTOCOL_ERROR: Status = Status(1002);
    const UNSUPPORTED: Status = Status(1003);
    const NOT_UTF8: Status = Status(1007);
    const POLICY: Status = Status(1008);
}

/// Appends a close frame.
pub(super) fn push_close(answer: &mut Vec<u8>, status: Option<Status>) {
    match status {
        None => answer.extend_from_slice(&[FIN_BIT | CLOSE, 0]),
        Some(Status(code)) => {
            answer.extend_from_slice(&[FIN_BIT | CLOSE, 2]);
            answer.extend_from_slice(&code.to_be_bytes());
        }
    }
}

/// Appends the header of a binary frame of `size` bytes. A server does not mask.
pub(super) fn push_header(answer: &mut Vec<u8>, size: usize) {
    answer.push(FIN_BIT | BINARY);
    match size {
        0..=125 => answer.push(size as u8),
        126..=0xFFFF => {
            answer.push(126);
            answer.extend_from_slice(&(size as u16).to_be_bytes());
        }
        _ => {
            answer.push(127);
            answer.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
}

fn append_unmasked(payload: &[u8], mask: [u8; 4], target: &mut Vec<u8>) {
    let start = target.len();
    target.extend_from_slice(payload);
    let wide = u64::from(u32::from_ne_bytes(mask));
    let wide = wide << 32 | wide;
    let mut words = target[start..].chunks_exact_mut(8);
    for word in &mut words {
        let bytes = word.first_chunk::<8>().expect("a chunk has its size");
        word.copy_from_slice(&(u64::from_ne_bytes(*bytes) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Two bytes, a length of eight, a mask of four.
const HEADER_SIZE_MAX: usize = 14;
/// RFC 6455, section 5.5.
pub(crate) const CONTROL_SIZE_MAX: usize = 125;
/// Nobody needs more to see that a connection lives; above, the connection is closed with 1008.
pub(crate) const PINGS_MAX: u8 = 10;
const PING_SPAN: Duration = Duration::from_secs(1);

const FIN_BIT: u8 = 0x80;
const RSV_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0F;
const MASK_BIT: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

    /// A masked frame with that first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            0..=125 => bytes.push(MASK_BIT | payload.len() as u8),
            126..=0xFFFF => {
                bytes.push(MASK_BIT | 126);
                bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                bytes.push(MASK_BIT | 127);
                bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(p, m)| p ^ m));
        bytes
    }

    type Outcome = (Vec<u8>, Vec<u8>, Result<ControlFlow<()>, Status>);

    fn decode_in(chunk_size: usize, bytes: &[u8]) -> Outcome {
        let mut frames = Frames::new(Instant::ZERO);
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        for chunk in bytes.chunks(chunk_size) {
            match frames.decode(Instant::ZERO, chunk, &mut plain, &mut answer) {
                Ok(ControlFlow::Continue(())) => {}
                end => return (plain, answer, end),
            }
        }
        (plain, answer, Ok(ControlFlow::Continue(())))
    }

    /// Whole and in any cut: the same.
    fn decode(bytes: &[u8]) -> Outcome {
        let whole = decode_in(usize::MAX, bytes);
        for chunk_size in 1..bytes.len().min(40) {
            assert_eq!(decode_in(chunk_size, bytes), whole, "in {chunk_size}s");
        }
        whole
    }

    // Threat 85: the ends of frames are not the ends of packets. [MQTT-6.0.0-2] [MQTT3-6.0.0-2]
    #[test]
    fn payload_is_passed_on_as_it_arrives_however_it_is_framed() {
        let mut stream = frame(FIN_BIT | BINARY, b"one");
        stream.extend(frame(BINARY, b"tw"));
        stream.extend(frame(FIN_BIT | PING, b"between"));
        stream.extend(frame(CONTINUATION, b""));
        stream.extend(frame(FIN_BIT | CONTINUATION, b"o"));
        stream.extend(frame(FIN_BIT | PONG, b"unasked"));
        stream.extend(frame(FIN_BIT | BINARY, &[7; 126]));
        stream.extend(frame(FIN_BIT | BINARY, &[8; 0x1_0000]));
        let (plain, answer, end) = decode(&stream);
        let expected = [b"onetwo".as_slice(), &[7; 126], &[8; 0x1_0000]].concat();
        assert_eq!(plain, expected);
        assert_eq!(answer, b"\x8A\x07between");
        assert_eq!(end, Ok(ControlFlow::Continue(())));
    }

    // Threats 86 and 87, and what RFC 6455 forbids besides. [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
    #[test]
    fn a_breach_has_its_status() {
        let close = |payload: &[u8]| frame(FIN_BIT | CLOSE, payload);
        let begun = frame(BINARY, b"x");
        for (what, bytes, status) in [
            ("text", frame(FIN_BIT | TEXT, b"hi"), 1003),
            ("RSV1", frame(FIN_BIT | 0x40 | BINARY, b""), 1002),
            ("RSV3", frame(FIN_BIT | 0x10 | PING, b""), 1002),
            ("opcode 3", frame(FIN_BIT | 3, b""), 1002),
            ("opcode 15", frame(FIN_BIT | 15, b""), 1002),
            ("no mask", vec![FIN_BIT | BINARY, 1, 7], 1002),
            (
                "continues nothing",
                frame(FIN_BIT | CONTINUATION, b"x"),
                1002,
            ),
            (
                "a message in a message",
                [begun.clone(), frame(FIN_BIT | BINARY, b"x")].concat(),
                1002,
            ),
            (
                "text in a message",
                [begun, frame(FIN_BIT | TEXT, b"x")].concat(),
                1002,
            ),
            ("a ping in pieces", frame(PING, b""), 1002),
            ("a long ping", frame(FIN_BIT | PING, &[0; 126]), 1002),
            (
                "a length with its top bit",
                b"\x82\xFF\x80\0\0\0\0\0\0\0\x01\x02\x03\x04".to_vec(),
                1002,
            ),
            ("125 in 16 bits", b"\x82\xFE\0\x7D\0\0\0\0".to_vec(), 1002),
            (
                "65535 in 64 bits",
                b"\x82\xFF\0\0\0\0\0\0\xFF\xFF\0\0\0\0".to_vec(),
                1002,
            ),
            ("half a close code", close(&[3]), 1002),
            ("close code 999", close(&999u16.to_be_bytes()), 1002),
            ("close code 1005", close(&1005u16.to_be_bytes()), 1002),
            ("close code 1006", close(&1006u16.to_be_bytes()), 1002),
            ("close code 2000", close(&2000u16.to_be_bytes()), 1002),
            ("close code 5000", close(&5000u16.to_be_bytes()), 1002),
            ("a reason that is no text", close(b"\x03\xE8\xFF"), 1007),
        ] {
            let (plain, _, end) = decode(&bytes);
            assert_eq!(end, Err(Status(status)), "{what}");
            assert!(plain.len() <= 1, "{what}");
        }
    }

    #[test]
    fn a_close_is_answered_in_kind() {
        for (payload, answer) in [
            (b"".as_slice(), b"\x88\0".as_slice()),
            (b"\x03\xE8", b"\x88\x02\x03\xE8"),
            (b"\x0F\xA0bye", b"\x88\x02\x0F\xA0"),
        ] {
            let mut bytes = frame(FIN_BIT | CLOSE, payload);
            bytes.extend(frame(FIN_BIT | BINARY, b"late"));
            assert_eq!(
                decode(&bytes),
                (Vec::new(), answer.to_vec(), Ok(ControlFlow::Break(())))
            );
        }
    }

    // Fault T23.
    #[test]
    fn a_flood_of_pings_ends_the_connection_and_pings_at_leisure_do_not() {
        let ping = frame(FIN_BIT | PING, b"");
        let mut frames = Frames::new(Instant::ZERO);
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        let mut now = Instant::ZERO;
        for _ in 0..100 {
            now = now + Duration::from_millis(100);
            let end = frames.decode(now, &ping, &mut plain, &mut answer);
            assert_eq!(end, Ok(ControlFlow::Continue(())));
        }
        let flood = ping.repeat(usize::from(PINGS_MAX) + 1);
        now = now + Duration::from_secs(2);
        let end = frames.decode(now, &flood, &mut plain, &mut answer);
        assert_eq!(end, Err(Status::POLICY));
        assert_eq!(answer.len(), 2 * (100 + usize::from(PINGS_MAX)));
    }

    #[test]
    fn a_frame_of_any_length_holds_no_memory() {
        let mut frames = Frames::new(Instant::ZERO);
        let (mut plain, mut answer) = (Vec::new(), Vec::new());
        let header = b"\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\0";
        let mut take = |bytes: &[u8]| {
            plain.clear();
            let end = frames.decode(Instant::ZERO, bytes, &mut plain, &mut answer);
            assert_eq!(end, Ok(ControlFlow::Continue(())));
            assert!(plain.len() <= bytes.len());
        };
        take(header);
        for _ in 0..1000 {
            take(&[0; 1000]);
        }
        assert_eq!(frames.control.capacity(), 0);
    }

    #[test]
    fn the_header_of_our_frames_has_the_shortest_length() {
        for (size, expected) in [
            (0, b"\x82\0".as_slice()),
            (125, b"\x82\x7D"),
            (126, b"\x82\x7E\0\x7E"),
            (0xFFFF, b"\x82\x7E\xFF\xFF"),
            (0x1_0000, b"\x82\x7F\0\0\0\0\0\x01\0\0"),
        ] {
            let mut header = Vec::new();
            push_header(&mut header, size);
            assert_eq!(header, expected, "{size}");
        }
    }
}
