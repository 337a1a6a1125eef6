//! What was recovered, split by the shards that go on with it.

use std::sync::Arc;

use super::recovered::{Owed, Recovered, RecoveredSession};
use crate::home::Home;
use crate::ids::{SessionId, SessionNo, ShardId};
use crate::message::Message;
use crate::topic::TopicFilter;

/// What one shard goes on with.
#[derive(Debug, Default)]
pub struct RecoveredPart {
    /// Sessions of clients whose home it is.
    pub sessions: Vec<(SessionNo, RecoveredSession)>,
    /// What sessions that have ended left to others.
    pub owed: Vec<(SessionNo, Owed)>,
    /// Members of shared subscriptions on other shards.
    pub members: Vec<RecoveredMember>,
    /// Retained messages of its topics.
    pub retained: Vec<Arc<Message>>,
}

/// A member of a shared subscription.
#[derive(Clone, Debug)]
pub struct RecoveredMember {
    /// The group.
    pub filter: Arc<TopicFilter>,
    /// Where its session is.
    pub shard: ShardId,
    /// The session there.
    pub session: SessionId,
}

impl RecoveredPart {
    /// What a session is called on its shard, by its place in `sessions`: they come in this order, before any
    /// other.
    pub fn session_id(index: usize) -> SessionId {
        SessionId {
            index: u32::try_from(index).expect("sessions_max fits four bytes"),
            generation: 0,
        }
    }
}

impl Recovered {
    /// Splits what was recovered among `shards` shards.
    pub fn split(mut self, home: &Home, shards: usize) -> Vec<RecoveredPart> {
        self.tell_partials();
        let mut parts: Vec<_> = (0..shards).map(|_| RecoveredPart::default()).collect();
        for (no, session) in self.sessions {
            let shard = home.of_client(&session.client_id);
            parts[shard.index()].sessions.push((no, session));
        }
        for (no, owed) in self.owed {
            let shard = home.of_client(&owed.client_id);
            parts[shard.index()].owed.push((no, owed));
        }
        for message in self.retained.into_messages() {
            let shard = home.of_topic(message.topic());
            parts[shard.index()].retained.push(message);
        }
        for part in &mut parts {
            // Tables have an order of their own, which is not to be seen.
            part.sessions.sort_unstable_by_key(|(no, _)| *no);
        }
        tell_members(&mut parts);
        parts
    }
}

/// Tells each shard of the members on the others.
fn tell_members(parts: &mut [RecoveredPart]) {
    for shard in (0..parts.len()).map(ShardId::new) {
        let mut members = Vec::new();
        for (index, (_, session)) in parts[shard.index()].sessions.iter().enumerate() {
            let filters = session.subscriptions.keys();
            let shared = filters.filter(|filter| filter.share_name().is_some());
            members.extend(shared.map(|filter| RecoveredMember {
                filter: Arc::new(filter.clone()),
                shard,
                session: RecoveredPart::session_id(index),
            }));
        }
        for (index, part) in parts.iter_mut().enumerate() {
            if index != shard.index() {
                part.members.extend_from_slice(&members);
            }
        }
    }
}
