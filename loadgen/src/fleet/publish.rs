//! Publishing: which messages are due, their encoding, and their acknowledgements.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringmq_core::codec::{
    Ack, Direction, Frame, PacketKind, PublishHead, PublishParts, QoS,
    encode_publish_without_payload, encode_pubrel,
};
use serde::{Deserialize, Serialize};

use super::client::{Alias, InFlight, Phase};
use super::life::{Loss, Squad};
use super::pace::{Pacer, Schedule, Window};
use super::terms::reason_text;
use super::{Client, Fleet};
use crate::payload::{Header, Lateness, Payloads, mix};
use crate::plan::Plan;
use crate::shared::{Shared, Stage, now_ns};

impl Fleet {
    /// Publishes what is due and what the windows have room for.
    pub(super) fn publish_due(&mut self, now: u64) {
        let begin = self.shared.publish_at();
        let end = self.shared.window_end();
        if now < begin || now >= end {
            return;
        }
        for at in 0..self.squads.len() {
            if !self.is_open
                && let Some(mut probe) = self.squads[at].probe.take()
            {
                self.publish_window(at, &mut probe, now);
                self.squads[at].probe = Some(probe);
                continue;
            }
            let Some(pacer) = self.squads[at].pacer.take() else {
                continue;
            };
            let pacer = match pacer {
                Pacer::Schedule(mut schedule) => {
                    self.publish_schedule(at, &mut schedule, now, begin, end);
                    Pacer::Schedule(schedule)
                }
                Pacer::Window(mut window) => {
                    self.publish_window(at, &mut window, now);
                    Pacer::Window(window)
                }
            };
            self.squads[at].pacer = Some(pacer);
        }
    }

    pub(super) fn next_publish(&self, squad: &Squad) -> Option<u64> {
        let begin = self.shared.publish_at();
        let look = |window: &Window| begin.max(window.look_at(self.patience(squad.group)));
        let probe = squad.probe.as_ref();
        let at = match (probe, squad.pacer.as_ref()?) {
            (Some(probe), _) if !self.is_open => look(probe),
            (_, Pacer::Schedule(schedule)) => begin.saturating_add(schedule.due_ns(&self.course)?),
            (_, Pacer::Window(window)) => look(window),
        };
        (at < self.shared.window_end()).then_some(at)
    }

    fn publish_schedule(
        &mut self,
        squad: usize,
        schedule: &mut Schedule,
        now: u64,
        begin: u64,
        end: u64,
    ) {
        let first = self.squads[squad].first;
        let group = self.squads[squad].group;
        let spec = &self.shared.plan.specs[group];
        let storm = self.storm.as_deref().filter(|_| !spec.reconnect);
        let churns = spec.online.is_some() || storm.is_some_and(|storm| storm.hits_group(group));
        let in_window = now >= self.shared.window_start();
        for count in 0..PUBLISHED_PER_TURN_MAX {
            let Some(due) = schedule.due_ns(&self.course) else {
                return;
            };
            let due = begin.saturating_add(due);
            if due > now || due >= end {
                return;
            }
            let index = first + schedule.take();
            // The generator's own lateness: what the broker holds back does not hold the schedule
            // back.
            let now = if count % CLOCK_EVERY == CLOCK_EVERY - 1 {
                now_ns()
            } else {
                now
            };
            if in_window {
                self.meter.lag.record(now.saturating_sub(due) / 1000);
            }
            let client = &mut self.clients[index as usize];
            let Some(publisher) = client.publisher.as_deref_mut() else {
                continue;
            };
            if publisher.left == 0 || (churns && client.phase != Phase::Ready) {
                continue;
            }
            if publisher.left != u64::MAX {
                publisher.left -= 1;
            }
            let is_free = publisher.pending.is_empty()
                && client.phase == Phase::Ready
                && self.has_room(index);
            if is_free {
                self.publish(index, now, due);
            } else {
                self.put_off(index, due);
            }
        }
    }

    /// The message waits until its client can send it, with its time: what an outage holds up is as
    /// late as it is. What no client will ever send is given up, and too many are.
    fn put_off(&mut self, index: u32, due: u64) {
        let client = &mut self.clients[index as usize];
        let returns = match client.phase {
            Phase::Ready
            | Phase::Dialing
            | Phase::Greeting
            | Phase::Subscribing
            | Phase::Away
            | Phase::Closing(Some(_)) => true,
            Phase::Closing(None) | Phase::Gone => false,
        };
        let Some(publisher) = client.publisher.as_deref_mut() else {
            return;
        };
        if returns && publisher.pending.len() < PENDING_MAX {
            publisher.pending.push_back(due);
            self.pending_count += 1;
            return;
        }
        self.meter.errors += 1;
        let why = if returns {
            format!("{PENDING_MAX} of its messages waited already")
        } else {
            "its connection was gone".to_owned()
        };
        self.note_never_sent(index, 1, &why);
        self.finish_if_done(index);
    }

    fn publish_window(&mut self, squad: usize, window: &mut Window, now: u64) {
        let (group, first) = (self.squads[squad].group, self.squads[squad].first);
        let clients = self.squads[squad].range.len() as u32;
        let slot = group * self.shared.plan.threads + self.thread;
        self.flush_credits();
        let arrived = self.shared.arrived[slot].load(Ordering::SeqCst);
        // The first topic speaks for all: in a closed loop they have the same subscribers.
        let stream = self.stream_of(&self.clients[first as usize], 0);
        let copies = u64::from(self.shared.plan.streams.copies(stream).max(1));
        let patience = self.patience(group);
        let written_off = window.written_off;
        let room = window.room(now, arrived, copies, patience);
        if window.written_off > written_off {
            self.troubles.add(WRITTEN_OFF, || {
                format!(
                    "group {}: nothing arrived for {patience:?}",
                    self.shared.plan.specs[group].name
                )
            });
        }
        let mut skipped = 0;
        let mut sent = 0;
        let mut now = now;
        while sent < room.min(u64::from(PUBLISHED_PER_TURN_MAX)) && skipped < clients {
            let index = first + window.at;
            window.at = (window.at + 1) % clients;
            let client = &mut self.clients[index as usize];
            let can = client.phase == Phase::Ready
                && client
                    .publisher
                    .as_deref()
                    .is_some_and(|publisher| publisher.left > 0)
                && self.has_room(index);
            if !can {
                skipped += 1;
                continue;
            }
            skipped = 0;
            if let Some(publisher) = self.clients[index as usize].publisher.as_deref_mut()
                && publisher.left != u64::MAX
            {
                publisher.left -= 1;
            }
            window.owed += self.publish(index, now, now);
            sent += 1;
            if sent % u64::from(CLOCK_EVERY) == 0 {
                now = now_ns();
            }
        }
    }

    /// What waited for room.
    pub(super) fn publish_pending(&mut self, index: u32, now: u64) {
        if self.stage != Stage::Publish && self.stage != Stage::Drain {
            return;
        }
        while self.clients[index as usize].phase == Phase::Ready
            && self.has_room(index)
            && let Some(publisher) = self.clients[index as usize].publisher.as_deref_mut()
            && let Some(due) = publisher.pending.pop_front()
        {
            self.pending_count -= 1;
            self.publish(index, now, due);
        }
    }

    fn has_room(&self, index: u32) -> bool {
        let client = &self.clients[index as usize];
        let Some(publisher) = client.publisher.as_deref() else {
            return false;
        };
        let unsent = client.out.len() + client.flying as usize;
        unsent < UNSENT_BYTES_MAX && publisher.inflight.len() < usize::from(publisher.inflight_max)
    }

    /// Publishes one message: the next of the client. Returns what it owes.
    fn publish(&mut self, index: u32, now: u64, due: u64) -> u64 {
        if self.shared.plan.scenario.has_parts() {
            self.end_parts(index, due);
        }
        let shared = &*self.shared;
        let client = &mut self.clients[index as usize];
        let group = usize::from(client.group);
        let planned = &shared.plan.groups[group];
        if client.out.capacity() == 0 {
            client.out = self.pool.pop().unwrap_or_default();
        }
        let Some(publisher) = client.publisher.as_deref_mut() else {
            return 0;
        };
        let topic = publisher.topic;
        let stream = planned.stream(client.index, topic);
        publisher.topic = match &self.topics[group] {
            None => (topic + 1) % planned.topics,
            Some(topics) => {
                publisher.drawn = publisher.drawn.wrapping_add(1);
                topics.pick(client.index, publisher.drawn)
            }
        };
        let Some(sequence) = shared.plan.streams.next_sequence(stream) else {
            self.note_never_sent(index, 1, "its sequence numbers were used up");
            return 0;
        };
        let alias = publisher.alias(topic);
        let qos = shared.plan.specs[group].qos;
        let mut message = InFlight {
            id: 0,
            released: false,
            lateness: Lateness::of_micros(now.saturating_sub(due) / 1000),
            stream,
            sequence,
            stamp_us: (now.saturating_sub(shared.origin_ns) / 1000) as u32,
        };
        if qos > QoS::AtMostOnce {
            message.id = publisher.next_id();
            publisher.inflight.push_back(message);
        }
        put_message(shared, group, &message, alias, false, &mut client.out);
        self.meter.counts[group].sent += 1;
        if !std::mem::replace(&mut client.dirty, true) {
            self.outbox.dirty.push(index);
        }
        let copies = u64::from(shared.plan.streams.copies(stream));
        let is_answered = copies > 0 || qos > QoS::AtMostOnce;
        self.meter.asked += u64::from(is_answered);
        self.meter.owed += u64::from(is_answered) * copies.max(1);
        if qos == QoS::AtMostOnce {
            self.finish_if_done(index);
        }
        copies.max(1)
    }

    /// Notes where the streams of a client stood at the end of each stage that the message, which is
    /// due at that time, comes after: a client sends its messages in the order in which they are due.
    fn end_parts(&mut self, index: u32, due: u64) {
        let shared = &*self.shared;
        let client = &mut self.clients[index as usize];
        let planned = &shared.plan.groups[usize::from(client.group)];
        let Some(publisher) = client.publisher.as_deref_mut() else {
            return;
        };
        let after = due.saturating_sub(shared.publish_at());
        let segments = self.course.segments();
        loop {
            let part = publisher.parts_ended.len() / planned.topics as usize;
            match segments.get(part) {
                Some(segment) if segment.end_ns <= after && part + 1 < segments.len() => {}
                Some(_) | None => return,
            }
            for topic in 0..planned.topics {
                let stream = planned.stream(client.index, topic);
                let last = shared.plan.streams.last_sequence(stream);
                publisher.parts_ended.push(last);
            }
        }
    }

    /// For each stream of this thread and each stage but the last, the last sequence of the stage.
    pub fn part_ends(&self) -> Vec<PartEnds> {
        let plan = &self.shared.plan;
        let count = self.course.segments().len().saturating_sub(1);
        let mut all = Vec::new();
        if !plan.scenario.has_parts() || count == 0 {
            return all;
        }
        for client in &self.clients {
            let planned = &plan.groups[usize::from(client.group)];
            let Some(publisher) = client.publisher.as_deref() else {
                continue;
            };
            for topic in 0..planned.topics {
                let stream = planned.stream(client.index, topic);
                let last = plan.streams.last_sequence(stream);
                let noted = publisher.parts_ended.iter();
                let noted = noted.skip(topic as usize).step_by(planned.topics as usize);
                let ends = noted.copied().chain(std::iter::repeat(last));
                all.push(PartEnds {
                    stream,
                    ends: ends.take(count).collect(),
                });
            }
        }
        all
    }

    /// PUBACK, PUBREC or PUBCOMP for a publisher.
    pub(super) fn on_ack(&mut self, index: u32, now: u64, frame: &Frame<'_>) -> Result<(), Loss> {
        let version = self.version_of(index);
        let ack = Ack::decode(frame, version, Direction::FromServer)
            .map_err(|error| Loss::Malformed(format!("{error:?}")))?;
        let id = ack.packet_id.get();
        self.meter.acks += 1;
        self.heard_at = now;
        let client = &mut self.clients[index as usize];
        let group = usize::from(client.group);
        let entry = client.publisher.as_deref_mut().and_then(|publisher| {
            let position = publisher.position(id)?;
            Some((publisher, position))
        });
        let Some((publisher, position)) = entry else {
            let text = format!("{:?} for identifier {id}, which is not in use", frame.kind);
            return Err(Loss::Malformed(text));
        };
        if frame.kind == PacketKind::Pubrec && !ack.reason.is_error() {
            publisher.inflight[position].released = true;
            encode_pubrel(self.out(index), ack.packet_id);
            self.mark_dirty(index);
            return Ok(());
        }
        let Some(message) = publisher.inflight.remove(position) else {
            return Ok(());
        };
        let counts = &mut self.meter.counts[group];
        counts.acknowledged += 1;
        if ack.reason.is_error() {
            counts.refused += 1;
            self.meter.errors += 1;
            self.uncertain.push((message.stream, message.sequence));
            self.troubles
                .add(REFUSED_PUBLICATION, || reason_text(ack.reason));
        }
        let elapsed = self.elapsed_us(now, message.stamp_us);
        if now.saturating_sub(elapsed * 1000) >= self.shared.window_start() {
            self.meter.times[group].acknowledge.record(elapsed);
        }
        let streams = &self.shared.plan.streams;
        if streams.copies(message.stream) == 0 {
            let slot = streams.slot(message.stream);
            Fleet::credit(&mut self.credits, &mut self.credited, slot, 1);
        }
        self.publish_pending(index, now);
        self.finish_if_done(index);
        Ok(())
    }

    /// Microseconds since a stamp.
    pub(super) fn elapsed_us(&self, now: u64, stamp_us: u32) -> u64 {
        elapsed_us(&self.shared, now, stamp_us)
    }

    /// A session continues: what was not acknowledged is sent again, in order [MQTT-4.4.0-1],
    /// [MQTT-4.6.0-1].
    pub(super) fn repeat_inflight(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let group = usize::from(client.group);
        let Some(publisher) = client.publisher.as_deref() else {
            return;
        };
        for message in &publisher.inflight {
            match ringmq_core::ids::PacketId::new(message.id) {
                Some(id) if message.released => encode_pubrel(&mut client.out, id),
                Some(_) | None => {
                    put_message(&self.shared, group, message, None, true, &mut client.out)
                }
            }
        }
        if !client.out.is_empty() {
            self.mark_dirty(index);
        }
    }

    /// The outcome of these will never be known.
    pub(super) fn give_up_inflight(&mut self, index: u32) {
        let group = self.group_of(index);
        let streams = &self.shared.plan.streams;
        let mut count = 0;
        if let Some(publisher) = self.clients[index as usize].publisher.as_deref_mut() {
            for message in publisher.inflight.drain(..) {
                count += 1;
                // With PUBREC the broker took the message over.
                if !message.released {
                    self.uncertain.push((message.stream, message.sequence));
                }
                // A window that goes by acknowledgements gets this one back.
                if streams.copies(message.stream) == 0 {
                    let slot = streams.slot(message.stream);
                    Fleet::credit(&mut self.credits, &mut self.credited, slot, 1);
                }
            }
            publisher.stuck.clear();
        }
        self.meter.counts[group].unacknowledged += count;
        let name = self.name_of(index);
        let when = match self.stage {
            Stage::Connect | Stage::Publish | Stage::Drain => "when its connection ended",
            Stage::End => "at the end of the drain",
        };
        self.troubles.add_many(NEVER_ACKNOWLEDGED, count, || {
            format!("client {name}: {count} without an acknowledgement {when}")
        });
        self.finish_if_done(index);
    }

    /// The client will not reconnect.
    pub(super) fn finish(&mut self, index: u32) {
        self.give_up_pending(index);
        let is_early = self.stage < Stage::Drain;
        let publisher = self.clients[index as usize].publisher.as_deref_mut();
        if let Some(publisher) = publisher.filter(|publisher| publisher.left != u64::MAX) {
            let left = std::mem::take(&mut publisher.left);
            if is_early {
                self.note_never_sent(index, left, "its connection was gone");
            }
        }
        self.give_up_inflight(index);
    }

    /// What waited for room will not be sent any more.
    pub(super) fn give_up_pending(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let is_ready = client.phase == Phase::Ready;
        let Some(publisher) = client.publisher.as_deref_mut() else {
            return;
        };
        let count = publisher.pending.len() as u64;
        publisher.pending.clear();
        self.pending_count -= count;
        let underway = publisher.inflight.len();
        let why = match (is_ready, underway >= usize::from(publisher.inflight_max)) {
            (true, true) => format!("{underway} messages waited for their acknowledgement"),
            (true, false) => "the broker did not read, its socket was full".to_owned(),
            (false, _) => "its connection was gone".to_owned(),
        };
        self.note_never_sent(index, count, &why);
    }

    /// Messages were due, and will not be sent.
    fn note_never_sent(&mut self, index: u32, count: u64, why: &str) {
        let group = self.group_of(index);
        self.meter.counts[group].skipped += count;
        let name = self.name_of(index);
        self.troubles
            .add_many(NEVER_SENT, count, || format!("client {name}: {why}"));
    }

    /// A publisher with a limit that has nothing left and nothing underway is done.
    fn finish_if_done(&mut self, index: u32) {
        if let Some(publisher) = self.clients[index as usize].publisher.as_deref_mut() {
            let is_done = publisher.left == 0
                && publisher.pending.is_empty()
                && publisher.inflight.is_empty();
            if is_done && !std::mem::replace(&mut publisher.finished, true) {
                let board = &self.shared.boards[self.thread];
                board.unfinished.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// At the end: everything that is still without an acknowledgement, or was never sent.
    pub fn give_up_all(&mut self) {
        for index in 0..self.clients.len() as u32 {
            self.finish(index);
        }
        assert_eq!(self.pending_count, 0, "nobody waits any more");
    }

    fn stream_of(&self, client: &Client, topic: u32) -> u32 {
        self.shared.plan.groups[usize::from(client.group)].stream(client.index, topic)
    }

    /// How long a closed loop waits for what may be lost.
    fn patience(&self, group: usize) -> Duration {
        match self.shared.plan.specs[group].qos {
            QoS::AtMostOnce => Duration::from_secs(2),
            QoS::AtLeastOnce | QoS::ExactlyOnce => Duration::from_secs(10),
        }
    }
}

/// Where a stream stood when each stage but the last was over for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartEnds {
    /// Which.
    pub stream: u32,
    /// The last sequence of each stage.
    pub ends: Box<[u32]>,
}

/// Microseconds since a stamp, which has 32 bits of them. Another thread's clock may have been read
/// a moment later than ours: that is now.
#[inline]
pub(super) fn elapsed_us(shared: &Shared, now: u64, stamp_us: u32) -> u64 {
    let now_us = (now.saturating_sub(shared.origin_ns) / 1000) as u32;
    let elapsed = now_us.wrapping_sub(stamp_us);
    if elapsed > u32::MAX - 1_000_000 {
        0
    } else {
        u64::from(elapsed)
    }
}

/// Appends the bytes of a message.
#[inline]
fn put_message(
    shared: &Shared,
    group: usize,
    message: &InFlight,
    alias: Option<Alias>,
    dup: bool,
    out: &mut Vec<u8>,
) {
    let Plan { specs, streams, .. } = &shared.plan;
    let payloads: &Payloads = &shared.payloads;
    let spec = &specs[group];
    let draw = mix(u64::from(message.stream) << 32 | u64::from(message.sequence) ^ SIZE_SEED);
    let size = spec.payload.pick(draw);
    let topic = match alias {
        Some(alias) if alias.is_known => b"",
        Some(_) | None => streams.topic(message.stream),
    };
    let parts = PublishParts {
        topic,
        topic_alias: alias.map(|alias| alias.number),
        payload: payloads.sized(size),
        ..PublishParts::default()
    };
    let head = PublishHead {
        dup,
        qos: spec.qos,
        retain: spec.retain,
    };
    encode_publish_without_payload(spec.protocol, head, message.id, &parts, out);
    let header = Header {
        stamp_us: message.stamp_us,
        sequence: message.sequence,
        stream: message.stream,
        lateness: message.lateness,
    };
    payloads.put(header, size, out);
}

/// Trouble: messages of QoS 1 or 2 whose last acknowledgement never came.
pub const NEVER_ACKNOWLEDGED: &str = "message never acknowledged";
/// Trouble: messages that were due, and that no client could send.
pub const NEVER_SENT: &str = "message never sent";
/// Trouble: the broker refused a message (MQTT 5.0).
pub const REFUSED_PUBLICATION: &str = "publication refused";
/// Trouble: a closed loop gave up what had not arrived.
pub const WRITTEN_OFF: &str = "window written off";
/// A turn ends some time, so that what arrived is looked at.
const PUBLISHED_PER_TURN_MAX: u32 = 4096;
/// The clock is read again after so many messages: some 2 us.
const CLOCK_EVERY: u32 = 16;
/// Bytes that a client may have for its socket before its messages wait.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Messages of a client that wait: a second at the highest rate that one connection has.
const PENDING_MAX: usize = 1 << 20;
/// Sizes are drawn apart from the places of bodies.
const SIZE_SEED: u64 = 0x5151_5151;
