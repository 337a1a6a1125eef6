//! Bytes on their way to the disk, in memory that O_DIRECT takes.
//!
//! Invariant: the content begins `start` bytes into `memory`, at an address that is a multiple of
//! [`Block::ALIGNMENT`], and ends where `memory` ends.

use std::fmt;

/// A growing array of bytes whose address is a multiple of [`Block::ALIGNMENT`].
#[derive(Default)]
pub struct Block {
    memory: Vec<u8>,
    start: usize,
}

impl Block {
    /// What O_DIRECT asks for at most: a page.
    pub const ALIGNMENT: usize = 4096;

    /// An empty block with room for so many bytes.
    pub fn with_capacity(size: usize) -> Block {
        let mut block = Block {
            memory: Vec::with_capacity(size + Block::ALIGNMENT),
            start: 0,
        };
        block.align();
        block
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }

    /// The content, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..]
    }

    /// Bytes of the content.
    pub fn size(&self) -> usize {
        self.memory.len() - self.start
    }

    /// Bytes that it can hold without growing.
    pub fn capacity(&self) -> usize {
        self.memory.capacity() - self.start
    }

    /// Whether it has no content.
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// Drops what is behind the first `size` bytes.
    pub fn truncate(&mut self, size: usize) {
        self.memory.truncate(self.start + size);
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.append(|memory| memory.extend_from_slice(bytes));
    }

    /// Appends zeros up to a multiple of `unit`, a power of two.
    pub fn pad(&mut self, unit: usize) {
        let missing = self.size().next_multiple_of(unit) - self.size();
        self.append(|memory| memory.resize(memory.len() + missing, 0));
    }

    /// Lets `write` append to the content; it must leave alone what is there.
    pub fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.memory.as_ptr();
        let result = write(&mut self.memory);
        if self.memory.as_ptr() != before {
            self.align();
        }
        result
    }

    /// Moves the content to the first address that fits, after the memory has moved.
    #[cold]
    fn align(&mut self) {
        let size = self.size();
        loop {
            let start = self.memory.as_ptr().align_offset(Block::ALIGNMENT);
            let needed = start + size;
            if needed <= self.memory.capacity() {
                self.memory.resize(needed.max(self.memory.len()), 0);
                self.memory
                    .copy_within(self.start..self.start + size, start);
                self.memory.truncate(needed);
                self.start = start;
                return;
            }
            self.memory.reserve(needed - self.memory.len());
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes)", self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_content_and_its_alignment_while_it_grows() {
        let mut rng = fastrand::Rng::with_seed(1);
        for capacity in [0, 1, 100, 5_000, 200_000] {
            let (mut block, mut model) = (Block::with_capacity(capacity), Vec::new());
            for step in 0..200 {
                let bytes = vec![step as u8; rng.usize(..3_000)];
                block.extend(&bytes);
                model.extend_from_slice(&bytes);
                if step % 7 == 0 {
                    block.pad(512);
                    model.resize(model.len().next_multiple_of(512), 0);
                }
                if step % 31 == 30 {
                    let size = rng.usize(..=model.len());
                    block.truncate(size);
                    model.truncate(size);
                }
                assert!(block.bytes() == model);
                assert_eq!(block.bytes().as_ptr().align_offset(Block::ALIGNMENT), 0);
                assert_eq!(
                    (block.size(), block.is_empty()),
                    (model.len(), model.is_empty())
                );
                assert!(block.capacity() >= block.size());
            }
        }
    }
}
