//! Shared set-up of the criterion suites: one shard with clients, driven without sockets.

mod samples;

pub use samples::{Sample, samples};

use std::sync::Arc;
use std::time::Duration;

use ringmq_core::codec::{
    Connect, ConnectProperties, Direction, FrameRules, Framer, Packet, Publish, PublishProperties,
    QoS, Subscribe, SubscribeOptions, Subscription, Subscriptions, Version, decode,
};
use ringmq_core::connection::Output;
use ringmq_core::ids::{ConnId, PacketId, ShardId};
use ringmq_core::limits::Limits;
use ringmq_core::shard::{Event, Outbox, PeerIdentity, Shard, ShardConfig};
use ringmq_core::time::Instant;
use ringmq_core::topic::InterestTable;

/// One shard whose clients are always ready to take output.
pub struct Bench {
    /// The shard.
    pub shard: Shard,
    out: Outbox,
    now: Instant,
    /// Output bytes so far.
    pub output_bytes: usize,
}

impl Bench {
    /// A broker of one shard.
    #[expect(clippy::new_without_default, reason = "it is not a value but a set-up")]
    pub fn new() -> Bench {
        let config = ShardConfig {
            id: ShardId::new(0),
            shards: 1,
            secret: [1, 2],
            limits: Arc::new(Limits::default()),
            interest: Arc::new(InterestTable::new(1, InterestTable::BUCKETS_LOG2, 7)),
            sys_interval: Duration::ZERO,
        };
        Bench {
            shard: Shard::new(config),
            out: Outbox::new(1),
            now: Instant::from_nanos(1),
            output_bytes: 0,
        }
    }

    /// Connects a client in slot `index`.
    pub fn connect(&mut self, index: u32, version: Version) {
        let conn = ConnId {
            index,
            generation: 0,
        };
        let accepted = Event::Accepted {
            conn,
            peer: PeerIdentity::default(),
            since: self.now,
        };
        self.shard.handle(self.now, accepted, &mut self.out);
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive: 600,
            client_id: &format!("client-{index}"),
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        self.receive(index, &bytes);
        self.drain(|_, _| {});
    }

    /// Subscribes the client in slot `index`.
    pub fn subscribe(&mut self, index: u32, version: Version, filter: &str, qos: QoS) {
        let lines = [Subscription {
            filter,
            options: SubscribeOptions::with_qos(qos),
        }];
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("not zero"),
            subscription_id: None,
            filters: Subscriptions::listed(&lines),
            user_properties: Default::default(),
        };
        let mut bytes = Vec::new();
        subscribe.encode(version, &mut bytes);
        self.receive(index, &bytes);
        self.drain(|_, _| {});
    }

    /// Bytes from a client.
    pub fn receive(&mut self, index: u32, bytes: &[u8]) {
        let conn = ConnId {
            index,
            generation: 0,
        };
        self.shard
            .handle(self.now, Event::Received { conn, bytes }, &mut self.out);
    }

    /// Takes what the shard has to send, at once; `seen` gets each connection's bytes.
    pub fn drain(&mut self, mut seen: impl FnMut(u32, &[u8])) {
        while let Some(conn) = self.out.dirty.pop() {
            while let Some(output) = self.shard.take_output(conn) {
                self.output_bytes += output.size();
                match &output {
                    Output::One(bytes) => seen(conn.index, bytes),
                    Output::Many(chunks) => {
                        chunks
                            .iter()
                            .for_each(|chunk| seen(conn.index, chunk.as_slice()));
                    }
                }
                let size = output.size() as u32;
                self.shard.recycle(output);
                self.shard
                    .handle(self.now, Event::SendProgress { conn, size }, &mut self.out);
            }
        }
    }
}

/// `count` PUBLISH packets in a row, identifiers from 1 on.
pub fn publishes(version: Version, topic: &str, qos: QoS, size: usize, count: u16) -> Vec<u8> {
    let payload = vec![b'x'; size];
    let mut bytes = Vec::new();
    for id in 1..=count {
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: topic.as_bytes(),
            packet_id: PacketId::new(id).filter(|_| qos > QoS::AtMostOnce),
            properties: PublishProperties::default(),
            payload: &payload,
        };
        publish.encode(version, &mut bytes);
    }
    bytes
}

/// The acknowledgements of the first step that a receiver owes for these bytes.
pub fn acks(version: Version, bytes: &[u8]) -> Vec<u8> {
    let mut acks = Vec::new();
    let mut framer = Framer::default();
    let rules = FrameRules {
        version: Some(version),
        size_max: u32::MAX,
        direction: Direction::FromServer,
    };
    let mut input = bytes;
    while let Ok(Some(frame)) = framer.next(&mut input, &rules) {
        let Ok(Packet::Publish(publish)) = decode(&frame, version, Direction::FromServer) else {
            continue;
        };
        if let (QoS::AtLeastOnce, Some(id)) = (publish.qos, publish.packet_id) {
            ringmq_core::codec::encode_puback(&mut acks, id);
        }
    }
    acks
}
