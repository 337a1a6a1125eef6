//! QoS 1 and QoS 2, explored exhaustively for small cases.
//!
//! One publisher and one subscriber with durable sessions, a few messages, and a network that may
//! lose either connection between any two packets, with everything that is on its way. A client
//! comes back at any later moment, or takes its session over before the loss is noticed. Some cases
//! have a Receive Maximum of 1 both ways, or both QoS at once, or speak 3.1.1. Every order of the
//! packets and every place of the losses is tried: a state (of the shards, of both clients and of
//! what is on its way) is expanded once. One of its steps is taken there and then, for the others
//! the steps that lead to it are played again.
//!
//! What holds in every state: QoS 2 is delivered once and in order, QoS 1 in order but for
//! repetitions, and no side has more open than the other one takes. What holds where nothing is
//! left to do: everything was delivered, and no shard holds an exchange [MQTT-4.3.2-4]
//! [MQTT-4.3.3-10] [MQTT-4.3.3-12] [MQTT-4.4.0-1] [MQTT-4.6.0-6] [MQTT-4.9.0-1] [MQTT-4.9.0-2].

mod client;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use ringmq_core::codec::{QoS, Version};
use ringmq_core::limits::Limits;
use ringmq_core::shard::CloseCause;

use crate::world::{Feed, StateHash, World};
use client::{Client, Role, Terms};

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The publisher publishes its next message.
    Publish,
    /// The oldest packet from a client arrives at the broker.
    ToBroker(Role),
    /// The oldest packet from the broker arrives at a client.
    ToClient(Role),
    /// A connection is lost with all that is on its way.
    Lose(Role),
    /// A client that has none connects again.
    Return(Role),
    /// A client connects anew while the broker still has its connection: what is on its way is
    /// lost.
    TakeOver(Role),
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// Of the messages in turn.
    qos: &'static [QoS],
    messages: u8,
    losses_max: u8,
    shards: usize,
    terms: Terms,
}

struct Play {
    case: Case,
    world: World,
    publisher: Client,
    subscriber: Client,
    losses: u8,
}

const ROLES: [Role; 2] = [Role::Publisher, Role::Subscriber];

impl Play {
    fn new(case: Case) -> Play {
        let mut limits = Limits::default();
        if case.terms.receive_maximum > 0 {
            limits.receive_maximum = case.terms.receive_maximum;
        }
        let mut world = World::new(case.shards, &Arc::new(limits), Feed::Whole);
        let publisher = Client::connect(&mut world, Role::Publisher, case.terms);
        let mut subscriber = Client::connect(&mut world, Role::Subscriber, case.terms);
        subscriber.subscribe(&mut world);
        Play {
            case,
            world,
            publisher,
            subscriber,
            losses: 0,
        }
    }

    fn client(&mut self, role: Role) -> &mut Client {
        match role {
            Role::Publisher => &mut self.publisher,
            Role::Subscriber => &mut self.subscriber,
        }
    }

    fn is_online(&self, role: Role) -> bool {
        match role {
            Role::Publisher => self.publisher.is_online,
            Role::Subscriber => self.subscriber.is_online,
        }
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let publisher = &self.publisher;
        if publisher.is_online
            && publisher.published < self.case.messages
            && publisher.may_publish()
        {
            steps.push(Step::Publish);
        }
        for role in ROLES {
            if !self.client(role).is_online {
                steps.push(Step::Return(role));
            }
            if !self.client(role).outgoing.is_empty() {
                steps.push(Step::ToBroker(role));
            }
            if !self.client(role).incoming.is_empty() {
                steps.push(Step::ToClient(role));
            }
        }
        // Where nothing is on its way any more a loss changes nothing that was not tried.
        if !steps.is_empty() && self.losses < self.case.losses_max {
            for role in ROLES.into_iter().filter(|&role| self.is_online(role)) {
                steps.extend([Step::Lose(role), Step::TakeOver(role)]);
            }
        }
        steps
    }

    fn take(&mut self, step: Step) {
        let qos = self.case.qos_of(self.publisher.published);
        let Play {
            world,
            publisher,
            subscriber,
            ..
        } = self;
        let client = match step {
            Step::Publish => {
                publisher.publish(qos);
                return;
            }
            Step::ToBroker(role)
            | Step::ToClient(role)
            | Step::Lose(role)
            | Step::Return(role)
            | Step::TakeOver(role) => match role {
                Role::Publisher => publisher,
                Role::Subscriber => subscriber,
            },
        };
        match step {
            Step::Publish => unreachable!("taken above"),
            Step::ToBroker(_) => {
                let packet = client.send();
                world.send(client.socket, &packet);
            }
            Step::ToClient(_) => client.receive(),
            Step::Lose(_) => {
                world.cut(client.socket, CloseCause::Failed(104));
                client.lose();
                self.losses += 1;
            }
            Step::Return(_) => client.reconnect(world),
            Step::TakeOver(_) => {
                client.lose();
                client.reconnect(world);
                self.losses += 1;
            }
        }
        publisher_and_subscriber_see(&mut self.publisher, &mut self.subscriber, &self.world);
        self.check();
    }

    /// What holds in every state.
    fn check(&self) {
        let of = |wanted: QoS| move |message: &u8| self.case.qos_of(message - 1) == wanted;
        let seen = self.subscriber.delivered.iter().copied();
        let twos: Vec<u8> = seen.clone().filter(of(QoS::ExactlyOnce)).collect();
        let all = (1..=self.case.messages).filter(of(QoS::ExactlyOnce));
        let expected: Vec<u8> = all.take(twos.len()).collect();
        assert_eq!(twos, expected, "QoS 2 is delivered once and in order");
        let mut news = (1..=self.case.messages).filter(of(QoS::AtLeastOnce));
        let mut last = 0;
        for message in seen.filter(of(QoS::AtLeastOnce)) {
            if message > last {
                assert_eq!(
                    Some(message),
                    news.next(),
                    "QoS 1 is in order but for repetitions"
                );
                last = message;
            }
        }
    }

    /// What holds where nothing is left to do.
    fn check_end(&self) {
        let seen: HashSet<u8> = self.subscriber.delivered.iter().copied().collect();
        assert_eq!(seen.len(), usize::from(self.case.messages), "all arrive");
        assert!(
            self.publisher.is_settled(),
            "the publisher is owed an answer"
        );
        for gauges in self.world.gauges() {
            let open = (gauges.inflight, gauges.receipts, gauges.queued_messages);
            assert_eq!(open, (0, 0, 0), "an exchange was never completed");
        }
    }

    /// Two plays of one fingerprint go on alike. A case has some ten thousand states: that two have
    /// one hash of 64 bits is less likely than one in a billion.
    fn fingerprint(&self) -> u64 {
        let mut hash = StateHash::default();
        let clients = (&self.publisher, &self.subscriber);
        let state = (self.losses, clients, self.world.state());
        write!(hash, "{state:?}").expect("a hash takes everything");
        hash.finish()
    }
}

/// Both clients' networks take over what the broker has sent.
fn publisher_and_subscriber_see(publisher: &mut Client, subscriber: &mut Client, world: &World) {
    for client in [publisher, subscriber] {
        if client.is_online {
            client.collect(world);
        }
    }
}

fn replay(case: Case, path: &[Step]) -> Play {
    let mut play = Play::new(case);
    for &step in path {
        play.take(step);
    }
    play
}

impl Case {
    /// Of the message with this index.
    fn qos_of(&self, index: u8) -> QoS {
        self.qos[usize::from(index) % self.qos.len()]
    }
}

/// Visits every state that can be reached; gives how many there are.
fn explore(case: Case) -> usize {
    let mut seen = HashSet::new();
    // The ways to what is still to be looked at.
    let mut paths = vec![Vec::new()];
    while let Some(mut path) = paths.pop() {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut play = replay(case, &path);
            // A play goes on for as long as it comes to what is new: nobody has to replay the way
            // there.
            while seen.insert(play.fingerprint()) {
                let mut steps = play.steps();
                let Some(next) = steps.pop() else {
                    play.check_end();
                    break;
                };
                paths.extend(steps.into_iter().map(|step| [&path[..], &[step]].concat()));
                path.push(next);
                play.take(next);
            }
        }));
        if let Err(panic) = outcome {
            eprintln!("{case:?} breaks at {path:?}");
            std::panic::resume_unwind(panic)
        }
    }
    seen.len()
}

const ONE: &[QoS] = &[QoS::AtLeastOnce];
const TWO: &[QoS] = &[QoS::ExactlyOnce];
const MIXED: &[QoS] = &[QoS::ExactlyOnce, QoS::AtLeastOnce];
const PLAIN: Terms = Terms {
    version: Version::V5,
    receive_maximum: 0,
};
const NARROW: Terms = Terms {
    version: Version::V5,
    receive_maximum: 1,
};
const OLD: Terms = Terms {
    version: Version::V311,
    receive_maximum: 0,
};

/// Explores what one sort of messages does in cases of `(messages, losses, shards)`.
fn explore_all(qos: &'static [QoS], terms: Terms, cases: &[(u8, u8, usize)]) {
    for &(messages, losses_max, shards) in cases {
        let case = Case {
            qos,
            messages,
            losses_max,
            shards,
            terms,
        };
        let states = explore(case);
        println!("{case:?}: {states} states");
        assert!(states > 100, "{case:?} has only {states} states");
    }
}

#[test]
fn qos_1_survives_every_loss() {
    explore_all(ONE, PLAIN, &[(1, 3, 1), (2, 2, 2), (3, 1, 1)]);
}

#[test]
fn qos_2_survives_every_loss() {
    explore_all(TWO, PLAIN, &[(1, 3, 1), (2, 2, 2), (3, 1, 1)]);
}

#[test]
fn both_qos_at_once_survive_every_loss() {
    explore_all(MIXED, PLAIN, &[(3, 1, 2)]);
}

#[test]
fn a_receive_maximum_of_one_survives_every_loss() {
    for qos in [ONE, TWO, MIXED] {
        explore_all(qos, NARROW, &[(2, 2, 1), (3, 1, 2)]);
    }
}

#[test]
fn clients_of_3_1_1_survive_every_loss() {
    for qos in [ONE, TWO] {
        explore_all(qos, OLD, &[(3, 1, 2)]);
    }
}
