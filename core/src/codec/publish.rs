//! PUBLISH: the packet that everything else is there for.
//!
//! Decoding borrows and never allocates; without properties it is a few bounds checks. Encoding is
//! from parts, so that a fan-out encodes once per version and patches QoS and packet id per
//! receiver.
//!
//! Not here: whether the topic name is valid text (the route cache asks once per distinct topic),
//! topic aliases, expiry.

use std::num::NonZeroU32;

use super::basics::{QoS, Version};
use super::error::DecodeError;
use super::frame::Frame;
use super::kind::{Direction, PacketKind};
use super::properties::{
    EncodedProperties, Property, PropertyList, PropertyReader, UserProperties, id, property_list,
};
use super::wire::{PACKET_SIZE_MAX, Reader, VARINT_MAX, put_binary, put_varint, varint_size};
use crate::ids::PacketId;

/// A PUBLISH packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before, maybe received before.
    pub dup: bool,
    /// How surely it has to arrive.
    pub qos: QoS,
    /// From a client: store it. From a server: it was stored.
    pub retain: bool,
    /// Topic name **as received: neither checked for UTF-8 nor for wildcards**. Not empty, unless
    /// there is a topic alias. Resolve it through the route cache, or check it with
    /// [`utf8::check`](super::utf8::check) and parse it as a topic name.
    pub topic: &'a [u8],
    /// There exactly when `qos` is not 0 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// Empty before 5.0.
    pub properties: PublishProperties<'a>,
    /// Application payload.
    pub payload: &'a [u8],
}

/// A PUBLISH packet whose properties are not decoded. For who has thousands in one read and needs
/// none: the properties are most of a [`Publish`].
#[derive(Clone, Copy, Debug)]
pub struct BarePublish<'a> {
    /// DUP, QoS and RETAIN.
    pub head: PublishHead,
    /// As in [`Publish`], except that it may be empty.
    pub topic: &'a [u8],
    /// As in [`Publish`].
    pub packet_id: Option<PacketId>,
    /// The property section, unchecked, without its length.
    pub section: &'a [u8],
    /// Application payload.
    pub payload: &'a [u8],
}

/// Properties of a PUBLISH.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishProperties<'a> {
    /// The payload claims to be UTF-8.
    pub payload_format: Option<bool>,
    /// Seconds that the message is worth delivering.
    pub message_expiry_s: Option<u32>,
    /// Stands for the topic name on this connection; not 0.
    pub topic_alias: Option<u16>,
    /// Where to answer; no wildcards in it.
    pub response_topic: Option<&'a str>,
    /// What the answer has to repeat.
    pub correlation_data: Option<&'a [u8]>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Identifiers of the subscriptions that matched; from a server only [MQTT-3.3.4-6].
    pub subscription_ids: SubscriptionIds<'a>,
    /// Not part of the protocol.
    pub user_properties: UserProperties<'a>,
    /// The section as received, without its length; empty in one made by hand. Encoding does not
    /// look at it, comparing neither: it is the same properties in the order of the sender.
    pub raw: &'a [u8],
}

/// Subscription identifiers of a PUBLISH, in the order received.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a> {
    source: SubscriptionIdSource<'a>,
}

#[derive(Clone, Copy)]
enum SubscriptionIdSource<'a> {
    /// A valid property section with identifiers somewhere in it.
    Section(&'a [u8]),
    Listed(&'a [u32]),
}

impl<'a> Publish<'a> {
    /// Decodes a frame of kind PUBLISH. Borrows from it.
    #[inline]
    pub fn decode(
        frame: &Frame<'a>,
        version: Version,
        direction: Direction,
    ) -> Result<Publish<'a>, DecodeError> {
        let bare = BarePublish::decode(frame, version)?;
        let properties = bare.properties(direction)?;
        Ok(Publish {
            dup: bare.head.dup,
            qos: bare.head.qos,
            retain: bare.head.retain,
            topic: bare.topic,
            packet_id: bare.packet_id,
            properties,
            payload: bare.payload,
        })
    }

    /// Appends the packet. Before 5.0 properties are left out.
    ///
    /// # Panics
    /// If `qos` and `packet_id` contradict each other, or a field is too long (see
    /// [`publish_size`]).
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        assert_eq!(
            self.packet_id.is_some(),
            self.qos > QoS::AtMostOnce,
            "a packet id goes with QoS 1 and 2"
        );
        let head = PublishHead {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
        };
        super::wire::put_packet(out, head.first_byte(), |out| {
            put_binary(out, self.topic);
            if let Some(packet_id) = self.packet_id {
                super::wire::put_u16(out, packet_id.get());
            }
            if version == Version::V5 {
                super::wire::put_with_length(out, |out| self.properties.put(out));
            }
            out.extend_from_slice(self.payload);
        });
    }
}

impl<'a> BarePublish<'a> {
    /// Decodes a frame of kind PUBLISH up to its properties. Borrows from it.
    #[inline]
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<BarePublish<'a>, DecodeError> {
        let head = PublishHead::from_flags(frame.flags)?;
        let mut reader = Reader::new(frame.body);
        let topic = reader.binary()?;
        let packet_id = match head.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let section = match version {
            Version::V31 | Version::V311 => &[],
            Version::V5 => reader.properties()?,
        };
        Ok(BarePublish {
            head,
            topic,
            packet_id,
            section,
            payload: reader.rest(),
        })
    }

    /// Decodes the properties, with which the packet is valid or not.
    #[inline]
    pub fn properties(&self, direction: Direction) -> Result<PublishProperties<'a>, DecodeError> {
        let properties = if self.section.is_empty() {
            PublishProperties::default()
        } else {
            PublishProperties::decode(self.section, direction)?
        };
        // [MQTT-4.7.3-1] Row 7 of the threat list: an empty topic needs an alias.
        if self.topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::TopicMissing);
        }
        Ok(properties)
    }
}

property_list! {
    PublishProperties {
        PAYLOAD_FORMAT_INDICATOR => payload_format,
        MESSAGE_EXPIRY_INTERVAL => message_expiry_s,
        TOPIC_ALIAS => topic_alias,
        RESPONSE_TOPIC => response_topic,
        CORRELATION_DATA => correlation_data,
        CONTENT_TYPE => content_type,
        SUBSCRIPTION_IDENTIFIER => subscription_ids,
        USER_PROPERTY => user_properties,
    }
}

impl<'a> PublishProperties<'a> {
    /// Decodes a section of properties, which stands behind its size in the packet.
    // Out of line: most messages have no properties.
    #[inline(never)]
    pub fn decode(
        section: &'a [u8],
        direction: Direction,
    ) -> Result<PublishProperties<'a>, DecodeError> {
        let mut properties = PublishProperties {
            raw: section,
            ..PublishProperties::default()
        };
        let mut reader = PropertyReader::new(section);
        while let Some(id) = reader.next_id()? {
            // [MQTT-3.3.4-6]
            if id == id::SUBSCRIPTION_IDENTIFIER && direction == Direction::FromClient {
                return Err(DecodeError::SubscriptionIdFromClient);
            }
            properties.read(id, &mut reader)?;
        }
        Ok(properties)
    }

    /// Appends the received properties that travel on with the message, in the order received
    /// [MQTT-3.3.2-18]: payload format, content type, response topic, correlation data and user
    /// properties. Topic alias, expiry and subscription identifiers belong to one hop.
    #[inline]
    pub fn write_forwarded(&self, out: &mut Vec<u8>) {
        if self.raw.is_empty() {
            return;
        }
        write_forwarded(self.raw, out);
    }

    /// What [`PublishProperties::write_forwarded`] appends, borrowed where it stands in one piece,
    /// otherwise gathered in `scratch`.
    #[inline]
    pub fn forwarded<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if self.raw.is_empty() {
            return &[];
        }
        if self.topic_alias.is_none()
            && self.message_expiry_s.is_none()
            && self.subscription_ids.is_empty()
        {
            return self.raw;
        }
        scratch.clear();
        write_forwarded(self.raw, scratch);
        scratch
    }
}

/// Copies runs of properties that travel on.
pub(super) fn write_forwarded(section: &[u8], out: &mut Vec<u8>) {
    let mut run_at = 0;
    let mut at = 0;
    for (id, property) in EncodedProperties::new(section) {
        if !travels_on(id) {
            out.extend_from_slice(&section[run_at..at]);
            run_at = at + property.len();
        }
        at += property.len();
    }
    out.extend_from_slice(&section[run_at..at]);
}

/// Whether a property of a PUBLISH or a will goes to the subscribers as it is.
fn travels_on(id: u8) -> bool {
    !matches!(
        id,
        id::TOPIC_ALIAS
            | id::MESSAGE_EXPIRY_INTERVAL
            | id::SUBSCRIPTION_IDENTIFIER
            | id::WILL_DELAY_INTERVAL
    )
}

impl PartialEq for PublishProperties<'_> {
    fn eq(&self, other: &PublishProperties<'_>) -> bool {
        let PublishProperties {
            payload_format,
            message_expiry_s,
            topic_alias,
            response_topic,
            correlation_data,
            content_type,
            subscription_ids,
            user_properties,
            raw: _,
        } = self;
        *payload_format == other.payload_format
            && *message_expiry_s == other.message_expiry_s
            && *topic_alias == other.topic_alias
            && *response_topic == other.response_topic
            && *correlation_data == other.correlation_data
            && *content_type == other.content_type
            && *subscription_ids == other.subscription_ids
            && *user_properties == other.user_properties
    }
}

impl Eq for PublishProperties<'_> {}

impl<'a> SubscriptionIds<'a> {
    /// No identifiers.
    pub const NONE: SubscriptionIds<'static> = SubscriptionIds {
        source: SubscriptionIdSource::Listed(&[]),
    };

    /// These identifiers, each 1..=268,435,455.
    pub fn listed(ids: &'a [u32]) -> SubscriptionIds<'a> {
        SubscriptionIds {
            source: SubscriptionIdSource::Listed(ids),
        }
    }

    /// The identifiers.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (section, listed) = match self.source {
            SubscriptionIdSource::Section(section) => (section, &[][..]),
            SubscriptionIdSource::Listed(listed) => (&[][..], listed),
        };
        let decoded = EncodedProperties::new(section)
            .filter(|(id, _)| *id == id::SUBSCRIPTION_IDENTIFIER)
            .filter_map(|(_, property)| {
                // The first byte is the identifier of the property.
                PropertyReader::new(property.get(1..)?)
                    .subscription_id()
                    .ok()
            });
        decoded.chain(listed.iter().copied())
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self.source {
            SubscriptionIdSource::Section(_) => false,
            SubscriptionIdSource::Listed(listed) => listed.is_empty(),
        }
    }
}

impl<'a> Property<'a> for SubscriptionIds<'a> {
    #[inline]
    fn read(&mut self, _id: u8, reader: &mut PropertyReader<'a>) -> Result<(), DecodeError> {
        reader.subscription_id()?;
        self.source = SubscriptionIdSource::Section(reader.section());
        Ok(())
    }

    fn put(&self, id: u8, out: &mut Vec<u8>) {
        for subscription_id in self.iter() {
            Some(subscription_id).put(id, out);
        }
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        SubscriptionIds::NONE
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &SubscriptionIds<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl std::fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The flags of a PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishHead {
    /// Sent before.
    pub dup: bool,
    /// QoS of this delivery.
    pub qos: QoS,
    /// RETAIN flag of this delivery.
    pub retain: bool,
}

impl PublishHead {
    /// The first byte of the packet.
    #[inline]
    pub const fn first_byte(self) -> u8 {
        let flags = (self.dup as u8) << 3 | (self.qos as u8) << 1 | self.retain as u8;
        PacketKind::Publish.first_byte(flags)
    }

    #[inline]
    fn from_flags(flags: u8) -> Result<PublishHead, DecodeError> {
        // [MQTT-3.3.1-4]
        let qos = QoS::from_bits((flags >> 1) & 0b11).ok_or(DecodeError::QoS)?;
        let dup = flags & 0b1000 != 0;
        // [MQTT-3.3.1-2]
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::DupWithoutQoS);
        }
        Ok(PublishHead {
            dup,
            qos,
            retain: flags & 1 != 0,
        })
    }
}

/// What an outgoing PUBLISH is made of. Before 5.0 only topic and payload are sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishParts<'a> {
    /// Topic name; empty when the alias is known to the receiver.
    pub topic: &'a [u8],
    /// Encoded properties that travel with the message
    /// ([`PublishProperties::write_forwarded`]).
    pub properties: &'a [u8],
    /// Seconds that are left of the message expiry interval [MQTT-3.3.2-6].
    pub message_expiry_s: Option<u32>,
    /// Topic alias of this connection.
    pub topic_alias: Option<u16>,
    /// Identifiers of the matching subscriptions [MQTT-3.3.4-3].
    pub subscription_ids: &'a [NonZeroU32],
    /// Application payload.
    pub payload: &'a [u8],
}

impl PublishParts<'_> {
    /// Bytes of the property section without its length.
    #[inline]
    fn properties_size(&self) -> usize {
        let mut size = self.properties.len();
        if self.message_expiry_s.is_some() {
            size += 5;
        }
        if self.topic_alias.is_some() {
            size += 3;
        }
        for &subscription_id in self.subscription_ids {
            size += 1 + varint_size(subscription_id.get());
        }
        size
    }

    /// Bytes of everything behind the fixed header, and of the property section in it.
    #[inline]
    fn sizes(&self, version: Version, qos: QoS) -> (usize, usize) {
        let mut size = 2 + self.topic.len() + self.payload.len();
        if qos > QoS::AtMostOnce {
            size += 2;
        }
        match version {
            Version::V31 | Version::V311 => (size, 0),
            Version::V5 => {
                let properties_size = self.properties_size();
                let length_size = varint_size(u32::try_from(properties_size).unwrap_or(u32::MAX));
                (size + length_size + properties_size, properties_size)
            }
        }
    }
}

/// Where the parts of an encoded PUBLISH are that differ between receivers; offsets into the whole
/// vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedAt {
    /// The byte with DUP, QoS and RETAIN: [`PublishHead::first_byte`].
    pub first_byte_at: usize,
    /// Two bytes, highest first; only QoS 1 and 2 have them. With QoS 0: what follows the topic.
    pub packet_id_at: usize,
}

/// Bytes that [`encode_publish`] appends: what counts against the receiver's Maximum Packet Size
/// [MQTT-3.1.2-24]. More than [`PACKET_SIZE_MAX`] if it cannot be sent to anybody.
#[inline]
pub fn publish_size(version: Version, qos: QoS, parts: &PublishParts<'_>) -> u32 {
    let (size, _) = parts.sizes(version, qos);
    match u32::try_from(size) {
        Ok(size) if size <= VARINT_MAX => 1 + varint_size(size) as u32 + size,
        _ => PACKET_SIZE_MAX + 1,
    }
}

/// Appends a PUBLISH. `packet_id` is 0 exactly with QoS 0; a template may carry any other number
/// and be patched.
///
/// # Panics
/// If the packet is larger than [`PACKET_SIZE_MAX`], or `packet_id` and QoS contradict each other.
#[inline]
pub fn encode_publish(
    version: Version,
    head: PublishHead,
    packet_id: u16,
    parts: &PublishParts<'_>,
    out: &mut Vec<u8>,
) -> EncodedAt {
    let (size, properties_size) = parts.sizes(version, head.qos);
    out.reserve(5 + size);
    let at = encode_publish_front(
        version,
        head,
        packet_id,
        parts,
        (size, properties_size),
        out,
    );
    out.extend_from_slice(parts.payload);
    at
}

/// Appends a PUBLISH but for its payload, which has to follow: `parts.payload` counts in the length
/// and is not copied.
///
/// # Panics
/// Like [`encode_publish`].
#[inline]
pub fn encode_publish_without_payload(
    version: Version,
    head: PublishHead,
    packet_id: u16,
    parts: &PublishParts<'_>,
    out: &mut Vec<u8>,
) -> EncodedAt {
    let sizes = parts.sizes(version, head.qos);
    out.reserve(5 + sizes.0 - parts.payload.len());
    encode_publish_front(version, head, packet_id, parts, sizes, out)
}

#[inline]
fn encode_publish_front(
    version: Version,
    head: PublishHead,
    packet_id: u16,
    parts: &PublishParts<'_>,
    (size, properties_size): (usize, usize),
    out: &mut Vec<u8>,
) -> EncodedAt {
    assert_eq!(
        packet_id != 0,
        head.qos > QoS::AtMostOnce,
        "a packet id goes with QoS 1 and 2"
    );
    let first_byte_at = out.len();
    out.push(head.first_byte());
    put_varint(out, u32::try_from(size).unwrap_or(u32::MAX));
    put_binary(out, parts.topic);
    let packet_id_at = out.len();
    if packet_id != 0 {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    if version == Version::V5 {
        if properties_size == 0 {
            out.push(0);
        } else {
            put_parts_properties(parts, properties_size, out);
        }
    }
    EncodedAt {
        first_byte_at,
        packet_id_at,
    }
}

fn put_parts_properties(parts: &PublishParts<'_>, size: usize, out: &mut Vec<u8>) {
    put_varint(out, u32::try_from(size).unwrap_or(u32::MAX));
    parts.topic_alias.put(id::TOPIC_ALIAS, out);
    parts.message_expiry_s.put(id::MESSAGE_EXPIRY_INTERVAL, out);
    for &subscription_id in parts.subscription_ids {
        Some(subscription_id.get()).put(id::SUBSCRIPTION_IDENTIFIER, out);
    }
    out.extend_from_slice(parts.properties);
}
