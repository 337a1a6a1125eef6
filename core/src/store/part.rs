//! What was recovered, split by the shards that go on with it.

use std::sync::Arc;

use super::recovered::{OwedWill, Recovered, RecoveredSession};
use crate::home::Home;
use crate::ids::SessionNo;
use crate::message::Message;

/// What one shard goes on with.
#[derive(Debug, Default)]
pub struct RecoveredPart {
    /// Sessions of clients whose home it is.
    pub sessions: Vec<(SessionNo, RecoveredSession)>,
    /// Wills that are to be published, of sessions that have ended.
    pub owed: Vec<(SessionNo, OwedWill)>,
    /// Retained messages of its topics.
    pub retained: Vec<Arc<Message>>,
}

impl Recovered {
    /// Splits what was recovered among `shards` shards.
    pub fn split(self, home: &Home, shards: usize) -> Vec<RecoveredPart> {
        let mut parts: Vec<_> = (0..shards).map(|_| RecoveredPart::default()).collect();
        for (no, session) in self.sessions {
            let shard = home.of_client(&session.client_id);
            parts[shard.index()].sessions.push((no, session));
        }
        for (no, owed) in self.owed {
            let shard = home.of_client(&owed.client_id);
            parts[shard.index()].owed.push((no, owed));
        }
        for message in self.retained {
            let shard = home.of_topic(message.topic());
            parts[shard.index()].retained.push(message);
        }
        for part in &mut parts {
            // Tables have an order of their own, which is not to be seen.
            part.sessions.sort_unstable_by_key(|(no, _)| *no);
            part.retained.sort_unstable_by(|a, b| a.topic().cmp(b.topic()));
        }
        parts
    }
}
