//! A run of packets with one topic, from its publisher to the subscribers: what `on_publish.rs` and
//! `offer.rs` do for one message, done once for many.
//!
//! A subscriber gets the packets of a run as one piece if each of them would have reached it unchanged. A subscriber
//! that needs its own encoding (subscription identifiers, topic aliases, a small maximum packet size), or whose socket
//! is almost too slow, is served one message at a time, and so is everybody while the unsent bytes of the shard are at
//! their bound. A topic with a shared subscription has no runs. So what a client gets, and what is counted, is the same
//! as without runs.

use super::dispatch::{Dispatch, Outgoing};
use super::encodings::size_max;
use super::routes::CachedRoutes;
use crate::codec::{PublishRun, QoS};
use crate::ids::{ClientKey, SessionId};
use crate::message::MessageParts;
use crate::shard::Shard;
use crate::shard::mail::findings::Traffic;
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::trace::DeliveryStep;
use crate::shard::mail::turn::Turn;
use crate::shard::on_publish::PublishNote;
use crate::sizes::SizeCounts;
use crate::topic::Route;

impl Shard {
    /// Hands the messages of a run to everybody who wants them. False if each of its packets is to be looked
    /// at: nothing was done.
    pub(in crate::shard) fn on_run(
        &mut self,
        id: SessionId,
        run: &PublishRun<'_>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let hash = self.routes.hash(run.topic);
        let Ok(mut routes) = self.find_routes(run.topic, hash) else {
            return false;
        };
        // The choice of a member depends on what it got of the message before.
        let is_shared = !routes.groups.is_empty();
        if is_shared || routes.reserved || !self.may_publish(id, run.topic, &mut routes) {
            self.routes.put(hash, routes);
            return false;
        }
        self.dispatch.metrics.received_run(run);
        record_sizes(&mut self.dispatch.sizes, run);
        let traffic = Traffic {
            messages: u64::from(run.count),
            bytes: run.payload_bytes as u64,
        };
        self.routes.count(&mut routes, turn.now, traffic);
        let counted = (run.count, run.payload_bytes);
        let publisher = self.count_received(id, QoS::AtMostOnce, counted);
        self.note_topic(id, hash);
        let note = PublishNote {
            topic: run.topic,
            qos: QoS::AtMostOnce,
            retain: false,
            payload_size: run.payload_bytes,
            count: run.count,
            refused: None,
        };
        self.note_published(id, &note, turn.out);
        self.dispatch.deliver_run(publisher, run, &routes, turn);
        for shard in routes.shards.iter().filter(|&id| id != self.config.id) {
            self.dispatch.metrics.forwards_sent += u64::from(run.count);
            turn.out.forward_run(shard, publisher, run);
        }
        let of = routes.traced;
        self.routes.put(hash, routes);
        if self.dispatch.traces.is_some() {
            self.trace_run(id, run);
            self.trace_published(id, &note, of, run.payloads().next().unwrap_or_default());
        }
        true
    }

    /// Hands a run of a client of another shard to the subscribers of this one.
    pub(in crate::shard) fn on_forwarded_run(
        &mut self,
        publisher: ClientKey,
        run: &PublishRun<'_>,
        turn: &mut Turn<'_>,
    ) {
        self.with_forward_routes(run.topic, run.count, |dispatch, routes| {
            dispatch.deliver_run(publisher, run, routes, turn);
        });
    }
}

impl Dispatch {
    /// Hands the messages of a run to every subscriber of this shard.
    fn deliver_run(
        &mut self,
        publisher: ClientKey,
        run: &PublishRun<'_>,
        routes: &CachedRoutes,
        turn: &mut Turn<'_>,
    ) {
        let mut scratch = std::mem::take(&mut self.runs);
        scratch.encoded.clear();
        // Near the bound of all sockets the order decides who gets a message.
        let most = u64::from(size_max(run)) * routes.routes.len() as u64;
        let is_tight = self.pool.unsent.bytes + most > self.limits.total_unsent_bytes_max;
        for route in &routes.routes {
            let encoded = &mut scratch.encoded;
            if is_tight || !self.offer_run(publisher, run, route, routes, encoded, turn.out) {
                scratch.singly.push(*route);
            }
        }
        if !scratch.singly.is_empty() {
            for parts in messages(publisher, run) {
                let outgoing = &mut Outgoing::new(parts, turn.now);
                outgoing.traced = routes.traced;
                self.deliver_local(outgoing, &scratch.singly, &routes.ids, turn);
            }
        }
        scratch.singly.clear();
        scratch.singly.shrink_to(SINGLY_KEPT_MAX);
        self.runs = scratch;
    }

    /// Sends a run to one subscriber in one piece. False if it has to be served one message at a time.
    fn offer_run(
        &mut self,
        publisher: ClientKey,
        run: &PublishRun<'_>,
        route: &Route,
        routes: &CachedRoutes,
        encoded: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> bool {
        let session = self
            .sessions
            .get_mut(route.session())
            .expect("only live sessions have subscriptions");
        let ids = if session.key == publisher {
            match route.delivery_to_publisher(&routes.ids) {
                Some(granted) => granted.ids,
                None => return true, // [MQTT-3.8.3-3]
            }
        } else {
            route.delivery(&routes.ids).ids
        };
        if !ids.is_empty() || session.memberships.is_some() {
            return false;
        }
        let version = session.version;
        let Some(link) = &mut session.link else {
            return true; // Nothing of QoS 0 waits for a client that is away.
        };
        let packet_size_max = run.packet_size_max + PublishRun::GROWTH_MAX;
        if link.alias_out_max > 0
            || packet_size_max > link.packet_size_max as usize
            || link.unsent_bytes() + size_max(run) > self.limits.unsent_bytes_max
        {
            return false;
        }
        let bytes = if run.is_in(version) {
            run.bytes
        } else {
            if encoded.is_empty() {
                run.encode(version, encoded);
            }
            encoded
        };
        link.write_packets(&mut self.pool, &mut out.dirty, run.count, |buffer| {
            buffer.extend_from_slice(bytes);
        });
        link.counts.sent += u64::from(run.count);
        self.metrics.sent_run(run);
        let step = DeliveryStep::Sent(run.count);
        let what = (run.topic, QoS::AtMostOnce);
        self.trace_delivery(route.session(), routes.traced, what, step);
        true
    }
}

/// Counts the payloads of a run: mostly they are all of one size.
fn record_sizes(sizes: &mut SizeCounts, run: &PublishRun<'_>) {
    if run.packet_size_max * run.count as usize == run.bytes.len() {
        let size = run.payload_bytes / run.count as usize;
        return sizes.record(size, u64::from(run.count));
    }
    for payload in run.payloads() {
        sizes.record(payload.len(), 1);
    }
}

/// Routes for which room is kept.
const SINGLY_KEPT_MAX: usize = 1024;

/// The messages of a run.
fn messages<'a>(
    publisher: ClientKey,
    run: &PublishRun<'a>,
) -> impl Iterator<Item = MessageParts<'a>> {
    let topic = run.topic;
    run.payloads().map(move |payload| MessageParts {
        topic,
        properties: &[],
        payload,
        qos: QoS::AtMostOnce,
        retain: false,
        expires_at: None,
        publisher,
        author: None,
    })
}
