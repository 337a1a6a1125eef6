//! Messages between shards.

use super::parcel::Parcel;
use crate::ids::{BarrierId, GatherId, JoinId, LogPosition, SessionId, TurnSeq};
use crate::message::Message;
use crate::origin::Exchange;
use crate::shard::sys::report::Report;
use crate::time::Instant;
use crate::topic::TopicFilter;
use std::sync::Arc;

/// Messages between shards. The kinds form a DAG: a handler of one kind posts only later kinds (or a
/// second `Barrier`, once; a `Share`, within a bound of hops), so that draining the inboxes ends. The
/// pages of retained messages are as many as there are, and a subscription has one question under way; a
/// `RetainedReply` leads to a `Barrier` if subscriptions have waited for it, once for each of them at most.
#[derive(Clone, Debug)]
pub enum ShardMsg {
    /// Publishes that the receiving shard may have subscribers for.
    Forwards(Parcel),
    /// One that suits no parcel; with its exchange, if it is to come once over any crash.
    Forward(Arc<Message>, Option<Arc<Exchange>>),
    /// A retained publish (or its deletion) for the shard that the topic belongs to; with its exchange.
    Retain(Arc<Message>, Option<Arc<Exchange>>),
    /// "Tell me once everything that you handled before this is on its way."
    Barrier {
        /// Names it at the asking shard.
        barrier: BarrierId,
    },
    /// Answer to `Barrier`.
    BarrierAck {
        /// As asked.
        barrier: BarrierId,
    },
    /// Asks for retained messages.
    RetainedQuery(Vec<Question>),
    /// Answers questions of `RetainedQuery`, perhaps not all of one.
    RetainedReply(Vec<Page>),
    /// No more pages are wanted for these.
    RetainedStop(Vec<GatherId>),
    /// A message for one member of a shared subscription.
    Share(Share),
    /// A session of the sending shard is a member of these groups from now on.
    Join {
        /// Names the SUBACK that waits at the sending shard.
        join: JoinId,
        /// With share names.
        filters: Arc<[Arc<TopicFilter>]>,
        /// The member.
        session: SessionId,
        /// When it joined.
        since: Instant,
    },
    /// Answer to `Join`: every message handled here after it sees the member.
    JoinAck {
        /// As told.
        join: JoinId,
    },
    /// A session of the sending shard is a member of these groups no more.
    Leave {
        /// With share names.
        filters: Arc<[TopicFilter]>,
        /// The former member.
        session: SessionId,
    },
    /// "Tell me once everything that I posted before this is durable": at the end of each turn that posted what
    /// the receiving shard may record. Posts nothing by itself but `Durable`.
    Mark {
        /// The turn that ends.
        turn: TurnSeq,
    },
    /// Everything that was posted in these turns is durable.
    Durable {
        /// The first and the last of them, turns of the shard that asked.
        turns: [TurnSeq; 2],
    },
    /// "Tell me once the receipts of what I have had from you are durable": a checkpoint is about to let go of the
    /// origins of that.
    ReceiptsWanted {
        /// Names the checkpoint at the asking shard.
        checkpoint: LogPosition,
    },
    /// Answer to `ReceiptsWanted`.
    ReceiptsDurable {
        /// As asked.
        checkpoint: LogPosition,
    },
    /// What a shard has counted and holds, for the sums of `$SYS`.
    Report(Box<Report>),
}

impl ShardMsg {
    /// The class that decides when the message may become visible.
    pub fn class(&self) -> MsgClass {
        match self {
            ShardMsg::Forwards(_) | ShardMsg::Forward(..) | ShardMsg::Share(_) => MsgClass::Forward,
            ShardMsg::Retain(..) => MsgClass::Retain,
            ShardMsg::Barrier { .. }
            | ShardMsg::BarrierAck { .. }
            | ShardMsg::RetainedQuery(_)
            | ShardMsg::RetainedReply(_)
            | ShardMsg::RetainedStop(_)
            | ShardMsg::Join { .. }
            | ShardMsg::JoinAck { .. }
            | ShardMsg::Leave { .. }
            | ShardMsg::Mark { .. }
            | ShardMsg::Durable { .. }
            | ShardMsg::ReceiptsWanted { .. }
            | ShardMsg::ReceiptsDurable { .. }
            | ShardMsg::Report(_) => MsgClass::Answer,
        }
    }

    /// What it takes up of an inbox.
    pub fn weight(&self) -> usize {
        match self {
            ShardMsg::Forwards(parcel) => parcel.len(),
            _ => 1,
        }
    }
}

/// A message on its way to one member of a shared subscription.
#[derive(Clone, Debug)]
pub struct Share {
    /// The message.
    pub message: Arc<Message>,
    /// If it is to come once over any crash.
    pub exchange: Option<Arc<Exchange>>,
    /// A mark follows it. One that is passed on without has none then either: if it had, what it led to would be waited for
    /// by an earlier mark of whoever gets it next, and two shards would wait for each other.
    pub may_be_recorded: bool,
    /// The group.
    pub filter: Arc<TopicFilter>,
    /// The member that was chosen; the receiving shard may know better.
    pub wish: SessionId,
    /// Shards that it went through.
    pub hops: u8,
}

/// Asks an owner of topics for a page of its retained messages.
#[derive(Clone, Debug)]
pub struct Question {
    /// Names the gather at the asking shard.
    pub gather: GatherId,
    /// For those that this filter, without share name, matches; `None`: for the page after the one before.
    pub filter: Option<Arc<TopicFilter>>,
}

/// A page of retained messages.
#[derive(Clone, Debug)]
pub struct Page {
    /// As asked.
    pub gather: GatherId,
    /// The messages.
    pub messages: Vec<Arc<Message>>,
    /// There are more to ask for.
    pub more: bool,
}

/// The order in which the messages of one turn have to become visible (see `gather.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MsgClass {
    /// First: live messages.
    Forward = 0,
    /// Second: retained messages.
    Retain = 1,
    /// Last: questions and answers.
    Answer = 2,
}

impl MsgClass {
    /// How many classes there are.
    pub const COUNT: usize = 3;
    /// In the order of becoming visible.
    pub const ALL: [MsgClass; MsgClass::COUNT] =
        [MsgClass::Forward, MsgClass::Retain, MsgClass::Answer];
}
