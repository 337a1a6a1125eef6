//! One shard without sockets: what the broker itself costs per delivery, per subscription and per
//! client that comes and goes. What the clients do is off the watch.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq_bench::{Bench, Stopwatch, connect, publishes, subscribe, unsubscribe};
use ringmq_core::codec::{QoS, Version};

/// Messages in one receive: 40 packets of 64 bytes payload fill a 4 KiB buffer.
const BATCH: u16 = 40;

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out");
    for version in [Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for subscribers in [1_u32, 100, 10_000] {
                let mut bench = Bench::new(version);
                bench.connect(0);
                for index in 1..=subscribers {
                    bench.connect(index);
                    bench.subscribe(index, "bench/t", qos);
                }
                let batch = if subscribers > 100 { 1 } else { BATCH };
                let bytes = publishes(version, "bench/t", qos, 64, batch);
                let deliveries = u64::from(subscribers) * u64::from(batch);
                let seen = bench.exchange(0, &bytes, &mut Stopwatch::default());
                assert_eq!(seen, deliveries, "every subscriber gets every message");
                group.throughput(Throughput::Elements(deliveries));
                let name = format!("{version:?}-qos{}", qos as u8);
                group.bench_function(BenchmarkId::new(name, subscribers), |b| {
                    b.iter_custom(|rounds| {
                        let mut watch = Stopwatch::default();
                        for _ in 0..rounds {
                            bench.exchange(0, &bytes, &mut watch);
                        }
                        watch.total()
                    });
                });
            }
        }
    }
    group.finish();
}

/// SUBSCRIBE and UNSUBSCRIBE, from the packet to its answer, beside the filters of other clients.
fn subscribing(c: &mut Criterion) {
    let version = Version::V5;
    let mut bench = Bench::new(version);
    bench.connect(0);
    bench.connect(1);
    for n in 0..5_000 {
        bench.subscribe(1, &format!("site/{n}/+/state"), QoS::AtLeastOnce);
    }
    let on = subscribe(version, "site/17/device/4711/command", QoS::AtLeastOnce);
    let off = unsubscribe(version, "site/17/device/4711/command");
    c.bench_function("SUBSCRIBE and UNSUBSCRIBE", |b| {
        b.iter_custom(|rounds| {
            let mut watch = Stopwatch::default();
            for _ in 0..rounds {
                bench.exchange(0, &on, &mut watch);
                bench.exchange(0, &off, &mut watch);
            }
            watch.total()
        });
    });
}

/// A client that connects, gets its CONNACK, and is gone.
fn connecting(c: &mut Criterion) {
    let version = Version::V5;
    let mut bench = Bench::new(version);
    for index in 1..=10_000 {
        bench.connect(index);
    }
    let packet = connect(version, "comes and goes");
    c.bench_function("CONNECT and the end of the connection", |b| {
        b.iter_custom(|rounds| {
            let mut watch = Stopwatch::default();
            for _ in 0..rounds {
                watch.start();
                bench.accept(0);
                watch.stop();
                bench.exchange(0, &packet, &mut watch);
                watch.start();
                bench.close(0);
                watch.stop();
            }
            watch.total()
        });
    });
}

criterion_group!(benches, fan_out, subscribing, connecting);
criterion_main!(benches);
