//! One shard, driven without sockets.

use std::sync::Arc;
use std::time::Duration;

use ringmq_core::auth::PeerIdentity;
use ringmq_core::codec::{QoS, Version};
use ringmq_core::connection::Output;
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::limits::Limits;
use ringmq_core::shard::{CloseCause, Event, Heard, Outbox, Shard, ShardConfig};
use ringmq_core::time::Instant;
use ringmq_core::topic::InterestTable;

use crate::client::{answer, connect, subscribe};
use crate::stopwatch::Stopwatch;

/// The only shard of a broker.
pub fn shard() -> Shard {
    shard_with(Limits::default())
}

fn shard_with(limits: Limits) -> Shard {
    Shard::new(ShardConfig {
        id: ShardId::new(0),
        shards: 1,
        secret: [1, 2],
        limits: Arc::new(limits),
        interest: Arc::new(InterestTable::new(1, InterestTable::BUCKETS_LOG2, 7)),
        sys_interval: Duration::ZERO,
        access: Arc::default(),
        log: None,
    })
}

/// One shard whose clients are always ready to take output.
pub struct Bench {
    shard: Shard,
    out: Outbox,
    now: Instant,
    version: Version,
    /// The slot of a client that acknowledges nothing.
    deaf: Option<u32>,
}

impl Bench {
    /// A broker of one shard, whose clients speak `version`.
    pub fn new(version: Version) -> Bench {
        Bench::with_limits(version, Limits::default())
    }

    /// The same, with other bounds.
    pub fn with_limits(version: Version, limits: Limits) -> Bench {
        Bench {
            shard: shard_with(limits),
            out: Outbox::new(1),
            now: Instant::from_nanos(1),
            version,
            deaf: None,
        }
    }

    /// The client in a slot acknowledges nothing from now on.
    pub fn deafen(&mut self, index: u32) {
        self.deaf = Some(index);
    }

    /// Time passes, and nothing is said.
    pub fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Time passes up to the next deadline, which is met. Gives the slots of the connections that end.
    pub fn meet_deadline(&mut self, watch: &mut Stopwatch) -> Vec<u32> {
        let at = self.shard.deadlines().earliest().expect("a timer is set");
        self.now = self.now.max(at);
        watch.start();
        let heard = Heard::all(self.now);
        let event = Event::DeadlineReached { heard };
        self.shard.handle(self.now, event, &mut self.out);
        watch.stop();
        self.out
            .closes
            .drain(..)
            .map(|close| close.conn.index)
            .collect()
    }

    /// Meets deadlines as long as something is due at once.
    pub fn catch_up(&mut self) {
        while self
            .shard
            .deadlines()
            .are_due(self.now, Heard::all(self.now))
        {
            self.meet_deadline(&mut Stopwatch::default());
            let mut outputs = Vec::new();
            self.take_outputs(&mut outputs);
            for (conn, output) in outputs {
                self.sent(conn, output);
            }
        }
    }

    /// Connects a client in slot `index`.
    pub fn connect(&mut self, index: u32) {
        let packet = connect(self.version, &format!("client-{index}"));
        self.accept(index);
        self.settle(index, &packet);
    }

    /// A connection in slot `index`, which says nothing yet.
    pub fn accept(&mut self, index: u32) {
        let accepted = Event::Accepted {
            conn: conn(index),
            peer: PeerIdentity::default(),
            since: self.now,
        };
        self.shard.handle(self.now, accepted, &mut self.out);
    }

    /// The peer of a connection is gone.
    pub fn close(&mut self, index: u32) {
        let closed = Event::Closed {
            conn: conn(index),
            why: CloseCause::PeerClosed,
        };
        self.shard.handle(self.now, closed, &mut self.out);
    }

    /// Subscribes the client in slot `index`.
    pub fn subscribe(&mut self, index: u32, filter: &str, qos: QoS) {
        self.settle(index, &subscribe(self.version, filter, qos));
    }

    /// Bytes from a client, and all that follows; off the watch.
    pub fn settle(&mut self, index: u32, bytes: &[u8]) {
        self.exchange(index, bytes, &mut Stopwatch::default());
    }

    /// Hands bytes of a client to the shard, and goes on until nobody owes anything: what the shard
    /// sends is answered as clients answer it. Only the shard's part is on the watch. Returns the
    /// number of messages delivered.
    pub fn exchange(&mut self, index: u32, bytes: &[u8], watch: &mut Stopwatch) -> u64 {
        let mut outputs = Vec::new();
        let mut answers = Vec::new();
        let mut delivered = 0;
        watch.start();
        self.receive(index, bytes);
        loop {
            self.take_outputs(&mut outputs);
            watch.stop();
            for (conn, output) in &outputs {
                let mut owed = Vec::new();
                delivered += answer(self.version, &joined(output), &mut owed);
                if !owed.is_empty() && self.deaf != Some(conn.index) {
                    answers.push((conn.index, owed));
                }
            }
            watch.start();
            for (conn, output) in outputs.drain(..) {
                self.sent(conn, output);
            }
            if answers.is_empty() {
                break;
            }
            for (index, bytes) in answers.drain(..) {
                self.receive(index, &bytes);
            }
        }
        watch.stop();
        delivered
    }

    fn receive(&mut self, index: u32, bytes: &[u8]) {
        let received = Event::Received {
            conn: conn(index),
            bytes,
        };
        self.shard.handle(self.now, received, &mut self.out);
    }

    fn take_outputs(&mut self, outputs: &mut Vec<(ConnId, Output)>) {
        while let Some(conn) = self.out.dirty.pop() {
            while let Some(output) = self.shard.take_output(conn) {
                outputs.push((conn, output));
            }
        }
    }

    fn sent(&mut self, conn: ConnId, output: Output) {
        let size = output.size() as u32;
        self.shard.recycle(output);
        let progress = Event::SendProgress { conn, size };
        self.shard.handle(self.now, progress, &mut self.out);
    }
}

fn conn(index: u32) -> ConnId {
    ConnId {
        index,
        generation: 0,
    }
}

fn joined(output: &Output) -> Vec<u8> {
    match output {
        Output::One(bytes) => bytes.clone(),
        Output::Many(chunks) => chunks.iter().flat_map(|c| c.as_slice()).copied().collect(),
    }
}
