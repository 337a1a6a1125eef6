//! The subscription index and the interest table, at a thousand, 100,000 and a million filters.
//!
//! 60 % of the filters are exact, 20 % have a `+`, 20 % end in `#`. Topics are drawn at random, so
//! that a match goes to memory that the ones before it did not touch.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
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

fn changing(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe and unsubscribe");
    for count in COUNTS {
        let mut index = filled(count);
        let limits = TopicLimits::default();
        let filters: Vec<TopicFilter> = (0..4096)
            .map(|n| TopicFilter::parse(&format!("new/{n}/{}", tail(n)), &limits).expect("valid"))
            .collect();
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                next = (next + 1) % filters.len();
                index.subscribe(&filters[next], session(next), OPTIONS);
                index.unsubscribe(&filters[next], session(next));
            });
        });
    }
    group.finish();
}

/// `shards_for` while another thread changes its shard's interest all the time.
fn interest_under_writers(c: &mut Criterion) {
    let table = Arc::new(InterestTable::new(2, InterestTable::BUCKETS_LOG2, 0x5EED));
    let limits = TopicLimits::default();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (table, stop) = (table.clone(), stop.clone());
        move || {
            let mut interest = Interest::new(ShardId::new(1));
            let filters: Vec<TopicFilter> = (0..1024)
                .map(|n| TopicFilter::parse(&filter_of(n), &limits).expect("valid"))
                .collect();
            while !stop.load(Ordering::Relaxed) {
                filters
                    .iter()
                    .for_each(|filter| interest.add(&table, filter));
                filters
                    .iter()
                    .for_each(|filter| interest.remove(&table, filter));
            }
        }
    });
    let topics: Vec<String> = (0..4096).map(|n| topic_of(n, 0)).collect();
    let mut next = 0;
    c.bench_function("shards_for, with a writer", |b| {
        b.iter(|| {
            next = (next + 1) % topics.len();
            let name = TopicName::parse(topics[next].as_bytes(), &limits).expect("valid");
            black_box(table.shards_for(name));
        });
    });
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
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
