//! What Mosquitto's options mean here.
//!
//! A line is taken on, or it is said why not: what is the same anyway counts as taken on.

use std::net::IpAddr;

use ringmq_problem::nearest;

use super::conf::Statement;
use super::target::{Log, Target, Where};
use crate::settings::value::quote;

/// Taken on, or why not and what to do.
type Taken = Result<(), String>;

/// What a line is about.
type Subject = fn(&mut Target, &str, &str) -> Option<Taken>;

/// Takes a line on.
pub(super) fn take(target: &mut Target, statement: &Statement) -> Taken {
    let (name, value) = (&*statement.name, &*statement.value);
    if name == "connection" {
        target.is_in_bridge = true;
        return Err(NO_BRIDGES.to_owned());
    }
    if name == "listener" {
        target.is_in_bridge = false;
    }
    let is_of_bridge = name.starts_with("bridge_") || OF_BRIDGES.contains(&name);
    if target.is_in_bridge && is_of_bridge {
        return Err("it belongs to the bridge above".to_owned());
    }
    let subjects: [Subject; 6] = [access, listener, tls, limits, store, log];
    let taken = subjects
        .iter()
        .find_map(|subject| subject(target, name, value));
    taken.unwrap_or_else(|| Err(why_not(name, value)))
}

fn access(target: &mut Target, name: &str, value: &str) -> Option<Taken> {
    Some(match name {
        "per_listener_settings" => switch(value).map(|is| target.is_per_listener = is),
        "allow_anonymous" => switch(value).map(|is| target.access().anonymous = Some(is)),
        "password_file" => file(value).map(|file| target.access().password_file = Some(file)),
        "acl_file" | "aclfile" => file(value).map(|file| target.access().acl_file = Some(file)),
        _ => return None,
    })
}

fn listener(target: &mut Target, name: &str, value: &str) -> Option<Taken> {
    Some(match name {
        "listener" => begin(target, value),
        "port" => port(value).map(|port| target.port().port = Some(port)),
        "bind_address" => place(value).map(|place| target.port().place = place),
        "socket_domain" => match value {
            "ipv4" => {
                target.port().place = Where::AnywhereV4;
                Ok(())
            }
            "ipv6" => Ok(()),
            _ => Err("it is neither ipv4 nor ipv6".to_owned()),
        },
        "protocol" => match value {
            "mqtt" => Ok(()),
            "websockets" => {
                target.port().is_websocket = true;
                Ok(())
            }
            _ => Err(format!(
                "there is no protocol `{value}` here: leave this listener out"
            )),
        },
        "max_connections" | "global_max_connections" if value.starts_with('-') => Ok(()),
        "max_connections" => number(value).map(|count| target.port().connections_max = Some(count)),
        "global_max_connections" => {
            number(value).map(|count| target.set("network", "connections_max", count.max(1)))
        }
        "set_tcp_nodelay" => Ok(()), // Always.
        _ => return None,
    })
}

fn begin(target: &mut Target, value: &str) -> Taken {
    let (number, rest) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    let number = port(number)?;
    let rest = rest.trim();
    let place = match number {
        0 if rest.starts_with('/') => Ok(Where::Unix(rest.to_owned())),
        _ => place(rest),
    };
    target.begin_port(number, place.clone().unwrap_or(Where::Nowhere));
    place.map(|_| ())
}

fn tls(target: &mut Target, name: &str, value: &str) -> Option<Taken> {
    Some(match name {
        "certfile" => file(value).map(|file| target.port().certificate = Some(file)),
        "keyfile" => file(value).map(|file| target.port().key = Some(file)),
        "cafile" => file(value).map(|file| target.port().ca = Some(file)),
        "crlfile" => file(value).map(|file| target.port().crl = Some(file)),
        "require_certificate" => switch(value).map(|is| target.port().asks_for_certificates = is),
        "use_identity_as_username" => {
            switch(value).map(|is| target.port().names_by_certificate = is)
        }
        "tls_version" => match value {
            "tlsv1.3" => {
                target.port().version_min = Some("1.3");
                Ok(())
            }
            "tlsv1.2" => {
                target.port().version_min = Some("1.2");
                Ok(())
            }
            _ => Err("TLS begins with 1.2 here: older clients cannot connect".to_owned()),
        },
        _ => return None,
    })
}

fn limits(target: &mut Target, name: &str, value: &str) -> Option<Taken> {
    let mut set = |key: &'static str, toml: String| target.set("limits", key, toml);
    let most = |count: u64, most: u64| if count == 0 { most } else { count.min(most) };
    Some(match name {
        "max_inflight_messages" => {
            number(value).map(|n| set("inflight_messages_max", most(n, 65_535).to_string()))
        }
        "max_inflight_bytes" => {
            number(value).map(|n| set("inflight_bytes_max", most(n, 2 << 30).to_string()))
        }
        "max_queued_messages" => {
            number(value).map(|n| set("queued_messages_max", most(n, 1_000_000_000).to_string()))
        }
        "max_queued_bytes" => {
            number(value).map(|n| set("queued_bytes_max", most(n, 2 << 30).to_string()))
        }
        "max_packet_size" => number(value).map(|n| {
            set(
                "packet_size_max",
                most(n, PACKET_SIZE_MAX).max(128).to_string(),
            )
        }),
        // Of a payload: its topic and the header come on top.
        "message_size_limit" => number(value).map(|n| {
            let packet = if n == 0 {
                PACKET_SIZE_MAX
            } else {
                n.saturating_add(HEAD_SIZE)
            };
            set("packet_size_max", packet.min(PACKET_SIZE_MAX).to_string());
        }),
        "max_keepalive" => {
            number(value).map(|n| set("keep_alive_max", quote(&format!("{}s", n.min(65_535)))))
        }
        "max_topic_alias" => {
            number(value).map(|n| set("topic_alias_max", n.min(65_535).to_string()))
        }
        "persistent_client_expiration" => {
            days(value).map(|days| set("session_expiry_max", quote(&days)))
        }
        "max_qos" => number(value).map(|n| target.set("mqtt", "qos_max", n.min(2))),
        "retain_available" => switch(value).map(|is| target.set("mqtt", "retain_available", is)),
        "sys_interval" => number(value).map(|n| target.set("runtime", "sys_interval", n)),
        _ => return None,
    })
}

fn store(target: &mut Target, name: &str, value: &str) -> Option<Taken> {
    Some(match name {
        "persistence" => switch(value).map(|is| {
            if is {
                target.set("store", "data_dir", quote(DATA_DIR));
            }
        }),
        "persistence_location" | "persistence_file" => Err(format!(
            "the data directory has a form of its own, at {DATA_DIR}; what mosquitto.db holds is \
             not read: copy \
             retained messages with mosquitto_sub --retained-only, and have clients connect again"
        )),
        "autosave_interval" | "autosave_on_changes" => Err(
            "with a data directory, what is acknowledged is stored at once; `policy` in [store] \
             says how safely"
                .to_owned(),
        ),
        _ => return None,
    })
}

fn log(target: &mut Target, name: &str, value: &str) -> Option<Taken> {
    Some(match name {
        "log_dest" => match value {
            "stderr" => Ok(()),
            "none" => {
                target.log(Log::Off);
                Ok(())
            }
            _ => Err(TO_STDERR.to_owned()),
        },
        "log_type" => {
            let log = match value {
                "none" => Log::Off,
                "error" => Log::Error,
                "warning" => Log::Warn,
                "notice" | "information" => Log::Info,
                "all" | "debug" => Log::Debug,
                _ => return Some(Err(NO_SUCH_LOG.to_owned())),
            };
            target.log(log);
            Ok(())
        }
        "log_timestamp" | "log_timestamp_format" => {
            Err("log lines have the time in UTC, as RFC 3339 writes it".to_owned())
        }
        "log_facility" => Err(TO_STDERR.to_owned()),
        "connection_messages" => {
            Err("`filter` in [log] says what is logged: info,ringmq::clients=debug, say".to_owned())
        }
        _ => return None,
    })
}

/// Why there is no equal.
fn why_not(name: &str, value: &str) -> String {
    if DEFAULTS.contains(&(name, value)) {
        return "this is so anyway: the line is not needed".to_owned();
    }
    if let Some((_, why)) = WITHOUT_EQUAL.iter().find(|(known, _)| *known == name) {
        return (*why).to_owned();
    }
    let is_of_plugin = ["plugin_opt_", "auth_opt_"];
    if is_of_plugin.iter().any(|start| name.starts_with(start)) {
        return NO_PLUGINS.to_owned();
    }
    if name.starts_with("bridge_") || OF_BRIDGES.contains(&name) {
        return "it belongs to a bridge, and there is none above".to_owned();
    }
    match nearest(name, all_names()) {
        Some(near) => format!("Mosquitto has no such option: did you mean {near}?"),
        None => "Mosquitto 2.0 has no such option".to_owned(),
    }
}

fn all_names() -> impl Iterator<Item = &'static str> {
    let without = WITHOUT_EQUAL.iter().map(|(name, _)| *name);
    without.chain(TAKEN.iter().chain(OF_BRIDGES).copied())
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{value}` is neither true nor false")),
    }
}

fn number(value: &str) -> Result<u64, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is not a whole number"))
}

fn port(value: &str) -> Result<u16, String> {
    value
        .parse()
        .map_err(|_| format!("`{value}` is not a port"))
}

fn file(value: &str) -> Result<String, String> {
    match value {
        "" => Err("it names no file".to_owned()),
        file => Ok(file.to_owned()),
    }
}

fn place(value: &str) -> Result<Where, String> {
    match (value, value.parse::<IpAddr>()) {
        ("", _) => Ok(Where::Anywhere),
        ("localhost", _) => Ok(Where::Here),
        (_, Ok(ip)) => Ok(Where::At(ip)),
        (_, Err(_)) => Err(format!(
            "`{value}` is a host name, and those are not resolved: add `listen` with its addresses"
        )),
    }
}

/// `2w` as days.
fn days(value: &str) -> Result<String, String> {
    let wrong = || format!("`{value}` is not a time span such as 12h, 14d, 2w, 1m or 1y");
    let end = value.char_indices().next_back().map_or(0, |(at, _)| at);
    let (count, unit) = value.split_at(end);
    let count: u64 = count.parse().map_err(|_| wrong())?;
    let (each, unit) = match unit {
        "h" => (1, "h"),
        "d" => (1, "d"),
        "w" => (7, "d"),
        "m" => (30, "d"),
        "y" => (365, "d"),
        _ => return Err(wrong()),
    };
    // Some 136 years are the most that MQTT can say.
    let most = if unit == "h" { 49_710 * 24 } else { 49_710 };
    Ok(format!("{}{unit}", count.saturating_mul(each).min(most)))
}

/// What MQTT permits.
const PACKET_SIZE_MAX: u64 = 256 << 20;
/// Of a topic, and what else stands before a payload.
const HEAD_SIZE: u64 = 4096;
/// As the package has it.
const DATA_DIR: &str = "/var/lib/ringmq";

/// What is so here as well, with or without the line.
const DEFAULTS: &[(&str, &str)] = &[
    ("allow_zero_length_clientid", "true"),
    ("check_retain_source", "true"),
    ("upgrade_outgoing_qos", "false"),
    ("queue_qos0_messages", "false"),
    ("use_username_as_clientid", "false"),
    ("use_subject_as_username", "false"),
    ("allow_duplicate_messages", "false"),
    ("memory_limit", "0"),
];

const NO_BRIDGES: &str = "outgoing bridges are not there yet: have the other broker connect to \
                          this one, or keep a \
                          Mosquitto for it";
const TO_STDERR: &str = "the log goes to stderr: systemd keeps it in the journal, and `2> FILE` \
                         in a file";
const NO_SUCH_LOG: &str = "there is no such part of the log; `ringmq ctl trace` shows what \
                           clients do";
const NO_PLUGINS: &str = "plugins cannot be loaded: tokens (docs/tokens.md) or a service that is \
                          asked by HTTP \
                          (docs/hooks.md) can do the same";
const NO_PSK: &str = "there are no pre-shared keys: use certificates, or passwords over TLS";
const BY_SYSTEMD: &str = "the service manager does that: see the unit of the package";
const BY_RUSTLS: &str = "TLS has no such choice here: it is rustls, with ciphers that are safe";

/// Options without an equal: why, and what to do.
const WITHOUT_EQUAL: &[(&str, &str)] = &[
    (
        "allow_duplicate_messages",
        "a client whose subscriptions overlap gets a message once",
    ),
    (
        "allow_zero_length_clientid",
        "clients without an identifier are assigned one",
    ),
    (
        "auto_id_prefix",
        "clients without an identifier are assigned one without a prefix",
    ),
    ("auth_plugin", NO_PLUGINS),
    ("auth_plugin_deny_special_chars", NO_PLUGINS),
    ("plugin", NO_PLUGINS),
    (
        "bind_interface",
        "name the address of that interface: listen = [\"ADDRESS:PORT\"]",
    ),
    (
        "capath",
        "directories are not searched: name the files in `tls.client_ca`",
    ),
    (
        "check_retain_source",
        "retained messages are always subject to the permissions of their publisher",
    ),
    ("ciphers", BY_RUSTLS),
    ("ciphers_tls1.3", BY_RUSTLS),
    ("dhparamfile", BY_RUSTLS),
    ("tls_engine", BY_RUSTLS),
    ("tls_engine_kpass_sha1", BY_RUSTLS),
    ("tls_keyform", "keys are files in PEM, without a passphrase"),
    (
        "clientid_prefixes",
        "client identifiers are not restricted: use users and rules",
    ),
    ("http_dir", "no files are served: use a web server"),
    (
        "include_dir",
        "this directory, or a file in it, cannot be read here: import it where it can",
    ),
    (
        "memory_limit",
        "memory has bounds by its use: total_queued_bytes_max, retained_bytes_max, \
         total_unsent_bytes_max in [limits], for each shard",
    ),
    (
        "mount_point",
        "there are no mount points: give the clients of this listener rules of their own",
    ),
    ("pid_file", BY_SYSTEMD),
    ("user", BY_SYSTEMD),
    ("psk_file", NO_PSK),
    ("psk_hint", NO_PSK),
    (
        "queue_qos0_messages",
        "QoS 0 messages are not queued for clients that are away: publish with QoS 1",
    ),
    (
        "retain_expiry_interval",
        "retained messages stay until they are replaced: publish them with a Message Expiry \
         Interval",
    ),
    (
        "upgrade_outgoing_qos",
        "a subscriber never gets more than the QoS of the message",
    ),
    (
        "use_subject_as_username",
        "a user name comes from one field of the certificate: `tls.identity` is cn, san-dns, \
         san-email or san-uri",
    ),
    (
        "use_username_as_clientid",
        "identifiers are those that clients send: a rule with %u binds topics to users",
    ),
    (
        "websockets_headers_size",
        "heads of WebSocket requests may have 16 KiB",
    ),
    (
        "websockets_log_level",
        "`filter` in [log] says what is logged",
    ),
    (
        "websockets_origin",
        "`websocket.origins` of the listener takes them, with their scheme: \
         [\"https://app.example\"]",
    ),
    (
        "enable_proxy_protocol",
        "`proxy.trusted` takes the addresses of the proxies",
    ),
    ("global_plugin", NO_PLUGINS),
];

/// Those of `connection` blocks that do not begin with `bridge_`.
const OF_BRIDGES: &[&str] = &[
    "address",
    "addresses",
    "cleansession",
    "clientid",
    "idle_timeout",
    "keepalive_interval",
    "local_cleansession",
    "local_clientid",
    "local_password",
    "local_username",
    "notification_topic",
    "notifications",
    "notifications_local_only",
    "password",
    "remote_clientid",
    "remote_password",
    "remote_username",
    "restart_timeout",
    "round_robin",
    "start_type",
    "threshold",
    "topic",
    "try_private",
    "username",
];

/// Options that are taken on, for those that are misspelt.
const TAKEN: &[&str] = &[
    "acl_file",
    "allow_anonymous",
    "autosave_interval",
    "autosave_on_changes",
    "bind_address",
    "cafile",
    "certfile",
    "connection",
    "connection_messages",
    "crlfile",
    "global_max_connections",
    "keyfile",
    "listener",
    "log_dest",
    "log_facility",
    "log_timestamp",
    "log_timestamp_format",
    "log_type",
    "max_connections",
    "max_inflight_bytes",
    "max_inflight_messages",
    "max_keepalive",
    "max_packet_size",
    "max_qos",
    "max_queued_bytes",
    "max_queued_messages",
    "max_topic_alias",
    "message_size_limit",
    "password_file",
    "per_listener_settings",
    "persistence",
    "persistent_client_expiration",
    "port",
    "protocol",
    "require_certificate",
    "retain_available",
    "sys_interval",
    "use_identity_as_username",
];
