//! Distributions of times as text: HdrHistogram's V2 format in base64, which adds up exactly on the
//! other side, because all histograms of ringload have the same bounds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::times::Times;

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        if let Some(histogram) = self.as_histogram() {
            // Writing to memory does not fail.
            let _ = V2Serializer::new().serialize(histogram, &mut bytes);
        }
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Times, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Times::default());
        }
        let bytes = STANDARD.decode(&text).map_err(D::Error::custom)?;
        let mut reader = hdrhistogram::serialization::Deserializer::new();
        let histogram = reader.deserialize(&mut bytes.as_slice());
        let histogram = histogram.map_err(|error| D::Error::custom(format!("{error:?}")))?;
        let times = Times::of_histogram(histogram);
        times.ok_or_else(|| D::Error::custom("a histogram with other bounds"))
    }
}

/// A map by place: JSON has keys of text only.
pub mod places {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::meter::Place;
    use crate::times::Delays;

    /// As a list of pairs.
    pub fn serialize<S: Serializer>(
        map: &BTreeMap<Place, Delays>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    /// From a list of pairs.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Place, Delays>, D::Error> {
        let pairs = Vec::<(Place, Delays)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::meter::{Interval, Place};
    use crate::times::{Delays, Times};

    #[test]
    fn histograms_come_over_exactly_and_add_up_as_if_they_were_one() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut parts = [Interval::default(), Interval::default()];
        let mut whole = Interval::default();
        for _ in 0..20_000 {
            let place = Place {
                segment: random.u32(0..3),
                group: random.u16(0..2),
                qos: random.u8(0..3),
            };
            let us = 1 << random.u32(0..31) | random.u64(0..1000);
            let lateness = random.u64(0..2) * random.u64(0..9_000_000);
            for interval in [&mut parts[random.usize(0..2)], &mut whole] {
                let delays: &mut Delays = interval.window.entry(place).or_default();
                delays.record(us, lateness, 1);
                interval.outside.record(us, 0, 2);
                interval.lag.record(lateness);
            }
        }
        let mut sum = Interval::default();
        for part in &parts {
            let text = serde_json::to_string(part).unwrap();
            assert!(!text.contains('\n'));
            sum.add(&serde_json::from_str(&text).unwrap());
        }
        let all = |interval: &Interval| -> Vec<Option<crate::report::Latency>> {
            let mut all = vec![interval.lag.latency(), interval.corrected().latency()];
            for delays in interval.window.values() {
                all.push(delays.corrected().latency());
                all.push(delays.uncorrected().latency());
            }
            all
        };
        assert_eq!(all(&sum), all(&whole));
        assert_eq!(sum.window.len(), 18);
    }

    #[test]
    fn what_is_no_histogram_of_ours_is_refused() {
        let empty: Times = serde_json::from_str("\"\"").unwrap();
        assert_eq!(empty.count(), 0);
        for text in ["\"%\"", "\"AAAA\"", "3", &foreign()] {
            assert!(serde_json::from_str::<Times>(text).is_err(), "{text}");
        }
    }

    /// A histogram with other bounds.
    fn foreign() -> String {
        use base64::Engine as _;
        use hdrhistogram::serialization::{Serializer as _, V2Serializer};
        let mut histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1000, 2).unwrap();
        histogram.saturating_record(3);
        let mut bytes = Vec::new();
        let mut serializer = V2Serializer::new();
        serializer.serialize(&histogram, &mut bytes).unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        format!("\"{text}\"")
    }
}
