//! The settings of what the broker offers and of its bounds: fields of
//! `ringmq_core::limits::Limits`.

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
        help: "Time from accept to a complete CONNECT, after which the connection is closed. \
               Partial data does not extend it.",
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
        "Connections per second that a listener of a shard accepts, after a burst of as many; \
         further ones wait. 0: no limit."
    ),
    admission!(
        connect_rate_per_address_max,
        "connect-rate-per-address-max",
        "Connections per second and shard from one address (IPv6: /64), after a burst of as many; \
         further ones are refused. 0: no limit."
    ),
    admission!(
        connections_per_address_max,
        "connections-per-address-max",
        "Maximum number of connections from one address (IPv6: /64), all shards together; further \
         ones are refused. 0: no limit."
    ),
    limit!(
        connect_size_max as "connect_size_max",
        "connect-size-max",
        Kind::Size(range(128, PACKET_SIZE_MAX)),
        "Maximum size of a CONNECT packet, which limits the memory that a client can take before \
         it is admitted."
    ),
    limit!(
        packet_size_max as "packet_size_max",
        "packet-size-max",
        Kind::Size(range(128, PACKET_SIZE_MAX)),
        "Maximum size of a packet from a client, fixed header included. MQTT 5.0 clients see it in \
         CONNACK."
    ),
    limit!(
        client_id_size_max as "client_id_size_max",
        "client-id-size-max",
        Kind::Size(range(23, U16_MAX)),
        "Maximum length of a client identifier."
    ),
    limit!(
        topic_size_max as "topic_size_max",
        "topic-size-max",
        Kind::Size(range(1, U16_MAX)),
        "Maximum length of a topic name or topic filter."
    ),
    limit!(
        topic_levels_max as "topic_levels_max",
        "topic-levels-max",
        Kind::Count(range(1, U16_MAX)),
        "Maximum number of levels of a topic name or topic filter."
    ),
    limit!(
        subscriptions_max as "subscriptions_max",
        "subscriptions-max",
        Kind::Count(range(1, 10_000_000)),
        "Maximum number of subscriptions of a client."
    ),
    limit!(
        user_properties_max as "user_properties_max",
        "user-properties-max",
        Kind::Count(range(0, U32_MAX)),
        "Maximum number of user properties of a CONNECT, a will or a message."
    ),
    limit!(
        message_rate_max as "message_rate_max",
        "message-rate-max",
        Kind::Count(range(0, 1_000_000_000)),
        "Messages per second that a client may publish, after a burst of as many. 0: no limit."
    ),
    limit!(
        byte_rate_max as "byte_rate_max",
        "byte-rate-max",
        Kind::Size(range(0, U32_MAX)),
        "Bytes per second that a client may send, after a burst of as many. 0: no limit."
    ),
    Setting {
        section: "limits",
        key: "rate_exceeded",
        flag: "rate-exceeded",
        kind: Kind::Choice(&[RateExceeded::Slow.name(), RateExceeded::Disconnect.name()]),
        auto: None,
        help: "What happens to a client above `message_rate_max` or `byte_rate_max`: it is slowed \
               down, without loss, or disconnected.",
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
        "Maximum keep alive. Clients that ask for more, or for none, get this value. 0: no limit."
    ),
    limit!(
        session_expiry_max_s as "session_expiry_max",
        "session-expiry-max",
        Kind::Seconds(range(0, U32_MAX)),
        "Maximum time that the session of a disconnected client is kept. Also the time for MQTT \
         3.1.1 clients without clean session. 4294967295 keeps sessions forever."
    ),
    limit!(
        inflight_messages_max as "inflight_messages_max",
        "inflight-messages-max",
        Kind::Count(range(1, U16_MAX)),
        "Maximum number of QoS 1 and 2 messages in flight to a client without a Receive Maximum."
    ),
    limit!(
        inflight_bytes_max as "inflight_bytes_max",
        "inflight-bytes-max",
        Kind::Size(range(0, 2 << 30)),
        "Maximum size of the messages in flight to a client with a persistent session; further \
         ones wait in its queue."
    ),
    limit!(
        receive_maximum as "receive_maximum",
        "receive-maximum",
        Kind::Count(range(1, U16_MAX)),
        "Maximum number of QoS 2 messages in flight from a client: the Receive Maximum in CONNACK."
    ),
    Setting {
        section: "limits",
        key: "receive_maximum_enforced",
        flag: "receive-maximum-enforced",
        kind: Kind::Switch,
        auto: None,
        help: "Disconnect clients that exceed the Receive Maximum; if false, up to 65535 messages \
               in flight are tolerated.",
        get: |settings| Value::Switch(settings.limits.receive_maximum_enforced),
        set: |settings, value| settings.limits.receive_maximum_enforced = value.switch(),
    },
    limit!(
        queued_messages_max as "queued_messages_max",
        "queued-messages-max",
        Kind::Count(range(0, 1_000_000_000)),
        "Maximum number of QoS 1 and 2 messages queued for a client, besides those in flight."
    ),
    limit!(
        queued_bytes_max as "queued_bytes_max",
        "queued-bytes-max",
        Kind::Size(range(0, 2 << 30)),
        "Maximum size of the messages queued for a client."
    ),
    limit!(
        total_queued_messages_max as "total_queued_messages_max",
        "total-queued-messages-max",
        Kind::Count(range(0, 1_000_000_000)),
        "Maximum number of QoS 1 and 2 messages queued in a shard, all clients together."
    ),
    limit!(
        total_queued_bytes_max as "total_queued_bytes_max",
        "total-queued-bytes-max",
        Kind::Size(range(0, TIB)),
        "Maximum size of the messages queued in a shard, or in flight to clients with persistent \
         sessions. A message counts once for each client."
    ),
    limit!(
        unsent_bytes_max as "unsent_bytes_max",
        "unsent-bytes-max",
        // Twice as much, and a packet, have to fit four bytes.
        Kind::Size(range(4096, 1 << 30)),
        "Unsent bytes of a connection above which QoS 0 messages to it are dropped."
    ),
    limit!(
        total_unsent_bytes_max as "total_unsent_bytes_max",
        "total-unsent-bytes-max",
        Kind::Size(range(0, TIB)),
        "Unsent bytes in a shard, all connections together, above which every connection with more \
         than 64 KiB counts as slow."
    ),
    limit!(
        partial_bytes_max as "partial_bytes_max",
        "partial-bytes-max",
        Kind::Size(range(64 << 10, 1 << 40)),
        "Maximum size of incomplete packets in a shard, all connections together; a connection \
         that exceeds it is closed."
    ),
    limit!(
        topic_alias_max as "topic_alias_max",
        "topic-alias-max",
        Kind::Count(range(0, U16_MAX)),
        "Maximum number of topic aliases from a client; 0 turns them off."
    ),
    limit!(
        topic_alias_outbound_max as "topic_alias_outbound_max",
        "topic-alias-outbound-max",
        Kind::Count(range(0, 1024)),
        "Maximum number of topic aliases that the broker uses towards a client that allows as \
         many; 0 turns them off. Half are for the first topics, half for the first topics that \
         come twice."
    ),
    Setting {
        section: "limits",
        key: "payload_format_checked",
        flag: "payload-format-checked",
        kind: Kind::Switch,
        auto: None,
        help: "Refuse messages and wills whose payload is declared as UTF-8 but is not.",
        get: |settings| Value::Switch(settings.limits.payload_format_checked),
        set: |settings, value| settings.limits.payload_format_checked = value.switch(),
    },
    limit!(
        retained_messages_max as "retained_messages_max",
        "retained-messages-max",
        Kind::Count(range(0, 1_000_000_000)),
        "Maximum number of retained messages in a shard."
    ),
    limit!(
        retained_bytes_max as "retained_bytes_max",
        "retained-bytes-max",
        Kind::Size(range(0, TIB)),
        "Maximum size of the retained messages in a shard."
    ),
    limit!(
        retained_page_max as "retained_page_max",
        "retained-page-max",
        Kind::Count(range(1, 65_536)),
        "Retained messages that a shard prepares at a time for a new subscription; more follow \
         when the client has received them."
    ),
    limit!(
        sessions_max as "sessions_max",
        "sessions-max",
        Kind::Count(range(1, 1_000_000_000)),
        "Maximum number of sessions in a shard, connected or not."
    ),
    Setting {
        section: "mqtt",
        key: "qos_max",
        flag: "qos-max",
        kind: Kind::Count(range(0, 2)),
        auto: None,
        help: "Maximum QoS of messages. Subscriptions that ask for more are granted this one; MQTT \
               5.0 clients see it in CONNACK.",
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
        help: "Response Information for MQTT 5.0 clients that ask for it: a topic prefix for \
               responses, such as `replies/%c/`, where `%c` is the client identifier.",
        get: |settings| Value::Text(settings.limits.response_information.to_string()),
        set: |settings, value| settings.limits.response_information = value.text().into(),
    },
    Setting {
        section: "mqtt",
        key: "server_reference",
        flag: "server-reference",
        kind: Kind::Text,
        auto: None,
        help: "Server, such as `mqtt.example.org:1883`, that MQTT 5.0 clients are redirected to \
               according to `server_redirect`; several are separated by spaces.",
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
        help: "Which clients are redirected: those beyond a limit, if there is a \
               `server_reference`; or all, temporarily (maintenance) or permanently.",
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
        help: "Clients may use shared subscriptions (`$share/NAME/FILTER`), also with MQTT 3.1.1.",
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
        help: "Which member of a group gets a message: in turn, a random one, the one that joined \
               first, by a hash of the publisher's client identifier or of the topic, or, on each \
               shard, the one with the fewest messages in flight. Members that are disconnected, \
               out of quota or slow are skipped.",
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
        help: "While no member of a group is connected, queue QoS 1 and 2 messages for one with a \
               persistent session; if false, they are dropped and counted as `no_member`.",
        get: |settings| Value::Switch(settings.limits.share_queued_while_away),
        set: |settings, value| settings.limits.share_queued_while_away = value.switch(),
    },
];
