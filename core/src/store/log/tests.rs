use fastrand::Rng;

use super::*;
use crate::store::replay::ReadConfig;
use crate::store::testing::ScriptedDisk;

const SEGMENT: u64 = 4096;
const BLOCK: u32 = 512;

fn config(policy: Policy) -> LogConfig {
    LogConfig {
        shard: ShardId::new(1),
        epoch: 3,
        log_id: 0x1234_5678_9ABC_DEF0_0FED_CBA9_8765_4321,
        segment_size: SEGMENT,
        block_size: BLOCK,
        policy,
    }
}

/// A log, its disk, and what was asked of the log.
struct World {
    log: Log,
    disk: ScriptedDisk,
    ops: Vec<DiskOp>,
    now: Instant,
    turn: u64,
    /// What was pushed: in which turn, whether lazily, and the topic that names it.
    pushed: Vec<(u64, bool, String)>,
    /// Where to begin reading.
    from: LogPosition,
}

impl World {
    fn new(policy: Policy) -> World {
        World::with(config(policy))
    }

    fn with(config: LogConfig) -> World {
        let mut disk = ScriptedDisk::default();
        World {
            log: Log::new(config, &mut disk.waiting),
            disk,
            ops: Vec::new(),
            now: Instant::from_nanos(1),
            turn: 0,
            pushed: Vec::new(),
            from: LogPosition(0),
        }
    }

    fn clocks(&self) -> Clocks {
        Clocks {
            boot: self.now,
            wall_ns: self.now.as_nanos() + 7,
        }
    }

    /// Pushes a record of about this size in the turn that has begun.
    fn push(&mut self, size: usize, is_lazy: bool) {
        let topic = format!("{}{}", self.pushed.len(), "x".repeat(size));
        let record = Record::Unretained {
            topic: topic.as_bytes(),
        };
        match is_lazy {
            true => self.log.push_lazy(&record),
            false => self.log.push(&record),
        }
        self.pushed.push((self.turn + 1, is_lazy, topic));
    }

    fn begin_segment(&mut self) -> LogPosition {
        let clocks = self.clocks();
        let begin = self.log.begin_segment(clocks, &mut self.ops);
        self.take_ops();
        begin
    }

    fn end_turn(&mut self) {
        self.turn += 1;
        let clocks = self.clocks();
        self.log.end_turn(TurnSeq(self.turn), clocks, &mut self.ops);
        self.take_ops();
    }

    fn answer(&mut self, index: usize, result: Result<(), DiskError>) -> Result<(), DiskError> {
        let done = self.disk.answer(index, result);
        let clocks = self.clocks();
        let result = self.log.on_done(done, clocks, &mut self.ops);
        self.take_ops();
        result
    }

    fn pass_time(&mut self, span: Duration) {
        self.now = self.now + span;
        if self.log.deadline().is_some_and(|at| at <= self.now) {
            let clocks = self.clocks();
            self.log.on_deadline(clocks, &mut self.ops);
            self.take_ops();
        }
    }

    fn take_ops(&mut self) {
        self.disk.waiting.append(&mut self.ops);
        let is_write = |op: &&DiskOp| matches!(op, DiskOp::Write { .. });
        assert!(self.disk.waiting.iter().filter(is_write).count() <= UNDER_WAY_MAX);
    }

    fn answer_all(&mut self) {
        while !self.disk.waiting.is_empty() {
            self.answer(0, Ok(())).unwrap();
        }
    }

    fn read(&self) -> (Vec<String>, LogPosition) {
        let config = ReadConfig {
            identity: self.log.identity(),
            block_size: BLOCK,
            from: self.from,
            cut: None,
        };
        let (topics, end) = self.disk.topics(config).unwrap();
        (topics, end.end)
    }

    /// What is durable by its own account is on the disk; and all that is there was pushed, in order.
    fn check(&self, removed: usize) {
        let (topics, _) = self.read();
        let expected = self.pushed[removed..].iter().map(|(_, _, topic)| topic);
        assert!(topics.iter().eq(expected.take(topics.len())), "in order");
        let (durable, whole) = (self.log.durable(), self.log.durable_with_lazy());
        assert!(whole <= durable);
        for (index, (turn, is_lazy, topic)) in self.pushed[removed..].iter().enumerate() {
            let has_to_be = TurnSeq(*turn) <= if *is_lazy { whole } else { durable };
            assert!(
                !has_to_be || index < topics.len(),
                "{topic} of turn {turn} is not there"
            );
        }
    }
}

#[test]
fn what_is_called_durable_can_be_read_whatever_the_disk_does_when() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let policy = match seed % 4 {
            0 => Policy::Interval(Duration::from_millis(20)),
            _ => Policy::Always,
        };
        let mut world = World::new(policy);
        for _ in 0..200 {
            match rng.u8(..12) {
                0..=3 => world.push(rng.usize(..700), rng.u8(..3) == 0),
                4 => world.log.end_event(),
                5..=6 => world.end_turn(),
                7 => world.pass_time(Duration::from_millis(rng.u64(..15))),
                8 if rng.u8(..8) == 0 => _ = world.begin_segment(),
                _ if world.disk.waiting.is_empty() => {}
                _ => {
                    let index = rng.usize(..world.disk.waiting.len());
                    let is_creation = matches!(world.disk.waiting[index], DiskOp::Create { .. });
                    let result = match is_creation && rng.u8(..3) == 0 {
                        true => Err(DiskError::Full),
                        false => Ok(()),
                    };
                    world.answer(index, result).unwrap();
                }
            }
            if rng.u8(..4) == 0 {
                world.check(0);
            }
        }
        world.end_turn();
        for _ in 0..200 {
            world.answer_all();
            world.pass_time(Duration::from_millis(300));
        }
        assert_eq!(world.log.deadline(), None, "nothing is left to do");
        assert!(!world.log.is_scarce());
        assert_eq!(world.log.pending_bytes(), 0);
        assert_eq!(world.log.durable_with_lazy(), TurnSeq(world.turn));
        assert_eq!(world.log.synced(), world.log.position());
        let (topics, end) = world.read();
        assert_eq!(
            (topics.len(), end),
            (world.pushed.len(), world.log.position())
        );
    }
}

#[test]
fn a_slow_disk_makes_batches_larger_and_two_are_under_way() {
    let mut world = World::new(Policy::Always);
    world.answer_all();
    for _ in 0..10 {
        world.push(10, false);
        world.end_turn();
    }
    assert_eq!(world.disk.waiting.len(), 2);
    assert_eq!(world.log.durable(), TurnSeq(0));
    world.answer(1, Ok(())).unwrap();
    assert_eq!(
        world.log.durable(),
        TurnSeq(0),
        "the one before it is not there"
    );
    world.answer(0, Ok(())).unwrap();
    assert_eq!(world.log.durable(), TurnSeq(2));
    assert_eq!(world.disk.waiting.len(), 1, "eight turns are one batch");
    world.answer(0, Ok(())).unwrap();
    assert_eq!(world.log.durable(), TurnSeq(10));
    assert_eq!(world.log.position(), LogPosition(3 * u64::from(BLOCK)));
    world.check(0);
}

#[test]
fn what_nobody_waits_for_goes_with_the_next_batch_or_after_a_while() {
    let mut world = World::new(Policy::Always);
    world.answer_all();
    world.push(10, true);
    world.end_turn();
    assert!(world.disk.waiting.is_empty());
    assert_eq!(world.log.durable(), TurnSeq(1), "nobody waits for anything");
    assert_eq!(world.log.durable_with_lazy(), TurnSeq(0));
    world.push(10, false);
    world.end_turn();
    assert_eq!(world.disk.waiting.len(), 1);
    assert_eq!(world.log.durable(), TurnSeq(1));
    world.answer_all();
    assert_eq!(world.log.durable_with_lazy(), TurnSeq(2));
    world.push(10, true);
    world.end_turn();
    assert_eq!(world.log.deadline(), Some(world.now + LAZY_MAX));
    world.pass_time(LAZY_MAX);
    assert_eq!(world.disk.waiting.len(), 1);
    world.answer_all();
    assert_eq!(world.log.durable_with_lazy(), TurnSeq(3));
    assert_eq!(world.read().0.len(), 3);
}

#[test]
fn a_turn_that_recorded_nothing_waits_for_those_before_it() {
    let mut world = World::new(Policy::Always);
    world.answer_all();
    world.end_turn();
    assert_eq!(world.log.durable_with_lazy(), TurnSeq(1));
    world.push(10, false);
    world.end_turn();
    world.end_turn();
    assert_eq!(world.log.durable(), TurnSeq(1));
    world.answer_all();
    assert_eq!(world.log.durable_with_lazy(), TurnSeq(3));
}

#[test]
fn a_pause_is_used_to_vouch_for_the_last_batch_once() {
    let mut world = World::new(Policy::Always);
    world.answer_all();
    world.push(10, false);
    world.end_turn();
    world.answer_all();
    let end = world.log.position();
    assert_eq!(world.log.deadline(), Some(world.now + IDLE_MIN));
    world.pass_time(IDLE_MIN);
    world.answer_all();
    assert_eq!(world.log.position(), LogPosition(end.0 + u64::from(BLOCK)));
    assert_eq!(world.log.deadline(), None);
    // Without the empty batch this would be a torn tail.
    world.disk.segments.get_mut(&0).unwrap()[70] ^= 1;
    let config = ReadConfig {
        identity: world.log.identity(),
        block_size: BLOCK,
        from: LogPosition(0),
        cut: None,
    };
    let damage = world.disk.topics(config).unwrap_err();
    assert_eq!(
        damage.to_string(),
        "0000000000000000.log is damaged at byte 0: what had been stored safely there cannot be \
         read any more"
    );
}

// (threat T6)
#[test]
fn after_a_failed_operation_nothing_is_durable_any_more() {
    for fault in [DiskError::Full, DiskError::Failed(5)] {
        let mut world = World::new(Policy::Always);
        world.answer_all();
        for _ in 0..3 {
            world.push(10, false);
            world.end_turn();
        }
        assert_eq!(world.answer(0, Err(fault)), Err(fault));
        assert_eq!(world.answer(0, Ok(())), Err(fault));
        world.push(10, false);
        world.end_turn();
        world.pass_time(Duration::from_secs(10));
        assert!(world.disk.waiting.is_empty());
        assert_eq!(
            (world.log.durable(), world.log.deadline()),
            (TurnSeq(0), None)
        );
    }
}

#[test]
fn a_full_disk_keeps_the_log_waiting_and_is_asked_again() {
    let mut world = World::new(Policy::Always);
    world.answer(0, Err(DiskError::Full)).unwrap();
    world.push(10, false);
    world.end_turn();
    assert!(world.log.is_scarce());
    world.answer_all();
    assert_eq!(world.log.durable(), TurnSeq(0));
    assert!(world.log.pending_bytes() > 0);
    world.pass_time(Duration::from_secs(1));
    assert!(!world.log.is_scarce());
    world.answer_all();
    assert_eq!(
        (world.log.durable(), world.log.pending_bytes()),
        (TurnSeq(1), 0)
    );
}

#[test]
fn a_checkpoint_begins_a_segment_and_frees_those_before_it() {
    let mut world = World::new(Policy::Always);
    for _ in 0..20 {
        world.push(600, false);
        world.end_turn();
        world.answer_all();
    }
    world.push(10, false);
    let begin = world.begin_segment();
    assert_eq!(begin.0 % SEGMENT, 0);
    assert_eq!(world.begin_segment(), begin, "nothing is in it");
    let before = world.pushed.len();
    world.push(10, false);
    world.end_turn();
    world.answer_all();
    world.from = begin;
    assert_eq!(world.read().0, [&*world.pushed[before].2]);
    world.log.free_before(begin, &mut world.ops);
    world.take_ops();
    world.answer_all();
    assert_eq!(world.disk.segments.keys().next(), Some(&begin.0));
    world.check(before);
}

#[test]
fn what_belongs_together_is_one_batch_if_it_fits_into_a_segment() {
    let mut world = World::new(Policy::Always);
    world.push(900, false);
    world.end_turn();
    for _ in 0..4 {
        world.push(900, false);
    }
    world.end_turn();
    world.answer_all();
    // One block of header, 900 bytes and padding; then the next segment begins.
    assert_eq!(world.log.position(), LogPosition(2 * SEGMENT));
    for _ in 0..5 {
        world.push(900, false);
    }
    world.end_turn();
    world.answer_all();
    assert_eq!(world.log.durable(), TurnSeq(3));
    world.check(0);
    assert_eq!(world.read().0.len(), 10);
}

#[test]
fn a_long_batch_ends_between_two_events_and_its_turn_is_durable_with_the_rest() {
    let mut world = World::with(LogConfig {
        segment_size: 4 << 20,
        ..config(Policy::Always)
    });
    world.answer_all();
    for _ in 0..40 {
        world.push(30_000, false);
        world.push(1_000, false);
        world.log.end_event();
    }
    world.end_turn();
    assert_eq!(world.disk.waiting.len(), 2);
    world.answer(0, Ok(())).unwrap();
    assert_eq!(
        world.log.durable(),
        TurnSeq(0),
        "the rest of the turn is not there"
    );
    let first = world.read().0.len();
    assert!(first.is_multiple_of(2) && first > 60, "{first} records");
    world.answer(0, Ok(())).unwrap();
    assert_eq!(
        (world.log.durable(), world.read().0.len()),
        (TurnSeq(1), 80)
    );
}
