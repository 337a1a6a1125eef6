//! UNSUBSCRIBE and UNSUBACK.

use super::basics::Version;
use super::error::DecodeError;
use super::frame::Frame;
use super::kind::PacketKind;
use super::properties::{Property, PropertyList, ReasonProperties, UserProperties, id};
use super::reason::ReasonCode;
use super::subscribe::Reasons;
use super::wire::{Reader, put_binary, put_packet, put_u16, put_with_length};
use crate::ids::PacketId;

/// An UNSUBSCRIBE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Repeated in the UNSUBACK.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Filters<'a>,
    /// Not part of the protocol; empty before 5.0.
    pub user_properties: UserProperties<'a>,
}

/// Topic filters, in order: well-formed text, not yet parsed as filters.
#[derive(Clone, Copy)]
pub struct Filters<'a> {
    source: FiltersSource<'a>,
}

#[derive(Clone, Copy)]
enum FiltersSource<'a> {
    /// Checked by [`Filters::check`].
    Encoded(&'a [u8]),
    Listed(&'a [&'a str]),
}

impl<'a> Unsubscribe<'a> {
    /// Decodes a frame of kind UNSUBSCRIBE.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Unsubscribe<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let user_properties = match version {
            Version::V31 | Version::V311 => UserProperties::default(),
            Version::V5 => UserProperties::parse(reader.properties()?)?,
        };
        Ok(Unsubscribe {
            packet_id,
            filters: Filters::check(reader.rest())?,
            user_properties,
        })
    }

    /// Appends the packet. Before 5.0 properties are left out.
    ///
    /// # Panics
    /// If there is no filter, or one is longer than 65,535 bytes.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketKind::Unsubscribe.first_byte(0b0010), |out| {
            put_u16(out, self.packet_id.get());
            if version == Version::V5 {
                put_with_length(out, |out| self.user_properties.put(id::USER_PROPERTY, out));
            }
            let list_at = out.len();
            for filter in self.filters.iter() {
                put_binary(out, filter.as_bytes());
            }
            // [MQTT-3.10.3-2]
            assert!(
                out.len() > list_at,
                "an UNSUBSCRIBE has at least one filter"
            );
        });
    }
}

impl<'a> Filters<'a> {
    /// These filters.
    pub fn listed(filters: &'a [&'a str]) -> Filters<'a> {
        Filters {
            source: FiltersSource::Listed(filters),
        }
    }

    /// The filters.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (encoded, listed) = match self.source {
            FiltersSource::Encoded(encoded) => (encoded, &[][..]),
            FiltersSource::Listed(listed) => (&[][..], listed),
        };
        let mut reader = Reader::new(encoded);
        // Checked when it was decoded: an error is the end.
        std::iter::from_fn(move || reader.string().ok()).chain(listed.iter().copied())
    }

    /// Checks an encoded list.
    fn check(encoded: &'a [u8]) -> Result<Filters<'a>, DecodeError> {
        let mut reader = Reader::new(encoded);
        // [MQTT-3.10.3-2]
        if reader.is_empty() {
            return Err(DecodeError::NothingListed);
        }
        while !reader.is_empty() {
            // [MQTT-3.10.3-1]
            reader.string()?;
        }
        Ok(Filters {
            source: FiltersSource::Encoded(encoded),
        })
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Filters<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Filters<'_> {}

impl std::fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// An UNSUBACK packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// Of the UNSUBSCRIBE [MQTT-3.10.4-5].
    pub packet_id: PacketId,
    /// One for each filter, in order [MQTT-3.11.3-1]; none before 5.0.
    pub reasons: Reasons<'a>,
    /// Empty before 5.0.
    pub properties: ReasonProperties<'a>,
}

impl<'a> Unsuback<'a> {
    /// Decodes a frame of kind UNSUBACK.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Unsuback<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let (reasons, properties) = match version {
            Version::V31 | Version::V311 => {
                reader.end()?;
                (Reasons::listed(&[]), ReasonProperties::default())
            }
            Version::V5 => {
                let properties = ReasonProperties::parse(reader.properties()?)?;
                let reasons = Reasons::check(reader.rest(), PacketKind::Unsuback, version)?;
                (reasons, properties)
            }
        };
        Ok(Unsuback {
            packet_id,
            reasons,
            properties,
        })
    }

    /// Appends the packet. Before 5.0 reasons and properties are left out.
    ///
    /// # Panics
    /// If it is for 5.0 and there is no reason.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, PacketKind::Unsuback.first_byte(0), |out| {
            put_u16(out, self.packet_id.get());
            if version == Version::V5 {
                put_with_length(out, |out| self.properties.put(out));
                assert!(
                    self.reasons.count() > 0,
                    "an UNSUBACK has a reason per filter"
                );
                out.extend(self.reasons.iter().map(ReasonCode::byte));
            }
        });
    }
}
