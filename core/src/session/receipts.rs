//! Incoming QoS 2: identifiers that were received and not yet released [MQTT-4.3.3-10].
//!
//! Invariants:
//! - an identifier is in here exactly from its PUBREC to its PUBCOMP.
//! - `open` of them were received on this connection: each holds a unit of the broker's Receive
//!   Maximum, which begins afresh with each connection [MQTT-4.9.0-1].

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::ids::PacketId;
use crate::origin::Partial;

/// The identifiers.
#[derive(Debug, Default)]
pub struct Receipts {
    // No secret seed: at most 65,535 keys of two bytes cannot be made to collide usefully.
    ids: HashMap<u16, bool, FixedState>,
    open: u16,
    next_ticket: u64,
    /// What was under way in a crash, and has not been repeated.
    #[expect(clippy::box_collection, reason = "hardly any session has this")]
    partials: Option<Box<BTreeMap<PacketId, Partial>>>,
}

impl Receipts {
    /// None is noted. `next_ticket`: above all that were used before.
    pub fn restored(next_ticket: u64, partials: BTreeMap<PacketId, Partial>) -> Receipts {
        Receipts {
            next_ticket,
            partials: (!partials.is_empty()).then(|| Box::new(partials)),
            ..Receipts::default()
        }
    }

    /// A ticket for a message that goes to other shards.
    pub fn take_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket - 1
    }

    /// The one that comes next.
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// Messages that not all have.
    pub fn partials(&self) -> impl Iterator<Item = (PacketId, &Partial)> {
        self.partials
            .iter()
            .flat_map(|all| all.iter())
            .map(|(id, partial)| (*id, partial))
    }

    /// What is known of a message with this identifier that not all have.
    pub fn partial(&self, id: PacketId) -> Option<&Partial> {
        self.partials.as_ref()?.get(&id)
    }

    /// All have it, or its client has forgotten it. Gives its ticket, if it was partial.
    pub fn end_partial(&mut self, id: PacketId) -> Option<u64> {
        let partials = self.partials.as_mut()?;
        let ended = partials.remove(&id);
        if partials.is_empty() {
            self.partials = None;
        }
        ended.map(|partial| partial.ticket)
    }

    /// Notes an identifier, or that it came again on this connection. True if it is new.
    pub fn insert(&mut self, id: PacketId) -> bool {
        let before = self.ids.insert(id.get(), true);
        self.open += u16::from(before != Some(true));
        before.is_none()
    }

    /// The identifiers, in any order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> {
        self.ids.keys().filter_map(|&id| PacketId::new(id))
    }

    /// Whether the identifier is noted.
    pub fn contains(&self, id: PacketId) -> bool {
        self.ids.contains_key(&id.get())
    }

    /// Whether the identifier was received on this connection.
    pub fn is_open(&self, id: PacketId) -> bool {
        self.ids.get(&id.get()) == Some(&true)
    }

    /// Forgets an identifier at PUBREL. False if it was not there.
    pub fn remove(&mut self, id: PacketId) -> bool {
        let removed = self.ids.remove(&id.get());
        self.open -= u16::from(removed == Some(true));
        if self.ids.is_empty() && self.ids.capacity() > KEPT_CAPACITY_MAX {
            self.ids = HashMap::default();
        }
        removed.is_some()
    }

    /// The connection is gone. What the client forgot with it is no burden to it on the next one.
    pub fn rewind(&mut self) {
        self.open = 0;
        self.ids.values_mut().for_each(|is_open| *is_open = false);
    }

    /// Identifiers that were received on this connection.
    pub fn open(&self) -> usize {
        usize::from(self.open)
    }

    /// Identifiers noted.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// None is noted.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Panics if an invariant does not hold. Walks the identifiers: for tests and the simulator.
    pub fn assert_invariants(&self) {
        let open = self.ids.values().filter(|is_open| **is_open).count();
        assert_eq!(self.open(), open, "what was received here is counted");
        assert!(!self.ids.contains_key(&0), "no packet has the identifier 0");
        assert!(
            !self.is_empty() || self.ids.capacity() <= KEPT_CAPACITY_MAX,
            "an empty set holds little memory"
        );
    }
}

/// An empty set keeps room for this many identifiers: 5 bytes each.
const KEPT_CAPACITY_MAX: usize = 56;
