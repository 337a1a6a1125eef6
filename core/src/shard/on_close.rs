//! The end of a connection, of a session, of the broker; and wills.

use super::mail::end::End;
use super::mail::turn::Turn;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::delivery::dispatch::Outgoing;
use super::mail::event::{CloseCause, Heard};
use super::mail::note::{Departure, Note, Party};
use super::mail::outbox::Close;
use super::on_publish::{PublishNote, Published};
use super::on_subscribe::Dropped;
use super::timers::Timer;
use crate::codec::{Disconnect, DisconnectProperties, ReasonCode, Version};
use crate::connection::Connection;
use crate::ids::{ConnId, SessionId};
use crate::message::{Message, MessageParts};
use crate::refusal::{Refusal, Violation};
use crate::session::{Expiry, Will};
use crate::stages::Stamp;
use crate::store::Record;
use crate::time::Instant;
use crate::trace_set::TraceSet;

impl Shard {
    /// Takes the connection from a session: tells the client, closes, and decides about will and
    /// session. The session may be gone afterwards.
    pub(super) fn end_link(&mut self, id: SessionId, end: End, turn: &mut Turn<'_>) {
        if let Some(violation) = end.violation() {
            self.tell_end(id, violation, end, turn);
        }
        let is_traced = self.session(id).traced.is_any();
        if is_traced {
            self.trace_end(id, end);
        }
        let session = self.session(id);
        let link = session
            .link
            .take()
            .expect("only a connected session loses its connection");
        session.window.rewind();
        session.receipts.rewind();
        if turn.out.notes.wanted.clients {
            let departure = Departure {
                party: Party::of(session, link.peer),
                end,
                after: turn.now.saturating_since(link.since),
                counts: link.counts,
            };
            turn.out.notes.push(Note::Disconnected(Box::new(departure)));
        }
        self.connected_count -= 1;
        self.release_partial(&link.framer);
        self.dispatch.note_standing(id);
        if let Some(at) = link.keep_alive_at {
            self.timers.cancel(at, Timer::KeepAlive(id));
        }
        if let Some(at) = link.expires_at {
            self.timers.cancel(at, Timer::Credentials(id));
        }
        if let Some(at) = link.lease_at {
            self.timers.cancel(at, Timer::Lease(id));
        }
        if let Some(at) = link.paced_until {
            self.timers.cancel(at, Timer::Pace(id));
        }
        match end {
            End::Lost(_) => link.egress.abandon(&mut self.dispatch.pool.unsent),
            End::Disconnected
            | End::DisconnectedWithWill
            | End::Refused(_)
            | End::TakenOver { .. } => {
                self.connections
                    .replace(link.conn, Connection::Closing(Box::new(link.egress)));
                turn.out.closes.push(Close {
                    conn: link.conn,
                    flush: true,
                });
            }
        }
        if end == End::Disconnected {
            self.forget_will(id); // [MQTT-3.14.4-3]
        }
        if is_traced {
            self.find_traces_of(id);
        }
        self.leave_session(id, turn);
    }

    /// Counts why the broker ends a connection, and tells clients that can be told.
    fn tell_end(&mut self, id: SessionId, violation: Violation, end: End, turn: &mut Turn<'_>) {
        if !self.is_shutting_down {
            self.dispatch.note_end(id, violation.refusal(), end, turn);
        }
        if self.session(id).version < Version::V5 {
            return; // [MQTT-3.14.0-1] DISCONNECT is the client's to send.
        }
        let elsewhere = match violation.code() {
            ReasonCode::UseAnotherServer => Some(self.drained_to.clone()),
            _ => None,
        };
        // A code and a property around it.
        let size_max = self.link(id).packet_size_max as usize;
        let elsewhere = elsewhere.filter(|name| name.len() + 16 <= size_max);
        self.write_reasoned(id, turn.out, &violation.text(), |reason_string, buffer| {
            let disconnect = Disconnect {
                reason: violation.code(),
                properties: DisconnectProperties {
                    reason_string,
                    server_reference: elsewhere.as_deref(),
                    ..DisconnectProperties::default()
                },
            };
            disconnect.encode(Version::V5, buffer);
        });
    }

    /// The client is away: its session ends or waits, and so does its will.
    fn leave_session(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let session = self.session(id);
        let expiry = match session.expiry {
            Expiry::WithConnection => return self.end_session(id, turn),
            Expiry::After(span) => span,
        };
        let will_delay = session.will.as_ref().map(|will| will.delay);
        self.record_away(id, turn.now);
        if expiry != Duration::MAX {
            let at = turn.now + expiry;
            self.session(id).expires_at = Some(at);
            self.timers.set(at, Timer::Expiry(id));
        }
        match will_delay {
            None => {}
            Some(Duration::ZERO) => self.publish_will(id, turn),
            // The end of the session publishes it if that comes first [MQTT-3.1.2-8].
            Some(delay) => {
                let at = turn.now + delay;
                self.session(id).will_at = Some(at);
                self.timers.set(at, Timer::Will(id));
            }
        }
    }

    /// Ends a session that has no connection: its will is due, its subscriptions go.
    pub(super) fn end_session(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.publish_will(id, turn);
        let mut session = self
            .dispatch
            .sessions
            .remove(id)
            .expect("only a live session ends");
        assert!(
            session.link.is_none(),
            "a session ends after its connection"
        );
        if let Some(no) = session.no {
            self.dispatch.journal.record(&Record::Ended(no));
        }
        if let Some(at) = session.expires_at {
            self.timers.cancel(at, Timer::Expiry(id));
        }
        self.dispatch.release(&session);
        let mut dropped = Dropped {
            gathers: self.dispatch.gathers.end_all(session.feed.take()),
            ..Dropped::default()
        };
        for filter in &session.subscriptions {
            self.forget_subscription((id, session.no), filter, &mut dropped);
        }
        self.tell_dropped(id, dropped, turn.out);
        if session.memberships.is_some() {
            self.pass_on(session, turn);
        }
    }

    /// Publishes the will of a session, if it has one, and forgets it [MQTT-3.1.2-10].
    pub(super) fn publish_will(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let session = self.session(id);
        let will_at = session.will_at.take();
        let will = session.will.take();
        let no = session.no;
        if let Some(at) = will_at {
            self.timers.cancel(at, Timer::Will(id));
        }
        let Some(will) = will else { return };
        let message = with_expiry(&will, turn.now);
        if let Some(no) = no {
            self.dispatch.journal.note_will_published(no, will);
        }
        let hash = self.routes.hash(message.topic());
        let mut outgoing = Outgoing::of(&message);
        let published = self
            .publish(hash, id, &mut outgoing, turn)
            .expect("CONNECT checked the will topic");
        let of = outgoing.traced;
        self.trace_will(id, of, &message, published);
        match published {
            Published::Delivered | Published::NoSubscribers | Published::RetainedFull => {
                self.dispatch.metrics.wills_published += 1;
            }
            // Other rules than at CONNECT (threat 69).
            Published::Reserved | Published::Denied | Published::DiskFull => {
                let refusal = Refusal::WillDenied;
                let topic = message.topic();
                self.dispatch.note_refusal(id, refusal, topic, turn);
            }
        }
    }

    fn trace_will(&mut self, id: SessionId, of: TraceSet, message: &Message, published: Published) {
        let parts = message.parts();
        let refused = match published {
            Published::Delivered | Published::NoSubscribers | Published::RetainedFull => None,
            Published::Reserved | Published::Denied | Published::DiskFull => {
                Some(Refusal::WillDenied)
            }
        };
        let note = PublishNote {
            topic: parts.topic,
            qos: parts.qos,
            retain: parts.retain,
            payload_size: parts.payload.len(),
            count: 1,
            refused,
        };
        self.trace_published(id, &note, of, parts.payload);
    }

    pub(super) fn on_will_due(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.session(id).will_at = None; // The timer has just fired: nothing to cancel.
        self.publish_will(id, turn);
    }

    pub(super) fn on_session_expired(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.session(id).expires_at = None; // The timer has just fired: nothing to cancel.
        self.dispatch.metrics.sessions_expired += 1;
        self.end_session(id, turn); // [MQTT-4.1.0-2]
    }

    /// The keep-alive timer fired. It is moved only here, not with each packet.
    ///
    /// A client whose reads are paused cannot be heard, and is not judged: that it is alive shows in what its socket
    /// takes. One that takes nothing is given up by the shell's socket (`TCP_USER_TIMEOUT`).
    pub(super) fn on_keep_alive(&mut self, heard: Heard, id: SessionId, turn: &mut Turn<'_>) {
        let link = self.link(id);
        link.keep_alive_at = None;
        let silence_max = link
            .silence_max
            .expect("the timer was set for a keep alive");
        let silent_since = if link.pauses.is_empty() {
            link.last_packet_at
        } else {
            turn.now
        };
        let at = silent_since + silence_max;
        // The timer was set for an earlier time: this one is judged by what was heard, too.
        if at > heard.here {
            link.keep_alive_at = Some(at);
            self.timers.set(at, Timer::KeepAlive(id));
            return;
        }
        self.dispatch.metrics.keep_alive_timeouts += 1;
        self.end_link(id, End::Refused(Refusal::KeepAlive.into()), turn);
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, why: CloseCause, turn: &mut Turn<'_>) {
        let Some(last) = self.connections.get(conn) else {
            return;
        };
        match last {
            Connection::Open(id) => {
                let id = *id;
                self.end_link(id, End::Lost(why), turn);
            }
            Connection::AwaitConnect(_) | Connection::Authenticating(_) => {
                self.leave_await(conn, Connection::HandedOver);
            }
            Connection::Closing(_) | Connection::HandedOver | Connection::Vacant => {}
        }
        if let Some(Connection::Closing(egress)) = self.connections.remove(conn) {
            egress.abandon(&mut self.dispatch.pool.unsent);
        }
    }

    /// Says goodbye to every client [MQTT 5.0, 3.14.2.1: 0x8B, or 0x80]. Wills of sessions that end are
    /// published to nobody: their subscribers leave too.
    pub(super) fn on_shutdown(&mut self, turn: &mut Turn<'_>) {
        self.is_shutting_down = true;
        let refusal = if self.dispatch.journal.has_failed() {
            Refusal::LogFailed
        } else {
            Refusal::ShuttingDown
        };
        let conns: Vec<ConnId> = self.connections.ids().collect();
        for conn in conns {
            match self.connections.get(conn) {
                Some(Connection::Open(id)) => {
                    let id = *id;
                    self.end_link(id, End::Refused(refusal.into()), turn);
                }
                Some(Connection::AwaitConnect(_) | Connection::Authenticating(_)) => {
                    self.leave_await(conn, Connection::Closing(Box::default()));
                    turn.out.closes.push(Close { conn, flush: false });
                }
                Some(Connection::Closing(_) | Connection::HandedOver | Connection::Vacant)
                | None => {}
            }
        }
    }
}

/// The message of a will: its expiry starts now.
pub(super) fn with_expiry(will: &Will, now: Instant) -> Arc<Message> {
    let Some(expiry_s) = will.expiry_s else {
        return will.message.clone();
    };
    let expires_at = Some(now + Duration::from_secs(u64::from(expiry_s)));
    let parts = MessageParts {
        expires_at,
        ..will.message.parts()
    };
    Arc::new(Message::new(parts, Stamp::of(now)))
}
