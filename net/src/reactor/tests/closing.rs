//! Closing: what it asks of the ring, and how much in a turn.

use ringmq_core::shard::Reading;

use super::super::close::CLOSES_MAX;
use super::*;

// Each of these costs the kernel the same among however many connections: nothing looks for the
// operations of one socket among those of all.
#[test]
fn a_cut_hangs_up_once_and_closes_once_whatever_is_in_flight() {
    for (is_sending, is_pausing) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = Bench::new();
        let conn = bench.open();
        if is_sending {
            bench.say(conn, "stuck");
        }
        if is_pausing {
            bench
                .reactor
                .outbox
                .readings
                .push(Reading { conn, paused: true });
        }
        bench.turn();
        bench.close(conn, false);
        let mut ops = bench.turn();
        if is_sending {
            bench.sent(Err(Errno::PIPE));
        }
        if is_pausing {
            bench.complete(Completion::Cancelled { conn });
        }
        bench.input(conn, Input::End, false);
        ops.extend(bench.turn());
        assert_eq!(ops, [Op::HangUp, Op::Close(0)]);
        bench.closed().turn();
        assert_eq!(bench.live_count(), 0);
    }
}

#[test]
fn many_closes_are_spread_over_turns() {
    let mut bench = Bench::with(Admission {
        connections_max: 1000,
        ..Admission::default()
    });
    let count = 2 * CLOSES_MAX + 1;
    let conns: Vec<ConnId> = (0..count).map(|_| bench.open()).collect();
    for &conn in &conns {
        bench.close(conn, false);
    }
    let begun = |ops: Vec<Op>| ops.iter().filter(|op| **op == Op::HangUp).count();
    for expected in [CLOSES_MAX, CLOSES_MAX, 1] {
        assert_eq!(begun(bench.turn()), expected);
    }
    assert_eq!(bench.turn(), []);
    // Likewise peers that do not close their side in time.
    let mut bench = Bench::with(Admission {
        connections_max: 1000,
        ..Admission::default()
    });
    let conns: Vec<ConnId> = (0..count).map(|_| bench.open()).collect();
    for &conn in &conns {
        bench.close(conn, true);
    }
    for _ in 0..3 {
        assert_eq!(begun(bench.turn()), 0);
    }
    bench.now = bench.now + Duration::from_secs(1);
    for expected in [CLOSES_MAX, CLOSES_MAX, 1] {
        assert_eq!(begun(bench.turn()), expected);
    }
}
