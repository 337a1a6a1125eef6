//! The inbox, and whole turns of the reactor on a ring that completes everything at once: what is
//! left when the kernel costs nothing.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::rig::{Mailbox, Rig};
use ringmq_bench::{Stopwatch, answer, connect, publishes, shard, subscribe};
use ringmq_core::codec::{QoS, Version};
use ringmq_core::ids::BarrierId;
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Shard, ShardMsg};

const VERSION: Version = Version::V5;

/// Who publishes to whom in one turn.
struct Pattern {
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    /// Every publisher has a subscriber of its own.
    is_paired: bool,
}

const PATTERNS: [Pattern; 4] = [
    Pattern {
        name: "1 to 1",
        publishers: 1,
        subscribers: 1,
        is_paired: true,
    },
    Pattern {
        name: "50 pairs",
        publishers: 50,
        subscribers: 50,
        is_paired: true,
    },
    Pattern {
        name: "1 to 200",
        publishers: 1,
        subscribers: 200,
        is_paired: false,
    },
    Pattern {
        name: "50 to 1",
        publishers: 50,
        subscribers: 1,
        is_paired: false,
    },
];

fn turns(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    for pattern in &PATTERNS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut rig = set_up(pattern, qos);
            let inputs: Vec<(usize, Vec<u8>)> = (0..pattern.publishers)
                .map(|client| {
                    (
                        client,
                        publishes(VERSION, &topic(pattern, client), qos, 64, 1),
                    )
                })
                .collect();
            let deliveries = pattern.publishers.max(pattern.subscribers) as u64;
            let seen = exchange(&mut rig, &inputs, &mut Stopwatch::default());
            assert_eq!(seen, deliveries, "every subscriber gets every message");
            group.throughput(Throughput::Elements(deliveries));
            let id = BenchmarkId::new(format!("qos{}", qos as u8), pattern.name);
            group.bench_function(id, |b| {
                b.iter_custom(|rounds| {
                    let mut watch = Stopwatch::default();
                    for _ in 0..rounds {
                        exchange(&mut rig, &inputs, &mut watch);
                    }
                    watch.total()
                });
            });
        }
    }
    group.finish();
}

/// Publishers are the first clients, subscribers follow.
fn set_up(pattern: &Pattern, qos: QoS) -> Rig<Shard> {
    let count = pattern.publishers + pattern.subscribers;
    let mut rig = Rig::new(shard(), count).expect("an eventfd and /dev/null");
    for client in 0..count {
        rig.receive(client, &connect(VERSION, &format!("client-{client}")), true);
        rig.turn();
    }
    for client in 0..pattern.subscribers {
        let packet = subscribe(VERSION, &topic(pattern, client), qos);
        rig.receive(pattern.publishers + client, &packet, false);
        rig.turn();
    }
    rig.turn();
    rig
}

fn topic(pattern: &Pattern, client: usize) -> String {
    if pattern.is_paired {
        format!("bench/pair/{client}")
    } else {
        "bench/all".to_owned()
    }
}

/// One turn takes all inputs in; more follow until nobody owes an acknowledgement. Returns the
/// messages delivered.
fn exchange(rig: &mut Rig<Shard>, inputs: &[(usize, Vec<u8>)], watch: &mut Stopwatch) -> u64 {
    for (client, bytes) in inputs {
        rig.receive(*client, bytes, false);
    }
    let mut delivered = 0;
    loop {
        watch.start();
        rig.turn();
        watch.stop();
        let mut answers = Vec::new();
        for (client, bytes) in rig.sent() {
            let mut owed = Vec::new();
            delivered += answer(VERSION, &bytes, &mut owed);
            answers.push((client, owed));
        }
        if answers.is_empty() {
            return delivered;
        }
        for (client, owed) in answers.iter().filter(|(_, owed)| !owed.is_empty()) {
            rig.receive(*client, owed, false);
        }
    }
}

fn inbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("inbox");
    let from = ShardId::new(1);
    for batch in [1_usize, 32, 1024] {
        let mailbox = Mailbox::new(8192).expect("an eventfd");
        let mut messages = mail(batch);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("post and take", batch), |b| {
            b.iter(|| {
                let posted = mailbox.post(from, std::mem::take(&mut messages));
                posted.expect("there is room");
                messages = black_box(mailbox.take()).expect("it was posted");
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("take, with a writer", |b| {
        b.iter_custom(take_from_a_writer);
    });
    let mailbox = Mailbox::new(8192).expect("an eventfd");
    let mut messages = mail(1);
    group.bench_function("post to a sleeping reader", |b| {
        b.iter_custom(|rounds| {
            let mut watch = Stopwatch::default();
            for _ in 0..rounds {
                mailbox.park();
                watch.start();
                let posted = mailbox.post(from, std::mem::take(&mut messages));
                watch.stop();
                posted.expect("there is room");
                mailbox.unpark();
                messages = mailbox.take().expect("it was posted");
            }
            watch.total()
        });
    });
    group.finish();
}

/// Takes `count` messages that another thread posts, in batches of 32, as fast as it can.
fn take_from_a_writer(count: u64) -> std::time::Duration {
    let mailbox = Mailbox::new(8192).expect("an eventfd");
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut messages = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                if messages.is_empty() {
                    messages = mail(32);
                }
                match mailbox.post(ShardId::new(1), std::mem::take(&mut messages)) {
                    Ok(()) => {}
                    Err(rest) => messages = rest,
                }
            }
        });
        let mut watch = Stopwatch::default();
        let mut taken = 0;
        watch.start();
        while taken < count {
            match mailbox.take() {
                Some(messages) => taken += messages.len() as u64,
                None => std::hint::spin_loop(),
            }
        }
        watch.stop();
        stop.store(true, Ordering::Relaxed);
        watch.total()
    })
}

fn mail(count: usize) -> Vec<ShardMsg> {
    (0..count as u64)
        .map(|n| ShardMsg::Barrier {
            barrier: BarrierId(n),
        })
        .collect()
}

criterion_group!(benches, turns, inbox);
criterion_main!(benches);
