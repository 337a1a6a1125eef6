//! What a broker promises, and whether it keeps it.
//!
//! The oracle is told what clients did and what they got; it knows nothing of the broker's insides.
//! Time is counted in ticks: of two happenings the one with the lower tick came first for everyone.
//!
//! Invariants:
//! - a message is *settled* from the tick at which its publisher has proof that the broker took it;
//! - a subscription is *sure* from its SUBACK until something may have ended it.
//!
//! Not here: packets out of place (`client.rs`), closed connections (`world.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq_core::codec::QoS;
use ringmq_core::time::Instant;

use crate::expiry;
use crate::groups::{self, Groups};
use crate::mix::Mix;
use crate::subscription::Subscription;
use crate::wire::{Delivery, Payload};

/// Position in the order of all happenings of a run.
pub type Tick = u64;

/// Names a message of a run; travels in its payload.
pub type MessageIndex = usize;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What happened instead.
    pub detail: String,
}

impl Broken {
    /// `promise` was not kept, as `detail` shows.
    pub fn new(promise: &'static str, detail: String) -> Broken {
        Broken { promise, detail }
    }
}

/// A message that a client began to publish, or a will that it left.
#[derive(Clone, Debug)]
pub struct Message {
    pub publisher: usize,
    /// Counts the messages of its publisher.
    pub seq: u32,
    pub topic: String,
    pub qos: QoS,
    pub payload: Payload,
    /// Travels as a user property between MQTT 5 clients.
    pub label: Option<String>,
    pub expiry_s: Option<u32>,
    /// The broker gets it between the two, and counts its expiry from then on.
    pub begun_at: Instant,
    pub settled_at: Option<Instant>,
    /// A delayed will comes no earlier, unless the session ends.
    pub not_before: Option<Instant>,
    pub is_will: bool,
    /// Place among the values of a retained topic; such topics have one writer.
    pub version: Option<u32>,
    pub begun: Tick,
    /// Times that its publisher sent it.
    pub sends: u32,
    pub fate: Fate,
}

impl Message {
    /// Whether the broker may have dropped it by now.
    fn may_have_expired(&self, now: Instant) -> bool {
        self.expiry_s
            .is_some_and(|s| self.begun_at + Duration::from_secs(s.into()) <= now)
    }
}

/// Whether the broker took a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A will of a client that is there.
    Armed,
    /// Nobody can know (yet).
    Open,
    /// It did, at the latest at that tick.
    Settled(Tick),
    /// It must not have: the will of a client that said goodbye.
    Never,
}

/// What a client is about to publish.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    pub publisher: usize,
    pub topic: &'a str,
    pub qos: QoS,
    /// Bytes of payload beyond the header that names the message; `None` deletes a retained value.
    pub padding: Option<usize>,
    pub retained: bool,
    /// With a user property that names the message.
    pub is_labelled: bool,
    pub expiry_s: Option<u32>,
}

/// One client as the oracle sees it.
#[derive(Debug, Default)]
struct View {
    v5: bool,
    /// Connections so far, and when the open one was confirmed.
    link: u32,
    link_open: Option<Tick>,
    /// First connection of the session.
    session_link: u32,
    subscriptions: Vec<Subscription>,
    copies: BTreeMap<MessageIndex, Copies>,
    /// Latest sequence number by publisher, topic, QoS of the message and QoS of the delivery.
    latest: BTreeMap<(usize, String, QoS, QoS), u32>,
    /// Latest value of a retained topic, and when it came.
    values: BTreeMap<String, (u32, Tick)>,
    /// When the last deletion of a retained topic came.
    deletions: BTreeMap<String, Tick>,
}

#[derive(Debug, Default)]
struct Copies {
    all: u32,
    fresh: u32,
    exactly_once: u32,
    link: u32,
}

/// The judge of one run.
#[derive(Debug)]
pub struct Oracle {
    pub tick: Tick,
    pub now: Instant,
    messages: Vec<Message>,
    views: Vec<View>,
    sequences: Vec<u32>,
    versions: BTreeMap<String, Vec<MessageIndex>>,
    pub groups: Groups,
    /// When everything under way was last known to have arrived.
    quiet_at: Tick,
    delivered_count: u64,
    /// Messages may be missing, as long as the broker counts them.
    lossy: bool,
    /// Clients have several connections at once, whose wills come in any order.
    stormy: bool,
}

impl Oracle {
    pub fn new(mix: &Mix, v5: &[bool]) -> Oracle {
        Oracle {
            tick: 0,
            now: Instant::ZERO,
            messages: Vec::new(),
            views: v5
                .iter()
                .map(|&v5| View {
                    v5,
                    ..View::default()
                })
                .collect(),
            sequences: vec![0; v5.len()],
            versions: BTreeMap::new(),
            groups: Groups::new(v5.len()),
            quiet_at: 0,
            delivered_count: 0,
            lossy: mix.bounds.tight.is_some(),
            stormy: mix.weights.storm > 0,
        }
    }

    pub fn message(&self, index: MessageIndex) -> &Message {
        &self.messages[index]
    }

    /// Messages that clients got so far.
    pub fn delivered_count(&self) -> u64 {
        self.delivered_count
    }

    /// A client writes PUBLISH for the first time (or CONNECT with a will: then `fate` is `Armed`).
    pub fn draft(&mut self, draft: Draft<'_>, fate: Fate) -> MessageIndex {
        let index = self.messages.len();
        let seq = self.sequences[draft.publisher];
        self.sequences[draft.publisher] += 1;
        let version = draft.retained.then(|| {
            let versions = self.versions.entry(draft.topic.to_owned()).or_default();
            versions.push(index);
            versions.len() as u32
        });
        self.messages.push(Message {
            publisher: draft.publisher,
            seq,
            topic: draft.topic.to_owned(),
            qos: draft.qos,
            payload: Payload(
                draft
                    .padding
                    .map_or(Vec::new(), |size| payload(index, size)),
            ),
            label: draft.is_labelled.then(|| format!("m{index}")),
            expiry_s: draft.expiry_s,
            begun_at: self.now,
            settled_at: None,
            not_before: None,
            is_will: fate == Fate::Armed,
            version,
            begun: self.tick,
            sends: 1,
            fate,
        });
        index
    }

    pub fn resent(&mut self, index: MessageIndex) {
        self.messages[index].sends += 1;
    }

    /// The publisher has proof that the broker took the message.
    pub fn settled(&mut self, index: MessageIndex) {
        let message = &mut self.messages[index];
        message.fate = Fate::Settled(self.tick);
        message.settled_at = Some(self.now);
    }

    /// The connection that armed the will ended: from here on the broker may publish it.
    pub fn will_loosed(&mut self, index: MessageIndex, not_before: Instant) {
        let will = &mut self.messages[index];
        assert_eq!(will.fate, Fate::Armed, "a link ends once");
        will.fate = Fate::Open;
        will.begun = self.tick;
        will.begun_at = self.now;
        will.not_before = Some(not_before);
    }

    /// What has to become of a will, once that is known.
    pub fn will_decided(&mut self, index: MessageIndex, fate: Fate) {
        let will = &mut self.messages[index];
        will.fate = fate;
        if let Fate::Settled(_) = fate {
            will.settled_at = Some(self.now);
        }
    }

    pub fn will_was_delivered(&self, index: MessageIndex) -> bool {
        self.views
            .iter()
            .any(|view| view.copies.contains_key(&index))
    }

    /// A client writes CONNECT.
    pub fn link_asked(&mut self, client: usize) {
        self.groups.link_asked(client);
        let view = &mut self.views[client];
        view.link += 1;
        view.link_open = None;
        // The new connection may end the session, and that looses its will at once.
        for message in self.messages.iter_mut().filter(|m| m.publisher == client) {
            message.not_before = None;
        }
    }

    /// A client got CONNACK.
    pub fn link_opened(&mut self, client: usize) {
        let view = &mut self.views[client];
        view.link_open = Some(self.tick);
        if view.session_link == view.link {
            // The session before it may have lived until CONNECT was handled.
            self.groups.session_begun(client, self.tick);
        }
    }

    /// The client has a session without past.
    pub fn session_begun(&mut self, client: usize) {
        self.groups.session_begun(client, self.tick);
        let view = &mut self.views[client];
        view.session_link = view.link;
        view.subscriptions.clear();
        view.copies.clear();
        view.latest.clear();
        view.values.clear();
        view.deletions.clear();
    }

    /// A client writes SUBSCRIBE.
    pub fn subscribe_begun(&mut self, client: usize, mut subscription: Subscription) {
        let view = &mut self.views[client];
        subscription.begun = self.tick;
        subscription.link = view.link;
        for old in &mut view.subscriptions {
            if old.filter != subscription.filter || old.ended.is_some() {
                continue;
            }
            subscription.renews = true;
            old.renewed = true;
            if old.options.no_local != subscription.options.no_local {
                old.unsure_from.get_or_insert(self.tick);
            }
        }
        view.subscriptions.push(subscription);
    }

    /// A client got SUBACK for this filter of this request.
    pub fn subscribed(&mut self, client: usize, request: u64, filter: &str) {
        let tick = self.tick;
        let subscriptions = &mut self.views[client].subscriptions;
        let asked = |s: &&Subscription| s.filter == filter && s.request == request;
        let no_local = subscriptions
            .iter()
            .find(asked)
            .is_some_and(|s| s.options.no_local);
        let mut sure_from = tick;
        for old in subscriptions.iter_mut() {
            if old.filter == filter && old.request < request && old.ended.is_none() {
                // A renewed subscription has no gap [MQTT-3.8.4-3].
                if let (Some(old_from), None) = (old.sure_from, old.unsure_from)
                    && old.options.no_local == no_local
                {
                    sure_from = sure_from.min(old_from);
                }
                old.ended = Some(tick);
                old.unsure_from = old.unsure_from.or(Some(tick));
            }
        }
        for subscription in subscriptions {
            if subscription.filter == filter && subscription.request == request {
                subscription.sure_from = Some(sure_from);
            }
        }
    }

    /// A client writes UNSUBSCRIBE.
    pub fn unsubscribe_begun(&mut self, client: usize, filter: &str) {
        for subscription in &mut self.views[client].subscriptions {
            if subscription.filter == filter && subscription.unsure_from.is_none() {
                subscription.unsure_from = Some(self.tick);
            }
        }
    }

    /// A client got UNSUBACK for a request written at `begun`. True when a subscription surely
    /// existed, false when surely none did.
    pub fn unsubscribed(&mut self, client: usize, filter: &str, begun: Tick) -> Option<bool> {
        let mut existed = Some(false);
        for subscription in &mut self.views[client].subscriptions {
            if subscription.filter == filter && subscription.ended.is_none() {
                let sure = subscription.sure_from.is_some_and(|from| from < begun)
                    && subscription.unsure_from == Some(begun);
                if sure {
                    existed = Some(true);
                } else if existed == Some(false) {
                    existed = None;
                }
                if subscription.begun < begun {
                    subscription.ended = Some(self.tick);
                }
            }
        }
        existed
    }

    /// A client's application gets a message.
    pub fn delivered(&mut self, client: usize, got: &Delivery) -> Result<MessageIndex, Broken> {
        self.delivered_count += 1;
        let index = self.identify(client, got)?;
        self.check_content(client, index, got)?;
        self.check_subscribed(client, index, got)?;
        self.check_copies(client, index, got)?;
        let message = &self.messages[index];
        match message.topic.starts_with(groups::TOPIC_PREFIX) {
            true => self.groups.delivered(client, index, message, got)?,
            // Nothing promises an order between the members of a group [MQTT-4.6.0-6].
            false => self.check_order(client, index, got)?,
        }
        Ok(index)
    }

    /// Which message that is; found by the payload, or by the topic for the deletion of a value.
    pub fn identify(&self, client: usize, got: &Delivery) -> Result<MessageIndex, Broken> {
        let unknown = || {
            let size = got.payload.len();
            Broken::new(
                "payloads arrive unaltered",
                format!("client {client} got {size} unknown bytes on {}", got.topic),
            )
        };
        if got.payload.is_empty() {
            let seen = self.views[client].values.get(&got.topic).map_or(0, |v| v.0);
            let deletions = self.versions.get(&got.topic).ok_or_else(unknown)?;
            let mut deletions = deletions
                .iter()
                .filter(|&&index| self.messages[index].payload.is_empty());
            let same_label =
                |&&index: &&usize| got.label.is_some() && self.messages[index].label == got.label;
            let at = |index: usize| self.messages[index].version.unwrap_or(0);
            // Without label it is a deletion that was seen already, or else the next one. Of several that were
            // seen any may be sent again: the latest that this client may get like this.
            let fits = |&&index: &&usize| self.check_subscribed(client, index, got).is_ok();
            let mut before = deletions.clone().filter(|&&index| at(index) <= seen);
            let again = before.clone().rfind(fits).or(before.next_back());
            return deletions
                .clone()
                .find(same_label)
                .or(again.filter(|_| got.dup))
                .or(deletions.clone().find(|&&index| at(index) >= seen))
                .or(deletions.next_back())
                .copied()
                .ok_or_else(unknown);
        }
        let header = got.payload.first_chunk::<4>().ok_or_else(unknown)?;
        let index = u32::from_le_bytes(*header) as usize;
        match self.messages.get(index) {
            Some(message) if message.payload == got.payload => Ok(index),
            Some(_) | None => Err(unknown()),
        }
    }

    fn check_content(
        &self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let (message, view) = (&self.messages[index], &self.views[client]);
        let broken = |promise| {
            Broken::new(
                promise,
                format!("client {client} got message {index} {message:?} as {got:?}"),
            )
        };
        if message.topic != got.topic {
            return Err(broken("a message keeps its topic"));
        }
        let named = message.label.is_some() && !message.payload.is_empty();
        if view.v5 && named && message.label != got.label {
            return Err(broken("user properties travel with the message"));
        }
        if got.retain && message.version.is_none() {
            return Err(broken("only retained messages carry RETAIN"));
        }
        if let Some(promise) = expiry::broken_promise(message, got, view.v5) {
            return Err(broken(promise));
        }
        if message.not_before.is_some_and(|at| got.encoded.by < at) {
            return Err(broken("a will waits for its delay"));
        }
        match message.fate {
            Fate::Armed => Err(broken("no will while its client is there")),
            Fate::Never => Err(broken("no will after DISCONNECT")),
            Fate::Open | Fate::Settled(_) => Ok(()),
        }
    }

    fn check_subscribed(
        &self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let message = &self.messages[index];
        let old = matches!(message.fate, Fate::Settled(at) if at < self.quiet_at);
        let mut matching = false;
        let mut qos_allowed = false;
        let mut qos_sure = QoS::AtMostOnce;
        let mut ids = Vec::new();
        for subscription in &self.views[client].subscriptions {
            let in_time = !old || message.version.is_some() || subscription.begun < self.quiet_at;
            if !in_time || !subscription.may_match(client, message) {
                continue;
            }
            matching = true;
            let qos = subscription.options.qos.min(message.qos);
            qos_allowed |= qos == got.qos;
            let changed = subscription.renews || subscription.renewed;
            let undisturbed = !changed && subscription.unsure_from.is_none();
            if undisturbed && subscription.surely_matches(client, message) {
                qos_sure = qos_sure.max(qos);
            }
            ids.push(subscription.id);
        }
        let broken = |promise| {
            Broken::new(
                promise,
                format!("client {client} got message {index} {message:?} as {got:?}"),
            )
        };
        if !matching {
            return Err(broken("no message without a matching subscription"));
        }
        // A retained snapshot belongs to one subscription, a live message to all that match.
        let live = message.version.is_none() && !got.dup;
        if !qos_allowed || live && got.qos < qos_sure {
            return Err(broken("the QoS is the lower of message and subscription"));
        }
        if got.subscription_ids.iter().any(|id| !ids.contains(id)) {
            return Err(broken("subscription identifiers are those of the matches"));
        }
        Ok(())
    }

    fn check_copies(
        &mut self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let (message, view) = (&self.messages[index], &mut self.views[client]);
        let copies = view.copies.entry(index).or_default();
        let known = copies.all > 0;
        copies.all += 1;
        copies.fresh += u32::from(!got.dup);
        copies.exactly_once += u32::from(got.qos == QoS::ExactlyOnce);
        let fresh_max = match message.qos {
            QoS::AtMostOnce | QoS::ExactlyOnce => 1,
            QoS::AtLeastOnce => message.sends,
        };
        let again = got.dup
            && message.sends == 1
            && if known {
                copies.link == view.link
            } else {
                view.session_link == view.link
            };
        copies.link = view.link;
        // A retained value comes once more with every subscription that asks for it.
        let once = message.version.is_none();
        let promise = if once && message.qos == QoS::ExactlyOnce && copies.exactly_once > 1 {
            "QoS 2 arrives exactly once"
        } else if once && copies.fresh > fresh_max {
            "no duplicates without DUP"
        } else if once && again {
            "nothing is sent again on one connection"
        } else {
            return Ok(());
        };
        Err(Broken::new(
            promise,
            format!("client {client} got message {index} {message:?} as {got:?} ({copies:?})"),
        ))
    }

    fn check_order(
        &mut self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let (message, view) = (&self.messages[index], &mut self.views[client]);
        if let Some(version) = message.version {
            if got.payload.is_empty() {
                view.deletions.insert(got.topic.clone(), self.tick);
            }
            let latest = view.values.entry(got.topic.clone()).or_insert((0, 0));
            if version >= latest.0 {
                *latest = (version, self.tick);
                return Ok(());
            }
            if got.dup {
                return Ok(());
            }
            return Err(Broken::new(
                "no old value after a later one",
                format!(
                    "client {client} got value {version} of {} after {latest:?}",
                    got.topic
                ),
            ));
        }
        let key = (message.publisher, got.topic.clone(), message.qos, got.qos);
        let first = view.copies[&index].all == 1;
        // The first copy may have come too early for this subscriber, or expired: then it sees only
        // the repetition. Or it waits with a higher QoS, of a subscription that has gone since.
        let sure = |s: &Subscription| {
            let undisturbed = !s.renews && !s.renewed && s.unsure_from.is_none();
            let early = s.sure_from.is_some_and(|from| from <= message.begun);
            undisturbed && early && s.options.qos >= got.qos
        };
        let subscribed = view
            .subscriptions
            .iter()
            .any(|s| sure(s) && s.matches(client, message));
        let connected = view.link_open.is_some_and(|open| open <= message.begun);
        let offline = got.qos == QoS::AtMostOnce && !connected;
        let is_higher = |s: &Subscription| s.options.qos > got.qos && s.matches(client, message);
        let waits = got.qos < message.qos && view.subscriptions.iter().any(is_higher);
        let missed = !subscribed || offline || waits || message.expiry_s.is_some() || self.lossy;
        let repeated = message.qos == QoS::AtLeastOnce && message.sends > 1 && missed;
        let any_order = repeated || self.stormy && message.is_will;
        let latest = view.latest.entry(key).or_insert(message.seq);
        if message.seq < *latest && first && !any_order {
            return Err(Broken::new(
                "messages of one publisher, topic and QoS keep their order",
                format!(
                    "client {client} got message {index} {message:?} as {got:?} after seq {latest}"
                ),
            ));
        }
        *latest = message.seq.max(*latest);
        Ok(())
    }

    /// Everything is at rest and every client is connected: what is owed must be there, but for
    /// `dropped_count` messages that the broker says it dropped, if it may drop any.
    pub fn check_converged(&mut self, dropped_count: u64) -> Result<(), Broken> {
        let mut missing = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            if message.topic.starts_with(groups::TOPIC_PREFIX) {
                let views = self.views.iter().enumerate();
                let members = views
                    .flat_map(|(client, view)| view.subscriptions.iter().map(move |s| (client, s)));
                missing.extend(self.groups.check_arrived(index, message, members).err());
            } else {
                let clients = 0..self.views.len();
                missing
                    .extend(clients.filter_map(|client| self.check_arrived(client, index).err()));
            }
        }
        for client in 0..self.views.len() {
            // A value that was dropped is missing already.
            for versions in self.versions.values().filter(|_| !self.lossy) {
                missing.extend(self.check_last_value(client, versions).err());
            }
        }
        self.quiet_at = self.tick;
        if let Some(first) = missing.first().filter(|_| !self.lossy) {
            return Err(first.clone());
        }
        if missing.len() as u64 > dropped_count {
            let detail = format!("{} are missing, {dropped_count} counted", missing.len());
            return Err(Broken::new("every loss is counted", detail));
        }
        Ok(())
    }

    /// Whether a client has a message that it is owed.
    pub fn check_arrived(&self, client: usize, index: MessageIndex) -> Result<(), Broken> {
        let (message, view) = (&self.messages[index], &self.views[client]);
        let Fate::Settled(_) = message.fate else {
            return Ok(());
        };
        let sure = |s: &&Subscription| s.surely_matches(client, message) && s.unsure_from.is_none();
        if !view.subscriptions.iter().any(|s| sure(&s)) {
            return Ok(());
        }
        // An overlapping subscription that came and went may have lowered the QoS of the delivery.
        let qos = view
            .subscriptions
            .iter()
            .filter(|s| s.matches(client, message))
            .map(|s| s.options.qos)
            .fold(message.qos, QoS::min);
        let connected = view.link_open.is_some_and(|open| open <= message.begun);
        if qos == QoS::AtMostOnce && !connected {
            return Ok(());
        }
        if message.may_have_expired(self.now) {
            return Ok(());
        }
        let arrived = if message.payload.is_empty() {
            // One deletion may have been taken for another: nothing in it tells.
            view.deletions
                .get(&message.topic)
                .is_some_and(|&at| at >= message.begun)
        } else {
            view.copies.contains_key(&index)
        };
        if arrived {
            return Ok(());
        }
        Err(Broken::new(
            "no message is lost",
            format!("client {client} never got message {index} {message:?}"),
        ))
    }

    fn check_last_value(&self, client: usize, versions: &[MessageIndex]) -> Result<(), Broken> {
        let view = &self.views[client];
        let settled = |&&index: &&usize| matches!(self.messages[index].fate, Fate::Settled(_));
        let Some(&last) = versions.iter().rev().find(settled) else {
            return Ok(());
        };
        // Whether the broker took a later deletion, or a later value that has expired, may be open:
        // then there may be nothing to see.
        let message = &self.messages[last];
        let is_gone = |index: MessageIndex| {
            let later = &self.messages[index];
            later.payload.is_empty() || later.may_have_expired(self.now)
        };
        if versions
            .iter()
            .any(|&index| index >= last && is_gone(index))
        {
            return Ok(());
        }
        for subscription in &view.subscriptions {
            if !subscription.asks_retained()
                || subscription.link != view.link
                || subscription.sure_from.is_none()
                || subscription.unsure_from.is_some()
                || !subscription.matches(client, message)
            {
                continue;
            }
            let value = view.values.get(&message.topic);
            if !value.is_some_and(|&(version, at)| {
                Some(version) >= message.version && at >= subscription.begun
            }) {
                return Err(Broken::new(
                    "a subscriber sees the last value",
                    format!(
                        "client {client} has {value:?} of message {last} {message:?} by \
                         {subscription:?}"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The payload of a message: its index, then bytes that depend on it.
fn payload(index: MessageIndex, padding: usize) -> Vec<u8> {
    let index = u32::try_from(index).expect("a run has few messages");
    let mut bytes = Vec::with_capacity(4 + padding + 4);
    bytes.extend(index.to_le_bytes());
    let mut state = index.wrapping_mul(0x9E37_79B9) | 1;
    while bytes.len() < 4 + padding {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(4 + padding);
    bytes
}
