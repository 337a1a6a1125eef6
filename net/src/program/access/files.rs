//! Reading the files named in settings, and what can be wrong with them.

use std::path::{Path, PathBuf};

use ringmq_problem::file::{self, FileFault};

use crate::settings::file::{Place, Problem};

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Settings.
    Configuration,
    /// Users and their hashes.
    PasswordFile,
    /// Users and their credentials.
    ScramFile,
    /// Rules, as of Mosquitto.
    AclFile,
    /// Rules in TOML.
    RulesFile,
    /// Headers of HTTP.
    HookHeaders,
    /// A key that tokens are proven by.
    KeyFile,
    /// A set of them.
    KeySet,
    /// Tokens of the control plane.
    AdminTokens,
}

impl What {
    fn explain(self, path: &Path, fault: FileFault) -> Problem {
        let fix = match &fault {
            FileFault::Missing => self.how_to_make(path),
            FileFault::Forbidden if self.is_secret() => format!(
                "make the user of the broker its owner, and nobody else a reader: chown USER {0} \
                 && chmod 600 {0}",
                path.display()
            ),
            FileFault::Forbidden => format!(
                "give the user of the broker access: chmod a+r {}",
                path.display()
            ),
            FileFault::Directory if self == What::Configuration => {
                "name a file in it: --config DIRECTORY/ringmq.toml".to_owned()
            }
            FileFault::Directory => "name a file in it".to_owned(),
            FileFault::TooLarge(_) => "check the path: no such file is that large".to_owned(),
            FileFault::Utf16 | FileFault::NotUtf8 { .. } => "save it as UTF-8".to_owned(),
            FileFault::Changing => format!(
                "do not write it in place: write a new file beside it, and mv it over {}",
                path.display()
            ),
            FileFault::Unreadable(_) => "check the path".to_owned(),
        };
        Problem {
            place: Place::File(path.display().to_string()),
            subject: self.name().to_owned(),
            what: fault.to_string(),
            fix,
        }
    }

    /// Its content helps an attacker to log in, or is private.
    fn is_secret(self) -> bool {
        match self {
            What::Configuration => false,
            What::PasswordFile
            | What::ScramFile
            | What::AclFile
            | What::RulesFile
            | What::HookHeaders
            | What::KeyFile
            | What::KeySet
            | What::AdminTokens => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            What::Configuration => "the configuration file",
            What::PasswordFile => "the password file",
            What::ScramFile => "the file of SCRAM users",
            What::AclFile => "the ACL file",
            What::RulesFile => "the file of rules",
            What::HookHeaders => "the file of headers",
            What::KeyFile => "the key of tokens",
            What::KeySet => "the JWK Set",
            What::AdminTokens => "the file of tokens",
        }
    }

    /// So that `--config /dev/sda` does not fill the memory.
    fn size_max(self) -> u64 {
        match self {
            What::Configuration
            | What::HookHeaders
            | What::KeyFile
            | What::KeySet
            | What::AdminTokens => 1 << 20,
            // Some million users.
            What::PasswordFile | What::ScramFile | What::AclFile | What::RulesFile => 1 << 30,
        }
    }

    fn how_to_make(self, path: &Path) -> String {
        let path = path.display();
        match self {
            What::Configuration => {
                "check the path; `ringmq --print-config > FILE` writes one".to_owned()
            }
            What::PasswordFile => format!("make it: `ringmq passwd --create {path} USER`"),
            What::AclFile | What::RulesFile | What::HookHeaders | What::KeyFile | What::KeySet => {
                format!("check the path {path}")
            }
            What::AdminTokens => format!("make it: `ringmq ctl token NAME ROLE >> {path}`"),
            What::ScramFile => format!("make it: `ringmq passwd --scram --create {path} USER`"),
        }
    }
}

/// Reads a whole text file.
pub fn read(path: &Path, what: What) -> Result<String, Problem> {
    file::read_text(path, what.size_max()).map_err(|fault| what.explain(path, fault))
}

/// Reads a whole file, whatever is in it.
pub fn read_bytes(path: &Path, what: What) -> Result<Vec<u8>, Problem> {
    file::read_bytes(path, what.size_max()).map_err(|fault| what.explain(path, fault))
}

/// Reads one text file after the other; those that cannot be read are named.
pub fn read_each(
    paths: &[PathBuf],
    what: What,
    problems: &mut Vec<Problem>,
    mut take: impl FnMut(&Path, &str, &mut Vec<Problem>),
) {
    for path in paths {
        match read(path, what) {
            Ok(text) => take(path, &text, problems),
            Err(problem) => problems.push(problem),
        }
    }
}

/// Something is wrong with the file as a whole.
pub fn wrong_file(path: &Path, what: String, fix: String) -> Problem {
    Problem {
        place: Place::File(path.display().to_string()),
        subject: "the file".to_owned(),
        what,
        fix,
    }
}

/// Something is wrong with a line, which is never shown: it may hold a secret.
pub fn wrong_line(path: &Path, line: usize, what: String, fix: String) -> Problem {
    Problem {
        place: Place::File(format!("{}:{line}", path.display())),
        subject: "the line".to_owned(),
        what,
        fix,
    }
}
