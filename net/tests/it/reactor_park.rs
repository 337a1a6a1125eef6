//! The handshake of a parked reactor under loom: every interleaving, and every value that a relaxed
//! load may see.

mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}
#[path = "../../src/inbox/park.rs"]
mod park;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use park::Park;

/// An inbox without its queue: what was delivered, and the signals of the wake-up descriptor.
struct Sleeper {
    park: Park,
    mail: AtomicUsize,
    signals: AtomicUsize,
}

impl Sleeper {
    fn new() -> Arc<Sleeper> {
        Arc::new(Sleeper {
            park: Park::new(),
            mail: AtomicUsize::new(0),
            signals: AtomicUsize::new(0),
        })
    }

    fn deliver(&self) {
        self.mail.fetch_add(1, Ordering::Release);
        if self.park.must_signal() {
            self.signals.fetch_add(1, Ordering::Release);
        }
    }
}

#[test]
fn a_sleeper_that_saw_no_mail_is_signalled() {
    loom::model(|| {
        let sleeper = Sleeper::new();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let sleeper = Arc::clone(&sleeper);
                thread::spawn(move || sleeper.deliver())
            })
            .collect();
        sleeper.park.announce();
        let seen = sleeper.mail.load(Ordering::Acquire);
        for sender in senders {
            sender.join().unwrap();
        }
        let signals = sleeper.signals.load(Ordering::Acquire);
        // Whatever it did not see before it fell asleep is signalled.
        assert!(seen == 2 || signals > 0, "{seen} seen, {signals} signals");
    });
}

#[test]
fn a_sleeper_is_signalled_at_most_once() {
    loom::model(|| {
        let sleeper = Sleeper::new();
        sleeper.park.announce();
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let sleeper = Arc::clone(&sleeper);
                thread::spawn(move || sleeper.deliver())
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!(sleeper.signals.load(Ordering::Acquire), 1);
    });
}

#[test]
fn an_awake_reader_costs_no_signal() {
    loom::model(|| {
        let sleeper = Sleeper::new();
        sleeper.park.announce();
        sleeper.park.withdraw();
        let sender = {
            let sleeper = Arc::clone(&sleeper);
            thread::spawn(move || sleeper.deliver())
        };
        sender.join().unwrap();
        assert_eq!(sleeper.signals.load(Ordering::Acquire), 0);
    });
}
