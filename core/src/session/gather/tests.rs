//! What gathers cost, counted in gathers that are looked at.

use crate::codec::QoS;
use crate::message::MessageParts;
use crate::session::gather::*;
use crate::topic::TopicLimits;

const SESSION: SessionId = SessionId {
    index: 1,
    generation: 1,
};

fn message(topic: &str, qos: QoS) -> Arc<Message> {
    Arc::new(Message::new(
        MessageParts {
            topic: topic.as_bytes(),
            properties: b"",
            payload: b"x",
            qos,
            retain: true,
            expires_at: None,
            publisher: ClientKey(9),
            author: None,
        },
        crate::stages::Stamp::UNKNOWN,
    ))
}

fn filter(number: usize) -> TopicFilter {
    let limits = TopicLimits::of(&crate::limits::Limits::default());
    TopicFilter::parse(&format!("t/{number}"), &limits).unwrap()
}

/// Three shards, of which this is the first; the second one owns all topics.
struct Bench {
    gathers: Gathers,
    feed: Option<Box<Feed>>,
    /// Who is asked.
    asked: Vec<GatherId>,
    barriers: Vec<BarrierId>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            gathers: Gathers::new(2, 7),
            feed: None,
            asked: Vec::new(),
            barriers: Vec::new(),
        }
    }

    fn start(&mut self, number: usize) -> Option<Ended> {
        let wanted = Wanted {
            filter: Arc::new(filter(number)),
            options: SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                no_local: false,
                retain_as_published: false,
                subscription_id: None,
            },
            no_local_key: None,
            owners: ShardSet::EMPTY.with(ShardId::new(1)),
        };
        self.gathers.start(&mut self.feed, SESSION, wanted)
    }

    fn note_live(&mut self, topic: &str) {
        let feed = self.feed.as_mut().unwrap();
        feed.note_live(&message(topic, QoS::AtMostOnce), &mut self.gathers);
    }

    /// What a shard does at the end of an event.
    fn step(&mut self) {
        for step in self.gathers.take_steps() {
            let feed = self.feed.as_mut();
            match step {
                GatherStep::Begin(_) => feed.unwrap().begin(&mut self.gathers),
                GatherStep::Barrier(barrier) => self.barriers.push(barrier),
                GatherStep::Ask(gather) => {
                    let asking = feed.and_then(|feed| feed.go_on(gather, &mut self.gathers));
                    self.asked.extend(asking.map(|_| gather));
                }
            }
        }
        if self.gathers.has_steps() {
            self.step();
        }
        if let Some(feed) = &self.feed {
            feed.assert_invariants();
        }
    }

    fn pass_barrier(&mut self) {
        let barrier = self.barriers.remove(0);
        assert_eq!(self.gathers.on_barrier_ack(barrier), None);
        assert_eq!(self.gathers.on_barrier_ack(barrier), Some(SESSION));
        self.gathers.on_barrier_passed(&mut self.feed, barrier);
        self.step();
    }

    /// Answers a question with messages on the topic `t`, so many.
    fn answer(&mut self, gather: GatherId, count: usize, more: bool) -> bool {
        let answer = Answer {
            owner: ShardId::new(1),
            messages: vec![message("t", QoS::AtLeastOnce); count],
            more,
        };
        self.gathers.on_page(&mut self.feed, gather, answer)
    }

    fn answer_all(&mut self, count: usize) {
        for gather in std::mem::take(&mut self.asked) {
            assert!(self.answer(gather, count, false));
        }
        self.step();
    }

    fn next(&mut self, has_room: bool) -> Option<Delivery> {
        let next = self.gathers.next(Instant::ZERO, has_room, &mut self.feed);
        self.step();
        next
    }

    /// Gathers that `work` looks at.
    fn looks<R>(&mut self, work: impl FnOnce(&mut Bench) -> R) -> u64 {
        let before = self.gathers.looks;
        work(self);
        self.gathers.looks - before
    }
}

#[test]
fn a_filter_costs_the_same_among_ten_thousand() {
    let per_filter = [10, 10_000].map(|count| {
        let mut bench = Bench::new();
        let looks = bench.looks(|bench| {
            (0..count).for_each(|n| assert_eq!(bench.start(n), None));
            bench.step();
            assert_eq!(bench.barriers.len(), 1, "one barrier for all");
            bench.pass_barrier();
            assert_eq!(bench.asked.len(), count);
            bench.answer_all(0);
        });
        assert!(bench.feed.is_none(), "all are through");
        assert_eq!(bench.gathers.len(), 0);
        looks / count as u64
    });
    assert_eq!(per_filter[0], per_filter[1]);
}

/// A session with so many gathers, whose client has no room for what is here of them.
fn blocked(count: usize) -> Bench {
    let mut bench = Bench::new();
    (0..count).for_each(|n| assert_eq!(bench.start(n), None));
    bench.step();
    bench.pass_barrier();
    bench.answer_all(1);
    assert!(bench.next(false).is_none());
    bench
}

#[test]
fn a_live_message_looks_at_no_gather_that_waits() {
    let mut bench = Bench::new();
    (0..1000).for_each(|n| assert_eq!(bench.start(n), None));
    assert_eq!(
        bench.looks(|bench| bench.note_live("t/1")),
        0,
        "none has begun"
    );
    bench.step();
    assert_eq!(
        bench.looks(|bench| bench.note_live("t/1")),
        0,
        "the barrier is under way"
    );
    bench.pass_barrier();
    assert_eq!(
        bench.barriers.len(),
        1,
        "a second barrier, because of that message"
    );
    assert_eq!(bench.looks(|bench| bench.note_live("t/1")), 0);
    bench.pass_barrier();
    assert_eq!(
        bench.looks(|bench| bench.note_live("t/1")),
        0,
        "pages are under way"
    );
    let mut bench = blocked(1000);
    let looks = bench.looks(|bench| {
        for _ in 0..100 {
            bench.note_live("u");
            assert!(bench.next(false).is_none());
        }
    });
    assert_eq!(looks, 0, "pages are here, and there is no room");
    assert_eq!(bench.looks(|bench| assert!(bench.next(true).is_some())), 1);
}

#[test]
fn the_end_of_a_gather_and_its_renewal_look_at_no_other() {
    let mut bench = blocked(1000);
    let looks = bench.looks(|bench| {
        let ended = bench.gathers.end(&mut bench.feed, &filter(500));
        assert!(ended.is_some());
        assert_eq!(bench.gathers.end(&mut bench.feed, &filter(500)), None);
        assert_eq!(bench.start(500), None);
        assert!(bench.start(500).is_some(), "replaced");
    });
    assert!(looks <= 8, "{looks}");
    assert_eq!(bench.gathers.len(), 1000);
    let feed = bench.feed.take();
    assert_eq!(bench.gathers.end_all(feed).len(), 1000);
    assert_eq!(bench.gathers.len(), 0);
}

#[test]
fn topics_are_forgotten_behind_a_barrier_and_what_is_void_is_gone_by_then() {
    let mut bench = Bench::new();
    assert_eq!(bench.start(0), None);
    bench.step();
    bench.pass_barrier();
    let gather = bench.asked.remove(0);
    assert!(bench.answer(gather, 1, true));
    bench.step();
    assert!(bench.next(true).is_some());
    assert_eq!(bench.asked, [gather], "the next page is asked for");
    // A page is under way while topics become so many that some have to be forgotten.
    bench.note_live("t");
    (0..2000).for_each(|n| bench.note_live(&format!("u/{n}")));
    bench.step();
    assert_eq!(bench.barriers.len(), 1);
    bench.pass_barrier();
    assert!(
        bench.answer(gather, 5, true),
        "from before the live message"
    );
    bench.step();
    assert!(bench.next(true).is_none(), "all of it was void");
    assert_eq!(
        bench.asked,
        [gather, gather],
        "and another one is asked for"
    );
    assert!(bench.answer(gather, 1, false));
    bench.step();
    let next = bench.next(true).map(|next| next.message.topic().to_vec());
    assert_eq!(
        next.as_deref(),
        Some(&b"t"[..]),
        "this page is from after it"
    );
    assert!(bench.feed.is_none());
    assert_eq!(bench.gathers.len(), 0);
}

#[test]
fn remembered_topics_are_bounded_and_sweeps_are_amortised() {
    let mut bench = blocked(5000);
    let looks = bench.looks(|bench| {
        for n in 0..100_000 {
            bench.note_live(&format!("u/{n}"));
            if n % 1000 == 0 {
                bench.step();
                (0..bench.barriers.len()).for_each(|_| bench.pass_barrier());
            }
        }
    });
    assert!(
        looks <= 100_000,
        "{looks} looks at gathers for 100,000 live messages"
    );
    assert!(bench.feed.as_ref().unwrap().topic_count() <= 2 * 5000 + 1001);
}

#[test]
fn subscriptions_made_meanwhile_wait_for_the_next_cohort() {
    let mut bench = Bench::new();
    assert_eq!(bench.start(0), None);
    bench.step();
    (1..100).for_each(|n| assert_eq!(bench.start(n), None));
    bench.step();
    assert_eq!(bench.barriers.len(), 1);
    bench.pass_barrier();
    assert_eq!(bench.asked.len(), 1);
    bench.answer_all(0);
    assert_eq!(
        bench.barriers.len(),
        1,
        "one for the 99 that came meanwhile"
    );
    bench.pass_barrier();
    assert_eq!(bench.asked.len(), 99);
    // One of them leaves, and the rest goes on without it.
    let ended = bench.gathers.end(&mut bench.feed, &filter(50)).unwrap();
    assert!(!bench.answer(ended.gather, 0, false));
    bench.asked.retain(|&gather| gather != ended.gather);
    bench.answer_all(0);
    assert!(bench.feed.is_none());
}
