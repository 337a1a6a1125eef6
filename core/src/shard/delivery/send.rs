//! One message to one connection, as bytes.

use super::answer::{durable_first, may_wait, note_taken};
use super::dispatch::{DeliveryOptions, Dispatch, Matched, Outgoing};
use super::encodings::publish_parts;
use crate::codec;
use crate::codec::{PublishHead, PublishParts, QoS, Version};
use crate::connection::BufferPool;
use crate::ids::{DeliveryNo, PacketId, SessionId};
use crate::loss::DropReason;
use crate::message::Message;
use crate::session::{Delivery, Link, Resend, Session, Until};
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::trace::DeliveryStep;
use crate::shard::mail::turn::Turn;

/// A payload of this size or more is not copied to each subscriber but sent from where it is: a
/// gathering send costs more than a plain one, and at 16 KiB the copy costs more than that.
const SHARED_PAYLOAD_SIZE_MIN: usize = 16 * 1024;

impl Dispatch {
    /// Sends at once: the session is connected and has room.
    pub(in crate::shard) fn send(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        to: SessionId,
        options: DeliveryOptions<'_>,
        turn: &mut Turn<'_>,
    ) {
        let session = self.sessions.get_mut(to).expect("offer looked it up");
        let version = session.version;
        let parts = outgoing.parts;
        let link = session.link.as_ref().expect("offer saw a link");
        // A client with aliases gets an encoding of its own, which costs the message its copy.
        let is_plain = options.matched.ids().is_empty()
            && parts.payload.len() < SHARED_PAYLOAD_SIZE_MIN
            && link.alias_out_max == 0;
        if !is_plain {
            self.send_delivery(to, None, options.delivery(outgoing), turn);
            return;
        }
        let Session {
            link,
            window,
            queue,
            expiry,
            no: session_no,
            taken_in,
            ..
        } = session;
        let link = link.as_mut().expect("offer saw a link");
        let encoded = self.encodings.get(turn.now, version, options.qos, &parts);
        if encoded.bytes.len() > link.packet_size_max as usize {
            self.drop_for(to, DropReason::PacketTooLarge, parts.topic, turn);
            return;
        }
        let id = (options.qos > QoS::AtMostOnce).then(|| {
            // Whoever shares the subscription gets it if this session ends without having it.
            let is_kept = *expiry != crate::session::Expiry::WithConnection
                || matches!(options.matched, Matched::Shared(_));
            let kept = is_kept.then(|| options.delivery(outgoing));
            if is_kept {
                self.held.inflight_bytes += Message::size_of(&parts) as u64;
            }
            self.window_rooms.lend(window);
            let no = queue.take_number();
            note_taken(
                &mut self.journal,
                (*session_no, taken_in),
                no,
                (options.qos, options.retain),
                || options.matched.kept(),
            );
            window.push(turn.now, no, options.qos, kept)
        });
        self.metrics.sent(options.qos, parts.payload.len());
        link.counts.sent += 1;
        let wait = durable_first(&self.journal, *session_no, *taken_in, link, options.qos);
        let head = PublishHead {
            dup: false,
            qos: options.qos,
            retain: options.retain,
        };
        let encode = |buffer: &mut Vec<u8>| encoded.write(head, id, buffer);
        link.write_after(wait, &mut self.pool, &mut turn.out.dirty, encode);
        self.wait(to, wait);
        let what = (parts.topic, options.qos);
        self.trace_delivery(to, outgoing.traced, what, DeliveryStep::Sent(1));
    }

    /// Sends one delivery to a connected session with room, in its own encoding. Drops it, counted,
    /// if the client does not take packets of its size. `waited`: its number, if it was queued.
    pub fn send_delivery(
        &mut self,
        to: SessionId,
        waited: Option<DeliveryNo>,
        delivery: Delivery,
        turn: &mut Turn<'_>,
    ) {
        let session = self.sessions.get_mut(to).expect("the caller looked it up");
        let is_kept = session.outlives_connection() || delivery.share().is_some();
        let version = session.version;
        let link = session.link.as_mut().expect("the caller saw a link");
        let message_parts = delivery.message.parts();
        let parts = publish_parts(turn.now, &message_parts, delivery.subscription_ids());
        let may_wait = may_wait(session.no, delivery.qos);
        // [MQTT-3.1.2-25] Dropped as if it had been sent.
        let Some(parts) = link.admit(version, delivery.qos, may_wait, parts, &self.hasher) else {
            let topic = delivery.message.topic();
            self.drop_for(to, DropReason::PacketTooLarge, topic, turn);
            if let Some(no) = waited {
                self.note_settled(to, no);
            }
            return;
        };
        let mut id = None;
        if delivery.qos > QoS::AtMostOnce {
            if is_kept {
                self.held.inflight_bytes += delivery.message.size() as u64;
            }
            self.window_rooms.lend(&mut session.window);
            let no = waited.unwrap_or_else(|| {
                let no = session.queue.take_number();
                note_taken(
                    &mut self.journal,
                    (session.no, &mut session.taken_in),
                    no,
                    (delivery.qos, delivery.retain),
                    || delivery.matched.clone(),
                );
                no
            });
            let kept = is_kept.then(|| delivery.clone());
            id = Some(session.window.push(turn.now, no, delivery.qos, kept));
        }
        self.metrics
            .sent(delivery.qos, delivery.message.parts().payload.len());
        link.counts.sent += 1;
        let wait = durable_first(
            &self.journal,
            session.no,
            session.taken_in,
            link,
            delivery.qos,
        );
        let writer = PublishWriter {
            version,
            delivery: &delivery,
            parts,
            id,
            dup: false,
            wait,
        };
        writer.write(link, &mut self.pool, turn.out);
        self.wait(to, wait);
        self.trace_given(to, waited.is_some(), &delivery);
    }

    pub(in crate::shard) fn resend(&mut self, to: SessionId, resend: Resend, turn: &mut Turn<'_>) {
        match resend {
            Resend::Pubrel(id) => self.send_pubrel(to, id, turn.out),
            Resend::Publish(id, delivery)
                if delivery.rules != self.rules
                    && !self.may_receive(to, delivery.message.topic()) =>
            {
                self.give_up(to, id, &delivery, DropReason::Denied, turn);
            }
            Resend::Publish(id, delivery) => {
                let session = self.sessions.get_mut(to).expect("pump looked it up");
                let version = session.version;
                let link = session.link.as_mut().expect("pump saw a link");
                let message_parts = delivery.message.parts();
                let parts = publish_parts(turn.now, &message_parts, delivery.subscription_ids());
                let may_wait = may_wait(session.no, delivery.qos);
                let Some(parts) = link.admit(version, delivery.qos, may_wait, parts, &self.hasher)
                else {
                    self.give_up(to, id, &delivery, DropReason::PacketTooLarge, turn);
                    return;
                };
                self.metrics
                    .sent(delivery.qos, delivery.message.parts().payload.len());
                link.counts.sent += 1;
                let wait = durable_first(
                    &self.journal,
                    session.no,
                    session.taken_in,
                    link,
                    delivery.qos,
                );
                let writer = PublishWriter {
                    version,
                    delivery: &delivery,
                    parts,
                    id: Some(id),
                    dup: true,
                    wait,
                };
                writer.write(link, &mut self.pool, turn.out);
                self.wait(to, wait);
            }
        }
    }
}

/// One PUBLISH on its way to one client.
struct PublishWriter<'a> {
    version: Version,
    delivery: &'a Delivery,
    /// Of `delivery`, as the client takes them.
    parts: PublishParts<'a>,
    id: Option<PacketId>,
    dup: bool,
    /// What has to be durable first.
    wait: Option<Until>,
}

impl PublishWriter<'_> {
    fn write(&self, link: &mut Link, pool: &mut BufferPool, out: &mut Outbox) {
        let head = PublishHead {
            dup: self.dup,
            qos: self.delivery.qos,
            retain: self.delivery.retain,
        };
        let id = self.id.map_or(0, PacketId::get);
        let is_small = self.parts.payload.len() < SHARED_PAYLOAD_SIZE_MIN;
        if is_small || self.wait.is_some() || link.is_corked() {
            link.write_after(self.wait, pool, &mut out.dirty, |buffer| {
                codec::encode_publish(self.version, head, id, &self.parts, buffer);
            });
            return;
        }
        link.write(pool, &mut out.dirty, |buffer| {
            codec::encode_publish_without_payload(self.version, head, id, &self.parts, buffer);
        });
        let payload = self.delivery.message.payload();
        if link.egress.push_shared(payload, &mut pool.unsent) {
            out.dirty.push(link.conn);
        }
    }
}
