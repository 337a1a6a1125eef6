//! Things for other shards, collected so that each shard gets them in one message.

use crate::ids::ShardId;

/// Things for shards, to be posted together.
pub(in crate::shard) struct ByShard<T>(Vec<Vec<T>>);

impl<T> Default for ByShard<T> {
    fn default() -> ByShard<T> {
        ByShard(Vec::new())
    }
}

impl<T> ByShard<T> {
    /// Those for one shard.
    pub(in crate::shard) fn of(&mut self, shard: ShardId) -> &mut Vec<T> {
        if self.0.len() <= shard.index() {
            self.0.resize_with(shard.index() + 1, Vec::new);
        }
        &mut self.0[shard.index()]
    }

    /// The shards for which there is something.
    pub(in crate::shard) fn into_iter(self) -> impl Iterator<Item = (ShardId, Vec<T>)> {
        let all = self.0.into_iter().enumerate();
        all.filter(|(_, things)| !things.is_empty())
            .map(|(index, things)| (ShardId::new(index), things))
    }
}
