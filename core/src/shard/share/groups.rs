//! Shared subscriptions: the groups, and which member gets a message [MQTT 5.0, 4.8.2].
//!
//! Every shard knows all groups and their members: a member's home tells the others with `Join` and
//! `Leave`, and SUBACK waits until all have confirmed. The publisher's shard chooses the member, so
//! exactly one place decides and no group has a bottleneck. What it knows about other shards may be
//! out of date: the home of the chosen member gives the message to another member if that one is
//! gone, and skips a member that is out of quota, slow, offline or full as long as there is a
//! better one, here or, according to the hints, elsewhere.
//!
//! Invariants:
//! - a group is here exactly while it has a member on some shard.
//! - a hint of this shard is set exactly while one of its groups in that bucket has such a member.
//! - `generation` changes when a group is created or removed; routes do not depend on its members.
//!
//! Not here: what a handler does with the choice (`on_share.rs`).

#[cfg(test)]
mod tests;

use crate::ids::GroupId;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

pub use super::group::Wish;
pub use super::locals::Local;
pub use crate::session::Standing;

use super::group::{Group, Marks};

use crate::ids::{ClientKey, SessionId, ShardId};
use crate::limits::ShareStrategy;
use crate::time::Instant;
use crate::topic::{
    FilterTree, Hint, InterestTable, OwnHints, ShardSet, SubscriptionOptions, TopicFilter,
    TopicName,
};

/// Where a message of a group goes.
#[derive(Clone, Debug)]
pub enum ShareTarget {
    /// To a member of this shard, whose client is there.
    Here(Local),
    /// To a member of this shard whose client is away, or for which no more may wait: there is
    /// nobody better on any shard.
    Away(Local),
    /// To a member of another shard.
    There(Wish),
    /// There is no member left.
    Nowhere,
}

/// The groups, as one shard knows them.
#[derive(Debug)]
pub struct Shares {
    own: ShardId,
    strategy: ShareStrategy,
    interest: Arc<InterestTable>,
    hints: OwnHints,
    groups: Vec<Option<Box<Group>>>,
    free: Vec<u32>,
    by_filter: HashMap<Arc<TopicFilter>, GroupId, FixedState>,
    /// The groups of each filter, without the share names.
    by_pattern: FilterTree<Vec<GroupId>>,
    generation: u64,
    /// Memberships of this shard's sessions.
    local_count: usize,
    random: fastrand::Rng,
}

impl Shares {
    /// No groups. `seed` keys hashes and has to be a secret.
    pub fn new(
        own: ShardId,
        strategy: ShareStrategy,
        interest: Arc<InterestTable>,
        seed: u64,
    ) -> Shares {
        Shares {
            own,
            strategy,
            interest,
            hints: OwnHints::new(own),
            groups: Vec::new(),
            free: Vec::new(),
            by_filter: HashMap::with_hasher(FixedState::with_seed(seed)),
            by_pattern: FilterTree::new(seed),
            generation: 0,
            local_count: 0,
            random: fastrand::Rng::with_seed(seed ^ own.index() as u64),
        }
    }

    /// Adds a member of this shard, or changes its terms. It counts as full until
    /// [`Shares::set_standing`] says otherwise.
    pub fn join_local(&mut self, filter: &Arc<TopicFilter>, local: Local, now: Instant) -> GroupId {
        let id = self.find_or_add(filter);
        let own = self.own;
        let group = self.group_mut(id);
        let is_new = group.locals.get(local.session).is_none();
        group.join(own, local.session, now);
        group.locals.insert(local);
        self.local_count += usize::from(is_new);
        id
    }

    /// Takes a member of this shard out.
    pub fn leave_local(&mut self, filter: &TopicFilter, session: SessionId) -> Option<GroupId> {
        let id = self.find(filter)?;
        self.group_mut(id).locals.get(session)?;
        self.set_standing(id, session, Standing::Full);
        let own = self.own;
        let group = self.group_mut(id);
        group.locals.remove(session);
        group.leave(own, session);
        self.local_count -= 1;
        self.drop_if_empty(id);
        Some(id)
    }

    /// The terms of a member of this shard.
    pub fn options(&self, filter: &TopicFilter, session: SessionId) -> Option<SubscriptionOptions> {
        let group = self.groups[self.find(filter)?.0 as usize].as_deref()?;
        let (local, _) = group.locals.get(session)?;
        Some(SubscriptionOptions {
            qos: local.qos,
            no_local: false, // [MQTT-3.8.3-4]
            retain_as_published: local.retain_as_published,
            subscription_id: local.matched.subscription_ids.first().copied(),
        })
    }

    /// Another shard has a member.
    pub fn join_remote(&mut self, filter: &Arc<TopicFilter>, wish: Wish, since: Instant) {
        let id = self.find_or_add(filter);
        self.group_mut(id).join(wish.shard, wish.session, since);
    }

    /// Another shard has lost a member.
    pub fn leave_remote(&mut self, filter: &TopicFilter, wish: Wish) {
        if let Some(id) = self.find(filter) {
            self.group_mut(id).leave(wish.shard, wish.session);
            self.drop_if_empty(id);
        }
    }

    /// Notes how well a member of this shard can take messages.
    pub fn set_standing(&mut self, id: GroupId, session: SessionId, standing: Standing) {
        let group = self.groups[id.0 as usize]
            .as_deref_mut()
            .expect("a member knows its groups");
        let before = BETTER.map(|(least, _)| group.has(least));
        group.locals.set(session, standing);
        let after = BETTER.map(|(least, _)| group.has(least));
        for (at, (_, hint)) in BETTER.into_iter().enumerate() {
            if before[at] != after[at] {
                let hints = self.interest.share_hints();
                self.hints.say(hints, group.bucket, hint, after[at]);
            }
        }
    }

    /// The groups that want a topic. Replaces what is in `found`.
    pub fn groups_for(&self, topic: TopicName<'_>, found: &mut Vec<GroupId>) {
        found.clear();
        if !self.by_filter.is_empty() {
            self.by_pattern
                .visit(topic, |groups| found.extend_from_slice(groups));
        }
    }

    /// The group of a share name and filter.
    pub fn find(&self, filter: &TopicFilter) -> Option<GroupId> {
        self.by_filter.get(filter).copied()
    }

    /// Share name and filter of a group.
    pub fn filter(&self, id: GroupId) -> &Arc<TopicFilter> {
        let group = self.groups[id.0 as usize].as_deref();
        &group.expect("routes name live groups").filter
    }

    /// The members of this shard, and how many there are on all of them.
    pub fn members(&self, id: GroupId) -> (&[Local], usize) {
        let group = self.groups[id.0 as usize].as_deref();
        let group = group.expect("routes name live groups");
        let locals = group.locals.at_least(Standing::Full);
        (locals, group.count(group.shards()))
    }

    /// How well a member of this shard can take a message.
    pub fn standing(&self, id: GroupId, session: SessionId) -> Option<Standing> {
        let group = self.groups[id.0 as usize].as_deref()?;
        group.locals.get(session).map(|(_, standing)| standing)
    }

    /// Chooses the member that a message is meant for.
    pub fn choose(&mut self, id: GroupId, topic_hash: u64, publisher: ClientKey) -> Wish {
        let marks = Marks {
            topic: topic_hash,
            publisher: publisher.0,
            random: match self.strategy {
                ShareStrategy::Random => self.random.u64(..),
                ShareStrategy::RoundRobin
                | ShareStrategy::Sticky
                | ShareStrategy::HashClient
                | ShareStrategy::HashTopic
                | ShareStrategy::LeastInFlight => 0,
            },
        };
        let strategy = self.strategy;
        let among = self.best_shards(id);
        self.group_mut(id).choose(strategy, marks, among)
    }

    /// Whether a member lives on this shard.
    pub fn is_own(&self, wish: Wish) -> bool {
        wish.shard == self.own
    }

    /// Where a message goes that has come to this shard, through `hops` others. `inflight` tells
    /// how many messages a session of this shard has in flight.
    pub fn place(
        &mut self,
        id: GroupId,
        wish: Option<SessionId>,
        hops: u8,
        inflight: impl Fn(SessionId) -> usize,
    ) -> ShareTarget {
        let strategy = self.strategy;
        let group = self.group_mut(id);
        if strategy == ShareStrategy::LeastInFlight
            && let Some(least) = least_loaded(group, inflight)
        {
            return ShareTarget::Here(least);
        }
        let wished = wish.and_then(|session| {
            let (local, standing) = group.locals.get(session)?;
            Some((local.clone(), standing))
        });
        for (least, hint) in BETTER {
            let place = match least {
                Standing::Ready | Standing::Online => ShareTarget::Here,
                Standing::Away | Standing::Full => ShareTarget::Away,
            };
            if let Some((local, standing)) = &wished
                && *standing >= least
            {
                return place(local.clone());
            }
            let group = self.group_mut(id);
            if let Some(local) = group.substitute(least) {
                return place(local);
            }
            let there = self.others_with(id, hint);
            if hops < HOPS_FOR_BETTER_MAX && !there.is_empty() {
                return ShareTarget::There(self.any_of(id, there));
            }
        }
        if let Some((local, _)) = wished {
            return ShareTarget::Away(local);
        }
        let group = self.group_mut(id);
        if let Some(local) = group.substitute(Standing::Full) {
            return ShareTarget::Away(local);
        }
        let there = group.shards();
        if hops < HOPS_MAX {
            ShareTarget::There(self.any_of(id, there))
        } else {
            ShareTarget::Nowhere
        }
    }

    /// Changes whenever a group comes or goes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Memberships of this shard's sessions.
    pub fn local_count(&self) -> usize {
        self.local_count
    }

    /// Groups with a member on some shard.
    pub fn group_count(&self) -> usize {
        self.by_filter.len()
    }

    /// Panics if an invariant does not hold; walks all members.
    pub fn assert_invariants(&self) {
        self.by_pattern.assert_invariants();
        let (mut groups_count, mut local_count) = (0, 0);
        let mut said = Vec::new();
        for (index, group) in self.groups.iter().enumerate() {
            let Some(group) = group else { continue };
            groups_count += 1;
            local_count += group.locals.len();
            assert!(!group.is_empty(), "a group has a member on some shard");
            group.assert_invariants(self.own);
            let id = GroupId(index as u32);
            assert_eq!(self.find(&group.filter), Some(id), "a filter has one group");
            let same = self.by_pattern.get(&group.filter);
            let named = same.and_then(|groups| groups.get(group.place));
            assert_eq!(named, Some(&id), "a group knows its place");
            let says = BETTER.into_iter().filter(|&(least, _)| group.has(least));
            said.extend(says.map(|(_, hint)| (group.bucket, hint)));
        }
        assert_eq!(
            self.by_filter.len(),
            groups_count,
            "filters name live groups"
        );
        let named_count: usize = self.by_pattern.values().map(Vec::len).sum();
        assert_eq!(named_count, groups_count, "the tree names live groups");
        let free_count = self.groups.len() - groups_count;
        assert_eq!(self.free.len(), free_count, "what is not live is free");
        assert_eq!(self.local_count, local_count, "memberships are counted");
        let hints = self.interest.share_hints();
        self.hints.assert_invariants(hints, said.into_iter());
    }

    /// The shards among which to choose: those with a member that is ready, or else connected, or
    /// else one for which more may wait, or else any.
    fn best_shards(&self, id: GroupId) -> ShardSet {
        let group = self.groups[id.0 as usize].as_deref();
        let group = group.expect("routes name live groups");
        let everywhere = group.shards();
        for (least, hint) in BETTER {
            let others = self.others_with(id, hint);
            let all = if group.has(least) {
                others.with(self.own)
            } else {
                others
            };
            if !all.is_empty() {
                return all;
            }
        }
        everywhere
    }

    /// The other shards of a group that say so.
    fn others_with(&self, id: GroupId, hint: Hint) -> ShardSet {
        let group = self.groups[id.0 as usize].as_deref();
        let group = group.expect("routes name live groups");
        let others = group.shards().without(self.own);
        if others.is_empty() {
            return others;
        }
        others.and(self.interest.share_hints().shards(group.bucket, hint))
    }

    /// The next member of these shards.
    fn any_of(&mut self, id: GroupId, among: ShardSet) -> Wish {
        let marks = Marks {
            topic: 0,
            publisher: 0,
            random: 0,
        };
        self.group_mut(id)
            .choose(ShareStrategy::RoundRobin, marks, among)
    }

    fn find_or_add(&mut self, filter: &Arc<TopicFilter>) -> GroupId {
        if let Some(id) = self.find(filter) {
            return id;
        }
        let bucket = self.interest.share_hints().bucket(filter);
        // Shards start at different members, or all of them would favour the first.
        let mut group = Box::new(Group::new(
            filter.clone(),
            bucket,
            self.own.index(),
            self.strategy == ShareStrategy::Sticky,
        ));
        let id = match self.free.pop() {
            Some(index) => GroupId(index),
            None => {
                self.groups.push(None);
                GroupId(u32::try_from(self.groups.len() - 1).expect("fewer than 2^32 groups"))
            }
        };
        let (groups, _) = self
            .by_pattern
            .get_or_insert_with(filter, || Vec::with_capacity(1));
        group.place = groups.len();
        groups.push(id);
        self.groups[id.0 as usize] = Some(group);
        self.by_filter.insert(filter.clone(), id);
        self.generation += 1;
        id
    }

    fn drop_if_empty(&mut self, id: GroupId) {
        if !self.group_mut(id).is_empty() {
            return;
        }
        let group = self.groups[id.0 as usize].take().expect("just seen");
        self.free.push(id.0);
        self.by_filter.remove(&group.filter);
        let groups = self.by_pattern.get_mut(&group.filter);
        let groups = groups.expect("every group stands in the tree");
        let removed = groups.swap_remove(group.place);
        assert_eq!(removed, id, "a group knows its place");
        if let Some(moved) = groups.get(group.place) {
            let moved = self.groups[moved.0 as usize].as_deref_mut();
            moved.expect("groups in the tree are live").place = group.place;
        } else if groups.is_empty() {
            self.by_pattern.remove(&group.filter);
        }
        if self.by_filter.is_empty() {
            self.by_filter.shrink_to_fit();
            (self.groups, self.free) = (Vec::new(), Vec::new());
        }
        self.generation += 1;
    }

    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        self.groups[id.0 as usize]
            .as_deref_mut()
            .expect("routes and members name live groups")
    }
}

/// The ready member with the fewest messages in flight; of a large group, of the next few members.
fn least_loaded(group: &mut Group, inflight: impl Fn(SessionId) -> usize) -> Option<Local> {
    let at = group.next_turn(Standing::Ready)?;
    let (before, from) = group.locals.at_least(Standing::Ready).split_at(at);
    let candidates = from.iter().chain(before).take(COMPARED_MAX);
    candidates
        .min_by_key(|local| inflight(local.session))
        .cloned()
}

/// What is better than a member for which no more may wait, the best first, and the hint that says
/// so.
const BETTER: [(Standing, Hint); 3] = [
    (Standing::Ready, Hint::Ready),
    (Standing::Online, Hint::Online),
    (Standing::Away, Hint::Room),
];
/// Shards that a message goes through in search of a member that is not busy: hints are soon out of
/// date, and a member with a queue is better than a long search.
const HOPS_FOR_BETTER_MAX: u8 = 3;
/// Shards that a message goes through in search of any member: each of them must have lost its last
/// one while the message was on its way there.
const HOPS_MAX: u8 = 64;
/// Members that `LeastInFlight` compares for one message: each is a look at a session.
const COMPARED_MAX: usize = 32;
