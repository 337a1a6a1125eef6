//! The disk: what the core asks of it goes to the ring or to the keeper, and each answer comes back.

use crossbeam::channel::{Receiver, unbounded};
use ringmq_core::ids::LogPosition;
use ringmq_core::store::{DiskError, FileKind, FileName};

use super::*;
use crate::store::LogFailure;
use crate::store::keeper::{Errand, Errands, KeeperLink, Kept};

/// A reactor whose keeper is the test.
fn bench() -> (Bench, Errands, Receiver<LogFailure>) {
    let (keeper, errands) = KeeperLink::new();
    let (failures, failed) = unbounded();
    let disk = Some(DiskShared { keeper, failures });
    let bench = Bench::with_disk(Admission::default(), Stack::plain(), disk);
    (bench, errands, failed)
}

fn file(kind: FileKind) -> FileName {
    let position = LogPosition(0x4000);
    FileName { kind, position }
}

fn write(op: u64, kind: FileKind, sync: bool) -> DiskOp {
    let mut block = Block::default();
    block.extend(&[1; 4096]);
    DiskOp::Write {
        op: OpId(op),
        file: file(kind),
        at: 8192,
        block,
        sync,
    }
}

impl Bench {
    /// What the core asks of the disk at the end of this turn; what the turn asked of the ring.
    fn ask(&mut self, op: DiskOp) -> Vec<Op> {
        self.reactor.core.disk.push(op);
        self.turn()
    }

    /// The keeper has done it.
    fn kept(&mut self, op: u64, result: Result<(), DiskError>, opened: Option<FileKind>) {
        let opened = opened.map(|kind| (file(kind), Arc::new(socket())));
        let done = DiskDone {
            op: OpId(op),
            result,
            block: None,
        };
        self.reactor.inbox().put_kept(Kept { done, opened });
    }

    /// The ring has done it.
    fn stored(&mut self, op: u64, result: Result<(), Errno>) {
        let blocks = &mut self.reactor.ring.blocks;
        let found = blocks.iter().position(|(of, _)| *of == OpId(op));
        let block = found.map(|index| blocks.remove(index).1);
        self.complete(Completion::Stored {
            op: OpId(op),
            result,
            block,
        });
    }

    /// A file that can be written.
    fn create(&mut self, op: u64, kind: FileKind) {
        let (file, op_id, size) = (file(kind), OpId(op), 0);
        self.ask(DiskOp::Create {
            op: op_id,
            file,
            size,
        });
        self.kept(op, Ok(()), Some(kind));
        self.turn();
        assert_eq!(self.events(), [format!("done {op} Ok(()) 0")]);
    }
}

#[test]
fn a_segment_is_made_written_synced_and_removed() {
    let (mut bench, errands, failed) = bench();
    let (op, file, size) = (OpId(1), file(FileKind::Log), 1 << 20);
    assert_eq!(bench.ask(DiskOp::Create { op, file, size }), []);
    let clocks = bench.reactor.core.clocks;
    assert!(
        clocks.boot >= bench.now,
        "read anew, at the end of the turn"
    );
    assert!(clocks.wall_ns > 0);
    let asked = (ShardId::new(0), op, Errand::Create { file, size });
    assert_eq!(errands.try_recv(), Ok(asked));
    bench.kept(1, Ok(()), Some(FileKind::Log));
    assert!(bench.reactor.has_work(), "an answer wakes the reactor");
    bench.turn();
    assert_eq!(bench.events(), ["done 1 Ok(()) 0"]);
    assert_eq!(
        bench.ask(write(2, FileKind::Log, true)),
        [Op::Write(2, 8192, true)]
    );
    assert_eq!(
        bench.ask(write(3, FileKind::Log, false)),
        [Op::Write(3, 8192, false)]
    );
    assert_eq!(bench.ask(DiskOp::Sync { op: OpId(4), file }), [Op::Sync(4)]);
    for op in [3, 2, 4] {
        bench.stored(op, Ok(()));
    }
    bench.turn();
    let events = bench.events();
    assert_eq!(
        events,
        [
            "done 3 Ok(()) 4096",
            "done 2 Ok(()) 4096",
            "done 4 Ok(()) 0"
        ]
    );
    bench.ask(DiskOp::Remove { op: OpId(5), file });
    let asked = (ShardId::new(0), OpId(5), Errand::Remove { file });
    assert_eq!(errands.try_recv(), Ok(asked));
    bench.kept(5, Err(DiskError::Failed(2)), None);
    bench.turn();
    assert_eq!(bench.events(), ["done 5 Err(Failed(2)) 0"]);
    assert!(failed.is_empty());
}

#[test]
fn what_fails_is_told_with_its_error() {
    for (trouble, expected) in [
        (Errno::IO, DiskError::Failed(Errno::IO.raw_os_error())),
        (Errno::NOSPC, DiskError::Full),
        (Errno::DQUOT, DiskError::Full),
    ] {
        let (mut bench, _errands, failed) = bench();
        bench.create(1, FileKind::Log);
        bench.ask(write(2, FileKind::Log, true));
        bench.stored(2, Err(trouble));
        bench.turn();
        assert_eq!(bench.events(), [format!("done 2 Err({expected:?}) 4096")]);
        // It is the core that knows whether the log can go on.
        assert!(failed.is_empty());
        bench.reactor.core.disk_failure = Some(expected);
        bench.turn();
        let failure = failed.try_recv().unwrap();
        assert_eq!((failure.shard, failure.error), (ShardId::new(0), expected));
        assert!(failed.is_empty());
    }
}

#[test]
fn a_log_that_is_far_into_its_segment_has_the_keeper_hurry() {
    let (mut bench, _errands, _failed) = bench();
    bench.create(1, FileKind::Log);
    const FAR: u64 = 16 << 20;
    for (op, at, is_urgent) in [(2, 8192, false), (3, FAR - 4096, false), (4, FAR, true)] {
        let mut asked = write(op, FileKind::Log, true);
        if let DiskOp::Write { at: place, .. } = &mut asked {
            *place = at;
        }
        bench.ask(asked);
        let keeper = &bench.reactor.shared.disk.as_ref().unwrap().keeper;
        assert_eq!(keeper.is_urgent(), is_urgent, "{at}");
    }
}

#[test]
fn a_checkpoint_is_not_written_once_it_is_published() {
    let (mut bench, errands, _failed) = bench();
    bench.create(1, FileKind::Checkpoint);
    bench.ask(write(2, FileKind::Checkpoint, false));
    bench.stored(2, Ok(()));
    bench.turn();
    assert_eq!(bench.events(), ["done 2 Ok(()) 4096"]);
    let (op, file) = (OpId(3), file(FileKind::Checkpoint));
    bench.ask(DiskOp::Publish { op, file });
    let asked: Vec<Errand> = errands.try_iter().map(|(_, _, errand)| errand).collect();
    assert_eq!(asked.last(), Some(&Errand::Publish { file }));
    bench.kept(3, Ok(()), None);
    bench.turn();
    assert_eq!(bench.events(), ["done 3 Ok(()) 0"]);
    assert_eq!(bench.reactor.disk.as_ref().unwrap().open_count(), 0);
}

#[test]
fn a_shard_ends_when_everything_is_durable() {
    let (mut bench, _errands, _failed) = bench();
    bench.create(1, FileKind::Log);
    bench.ask(write(2, FileKind::Log, true));
    bench.reactor.core.is_recording = true;
    bench.reactor.inbox().request_shutdown();
    assert_ne!(bench.reactor.turn(bench.now), Progress::Ended);
    bench.stored(2, Ok(()));
    assert_ne!(bench.reactor.turn(bench.now), Progress::Ended);
    bench.reactor.core.is_recording = false;
    bench.reactor.shared.settled.note(ShardId::new(1), true);
    assert_eq!(bench.reactor.turn(bench.now), Progress::Ended);
}

#[test]
fn a_shard_that_ends_waits_for_no_segment_that_is_being_made() {
    let (mut bench, errands, _failed) = bench();
    let (op, file) = (OpId(1), file(FileKind::Log));
    bench.ask(DiskOp::Create { op, file, size: 0 });
    assert_eq!(errands.len(), 1, "the keeper has not begun");
    bench.reactor.inbox().request_shutdown();
    bench.reactor.shared.settled.note(ShardId::new(1), true);
    assert_eq!(bench.reactor.turn(bench.now), Progress::Ended);
}

#[test]
fn a_shard_goes_on_as_long_as_another_one_may_need_it() {
    let (mut bench, _errands, _failed) = bench();
    bench.reactor.inbox().request_shutdown();
    // Settled, it wakes all shards, itself too.
    assert_eq!(bench.reactor.turn(bench.now), Progress::Busy);
    assert_eq!(bench.reactor.turn(bench.now), Progress::Idle);
    bench.reactor.shared.settled.note(ShardId::new(1), true);
    bench.reactor.inbox().nudge();
    assert!(bench.reactor.has_work());
    assert_eq!(bench.reactor.turn(bench.now), Progress::Ended);
}

#[test]
fn nobody_waits_for_a_log_that_has_failed() {
    let (mut bench, _errands, _failed) = bench();
    bench.reactor.core.is_recording = true;
    bench.reactor.core.disk_failure = Some(DiskError::Full);
    bench.turn();
    bench.reactor.inbox().request_shutdown();
    assert_eq!(bench.reactor.turn(bench.now), Progress::Ended);
}

#[test]
fn a_client_that_does_not_close_its_side_does_not_keep_a_broker_whose_log_has_failed() {
    for (is_failed, cut_after_ms) in [(true, 300), (false, 3000)] {
        let (mut bench, _errands, _failed) = bench();
        let conn = bench.open();
        bench.reactor.core.disk_failure = is_failed.then_some(DiskError::Full);
        bench.turn();
        bench.reactor.inbox().request_shutdown();
        bench.turn();
        let began = bench.now;
        bench.now = began + Duration::from_millis(cut_after_ms - 1);
        assert_eq!(bench.turn(), [], "clients get what is on its way to them");
        bench.now = began + Duration::from_millis(cut_after_ms);
        assert_eq!(bench.turn(), [Op::HangUp]);
        bench.input(conn, Input::End, false);
        assert_eq!(bench.turn(), [Op::Close(0)]);
        bench.closed();
        let has_ended = bench.reactor.turn(bench.now) == Progress::Ended;
        // Otherwise the other shard may still need this one.
        assert_eq!(has_ended, is_failed);
    }
}
