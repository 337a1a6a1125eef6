//! The settings of section `[auth]`.

use std::path::PathBuf;

use ringmq::auth::AuthServiceConfig;

use super::hooks::HookSettings;
use super::jwt::JwtSettings;
use super::value::{Items, Kind, Value};
use super::{IN_RANGE, Setting, files, paths, range, to_paths};

/// Who may connect, and what they may do.
#[derive(Clone, Debug, Default)]
pub struct AuthSettings {
    /// Password files, as of Mosquitto.
    pub password_files: Vec<PathBuf>,
    /// Files with credentials for SCRAM-SHA-256.
    pub scram_files: Vec<PathBuf>,
    /// Rules, as of Mosquitto.
    pub acl_files: Vec<PathBuf>,
    /// Rules with roles, in TOML.
    pub rules_files: Vec<PathBuf>,
    /// Which tokens are accepted.
    pub jwt: JwtSettings,
    /// What applies if no rule does.
    pub default: AccessDefault,
    /// The threads that authenticate clients.
    pub service: AuthServiceConfig,
    /// Services that authenticate clients or supply rules.
    pub hooks: HookSettings,
}

/// What no rule speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessDefault {
    /// Denied, unless there are neither users nor rules.
    #[default]
    Auto,
    /// Denied.
    Deny,
    /// Allowed.
    Allow,
}

impl AccessDefault {
    /// Its word, one of [`DEFAULTS`].
    pub fn word(self) -> &'static str {
        DEFAULTS[self as usize]
    }

    /// By its word.
    pub fn named(word: &str) -> AccessDefault {
        match word {
            "deny" => AccessDefault::Deny,
            "allow" => AccessDefault::Allow,
            _ => AccessDefault::Auto,
        }
    }
}

/// The words of [`AccessDefault`], in its order.
pub const DEFAULTS: &[&str] = &["auto", "deny", "allow"];

impl AuthSettings {
    /// Some clients have to prove who they are.
    pub fn is_on(&self) -> bool {
        let by_url = !self.hooks.authentication_url.is_empty();
        self.has_users() || self.jwt.is_on() || by_url
    }

    /// There are files of users. They hold no rules.
    pub fn has_users(&self) -> bool {
        !(self.password_files.is_empty() && self.scram_files.is_empty())
    }

    /// All files that these settings name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let users = self.password_files.iter().chain(&self.scram_files);
        let rules = self.acl_files.iter().chain(&self.rules_files);
        let hooks = self.hooks.headers.iter().chain(&self.hooks.config.cas);
        users.chain(rules).chain(hooks).chain(self.jwt.files())
    }

    /// There are files of rules, or a hook supplies rules for every client.
    pub fn has_rules(&self) -> bool {
        let has_files = !(self.acl_files.is_empty() && self.rules_files.is_empty());
        has_files || !self.hooks.authorization_url.is_empty()
    }

    /// Tokens or hooks may supply rules.
    pub fn has_rules_of_clients(&self) -> bool {
        self.jwt.is_on() || self.hooks.urls().iter().any(|(_, url)| !url.is_empty())
    }
}

/// The rows of section `[auth]`.
pub(super) const ROWS: &[Setting] = &[
    files!(
        "auth",
        "password_file",
        "password-file",
        auth.password_files,
        "Users and password hashes, in Mosquitto's format; `ringmq passwd` writes such files. \
         Clients then need a user name and password. A relative path in the configuration file is \
         relative to its folder."
    ),
    files!(
        "auth",
        "scram_file",
        "scram-file",
        auth.scram_files,
        "Users who may log in with SCRAM-SHA-256 (MQTT 5.0 enhanced authentication), which sends \
         no password over the network; `ringmq passwd --scram` writes such files."
    ),
    files!(
        "auth",
        "acl_file",
        "acl-file",
        auth.acl_files,
        "Topic rules in Mosquitto's format: who may publish and receive what."
    ),
    files!(
        "auth",
        "rules_file",
        "rules-file",
        auth.rules_files,
        "Topic rules in TOML, with roles."
    ),
    Setting {
        section: "auth",
        key: "default",
        flag: "access-default",
        kind: Kind::Choice(DEFAULTS),
        auto: None,
        help: "Whether to allow or deny what no rule covers. auto denies it as soon as there are \
               users, client certificates or rules.",
        get: |settings| Value::Text(settings.auth.default.word().to_owned()),
        set: |settings, value| {
            settings.auth.default = AccessDefault::named(&value.text());
        },
    },
    Setting {
        section: "auth",
        key: "threads",
        flag: "auth-threads",
        kind: Kind::Count(range(1, 64)),
        auto: None,
        help: "Threads that check passwords, besides those of the shards.",
        get: |settings| Value::Number(settings.auth.service.threads as u64),
        set: |settings, value| {
            settings.auth.service.threads = value.number().try_into().expect(IN_RANGE);
        },
    },
    Setting {
        section: "auth",
        key: "waiting_max",
        flag: "auth-waiting-max",
        kind: Kind::Count(range(1, 1_000_000)),
        auto: None,
        help: "Maximum number of clients that wait for these threads. Further clients get \"server \
               unavailable\".",
        get: |settings| Value::Number(settings.auth.service.queue_max as u64),
        set: |settings, value| {
            settings.auth.service.queue_max = value.number().try_into().expect(IN_RANGE);
        },
    },
];
