//! From the TCP connection to a client that is ready: CONNECT, CONNACK, SUBSCRIBE, SUBACK.

use ringmq_core::codec::{
    Connack, Connect, ConnectProperties, Frame, PacketKind, QoS, ReasonCode, Suback, Subscribe,
    SubscribeOptions, Subscription, Subscriptions, Version,
};
use ringmq_core::ids::PacketId;

use super::client::Phase;
use super::life::Loss;
use super::{Client, Fleet};
use crate::scenario::{Group, Start};

impl Fleet {
    /// The TCP connection stands.
    pub fn on_connected(&mut self, index: u32, now: u64) {
        if self.clients[index as usize].phase != Phase::Dialing {
            return;
        }
        self.clients[index as usize].phase = Phase::Greeting;
        self.clients[index as usize].sent_at = now;
        let mut out = std::mem::take(self.out(index));
        self.put_connect(&self.clients[index as usize], &mut out);
        *self.out(index) = out;
        self.mark_dirty(index);
    }

    fn put_connect(&self, client: &Client, out: &mut Vec<u8>) {
        let spec = &self.shared.plan.specs[usize::from(client.group)];
        let filling = self.filling(client);
        let (mut id, mut user, mut password) = (String::new(), String::new(), String::new());
        spec.client_id.fill(filling, &mut id);
        if let Some(pattern) = &spec.user {
            pattern.fill(filling, &mut user);
        }
        if let Some(pattern) = &spec.password {
            pattern.fill(filling, &mut password);
        }
        let expiry = u32::try_from(spec.session_expiry.as_secs()).unwrap_or(u32::MAX);
        Connect {
            is_bridge: false,
            version: spec.protocol,
            clean_start: spec.clean || self.purging,
            keep_alive: spec.keep_alive_s,
            client_id: &id,
            will: None,
            user_name: spec.user.as_ref().map(|_| user.as_str()),
            password: spec.password.as_ref().map(|_| password.as_bytes()),
            properties: ConnectProperties {
                session_expiry_s: (!spec.clean).then_some(expiry),
                receive_maximum: spec.receive_maximum,
                ..ConnectProperties::default()
            },
        }
        .encode(out);
    }

    /// A packet of a client that is not ready yet.
    pub(super) fn on_greeting(
        &mut self,
        index: u32,
        now: u64,
        frame: &Frame<'_>,
    ) -> Result<(), Loss> {
        let version = self.version_of(index);
        let malformed = |error| Loss::Malformed(format!("{error:?}"));
        match (self.clients[index as usize].phase, frame.kind) {
            (Phase::Greeting, PacketKind::Connack) => {
                let connack = Connack::decode(frame, version).map_err(malformed)?;
                self.on_connack(index, now, &connack)
            }
            (Phase::Subscribing, PacketKind::Suback) => {
                let suback = Suback::decode(frame, version).map_err(malformed)?;
                self.on_suback(index, now, &suback)
            }
            (_, kind) => Err(Loss::Malformed(format!("{kind:?} at the wrong time"))),
        }
    }

    fn on_connack(&mut self, index: u32, now: u64, connack: &Connack<'_>) -> Result<(), Loss> {
        let group = self.group_of(index);
        if self.purging {
            self.lose(index, now, Loss::Ours);
            return Ok(());
        }
        let spec = &self.shared.plan.specs[group];
        let client = &self.clients[index as usize];
        if connack.reason.is_error() {
            let mut why = reason_text(connack.reason);
            if let Some(text) = connack.properties.reason_string {
                why = format!("{why} ({})", ringmq::problem::printable(text));
            }
            return Err(Loss::Refused(why));
        }
        check_abilities(spec, connack).map_err(Loss::Refused)?;
        // [MQTT-3.2.2-4] there is no session that the broker could go on with.
        if spec.clean && connack.session_present {
            let why = "CONNACK with a session after a clean start".to_owned();
            return Err(Loss::Malformed(why));
        }
        self.meter.times[group]
            .connect
            .record((now - client.since) / 1000);
        self.meter.connects += 1;
        let was_here = client.settled;
        let topics = self.shared.plan.groups[group].topics;
        let aliases_taken = connack.properties.topic_alias_maximum.unwrap_or(0);
        let aliases = u32::from(spec.topic_aliases.min(aliases_taken)).min(topics);
        if let Some(publisher) = &mut self.clients[index as usize].publisher {
            // [MQTT-3.3.2-7] aliases are those of a connection.
            publisher.introduced.clear();
            publisher.introduced.resize(aliases as usize, false);
        }
        if let (Some(maximum), Some(publisher)) = (
            connack.properties.receive_maximum,
            &mut self.clients[index as usize].publisher,
        ) {
            publisher.inflight_max = publisher.inflight_max.min(maximum);
        }
        if was_here && !spec.clean && !connack.session_present {
            let name = self.name_of(index);
            self.troubles.add("session was lost", || {
                format!("client {name}: CONNACK says that there was none")
            });
            self.meter.errors += 1;
            self.give_up_inflight(index);
        } else if was_here && connack.session_present {
            self.repeat_inflight(index);
        }
        let subscribes = !self.shared.plan.specs[group].subscribe.is_empty();
        if !subscribes || (was_here && connack.session_present) {
            if subscribes {
                self.on_back(index);
            }
            self.on_ready(index, now);
        } else {
            self.subscribe(index, now);
        }
        Ok(())
    }

    fn subscribe(&mut self, index: u32, now: u64) {
        let client = &mut self.clients[index as usize];
        client.phase = Phase::Subscribing;
        client.since = now;
        let client = &self.clients[index as usize];
        let spec = &self.shared.plan.specs[usize::from(client.group)];
        let filters: Vec<String> = spec
            .subscribe
            .iter()
            .map(|pattern| {
                let mut filter = String::new();
                pattern.fill(self.filling(client), &mut filter);
                filter
            })
            .collect();
        let lines: Vec<Subscription<'_>> = filters
            .iter()
            .map(|filter| Subscription {
                filter,
                options: SubscribeOptions::with_qos(spec.qos),
            })
            .collect();
        let version = spec.protocol;
        let subscribe = Subscribe {
            packet_id: subscribe_id(),
            subscription_id: None,
            filters: Subscriptions::listed(&lines),
            user_properties: Default::default(),
        };
        subscribe.encode(version, self.out(index));
        self.mark_dirty(index);
    }

    fn on_suback(&mut self, index: u32, now: u64, suback: &Suback<'_>) -> Result<(), Loss> {
        let group = self.group_of(index);
        let spec = &self.shared.plan.specs[group];
        if suback.packet_id.get() != SUBSCRIBE_ID || suback.reasons.count() != spec.subscribe.len()
        {
            return Err(Loss::Malformed(
                "a SUBACK that answers another SUBSCRIBE".to_owned(),
            ));
        }
        for (reason, filter) in suback.reasons.iter().zip(&spec.subscribe) {
            if reason.is_error() {
                let why = reason_text(reason);
                return Err(Loss::Refused(format!("`{}`: {why}", filter.as_str())));
            }
            let granted = QoS::from_bits(reason.byte()).unwrap_or_default();
            if granted < spec.qos {
                return Err(Loss::Refused(format!(
                    "`{}`: the broker grants QoS {} at most, lower `qos`",
                    filter.as_str(),
                    granted as u8
                )));
            }
        }
        let is_new = spec.start == Start::Window || self.clients[index as usize].settled;
        if is_new {
            self.on_subscribed_anew(index);
        }
        self.on_ready(index, now);
        Ok(())
    }

    /// Subscribed while messages were already being published: what was sent before this point is owed only
    /// if it is the retained message of its topic.
    fn on_subscribed_anew(&mut self, index: u32) {
        let shared = self.shared.clone();
        let (plan, streams) = (&shared.plan, &shared.plan.streams);
        let Some(reader) = self.clients[index as usize].reader.as_deref() else {
            return;
        };
        let (own, share) = (reader.own, reader.share);
        let is_retained = |stream: u32| plan.sender(stream).retain;
        let last = |stream| streams.last_sequence(stream);
        if let Some(own) = own {
            self.ledger.set_gone(own, false);
            self.ledger.excuse_up_to(own, true, is_retained, last);
            self.ledger
                .excuse_up_to(own, false, |stream| !is_retained(stream), last);
        }
        // A shared subscription brings no retained messages, and is owed what comes from its first member on.
        if let Some(share) = share
            && self.ledger.is_gone(share)
        {
            self.ledger.set_gone(share, false);
            self.ledger.excuse_up_to(share, false, |_| true, last);
        }
    }

    /// Back in a session that waited: QoS 0 messages need not have waited.
    fn on_back(&mut self, index: u32) {
        let shared = self.shared.clone();
        let (plan, streams) = (&shared.plan, &shared.plan.streams);
        let group = self.group_of(index);
        if let Some(own) = self.clients[index as usize]
            .reader
            .as_deref()
            .and_then(|reader| reader.own)
        {
            let at_most_once =
                |stream| plan.qos(stream).min(plan.specs[group].qos) == QoS::AtMostOnce;
            self.ledger
                .excuse_up_to(own, false, at_most_once, |stream| {
                    streams.last_sequence(stream)
                });
        }
    }

    pub(super) fn version_of(&self, index: u32) -> Version {
        self.shared.plan.specs[self.group_of(index)].protocol
    }
}

/// What the broker says that it cannot, although the scenario needs it.
fn check_abilities(spec: &Group, connack: &Connack<'_>) -> Result<(), String> {
    let properties = &connack.properties;
    if let Some(maximum) = properties.maximum_qos
        && spec.publish.is_some()
        && maximum < spec.qos
    {
        return Err(format!(
            "the broker takes QoS {} at most, lower `qos`",
            maximum as u8
        ));
    }
    if spec.retain && properties.retain_available == Some(false) {
        return Err("the broker keeps no retained messages".to_owned());
    }
    if let Some(maximum) = properties.maximum_packet_size
        && spec.publish.is_some()
        && spec.payload.max() > maximum
    {
        return Err(format!(
            "the broker takes packets of {maximum} bytes at most, lower `payload`"
        ));
    }
    let shares = spec
        .subscribe
        .iter()
        .any(|filter| filter.as_str().starts_with("$share/"));
    if shares && properties.shared_available == Some(false) {
        return Err("the broker has no shared subscriptions".to_owned());
    }
    Ok(())
}

/// `NotAuthorized (0x87)`.
pub(super) fn reason_text(reason: ReasonCode) -> String {
    format!("{reason:?} (0x{:02X})", reason.byte())
}

/// Identifier of the only SUBSCRIBE of a connection. It goes out before the client publishes.
const SUBSCRIBE_ID: u16 = 1;

fn subscribe_id() -> PacketId {
    PacketId::new(SUBSCRIBE_ID).expect("not zero")
}
