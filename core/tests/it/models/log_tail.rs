//! The end of a log, over crashes: what of it counts at the next start.
//!
//! Batches of one to three blocks lie in segments of six. Two are under way at most, each a write and then a
//! sync of its own. The process may end: what it had written stays, unsynced, and what it was writing may
//! still arrive much later. Or the power fails: each unsynced block is kept or lost by itself. A start reads
//! all epochs that the manifest lists, makes durable what it has read, and writes a manifest that says where it
//! found the end and that a new epoch follows; only then the doors open. It never appends to what it has read.
//! Files are used again without being cleared, which is more than the broker does.
//!
//! Promises:
//! - what was acknowledged is found again, in order;
//! - what a start has dropped never comes back;
//! - an honest disk is never called damaged;
//! - a lost block is told from a torn end if it is in an epoch that was read before, or if a later batch
//!   vouches for it.
//!
//! The rules live in `store/log` and `store/replay.rs`, and in the shell that keeps the manifest. A log to which
//! a start appends would need a number of the start in each batch besides; an epoch is that number.

use std::collections::{BTreeMap, BTreeSet};

use crate::dice::Dice;

/// Schedules that are tried with all rules kept.
const SCHEDULES_KEPT: u64 = 40_000;
/// Schedules at most until one without a rule must have failed; the rarest fails once in some dozens.
const SCHEDULES_BROKEN_MAX: u64 = 20_000;
/// Blocks of a segment.
const SEGMENT: usize = 6;

#[derive(Clone, Copy, Debug)]
struct Rules {
    /// A batch counts as durable only when all before it are.
    contiguous: bool,
    /// The sync of a batch begins after its write has ended.
    sync_after_write: bool,
    /// A batch says how far the log was durable, not how far it was written.
    honest_upto: bool,
    /// What is left of a segment ends with an empty batch that says so.
    end_of_segment: bool,
    /// A batch counts only at its own position.
    position: bool,
    /// A batch counts only in its own epoch.
    epoch: bool,
    /// A start makes durable what it has read.
    sync_at_start: bool,
    /// The manifest says where an earlier start found the end.
    cut: bool,
    /// The doors open when the manifest with the new epoch is durable.
    manifest_before_doors: bool,
}

const ALL: Rules = Rules {
    contiguous: true,
    sync_after_write: true,
    honest_upto: true,
    end_of_segment: true,
    position: true,
    epoch: true,
    sync_at_start: true,
    cut: true,
    manifest_before_doors: true,
};

/// A block on the disk. `position`, `parts`, `upto` and `is_last` stand in the header of its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    epoch: u32,
    position: usize,
    uid: u32,
    part: usize,
    parts: usize,
    upto: usize,
    is_last: bool,
}

/// A block on its way.
#[derive(Clone, Copy, Debug)]
struct Write {
    file: usize,
    offset: usize,
    cell: Cell,
}

#[derive(Clone, Debug)]
struct Batch {
    header: Cell,
    is_written: bool,
    is_synced: bool,
}

/// What the manifest says of an epoch.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    number: u32,
    /// Where a checkpoint has it begin.
    from: usize,
    cut: Option<usize>,
}

#[derive(Clone, Default)]
struct Disk {
    files: Vec<[Option<Cell>; SEGMENT]>,
    /// In the order in which they were written.
    unsynced: Vec<Write>,
    /// Of processes that are no more.
    late: Vec<Write>,
    /// Epoch and number of a segment to its file.
    names: BTreeMap<(u32, usize), usize>,
    spares: Vec<usize>,
    manifest: Vec<Epoch>,
}

impl Disk {
    fn block(&self, epoch: u32, position: usize) -> Option<Cell> {
        let file = *self.names.get(&(epoch, position / SEGMENT))?;
        let offset = position % SEGMENT;
        let is_it = |write: &&Write| (write.file, write.offset) == (file, offset);
        let unsynced = self.unsynced.iter().rev().find(is_it);
        unsynced
            .map(|write| write.cell)
            .or(self.files[file][offset])
    }

    fn header(&self, rules: Rules, epoch: u32, position: usize) -> Option<Cell> {
        let header = self.block(epoch, position)?;
        let is_here = header.position == position || !rules.position;
        let is_ours = header.epoch == epoch || !rules.epoch;
        (header.part == 0 && is_here && is_ours).then_some(header)
    }

    /// A whole batch.
    fn batch(&self, rules: Rules, epoch: u32, position: usize) -> Option<Cell> {
        let header = self.header(rules, epoch, position)?;
        if position % SEGMENT + header.parts > SEGMENT {
            return None;
        }
        let is_there = |part| {
            let cell = self.block(epoch, position + part);
            cell == Some(Cell { part, ..header })
        };
        (0..header.parts).all(is_there).then_some(header)
    }

    fn write(&self, batch: &Cell, part: usize) -> Option<Write> {
        let position = batch.position + part;
        let file = *self.names.get(&(batch.epoch, position / SEGMENT))?;
        Some(Write {
            file,
            offset: position % SEGMENT,
            cell: Cell { part, ..*batch },
        })
    }

    /// Makes durable what was written to these files.
    fn sync(&mut self, is_synced: impl Fn(usize) -> bool) {
        for write in &self.unsynced {
            if is_synced(write.file) {
                self.files[write.file][write.offset] = Some(write.cell);
            }
        }
        self.unsynced.retain(|write| !is_synced(write.file));
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        self.late.clear();
        self.unsynced.retain(|_| dice.one_in(2));
        self.sync(|_| true);
    }

    /// Gives a segment a file, cleared or not; its name is durable.
    fn make_segment(&mut self, epoch: u32, segment: usize) {
        if self.names.contains_key(&(epoch, segment)) {
            return;
        }
        let file = self.spares.pop().unwrap_or_else(|| {
            self.files.push([None; SEGMENT]);
            self.files.len() - 1
        });
        self.names.insert((epoch, segment), file);
    }

    /// Removes what is before a position of the present epoch. A file that something may still arrive in is
    /// not used again.
    fn free_before(&mut self, epoch: u32, position: usize) {
        let needed = (epoch, position / SEGMENT);
        while let Some((name, file)) = self.names.pop_first() {
            if name >= needed {
                self.names.insert(name, file);
                return;
            }
            if !self.late.iter().any(|write| write.file == file) {
                self.spares.push(file);
            }
        }
    }

    /// Gives the batches of an epoch, and where it ends.
    fn read(&self, rules: Rules, epoch: Epoch) -> Result<(Vec<Cell>, usize), String> {
        let (mut at, mut found) = (epoch.from, Vec::new());
        let cut = epoch.cut.filter(|_| rules.cut);
        while cut.is_none_or(|cut| at < cut) {
            let next_segment = (at / SEGMENT + 1) * SEGMENT;
            if let Some(batch) = self.batch(rules, epoch.number, at) {
                found.push(Cell {
                    position: at,
                    ..batch
                });
                at = if batch.is_last {
                    next_segment
                } else {
                    at + batch.parts
                };
            } else if !rules.end_of_segment
                && at % SEGMENT != 0
                && self.batch(rules, epoch.number, next_segment).is_some()
            {
                at = next_segment;
            } else {
                break;
            }
        }
        if cut.is_some_and(|cut| at < cut) {
            return Err(format!("damage at {at} of {epoch:?}"));
        }
        let last = self.names.keys().rev().find(|name| name.0 == epoch.number);
        let end = last.map_or(0, |name| (name.1 + 1) * SEGMENT);
        for position in at + 1..if cut.is_none() { end } else { 0 } {
            let header = self.header(rules, epoch.number, position);
            if header.is_some_and(|header| header.upto > at) {
                return Err(format!("damage at {at} of {epoch:?}, says {position}"));
            }
        }
        Ok((found, at))
    }
}

struct World {
    rules: Rules,
    dice: Dice,
    disk: Disk,
    epoch: u32,
    /// Where the next batch goes.
    next: usize,
    under_way: Vec<Batch>,
    /// Everything before it is durable.
    durable: usize,
    next_uid: u32,
    /// What has to be found, in order.
    acknowledged: Vec<u32>,
    /// What may never be found again.
    dropped: BTreeSet<u32>,
}

impl World {
    fn new(seed: u64, rules: Rules) -> World {
        let mut world = World {
            rules,
            dice: Dice::new(seed),
            disk: Disk::default(),
            epoch: 0,
            next: 0,
            under_way: Vec::new(),
            durable: 0,
            next_uid: 1,
            acknowledged: Vec::new(),
            dropped: BTreeSet::new(),
        };
        world.begin_epoch();
        world.note_epoch();
        world
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..30 + self.dice.below(120) {
            match self.dice.below(20) {
                0..=4 if self.under_way.len() < 2 => self.push(),
                5..=9 => self.end_write(),
                10..=14 => self.end_sync(),
                15 => self.checkpoint(),
                16..=17 => self.crash()?,
                18 => self.lose_block()?,
                _ => self.arrive_late(),
            }
        }
        Ok(())
    }

    fn push(&mut self) {
        let parts = 1 + self.dice.below(3);
        let left = SEGMENT - self.next % SEGMENT;
        if parts <= left {
            self.submit(parts, false, parts);
        } else if self.rules.end_of_segment {
            self.submit(1, true, left);
        } else {
            self.next += left;
            self.submit(parts, false, parts);
        }
    }

    /// Begins to write a batch that takes so many blocks of the log.
    fn submit(&mut self, parts: usize, is_last: bool, taken: usize) {
        self.disk.make_segment(self.epoch, self.next / SEGMENT);
        let header = Cell {
            epoch: self.epoch,
            position: self.next,
            uid: self.next_uid,
            part: 0,
            parts,
            upto: if self.rules.honest_upto {
                self.durable
            } else {
                self.next
            },
            is_last,
        };
        self.next_uid += 1;
        self.next += taken;
        self.under_way.push(Batch {
            header,
            is_written: false,
            is_synced: false,
        });
    }

    /// One of those for which `is_next` holds.
    fn any(&mut self, is_next: impl Fn(&Batch) -> bool) -> Option<usize> {
        let all = 0..self.under_way.len();
        let all: Vec<usize> = all
            .filter(|index| is_next(&self.under_way[*index]))
            .collect();
        (!all.is_empty()).then(|| self.dice.pick(&all))
    }

    fn end_write(&mut self) {
        if let Some(index) = self.any(|batch| !batch.is_written) {
            let header = self.under_way[index].header;
            for part in 0..header.parts {
                let write = self.disk.write(&header, part);
                self.disk.unsynced.extend(write);
            }
            self.under_way[index].is_written = true;
        }
    }

    fn end_sync(&mut self) {
        let needs_write = self.rules.sync_after_write;
        let Some(index) = self.any(|one| !one.is_synced && (one.is_written || !needs_write)) else {
            return;
        };
        let header = self.under_way[index].header;
        let file = self.disk.names[&(header.epoch, header.position / SEGMENT)];
        self.disk.sync(|one| one == file);
        self.under_way[index].is_synced = true;
        if !self.rules.contiguous {
            self.under_way.swap(0, index);
        }
        while self.under_way.first().is_some_and(|batch| batch.is_synced) {
            let header = self.under_way.remove(0).header;
            let end = match header.is_last {
                true => (header.position / SEGMENT + 1) * SEGMENT,
                false => header.position + header.parts,
            };
            self.durable = self.durable.max(end);
            self.acknowledged.push(header.uid);
        }
        // In the order of the log, whatever the order of the answers.
        self.acknowledged.sort_unstable();
    }

    /// Says all that was recorded so far: it is not needed any more, and no earlier epoch either.
    fn checkpoint(&mut self) {
        let is_at_begin = self.next.is_multiple_of(SEGMENT) && self.under_way.is_empty();
        if !is_at_begin || self.dice.one_in(2) {
            return;
        }
        self.disk.free_before(self.epoch, self.next);
        self.disk
            .manifest
            .retain(|epoch| epoch.number == self.epoch);
        self.disk
            .manifest
            .iter_mut()
            .for_each(|epoch| epoch.from = self.next);
        self.acknowledged.clear();
    }

    /// Of the writes under way any blocks are done; if only the process ends, others come later.
    fn crash(&mut self) -> Result<(), String> {
        let is_power = self.dice.one_in(2);
        for batch in self.under_way.iter().filter(|batch| !batch.is_written) {
            for part in 0..batch.header.parts {
                let write = self.disk.write(&batch.header, part);
                match self.dice.below(3) {
                    0 => self.disk.unsynced.extend(write),
                    1 => self.disk.late.extend(write),
                    _ => {}
                }
            }
        }
        if is_power {
            self.disk.lose_power(&mut self.dice);
        }
        self.start()
    }

    fn start(&mut self) -> Result<(), String> {
        let mut found = Vec::new();
        let mut end = 0;
        for index in 0..self.disk.manifest.len() {
            let (batches, upto) = self.disk.read(self.rules, self.disk.manifest[index])?;
            found.extend(batches.iter().map(|batch| batch.uid));
            end = upto;
        }
        self.check(&found)?;
        if self.rules.sync_at_start {
            self.disk.sync(|_| true);
        }
        // Another crash comes before anybody was let in.
        match self.dice.below(8) {
            0 => return self.start(),
            1 => {
                self.disk.lose_power(&mut self.dice);
                return self.start();
            }
            _ => {}
        }
        let lost = self.under_way.drain(..).map(|batch| batch.header.uid);
        self.dropped.extend(lost.filter(|uid| !found.contains(uid)));
        self.acknowledged = found;
        if let Some(last) = self.disk.manifest.last_mut() {
            last.cut = Some(end);
        }
        self.begin_epoch();
        if self.rules.manifest_before_doors || self.dice.one_in(2) {
            self.note_epoch();
        }
        Ok(())
    }

    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.next = 0;
        self.durable = 0;
        self.disk.make_segment(self.epoch, 0);
    }

    /// Writes the manifest with the present epoch.
    fn note_epoch(&mut self) {
        self.disk.manifest.push(Epoch {
            number: self.epoch,
            from: 0,
            cut: None,
        });
    }

    fn check(&self, found: &[u32]) -> Result<(), String> {
        let Some(rest) = found.strip_prefix(&self.acknowledged[..]) else {
            return Err(format!(
                "acknowledged {:?}, found {found:?}",
                self.acknowledged
            ));
        };
        if let Some(uid) = rest.iter().find(|uid| self.dropped.contains(uid)) {
            return Err(format!("{uid} had been dropped"));
        }
        let under_way = self.under_way.iter().map(|batch| batch.header.uid);
        if !rest.iter().copied().eq(under_way.take(rest.len())) {
            return Err(format!("{rest:?} comes from nowhere"));
        }
        Ok(())
    }

    /// A block of a batch is lost that is in an earlier epoch, or that a later batch vouches for: a copy of
    /// the disk has to be called damaged.
    fn lose_block(&mut self) -> Result<(), String> {
        let epoch = self.dice.below(self.disk.manifest.len().max(1));
        let Some(&epoch) = self.disk.manifest.get(epoch) else {
            return Ok(());
        };
        let (batches, _) = self.disk.read(self.rules, epoch)?;
        let vouched = batches.iter().map(|batch| batch.upto).max().unwrap_or(0);
        let lost = batches.iter().find(|_| self.dice.one_in(3));
        if let Some(lost) = lost
            && (epoch.cut.is_some() || lost.position < vouched)
        {
            let mut copy = self.disk.clone();
            copy.sync(|_| true);
            let file = copy.names[&(epoch.number, lost.position / SEGMENT)];
            copy.files[file][lost.position % SEGMENT + self.dice.below(lost.parts)] = None;
            if copy.read(self.rules, epoch).is_ok() {
                return Err(format!(
                    "the loss at {} of {epoch:?} is not noticed",
                    lost.position
                ));
            }
        }
        Ok(())
    }

    /// Something that a process wrote before it ended.
    fn arrive_late(&mut self) {
        if !self.disk.late.is_empty() {
            let write = self.disk.late.remove(0);
            self.disk.unsynced.push(write);
        }
    }
}

fn first_failure(rules: Rules, schedules: u64) -> Option<(u64, String)> {
    let failure = |seed| {
        World::new(seed, rules)
            .run()
            .err()
            .map(|error| (seed, error))
    };
    (0..schedules).find_map(failure)
}

#[test]
fn with_all_rules_no_schedule_breaks_a_promise() {
    assert_eq!(first_failure(ALL, SCHEDULES_KEPT), None);
}

#[test]
fn without_any_one_rule_some_schedule_breaks_a_promise() {
    for rules in [
        Rules {
            contiguous: false,
            ..ALL
        },
        Rules {
            sync_after_write: false,
            ..ALL
        },
        Rules {
            honest_upto: false,
            ..ALL
        },
        Rules {
            end_of_segment: false,
            ..ALL
        },
        Rules {
            position: false,
            ..ALL
        },
        Rules {
            epoch: false,
            ..ALL
        },
        Rules {
            sync_at_start: false,
            ..ALL
        },
        Rules { cut: false, ..ALL },
        Rules {
            manifest_before_doors: false,
            ..ALL
        },
    ] {
        let failure = first_failure(rules, SCHEDULES_BROKEN_MAX);
        assert!(failure.is_some(), "no schedule needs {rules:?}");
    }
}
