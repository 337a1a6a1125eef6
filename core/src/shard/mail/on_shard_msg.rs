//! Handles messages from other shards.

use super::message::{MsgClass, ShardMsg};
use super::parcel::Piece;
use super::turn::Turn;
use crate::ids::ShardId;
use crate::loss::DropReason;
use crate::message::MessageParts;
use crate::shard::Shard;
use crate::shard::delivery::dispatch::{Dispatch, Outgoing};
use crate::shard::delivery::routes::CachedRoutes;
use crate::shard::share::groups::Wish;

impl Shard {
    pub(in crate::shard) fn on_shard_msg(
        &mut self,
        from: ShardId,
        message: ShardMsg,
        turn: &mut Turn<'_>,
    ) {
        let may_record = message.class() < MsgClass::Answer;
        self.handle_message(from, message, turn);
        if may_record {
            self.dispatch.journal.note_done_for(from);
        }
    }

    fn handle_message(&mut self, from: ShardId, message: ShardMsg, turn: &mut Turn<'_>) {
        match message {
            ShardMsg::Forwards(parcel) => {
                self.dispatch.metrics.forwards_received += parcel.len() as u64;
                for piece in parcel.iter() {
                    match piece {
                        Piece::Message(parts) => {
                            self.on_forward(&mut Outgoing::new(parts, turn.now), turn);
                        }
                        Piece::Run(publisher, run) => {
                            self.on_forwarded_run(publisher, &run, turn);
                        }
                    }
                }
                turn.out.recycle(parcel);
            }
            ShardMsg::Forward(message, exchange) => {
                self.dispatch.metrics.forwards_received += 1;
                let mut outgoing = Outgoing::of(&message);
                outgoing.exchange = exchange;
                self.on_forward(&mut outgoing, turn);
            }
            ShardMsg::Retain(message, exchange) => {
                self.keep_retained(message, exchange.as_deref(), turn);
            }
            ShardMsg::Barrier { barrier } => turn.out.post(from, ShardMsg::BarrierAck { barrier }),
            ShardMsg::BarrierAck { barrier } => self.on_barrier_ack(barrier, turn),
            ShardMsg::RetainedQuery(questions) => {
                self.on_retained_query(from, questions, turn);
            }
            ShardMsg::RetainedReply(pages) => self.on_retained_reply(from, pages, turn),
            ShardMsg::RetainedStop(gathers) => self.on_retained_stop(from, &gathers),
            ShardMsg::Share(share) => self.on_share(share, turn),
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
                turn.out.post(from, ShardMsg::JoinAck { join });
            }
            ShardMsg::JoinAck { join } => self.on_join_ack(join, turn.out),
            ShardMsg::Leave { filters, session } => {
                let member = Wish {
                    shard: from,
                    session,
                };
                for filter in &*filters {
                    self.dispatch.shares.leave_remote(filter, member);
                }
            }
            ShardMsg::Mark { turn: upto } => self.on_mark(from, upto, turn),
            ShardMsg::Durable { turns } => self.on_durable(from, turns, turn),
            ShardMsg::ReceiptsWanted { checkpoint } => {
                self.dispatch.journal.on_receipts_wanted(from, checkpoint);
            }
            ShardMsg::ReceiptsDurable { checkpoint } => {
                self.checkpoints.on_receipts_durable(checkpoint);
            }
            ShardMsg::Report(report) => self.sys.note_report(from, *report),
        }
    }

    fn on_forward(&mut self, outgoing: &mut Outgoing<'_>, turn: &mut Turn<'_>) {
        let MessageParts {
            topic, expires_at, ..
        } = outgoing.parts;
        // It may have expired on its way here, or in a full inbox [MQTT-3.3.2-5].
        if expires_at.is_some_and(|at| at <= turn.now) {
            self.dispatch.note_drop(DropReason::Expired, topic, turn);
            return;
        }
        self.with_forward_routes(topic, 1, |dispatch, routes| {
            outgoing.traced = routes.traced;
            dispatch.deliver_local(outgoing, &routes.routes, &routes.ids, turn);
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
