//! From what was recovered back to records: what a checkpoint of it would hold.
//!
//! Each field of what was recovered is named here once, so that none is forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::record::{
    BodyNo, MessageRecord, Opened, Receiver, ReceiverTerms, Receivers, Record, SessionTerms,
    SubscribedRecord, WillRecord,
};
use super::recovered::{
    Away, Owed, Recovered, RecoveredDelivery, RecoveredSession, RecoveredSubscription,
};
use crate::codec::{QoS, Version};
use crate::ids::{DeliveryNo, PacketId, SessionNo};
use crate::message::Message;
use crate::origin::{Origin, Partial};
use crate::session::{KeptMatch, Will};
use crate::time::Instant;

/// What had to be changed in what was recovered from damaged files before a shard can go on with
/// it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Clients with two sessions: the older one is gone.
    pub doubled: Vec<Box<str>>,
    /// Exchanges of QoS 2 that are too far from the oldest open one to be real.
    pub exchanges: u64,
}

impl Recovered {
    /// Gives records that add up to this, on the present clock: what is owed, sessions by
    /// their numbers, retained messages by topic.
    pub fn records(&self, to: &mut dyn FnMut(&Record<'_>)) {
        let Recovered {
            sessions,
            owed,
            retained,
            origins,
            bodies: _,
            authors: _,
        } = self;
        assert!(origins.is_empty(), "partial messages are known");
        let mut bodies = Bodies::default();
        for (&no, owed) in owed {
            owed_records(no, owed, &mut bodies, to);
        }
        let mut numbers: Vec<SessionNo> = sessions.keys().copied().collect();
        numbers.sort_unstable();
        for no in numbers {
            session_records(no, &sessions[&no], &mut bodies, to);
        }
        let mut messages: Vec<&Arc<Message>> = retained.iter().collect();
        messages.sort_unstable_by(|a, b| a.topic().cmp(b.topic()));
        for message in messages {
            to(&Record::Retained(message.parts().into()));
        }
    }

    /// Makes something of it that holds together, though records are missing.
    pub fn mend(&mut self) -> Mended {
        self.tell_partials();
        let mut mended = Mended::default();
        for no in self.older_sessions() {
            let session = self.sessions.remove(&no).expect("it was just seen");
            mended.doubled.push(session.client_id);
        }
        mended.doubled.sort_unstable();
        for session in self.sessions.values_mut() {
            mended.exchanges += mend_session(session);
        }
        mended
    }

    /// All but the newest session of each client.
    fn older_sessions(&self) -> BTreeSet<SessionNo> {
        let mut newest: HashMap<&str, SessionNo, FixedState> = HashMap::default();
        let mut older = BTreeSet::new();
        for (&no, session) in &self.sessions {
            let known = newest.entry(&session.client_id).or_insert(no);
            if *known != no {
                older.insert(no.min(*known));
                *known = no.max(*known);
            }
        }
        older
    }
}

/// Gives how many exchanges it had to drop.
fn mend_session(session: &mut RecoveredSession) -> u64 {
    let Some((&oldest, _)) = session.deliveries.first_key_value() else {
        return 0;
    };
    let is_pubrel = |delivery: &RecoveredDelivery| matches!(delivery, RecoveredDelivery::Pubrel);
    let before = session.deliveries.len();
    session
        .deliveries
        .retain(|no, delivery| !is_pubrel(delivery) || no.0 - oldest.0 < IDENTIFIERS);
    let dropped = before - session.deliveries.len();
    let behind = |no: &DeliveryNo| DeliveryNo(no.0.saturating_add(1));
    // What is sent is sent in order.
    let mut released = session.deliveries.iter().rev();
    if let Some((no, _)) = released.find(|(_, delivery)| is_pubrel(delivery)) {
        session.sent_below = session.sent_below.max(behind(no));
    }
    if let Some((last, _)) = session.deliveries.last_key_value() {
        session.next_delivery = session.next_delivery.max(behind(last));
    }
    dropped as u64
}

/// Messages with several owners, by address: all of them live as long as what was recovered.
type Bodies = HashMap<*const Message, BodyNo, FixedState>;

fn owed_records(no: SessionNo, owed: &Owed, bodies: &mut Bodies, to: &mut dyn FnMut(&Record<'_>)) {
    let Owed {
        client_id,
        user,
        will,
        shared,
    } = owed;
    // Of the session nothing else is known, or needed.
    let terms = SessionTerms {
        user: user.as_deref(),
        version: Version::V5,
        expiry_s: 1,
    };
    to(&Record::Opened(Opened {
        no,
        client_id,
        terms,
    }));
    if let Some(will) = will {
        to(&will_record(no, will));
    }
    for (&delivery, left) in shared {
        // Had QoS 2 been sent, nobody else would be to get it.
        delivery_record(no, delivery, left, false, bodies, to);
    }
    to(&Record::Ended(no));
}

fn session_records(
    no: SessionNo,
    session: &RecoveredSession,
    bodies: &mut Bodies,
    to: &mut dyn FnMut(&Record<'_>),
) {
    let RecoveredSession {
        client_id,
        user,
        version,
        expiry_s,
        away,
        subscriptions,
        deliveries,
        next_delivery,
        sent_below,
        receipts,
        partials,
        next_ticket,
        complete_below: _,
        spread: _,
        will,
    } = session;
    let terms = SessionTerms {
        user: user.as_deref(),
        version: *version,
        expiry_s: *expiry_s,
    };
    to(&Record::Opened(Opened {
        no,
        client_id,
        terms,
    }));
    if let Some(will) = will {
        to(&will_record(no, will));
    }
    if let Some(away) = away {
        let at = away.since().unwrap_or(Instant::ZERO);
        to(&Record::Away { no, at });
    }
    let mut sorted: Vec<_> = subscriptions.iter().collect();
    sorted.sort_unstable_by_key(|(filter, _)| filter.as_str());
    for (filter, subscription) in sorted {
        let RecoveredSubscription {
            options,
            subscription_id,
            is_gathering,
        } = *subscription;
        to(&Record::Subscribed(SubscribedRecord {
            no,
            filter: filter.clone(),
            options,
            subscription_id,
        }));
        if is_gathering {
            let filter = filter.clone();
            to(&Record::Gather { no, filter });
        }
    }
    for &id in receipts {
        to(&Record::Received { no, id });
    }
    let listed = partials.iter().map(|(&id, partial)| (id, partial));
    ticket_records(no, *next_ticket, listed, to);
    for (&delivery, left) in deliveries {
        delivery_record(no, delivery, left, delivery < *sent_below, bodies, to);
    }
    let next_delivery = *next_delivery;
    to(&Record::Numbers { no, next_delivery });
}

/// Of the QoS 2 messages of a session, which not all have. What is not named is complete.
pub(crate) fn ticket_records<'a>(
    no: SessionNo,
    next: u64,
    partials: impl Iterator<Item = (PacketId, &'a Partial)>,
    to: &mut dyn FnMut(&Record<'_>),
) {
    if next == 0 {
        return;
    }
    to(&Record::Tickets { no, next });
    for (id, partial) in partials {
        let Partial { ticket, reached } = partial;
        let receiver = |no, matched| Receiver {
            no,
            delivery: DeliveryNo(0),
            terms: ReceiverTerms {
                qos: QoS::ExactlyOnce,
                retain: false,
                matched,
                may_have_been_sent: false,
            },
        };
        let sessions = reached.sessions.iter().map(|no| receiver(*no, None));
        let groups = reached.groups.iter().map(|filter| {
            let matched = KeptMatch {
                subscription_ids: [].into(),
                share: Some(Arc::clone(filter)),
            };
            receiver(no, Some(Arc::new(matched)))
        });
        let receivers: Vec<Receiver> = sessions.chain(groups).collect();
        let ticket = *ticket;
        to(&Record::Reached {
            origin: Origin { no, id, ticket },
            receivers: Receivers::listed(&receivers),
        });
    }
}

fn delivery_record(
    no: SessionNo,
    delivery: DeliveryNo,
    left: &RecoveredDelivery,
    is_sent: bool,
    bodies: &mut Bodies,
    to: &mut dyn FnMut(&Record<'_>),
) {
    let (message, terms) = match left {
        RecoveredDelivery::Pubrel => return to(&Record::Phase2 { no, delivery }),
        RecoveredDelivery::Message {
            message,
            qos,
            retain,
            matched,
            may_have_been_sent,
        } => {
            let terms = ReceiverTerms {
                qos: *qos,
                retain: *retain,
                matched: matched.clone(),
                may_have_been_sent: is_sent || *may_have_been_sent,
            };
            (message, terms)
        }
    };
    let receivers = [Receiver {
        no,
        delivery,
        terms,
    }];
    let receivers = Receivers::listed(&receivers);
    if let Some(&body) = bodies.get(&Arc::as_ptr(message)) {
        return to(&Record::MoreReceivers { body, receivers });
    }
    let body = (Arc::strong_count(message) > 1).then(|| {
        let body = BodyNo(bodies.len() as u64);
        bodies.insert(Arc::as_ptr(message), body);
        body
    });
    to(&Record::Message(MessageRecord {
        message: message.parts().into(),
        body,
        origin: None,
        receivers,
    }));
}

fn will_record(no: SessionNo, will: &Will) -> Record<'_> {
    let Will {
        message,
        expiry_s,
        delay,
    } = will;
    Record::Will(WillRecord {
        no,
        message: message.parts().into(),
        expiry_s: *expiry_s,
        delay_s: u32::try_from(delay.as_secs()).expect("it was recorded in seconds"),
    })
}

impl Away {
    /// Since when, on the present clock; `None`: that is not known, and nothing depends on it.
    pub fn since(self) -> Option<Instant> {
        (self.at != Instant::ZERO).then(|| self.shift.apply(self.at))
    }
}

/// Packet identifiers: so far apart two open deliveries may be.
const IDENTIFIERS: u64 = 65_535;

#[cfg(test)]
mod tests {
    use super::super::record::{DeliveryRange, DeliveryRanges};
    use super::super::testing::{self, IN_CHECKPOINT, IN_LOG};
    use super::*;
    use crate::ids::PacketId;
    use crate::session;

    /// Adds up random records about few sessions, as damage may leave them.
    fn some(rng: &mut fastrand::Rng) -> Recovered {
        let mut recovered = Recovered::new([1, 2]);
        for _ in 0..rng.usize(..200) {
            let source = if rng.u8(..4) == 0 {
                IN_CHECKPOINT
            } else {
                IN_LOG
            };
            let no = SessionNo(rng.u64(..5));
            testing::with_record(rng, |record| {
                recovered.apply(testing::about(record, no), source);
            });
            if rng.bool() {
                let receivers = testing::receivers_of(rng, 5, 300);
                testing::with_message(rng, Receivers::listed(&receivers), |record| {
                    recovered.apply(record, source);
                });
            }
        }
        recovered.end_checkpoint();
        recovered
    }

    fn encoded(recovered: &Recovered) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        recovered.records(&mut |record| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            all.push(bytes);
        });
        all
    }

    #[test]
    fn records_of_what_was_recovered_add_up_to_the_same() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut sessions = 0;
        for _ in 0..2_000 {
            let mut recovered = some(&mut rng);
            recovered.mend();
            recovered.check().unwrap();
            let records = encoded(&recovered);
            let mut again = Recovered::new([1, 2]);
            for mut bytes in records.iter().map(Vec::as_slice) {
                again.apply(Record::decode(&mut bytes).unwrap(), IN_CHECKPOINT);
            }
            again.end_checkpoint();
            again.tell_partials();
            assert!(encoded(&again) == records);
            assert_eq!(again.mend(), Mended::default(), "it holds together");
            sessions += again.sessions.len();
        }
        assert!(sessions > 1_000, "{sessions} sessions are too few to tell");
    }

    #[test]
    fn a_mended_session_can_be_restored() {
        let no = SessionNo(1);
        let mut recovered = Recovered::new([1, 2]);
        let mut rng = fastrand::Rng::with_seed(5);
        let terms = SessionTerms {
            user: None,
            version: Version::V5,
            expiry_s: 9,
        };
        for (no, client_id) in [(1, "a"), (2, "b"), (7, "a")] {
            let no = SessionNo(no);
            let opened = Opened {
                no,
                client_id,
                terms,
            };
            recovered.apply(Record::Opened(opened), IN_LOG);
        }
        assert_eq!(*recovered.mend().doubled, [Box::from("a")]);
        assert!(recovered.sessions.contains_key(&SessionNo(7)));
        for _ in 0..500 {
            for _ in 0..20 {
                let delivery = DeliveryNo(rng.u64(..200) << rng.u8(..12));
                let (no, id) = (SessionNo(2), PacketId::new(1).unwrap());
                let ranges = [DeliveryRange {
                    first: delivery,
                    last: DeliveryNo(delivery.0 + rng.u64(..90)),
                }];
                let ranges = DeliveryRanges::listed(&ranges);
                recovered.apply(
                    match rng.u8(..4) {
                        0 => Record::Phase2 { no, delivery },
                        1 => Record::Settled { no, ranges },
                        2 => Record::Received { no, id },
                        _ => Record::Changed(super::super::record::Changed { no, terms }),
                    },
                    IN_LOG,
                );
            }
            recovered.mend();
            let session = &recovered.sessions[&SessionNo(2)];
            let deliveries = session.deliveries.keys();
            let deliveries = deliveries.map(|no| (*no, session::Unsettled::Released));
            // It asserts what it takes for granted.
            session::restore(deliveries, session.next_delivery);
        }
        assert!(!recovered.sessions.contains_key(&no));
    }
}
