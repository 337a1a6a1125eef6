//! The settings of section `[auth]`.

use std::path::PathBuf;

use ringmq::auth::AuthServiceConfig;

use super::hooks::HookSettings;
use super::jwt::JwtSettings;

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
    /// Which tokens are taken.
    pub jwt: JwtSettings,
    /// What no rule speaks of.
    pub default: AccessDefault,
    /// The threads that find out who clients are.
    pub service: AuthServiceConfig,
    /// Services that are asked.
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

    /// There are files of users. All that they may do stands elsewhere.
    pub fn has_users(&self) -> bool {
        !(self.password_files.is_empty() && self.scram_files.is_empty())
    }

    /// All that these settings name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let users = self.password_files.iter().chain(&self.scram_files);
        let rules = self.acl_files.iter().chain(&self.rules_files);
        let hooks = self.hooks.headers.iter().chain(&self.hooks.config.cas);
        users.chain(rules).chain(hooks).chain(self.jwt.files())
    }

    /// There are files of rules, or somebody gives every client its own.
    pub fn has_rules(&self) -> bool {
        let has_files = !(self.acl_files.is_empty() && self.rules_files.is_empty());
        has_files || !self.hooks.authorization_url.is_empty()
    }

    /// Clients may bring rules of their own.
    pub fn has_rules_of_clients(&self) -> bool {
        self.jwt.is_on() || self.hooks.urls().iter().any(|(_, url)| !url.is_empty())
    }
}
