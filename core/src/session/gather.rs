//! SUBSCRIBE and retained messages, across shards.
//!
//! A new subscription gets the retained messages that its filter matches, and no live message is
//! missed, doubled or overtaken by an older retained one. The rules, checked by the simulator and
//! by the model in `core/sim`:
//!
//! 1. A publish posts its forwards before its retain; a turn makes all forwards visible, then all
//!    retains, then all answers (`MsgClass`).
//! 2. The subscriber sets its interest bit, then passes a barrier with every other shard (each
//!    answers when everything that it handled before is on its way), then asks the owners of the
//!    topics. Its own shard needs no barrier: what it handled before is in its outbox already, in
//!    an earlier class.
//! 3. A live retained message on a topic voids the snapshot for that topic: every later one will be
//!    forwarded too.
//! 4. A live message that comes before the barrier is passed may have been forwarded for an earlier
//!    subscriber of this shard, and a later one not at all. It voids nothing. If it comes before
//!    the barrier begins, the snapshot holds it or a later one; if it comes while the barrier is
//!    being passed, a second one is passed, so that this is so again.
//! 5. Each shard has one inbox, so that causal order holds between sources.
//!
//! A snapshot comes in pages, each asked for when the client has taken the ones before, so that a
//! client that takes nothing costs a page of each owner, and no owner looks at a million topics in
//! one go. What an owner has stored by the first question belongs to the snapshot (`Cursor`); what
//! it stores later is forwarded, and left out of the pages. So of live messages it has to be
//! remembered:
//!
//! 6. up to the first page of every owner: the topic, to the end (`Past::overlap`). The owner may
//!    have stored the message before the question, and show it again.
//! 7. later: the topic (`Feed::live`), until every shard has passed a barrier that began after the
//!    message, and every page is here that was asked for before that. Then the owner has the
//!    message in its inbox before the next question, and no page after that shows the message that
//!    it replaces. Pages that are here lose what is void before the topic is forgotten.
//!
//! A client may have thousands of gathers (one SUBSCRIBE names as many filters), and a live message
//! pays for none of them: what is remembered of it is remembered once for the session, together
//! with when it came, and each gather knows when it began and when it was answered. Gathers go
//! through barrier and first questions as a cohort: those that come meanwhile wait for the next
//! one. So one barrier, and one message of questions for each owner, serves all filters of a
//! SUBSCRIBE.
//!
//! Invariants:
//! - a session has a `Feed` exactly while it has a gather.
//! - a barrier is in `barriers` until every other shard has answered it.
//!
//! Not here: what a shard is asked (`shard/retained`), when the client can take more
//! (`shard/delivery/pump.rs`).

mod feed;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

pub use feed::{Ended, Feed};

use crate::ids::{BarrierId, GatherId};
use crate::ids::{ClientKey, SessionId, ShardId};
use crate::message::Message;
use crate::session::Delivery;
use crate::time::Instant;
use crate::topic::{ShardSet, SubscriptionOptions, TopicFilter};

/// What the gathers of one shard share.
#[derive(Debug)]
pub struct Gathers {
    /// Shards besides this one.
    others: usize,
    /// Gathers under way.
    count: usize,
    last_gather: u64,
    last_barrier: u64,
    barriers: HashMap<BarrierId, Barrier, FixedState>,
    /// What gathers have come to and the shard has to do, at the end of the event.
    steps: Vec<GatherStep>,
    /// Gathers of these sessions and filters are through.
    finished: Vec<(SessionId, Arc<TopicFilter>)>,
    /// Keys tables of topics and filters, which clients choose.
    hasher: FixedState,
    /// Gathers that were looked at: what the work on them is measured by.
    #[cfg(test)]
    looks: u64,
}

/// A barrier that other shards have to answer.
#[derive(Debug)]
struct Barrier {
    session: SessionId,
    missing: usize,
}

/// What is to be done for gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatherStep {
    /// The gathers of a session that wait form a cohort, if there is none under way.
    Begin(SessionId),
    /// Every other shard is to answer this barrier.
    Barrier(BarrierId),
    /// Owners are to be asked for a page.
    Ask(GatherId),
}

/// A subscription that is due its retained messages.
#[derive(Debug)]
pub struct Wanted {
    /// Without share name.
    pub filter: Arc<TopicFilter>,
    /// As granted.
    pub options: SubscriptionOptions,
    /// Who published is left out if the subscription is No Local.
    pub no_local_key: Option<ClientKey>,
    /// The shards that may have some.
    pub owners: ShardSet,
}

/// A question for some owners.
#[derive(Debug)]
pub struct Asking {
    /// Whom.
    pub owners: ShardSet,
    /// For what; `None`: for the page after the one before.
    pub filter: Option<Arc<TopicFilter>>,
}

/// A page of an owner.
#[derive(Debug)]
pub struct Answer {
    /// Who answers.
    pub owner: ShardId,
    /// The page.
    pub messages: Vec<Arc<Message>>,
    /// There are more to ask for.
    pub more: bool,
}

impl Gathers {
    /// No gathers. `seed` keys hashes and has to be a secret.
    pub fn new(others: usize, seed: u64) -> Gathers {
        Gathers {
            others,
            count: 0,
            last_gather: 0,
            last_barrier: 0,
            barriers: HashMap::default(),
            steps: Vec::new(),
            finished: Vec::new(),
            hasher: FixedState::with_seed(seed),
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Starts a gather of a session, whose interest the other shards can see. Gives what its filter
    /// was being given before.
    #[must_use]
    pub fn start(
        &mut self,
        feed: &mut Option<Box<Feed>>,
        session: SessionId,
        wanted: Wanted,
    ) -> Option<Ended> {
        let replaced = self.end(feed, &wanted.filter);
        self.last_gather += 1;
        let id = GatherId {
            session,
            number: self.last_gather,
        };
        feed.get_or_insert_with(|| Box::new(Feed::new(session, &self.hasher)))
            .start(id, wanted, self);
        replaced
    }

    /// The next retained message for a session. With `has_room` false only QoS 0 may be sent.
    pub fn next(
        &mut self,
        now: Instant,
        has_room: bool,
        feed: &mut Option<Box<Feed>>,
    ) -> Option<Delivery> {
        let delivery = feed.as_mut()?.next(now, has_room, self);
        drop_if_empty(feed);
        delivery
    }

    /// Ends the gather of one filter of a session, if there is one.
    #[must_use]
    pub fn end(&mut self, feed: &mut Option<Box<Feed>>, filter: &TopicFilter) -> Option<Ended> {
        let ended = feed.as_mut()?.end(filter, self);
        drop_if_empty(feed);
        ended
    }

    /// Ends all gathers of a session.
    #[must_use]
    pub fn end_all(&mut self, feed: Option<Box<Feed>>) -> Vec<Ended> {
        feed.map_or_else(Vec::new, |feed| feed.end_all(self))
    }

    /// Another shard has answered a barrier. Gives the session that it was for, if all have.
    pub fn on_barrier_ack(&mut self, id: BarrierId) -> Option<SessionId> {
        let barrier = self.barriers.get_mut(&id);
        let barrier = barrier.expect("a shard answers each barrier once");
        barrier.missing -= 1;
        if barrier.missing > 0 {
            return None;
        }
        let barrier = self.barriers.remove(&id).expect("just seen");
        Some(barrier.session)
    }

    /// Every shard has passed a barrier of a session.
    pub fn on_barrier_passed(&mut self, feed: &mut Option<Box<Feed>>, id: BarrierId) {
        if let Some(feed) = feed {
            feed.on_barrier_passed(id, self);
        }
        drop_if_empty(feed);
    }

    /// A page is here. False if nobody waits for it any more.
    pub fn on_page(&mut self, feed: &mut Option<Box<Feed>>, id: GatherId, answer: Answer) -> bool {
        let is_taken = match feed {
            Some(feed) => feed.on_page(id, answer, self),
            None => false, // The session has left, or has other gathers by now.
        };
        drop_if_empty(feed);
        is_taken
    }

    /// There is something to do for gathers.
    pub fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }

    /// What there is to do.
    pub fn take_steps(&mut self) -> Vec<GatherStep> {
        std::mem::take(&mut self.steps)
    }

    /// Sessions that have been given all that a subscription was due, and its filter.
    pub fn take_finished(&mut self) -> Vec<(SessionId, Arc<TopicFilter>)> {
        std::mem::take(&mut self.finished)
    }

    /// Gathers under way.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Panics if an invariant does not hold between two events, for a shard whose sessions have
    /// these feeds; walks all gathers.
    pub fn assert_invariants<'a>(&self, feeds: impl Iterator<Item = &'a Feed>) {
        assert!(!self.has_steps(), "what gathers come to is done at once");
        for (id, barrier) in &self.barriers {
            assert!(id.0 <= self.last_barrier, "names are given in turn");
            let is_open = (1..=self.others).contains(&barrier.missing);
            assert!(is_open, "a barrier is here until all have answered");
        }
        let mut count = 0;
        for feed in feeds {
            count += feed.len();
            for id in feed.barriers() {
                let session = self.barriers.get(&id).map(|barrier| barrier.session);
                assert_eq!(session, Some(feed.session()), "nobody waits in vain");
            }
        }
        assert_eq!(self.count, count, "gathers are counted");
    }

    /// A barrier for a session, which the shard is going to post.
    fn begin_barrier(&mut self, session: SessionId) -> BarrierId {
        assert!(self.others > 0, "a single shard has nobody to wait for");
        self.last_barrier += 1;
        let id = BarrierId(self.last_barrier);
        let missing = self.others;
        self.barriers.insert(id, Barrier { session, missing });
        self.steps.push(GatherStep::Barrier(id));
        id
    }

    /// Counts a look at a gather.
    fn look(&mut self) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
    }
}

fn drop_if_empty(feed: &mut Option<Box<Feed>>) {
    if feed.as_ref().is_some_and(|feed| feed.is_empty()) {
        *feed = None;
    }
}
