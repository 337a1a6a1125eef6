//! One client as the oracle sees it.

use std::collections::BTreeMap;

use ringmq_core::codec::QoS;

use crate::message::{MessageIndex, Tick};
use crate::subscription::Subscription;

/// One client as the oracle sees it.
#[derive(Debug, Default)]
pub struct View {
    pub v5: bool,
    /// Connections so far, and when the open one was confirmed.
    pub link: u32,
    pub link_open: Option<Tick>,
    /// First connection of the session.
    pub session_link: u32,
    pub subscriptions: Vec<Subscription>,
    pub copies: BTreeMap<MessageIndex, Copies>,
    /// Latest sequence number by publisher, topic, QoS of the message and QoS of the delivery.
    pub latest: BTreeMap<(usize, String, QoS, QoS), u32>,
    /// By retained topic.
    pub values: BTreeMap<String, Seen>,
    /// When the last deletion of a retained topic came.
    pub deletions: BTreeMap<String, Tick>,
}

/// What a client saw of a retained topic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The latest value.
    pub version: u32,
    /// When it came.
    pub at: Tick,
    /// The value that came last, whatever a crash has made of it.
    pub last: u32,
    /// No value before this may come any more. The latest may be lost in a crash, as long as its publisher has no
    /// answer.
    pub surely: u32,
}

/// How often a client got a message.
#[derive(Debug, Default)]
pub struct Copies {
    pub all: u32,
    pub fresh: u32,
    pub exactly_once: u32,
    pub link: u32,
}

impl View {
    pub fn new(v5: bool) -> View {
        View {
            v5,
            ..View::default()
        }
    }

    /// The session that begins has no past.
    pub fn begin_session(&mut self) {
        self.session_link = self.link;
        self.subscriptions.clear();
        self.copies.clear();
        self.latest.clear();
        self.values.clear();
        self.deletions.clear();
    }

    pub fn subscribe_begun(&mut self, mut subscription: Subscription, tick: Tick) {
        subscription.begun = tick;
        subscription.link = self.link;
        for old in &mut self.subscriptions {
            if old.filter != subscription.filter || old.ended.is_some() {
                continue;
            }
            subscription.renews = true;
            old.renewed = true;
            if old.options.no_local != subscription.options.no_local {
                old.unsure_from.get_or_insert(tick);
            }
        }
        self.subscriptions.push(subscription);
    }

    pub fn subscribed(&mut self, request: u64, filter: &str, tick: Tick) {
        let asked = |s: &&Subscription| s.filter == filter && s.request == request;
        let no_local = self
            .subscriptions
            .iter()
            .find(asked)
            .is_some_and(|s| s.options.no_local);
        let mut sure_from = tick;
        for old in &mut self.subscriptions {
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
        for subscription in &mut self.subscriptions {
            if subscription.filter == filter && subscription.request == request {
                subscription.sure_from = Some(sure_from);
            }
        }
    }

    pub fn unsubscribe_begun(&mut self, filter: &str, tick: Tick) {
        for subscription in &mut self.subscriptions {
            if subscription.filter == filter && subscription.unsure_from.is_none() {
                subscription.unsure_from = Some(tick);
            }
        }
    }

    pub fn unsubscribed(&mut self, filter: &str, begun: Tick, tick: Tick) -> Option<bool> {
        let mut existed = Some(false);
        for subscription in &mut self.subscriptions {
            if subscription.filter == filter && subscription.ended.is_none() {
                let sure = subscription.sure_from.is_some_and(|from| from < begun)
                    && subscription.unsure_from == Some(begun);
                if sure {
                    existed = Some(true);
                } else if existed == Some(false) {
                    existed = None;
                }
                if subscription.begun < begun {
                    subscription.ended = Some(tick);
                }
            }
        }
        existed
    }
}
