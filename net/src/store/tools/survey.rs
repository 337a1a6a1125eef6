//! Reads a whole data directory as a start would, but goes on behind damage, and counts.
//!
//! What was recorded is put on the wall clock: all instants are nanoseconds since 1970.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File as OsFile};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use ringmq_core::home::Home;
use ringmq_core::ids::{LogPosition, SessionNo, ShardId};
use ringmq_core::store::{
    CheckpointReader, Clocks, Damage, DamageKind, FileKind, FileName, LogIdentity, LogReader,
    ReadConfig, Record, Recovered, RecoveredDelivery, Salvage, Shift, Source, last_clocks,
};
use serde::Serialize;

use super::super::data_dir::{DataDir, Listing};
use super::super::manifest::{self, Manifest};
use super::{ToolError, ToolErrorKind, wall_clocks};

/// What a data directory holds.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// Which.
    pub directory: PathBuf,
    /// Nothing has ever been stored in it.
    pub is_empty: bool,
    /// Its epochs, one per start.
    pub epochs: Vec<Epoch>,
    /// What is damaged; a start refuses the directory if there is anything.
    pub flaws: Vec<Flaw>,
    /// What a start recovers, or, if there is damage, what a repair would keep.
    pub totals: Totals,
}

/// The logs between two starts.
#[derive(Debug, Serialize)]
pub struct Epoch {
    /// Counts the starts.
    pub number: u32,
    /// An earlier start has read it to its end.
    pub is_sealed: bool,
    /// One for each shard that the broker had.
    pub shards: Vec<Shard>,
}

/// What one shard wrote in one epoch.
#[derive(Debug, Default, Serialize)]
pub struct Shard {
    /// From 0.
    pub number: usize,
    /// The checkpoint that a start reads.
    pub checkpoint: Option<File>,
    /// The segments that a start reads.
    pub segments: Vec<File>,
    /// Where the log ends.
    pub end: u64,
    /// Something unfinished stands behind its end: a start cuts it off, and nobody was told of it.
    pub has_torn_end: bool,
    /// When the log was last written, in milliseconds since 1970.
    pub written_ms: Option<u64>,
    /// How many records of each kind were read.
    pub records: BTreeMap<&'static str, u64>,
    /// Files that ringmq does not know.
    pub strays: Vec<String>,
}

/// A file.
#[derive(Clone, Debug, Serialize)]
pub struct File {
    /// Its name.
    pub name: String,
    /// The position in the log of its first byte, or from which on the checkpoint needs the log.
    pub position: u64,
    /// Bytes.
    pub size: u64,
}

/// Something that was stored safely and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// Which file or directory.
    pub path: PathBuf,
    /// At which byte.
    pub at: u64,
    /// Bytes up to where it can be read again; 0: unknown.
    pub size: u64,
    /// What is wrong there.
    pub what: String,
    /// What seems to have stood there.
    pub hints: Hints,
}

/// What damaged bytes look like. It is not to be relied upon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hints {
    /// Records.
    pub records: u64,
    /// Clients whose sessions they were about.
    pub clients: BTreeSet<String>,
    /// Topics that they were about.
    pub topics: BTreeSet<String>,
}

/// Sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages that wait for sessions, or are in flight.
    pub queued_messages: u64,
    /// Their payloads, in bytes.
    pub queued_bytes: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Wills of ended sessions that are still to be published.
    pub owed_wills: u64,
    /// Sessions with the most messages.
    pub largest: Vec<LargeSession>,
}

/// A session with many messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LargeSession {
    /// Whose.
    pub client_id: String,
    /// Messages.
    pub queued_messages: u64,
    /// Their payloads, in bytes.
    pub queued_bytes: u64,
}

impl Flaw {
    fn new(path: PathBuf, at: u64, size: u64, what: String) -> Flaw {
        Flaw {
            path,
            at,
            size,
            what,
            hints: Hints::default(),
        }
    }
}

/// Reads everything. The manifest has to be sound; `None`: there is none, and nothing else.
pub(super) fn read(
    directory: &DataDir,
) -> Result<(Survey, Option<(Manifest, Recovered)>), ToolError> {
    let mut survey = Survey {
        directory: directory.path().to_owned(),
        is_empty: true,
        epochs: Vec::new(),
        flaws: Vec::new(),
        totals: Totals::default(),
    };
    let Some(manifest) = directory.find_manifest()? else {
        return Ok((survey, None));
    };
    survey.is_empty = false;
    let mut recovered = Recovered::new(manifest.secret);
    for epoch in &manifest.epochs {
        let mut shards = Vec::new();
        for shard in (0..epoch.shards).map(ShardId::new) {
            let mut reading = Reading::new(directory, &manifest, epoch, shard);
            shards.push(reading.read(&mut recovered, &mut survey.flaws)?);
        }
        recovered.end_epoch();
        survey.epochs.push(Epoch {
            number: epoch.number,
            is_sealed: epoch.cut.is_some(),
            shards,
        });
    }
    recovered.tell_partials();
    if let Err(error) = recovered.check() {
        let path = directory.path().to_owned();
        survey.flaws.push(Flaw::new(path, 0, 0, error.to_string()));
    }
    survey.totals = totals(&recovered);
    Ok((survey, Some((manifest, recovered))))
}

pub(super) fn totals(recovered: &Recovered) -> Totals {
    let mut totals = Totals {
        sessions: recovered.sessions.len() as u64,
        retained_messages: recovered.retained.len() as u64,
        owed_wills: recovered
            .owed
            .values()
            .filter(|owed| owed.will.is_some())
            .count() as u64,
        ..Totals::default()
    };
    for session in recovered.sessions.values() {
        totals.subscriptions += session.subscriptions.len() as u64;
        let messages = session.deliveries.values().filter_map(|left| match left {
            RecoveredDelivery::Message { message, .. } => Some(message.payload().len() as u64),
            RecoveredDelivery::Pubrel => None,
        });
        let (mut count, mut bytes) = (0, 0);
        messages.for_each(|size| (count, bytes) = (count + 1, bytes + size));
        totals.queued_messages += count;
        totals.queued_bytes += bytes;
        if count > 0 {
            totals.largest.push(LargeSession {
                client_id: session.client_id.to_string(),
                queued_messages: count,
                queued_bytes: bytes,
            });
        }
    }
    let order = |one: &LargeSession| {
        let client_id = one.client_id.clone();
        (std::cmp::Reverse(one.queued_messages), client_id)
    };
    totals.largest.sort_by_cached_key(order);
    totals.largest.truncate(LARGEST_MAX);
    totals
}

/// The files of one shard in one epoch, being read.
struct Reading {
    path: PathBuf,
    home: Home,
    identity: LogIdentity,
    block_size: u32,
    cut: Option<LogPosition>,
    report: Shard,
}

impl Reading {
    fn new(
        directory: &DataDir,
        manifest: &Manifest,
        epoch: &manifest::Epoch,
        shard: ShardId,
    ) -> Reading {
        Reading {
            path: directory.shard_path(epoch.number, shard.index()),
            home: Home::new(manifest.secret, epoch.shards),
            identity: LogIdentity {
                log_id: manifest.log_id,
                epoch: epoch.number,
                shard,
            },
            block_size: manifest.block_size,
            cut: epoch.cut.as_ref().map(|cut| cut[shard.index()]),
            report: Shard {
                number: shard.index(),
                ..Shard::default()
            },
        }
    }

    fn read(
        &mut self,
        recovered: &mut Recovered,
        flaws: &mut Vec<Flaw>,
    ) -> Result<Shard, ToolError> {
        if !self.path.is_dir() {
            let what = "is missing, though MANIFEST names it".to_owned();
            flaws.push(Flaw::new(self.path.clone(), 0, 0, what));
            return Ok(std::mem::take(&mut self.report));
        }
        let listing = Listing::of(&self.path)?;
        if self.cut.is_none()
            && let Some(cut) = listing.find_cut(&self.path)?
        {
            let path = self.path.join(cut.file.to_string());
            flaws.push(Flaw::new(path, cut.size, 0, cut.what));
        }
        let checkpoint = listing.checkpoints.last().copied();
        let from = checkpoint.map_or(LogPosition(0), |file| file.position);
        let mut segments = listing.logs;
        segments.retain(|file| file.position >= from);
        self.report.strays = listing.strays;
        self.report.checkpoint = checkpoint.map(|file| self.describe(file)).transpose()?;
        let described: Result<_, _> = segments.iter().map(|file| self.describe(*file)).collect();
        self.report.segments = described?;
        let shift = self.shift(checkpoint, &segments)?;
        if let Some(file) = checkpoint {
            recovered.begin_checkpoint(&self.home, self.identity.shard);
            let source = Source {
                is_checkpoint: true,
                shift,
            };
            self.read_checkpoint(file, source, recovered, flaws)?;
            recovered.end_checkpoint();
        }
        let source = Source {
            is_checkpoint: false,
            shift,
        };
        self.read_log(from, &segments, source, recovered, flaws)?;
        Ok(std::mem::take(&mut self.report))
    }

    fn describe(&self, file: FileName) -> Result<File, ToolError> {
        let path = self.path.join(file.to_string());
        let found = fs::metadata(&path);
        let found = found.map_err(|error| ToolError::failed("look at", &path, &error))?;
        Ok(File {
            name: file.to_string(),
            position: file.position.0,
            size: found.len(),
        })
    }

    /// From the boot clock of the log to the wall clock.
    fn shift(
        &mut self,
        checkpoint: Option<FileName>,
        segments: &[FileName],
    ) -> Result<Shift, ToolError> {
        let mut last = None;
        for &file in segments.iter().rev() {
            let bytes = self.content(file)?;
            last = last_clocks(self.identity, self.block_size, file, &bytes);
            if last.is_some() {
                break;
            }
        }
        if let (None, Some(file)) = (last, checkpoint) {
            let path = self.path.join(file.to_string());
            let mut first = Vec::new();
            let opened = OsFile::open(&path);
            let read =
                opened.and_then(|file| file.take(self.block_size.into()).read_to_end(&mut first));
            read.map_err(|error| ToolError::failed("read", &path, &error))?;
            // Batches of a checkpoint count from its own begin.
            let begin = FileName {
                kind: FileKind::Log,
                position: LogPosition(0),
            };
            last = last_clocks(self.identity, self.block_size, begin, &first);
        }
        self.report.written_ms = last.map(|last: Clocks| last.wall_ns / 1_000_000);
        Ok(last.map_or_else(Shift::default, |last| Shift::since(last, wall_clocks())))
    }

    fn read_checkpoint(
        &mut self,
        file: FileName,
        source: Source,
        recovered: &mut Recovered,
        flaws: &mut Vec<Flaw>,
    ) -> Result<(), ToolError> {
        let path = self.path.join(file.to_string());
        let failed = |error| ToolError::failed("read", &path, &error);
        let mut content = OsFile::open(&path).map_err(failed)?;
        let mut piece = vec![0; PIECE_SIZE];
        let mut reader = CheckpointReader::new(self.identity, self.block_size, file);
        let counts = &mut self.report.records;
        let mut apply = |record: Record<'_>| take(counts, recovered, record, source);
        let damage = loop {
            let size = content.read(&mut piece).map_err(failed)?;
            if size == 0 {
                break reader.finish().err();
            }
            if let Err(damage) = reader.feed(&piece[..size], &mut apply) {
                break Some(damage);
            }
        };
        let Some(damage) = damage else { return Ok(()) };
        self.refuse_newer(&damage)?;
        let bytes = self.content(file)?;
        let salvage = Salvage::new(self.identity, self.block_size, file, &bytes);
        let mut at = damage.at;
        let mut what = damage.to_string();
        loop {
            let next = salvage.next(at);
            if next != Some(at) {
                let end = next.unwrap_or(bytes.len() as u64);
                let mut flaw = Flaw::new(path.clone(), at, end.saturating_sub(at), what.clone());
                salvage.guess(at, end, &mut |record| {
                    hint(&mut flaw.hints, recovered, &record)
                });
                flaws.push(flaw);
            }
            let Some(next) = next else { return Ok(()) };
            let counts = &mut self.report.records;
            let mut apply = |record: Record<'_>| take(counts, recovered, record, source);
            at = salvage.read(next, &mut apply);
            what = Damage { at, ..damage }.to_string();
            if at >= bytes.len() as u64 {
                return Ok(());
            }
        }
    }

    /// Reads the log, and begins again behind each damage.
    fn read_log(
        &mut self,
        from: LogPosition,
        segments: &[FileName],
        source: Source,
        recovered: &mut Recovered,
        flaws: &mut Vec<Flaw>,
    ) -> Result<(), ToolError> {
        let mut from = from;
        loop {
            let end = self.read_from(from, segments, source, recovered)?;
            let damage = match end {
                Ok(end) => {
                    self.report.end = end.0;
                    self.report.has_torn_end = self.has_torn_end(end, segments)?;
                    return Ok(());
                }
                Err(damage) => damage,
            };
            self.refuse_newer(&damage)?;
            let position = damage.file.position.0 + damage.at;
            let next = self.next_batch(position + 1, segments)?;
            let end = next.or(self.cut).map_or(position, |end| end.0);
            let path = self.path.join(damage.file.to_string());
            let what = if path.exists() {
                damage.to_string()
            } else {
                format!("{} is missing", damage.file)
            };
            let mut flaw = Flaw::new(path, damage.at, end.saturating_sub(position), what);
            if let Ok(bytes) = self.content(damage.file) {
                let salvage = Salvage::new(self.identity, self.block_size, damage.file, &bytes);
                salvage.guess(damage.at, damage.at + flaw.size, &mut |record| {
                    hint(&mut flaw.hints, recovered, &record);
                });
            }
            flaws.push(flaw);
            match next {
                Some(next) => from = next,
                None => {
                    self.report.end = position;
                    return Ok(());
                }
            }
        }
    }

    fn read_from(
        &mut self,
        from: LogPosition,
        segments: &[FileName],
        source: Source,
        recovered: &mut Recovered,
    ) -> Result<Result<LogPosition, Damage>, ToolError> {
        let mut reader = LogReader::new(ReadConfig {
            identity: self.identity,
            block_size: self.block_size,
            from,
            cut: self.cut,
        });
        for &file in segments {
            if self.ends_before(file, from)? {
                continue;
            }
            let bytes = self.content(file)?;
            let counts = &mut self.report.records;
            let mut apply = |record: Record<'_>| take(counts, recovered, record, source);
            if let Err(damage) = reader.feed(file, &bytes, &mut apply) {
                return Ok(Err(damage));
            }
        }
        Ok(reader.finish().map(|end| end.end))
    }

    /// Where the first whole batch stands at or behind a position, before the cut.
    fn next_batch(
        &self,
        from: u64,
        segments: &[FileName],
    ) -> Result<Option<LogPosition>, ToolError> {
        for &file in segments {
            if self.ends_before(file, LogPosition(from))? {
                continue;
            }
            let bytes = self.content(file)?;
            let begin = file.position.0;
            let salvage = Salvage::new(self.identity, self.block_size, file, &bytes);
            if let Some(at) = salvage.next(from.saturating_sub(begin)) {
                let position = LogPosition(begin + at);
                let is_cut = self.cut.is_some_and(|cut| position >= cut);
                return Ok((!is_cut).then_some(position));
            }
        }
        Ok(None)
    }

    /// Something begins where the log ends.
    fn has_torn_end(&self, end: LogPosition, segments: &[FileName]) -> Result<bool, ToolError> {
        let Some(&file) = segments.iter().rfind(|file| file.position <= end) else {
            return Ok(false);
        };
        if self.cut.is_some() {
            return Ok(false);
        }
        let path = self.path.join(file.to_string());
        let mut block = vec![0; self.block_size as usize];
        let opened = OsFile::open(&path);
        let read = opened.and_then(|content| content.read_at(&mut block, end.0 - file.position.0));
        let size = read.map_err(|error| ToolError::failed("read", &path, &error))?;
        Ok(block[..size].iter().any(|byte| *byte != 0))
    }

    /// There is nothing in it at or behind a position.
    fn ends_before(&self, file: FileName, position: LogPosition) -> Result<bool, ToolError> {
        let size = self.describe(file)?.size;
        Ok(file.position.0 + size <= position.0)
    }

    fn content(&self, file: FileName) -> Result<Vec<u8>, ToolError> {
        let path = self.path.join(file.to_string());
        fs::read(&path).map_err(|error| ToolError::failed("read", &path, &error))
    }

    fn refuse_newer(&self, damage: &Damage) -> Result<(), ToolError> {
        match damage.kind {
            DamageKind::Newer => Err(ToolError::new(
                ToolErrorKind::Wrong,
                format!("{}: {damage}", self.path.display()),
                "use the tools of that version",
            )),
            DamageKind::Lost
            | DamageKind::Malformed
            | DamageKind::Unfinished
            | DamageKind::Foreign => Ok(()),
        }
    }
}

fn take(
    counts: &mut BTreeMap<&'static str, u64>,
    recovered: &mut Recovered,
    record: Record<'_>,
    source: Source,
) {
    *counts.entry(record.name()).or_default() += 1;
    recovered.apply(record, source);
}

fn hint(hints: &mut Hints, recovered: &Recovered, record: &Record<'_>) {
    hints.records += 1;
    if let Some(topic) = record.topic()
        && hints.topics.len() < HINTS_MAX
    {
        hints
            .topics
            .insert(String::from_utf8_lossy(topic).into_owned());
    }
    if let Record::Opened(opened) = record
        && hints.clients.len() < HINTS_MAX
    {
        hints.clients.insert(opened.client_id.to_owned());
    }
    record.for_each_session(&mut |no: SessionNo| {
        if let Some(session) = recovered.sessions.get(&no)
            && hints.clients.len() < HINTS_MAX
        {
            hints.clients.insert(session.client_id.to_string());
        }
    });
}

/// Sessions that are listed.
const LARGEST_MAX: usize = 10;
/// Names that are listed of one damage.
const HINTS_MAX: usize = 100;
/// Bytes of a checkpoint that are read at once.
const PIECE_SIZE: usize = 1 << 20;
