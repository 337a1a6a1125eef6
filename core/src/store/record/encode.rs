//! Records to bytes.

use super::fields::{put_bytes, put_sized, put_varint};
use super::{
    AuthorRecord, Footer, Kind, MessageRecord, Opened, Record, SessionTerms, StoredMessage,
    SubscribedRecord, WillRecord, flags, parts,
};
use crate::codec::Version;
use crate::ids::SessionNo;
use crate::origin::Origin;

impl Record<'_> {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind() as u8);
        put_sized(out, self.size_min(), |out| self.put_fields(out));
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        match self {
            Record::Opened(Opened {
                no,
                client_id,
                terms,
            }) => {
                put_no(out, *no);
                put_bytes(out, client_id.as_bytes());
                put_terms(out, terms);
            }
            Record::Changed(changed) => {
                put_no(out, changed.no);
                put_terms(out, &changed.terms);
            }
            Record::Ended(no) | Record::WillGone(no) | Record::Passed(no) => put_no(out, *no),
            Record::Away { no, at } => {
                put_no(out, *no);
                put_varint(out, at.as_nanos());
            }
            Record::Will(will) => put_will(out, will),
            Record::Subscribed(subscribed) => put_subscribed(out, subscribed),
            Record::Unsubscribed { no, filter }
            | Record::Gather { no, filter }
            | Record::GatherDone { no, filter } => {
                put_no(out, *no);
                put_bytes(out, filter.as_str().as_bytes());
            }
            Record::Message(record) => put_message_record(out, record),
            Record::MoreReceivers { body, receivers } => {
                put_varint(out, body.0);
                receivers.put(out);
            }
            Record::Received { no, id } | Record::Released { no, id } => {
                put_no(out, *no);
                put_varint(out, u64::from(id.get()));
            }
            Record::Spread(origin) | Record::Kept(origin) => put_origin(out, origin),
            Record::Phase2 { no, delivery } => {
                put_no(out, *no);
                put_varint(out, delivery.0);
            }
            Record::Settled { no, ranges } => {
                put_no(out, *no);
                ranges.put(out);
            }
            Record::Retained(message) => put_message(out, message),
            Record::Unretained { topic } => put_bytes(out, topic),
            Record::Numbers { no, next_delivery } => {
                put_no(out, *no);
                put_varint(out, next_delivery.0);
            }
            Record::Reached { origin, receivers } => {
                put_origin(out, origin);
                receivers.put(out);
            }
            Record::Tickets { no, next } => {
                put_no(out, *no);
                put_varint(out, *next);
            }
            Record::Footer(Footer { records }) => put_varint(out, *records),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Record::Opened(_) => Kind::Opened,
            Record::Changed(_) => Kind::Changed,
            Record::Ended(_) => Kind::Ended,
            Record::Away { .. } => Kind::Away,
            Record::Will(_) => Kind::Will,
            Record::WillGone(_) => Kind::WillGone,
            Record::Subscribed(_) => Kind::Subscribed,
            Record::Unsubscribed { .. } => Kind::Unsubscribed,
            Record::Gather { .. } => Kind::Gather,
            Record::GatherDone { .. } => Kind::GatherDone,
            Record::Passed(_) => Kind::Passed,
            Record::Message(_) => Kind::Message,
            Record::MoreReceivers { .. } => Kind::MoreReceivers,
            Record::Received { .. } => Kind::Received,
            Record::Released { .. } => Kind::Released,
            Record::Phase2 { .. } => Kind::Phase2,
            Record::Settled { .. } => Kind::Settled,
            Record::Retained(_) => Kind::Retained,
            Record::Unretained { .. } => Kind::Unretained,
            Record::Numbers { .. } => Kind::Numbers,
            Record::Spread(_) => Kind::Spread,
            Record::Kept(_) => Kind::Kept,
            Record::Reached { .. } => Kind::Reached,
            Record::Tickets { .. } => Kind::Tickets,
            Record::Footer(_) => Kind::Footer,
        }
    }

    /// Less than the fields take, but not by much if there is a message: what [`put_sized`] wants.
    fn size_min(&self) -> usize {
        match self {
            Record::Message(record) => record.message.size_min(),
            Record::Retained(message) => message.size_min(),
            Record::Will(will) => will.message.size_min(),
            Record::Opened(_)
            | Record::Changed(_)
            | Record::Ended(_)
            | Record::Away { .. }
            | Record::WillGone(_)
            | Record::Subscribed(_)
            | Record::Unsubscribed { .. }
            | Record::Gather { .. }
            | Record::GatherDone { .. }
            | Record::Passed(_)
            | Record::MoreReceivers { .. }
            | Record::Received { .. }
            | Record::Released { .. }
            | Record::Spread(_)
            | Record::Kept(_)
            | Record::Reached { .. }
            | Record::Tickets { .. }
            | Record::Phase2 { .. }
            | Record::Settled { .. }
            | Record::Unretained { .. }
            | Record::Numbers { .. }
            | Record::Footer(_) => 0,
        }
    }
}

impl StoredMessage<'_> {
    fn size_min(&self) -> usize {
        MESSAGE_SIZE_MIN + self.topic.len() + self.properties.len() + self.payload.len()
    }
}

fn put_no(out: &mut Vec<u8>, no: SessionNo) {
    put_varint(out, no.0);
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    put_no(out, origin.no);
    put_varint(out, u64::from(origin.id.get()));
    put_varint(out, origin.ticket);
}

fn put_terms(out: &mut Vec<u8>, terms: &SessionTerms<'_>) {
    assert!(
        terms.expiry_s > 0,
        "a session without expiry is not recorded"
    );
    out.push(match terms.version {
        Version::V31 => 3,
        Version::V311 => 4,
        Version::V5 => 5,
    });
    put_varint(out, u64::from(terms.expiry_s));
    put_optional_text(out, terms.user);
}

fn put_will(out: &mut Vec<u8>, will: &WillRecord<'_>) {
    put_no(out, will.no);
    put_varint(out, u64::from(will.delay_s));
    out.push(u8::from(will.expiry_s.is_some()));
    if let Some(expiry_s) = will.expiry_s {
        put_varint(out, u64::from(expiry_s));
    }
    put_message(out, &will.message);
}

fn put_subscribed(out: &mut Vec<u8>, subscribed: &SubscribedRecord) {
    put_no(out, subscribed.no);
    put_bytes(out, subscribed.filter.as_str().as_bytes());
    out.push(subscribed.options.byte(Version::V5));
    // 0 is no identifier.
    let subscription_id = subscribed.subscription_id.map_or(0, |id| id.get());
    put_varint(out, u64::from(subscription_id));
}

fn put_message_record(out: &mut Vec<u8>, record: &MessageRecord<'_>) {
    put_message(out, &record.message);
    let mut present = 0;
    for (is_set, part) in [
        (record.body.is_some(), parts::BODY),
        (record.origin.is_some(), parts::ORIGIN),
    ] {
        present |= if is_set { part } else { 0 };
    }
    out.push(present);
    if let Some(body) = record.body {
        put_varint(out, body.0);
    }
    if let Some(origin) = &record.origin {
        put_origin(out, origin);
    }
    record.receivers.put(out);
}

fn put_message(out: &mut Vec<u8>, message: &StoredMessage<'_>) {
    let mut flags = message.qos as u8;
    for (is_set, flag) in [
        (message.retain, flags::RETAIN),
        (message.expires_at.is_some(), flags::EXPIRES),
        (message.author.is_some(), flags::HAS_AUTHOR),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    out.push(flags);
    // A hash: it is never small.
    out.extend_from_slice(&message.publisher.0.to_le_bytes());
    if let Some(at) = message.expires_at {
        put_varint(out, at.as_nanos());
    }
    if let Some(author) = message.author {
        let AuthorRecord {
            user,
            client_id,
            had_rules,
        } = author;
        put_optional_text(out, user);
        put_bytes(out, client_id.as_bytes());
        out.push(u8::from(had_rules));
    }
    put_bytes(out, message.topic);
    put_bytes(out, message.properties);
    put_bytes(out, message.payload);
}

/// A user name may be empty, so its absence is a byte of its own.
fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_bytes(out, text.as_bytes());
    }
}

/// Flags, publisher, three lengths.
const MESSAGE_SIZE_MIN: usize = 1 + 8 + 3;
