//! What a broker says of itself over a run, through its control plane (`--admin`): how often it reached a
//! bound of its own, and how long its stages took.

use serde::{Deserialize, Serialize};

use crate::bound::{Snapshot, StageTime, stage_times};
use crate::progress::{micros, short};

/// What the broker counted from before the first connection to the end of the drain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// Its own bounds, with how often each was reached; those with 0 too.
    pub bounds: Vec<(String, u64)>,
    /// Its stages, those that took the longest first.
    pub stages: Vec<InsideStage>,
}

/// A stage of the way of a message through the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsideStage {
    /// `inbox`.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Half of them took at most this long, microseconds.
    pub p50_us: f64,
    /// 99 % of them.
    pub p99_us: f64,
}

impl Inside {
    /// What came between two snapshots; `None` if the broker was not asked, or started anew.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Option<Inside> {
        let grown = after.own.iter().map(|(name, after)| {
            let before = before.own.get(name)?;
            Some((name.clone(), after.checked_sub(*before)?))
        });
        let bounds = grown.collect::<Option<Vec<(String, u64)>>>()?;
        let mut stages: Vec<InsideStage> = stage_times(before, after)
            .into_iter()
            .map(InsideStage::of)
            .collect();
        stages.sort_by(|a, b| b.p99_us.total_cmp(&a.p99_us));
        (!bounds.is_empty()).then_some(Inside { bounds, stages })
    }

    /// For the summary: a name and a sentence each.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let reached = self.bounds.iter().filter(|(_, count)| *count > 0);
        let reached: Vec<String> = reached
            .map(|(name, count)| format!("{name} {}", short(*count as f64)))
            .collect();
        let bounds = match reached.is_empty() {
            true => "none of the broker's own was reached".to_owned(),
            false => format!("the broker reached its own: {}", reached.join(", ")),
        };
        let stages = self.stages.iter();
        let stages = stages.map(|stage| format!("{} {}", stage.name, micros(stage.p99_us as u64)));
        let stages: Vec<String> = stages.collect();
        let mut lines = vec![("bounds", bounds)];
        if !stages.is_empty() {
            lines.push((
                "stages",
                format!("p99 in the broker: {}", stages.join(", ")),
            ));
        }
        lines
    }
}

impl InsideStage {
    fn of(time: StageTime) -> InsideStage {
        InsideStage {
            name: time.name,
            count: time.count,
            p50_us: time.p50_us,
            p99_us: time.p99_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(full: u64, slow: u64) -> Snapshot {
        let own = [("dropped/queue_full", full), ("inbox_full", 3)];
        let own = own.map(|(name, count)| (name.to_owned(), count));
        let turn = vec![
            (0.001, 100),
            (0.01, 100 + slow),
            (f64::INFINITY, 100 + slow),
        ];
        let inbox = vec![(0.001, slow), (0.01, slow), (f64::INFINITY, slow)];
        Snapshot {
            own: own.into(),
            stages: [("turn".to_owned(), turn), ("inbox".to_owned(), inbox)].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_grew_is_said() {
        let inside = Inside::between(&at(5, 0), &at(7, 50)).unwrap();
        let full = ("dropped/queue_full".to_owned(), 2);
        assert_eq!(inside.bounds, [full, ("inbox_full".to_owned(), 0)]);
        let lines = inside.lines();
        assert_eq!(
            lines[0].1,
            "the broker reached its own: dropped/queue_full 2"
        );
        assert!(
            lines[1].1.starts_with("p99 in the broker: turn "),
            "{lines:?}"
        );
        let calm = Inside::between(&at(5, 0), &at(5, 0)).unwrap();
        let none = "none of the broker's own was reached".to_owned();
        assert_eq!(calm.lines(), [("bounds", none)]);
        assert_eq!(
            Inside::between(&at(5, 0), &at(4, 0)),
            None,
            "it was restarted"
        );
        assert_eq!(
            Inside::between(&Snapshot::default(), &Snapshot::default()),
            None
        );
    }
}
