//! Requests that wait for a thread, in one queue per source; the sources take turns.
//!
//! A client that sends a thousand wrong passwords from one address delays itself, and nobody else.
//!
//! Invariants:
//! - at most `count_max` wait. One more pushes out the last one of the source with the most.
//! - each source is served first in, first out.
//! - `turns` names each source with a waiting request once.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A line for any number of threads.
#[derive(Debug)]
pub(super) struct Line<S, T> {
    state: Mutex<State<S, T>>,
    /// A request arrived, or the line was closed.
    changed: Condvar,
    count_max: usize,
}

#[derive(Debug)]
struct State<S, T> {
    waiting: HashMap<S, VecDeque<T>>,
    /// The sources in the order of their turns.
    turns: VecDeque<S>,
    count: usize,
    /// Threads that wait for a request.
    idle_count: usize,
    is_closed: bool,
}

impl<S: Clone + Eq + Hash, T> Line<S, T> {
    pub(super) fn new(count_max: usize) -> Line<S, T> {
        Line {
            state: Mutex::new(State {
                waiting: HashMap::new(),
                turns: VecDeque::new(),
                count: 0,
                idle_count: 0,
                is_closed: false,
            }),
            changed: Condvar::new(),
            count_max: count_max.max(1),
        }
    }

    /// Adds a request; if the line is full, returns the one that is pushed out, which may be
    /// another.
    pub(super) fn push(&self, source: S, item: T) -> Option<T> {
        let mut state = self.lock();
        if state.is_closed {
            return Some(item);
        }
        let mut displaced = None;
        if state.count == self.count_max {
            let own = state.waiting.get(&source).map_or(0, VecDeque::len);
            let longest = state.waiting.values_mut().max_by_key(|items| items.len());
            match longest {
                // Two at least: its source keeps its turn.
                Some(longest) if longest.len() > own + 1 => displaced = longest.pop_back(),
                Some(_) | None => return Some(item),
            }
            state.count -= 1;
        }
        state.enter(source, item);
        drop(state);
        self.changed.notify_one();
        displaced
    }

    /// The next one; waits for it. `None`: nobody comes any more.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(item) = state.leave() {
                return Some(item);
            }
            state.idle_count += 1;
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            assert!(state.idle_count > 0, "a thread that was not counted");
            state.idle_count -= 1;
        }
    }

    /// More wait than there are threads without work.
    pub(super) fn is_short_handed(&self) -> bool {
        let state = self.lock();
        state.count > state.idle_count
    }

    /// Sends everybody home, and the threads too.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.waiting.clear();
        state.count = 0;
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<S, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone + Eq + Hash, T> State<S, T> {
    fn enter(&mut self, source: S, item: T) {
        let items = self.waiting.entry(source.clone()).or_default();
        if items.is_empty() {
            self.turns.push_back(source);
        }
        items.push_back(item);
        self.count += 1;
    }

    fn leave(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let items = self.waiting.get_mut(&source)?;
        let item = items.pop_front();
        if items.is_empty() {
            drop(self.waiting.remove(&source))
        } else {
            self.turns.push_back(source)
        }
        self.count -= 1;
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everybody who waits, in turn.
    fn all(line: &Line<char, u32>) -> Vec<u32> {
        let count = line.lock().count;
        (0..count).map(|_| line.pop().unwrap()).collect()
    }

    #[test]
    fn sources_take_turns_and_each_is_first_in_first_out() {
        let line = Line::new(100);
        for (source, item) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            assert_eq!(line.push(source, item), None);
        }
        assert_eq!(all(&line), [1, 4, 5, 2, 6, 3]);
        assert!(line.lock().waiting.is_empty() && line.lock().turns.is_empty());
    }

    #[test]
    fn a_full_line_drops_the_last_request_of_the_source_with_the_most() {
        let line = Line::new(5);
        for item in 1..=5 {
            assert_eq!(line.push('a', item), None);
        }
        for (source, item, displaced) in [
            ('a', 6, 6),
            ('b', 7, 5),
            ('b', 8, 4),
            // Nobody has more than this one would have then.
            ('b', 9, 9),
            ('c', 10, 3),
            ('c', 11, 11),
            ('a', 12, 12),
        ] {
            assert_eq!(line.push(source, item), Some(displaced), "{item}");
        }
        assert_eq!(all(&line), [1, 7, 10, 2, 8]);
    }

    #[test]
    fn threads_waiting_for_a_request_are_woken_at_the_end() {
        let line = Line::new(4);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| (line.pop(), line.pop()));
            line.push('a', 1);
            while line.lock().count > 0 {
                std::thread::yield_now();
            }
            line.close();
            assert_eq!(waits.join().unwrap(), (Some(1), None));
        });
        assert_eq!(line.push('a', 2), Some(2));
        assert_eq!(line.pop(), None);
    }
}
