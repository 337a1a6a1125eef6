//! CONNACK: whether the client is let in, and the server's side of the agreement.

use super::ack::decode_reason;
use super::basics::{QoS, Version};
use super::error::DecodeError;
use super::frame::Frame;
use super::kind::{Direction, PacketKind};
use super::properties::{
    Property, PropertyList, PropertyReader, UserProperties, check_authentication, property_list,
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
            // MQTT 3.1 reserves the byte of the flag.
            Version::V31 | Version::V311 => (
                flags == 1 && version == Version::V311,
                ReasonCode::from_v3_connack(code).ok_or(DecodeError::ReasonUnknown(code))?,
                ConnackProperties::default(),
            ),
            Version::V5 => (
                flags == 1,
                decode_reason(code, PacketKind::Connack, Direction::FromServer)?,
                ConnackProperties::decode(reader.properties()?)?,
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

property_list! {
    ConnackProperties {
        SESSION_EXPIRY_INTERVAL => session_expiry_s,
        RECEIVE_MAXIMUM => receive_maximum,
        MAXIMUM_QOS => maximum_qos,
        RETAIN_AVAILABLE => retain_available,
        MAXIMUM_PACKET_SIZE => maximum_packet_size,
        ASSIGNED_CLIENT_IDENTIFIER => assigned_client_id,
        TOPIC_ALIAS_MAXIMUM => topic_alias_maximum,
        REASON_STRING => reason_string,
        USER_PROPERTY => user_properties,
        WILDCARD_SUBSCRIPTION_AVAILABLE => wildcard_available,
        SUBSCRIPTION_IDENTIFIERS_AVAILABLE => subscription_ids_available,
        SHARED_SUBSCRIPTION_AVAILABLE => shared_available,
        SERVER_KEEP_ALIVE => server_keep_alive,
        RESPONSE_INFORMATION => response_information,
        SERVER_REFERENCE => server_reference,
        AUTHENTICATION_METHOD => authentication_method,
        AUTHENTICATION_DATA => authentication_data,
    }
}

impl<'a> ConnackProperties<'a> {
    fn decode(section: &'a [u8]) -> Result<ConnackProperties<'a>, DecodeError> {
        let properties = ConnackProperties::parse(section)?;
        check_authentication(
            properties.authentication_method,
            properties.authentication_data,
        )?;
        Ok(properties)
    }
}

impl<'a> Property<'a> for Option<QoS> {
    fn read(&mut self, id: u8, reader: &mut PropertyReader<'a>) -> Result<(), DecodeError> {
        let mut is_one = self.map(|qos| qos > QoS::AtMostOnce);
        is_one.read(id, reader)?;
        *self = is_one.map(|is_one| match is_one {
            false => QoS::AtMostOnce,
            true => QoS::AtLeastOnce,
        });
        Ok(())
    }

    fn put(&self, id: u8, out: &mut Vec<u8>) {
        // Absent means 2, and 2 is never sent [MQTT-3.2.2-9].
        let is_one = match self {
            None | Some(QoS::ExactlyOnce) => None,
            Some(QoS::AtMostOnce) => Some(false),
            Some(QoS::AtLeastOnce) => Some(true),
        };
        is_one.put(id, out);
    }
}
