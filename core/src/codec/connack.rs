//! CONNACK: whether the client is let in, and the server's side of the agreement.

use super::ack::decode_reason;
use super::basics::{QoS, Version};
use super::error::DecodeError;
use super::frame::{Direction, Frame, PacketKind};
use super::properties::{
    PropertyReader, UserProperties, id, misplaced, put_optional_binary, put_optional_flag,
    put_optional_str, put_optional_u16, put_optional_u32, set,
};
use super::reason::ReasonCode;
use super::wire::{Reader, put_packet, put_with_length};

/// A CONNACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// The server goes on with an earlier session. Sent only when the client is let in
    /// [MQTT-3.2.2-6], and not in MQTT 3.1.
    pub session_present: bool,
    /// `Success` or why not. Before 5.0 it is translated to and from the return codes.
    pub reason: ReasonCode,
    /// Empty before 5.0.
    pub properties: ConnackProperties<'a>,
}

/// Properties of a CONNACK. What is absent has the default of the standard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnackProperties<'a> {
    /// Seconds that the session outlives the connection; absent: as the client asked.
    pub session_expiry_s: Option<u32>,
    /// QoS 1 and 2 messages that the server takes at a time; absent: 65,535; never 0.
    pub receive_maximum: Option<u16>,
    /// Highest QoS that the server takes: 0 or 1; absent: 2.
    pub maximum_qos: Option<QoS>,
    /// Absent: yes.
    pub retain_available: Option<bool>,
    /// Largest packet in bytes that the server takes; never 0.
    pub maximum_packet_size: Option<u32>,
    /// The name of a client that gave none [MQTT-3.1.3-7].
    pub assigned_client_id: Option<&'a str>,
    /// Highest topic alias that the server takes; absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// For people and logs.
    pub reason_string: Option<&'a str>,
    /// Not part of the protocol.
    pub user_properties: UserProperties<'a>,
    /// Absent: yes.
    pub wildcard_available: Option<bool>,
    /// Absent: yes.
    pub subscription_ids_available: Option<bool>,
    /// Absent: yes.
    pub shared_available: Option<bool>,
    /// Keep alive in seconds that takes the place of the client's [MQTT-3.1.2-21].
    pub server_keep_alive: Option<u16>,
    /// Base of response topics.
    pub response_information: Option<&'a str>,
    /// Where to go instead.
    pub server_reference: Option<&'a str>,
    /// As in CONNECT [MQTT-4.12.0-5].
    pub authentication_method: Option<&'a str>,
    /// Only with a method.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> Connack<'a> {
    /// A CONNACK without properties.
    pub fn new(session_present: bool, reason: ReasonCode) -> Connack<'static> {
        Connack {
            session_present,
            reason,
            properties: ConnackProperties::default(),
        }
    }

    /// Decodes a frame of kind CONNACK.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Connack<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let flags = reader.u8()?;
        // [MQTT-3.2.2-1]
        if flags > 1 {
            return Err(DecodeError::ReservedBits);
        }
        let code = reader.u8()?;
        let (session_present, reason, properties) = match version {
            // MQTT 3.1 keeps the byte with the flag for later use: it says nothing.
            Version::V31 | Version::V311 => (
                flags == 1 && version == Version::V311,
                ReasonCode::from_v3_connack(code).ok_or(DecodeError::ReasonUnknown(code))?,
                ConnackProperties::default(),
            ),
            Version::V5 => (
                flags == 1,
                decode_reason(code, PacketKind::Connack, Direction::FromServer)?,
                ConnackProperties::parse(reader.properties()?)?,
            ),
        };
        reader.end()?;
        // [MQTT-3.2.2-6]
        if session_present && reason.is_error() {
            return Err(DecodeError::SessionPresentInRefusal);
        }
        Ok(Connack {
            session_present,
            reason,
            properties,
        })
    }

    /// Appends the packet. Before 5.0 properties are left out.
    ///
    /// # Panics
    /// If a string is longer than 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        // [MQTT-3.2.2-6]
        let session_present = self.session_present && !self.reason.is_error();
        put_packet(
            out,
            PacketKind::Connack.first_byte(0),
            |out| match version {
                Version::V31 => out.extend_from_slice(&[0, self.reason.to_v3_connack()]),
                Version::V311 => {
                    out.extend_from_slice(&[
                        u8::from(session_present),
                        self.reason.to_v3_connack(),
                    ]);
                }
                Version::V5 => {
                    out.extend_from_slice(&[u8::from(session_present), self.reason.byte()]);
                    put_with_length(out, |out| self.properties.put(out));
                }
            },
        );
    }
}

impl<'a> ConnackProperties<'a> {
    fn parse(section: &'a [u8]) -> Result<ConnackProperties<'a>, DecodeError> {
        let mut p = ConnackProperties::default();
        let mut user_count = 0;
        let mut reader = PropertyReader::new(section);
        while let Some(id) = reader.next_id()? {
            match id {
                id::SESSION_EXPIRY_INTERVAL => set(&mut p.session_expiry_s, id, reader.u32()?)?,
                id::RECEIVE_MAXIMUM => {
                    set(&mut p.receive_maximum, id, reader.nonzero_u16(id)?)?;
                }
                id::MAXIMUM_QOS => {
                    let qos = match reader.flag(id)? {
                        false => QoS::AtMostOnce,
                        true => QoS::AtLeastOnce,
                    };
                    set(&mut p.maximum_qos, id, qos)?;
                }
                id::RETAIN_AVAILABLE => set(&mut p.retain_available, id, reader.flag(id)?)?,
                id::MAXIMUM_PACKET_SIZE => {
                    set(&mut p.maximum_packet_size, id, reader.nonzero_u32(id)?)?;
                }
                id::ASSIGNED_CLIENT_IDENTIFIER => {
                    set(&mut p.assigned_client_id, id, reader.string()?)?;
                }
                id::TOPIC_ALIAS_MAXIMUM => set(&mut p.topic_alias_maximum, id, reader.u16()?)?,
                id::REASON_STRING => set(&mut p.reason_string, id, reader.string()?)?,
                id::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                    set(&mut p.wildcard_available, id, reader.flag(id)?)?;
                }
                id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE => {
                    set(&mut p.subscription_ids_available, id, reader.flag(id)?)?;
                }
                id::SHARED_SUBSCRIPTION_AVAILABLE => {
                    set(&mut p.shared_available, id, reader.flag(id)?)?;
                }
                id::SERVER_KEEP_ALIVE => set(&mut p.server_keep_alive, id, reader.u16()?)?,
                id::RESPONSE_INFORMATION => {
                    set(&mut p.response_information, id, reader.string()?)?;
                }
                id::SERVER_REFERENCE => set(&mut p.server_reference, id, reader.string()?)?,
                id::AUTHENTICATION_METHOD => {
                    set(&mut p.authentication_method, id, reader.string()?)?;
                }
                id::AUTHENTICATION_DATA => {
                    set(&mut p.authentication_data, id, reader.binary()?)?;
                }
                id::USER_PROPERTY => {
                    reader.pair()?;
                    user_count += 1;
                }
                _ => return Err(misplaced(id)),
            }
        }
        if p.authentication_data.is_some() && p.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        p.user_properties = UserProperties::of_section(section, user_count);
        Ok(p)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_optional_u32(out, id::SESSION_EXPIRY_INTERVAL, self.session_expiry_s);
        put_optional_u16(out, id::RECEIVE_MAXIMUM, self.receive_maximum);
        // Absent means 2, and 2 is never sent [MQTT-3.2.2-9].
        let maximum_qos = match self.maximum_qos {
            None | Some(QoS::ExactlyOnce) => None,
            Some(QoS::AtMostOnce) => Some(false),
            Some(QoS::AtLeastOnce) => Some(true),
        };
        put_optional_flag(out, id::MAXIMUM_QOS, maximum_qos);
        put_optional_flag(out, id::RETAIN_AVAILABLE, self.retain_available);
        put_optional_u32(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        put_optional_str(out, id::ASSIGNED_CLIENT_IDENTIFIER, self.assigned_client_id);
        put_optional_u16(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        put_optional_str(out, id::REASON_STRING, self.reason_string);
        self.user_properties.put(out);
        put_optional_flag(
            out,
            id::WILDCARD_SUBSCRIPTION_AVAILABLE,
            self.wildcard_available,
        );
        put_optional_flag(
            out,
            id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE,
            self.subscription_ids_available,
        );
        put_optional_flag(
            out,
            id::SHARED_SUBSCRIPTION_AVAILABLE,
            self.shared_available,
        );
        put_optional_u16(out, id::SERVER_KEEP_ALIVE, self.server_keep_alive);
        put_optional_str(out, id::RESPONSE_INFORMATION, self.response_information);
        put_optional_str(out, id::SERVER_REFERENCE, self.server_reference);
        put_optional_str(out, id::AUTHENTICATION_METHOD, self.authentication_method);
        put_optional_binary(out, id::AUTHENTICATION_DATA, self.authentication_data);
    }
}
