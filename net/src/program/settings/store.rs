//! The settings of what outlives the process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmq::store::StoreConfig;
use ringmq_core::store::{Downtime, Policy};

use super::value::{Kind, Value};
use super::{MINUTE_MS, Setting, TIB, range};

/// How what outlives the process is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where; `None`: nothing outlives the process.
    pub data_dir: Option<PathBuf>,
    /// What acknowledgements promise.
    pub policy: StorePolicy,
    /// With the policy `interval`.
    pub sync_interval: Duration,
    /// With less space, in bytes, what would be stored is refused.
    pub free_bytes_min: u64,
    /// Whether time between two boots of the machine counts for what expires.
    pub downtime: Downtime,
}

/// What acknowledgements promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorePolicy {
    /// Survival of power failures.
    Always,
    /// Survival of crashes; power failures take what came last.
    Interval,
    /// Nothing.
    None,
}

impl Default for StoreSettings {
    fn default() -> StoreSettings {
        StoreSettings {
            data_dir: None,
            policy: StorePolicy::Always,
            sync_interval: Duration::from_secs(1),
            free_bytes_min: 256 << 20,
            downtime: Downtime::Checked,
        }
    }
}

impl StoreSettings {
    /// The data directory, if it is used.
    pub fn place(&self) -> Option<&Path> {
        let data_dir = self.data_dir.as_deref();
        data_dir.filter(|_| self.policy != StorePolicy::None)
    }

    /// As the broker takes it.
    pub fn config(&self) -> Option<StoreConfig> {
        let policy = match self.policy {
            StorePolicy::Always => Policy::Always,
            StorePolicy::Interval => Policy::Interval(self.sync_interval),
            StorePolicy::None => return None,
        };
        Some(StoreConfig {
            data_dir: self.data_dir.clone()?,
            policy,
            free_bytes_min: self.free_bytes_min,
            downtime: self.downtime,
        })
    }
}

/// The rows of `[store]`.
pub const ROWS: &[Setting] = &[
    Setting {
        section: "store",
        key: "data_dir",
        flag: "data-dir",
        kind: Kind::Directory,
        auto: None,
        help: "Directory for sessions, their messages, and retained messages, which then survive crashes \
               and power failures: acknowledgements are sent once what they promise is on disk. It is made \
               if it does not exist. Empty: nothing outlives the process.",
        get: |settings| {
            let path = settings.store.data_dir.as_ref();
            Value::Text(path.map_or_else(String::new, |path| path.display().to_string()))
        },
        set: |settings, value| {
            let text = value.text();
            settings.store.data_dir = (!text.is_empty()).then(|| PathBuf::from(text));
        },
    },
    Setting {
        section: "store",
        key: "policy",
        flag: "store-policy",
        kind: Kind::Choice(&["always", "interval", "none"]),
        auto: None,
        help: "What acknowledgements promise, with a data directory. always: what they acknowledge survives \
               power failures. interval: it survives crashes of the broker; a power failure takes what came \
               in the last `sync_interval`. none: nothing is stored, as without a data directory.",
        get: |settings| {
            let word = match settings.store.policy {
                StorePolicy::Always => "always",
                StorePolicy::Interval => "interval",
                StorePolicy::None => "none",
            };
            Value::Text(word.to_owned())
        },
        set: |settings, value| {
            settings.store.policy = match value.text().as_str() {
                "always" => StorePolicy::Always,
                "interval" => StorePolicy::Interval,
                "none" => StorePolicy::None,
                other => unreachable!("{other} is not one of the choices"),
            };
        },
    },
    Setting {
        section: "store",
        key: "sync_interval",
        flag: "store-sync-interval",
        kind: Kind::Millis(range(1, MINUTE_MS)),
        auto: None,
        help: "With `policy = \"interval\"`: how often what was written is flushed to the disk.",
        get: |settings| {
            let millis = settings.store.sync_interval.as_millis();
            Value::Number(u64::try_from(millis).unwrap_or(u64::MAX))
        },
        set: |settings, value| {
            settings.store.sync_interval = Duration::from_millis(value.number());
        },
    },
    Setting {
        section: "store",
        key: "free_bytes_min",
        flag: "store-free-bytes-min",
        kind: Kind::Size(range(0, TIB)),
        auto: None,
        help: "With less free space on the file system of the data directory, or less than the next \
               checkpoints take up, messages that would be stored, retained messages and new sessions that \
               would be stored are refused (0x97) until there is room.",
        get: |settings| Value::Number(settings.store.free_bytes_min),
        set: |settings, value| settings.store.free_bytes_min = value.number(),
    },
    Setting {
        section: "store",
        key: "downtime",
        flag: "store-downtime",
        kind: Kind::Choice(&["checked", "counted", "ignored"]),
        auto: None,
        help: "Whether sessions and messages expire while the machine is down, which only its wall clock \
               can tell. checked: they do, and a start is refused if the clock contradicts the log: more \
               than a year later than its end, or more than a day earlier. counted: they do, whatever the \
               clock says. ignored: they do not, for machines without a clock.",
        get: |settings| {
            let word = match settings.store.downtime {
                Downtime::Checked => "checked",
                Downtime::Counted => "counted",
                Downtime::Ignored => "ignored",
            };
            Value::Text(word.to_owned())
        },
        set: |settings, value| {
            settings.store.downtime = match value.text().as_str() {
                "checked" => Downtime::Checked,
                "counted" => Downtime::Counted,
                "ignored" => Downtime::Ignored,
                other => unreachable!("{other} is not one of the choices"),
            };
        },
    },
];
