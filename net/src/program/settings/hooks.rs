//! The settings of section `[hooks]`.

use std::path::PathBuf;
use std::time::Duration;

use ringmq::auth::HookConfig;
use ringmq::auth::http::HttpUrl;

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
        help: "URL that receives a POST request for each login: http://HOST:PORT/PATH, or https. \
               Clients are admitted only if it says so; docs/hooks.md describes requests and \
               responses.",
        get: |settings| Value::Text(settings.auth.hooks.authentication_url.clone()),
        set: |settings, value| settings.auth.hooks.authentication_url = value.text(),
    },
    Setting {
        section: "hooks",
        key: "authorization_url",
        flag: AUTHORIZATION_URL,
        kind: Kind::Text,
        auto: None,
        help: "URL that receives a POST request for the rules of each admitted client, and again \
               before they expire. They apply in addition to those in files.",
        get: |settings| Value::Text(settings.auth.hooks.authorization_url.clone()),
        set: |settings, value| settings.auth.hooks.authorization_url = value.text(),
    },
    files!(
        "hooks",
        "ca",
        "hook-ca",
        auth.hooks.config.cas,
        "CA certificates (PEM) trusted for these servers, or the servers' own certificates. \
         Default: the CAs of the system."
    ),
    files!(
        "hooks",
        "headers",
        "hook-headers",
        auth.hooks.headers,
        "Files with lines NAME: VALUE that are sent as header fields with each request, such as \
         `Authorization: Bearer SECRET`."
    ),
    millis!(
        "timeout",
        "hook-timeout",
        timeout,
        range(10, MINUTE_MS),
        "Timeout of a request; connect_deadline still applies to the client."
    ),
    millis!(
        "rules_last",
        "hook-rules-last",
        rules_last,
        range(1000, 24 * 60 * MINUTE_MS),
        "Lifetime of rules from `authorization_url` if the response does not give one. They are \
         renewed before; a client whose rules expire without renewal is disconnected."
    ),
    Setting {
        section: "hooks",
        key: "failures_max",
        flag: "hook-failures-max",
        kind: Kind::Count(range(1, 1000)),
        auto: None,
        help: "Consecutive failures after which requests to a server are suspended; clients that \
               need it are refused at once.",
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
        "How long requests stay suspended. Then a single one tests whether the server is back."
    ),
    Setting {
        section: "hooks",
        key: "questions_max",
        flag: "hook-questions-max",
        kind: Kind::Count(range(1, 256)),
        auto: None,
        help: "Maximum number of concurrent requests; each takes a thread.",
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
        help: "Maximum number of clients that wait for these threads. Further clients get \"server \
               unavailable\".",
        get: |settings| Value::Number(settings.auth.service.waiting_queue_max as u64),
        set: |settings, value| {
            settings.auth.service.waiting_queue_max = value.number().try_into().expect(IN_RANGE);
        },
    },
];
