//! Questions of the control plane: the core answers within the turn.

use ringmq_core::shard::{Answer, Event};
use ringmq_core::time::Instant;

use super::{Core, Reactor};
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Answers one question: each costs up to some 50 us, which clients wait for.
    pub(super) fn answer_ask(&mut self, now: Instant) {
        let Some(asked) = self.inbox().take_ask() else {
            return;
        };
        if asked.reply.is_closed() {
            return; // It came too late for whoever asked.
        }
        let event = Event::Asked { ask: asked.ask };
        self.core.handle(now, event, &mut self.outbox);
        // A core that has no answer lets the question drop, and whoever asked hears that.
        if let Some(mut answer) = self.outbox.answers.pop() {
            if let Answer::Report(report) = &mut answer {
                report
                    .stages
                    .get_or_insert_default()
                    .add(&self.stages.stages());
            }
            let _ = asked.reply.send(answer);
        }
    }
}
