//! Which topic of a client is next, where they do not take turns.

use crate::payload::mix;
use crate::plan::Plan;

/// What the topics of a group are drawn from.
#[derive(Debug)]
pub(super) struct Topics {
    /// For each topic, the share of the messages up to and with it.
    shares: Box<[f64]>,
    seed: u64,
}

impl Topics {
    /// Of a group; `None` if its topics take turns.
    pub(super) fn of(plan: &Plan, group: usize) -> Option<Topics> {
        let exponent = plan.specs[group].topics_zipf?;
        let weights = (1..=plan.groups[group].topics).map(|k| f64::from(k).powf(-exponent));
        let mut sum = 0.0;
        let mut shares: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        shares.iter_mut().for_each(|share| *share /= sum);
        Some(Topics {
            shares: shares.into(),
            seed: plan.seed(group),
        })
    }

    /// The topic of a client's message number `drawn`.
    pub(super) fn pick(&self, client: u32, drawn: u32) -> u32 {
        let draw = mix(self.seed ^ (u64::from(client) << 32 | u64::from(drawn)));
        let point = (draw >> 11) as f64 / (1u64 << 53) as f64;
        let at = self.shares.partition_point(|share| *share <= point);
        at.min(self.shares.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    #[test]
    fn the_first_topic_comes_most_often() {
        let text = "[[group]]\nname = \"p\"\npublish = \"t/{index}/{message%4}\"\nrate = 1\n\
                    topics = \"zipf(1)\"\n";
        let plan = Plan::new(file::parse("f.toml", text).unwrap(), "0000", 1, false).unwrap();
        let topics = Topics::of(&plan, 0).unwrap();
        let mut counts = [0_u32; 4];
        for drawn in 0..25_000 {
            counts[topics.pick(3, drawn) as usize] += 1;
        }
        // 12 to 6 to 4 to 3, of 25.
        for (count, expected) in counts.iter().zip([12_000, 6000, 4000, 3000]) {
            assert!(count.abs_diff(expected) < 300, "{counts:?}");
        }
    }
}
