//! When a group publishes: on schedule (open loop) or as messages arrive (closed loop).
//!
//! Clients of a group take turns, so that their messages are spread evenly: client `i` of `n` sends
//! its message `k` at `(k * n + i) / (n * rate)` after the start of publishing. Each thread walks
//! through the times of its own clients.

use std::time::Duration;

use crate::scenario::Group;

/// The pace of one group on one thread.
#[derive(Debug)]
pub(super) enum Pacer {
    /// Open loop.
    Schedule(Schedule),
    /// Closed loop.
    Window(Window),
}

/// Times at which the clients of a thread send.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Time from one client to the next.
    step_ns: f64,
    ramp_ns: f64,
    clients_of_group: u64,
    /// Index of the first client of this thread.
    first: u64,
    clients: u32,
    round: u64,
    at: u32,
}

/// How much of what was published may not have arrived.
#[derive(Debug)]
pub(super) struct Window {
    /// Messages.
    size: u64,
    /// Deliveries that messages sent so far owe, or acknowledgements if nobody subscribes.
    pub(super) owed: u64,
    /// What of that was written off, because nothing came any more.
    pub(super) written_off: u64,
    /// The client whose turn it is.
    pub(super) at: u32,
    /// What had arrived when it was last looked at, and since when it is that.
    seen: (u64, u64),
}

impl Schedule {
    pub(super) fn new(group: &Group, rate: f64, first: u32, clients: u32) -> Schedule {
        Schedule {
            step_ns: 1e9 / (rate * f64::from(group.clients)),
            ramp_ns: group.ramp.as_nanos() as f64,
            clients_of_group: u64::from(group.clients),
            first: u64::from(first),
            clients,
            round: 0,
            at: 0,
        }
    }

    /// When the next message is due, after the publishing began.
    pub(super) fn due_ns(&self) -> u64 {
        let number = self.round * self.clients_of_group + self.first + u64::from(self.at);
        let steady = number as f64 * self.step_ns;
        // While the rate grows, after time t the share t / ramp of it was reached on average by
        // half.
        let due = if steady < self.ramp_ns / 2.0 {
            (2.0 * self.ramp_ns * steady).sqrt()
        } else {
            steady + self.ramp_ns / 2.0
        };
        due as u64
    }

    /// Takes the next message; returns its client.
    pub(super) fn take(&mut self) -> u32 {
        let client = self.at;
        self.at += 1;
        if self.at == self.clients {
            self.at = 0;
            self.round += 1;
        }
        client
    }
}

impl Window {
    pub(super) fn new(window: u32, clients: u32) -> Window {
        Window {
            size: u64::from(window) * u64::from(clients),
            owed: 0,
            written_off: 0,
            at: 0,
            seen: (0, 0),
        }
    }

    /// Messages that may be sent; a message owes `copies`.
    pub(super) fn room(&mut self, now: u64, arrived: u64, copies: u64, patience: Duration) -> u64 {
        let settled = arrived + self.written_off;
        let underway = self.owed.saturating_sub(settled);
        if arrived != self.seen.0 || underway == 0 {
            self.seen = (arrived, now);
        } else if now.saturating_sub(self.seen.1) > patience.as_nanos() as u64 {
            // The broker lost them, or it is gone: waiting for ever is of no use.
            self.written_off += underway;
            self.seen.1 = now;
            return self.size;
        }
        self.size.saturating_sub(underway.div_ceil(copies.max(1)))
    }

    /// So many arrivals have been seen.
    pub(super) fn has_seen(&self, arrived: u64) -> bool {
        self.seen.0 == arrived
    }

    /// When `room` has to be called at the latest.
    pub(super) fn look_at(&self, patience: Duration) -> u64 {
        self.seen.1 + patience.as_nanos() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(clients: u32) -> Group {
        let mut group = Group::default();
        group.clients = clients;
        group
    }

    #[test]
    fn threads_together_keep_the_schedule_of_the_group() {
        let group = group(5);
        let mut all: Vec<(u64, u32)> = Vec::new();
        for (first, clients) in [(0, 2), (2, 3)] {
            let mut schedule = Schedule::new(&group, 10.0, first, clients);
            for _ in 0..clients * 2 {
                let due = schedule.due_ns();
                all.push((due, first + schedule.take()));
            }
        }
        all.sort_unstable();
        let expected: Vec<(u64, u32)> = (0..10).map(|n| (n * 20_000_000, n as u32 % 5)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_ramp_reaches_the_rate_and_keeps_it() {
        let mut group = group(1);
        group.ramp = Duration::from_secs(2);
        let mut schedule = Schedule::new(&group, 100.0, 0, 1);
        let dues: Vec<f64> = (0..400)
            .map(|_| {
                let due = schedule.due_ns() as f64 / 1e9;
                schedule.take();
                due
            })
            .collect();
        assert!(dues.is_sorted());
        // A hundred messages in the two seconds of the ramp, a hundred per second from there on.
        assert!((dues[100] - 2.0).abs() < 1e-6, "{}", dues[100]);
        assert!((dues[300] - 4.0).abs() < 1e-6, "{}", dues[300]);
    }

    #[test]
    fn a_window_opens_with_arrivals_and_when_nothing_more_arrives() {
        let mut window = Window::new(10, 2);
        let patience = Duration::from_nanos(100);
        assert_eq!(window.room(0, 0, 3, patience), 20);
        window.owed = 60;
        assert_eq!(window.room(1, 0, 3, patience), 0);
        assert_eq!(window.room(50, 30, 3, patience), 10);
        assert_eq!(window.room(150, 30, 3, patience), 10);
        assert_eq!(
            window.room(151, 30, 3, patience),
            20,
            "the patience is over"
        );
        assert_eq!(window.written_off, 30);
        window.owed += 3;
        assert_eq!(window.room(152, 30, 3, patience), 19);
    }
}
