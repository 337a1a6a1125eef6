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

/// Reads a property section: identifiers in turn, and after each its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct PropertyReader<'a> {
    section: &'a [u8],
    values: Reader<'a>,
}

impl<'a> PropertyReader<'a> {
    pub(super) fn new(section: &'a [u8]) -> PropertyReader<'a> {
        PropertyReader {
            section,
            values: Reader::new(section),
        }
    }

    /// The next identifier; `None` at the end of the section.
    #[inline]
    pub(super) fn next_id(&mut self) -> Result<Option<u8>, DecodeError> {
        if self.values.is_empty() {
            return Ok(None);
        }
        // The identifier is a variable byte integer; all known ones take one byte.
        let id = self.values.u8()?;
        if id < 0x80 {
            Ok(Some(id))
        } else {
            Err(DecodeError::PropertyUnknown(id))
        }
    }

    /// The whole section that it reads.
    pub(super) fn section(&self) -> &'a [u8] {
        self.section
    }

    /// A subscription identifier, 1..=268,435,455.
    pub(super) fn subscription_id(&mut self) -> Result<u32, DecodeError> {
        u32::read(id::SUBSCRIPTION_IDENTIFIER, &mut self.values)
    }

    /// Key and value of a user property [MQTT-1.5.7-1].
    fn pair(&mut self) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((self.values.string()?, self.values.string()?))
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

/// A field of a decoded packet that properties with one identifier fill.
pub(super) trait Property<'a> {
    /// Reads the property, after its identifier.
    fn read(&mut self, id: u8, reader: &mut PropertyReader<'a>) -> Result<(), DecodeError>;

    /// Appends what is there.
    fn put(&self, id: u8, out: &mut Vec<u8>);
}

/// The value of a property that may stand once.
pub(super) trait Value<'a>: Copy {
    /// Reads it, and checks it by the rules for this identifier.
    fn read(id: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Appends it as this property has it.
    fn put(self, id: u8, out: &mut Vec<u8>);
}

impl<'a, T: Value<'a>> Property<'a> for Option<T> {
    #[inline]
    fn read(&mut self, id: u8, reader: &mut PropertyReader<'a>) -> Result<(), DecodeError> {
        let value = T::read(id, &mut reader.values)?;
        match self.replace(value) {
            None => Ok(()),
            Some(_) => Err(DecodeError::PropertyTwice(id)),
        }
    }

    #[inline]
    fn put(&self, id: u8, out: &mut Vec<u8>) {
        if let Some(value) = *self {
            out.push(id);
            value.put(id, out);
        }
    }
}

/// A byte that says no (0) or yes (1) and nothing else.
impl<'a> Value<'a> for bool {
    #[inline]
    fn read(id: u8, reader: &mut Reader<'a>) -> Result<bool, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::PropertyValue(id)),
        }
    }

    #[inline]
    fn put(self, _id: u8, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

impl<'a> Value<'a> for u16 {
    #[inline]
    fn read(id: u8, reader: &mut Reader<'a>) -> Result<u16, DecodeError> {
        match (reader.u16()?, id) {
            // [MQTT-3.3.2-8]
            (0, id::TOPIC_ALIAS) => Err(DecodeError::TopicAliasZero),
            (0, id::RECEIVE_MAXIMUM) => Err(DecodeError::PropertyValue(id)),
            (value, _) => Ok(value),
        }
    }

    #[inline]
    fn put(self, _id: u8, out: &mut Vec<u8>) {
        put_u16(out, self);
    }
}

impl<'a> Value<'a> for u32 {
    #[inline]
    fn read(id: u8, reader: &mut Reader<'a>) -> Result<u32, DecodeError> {
        let value = match id {
            id::SUBSCRIPTION_IDENTIFIER => reader.varint()?,
            _ => reader.u32()?,
        };
        match (value, id) {
            (0, id::SUBSCRIPTION_IDENTIFIER | id::MAXIMUM_PACKET_SIZE) => {
                Err(DecodeError::PropertyValue(id))
            }
            (value, _) => Ok(value),
        }
    }

    #[inline]
    fn put(self, id: u8, out: &mut Vec<u8>) {
        match id {
            id::SUBSCRIPTION_IDENTIFIER => put_varint(out, self),
            _ => put_u32(out, self),
        }
    }
}

impl<'a> Value<'a> for &'a str {
    #[inline]
    fn read(id: u8, reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        let text = reader.string()?;
        // [MQTT-3.3.2-14], [MQTT-4.7.3-1] Row 24 of the threat list: no wildcards.
        if id == id::RESPONSE_TOPIC && (text.is_empty() || has_wildcards(text.as_bytes())) {
            return Err(DecodeError::ResponseTopic);
        }
        Ok(text)
    }

    #[inline]
    fn put(self, _id: u8, out: &mut Vec<u8>) {
        put_binary(out, self.as_bytes());
    }
}

impl<'a> Value<'a> for &'a [u8] {
    #[inline]
    fn read(_id: u8, reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        reader.binary()
    }

    #[inline]
    fn put(self, _id: u8, out: &mut Vec<u8>) {
        put_binary(out, self);
    }
}

/// The properties of a packet as a struct with a field for each identifier.
pub(super) trait PropertyList<'a>: Default {
    /// Reads one property, after its identifier.
    fn read(&mut self, id: u8, reader: &mut PropertyReader<'a>) -> Result<(), DecodeError>;

    /// Appends all that are there.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads a whole section.
    #[inline]
    fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut list = Self::default();
        let mut reader = PropertyReader::new(section);
        while let Some(id) = reader.next_id()? {
            list.read(id, &mut reader)?;
        }
        Ok(list)
    }
}

/// Says which properties a packet has, in the order in which they are sent.
macro_rules! property_list {
    ($list:ident { $($id:ident => $field:ident,)+ }) => {
        impl<'a> $crate::codec::properties::PropertyList<'a> for $list<'a> {
            #[inline]
            fn read(
                &mut self,
                id: u8,
                reader: &mut $crate::codec::properties::PropertyReader<'a>,
            ) -> Result<(), $crate::codec::DecodeError> {
                use $crate::codec::properties::{Property, id, misplaced};
                match id {
                    $(id::$id => Property::read(&mut self.$field, id::$id, reader),)+
                    _ => Err(misplaced(id)),
                }
            }

            fn put(&self, out: &mut Vec<u8>) {
                use $crate::codec::properties::{Property, id};
                $(Property::put(&self.$field, id::$id, out);)+
            }
        }
    };
}
pub(super) use property_list;

/// Authentication data says nothing without a method.
pub(super) fn check_authentication(
    method: Option<&str>,
    data: Option<&[u8]>,
) -> Result<(), DecodeError> {
    match (method, data) {
        (None, Some(_)) => Err(DecodeError::AuthenticationMethodMissing),
        (_, _) => Ok(()),
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
        // Sections were validated when they were decoded. An invalid one ends here, without a
        // panic.
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
        let mut properties = UserProperties::NONE;
        let mut reader = PropertyReader::new(section);
        while let Some(id) = reader.next_id()? {
            match id {
                id::USER_PROPERTY => properties.read(id, &mut reader)?,
                _ => return Err(misplaced(id)),
            }
        }
        Ok(properties)
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
}

impl<'a> Property<'a> for UserProperties<'a> {
    #[inline]
    fn read(&mut self, _id: u8, reader: &mut PropertyReader<'a>) -> Result<(), DecodeError> {
        reader.pair()?;
        self.section = reader.section();
        self.count += 1;
        Ok(())
    }

    fn put(&self, _id: u8, out: &mut Vec<u8>) {
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

    pub(super) fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }
}

property_list! {
    ReasonProperties {
        REASON_STRING => reason_string,
        USER_PROPERTY => user_properties,
    }
}

/// Whether a string may stand in a packet; for those who build packets.
pub fn is_encodable(text: &str) -> bool {
    text.len() <= usize::from(u16::MAX) && utf8::check(text.as_bytes()).is_ok()
}
