//! The handshake between a reactor that goes to sleep and threads with mail for it.
//!
//! The sleeper announces itself, then checks for mail once more; a sender delivers, then checks
//! whether the sleeper has announced itself. With a sequentially consistent fence between the two
//! steps on either side, at least one of them sees the other: no mail waits for a sleeper. Modelled
//! with loom in `tests/it/reactor_park.rs`, which is why the atomics come from `super::atomics`.

use super::atomics::{AtomicBool, Ordering, fence};

/// Whether a reactor sleeps, or is about to.
#[derive(Debug)]
pub(crate) struct Park {
    parked: AtomicBool,
}

impl Park {
    /// Awake.
    pub(crate) fn new() -> Park {
        Park {
            parked: AtomicBool::new(false),
        }
    }

    /// The sleeper's first step. It has to look for mail afterwards, before it sleeps.
    pub(crate) fn announce(&self) {
        debug_assert!(
            !self.parked.load(Ordering::Relaxed),
            "who announces sleep is awake"
        );
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake. A signal may still be on its way to it, and does no harm.
    pub(crate) fn withdraw(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// A sender's last step, after the delivery: true if the sleeper has to be signalled. True for
    /// one sender only.
    #[must_use]
    pub(crate) fn must_signal(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load keeps the cache line shared while the reactor is awake, which is the usual case.
        self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed)
    }
}
