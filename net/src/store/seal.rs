//! Sealing: after a start has read an epoch, nothing is written to it any more, and what stands behind the ends of
//! its logs says nothing. It is cut off: a segment takes up its whole size, whatever is in it. Segments that nothing
//! is in, and spares, go on in the epoch that begins: so a start needs no more space than there was before, which the
//! disk may not have.
//!
//! Only after the manifest names the ends: until then, what is behind them may show that they are not the ends.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ringmq_core::ids::LogPosition;
use ringmq_core::store::FileKind;

use super::data_dir::{is_passing, is_spare, parse_name};
use super::keeper;

/// Places for segments that are used again, the most wanted first.
pub(super) struct Reuse(VecDeque<PathBuf>);

impl Reuse {
    /// The spares of these shards: each gets a first one before any gets a second one.
    pub(super) fn new(shards: &[PathBuf]) -> Reuse {
        let spares = |number| shards.iter().map(move |shard| keeper::spare(shard, number));
        Reuse((1..=keeper::SPARES_MAX).flat_map(spares).collect())
    }

    /// Takes what there is in epochs that hold nothing.
    pub(super) fn take_all(&mut self, epochs: &[PathBuf]) -> io::Result<()> {
        for epoch in epochs {
            for shard in fs::read_dir(epoch)? {
                let shard = shard?.path();
                if shard.is_dir() {
                    cut_off(&shard, LogPosition(0), self)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, segment: &Path) -> io::Result<()> {
        // What a backup holds by a link is not overwritten.
        let is_free = fs::metadata(segment)?.nlink() == 1;
        match self.0.front().filter(|_| is_free) {
            Some(spare) => {
                fs::rename(segment, spare)?;
                self.0.pop_front();
                Ok(())
            }
            None => fs::remove_file(segment),
        }
    }
}

/// Cuts the directory of a shard down to what is read of it: checkpoints, and the log up to `end`.
pub(super) fn cut_off(directory: &Path, end: LogPosition, reuse: &mut Reuse) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match parse_name(&name) {
            Some(file) if file.kind == FileKind::Log => match end.0.checked_sub(file.position.0) {
                None | Some(0) => reuse.take(&entry.path())?,
                Some(size) if size < entry.metadata()?.len() => {
                    File::options()
                        .write(true)
                        .open(entry.path())?
                        .set_len(size)?;
                }
                Some(_) => {}
            },
            Some(_) => {}
            None if is_spare(&name) => reuse.take(&entry.path())?,
            None if is_passing(&name) => fs::remove_file(entry.path())?,
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::folder::Folder;
    use super::*;

    #[test]
    fn what_is_behind_the_end_goes() {
        let folder = Folder::new();
        let size_of = |name: &str| {
            let found = fs::metadata(folder.path().join(name));
            found.ok().map(|found| found.len())
        };
        let names = [
            "0000000000000000.log",
            "0000000000001000.log",
            "0000000000002000.log",
            "0000000000000000.ckp",
            "0000000000001000.ckp.tmp",
            "spare-1.log",
            "notes.txt",
        ];
        for (end, expected) in [
            (
                0x1800,
                [
                    Some(4096),
                    Some(2048),
                    None,
                    Some(4096),
                    None,
                    None,
                    Some(4096),
                ],
            ),
            (
                0x1000,
                [Some(4096), None, None, Some(4096), None, None, Some(4096)],
            ),
            (0, [None, None, None, Some(4096), None, None, Some(4096)]),
        ] {
            for name in names {
                fs::write(folder.path().join(name), [1; 4096]).unwrap();
            }
            let mut reuse = Reuse(VecDeque::new());
            cut_off(folder.path(), LogPosition(end), &mut reuse).unwrap();
            assert_eq!(names.map(size_of), expected, "{end:#x}");
        }
    }

    #[test]
    fn segments_with_nothing_in_them_are_used_again() {
        let folder = Folder::new();
        let [old, one, two] = ["old", "s00", "s01"].map(|name| folder.path().join(name));
        for path in [&old, &one, &two] {
            fs::create_dir(path).unwrap();
        }
        let log = |index: u64| old.join(format!("{:016x}.log", index * 4096));
        for index in 0..4 {
            fs::write(log(index), [1; 4096]).unwrap();
        }
        fs::write(old.join("spare-1.log"), [1; 4096]).unwrap();
        fs::write(old.join("0000000000000000.ckp.tmp"), [1; 4096]).unwrap();
        let held = folder.path().join("held");
        fs::hard_link(log(2), &held).unwrap();
        let mut reuse = Reuse::new(&[one.clone(), two.clone()]);
        cut_off(&old, LogPosition(4096), &mut reuse).unwrap();
        let count = |path: &Path| fs::read_dir(path).unwrap().count();
        // The first one is read, one is held by a backup.
        assert_eq!((count(&old), count(&one), count(&two)), (1, 2, 1));
        assert_eq!(fs::metadata(held).unwrap().nlink(), 1);
    }
}
