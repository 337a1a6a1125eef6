//! DISCONNECT and AUTH: the packets that end a connection and that prove who is at its end.

use super::ack::decode_reason;
use super::basics::Version;
use super::error::DecodeError;
use super::frame::Frame;
use super::kind::{Direction, PacketKind};
use super::properties::{PropertyList, PropertyReader, UserProperties, id, property_list};
use super::reason::ReasonCode;
use super::wire::{Reader, put_packet, put_with_length};

/// A DISCONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// `NormalDisconnection` before 5.0.
    pub reason: ReasonCode,
    /// Empty before 5.0.
    pub properties: DisconnectProperties<'a>,
}

/// Properties of a DISCONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisconnectProperties<'a> {
    /// Seconds that the session goes on; absent: as agreed. From a client only [MQTT-3.14.2-2].
    pub session_expiry_s: Option<u32>,
    /// For people and logs.
    pub reason_string: Option<&'a str>,
    /// Not part of the protocol.
    pub user_properties: UserProperties<'a>,
    /// Where to go instead. From a server only.
    pub server_reference: Option<&'a str>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    pub fn new(reason: ReasonCode) -> Disconnect<'static> {
        Disconnect {
            reason,
            properties: DisconnectProperties::default(),
        }
    }

    /// Decodes a frame of kind DISCONNECT.
    pub fn decode(
        frame: &Frame<'a>,
        version: Version,
        direction: Direction,
    ) -> Result<Disconnect<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        if reader.is_empty() {
            return Ok(Disconnect::new(ReasonCode::NormalDisconnection));
        }
        match version {
            Version::V31 | Version::V311 => Err(DecodeError::TrailingBytes),
            Version::V5 => {
                let reason = decode_reason(reader.u8()?, PacketKind::Disconnect, direction)?;
                let section = reader.properties_if_any()?;
                reader.end()?;
                Ok(Disconnect {
                    reason,
                    properties: DisconnectProperties::decode(section, direction)?,
                })
            }
        }
    }

    /// Appends the packet in its shortest form. Before 5.0 it is always empty, and only a client
    /// may send it.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let has_properties = !self.properties.is_empty();
        put_packet(out, PacketKind::Disconnect.first_byte(0), |out| {
            let is_short = self.reason == ReasonCode::NormalDisconnection && !has_properties;
            if version < Version::V5 || is_short {
                return;
            }
            out.push(self.reason.byte());
            if has_properties {
                put_with_length(out, |out| self.properties.put(out));
            }
        });
    }
}

property_list! {
    DisconnectProperties {
        SESSION_EXPIRY_INTERVAL => session_expiry_s,
        REASON_STRING => reason_string,
        USER_PROPERTY => user_properties,
        SERVER_REFERENCE => server_reference,
    }
}

impl<'a> DisconnectProperties<'a> {
    fn decode(
        section: &'a [u8],
        direction: Direction,
    ) -> Result<DisconnectProperties<'a>, DecodeError> {
        let mut properties = DisconnectProperties::default();
        let mut reader = PropertyReader::new(section);
        while let Some(id) = reader.next_id()? {
            // [MQTT-3.14.2-2] The expiry is the client's to change, the reference the server's.
            let others = match direction {
                Direction::FromClient => id::SERVER_REFERENCE,
                Direction::FromServer => id::SESSION_EXPIRY_INTERVAL,
            };
            if id == others {
                return Err(DecodeError::PropertyWrongDirection(id));
            }
            properties.read(id, &mut reader)?;
        }
        Ok(properties)
    }

    fn is_empty(&self) -> bool {
        self.session_expiry_s.is_none()
            && self.reason_string.is_none()
            && self.server_reference.is_none()
            && self.user_properties.is_empty()
    }
}

/// An AUTH packet; 5.0 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// `Success`, `ContinueAuthentication` or `ReAuthenticate`.
    pub reason: ReasonCode,
    /// What is exchanged.
    pub properties: AuthProperties<'a>,
}

/// Properties of an AUTH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthProperties<'a> {
    /// As in CONNECT [MQTT-4.12.0-5]; absent only in the empty form of "success".
    pub authentication_method: Option<&'a str>,
    /// What the method wants to say.
    pub authentication_data: Option<&'a [u8]>,
    /// For people and logs.
    pub reason_string: Option<&'a str>,
    /// Not part of the protocol.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// Decodes a frame of kind AUTH.
    pub fn decode(frame: &Frame<'a>, direction: Direction) -> Result<Auth<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        // An empty packet is "success" without properties.
        let byte = if reader.is_empty() {
            ReasonCode::Success.byte()
        } else {
            reader.u8()?
        };
        let reason = decode_reason(byte, PacketKind::Auth, direction)?;
        let properties = if frame.body.is_empty() {
            AuthProperties::default()
        } else {
            AuthProperties::parse(reader.properties()?)?
        };
        reader.end()?;
        let auth = Auth { reason, properties };
        if auth.properties.authentication_method.is_none() && !auth.is_short() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(auth)
    }

    /// Appends the packet in its shortest form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, PacketKind::Auth.first_byte(0), |out| {
            if !self.is_short() {
                out.push(self.reason.byte());
                put_with_length(out, |out| self.properties.put(out));
            }
        });
    }

    fn is_short(&self) -> bool {
        self.reason == ReasonCode::Success && self.properties == AuthProperties::default()
    }
}

property_list! {
    AuthProperties {
        AUTHENTICATION_METHOD => authentication_method,
        AUTHENTICATION_DATA => authentication_data,
        REASON_STRING => reason_string,
        USER_PROPERTY => user_properties,
    }
}
