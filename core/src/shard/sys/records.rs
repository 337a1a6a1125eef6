//! Samples of drops and refusals: which client, which topic, why.
//!
//! Counters tell how often; a record names one case. For each reason the first case makes a record
//! at once, and while there are more, each following second makes one more, with the last case and
//! a count. So "why did my message go missing" has an answer, and a flood of drops costs a
//! comparison and three short copies each.
//!
//! Not here: counting (`metrics.rs`), writing the log (the shell).

use crate::loss::Loss;
use crate::shard::mail::record::Record;
use crate::shard::mail::turn::Turn;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::session::Session;
use crate::time::Instant;

/// Whom and what a case is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    pub client: &'a str,
    /// Empty: none.
    pub user: &'a str,
    pub topic: &'a [u8],
    pub peer: Option<SocketAddr>,
    /// Where the connection is from that takes its place.
    pub by: Option<SocketAddr>,
}

impl<'a> Subject<'a> {
    /// A topic, and nobody in particular.
    pub fn nobody(topic: &'a [u8]) -> Subject<'a> {
        Subject {
            topic,
            ..Subject::default()
        }
    }

    /// The client of a session, and a topic.
    pub fn of(session: &'a Session, topic: &'a [u8]) -> Subject<'a> {
        Subject {
            client: &session.client_id,
            user: session.identity.user.as_deref().unwrap_or_default(),
            topic,
            peer: session.link.as_ref().and_then(|link| link.peer),
            by: None,
        }
    }
}

/// The sampler of one shard.
#[derive(Default)]
pub struct Records {
    /// By reason; made with the first case.
    slots: Vec<Slot>,
    /// When a slot has to say what it left out, at the earliest.
    due_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Silent until then.
    quiet_until: Instant,
    /// Cases since the last record, and the last of them.
    left_out: u64,
    client: String,
    user: String,
    topic: Vec<u8>,
    peer: Option<SocketAddr>,
    by: Option<SocketAddr>,
}

/// Bytes of a topic in a record.
pub const TOPIC_SIZE_MAX: usize = 256;
/// The time between two records of one reason.
const QUIET_SPAN: Duration = Duration::from_secs(1);

impl Records {
    /// Notes a case.
    pub fn note(&mut self, loss: Loss, subject: Subject<'_>, turn: &mut Turn<'_>) {
        if self.slots.is_empty() {
            self.slots.resize_with(Loss::COUNT, Slot::default);
        }
        let slot = &mut self.slots[loss.index()];
        let topic = &subject.topic[..subject.topic.len().min(TOPIC_SIZE_MAX)];
        if turn.now < slot.quiet_until {
            slot.left_out += 1;
            slot.client.clear();
            slot.client.push_str(subject.client);
            slot.user.clear();
            slot.user.push_str(subject.user);
            slot.topic.clear();
            slot.topic.extend_from_slice(topic);
            (slot.peer, slot.by) = (subject.peer, subject.by);
            let quiet_until = slot.quiet_until;
            self.due_at = Some(self.due_at.map_or(quiet_until, |at| at.min(quiet_until)));
            return;
        }
        slot.quiet_until = turn.now + QUIET_SPAN;
        // What was left out before has been reported: `flush` is called in time.
        turn.out.records.push(Record {
            loss,
            client: subject.client.into(),
            user: subject.user.into(),
            topic: topic.into(),
            peer: subject.peer,
            by: subject.by,
            count: 1 + std::mem::take(&mut slot.left_out),
        });
    }

    /// When to call [`Records::flush`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due_at
    }

    /// Says what was left out up to now.
    pub fn flush(&mut self, turn: &mut Turn<'_>) {
        if self.due_at.is_none_or(|at| at > turn.now) {
            return;
        }
        self.due_at = None;
        for (loss, slot) in Loss::all().zip(&mut self.slots) {
            if slot.left_out == 0 {
                continue;
            }
            if slot.quiet_until > turn.now {
                let at = slot.quiet_until;
                self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
                continue;
            }
            slot.quiet_until = turn.now + QUIET_SPAN;
            turn.out.records.push(Record {
                loss,
                client: std::mem::take(&mut slot.client).into(),
                user: std::mem::take(&mut slot.user).into(),
                topic: std::mem::take(&mut slot.topic).into(),
                peer: slot.peer,
                by: slot.by,
                count: std::mem::take(&mut slot.left_out),
            });
        }
    }
}

/// Nothing: it says nothing about how the shard goes on.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::DropReason;
    use crate::refusal::Refusal;
    use crate::shard::mail::outbox::Outbox;

    const SECOND: u64 = 1_000_000_000;

    fn note(records: &mut Records, nanos: u64, loss: Loss, client: &str, out: &mut Outbox) {
        let subject = Subject {
            client,
            topic: b"t",
            ..Subject::default()
        };
        let now = Instant::from_nanos(nanos);
        records.note(loss, subject, &mut Turn { now, out });
    }

    /// Client and count of the records that came.
    fn taken(out: &mut Outbox) -> Vec<(String, u64)> {
        let records = out.records.drain(..);
        records.map(|r| (r.client.into(), r.count)).collect()
    }

    #[test]
    fn the_first_case_is_logged_at_once_and_then_one_a_second_with_a_count() {
        let loss = Loss::Dropped(DropReason::QueueFull);
        let (mut records, mut out) = (Records::default(), Outbox::new(1));
        note(&mut records, SECOND, loss, "a", &mut out);
        assert_eq!(taken(&mut out), [("a".into(), 1)]);
        assert_eq!(records.next_deadline(), None);
        for _ in 0..1000 {
            note(&mut records, SECOND + 5, loss, "b", &mut out);
        }
        note(&mut records, SECOND + 9, loss, "c", &mut out);
        assert_eq!(taken(&mut out), []);
        // Each reason has its own second.
        let other = Loss::Refused(Refusal::KeepAlive);
        note(&mut records, SECOND + 10, other, "d", &mut out);
        assert_eq!(taken(&mut out), [("d".into(), 1)]);
        let due = records.next_deadline().unwrap();
        assert_eq!(due, Instant::from_nanos(2 * SECOND));
        records.flush(&mut Turn {
            now: due,
            out: &mut out,
        });
        assert_eq!(taken(&mut out), [("c".into(), 1001)]);
        assert_eq!(records.next_deadline(), None);
        // Quiet for another second, and then as at first.
        note(&mut records, 2 * SECOND + 1, loss, "e", &mut out);
        assert_eq!(taken(&mut out), []);
        let now = Instant::from_nanos(3 * SECOND);
        records.flush(&mut Turn { now, out: &mut out });
        assert_eq!(taken(&mut out), [("e".into(), 1)]);
        note(&mut records, 9 * SECOND, loss, "f", &mut out);
        assert_eq!(taken(&mut out), [("f".into(), 1)]);
    }

    #[test]
    fn long_topics_are_shortened() {
        let (mut records, mut out) = (Records::default(), Outbox::new(1));
        let subject = Subject {
            topic: &[b'x'; 1000],
            ..Subject::default()
        };
        let loss = Loss::Dropped(DropReason::Expired);
        let now = Instant::ZERO + QUIET_SPAN;
        records.note(loss, subject, &mut Turn { now, out: &mut out });
        assert_eq!(out.records[0].topic.len(), TOPIC_SIZE_MAX);
    }
}
