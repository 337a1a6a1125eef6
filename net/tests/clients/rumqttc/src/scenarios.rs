//! What is checked, one function each.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::client::{
    Fault, Filter, MARKER, Options, Place, PublishProperties, RetainForwardRule, Version, Will,
    check, check_equal, qos5, user,
};

/// One scenario and the versions it speaks.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub body: fn(Place) -> Running,
    only_v5: bool,
    only_users: bool,
}

type Running = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

impl Scenario {
    pub fn speaks(&self, version: Version) -> bool {
        let knows_users = !self.only_users || user().is_some();
        knows_users && (version == Version::V5 || !self.only_v5)
    }
}

macro_rules! scenario {
    ($name:expr, $body:expr) => {
        Scenario {
            name: $name,
            body: |place| Box::pin($body(place)),
            only_v5: false,
            only_users: false,
        }
    };
    ($name:expr, $body:expr, users) => {
        Scenario {
            name: $name,
            body: |place| Box::pin($body(place)),
            only_v5: false,
            only_users: true,
        }
    };
    ($name:expr, $body:expr, v5) => {
        Scenario {
            name: $name,
            body: |place| Box::pin($body(place)),
            only_v5: true,
            only_users: false,
        }
    };
}

pub const ALL: &[Scenario] = &[
    scenario!("connect", connect),
    scenario!("qos0", |place| in_order(place, 0)),
    scenario!("qos1", |place| in_order(place, 1)),
    scenario!("qos2", |place| in_order(place, 2)),
    scenario!("wildcards", wildcards),
    scenario!("retained", retained),
    scenario!("shared", shared),
    scenario!("will", will),
    scenario!("session", session),
    scenario!("takeover", takeover),
    scenario!("keepalive", keepalive),
    scenario!("large", large),
    scenario!("rights", rights, users),
    scenario!("message_properties", message_properties, v5),
    scenario!("request_response", request_response, v5),
    scenario!("message_expiry", message_expiry, v5),
    scenario!("session_expiry", session_expiry, v5),
    scenario!("reason_codes", reason_codes, v5),
    scenario!("topic_alias", topic_alias, v5),
    scenario!("subscription_identifiers", subscription_identifiers, v5),
    scenario!("no_local", no_local, v5),
    scenario!("retain_options", retain_options, v5),
];

async fn connect(place: Place) -> Result<(), Fault> {
    let client = place.client("a").await?;
    check(!client.session_present(), || {
        "session present on a clean start".into()
    })?;
    client.close().await
}

/// Every message of one publisher arrives once, in order, at the QoS of the publication.
async fn in_order(place: Place, level: u8) -> Result<(), Fault> {
    let (mut subscriber, mut publisher) = (place.client("sub").await?, place.client("pub").await?);
    subscriber.subscribe(&place.topic("+"), 2).await?;
    let expected: Vec<String> = (0..MESSAGES).map(|index| index.to_string()).collect();
    for text in &expected {
        publisher
            .send(&place.topic("t"), text.as_bytes(), level, false)
            .await?;
    }
    publisher.publish(&place.topic("t"), MARKER, level).await?;
    let messages = subscriber.receive_until_marker().await?;
    check_equal(
        messages.iter().map(|message| message.text()).collect(),
        expected,
        "payloads",
    )?;
    check(
        messages
            .iter()
            .all(|message| message.qos == level && !message.retain),
        || "another QoS or retain".into(),
    )
}

/// Where users log in: a wrong password, and topics that the rules close.
async fn rights(place: Place) -> Result<(), Fault> {
    let (name, password) = user().expect("only where users log in");
    for wrong in [(name, "wrong".to_owned()), ("nobody".to_owned(), password)] {
        let options = Options {
            user: Some(wrong),
            ..Options::default()
        };
        let stranger = place.client_with("stranger", options).await;
        check(stranger.is_err(), || "a stranger was let in".into())?;
    }
    let (mut client, mut other) = (place.client("a").await?, place.client("b").await?);
    let denied = client.subscribe("forbidden/closed", 1).await?;
    check(!denied.contains("Success"), || {
        format!("a closed topic was granted: {denied}")
    })?;
    client.subscribe(&place.topic("t"), 1).await?;
    client.subscribe("+/closed", 1).await?;
    other.send("forbidden/closed", b"closed", 0, false).await?;
    other.publish(&place.topic("t"), MARKER, 1).await?;
    let messages = client.receive_until_marker().await?;
    check(
        messages.iter().all(|m| !m.topic.starts_with("forbidden/")),
        || "a message came that the rules close".into(),
    )
}

async fn wildcards(place: Place) -> Result<(), Fault> {
    let (mut subscriber, mut publisher) = (place.client("sub").await?, place.client("pub").await?);
    let marker = format!("{}-marker", place.tag);
    subscriber.subscribe(&marker, 1).await?;
    for (filter, expected) in [
        ("a/+", vec!["a/", "a/b", "a/c"]),
        ("a/#", vec!["a", "a/", "a/b", "a/b/c", "a/c"]),
        ("+/b/+", vec!["a/b/c"]),
        ("+", vec!["a"]),
    ] {
        subscriber.subscribe(&place.topic(filter), 1).await?;
        for topic in ["a", "a/", "a/b", "a/b/c", "a/c", "/a"] {
            publisher
                .send(&place.topic(topic), topic.as_bytes(), 1, false)
                .await?;
        }
        publisher.publish(&marker, MARKER, 1).await?;
        let mut received: Vec<String> = subscriber
            .receive_until_marker()
            .await?
            .iter()
            .map(|m| m.text())
            .collect();
        received.sort();
        check_equal(
            received,
            expected.iter().map(|topic| topic.to_string()).collect(),
            filter,
        )?;
        subscriber.unsubscribe(&place.topic(filter)).await?;
    }
    Ok(())
}

async fn retained(place: Place) -> Result<(), Fault> {
    let (mut publisher, mut live) = (place.client("pub").await?, place.client("live").await?);
    live.subscribe(&place.topic("r/#"), 1).await?;
    publisher
        .publish_retained(&place.topic("r/x"), b"old")
        .await?;
    publisher
        .publish_retained(&place.topic("r/x"), b"new")
        .await?;
    // [MQTT-3.3.1-9] a message for an existing subscription carries retain = 0.
    check(
        live.receive(2).await?.iter().all(|message| !message.retain),
        || "retain on a live message".into(),
    )?;
    for (name, filter) in [("exact", "r/x"), ("plus", "r/+"), ("hash", "r/#")] {
        let mut late = place.client(name).await?;
        late.subscribe(&place.topic(filter), 1).await?;
        let messages = late
            .receive(1)
            .await?
            .iter()
            .map(|m| (m.text(), m.retain))
            .collect();
        check_equal(messages, vec![("new".to_string(), true)], filter)?;
    }
    publisher.publish_retained(&place.topic("r/x"), b"").await?;
    let mut after = place.client("after").await?;
    after.subscribe(&place.topic("r/#"), 1).await?;
    publisher.publish(&place.topic("r/z"), MARKER, 1).await?;
    check_equal(
        after.receive_until_marker().await?.len(),
        0,
        "retained messages after their deletion",
    )
}

/// Each message goes to one member of the group, and each member gets some.
async fn shared(place: Place) -> Result<(), Fault> {
    let mut members = [place.client("one").await?, place.client("two").await?];
    let mut publisher = place.client("pub").await?;
    let end = |index: usize| place.topic(&format!("end/{index}"));
    for (index, member) in members.iter_mut().enumerate() {
        let filter = format!("$share/g/{}", place.topic("t"));
        member.subscribe(&filter, 1).await?;
        member.subscribe(&end(index), 1).await?;
    }
    let mut expected: Vec<String> = (0..MESSAGES).map(|index| index.to_string()).collect();
    for text in &expected {
        publisher
            .send(&place.topic("t"), text.as_bytes(), 1, false)
            .await?;
    }
    let mut got = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        publisher.publish(&end(index), MARKER, 1).await?;
        let part = member.receive_until_marker().await?;
        check(!part.is_empty(), || format!("member {index} got nothing"))?;
        got.extend(part.iter().map(|message| message.text()));
    }
    got.sort();
    expected.sort();
    check_equal(got, expected, "messages of the group")
}

async fn will(place: Place) -> Result<(), Fault> {
    let mut watcher = place.client("watch").await?;
    let topic = place.topic("will");
    watcher.subscribe(&topic, 2).await?;
    for level in 0..=2 {
        let will = Will {
            topic: topic.clone(),
            payload: "gone",
            qos: level,
            retain: false,
        };
        let options = Options {
            will: Some(will),
            ..Options::default()
        };
        place.client_with("cut", options.clone()).await?.cut().await;
        let received = watcher
            .receive(1)
            .await?
            .iter()
            .map(|m| (m.text(), m.qos))
            .collect();
        check_equal(
            received,
            vec![("gone".to_string(), level)],
            "will of a cut connection",
        )?;
        place.client_with("polite", options).await?.close().await?;
        // The same id once more: its CONNACK shows that the earlier connection has been dealt with.
        place
            .client("polite")
            .await?
            .publish(&topic, MARKER, 1)
            .await?;
        check_equal(
            watcher.receive_until_marker().await?.len(),
            0,
            "wills after DISCONNECT",
        )?;
    }
    Ok(())
}

async fn session(place: Place) -> Result<(), Fault> {
    let kept = Options {
        keep_session: true,
        ..Options::default()
    };
    let mut publisher = place.client("pub").await?;
    let mut subscriber = place.client_with("sub", kept.clone()).await?;
    check(!subscriber.session_present(), || {
        "session present at the first connect".into()
    })?;
    subscriber.subscribe(&place.topic("s/+"), 2).await?;
    subscriber.close().await?;
    for index in 0..MESSAGES / 2 {
        for level in [1, 2] {
            publisher
                .send(
                    &place.topic(&format!("s/{level}")),
                    index.to_string().as_bytes(),
                    level,
                    false,
                )
                .await?;
        }
    }
    publisher.settle().await?;
    let mut subscriber = place.client_with("sub", kept).await?;
    check(subscriber.session_present(), || {
        "no session present after a reconnect".into()
    })?;
    publisher.publish(&place.topic("s/1"), b"last", 1).await?;
    let messages = subscriber.receive(MESSAGES + 1).await?;
    check_equal(messages.len(), MESSAGES + 1, "number of messages")?;
    for level in [1, 2] {
        let queued = messages
            .iter()
            .filter(|m| m.qos == level && m.payload != b"last")
            .map(|m| m.text())
            .collect();
        let expected: Vec<String> = (0..MESSAGES / 2).map(|index| index.to_string()).collect();
        check_equal(queued, expected, "queued messages of one QoS")?;
    }
    subscriber.close().await?;
    check(!place.client("sub").await?.session_present(), || {
        "session present on a clean start".into()
    })
}

async fn takeover(place: Place) -> Result<(), Fault> {
    let kept = Options {
        keep_session: true,
        ..Options::default()
    };
    let mut first = place.client_with("twin", kept.clone()).await?;
    first.subscribe(&place.topic("t"), 1).await?;
    let mut second = place.client_with("twin", kept).await?;
    check(second.session_present(), || {
        "the second connection did not get the session".into()
    })?;
    first.wait_closed().await?;
    second.publish(&place.topic("t"), MARKER, 1).await?;
    check_equal(
        second.receive_until_marker().await?.len(),
        0,
        "messages before the marker",
    )
}

async fn keepalive(place: Place) -> Result<(), Fault> {
    // Long enough that a library which pings late by half of it, on a busy machine, is in time.
    let seconds = 6;
    let options = Options {
        keep_alive: Some(Duration::from_secs(seconds)),
        ..Options::default()
    };
    let mut quiet = place.client_with("quiet", options).await?;
    quiet.subscribe(&place.topic("k"), 1).await?;
    // The rule speaks of time: past the interval and the broker's half interval of grace.
    tokio::time::sleep(Duration::from_millis(seconds * 1500 + 1200)).await;
    check(quiet.closed().is_none(), || {
        "closed although it pings".into()
    })?;
    quiet.publish(&place.topic("k"), MARKER, 1).await?;
    check_equal(
        quiet.receive_until_marker().await?.len(),
        0,
        "messages before the marker",
    )
}

async fn large(place: Place) -> Result<(), Fault> {
    let (mut subscriber, mut publisher) = (place.client("sub").await?, place.client("pub").await?);
    subscriber.subscribe(&place.topic("large"), 2).await?;
    let payload: Vec<u8> = (0..200 * 1024_usize)
        .map(|index| ((index * 7 + index / 251) % 256) as u8)
        .collect();
    for level in 0..=2 {
        publisher
            .publish(&place.topic("large"), &payload, level)
            .await?;
        let messages = subscriber.receive(1).await?;
        check(
            messages[0].payload == payload && messages[0].qos == level,
            || format!("200 KiB at QoS {level} came back different"),
        )?;
    }
    Ok(())
}

/// What a publisher attaches reaches the subscriber unchanged and in order [MQTT-3.3.2-18].
async fn message_properties(place: Place) -> Result<(), Fault> {
    let (mut subscriber, mut publisher) = (place.client("sub").await?, place.client("pub").await?);
    subscriber.subscribe(&place.topic("p"), 1).await?;
    let user_properties =
        [("b", "1"), ("a", "2"), ("b", "3")].map(|(k, v)| (k.to_string(), v.to_string()));
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("text/plain".into()),
        user_properties: user_properties.to_vec(),
        ..PublishProperties::default()
    };
    publisher
        .send5(&place.topic("p"), b"x", properties.clone())
        .await?;
    check_equal(
        subscriber.receive(1).await?[0].properties.clone(),
        properties,
        "properties",
    )
}

async fn request_response(place: Place) -> Result<(), Fault> {
    let (mut responder, mut requester) = (
        place.client("responder").await?,
        place.client("requester").await?,
    );
    responder.subscribe(&place.topic("ask"), 1).await?;
    requester.subscribe(&place.topic("answers"), 1).await?;
    for index in 0..20_u8 {
        let properties = PublishProperties {
            response_topic: Some(place.topic("answers")),
            correlation_data: Some(vec![0, 255, index].into()),
            ..PublishProperties::default()
        };
        requester
            .send5(&place.topic("ask"), &[index], properties)
            .await?;
        let question = responder.receive(1).await?.remove(0);
        let target = question
            .properties
            .response_topic
            .ok_or("no response topic")?;
        let correlation_data = question.properties.correlation_data;
        let properties = PublishProperties {
            correlation_data,
            ..PublishProperties::default()
        };
        responder
            .send5(&target, &question.payload, properties)
            .await?;
        let answer = requester.receive(1).await?.remove(0);
        let tag = answer
            .properties
            .correlation_data
            .ok_or("no correlation data")?;
        check_equal(
            (answer.payload, tag.to_vec()),
            (vec![index], vec![0, 255, index]),
            "response",
        )?;
    }
    Ok(())
}

async fn message_expiry(place: Place) -> Result<(), Fault> {
    let kept = Options {
        keep_session: true,
        ..Options::default()
    };
    let mut publisher = place.client("pub").await?;
    let mut subscriber = place.client_with("sub", kept.clone()).await?;
    subscriber.subscribe(&place.topic("e"), 1).await?;
    subscriber.close().await?;
    for (payload, seconds) in [(b"short".as_slice(), 1), (b"long", 60)] {
        let properties = PublishProperties {
            message_expiry_interval: Some(seconds),
            ..PublishProperties::default()
        };
        publisher
            .send5(&place.topic("e"), payload, properties)
            .await?;
    }
    publisher.settle().await?;
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let mut subscriber = place.client_with("sub", kept).await?;
    publisher.publish(&place.topic("e"), MARKER, 1).await?;
    let messages = subscriber.receive_until_marker().await?;
    check_equal(
        messages.iter().map(|m| m.text()).collect(),
        vec!["long".to_string()],
        "unexpired messages",
    )?;
    // [MQTT-3.3.2-6] the interval is lowered by the time the message has waited.
    let left = messages[0].properties.message_expiry_interval;
    check(left.is_some_and(|left| (55..=59).contains(&left)), || {
        format!("{left:?} s left after 2 of 60")
    })
}

async fn session_expiry(place: Place) -> Result<(), Fault> {
    for (name, seconds) in [("short", 1), ("long", 60)] {
        let options = Options {
            session_expiry_s: Some(seconds),
            ..Options::default()
        };
        place.client_with(name, options).await?.close().await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (name, expected) in [("short", false), ("long", true)] {
        let options = Options {
            keep_session: true,
            session_expiry_s: Some(0),
            ..Options::default()
        };
        check_equal(
            place.client_with(name, options).await?.session_present(),
            expected,
            name,
        )?;
    }
    Ok(())
}

async fn reason_codes(place: Place) -> Result<(), Fault> {
    let mut client = place.client("a").await?;
    check_equal(
        client.subscribe(&place.topic("x"), 2).await?,
        "[Success(ExactlyOnce)]".into(),
        "SUBACK",
    )?;
    check_equal(
        client.unsubscribe(&place.topic("x")).await?,
        "[Success]".into(),
        "UNSUBACK",
    )?;
    check_equal(
        client.unsubscribe(&place.topic("x")).await?,
        "[NoSubscriptionExisted]".into(),
        "second UNSUBACK",
    )
}

/// Aliases towards the broker; the library knows none from the broker, so it must not get any.
async fn topic_alias(place: Place) -> Result<(), Fault> {
    let (mut subscriber, mut publisher) = (place.client("sub").await?, place.client("pub").await?);
    subscriber.subscribe(&place.topic("+"), 1).await?;
    let properties = PublishProperties {
        topic_alias: Some(1),
        ..PublishProperties::default()
    };
    let mut expected = Vec::new();
    for name in ["one", "two"] {
        let full = place.topic(name);
        for topic in [full.as_str(), "", ""] {
            publisher
                .send5(topic, name.as_bytes(), properties.clone())
                .await?;
            expected.push((full.clone(), name.to_string()));
        }
    }
    let received = subscriber
        .receive(expected.len())
        .await?
        .iter()
        .map(|m| (m.topic.clone(), m.text()))
        .collect();
    check_equal(received, expected, "topics and payloads")
}

async fn subscription_identifiers(place: Place) -> Result<(), Fault> {
    let (mut subscriber, mut publisher) = (place.client("sub").await?, place.client("pub").await?);
    for (topic, id) in [("a", 7), ("b", 268_435_455)] {
        subscriber
            .subscribe5(Filter::new(place.topic(topic), qos5(1)), Some(id))
            .await?;
        publisher.publish(&place.topic(topic), b"x", 1).await?;
        let found = subscriber.receive(1).await?[0]
            .properties
            .subscription_identifiers
            .clone();
        check_equal(found, vec![id], "identifiers")?;
    }
    Ok(())
}

async fn no_local(place: Place) -> Result<(), Fault> {
    let (mut both, mut other) = (place.client("both").await?, place.client("other").await?);
    let mut filter = Filter::new(place.topic("n"), qos5(1));
    filter.nolocal = true;
    both.subscribe5(filter, None).await?;
    both.publish(&place.topic("n"), b"mine", 1).await?;
    other.publish(&place.topic("n"), MARKER, 1).await?;
    check_equal(
        both.receive_until_marker().await?.len(),
        0,
        "own messages despite no local",
    )
}

async fn retain_options(place: Place) -> Result<(), Fault> {
    let (mut publisher, mut keeps) = (place.client("pub").await?, place.client("keeps").await?);
    let topic = place.topic("r");
    let mut filter = Filter::new(topic.clone(), qos5(1));
    filter.preserve_retain = true;
    keeps.subscribe5(filter, None).await?;
    publisher.publish_retained(&topic, b"kept").await?;
    check_equal(
        keeps.receive(1).await?[0].retain,
        true,
        "retain as published",
    )?;
    for (index, (rule, first, again)) in [
        (RetainForwardRule::OnEverySubscribe, 1, 1),
        (RetainForwardRule::OnNewSubscribe, 1, 0),
        (RetainForwardRule::Never, 0, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = place.client(&format!("h{index}")).await?;
        for expected in [first, again] {
            let mut filter = Filter::new(topic.clone(), qos5(1));
            filter.retain_forward_rule = rule.clone();
            client.subscribe5(filter, None).await?;
            // A live message on the topic is sent only after the retained one is here: the two have
            // no order.
            let mut found = client.receive(expected).await?.len();
            publisher.publish(&topic, MARKER, 1).await?;
            found += client.receive_until_marker().await?.len();
            check_equal(found, expected, "retained messages")?;
        }
    }
    publisher.publish_retained(&topic, b"").await
}

const MESSAGES: usize = 120;
