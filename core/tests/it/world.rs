//! A broker without sockets: some shards, and the far ends of their connections.
//!
//! It does what the shell does, at once and in a fixed order: passes the messages between shards
//! class by class until none is left, hands output to the far ends, moves connections to their
//! home, closes what is to be closed.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::{FixedState, FoldHasher};
use ringmq_core::auth::PeerIdentity;
use ringmq_core::auth::{Access, AuthRequest, Identity, Lease, Passwords, Proof, Verdict};
use ringmq_core::connection::Output;
use ringmq_core::home::Home;
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::limits::Limits;
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::{
    Answer, Ask, CloseCause, Event, Gauges, Heard, Metrics, MsgClass, Note, NoteKinds, Outbox,
    Piece, ProcessCounts, Record, Shard, ShardConfig, ShardMsg,
};
use ringmq_core::store::{Clocks, DiskError};
use ringmq_core::time::Instant;
use ringmq_core::topic::InterestTable;
use ringmq_sim::Disk;

/// The secret of every world.
pub const SECRET: [u64; 2] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210];

/// How the bytes of clients come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// As the script says them: a line at a time.
    Whole,
    /// One at a time, each in a turn of its own.
    Bytewise,
}

/// The far end of a connection, 0-based in the order of opening.
pub type SocketId = usize;

#[derive(Debug)]
struct Socket {
    /// Where it ends; `None` once it is closed.
    place: Option<(usize, ConnId)>,
    since: Instant,
    /// Everything that the broker sent.
    received: Vec<u8>,
    /// The far end takes nothing.
    is_stalled: bool,
    /// Taken from the shard and not yet by the far end.
    in_flight: Option<Output>,
    /// The shard does not want to read.
    is_paused: bool,
    /// Sent by the far end and not read.
    unread: Vec<u8>,
}

/// Slots of one shard, as the shell hands them out.
#[derive(Debug, Default)]
struct Slots {
    generations: Vec<u32>,
    free: Vec<u32>,
    sockets: BTreeMap<(u32, u32), SocketId>,
}

/// What the shell knows of users.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// `None`: whoever asks is denied.
    pub file: Option<Arc<Passwords>>,
    /// `None`: it takes no tokens.
    pub tokens: Option<Tokens>,
    /// What the shell says of the rules of a client that is known; `None`: it gives no rules.
    pub rules: Option<Leases>,
    /// Nobody answers until the script says so.
    pub is_slow: bool,
}

/// What the shell knows of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    /// What proves them.
    pub issuer: u64,
    /// Looks at one.
    pub judge: fn(&str, u64, Instant) -> Verdict,
}

/// The rules of users.
#[derive(Clone, Debug)]
pub struct Leases {
    /// `USER:SECONDS:RULES`; who is not among them has no rights.
    pub items: Vec<String>,
    /// Looks at one.
    pub judge: fn(&str, Instant) -> Lease,
}

/// Hashes a text as it is written, without keeping it.
pub struct StateHash(FoldHasher<'static>);

impl Default for StateHash {
    fn default() -> StateHash {
        StateHash(FixedState::with_seed(0).build_hasher())
    }
}

impl StateHash {
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl fmt::Write for StateHash {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0.write(piece.as_bytes());
        Ok(())
    }
}

pub struct World {
    feed: Feed,
    now: Instant,
    shards: Vec<Shard>,
    outboxes: Vec<Outbox>,
    slots: Vec<Slots>,
    sockets: Vec<Socket>,
    pub users: Users,
    /// With their shards, while `users.is_slow`.
    unanswered: Vec<(usize, AuthRequest)>,
    /// What the broker would have logged.
    records: Vec<Record>,
    /// The same of clients that come and go, if it is wanted.
    notes: Vec<Note>,
    /// Set while what came to a process that was stopped is read: when it was stopped.
    asleep_since: Option<Instant>,
    /// Deadlines that were due at once.
    pub deadlines_met: u64,
    /// Runs that went to another shard.
    pub runs_passed: usize,
    /// Marks that went to another shard.
    pub marks_passed: usize,
    /// Where the shards record; `None`: nowhere.
    pub disk: Option<Disk>,
    /// The log of some shard has failed.
    pub failure: Option<DiskError>,
}

impl World {
    pub fn new(shards: usize, limits: &Arc<Limits>, feed: Feed) -> World {
        World::with_sys(shards, limits, feed, Duration::ZERO)
    }

    /// A broker that knows who may connect.
    pub fn with_access(
        shards: usize,
        limits: &Arc<Limits>,
        feed: Feed,
        access: Access,
        users: Users,
    ) -> World {
        let mut world = World::with_all(shards, limits, feed, Duration::ZERO, Arc::new(access));
        world.users = users;
        world
    }

    /// Begins a log on this disk, which is empty; before the first connection.
    pub fn keep_on(&mut self, mut disk: Disk, limits: &Arc<Limits>, access: Access) {
        disk.start(self.shards.len(), clocks(self.now))
            .expect("there is nothing on it");
        let users = self.users.clone();
        let (shards, feed) = (self.shards.len(), self.feed);
        let (access, disk) = (Arc::new(access), Some(disk));
        *self = World::begin(shards, limits, feed, Duration::ZERO, access, disk);
        self.users = users;
        self.settle();
    }

    /// A broker that publishes `$SYS`.
    pub fn with_sys(
        shards: usize,
        limits: &Arc<Limits>,
        feed: Feed,
        sys_interval: Duration,
    ) -> World {
        World::with_all(shards, limits, feed, sys_interval, Arc::default())
    }

    /// Everything that there is to choose.
    pub fn with_all(
        shards: usize,
        limits: &Arc<Limits>,
        feed: Feed,
        sys_interval: Duration,
        access: Arc<Access>,
    ) -> World {
        World::begin(shards, limits, feed, sys_interval, access, None)
    }

    /// A broker that goes on with what is on a disk, at this time.
    pub fn with_disk(shards: usize, limits: &Arc<Limits>, disk: Disk, now: Instant) -> World {
        let (access, users) = (Access::default(), Users::default());
        World::with_disk_for(shards, limits, disk, now, (access, users))
    }

    /// The same, for a broker that knows who may connect.
    pub fn with_disk_for(
        shards: usize,
        limits: &Arc<Limits>,
        disk: Disk,
        now: Instant,
        (access, users): (Access, Users),
    ) -> World {
        let mut world = World::restored(shards, limits, disk, now, access);
        world.users = users;
        world.settle();
        world
    }

    /// A broker that goes on with what is on a disk, and until `wait` has heard of no client since before its start.
    pub fn with_disk_unheard(
        shards: usize,
        limits: &Arc<Limits>,
        disk: Disk,
        now: Instant,
    ) -> World {
        let mut world = World::restored(shards, limits, disk, now, Access::default());
        world.asleep_since = Some(Instant::ZERO);
        world.settle();
        world
    }

    fn restored(
        shards: usize,
        limits: &Arc<Limits>,
        mut disk: Disk,
        now: Instant,
        access: Access,
    ) -> World {
        let clocks = clocks(now);
        let recovered = disk.start(shards, clocks).expect("this disk is honest");
        let parts = recovered.split(&Home::new(SECRET, shards), shards);
        let mut world = World::begin(
            shards,
            limits,
            Feed::Whole,
            Duration::ZERO,
            Arc::new(access),
            Some(disk),
        );
        world.now = now;
        for (shard, part) in world.shards.iter_mut().zip(parts) {
            shard.set_checkpoint_bytes_min(32 * 1024);
            shard.restore(now, part);
        }
        world
    }

    fn begin(
        shards: usize,
        limits: &Arc<Limits>,
        feed: Feed,
        sys_interval: Duration,
        access: Arc<Access>,
        disk: Option<Disk>,
    ) -> World {
        let secret = SECRET;
        let interest = InterestTable::new(shards, 12, secret[0]);
        let interest = Arc::new(if disk.is_some() {
            interest.with_durable()
        } else {
            interest
        });
        let log = |index| Some(disk.as_ref()?.log_config(ShardId::new(index)));
        let config = |index| ShardConfig {
            log: log(index),
            id: ShardId::new(index),
            shards,
            secret,
            limits: limits.clone(),
            interest: interest.clone(),
            sys_interval,
            access: access.clone(),
        };
        World {
            feed,
            // Any start but zero: a shard has to do with differences.
            now: Instant::from_nanos(1_000_000_000_000),
            shards: (0..shards).map(|index| Shard::new(config(index))).collect(),
            outboxes: (0..shards).map(|_| Outbox::new(shards)).collect(),
            slots: (0..shards).map(|_| Slots::default()).collect(),
            sockets: Vec::new(),
            users: Users::default(),
            unanswered: Vec::new(),
            records: Vec::new(),
            notes: Vec::new(),
            asleep_since: None,
            deadlines_met: 0,
            runs_passed: 0,
            marks_passed: 0,
            disk,
            failure: None,
        }
    }

    /// Other users and rules on every shard, one after the other.
    pub fn replace_access(&mut self, access: Access) {
        let access = Arc::new(access);
        for shard in 0..self.shards.len() {
            let access = access.clone();
            self.handle(shard, Event::AccessReplaced { access });
        }
        self.settle();
    }

    /// What the shell has kept waiting gets its answer; `None` is what the users say.
    pub fn answer(&mut self, verdict: Option<&Verdict>) {
        for (shard, request) in std::mem::take(&mut self.unanswered) {
            let verdict = verdict
                .cloned()
                .unwrap_or_else(|| self.users.judge(&request, self.now));
            self.handle(shard, decided(&request, verdict));
        }
        self.settle();
    }

    /// A connection comes in, on the shards in turn.
    pub fn open(&mut self) -> SocketId {
        let socket = self.sockets.len();
        let shard = socket % self.shards.len();
        self.sockets.push(Socket {
            place: None,
            since: self.now,
            received: Vec::new(),
            is_stalled: false,
            in_flight: None,
            is_paused: false,
            unread: Vec::new(),
        });
        self.accept(shard, socket);
        self.settle();
        socket
    }

    /// The far end sends. What comes after the end of the connection is lost, as it is on a socket.
    pub fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        match self.feed {
            Feed::Whole => self.receive(socket, bytes),
            Feed::Bytewise => bytes.chunks(1).for_each(|byte| self.receive(socket, byte)),
        }
    }

    fn receive(&mut self, socket: SocketId, bytes: &[u8]) {
        if self.sockets[socket].is_paused || !self.sockets[socket].unread.is_empty() {
            self.sockets[socket].unread.extend_from_slice(bytes);
        } else if let Some((shard, conn)) = self.sockets[socket].place {
            self.handle(shard, Event::Received { conn, bytes });
            self.settle();
        }
    }

    /// The far end goes away.
    pub fn cut(&mut self, socket: SocketId, why: CloseCause) {
        self.end(socket, why);
        self.settle();
    }

    /// The far end takes nothing from now on, or everything again.
    pub fn stall(&mut self, socket: SocketId, is_stalled: bool) {
        self.sockets[socket].is_stalled = is_stalled;
        if !is_stalled {
            self.drain(socket);
            self.settle();
        }
    }

    /// Time passes; every deadline on the way is met at its time.
    pub fn wait(&mut self, span: Duration) {
        self.asleep_since = None;
        let until = self.now + span;
        while let Some((due, shard)) = self.next_deadline()
            && due <= until
        {
            self.now = self.now.max(due);
            self.meet_deadline(shard);
            self.settle();
        }
        self.now = until;
    }

    /// Time passes as it does for a process that was stopped: what comes until `wait` had come
    /// meanwhile, and is heard before anybody is judged.
    pub fn oversleep(&mut self, span: Duration) {
        self.asleep_since.get_or_insert(self.now);
        self.now = self.now + span;
    }

    /// The shell says how much memory the process takes, and that three reloads have failed.
    pub fn tell_memory(&mut self, bytes: u64) {
        let event = Event::ShellCounted {
            counts: &[],
            process: Some(ProcessCounts {
                memory_bytes: Some(bytes),
                counts: &[("reloads/failed", 3)],
            }),
        };
        self.handle(0, event);
        self.settle();
    }

    /// From here on there are notes of everything.
    pub fn want_notes(&mut self) {
        for outbox in &mut self.outboxes {
            outbox.notes.wanted = NoteKinds {
                clients: true,
                packets: true,
            };
        }
    }

    /// The notes so far.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// What a shard says to a question.
    pub fn ask(&mut self, shard: usize, ask: Ask) -> Answer {
        self.handle(shard, Event::Asked { ask });
        let answer = self.outboxes[shard].answers.pop();
        self.settle();
        answer.expect("what is asked is answered at once")
    }

    /// The broker is told to end.
    pub fn shut_down(&mut self) {
        for shard in 0..self.shards.len() {
            self.handle(shard, Event::ShutdownRequested);
        }
        self.settle();
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn is_closed(&self, socket: SocketId) -> bool {
        self.sockets[socket].place.is_none()
    }

    /// Everything that the far end was sent.
    pub fn received(&self, socket: SocketId) -> &[u8] {
        &self.sockets[socket].received
    }

    /// What the broker would have logged since the last time.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    pub fn sockets(&self) -> std::ops::Range<SocketId> {
        0..self.sockets.len()
    }

    pub fn gauges(&self) -> Vec<Gauges> {
        self.shards.iter().map(Shard::gauges).collect()
    }

    /// Shows everything in the shards but what only counts the past.
    pub fn state(&self) -> impl fmt::Debug {
        &self.shards
    }

    pub fn metrics(&self) -> impl Iterator<Item = &Metrics> {
        self.shards.iter().map(Shard::metrics)
    }

    fn next_deadline(&self) -> Option<(Instant, usize)> {
        let deadlines = self.shards.iter().enumerate();
        deadlines
            .filter_map(|(index, shard)| Some((shard.deadlines().earliest()?, index)))
            .min()
    }

    /// This shell has nothing unread, but for what came while it slept.
    fn heard(&self) -> Heard {
        Heard::all(self.asleep_since.unwrap_or(self.now))
    }

    fn meet_deadline(&mut self, shard: usize) {
        let heard = self.heard();
        self.handle(shard, Event::DeadlineReached { heard });
    }

    fn handle(&mut self, shard: usize, event: Event<'_>) {
        self.shards[shard].handle(self.now, event, &mut self.outboxes[shard]);
    }

    fn accept(&mut self, shard: usize, socket: SocketId) {
        let slots = &mut self.slots[shard];
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.generations.push(0);
            slots.generations.len() as u32 - 1
        });
        let conn = ConnId {
            index,
            generation: slots.generations[index as usize],
        };
        slots.sockets.insert((index, conn.generation), socket);
        self.sockets[socket].place = Some((shard, conn));
        let since = self.sockets[socket].since;
        self.handle(
            shard,
            Event::Accepted {
                conn,
                peer: PeerIdentity::default(),
                since,
            },
        );
    }

    /// The last event of a connection at its shard.
    fn end(&mut self, socket: SocketId, why: CloseCause) {
        let Some((shard, conn)) = self.sockets[socket].place.take() else {
            return;
        };
        self.sockets[socket].in_flight = None;
        if why != CloseCause::HandedOver {
            self.sockets[socket].unread.clear();
        }
        let slots = &mut self.slots[shard];
        slots.sockets.remove(&(conn.index, conn.generation));
        slots.generations[conn.index as usize] += 1;
        slots.free.push(conn.index);
        self.handle(shard, Event::Closed { conn, why });
    }

    /// Until no shard has anything left to say or to do.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = !self.pass_messages();
            for shard in 0..self.shards.len() {
                is_quiet &= !self.carry_out(shard);
            }
            is_quiet &= !self.read_on();
            is_quiet &= !self.meet_deadlines();
            is_quiet &= !self.end_turns();
            if is_quiet {
                return;
            }
        }
    }

    /// Each shard ends a turn, and the disk does what it was asked unless it is held.
    fn end_turns(&mut self) -> bool {
        let Some(disk) = &mut self.disk else {
            return false;
        };
        let mut ended = Vec::new();
        let mut has_effects = false;
        for (shard, outbox) in self.outboxes.iter_mut().enumerate() {
            self.shards[shard].end_turn(clocks(self.now), outbox);
            if let Some(error) = outbox.disk_failure.take() {
                assert!(disk.room.is_some(), "this disk does not fail: {error}");
                self.failure = Some(error);
            }
            has_effects |= !outbox.dirty.is_empty() || outbox.posted_count() > 0;
            for op in outbox.disk.drain(..) {
                disk.submit(shard, op);
            }
            while !disk.held[shard]
                && let Some(done) = disk.end_one(shard, 0)
            {
                ended.push((shard, done));
            }
        }
        has_effects |= !ended.is_empty();
        for (shard, done) in ended {
            self.handle(shard, Event::DiskDone(done));
        }
        has_effects
    }

    /// The disk of a shard ends one operation of those that it was asked for.
    pub fn end_disk_op(&mut self, shard: usize, at: usize) {
        let disk = self.disk.as_mut().expect("there is a disk");
        if let Some(done) = disk.end_one(shard, at) {
            self.handle(shard, Event::DiskDone(done));
            self.settle();
        }
    }

    /// The shell has looked at the free space.
    pub fn tell_space(&mut self, is_scarce: bool) {
        for shard in 0..self.shards.len() {
            self.handle(shard, Event::SpaceChanged { is_scarce });
        }
        self.settle();
    }

    /// The disk of a shard does nothing from now on, or everything again.
    pub fn hold_disk(&mut self, shard: usize, is_held: bool) {
        self.disk.as_mut().expect("there is a disk").held[shard] = is_held;
        self.settle();
    }

    fn pass_messages(&mut self) -> bool {
        let mut passed = false;
        while self.outboxes.iter().any(|outbox| outbox.posted_count() > 0) {
            passed = true;
            for class in MsgClass::ALL {
                for source in 0..self.shards.len() {
                    for target in 0..self.shards.len() {
                        let id = ShardId::new(target);
                        for message in self.outboxes[source].take_posts(class, id) {
                            let from = ShardId::new(source);
                            if let ShardMsg::Forwards(parcel) = &message {
                                let is_run = |piece: &Piece<'_>| matches!(piece, Piece::Run(..));
                                self.runs_passed += parcel.iter().filter(is_run).count();
                            }
                            let is_mark = matches!(message, ShardMsg::Mark { .. });
                            self.marks_passed += usize::from(is_mark);
                            self.handle(target, Event::FromShard { from, message });
                        }
                    }
                }
            }
        }
        passed
    }

    /// Output, then what to read, then handovers, then closes of one shard.
    fn carry_out(&mut self, shard: usize) -> bool {
        let outbox = &mut self.outboxes[shard];
        self.records.append(&mut outbox.records);
        self.notes.extend(outbox.notes.take().0);
        let dirty = std::mem::take(&mut outbox.dirty);
        let readings = std::mem::take(&mut outbox.readings);
        let handovers = std::mem::take(&mut outbox.handovers);
        let closes = std::mem::take(&mut outbox.closes);
        let requests = std::mem::take(&mut outbox.auth_requests);
        let is_idle = dirty.is_empty()
            && readings.is_empty()
            && handovers.is_empty()
            && closes.is_empty()
            && requests.is_empty();
        for &conn in &dirty {
            if let Some(socket) = self.socket_of(shard, conn) {
                self.drain(socket);
            }
        }
        for reading in readings {
            if let Some(socket) = self.socket_of(shard, reading.conn) {
                self.sockets[socket].is_paused = reading.paused;
            }
        }
        for handover in handovers {
            let socket = self
                .socket_of(shard, handover.conn)
                .expect("it was received from");
            self.end(socket, CloseCause::HandedOver);
            self.accept(handover.target.index(), socket);
            self.read(socket, &handover.bytes);
        }
        for close in closes {
            let Some(socket) = self.socket_of(shard, close.conn) else {
                continue;
            };
            if close.flush {
                self.drain(socket);
            }
            self.end(socket, CloseCause::Requested);
        }
        for request in requests {
            match self.users.is_slow {
                true => self.unanswered.push((shard, request)),
                false => {
                    let verdict = self.users.judge(&request, self.now);
                    self.handle(shard, decided(&request, verdict));
                }
            }
        }
        !is_idle
    }

    /// What is due at this moment.
    fn meet_deadlines(&mut self) -> bool {
        let heard = self.heard();
        let mut shards = self.shards.iter();
        let due = shards.position(|shard| shard.deadlines().are_due(self.now, heard));
        if let Some(shard) = due {
            self.deadlines_met += 1;
            self.meet_deadline(shard);
        }
        due.is_some()
    }

    /// What waited while its connection was paused, a bit at a time: it may be paused again.
    fn read_on(&mut self) -> bool {
        let mut has_read = false;
        for socket in self.sockets() {
            if self.sockets[socket].is_paused || self.sockets[socket].unread.is_empty() {
                continue;
            }
            has_read = true;
            let mut bytes = std::mem::take(&mut self.sockets[socket].unread);
            if self.feed == Feed::Bytewise {
                self.sockets[socket].unread = bytes.split_off(1);
            }
            self.read(socket, &bytes);
        }
        has_read
    }

    /// Bytes that waited.
    fn read(&mut self, socket: SocketId, bytes: &[u8]) {
        let chunk_size = match self.feed {
            Feed::Whole => bytes.len().max(1),
            Feed::Bytewise => 1,
        };
        for bytes in bytes.chunks(chunk_size) {
            if let Some((shard, conn)) = self.sockets[socket].place {
                self.handle(shard, Event::Received { conn, bytes });
            }
        }
    }

    fn socket_of(&self, shard: usize, conn: ConnId) -> Option<SocketId> {
        self.slots[shard]
            .sockets
            .get(&(conn.index, conn.generation))
            .copied()
    }

    /// Hands the output of a connection to its far end, as far as that takes it.
    fn drain(&mut self, socket: SocketId) {
        let Some((shard, conn)) = self.sockets[socket].place else {
            return;
        };
        loop {
            if self.sockets[socket].in_flight.is_none() {
                self.sockets[socket].in_flight = self.shards[shard].take_output(conn);
            }
            if self.sockets[socket].is_stalled {
                return;
            }
            let Some(output) = self.sockets[socket].in_flight.take() else {
                return;
            };
            self.deliver(socket, &output);
            self.shards[shard].recycle(output);
        }
    }

    fn deliver(&mut self, socket: SocketId, output: &Output) {
        let (shard, conn) = self.sockets[socket]
            .place
            .expect("the caller saw the place");
        let received = &mut self.sockets[socket].received;
        match output {
            Output::One(bytes) => received.extend_from_slice(bytes),
            Output::Many(chunks) => {
                chunks
                    .iter()
                    .for_each(|chunk| received.extend_from_slice(chunk.as_slice()));
            }
        }
        let size = u32::try_from(output.size()).expect("outputs are bounded");
        assert!(size > 0, "an output is never empty");
        match self.feed {
            Feed::Whole => self.handle(shard, Event::SendProgress { conn, size }),
            // The socket took the first byte alone.
            Feed::Bytewise => {
                self.handle(shard, Event::SendProgress { conn, size: 1 });
                if size > 1 {
                    self.handle(
                        shard,
                        Event::SendProgress {
                            conn,
                            size: size - 1,
                        },
                    );
                }
            }
        }
    }
}

fn clocks(now: Instant) -> Clocks {
    Clocks {
        boot: now,
        wall_ns: now.as_nanos(),
    }
}

fn decided(request: &AuthRequest, verdict: Verdict) -> Event<'static> {
    Event::AuthDecided {
        conn: request.conn,
        was_known: request.known.is_some(),
        verdict,
    }
}

impl Users {
    fn judge(&self, request: &AuthRequest, now: Instant) -> Verdict {
        let verdict = match &request.known {
            Some(identity) => Verdict::Granted((**identity).clone()),
            None => self.identify(request, now),
        };
        let (Verdict::Granted(identity), Some(leases)) = (&verdict, &self.rules) else {
            return verdict;
        };
        let user = identity.user.as_deref().unwrap_or("-");
        let mut lines = leases.items.iter();
        match lines.find(|line| line.split(':').next() == Some(user)) {
            Some(line) => Verdict::Granted(Identity {
                lease: Some((leases.judge)(line, now)),
                ..identity.clone()
            }),
            None => Verdict::Denied(Refusal::NoRules),
        }
    }

    fn identify(&self, request: &AuthRequest, now: Instant) -> Verdict {
        let shown = request.exchange.as_ref().map(|exchange| &exchange.data);
        let shown = shown.or(request.password.as_ref());
        let token = shown.and_then(|bytes| std::str::from_utf8(bytes).ok());
        if let Some(token) = token.and_then(|text| text.strip_prefix("token:")) {
            return match self.tokens {
                None => Verdict::Denied(Refusal::BadPassword),
                Some(tokens) => (tokens.judge)(token, tokens.issuer, now),
            };
        }
        let (Some(file), Some(user)) = (&self.file, request.user_name.as_deref()) else {
            return Verdict::Denied(Refusal::BadPassword);
        };
        let password = request.password.as_deref().unwrap_or_default();
        match file.find(user).filter(|_| file.check(user, password)) {
            Some(stored) => Verdict::Granted(Identity {
                user: Some(user.into()),
                proof: Proof::Password {
                    fingerprint: stored.fingerprint(),
                },
                ..Identity::default()
            }),
            None => Verdict::Denied(Refusal::BadPassword),
        }
    }
}
