//! Secrets.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Words that nobody can guess.
pub(crate) fn random_words<const COUNT: usize>() -> Result<[u64; COUNT], Errno> {
    let mut words = [0; COUNT];
    for word in &mut words {
        let mut bytes = [0; 8];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
        }
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(words)
}
