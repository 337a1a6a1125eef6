//! The password file as an authenticator.
//!
//! Hashes are slow on purpose, and after a restart all clients come at once. So a password that was
//! correct is remembered as a keyed hash that is fast to compute, with a random key of this
//! process: the second login of a client takes a microsecond. A wrong password, or an unknown user,
//! always takes the slow way.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, Mac as _};
use ringmq_core::auth::{AuthRequest, Identity, Passwords, Proof, Verdict};
use ringmq_core::refusal::Refusal;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Authenticator;

/// Judges everybody who gives a user name.
pub struct PasswordFile {
    passwords: Arc<Passwords>,
    key: [u8; 32],
    /// By user: at most as many as there are in the file.
    proven: Mutex<HashMap<Box<str>, [u8; 32]>>,
}

impl PasswordFile {
    /// `key` is random.
    pub fn new(passwords: Arc<Passwords>, key: [u8; 32]) -> PasswordFile {
        PasswordFile {
            passwords,
            key,
            proven: Mutex::default(),
        }
    }

    fn check(&self, user: &str, password: &[u8]) -> bool {
        let quick = self.quick_hash(user, password);
        if self.is_proven(user, &quick) {
            return true;
        }
        let is_right = self.passwords.check(user, password);
        if is_right {
            let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
            proven.insert(user.into(), quick);
        }
        is_right
    }

    fn is_proven(&self, user: &str, quick: &[u8; 32]) -> bool {
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven
            .get(user)
            .is_some_and(|known| bool::from(known.ct_eq(quick)))
    }

    fn quick_hash(&self, user: &str, password: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes any key");
        mac.update(&(user.len() as u64).to_be_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        mac.finalize().into_bytes().into()
    }
}

impl Authenticator for PasswordFile {
    fn judge(&self, request: &AuthRequest) -> Option<Verdict> {
        if request.exchange.is_some() {
            return None;
        }
        let user = request.user_name.as_deref()?;
        // Nobody has an empty password: no hash of one stands in a file that `passwd` wrote.
        let password = request.password.as_deref().unwrap_or_default();
        let is_right = self.check(user, password) & request.password.is_some();
        // Another authenticator may know a user that is not in the file; finding out took as long
        // as a check.
        let stored = self.passwords.find(user)?;
        Some(if is_right {
            Verdict::Granted(Identity {
                user: Some(user.into()),
                proof: Proof::Password {
                    fingerprint: stored.fingerprint(),
                },
                ..Identity::default()
            })
        } else {
            Verdict::Denied(Refusal::BadPassword)
        })
    }
}

impl fmt::Debug for PasswordFile {
    // The key belongs in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordFile")
            .field("users", &self.passwords.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ringmq_core::auth::{Exchange, Method, Password};
    use ringmq_core::ids::ConnId;

    use super::*;

    fn file() -> PasswordFile {
        let stored = Password::new(Method::Pbkdf2 { rounds: 2 }, b"secret", b"salt of a test");
        let passwords = Passwords::parse(&format!("alice:{stored}\n")).unwrap();
        PasswordFile::new(Arc::new(passwords), [7; 32])
    }

    fn request(user: Option<&str>, password: Option<&[u8]>) -> AuthRequest {
        AuthRequest {
            conn: ConnId {
                index: 0,
                generation: 0,
            },
            peer: Default::default(),
            version: ringmq_core::codec::Version::V5,
            client_id: "c".into(),
            user_name: user.map(Into::into),
            password: password.map(Into::into),
            exchange: None,
            known: None,
            deadline: ringmq_core::time::Instant::ZERO,
        }
    }

    #[test]
    fn only_the_right_password_is_accepted_the_second_time_too() {
        let file = file();
        for _ in 0..2 {
            for (user, password, expected) in [
                ("alice", Some(&b"secret"[..]), true),
                ("alice", Some(b"secrets"), false),
                ("alice", Some(b""), false),
                ("alice", None, false),
                ("alices", Some(b"ecret"), false),
                ("bob", Some(b"secret"), false),
                ("", Some(b"secret"), false),
                ("", None, false),
                ("alice", Some(&[0xFF; 65_535]), false),
            ] {
                let verdict = file.judge(&request(Some(user), password));
                let is_granted = matches!(verdict, Some(Verdict::Granted(_)));
                assert_eq!(is_granted, expected, "{user} {password:?}");
            }
        }
        assert_eq!(file.proven.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_client_without_a_user_name_is_left_to_other_authenticators() {
        let password: Option<&[u8]> = Some(b"secret");
        assert_eq!(file().judge(&request(None, password)), None);
        let all = super::super::Authenticators {
            all: vec![Arc::new(file())],
            authorization: None,
        };
        let denied = Verdict::Denied(Refusal::BadPassword);
        let nobody = request(None, password);
        let verdict = all.judge(&nobody, super::super::Stage::first(&nobody), false);
        assert_eq!(verdict.unwrap(), denied);
        // Nor who shows something by an authentication method.
        let mut shows = request(Some("alice"), password);
        shows.exchange = Some(Exchange {
            method: "JWT".into(),
            data: Box::default(),
        });
        assert_eq!(file().judge(&shows), None);
    }
}
