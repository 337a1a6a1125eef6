//! MQTT 3.1, 3.1.1 and 5.0 on the wire, for both sides: brokers and clients.
//!
//! Bytes -> [`Framer::next`] -> [`Frame`] -> `X::decode` -> a struct that borrows from the bytes.
//! Back: `X::encode`, or [`encode_publish`] and its like where speed counts.
//!
//! Invariants:
//! - decoding allocates nothing, takes time linear in the size of the packet, and never panics.
//! - what was decoded is valid by the rules of its packet; later code does not check again. The one
//!   exception is the topic name of a PUBLISH (see [`Publish::topic`]).
//! - a packet has one reading: lengths in their shortest form, no byte behind the last field.
//! - what is encoded decodes to the same packet. An encoder never cuts anything off to make it fit:
//!   a field or packet that is too long is a mistake of the caller, and asserted.
//!
//! Not here: anything that takes knowledge of the session (packet ids in use, topic aliases,
//! quotas, authorisation), the inner structure of topics, the limits of this broker.
//!
//! Start reading at [`frame`], then [`publish`].

mod ack;
mod basics;
mod connack;
mod connect;
mod disconnect;
mod error;
pub mod frame;
mod kind;
mod packet;
mod properties;
pub mod publish;
mod reason;
mod run;
mod subscribe;
mod unsubscribe;
pub mod utf8;
mod wire;

#[cfg(test)]
mod tests;

pub use ack::{
    Ack, AckKind, encode_pingreq, encode_pingresp, encode_puback, encode_pubcomp, encode_pubrec,
    encode_pubrel,
};
pub use basics::{QoS, Version};
pub use connack::{Connack, ConnackProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use disconnect::{Auth, AuthProperties, Disconnect, DisconnectProperties};
pub use error::DecodeError;
pub use frame::{Frame, FrameRules, Framer};
pub use kind::{Direction, PacketKind};
pub use packet::{Packet, decode};
pub use properties::{ReasonProperties, UserProperties, is_encodable};
pub use publish::{
    BarePublish, EncodedAt, Publish, PublishHead, PublishParts, PublishProperties, SubscriptionIds,
    encode_publish, encode_publish_without_payload, publish_size,
};
pub use reason::ReasonCode;
pub use run::PublishRun;
pub use subscribe::{
    Reasons, RetainHandling, Suback, Subscribe, SubscribeOptions, Subscription, Subscriptions,
};
pub use unsubscribe::{Filters, Unsuback, Unsubscribe};
pub use wire::{PACKET_SIZE_MAX, VARINT_MAX};
