//! One turn of a shard: what every handler needs besides the shard's state.

use crate::shard::mail::outbox::Outbox;
use crate::time::Instant;

/// The time of the event at hand and the place for its effects.
pub struct Turn<'a> {
    /// The same for everything that the event sets off.
    pub now: Instant,
    /// Where the effects go.
    pub out: &'a mut Outbox,
}
