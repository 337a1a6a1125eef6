//! What a broker promises, and whether it keeps it.
//!
//! The oracle is told what clients did and what they got; it knows nothing of the broker's insides.
//! Time is counted in ticks: of two events the one with the lower tick came first for everyone.
//!
//! Invariants:
//! - a message is *settled* from the tick at which its publisher has proof that the broker took it;
//! - a subscription is *sure* from its SUBACK until something may have ended it.
//!
//! Here is what the oracle remembers; the promises have a file each: `identity` (payloads),
//! `content`, `expiry`, `reason` (subscriptions and QoS), `copies` (duplicates), `order`, `groups`
//! (shared subscriptions), `arrival` (losses).
//!
//! Not here: packets out of place (`client`), closed connections (`world.rs`).

mod arrival;
mod content;
mod copies;
mod crash;
mod expiry;
mod groups;
mod identity;
mod order;
mod reason;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq_core::time::Instant;

use self::groups::Groups;
use self::view::View;
use crate::broken::Broken;
use crate::message::{Draft, Fate, Message, MessageIndex, Tick, payload};
use crate::mix::Mix;
use crate::subscription::{self, Subscription};
use crate::wire::{Delivery, Payload};

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
    /// When the broker crashed last.
    crashed_at: Option<Tick>,
    /// Time that starts have not counted.
    pub lateness: Duration,
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
            views: v5.iter().map(|&v5| View::new(v5)).collect(),
            sequences: vec![0; v5.len()],
            versions: BTreeMap::new(),
            groups: Groups::new(v5.len()),
            quiet_at: 0,
            crashed_at: None,
            lateness: Duration::ZERO,
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
    pub fn will_released(&mut self, index: MessageIndex, not_before: Instant) {
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

    /// A client writes CONNECT; `is_kept`: for a session that outlives the connection.
    pub fn link_asked(&mut self, client: usize, is_kept: bool) {
        self.groups.link_asked(client, is_kept, self.tick);
        let view = &mut self.views[client];
        view.link += 1;
        view.link_open = None;
        // The new connection may end the session, and that releases its will at once.
        for message in self.messages.iter_mut().filter(|m| m.publisher == client) {
            message.not_before = None;
        }
    }

    /// A client got CONNACK.
    pub fn link_opened(&mut self, client: usize) {
        self.groups.link_opened(client);
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
        self.views[client].begin_session();
    }

    /// A client writes SUBSCRIBE.
    pub fn subscribe_begun(&mut self, client: usize, subscription: Subscription) {
        self.views[client].subscribe_begun(subscription, self.tick);
    }

    /// A client got SUBACK for this filter of this request.
    pub fn subscribed(&mut self, client: usize, request: u64, filter: &str) {
        self.views[client].subscribed(request, filter, self.tick);
    }

    /// A client writes UNSUBSCRIBE.
    pub fn unsubscribe_begun(&mut self, client: usize, filter: &str) {
        self.views[client].unsubscribe_begun(filter, self.tick);
    }

    /// A client got UNSUBACK for a request written at `begun`. True when a subscription surely
    /// existed, false when surely none did.
    pub fn unsubscribed(&mut self, client: usize, filter: &str, begun: Tick) -> Option<bool> {
        self.views[client].unsubscribed(filter, begun, self.tick)
    }

    /// A client's application gets a message.
    pub fn delivered(&mut self, client: usize, got: &Delivery) -> Result<MessageIndex, Broken> {
        self.delivered_count += 1;
        let index = self.identify(client, got)?;
        self.check_content(client, index, got)?;
        self.check_subscribed(client, index, got)?;
        self.check_copies(client, index, got)?;
        let message = &self.messages[index];
        if subscription::is_for_groups(&message.topic) {
            let spans_crash = self.spans_crash(message);
            // Nothing promises an order between the members of a group [MQTT-4.6.0-6].
            self.groups
                .delivered(client, index, message, got, spans_crash)?;
        } else {
            self.check_order(client, index, got)?;
        }
        Ok(index)
    }

    /// `promise` was not kept when this client got this message.
    fn broken(
        &self,
        promise: &'static str,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Broken {
        let message = &self.messages[index];
        let detail = format!("client {client} got message {index} {message:?} as {got:?}");
        Broken::new(promise, detail)
    }
}
