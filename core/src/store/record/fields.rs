//! The fields of records: numbers of one to ten bytes, and bytes behind their length.

use super::RecordError;
use crate::topic::{TopicFilter, TopicLimits};

/// Appends a number, seven bits a byte, the low ones first.
#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends how far `value` is from `base`, in either direction: near ones take a byte.
#[inline]
pub(super) fn put_delta(out: &mut Vec<u8>, base: u64, value: u64) {
    let delta = value.wrapping_sub(base) as i64;
    put_varint(out, ((delta << 1) ^ (delta >> 63)) as u64);
}

/// Appends bytes behind their length.
#[inline]
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends what `put` appends, behind its length. `hint`: the least that it can be; if that takes as many
/// bytes to write as the true length, nothing has to be moved.
#[inline]
pub(super) fn put_sized(out: &mut Vec<u8>, hint: usize, put: impl FnOnce(&mut Vec<u8>)) {
    let size_at = out.len();
    put_varint(out, hint as u64);
    let at = out.len();
    put(out);
    let (reserved, size) = (at - size_at, out.len() - at);
    if varint_size(size as u64) != reserved {
        let mut length = Vec::with_capacity(VARINT_SIZE_MAX);
        put_varint(&mut length, size as u64);
        out.splice(size_at..at, length);
        return;
    }
    let mut rest = size;
    for byte in &mut out[size_at..at] {
        *byte = *byte & 0x80 | (rest & 0x7F) as u8;
        rest >>= 7;
    }
}

fn varint_size(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// Reads fields. Every method fails at what no encoder writes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, RecordError> {
        let (first, rest) = self.bytes.split_first().ok_or(RecordError::Malformed)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// A byte that is 0 or 1.
    pub(super) fn flag(&mut self) -> Result<bool, RecordError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RecordError::Malformed),
        }
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        let (first, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(RecordError::Malformed)?;
        self.bytes = rest;
        Ok(u64::from_le_bytes(*first))
    }

    /// A number in its shortest form.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0;
        for (index, byte) in self.bytes.iter().enumerate().take(VARINT_SIZE_MAX) {
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                let is_too_large = index == VARINT_SIZE_MAX - 1 && *byte > 1;
                let is_too_long = index > 0 && *byte == 0;
                if is_too_large || is_too_long {
                    return Err(RecordError::Malformed);
                }
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        Err(RecordError::Malformed)
    }

    /// What [`put_delta`] wrote with the same base.
    #[inline]
    pub(super) fn delta(&mut self, base: u64) -> Result<u64, RecordError> {
        let zigzag = self.varint()?;
        let delta = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        Ok(base.wrapping_add(delta))
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let size = usize::try_from(self.varint()?).map_err(|_| RecordError::Malformed)?;
        let (first, rest) = self
            .bytes
            .split_at_checked(size)
            .ok_or(RecordError::Malformed)?;
        self.bytes = rest;
        Ok(first)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| RecordError::Malformed)
    }

    /// A topic filter, share name included.
    pub(super) fn filter(&mut self) -> Result<TopicFilter, RecordError> {
        TopicFilter::parse(self.text()?, &ANY_SIZE).map_err(|_| RecordError::Malformed)
    }

    /// Nothing is left.
    pub(super) fn end(self) -> Result<(), RecordError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(RecordError::Malformed)
        }
    }
}

/// What was accepted under other settings is accepted again.
pub(super) const ANY_SIZE: TopicLimits = TopicLimits {
    size_max: u16::MAX,
    levels_max: u16::MAX,
};
/// 64 bits, seven a byte.
const VARINT_SIZE_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        let mut edges: Vec<u64> = vec![0, 1, u64::MAX, u64::MAX - 1, i64::MAX as u64];
        edges.extend((0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        for value in &edges {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, *value);
            assert_eq!(bytes.len(), varint_size(*value), "{value}");
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(*value));
            assert!(reader.is_empty());
            for cut in 0..bytes.len() {
                assert!(Reader::new(&bytes[..cut]).varint().is_err());
            }
            *bytes.last_mut().unwrap() |= 0x80;
            bytes.push(0);
            assert!(
                Reader::new(&bytes).varint().is_err(),
                "{value} with a zero behind it"
            );
            for base in &edges {
                let mut bytes = Vec::new();
                put_delta(&mut bytes, *base, *value);
                assert_eq!(Reader::new(&bytes).delta(*base), Ok(*value));
            }
        }
        let too_large = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
        assert!(Reader::new(&too_large).varint().is_err());
    }

    #[test]
    fn a_length_is_right_whatever_the_hint_was() {
        for size in [0, 1, 127, 128, 16_383, 16_384, 100_000] {
            for hint in [0, 100, 127, 128, 20_000] {
                let mut bytes = vec![7];
                put_sized(&mut bytes, hint, |out| out.resize(out.len() + size, 9));
                let mut expected = vec![7];
                put_bytes(&mut expected, &vec![9; size]);
                assert!(bytes == expected, "{size} bytes, hint {hint}");
            }
        }
    }
}
