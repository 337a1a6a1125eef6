//! Many clients at once: disconnected, or their sessions ended.
//!
//! A page has as many as one of a list would, so an answer is as bounded.

use super::on_asked::matches;
use crate::ids::SessionId;
use crate::refusal::Refusal;
use crate::shard::Shard;
use crate::shard::mail::ask::{SessionPage, SessionQuery};
use crate::shard::mail::end::End;
use crate::shard::mail::findings::Dealt;
use crate::shard::mail::turn::Turn;

impl Shard {
    /// Disconnects the clients of a page.
    pub(super) fn disconnect_page(
        &mut self,
        query: &SessionQuery,
        with_will: bool,
        turn: &mut Turn<'_>,
    ) -> Dealt {
        self.sweep(query, |shard, id| {
            if shard.session(id).link.is_none() {
                return false;
            }
            if !with_will {
                shard.forget_will(id);
            }
            shard.end_link(id, End::Refused(Refusal::Administrative.into()), turn);
            true
        })
    }

    /// Ends the sessions of a page, and their connections.
    pub(super) fn end_page(&mut self, query: &SessionQuery, turn: &mut Turn<'_>) -> Dealt {
        self.sweep(query, |shard, id| {
            shard.end_session_at(id, turn);
            true
        })
    }

    /// Does something to the sessions of a page; what it says it has not done does not count.
    fn sweep(
        &mut self,
        query: &SessionQuery,
        mut act: impl FnMut(&mut Shard, SessionId) -> bool,
    ) -> Dealt {
        let most = query.rows_max.clamp(1, SessionPage::ROWS_MAX) as u32;
        let mut count = 0;
        for slot in query.from..query.from.saturating_add(SessionPage::SLOTS_MAX) {
            if count == most {
                return Dealt {
                    count,
                    next: Some(slot),
                };
            }
            let (id, is_more) = self.dispatch.sessions.at(slot);
            let session = id.and_then(|id| self.dispatch.sessions.get(id));
            let is_meant = session.is_some_and(|session| matches(&query.filter, session));
            if let Some(id) = id.filter(|_| is_meant)
                && act(self, id)
            {
                count += 1;
            }
            if !is_more {
                return Dealt { count, next: None };
            }
        }
        Dealt {
            count,
            next: query.from.checked_add(SessionPage::SLOTS_MAX),
        }
    }
}
