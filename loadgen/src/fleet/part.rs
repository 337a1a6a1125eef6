//! The end of a run for its clients: remove retained messages, end sessions, disconnect.
//!
//! Clients that the broker closed earlier reconnect once to do so.

use ringmq_core::codec::{
    Disconnect, PublishHead, PublishParts, ReasonCode, Version, encode_publish_without_payload,
};

use super::Fleet;
use super::client::{Phase, Removal};
use super::life::Loss;

impl Fleet {
    /// The last stage: retained messages are removed, and everybody disconnects.
    pub(super) fn part_all(&mut self) {
        for index in 0..self.clients.len() as u32 {
            self.give_up_pending(index);
            match self.clients[index as usize].phase {
                Phase::Ready => self.part(index),
                // It would have dialled again.
                Phase::Away => {
                    self.clients[index as usize].phase = Phase::Gone;
                    self.finish(index);
                }
                Phase::Dialing
                | Phase::Greeting
                | Phase::Subscribing
                | Phase::Closing(_)
                | Phase::Gone => {}
            }
        }
    }

    fn part(&mut self, index: u32) {
        let spec = &self.shared.plan.specs[self.group_of(index)];
        let (clean, version) = (spec.clean, spec.protocol);
        if self.retains(index) {
            self.remove_retained(index);
        }
        goodbye(clean, version).encode(version, self.out(index));
        self.clients[index as usize].parted = true;
        self.mark_dirty(index);
    }

    /// Retained messages may still be there: the broker has not closed the connection after their
    /// removal. It should on the DISCONNECT that follows, but need not: wait for a bounded time
    /// only.
    pub fn is_removing(&self) -> bool {
        self.removing_count > 0
    }

    /// Clients that left without DISCONNECT reconnect to remove their retained messages and to end
    /// their sessions. In MQTT 3.1.1 the only way to end one is to start a clean one; in MQTT 5.0
    /// DISCONNECT did it, if it was sent. Call when everybody is gone; false if no client has to.
    pub fn start_purge(&mut self, now: u64) -> bool {
        for at in 0..self.squads.len() {
            let spec = &self.shared.plan.specs[self.squads[at].group];
            let (clean, version) = (spec.clean, spec.protocol);
            let first = self.squads[at].first;
            for index in first..first + self.squads[at].range.len() as u32 {
                let client = &self.clients[index as usize];
                let has_session = !clean && (version < Version::V5 || !client.parted);
                let returns = has_session || self.retains(index);
                if returns && client.settled && client.phase == Phase::Gone {
                    self.clients[index as usize].phase = Phase::Away;
                    self.squads[at].dials.push_back(index);
                }
            }
            let squad = &mut self.squads[at];
            squad.connecting = 0;
            squad.dial_step_ns = 0.0;
            squad.next_dial_at = now as f64;
            self.purging |= !squad.dials.is_empty();
        }
        self.purging
    }

    /// CONNACK of a client that came back with a clean start: its session is gone.
    pub(super) fn on_purged(&mut self, index: u32, now: u64) {
        if !self.retains(index) {
            return self.lose(index, now, Loss::Ours);
        }
        let group = self.group_of(index);
        self.clients[index as usize].phase = Phase::Ready;
        self.squads[group].connecting -= 1;
        self.count_ready(1);
        self.part(index);
    }

    /// Nobody is left to start a clean session.
    pub fn is_purged(&self) -> bool {
        self.clients
            .iter()
            .all(|client| client.phase == Phase::Gone)
    }

    /// The very end: retained messages whose removal was not confirmed are a trouble.
    pub fn note_left_behind(&mut self) {
        for index in 0..self.clients.len() as u32 {
            if !self.retains(index) {
                continue;
            }
            let topics = self.retained_topics(index);
            let count = topics.len() as u64;
            let name = self.name_of(index);
            let streams = &self.shared.plan.streams;
            self.troubles.add_many(LEFT_BEHIND, count, || {
                let topic = topics.first().map(|stream| streams.topic(*stream));
                let topic = String::from_utf8_lossy(topic.unwrap_or_default()).into_owned();
                format!("client {name}: its removal of `{topic}` was not confirmed")
            });
        }
    }

    /// Retained messages of this client may be on the broker.
    fn retains(&self, index: u32) -> bool {
        let publisher = self.clients[index as usize].publisher.as_deref();
        let spec = &self.shared.plan.specs[self.group_of(index)];
        spec.retain
            && publisher.is_some_and(|publisher| publisher.removal != Removal::Done)
            && !self.retained_topics(index).is_empty()
    }

    /// Streams of this client on which it published.
    fn retained_topics(&self, index: u32) -> Vec<u32> {
        let client = &self.clients[index as usize];
        let planned = &self.shared.plan.groups[usize::from(client.group)];
        let streams = (0..planned.topics).map(|topic| planned.stream(client.index, topic));
        let plan = &self.shared.plan;
        streams
            .filter(|stream| plan.streams.last_sequence(*stream) > 0)
            .collect()
    }

    /// Retained messages do not outlive the run: an empty one removes each.
    fn remove_retained(&mut self, index: u32) {
        let shared = self.shared.clone();
        let version = self.version_of(index);
        for stream in self.retained_topics(index) {
            let parts = PublishParts {
                topic: shared.plan.streams.topic(stream),
                ..PublishParts::default()
            };
            let head = PublishHead {
                retain: true,
                ..PublishHead::default()
            };
            encode_publish_without_payload(version, head, 0, &parts, self.out(index));
        }
        if let Some(publisher) = &mut self.clients[index as usize].publisher {
            assert_ne!(
                publisher.removal,
                Removal::Sent,
                "it left after it had sent it"
            );
            publisher.removal = Removal::Sent;
            self.removing_count += 1;
        }
    }
}

/// A session that was kept for the run ends with it: in MQTT 5.0 DISCONNECT can do that.
fn goodbye(clean: bool, version: Version) -> Disconnect<'static> {
    let mut disconnect = Disconnect::new(ReasonCode::NormalDisconnection);
    if version == Version::V5 && !clean {
        disconnect.properties.session_expiry_s = Some(0);
    }
    disconnect
}

/// Trouble: retained messages that may still be on the broker.
pub const LEFT_BEHIND: &str = "retained message left behind";
