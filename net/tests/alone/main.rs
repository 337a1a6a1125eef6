//! Tests that look at the memory of their process: one at a time, and nothing beside them.

// The configuration of clippy allows it in functions marked as tests, but not in what they share.
#![allow(clippy::unwrap_used)]

mod churn;
mod reactor_slow;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The process, for as long as the guard lives. A test that failed leaves it to the others.
fn alone() -> MutexGuard<'static, ()> {
    static PROCESS: Mutex<()> = Mutex::new(());
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}
