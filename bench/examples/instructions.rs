//! Whole turns without a kernel, some number of times, for a tool that counts instructions: `scripts/instructions`.

use ringmq::rig::Rig;
use ringmq_bench::{answer, connect, publishes, shard, subscribe};
use ringmq_core::codec::{QoS, Version};
use ringmq_core::shard::Shard;

const VERSION: Version = Version::V5;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, publishers, subscribers, qos, rounds] = &args[..] else {
        eprintln!("usage: instructions PUBLISHERS SUBSCRIBERS QOS ROUNDS");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (publishers, subscribers) = (number(publishers), number(subscribers));
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number(qos)];
    let mut rig = set_up(publishers, subscribers, qos);
    let packet = publishes(VERSION, "bench/all", qos, 64, 1);
    let mut deliveries = 0;
    for _ in 0..number(rounds) {
        for publisher in 0..publishers {
            rig.receive(publisher, &packet, false);
        }
        deliveries += settle(&mut rig);
    }
    println!("{deliveries}");
}

/// Publishers are the first clients, subscribers follow.
fn set_up(publishers: usize, subscribers: usize, qos: QoS) -> Rig<Shard> {
    let count = publishers + subscribers;
    let mut rig = Rig::new(shard(), count).expect("an eventfd and /dev/null");
    for client in 0..count {
        rig.receive(client, &connect(VERSION, &format!("client-{client}")), true);
        rig.turn();
    }
    for client in publishers..count {
        rig.receive(client, &subscribe(VERSION, "bench/all", qos), false);
        rig.turn();
    }
    settle(&mut rig);
    rig
}

/// Turns, with what clients answer, until nothing more is sent. Gives the PUBLISH packets that clients got.
fn settle(rig: &mut Rig<Shard>) -> u64 {
    let mut deliveries = 0;
    loop {
        rig.turn();
        let sent: Vec<(usize, Vec<u8>)> = rig.sent().collect();
        if sent.is_empty() {
            return deliveries;
        }
        for (client, bytes) in sent {
            let mut answers = Vec::new();
            deliveries += answer(VERSION, &bytes, &mut answers);
            if !answers.is_empty() {
                rig.receive(client, &answers, false);
            }
        }
    }
}
