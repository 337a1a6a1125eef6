//! What records add up to, and that a checkpoint and the log behind it say what the whole log says.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;

use crate::codec::{QoS, SubscribeOptions, Version};
use crate::home::Home;
use crate::ids::{ClientKey, DeliveryNo, PacketId, SessionNo, ShardId};
use crate::origin::Origin;
use crate::store::testing::{IN_CHECKPOINT, IN_LOG, LIMITS};
use crate::store::*;
use crate::time::Instant;
use crate::topic::TopicFilter;

const TERMS: SessionTerms<'_> = SessionTerms {
    user: Some("u"),
    version: Version::V5,
    expiry_s: 60,
};

fn message(payload: &[u8]) -> StoredMessage<'_> {
    StoredMessage {
        topic: b"t",
        properties: b"",
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at: None,
        publisher: ClientKey(1),
        author: None,
    }
}

fn receiver(no: SessionNo, delivery: u64) -> Receiver {
    Receiver {
        no,
        delivery: DeliveryNo(delivery),
        terms: ReceiverTerms {
            qos: QoS::AtLeastOnce,
            retain: false,
            matched: None,
            may_have_been_sent: false,
        },
    }
}

fn opened(no: SessionNo, client_id: &str) -> Record<'_> {
    Record::Opened(Opened {
        no,
        client_id,
        terms: TERMS,
    })
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, &LIMITS).unwrap()
}

/// Everything but owed wills, in an order of its own.
fn told(recovered: &Recovered) -> Vec<String> {
    let session = |(no, session): (&SessionNo, &RecoveredSession)| {
        let subscriptions: BTreeMap<&str, _> = session
            .subscriptions
            .iter()
            .map(|(filter, one)| (filter.as_str(), one))
            .collect();
        let RecoveredSession {
            client_id,
            user,
            version,
            expiry_s,
            away,
            subscriptions: _,
            deliveries,
            next_delivery,
            sent_below: _,
            receipts,
            will,
            ..
        } = session;
        format!(
            "{no:?} {client_id} {user:?} {version:?} {expiry_s} {away:?} {subscriptions:?} \
             {deliveries:?} {next_delivery:?} {receipts:?} {will:?}"
        )
    };
    let sessions = recovered.sessions.iter().map(session);
    let retained = recovered
        .retained
        .iter()
        .map(|message| format!("{message:?}"));
    let mut told: Vec<String> = sessions.chain(retained).collect();
    told.sort();
    told
}

/// A shard that records what happens.
struct Shard {
    live: Recovered,
    log: Vec<Vec<u8>>,
    next_no: u64,
    next_body: u64,
}

impl Shard {
    fn record(&mut self, record: Record<'_>) {
        self.log.push(encoded(&record));
        self.live.apply(record, IN_LOG);
    }

    fn any_session(&self, rng: &mut Rng) -> Option<SessionNo> {
        let mut numbers: Vec<SessionNo> = self.live.sessions.keys().copied().collect();
        numbers.sort();
        rng.choice(numbers)
    }

    fn step(&mut self, rng: &mut Rng) {
        let body = self.next_body.to_string();
        self.next_body += 1;
        match rng.u8(..20) {
            0..=1 => return self.connect(rng),
            2..=6 => return self.publish(rng, &body),
            7 => {
                let topic = [b"a", b"b", b"c"][rng.usize(..3)];
                let retained = StoredMessage {
                    topic,
                    ..message(body.as_bytes())
                };
                return self.record(match rng.u8(..3) {
                    0 => Record::Unretained { topic },
                    _ => Record::Retained(retained),
                });
            }
            _ => {}
        }
        let Some(no) = self.any_session(rng) else {
            return;
        };
        let id = PacketId::new(rng.u16(1..3)).unwrap();
        let subscribed = SubscribedRecord {
            no,
            filter: filter(["x", "y/+", "#"][rng.usize(..3)]),
            options: SubscribeOptions::with_qos(QoS::from_bits(rng.u8(..3)).unwrap()),
            subscription_id: NonZeroU32::new(rng.u32(..3)),
        };
        let open = self.live.sessions[&no]
            .deliveries
            .keys()
            .copied()
            .collect::<Vec<_>>();
        let will = WillRecord {
            no,
            message: message(body.as_bytes()),
            expiry_s: None,
            delay_s: 3,
        };
        let expiry_s = rng.u32(1..);
        self.record(match (rng.u8(..12), rng.choice(open)) {
            (0, _) => Record::Ended(no),
            (1, _) => Record::Changed(Changed {
                no,
                terms: SessionTerms { expiry_s, ..TERMS },
            }),
            (2, _) => Record::Away {
                no,
                at: Instant::from_nanos(self.next_body),
            },
            (3, _) => Record::Will(will),
            (4, _) => Record::WillGone(no),
            (5, _) => Record::Subscribed(subscribed),
            (6, _) => Record::Unsubscribed {
                no,
                filter: subscribed.filter,
            },
            (7, _) => Record::Received { no, id },
            (8, _) => Record::Released { no, id },
            (9, Some(delivery)) => Record::Phase2 { no, delivery },
            (_, Some(first)) => {
                let taken = self.live.sessions[&no].next_delivery;
                let last = DeliveryNo((first.0 + rng.u64(..2)).min(taken.0 - 1));
                let ranges = [DeliveryRange { first, last }];
                return self.record(Record::Settled {
                    no,
                    ranges: DeliveryRanges::listed(&ranges),
                });
            }
            (_, None) => return,
        });
    }

    /// Ends what the client had, and begins anew.
    fn connect(&mut self, rng: &mut Rng) {
        let client_id = ["a", "b", "c"][rng.usize(..3)];
        let had = self
            .live
            .sessions
            .iter()
            .find(|(_, session)| *session.client_id == *client_id);
        if let Some(no) = had.map(|(no, _)| *no) {
            self.record(Record::Ended(no));
        }
        self.next_no += 1;
        self.record(opened(SessionNo(self.next_no), client_id));
    }

    fn publish(&mut self, rng: &mut Rng, body: &str) {
        let mut receivers = Vec::new();
        for (no, session) in &self.live.sessions {
            if rng.u8(..3) > 0 {
                receivers.push(receiver(*no, session.next_delivery.0));
            }
        }
        self.record(Record::Message(MessageRecord {
            message: message(body.as_bytes()),
            origin: None,
            body: None,
            receivers: Receivers::listed(&receivers),
        }));
    }
}

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

/// A checkpoint that is written in slices, between which the shard goes on.
struct Checkpoint {
    /// Records of the log before it began.
    from: usize,
    records: Vec<Vec<u8>>,
    /// The session that comes next, and from which of its deliveries.
    at: Option<(SessionNo, DeliveryNo)>,
    bodies: BTreeSet<Vec<u8>>,
}

impl Checkpoint {
    fn push(&mut self, record: &Record<'_>) {
        self.records.push(encoded(record));
    }

    /// Writes two deliveries of a session, or all retained messages. False: that was all.
    fn write_slice(&mut self, live: &Recovered) -> bool {
        let Some((at, from)) = self.at else {
            return false;
        };
        let next = live.sessions.keys().copied().filter(|no| *no >= at).min();
        let Some(no) = next else {
            for message in live.retained.iter() {
                self.push(&Record::Retained(message.parts().into()));
            }
            self.at = None;
            return true;
        };
        let from = if no == at { from } else { DeliveryNo(0) };
        let session = &live.sessions[&no];
        if from == DeliveryNo(0) {
            self.write_session(no, session);
        }
        let part: Vec<_> = session.deliveries.range(from..).take(2).collect();
        for (delivery, what) in &part {
            self.write_delivery(no, **delivery, what);
        }
        let upto = match part.last() {
            Some((last, _)) if part.len() == 2 => DeliveryNo(last.0 + 1),
            Some(_) | None => session.next_delivery,
        };
        self.push(&Record::Numbers {
            no,
            next_delivery: upto,
        });
        self.at = Some(match part.len() {
            2 => (no, upto),
            _ => (SessionNo(no.0 + 1), DeliveryNo(0)),
        });
        true
    }

    fn write_session(&mut self, no: SessionNo, session: &RecoveredSession) {
        let terms = SessionTerms {
            user: session.user.as_deref(),
            version: session.version,
            expiry_s: session.expiry_s,
        };
        self.push(&Record::Opened(Opened {
            no,
            client_id: &session.client_id,
            terms,
        }));
        if let Some(will) = &session.will {
            self.push(&Record::Will(WillRecord {
                no,
                message: will.message.parts().into(),
                expiry_s: will.expiry_s,
                delay_s: will.delay.as_secs() as u32,
            }));
        }
        if let Some(away) = session.away {
            self.push(&Record::Away { no, at: away.at });
        }
        for (filter, subscription) in &session.subscriptions {
            self.push(&Record::Subscribed(SubscribedRecord {
                no,
                filter: filter.clone(),
                options: subscription.options,
                subscription_id: subscription.subscription_id,
            }));
        }
        for id in &session.receipts {
            self.push(&Record::Received { no, id: *id });
        }
    }

    /// A body that several sessions have is written once.
    fn write_delivery(&mut self, no: SessionNo, delivery: DeliveryNo, what: &RecoveredDelivery) {
        let message = match what {
            RecoveredDelivery::Pubrel => return self.push(&Record::Phase2 { no, delivery }),
            RecoveredDelivery::Message { message, .. } => message,
        };
        let name = message.parts().payload;
        let body = BodyNo(std::str::from_utf8(name).unwrap().parse().unwrap());
        let receivers = [receiver(no, delivery.0)];
        let receivers = Receivers::listed(&receivers);
        if self.bodies.insert(name.to_vec()) {
            self.push(&Record::Message(MessageRecord {
                message: message.parts().into(),
                origin: None,
                body: Some(body),
                receivers,
            }));
        } else {
            self.push(&Record::MoreReceivers { body, receivers });
        }
    }
}

fn recover(checkpoint: &[Vec<u8>], log: &[Vec<u8>]) -> Recovered {
    let mut recovered = Recovered::new([1, 2]);
    for bytes in checkpoint {
        recovered.apply(Record::decode(&mut &bytes[..]).unwrap(), IN_CHECKPOINT);
    }
    recovered.end_checkpoint();
    for bytes in log {
        recovered.apply(Record::decode(&mut &bytes[..]).unwrap(), IN_LOG);
    }
    recovered
}

#[test]
fn a_checkpoint_and_the_log_behind_it_say_what_the_whole_log_says() {
    let mut compared = 0;
    for seed in 0..1_500 {
        let mut rng = Rng::with_seed(seed);
        let mut shard = Shard {
            live: Recovered::new([1, 2]),
            log: Vec::new(),
            next_no: 0,
            next_body: 0,
        };
        for _ in 0..rng.usize(..60) {
            shard.step(&mut rng);
        }
        let mut checkpoint = Checkpoint {
            from: shard.log.len(),
            records: Vec::new(),
            at: Some((SessionNo(0), DeliveryNo(0))),
            bodies: BTreeSet::new(),
        };
        while checkpoint.write_slice(&shard.live) {
            for _ in 0..rng.usize(..6) {
                shard.step(&mut rng);
            }
        }
        // The footer is written when the log is durable up to here.
        let durable = shard.log.len();
        for _ in 0..30 {
            shard.step(&mut rng);
        }
        let end = rng.usize(durable..=shard.log.len());
        let whole = recover(&[], &shard.log[..end]);
        let both = recover(&checkpoint.records, &shard.log[checkpoint.from..end]);
        assert_eq!(told(&both), told(&whole), "seed {seed}");
        assert!(
            both.owed.keys().all(|no| whole.owed.contains_key(no)),
            "seed {seed}"
        );
        assert_eq!(both.check(), Ok(()));
        compared += whole
            .sessions
            .values()
            .map(|session| session.deliveries.len())
            .sum::<usize>();
    }
    assert!(compared > 3_000, "{compared} deliveries");
}

#[test]
fn a_message_for_many_is_in_memory_once() {
    let mut recovered = Recovered::new([1, 2]);
    let numbers: Vec<SessionNo> = (0..100).map(SessionNo).collect();
    let clients: Vec<String> = (0..100).map(|index| format!("c{index}")).collect();
    for (no, client_id) in numbers.iter().zip(&clients) {
        recovered.apply(opened(*no, client_id), IN_LOG);
    }
    let receivers: Vec<Receiver> = numbers.iter().map(|no| receiver(*no, 0)).collect();
    let record = Record::Message(MessageRecord {
        message: message(b"x"),
        origin: None,
        body: None,
        receivers: Receivers::listed(&receivers),
    });
    recovered.apply(record, IN_LOG);
    let mut messages =
        recovered
            .sessions
            .values()
            .map(|session| match &session.deliveries[&DeliveryNo(0)] {
                RecoveredDelivery::Message { message, .. } => message,
                RecoveredDelivery::Pubrel => panic!("a message"),
            });
    let first = messages.next().unwrap();
    assert!(messages.all(|message| std::sync::Arc::ptr_eq(message, first)));
    assert_eq!(std::sync::Arc::strong_count(first), 100);
}

// That it was settled may be lost: it was recorded lazily.
#[test]
fn a_delivery_that_the_checkpoint_covers_is_not_taken_again() {
    let mut recovered = Recovered::new([1, 2]);
    let no = SessionNo(1);
    let took = |recovered: &mut Recovered, delivery| {
        let receivers = [receiver(no, delivery)];
        let record = Record::Message(MessageRecord {
            message: message(b"x"),
            origin: None,
            body: None,
            receivers: Receivers::listed(&receivers),
        });
        recovered.apply(record, IN_LOG);
    };
    recovered.apply(opened(no, "c"), IN_CHECKPOINT);
    let next_delivery = DeliveryNo(5);
    recovered.apply(Record::Numbers { no, next_delivery }, IN_CHECKPOINT);
    for delivery in 3..7 {
        took(&mut recovered, delivery);
    }
    let session = &recovered.sessions[&no];
    let taken: Vec<u64> = session.deliveries.keys().map(|one| one.0).collect();
    assert_eq!((taken, session.next_delivery), (vec![5, 6], DeliveryNo(7)));
}

#[test]
fn what_names_something_that_is_not_there_changes_nothing() {
    let mut recovered = Recovered::new([1, 2]);
    let mut rng = Rng::with_seed(5);
    let mut sessions = 0;
    for _ in 0..5_000 {
        crate::store::testing::with_record(&mut rng, |record| {
            if !matches!(record, Record::Opened(_)) {
                recovered.apply(
                    record,
                    if sessions % 2 == 0 {
                        IN_LOG
                    } else {
                        IN_CHECKPOINT
                    },
                );
                sessions += 1;
            }
        });
    }
    assert!(recovered.sessions.is_empty() && recovered.owed.is_empty());
    assert!(!recovered.retained.is_empty());
}

#[test]
fn the_will_of_a_session_that_ended_is_owed_until_it_is_gone() {
    let mut recovered = Recovered::new([1, 2]);
    let (one, two) = (SessionNo(1), SessionNo(2));
    for (no, client_id) in [(one, "one"), (two, "two")] {
        recovered.apply(opened(no, client_id), IN_LOG);
        let will = WillRecord {
            no,
            message: message(b"w"),
            expiry_s: Some(4),
            delay_s: 3,
        };
        recovered.apply(Record::Will(will), IN_LOG);
    }
    recovered.apply(Record::WillGone(one), IN_LOG);
    recovered.apply(Record::Ended(one), IN_LOG);
    recovered.apply(Record::Ended(two), IN_LOG);
    assert_eq!(recovered.owed.keys().copied().collect::<Vec<_>>(), [two]);
    let owed = &recovered.owed[&two];
    let will = owed.will.as_ref().expect("it has one");
    assert_eq!((&*owed.client_id, will.expiry_s), ("two", Some(4)));
    recovered.apply(Record::WillGone(two), IN_LOG);
    assert!(recovered.owed.is_empty());
}

#[test]
fn deadlines_are_on_the_present_clock_even_if_it_began_since() {
    let clocks = |boot_s: u64, wall_s: u64| Clocks {
        boot: Instant::from_nanos(boot_s * 1_000_000_000),
        wall_ns: wall_s * 1_000_000_000,
    };
    let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
    for (last, now, is_same_boot, away_at, expires_at) in [
        // The broker was started again.
        (clocks(100, 9_000), clocks(130, 5), true, 90, 150),
        // The machine was, within 20 s; the session was away for 10 s by then.
        (clocks(100, 9_000), clocks(15, 9_020), false, 90, 45),
        // The session was away for longer than the machine has been up; and was over before that.
        (clocks(1_000, 9_000), clocks(5, 9_010), false, 980, 35),
        (clocks(1_000, 9_000), clocks(5, 19_000), false, 990, 0),
        // A machine that does not know the time: as if none had passed.
        (clocks(100, 9_000), clocks(15, 0), false, 90, 65),
    ] {
        let shift = match is_same_boot {
            true => Shift::NONE,
            false => Shift::since(last, now),
        };
        let source = Source {
            is_checkpoint: false,
            shift,
        };
        let mut recovered = Recovered::new([1, 2]);
        let no = SessionNo(1);
        recovered.apply(opened(no, "c"), source);
        assert_eq!(
            recovered.sessions[&no].expires_at(),
            None,
            "it was connected"
        );
        recovered.apply(
            Record::Away {
                no,
                at: at(away_at),
            },
            source,
        );
        let session = &recovered.sessions[&no];
        assert_eq!(
            session.expires_at(),
            Some(at(expires_at)),
            "{last:?} {now:?}"
        );
        assert_eq!(session.will_at(), None);
        let will = WillRecord {
            no,
            message: message(b"w"),
            expiry_s: None,
            delay_s: 60,
        };
        recovered.apply(Record::Will(will), source);
        assert_eq!(recovered.sessions[&no].will_at(), Some(at(expires_at)));
        recovered.apply(Record::Changed(Changed { no, terms: TERMS }), source);
        assert_eq!(
            recovered.sessions[&no].expires_at(),
            None,
            "it is connected again"
        );
        let for_ever = SessionTerms {
            expiry_s: u32::MAX,
            ..TERMS
        };
        recovered.apply(
            Record::Changed(Changed {
                no,
                terms: for_ever,
            }),
            source,
        );
        recovered.apply(
            Record::Away {
                no,
                at: at(away_at),
            },
            source,
        );
        assert_eq!(recovered.sessions[&no].expires_at(), None, "never");
        let never = Instant::ZERO + Duration::MAX;
        assert_eq!(shift.apply(never), never);
    }
}

#[test]
fn a_checkpoint_takes_the_place_of_what_its_shard_had_from_earlier_epochs() {
    let home = Home::new([3, 4], 2);
    let mut recovered = Recovered::new([1, 2]);
    let names: Vec<String> = (0..50).map(|index| format!("n{index}")).collect();
    for (index, name) in names.iter().enumerate() {
        recovered.apply(opened(SessionNo(index as u64), name), IN_LOG);
        let retained = StoredMessage {
            topic: name.as_bytes(),
            ..message(b"r")
        };
        recovered.apply(Record::Retained(retained), IN_LOG);
    }
    let (shard, other) = (ShardId::new(1), ShardId::new(0));
    recovered.begin_checkpoint(&home, shard);
    let is_other = |name: &&String| home.of_client(name) == other;
    assert_eq!(
        recovered.sessions.len(),
        names.iter().filter(is_other).count()
    );
    assert!(
        recovered
            .sessions
            .values()
            .all(|one| home.of_client(&one.client_id) == other)
    );
    assert!(!recovered.retained.is_empty() && recovered.retained.len() < 50);
    assert!(
        recovered
            .retained
            .iter()
            .all(|one| home.of_topic(one.topic()) == other)
    );
}

#[test]
fn retained_messages_are_replaced_and_removed_and_know_their_author() {
    let mut recovered = Recovered::new([1, 2]);
    let author = |client_id, had_rules| AuthorRecord {
        user: Some("u"),
        client_id,
        had_rules,
    };
    for (topic, author) in [("a", None), ("b", Some(author("c", true))), ("c", None)] {
        let retained = StoredMessage {
            topic: topic.as_bytes(),
            author,
            ..message(b"1")
        };
        recovered.apply(Record::Retained(retained), IN_LOG);
    }
    let again = StoredMessage {
        topic: b"a",
        author: Some(author("d", false)),
        ..message(b"2")
    };
    recovered.apply(Record::Retained(again), IN_LOG);
    recovered.apply(Record::Unretained { topic: b"c" }, IN_LOG);
    recovered.apply(Record::Unretained { topic: b"x" }, IN_LOG);
    assert_eq!(recovered.retained.len(), 2);
    assert!(recovered.retained.find(b"c").is_none());
    let a = recovered.retained.find(b"a").unwrap();
    assert_eq!(
        (a.parts().payload, &*a.author.as_ref().unwrap().client_id),
        (&b"2"[..], "d")
    );
    // Rules that it brought along are not recorded: none of them allows anything any more.
    let b = recovered
        .retained
        .find(b"b")
        .unwrap()
        .author
        .as_ref()
        .unwrap();
    assert_eq!(b.rules.as_deref(), Some(&[][..]));
}

#[test]
fn two_sessions_of_one_client_are_no_state() {
    let mut recovered = Recovered::new([1, 2]);
    recovered.apply(opened(SessionNo(1), "c"), IN_LOG);
    assert_eq!(recovered.check(), Ok(()));
    recovered.apply(opened(SessionNo(2), "c"), IN_LOG);
    let error = recovered.check().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the client \"c\" has two sessions in the log"
    );
}

/// The message of an exchange between shards, and who has it.
struct Interrupted {
    message: StoredMessage<'static>,
    origin: Origin,
}

impl Interrupted {
    fn new(id: u16, ticket: u64, payload: &'static [u8]) -> Interrupted {
        Interrupted {
            message: StoredMessage {
                qos: QoS::ExactlyOnce,
                retain: true,
                ..message(payload)
            },
            origin: Origin {
                no: PUBLISHER,
                id: PacketId::new(id).unwrap(),
                ticket,
            },
        }
    }

    fn taken(&self, recovered: &mut Recovered) {
        let receivers = [receiver(SUBSCRIBER, self.origin.ticket)];
        let record = Record::Message(MessageRecord {
            message: self.message,
            origin: Some(self.origin),
            body: None,
            receivers: Receivers::listed(&receivers),
        });
        recovered.apply(record, IN_LOG);
    }

    fn retained(&self, recovered: &mut Recovered) {
        recovered.apply(Record::Retained(self.message), IN_LOG);
        recovered.apply(Record::Kept(self.origin), IN_LOG);
    }
}

const PUBLISHER: SessionNo = SessionNo(1);
const SUBSCRIBER: SessionNo = SessionNo(2);

#[test]
fn what_a_subscriber_has_of_an_interrupted_publish_is_retained_by_the_start() {
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Recovered), Option<&'a [u8]>);
    let first = Interrupted::new(5, 0, b"first");
    let second = Interrupted::new(6, 1, b"second");
    let deletion = Interrupted::new(7, 2, b"");
    let mut live = Interrupted::new(5, 0, b"live");
    live.message.retain = false;
    let later = || Record::Retained(message(b"later"));
    let (no, id) = (PUBLISHER, first.origin.id);
    let cases: &[Case<'_>] = &[
        ("nobody has it", &|_| {}, Some(b"old")),
        ("its owner lacks it", &|r| first.taken(r), Some(b"first")),
        (
            "the last one counts",
            &|r| [&second, &first].iter().for_each(|m| m.taken(r)),
            Some(b"second"),
        ),
        (
            "a deletion",
            &|r| [&deletion, &first].iter().for_each(|m| m.taken(r)),
            None,
        ),
        ("it is not to be retained", &|r| live.taken(r), Some(b"old")),
        (
            "its owner has had it",
            &|r| {
                first.taken(r);
                first.retained(r);
                r.apply(later(), IN_LOG);
            },
            Some(b"later"),
        ),
        (
            "all have had it",
            &|r| {
                first.taken(r);
                r.apply(Record::Spread(first.origin), IN_LOG);
                r.apply(later(), IN_LOG);
            },
            Some(b"later"),
        ),
        (
            "it was released",
            &|r| {
                first.taken(r);
                r.apply(Record::Spread(first.origin), IN_LOG);
                r.apply(Record::Released { no, id }, IN_LOG);
            },
            Some(b"old"),
        ),
        (
            "its publisher is gone",
            &|r| {
                first.taken(r);
                r.apply(Record::Ended(no), IN_LOG);
            },
            Some(b"old"),
        ),
        (
            "an earlier start has done so",
            &|r| {
                first.taken(r);
                r.end_epoch();
                r.apply(later(), IN_LOG);
            },
            Some(b"later"),
        ),
    ];
    for (name, happens, expected) in cases {
        let mut recovered = Recovered::new([1, 2]);
        recovered.apply(opened(PUBLISHER, "p"), IN_LOG);
        recovered.apply(opened(SUBSCRIBER, "s"), IN_LOG);
        recovered.apply(Record::Retained(message(b"old")), IN_LOG);
        happens(&mut recovered);
        recovered.end_epoch();
        let found = recovered.retained.find(b"t");
        assert_eq!(found.map(|one| one.parts().payload), *expected, "{name}");
    }
}
