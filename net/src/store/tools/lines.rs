//! The lines of an export: records in JSON. `docs/durability.md` describes them.
//!
//! Every kind of record is named in [`Exporter::line`]: a new one needs a line, or a reason why a
//! state has none.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringmq_core::codec::{Direction, PublishProperties, QoS, SubscribeOptions, Version};
use ringmq_core::home::Home;
use ringmq_core::ids::{ClientKey, DeliveryNo, PacketId, SessionNo};
use ringmq_core::session::KeptMatch;
use ringmq_core::store::{
    AuthorRecord, Receiver, ReceiverTerms, Record, SessionTerms, StoredMessage, SubscribedRecord,
};
use ringmq_core::time::Instant;
use ringmq_core::topic::{TopicFilter, TopicLimits, TopicName};
use serde::{Deserialize, Serialize};

/// A line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Header {
        format: u32,
        ringmq: String,
    },
    /// What follows up to the next one belongs to it.
    Session {
        client_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        protocol: String,
        /// None: it never ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expiry_s: Option<u32>,
    },
    Away {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since_ms: Option<u64>,
    },
    Will {
        message: Body,
        delay_s: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expiry_s: Option<u32>,
    },
    Ended,
    Subscription {
        filter: String,
        qos: u8,
        no_local: bool,
        retain_as_published: bool,
        retain_handling: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identifier: Option<NonZeroU32>,
    },
    /// The subscription with this filter is due its retained messages.
    Gather {
        filter: String,
    },
    Received {
        packet_id: u16,
    },
    Queued {
        delivery: u64,
        packet_id: u16,
        qos: u8,
        retain: bool,
        may_have_been_sent: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        identifiers: Vec<NonZeroU32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        share: Option<String>,
        /// The same number: the same message, which stands in the first of these lines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<Body>,
    },
    Release {
        delivery: u64,
        packet_id: u16,
    },
    Next {
        delivery: u64,
    },
    Retained {
        message: Body,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        author: Option<Author>,
    },
    End {
        lines: u64,
    },
}

/// A message.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    pub(super) topic: String,
    /// The payload, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<String>,
    /// Otherwise this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) properties_base64: Option<String>,
    pub(super) qos: u8,
    pub(super) retain: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at_ms: Option<u64>,
    /// The client, if it has a session; for No Local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) publisher: Option<String>,
}

/// Who published a retained message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Author {
    pub(super) client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    pub(super) had_rules: bool,
}

/// Turns records into lines.
pub(super) struct Exporter {
    publishers: HashMap<ClientKey, String>,
}

impl Exporter {
    pub(super) fn new<'a>(home: &Home, clients: impl Iterator<Item = &'a str>) -> Exporter {
        let publishers = clients.map(|id| (home.client_key(id), id.to_owned()));
        Exporter {
            publishers: publishers.collect(),
        }
    }

    /// The line of a record; `None`: it needs none, because an import gives sessions new numbers.
    pub(super) fn line(&self, record: &Record<'_>) -> Option<Line> {
        Some(match record {
            Record::Tickets { .. } | Record::Reached { .. } => return None,
            Record::Opened(opened) => session_line(opened.client_id, &opened.terms),
            Record::Away { at, .. } => Line::Away {
                since_ms: (*at != Instant::ZERO).then(|| millis(*at)),
            },
            Record::Will(will) => Line::Will {
                message: self.body(&will.message),
                delay_s: will.delay_s,
                expiry_s: will.expiry_s,
            },
            Record::Ended(_) => Line::Ended,
            Record::Subscribed(subscribed) => subscription_line(subscribed),
            Record::Gather { filter, .. } => Line::Gather {
                filter: filter.as_str().to_owned(),
            },
            Record::Received { id, .. } => Line::Received {
                packet_id: id.get(),
            },
            Record::Message(record) => {
                let receiver = record.receivers.iter().next().expect("one of a message");
                let body = record.body.map(|body| body.0);
                queued_line(receiver, body, Some(self.body(&record.message)))
            }
            Record::MoreReceivers { body, receivers } => {
                let receiver = receivers.iter().next().expect("one of a message");
                queued_line(receiver, Some(body.0), None)
            }
            Record::Phase2 { delivery, .. } => Line::Release {
                delivery: delivery.0,
                packet_id: delivery.packet_id().get(),
            },
            Record::Numbers { next_delivery, .. } => Line::Next {
                delivery: next_delivery.0,
            },
            Record::Retained(message) => Line::Retained {
                message: self.body(message),
                author: message.author.map(|author| Author {
                    client_id: author.client_id.to_owned(),
                    user: author.user.map(str::to_owned),
                    had_rules: author.had_rules,
                }),
            },
            Record::Changed(_)
            | Record::WillGone(_)
            | Record::Unsubscribed { .. }
            | Record::GatherDone { .. }
            | Record::Passed(_)
            | Record::Spread(_)
            | Record::Kept(_)
            | Record::Released { .. }
            | Record::Settled { .. }
            | Record::Unretained { .. }
            | Record::Footer(_) => unreachable!("a state has only what there is: {record:?}"),
        })
    }

    fn body(&self, message: &StoredMessage<'_>) -> Body {
        let text = std::str::from_utf8(message.payload).ok();
        let properties = message.properties;
        Body {
            topic: String::from_utf8_lossy(message.topic).into_owned(),
            payload: text.map(str::to_owned),
            payload_base64: text.is_none().then(|| STANDARD.encode(message.payload)),
            properties_base64: (!properties.is_empty()).then(|| STANDARD.encode(properties)),
            qos: message.qos as u8,
            retain: message.retain,
            expires_at_ms: message.expires_at.map(millis),
            publisher: self.publishers.get(&message.publisher).cloned(),
        }
    }
}

fn session_line(client_id: &str, terms: &SessionTerms<'_>) -> Line {
    Line::Session {
        client_id: client_id.to_owned(),
        user: terms.user.map(str::to_owned),
        protocol: match terms.version {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        }
        .to_owned(),
        expiry_s: (terms.expiry_s != u32::MAX).then_some(terms.expiry_s),
    }
}

fn subscription_line(subscribed: &SubscribedRecord) -> Line {
    let options = subscribed.options;
    Line::Subscription {
        filter: subscribed.filter.as_str().to_owned(),
        qos: options.qos as u8,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: options.retain_handling as u8,
        identifier: subscribed.subscription_id,
    }
}

fn queued_line(receiver: Receiver, body: Option<u64>, message: Option<Body>) -> Line {
    let terms = receiver.terms;
    let matched = terms.matched.as_deref();
    let share = matched.and_then(|matched| matched.share.as_deref());
    Line::Queued {
        delivery: receiver.delivery.0,
        packet_id: receiver.delivery.packet_id().get(),
        qos: terms.qos as u8,
        retain: terms.retain,
        may_have_been_sent: terms.may_have_been_sent,
        identifiers: matched.map_or(Vec::new(), |matched| matched.subscription_ids.to_vec()),
        share: share.map(|share| share.as_str().to_owned()),
        body,
        message,
    }
}

/// What a [`Body`] holds, decoded.
pub(super) struct Decoded {
    topic: String,
    payload: Vec<u8>,
    properties: Vec<u8>,
    qos: QoS,
    retain: bool,
    expires_at: Option<Instant>,
    publisher: ClientKey,
}

impl Decoded {
    pub(super) fn of(body: Body, home: &Home) -> Result<Decoded, String> {
        let limits = ANY_TOPIC;
        let topic = TopicName::parse(body.topic.as_bytes(), &limits);
        topic.map_err(|_| format!("{:?} is not a topic", body.topic))?;
        let payload = match (body.payload, body.payload_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => decode("payload_base64", &text)?,
            (Some(_), Some(_)) | (None, None) => {
                return Err("a message has either payload or payload_base64".to_owned());
            }
        };
        Ok(Decoded {
            payload,
            properties: properties(&body.properties_base64.unwrap_or_default())?,
            qos: qos(body.qos)?,
            retain: body.retain,
            expires_at: body.expires_at_ms.map(instant),
            // Nobody has the empty client identifier.
            publisher: home.client_key(body.publisher.as_deref().unwrap_or_default()),
            topic: body.topic,
        })
    }

    pub(super) fn stored<'a>(&'a self, author: Option<&'a Author>) -> StoredMessage<'a> {
        StoredMessage {
            topic: self.topic.as_bytes(),
            properties: &self.properties,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            publisher: self.publisher,
            author: author.map(|author| AuthorRecord {
                user: author.user.as_deref(),
                client_id: &author.client_id,
                had_rules: author.had_rules,
            }),
        }
    }
}

/// Of a receiver, what its line says.
pub(super) struct Terms {
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) may_have_been_sent: bool,
    pub(super) identifiers: Vec<NonZeroU32>,
    pub(super) share: Option<String>,
}

pub(super) fn receiver(no: SessionNo, delivery: u64, terms: Terms) -> Result<Receiver, String> {
    let share = terms.share.map(|text| filter(&text).map(Arc::new));
    let share = share.transpose()?;
    let qos = qos(terms.qos)?;
    let is_sound = terms
        .identifiers
        .iter()
        .all(|id| id.get() <= IDENTIFIER_MAX);
    if qos == QoS::AtMostOnce || !is_sound || delivery > DELIVERY_MAX {
        return Err("qos, delivery or identifiers are out of range".to_owned());
    }
    let has_match = share.is_some() || !terms.identifiers.is_empty();
    Ok(Receiver {
        no,
        delivery: DeliveryNo(delivery),
        terms: ReceiverTerms {
            qos,
            retain: terms.retain,
            matched: has_match.then(|| {
                Arc::new(KeptMatch {
                    subscription_ids: terms.identifiers.into(),
                    share,
                })
            }),
            may_have_been_sent: terms.may_have_been_sent,
        },
    })
}

pub(super) fn version(text: &str) -> Result<Version, String> {
    match text {
        "3.1" => Ok(Version::V31),
        "3.1.1" => Ok(Version::V311),
        "5.0" => Ok(Version::V5),
        _ => Err(format!("protocol is {text:?}, not 3.1, 3.1.1 or 5.0")),
    }
}

pub(super) fn options(
    qos_bits: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
) -> Result<SubscribeOptions, String> {
    let flags = u8::from(no_local) << 2 | u8::from(retain_as_published) << 3;
    let byte = qos(qos_bits)? as u8 | flags | retain_handling.min(3) << 4;
    let options = SubscribeOptions::from_byte(byte, Version::V5);
    options.map_err(|_| "retain_handling is 0, 1 or 2".to_owned())
}

pub(super) fn packet_id(id: u16) -> Result<PacketId, String> {
    PacketId::new(id).ok_or_else(|| "packet_id is not 0".to_owned())
}

pub(super) fn filter(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::parse(text, &ANY_TOPIC).map_err(|_| format!("{text:?} is not a topic filter"))
}

fn qos(bits: u8) -> Result<QoS, String> {
    QoS::from_bits(bits).ok_or_else(|| "qos is 0, 1 or 2".to_owned())
}

/// Those that travel with a message, checked as if a client had sent them: they leave as they are.
fn properties(text: &str) -> Result<Vec<u8>, String> {
    let section = decode("properties_base64", text)?;
    let decoded = PublishProperties::decode(&section, Direction::FromClient);
    let decoded = decoded.map_err(|error| format!("properties_base64: {error}"))?;
    if decoded.forwarded(&mut Vec::new()) != section {
        return Err(
            "properties_base64: a topic alias or expiry is not part of a message".to_owned(),
        );
    }
    Ok(section)
}

fn decode(name: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|error| format!("{name}: {error}"))
}

fn millis(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}

/// A moment of the wall clock.
pub(super) fn instant(millis: u64) -> Instant {
    Instant::from_nanos(millis.saturating_mul(1_000_000))
}

const ANY_TOPIC: TopicLimits = TopicLimits {
    size_max: u16::MAX,
    levels_max: u16::MAX,
};
/// Of MQTT.
const IDENTIFIER_MAX: u32 = 268_435_455;
/// None ever comes near it.
pub(super) const DELIVERY_MAX: u64 = 1 << 60;
/// Of exports.
pub(super) const FORMAT: u32 = 1;
