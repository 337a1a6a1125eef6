//! What can still be read of a damaged file: whole batches, wherever they stand, and hints of the
//! others.
//!
//! Not here: what counts as damage (`replay.rs`), and what becomes of it (the shell).

use super::batch::{Batch, Found, Header, LogIdentity, Place};
use super::disk::{FileKind, FileName};
use super::record::Record;

/// One file of a log, by its whole bytes.
#[derive(Clone, Copy, Debug)]
pub struct Salvage<'a> {
    identity: LogIdentity,
    block_size: u32,
    file: FileName,
    bytes: &'a [u8],
}

impl<'a> Salvage<'a> {
    /// These are the bytes of the file.
    pub fn new(
        identity: LogIdentity,
        block_size: u32,
        file: FileName,
        bytes: &'a [u8],
    ) -> Salvage<'a> {
        Salvage {
            identity,
            block_size,
            file,
            bytes,
        }
    }

    /// The offset of the first whole batch at or behind `from`.
    pub fn next(&self, from: u64) -> Option<u64> {
        let block_size = u64::from(self.block_size);
        let first = from.next_multiple_of(block_size);
        let end = self.bytes.len() as u64;
        let step = usize::try_from(block_size).expect("a block fits into memory");
        (first..end).step_by(step).find(|&at| self.is_whole(at))
    }

    /// Reads the whole batch at an offset that [`Salvage::next`] gave. Gives the offset behind it.
    pub fn read(&self, at: u64, to: &mut dyn FnMut(Record<'_>)) -> u64 {
        let header = self.header(at).expect("a whole batch stands there");
        let mut body = header.body(self.rest(at)).expect("it was whole");
        while !body.is_empty() {
            to(Record::decode(&mut body).expect("it was decoded before"));
        }
        at + header.size(self.block_size)
    }

    /// Gives what looks like records in the batch at `at`, up to `end`, though it is damaged: hints
    /// of what it held, and nothing to build on.
    pub fn guess(&self, at: u64, end: u64, to: &mut dyn FnMut(Record<'_>)) {
        let rest = self.rest(at);
        let size = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let rest = &rest[..size.min(rest.len())];
        let mut body = rest.get(Batch::HEADER_SIZE..).unwrap_or_default();
        if let Some(header) = self.header(at) {
            body = &body[..body.len().min(header.body_size as usize)];
        }
        while !body.is_empty() {
            let Ok(record) = Record::decode(&mut body) else {
                return;
            };
            to(record);
        }
    }

    fn rest(&self, at: u64) -> &'a [u8] {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.bytes.get(at..).unwrap_or_default()
    }

    fn is_whole(&self, at: u64) -> bool {
        let Some(header) = self.header(at) else {
            return false;
        };
        let Some(mut body) = header.body(self.rest(at)) else {
            return false;
        };
        while !body.is_empty() {
            if Record::decode(&mut body).is_err() {
                return false;
            }
        }
        true
    }

    /// The header at an offset, if it belongs there.
    fn header(&self, at: u64) -> Option<Header> {
        let Found::Header(header) = Header::find(self.rest(at), self.identity) else {
            return None;
        };
        let stamp = header.stamp;
        let belongs = match self.file.kind {
            FileKind::Log => {
                stamp.place != Place::Checkpoint
                    && stamp.position.0 == self.file.position.0.saturating_add(at)
            }
            FileKind::Checkpoint => {
                stamp.place == Place::Checkpoint
                    && stamp.position.0 == at
                    && stamp.durable_upto == self.file.position
            }
        };
        belongs.then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Stamp;
    use super::super::block::Block;
    use super::super::disk::Clocks;
    use super::*;
    use crate::ids::{LogPosition, ShardId};

    const BLOCK_SIZE: u32 = 4096;

    fn identity() -> LogIdentity {
        LogIdentity {
            log_id: 7,
            epoch: 3,
            shard: ShardId::new(1),
        }
    }

    /// Three batches of a block each, with a topic in each, as they stand in a file.
    fn bytes(file: FileName) -> Vec<u8> {
        let mut bytes = Vec::new();
        for topic in ["a", "b", "c"] {
            let at = bytes.len() as u64;
            let mut batch = Batch::new(Block::default());
            batch.push(&Record::Unretained {
                topic: topic.as_bytes(),
            });
            let (position, durable_upto, place) = match file.kind {
                FileKind::Log => (file.position.0 + at, 0, Place::Log),
                FileKind::Checkpoint => (at, file.position.0, Place::Checkpoint),
            };
            let stamp = Stamp {
                identity: identity(),
                position: LogPosition(position),
                durable_upto: LogPosition(durable_upto),
                clocks: Clocks::default(),
                place,
            };
            bytes.extend_from_slice(batch.finish(&stamp, BLOCK_SIZE).bytes());
        }
        bytes
    }

    fn topic(record: &Record<'_>) -> String {
        String::from_utf8(record.topic().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn whole_batches_are_found_behind_damaged_ones_and_those_are_guessed() {
        for kind in [FileKind::Log, FileKind::Checkpoint] {
            let file = FileName {
                kind,
                position: LogPosition(8192),
            };
            let sound = bytes(file);
            for (damaged, guessed) in [(4096 + 20, "b"), (4096 + 300, "b"), (4096 + 64, "")] {
                let mut bytes = sound.clone();
                bytes[damaged] ^= 0x80;
                let salvage = Salvage::new(identity(), BLOCK_SIZE, file, &bytes);
                let (mut at, mut read, mut places) = (0, String::new(), Vec::new());
                while let Some(found) = salvage.next(at) {
                    places.push(found);
                    at = salvage.read(found, &mut |record| read += &topic(&record));
                }
                let is_padding = damaged == 4096 + 300;
                assert_eq!(read, if is_padding { "abc" } else { "ac" });
                assert_eq!(places.len(), if is_padding { 3 } else { 2 });
                let mut guess = String::new();
                salvage.guess(4096, 8192, &mut |record| guess += &topic(&record));
                assert_eq!(guess, guessed, "{kind:?} {damaged}");
            }
            let elsewhere = FileName {
                position: LogPosition(4096),
                ..file
            };
            let salvage = Salvage::new(identity(), BLOCK_SIZE, elsewhere, &sound);
            assert_eq!(salvage.next(0), None, "another file's batches do not count");
        }
    }
}
