//! The rows.

use std::time::UNIX_EPOCH;

use ringmq_core::refusal::Refusal;
use ringmq_core::shard::DropReason;
use ringmq_core::stages::Stage;

use super::{Kind, Metric, Place, Samples, Value};
use crate::admin::asker::ShardState;
use crate::admin::scene::Scene;
use crate::admin::stalls::{Kind as StallKind, Total};

/// A row.
macro_rules! row {
    ($place:ident $kind:ident $name:literal [$($label:literal),*] $help:literal, $read:expr) => {
        Metric {
            place: Place::$place,
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
            read: $read,
        }
    };
}

/// A row with one sample for each shard.
macro_rules! by_shard {
    ($place:ident $kind:ident $name:literal $help:literal, $read:expr) => {
        row!($place $kind $name ["shard"] $help, |scene, out| {
            let read: fn(&ShardState) -> u64 = $read;
            for (index, shard) in scene.shards.iter().enumerate() {
                out.say_of([&index.to_string()], read(shard));
            }
        })
    };
}

/// All metrics, in the order of the endpoints and the manual.
pub(in crate::admin) static TABLE: &[Metric] = &[
    row!(Small Gauge "ringmq_build_info" ["version"] "Always 1; says what runs.", |scene, out| {
        out.say_of([scene.facts.version], 1);
    }),
    row!(Small Gauge "ringmq_start_time_seconds" [] "When the broker started, since 1970.",
    |scene, out| {
        let since = scene.facts.started_at.duration_since(UNIX_EPOCH);
        out.say(since.unwrap_or_default().as_secs_f64());
    }),
    row!(Small Gauge "ringmq_shards" [] "Shards.", |scene, out| {
        out.say(scene.shards.len() as u64);
    }),
    row!(Small Gauge "ringmq_ready" [] "1 if every shard answers and the broker is neither stopping nor drained.",
        |scene, out| out.say(u64::from(scene.is_ready()))),
    row!(Small Gauge "ringmq_draining" [] "1 if an operator has the clients leave.",
        |scene, out| out.say(u64::from(scene.is_draining))),
    // Connections.
    row!(Small Gauge "ringmq_connections" [] "Connections in any state.", |scene, out| {
        out.say(scene.total.holdings.sockets);
    }),
    row!(Small Gauge "ringmq_connections_max" [] "Connections that there may be.", |scene, out| {
        out.say(scene.facts.connections_max);
    }),
    row!(Small Counter "ringmq_connections_accepted" [] "Connections that listeners accepted.",
        |scene, out| out.say(scene.counts.accepted)),
    row!(Small Counter "ringmq_connections_refused" []
        "Connections closed at once, because the connection limit was reached.",
        |scene, out| out.say(scene.counts.refused)),
    row!(Small Counter "ringmq_connections_closed" [] "Connections closed.",
        |scene, out| out.say(scene.counts.closed)),
    row!(Small Counter "ringmq_connects" ["result"]
    "CONNECT packets answered: accepted, refused.",
    |scene, out| {
        out.say_of(["accepted"], scene.total.metrics.connects);
        out.say_of(["refused"], scene.total.metrics.connects_refused);
    }),
    row!(Small Counter "ringmq_transports_failed" []
        "Connections ended by a layer below MQTT: PROXY, TLS, WebSocket.",
        |scene, out| out.say(scene.counts.transports_failed)),
    row!(Small Counter "ringmq_tls_handshakes" ["result"]
    "TLS handshakes completed: full, resumed.",
    |scene, out| {
        let (all, resumed) = (scene.counts.tls_handshakes, scene.counts.tls_resumed);
        out.say_of(["full"], all.saturating_sub(resumed));
        out.say_of(["resumed"], resumed);
    }),
    row!(Small Gauge "ringmq_certificate_expiry_timestamp_seconds" ["listener"]
    "When the first certificate of a listener ends, since 1970.",
    |scene, out| {
        for (listener, ends) in &scene.certificates {
            out.say_of([listener], ends.as_secs());
        }
    }),
    row!(Small Counter "ringmq_hook_requests" ["hook", "result"]
        "Requests to hooks, by what came of them.", hook_requests),
    row!(Small Counter "ringmq_login_overflows" ["queue"]
    "Clients refused because too many waited for a password or token, or for a hook.",
    |scene, out| {
        out.say_of(["logins"], scene.tally("logins/overflows"));
        out.say_of(["hooks"], scene.tally("hooks/overflows"));
    }),
    // Sessions.
    row!(Small Gauge "ringmq_sessions" ["state"] "Sessions: connected, away.", |scene, out| {
        let holdings = &scene.total.holdings;
        out.say_of(["connected"], holdings.connected);
        out.say_of(["away"], holdings.sessions.saturating_sub(holdings.connected));
    }),
    row!(Small Counter "ringmq_sessions_expired" [] "Sessions that expired.",
        |scene, out| out.say(scene.total.metrics.sessions_expired)),
    row!(Small Counter "ringmq_takeovers" [] "Sessions taken over by a second connection.",
        |scene, out| out.say(scene.total.metrics.takeovers)),
    row!(Small Counter "ringmq_keep_alive_timeouts" [] "Clients lost to their keep alive.",
        |scene, out| out.say(scene.total.metrics.keep_alive_timeouts)),
    row!(Small Gauge "ringmq_subscriptions" ["kind"] "Subscriptions: plain, shared.",
    |scene, out| {
        out.say_of(["plain"], scene.total.holdings.subscriptions);
        out.say_of(["shared"], scene.total.holdings.shared_subscriptions);
    }),
    // Packets and messages.
    row!(Small Counter "ringmq_packets" ["direction"] "Packets of every kind: in, out.",
    |scene, out| {
        out.say_of(["in"], scene.total.metrics.packets_received);
        out.say_of(["out"], scene.total.metrics.packets_sent());
    }),
    row!(Small Counter "ringmq_bytes" ["direction"]
    "Bytes of MQTT, without TLS and WebSocket: in, out.",
    |scene, out| {
        out.say_of(["in"], scene.total.metrics.bytes_received);
        out.say_of(["out"], scene.total.metrics.bytes_sent);
    }),
    row!(Small Counter "ringmq_publishes" ["direction", "qos"] "PUBLISH packets.", |scene, out| {
        let metrics = &scene.total.metrics;
        for (direction, counts) in
            [("in", &metrics.publishes_received), ("out", &metrics.publishes_sent)]
        {
            for (qos, count) in ["0", "1", "2"].into_iter().zip(counts) {
                out.say_of([direction, qos], *count);
            }
        }
    }),
    row!(Small Counter "ringmq_payload_bytes" ["direction"] "Payload of PUBLISH packets: in, out.",
    |scene, out| {
        out.say_of(["in"], scene.total.metrics.payload_bytes_received);
        out.say_of(["out"], scene.total.metrics.payload_bytes_sent);
    }),
    row!(Small Counter "ringmq_wills_published" [] "Wills published.",
        |scene, out| out.say(scene.total.metrics.wills_published)),
    row!(Small Counter "ringmq_messages_dropped" ["reason"]
    "Messages that a subscriber misses; missing-messages.md explains the reasons.",
    |scene, out| {
        for reason in DropReason::ALL {
            let count = scene.total.metrics.dropped[reason as usize];
            out.say_of([reason.name()], count);
        }
    }),
    row!(Small Counter "ringmq_refused" ["reason"]
    "What clients wanted and did not get; limits.md lists the reasons.",
    |scene, out| {
        for refusal in Refusal::ALL {
            let count = scene.total.metrics.refused.0[refusal as usize];
            out.say_of([refusal.name()], count);
        }
    }),
    // What is held.
    row!(Small Gauge "ringmq_retained_messages" [] "Retained messages.",
        |scene, out| out.say(scene.total.holdings.retained_messages)),
    row!(Small Gauge "ringmq_retained_bytes" [] "Memory of the retained messages.",
        |scene, out| out.say(scene.total.holdings.retained_bytes)),
    row!(Small Gauge "ringmq_queued_messages" [] "Messages in the queues of clients.",
        |scene, out| out.say(scene.total.holdings.queued_messages)),
    row!(Small Gauge "ringmq_queued_bytes" [] "Memory of the messages in queues.",
        |scene, out| out.say(scene.total.holdings.queued_bytes)),
    row!(Small Gauge "ringmq_inflight_bytes" []
        "Memory of messages that were sent, and are kept until they are acknowledged.",
        |scene, out| out.say(scene.total.holdings.inflight_bytes)),
    row!(Small Gauge "ringmq_unsent_packets" [] "Packets that wait for slow sockets.",
        |scene, out| out.say(scene.total.holdings.unsent_packets)),
    row!(Small Gauge "ringmq_unsent_bytes" [] "Bytes that wait for slow sockets.",
        |scene, out| out.say(scene.total.holdings.unsent_bytes)),
    // The broker itself.
    row!(Small Counter "ringmq_reloads" ["result"] "Reloads of the configuration: done, failed.",
    |scene, out| {
        out.say_of(["done"], scene.tally("reloads/done"));
        out.say_of(["failed"], scene.tally("reloads/failed"));
    }),
    row!(Small Gauge "ringmq_settings_warnings" []
    "Warnings of the last start or reload: certificates that end within 30 days, secrets that everybody may read.",
    |scene, out| out.say(scene.facts.tallies.warnings())),
    row!(Small Counter "ringmq_admin_requests" ["route", "status"]
    "Requests to the control plane.",
    |scene, out| {
        for ((route, status), count) in &scene.requests {
            out.say_of([route, &status.to_string()], *count);
        }
    }),
    row!(Small Histogram "ringmq_stage_duration_seconds" ["stage"]
    "How long things take, by stage of their way; operations.md explains the stages.",
    |scene, out| {
        if let Some(stages) = &scene.total.stages {
            Stage::ALL.iter().for_each(|stage| out.say_of([stage.name()], stages.of(*stage)));
        }
    }),
    by_shard!(Small Gauge "ringmq_shard_connections" "Connections of a shard.", |shard| {
        shard.report.as_ref().map_or(0, |report| report.holdings.sockets)
    }),
    by_shard!(Small Gauge "ringmq_shard_inbox_messages"
        "Messages of other shards that wait for this one.", |shard| shard.inbox_messages),
    by_shard!(Small Gauge "ringmq_shard_responding"
        "1 if the shard answered within a second; otherwise what it counts is older.",
        |shard| u64::from(shard.is_responding)),
    row!(Small Counter "ringmq_shard_cpu_seconds" ["shard"] "Time that a shard ran on a core.",
        |scene, out| schedule(scene, out, |cpu, _| cpu)),
    row!(Small Counter "process_cpu_seconds" [] "Time that the process ran on cores.",
        |scene, out| known(out, scene.process.cpu_s)),
    row!(Small Gauge "process_resident_memory_bytes" [] "Memory of the process.",
        |scene, out| known(out, scene.process.resident_bytes)),
    row!(Small Gauge "process_open_fds" [] "File descriptors in use.",
        |scene, out| known(out, scene.process.open_fds)),
    row!(Small Gauge "process_max_fds" [] "File descriptors that the process may use.",
        |scene, out| known(out, scene.process.max_fds)),
    row!(Small Gauge "process_start_time_seconds" [] "When the process started, since 1970.",
        |scene, out| known(out, scene.process.started_s)),
    // By shard.
    row!(Shards Counter "ringmq_shard_runnable_seconds" ["shard"]
        "Time that a shard was ready to run, without a core.",
        |scene, out| schedule(scene, out, |_, runnable| runnable)),
    by_shard!(Shards Counter "ringmq_shard_turns" "Turns of its reactor.",
        |shard| shard.counts.turns),
    by_shard!(Shards Counter "ringmq_shard_parks" "Times that it went to sleep.",
        |shard| shard.counts.parks),
    by_shard!(Shards Counter "ringmq_shard_completions" "Completions of io_uring.",
        |shard| shard.counts.completions),
    by_shard!(Shards Counter "ringmq_shard_receives" "Chunks received.",
        |shard| shard.counts.receives),
    by_shard!(Shards Counter "ringmq_shard_sends" "Sends started.", |shard| shard.counts.sends),
    by_shard!(Shards Counter "ringmq_shard_short_sends" "Sends that took a part of an output.",
        |shard| shard.counts.short_sends),
    row!(Shards Counter "ringmq_shard_packets" ["shard", "direction"]
    "Packets of every kind: in, out.",
    |scene, out| in_and_out(scene, out, |shard| {
        let metrics = &shard.report.as_ref()?.metrics;
        Some([metrics.packets_received, metrics.packets_sent()])
    })),
    row!(Shards Counter "ringmq_shard_forwards" ["shard", "direction"]
    "Messages from other shards and to them: in, out.",
    |scene, out| in_and_out(scene, out, |shard| {
        let metrics = &shard.report.as_ref()?.metrics;
        Some([metrics.forwards_received, metrics.forwards_sent])
    })),
    by_shard!(Shards Counter "ringmq_shard_forwards_useless"
    "Messages from other shards that no subscription here wanted.", |shard| {
        shard.report.as_ref().map_or(0, |report| report.metrics.forwards_useless)
    }),
    by_shard!(Shards Counter "ringmq_shard_handovers"
        "Connections that moved to another shard.", |shard| shard.counts.moved),
    by_shard!(Shards Counter "ringmq_shard_inbox_full"
        "Times that a full inbox of another shard stopped this one from reading its sockets.",
        |shard| shard.counts.stalls),
    by_shard!(Shards Counter "ringmq_shard_ring_overflows"
        "Times that the completion queue was too small.", |shard| shard.counts.overflows),
    by_shard!(Shards Counter "ringmq_shard_buffers_exhausted"
        "Receives that found no free buffer.", |shard| shard.counts.buffers_exhausted),
    by_shard!(Shards Counter "ringmq_shard_reads_paused"
        "Times that reading a connection paused, because it did not read its responses.",
        |shard| shard.counts.reads_paused),
    row!(Shards Counter "ringmq_shard_stalls" ["shard", "kind"]
        "Turns that took too long: running, waiting for a core, blocked in the kernel.",
        |scene, out| stalls(scene, out, |total| total.count.into())),
    row!(Shards Counter "ringmq_shard_stall_seconds" ["shard", "kind"]
        "How long these turns took.",
        |scene, out| stalls(scene, out, |total| total.took.as_secs_f64().into())),
    row!(Shards Counter "ringmq_shard_dropped" ["shard", "reason"]
    "Messages that a subscriber of the shard misses.",
    |scene, out| {
        for (index, shard) in scene.shards.iter().enumerate() {
            let Some(report) = &shard.report else { continue };
            for reason in DropReason::ALL {
                let count = report.metrics.dropped[reason as usize];
                out.say_of([&index.to_string(), reason.name()], count);
            }
        }
    }),
    row!(Shards Histogram "ringmq_shard_stage_duration_seconds" ["shard", "stage"]
    "The same for each shard.",
    |scene, out| {
        for (index, shard) in scene.shards.iter().enumerate() {
            let stages = shard.report.as_ref().and_then(|report| report.stages.as_ref());
            let Some(stages) = stages else { continue };
            for stage in Stage::ALL {
                out.say_of([&index.to_string(), stage.name()], stages.of(stage));
            }
        }
    }),
];

/// Those that have names of two levels, such as `hooks/authentication/denied`.
fn hook_requests(scene: &Scene, out: &mut Samples) {
    for (name, count) in &scene.tallies {
        let parts = name
            .strip_prefix("hooks/")
            .and_then(|rest| rest.split_once('/'));
        if let Some((hook, result)) = parts {
            out.say_of([hook, result], *count);
        }
    }
}

fn stalls(scene: &Scene, out: &mut Samples, read: fn(&Total) -> Value) {
    for (index, totals) in scene.stalls.iter().enumerate() {
        for (kind, total) in StallKind::ALL.iter().zip(totals) {
            out.say_of([&index.to_string(), kind.name()], read(total));
        }
    }
}

fn known(out: &mut Samples, value: Option<impl Into<super::Value>>) {
    if let Some(value) = value {
        out.say(value);
    }
}

/// In seconds, as far as the kernel tells.
fn schedule(scene: &Scene, out: &mut Samples, choose: fn(f64, f64) -> f64) {
    for (index, shard) in scene.shards.iter().enumerate() {
        if let Some(schedule) = shard.schedule {
            let (cpu, runnable) = (schedule.cpu, schedule.runnable);
            let seconds = choose(cpu.as_secs_f64(), runnable.as_secs_f64());
            out.say_of([&index.to_string()], seconds);
        }
    }
}

fn in_and_out(scene: &Scene, out: &mut Samples, read: fn(&ShardState) -> Option<[u64; 2]>) {
    for (index, shard) in scene.shards.iter().enumerate() {
        for (direction, count) in ["in", "out"]
            .into_iter()
            .zip(read(shard).into_iter().flatten())
        {
            out.say_of([&index.to_string(), direction], count);
        }
    }
}
