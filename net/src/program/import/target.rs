//! The settings that come of Mosquitto's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::settings::SECTIONS;
use crate::settings::value::quote;

/// What the lines so far have led to.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// Values as TOML, by section and key.
    keys: BTreeMap<(&'static str, &'static str), String>,
    /// The listener of the lines before the first `listener`, if they say anything of it.
    first: Port,
    ports: Vec<Port>,
    /// Who may do what, unless that is said for each listener.
    access: Access,
    pub(super) is_per_listener: bool,
    /// The lines of a bridge follow.
    pub(super) is_in_bridge: bool,
    log: Option<Log>,
}

/// A listener.
#[derive(Debug, Default)]
pub(super) struct Port {
    /// A line says something of it.
    pub(super) is_given: bool,
    pub(super) port: Option<u16>,
    pub(super) place: Where,
    pub(super) is_websocket: bool,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) crl: Option<String>,
    pub(super) asks_for_certificates: bool,
    pub(super) names_by_certificate: bool,
    pub(super) version_min: Option<&'static str>,
    pub(super) connections_max: Option<u64>,
    access: Access,
}

/// Where a listener listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Where {
    /// All addresses.
    #[default]
    Anywhere,
    /// Those of IPv4.
    AnywhereV4,
    At(IpAddr),
    /// 127.0.0.1 and ::1.
    Here,
    Unix(String),
    /// At a name that is not resolved: nowhere.
    Nowhere,
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) anonymous: Option<bool>,
    pub(super) password_file: Option<String>,
    pub(super) acl_file: Option<String>,
}

/// What is logged: the most of all `log_type` lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Log {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

/// The result.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) toml: String,
    /// What is to be known besides.
    pub(super) remarks: Vec<String>,
}

impl Target {
    /// A value, as TOML; a later line wins.
    pub(super) fn set(&mut self, section: &'static str, key: &'static str, toml: impl ToString) {
        self.keys.insert((section, key), toml.to_string());
    }

    /// The listener that lines are about.
    pub(super) fn port(&mut self) -> &mut Port {
        let port = self.ports.last_mut().unwrap_or(&mut self.first);
        port.is_given = true;
        port
    }

    pub(super) fn begin_port(&mut self, port: u16, place: Where) {
        self.ports.push(Port {
            port: Some(port),
            place,
            ..Port::default()
        });
        self.port();
    }

    /// Of the listener that lines are about, or of all.
    pub(super) fn access(&mut self) -> &mut Access {
        match self.is_per_listener {
            true => &mut self.port().access,
            false => &mut self.access,
        }
    }

    pub(super) fn log(&mut self, log: Log) {
        self.log = Some(self.log.map_or(log, |most| most.max(log)));
    }

    /// The file that all of it comes to.
    pub(super) fn settle(mut self) -> Settled {
        let mut remarks = Vec::new();
        let mut ports = std::mem::take(&mut self.ports);
        let is_local = ports.is_empty() && !self.first.is_given;
        if ports.is_empty() || self.first.is_given {
            ports.insert(0, std::mem::take(&mut self.first));
        }
        if is_local {
            ports[0].place = Where::Here;
        }
        self.settle_access(&ports, is_local, &mut remarks);
        self.settle_connections(&ports, &mut remarks);
        if let Some(log) = self.log {
            let filter = match log {
                Log::Off => "off",
                Log::Error => "error",
                Log::Warn => "warn",
                Log::Info => "info",
                Log::Debug => "debug",
            };
            self.set("log", "filter", quote(filter));
        }
        let (plain, layered): (Vec<&Port>, Vec<&Port>) =
            ports.iter().partition(|port| port.layers().is_empty());
        let plain: Vec<String> = plain.iter().flat_map(|port| port.addresses()).collect();
        if !plain.is_empty() {
            self.set("network", "listen", list(&plain));
        }
        let mut toml = self.sections();
        for port in layered {
            let _ = write!(
                toml,
                "\n[[listener]]\nlisten = {}\n",
                list(&port.addresses())
            );
            for (key, value) in port.layers() {
                let _ = writeln!(toml, "{key} = {value}");
            }
        }
        Settled { toml, remarks }
    }

    fn settle_access(&mut self, ports: &[Port], is_local: bool, remarks: &mut Vec<String>) {
        let access = match self.is_per_listener {
            false => self.access.clone(),
            true if ports.iter().all(|port| port.access == ports[0].access) => {
                ports[0].access.clone()
            }
            true => {
                remarks.push(
                    "per_listener_settings: the listeners differ in who may do what, and here that \
                     holds for all: no users and rules are taken over; docs/running.md says how to \
                     tell clients apart"
                        .to_owned(),
                );
                Access {
                    anonymous: Some(false),
                    ..Access::default()
                }
            }
        };
        // Without a listener, everybody of this machine is let in.
        if access.anonymous.unwrap_or(is_local) {
            self.set("network", "allow_anonymous", true);
        }
        for (key, file) in [
            ("password_file", access.password_file),
            ("acl_file", access.acl_file),
        ] {
            if let Some(file) = file {
                self.set("auth", key, list(&[file]));
            }
        }
    }

    fn settle_connections(&mut self, ports: &[Port], remarks: &mut Vec<String>) {
        let bounds: Option<Vec<u64>> = ports.iter().map(|port| port.connections_max).collect();
        match bounds {
            Some(bounds) => {
                let sum: u64 = bounds.iter().sum();
                self.set("network", "connections_max", sum.clamp(1, CONNECTIONS_MAX));
                if bounds.len() > 1 {
                    remarks.push(format!(
                        "max_connections: {sum} for all listeners together, where each had its own"
                    ));
                }
            }
            None if ports.iter().any(|port| port.connections_max.is_some()) => remarks.push(
                "max_connections: not for all listeners, and connections_max would be for all of \
                 them: it is not set"
                    .to_owned(),
            ),
            None => {}
        }
    }

    /// The sections of the file, in their usual order, with Mosquitto's defaults at hand.
    fn sections(&self) -> String {
        let mut toml = String::new();
        for (section, _) in SECTIONS {
            let own = self.keys.iter().filter(|((of, _), _)| of == section);
            let mut own: Vec<(&str, &String)> =
                own.map(|((_, key), value)| (*key, value)).collect();
            let order = |key: &str| ORDER.iter().position(|known| *known == key);
            own.sort_by_key(|(key, _)| (order(key).unwrap_or(ORDER.len()), *key));
            if !own.is_empty() {
                let _ = write!(toml, "\n[{section}]\n");
            }
            for (key, value) in own {
                let _ = writeln!(toml, "{key} = {value}");
            }
        }
        let given: BTreeSet<&str> = self.keys.keys().map(|(_, key)| *key).collect();
        let has_limits = self.keys.keys().any(|(section, _)| *section == "limits");
        toml += "\n# Defaults of Mosquitto that differ from those here, to be put into [limits]:\n";
        if !has_limits {
            toml += "# [limits]\n";
        }
        for (key, value, why) in DEFAULTS {
            if !given.contains(key) {
                let _ = writeln!(toml, "# {key} = {value} # {why}");
            }
        }
        toml
    }
}

impl Port {
    fn addresses(&self) -> Vec<String> {
        let scheme = match (self.is_websocket, self.certificate.is_some()) {
            (false, false) => "",
            (false, true) => "mqtts://",
            (true, false) => "ws://",
            (true, true) => "wss://",
        };
        let usual = if self.certificate.is_some() {
            8883
        } else {
            1883
        };
        let port = self.port.unwrap_or(usual);
        let at = |ip: IpAddr| format!("{scheme}{}", SocketAddr::new(ip, port));
        match &self.place {
            Where::Anywhere => vec![at(Ipv6Addr::UNSPECIFIED.into())],
            Where::AnywhereV4 => vec![at(Ipv4Addr::UNSPECIFIED.into())],
            Where::At(ip) => vec![at(*ip)],
            Where::Here => vec![
                at(Ipv4Addr::LOCALHOST.into()),
                at(Ipv6Addr::LOCALHOST.into()),
            ],
            Where::Unix(path) => vec![format!("unix:{path}")],
            Where::Nowhere => Vec::new(),
        }
    }

    /// What a `[[listener]]` table says besides its addresses.
    fn layers(&self) -> Vec<(&'static str, String)> {
        let files = |file: &Option<String>| file.clone().map(|file| list(&[file]));
        let asks = self.asks_for_certificates;
        let rows = [
            ("tls.certificate", files(&self.certificate)),
            ("tls.key", files(&self.key)),
            ("tls.client_certificate", asks.then(|| quote("required"))),
            ("tls.client_ca", files(&self.ca).filter(|_| asks)),
            ("tls.client_crl", files(&self.crl).filter(|_| asks)),
            (
                "tls.identity",
                (asks && self.names_by_certificate).then(|| quote("cn")),
            ),
            ("tls.version_min", self.version_min.map(quote)),
        ];
        let rows = rows
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        match self.certificate.is_some() {
            true => rows.collect(),
            false => Vec::new(),
        }
    }
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// Keys that come first in their sections.
const ORDER: [&str; 3] = ["listen", "allow_anonymous", "password_file"];
/// As the settings bound it.
const CONNECTIONS_MAX: u64 = 50_000_000;
/// Limits that Mosquitto sets otherwise.
const DEFAULTS: &[(&str, &str, &str)] = &[
    (
        "session_expiry_max",
        "\"4294967295s\"",
        "sessions stay for ever",
    ),
    (
        "queued_messages_max",
        "1000",
        "messages queued for a client",
    ),
    ("queued_bytes_max", "\"2GiB\"", "no limit"),
    (
        "inflight_messages_max",
        "20",
        "messages in flight to a client",
    ),
    ("packet_size_max", "\"256MiB\"", "as large as MQTT permits"),
    ("topic_alias_max", "10", "topic aliases of a client"),
];
