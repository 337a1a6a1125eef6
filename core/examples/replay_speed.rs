//! How long it takes to push records to a log, and to read them again: a million messages of 256 bytes, all of
//! them queued or each settled. Nanoseconds of CPU time per message.
//!
//! `cargo run --release -p ringmq-core --example replay_speed [messages]`

mod timing;

use ringmq_core::codec::{QoS, Version};
use ringmq_core::ids::{ClientKey, DeliveryNo, LogPosition, SessionNo, ShardId, TurnSeq};
use ringmq_core::store::{
    Clocks, DeliveryRange, DeliveryRanges, DiskDone, DiskOp, FileName, Log, LogConfig, LogReader,
    MessageRecord, Opened, Policy, ReadConfig, Receiver, ReceiverTerms, Receivers, Record,
    Recovered, SessionTerms, Shift, Source, StoredMessage,
};
use timing::cpu_nanos;

const SESSIONS: u64 = 1_000;
const GROUP: u64 = 128;

/// Segments in memory, as a disk would hold them.
struct Written {
    log: Log,
    ops: Vec<DiskOp>,
    segments: Vec<(FileName, Vec<u8>)>,
    turn: u64,
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .map_or(1_000_000, |count| count.parse().expect("a number"));
    for is_settled in [false, true] {
        measure(count, is_settled);
    }
}

fn measure(count: u64, is_settled: bool) {
    let mut ops = Vec::new();
    let config = LogConfig {
        shard: ShardId::new(0),
        epoch: 1,
        log_id: 99,
        segment_size: 64 << 20,
        block_size: 4096,
        policy: Policy::Always,
    };
    let log = Log::new(config, &mut ops);
    let mut written = Written {
        log,
        ops,
        segments: Vec::new(),
        turn: 0,
    };
    let mut pushing = 0;
    let names: Vec<String> = (0..SESSIONS).map(|no| format!("client-{no}")).collect();
    for (no, client_id) in names.iter().enumerate() {
        let terms = SessionTerms {
            user: None,
            version: Version::V5,
            expiry_s: 60,
        };
        written.log.push(&Record::Opened(Opened {
            no: session(no as u64),
            client_id,
            terms,
        }));
    }
    for first in (0..count).step_by(GROUP as usize) {
        let begin = cpu_nanos();
        for index in first..count.min(first + GROUP) {
            push_message(&mut written.log, index, is_settled);
        }
        pushing += cpu_nanos() - begin;
        written.end_turn(&mut pushing);
    }
    let begin = cpu_nanos();
    let mut recovered = Recovered::new([1, 2]);
    let source = Source {
        is_checkpoint: false,
        shift: Shift::NONE,
    };
    let mut reader = LogReader::new(ReadConfig {
        identity: written.log.identity(),
        block_size: 4096,
        from: LogPosition(0),
        cut: None,
    });
    for (file, bytes) in &written.segments {
        let fed = reader.feed(*file, bytes, &mut |record| recovered.apply(record, source));
        fed.expect("what was written is whole");
    }
    reader.finish().expect("what was written is whole");
    let reading = cpu_nanos() - begin;
    let open: usize = recovered
        .sessions
        .values()
        .map(|session| session.deliveries.len())
        .sum();
    println!(
        "settled: {is_settled}; push and seal: {} ns; read: {} ns; {} MiB, {open} left",
        pushing / count,
        reading / count,
        written.log.position().0 >> 20,
    );
}

fn session(no: u64) -> SessionNo {
    SessionNo::new(1, ShardId::new(0), no)
}

fn push_message(log: &mut Log, index: u64, is_settled: bool) {
    let (no, delivery) = (session(index % SESSIONS), DeliveryNo(index / SESSIONS));
    let terms = ReceiverTerms {
        qos: QoS::AtLeastOnce,
        retain: false,
        matched: None,
        may_have_been_sent: false,
    };
    let receivers = [Receiver {
        no,
        delivery,
        terms,
    }];
    log.push(&Record::Message(MessageRecord {
        message: StoredMessage {
            topic: b"plant/7/line/3/temperature",
            properties: b"",
            payload: &[7; 200],
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at: None,
            publisher: ClientKey(0x0123_4567_89AB_CDEF),
            author: None,
        },
        origin: None,
        body: None,
        receivers: Receivers::listed(&receivers),
    }));
    if is_settled {
        let ranges = [DeliveryRange {
            first: delivery,
            last: delivery,
        }];
        log.push_lazy(&Record::Settled {
            no,
            ranges: DeliveryRanges::listed(&ranges),
        });
    }
}

impl Written {
    /// Ends the turn and does what the disk is asked; what that takes is not the log's time.
    fn end_turn(&mut self, spent: &mut u64) {
        self.turn += 1;
        let begin = cpu_nanos();
        self.log
            .end_turn(TurnSeq(self.turn), Clocks::default(), &mut self.ops);
        *spent += cpu_nanos() - begin;
        while !self.ops.is_empty() {
            for op in std::mem::take(&mut self.ops) {
                let done = self.carry_out(op);
                let begin = cpu_nanos();
                let fine = self.log.on_done(done, Clocks::default(), &mut self.ops);
                *spent += cpu_nanos() - begin;
                fine.expect("this disk never fails");
            }
        }
    }

    fn carry_out(&mut self, op: DiskOp) -> DiskDone {
        let (op, block) = match op {
            DiskOp::Create { op, file, size } => {
                self.segments.push((file, vec![0; size as usize]));
                (op, None)
            }
            DiskOp::Write {
                op,
                file,
                at,
                block,
                ..
            } => {
                let segment = self
                    .segments
                    .iter_mut()
                    .rev()
                    .find(|(name, _)| *name == file);
                let (_, bytes) = segment.expect("it was made before");
                bytes[at as usize..][..block.size()].copy_from_slice(block.bytes());
                (op, Some(block))
            }
            DiskOp::Sync { op, .. } | DiskOp::Publish { op, .. } | DiskOp::Remove { op, .. } => {
                (op, None)
            }
        };
        DiskDone {
            op,
            result: Ok(()),
            block,
        }
    }
}
