//! `$SYS`: the broker's own counters, as retained messages.
//!
//! Once per `sys_interval` every shard publishes its counters below `$SYS/broker/shards/N` and
//! reports to the first shard, which shortly afterwards publishes the sums under Mosquitto's names,
//! so that existing dashboards work. The messages take the normal path: any shard may own a topic
//! and have its subscribers.
//!
//! Invariants:
//! - handling a report posts nothing (kinds of messages form a DAG): sums are published by a timer.
//! - a topic is published only when its text has changed.
//!
//! Not published, unlike Mosquitto: `connection/*/state` (there are no bridges) and `log/*`.

use super::report::Holdings;
use super::report::Report;
use super::state::SUMMING;
use super::texts::Texts;
use std::sync::Arc;

use crate::codec::QoS;
use crate::ids::{ClientKey, ShardId};
use crate::loss::DropReason;
use crate::message::{Message, MessageParts};
use crate::refusal::Refusal;
use crate::shard::Shard;
use crate::shard::ShardMsg;
use crate::shard::delivery::dispatch::Outgoing;
use crate::shard::mail::turn::Turn;
use crate::shard::timers::Timer;
use crate::stages::Stamp;

impl Shard {
    /// The interval is over: publishes what is this shard's own, and reports.
    pub(in crate::shard) fn on_sys(&mut self, turn: &mut Turn<'_>) {
        if self.is_shutting_down {
            return;
        }
        let is_summing = self.config.id.index() == SUMMING;
        let is_first = self.sys.started_at.is_none();
        if is_first {
            self.sys.started_at = Some(turn.now);
            self.sys.loads.updated_at = turn.now;
            if is_summing {
                self.timers.set(turn.now + self.sys.lag(), Timer::SysTotals);
            }
        }
        self.timers.set(self.sys.next(turn.now), Timer::Sys);
        let texts = self.own_texts();
        self.publish_texts(texts, turn);
        if !is_summing {
            let report = Box::new(self.report());
            turn.out
                .post(ShardId::new(SUMMING), ShardMsg::Report(report));
        }
    }

    /// On the first shard, a moment later: publishes the sums.
    pub(in crate::shard) fn on_sys_totals(&mut self, turn: &mut Turn<'_>) {
        if self.is_shutting_down {
            return;
        }
        self.timers
            .set(self.sys.next(turn.now) + self.sys.lag(), Timer::SysTotals);
        self.sys.reports[SUMMING] = self.report();
        let mut total = Report::default();
        for report in &self.sys.reports {
            total.add(report);
        }
        self.sys.clients_max = self.sys.clients_max.max(total.holdings.sessions);
        // Reports are from different moments: a connection that moves may briefly count twice.
        let opened = total.metrics.sockets_opened();
        self.sys.sockets_opened = self.sys.sockets_opened.max(opened);
        self.sys.loads.update(turn.now, &total.metrics);
        let started_at = self.sys.started_at.unwrap_or(turn.now);
        let uptime_s = turn.now.saturating_since(started_at).as_secs();
        let texts = self.sys.total_texts(&total, uptime_s);
        self.publish_texts(texts, turn);
    }

    /// What the shard has counted and holds, without a walk.
    pub(in crate::shard) fn report(&self) -> Report {
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
            stages: None,
            sizes: None,
        }
    }

    /// Below `$SYS/broker/shards/N`.
    fn own_texts(&self) -> Vec<(String, String)> {
        let Report {
            metrics, holdings, ..
        } = self.report();
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
    fn publish_texts(&mut self, texts: Vec<(String, String)>, turn: &mut Turn<'_>) {
        for (topic, text) in self.sys.changed(texts) {
            let message = Arc::new(Message::new(
                MessageParts {
                    topic: topic.as_bytes(),
                    properties: &[],
                    payload: text.as_bytes(),
                    qos: QoS::ExactlyOnce,
                    retain: true,
                    expires_at: None,
                    publisher: ClientKey::BROKER,
                    author: None,
                },
                Stamp::of(turn.now),
            ));
            let hash = self.routes.hash(message.topic());
            let routes = self.find_routes(message.topic(), hash);
            // With a `topic_levels_max` below four, say, longer names are not valid.
            let Ok(routes) = routes else { continue };
            self.publish_along(hash, routes, &mut Outgoing::of(&message), turn);
        }
    }
}
