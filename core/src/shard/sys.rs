//! `$SYS`: what the broker says about itself, as retained messages.
//!
//! Once per `sys_interval` every shard publishes its own counts below `$SYS/broker/shards/N` and
//! reports to the first shard, which a moment later publishes the sums under the names that Mosquitto
//! uses, so that dashboards made for it work. The messages take the normal way: any shard may own a
//! topic and have its subscribers.
//!
//! Invariants:
//! - handling a report posts nothing (kinds of messages form a DAG): sums are published by a timer.
//! - a topic is published only when its text has changed.
//!
//! Not published although Mosquitto can: `connection/*/state` (there are no bridges) and `log/*`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::ShardMsg;
use super::deliver::Offering;
use super::event::ProcessCounts;
use super::metrics::{DropReason, Metrics};
use super::outbox::Outbox;
use super::refusal::Refusal;
use super::timers::Timer;
use crate::codec::QoS;
use crate::ids::{ClientKey, ShardId};
use crate::message::{Message, MessageParts};
use crate::time::Instant;

/// What a shard tells the one that adds up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    metrics: Metrics,
    holdings: Holdings,
}

/// What a shard holds, as far as it is known without a walk.
#[derive(Clone, Copy, Debug, Default)]
struct Holdings {
    sockets: u64,
    sessions: u64,
    connected: u64,
    subscriptions: u64,
    shared_subscriptions: u64,
    queued_messages: u64,
    queued_bytes: u64,
    inflight_bytes: u64,
    unsent_packets: u64,
    unsent_bytes: u64,
    retained_messages: u64,
    retained_bytes: u64,
}

/// The state of a shard's own publications, and of the sums on the first shard.
#[derive(Debug)]
pub struct Sys {
    /// Zero: nothing is published.
    interval: Duration,
    started_at: Option<Instant>,
    /// What each topic said last.
    last: BTreeMap<Box<str>, Box<str>>,
    /// What the shell counts; see [`Event::ShellCounted`](super::Event::ShellCounted).
    shell: Vec<(&'static str, u64)>,
    /// What it counts for all shards together; on the first shard only.
    process: Vec<(&'static str, u64)>,
    /// The last report of each shard; filled on the first shard only.
    reports: Vec<Report>,
    clients_max: u64,
    /// Connections accepted.
    sockets_opened: u64,
    /// Memory of the process, and the most that it was; `None`: not known.
    heap: Option<u64>,
    heap_max: Option<u64>,
    loads: Loads,
}

/// The shard that adds up.
const SUMMING: usize = 0;
/// Reports of one interval have arrived by then.
const LAG_MAX: Duration = Duration::from_millis(100);

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
    fn total_texts(&self, total: &Report, uptime_s: u64) -> Vec<(String, String)> {
        let Report { metrics, holdings } = total;
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
    fn next(&self, now: Instant) -> Instant {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(
            (now.as_nanos() / interval)
                .saturating_add(1)
                .saturating_mul(interval),
        )
    }

    fn lag(&self) -> Duration {
        LAG_MAX.min(self.interval / 8)
    }

    /// Keeps the texts that differ from what their topics said last.
    fn changed(&mut self, texts: Vec<(String, String)>) -> Vec<(String, String)> {
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

impl Shard {
    /// The interval is over: publishes what is this shard's own, and reports.
    pub(super) fn on_sys(&mut self, now: Instant, out: &mut Outbox) {
        if self.is_shutting_down {
            return;
        }
        let is_summing = self.config.id.index() == SUMMING;
        let is_first = self.sys.started_at.is_none();
        if is_first {
            self.sys.started_at = Some(now);
            self.sys.loads.updated_at = now;
            if is_summing {
                self.timers.set(now + self.sys.lag(), Timer::SysTotals);
            }
        }
        self.timers.set(self.sys.next(now), Timer::Sys);
        let texts = self.own_texts();
        self.publish_texts(now, texts, out);
        if !is_summing {
            let report = Box::new(self.report());
            out.post(ShardId::new(SUMMING), ShardMsg::Report(report));
        }
    }

    /// On the first shard, a moment later: publishes the sums.
    pub(super) fn on_sys_totals(&mut self, now: Instant, out: &mut Outbox) {
        if self.is_shutting_down {
            return;
        }
        self.timers
            .set(self.sys.next(now) + self.sys.lag(), Timer::SysTotals);
        self.sys.reports[SUMMING] = self.report();
        let mut total = Report::default();
        for report in &self.sys.reports {
            total.add(report);
        }
        self.sys.clients_max = self.sys.clients_max.max(total.holdings.sessions);
        // Reports of different moments may count a connection that moves twice, for a moment.
        let opened = total.metrics.sockets_opened();
        self.sys.sockets_opened = self.sys.sockets_opened.max(opened);
        self.sys.loads.update(now, &total.metrics);
        let started_at = self.sys.started_at.unwrap_or(now);
        let uptime_s = now.saturating_since(started_at).as_secs();
        let texts = self.sys.total_texts(&total, uptime_s);
        self.publish_texts(now, texts, out);
    }

    fn report(&self) -> Report {
        let held = self.dispatch.held;
        let unsent = self.dispatch.pool.unsent;
        Report {
            metrics: self.dispatch.metrics.clone(),
            holdings: Holdings {
                sockets: self.connections.len() as u64,
                sessions: self.dispatch.sessions.len() as u64,
                connected: self.connected_count,
                subscriptions: self.index.len() as u64,
                shared_subscriptions: self.dispatch.shares.local_count() as u64,
                queued_messages: held.queued_messages,
                queued_bytes: held.queued_bytes,
                inflight_bytes: held.inflight_bytes,
                unsent_packets: unsent.packets,
                unsent_bytes: unsent.bytes,
                retained_messages: self.retained.len() as u64,
                retained_bytes: self.retained.bytes(),
            },
        }
    }

    /// Below `$SYS/broker/shards/N`.
    fn own_texts(&self) -> Vec<(String, String)> {
        let Report { metrics, holdings } = self.report();
        let mut texts = Texts::new(format!("$SYS/broker/shards/{}/", self.config.id));
        texts.say("sockets", holdings.sockets);
        texts.say("sessions", holdings.sessions);
        texts.say("clients/connected", holdings.connected);
        texts.say("subscriptions", holdings.subscriptions);
        texts.say("shared_subscriptions", holdings.shared_subscriptions);
        texts.say("queued/messages", holdings.queued_messages);
        texts.say("queued/bytes", holdings.queued_bytes);
        texts.say("inflight/bytes", holdings.inflight_bytes);
        texts.say("unsent/packets", holdings.unsent_packets);
        texts.say("unsent/bytes", holdings.unsent_bytes);
        texts.say("retained/messages", holdings.retained_messages);
        texts.say("retained/bytes", holdings.retained_bytes);
        texts.say("handovers", metrics.handovers);
        texts.say("connects", metrics.connects);
        texts.say("connects_refused", metrics.connects_refused);
        texts.say("violations", metrics.violations);
        texts.say("takeovers", metrics.takeovers);
        texts.say("keep_alive_timeouts", metrics.keep_alive_timeouts);
        texts.say("wills", metrics.wills_published);
        texts.say("sessions_expired", metrics.sessions_expired);
        texts.say("messages/received", metrics.packets_received);
        texts.say("messages/sent", metrics.packets_sent());
        texts.say("bytes/received", metrics.bytes_received);
        texts.say("bytes/sent", metrics.bytes_sent);
        texts.say(
            "publish/messages/received",
            metrics.publishes_received.iter().sum(),
        );
        texts.say("publish/messages/sent", metrics.publishes_sent.iter().sum());
        texts.say("publish/bytes/received", metrics.payload_bytes_received);
        texts.say("publish/bytes/sent", metrics.payload_bytes_sent);
        texts.say("forwards/sent", metrics.forwards_sent);
        texts.say("forwards/received", metrics.forwards_received);
        texts.say("forwards/useless", metrics.forwards_useless);
        for reason in DropReason::ALL {
            let name = format!("dropped/{}", reason.name());
            texts.say(&name, metrics.dropped[reason as usize]);
        }
        for refusal in Refusal::ALL {
            let name = format!("refused/{}", refusal.name());
            texts.say(&name, metrics.refused.0[refusal as usize]);
        }
        for &(name, value) in &self.sys.shell {
            texts.say(&format!("reactor/{name}"), value);
        }
        texts.all
    }

    /// Publishes as the broker itself what has changed.
    fn publish_texts(&mut self, now: Instant, texts: Vec<(String, String)>, out: &mut Outbox) {
        for (topic, text) in self.sys.changed(texts) {
            let message = Arc::new(Message::new(MessageParts {
                topic: topic.as_bytes(),
                properties: &[],
                payload: text.as_bytes(),
                qos: QoS::ExactlyOnce,
                retain: true,
                expires_at: None,
                publisher: ClientKey::BROKER,
                author: None,
            }));
            let hash = self.routes.hash(message.topic());
            let routes = self.find_routes(message.topic(), hash);
            // A `topic_levels_max` below four, say, leaves no room for the longer names.
            let Ok(routes) = routes else { continue };
            self.publish_along(now, hash, routes, &mut Offering::of(&message), out);
        }
    }
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.metrics.add(&other.metrics);
        let (sum, more) = (&mut self.holdings, &other.holdings);
        sum.sockets += more.sockets;
        sum.sessions += more.sessions;
        sum.connected += more.connected;
        sum.shared_subscriptions += more.shared_subscriptions;
        sum.subscriptions += more.subscriptions;
        sum.queued_messages += more.queued_messages;
        sum.queued_bytes += more.queued_bytes;
        sum.inflight_bytes += more.inflight_bytes;
        sum.unsent_packets += more.unsent_packets;
        sum.unsent_bytes += more.unsent_bytes;
        sum.retained_messages += more.retained_messages;
        sum.retained_bytes += more.retained_bytes;
    }
}

/// Topics with a common beginning, and what they say.
struct Texts {
    prefix: String,
    all: Vec<(String, String)>,
}

impl Texts {
    fn new(prefix: String) -> Texts {
        Texts {
            prefix,
            all: Vec::new(),
        }
    }

    fn say(&mut self, name: &str, value: u64) {
        self.say_text(name, value.to_string());
    }

    fn say_text(&mut self, name: &str, text: String) {
        let mut topic = self.prefix.clone();
        topic += name;
        self.all.push((topic, text));
    }
}

/// Exponential moving averages, per minute.
#[derive(Debug, Default)]
struct Loads {
    updated_at: Instant,
    counts: [u64; Loads::NAMES.len()],
    averages: [[f64; 3]; Loads::NAMES.len()],
}

impl Loads {
    const MINUTES: [u32; 3] = [1, 5, 15];
    const NAMES: [&'static str; 9] = [
        "messages/received",
        "messages/sent",
        "publish/dropped",
        "publish/received",
        "publish/sent",
        "bytes/received",
        "bytes/sent",
        "sockets",
        "connections",
    ];

    fn update(&mut self, now: Instant, metrics: &Metrics) {
        let elapsed_s = now.saturating_since(self.updated_at).as_secs_f64();
        if elapsed_s == 0.0 {
            return;
        }
        let counts = [
            metrics.packets_received,
            metrics.packets_sent(),
            metrics.dropped.iter().sum(),
            metrics.publishes_received.iter().sum(),
            metrics.publishes_sent.iter().sum(),
            metrics.bytes_received,
            metrics.bytes_sent,
            metrics.sockets_opened(),
            metrics.connects,
        ];
        for (index, &count) in counts.iter().enumerate() {
            // Reports of different moments may make the sum of sockets go back.
            let grown = count.saturating_sub(self.counts[index]);
            let per_minute = grown as f64 * 60.0 / elapsed_s;
            for (minutes, average) in Loads::MINUTES.iter().zip(&mut self.averages[index]) {
                let kept = (-elapsed_s / (60.0 * f64::from(*minutes))).exp();
                *average = per_minute + kept * (*average - per_minute);
            }
        }
        self.counts = counts;
        self.updated_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_approach_the_rate_per_minute_each_at_its_own_pace() {
        let mut loads = Loads::default();
        let mut metrics = Metrics::default();
        for step in 1..=90 {
            metrics.bytes_received += 100;
            loads.update(Instant::from_nanos(step * 10_000_000_000), &metrics);
            if step == 6 {
                // One minute: 1 - 1/e of 600 per minute.
                assert!((loads.averages[5][0] - 379.27).abs() < 0.01);
            }
        }
        let [one, five, fifteen] = loads.averages[5];
        assert!((one - 600.0).abs() < 0.01, "{one}");
        assert!((five - 570.13).abs() < 0.01, "{five}");
        assert!((fifteen - 379.27).abs() < 0.01, "{fifteen}");
    }
}
