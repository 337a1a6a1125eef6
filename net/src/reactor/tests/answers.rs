//! Answers that wait for others to go with.

use super::*;

/// Four connections that get messages, and one more that is answered.
fn crowd() -> (Bench, Vec<ConnId>, ConnId) {
    let mut bench = Bench::with(Admission {
        connections_max: 8,
        ..Admission::default()
    });
    for _ in 0..5 {
        bench.accepted(Ok(socket()), true);
        bench.reactor.core.home = true;
        bench.turn();
    }
    let mut receivers: Vec<ConnId> = bench.reactor.slots.live();
    let answered = receivers.pop().unwrap();
    bench.reactor.core.answering.push(answered);
    bench.events();
    (bench, receivers, answered)
}

/// The connections of the sends.
fn sent(ops: &[Op]) -> Vec<u32> {
    let conns = ops.iter().filter_map(|op| match op {
        Op::Send(conn, _) => Some(*conn),
        _ => None,
    });
    conns.collect()
}

#[test]
fn an_idle_shard_answers_at_once() {
    let (mut bench, receivers, answered) = crowd();
    bench.say(answered, "ack");
    bench.say(receivers[0], "message");
    assert_eq!(sent(&bench.turn()), [receivers[0].index, answered.index]);
}

#[test]
fn answers_wait_while_a_shard_is_busy_and_go_when_it_is_not() {
    let (mut bench, receivers, answered) = crowd();
    bench.say(answered, "ack");
    let messages: Vec<u32> = receivers.iter().map(|conn| conn.index).collect();
    for conn in &receivers {
        bench.say(*conn, "message");
    }
    assert_eq!(sent(&bench.turn()), messages);
    assert!(bench.reactor.has_work(), "it does not go to sleep on them");
    assert_eq!(sent(&bench.turn()), [answered.index]);
    assert!(!bench.reactor.has_work());
}

#[test]
fn answers_wait_100_us_however_busy_a_shard_is() {
    let (mut bench, receivers, answered) = crowd();
    bench.say(answered, "ack");
    let mut turns = 0;
    loop {
        for conn in &receivers {
            bench.say(*conn, "message");
        }
        let ops = bench.after(Duration::from_micros(30));
        turns += 1;
        if sent(&ops).contains(&answered.index) {
            break;
        }
        while !bench.reactor.ring.flights.is_empty() {
            bench.sent(Ok("message".len() as u32));
        }
        assert!(turns < 10, "never sent");
    }
    // The first one at 30 us, the fifth at 150.
    assert_eq!(turns, 5);
}

#[test]
fn what_presses_takes_the_answers_along_in_its_turn() {
    let (mut bench, receivers, answered) = crowd();
    bench.say(answered, "ack");
    for conn in &receivers {
        bench.say(*conn, "message");
    }
    bench.turn();
    // The core reports it anew when something pressing is behind the answer.
    bench.reactor.core.answering.clear();
    bench.reactor.outbox.dirty.push(answered);
    for conn in &receivers {
        bench.sent(Ok("message".len() as u32));
        bench.say(*conn, "message");
    }
    assert!(sent(&bench.turn()).contains(&answered.index));
    bench.reactor.core.answering.push(answered);
    let flight = bench.reactor.ring.flights.len();
    bench.turn();
    assert_eq!(bench.reactor.ring.flights.len(), flight, "once");
}
