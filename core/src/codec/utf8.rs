//! Which strings are fit for MQTT.
//!
//! One place decides: well-formed UTF-8 [MQTT-1.5.4-1] without U+0000 [MQTT-1.5.4-2], and, as the
//! standard allows, without the control characters U+0001..U+001F and U+007F..U+009F.
//! Non-characters such as U+FFFF pass. U+FEFF is a character like any other [MQTT-1.5.4-3].

use super::error::DecodeError;

/// The bytes as text, if they are fit for a topic name, a topic filter, a client identifier or any
/// other string of a packet.
#[inline]
pub fn check(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::IllFormedUtf8)?;
    if is_printable_ascii(bytes) {
        return Ok(text);
    }
    check_controls(bytes)?;
    Ok(text)
}

/// Whether all bytes are in 0x20..=0x7E: eight bytes a step, and no branch on their values.
#[inline]
fn is_printable_ascii(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut unfit = 0;
    for chunk in chunks {
        unfit |= unfit_bytes(u64::from_le_bytes(*chunk));
    }
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    (unfit | unfit_bytes(u64::from_le_bytes(last))) == 0
}

/// Not 0 exactly when one of the eight bytes is outside of 0x20..=0x7E.
#[inline]
const fn unfit_bytes(word: u64) -> u64 {
    // A borrow or a carry out of a byte can only come from a byte that is unfit itself, so it
    // can blur which byte is unfit, not whether one is.
    let below_space = word.wrapping_sub(0x20 * ONES) & !word;
    let delete_or_above = word.wrapping_add(ONES) | word;
    (below_space | delete_or_above) & HIGH_BITS
}

/// `bytes` is well-formed UTF-8.
#[cold]
fn check_controls(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut before = 0;
    for &byte in bytes {
        // U+0080..U+009F are encoded as C2 80 .. C2 9F, and C2 is never a continuation byte.
        if byte < 0x20 || byte == 0x7F || (before == 0xC2 && byte < 0xA0) {
            return Err(DecodeError::ControlCharacter);
        }
        before = byte;
    }
    Ok(())
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scalar_value_is_judged_as_documented() {
        for code in 0..=0x10FFFF {
            let Some(scalar) = char::from_u32(code) else {
                continue;
            };
            let text = format!("topic/{scalar}/tail");
            let fit = !matches!(code, 0..=0x1F | 0x7F..=0x9F);
            assert_eq!(check(text.as_bytes()).is_ok(), fit, "U+{code:04X}");
        }
    }

    #[test]
    fn every_byte_is_judged_the_same_at_every_position() {
        for size in 1..=33 {
            for at in 0..size {
                for byte in 0..=255u8 {
                    let mut bytes = vec![b'~'; size];
                    bytes[at] = byte;
                    let expected = match byte {
                        0x20..=0x7E => Ok(()),
                        0x80..=0xFF => Err(DecodeError::IllFormedUtf8),
                        _ => Err(DecodeError::ControlCharacter),
                    };
                    assert_eq!(
                        check(&bytes).map(|_| ()),
                        expected,
                        "{byte:#x} at {at}/{size}"
                    );
                }
            }
        }
    }

    // Row 8 of the threat list (CVE-2017-7653): ill-formed text must not reach a subscriber.
    #[test]
    fn ill_formed_sequences_are_refused() {
        for bytes in [
            &b"\xC0\x80"[..],
            b"\xED\xA0\x80",
            b"\xED\xBF\xBF",
            b"\xF4\x90\x80\x80",
            b"\x80",
            b"\xE2\x82",
            b"\xF8\x88\x80\x80\x80",
            b"a\xC1\xBF",
            b"abcdefgh\xFF",
        ] {
            assert_eq!(check(bytes), Err(DecodeError::IllFormedUtf8), "{bytes:x?}");
        }
    }

    #[test]
    fn a_byte_order_mark_stays() {
        assert_eq!(check(b"\xEF\xBB\xBFa"), Ok("\u{FEFF}a"));
    }
}
