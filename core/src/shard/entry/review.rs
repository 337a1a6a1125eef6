//! Other users, other rules: who is connected, and whose session waits, is looked at again.
//!
//! New rules hold at once for all that happens. Only the sessions of those who would be let in no more
//! take a moment to be found: all of them are looked at, some in each turn.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Access, Extent, Proof};
use crate::ids::SessionId;
use crate::refusal::Refusal;
use crate::shard::Shard;
use crate::shard::mail::end::End;
use crate::shard::mail::note::Note;
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::turn::Turn;
use crate::shard::on_subscribe::Dropped;
use crate::shard::timers::Timer;
use crate::time::Instant;

impl Shard {
    pub(in crate::shard) fn on_access_replaced(
        &mut self,
        access: Arc<Access>,
        turn: &mut Turn<'_>,
    ) {
        self.scram.replace_users(access.scram.clone());
        self.dispatch.access = access;
        self.dispatch.rules = self.dispatch.rules.wrapping_add(1);
        self.routes.clear();
        if let Some((_, at)) = self.review.take() {
            self.timers.cancel(at, Timer::Review);
        }
        self.reviewed = (0, 0);
        self.review_from(0, turn);
    }

    /// At a start: users and rules may be others than before.
    pub(in crate::shard) fn review_soon(&mut self, now: Instant) {
        let access = &self.dispatch.access;
        // Nobody and nothing is refused otherwise.
        let may_refuse = access.acl.is_some() || !access.allow_anonymous;
        if may_refuse && !self.dispatch.sessions.is_empty() {
            self.timers.set(now, Timer::Review);
            self.review = Some((0, now));
        }
    }

    /// The next part of a review is due.
    pub(in crate::shard) fn on_review(&mut self, turn: &mut Turn<'_>) {
        if let Some((index, _)) = self.review.take() {
            self.review_from(index, turn);
        }
    }

    fn review_from(&mut self, first: u32, turn: &mut Turn<'_>) {
        for index in first..first.saturating_add(SESSIONS_PER_TURN) {
            let (id, is_more) = self.dispatch.sessions.at(index);
            if let Some(id) = id {
                self.review_one(id, turn);
            }
            if !is_more {
                return self.note_reviewed(turn);
            }
        }
        let at = turn.now + PAUSE;
        self.timers.set(at, Timer::Review);
        self.review = Some((first + SESSIONS_PER_TURN, at));
    }

    fn review_one(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let access = self.dispatch.access.clone();
        if self.session(id).identity.proof == Proof::Recorded {
            // Clients may have rules of their own now, or none any more.
            let user = self.session(id).identity.user.clone();
            let identity = Arc::new(access.recorded(user));
            self.renew_identity(id, identity, turn.out);
        }
        let session = self.session(id);
        if access.admits(&session.identity) {
            self.review_shares(id, turn.out);
            return;
        }
        // A user who only has another password may come back to its session. Of one who is gone, or
        // of everybody, nothing is left, not even the will (threat 73).
        let is_known = access.knows(&session.identity);
        if !is_known {
            if let Some(at) = session.will_at.take() {
                self.timers.cancel(at, Timer::Will(id));
            }
            self.forget_will(id);
        }
        if self.session(id).link.is_some() {
            self.end_link(id, End::Refused(Refusal::Revoked.into()), turn);
            self.reviewed.0 += 1;
        }
        if !is_known && self.dispatch.sessions.get(id).is_some() {
            self.end_session(id, turn);
            self.reviewed.1 += 1;
        }
    }

    /// For the log, if it has ended anything.
    fn note_reviewed(&mut self, turn: &mut Turn<'_>) {
        let (cut_off, ended) = std::mem::take(&mut self.reviewed);
        if turn.out.notes.wanted.clients && cut_off + ended > 0 {
            turn.out.notes.push(Note::Reviewed { cut_off, ended });
        }
    }
}

impl Shard {
    /// Ends the shared subscriptions that would not be granted any more: other members are to get
    /// what this one may not have.
    pub(in crate::shard) fn review_shares(&mut self, id: SessionId, out: &mut Outbox) {
        if self.session(id).memberships.is_none() {
            return;
        }
        let filters = self.session(id).subscriptions.iter();
        let shared = filters.filter(|filter| filter.share_name().is_some());
        let shared: Vec<_> = shared.cloned().collect();
        let mut dropped = Dropped::default();
        for filter in shared {
            if self.extent(id, &filter) != Extent::All {
                self.unsubscribe_one(id, &filter, &mut dropped);
            }
        }
        self.tell_dropped(id, dropped, out);
    }
}

/// Sessions looked at in one turn: less than a millisecond.
const SESSIONS_PER_TURN: u32 = 1024;
/// For clients to be served in between.
const PAUSE: Duration = Duration::from_millis(1);
