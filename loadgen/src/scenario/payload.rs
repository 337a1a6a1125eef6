//! Sizes of payloads: one, any between two, or some with weights.

use super::value;
use ringmq_problem::Complaint;

/// Which sizes payloads have. Which of them a message has follows from its stream and sequence, so
/// that a run can be repeated and a message made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// `64`.
    Fixed(u32),
    /// `16..1024`: all from the first to the last, equally often.
    Between(u32, u32),
    /// `64:90,1KiB..4KiB:10`: sizes, or spans of sizes, and their weights.
    Weighted {
        /// In the order in which they were written.
        steps: Vec<Step>,
    },
}

/// A part of a distribution: all sizes from the first to the last, equally often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    low: u32,
    high: u32,
    /// The sum of the weights up to and with it.
    upto: u64,
}

impl Sizes {
    /// Reads sizes as a user writes them.
    pub fn parse(text: &str) -> Result<Sizes, Complaint> {
        let sizes = if text.contains(':') {
            let mut sum = 0;
            let mut steps = Vec::new();
            for part in text.split(',') {
                let Some((size, weight)) = part.trim().split_once(':') else {
                    return Err(Complaint::new(
                        format!("holds `{part}`, which has no weight"),
                        "write SIZE:WEIGHT,SIZE:WEIGHT, as in 64:90,4KiB:10",
                    ));
                };
                sum += value::count(weight, 1, 1_000_000)?;
                let (low, high) = span(size)?;
                let upto = sum;
                steps.push(Step { low, high, upto });
            }
            Sizes::Weighted { steps }
        } else if text.contains("..") {
            let (low, high) = span(text)?;
            Sizes::Between(low, high)
        } else {
            Sizes::Fixed(one(text)?)
        };
        let (min, max) = (sizes.min(), sizes.max());
        if min < HEADER_SIZE && max >= HEADER_SIZE {
            return Err(Complaint::new(
                format!("is `{text}`, which mixes payloads below and from {HEADER_SIZE} bytes"),
                format!(
                    "keep to one side: only {HEADER_SIZE} bytes and more carry publisher, sequence \
                     and checksum"
                ),
            ));
        }
        Ok(sizes)
    }

    /// As a user would write it.
    pub fn show(&self) -> String {
        match self {
            Sizes::Fixed(size) => size.to_string(),
            Sizes::Between(low, high) => format!("{low}..{high}"),
            Sizes::Weighted { steps } => {
                let mut before = 0;
                let mut parts = Vec::new();
                for Step { low, high, upto } in steps {
                    let weight = upto - before;
                    parts.push(match low == high {
                        true => format!("{low}:{weight}"),
                        false => format!("{low}..{high}:{weight}"),
                    });
                    before = *upto;
                }
                parts.join(",")
            }
        }
    }

    /// Size of the message whose `draw` this is: any number, as random as can be.
    #[inline]
    pub fn pick(&self, draw: u64) -> u32 {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Between(low, high) => low + below(draw, u64::from(high - low) + 1) as u32,
            Sizes::Weighted { steps } => {
                let sum = steps.last().map_or(1, |step| step.upto);
                let point = below(draw, sum);
                let step = steps.iter().find(|step| point < step.upto);
                step.map_or(0, |step| step.pick(mix(draw)))
            }
        }
    }

    /// The mean size.
    pub fn mean(&self) -> f64 {
        let between = |low: u32, high: u32| f64::midpoint(f64::from(low), f64::from(high));
        match self {
            Sizes::Fixed(size) => f64::from(*size),
            Sizes::Between(low, high) => between(*low, *high),
            Sizes::Weighted { steps } => {
                let (mut before, mut sum) = (0, 0.0);
                for step in steps {
                    sum += between(step.low, step.high) * (step.upto - before) as f64;
                    before = step.upto;
                }
                sum / before.max(1) as f64
            }
        }
    }

    /// Largest size.
    pub fn max(&self) -> u32 {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Between(_, high) => *high,
            Sizes::Weighted { steps } => steps.iter().map(|step| step.high).max().unwrap_or(0),
        }
    }

    fn min(&self) -> u32 {
        match self {
            Sizes::Fixed(size) => *size,
            Sizes::Between(low, _) => *low,
            Sizes::Weighted { steps } => steps.iter().map(|step| step.low).min().unwrap_or(0),
        }
    }
}

impl Step {
    #[inline]
    fn pick(self, draw: u64) -> u32 {
        self.low + below(draw, u64::from(self.high - self.low) + 1) as u32
    }
}

/// `64`, or `16..1024`.
fn span(text: &str) -> Result<(u32, u32), Complaint> {
    let Some((low, high)) = text.split_once("..") else {
        let size = one(text)?;
        return Ok((size, size));
    };
    let (low, high) = (one(low)?, one(high)?);
    if low > high {
        return Err(Complaint::new(
            format!("is `{text}`, whose first size is the larger one"),
            format!("write {high}..{low}"),
        ));
    }
    Ok((low, high))
}

fn one(text: &str) -> Result<u32, Complaint> {
    value::size(text.trim(), SIZE_MAX).map(|size| size as u32)
}

/// `draw` scaled to `0..bound`.
#[inline]
fn below(draw: u64, bound: u64) -> u64 {
    ((u128::from(draw) * u128::from(bound)) >> 64) as u64
}

use crate::payload::{HEADER_SIZE, mix};

/// Larger ones would take more memory than a packet of MQTT is worth here.
const SIZE_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_and_keep_to_their_weights() {
        for text in ["64", "0", "16..1024", "64:90,4096:10", "64:90,100..4096:10"] {
            assert_eq!(Sizes::parse(text).unwrap().show(), text);
        }
        let sizes = Sizes::parse("100:1,200:3").unwrap();
        let quarter = 1 << 62;
        for (draw, expected) in [
            (0, 100),
            (quarter - 1, 100),
            (quarter, 200),
            (u64::MAX, 200),
        ] {
            assert_eq!(sizes.pick(draw), expected, "{draw}");
        }
        let sizes = Sizes::parse("100:1,200..299:3").unwrap();
        let all: Vec<u32> = (0..40_000).map(|n| sizes.pick(mix(n))).collect();
        let share = |low, high| {
            let count = all
                .iter()
                .filter(|size| (low..=high).contains(*size))
                .count();
            count as f64 / all.len() as f64
        };
        assert!((share(100, 100) - 0.25).abs() < 0.01);
        assert!((share(200, 249) - 0.375).abs() < 0.01);
        assert!((share(250, 299) - 0.375).abs() < 0.01);
        let sizes = Sizes::parse("20..29").unwrap();
        assert_eq!((sizes.pick(0), sizes.pick(u64::MAX)), (20, 29));
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for text in [
            "", "x", "9..3", "8..64", "8:1,64:1", "64:0", "64:1,9", "1GiB", "90..70:1", "8..64:1",
        ] {
            assert!(Sizes::parse(text).is_err(), "{text}");
        }
    }
}
