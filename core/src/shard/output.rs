//! Output of connections: appended by handlers, taken by the shell, its buffers given back.

use super::Shard;
use super::mail::outbox::Outbox;
use crate::connection::Connection;
use crate::connection::{Chunk, Output, Pending};
use crate::ids::{ConnId, SessionId};

impl Shard {
    /// Appends what `encode` writes to the output of a connected session, with a Reason String if that
    /// is welcome and fits.
    pub(super) fn write_reasoned(
        &mut self,
        id: SessionId,
        out: &mut Outbox,
        text: &str,
        encode: impl Fn(Option<&str>, &mut Vec<u8>),
    ) {
        let link = self.dispatch.sessions.link_mut(id);
        self.dispatch.metrics.controls_sent += 1;
        link.write_reasoned(&mut self.dispatch.pool, &mut out.dirty, text, encode);
    }

    /// Appends what `encode` writes to the output of a connected session.
    pub(super) fn write(
        &mut self,
        id: SessionId,
        out: &mut Outbox,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let link = self.dispatch.sessions.link_mut(id);
        self.dispatch.metrics.controls_sent += 1;
        link.write(&mut self.dispatch.pool, &mut out.dirty, encode);
    }

    /// Answers a client, as soon as what the answer promises is durable; with a Reason String if that is
    /// welcome and fits.
    pub(super) fn answer_reasoned(
        &mut self,
        id: SessionId,
        out: &mut Outbox,
        text: &str,
        encode: impl Fn(Option<&str>, &mut Vec<u8>),
    ) {
        let encode = self.link(id).reasoned(text, encode);
        self.dispatch.answer(id, out, encode);
    }

    /// Everything that `conn` has to send. Ask for connections that were reported dirty and have no
    /// output in flight, and again when an output has been sent.
    pub fn take_output(&mut self, conn: ConnId) -> Option<Output> {
        match self.connections.get_mut(conn)? {
            Connection::Open(id) => {
                let id = *id;
                let session = self.dispatch.sessions.get_mut(id)?;
                let output = session.link.as_mut()?.egress.take();
                if session.traced.is_any()
                    && let Some(output) = &output
                {
                    self.trace_output(id, output);
                }
                output
            }
            Connection::Authenticating(waiting) => waiting.egress.take(),
            Connection::Closing(egress) => egress.take(),
            Connection::Vacant | Connection::AwaitConnect(_) | Connection::HandedOver => None,
        }
    }

    /// Bytes that the socket of `conn` has not taken: in its egress, or in an output under way.
    pub fn unsent_bytes(&self, conn: ConnId) -> u32 {
        match self.connections.get(conn) {
            Some(Connection::Open(session)) => {
                let session = self.dispatch.sessions.get(*session);
                let link = session.and_then(|session| session.link.as_ref());
                link.map_or(0, |link| link.egress.unsent_bytes())
            }
            Some(Connection::Authenticating(waiting)) => waiting.egress.unsent_bytes(),
            Some(Connection::Closing(egress)) => egress.unsent_bytes(),
            Some(Connection::Vacant | Connection::AwaitConnect(_) | Connection::HandedOver)
            | None => 0,
        }
    }

    /// Whether something that is encoded for `conn` waits until it may be sent: until it is durable.
    pub fn holds_answers(&self, conn: ConnId) -> bool {
        let Some(Connection::Open(session)) = self.connections.get(conn) else {
            return false;
        };
        let session = self.dispatch.sessions.get(*session);
        let link = session.and_then(|session| session.link.as_ref());
        link.is_some_and(|link| link.held.is_some())
    }

    /// What pends on `conn`; pressing is whatever is not an open connection's.
    pub fn pending(&self, conn: ConnId) -> Pending {
        let Some(Connection::Open(session)) = self.connections.get(conn) else {
            return Pending::Pressing;
        };
        let session = self.dispatch.sessions.get(*session);
        let link = session.and_then(|session| session.link.as_ref());
        link.map_or(Pending::Nothing, |link| link.egress.pending())
    }

    /// Gives the buffers of a sent output back.
    pub fn recycle(&mut self, output: Output) {
        match output {
            Output::One(buffer) => self.dispatch.pool.put(buffer),
            Output::Many(chunks) => {
                for chunk in chunks {
                    match chunk {
                        Chunk::Own(buffer) => self.dispatch.pool.put(buffer),
                        Chunk::Shared(_) => {}
                    }
                }
            }
        }
    }
}
