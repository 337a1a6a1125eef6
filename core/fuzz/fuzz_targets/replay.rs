//! Any bytes as segments and as a checkpoint, with right checksums where the input says so: whatever is in them,
//! reading ends with records or with damage, in one way, and what was read adds up to something.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_core::ids::{LogPosition, ShardId};
use ringmq_core::store::{
    Batch, Block, CheckpointReader, Clocks, Damage, FileKind, FileName, LogEnd, LogIdentity,
    LogReader, Place, ReadConfig, Record, Recovered, Shift, Source, Stamp,
};

const BLOCK: u32 = 512;
const SEGMENT: usize = 2048;

fuzz_target!(|input: &[u8]| {
    let [mode, piece, input @ ..] = input else {
        return;
    };
    let place = if mode & 1 == 0 { Place::Log } else { Place::Checkpoint };
    // Batches with right checksums around anything, cut at a byte that the input chooses; or the input as it is.
    let mut bytes = Vec::new();
    if mode & 2 == 0 {
        for body in input.split(|byte| *byte == *piece) {
            put_batch(&mut bytes, body, place, *mode);
        }
    } else {
        bytes.extend_from_slice(input);
    }
    let cut = (mode & 4 != 0).then_some(LogPosition(u64::from(*piece) * u64::from(BLOCK)));
    match place {
        Place::Checkpoint => {
            let whole = read_checkpoint(&bytes, bytes.len().max(1));
            assert_eq!(whole, read_checkpoint(&bytes, usize::from(*piece) + 1));
        }
        Place::Log | Place::EndOfSegment => read_log(&bytes, cut),
    }
});

fn identity() -> LogIdentity {
    LogIdentity { log_id: 7, epoch: 1, shard: ShardId::new(0) }
}

fn put_batch(bytes: &mut Vec<u8>, body: &[u8], place: Place, mode: u8) {
    let ends = mode & 8 != 0 && body.len().is_multiple_of(3);
    let stamp = Stamp {
        identity: identity(),
        position: LogPosition(bytes.len() as u64),
        durable_upto: LogPosition(if place == Place::Checkpoint { 0 } else { u64::from(mode) << 4 }),
        clocks: Clocks::default(),
        place: if ends && place == Place::Log { Place::EndOfSegment } else { place },
    };
    let mut batch = Batch::new(Block::default()).finish(&stamp, BLOCK);
    batch.truncate(Batch::HEADER_SIZE);
    batch.extend(body);
    let header = batch.bytes_mut();
    header[8..12].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    header[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c(&header[8..Batch::HEADER_SIZE]);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    batch.pad(BLOCK as usize);
    bytes.extend_from_slice(batch.bytes());
    if ends {
        bytes.resize(bytes.len().next_multiple_of(SEGMENT), 0);
    }
}

/// A record has one form, and what it says can be taken in.
fn take_in(record: Record<'_>, is_checkpoint: bool, recovered: &mut Recovered) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    let mut rest = &bytes[..];
    assert_eq!(Record::decode(&mut rest).as_ref(), Ok(&record));
    assert!(rest.is_empty());
    recovered.apply(record, Source { is_checkpoint, shift: Shift::NONE });
}

fn read_log(bytes: &[u8], cut: Option<LogPosition>) {
    let mut recovered = Recovered::new([1, 2]);
    let config = ReadConfig { identity: identity(), block_size: BLOCK, from: LogPosition(0), cut };
    let mut reader = LogReader::new(config);
    for (index, segment) in bytes.chunks(SEGMENT).enumerate() {
        let position = LogPosition((index * SEGMENT) as u64);
        let file = FileName { kind: FileKind::Log, position };
        let mut to = |record: Record<'_>| take_in(record, false, &mut recovered);
        if reader.feed(file, segment, &mut to).is_err() {
            return;
        }
    }
    if let Ok(end) = reader.finish() {
        assert!(end.end.0 <= bytes.len().next_multiple_of(SEGMENT) as u64);
        assert!(cut.is_none_or(|cut| end.end == cut));
    }
    let _ = recovered.check();
}

fn read_checkpoint(bytes: &[u8], piece: usize) -> Result<(u64, LogEnd), Damage> {
    let mut recovered = Recovered::new([1, 2]);
    let mut count = 0;
    let file = FileName { kind: FileKind::Checkpoint, position: LogPosition(0) };
    let mut reader = CheckpointReader::new(identity(), BLOCK, file);
    for piece in bytes.chunks(piece) {
        reader.feed(piece, &mut |record| {
            count += 1;
            take_in(record, true, &mut recovered);
        })?;
    }
    reader.finish().map(|end| (count, end))
}
