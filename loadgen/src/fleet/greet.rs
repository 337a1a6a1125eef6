//! From the TCP connection to a ready client: CONNECT, CONNACK, SUBSCRIBE, SUBACK.

use std::time::{SystemTime, UNIX_EPOCH};

use ringmq_core::codec::{
    Connack, Connect, ConnectProperties, Frame, PacketKind, QoS, Suback, Subscribe,
    SubscribeOptions, Subscription, Subscriptions, Version,
};
use ringmq_core::ids::PacketId;

use super::client::Phase;
use super::life::Loss;
use super::terms::{reason_text, refusal};
use super::{Client, Fleet};
use crate::cloud::sas::Key;
use crate::scenario::{Group, Start};

impl Fleet {
    /// The TCP connection is established.
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
        if let Some(key) = &spec.sas_key {
            password = token(spec, key, &user, &id);
        }
        let has_password = spec.password.is_some() || spec.sas_key.is_some();
        let expiry = u32::try_from(spec.session_expiry.as_secs()).unwrap_or(u32::MAX);
        Connect {
            is_bridge: false,
            version: spec.protocol,
            clean_start: spec.clean || self.purging,
            keep_alive: spec.keep_alive_s,
            client_id: &id,
            will: None,
            user_name: spec.user.as_ref().map(|_| user.as_str()),
            password: has_password.then_some(password.as_bytes()),
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
        if connack.reason.is_error() {
            return Err(Loss::Refused(refusal(connack)));
        }
        if self.purging {
            self.on_purged(index, now);
            return Ok(());
        }
        self.agree(index, connack)?;
        let spec = &self.shared.plan.specs[group];
        let client = &self.clients[index as usize];
        self.meter.times[group]
            .connect
            .record((now - client.since) / 1000);
        self.meter.connects += 1;
        let was_here = client.settled;
        if let Some(storm) = &mut self.storm {
            storm.on_connack(index, now);
            if !spec.clean {
                storm.on_session(index, connack.session_present);
            }
        }
        if was_here && !spec.clean && !connack.session_present {
            let name = self.name_of(index);
            self.troubles.add("session was lost", || {
                format!("client {name}: CONNACK has no session present")
            });
            self.meter.errors += 1;
            self.give_up_inflight(index);
        } else if was_here && connack.session_present {
            self.repeat_inflight(index);
        }
        let subscribes = !self.shared.plan.specs[group].subscribe.is_empty();
        if !subscribes || (was_here && connack.session_present) {
            if subscribes {
                self.excuse_at_most_once(index);
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
                "SUBACK that does not match SUBSCRIBE".to_owned(),
            ));
        }
        let mut filter = String::new();
        for (reason, pattern) in suback.reasons.iter().zip(&spec.subscribe) {
            pattern.fill(self.filling(&self.clients[index as usize]), &mut filter);
            if reason.is_error() {
                let why = reason_text(reason);
                return Err(Loss::Refused(format!(
                    "`{filter}`: {why}; check what the user may subscribe to"
                )));
            }
            let granted = QoS::from_bits(reason.byte()).unwrap_or_default();
            if granted < spec.qos {
                return Err(Loss::Refused(format!(
                    "`{filter}`: the broker grants QoS {} at most; lower `qos`",
                    granted as u8
                )));
            }
            if granted > spec.qos {
                return Err(Loss::Malformed(format!(
                    "SUBACK grants QoS {} for `{filter}`, more than was asked for",
                    granted as u8
                )));
            }
        }
        if let Some(reader) = &mut self.clients[index as usize].reader {
            reader.subscribed_at = now;
        }
        let is_new = spec.start == Start::Window || self.clients[index as usize].settled;
        if is_new {
            self.on_subscribed_anew(index);
        }
        self.on_ready(index, now);
        Ok(())
    }

    /// Subscribed while messages were already being published: what was sent before this point is
    /// owed only if it is the retained message of its topic.
    fn on_subscribed_anew(&mut self, index: u32) {
        let Some(reader) = self.clients[index as usize].reader.as_deref() else {
            return;
        };
        let share = reader.share;
        if let Some(own) = reader.own {
            self.ledger.set_gone(own, false);
            self.excuse(index);
        }
        // A shared subscription is owed messages from its first member on.
        if let Some(share) = share
            && self.ledger.is_gone(share)
        {
            self.ledger.set_gone(share, false);
            self.excuse_share(index);
        }
    }

    pub(super) fn version_of(&self, index: u32) -> Version {
        self.shared.plan.specs[self.group_of(index)].protocol
    }
}

/// A token for a device of a hub, whose name is the first part of the user name.
fn token(spec: &Group, key: &Key, user: &str, device: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let until = now.unwrap_or_default() + spec.sas_expiry;
    let hub = user.split('/').next().unwrap_or_default();
    match &spec.sas_policy {
        Some(policy) => key.token(hub, until.as_secs(), Some(policy)),
        None => key.token(&format!("{hub}/devices/{device}"), until.as_secs(), None),
    }
}

/// Identifier of the only SUBSCRIBE of a connection. It goes out before the client publishes.
const SUBSCRIBE_ID: u16 = 1;

fn subscribe_id() -> PacketId {
    PacketId::new(SUBSCRIBE_ID).expect("not zero")
}
