//! What a crash of the broker changes: what was not acknowledged may be lost, and what was under way may be
//! there. All other promises hold on.

use ringmq_core::codec::QoS;
use ringmq_core::time::Instant;

use super::Oracle;
use crate::message::{Fate, Message, MessageIndex};

impl Oracle {
    /// The broker has crashed, and every connection with it.
    pub fn broker_crashed(&mut self) {
        self.crashed_at = Some(self.tick);
        for client in 0..self.views.len() {
            self.groups.contact_broken(client);
        }
        for message in &mut self.messages {
            // Nobody promised to keep it: a will may have been published or not, and may be again.
            let is_lost = message.is_will || message.qos == QoS::AtMostOnce;
            if is_lost && matches!(message.fate, Fate::Settled(_)) {
                message.fate = Fate::Open;
                // Its expiry begins anew with it.
                message.settled_at = None;
            }
        }
        self.forget_unsettled_values();
    }

    /// Subscribers may have seen values that were not durable.
    fn forget_unsettled_values(&mut self) {
        for (topic, versions) in &self.versions {
            let durable = self.last_settled(versions, self.now);
            for view in &mut self.views {
                if let Some(seen) = view.values.get_mut(topic) {
                    seen.version = seen.version.min(durable);
                    seen.surely = seen.surely.min(durable);
                }
            }
        }
    }

    /// The latest value of a topic that its publisher knew to be taken at some time.
    pub(super) fn last_settled(&self, versions: &[MessageIndex], at: Instant) -> u32 {
        let is_settled = |index: &usize| {
            let message = &self.messages[*index];
            matches!(message.fate, Fate::Settled(_)) && message.settled_at <= Some(at)
        };
        let last = versions.iter().rposition(is_settled);
        last.map_or(0, |place| place as u32 + 1)
    }

    /// Whether a crash came after the message was published first.
    pub(super) fn spans_crash(&self, message: &Message) -> bool {
        self.crashed_at.is_some_and(|at| at >= message.begun)
    }
}
