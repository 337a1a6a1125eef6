//! Output of a shard: effects that must not be lost. Bytes are pulled, not pushed, with
//! [`Shard::take_output`](crate::shard::Shard::take_output), because sockets set their pace.

use super::ask::Answer;
use super::message::{MsgClass, ShardMsg};
use super::note::Notes;
use super::parcel::Parcel;
use super::record::Record;
use crate::auth::AuthRequest;
use crate::codec::PublishRun;
use crate::ids::{ClientKey, ConnId, ShardId};
use crate::message::MessageParts;
use crate::store::{DiskError, DiskOp};

/// Effects of one or more calls of [`Shard::handle`](crate::shard::Shard::handle). The shell empties it at
/// the end of its turn, in this order: messages of all targets class by class, then output of the
/// dirty connections, then closes and handovers.
#[derive(Debug)]
pub struct Outbox {
    /// Connections that got something to send. Each stands here at most once until
    /// `take_output` empties it.
    pub dirty: Vec<ConnId>,
    /// Connections to stop reading, or to read again.
    pub readings: Vec<Reading>,
    /// Connections to close.
    pub closes: Vec<Close>,
    /// Connections whose home is another shard.
    pub handovers: Vec<Handover>,
    /// Clients to find out about. Each is answered with `Event::AuthDecided`.
    pub auth_requests: Vec<AuthRequest>,
    /// What is worth a line in the log; at most one per second and reason.
    pub records: Vec<Record>,
    /// What happened to clients, as far as the shell wants to know.
    pub notes: Notes,
    /// What the disk is asked for. Each is answered with `Event::DiskDone`.
    pub disk: Vec<DiskOp>,
    /// The disk has failed: no answer leaves any more, and the process has to end.
    pub disk_failure: Option<DiskError>,
    /// One for each `Event::Asked`, in order.
    pub answers: Vec<Answer>,
    /// Messages by class, then by target.
    posts: [Vec<Vec<ShardMsg>>; MsgClass::COUNT],
    posted_count: usize,
    /// Empty, to be filled again.
    parcels: Vec<Parcel>,
}

/// "Read this connection no more", or "again". Input that was received before still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// A live connection, or one that was closed since.
    pub conn: ConnId,
    /// Stop reading; false: go on.
    pub paused: bool,
}

/// "Close this connection."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// A live connection. Nothing that it still receives is looked at.
    pub conn: ConnId,
    /// Send first what is pending (a refusal, a DISCONNECT), within a short time; otherwise cut.
    pub flush: bool,
}

/// "This connection lives on another shard." The shard has forgotten it: the shell moves the socket
/// and hands `Accepted` and then `Received { bytes }` to the target. `Closed` still follows here.
#[derive(Debug, PartialEq, Eq)]
pub struct Handover {
    /// The connection here.
    pub conn: ConnId,
    /// Its home.
    pub target: ShardId,
    /// Everything that was received on it.
    pub bytes: Vec<u8>,
}

impl Outbox {
    /// An empty outbox towards `shards` shards.
    pub fn new(shards: usize) -> Outbox {
        Outbox {
            dirty: Vec::new(),
            readings: Vec::new(),
            closes: Vec::new(),
            handovers: Vec::new(),
            auth_requests: Vec::new(),
            records: Vec::new(),
            notes: Notes::default(),
            disk: Vec::new(),
            disk_failure: None,
            answers: Vec::new(),
            posts: std::array::from_fn(|_| (0..shards).map(|_| Vec::new()).collect()),
            posted_count: 0,
            parcels: Vec::new(),
        }
    }

    /// Posts a message to another shard.
    pub fn post(&mut self, target: ShardId, message: ShardMsg) {
        self.posts[message.class() as usize][target.index()].push(message);
        self.posted_count += 1;
    }

    /// Posts a message that suits a parcel.
    pub fn forward(&mut self, target: ShardId, parts: &MessageParts<'_>) {
        self.parcel(target, |parcel| parcel.has_room(parts))
            .push(parts);
    }

    /// Posts a run.
    pub fn forward_run(&mut self, target: ShardId, publisher: ClientKey, run: &PublishRun<'_>) {
        self.parcel(target, |parcel| parcel.has_room_for_run(run))
            .push_run(publisher, run);
    }

    /// The parcel to a shard that has room, or an empty one.
    fn parcel(&mut self, target: ShardId, has_room: impl Fn(&Parcel) -> bool) -> &mut Parcel {
        let slot = &mut self.posts[MsgClass::Forward as usize][target.index()];
        if !matches!(slot.last(), Some(ShardMsg::Forwards(parcel)) if has_room(parcel)) {
            slot.push(ShardMsg::Forwards(self.parcels.pop().unwrap_or_default()));
            self.posted_count += 1;
        }
        match slot.last_mut() {
            Some(ShardMsg::Forwards(parcel)) => parcel,
            _ => unreachable!("the last one is a parcel"),
        }
    }

    /// Takes a parcel back whose messages were handled: what came from one shard goes out to another.
    pub fn recycle(&mut self, mut parcel: Parcel) {
        if self.parcels.len() < PARCELS_MAX {
            parcel.clear();
            self.parcels.push(parcel);
        }
    }

    /// Takes the messages of one class to one target out, in order.
    pub fn take_posts(&mut self, class: MsgClass, target: ShardId) -> Vec<ShardMsg> {
        let taken = std::mem::take(&mut self.posts[class as usize][target.index()]);
        self.posted_count -= taken.len();
        taken
    }

    /// Puts back what a full inbox did not take; before anything posted since.
    pub fn untake_posts(&mut self, class: MsgClass, target: ShardId, mut messages: Vec<ShardMsg>) {
        self.posted_count += messages.len();
        let slot = &mut self.posts[class as usize][target.index()];
        messages.append(slot);
        *slot = messages;
    }

    /// Messages waiting to be taken, over all classes and targets.
    pub fn posted_count(&self) -> usize {
        self.posted_count
    }
}

/// Parcels that are kept: 64 KiB.
const PARCELS_MAX: usize = 4;
