//! QoS 2 to one durable subscriber: packet identifiers that follow from delivery numbers.
//!
//! The broker has a log, a message gets the next number, and its packet identifier is the number modulo
//! `ID_COUNT`, which is 3 here. Settling is recorded lazily; what expires or is denied leaves a hole; the
//! client comes and goes; a crash keeps any prefix of the log that holds at least what was synced.
//!
//! The promise: a message that was durable, and not dropped, is delivered once; every other one at most
//! once. Each rule of the design is left out once, and must be missed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::dice::Dice;

const ID_COUNT: u64 = 3;
const MESSAGES_MAX: usize = 12;
/// Rounds in which everything goes well; by then all is delivered.
const CALM_ROUNDS: usize = 200;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    None,
    /// An identifier is used again although its last exchange may come back.
    ReuseBeforeSettledIsDurable,
    /// A message is sent although it may be lost, and another one may get its number.
    SendBeforeDurable,
    /// PUBREL is sent although PUBREC may be forgotten.
    PubrelBeforeDurable,
    /// A message gets a number that no record has.
    NumberNotRecorded,
    /// What may have been sent is dropped as if it had not been.
    DropSent,
}

#[derive(Clone, Copy, Debug)]
enum Record {
    Message {
        no: u64,
        message: usize,
    },
    /// PUBREC has come, or the message was dropped: only PUBREL is due.
    Released {
        no: u64,
    },
    Settled {
        no: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum ToClient {
    Publish { id: u64, message: usize },
    Pubrel { id: u64 },
}

#[derive(Clone, Copy, Debug)]
enum ToBroker {
    Pubrec { id: u64 },
    Pubcomp { id: u64 },
}

/// A delivery that is not settled.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    message: usize,
    /// Length of the log with the record that its next packet waits for.
    recorded_at: usize,
    is_released: bool,
    /// On this connection.
    is_sent: bool,
    /// On this connection, an earlier one, or before a crash.
    may_have_been_sent: bool,
}

#[derive(Default)]
struct Broker {
    log: Vec<Record>,
    /// Length of the log that is durable.
    synced: usize,
    next_no: u64,
    open: BTreeMap<u64, Delivery>,
    /// Settled, and the length of the log with the record of it, which is not durable.
    settling: Vec<(u64, usize)>,
    /// PUBREL waits until the log is durable up to this length.
    pubrels_due: Vec<(u64, usize)>,
}

/// A client that never loses its state.
#[derive(Default)]
struct Client {
    is_connected: bool,
    /// Identifiers between PUBLISH and PUBREL.
    noted: BTreeSet<u64>,
    /// How often it got each message.
    got: BTreeMap<usize, usize>,
}

struct World {
    sabotage: Sabotage,
    dice: Dice,
    broker: Broker,
    client: Client,
    to_client: VecDeque<ToClient>,
    to_broker: VecDeque<ToBroker>,
    published: usize,
    was_durable: BTreeSet<usize>,
    dropped: BTreeSet<usize>,
}

impl Broker {
    /// Gives the length of the log with this record.
    fn record(&mut self, record: Record) -> usize {
        self.log.push(record);
        self.log.len()
    }

    fn settle(&mut self, no: u64) {
        self.open.remove(&no);
        let at = self.record(Record::Settled { no });
        self.settling.push((no, at));
    }

    fn release(&mut self, no: u64) -> usize {
        let at = self.record(Record::Released { no });
        let delivery = self.open.get_mut(&no).expect("the caller knows it");
        delivery.is_released = true;
        delivery.recorded_at = at;
        at
    }

    /// The delivery that was sent on this connection with this identifier.
    fn find_sent(&self, id: u64) -> Option<(u64, Delivery)> {
        let mut open = self.open.iter();
        let found = open.find(|(no, delivery)| *no % ID_COUNT == id && delivery.is_sent);
        found.map(|(no, delivery)| (*no, *delivery))
    }

    /// What the log says after a crash that kept `length` records of it.
    fn recover(mut log: Vec<Record>, length: usize) -> Broker {
        log.truncate(length);
        let mut broker = Broker::default();
        for record in &log {
            match *record {
                Record::Message { no, message } => {
                    broker.next_no = no + 1;
                    let delivery = Delivery {
                        message,
                        recorded_at: 0,
                        is_released: false,
                        is_sent: false,
                        may_have_been_sent: true,
                    };
                    broker.open.insert(no, delivery);
                }
                Record::Released { no } => {
                    if let Some(delivery) = broker.open.get_mut(&no) {
                        delivery.is_released = true;
                    }
                }
                Record::Settled { no } => {
                    broker.open.remove(&no);
                    broker.next_no = broker.next_no.max(no + 1);
                }
            }
        }
        broker.log = log;
        broker
    }
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> World {
        World {
            sabotage,
            dice: Dice::new(seed),
            broker: Broker::default(),
            client: Client {
                is_connected: true,
                ..Client::default()
            },
            to_client: VecDeque::new(),
            to_broker: VecDeque::new(),
            published: 0,
            was_durable: BTreeSet::new(),
            dropped: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        match self.dice.below(24) {
            0..=3 => self.publish(),
            4..=8 => self.send(),
            9..=12 => self.client_reads(),
            13..=16 => self.broker_reads(),
            17..=19 => {
                let length = self.any_length();
                self.sync(length);
            }
            20 => self.drop_one(),
            21 => self.disconnect(),
            22 => self.client.is_connected = true,
            _ => {
                if self.dice.one_in(2) {
                    self.crash();
                }
            }
        }
    }

    /// Everything goes well, until nothing is left to do.
    fn calm_down(&mut self) {
        for _ in 0..CALM_ROUNDS {
            self.client.is_connected = true;
            self.sync(self.broker.log.len());
            for _ in 0..4 {
                self.send();
            }
            while !self.to_client.is_empty() {
                self.client_reads();
            }
            while !self.to_broker.is_empty() {
                self.broker_reads();
            }
            if self.broker.open.is_empty() {
                return;
            }
        }
    }

    fn publish(&mut self) {
        if self.published == MESSAGES_MAX {
            return;
        }
        let message = self.published;
        self.published += 1;
        let no = self.broker.next_no;
        self.broker.next_no += 1;
        let is_hidden = self.sabotage == Sabotage::NumberNotRecorded && self.dice.one_in(3);
        let recorded_at = if is_hidden {
            0
        } else {
            self.broker.record(Record::Message { no, message })
        };
        let delivery = Delivery {
            message,
            recorded_at,
            is_released: false,
            is_sent: false,
            may_have_been_sent: false,
        };
        self.broker.open.insert(no, delivery);
    }

    /// Sends the oldest delivery that was not sent on this connection, if that may be.
    fn send(&mut self) {
        let broker = &mut self.broker;
        if !self.client.is_connected {
            return;
        }
        let mut oldest = broker.open.keys().next().copied();
        if self.sabotage != Sabotage::ReuseBeforeSettledIsDurable {
            let settling = broker.settling.iter().map(|(no, _)| *no);
            oldest = settling.chain(oldest).min();
        }
        let mut open = broker.open.iter_mut();
        let Some((&no, delivery)) = open.find(|(_, delivery)| !delivery.is_sent) else {
            return;
        };
        let is_durable = delivery.recorded_at <= broker.synced;
        let may_go =
            delivery.is_released || is_durable || self.sabotage == Sabotage::SendBeforeDurable;
        if !may_go || oldest.is_some_and(|oldest| no >= oldest + ID_COUNT) {
            return;
        }
        delivery.is_sent = true;
        delivery.may_have_been_sent = true;
        let Delivery {
            message,
            recorded_at,
            is_released,
            ..
        } = *delivery;
        if is_released {
            self.send_pubrel(no, recorded_at);
        } else {
            let id = no % ID_COUNT;
            self.to_client.push_back(ToClient::Publish { id, message });
        }
    }

    /// Sends PUBREL when the log is durable up to `needs`.
    fn send_pubrel(&mut self, no: u64, needs: usize) {
        if needs <= self.broker.synced || self.sabotage == Sabotage::PubrelBeforeDurable {
            let id = no % ID_COUNT;
            self.to_client.push_back(ToClient::Pubrel { id });
        } else {
            self.broker.pubrels_due.push((no, needs));
        }
    }

    fn client_reads(&mut self) {
        match self.to_client.pop_front() {
            Some(ToClient::Publish { id, message }) => {
                if self.client.noted.insert(id) {
                    *self.client.got.entry(message).or_default() += 1;
                }
                self.to_broker.push_back(ToBroker::Pubrec { id });
            }
            Some(ToClient::Pubrel { id }) => {
                self.client.noted.remove(&id);
                self.to_broker.push_back(ToBroker::Pubcomp { id });
            }
            None => {}
        }
    }

    fn broker_reads(&mut self) {
        match self.to_broker.pop_front() {
            Some(ToBroker::Pubrec { id }) => match self.broker.find_sent(id) {
                Some((no, delivery)) => {
                    let needs = if delivery.is_released {
                        delivery.recorded_at
                    } else {
                        self.broker.release(no)
                    };
                    self.send_pubrel(no, needs);
                }
                // Unknown: the client is to forget it.
                None => self.to_client.push_back(ToClient::Pubrel { id }),
            },
            Some(ToBroker::Pubcomp { id }) => match self.broker.find_sent(id) {
                Some((no, delivery)) if delivery.is_released => self.broker.settle(no),
                Some(_) | None => {}
            },
            None => {}
        }
    }

    /// Some length of the log that a sync or a crash may leave.
    fn any_length(&mut self) -> usize {
        let Broker { log, synced, .. } = &self.broker;
        synced + self.dice.below(log.len() - synced + 1)
    }

    fn sync(&mut self, length: usize) {
        let broker = &mut self.broker;
        broker.synced = length;
        for record in &broker.log[..length] {
            if let Record::Message { message, .. } = record {
                self.was_durable.insert(*message);
            }
        }
        broker.settling.retain(|(_, at)| *at > length);
        for (no, needs) in std::mem::take(&mut broker.pubrels_due) {
            self.send_pubrel(no, needs);
        }
    }

    /// A message expires or is denied before it is sent on this connection. What the client may have
    /// noted on an earlier one is finished by PUBREL.
    fn drop_one(&mut self) {
        let open = self.broker.open.iter();
        let waiting = open.filter(|(_, delivery)| !delivery.is_sent && !delivery.is_released);
        let waiting: Vec<u64> = waiting.map(|(no, _)| *no).collect();
        if waiting.is_empty() || !self.dice.one_in(3) {
            return;
        }
        let no = self.dice.pick(&waiting);
        let delivery = self.broker.open[&no];
        self.dropped.insert(delivery.message);
        if delivery.may_have_been_sent && self.sabotage != Sabotage::DropSent {
            self.broker.release(no);
        } else {
            self.broker.settle(no);
        }
    }

    fn disconnect(&mut self) {
        self.client.is_connected = false;
        self.to_client.clear();
        self.to_broker.clear();
        self.broker.pubrels_due.clear();
        for delivery in self.broker.open.values_mut() {
            delivery.is_sent = false;
        }
    }

    fn crash(&mut self) {
        self.disconnect();
        let length = self.any_length();
        let log = std::mem::take(&mut self.broker.log);
        self.broker = Broker::recover(log, length);
        // What was read is synced before anybody is accepted.
        self.sync(length);
    }
}

/// One schedule; `Err` says which promise it breaks.
fn run(seed: u64, sabotage: Sabotage) -> Result<(), String> {
    let mut world = World::new(seed, sabotage);
    for _ in 0..40 + world.dice.below(160) {
        world.step();
    }
    world.calm_down();
    if !world.broker.open.is_empty() {
        return Err(format!("does not come to rest: {:?}", world.broker.open));
    }
    for message in 0..world.published {
        let got = world.client.got.get(&message).copied().unwrap_or(0);
        let must = world.was_durable.contains(&message) && !world.dropped.contains(&message);
        match got {
            0 if must => return Err(format!("message {message} is lost")),
            0 | 1 => {}
            _ => return Err(format!("message {message} comes {got} times")),
        }
    }
    Ok(())
}

#[test]
fn durable_messages_of_qos_2_are_delivered_once() {
    for seed in 0..40_000 {
        if let Err(broken) = run(seed, Sabotage::None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn each_rule_of_the_numbers_is_missed() {
    for sabotage in [
        Sabotage::ReuseBeforeSettledIsDurable,
        Sabotage::SendBeforeDurable,
        Sabotage::PubrelBeforeDurable,
        Sabotage::NumberNotRecorded,
        Sabotage::DropSent,
    ] {
        let found = (0..100_000).find(|&seed| run(seed, sabotage).is_err());
        assert!(found.is_some(), "{sabotage:?} is not found");
    }
}
