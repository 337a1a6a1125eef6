//! One event among N: what it costs while N others are there. Every row is to be flat, within twice, from
//! N = 1,000 to 100,000.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq_bench::{
    Bench, Stopwatch, connect, connect_with, publish_with, publishes, subscribe, subscribe_all,
    unsubscribe, unsubscribe_all,
};
use ringmq_core::codec::{ConnectProperties, QoS, Version};
use ringmq_core::limits::Limits;

const VERSION: Version = Version::V5;
const CROWDS: [u32; 2] = [1_000, 100_000];

/// Measures an event beside a crowd. `event` puts what counts on the watch; its last argument counts the
/// events.
fn among(
    c: &mut Criterion,
    name: &str,
    set_up: impl Fn(u32) -> Bench,
    mut event: impl FnMut(&mut Bench, u32, &mut Stopwatch, u32),
) {
    let mut group = c.benchmark_group(name);
    for count in CROWDS {
        let mut bench = set_up(count);
        let mut round = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|rounds| {
                let mut watch = Stopwatch::default();
                for _ in 0..rounds {
                    event(&mut bench, count, &mut watch, round);
                    round += 1;
                }
                watch.total()
            });
        });
    }
    group.finish();
}

/// Nothing in it is bounded so that a crowd would not fit.
fn bench() -> Bench {
    let limits = Limits {
        subscriptions_max: 1_000_000,
        packet_size_max: 64 * 1024 * 1024,
        queued_messages_max: CROWDS[1],
        queued_bytes_max: 1024 * 1024 * 1024,
        ..Limits::default()
    };
    let mut bench = Bench::with_limits(VERSION, limits);
    bench.connect(0);
    bench
}

/// Clients in the slots from 1 on.
fn crowd(count: u32) -> Bench {
    let mut bench = bench();
    (1..=count).for_each(|index| bench.connect(index));
    bench
}

fn filters(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("site/{n}/state")).collect()
}

fn a_filter_in_a_subscribe(c: &mut Criterion) {
    let mut group = c.benchmark_group("a filter in a SUBSCRIBE of N");
    for count in [1_000, 10_000, 100_000] {
        let mut bench = bench();
        let on = subscribe_all(VERSION, &filters(count), QoS::AtLeastOnce);
        let off = unsubscribe_all(VERSION, &filters(count));
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|rounds| {
                let mut watch = Stopwatch::default();
                for _ in 0..rounds {
                    bench.exchange(0, &on, &mut watch);
                    bench.catch_up();
                    bench.settle(0, &off);
                }
                watch.total()
            });
        });
    }
    group.finish();
}

/// Retained messages of N filters wait for a client whose window is full.
fn a_publish_beside_waiting_gathers(c: &mut Criterion) {
    let set_up = |count| {
        let mut bench = bench();
        for filter in filters(count) {
            let retained = publish_with(VERSION, &filter, QoS::AtLeastOnce, true, None, b"x");
            bench.settle(0, &retained);
        }
        let properties = ConnectProperties {
            receive_maximum: Some(1),
            ..ConnectProperties::default()
        };
        bench.accept(1);
        bench.settle(1, &connect_with(VERSION, "deaf", properties));
        bench.deafen(1);
        let all = subscribe_all(VERSION, &filters(count), QoS::AtLeastOnce);
        bench.settle(1, &all);
        bench.catch_up();
        bench.subscribe(1, "live", QoS::AtMostOnce);
        bench
    };
    for (retain, name) in [(false, "plain"), (true, "retained")] {
        let live = publish_with(VERSION, "live", QoS::AtMostOnce, retain, None, b"x");
        let name = format!("a {name} publish to a client with N gathers that wait");
        among(c, &name, set_up, |bench, _, watch, _| {
            assert_eq!(bench.exchange(0, &live, watch), 1);
        });
    }
}

fn a_publish_beside_others(c: &mut Criterion) {
    let set_up = |count| {
        let mut bench = crowd(count);
        for index in 2..=count {
            bench.subscribe(index, &format!("site/{index}/+"), QoS::AtLeastOnce);
        }
        bench.subscribe(1, "t", QoS::AtMostOnce);
        bench
    };
    let bytes = publishes(VERSION, "t", QoS::AtMostOnce, 64, 1);
    among(
        c,
        "a publish beside N sessions",
        set_up,
        |bench, _, watch, _| {
            assert_eq!(bench.exchange(0, &bytes, watch), 1);
        },
    );
}

fn ends_of_connections(c: &mut Criterion) {
    let bytes = connect(VERSION, "comes and goes");
    among(c, "a close among N", crowd, |bench, count, watch, _| {
        bench.accept(count + 1);
        bench.settle(count + 1, &bytes);
        watch.start();
        bench.close(count + 1);
        watch.stop();
    });
    let bytes = connect(VERSION, "client-1");
    among(
        c,
        "a takeover among N",
        crowd,
        |bench, count, watch, round| {
            // Of the one from the round before, or of the client that was there.
            let (slot, other) = (count + 1 + round % 2, count + 1 + (round + 1) % 2);
            bench.accept(slot);
            bench.exchange(slot, &bytes, watch);
            bench.close(if round == 0 { 1 } else { other });
        },
    );
}

fn timers(c: &mut Criterion) {
    let set_up = |count| {
        let mut bench = bench();
        for index in 1..=count {
            bench.wait(Duration::from_millis(1));
            bench.connect(index);
        }
        bench
    };
    among(
        c,
        "a keep alive that ends among N",
        set_up,
        |bench, _, watch, _| {
            for slot in bench.meet_deadline(watch) {
                bench.close(slot);
                bench.wait(Duration::from_millis(1));
                bench.connect(slot);
            }
        },
    );
    let properties = ConnectProperties {
        session_expiry_s: Some(3600),
        ..ConnectProperties::default()
    };
    let visit = move |bench: &mut Bench, n: u32| {
        bench.wait(Duration::from_millis(1));
        bench.accept(1);
        bench.settle(1, &connect_with(VERSION, &format!("away-{n}"), properties));
        bench.close(1);
    };
    let set_up = |count| {
        let mut bench = Bench::new(VERSION);
        (0..count).for_each(|n| visit(&mut bench, n));
        bench
    };
    among(
        c,
        "a session that expires among N",
        set_up,
        |bench, count, watch, round| {
            bench.meet_deadline(watch);
            visit(bench, count + round);
        },
    );
}

/// SUBSCRIBE and UNSUBSCRIBE of one client, together.
fn comings_and_goings(c: &mut Criterion) {
    for (name, filter) in [
        ("a member that joins and leaves a group of N", "$share/g/t"),
        (
            "a subscriber that comes and goes among N of its filter",
            "t",
        ),
    ] {
        let set_up = |count| {
            let mut bench = crowd(count);
            (1..=count).for_each(|index| bench.subscribe(index, filter, QoS::AtLeastOnce));
            bench
        };
        let on = subscribe(VERSION, filter, QoS::AtLeastOnce);
        let off = unsubscribe(VERSION, filter);
        among(c, name, set_up, |bench, _, watch, _| {
            bench.exchange(0, &on, watch);
            bench.exchange(0, &off, watch);
        });
    }
    let set_up = |count: u32| {
        let mut bench = bench();
        let groups: Vec<String> = (0..count).map(|n| format!("$share/g{n}/t")).collect();
        bench.settle(0, &subscribe_all(VERSION, &groups, QoS::AtLeastOnce));
        bench
    };
    let on = subscribe(VERSION, "$share/g17/t", QoS::AtLeastOnce);
    let off = unsubscribe(VERSION, "$share/g17/t");
    let name = "a group that goes and comes among N of a filter and a session";
    among(c, name, set_up, |bench, _, watch, _| {
        bench.exchange(0, &off, watch);
        bench.exchange(0, &on, watch);
    });
}

fn messages_that_are_kept(c: &mut Criterion) {
    let set_up = |count| {
        let mut bench = bench();
        for topic in filters(count) {
            let retained = publish_with(VERSION, &topic, QoS::AtMostOnce, true, None, b"x");
            bench.settle(0, &retained);
        }
        bench
    };
    let set = publish_with(VERSION, "site/new", QoS::AtMostOnce, true, None, b"x");
    let delete = publish_with(VERSION, "site/new", QoS::AtMostOnce, true, None, b"");
    among(
        c,
        "a retained message that comes and goes among N",
        set_up,
        |bench, _, watch, _| {
            bench.exchange(0, &set, watch);
            bench.exchange(0, &delete, watch);
        },
    );
    // A full queue, of which one message expires per second.
    let expiring =
        |n: u32| publish_with(VERSION, "t", QoS::AtLeastOnce, false, Some(n + 1000), b"x");
    let set_up = |count| {
        let limits = Limits {
            queued_messages_max: count,
            ..Limits::default()
        };
        let mut bench = Bench::with_limits(VERSION, limits);
        let properties = ConnectProperties {
            session_expiry_s: Some(u32::MAX),
            ..ConnectProperties::default()
        };
        bench.accept(1);
        bench.settle(1, &connect_with(VERSION, "away", properties));
        bench.subscribe(1, "t", QoS::AtLeastOnce);
        bench.close(1);
        bench.connect(0);
        (0..count).for_each(|n| bench.settle(0, &expiring(n)));
        bench.wait(Duration::from_secs(1000));
        bench
    };
    let name = "a publish to a full queue of N, of which one has expired";
    among(c, name, set_up, |bench, count, watch, _| {
        bench.exchange(0, &expiring(count - 1000), watch);
        bench.wait(Duration::from_secs(1));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = a_filter_in_a_subscribe,
        a_publish_beside_waiting_gathers,
        a_publish_beside_others,
        ends_of_connections,
        timers,
        comings_and_goings,
        messages_that_are_kept
}
criterion_main!(benches);
