//! Authenticating clients: everything that is too slow for a shard, or has to wait.
//!
//! A shard puts an [`AuthRequest`] into its outbox. Its reactor hands that to the [`AuthService`],
//! whose threads ask one [`Authenticator`] after the other; the verdict returns through the inbox
//! of the shard. Each further way to authenticate (tokens, a network service) is another
//! `Authenticator`.
//!
//! Not here: SCRAM, which is fast and lives in the core; rules, which the core keeps.

mod hook;
pub mod http;
pub mod jwt;
mod line;
mod office;
mod password;
mod service;

use std::fmt::Debug;
use std::sync::Arc;

pub use hook::{AuthenticationHook, AuthorizationHook, HookConfig, Hooks, hooks};
pub(crate) use jwt::TRIES_MAX;
pub use password::PasswordFile;
pub use service::AuthServiceConfig;
pub(crate) use service::{ARRIVING_MAX, AuthService};

use ringmq_core::auth::{AuthRequest, Identity, Verdict};
use ringmq_core::refusal::Refusal;

/// One way to find out who a client is. Runs on a thread that may wait and compute.
pub trait Authenticator: Debug + Send + Sync {
    /// What it has to say; `None`: this client is for another one to judge.
    fn judge(&self, request: &AuthRequest) -> Option<Verdict>;

    /// It comes into force: what it needs to be ready may begin.
    fn begin(&self) {}

    /// It waits for others more than it computes: threads of their own ask it.
    fn waits(&self) -> bool {
        false
    }
}

/// All authenticators. Never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Authenticators {
    /// Asked in this order who a client is.
    pub all: Vec<Arc<dyn Authenticator>>,
    /// Asked what an authenticated client may do.
    pub authorization: Option<Arc<AuthorizationHook>>,
}

/// How far a request has come.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// The authenticator of this index is next.
    Authenticate(usize),
    /// The client is authenticated.
    Authorize(Identity),
}

impl Stage {
    /// Where a request begins.
    pub(crate) fn first(request: &AuthRequest) -> Stage {
        match &request.known {
            None => Stage::Authenticate(0),
            Some(identity) => Stage::Authorize((**identity).clone()),
        }
    }
}

impl Authenticators {
    /// Continues from a stage to the verdict or, if the thread may not wait, to the stage that has
    /// to. The first authenticator that knows the client decides; a client that none knows is
    /// denied.
    pub(crate) fn judge(
        &self,
        request: &AuthRequest,
        mut stage: Stage,
        may_wait: bool,
    ) -> Result<Verdict, Stage> {
        loop {
            stage = match stage {
                Stage::Authenticate(index) => {
                    let Some(one) = self.all.get(index) else {
                        return Ok(Verdict::Denied(Refusal::BadPassword));
                    };
                    if one.waits() && !may_wait {
                        return Err(stage);
                    }
                    match one.judge(request) {
                        None => Stage::Authenticate(index + 1),
                        Some(Verdict::Granted(identity)) => Stage::Authorize(identity),
                        Some(verdict @ (Verdict::Denied(_) | Verdict::Unavailable)) => {
                            return Ok(verdict);
                        }
                    }
                }
                Stage::Authorize(identity) => match &self.authorization {
                    None => return Ok(Verdict::Granted(identity)),
                    Some(_) if !may_wait => return Err(Stage::Authorize(identity)),
                    Some(hook) => return Ok(hook.rules_for(request, identity)),
                },
            }
        }
    }

    /// They come into force.
    pub(crate) fn begin(&self) {
        self.all.iter().for_each(|one| one.begin());
    }

    /// Nobody is asked.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.authorization.is_none()
    }
}
