//! Finding out who clients are: what takes too long, or waits, and so has no place on a shard.
//!
//! A shard puts an [`AuthRequest`] into its outbox. Its reactor hands that to the [`AuthService`],
//! whose threads ask one [`Authenticator`] after the other; the verdict comes back through the inbox
//! of the shard. Another way to prove who one is (tokens, a service on the network) is another
//! `Authenticator`.
//!
//! Not here: SCRAM, which is quick and lives in the core; rules, which the core keeps.

mod password;
mod service;

use std::fmt::Debug;
use std::sync::Arc;

pub use password::PasswordFile;
pub(crate) use service::AuthService;
pub use service::AuthServiceConfig;

use ringmq_core::auth::{AuthRequest, Verdict};
use ringmq_core::shard::Refusal;

/// One way to find out who a client is. Runs on a thread that may wait and compute.
pub trait Authenticator: Debug + Send + Sync {
    /// What it has to say; `None`: this client is for another one to judge.
    fn judge(&self, request: &AuthRequest) -> Option<Verdict>;
}

/// All that are asked, in this order. Never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Authenticators(pub Vec<Arc<dyn Authenticator>>);

impl Authenticators {
    /// The first answer. Whom nobody knows is not let in.
    pub fn judge(&self, request: &AuthRequest) -> Verdict {
        let mut verdicts = self.0.iter().map(|one| one.judge(request));
        verdicts
            .find_map(|verdict| verdict)
            .unwrap_or(Verdict::Denied(Refusal::BadPassword))
    }

    /// Nobody is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
