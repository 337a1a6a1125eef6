//! SUBSCRIBE and SUBACK.
//!
//! The list of a packet is checked whole when the packet is decoded; going through it afterwards
//! cannot fail.

use super::basics::{QoS, Version};
use super::error::DecodeError;
use super::frame::Frame;
use super::kind::{Direction, PacketKind};
use super::properties::{PropertyList, ReasonProperties, UserProperties, property_list};
use super::reason::ReasonCode;
use super::wire::{Reader, put_binary, put_packet, put_u16, put_with_length};
use crate::ids::PacketId;

/// A SUBSCRIBE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Repeated in the SUBACK.
    pub packet_id: PacketId,
    /// Goes with every message that these subscriptions match; 1..=268,435,455; `None` before 5.0.
    pub subscription_id: Option<u32>,
    /// At least one.
    pub filters: Subscriptions<'a>,
    /// Not part of the protocol; empty before 5.0.
    pub user_properties: UserProperties<'a>,
}

/// One line of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Topic filter: well-formed text, not yet parsed as a filter.
    pub filter: &'a str,
    /// How to deliver.
    pub options: SubscribeOptions,
}

/// How a subscription wants its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// Highest QoS to deliver with.
    pub qos: QoS,
    /// Not what the client itself publishes [MQTT-3.8.3-3].
    pub no_local: bool,
    /// Keep the RETAIN flag of live messages [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// Which retained messages to send at the start.
    pub retain_handling: RetainHandling,
}

/// Which retained messages a SUBSCRIBE brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match [MQTT-3.3.1-9]; also what 3.1 and 3.1.1 do.
    #[default]
    Send = 0,
    /// All that match, if the subscription did not exist [MQTT-3.3.1-10].
    SendIfNew = 1,
    /// None [MQTT-3.3.1-11].
    DoNotSend = 2,
}

/// The lines of a SUBSCRIBE, in order.
#[derive(Clone, Copy)]
pub struct Subscriptions<'a> {
    source: SubscriptionsSource<'a>,
}

#[derive(Clone, Copy)]
enum SubscriptionsSource<'a> {
    /// Checked by [`Subscriptions::check`].
    Encoded(&'a [u8], Version),
    Listed(&'a [Subscription<'a>]),
}

impl<'a> Subscribe<'a> {
    /// Decodes a frame of kind SUBSCRIBE.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Subscribe<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = match version {
            Version::V31 | Version::V311 => SubscribeProperties::default(),
            Version::V5 => SubscribeProperties::parse(reader.properties()?)?,
        };
        Ok(Subscribe {
            packet_id,
            subscription_id: properties.subscription_id,
            filters: Subscriptions::check(reader.rest(), version)?,
            user_properties: properties.user_properties,
        })
    }

    /// Appends the packet. Before 5.0 everything but filters and QoS is left out.
    ///
    /// # Panics
    /// If there is no filter, or one is longer than 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketKind::Subscribe.first_byte(0b0010), |out| {
            put_u16(out, self.packet_id.get());
            if version == Version::V5 {
                let properties = SubscribeProperties {
                    subscription_id: self.subscription_id,
                    user_properties: self.user_properties,
                };
                put_with_length(out, |out| properties.put(out));
            }
            let list_at = out.len();
            for subscription in self.filters.iter() {
                put_binary(out, subscription.filter.as_bytes());
                out.push(subscription.options.byte(version));
            }
            // [MQTT-3.8.3-2]
            assert!(out.len() > list_at, "a SUBSCRIBE has at least one filter");
        });
    }
}

#[derive(Debug, Default)]
struct SubscribeProperties<'a> {
    subscription_id: Option<u32>,
    user_properties: UserProperties<'a>,
}

property_list! {
    SubscribeProperties {
        SUBSCRIPTION_IDENTIFIER => subscription_id,
        USER_PROPERTY => user_properties,
    }
}

impl SubscribeOptions {
    /// QoS with everything else as in MQTT 3.1.1.
    pub const fn with_qos(qos: QoS) -> SubscribeOptions {
        SubscribeOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// The options byte; before 5.0 the QoS alone.
    pub const fn byte(self, version: Version) -> u8 {
        match version {
            Version::V31 | Version::V311 => self.qos as u8,
            Version::V5 => {
                self.qos as u8
                    | (self.no_local as u8) << 2
                    | (self.retain_as_published as u8) << 3
                    | (self.retain_handling as u8) << 4
            }
        }
    }

    /// Reads the options byte.
    pub fn from_byte(byte: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
        let reserved = match version {
            Version::V31 | Version::V311 => 0b1111_1100,
            Version::V5 => 0b1100_0000,
        };
        // [MQTT-3.8.3-5]; in 3.1.1 [MQTT-3.8.3-4]
        if byte & reserved != 0 {
            return Err(DecodeError::ReservedBits);
        }
        Ok(SubscribeOptions {
            qos: QoS::from_bits(byte & 0b11).ok_or(DecodeError::QoS)?,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(DecodeError::RetainHandling),
            },
        })
    }
}

impl<'a> Subscriptions<'a> {
    /// These lines.
    pub fn listed(lines: &'a [Subscription<'a>]) -> Subscriptions<'a> {
        Subscriptions {
            source: SubscriptionsSource::Listed(lines),
        }
    }

    /// The lines.
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'a>> + use<'a> {
        let (encoded, version, listed) = match self.source {
            SubscriptionsSource::Encoded(encoded, version) => (encoded, version, &[][..]),
            SubscriptionsSource::Listed(listed) => (&[][..], Version::V5, listed),
        };
        let mut reader = Reader::new(encoded);
        // Checked when it was decoded: an error is the end.
        std::iter::from_fn(move || decode_line(&mut reader, version).ok())
            .chain(listed.iter().copied())
    }

    /// Checks an encoded list.
    fn check(encoded: &'a [u8], version: Version) -> Result<Subscriptions<'a>, DecodeError> {
        let mut reader = Reader::new(encoded);
        // [MQTT-3.8.3-2]
        if reader.is_empty() {
            return Err(DecodeError::NothingListed);
        }
        while !reader.is_empty() {
            let line = decode_line(&mut reader, version)?;
            // [MQTT-3.8.3-4]
            if line.options.no_local && line.filter.starts_with("$share/") {
                return Err(DecodeError::NoLocalOnShared);
            }
        }
        Ok(Subscriptions {
            source: SubscriptionsSource::Encoded(encoded, version),
        })
    }
}

fn decode_line<'a>(
    reader: &mut Reader<'a>,
    version: Version,
) -> Result<Subscription<'a>, DecodeError> {
    // [MQTT-3.8.3-1]
    let filter = reader.string()?;
    let options = SubscribeOptions::from_byte(reader.u8()?, version)?;
    Ok(Subscription { filter, options })
}

impl PartialEq for Subscriptions<'_> {
    fn eq(&self, other: &Subscriptions<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Subscriptions<'_> {}

impl std::fmt::Debug for Subscriptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A SUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    /// Of the SUBSCRIBE [MQTT-3.8.4-2].
    pub packet_id: PacketId,
    /// One for each filter, in order [MQTT-3.8.4-6], [MQTT-3.9.3-1].
    pub reasons: Reasons<'a>,
    /// Empty before 5.0.
    pub properties: ReasonProperties<'a>,
}

impl<'a> Suback<'a> {
    /// Decodes a frame of kind SUBACK. Before 5.0 0x80 reads as `UnspecifiedError`.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Suback<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = match version {
            Version::V31 | Version::V311 => ReasonProperties::default(),
            Version::V5 => ReasonProperties::parse(reader.properties()?)?,
        };
        Ok(Suback {
            packet_id,
            reasons: Reasons::check(reader.rest(), PacketKind::Suback, version)?,
            properties,
        })
    }

    /// Appends the packet. Before 5.0 every refusal is 0x80 [MQTT-3.9.3-2] and properties are left
    /// out.
    ///
    /// # Panics
    /// If there is no reason.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketKind::Suback.first_byte(0), |out| {
            put_u16(out, self.packet_id.get());
            if version == Version::V5 {
                put_with_length(out, |out| self.properties.put(out));
            }
            let list_at = out.len();
            out.extend(self.reasons.iter().map(|reason| match version {
                Version::V31 | Version::V311 if reason.is_error() => {
                    ReasonCode::UnspecifiedError.byte()
                }
                Version::V31 | Version::V311 | Version::V5 => reason.byte(),
            }));
            assert!(out.len() > list_at, "a SUBACK has a reason per filter");
        });
    }
}

/// The reasons of a SUBACK or UNSUBACK, one per filter and in their order.
#[derive(Clone, Copy)]
pub struct Reasons<'a> {
    source: ReasonsSource<'a>,
}

#[derive(Clone, Copy)]
enum ReasonsSource<'a> {
    /// Checked by [`Reasons::check`].
    Encoded(&'a [u8]),
    Listed(&'a [ReasonCode]),
}

impl<'a> Reasons<'a> {
    /// These reasons.
    pub fn listed(reasons: &'a [ReasonCode]) -> Reasons<'a> {
        Reasons {
            source: ReasonsSource::Listed(reasons),
        }
    }

    /// The reasons.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        let (encoded, listed) = match self.source {
            ReasonsSource::Encoded(encoded) => (encoded, &[][..]),
            ReasonsSource::Listed(listed) => (&[][..], listed),
        };
        encoded
            .iter()
            .filter_map(|&byte| ReasonCode::from_byte(byte))
            .chain(listed.iter().copied())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self.source {
            ReasonsSource::Encoded(encoded) => encoded.len(),
            ReasonsSource::Listed(listed) => listed.len(),
        }
    }

    /// Checks an encoded list.
    pub(super) fn check(
        encoded: &'a [u8],
        kind: PacketKind,
        version: Version,
    ) -> Result<Reasons<'a>, DecodeError> {
        if encoded.is_empty() {
            return Err(DecodeError::NothingListed);
        }
        for &byte in encoded {
            match version {
                // In 3.1.1 [MQTT-3.9.3-2]
                Version::V31 | Version::V311 => match byte {
                    0..=2 | 0x80 => {}
                    _ => return Err(DecodeError::ReasonUnknown(byte)),
                },
                Version::V5 => {
                    super::ack::decode_reason(byte, kind, Direction::FromServer)?;
                }
            }
        }
        Ok(Reasons {
            source: ReasonsSource::Encoded(encoded),
        })
    }
}

impl PartialEq for Reasons<'_> {
    fn eq(&self, other: &Reasons<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Reasons<'_> {}

impl std::fmt::Debug for Reasons<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
