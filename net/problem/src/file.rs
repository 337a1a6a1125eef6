//! Reading whole files named in settings: one way for all of them, whatever they contain.
//!
//! Editors put a byte-order mark in front of UTF-8. It is not part of the text: kept, it would
//! change the names, secrets and keys in the file. UTF-16 is reported as such.
//!
//! Not here: what the contents mean, and how a problem is reported (the callers).

use std::fmt;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

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
    if std::fs::metadata(path)?.is_dir() {
        return Err(FileFault::Directory);
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(size_max + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > size_max {
        return Err(FileFault::TooLarge(size_max));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) && std::str::from_utf8(&bytes).is_ok() {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
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
            FileFault::Unreadable(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl std::error::Error for FileFault {}

const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

#[cfg(test)]
mod tests {
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
}
