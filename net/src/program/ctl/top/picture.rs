//! What `top` knows: the last look at the broker and the one before, and what follows from both.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::ctl::ClientsBy;

/// The broker at a moment.
#[derive(Debug)]
pub(super) struct Look {
    at: Instant,
    pub(super) broker: Broker,
    pub(super) shards: Vec<Shard>,
    pub(super) clients: Clients,
}

/// As a whole.
#[derive(Debug, Deserialize)]
pub(super) struct Broker {
    pub(super) version: String,
    pub(super) uptime_s: u64,
    pub(super) ready: bool,
    pub(super) connections: u64,
    pub(super) connections_max: u64,
    pub(super) sessions: u64,
    pub(super) queued_messages: u64,
    pub(super) publishes_received: u64,
    pub(super) publishes_sent: u64,
    pub(super) messages_dropped: u64,
}

/// One of its shards.
#[derive(Debug, Deserialize)]
pub(super) struct Shard {
    pub(super) responding: bool,
    pub(super) connections: u64,
    pub(super) queued_messages: u64,
    pub(super) unsent_bytes: u64,
    pub(super) inbox_messages: u64,
    pub(super) publishes_received: u64,
    pub(super) publishes_sent: u64,
    pub(super) cpu_s: Option<f64>,
    pub(super) runnable_s: Option<f64>,
}

/// Those with the most of something, which may be older than the rest.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    by: ClientsBy,
    at: Instant,
    /// How long the broker has looked for them.
    took: Duration,
    pub(super) rows: Vec<Client>,
    /// Shards that have not answered.
    pub(super) missing: Vec<usize>,
}

/// A client. Its counts begin with its connection.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Client {
    pub(super) client_id: String,
    pub(super) connected: bool,
    pub(super) queued_messages: u64,
    pub(super) unsent_bytes: u64,
    pub(super) r#in: u64,
    pub(super) out: u64,
    pub(super) dropped: u64,
    pub(super) bytes: u64,
    pub(super) subscriptions: u64,
}

impl Look {
    pub(super) fn new(broker: Broker, shards: Vec<Shard>, clients: Clients) -> Look {
        Look {
            at: Instant::now(),
            broker,
            shards,
            clients,
        }
    }
}

impl Clients {
    /// Asked for at `began`, and answered just now.
    pub(super) fn new(
        by: ClientsBy,
        began: Instant,
        (rows, missing): (Vec<Client>, Vec<usize>),
    ) -> Clients {
        Clients {
            by,
            at: began,
            took: began.elapsed(),
            rows,
            missing,
        }
    }

    /// They need not be asked for again yet: the broker looks at all sessions for them, and spends
    /// a tenth of the time on that at most.
    pub(super) fn will_do(&self, by: ClientsBy) -> bool {
        self.by == by && self.at.elapsed() < self.took * SHARE_OF_TIME
    }
}

/// The last two looks.
#[derive(Debug)]
pub(super) struct Picture {
    now: Look,
    before: Option<Look>,
    /// The last clients that are older than those of `now`.
    clients_before: Option<Clients>,
}

impl Picture {
    /// Of a first look: there are no rates yet.
    pub(super) fn of(look: Look) -> Picture {
        Picture {
            now: look,
            before: None,
            clients_before: None,
        }
    }

    /// With another look.
    pub(super) fn followed_by(self, look: Look) -> Picture {
        let clients_before = match self.now.clients.at == look.clients.at {
            true => self.clients_before,
            false => Some(self.now.clients.clone()),
        };
        Picture {
            before: Some(self.now),
            now: look,
            clients_before,
        }
    }

    pub(super) fn now(&self) -> &Look {
        &self.now
    }

    pub(super) fn clients_count(&self) -> usize {
        self.now.clients.rows.len()
    }

    /// Growth per second of something of the broker.
    pub(super) fn rate(&self, read: impl Fn(&Broker) -> u64) -> Option<f64> {
        let before = self.before.as_ref()?;
        let (first, last) = (read(&before.broker), read(&self.now.broker));
        // Shards answer at different moments: their sum may seem to shrink.
        Some(last.saturating_sub(first) as f64 / seconds(before.at, self.now.at))
    }

    /// Growth per second of something of a shard: of seconds, it is a share.
    pub(super) fn shard_rate(
        &self,
        index: usize,
        read: impl Fn(&Shard) -> Option<f64>,
    ) -> Option<f64> {
        let before = self.before.as_ref()?;
        let first = read(before.shards.get(index)?)?;
        let last = read(self.now.shards.get(index)?)?;
        Some((last - first).max(0.0) / seconds(before.at, self.now.at))
    }

    /// Growth per second of something of a client; `None`: it was not among the first, or has
    /// another connection since.
    pub(super) fn client_rate(&self, client: &Client, read: fn(&Client) -> u64) -> Option<f64> {
        let before = self.clients_before.as_ref()?;
        let mut rows = before.rows.iter();
        let other = rows.find(|other| other.client_id == client.client_id)?;
        let grown = read(client).checked_sub(read(other))?;
        Some(grown as f64 / seconds(before.at, self.now.clients.at))
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64().max(1e-3)
}

/// After a look at all clients, nine times as long without one.
const SHARE_OF_TIME: u32 = 10;

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    /// A look that was taken so many seconds after the first.
    pub(in crate::ctl::top) fn look(second: u64) -> Look {
        look_at(base() + Duration::from_secs(second), second)
    }

    /// The moment of the first.
    fn base() -> Instant {
        static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *BASE.get_or_init(Instant::now)
    }

    fn look_at(at: Instant, second: u64) -> Look {
        let shard = |index: u64| {
            json!({
                "responding": index == 0, "connections": 4, "queued_messages": 7,
                "unsent_bytes": 123_456, "inbox_messages": 0, "publishes_received": second * 50,
                "publishes_sent": second * 1234, "cpu_s": second as f64 * 0.62,
                "runnable_s": 0.0,
            })
        };
        let client = |index: u64| {
            json!({
                "client_id": format!("meter-{index}"), "connected": index != 2,
                "queued_messages": 9912, "unsent_bytes": 0, "in": second * 10,
                "out": second * 1000 * index, "dropped": 3, "bytes": 7_900_000,
                "subscriptions": 1,
            })
        };
        let broker = json!({
            "version": "0.1.0", "uptime_s": 273_600, "ready": true, "connections": 8,
            "connections_max": 1000, "sessions": 9, "queued_messages": 14,
            "publishes_received": second * 100, "publishes_sent": second * 2468,
            "messages_dropped": 0,
        });
        let clients: Vec<Value> = (1..=40).rev().map(client).collect();
        Look {
            at,
            broker: from_value(broker).unwrap(),
            shards: from_value(json!([shard(0), shard(1)])).unwrap(),
            clients: Clients {
                by: ClientsBy::Out,
                at,
                took: Duration::from_millis(500),
                rows: from_value(clients.into()).unwrap(),
                missing: vec![1],
            },
        }
    }

    #[test]
    fn rates_come_from_two_looks() {
        let picture = Picture::of(look(0));
        assert_eq!(picture.rate(|broker| broker.publishes_received), None);
        let mut next = look(2);
        let same = next.clients.rows[0].clone();
        let picture = picture.followed_by(look(2));
        assert_eq!(picture.rate(|broker| broker.publishes_sent), Some(2468.0));
        let busy = picture.shard_rate(0, |shard| shard.cpu_s).unwrap();
        assert!((busy - 0.62).abs() < 1e-9, "{busy}");
        assert_eq!(picture.shard_rate(7, |shard| shard.cpu_s), None);
        assert_eq!(picture.client_rate(&same, |c| c.out), Some(40_000.0));
        let gone = Client {
            out: 0,
            ..same.clone()
        };
        let stranger = Client {
            client_id: "x".to_owned(),
            ..same.clone()
        };
        // Clients that are no newer: their rates stay.
        next.at += Duration::from_secs(1);
        let picture = picture.followed_by(next);
        assert_eq!(picture.client_rate(&same, |c| c.out), Some(40_000.0));
        assert_eq!(picture.client_rate(&stranger, |c| c.out), None);
        let picture = picture.followed_by(look(4));
        assert_eq!(picture.client_rate(&gone, |c| c.out), None, "it came back");
    }

    #[test]
    fn clients_are_asked_for_the_more_seldom_the_longer_it_takes() {
        let clients = look(0).clients;
        assert!(clients.will_do(ClientsBy::Out));
        assert!(!clients.will_do(ClientsBy::In));
        let quick = Clients {
            took: Duration::ZERO,
            ..clients
        };
        assert!(!quick.will_do(ClientsBy::Out));
    }
}
