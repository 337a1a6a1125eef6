//! Answers, and whatever else has to wait until something is durable.

use super::dispatch::Dispatch;
use crate::ids::SessionId;
use crate::session::Pause;
use crate::shard::mail::outbox::Outbox;
use crate::shard::pace;

impl Dispatch {
    /// Answers a client that is connected, as soon as what was recorded and posted for it is durable. Answers
    /// keep their order [MQTT-4.6.0-2] [MQTT-4.6.0-3].
    pub(in crate::shard) fn answer(
        &mut self,
        id: SessionId,
        out: &mut Outbox,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.metrics.controls_sent += 1;
        let session = self.sessions.get_mut(id);
        let session = session.expect("the caller knows a live session");
        let link = session.link.as_mut().expect("the client is connected");
        match (self.journal.needs(session.turn), &mut link.held) {
            (None, None) => link.write(&mut self.pool, &mut out.dirty, encode),
            (None, Some(held)) => held.append(1, encode),
            (Some(turn), _) => {
                session.turn = turn;
                if link.hold(turn, encode) {
                    pace::pause(link, Pause::Log, out);
                }
                self.journal.wait(turn, id);
            }
        }
    }
}
