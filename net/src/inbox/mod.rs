//! The inboxes: how shards reach each other. One bounded queue per shard, many writers, one reader.
//!
//! Invariants:
//! - mail of one sender is read in the order it was sent, and mail is read in one order for all
//!   senders: a message sent after another was seen is read after it.
//! - `0 <= messages_free <= messages_max`; a batch is in the queue only if it got its share of it.
//!   A parcel is accepted whole if there is any room: it takes what there is.
//! - a full inbox refuses instead of waiting; a refused sender gets a wake-up once there is room.
//!
//! Not here: what a sender does meanwhile (`reactor/post.rs`).

pub(crate) mod park;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;
use ringmq_core::auth::{Access, AuthRequest, Verdict};
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, ShardMsg};
use ringmq_core::time::Instant;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use crate::atomics::{
    self, {AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
};
use crate::reactor::slot::Newcomer;
use crate::store::keeper::Kept;
use crate::transport::Transport;
use park::Park;

/// What an inbox can hold.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Messages of one class from one shard, at most [`BATCH_MESSAGES_MAX`].
    Messages {
        /// Who sent them.
        from: ShardId,
        /// In order.
        messages: Vec<ShardMsg>,
        /// Their share of `messages_free`.
        room: u32,
        /// When they were sent.
        posted_at: Instant,
    },
    /// A connection whose home is here.
    Connection(Box<Moved>),
    /// Who a client turned out to be.
    Decided(Box<Decision>),
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) request: AuthRequest,
    pub(crate) verdict: Verdict,
    /// The generation of the authenticators whose verdict it is.
    pub(crate) generation: u64,
}

/// A question of the control plane.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ask: Ask,
    /// Who waits for the answer; it may have given up.
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// A connection on its way to another shard.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) socket: OwnedFd,
    pub(crate) newcomer: Newcomer,
    pub(crate) transport: Option<Box<Transport>>,
    /// Everything received so far.
    pub(crate) bytes: Vec<u8>,
}

/// The inbox of one shard.
#[derive(Debug)]
pub(crate) struct Inbox {
    mail: ArrayQueue<Mail>,
    messages_max: usize,
    /// Messages that still fit.
    messages_free: CachePadded<AtomicUsize>,
    park: Park,
    /// One bit for each shard that was refused.
    refused: AtomicU64,
    /// An inbox that refused the reader has room again. Kept until the reader looks, because it may
    /// be awake and just about to announce that it sleeps.
    nudged: AtomicBool,
    shutdown: AtomicBool,
    /// Set while `access` holds something.
    has_access: AtomicBool,
    access: Mutex<Option<Arc<Access>>>,
    /// Answers of the keeper: at most one for each errand that the reader has given it.
    kept: SegQueue<Kept>,
    /// Questions of the control plane: they wait beside the mail, so that a full inbox can be asked why.
    asks: ArrayQueue<Asked>,
    /// How many, so that a turn without any costs one load.
    asks_waiting: AtomicUsize,
    /// The keeper has found that the disk is almost full.
    is_scarce: AtomicBool,
    wakeup: OwnedFd,
}

impl Inbox {
    /// An inbox for up to `messages_max` messages.
    pub(crate) fn new(messages_max: usize) -> io::Result<Inbox> {
        let messages_max = messages_max.max(1);
        Ok(Inbox {
            mail: ArrayQueue::new(messages_max.min(MAIL_COUNT_MAX)),
            messages_max,
            messages_free: CachePadded::new(AtomicUsize::new(messages_max)),
            park: Park::new(),
            refused: AtomicU64::new(0),
            nudged: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            has_access: AtomicBool::new(false),
            access: Mutex::default(),
            kept: SegQueue::new(),
            asks: ArrayQueue::new(ASKS_MAX),
            asks_waiting: AtomicUsize::new(0),
            is_scarce: AtomicBool::new(false),
            wakeup: eventfd(0, EventfdFlags::CLOEXEC)?,
        })
    }

    /// The descriptor that wakes the reader, for the ring and for the executor.
    pub(crate) fn wakeup(&self) -> &OwnedFd {
        &self.wakeup
    }

    /// Delivers messages; gives back, in order, those that did not fit. After a refusal, `from` is
    /// woken when there is room.
    pub(crate) fn post(
        &self,
        from: ShardId,
        now: Instant,
        messages: Vec<ShardMsg>,
    ) -> Result<(), Vec<ShardMsg>> {
        self.deliver(from, now, messages).or_else(|rest| {
            self.note_refusal(from);
            // The reader may have made room before it could see the note.
            self.deliver(from, now, rest)
        })
    }

    /// Delivers a connection, or gives it back, as `post` does.
    pub(crate) fn send(&self, from: ShardId, moved: Box<Moved>) -> Result<(), Box<Moved>> {
        let sent = self.push(Mail::Connection(moved)).or_else(|mail| {
            self.note_refusal(from);
            self.push(mail)
        });
        sent.map_err(|mail| match mail {
            Mail::Connection(moved) => moved,
            Mail::Messages { .. } | Mail::Decided(_) => unreachable!("a connection was sent"),
        })
    }

    /// Delivers a verdict, or gives it back. Nobody is woken when there is room.
    pub(crate) fn decide(&self, decision: Box<Decision>) -> Result<(), Box<Decision>> {
        let decided = self.push(Mail::Decided(decision));
        decided.map_err(|mail| match mail {
            Mail::Decided(decision) => decision,
            Mail::Messages { .. } | Mail::Connection(_) => unreachable!("a verdict was sent"),
        })
    }

    /// Tells the reader who may connect from here on, however full the inbox is. Of two that it has
    /// not seen it sees the later one.
    pub(crate) fn replace_access(&self, access: Arc<Access>) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = Some(access);
        self.has_access.store(true, Ordering::Release);
        self.nudge();
    }

    /// Reader: who may connect from here on, if that has changed.
    pub(crate) fn take_access(&self) -> Option<Arc<Access>> {
        if !self.has_access.load(Ordering::Relaxed) {
            return None;
        }
        self.has_access.swap(false, Ordering::Acquire);
        self.access
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Delivers an answer of the keeper, however full the inbox is.
    pub(crate) fn put_kept(&self, kept: Kept) {
        self.kept.push(kept);
        self.nudge();
    }

    /// Delivers a question, or drops it if too many wait: then nobody answers.
    pub(crate) fn ask(&self, asked: Asked) {
        if self.asks.push(asked).is_ok() {
            self.asks_waiting.fetch_add(1, Ordering::Release);
            self.nudge();
        }
    }

    /// Reader: the next question.
    pub(crate) fn take_ask(&self) -> Option<Asked> {
        if self.asks_waiting.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let asked = self.asks.pop()?;
        self.asks_waiting.fetch_sub(1, Ordering::Relaxed);
        Some(asked)
    }

    /// Messages that wait.
    pub(crate) fn messages_count(&self) -> usize {
        self.messages_max - self.messages_free.load(Ordering::Relaxed)
    }

    /// Tells the reader whether the disk is almost full.
    pub(crate) fn set_scarce(&self, is_scarce: bool) {
        self.is_scarce.store(is_scarce, Ordering::Release);
        self.nudge();
    }

    /// Reader: whether the disk is almost full.
    pub(crate) fn is_scarce(&self) -> bool {
        self.is_scarce.load(Ordering::Relaxed)
    }

    /// Reader: the next answer of the keeper.
    pub(crate) fn take_kept(&self) -> Option<Kept> {
        self.kept.pop()
    }

    fn deliver(
        &self,
        from: ShardId,
        now: Instant,
        mut messages: Vec<ShardMsg>,
    ) -> Result<(), Vec<ShardMsg>> {
        while !messages.is_empty() {
            let (_, wanted) = prefix(&messages, BATCH_MESSAGES_MAX);
            let granted = self.take_room(wanted);
            if granted == 0 {
                return Err(messages);
            }
            let (count, weight) = prefix(&messages, granted);
            let room = granted.min(weight);
            self.give_room(granted - room);
            let rest = messages.split_off(count);
            let mail = Mail::Messages {
                from,
                messages,
                room: room as u32,
                posted_at: now,
            };
            if let Err(mail) = self.push(mail) {
                let Mail::Messages { mut messages, .. } = mail else {
                    unreachable!("messages were sent")
                };
                self.give_room(room);
                messages.extend(rest);
                return Err(messages);
            }
            messages = rest;
        }
        Ok(())
    }

    /// Reserves room for up to `wanted` messages.
    fn take_room(&self, wanted: usize) -> usize {
        let taken = self
            .messages_free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                (free > 0).then(|| free - free.min(wanted))
            });
        taken.map_or(0, |free| free.min(wanted))
    }

    fn give_room(&self, room: usize) {
        if room > 0 {
            let before = self.messages_free.fetch_add(room, Ordering::Relaxed);
            debug_assert!(
                before + room <= self.messages_max,
                "room is given back by whom it was taken"
            );
        }
    }

    /// Panics if room is missing while nobody sends.
    #[cfg(test)]
    fn check_invariants(&self) {
        let free = self.messages_free.load(Ordering::SeqCst);
        assert!(free <= self.messages_max);
        if self.mail.is_empty() {
            assert_eq!(free, self.messages_max, "an empty inbox has all its room");
        }
    }

    fn push(&self, mail: Mail) -> Result<(), Mail> {
        self.mail.push(mail)?;
        if self.park.must_signal() {
            self.signal();
        }
        Ok(())
    }

    fn note_refusal(&self, from: ShardId) {
        self.refused.fetch_or(1 << from.index(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Makes the reader shut down, however full the inbox is.
    pub(crate) fn request_shutdown(&self) {
        self.shutdown.store(true, Ordering::Release);
        self.signal();
    }

    /// Reader: a shutdown was requested.
    pub(crate) fn shutdown_requested(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }

    /// Reader: the next mail.
    pub(crate) fn take(&self) -> Option<Mail> {
        let mail = self.mail.pop()?;
        if let Mail::Messages { room, .. } = &mail {
            self.give_room(*room as usize);
        }
        Some(mail)
    }

    /// Reader, after it took mail: the shards that were refused, each reported once.
    pub(crate) fn take_refused(&self) -> impl Iterator<Item = ShardId> + use<> {
        // Pairs with the fence of `note_refusal`: either we see the note, or they see the room.
        fence(Ordering::SeqCst);
        let mut refused = match self.refused.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.refused.swap(0, Ordering::Relaxed),
        };
        std::iter::from_fn(move || {
            let index = refused.trailing_zeros();
            refused &= refused.wrapping_sub(1);
            (index < u64::BITS).then(|| ShardId::new(index as usize))
        })
    }

    /// Reader: batches, connections and verdicts that wait.
    pub(crate) fn mail_count(&self) -> usize {
        self.mail.len()
    }

    /// Reader: there is something to take, or there may be room where there was none.
    pub(crate) fn has_news(&self) -> bool {
        let is_asked = self.asks_waiting.load(Ordering::Acquire) > 0;
        !self.mail.is_empty() || is_asked || self.nudged.load(Ordering::Acquire)
    }

    /// Reader: about to try again where it was refused.
    pub(crate) fn take_nudge(&self) {
        if self.nudged.load(Ordering::Relaxed) {
            self.nudged.swap(false, Ordering::Acquire);
        }
    }

    /// Reader: about to sleep. Look at `has_news` afterwards, then sleep.
    pub(crate) fn announce_park(&self) {
        self.park.announce();
    }

    /// Reader: awake again.
    pub(crate) fn withdraw_park(&self) {
        self.park.withdraw();
    }

    /// Tells the reader that there is room where it was refused, and wakes it if it sleeps.
    pub(crate) fn nudge(&self) {
        self.nudged.store(true, Ordering::Release);
        if self.park.must_signal() {
            self.signal();
        }
    }

    fn signal(&self) {
        // Fails only if the counter is at its end, and then the reader is being woken anyway.
        let _ = rustix::io::write(self.wakeup.as_fd(), &1u64.to_ne_bytes());
    }
}

/// How many messages of a batch have a weight of up to `max`, at least one, and their weight.
fn prefix(messages: &[ShardMsg], max: usize) -> (usize, usize) {
    let (mut count, mut weight) = (0, 0);
    for message in messages {
        let more = message.weight();
        if count > 0 && weight + more > max {
            break;
        }
        (count, weight) = (count + 1, weight + more);
    }
    (count, weight)
}

/// Most messages of one batch: bounds the work between two looks at the clock of the reader.
const BATCH_MESSAGES_MAX: usize = 1024;
/// Most batches and connections that wait, whatever the bound on messages: 64 turns of the reader.
/// The queue takes up its memory at once, 48 bytes for each.
const MAIL_COUNT_MAX: usize = 4 * 1024;
/// Most questions that wait: what the control plane asks at once, see `admin/asker.rs`.
pub(crate) const ASKS_MAX: usize = 9;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use ringmq_core::codec::QoS;
    use ringmq_core::ids::BarrierId;
    use ringmq_core::ids::ClientKey;
    use ringmq_core::message::MessageParts;
    use ringmq_core::shard::{MsgClass, Outbox};

    use super::*;

    fn parts() -> MessageParts<'static> {
        MessageParts {
            topic: b"t",
            properties: &[],
            payload: b"x",
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            publisher: ClientKey(1),
            author: None,
        }
    }

    fn numbered(number: u64) -> ShardMsg {
        ShardMsg::Barrier {
            barrier: BarrierId(number),
        }
    }

    fn number(message: &ShardMsg) -> u64 {
        match message {
            ShardMsg::Barrier { barrier } => barrier.0,
            other => panic!("{other:?}"),
        }
    }

    fn numbers(messages: &[ShardMsg]) -> Vec<u64> {
        messages.iter().map(number).collect()
    }

    #[test]
    fn a_full_inbox_gives_back_what_does_not_fit_in_order() {
        let inbox = Inbox::new(3).unwrap();
        let me = ShardId::new(5);
        let refused = inbox
            .post(me, Instant::ZERO, (0..5).map(numbered).collect())
            .unwrap_err();
        assert_eq!(numbers(&refused), [3, 4]);
        let Some(Mail::Messages { messages, from, .. }) = inbox.take() else {
            panic!()
        };
        assert_eq!((numbers(&messages), from), (vec![0, 1, 2], me));
        assert_eq!(inbox.take_refused().collect::<Vec<_>>(), [me]);
        assert_eq!(inbox.take_refused().count(), 0);
        inbox.post(me, Instant::ZERO, refused).unwrap();
        while inbox.take().is_some() {}
        inbox.check_invariants();
    }

    #[test]
    fn every_refused_shard_is_reported_once() {
        let inbox = Inbox::new(1).unwrap();
        inbox
            .post(ShardId::new(0), Instant::ZERO, vec![numbered(0)])
            .unwrap();
        for index in [63, 0, 7, 7] {
            let refused = inbox.post(ShardId::new(index), Instant::ZERO, vec![numbered(1)]);
            assert!(refused.is_err());
        }
        let refused: Vec<_> = inbox.take_refused().map(ShardId::index).collect();
        assert_eq!(refused, [0, 7, 63]);
    }

    #[test]
    fn a_long_post_is_cut_into_bounded_batches() {
        let inbox = Inbox::new(10_000).unwrap();
        let messages = (0..2500).map(numbered).collect();
        inbox
            .post(ShardId::new(0), Instant::ZERO, messages)
            .unwrap();
        let mut read = Vec::new();
        while let Some(Mail::Messages { messages, .. }) = inbox.take() {
            assert!(messages.len() <= BATCH_MESSAGES_MAX);
            read.extend(numbers(&messages));
        }
        assert_eq!(read, (0..2500).collect::<Vec<_>>());
    }

    #[test]
    fn a_parcel_goes_in_as_a_whole_if_there_is_any_room() {
        let mut outbox = Outbox::new(2);
        let mut parcel_of = |count| {
            for _ in 0..count {
                outbox.forward(ShardId::new(1), &parts());
            }
            let mut taken = outbox.take_posts(MsgClass::Forward, ShardId::new(1));
            assert_eq!(taken.len(), 1);
            taken.remove(0)
        };
        let (large, small) = (parcel_of(5), parcel_of(2));
        let inbox = Inbox::new(4).unwrap();
        let me = ShardId::new(0);
        // Three of four places are left for five messages; and then none.
        let rest = inbox.post(me, Instant::ZERO, vec![numbered(0), large.clone(), small]);
        let rest = rest.unwrap_err();
        assert_eq!(rest.iter().map(ShardMsg::weight).collect::<Vec<_>>(), [2]);
        assert!(inbox.post(me, Instant::ZERO, vec![numbered(1)]).is_err());
        let mut read = Vec::new();
        while let Some(Mail::Messages { messages, .. }) = inbox.take() {
            read.extend(messages.iter().map(ShardMsg::weight));
        }
        assert_eq!(read, [1, 5]);
        // All of the room came back, and no more than that.
        for _ in 0..3 {
            let four = (0..5).map(numbered).collect();
            assert_eq!(inbox.post(me, Instant::ZERO, four).unwrap_err().len(), 1);
            assert!(inbox.post(me, Instant::ZERO, vec![large.clone()]).is_err());
            while inbox.take().is_some() {}
            inbox.post(me, Instant::ZERO, vec![large.clone()]).unwrap();
            while inbox.take().is_some() {}
            inbox.check_invariants();
        }
    }

    // Writers fill a small inbox as fast as they can, and wait for their own wake-up when refused;
    // the reader sleeps whenever it is empty. A lost wake-up on either side hangs the test.
    #[test]
    fn no_wake_up_is_lost_between_sleeping_shards() {
        const PER_WRITER: u64 = 20_000;
        let inboxes: Arc<Vec<Inbox>> = Arc::new((0..3).map(|_| Inbox::new(4).unwrap()).collect());
        let sleep = |inbox: &Inbox| {
            inbox.announce_park();
            if !inbox.has_news() {
                rustix::io::read(inbox.wakeup(), &mut [0; 8]).unwrap();
            }
            inbox.withdraw_park();
        };
        let writers: Vec<_> = (1..3)
            .map(|writer| {
                let inboxes = Arc::clone(&inboxes);
                thread::spawn(move || {
                    for value in 0..PER_WRITER {
                        let mut rest = vec![numbered(value)];
                        while let Err(refused) =
                            inboxes[0].post(ShardId::new(writer), Instant::ZERO, rest)
                        {
                            // Refused, noted, and refused again: the nudge is certain.
                            rest = refused;
                            sleep(&inboxes[writer]);
                            inboxes[writer].take_nudge();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; 3];
        while next[1] < PER_WRITER || next[2] < PER_WRITER {
            let Some(mail) = inboxes[0].take() else {
                sleep(&inboxes[0]);
                continue;
            };
            let Mail::Messages { from, messages, .. } = mail else {
                panic!()
            };
            for message in &messages {
                assert_eq!(number(message), next[from.index()], "order of a sender");
                next[from.index()] += 1;
            }
            for shard in inboxes[0].take_refused() {
                inboxes[shard.index()].nudge();
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
        inboxes.iter().for_each(Inbox::check_invariants);
    }
}
