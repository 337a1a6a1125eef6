//! The groups of several shards against a list of members, with the messages between them delayed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::codec::QoS;
use crate::session::KeptMatch;
use crate::shard::share::groups::*;
use crate::topic::TopicLimits;

/// Several shards, their messages under way, and what is true.
struct Model {
    shares: Vec<Shares>,
    /// By source and target, in order.
    under_way: BTreeMap<(usize, usize), VecDeque<Message>>,
    /// Members and their standing, by group.
    members: BTreeMap<(String, usize, u32), Standing>,
    table: Arc<InterestTable>,
    random: fastrand::Rng,
    now: Instant,
}

#[derive(Clone, Debug)]
enum Message {
    Join(Arc<TopicFilter>, Wish, Instant),
    Leave(Arc<TopicFilter>, Wish),
}

const FILTERS: [&str; 4] = ["$share/g/t", "$share/h/t", "$share/g/+", "$share/g/u/#"];

impl Model {
    fn new(seed: u64, shards: usize, strategy: ShareStrategy) -> Model {
        let table = Arc::new(InterestTable::new(shards, 6, seed));
        let shares = (0..shards)
            .map(|shard| Shares::new(ShardId::new(shard), strategy, table.clone(), seed))
            .collect();
        Model {
            shares,
            under_way: BTreeMap::new(),
            members: BTreeMap::new(),
            table,
            random: fastrand::Rng::with_seed(seed),
            now: Instant::ZERO,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.usize(..end)
    }

    fn step(&mut self) {
        self.now = self.now + std::time::Duration::from_nanos(1);
        let shard = self.below(self.shares.len());
        let text = FILTERS[self.below(FILTERS.len())];
        let session = self.below(6) as u32;
        let key = (text.to_owned(), shard, session);
        match self.below(4) {
            0 => self.join(key),
            1 => self.leave(&key),
            2 => self.stand(&key),
            _ => self.deliver_one(),
        }
    }

    fn join(&mut self, key: (String, usize, u32)) {
        let filter = filter(&key.0);
        let local = Local {
            session: session(key.2),
            qos: QoS::AtLeastOnce,
            retain_as_published: false,
            matched: Arc::new(KeptMatch::default()),
        };
        self.shares[key.1].join_local(&filter, local, self.now);
        self.tell(key.1, Message::Join(filter, wish(&key), self.now));
        self.members.entry(key).or_insert(Standing::Full);
    }

    fn leave(&mut self, key: &(String, usize, u32)) {
        let filter = filter(&key.0);
        let left = self.shares[key.1].leave_local(&filter, session(key.2));
        assert_eq!(left.is_some(), self.members.remove(key).is_some());
        if left.is_some() {
            self.tell(key.1, Message::Leave(filter, wish(key)));
        }
    }

    fn stand(&mut self, key: &(String, usize, u32)) {
        let standings = [
            Standing::Full,
            Standing::Away,
            Standing::Online,
            Standing::Ready,
        ];
        let standing = standings[self.below(standings.len())];
        if let Some(known) = self.members.get_mut(key) {
            *known = standing;
            let id = self.shares[key.1].find(&filter(&key.0));
            let id = id.expect("its home knows a member's group");
            self.shares[key.1].set_standing(id, session(key.2), standing);
        }
    }

    fn tell(&mut self, source: usize, message: Message) {
        for target in (0..self.shares.len()).filter(|&target| target != source) {
            let queue = self.under_way.entry((source, target)).or_default();
            queue.push_back(message.clone());
        }
    }

    fn deliver_one(&mut self) {
        let waiting: Vec<(usize, usize)> = self.under_way.keys().copied().collect();
        if waiting.is_empty() {
            return;
        }
        let way = waiting[self.below(waiting.len())];
        let queue = self.under_way.get_mut(&way).expect("listed");
        match queue.pop_front().expect("kept while there is one") {
            Message::Join(filter, wish, since) => {
                self.shares[way.1].join_remote(&filter, wish, since);
            }
            Message::Leave(filter, wish) => self.shares[way.1].leave_remote(&filter, wish),
        }
        if queue.is_empty() {
            self.under_way.remove(&way);
        }
    }

    /// Lets everything arrive.
    fn settle(&mut self) {
        while !self.under_way.is_empty() {
            self.deliver_one();
        }
    }

    fn standing(&self, text: &str, wish: Wish) -> Option<Standing> {
        let key = (text.to_owned(), wish.shard.index(), wish.session.index);
        self.members.get(&key).copied()
    }

    /// The best standing that a member of a group has.
    fn best(&self, text: &str) -> Option<Standing> {
        let of_group = self
            .members
            .iter()
            .filter(|((group, _, _), _)| group == text);
        of_group.map(|(_, standing)| *standing).max()
    }
}

#[test]
fn groups_agree_with_a_list_of_members_and_every_message_finds_one() {
    for seed in 0..120 {
        let shards = 1 + seed as usize % 4;
        let strategy = ShareStrategy::ALL[seed as usize % ShareStrategy::ALL.len()];
        let mut model = Model::new(seed, shards, strategy);
        for _ in 0..40 {
            for _ in 0..20 {
                model.step();
            }
            model.settle();
            check(&mut model, seed);
        }
        for key in model.members.keys().cloned().collect::<Vec<_>>() {
            model.leave(&key);
        }
        model.settle();
        for shares in &model.shares {
            assert_eq!((shares.group_count(), shares.local_count()), (0, 0));
            assert!(shares.by_pattern.is_empty());
        }
        assert!(model.table.is_clear(), "seed {seed}: a hint was left");
    }
}

fn check(model: &mut Model, seed: u64) {
    let groups: BTreeSet<&str> = model
        .members
        .keys()
        .map(|key| FILTERS[position(&key.0)])
        .collect();
    for shard in 0..model.shares.len() {
        assert_eq!(
            model.shares[shard].group_count(),
            groups.len(),
            "seed {seed}"
        );
        let locals = model.members.keys().filter(|key| key.1 == shard).count();
        assert_eq!(model.shares[shard].local_count(), locals, "seed {seed}");
        for topic in ["t", "u", "u/x", "$t"] {
            let name = TopicName::parse(topic.as_bytes(), &TopicLimits::default()).unwrap();
            let mut found = Vec::new();
            model.shares[shard].groups_for(name, &mut found);
            let mut found: Vec<&str> = found
                .iter()
                .map(|&id| FILTERS[position(model.shares[shard].filter(id).as_str())])
                .collect();
            found.sort_unstable();
            let wanted = groups
                .iter()
                .filter(|text| filter(text).matches(topic.as_bytes()));
            let mut wanted: Vec<&str> = wanted.copied().collect();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "seed {seed}: {topic}");
        }
        for text in &groups {
            check_way(model, shard, text, seed);
        }
    }
}

/// A message from a shard for a group ends at one of the best members.
fn check_way(model: &mut Model, from: usize, text: &str, seed: u64) {
    let best = model.best(text);
    let id = model.shares[from]
        .find(&filter(text))
        .expect("every shard knows every group");
    let hash = model.random.u64(..);
    let mut wish = model.shares[from].choose(id, hash, ClientKey(hash >> 7));
    for hops in 0..HOPS_FOR_BETTER_MAX + 2 {
        assert!(
            model.standing(text, wish).is_some(),
            "seed {seed}: nobody was chosen"
        );
        let shares = &mut model.shares[wish.shard.index()];
        let id = shares
            .find(&filter(text))
            .expect("every shard knows every group");
        let (local, is_away) = match shares.place(id, Some(wish.session), hops, |_| 0) {
            ShareTarget::Here(local) => (local, false),
            ShareTarget::Away(local) => (local, true),
            ShareTarget::There(next) => {
                assert_ne!(
                    next.shard, wish.shard,
                    "seed {seed}: a message goes in a circle"
                );
                wish = next;
                continue;
            }
            ShareTarget::Nowhere => panic!("seed {seed}: there are members"),
        };
        let end = Wish {
            shard: wish.shard,
            session: local.session,
        };
        let standing = model.standing(text, end);
        assert_eq!(is_away, standing <= Some(Standing::Away), "seed {seed}");
        // Groups that share their hints mislead: only then is a worse member the end.
        assert!(
            standing == best || hops >= HOPS_FOR_BETTER_MAX,
            "seed {seed}: {standing:?}"
        );
        return;
    }
    panic!("seed {seed}: a message goes on and on");
}

#[test]
fn members_take_turns() {
    let mut model = Model::new(1, 2, ShareStrategy::RoundRobin);
    for (shard, session) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)] {
        model.join((FILTERS[0].to_owned(), shard, session));
    }
    model.settle();
    let id = model.shares[0].find(&filter(FILTERS[0])).unwrap();
    let mut counts: BTreeMap<(ShardId, SessionId), u32> = BTreeMap::new();
    for _ in 0..50 {
        let wish = model.shares[0].choose(id, 0, ClientKey(0));
        *counts.entry((wish.shard, wish.session)).or_default() += 1;
    }
    assert_eq!(counts.len(), 5);
    assert!(counts.values().all(|&count| count == 10), "{counts:?}");
}

#[test]
fn steady_strategies_choose_the_same_member_on_every_shard() {
    for strategy in [
        ShareStrategy::Sticky,
        ShareStrategy::HashClient,
        ShareStrategy::HashTopic,
    ] {
        let mut model = Model::new(7, 3, strategy);
        for step in 0..12 {
            model.now = model.now + std::time::Duration::from_nanos(1);
            model.join((FILTERS[0].to_owned(), step % 3, step as u32 / 3));
        }
        model.settle();
        let mut seen = BTreeSet::new();
        for hash in 0..40 {
            let chosen: Vec<Wish> = (0..3)
                .map(|shard| {
                    let id = model.shares[shard].find(&filter(FILTERS[0])).unwrap();
                    model.shares[shard].choose(id, hash, ClientKey(hash))
                })
                .collect();
            assert!(
                chosen.iter().all(|wish| *wish == chosen[0]),
                "{strategy:?}: {chosen:?}"
            );
            seen.insert((chosen[0].shard, chosen[0].session));
        }
        match strategy {
            ShareStrategy::Sticky => {
                assert!(seen.iter().eq(&[(ShardId::new(0), session(0))]), "{seen:?}");
            }
            _ => assert_eq!(seen.len(), 12, "{strategy:?} reaches everybody"),
        }
    }
}

#[test]
fn the_member_with_the_fewest_messages_in_flight_gets_the_next() {
    let mut model = Model::new(3, 1, ShareStrategy::LeastInFlight);
    for session in 0..5 {
        let key = (FILTERS[0].to_owned(), 0, session);
        model.join(key.clone());
        let id = model.shares[0].find(&filter(FILTERS[0])).unwrap();
        model.shares[0].set_standing(id, self::session(session), Standing::Ready);
    }
    let id = model.shares[0].find(&filter(FILTERS[0])).unwrap();
    let mut loads = [3, 1, 4, 0, 5];
    for _ in 0..6 {
        let wish = model.shares[0].choose(id, 0, ClientKey(0));
        let load = |id: SessionId| loads[id.index as usize];
        let ShareTarget::Here(local) = model.shares[0].place(id, Some(wish.session), 0, load)
        else {
            panic!("everybody is ready");
        };
        let chosen = local.session.index as usize;
        let least = loads.iter().copied().min();
        assert_eq!(Some(loads[chosen]), least, "{loads:?}");
        loads[chosen] += 1;
    }
}

fn position(text: &str) -> usize {
    FILTERS
        .iter()
        .position(|other| *other == text)
        .expect("one of the filters")
}

fn wish(key: &(String, usize, u32)) -> Wish {
    Wish {
        shard: ShardId::new(key.1),
        session: session(key.2),
    }
}

fn session(index: u32) -> SessionId {
    SessionId {
        index,
        generation: 0,
    }
}

fn filter(text: &str) -> Arc<TopicFilter> {
    Arc::new(TopicFilter::parse(text, &TopicLimits::default()).unwrap())
}
