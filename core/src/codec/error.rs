//! What can be wrong with received bytes.

use std::fmt;

use super::basics::Version;
use super::kind::PacketKind;
use super::reason::ReasonCode;

/// Why received bytes are not a packet. Ends the connection: [`DecodeError::reason`] says what a v5
/// peer is told; a v3 peer is told nothing (but see [`DecodeError::connack_version`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// The first packet is not the one that opens a connection [MQTT-3.1.0-1].
    OutOfPlace(PacketKind),
    /// This side never sends packets of this kind.
    WrongDirection(PacketKind),
    /// No packet of this version has this type number.
    UnknownKind(u8),
    /// Reserved flags of the fixed header have another value than listed [MQTT-2.1.3-1].
    Flags(PacketKind),
    /// A variable byte integer takes more bytes than it needs, or more than four [MQTT-1.5.5-1].
    VariableByteInteger,
    /// The packet is larger than the receiver takes [MQTT-3.2.2-15].
    PacketTooLarge,
    /// A field runs past the end of the packet.
    Truncated,
    /// Bytes follow the last field.
    TrailingBytes,
    /// A string is not well-formed UTF-8 [MQTT-1.5.4-1].
    IllFormedUtf8,
    /// A string has a control character in it; U+0000 is forbidden [MQTT-1.5.4-2], the others may
    /// be refused and are.
    ControlCharacter,
    /// No such protocol name: the peer hardly speaks MQTT [MQTT-3.1.2-1].
    UnsupportedProtocolName,
    /// MQTT of another level [MQTT-3.1.2-2].
    UnsupportedProtocolVersion {
        /// The level that it named.
        level: u8,
    },
    /// A reserved bit is set (CONNECT flags [MQTT-3.1.2-3], CONNACK flags [MQTT-3.2.2-1],
    /// subscription options [MQTT-3.8.3-5]).
    ReservedBits,
    /// QoS 3 [MQTT-3.3.1-4], [MQTT-3.1.2-12].
    QoS,
    /// DUP on QoS 0 [MQTT-3.3.1-2].
    DupWithoutQoS,
    /// Will QoS or will retain without a will [MQTT-3.1.2-11], [MQTT-3.1.2-13].
    WillFlagsWithoutWill,
    /// Password without user name in MQTT 3.1 or 3.1.1 (there [MQTT-3.1.2-22]).
    PasswordWithoutUserName,
    /// The will topic is empty or has wildcards.
    WillTopic,
    /// Packet identifier 0 [MQTT-2.2.1-3].
    PacketIdZero,
    /// Empty topic name without a topic alias.
    TopicMissing,
    /// Topic alias 0 [MQTT-3.3.2-8].
    TopicAliasZero,
    /// The response topic is empty or has wildcards [MQTT-3.3.2-14], [MQTT-4.7.3-1].
    ResponseTopic,
    /// A client sent a subscription identifier in a PUBLISH [MQTT-3.3.4-6].
    SubscriptionIdFromClient,
    /// A SUBSCRIBE or UNSUBSCRIBE without a filter [MQTT-3.8.3-2], [MQTT-3.10.3-2]; a SUBACK or
    /// UNSUBACK without a reason.
    NothingListed,
    /// Retain Handling 3.
    RetainHandling,
    /// No Local on a shared subscription [MQTT-3.8.3-4].
    NoLocalOnShared,
    /// No property has this identifier.
    PropertyUnknown(u8),
    /// This packet does not carry this property.
    PropertyMisplaced(u8),
    /// This side does not send this property in this packet.
    PropertyWrongDirection(u8),
    /// A property that may stand once stands twice.
    PropertyTwice(u8),
    /// A property has a value that the standard forbids.
    PropertyValue(u8),
    /// Authentication data without a method, or AUTH without a method.
    AuthenticationMethodMissing,
    /// The standard gives this reason code (or v3 return code) no meaning.
    ReasonUnknown(u8),
    /// This side does not send this reason code in this packet.
    ReasonMisplaced(ReasonCode),
    /// "Session present" in a refusal [MQTT-3.2.2-6].
    SessionPresentInRefusal,
}

impl DecodeError {
    /// The reason code for the DISCONNECT or CONNACK that answers [MQTT-4.13.1-1].
    pub const fn reason(self) -> ReasonCode {
        match self {
            DecodeError::UnknownKind(_)
            | DecodeError::Flags(_)
            | DecodeError::VariableByteInteger
            | DecodeError::Truncated
            | DecodeError::TrailingBytes
            | DecodeError::IllFormedUtf8
            | DecodeError::ControlCharacter
            | DecodeError::ReservedBits
            | DecodeError::QoS
            | DecodeError::DupWithoutQoS
            | DecodeError::WillFlagsWithoutWill
            | DecodeError::PasswordWithoutUserName
            | DecodeError::PropertyUnknown(_)
            | DecodeError::PropertyMisplaced(_)
            | DecodeError::ReasonUnknown(_) => ReasonCode::MalformedPacket,
            DecodeError::OutOfPlace(_)
            | DecodeError::WrongDirection(_)
            | DecodeError::PacketIdZero
            | DecodeError::TopicMissing
            | DecodeError::ResponseTopic
            | DecodeError::SubscriptionIdFromClient
            | DecodeError::NothingListed
            | DecodeError::RetainHandling
            | DecodeError::NoLocalOnShared
            | DecodeError::PropertyWrongDirection(_)
            | DecodeError::PropertyTwice(_)
            | DecodeError::PropertyValue(_)
            | DecodeError::AuthenticationMethodMissing
            | DecodeError::ReasonMisplaced(_)
            | DecodeError::SessionPresentInRefusal => ReasonCode::ProtocolError,
            DecodeError::UnsupportedProtocolName
            | DecodeError::UnsupportedProtocolVersion { .. } => {
                ReasonCode::UnsupportedProtocolVersion
            }
            DecodeError::WillTopic => ReasonCode::TopicNameInvalid,
            DecodeError::TopicAliasZero => ReasonCode::TopicAliasInvalid,
            DecodeError::PacketTooLarge => ReasonCode::PacketTooLarge,
        }
    }

    /// The version to write a CONNACK in for a client of an unsupported level: `V311` gives it
    /// return code 1, `V5` reason code 0x84. `None` when the client is not to be answered for its
    /// version (whatever it speaks may not be MQTT).
    pub const fn connack_version(self) -> Option<Version> {
        let DecodeError::UnsupportedProtocolVersion { level } = self else {
            return None;
        };
        // Bridges of Mosquitto set the highest bit of the level: 0x83 is a 3, 0x84 a 4.
        if level & 0x7F >= 5 {
            Some(Version::V5)
        } else {
            Some(Version::V311)
        }
    }
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            DecodeError::OutOfPlace(kind) => return write!(f, "{kind:?} as the first packet"),
            DecodeError::WrongDirection(kind) => {
                return write!(f, "{kind:?} is not sent by this side");
            }
            DecodeError::UnknownKind(number) => {
                return write!(f, "packet type {number} does not exist in this version");
            }
            DecodeError::Flags(kind) => return write!(f, "wrong fixed header flags of {kind:?}"),
            DecodeError::UnsupportedProtocolVersion { level } => {
                return write!(f, "protocol level {level} is not supported");
            }
            DecodeError::PropertyUnknown(id) => return write!(f, "unknown property 0x{id:02X}"),
            DecodeError::PropertyMisplaced(id) => {
                return write!(f, "property 0x{id:02X} does not belong in this packet");
            }
            DecodeError::PropertyWrongDirection(id) => {
                return write!(f, "property 0x{id:02X} is not sent by this side");
            }
            DecodeError::PropertyTwice(id) => return write!(f, "property 0x{id:02X} twice"),
            DecodeError::PropertyValue(id) => {
                return write!(f, "forbidden value of property 0x{id:02X}");
            }
            DecodeError::ReasonUnknown(byte) => {
                return write!(f, "unknown reason code 0x{byte:02X}");
            }
            DecodeError::ReasonMisplaced(reason) => {
                return write!(f, "reason {reason} does not belong in this packet");
            }
            DecodeError::VariableByteInteger => "ill-formed variable byte integer",
            DecodeError::PacketTooLarge => "packet too large",
            DecodeError::Truncated => "a field runs past the end of the packet",
            DecodeError::TrailingBytes => "bytes after the last field",
            DecodeError::IllFormedUtf8 => "ill-formed UTF-8",
            DecodeError::ControlCharacter => "control character in a string",
            DecodeError::UnsupportedProtocolName => "not the protocol name of MQTT",
            DecodeError::ReservedBits => "a reserved bit is set",
            DecodeError::QoS => "QoS 3",
            DecodeError::DupWithoutQoS => "DUP with QoS 0",
            DecodeError::WillFlagsWithoutWill => "will flags without a will",
            DecodeError::PasswordWithoutUserName => "password without user name",
            DecodeError::WillTopic => "will topic is empty or has wildcards",
            DecodeError::PacketIdZero => "packet identifier 0",
            DecodeError::TopicMissing => "neither topic name nor topic alias",
            DecodeError::TopicAliasZero => "topic alias 0",
            DecodeError::ResponseTopic => "response topic that is empty or has wildcards",
            DecodeError::SubscriptionIdFromClient => "subscription identifier from a client",
            DecodeError::NothingListed => "the list of filters or reasons is empty",
            DecodeError::RetainHandling => "retain handling 3",
            DecodeError::NoLocalOnShared => "no local on a shared subscription",
            DecodeError::AuthenticationMethodMissing => "authentication method is missing",
            DecodeError::SessionPresentInRefusal => "session present in a refusal",
        };
        f.write_str(text)
    }
}
