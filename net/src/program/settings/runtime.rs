//! The settings of sections `[runtime]` and `[log]`.

use std::time::Duration;

use ringmq::Wait;
use ringmq_core::ids::ShardId;

use super::value::{Kind, Value};
use super::{IN_RANGE, Setting, range};

/// What the shards are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// To cores that the process has for itself.
    Auto,
    /// To nothing.
    None,
    /// To one of these each; never empty.
    Listed(Vec<usize>),
}

/// The rows of these sections.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        section: "runtime",
        key: "shards",
        flag: "shards",
        kind: Kind::Count(range(1, ShardId::COUNT_MAX as u64)),
        auto: Some("one per core in `cores`, or per core that the process may use"),
        help: "Number of shards: threads, each on a core of its own, that share the clients.",
        get: |settings| {
            settings
                .shards
                .map_or(Value::Auto, |n| Value::Number(n as u64))
        },
        set: |settings, value| {
            let number = value.number_or_auto();
            settings.shards = number.map(|n| n.try_into().expect(IN_RANGE));
        },
    },
    Setting {
        section: "runtime",
        key: "cores",
        flag: "cores",
        kind: Kind::Cores,
        auto: Some(
            "the cores that the process is confined to, by a cpuset or an affinity mask; none if \
             it is not",
        ),
        help: "Cores that the shards are pinned to, such as 0-3,6: one for each shard. none: the \
               kernel moves shards about, away from cores on which other programs run.",
        get: |settings| match &settings.cores {
            Cores::Auto => Value::Auto,
            Cores::None => Value::Cores(Vec::new()),
            Cores::Listed(cores) => Value::Cores(cores.clone()),
        },
        set: |settings, value| {
            settings.cores = match value.cores_or_auto() {
                None => Cores::Auto,
                Some(cores) if cores.is_empty() => Cores::None,
                Some(cores) => Cores::Listed(cores),
            };
        },
    },
    Setting {
        section: "runtime",
        key: "inbox_messages_max",
        flag: "inbox-messages-max",
        kind: Kind::Count(range(64, 16_777_216)),
        auto: None,
        help: "Maximum number of messages from other shards that wait for one shard. Shards that \
               find it full stop reading from their clients until there is room.",
        get: |settings| Value::Number(settings.inbox_messages_max as u64),
        set: |settings, value| {
            settings.inbox_messages_max = value.number().try_into().expect(IN_RANGE);
        },
    },
    Setting {
        section: "runtime",
        key: "ring_entries",
        flag: "ring-entries",
        kind: Kind::Count(range(64, 32_768)),
        auto: None,
        help: "Socket operations that a shard submits to the kernel in one system call.",
        get: |settings| Value::Number(settings.ring.entries.into()),
        set: |settings, value| {
            settings.ring.entries = value.number().try_into().expect(IN_RANGE);
        },
    },
    Setting {
        section: "runtime",
        key: "receive_buffers",
        flag: "receive-buffers",
        kind: Kind::PowerOfTwo(range(16, 32_768)),
        auto: None,
        help: "Receive buffers of a shard, shared by its connections. Memory is allocated on first \
               use.",
        get: |settings| Value::Number(settings.ring.buffers_count.into()),
        set: |settings, value| {
            settings.ring.buffers_count = value.number().try_into().expect(IN_RANGE);
        },
    },
    Setting {
        section: "runtime",
        key: "receive_buffer_size",
        flag: "receive-buffer-size",
        kind: Kind::Size(range(512, 1 << 20)),
        auto: None,
        help: "Size of a receive buffer.",
        get: |settings| Value::Number(settings.ring.buffer_size.into()),
        set: |settings, value| {
            settings.ring.buffer_size = value.number().try_into().expect(IN_RANGE);
        },
    },
    Setting {
        section: "runtime",
        key: "ring_wait",
        flag: "ring-wait",
        kind: Kind::Choice(&["ring", "executor"]),
        auto: None,
        help: "Where an idle shard sleeps: in its own ring, which takes the fewest system calls, \
               or in the executor, which can then run other tasks. For measurements.",
        get: |settings| {
            let word = match settings.ring.wait {
                Wait::Ring => "ring",
                Wait::Executor => "executor",
            };
            Value::Text(word.to_owned())
        },
        set: |settings, value| {
            settings.ring.wait = match value.text().as_str() {
                "ring" => Wait::Ring,
                "executor" => Wait::Executor,
                other => unreachable!("{other} is not one of the choices"),
            };
        },
    },
    Setting {
        section: "runtime",
        key: "busy_poll_us",
        flag: "busy-poll-us",
        kind: Kind::Count(range(0, 1000)),
        auto: None,
        help: "Microseconds that an idle shard polls for work before it sleeps. Saves the wake-up, \
               and takes up to a whole core above some 10,000 messages per second; 0: none. Not \
               with `ring_wait = \"executor\"`.",
        get: |settings| Value::Number(settings.ring.busy_poll.as_micros() as u64),
        set: |settings, value| settings.ring.busy_poll = Duration::from_micros(value.number()),
    },
    Setting {
        section: "runtime",
        key: "sys_interval",
        flag: "sys-interval",
        kind: Kind::Seconds(range(0, 24 * 3600)),
        auto: None,
        help: "How often counters that have changed are published below `$SYS`; 0 turns it off.",
        get: |settings| Value::Number(settings.sys_interval.as_secs()),
        set: |settings, value| settings.sys_interval = Duration::from_secs(value.number()),
    },
    Setting {
        section: "log",
        key: "filter",
        flag: "log",
        kind: Kind::LogFilter,
        auto: None,
        help: "Log level: off, error, warn, info, debug or trace; or by module, such as \
               info,ringmq::probe=debug. Messages are logged one by one at debug and trace only.",
        get: |settings| Value::Text(settings.log_filter.clone()),
        set: |settings, value| settings.log_filter = value.text(),
    },
    Setting {
        section: "log",
        key: "format",
        flag: "log-format",
        kind: Kind::Choice(&["text", "json"]),
        auto: None,
        help: "Format of log lines: plain text, or one JSON object per line.",
        get: |settings| Value::Text(settings.log_format.clone()),
        set: |settings, value| settings.log_format = value.text(),
    },
];
