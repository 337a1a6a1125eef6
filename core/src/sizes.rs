//! Sizes of payloads, counted in classes.
//!
//! Up to 16 bytes each size is a class of its own; above, eight classes make an octave, so that the
//! bounds of a class are an eighth apart. A class is found with a count of leading zeros and a shift.

use std::fmt;
use std::ops::RangeInclusive;

/// How many payloads were of which size.
#[derive(Clone, PartialEq, Eq)]
pub struct SizeCounts([u64; SizeCounts::CLASSES]);

impl SizeCounts {
    /// Classes: the last one begins below 256 MiB, the largest packet of MQTT.
    pub const CLASSES: usize = SINGLE + (EXPONENT_MAX - EXPONENT_MIN) * PER_OCTAVE;

    /// So many payloads had this size.
    #[inline]
    pub fn record(&mut self, size: usize, count: u64) {
        self.0[SizeCounts::class_of(size)] += count;
    }

    /// The class of a size.
    #[inline]
    pub fn class_of(size: usize) -> usize {
        if size < SINGLE {
            return size;
        }
        let exponent = size.ilog2() as usize;
        let eighth = (size >> (exponent - PER_OCTAVE_BITS)) & (PER_OCTAVE - 1);
        let class = SINGLE + (exponent - EXPONENT_MIN) * PER_OCTAVE + eighth;
        class.min(SizeCounts::CLASSES - 1)
    }

    /// The smallest and the largest size of a class.
    pub fn bounds(class: usize) -> RangeInclusive<u32> {
        assert!(class < SizeCounts::CLASSES, "a class that there is");
        let begin = |class: usize| match class.checked_sub(SINGLE) {
            None => class as u64,
            Some(above) => {
                let shift = above / PER_OCTAVE + EXPONENT_MIN - PER_OCTAVE_BITS;
                ((PER_OCTAVE + above % PER_OCTAVE) as u64) << shift
            }
        };
        begin(class) as u32..=(begin(class + 1) - 1) as u32
    }

    /// Classes in which there is something, with how much.
    pub fn counted(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let all = self.0.iter().copied().enumerate();
        all.filter(|(_, count)| *count > 0)
    }

    /// How many payloads there were.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &SizeCounts) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
    }
}

impl Default for SizeCounts {
    fn default() -> SizeCounts {
        SizeCounts([0; SizeCounts::CLASSES])
    }
}

impl fmt::Debug for SizeCounts {
    /// No numbers: tests compare whole shards by their text, thousands of times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SizeCounts")
    }
}

/// Sizes that are a class each.
const SINGLE: usize = 1 << EXPONENT_MIN;
const EXPONENT_MIN: usize = 4;
/// 256 MiB.
const EXPONENT_MAX: usize = 28;
const PER_OCTAVE_BITS: usize = 3;
const PER_OCTAVE: usize = 1 << PER_OCTAVE_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_within_the_bounds_of_its_class() {
        let mut end = 0;
        for class in 0..SizeCounts::CLASSES {
            let bounds = SizeCounts::bounds(class);
            assert_eq!(*bounds.start(), end, "no size is between classes");
            end = bounds.end() + 1;
            for size in [*bounds.start(), *bounds.end()] {
                assert_eq!(SizeCounts::class_of(size as usize), class, "{size}");
            }
            assert!(bounds.end() - bounds.start() <= bounds.start() / 8);
        }
        assert_eq!(end, 1 << 28);
        assert_eq!(SizeCounts::class_of(usize::MAX), SizeCounts::CLASSES - 1);
    }

    #[test]
    fn counts_add_up() {
        let mut counts = SizeCounts::default();
        counts.record(90, 3);
        counts.record(95, 1);
        let mut twice = counts.clone();
        twice.add(&counts);
        assert_eq!(
            twice.counted().collect::<Vec<_>>(),
            [(SizeCounts::class_of(90), 8)]
        );
        assert_eq!((counts.total(), twice.total()), (4, 8));
    }
}
