//! MQTT as a client writes and reads it.
//!
//! A second implementation on purpose: the simulated clients judge what the broker's codec makes,
//! so an error in that codec must not cancel itself out on the other side of the link.
//!
//! Invariants:
//! - what is read is strict: a server packet with reserved bits, a wrong length, an unknown type or
//!   bytes left over is an error, and an error is a broken promise.
//!
//! Not here: what a packet means for the client (`client`).

use std::fmt;
use std::ops::Deref;

use ringmq_core::codec::{QoS, Version};
use ringmq_core::time::Instant;

use crate::pipe::{Encoded, Pipe};

/// Application payload; reads as its size in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A will as CONNECT carries it.
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: String,
    pub payload: Payload,
    pub qos: QoS,
    pub delay_s: u32,
    pub expiry_s: Option<u32>,
    /// As that of a PUBLISH.
    pub label: Option<String>,
}

/// CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    pub version: Version,
    pub client_id: &'a str,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub session_expiry_s: u32,
    pub receive_maximum: Option<u16>,
    pub topic_alias_max: u16,
    pub will: Option<&'a Will>,
}

/// Options of one filter of SUBSCRIBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0: send retained messages, 1: only to a new subscription, 2: never.
    pub retain_handling: u8,
}

/// PUBLISH towards the broker.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Empty when the alias alone names the topic.
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub dup: bool,
    pub retain: bool,
    pub packet_id: u16,
    pub alias: Option<u16>,
    pub expiry_s: Option<u32>,
    /// Travels as user property "n".
    pub label: Option<&'a str>,
}

/// The four acknowledgements that both sides send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
}

/// PUBLISH from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub topic: String,
    pub payload: Payload,
    pub qos: QoS,
    pub dup: bool,
    pub retain: bool,
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub alias: Option<u16>,
    pub expiry_s: Option<u32>,
    pub subscription_ids: Vec<u32>,
    pub label: Option<String>,
    /// When the broker made it.
    pub encoded: Encoded,
}

/// A packet of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connack(Connack),
    Publish(Delivery),
    Ack {
        ack: Ack,
        packet_id: u16,
        reason: u8,
    },
    Suback {
        packet_id: u16,
        codes: Vec<u8>,
    },
    Unsuback {
        packet_id: u16,
        codes: Vec<u8>,
    },
    Pingresp,
    Disconnect {
        reason: u8,
    },
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    pub session_present: bool,
    pub code: u8,
    pub receive_maximum: u16,
    pub topic_alias_max: u16,
    pub keep_alive_s: Option<u16>,
    pub session_expiry_s: Option<u32>,
}

/// What is wrong with bytes of the broker.
pub type WireError = &'static str;

pub fn connect(connect: &Connect<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.push(match connect.version {
        Version::V31 | Version::V311 => 4,
        Version::V5 => 5,
    });
    let will_flags = connect.will.map_or(0, |will| 0x04 | (will.qos as u8) << 3);
    body.push(will_flags | u8::from(connect.clean_start) << 1);
    body.extend(connect.keep_alive_s.to_be_bytes());
    if connect.version == Version::V5 {
        let mut properties = vec![0x11];
        properties.extend(connect.session_expiry_s.to_be_bytes());
        if let Some(maximum) = connect.receive_maximum {
            properties.push(0x21);
            properties.extend(maximum.to_be_bytes());
        }
        if connect.topic_alias_max > 0 {
            properties.push(0x22);
            properties.extend(connect.topic_alias_max.to_be_bytes());
        }
        put_properties(&mut body, &properties);
    }
    put_text(&mut body, connect.client_id);
    if let Some(will) = connect.will {
        if connect.version == Version::V5 {
            let mut properties = vec![0x18];
            properties.extend(will.delay_s.to_be_bytes());
            if let Some(expiry_s) = will.expiry_s {
                properties.push(0x02);
                properties.extend(expiry_s.to_be_bytes());
            }
            if let Some(label) = &will.label {
                properties.push(0x26);
                put_text(&mut properties, "n");
                put_text(&mut properties, label);
            }
            put_properties(&mut body, &properties);
        }
        put_text(&mut body, &will.topic);
        put_bytes(&mut body, &will.payload);
    }
    packet(0x10, &body)
}

pub fn subscribe(
    version: Version,
    packet_id: u16,
    subscription_id: u32,
    filters: &[(String, SubscribeOptions)],
) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        let mut properties = Vec::new();
        if subscription_id > 0 {
            properties.push(0x0B);
            put_varint(&mut properties, subscription_id as usize);
        }
        put_properties(&mut body, &properties);
    }
    for (filter, options) in filters {
        put_text(&mut body, filter);
        let mut bits = options.qos as u8;
        if version == Version::V5 {
            bits |= u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3
                | options.retain_handling << 4;
        }
        body.push(bits);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(version: Version, packet_id: u16, filters: &[String]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        put_properties(&mut body, &[]);
    }
    for filter in filters {
        put_text(&mut body, filter);
    }
    packet(0xA2, &body)
}

pub fn publish(version: Version, publish: &Publish<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, publish.topic);
    if publish.qos != QoS::AtMostOnce {
        body.extend(publish.packet_id.to_be_bytes());
    }
    if version == Version::V5 {
        let mut properties = Vec::new();
        if let Some(expiry_s) = publish.expiry_s {
            properties.push(0x02);
            properties.extend(expiry_s.to_be_bytes());
        }
        if let Some(alias) = publish.alias {
            properties.push(0x23);
            properties.extend(alias.to_be_bytes());
        }
        if let Some(label) = publish.label {
            properties.push(0x26);
            put_text(&mut properties, "n");
            put_text(&mut properties, label);
        }
        put_properties(&mut body, &properties);
    }
    body.extend(publish.payload);
    let flags = u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    packet(0x30 | flags, &body)
}

pub fn ack(ack: Ack, packet_id: u16) -> Vec<u8> {
    let flags = if ack == Ack::Pubrel { 2 } else { 0 };
    packet((ack as u8) << 4 | flags, &packet_id.to_be_bytes())
}

pub fn pingreq() -> Vec<u8> {
    packet(0xC0, &[])
}

pub fn disconnect(version: Version, reason: u8, session_expiry_s: Option<u32>) -> Vec<u8> {
    if version != Version::V5 || (reason == 0 && session_expiry_s.is_none()) {
        return packet(0xE0, &[]);
    }
    let mut body = vec![reason];
    let mut properties = Vec::new();
    if let Some(expiry_s) = session_expiry_s {
        properties.push(0x11);
        properties.extend(expiry_s.to_be_bytes());
    }
    put_properties(&mut body, &properties);
    packet(0xE0, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_varint(&mut bytes, body.len());
    bytes.extend(body);
    bytes
}

fn put_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_bytes(bytes, text.as_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, content: &[u8]) {
    let size = u16::try_from(content.len()).expect("the simulator writes short strings");
    bytes.extend(size.to_be_bytes());
    bytes.extend(content);
}

fn put_properties(bytes: &mut Vec<u8>, properties: &[u8]) {
    put_varint(bytes, properties.len());
    bytes.extend(properties);
}

/// Cuts the packets out of what the broker sent.
#[derive(Debug, Default)]
pub struct Reader {
    received: Pipe,
}

impl Reader {
    pub fn feed(&mut self, bytes: &mut Pipe, size: usize) {
        bytes.pour(size, &mut self.received);
    }

    /// The next whole packet.
    pub fn next(&mut self, version: Version) -> Result<Option<Packet>, WireError> {
        let bytes = self.received.bytes();
        let mut size = 0usize;
        for (index, &byte) in bytes.iter().skip(1).enumerate() {
            if index == 4 {
                return Err("the remaining length has more than four bytes");
            }
            size |= usize::from(byte & 127) << (7 * index);
            if byte & 128 != 0 {
                continue;
            }
            let head = 2 + index;
            if bytes.len() < head + size {
                return Ok(None);
            }
            let body = Fields {
                rest: &bytes[head..head + size],
            };
            let mut packet = parse(bytes[0], body, version)?;
            let encoded = self.received.drop_front(head + size);
            if let Packet::Publish(delivery) = &mut packet {
                delivery.encoded = encoded;
            }
            return Ok(Some(packet));
        }
        Ok(None)
    }
}

fn parse(first: u8, mut fields: Fields<'_>, version: Version) -> Result<Packet, WireError> {
    let v5 = version == Version::V5;
    if first >> 4 == 3 {
        return parse_publish(first & 15, fields, v5);
    }
    let expected_flags = if first >> 4 == 6 { 2 } else { 0 };
    if first & 15 != expected_flags {
        return Err("reserved flags of the fixed header are set");
    }
    let packet = match first >> 4 {
        2 => Packet::Connack(parse_connack(&mut fields, v5)?),
        4 => parse_ack(Ack::Puback, &mut fields, v5)?,
        5 => parse_ack(Ack::Pubrec, &mut fields, v5)?,
        6 => parse_ack(Ack::Pubrel, &mut fields, v5)?,
        7 => parse_ack(Ack::Pubcomp, &mut fields, v5)?,
        9 => {
            let (packet_id, codes) = parse_codes(&mut fields, v5)?;
            Packet::Suback { packet_id, codes }
        }
        11 => {
            let (packet_id, codes) = parse_codes(&mut fields, v5)?;
            if codes.is_empty() == v5 {
                return Err("UNSUBACK has codes exactly in MQTT 5");
            }
            Packet::Unsuback { packet_id, codes }
        }
        13 => Packet::Pingresp,
        14 if v5 => {
            let reason = if fields.rest.is_empty() {
                0
            } else {
                fields.byte()?
            };
            if !fields.rest.is_empty() {
                fields.properties()?;
            }
            Packet::Disconnect { reason }
        }
        _ => return Err("a packet that a server never sends"),
    };
    if !fields.rest.is_empty() {
        return Err("bytes are left over in a packet");
    }
    Ok(packet)
}

fn parse_connack(fields: &mut Fields<'_>, v5: bool) -> Result<Connack, WireError> {
    let flags = fields.byte()?;
    if flags > 1 {
        return Err("reserved flags of CONNACK are set");
    }
    let mut connack = Connack {
        session_present: flags == 1,
        code: fields.byte()?,
        receive_maximum: u16::MAX,
        topic_alias_max: 0,
        keep_alive_s: None,
        session_expiry_s: None,
    };
    if connack.session_present && connack.code != 0 {
        return Err("a refusal claims a session");
    }
    if v5 {
        let properties = fields.properties()?;
        connack.receive_maximum = properties.receive_maximum.unwrap_or(u16::MAX);
        connack.topic_alias_max = properties.topic_alias_max.unwrap_or(0);
        connack.keep_alive_s = properties.keep_alive_s;
        connack.session_expiry_s = properties.session_expiry_s;
    }
    Ok(connack)
}

fn parse_publish(flags: u8, mut fields: Fields<'_>, v5: bool) -> Result<Packet, WireError> {
    let qos = QoS::from_bits(flags >> 1 & 3).ok_or("PUBLISH has QoS 3")?;
    let dup = flags & 8 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err("PUBLISH of QoS 0 has DUP set");
    }
    let topic = fields.text()?;
    let packet_id = match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce | QoS::ExactlyOnce => fields.packet_id()?,
    };
    let properties = if v5 {
        fields.properties()?
    } else {
        Properties::default()
    };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err("PUBLISH names no topic");
    }
    Ok(Packet::Publish(Delivery {
        topic,
        payload: Payload(fields.rest.to_vec()),
        qos,
        dup,
        retain: flags & 1 != 0,
        packet_id,
        alias: properties.topic_alias,
        expiry_s: properties.expiry_s,
        subscription_ids: properties.subscription_ids,
        label: properties.label,
        // The reader knows, and fills it in.
        encoded: Encoded {
            from: Instant::ZERO,
            by: Instant::ZERO,
        },
    }))
}

fn parse_ack(ack: Ack, fields: &mut Fields<'_>, v5: bool) -> Result<Packet, WireError> {
    let packet_id = fields.packet_id()?;
    let mut reason = 0;
    if v5 && !fields.rest.is_empty() {
        reason = fields.byte()?;
        if !fields.rest.is_empty() {
            fields.properties()?;
        }
    }
    Ok(Packet::Ack {
        ack,
        packet_id,
        reason,
    })
}

fn parse_codes(fields: &mut Fields<'_>, v5: bool) -> Result<(u16, Vec<u8>), WireError> {
    let packet_id = fields.packet_id()?;
    if v5 {
        fields.properties()?;
    }
    Ok((packet_id, std::mem::take(&mut fields.rest).to_vec()))
}

/// The properties that the simulated clients look at.
#[derive(Debug, Default)]
struct Properties {
    expiry_s: Option<u32>,
    topic_alias: Option<u16>,
    subscription_ids: Vec<u32>,
    label: Option<String>,
    receive_maximum: Option<u16>,
    topic_alias_max: Option<u16>,
    keep_alive_s: Option<u16>,
    session_expiry_s: Option<u32>,
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or("a packet ends within a field")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(
            self.take(2)?.try_into().expect("two bytes were taken"),
        ))
    }

    fn four(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(
            self.take(4)?.try_into().expect("four bytes were taken"),
        ))
    }

    fn packet_id(&mut self) -> Result<u16, WireError> {
        match self.two()? {
            0 => Err("a packet identifier is zero"),
            packet_id => Ok(packet_id),
        }
    }

    fn text(&mut self) -> Result<String, WireError> {
        let size = usize::from(self.two()?);
        let text = std::str::from_utf8(self.take(size)?).map_err(|_| "a string is not UTF-8")?;
        Ok(text.to_owned())
    }

    fn varint(&mut self) -> Result<usize, WireError> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 127) << (7 * index);
            if byte & 128 == 0 {
                return Ok(value);
            }
        }
        Err("a variable byte integer has more than four bytes")
    }

    fn properties(&mut self) -> Result<Properties, WireError> {
        let size = self.varint()?;
        let mut fields = Fields {
            rest: self.take(size)?,
        };
        let mut properties = Properties::default();
        while !fields.rest.is_empty() {
            match fields.byte()? {
                0x02 => properties.expiry_s = Some(fields.four()?),
                0x0B => properties.subscription_ids.push(fields.varint()? as u32),
                0x11 => properties.session_expiry_s = Some(fields.four()?),
                0x13 => properties.keep_alive_s = Some(fields.two()?),
                0x21 => properties.receive_maximum = Some(fields.two()?),
                0x22 => properties.topic_alias_max = Some(fields.two()?),
                0x23 => properties.topic_alias = Some(fields.two()?),
                0x26 => {
                    let (name, value) = (fields.text()?, fields.text()?);
                    if name == "n" {
                        properties.label = Some(value);
                    }
                }
                // One byte each: payload format, maximum QoS, availability flags.
                0x01 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => {
                    fields.byte()?;
                }
                0x27 => {
                    fields.four()?;
                }
                // Strings: content type, response topic, correlation data, assigned id, reasons.
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => {
                    let size = usize::from(fields.two()?);
                    fields.take(size)?;
                }
                _ => return Err("a property that does not exist"),
            }
        }
        Ok(properties)
    }
}
