//! Records: what the log and checkpoints are made of.
//!
//! ```text
//! record: kind u8 | size of the fields, varint | fields: varints, and bytes behind their length
//! ```
//!
//! Encoding appends to bytes and allocates nothing. Decoding borrows; it allocates for topic filters and,
//! once per group of receivers, for subscription identifiers and share names. What was decoded is valid:
//! later code does not check again.
//!
//! Not here: when a record is made (`shard`), what it does to what was recovered (`recovered.rs`),
//! checksums (`batch.rs`).

mod decode;
mod encode;
mod fields;
mod receivers;
mod subject;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

pub use receivers::{DeliveryRange, DeliveryRanges, Receiver, ReceiverTerms, Receivers};

use crate::codec::{QoS, RetainHandling, SubscribeOptions, Version};
use crate::ids::{ClientKey, DeliveryNo, PacketId, SessionNo};
use crate::message::MessageParts;
use crate::origin::Origin;
use crate::time::Instant;
use crate::topic::{SubscriptionOptions, TopicFilter};

/// One thing that happened and has to be known after a start.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// A client has a session that outlives its connection. One that it had before has an `Ended` of its
    /// own. If the session is known already, nothing.
    Opened(Opened<'a>),
    /// The client is connected, and its session has these terms: for each CONNECT that changes some, or
    /// ends an `Away`.
    Changed(Changed<'a>),
    /// The session is no more. Its will, if it has one, is owed until `WillGone`, and what its groups gave it
    /// until `Passed`.
    Ended(SessionNo),
    /// The connection is gone: the expiry of the session and the delay of its will count from then.
    Away {
        /// Whose.
        no: SessionNo,
        /// Since when.
        at: Instant,
    },
    /// The session has this will, instead of any other.
    Will(WillRecord<'a>),
    /// The session has no will, or it was published, and that is durable.
    WillGone(SessionNo),
    /// A subscription, instead of any other with its filter.
    Subscribed(SubscribedRecord),
    /// It is no more.
    Unsubscribed {
        /// Whose.
        no: SessionNo,
        /// The filter, share name included.
        filter: TopicFilter,
    },
    /// The subscription is due its retained messages from now on.
    Gather {
        /// Whose.
        no: SessionNo,
        /// Its filter.
        filter: TopicFilter,
    },
    /// It has been given them.
    GatherDone {
        /// Whose.
        no: SessionNo,
        /// Its filter.
        filter: TopicFilter,
    },
    /// What an ended session left to the other members of its groups was passed on, and that is durable.
    Passed(SessionNo),
    /// Sessions took a message of QoS 1 or 2.
    Message(MessageRecord<'a>),
    /// Further receivers of a body that stands before, in the same checkpoint.
    MoreReceivers {
        /// Which body.
        body: BodyNo,
        /// Who took it.
        receivers: Receivers<'a>,
    },
    /// A QoS 2 message came; its identifier is noted until `Released`.
    Received {
        /// From whom.
        no: SessionNo,
        /// As what.
        id: PacketId,
    },
    /// A QoS 2 message came that went to other shards, and all who were to get it have it; as `Received` otherwise.
    Spread(Origin),
    /// PUBREL came for it.
    Released {
        /// From whom.
        no: SessionNo,
        /// For which.
        id: PacketId,
    },
    /// What is left of a delivery is PUBREL, whether it is known or not: its client has the message, or is
    /// not to get it any more.
    Phase2 {
        /// Whose.
        no: SessionNo,
        /// Which.
        delivery: DeliveryNo,
    },
    /// Deliveries that are over.
    Settled {
        /// Whose.
        no: SessionNo,
        /// Which.
        ranges: DeliveryRanges<'a>,
    },
    /// A topic has this retained message, instead of any other.
    Retained(StoredMessage<'a>),
    /// It has none.
    Unretained {
        /// Which topic.
        topic: &'a [u8],
    },
    /// Behind one of these two: it was the QoS 2 message of this origin.
    Kept(Origin),
    /// In a checkpoint, behind what is said of a session: all its deliveries below this are in here, so
    /// those that the log brings again are passed over.
    Numbers {
        /// Whose.
        no: SessionNo,
        /// The next one that it takes.
        next_delivery: DeliveryNo,
    },
    /// In a checkpoint: not all have a message of the session, but these.
    Reached {
        /// Which.
        origin: Origin,
        /// Who has it; their deliveries do not matter.
        receivers: Receivers<'a>,
    },
    /// In a checkpoint: all messages of the session with lower tickets have reached everybody, but those that
    /// have a `Reached`.
    Tickets {
        /// Whose.
        no: SessionNo,
        /// The next one.
        next: u64,
    },
    /// The last record of a checkpoint.
    Footer(Footer),
}

/// What is known of a session from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Which.
    pub no: SessionNo,
    /// Of which client.
    pub client_id: &'a str,
    /// The rest.
    pub terms: SessionTerms<'a>,
}

/// What is different since a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed<'a> {
    /// Which.
    pub no: SessionNo,
    /// Instead of what it was.
    pub terms: SessionTerms<'a>,
}

/// What a CONNECT says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerms<'a> {
    /// The name that the client had proven.
    pub user: Option<&'a str>,
    /// The version it spoke.
    pub version: Version,
    /// Seconds that the session outlives its connection, not 0; `u32::MAX`: for ever.
    pub expiry_s: u32,
}

/// The will of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WillRecord<'a> {
    /// Whose.
    pub no: SessionNo,
    /// What to publish.
    pub message: StoredMessage<'a>,
    /// Message Expiry Interval, in seconds; it begins when the will is published.
    pub expiry_s: Option<u32>,
    /// Seconds between the loss of the connection and the publication.
    pub delay_s: u32,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribedRecord {
    /// Whose.
    pub no: SessionNo,
    /// The filter, share name included.
    pub filter: TopicFilter,
    /// What was granted.
    pub options: SubscribeOptions,
    /// Subscription Identifier, if the client gave one.
    pub subscription_id: Option<NonZeroU32>,
}

/// A message and the sessions that took it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageRecord<'a> {
    /// What they took.
    pub message: StoredMessage<'a>,
    /// If it is of QoS 2 and went to other shards too.
    pub origin: Option<Origin>,
    /// A number for the body, if more is said of it later in the same checkpoint.
    pub body: Option<BodyNo>,
    /// Who took it.
    pub receivers: Receivers<'a>,
}

/// A body in one checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyNo(pub u64);

/// A message: [`MessageParts`] with an author who is not shared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredMessage<'a> {
    /// A valid topic name.
    pub topic: &'a [u8],
    /// As in [`MessageParts`].
    pub properties: &'a [u8],
    /// Application payload.
    pub payload: &'a [u8],
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// When the message expires.
    pub expires_at: Option<Instant>,
    /// Who published it.
    pub publisher: ClientKey,
    /// The same in words, for retained messages.
    pub author: Option<AuthorRecord<'a>>,
}

/// Who published a retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorRecord<'a> {
    /// The name that it had proven.
    pub user: Option<&'a str>,
    /// Its client identifier.
    pub client_id: &'a str,
    /// It had brought rules along. They are not recorded: after a start only what is in the list of rules
    /// speaks for it.
    pub had_rules: bool,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// A kind of record that this version does not know: a newer one wrote it.
    UnknownKind(u8),
    /// Not what any version writes.
    Malformed,
}

/// The end of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Records before this one.
    pub records: u64,
}

impl SubscribedRecord {
    /// Of what a session was granted with a filter.
    pub fn new(
        no: SessionNo,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        retain_handling: RetainHandling,
    ) -> SubscribedRecord {
        SubscribedRecord {
            no,
            filter: filter.clone(),
            options: SubscribeOptions {
                qos: options.qos,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                retain_handling,
            },
            subscription_id: options.subscription_id,
        }
    }
}

impl<'a> From<MessageParts<'a>> for StoredMessage<'a> {
    fn from(parts: MessageParts<'a>) -> StoredMessage<'a> {
        StoredMessage {
            topic: parts.topic,
            properties: parts.properties,
            payload: parts.payload,
            qos: parts.qos,
            retain: parts.retain,
            expires_at: parts.expires_at,
            publisher: parts.publisher,
            author: parts.author.map(|author| AuthorRecord {
                user: author.user.as_deref(),
                client_id: &author.client_id,
                had_rules: author.rules.is_some(),
            }),
        }
    }
}

/// What the first byte of a record says.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Opened = 1,
    Changed = 2,
    Ended = 3,
    Away = 4,
    Will = 5,
    WillGone = 6,
    Subscribed = 7,
    Unsubscribed = 8,
    Message = 9,
    Received = 10,
    Released = 11,
    Phase2 = 12,
    Settled = 13,
    Retained = 14,
    Unretained = 15,
    Spread = 16,
    Passed = 17,
    Gather = 18,
    GatherDone = 19,
    Kept = 20,
    // 21 to 31 are kept for the log.
    Numbers = 32,
    MoreReceivers = 33,
    Footer = 34,
    Reached = 35,
    Tickets = 36,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind, RecordError> {
        Ok(match byte {
            1 => Kind::Opened,
            2 => Kind::Changed,
            3 => Kind::Ended,
            4 => Kind::Away,
            5 => Kind::Will,
            6 => Kind::WillGone,
            7 => Kind::Subscribed,
            8 => Kind::Unsubscribed,
            9 => Kind::Message,
            10 => Kind::Received,
            11 => Kind::Released,
            12 => Kind::Phase2,
            13 => Kind::Settled,
            14 => Kind::Retained,
            15 => Kind::Unretained,
            16 => Kind::Spread,
            17 => Kind::Passed,
            18 => Kind::Gather,
            19 => Kind::GatherDone,
            20 => Kind::Kept,
            32 => Kind::Numbers,
            33 => Kind::MoreReceivers,
            34 => Kind::Footer,
            35 => Kind::Reached,
            36 => Kind::Tickets,
            _ => return Err(RecordError::UnknownKind(byte)),
        })
    }
}

/// What follows the message of a record.
mod parts {
    pub(super) const BODY: u8 = 1;
    pub(super) const ORIGIN: u8 = 1 << 1;
}

/// The first byte of a message.
mod flags {
    pub(super) const QOS_MASK: u8 = 0b11;
    pub(super) const RETAIN: u8 = 1 << 2;
    pub(super) const EXPIRES: u8 = 1 << 3;
    pub(super) const HAS_AUTHOR: u8 = 1 << 4;
    pub(super) const ALL: u8 = QOS_MASK | RETAIN | EXPIRES | HAS_AUTHOR;
}
