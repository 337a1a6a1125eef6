//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape, and the empty PINGREQ and
//! PINGRESP.

use super::basics::Version;
use super::error::DecodeError;
use super::frame::Frame;
use super::kind::{Direction, PacketKind};
use super::properties::{PropertyList, ReasonProperties};
use super::reason::ReasonCode;
use super::wire::{Reader, put_packet, put_u16, put_with_length};
use crate::ids::PacketId;

/// A PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// As in the PUBLISH [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// `Success` before 5.0.
    pub reason: ReasonCode,
    /// Empty before 5.0.
    pub properties: ReasonProperties<'a>,
}

/// Which acknowledgement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum AckKind {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

impl AckKind {
    const fn first_byte(self) -> u8 {
        match self {
            AckKind::Puback => PacketKind::Puback.first_byte(0),
            AckKind::Pubrec => PacketKind::Pubrec.first_byte(0),
            // [MQTT-3.6.1-1]
            AckKind::Pubrel => PacketKind::Pubrel.first_byte(0b0010),
            AckKind::Pubcomp => PacketKind::Pubcomp.first_byte(0),
        }
    }
}

impl<'a> Ack<'a> {
    /// "All is well."
    pub const fn success(packet_id: PacketId) -> Ack<'static> {
        Ack::with_reason(packet_id, ReasonCode::Success)
    }

    /// An acknowledgement without properties.
    pub const fn with_reason(packet_id: PacketId, reason: ReasonCode) -> Ack<'static> {
        Ack {
            packet_id,
            reason,
            properties: ReasonProperties::EMPTY,
        }
    }

    /// Decodes a frame of one of the four kinds.
    #[inline]
    pub fn decode(
        frame: &Frame<'a>,
        version: Version,
        direction: Direction,
    ) -> Result<Ack<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        if reader.is_empty() {
            return Ok(Ack::success(packet_id));
        }
        match version {
            Version::V31 | Version::V311 => Err(DecodeError::TrailingBytes),
            Version::V5 => {
                let reason = decode_reason(reader.u8()?, frame.kind, direction)?;
                let section = reader.properties_if_any()?;
                reader.end()?;
                Ok(Ack {
                    packet_id,
                    reason,
                    properties: ReasonProperties::parse(section)?,
                })
            }
        }
    }

    /// Appends the packet in its shortest form. Before 5.0 reason and properties are left out.
    pub fn encode(&self, kind: AckKind, version: Version, out: &mut Vec<u8>) {
        let has_properties = !self.properties.is_empty();
        if version < Version::V5 || (self.reason == ReasonCode::Success && !has_properties) {
            return put_short(out, kind, self.packet_id);
        }
        put_packet(out, kind.first_byte(), |out| {
            put_u16(out, self.packet_id.get());
            out.push(self.reason.byte());
            if has_properties {
                put_with_length(out, |out| self.properties.put(out));
            }
        });
    }
}

/// A reason byte of a v5 packet of this kind.
pub(super) fn decode_reason(
    byte: u8,
    kind: PacketKind,
    direction: Direction,
) -> Result<ReasonCode, DecodeError> {
    let reason = ReasonCode::from_byte(byte).ok_or(DecodeError::ReasonUnknown(byte))?;
    if reason.allowed_in(kind, direction) {
        Ok(reason)
    } else {
        Err(DecodeError::ReasonMisplaced(reason))
    }
}

#[inline]
fn put_short(out: &mut Vec<u8>, kind: AckKind, packet_id: PacketId) {
    let [high, low] = packet_id.get().to_be_bytes();
    out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
}

/// Appends a PUBACK that says "success", in any version.
#[inline]
pub fn encode_puback(out: &mut Vec<u8>, packet_id: PacketId) {
    put_short(out, AckKind::Puback, packet_id);
}

/// Appends a PUBREC that says "success", in any version.
#[inline]
pub fn encode_pubrec(out: &mut Vec<u8>, packet_id: PacketId) {
    put_short(out, AckKind::Pubrec, packet_id);
}

/// Appends a PUBREL that says "success", in any version.
#[inline]
pub fn encode_pubrel(out: &mut Vec<u8>, packet_id: PacketId) {
    put_short(out, AckKind::Pubrel, packet_id);
}

/// Appends a PUBCOMP that says "success", in any version.
#[inline]
pub fn encode_pubcomp(out: &mut Vec<u8>, packet_id: PacketId) {
    put_short(out, AckKind::Pubcomp, packet_id);
}

/// Appends a PINGREQ.
#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketKind::Pingreq.first_byte(0), 0]);
}

/// Appends a PINGRESP.
#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketKind::Pingresp.first_byte(0), 0]);
}
