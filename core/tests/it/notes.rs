//! What is noted of clients for the log, and that nothing is if nobody wants it.

use std::sync::Arc;
use std::time::Duration;

use ringmq_core::codec::Version;
use ringmq_core::limits::Limits;
use ringmq_core::shard::{CloseCause, End, Note};

use crate::world::{Feed, SocketId, World};

fn world() -> World {
    World::new(1, &Arc::new(Limits::default()), Feed::Whole)
}

/// A CONNECT of MQTT 3.1.1 with a keep alive of a minute and a clean session.
fn connect(world: &mut World, id: &str) -> SocketId {
    let mut body = b"\x00\x04MQTT\x04\x02\x00\x3C".to_vec();
    body.extend([0, id.len() as u8]);
    body.extend(id.as_bytes());
    let socket = world.open();
    world.send(socket, &[&[0x10, body.len() as u8][..], &body].concat());
    socket
}

/// The ends that are noted.
fn ends(notes: &[Note]) -> Vec<&'static str> {
    let ends = notes.iter().filter_map(|note| match note {
        Note::Disconnected(departure) => Some(departure.end.name()),
        Note::Connected(_)
        | Note::Reviewed { .. }
        | Note::Subscribed { .. }
        | Note::Unsubscribed { .. }
        | Note::Published { .. } => None,
    });
    ends.collect()
}

#[test]
fn a_client_that_comes_and_goes_is_noted_with_what_it_did() {
    let mut world = world();
    world.want_notes();
    let subscriber = connect(&mut world, "s");
    world.send(subscriber, b"\x82\x06\x00\x01\x00\x01t\x01");
    let publisher = connect(&mut world, "p");
    world.send(publisher, b"\x30\x05\x00\x01tab");
    // Two in one piece.
    world.send(publisher, b"\x30\x05\x00\x01tab\x30\x05\x00\x01tcd");
    world.send(subscriber, b"\xA2\x05\x00\x02\x00\x01t");
    world.wait(Duration::from_secs(7));
    world.send(publisher, b"\xE0\x00");
    let notes = world.take_notes();
    let Note::Connected(arrival) = &notes[0] else {
        panic!("{notes:?}");
    };
    assert_eq!(&*arrival.party.client_id, "s");
    assert_eq!(arrival.version, Version::V311);
    assert!(arrival.clean && !arrival.session_present);
    assert_eq!(arrival.keep_alive_s, 60);
    let published = notes.iter().filter_map(|note| match note {
        Note::Published {
            topic,
            count,
            payload_size,
            ..
        } => {
            assert_eq!(&**topic, b"t");
            Some((*count, *payload_size))
        }
        Note::Connected(_)
        | Note::Disconnected(_)
        | Note::Reviewed { .. }
        | Note::Subscribed { .. }
        | Note::Unsubscribed { .. } => None,
    });
    let published: Vec<_> = published.collect();
    let messages: u32 = published.iter().map(|(count, _)| count).sum();
    let bytes: usize = published.iter().map(|(_, size)| size).sum();
    assert_eq!((messages, bytes), (3, 6));
    assert!(matches!(&notes[1], Note::Subscribed { filter, .. } if &**filter == "t"));
    assert!(
        notes
            .iter()
            .any(|note| matches!(note, Note::Unsubscribed { .. }))
    );
    let Some(Note::Disconnected(departure)) = notes.last() else {
        panic!("{notes:?}");
    };
    assert_eq!(departure.end, End::Disconnected);
    assert_eq!(departure.after, Duration::from_secs(7));
    assert_eq!((departure.counts.received, departure.counts.sent), (3, 0));
    assert_eq!(departure.counts.bytes, 4 + 7 * 3 + 2);
}

#[test]
fn why_a_connection_ended_is_noted() {
    let mut world = world();
    world.want_notes();
    let closed = connect(&mut world, "a");
    world.cut(closed, CloseCause::PeerClosed);
    let reset = connect(&mut world, "b");
    world.cut(reset, CloseCause::Failed(104));
    connect(&mut world, "c");
    connect(&mut world, "c");
    let wrong = connect(&mut world, "d");
    world.send(wrong, b"\x00\x00");
    world.wait(Duration::from_secs(100));
    let notes = world.take_notes();
    let expected = [
        "closed_by_client",
        "socket_failed",
        "taken_over",
        "malformed",
        "keep_alive",
    ];
    assert_eq!(ends(&notes), expected);
}

#[test]
fn nothing_is_noted_that_nobody_wants() {
    let mut world = world();
    let client = connect(&mut world, "a");
    world.send(client, b"\x30\x03\x00\x01t");
    world.cut(client, CloseCause::PeerClosed);
    assert!(world.take_notes().is_empty());
}
