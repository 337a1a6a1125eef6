//! Mosquitto's password file: one `user:hash` per line.
//!
//! Invariants:
//! - one invalid line makes the whole file invalid: no user is created without a password (threat
//!   83).
//! - checking an unknown user takes the time of checking some known one, always the same.
//!
//! Not here: reading and writing files, and when a check runs, which is slow on purpose (the
//! shell).

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_PHC};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::{check_user_name, file_lines, first_word, hmac, trim_blanks};

/// Everybody of a file, by name.
#[derive(Debug, Default)]
pub struct Passwords {
    /// Sorted by name, each name once.
    users: Vec<(Box<str>, Password)>,
    /// Chooses whom an unknown user is treated like.
    decoy_key: [u8; 32],
}

/// What the broker stores of one password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    method: Method,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
    fingerprint: u64,
}

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `$6$`: one round of SHA-512. Fast, which is bad: read, but not written.
    Sha512,
    /// `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// Iterations.
        rounds: u32,
    },
    /// `$argon2id$`.
    Argon2id {
        /// 16 or 19: 1.0 or 1.3.
        version: u32,
        /// Memory, in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
}

impl Method {
    /// What Mosquitto 2.1 chooses, and within what OWASP recommends: 46 MiB, one pass.
    pub const ARGON2ID: Method = Method::Argon2id {
        version: 19,
        memory_kib: 46 * 1024,
        passes: 1,
        lanes: 1,
    };
    /// What OWASP recommends for this method. Mosquitto 2.0 reads it.
    pub const PBKDF2: Method = Method::Pbkdf2 { rounds: 210_000 };
}

/// What is wrong with a password file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordFileError {
    /// Counted from 1; 0 stands for the file as a whole.
    pub line: usize,
    /// What it is.
    pub fault: PasswordFault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFault {
    /// There is nobody in it.
    Empty,
    /// No colon.
    NoColon,
    /// The user name is empty, or has something in it that nobody sees.
    UserName,
    /// The user stands on an earlier line too.
    Repeated,
    /// What follows the colon is no hash; perhaps it is the password itself.
    NotHashed,
    /// A method that there is not.
    Method,
    /// Fields are missing, or there are too many.
    Fields,
    /// A parameter is no number in its range.
    Parameters,
    /// The salt is no Base64 of 8 to 64 bytes.
    Salt,
    /// The hash is no Base64 of the right size.
    Hash,
}

impl Passwords {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Passwords, PasswordFileError> {
        let mut lines: Vec<(usize, &str, Password)> = Vec::new();
        for (number, line) in file_lines(text) {
            let (user, password) =
                parse_line(line).map_err(|fault| PasswordFileError::at(number, fault))?;
            lines.push((number, user, password));
        }
        // By line within a name, so that the later line is reported.
        lines.sort_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0)));
        if let Some(pair) = lines.windows(2).find(|pair| pair[0].1 == pair[1].1) {
            return Err(PasswordFileError::at(pair[1].0, PasswordFault::Repeated));
        }
        if lines.is_empty() {
            return Err(PasswordFileError::at(0, PasswordFault::Empty));
        }
        let users = lines
            .into_iter()
            .map(|(_, user, password)| (user.into(), password));
        Ok(Passwords::of(users.collect()))
    }

    /// Adds those of another file.
    ///
    /// # Errors
    /// Somebody is in both: gives the name, and nothing is changed.
    pub fn extend(&mut self, other: Passwords) -> Result<(), Box<str>> {
        let mut users = other.users.iter();
        if let Some((user, _)) = users.find(|(user, _)| self.find(user).is_some()) {
            return Err(user.clone());
        }
        let mut users = std::mem::take(&mut self.users);
        users.extend(other.users);
        users.sort_by(|(a, _), (b, _)| a.cmp(b));
        *self = Passwords::of(users);
        Ok(())
    }

    fn of(users: Vec<(Box<str>, Password)>) -> Passwords {
        let mut key = Sha256::new();
        for (_, password) in &users {
            key.update(&password.hash);
        }
        Passwords {
            users,
            decoy_key: key.finalize().into(),
        }
    }

    /// Whether this is the password of this user. Takes as long as the method of the user wants.
    pub fn check(&self, user: &str, password: &[u8]) -> bool {
        let Some((is_known, stored)) = self.candidate(user) else {
            return false;
        };
        // Both are checked, even if the first one fails.
        stored.is_made_of(password) & is_known
    }

    /// The password of a user, or that of the one whose time an unknown user takes.
    fn candidate(&self, user: &str) -> Option<(bool, &Password)> {
        let draw = hmac(&self.decoy_key, &[user.as_bytes()]);
        let decoy = first_word(&draw).checked_rem(self.users.len() as u64)? as usize;
        let found = self.users.binary_search_by(|(name, _)| (**name).cmp(user));
        let (_, password) = &self.users[found.unwrap_or(decoy)];
        Some((found.is_ok(), password))
    }

    /// The stored password of a user.
    pub fn find(&self, user: &str) -> Option<&Password> {
        let at = self.users.binary_search_by(|(name, _)| (**name).cmp(user));
        at.ok().map(|at| &self.users[at].1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// There is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl Password {
    /// Hashes a password: slow on purpose.
    ///
    /// # Panics
    /// If the salt has not 8 to 64 bytes.
    pub fn new(method: Method, password: &[u8], salt: &[u8]) -> Password {
        assert!(SALT_SIZES.contains(&salt.len()), "a salt has its size");
        let mut hash = vec![0; method.hash_size()];
        method.hash(password, salt, &mut hash);
        Password::of(method, salt, &hash)
    }

    fn of(method: Method, salt: &[u8], hash: &[u8]) -> Password {
        let digest = Sha256::new().chain_update(salt).chain_update(hash);
        Password {
            method,
            salt: salt.into(),
            hash: hash.into(),
            fingerprint: first_word(&digest.finalize().into()),
        }
    }

    /// Reads what stands behind the colon.
    pub fn parse(text: &str) -> Result<Password, PasswordFault> {
        let fields = text.strip_prefix('$').ok_or(PasswordFault::NotHashed)?;
        let fields: Vec<&str> = fields.split('$').collect();
        match fields[..] {
            ["6", salt, hash] => Password::from_fields(Method::Sha512, &BASE64, salt, hash),
            ["7", rounds, salt, hash] => {
                let rounds = number(rounds, ROUNDS_MAX)?;
                Password::from_fields(Method::Pbkdf2 { rounds }, &BASE64, salt, hash)
            }
            ["argon2id", version, costs, salt, hash] => {
                let method = parse_argon2id(version, costs)?;
                Password::from_fields(method, &BASE64_PHC, salt, hash)
            }
            ["6" | "7" | "argon2id", ..] => Err(PasswordFault::Fields),
            _ => Err(PasswordFault::Method),
        }
    }

    fn from_fields(
        method: Method,
        base64: &base64::engine::GeneralPurpose,
        salt: &str,
        hash: &str,
    ) -> Result<Password, PasswordFault> {
        let salt = base64.decode(salt).ok();
        let salt = salt.filter(|salt| SALT_SIZES.contains(&salt.len()));
        let hash = base64.decode(hash).ok();
        let hash = hash.filter(|hash| match method {
            Method::Sha512 | Method::Pbkdf2 { .. } => hash.len() == method.hash_size(),
            Method::Argon2id { .. } => ARGON2_HASH_SIZES.contains(&hash.len()),
        });
        let salt = salt.ok_or(PasswordFault::Salt)?;
        let hash = hash.ok_or(PasswordFault::Hash)?;
        Ok(Password::of(method, &salt, &hash))
    }

    /// Tells a password from the one that replaces it.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn is_made_of(&self, password: &[u8]) -> bool {
        let mut hash = vec![0; self.hash.len()];
        self.method.hash(password, &self.salt, &mut hash);
        bool::from(hash.ct_eq(&self.hash))
    }
}

impl Method {
    fn hash_size(self) -> usize {
        match self {
            Method::Sha512 | Method::Pbkdf2 { .. } => 64,
            Method::Argon2id { .. } => 32,
        }
    }

    fn hash(self, password: &[u8], salt: &[u8], out: &mut [u8]) {
        match self {
            Method::Sha512 => {
                let hash = Sha512::new().chain_update(password).chain_update(salt);
                out.copy_from_slice(&hash.finalize());
            }
            Method::Pbkdf2 { rounds } => {
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, out);
            }
            Method::Argon2id { version, .. } => {
                let params = self.argon2_params(out.len()).expect(CHECKED);
                let version = match version {
                    16 => Version::V0x10,
                    _ => Version::V0x13,
                };
                Argon2::new(Algorithm::Argon2id, version, params)
                    .hash_password_into(password, salt, out)
                    .expect(CHECKED);
            }
        }
    }

    fn argon2_params(self, hash_size: usize) -> Option<Params> {
        match self {
            Method::Sha512 | Method::Pbkdf2 { .. } => None,
            Method::Argon2id {
                memory_kib,
                passes,
                lanes,
                ..
            } => Params::new(memory_kib, passes, lanes, Some(hash_size)).ok(),
        }
    }
}

impl PasswordFileError {
    fn at(line: usize, fault: PasswordFault) -> PasswordFileError {
        PasswordFileError { line, fault }
    }
}

fn parse_line(line: &str) -> Result<(&str, Password), PasswordFault> {
    let (user, hash) = line.split_once(':').ok_or(PasswordFault::NoColon)?;
    let (user, hash) = (trim_blanks(user), trim_blanks(hash));
    check_user_name(user).map_err(|_| PasswordFault::UserName)?;
    Ok((user, Password::parse(hash)?))
}

/// `v=19` and `m=47104,t=1,p=1`.
fn parse_argon2id(version: &str, costs: &str) -> Result<Method, PasswordFault> {
    let version = version
        .strip_prefix("v=")
        .and_then(|version| version.parse().ok())
        .filter(|version| matches!(version, 16 | 19))
        .ok_or(PasswordFault::Parameters)?;
    let mut costs = costs.split(',');
    let mut cost = |name: &str, max: u32| {
        let text = costs.next().and_then(|cost| cost.strip_prefix(name));
        number(text.ok_or(PasswordFault::Parameters)?, max)
    };
    let method = Method::Argon2id {
        version,
        memory_kib: cost("m=", MEMORY_KIB_MAX)?,
        passes: cost("t=", PASSES_MAX)?,
        lanes: cost("p=", LANES_MAX)?,
    };
    // The library has bounds of its own, such as 8 KiB for each lane.
    let is_right = costs.next().is_none() && method.argon2_params(32).is_some();
    is_right.then_some(method).ok_or(PasswordFault::Parameters)
}

/// From 1 to `max`, in digits only.
fn number(text: &str, max: u32) -> Result<u32, PasswordFault> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=max).contains(number));
    number.filter(|_| is_plain).ok_or(PasswordFault::Parameters)
}

/// What stands behind the colon.
impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Method::Sha512 => f.write_str("$6")?,
            Method::Pbkdf2 { rounds } => write!(f, "$7${rounds}")?,
            Method::Argon2id {
                version,
                memory_kib,
                passes,
                lanes,
            } => write!(
                f,
                "$argon2id$v={version}$m={memory_kib},t={passes},p={lanes}"
            )?,
        }
        let base64 = match self.method {
            Method::Sha512 | Method::Pbkdf2 { .. } => BASE64,
            Method::Argon2id { .. } => BASE64_PHC,
        };
        let (salt, hash) = (base64.encode(&self.salt), base64.encode(&self.hash));
        write!(f, "${salt}${hash}")
    }
}

impl fmt::Debug for Password {
    // Hashes belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for PasswordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PasswordFault::Empty => "has no user in it",
            PasswordFault::NoColon => "is not user:hash",
            PasswordFault::UserName => {
                "has an empty user name, or one with a character that cannot be seen"
            }
            PasswordFault::Repeated => "has a user who stands on an earlier line too",
            PasswordFault::NotHashed => "holds something after the colon that is not a hash",
            PasswordFault::Method => "has a hash that is none of $6$, $7$ and $argon2id$",
            PasswordFault::Fields => "has a hash with a field too few or too many",
            PasswordFault::Parameters => "has a hash with a wrong parameter",
            PasswordFault::Salt => "has a hash whose salt is not Base64 of 8 to 64 bytes",
            PasswordFault::Hash => "has a hash that is not Base64 of the right size",
        })
    }
}

const CHECKED: &str = "a method is made with parameters that there are";
/// Mosquitto's salts have 12 or 64 bytes; argon2 wants 8 at least.
const SALT_SIZES: std::ops::RangeInclusive<usize> = 8..=64;
const ARGON2_HASH_SIZES: std::ops::RangeInclusive<usize> = 16..=64;
/// About 10 s of a core.
const ROUNDS_MAX: u32 = 10_000_000;
/// 4 GiB.
const MEMORY_KIB_MAX: u32 = 4 << 20;
const PASSES_MAX: u32 = 1000;
const LANES_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two are of `mosquitto_passwd` 2.0, the third of the reference implementation of
    /// Argon2 with sizes as Mosquitto 2.1 has them. The password is "secret".
    const FILE: &str = "\
# A comment

six:$6$1Zumf4+32c7SICVZ$RULnRnVgTQBhaE4ekjYm/irPmH4Q7aSQqP4RWVPDrHnM5dT89FHs4MymhSYsYOuS80lcSfB+PW+WPwFaLyivoA==
seven:$7$101$lJTfwmQmSwqzA4j5$ZDZTBpBfnD+ExPHM6bEoPWy5CXtTBXUaWOwCBMclwze+fgP2zhYp1DxfreuqYl+RBj/H0FKXNJM2lgC3iGxQxg==
argon:$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw$yXaW7P2EU2NkGKxaTXSntlqyamW7QvefJh+SEGbp0Azwikmt5QZktdWHDG/I1FIcomPdvJvL+AotBt8REgE/Ug\r
";

    #[test]
    fn the_files_of_mosquitto_are_read() {
        let passwords = Passwords::parse(FILE).unwrap();
        assert_eq!(passwords.len(), 3);
        for (user, password, expected) in [
            ("six", "secret", true),
            ("seven", "secret", true),
            ("argon", "secret", true),
            ("six", "Secret", false),
            ("seven", "", false),
            ("argon", "secret ", false),
            ("eight", "secret", false),
        ] {
            let is_right = passwords.check(user, password.as_bytes());
            assert_eq!(is_right, expected, "{user}, {password}");
        }
        for line in FILE.lines().filter(|line| line.contains(':')) {
            let (user, hash) = line.split_once(':').unwrap();
            let stored = passwords.find(user).unwrap();
            assert_eq!(stored.to_string(), hash.trim_end());
        }
    }

    // As `misc__trimblanks` of Mosquitto.
    #[test]
    fn blanks_around_names_and_hashes_are_ignored() {
        let hash = Password::new(Method::Pbkdf2 { rounds: 1 }, b"secret", &[1; 12]).to_string();
        for line in [
            format!(" alice:{hash}"),
            format!("\talice :{hash}"),
            format!("alice: {hash} \t\r"),
        ] {
            let passwords = Passwords::parse(&line).unwrap();
            assert!(passwords.check("alice", b"secret"), "{line:?}");
        }
        let twice = format!("alice:{hash}\n alice :{hash}\n");
        let error = Passwords::parse(&twice).unwrap_err();
        assert_eq!((error.line, error.fault), (2, PasswordFault::Repeated));
        // Invisible blanks, which Mosquitto keeps, would make another user.
        for name in ["alice\u{A0}", "\u{FEFF}alice", "al\u{200B}ice"] {
            let text = format!("bob:{hash}\n{name}:{hash}\n");
            let error = Passwords::parse(&text).unwrap_err();
            assert_eq!(
                (error.line, error.fault),
                (2, PasswordFault::UserName),
                "{name:?}"
            );
        }
        let spaces = format!("alice b:{hash}");
        assert!(Passwords::parse(&spaces).unwrap().find("alice b").is_some());
    }

    // A check takes the time that its method and parameters want: so the ones of an unknown user
    // have to be some user's, and always those of the same one.
    #[test]
    fn an_unknown_user_is_treated_like_a_known_one_and_always_the_same() {
        let passwords = Passwords::parse(FILE).unwrap();
        let mut seen = Vec::new();
        for number in 0..50 {
            let user = format!("nobody {number}");
            let (is_known, stored) = passwords.candidate(&user).unwrap();
            let again = Passwords::parse(FILE).unwrap();
            assert!(!is_known);
            assert_eq!(again.candidate(&user).unwrap().1, stored);
            if !seen.contains(&stored.method) {
                seen.push(stored.method);
            }
        }
        assert_eq!(seen.len(), 3, "each of the three stands for some: {seen:?}");
    }

    #[test]
    fn one_faulty_line_makes_the_file_invalid() {
        // Threat 83: a broken line never becomes a user without a password.
        let good = Password::new(Method::Pbkdf2 { rounds: 1 }, b"secret", &[1; 12]).to_string();
        for (text, line, fault) in [
            ("", 0, PasswordFault::Empty),
            ("# nobody\n\n", 0, PasswordFault::Empty),
            ("alice", 1, PasswordFault::NoColon),
            ("\n:x", 2, PasswordFault::UserName),
            ("a\tb:x", 1, PasswordFault::UserName),
            ("alice:", 1, PasswordFault::NotHashed),
            ("alice:secret", 1, PasswordFault::NotHashed),
            ("alice:$", 1, PasswordFault::Method),
            ("alice:$5$x$y", 1, PasswordFault::Method),
            (
                "alice:$argon2i$v=19$m=64,t=1,p=1$x$y",
                1,
                PasswordFault::Method,
            ),
            ("alice:$6$x", 1, PasswordFault::Fields),
            ("alice:$7$1$x$y$z", 1, PasswordFault::Fields),
            ("alice:$7$0$x$y", 1, PasswordFault::Parameters),
            ("alice:$7$+1$x$y", 1, PasswordFault::Parameters),
            ("alice:$7$99999999999$x$y", 1, PasswordFault::Parameters),
            ("alice:$6$AAAA$y", 1, PasswordFault::Salt),
            ("alice:$6$MTIzNDU2Nzg5MDEy$AAAA", 1, PasswordFault::Hash),
            ("alice:$6$MTIzNDU2Nzg5MDEy$", 1, PasswordFault::Hash),
            (
                "alice:$argon2id$v=18$m=64,t=1,p=1$x$y",
                1,
                PasswordFault::Parameters,
            ),
            (
                "alice:$argon2id$v=19$m=1,t=1,p=1$x$y",
                1,
                PasswordFault::Parameters,
            ),
            (
                "alice:$argon2id$v=19$m=64,t=1$x$y",
                1,
                PasswordFault::Parameters,
            ),
            (
                "alice:$argon2id$v=19$m=64,t=1,p=1,x=1$x$y",
                1,
                PasswordFault::Parameters,
            ),
            (
                "alice:$argon2id$v=19$m=64,t=1,p=1$x$y",
                1,
                PasswordFault::Salt,
            ),
            (
                &*format!("a:{good}\nb:{good}\na:{good}"),
                3,
                PasswordFault::Repeated,
            ),
            (
                &*format!("a:{good}\nb:{}", &good[..good.len() - 1]),
                2,
                PasswordFault::Hash,
            ),
        ] {
            let error = Passwords::parse(text).expect_err(text);
            assert_eq!((error.line, error.fault), (line, fault), "{text}");
        }
    }

    #[test]
    fn every_hash_method_accepts_only_its_own_password() {
        let argon2id = Method::Argon2id {
            version: 19,
            memory_kib: 64,
            passes: 1,
            lanes: 2,
        };
        for method in [Method::Sha512, Method::Pbkdf2 { rounds: 5 }, argon2id] {
            let password = Password::new(method, b"secret\0\xFF", &[7; 12]);
            let line = format!("alice:{password}\n");
            let passwords = Passwords::parse(&line).unwrap();
            assert_eq!(passwords.find("alice"), Some(&password));
            for (user, given, expected) in [
                ("alice", &b"secret\0\xFF"[..], true),
                ("alice", b"secret\0", false),
                ("alice", b"", false),
                ("bob", b"secret\0\xFF", false),
                ("", b"secret\0\xFF", false),
            ] {
                assert_eq!(passwords.check(user, given), expected, "{method:?} {user}");
            }
        }
    }

    #[test]
    fn an_empty_file_knows_nobody() {
        assert!(!Passwords::default().check("", b""));
    }

    #[test]
    fn a_password_shows_no_hash() {
        let password = Password::new(Method::Sha512, b"secret", &[7; 12]);
        assert_eq!(format!("{password:?}"), "Password { method: Sha512, .. }");
    }
}
