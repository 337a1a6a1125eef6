//! QoS 2 from one publisher to subscribers on several shards, each with a log of its own: every schedule of two messages
//! with one packet identifier and up to three crashes. A crash leaves any prefix of each log that holds what was synced.
//! The other shards may replace what is synced by a checkpoint at any time, which has no origins. Each message reaches each shard once; without any one of the rules of `core/src/origin.rs`, some schedule breaks that.

use std::collections::HashSet;

const SHARDS: usize = 3;
const MESSAGES: u8 = 2;
const CRASHES: u8 = 3;

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    None,
    /// A message is recorded with its origin.
    Origin,
    /// The receipt is recorded when all have the message durably.
    ReceiptLast,
    /// The repetition goes to those who lack the message.
    Partial,
    /// A repetition has the ticket that the message had.
    TicketOfRepetition,
    /// Another message has another ticket.
    TicketOfAnother,
    /// PUBREL ends what is partial: PUBREC may have left before the receipt was durable.
    PartialEnds,
    /// A checkpoint waits for the receipts of what it replaces.
    FooterLast,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Record {
    Message {
        number: u8,
        ticket: u8,
    },
    /// In a checkpoint.
    Kept {
        number: u8,
    },
    Spread {
        ticket: u8,
    },
    Released,
}

/// What the client has heard of its exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Idle,
    Published,
    Received,
    Released,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    logs: [Vec<Record>; SHARDS],
    synced: [usize; SHARDS],
    /// Under way to each shard.
    mail: [Vec<Record>; SHARDS],
    /// The publisher's shard has the identifier, and the message under this ticket.
    receipt: Option<u8>,
    is_spread: bool,
    /// Ticket, and the shards that have the message.
    partial: Option<(u8, [bool; SHARDS])>,
    next_ticket: u8,
    phase: Phase,
    number: u8,
    crashes: u8,
}

impl State {
    fn first() -> State {
        State {
            logs: Default::default(),
            synced: [0; SHARDS],
            mail: Default::default(),
            receipt: None,
            is_spread: false,
            partial: None,
            next_ticket: 0,
            phase: Phase::Idle,
            number: 0,
            crashes: 0,
        }
    }

    fn on_publish(&mut self, is_repetition: bool, without: Rule) {
        if self.receipt.is_some() {
            return;
        }
        let partial = self
            .partial
            .take()
            .filter(|_| is_repetition && without != Rule::Partial);
        let ticket = match partial {
            Some((ticket, _)) if without != Rule::TicketOfRepetition => ticket,
            Some(_) | None => self.next_ticket,
        };
        if without != Rule::TicketOfAnother {
            self.next_ticket = self.next_ticket.max(ticket + 1);
        }
        let has = partial.map_or([false; SHARDS], |(_, has)| has);
        let number = self.number;
        for shard in (0..SHARDS).filter(|&shard| !has[shard]) {
            let message = Record::Message { number, ticket };
            if shard == 0 {
                self.logs[0].push(message);
            } else {
                self.mail[shard].push(message);
            }
        }
        self.receipt = Some(ticket);
        self.is_spread = without == Rule::ReceiptLast;
        if self.is_spread {
            self.logs[0].push(Record::Spread { ticket });
        }
    }

    fn is_durable(&self) -> bool {
        (0..SHARDS).all(|at| self.mail[at].is_empty() && self.synced[at] == self.logs[at].len())
    }

    /// PUBREL ends something.
    fn is_open(&self, without: Rule) -> bool {
        self.receipt.is_some() || (self.partial.is_some() && without != Rule::PartialEnds)
    }

    fn on_pubrel(&mut self) {
        let partial = self.partial.take().map(|(ticket, _)| ticket);
        let unnoted = self.receipt.take().filter(|_| !self.is_spread);
        if let Some(ticket) = unnoted.or(partial) {
            self.logs[0].push(Record::Spread { ticket });
        }
        self.is_spread = false;
        self.logs[0].push(Record::Released);
    }

    fn crash(&self, kept: [usize; SHARDS], without: Rule) -> State {
        let mut state = self.clone();
        state.crashes += 1;
        state.mail = Default::default();
        for (shard, &kept) in kept.iter().enumerate() {
            state.logs[shard].truncate(kept);
        }
        state.synced = kept;
        state.recover(without);
        state
    }

    /// A checkpoint may replace the log of this shard.
    fn may_be_replaced(&self, shard: usize, without: Rule) -> bool {
        let has_receipt = |ticket: u8| {
            let synced = &self.logs[0][..self.synced[0]];
            let is_it =
                |record: &Record| matches!(record, Record::Spread { ticket: of } if *of >= ticket);
            synced.iter().any(is_it)
        };
        let mut tickets = self.logs[shard].iter().filter_map(|record| match record {
            Record::Message { ticket, .. } => Some(*ticket),
            Record::Kept { .. } | Record::Spread { .. } | Record::Released => None,
        });
        self.synced[shard] == self.logs[shard].len()
            && tickets.clone().next().is_some()
            && (without == Rule::FooterLast || tickets.all(has_receipt))
    }

    fn replace(&mut self, shard: usize) {
        for record in &mut self.logs[shard] {
            if let Record::Message { number, .. } = *record {
                *record = Record::Kept { number };
            }
        }
    }

    /// All logs into one state.
    fn recover(&mut self, without: Rule) {
        let mut newest: Option<(u8, [bool; SHARDS])> = None;
        let (mut receipt, mut spread) = (None, None);
        for (shard, record) in
            (0..SHARDS).flat_map(|at| self.logs[at].iter().map(move |r| (at, *r)))
        {
            match record {
                Record::Message { ticket, .. } if without != Rule::Origin => {
                    let known = newest.filter(|(newest, _)| *newest >= ticket);
                    let (known, mut has) = known.unwrap_or((ticket, [false; SHARDS]));
                    has[shard] |= known == ticket;
                    newest = Some((known, has));
                }
                Record::Message { .. } | Record::Kept { .. } => {}
                Record::Spread { ticket } => (receipt, spread) = (Some(ticket), Some(ticket)),
                Record::Released => receipt = None,
            }
        }
        self.receipt = receipt;
        self.is_spread = receipt.is_some();
        self.partial = newest.filter(|(ticket, _)| spread.is_none_or(|spread| *ticket > spread));
        let used = newest.map(|(ticket, _)| ticket).max(spread);
        self.next_ticket = match used {
            Some(used) if without != Rule::TicketOfAnother => used + 1,
            Some(_) | None => 0,
        };
    }

    fn next(&self, without: Rule) -> Vec<State> {
        let mut next = Vec::new();
        let mut add = |change: &dyn Fn(&mut State)| {
            let mut state = self.clone();
            change(&mut state);
            next.push(state);
        };
        match self.phase {
            Phase::Idle if self.number < MESSAGES => {
                add(&|state| {
                    state.phase = Phase::Published;
                    state.on_publish(false, without);
                });
                // Lost with its connection.
                add(&|state| state.phase = Phase::Published);
            }
            Phase::Published if self.receipt.is_none() => {
                add(&|state| state.on_publish(true, without));
            }
            Phase::Published if self.is_durable() => {
                add(&|state| state.phase = Phase::Received);
            }
            Phase::Received if self.is_open(without) => add(&|state| state.on_pubrel()),
            Phase::Received if self.synced[0] == self.logs[0].len() => {
                add(&|state| state.phase = Phase::Released);
            }
            Phase::Released => add(&|state| {
                state.phase = Phase::Idle;
                state.number += 1;
            }),
            Phase::Idle | Phase::Published | Phase::Received => {}
        }
        for shard in 0..SHARDS {
            if !self.mail[shard].is_empty() {
                add(&|state| {
                    let message = state.mail[shard].remove(0);
                    state.logs[shard].push(message);
                });
            }
            if self.synced[shard] < self.logs[shard].len() {
                add(&|state| state.synced[shard] = state.logs[shard].len());
            }
            if shard > 0 && self.may_be_replaced(shard, without) {
                add(&|state| state.replace(shard));
            }
        }
        if let Some(ticket) = self.receipt
            && !self.is_spread
            && self.is_durable()
        {
            add(&|state| {
                state.logs[0].push(Record::Spread { ticket });
                state.is_spread = true;
            });
        }
        if self.crashes < CRASHES {
            let [a, b, c] = [0, 1, 2].map(|at| self.synced[at]..=self.logs[at].len());
            for a in a {
                for b in b.clone() {
                    next.extend(c.clone().map(|c| self.crash([a, b, c], without)));
                }
            }
        }
        next
    }

    fn is_right(&self) -> bool {
        let is_over = |number| {
            self.number > number || (self.number == number && self.phase == Phase::Received)
        };
        let times = |shard: usize, number| {
            let is_it = |record: &&Record| match record {
                Record::Message { number: of, .. } | Record::Kept { number: of } => *of == number,
                Record::Spread { .. } | Record::Released => false,
            };
            self.logs[shard].iter().filter(is_it).count()
        };
        (0..SHARDS).all(|shard| {
            (0..MESSAGES).all(|number| {
                let times = times(shard, number);
                times <= 1 && (times == 1 || !is_over(number))
            })
        })
    }
}

/// Looks at all states; false as soon as one is wrong.
fn holds(without: Rule) -> bool {
    let mut seen = HashSet::from([State::first()]);
    let mut open = vec![State::first()];
    let mut has_ended = false;
    while let Some(state) = open.pop() {
        if !state.is_right() {
            return false;
        }
        has_ended |= state.number == MESSAGES;
        for next in state.next(without) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    assert!(has_ended, "some schedule comes to its end");
    true
}

#[test]
fn each_message_reaches_each_shard_once() {
    assert!(holds(Rule::None));
}

#[test]
fn without_any_one_rule_a_message_is_lost_or_comes_twice() {
    for rule in [
        Rule::Origin,
        Rule::ReceiptLast,
        Rule::Partial,
        Rule::TicketOfRepetition,
        Rule::TicketOfAnother,
        Rule::PartialEnds,
        Rule::FooterLast,
    ] {
        assert!(!holds(rule), "{rule:?} is not needed");
    }
}
