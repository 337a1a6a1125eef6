//! The slot table: one slot per socket of a shard.
//!
//! Invariants:
//! - a slot is freed only when none of its operations is in flight, and only after the kernel
//!   closed or another shard took its socket; a completion of another generation is ignored.
//! - `ops` counts `receiving`, `sending`, cancel and the close: at most [`Slot::OPS_MAX`].
//! - an idle connection costs its slot and nothing else here: at most 64 bytes.
//!
//! Not here: what to do next with a slot (`reactor`), buffers in flight (`ring`).

use std::os::fd::OwnedFd;

use ringmq_core::auth::PeerIdentity;
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::shard::CloseCause;
use ringmq_core::stages::Stamp;
use ringmq_core::time::Instant;

use crate::admission::Permit;
use crate::transport::Transport;

/// One socket.
#[derive(Debug)]
pub(crate) struct Slot {
    /// `None` once the socket went to the kernel to be closed, or to another shard.
    pub(crate) socket: Option<OwnedFd>,
    /// Which use of the slot this is.
    generation: u32,
    /// Where the connection is in its life.
    pub(crate) phase: Phase,
    /// Set until the connection is home.
    pub(crate) newcomer: Option<Box<Newcomer>>,
    /// The layers between the socket and MQTT; `None`: there are none.
    pub(crate) transport: Option<Box<Transport>>,
    /// What the connection takes up.
    pub(crate) permit: Permit,
    /// Operations in flight.
    ops: u8,
    /// A receive is in flight, one-shot or multishot.
    pub(crate) receiving: bool,
    /// The core asked not to read.
    pub(crate) paused: bool,
    /// A cancel of the receive is in flight, because of `paused`.
    pub(crate) pausing: bool,
    /// A send is in flight.
    pub(crate) sending: bool,
    /// A send has failed. Nothing more is sent; what the peer had said before is read to the end.
    pub(crate) mute: bool,
    /// The peer sent its FIN, or the socket failed to receive: nothing more to read.
    pub(crate) ended: bool,
    /// When output came behind the send that is in flight; `Stamp::UNKNOWN`: there is none.
    pub(crate) waiting_since: Stamp,
}

/// The life of a slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not in use.
    Free,
    /// The core knows the connection and gets its bytes.
    Open,
    /// The core asked to close it once what is pending was sent. Input is dropped.
    Draining,
    /// All is sent and our FIN too. Waits for the FIN of the peer: closing a socket with unread
    /// input resets the connection, and the peer could lose what was sent last.
    Lingering,
    /// On its way to another shard, as soon as no operation is in flight.
    Leaving(Box<Leaving>),
    /// To be closed as soon as no operation is in flight.
    Closing(CloseCause),
}

/// What has to travel along if the connection turns out to live on another shard.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    /// Who is there, as far as that is known.
    pub(crate) peer: PeerIdentity,
    /// When the listener accepted the connection.
    pub(crate) since: Instant,
    /// What it takes up.
    pub(crate) permit: Permit,
}

/// Where a connection goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// Its home.
    pub(crate) target: ShardId,
    /// Everything received so far.
    pub(crate) bytes: Vec<u8>,
}

impl Slot {
    /// Receive, send, and the cancel of the receive; the close of the socket starts when all of
    /// these are done. Only a connection that is home is paused, and only one that is not home
    /// departs.
    const OPS_MAX: u8 = 3;

    /// Counts an operation handed to the kernel.
    pub(crate) fn op_started(&mut self) {
        assert!(self.ops < Slot::OPS_MAX, "an operation nobody planned for");
        self.ops += 1;
    }

    /// Counts the last completion of an operation.
    pub(crate) fn op_ended(&mut self) {
        assert!(self.ops > 0, "a completion without an operation");
        self.ops -= 1;
    }

    /// Panics if the operations in flight are not those that the flags tell of.
    fn check_invariants(&self) {
        let told = u8::from(self.receiving) + u8::from(self.pausing) + u8::from(self.sending);
        let has_socket = self.socket.is_some();
        match &self.phase {
            Phase::Free => {
                assert_eq!((self.ops, told), (0, 0), "the kernel works for nobody");
                let is_empty = self.newcomer.is_none() && self.transport.is_none();
                assert!(!has_socket && is_empty, "a free slot holds nothing");
            }
            Phase::Open | Phase::Draining | Phase::Lingering => {
                assert!(has_socket, "a live phase has a socket");
                assert_eq!(self.ops, told, "an operation that nobody waits for");
            }
            Phase::Leaving(_) => {
                assert!(has_socket, "the socket leaves with the slot's end");
                // The cancel of the receive.
                assert!(told <= self.ops && self.ops <= told + 1);
            }
            Phase::Closing(_) if has_socket => {
                assert!(self.ops > 0, "nothing keeps the socket from being closed");
                // The cancel of the receive, if it was about to leave.
                assert!(told <= self.ops && self.ops <= told + 1);
            }
            Phase::Closing(_) => assert_eq!((self.ops, told), (1, 0), "only the close is left"),
        }
    }

    /// Nothing of this slot is with the kernel.
    pub(crate) fn is_quiet(&self) -> bool {
        self.ops == 0
    }
}

/// All slots of a shard.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// Most slots of a shard: an index has 24 bits in the user data of an operation.
    pub(crate) const COUNT_MAX: usize = 1 << 24;

    /// An empty table.
    pub(crate) fn new() -> Slots {
        Slots::default()
    }

    /// Gives the socket a slot, phase `Open`; gives it back when the table is full.
    pub(crate) fn insert(
        &mut self,
        socket: OwnedFd,
        newcomer: Newcomer,
        transport: Option<Box<Transport>>,
    ) -> Result<ConnId, OwnedFd> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() == Slots::COUNT_MAX => return Err(socket),
            None => {
                self.slots.push(Slot {
                    socket: None,
                    generation: 0,
                    phase: Phase::Free,
                    newcomer: None,
                    transport: None,
                    permit: Permit::Unwelcome,
                    ops: 0,
                    receiving: false,
                    paused: false,
                    pausing: false,
                    sending: false,
                    mute: false,
                    ended: false,
                    waiting_since: Stamp::UNKNOWN,
                });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.socket = Some(socket);
        slot.phase = Phase::Open;
        slot.permit = newcomer.permit;
        slot.newcomer = Some(Box::new(newcomer));
        slot.transport = transport;
        slot.ended = false;
        slot.paused = false;
        slot.pausing = false;
        slot.mute = false;
        slot.waiting_since = Stamp::UNKNOWN;
        Ok(ConnId {
            index,
            generation: slot.generation,
        })
    }

    /// The slot, if it is still the same connection.
    pub(crate) fn get(&mut self, conn: ConnId) -> Option<&mut Slot> {
        self.slots
            .get_mut(conn.index as usize)
            .filter(|slot| slot.generation == conn.generation && slot.phase != Phase::Free)
    }

    /// Makes the slot free for another connection.
    pub(crate) fn free(&mut self, conn: ConnId) {
        let slot = self.get(conn).expect("only a live slot is freed");
        assert!(slot.is_quiet(), "the kernel still works on this slot");
        slot.phase = Phase::Free;
        slot.socket = None;
        slot.newcomer = None;
        slot.transport = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
    }

    /// Slots in use.
    pub(crate) fn live_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Every connection in use; for the rare work that concerns all of them.
    pub(crate) fn live(&self) -> Vec<ConnId> {
        self.iter_live().map(|(conn, _)| conn).collect()
    }

    /// Every slot in use.
    pub(super) fn iter_live(&self) -> impl Iterator<Item = (ConnId, &Slot)> {
        let live = self.slots.iter().enumerate();
        live.filter(|(_, slot)| slot.phase != Phase::Free)
            .map(|(index, slot)| {
                let conn = ConnId {
                    index: index as u32,
                    generation: slot.generation,
                };
                (conn, slot)
            })
    }

    /// Panics if a slot is not what its flags say, or the list of free ones is not that.
    pub(super) fn check_invariants(&self) {
        self.slots.iter().for_each(Slot::check_invariants);
        let mut free = self.free.clone();
        free.sort_unstable();
        let all = (0..self.slots.len() as u32).zip(&self.slots);
        let found = all.filter(|(_, slot)| slot.phase == Phase::Free);
        assert!(
            free.into_iter().eq(found.map(|(index, _)| index)),
            "each free slot is listed once"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn newcomer() -> Newcomer {
        Newcomer {
            peer: PeerIdentity::default(),
            since: Instant::ZERO,
            permit: Permit::Regular(None),
        }
    }

    #[test]
    fn an_idle_connection_costs_at_most_64_bytes() {
        assert!(size_of::<Slot>() <= 64, "{}", size_of::<Slot>());
    }

    #[test]
    fn a_freed_slot_is_used_again_under_another_generation() {
        let mut slots = Slots::new();
        let first = slots.insert(socket(), newcomer(), None).unwrap();
        slots.free(first);
        let second = slots.insert(socket(), newcomer(), None).unwrap();
        assert_eq!(first.index, second.index);
        assert!(slots.get(first).is_none());
        assert!(slots.get(second).is_some());
        assert_eq!(slots.live(), [second]);
    }

    #[test]
    #[should_panic(expected = "still works on this slot")]
    fn a_slot_with_an_operation_in_flight_cannot_be_freed() {
        let mut slots = Slots::new();
        let conn = slots.insert(socket(), newcomer(), None).unwrap();
        slots.get(conn).unwrap().op_started();
        slots.free(conn);
    }
}
