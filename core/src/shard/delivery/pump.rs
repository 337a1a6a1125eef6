//! Pending messages for a client that can take more: retransmissions, the queue, retained messages.

use super::dispatch::{Dispatch, is_busy};
use crate::ids::SessionId;
use crate::loss::DropReason;
use crate::session::Delivery;
use crate::shard::mail::turn::Turn;
use crate::stages::Stage;

impl Dispatch {
    /// Sends what a session is owed, as far as its client takes it: first what an earlier
    /// connection left open, then the queue, then retained messages.
    pub fn pump(&mut self, to: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get(to) else {
            return;
        };
        // Asked with every acknowledgement; mostly there is neither.
        let is_member = session.memberships.is_some();
        if session.is_owed() {
            self.pump_out(to, turn);
        }
        if is_member {
            self.note_standing(to);
        }
    }

    fn pump_out(&mut self, to: SessionId, turn: &mut Turn<'_>) {
        while let Some(session) = self.sessions.get_mut(to) {
            let Some(link) = &mut session.link else {
                return;
            };
            if is_busy(link, &self.pool, &self.limits) {
                return; // SendProgress calls again.
            }
            if let Some(resend) = session.window.next_resend(turn.now, link.receive_maximum) {
                self.resend(to, resend, turn);
                continue;
            }
            if session.window.has_resends() {
                return;
            }
            let receive_maximum = link.receive_maximum;
            let session = if session.window.has_identifier(session.queue.next_to_send()) {
                session
            } else {
                self.free_identifiers(to);
                self.sessions.get_mut(to).expect("just seen")
            };
            let has_room = session.window.has_room(
                session.queue.next_to_send(),
                receive_maximum,
                self.limits.inflight_bytes_max,
            );
            // The queue goes before retained messages: what waits there on a topic is not later than
            // the snapshot, or else it has voided it.
            if has_room && let Some((no, delivery)) = session.queue.pop() {
                self.held.dequeue(&delivery.message);
                if delivery.message.expires_at.is_some_and(|at| at <= turn.now) {
                    // [MQTT-3.3.2-5]
                    let topic = delivery.message.topic();
                    self.drop_for(to, DropReason::Expired, topic, turn);
                    self.note_settled(to, no);
                } else if self.may_still_have(to, &delivery, turn) {
                    if let Some(kept_at) = delivery.message.kept_at.moment() {
                        self.note_stage(to, Stage::Queue, (kept_at, turn.now));
                    }
                    self.send_delivery(to, Some(no), delivery, turn);
                } else {
                    self.note_settled(to, no);
                }
                continue;
            }
            let Some(mut delivery) = self.gathers.next(turn.now, has_room, &mut session.feed)
            else {
                return;
            };
            // Nothing is missed that was never to be had: no drop.
            if self.may_have_retained(to, &delivery.message) {
                delivery.rules = self.rules;
                let message = delivery.message.clone();
                self.send_delivery(to, None, delivery, turn);
                self.journal.end_message(&message.parts(), None);
            }
        }
    }

    /// Whether the rules let a client have what waited for it. If not, that is counted.
    fn may_still_have(&mut self, to: SessionId, delivery: &Delivery, turn: &mut Turn<'_>) -> bool {
        let topic = delivery.message.topic();
        let may = delivery.rules == self.rules || self.may_receive(to, topic);
        if !may {
            self.drop_for(to, DropReason::Denied, topic, turn);
        }
        may
    }
}
