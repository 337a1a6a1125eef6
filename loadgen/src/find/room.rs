//! How many connections there is room for, as far as the steps so far show: what each takes of
//! memory and tables, by Theil and Sen.

use serde::{Deserialize, Serialize};

use crate::bound::{Room, Snapshot};
use crate::capacity::slope::theil_sen;

/// What connections take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Memory of the broker that each takes, bytes; absent without `--pid`.
    pub broker_bytes: Option<f64>,
    /// Memory of the machine, or of the broker's control group, that each takes: kernel and
    /// generator are in it, if they share it.
    pub machine_bytes: Option<f64>,
    /// Why no more were tried, though the broker might have held them.
    pub stopped: Option<String>,
}

/// What was used with so many connections.
#[derive(Debug, Default)]
pub(super) struct Points {
    seen: Vec<(f64, Snapshot)>,
}

/// The end of something.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    /// So many connections fit.
    pub(super) connections: f64,
    /// For people.
    pub(super) why: String,
}

impl Points {
    pub(super) fn add(&mut self, connections: f64, snapshot: Snapshot) {
        self.seen.push((connections, snapshot));
    }

    /// What runs out first; `None` if nothing is known to.
    pub(super) fn end(&self) -> Option<End> {
        let ends = RESOURCES.iter().filter_map(|resource| {
            let rooms = self.seen.iter();
            let rooms = rooms.filter_map(|(count, seen)| Some((*count, (resource.of)(seen)?)));
            let rooms: Vec<(f64, Room)> = rooms.collect();
            resource.end(&rooms)
        });
        ends.min_by(|one, other| one.connections.total_cmp(&other.connections))
    }

    /// What each connection takes.
    pub(super) fn growth(&self, stopped: Option<String>) -> Growth {
        let each = |of: fn(&Snapshot) -> Option<u64>| {
            let seen = self.seen.iter();
            let points = seen.filter_map(|(count, seen)| Some((*count, of(seen)? as f64)));
            let slope = theil_sen(&points.collect::<Vec<_>>())?;
            (slope.slope > 0.0).then_some(slope.slope)
        };
        Growth {
            broker_bytes: each(|seen| seen.resident_bytes),
            machine_bytes: each(|seen| seen.memory.map(|room| room.used)),
            stopped,
        }
    }
}

/// Something that connections use up.
struct Resource {
    name: &'static str,
    of: fn(&Snapshot) -> Option<Room>,
    /// Beyond this share of it nothing works as before.
    share_max: f64,
}

impl Resource {
    fn end(&self, rooms: &[(f64, Room)]) -> Option<End> {
        let limit = rooms.last()?.1.limit as f64;
        let points: Vec<(f64, f64)> = rooms
            .iter()
            .map(|(count, room)| (*count, room.used as f64))
            .collect();
        let slope = theil_sen(&points)?;
        // What does not grow has no end.
        if slope.slope * CONNECTIONS_MANY < limit * GROWTH_MIN {
            return None;
        }
        let connections = ((limit * self.share_max - slope.base) / slope.slope).max(0.0);
        let why = format!(
            "{:.0} % of {} would be used with {connections:.0} connections",
            self.share_max * 100.0,
            self.name
        );
        Some(End { connections, why })
    }
}

const RESOURCES: [Resource; 4] = [
    Resource {
        name: "the memory",
        of: |seen| seen.memory,
        share_max: 0.9,
    },
    Resource {
        name: "the memory for sockets (net.ipv4.tcp_mem)",
        of: |seen| seen.socket_memory,
        share_max: 0.9,
    },
    Resource {
        name: "the files of the broker",
        of: |seen| seen.files,
        share_max: 0.95,
    },
    Resource {
        name: "the table of the firewall (conntrack)",
        of: |seen| seen.conntrack,
        share_max: 0.95,
    },
];
/// Something of which a million connections use less than this share does not grow.
const CONNECTIONS_MANY: f64 = 1e6;
const GROWTH_MIN: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(memory: u64, files: u64) -> Snapshot {
        Snapshot {
            memory: Some(Room {
                used: memory,
                limit: 1_000_000_000,
            }),
            files: Some(Room {
                used: files,
                limit: 20_000,
            }),
            resident_bytes: Some(memory / 2),
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_runs_out_first_is_named_before_it_does() {
        let mut points = Points::default();
        points.add(0.0, seen(100_000_000, 50));
        assert_eq!(points.end(), None, "one point has no slope");
        points.add(1000.0, seen(110_000_000, 1050));
        points.add(2000.0, seen(120_000_000, 2050));
        // 95 % of 20,000 files, but 50 that are no connections; memory would last for 80,000.
        let end = points.end().unwrap();
        assert!((end.connections - 18_950.0).abs() < 1.0, "{end:?}");
        assert!(end.why.contains("the files of the broker"), "{end:?}");
        let growth = points.growth(None);
        assert_eq!(
            (growth.machine_bytes, growth.broker_bytes),
            (Some(10_000.0), Some(5000.0))
        );
    }

    #[test]
    fn what_does_not_grow_has_no_end() {
        let mut points = Points::default();
        for count in [0.0, 1000.0, 5000.0] {
            points.add(count, seen(500_000_000, 10));
        }
        assert_eq!(points.end(), None);
        assert_eq!(points.growth(None).machine_bytes, None);
    }
}
