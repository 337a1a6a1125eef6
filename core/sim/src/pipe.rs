//! Bytes on their way to a client, and when the broker made them.

use std::collections::VecDeque;

use ringmq_core::time::Instant;

/// When bytes were encoded: not before `from`, not after `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub from: Instant,
    pub by: Instant,
}

/// A queue of bytes, each with its `Encoded`.
#[derive(Debug, Default)]
pub struct Pipe {
    bytes: VecDeque<u8>,
    /// Runs of bytes that were encoded together, in order: `sum of counts == bytes.len()`.
    runs: VecDeque<(usize, Encoded)>,
}

impl Pipe {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }

    /// Appends bytes that were encoded together.
    pub fn push(&mut self, bytes: &[u8], encoded: Encoded) {
        self.bytes.extend(bytes);
        if !bytes.is_empty() {
            self.runs.push_back((bytes.len(), encoded));
        }
    }

    /// Moves the first `size` bytes over to the end of `target`.
    pub fn pour(&mut self, size: usize, target: &mut Pipe) {
        let bytes = take_front(&mut self.bytes, size);
        target.bytes.extend(&bytes);
        let mut left = size;
        while left > 0 {
            let (count, encoded) = self.runs.front_mut().expect("runs cover all bytes");
            let moved = left.min(*count);
            target.runs.push_back((moved, *encoded));
            *count -= moved;
            left -= moved;
            if *count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// All bytes.
    pub fn bytes(&mut self) -> &[u8] {
        self.bytes.make_contiguous()
    }

    /// Drops the first `size` bytes, and tells when they were encoded.
    pub fn drop_front(&mut self, size: usize) -> Encoded {
        self.bytes.drain(..size);
        let mut span = self.runs.front().expect("runs cover all bytes").1;
        let mut left = size;
        while left > 0 {
            let (count, encoded) = self.runs.front_mut().expect("runs cover all bytes");
            span.by = encoded.by;
            let dropped = left.min(*count);
            *count -= dropped;
            left -= dropped;
            if *count == 0 {
                self.runs.pop_front();
            }
        }
        span
    }
}

/// Takes the first `size` bytes out of a queue.
pub fn take_front(queue: &mut VecDeque<u8>, size: usize) -> Vec<u8> {
    let (first, second) = queue.as_slices();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&first[..size.min(first.len())]);
    bytes.extend_from_slice(&second[..size - bytes.len()]);
    queue.drain(..size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_times_however_they_are_split() {
        let at = |nanos| Encoded {
            from: Instant::from_nanos(nanos),
            by: Instant::from_nanos(nanos + 5),
        };
        let (mut link, mut reader) = (Pipe::default(), Pipe::default());
        link.push(b"abc", at(10));
        link.push(b"", at(15));
        link.push(b"defg", at(20));
        for size in [2, 3, 2] {
            link.pour(size, &mut reader);
        }
        assert!(link.is_empty());
        assert_eq!(reader.bytes(), b"abcdefg");
        assert_eq!(reader.drop_front(2), at(10));
        let across = reader.drop_front(2);
        assert_eq!((across.from, across.by), (at(10).from, at(20).by));
        assert_eq!(reader.bytes(), b"efg");
        assert_eq!(reader.drop_front(3), at(20));
        assert_eq!(reader.len(), 0);
    }
}
