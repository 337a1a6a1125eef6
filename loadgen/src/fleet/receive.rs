//! What arrives: messages into the ledger and the meter, acknowledgements to whom they belong.

use ringmq_core::codec::{
    Ack, BarePublish, DecodeError, Direction, Disconnect, Frame, PacketKind, QoS, encode_puback,
    encode_pubcomp, encode_pubrec,
};

use super::client::Phase;
use super::life::Loss;
use super::publish::elapsed_us;
use super::{Client, Fleet};
use crate::ledger::Arrival;
use crate::meter::DeliveryTimes;
use crate::payload::{Content, Header};
use crate::shared::Stage;

impl Fleet {
    /// Takes in what a socket brought.
    pub fn on_bytes(&mut self, index: u32, now: u64, mut bytes: &[u8]) {
        let first = bytes.first_chunk().copied();
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
                Err(error) => return self.on_malformed(index, now, error, first),
            };
            // Nearly all are these: they are decoded and looked at without a detour.
            if frame.kind == PacketKind::Publish {
                let decoded = BarePublish::decode(&frame, version).and_then(check_properties);
                match decoded {
                    Ok(publish) => self.on_publish(index, now, publish),
                    Err(error) => return self.on_malformed(index, now, error, first),
                }
            } else if let Err(loss) = self.on_other(index, now, &frame) {
                return self.lose(index, now, loss);
            }
        }
        self.clients[index as usize].framer = framer;
    }

    /// The broker sent what no broker may send.
    #[cold]
    fn on_malformed(&mut self, index: u32, now: u64, error: DecodeError, first: Option<[u8; 2]>) {
        let is_greeting = self.clients[index as usize].phase == Phase::Greeting;
        let why = if is_greeting && first == Some(TLS_ALERT) {
            "an alert of TLS: this port takes TLS, add --tls".to_owned()
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
                let why = format!("DISCONNECT {}", super::greet::reason_text(bye.reason));
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
                "{:?} that nobody asked for",
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
            if publish.head.qos == QoS::ExactlyOnce
                && let Some(reader) = &mut client.reader
            {
                // [MQTT-4.3.3-10] until PUBREL the same identifier is the same message.
                if reader.receipts.contains(&id.get()) {
                    return;
                }
                reader.receipts.push_back(id.get());
            }
        }
        if self.shared.plan.sys_group == Some(group) {
            self.on_sys(now, publish);
        } else {
            self.on_delivery(index, group, now, publish);
        }
    }

    #[inline]
    fn on_delivery(&mut self, index: u32, group: usize, now: u64, publish: BarePublish<'_>) {
        // At the end of a run its retained messages are removed: who is still there hears of that.
        if publish.payload.is_empty() && self.shared.stage() == Stage::End {
            return;
        }
        self.arrived_at = now;
        self.outstanding_known = false;
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
        let is_snapshot = publish.head.retain && spec.retain;
        let client = &self.clients[index as usize];
        let arrival = arrive(client, index, &mut self.ledger, header, is_snapshot);
        let received = &mut self.meter.counts[group].received[publish.head.qos as usize];
        if !is_right {
            received.ledger.corrupt += 1;
            self.meter.errors += 1;
        }
        if publish.head.qos != spec.qos.min(plan.specs[group].qos) {
            received.ledger.wrong_qos += 1;
        }
        let (what, in_order) = arrival;
        match what {
            Arrival::Forward { passed } => {
                Fleet::credit(
                    &mut self.credits,
                    &mut self.credited,
                    slot,
                    u64::from(passed),
                );
                if !in_order {
                    received.ledger.out_of_order += 1;
                }
            }
            Arrival::Late => received.ledger.out_of_order += u64::from(!in_order),
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
        let times = DeliveryTimes {
            uncorrected_us,
            lateness_us,
        };
        self.meter.record(group, qos as u8, in_window, times);
    }

    /// A payload that does not say which message it is: too small, damaged, or not ours.
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

/// A PUBLISH with what its properties have to be; they say nothing that counts here.
#[inline]
fn check_properties(publish: BarePublish<'_>) -> Result<BarePublish<'_>, DecodeError> {
    if !publish.section.is_empty() || publish.topic.is_empty() {
        publish.properties(Direction::FromServer)?;
    }
    Ok(publish)
}

/// Into the ledger: what the arrival is, and whether it is in order.
#[inline]
fn arrive(
    client: &Client,
    index: u32,
    ledger: &mut crate::ledger::Ledger,
    header: Header,
    is_snapshot: bool,
) -> (Arrival, bool) {
    let Some(reader) = client.reader.as_deref() else {
        return (Arrival::Misrouted, true);
    };
    if let Some(own) = reader.own {
        if is_snapshot {
            ledger.excuse_below(own, header.stream, header.sequence);
        }
        match ledger.arrive(own, header.stream, header.sequence) {
            Arrival::Misrouted => {}
            arrival => return (arrival, arrival != Arrival::Late),
        }
    }
    let Some(share) = reader.share else {
        return (Arrival::Misrouted, true);
    };
    let arrival = ledger.arrive(share, header.stream, header.sequence);
    // Members of a shared subscription overtake each other; each for itself gets an order.
    let in_order = match arrival {
        Arrival::Forward { .. } | Arrival::Late | Arrival::Excused => {
            ledger.is_in_order(index, header.stream, header.sequence)
        }
        Arrival::Again | Arrival::Misrouted => true,
    };
    (arrival, in_order)
}

/// How a record with an alert begins; no packet that answers CONNECT does.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
