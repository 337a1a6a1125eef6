//! What the program does for the control plane: the settings and the log are its own.

use std::fmt;

use tokio::sync::oneshot;

/// Carries out what the control plane is asked to do about settings and the log.
pub trait Steward: fmt::Debug + Send + Sync {
    /// The filter of the log that is in force.
    fn log_filter(&self) -> String;

    /// Puts another filter in force.
    ///
    /// # Errors
    /// It is not a filter.
    fn set_log_filter(&self, filter: &str) -> Result<(), Flaw>;

    /// Says what a reload with this configuration file would do, without doing it. Messages call the
    /// file by this name, if it has one.
    fn check(&self, toml: String, name: Option<String>) -> Decision;

    /// Reads the settings and their files again.
    fn reload(&self, why: String) -> Decision;
}

/// Comes as soon as it is decided; never, if the broker stops before.
pub type Decision = oneshot::Receiver<Result<Changes, Vec<Flaw>>>;

/// What a reload does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names of settings that take effect.
    pub taken_on: Vec<String>,
    /// Names of settings that need a restart.
    pub left: Vec<String>,
    /// What is worth a second look.
    pub warnings: Vec<String>,
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// With its place.
    pub what: String,
    /// The line of the file that it is about, with a mark below; two lines of text.
    pub excerpt: Option<String>,
    /// What to do.
    pub fix: String,
}
