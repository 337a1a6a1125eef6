//! Counters and times of one thread, by group and QoS.
//!
//! Counters only grow; the figures of the window are differences between two readings. Times go
//! into the interval of the second in which they were taken; the main thread adds the intervals up.

use std::collections::BTreeMap;

use crate::report::Ledger;
use crate::tally::{Tally as _, tally};
use crate::times::{Delays, Times};

tally! {
    /// Counters of one group on one thread.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Counts {
        /// Messages published.
        pub sent: u64,
        /// PUBACK and PUBCOMP, and PUBREC that refuse.
        pub acknowledged: u64,
        /// Of those, refusals.
        pub refused: u64,
        /// Messages of QoS 1 and 2 that will have no acknowledgement any more.
        pub unacknowledged: u64,
        /// Messages that were due and never sent.
        pub skipped: u64,
        /// Connections made after the first one of each client.
        pub reconnects: u64,
        /// What arrived, by QoS of the delivery.
        pub received: [Received; 3],
    }
}

tally! {
    /// What arrived at one QoS.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Received {
        /// Deliveries of all kinds.
        pub count: u64,
        /// Payload bytes.
        pub bytes: u64,
        /// What was wrong with them: the part of the ledger that arrivals fill.
        pub ledger: Ledger,
    }
}

/// Times of one group on one thread that are few enough to keep for the whole run.
#[derive(Clone, Debug, Default)]
pub struct GroupTimes {
    /// From dialling to CONNACK.
    pub connect: Times,
    /// From PUBLISH to the last acknowledgement; of messages of the window.
    pub acknowledge: Times,
    /// From SUBSCRIBE to retained messages.
    pub retained: Times,
}

tally! {
    /// How much happened, over all groups.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Volume {
        /// Messages published.
        pub sent: u64,
        /// Deliveries.
        pub received: u64,
        /// Payload bytes.
        pub received_bytes: u64,
        /// Connections made.
        pub connects: u64,
        /// Troubles.
        pub errors: u64,
    }
}

/// What happened in one second on one thread.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Which second of the publishing.
    pub second: u32,
    /// How much happened.
    pub volume: Volume,
    /// Of deliveries that belong to the window: by group and QoS.
    pub window: BTreeMap<(u16, u8), Delays>,
    /// Of the others.
    pub outside: Delays,
}

/// The meter of one thread.
#[derive(Debug, Default)]
pub struct Meter {
    /// By group.
    pub counts: Vec<Counts>,
    /// By group.
    pub times: Vec<GroupTimes>,
    /// How late the generator itself was.
    pub lag: Times,
    /// Connections made, in all.
    pub connects: u64,
    /// Messages published that owe a delivery or an acknowledgement, in all.
    pub asked: u64,
    /// Acknowledgements of all kinds, in all.
    pub acks: u64,
    /// Troubles, in all.
    pub errors: u64,
    /// Times of this second, `group * 3 + qos`.
    window: Vec<Delays>,
    outside: Delays,
    /// What is not in them yet.
    bunch: Bunch,
    second: u32,
    /// The volume when this second began.
    mark: Volume,
}

impl Meter {
    /// For so many groups.
    pub fn new(groups: usize) -> Meter {
        Meter {
            counts: vec![Counts::default(); groups],
            times: vec![GroupTimes::default(); groups],
            window: vec![Delays::default(); groups * 3],
            ..Meter::default()
        }
    }

    /// Times a delivery.
    #[inline]
    pub fn record(&mut self, group: usize, qos: u8, in_window: bool, times: DeliveryTimes) {
        let place = in_window.then_some(group * 3 + usize::from(qos));
        let bunch = &mut self.bunch;
        if (bunch.place, bunch.times) != (place, times) {
            self.record_bunch();
            (self.bunch.place, self.bunch.times) = (place, times);
        }
        self.bunch.count += 1;
    }

    fn record_bunch(&mut self) {
        let count = std::mem::take(&mut self.bunch.count);
        if count > 0 {
            let delays = match self.bunch.place {
                Some(at) => &mut self.window[at],
                None => &mut self.outside,
            };
            let times = self.bunch.times;
            delays.record(times.uncorrected_us, times.lateness_us, count);
        }
    }

    /// Ends the second that is running.
    pub fn end_second(&mut self) -> Interval {
        self.record_bunch();
        let reading = self.reading();
        let mark = std::mem::replace(&mut self.mark, reading);
        let mut window = BTreeMap::new();
        for (at, delays) in self.window.iter_mut().enumerate() {
            let delays = std::mem::take(delays);
            if !delays.is_empty() {
                window.insert(((at / 3) as u16, (at % 3) as u8), delays);
            }
        }
        let second = self.second;
        self.second += 1;
        Interval {
            second,
            volume: reading.since(&mark),
            window,
            outside: std::mem::take(&mut self.outside),
        }
    }

    /// Seconds that are over.
    pub fn seconds_ended(&self) -> u32 {
        self.second
    }

    /// Messages published, in all.
    pub fn sent(&self) -> u64 {
        self.counts.iter().map(|counts| counts.sent).sum()
    }

    /// Deliveries, in all.
    pub fn received(&self) -> u64 {
        let counts = self.counts.iter().flat_map(|counts| &counts.received);
        counts.map(|received| received.count).sum()
    }

    fn reading(&self) -> Volume {
        let received = self.counts.iter().flat_map(|counts| &counts.received);
        Volume {
            sent: self.sent(),
            received: self.received(),
            received_bytes: received.map(|received| received.bytes).sum(),
            connects: self.connects,
            errors: self.errors,
        }
    }
}

/// Deliveries that took the same time, one behind the other: what a broker sends together arrives
/// together, and a histogram takes them as one.
#[derive(Debug, Default)]
struct Bunch {
    /// In `Meter::window`, or outside of it.
    place: Option<usize>,
    times: DeliveryTimes,
    count: u64,
}

/// How long a delivery took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryTimes {
    /// Since the socket got it.
    pub uncorrected_us: u64,
    /// How late that was.
    pub lateness_us: u64,
}

impl Interval {
    /// Adds the same second of another thread.
    pub fn add(&mut self, other: &Interval) {
        self.volume.add(&other.volume);
        for (key, delays) in &other.window {
            self.window.entry(*key).or_default().add(delays);
        }
        self.outside.add(&other.outside);
    }

    /// Corrected times of everything that arrived in it.
    pub fn corrected(&self) -> Times {
        let mut times = self.outside.corrected();
        for delays in self.window.values() {
            times.add(&delays.corrected());
        }
        times
    }
}

impl Counts {
    /// At every QoS.
    pub fn received_all(&self) -> Received {
        let mut sum = Received::default();
        self.received.iter().for_each(|received| sum.add(received));
        sum
    }
}

impl Received {
    /// Into the ledger of a report, which knows whether order was looked at.
    pub fn add_to(&self, ledger: &mut Ledger) {
        let order_checked = ledger.order_checked;
        ledger.add(&self.ledger);
        ledger.order_checked = order_checked;
    }
}

impl GroupTimes {
    /// Adds those of another thread.
    pub fn add(&mut self, other: &GroupTimes) {
        self.connect.add(&other.connect);
        self.acknowledge.add(&other.acknowledge);
        self.retained.add(&other.retained);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_in_bunches_are_counted_one_by_one_where_they_belong() {
        let mut meter = Meter::new(2);
        let times = |uncorrected_us, lateness_us| DeliveryTimes {
            uncorrected_us,
            lateness_us,
        };
        let mut counts = BTreeMap::new();
        for step in 0..1000_u64 {
            // Bunches of three, whose place and times change at different moments.
            let (group, qos) = ((step / 3 % 2) as usize, (step / 9 % 3) as u8);
            let in_window = step / 7 % 5 > 0;
            meter.record(
                group,
                qos,
                in_window,
                times(100 + step / 4 % 2, step / 11 % 2),
            );
            let place = in_window.then_some((group as u16, qos));
            *counts.entry(place).or_insert(0) += 1;
            if step == 500 {
                // What was recorded so far belongs to the first second.
                let first = meter.end_second();
                assert_eq!(count(&first, None), counts.remove(&None));
                for (key, delays) in &first.window {
                    let wanted = counts.remove(&Some(*key));
                    assert_eq!(Some(delays.corrected().count()), wanted);
                    assert_eq!(Some(delays.uncorrected().count()), wanted);
                }
                assert!(counts.is_empty());
            }
        }
        let second = meter.end_second();
        for (place, wanted) in counts {
            assert_eq!(count(&second, place), Some(wanted));
        }
        assert_eq!(meter.end_second().corrected().count(), 0);
    }

    fn count(interval: &Interval, place: Option<(u16, u8)>) -> Option<u64> {
        let delays = match place {
            Some(key) => interval.window.get(&key)?,
            None => &interval.outside,
        };
        Some(delays.corrected().count())
    }
}
