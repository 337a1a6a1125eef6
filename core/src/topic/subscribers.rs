//! The subscribers of one filter: one without any memory of its own, a few in a list, a million in
//! a list with a table beside it, so that no change scans them.

use hashbrown::HashTable;

use super::options::SubscriptionOptions;
use super::table::shrink;
use crate::ids::SessionId;

/// One subscription, seen from its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) session: SessionId,
    pub(super) options: SubscriptionOptions,
}

/// At least one subscriber; each session at most once.
pub(super) enum Subscribers {
    /// What nearly every filter of a large broker has.
    One(Subscriber),
    /// Two or more.
    Many(Box<Many>),
}

/// Two or more subscribers, in the order that removals leave.
///
/// Invariant: `positions` is empty, or holds the position of every entry of `list`.
#[derive(Default)]
pub(super) struct Many {
    list: Vec<Subscriber>,
    positions: HashTable<u32>,
}

impl Subscribers {
    pub(super) fn as_slice(&self) -> &[Subscriber] {
        match self {
            Subscribers::One(subscriber) => std::slice::from_ref(subscriber),
            Subscribers::Many(many) => &many.list,
        }
    }

    /// The subscriber, if there is only one.
    pub(super) fn only(&self) -> Option<Subscriber> {
        match self {
            Subscribers::One(subscriber) => Some(*subscriber),
            Subscribers::Many(_) => None,
        }
    }

    /// Panics if an invariant does not hold; walks all subscribers.
    pub(super) fn assert_invariants(&self) {
        match self {
            Subscribers::One(_) => {}
            Subscribers::Many(many) => many.assert_invariants(),
        }
    }

    /// Adds a subscriber, or replaces the options of its session and returns the former ones.
    /// The options of a session.
    pub(super) fn find(&self, session: SessionId) -> Option<SubscriptionOptions> {
        let subscriber = match self {
            Subscribers::One(only) => Some(only).filter(|only| only.session == session),
            Subscribers::Many(many) => many.position(session).map(|at| &many.list[at]),
        };
        subscriber.map(|subscriber| subscriber.options)
    }

    pub(super) fn insert(&mut self, subscriber: Subscriber) -> Option<SubscriptionOptions> {
        match self {
            Subscribers::One(only) if only.session == subscriber.session => {
                Some(std::mem::replace(&mut only.options, subscriber.options))
            }
            Subscribers::One(only) => {
                let mut many = Box::<Many>::default();
                many.list.push(*only);
                many.list.push(subscriber);
                *self = Subscribers::Many(many);
                None
            }
            Subscribers::Many(many) => many.insert(subscriber),
        }
    }

    /// Removes one of several subscribers.
    pub(super) fn remove(&mut self, session: SessionId) -> Option<SubscriptionOptions> {
        let Subscribers::Many(many) = self else {
            return None;
        };
        let removed = many.remove(session)?;
        if let [last] = many.list[..] {
            *self = Subscribers::One(last);
        }
        Some(removed)
    }
}

impl Many {
    fn insert(&mut self, subscriber: Subscriber) -> Option<SubscriptionOptions> {
        if let Some(position) = self.position(subscriber.session) {
            let options = &mut self.list[position].options;
            return Some(std::mem::replace(options, subscriber.options));
        }
        self.list.push(subscriber);
        if !self.positions.is_empty() {
            self.note(self.list.len() - 1);
        } else if self.list.len() > SCANNED_MAX {
            for position in 0..self.list.len() {
                self.note(position);
            }
        }
        None
    }

    fn remove(&mut self, session: SessionId) -> Option<SubscriptionOptions> {
        let position = self.position(session)?;
        if !self.positions.is_empty() {
            self.forget(position);
        }
        let removed = self.list.swap_remove(position);
        if self.list.len() <= SCANNED_MAX / 2 {
            self.positions = HashTable::new();
        }
        let list = &self.list;
        shrink(&mut self.positions, |position| {
            session_hash(list[*position as usize].session)
        });
        if self.list.len() < self.list.capacity() / 4 {
            self.list.shrink_to(self.list.len() * 2);
        }
        Some(removed.options)
    }

    fn assert_invariants(&self) {
        assert!(self.list.len() > 1, "a single subscriber needs no list");
        let is_listed = self.positions.is_empty() || self.positions.len() == self.list.len();
        assert!(is_listed, "all positions are noted, or none");
        for (position, subscriber) in self.list.iter().enumerate() {
            let found = self.position(subscriber.session);
            assert_eq!(found, Some(position), "a session stands here once");
        }
    }

    fn position(&self, session: SessionId) -> Option<usize> {
        if self.positions.is_empty() {
            return self.list.iter().position(|one| one.session == session);
        }
        let is_it = |position: &u32| self.list[*position as usize].session == session;
        self.positions
            .find(session_hash(session), is_it)
            .map(|position| *position as usize)
    }

    /// Enters the last position, or any while the table is being built.
    fn note(&mut self, position: usize) {
        let list = &self.list;
        let hash_of = |position: &u32| session_hash(list[*position as usize].session);
        let position = u32::try_from(position).expect("fewer than 2^32 sessions");
        self.positions
            .insert_unique(hash_of(&position), position, hash_of);
    }

    /// Drops a position, and moves the last entry of the list there, as `swap_remove` will.
    fn forget(&mut self, position: usize) {
        let last = self.list.len() - 1;
        for (from, to) in [(position, None), (last, Some(position))] {
            if to == Some(from) {
                continue;
            }
            let hash = session_hash(self.list[from].session);
            match self.positions.find_entry(hash, |at| *at as usize == from) {
                Ok(mut entry) => match to {
                    // A position fits, because every position of the list does.
                    Some(to) => *entry.get_mut() = to as u32,
                    None => _ = entry.remove(),
                },
                Err(_) => unreachable!("every session of the list has its position"),
            }
        }
    }
}

/// Slots are handed out by the shard, not chosen by clients: no key is needed.
fn session_hash(session: SessionId) -> u64 {
    let id = u64::from(session.generation) << 32 | u64::from(session.index);
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 32
}

/// Up to this many a scan is faster than a table: 16 entries are four cache lines.
const SCANNED_MAX: usize = 16;
