//! Messages of other shards.

use super::Shard;
use super::deliver::{Dispatch, Offering};
use super::event::ShardMsg;
use super::gather::Passed;
use super::metrics::DropReason;
use super::outbox::Outbox;
use super::parcel::Piece;
use super::routes::CachedRoutes;
use super::share::Wish;
use crate::ids::ShardId;
use crate::message::MessageParts;
use crate::time::Instant;

impl Shard {
    pub(super) fn on_shard_msg(
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
            ShardMsg::Barrier { gather } => out.post(from, ShardMsg::BarrierAck { gather }),
            ShardMsg::BarrierAck { gather } => {
                let others = self.config.shards - 1;
                match self.dispatch.gathers.on_barrier_ack(gather, others) {
                    Passed::NotYet => {}
                    Passed::Again => self.post_barrier(gather, out),
                    Passed::Ask(filter) => self.ask_owners(now, gather, &filter, out),
                    Passed::Cleared(session) => self.dispatch.pump(now, session, out),
                }
            }
            ShardMsg::RetainedQuery { gather, filter } => {
                self.on_retained_query(now, from, gather, filter, out);
            }
            ShardMsg::RetainedReply {
                gather,
                messages,
                more,
            } => self.on_retained_reply(now, from, gather, messages, more, out),
            ShardMsg::RetainedMore { gather } => self.on_retained_more(now, from, gather, out),
            ShardMsg::RetainedStop { gather } => self.on_retained_stop(from, gather),
            ShardMsg::Share(share) => self.on_share(now, share, out),
            ShardMsg::Join {
                join,
                filter,
                session,
                since,
            } => self.on_join(from, join, &filter, session, since, out),
            ShardMsg::JoinAck { join } => self.on_join_ack(join, out),
            ShardMsg::Leave { filter, session } => {
                let member = Wish {
                    shard: from,
                    session,
                };
                self.dispatch.shares.leave_remote(&filter, member);
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
    pub(super) fn with_forward_routes(
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
