//! The settings of section `[auth]`.

use std::path::PathBuf;

use ringmq::auth::AuthServiceConfig;

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
    /// What no rule speaks of.
    pub default: AccessDefault,
    /// The threads that find out who clients are.
    pub service: AuthServiceConfig,
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
        !(self.password_files.is_empty() && self.scram_files.is_empty())
    }

    /// All that these settings name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let users = self.password_files.iter().chain(&self.scram_files);
        users.chain(&self.acl_files).chain(&self.rules_files)
    }

    /// There are files of rules.
    pub fn has_rules(&self) -> bool {
        !(self.acl_files.is_empty() && self.rules_files.is_empty())
    }
}
