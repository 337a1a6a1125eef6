//! How the load of a run changes over time: what the rate of every schedule is multiplied by.
//!
//! *Work* is the load added up: after a second at the full rate it has grown by a second, after one
//! at 400 % by four. A message has its place in the work, which never changes; the course says at
//! which time the work gets there. So a rate can change while the clients are connected, and no
//! message is skipped or sent twice.
//!
//! Times are nanoseconds after the publishing began.
//!
//! Invariants:
//! - pieces follow each other without a gap; the last one goes on for ever, at one factor.
//! - segments ascend and do not overlap.

/// The load over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    pieces: Vec<Piece>,
    /// Parts whose figures are kept apart: stages, trials.
    segments: Vec<Segment>,
    /// Messages with their place below it are not sent any more.
    given_up_ns: f64,
}

/// Some time in which the factor moves evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    begin_ns: f64,
    /// Work done before it.
    work_ns: f64,
    from: f64,
    to: f64,
    span_ns: f64,
}

/// A part of the publishing whose figures are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// When it begins.
    pub begin_ns: u64,
    /// When it ends.
    pub end_ns: u64,
}

impl Course {
    /// The full rate, for ever.
    pub fn steady() -> Course {
        Course::beginning_with(1.0)
    }

    /// Nothing, until something is appended.
    pub fn idle() -> Course {
        Course::beginning_with(0.0)
    }

    fn beginning_with(factor: f64) -> Course {
        Course {
            pieces: vec![Piece {
                begin_ns: 0.0,
                work_ns: 0.0,
                from: factor,
                to: factor,
                span_ns: f64::INFINITY,
            }],
            segments: Vec::new(),
            given_up_ns: 0.0,
        }
    }

    /// From `at_ns` on the factor moves from `from` to `to` within `span_ns`, and stays there.
    pub fn append(&mut self, at_ns: u64, from: f64, to: f64, span_ns: u64) {
        assert!(from >= 0.0 && to >= 0.0, "time does not run backwards");
        let at = at_ns as f64;
        self.cut(at);
        let mut work_ns = self.work_at(at);
        let mut begin_ns = at;
        if span_ns > 0 && from != to {
            let span_ns = span_ns as f64;
            self.pieces.push(Piece {
                begin_ns,
                work_ns,
                from,
                to,
                span_ns,
            });
            begin_ns += span_ns;
            work_ns += (from + to) / 2.0 * span_ns;
        }
        self.pieces.push(Piece {
            begin_ns,
            work_ns,
            from: to,
            to,
            span_ns: f64::INFINITY,
        });
    }

    /// Takes away what is planned from this time on.
    fn cut(&mut self, at: f64) {
        let keep = self.pieces.partition_point(|piece| piece.begin_ns < at);
        self.pieces.truncate(keep);
        if let Some(last) = self.pieces.last_mut() {
            last.to = last.factor_at(at);
            last.span_ns = at - last.begin_ns;
        }
    }

    /// From here to there figures are kept apart; gives the number of the segment.
    pub fn add_segment(&mut self, segment: Segment) -> u32 {
        let last = self.segments.last().map_or(0, |last| last.end_ns);
        assert!(
            last <= segment.begin_ns && segment.begin_ns <= segment.end_ns,
            "segments ascend"
        );
        self.segments.push(segment);
        self.segments.len() as u32 - 1
    }

    /// The last segment ends earlier than it was to.
    pub fn end_segment(&mut self, at_ns: u64) {
        let last = self.segments.last_mut().expect("a segment is running");
        last.end_ns = last.end_ns.min(at_ns).max(last.begin_ns);
    }

    /// What is due before a time and has not been sent by now is not sent any more: the generator is
    /// late, and what comes next is not to suffer for it.
    pub fn give_up_before(&mut self, ns: u64) {
        self.given_up_ns = self.given_up_ns.max(self.work_at(ns as f64));
    }

    /// Up to which work it was given up.
    pub fn given_up(&self) -> f64 {
        self.given_up_ns
    }

    /// All segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segment that a time belongs to; `near` is a guess.
    #[inline]
    pub fn segment_at(&self, ns: u64, near: u32) -> Option<u32> {
        let holds = |at: usize| {
            let segment = self.segments.get(at)?;
            (segment.begin_ns <= ns && ns < segment.end_ns).then_some(at as u32)
        };
        holds(near as usize).or_else(|| {
            let after = self.segments.partition_point(|other| other.begin_ns <= ns);
            holds(after.checked_sub(1)?)
        })
    }

    /// When so much work is done; `None`: never, as far as is known.
    #[inline]
    pub fn due_ns(&self, work_ns: f64) -> Option<u64> {
        let after = self
            .pieces
            .partition_point(|piece| piece.work_ns <= work_ns);
        let piece = &self.pieces[after.max(1) - 1];
        let done = piece.due_after(work_ns - piece.work_ns)?;
        Some((piece.begin_ns + done) as u64)
    }

    /// The work that is done by a time.
    pub fn work_at(&self, ns: f64) -> f64 {
        let after = self.pieces.partition_point(|piece| piece.begin_ns <= ns);
        let Some(piece) = after.checked_sub(1).map(|at| &self.pieces[at]) else {
            return 0.0;
        };
        let time = (ns - piece.begin_ns).min(piece.span_ns);
        piece.work_ns + (piece.from + piece.factor_at(piece.begin_ns + time)) / 2.0 * time
    }

    /// The work that is done in a segment.
    pub fn work_of(&self, segment: Segment) -> f64 {
        self.work_at(segment.end_ns as f64) - self.work_at(segment.begin_ns as f64)
    }
}

impl Piece {
    fn factor_at(&self, ns: f64) -> f64 {
        if self.span_ns.is_infinite() {
            return self.from;
        }
        let part = ((ns - self.begin_ns) / self.span_ns.max(1.0)).clamp(0.0, 1.0);
        self.from + (self.to - self.from) * part
    }

    /// How long it takes until so much work is done; `None` if that never is.
    #[inline]
    fn due_after(&self, work_ns: f64) -> Option<f64> {
        if self.from == self.to {
            return (self.from > 0.0).then(|| work_ns / self.from);
        }
        // from * t + (to - from) * t^2 / (2 * span) = work, in the form that loses no digits.
        let square = self.from * self.from + 2.0 * work_ns * (self.to - self.from) / self.span_ns;
        let divisor = self.from + square.max(0.0).sqrt();
        if work_ns == 0.0 {
            return Some(0.0);
        }
        (divisor > 0.0).then(|| 2.0 * work_ns / divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_steady_course_changes_nothing() {
        let course = Course::steady();
        for work in [0.0, 1.0, 20_000_000.0, 12_345_678_901.5, 1e15] {
            assert_eq!(course.due_ns(work), Some(work as u64), "{work}");
        }
        assert_eq!(course.segment_at(5, 0), None);
    }

    #[test]
    fn work_and_time_are_each_others_inverse() {
        let mut course = Course::idle();
        course.append(S, 0.0, 2.0, 4 * S);
        course.append(7 * S, 0.5, 0.5, 0);
        course.append(9 * S, 4.0, 0.0, 2 * S);
        course.append(20 * S, 1.0, 1.0, 0);
        let mut last = 0;
        for step in 0..3000 {
            let work = f64::from(step) * 1e7;
            let due = course.due_ns(work).unwrap();
            assert!(due >= last, "{work}: {due} after {last}");
            last = due;
            assert!((course.work_at(due as f64) - work).abs() < 10.0, "{work}");
        }
        // Four seconds up to 2 make 4 s of work, 2 s at 2 make 4 more, then 1 s, then 4 s.
        for (at, work) in [
            (1, 0.0),
            (5, 4.0),
            (7, 8.0),
            (9, 9.0),
            (11, 13.0),
            (20, 13.0),
        ] {
            let done = course.work_at((at * S) as f64) / 1e9;
            assert!((done - work).abs() < 1e-9, "{at} s: {done}");
        }
        assert_eq!(course.due_ns(14e9), Some(21 * S));
    }

    #[test]
    fn nothing_is_due_where_nothing_is_planned_and_comes_when_it_is() {
        let mut course = Course::idle();
        assert_eq!(course.due_ns(0.0), None);
        course.append(2 * S, 3.0, 3.0, 0);
        course.append(3 * S, 0.0, 0.0, 0);
        assert_eq!(course.due_ns(0.0), Some(2 * S));
        assert_eq!(course.due_ns(2.7e9), Some(2 * S + 900_000_000));
        assert_eq!(course.due_ns(3e9), None, "the first of what comes next");
        course.append(5 * S, 1.0, 1.0, 0);
        assert_eq!(course.due_ns(3e9), Some(5 * S));
    }

    #[test]
    fn what_is_planned_can_be_taken_back() {
        let mut course = Course::idle();
        course.append(0, 10.0, 10.0, 0);
        course.add_segment(Segment {
            begin_ns: 0,
            end_ns: S,
        });
        course.append(S, 0.0, 0.0, 0);
        course.append(S / 4, 0.0, 0.0, 0);
        course.end_segment(S / 4);
        assert_eq!(course.work_at(1e9), 2.5e9);
        assert_eq!(course.due_ns(2.5e9), None);
        assert_eq!(course.segment_at(S / 4 - 1, 0), Some(0));
        assert_eq!(course.segment_at(S / 4, 0), None);
        // A ramp that is cut keeps what it had reached.
        let mut course = Course::idle();
        course.append(0, 0.0, 1.0, 2 * S);
        course.append(S, 0.0, 0.0, 0);
        assert_eq!(course.work_at(5e9), 0.25e9);
    }

    #[test]
    fn a_time_belongs_to_its_segment_whatever_the_guess() {
        let mut course = Course::steady();
        for (begin, end) in [(0, 10), (10, 20), (30, 40)] {
            course.add_segment(Segment {
                begin_ns: begin,
                end_ns: end,
            });
        }
        for (at, expected) in [
            (0, Some(0)),
            (9, Some(0)),
            (10, Some(1)),
            (20, None),
            (29, None),
            (30, Some(2)),
            (40, None),
        ] {
            for near in 0..4 {
                assert_eq!(course.segment_at(at, near), expected, "{at} near {near}");
            }
        }
    }
}
