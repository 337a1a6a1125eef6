//! The server side of SCRAM-SHA-256, without channel binding.
//!
//! Invariants:
//! - an unknown user gets a salt and a challenge like a known one, always the same salt, and is
//!   refused at the same step after the same work.
//! - a server nonce is never used twice: it is an HMAC of a counter, keyed by a secret that
//!   no other shard has.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::credential::{ITERATIONS_DEFAULT, ScramCredential};
use super::hmac;

/// The Authentication Method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Everybody who may log in. Shared by all shards, never changed.
#[derive(Debug, Default)]
pub struct ScramUsers {
    credentials: BTreeMap<Box<str>, ScramCredential>,
}

impl ScramUsers {
    /// Enters a user. False if there is one of this name: then nothing is changed.
    pub fn insert(&mut self, user: &str, credential: ScramCredential) -> bool {
        if self.credentials.contains_key(user) {
            return false;
        }
        self.credentials.insert(user.into(), credential);
        true
    }

    /// The credential of a user.
    pub fn find(&self, user: &str) -> Option<&ScramCredential> {
        self.credentials.get(user)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.credentials.len()
    }

    /// Nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.credentials.is_empty()
    }

    /// A secret that stays the same over restarts, as long as the users do: invented salts must
    /// not change while real ones do not.
    fn secret(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for credential in self.credentials.values() {
            hash.update(credential.server_key);
        }
        hash.finalize().into()
    }
}

/// Why a client is not let in. It is told no more than "not authorized".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// A message that the method does not allow, or an extension that is not supported.
    Malformed,
    /// The proof is wrong, or there is no such user.
    WrongProof,
}

/// Begins exchanges; each shard has its own.
#[derive(Debug)]
pub struct ScramServer {
    users: Arc<ScramUsers>,
    nonce_key: [u8; 32],
    nonce_count: u64,
    /// Makes salts for users that there are not.
    salt_key: [u8; 32],
    /// What unknown users are told: the rounds of the first user.
    iterations: u32,
}

/// How far an exchange is.
#[derive(Debug)]
pub enum ScramStep {
    /// The client has named the method and said nothing yet.
    First,
    /// The client has to send its proof.
    Proof(ScramExchange),
}

/// What the server says to a message of the client.
#[derive(Debug)]
pub enum Reply {
    /// The exchange goes on.
    Challenge {
        /// The server's next message.
        data: Vec<u8>,
        /// What has to follow.
        next: ScramStep,
    },
    /// The client is who it says.
    Proven {
        /// Its name.
        user: Box<str>,
        /// Which credential it knows.
        fingerprint: u64,
        /// The server's last message.
        data: Vec<u8>,
    },
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub struct ScramExchange {
    user: Box<str>,
    is_known: bool,
    credential: ScramCredential,
    /// Base64 of the client's gs2 header: comes back in its last message.
    binding: String,
    /// Both nonces.
    nonce: String,
    /// `client-first-message-bare "," server-first-message`.
    transcript: String,
}

impl ScramServer {
    /// `nonce_key` is random, and no other shard's.
    pub fn new(users: Arc<ScramUsers>, nonce_key: [u8; 32]) -> ScramServer {
        let first = users.credentials.values().next();
        ScramServer {
            nonce_key,
            nonce_count: 0,
            salt_key: users.secret(),
            iterations: first.map_or(ITERATIONS_DEFAULT, |credential| credential.iterations),
            users,
        }
    }

    /// Other users from here on; exchanges that run go on with those they began with.
    pub fn replace_users(&mut self, users: Arc<ScramUsers>) {
        let nonce_count = self.nonce_count;
        *self = ScramServer::new(users, self.nonce_key);
        self.nonce_count = nonce_count;
    }

    /// Nobody can log in with this method.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Takes a message of the client. It may come without a word at first.
    pub fn take(&mut self, step: ScramStep, data: Option<&[u8]>) -> Result<Reply, ScramError> {
        match (step, data) {
            (ScramStep::First, None) => Ok(Reply::Challenge {
                data: Vec::new(),
                next: ScramStep::First,
            }),
            (ScramStep::First, Some(data)) => {
                let (exchange, server_first) = self.begin(data)?;
                Ok(Reply::Challenge {
                    data: server_first.into(),
                    next: ScramStep::Proof(exchange),
                })
            }
            (ScramStep::Proof(_), None) => Err(ScramError::Malformed),
            (ScramStep::Proof(exchange), Some(data)) => {
                let fingerprint = exchange.credential.fingerprint();
                let (user, server_final) = exchange.finish(data)?;
                Ok(Reply::Proven {
                    user,
                    fingerprint,
                    data: server_final.into(),
                })
            }
        }
    }

    /// Takes the client's first message and gives the server's.
    pub fn begin(&mut self, client_first: &[u8]) -> Result<(ScramExchange, String), ScramError> {
        self.nonce_count += 1;
        let random = hmac(&self.nonce_key, &[&self.nonce_count.to_be_bytes()]);
        let nonce = BASE64.encode(&random[..NONCE_SIZE]);
        self.begin_with(client_first, &nonce)
    }

    fn begin_with(
        &self,
        client_first: &[u8],
        server_nonce: &str,
    ) -> Result<(ScramExchange, String), ScramError> {
        // The answer repeats the nonce, and has to fit into a property.
        if client_first.len() > CLIENT_FIRST_SIZE_MAX {
            return Err(ScramError::Malformed);
        }
        let message = std::str::from_utf8(client_first).map_err(|_| ScramError::Malformed)?;
        let first = ClientFirst::parse(message).ok_or(ScramError::Malformed)?;
        let known = self.users.credentials.get(&*first.user);
        // Computed for known users too, so that both take the same time.
        let invented = self.invent(&first.user);
        let is_known = known.is_some();
        let credential = known.cloned().unwrap_or(invented);
        let nonce = format!("{}{server_nonce}", first.nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            BASE64.encode(&credential.salt),
            credential.iterations
        );
        let exchange = ScramExchange {
            user: first.user,
            is_known,
            credential,
            binding: BASE64.encode(first.gs2_header),
            nonce,
            transcript: format!("{},{server_first}", first.bare),
        };
        Ok((exchange, server_first))
    }

    fn invent(&self, user: &str) -> ScramCredential {
        let bytes = hmac(&self.salt_key, &[user.as_bytes()]);
        ScramCredential {
            iterations: self.iterations,
            salt: bytes[..SALT_SIZE].to_vec(),
            stored_key: bytes,
            server_key: bytes,
        }
    }
}

impl ScramExchange {
    /// Takes the client's last message. If the proof is right, gives the user's name and the
    /// server's last message.
    pub fn finish(self, client_final: &[u8]) -> Result<(Box<str>, String), ScramError> {
        let message = std::str::from_utf8(client_final).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let is_ours = binding == Some(&*self.binding) && nonce == Some(&*self.nonce);
        let has_mandatory_extension = fields.any(|field| field.starts_with("m="));
        let proof = BASE64.decode(proof).map_err(|_| ScramError::Malformed)?;
        let proof: [u8; 32] = proof.try_into().map_err(|_| ScramError::Malformed)?;
        if !is_ours || has_mandatory_extension {
            return Err(ScramError::Malformed);
        }
        let transcript: [&[u8]; 3] = [self.transcript.as_bytes(), b",", without_proof.as_bytes()];
        let signature = hmac(&self.credential.stored_key, &transcript);
        let client_key: [u8; 32] = std::array::from_fn(|at| proof[at] ^ signature[at]);
        let is_right = Sha256::digest(client_key)
            .as_slice()
            .ct_eq(&self.credential.stored_key);
        let server_signature = hmac(&self.credential.server_key, &transcript);
        // The made-up key of an unknown user is not the hash of anything that can be found.
        if !(bool::from(is_right) && self.is_known) {
            return Err(ScramError::WrongProof);
        }
        Ok((self.user, format!("v={}", BASE64.encode(server_signature))))
    }
}

/// `gs2-header client-first-message-bare`.
struct ClientFirst<'a> {
    gs2_header: &'a str,
    bare: &'a str,
    user: Box<str>,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a str) -> Option<ClientFirst<'a>> {
        // "p=": the client insists on channel binding, which is not supported.
        let after_flag = message
            .strip_prefix("n,")
            .or_else(|| message.strip_prefix("y,"))?;
        let (identity, bare) = after_flag.split_once(',')?;
        let mut fields = bare.split(',');
        // "m=" would be here: a mandatory extension.
        let user = unescape(fields.next()?.strip_prefix("n=")?)?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        let is_nonce_right = !nonce.is_empty() && nonce.bytes().all(|b| b.is_ascii_graphic());
        // Acting for another user is not supported.
        let is_identity_right = match identity.strip_prefix("a=") {
            None => identity.is_empty(),
            Some(other) => unescape(other)? == user,
        };
        (is_nonce_right && is_identity_right && !user.is_empty()).then(|| ClientFirst {
            gs2_header: &message[..message.len() - bare.len()],
            bare,
            user,
            nonce,
        })
    }
}

/// A name in which `=2C` stands for a comma and `=3D` for an equals sign.
fn unescape(name: &str) -> Option<Box<str>> {
    let mut pieces = name.split('=');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        let (character, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), None) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (_, _) => return None,
        };
        text.push(character);
        text.push_str(rest);
    }
    Some(text.into())
}

/// Longest first message of a client: names and nonces are a hundred bytes or less.
pub const CLIENT_FIRST_SIZE_MAX: usize = 4096;
/// Bytes of a nonce of the server: as hard to guess as a key of 144 bits.
const NONCE_SIZE: usize = 18;
/// Bytes of an invented salt: as many as `ringmq passwd` draws.
const SALT_SIZE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677, section 3.
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn server() -> ScramServer {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut users = ScramUsers::default();
        assert!(users.insert("user", ScramCredential::of_password(b"pencil", &salt, 4096)));
        ScramServer::new(Arc::new(users), [7; 32])
    }

    fn begin(first: &str) -> Result<(ScramExchange, String), ScramError> {
        server().begin_with(first.as_bytes(), SERVER_NONCE)
    }

    #[test]
    fn the_example_exchange_of_rfc_7677_succeeds() {
        let (exchange, server_first) = begin(CLIENT_FIRST).unwrap();
        assert_eq!(server_first, SERVER_FIRST);
        let (user, server_final) = exchange.finish(CLIENT_FINAL.as_bytes()).unwrap();
        assert_eq!(&*user, "user");
        assert_eq!(server_final, SERVER_FINAL);
    }

    #[test]
    fn the_last_message_is_refused_if_any_byte_is_changed() {
        for at in 0..CLIENT_FINAL.len() {
            let mut message = CLIENT_FINAL.as_bytes().to_vec();
            message[at] ^= 1;
            let (exchange, _) = begin(CLIENT_FIRST).unwrap();
            assert!(exchange.finish(&message).is_err(), "byte {at}");
        }
    }

    #[test]
    fn wrong_first_messages_are_refused() {
        for (message, is_right) in [
            ("n,,n=user,r=abc", true),
            ("y,,n=user,r=abc", true),
            ("n,a=user,n=user,r=abc,x=extension", true),
            ("n,,n=a=2Cb=3Dc,r=abc", true),
            ("p=tls-unique,,n=user,r=abc", false),
            ("n,a=root,n=user,r=abc", false),
            ("n,x,n=user,r=abc", false),
            ("n,,m=x,n=user,r=abc", false),
            ("n,,n=us=er,r=abc", false),
            ("n,,n=,r=abc", false),
            ("n,,n=user,r=", false),
            ("n,,n=user,r=a b", false),
            ("n,,n=user", false),
            ("n,,r=abc,n=user", false),
            ("n,", false),
            ("", false),
        ] {
            assert_eq!(begin(message).is_ok(), is_right, "{message}");
        }
        assert!(server().begin(b"n,,n=\xFF,r=abc").is_err());
    }

    #[test]
    fn an_unknown_user_gets_a_challenge_like_a_known_one_with_a_constant_salt() {
        let first = "n,,n=nobody,r=rOprNGfwEbeRWgbNEkqO";
        let (exchange, server_first) = begin(first).unwrap();
        assert_eq!(server_first.len(), SERVER_FIRST.len());
        assert!(server_first.ends_with(",i=4096"));
        let other_shard = ScramServer::new(server().users, [8; 32]);
        let (_, elsewhere) = other_shard
            .begin_with(first.as_bytes(), SERVER_NONCE)
            .unwrap();
        assert_eq!(server_first, elsewhere);
        let refusal = exchange.finish(CLIENT_FINAL.as_bytes()).unwrap_err();
        assert_eq!(refusal, ScramError::WrongProof);
    }

    #[test]
    fn nonces_never_repeat() {
        let mut server = server();
        let (_, first) = server.begin(CLIENT_FIRST.as_bytes()).unwrap();
        server.replace_users(server.users.clone());
        let (_, second) = server.begin(CLIENT_FIRST.as_bytes()).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_user_may_be_listed_only_once() {
        let mut users = ScramUsers::default();
        let credential = ScramCredential::of_password(b"x", b"12345678", 1);
        assert!(users.insert("user", credential.clone()));
        assert!(!users.insert("user", credential));
        assert_eq!(users.len(), 1);
    }
}
