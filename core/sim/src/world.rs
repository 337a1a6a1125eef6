//! One run: shards, clients and network under one seeded scheduler.
//!
//! A run has rounds. In each, the scheduler first does what it likes (safety: no promise may break
//! on the way), then everything heals, and the world has to come to rest with nothing owed
//! (liveness). At the end all clients leave, and the shards must be as empty as at the start.
//!
//! Not here: what a client does of its own accord (`workload.rs`).

use ringmq_core::time::Instant;
use std::time::Duration;

use crate::broken::Broken;
use crate::broker::Broker;
use crate::client::{Client, Outcome, State};
use crate::disk::Crash;
use crate::link::{Goodbye, Link, LinkIndex};
use crate::mix::Mix;
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::surroundings::{Note, Surroundings};
use crate::tamper::Sabotage;
use crate::trace::{Trace, What};
use crate::will::LeftWill;

/// Everything of one run.
#[derive(Debug)]
pub struct World {
    pub mix: Mix,
    pub rng: Rng,
    pub oracle: Oracle,
    pub clients: Vec<Client>,
    pub links: Vec<Link>,
    pub trace: Trace,
    /// Wills that clients left on links that ended, until the next CONNACK tells their fate.
    pub left_wills: Vec<LeftWill>,
    /// SUBSCRIBEs so far.
    pub request_count: u64,
    pub sabotage: Option<Sabotage>,
    /// When the broker was started.
    pub started_at: Instant,
    pub broker: Broker,
    pub notes: Vec<Note>,
}

impl World {
    pub fn new(seed: u64, mix: Mix, sabotage: Option<Sabotage>, trace: Trace) -> World {
        let mut rng = Rng::new(seed, WORLD_SALT);
        let secret = [rng.next_u64(), rng.next_u64()];
        let clients: Vec<Client> = (0..mix.clients)
            .map(|index| Client::new(index, mix.draw_traits(&mut rng), sabotage))
            .collect();
        let v5: Vec<bool> = clients.iter().map(Client::v5).collect();
        World {
            broker: Broker::new(&mix, secret, sabotage),
            oracle: Oracle::new(&mix, &v5),
            clients,
            links: Vec::new(),
            trace,
            left_wills: Vec::new(),
            request_count: 0,
            sabotage,
            started_at: Instant::ZERO,
            notes: Vec::new(),
            rng,
            mix,
        }
    }

    /// The whole run.
    pub fn run(&mut self) -> Result<(), Broken> {
        for round in 0..self.mix.rounds {
            self.phase("random", round);
            self.broker.chunk_size_max = self.mix.chunk_size_max;
            for _ in 0..self.mix.steps_per_round {
                self.step()?;
            }
            if self.rng.percent(self.mix.patience_percent) {
                self.phase("wait", round);
                self.wait_for_wills()?;
            }
            self.phase("heal", round);
            self.converge()?;
            self.phase("check", round);
            self.oracle.check_converged(self.broker.dropped_count())?;
        }
        self.phase("leave", self.mix.rounds);
        self.leave()?;
        self.broker.check_empty()?;
        self.check_empty_after_crash()
    }

    fn phase(&mut self, name: &str, round: u32) {
        let values = [u64::from(round), name.len() as u64, 0];
        self.trace
            .log(What::Phase, values, format_args!("{name}, round {round}"));
        if self.trace.is_printed() {
            println!("{}", self.broker.describe_gauges());
        }
    }

    fn step(&mut self) -> Result<(), Broken> {
        let weights = self.mix.weights.clone();
        let shell = weights.shell;
        let total = shell
            + weights.client_read
            + weights.cut
            + weights.half_open
            + weights.stall
            + weights.freeze
            + weights.time_jump
            + self.disaster_weight()
            + self.workload_weight();
        let mut drawn = self.rng.below(total);
        let mut is = |weight: u64| {
            let hit = drawn < weight;
            drawn = drawn.wrapping_sub(weight);
            hit
        };
        // `drawn` wraps only after a hit, and then nothing asks again.
        if is(shell) {
            let before = self.broker.checkpoints();
            self.step_broker()?;
            self.may_disturb_checkpoint(before)
        } else if is(weights.client_read) {
            let client = self.rng.index(self.clients.len());
            self.step_client(client)
        } else if is(weights.cut) {
            self.disturb(Disturbance::Cut);
            Ok(())
        } else if is(weights.half_open) {
            self.disturb(Disturbance::HalfOpen);
            Ok(())
        } else if is(weights.stall) {
            self.disturb(Disturbance::Stall);
            Ok(())
        } else if is(weights.freeze) {
            self.broker.freeze(&mut self.rng);
            Ok(())
        } else if is(weights.time_jump) {
            self.jump();
            Ok(())
        } else if is(self.disaster_weight()) {
            self.strike()
        } else {
            let client = self.rng.index(self.clients.len());
            self.begin_tick();
            self.act(client);
            self.put_on_link(client);
            Ok(())
        }
    }

    /// Up to when the broker has enforced the deadlines of absent clients.
    pub fn judged_until(&self) -> Instant {
        self.broker.judged_until(self.oracle.now, &self.links)
    }

    pub fn begin_tick(&mut self) {
        self.oracle.tick += 1;
        let span = Duration::from_nanos(self.rng.below(STEP_NANOS_MAX));
        self.oracle.now = self.oracle.now + span;
    }

    pub fn step_broker(&mut self) -> Result<(), Broken> {
        self.begin_tick();
        let mut around = Surroundings {
            now: self.oracle.now,
            rng: &mut self.rng,
            links: &mut self.links,
            trace: &mut self.trace,
            notes: &mut self.notes,
        };
        self.broker.step(&mut around)?;
        if self.broker.has_failed {
            // The process ends by itself, which is like being killed.
            return self.crash(Crash::Kill);
        }
        for note in std::mem::take(&mut self.notes) {
            match note {
                Note::Closed(link) => self.on_closed(link)?,
                Note::Overdue(link) => {
                    let client = self.links[link].client;
                    return Err(Broken::new(
                        "a silent client is given up after one and a half keep alives",
                        format!("client {client}, link {link}"),
                    ));
                }
                Note::Ended(link) => self.release_will(link),
            }
        }
        Ok(())
    }

    /// A shard closed a link, for which it needs a reason.
    fn on_closed(&mut self, index: LinkIndex) -> Result<(), Broken> {
        self.release_will(index);
        let link = &self.links[index];
        if self.clients[link.client].link == Some(index) {
            self.oracle.groups.contact_broken(link.client);
        }
        let now = self.oracle.now;
        let client = &self.clients[link.client];
        let current = client.link == Some(index) && client.state != State::Off;
        let gone =
            link.cut || link.half_open || link.client_done || !current || self.has_rival(index);
        // Input that came in time has to be read before a deadline is enforced.
        let has_passed = |deadline| now >= deadline && !link.has_unread_of(deadline);
        let silence_max = Duration::from_millis(1500 * u64::from(link.keep_alive_s));
        let silent = link.keep_alive_s > 0 && has_passed(link.all_read_at + silence_max);
        let late = !link.confirmed && has_passed(link.accepted_at + CONNECT_DEADLINE);
        if gone || silent || late {
            return Ok(());
        }
        Err(Broken::new(
            "a healthy connection stays open",
            format!(
                "client {}, link {index}: {} bytes up, confirmed {}, keep alive {} s, read until \
                 {:?}, now {now:?}",
                link.client,
                link.up.len(),
                link.confirmed,
                link.keep_alive_s,
                link.read_at
            ),
        ))
    }

    /// A client reads what has come, notices the end of its link, or sends what it put off.
    pub fn step_client(&mut self, index: usize) -> Result<(), Broken> {
        self.begin_tick();
        let client = &mut self.clients[index];
        let Some(at) = client.link.filter(|_| client.state != State::Off) else {
            return Ok(());
        };
        let link = &mut self.links[at];
        if link.stalled {
            return Ok(());
        }
        if link.ended_for_client() {
            self.lose(index);
            return Ok(());
        }
        if !link.down.is_empty() {
            let most = link.down.len().min(self.broker.chunk_size_max);
            let size = 1 + self.rng.index(most);
            client.feed(&mut link.down, size);
        } else if !client.later.is_empty() {
            client.acknowledge_one(self.oracle.now);
        }
        while let Some(mut packet) = self.clients[index].next_packet()? {
            if let Some(sabotage) = self.sabotage {
                sabotage.packet(&mut packet, &self.oracle);
            }
            self.trace.log(
                What::Packet,
                [index as u64, 0, 0],
                format_args!("client {index} got {packet:?}"),
            );
            let client = &mut self.clients[index];
            let put_off = self.rng.percent(client.traits.ack_later_percent);
            let before = client.state;
            let outcome = client.on_packet(packet, put_off, &mut self.oracle)?;
            if let Outcome::Connected { session_present } = outcome {
                self.on_connected(index, before, session_present)?;
            }
        }
        self.keep_alive(index);
        self.put_on_link(index);
        Ok(())
    }

    fn on_connected(
        &mut self,
        index: usize,
        connecting: State,
        session_present: bool,
    ) -> Result<(), Broken> {
        let client = &self.clients[index];
        let at = client.link.expect("CONNACK came over a link");
        self.links[at].confirmed = true;
        let earlier: Vec<&Link> = self.links[..at]
            .iter()
            .filter(|link| link.client == index)
            .collect();
        let since = (self.started_at, self.oracle.lateness);
        client.check_session_present(session_present, connecting, &earlier, since)?;
        // [MQTT-3.1.4-3]
        let is_open = |link: &&Link| link.confirmed && link.closed_at.or(link.ended_at).is_none();
        if earlier.iter().any(is_open) {
            let detail = format!("client {index} has an older connection than link {at}");
            return Err(Broken::new("a second connection ends the first", detail));
        }
        let State::Connecting {
            asked_at,
            judged_until,
            ..
        } = connecting
        else {
            unreachable!("CONNACK came in another state");
        };
        let (mine, others) = std::mem::take(&mut self.left_wills)
            .into_iter()
            .partition(|w| w.client == index && w.link != at);
        self.left_wills = others;
        for will in mine {
            let unanswered = self.may_have_returned(&will, at);
            let link = &self.links[will.link];
            will.decide(
                session_present,
                unanswered,
                asked_at,
                judged_until,
                link,
                &mut self.oracle,
            )?;
            let fate = self.oracle.message(will.message).fate;
            self.trace.log(
                What::Client,
                [index as u64, will.message as u64, 104],
                format_args!("the will of client {index} is decided, {fate:?}: {will:?}"),
            );
        }
        Ok(())
    }

    fn keep_alive(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let half = Duration::from_millis(500 * u64::from(client.traits.keep_alive_s));
        let due = self.oracle.now >= client.last_sent_at + half;
        if client.traits.keep_alive_s > 0 && client.is_open() && due {
            client.ping(self.oracle.now);
        }
    }

    /// Moves what a client has written to its link.
    pub fn put_on_link(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let bytes = std::mem::take(&mut client.to_send);
        let Some(at) = client.link.filter(|_| !bytes.is_empty()) else {
            return;
        };
        let link = &mut self.links[at];
        if !link.cut && !link.broker_done {
            link.arrive(&bytes, self.oracle.now);
        }
    }

    /// Opens a link for a client that has none, or takes over from its own old one.
    pub fn open_link(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.state != State::Off {
            self.lose(index);
        }
        let at = self.links.len();
        let client = &mut self.clients[index];
        client.link = Some(at);
        let mut link = Link::new(index, self.mix.socket_size, self.oracle.now);
        link.keep_alive_s = client.traits.keep_alive_s;
        self.links.push(link);
        let mut around = Surroundings {
            now: self.oracle.now,
            rng: &mut self.rng,
            links: &mut self.links,
            trace: &mut self.trace,
            notes: &mut self.notes,
        };
        self.broker.accept(at, &mut around);
    }

    /// A client has lost its link, or abandons it.
    pub fn lose(&mut self, index: usize) {
        let now = self.oracle.now;
        let at = self.clients[index].link.expect("it had a connection");
        self.clients[index].lose_connection(now);
        self.oracle.groups.contact_broken(index);
        self.release_will(at);
        let values = [index as u64, at as u64, 1];
        self.trace.log(
            What::Network,
            values,
            format_args!("client {index} is off link {at}"),
        );
    }

    /// A link ended, for whatever reason: its will may be published from here on.
    pub fn release_will(&mut self, at: LinkIndex) {
        let link = &mut self.links[at];
        let Some(will) = link.will.take() else { return };
        let client = &self.clients[link.client];
        let expiry_s = client.traits.session_expiry_s;
        // The broker may or may not see the DISCONNECT, which may change the expiry.
        let said_s = link.goodbye.and_then(|goodbye| goodbye.session_expiry_s);
        let waits_s = [expiry_s, said_s.unwrap_or(expiry_s)].map(|end_s| will.delay_s.min(end_s));
        let [delay_min, delay_max] = [waits_s.iter().min(), waits_s.iter().max()]
            .map(|s| Duration::from_secs(u64::from(*s.expect("there are two"))));
        let not_before = self.oracle.now + delay_min;
        self.oracle.will_released(will.message, not_before);
        self.left_wills.push(LeftWill {
            client: link.client,
            link: at,
            message: will.message,
            not_before,
            delayed: delay_max > Duration::ZERO,
            delay_max,
            goodbye: link.goodbye,
        });
    }

    fn disturb(&mut self, disturbance: Disturbance) {
        self.begin_tick();
        let index = self.rng.index(self.clients.len());
        let client = &self.clients[index];
        let Some(at) = client.link.filter(|_| client.state != State::Off) else {
            return;
        };
        let values = [index as u64, at as u64, disturbance as u64];
        self.trace.log(
            What::Network,
            values,
            format_args!("{disturbance:?}: client {index}, link {at}"),
        );
        let link = &mut self.links[at];
        match disturbance {
            Disturbance::Cut => {
                link.cut();
                self.oracle.groups.contact_broken(index);
            }
            Disturbance::HalfOpen if link.confirmed => {
                link.half_open = true;
                link.forget_unread();
                self.lose(index);
            }
            Disturbance::HalfOpen => {}
            Disturbance::Stall => link.stalled = !link.stalled,
        }
    }

    /// Time passes: up to the next deadline, or for an arbitrary span.
    fn jump(&mut self) {
        self.begin_tick();
        let now = self.oracle.now;
        let span = Duration::from_millis(self.rng.below(JUMP_MS_MAX));
        let deadline = self.broker.next_deadline().filter(|&at| at > now);
        let target = match deadline {
            Some(at) if self.rng.one_in(2) && at < now + DEADLINE_FAR => at,
            Some(_) | None => now + span,
        };
        self.pass_until(target);
    }

    pub fn pass_until(&mut self, at: Instant) {
        self.oracle.now = at.max(self.oracle.now);
        let now = self.oracle.now;
        self.trace
            .log(What::Time, [now.as_nanos(), 0, 0], format_args!("{now:?}"));
    }

    /// From here on the network behaves.
    pub fn heal(&mut self) {
        self.broker.chunk_size_max = HEALED_SIZE;
        self.broker.thaw();
        for link in &mut self.links {
            link.stalled = false;
            link.socket_size = HEALED_SIZE;
        }
    }

    /// Heals everything, and goes on until nothing is under way.
    fn converge(&mut self) -> Result<(), Broken> {
        self.heal();
        let mut pinged = false;
        for _ in 0..CONVERGE_STEPS_MAX {
            for index in 0..self.clients.len() {
                self.settle_client(index)?;
            }
            for _ in 0..SHELL_STEPS_PER_CONVERGE_STEP {
                self.step_broker()?;
            }
            let quiet = self.is_quiet();
            if quiet && pinged && self.clients.iter().all(Client::is_confirmed) {
                return Ok(());
            }
            if quiet {
                pinged = true;
                for index in 0..self.clients.len() {
                    self.begin_tick();
                    self.clients[index].ping(self.oracle.now);
                    self.put_on_link(index);
                }
            }
        }
        Err(Broken::new(
            "the world comes to rest",
            self.describe_unrest(),
        ))
    }

    fn settle_client(&mut self, index: usize) -> Result<(), Broken> {
        self.step_client(index)?;
        if self.clients[index].state == State::Off {
            self.begin_tick();
            self.reconnect(index);
            self.put_on_link(index);
        }
        Ok(())
    }

    fn is_quiet(&self) -> bool {
        self.clients.iter().all(Client::is_settled) && self.is_silent()
    }

    /// Nothing is on its way to a client, and the broker has nothing to do.
    pub fn is_silent(&self) -> bool {
        self.broker.is_idle(self.oracle.now, &self.links)
            && self
                .links
                .iter()
                .all(|link| link.down.is_empty() || self.is_abandoned(link))
    }

    /// Nobody reads what the broker still writes there.
    fn is_abandoned(&self, link: &Link) -> bool {
        let client = &self.clients[link.client];
        let current = client.link.map(|at| &self.links[at]);
        !current.is_some_and(|current| std::ptr::eq(current, link))
    }

    fn describe_unrest(&self) -> String {
        let busy = |client: &&Client| !client.is_settled() || !client.is_confirmed();
        let clients: Vec<&Client> = self.clients.iter().filter(busy).collect();
        let broker = self.broker.describe_busy(self.oracle.now, &self.links);
        let open = |&at: &usize| self.links[at].ended_at.is_none();
        let links: Vec<usize> = (0..self.links.len()).filter(open).collect();
        format!("{broker}; open links: {links:?}; clients: {clients:?}")
    }

    /// All clients delete what they had retained, end their sessions and go.
    fn leave(&mut self) -> Result<(), Broken> {
        for index in 0..self.clients.len() {
            self.begin_tick();
            self.delete_values(index);
            self.put_on_link(index);
        }
        self.converge()?;
        for index in 0..self.clients.len() {
            self.begin_tick();
            self.connect_to_end(index);
            self.put_on_link(index);
        }
        self.converge()?;
        for index in 0..self.clients.len() {
            self.begin_tick();
            self.say_goodbye(
                index,
                Goodbye {
                    reason: 0,
                    session_expiry_s: None,
                },
            );
        }
        for _ in 0..CONVERGE_STEPS_MAX {
            self.step_broker()?;
            if self.broker.is_idle(self.oracle.now, &self.links)
                && self.links.iter().all(|l| l.ended_at.is_some())
            {
                return Ok(());
            }
        }
        Err(Broken::new(
            "the world comes to rest",
            self.describe_unrest(),
        ))
    }
}

/// What can happen to a link.
#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Cut = 2,
    HalfOpen,
    Stall,
}

const WORLD_SALT: u64 = 2;
/// A step takes 100 us at most.
const STEP_NANOS_MAX: u64 = 100_000;
const JUMP_MS_MAX: u64 = 8_000;
/// Deadlines further away are not jumped to: they would end every session.
const DEADLINE_FAR: Duration = Duration::from_secs(60);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Pieces and socket buffers once the network is healed.
const HEALED_SIZE: usize = 64 * 1024;
/// Many times what the slowest mix needs.
pub const CONVERGE_STEPS_MAX: u32 = 200_000;
const SHELL_STEPS_PER_CONVERGE_STEP: u32 = 20;
