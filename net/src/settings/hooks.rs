//! The settings of section `[hooks]`.

use std::path::PathBuf;
use std::time::Duration;

use ringmq::auth::HookConfig;
use ringmq::http::HttpUrl;

use super::value::{Items, Kind, Value};
use super::{IN_RANGE, MINUTE_MS, Setting, files, paths, range, to_paths};

/// Services on the network that say who clients are and what they may do.
#[derive(Clone, Debug, Default)]
pub struct HookSettings {
    /// Says who clients are; empty: nobody is asked.
    pub authentication_url: String,
    /// Says what they may do; empty: nobody is asked.
    pub authorization_url: String,
    /// Lines of headers for every question.
    pub headers: Vec<PathBuf>,
    /// How they are asked, but for their addresses.
    pub config: HookConfig,
}

impl HookSettings {
    /// What the hooks are made with. The addresses were checked.
    pub fn config(&self) -> HookConfig {
        let parse = |text: &String| HttpUrl::parse(text).ok();
        HookConfig {
            authentication: parse(&self.authentication_url),
            authorization: parse(&self.authorization_url),
            ..self.config.clone()
        }
    }

    /// Both addresses, each with its option; empty ones are not set.
    pub fn urls(&self) -> [(&'static str, &str); 2] {
        [
            (AUTHENTICATION_URL, &self.authentication_url),
            (AUTHORIZATION_URL, &self.authorization_url),
        ]
    }
}

const AUTHENTICATION_URL: &str = "hook-authentication-url";
const AUTHORIZATION_URL: &str = "hook-authorization-url";

/// A row for a time in milliseconds.
macro_rules! millis {
    ($key:literal, $flag:literal, $field:ident, $range:expr, $help:literal) => {
        Setting {
            section: "hooks",
            key: $key,
            flag: $flag,
            kind: Kind::Millis($range),
            auto: None,
            help: $help,
            get: |settings| {
                let millis = settings.auth.hooks.config.$field.as_millis();
                Value::Number(millis.try_into().expect(IN_RANGE))
            },
            set: |settings, value| {
                settings.auth.hooks.config.$field = Duration::from_millis(value.number());
            },
        }
    };
}

/// The rows.
pub const ROWS: &[Setting] = &[
    Setting {
        section: "hooks",
        key: "authentication_url",
        flag: AUTHENTICATION_URL,
        kind: Kind::Text,
        auto: None,
        help: "URL that is asked by POST whether a client is who it says: http://HOST:PORT/PATH, or https. Clients \
               are let in only if it says so; docs/hooks.md has the form of questions and answers.",
        get: |settings| Value::Text(settings.auth.hooks.authentication_url.clone()),
        set: |settings, value| settings.auth.hooks.authentication_url = value.text(),
    },
    Setting {
        section: "hooks",
        key: "authorization_url",
        flag: AUTHORIZATION_URL,
        kind: Kind::Text,
        auto: None,
        help: "URL that is asked by POST for the rules of each client that is let in, and again before they expire. \
               They hold beside those of files.",
        get: |settings| Value::Text(settings.auth.hooks.authorization_url.clone()),
        set: |settings, value| settings.auth.hooks.authorization_url = value.text(),
    },
    files!(
        "hooks",
        "ca",
        "hook-ca",
        auth.hooks.config.cas,
        "CA certificates in PEM that the certificates of these servers have to come from. Without any, those that \
         the machine trusts."
    ),
    files!(
        "hooks",
        "headers",
        "hook-headers",
        auth.hooks.headers,
        "Files with lines NAME: VALUE that are sent as headers with each question, such as \
         `Authorization: Bearer SECRET`."
    ),
    millis!(
        "timeout",
        "hook-timeout",
        timeout,
        range(10, MINUTE_MS),
        "Time for one answer; the client has to be in within connect_deadline all the same."
    ),
    millis!(
        "rules_last",
        "hook-rules-last",
        rules_last,
        range(1000, 24 * 60 * MINUTE_MS),
        "How long rules from `authorization_url` hold if the answer does not say. They are asked for again before; \
         a client whose rules end without new ones is disconnected."
    ),
    Setting {
        section: "hooks",
        key: "failures_max",
        flag: "hook-failures-max",
        kind: Kind::Count(range(1, 1000)),
        auto: None,
        help: "Failures in a row after which a server is not asked for a while: clients that need it are refused at \
               once.",
        get: |settings| Value::Number(settings.auth.hooks.config.failures_max.into()),
        set: |settings, value| {
            settings.auth.hooks.config.failures_max = value.number().try_into().expect(IN_RANGE);
        },
    },
    millis!(
        "pause",
        "hook-pause",
        pause,
        range(100, 60 * MINUTE_MS),
        "How long that lasts. After it, one question shows whether it answers again."
    ),
    Setting {
        section: "hooks",
        key: "questions_max",
        flag: "hook-questions-max",
        kind: Kind::Count(range(1, 256)),
        auto: None,
        help: "Questions under way at a time: each has a thread that waits for the answer.",
        get: |settings| Value::Number(settings.auth.service.waiting_threads as u64),
        set: |settings, value| {
            settings.auth.service.waiting_threads = value.number().try_into().expect(IN_RANGE);
        },
    },
    Setting {
        section: "hooks",
        key: "queue_max",
        flag: "hook-queue-max",
        kind: Kind::Count(range(1, 1_000_000)),
        auto: None,
        help: "Clients that may wait for these threads. Those beyond it are told that the server is unavailable.",
        get: |settings| Value::Number(settings.auth.service.waiting_queue_max as u64),
        set: |settings, value| {
            settings.auth.service.waiting_queue_max = value.number().try_into().expect(IN_RANGE);
        },
    },
];
