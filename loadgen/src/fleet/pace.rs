//! When a group publishes: on schedule (open loop) or as messages arrive (closed loop).
//!
//! Clients of a group take turns, so that their messages are spread evenly: client `i` of `n` sends
//! its message `k` at `(k * n + i) / (n * rate)` after the start of publishing. Each thread walks
//! through the times of its own clients. Where a rate changes, these times are work of the
//! [`Course`], which says when that is done.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use crate::course::Course;
use crate::payload::mix;
use crate::scenario::rates::Rates;
use crate::scenario::{Arrivals, Group};

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
    /// Work from one message of the group to the next.
    step_ns: f64,
    ramp_ns: f64,
    clients_of_group: u64,
    /// Index of the first client of this thread.
    first: u64,
    clients: u32,
    order: Order,
}

/// Whose turn it is.
#[derive(Debug)]
enum Order {
    /// One after the other, with so many messages each time.
    Turns {
        burst: u32,
        sent: u32,
        round: u64,
        at: u32,
    },
    /// Any, at any time.
    Random { draws: Draws, work_ns: f64, at: u32 },
    /// Each at a rate of its own.
    Each(Box<Each>),
}

/// Clients that do not send equally often.
#[derive(Debug)]
struct Each {
    draws: Draws,
    arrivals: Arrivals,
    /// Work from one message of a client to its next, in the mean.
    gaps_ns: Vec<f64>,
    /// The next message of each client: work in nanoseconds, messages left of its burst.
    next: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

/// Numbers that look random, the same for the same seed.
#[derive(Debug)]
struct Draws(u64);

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
    /// Of some clients of a group; `number` is that of the client with a place.
    pub(super) fn new(
        group: &Group,
        arrivals: Arrivals,
        range: Range<u32>,
        seed: u64,
        number: impl Fn(u32) -> u32,
    ) -> Schedule {
        let rates = group.rate.as_ref().expect("an open loop has a rate");
        let turns = |burst| Order::Turns {
            burst,
            sent: 0,
            round: 0,
            at: 0,
        };
        let draws = Draws(mix(seed ^ u64::from(range.start)));
        let order = match (rates, arrivals) {
            (Rates::Same(_), Arrivals::Constant) => turns(1),
            (Rates::Same(_), Arrivals::Bursts(count)) => turns(count),
            (Rates::Same(_), Arrivals::Poisson) => Order::Random {
                draws,
                work_ns: 0.0,
                at: 0,
            },
            (_, arrivals) => {
                let gaps = range
                    .clone()
                    .map(|place| 1e9 / rates.of(number(place), seed));
                Order::Each(Box::new(Each::new(draws, arrivals, gaps.collect())))
            }
        };
        let mut schedule = Schedule {
            step_ns: 1e9 / rates.sum(group.clients, seed),
            ramp_ns: group.ramp.as_nanos() as f64,
            clients_of_group: u64::from(group.clients),
            first: u64::from(range.start),
            clients: range.len() as u32,
            order,
        };
        schedule.draw();
        schedule
    }

    /// When the next message is due, after the publishing began; `None`: never, as far as is known.
    pub(super) fn due_ns(&self, course: &Course) -> Option<u64> {
        course.due_ns(self.place()?)
    }

    /// Leaves out the messages that have their place before this one.
    pub(super) fn skip_to(&mut self, place: f64) {
        while self.place().is_some_and(|next| next < place) {
            self.take();
        }
    }

    /// Where in the work the next message is.
    fn place(&self) -> Option<f64> {
        let steady = match &self.order {
            Order::Turns {
                burst, round, at, ..
            } => {
                let turn = round * self.clients_of_group + self.first + u64::from(*at);
                (turn * u64::from(*burst)) as f64 * self.step_ns
            }
            Order::Random { work_ns, .. } => *work_ns,
            Order::Each(each) => each.next.peek().map(|Reverse(next)| next.0 as f64)?,
        };
        // While the rate grows, after time t the share t / ramp of it was reached on average by
        // half.
        Some(if steady < self.ramp_ns / 2.0 {
            (2.0 * self.ramp_ns * steady).sqrt()
        } else {
            steady + self.ramp_ns / 2.0
        })
    }

    /// Takes the next message; returns its client.
    pub(super) fn take(&mut self) -> u32 {
        let client = match &mut self.order {
            Order::Turns {
                burst,
                sent,
                round,
                at,
            } => {
                let client = *at;
                *sent += 1;
                if *sent == *burst {
                    *sent = 0;
                    *at += 1;
                }
                if *at == self.clients {
                    *at = 0;
                    *round += 1;
                }
                client
            }
            Order::Random { at, .. } => *at,
            Order::Each(each) => each.take(),
        };
        self.draw();
        client
    }

    /// Draws the next message, if it is a matter of chance: the clients of a thread together are as
    /// random as each of them.
    fn draw(&mut self) {
        let mean_ns = self.step_ns * self.clients_of_group as f64 / f64::from(self.clients.max(1));
        if let Order::Random { draws, work_ns, at } = &mut self.order {
            *work_ns -= draws.share().ln() * mean_ns;
            *at = (draws.share() * f64::from(self.clients)) as u32 % self.clients.max(1);
        }
    }
}

impl Each {
    /// Clients begin anywhere between two of their messages: they do not know of each other.
    fn new(mut draws: Draws, arrivals: Arrivals, gaps_ns: Vec<f64>) -> Each {
        let burst = arrivals.burst();
        let next = gaps_ns.iter().zip(0..).map(|(gap_ns, client)| {
            let begin_ns = match arrivals {
                Arrivals::Poisson => -draws.share().ln() * gap_ns,
                Arrivals::Constant | Arrivals::Bursts(_) => {
                    draws.share() * gap_ns * f64::from(burst)
                }
            };
            Reverse((begin_ns as u64, client, burst))
        });
        let next = next.collect();
        Each {
            draws,
            arrivals,
            gaps_ns,
            next,
        }
    }

    fn take(&mut self) -> u32 {
        let mut first = self.next.peek_mut().expect("a schedule has clients");
        let (work_ns, client, left) = first.0;
        let gap_ns = self.gaps_ns[client as usize];
        first.0 = match (self.arrivals, left) {
            (Arrivals::Poisson, _) => {
                let gap_ns = -self.draws.share().ln() * gap_ns;
                (work_ns + gap_ns as u64, client, 1)
            }
            (Arrivals::Constant | Arrivals::Bursts(_), 1) => {
                let burst = self.arrivals.burst();
                let gap_ns = gap_ns * f64::from(burst);
                (work_ns + gap_ns as u64, client, burst)
            }
            (Arrivals::Constant | Arrivals::Bursts(_), left) => (work_ns, client, left - 1),
        };
        client
    }
}

impl Draws {
    /// Above 0, and 1 at most.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        ((mix(self.0) >> 11) + 1) as f64 / (1u64 << 53) as f64
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

/// The step of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    fn group(clients: u32, rate: &str) -> Group {
        let mut group = Group::default();
        group.clients = clients;
        group.rate = Some(Rates::parse(rate).unwrap());
        group
    }

    /// The first messages of some clients, as (time, client).
    fn messages(schedule: &mut Schedule, count: u32, first: u32) -> Vec<(u64, u32)> {
        let course = Course::steady();
        let next = |_| {
            let due = schedule.due_ns(&course).unwrap();
            (due, first + schedule.take())
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn threads_together_keep_the_schedule_of_the_group() {
        let group = group(5, "10");
        for burst in [1, 4] {
            let mut all: Vec<(u64, u32)> = Vec::new();
            for (first, clients) in [(0, 2), (2, 3)] {
                let arrivals = match burst {
                    1 => Arrivals::Constant,
                    count => Arrivals::Bursts(count),
                };
                let mut schedule =
                    Schedule::new(&group, arrivals, first..first + clients, 0, |place| place);
                all.extend(messages(&mut schedule, clients * 2 * burst, first));
            }
            all.sort_unstable();
            let number = |n: u32| n / burst * burst;
            let expected: Vec<(u64, u32)> = (0..10 * burst)
                .map(|n| (u64::from(number(n)) * 20_000_000, n / burst % 5))
                .collect();
            assert_eq!(all, expected, "{burst}");
        }
    }

    /// A generator that was asked for too much goes on with what comes then.
    #[test]
    fn what_was_given_up_is_not_sent_later() {
        let arrivals = [Arrivals::Constant, Arrivals::Bursts(3), Arrivals::Poisson];
        for (rate, arrivals) in ["10", "5..20"].into_iter().zip([arrivals; 2]) {
            for arrivals in arrivals {
                let group = group(5, rate);
                let mut course = Course::idle();
                course.append(0, 1000.0, 1000.0, 0);
                course.append(1_000_000_000, 0.0, 0.0, 0);
                let mut schedule = Schedule::new(&group, arrivals, 0..5, 0, |place| place);
                course.give_up_before(1_000_000_000);
                schedule.skip_to(course.given_up());
                assert_eq!(schedule.due_ns(&course), None, "{rate}, {arrivals:?}");
                course.append(3_000_000_000, 1.0, 1.0, 0);
                let due = schedule.due_ns(&course).unwrap();
                assert!(
                    (3_000_000_000..3_800_000_000).contains(&due),
                    "{rate}, {arrivals:?}: {due}"
                );
            }
        }
    }

    #[test]
    fn a_ramp_reaches_the_rate_and_keeps_it() {
        let mut group = group(1, "100");
        group.ramp = Duration::from_secs(2);
        let mut schedule = Schedule::new(&group, Arrivals::Constant, 0..1, 0, |place| place);
        let dues: Vec<f64> = messages(&mut schedule, 400, 0)
            .into_iter()
            .map(|(due, _)| due as f64 / 1e9)
            .collect();
        assert!(dues.is_sorted());
        // A hundred messages in the two seconds of the ramp, a hundred per second from there on.
        assert!((dues[100] - 2.0).abs() < 1e-6, "{}", dues[100]);
        assert!((dues[300] - 4.0).abs() < 1e-6, "{}", dues[300]);
    }

    #[test]
    fn random_arrivals_keep_the_rate_and_have_the_gaps_of_chance() {
        let group = group(10, "10");
        let mut schedule = Schedule::new(&group, Arrivals::Poisson, 5..10, 7, |place| place);
        let all = messages(&mut schedule, 20_000, 5);
        // Half of the clients: 50 per second, for 400 s.
        let last = all[19_999].0 as f64 / 1e9;
        assert!((last - 400.0).abs() < 10.0, "{last}");
        let gaps = all.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let long = gaps.filter(|gap| *gap > 20_000_000).count() as f64 / 19_999.0;
        assert!((long - (-1.0_f64).exp()).abs() < 0.02, "{long}");
        for client in 5..10 {
            let count = all.iter().filter(|(_, of)| *of == client).count();
            assert!((3800..4200).contains(&count), "{client}: {count}");
        }
        let mut again = Schedule::new(&group, Arrivals::Poisson, 5..10, 7, |place| place);
        assert_eq!(messages(&mut again, 100, 5), all[..100]);
    }

    #[test]
    fn clients_with_rates_of_their_own_keep_them() {
        let group = group(4, "zipf(8, 1)");
        for arrivals in [Arrivals::Constant, Arrivals::Bursts(5), Arrivals::Poisson] {
            let mut schedule = Schedule::new(&group, arrivals, 0..4, 3, |place| place);
            // 8, 4, 2.67 and 2 per second, for some 600 s.
            let all = messages(&mut schedule, 10_000, 0);
            assert!(all.is_sorted_by_key(|(due, _)| *due));
            let span_s = all[9_999].0 as f64 / 1e9;
            for client in 0..4 {
                let count = all.iter().filter(|(_, of)| *of == client).count() as f64;
                let rate = 8.0 / f64::from(client + 1);
                assert!(
                    (count / span_s / rate - 1.0).abs() < 0.1,
                    "{arrivals:?} {client}"
                );
            }
        }
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
