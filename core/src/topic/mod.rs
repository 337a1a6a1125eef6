//! Topic names and filters, and the indexes over them.
//!
//! Everything here is iterative, keyed against chosen collisions, and gives its memory back.
//!
//! - `name`, `filter`: parsed texts; code past them never checks again.
//! - `tree`: filters to values, over the `levels` it shares with `retained`, in a `table` that
//!   grows without a pause.
//! - `index`: filters to the sessions of one shard.
//! - `interest`: which shards may care; `share_hints`: which can take more of a shared
//!   subscription. They are the only state of the core that shards share.
//! - `retained`: the retained messages of one shard.

mod atomics;
mod filter;
mod hash;
mod index;
mod interest;
mod levels;
mod matching;
mod name;
mod options;
mod retained;
mod routes;
mod shard_set;
mod share_hints;
mod subscribers;
mod table;
#[cfg(test)]
mod testing;
mod tree;

pub use filter::TopicFilter;
pub use index::{Subscribed, SubscriptionIndex, Unsubscribed};
pub use interest::{Interest, InterestTable};
pub use matching::Matching;
pub use name::{TopicError, TopicLimits, TopicName};
pub use options::SubscriptionOptions;
pub use retained::{Cursor, PageSize, Replaced, RetainedFull, RetainedStore};
pub use routes::{Delivery, Route};
pub use shard_set::ShardSet;
pub use share_hints::{Hint, HintBucket, OwnHints, ShareHints};
pub use tree::FilterTree;
