//! What a shard still holds at its end, for whoever wants to know what ends with the process.

use std::ops::AddAssign;

use super::Shard;
use crate::time::Instant;
use crate::topic::{PageSize, TopicFilter, TopicLimits};

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
        let owed = sessions.map(|(_, session)| session.queue.len() + session.window.unsettled_count());
        Remains {
            sessions: self.dispatch.sessions.len(),
            messages: owed.sum(),
            retained: self.retained_of_clients(now),
        }
    }

    /// Not those of the broker itself: `#` does not match `$SYS` [MQTT-4.7.2-1].
    fn retained_of_clients(&mut self, now: Instant) -> usize {
        let limits = TopicLimits::of(&self.config.limits);
        let filter = TopicFilter::parse("#", &limits).expect("one level is within every limit");
        let all = PageSize {
            messages: usize::MAX,
            bytes: usize::MAX,
            nodes: u32::MAX,
        };
        let mut messages = Vec::new();
        let cursor = self.retained.open();
        let (rest, _) = self
            .retained
            .page(cursor, &filter, all, now, &mut messages);
        assert!(rest.is_none(), "a page without a bound holds all there is");
        messages.len()
    }
}
