//! Which traces something belongs to.

/// A set of traces, by their index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceSet(u16);

impl TraceSet {
    /// Traces at once.
    pub const TRACES_MAX: usize = 10;

    /// One trace; `index < TRACES_MAX`.
    pub fn of(index: u8) -> TraceSet {
        assert!(
            usize::from(index) < TraceSet::TRACES_MAX,
            "the index of a trace is bounded"
        );
        TraceSet(1 << index)
    }

    /// It belongs to one at least.
    pub fn is_any(self) -> bool {
        self.0 != 0
    }

    /// This trace is one of them.
    pub fn contains(self, index: u8) -> bool {
        self.0 & TraceSet::of(index).0 != 0
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, other: TraceSet) -> TraceSet {
        TraceSet(self.0 | other.0)
    }

    /// Those that are in the other one too.
    #[must_use]
    pub fn only(self, other: TraceSet) -> TraceSet {
        TraceSet(self.0 & other.0)
    }
}
