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
    /// The threads that find out who clients are.
    pub service: AuthServiceConfig,
}

impl AuthSettings {
    /// Some clients have to prove who they are.
    pub fn is_on(&self) -> bool {
        !(self.password_files.is_empty() && self.scram_files.is_empty())
    }

    /// All that these settings name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.password_files.iter().chain(&self.scram_files)
    }
}
