//! Identifiers, each with its own type, so that they cannot be mixed up.

use std::fmt;
use std::num::NonZeroU16;

/// A shard: one core, one ring, one state machine. Dense, `0 <= index < shards <= MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u8);

impl ShardId {
    /// Most shards of one broker: one bit each in a word of the interest table.
    pub const COUNT_MAX: usize = 64;

    /// The shard of this index; `index < COUNT_MAX`.
    pub fn new(index: usize) -> ShardId {
        assert!(
            index < ShardId::COUNT_MAX,
            "shard index {index} is out of range"
        );
        ShardId(index as u8)
    }

    /// 0-based position among the shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A connection of one shard: the slot it sits in, and which use of that slot it is.
///
/// The shell that owns the sockets hands them out; a slot is used again only after `Event::Closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Slot, 0-based and dense.
    pub index: u32,
    /// Counts the uses of the slot, so that a late completion of an earlier socket is stale.
    pub generation: u32,
}

/// A session of one shard: slot and use of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Slot, 0-based and dense.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// Keyed hash of a client identifier: who published a message, without carrying the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(pub u64);

impl ClientKey {
    /// The broker itself: no client has it, but by an accident of 2^-64 that costs it a message.
    pub const BROKER: ClientKey = ClientKey(0);
}

/// A packet identifier, never zero [MQTT-2.2.1-3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for zero, which no packet may carry.
    pub fn new(value: u16) -> Option<PacketId> {
        NonZeroU16::new(value).map(PacketId)
    }

    /// The number on the wire.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

/// A position in a shard's log: bytes since the beginning of its epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(pub u64);

/// A turn of a shard, counted from 1 and anew with each start: what was recorded in it becomes
/// durable together. 0: before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnSeq(pub u64);

/// A session that outlives its connection, in what is recorded; never used twice, whatever becomes of
/// shards and starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNo(pub u64);

impl SessionNo {
    /// One start a second uses them up in 48 days.
    pub const EPOCHS_MAX: u32 = 1 << 22;
    /// Ten thousand sessions a second use them up in 79 days.
    pub const PER_SHARD_MAX: u64 = 1 << 36;

    /// The session that a shard made as its `counter`-th in an epoch, from 0.
    pub fn new(epoch: u32, shard: ShardId, counter: u64) -> SessionNo {
        assert!(
            epoch < SessionNo::EPOCHS_MAX && counter < SessionNo::PER_SHARD_MAX,
            "session numbers are used up: epoch {epoch}, session {counter}"
        );
        SessionNo(u64::from(epoch) << 42 | (shard.index() as u64) << 36 | counter)
    }
}

/// A message of QoS 1 or 2 among all that one session ever took, counted from 0. Not four bytes: 2^32 is
/// 1 modulo 65,535, so packet identifiers would break off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryNo(pub u64);

impl DeliveryNo {
    /// The packet identifier it is sent with: the same after a crash [MQTT-4.4.0-1].
    pub fn packet_id(self) -> PacketId {
        let id = (self.0 % u64::from(u16::MAX)) as u16 + 1;
        PacketId::new(id).expect("one more than a remainder is not zero")
    }
}

/// Names one running retained gather of a shard; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatherId {
    /// Whose subscription it is for.
    pub session: SessionId,
    /// Counts the gathers of the shard.
    pub number: u64,
}

/// Names a barrier that a shard has asked the others to answer; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BarrierId(pub u64);

/// Names a SUBACK that waits for other shards; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JoinId(pub u64);

/// A group of this shard's table; used again once the group is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId(pub(crate) u32);
