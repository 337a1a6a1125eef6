//! CONNECT: who the client is, what it wants, and what is to be said when it is gone.

use super::basics::{QoS, Version};
use super::error::DecodeError;
use super::frame::Frame;
use super::kind::PacketKind;
use super::properties::{
    PropertyList, UserProperties, check_authentication, has_wildcards, property_list,
};
use super::publish;
use super::wire::{Reader, put_binary, put_packet, put_u16, put_with_length};

/// A CONNECT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// What the client speaks.
    pub version: Version,
    /// Before 5.0: the client is a bridge of another broker, and says so by the highest bit of the
    /// protocol level, as Mosquitto does. It is to get nothing back that it sent, and RETAIN as it
    /// was published.
    pub is_bridge: bool,
    /// Start without state: "Clean Start", before 5.0 "Clean Session".
    pub clean_start: bool,
    /// Longest silence in seconds; 0: any.
    pub keep_alive: u16,
    /// Empty: the server shall choose.
    pub client_id: &'a str,
    /// What to publish when the client is gone.
    pub will: Option<Will<'a>>,
    /// Who it claims to be.
    pub user_name: Option<&'a str>,
    /// How it proves that; any bytes.
    pub password: Option<&'a [u8]>,
    /// Empty before 5.0.
    pub properties: ConnectProperties<'a>,
}

/// A message to publish when the client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// QoS to publish it with.
    pub qos: QoS,
    /// Whether to retain it.
    pub retain: bool,
    /// Not empty, no wildcards in it.
    pub topic: &'a str,
    /// Application payload.
    pub payload: &'a [u8],
    /// Empty before 5.0.
    pub properties: WillProperties<'a>,
}

/// Properties of a CONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds that the session outlives the connection; absent: 0; 0xFFFF_FFFF: for ever.
    pub session_expiry_s: Option<u32>,
    /// QoS 1 and 2 messages that the client takes at a time; absent: 65,535; never 0.
    pub receive_maximum: Option<u16>,
    /// Largest packet in bytes that the client takes; never 0.
    pub maximum_packet_size: Option<u32>,
    /// Highest topic alias that the client takes; absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// Absent: no.
    pub request_response_information: Option<bool>,
    /// Absent: yes.
    pub request_problem_information: Option<bool>,
    /// Asks for an exchange of AUTH packets.
    pub authentication_method: Option<&'a str>,
    /// Only with a method.
    pub authentication_data: Option<&'a [u8]>,
    /// Not part of the protocol.
    pub user_properties: UserProperties<'a>,
}

/// Properties of a will.
#[derive(Clone, Copy, Debug, Default)]
pub struct WillProperties<'a> {
    /// Seconds between the end of the connection and the will; absent: 0.
    pub delay_s: Option<u32>,
    /// The payload claims to be UTF-8.
    pub payload_format: Option<bool>,
    /// Message expiry interval in seconds.
    pub message_expiry_s: Option<u32>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Where to answer; no wildcards in it.
    pub response_topic: Option<&'a str>,
    /// What the answer has to repeat.
    pub correlation_data: Option<&'a [u8]>,
    /// Go with the message in this order [MQTT-3.1.3-10].
    pub user_properties: UserProperties<'a>,
    /// The section as received, without its length; empty in one made by hand. Encoding does not
    /// look at it, comparing neither.
    pub raw: &'a [u8],
}

impl<'a> Connect<'a> {
    /// Decodes a frame of kind CONNECT; finds the version itself.
    pub fn decode(frame: &Frame<'a>) -> Result<Connect<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let (version, is_bridge) = decode_version(&mut reader)?;
        let flags = ConnectFlags::parse(reader.u8()?, version)?;
        let keep_alive = reader.u16()?;
        let properties = match version {
            Version::V31 | Version::V311 => ConnectProperties::default(),
            Version::V5 => ConnectProperties::decode(reader.properties()?)?,
        };
        // [MQTT-3.1.3-1] In this order: client id, will, user name, password.
        let client_id = reader.string()?;
        let will = match flags.will {
            None => None,
            Some((qos, retain)) => Some(Will::decode(&mut reader, version, qos, retain)?),
        };
        // In MQTT 3.1 the end of the packet takes precedence over the flags: the fields may be
        // missing.
        let may_miss = version == Version::V31;
        let user_name = match flags.user_name && !(may_miss && reader.is_empty()) {
            true => Some(reader.string()?),
            false => None,
        };
        let password = match flags.password && !(may_miss && reader.is_empty()) {
            true => Some(reader.binary()?),
            false => None,
        };
        reader.end()?;
        Ok(Connect {
            version,
            is_bridge,
            clean_start: flags.clean_start,
            keep_alive,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    }

    /// Appends the packet. Before 5.0 properties are left out.
    ///
    /// # Panics
    /// If a string is longer than 65,535 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_packet(out, PacketKind::Connect.first_byte(0), |out| {
            let (name, level): (&[u8], u8) = match self.version {
                Version::V31 => (b"MQIsdp", 3),
                Version::V311 => (b"MQTT", 4),
                Version::V5 => (b"MQTT", 5),
            };
            put_binary(out, name);
            let level = level | (u8::from(self.is_bridge) * BRIDGE_BIT);
            out.extend_from_slice(&[level, self.flags()]);
            put_u16(out, self.keep_alive);
            if self.version == Version::V5 {
                put_with_length(out, |out| self.properties.put(out));
            }
            put_binary(out, self.client_id.as_bytes());
            if let Some(will) = &self.will {
                if self.version == Version::V5 {
                    put_with_length(out, |out| will.properties.put(out));
                }
                put_binary(out, will.topic.as_bytes());
                put_binary(out, will.payload);
            }
            if let Some(user_name) = self.user_name {
                put_binary(out, user_name.as_bytes());
            }
            if let Some(password) = self.password {
                put_binary(out, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        if self.user_name.is_some() {
            flags |= USER_NAME;
        }
        flags
    }
}

const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

struct ConnectFlags {
    clean_start: bool,
    will: Option<(QoS, bool)>,
    user_name: bool,
    password: bool,
}

impl ConnectFlags {
    fn parse(byte: u8, version: Version) -> Result<ConnectFlags, DecodeError> {
        // [MQTT-3.1.2-3]
        if byte & RESERVED != 0 {
            return Err(DecodeError::ReservedBits);
        }
        // [MQTT-3.1.2-12]
        let will_qos = QoS::from_bits((byte >> WILL_QOS_SHIFT) & 0b11).ok_or(DecodeError::QoS)?;
        let will_retain = byte & WILL_RETAIN != 0;
        let will = byte & WILL != 0;
        // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        if !will && (will_qos != QoS::AtMostOnce || will_retain) {
            return Err(DecodeError::WillFlagsWithoutWill);
        }
        let user_name = byte & USER_NAME != 0;
        let password = byte & PASSWORD != 0;
        // MQTT 3.1.1 [MQTT-3.1.2-22]; 5.0 lifts it [MQTT-3.1.2-19].
        if password && !user_name && version < Version::V5 {
            return Err(DecodeError::PasswordWithoutUserName);
        }
        Ok(ConnectFlags {
            clean_start: byte & CLEAN_START != 0,
            will: will.then_some((will_qos, will_retain)),
            user_name,
            password,
        })
    }
}

/// Of the protocol level.
const BRIDGE_BIT: u8 = 0x80;

/// Protocol name and level, and whether the level has the bridge bit.
fn decode_version(reader: &mut Reader<'_>) -> Result<(Version, bool), DecodeError> {
    let name = reader.binary()?;
    let is_v31 = match name {
        b"MQTT" => false,
        b"MQIsdp" => true,
        // [MQTT-3.1.2-1]
        _ => return Err(DecodeError::UnsupportedProtocolName),
    };
    // [MQTT-3.1.2-2]
    match (is_v31, reader.u8()?) {
        (true, 3) => Ok((Version::V31, false)),
        (true, 0x83) => Ok((Version::V31, true)),
        (false, 4) => Ok((Version::V311, false)),
        (false, 0x84) => Ok((Version::V311, true)),
        // A bridge that speaks 5.0 has subscription options for this.
        (false, 5) => Ok((Version::V5, false)),
        (_, level) => Err(DecodeError::UnsupportedProtocolVersion { level }),
    }
}

impl<'a> Will<'a> {
    fn decode(
        reader: &mut Reader<'a>,
        version: Version,
        qos: QoS,
        retain: bool,
    ) -> Result<Will<'a>, DecodeError> {
        let properties = match version {
            Version::V31 | Version::V311 => WillProperties::default(),
            Version::V5 => WillProperties::decode(reader.properties()?)?,
        };
        // [MQTT-3.1.3-11]
        let topic = reader.string()?;
        if topic.is_empty() || has_wildcards(topic.as_bytes()) {
            return Err(DecodeError::WillTopic);
        }
        Ok(Will {
            qos,
            retain,
            topic,
            payload: reader.binary()?,
            properties,
        })
    }
}

property_list! {
    ConnectProperties {
        SESSION_EXPIRY_INTERVAL => session_expiry_s,
        RECEIVE_MAXIMUM => receive_maximum,
        MAXIMUM_PACKET_SIZE => maximum_packet_size,
        TOPIC_ALIAS_MAXIMUM => topic_alias_maximum,
        REQUEST_RESPONSE_INFORMATION => request_response_information,
        REQUEST_PROBLEM_INFORMATION => request_problem_information,
        AUTHENTICATION_METHOD => authentication_method,
        AUTHENTICATION_DATA => authentication_data,
        USER_PROPERTY => user_properties,
    }
}

impl<'a> ConnectProperties<'a> {
    fn decode(section: &'a [u8]) -> Result<ConnectProperties<'a>, DecodeError> {
        let properties = ConnectProperties::parse(section)?;
        check_authentication(
            properties.authentication_method,
            properties.authentication_data,
        )?;
        Ok(properties)
    }
}

property_list! {
    WillProperties {
        WILL_DELAY_INTERVAL => delay_s,
        PAYLOAD_FORMAT_INDICATOR => payload_format,
        MESSAGE_EXPIRY_INTERVAL => message_expiry_s,
        CONTENT_TYPE => content_type,
        RESPONSE_TOPIC => response_topic,
        CORRELATION_DATA => correlation_data,
        USER_PROPERTY => user_properties,
    }
}

impl<'a> WillProperties<'a> {
    fn decode(section: &'a [u8]) -> Result<WillProperties<'a>, DecodeError> {
        let properties = WillProperties::parse(section)?;
        Ok(WillProperties {
            raw: section,
            ..properties
        })
    }

    /// Appends the received properties that travel on with the will message, in the order received:
    /// all but delay and expiry.
    pub fn write_forwarded(&self, out: &mut Vec<u8>) {
        publish::write_forwarded(self.raw, out);
    }
}

impl PartialEq for WillProperties<'_> {
    fn eq(&self, other: &WillProperties<'_>) -> bool {
        let WillProperties {
            delay_s,
            payload_format,
            message_expiry_s,
            content_type,
            response_topic,
            correlation_data,
            user_properties,
            raw: _,
        } = self;
        *delay_s == other.delay_s
            && *payload_format == other.payload_format
            && *message_expiry_s == other.message_expiry_s
            && *content_type == other.content_type
            && *response_topic == other.response_topic
            && *correlation_data == other.correlation_data
            && *user_properties == other.user_properties
    }
}

impl Eq for WillProperties<'_> {}
