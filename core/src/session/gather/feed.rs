//! The gathers of one session: what it is still owed of retained messages.
//!
//! Invariants:
//! - `by_filter` names exactly the gathers in `gathers`; each filter has one at most.
//! - a gather stands in `sendable` or in `blocked`, and not in both, exactly while its `backlog`
//!   holds something; in `blocked` only if the first message there needs room in the window.
//! - `backlog_len` is the sum over the backlogs, `answered` the number of gathers in
//!   `Phase::Later`, `asking_more` the number of those with a question under way.
//! - a gather in `Phase::First` is of the cohort, which is in `Stage::Asked`.
//! - `live` is empty while `answered` is 0, and `early` while nobody waits.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::{Answer, Asking, GatherStep, Gathers, Wanted};
use crate::codec::QoS;
use crate::ids::{BarrierId, GatherId};
use crate::ids::{ClientKey, SessionId};
use crate::message::Message;
use crate::session::{Delivery, KeptMatch};
use crate::time::Instant;
use crate::topic::{ShardSet, SubscriptionOptions, TopicFilter};

/// All gathers of a session.
#[derive(Debug)]
pub struct Feed {
    session: SessionId,
    gathers: HashMap<GatherId, Gather, FixedState>,
    by_filter: HashMap<Arc<TopicFilter>, GatherId, FixedState>,
    /// Says what was before what.
    clock: Tick,
    /// Gathers that have begun no barrier.
    waiting: Vec<GatherId>,
    /// Live messages since the first of `waiting` began.
    early: Early,
    /// Those that pass barriers and ask for first pages, together.
    cohort: Option<Cohort>,
    /// Gathers with a message that may be sent, the oldest first.
    sendable: BTreeSet<GatherId>,
    /// Those whose message needs room in the window.
    blocked: BTreeSet<GatherId>,
    backlog_len: usize,
    answered: usize,
    asking_more: usize,
    /// Topics with a live message since some gather was answered, and when the last one came.
    live: HashMap<Box<[u8]>, Tick, FixedState>,
    clearing: Option<Clearing>,
}

/// A moment in the life of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(u64);

/// The last live message of each topic, and when it came.
type Early = HashMap<Box<[u8]>, (Arc<Message>, Tick), FixedState>;

/// One subscription that is being given its retained messages.
#[derive(Debug)]
struct Gather {
    filter: Arc<TopicFilter>,
    options: SubscriptionOptions,
    no_local_key: Option<ClientKey>,
    started_at: Tick,
    phase: Phase,
    /// Owners that have more.
    open: ShardSet,
    /// The pages that are here, as far as they are not sent.
    backlog: VecDeque<Arc<Message>>,
}

#[derive(Debug)]
enum Phase {
    /// Nobody was asked.
    Before,
    /// These owners owe the first page.
    First { asked: ShardSet },
    /// Every owner has given its first page.
    Later {
        /// When the last page of the cohort came.
        answered_at: Tick,
        /// Owners that owe another page.
        asked: ShardSet,
        /// When they were asked.
        asked_at: Tick,
        /// `None`: no live message came.
        past: Option<Arc<Past>>,
    },
}

/// Gathers that do their first steps together.
#[derive(Debug)]
struct Cohort {
    members: Vec<GatherId>,
    stage: Stage,
    past: Past,
}

#[derive(Debug)]
enum Stage {
    /// Other shards have to answer a barrier.
    Barrier {
        id: BarrierId,
        /// It is the second one.
        again: bool,
        /// A live message has come since it began.
        is_met: bool,
    },
    /// So many members wait for a first page.
    Asked { left: usize },
}

/// Live messages from before the first pages were here.
#[derive(Debug)]
struct Past {
    /// From before the first barrier was passed: if the snapshot holds the same one, the client has
    /// it.
    early: Early,
    /// Topics with a live message after that.
    overlap: HashSet<Box<[u8]>, FixedState>,
}

/// How far topics are from being forgotten.
#[derive(Debug)]
enum Clearing {
    /// Other shards have to answer the barrier.
    Barrier { id: BarrierId, began_at: Tick },
    /// Pages have to come that were asked for before it was passed, for so many gathers.
    Pages {
        began_at: Tick,
        passed_at: Tick,
        left: usize,
    },
}

/// A gather that has ended, and the owners that have to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub gather: GatherId,
    /// Those that have a page for it, or are making one; perhaps none.
    pub owners: ShardSet,
}

impl Feed {
    /// A feed without gathers.
    pub(super) fn new(session: SessionId, hasher: &FixedState) -> Feed {
        Feed {
            session,
            gathers: HashMap::default(),
            by_filter: HashMap::with_hasher(hasher.clone()),
            clock: Tick(0),
            waiting: Vec::new(),
            early: HashMap::with_hasher(hasher.clone()),
            cohort: None,
            sendable: BTreeSet::new(),
            blocked: BTreeSet::new(),
            backlog_len: 0,
            answered: 0,
            asking_more: 0,
            live: HashMap::with_hasher(hasher.clone()),
            clearing: None,
        }
    }

    /// The session has no gathers.
    pub(super) fn is_empty(&self) -> bool {
        self.gathers.is_empty()
    }

    /// Adds a gather.
    pub(super) fn start(&mut self, id: GatherId, wanted: Wanted, shard: &mut Gathers) {
        assert_eq!(id.session, self.session, "a feed is of one session");
        let Wanted {
            filter,
            options,
            no_local_key,
            owners,
        } = wanted;
        let replaced = self.by_filter.insert(filter.clone(), id);
        assert!(replaced.is_none(), "a filter has one gather at a time");
        let gather = Gather {
            filter,
            options,
            no_local_key,
            started_at: self.tick(),
            phase: Phase::Before,
            open: owners,
            backlog: VecDeque::new(),
        };
        self.gathers.insert(id, gather);
        shard.count += 1;
        shard.look();
        self.waiting.push(id);
        if self.waiting.len() == 1 && self.cohort.is_none() {
            shard.steps.push(GatherStep::Begin(self.session));
        }
    }

    /// Makes a cohort of those that wait, if there is none.
    pub fn begin(&mut self, shard: &mut Gathers) {
        if self.cohort.is_some() || self.waiting.is_empty() {
            return;
        }
        let hasher = self.early.hasher().clone();
        let early = HashMap::with_hasher(hasher.clone());
        let past = Past {
            early: std::mem::replace(&mut self.early, early),
            overlap: HashSet::with_hasher(hasher),
        };
        let members = std::mem::take(&mut self.waiting);
        let stage = match shard.others {
            0 => Stage::Asked { left: 0 },
            _ => Stage::Barrier {
                id: shard.begin_barrier(self.session),
                again: false,
                is_met: false,
            },
        };
        self.cohort = Some(Cohort {
            members,
            stage,
            past,
        });
        if shard.others == 0 {
            self.ask_first(shard);
        }
    }

    /// A live retained message is on its way to the session. What waits does not matter to its
    /// cost.
    pub fn note_live(&mut self, message: &Arc<Message>, shard: &mut Gathers) {
        let (topic, clock) = (message.topic(), self.clock);
        if !self.waiting.is_empty() {
            note(&mut self.early, topic, (message.clone(), clock));
        }
        if let Some(Cohort { stage, past, .. }) = &mut self.cohort {
            match stage {
                Stage::Barrier {
                    again: false,
                    is_met,
                    ..
                } => {
                    *is_met = true;
                    note(&mut past.early, topic, (message.clone(), clock));
                }
                Stage::Barrier { again: true, .. } | Stage::Asked { .. } => {
                    if !past.overlap.contains(topic) {
                        past.overlap.insert(topic.into());
                    }
                }
            }
        }
        if self.answered > 0 {
            note(&mut self.live, topic, clock);
            self.clear_if_due(shard);
        }
    }

    /// Another shard's answer was the last one to a barrier.
    pub(super) fn on_barrier_passed(&mut self, passed: BarrierId, shard: &mut Gathers) {
        if let Some(Clearing::Barrier { id, began_at }) = self.clearing
            && id == passed
        {
            self.on_clear_passed(began_at, shard);
        }
        let Some(Cohort {
            stage: Stage::Barrier { id, again, is_met },
            ..
        }) = &mut self.cohort
        else {
            return;
        };
        if *id != passed {
            return;
        }
        if *is_met && !*again {
            *id = shard.begin_barrier(self.session);
            *again = true;
            return;
        }
        self.ask_first(shard);
    }

    /// The cohort asks for its first pages.
    fn ask_first(&mut self, shard: &mut Gathers) {
        let cohort = self.cohort.as_mut().expect("the caller has a cohort");
        let (gathers, mut left) = (&mut self.gathers, 0);
        cohort.members.retain(|id| {
            shard.look();
            let Some(gather) = gathers.get_mut(id) else {
                return false; // It has ended meanwhile.
            };
            let asked = std::mem::take(&mut gather.open);
            assert!(!asked.is_empty(), "every topic has an owner");
            gather.phase = Phase::First { asked };
            shard.steps.push(GatherStep::Ask(*id));
            left += 1;
            true
        });
        cohort.stage = Stage::Asked { left };
        if left == 0 {
            self.on_answered(shard);
        }
    }

    /// What to ask for a gather that is to go on; `None` if it has ended, or has something to send.
    pub fn go_on(&mut self, id: GatherId, shard: &mut Gathers) -> Option<Asking> {
        shard.look();
        let gather = self.gathers.get_mut(&id)?;
        let now = self.clock;
        match &mut gather.phase {
            Phase::First { asked } => Some(Asking {
                owners: *asked,
                filter: Some(gather.filter.clone()),
            }),
            Phase::Later {
                asked, asked_at, ..
            } => {
                if !asked.is_empty() || !gather.backlog.is_empty() || gather.open.is_empty() {
                    return None;
                }
                *asked = std::mem::take(&mut gather.open);
                *asked_at = now;
                self.asking_more += 1;
                Some(Asking {
                    owners: *asked,
                    filter: None,
                })
            }
            Phase::Before => unreachable!("a gather asks after its barrier"),
        }
    }

    /// A page of an owner. False if nobody waits for it.
    pub(super) fn on_page(&mut self, id: GatherId, answer: Answer, shard: &mut Gathers) -> bool {
        shard.look();
        let Some(gather) = self.gathers.get_mut(&id) else {
            return false; // It has ended meanwhile.
        };
        let owner = answer.owner;
        let (Phase::First { asked } | Phase::Later { asked, .. }) = &mut gather.phase else {
            panic!("a page that nobody asked for");
        };
        assert!(
            asked.contains(owner),
            "a page of an owner that was not asked"
        );
        *asked = asked.without(owner);
        let is_last = asked.is_empty();
        if answer.more {
            gather.open = gather.open.with(owner);
        }
        if gather.backlog.is_empty() && !answer.messages.is_empty() {
            self.sendable.insert(id);
        }
        self.backlog_len += answer.messages.len();
        gather.backlog.extend(answer.messages);
        if is_last {
            self.on_page_last(id, shard);
        }
        true
    }

    /// The last page that a gather has asked for is here.
    fn on_page_last(&mut self, id: GatherId, shard: &mut Gathers) {
        let gather = self.gathers.get(&id).expect("the caller has seen it");
        match gather.phase {
            Phase::First { .. } => {
                self.end_if_through(id, shard);
                self.on_first_pages(shard);
            }
            Phase::Later { asked_at, .. } => {
                self.go_on_if_taken(id, shard); // It may end with that.
                self.on_more_pages(asked_at, shard);
            }
            Phase::Before => unreachable!("pages come after a question"),
        }
    }

    /// A member of the cohort has all first pages, or has ended before.
    fn on_first_pages(&mut self, shard: &mut Gathers) {
        let Some(Cohort {
            stage: Stage::Asked { left },
            ..
        }) = &mut self.cohort
        else {
            panic!("first pages come to a cohort that has asked");
        };
        *left -= 1;
        if *left == 0 {
            self.on_answered(shard);
        }
    }

    /// All first pages of the cohort are here: its members go on one by one.
    fn on_answered(&mut self, shard: &mut Gathers) {
        let Cohort { members, past, .. } = self.cohort.take().expect("a cohort was answered");
        let has_past = !past.early.is_empty() || !past.overlap.is_empty();
        let past = has_past.then(|| Arc::new(past));
        let answered_at = self.tick();
        for id in members {
            shard.look();
            let Some(gather) = self.gathers.get_mut(&id) else {
                continue; // Its first pages were all, or it has ended.
            };
            gather.phase = Phase::Later {
                answered_at,
                asked: ShardSet::EMPTY,
                asked_at: answered_at,
                past: past.clone(),
            };
            self.answered += 1;
            self.go_on_if_taken(id, shard);
        }
        if !self.waiting.is_empty() {
            shard.steps.push(GatherStep::Begin(self.session));
        }
    }

    /// A question for another page was answered, or needs no answer any more.
    fn on_more_pages(&mut self, asked_at: Tick, shard: &mut Gathers) {
        self.asking_more -= 1;
        if let Some(Clearing::Pages {
            passed_at, left, ..
        }) = &mut self.clearing
            && asked_at < *passed_at
        {
            *left -= 1;
            if *left == 0 {
                self.forget_topics(shard);
            }
        }
    }

    /// Starts to forget topics when there are many: a sweep goes through all backlogs, and is to
    /// pay for as many live messages.
    fn clear_if_due(&mut self, shard: &mut Gathers) {
        let topics_max = TOPICS_MAX.max(2 * self.backlog_len);
        if self.clearing.is_some() || self.live.len() <= topics_max {
            return;
        }
        let began_at = self.tick();
        match shard.others {
            // What this shard published is stored before it is asked again.
            0 => self.on_clear_passed(began_at, shard),
            _ => {
                let id = shard.begin_barrier(self.session);
                self.clearing = Some(Clearing::Barrier { id, began_at });
            }
        }
    }

    fn on_clear_passed(&mut self, began_at: Tick, shard: &mut Gathers) {
        let (passed_at, left) = (self.tick(), self.asking_more);
        self.clearing = Some(Clearing::Pages {
            began_at,
            passed_at,
            left,
        });
        if left == 0 {
            self.forget_topics(shard);
        }
    }

    /// Takes what is void out of the backlogs, and forgets the topics that made it so.
    fn forget_topics(&mut self, shard: &mut Gathers) {
        let Some(Clearing::Pages { began_at, .. }) = self.clearing.take() else {
            unreachable!("the caller has seen the last page");
        };
        let with_backlog: Vec<GatherId> = self.sendable.union(&self.blocked).copied().collect();
        for id in with_backlog {
            shard.look();
            let gather = self.gathers.get_mut(&id).expect("listed gathers run");
            let before = gather.backlog.len();
            if let Phase::Later { answered_at, .. } = gather.phase {
                let live = &self.live;
                let is_void = |at: &Tick| *at >= answered_at;
                gather
                    .backlog
                    .retain(|message| !live.get(message.topic()).is_some_and(is_void));
            }
            self.backlog_len -= before - gather.backlog.len();
            if gather.backlog.is_empty() {
                self.on_taken(id, shard);
            }
        }
        self.live.retain(|_, at| *at >= began_at);
    }

    /// The next message that may be sent.
    pub(super) fn next(
        &mut self,
        now: Instant,
        has_room: bool,
        shard: &mut Gathers,
    ) -> Option<Delivery> {
        loop {
            let blocked = self.blocked.first().filter(|_| has_room);
            let id = *[blocked, self.sendable.first()]
                .into_iter()
                .flatten()
                .min()?;
            shard.look();
            let past = self.cohort.as_ref().map(|cohort| &cohort.past);
            let gather = self.gathers.get_mut(&id).expect("listed gathers run");
            let before = gather.backlog.len();
            while let Some(message) = gather.backlog.front()
                && gather.is_stale(message, now, past, &self.live)
            {
                gather.backlog.pop_front();
            }
            self.backlog_len -= before - gather.backlog.len();
            let Some(message) = gather.backlog.front() else {
                self.on_taken(id, shard);
                continue;
            };
            let qos = message.qos.min(gather.options.qos);
            if qos > QoS::AtMostOnce && !has_room {
                self.sendable.remove(&id);
                self.blocked.insert(id);
                continue;
            }
            let message = gather.backlog.pop_front().expect("just seen");
            let delivery = gather.delivery(message, qos);
            self.backlog_len -= 1;
            if gather.backlog.is_empty() {
                self.on_taken(id, shard);
            } else if self.blocked.remove(&id) {
                self.sendable.insert(id); // The next one may need no room.
            }
            return Some(delivery);
        }
    }

    /// The client has taken all that was here of a gather.
    fn on_taken(&mut self, id: GatherId, shard: &mut Gathers) {
        let is_listed = self.sendable.remove(&id) || self.blocked.remove(&id);
        assert!(is_listed, "what was here was listed");
        self.go_on_if_taken(id, shard);
    }

    /// A gather with nothing to send ends, or has another page asked for.
    fn go_on_if_taken(&mut self, id: GatherId, shard: &mut Gathers) {
        self.end_if_through(id, shard);
        let Some(gather) = self.gathers.get(&id) else {
            return;
        };
        match gather.phase {
            Phase::Later { asked, .. } if asked.is_empty() && gather.backlog.is_empty() => {
                shard.steps.push(GatherStep::Ask(id));
            }
            // `on_answered` and `on_page_last` go on.
            Phase::First { .. } | Phase::Later { .. } => {}
            Phase::Before => unreachable!("a gather that asked nobody has taken nothing"),
        }
    }

    /// Ends a gather to which nothing is still to come.
    fn end_if_through(&mut self, id: GatherId, shard: &mut Gathers) {
        let gather = self.gathers.get(&id).expect("the caller has seen it");
        let (Phase::First { asked } | Phase::Later { asked, .. }) = gather.phase else {
            unreachable!("it has got pages");
        };
        if asked.is_empty() && gather.open.is_empty() && gather.backlog.is_empty() {
            let gather = self.remove(id, shard);
            shard.finished.push((self.session, gather.filter));
        }
    }

    /// The subscription was replaced and is due no further retained messages: those that the
    /// earlier one is still owed are sent on the new terms.
    pub fn renew(
        &mut self,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        no_local_key: Option<ClientKey>,
    ) {
        let Some(id) = self.by_filter.get(filter) else {
            return;
        };
        let gather = self.gathers.get_mut(id).expect("named gathers run");
        gather.options = options;
        gather.no_local_key = no_local_key;
        // With another QoS the message may need no room any more.
        if self.blocked.remove(id) {
            self.sendable.insert(*id);
        }
    }

    /// Ends the gather of a filter, if there is one.
    pub(super) fn end(&mut self, filter: &TopicFilter, shard: &mut Gathers) -> Option<Ended> {
        shard.look();
        let id = *self.by_filter.get(filter)?;
        let gather = self.remove(id, shard);
        let owners = gather.owners();
        match gather.phase {
            Phase::First { asked } if !asked.is_empty() => self.on_first_pages(shard),
            Phase::Later {
                asked, asked_at, ..
            } if !asked.is_empty() => self.on_more_pages(asked_at, shard),
            Phase::Before | Phase::First { .. } | Phase::Later { .. } => {}
        }
        Some(Ended { gather: id, owners })
    }

    /// Ends all.
    pub(super) fn end_all(self, shard: &mut Gathers) -> Vec<Ended> {
        shard.count -= self.gathers.len();
        let mut ended: Vec<Ended> = self
            .gathers
            .iter()
            .map(|(&gather, of)| Ended {
                gather,
                owners: of.owners(),
            })
            .collect();
        // A run of the simulator repeats to the byte.
        ended.sort_unstable_by_key(|ended| ended.gather);
        ended
    }

    fn remove(&mut self, id: GatherId, shard: &mut Gathers) -> Gather {
        let gather = self.gathers.remove(&id).expect("the caller has seen it");
        shard.count -= 1;
        self.by_filter.remove(&gather.filter);
        self.sendable.remove(&id);
        self.blocked.remove(&id);
        self.backlog_len -= gather.backlog.len();
        if let Phase::Later { .. } = gather.phase {
            self.answered -= 1;
            if self.answered == 0 {
                self.live.clear();
                self.live.shrink_to_fit();
            }
        }
        gather
    }

    fn tick(&mut self) -> Tick {
        self.clock.0 += 1;
        self.clock
    }

    /// Whether a subscription is still due retained messages.
    pub fn has(&self, filter: &TopicFilter) -> bool {
        self.by_filter.contains_key(filter)
    }

    /// Whose gathers they are.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// Gathers under way.
    pub(super) fn len(&self) -> usize {
        self.gathers.len()
    }

    /// The barriers that other shards have to answer.
    pub(super) fn barriers(&self) -> impl Iterator<Item = BarrierId> {
        let of_cohort = match &self.cohort {
            Some(Cohort {
                stage: Stage::Barrier { id, .. },
                ..
            }) => Some(*id),
            Some(_) | None => None,
        };
        let of_clearing = match self.clearing {
            Some(Clearing::Barrier { id, .. }) => Some(id),
            Some(Clearing::Pages { .. }) | None => None,
        };
        of_cohort.into_iter().chain(of_clearing)
    }

    /// Topics that are remembered.
    #[cfg(test)]
    pub(super) fn topic_count(&self) -> usize {
        self.live.len()
    }

    /// Checks what the head of the module promises; walks everything.
    pub fn assert_invariants(&self) {
        assert!(!self.is_empty(), "a feed has gathers");
        assert_eq!(self.by_filter.len(), self.gathers.len());
        assert!(self.sendable.is_disjoint(&self.blocked));
        let (mut backlog_len, mut answered, mut asking_more, mut first) = (0, 0, 0, 0);
        for (id, gather) in &self.gathers {
            assert_eq!(self.by_filter.get(&gather.filter), Some(id));
            let is_listed = self.sendable.contains(id) || self.blocked.contains(id);
            assert_eq!(is_listed, !gather.backlog.is_empty());
            backlog_len += gather.backlog.len();
            match gather.phase {
                Phase::Before => {}
                Phase::First { asked } => first += usize::from(!asked.is_empty()),
                Phase::Later { asked, .. } => {
                    answered += 1;
                    asking_more += usize::from(!asked.is_empty());
                }
            }
        }
        let left = match &self.cohort {
            Some(Cohort {
                stage: Stage::Asked { left },
                ..
            }) => *left,
            Some(_) | None => 0,
        };
        assert_eq!(
            (self.backlog_len, self.answered, self.asking_more, left),
            (backlog_len, answered, asking_more, first)
        );
        assert!(self.answered > 0 || self.live.is_empty());
        assert!(!self.waiting.is_empty() || self.early.is_empty());
    }
}

impl Gather {
    /// Owners that have a page for it, or are making one.
    fn owners(&self) -> ShardSet {
        match self.phase {
            Phase::Before => ShardSet::EMPTY,
            Phase::First { asked } | Phase::Later { asked, .. } => {
                asked.iter().fold(self.open, ShardSet::with)
            }
        }
    }

    /// The client has something later, or must not get it. `past` is that of the cohort.
    fn is_stale(
        &self,
        message: &Arc<Message>,
        now: Instant,
        past: Option<&Past>,
        live: &HashMap<Box<[u8]>, Tick, FixedState>,
    ) -> bool {
        let topic = message.topic();
        let (past, is_void) = match &self.phase {
            Phase::Before => unreachable!("a gather that asked nobody has no pages"),
            Phase::First { .. } => (past, false),
            Phase::Later {
                answered_at, past, ..
            } => {
                let is_void = live.get(topic).is_some_and(|at| at >= answered_at);
                (past.as_deref(), is_void)
            }
        };
        is_void
            || past.is_some_and(|past| past.voids(message, self.started_at))
            || message.expires_at.is_some_and(|at| at <= now)
            || self.no_local_key == Some(message.publisher)
    }

    fn delivery(&self, message: Arc<Message>, qos: QoS) -> Delivery {
        let id = self.options.subscription_id;
        // [MQTT-3.3.1-8] (3.1.1): RETAIN is set on what a new subscription is given.
        // Whoever sends it asks the rules.
        Delivery {
            rules: 0,
            message,
            qos,
            retain: true,
            matched: id.map(|id| {
                Arc::new(KeptMatch {
                    subscription_ids: [id].into(),
                    share: None,
                })
            }),
        }
    }
}

impl Past {
    /// For a gather that began at `started_at`. What came before that is due once more.
    fn voids(&self, message: &Arc<Message>, started_at: Tick) -> bool {
        let topic = message.topic();
        let early = self.early.get(topic);
        self.overlap.contains(topic)
            || early.is_some_and(|(early, at)| *at >= started_at && Arc::ptr_eq(early, message))
    }
}

/// Enters what was last on a topic.
fn note<V>(topics: &mut HashMap<Box<[u8]>, V, FixedState>, topic: &[u8], value: V) {
    match topics.get_mut(topic) {
        Some(slot) => *slot = value,
        None => _ = topics.insert(topic.into(), value),
    }
}

/// Topics that a feed remembers before it passes a barrier to forget them, if it holds fewer
/// messages.
const TOPICS_MAX: usize = 1024;
