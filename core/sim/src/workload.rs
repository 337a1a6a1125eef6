//! What clients do of their own accord, and how the network treats them.

use ringmq_core::codec::{QoS, Version};

use crate::client::{AliasWish, Past, State, Traits};
use crate::link::{ArmedWill, Goodbye};
use crate::message::{Draft, Fate};
use crate::mix::Mix;
use crate::rng::Rng;
use crate::subscription::{SHARE_PREFIX, TOPIC_PREFIX, topic_matches};
use crate::trace::What;
use crate::wire::{SubscribeOptions, Will};
use crate::world::World;

#[derive(Clone, Copy, Debug)]
enum Action {
    Publish,
    Subscribe,
    Unsubscribe,
    Ping,
    Connect,
    Disconnect,
    Takeover,
    Storm,
}

impl Mix {
    /// A client of this mix.
    pub fn draw_traits(&self, rng: &mut Rng) -> Traits {
        let v5 = rng.percent(self.v5_percent);
        let durable = rng.percent(self.durable_percent);
        let session_expiry_asked_s = match (durable, v5) {
            (false, _) => 0,
            (true, true) => self.session_expiry_s,
            // MQTT 3.1.1 cannot ask for one; the broker's own bound holds.
            (true, false) => u32::MAX,
        };
        let receive_maximum =
            (v5 && rng.one_in(2)).then(|| rng.between(1, self.receive_maximum_max) as u16);
        let cap_s = self.bounds.keep_alive_max_s;
        // MQTT 3.1.1 is not told of a cap: its clients stay below it.
        let longest_s = if v5 || cap_s == 0 { 20 } else { cap_s };
        let wants = rng.percent(self.keep_alive_percent) || !v5 && cap_s > 0;
        let keep_alive_asked_s = match wants {
            true => rng.between(u64::from(longest_s).min(5), longest_s.into()) as u16,
            false => 0,
        };
        Traits {
            version: if v5 { Version::V5 } else { Version::V311 },
            session_expiry_asked_s,
            session_expiry_s: session_expiry_asked_s.min(self.bounds.session_expiry_max_s),
            receive_maximum,
            inflight_max: match v5 {
                true => receive_maximum.unwrap_or(u16::MAX),
                false => self.bounds.inflight_messages_max,
            },
            keep_alive_asked_s,
            keep_alive_s: match (keep_alive_asked_s, cap_s) {
                (asked_s, 0) => asked_s,
                (0, cap_s) => cap_s,
                (asked_s, cap_s) => asked_s.min(cap_s),
            },
            topic_alias_max: if v5 { *rng.pick(&[0, 1, 2, 8]) } else { 0 },
            value_qos: draw_qos(rng, &self.qos_weights),
            ack_later_percent: self.ack_later_percent,
        }
    }
}

impl World {
    /// Sum of the weights of all actions.
    pub fn workload_weight(&self) -> u64 {
        self.actions().iter().map(|(weight, _)| weight).sum()
    }

    fn actions(&self) -> [(u64, Action); 8] {
        let weights = &self.mix.weights;
        [
            (weights.publish, Action::Publish),
            (weights.subscribe, Action::Subscribe),
            (weights.unsubscribe, Action::Unsubscribe),
            (weights.ping, Action::Ping),
            (weights.connect, Action::Connect),
            (weights.disconnect, Action::Disconnect),
            (weights.takeover, Action::Takeover),
            (weights.storm, Action::Storm),
        ]
    }

    /// A client does something, if it can.
    pub fn act(&mut self, index: usize) {
        let actions = self.actions();
        let mut drawn = self.rng.below(self.workload_weight());
        let mut chosen = Action::Publish;
        for (weight, action) in actions {
            chosen = action;
            if drawn < weight {
                break;
            }
            drawn -= weight;
        }
        let may_write = self.clients[index].is_open() || self.is_eager(index);
        match chosen {
            Action::Publish if may_write => self.publish(index),
            Action::Subscribe if may_write => self.subscribe(index),
            Action::Unsubscribe if may_write => self.unsubscribe(index),
            Action::Ping if may_write => self.clients[index].ping(self.oracle.now),
            Action::Connect if self.clients[index].state == State::Off => self.reconnect(index),
            Action::Disconnect if self.clients[index].is_open() => {
                let goodbye = self.draw_goodbye(index);
                self.say_goodbye(index, goodbye);
            }
            Action::Takeover if self.clients[index].is_open() => self.reconnect(index),
            Action::Storm => self.storm(index),
            Action::Publish
            | Action::Subscribe
            | Action::Unsubscribe
            | Action::Ping
            | Action::Connect
            | Action::Disconnect
            | Action::Takeover => {}
        }
    }

    /// A client with a clean start need not wait for CONNACK.
    fn is_eager(&mut self, index: usize) -> bool {
        match self.clients[index].state {
            State::Connecting {
                clean_start: true, ..
            } => self.rng.percent(self.mix.eager_percent),
            State::Connecting {
                clean_start: false, ..
            }
            | State::Off
            | State::Open => false,
        }
    }

    /// Connects, unless the broker may still be busy with an earlier CONNECT of this client: which
    /// of the two it would see first is open.
    pub fn reconnect(&mut self, index: usize) {
        let client = &self.clients[index];
        let earlier = client.link.map(|at| &self.links[at]);
        if earlier.is_some_and(|link| !link.confirmed && link.ended_at.is_none()) {
            return;
        }
        let durable = client.traits.session_expiry_s > 0;
        let must_be_clean = client.session.past == Past::CleanDoubt;
        let clean_start = match client.traits.version {
            Version::V31 | Version::V311 => !durable,
            Version::V5 => must_be_clean || self.rng.percent(if durable { 15 } else { 50 }),
        };
        self.connect(index, clean_start);
    }

    pub fn connect(&mut self, index: usize, clean_start: bool) {
        let judged_until = self.judged_until();
        self.open_link(index);
        let at = self.clients[index].link.expect("opened above");
        let will = self.draw_will(index);
        if let Some((armed, _)) = &will {
            self.links[at].will = Some(*armed);
        }
        let client = &mut self.clients[index];
        client.connect(
            clean_start,
            will.as_ref().map(|(_, will)| will),
            judged_until,
            &mut self.oracle,
        );
        self.trace.log(
            What::Client,
            [index as u64, at as u64, u64::from(clean_start)],
            format_args!(
                "client {index} connects on link {at}, clean start {clean_start}, {:?}, will {:?}",
                client.traits, self.links[at].will
            ),
        );
    }

    /// The last connection of a client: it leaves no session and no will.
    pub fn connect_to_end(&mut self, index: usize) {
        self.clients[index].traits.session_expiry_s = 0;
        self.clients[index].traits.session_expiry_asked_s = 0;
        self.mix.will_percent = 0;
        self.connect(index, true);
    }

    fn draw_will(&mut self, index: usize) -> Option<(ArmedWill, Will)> {
        if !self.rng.percent(self.mix.will_percent) {
            return None;
        }
        let topic = format!("w/w{index}");
        let qos = draw_qos(&mut self.rng, &self.mix.qos_weights);
        let v5 = self.clients[index].v5();
        let delay_s = match v5 {
            true if self.mix.will_delay_s_max > 0 && self.rng.one_in(4) => u32::MAX,
            true => self.rng.between(0, self.mix.will_delay_s_max.into()) as u32,
            false => 0,
        };
        let expires = v5 && self.rng.percent(self.mix.values_expire_percent);
        let draft = Draft {
            publisher: index,
            topic: &topic,
            qos,
            padding: Some(8),
            retained: false,
            is_labelled: v5,
            expiry_s: expires.then(|| *self.rng.pick(&[0, 1, 5])),
        };
        let message = self.oracle.draft(draft, Fate::Armed);
        let drafted = self.oracle.message(message);
        let mut will = Will {
            topic,
            payload: drafted.payload.clone(),
            qos,
            delay_s,
            expiry_s: drafted.expiry_s,
            label: drafted.label.clone(),
        };
        if let Some(sabotage) = self.sabotage {
            sabotage.will(&mut will);
        }
        Some((ArmedWill { message, delay_s }, will))
    }

    fn publish(&mut self, index: usize) {
        if !self.clients[index].may_publish() {
            return;
        }
        if self.is_shared() {
            return self.publish_shared(index);
        }
        let retained = self.rng.percent(self.mix.retained_percent);
        let topic_index = self.rng.index(self.mix.topics);
        if retained {
            if topic_index % self.clients.len() == index {
                let deletes = self.rng.percent(self.mix.delete_percent);
                self.publish_value(index, topic_index, deletes);
            }
            return;
        }
        let topic = match self.rng.one_in(4) {
            true => format!("t/t{topic_index}/x"),
            false => format!("t/t{topic_index}"),
        };
        if self.is_burst() {
            return self.burst(index, &topic);
        }
        let expires = self.clients[index].v5() && self.rng.percent(self.mix.expiry_percent);
        let draft = Draft {
            publisher: index,
            topic: &topic,
            qos: draw_qos(&mut self.rng, &self.mix.qos_weights),
            padding: Some(self.rng.below(self.mix.payload_size_max) as usize),
            retained: false,
            is_labelled: self.clients[index].v5(),
            expiry_s: expires.then(|| *self.rng.pick(&[0, 2, 5, 10_000])),
        };
        self.send(index, draft);
    }

    /// Whether what is done next concerns a group.
    fn is_shared(&mut self) -> bool {
        self.mix.shared_percent > 0 && self.rng.percent(self.mix.shared_percent)
    }

    fn publish_shared(&mut self, index: usize) {
        let topic_index = self.rng.index(self.mix.topics);
        let topic = match topic_index % 2 {
            0 => format!("{TOPIC_PREFIX}{topic_index}"),
            _ => format!("{TOPIC_PREFIX}{topic_index}/{}", self.rng.below(2)),
        };
        if self.is_burst() {
            return self.burst(index, &topic);
        }
        let draft = Draft {
            publisher: index,
            topic: &topic,
            qos: draw_qos(&mut self.rng, &self.mix.qos_weights),
            padding: Some(self.rng.below(self.mix.payload_size_max) as usize),
            retained: false,
            is_labelled: self.clients[index].v5(),
            expiry_s: None,
        };
        self.send(index, draft);
    }

    fn is_burst(&mut self) -> bool {
        self.mix.qos_weights[0] > 0 && self.rng.percent(self.mix.burst_percent)
    }

    /// Publishes messages that differ only in their payload, one after the other.
    fn burst(&mut self, index: usize, topic: &str) {
        for _ in 0..self.rng.between(2, 6) {
            let draft = Draft {
                publisher: index,
                topic,
                qos: QoS::AtMostOnce,
                padding: Some(self.rng.below(self.mix.payload_size_max) as usize),
                retained: false,
                is_labelled: false,
                expiry_s: None,
            };
            self.send_as(index, draft, AliasWish::None);
        }
    }

    /// Publishes the next value of a retained topic; only its writer does, one at a time.
    fn publish_value(&mut self, index: usize, topic_index: usize, deletes: bool) {
        let topic = format!("r/r{topic_index}");
        if self.clients[index].is_publishing_to(&topic, &self.oracle) {
            return;
        }
        let size = self.rng.below(self.mix.payload_size_max) as usize;
        let percent = self.mix.values_expire_percent;
        let expires = self.clients[index].v5() && self.rng.percent(percent);
        let draft = Draft {
            publisher: index,
            topic: &topic,
            qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][topic_index % 3],
            padding: (!deletes).then_some(size),
            retained: true,
            is_labelled: self.clients[index].v5(),
            expiry_s: (expires && !deletes).then_some(5),
        };
        self.send(index, draft);
    }

    /// Deletes the values of all retained topics of a client.
    pub fn delete_values(&mut self, index: usize) {
        for topic_index in 0..self.mix.topics {
            if topic_index % self.clients.len() == index {
                self.publish_value(index, topic_index, true);
            }
        }
    }

    fn send(&mut self, index: usize, draft: Draft<'_>) {
        let alias = match self.rng.percent(self.mix.alias_percent) {
            true => *self
                .rng
                .pick(&[AliasWish::Use, AliasWish::Use, AliasWish::Replace]),
            false => AliasWish::None,
        };
        self.send_as(index, draft, alias);
    }

    fn send_as(&mut self, index: usize, draft: Draft<'_>, alias: AliasWish) {
        let message = self.oracle.draft(draft, Fate::Open);
        self.trace.log(
            What::Client,
            [index as u64, message as u64, 100],
            format_args!("client {index} publishes message {message}: {draft:?}"),
        );
        self.clients[index].publish(message, alias, &self.oracle);
    }

    fn subscribe(&mut self, index: usize) {
        if self.clients[index].request_count() >= REQUESTS_MAX {
            return;
        }
        let mut filters: Vec<(String, SubscribeOptions)> = Vec::new();
        for _ in 0..self.rng.between(1, 3) {
            let filter = self.draw_filter();
            if filters.iter().all(|(other, _)| *other != filter) {
                let options = self.draw_options(index, &filter);
                filters.push((filter, options));
            }
        }
        self.request_count += 1;
        let request = self.request_count;
        let with_id = self.clients[index].v5() && self.rng.one_in(2);
        let id = if with_id { request as u32 } else { 0 };
        self.trace.log(
            What::Client,
            [index as u64, request, 101],
            format_args!("client {index} subscribes {filters:?}, id {id}"),
        );
        self.clients[index].subscribe(request, id, filters, &mut self.oracle);
    }

    fn unsubscribe(&mut self, index: usize) {
        if self.clients[index].request_count() >= REQUESTS_MAX {
            return;
        }
        let filter = self.draw_filter();
        self.trace.log(
            What::Client,
            [index as u64, 0, 102],
            format_args!("client {index} unsubscribes {filter}"),
        );
        self.clients[index].unsubscribe(vec![filter], &mut self.oracle);
    }

    fn draw_filter(&mut self) -> String {
        let topic = self.rng.index(self.mix.topics);
        if self.is_shared() {
            // One group for each topic, so that it is clear to which one a copy belongs.
            let below = ["", "/+"][topic % 2];
            return format!("{SHARE_PREFIX}g/{TOPIC_PREFIX}{topic}{below}");
        }
        if self.rng.percent(self.mix.wildcard_percent) {
            let wildcards = [
                "t/+", "t/#", "#", "+/t0", "r/+", "r/#", "w/+", "w/#", "+/+", "t/+/x", "t/t0/#",
                "+/#",
            ];
            return (*self.rng.pick(&wildcards)).to_owned();
        }
        match self.rng.below(8) {
            0 => format!("w/w{}", self.rng.index(self.clients.len())),
            1 => format!("t/t{topic}/x"),
            2..=4 => format!("r/r{topic}"),
            _ => format!("t/t{topic}"),
        }
    }

    fn draw_options(&mut self, index: usize, filter: &str) -> SubscribeOptions {
        if let Some(last) = group_of(filter) {
            return SubscribeOptions {
                // The same for all members.
                qos: [QoS::AtLeastOnce, QoS::ExactlyOnce][last % 2],
                retain_as_published: self.clients[index].v5() && self.rng.one_in(4),
                ..SubscribeOptions::default()
            };
        }
        let on_values = (0..self.mix.topics).any(|at| topic_matches(filter, &format!("r/r{at}")));
        let qos = if on_values {
            self.clients[index].traits.value_qos
        } else {
            draw_qos(&mut self.rng, &self.mix.qos_weights)
        };
        if !self.clients[index].v5() {
            return SubscribeOptions {
                qos,
                ..SubscribeOptions::default()
            };
        }
        SubscribeOptions {
            qos,
            no_local: self.rng.one_in(8),
            retain_as_published: self.rng.one_in(4),
            retain_handling: *self.rng.pick(&[0, 0, 1, 2]),
        }
    }

    fn draw_goodbye(&mut self, index: usize) -> Goodbye {
        if !self.clients[index].v5() {
            return Goodbye {
                reason: 0,
                session_expiry_s: None,
            };
        }
        let durable =
            self.clients[index].traits.session_expiry_s > 0 && !self.has_late_connect(index);
        Goodbye {
            reason: *self.rng.pick(&[0, 0, 4]),
            // [MQTT-3.14.2-2] only a session that would live on may change its expiry.
            session_expiry_s: (durable && self.rng.one_in(3)).then(|| *self.rng.pick(&[0, 0, 3])),
        }
    }

    /// A client says DISCONNECT and closes its side.
    pub fn say_goodbye(&mut self, index: usize, goodbye: Goodbye) {
        let at = self.clients[index].link.expect("an open client has a link");
        let now = self.oracle.now;
        self.clients[index].disconnect(goodbye.reason, goodbye.session_expiry_s, now);
        self.put_on_link(index);
        let link = &mut self.links[at];
        link.client_done = true;
        link.goodbye = Some(goodbye);
        self.trace.log(
            What::Client,
            [index as u64, at as u64, 103],
            format_args!("client {index} leaves link {at}: {goodbye:?}"),
        );
        self.lose(index);
        if goodbye.session_expiry_s.is_some() {
            self.clients[index].session.past = Past::Doubt;
        }
    }
}

/// Names the group of a shared subscription, such that topics next to each other differ.
fn group_of(filter: &str) -> Option<usize> {
    let topic = filter.strip_prefix(SHARE_PREFIX)?.strip_prefix("g/$s/")?;
    let number = topic.split('/').next()?.parse::<usize>();
    Some(number.expect("groups have numbers") / 2)
}

fn draw_qos(rng: &mut Rng, weights: &[u64; 3]) -> QoS {
    let drawn = rng.below(weights.iter().sum());
    if drawn < weights[0] {
        QoS::AtMostOnce
    } else if drawn < weights[0] + weights[1] {
        QoS::AtLeastOnce
    } else {
        QoS::ExactlyOnce
    }
}

/// Unanswered SUBSCRIBEs and UNSUBSCRIBEs of one client.
const REQUESTS_MAX: usize = 5;
