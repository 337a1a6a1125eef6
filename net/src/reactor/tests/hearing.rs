//! Listening: nobody is judged by what still waits in a socket.

use super::*;

fn due(bench: &mut Bench, of_connections: bool) {
    // Later than what the shard has heard.
    bench.now = bench.now + Duration::from_nanos(1);
    let at = Some(bench.now);
    bench.reactor.core.deadlines = if of_connections {
        Deadlines {
            of_connections: at,
            ..Deadlines::default()
        }
    } else {
        Deadlines {
            of_absence: at,
            ..Deadlines::default()
        }
    };
}

#[test]
fn a_client_is_judged_only_after_everything_it_sent_was_read() {
    let mut bench = Bench::new();
    let conn = bench.open();
    due(&mut bench, true);
    for call in 0..2 * super::super::CALLS_MAX {
        bench.received_later(conn, &call.to_string());
    }
    bench.turn();
    assert_eq!(bench.events(), ["received 0 0", "received 0 1"]);
    bench.turn();
    bench.turn();
    let events = bench.events();
    assert_eq!(events, ["received 0 2", "received 0 3", "deadline"]);
}

#[test]
fn a_deadline_of_the_clock_waits_for_nobody() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.reactor.core.deadlines.of_clock = Some(bench.now);
    for call in 0..10 {
        bench.received_later(conn, &call.to_string());
    }
    bench.turn();
    assert_eq!(bench.events(), ["received 0 0", "received 0 1", "deadline"]);
}

#[test]
fn clients_are_judged_under_constant_load_too() {
    let mut bench = Bench::new();
    let conn = bench.open();
    due(&mut bench, true);
    let mut completions = 0;
    while bench.reactor.core.deadlines.of_connections.is_some() {
        // There is always more.
        for _ in 0..=super::super::CALLS_MAX {
            bench.received_later(conn, "x");
            completions += 1;
        }
        bench.now = bench.now + Duration::from_nanos(1);
        bench.turn();
        assert!(completions < 1000, "nobody is judged");
    }
    assert!(
        completions > 64,
        "as much as can have been there was taken first"
    );
}

#[test]
fn a_shard_that_stalls_hears_nothing_and_judges_nobody() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.post(0..5, 1); // Shard 1 does not read.
    bench.turn();
    bench.after(Duration::from_secs(60));
    due(&mut bench, true);
    bench.received(conn, "ping", true);
    bench.turn();
    bench.reactor.submit_and_sleep();
    assert_eq!(bench.reactor.ring.ops, [], "no timer makes it hear");
    assert_eq!(bench.events(), [""; 0]);
    while bench.reactor.outbox.posted_count() > 0 {
        while bench.reactor.shared.inboxes[1].take().is_some() {}
        bench.turn();
    }
    bench.turn();
    bench.turn();
    assert_eq!(bench.events(), ["received 0 ping", "deadline"]);
}

#[test]
fn absence_is_judged_only_after_every_shard_has_listened() {
    let mut bench = Bench::new();
    due(&mut bench, false);
    bench.turn();
    assert_eq!(bench.events(), [""; 0]);
    assert!(bench.reactor.shared.inboxes[1].has_news(), "it is woken");
    bench.reactor.submit_and_sleep();
    let again_at = bench.now + Duration::from_millis(1);
    let ops = std::mem::take(&mut bench.reactor.ring.ops);
    assert_eq!(ops, [Op::Timer(again_at.as_nanos())]);
    bench
        .reactor
        .shared
        .heard
        .publish(ShardId::new(1), bench.now);
    bench.complete(Completion::TimerFired);
    bench.after(Duration::from_millis(1));
    assert_eq!(bench.events(), ["deadline"]);
}

#[test]
fn a_shard_publishes_how_far_it_has_listened_after_its_departures_have_arrived() {
    let mut bench = Bench::new();
    bench.accepted(Ok(socket()), true);
    bench.turn();
    let told = |bench: &Bench| {
        let mut others = bench.reactor.shared.heard.others(ShardId::new(1));
        others.next().expect("there are two shards").1
    };
    assert_eq!(told(&bench), bench.now);
    let conn = bench.reactor.slots.live()[0];
    let began = bench.now;
    bench.received(conn, "CONNECT", true);
    bench.reactor.outbox.handovers.push(Handover {
        conn,
        target: ShardId::new(1),
        bytes: b"CONNECT".to_vec(),
    });
    // Its receive is still with the kernel.
    bench.after(Duration::from_secs(1));
    bench.after(Duration::from_secs(1));
    assert_eq!(told(&bench), began);
    bench.input(conn, Input::Failed(Errno::CANCELED), false);
    bench.complete(Completion::Cancelled { conn });
    bench.after(Duration::from_secs(1));
    bench.turn();
    assert_eq!(told(&bench), bench.now);
    assert!(bench.reactor.shared.inboxes[1].has_news());
}

#[test]
fn a_stalled_shard_takes_a_connect_after_what_came_before_it() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.post(0..5, 1); // Shard 1 does not read.
    bench.turn();
    bench.received(conn, "DISCONNECT", true);
    bench.turn();
    let inboxes = Arc::clone(&bench.reactor.shared.inboxes);
    let moved = Box::new(crate::inbox::Moved {
        socket: socket(),
        newcomer: crate::reactor::slot::Newcomer {
            peer: PeerIdentity::default(),
            since: bench.now,
            permit: Permit::Unwelcome,
        },
        transport: None,
        bytes: b"CONNECT".to_vec(),
    });
    inboxes[0].send(ShardId::new(1), moved).unwrap();
    bench.turn();
    assert_eq!(bench.events(), [""; 0]);
    while bench.reactor.outbox.posted_count() > 0 {
        while inboxes[1].take().is_some() {}
        bench.turn();
    }
    bench.turn();
    let taken = ["received 0 DISCONNECT", "accepted 1", "received 1 CONNECT"];
    assert_eq!(bench.events(), taken);
}
