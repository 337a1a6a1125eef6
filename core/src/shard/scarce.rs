//! The disk is almost full: what would grow on it is refused while there is room to say so, so that what is there can be
//! acknowledged, deleted and ended. That is recorded, and takes up what was kept back.
//!
//! Only what a client of this shard asks for is refused: what another shard accepted is kept.
//!
//! Not here: how scarcity is noticed (the shell, `store/log`).

use super::Shard;
use super::mail::turn::Turn;
use crate::codec::{Connect, Publish, QoS, Version};
use crate::ids::SessionId;
use crate::refusal::{Refusal, Violation};

impl Shard {
    /// The disk is almost full, or is not any more.
    pub(super) fn on_space_changed(&mut self, is_scarce: bool) {
        self.dispatch.journal.set_scarce(is_scarce);
    }

    /// A message would be recorded, by this shard or, for all that is known, by another one.
    pub(super) fn lacks_space_for(
        &mut self,
        id: SessionId,
        hash: u64,
        publish: &Publish<'_>,
        topic: &[u8],
    ) -> bool {
        if publish.qos == QoS::AtMostOnce || !self.dispatch.journal.is_scarce() {
            return false;
        }
        if publish.retain {
            return !publish.payload.is_empty(); // A deletion makes room.
        }
        let is_receipt_kept = publish.qos == QoS::ExactlyOnce && self.session(id).no.is_some();
        // What is not a topic is refused for that.
        let Ok(routes) = self.find_routes(topic, hash) else {
            return false;
        };
        let sessions = &self.dispatch.sessions;
        let is_kept = routes.routes.iter().any(|route| {
            let session = sessions.get(route.session());
            let outlives = session.is_some_and(|session| session.no.is_some());
            outlives && route.delivery(&routes.ids).qos > QoS::AtMostOnce
        });
        let is_kept_elsewhere = routes.durable.iter().any(|shard| shard != self.config.id);
        // Any member may get it.
        let is_kept_by_group = !routes.groups.is_empty() && !routes.durable.is_empty();
        self.routes.put(hash, routes);
        is_receipt_kept || is_kept || is_kept_elsewhere || is_kept_by_group
    }

    /// MQTT 3.1.1 has no negative acknowledgement, and a positive one would lie: the connection ends.
    pub(super) fn check_can_be_told(
        &mut self,
        id: SessionId,
        lacks_space: bool,
    ) -> Result<(), Violation> {
        if lacks_space && self.session(id).version < Version::V5 {
            return Err(Refusal::DiskFull.into());
        }
        Ok(())
    }

    /// Whether a message is to be retained: one of QoS 0 has no answer, so it is delivered and nothing else.
    pub(super) fn retains(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        topic: &[u8],
        turn: &mut Turn<'_>,
    ) -> bool {
        let is_set = publish.retain && !publish.payload.is_empty();
        let is_silent = publish.qos == QoS::AtMostOnce;
        if is_set && is_silent && self.dispatch.journal.is_scarce() {
            let refusal = Refusal::DiskFull;
            self.dispatch.note_refusal(id, refusal, topic, turn);
            return false;
        }
        publish.retain
    }

    /// A CONNECT asks for a session that outlives its connection. One that is there already goes on.
    pub(super) fn check_space_for(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
        expiry_s: u32,
    ) -> Result<(), Refusal> {
        if expiry_s == 0 || !self.dispatch.journal.is_scarce() {
            return Ok(());
        }
        let sessions = &self.dispatch.sessions;
        let found = sessions.find(client_id).and_then(|id| sessions.get(id));
        let goes_on = !connect.clean_start && found.is_some_and(|session| session.no.is_some());
        if goes_on {
            Ok(())
        } else {
            Err(Refusal::DiskFull)
        }
    }
}
