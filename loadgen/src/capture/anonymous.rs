//! Names that say nothing: what stands in a profile in place of the levels of topics.
//!
//! A level becomes as many letters and digits, from a keyed hash of what it was. The key is drawn for one
//! capture and goes with it, so nobody can try out what a level may have been.

use sha1::{Digest as _, Sha1};

/// Makes the names of one profile.
pub(super) struct Anonymiser {
    key: [u8; 32],
}

impl Anonymiser {
    /// With a key of its own, from the kernel.
    pub(super) fn new() -> Result<Anonymiser, String> {
        let mut key = [0; 32];
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut key, flags) {
            Ok(size) if size == key.len() => Ok(Anonymiser { key }),
            Ok(_) => Err("the kernel gives no random numbers".to_owned()),
            Err(error) => Err(format!("the kernel gives no random numbers: {error}")),
        }
    }

    /// With a known key.
    #[cfg(test)]
    pub(super) fn with_key(key: u8) -> Anonymiser {
        Anonymiser { key: [key; 32] }
    }

    /// A name of this size for a level, the same for the same level of the same group of clients.
    pub(super) fn name(&self, group: usize, level: &str, size: usize) -> String {
        let mut name = String::with_capacity(size);
        let mut block = 0_u64;
        while name.len() < size {
            let mut hash = Sha1::new();
            hash.update(self.key);
            hash.update((group as u64).to_le_bytes());
            hash.update(block.to_le_bytes());
            hash.update(level);
            // Twice, as HMAC does: what is known of one name is of no use for a longer one.
            let inner = hash.finalize();
            let mut outer = Sha1::new();
            outer.update(inner);
            outer.update(self.key);
            for byte in outer.finalize() {
                if name.len() == size {
                    break;
                }
                let letters = match name.len() {
                    // No name is taken for a number, and none begins with a dollar sign.
                    0 => &LETTERS[..26],
                    _ => LETTERS,
                };
                name.push(char::from(letters[usize::from(byte) % letters.len()]));
            }
            block += 1;
        }
        name
    }
}

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_size_of_levels_and_depend_on_the_key() {
        let (one, other) = (Anonymiser::with_key(1), Anonymiser::with_key(2));
        for size in [0, 1, 9, 20, 21, 200] {
            let level = "x".repeat(size);
            let name = one.name(0, &level, size);
            assert_eq!(name.len(), size);
            assert_eq!(name, one.name(0, &level, size));
            if size > 8 {
                assert_ne!(name, other.name(0, &level, size));
                assert_ne!(name, one.name(1, &level, size));
            }
        }
        let fresh = [Anonymiser::new().unwrap(), Anonymiser::new().unwrap()];
        assert_ne!(fresh[0].name(0, "level", 12), fresh[1].name(0, "level", 12));
    }
}
