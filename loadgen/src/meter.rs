//! Counters and times of one thread, by group and QoS.
//!
//! Counters only grow; the figures of the window are differences between two readings. Times go
//! into the interval of the second in which they were taken; the main thread adds the intervals up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::Ledger;
use crate::tally::{Tally as _, tally};
use crate::times::{Delays, Times};

tally! {
    /// Counters of one group on one thread.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Where a time belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Segment of the course; 0 if there is only the window.
    pub segment: u32,
    /// Group of the subscriber.
    pub group: u16,
    /// QoS of the delivery.
    pub qos: u8,
}

/// What happened in one second on one thread, or in a part of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Which second of the publishing.
    pub second: u32,
    /// Its end; what is not is a report from the middle of it.
    pub is_whole: bool,
    /// How much happened.
    pub volume: Volume,
    /// How late the generator itself was.
    pub lag: Times,
    /// Of deliveries that belong to the window.
    #[serde(with = "crate::agent::wire::places")]
    pub window: BTreeMap<Place, Delays>,
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
    /// How late the generator itself was, in this second.
    pub lag: Times,
    /// Connections made, in all.
    pub connects: u64,
    /// Messages published that owe a delivery or an acknowledgement, in all.
    pub asked: u64,
    /// Deliveries that they owe, or acknowledgements where nobody subscribes, in all.
    pub owed: u64,
    /// Acknowledgements of all kinds, in all.
    pub acks: u64,
    /// Troubles, in all.
    pub errors: u64,
    /// Times of this second by segment: nearly always of one.
    window: Vec<Part>,
    /// The one of them that was used last.
    near: usize,
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
            ..Meter::default()
        }
    }

    /// Times a delivery; without a place it is one of those outside of the window.
    #[inline]
    pub fn record(&mut self, place: Option<Place>, times: DeliveryTimes) {
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
            let times = self.bunch.times;
            let delays = match self.bunch.place {
                Some(place) => self.delays(place),
                None => &mut self.outside,
            };
            delays.record(times.uncorrected_us, times.lateness_us, count);
        }
    }

    fn delays(&mut self, place: Place) -> &mut Delays {
        let is_it = |part: &Part| part.segment == place.segment;
        if !self.window.get(self.near).is_some_and(is_it) {
            self.near = self.window.iter().position(is_it).unwrap_or_else(|| {
                self.window.push(Part {
                    segment: place.segment,
                    delays: vec![Delays::default(); self.counts.len() * 3],
                });
                self.window.len() - 1
            });
        }
        &mut self.window[self.near].delays[usize::from(place.group) * 3 + usize::from(place.qos)]
    }

    /// Ends the second that is running.
    pub fn end_second(&mut self) -> Interval {
        let mut interval = self.cut();
        interval.is_whole = true;
        self.second += 1;
        interval
    }

    /// What happened since the last second or report.
    pub fn cut(&mut self) -> Interval {
        self.record_bunch();
        let reading = self.reading();
        let mark = std::mem::replace(&mut self.mark, reading);
        let mut window = BTreeMap::new();
        for part in &mut self.window {
            for (at, delays) in part.delays.iter_mut().enumerate() {
                let delays = std::mem::take(delays);
                if !delays.is_empty() {
                    let place = Place {
                        segment: part.segment,
                        group: (at / 3) as u16,
                        qos: (at % 3) as u8,
                    };
                    window.insert(place, delays);
                }
            }
        }
        // A segment is over some time; the one at hand is the last.
        if self.window.len() > SEGMENTS_KEPT {
            self.window.clear();
        }
        Interval {
            second: self.second,
            is_whole: false,
            volume: reading.since(&mark),
            lag: std::mem::take(&mut self.lag),
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

/// Times of one segment.
#[derive(Debug)]
struct Part {
    segment: u32,
    /// `group * 3 + qos`.
    delays: Vec<Delays>,
}

/// Deliveries that took the same time, one behind the other: what a broker sends together arrives
/// together, and a histogram takes them as one.
#[derive(Debug, Default)]
struct Bunch {
    /// In the window, or outside of it.
    place: Option<Place>,
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
        self.lag.add(&other.lag);
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

/// Deliveries come late by a segment or two; so many have their places at the same time.
const SEGMENTS_KEPT: usize = 8;

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
            let place = Place {
                segment: (step / 13 % 4) as u32,
                group: (step / 3 % 2) as u16,
                qos: (step / 9 % 3) as u8,
            };
            let place = (step / 7 % 5 > 0).then_some(place);
            meter.record(place, times(100 + step / 4 % 2, step / 11 % 2));
            *counts.entry(place).or_insert(0) += 1;
            if step == 500 {
                // What was recorded so far belongs to the first second.
                let first = meter.end_second();
                assert!(first.is_whole);
                assert_eq!(count(&first, None), counts.remove(&None));
                for (key, delays) in &first.window {
                    let wanted = counts.remove(&Some(*key));
                    assert_eq!(Some(delays.corrected().count()), wanted);
                    assert_eq!(Some(delays.uncorrected().count()), wanted);
                }
                assert!(counts.is_empty());
            }
        }
        // A report from the middle of a second takes what there is.
        let second = meter.cut();
        assert_eq!((second.second, second.is_whole), (1, false));
        for (place, wanted) in counts {
            assert_eq!(count(&second, place), Some(wanted));
        }
        assert_eq!(meter.end_second().corrected().count(), 0);
    }

    fn count(interval: &Interval, place: Option<Place>) -> Option<u64> {
        let delays = match place {
            Some(key) => interval.window.get(&key)?,
            None => &interval.outside,
        };
        Some(delays.corrected().count())
    }
}
