//! Retained messages for new subscriptions, page by page: the side of the shard that owns the
//! topics.
//!
//! Building a page visits a bounded number of topics, and so does a shard between two
//! `DeadlineReached`, of which the shell sends one per turn; further queries wait in line for the
//! next one. So a `#` over a million retained messages, or a thousand of them, slow nobody down.
//!
//! Invariants:
//! - a cursor is here from its query until its last page or `RetainedStop`.
//! - `next_deadline` covers the queries in line.
//!
//! Not here: who asks, and when (`gather.rs`), the store (`topic/retained.rs`).

use std::sync::Arc;

use super::pages::{Asker, BUDGET};
use crate::ids::ShardId;
use crate::ids::{BarrierId, GatherId};
use crate::session::gather::{Answer, Asking, Ended, GatherStep};
use crate::shard::mail::by_shard::ByShard;
use crate::shard::mail::message::{Page, Question};
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::turn::Turn;
use crate::shard::{Shard, ShardMsg};
use crate::store::Record;
use crate::time::Instant;
use crate::topic::{Cursor, PageSize, TopicFilter};

/// Topics looked at for one page, for each message that it may hold.
const NODES_PER_MESSAGE: u32 = 8;

/// Bytes of one page, for each message that it may hold; the last message may go beyond.
const BYTES_PER_MESSAGE: usize = 1024;
/// Messages of a first page. A client may ask for thousands of them and take none.
const FIRST_PAGE_MAX: u32 = 64;

impl Shard {
    /// Answers questions of gathers, as far as pages may be made now.
    pub(in crate::shard) fn on_retained_query(
        &mut self,
        from: ShardId,
        questions: Vec<Question>,
        turn: &mut Turn<'_>,
    ) {
        let mut made = Vec::new();
        for Question { gather, filter } in questions {
            let asker = (from, gather);
            let can_be_made = self.pages.budget > 0 && self.pages.waiting.is_empty();
            match (filter, can_be_made) {
                // The snapshot is taken now.
                (Some(filter), true) => {
                    let cursor = self.retained.open();
                    made.push(self.make_page(turn.now, asker, filter, cursor));
                }
                (Some(filter), false) => {
                    let cursor = self.retained.open();
                    self.pages.cursors.insert(asker, (filter, cursor));
                    self.pages.waiting.push_back(asker);
                }
                (None, true) => made.extend(self.make_next_page(turn.now, asker)),
                (None, false) => self.pages.waiting.push_back(asker),
            }
        }
        self.send_pages(from, made, turn);
    }

    pub(in crate::shard) fn on_retained_stop(&mut self, from: ShardId, gathers: &[GatherId]) {
        for &gather in gathers {
            if let Some((_, cursor)) = self.pages.cursors.remove(&(from, gather)) {
                self.retained.close(cursor);
            }
        }
    }

    /// Makes pages for those who stand in line, as many as may be at a time.
    pub(in crate::shard) fn make_pages(&mut self, turn: &mut Turn<'_>) {
        self.pages.budget = BUDGET;
        let mut made = ByShard::default();
        while self.pages.budget > 0
            && let Some(asker) = self.pages.waiting.pop_front()
        {
            made.of(asker.0)
                .extend(self.make_next_page(turn.now, asker));
        }
        for (shard, pages) in made.into_iter() {
            self.send_pages(shard, pages, turn);
        }
    }

    /// `None`: the gather has been stopped.
    fn make_next_page(&mut self, now: Instant, asker: Asker) -> Option<Page> {
        let (filter, cursor) = self.pages.cursors.remove(&asker)?;
        Some(self.make_page(now, asker, filter, cursor))
    }

    fn make_page(
        &mut self,
        now: Instant,
        asker: Asker,
        filter: Arc<TopicFilter>,
        cursor: Cursor,
    ) -> Page {
        let mut messages_max = self.config.limits.retained_page_max;
        if cursor.is_at_start() {
            messages_max = messages_max.min(FIRST_PAGE_MAX);
        }
        let size = PageSize {
            messages: messages_max as usize,
            bytes: messages_max as usize * BYTES_PER_MESSAGE,
            nodes: messages_max
                .saturating_mul(NODES_PER_MESSAGE)
                .min(self.pages.budget),
        };
        let mut messages = Vec::new();
        let (rest, nodes) = self
            .retained
            .page(cursor, &filter, size, now, &mut messages);
        self.pages.budget = self.pages.budget.saturating_sub(nodes);
        let more = rest.is_some();
        if let Some(cursor) = rest {
            self.pages.cursors.insert(asker, (filter, cursor));
        }
        Page {
            gather: asker.1,
            messages,
            more,
        }
    }

    fn send_pages(&mut self, to: ShardId, pages: Vec<Page>, turn: &mut Turn<'_>) {
        if pages.is_empty() {
            return;
        }
        if to == self.config.id {
            self.on_retained_reply(to, pages, turn)
        } else {
            turn.out.post(to, ShardMsg::RetainedReply(pages))
        }
    }

    pub(in crate::shard) fn on_retained_reply(
        &mut self,
        owner: ShardId,
        pages: Vec<Page>,
        turn: &mut Turn<'_>,
    ) {
        let dispatch = &mut self.dispatch;
        let mut due = None;
        for page in pages {
            let id = page.gather.session;
            let Some(session) = dispatch.sessions.get_mut(id) else {
                continue; // It has left meanwhile.
            };
            let answer = Answer {
                owner,
                messages: page.messages,
                more: page.more,
            };
            if !dispatch
                .gathers
                .on_page(&mut session.feed, page.gather, answer)
            {
                continue;
            }
            if let Some(before) = due.replace(id)
                && before != id
            {
                dispatch.pump(before, turn);
            }
        }
        if let Some(last) = due {
            dispatch.pump(last, turn);
        }
    }

    /// Another shard has answered a barrier.
    pub(in crate::shard) fn on_barrier_ack(&mut self, barrier: BarrierId, turn: &mut Turn<'_>) {
        let dispatch = &mut self.dispatch;
        let Some(id) = dispatch.gathers.on_barrier_ack(barrier) else {
            return; // Others have to answer too.
        };
        let Some(session) = dispatch.sessions.get_mut(id) else {
            return; // It has left meanwhile.
        };
        dispatch
            .gathers
            .on_barrier_passed(&mut session.feed, barrier);
        dispatch.pump(id, turn);
    }

    /// Goes on with gathers: with their barriers and questions. At the end of every event.
    pub(in crate::shard) fn feed_gathers(&mut self, turn: &mut Turn<'_>) {
        while self.dispatch.gathers.has_steps() {
            let mut questions = ByShard::default();
            for step in self.dispatch.gathers.take_steps() {
                match step {
                    GatherStep::Begin(id) => {
                        let dispatch = &mut self.dispatch;
                        let session = dispatch.sessions.get_mut(id);
                        if let Some(feed) = session.and_then(|session| session.feed.as_mut()) {
                            feed.begin(&mut dispatch.gathers);
                        }
                    }
                    GatherStep::Barrier(barrier) => {
                        for shard in self.other_shards() {
                            turn.out.post(shard, ShardMsg::Barrier { barrier });
                        }
                    }
                    GatherStep::Ask(gather) => self.ask_owners(gather, &mut questions),
                }
            }
            for (owner, questions) in questions.into_iter() {
                if owner == self.config.id {
                    self.on_retained_query(owner, questions, turn)
                } else {
                    turn.out.post(owner, ShardMsg::RetainedQuery(questions))
                }
            }
        }
        self.record_gathers_done();
    }

    fn record_gathers_done(&mut self) {
        let dispatch = &mut self.dispatch;
        for (id, filter) in dispatch.gathers.take_finished() {
            if let Some(session) = dispatch.sessions.get(id)
                && let Some(no) = session.no
            {
                let filter = TopicFilter::clone(&filter);
                let done = Record::GatherDone { no, filter };
                dispatch.journal.record_lazily(&done);
            }
        }
    }

    fn ask_owners(&mut self, gather: GatherId, questions: &mut ByShard<Question>) {
        let dispatch = &mut self.dispatch;
        let session = dispatch.sessions.get_mut(gather.session);
        let feed = session.and_then(|session| session.feed.as_mut());
        let asking = feed.and_then(|feed| feed.go_on(gather, &mut dispatch.gathers));
        let Some(Asking { owners, filter }) = asking else {
            return; // It has ended meanwhile.
        };
        for owner in owners.iter() {
            let filter = filter.clone();
            questions.of(owner).push(Question { gather, filter });
        }
    }

    /// Tells owners of gathers that have ended.
    pub(in crate::shard) fn stop_gathers(
        &mut self,
        ended: impl IntoIterator<Item = Ended>,
        out: &mut Outbox,
    ) {
        let mut stopped = ByShard::default();
        for Ended { gather, owners } in ended {
            for owner in owners.iter() {
                stopped.of(owner).push(gather);
            }
        }
        for (owner, gathers) in stopped.into_iter() {
            if owner == self.config.id {
                self.on_retained_stop(owner, &gathers)
            } else {
                out.post(owner, ShardMsg::RetainedStop(gathers))
            }
        }
    }
}
