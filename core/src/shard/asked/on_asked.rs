//! Answering the shell: what the shard holds, who its clients are.
//!
//! What only asks changes nothing; the simulator asks at random to show it.
//!
//! Beside it: `subscribers` (who gets what), `waiting` (subscriptions and queues), `retained`, `traces`,
//! `bulk` (many clients at once).

use std::net::IpAddr;

use crate::ids::SessionId;
use crate::refusal::Refusal;
use crate::session::{Expiry, LossTally, Session};
use crate::shard::Shard;
use crate::shard::delivery::routes::RouteCache;
use crate::shard::mail::ask::{
    Answer, Ask, Disconnected, LinkRow, SessionFilter, SessionPage, SessionQuery, SessionRow,
};
use crate::shard::mail::end::End;
use crate::shard::mail::findings::{ClientLosses, Dealt, LeaveOrder, TallyRow};
use crate::shard::mail::turn::Turn;
use crate::shard::sys::records::TOPIC_SIZE_MAX;
use crate::shard::sys::report::Report;
use crate::time::Instant;

impl Shard {
    /// Puts one answer into the outbox.
    pub(in crate::shard) fn on_asked(&mut self, ask: Ask, turn: &mut Turn<'_>) {
        let now = turn.now;
        let answer = match ask {
            Ask::Report => Answer::Report(Box::new(Report {
                stages: Some(self.dispatch.stages.stages()),
                sizes: Some(self.dispatch.sizes.clone()),
                ..self.report()
            })),
            Ask::Sessions(query) => Answer::Sessions(self.session_page(&query, now)),
            Ask::Session { client_id } => Answer::Session(self.session_row(&client_id, now)),
            Ask::Losses(query) => {
                let key = query.client_id.as_deref();
                let key = key.map(|client_id| self.home.client_key(client_id));
                Answer::Losses(self.dispatch.cases.page(&query, key, now))
            }
            Ask::LossesOf { client_id } => Answer::LossesOf(self.losses_of(&client_id, now)),
            Ask::Subscribers(query) => Answer::Subscribers(self.subscribers(&query)),
            Ask::MayPublish { client_id, topic } => {
                Answer::MayPublish(self.publishing(&client_id, &topic))
            }
            Ask::SubscriptionsOf(query) => Answer::SubscriptionsOf(self.subscriptions_of(&query)),
            Ask::QueueOf(query) => Answer::QueueOf(self.queue_of(&query, now)),
            Ask::Retained(query) => Answer::Retained(self.retained_page(&query, now)),
            Ask::RetainedOf { topic } => Answer::RetainedOf(self.retained_of(&topic, now)),
            Ask::Topics(query) => Answer::Topics(self.routes.page(&query, now)),
            Ask::Trace(order) => {
                self.begin_trace(order, now);
                Answer::Trace
            }
            Ask::FindTraced { from } => Answer::FindTraced(self.find_traced(from)),
            Ask::Traced => Answer::Traced(self.take_traced(now)),
            Ask::EndTrace { index } => {
                self.end_trace(index);
                Answer::EndTrace
            }
            Ask::Unretain { topic } => Answer::Unretain(self.unretain(topic.as_bytes(), now)),
            Ask::UnretainPage(query) => Answer::UnretainPage(self.unretain_page(&query, now)),
            Ask::EndSession { client_id } => {
                Answer::EndSession(self.end_session_of(&client_id, turn))
            }
            Ask::Leave(order) => Answer::Leave(self.have_leave(&order, turn)),
            Ask::DisconnectPage { query, with_will } => {
                Answer::DisconnectPage(self.disconnect_page(&query, with_will, turn))
            }
            Ask::EndPage(query) => Answer::EndPage(self.end_page(&query, turn)),
            Ask::Disconnect {
                client_id,
                with_will,
            } => Answer::Disconnect(self.disconnect(&client_id, with_will, turn)),
        };
        turn.out.answers.push(answer);
    }

    fn session_row(&self, client_id: &str, now: Instant) -> Option<Box<SessionRow>> {
        let sessions = &self.dispatch.sessions;
        let id = sessions.find(client_id)?;
        Some(Box::new(row(id, sessions.get(id)?, &self.routes, now)))
    }

    fn losses_of(&self, client_id: &str, now: Instant) -> Option<ClientLosses> {
        let sessions = &self.dispatch.sessions;
        let session = sessions.get(sessions.find(client_id)?)?;
        let tallies = session.losses.tallies();
        let tally = |tally: &LossTally| TallyRow {
            loss: tally.loss,
            count: tally.count,
            first_ago: now.saturating_since(tally.first_at),
            last_ago: now.saturating_since(tally.last_at),
            topic: tally.topic,
            bound: tally.bound,
        };
        let away_for = match (session.expires_at, session.expiry) {
            (Some(at), Expiry::After(span)) => Some(span.saturating_sub(at.saturating_since(now))),
            (Some(_) | None, Expiry::WithConnection | Expiry::After(_)) => None,
        };
        Some(ClientLosses {
            tallies: tallies.iter().map(tally).collect(),
            away_for,
            is_connected: session.link.is_some(),
        })
    }

    fn session_page(&self, query: &SessionQuery, now: Instant) -> SessionPage {
        let sessions = &self.dispatch.sessions;
        let rows_max = query.rows_max.clamp(1, SessionPage::ROWS_MAX);
        let mut page = SessionPage::default();
        let mut text_size = 0;
        for slot in query.from..query.from.saturating_add(SessionPage::SLOTS_MAX) {
            let (id, is_more) = sessions.at(slot);
            if let Some(id) = id
                && let Some(session) = sessions.get(id)
                && matches(&query.filter, session)
            {
                if page.rows.len() == rows_max || text_size >= SessionPage::TEXT_SIZE_MAX {
                    page.next = Some(slot);
                    return page;
                }
                text_size += session.client_id.len();
                page.rows.push(row(id, session, &self.routes, now));
            }
            if !is_more {
                return page;
            }
        }
        page.next = query.from.checked_add(SessionPage::SLOTS_MAX);
        page
    }

    fn disconnect(
        &mut self,
        client_id: &str,
        with_will: bool,
        turn: &mut Turn<'_>,
    ) -> Disconnected {
        let Some(id) = self.dispatch.sessions.find(client_id) else {
            return Disconnected::Unknown;
        };
        if self.session(id).link.is_none() {
            return Disconnected::Away;
        }
        if !with_will {
            self.forget_will(id);
        }
        self.end_link(id, End::Refused(Refusal::Administrative.into()), turn);
        Disconnected::Done
    }

    fn end_session_of(&mut self, client_id: &str, turn: &mut Turn<'_>) -> bool {
        let Some(id) = self.dispatch.sessions.find(client_id) else {
            return false;
        };
        self.end_session_at(id, turn);
        true
    }

    /// Ends a session, and its connection if there is one.
    pub(super) fn end_session_at(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        if self.session(id).link.is_some() {
            self.end_link(id, End::Refused(Refusal::Administrative.into()), turn);
        }
        if self.dispatch.sessions.get(id).is_some() {
            self.end_session(id, turn);
        }
    }

    /// Ends the connections of some clients, of those that have been silent for long enough.
    fn have_leave(&mut self, order: &LeaveOrder, turn: &mut Turn<'_>) -> Dealt {
        let refusal = match &order.redirect {
            None => Refusal::Draining,
            Some(server) => {
                self.drained_to = server.clone();
                Refusal::DrainingElsewhere
            }
        };
        let mut count = 0;
        for slot in order.from..order.from.saturating_add(SessionPage::SLOTS_MAX) {
            if count == order.count_max {
                return Dealt {
                    count,
                    next: Some(slot),
                };
            }
            let (id, is_more) = self.dispatch.sessions.at(slot);
            if let Some(id) = id
                && let Some(link) = &self.session(id).link
                && turn.now.saturating_since(link.last_packet_at) >= order.idle_min
            {
                self.end_link(id, End::Refused(refusal.into()), turn);
                count += 1;
            }
            if !is_more {
                return Dealt { count, next: None };
            }
        }
        Dealt {
            count,
            next: order.from.checked_add(SessionPage::SLOTS_MAX),
        }
    }
}

/// All of it is true of the session.
pub(super) fn matches(filter: &SessionFilter, session: &Session) -> bool {
    let SessionFilter {
        is_connected,
        client_id,
        prefix,
        user,
        address,
        queued_messages_min,
    } = filter;
    let is_from = |address: &IpAddr| {
        let peer = session.link.as_ref().and_then(|link| link.peer);
        peer.is_some_and(|peer| peer.ip().to_canonical() == address.to_canonical())
    };
    is_connected.is_none_or(|wanted| wanted == session.link.is_some())
        && client_id.as_ref().is_none_or(|id| *id == session.client_id)
        && session.client_id.starts_with(&**prefix)
        && (user.is_none() || *user == session.identity.user)
        && address.as_ref().is_none_or(is_from)
        && session.queue.len() >= *queued_messages_min
}

fn row(id: SessionId, session: &Session, routes: &RouteCache, now: Instant) -> SessionRow {
    let link = session.link.as_ref().map(|link| LinkRow {
        peer: link.peer,
        connected_for: now.saturating_since(link.since),
        is_bridge: link.is_bridge,
        silent_for: now.saturating_since(link.last_packet_at),
        silence_max: link.silence_max,
        unsent_bytes: link.unsent_bytes(),
        counts: link.counts,
        is_paused: !link.pauses.is_empty(),
    });
    let counts = session.link.as_ref().map(|link| link.counts);
    let published = counts.filter(|counts| counts.received > 0);
    let topic = published.and_then(|counts| routes.topic_of(counts.topic));
    SessionRow {
        slot: id.index,
        client_id: session.client_id.clone(),
        identity: session.identity.clone(),
        version: session.version,
        expiry: session.expiry,
        ends_in: session.expires_at.map(|at| at.saturating_since(now)),
        link,
        topic: topic.map(|topic| topic[..topic.len().min(TOPIC_SIZE_MAX)].into()),
        subscriptions: session.subscriptions.len(),
        queued_messages: session.queue.len(),
        queued_bytes: session.queue.bytes(),
        inflight: session.window.unsettled_count(),
        receipts: session.receipts.len(),
        has_will: session.will.is_some(),
    }
}
