//! A promise of the broker that was not kept.

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What happened instead.
    pub detail: String,
}

impl Broken {
    /// `promise` was not kept, as `detail` shows.
    pub fn new(promise: &'static str, detail: String) -> Broken {
        Broken { promise, detail }
    }
}
