//! What the steps of the broker act on besides itself.

use ringmq_core::time::Instant;

use crate::link::{Link, LinkIndex};
use crate::rng::Rng;
use crate::trace::Trace;

/// What the broker's steps act on besides itself.
pub struct Surroundings<'a> {
    pub now: Instant,
    pub rng: &'a mut Rng,
    pub links: &'a mut Vec<Link>,
    pub trace: &'a mut Trace,
    pub notes: &'a mut Vec<Note>,
}

/// What the broker did that has to have a good reason.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// A shard closed this link.
    Closed(LinkIndex),
    /// A shard should have closed this link: its client was silent for too long.
    Overdue(LinkIndex),
    /// A shard was told that this link has ended.
    Ended(LinkIndex),
}
