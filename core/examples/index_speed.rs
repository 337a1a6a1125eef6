//! How long the subscription index and the interest table take for one match, subscribe and
//! unsubscribe, at three sizes: `cargo run --release -p ringmq-core --example index_speed`.
//!
//! Nanoseconds of CPU time per operation (wall time for the slowest subscribe), averaged over random topics, so that every match goes to memory that
//! the ones before it did not touch. A quick look; the `bench` package has the suites.

mod timing;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ringmq_core::codec::QoS;
use ringmq_core::ids::{SessionId, ShardId};
use ringmq_core::topic::{
    Interest, InterestTable, Route, SubscriptionIndex, SubscriptionOptions, TopicFilter,
    TopicLimits, TopicName,
};
use timing::cpu_nanos;

fn main() {
    println!(
        "filters    subscribe  +interest  match  routes/match  shards_for  parse  unsubscribe  -interest  B/filter  B/interest  slowest subscribe"
    );
    for count in [1_000, 100_000, 1_000_000] {
        measure(count);
    }
    let before = resident_bytes();
    let table = InterestTable::new(ShardId::COUNT_MAX, InterestTable::BUCKETS_LOG2, 0x5EED);
    println!("{table:?} takes {} bytes", resident_bytes() - before);
}

fn measure(count: usize) {
    let limits = TopicLimits::default();
    let texts: Vec<String> = (0..count).map(filter_text).collect();
    let filters: Vec<TopicFilter> = texts
        .iter()
        .map(|text| TopicFilter::parse(text, &limits).expect("filters are valid"))
        .collect();
    let topics: Vec<String> = (0..MATCHES)
        .map(|n| topic_text(scatter(n) % count))
        .collect();
    let mut index = SubscriptionIndex::new(0x5EED);
    let table = InterestTable::new(2, InterestTable::BUCKETS_LOG2, 0x5EED);
    let mut interest = Interest::new(ShardId::new(0));

    let before = resident_bytes();
    let mut slowest = Duration::ZERO;
    let subscribe = nanos_each(count, |n| {
        let start = Instant::now();
        index.subscribe(&filters[n], session(n), options());
        slowest = slowest.max(start.elapsed());
    });
    let index_bytes = resident_bytes() - before;
    let interest_add = nanos_each(count, |n| interest.add(&table, &filters[n]));
    let interest_bytes = resident_bytes() - before - index_bytes;

    let (mut routes, mut ids): (Vec<Route>, Vec<NonZeroU32>) = (Vec::new(), Vec::new());
    let mut route_count = 0;
    let name =
        |n: usize| TopicName::parse(topics[n].as_bytes(), &limits).expect("topics are valid");
    let parse = nanos_each(MATCHES, |n| {
        std::hint::black_box(name(n));
    });
    let matching = nanos_each(MATCHES, |n| {
        index.routes(name(n), &mut routes, &mut ids);
        route_count += routes.len();
    }) - parse;
    let shards_for = nanos_each(MATCHES, |n| {
        std::hint::black_box(table.shards_for(name(n)));
    }) - parse;

    // In another order than they came.
    let order: Vec<usize> = (0..count).map(|n| n * 7_919 % count).collect();
    let unsubscribe = nanos_each(count, |n| {
        index.unsubscribe(&filters[order[n]], session(order[n]));
    });
    let interest_remove = nanos_each(count, |n| interest.remove(&table, &filters[order[n]]));
    assert!(index.is_empty() && table.is_clear());
    println!(
        "{count:>9} {subscribe:>9.0} {interest_add:>10.0} {matching:>7.0} {:>12.2} {shards_for:>11.0} {parse:>7.0} {unsubscribe:>11.0} {interest_remove:>11.0} {:>9} {:>10}  {slowest:?}",
        route_count as f64 / MATCHES as f64,
        index_bytes / count as i64,
        interest_bytes / count as i64,
    );
}

/// Of ten filters six are exact, two have `+`, two have `#`.
fn filter_text(n: usize) -> String {
    let (site, device) = (n % 1_000, n);
    match n % 10 {
        0..=5 => format!("site/{site}/device/{device}/temperature"),
        6 => format!("site/{site}/device/{device}/+"),
        7 => format!("site/{site}/+/{device}/temperature"),
        8 => format!("site/{site}/device/{device}/#"),
        _ => format!("site/{site}/device/{device}/temperature/#"),
    }
}

fn topic_text(n: usize) -> String {
    format!("site/{}/device/{n}/temperature", n % 1_000)
}

fn nanos_each(count: usize, mut operation: impl FnMut(usize)) -> f64 {
    let start = cpu_nanos();
    for n in 0..count {
        operation(n);
    }
    (cpu_nanos() - start) as f64 / count as f64
}

fn scatter(n: usize) -> usize {
    (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 20
}

fn session(n: usize) -> SessionId {
    SessionId {
        index: n as u32,
        generation: 0,
    }
}

fn options() -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        subscription_id: None,
    }
}

fn resident_bytes() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this runs on Linux");
    let pages: i64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("statm has a second number");
    pages * 4096
}

const MATCHES: usize = 1_000_000;
