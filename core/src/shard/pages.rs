//! Retained messages for new subscriptions, page by page: the side of the owner of the topics.
//!
//! Making a page looks at a bounded number of topics, and so does a shard between two
//! `DeadlineReached`, of which a turn of the shell has one: what has to wait for the next one stands in
//! line. So a `#` over a million retained messages, or a thousand of them, slow nobody down.
//!
//! Invariants:
//! - a cursor is here from its question until its last page or `RetainedStop`.
//! - who stands in line is told so by `next_deadline`.
//!
//! Not here: who asks, and when (`gather.rs`), the store (`topic/retained.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::event::GatherId;
use super::gather::Step;
use super::outbox::Outbox;
use super::{Shard, ShardMsg};
use crate::ids::ShardId;
use crate::message::Message;
use crate::time::Instant;
use crate::topic::{Cursor, PageSize, ShardSet, TopicFilter};

/// What this shard owes to gathers, its own among them.
#[derive(Debug)]
pub struct Pages {
    cursors: HashMap<Asker, (Arc<TopicFilter>, Cursor), FixedState>,
    waiting: VecDeque<Asker>,
    /// Topics that may be looked at before the next `DeadlineReached`.
    budget: u32,
}

type Asker = (ShardId, GatherId);

/// Topics looked at between two deadlines: half a millisecond, mostly cache misses.
const BUDGET: u32 = 8192;
/// Topics looked at for one page, for each message that it may hold.
const NODES_PER_MESSAGE: u32 = 8;

/// Bytes of one page, for each message that it may hold; the last message may go beyond.
const BYTES_PER_MESSAGE: usize = 1024;
/// Messages of a first page. A client may ask for thousands of them and take none.
const FIRST_PAGE_MAX: u32 = 64;

impl Default for Pages {
    fn default() -> Pages {
        Pages {
            cursors: HashMap::default(),
            waiting: VecDeque::new(),
            budget: BUDGET,
        }
    }
}

impl Pages {
    /// Somebody stands in line.
    pub fn are_due(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Cursors that are open.
    pub fn len(&self) -> usize {
        self.cursors.len()
    }
}

impl Shard {
    /// The first question of a gather: the snapshot is of this moment.
    pub(super) fn on_retained_query(
        &mut self,
        now: Instant,
        from: ShardId,
        gather: GatherId,
        filter: Arc<TopicFilter>,
        out: &mut Outbox,
    ) {
        let cursor = self.retained.open();
        self.pages.cursors.insert((from, gather), (filter, cursor));
        self.on_retained_more(now, from, gather, out);
    }

    pub(super) fn on_retained_more(
        &mut self,
        now: Instant,
        from: ShardId,
        gather: GatherId,
        out: &mut Outbox,
    ) {
        match self.pages.budget > 0 && self.pages.waiting.is_empty() {
            true => self.make_page(now, (from, gather), out),
            false => self.pages.waiting.push_back((from, gather)),
        }
    }

    pub(super) fn on_retained_stop(&mut self, from: ShardId, gather: GatherId) {
        if let Some((_, cursor)) = self.pages.cursors.remove(&(from, gather)) {
            self.retained.close(cursor);
        }
    }

    /// Makes pages for those who stand in line, as many as may be at a time.
    pub(super) fn make_pages(&mut self, now: Instant, out: &mut Outbox) {
        self.pages.budget = BUDGET;
        while self.pages.budget > 0
            && let Some(asker) = self.pages.waiting.pop_front()
        {
            self.make_page(now, asker, out);
        }
    }

    fn make_page(&mut self, now: Instant, asker: Asker, out: &mut Outbox) {
        let Some((filter, cursor)) = self.pages.cursors.remove(&asker) else {
            return; // It has been stopped.
        };
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
        let (from, gather) = asker;
        match from == self.config.id {
            true => self.on_retained_reply(now, from, gather, messages, more, out),
            false => out.post(
                from,
                ShardMsg::RetainedReply {
                    gather,
                    messages,
                    more,
                },
            ),
        }
    }

    pub(super) fn on_retained_reply(
        &mut self,
        now: Instant,
        from: ShardId,
        gather: GatherId,
        messages: Vec<Arc<Message>>,
        more: bool,
        out: &mut Outbox,
    ) {
        let session = self.dispatch.gathers.on_reply(gather, from, messages, more);
        if let Some(session) = session {
            self.dispatch.pump(now, session, out);
        }
    }

    /// Goes on with the gathers whose clients have taken what was there. At the end of every event.
    pub(super) fn feed_gathers(&mut self, now: Instant, out: &mut Outbox) {
        let others = self.config.shards - 1;
        while let Some((gather, step)) = self.dispatch.gathers.next_step(others) {
            match step {
                Step::Barrier => self.post_barrier(gather, out),
                Step::Ask(owners) => self.ask_for_more(now, gather, owners, out),
            }
        }
    }

    fn ask_for_more(&mut self, now: Instant, gather: GatherId, owners: ShardSet, out: &mut Outbox) {
        let own = self.config.id;
        for owner in owners.without(own).iter() {
            out.post(owner, ShardMsg::RetainedMore { gather });
        }
        if owners.contains(own) {
            self.on_retained_more(now, own, gather, out);
        }
    }

    /// Tells owners of gathers that have ended.
    pub(super) fn stop_gathers(&mut self, ended: Vec<(GatherId, ShardSet)>, out: &mut Outbox) {
        let own = self.config.id;
        for (gather, owners) in ended {
            for owner in owners.without(own).iter() {
                out.post(owner, ShardMsg::RetainedStop { gather });
            }
            if owners.contains(own) {
                self.on_retained_stop(own, gather);
            }
        }
    }
}
