//! What is noted when a message is lost or something refused: a count, a case, a sample for the
//! log.
//!
//! It costs only when that happens, and allocates for the first time only.

use super::dispatch::{Dispatch, Held};
use crate::ids::SessionId;
use crate::limits::Limits;
use crate::loss::{Bound, DropReason, Loss};
use crate::refusal::Refusal;
use crate::session::Session;
use crate::shard::mail::end::End;
use crate::shard::mail::turn::Turn;
use crate::shard::sys::cases::LossOf;
use crate::shard::sys::records::Subject;

impl Dispatch {
    /// Notes a message that is lost to subscribers of any shard.
    pub fn note_drop(&mut self, reason: DropReason, topic: &[u8], turn: &mut Turn<'_>) {
        self.metrics.drop(reason);
        let loss = Loss::Dropped(reason);
        let of = LossOf {
            loss,
            client: None,
            topic,
            bound: None,
        };
        self.trace_loss(None, loss, topic, None);
        self.cases.note(&of, turn.now);
        self.records.note(loss, Subject::nobody(topic), turn);
    }

    /// Notes a message that a subscriber does not get.
    pub fn drop_for(
        &mut self,
        to: SessionId,
        reason: DropReason,
        topic: &[u8],
        turn: &mut Turn<'_>,
    ) {
        self.metrics.drop(reason);
        let session = self.sessions.get_mut(to);
        let session = session.expect("the caller knows a live session");
        if let Some(link) = &mut session.link {
            link.counts.dropped += 1;
        }
        let bound = bound_of(reason, session, &self.held, &self.limits);
        self.trace_loss(Some(to), reason.into(), topic, bound);
        self.note_loss(to, Loss::Dropped(reason), topic, bound, turn);
    }

    /// Notes what a client wanted and did not get. An empty topic: it was about none.
    pub fn note_refusal(
        &mut self,
        id: SessionId,
        refusal: Refusal,
        topic: &[u8],
        turn: &mut Turn<'_>,
    ) {
        self.metrics.refuse(refusal);
        let loss = Loss::Refused(refusal);
        if topic.is_empty() {
            let session = self.sessions.get(id);
            let session = session.expect("the caller knows a live session");
            return self.records.note(loss, Subject::of(session, topic), turn);
        }
        let bound = (refusal == Refusal::SubscriptionsFull).then(|| Bound {
            name: "subscriptions_max",
            max: u64::from(self.limits.subscriptions_max),
        });
        self.note_loss(id, loss, topic, bound, turn);
    }

    /// Notes why the broker ends a connection.
    pub fn note_end(&mut self, id: SessionId, refusal: Refusal, end: End, turn: &mut Turn<'_>) {
        self.metrics.refuse(refusal);
        let session = self.sessions.get(id).expect("its connection ends");
        let by = match end {
            End::TakenOver { by } => by,
            End::Disconnected | End::DisconnectedWithWill | End::Lost(_) | End::Refused(_) => None,
        };
        let subject = Subject {
            by,
            ..Subject::of(session, b"")
        };
        let loss = Loss::Refused(refusal);
        self.records.note(loss, subject, turn);
        if is_of_the_broker(refusal) {
            return;
        }
        let session = self.sessions.get_mut(id).expect("just seen");
        session.losses.note(loss, b"", None, turn.now);
        let case = LossOf {
            loss,
            client: Some((session.key, &session.client_id)),
            topic: b"",
            bound: None,
        };
        self.cases.note(&case, turn.now);
    }

    fn note_loss(
        &mut self,
        of: SessionId,
        loss: Loss,
        topic: &[u8],
        bound: Option<Bound>,
        turn: &mut Turn<'_>,
    ) {
        let session = self.sessions.get_mut(of).expect("the caller looked it up");
        session.losses.note(loss, topic, bound, turn.now);
        let case = LossOf {
            loss,
            client: Some((session.key, &session.client_id)),
            topic,
            bound,
        };
        self.cases.note(&case, turn.now);
        self.records.note(loss, Subject::of(session, topic), turn);
    }
}

/// A connection ended, and the client has nothing to do with it.
fn is_of_the_broker(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TakenOver
            | Refusal::Administrative
            | Refusal::Draining
            | Refusal::DrainingElsewhere
            | Refusal::ShuttingDown
    )
}

/// The bound that a message for a session has reached.
pub(in crate::shard) fn bound_of(
    reason: DropReason,
    session: &Session,
    held: &Held,
    limits: &Limits,
) -> Option<Bound> {
    let link = session.link.as_ref();
    let (name, max) = match reason {
        DropReason::SlowSocket => {
            let is_own = link?.unsent_bytes() > limits.unsent_bytes_max;
            match is_own {
                true => ("unsent_bytes_max", u64::from(limits.unsent_bytes_max)),
                false => ("total_unsent_bytes_max", limits.total_unsent_bytes_max),
            }
        }
        DropReason::QueueFull => {
            let messages_max = u64::from(limits.queued_messages_max);
            match session.queue.len() as u64 >= messages_max {
                true => ("queued_messages_max", messages_max),
                false => ("queued_bytes_max", u64::from(limits.queued_bytes_max)),
            }
        }
        DropReason::ShardFull => {
            let messages_max = u64::from(limits.total_queued_messages_max);
            match held.queued_messages >= messages_max {
                true => ("total_queued_messages_max", messages_max),
                false => ("total_queued_bytes_max", limits.total_queued_bytes_max),
            }
        }
        DropReason::PacketTooLarge => {
            let max = link?.packet_size_max;
            ("the Maximum Packet Size of the client", u64::from(max))
        }
        DropReason::Expired
        | DropReason::RetainedFull
        | DropReason::NoMember
        | DropReason::Denied => return None,
    };
    Some(Bound { name, max })
}
