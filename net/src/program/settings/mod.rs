//! Every setting of the broker, defined once.
//!
//! From [`TABLE`] come the options of the command line, the keys of the configuration file,
//! `--help`, `docs/settings.md` and the error messages; the defaults are those of
//! [`Settings::default`], and the limits have theirs in `ringmq_core::limits`. The rows stand with
//! the subject of their sections: `network.rs`, `auth.rs`, `layers.rs`, `runtime.rs`, `hooks.rs`,
//! `jwt.rs`, `limits.rs`.
//!
//! Invariants:
//! - every field of [`Settings`] has exactly one row (a test takes the struct apart to see it).
//! - `set(get(settings))` changes nothing; `set` is only called with a value of the row's kind.
//!
//! Not here: where values come from (`cli.rs`, `file.rs`).

pub mod admin;
pub mod auth;
#[cfg(test)]
mod bounds;
mod check;
pub mod cli;
pub mod file;
pub mod hooks;
pub mod jwt;
pub mod layers;
mod limits;
pub mod listen;
pub mod listeners;
mod network;
#[cfg(test)]
mod page;
mod read;
pub mod runtime;
pub mod shown;
mod store;
pub mod value;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use admin::AdminSettings;
use auth::AuthSettings;
use listen::{Layers, Listen, ListenerTable};
use ringmq::{Admission, BrokerConfig, ListenerConfig, RingConfig};
use ringmq_core::limits::Limits;
use runtime::Cores;
use store::StoreSettings;
use value::{Items, Kind, Range, Value};

/// A row for paths of files.
macro_rules! files {
    ($section:literal, $key:literal, $flag:literal, $($field:ident).+, $help:literal) => {
        Setting {
            section: $section,
            key: $key,
            flag: $flag,
            kind: Kind::List(Items::Paths),
            auto: None,
            help: $help,
            get: |settings| paths(&settings.$($field).+),
            set: |settings, value| settings.$($field).+ = to_paths(value),
        }
    };
}

use files;

/// All settings of the broker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Vec<Listen>,
    /// The layers between TCP and MQTT there.
    pub layers: Layers,
    /// Listeners with layers of their own.
    pub listeners: Vec<ListenerTable>,
    /// Admits clients without credentials, from other machines too.
    pub allow_anonymous: bool,
    /// Who may connect, and what they may do.
    pub auth: AuthSettings,
    /// Maximum number of connections, all shards together; `None`: as many as the open-file limit
    /// allows.
    pub connections_max: Option<u32>,
    /// Limits per address, and of the rate of connections; its `connections_max` is not used.
    pub admission: Admission,
    /// Shards; `None`: one per core.
    pub shards: Option<usize>,
    /// The cores that the shards run on.
    pub cores: Cores,
    /// The ring of each shard.
    pub ring: RingConfig,
    /// Maximum number of messages from other shards that wait for one shard.
    pub inbox_messages_max: usize,
    /// How often `$SYS` is published; zero: never.
    pub sys_interval: Duration,
    /// Where and how sessions and messages are kept.
    pub store: StoreSettings,
    /// The control plane.
    pub admin: AdminSettings,
    /// What to log.
    pub log_filter: String,
    /// `text` or `json`.
    pub log_format: String,
    /// The limits of one shard.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        let broker = BrokerConfig::default();
        Settings {
            listen: vec![Listen::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)))],
            layers: Layers::default(),
            listeners: Vec::new(),
            allow_anonymous: false,
            auth: AuthSettings::default(),
            connections_max: None,
            admission: broker.admission,
            shards: None,
            cores: Cores::Auto,
            ring: broker.ring,
            inbox_messages_max: broker.inbox_messages_max,
            sys_interval: broker.sys_interval,
            store: StoreSettings::default(),
            admin: AdminSettings::default(),
            log_filter: "info".to_owned(),
            log_format: "text".to_owned(),
            limits: Limits::default(),
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Table of the configuration file that the key stands in.
    pub section: &'static str,
    /// Key within its section.
    pub key: &'static str,
    /// Option of the command line, without the dashes.
    pub flag: &'static str,
    /// What it holds, and the range.
    pub kind: Kind,
    /// What `auto` means, where the broker can choose.
    pub auto: Option<&'static str>,
    /// What it does, in a sentence or two; says what a special value means.
    pub help: &'static str,
    /// Reads it.
    pub get: fn(&Settings) -> Value,
    /// Writes it; the value is of the row's kind and within its range.
    pub set: fn(&mut Settings, Value),
}

impl Setting {
    /// `section.key`, the name in messages.
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The default value.
    pub fn default_value(&self) -> Value {
        (self.get)(&Settings::default())
    }

    /// A value as a user would write it.
    pub fn show(&self, value: &Value) -> String {
        self.kind.show(value)
    }

    /// What it does, its default and its range: `text [default: 1; 1 to 9]`.
    pub fn about(&self) -> String {
        let range = self.kind.range_text();
        let range = if range.is_empty() {
            range
        } else {
            format!("; {range}")
        };
        format!("{} [default: {}{range}]", self.help, self.show_default())
    }

    /// The default, and what it means if the broker chooses.
    pub fn show_default(&self) -> String {
        match self.auto {
            Some(meaning) => format!("auto, {meaning}"),
            None => self.show(&self.default_value()),
        }
    }

    /// A new value needs a restart.
    pub fn needs_restart(&self) -> bool {
        let is_reloaded = match self.section {
            "auth" => self.kind == Kind::List(Items::Paths) || self.key == "default",
            "tls" | "jwt" => true,
            "hooks" => !matches!(self.key, "questions_max" | "queue_max"),
            "admin" => matches!(self.key, "token_file" | "certificate" | "key"),
            "log" => self.key == "filter",
            _ => self.flag == "allow-anonymous",
        };
        !is_reloaded
    }

    /// Reads what a user wrote.
    pub fn parse(&self, text: &str) -> Result<Value, value::Complaint> {
        if self.auto.is_some() && text == "auto" {
            return Ok(Value::Auto);
        }
        self.kind.parse(text)
    }
}

/// The sections of the file, in order, each with what it is about.
pub const SECTIONS: &[(&str, &str)] = &[
    ("network", "Where clients connect"),
    ("auth", "Who may connect, and what clients may do"),
    (
        "hooks",
        "Services that say who may connect, and what clients may do",
    ),
    ("jwt", "Tokens (JSON Web Tokens) in place of passwords"),
    ("tls", "TLS, for addresses with mqtts:// or wss://"),
    ("websocket", "WebSocket, for addresses with ws:// or wss://"),
    ("proxy", "PROXY protocol, if clients come through proxies"),
    ("runtime", "How the machine is used"),
    ("store", "What outlives the process"),
    ("admin", "The control plane: for operators, on this machine"),
    ("log", "What the broker says about itself, on stderr"),
    ("limits", "Bounds per packet, per client and per shard"),
    ("mqtt", "What clients are offered"),
    (
        "shared",
        "Shared subscriptions: groups that share what a filter matches",
    ),
];

/// All settings, section by section.
pub static TABLE: &[Setting] = &JOINED;

/// Where rows stand.
const PARTS: &[&[Setting]] = &[
    network::ROWS,
    auth::ROWS,
    layers::ROWS,
    runtime::ROWS,
    store::ROWS,
    admin::ROWS,
    hooks::ROWS,
    jwt::ROWS,
    limits::ROWS,
];

const ROWS_COUNT: usize = {
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
};

static JOINED: [Setting; ROWS_COUNT] = {
    let mut joined = [network::ROWS[0]; ROWS_COUNT];
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        let mut index = 0;
        while index < PARTS[part].len() {
            joined[count] = PARTS[part][index];
            count += 1;
            index += 1;
        }
        part += 1;
    }
    joined
};

fn paths(paths: &[PathBuf]) -> Value {
    Value::List(paths.iter().map(|p| p.display().to_string()).collect())
}

fn to_paths(value: Value) -> Vec<PathBuf> {
    value.list().into_iter().map(PathBuf::from).collect()
}

impl Settings {
    /// Every address to listen on, with its layers.
    pub fn all_listeners(&self) -> impl Iterator<Item = (&Listen, &Layers)> {
        let own = self.listen.iter().map(|listen| (listen, &self.layers));
        let tables = self.listeners.iter();
        own.chain(tables.flat_map(|t| t.listen.iter().map(|listen| (listen, &t.layers))))
    }

    /// Clients can authenticate: then whatever no rule covers is denied.
    pub fn has_authentication(&self) -> bool {
        let mut listeners = self.all_listeners();
        self.auth.is_on() || listeners.any(|(listen, layers)| listen.proves_clients(layers))
    }

    /// Clients need no credentials, except where certificates are required. Without any
    /// authentication the listeners are local, or `allow_anonymous` is set.
    pub fn lets_strangers_in(&self) -> bool {
        self.allow_anonymous || !self.auth.is_on()
    }

    /// A client without any credentials is admitted there.
    pub fn lets_in_nameless(&self, listen: &Listen, layers: &Layers) -> bool {
        let is_asked = listen.proves_clients(layers) && !self.allow_anonymous;
        self.lets_strangers_in() && !is_asked && !listen.has_certificates(layers)
    }

    /// The listeners, as the broker takes them.
    pub fn listener_configs(&self) -> Vec<ListenerConfig> {
        let all = self.all_listeners();
        all.map(|(listen, layers)| listen.config(layers)).collect()
    }
}

/// The row of that key in that section.
pub fn by_key(section: &str, key: &str) -> Option<&'static Setting> {
    TABLE
        .iter()
        .find(|row| row.section == section && row.key == key)
}

/// The row of that option, without its dashes.
pub fn by_flag(flag: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|row| row.flag == flag)
}

const fn range(min: u64, max: u64) -> Range {
    Range { min, max }
}

const IN_RANGE: &str = "the range of a setting fits its field";
const U16_MAX: u64 = u16::MAX as u64;
const U32_MAX: u64 = u32::MAX as u64;
const MINUTE_MS: u64 = 60 * 1000;
const TIB: u64 = 1 << 40;

/// The largest remaining length of MQTT and its header take 268,435,460 bytes; this is just below.
const PACKET_SIZE_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::hooks::HookSettings;
    use ringmq::auth::jwt::{Demands, JwtConfig};
    use ringmq::auth::{AuthServiceConfig, HookConfig};
    use ringmq::transport::TlsFiles;

    use super::jwt::{FetchSettings, JwtSettings};
    use super::*;

    #[test]
    fn every_field_has_a_row() {
        // A field that is added without a row does not compile here, or shows in the count.
        let Settings {
            listen: _,
            layers:
                Layers {
                    tls:
                        TlsFiles {
                            certificates: _,
                            keys: _,
                            client_cas: _,
                            client_crls: _,
                            client_certificate: _,
                            identity: _,
                            only_tls13: _,
                            record_size: _,
                        },
                    origins: _,
                    proxies: _,
                    proxy_common_name: _,
                },
            // Tables of the file, made of the rows of the layers.
            listeners: _,
            allow_anonymous: _,
            auth:
                AuthSettings {
                    password_files: _,
                    scram_files: _,
                    acl_files: _,
                    rules_files: _,
                    default: _,
                    jwt:
                        JwtSettings {
                            keys: _,
                            jwks_files: _,
                            jwks_urls: _,
                            fetch:
                                FetchSettings {
                                    cas: _,
                                    refresh: _,
                                    timeout: _,
                                    stale_max: _,
                                },
                            config:
                                JwtConfig {
                                    field: _,
                                    size_max: _,
                                    demands:
                                        Demands {
                                            issuers: _,
                                            audiences: _,
                                            leeway: _,
                                            expiry_required: _,
                                            user: _,
                                            user_name_checked: _,
                                            client_id: _,
                                            publish: _,
                                            subscribe: _,
                                            deny: _,
                                            deny_publish: _,
                                            deny_subscribe: _,
                                        },
                                },
                        },
                    service:
                        AuthServiceConfig {
                            threads: _,
                            queue_max: _,
                            waiting_threads: _,
                            waiting_queue_max: _,
                        },
                    hooks:
                        HookSettings {
                            authentication_url: _,
                            authorization_url: _,
                            headers: _,
                            config:
                                HookConfig {
                                    // Read from the addresses.
                                    authentication: _,
                                    authorization: _,
                                    cas: _,
                                    timeout: _,
                                    failures_max: _,
                                    pause: _,
                                    rules_last: _,
                                },
                        },
                },
            connections_max: _,
            admission:
                Admission {
                    connections_max: _,
                    connections_per_address_max: _,
                    connect_rate_max: _,
                    connect_rate_per_address_max: _,
                },
            shards: _,
            cores: _,
            ring:
                RingConfig {
                    entries: _,
                    buffers_count: _,
                    buffer_size: _,
                    wait: _,
                    busy_poll: _,
                },
            inbox_messages_max: _,
            sys_interval: _,
            store:
                StoreSettings {
                    data_dir: _,
                    policy: _,
                    sync_interval: _,
                    free_bytes_min: _,
                    downtime: _,
                },
            admin:
                AdminSettings {
                    listen: _,
                    token_files: _,
                    certificates: _,
                    keys: _,
                    allow_plain: _,
                    open_metrics: _,
                    page: _,
                    stall_threshold: _,
                },
            log_filter: _,
            log_format: _,
            limits,
        } = Settings::default();
        let Limits {
            connect_deadline: _,
            connect_size_max: _,
            packet_size_max: _,
            client_id_size_max: _,
            topic_size_max: _,
            topic_levels_max: _,
            subscriptions_max: _,
            keep_alive_max_s: _,
            session_expiry_max_s: _,
            inflight_messages_max: _,
            inflight_bytes_max: _,
            total_queued_messages_max: _,
            total_queued_bytes_max: _,
            receive_maximum: _,
            receive_maximum_enforced: _,
            queued_messages_max: _,
            queued_bytes_max: _,
            unsent_bytes_max: _,
            total_unsent_bytes_max: _,
            partial_bytes_max: _,
            topic_alias_max: _,
            topic_alias_outbound_max: _,
            payload_format_checked: _,
            retained_messages_max: _,
            retained_bytes_max: _,
            retained_page_max: _,
            sessions_max: _,
            user_properties_max: _,
            message_rate_max: _,
            byte_rate_max: _,
            rate_exceeded: _,
            qos_max: _,
            retain_available: _,
            wildcards_available: _,
            response_information: _,
            server_reference: _,
            server_redirect: _,
            share_available: _,
            share_strategy: _,
            share_queued_while_away: _,
        } = limits;
        assert_eq!(TABLE.len(), 48 + 10 + 21 + 40);
    }

    #[test]
    fn rows_have_names_of_their_own_in_known_sections() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(
                SECTIONS.iter().any(|(name, _)| *name == row.section),
                "{}",
                row.key
            );
            for other in &TABLE[..index] {
                assert_ne!(row.flag, other.flag);
                let names = |row: &Setting| (row.section, row.key);
                assert_ne!(names(row), names(other));
            }
        }
    }

    #[test]
    fn a_row_reads_what_it_writes_and_touches_nothing_else() {
        for row in TABLE {
            let changed = match row.kind {
                Kind::Count(range)
                | Kind::PowerOfTwo(range)
                | Kind::Size(range)
                | Kind::Seconds(range)
                | Kind::Millis(range) => {
                    for bound in [range.min, range.max] {
                        let mut settings = Settings::default();
                        (row.set)(&mut settings, Value::Number(bound));
                        assert_eq!((row.get)(&settings), Value::Number(bound), "{}", row.key);
                    }
                    Value::Number(range.max)
                }
                Kind::Switch => Value::Switch(!row.default_value().switch()),
                Kind::Addresses => Value::Addresses(vec![Listen::parse("ws://[::1]:7").unwrap()]),
                Kind::List(Items::Paths) => Value::List(vec!["/a b".to_owned()]),
                Kind::List(Items::Networks) => Value::List(vec!["10.0.0.0/8".to_owned()]),
                Kind::List(Items::Origins) => Value::List(vec!["https://a".to_owned()]),
                Kind::List(Items::Keys) => Value::List(vec!["ES256@k:/a b".to_owned()]),
                Kind::List(Items::Texts) => Value::List(vec!["https://a/b c".to_owned()]),
                Kind::List(Items::AdminAddresses) => Value::List(vec!["unix:/a b".to_owned()]),
                Kind::List(Items::Urls) => Value::List(vec!["https://a/b".to_owned()]),
                Kind::Cores => Value::Cores(vec![5]),
                Kind::Choice(words) => Value::Text(words[1].to_owned()),
                Kind::LogFilter | Kind::Text | Kind::Directory => Value::Text("off".to_owned()),
            };
            let mut settings = Settings::default();
            (row.set)(&mut settings, changed.clone());
            for other in TABLE {
                let expected = if other.flag == row.flag {
                    changed.clone()
                } else {
                    other.default_value()
                };
                assert_eq!(
                    (other.get)(&settings),
                    expected,
                    "{} sets {}",
                    row.key,
                    other.key
                );
            }
        }
    }

    #[test]
    fn the_default_of_every_row_may_be_written() {
        for row in TABLE {
            let value = row.default_value();
            let shown = row.show(&value);
            assert_eq!(row.parse(&shown), Ok(value), "{} = {shown}", row.key);
        }
    }
}
