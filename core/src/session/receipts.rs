//! Incoming QoS 2: identifiers that were received and not yet released [MQTT-4.3.3-10].
//!
//! Invariant: an identifier is in here exactly from its PUBREC to its PUBCOMP.

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::ids::PacketId;

/// The identifiers.
#[derive(Debug, Default)]
pub struct Receipts {
    // No secret seed: at most 65,535 keys of two bytes cannot be made to collide usefully.
    ids: HashSet<u16, FixedState>,
}

impl Receipts {
    /// Notes an identifier. False if it was there: the message is a repetition.
    pub fn insert(&mut self, id: PacketId) -> bool {
        self.ids.insert(id.get())
    }

    /// Whether the identifier is noted.
    pub fn contains(&self, id: PacketId) -> bool {
        self.ids.contains(&id.get())
    }

    /// Forgets an identifier at PUBREL. False if it was not there.
    pub fn remove(&mut self, id: PacketId) -> bool {
        let removed = self.ids.remove(&id.get());
        if self.ids.is_empty() && self.ids.capacity() > KEPT_CAPACITY_MAX {
            self.ids = HashSet::default();
        }
        removed
    }

    /// Identifiers noted.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// None is noted.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// An empty set keeps room for this many identifiers: 3 bytes each.
const KEPT_CAPACITY_MAX: usize = 56;
