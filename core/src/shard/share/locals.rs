//! The members of one group on this shard, ordered by how well they can take a message.
//!
//! Invariants:
//! - `members` are ordered by standing, best first: those with at least [`BORDERS`]`[i]` are
//!   `members[..ends[i]]`.
//! - `positions` holds the position of every entry of `members`.

use crate::session::Standing;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::codec::QoS;
use crate::ids::SessionId;
use crate::session::KeptMatch;

/// A member of this shard.
#[derive(Clone, Debug)]
pub struct Local {
    pub session: SessionId,
    /// Granted maximum QoS.
    pub qos: QoS,
    /// Keep the RETAIN flag of the PUBLISH.
    pub retain_as_published: bool,
    /// The group, and the subscription identifier.
    pub matched: Arc<KeptMatch>,
}

/// All members of this shard.
#[derive(Debug, Default)]
pub struct Locals {
    members: Vec<Local>,
    // No secret seed: slots are handed out by the shard.
    positions: HashMap<SessionId, u32, FixedState>,
    ends: [usize; BORDERS.len()],
}

/// The standings above the lowest, from the best on.
const BORDERS: [Standing; 3] = [Standing::Ready, Standing::Online, Standing::Away];

impl Locals {
    /// Adds a member; it is full until `set` says otherwise. Replaces the terms of one that is
    /// here.
    pub fn insert(&mut self, local: Local) {
        if let Some(position) = self.position(local.session) {
            self.members[position] = local;
            return;
        }
        let position = u32::try_from(self.members.len()).expect("fewer than 2^32 sessions");
        self.positions.insert(local.session, position);
        self.members.push(local);
    }

    /// Takes a member out. False if there was none.
    pub fn remove(&mut self, session: SessionId) -> bool {
        if self.position(session).is_none() {
            return false;
        }
        self.set(session, Standing::Full);
        let position = self.position(session).expect("just seen");
        self.positions.remove(&session);
        self.members.swap_remove(position);
        if let Some(moved) = self.members.get(position) {
            self.positions.insert(moved.session, position as u32);
        }
        true
    }

    /// Notes how well a member can take messages.
    pub fn set(&mut self, session: SessionId, standing: Standing) {
        let position = self
            .position(session)
            .expect("only members have a standing");
        let (former, part) = (self.part_at(position), standing.part());
        let mut at = position;
        // One step at a time: each is a swap at the border between two parts.
        for border in former..part {
            self.ends[border] -= 1;
            at = self.exchange(at, self.ends[border]);
        }
        for border in (part..former).rev() {
            at = self.exchange(at, self.ends[border]);
            self.ends[border] += 1;
        }
    }

    /// A member, and how well it can take a message.
    pub fn get(&self, session: SessionId) -> Option<(&Local, Standing)> {
        let position = self.position(session)?;
        let standing = BORDERS.get(self.part_at(position)).copied();
        Some((&self.members[position], standing.unwrap_or(Standing::Full)))
    }

    /// Members that stand that well, or better.
    pub fn at_least(&self, least: Standing) -> &[Local] {
        &self.members[..self
            .ends
            .get(least.part())
            .copied()
            .unwrap_or(self.members.len())]
    }

    /// Members of this shard.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Panics if an invariant does not hold; walks all members.
    pub fn assert_invariants(&self) {
        assert!(self.ends.is_sorted(), "the better ones come first");
        assert!(self.ends.iter().all(|&end| end <= self.members.len()));
        assert_eq!(self.positions.len(), self.members.len());
        for (position, member) in self.members.iter().enumerate() {
            let found = self.position(member.session);
            assert_eq!(found, Some(position), "a session is a member once");
        }
    }

    fn position(&self, session: SessionId) -> Option<usize> {
        self.positions.get(&session).map(|&at| at as usize)
    }

    fn part_at(&self, position: usize) -> usize {
        self.ends.iter().filter(|end| **end <= position).count()
    }

    /// Lets two members change places; gives the place of the first one.
    fn exchange(&mut self, one: usize, other: usize) -> usize {
        if one != other {
            self.members.swap(one, other);
            for position in [one, other] {
                self.positions
                    .insert(self.members[position].session, position as u32);
            }
        }
        other
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn members_are_partitioned_as_in_a_list_of_standings() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut below = |end: u64| random.u64(..end);
            let mut locals = Locals::default();
            let mut model: BTreeMap<SessionId, (QoS, Standing)> = BTreeMap::new();
            for _ in 0..1000 {
                let session = SessionId {
                    index: below(12) as u32,
                    generation: 0,
                };
                let standing = STANDINGS[below(4) as usize];
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][below(2) as usize];
                match below(4) {
                    0 => {
                        locals.insert(local(session, qos));
                        model.entry(session).or_insert((qos, Standing::Full)).0 = qos;
                    }
                    1 => assert_eq!(locals.remove(session), model.remove(&session).is_some()),
                    _ => {
                        if let Some(known) = model.get_mut(&session) {
                            known.1 = standing;
                            locals.set(session, standing);
                        }
                    }
                }
                check(&locals, &model, seed);
            }
        }
    }

    fn check(locals: &Locals, model: &BTreeMap<SessionId, (QoS, Standing)>, seed: u64) {
        for (&session, &(qos, standing)) in model {
            let found = locals.get(session).map(|(local, at)| (local.qos, at));
            assert_eq!(found, Some((qos, standing)), "seed {seed}");
        }
        for least in STANDINGS {
            let part = locals.at_least(least);
            let mut found: Vec<SessionId> = part.iter().map(|local| local.session).collect();
            found.sort_unstable();
            let wanted = model.iter().filter(|(_, (_, standing))| *standing >= least);
            assert!(
                found.iter().eq(wanted.map(|(session, _)| session)),
                "seed {seed}"
            );
        }
        assert_eq!(locals.positions.len(), model.len());
    }

    const STANDINGS: [Standing; 4] = [
        Standing::Full,
        Standing::Away,
        Standing::Online,
        Standing::Ready,
    ];

    fn local(session: SessionId, qos: QoS) -> Local {
        Local {
            session,
            qos,
            retain_as_published: false,
            matched: Arc::default(),
        }
    }
}
