//! Reading the files that settings name, and what can be wrong with them.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::config::{Place, Problem};

/// What a file is for.
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
}

impl What {
    fn problem(self, path: &Path, what: String, fix: String) -> Problem {
        Problem {
            place: Place::File(path.display().to_string()),
            subject: self.name().to_owned(),
            what,
            fix,
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
        }
    }

    /// Keeps `--config /dev/sda` from filling the memory.
    fn size_max(self) -> u64 {
        match self {
            What::Configuration | What::HookHeaders | What::KeyFile | What::KeySet => 1 << 20,
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
            What::ScramFile => format!("make it: `ringmq passwd --scram --create {path} USER`"),
        }
    }
}

/// Reads a whole text file. The mark that some editors put before UTF-8 is not part of it.
pub fn read(path: &Path, what: What) -> Result<String, Problem> {
    let mut bytes = read_bytes(path, what)?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let text = format!("is not UTF-8: the first wrong byte is number {offset}, on line {line}");
        what.problem(path, text, "save it as UTF-8".to_owned())
    })
}

/// Reads a whole file, whatever is in it.
pub fn read_bytes(path: &Path, what: What) -> Result<Vec<u8>, Problem> {
    let problem = |text, fix| what.problem(path, text, fix);
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => problem("does not exist".to_owned(), what.how_to_make(path)),
        ErrorKind::PermissionDenied => problem(
            "may not be read by this user".to_owned(),
            match what {
                What::Configuration => format!(
                    "give the user of the broker access: chmod a+r {}",
                    path.display()
                ),
                What::PasswordFile
                | What::ScramFile
                | What::AclFile
                | What::RulesFile
                | What::HookHeaders
                | What::KeyFile
                | What::KeySet => format!(
                    "make the user of the broker its owner, and nobody else a reader: chown USER {0} && chmod 600 {0}",
                    path.display()
                ),
            },
        ),
        _ => problem(
            format!("cannot be read: {error}"),
            "check the path".to_owned(),
        ),
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        let fix = match what {
            What::Configuration => "name a file in it: --config DIRECTORY/ringmq.toml",
            What::PasswordFile
            | What::ScramFile
            | What::AclFile
            | What::RulesFile
            | What::HookHeaders
            | What::KeyFile
            | What::KeySet => "name a file in it",
        };
        return Err(problem("is a directory".to_owned(), fix.to_owned()));
    }
    let size_max = what.size_max();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(size_max + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > size_max {
        let text = format!("is larger than {} KiB", size_max / 1024);
        let fix = "check the path: no such file is that large";
        return Err(problem(text, fix.to_owned()));
    }
    Ok(bytes)
}

const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();
