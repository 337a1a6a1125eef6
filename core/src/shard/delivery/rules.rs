//! What the access rules allow, evaluated as rarely as possible.
//!
//! Without rules there is nothing to evaluate. With rules, read permission on a topic is evaluated with its
//! routes and cached with them: a session that may not have a message has no route. Write permission is cached
//! next to it. New rules void the cache. A message that waited (in a queue, a window, the retained store)
//! carries the generation of the rules that admitted it, and is checked again only if that has changed.
//!
//! Not here: the rules (`auth/acl.rs`).

use super::guard::Guard;
use super::guard::who;
use super::guard::who_is;
use std::sync::Arc;

use super::dispatch::Dispatch;
use super::routes::CachedRoutes;
use crate::auth::{Action, Extent, Identity, Who};
use crate::ids::SessionId;
use crate::message::{Author, Message};
use crate::refusal::Refusal;
use crate::shard::Shard;
use crate::shard::mail::outbox::Outbox;
use crate::topic::TopicFilter;

impl Dispatch {
    /// `None`: there are no rules.
    pub(in crate::shard) fn guard(&self) -> Option<Guard<'_>> {
        let acl = self.access.acl.as_deref()?;
        Some(Guard {
            acl,
            sessions: &self.sessions,
        })
    }

    /// Whether a live session may receive on a topic.
    pub(in crate::shard) fn may_receive(&self, to: SessionId, topic: &[u8]) -> bool {
        self.guard()
            .is_none_or(|guard| guard.may_receive(to, topic))
    }

    /// Whether a live session may have a retained message: by its own rights, and those of who
    /// published it (threat 66).
    pub(in crate::shard) fn may_have_retained(&self, to: SessionId, message: &Message) -> bool {
        let Some(guard) = self.guard() else {
            return true;
        };
        let topic = message.topic();
        let may_author_publish = message.author.as_ref().is_none_or(|author| {
            let who = Who {
                user: author.user.as_deref(),
                client_id: &author.client_id,
                rules: author.rules.as_deref(),
            };
            guard.acl.allows(who, Action::Publish, topic)
        });
        may_author_publish && guard.may_receive(to, topic)
    }
}

impl Shard {
    /// Whether a session may publish on the topic that these are the routes of.
    pub(in crate::shard) fn may_publish(
        &self,
        id: SessionId,
        topic: &[u8],
        routes: &mut CachedRoutes,
    ) -> bool {
        let Some(acl) = self.dispatch.access.acl.as_deref() else {
            return true;
        };
        if routes.writers.contains(&id) {
            return true;
        }
        let session = self.dispatch.sessions.get(id);
        let session = session.expect("the publisher is live");
        let is_allowed = acl.allows(who_is(session), Action::Publish, topic);
        if is_allowed {
            if routes.writers.len() == WRITERS_MAX {
                routes.writers.remove(0);
            }
            routes.writers.push(id);
        }
        is_allowed
    }

    /// Whether a client that has no session yet may publish on a topic.
    pub(in crate::shard) fn may_publish_as(
        &self,
        identity: &Identity,
        client_id: &str,
        topic: &[u8],
    ) -> bool {
        let who = who(identity, client_id);
        let acl = self.dispatch.access.acl.as_deref();
        acl.is_none_or(|acl| acl.allows(who, Action::Publish, topic))
    }

    /// Whether a subscription is to be granted. All that a shared one matches has to be allowed: a
    /// message that one member may not have would be lost to the others. Of others a part will do: each
    /// message is looked at.
    pub(in crate::shard) fn check_rules(
        &self,
        id: SessionId,
        filter: &TopicFilter,
    ) -> Result<(), Refusal> {
        match self.extent(id, filter) {
            Extent::All => Ok(()),
            Extent::Part if filter.share_name().is_none() => Ok(()),
            Extent::Part | Extent::Nothing => Err(Refusal::SubscribeDenied),
        }
    }

    /// How much of what a filter matches a session may receive.
    pub(in crate::shard) fn extent(&self, id: SessionId, filter: &TopicFilter) -> Extent {
        match (&self.dispatch.access.acl, self.dispatch.sessions.get(id)) {
            (Some(acl), Some(session)) => acl.extent(who_is(session), filter),
            (None, _) | (_, None) => Extent::All,
        }
    }

    /// Who is to be named as the author of a message, if it is a retained one; without rules nobody
    /// asks.
    pub(in crate::shard) fn author_of(
        &mut self,
        id: SessionId,
        retain: bool,
    ) -> Option<Arc<Author>> {
        self.dispatch.access.acl.as_ref().filter(|_| retain)?;
        let session = self.session(id);
        let author = session.author.get_or_insert_with(|| {
            Arc::new(Author {
                user: session.identity.user.clone(),
                client_id: session.client_id.clone(),
                rules: session.identity.rules().cloned(),
            })
        });
        Some(author.clone())
    }

    /// The user of a session has proven anew who it is, perhaps with other rights.
    pub(in crate::shard) fn renew_identity(
        &mut self,
        id: SessionId,
        identity: Arc<Identity>,
        out: &mut Outbox,
    ) {
        let session = self.session(id);
        let has_other_rules = session.identity.rules() != identity.rules();
        session.identity = identity;
        if has_other_rules {
            // As if all rules were others: what was found out about this client is not to be told apart.
            session.author = None;
            self.dispatch.rules = self.dispatch.rules.wrapping_add(1);
            self.routes.clear();
            self.review_shares(id, out);
        }
    }
}

/// Publishers of one topic that are remembered. Most topics have one or two.
const WRITERS_MAX: usize = 8;
