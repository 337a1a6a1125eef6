//! State that `$SYS` keeps between two reports.

use super::report::{Loads, Report};
use super::texts::Texts;
use crate::ids::ShardId;
use crate::shard::mail::event::ProcessCounts;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The state of a shard's own publications, and of the sums on the first shard.
#[derive(Debug)]
pub struct Sys {
    /// Zero: nothing is published.
    interval: Duration,
    pub(in crate::shard) started_at: Option<Instant>,
    /// What each topic said last.
    last: BTreeMap<Box<str>, Box<str>>,
    /// What the shell counts; see [`Event::ShellCounted`](crate::shard::Event::ShellCounted).
    pub(in crate::shard) shell: Vec<(&'static str, u64)>,
    /// What it counts for all shards together; on the first shard only.
    process: Vec<(&'static str, u64)>,
    /// The last report of each shard; filled on the first shard only.
    pub(in crate::shard) reports: Vec<Report>,
    pub(in crate::shard) clients_max: u64,
    /// Connections accepted.
    pub(in crate::shard) sockets_opened: u64,
    /// Memory of the process, and the most that it was; `None`: not known.
    heap: Option<u64>,
    heap_max: Option<u64>,
    pub(in crate::shard) loads: Loads,
}

impl Sys {
    /// Of a broker with `shards` shards.
    pub fn new(interval: Duration, id: ShardId, shards: usize) -> Sys {
        let is_summing = interval > Duration::ZERO && id.index() == SUMMING;
        Sys {
            interval,
            started_at: None,
            last: BTreeMap::new(),
            shell: Vec::new(),
            process: Vec::new(),
            reports: vec![Report::default(); if is_summing { shards } else { 0 }],
            clients_max: 0,
            sockets_opened: 0,
            heap: None,
            heap_max: None,
            loads: Loads::default(),
        }
    }

    /// Panics if an invariant does not hold.
    pub fn assert_invariants(&self) {
        let is_idle = self.last.is_empty() && self.reports.is_empty();
        assert!(
            self.is_on() || is_idle,
            "who publishes nothing keeps nothing"
        );
        assert!(self.heap <= self.heap_max, "the maximum is one");
    }

    /// Something is published at all.
    pub fn is_on(&self) -> bool {
        self.interval > Duration::ZERO
    }

    /// Takes over what the shell counted.
    pub fn note_shell(
        &mut self,
        counts: &[(&'static str, u64)],
        process: Option<ProcessCounts<'_>>,
    ) {
        if self.is_on() {
            let process = process.unwrap_or_default();
            self.heap_max = self.heap_max.max(process.memory_bytes);
            self.heap = process.memory_bytes;
            self.shell.clear();
            self.shell.extend_from_slice(counts);
            self.process.clear();
            self.process.extend_from_slice(process.counts);
        }
    }

    /// Notes a report of another shard; nothing is published for it.
    pub fn note_report(&mut self, from: ShardId, report: Report) {
        if let Some(slot) = self.reports.get_mut(from.index()) {
            *slot = report;
        }
    }

    /// The topics of Mosquitto, old names too.
    pub(in crate::shard) fn total_texts(
        &self,
        total: &Report,
        uptime_s: u64,
    ) -> Vec<(String, String)> {
        let Report {
            metrics, holdings, ..
        } = total;
        let mut texts = Texts::new("$SYS/broker/".to_owned());
        let version = format!("ringmq version {}", env!("CARGO_PKG_VERSION"));
        texts.say_text("version", version);
        texts.say_text("uptime", format!("{uptime_s} seconds"));
        let away = holdings.sessions.saturating_sub(holdings.connected);
        let stored = holdings.queued_messages + holdings.retained_messages;
        texts.say("clients/total", holdings.sessions);
        texts.say("clients/maximum", self.clients_max);
        texts.say("clients/connected", holdings.connected);
        texts.say("clients/active", holdings.connected);
        texts.say("clients/disconnected", away);
        texts.say("clients/inactive", away);
        texts.say("clients/expired", metrics.sessions_expired);
        texts.say("messages/stored", stored);
        texts.say("store/messages/count", stored);
        texts.say(
            "store/messages/bytes",
            holdings.queued_bytes + holdings.inflight_bytes + holdings.retained_bytes,
        );
        texts.say("subscriptions/count", holdings.subscriptions);
        texts.say("shared_subscriptions/count", holdings.shared_subscriptions);
        texts.say("retained messages/count", holdings.retained_messages);
        texts.say("messages/received", metrics.packets_received);
        texts.say("messages/sent", metrics.packets_sent());
        texts.say("bytes/received", metrics.bytes_received);
        texts.say("bytes/sent", metrics.bytes_sent);
        texts.say("publish/bytes/received", metrics.payload_bytes_received);
        texts.say("publish/bytes/sent", metrics.payload_bytes_sent);
        texts.say(
            "publish/messages/received",
            metrics.publishes_received.iter().sum(),
        );
        texts.say("publish/messages/sent", metrics.publishes_sent.iter().sum());
        texts.say("publish/messages/dropped", metrics.dropped.iter().sum());
        texts.say("packet/out/count", holdings.unsent_packets);
        texts.say("packet/out/bytes", holdings.unsent_bytes);
        texts.say("connections/socket/count", self.sockets_opened);
        if let (Some(heap), Some(heap_max)) = (self.heap, self.heap_max) {
            texts.say("heap/current", heap);
            texts.say("heap/maximum", heap_max);
        }
        for &(name, value) in &self.process {
            texts.say(name, value);
        }
        for (name, load) in Loads::NAMES.iter().zip(&self.loads.averages) {
            for (minutes, average) in Loads::MINUTES.iter().zip(load) {
                let mut text = String::new();
                write!(text, "{average:.2}").expect("a string takes everything");
                texts.say_text(&format!("load/{name}/{minutes}min"), text);
            }
        }
        texts.all
    }

    /// The next multiple of the interval: all shards speak at the same time.
    pub(in crate::shard) fn next(&self, now: Instant) -> Instant {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(
            (now.as_nanos() / interval)
                .saturating_add(1)
                .saturating_mul(interval),
        )
    }

    pub(in crate::shard) fn lag(&self) -> Duration {
        LAG_MAX.min(self.interval / 8)
    }

    /// Keeps the texts that differ from what their topics said last.
    pub(in crate::shard) fn changed(
        &mut self,
        texts: Vec<(String, String)>,
    ) -> Vec<(String, String)> {
        let mut changed = texts;
        changed.retain(|(topic, text)| {
            if self
                .last
                .get(topic.as_str())
                .is_some_and(|last| **last == **text)
            {
                return false;
            }
            self.last
                .insert(topic.as_str().into(), text.as_str().into());
            true
        });
        changed
    }
}

/// The shard that adds up.
pub(in crate::shard) const SUMMING: usize = 0;

/// Reports of one interval have arrived by then.
const LAG_MAX: Duration = Duration::from_millis(100);
