//! What the broker publishes about itself below `$SYS`.

use ringmq_core::codec::BarePublish;
use serde::{Deserialize, Serialize};

use super::Fleet;
use ringmq_problem::printable;

/// One value that the broker published of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysUpdate {
    /// When it came.
    pub at_ns: u64,
    /// It is a retained one, of unknown age.
    pub retained: bool,
    /// `$SYS/broker/uptime`.
    pub topic: String,
    /// Its value.
    pub value: String,
}

impl Fleet {
    pub(super) fn on_sys(&mut self, now: u64, publish: BarePublish<'_>) {
        if self.sys.len() >= UPDATES_MAX {
            return;
        }
        let text = |bytes: &[u8]| {
            printable(&String::from_utf8_lossy(
                &bytes[..bytes.len().min(TEXT_SIZE_MAX)],
            ))
        };
        self.sys.push(SysUpdate {
            at_ns: now,
            retained: publish.head.retain,
            topic: text(publish.topic),
            value: text(publish.payload),
        });
    }
}

/// The driver collects them in every turn: a broker does not publish more at once.
const UPDATES_MAX: usize = 10_000;
/// Counters are short.
const TEXT_SIZE_MAX: usize = 256;
