//! One shard with what surrounds it: slots of connections, their sockets, its inbox.
//!
//! Invariants:
//! - a slot is used again only after `Event::Closed` of its connection was handled;
//! - a connection has at most one output in flight, and none is taken once it ends without flush.

use std::collections::VecDeque;
use std::time::Duration;

use ringmq_core::auth::PeerIdentity;
use ringmq_core::connection::Output;
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::shard::{
    CloseCause, Event, Heard, MsgClass, Outbox, Shard, ShardConfig, ShardMsg,
};
use ringmq_core::store::Clocks;
use ringmq_core::time::Instant;

use crate::broken::Broken;
use crate::link::{Link, LinkIndex};
use crate::pipe::Encoded;
use crate::surroundings::{Note, Surroundings};
use crate::trace::What;

#[derive(Debug)]
pub struct Shell {
    pub shard: Shard,
    pub outbox: Outbox,
    pub inbox: VecDeque<(ShardId, ShardMsg)>,
    pub arrivals: VecDeque<Arrival>,
    pub slots: Vec<Slot>,
    pub free: Vec<u32>,
    pub phase: Phase,
    /// Messages that did not fit into an inbox are kept back.
    pub stalled: bool,
    /// Its thread is stopped.
    pub frozen: bool,
    /// Events that the shard has taken in.
    events_count: u64,
}

/// A socket that is about to belong to a shard.
#[derive(Debug)]
pub struct Arrival {
    pub link: LinkIndex,
    pub since: Instant,
    /// What another shard has read already.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct Slot {
    pub generation: u32,
    pub conn: Option<Conn>,
}

#[derive(Debug)]
pub struct Conn {
    pub link: LinkIndex,
    pub output: Option<InFlight>,
    /// When the first byte was written that is not in `output`.
    pub written_at: Option<Instant>,
    /// When the first was encoded of what has been held back since the last output without such.
    pub held_since: Option<Instant>,
    /// There is output to take.
    pub dirty: bool,
    /// The shard has paused its reads.
    pub paused: bool,
    /// It is about to be handed over: a socket without CONNECT has one receive at a time, so
    /// nothing is under way that could still happen to it.
    pub leaving: bool,
    pub end: End,
}

/// How a connection ends, once that is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    Closing { flush: bool },
    HandedOver,
}

#[derive(Debug)]
pub struct InFlight {
    pub output: Output,
    pub bytes: Vec<u8>,
    pub sent: usize,
    pub encoded: Encoded,
}

/// Where a shard is in its turn.
#[derive(Debug)]
pub enum Phase {
    /// Takes in that many more events.
    Work(u64),
    /// Shows the messages of this class, one by one.
    Flush {
        class: usize,
        posts: VecDeque<(ShardId, ShardMsg)>,
    },
    /// Takes output, closes and hands over.
    Finish,
}

/// One thing that a shard can take in.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    Message,
    Arrival,
    Read(u32),
    Progress(u32),
    Deadline,
    Ended(u32, CloseCause),
    /// The disk has done what stands in this place of its queue.
    Disk(usize),
}

impl Shell {
    pub fn new(config: ShardConfig) -> Shell {
        Shell {
            outbox: Outbox::new(config.shards),
            shard: Shard::new(config),
            inbox: VecDeque::new(),
            arrivals: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            phase: Phase::Work(1),
            stalled: false,
            frozen: false,
            events_count: 0,
        }
    }

    /// Up to when everything that came was handed to the shard.
    pub fn heard(&self, now: Instant, links: &[Link]) -> Instant {
        let arrivals = self.arrivals.iter().map(|arrival| arrival.since);
        let conns = self.slots.iter().filter_map(|slot| slot.conn.as_ref());
        let unread = conns.filter_map(|conn| conn.unread_since(&links[conn.link]));
        arrivals.chain(unread).min().unwrap_or(now).min(now)
    }

    /// Everything that the shard could take in next.
    pub fn inputs(&self, now: Instant, heard: Heard, links: &[Link]) -> Vec<Input> {
        let mut inputs = Vec::new();
        if !self.inbox.is_empty() {
            inputs.push(Input::Message);
        }
        if !self.arrivals.is_empty() && !self.stalled {
            inputs.push(Input::Arrival);
        }
        if self.shard.deadlines().are_due(now, heard) {
            inputs.push(Input::Deadline);
        }
        for (slot, conn) in self.slots.iter().enumerate() {
            if let Some(conn) = &conn.conn {
                conn.inputs(slot as u32, &links[conn.link], self.stalled, &mut inputs);
            }
        }
        inputs
    }

    pub fn live(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.conn
            .as_mut()
            .filter(|_| slot.generation == id.generation)
    }

    /// Lets the shard take in one event.
    pub fn handle(&mut self, around: &mut Surroundings<'_>, event: Event<'_>) {
        let shard = self.shard.id().index();
        around.trace.log(
            What::Event,
            [shard as u64, around.now.as_nanos(), 0],
            format_args!("shard {shard} at {:?}: {event:?}", around.now),
        );
        let before = Effects::of(&self.outbox);
        self.shard.handle(around.now, event, &mut self.outbox);
        self.events_count += 1;
        if cfg!(debug_assertions) && self.events_count.is_multiple_of(CHECKED_EVERY) {
            self.shard.assert_invariants();
        }
        self.heed(&before, around);
    }

    /// Lets the shard end a turn.
    pub fn end_turn(&mut self, clocks: Clocks, around: &mut Surroundings<'_>) {
        let before = Effects::of(&self.outbox);
        self.shard.end_turn(clocks, &mut self.outbox);
        self.heed(&before, around);
    }

    /// Heeds what is new in the outbox and concerns connections.
    fn heed(&mut self, before: &Effects, around: &mut Surroundings<'_>) {
        self.note_held(around.now);
        for position in before.dirty..self.outbox.dirty.len() {
            let id = self.outbox.dirty[position];
            if let Some(conn) = self.live(id) {
                conn.written_at.get_or_insert(around.now);
            }
        }
        for reading in std::mem::take(&mut self.outbox.readings) {
            if let Some(conn) = self.live(reading.conn) {
                conn.paused = reading.paused;
                let link = conn.link;
                if !reading.paused {
                    around.links[link].read_at = around.now;
                }
            }
        }
        for position in before.closes..self.outbox.closes.len() {
            let close = self.outbox.closes[position];
            let conn = self
                .live(close.conn)
                .expect("a close names a live connection");
            let link = conn.link;
            around.links[link].closed_at.get_or_insert(around.now);
            around.notes.push(Note::Closed(link));
        }
        for position in before.handovers..self.outbox.handovers.len() {
            let id = self.outbox.handovers[position].conn;
            self.live(id)
                .expect("a handover names a live connection")
                .leaving = true;
        }
    }

    /// Notes the clients that the shard should have timed out by now. Those whose reads are paused
    /// are not among them.
    pub fn note_overdue(&self, heard: Heard, around: &mut Surroundings<'_>) {
        for slot in &self.slots {
            let Some(conn) = &slot.conn else { continue };
            if conn.end != End::Open || conn.leaving || conn.paused {
                continue;
            }
            let link = &around.links[conn.link];
            let silence_max = Duration::from_millis(1500 * u64::from(link.keep_alive_s));
            let overdue = heard.here > link.read_at + silence_max + TIMER_SLACK;
            if link.keep_alive_s > 0 && link.confirmed && link.closed_at.is_none() && overdue {
                around.notes.push(Note::Overdue(conn.link));
            }
        }
    }

    /// Takes the marks for a shard out, before their time.
    pub fn take_marks(&mut self, target: ShardId, posts: &mut VecDeque<(ShardId, ShardMsg)>) {
        let (marks, others): (Vec<_>, Vec<_>) = self
            .outbox
            .take_posts(MsgClass::Answer, target)
            .into_iter()
            .partition(|message| matches!(message, ShardMsg::Mark { .. }));
        self.outbox.untake_posts(MsgClass::Answer, target, others);
        for mark in marks {
            posts.push_front((target, mark));
        }
    }

    /// Resumes all reads.
    pub fn forget_pauses(&mut self) {
        for conn in self.slots.iter_mut().filter_map(|slot| slot.conn.as_mut()) {
            conn.paused = false;
        }
    }

    /// Checks that the output that waits for a slow client is bounded.
    pub fn check_unsent(&self, unsent_bytes_max: u32) -> Result<(), Broken> {
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(conn) = &slot.conn else { continue };
            let unsent = self.shard.unsent_bytes(self.id(index as u32));
            if unsent > unsent_bytes_max {
                let detail = format!("{unsent} bytes wait for link {}", conn.link);
                return Err(Broken::new("a slow client costs a bounded amount", detail));
            }
        }
        Ok(())
    }

    /// Gives the oldest arrival a slot.
    pub fn adopt(&mut self, around: &mut Surroundings<'_>) {
        let arrival = self.arrivals.pop_front().expect("listed as an input");
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation += 1;
        slot.conn = Some(Conn {
            link: arrival.link,
            output: None,
            written_at: None,
            held_since: None,
            dirty: false,
            paused: false,
            leaving: false,
            end: End::Open,
        });
        let conn = ConnId {
            index,
            generation: slot.generation,
        };
        let accepted = Event::Accepted {
            conn,
            peer: PeerIdentity::default(),
            since: arrival.since,
        };
        self.handle(around, accepted);
        if !arrival.bytes.is_empty() {
            let bytes = &arrival.bytes[..];
            around.links[arrival.link].read_at = around.now;
            self.handle(around, Event::Received { conn, bytes });
            self.after_read(conn, around);
        }
    }

    /// Reads a piece from the socket of a connection.
    pub fn read(&mut self, index: u32, chunk_size_max: usize, around: &mut Surroundings<'_>) {
        let id = self.id(index);
        let conn = self.live(id).expect("listed as an input");
        let link = &mut around.links[conn.link];
        let size = 1 + around.rng.index(link.up.len().min(chunk_size_max));
        let bytes = link.read(size, around.now);
        around.trace.mix(&bytes);
        let open = link.closed_at.is_none();
        self.handle(
            around,
            Event::Received {
                conn: id,
                bytes: &bytes,
            },
        );
        if open {
            self.after_read(id, around);
        }
    }

    /// Notes when the shard has read the client's DISCONNECT in an open connection.
    fn after_read(&mut self, id: ConnId, around: &mut Surroundings<'_>) {
        let conn = self.live(id).expect("read a moment ago");
        let link = &mut around.links[conn.link];
        if link.goodbye.is_some() && link.up.is_empty() && !conn.leaving {
            link.goodbye_read = true;
        }
    }

    /// The socket takes a piece of the output in flight.
    pub fn send(
        &mut self,
        index: u32,
        chunk_size_max: usize,
        lossy: bool,
        around: &mut Surroundings<'_>,
    ) {
        let id = self.id(index);
        let conn = self.live(id).expect("listed as an input");
        let output = conn.output.as_mut().expect("listed as an input");
        let link = &mut around.links[conn.link];
        let left = output.bytes.len() - output.sent;
        let most = left.min(link.room()).min(chunk_size_max);
        let size = 1 + around.rng.index(most);
        let bytes = &output.bytes[output.sent..output.sent + size];
        link.down.push(&bytes[usize::from(lossy)..], output.encoded);
        around.trace.mix(bytes);
        output.sent += size;
        let done = output.sent == output.bytes.len();
        // The broker does not read that this client is gone: a reset answers what it writes.
        if link.client_done && conn.paused {
            link.cut();
        }
        around.trace.log(
            What::Output,
            [conn.link as u64, size as u64, 0],
            format_args!("link {} takes {size} bytes", conn.link),
        );
        let size = size as u32;
        self.handle(around, Event::SendProgress { conn: id, size });
        if done {
            let conn = self.live(id).expect("it sent a moment ago");
            conn.dirty = true;
            let sent = conn.output.take().expect("sent a moment ago");
            self.shard.recycle(sent.output);
            self.take_output(index, around.now);
        }
    }

    /// The last event of a connection; its slot is free then.
    pub fn end(&mut self, index: u32, why: CloseCause, around: &mut Surroundings<'_>) {
        let id = self.id(index);
        let conn = self.slots[index as usize]
            .conn
            .take()
            .expect("listed as an input");
        if let Some(in_flight) = conn.output {
            self.shard.recycle(in_flight.output);
        }
        if conn.end != End::HandedOver {
            let link = &mut around.links[conn.link];
            link.broker_done = true;
            link.forget_unread();
            link.ended_at = Some(around.now);
            around.notes.push(Note::Ended(conn.link));
        }
        self.handle(around, Event::Closed { conn: id, why });
        // What the shard said about this connection before is void.
        self.outbox.dirty.retain(|&dirty| dirty != id);
        self.outbox.closes.retain(|close| close.conn != id);
        self.free.push(index);
    }

    /// What is held back until it is durable was encoded earlier than its connection becomes dirty.
    fn note_held(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let id = self.id(index as u32);
            if let Some(conn) = &mut self.slots[index].conn
                && conn.held_since.is_none()
                && self.shard.holds_answers(id)
            {
                conn.held_since = Some(now);
            }
        }
    }

    pub fn mark_dirty(&mut self, id: ConnId) {
        if let Some(conn) = self.live(id) {
            conn.dirty = true;
        }
    }

    /// Takes the output of all dirty connections that have none in flight.
    pub fn take_outputs(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            let conn = self.slots[index].conn.as_ref();
            if conn.is_some_and(|conn| conn.dirty && conn.output.is_none()) {
                self.take_output(index as u32, now);
            }
        }
    }

    fn take_output(&mut self, index: u32, now: Instant) {
        let id = self.id(index);
        let output = self.shard.take_output(id);
        let holds_answers = self.shard.holds_answers(id);
        let conn = self.live(id).expect("a dirty connection is live");
        conn.dirty = false;
        let written_at = conn.written_at.take().unwrap_or(now);
        let from = conn
            .held_since
            .map_or(written_at, |since| since.min(written_at));
        if !holds_answers {
            conn.held_since = None;
        }
        conn.output = output.map(|output| InFlight {
            bytes: output_bytes(&output),
            output,
            sent: 0,
            encoded: Encoded { from, by: now },
        });
    }

    fn id(&self, index: u32) -> ConnId {
        ConnId {
            index,
            generation: self.slots[index as usize].generation,
        }
    }
}

/// How much is in an outbox.
struct Effects {
    dirty: usize,
    closes: usize,
    handovers: usize,
}

impl Effects {
    fn of(outbox: &Outbox) -> Effects {
        Effects {
            dirty: outbox.dirty.len(),
            closes: outbox.closes.len(),
            handovers: outbox.handovers.len(),
        }
    }
}

impl Phase {
    /// Messages are on their way to inboxes.
    pub fn has_posts(&self) -> bool {
        match self {
            Phase::Flush { posts, .. } => !posts.is_empty(),
            Phase::Work(_) | Phase::Finish => false,
        }
    }
}

impl Conn {
    /// Since when bytes wait that the shard wants to have and has not got, or that its home has not
    /// got.
    fn unread_since(&self, link: &Link) -> Option<Instant> {
        match self.end {
            End::Open | End::Closing { .. } if self.leaving => Some(link.accepted_at),
            End::Open if !self.paused => link.unread_since,
            End::Open | End::Closing { .. } | End::HandedOver => None,
        }
    }

    fn inputs(&self, slot: u32, link: &Link, stalled: bool, inputs: &mut Vec<Input>) {
        match self.end {
            End::Open | End::Closing { .. } if self.leaving => return,
            End::HandedOver => {
                inputs.push(Input::Ended(slot, CloseCause::HandedOver));
                return;
            }
            End::Open | End::Closing { .. } if link.cut => {
                inputs.push(Input::Ended(slot, CloseCause::Failed(ECONNRESET)));
                return;
            }
            End::Open if stalled || self.paused => {}
            End::Open if !link.up.is_empty() => inputs.push(Input::Read(slot)),
            End::Open if link.client_done => {
                inputs.push(Input::Ended(slot, CloseCause::PeerClosed));
            }
            End::Open => {}
            End::Closing { flush } => {
                // The shell does not wait long for a socket that takes nothing.
                let flushed = self.output.is_none() && !self.dirty;
                let hopeless = link.room() == 0 || link.client_done;
                if !flush || flushed || hopeless {
                    inputs.push(Input::Ended(slot, CloseCause::Requested));
                }
            }
        }
        if self.output.is_some() && link.room() > 0 {
            inputs.push(Input::Progress(slot));
        }
    }
}

fn output_bytes(output: &Output) -> Vec<u8> {
    match output {
        Output::One(bytes) => bytes.clone(),
        Output::Many(chunks) => {
            let slices: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_slice()).collect();
            slices.concat()
        }
    }
}

/// The error of a socket that its peer has reset.
const ECONNRESET: i32 = 104;

/// Timers may be this late without breaking a promise.
const TIMER_SLACK: Duration = Duration::from_secs(1);
/// Events between two checks of a shard's invariants: few enough to see every kind of state, and
/// enough that the checks cost little.
const CHECKED_EVERY: u64 = 16;
