//! Cuts packets out of a byte stream.
//!
//! Invariants:
//! - a packet is judged on its fixed header, before its body is there: kind, flags, length and
//!   size. Nothing is ever allocated by a length that a peer declared.
//! - whole packets are borrowed from the input. Only a packet that arrives in pieces is copied.
//! - when the input is used up and no packet is pending, the framer holds no memory.
//! - any chunking of a stream gives the same packets and the same error.
//! - an error repeats: nothing behind it is ever looked at (no smuggled packet).
//!
//! Not here: what is inside of a packet.

use super::basics::Version;
use super::error::DecodeError;
use super::kind::{Direction, PacketKind};
use super::wire::varint_at;

/// One whole packet, not yet decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: PacketKind,
    /// The lower four bits of the first byte.
    pub flags: u8,
    /// Everything behind the fixed header.
    pub body: &'a [u8],
    /// The whole packet.
    pub raw: &'a [u8],
}

/// What packets are taken at this point of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRules {
    /// What both sides agreed on. `None` before the first packet: then a client may send nothing
    /// but CONNECT, a server nothing but CONNACK and AUTH, and everything else is refused on its
    /// first byte.
    pub version: Option<Version>,
    /// Largest packet in bytes, fixed header included.
    pub size_max: u32,
    /// Which side sends.
    pub direction: Direction,
}

/// Holds the packet that arrived in part.
#[derive(Debug, Default)]
pub struct Framer {
    /// The packet up to where it arrived.
    partial: Vec<u8>,
    /// Size of the packet in `partial`; 0 until its fixed header is complete.
    packet_size: u32,
    /// The packet in `partial` is complete and was given out.
    given_out: bool,
}

/// Size of the largest buffer that is kept for the next packet in pieces of the same input: a
/// stream of small messages then costs no allocation per input, and a packet that stops after one
/// byte does not hold much.
const KEPT_SIZE_MAX: usize = 512;

/// What is kept of a first packet that is too large: its header, the name and the level of the
/// protocol.
const REFUSED_SIZE_MAX: usize = 5 + 2 + 4 + 1;

impl Framer {
    /// The next packet, if the rest of it is in `input`. Whatever is used of `input` is cut off its
    /// front; on `None` that is all of it. Call until `None`: the last call gives memory back.
    #[inline]
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        rules: &FrameRules,
    ) -> Result<Option<Frame<'s>>, DecodeError> {
        if self.given_out {
            self.forget(input.is_empty());
        }
        if !self.partial.is_empty() {
            return self.next_in_pieces(input, rules);
        }
        // Most packets are short and whole. A header that goes through `Option` and `Result` is
        // built in memory and read back before the stores have landed: a tenth of the time of a
        // client that only receives.
        if let [first, length @ 0..0x80, ..] = **input
            && let Some((raw, rest)) = input.split_at_checked(2 + usize::from(length))
            && raw.len() <= rules.size_max as usize
        {
            let (kind, flags) = check_first_byte(first, rules)?;
            *input = rest;
            let body = &raw[2..];
            return Ok(Some(Frame {
                kind,
                flags,
                body,
                raw,
            }));
        }
        let Some(header) = Header::parse(input, rules)? else {
            return Ok(self.keep(input, 0));
        };
        let size = header.packet_size as usize;
        match input.split_at_checked(size) {
            Some((raw, rest)) => {
                *input = rest;
                Ok(Some(header.frame(raw)))
            }
            None => Ok(self.keep(input, header.packet_size)),
        }
    }

    /// Whether the input begins with a packet: nothing of one is held.
    #[inline]
    pub fn is_between_packets(&self) -> bool {
        self.given_out || self.partial.is_empty()
    }

    /// Bytes held of a packet that is not complete.
    pub fn partial_size(&self) -> usize {
        if self.given_out {
            0
        } else {
            self.partial.len()
        }
    }

    /// Bytes of heap memory held: never more than 512 or twice what arrived of one packet.
    pub fn memory_size(&self) -> usize {
        self.partial.capacity()
    }

    /// The bytes of a packet that is not complete, for a handover.
    pub fn into_partial(self) -> Vec<u8> {
        if self.given_out {
            Vec::new()
        } else {
            self.partial
        }
    }

    /// Of a first packet that [`Framer::next`] has just refused for its size: the first bytes of
    /// its body, at most [`REFUSED_SIZE_MAX`] with its header. They are kept, so that more can
    /// follow.
    pub fn refused_body(&mut self, input: &[u8]) -> &[u8] {
        assert!(!self.given_out, "what was given out was not refused");
        let room = REFUSED_SIZE_MAX.saturating_sub(self.partial.len());
        self.extend(&input[..input.len().min(room)]);
        let length = self.partial.get(1..).map(varint_at);
        match length {
            Some(Ok(Some((_, size)))) => &self.partial[1 + size..],
            Some(Ok(None) | Err(_)) | None => unreachable!("the size was read"),
        }
    }

    /// `next` while the beginning of a packet is held.
    fn next_in_pieces<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        rules: &FrameRules,
    ) -> Result<Option<Frame<'s>>, DecodeError> {
        while self.packet_size == 0 {
            match Header::parse(&self.partial, rules)? {
                Some(header) => self.packet_size = header.packet_size,
                None => {
                    let Some((&byte, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    self.partial.push(byte);
                    *input = rest;
                }
            }
        }
        let missing = self.packet_size as usize - self.partial.len();
        let (piece, rest) = input.split_at(missing.min(input.len()));
        self.extend(piece);
        *input = rest;
        if piece.len() < missing {
            return Ok(None);
        }
        // Checked again, because the rules may have become stricter meanwhile.
        let header = Header::parse(&self.partial, rules)?;
        self.given_out = header.is_some();
        Ok(header.map(|header| header.frame(&self.partial)))
    }

    /// Keeps the beginning of a packet, which is all that is left of the input.
    fn keep<'s>(&mut self, input: &mut &[u8], packet_size: u32) -> Option<Frame<'s>> {
        self.packet_size = packet_size;
        if input.is_empty() {
            self.partial = Vec::new();
        } else {
            self.extend(input);
            *input = &[];
        }
        None
    }

    /// Appends a piece. Capacity doubles with what really came, and ends at the packet's size.
    fn extend(&mut self, piece: &[u8]) {
        let size = self.partial.len() + piece.len();
        if size > self.partial.capacity() {
            let wanted = size.saturating_mul(2).max(64);
            let wanted = match self.packet_size {
                0 => wanted,
                packet_size => wanted.min(packet_size as usize),
            };
            self.partial.reserve_exact(wanted - self.partial.len());
        }
        self.partial.extend_from_slice(piece);
    }

    /// Ends the packet that was given out.
    fn forget(&mut self, input_is_empty: bool) {
        self.given_out = false;
        if input_is_empty || self.partial.capacity() > KEPT_SIZE_MAX {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
        }
    }
}

/// A complete fixed header that the rules allow.
struct Header {
    kind: PacketKind,
    flags: u8,
    size: u8,
    packet_size: u32,
}

impl Header {
    /// Judges as much of the header as is there; `None` when some of it is missing.
    #[inline]
    fn parse(bytes: &[u8], rules: &FrameRules) -> Result<Option<Header>, DecodeError> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let (kind, flags) = check_first_byte(first, rules)?;
        let (length, length_size) = match rest.first() {
            None => return Ok(None),
            // Most packets are short.
            Some(&byte) if byte < 0x80 => (u32::from(byte), 1),
            Some(_) => match varint_at(rest)? {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        let size = 1 + length_size as u8;
        let packet_size = length + u32::from(size);
        if packet_size > rules.size_max {
            return Err(DecodeError::PacketTooLarge);
        }
        Ok(Some(Header {
            kind,
            flags,
            size,
            packet_size,
        }))
    }

    #[inline]
    fn frame<'a>(&self, raw: &'a [u8]) -> Frame<'a> {
        Frame {
            kind: self.kind,
            flags: self.flags,
            body: &raw[usize::from(self.size)..],
            raw,
        }
    }
}

/// Kind and flags, if the rules allow them.
#[inline]
fn check_first_byte(byte: u8, rules: &FrameRules) -> Result<(PacketKind, u8), DecodeError> {
    let flags = byte & 0x0F;
    let kind = PacketKind::from_number(byte >> 4).ok_or(DecodeError::UnknownKind(byte >> 4))?;
    match rules.version {
        Some(version) => check_kind(kind, version, rules.direction)?,
        None => {
            let opens = match rules.direction {
                Direction::FromClient => kind == PacketKind::Connect,
                Direction::FromServer => matches!(kind, PacketKind::Connack | PacketKind::Auth),
            };
            if !opens {
                return Err(DecodeError::OutOfPlace(kind));
            }
        }
    }
    check_flags(kind, flags, rules.version)?;
    Ok((kind, flags))
}

/// Whether this side sends such packets in this version.
#[inline]
pub(super) fn check_kind(
    kind: PacketKind,
    version: Version,
    direction: Direction,
) -> Result<(), DecodeError> {
    if !kind.sent_by(direction) {
        return Err(DecodeError::WrongDirection(kind));
    }
    if version < Version::V5 {
        if kind == PacketKind::Auth {
            return Err(DecodeError::UnknownKind(kind as u8));
        }
        // Before 5.0 only a client sends DISCONNECT.
        if kind == PacketKind::Disconnect && direction == Direction::FromServer {
            return Err(DecodeError::WrongDirection(kind));
        }
    }
    Ok(())
}

/// The flags of the fixed header have the listed value [MQTT-2.1.3-1].
#[inline]
pub(super) fn check_flags(
    kind: PacketKind,
    flags: u8,
    version: Option<Version>,
) -> Result<(), DecodeError> {
    let listed = match kind {
        PacketKind::Publish => {
            return match flags & 0b0110 {
                // [MQTT-3.3.1-2] QoS 0 has no retransmission.
                0b0000 if flags & 0b1000 != 0 => Err(DecodeError::DupWithoutQoS),
                // [MQTT-3.3.1-4] There is no QoS 3.
                0b0110 => Err(DecodeError::QoS),
                _ => Ok(()),
            };
        }
        PacketKind::Pubrel | PacketKind::Subscribe | PacketKind::Unsubscribe => {
            // MQTT 3.1 has a DUP flag here: these packets go out with QoS 1 and may be repeated.
            if version == Some(Version::V31) && flags == 0b1010 {
                return Ok(());
            }
            0b0010
        }
        PacketKind::Connect
        | PacketKind::Connack
        | PacketKind::Puback
        | PacketKind::Pubrec
        | PacketKind::Pubcomp
        | PacketKind::Suback
        | PacketKind::Unsuback
        | PacketKind::Pingreq
        | PacketKind::Pingresp
        | PacketKind::Disconnect
        | PacketKind::Auth => 0,
    };
    if flags == listed {
        Ok(())
    } else {
        Err(DecodeError::Flags(kind))
    }
}
