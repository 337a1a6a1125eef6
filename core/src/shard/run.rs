//! A run of packets with one topic, from its publisher to the subscribers: what `on_publish.rs` and
//! `deliver.rs` do for one message, done once for many.
//!
//! A subscriber gets the packets of a run as one piece, if it would have got each of them alone and with nothing
//! of its own in it. Those with subscription identifiers, topic aliases, a small maximum packet size or a
//! socket that is almost too slow get message by message. What anybody gets, and what is counted,
//! is the same as without runs.

use super::Shard;
use super::deliver::{Dispatch, Offering, is_slow_with};
use super::outbox::Outbox;
use super::routes::CachedRoutes;
use crate::codec::{PublishRun, QoS};
use crate::ids::{ClientKey, SessionId};
use crate::message::MessageParts;
use crate::time::Instant;
use crate::topic::Route;

/// What runs are worked on with.
#[derive(Debug, Default)]
pub struct RunScratch {
    /// The packets of the run at hand in the version that is not its publisher's. Empty: not encoded yet.
    encoded: Vec<u8>,
    /// Routes that get message by message.
    singly: Vec<Route>,
}

impl Shard {
    /// Hands the messages of a run to everybody who wants them. False if something is wrong with them:
    /// nothing was done, and each packet is to be looked at.
    pub(super) fn on_run(
        &mut self,
        now: Instant,
        id: SessionId,
        run: &PublishRun<'_>,
        out: &mut Outbox,
    ) -> bool {
        let hash = self.routes.hash(run.topic);
        let Ok(mut routes) = self.find_routes(run.topic, hash) else {
            return false;
        };
        if routes.reserved || !self.may_publish(id, run.topic, &mut routes) {
            self.routes.put(hash, routes);
            return false;
        }
        self.dispatch.metrics.received_run(run);
        let publisher = self.session(id).key;
        self.dispatch.deliver_run(now, publisher, run, &routes, out);
        if !routes.groups.is_empty() {
            for parts in messages(publisher, run) {
                self.dispatch.begin();
                let offering = &mut Offering::new(parts);
                for &group in &routes.groups {
                    self.dispatch.share_out(now, offering, group, hash, out);
                }
            }
        }
        for shard in routes.shards.iter().filter(|&id| id != self.config.id) {
            self.dispatch.metrics.forwards_sent += u64::from(run.count);
            out.forward_run(shard, publisher, run);
        }
        self.routes.put(hash, routes);
        true
    }

    /// Hands a run of a client of another shard to the subscribers of this one.
    pub(super) fn on_forwarded_run(
        &mut self,
        now: Instant,
        publisher: ClientKey,
        run: &PublishRun<'_>,
        out: &mut Outbox,
    ) {
        self.dispatch.metrics.forwards_received += u64::from(run.count);
        let hash = self.routes.hash(run.topic);
        let routes = self.find_routes(run.topic, hash);
        let routes = routes.expect("the publisher's shard checked the topic");
        if routes.routes.is_empty() {
            self.dispatch.metrics.forwards_useless += u64::from(run.count);
        }
        self.dispatch.deliver_run(now, publisher, run, &routes, out);
        self.routes.put(hash, routes);
    }
}

impl Dispatch {
    /// Hands the messages of a run to every subscriber of this shard.
    fn deliver_run(
        &mut self,
        now: Instant,
        publisher: ClientKey,
        run: &PublishRun<'_>,
        routes: &CachedRoutes,
        out: &mut Outbox,
    ) {
        let mut scratch = std::mem::take(&mut self.runs);
        scratch.encoded.clear();
        scratch.singly.clear();
        for route in &routes.routes {
            if !self.offer_run(publisher, run, route, routes, &mut scratch.encoded, out) {
                scratch.singly.push(*route);
            }
        }
        if !scratch.singly.is_empty() {
            for parts in messages(publisher, run) {
                self.begin();
                let offering = &mut Offering::new(parts);
                for route in &scratch.singly {
                    self.offer(now, offering, route, &routes.ids, out);
                }
            }
        }
        self.runs = scratch;
    }

    /// Sends a run to one subscriber in one piece. False if it has to get message by message.
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
        let ids = match session.key == publisher {
            false => route.delivery(&routes.ids).ids,
            true => match route.delivery_to_publisher(&routes.ids) {
                Some(terms) => terms.ids,
                None => return true, // [MQTT-3.8.3-3]
            },
        };
        if !ids.is_empty() || session.memberships.is_some() {
            return false;
        }
        let version = session.version;
        let Some(link) = &mut session.link else {
            return true; // Nothing of QoS 0 waits for a client that is away.
        };
        let size_max = run.packet_size_max + PublishRun::GROWTH_MAX;
        let room = run.bytes.len() + run.count as usize * PublishRun::GROWTH_MAX;
        if link.alias_out_max > 0
            || size_max > link.packet_size_max as usize
            || is_slow_with(room as u32, link, &self.pool, &self.limits)
        {
            return false;
        }
        let bytes = match run.is_in(version) {
            true => run.bytes,
            false => {
                if encoded.is_empty() {
                    run.encode(version, encoded);
                }
                encoded
            }
        };
        link.write_run(&mut self.pool, out, run.count, bytes);
        self.metrics.sent_run(run);
        true
    }
}

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
