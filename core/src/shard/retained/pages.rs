//! Queries of gathers that this shard answers page by page.

use crate::ids::{GatherId, ShardId};
use crate::topic::{Cursor, TopicFilter};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Who asks, and for what.
pub(in crate::shard) type Asker = (ShardId, GatherId);

/// Topics looked at between two deadlines: half a millisecond, mostly cache misses.
pub(in crate::shard) const BUDGET: u32 = 8192;

/// What this shard owes to gathers, its own among them.
#[derive(Debug)]
pub struct Pages {
    pub(in crate::shard) cursors: HashMap<Asker, (Arc<TopicFilter>, Cursor), FixedState>,
    pub(in crate::shard) waiting: VecDeque<Asker>,
    /// Topics that may be looked at before the next `DeadlineReached`.
    pub(in crate::shard) budget: u32,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages {
            cursors: HashMap::default(),
            waiting: VecDeque::new(),
            budget: BUDGET,
        }
    }
}

impl Pages {
    /// Somebody stands in line.
    pub fn are_due(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Cursors that stand at a topic: not only asked for.
    pub fn placed_count(&self) -> usize {
        let is_placed = |(_, cursor): &&(_, Cursor)| !cursor.is_at_start();
        self.cursors.values().filter(is_placed).count()
    }

    /// Cursors that are open.
    pub fn len(&self) -> usize {
        self.cursors.len()
    }
}
