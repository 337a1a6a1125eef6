//! Reading whole files named in settings: one way for all of them, whatever they contain.
//!
//! Editors put a byte-order mark in front of UTF-8. It is not part of the text: kept, it would
//! change the names, secrets and keys in the file. UTF-16 is reported as such.
//!
//! A file that somebody is writing while it is read would be taken for whole: half a list of rules
//! allows what the other half denies. So a file counts once nothing has been written to it for a
//! moment; one that was put in the place of another was written before. Whoever pauses for longer
//! while writing in place cannot be told from one who has finished.
//!
//! Not here: what the contents mean, and how a problem is reported (the callers).

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// There is none.
    Missing,
    /// This user may not read it.
    Forbidden,
    /// It is a directory.
    Directory,
    /// It has more bytes than that.
    TooLarge(u64),
    /// Text of two bytes to a character.
    Utf16,
    /// No text.
    NotUtf8 {
        /// The number of the first wrong byte, from 0.
        offset: usize,
        /// Its line, from 1.
        line: usize,
    },
    /// Somebody goes on writing to it.
    Changing,
    /// Something else, in the words of the system.
    Unreadable(String),
}

/// Reads a text of at most so many bytes.
pub fn read_text(path: &Path, size_max: u64) -> Result<String, FileFault> {
    let bytes = read_bytes(path, size_max)?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        match error.as_bytes() {
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => FileFault::Utf16,
            _ => FileFault::NotUtf8 { offset, line },
        }
    })
}

/// Reads at most so many bytes, of text or not. Only text has a mark.
pub fn read_bytes(path: &Path, size_max: u64) -> Result<Vec<u8>, FileFault> {
    let mut bytes = read_settled(path, size_max, &mut std::thread::sleep)?;
    if bytes.starts_with(BYTE_ORDER_MARK) && std::str::from_utf8(&bytes).is_ok() {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// Reads the file again until nothing has been written to it for a moment. `wait`: lets time pass.
fn read_settled(
    path: &Path,
    size_max: u64,
    wait: &mut dyn FnMut(Duration),
) -> Result<Vec<u8>, FileFault> {
    let mut last = None;
    for _ in 0..READS_MAX {
        let (content, version) = read_once(path, size_max)?;
        match version {
            Some(version) if last != Some(version) && !version.is_old() => last = Some(version),
            // A second time, or long after it was written; or no file that can be read again.
            Some(_) | None if content.is_whole => return Ok(content.bytes),
            Some(_) | None => {}
        }
        wait(QUIET_MIN);
    }
    Err(FileFault::Changing)
}

/// Bytes that were read.
struct Content {
    bytes: Vec<u8>,
    /// They were not written meanwhile.
    is_whole: bool,
}

/// Reads a file, and says which version of it; `None`: it is a pipe, or something else that is read
/// once.
fn read_once(path: &Path, size_max: u64) -> Result<(Content, Option<Version>), FileFault> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(FileFault::Directory);
    }
    let file = File::open(path)?;
    let version = || Ok::<_, FileFault>(Version::of(&file.metadata()?));
    let before = version()?;
    let mut bytes = Vec::new();
    (&file).take(size_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > size_max {
        return Err(FileFault::TooLarge(size_max));
    }
    let after = version()?;
    let is_whole = after.is_none() || before == after;
    Ok((Content { bytes, is_whole }, after))
}

/// Tells one state of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(found: &Metadata) -> Option<Version> {
        found.is_file().then(|| Version {
            file: (found.dev(), found.ino()),
            size: found.size(),
            written: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// It was last written a while ago, as far as the clock knows.
    fn is_old(&self) -> bool {
        let (seconds, nanos) = self.written;
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return true; // Before 1970.
        };
        let written = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        let age = SystemTime::now().duration_since(written);
        age.is_ok_and(|age| age >= QUIET_MIN)
    }
}

impl From<io::Error> for FileFault {
    fn from(error: io::Error) -> FileFault {
        match error.kind() {
            ErrorKind::NotFound => FileFault::Missing,
            ErrorKind::PermissionDenied => FileFault::Forbidden,
            _ => FileFault::Unreadable(error.to_string()),
        }
    }
}

/// Goes on with the name of the file.
impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileFault::Missing => f.write_str("does not exist"),
            FileFault::Forbidden => f.write_str("may not be read by this user"),
            FileFault::Directory => f.write_str("is a directory"),
            FileFault::TooLarge(size_max) => write!(f, "is larger than {} KiB", size_max / 1024),
            FileFault::Utf16 => f.write_str("is UTF-16, not UTF-8"),
            FileFault::NotUtf8 { offset, line } => write!(
                f,
                "is not UTF-8: the first wrong byte is number {offset}, on line {line}"
            ),
            FileFault::Changing => f.write_str("goes on changing while it is read"),
            FileFault::Unreadable(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl std::error::Error for FileFault {}

/// Programs that write a file do not pause for so long between two pieces.
const QUIET_MIN: Duration = Duration::from_millis(100);
/// A file is read for two seconds or so, until it is quiet.
const READS_MAX: usize = 20;
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_byte_order_mark_is_not_part_of_a_text_and_bytes_stay_as_they_are() {
        let path = std::env::temp_dir().join(format!("ringmq-file-{}", std::process::id()));
        let wrong = |offset, line| Err(FileFault::NotUtf8 { offset, line });
        for (bytes, text, raw) in [
            (&b"a\nb"[..], Ok("a\nb"), &b"a\nb"[..]),
            (b"\xEF\xBB\xBFa", Ok("a"), b"a"),
            (b"\xEF\xBB\xBF", Ok(""), b""),
            (b"a\xEF\xBB\xBF", Ok("a\u{FEFF}"), b"a\xEF\xBB\xBF"),
            // A secret that happens to begin like that.
            (b"\xEF\xBB\xBF\xFF", wrong(3, 1), b"\xEF\xBB\xBF\xFF"),
            (b"a\n\xFF", wrong(2, 2), b"a\n\xFF"),
            (b"\xFF\xFEa\0", Err(FileFault::Utf16), b"\xFF\xFEa\0"),
            (b"\xFE\xFF\0a", Err(FileFault::Utf16), b"\xFE\xFF\0a"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_text(&path, 8), text.map(str::to_owned), "{bytes:?}");
            assert_eq!(read_bytes(&path, 8).as_deref(), Ok(raw));
        }
        std::fs::write(&path, [b'x'; 9]).unwrap();
        assert_eq!(read_bytes(&path, 8), Err(FileFault::TooLarge(8)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_bytes(&path, 8), Err(FileFault::Missing));
        assert_eq!(
            read_bytes(&std::env::temp_dir(), 8),
            Err(FileFault::Directory)
        );
    }

    /// Writes a piece, at a time that the clock of this machine has not reached: so only another look
    /// can tell that the file is quiet.
    fn append(path: &Path, piece: &str, count: u64) {
        let mut options = File::options();
        let mut file = options.append(true).create(true).open(path).unwrap();
        file.write_all(piece.as_bytes()).unwrap();
        let year = Duration::from_secs(365 * 24 * 3600 + count);
        file.set_modified(SystemTime::now() + year).unwrap();
    }

    /// Reads a file to which a piece is appended each time that the reader waits.
    fn read_meanwhile(path: &Path, pieces: &[&str]) -> Result<Vec<u8>, FileFault> {
        let mut pieces = pieces.iter().zip(1..);
        read_settled(path, 1000, &mut |_| {
            if let Some((piece, count)) = pieces.next() {
                append(path, piece, count);
            }
        })
    }

    #[test]
    fn a_file_counts_once_nobody_writes_to_it() {
        let path = std::env::temp_dir().join(format!("ringmq-half-{}", std::process::id()));
        append(&path, "half", 0);
        let read = read_meanwhile(&path, &[" and", " half"]).unwrap();
        assert_eq!(read, b"half and half");
        assert_eq!(read_meanwhile(&path, &[]).unwrap(), b"half and half");
        let endless = read_meanwhile(&path, &["x"; READS_MAX]);
        assert_eq!(endless, Err(FileFault::Changing));
        // What was written a while ago is read once.
        std::fs::write(&path, "whole").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - QUIET_MIN).unwrap();
        assert_eq!(read_meanwhile(&path, &["more"]).unwrap(), b"whole");
        std::fs::remove_file(&path).unwrap();
    }
}
