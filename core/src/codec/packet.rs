//! Any packet, for those who want to handle all kinds alike. The data path of the broker goes by
//! [`Frame::kind`] and decodes each kind for itself.

use super::ack::{Ack, AckKind, encode_pingreq, encode_pingresp};
use super::basics::Version;
use super::connack::Connack;
use super::connect::Connect;
use super::disconnect::{Auth, Disconnect};
use super::error::DecodeError;
use super::frame::{Frame, check_flags, check_kind};
use super::kind::{Direction, PacketKind};
use super::publish::Publish;
use super::subscribe::{Suback, Subscribe};
use super::unsubscribe::{Unsuback, Unsubscribe};
use super::wire::Reader;

/// A decoded packet, borrowed from its frame. Large (a CONNECT), because a box would allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Decodes a frame of any kind. CONNECT says its version itself; `version` is for all others.
pub fn decode<'a>(
    frame: &Frame<'a>,
    version: Version,
    direction: Direction,
) -> Result<Packet<'a>, DecodeError> {
    // The framer has done this, but a frame may come from elsewhere.
    check_kind(frame.kind, version, direction)?;
    check_flags(frame.kind, frame.flags, Some(version))?;
    Ok(match frame.kind {
        PacketKind::Connect => Packet::Connect(Connect::decode(frame)?),
        PacketKind::Connack => Packet::Connack(Connack::decode(frame, version)?),
        PacketKind::Publish => Packet::Publish(Publish::decode(frame, version, direction)?),
        PacketKind::Puback => Packet::Puback(Ack::decode(frame, version, direction)?),
        PacketKind::Pubrec => Packet::Pubrec(Ack::decode(frame, version, direction)?),
        PacketKind::Pubrel => Packet::Pubrel(Ack::decode(frame, version, direction)?),
        PacketKind::Pubcomp => Packet::Pubcomp(Ack::decode(frame, version, direction)?),
        PacketKind::Subscribe => Packet::Subscribe(Subscribe::decode(frame, version)?),
        PacketKind::Suback => Packet::Suback(Suback::decode(frame, version)?),
        PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(frame, version)?),
        PacketKind::Unsuback => Packet::Unsuback(Unsuback::decode(frame, version)?),
        PacketKind::Pingreq => decode_ping(frame, Packet::Pingreq)?,
        PacketKind::Pingresp => decode_ping(frame, Packet::Pingresp)?,
        PacketKind::Disconnect => {
            Packet::Disconnect(Disconnect::decode(frame, version, direction)?)
        }
        PacketKind::Auth => Packet::Auth(Auth::decode(frame, direction)?),
    })
}

fn decode_ping<'a>(frame: &Frame<'a>, packet: Packet<'a>) -> Result<Packet<'a>, DecodeError> {
    Reader::new(frame.body).end()?;
    Ok(packet)
}

impl Packet<'_> {
    /// What it is.
    pub fn kind(&self) -> PacketKind {
        match self {
            Packet::Connect(_) => PacketKind::Connect,
            Packet::Connack(_) => PacketKind::Connack,
            Packet::Publish(_) => PacketKind::Publish,
            Packet::Puback(_) => PacketKind::Puback,
            Packet::Pubrec(_) => PacketKind::Pubrec,
            Packet::Pubrel(_) => PacketKind::Pubrel,
            Packet::Pubcomp(_) => PacketKind::Pubcomp,
            Packet::Subscribe(_) => PacketKind::Subscribe,
            Packet::Suback(_) => PacketKind::Suback,
            Packet::Unsubscribe(_) => PacketKind::Unsubscribe,
            Packet::Unsuback(_) => PacketKind::Unsuback,
            Packet::Pingreq => PacketKind::Pingreq,
            Packet::Pingresp => PacketKind::Pingresp,
            Packet::Disconnect(_) => PacketKind::Disconnect,
            Packet::Auth(_) => PacketKind::Auth,
        }
    }

    /// Appends the packet. What `version` does not have is left out. CONNECT goes out in the
    /// version that it names.
    ///
    /// # Panics
    /// See the packets.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(packet) => packet.encode(out),
            Packet::Connack(packet) => packet.encode(version, out),
            Packet::Publish(packet) => packet.encode(version, out),
            Packet::Puback(packet) => packet.encode(AckKind::Puback, version, out),
            Packet::Pubrec(packet) => packet.encode(AckKind::Pubrec, version, out),
            Packet::Pubrel(packet) => packet.encode(AckKind::Pubrel, version, out),
            Packet::Pubcomp(packet) => packet.encode(AckKind::Pubcomp, version, out),
            Packet::Subscribe(packet) => packet.encode(version, out),
            Packet::Suback(packet) => packet.encode(version, out),
            Packet::Unsubscribe(packet) => packet.encode(version, out),
            Packet::Unsuback(packet) => packet.encode(version, out),
            Packet::Pingreq => encode_pingreq(out),
            Packet::Pingresp => encode_pingresp(out),
            Packet::Disconnect(packet) => packet.encode(version, out),
            Packet::Auth(packet) => packet.encode(out),
        }
    }
}
