//! Handles messages from other shards.

use super::message::ShardMsg;
use super::outbox::Outbox;
use super::parcel::Piece;
use crate::ids::ShardId;
use crate::message::MessageParts;
use crate::shard::Shard;
use crate::shard::delivery::dispatch::{Dispatch, Offering};
use crate::shard::delivery::routes::CachedRoutes;
use crate::shard::share::groups::Wish;
use crate::shard::sys::metrics::DropReason;
use crate::time::Instant;

impl Shard {
    pub(in crate::shard) fn on_shard_msg(
        &mut self,
        now: Instant,
        from: ShardId,
        message: ShardMsg,
        out: &mut Outbox,
    ) {
        match message {
            ShardMsg::Forwards(parcel) => {
                self.dispatch.metrics.forwards_received += parcel.len() as u64;
                for piece in parcel.iter() {
                    match piece {
                        Piece::Message(parts) => {
                            self.on_forward(now, &mut Offering::new(parts), out);
                        }
                        Piece::Run(publisher, run) => {
                            self.on_forwarded_run(now, publisher, &run, out);
                        }
                    }
                }
                out.recycle(parcel);
            }
            ShardMsg::Forward(message) => {
                self.dispatch.metrics.forwards_received += 1;
                self.on_forward(now, &mut Offering::of(&message), out);
            }
            ShardMsg::Retain(message) => {
                self.keep_retained(now, message, out);
            }
            ShardMsg::Barrier { barrier } => out.post(from, ShardMsg::BarrierAck { barrier }),
            ShardMsg::BarrierAck { barrier } => self.on_barrier_ack(now, barrier, out),
            ShardMsg::RetainedQuery(questions) => {
                self.on_retained_query(now, from, questions, out);
            }
            ShardMsg::RetainedReply(pages) => self.on_retained_reply(now, from, pages, out),
            ShardMsg::RetainedStop(gathers) => self.on_retained_stop(from, &gathers),
            ShardMsg::Share(share) => self.on_share(now, share, out),
            ShardMsg::Join {
                join,
                filters,
                session,
                since,
            } => {
                let member = Wish {
                    shard: from,
                    session,
                };
                for filter in &*filters {
                    self.dispatch.shares.join_remote(filter, member, since);
                }
                out.post(from, ShardMsg::JoinAck { join });
            }
            ShardMsg::JoinAck { join } => self.on_join_ack(join, out),
            ShardMsg::Leave { filters, session } => {
                let member = Wish {
                    shard: from,
                    session,
                };
                for filter in &*filters {
                    self.dispatch.shares.leave_remote(filter, member);
                }
            }
            ShardMsg::Report(report) => self.sys.note_report(from, *report),
        }
    }

    fn on_forward(&mut self, now: Instant, offering: &mut Offering<'_>, out: &mut Outbox) {
        let MessageParts {
            topic, expires_at, ..
        } = offering.parts;
        // It may have expired on its way here, or in a full inbox [MQTT-3.3.2-5].
        if expires_at.is_some_and(|at| at <= now) {
            self.dispatch
                .note_drop(now, DropReason::Expired, topic, out);
            return;
        }
        self.with_forward_routes(topic, 1, |dispatch, routes| {
            dispatch.deliver_local(now, offering, &routes.routes, &routes.ids, out);
        });
    }

    /// Delivers messages of another shard on one topic, so many.
    pub(in crate::shard) fn with_forward_routes(
        &mut self,
        topic: &[u8],
        count: u32,
        deliver: impl FnOnce(&mut Dispatch, &CachedRoutes),
    ) {
        let hash = self.routes.hash(topic);
        let routes = self.find_routes(topic, hash);
        let routes = routes.expect("the publisher's shard checked the topic");
        if routes.routes.is_empty() {
            self.dispatch.metrics.forwards_useless += u64::from(count);
        }
        deliver(&mut self.dispatch, &routes);
        self.routes.put(hash, routes);
    }
}
