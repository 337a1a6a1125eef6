//! What a shard still holds at its end, for whoever wants to know what ends with the process.

use std::ops::AddAssign;
use std::sync::Arc;

use super::Shard;
use crate::ids::ClientKey;
use crate::message::Message;
use crate::time::Instant;
use crate::topic::PageSize;

/// What outlives connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Sessions.
    pub sessions: usize,
    /// Messages that they are owed.
    pub messages: usize,
    /// Retained messages of clients.
    pub retained: usize,
}

impl AddAssign for Remains {
    fn add_assign(&mut self, other: Remains) {
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.retained += other.retained;
    }
}

impl Shard {
    /// Walks all sessions and retained messages: for the end of a shard.
    pub fn remains(&mut self, now: Instant) -> Remains {
        let sessions = self.dispatch.sessions.iter();
        let owed =
            sessions.map(|(_, session)| session.queue.len() + session.window.unsettled_count());
        Remains {
            sessions: self.dispatch.sessions.len(),
            messages: owed.sum(),
            retained: self.retained_of_clients(now),
        }
    }

    /// Not those of the broker itself.
    fn retained_of_clients(&mut self, now: Instant) -> usize {
        let all = PageSize {
            messages: usize::MAX,
            bytes: usize::MAX,
            nodes: u32::MAX,
        };
        let mut messages = Vec::new();
        let cursor = self.retained.open();
        let rest = self.retained.page_of_all(cursor, all, now, &mut messages);
        assert!(rest.is_none(), "a page without a bound holds all there is");
        let own = |message: &&Arc<Message>| message.publisher != ClientKey::BROKER;
        messages.iter().filter(own).count()
    }
}
