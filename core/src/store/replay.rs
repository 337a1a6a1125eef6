//! Reading the log of one shard and its checkpoint: bytes in, records out.
//!
//! A batch that cannot be read is either the torn end of the log, which nobody was told of, or damage to what
//! was durable. It is damage if a later header says that the log was durable up to behind it, or stands behind a
//! segment that is missing or short; and in a log that was read before, and cut where its end was then, whatever
//! is before that cut.
//!
//! Not here: what becomes of the records (`recovered.rs`), which files there are (the shell).

use std::fmt;

use super::batch::{Found, Header, LogIdentity, Place};
use super::disk::{Clocks, FileKind, FileName};
use super::record::{Record, RecordError};
use crate::ids::LogPosition;
use crate::time::Instant;

/// What a log is read with.
#[derive(Clone, Copy, Debug)]
pub struct ReadConfig {
    /// Whose log.
    pub identity: LogIdentity,
    /// As it was written with.
    pub block_size: u32,
    /// Where to begin: 0, or where the checkpoint says.
    pub from: LogPosition,
    /// Where an earlier start found the end. `None`: nobody has looked since it was written.
    pub cut: Option<LogPosition>,
}

/// Reads the segments of one shard in one epoch.
#[derive(Debug)]
pub struct LogReader {
    config: ReadConfig,
    /// Where the next batch stands.
    at: LogPosition,
    /// None stands there. The file, and the offset in it.
    unread: Option<(FileName, u64)>,
    /// Behind the last segment that was read.
    fed_upto: LogPosition,
    /// A segment was missing or cut short.
    has_gap: bool,
    /// What was written later than that does not count.
    until: Option<Instant>,
    clocks: Option<Clocks>,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Behind its last whole batch.
    pub end: LogPosition,
    /// When that was written; `None`: there is none.
    pub clocks: Option<Clocks>,
}

/// Something that was durable cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which file.
    pub file: FileName,
    /// At which offset.
    pub at: u64,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// A batch that was durable is not there, or not whole.
    Lost,
    /// A batch is whole, and what is in it is no record.
    Malformed,
    /// A newer version wrote it.
    Newer,
    /// A checkpoint does not say that it is complete.
    Unfinished,
    /// A segment of another data directory stands there.
    Foreign,
}

impl LogReader {
    /// Nothing is read yet.
    pub fn new(config: ReadConfig) -> LogReader {
        LogReader {
            config,
            at: config.from,
            unread: None,
            fed_upto: config.from,
            has_gap: false,
            until: None,
            clocks: None,
        }
    }

    /// Ends the log before the first batch that was written later than that, on the boot clock.
    pub fn until(mut self, until: Instant) -> LogReader {
        self.until = Some(until);
        self
    }

    /// Whether the log ended before this segment, which then need not be read: batches stand one behind the other, and
    /// none stands at its begin. `head`: its first block.
    pub fn ends_before(&self, file: FileName, head: &[u8]) -> bool {
        let identity = self.config.identity;
        let has_batch = match Header::find(head, identity) {
            Found::Header(header) => header.stamp.position == file.position,
            Found::Newer => true,
            Found::Nothing => Header::is_foreign(head, identity),
        };
        self.config.cut.is_none() && self.at <= file.position && !has_batch
    }

    /// Reads a whole segment. They come in ascending order; none behind the beginning is left out, or what
    /// is behind it is not read.
    pub fn feed(
        &mut self,
        file: FileName,
        bytes: &[u8],
        to: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Damage> {
        let begin = file.position;
        let end = LogPosition(begin.0.saturating_add(bytes.len() as u64));
        let is_wanted = self.at <= begin && !self.has_reached_cut();
        if is_wanted && Header::is_foreign(bytes, self.config.identity) {
            return Err(Damage {
                file,
                at: 0,
                kind: DamageKind::Foreign,
            });
        }
        self.has_gap |= self.fed_upto < begin;
        self.fed_upto = end;
        if self.at < begin && self.unread.is_none() && !self.has_reached_cut() {
            self.on_unread(missing(self.at), 0)?;
        }
        while self.unread.is_none() && !self.has_reached_cut() && self.at < end {
            let at = (self.at.0 - begin.0) as usize;
            match self.batch_at(file, &bytes[at..], end, to)? {
                Some(next) => self.at = next,
                None if self.has_reached_cut() => {}
                None => self.on_unread(file, at as u64)?,
            }
        }
        self.look_for_voucher(begin, bytes)
    }

    /// Reads the batch at `self.at`, where `bytes` begin. Gives where the next one stands.
    fn batch_at(
        &mut self,
        file: FileName,
        bytes: &[u8],
        end: LogPosition,
        to: &mut dyn FnMut(Record<'_>),
    ) -> Result<Option<LogPosition>, Damage> {
        let damage = |kind| Damage {
            file,
            at: self.at.0 - file.position.0,
            kind,
        };
        let header = match Header::find(bytes, self.config.identity) {
            Found::Header(header) => header,
            Found::Newer => return Err(damage(DamageKind::Newer)),
            Found::Nothing => return Ok(None),
        };
        let next = match header.stamp.place {
            Place::Log => LogPosition(self.at.0 + header.size(self.config.block_size)),
            Place::EndOfSegment => end,
            Place::Checkpoint => return Ok(None),
        };
        let is_beyond = self.config.cut.is_some_and(|cut| next > cut);
        if header.stamp.position != self.at || next > end || is_beyond {
            return Ok(None);
        }
        if self
            .until
            .is_some_and(|until| header.stamp.clocks.boot > until)
        {
            self.config.cut = Some(self.at);
            return Ok(None);
        }
        let Some(body) = header.body(bytes) else {
            return Ok(None);
        };
        give_records(body, to).map_err(damage)?;
        self.clocks = Some(header.stamp.clocks);
        Ok(Some(next))
    }

    /// A cut may lie where a segment ends.
    fn has_reached_cut(&self) -> bool {
        self.config.cut.is_some_and(|cut| self.at >= cut)
    }

    fn on_unread(&mut self, file: FileName, at: u64) -> Result<(), Damage> {
        self.unread = Some((file, at));
        match self.config.cut {
            None => Ok(()),
            Some(_) => Err(self.lost(file, at)),
        }
    }

    fn lost(&self, file: FileName, at: u64) -> Damage {
        Damage {
            file,
            at,
            kind: DamageKind::Lost,
        }
    }

    /// Whether a header in this segment says that the place that could not be read was durable. The batch
    /// behind the header need not be whole for that. Segments have their whole size, durably, before anything is
    /// written to them: if one behind a gap was written, the gap was made later.
    fn look_for_voucher(&self, begin: LogPosition, bytes: &[u8]) -> Result<(), Damage> {
        let Some((file, at)) = self.unread else {
            return Ok(());
        };
        let mut position = begin;
        for place in bytes.chunks(self.config.block_size as usize) {
            if position > self.at
                && let Found::Header(header) = Header::find(place, self.config.identity)
                && header.stamp.place != Place::Checkpoint
                && header.stamp.position == position
                && (self.has_gap || header.stamp.durable_upto > self.at)
            {
                return Err(self.lost(file, at));
            }
            position.0 += place.len() as u64;
        }
        Ok(())
    }

    /// All segments were read.
    pub fn finish(self) -> Result<LogEnd, Damage> {
        if self.config.cut.is_some() && !self.has_reached_cut() {
            return Err(self.lost(missing(self.at), 0));
        }
        Ok(LogEnd {
            end: self.at,
            clocks: self.clocks,
        })
    }
}

/// The clocks of the last header in a segment, torn batches included: what [`Shift::since`] asks for must be
/// known before the first record is taken in. Segments are tried from the last one back; `None`: nothing
/// stands in this one.
///
/// [`Shift::since`]: super::Shift::since
pub fn last_clocks(
    identity: LogIdentity,
    block_size: u32,
    file: FileName,
    bytes: &[u8],
) -> Option<Clocks> {
    let mut places = bytes.chunks(block_size as usize).enumerate().rev();
    places.find_map(|(index, place)| {
        let position = file.position.0 + index as u64 * u64::from(block_size);
        match Header::find(place, identity) {
            Found::Header(header) if header.stamp.position.0 == position => {
                Some(header.stamp.clocks)
            }
            Found::Header(_) | Found::Newer | Found::Nothing => None,
        }
    })
}

/// The file that would begin there.
fn missing(position: LogPosition) -> FileName {
    FileName {
        kind: FileKind::Log,
        position,
    }
}

/// Gives the records of a batch, and how many they were.
fn give_records(mut body: &[u8], to: &mut dyn FnMut(Record<'_>)) -> Result<u64, DamageKind> {
    let mut count = 0;
    while !body.is_empty() {
        let record = Record::decode(&mut body).map_err(|error| match error {
            RecordError::UnknownKind(_) => DamageKind::Newer,
            RecordError::Malformed => DamageKind::Malformed,
        })?;
        to(record);
        count += 1;
    }
    Ok(count)
}

/// Reads a checkpoint, in pieces of any size.
#[derive(Debug)]
pub struct CheckpointReader {
    identity: LogIdentity,
    block_size: u32,
    file: FileName,
    /// Where the next batch stands in the file.
    at: u64,
    /// What was read and is not a whole batch yet.
    rest: Vec<u8>,
    records: u64,
    is_finished: bool,
    clocks: Option<Clocks>,
}

impl CheckpointReader {
    /// Nothing is read yet.
    pub fn new(identity: LogIdentity, block_size: u32, file: FileName) -> CheckpointReader {
        CheckpointReader {
            identity,
            block_size,
            file,
            at: 0,
            rest: Vec::new(),
            records: 0,
            is_finished: false,
            clocks: None,
        }
    }

    /// Reads the next piece. What the records say counts only once [`CheckpointReader::finish`] is content.
    pub fn feed(&mut self, bytes: &[u8], to: &mut dyn FnMut(Record<'_>)) -> Result<(), Damage> {
        if self.rest.is_empty() {
            let read = self.read(bytes, to)?;
            self.rest.extend_from_slice(&bytes[read..]);
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(bytes);
            let read = self.read(&all, to)?;
            all.drain(..read);
            self.rest = all;
        }
        Ok(())
    }

    /// Reads whole batches, and gives the bytes that they took.
    fn read(&mut self, bytes: &[u8], to: &mut dyn FnMut(Record<'_>)) -> Result<usize, Damage> {
        let mut read = 0;
        while !self.is_finished && bytes.len() - read >= self.block_size as usize {
            let here = &bytes[read..];
            let header = match Header::find(here, self.identity) {
                Found::Header(header) => header,
                Found::Newer => return Err(self.damage(DamageKind::Newer)),
                Found::Nothing => return Err(self.damage(DamageKind::Lost)),
            };
            let stamp = header.stamp;
            if stamp.place != Place::Checkpoint
                || stamp.position.0 != self.at
                || stamp.durable_upto != self.file.position
            {
                return Err(self.damage(DamageKind::Lost));
            }
            let size = header.size(self.block_size);
            if size > here.len() as u64 {
                break;
            }
            let Some(body) = header.body(here) else {
                return Err(self.damage(DamageKind::Lost));
            };
            self.read_batch(body, to)?;
            self.clocks = Some(stamp.clocks);
            self.at += size;
            read += size as usize;
        }
        // What is behind the footer is of no use.
        Ok(if self.is_finished { bytes.len() } else { read })
    }

    fn read_batch(&mut self, body: &[u8], to: &mut dyn FnMut(Record<'_>)) -> Result<(), Damage> {
        let mut footer = None;
        let count = give_records(body, &mut |record| match record {
            Record::Footer(found) => footer = Some(found),
            _ => to(record),
        });
        self.records += count.map_err(|kind| self.damage(kind))?;
        if let Some(footer) = footer {
            if footer.records + 1 != self.records {
                return Err(self.damage(DamageKind::Lost));
            }
            self.is_finished = true;
        }
        Ok(())
    }

    fn damage(&self, kind: DamageKind) -> Damage {
        Damage {
            file: self.file,
            at: self.at,
            kind,
        }
    }

    /// The whole file was read. Gives where the log goes on, and when the checkpoint was finished.
    pub fn finish(self) -> Result<LogEnd, Damage> {
        if !self.is_finished {
            return Err(self.damage(DamageKind::Unfinished));
        }
        Ok(LogEnd {
            end: self.file.position,
            clocks: self.clocks,
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: ", self.file, self.at)?;
        f.write_str(match self.kind {
            DamageKind::Lost => "what had been stored safely there cannot be read any more",
            DamageKind::Malformed => "what stands there has a valid checksum and no meaning",
            DamageKind::Newer => "what stands there was written by a newer version of Ringmq",
            DamageKind::Unfinished => "the checkpoint ends before it is complete",
            DamageKind::Foreign => "what stands there was written to another data directory",
        })
    }
}

impl std::error::Error for Damage {}
