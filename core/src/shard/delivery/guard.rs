//! The access rules, together with the sessions that they apply to.

use crate::auth::{Acl, Action, Identity, Who};
use crate::ids::SessionId;
use crate::session::{Session, Sessions};

/// The rules, and the sessions that they are about.
#[derive(Clone, Copy)]
pub struct Guard<'a> {
    pub(in crate::shard) acl: &'a Acl,
    pub(in crate::shard) sessions: &'a Sessions,
}

impl Guard<'_> {
    /// Whether a live session may receive on a topic.
    pub fn may_receive(&self, to: SessionId, topic: &[u8]) -> bool {
        let session = self.sessions.get(to);
        let session = session.expect("only live sessions have subscriptions");
        self.acl.allows(who_is(session), Action::Receive, topic)
    }
}

pub(in crate::shard) fn who_is(session: &Session) -> Who<'_> {
    who(&session.identity, &session.client_id)
}

pub(in crate::shard) fn who<'a>(identity: &'a Identity, client_id: &'a str) -> Who<'a> {
    Who {
        user: identity.user.as_deref(),
        client_id,
        rules: identity.rules().map(|rules| &**rules),
    }
}
