//! What records add up to: sessions, retained messages, and what ended sessions owe.
//!
//! Records of a checkpoint and of the log behind it overlap: the log tells again what the checkpoint says
//! already, and the checkpoint may know more than the log at the same place. So whatever a record says is set,
//! not counted; what names something that is not there changes nothing; and a delivery that the checkpoint
//! covers is not taken again.
//!
//! Not here: reading (`replay.rs`), bounds (all that was accepted is restored), homes of another number of
//! shards (the shell splits what is here).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use indexmap::{Equivalent, IndexSet};
use siphasher::sip::SipHasher13;

use super::record::{
    AuthorRecord, BodyNo, MessageRecord, Opened, ReceiverTerms, Receivers, Record, SessionTerms,
    StoredMessage, SubscribedRecord, WillRecord,
};
use super::shift::Shift;
use crate::codec::{QoS, SubscribeOptions, Version};
use crate::home::Home;
use crate::ids::{DeliveryNo, PacketId, SessionNo, ShardId};
use crate::message::{Author, Message, MessageParts};
use crate::origin::{Origin, Partial, Reached};
use crate::session::{KeptMatch, Will};
use crate::stages::Stamp;
use crate::time::Instant;
use crate::topic::TopicFilter;

/// What was recorded, by any number of shards and starts.
#[derive(Debug)]
pub struct Recovered {
    /// The sessions.
    // No secret seed: the broker numbers them.
    pub sessions: HashMap<SessionNo, RecoveredSession, FixedState>,
    /// What sessions that ended have left to others, as far as nobody knows that they have it.
    pub owed: BTreeMap<SessionNo, Owed>,
    /// The retained messages.
    pub retained: RecoveredRetained,
    /// QoS 2 messages that went to several shards: the newest of each session and identifier.
    pub(super) origins: HashMap<(SessionNo, PacketId), Traced, FixedState>,
    /// Of the present checkpoint.
    pub(super) bodies: HashMap<BodyNo, Arc<Message>, FixedState>,
    pub(super) authors: Authors,
}

/// A session.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Whose.
    pub client_id: Box<str>,
    /// The name that the client had proven.
    pub user: Option<Box<str>>,
    /// The version it spoke.
    pub version: Version,
    /// Seconds that the session outlives its connection; `u32::MAX`: for ever.
    pub expiry_s: u32,
    /// `None`: it was connected when the log ends.
    pub away: Option<Away>,
    /// Its subscriptions.
    pub subscriptions: HashMap<TopicFilter, RecoveredSubscription, FixedState>,
    /// What it took and has not settled, in the order in which it took it.
    pub deliveries: BTreeMap<DeliveryNo, RecoveredDelivery>,
    /// The number of the next message it takes.
    pub next_delivery: DeliveryNo,
    /// Deliveries below this may have been sent: the client was connected later.
    pub sent_below: DeliveryNo,
    /// QoS 2 messages of the client that it has not released.
    pub receipts: BTreeSet<PacketId>,
    /// QoS 2 messages of the client that not all have; known when everything was read.
    pub partials: BTreeMap<PacketId, Partial>,
    /// The next QoS 2 message of the client gets this ticket, or a higher one.
    pub next_ticket: u64,
    /// Messages with lower tickets are not partial, but those that the checkpoint names.
    pub(super) complete_below: u64,
    /// The last message of each identifier that all have.
    pub(super) spread: BTreeMap<PacketId, u64>,
    /// Published when the client is lost.
    pub will: Option<Will>,
}

/// What the logs say of a QoS 2 message.
#[derive(Debug, Default)]
pub(super) struct Traced {
    ticket: u64,
    reached: Reached,
    /// The checkpoint of its publisher's shard says that it is partial.
    is_listed: bool,
    /// What it is, if it is to be retained and somebody has it.
    to_retain: Option<Arc<Message>>,
    /// The owner of its topic has it.
    is_retained: bool,
}

/// Since when a client is away, on the clock of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// On the clock of the log.
    pub at: Instant,
    /// From there to the present one.
    pub shift: Shift,
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveredSubscription {
    /// What was granted.
    pub options: SubscribeOptions,
    /// Subscription Identifier, if the client gave one.
    pub subscription_id: Option<NonZeroU32>,
    /// It has not been given all retained messages that it is due.
    pub is_gathering: bool,
}

/// A message on its way to a session.
#[derive(Clone, Debug)]
pub enum RecoveredDelivery {
    /// To be sent, perhaps again.
    Message {
        /// What; one for all its receivers.
        message: Arc<Message>,
        /// QoS to send with.
        qos: QoS,
        /// RETAIN flag to send.
        retain: bool,
        /// As in [`Delivery`](crate::session::Delivery).
        matched: Option<Arc<KeptMatch>>,
        /// A checkpoint says that it may have been sent; see also [`RecoveredSession::sent_below`].
        may_have_been_sent: bool,
    },
    /// What is left is PUBREL.
    Pubrel,
}

/// What a session that ended has left to others.
#[derive(Debug)]
pub struct Owed {
    /// Whose it was.
    pub client_id: Box<str>,
    /// The name that the client had proven.
    pub user: Option<Box<str>>,
    /// To be published at once.
    pub will: Option<Will>,
    /// For other members of its groups.
    pub shared: BTreeMap<DeliveryNo, RecoveredDelivery>,
}

/// Retained messages by topic, in an order that follows from the log.
pub struct RecoveredRetained {
    messages: IndexSet<ByTopic, TopicHash>,
}

/// A message in the place of its topic.
struct ByTopic(Arc<Message>);

/// To find a message with.
#[derive(Hash)]
struct Topic<'a>(&'a [u8]);

/// Clients choose topics: a keyed hash.
#[derive(Clone, Copy)]
struct TopicHash([u64; 2]);

/// Where a record comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// A checkpoint, or the log.
    pub is_checkpoint: bool,
    /// Of the clock that its instants are on.
    pub shift: Shift,
}

/// Two sessions of one client: no log of Ringmq says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwoSessions {
    /// Which client.
    pub client_id: Box<str>,
}

impl Recovered {
    /// Nothing yet. `secret`: no client knows it.
    pub fn new(secret: [u64; 2]) -> Recovered {
        Recovered {
            sessions: HashMap::default(),
            owed: BTreeMap::new(),
            retained: RecoveredRetained {
                messages: IndexSet::with_hasher(TopicHash(secret)),
            },
            origins: HashMap::default(),
            bodies: HashMap::default(),
            authors: Authors::default(),
        }
    }

    /// A checkpoint of this shard comes next. It holds all that was taken over from earlier epochs, so that
    /// is forgotten: sessions and topics that have their home there.
    pub fn begin_checkpoint(&mut self, home: &Home, shard: ShardId) {
        for ((no, _), traced) in &mut self.origins {
            let publisher = self.sessions.get(no);
            let is_elsewhere =
                publisher.is_some_and(|publisher| home.of_client(&publisher.client_id) != shard);
            traced.is_listed &= is_elsewhere;
        }
        self.sessions
            .retain(|_, session| home.of_client(&session.client_id) != shard);
        self.owed
            .retain(|_, owed| home.of_client(&owed.client_id) != shard);
        self.retained
            .messages
            .retain(|message| home.of_topic(message.0.topic()) != shard);
    }

    /// The checkpoint was read.
    pub fn end_checkpoint(&mut self) {
        self.bodies = HashMap::default();
    }

    /// Takes in what a record says. Within a shard the order counts.
    #[inline]
    pub fn apply(&mut self, record: Record<'_>, source: Source) {
        match record {
            Record::Message(record) => self.take_message(&record, source),
            Record::MoreReceivers { body, receivers } => {
                if let Some(message) = self.bodies.get(&body) {
                    let message = || Arc::clone(message);
                    deliver(&mut self.sessions, &receivers, source, message);
                }
            }
            Record::Retained(message) => {
                let message = self.authors.message(&message, source.shift);
                self.retained.set(message);
            }
            Record::Unretained { topic } => self.retained.remove(topic),
            Record::Opened(opened) => self.open(&opened),
            Record::Ended(no) => self.end(no),
            Record::WillGone(no) => {
                self.change_owed(no, |owed| owed.will = None);
                self.change(no, |session| session.will = None);
            }
            Record::Passed(no) => self.change_owed(no, |owed| owed.shared.clear()),
            Record::Will(will) => self.set_will(&will, source.shift),
            Record::Changed(changed) => self.change(changed.no, |session| {
                session.away = None;
                session.sent_below = session.next_delivery;
                session.set_terms(&changed.terms);
            }),
            Record::Away { no, at } => self.change(no, |session| {
                let shift = source.shift;
                session.away = Some(Away { at, shift });
            }),
            Record::Subscribed(subscribed) => self.subscribe(subscribed),
            Record::Unsubscribed { no, filter } => {
                self.change(no, |session| _ = session.subscriptions.remove(&filter));
            }
            Record::Gather { no, filter } => self.note_gather(no, &filter, true),
            Record::GatherDone { no, filter } => self.note_gather(no, &filter, false),
            Record::Received { no, id } => {
                self.change(no, |session| _ = session.receipts.insert(id));
            }
            Record::Spread(Origin { no, id, ticket }) => self.change(no, |session| {
                session.receipts.insert(id);
                let spread = session.spread.entry(id).or_default();
                *spread = ticket.max(*spread);
                session.next_ticket = session.next_ticket.max(ticket + 1);
            }),
            Record::Reached { origin, receivers } => self.note_partial(origin, &receivers),
            Record::Kept(origin) => self.note_retained(origin),
            Record::Tickets { no, next } => self.change(no, |session| {
                session.complete_below = session.complete_below.max(next);
                session.next_ticket = session.next_ticket.max(next);
            }),
            Record::Released { no, id } => {
                self.change(no, |session| _ = session.receipts.remove(&id));
            }
            Record::Phase2 { no, delivery } => self.change(no, |session| {
                let pubrel = RecoveredDelivery::Pubrel;
                session.deliveries.insert(delivery, pubrel);
            }),
            Record::Settled { no, ranges } => self.change(no, |session| {
                ranges
                    .iter()
                    .for_each(|range| session.settle(range.first, range.last));
            }),
            Record::Numbers { no, next_delivery } => self.change(no, |session| {
                session.next_delivery = session.next_delivery.max(next_delivery);
            }),
            Record::Footer(_) => {}
        }
    }

    #[inline]
    fn change(&mut self, no: SessionNo, change: impl FnOnce(&mut RecoveredSession)) {
        if let Some(session) = self.sessions.get_mut(&no) {
            change(session);
        }
    }

    fn open(&mut self, opened: &Opened<'_>) {
        self.sessions.entry(opened.no).or_insert_with(|| {
            let mut session = RecoveredSession {
                client_id: opened.client_id.into(),
                user: None,
                version: opened.terms.version,
                expiry_s: opened.terms.expiry_s,
                away: None,
                subscriptions: HashMap::default(),
                deliveries: BTreeMap::new(),
                next_delivery: DeliveryNo(0),
                sent_below: DeliveryNo(0),
                receipts: BTreeSet::new(),
                partials: BTreeMap::new(),
                next_ticket: 0,
                complete_below: 0,
                spread: BTreeMap::new(),
                will: None,
            };
            session.set_terms(&opened.terms);
            session
        });
    }

    fn end(&mut self, no: SessionNo) {
        let Some(session) = self.sessions.remove(&no) else {
            return;
        };
        let RecoveredSession {
            client_id,
            user,
            will,
            deliveries,
            sent_below,
            ..
        } = session;
        let shared = deliveries
            .into_iter()
            .filter(|(no, delivery)| delivery.changes_hands(*no < sent_below))
            .collect();
        let owed = Owed {
            client_id,
            user,
            will,
            shared,
        };
        if !owed.is_empty() {
            self.owed.insert(no, owed);
        }
    }

    fn change_owed(&mut self, no: SessionNo, change: impl FnOnce(&mut Owed)) {
        if let Some(owed) = self.owed.get_mut(&no) {
            change(owed);
            if owed.is_empty() {
                self.owed.remove(&no);
            }
        }
    }

    fn set_will(&mut self, record: &WillRecord<'_>, shift: Shift) {
        if !self.sessions.contains_key(&record.no) {
            return;
        }
        let will = Will {
            message: self.authors.message(&record.message, shift),
            expiry_s: record.expiry_s,
            delay: seconds(record.delay_s),
        };
        self.change(record.no, |session| session.will = Some(will));
    }

    fn subscribe(&mut self, record: SubscribedRecord) {
        let mut subscription = RecoveredSubscription {
            options: record.options,
            subscription_id: record.subscription_id,
            is_gathering: false,
        };
        self.change(record.no, |session| {
            // What an earlier one was due, it is still due.
            let earlier = session.subscriptions.get(&record.filter);
            subscription.is_gathering = earlier.is_some_and(|earlier| earlier.is_gathering);
            session.subscriptions.insert(record.filter, subscription);
        });
    }

    fn note_gather(&mut self, no: SessionNo, filter: &TopicFilter, is_gathering: bool) {
        self.change(no, |session| {
            if let Some(subscription) = session.subscriptions.get_mut(filter) {
                subscription.is_gathering = is_gathering;
            }
        });
    }

    /// The body is copied once, and only if somebody takes it.
    #[inline]
    fn take_message(&mut self, record: &MessageRecord<'_>, source: Source) {
        let mut shared = None;
        if let Some(origin) = record.origin {
            shared = self.trace_message(origin, record, source);
        }
        let authors = &mut self.authors;
        let mut message = || authors.message(&record.message, source.shift);
        if let Some(body) = record.body {
            let message = shared.get_or_insert_with(&mut message);
            self.bodies.insert(body, Arc::clone(message));
        }
        deliver(&mut self.sessions, &record.receivers, source, || {
            Arc::clone(shared.get_or_insert_with(&mut message))
        });
    }

    /// Notes who has a message, and what it is if it is to be retained.
    fn trace_message(
        &mut self,
        origin: Origin,
        record: &MessageRecord<'_>,
        source: Source,
    ) -> Option<Arc<Message>> {
        let message = record
            .message
            .retain
            .then(|| self.authors.message(&record.message, source.shift));
        let traced = self.trace(origin, &record.receivers);
        if let Some(traced) = traced
            && message.is_some()
        {
            traced.to_retain.clone_from(&message);
        }
        message
    }

    /// The checkpoint of its publisher's shard names it.
    fn note_partial(&mut self, origin: Origin, receivers: &Receivers<'_>) {
        if let Some(traced) = self.trace(origin, receivers) {
            traced.is_listed = true;
        }
    }

    /// The owner of its topic has it.
    fn note_retained(&mut self, origin: Origin) {
        if let Some(traced) = self.trace(origin, &Receivers::listed(&[])) {
            traced.is_retained = true;
        }
    }

    /// Notes who has a message. Of each identifier only the newest one can be partial; `None`: this is an older one.
    fn trace(&mut self, origin: Origin, receivers: &Receivers<'_>) -> Option<&mut Traced> {
        let Origin { no, id, ticket } = origin;
        let traced = self.origins.entry((no, id)).or_default();
        if traced.ticket > ticket {
            return None;
        }
        if traced.ticket < ticket {
            *traced = Traced {
                ticket,
                ..Traced::default()
            };
        }
        for receiver in receivers.iter() {
            match receiver
                .terms
                .matched
                .as_ref()
                .and_then(|m| m.share.clone())
            {
                Some(group) => traced.reached.groups.push(group),
                None => _ = traced.reached.sessions.insert(receiver.no),
            }
        }
        Some(traced)
    }

    /// All shards of an epoch were read. What a session was given before the crash and the owner of the topic has not
    /// heard of is retained from here on: its subscribers are not to get an older value after it, and the
    /// repetition does not go to them.
    pub fn end_epoch(&mut self) {
        let mut missing = Vec::new();
        for (&(no, id), traced) in &mut self.origins {
            let session = self.sessions.get(&no);
            let is_partial = session.is_some_and(|session| traced.is_partial(session, id));
            if is_partial && !std::mem::replace(&mut traced.is_retained, true) {
                let message = traced.to_retain.take();
                missing.extend(message.map(|message| (no, traced.ticket, message)));
            }
        }
        // In the order in which each was published.
        missing.sort_unstable_by_key(|(no, ticket, _)| (*no, *ticket));
        for (.., message) in missing {
            if message.payload().is_empty() {
                self.retained.remove(message.topic());
            } else {
                self.retained.set(message);
            }
        }
    }

    /// Everything was read: tells sessions which of their messages not all have.
    pub fn tell_partials(&mut self) {
        for ((no, id), traced) in std::mem::take(&mut self.origins) {
            let Some(session) = self.sessions.get_mut(&no) else {
                continue;
            };
            let is_partial = traced.is_partial(session, id);
            let Traced {
                ticket, reached, ..
            } = traced;
            session.next_ticket = session.next_ticket.max(ticket + 1);
            if is_partial {
                let reached = Arc::new(reached);
                session.partials.insert(id, Partial { ticket, reached });
            }
        }
    }

    /// What has to hold when everything was read: a client has one session.
    pub fn check(&self) -> Result<(), TwoSessions> {
        let mut clients: HashSet<&str, FixedState> = HashSet::default();
        for session in self.sessions.values() {
            if !clients.insert(&session.client_id) {
                return Err(TwoSessions {
                    client_id: session.client_id.clone(),
                });
            }
        }
        Ok(())
    }
}

#[inline]
fn deliver(
    sessions: &mut HashMap<SessionNo, RecoveredSession, FixedState>,
    receivers: &Receivers<'_>,
    source: Source,
    mut message: impl FnMut() -> Arc<Message>,
) {
    for receiver in receivers.iter() {
        if let Some(session) = sessions.get_mut(&receiver.no)
            && session.takes(receiver.delivery, source)
        {
            session.take(message(), receiver.delivery, receiver.terms, source);
        }
    }
}

/// The last author: one that retains a message often retains the next one too.
#[derive(Debug, Default)]
pub(super) struct Authors {
    last: Option<Arc<Author>>,
}

impl Authors {
    fn message(&mut self, stored: &StoredMessage<'_>, shift: Shift) -> Arc<Message> {
        let author = stored.author.map(|author| self.share(&author));
        Arc::new(Message::new(
            MessageParts {
                topic: stored.topic,
                properties: stored.properties,
                payload: stored.payload,
                qos: stored.qos,
                retain: stored.retain,
                expires_at: stored.expires_at.map(|at| shift.apply(at)),
                publisher: stored.publisher,
                author: author.as_ref(),
            },
            Stamp::UNKNOWN,
        ))
    }

    fn share(&mut self, author: &AuthorRecord<'_>) -> Arc<Author> {
        let last = self.last.as_ref().filter(|last| {
            last.user.as_deref() == author.user
                && *last.client_id == *author.client_id
                && last.rules.is_some() == author.had_rules
        });
        let shared = last.cloned().unwrap_or_else(|| {
            Arc::new(Author {
                user: author.user.map(Box::from),
                client_id: author.client_id.into(),
                // None that allow anything, and so no default either.
                rules: author.had_rules.then(|| Arc::from([])),
            })
        });
        self.last = Some(Arc::clone(&shared));
        shared
    }
}

impl Traced {
    /// Not all have it, as far as is known.
    fn is_partial(&self, publisher: &RecoveredSession, id: PacketId) -> bool {
        let spread = publisher.spread.get(&id);
        let is_complete = spread.is_some_and(|spread| *spread >= self.ticket)
            || (self.ticket < publisher.complete_below && !self.is_listed);
        !is_complete
    }
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.will.is_none() && self.shared.is_empty()
    }
}

impl RecoveredDelivery {
    /// Whether another member of a group is to get it when the session ends [MQTT-4.8.2-5].
    fn changes_hands(&self, is_sent: bool) -> bool {
        match self {
            RecoveredDelivery::Message {
                qos,
                matched,
                may_have_been_sent,
                ..
            } => {
                let is_shared = matched.as_ref().is_some_and(|kept| kept.share.is_some());
                let is_sent = is_sent || *may_have_been_sent;
                is_shared && (*qos == QoS::AtLeastOnce || !is_sent)
            }
            RecoveredDelivery::Pubrel => false,
        }
    }
}

impl RecoveredSession {
    fn set_terms(&mut self, terms: &SessionTerms<'_>) {
        self.user = terms.user.map(Box::from);
        self.version = terms.version;
        self.expiry_s = terms.expiry_s;
    }

    /// The log repeats what a checkpoint has covered; a checkpoint repeats nothing.
    #[inline]
    fn takes(&self, delivery: DeliveryNo, source: Source) -> bool {
        source.is_checkpoint || delivery >= self.next_delivery
    }

    #[inline]
    fn take(
        &mut self,
        message: Arc<Message>,
        no: DeliveryNo,
        terms: ReceiverTerms,
        source: Source,
    ) {
        let delivery = RecoveredDelivery::Message {
            message,
            qos: terms.qos,
            retain: terms.retain,
            matched: terms.matched,
            may_have_been_sent: terms.may_have_been_sent,
        };
        self.deliveries.insert(no, delivery);
        // In a checkpoint `Numbers` says how far it goes.
        if !source.is_checkpoint {
            self.next_delivery = DeliveryNo(no.0.saturating_add(1));
            if self.away.is_none() {
                self.sent_below = self.next_delivery;
            }
        }
    }

    #[inline]
    fn settle(&mut self, first: DeliveryNo, last: DeliveryNo) {
        if first == last {
            self.deliveries.remove(&first);
            return;
        }
        while let Some((&no, _)) = self.deliveries.range(first..=last).next() {
            self.deliveries.remove(&no);
        }
    }

    /// When the session of a client that is away ends; `None`: never, or the client was connected.
    pub fn expires_at(&self) -> Option<Instant> {
        match self.expiry_s {
            u32::MAX => None,
            expiry_s => self.away.map(|away| away.after(seconds(expiry_s))),
        }
    }

    /// When the will of a client that is away is due; `None`: there is none, or the client was connected.
    pub fn will_at(&self) -> Option<Instant> {
        let (away, will) = (self.away?, self.will.as_ref()?);
        Some(away.after(will.delay))
    }
}

impl Away {
    /// Later than the client went away, on the present clock. The clock may have begun since then.
    fn after(self, span: Duration) -> Instant {
        self.shift.apply(self.at + span)
    }
}

impl RecoveredRetained {
    /// The messages, in any order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.messages.iter().map(|message| &message.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message of a topic.
    pub fn find(&self, topic: &[u8]) -> Option<&Arc<Message>> {
        self.messages.get(&Topic(topic)).map(|message| &message.0)
    }

    fn set(&mut self, message: Arc<Message>) {
        self.messages.replace(ByTopic(message));
    }

    fn remove(&mut self, topic: &[u8]) {
        self.messages.swap_remove(&Topic(topic));
    }

    pub(super) fn into_messages(self) -> impl Iterator<Item = Arc<Message>> {
        self.messages.into_iter().map(|message| message.0)
    }
}

impl Hash for ByTopic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Topic(self.0.topic()).hash(state);
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &ByTopic) -> bool {
        self.0.topic() == other.0.topic()
    }
}

impl Eq for ByTopic {}

impl Equivalent<ByTopic> for Topic<'_> {
    fn equivalent(&self, other: &ByTopic) -> bool {
        self.0 == other.0.topic()
    }
}

impl BuildHasher for TopicHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}

impl fmt::Debug for RecoveredRetained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

impl fmt::Display for TwoSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the client {:?} has two sessions in the log",
            self.client_id
        )
    }
}

impl std::error::Error for TwoSessions {}
