//! How long things take on their way through a shard: a histogram for each stage.
//!
//! The buckets are those of Prometheus' native histograms of schema 2: their bounds are powers of the fourth root of two, in
//! seconds. Finding one takes a conversion to a floating-point number, whose exponent and mantissa say all.
//!
//! Not here: who records what. The core knows of `Handshake`, `Auth`, `Queue` and `Ack`, the shell of the others.

use std::fmt;

use crate::time::Instant;

/// A part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// From the accept of a connection to its whole CONNECT: PROXY, TLS and WebSocket are in it.
    Handshake,
    /// From the question who a client is, or what it may do, to the verdict.
    Auth,
    /// A turn: also the longest that what has arrived waits for a busy shard.
    Turn,
    /// What another shard has sent, until this one takes it.
    Inbox,
    /// From the first byte that finds a send of its connection under way to the next send.
    SendWait,
    /// From the start of a send to its end.
    Send,
    /// A queued message, from its coming to the send.
    Queue,
    /// A QoS 1 or 2 message, from the send to PUBACK or PUBCOMP: the client's time.
    Ack,
}

impl Stage {
    /// All of them, on the way of a client and of a message.
    pub const ALL: [Stage; 8] = [
        Stage::Handshake,
        Stage::Auth,
        Stage::Turn,
        Stage::Inbox,
        Stage::SendWait,
        Stage::Send,
        Stage::Queue,
        Stage::Ack,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Handshake => "handshake",
            Stage::Auth => "auth",
            Stage::Turn => "turn",
            Stage::Inbox => "inbox",
            Stage::SendWait => "send_wait",
            Stage::Send => "send",
            Stage::Queue => "queue",
            Stage::Ack => "ack",
        }
    }
}

/// Records how long things take.
///
/// What is sent in one turn and acknowledged in another has one span: such a run is counted, and enters the histogram at its end.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    stages: Stages,
    runs: [Run; Stage::ALL.len()],
}

/// Equal spans in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    begin: Instant,
    end: Instant,
    count: u64,
}

impl Recorder {
    /// Something has taken from `begin` to `end`.
    #[inline]
    pub fn record(&mut self, stage: Stage, begin: Instant, end: Instant) {
        let run = &mut self.runs[stage as usize];
        if (run.begin, run.end) == (begin, end) {
            run.count += 1;
        } else {
            self.begin_run(stage, begin, end);
        }
    }

    #[cold]
    fn begin_run(&mut self, stage: Stage, begin: Instant, end: Instant) {
        let count = 1;
        let run = Run { begin, end, count };
        let ended = std::mem::replace(&mut self.runs[stage as usize], run);
        self.stages.0[stage as usize].record(ended.span_ns(), ended.count);
    }

    /// All that was recorded.
    pub fn stages(&self) -> Box<Stages> {
        let mut stages = Box::new(self.stages.clone());
        for (histogram, run) in stages.0.iter_mut().zip(&self.runs) {
            histogram.record(run.span_ns(), run.count);
        }
        stages
    }
}

impl Run {
    fn span_ns(self) -> u64 {
        self.end.ns_since(self.begin)
    }
}

/// A histogram for each stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages([Histogram; Stage::ALL.len()]);

impl Stages {
    /// Of one stage.
    pub fn of(&self, stage: Stage) -> &Histogram {
        &self.0[stage as usize]
    }

    /// Adds what another shard, or another part of it, has recorded.
    pub fn add(&mut self, other: &Stages) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.add(theirs);
        }
    }
}

/// Spans, counted by their length.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    /// `counts[i]`: at most [`Histogram::bound_s`] of `i`, and more than that of `i - 1`. The last has no bound.
    counts: [u64; BUCKETS_COUNT + 1],
    sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: [0; BUCKETS_COUNT + 1],
            sum_ns: 0,
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} ns", self.count(), self.sum_ns)
    }
}

impl Histogram {
    /// So many things have each taken so many nanoseconds.
    fn record(&mut self, span_ns: u64, count: u64) {
        self.counts[bucket_of(span_ns)] += count;
        self.sum_ns = self.sum_ns.wrapping_add(span_ns.wrapping_mul(count));
    }

    fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they took together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Bounds in seconds, each with how many are at most that and more than the bound before: every fourth bound, from
    /// 2^-16 s (15 us) to 8 s. What is above has the bound infinity.
    pub fn classic(&self) -> impl Iterator<Item = (f64, u64)> {
        let ends = (CLASSIC_EXPONENT_MIN..=CLASSIC_EXPONENT_MAX).map(|exponent| {
            let index = (exponent - EXPONENT_MIN) as usize * PER_OCTAVE;
            (2_f64.powi(exponent), index)
        });
        let mut begin = 0;
        let all = ends.chain([(f64::INFINITY, BUCKETS_COUNT + 1)]);
        all.map(move |(bound, end)| {
            let count = self.counts[begin..end].iter().sum();
            begin = end;
            (bound, count)
        })
    }

    /// The upper bound of a bucket, in seconds.
    #[cfg(test)]
    fn bound_s(index: usize) -> f64 {
        2_f64.powf(f64::from(EXPONENT_MIN) + (index + 1) as f64 / PER_OCTAVE as f64)
    }
}

/// The bucket of a span.
fn bucket_of(span_ns: u64) -> usize {
    // No span reaches the 292 years from which the sign would be wrong. One less than the bits of a number is the next
    // smaller one: what equals a bound belongs below it.
    let bits = ((span_ns.max(1) as i64) as f64 * 1e-9).to_bits() - 1;
    let exponent = (bits >> MANTISSA_BITS) as i64 - EXPONENT_BIAS;
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1);
    let quarter = u8::from(mantissa >= QUARTERS[0])
        + u8::from(mantissa >= QUARTERS[1])
        + u8::from(mantissa >= QUARTERS[2]);
    let index = (exponent - i64::from(EXPONENT_MIN)) * PER_OCTAVE as i64 + i64::from(quarter);
    index.clamp(0, BUCKETS_COUNT as i64) as usize
}

/// A moment in six bytes: to 1.024 us, for nine years of uptime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp([u16; 3]);

impl fmt::Debug for Stamp {
    /// Nothing depends on it: tests compare whole shards by their text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stamp")
    }
}

impl Stamp {
    /// A moment that nobody knows: before the start.
    pub const UNKNOWN: Stamp = Stamp([0; 3]);

    /// This moment.
    pub fn of(now: Instant) -> Stamp {
        let units = now.as_nanos() >> STAMP_SHIFT;
        Stamp([units as u16, (units >> 16) as u16, (units >> 32) as u16])
    }

    /// The moment; `None`: nobody knows.
    pub fn moment(self) -> Option<Instant> {
        let [low, middle, high] = self.0.map(u64::from);
        let units = low | middle << 16 | high << 32;
        (units > 0).then(|| Instant::from_nanos(units << STAMP_SHIFT))
    }
}

/// Nanoseconds per unit of a stamp, as a power of two.
const STAMP_SHIFT: u32 = 10;
/// From 2^-20 s, about a microsecond, to 16 s.
const BUCKETS_COUNT: usize = 96;
const PER_OCTAVE: usize = 4;
const EXPONENT_MIN: i32 = -20;
const CLASSIC_EXPONENT_MIN: i32 = -16;
const CLASSIC_EXPONENT_MAX: i32 = 3;
const MANTISSA_BITS: u32 = 52;
const EXPONENT_BIAS: i64 = 1023;
/// The mantissas of 2^(1/4), 2^(2/4) and 2^(3/4).
const QUARTERS: [u64; 3] = [
    mantissa_of(1.189_207_115_002_721),
    mantissa_of(std::f64::consts::SQRT_2),
    mantissa_of(1.681_792_830_507_429),
];

const fn mantissa_of(number: f64) -> u64 {
    number.to_bits() & ((1 << MANTISSA_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_in_the_bucket_whose_bounds_are_around_it() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let span_ns = random.u64(..) >> random.u32(20..64);
            let (index, seconds) = (bucket_of(span_ns), span_ns as f64 * 1e-9);
            if index < BUCKETS_COUNT {
                assert!(
                    seconds <= Histogram::bound_s(index) * 1.000_001,
                    "{span_ns}"
                );
            }
            if index > 0 {
                let below = Histogram::bound_s(index - 1);
                assert!(seconds > below * 0.999_999, "{span_ns}");
            }
        }
        for (span_ns, bound_s) in [
            (500_000_000, 0.5),
            (1_000_000_000, 1.0),
            (8_000_000_000, 8.0),
        ] {
            let found = Histogram::bound_s(bucket_of(span_ns));
            assert!(
                (found - bound_s).abs() < 1e-9,
                "a bound belongs below: {found}"
            );
            let above = Histogram::bound_s(bucket_of(span_ns + 1));
            assert!(above > bound_s * 1.1, "{above}");
        }
        assert_eq!((bucket_of(0), bucket_of(950)), (0, 0));
        assert_eq!(bucket_of(16_000_000_001), BUCKETS_COUNT);
    }

    #[test]
    fn classic_buckets_hold_everything_once() {
        let mut histogram = Histogram::default();
        let spans = [
            0,
            15_258,
            15_260,
            1_000_000,
            8_000_000_000,
            8_000_000_001,
            1 << 40,
        ];
        spans.iter().for_each(|span| histogram.record(*span, 1));
        let classic: Vec<(f64, u64)> = histogram.classic().collect();
        assert_eq!(classic.len(), 21);
        assert_eq!(classic[0], (2_f64.powi(-16), 2));
        assert_eq!(classic[1], (2_f64.powi(-15), 1));
        assert_eq!(classic[19], (8.0, 1));
        assert_eq!(classic[20], (f64::INFINITY, 2));
        assert_eq!(classic.iter().map(|(_, count)| count).sum::<u64>(), 7);
        assert_eq!(histogram.count(), 7);
        let mut twice = histogram.clone();
        twice.add(&histogram);
        assert_eq!(
            (twice.count(), twice.sum_s()),
            (14, 2.0 * histogram.sum_s())
        );
    }

    #[test]
    fn equal_spans_in_a_row_are_counted_like_others() {
        let at = Instant::from_nanos;
        let mut recorder = Recorder::default();
        let mut expected = Histogram::default();
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..1000 {
            let (begin, end) = (random.u64(..3), random.u64(1_000_000..1_000_003));
            recorder.record(Stage::Ack, at(begin), at(end));
            expected.record(end - begin, 1);
        }
        assert_eq!(recorder.stages().of(Stage::Ack), &expected);
        assert_eq!(recorder.stages().of(Stage::Queue).count(), 0);
    }

    #[test]
    fn a_stamp_keeps_a_moment_to_a_microsecond() {
        for nanos in [1 << 10, 123_456_789, 1 << 50] {
            let then = Instant::from_nanos(nanos);
            let kept = Stamp::of(then).moment().unwrap();
            assert!(then.ns_since(kept) < 1024 && kept <= then, "{kept:?}");
        }
        assert_eq!(Stamp::UNKNOWN.moment(), None);
        assert_eq!(size_of::<Stamp>(), 6);
    }
}
