//! Accepting: limits, rates, and a machine that is out of something.

use super::*;

// (threat 40)
#[test]
fn connections_above_the_limit_are_told_so_and_still_more_of_them_are_closed() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.open();
    }
    bench.reactor.core.home = false;
    bench.accepted(Ok(socket()), true);
    assert_eq!(bench.turn(), [Op::Receive(3, Receive::Once)]);
    assert_eq!(
        bench.events(),
        ["accepted 3", "unwelcome 3 connections_full"]
    );
    for _ in 1..=UNWELCOME_MAX {
        bench.accepted(Ok(socket()), true);
    }
    bench.turn();
    assert_eq!(bench.live_count(), 3 + UNWELCOME_MAX);
    assert_eq!(bench.reactor.counts.refused, 1);
    assert_eq!(bench.reactor.shared.permits.connections(), 3);
    bench.events();
    // A permit that becomes free goes to the next one, however many of the others are still there.
    let conn = bench.reactor.slots.live()[1];
    bench.input(conn, Input::End, false).turn();
    bench.closed().turn();
    bench.events();
    bench.accepted(Ok(socket()), true).turn();
    assert_eq!(bench.events(), ["accepted 1"]);
    for conn in bench.reactor.slots.live() {
        bench.close(conn, false);
    }
    bench.turn();
    for _ in 0..3 + UNWELCOME_MAX {
        let conn = bench.reactor.slots.live()[0];
        bench.input(conn, Input::End, false);
        bench.turn();
        bench.closed().turn();
    }
    assert_eq!(bench.live_count(), 0);
    assert_eq!(bench.reactor.shared.permits.connections(), 0);
    assert!((0..UNWELCOME_MAX).all(|_| bench.reactor.shared.permits.take_unwelcome()));
}

#[test]
fn clients_that_come_too_fast_wait_in_the_kernel() {
    let mut bench = Bench::with(Admission {
        connect_rate_max: 2,
        ..Admission::default()
    });
    for _ in 0..2 {
        bench.accepted(Ok(socket()), true);
    }
    assert!(!bench.turn().contains(&Op::CancelAccept));
    // Two that the kernel had accepted: they stay.
    for _ in 0..2 {
        bench.accepted(Ok(socket()), true);
    }
    assert!(bench.turn().contains(&Op::CancelAccept));
    assert_eq!(bench.live_count(), 4);
    assert_eq!(bench.reactor.counts.accepts_throttled, 1);
    // Four are paid for in two seconds; a tenth of a second's worth is there after 1.1.
    bench.accepted(Err(Errno::CANCELED), false);
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.after(Duration::from_millis(1099)), []);
    assert_eq!(bench.after(Duration::from_millis(1)), [Op::Accept]);
    // The end of an accept that ended by itself is not waited for.
    bench.accepted(Ok(socket()), false);
    assert!(!bench.turn().contains(&Op::CancelAccept));
    assert_eq!(bench.live_count(), 5);
    assert_eq!(bench.reactor.counts.accepts_throttled, 2);
    assert_eq!(bench.after(Duration::from_secs(2)), [Op::Accept]);
}

#[test]
fn out_of_descriptors_pauses_the_accept_and_leaves_clients_alone() {
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS] {
        let mut bench = Bench::new();
        let conn = bench.open();
        bench.accepted(Err(errno), false);
        assert_eq!(bench.turn(), [], "{errno}");
        assert_eq!(bench.turn(), [], "no busy loop");
        bench.received(conn, "still here", true);
        assert_eq!(bench.after(Duration::from_millis(900)), []);
        assert_eq!(bench.events(), ["received 0 still here"]);
        // The timer is set for the retry, even if nothing else happens.
        bench.reactor.submit_and_sleep();
        let retry_at = Op::Timer(1 + 1_000_000_000);
        assert_eq!(std::mem::take(&mut bench.reactor.ring.ops), [retry_at]);
        assert_eq!(bench.after(Duration::from_millis(100)), [Op::Accept]);
        assert_eq!(bench.reactor.counts.accept_pauses, 1);
    }
}

#[test]
fn failures_to_accept_are_logged_once_in_ten_seconds() {
    let mut bench = Bench::new();
    let mut logged = Vec::new();
    for second in 0..25u64 {
        bench.accepted(Err(Errno::MFILE), false);
        bench.turn();
        let at = bench.reactor.accept_logged_at;
        if at != logged.last().map(|(_, at)| *at).unwrap_or_default() {
            logged.push((second, at));
        }
        assert_eq!(bench.after(Duration::from_secs(1)), [Op::Accept]);
    }
    let seconds: Vec<_> = logged.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [0, 10, 20]);
}
