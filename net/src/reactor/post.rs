//! Posting: messages of this shard become visible to the others.

use ringmq_core::ids::ShardId;
use ringmq_core::shard::MsgClass;
use ringmq_core::time::Instant;

use super::{Core, Reactor};
use crate::counters::count;
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Delivers class by class, in each class to every target. What does not fit stays, and so do
    /// the later classes: no answer may overtake a forward, not even one to another shard. A target
    /// that was refused room once is not asked again before the next turn.
    pub(super) fn flush_posts(&mut self, now: Instant) {
        let was_stalled = std::mem::replace(&mut self.stalled, false);
        if self.outbox.posted_count() == 0 {
            return;
        }
        for class in MsgClass::ALL {
            for (index, inbox) in self.shared.inboxes.iter().enumerate() {
                let target = ShardId::new(index);
                let messages = self.outbox.take_posts(class, target);
                if messages.is_empty() {
                    continue;
                }
                if let Err(rest) = inbox.post(self.id, now, messages) {
                    self.outbox.untake_posts(class, target, rest);
                    self.stalled = true;
                }
            }
            if self.stalled {
                break;
            }
        }
        if self.stalled && !was_stalled {
            count!(self.counts, stalls);
        }
    }
}
