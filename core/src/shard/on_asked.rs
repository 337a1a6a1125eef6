//! Answering the shell: what the shard holds, who its clients are.
//!
//! Whatever is asked, but for `Disconnect`, changes nothing; the simulator asks at random to show it.

use super::Shard;
use super::mail::ask::{
    Answer, Ask, Disconnected, LinkRow, SessionFilter, SessionPage, SessionQuery, SessionRow,
};
use super::mail::end::End;
use super::mail::turn::Turn;
use super::sys::report::Report;
use crate::ids::SessionId;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::time::Instant;

impl Shard {
    /// Puts one answer into the outbox.
    pub(super) fn on_asked(&mut self, ask: Ask, turn: &mut Turn<'_>) {
        let answer = match ask {
            Ask::Report => Answer::Report(Box::new(Report {
                stages: Some(self.dispatch.stages.stages()),
                ..self.report()
            })),
            Ask::Sessions(query) => Answer::Sessions(self.session_page(&query, turn.now)),
            Ask::Session { client_id } => {
                let sessions = &self.dispatch.sessions;
                let found = sessions.find(&client_id).and_then(|id| {
                    let session = sessions.get(id)?;
                    Some(Box::new(row(id, session, turn.now)))
                });
                Answer::Session(found)
            }
            Ask::Disconnect {
                client_id,
                with_will,
            } => Answer::Disconnect(self.disconnect(&client_id, with_will, turn)),
        };
        turn.out.answers.push(answer);
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
                page.rows.push(row(id, session, now));
            }
            if !is_more {
                return page;
            }
        }
        page.next = Some(query.from.saturating_add(SessionPage::SLOTS_MAX));
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
}

fn matches(filter: &SessionFilter, session: &Session) -> bool {
    let SessionFilter {
        is_connected,
        prefix,
        user,
        queued_messages_min,
    } = filter;
    is_connected.is_none_or(|wanted| wanted == session.link.is_some())
        && session.client_id.starts_with(&**prefix)
        && (user.is_none() || *user == session.identity.user)
        && session.queue.len() >= *queued_messages_min
}

fn row(id: SessionId, session: &Session, now: Instant) -> SessionRow {
    let link = session.link.as_ref().map(|link| LinkRow {
        peer: link.peer,
        connected_for: now.saturating_since(link.since),
        is_bridge: link.is_bridge,
        silent_for: now.saturating_since(link.last_packet_at),
        silence_max: link.silence_max,
        unsent_bytes: link.unsent_bytes(),
        is_paused: !link.pauses.is_empty(),
    });
    SessionRow {
        slot: id.index,
        client_id: session.client_id.clone(),
        identity: session.identity.clone(),
        version: session.version,
        expiry: session.expiry,
        ends_in: session.expires_at.map(|at| at.saturating_since(now)),
        link,
        subscriptions: session.subscriptions.len(),
        queued_messages: session.queue.len(),
        queued_bytes: session.queue.bytes(),
        inflight: session.window.unsettled_count(),
        receipts: session.receipts.len(),
        has_will: session.will.is_some(),
    }
}
