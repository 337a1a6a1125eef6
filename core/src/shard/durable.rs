//! The end of a turn: what it recorded goes to the log, and answers leave whose turns are durable.
//!
//! Not here: what is recorded (the handlers), who waits for whom (`store/gate.rs`).

use super::Shard;
use super::mail::message::ShardMsg;
use super::mail::outbox::Outbox;
use super::mail::turn::Turn;
use super::pace;
use crate::ids::{SessionId, ShardId, TurnSeq};
use crate::session::Pause;
use crate::store::{Clocks, DiskDone, Released};

impl Shard {
    /// Ends a turn of the shell: call it after the last event of the turn, before the outbox is flushed.
    pub fn end_turn(&mut self, clocks: Clocks, out: &mut Outbox) {
        if !self.dispatch.journal.is_on() {
            return;
        }
        let turn = &mut Turn {
            now: clocks.boot,
            out,
        };
        match self.dispatch.journal.end_turn(clocks, &mut turn.out.disk) {
            Ok(end) => {
                if let Some((ended, shards)) = end.marks {
                    for shard in shards.iter() {
                        turn.out.post(shard, ShardMsg::Mark { turn: ended });
                    }
                }
                for (shard, checkpoint) in end.receipts_durable {
                    turn.out
                        .post(shard, ShardMsg::ReceiptsDurable { checkpoint });
                }
                self.heed_released(end.released, turn);
                self.checkpoint(clocks, turn.out);
            }
            Err(error) => turn.out.disk_failure = Some(error),
        }
    }

    /// The disk has answered a checkpoint, or the log.
    pub(super) fn on_disk_done(&mut self, done: DiskDone, out: &mut Outbox) {
        if let Some(done) = self.checkpoints.on_done(done, &mut out.disk) {
            self.dispatch.journal.on_disk_done(done);
        }
    }

    pub(super) fn on_mark(&mut self, from: ShardId, upto: TurnSeq, turn: &mut Turn<'_>) {
        let released = self.dispatch.journal.on_mark(from, upto);
        self.heed_released(released, turn);
    }

    pub(super) fn on_durable(&mut self, from: ShardId, turns: [TurnSeq; 2], turn: &mut Turn<'_>) {
        let released = self.dispatch.journal.on_peer_durable(from, turns);
        self.heed_released(released, turn);
    }

    /// Everything that was recorded is durable, here and on the other shards: the process may end.
    pub fn is_durable(&self) -> bool {
        let journal = &self.dispatch.journal;
        journal.pending_bytes() == 0 && journal.open_turns() == 0
    }

    fn heed_released(&mut self, released: Released, turn: &mut Turn<'_>) {
        for (shard, turns) in released.durable {
            turn.out.post(shard, ShardMsg::Durable { turns });
        }
        for id in released.sessions {
            self.release_answers(id, turn);
        }
    }

    /// Sends the answers of a session that need not wait any longer, and messages that waited for packet
    /// identifiers; it may be gone.
    fn release_answers(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let dispatch = &mut self.dispatch;
        let session = dispatch.sessions.get_mut(id);
        let Some(link) = session.and_then(|session| session.link.as_mut()) else {
            return;
        };
        if let Some(mut held) = link.held.take() {
            let journal = &dispatch.journal;
            while let Some((packets, bytes)) = held.take(|until| journal.is_safe(until)) {
                link.write_packets(&mut dispatch.pool, &mut turn.out.dirty, packets, |buffer| {
                    buffer.extend_from_slice(&bytes)
                });
            }
            if held.is_little() {
                pace::resume(link, Pause::Log, turn);
            }
            if let Some(until) = held.until() {
                if dispatch.journal.is_done(until.turn) {
                    dispatch.journal.wait_for_sync(id);
                }
                link.held = Some(held);
            }
        }
        dispatch.free_identifiers(id);
        dispatch.pump(id, turn);
    }
}
