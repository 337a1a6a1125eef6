//! One group of a shared subscription: its members, their shards, and whose turn it is.
//!
//! Invariants:
//! - `rosters` is ordered by shard, and none is empty.
//! - a roster changes in the same way on every shard, in the order that its own shard sent: so the
//!   position of a member is the same everywhere once all has arrived.
//! - `locals` holds the members on this shard, like its roster.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::locals::{Local, Locals};
use crate::ids::{SessionId, ShardId};
use crate::limits::ShareStrategy;
use crate::session::Standing;
use crate::time::Instant;
use crate::topic::{HintBucket, ShardSet, TopicFilter};

/// A group: a share name and a filter.
#[derive(Debug)]
pub struct Group {
    /// Both, as written.
    pub filter: Arc<TopicFilter>,
    /// Where its hints stand.
    pub bucket: HintBucket,
    /// Its position among the groups of its filter.
    pub place: usize,
    /// The members of this shard.
    pub locals: Locals,
    rosters: Vec<Roster>,
    /// Counts what was given to the group here.
    turn: usize,
    /// Counts what was given to another member than the one that was wished.
    turn_local: usize,
    /// The members by age, if somebody is to ask for the eldest.
    elders: Option<BTreeSet<Elder>>,
}

/// The members of one shard.
#[derive(Debug)]
struct Roster {
    shard: ShardId,
    members: Vec<Member>,
    // No secret seed: slots are handed out by the shard.
    positions: HashMap<SessionId, u32, FixedState>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    session: SessionId,
    since: Instant,
}

/// Ordered by age; of the same age by shard and slot, so that all shards agree.
type Elder = (Instant, ShardId, SessionId);

/// The member that a message is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its home.
    pub shard: ShardId,
    /// Its session there.
    pub session: SessionId,
}

/// What a strategy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// Of the topic name, the same on all shards.
    pub topic: u64,
    /// Of the publisher, the same on all shards.
    pub publisher: u64,
    /// Of nothing.
    pub random: u64,
}

impl Group {
    /// Without members, the first group of its filter. It is asked for its eldest only if it
    /// `has_elders`.
    pub fn new(
        filter: Arc<TopicFilter>,
        bucket: HintBucket,
        turn: usize,
        has_elders: bool,
    ) -> Group {
        Group {
            filter,
            bucket,
            place: 0,
            locals: Locals::default(),
            rosters: Vec::new(),
            turn,
            turn_local: 0,
            elders: has_elders.then(BTreeSet::new),
        }
    }

    /// Nobody is in it on any shard.
    pub fn is_empty(&self) -> bool {
        self.rosters.is_empty()
    }

    /// The shards that have members.
    pub fn shards(&self) -> ShardSet {
        self.rosters
            .iter()
            .fold(ShardSet::EMPTY, |set, roster| set.with(roster.shard))
    }

    /// A session of a shard is in the group from now on. Nothing changes if it was before.
    pub fn join(&mut self, shard: ShardId, session: SessionId, since: Instant) {
        let at = match self
            .rosters
            .binary_search_by_key(&shard, |roster| roster.shard)
        {
            Ok(at) => at,
            Err(at) => {
                self.rosters.insert(at, Roster::new(shard));
                at
            }
        };
        if self.rosters[at].join(Member { session, since })
            && let Some(elders) = &mut self.elders
        {
            elders.insert((since, shard, session));
        }
    }

    /// A session is in the group no more.
    pub fn leave(&mut self, shard: ShardId, session: SessionId) {
        let Ok(at) = self
            .rosters
            .binary_search_by_key(&shard, |roster| roster.shard)
        else {
            return;
        };
        let Some(left) = self.rosters[at].leave(session) else {
            return;
        };
        if self.rosters[at].members.is_empty() {
            self.rosters.remove(at);
        }
        if let Some(elders) = &mut self.elders {
            let was_listed = elders.remove(&(left.since, shard, session));
            assert!(was_listed, "every member has an age");
        }
    }

    /// Chooses a member of the shards in `among`, at least one of which has members.
    pub fn choose(&mut self, strategy: ShareStrategy, marks: Marks, among: ShardSet) -> Wish {
        let count = self.count(among);
        assert!(count > 0, "there is somebody to choose");
        let steady = match strategy {
            ShareStrategy::RoundRobin | ShareStrategy::LeastInFlight => {
                self.turn = self.turn.wrapping_add(1);
                return self.member(self.turn % count, among);
            }
            ShareStrategy::Random => return self.member(marks.random as usize % count, among),
            ShareStrategy::Sticky => {
                let elders = self.elders.as_ref();
                if let Some(&(_, shard, session)) = elders.and_then(BTreeSet::first)
                    && among.contains(shard)
                {
                    return Wish { shard, session };
                }
                return self.member(0, among);
            }
            ShareStrategy::HashClient => marks.publisher,
            ShareStrategy::HashTopic => marks.topic,
        };
        // A member that is passed over keeps its share of the hashes: only that goes elsewhere.
        let everywhere = self.shards();
        let all_count = self.count(everywhere);
        let first = self.member((steady % all_count as u64) as usize, everywhere);
        if among.contains(first.shard) {
            first
        } else {
            self.member((steady % count as u64) as usize, among)
        }
    }

    /// A member of this shard for a message that wished for another one or for none: they take
    /// turns. `least` says how well it has to stand.
    pub fn substitute(&mut self, least: Standing) -> Option<Local> {
        let at = self.next_turn(least)?;
        Some(self.locals.at_least(least)[at].clone())
    }

    /// Whose turn it is, among the members of this shard that stand that well.
    pub fn next_turn(&mut self, least: Standing) -> Option<usize> {
        let count = self.locals.at_least(least).len();
        self.turn_local = self.turn_local.wrapping_add(1);
        (count > 0).then(|| self.turn_local % count)
    }

    /// A member of this shard stands that well, or better.
    pub fn has(&self, least: Standing) -> bool {
        !self.locals.at_least(least).is_empty()
    }

    /// Panics if an invariant does not hold, on this shard; walks all members.
    pub fn assert_invariants(&self, own: ShardId) {
        self.locals.assert_invariants();
        assert!(self.rosters.is_sorted_by_key(|roster| roster.shard));
        let mut members_count = 0;
        for roster in &self.rosters {
            assert!(!roster.members.is_empty(), "an empty roster is not kept");
            assert_eq!(roster.positions.len(), roster.members.len());
            for (position, member) in roster.members.iter().enumerate() {
                let noted = roster.positions.get(&member.session);
                assert_eq!(noted, Some(&(position as u32)), "a member knows its place");
                if let Some(elders) = &self.elders {
                    let elder = (member.since, roster.shard, member.session);
                    assert!(elders.contains(&elder), "every member has an age");
                }
            }
            members_count += roster.members.len();
        }
        if let Some(elders) = &self.elders {
            assert_eq!(elders.len(), members_count, "only members have an age");
        }
        let own_count = self.count(ShardSet::EMPTY.with(own));
        assert_eq!(
            own_count,
            self.locals.len(),
            "own members are in the roster"
        );
    }

    /// Members of some shards.
    pub fn count(&self, among: ShardSet) -> usize {
        self.rosters_of(among)
            .map(|roster| roster.members.len())
            .sum()
    }

    /// The member at a position, counted over the rosters of some shards.
    fn member(&self, mut position: usize, among: ShardSet) -> Wish {
        for roster in self.rosters_of(among) {
            match roster.members.get(position) {
                Some(member) => {
                    return Wish {
                        shard: roster.shard,
                        session: member.session,
                    };
                }
                None => position -= roster.members.len(),
            }
        }
        unreachable!("the caller counted the members");
    }

    fn rosters_of(&self, among: ShardSet) -> impl Iterator<Item = &Roster> {
        self.rosters
            .iter()
            .filter(move |roster| among.contains(roster.shard))
    }
}

impl Roster {
    fn new(shard: ShardId) -> Roster {
        Roster {
            shard,
            members: Vec::new(),
            positions: HashMap::default(),
        }
    }

    fn join(&mut self, member: Member) -> bool {
        if self.positions.contains_key(&member.session) {
            return false;
        }
        let position = u32::try_from(self.members.len()).expect("fewer than 2^32 sessions");
        self.positions.insert(member.session, position);
        self.members.push(member);
        true
    }

    fn leave(&mut self, session: SessionId) -> Option<Member> {
        let position = self.positions.remove(&session)?;
        let left = self.members.swap_remove(position as usize);
        if let Some(moved) = self.members.get(position as usize) {
            self.positions.insert(moved.session, position);
        }
        Some(left)
    }
}
