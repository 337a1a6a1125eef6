//! What a payload carries, and whether it arrived as it was sent.
//!
//! ```text
//! bytes  0..4   stamp     when it was handed to its socket: microseconds since the run began
//! bytes  4..8   sequence  from 1, of this stream
//! bytes  8..16  stream (22 bits), lateness (13), tag of the run (8), checksum (21)
//! bytes 16..    body      a piece of a fixed pattern; which piece follows from stream and sequence
//! ```
//!
//! A *stream* is one publisher on one topic. *Lateness* is the time from when the schedule wanted
//! the message sent until it was, as a small float that is exact below 512 us and to 0.2 % above.
//! The checksum covers the whole header and the size of the payload; the body is compared byte by
//! byte with what it has to be. So a changed byte is found for certain in the body, and in the
//! header but for one case in two million.
//!
//! A payload under [`HEADER_SIZE`] bytes has no room for a header: of such messages only the number
//! is known. There is no latency, and a loss and a duplicate cancel out.

/// Bytes of the header: the least that a message needs to be checked.
pub const HEADER_SIZE: u32 = 16;
/// Streams of a run: their numbers have 22 bits.
pub const STREAMS_MAX: u32 = 1 << 22;

/// The content of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Microseconds since the run began, modulo 2^32.
    pub stamp_us: u32,
    /// From 1.
    pub sequence: u32,
    /// Below [`STREAMS_MAX`].
    pub stream: u32,
    /// How late it was.
    pub lateness: Lateness,
}

/// A time in microseconds as a float of 13 bits, rounded to the nearest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness(u16);

/// What a payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// As it was sent.
    Intact(Header),
    /// The header is right, the body is not.
    BodyCorrupt(Header),
    /// Nothing can be said about which message it was.
    Corrupt,
    /// A message of another run.
    OtherRun,
    /// Too small for a header.
    Small,
}

/// Writes and reads the payloads of one run.
#[derive(Debug)]
pub struct Payloads {
    tag: u8,
    seed: u64,
    /// [`OFFSETS`] bytes longer than the longest body.
    pattern: Box<[u8]>,
}

impl Payloads {
    /// For payloads of up to `size_max` bytes.
    pub fn new(run: u16, size_max: u32) -> Payloads {
        let mut state = PATTERN_SEED;
        let words = (size_max as usize + OFFSETS).div_ceil(8);
        let pattern: Vec<u8> = (0..words)
            .flat_map(|_| {
                state = mix(state.wrapping_add(PATTERN_SEED));
                state.to_le_bytes()
            })
            .collect();
        Payloads {
            // The rest of the run's number goes into the checksum.
            tag: run as u8,
            seed: mix(u64::from(run) ^ PATTERN_SEED),
            pattern: pattern.into(),
        }
    }

    /// A slice of `size` bytes, for those who only count them.
    pub fn sized(&self, size: u32) -> &[u8] {
        &self.pattern[..size as usize]
    }

    /// Appends a payload of `size` bytes.
    #[inline]
    pub fn put(&self, header: Header, size: u32, out: &mut Vec<u8>) {
        if size < HEADER_SIZE {
            out.extend_from_slice(self.sized(size));
            return;
        }
        let first = u64::from(header.stamp_us) | u64::from(header.sequence) << 32;
        let second = u64::from(header.stream)
            | u64::from(header.lateness.0) << LATENESS_SHIFT
            | u64::from(self.tag) << TAG_SHIFT;
        let check = self.check(first, second, size);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&(second | check << CHECK_SHIFT).to_le_bytes());
        out.extend_from_slice(self.body(header.stream, header.sequence, size));
    }

    /// Reads a payload that arrived.
    #[inline]
    pub fn read(&self, payload: &[u8]) -> Content {
        let Some((head, body)) = payload.split_at_checked(HEADER_SIZE as usize) else {
            return Content::Small;
        };
        let first = word(&head[..8]);
        let second = word(&head[8..]);
        let (fields, check) = (second & CHECKED_MASK, second >> CHECK_SHIFT);
        let size = payload.len() as u32;
        let header = Header {
            stamp_us: first as u32,
            sequence: (first >> 32) as u32,
            stream: (fields as u32) & (STREAMS_MAX - 1),
            lateness: Lateness((fields >> LATENESS_SHIFT) as u16 & Lateness::MASK),
        };
        if self.check(first, fields, size) != check {
            return self.without_check(header, body, first, fields, check);
        }
        if self.is_body(header, body) {
            Content::Intact(header)
        } else {
            Content::BodyCorrupt(header)
        }
    }

    /// A wrong checksum is a message of another run if it is right for one that has this tag, and
    /// the body is that of the header.
    #[cold]
    fn without_check(
        &self,
        header: Header,
        body: &[u8],
        first: u64,
        fields: u64,
        check: u64,
    ) -> Content {
        let size = HEADER_SIZE + body.len() as u32;
        // Bodies are the same in all runs, but another run may have had longer ones.
        let is_known = size as usize <= self.pattern.len() - OFFSETS;
        if is_known && !self.is_body(header, body) {
            return Content::Corrupt;
        }
        let tag = (fields >> TAG_SHIFT) as u8;
        let runs = (0..=u8::MAX).map(|high| u16::from_le_bytes([tag, high]));
        let is_of = |run: u16| {
            let seed = mix(u64::from(run) ^ PATTERN_SEED);
            seed != self.seed && checksum(seed, first, fields, size) == check
        };
        // 256 tries with 21 bits each: of headers with a corrupt stamp, lateness or checksum, one in
        // 8,000 passes for another run's.
        if runs.into_iter().any(is_of) {
            Content::OtherRun
        } else {
            Content::Corrupt
        }
    }

    #[inline]
    fn check(&self, first: u64, second: u64, size: u32) -> u64 {
        checksum(self.seed, first, second, size)
    }

    #[inline]
    fn is_body(&self, header: Header, body: &[u8]) -> bool {
        let size = HEADER_SIZE + body.len() as u32;
        size as usize <= self.pattern.len() - OFFSETS
            && body == self.body(header.stream, header.sequence, size)
    }

    /// The body of a message.
    #[inline]
    fn body(&self, stream: u32, sequence: u32, size: u32) -> &[u8] {
        let draw = mix(u64::from(stream) << 32 | u64::from(sequence));
        let at = draw as usize % OFFSETS;
        &self.pattern[at..at + (size - HEADER_SIZE) as usize]
    }
}

impl Lateness {
    const MASK: u16 = (1 << 13) - 1;
    const MANTISSA_BITS: u32 = 8;

    /// Rounds a time.
    #[inline]
    pub fn of_micros(micros: u64) -> Lateness {
        let one = 1 << Lateness::MANTISSA_BITS;
        if micros < 2 * one {
            return Lateness(micros as u16);
        }
        let micros = micros.min(Lateness(Lateness::MASK).micros());
        let mut exponent = micros.ilog2() - Lateness::MANTISSA_BITS;
        let mut mantissa = (micros + (1 << (exponent - 1))) >> exponent;
        if mantissa == 2 * one {
            mantissa = one;
            exponent += 1;
        }
        Lateness(
            ((exponent as u16 + 1) << Lateness::MANTISSA_BITS | (mantissa - one) as u16)
                .min(Lateness::MASK),
        )
    }

    /// The time.
    #[inline]
    pub fn micros(self) -> u64 {
        let one = 1u64 << Lateness::MANTISSA_BITS;
        let mantissa = u64::from(self.0) & (one - 1);
        match u64::from(self.0) >> Lateness::MANTISSA_BITS {
            0 => mantissa,
            exponent => (one | mantissa) << (exponent - 1),
        }
    }

    /// On time, to the microsecond.
    #[inline]
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// A bijection of 64 bits that leaves no pattern (the finaliser of SplitMix64).
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[inline]
fn checksum(seed: u64, first: u64, second: u64, size: u32) -> u64 {
    mix(mix(first ^ seed) ^ second ^ u64::from(size) << CHECK_SHIFT) >> CHECK_SHIFT
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

const LATENESS_SHIFT: u32 = 22;
const TAG_SHIFT: u32 = 35;
const CHECK_SHIFT: u32 = 43;
const CHECKED_MASK: u64 = (1 << CHECK_SHIFT) - 1;
/// Bodies begin at one of so many places of the pattern: that two messages mixed up by a broker
/// have the same body by chance is that unlikely.
const OFFSETS: usize = 4096;
/// The golden ratio, as good as any.
const PATTERN_SEED: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(stream: u32, sequence: u32) -> Header {
        Header {
            stamp_us: 0xFFFF_0001,
            sequence,
            stream,
            lateness: Lateness::of_micros(300),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let payloads = Payloads::new(0x5F3A, 2000);
        for size in [16, 17, 64, 2000] {
            for stream in [0, 1, STREAMS_MAX - 1] {
                let mut bytes = Vec::new();
                let header = header(stream, u32::MAX - stream);
                payloads.put(header, size, &mut bytes);
                assert_eq!(bytes.len(), size as usize);
                assert_eq!(payloads.read(&bytes), Content::Intact(header));
            }
        }
    }

    #[test]
    fn every_changed_byte_is_found() {
        let payloads = Payloads::new(7, 64);
        let mut bytes = Vec::new();
        payloads.put(header(3, 99), 64, &mut bytes);
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xFF] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                let content = payloads.read(&changed);
                if at < HEADER_SIZE as usize {
                    assert!(
                        matches!(content, Content::Corrupt | Content::OtherRun),
                        "{at}"
                    );
                } else {
                    assert_eq!(content, Content::BodyCorrupt(header(3, 99)), "{at}");
                }
            }
        }
        assert!(matches!(
            payloads.read(&bytes[..63]),
            Content::Corrupt | Content::OtherRun
        ));
        assert_eq!(payloads.read(&bytes[..15]), Content::Small);
    }

    #[test]
    fn the_end_of_another_message_is_found() {
        let payloads = Payloads::new(7, 64);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        payloads.put(header(3, 99), 64, &mut one);
        payloads.put(header(3, 100), 64, &mut other);
        one[40..].copy_from_slice(&other[40..]);
        assert_eq!(payloads.read(&one), Content::BodyCorrupt(header(3, 99)));
    }

    #[test]
    fn a_message_of_another_run_is_not_called_corrupt() {
        let mut bytes = Vec::new();
        Payloads::new(0x1234, 64).put(header(3, 99), 64, &mut bytes);
        assert_eq!(Payloads::new(0x5F3A, 64).read(&bytes), Content::OtherRun);
    }

    /// By the checksum alone, one in 8,000 is taken for another run's.
    #[test]
    fn a_corrupt_sequence_is_not_taken_for_another_run() {
        let payloads = Payloads::new(7, 64);
        let mut bytes = Vec::new();
        for sequence in 1..=50_000 {
            bytes.clear();
            payloads.put(header(3, sequence), 64, &mut bytes);
            bytes[5] ^= 0x10;
            assert_eq!(payloads.read(&bytes), Content::Corrupt, "{sequence}");
        }
    }

    #[test]
    fn lateness_is_exact_when_small_and_close_when_large() {
        for micros in 0..512 {
            assert_eq!(Lateness::of_micros(micros).micros(), micros);
        }
        let mut micros = 512u64;
        while micros < 1 << 38 {
            let shown = Lateness::of_micros(micros).micros();
            let error = shown.abs_diff(micros) as f64 / micros as f64;
            assert!(error <= 0.002, "{micros}: {shown}");
            micros += micros / 37 + 1;
        }
        assert!(Lateness::of_micros(u64::MAX).micros() > 1 << 38);
    }
}
