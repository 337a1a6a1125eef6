//! The sessions of one shard, by slot and by client identifier.
//!
//! Invariant: a slot is taken exactly when its index stands once in `by_client_id`.

use hashbrown::HashTable;

use super::{Link, Session};
use crate::home::Home;
use crate::ids::SessionId;

/// The table.
#[derive(Debug)]
pub struct Sessions {
    home: Home,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client_id: HashTable<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    session: Option<Box<Session>>,
}

impl Sessions {
    /// An empty table.
    pub fn new(home: Home) -> Sessions {
        Sessions {
            home,
            slots: Vec::new(),
            free: Vec::new(),
            by_client_id: HashTable::new(),
        }
    }

    /// The session of a client.
    pub fn find(&self, client_id: &str) -> Option<SessionId> {
        let key = self.home.client_key(client_id);
        let index = *self.by_client_id.find(key.0, |&index| {
            self.slots[index as usize]
                .session
                .as_ref()
                .is_some_and(|s| *s.client_id == *client_id)
        })?;
        Some(SessionId {
            index,
            generation: self.slots[index as usize].generation,
        })
    }

    /// Adds a session; its client has none yet.
    pub fn insert(&mut self, session: Session) -> SessionId {
        debug_assert!(
            self.find(&session.client_id).is_none(),
            "one session per client"
        );
        let key = session.key.0;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).expect("sessions_max fits four bytes");
                self.slots.push(Slot {
                    generation: 0,
                    session: None,
                });
                index
            }
        };
        let slot = &mut self.slots[index as usize];
        assert!(slot.session.is_none(), "a free slot holds no session");
        slot.session = Some(Box::new(session));
        let generation = slot.generation;
        let slots = &self.slots;
        self.by_client_id.insert_unique(key, index, |&other| {
            slots[other as usize]
                .session
                .as_ref()
                .expect("listed slots are taken")
                .key
                .0
        });
        SessionId { index, generation }
    }

    /// Takes a session out. Its id is stale from then on.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let session = slot.session.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        let entry = self
            .by_client_id
            .find_entry(session.key.0, |&index| index == id.index);
        entry.expect("a taken slot is listed").remove();
        self.free.push(id.index);
        if self.by_client_id.is_empty() {
            self.by_client_id = HashTable::new();
        }
        Some(*session)
    }

    /// The session of an id, if it still is.
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        let slot = self.slots.get(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.session.as_deref()
    }

    /// The session of an id, if it still is.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.session.as_deref_mut()
    }

    /// The connection of a session that the caller knows to be connected.
    pub fn link_mut(&mut self, id: SessionId) -> &mut Link {
        self.get_mut(id)
            .expect("the caller knows a live session")
            .link
            .as_mut()
            .expect("the caller knows a connected session")
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_client_id.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.by_client_id.is_empty()
    }

    /// The session of a slot, and whether there are slots behind it.
    pub fn at(&self, index: u32) -> (Option<SessionId>, bool) {
        let slot = self.slots.get(index as usize);
        let taken = slot.filter(|slot| slot.session.is_some());
        let id = taken.map(|slot| SessionId {
            index,
            generation: slot.generation,
        });
        (id, (index as usize + 1) < self.slots.len())
    }

    /// Panics if an invariant does not hold, of the table or of a session. Walks all: for tests and the
    /// simulator.
    pub fn assert_invariants(&self) {
        let mut listed = vec![0_u32; self.slots.len()];
        let free = self.free.iter();
        for &index in free.chain(self.by_client_id.iter()) {
            listed[index as usize] += 1;
        }
        assert!(
            listed.iter().all(|&count| count == 1),
            "a slot is free, or listed once"
        );
        for &index in &self.free {
            let slot = &self.slots[index as usize];
            assert!(slot.session.is_none(), "a free slot holds no session");
        }
        for (id, session) in self.iter() {
            assert_eq!(
                self.find(&session.client_id),
                Some(id),
                "a session is found by its client"
            );
            assert_eq!(session.key, self.home.client_key(&session.client_id));
            session.assert_invariants();
        }
    }

    /// All of them, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = SessionId {
                index: index as u32,
                generation: slot.generation,
            };
            Some((id, slot.session.as_deref()?))
        })
    }
}
