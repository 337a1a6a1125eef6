//! One shard without sockets: what the broker itself costs per delivery.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq_bench::{Bench, acks, publishes};
use ringmq_core::codec::{QoS, Version};

/// Messages in one receive: 40 packets of 64 bytes payload fill a 4 KiB buffer.
const BATCH: u16 = 40;

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out");
    for version in [Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            for subscribers in [1_u32, 100, 10_000] {
                let mut bench = Bench::new();
                bench.connect(0, version);
                for index in 1..=subscribers {
                    bench.connect(index, version);
                    bench.subscribe(index, version, "bench/t", qos);
                }
                let batch = if subscribers > 100 { 1 } else { BATCH };
                let bytes = publishes(version, "bench/t", qos, 64, batch);
                group.throughput(Throughput::Elements(
                    u64::from(subscribers) * u64::from(batch),
                ));
                let name = format!("{version:?}-qos{}", qos as u8);
                group.bench_function(BenchmarkId::new(name, subscribers), |b| {
                    b.iter(|| turn(&mut bench, version, qos, &bytes));
                });
            }
        }
    }
    group.finish();
}

/// Publishes, sends, and takes the acknowledgements in.
fn turn(bench: &mut Bench, version: Version, qos: QoS, bytes: &[u8]) {
    bench.receive(0, bytes);
    let mut answers = Vec::new();
    bench.drain(|index, bytes| {
        if index > 0 && qos > QoS::AtMostOnce {
            answers.push((index, acks(version, bytes)));
        }
    });
    for (index, bytes) in answers {
        bench.receive(index, &bytes);
    }
    bench.drain(|_, _| {});
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
