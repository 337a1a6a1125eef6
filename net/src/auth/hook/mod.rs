//! HTTP services that authenticate clients and supply their rules.
//!
//! The *authentication* hook judges a client by its credentials; its response may include rules.
//! The *authorization* hook supplies the rules of a client that has been authenticated, in whatever
//! way. Rules are fetched as a whole, at login and again before they expire, so that no message
//! waits for a service: with them the core decides about each topic itself, including wildcards,
//! retained and queued messages.
//!
//! Invariants:
//! - a response that is late, broken, or of an unknown form or status counts as none; without a
//!   response no client gets in and no rules are renewed (threat 82).
//! - no response is cached here, good or bad.
//!
//! Not here: who waits for the responses, and for how long (`service.rs`, the core).

mod answer;
mod breaker;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ringmq_core::auth::{AuthRequest, Identity, Lease, Proof, Verdict};
use ringmq_core::codec::Version;
use ringmq_core::refusal::Refusal;
use ringmq_core::time::Instant;
use serde::Serialize;
use tracing::{debug, info, warn};

use self::answer::{Answer, Decision};
use self::breaker::{Breaker, Turn};
use super::Authenticator;
use super::http::{HttpAnswer, HttpClient, HttpUrl};
use crate::counters::{Tallies, Tally};
use crate::transport::TlsProblem;
use ringmq_ring::clock;

/// How services are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// Says who clients are.
    pub authentication: Option<HttpUrl>,
    /// Says what they may do.
    pub authorization: Option<HttpUrl>,
    /// CAs that the services' certificates come from; none: those of the machine.
    pub cas: Vec<PathBuf>,
    /// Time for one response.
    pub timeout: Duration,
    /// Consecutive failures after which a service is not called.
    pub failures_max: u32,
    /// For how long.
    pub pause: Duration,
    /// How long rules are valid if the response does not say.
    pub rules_last: Duration,
}

impl Default for HookConfig {
    fn default() -> HookConfig {
        HookConfig {
            authentication: None,
            authorization: None,
            cas: Vec::new(),
            timeout: Duration::from_secs(3),
            failures_max: 5,
            pause: Duration::from_secs(5),
            rules_last: Duration::from_secs(300),
        }
    }
}

/// The service that says who clients are.
#[derive(Debug)]
pub struct AuthenticationHook(Hook);

/// The service that says what they may do.
#[derive(Debug)]
pub struct AuthorizationHook {
    hook: Hook,
    rules_last: Duration,
    spread: RandomState,
}

/// Both, as far as there are such.
pub type Hooks = (Option<AuthenticationHook>, Option<AuthorizationHook>);

/// Makes the hooks. Nothing is asked yet.
pub fn hooks(
    config: &HookConfig,
    headers: Vec<(String, String)>,
    tallies: &Arc<Tallies>,
) -> Result<Hooks, TlsProblem> {
    if config.authentication.is_none() && config.authorization.is_none() {
        return Ok((None, None));
    }
    let client = HttpClient::new(&config.cas, CA_SETTING, headers)?;
    for url in [&config.authentication, &config.authorization]
        .into_iter()
        .flatten()
    {
        if !url.is_private() {
            warn!(%url, "clients' user names and passwords are sent there unencrypted; use https");
        }
    }
    let hook = |url: &HttpUrl, counted| Hook {
        url: url.clone(),
        client: client.clone(),
        timeout: config.timeout,
        breaker: Breaker::new(config.failures_max, config.pause),
        tallies: Arc::clone(tallies),
        counted,
    };
    let authentication = config.authentication.as_ref();
    let authorization = config.authorization.as_ref();
    Ok((
        authentication.map(|url| AuthenticationHook(hook(url, &AUTHENTICATION))),
        authorization.map(|url| AuthorizationHook {
            hook: hook(url, &AUTHORIZATION),
            rules_last: config.rules_last,
            spread: RandomState::new(),
        }),
    ))
}

impl Authenticator for AuthenticationHook {
    fn judge(&self, request: &AuthRequest) -> Option<Verdict> {
        if request.exchange.is_some() {
            return None; // Of methods it knows nothing.
        }
        let Ok(answer) = self
            .0
            .ask(&Question::of_stranger(request), request.deadline)
        else {
            return Some(Verdict::Unavailable);
        };
        match answer.decision {
            Decision::Allow => Some(Verdict::Granted(Identity {
                user: answer.user.or_else(|| request.user_name.clone()),
                proof: Proof::Elsewhere,
                expires_at: answer.lasts.map(|span| clock() + span),
                rules: answer.rules,
                lease: None,
            })),
            Decision::Deny => Some(Verdict::Denied(Refusal::BadPassword)),
            Decision::Ignore => None,
        }
    }

    fn waits(&self) -> bool {
        true
    }
}

impl AuthorizationHook {
    /// What an authenticated client may do.
    pub(super) fn rules_for(&self, request: &AuthRequest, mut identity: Identity) -> Verdict {
        let question = Question::of_known(request, &identity);
        let Ok(answer) = self.hook.ask(&question, request.deadline) else {
            return Verdict::Unavailable;
        };
        let rules = match answer.decision {
            Decision::Allow => answer.rules,
            Decision::Ignore => None,
            Decision::Deny => return Verdict::Denied(Refusal::NoRules),
        };
        let now = clock();
        let lasts = answer.lasts.unwrap_or(self.rules_last);
        identity.lease = Some(Lease {
            rules,
            renew_at: now + self.renewed_after(lasts, &request.client_id),
            ends_at: now + lasts,
        });
        Verdict::Granted(identity)
    }
}

impl AuthorizationHook {
    /// Clients that came all at once, after a restart, do not ask all at once ever after.
    fn renewed_after(&self, lasts: Duration, client_id: &str) -> Duration {
        let share = RENEWED_MIN + (self.spread.hash_one(client_id) % 256) as u32;
        lasts * share / 1024
    }
}

/// One service.
#[derive(Debug)]
struct Hook {
    url: HttpUrl,
    client: HttpClient,
    timeout: Duration,
    breaker: Breaker,
    tallies: Arc<Tallies>,
    counted: &'static Counted,
}

/// What is counted of one service.
#[derive(Debug)]
struct Counted {
    /// Its address.
    setting: &'static str,
    /// Who is allowed has to be given rules.
    needs_rules: bool,
    allowed: Tally,
    denied: Tally,
    ignored: Tally,
    failed: Tally,
    out_of_time: Tally,
    cut_off: Tally,
}

/// There is no answer; it was counted and logged.
#[derive(Debug)]
struct NoAnswer;

/// Why a question brought nothing.
#[derive(Debug)]
enum Fault {
    /// The client's time was up before that of the service.
    ClientOutOfTime,
    /// The service does not work as it should.
    Service(String),
}

impl Hook {
    fn ask(&self, question: &Question<'_>, deadline: Instant) -> Result<Answer, NoAnswer> {
        let now = clock();
        if !self.breaker.admits(now) {
            self.tallies.add(self.counted.cut_off);
            return Err(NoAnswer);
        }
        let timeout = self.timeout.min(deadline.saturating_since(now));
        let setting = self.counted.setting;
        match self.exchange(question, timeout) {
            Ok(answer) => {
                self.tallies.add(match answer.decision {
                    Decision::Allow => self.counted.allowed,
                    Decision::Deny => self.counted.denied,
                    Decision::Ignore => self.counted.ignored,
                });
                if self.breaker.succeeded() == Turn::Closed {
                    info!(setting, url = %self.url, "hook answers again");
                }
                Ok(answer)
            }
            Err(Fault::ClientOutOfTime) => {
                // It waited elsewhere, in a line of logins: a service that is healthy and busy is
                // not to be cut off.
                self.tallies.add(self.counted.out_of_time);
                self.breaker.abandoned(clock());
                let url = &self.url;
                debug!(setting, %url, "the client's time ran out while it waited for the hook");
                Err(NoAnswer)
            }
            Err(Fault::Service(fault)) => {
                self.tallies.add(self.counted.failed);
                match self.breaker.failed(clock()) {
                    Turn::First => warn!(setting, url = %self.url, "hook failed: {fault}"),
                    Turn::Opened => warn!(
                        setting,
                        url = %self.url,
                        "hook failing; next attempt after hooks.pause, and until then clients that \
                         need it are refused: {fault}"
                    ),
                    Turn::None | Turn::Closed => {
                        debug!(setting, url = %self.url, "hook failed: {fault}");
                    }
                }
                Err(NoAnswer)
            }
        }
    }

    fn exchange(&self, question: &Question<'_>, timeout: Duration) -> Result<Answer, Fault> {
        let body = serde_json::to_vec(question).expect("texts and numbers can be written as JSON");
        let came = self.client.post_json(&self.url, &body, timeout);
        let HttpAnswer { status, body } = came.map_err(|error| {
            // Only who was given all the time that the settings grant it is late.
            if error.is_timeout() && timeout < self.timeout {
                Fault::ClientOutOfTime
            } else {
                Fault::Service(error.to_string())
            }
        })?;
        let answer = match status {
            200 => self
                .read(&body)
                .map_err(|e| format!("invalid response: {e}")),
            204 if self.counted.needs_rules => Err("the response has no rules".to_owned()),
            204 => Ok(Answer::plain(Decision::Allow)),
            401 | 403 => Ok(Answer::plain(Decision::Deny)),
            other => Err(format!("the response has status {other}")),
        };
        answer.map_err(Fault::Service)
    }

    fn read(&self, body: &[u8]) -> Result<Answer, String> {
        let answer = Answer::parse(body)?;
        // Who forgot them would otherwise lift the rules that a client had.
        match self.counted.needs_rules && answer.decision == Decision::Allow {
            true if answer.rules.is_none() => Err("`allow` without rules".to_owned()),
            true | false => Ok(answer),
        }
    }
}

/// What messages call the setting of the CAs.
const CA_SETTING: &str = "hooks.ca";
const AUTHENTICATION: Counted = Counted {
    setting: "hooks.authentication_url",
    needs_rules: false,
    allowed: Tally::AuthenticationAllowed,
    denied: Tally::AuthenticationDenied,
    ignored: Tally::AuthenticationIgnored,
    failed: Tally::AuthenticationFailed,
    out_of_time: Tally::AuthenticationOutOfTime,
    cut_off: Tally::AuthenticationCutOff,
};
const AUTHORIZATION: Counted = Counted {
    setting: "hooks.authorization_url",
    needs_rules: true,
    allowed: Tally::AuthorizationAllowed,
    denied: Tally::AuthorizationDenied,
    ignored: Tally::AuthorizationIgnored,
    failed: Tally::AuthorizationFailed,
    out_of_time: Tally::AuthorizationOutOfTime,
    cut_off: Tally::AuthorizationCutOff,
};
/// Of 1024 parts of the time that rules hold: they are asked for again after half of it, to three
/// quarters.
const RENEWED_MIN: u32 = 512;

/// What a service is told; absent fields are left out.
#[derive(Serialize)]
struct Question<'a> {
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    /// In place of one that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    protocol: &'static str,
    /// The name in its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<&'a str>,
}

impl<'a> Question<'a> {
    fn of_stranger(request: &'a AuthRequest) -> Question<'a> {
        let text = request.password.as_deref().map(std::str::from_utf8);
        Question {
            user: request.user_name.as_deref(),
            password: text.and_then(Result::ok),
            password_base64: match text {
                Some(Err(_)) => request
                    .password
                    .as_deref()
                    .map(|bytes| BASE64.encode(bytes)),
                Some(Ok(_)) | None => None,
            },
            ..Question::about(request)
        }
    }

    fn of_known(request: &'a AuthRequest, identity: &'a Identity) -> Question<'a> {
        Question {
            user: identity.user.as_deref(),
            ..Question::about(request)
        }
    }

    fn about(request: &'a AuthRequest) -> Question<'a> {
        Question {
            client_id: &request.client_id,
            user: None,
            password: None,
            password_base64: None,
            peer: request.peer.address.map(|address| address.to_string()),
            protocol: match request.version {
                Version::V31 => "3.1",
                Version::V311 => "3.1.1",
                Version::V5 => "5.0",
            },
            certificate: request.peer.name.as_deref(),
        }
    }
}

impl fmt::Debug for Question<'_> {
    // Passwords belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").finish_non_exhaustive()
    }
}
