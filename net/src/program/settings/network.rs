//! The settings of section `[network]`.

use super::value::{Kind, Value};
use super::{IN_RANGE, Setting, range};

/// The rows of section `[network]`.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        section: "network",
        key: "listen",
        flag: "listen",
        kind: Kind::Addresses,
        auto: None,
        help: "Addresses to listen on: IP:PORT for MQTT over TCP, mqtts://IP:PORT with TLS, \
               ws://IP:PORT and wss://IP:PORT for WebSocket, unix:PATH for a Unix socket, systemd:NAME \
               for a socket that the service manager passes. Port 0 \
               takes a free port.",
        get: |settings| Value::Addresses(settings.listen.clone()),
        set: |settings, value| settings.listen = value.addresses(),
    },
    Setting {
        section: "network",
        key: "allow_anonymous",
        flag: "allow-anonymous",
        kind: Kind::Switch,
        auto: None,
        help: "Admit clients without credentials. Needed to listen on an address that other \
               machines can reach if there is no authentication.",
        get: |settings| Value::Switch(settings.allow_anonymous),
        set: |settings, value| settings.allow_anonymous = value.switch(),
    },
    Setting {
        section: "network",
        key: "connections_max",
        flag: "connections-max",
        kind: Kind::Count(range(1, 50_000_000)),
        auto: Some("as many as the limit of open files leaves room for"),
        help: "Maximum number of connections, all shards together. Further clients are refused.",
        get: |settings| {
            settings
                .connections_max
                .map_or(Value::Auto, |n| Value::Number(n.into()))
        },
        set: |settings, value| {
            let number = value.number_or_auto();
            settings.connections_max = number.map(|n| n.try_into().expect(IN_RANGE));
        },
    },
];
