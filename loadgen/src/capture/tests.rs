//! What a profile says, and what it does not.

use std::collections::HashSet;

use ringmq_core::codec::QoS;

use super::clients::{Clients, Filter, Row};
use super::listen::Message;
use super::sizes::Shares;
use super::topics::{Assumed, Topics};
use super::*;
use crate::payload::mix;
use crate::scenario::file;

/// A profile as it is written, read back.
fn written(found: &Found) -> (String, Scenario) {
    let profile = profile_of(found).unwrap();
    let text = write::text(&profile, &["a head".to_owned()]);
    let scenario = file::parse("profile.toml", &text).unwrap_or_else(|problems| {
        panic!("{}\n{text}", problems[0]);
    });
    assert!(
        scenario.check().is_empty(),
        "{:?}\n{text}",
        scenario.check()
    );
    (text, scenario)
}

fn found(classes: Vec<Class>, sent_per_s: f64) -> Found {
    Found {
        first_assumed: classes.len(),
        classes,
        sent_per_s,
        received_per_s: Some(0.0),
        span: Duration::from_secs(60),
        notes: Vec::new(),
    }
}

fn row(id: String, [sent, got]: [u64; 2], size: u64, topic: Option<String>) -> Row {
    Row {
        client_id: id,
        protocol: "5.0".to_owned(),
        connected_for_s: Some(1000),
        silence_max_s: Some(450.0),
        expiry_s: Some(0),
        r#in: sent,
        out: got,
        in_payload_bytes: sent * size,
        in_qos1: 0,
        in_qos2: 0,
        subscriptions: 1,
        topic,
    }
}

/// The fleet of the scenario `mixed`, as two lists of it show it.
fn mixed() -> (Clients, Shares) {
    let mut clients = Clients::default();
    for at_s in [0, 100] {
        clients.begin_list(at_s as f64);
        for device in 0..1000 {
            // Its own commands, and the alarms.
            let counts = [at_s, at_s * 4 / 10];
            let topic = format!("x/telemetry/{}/{device}", device % 20);
            clients.add(row(format!("device-{device}"), counts, 105, Some(topic)));
        }
        for dashboard in 0..20 {
            clients.add(row(format!("board-{dashboard}"), [0, at_s * 50], 0, None));
        }
        for worker in 0..5 {
            clients.add(row(format!("worker-{worker}"), [0, at_s * 200], 0, None));
        }
        for operator in 0..10 {
            let topic = format!("x/command/{}", operator * 7 + at_s);
            let counts = [at_s * 20, 0];
            let mut row = row(format!("operator-{operator}"), counts, 288, Some(topic));
            row.subscriptions = 0;
            clients.add(row);
        }
        let mut alarm = row(
            "alarm".to_owned(),
            [at_s / 5, 0],
            64,
            Some("x/alarm".to_owned()),
        );
        alarm.subscriptions = 0;
        clients.add(alarm);
        for idle in 0..500 {
            let mut row = row(format!("idle-{idle}"), [0, 0], 0, None);
            row.subscriptions = 0;
            clients.add(row);
        }
    }
    let mut sizes = Shares::default();
    for (size, count) in [(32, 70_000.0), (128, 25_000.0), (1024, 5000.0), (64, 20.0)] {
        sizes.add_size(size, count);
    }
    (64..512).for_each(|size| sizes.add_size(size, 20_000.0 / 448.0));
    (clients, sizes)
}

fn filters_of_mixed(id: &str) -> Vec<Filter> {
    let (kind, number) = id.split_once('-').unwrap();
    let filters = match kind {
        "device" => vec![format!("x/command/{number}"), "x/alarm".to_owned()],
        "board" => vec![format!("x/telemetry/{number}/+")],
        "worker" => vec!["$share/workers/x/telemetry/#".to_owned()],
        other => panic!("{other} has no filters"),
    };
    filters
        .into_iter()
        .map(|filter| Filter { filter, qos: 1 })
        .collect()
}

#[test]
fn a_replay_has_the_rates_the_fanout_and_the_sizes_that_were_captured() {
    let (clients, sizes) = mixed();
    let (sent, received) = clients.per_s();
    let mut ask = |id: &str| Ok(filters_of_mixed(id));
    let classes = class::join(clients.classes(&sizes, &mut ask).unwrap());
    let (text, scenario) = written(&found(classes, sent));
    assert_eq!(scenario.client_count(), 1536, "{text}");
    assert!(text.contains("$share/"), "workers share: {text}");
    let (replayed_in, replayed_out) = replayed(&scenario).unwrap();
    assert!(
        (replayed_in / sent - 1.0).abs() < 0.02,
        "{replayed_in} of {sent}\n{text}"
    );
    assert!(
        (replayed_out / received - 1.0).abs() < 0.02,
        "{replayed_out} of {received}\n{text}"
    );
    // As often as its group sends, each size is sent again.
    let mut again = Shares::default();
    for (index, group) in scenario.groups.iter().enumerate() {
        let Some(rates) = &group.rate else { continue };
        let per_s = rates.sum(group.clients, 0);
        for draw in 0..20_000 {
            let size = group.payload.pick(mix(draw ^ (index as u64) << 40));
            again.add_size(size as usize, per_s);
        }
    }
    let distance = sizes.distance(&again);
    assert!(distance < 0.02, "{distance}\n{text}");
}

/// Letters and more that no fixed word of a profile has, so that four of them are from a topic or an identifier.
const ALPHABET: [char; 30] = [
    'Q', 'W', 'X', 'Z', 'K', 'J', 'Y', 'V', 'U', 'F', 'G', 'H', 'N', 'M', 'P', 'L', 'ß', 'é', 'ж',
    'я', '漢', '字', '~', '!', '*', '(', ')', ';', '?', '&',
];

fn word(draw: &mut u64) -> String {
    let mut next = || {
        *draw = draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(*draw)
    };
    let size = 4 + next() % 9;
    (0..size)
        .map(|_| ALPHABET[(next() % 30) as usize])
        .collect()
}

/// Every four bytes of these.
fn quartets<'a>(texts: impl IntoIterator<Item = &'a String>) -> HashSet<[u8; 4]> {
    let mut all = HashSet::new();
    for text in texts {
        let windows = text.as_bytes().windows(4);
        all.extend(windows.filter_map(|four| <[u8; 4]>::try_from(four).ok()));
    }
    all
}

fn assert_anonymous(text: &str, secrets: &[String]) {
    assert!(text.len() > 200);
    let known = quartets(secrets);
    for four in text.as_bytes().windows(4) {
        let four: [u8; 4] = four.try_into().unwrap();
        let shown = String::from_utf8_lossy(&four);
        assert!(
            !known.contains(&four),
            "`{shown}` is from a topic or an identifier:\n{text}"
        );
    }
}

#[test]
fn no_four_bytes_of_a_topic_or_identifier_are_in_a_profile() {
    let mut draw = 7;
    let roots: Vec<String> = (0..6).map(|_| word(&mut draw)).collect();
    let mut secrets = roots.clone();
    let mut clients = Clients::default();
    let mut topics = Topics::default();
    let names: Vec<(String, String)> = (0..100_000)
        .map(|number| {
            let root = &roots[number % roots.len()];
            let topic = format!("{root}/{}/{}", word(&mut draw), word(&mut draw));
            (word(&mut draw) + &word(&mut draw), topic)
        })
        .collect();
    for at_s in [0, 10] {
        clients.begin_list(at_s as f64);
        for (number, (id, topic)) in names.iter().enumerate() {
            let counts = [at_s * (1 + number as u64 % 3), at_s];
            clients.add(row(id.clone(), counts, 70, Some(topic.clone())));
        }
    }
    for (id, topic) in &names {
        topics.add(&Message {
            topic,
            payload: &[0; 70],
            qos: QoS::AtLeastOnce,
            retain: false,
            at: Duration::ZERO,
        });
        secrets.extend([id.clone(), topic.clone()]);
    }
    let mut sizes = Shares::default();
    sizes.add_size(70, 1.0);
    let mut number = 0;
    let mut ask = |_: &str| {
        number += 1;
        let filter = names[number * 37 % names.len()].1.clone();
        Ok(vec![Filter { filter, qos: 1 }])
    };
    let classes = class::join(clients.classes(&sizes, &mut ask).unwrap());
    let (text, _) = written(&found(classes, clients.per_s().0));
    assert_anonymous(&text, &secrets);
    let assumed = Assumed {
        fanout: Some(3.5),
        publishers: Some(500),
    };
    let guess = topics.guess(10.0, assumed, class::join);
    let of_topics = Found {
        first_assumed: guess.first_assumed,
        received_per_s: None,
        ..found(guess.classes, 10_000.0)
    };
    let (text, scenario) = written(&of_topics);
    assert_anonymous(&text, &secrets);
    assert!(text.contains("clients = 3  # assumed"), "{text}");
    let (sent, received) = replayed(&scenario).unwrap();
    assert!((sent / 10_000.0 - 1.0).abs() < 0.02, "{sent}");
    assert!(
        (received / sent / 3.5 - 1.0).abs() < 0.02,
        "{received} of {sent}\n{text}"
    );
}

#[test]
fn an_identifier_is_a_part_of_a_path() {
    assert_eq!(encoded("a-1"), "a-1");
    assert_eq!(encoded("a/b%#ü"), "a%2Fb%25%23%C3%BC");
    assert_eq!(run_name("x.toml".as_ref()), "x.toml");
    assert_eq!(run_name("x".as_ref()), "./x");
}
