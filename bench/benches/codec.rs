//! Decode and encode of each kind of packet, in 3.1.1 and 5.0.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq_bench::samples;
use ringmq_core::codec::{Direction, FrameRules, Framer, PACKET_SIZE_MAX, Version, decode};

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for version in [Version::V311, Version::V5] {
        for sample in samples(version) {
            let rules = FrameRules {
                version: (sample.direction == Direction::FromServer || sample.name != "CONNECT")
                    .then_some(version),
                size_max: PACKET_SIZE_MAX,
                direction: sample.direction,
            };
            group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
            let id = BenchmarkId::new(sample.name, format!("{version:?}"));
            group.bench_function(id, |b| {
                let mut framer = Framer::default();
                b.iter(|| {
                    let mut input = black_box(&sample.bytes[..]);
                    let frame = framer
                        .next(&mut input, &rules)
                        .expect("a valid sample")
                        .expect("whole");
                    black_box(decode(&frame, version, sample.direction).expect("a valid sample"));
                });
            });
        }
    }
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for version in [Version::V311, Version::V5] {
        for sample in samples(version) {
            let rules = FrameRules {
                version: (sample.name != "CONNECT").then_some(version),
                size_max: PACKET_SIZE_MAX,
                direction: sample.direction,
            };
            let mut framer = Framer::default();
            let mut input = &sample.bytes[..];
            let frame = framer
                .next(&mut input, &rules)
                .expect("a valid sample")
                .expect("whole");
            let packet = decode(&frame, version, sample.direction).expect("a valid sample");
            group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
            let id = BenchmarkId::new(sample.name, format!("{version:?}"));
            group.bench_function(id, |b| {
                let mut out = Vec::with_capacity(4096);
                b.iter(|| {
                    out.clear();
                    black_box(&packet).encode(version, &mut out);
                    black_box(&out);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
