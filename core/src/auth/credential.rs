//! The stored form of a password, and its line in a file.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use super::{first_word, hmac};

/// Of one user (RFC 5802, section 3). Whoever has it can check a proof and cannot make one.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Rounds of the hash that the client computes.
    pub iterations: u32,
    /// Makes equal passwords differ.
    pub salt: Vec<u8>,
    /// `H(ClientKey)`.
    pub stored_key: [u8; 32],
    /// Proves to the client that the broker knows its credential.
    pub server_key: [u8; 32],
}

/// Rounds for new credentials: RFC 7677 asks for 4096 at least, and it is the client that pays.
pub const ITERATIONS_DEFAULT: u32 = 15_000;
/// Fewer rounds are refused (RFC 7677, section 4).
pub const ITERATIONS_MIN: u32 = 4096;
/// A client would take more than a minute for it.
const ITERATIONS_MAX: u32 = 100_000_000;

/// What is wrong with a line of a file of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// It has not five fields.
    FieldCount,
    /// The user name is empty, or has a colon or something in it that nobody sees.
    UserName,
    /// Iterations are no number from 4096 to 100,000,000.
    Iterations,
    /// The salt is no Base64 of 8 bytes or more.
    Salt,
    /// A key is no Base64 of 32 bytes.
    Key,
}

impl ScramCredential {
    /// Hashes a password: slow on purpose.
    ///
    /// # Panics
    /// If `iterations` is 0.
    pub fn of_password(password: &[u8], salt: &[u8], iterations: u32) -> ScramCredential {
        assert!(iterations > 0, "a hash has at least one round");
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
        let client_key = hmac(&salted, &[b"Client Key"]);
        ScramCredential {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// Tells a credential from the one that replaces it.
    pub fn fingerprint(&self) -> u64 {
        first_word(&hmac(&self.stored_key, &[&self.salt]))
    }

    /// `user:iterations:salt:storedkey:serverkey`, the last three in Base64.
    pub fn to_line(&self, user: &str) -> String {
        let salt = BASE64.encode(&self.salt);
        let stored_key = BASE64.encode(self.stored_key);
        let server_key = BASE64.encode(self.server_key);
        format!(
            "{user}:{}:{salt}:{stored_key}:{server_key}",
            self.iterations
        )
    }

    /// Reads what `to_line` writes.
    pub fn parse_line(line: &str) -> Result<(&str, ScramCredential), CredentialError> {
        let fields: Vec<&str> = line.split(':').map(trim_blanks).collect();
        let [user, iterations, salt, stored_key, server_key] = fields[..] else {
            return Err(CredentialError::FieldCount);
        };
        check_user_name(user)?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|rounds| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(rounds))
            .ok_or(CredentialError::Iterations)?;
        let salt = BASE64
            .decode(salt)
            .ok()
            .filter(|salt| salt.len() >= SALT_SIZE_MIN)
            .ok_or(CredentialError::Salt)?;
        let credential = ScramCredential {
            iterations,
            salt,
            stored_key: decode_key(stored_key)?,
            server_key: decode_key(server_key)?,
        };
        Ok((user, credential))
    }
}

/// Whether a user of this name can stand in a file. Blanks around it would be taken for none of the
/// name; what cannot be seen would make it another one than it looks.
pub fn check_user_name(user: &str) -> Result<(), CredentialError> {
    if user.is_empty() || user.contains(':') || is_deceptive(user) {
        Err(CredentialError::UserName)
    } else {
        Ok(())
    }
}

/// A name that a person wrote is another one than it looks.
pub fn is_deceptive(name: &str) -> bool {
    name.contains(|c: char| c.is_control() || INVISIBLE.contains(&c)) || name.trim() != name
}

/// The lines of a file of users or rules, each with its number from 1: without comments, empty
/// lines and blanks around.
pub fn file_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(trim_blanks).zip(1..);
    let meant = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    meant.map(|(line, number)| (number, line))
}

/// Without the blanks that Mosquitto takes off around names and hashes.
pub fn trim_blanks(text: &str) -> &str {
    text.trim_matches(|c: char| matches!(c, ' ' | '\t' | '\r' | '\x0B' | '\x0C'))
}

fn decode_key(text: &str) -> Result<[u8; 32], CredentialError> {
    let bytes = BASE64.decode(text).map_err(|_| CredentialError::Key)?;
    bytes.try_into().map_err(|_| CredentialError::Key)
}

impl fmt::Debug for ScramCredential {
    // Keys belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredential")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CredentialError::FieldCount => {
                "not five fields, user:iterations:salt:storedkey:serverkey"
            }
            CredentialError::UserName => {
                "the user name is empty, or has a colon, a blank at an end, or a character in it that cannot be seen"
            }
            CredentialError::Iterations => "iterations are no number from 4096 to 100000000",
            CredentialError::Salt => "the salt is no Base64 of at least 8 bytes",
            CredentialError::Key => "a key is no Base64 of 32 bytes",
        })
    }
}

impl std::error::Error for CredentialError {}

const SALT_SIZE_MIN: usize = 8;
/// The byte-order mark, and others that take up no room.
const INVISIBLE: [char; 3] = ['\u{FEFF}', '\u{200B}', '\u{2060}'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let credential = ScramCredential::of_password(b"pencil", b"12345678", ITERATIONS_MIN);
        let line = credential.to_line("user");
        let spaced = line.replace(':', " :\t");
        assert_eq!(
            ScramCredential::parse_line(&spaced),
            Ok(("user", credential.clone()))
        );
        assert_eq!(ScramCredential::parse_line(&line), Ok(("user", credential)));
    }

    #[test]
    fn faulty_lines_are_told_apart() {
        let key = BASE64.encode([0; 32]);
        let salt = BASE64.encode([0; 8]);
        for (line, expected) in [
            ("user:4096".to_owned(), CredentialError::FieldCount),
            (
                format!("u:4096:{salt}:{key}:{key}:"),
                CredentialError::FieldCount,
            ),
            (
                format!(":4096:{salt}:{key}:{key}"),
                CredentialError::UserName,
            ),
            (
                format!("u\tv:4096:{salt}:{key}:{key}"),
                CredentialError::UserName,
            ),
            (
                format!("u\u{a0}:4096:{salt}:{key}:{key}"),
                CredentialError::UserName,
            ),
            (
                format!("\u{feff}u:4096:{salt}:{key}:{key}"),
                CredentialError::UserName,
            ),
            (
                format!("u:4095:{salt}:{key}:{key}"),
                CredentialError::Iterations,
            ),
            (
                format!("u:x:{salt}:{key}:{key}"),
                CredentialError::Iterations,
            ),
            (format!("u:4096:!:{key}:{key}"), CredentialError::Salt),
            (format!("u:4096:AAAA:{key}:{key}"), CredentialError::Salt),
            (format!("u:4096:{salt}:AAAA:{key}"), CredentialError::Key),
            (format!("u:4096:{salt}:{key}:!"), CredentialError::Key),
        ] {
            assert_eq!(ScramCredential::parse_line(&line), Err(expected), "{line}");
        }
    }

    #[test]
    fn a_credential_shows_no_key() {
        let credential = ScramCredential::of_password(b"pencil", b"12345678", 1);
        assert_eq!(
            format!("{credential:?}"),
            "ScramCredential { iterations: 1, .. }"
        );
    }
}
