//! Fields of packets: integers, strings and lengths, read from a slice and appended to a vector.

use super::error::DecodeError;
use super::utf8;
use crate::ids::PacketId;

/// Largest value of a variable byte integer, and so the largest remaining length.
pub const VARINT_MAX: u32 = 268_435_455;
/// Largest packet there is: the fixed header takes five bytes at most.
pub const PACKET_SIZE_MAX: u32 = VARINT_MAX + 5;

/// Reads fields off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn bytes(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<SIZE>()
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// Binary data: two bytes of length, then that many bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let size = self.u16()?;
        self.bytes(usize::from(size))
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        utf8::check(self.binary()?)
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        match varint_at(self.rest)? {
            Some((value, size)) => {
                self.rest = &self.rest[size..];
                Ok(value)
            }
            None => Err(DecodeError::Truncated),
        }
    }

    /// The properties of a v5 packet: their length, then that many bytes.
    #[inline]
    pub(super) fn properties(&mut self) -> Result<&'a [u8], DecodeError> {
        // By far the most frequent: none.
        if let [0, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(&[]);
        }
        let size = self.varint()?;
        self.bytes(size as usize)
    }

    /// The properties at the end of a v5 packet: without any, their length may be left out as well.
    #[inline]
    pub(super) fn properties_if_any(&mut self) -> Result<&'a [u8], DecodeError> {
        if self.is_empty() {
            return Ok(&[]);
        }
        self.properties()
    }

    /// A packet ends with its last field.
    #[inline]
    pub(super) fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}

/// The variable byte integer at the front of `bytes` and how many bytes it takes; `None` when it is
/// not complete yet.
#[inline]
pub(super) fn varint_at(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // [MQTT-1.5.5-1] A last byte of 0 adds nothing, unless it is the only one.
            if byte == 0 && index > 0 {
                return Err(DecodeError::VariableByteInteger);
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        // Four bytes, each of which says that another follows.
        return Err(DecodeError::VariableByteInteger);
    }
    Ok(None)
}

/// How many bytes a variable byte integer takes.
#[inline]
pub(super) const fn varint_size(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer, `value <= VARINT_MAX`.
#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, value: u32) {
    let (bytes, size) = varint_bytes(value);
    out.extend_from_slice(&bytes[..size]);
}

/// A variable byte integer as bytes, and how many of them count.
#[inline]
pub(super) fn varint_bytes(mut value: u32) -> ([u8; 4], usize) {
    assert!(
        value <= VARINT_MAX,
        "{value} does not fit a variable byte integer"
    );
    let mut bytes = [0; 4];
    let mut size = 0;
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        bytes[size] = if value > 0 { low | 0x80 } else { low };
        size += 1;
        if value == 0 {
            return (bytes, size);
        }
    }
}

#[inline]
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends binary data or a string with its length.
///
/// # Panics
/// If it is longer than 65,535 bytes: the caller has to refuse such input where it comes in.
#[inline]
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let size = u16::try_from(bytes.len()).expect("strings and binary data fit 65,535 bytes");
    put_u16(out, size);
    out.extend_from_slice(bytes);
}

/// Appends what `fill` appends, with its length in front as a variable byte integer.
///
/// # Panics
/// If that length is above [`VARINT_MAX`].
pub(super) fn put_with_length(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    fill(out);
    let size = u32::try_from(out.len() - at - 1).unwrap_or(u32::MAX);
    let (bytes, count) = varint_bytes(size);
    if count == 1 {
        out[at] = bytes[0];
    } else {
        // Rare: 128 bytes or more, and not a PUBLISH.
        out.splice(at..=at, bytes[..count].iter().copied());
    }
}

/// Appends a packet: first byte, remaining length, and what `fill` appends.
pub(super) fn put_packet(out: &mut Vec<u8>, first_byte: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(first_byte);
    put_with_length(out, fill);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_have_one_form() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (VARINT_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(varint_size(value), bytes.len());
            assert_eq!(varint_at(bytes), Ok(Some((value, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(varint_at(&bytes[..cut]), Ok(None));
            }
        }
    }

    // Rows 3 and 4 of the threat list (CVE-2026-21888, CVE-2025-66168, CVE-2026-40046).
    #[test]
    fn longer_forms_are_refused() {
        for bytes in [
            &[0x80, 0x00][..],
            &[0xFF, 0x00],
            &[0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80],
            &[0x80, 0x80, 0x80, 0x80, 0x01],
            &[0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ] {
            assert_eq!(varint_at(bytes), Err(DecodeError::VariableByteInteger));
        }
    }

    #[test]
    fn a_length_prefix_takes_as_many_bytes_as_it_needs() {
        for size in [0usize, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let mut out = vec![9];
            put_with_length(&mut out, |out| out.resize(out.len() + size, 7));
            let (value, taken) = varint_at(&out[1..]).unwrap().unwrap();
            assert_eq!(value as usize, size);
            assert_eq!(out.len(), 1 + taken + size);
        }
    }
}
