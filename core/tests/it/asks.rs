//! What the shell may ask a shard, against what the clients have done.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dice::Dice;
use crate::world::{Feed, SocketId, World};
use ringmq_core::limits::Limits;
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::{
    Answer, Ask, CloseCause, Disconnected, SessionFilter, SessionPage, SessionQuery, SessionRow,
};

const SHARDS: usize = 2;
const CLIENTS: usize = 60;

/// A CONNECT of MQTT 3.1.1; `flags` as on the wire.
fn connect(world: &mut World, id: &str, flags: u8, will: Option<(&str, &str)>) -> SocketId {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.extend_from_slice(&[flags, 0, 0]);
    let (topic, text) = will.unzip();
    for text in [Some(id), topic, text].into_iter().flatten() {
        body.extend_from_slice(&[0, text.len() as u8]);
        body.extend_from_slice(text.as_bytes());
    }
    let socket = world.open();
    world.send(socket, &[&[0x10, body.len() as u8][..], &body].concat());
    assert_eq!(world.received(socket)[3], 0);
    socket
}

fn page(world: &mut World, shard: usize, query: SessionQuery) -> SessionPage {
    match world.ask(shard, Ask::Sessions(query)) {
        Answer::Sessions(page) => page,
        other => panic!("{other:?}"),
    }
}

/// A session of the model: which of all it is, and its connection.
#[derive(Clone, Copy)]
struct Kept {
    number: u64,
    socket: Option<SocketId>,
}

/// Clients that come and go while their sessions are listed.
struct Churn {
    dice: Dice,
    world: World,
    sessions: BTreeMap<String, Kept>,
    count: u64,
}

impl Churn {
    fn step(&mut self) {
        let id = format!("c{}", self.dice.below(CLIENTS));
        match self.sessions.get(&id).copied() {
            Some(Kept {
                socket: Some(socket),
                ..
            }) => {
                self.world.cut(socket, CloseCause::PeerClosed);
                // Odd clients keep their sessions.
                if id.ends_with(['1', '3', '5', '7', '9']) {
                    self.sessions.get_mut(&id).expect("just found").socket = None;
                } else {
                    self.sessions.remove(&id);
                }
            }
            known => {
                let keeps = id.ends_with(['1', '3', '5', '7', '9']);
                let flags = if keeps { 0 } else { 2 };
                let socket = Some(connect(&mut self.world, &id, flags, None));
                let number = known.map_or(self.count, |kept| kept.number);
                self.count += 1;
                self.sessions.insert(id, Kept { number, socket });
            }
        }
    }

    /// The numbers of the sessions that are listed while others come and go.
    fn list(&mut self, filter: &SessionFilter) -> Vec<u64> {
        let mut listed = Vec::new();
        for shard in 0..SHARDS {
            let mut next = Some(0);
            while let Some(from) = next {
                let query = SessionQuery {
                    from,
                    rows_max: 1 + self.dice.below(5),
                    filter: filter.clone(),
                };
                let page = page(&mut self.world, shard, query);
                let number = |row: &SessionRow| self.sessions[&*row.client_id].number;
                listed.extend(page.rows.iter().map(number));
                next = page.next;
                for _ in 0..self.dice.below(6) {
                    self.step();
                }
            }
        }
        listed
    }
}

#[test]
fn what_was_there_all_the_time_is_listed_once_and_nothing_twice() {
    let mut seen = 0;
    for seed in 0..200 {
        let mut churn = Churn {
            dice: Dice::new(seed),
            world: World::new(SHARDS, &Arc::new(Limits::default()), Feed::Whole),
            sessions: BTreeMap::new(),
            count: 0,
        };
        for _ in 0..150 {
            churn.step();
        }
        let before = churn.sessions.clone();
        let mut listed = churn.list(&SessionFilter::default());
        listed.sort_unstable();
        assert!(
            listed.windows(2).all(|pair| pair[0] != pair[1]),
            "seed {seed}: twice: {listed:?}"
        );
        for (id, kept) in &churn.sessions {
            if before.get(id).is_some_and(|b| b.number == kept.number) {
                seen += 1;
                let is_listed = listed.binary_search(&kept.number).is_ok();
                assert!(is_listed, "seed {seed}: {id} is not listed");
            }
        }
    }
    assert!(seen > 2000, "{seen} sessions were there all the time");
}

#[test]
fn a_filter_lists_exactly_its_sessions() {
    let mut world = World::new(1, &Arc::new(Limits::default()), Feed::Whole);
    for id in ["meter-1", "meter-2", "Meter-3", "pump-1"] {
        let socket = connect(&mut world, id, 0, None);
        if id.ends_with('2') {
            world.cut(socket, CloseCause::PeerClosed);
        }
    }
    let all = SessionFilter::default();
    for (filter, expected) in [
        (all.clone(), "meter-1 meter-2 Meter-3 pump-1"),
        (
            SessionFilter {
                prefix: "meter-".into(),
                ..all.clone()
            },
            "meter-1 meter-2",
        ),
        (
            SessionFilter {
                is_connected: Some(false),
                ..all.clone()
            },
            "meter-2",
        ),
        (
            SessionFilter {
                user: Some("ada".into()),
                ..all.clone()
            },
            "",
        ),
        (
            SessionFilter {
                queued_messages_min: 1,
                ..all
            },
            "",
        ),
    ] {
        let query = SessionQuery {
            from: 0,
            rows_max: 100,
            filter,
        };
        let page = page(&mut world, 0, query.clone());
        let ids: Vec<&str> = page.rows.iter().map(|row| &*row.client_id).collect();
        assert_eq!(ids.join(" "), expected, "{query:?}");
        assert_eq!(page.next, None);
    }
}

#[test]
fn a_page_is_bounded_whatever_is_asked_for() {
    let mut world = World::new(1, &Arc::new(Limits::default()), Feed::Whole);
    for number in 0..SessionPage::SLOTS_MAX + 300 {
        connect(&mut world, &format!("c{number}"), 2, None);
    }
    let all = SessionQuery {
        from: 0,
        rows_max: usize::MAX,
        filter: SessionFilter::default(),
    };
    let first = page(&mut world, 0, all.clone());
    assert_eq!(first.rows.len(), SessionPage::ROWS_MAX);
    assert_eq!(first.next, Some(SessionPage::ROWS_MAX as u32));
    let nobody = SessionQuery {
        filter: SessionFilter {
            prefix: "nobody".into(),
            ..SessionFilter::default()
        },
        ..all
    };
    let empty = page(&mut world, 0, nobody.clone());
    assert_eq!(
        (empty.rows.len(), empty.next),
        (0, Some(SessionPage::SLOTS_MAX))
    );
    let rest = SessionQuery {
        from: SessionPage::SLOTS_MAX,
        ..nobody
    };
    let rest = page(&mut world, 0, rest);
    assert_eq!(
        (rest.rows.len(), rest.next),
        (0, None),
        "no page behind the last"
    );
}

#[test]
fn an_operator_disconnects_a_client_with_its_will_or_without() {
    for with_will in [false, true] {
        let mut world = World::new(1, &Arc::new(Limits::default()), Feed::Whole);
        let watcher = connect(&mut world, "watcher", 2, None);
        world.send(watcher, b"\x82\x06\x00\x01\x00\x01w\x00");
        let told = world.received(watcher).len();
        let client = connect(&mut world, "client", 6, Some(("w", "gone")));
        let mut disconnect = |client_id: &str| {
            let client_id = client_id.into();
            let ask = Ask::Disconnect {
                client_id,
                with_will,
            };
            match world.ask(0, ask) {
                Answer::Disconnect(outcome) => outcome,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(disconnect("clien"), Disconnected::Unknown);
        assert_eq!(disconnect("client"), Disconnected::Done);
        assert_eq!(
            disconnect("client"),
            Disconnected::Unknown,
            "its session ended"
        );
        assert!(world.is_closed(client));
        let will = &world.received(watcher)[told..];
        let expected: &[u8] = if with_will {
            b"\x30\x07\x00\x01wgone"
        } else {
            b""
        };
        assert_eq!(will, expected);
        let metrics = world.metrics().next().expect("there is a shard");
        assert_eq!(metrics.refused.0[Refusal::Administrative as usize], 1);
    }
}

/// Deals with all pages; gives how many there were.
fn sweep(world: &mut World, ask: impl Fn(SessionQuery) -> Ask) -> u32 {
    let (mut count, mut next) = (0, Some(0));
    while let Some(from) = next {
        let query = SessionQuery {
            from,
            rows_max: 3,
            filter: SessionFilter {
                prefix: "a".into(),
                ..SessionFilter::default()
            },
        };
        let dealt = match world.ask(0, ask(query)) {
            Answer::DisconnectPage(dealt) | Answer::EndPage(dealt) => dealt,
            other => panic!("{other:?}"),
        };
        assert!(dealt.count <= 3, "a page is bounded");
        count += dealt.count;
        next = dealt.next;
    }
    count
}

#[test]
fn many_are_disconnected_and_ended_page_by_page() {
    let mut world = World::new(1, &Arc::new(Limits::default()), Feed::Whole);
    let mut sockets = Vec::new();
    for number in 0..20 {
        let prefix = if number % 2 == 0 { "a" } else { "b" };
        sockets.push(connect(&mut world, &format!("{prefix}{number}"), 0, None));
    }
    world.cut(sockets[0], CloseCause::PeerClosed);
    let disconnect = |query| Ask::DisconnectPage {
        query,
        with_will: true,
    };
    assert_eq!(sweep(&mut world, disconnect), 9);
    assert_eq!(sweep(&mut world, disconnect), 0);
    for (number, socket) in sockets.iter().enumerate() {
        assert_eq!(world.is_closed(*socket), number % 2 == 0, "{number}");
    }
    assert_eq!(world.gauges()[0].sessions, 20, "their sessions stay");
    assert_eq!(sweep(&mut world, Ask::EndPage), 10);
    assert_eq!(world.gauges()[0].sessions, 10);
}

#[test]
fn a_client_of_5_0_is_told_that_an_operator_disconnected_it() {
    let mut world = World::new(1, &Arc::new(Limits::default()), Feed::Whole);
    let socket = world.open();
    // Session Expiry Interval: an hour.
    let connect = b"\x10\x13\x00\x04MQTT\x05\x02\x00\x00\x05\x11\x00\x00\x0E\x10\x00\x01c";
    world.send(socket, connect);
    let told = world.received(socket).len();
    let ask = Ask::Disconnect {
        client_id: "c".into(),
        with_will: true,
    };
    let answer = world.ask(0, ask.clone());
    assert!(matches!(answer, Answer::Disconnect(Disconnected::Done)));
    let disconnect = &world.received(socket)[told..];
    assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x98));
    let answer = world.ask(0, ask);
    assert!(matches!(answer, Answer::Disconnect(Disconnected::Away)));
}
