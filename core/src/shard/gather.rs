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
//! 3. From the barrier until the snapshot is sent, a live retained message on a topic voids the
//!    snapshot for that topic: every later one will be forwarded too.
//! 4. A live message that comes before the barrier is passed may have been forwarded for an earlier
//!    subscriber of this shard, and a later one not at all. It voids nothing; instead a second
//!    barrier is passed, so that the snapshot holds that message or a later one.
//! 5. Each shard has one inbox, so that causal order holds between sources.
//!
//! Invariants:
//! - a gather is here exactly while it stands in the `gathers` of its session.
//! - `backlog` holds nothing whose topic is in `voided` by the time it is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::event::GatherId;
use crate::ids::{ClientKey, SessionId};
use crate::message::Message;
use crate::session::{Delivery, Grounds};
use crate::time::Instant;
use crate::topic::{SubscriptionOptions, TopicFilter};

/// The gathers of one shard.
#[derive(Debug, Default)]
pub struct Gathers {
    running: HashMap<GatherId, Gather, FixedState>,
    next_id: u64,
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
    /// Topics on which a live message came since then.
    voided: HashSet<Box<[u8]>, FixedState>,
    /// The snapshot, as far as it is here and not sent.
    backlog: VecDeque<Arc<Message>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Other shards have to answer the barrier.
    Barrier { missing: usize, again: bool },
    /// Owners have to answer the question.
    Query { missing: usize },
    /// The whole snapshot is here.
    Sending,
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
            voided: HashSet::default(),
            backlog: VecDeque::new(),
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
            Phase::Query { .. } | Phase::Sending => panic!("a barrier answer after the barrier"),
        }
    }

    /// `owners` shards, this one perhaps among them, are being asked.
    pub fn on_asked(&mut self, id: GatherId, owners: usize) {
        let gather = self
            .running
            .get_mut(&id)
            .expect("asked for a gather that runs");
        gather.phase = Phase::Query { missing: owners };
    }

    /// A part of the snapshot. Gives the session to pump.
    pub fn on_reply(&mut self, id: GatherId, messages: Vec<Arc<Message>>) -> Option<SessionId> {
        let gather = self.running.get_mut(&id)?;
        match &mut gather.phase {
            Phase::Query { missing } => {
                assert!(*missing > 0, "more replies than owners");
                *missing -= 1;
                if *missing == 0 {
                    gather.phase = Phase::Sending;
                }
            }
            Phase::Barrier { .. } | Phase::Sending => panic!("a reply without a question"),
        }
        gather.backlog.extend(messages);
        gather.prune();
        Some(gather.session)
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
                Phase::Barrier { again: true, .. } | Phase::Query { .. } | Phase::Sending => {
                    gather.void(topic);
                }
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
                Next::Wait => position += 1,
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

    /// Ends the gather of one filter of a session, or of all with `None`.
    pub fn end(&mut self, gathers: &mut Vec<GatherId>, filter: Option<&TopicFilter>) {
        gathers.retain(|id| {
            let gather = self
                .running
                .get(id)
                .expect("a session lists running gathers");
            let ends = filter.is_none_or(|f| *f == *gather.filter);
            if ends {
                self.running.remove(id);
            }
            !ends
        });
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
}

enum Next {
    Send(Delivery),
    Wait,
    Through,
}

impl Gather {
    fn void(&mut self, topic: &[u8]) {
        if !self.voided.contains(topic) {
            self.voided.insert(topic.into());
            if self.voided.len() > 2 * self.backlog.len() + VOIDED_SLACK {
                self.prune();
            }
        }
    }

    fn next(&mut self, now: Instant, has_room: bool) -> Next {
        while let Some(message) = self.backlog.front() {
            let qos = message.qos.min(self.options.qos);
            let early = self.early.get(message.topic());
            let is_stale = self.voided.contains(message.topic())
                || early.is_some_and(|early| Arc::ptr_eq(early, message))
                || message.expires_at.is_some_and(|at| at <= now)
                || self.no_local_key == Some(message.publisher);
            if is_stale {
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
            Phase::Sending => Next::Through,
            Phase::Barrier { .. } | Phase::Query { .. } => Next::Wait,
        }
    }

    /// Drops what is void. While replies are missing the names have to stay.
    fn prune(&mut self) {
        let voided = &self.voided;
        self.backlog
            .retain(|message| !voided.contains(message.topic()));
        if self.phase == Phase::Sending {
            self.voided.clear();
        }
    }
}

/// Voided topics kept beyond twice the backlog before the backlog is swept.
const VOIDED_SLACK: usize = 1024;
