use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::session::KeptMatch;
use crate::store::testing::{LIMITS, with_record};

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, &LIMITS).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TERMS: SessionTerms<'_> = SessionTerms {
    user: Some("u"),
    version: Version::V5,
    expiry_s: 3600,
};

const MESSAGE: StoredMessage<'_> = StoredMessage {
    topic: b"a/b",
    properties: b"\x01\x01",
    payload: b"hi",
    qos: QoS::AtLeastOnce,
    retain: true,
    expires_at: Some(Instant::from_nanos(300)),
    publisher: ClientKey(0x0123_4567_89AB_CDEF),
    author: None,
};

const NO: SessionNo = SessionNo(300);
const STORED: &str = "0d efcdab8967452301 ac02 03612f62 020101 026869";

// What was written by one version is read by the next one: no row ever changes.
fn check(rows: &[(Record<'_>, &str)]) {
    for (record, expected) in rows {
        let bytes = encoded(record);
        let expected = expected.replace("MESSAGE", STORED).replace(' ', "");
        assert_eq!(hex(&bytes), expected, "{record:?}");
        assert_eq!(Record::decode(&mut &bytes[..]).as_ref(), Ok(record));
    }
}

#[test]
fn records_of_sessions_stand_on_the_disk_as_they_always_did() {
    let opened = Opened {
        no: NO,
        client_id: "c",
        terms: TERMS,
    };
    let changed = Changed {
        no: NO,
        terms: TERMS,
    };
    let will = WillRecord {
        no: NO,
        message: MESSAGE,
        expiry_s: Some(9),
        delay_s: 8,
    };
    let subscribed = SubscribedRecord {
        no: NO,
        filter: filter("a/+"),
        options: SubscribeOptions::from_byte(0b0001_1101, Version::V5).unwrap(),
        subscription_id: NonZeroU32::new(5),
    };
    let (no, at) = (NO, Instant::from_nanos(1));
    let unsubscribed = subscribed.filter.clone();
    let filter = subscribed.filter.clone();
    let gather = Record::Gather { no, filter };
    let filter = subscribed.filter.clone();
    let done = Record::GatherDone { no, filter };
    let next_delivery = DeliveryNo(128);
    check(&[
        (Record::Opened(opened), "01 0a ac02 0163 05 901c 01 0175"),
        (Record::Changed(changed), "02 08 ac02 05 901c 01 0175"),
        (Record::Ended(no), "03 02 ac02"),
        (Record::Away { no, at }, "04 03 ac02 01"),
        (Record::Will(will), "05 1a ac02 08 01 09 MESSAGE"),
        (Record::WillGone(no), "06 02 ac02"),
        (Record::Subscribed(subscribed), "07 08 ac02 03612f2b 1d 05"),
        (
            Record::Unsubscribed {
                no,
                filter: unsubscribed,
            },
            "08 06 ac02 03612f2b",
        ),
        (Record::Passed(no), "11 02 ac02"),
        (gather, "12 06 ac02 03612f2b"),
        (done, "13 06 ac02 03612f2b"),
        (Record::Numbers { no, next_delivery }, "20 04 ac02 8001"),
        (Record::Footer(Footer { records: 3 }), "22 01 03"),
    ]);
}

#[test]
fn records_of_messages_stand_on_the_disk_as_they_always_did() {
    let plain = ReceiverTerms {
        qos: QoS::ExactlyOnce,
        retain: false,
        matched: None,
        may_have_been_sent: true,
    };
    let shared = ReceiverTerms {
        qos: QoS::AtLeastOnce,
        retain: true,
        matched: Some(Arc::new(KeptMatch {
            subscription_ids: [NonZeroU32::new(200).unwrap()].into(),
            share: Some(Arc::new(filter("$share/g/#"))),
        })),
        may_have_been_sent: false,
    };
    let receiver = |no, delivery, terms: &ReceiverTerms| Receiver {
        no: SessionNo(no),
        delivery: DeliveryNo(delivery),
        terms: terms.clone(),
    };
    let receivers = [
        receiver(300, 7, &plain),
        receiver(299, 8, &plain),
        receiver(301, 8, &shared),
    ];
    let message = MessageRecord {
        message: MESSAGE,
        origin: None,
        body: Some(BodyNo(1)),
        receivers: Receivers::listed(&receivers),
    };
    let body = BodyNo(1);
    let receivers = Receivers::listed(&receivers[..1]);
    let author = AuthorRecord {
        user: None,
        client_id: "c",
        had_rules: true,
    };
    let retained = StoredMessage {
        author: Some(author),
        expires_at: None,
        ..MESSAGE
    };
    check(&[
        (
            Record::Message(message),
            "09 30 MESSAGE 01 01 22 02 d804 0e 01 02 \
             1d 01 c801 0a 2473686172652f672f23 01 04 00",
        ),
        (
            Record::MoreReceivers { body, receivers },
            "21 06 01 22 01 d804 0e",
        ),
        (
            Record::Retained(retained),
            "0e 17 15 efcdab8967452301 00 0163 01 03612f62 020101 026869",
        ),
        (Record::Unretained { topic: b"a/b" }, "0f 04 03612f62"),
    ]);
}

#[test]
fn records_of_exchanges_stand_on_the_disk_as_they_always_did() {
    let range = |first, last| DeliveryRange {
        first: DeliveryNo(first),
        last: DeliveryNo(last),
    };
    let ranges = [range(7, 7), range(9, 11)];
    let ranges = DeliveryRanges::listed(&ranges);
    let (no, delivery) = (NO, DeliveryNo(7));
    let id = PacketId::new(65_535).unwrap();
    check(&[
        (Record::Received { no, id }, "0a 05 ac02 ffff03"),
        (Record::Released { no, id }, "0b 05 ac02 ffff03"),
        (Record::Phase2 { no, delivery }, "0c 03 ac02 07"),
        (Record::Settled { no, ranges }, "0d 06 ac02 0e00 0402"),
    ]);
}

#[test]
fn what_was_encoded_is_decoded() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        with_record(&mut rng, |record| {
            record.encode(&mut bytes);
            let size = bytes.len();
            bytes.extend_from_slice(b"more");
            let mut rest = &bytes[..];
            assert_eq!(Record::decode(&mut rest).as_ref(), Ok(&record));
            assert_eq!(rest, b"more");
            let again = encoded(&Record::decode(&mut &bytes[..]).unwrap());
            assert!(again == bytes[..size], "{record:?} has two forms");
        });
    }
}

#[test]
fn what_is_cut_or_changed_is_refused_or_is_another_record() {
    let mut rng = Rng::with_seed(2);
    for _ in 0..5_000 {
        let mut bytes = Vec::new();
        with_record(&mut rng, |record| record.encode(&mut bytes));
        let cut = rng.usize(1..bytes.len());
        let (kind, fields) = (bytes[0], &bytes[..cut]);
        assert_eq!(
            Record::decode(&mut &fields[..]),
            Err(RecordError::Malformed),
            "kind {kind}"
        );
        for _ in 0..20 {
            let index = rng.usize(..bytes.len().min(60));
            bytes[index] ^= 1 << rng.u8(..8);
            let mut rest = &bytes[..];
            if let Ok(record) = Record::decode(&mut rest) {
                let taken = bytes.len() - rest.len();
                let again = encoded(&record);
                assert_eq!(Record::decode(&mut &again[..]), Ok(record), "{taken} bytes");
            }
        }
    }
}

#[test]
fn a_kind_that_nobody_knows_is_told_apart() {
    for kind in [0, 21, 31, 37, 255] {
        assert_eq!(
            Record::decode(&mut &[kind, 0][..]),
            Err(RecordError::UnknownKind(kind))
        );
    }
}

#[test]
fn a_receiver_among_many_takes_a_few_bytes() {
    let terms = ReceiverTerms {
        qos: QoS::AtLeastOnce,
        retain: false,
        matched: None,
        may_have_been_sent: false,
    };
    let receiver = |index: u64| Receiver {
        no: SessionNo::new(7, crate::ids::ShardId::new(3), index * 3),
        delivery: DeliveryNo(1_000 + index % 7),
        terms: terms.clone(),
    };
    let receivers: Vec<Receiver> = (0..10_000).map(receiver).collect();
    let bytes = encoded(&Record::Message(MessageRecord {
        message: MESSAGE,
        origin: None,
        body: None,
        receivers: Receivers::listed(&receivers),
    }));
    assert!(bytes.len() < 20_100, "{} bytes", bytes.len());
}
