//! JSON Web Tokens (RFC 7519) as an authenticator.
//!
//! A client presents its token as its password or user name, or with the MQTT 5.0 authentication
//! method [`METHOD`], which also lets it present the next one while it is connected.
//!
//! The signature is verified first, with a key that has the token's algorithm; only then are the
//! claims read. What is wrong with a token is counted and logged, but not told to the client.
//!
//! aws-lc-rs verifies the signatures, as it does for TLS. JWT libraries are laxer than needed here
//! (duplicate names, numbers as strings, keys not checked before use, several algorithms per key):
//! ARCHITECTURE.md has the details.
//!
//! Not here: when a token expires (the shard has a timer), its rules (`ringmq_core::auth`).

mod algorithm;
mod claims;
mod json;
mod keys;
mod remote;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use algorithm::Algorithm;
pub use claims::{Claim, Demands, Grant, Shower};
pub use keys::{KEYS_MAX, Key, KeyFault, read_set};
use remote::Fetched;
pub use remote::{FetchError, MISS_PAUSE, RemoteConfig, RemoteKeys};
use ringmq_core::auth::{AuthRequest, Identity, Proof, Verdict};
use ringmq_core::refusal::Refusal;
use ringmq_core::time::Instant;
use sha2::{Digest as _, Sha256};
pub use token::{Token, is_like_a_token};
use tracing::debug;

use super::Authenticator;
use ringmq_ring::clock;

/// The authentication method of MQTT 5.0 by which tokens are shown.
pub const METHOD: &str = "JWT";

/// Where a CONNECT without that method has its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenField {
    /// As the password.
    #[default]
    Password,
    /// As the user name.
    UserName,
}

/// Which tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JwtConfig {
    /// Where they are.
    pub field: TokenField,
    /// Bytes of one.
    pub size_max: usize,
    /// What they have to say.
    pub demands: Demands,
}

impl Default for JwtConfig {
    fn default() -> JwtConfig {
        JwtConfig {
            field: TokenField::default(),
            size_max: 8 * 1024,
            demands: Demands::default(),
        }
    }
}

/// A key, and what stands for it in
/// [`Access::token_issuers`](ringmq_core::auth::Access::token_issuers).
#[derive(Clone, Debug)]
pub struct LocalKey {
    /// The key.
    pub key: Key,
    /// Of the key and what is asked of its tokens.
    pub fingerprint: u64,
}

/// Keys on the network, and what stands for all of them, whichever they are at a time.
#[derive(Clone, Debug)]
pub struct RemoteSource {
    /// The keys.
    pub keys: Arc<RemoteKeys>,
    /// Of their address and what is asked of their tokens.
    pub fingerprint: u64,
}

/// Judges every client that presents what looks like a token.
#[derive(Debug)]
pub struct Jwt {
    config: JwtConfig,
    keys: Vec<LocalKey>,
    remotes: Vec<RemoteSource>,
}

/// What is wrong with a token: how it is counted, and the reason for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is counted.
    pub refusal: Refusal,
    /// For the log.
    pub what: &'static str,
}

impl Jwt {
    /// With keys from files, and with key sets from the network.
    pub fn new(config: JwtConfig, keys: Vec<LocalKey>, remotes: Vec<RemoteSource>) -> Jwt {
        Jwt {
            config,
            keys,
            remotes,
        }
    }

    /// Fingerprints of everything that tokens can be verified with.
    pub fn issuers(&self) -> impl Iterator<Item = u64> {
        let local = self.keys.iter().map(|local| local.fingerprint);
        local.chain(self.remotes.iter().map(|remote| remote.fingerprint))
    }

    /// Looks at a token. `time` is the time of day, since 1970; gives also what proved it.
    pub fn check(
        &self,
        text: &[u8],
        shower: Shower<'_>,
        time: Duration,
    ) -> Result<(Grant, u64), Fault> {
        let token = Token::parse(text, self.config.size_max)?;
        let issuer = self.prove(&token)?;
        let grant = self.config.demands.check(&token.claims()?, shower, time)?;
        Ok((grant, issuer))
    }

    /// Finds the key that signed a token.
    fn prove(&self, token: &Token<'_>) -> Result<u64, Fault> {
        let now = clock();
        let kid = token.kid.as_deref();
        let remotes = self.remotes.iter();
        let fetched: Vec<_> = remotes.map(|remote| remote.keys.keys(now)).collect();
        let mut fault = Fault::KEY;
        let mut try_all = |keys: &mut dyn Iterator<Item = (&Key, u64)>| {
            let fitting =
                keys.filter(|(key, _)| key.answers_to(kid) && key.algorithm == token.algorithm);
            // So many of each source: the keys of one do not keep those of another from their turn.
            for (key, fingerprint) in fitting.take(TRIES_MAX) {
                if key.verifies(token.signed, &token.signature) {
                    return Some(fingerprint);
                }
                fault = Fault::SIGNATURE;
            }
            None
        };
        let mut local = self.keys.iter().map(|own| (&own.key, own.fingerprint));
        if let Some(fingerprint) = try_all(&mut local) {
            return Ok(fingerprint);
        }
        for (remote, fetched) in self.remotes.iter().zip(&fetched) {
            let keys = fetched.iter().flat_map(|fetched| &fetched.keys);
            if let Some(found) = try_all(&mut keys.map(|key| (key, remote.fingerprint))) {
                return Ok(found);
            }
        }
        if self.may_come(kid, &fetched, now) {
            Err(Fault::NO_KEYS)
        } else {
            Err(fault)
        }
    }

    /// Whether a key that nobody has yet may come from the network. Each address that may have
    /// another one is asked, whatever the others say: one that is down, or was asked a moment ago,
    /// stands for itself only.
    fn may_come(&self, kid: Option<&str>, fetched: &[Option<Arc<Fetched>>], now: Instant) -> bool {
        let mut may_come = false;
        for (remote, fetched) in self.remotes.iter().zip(fetched) {
            may_come |= match fetched {
                None => true,
                // A wrong signature by a key of that name is nothing that other keys would mend.
                Some(fetched) => !fetched.names(kid) && remote.keys.miss(now),
            };
        }
        may_come
    }

    fn decide(&self, text: &[u8], shower: Shower<'_>) -> Verdict {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        self.decide_at(clock(), time.unwrap_or_default(), text, shower)
    }

    /// Both clocks at one moment: a token ends by the time of day, and the shard counts from the
    /// boot on.
    fn decide_at(&self, now: Instant, time: Duration, text: &[u8], shower: Shower<'_>) -> Verdict {
        match self.check(text, shower, time) {
            Ok((grant, issuer)) => Verdict::Granted(Identity {
                user: Some(grant.user),
                proof: Proof::Token { issuer },
                expires_at: grant.lasts.map(|lasts| now + lasts),
                rules: grant.rules,
                lease: None,
            }),
            Err(fault) => {
                debug!(
                    client = shower.client_id,
                    reason = fault.refusal.name(),
                    "token rejected: {}",
                    fault.what
                );
                match fault {
                    Fault::NO_KEYS => Verdict::Unavailable,
                    _ => Verdict::Denied(fault.refusal),
                }
            }
        }
    }
}

impl Authenticator for Jwt {
    fn begin(&self) {
        self.remotes.iter().for_each(|remote| remote.keys.begin());
    }

    fn judge(&self, request: &AuthRequest) -> Option<Verdict> {
        let user_name = request.user_name.as_deref();
        let (token, user_name) = match (&request.exchange, self.config.field) {
            (Some(exchange), _) if *exchange.method == *METHOD => {
                (Some(&*exchange.data), user_name)
            }
            (Some(_), _) => return None,
            (None, TokenField::Password) => (request.password.as_deref(), user_name),
            (None, TokenField::UserName) => (user_name.map(str::as_bytes), None),
        };
        let is_meant = request.exchange.is_some() || token.is_some_and(is_like_a_token);
        let shower = Shower {
            client_id: &request.client_id,
            user_name,
        };
        is_meant.then(|| self.decide(token.unwrap_or_default(), shower))
    }
}

/// Identifies a key, or the source of keys, together with the requirements for tokens: a client
/// admitted under other requirements has to authenticate again.
pub fn fingerprint(config: &JwtConfig, origin: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(format!("{config:?}"));
    hash.update(origin);
    let hash: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(*hash.first_chunk().expect("it has 32 bytes"))
}

impl Fault {
    const SIZE: Fault = Fault::new(Refusal::TokenMalformed, "it is larger than token_size_max");
    const FORM: Fault = Fault::new(Refusal::TokenMalformed, "it is no JWT, or not strictly");
    const CRITICAL: Fault = Fault::new(Refusal::TokenMalformed, "its header requires extensions");
    const ALGORITHM: Fault = Fault::new(Refusal::TokenKey, "its algorithm is `none` or unknown");
    const KEY: Fault = Fault::new(
        Refusal::TokenKey,
        "no key of that name is for its algorithm",
    );
    const NO_KEYS: Fault = Fault::new(
        Refusal::AuthenticationDown,
        "the keys of its issuer are missing or being fetched",
    );
    const SIGNATURE: Fault = Fault::new(Refusal::TokenSignature, "its signature is wrong");
    const DATE: Fault = Fault::new(
        Refusal::TokenClaims,
        "exp, nbf or iat is no whole number of seconds",
    );
    const EARLY: Fault = Fault::new(Refusal::TokenClaims, "nbf or iat is in the future");
    const EXPIRED: Fault = Fault::new(Refusal::TokenExpired, "exp is in the past");
    const NO_EXPIRY: Fault = Fault::new(Refusal::TokenClaims, "it has no exp");
    const ISSUER: Fault = Fault::new(Refusal::TokenClaims, "iss is not in `issuers`");
    const AUDIENCE: Fault = Fault::new(Refusal::TokenClaims, "aud is not in `audiences`");
    const NO_USER: Fault = Fault::new(Refusal::TokenClaims, "`user_claim` names no text in it");
    const RULE: Fault = Fault::new(
        Refusal::TokenClaims,
        "its rules are not lists of topic filters",
    );
    const RULE_FORM: Fault = Fault::new(
        Refusal::TokenClaims,
        "its rules are not in an object, or the object has a member that is not a rules claim",
    );
    const OTHER_USER: Fault = Fault::new(Refusal::TokenClient, "CONNECT has another user name");
    const OTHER_CLIENT: Fault = Fault::new(
        Refusal::TokenClient,
        "CONNECT has not the client identifier of `client_id_claim`",
    );

    const fn new(refusal: Refusal, what: &'static str) -> Fault {
        Fault { refusal, what }
    }
}

/// Keys of one source that are tried for one token: those without a name answer to any.
pub(crate) const TRIES_MAX: usize = 8;
