//! How many connections there is room for.

use serde::{Deserialize, Serialize};

use super::slope::Slope;

/// What ends, apart from CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory of the machine, or of the control group; bytes.
    pub memory_bytes: u64,
    /// Files that the broker may open; absent without a limit.
    pub files: Option<u64>,
    /// Connections that the firewall follows; absent without one.
    pub conntrack: Option<u64>,
}

/// The most connections, and what ends them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// As measured.
    pub connections: f64,
    /// With the upper end of the memory that each takes.
    pub low: f64,
    /// With the lower end.
    pub high: f64,
    /// What runs out.
    pub ends: Ends,
}

/// What runs out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ends {
    /// Memory.
    Memory,
    /// Descriptors.
    Files,
    /// The table of the firewall.
    Conntrack,
}

/// How many connections fit: `(limit - 10 % - base) / slope`, or what a table has entries for.
pub fn connections_max(memory: &Slope, limits: &Limits) -> Room {
    let free = (limits.memory_bytes as f64 * (1.0 - RESERVE) - memory.base).max(0.0);
    let fit = |each: f64| match each > 0.0 {
        true => free / each,
        false => f64::INFINITY,
    };
    let files = limits
        .files
        .map(|files| (files as f64 - FILES_OWN, Ends::Files));
    let conntrack = limits.conntrack.map(|most| (most as f64, Ends::Conntrack));
    let tables = [files, conntrack];
    let table = tables
        .into_iter()
        .flatten()
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let table_max = table.map_or(f64::INFINITY, |(most, _)| most.max(0.0));
    let connections = fit(memory.slope);
    Room {
        connections: connections.min(table_max),
        low: fit(memory.high).min(table_max),
        high: fit(memory.low).min(table_max),
        ends: match table {
            Some((_, ends)) if table_max < connections => ends,
            Some(_) | None => Ends::Memory,
        },
    }
}

/// What has to stay free: a machine without free memory does nothing else than look for it.
const RESERVE: f64 = 0.1;
/// Files of a broker beside its connections.
const FILES_OWN: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_out_first_ends_the_connections() {
        let memory = Slope {
            slope: 4096.0,
            low: 4000.0,
            high: 5000.0,
            base: 10e6,
        };
        let limits = |files, conntrack| Limits {
            memory_bytes: 1_000_000_000,
            files,
            conntrack,
        };
        let by_memory = 890e6 / 4096.0;
        for (limits, connections, ends) in [
            (limits(None, None), by_memory, Ends::Memory),
            (
                limits(Some(1_000_000), Some(500_000)),
                by_memory,
                Ends::Memory,
            ),
            (limits(Some(20_100), Some(500_000)), 20_000.0, Ends::Files),
            (
                limits(Some(20_100), Some(10_000)),
                10_000.0,
                Ends::Conntrack,
            ),
        ] {
            let room = connections_max(&memory, &limits);
            assert_eq!(
                (room.connections, room.ends),
                (connections, ends),
                "{limits:?}"
            );
            assert!(room.low <= room.connections && room.connections <= room.high);
        }
    }
}
