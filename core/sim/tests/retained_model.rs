//! A model of SUBSCRIBE against retained PUBLISH across shards, and of what each of its rules buys.
//!
//! The publisher's shard, the shard that owns the retained copy (the topic's home) and the
//! subscribers' shards talk through inboxes and share one word of interest bits. Every effect that
//! another shard can see is one micro-step; a seeded scheduler interleaves the micro-steps of all
//! shards freely. One topic, one publisher, values 1, 2, 3, … The snapshot comes in one page or
//! more, and the topic stands on one of them.
//!
//! Promises, for every subscriber:
//! - the values it sees grow strictly: no duplicate, no old value after a later one;
//! - once all is quiet it has seen the last value: nothing is lost.
//!
//! With all rules no schedule breaks them; without any one rule some schedule does, which also
//! shows that the checks here can fail. The rules live in `session/gather.rs` of the core.

use std::collections::VecDeque;

use ringmq_sim::Rng;

/// Schedules that are tried with all rules kept.
const SCHEDULES_KEPT: u64 = 60_000;
/// Schedules at most until one without a rule must have failed; the rarest fails once in some
/// thousands.
const SCHEDULES_BROKEN_MAX: u64 = 200_000;
/// Micro-steps after which a schedule counts as stuck: many times what any of them needs.
const STEPS_MAX: u32 = 20_000;
/// Turns without any work after which a schedule counts as quiet.
const QUIET_STEPS: u32 = 60;

#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Each shard has one inbox, instead of one ring per source that it polls in any order.
    one_inbox: bool,
    /// A publish shows its forwards before its retain.
    forward_before_retain: bool,
    /// The subscriber passes a barrier with every shard before it asks for the retained value.
    barrier: bool,
    /// The subscriber sets its interest bit before the barrier, not behind it.
    bit_before_barrier: bool,
    /// From the barrier on, a live value voids the answer.
    live_beats_snapshot: bool,
    /// A live value that comes before the barrier is passed may be older than the subscription: it
    /// does not void the answer. If it comes while the barrier is under way, it asks for a second
    /// one, so that the answer is no older.
    second_barrier: bool,
    /// No page shows what was stored after the first question.
    of_first_question: bool,
    /// What a live value has voided before the first page came is void on every page.
    overlap_stays: bool,
    /// What a live value has voided since is void until a barrier is passed that began later.
    barrier_before_forgetting: bool,
    flush: Flush,
}

/// How the posts of a turn become visible.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flush {
    /// One by one, as they are posted.
    AtOnce,
    /// In batches: all forwards, then all retains, then all answers.
    ByClass,
    /// In batches: everything for one target, then everything for the next.
    ByTarget,
}

const ALL_RULES: Rules = Rules {
    one_inbox: true,
    forward_before_retain: true,
    barrier: true,
    bit_before_barrier: true,
    live_beats_snapshot: true,
    second_barrier: true,
    of_first_question: true,
    overlap_stays: true,
    barrier_before_forgetting: true,
    flush: Flush::ByClass,
};

#[derive(Debug, PartialEq)]
enum Broken {
    NotQuiet,
    Duplicate { seen: Vec<u32> },
    OldAfterNew { seen: Vec<u32> },
    Lost { seen: Vec<u32>, last: u32 },
}

#[test]
fn no_schedule_breaks_a_promise_with_all_rules() {
    for flush in [Flush::AtOnce, Flush::ByClass] {
        let rules = Rules { flush, ..ALL_RULES };
        assert_eq!(first_broken(rules, SCHEDULES_KEPT), None, "{rules:?}");
    }
}

#[test]
fn some_schedule_breaks_a_promise_without_any_one_rule() {
    let at_once = Rules {
        flush: Flush::AtOnce,
        ..ALL_RULES
    };
    for rules in [
        Rules {
            one_inbox: false,
            ..ALL_RULES
        },
        Rules {
            // Batches by class would keep this rule by themselves.
            forward_before_retain: false,
            ..at_once
        },
        Rules {
            barrier: false,
            ..ALL_RULES
        },
        Rules {
            bit_before_barrier: false,
            ..ALL_RULES
        },
        Rules {
            live_beats_snapshot: false,
            ..ALL_RULES
        },
        Rules {
            second_barrier: false,
            ..ALL_RULES
        },
        Rules {
            of_first_question: false,
            ..ALL_RULES
        },
        Rules {
            overlap_stays: false,
            ..ALL_RULES
        },
        Rules {
            barrier_before_forgetting: false,
            ..ALL_RULES
        },
        Rules {
            flush: Flush::ByTarget,
            ..ALL_RULES
        },
    ] {
        let broken = first_broken(rules, SCHEDULES_BROKEN_MAX);
        println!("{rules:?}: {broken:?}");
        assert!(
            broken.is_some_and(|(_, broken)| broken != Broken::NotQuiet),
            "no schedule breaks a promise: {rules:?}"
        );
    }
}

fn first_broken(rules: Rules, schedules: u64) -> Option<(u64, Broken)> {
    (1..=schedules).find_map(|seed| Some((seed, World::new(seed, rules).run().err()?)))
}

#[derive(Clone, Copy, Debug)]
enum Msg {
    Forward(u32),
    Retain(u32),
    Barrier {
        from: usize,
        why: Why,
    },
    BarrierAck(Why),
    /// Asks for a page.
    Query {
        from: usize,
        page: usize,
    },
    /// The value of the topic, if it stands on that page.
    Reply {
        page: usize,
        value: u32,
    },
}

/// What a barrier is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    /// The first question.
    Asking,
    /// Forgetting what was voided.
    Forgetting,
}

impl Msg {
    fn class(self) -> u8 {
        match self {
            Msg::Forward(_) => 0,
            Msg::Retain(_) => 1,
            Msg::Barrier { .. } | Msg::BarrierAck(_) | Msg::Query { .. } | Msg::Reply { .. } => 2,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Micro {
    /// Hands a message over to the flush, or shows it at once.
    Post(usize, Msg),
    /// Makes a message visible.
    Show(usize, Msg),
    Flush,
    /// Reads the interest bits and posts the forwards.
    LoadInterest(u32),
    Subscribe,
    SetInterest,
    ClearInterest,
    Poll {
        ring: usize,
    },
}

#[derive(Default)]
struct Shard {
    micro: VecDeque<Micro>,
    /// Received: one ring per source, or a single one.
    rings: Vec<VecDeque<Msg>>,
    /// Posted and not yet flushed.
    posts: Vec<(usize, Msg)>,
    retained: u32,
    /// Values stored so far, and how many there were when each shard asked first.
    stored: u32,
    asked_at: Vec<u32>,
    subscribed: bool,
    /// Answers to barriers, by what they are for.
    acks: [usize; 2],
    /// The last live value before the first barrier was passed.
    early: u32,
    gather: Gather,
    forgetting: Forgetting,
    /// Questions that are answered later.
    line: Vec<(usize, usize)>,
    /// A live value came: before the first page, since the last barrier, before that one.
    overlap: bool,
    voided: bool,
    clearing: bool,
    /// What came and was not looked at; 0 for nothing.
    backlog: u32,
    seen: Vec<u32>,
}

/// How far a subscriber is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Gather {
    /// Not subscribed.
    #[default]
    Before,
    /// Subscribed, while others of the session are at their barrier.
    Waiting,
    Barrier {
        again: bool,
        /// A live value has come since it began.
        is_met: bool,
    },
    Asked(usize),
    /// This page is next.
    Ready(usize),
    Done,
}

impl Gather {
    /// The first page is here, and there may be others.
    fn is_answered(self) -> bool {
        match self {
            Gather::Asked(page) => page > 0,
            Gather::Ready(_) => true,
            Gather::Before | Gather::Waiting | Gather::Barrier { .. } | Gather::Done => false,
        }
    }
}

/// How far a subscriber is with forgetting what was voided.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Forgetting {
    #[default]
    Not,
    Barrier,
    /// The barrier is passed, and a page is under way.
    Page,
}

struct World {
    rules: Rules,
    rng: Rng,
    shards: Vec<Shard>,
    interest: u64,
    publisher: usize,
    home: usize,
    published: u32,
    publishes: u32,
    pages: usize,
    /// The page that the topic stands on.
    place: usize,
    subscribers: Vec<usize>,
    to_subscribe: Vec<usize>,
    /// Shards with an earlier subscriber, whose interest ends at some time.
    to_unsubscribe: Vec<usize>,
    /// The shard that the scheduler holds back: long pauses reach schedules that fair ones do not.
    paused: Option<usize>,
}

impl World {
    fn new(seed: u64, rules: Rules) -> World {
        let mut rng = Rng::new(seed, 0);
        let count = 2 + rng.index(3);
        let rings = if rules.one_inbox { 1 } else { count };
        let subscribers: Vec<usize> = (0..count).filter(|_| rng.one_in(2)).collect();
        let to_unsubscribe: Vec<usize> = (0..count).filter(|_| rng.one_in(2)).collect();
        let pages = 1 + rng.index(3);
        World {
            pages,
            place: rng.index(pages),
            rules,
            shards: (0..count)
                .map(|_| Shard {
                    rings: vec![VecDeque::new(); rings],
                    asked_at: vec![0; count],
                    ..Shard::default()
                })
                .collect(),
            interest: to_unsubscribe.iter().map(|shard| 1 << shard).sum(),
            publisher: rng.index(count),
            home: rng.index(count),
            published: 0,
            publishes: 1 + rng.below(4) as u32,
            to_subscribe: subscribers.clone(),
            to_unsubscribe,
            subscribers,
            paused: None,
            rng,
        }
    }

    fn run(mut self) -> Result<(), Broken> {
        let mut quiet_steps = 0;
        for _ in 0..STEPS_MAX {
            self.step();
            quiet_steps = if self.is_quiet() { quiet_steps + 1 } else { 0 };
            if quiet_steps > QUIET_STEPS {
                return self.check();
            }
        }
        Err(Broken::NotQuiet)
    }

    fn step(&mut self) {
        if self.rng.one_in(30) {
            self.paused = (self.rng.one_in(2)).then(|| self.rng.index(self.shards.len()));
        }
        let at = self.rng.index(self.shards.len());
        if self.paused == Some(at) {
            return;
        }
        match self.shards[at].micro.pop_front() {
            Some(micro) => self.run_micro(at, micro),
            None => self.begin_turn(at),
        }
    }

    fn begin_turn(&mut self, at: usize) {
        if !self.shards[at].posts.is_empty() && self.rng.one_in(3) {
            self.shards[at].micro.push_back(Micro::Flush);
        } else if at == self.publisher && self.published < self.publishes && self.rng.one_in(3) {
            self.publish(at);
        } else if let Some(index) = self.to_subscribe.iter().position(|&shard| shard == at)
            && self.rng.one_in(3)
        {
            self.to_subscribe.swap_remove(index);
            self.to_unsubscribe.retain(|&shard| shard != at);
            self.subscribe(at);
        } else if let Some(index) = self.to_unsubscribe.iter().position(|&shard| shard == at)
            && self.rng.one_in(3)
        {
            self.to_unsubscribe.swap_remove(index);
            self.shards[at].micro.push_back(Micro::ClearInterest);
        } else if !self.shards[at].line.is_empty() && self.rng.one_in(4) {
            let (from, page) = self.shards[at].line.remove(0);
            self.answer(at, from, page);
        } else if self.rng.one_in(3) && self.go_on(at) {
        } else {
            let count = self.shards[at].rings.len();
            let first = self.rng.index(count);
            let polls = (0..count).map(|step| Micro::Poll {
                ring: (first + step) % count,
            });
            self.shards[at].micro.extend(polls);
        }
    }

    /// The client takes what is there, or the next page is asked for, or a barrier begins. False if
    /// there is nothing of that to do.
    fn go_on(&mut self, at: usize) -> bool {
        let forgets = self.rng.one_in(2);
        let shard = &mut self.shards[at];
        if forgets
            && shard.voided
            && shard.forgetting == Forgetting::Not
            && shard.gather.is_answered()
        {
            shard.clearing = std::mem::take(&mut shard.voided);
            match self.rules.barrier_before_forgetting {
                true => {
                    shard.forgetting = Forgetting::Barrier;
                    self.post_barriers(at, Why::Forgetting);
                }
                false => shard.forget(),
            }
            return true;
        }
        match shard.gather {
            Gather::Waiting => {
                shard.gather = Gather::Barrier {
                    again: false,
                    is_met: false,
                };
                self.post_barriers(at, Why::Asking);
            }
            Gather::Ready(_) if shard.backlog > 0 => self.take(at),
            Gather::Ready(page) if page == self.pages => {
                shard.gather = Gather::Done;
                shard.forgetting = Forgetting::Not;
            }
            Gather::Ready(page) => {
                shard.gather = Gather::Asked(page);
                self.do_next(at, Micro::Post(self.home, Msg::Query { from: at, page }));
            }
            Gather::Before | Gather::Barrier { .. } | Gather::Asked(_) | Gather::Done => {
                return false;
            }
        }
        true
    }

    fn post_barriers(&mut self, at: usize, why: Why) {
        for to in 0..self.shards.len() {
            self.do_next(at, Micro::Post(to, Msg::Barrier { from: at, why }));
        }
    }

    /// Makes a page and sends it.
    fn answer(&mut self, at: usize, to: usize, page: usize) {
        let shard = &self.shards[at];
        // The value that is there is the last one that was stored.
        let is_later = shard.stored > shard.asked_at[to];
        let shows = page == self.place && !(self.rules.of_first_question && is_later);
        let value = if shows { shard.retained } else { 0 };
        self.do_next(at, Micro::Post(to, Msg::Reply { page, value }));
    }

    fn take(&mut self, at: usize) {
        let rules = self.rules;
        let shard = &mut self.shards[at];
        let value = std::mem::take(&mut shard.backlog);
        let is_void = shard.overlap || shard.voided || shard.clearing;
        if !(rules.live_beats_snapshot && is_void) && value != shard.early {
            shard.seen.push(value);
        }
    }

    fn publish(&mut self, at: usize) {
        self.published += 1;
        let value = self.published;
        let forward = Micro::LoadInterest(value);
        let retain = Micro::Post(self.home, Msg::Retain(value));
        let steps = if self.rules.forward_before_retain {
            [forward, retain]
        } else {
            [retain, forward]
        };
        self.shards[at].micro.extend(steps);
    }

    fn subscribe(&mut self, at: usize) {
        let (rules, home) = (self.rules, self.home);
        let shard = &mut self.shards[at];
        shard.micro.push_back(Micro::Subscribe);
        if rules.bit_before_barrier {
            shard.micro.push_back(Micro::SetInterest);
        }
        if rules.barrier {
            shard.gather = Gather::Waiting;
        } else {
            let query = Msg::Query { from: at, page: 0 };
            shard.micro.push_back(Micro::Post(home, query));
            shard.gather = Gather::Asked(0);
        }
    }

    fn run_micro(&mut self, at: usize, micro: Micro) {
        match micro {
            Micro::Post(to, msg) if self.rules.flush == Flush::AtOnce => self.show(at, to, msg),
            Micro::Post(to, msg) => self.shards[at].posts.push((to, msg)),
            Micro::Show(to, msg) => self.show(at, to, msg),
            Micro::Flush => self.flush(at),
            Micro::LoadInterest(value) => {
                for to in 0..self.shards.len() {
                    if self.interest & (1 << to) != 0 {
                        self.do_next(at, Micro::Post(to, Msg::Forward(value)));
                    }
                }
            }
            Micro::Subscribe => self.shards[at].subscribed = true,
            Micro::SetInterest => self.interest |= 1 << at,
            Micro::ClearInterest => self.interest &= !(1 << at),
            Micro::Poll { ring } => {
                if let Some(msg) = self.shards[at].rings[ring].pop_front() {
                    if !self.shards[at].rings[ring].is_empty() {
                        self.do_next(at, Micro::Poll { ring });
                    }
                    self.on_msg(at, msg);
                }
            }
        }
    }

    fn flush(&mut self, at: usize) {
        let mut posts = std::mem::take(&mut self.shards[at].posts);
        match self.rules.flush {
            Flush::AtOnce => {}
            Flush::ByClass => posts.sort_by_key(|(_, msg)| msg.class()),
            Flush::ByTarget => {
                let first = self.rng.index(self.shards.len());
                posts.sort_by_key(|(to, _)| (to + first) % self.shards.len());
            }
        }
        let shows = posts.into_iter().map(|(to, msg)| Micro::Show(to, msg));
        self.shards[at].micro.extend(shows);
    }

    fn show(&mut self, at: usize, to: usize, msg: Msg) {
        let ring = if self.rules.one_inbox { 0 } else { at };
        self.shards[to].rings[ring].push_back(msg);
    }

    fn do_next(&mut self, at: usize, micro: Micro) {
        self.shards[at].micro.push_front(micro);
    }

    fn on_msg(&mut self, at: usize, msg: Msg) {
        let shard = &mut self.shards[at];
        match msg {
            Msg::Forward(value) => {
                if shard.subscribed {
                    match &mut shard.gather {
                        Gather::Before => {}
                        Gather::Waiting if self.rules.second_barrier => shard.early = value,
                        Gather::Barrier {
                            again: false,
                            is_met,
                        } if self.rules.second_barrier => {
                            shard.early = value;
                            *is_met = true;
                        }
                        Gather::Waiting | Gather::Barrier { .. } | Gather::Asked(0)
                            if self.rules.overlap_stays =>
                        {
                            shard.overlap = true;
                        }
                        Gather::Waiting
                        | Gather::Barrier { .. }
                        | Gather::Asked(_)
                        | Gather::Ready(_) => shard.voided = true,
                        Gather::Done => {}
                    }
                    shard.seen.push(value);
                }
            }
            Msg::Retain(value) => {
                shard.retained = value;
                shard.stored += 1;
            }
            Msg::Barrier { from, why } => {
                self.do_next(at, Micro::Post(from, Msg::BarrierAck(why)));
            }
            Msg::BarrierAck(why) => self.on_barrier_ack(at, why),
            Msg::Query { from, page } => {
                if page == 0 {
                    shard.asked_at[from] = shard.stored;
                }
                match self.rng.one_in(2) {
                    true => self.shards[at].line.push((from, page)),
                    false => self.answer(at, from, page),
                }
            }
            Msg::Reply { page, value } => {
                assert_eq!(shard.gather, Gather::Asked(page));
                shard.backlog = value;
                shard.gather = Gather::Ready(page + 1);
                if shard.forgetting == Forgetting::Page {
                    shard.forget();
                }
            }
        }
    }

    fn on_barrier_ack(&mut self, at: usize, why: Why) {
        let count = self.shards.len();
        let shard = &mut self.shards[at];
        shard.acks[why as usize] += 1;
        if shard.acks[why as usize] < count {
            return;
        }
        shard.acks[why as usize] = 0;
        match (why, shard.gather) {
            // Schedules in which this matters are too rare to be met here: a test of `gather.rs`
            // has one.
            (Why::Forgetting, Gather::Asked(_)) => shard.forgetting = Forgetting::Page,
            (Why::Forgetting, _) => shard.forget(),
            (
                Why::Asking,
                Gather::Barrier {
                    again: false,
                    is_met: true,
                },
            ) => {
                shard.gather = Gather::Barrier {
                    again: true,
                    is_met: false,
                };
                self.post_barriers(at, Why::Asking);
            }
            (Why::Asking, Gather::Barrier { .. }) => {
                shard.gather = Gather::Asked(0);
                let query = Msg::Query { from: at, page: 0 };
                self.do_next(at, Micro::Post(self.home, query));
                if !self.rules.bit_before_barrier {
                    self.do_next(at, Micro::SetInterest);
                }
            }
            (Why::Asking, gather) => panic!("a barrier was passed for {gather:?}"),
        }
    }

    fn is_quiet(&self) -> bool {
        self.published == self.publishes
            && self.to_subscribe.is_empty()
            && self
                .subscribers
                .iter()
                .all(|&at| self.shards[at].gather == Gather::Done)
            && self.shards.iter().all(Shard::is_quiet)
    }

    fn check(self) -> Result<(), Broken> {
        for at in self.subscribers {
            let seen = self.shards[at].seen.clone();
            if seen.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(Broken::Duplicate { seen });
            }
            if seen.windows(2).any(|pair| pair[0] > pair[1]) {
                return Err(Broken::OldAfterNew { seen });
            }
            if seen.last() != Some(&self.publishes) {
                let last = self.publishes;
                return Err(Broken::Lost { seen, last });
            }
        }
        Ok(())
    }
}

impl Shard {
    /// What was voided before is forgotten, and what was here is void.
    fn forget(&mut self) {
        if self.voided || self.clearing {
            self.backlog = 0;
        }
        self.clearing = false;
        self.forgetting = Forgetting::Not;
    }

    fn is_quiet(&self) -> bool {
        self.posts.is_empty()
            && self.line.is_empty()
            && self.rings.iter().all(VecDeque::is_empty)
            && self
                .micro
                .iter()
                .all(|micro| matches!(micro, Micro::Poll { .. } | Micro::Flush))
    }
}
