//! A sample of something that was lost or refused.

use crate::refusal::Refusal;
use crate::shard::sys::metrics::DropReason;
use std::net::SocketAddr;

/// One case, and how many it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What happened.
    pub loss: Loss,
    /// To which client: of a dropped message the subscriber. Empty if it is not known.
    pub client: Box<str>,
    /// The topic or filter, cut at [`TOPIC_SIZE_MAX`] bytes; empty if it is not about one.
    pub topic: Box<[u8]>,
    /// Where the client is, for connections that were not let in.
    pub peer: Option<SocketAddr>,
    /// Cases since the last record of this reason, this one included.
    pub count: u64,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A message did not reach a subscriber.
    Dropped(DropReason),
    /// Something that a client wanted was refused.
    Refused(Refusal),
}

impl Loss {
    pub(in crate::shard) const COUNT: usize = DropReason::COUNT + Refusal::COUNT;

    pub(in crate::shard) fn all() -> impl Iterator<Item = Loss> {
        let dropped = DropReason::ALL.into_iter().map(Loss::Dropped);
        dropped.chain(Refusal::ALL.into_iter().map(Loss::Refused))
    }

    pub(in crate::shard) fn index(self) -> usize {
        match self {
            Loss::Dropped(reason) => reason as usize,
            Loss::Refused(refusal) => DropReason::COUNT + refusal as usize,
        }
    }

    /// The name of the reason.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Dropped(reason) => reason.name(),
            Loss::Refused(refusal) => refusal.name(),
        }
    }
}
