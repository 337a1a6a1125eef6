//! The settings of sections `[tls]`, `[websocket]` and `[proxy]`: the layers between TCP and MQTT.

use ringmq::transport::RecordSize;

use super::value::{Items, Kind, Value};
use super::{IN_RANGE, Setting, files, listen, paths, range, to_paths};

/// The sections of these rows: a `[[listener]]` table may set their keys.
pub const SECTIONS: [&str; 3] = ["tls", "websocket", "proxy"];

/// The rows of these sections.
pub(super) const ROWS: &[Setting] = &[
    files!(
        "tls",
        "certificate",
        "certificate",
        layers.tls.certificates,
        "Certificate of the broker (PEM), followed by those of intermediate CAs. With several \
         files, a client gets the one for the host name that it asks for (SNI), or the first."
    ),
    files!(
        "tls",
        "key",
        "key",
        layers.tls.keys,
        "Private key of the certificate (PEM), without a passphrase; with several, in the order of \
         the certificates."
    ),
    Setting {
        section: "tls",
        key: "client_certificate",
        flag: "client-certificate",
        kind: Kind::Choice(listen::DEMANDS),
        auto: None,
        help: "Whether clients are asked for a certificate: never, optionally, or always.",
        get: |settings| {
            let demand = settings.layers.tls.client_certificate;
            Value::Text(listen::demand_word(demand).to_owned())
        },
        set: |settings, value| {
            settings.layers.tls.client_certificate = listen::demand_of(&value.text());
        },
    },
    files!(
        "tls",
        "client_ca",
        "client-ca",
        layers.tls.client_cas,
        "CA certificates (PEM) trusted for clients, or the clients' own certificates."
    ),
    files!(
        "tls",
        "client_crl",
        "client-crl",
        layers.tls.client_crls,
        "Certificate revocation lists (PEM) of these CAs. If there are any, each client's CA needs \
         a valid one."
    ),
    Setting {
        section: "tls",
        key: "identity",
        flag: "identity",
        kind: Kind::Choice(listen::IDENTITIES),
        auto: None,
        help: "Which field of a client certificate is the user name: none, the common name, or the \
               first alternative name of that kind. Clients whose certificate lacks it are \
               refused.",
        get: |settings| {
            let identity = settings.layers.tls.identity;
            Value::Text(listen::identity_word(identity).to_owned())
        },
        set: |settings, value| {
            settings.layers.tls.identity = listen::identity_of(&value.text());
        },
    },
    Setting {
        section: "tls",
        key: "version_min",
        flag: "tls-version-min",
        kind: Kind::Choice(&["1.2", "1.3"]),
        auto: None,
        help: "Minimum version of TLS.",
        get: |settings| {
            let is_13 = settings.layers.tls.only_tls13;
            Value::Text(if is_13 { "1.3" } else { "1.2" }.to_owned())
        },
        set: |settings, value| settings.layers.tls.only_tls13 = value.text() == "1.3",
    },
    Setting {
        section: "tls",
        key: "record_size_max",
        flag: "tls-record-size-max",
        kind: Kind::Size(range(RecordSize::MIN.0 as u64, RecordSize::MAX.0 as u64)),
        auto: None,
        help: "Maximum content of a TLS record that the broker sends. For devices with small \
               buffers: set it to their Maximum Fragment Length (512, 1024, 2048 or 4096), which \
               is not negotiated.",
        get: |settings| Value::Number(settings.layers.tls.record_size.0.into()),
        set: |settings, value| {
            let size = value.number().try_into().expect(IN_RANGE);
            settings.layers.tls.record_size = RecordSize(size);
        },
    },
    Setting {
        section: "websocket",
        key: "origins",
        flag: "origins",
        kind: Kind::List(Items::Origins),
        auto: None,
        help: "Origins of web pages that may connect: `https://example.com`, or `*` for all. Pages \
               from the broker's own host and port may anyway, if loaded over https or if that \
               host is an IP address or localhost. Clients other than browsers are not checked.",
        get: |settings| Value::List(settings.layers.origins.clone()),
        set: |settings, value| settings.layers.origins = value.list(),
    },
    Setting {
        section: "proxy",
        key: "trusted",
        flag: "trusted-proxies",
        kind: Kind::List(Items::Networks),
        auto: None,
        help: "Addresses of proxies that send a PROXY header, version 1 or 2. If set, nobody else \
               can connect; on Unix sockets, every peer is trusted.",
        get: |settings| {
            let proxies = settings.layers.proxies.iter();
            Value::List(proxies.map(ToString::to_string).collect())
        },
        set: |settings, value| {
            let parse = |text: String| text.parse().expect("a list of networks was checked");
            settings.layers.proxies = value.list().into_iter().map(parse).collect();
        },
    },
    Setting {
        section: "proxy",
        key: "common_name",
        flag: "proxy-common-name",
        kind: Kind::Switch,
        auto: None,
        help: "Use the common name of the client certificate that the proxy has verified as user \
               name (version 2 only).",
        get: |settings| Value::Switch(settings.layers.proxy_common_name),
        set: |settings, value| settings.layers.proxy_common_name = value.switch(),
    },
];
