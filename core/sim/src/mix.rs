//! What one run is made of. Each seed draws its own mix (swarm testing: a run that never
//! unsubscribes, or does little else, reaches states that an average run does not).

use std::time::Duration;

use ringmq_core::limits::{Limits, ShareStrategy};

use crate::rng::Rng;

/// The drawn options of one run. Percentages are chances per opportunity.
#[derive(Clone, Debug)]
pub struct Mix {
    pub shards: usize,
    pub clients: usize,
    pub topics: usize,
    pub rounds: u32,
    pub steps_per_round: u64,
    pub v5_percent: u64,
    pub durable_percent: u64,
    pub qos_weights: [u64; 3],
    /// Filters with wildcards among all filters.
    pub wildcard_percent: u64,
    /// Publishes to topics whose last value is retained.
    pub retained_percent: u64,
    /// Of those, the ones that delete the value.
    pub delete_percent: u64,
    pub will_percent: u64,
    pub will_delay_s_max: u32,
    /// Rounds after which wills are waited for.
    pub patience_percent: u64,
    /// Times that a client publishes several plain messages of QoS 0 on one topic at once.
    pub burst_percent: u64,
    pub alias_percent: u64,
    pub expiry_percent: u64,
    pub keep_alive_percent: u64,
    /// Session expiry of durable MQTT 5 clients; short ones end within a run.
    pub session_expiry_s: u32,
    /// Packets sent behind CONNECT without waiting for CONNACK.
    pub eager_percent: u64,
    /// Acknowledgements that a client puts off.
    pub ack_later_percent: u64,
    pub receive_maximum_max: u64,
    /// What the broker allows its clients.
    pub bounds: Bounds,
    /// Retained values and wills that expire.
    pub values_expire_percent: u64,
    pub payload_size_max: u64,
    /// Publishes and subscriptions to topics of groups.
    pub shared_percent: u64,
    pub share_strategy: ShareStrategy,
    /// Retained messages that are fetched at a time.
    pub retained_page_max: u32,
    /// Largest piece in which bytes travel.
    pub chunk_size_max: usize,
    pub socket_size: usize,
    pub inbox_messages_max: usize,
    pub turn_events_max: u64,
    /// Weights of what the scheduler does next.
    pub weights: Weights,
    /// The broker records what it promises, and crashes.
    pub disk: Option<DiskMix>,
}

/// What happens to a broker with a disk.
#[derive(Clone, Debug)]
pub struct DiskMix {
    /// Weights of crashes, of a disk that stands still or goes on, and of an operation that fails.
    pub crash: u64,
    pub hold: u64,
    pub fail: u64,
    /// Of the crashes, those that take the power.
    pub power_percent: u64,
    /// A start may have another number of shards.
    pub is_resharded: bool,
    /// Log between two checkpoints.
    pub checkpoint_bytes_min: u64,
    /// Checkpoints during which other disks stand still, and right behind which the broker is killed or the power lost.
    pub checkpoint_crash_percent: u64,
    /// Weight of jumps of the wall clock.
    pub wall_jump: u64,
}

/// Bounds of the broker that clients have to keep to, or notice.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// QoS 2 messages of one client [MQTT-3.2.2-15].
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages towards a client of 3.1.1.
    pub inflight_messages_max: u16,
    pub topic_alias_max: u16,
    pub topic_alias_outbound_max: u16,
    /// Longest keep alive that the broker grants; 0: any.
    pub keep_alive_max_s: u16,
    pub session_expiry_max_s: u32,
    /// Slow clients lose messages, each of which is counted. Otherwise nothing may be lost.
    pub tight: Option<Tight>,
}

/// What is kept for a slow client.
#[derive(Clone, Copy, Debug)]
pub struct Tight {
    pub unsent_bytes_max: u32,
    pub queued_messages_max: u32,
}

/// How often the scheduler picks what.
#[derive(Clone, Debug)]
pub struct Weights {
    pub shell: u64,
    pub client_read: u64,
    pub publish: u64,
    pub subscribe: u64,
    pub unsubscribe: u64,
    pub ping: u64,
    pub connect: u64,
    pub disconnect: u64,
    pub takeover: u64,
    pub storm: u64,
    pub cut: u64,
    pub half_open: u64,
    pub stall: u64,
    pub freeze: u64,
    pub time_jump: u64,
}

impl Mix {
    /// The mix of a seed.
    pub fn draw(seed: u64) -> Mix {
        let mut rng = Rng::new(seed, MIX_SALT);
        let rng = &mut rng;
        let mut mix = Mix {
            shards: 1 + rng.index(4),
            clients: 2 + rng.index(6),
            topics: 1 + rng.index(4),
            rounds: 1 + rng.below(3) as u32,
            steps_per_round: rng.between(300, 4000),
            v5_percent: *rng.pick(&[0, 50, 70, 100]),
            durable_percent: *rng.pick(&[0, 50, 80, 100]),
            qos_weights: *rng.pick(&[[1, 1, 1], [4, 1, 1], [0, 1, 0], [0, 0, 1], [0, 1, 1]]),
            wildcard_percent: *rng.pick(&[0, 20, 60]),
            retained_percent: *rng.pick(&[0, 20, 80]),
            delete_percent: *rng.pick(&[0, 20]),
            will_percent: *rng.pick(&[0, 50, 100]),
            will_delay_s_max: *rng.pick(&[0, 5, 8]),
            patience_percent: *rng.pick(&[0, 40]),
            burst_percent: *rng.pick(&[0, 10, 40]),
            alias_percent: *rng.pick(&[0, 50]),
            expiry_percent: *rng.pick(&[0, 30]),
            keep_alive_percent: *rng.pick(&[0, 50]),
            session_expiry_s: *rng.pick(&[3600, 3600, 10, 4, u32::MAX]),
            eager_percent: *rng.pick(&[0, 30]),
            ack_later_percent: *rng.pick(&[0, 50, 90]),
            receive_maximum_max: *rng.pick(&[2, 8, 60_000]),
            bounds: Bounds::draw(rng),
            values_expire_percent: *rng.pick(&[0, 0, 30]),
            payload_size_max: *rng.pick(&[40, 200, 200, 3000, 20_000]),
            chunk_size_max: *rng.pick(&[3, 50, 4096, 65_536]),
            socket_size: *rng.pick(&[64, 1024, 65_536]),
            inbox_messages_max: *rng.pick(&[1, 2, 16, 1024]),
            turn_events_max: *rng.pick(&[1, 4, 30]),
            weights: Weights::draw(rng),
            shared_percent: *rng.pick(&[0, 0, 30, 80]),
            share_strategy: *rng.pick(&ShareStrategy::ALL),
            retained_page_max: *rng.pick(&[1, 1, 2, 256]),
            disk: None,
        };
        if mix.bounds.tight.is_some() {
            // While a shard stands still, so much is dropped that an uncounted loss would not show.
            mix.weights.freeze = 0;
        }
        if mix.bounds.tight.is_some() && rng.one_in(2) {
            mix.be_chatty();
        } else if rng.one_in(8) {
            mix.be_retentive();
        }
        // What a crash takes is not counted, so with tight bounds nothing could be checked.
        let mut rng = Rng::new(seed, DISK_SALT);
        if mix.bounds.tight.is_none() && rng.percent(DISK_PERCENT) {
            let mut more = Rng::new(seed, MORE_SALT);
            mix.disk = Some(DiskMix::draw(&mut rng, &mut more));
        }
        mix
    }

    /// Many retained values, which many subscriptions ask for while they change: a page at a time.
    fn be_retentive(&mut self) {
        self.topics = 8;
        self.shards = self.shards.max(2);
        self.retained_percent = 95;
        self.wildcard_percent = 60;
        self.shared_percent = 0;
        // A client deletes all of its values at once.
        self.bounds.receive_maximum = 1024;
        self.retained_page_max = 1;
        self.payload_size_max = 40;
        self.weights.subscribe = 60;
        self.weights.unsubscribe = 40;
        self.weights.publish = 80;
    }

    /// Many small requests whose answers are not read: most of what waits for a client are
    /// answers.
    fn be_chatty(&mut self) {
        self.payload_size_max = 40;
        self.chunk_size_max = 8;
        self.socket_size = 64;
        self.steps_per_round = self.steps_per_round.max(2000);
        self.weights.ping = 900;
        self.weights.stall = 2;
        if let Some(tight) = &mut self.bounds.tight {
            tight.unsent_bytes_max = 16;
        }
    }

    /// Bounds of the shards. Unless they are tight nothing is dropped, and every loss is a broken
    /// promise.
    pub fn limits(&self) -> Limits {
        let tight = self.bounds.tight.unwrap_or(Tight {
            unsent_bytes_max: 256 * 1024 * 1024,
            queued_messages_max: 1_000_000,
        });
        Limits {
            connect_deadline: Duration::from_secs(10),
            session_expiry_max_s: self.bounds.session_expiry_max_s,
            receive_maximum: self.bounds.receive_maximum,
            inflight_messages_max: self.bounds.inflight_messages_max,
            topic_alias_max: self.bounds.topic_alias_max,
            topic_alias_outbound_max: self.bounds.topic_alias_outbound_max,
            keep_alive_max_s: self.bounds.keep_alive_max_s,
            unsent_bytes_max: tight.unsent_bytes_max,
            queued_messages_max: tight.queued_messages_max,
            queued_bytes_max: 256 * 1024 * 1024,
            share_strategy: self.share_strategy,
            retained_page_max: self.retained_page_max,
            ..Limits::default()
        }
    }
}

impl Bounds {
    fn draw(rng: &mut Rng) -> Bounds {
        let is_tight = rng.one_in(6);
        Bounds {
            receive_maximum: *rng.pick(&[1, 3, 1024, 1024]),
            inflight_messages_max: *rng.pick(&[1, 4, 1024, 1024]),
            topic_alias_max: *rng.pick(&[0, 1, 3, 1024]),
            topic_alias_outbound_max: *rng.pick(&[0, 2, 16]),
            keep_alive_max_s: *rng.pick(&[0, 0, 0, 6]),
            session_expiry_max_s: *rng.pick(&[24 * 3600, u32::MAX]),
            tight: is_tight.then(|| Tight {
                unsent_bytes_max: *rng.pick(&[16, 1000, 20_000]),
                queued_messages_max: *rng.pick(&[1, 5, 1000]),
            }),
        }
    }
}

impl DiskMix {
    fn draw(rng: &mut Rng, more: &mut Rng) -> DiskMix {
        DiskMix {
            crash: *rng.pick(&[1, 2, 4]),
            hold: *rng.pick(&[0, 4, 10]),
            fail: *rng.pick(&[0, 0, 1]),
            power_percent: *rng.pick(&[0, 50, 100]),
            is_resharded: rng.one_in(2),
            checkpoint_bytes_min: *rng.pick(&[4 * 1024, 32 * 1024, 256 * 1024]),
            checkpoint_crash_percent: *more.pick(&[0, 0, 10, 50]),
            wall_jump: *more.pick(&[0, 0, 1, 4]),
        }
    }
}

impl Weights {
    fn draw(rng: &mut Rng) -> Weights {
        // Rare events are off in many runs, so that long undisturbed stretches exist too.
        let mut rare = |often: u64| *rng.pick(&[0, 1, often]);
        Weights {
            takeover: rare(4),
            storm: rare(2),
            cut: rare(6),
            half_open: rare(3),
            stall: rare(6),
            freeze: rare(4),
            time_jump: rare(4),
            disconnect: rare(4),
            unsubscribe: rare(10),
            ping: rare(5),
            subscribe: 5 + rare(10),
            shell: *rng.pick(&[300, 600, 1000]),
            client_read: *rng.pick(&[60, 200]),
            publish: *rng.pick(&[20, 80]),
            connect: *rng.pick(&[5, 30]),
        }
    }
}

const MIX_SALT: u64 = 1;
const DISK_SALT: u64 = 3;
const MORE_SALT: u64 = 4;
/// Seeds that run with a disk, of those whose bounds are not tight.
const DISK_PERCENT: u64 = 30;
