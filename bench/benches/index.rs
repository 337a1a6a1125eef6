//! The subscription index and the interest table, at a thousand, 100,000 and a million filters.
//!
//! 60 % of the filters are exact, 20 % have a `+`, 20 % end in `#`. Topics are drawn at random, so
//! that a match goes to memory that the ones before it did not touch.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringmq_bench::Stopwatch;
use ringmq_core::codec::QoS;
use ringmq_core::ids::{SessionId, ShardId};
use ringmq_core::topic::{
    Interest, InterestTable, Route, SubscriptionIndex, SubscriptionOptions, TopicFilter,
    TopicLimits, TopicName,
};

const COUNTS: [usize; 3] = [1_000, 100_000, 1_000_000];

const OPTIONS: SubscriptionOptions = SubscriptionOptions {
    qos: QoS::AtLeastOnce,
    no_local: false,
    retain_as_published: false,
    subscription_id: None,
};

fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    for count in COUNTS {
        let index = filled(count);
        let limits = TopicLimits::default();
        for (kind, step) in [("exact", 0), ("plus", 6), ("hash", 8)] {
            let topics: Vec<String> = (0..4096).map(|n| topic_of(draw(n, count), step)).collect();
            let (mut routes, mut ids) = buffers();
            for topic in &topics {
                let name = TopicName::parse(topic.as_bytes(), &limits).expect("valid");
                index.routes(name, &mut routes, &mut ids);
                assert_eq!(routes.len(), 1, "one filter matches {topic}");
            }
            let mut next = 0;
            group.bench_function(BenchmarkId::new(kind, count), |b| {
                b.iter(|| {
                    next = (next + 1) % topics.len();
                    let name = TopicName::parse(topics[next].as_bytes(), &limits).expect("valid");
                    index.routes(name, &mut routes, &mut ids);
                    black_box(routes.len());
                });
            });
        }
        let (mut routes, mut ids) = buffers();
        let hot = topic_of(count / 2, 0);
        group.bench_function(BenchmarkId::new("hot", count), |b| {
            let name = TopicName::parse(hot.as_bytes(), &limits).expect("valid");
            b.iter(|| {
                index.routes(name, &mut routes, &mut ids);
                black_box(routes.len());
            });
        });
    }
    group.finish();
}

/// Filters come and go in rounds over all of them, so that each meets memory gone cold.
fn changing(c: &mut Criterion) {
    for count in COUNTS {
        let mut index = filled(count);
        let limits = TopicLimits::default();
        let filters: Vec<TopicFilter> = (0..4096)
            .map(|n| TopicFilter::parse(&format!("new/{n}/{}", tail(n)), &limits).expect("valid"))
            .collect();
        let mut measure = |name: &str, is_subscribe_watched: bool| {
            c.bench_function(&format!("{name}/{count}"), |b| {
                b.iter_custom(|rounds| {
                    let (mut on, mut off) = (Stopwatch::default(), Stopwatch::default());
                    let mut left = rounds as usize;
                    while left > 0 {
                        let filters = &filters[..left.min(filters.len())];
                        left -= filters.len();
                        on.start();
                        for (n, filter) in filters.iter().enumerate() {
                            index.subscribe(filter, session(n), OPTIONS);
                        }
                        on.stop();
                        off.start();
                        for (n, filter) in filters.iter().enumerate() {
                            index.unsubscribe(filter, session(n));
                        }
                        off.stop();
                    }
                    let watch = if is_subscribe_watched { on } else { off };
                    watch.total()
                });
            });
        };
        measure("subscribe", true);
        measure("unsubscribe", false);
    }
}

/// `shards_for` while other threads change the interest of their shards all the time.
fn interest_under_writers(c: &mut Criterion) {
    let mut group = c.benchmark_group("shards_for, by writers");
    for writers in [0, 1, 3] {
        let table = InterestTable::new(1 + writers, InterestTable::BUCKETS_LOG2, 0x5EED);
        let limits = TopicLimits::default();
        let stop = AtomicBool::new(false);
        let topics: Vec<String> = (0..4096).map(|n| topic_of(n, 0)).collect();
        std::thread::scope(|threads| {
            for shard in 1..=writers {
                let (table, stop) = (&table, &stop);
                threads.spawn(move || change_interest(table, ShardId::new(shard), stop));
            }
            let mut next = 0;
            group.bench_function(BenchmarkId::from_parameter(writers), |b| {
                b.iter(|| {
                    next = (next + 1) % topics.len();
                    let name = TopicName::parse(topics[next].as_bytes(), &limits).expect("valid");
                    black_box(table.shards_for(name));
                });
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

/// One writer: adds and removes filters until it is stopped.
fn change_interest(table: &InterestTable, shard: ShardId, stop: &AtomicBool) {
    let mut interest = Interest::new(shard);
    let limits = TopicLimits::default();
    let filters: Vec<TopicFilter> = (0..1024)
        .map(|n| TopicFilter::parse(&filter_of(n), &limits).expect("valid"))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        for filter in &filters {
            interest.add(table, filter);
        }
        for filter in &filters {
            interest.remove(table, filter);
        }
    }
}

fn filled(count: usize) -> SubscriptionIndex {
    let limits = TopicLimits::default();
    let mut index = SubscriptionIndex::new(0x5EED);
    for n in 0..count {
        let filter = TopicFilter::parse(&filter_of(n), &limits).expect("valid");
        index.subscribe(&filter, session(n), OPTIONS);
    }
    index
}

fn session(n: usize) -> SessionId {
    SessionId {
        index: n as u32,
        generation: 0,
    }
}

fn buffers() -> (Vec<Route>, Vec<NonZeroU32>) {
    (Vec::new(), Vec::new())
}

fn filter_of(n: usize) -> String {
    format!("site/{}/device/{n}/{}", n % 1000, tail(n))
}

fn tail(n: usize) -> &'static str {
    match n % 10 {
        0..=5 => "temperature",
        6 | 7 => "+/state",
        _ => "#",
    }
}

/// A topic that the filter of a number near `n` matches whose tail is that of `kind`.
fn topic_of(n: usize, kind: usize) -> String {
    let n = n / 10 * 10 + kind;
    let tail = match kind {
        0 => "temperature",
        6 => "pump/state",
        _ => "any/thing/below",
    };
    format!("site/{}/device/{n}/{tail}", n % 1000)
}

/// The `n`th of some numbers below `count` in no order.
fn draw(n: usize, count: usize) -> usize {
    let scattered = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    scattered as usize % count
}

criterion_group!(benches, matching, changing, interest_under_writers);
criterion_main!(benches);
