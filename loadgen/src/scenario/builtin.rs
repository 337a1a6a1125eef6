//! The scenarios that are built in, by name.
//!
//! The eight `singlenode-*` are those of the Open MQTT Benchmark Suite, under its names and by its
//! rules: MQTT 3.1.1 (5.0 where subscriptions are shared), keep alive 300 s, clean sessions, QoS 1,
//! payloads of 16 bytes, 30 minutes.

use super::Scenario;
use super::file;
use ringmq_problem::{Complaint, Place, Problem, nearest};

macro_rules! builtin {
    ($($name:literal,)*) => {
        /// Names and texts.
        pub const ALL: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../scenarios/", $name, ".toml"))),)*
        ];
    };
}

builtin![
    "pairs",
    "fan-out",
    "fan-in",
    "shared",
    "connect",
    "retained-flood",
    "reconnect-storm",
    "silent-death",
    "takeover-storm",
    "slow-subscriber",
    "mixed",
    "restarts",
    "singlenode-conn-tcp-10K-100",
    "singlenode-conn-tcp-1M-5K",
    "singlenode-fanout-1-1K-1-1K",
    "singlenode-fanout-5-1000-5-250K",
    "singlenode-p2p-1K-1K-1K-1K",
    "singlenode-p2p-50K-50K-50K-50K",
    "singlenode-sharedsub-1K-5-1K-1K",
    "singlenode-sharedsub-50K-500-50K-50K",
];

/// The text of a scenario.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// A scenario by its name.
pub fn load(name: &str) -> Result<Scenario, Vec<Problem>> {
    match text(name) {
        Some(text) => file::parse(name, text),
        None => {
            let fix = match nearest(name, ALL.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`ringload list` shows those that are built in; a file needs its path, \
                         such as ./NAME.toml"
                    .to_owned(),
            };
            let complaint = Complaint::new("is not a scenario", fix);
            Err(vec![complaint.at(Place::CommandLine, format!("`{name}`"))])
        }
    }
}
