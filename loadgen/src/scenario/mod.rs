//! What is to be done: groups of clients, what they publish, what they subscribe to, for how long.
//!
//! A scenario comes from a TOML file ([`file`]), from the command line, or is built in
//! ([`builtin`]); the keys are the same everywhere ([`keys`]). [`Scenario::check`] looks at what no
//! key shows alone.
//!
//! Not here: what follows from it for each client and topic (`plan`).

pub mod builtin;
mod check;
pub mod file;
mod keyed;
pub mod keys;
mod limits;
pub mod pattern;
pub mod payload;
pub mod rates;
pub mod spans;
pub mod stage;
pub mod storm;
pub mod threshold;
pub mod value;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use ringmq_core::codec::{QoS, Version};

use crate::cloud::{Service, sas};
use crate::secrets::MASK;
pub use keyed::Keyed;
use keyed::keyed;
use keys::Form;
use pattern::Pattern;
use payload::Sizes;
use rates::Rates;
use ringmq_problem::file::read_text;
use ringmq_problem::{Complaint, Place};
use spans::Spans;
use stage::Stage;
use storm::Storm;
use threshold::Threshold;

/// A whole scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// For reports.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Publishing before the window.
    pub warmup: Duration,
    /// The window.
    pub duration: Duration,
    /// How long nothing may arrive before the rest counts as lost.
    pub drain: Duration,
    /// How long an answer may take.
    pub answer_timeout: Duration,
    /// The broker may be restarted, and has to keep what it acknowledged.
    pub restarts: bool,
    /// The service of a cloud that it is for.
    pub preset: Option<Service>,
    /// Check it against what that service accepts.
    pub preset_check: bool,
    /// How messages of an open loop are spread.
    pub arrivals: Arrivals,
    /// What the run has to keep to.
    pub thresholds: Vec<Threshold>,
    /// Parts with a rate of their own, in place of warm-up and window; empty: none.
    pub stages: Vec<Stage>,
    /// What happens to the clients, in place of warm-up and window.
    pub storm: Option<Storm>,
    /// In the order in which they connect.
    pub groups: Vec<Group>,
    /// Where it was read from.
    pub place: Place,
    /// Where keys were set, by name; for messages.
    places: HashMap<&'static str, Place>,
}

/// How the messages of an open loop are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly: clients take turns.
    Constant,
    /// At random, independent of each other: so many independent devices.
    Poisson,
    /// So many of a client at a time.
    Bursts(u32),
}

/// A group of clients that do the same.
#[derive(Clone, Debug)]
pub struct Group {
    /// For reports.
    pub name: String,
    /// How many.
    pub clients: u32,
    /// What they speak.
    pub protocol: Version,
    /// Their names.
    pub client_id: Pattern,
    /// Who they claim to be.
    pub user: Option<Pattern>,
    /// How they prove it.
    pub password: Option<Pattern>,
    /// Where that stands.
    pub password_file: Option<String>,
    /// No session before or after.
    pub clean: bool,
    /// How long a session outlives its connection.
    pub session_expiry: Duration,
    /// 0: none.
    pub keep_alive_s: u16,
    /// Over TLS.
    pub tls: bool,
    /// File of the certificates that vouch for the broker.
    pub tls_ca: Option<String>,
    /// Take any certificate.
    pub tls_insecure: bool,
    /// The name that the certificate has to have.
    pub tls_name: Option<String>,
    /// File of the clients' certificate.
    pub tls_cert: Option<String>,
    /// File of its key.
    pub tls_key: Option<String>,
    /// Resume TLS sessions.
    pub tls_resume: bool,
    /// Protocol that is asked for (ALPN).
    pub tls_alpn: Option<String>,
    /// File of the key that signs tokens, in place of a password.
    pub sas_key_file: Option<String>,
    /// That key.
    pub sas_key: Option<sas::Key>,
    /// The policy that the key is of; `None`: it is that of each device.
    pub sas_policy: Option<String>,
    /// How long a token is valid.
    pub sas_expiry: Duration,
    /// Connections per second; `None`: as fast as the broker answers.
    pub connect_rate: Option<f64>,
    /// Maximum number of connections being made at the same time.
    pub connecting_max: u32,
    /// When it connects.
    pub start: Start,
    /// Connect again after a loss.
    pub reconnect: bool,
    /// Cut all connections this often.
    pub cut_every: Option<Duration>,
    /// How long a cut client stays away.
    pub cut_for: Duration,
    /// How long each client stays connected; `None`: to the end.
    pub online: Option<Spans>,
    /// How long it stays away then.
    pub away: Option<Spans>,
    /// QoS of publications and subscriptions.
    pub qos: QoS,
    /// Topics to publish on.
    pub publish: Option<Pattern>,
    /// Payload sizes.
    pub payload: Sizes,
    /// Open loop: messages per second of each client.
    pub rate: Option<Rates>,
    /// How unequal the topics of a client are: the k-th is next a k^S-th as often as the first;
    /// `None`: they take turns.
    pub topics_zipf: Option<f64>,
    /// Closed loop: messages underway of each client.
    pub window: Option<u32>,
    /// How long the rate grows.
    pub ramp: Duration,
    /// Messages of each client; `None`: until the time is over.
    pub messages: Option<u64>,
    /// Unacknowledged messages of a client.
    pub inflight_max: u16,
    /// Publish with RETAIN.
    pub retain: bool,
    /// Topic aliases that each client sets.
    pub topic_aliases: u16,
    /// Filters to subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Receive Maximum in CONNECT.
    pub receive_maximum: Option<u16>,
    /// Bytes per second to read.
    pub receive_rate: Option<u64>,
    /// SO_RCVBUF.
    pub receive_buffer: Option<u32>,
    /// Losses are planned.
    pub may_lose: bool,
    /// Where keys were set, by name; for messages.
    places: HashMap<&'static str, Place>,
    /// Where the group begins.
    place: Place,
}

/// When a group connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Before anything is published.
    First,
    /// When the window begins.
    Window,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            name: "unnamed".to_owned(),
            about: String::new(),
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(10),
            restarts: false,
            preset: None,
            preset_check: true,
            arrivals: Arrivals::Constant,
            thresholds: Vec::new(),
            stages: Vec::new(),
            storm: None,
            groups: Vec::new(),
            place: Place::CommandLine,
            places: HashMap::new(),
        }
    }
}

impl Arrivals {
    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Arrivals, Complaint> {
        let bursts = text.strip_prefix("bursts(");
        match (text, bursts.and_then(|text| text.strip_suffix(')'))) {
            ("constant", _) => Ok(Arrivals::Constant),
            ("poisson", _) => Ok(Arrivals::Poisson),
            (_, Some(count)) => {
                let count = value::count(count.trim(), 1, BURST_MAX)?;
                Ok(Arrivals::Bursts(count as u32))
            }
            _ => Err(Complaint::new(
                format!("is `{text}`"),
                "write constant, poisson or bursts(N)",
            )),
        }
    }

    /// Messages of a client at a time.
    pub fn burst(self) -> u32 {
        match self {
            Arrivals::Constant | Arrivals::Poisson => 1,
            Arrivals::Bursts(count) => count,
        }
    }

    /// As a user would write it.
    pub fn show(self) -> String {
        match self {
            Arrivals::Constant => "constant".to_owned(),
            Arrivals::Poisson => "poisson".to_owned(),
            Arrivals::Bursts(count) => format!("bursts({count})"),
        }
    }
}

impl Default for Group {
    fn default() -> Group {
        Group {
            name: String::new(),
            clients: 1,
            protocol: Version::V311,
            client_id: Pattern::parse("ringload-{run}-{group}-{index}").expect("a valid pattern"),
            user: None,
            password: None,
            password_file: None,
            clean: true,
            session_expiry: Duration::from_secs(3600),
            keep_alive_s: 60,
            tls: false,
            tls_ca: None,
            tls_insecure: false,
            tls_name: None,
            tls_cert: None,
            tls_key: None,
            tls_resume: false,
            tls_alpn: None,
            sas_key_file: None,
            sas_key: None,
            sas_policy: None,
            sas_expiry: Duration::from_secs(3600),
            connect_rate: None,
            connecting_max: 100,
            start: Start::First,
            reconnect: false,
            cut_every: None,
            cut_for: Duration::ZERO,
            online: None,
            away: None,
            qos: QoS::AtMostOnce,
            publish: None,
            payload: Sizes::Fixed(64),
            rate: None,
            topics_zipf: None,
            window: None,
            ramp: Duration::ZERO,
            messages: None,
            inflight_max: 1000,
            retain: false,
            topic_aliases: 0,
            subscribe: Vec::new(),
            receive_maximum: None,
            receive_rate: None,
            receive_buffer: None,
            may_lose: false,
            places: HashMap::new(),
            place: Place::CommandLine,
        }
    }
}

keyed!(Scenario, |_, key| key.to_owned());
keyed!(Group, |group, key| match group.name.as_str() {
    "" => format!("group.{key}"),
    name => format!("{name}.{key}"),
});

impl Scenario {
    /// The run has parts with figures of their own, which say how long it is.
    pub fn has_parts(&self) -> bool {
        !self.stages.is_empty() || self.storm.is_some()
    }

    /// Sockets that are open at the same time: those of clients that fell silent stay.
    pub fn sockets_max(&self) -> u64 {
        let storm = self.storm.as_ref();
        let leaves = storm.filter(|storm| storm.event.leaves_sockets());
        let silent = leaves.map_or(0, |storm| {
            let hit = self.groups.iter().filter(|group| storm.hits(group));
            hit.map(|group| (f64::from(group.clients) * storm.share).ceil() as u64)
                .sum()
        });
        self.client_count() + silent
    }

    /// How long is published before the window.
    pub fn warmup_span(&self) -> Duration {
        match self.has_parts() {
            false => self.warmup,
            true => Duration::ZERO,
        }
    }

    /// How long the window is.
    pub fn window_span(&self) -> Duration {
        if let Some(storm) = &self.storm {
            return storm.span_max();
        }
        match self.stages.is_empty() {
            true => self.duration,
            false => stage::parts(&self.stages)
                .iter()
                .map(|part| part.span)
                .sum(),
        }
    }

    /// The whole scenario as TOML, every key that is not at its default.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for key in keys::SCENARIO {
            put_toml(&mut text, key.name, key.form, &(key.show)(self));
        }
        if let Some(storm) = &self.storm {
            text.push_str("\n[storm]\n");
            for key in keys::STORM {
                put_toml(&mut text, key.name, key.form, &(key.show)(storm));
            }
        }
        for stage in &self.stages {
            text.push_str("\n[[stage]]\n");
            for key in keys::STAGE {
                put_toml(&mut text, key.name, key.form, &(key.show)(stage));
            }
        }
        for group in &self.groups {
            text.push_str("\n[[group]]\n");
            for key in keys::group_keys() {
                put_toml(&mut text, key.name, key.form, &(key.show)(group));
            }
        }
        text
    }

    /// Clients of all groups.
    pub fn client_count(&self) -> u64 {
        self.groups.iter().map(|g| u64::from(g.clients)).sum()
    }
}

impl Group {
    /// A group that begins at a place.
    pub fn at(place: Place) -> Group {
        Group {
            place,
            ..Group::default()
        }
    }

    /// A key was set by the user.
    pub fn is_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// A client that listens to `$SYS`, and gets in as the clients of this group do.
    pub fn listener_to_sys(&self) -> Group {
        Group {
            name: "sys".to_owned(),
            protocol: self.protocol,
            user: self.user.clone(),
            password: self.password.clone(),
            password_file: self.password_file.clone(),
            tls: self.tls,
            tls_ca: self.tls_ca.clone(),
            tls_insecure: self.tls_insecure,
            tls_name: self.tls_name.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            tls_alpn: self.tls_alpn.clone(),
            subscribe: vec![Pattern::parse("$SYS/#").expect("a valid pattern")],
            may_lose: true,
            ..Group::default()
        }
    }

    /// The password as it was written.
    fn set_password(&mut self, text: &str) -> Result<(), Complaint> {
        if text == MASK {
            let what = format!("is `{MASK}`, which stands for a hidden password");
            return Err(Complaint::new(
                what,
                "write the password, or use `password_file`",
            ));
        }
        self.password = Some(Pattern::parse(text)?);
        self.password_file = None;
        Ok(())
    }

    /// The password from the first line of a file.
    fn read_password_file(&mut self, path: &str) -> Result<(), Complaint> {
        let unusable = |why: &str| {
            let what = format!("is `{path}`, which cannot be used: {why}");
            Complaint::new(what, "name a file with the password in its first line")
        };
        let text = read_text(Path::new(path), PASSWORD_FILE_SIZE_MAX)
            .map_err(|fault| unusable(&fault.to_string()))?;
        let first = text.lines().next().filter(|line| !line.is_empty());
        let line = first.ok_or_else(|| unusable("its first line is empty"))?;
        // What is wrong with the pattern would show a part of it.
        let pattern = Pattern::parse(line).map_err(|_| unusable("its first line is no pattern"))?;
        self.password = Some(pattern);
        self.password_file = Some(path.to_owned());
        Ok(())
    }

    /// The key that signs tokens, from the first line of a file.
    fn read_sas_key(&mut self, path: &str) -> Result<(), Complaint> {
        let unusable = |why: &str| {
            let what = format!("is `{path}`, which cannot be used: {why}");
            Complaint::new(
                what,
                "name a file with the key in its first line, in base64",
            )
        };
        let text = read_text(Path::new(path), PASSWORD_FILE_SIZE_MAX)
            .map_err(|fault| unusable(&fault.to_string()))?;
        let first = text.lines().next().unwrap_or_default();
        let key = sas::Key::parse(first).ok_or_else(|| unusable("its first line is no key"))?;
        self.sas_key = Some(key);
        self.sas_key_file = Some(path.to_owned());
        Ok(())
    }

    /// Topics that one client publishes on.
    pub fn topic_count(&self) -> u32 {
        self.publish.as_ref().map_or(0, Pattern::message_count)
    }
}

/// So many messages at a time are a second of the fastest client.
const BURST_MAX: u64 = 100_000;
/// A file whose first line is a password is far smaller: whatever has more was named by mistake.
const PASSWORD_FILE_SIZE_MAX: u64 = 1 << 20;

fn put_toml(text: &mut String, name: &str, form: Form, values: &[String]) {
    // A string of JSON is one of TOML too.
    let quoted = |value: &String| serde_json::Value::from(value.as_str()).to_string();
    let shown = match (form, values) {
        (_, []) => return,
        (Form::Text, [value, ..]) => quoted(value),
        (Form::Bare, [value, ..]) => {
            let is_bare =
                value.parse::<f64>().is_ok() || matches!(value.as_str(), "true" | "false");
            if is_bare {
                value.clone()
            } else {
                quoted(value)
            }
        }
        (Form::List, [value]) => quoted(value),
        (Form::List, values) => {
            let all: Vec<String> = values.iter().map(quoted).collect();
            format!("[{}]", all.join(", "))
        }
    };
    let _ = writeln!(text, "{name} = {shown}");
}
