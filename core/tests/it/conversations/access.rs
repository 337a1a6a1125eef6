//! Users of a conversation, and the client's side of SCRAM-SHA-256 (RFC 5802), made from its
//! primitives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use ringmq_core::auth::{
    Access, Acl, Effect, Identity, Lease, Method, Password, Passwords, Pattern, Proof, Rule,
    ScramCredential, ScramUsers, Verdict, read_acl_file,
};
use ringmq_core::refusal::Refusal;
use ringmq_core::time::Instant;
use sha2::{Digest as _, Sha256};

use crate::world::{Leases, Tokens, Users};

/// Reads what stands behind `access`.
pub fn parse(
    items: &[(String, String)],
    acls: &BTreeMap<String, String>,
) -> Result<(Access, Users), String> {
    let mut access = Access::default();
    let mut users = Users::default();
    let mut scram = ScramUsers::default();
    let mut lines = String::new();
    let mut given: Vec<&str> = Vec::new();
    for (name, value) in items {
        let pair = value.split_once(':');
        match (name.as_str(), pair) {
            ("password", Some((user, password))) => {
                let stored = Password::new(Method::Sha512, password.as_bytes(), SALT);
                lines += &format!("{user}:{stored}\n");
                (access.asks_shell, access.allow_anonymous) = (true, false);
            }
            ("scram", Some((user, password))) => {
                let credential =
                    ScramCredential::of_password(password.as_bytes(), SALT, ITERATIONS);
                scram.insert(user, credential);
                access.allow_anonymous = false;
            }
            ("acl", None) => {
                let text = acls.get(value).ok_or(format!("no rules {value}"))?;
                let mut acl = Acl::new(false);
                read_acl_file(text, &mut acl).map_err(|error| format!("{error:?}"))?;
                access.acl = Some(Arc::new(acl));
            }
            ("tokens", None) => {
                let issuer = value.parse().map_err(|_| "an issuer is a number")?;
                users.tokens = Some(Tokens {
                    issuer,
                    judge: judge_token,
                });
                access.token_issuers = [issuer].into();
                access.methods = ["JWT".into()].into();
                (access.asks_shell, access.allow_anonymous) = (true, false);
            }
            ("rules", Some(_)) => {
                given.push(value);
                access.asks_rules = true;
                access.acl.get_or_insert_default();
            }
            ("strangers", None) => {
                access.asks_for_strangers = true;
                (access.asks_shell, access.allow_anonymous) = (true, false);
            }
            ("anonymous", None) => access.allow_anonymous = value == "1",
            _ => return Err(format!("no access {name}={value}")),
        }
    }
    access.scram = Arc::new(scram);
    users.rules = access.asks_rules.then(|| leases(&given));
    if !lines.is_empty() {
        let passwords = Passwords::parse(&lines).map_err(|error| format!("{error:?}"))?;
        access.passwords = Arc::new(passwords);
        users.file = Some(access.passwords.clone());
    }
    Ok((access, users))
}

/// What the shell says to `USER:SECONDS:RULES`, where the rules are `publish=FILTER,deny=FILTER`,
/// or none.
fn judge_token(token: &str, issuer: u64, now: Instant) -> Verdict {
    let mut parts = token.splitn(3, ':');
    let (Some(user), Some(seconds)) = (parts.next(), parts.next()) else {
        return Verdict::Denied(Refusal::TokenMalformed);
    };
    let rules = parts.next().map(read_rules);
    let expires_at = match seconds {
        "0" => return Verdict::Denied(Refusal::TokenExpired),
        "-" => None,
        "over" => Some(now),
        seconds => match seconds.parse() {
            Ok(seconds) => Some(now + Duration::from_secs(seconds)),
            Err(_) => return Verdict::Denied(Refusal::TokenMalformed),
        },
    };
    Verdict::Granted(Identity {
        user: Some(user.into()),
        proof: Proof::Token { issuer },
        expires_at,
        rules,
        lease: None,
    })
}

/// Reads `publish=FILTER,deny=FILTER`.
fn read_rules(text: &str) -> Arc<[Rule]> {
    let rules = text.split(',').map(|rule| {
        let (what, filter) = rule.split_once('=').expect("a rule is what=filter");
        Rule {
            effect: match what {
                "deny" => Effect::Deny,
                _ => Effect::Allow,
            },
            publish: what != "subscribe",
            receive: what != "publish",
            pattern: Pattern::parse(filter, true).expect("a filter"),
        }
    });
    rules.collect()
}

/// Rules of users, as `USER:SECONDS:RULES`; without `RULES` there is nothing to say about the user.
pub fn leases(items: &[&str]) -> Leases {
    Leases {
        items: items.iter().map(ToString::to_string).collect(),
        judge: |line, now| {
            let mut parts = line.splitn(3, ':').skip(1);
            let seconds = parts.next().expect("a user is followed by seconds");
            let seconds: u64 = seconds.parse().expect("seconds");
            Lease {
                rules: parts.next().map(read_rules),
                renew_at: now + Duration::from_secs(seconds / 2),
                ends_at: now + Duration::from_secs(seconds),
            }
        },
    }
}

/// What a client says and hears last, whose first message was `n,,n=USER,r=abc`.
pub struct Scram {
    pub proof: String,
    pub verifier: String,
}

impl Scram {
    pub fn of(user: &str, password: &str, server_first: &[u8]) -> Result<Scram, String> {
        let server_first = std::str::from_utf8(server_first).map_err(|e| e.to_string())?;
        let field = |letter: &str| {
            let mut fields = server_first.split(',');
            fields
                .find_map(|field| field.strip_prefix(letter))
                .ok_or(format!("no {letter} in {server_first}"))
        };
        let nonce = field("r=")?;
        let salt = BASE64.decode(field("s=")?).map_err(|e| e.to_string())?;
        let rounds: u32 = field("i=")?.parse().map_err(|_| "i is no number")?;
        // Hi(), round by round.
        let mut last = mac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
        let mut salted = last;
        for _ in 1..rounds {
            last = mac(password.as_bytes(), &last);
            salted.iter_mut().zip(last).for_each(|(a, b)| *a ^= b);
        }
        let client_key = mac(&salted, b"Client Key");
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let without_proof = format!("c=biws,r={nonce}");
        let transcript = format!("n={user},r=abc,{server_first},{without_proof}");
        let signature = mac(&stored_key, transcript.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        let server = mac(&mac(&salted, b"Server Key"), transcript.as_bytes());
        Ok(Scram {
            proof: format!("{without_proof},p={}", BASE64.encode(proof)),
            verifier: format!("v={}", BASE64.encode(server)),
        })
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any size will do");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

const SALT: &[u8] = b"salt of a test";
/// Few, because every play computes them.
const ITERATIONS: u32 = 3;
