//! Answers, and whatever else has to wait until something is durable.

use super::dispatch::Dispatch;
use std::sync::Arc;

use crate::codec::{self, QoS};
use crate::ids::{DeliveryNo, PacketId, SessionId, SessionNo, TurnSeq};
use crate::session::{KeptMatch, Link, Pause, PubrelDue, Until};
use crate::shard::mail::outbox::Outbox;
use crate::shard::pace;
use crate::store::{Journal, Receiver, ReceiverTerms, Record};

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
            (None, None) => link.write_answer(&mut self.pool, &mut out.dirty, encode),
            (None, Some(held)) => held.append(1, encode),
            (Some(turn), _) => {
                session.turn = turn;
                let until = Until {
                    turn,
                    is_synced: false,
                };
                if link.hold(until, encode) {
                    pace::pause(link, Pause::Log, out);
                }
                self.journal.wait(turn, id);
            }
        }
    }

    /// After a packet: later answers to its sender wait for what it led to, even if it had none.
    pub(in crate::shard) fn note_turn(&mut self, id: SessionId) {
        if let Some(turn) = self.journal.turn_of_effects() {
            let session = self.sessions.get_mut(id);
            session.expect("its packet was handled").turn = turn;
        }
    }

    /// Something that was held back for a client leaves when this is done.
    pub(super) fn wait(&mut self, id: SessionId, until: Option<Until>) {
        if let Some(until) = until {
            if !self.journal.is_done(until.turn) {
                self.journal.wait(until.turn, id);
            } else if !self.journal.is_safe(until) {
                self.journal.wait_for_sync(id);
            }
        }
    }

    /// A delivery ended in another way than by being acknowledged, or was.
    pub(in crate::shard) fn note_settled(&mut self, of: SessionId, no: DeliveryNo) {
        let session = self.sessions.get(of).expect("the caller looked it up");
        if let Some(session_no) = session.no {
            self.journal.settle(session_no, no);
            self.free_identifiers(of);
        }
    }

    /// What is left of a delivery is PUBREL; where that is recorded, it goes when it is durable.
    pub(in crate::shard) fn release_delivery(
        &mut self,
        to: SessionId,
        id: PacketId,
        due: PubrelDue,
        out: &mut Outbox,
    ) {
        let session = self.sessions.get(to).expect("the caller looked it up");
        let Some(no) = session.no else {
            return self.send_pubrel(to, id, out);
        };
        if !due.is_repeated {
            let delivery = due.no;
            self.journal.record(&Record::Phase2 { no, delivery });
        }
        self.answer(to, out, |buffer| codec::encode_pubrel(buffer, id));
    }

    /// Frees packet identifiers of a session that outlives its connection, as far as the log allows.
    pub(in crate::shard) fn free_identifiers(&mut self, of: SessionId) {
        let session = self.sessions.get_mut(of).expect("the caller looked it up");
        let Some(progress) = self.journal.progress().filter(|_| session.no.is_some()) else {
            return;
        };
        let next = session.queue.next_to_send();
        session.window.free_identifiers(next, progress);
        if !session.window.has_identifier(next) {
            self.journal.wait_for_identifiers(of);
        }
    }
}

/// What has to be durable before a message is sent to a client, if anything has.
pub(in crate::shard) fn durable_first(
    journal: &Journal,
    no: Option<SessionNo>,
    taken_in: TurnSeq,
    link: &Link,
    qos: QoS,
) -> Option<Until> {
    let until = Until {
        turn: taken_in,
        is_synced: true,
    };
    let waits = may_wait(no, qos) && (link.held.is_some() || !journal.is_safe(until));
    waits.then_some(until)
}

/// Whether a message may have to wait for the log before it is sent.
pub(in crate::shard) fn may_wait(no: Option<SessionNo>, qos: QoS) -> bool {
    qos == QoS::ExactlyOnce && no.is_some()
}

/// Notes that a session, which took one of QoS 2 in `taken_in` last, took the message at hand as this
/// delivery; `end_message` of the journal records it.
pub(in crate::shard) fn note_taken(
    journal: &mut Journal,
    session: (Option<SessionNo>, &mut TurnSeq),
    delivery: DeliveryNo,
    (qos, retain): (QoS, bool),
    matched: impl FnOnce() -> Option<Arc<KeptMatch>>,
) {
    let (Some(no), taken_in) = session else {
        return;
    };
    journal.receive(Receiver {
        no,
        delivery,
        terms: ReceiverTerms {
            qos,
            retain,
            matched: matched(),
            may_have_been_sent: false,
        },
    });
    if qos == QoS::ExactlyOnce {
        // Another message could get its identifier after a crash: it is sent when this one is durable.
        *taken_in = journal.turn();
    }
}
