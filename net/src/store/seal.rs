//! Sealing: after a start has read an epoch, nothing is written to it any more, and what stands behind the ends of
//! its logs says nothing. It is cut off: a segment takes up its whole size, whatever is in it.
//!
//! Only after the manifest names the ends: until then, what is behind them may show that they are not the ends.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use ringmq_core::ids::LogPosition;
use ringmq_core::store::FileKind;

use super::data_dir::{is_passing, parse_name};

/// Cuts the directory of a shard down to what is read of it: checkpoints, and the log up to `end`.
pub(super) fn cut_off(directory: &Path, end: LogPosition) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match parse_name(&name) {
            Some(file) if file.kind == FileKind::Log => match end.0.checked_sub(file.position.0) {
                None | Some(0) => fs::remove_file(entry.path())?,
                Some(size) if size < entry.metadata()?.len() => {
                    File::options()
                        .write(true)
                        .open(entry.path())?
                        .set_len(size)?;
                }
                Some(_) => {}
            },
            Some(_) => {}
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
            cut_off(folder.path(), LogPosition(end)).unwrap();
            assert_eq!(names.map(size_of), expected, "{end:#x}");
        }
    }
}
