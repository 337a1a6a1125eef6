//! Valid packets of clients, out of a few bytes each.

use ringmq_core::codec::{
    Ack, AckKind, Auth, AuthProperties, Connect, ConnectProperties, Disconnect,
    DisconnectProperties, Filters, Publish, PublishProperties, QoS, ReasonCode, RetainHandling,
    Subscribe, SubscribeOptions, Subscription, Subscriptions, Unsubscribe, UserProperties, Version,
    Will, WillProperties,
};

use super::access::Scram;
use super::input::Input;

const TOPICS: [&str; 12] = [
    "a", "a/b", "a/b/c", "/", "", "$SYS/a", "a/+", "b", "a/c", "a/d", "one/x", "alice/x",
];
const FILTERS: [&str; 16] = [
    "a",
    "a/#",
    "+/b",
    "#",
    "+",
    "$share/g/a",
    "a/b",
    "a#",
    "$share/g/a/#",
    "$share/h/+",
    "$share/g/#",
    "$share/",
    "$SYS/#",
    "a/+",
    "one/#",
    "$share/g/a/b",
];
const IDS: [&str; 5] = ["one", "two", "three", "", "four"];
const METHOD: &str = "SCRAM-SHA-256";
/// Two user properties.
const PROPERTIES: &[u8] = b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";

pub fn connect(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let flags = input.byte();
    let more = input.byte();
    let is_v5 = version == Version::V5;
    let will = Will {
        qos: input.qos(),
        retain: flags & 2 != 0,
        topic: input.pick(&["a/b", "a", "b", "$SYS/a"]),
        payload: b"gone",
        properties: WillProperties {
            delay_s: (flags & 4 != 0).then_some(5),
            message_expiry_s: (flags & 8 != 0).then_some(5),
            content_type: (flags & 1 != 0).then_some("text"),
            ..WillProperties::default()
        },
    };
    let (user_name, password) = match more >> 6 {
        0 => (None, None),
        1 => (Some("any"), Some(TOKEN)),
        2 => (Some("alice"), Some(&b"secret"[..])),
        _ => (Some("alice"), Some(&b"other"[..])),
    };
    let (method, data) = match more & 7 {
        7 => (METHOD, CLIENT_FIRST),
        _ => ("JWT", TOKEN),
    };
    let has_method = is_v5 && more & 7 >= 6;
    let connect = Connect {
        is_bridge: false,
        version,
        clean_start: flags & 16 != 0,
        keep_alive: u16::from(flags & 1) * 10,
        client_id: input.pick(&IDS),
        will: (flags & 32 != 0).then_some(will),
        user_name,
        password,
        properties: ConnectProperties {
            session_expiry_s: (flags & 64 != 0).then_some(20),
            receive_maximum: (flags & 128 != 0).then_some(1),
            maximum_packet_size: (more & 8 != 0).then_some(40),
            topic_alias_maximum: (flags & 64 != 0).then_some(2),
            request_response_information: (more & 16 != 0).then_some(true),
            request_problem_information: (more & 32 != 0).then_some(false),
            authentication_method: has_method.then_some(method),
            authentication_data: (has_method && flags & 1 != 0).then_some(data),
            ..ConnectProperties::default()
        },
    };
    connect.encode(out);
}

pub fn subscribe(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let bits = input.byte();
    let count = 1 + usize::from(bits >> 6);
    if bits & 16 != 0 {
        let filters: Vec<&str> = (0..count).map(|_| input.pick(&FILTERS)).collect();
        let unsubscribe = Unsubscribe {
            packet_id: input.packet_id(),
            filters: Filters::listed(&filters),
            user_properties: UserProperties::NONE,
        };
        return unsubscribe.encode(version, out);
    }
    let lines: Vec<Subscription<'_>> = (0..count).map(|_| line(bits, input)).collect();
    let subscribe = Subscribe {
        packet_id: input.packet_id(),
        subscription_id: (bits & 32 != 0).then_some(7),
        filters: Subscriptions::listed(&lines),
        user_properties: UserProperties::NONE,
    };
    subscribe.encode(version, out);
}

fn line<'a>(bits: u8, input: &mut Input<'_>) -> Subscription<'a> {
    Subscription {
        filter: input.pick(&FILTERS),
        options: SubscribeOptions {
            qos: input.qos(),
            no_local: bits & 1 != 0,
            retain_as_published: bits & 2 != 0,
            retain_handling: match bits >> 2 & 3 {
                0 | 3 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
        },
    }
}

pub fn publish(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let bits = input.byte();
    let qos = input.qos();
    let alias = (bits & 4 != 0 && version == Version::V5).then_some(1 + u16::from(bits >> 6));
    let publish = Publish {
        dup: bits & 1 != 0 && qos > QoS::AtMostOnce,
        qos,
        retain: bits & 2 != 0,
        topic: input.pick(&TOPICS).as_bytes(),
        packet_id: (qos > QoS::AtMostOnce).then(|| input.packet_id()),
        properties: PublishProperties {
            topic_alias: alias,
            message_expiry_s: (bits & 8 != 0).then_some(6),
            ..PublishProperties::default()
        },
        payload: &b"payload of some bytes"[..usize::from(bits >> 3) % 20],
    };
    publish.encode(version, out);
}

/// One with all that may travel with it.
pub fn request(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let bits = input.byte();
    let qos = input.qos();
    let topic = input.pick(&TOPICS);
    let publish = Publish {
        dup: false,
        qos,
        retain: bits & 1 != 0,
        topic: topic.as_bytes(),
        packet_id: (qos > QoS::AtMostOnce).then(|| input.packet_id()),
        properties: PublishProperties {
            payload_format: (bits & 2 != 0).then_some(true),
            message_expiry_s: (bits & 4 != 0).then_some(u32::from(bits >> 4)),
            content_type: (bits & 8 != 0).then_some("text"),
            response_topic: Some("a/answer"),
            correlation_data: (bits & 16 != 0).then_some(b"17"),
            user_properties: UserProperties::parse(PROPERTIES).expect("they are valid"),
            ..PublishProperties::default()
        },
        payload: input.bytes(),
    };
    if publish.topic.is_empty() && version == Version::V5 {
        return;
    }
    publish.encode(version, out);
}

/// A retained message on each of some topics: more than fit into a page.
pub fn retain_many(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let count = 1 + usize::from(input.byte()) % 7;
    let is_deletion = input.byte() & 3 == 3;
    for topic in ["a", "a/b", "a/b/c", "b", "a/c", "a/d", "one/x"]
        .into_iter()
        .take(count)
    {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: topic.as_bytes(),
            packet_id: None,
            properties: PublishProperties::default(),
            payload: if is_deletion { b"" } else { b"kept" },
        };
        publish.encode(version, out);
    }
}

pub fn acknowledge(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let kinds = [
        AckKind::Puback,
        AckKind::Pubrec,
        AckKind::Pubrel,
        AckKind::Pubcomp,
    ];
    let kind = input.pick(&kinds);
    let id = input.packet_id();
    let refusal = match kind {
        AckKind::Puback | AckKind::Pubrec => ReasonCode::QuotaExceeded,
        AckKind::Pubrel | AckKind::Pubcomp => ReasonCode::PacketIdentifierNotFound,
    };
    let is_refused = version == Version::V5 && input.byte() & 3 == 3;
    let ack = match is_refused {
        true => Ack::with_reason(id, refusal),
        false => Ack::success(id),
    };
    ack.encode(kind, version, out);
}

pub fn disconnect(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let bits = input.byte();
    let mut disconnect = Disconnect::new(match bits & 1 {
        0 => ReasonCode::NormalDisconnection,
        _ => ReasonCode::DisconnectWithWill,
    });
    if version == Version::V5 {
        disconnect.properties = DisconnectProperties {
            session_expiry_s: (bits & 2 != 0).then_some(u32::from(bits >> 4)),
            ..DisconnectProperties::default()
        };
    }
    disconnect.encode(version, out);
}

/// The next word of an exchange, or another one; `server_data` is what the broker said last.
pub fn authenticate(server_data: &[u8], input: &mut Input<'_>, out: &mut Vec<u8>) {
    let bits = input.byte();
    let proof = Scram::of("bob", "pencil", server_data).map(|scram| scram.proof);
    let (reason, data) = match bits % 6 {
        0 => (ReasonCode::ReAuthenticate, CLIENT_FIRST.to_vec()),
        1 => (ReasonCode::ContinueAuthentication, CLIENT_FIRST.to_vec()),
        2 | 3 => (
            ReasonCode::ContinueAuthentication,
            proof.unwrap_or_default().into_bytes(),
        ),
        4 => (ReasonCode::ReAuthenticate, TOKEN.to_vec()),
        _ => (ReasonCode::ContinueAuthentication, input.bytes().to_vec()),
    };
    let auth = Auth {
        reason,
        properties: AuthProperties {
            authentication_method: Some(match bits % 6 {
                4 => "JWT",
                _ if bits < 250 => METHOD,
                _ => "other",
            }),
            authentication_data: (!data.is_empty()).then_some(&data),
            ..AuthProperties::default()
        },
    };
    auth.encode(out);
}

/// Holds for 40 seconds.
const TOKEN: &[u8] = b"token:alice:40:publish=#,subscribe=a/#,deny=a/b";
const CLIENT_FIRST: &[u8] = b"n,,n=bob,r=abc";
