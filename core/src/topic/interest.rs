//! Which shards may have a subscriber for a topic; shared by all shards, without locks.

/// The interest table.
#[derive(Debug)]
pub struct InterestTable {}
