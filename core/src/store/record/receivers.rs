//! The sessions that took a message, and ranges of deliveries: lists that an encoder gets as a slice and a
//! decoder leaves as they stand.
//!
//! ```text
//! receivers: groups up to the end of the record
//! group: flags u8 | [count, subscription identifiers] | [share name and filter] | count, receivers
//! receiver: session and delivery, each as its distance from the one before it in the record
//! ranges: each as the distance of its first from the last of the one before it, and its size
//! ```

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::RecordError;
use super::fields::{Reader, put_bytes, put_delta, put_varint};
use crate::codec::{QoS, VARINT_MAX};
use crate::ids::{DeliveryNo, SessionNo};
use crate::session::KeptMatch;

/// A session that took a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Which.
    pub no: SessionNo,
    /// As which of its deliveries.
    pub delivery: DeliveryNo,
    /// On what terms.
    pub terms: ReceiverTerms,
}

/// On what terms a session took a message. Consecutive receivers with equal ones take a few bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverTerms {
    /// QoS to send with, 1 or 2.
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// As in [`Delivery`](crate::session::Delivery).
    pub matched: Option<Arc<KeptMatch>>,
    /// In a checkpoint: it may have been sent.
    pub may_have_been_sent: bool,
}

/// The sessions that took a message.
#[derive(Clone, Copy)]
pub struct Receivers<'a> {
    source: Source<'a, Receiver>,
}

/// Deliveries of one session, from the first to the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRange {
    /// The first.
    pub first: DeliveryNo,
    /// The last, not before the first.
    pub last: DeliveryNo,
}

/// Ranges of deliveries of one session.
#[derive(Clone, Copy)]
pub struct DeliveryRanges<'a> {
    source: Source<'a, DeliveryRange>,
}

enum Source<'a, T> {
    Listed(&'a [T]),
    /// Checked when it was decoded.
    Encoded(&'a [u8]),
}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

impl<'a> Receivers<'a> {
    /// These receivers.
    pub fn listed(receivers: &'a [Receiver]) -> Receivers<'a> {
        Receivers {
            source: Source::Listed(receivers),
        }
    }

    /// The receivers.
    pub fn iter(&self) -> impl Iterator<Item = Receiver> + use<'a> {
        let (listed, encoded) = match self.source {
            Source::Listed(listed) => (listed, &[][..]),
            Source::Encoded(encoded) => (&[][..], encoded),
        };
        let decoded = DecodedReceivers::new(encoded).map_while(Result::ok);
        listed.iter().cloned().chain(decoded)
    }

    pub(super) fn decode(encoded: &'a [u8]) -> Result<Receivers<'a>, RecordError> {
        DecodedReceivers::new(encoded).try_for_each(|receiver| receiver.map(drop))?;
        Ok(Receivers {
            source: Source::Encoded(encoded),
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let listed = match self.source {
            Source::Listed(listed) => listed,
            Source::Encoded(encoded) => return out.extend_from_slice(encoded),
        };
        let (mut no, mut delivery) = (0, 0);
        for group in listed.chunk_by(|one, next| one.terms == next.terms) {
            put_terms(out, &group[0].terms);
            put_varint(out, group.len() as u64);
            for receiver in group {
                put_delta(out, no, receiver.no.0);
                put_delta(out, delivery, receiver.delivery.0);
                (no, delivery) = (receiver.no.0, receiver.delivery.0);
            }
        }
    }
}

fn put_terms(out: &mut Vec<u8>, terms: &ReceiverTerms) {
    let ids = terms
        .matched
        .as_deref()
        .map_or(&[][..], |m| &m.subscription_ids);
    let share = terms.matched.as_deref().and_then(|m| m.share.as_deref());
    assert!(
        terms.qos > QoS::AtMostOnce,
        "deliveries of QoS 0 are not recorded"
    );
    let mut flags = terms.qos as u8;
    for (is_set, flag) in [
        (terms.retain, RETAIN),
        (!ids.is_empty(), HAS_IDS),
        (share.is_some(), HAS_SHARE),
        (terms.may_have_been_sent, MAY_HAVE_BEEN_SENT),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    out.push(flags);
    if !ids.is_empty() {
        put_varint(out, ids.len() as u64);
        ids.iter()
            .for_each(|id| put_varint(out, u64::from(id.get())));
    }
    if let Some(share) = share {
        put_bytes(out, share.as_str().as_bytes());
    }
}

/// Receivers as they stand in a record; the first error is the end.
struct DecodedReceivers<'a> {
    reader: Reader<'a>,
    /// Of the present group.
    terms: ReceiverTerms,
    /// Left in the present group.
    left: u64,
    no: u64,
    delivery: u64,
}

impl<'a> DecodedReceivers<'a> {
    fn new(encoded: &'a [u8]) -> DecodedReceivers<'a> {
        DecodedReceivers {
            reader: Reader::new(encoded),
            terms: ReceiverTerms {
                qos: QoS::AtLeastOnce,
                retain: false,
                matched: None,
                may_have_been_sent: false,
            },
            left: 0,
            no: 0,
            delivery: 0,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<Receiver, RecordError> {
        if self.left == 0 {
            self.terms = read_terms(&mut self.reader)?;
            self.left = self.reader.varint()?;
            if self.left == 0 {
                return Err(RecordError::Malformed);
            }
        }
        self.left -= 1;
        self.no = self.reader.delta(self.no)?;
        self.delivery = self.reader.delta(self.delivery)?;
        Ok(Receiver {
            no: SessionNo(self.no),
            delivery: DeliveryNo(self.delivery),
            terms: self.terms.clone(),
        })
    }
}

impl Iterator for DecodedReceivers<'_> {
    type Item = Result<Receiver, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() && self.left == 0 {
            return None;
        }
        Some(self.read())
    }
}

fn read_terms(reader: &mut Reader<'_>) -> Result<ReceiverTerms, RecordError> {
    let flags = reader.u8()?;
    let qos = QoS::from_bits(flags & QOS_MASK).ok_or(RecordError::Malformed)?;
    if qos == QoS::AtMostOnce || flags & !ALL_FLAGS != 0 {
        return Err(RecordError::Malformed);
    }
    let matched = if flags & (HAS_IDS | HAS_SHARE) == 0 {
        None
    } else {
        Some(Arc::new(read_match(reader, flags)?))
    };
    Ok(ReceiverTerms {
        qos,
        retain: flags & RETAIN != 0,
        matched,
        may_have_been_sent: flags & MAY_HAVE_BEEN_SENT != 0,
    })
}

fn read_match(reader: &mut Reader<'_>, flags: u8) -> Result<KeptMatch, RecordError> {
    let mut subscription_ids = Vec::new();
    if flags & HAS_IDS != 0 {
        let count = reader.varint()?;
        for _ in 0..count {
            subscription_ids.push(read_subscription_id(reader)?);
        }
        if subscription_ids.is_empty() {
            return Err(RecordError::Malformed);
        }
    }
    let share = if flags & HAS_SHARE != 0 {
        Some(Arc::new(reader.filter()?))
    } else {
        None
    };
    Ok(KeptMatch {
        subscription_ids: subscription_ids.into(),
        share,
    })
}

/// 1 to 268,435,455 [MQTT-3.8.2.1.2].
pub(super) fn read_subscription_id(reader: &mut Reader<'_>) -> Result<NonZeroU32, RecordError> {
    let id = u32::try_from(reader.varint()?).map_err(|_| RecordError::Malformed)?;
    NonZeroU32::new(id)
        .filter(|id| id.get() <= VARINT_MAX)
        .ok_or(RecordError::Malformed)
}

impl<'a> DeliveryRanges<'a> {
    /// These ranges.
    pub fn listed(ranges: &'a [DeliveryRange]) -> DeliveryRanges<'a> {
        DeliveryRanges {
            source: Source::Listed(ranges),
        }
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = DeliveryRange> + use<'a> {
        let (listed, encoded) = match self.source {
            Source::Listed(listed) => (listed, &[][..]),
            Source::Encoded(encoded) => (&[][..], encoded),
        };
        let decoded = DecodedRanges::new(encoded).map_while(Result::ok);
        listed.iter().copied().chain(decoded)
    }

    pub(super) fn decode(encoded: &'a [u8]) -> Result<DeliveryRanges<'a>, RecordError> {
        DecodedRanges::new(encoded).try_for_each(|range| range.map(drop))?;
        Ok(DeliveryRanges {
            source: Source::Encoded(encoded),
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let listed = match self.source {
            Source::Listed(listed) => listed,
            Source::Encoded(encoded) => return out.extend_from_slice(encoded),
        };
        let mut base = 0;
        for range in listed {
            assert!(range.first <= range.last, "{range:?} is empty");
            put_delta(out, base, range.first.0);
            put_varint(out, range.last.0 - range.first.0);
            base = range.last.0;
        }
    }
}

struct DecodedRanges<'a> {
    reader: Reader<'a>,
    base: u64,
}

impl<'a> DecodedRanges<'a> {
    fn new(encoded: &'a [u8]) -> DecodedRanges<'a> {
        DecodedRanges {
            reader: Reader::new(encoded),
            base: 0,
        }
    }

    fn read(&mut self) -> Result<DeliveryRange, RecordError> {
        let first = self.reader.delta(self.base)?;
        let more = self.reader.varint()?;
        self.base = first.checked_add(more).ok_or(RecordError::Malformed)?;
        Ok(DeliveryRange {
            first: DeliveryNo(first),
            last: DeliveryNo(self.base),
        })
    }
}

impl Iterator for DecodedRanges<'_> {
    type Item = Result<DeliveryRange, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        Some(self.read())
    }
}

impl PartialEq for Receivers<'_> {
    fn eq(&self, other: &Receivers<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl PartialEq for DeliveryRanges<'_> {
    fn eq(&self, other: &DeliveryRanges<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Receivers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for DeliveryRanges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

// The flags of a group.
const QOS_MASK: u8 = 0b11;
const RETAIN: u8 = 1 << 2;
const HAS_IDS: u8 = 1 << 3;
const HAS_SHARE: u8 = 1 << 4;
const MAY_HAVE_BEEN_SENT: u8 = 1 << 5;
const ALL_FLAGS: u8 = QOS_MASK | RETAIN | HAS_IDS | HAS_SHARE | MAY_HAVE_BEEN_SENT;
