//! Properties of MQTT 5.0: reading and writing one property at a time, and the views that many
//! packets share. Which packet takes which property is said where the packet is decoded.
//!
//! Time to read a section is linear in its size, whatever is in it.

use super::error::DecodeError;
use super::utf8;
use super::wire::{Reader, put_binary, put_u16, put_u32, put_varint};

/// Property identifiers, by their names in the standard.
pub(super) mod id {
    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// How the value of a property is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Byte,
    TwoBytes,
    FourBytes,
    VariableByteInteger,
    /// String or binary data.
    Sized,
    Pair,
}

impl Encoding {
    /// `None` when there is no such property.
    fn of(id: u8) -> Option<Encoding> {
        Some(match id {
            id::PAYLOAD_FORMAT_INDICATOR
            | id::REQUEST_PROBLEM_INFORMATION
            | id::REQUEST_RESPONSE_INFORMATION
            | id::MAXIMUM_QOS
            | id::RETAIN_AVAILABLE
            | id::WILDCARD_SUBSCRIPTION_AVAILABLE
            | id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE
            | id::SHARED_SUBSCRIPTION_AVAILABLE => Encoding::Byte,
            id::SERVER_KEEP_ALIVE
            | id::RECEIVE_MAXIMUM
            | id::TOPIC_ALIAS_MAXIMUM
            | id::TOPIC_ALIAS => Encoding::TwoBytes,
            id::MESSAGE_EXPIRY_INTERVAL
            | id::SESSION_EXPIRY_INTERVAL
            | id::WILL_DELAY_INTERVAL
            | id::MAXIMUM_PACKET_SIZE => Encoding::FourBytes,
            id::SUBSCRIPTION_IDENTIFIER => Encoding::VariableByteInteger,
            id::CONTENT_TYPE
            | id::RESPONSE_TOPIC
            | id::CORRELATION_DATA
            | id::ASSIGNED_CLIENT_IDENTIFIER
            | id::AUTHENTICATION_METHOD
            | id::AUTHENTICATION_DATA
            | id::RESPONSE_INFORMATION
            | id::SERVER_REFERENCE
            | id::REASON_STRING => Encoding::Sized,
            id::USER_PROPERTY => Encoding::Pair,
            _ => return None,
        })
    }
}

/// Reads a property section: identifiers in turn, and after each its value by the matching method.
#[derive(Clone, Copy, Debug)]
pub(super) struct PropertyReader<'a> {
    values: Reader<'a>,
}

impl<'a> PropertyReader<'a> {
    pub(super) fn new(section: &'a [u8]) -> PropertyReader<'a> {
        PropertyReader {
            values: Reader::new(section),
        }
    }

    /// The next identifier; `None` at the end of the section.
    #[inline]
    pub(super) fn next_id(&mut self) -> Result<Option<u8>, DecodeError> {
        if self.values.is_empty() {
            return Ok(None);
        }
        // The identifier is a variable byte integer, of which all that mean something take one byte.
        let id = self.values.u8()?;
        if id < 0x80 {
            Ok(Some(id))
        } else {
            Err(DecodeError::PropertyUnknown(id))
        }
    }

    /// A byte that says no (0) or yes (1) and nothing else.
    pub(super) fn flag(&mut self, id: u8) -> Result<bool, DecodeError> {
        match self.values.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::PropertyValue(id)),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.values.u16()
    }

    pub(super) fn nonzero_u16(&mut self, id: u8) -> Result<u16, DecodeError> {
        match self.values.u16()? {
            0 => Err(DecodeError::PropertyValue(id)),
            value => Ok(value),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.values.u32()
    }

    pub(super) fn nonzero_u32(&mut self, id: u8) -> Result<u32, DecodeError> {
        match self.values.u32()? {
            0 => Err(DecodeError::PropertyValue(id)),
            value => Ok(value),
        }
    }

    /// A subscription identifier, 1..=268,435,455.
    pub(super) fn subscription_id(&mut self) -> Result<u32, DecodeError> {
        match self.values.varint()? {
            0 => Err(DecodeError::PropertyValue(id::SUBSCRIPTION_IDENTIFIER)),
            value => Ok(value),
        }
    }

    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        self.values.string()
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        self.values.binary()
    }

    /// Key and value of a user property [MQTT-1.5.7-1].
    pub(super) fn pair(&mut self) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((self.values.string()?, self.values.string()?))
    }

    /// The topic to answer to.
    pub(super) fn response_topic(&mut self) -> Result<&'a str, DecodeError> {
        let topic = self.values.string()?;
        // [MQTT-3.3.2-14], [MQTT-4.7.3-1] Row 24 of the threat list: wildcards must not get through here.
        if topic.is_empty() || has_wildcards(topic.as_bytes()) {
            return Err(DecodeError::ResponseTopic);
        }
        Ok(topic)
    }

    /// Passes over the value of a property without looking at it.
    pub(super) fn skip(&mut self, id: u8) -> Result<(), DecodeError> {
        match Encoding::of(id).ok_or(DecodeError::PropertyUnknown(id))? {
            Encoding::Byte => self.values.u8().map(drop),
            Encoding::TwoBytes => self.values.u16().map(drop),
            Encoding::FourBytes => self.values.u32().map(drop),
            Encoding::VariableByteInteger => self.values.varint().map(drop),
            Encoding::Sized => self.values.binary().map(drop),
            Encoding::Pair => {
                self.values.binary()?;
                self.values.binary().map(drop)
            }
        }
    }
}

/// The error for a property that the packet at hand does not take.
#[cold]
pub(super) fn misplaced(id: u8) -> DecodeError {
    match Encoding::of(id) {
        Some(_) => DecodeError::PropertyMisplaced(id),
        None => DecodeError::PropertyUnknown(id),
    }
}

/// Fills in a property that may stand once.
#[inline]
pub(super) fn set<T>(slot: &mut Option<T>, id: u8, value: T) -> Result<(), DecodeError> {
    match slot {
        None => {
            *slot = Some(value);
            Ok(())
        }
        Some(_) => Err(DecodeError::PropertyTwice(id)),
    }
}

/// Whether a topic has `+` or `#` in it.
pub(super) fn has_wildcards(topic: &[u8]) -> bool {
    memchr::memchr2(b'+', b'#', topic).is_some()
}

/// Goes through a section property by property, without their meaning: each item is an identifier
/// and the whole encoded property.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncodedProperties<'a> {
    section: &'a [u8],
}

impl<'a> EncodedProperties<'a> {
    pub(super) fn new(section: &'a [u8]) -> EncodedProperties<'a> {
        EncodedProperties { section }
    }
}

impl<'a> Iterator for EncodedProperties<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        // Sections are valid from decoding on. One that is not ends here instead of panicking.
        let mut reader = PropertyReader::new(self.section);
        let id = reader.next_id().ok()??;
        reader.skip(id).ok()?;
        let (property, rest) = self
            .section
            .split_at(self.section.len() - reader.values.rest().len());
        self.section = rest;
        Some((id, property))
    }
}

/// User properties in the order received, duplicates kept [MQTT-3.3.2-18]. Any other properties
/// between them are passed over.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    section: &'a [u8],
    count: u32,
}

impl<'a> UserProperties<'a> {
    /// No user properties.
    pub const NONE: UserProperties<'static> = UserProperties {
        section: &[],
        count: 0,
    };

    /// User properties from their encoding, as [`UserProperties::push`] makes it.
    pub fn parse(section: &'a [u8]) -> Result<UserProperties<'a>, DecodeError> {
        let mut count = 0;
        let mut reader = PropertyReader::new(section);
        while let Some(id) = reader.next_id()? {
            match id {
                id::USER_PROPERTY => drop(reader.pair()?),
                _ => return Err(misplaced(id)),
            }
            count += 1;
        }
        Ok(UserProperties { section, count })
    }

    /// The user properties of a section that was decoded, or none when it is known to have none.
    pub(super) fn of_section(section: &'a [u8], count: usize) -> UserProperties<'a> {
        UserProperties {
            section: if count == 0 { &[] } else { section },
            // Packets have less than 2^28 bytes.
            count: count as u32,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Appends one user property to an encoding. Key and value have at most 65,535 bytes each.
    pub fn push(encoding: &mut Vec<u8>, (key, value): (&str, &str)) {
        encoding.push(id::USER_PROPERTY);
        put_binary(encoding, key.as_bytes());
        put_binary(encoding, value.as_bytes());
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.encoded().filter_map(|property| {
            // The first byte is the identifier.
            PropertyReader::new(property.get(1..)?).pair().ok()
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoded().next().is_none()
    }

    fn encoded(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        EncodedProperties::new(self.section)
            .filter(|(id, _)| *id == id::USER_PROPERTY)
            .map(|(_, property)| property)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for property in self.encoded() {
            out.extend_from_slice(property);
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &UserProperties<'_>) -> bool {
        self.encoded().eq(other.encoded())
    }
}

impl Eq for UserProperties<'_> {}

impl std::fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Reason string and user properties: all that PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK
/// have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReasonProperties<'a> {
    /// For people and logs.
    pub reason_string: Option<&'a str>,
    /// Not part of the protocol.
    pub user_properties: UserProperties<'a>,
}

impl<'a> ReasonProperties<'a> {
    /// No properties.
    pub const EMPTY: ReasonProperties<'static> = ReasonProperties {
        reason_string: None,
        user_properties: UserProperties::NONE,
    };

    pub(super) fn parse(section: &'a [u8]) -> Result<ReasonProperties<'a>, DecodeError> {
        let mut properties = ReasonProperties::default();
        let mut user_count = 0;
        let mut reader = PropertyReader::new(section);
        while let Some(id) = reader.next_id()? {
            match id {
                id::REASON_STRING => set(&mut properties.reason_string, id, reader.string()?)?,
                id::USER_PROPERTY => {
                    reader.pair()?;
                    user_count += 1;
                }
                _ => return Err(misplaced(id)),
            }
        }
        properties.user_properties = UserProperties::of_section(section, user_count);
        Ok(properties)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_optional_str(out, id::REASON_STRING, self.reason_string);
        self.user_properties.put(out);
    }
}

pub(super) fn put_optional_flag(out: &mut Vec<u8>, id: u8, value: Option<bool>) {
    if let Some(value) = value {
        out.extend_from_slice(&[id, u8::from(value)]);
    }
}

pub(super) fn put_optional_u16(out: &mut Vec<u8>, id: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.push(id);
        put_u16(out, value);
    }
}

pub(super) fn put_optional_u32(out: &mut Vec<u8>, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(id);
        put_u32(out, value);
    }
}

pub(super) fn put_optional_binary(out: &mut Vec<u8>, id: u8, value: Option<&[u8]>) {
    if let Some(value) = value {
        out.push(id);
        put_binary(out, value);
    }
}

pub(super) fn put_optional_str(out: &mut Vec<u8>, id: u8, value: Option<&str>) {
    put_optional_binary(out, id, value.map(str::as_bytes));
}

pub(super) fn put_subscription_id(out: &mut Vec<u8>, value: u32) {
    out.push(id::SUBSCRIPTION_IDENTIFIER);
    put_varint(out, value);
}

/// Whether a string may stand in a packet; for those who build packets.
pub fn is_encodable(text: &str) -> bool {
    text.len() <= usize::from(u16::MAX) && utf8::check(text.as_bytes()).is_ok()
}
