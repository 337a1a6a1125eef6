//! The reactor on a ring that only pretends: every trouble that the kernel may report, at will.

mod accepting;
mod answers;
mod arrivals;
mod closing;
mod disk;
mod hearing;
mod layers;

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::auth::PeerIdentity;
use ringmq_core::connection::{Chunk, Output, Pending};
use ringmq_core::ids::BarrierId;
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::shard::{Close, Deadlines, Event, Handover, MsgClass, Outbox, Reading, ShardMsg};
use ringmq_core::store::{Block, Clocks, DiskDone, DiskError, DiskOp, OpId};
use ringmq_core::time::Instant;
use rustix::io::Errno;

use super::listener::Listener;
use super::{Core, DiskShared, HeardTable, Progress, Reactor, Settled, Shared};
use crate::admission::{Admission, Permit, Permits, UNWELCOME_MAX};
use crate::auth::AuthService;
use crate::counters::Counters;
use crate::inbox::{Inbox, Mail};
use crate::transport::Stack;
use ringmq_ring::Flight;
use ringmq_ring::Lease;
use ringmq_ring::{Completion, FileWrite, Input, Receive, Received, Ring, Submission};

/// What the reactor asked of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Accept,
    CancelAccept,
    Receive(u32, Receive),
    Send(u32, usize),
    CancelReceive(u32),
    HangUp,
    Close(u32),
    Write(u64, u64, bool),
    Sync(u64),
    Timer(u64),
}

/// A ring whose completions the test writes.
#[derive(Debug, Default)]
struct FakeRing {
    ops: Vec<Op>,
    flights: Vec<(ConnId, Flight)>,
    completions: VecDeque<Completion>,
    /// Completions that the kernel posts at the next submissions, one batch at each.
    posted_next: VecDeque<Vec<Completion>>,
    chunks: Vec<Vec<u8>>,
    lent: usize,
    submission: Option<Submission>,
    closing: Vec<(ConnId, OwnedFd)>,
    blocks: Vec<(OpId, Block)>,
}

impl Ring for FakeRing {
    fn accept(&mut self, _listener: usize, _socket: BorrowedFd<'_>) {
        self.ops.push(Op::Accept);
    }
    fn cancel_accept(&mut self, _listener: usize) {
        self.ops.push(Op::CancelAccept);
    }
    fn receive(&mut self, conn: ConnId, _socket: BorrowedFd<'_>, how: Receive) {
        self.ops.push(Op::Receive(conn.index, how));
    }
    fn send(&mut self, conn: ConnId, _socket: BorrowedFd<'_>, flight: Flight) {
        let size = flight.pieces(usize::MAX, usize::MAX).map(<[u8]>::len).sum();
        self.ops.push(Op::Send(conn.index, size));
        self.flights.push((conn, flight));
    }
    fn cancel_receive(&mut self, conn: ConnId) {
        self.ops.push(Op::CancelReceive(conn.index));
    }
    fn hang_up(&mut self, _socket: BorrowedFd<'_>) {
        self.ops.push(Op::HangUp);
    }
    fn close(&mut self, conn: ConnId, socket: OwnedFd) {
        self.ops.push(Op::Close(conn.index));
        self.closing.push((conn, socket));
    }
    fn write(&mut self, op: OpId, _file: &Arc<OwnedFd>, write: FileWrite) {
        self.ops.push(Op::Write(op.0, write.at, write.sync));
        self.blocks.push((op, write.block));
    }
    fn sync(&mut self, op: OpId, _file: &Arc<OwnedFd>) {
        self.ops.push(Op::Sync(op.0));
    }
    fn set_timer(&mut self, at: Instant) {
        self.ops.push(Op::Timer(at.as_nanos()));
    }
    fn reap(&mut self, _count_max: usize) {}
    fn pop(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }
    fn is_ready(&mut self) -> bool {
        !self.completions.is_empty()
    }
    fn bytes(&self, lease: &Lease) -> &[u8] {
        &self.chunks[usize::from(lease.id())]
    }
    fn give_back(&mut self, _lease: Lease) {
        self.lent -= 1;
    }
    fn submit(&mut self) -> Submission {
        let batch = self.posted_next.pop_front();
        self.completions.extend(batch.into_iter().flatten());
        self.submission.take().unwrap_or(Submission::Done)
    }
    fn submit_and_wait(&mut self) -> Submission {
        self.submit()
    }
    fn arm_notice(&mut self) -> Submission {
        self.submit()
    }
    fn disarm_notice(&mut self) {}
    fn overflow_count(&self) -> u64 {
        0
    }
}

/// A core that notes its events and does what the test says.
#[derive(Debug, Default)]
struct FakeCore {
    events: Vec<String>,
    home: bool,
    output: Vec<(ConnId, Output)>,
    /// Whose output is answers only.
    answering: Vec<ConnId>,
    recycled: usize,
    deadlines: Deadlines,
    on_shutdown: Vec<Close>,
    /// Asked of the disk at the end of the next turn.
    disk: Vec<DiskOp>,
    disk_failure: Option<DiskError>,
    is_recording: bool,
    /// At the end of the last turn.
    clocks: Clocks,
}

impl Core for FakeCore {
    fn handle(&mut self, _now: Instant, event: Event<'_>, out: &mut Outbox) {
        let text = match event {
            Event::Accepted { conn, .. } => format!("accepted {}", conn.index),
            Event::Received { conn, bytes } => {
                format!("received {} {}", conn.index, String::from_utf8_lossy(bytes))
            }
            Event::SendProgress { conn, size } => format!("sent {} {size}", conn.index),
            Event::Unwelcome { conn, refusal } => {
                format!("unwelcome {} {}", conn.index, refusal.name())
            }
            Event::Identified { conn, peer } => format!("identified {} {peer:?}", conn.index),
            Event::Closed { conn, why } => format!("closed {} {why:?}", conn.index),
            Event::FromShard { from, .. } => format!("message of {from}"),
            Event::DeadlineReached { .. } => {
                self.deadlines = Deadlines::default();
                "deadline".to_owned()
            }
            Event::ShutdownRequested => {
                out.closes.append(&mut self.on_shutdown);
                "shutdown".to_owned()
            }
            Event::DiskDone(DiskDone { op, result, block }) => {
                let size = block.map_or(0, |block| block.size());
                format!("done {} {result:?} {size}", op.0)
            }
            Event::SpaceChanged { is_scarce } => format!("scarce {is_scarce}"),
            Event::AuthDecided { conn, verdict, .. } => {
                format!("decided {} {verdict:?}", conn.index)
            }
            Event::AccessReplaced { .. } => "other access".to_owned(),
            // It has no answer.
            Event::Asked { .. } => "asked".to_owned(),
            Event::ShellCounted { .. } => return,
        };
        self.events.push(text);
    }
    fn end_turn(&mut self, clocks: Clocks, out: &mut Outbox) {
        self.clocks = clocks;
        out.disk.append(&mut self.disk);
        out.disk_failure = self.disk_failure.take();
    }
    fn is_durable(&self) -> bool {
        !self.is_recording
    }
    fn deadlines(&self) -> Deadlines {
        self.deadlines
    }
    fn take_output(&mut self, conn: ConnId) -> Option<Output> {
        let at = self.output.iter().position(|(c, _)| *c == conn)?;
        Some(self.output.remove(at).1)
    }
    fn pending(&self, conn: ConnId) -> Pending {
        match (
            self.answering.contains(&conn),
            self.output.iter().any(|(c, _)| *c == conn),
        ) {
            (false, _) => Pending::Pressing,
            (true, true) => Pending::Answers,
            (true, false) => Pending::Nothing,
        }
    }
    fn recycle(&mut self, _output: Output) {
        self.recycled += 1;
    }
    fn is_home(&self, _conn: ConnId) -> bool {
        self.home
    }
}

/// A reactor, shard 0 of 2, at a time that the test sets.
struct Bench {
    reactor: Reactor<FakeRing, FakeCore>,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Admission {
            connections_max: 3,
            ..Admission::default()
        })
    }

    fn with(admission: Admission) -> Bench {
        Bench::with_stack(admission, Stack::plain())
    }

    /// With a listener that has these layers.
    fn with_stack(admission: Admission, stack: Stack) -> Bench {
        Bench::with_disk(admission, stack, None)
    }

    fn with_disk(admission: Admission, stack: Stack, disk: Option<DiskShared>) -> Bench {
        let inboxes = (0..2).map(|_| Inbox::new(2).unwrap()).collect();
        let shared = Shared {
            inboxes,
            permits: Arc::new(Permits::new(admission)),
            partial_bytes_max: 64 * 1024,
            terms_generation: Arc::default(),
            heard: Arc::new(HeardTable::new(2)),
            auth: Arc::new(AuthService::closed()),
            counters: Arc::new(Counters::default()),
            tallies: Arc::default(),
            disk,
            settled: Arc::new(Settled::new(2)),
        };
        let listeners = vec![Listener::new(socket(), Arc::new(stack))];
        let id = ShardId::new(0);
        let reactor = Reactor::new(
            id,
            FakeRing::default(),
            FakeCore::default(),
            listeners,
            shared,
        );
        let mut bench = Bench {
            reactor,
            now: Instant::from_nanos(1),
        };
        assert_eq!(bench.turn(), [Op::Accept]);
        bench
    }

    /// One turn; what it asked of the ring.
    fn turn(&mut self) -> Vec<Op> {
        self.reactor.turn(self.now);
        std::mem::take(&mut self.reactor.ring.ops)
    }

    fn after(&mut self, span: Duration) -> Vec<Op> {
        self.now = self.now + span;
        self.turn()
    }

    fn complete(&mut self, completion: Completion) -> &mut Bench {
        self.reactor.ring.completions.push_back(completion);
        self
    }

    fn accepted(&mut self, result: Result<OwnedFd, Errno>, more: bool) -> &mut Bench {
        self.complete(Completion::Accepted {
            listener: 0,
            result,
            more,
        })
    }

    fn received(&mut self, conn: ConnId, bytes: &str, more: bool) -> &mut Bench {
        let ring = &mut self.reactor.ring;
        let lease = Lease::new(ring.chunks.len() as u16, bytes.len() as u32);
        ring.chunks.push(bytes.into());
        ring.lent += 1;
        self.input(conn, Input::Chunk(lease), more)
    }

    /// The kernel hands it over in a call of its own, after what came before.
    fn received_later(&mut self, conn: ConnId, bytes: &str) {
        self.received(conn, bytes, true);
        let late = self.reactor.ring.completions.pop_back().unwrap();
        self.reactor.ring.posted_next.push_back(vec![late]);
    }

    fn input(&mut self, conn: ConnId, input: Input, more: bool) -> &mut Bench {
        self.complete(Completion::Received(Received { conn, input, more }))
    }

    /// The oldest flight lands like this.
    fn sent(&mut self, result: Result<u32, Errno>) -> &mut Bench {
        let (conn, flight) = self.reactor.ring.flights.remove(0);
        self.complete(Completion::Sent {
            conn,
            flight,
            result,
        })
    }

    fn closed(&mut self) -> &mut Bench {
        let (conn, _socket) = self.reactor.ring.closing.remove(0);
        self.complete(Completion::Closed { conn })
    }

    fn say(&mut self, conn: ConnId, text: &str) {
        let output = Output::One(text.into());
        self.reactor.core.output.push((conn, output));
        self.reactor.outbox.dirty.push(conn);
    }

    fn close(&mut self, conn: ConnId, flush: bool) {
        self.reactor.outbox.closes.push(Close { conn, flush });
    }

    fn post(&mut self, numbers: std::ops::Range<u64>, target: usize) {
        for number in numbers {
            let barrier = BarrierId(number);
            let target = ShardId::new(target);
            self.reactor
                .outbox
                .post(target, ShardMsg::Barrier { barrier });
        }
    }

    fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.reactor.core.events)
    }

    /// A connection that is home, with its multishot armed.
    fn open(&mut self) -> ConnId {
        self.reactor.core.home = true;
        self.accepted(Ok(socket()), true);
        let ops = self.turn();
        let Some(Op::Receive(index, Receive::Multishot)) = ops.last().copied() else {
            panic!("{ops:?}")
        };
        self.events();
        let live = self.reactor.slots.live();
        live.into_iter().find(|c| c.index == index).unwrap()
    }

    fn live_count(&self) -> usize {
        self.reactor.slots.live_count()
    }
}

fn socket() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

#[test]
fn a_newcomer_receives_in_single_shots_until_it_is_home() {
    let mut bench = Bench::new();
    bench.accepted(Ok(socket()), true);
    assert_eq!(bench.turn(), [Op::Receive(0, Receive::Once)]);
    let conn = bench.reactor.slots.live()[0];
    bench.received(conn, "CON", false);
    assert_eq!(bench.turn(), [Op::Receive(0, Receive::Once)]);
    bench.reactor.core.home = true;
    bench.received(conn, "NECT", false);
    assert_eq!(bench.turn(), [Op::Receive(0, Receive::Multishot)]);
    bench.received(conn, "x", true);
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.reactor.ring.lent, 0);
    let events = [
        "accepted 0",
        "received 0 CON",
        "received 0 NECT",
        "received 0 x",
    ];
    assert_eq!(bench.events(), events);
}

#[test]
fn input_that_arrived_before_a_connect_on_other_sockets_is_handled_first() {
    let mut bench = Bench::new();
    let open = bench.open();
    bench.reactor.core.home = false;
    bench.accepted(Ok(socket()), true);
    bench.turn();
    bench.events();
    let live = bench.reactor.slots.live();
    let newcomer = live.into_iter().find(|conn| *conn != open).unwrap();
    // The kernel completed the receive of the newcomer first, although its bytes came last, and
    // hands over the others one by one.
    for _ in 0..30 {
        bench.received_later(open, "PUBLISH");
    }
    bench.received_later(open, "DISCONNECT");
    bench.received(newcomer, "CONNECT", false);
    bench.turn();
    let events = bench.events();
    assert_eq!(events.len(), 32);
    assert_eq!(
        events[30..],
        ["received 0 DISCONNECT", "received 1 CONNECT"]
    );
}

#[test]
fn a_receive_that_ended_is_armed_again_whatever_ended_it() {
    for errno in [Errno::NOBUFS, Errno::INTR, Errno::AGAIN] {
        let mut bench = Bench::new();
        let conn = bench.open();
        bench.input(conn, Input::Failed(errno), false);
        assert_eq!(
            bench.turn(),
            [Op::Receive(0, Receive::Multishot)],
            "{errno}"
        );
        bench.received(conn, "x", false);
        assert_eq!(
            bench.turn(),
            [Op::Receive(0, Receive::Multishot)],
            "{errno}"
        );
        assert_eq!(bench.events(), ["received 0 x"]);
    }
}

#[test]
fn an_accept_that_ended_is_armed_again() {
    let mut bench = Bench::new();
    bench.accepted(Ok(socket()), false);
    assert_eq!(bench.turn(), [Op::Receive(0, Receive::Once), Op::Accept]);
    bench.accepted(Err(Errno::CONNABORTED), false);
    assert_eq!(bench.turn(), [Op::Accept]);
    bench.accepted(Err(Errno::CONNABORTED), true);
    assert_eq!(bench.turn(), []);
}

#[test]
fn a_close_resumes_a_paused_accept_at_once() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.accepted(Err(Errno::MFILE), false);
    bench.input(conn, Input::End, false);
    assert_eq!(bench.turn(), [Op::Close(0)]);
    assert_eq!(bench.closed().turn(), [Op::Accept]);
}

#[test]
fn one_send_is_in_flight_and_later_output_waits_for_it() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, "one");
    assert_eq!(bench.turn(), [Op::Send(0, 3)]);
    bench.say(conn, "second");
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.sent(Ok(3)).turn(), [Op::Send(0, 6)]);
    assert_eq!(bench.sent(Ok(6)).turn(), []);
    assert_eq!(bench.events(), ["sent 0 3", "sent 0 6"]);
    assert_eq!(bench.reactor.core.recycled, 2);
}

#[test]
fn a_short_send_goes_on_where_it_stopped() {
    let mut bench = Bench::new();
    let conn = bench.open();
    let chunks = ["abc", "defg"].map(|c| Chunk::Own(c.into()));
    let output = Output::Many(chunks.into());
    bench.reactor.core.output.push((conn, output));
    bench.reactor.outbox.dirty.push(conn);
    assert_eq!(bench.turn(), [Op::Send(0, 7)]);
    assert_eq!(bench.sent(Ok(4)).turn(), [Op::Send(0, 3)]);
    let left: Vec<_> = bench.reactor.ring.flights[0]
        .1
        .pieces(9, usize::MAX)
        .collect();
    assert_eq!(left, [b"efg"]);
    for errno in [Errno::INTR, Errno::AGAIN] {
        assert_eq!(bench.sent(Err(errno)).turn(), [Op::Send(0, 3)]);
    }
    assert_eq!(bench.sent(Ok(3)).turn(), []);
    assert_eq!(bench.events(), ["sent 0 4", "sent 0 3"]);
    assert_eq!(bench.reactor.core.recycled, 1);
}

#[test]
fn after_a_send_error_the_connection_is_read_to_its_end() {
    for errno in [Errno::PIPE, Errno::CONNRESET, Errno::NOMEM] {
        let mut bench = Bench::new();
        let conn = bench.open();
        bench.say(conn, "x");
        bench.turn();
        // The kernel tells of a send at once, and of what had come before in the next call.
        bench.received_later(conn, "DISCONNECT");
        assert_eq!(bench.sent(Err(errno)).turn(), []);
        bench.say(conn, "y");
        assert_eq!(bench.turn(), [], "it takes nothing more");
        bench.input(conn, Input::End, false);
        assert_eq!(bench.turn(), [Op::Close(0)]);
        bench.closed().turn();
        assert_eq!(
            bench.events(),
            ["received 0 DISCONNECT", "closed 0 PeerClosed"]
        );
        assert_eq!(bench.live_count(), 0);
        assert_eq!(bench.reactor.shared.permits.connections(), 0);
    }
}

#[test]
fn after_a_send_error_a_paused_connection_is_read_to_its_end_too() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, "x");
    let paused = Reading { conn, paused: true };
    bench.reactor.outbox.readings.push(paused);
    bench.turn();
    bench.input(conn, Input::Failed(Errno::CANCELED), false);
    bench.complete(Completion::Cancelled { conn });
    assert_eq!(bench.turn(), []);
    let read_on = bench.sent(Err(Errno::PIPE)).turn();
    assert_eq!(read_on, [Op::Receive(0, Receive::Multishot)]);
    bench.received(conn, "DISCONNECT", true);
    bench.input(conn, Input::End, false);
    assert_eq!(bench.turn(), [Op::Close(0)]);
    bench.closed().turn();
    assert_eq!(
        bench.events(),
        ["received 0 DISCONNECT", "closed 0 PeerClosed"]
    );
}

#[test]
fn a_receive_error_closes_the_connection_with_its_errno() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.input(conn, Input::Failed(Errno::CONNRESET), false);
    assert_eq!(bench.turn(), [Op::Close(0)]);
    bench.closed().turn();
    assert_eq!(bench.events(), ["closed 0 Failed(104)"]);
}

#[test]
fn a_buffer_in_flight_is_recycled_only_when_its_completion_came() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, "stuck");
    bench.turn();
    bench.input(conn, Input::End, false);
    assert_eq!(bench.turn(), [Op::HangUp]);
    assert_eq!((bench.reactor.core.recycled, bench.live_count()), (0, 1));
    assert_eq!(bench.sent(Err(Errno::PIPE)).turn(), [Op::Close(0)]);
    assert_eq!(bench.reactor.core.recycled, 1);
    bench.closed().turn();
    assert_eq!(bench.events(), ["closed 0 PeerClosed"]);
}

#[test]
fn a_completion_of_an_earlier_use_of_the_slot_is_ignored() {
    let mut bench = Bench::new();
    let old = bench.open();
    bench.input(old, Input::End, false).turn();
    bench.closed().turn();
    let new = bench.open();
    assert_eq!((old.index, old == new), (new.index, false));
    bench.events();
    bench.received(old, "stale", true);
    bench.input(old, Input::End, false);
    bench.complete(Completion::Cancelled { conn: old });
    assert_eq!(bench.turn(), []);
    assert_eq!(bench.events(), [""; 0]);
    assert_eq!((bench.reactor.ring.lent, bench.live_count()), (0, 1));
}

#[test]
fn a_flushed_close_sends_what_pends_and_waits_for_the_peer() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, "first");
    bench.turn();
    bench.say(conn, "bye");
    bench.close(conn, true);
    bench.received(conn, "ignored", true);
    bench.turn();
    assert_eq!(bench.sent(Ok(5)).turn(), [Op::Send(0, 3)]);
    bench.received(conn, "too late", true);
    assert_eq!(bench.sent(Ok(3)).turn(), []);
    bench.input(conn, Input::End, false);
    assert_eq!(bench.turn(), [Op::Close(0)]);
    bench.closed().turn();
    let events = [
        "received 0 ignored",
        "sent 0 5",
        "sent 0 3",
        "closed 0 Requested",
    ];
    assert_eq!(bench.events(), events);
}

#[test]
fn a_flush_that_takes_too_long_is_cut() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, "never read");
    bench.close(conn, true);
    assert_eq!(bench.turn(), [Op::Send(0, 10)]);
    assert_eq!(bench.after(Duration::from_millis(999)), []);
    bench.reactor.submit_and_sleep();
    assert_eq!(bench.reactor.ring.ops, [Op::Timer(1_000_000_001)]);
    bench.reactor.ring.ops.clear();
    let cut = [Op::HangUp];
    assert_eq!(bench.after(Duration::from_millis(1)), cut);
}

#[test]
fn a_close_without_flush_cuts_at_once() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.close(conn, false);
    bench.close(conn, false);
    bench.close(conn, true);
    assert_eq!(bench.turn(), [Op::HangUp]);
}

#[test]
fn a_handover_takes_along_what_arrives_until_the_receive_ended() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.reactor.outbox.handovers.push(Handover {
        conn,
        target: ShardId::new(1),
        bytes: b"CONNECT".to_vec(),
    });
    assert_eq!(bench.turn(), [Op::CancelReceive(0)]);
    bench.received(conn, "+more", true);
    bench.complete(Completion::Cancelled { conn }).turn();
    assert_eq!(bench.live_count(), 1);
    bench.input(conn, Input::Failed(Errno::CANCELED), false);
    bench.turn();
    assert_eq!(bench.events(), ["closed 0 HandedOver"]);
    let Some(Mail::Connection(moved)) = bench.reactor.shared.inboxes[1].take() else {
        panic!("nothing arrived")
    };
    assert_eq!(moved.bytes, b"CONNECT+more");
    assert!(moved.socket.as_raw_fd() >= 0);
    // It is still one connection of the broker.
    assert_eq!(bench.reactor.shared.permits.connections(), 1);
}

#[test]
fn a_connection_that_moves_in_is_presented_with_its_bytes() {
    let mut bench = Bench::new();
    let newcomer = super::slot::Newcomer {
        peer: PeerIdentity::default(),
        since: Instant::ZERO,
        permit: Permit::Regular(None),
    };
    let moved = Box::new(crate::inbox::Moved {
        transport: None,
        socket: socket(),
        newcomer,
        bytes: b"CONNECT".to_vec(),
    });
    let from = ShardId::new(1);
    bench.reactor.inbox().send(from, moved).unwrap();
    assert_eq!(bench.turn(), [Op::Receive(0, Receive::Once)]);
    assert_eq!(bench.events(), ["accepted 0", "received 0 CONNECT"]);
}

#[test]
fn a_stalled_shard_holds_its_input_but_drains_its_inbox() {
    let mut bench = Bench::new();
    let conn = bench.open();
    let me = ShardId::new(0);
    let other = ShardId::new(1);
    bench.post(0..5, 1);
    bench.turn();
    assert_eq!(bench.reactor.counts.stalls, 1);
    bench.received(conn, "a", true);
    bench.received(conn, "b", false);
    let barrier = BarrierId(9);
    let inbox = bench.reactor.inbox();
    inbox
        .post(other, Instant::ZERO, vec![ShardMsg::Barrier { barrier }])
        .unwrap();
    assert_eq!(bench.turn(), [], "neither read nor armed again");
    assert_eq!(bench.events(), ["message of 1"]);
    assert_eq!(bench.reactor.turn(bench.now), Progress::Idle);
    // The other shard makes room, two messages at a time, and says so.
    for round in 0..2 {
        let inboxes = Arc::clone(&bench.reactor.shared.inboxes);
        while inboxes[1].take().is_some() {}
        assert_eq!(inboxes[1].take_refused().collect::<Vec<_>>(), [me]);
        inboxes[0].nudge();
        assert!(inboxes[0].has_news());
        assert_eq!(bench.turn(), [], "round {round}");
    }
    assert_eq!(bench.turn(), [Op::Receive(0, Receive::Multishot)]);
    assert_eq!(bench.events(), ["received 0 a", "received 0 b"]);
    assert_eq!(bench.reactor.ring.lent, 0);
}

#[test]
fn a_later_class_waits_until_every_earlier_message_is_delivered() {
    let mut bench = Bench::new();
    // Shard 1 has room for two; the answer to shard 0 itself must not overtake the third forward.
    let message = ringmq_core::message::Message::new(
        ringmq_core::message::MessageParts {
            topic: b"t",
            properties: &[],
            payload: &[],
            qos: ringmq_core::codec::QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            publisher: ringmq_core::ids::ClientKey(0),
            author: None,
        },
        ringmq_core::stages::Stamp::UNKNOWN,
    );
    let message = Arc::new(message);
    for _ in 0..3 {
        let forward = ShardMsg::Forward(Arc::clone(&message), None);
        bench.reactor.outbox.post(ShardId::new(1), forward);
    }
    bench.post(0..1, 0);
    bench.turn();
    let left = &mut bench.reactor.outbox;
    assert_eq!(left.posted_count(), 2);
    let waiting = left.take_posts(MsgClass::Answer, ShardId::new(0));
    assert_eq!(waiting.len(), 1);
    left.untake_posts(MsgClass::Answer, ShardId::new(0), waiting);
    while bench.reactor.shared.inboxes[1].take().is_some() {}
    bench.turn();
    assert_eq!(bench.reactor.outbox.posted_count(), 0);
    bench.turn();
    assert_eq!(bench.events(), ["message of 0"]);
}

#[test]
fn a_submission_that_the_kernel_puts_off_is_tried_again() {
    let mut bench = Bench::new();
    bench.reactor.ring.submission = Some(Submission::Again);
    assert!(!bench.reactor.submit_and_park());
    assert_eq!(bench.reactor.counts.submits_again, 1);
    assert!(bench.reactor.submit_and_park());
}

#[test]
fn a_turn_takes_in_a_bounded_amount_of_bytes() {
    let mut bench = Bench::new();
    let conn = bench.open();
    let chunk = "x".repeat(64 * 1024);
    for _ in 0..20 {
        bench.received(conn, &chunk, true);
    }
    assert_eq!(bench.reactor.turn(bench.now), Progress::Busy);
    assert_eq!(bench.events().len(), super::BYTES_MAX / chunk.len());
}

#[test]
fn a_turn_asks_the_kernel_for_more_a_bounded_number_of_times() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.received(conn, "0", true);
    for later in 1..10 {
        bench.received_later(conn, &later.to_string());
    }
    assert_eq!(bench.reactor.turn(bench.now), Progress::Idle);
    let events = bench.events();
    assert_eq!(events.len(), 1 + super::CALLS_MAX, "{events:?}");
    assert_eq!(events[..2], ["received 0 0", "received 0 1"]);
}

#[test]
fn the_timer_is_set_for_the_next_deadline_and_not_again_for_a_later_one() {
    let mut bench = Bench::new();
    let sleep_until = |bench: &mut Bench, nanos: u64| {
        bench.reactor.core.deadlines.of_clock = Some(Instant::from_nanos(nanos));
        bench.reactor.submit_and_sleep();
        std::mem::take(&mut bench.reactor.ring.ops)
    };
    assert_eq!(sleep_until(&mut bench, 1000), [Op::Timer(1000)]);
    assert_eq!(sleep_until(&mut bench, 2000), []);
    assert_eq!(sleep_until(&mut bench, 500), [Op::Timer(500)]);
    bench.complete(Completion::TimerFired);
    bench.after(Duration::from_nanos(499));
    assert_eq!(bench.events(), ["deadline"]);
    assert_eq!(sleep_until(&mut bench, 3000), [Op::Timer(3000)]);
}

#[test]
fn a_shutdown_stops_accepting_and_ends_when_all_is_closed() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.reactor.core.on_shutdown = vec![Close { conn, flush: true }];
    bench.say(conn, "bye");
    bench.reactor.inbox().request_shutdown();
    assert_eq!(bench.turn(), [Op::CancelAccept, Op::Send(0, 3)]);
    // What was accepted meanwhile is closed, and what moves in too.
    bench.accepted(Ok(socket()), true);
    bench.accepted(Err(Errno::CANCELED), false);
    bench.sent(Ok(3));
    assert_eq!(bench.turn(), []);
    bench.input(conn, Input::End, false);
    assert_eq!(bench.turn(), [Op::Close(0)]);
    bench.closed();
    assert_eq!(bench.reactor.turn(bench.now), Progress::Ended);
    assert_eq!(
        bench.events(),
        ["shutdown", "sent 0 3", "closed 0 Requested"]
    );
}

#[test]
fn a_shutdown_ends_in_time_whatever_the_kernel_and_the_other_shards_do() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.post(0..5, 1); // Shard 1 never reads them.
    bench.say(conn, "stuck");
    bench.turn();
    bench.reactor.inbox().request_shutdown();
    bench.turn();
    let cut = bench.after(Duration::from_secs(3));
    assert_eq!(cut, [Op::HangUp]);
    bench.now = bench.now + Duration::from_secs(1);
    assert_eq!(bench.reactor.turn(bench.now), Progress::Ended);
}
