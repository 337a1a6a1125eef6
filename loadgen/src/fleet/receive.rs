//! Receiving: messages go to the ledger and the meter, acknowledgements to their publisher.

use ringmq_core::codec::{
    Ack, BarePublish, DecodeError, Direction, Disconnect, Frame, PacketKind, QoS, encode_puback,
    encode_pubcomp, encode_pubrec,
};

use super::client::Phase;
use super::life::Loss;
use super::publish::elapsed_us;
use super::{Client, Fleet};
use crate::ledger::Arrival;
use crate::meter::{DeliveryTimes, Place};
use crate::payload::{Content, Header};
use crate::shared::{Shared, Stage};

impl Fleet {
    /// Processes what a socket received.
    pub fn on_bytes(&mut self, index: u32, now: u64, mut bytes: &[u8]) {
        self.mark(now);
        let start = bytes;
        let mut framer = std::mem::take(&mut self.clients[index as usize].framer);
        let version = self.version_of(index);
        self.clients[index as usize].pinged = false;
        loop {
            let client = &self.clients[index as usize];
            match client.phase {
                Phase::Greeting | Phase::Subscribing | Phase::Ready => {}
                // It was closed in the middle: the rest is not looked at.
                Phase::Away | Phase::Dialing | Phase::Closing(_) | Phase::Gone => return,
            }
            let rules = client.rules(version);
            let frame = match framer.next(&mut bytes, &rules) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return self.on_malformed(index, now, error, start),
            };
            // Nearly all are these: they are decoded and looked at without a detour.
            if frame.kind == PacketKind::Publish {
                match BarePublish::decode(&frame, version) {
                    Ok(publish) => match check_properties(publish) {
                        Ok(()) => self.on_publish(index, now, publish),
                        Err(why) => return self.lose(index, now, Loss::Malformed(why)),
                    },
                    Err(error) => return self.on_malformed(index, now, error, start),
                }
            } else if let Err(loss) = self.on_other(index, now, &frame) {
                return self.lose(index, now, loss);
            }
        }
        self.clients[index as usize].framer = framer;
    }

    /// The broker sent what no broker may send.
    #[cold]
    fn on_malformed(&mut self, index: u32, now: u64, error: DecodeError, start: &[u8]) {
        let is_greeting = self.clients[index as usize].phase == Phase::Greeting;
        let why = if is_greeting {
            stranger(start).unwrap_or_else(|| format!("{error:?}"))
        } else {
            format!("{error:?}")
        };
        self.lose(index, now, Loss::Malformed(why));
    }

    fn on_other(&mut self, index: u32, now: u64, frame: &Frame<'_>) -> Result<(), Loss> {
        let version = self.version_of(index);
        let malformed = |error| Loss::Malformed(format!("{error:?}"));
        match frame.kind {
            PacketKind::Connack | PacketKind::Suback => self.on_greeting(index, now, frame),
            PacketKind::Puback | PacketKind::Pubrec | PacketKind::Pubcomp => {
                self.on_ack(index, now, frame)
            }
            PacketKind::Pubrel => {
                let ack = Ack::decode(frame, version, Direction::FromServer).map_err(malformed)?;
                self.on_pubrel(index, ack);
                Ok(())
            }
            PacketKind::Disconnect => {
                let bye =
                    Disconnect::decode(frame, version, Direction::FromServer).map_err(malformed)?;
                let why = format!("DISCONNECT {}", super::terms::reason_text(bye.reason));
                Err(Loss::Closed(why))
            }
            PacketKind::Pingresp => Ok(()),
            PacketKind::Connect
            | PacketKind::Publish
            | PacketKind::Subscribe
            | PacketKind::Unsubscribe
            | PacketKind::Unsuback
            | PacketKind::Pingreq
            | PacketKind::Auth => Err(Loss::Malformed(format!(
                "{:?} that was not asked for",
                frame.kind
            ))),
        }
    }

    fn on_pubrel(&mut self, index: u32, ack: Ack<'_>) {
        let id = ack.packet_id.get();
        if let Some(reader) = &mut self.clients[index as usize].reader
            && let Some(position) = reader.receipts.iter().position(|receipt| *receipt == id)
        {
            reader.receipts.remove(position);
            reader.unsettled += 1;
        }
        encode_pubcomp(self.out(index), ack.packet_id);
        self.mark_dirty(index);
    }

    #[inline]
    fn on_publish(&mut self, index: u32, now: u64, publish: BarePublish<'_>) {
        let client = &mut self.clients[index as usize];
        let group = usize::from(client.group);
        if let Some(id) = publish.packet_id {
            if client.out.capacity() == 0 {
                client.out = self.pool.pop().unwrap_or_default();
            }
            if publish.head.qos == QoS::AtLeastOnce {
                encode_puback(&mut client.out, id);
            } else {
                encode_pubrec(&mut client.out, id);
            }
            if !std::mem::replace(&mut client.dirty, true) {
                self.outbox.dirty.push(index);
            }
            if let Some(reader) = &mut client.reader {
                if publish.head.qos == QoS::ExactlyOnce {
                    // [MQTT-4.3.3-10] until PUBREL the same identifier is the same message.
                    if reader.receipts.contains(&id.get()) {
                        return;
                    }
                    reader.receipts.push_back(id.get());
                } else {
                    reader.unsettled += 1;
                }
                if let Some(maximum) = self.shared.plan.specs[group].receive_maximum {
                    self.check_receive_maximum(index, maximum);
                }
            }
        }
        if self.shared.plan.sys_group == Some(group) {
            self.on_sys(now, publish);
        } else {
            self.on_delivery(index, group, now, publish);
        }
    }

    /// [MQTT-3.3.4-9] Counted is what the broker cannot have taken as settled: acknowledgements
    /// that it has not been sent, and messages of QoS 2 that it has not released.
    fn check_receive_maximum(&mut self, index: u32, maximum: u16) {
        let reader = self.clients[index as usize].reader.as_deref();
        let underway = reader.map_or(0, |reader| {
            reader.receipts.len() + reader.unsettled as usize
        });
        if underway > usize::from(maximum) {
            self.meter.errors += 1;
            let name = self.name_of(index);
            self.troubles.add(BROKEN_RULE, || {
                format!(
                    "client {name}: {underway} messages at a time, with a Receive Maximum of \
                     {maximum}"
                )
            });
        }
    }

    #[inline]
    fn on_delivery(&mut self, index: u32, group: usize, now: u64, publish: BarePublish<'_>) {
        // At the end of a run its retained messages are removed: who is still there hears of that.
        if publish.payload.is_empty() && self.shared.stage() == Stage::End {
            return;
        }
        self.arrived_at = now;
        self.heard_at = now;
        self.outstanding_known = false;
        if let Some(storm) = &mut self.storm {
            storm.on_delivery(index, now);
        }
        let received = &mut self.meter.counts[group].received[publish.head.qos as usize];
        received.count += 1;
        received.bytes += publish.payload.len() as u64;
        match self.shared.payloads.read(publish.payload) {
            Content::Intact(header) => self.on_message(index, group, now, publish, header, true),
            Content::BodyCorrupt(header) => {
                self.on_message(index, group, now, publish, header, false)
            }
            Content::Corrupt | Content::Small => self.on_nameless(index, group, publish),
            Content::OtherRun => self.fault(group, publish.head.qos).foreign += 1,
        }
    }

    #[inline]
    fn on_message(
        &mut self,
        index: u32,
        group: usize,
        now: u64,
        publish: BarePublish<'_>,
        header: Header,
        intact: bool,
    ) {
        let plan = &self.shared.plan;
        let stream = header.stream;
        if stream as usize >= plan.streams.count() {
            self.fault(group, publish.head.qos).corrupt += 1;
            return;
        }
        let is_right = intact && plan.streams.topic(stream) == publish.topic;
        let slot = plan.streams.slot(stream);
        let spec = plan.sender(stream);
        let client = &self.clients[index as usize];
        let is_snapshot = publish.head.retain
            && spec.retain
            && may_be_snapshot(&self.shared, client, now, stream, header);
        let (arrival, excused) = arrive(client, index, &mut self.ledger, header, is_snapshot);
        let (what, in_order) = arrival;
        let settled = u64::from(what.passed() + excused);
        if settled > 0 {
            Fleet::credit(&mut self.credits, &mut self.credited, slot, settled);
        }
        let received = &mut self.meter.counts[group].received[publish.head.qos as usize];
        // [MQTT-3.3.1-9]
        received.ledger.wrong_retain += u64::from(publish.head.retain && !is_snapshot);
        if !is_right {
            received.ledger.corrupt += 1;
            self.meter.errors += 1;
        }
        if publish.head.qos != spec.qos.min(plan.specs[group].qos) {
            received.ledger.wrong_qos += 1;
        }
        match what {
            Arrival::Forward { .. } | Arrival::Late => {
                received.ledger.out_of_order += u64::from(!in_order);
            }
            Arrival::Excused => {}
            Arrival::Again => {
                // A subscription that is made again brings its retained messages again.
                if !is_snapshot {
                    received.ledger.duplicated += 1;
                    received.ledger.duplicated_marked += u64::from(publish.head.dup);
                }
                return;
            }
            Arrival::Misrouted => {
                received.ledger.misrouted += 1;
                self.meter.errors += 1;
                return;
            }
        }
        if is_snapshot {
            let since = now.saturating_sub(client.since) / 1000;
            self.meter.times[group].retained.record(since);
            return;
        }
        self.time(group, publish.head.qos, now, header);
    }

    #[inline]
    fn time(&mut self, group: usize, qos: QoS, now: u64, header: Header) {
        let uncorrected_us = elapsed_us(&self.shared, now, header.stamp_us);
        let lateness_us = header.lateness.micros();
        let intended = now.saturating_sub((uncorrected_us + lateness_us) * 1000);
        let in_window =
            intended >= self.shared.window_start() && intended < self.shared.window_end();
        let segment = match self.course.segments() {
            [] => Some(0),
            _ => {
                let after = intended.saturating_sub(self.shared.publish_at());
                let segment = self.course.segment_at(after, self.near);
                self.near = segment.unwrap_or(self.near);
                segment
            }
        };
        let place = segment.filter(|_| in_window).map(|segment| Place {
            segment,
            group: group as u16,
            qos: qos as u8,
        });
        let times = DeliveryTimes {
            uncorrected_us,
            lateness_us,
        };
        self.meter.record(place, times);
    }

    /// A payload that does not identify its message: too small, damaged, or not ours.
    #[cold]
    fn on_nameless(&mut self, index: u32, group: usize, publish: BarePublish<'_>) {
        let shared = self.shared.clone();
        let stream = shared.plan.streams.find(publish.topic);
        let Some(stream) = stream else {
            self.fault(group, publish.head.qos).foreign += 1;
            return;
        };
        let Some(reader) = self.clients[index as usize].reader.as_deref() else {
            return;
        };
        let is_small =
            reader.takes_small && publish.payload.len() < crate::payload::HEADER_SIZE as usize;
        let of_share = |share| {
            let is_own = reader.own.is_some_and(|own| self.ledger.reads(own, stream));
            (!is_own).then_some(share)
        };
        let target = reader.share.and_then(of_share).or(reader.own);
        let Some(target) = target.filter(|target| self.ledger.reads(*target, stream)) else {
            self.fault(group, publish.head.qos).misrouted += 1;
            return;
        };
        self.ledger.arrive_anonymous(target, publish.head.qos);
        let slot = shared.plan.streams.slot(stream);
        Fleet::credit(&mut self.credits, &mut self.credited, slot, 1);
        if is_small {
            self.fault(group, publish.head.qos).unchecked += 1;
        } else {
            self.fault(group, publish.head.qos).corrupt += 1;
            self.meter.errors += 1;
        }
    }

    fn fault(&mut self, group: usize, qos: QoS) -> &mut crate::report::Ledger {
        &mut self.meter.counts[group].received[qos as usize].ledger
    }
}

/// Properties have to be valid, and are none of those that CONNECT and SUBSCRIBE did not ask for.
#[inline]
fn check_properties(publish: BarePublish<'_>) -> Result<(), String> {
    if publish.section.is_empty() && !publish.topic.is_empty() {
        return Ok(());
    }
    let properties = publish.properties(Direction::FromServer);
    let properties = properties.map_err(|error| format!("{error:?}"))?;
    // [MQTT-3.1.2-27]
    if properties.topic_alias.is_some() {
        return Err("PUBLISH with a topic alias, and CONNECT permits none".to_owned());
    }
    match properties.subscription_ids.iter().next() {
        Some(_) => {
            Err("PUBLISH with a subscription identifier, and SUBSCRIBE gave none".to_owned())
        }
        None => Ok(()),
    }
}

/// With RETAIN comes what a subscription of the client's own brought: it was published before the
/// broker acknowledged that.
#[cold]
fn may_be_snapshot(
    shared: &Shared,
    client: &Client,
    now: u64,
    stream: u32,
    header: Header,
) -> bool {
    let Some(reader) = client.reader.as_deref() else {
        return false;
    };
    let elapsed_ns = elapsed_us(shared, now, header.stamp_us) * 1000;
    let is_older = now.saturating_sub(elapsed_ns) <= reader.subscribed_at;
    let planned = &shared.plan.groups[usize::from(client.group)];
    let reading = planned.readers.get(client.index as usize);
    let own = reading.and_then(|reading| reading.own.as_deref());
    is_older && own.is_some_and(|own| own.position(stream).is_some())
}

/// What answers CONNECT in another language, and what to do about it.
fn stranger(start: &[u8]) -> Option<String> {
    let answers = |beginning: &[u8]| start.starts_with(beginning);
    if answers(&TLS_ALERT) {
        return Some("an alert of TLS: this port speaks TLS; add --tls".to_owned());
    }
    if answers(b"HTTP/") {
        let what = "an answer of HTTP: this port speaks HTTP or MQTT over WebSockets";
        return Some(format!(
            "{what}; for the latter write --target ws://HOST:PORT/mqtt, or wss:// with TLS"
        ));
    }
    let text = start.split(|byte| *byte < b' ').next()?;
    let is_text = text.len() >= 4 && text.iter().all(u8::is_ascii);
    is_text.then(|| {
        let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN_SIZE_MAX)]);
        format!("`{shown}`, which is not MQTT; check the port of --target")
    })
}

/// Into the ledger: what the arrival is and whether it is in order, and how many older ones it
/// excuses.
#[inline]
fn arrive(
    client: &Client,
    index: u32,
    ledger: &mut crate::ledger::Ledger,
    header: Header,
    is_snapshot: bool,
) -> ((Arrival, bool), u32) {
    let Some(reader) = client.reader.as_deref() else {
        return ((Arrival::Misrouted, true), 0);
    };
    if let Some(own) = reader.own {
        let excused = if is_snapshot {
            ledger.excuse_below(own, header.stream, header.sequence)
        } else {
            0
        };
        match ledger.arrive(own, header.stream, header.sequence) {
            Arrival::Misrouted => {}
            arrival => return ((arrival, arrival != Arrival::Late), excused),
        }
    }
    let Some(share) = reader.share else {
        return ((Arrival::Misrouted, true), 0);
    };
    let arrival = ledger.arrive(share, header.stream, header.sequence);
    // Members of a shared subscription overtake each other; each for itself gets an order.
    let in_order = match arrival {
        Arrival::Forward { .. } | Arrival::Late | Arrival::Excused => {
            ledger.is_in_order(index, header.stream, header.sequence)
        }
        Arrival::Again | Arrival::Misrouted => true,
    };
    ((arrival, in_order), 0)
}

/// How a record with an alert begins; no packet that answers CONNECT does.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
/// Of an answer that is not MQTT, so much is shown.
const SHOWN_SIZE_MAX: usize = 40;
/// Trouble: the broker does what MQTT forbids, and the client can continue.
pub const BROKEN_RULE: &str = "rule of MQTT broken";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_in_another_language_is_named_with_what_to_do() {
        let http = stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        assert!(
            http.contains("speaks HTTP or MQTT over WebSockets"),
            "{http}"
        );
        assert!(http.contains("--target ws://HOST:PORT/mqtt"), "{http}");
        let tls = stranger(&TLS_ALERT).unwrap();
        assert!(tls.ends_with("add --tls"), "{tls}");
        let mail = stranger(b"220 mail.example ESMTP\r\n").unwrap();
        assert!(
            mail.starts_with("`220 mail.example ESMTP`, which is not MQTT"),
            "{mail}"
        );
        // A CONNACK is nobody else's language.
        assert_eq!(stranger(&[0x20, 2, 0, 0]), None);
    }
}
