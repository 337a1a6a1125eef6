//! The connections of one shard, by the slot that the shell gave them.
//!
//! Invariant: a slot is `Vacant` exactly while the shell has no connection in it: before
//! `Event::Accepted` and after `Event::Closed`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Egress;
use crate::auth::PeerIdentity;
use crate::auth::ScramStep;
use crate::codec::Framer;
use crate::ids::{ConnId, SessionId};
use crate::refusal::Refusal;
use crate::time::Instant;

/// States of a connection.
#[derive(Debug)]
pub enum Connection {
    /// No connection.
    Vacant,
    /// Its first packet has not arrived whole.
    AwaitConnect(Box<AwaitConnect>),
    /// CONNECT is here, and who sent it is being found out.
    Authenticating(Box<Authenticating>),
    /// CONNECT was accepted: the rest is in the session's link.
    Open(SessionId),
    /// The shell was asked to close it; holds what is still to be sent.
    Closing(Box<Egress>),
    /// It moved to another shard; the shell will report it closed.
    HandedOver,
}

/// A connection before its CONNECT.
#[derive(Debug)]
pub struct AwaitConnect {
    /// When it was accepted.
    pub since: Instant,
    /// Who is there.
    pub peer: PeerIdentity,
    /// What its CONNECT is answered with, whatever it says.
    pub unwelcome: Option<Refusal>,
    /// What has come of the CONNECT.
    pub framer: Framer,
}

/// A connection between CONNECT and CONNACK. Its time is up when that of the CONNECT would be.
#[derive(Debug)]
pub struct Authenticating {
    /// When it was accepted.
    pub since: Instant,
    /// Who is there.
    pub peer: PeerIdentity,
    /// The CONNECT packet. It takes effect when it is known who sent it.
    pub connect: Box<[u8]>,
    /// Largest packet that the client takes.
    pub packet_size_max: u32,
    /// What is to be sent.
    pub egress: Egress,
    /// Who has to do something.
    pub step: AuthStep,
}

/// Who has to do something about a connection that is being authenticated.
#[derive(Debug)]
pub enum AuthStep {
    /// The shell has to answer. What the client sends meanwhile waits; the shell was asked not to
    /// read on.
    Asked {
        /// Behind the CONNECT.
        input: Vec<u8>,
        /// What the authentication method has to say at last.
        data: Vec<u8>,
        /// When it was asked.
        asked_at: Instant,
    },
    /// The client has to send AUTH.
    Challenged {
        /// How far the exchange is.
        scram: ScramStep,
        /// What has come of the AUTH.
        framer: Framer,
    },
}

impl Authenticating {
    /// Memory that it keeps of what the client sent.
    pub fn held_size(&self) -> usize {
        let waiting = match &self.step {
            AuthStep::Asked { input, data, .. } => input.len() + data.len(),
            AuthStep::Challenged { framer, .. } => framer.memory_size(),
        };
        self.connect.len() + waiting
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct Connections {
    slots: Vec<Slot>,
    count: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Connection,
}

impl Connections {
    /// Where a client is that is being let in; `None`: not known, or at a Unix socket.
    pub fn peer_of(&self, conn: ConnId) -> Option<SocketAddr> {
        self.newcomer(conn)?.address
    }

    /// The listener of a client that is being let in, as the shell calls it.
    pub fn listener_of(&self, conn: ConnId) -> Option<Arc<str>> {
        self.newcomer(conn)?.listener.clone()
    }

    fn newcomer(&self, conn: ConnId) -> Option<&PeerIdentity> {
        match self.get(conn)? {
            Connection::AwaitConnect(waiting) => Some(&waiting.peer),
            Connection::Authenticating(waiting) => Some(&waiting.peer),
            Connection::Vacant
            | Connection::Open(_)
            | Connection::Closing(_)
            | Connection::HandedOver => None,
        }
    }

    /// Notes a new connection. The slot is vacant: that is the shell's promise.
    pub fn insert(&mut self, conn: ConnId, connection: AwaitConnect) {
        let index = conn.index as usize;
        while self.slots.len() <= index {
            self.slots.push(Slot {
                generation: 0,
                connection: Connection::Vacant,
            });
        }
        let slot = &mut self.slots[index];
        let vacant = matches!(slot.connection, Connection::Vacant);
        assert!(
            vacant,
            "a slot was used again before its connection was closed"
        );
        slot.generation = conn.generation;
        slot.connection = Connection::AwaitConnect(Box::new(connection));
        self.count += 1;
    }

    /// The state of a connection; `None` for an id of an earlier use of the slot.
    pub fn get(&self, conn: ConnId) -> Option<&Connection> {
        let slot = self.slots.get(conn.index as usize)?;
        (slot.generation == conn.generation).then_some(&slot.connection)
    }

    /// The state of a connection; `None` for an id of an earlier use of the slot.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        (slot.generation == conn.generation).then_some(&mut slot.connection)
    }

    /// Changes the state of a live connection and gives the one before.
    pub fn replace(&mut self, conn: ConnId, connection: Connection) -> Connection {
        let present = self
            .get_mut(conn)
            .expect("only live connections change state");
        assert!(
            !matches!(present, Connection::Vacant),
            "a vacant slot has no state to change"
        );
        std::mem::replace(present, connection)
    }

    /// Vacates the slot and gives the last state; `None` for a stale id.
    pub fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        let present = self.get_mut(conn)?;
        if matches!(present, Connection::Vacant) {
            return None;
        }
        let last = std::mem::replace(present, Connection::Vacant);
        self.count -= 1;
        while self
            .slots
            .last()
            .is_some_and(|s| matches!(s.connection, Connection::Vacant))
        {
            self.slots.pop();
        }
        if self.slots.capacity() > 4 * (self.slots.len() + 16) {
            self.slots.shrink_to(2 * self.slots.len());
        }
        Some(last)
    }

    /// Panics if an invariant does not hold; walks all slots.
    pub fn assert_invariants(&self) {
        assert_eq!(self.ids().count(), self.count, "connections are counted");
        let last = self.slots.last().map(|slot| &slot.connection);
        let is_trimmed = !matches!(last, Some(Connection::Vacant));
        assert!(is_trimmed, "vacant slots at the end are given back");
        for slot in &self.slots {
            match &slot.connection {
                Connection::Authenticating(waiting) => waiting.egress.assert_invariants(),
                Connection::Closing(egress) => egress.assert_invariants(),
                Connection::Vacant
                | Connection::AwaitConnect(_)
                | Connection::Open(_)
                | Connection::HandedOver => {}
            }
        }
    }

    /// Connections that are not vacant.
    pub fn len(&self) -> usize {
        self.count
    }

    /// None is there.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The ids of all connections, in slot order.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let taken = !matches!(slot.connection, Connection::Vacant);
            taken.then_some(ConnId {
                index: index as u32,
                generation: slot.generation,
            })
        })
    }
}
