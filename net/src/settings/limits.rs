//! The rows of what a client is offered and of the bounds: fields of `ringmq_core::limits::Limits`.

use super::value::{Kind, Value};
use super::{IN_RANGE, MINUTE_MS, PACKET_SIZE_MAX, Setting, TIB, U16_MAX, U32_MAX, range};
use ringmq_core::codec::QoS;
use ringmq_core::limits::{RateExceeded, Redirect, ShareStrategy};
use std::time::Duration;

/// A row for a number in the limits.
macro_rules! limit {
    ($field:ident as $key:literal, $flag:literal, $kind:expr, $help:literal) => {
        Setting {
            section: "limits",
            key: $key,
            flag: $flag,
            kind: $kind,
            auto: None,
            help: $help,
            get: |settings| Value::Number(u64::from(settings.limits.$field)),
            set: |settings, value| {
                settings.limits.$field = value.number().try_into().expect(IN_RANGE);
            },
        }
    };
}

/// A row for a number in the terms of admission.
macro_rules! admission {
    ($field:ident, $flag:literal, $help:literal) => {
        Setting {
            section: "limits",
            key: stringify!($field),
            flag: $flag,
            kind: Kind::Count(range(0, 1_000_000_000)),
            auto: None,
            help: $help,
            get: |settings| Value::Number(u64::from(settings.admission.$field)),
            set: |settings, value| {
                settings.admission.$field = value.number().try_into().expect(IN_RANGE);
            },
        }
    };
}

/// Section by section.
pub const ROWS: &[Setting] = &[
    Setting {
        section: "limits",
        key: "connect_deadline",
        flag: "connect-deadline",
        kind: Kind::Millis(range(100, 5 * MINUTE_MS)),
        auto: None,
        help: "Time from accept to a complete CONNECT; then the connection is closed. Bytes that trickle in do not extend it.",
        get: |settings| {
            let millis = settings.limits.connect_deadline.as_millis();
            Value::Number(millis.try_into().expect(IN_RANGE))
        },
        set: |settings, value| {
            settings.limits.connect_deadline = Duration::from_millis(value.number());
        },
    },
    admission!(
        connect_rate_max,
        "connect-rate-max",
        "Connections per second that one listener of a shard accepts, after a burst of as many; others \
         wait until they are accepted. 0 sets no bound."
    ),
    admission!(
        connect_rate_per_address_max,
        "connect-rate-per-address-max",
        "Connections per second and shard of one address (IPv6: /64), after a burst of as many; others \
         are refused. 0 sets no bound."
    ),
    admission!(
        connections_per_address_max,
        "connections-per-address-max",
        "Most connections of one address (IPv6: /64), over all shards; others are refused. 0 sets no bound."
    ),
    limit!(
        connect_size_max as "connect_size_max",
        "connect-size-max",
        Kind::Size(range(128, PACKET_SIZE_MAX)),
        "Largest CONNECT packet: what a client that was not let in yet may make the broker hold."
    ),
    limit!(
        packet_size_max as "packet_size_max",
        "packet-size-max",
        Kind::Size(range(128, PACKET_SIZE_MAX)),
        "Largest packet that a client may send, fixed header included. MQTT 5.0 clients are told in CONNACK."
    ),
    limit!(
        client_id_size_max as "client_id_size_max",
        "client-id-size-max",
        Kind::Size(range(23, U16_MAX)),
        "Longest client identifier."
    ),
    limit!(
        topic_size_max as "topic_size_max",
        "topic-size-max",
        Kind::Size(range(1, U16_MAX)),
        "Longest topic name or topic filter."
    ),
    limit!(
        topic_levels_max as "topic_levels_max",
        "topic-levels-max",
        Kind::Count(range(1, U16_MAX)),
        "Most levels of a topic name or topic filter."
    ),
    limit!(
        subscriptions_max as "subscriptions_max",
        "subscriptions-max",
        Kind::Count(range(1, 10_000_000)),
        "Most subscriptions of one client."
    ),
    limit!(
        user_properties_max as "user_properties_max",
        "user-properties-max",
        Kind::Count(range(0, U32_MAX)),
        "Most user properties of a CONNECT, a will or a message."
    ),
    limit!(
        message_rate_max as "message_rate_max",
        "message-rate-max",
        Kind::Count(range(0, 1_000_000_000)),
        "Messages per second that one client may publish, after a burst of as many; 0 sets no bound."
    ),
    limit!(
        byte_rate_max as "byte_rate_max",
        "byte-rate-max",
        Kind::Size(range(0, U32_MAX)),
        "Bytes per second that one client may send, after a burst of as many; 0 sets no bound."
    ),
    Setting {
        section: "limits",
        key: "rate_exceeded",
        flag: "rate-exceeded",
        kind: Kind::Choice(&[RateExceeded::Slow.name(), RateExceeded::Disconnect.name()]),
        auto: None,
        help: "What happens to a client above `message_rate_max` or `byte_rate_max`: its socket is read \
               less, which slows it down and loses nothing, or it is closed.",
        get: |settings| Value::Text(settings.limits.rate_exceeded.name().to_owned()),
        set: |settings, value| {
            let word = value.text();
            let named = RateExceeded::ALL.iter().find(|one| one.name() == word);
            settings.limits.rate_exceeded = *named.expect("one of the words");
        },
    },
    limit!(
        keep_alive_max_s as "keep_alive_max",
        "keep-alive-max",
        Kind::Seconds(range(0, U16_MAX)),
        "Longest keep alive. Clients that ask for more, or for none, get this one; 0 sets no bound."
    ),
    limit!(
        session_expiry_max_s as "session_expiry_max",
        "session-expiry-max",
        Kind::Seconds(range(0, U32_MAX)),
        "Longest time that the session of an absent client is kept. MQTT 3.1.1 clients without \
         clean session get it too. 4294967295 keeps sessions for ever."
    ),
    limit!(
        inflight_messages_max as "inflight_messages_max",
        "inflight-messages-max",
        Kind::Count(range(1, U16_MAX)),
        "QoS 1 and 2 messages in flight to a client that states no Receive Maximum."
    ),
    limit!(
        inflight_bytes_max as "inflight_bytes_max",
        "inflight-bytes-max",
        Kind::Size(range(0, 2 << 30)),
        "Bytes of the messages in flight to one client whose session is kept; the others wait in its queue."
    ),
    limit!(
        receive_maximum as "receive_maximum",
        "receive-maximum",
        Kind::Count(range(1, U16_MAX)),
        "QoS 2 messages that a client may have open towards the broker: the Receive Maximum of CONNACK."
    ),
    Setting {
        section: "limits",
        key: "receive_maximum_enforced",
        flag: "receive-maximum-enforced",
        kind: Kind::Switch,
        auto: None,
        help: "Close clients that exceed the Receive Maximum; if false, up to 65535 open messages are tolerated.",
        get: |settings| Value::Switch(settings.limits.receive_maximum_enforced),
        set: |settings, value| settings.limits.receive_maximum_enforced = value.switch(),
    },
    limit!(
        queued_messages_max as "queued_messages_max",
        "queued-messages-max",
        Kind::Count(range(0, 1_000_000_000)),
        "QoS 1 and 2 messages that wait for one client, beyond those in flight."
    ),
    limit!(
        queued_bytes_max as "queued_bytes_max",
        "queued-bytes-max",
        Kind::Size(range(0, 2 << 30)),
        "Bytes of the messages that wait for one client."
    ),
    limit!(
        total_queued_messages_max as "total_queued_messages_max",
        "total-queued-messages-max",
        Kind::Count(range(0, 1_000_000_000)),
        "QoS 1 and 2 messages that wait for all clients of one shard together."
    ),
    limit!(
        total_queued_bytes_max as "total_queued_bytes_max",
        "total-queued-bytes-max",
        Kind::Size(range(0, TIB)),
        "Bytes of the messages that wait for all clients of one shard, or are in flight to those whose \
         sessions are kept. A message for several clients counts for each."
    ),
    limit!(
        unsent_bytes_max as "unsent_bytes_max",
        "unsent-bytes-max",
        // Twice as much, and a packet, have to fit four bytes.
        Kind::Size(range(4096, 1 << 30)),
        "Unsent bytes of one connection above which QoS 0 messages to it are dropped."
    ),
    limit!(
        total_unsent_bytes_max as "total_unsent_bytes_max",
        "total-unsent-bytes-max",
        Kind::Size(range(0, TIB)),
        "Unsent bytes of all connections of one shard above which those with more than 64 KiB count as \
         slow, too."
    ),
    limit!(
        partial_bytes_max as "partial_bytes_max",
        "partial-bytes-max",
        Kind::Size(range(64 << 10, 1 << 40)),
        "Bytes of packets that have arrived in part, over all connections of one shard; above, a connection that adds \
         to them is closed."
    ),
    limit!(
        topic_alias_max as "topic_alias_max",
        "topic-alias-max",
        Kind::Count(range(0, U16_MAX)),
        "Topic aliases that a client may use towards the broker; 0 turns them off."
    ),
    limit!(
        topic_alias_outbound_max as "topic_alias_outbound_max",
        "topic-alias-outbound-max",
        Kind::Count(range(0, 1024)),
        "Topic aliases that the broker uses towards a client that takes as many; 0 turns them off. \
         Half are for the topics that come first, half for those that come first twice."
    ),
    Setting {
        section: "limits",
        key: "payload_format_checked",
        flag: "payload-format-checked",
        kind: Kind::Switch,
        auto: None,
        help: "Refuse messages and wills whose payload claims to be UTF-8 and is not.",
        get: |settings| Value::Switch(settings.limits.payload_format_checked),
        set: |settings, value| settings.limits.payload_format_checked = value.switch(),
    },
    limit!(
        retained_messages_max as "retained_messages_max",
        "retained-messages-max",
        Kind::Count(range(0, 1_000_000_000)),
        "Retained messages of one shard."
    ),
    limit!(
        retained_bytes_max as "retained_bytes_max",
        "retained-bytes-max",
        Kind::Size(range(0, TIB)),
        "Bytes of the retained messages of one shard."
    ),
    limit!(
        retained_page_max as "retained_page_max",
        "retained-page-max",
        Kind::Count(range(1, 65_536)),
        "Retained messages that a shard prepares for one new subscription at a time; the next ones when \
         the client has taken them."
    ),
    limit!(
        sessions_max as "sessions_max",
        "sessions-max",
        Kind::Count(range(1, 1_000_000_000)),
        "Sessions of one shard, connected or not."
    ),
    Setting {
        section: "mqtt",
        key: "qos_max",
        flag: "qos-max",
        kind: Kind::Count(range(0, 2)),
        auto: None,
        help: "Highest QoS of messages. Subscriptions that ask for more are granted this one; MQTT \
               5.0 clients are told in CONNACK.",
        get: |settings| Value::Number(settings.limits.qos_max as u64),
        set: |settings, value| {
            settings.limits.qos_max = match value.number() {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
        },
    },
    Setting {
        section: "mqtt",
        key: "retain_available",
        flag: "retain-available",
        kind: Kind::Switch,
        auto: None,
        help: "Clients may publish retained messages.",
        get: |settings| Value::Switch(settings.limits.retain_available),
        set: |settings, value| settings.limits.retain_available = value.switch(),
    },
    Setting {
        section: "mqtt",
        key: "wildcards_available",
        flag: "wildcards-available",
        kind: Kind::Switch,
        auto: None,
        help: "Clients may subscribe with `+` and `#`.",
        get: |settings| Value::Switch(settings.limits.wildcards_available),
        set: |settings, value| settings.limits.wildcards_available = value.switch(),
    },
    Setting {
        section: "mqtt",
        key: "response_information",
        flag: "response-information",
        kind: Kind::Text,
        auto: None,
        help: "What MQTT 5.0 clients are told that ask for Response Information: where they may let \
               others answer them, such as `replies/%c/`, in which `%c` is the client identifier.",
        get: |settings| Value::Text(settings.limits.response_information.to_string()),
        set: |settings, value| settings.limits.response_information = value.text().into(),
    },
    Setting {
        section: "mqtt",
        key: "server_reference",
        flag: "server-reference",
        kind: Kind::Text,
        auto: None,
        help: "Another server, such as `mqtt.example.org:1883`, that MQTT 5.0 clients are referred to \
               according to `server_redirect`; more than one with blanks between.",
        get: |settings| Value::Text(settings.limits.server_reference.to_string()),
        set: |settings, value| settings.limits.server_reference = value.text().into(),
    },
    Setting {
        section: "mqtt",
        key: "server_redirect",
        flag: "server-redirect",
        kind: Kind::Choice(&[
            Redirect::WhenFull.name(),
            Redirect::Temporarily.name(),
            Redirect::Permanently.name(),
        ]),
        auto: None,
        help: "Which clients are sent to another server: those for whom there is no room, if there is \
               a `server_reference`; or all, for the time being (maintenance) or for good.",
        get: |settings| Value::Text(settings.limits.server_redirect.name().to_owned()),
        set: |settings, value| {
            let word = value.text();
            let named = Redirect::ALL.iter().find(|one| one.name() == word);
            settings.limits.server_redirect = *named.expect("one of the words");
        },
    },
    Setting {
        section: "shared",
        key: "available",
        flag: "shared-available",
        kind: Kind::Switch,
        auto: None,
        help: "Clients may make shared subscriptions (`$share/NAME/FILTER`), those of MQTT 3.1.1 too.",
        get: |settings| Value::Switch(settings.limits.share_available),
        set: |settings, value| settings.limits.share_available = value.switch(),
    },
    Setting {
        section: "shared",
        key: "strategy",
        flag: "shared-strategy",
        kind: Kind::Choice(&[
            ShareStrategy::RoundRobin.name(),
            ShareStrategy::Random.name(),
            ShareStrategy::Sticky.name(),
            ShareStrategy::HashClient.name(),
            ShareStrategy::HashTopic.name(),
            ShareStrategy::LeastInFlight.name(),
        ]),
        auto: None,
        help: "Which member of a group gets a message: they take turns, anyone, the one that joined \
               first, by a hash of the publisher's client identifier or of the topic, or, on each \
               shard, the one with the fewest messages in flight. Members that are away, out of \
               quota or slow are passed over.",
        get: |settings| Value::Text(settings.limits.share_strategy.name().to_owned()),
        set: |settings, value| {
            let word = value.text();
            let named = ShareStrategy::ALL.iter().find(|one| one.name() == word);
            settings.limits.share_strategy = *named.expect("one of the words");
        },
    },
    Setting {
        section: "shared",
        key: "queued_while_away",
        flag: "shared-queued-while-away",
        kind: Kind::Switch,
        auto: None,
        help: "While no member of a group is connected, QoS 1 and 2 messages wait for one whose \
               session is kept; if false, they are dropped and counted as `no_member`.",
        get: |settings| Value::Switch(settings.limits.share_queued_while_away),
        set: |settings, value| settings.limits.share_queued_while_away = value.switch(),
    },
];
