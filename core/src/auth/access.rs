//! Who may connect: one immutable value that all shards share, replaced as a whole.

use std::fmt;
use std::sync::Arc;

use super::PeerIdentity;
use super::{Acl, Passwords, Rule, ScramUsers};
use crate::codec::Version;
use crate::ids::ConnId;
use crate::refusal::Refusal;
use crate::time::Instant;

/// What holds for every client, from a reload to the next.
#[derive(Clone, Debug)]
pub struct Access {
    /// Clients that show no credentials are let in.
    pub allow_anonymous: bool,
    /// So are such clients where a listener has them prove themselves by certificates, and they
    /// show none ([`PeerIdentity::is_unproven`]).
    pub allow_unproven: bool,
    /// User names and passwords are for the shell to judge. Otherwise nobody looks at them.
    pub asks_shell: bool,
    /// The shell judges clients that show nothing, too, where these are not let in anyway.
    pub asks_for_strangers: bool,
    /// The shell is asked for the rules of everybody who is let in, and again before they end.
    pub asks_rules: bool,
    /// Authentication methods (MQTT 5.0, 4.12) that are for the shell to judge, by the one message
    /// that the client sends.
    pub methods: Arc<[Box<str>]>,
    /// What tokens may be proven by: fingerprints of keys, or of where keys come from.
    pub token_issuers: Arc<[u64]>,
    /// Who may log in with a password that stands in a file.
    pub passwords: Arc<Passwords>,
    /// Who may log in with SCRAM-SHA-256.
    pub scram: Arc<ScramUsers>,
    /// What clients may do; `None`: everything.
    pub acl: Option<Arc<Acl>>,
}

impl Default for Access {
    /// Everybody is let in.
    fn default() -> Access {
        Access {
            allow_anonymous: true,
            allow_unproven: true,
            asks_shell: false,
            asks_for_strangers: false,
            asks_rules: false,
            methods: Arc::default(),
            token_issuers: Arc::default(),
            passwords: Arc::default(),
            scram: Arc::default(),
            acl: None,
        }
    }
}

impl Access {
    /// Whether a client may come in that shows no credentials, and how that counts.
    pub fn proof_of_nameless(&self, peer: &PeerIdentity) -> Option<Proof> {
        let proof = if peer.is_unproven {
            Proof::Unproven
        } else {
            Proof::Nothing
        };
        self.admits_nameless(proof).then_some(proof)
    }

    fn admits_nameless(&self, proof: Proof) -> bool {
        self.allow_anonymous && (self.allow_unproven || proof != Proof::Unproven)
    }

    /// Whether somebody who was let in would be let in again, were it in time.
    pub fn admits(&self, identity: &Identity) -> bool {
        // Rules from a shell that is no longer asked cannot be renewed, and vice versa. Whoever is away since before
        // the start is asked about when it is back.
        let is_asked_later = identity.proof == Proof::Recorded;
        self.proves(identity) && (is_asked_later || identity.lease.is_some() == self.asks_rules)
    }

    /// Whether somebody is who it was found to be, whatever it may do.
    pub(crate) fn proves(&self, identity: &Identity) -> bool {
        if identity.rules().is_some() && self.acl.is_none() {
            return false; // Nobody would check them.
        }
        let stored = |user: &str| match identity.proof {
            Proof::Nothing
            | Proof::Unproven
            | Proof::Token { .. }
            | Proof::Elsewhere
            | Proof::Recorded => None,
            Proof::Password { .. } => self.passwords.find(user).map(|p| p.fingerprint()),
            Proof::Scram { .. } => self.scram.find(user).map(|c| c.fingerprint()),
        };
        let user = identity.user.as_deref().unwrap_or_default();
        match identity.proof {
            Proof::Nothing | Proof::Unproven => self.admits_nameless(identity.proof),
            Proof::Password { fingerprint } | Proof::Scram { fingerprint } => {
                stored(user) == Some(fingerprint)
            }
            Proof::Token { issuer } => self.token_issuers.contains(&issuer),
            Proof::Elsewhere => true,
            Proof::Recorded => self.may_know(&identity.user),
        }
    }

    /// Whether a user who was let in is still one, perhaps with another password or token.
    pub fn knows(&self, identity: &Identity) -> bool {
        let user = identity.user.as_deref().unwrap_or_default();
        match identity.proof {
            Proof::Nothing | Proof::Unproven => self.admits_nameless(identity.proof),
            Proof::Password { .. } => self.passwords.find(user).is_some(),
            Proof::Scram { .. } => self.scram.find(user).is_some(),
            Proof::Token { .. } => !self.token_issuers.is_empty(),
            Proof::Elsewhere => true,
            Proof::Recorded => self.may_know(&identity.user),
        }
    }

    /// Whom a session belongs to that has been away since before the start. Rules that its client had of its own are
    /// not known, if clients have any: so only what others deny is denied to it, and what waits for it is judged when
    /// it is back, by the rules that it then has.
    pub fn recorded(&self, user: Option<Box<str>>) -> Identity {
        let may_have_own =
            self.asks_rules || self.asks_for_strangers || !self.token_issuers.is_empty();
        let rules = (may_have_own && self.acl.is_some()).then(|| Arc::from([Rule::everything()]));
        Identity {
            user,
            proof: Proof::Recorded,
            rules,
            ..Identity::default()
        }
    }

    /// Whether a session of this user may go on that waits for its client. How the user proves its name is not
    /// known: so only those go who have none, where everybody needs one.
    fn may_know(&self, user: &Option<Box<str>>) -> bool {
        user.is_some() || self.allow_anonymous
    }
}

/// Who a client turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its name; `None`: anybody. A session belongs to this name.
    pub user: Option<Box<str>>,
    /// How that was found out.
    pub proof: Proof,
    /// Until when that holds: its connection ends then. `None`: until somebody says otherwise.
    pub expires_at: Option<Instant>,
    /// Rules that hold for it beside those of [`Access::acl`]; what none of them speaks of is
    /// denied then. Whoever gives them sees to it that there is an `acl`, be it an empty one.
    pub rules: Option<Arc<[Rule]>>,
    /// What the shell has said it may do, for a while.
    pub lease: Option<Lease>,
}

impl Identity {
    /// The rules that hold for it beside those of [`Access::acl`].
    pub fn rules(&self) -> Option<&Arc<[Rule]>> {
        let leased = self.lease.as_ref().and_then(|lease| lease.rules.as_ref());
        leased.or(self.rules.as_ref())
    }
}

/// Rules that hold for a while, and are asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// They take the place of [`Identity::rules`]; `None`: there is nothing to say about this
    /// client.
    pub rules: Option<Arc<[Rule]>>,
    /// When they are asked for again; before they end.
    pub renew_at: Instant,
    /// Without new ones its connection ends then.
    pub ends_at: Instant,
}

/// How it was found out who a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Not at all.
    #[default]
    Nothing,
    /// Not at all, where its listener asks for a certificate.
    Unproven,
    /// By its password, which was the one with this fingerprint.
    Password {
        /// Of [`Password::fingerprint`](super::Password::fingerprint).
        fingerprint: u64,
    },
    /// By an exchange over the credential with this fingerprint.
    Scram {
        /// Of [`ScramCredential::fingerprint`](super::ScramCredential::fingerprint).
        fingerprint: u64,
    },
    /// By a token.
    Token {
        /// What proved it, one of [`Access::token_issuers`].
        issuer: u64,
    },
    /// By somebody else, who says himself when it does not hold any more.
    Elsewhere,
    /// Before the broker was started again: all that is known is the name.
    Recorded,
}

/// What the shell has to find out: whether somebody may call itself so. Answered with
/// [`Event::AuthDecided`](crate::shard::Event::AuthDecided), once.
#[derive(Clone)]
pub struct AuthRequest {
    /// The connection that waits for the answer.
    pub conn: ConnId,
    /// Who is at its other end.
    pub peer: PeerIdentity,
    /// What it speaks.
    pub version: Version,
    /// Empty: the broker will choose one.
    pub client_id: Box<str>,
    /// Who it claims to be.
    pub user_name: Option<Box<str>>,
    /// How it proves that; any bytes.
    pub password: Option<Box<[u8]>>,
    /// What it proves itself with by one of [`Access::methods`]. User name and password do not
    /// count then: whoever does not know the method says nothing.
    pub exchange: Option<Exchange>,
    /// Who it is, if that has been found out: then only its rules are asked for.
    pub known: Option<Arc<Identity>>,
    /// Nobody waits for the answer any longer then.
    pub deadline: Instant,
}

/// What a client shows by an authentication method of MQTT 5.0.
#[derive(Clone)]
pub struct Exchange {
    /// Authentication Method.
    pub method: Box<str>,
    /// Authentication Data; any bytes.
    pub data: Box<[u8]>,
}

/// The answer to an [`AuthRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Authenticated.
    Granted(Identity),
    /// Refused; counted and reported as this.
    Denied(Refusal),
    /// Authentication backend unavailable: too many requests, or no response. The client is
    /// refused.
    Unavailable,
}

impl fmt::Debug for AuthRequest {
    // Passwords belong in no log, nor do user names, which may be tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("conn", &self.conn)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Exchange {
    // Credentials belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_clients_are_admitted_where_no_proof_is_required_or_everybody_is_allowed() {
        for (allow_anonymous, allow_unproven, is_unproven, expected) in [
            (true, true, false, Some(Proof::Nothing)),
            (true, true, true, Some(Proof::Unproven)),
            (true, false, false, Some(Proof::Nothing)),
            (true, false, true, None),
            (false, true, false, None),
            (false, true, true, None),
        ] {
            let access = Access {
                allow_anonymous,
                allow_unproven,
                ..Access::default()
            };
            let peer = PeerIdentity {
                is_unproven,
                ..PeerIdentity::default()
            };
            assert_eq!(access.proof_of_nameless(&peer), expected);
            // A client that is connected stays for as long as it would be admitted again.
            let identity = Identity {
                proof: if is_unproven {
                    Proof::Unproven
                } else {
                    Proof::Nothing
                },
                ..Identity::default()
            };
            assert_eq!(access.admits(&identity), expected.is_some());
            assert_eq!(access.knows(&identity), expected.is_some());
        }
    }
}
