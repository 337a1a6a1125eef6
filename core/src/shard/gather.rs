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
//!    subscriber of this shard, and a later one not at all. It voids nothing; instead a second
//!    barrier is passed, so that the snapshot holds that message or a later one.
//! 5. Each shard has one inbox, so that causal order holds between sources.
//!
//! A snapshot comes in pages, each asked for when the client has taken the ones before, so that a client
//! that takes nothing costs a page of each owner, and no owner looks at a million topics in one
//! go. What an owner has stored by the first question belongs to the snapshot (`Cursor`); what it stores
//! later is forwarded, and left out of the pages. So of live messages it has to be remembered:
//!
//! 6. up to the first page of every owner: the topic, to the end (`overlap`). The owner may have stored the
//!    message before the question, and show it again.
//! 7. later: the topic, until every shard has passed another barrier (`voided`, `clearing`). By then the
//!    owner has the message in its inbox before the next question, and no page after that shows the
//!    message that it replaces. No page is asked for while there are such topics: the barrier goes first.
//!
//! Invariants:
//! - a gather is here exactly while it stands in the `gathers` of its session.
//! - `backlog` holds nothing that is stale by the time it is sent.
//! - of a gather there is one barrier or one round of questions under way, not both.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::event::GatherId;
use crate::ids::{ClientKey, SessionId, ShardId};
use crate::message::Message;
use crate::session::{Delivery, Grounds};
use crate::time::Instant;
use crate::topic::{ShardSet, SubscriptionOptions, TopicFilter};

/// The gathers of one shard.
#[derive(Debug, Default)]
pub struct Gathers {
    running: HashMap<GatherId, Gather, FixedState>,
    next_id: u64,
    /// Those that can go on with another page. Each stands here at most once.
    hungry: Vec<GatherId>,
}

/// One subscription that is being given its retained messages.
#[derive(Debug)]
pub struct Gather {
    /// Whose subscription.
    pub session: SessionId,
    /// Its filter.
    pub filter: Arc<TopicFilter>,
    options: SubscriptionOptions,
    /// Who published is left out if the subscription is No Local.
    no_local_key: Option<ClientKey>,
    phase: Phase,
    /// The last live message on each topic from before the first barrier was passed: if the snapshot
    /// holds the same one, the client has it.
    early: HashMap<Box<[u8]>, Arc<Message>, FixedState>,
    /// Topics with a live message from then until the first page of every owner was here.
    overlap: Topics,
    /// Topics with a live message since the last barrier began.
    voided: Topics,
    /// Those from before it.
    clearing: Topics,
    /// Owners that have more.
    open: ShardSet,
    /// The pages that are here, as far as they are not sent.
    backlog: VecDeque<Arc<Message>>,
    is_hungry: bool,
}

type Topics = HashSet<Box<[u8]>, FixedState>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Other shards have to answer the barrier.
    Barrier { missing: usize, again: bool },
    /// These owners have to answer the question, the first one or another.
    Query { asked: ShardSet, is_first: bool },
    /// Nothing is asked for.
    Ready,
    /// Other shards have to answer the barrier before another page.
    Clearing { missing: usize },
}

impl Gathers {
    /// Starts a gather behind a barrier with `others` shards.
    pub fn start(
        &mut self,
        session: SessionId,
        filter: Arc<TopicFilter>,
        options: SubscriptionOptions,
        no_local_key: Option<ClientKey>,
        others: usize,
    ) -> GatherId {
        self.next_id += 1;
        let id = GatherId(self.next_id);
        let gather = Gather {
            session,
            filter,
            options,
            no_local_key,
            phase: Phase::Barrier {
                missing: others,
                again: false,
            },
            early: HashMap::default(),
            overlap: Topics::default(),
            voided: Topics::default(),
            clearing: Topics::default(),
            open: ShardSet::default(),
            backlog: VecDeque::new(),
            is_hungry: false,
        };
        self.running.insert(id, gather);
        id
    }

    /// A shard has passed the barrier, one of `others`.
    pub fn on_barrier_ack(&mut self, id: GatherId, others: usize) -> Passed {
        let Some(gather) = self.running.get_mut(&id) else {
            return Passed::NotYet; // It has ended meanwhile.
        };
        match &mut gather.phase {
            Phase::Barrier { missing, again } => {
                assert!(*missing > 0, "more barrier answers than shards");
                *missing -= 1;
                if *missing > 0 {
                    return Passed::NotYet;
                }
                if *again || gather.early.is_empty() {
                    return Passed::Ask(gather.filter.clone());
                }
                (*missing, *again) = (others, true);
                Passed::Again
            }
            Phase::Clearing { missing } => {
                assert!(*missing > 0, "more barrier answers than shards");
                *missing -= 1;
                if *missing > 0 {
                    return Passed::NotYet;
                }
                gather.on_cleared();
                Passed::Cleared(gather.session)
            }
            Phase::Query { .. } | Phase::Ready => panic!("a barrier answer after the barrier"),
        }
    }

    /// These owners, this shard perhaps among them, are being asked for the first time.
    pub fn on_asked(&mut self, id: GatherId, owners: ShardSet) {
        let gather = self.running.get_mut(&id);
        gather.expect("asked for a gather that runs").phase = Phase::Query {
            asked: owners,
            is_first: true,
        };
    }

    /// A page of an owner. Gives the session to pump.
    pub fn on_reply(
        &mut self,
        id: GatherId,
        from: ShardId,
        messages: Vec<Arc<Message>>,
        more: bool,
    ) -> Option<SessionId> {
        let gather = self.running.get_mut(&id)?; // It may have ended meanwhile.
        let Phase::Query { asked, is_first } = gather.phase else {
            panic!("a page that nobody asked for");
        };
        assert!(
            asked.contains(from),
            "a page of an owner that was not asked"
        );
        let asked = asked.without(from);
        if more {
            gather.open = gather.open.with(from);
        }
        gather.phase = match asked.is_empty() {
            true => Phase::Ready,
            false => Phase::Query { asked, is_first },
        };
        gather.backlog.extend(messages);
        Some(gather.session)
    }

    /// Notes that a gather may go on, once.
    fn note_hunger(&mut self, id: GatherId) {
        if let Some(gather) = self.running.get_mut(&id)
            && gather.wants_more()
            && !std::mem::replace(&mut gather.is_hungry, true)
        {
            self.hungry.push(id);
        }
    }

    /// Some gather can go on with another page.
    pub fn is_hungry(&self) -> bool {
        !self.hungry.is_empty()
    }

    /// The next gather that can go on, and what it takes; with `others` shards besides this one.
    pub fn next_step(&mut self, others: usize) -> Option<(GatherId, Step)> {
        while let Some(id) = self.hungry.pop() {
            let Some(gather) = self.running.get_mut(&id) else {
                continue;
            };
            gather.is_hungry = false;
            if gather.wants_more() {
                return Some((id, gather.go_on(others)));
            }
        }
        None
    }

    /// A live retained message is on its way to the session of these gathers.
    pub fn void(&mut self, gathers: &[GatherId], message: &Arc<Message>) {
        let topic = message.topic();
        for id in gathers {
            let gather = self
                .running
                .get_mut(id)
                .expect("a session lists running gathers");
            if !gather.filter.matches(topic) {
                continue;
            }
            match gather.phase {
                Phase::Barrier { again: false, .. } => {
                    gather.early.insert(topic.into(), message.clone());
                }
                Phase::Barrier { again: true, .. } | Phase::Query { is_first: true, .. } => {
                    add_to(&mut gather.overlap, topic);
                }
                Phase::Query { .. } | Phase::Ready | Phase::Clearing { .. } => {
                    add_to(&mut gather.voided, topic);
                }
            }
            if gather.voided.len() > VOIDED_MAX {
                self.note_hunger(*id);
            }
        }
    }

    /// The next retained message for a session; ends the gathers that are through. With `has_room`
    /// false only QoS 0 may be sent.
    pub fn next(
        &mut self,
        now: Instant,
        has_room: bool,
        gathers: &mut Vec<GatherId>,
    ) -> Option<Delivery> {
        let mut position = 0;
        while let Some(&id) = gathers.get(position) {
            let gather = self
                .running
                .get_mut(&id)
                .expect("a session lists running gathers");
            match gather.next(now, has_room) {
                Next::Send(delivery) => return Some(delivery),
                Next::Wait => {
                    position += 1;
                    self.note_hunger(id);
                }
                Next::Through => {
                    self.running.remove(&id);
                    gathers.remove(position);
                }
            }
        }
        if gathers.is_empty() {
            *gathers = Vec::new();
        }
        None
    }

    /// The subscription was replaced and is due no further retained messages: those that the earlier
    /// one is still owed are sent on the new terms.
    pub fn renew(
        &mut self,
        gathers: &[GatherId],
        filter: &TopicFilter,
        options: SubscriptionOptions,
        no_local_key: Option<ClientKey>,
    ) {
        for id in gathers {
            let gather = self
                .running
                .get_mut(id)
                .expect("a session lists running gathers");
            if *gather.filter == *filter {
                gather.options = options;
                gather.no_local_key = no_local_key;
            }
        }
    }

    /// Ends the gather of one filter of a session, or of all with `None`. Gives the owners that have to
    /// hear of it.
    #[must_use]
    pub fn end(
        &mut self,
        gathers: &mut Vec<GatherId>,
        filter: Option<&TopicFilter>,
    ) -> Vec<(GatherId, ShardSet)> {
        let mut ended = Vec::new();
        gathers.retain(|id| {
            let gather = self
                .running
                .get(id)
                .expect("a session lists running gathers");
            let ends = filter.is_none_or(|f| *f == *gather.filter);
            if ends {
                let owners = gather.owners();
                self.running.remove(id);
                if !owners.is_empty() {
                    ended.push((*id, owners));
                }
            }
            !ends
        });
        ended
    }

    /// Gathers under way.
    pub fn len(&self) -> usize {
        self.running.len()
    }
}

/// What the answer to a barrier leads to.
#[derive(Debug)]
pub enum Passed {
    /// Others have to answer too.
    NotYet,
    /// All have, but a second barrier is needed.
    Again,
    /// All have: ask for what this filter matches.
    Ask(Arc<TopicFilter>),
    /// All have, and a gather of this session may go on.
    Cleared(SessionId),
}

/// How a gather goes on.
#[derive(Debug)]
pub enum Step {
    /// By asking these owners for another page.
    Ask(ShardSet),
    /// By passing a barrier with every other shard.
    Barrier,
}

enum Next {
    Send(Delivery),
    Wait,
    Through,
}

impl Gather {
    /// Another page can be asked for, or there are so many names that they have to be cleared.
    fn wants_more(&self) -> bool {
        let is_taken = self.backlog.is_empty() && !self.open.is_empty();
        self.phase == Phase::Ready && (is_taken || self.voided.len() > VOIDED_MAX)
    }

    fn go_on(&mut self, others: usize) -> Step {
        self.clearing = std::mem::take(&mut self.voided);
        if !self.clearing.is_empty() && others > 0 {
            self.phase = Phase::Clearing { missing: others };
            return Step::Barrier;
        }
        // What this shard itself has published is stored, or posted to its owner before the question.
        self.on_cleared();
        if !self.backlog.is_empty() {
            return Step::Ask(ShardSet::default());
        }
        let asked = std::mem::take(&mut self.open);
        self.phase = Phase::Query {
            asked,
            is_first: false,
        };
        Step::Ask(asked)
    }

    /// Every shard has passed the barrier: no later page shows what was voided before it.
    fn on_cleared(&mut self) {
        let cleared = std::mem::take(&mut self.clearing);
        self.backlog
            .retain(|message| !cleared.contains(message.topic()));
        self.phase = Phase::Ready;
    }

    /// Owners that have a page for it, or are making one.
    fn owners(&self) -> ShardSet {
        match self.phase {
            Phase::Query { asked, .. } => asked.iter().fold(self.open, ShardSet::with),
            Phase::Barrier { .. } | Phase::Ready | Phase::Clearing { .. } => self.open,
        }
    }

    fn is_stale(&self, message: &Arc<Message>, now: Instant) -> bool {
        let topic = message.topic();
        let early = self.early.get(topic);
        self.voided.contains(topic)
            || self.clearing.contains(topic)
            || self.overlap.contains(topic)
            || early.is_some_and(|early| Arc::ptr_eq(early, message))
            || message.expires_at.is_some_and(|at| at <= now)
            || self.no_local_key == Some(message.publisher)
    }

    fn next(&mut self, now: Instant, has_room: bool) -> Next {
        while let Some(message) = self.backlog.front() {
            let qos = message.qos.min(self.options.qos);
            if self.is_stale(message, now) {
                self.backlog.pop_front();
                continue;
            }
            if qos > crate::codec::QoS::AtMostOnce && !has_room {
                return Next::Wait;
            }
            let message = self.backlog.pop_front().expect("just seen");
            let id = self.options.subscription_id;
            // [MQTT-3.3.1-8] (3.1.1): RETAIN is set on what a new subscription is given.
            // Whoever sends it asks the rules.
            return Next::Send(Delivery {
                rules: 0,
                message,
                qos,
                retain: true,
                grounds: id.map(|id| {
                    Arc::new(Grounds {
                        subscription_ids: [id].into(),
                        share: None,
                    })
                }),
            });
        }
        match self.phase {
            Phase::Ready if self.open.is_empty() => Next::Through,
            Phase::Ready | Phase::Barrier { .. } | Phase::Query { .. } | Phase::Clearing { .. } => {
                Next::Wait
            }
        }
    }
}

fn add_to(topics: &mut Topics, topic: &[u8]) {
    if !topics.contains(topic) {
        topics.insert(topic.into());
    }
}

/// Names of topics that are kept until a barrier clears them.
const VOIDED_MAX: usize = 1024;
