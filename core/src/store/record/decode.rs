//! Bytes to records.

use super::fields::{ANY_SIZE, Reader};
use super::receivers::read_subscription_id;
use super::{
    AuthorRecord, BodyNo, Changed, DeliveryRanges, Footer, Kind, MessageRecord, Opened, Receivers,
    Record, RecordError, SessionTerms, StoredMessage, SubscribedRecord, WillRecord, flags, parts,
};
use crate::codec::{QoS, SubscribeOptions, Version};
use crate::ids::{ClientKey, DeliveryNo, PacketId, SessionNo};
use crate::origin::Origin;
use crate::time::Instant;
use crate::topic::TopicName;

impl<'a> Record<'a> {
    /// Takes a record off the front of `bytes`, which are not empty.
    pub fn decode(bytes: &mut &'a [u8]) -> Result<Record<'a>, RecordError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let fields = reader.bytes()?;
        let record = read_fields(Kind::from_byte(kind)?, Reader::new(fields))?;
        *bytes = reader.rest();
        Ok(record)
    }
}

fn read_fields(kind: Kind, mut reader: Reader<'_>) -> Result<Record<'_>, RecordError> {
    let record = match kind {
        Kind::Message => return read_message_record(reader),
        Kind::MoreReceivers => return read_more_receivers(reader),
        Kind::Settled => return read_settled(reader),
        Kind::Reached => return read_reached(reader),
        Kind::Spread => Record::Spread(read_origin(&mut reader)?),
        Kind::Kept => Record::Kept(read_origin(&mut reader)?),
        Kind::Tickets => Record::Tickets {
            no: read_no(&mut reader)?,
            next: reader.varint()?,
        },
        Kind::Opened => Record::Opened(Opened {
            no: read_no(&mut reader)?,
            client_id: reader.text()?,
            terms: read_terms(&mut reader)?,
        }),
        Kind::Changed => Record::Changed(Changed {
            no: read_no(&mut reader)?,
            terms: read_terms(&mut reader)?,
        }),
        Kind::Ended => Record::Ended(read_no(&mut reader)?),
        Kind::Away => Record::Away {
            no: read_no(&mut reader)?,
            at: Instant::from_nanos(reader.varint()?),
        },
        Kind::Will => Record::Will(read_will(&mut reader)?),
        Kind::WillGone => Record::WillGone(read_no(&mut reader)?),
        Kind::Subscribed => Record::Subscribed(read_subscribed(&mut reader)?),
        Kind::Unsubscribed => Record::Unsubscribed {
            no: read_no(&mut reader)?,
            filter: reader.filter()?,
        },
        Kind::Gather => Record::Gather {
            no: read_no(&mut reader)?,
            filter: reader.filter()?,
        },
        Kind::GatherDone => Record::GatherDone {
            no: read_no(&mut reader)?,
            filter: reader.filter()?,
        },
        Kind::Passed => Record::Passed(read_no(&mut reader)?),
        Kind::Received => Record::Received {
            no: read_no(&mut reader)?,
            id: read_packet_id(&mut reader)?,
        },
        Kind::Released => Record::Released {
            no: read_no(&mut reader)?,
            id: read_packet_id(&mut reader)?,
        },
        Kind::Phase2 => Record::Phase2 {
            no: read_no(&mut reader)?,
            delivery: DeliveryNo(reader.varint()?),
        },
        Kind::Retained => Record::Retained(read_message(&mut reader)?),
        Kind::Unretained => Record::Unretained {
            topic: read_topic(&mut reader)?,
        },
        Kind::Numbers => Record::Numbers {
            no: read_no(&mut reader)?,
            next_delivery: DeliveryNo(reader.varint()?),
        },
        Kind::Footer => Record::Footer(Footer {
            records: reader.varint()?,
        }),
    };
    reader.end()?;
    Ok(record)
}

fn read_message_record(mut reader: Reader<'_>) -> Result<Record<'_>, RecordError> {
    let message = read_message(&mut reader)?;
    let present = reader.u8()?;
    if present & !(parts::BODY | parts::ORIGIN) != 0 {
        return Err(RecordError::Malformed);
    }
    let body = match present & parts::BODY {
        0 => None,
        _ => Some(BodyNo(reader.varint()?)),
    };
    let origin = match present & parts::ORIGIN {
        0 => None,
        _ => Some(read_origin(&mut reader)?),
    };
    Ok(Record::Message(MessageRecord {
        message,
        origin,
        body,
        receivers: Receivers::decode(reader.rest())?,
    }))
}

fn read_more_receivers(mut reader: Reader<'_>) -> Result<Record<'_>, RecordError> {
    Ok(Record::MoreReceivers {
        body: BodyNo(reader.varint()?),
        receivers: Receivers::decode(reader.rest())?,
    })
}

fn read_settled(mut reader: Reader<'_>) -> Result<Record<'_>, RecordError> {
    Ok(Record::Settled {
        no: read_no(&mut reader)?,
        ranges: DeliveryRanges::decode(reader.rest())?,
    })
}

fn read_reached(mut reader: Reader<'_>) -> Result<Record<'_>, RecordError> {
    Ok(Record::Reached {
        origin: read_origin(&mut reader)?,
        receivers: Receivers::decode(reader.rest())?,
    })
}

#[inline]
fn read_message<'a>(reader: &mut Reader<'a>) -> Result<StoredMessage<'a>, RecordError> {
    let flags = reader.u8()?;
    if flags & !flags::ALL != 0 {
        return Err(RecordError::Malformed);
    }
    let publisher = ClientKey(reader.u64()?);
    let expires_at = match flags & flags::EXPIRES {
        0 => None,
        _ => Some(Instant::from_nanos(reader.varint()?)),
    };
    let author = match flags & flags::HAS_AUTHOR {
        0 => None,
        _ => Some(AuthorRecord {
            user: read_optional_text(reader)?,
            client_id: reader.text()?,
            had_rules: reader.flag()?,
        }),
    };
    let topic = read_topic(reader)?;
    let properties = reader.bytes()?;
    if u32::try_from(properties.len()).is_err() {
        return Err(RecordError::Malformed);
    }
    Ok(StoredMessage {
        topic,
        properties,
        payload: reader.bytes()?,
        qos: QoS::from_bits(flags & flags::QOS_MASK).ok_or(RecordError::Malformed)?,
        retain: flags & flags::RETAIN != 0,
        expires_at,
        publisher,
        author,
    })
}

#[inline]
fn read_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], RecordError> {
    let topic = TopicName::parse(reader.bytes()?, &ANY_SIZE);
    Ok(topic.map_err(|_| RecordError::Malformed)?.as_bytes())
}

fn read_will<'a>(reader: &mut Reader<'a>) -> Result<WillRecord<'a>, RecordError> {
    let no = read_no(reader)?;
    let delay_s = read_u32(reader)?;
    let expiry_s = match reader.flag()? {
        true => Some(read_u32(reader)?),
        false => None,
    };
    Ok(WillRecord {
        no,
        message: read_message(reader)?,
        expiry_s,
        delay_s,
    })
}

fn read_subscribed(reader: &mut Reader<'_>) -> Result<SubscribedRecord, RecordError> {
    let no = read_no(reader)?;
    let filter = reader.filter()?;
    let options = SubscribeOptions::from_byte(reader.u8()?, Version::V5);
    let options = options.map_err(|_| RecordError::Malformed)?;
    let subscription_id = if reader.rest().first() == Some(&0) {
        reader.u8()?;
        None
    } else {
        Some(read_subscription_id(reader)?)
    };
    Ok(SubscribedRecord {
        no,
        filter,
        options,
        subscription_id,
    })
}

fn read_terms<'a>(reader: &mut Reader<'a>) -> Result<SessionTerms<'a>, RecordError> {
    let version = match reader.u8()? {
        3 => Version::V31,
        4 => Version::V311,
        5 => Version::V5,
        _ => return Err(RecordError::Malformed),
    };
    let expiry_s = read_u32(reader)?;
    if expiry_s == 0 {
        return Err(RecordError::Malformed);
    }
    Ok(SessionTerms {
        user: read_optional_text(reader)?,
        version,
        expiry_s,
    })
}

fn read_origin(reader: &mut Reader<'_>) -> Result<Origin, RecordError> {
    Ok(Origin {
        no: read_no(reader)?,
        id: read_packet_id(reader)?,
        ticket: reader.varint()?,
    })
}

fn read_no(reader: &mut Reader<'_>) -> Result<SessionNo, RecordError> {
    reader.varint().map(SessionNo)
}

fn read_packet_id(reader: &mut Reader<'_>) -> Result<PacketId, RecordError> {
    let id = u16::try_from(reader.varint()?).map_err(|_| RecordError::Malformed)?;
    PacketId::new(id).ok_or(RecordError::Malformed)
}

fn read_u32(reader: &mut Reader<'_>) -> Result<u32, RecordError> {
    u32::try_from(reader.varint()?).map_err(|_| RecordError::Malformed)
}

fn read_optional_text<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, RecordError> {
    match reader.flag()? {
        true => reader.text().map(Some),
        false => Ok(None),
    }
}
