//! A hash table that never stops the shard to grow.
//!
//! A plain table that doubles moves all its entries in one call: 30 ms at a million filters. This
//! one is cut into parts that grow one at a time, so that the worst call moves a 64th of it.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// What can stand in a [`Table`]: an entry that knows its hash without being hashed again.
pub(super) trait Hashed {
    /// Well spread over the low, the middle and the high bits.
    fn hash(&self) -> u64;
}

/// The table.
pub(super) struct Table<E> {
    parts: Box<[HashTable<E>]>,
    count: usize,
}

impl<E: Hashed> Table<E> {
    pub(super) fn new() -> Table<E> {
        Table {
            parts: (0..PARTS).map(|_| HashTable::new()).collect(),
            count: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&E) -> bool) -> Option<&E> {
        self.parts[part(hash)].find(hash, is_it)
    }

    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&E) -> bool) -> Option<&mut E> {
        self.parts[part(hash)].find_mut(hash, is_it)
    }

    /// The entry of a hash, made first if it is not there; and whether it was made.
    pub(super) fn find_or_insert(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&E) -> bool,
        make: impl FnOnce() -> E,
    ) -> (&mut E, bool) {
        match self.parts[part(hash)].entry(hash, is_it, E::hash) {
            Entry::Occupied(present) => (present.into_mut(), false),
            Entry::Vacant(place) => {
                self.count += 1;
                (place.insert(make()).into_mut(), true)
            }
        }
    }

    /// Adds an entry that is not there yet.
    pub(super) fn insert_unique(&mut self, entry: E) {
        let hash = entry.hash();
        self.parts[part(hash)].insert_unique(hash, entry, E::hash);
        self.count += 1;
    }

    pub(super) fn remove(&mut self, hash: u64, is_it: impl FnMut(&E) -> bool) -> Option<E> {
        let part = &mut self.parts[part(hash)];
        let (entry, _) = part.find_entry(hash, is_it).ok()?.remove();
        shrink(part, E::hash);
        self.count -= 1;
        Some(entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        self.parts.iter().flatten()
    }

    /// Panics if an invariant does not hold; walks all entries.
    pub(super) fn assert_invariants(&self) {
        let mut count = 0;
        for (index, entries) in self.parts.iter().enumerate() {
            count += entries.len();
            let is_here = |entry: &E| part(entry.hash()) == index;
            assert!(entries.iter().all(is_here), "an entry is in its part");
        }
        assert_eq!(count, self.count, "entries are counted as they come and go");
    }

    /// Entries that there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.parts.iter().map(HashTable::capacity).sum()
    }
}

/// Gives memory back when an eighth or less is in use, so that it costs a constant time per
/// removal.
pub(super) fn shrink<E>(table: &mut HashTable<E>, hash: impl Fn(&E) -> u64) {
    if table.is_empty() {
        *table = HashTable::new();
    } else if table.capacity() > KEPT && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2, hash);
    }
}

/// A hash for an entry that keeps 32 bits of it: the upper copy gives the tag of the entry, and the
/// lower one its position.
pub(super) fn widen(hash: u32) -> u64 {
    (u64::from(hash) << 32) | u64::from(hash)
}

/// The part of a hash. Its bits lie between those that the part uses itself: the low ones for the
/// position, the seven highest (of each half, if the hash was widened) for the tag.
fn part(hash: u64) -> usize {
    (hash >> 18) as usize % PARTS
}

/// 2 KiB of empty parts, and a part of a million entries grows in half a millisecond.
const PARTS: usize = 64;

/// Entries for which memory is not worth giving back.
const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    impl Hashed for u32 {
        fn hash(&self) -> u64 {
            widen(self.wrapping_mul(0x9E37_79B9))
        }
    }

    #[test]
    fn entries_come_and_go_in_any_number() {
        let mut table = Table::new();
        let find = |table: &Table<u32>, n: u32| table.find(n.hash(), |entry| *entry == n).copied();
        for round in 0..3 {
            for n in 0..100_000 {
                assert_eq!(find(&table, n), None);
                table.insert_unique(n);
                assert_eq!(find(&table, n), Some(n));
            }
            assert_eq!(table.len(), 100_000);
            // Balanced: the largest part is not much larger than the mean.
            let largest = table.parts.iter().map(HashTable::len).max().unwrap();
            assert!(largest < 2 * 100_000 / PARTS, "round {round}: {largest}");
            for n in 0..99_900 {
                assert_eq!(table.remove(n.hash(), |entry| *entry == n), Some(n));
                assert_eq!(table.remove(n.hash(), |entry| *entry == n), None);
            }
            assert!(table.capacity() <= PARTS * (KEPT + 16));
            assert!((99_900..100_000).all(|n| find(&table, n).is_some()));
            for n in 99_900..100_000 {
                table.remove(n.hash(), |entry| *entry == n);
            }
            assert_eq!((table.len(), table.capacity()), (0, 0));
        }
    }
}
