//! What outlives the process: the program with a data directory, killed and started again.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::mqtt::{Client, old_subscribe_packet, packet, put};
use crate::program::{Broker, Folder, RINGMQ};

fn start(folder: &Folder, shards: usize) -> Broker {
    Broker::start_as(command(&folder.path("data"), shards))
}

fn command(data: &str, shards: usize) -> Command {
    let mut command = Command::new(RINGMQ);
    command.args(["--listen", "127.0.0.1:0", "--data-dir", data]);
    command.args(["--shards", &shards.to_string()]);
    command
}

/// Kills it and starts another one with so many shards.
fn crash(broker: Broker, folder: &Folder, shards: usize) -> Broker {
    broker.kill();
    start(folder, shards)
}

type Stream = Client<TcpStream>;

/// A CONNECT of MQTT 3.1.1; a session that is not clean is kept.
fn connect_packet(id: &str, clean: bool, will: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, "MQTT");
    let flags = u8::from(clean) << 1;
    body.extend([4, will.map_or(flags, |_| flags | 0x0C), 0, 0]);
    put(&mut body, id);
    if let Some((topic, payload)) = will {
        put(&mut body, topic);
        put(&mut body, payload);
    }
    packet(0x10, &body)
}

/// Connects with a session that is kept; gives whether it was there.
fn resume(broker: &Broker, id: &str) -> (Stream, bool) {
    resume_with(broker, &connect_packet(id, false, None))
}

fn resume_with(broker: &Broker, connect: &[u8]) -> (Stream, bool) {
    let mut client = Client {
        stream: broker.socket(),
    };
    client.send(connect);
    let (first, body) = client.packet();
    assert_eq!((first, body[1]), (0x20, 0), "CONNACK");
    (client, body[0] == 1)
}

fn connect_clean(broker: &Broker, id: &str) -> Stream {
    resume_with(broker, &connect_packet(id, true, None)).0
}

fn subscribe(client: &mut Stream, filter: &str, qos: u8) {
    client.send(&old_subscribe_packet(filter, qos));
    assert_eq!(client.packet(), (0x90, vec![0, 1, qos]));
}

/// A PUBLISH of QoS 1 or 2.
fn publish_packet(topic: &str, payload: &str, first: u8, id: u16) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, topic);
    body.extend(id.to_be_bytes());
    body.extend(payload.as_bytes());
    packet(first, &body)
}

/// Publishes, and has the broker's word for it when this returns.
fn publish(client: &mut Stream, topic: &str, payload: &str, qos: u8) {
    publish_as(client, topic, payload, 0x30 | qos << 1);
}

fn publish_as(client: &mut Stream, topic: &str, payload: &str, first: u8) {
    client.send(&publish_packet(topic, payload, first, 9));
    if first & 6 == 2 {
        assert_eq!(client.packet(), (0x40, vec![0, 9]), "PUBACK");
    } else {
        assert_eq!(client.packet(), (0x50, vec![0, 9]), "PUBREC");
        client.send(&packet(0x62, &[0, 9]));
        assert_eq!(client.packet(), (0x70, vec![0, 9]), "PUBCOMP");
    }
}

/// A PUBLISH: its first byte, its packet identifier and its payload.
fn receive(client: &mut Stream) -> (u8, [u8; 2], String) {
    let (first, body) = client.packet();
    let (id, payload) = cut(first, &body);
    (first, id, payload)
}

/// The packet identifier and the payload of a PUBLISH.
fn cut(first: u8, body: &[u8]) -> ([u8; 2], String) {
    assert_eq!(first & 0xF0, 0x30, "PUBLISH, not {first:#x} {body:?}");
    let topic_size = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let rest = &body[2 + topic_size..];
    let (id, payload) = match first & 6 {
        0 => ([0, 0], rest),
        _ => ([rest[0], rest[1]], &rest[2..]),
    };
    (id, String::from_utf8(payload.to_vec()).unwrap())
}

/// Takes a message, and ends its exchange; nothing else comes meanwhile.
fn take(client: &mut Stream) -> String {
    take_all(client, 1).remove(0)
}

/// Takes so many messages, and ends their exchanges.
fn take_all(client: &mut Stream, count: usize) -> Vec<String> {
    let payloads = take_until(client, |payloads| payloads.len() >= count);
    assert_eq!(payloads.len(), count, "{payloads:?}");
    payloads
}

/// Takes messages until these are all, and ends their exchanges.
fn take_until(client: &mut Stream, are_all: impl Fn(&[String]) -> bool) -> Vec<String> {
    let (mut payloads, mut open) = (Vec::new(), 0);
    while !are_all(&payloads) || open > 0 {
        let (first, body) = client.packet();
        if first == 0x62 {
            client.send(&packet(0x70, &body));
            open -= 1;
            continue;
        }
        let (id, payload) = cut(first, &body);
        match first & 6 {
            0 => {}
            2 => client.send(&packet(0x40, &id)),
            _ => {
                client.send(&packet(0x50, &id));
                open += 1;
            }
        }
        payloads.push(payload);
    }
    payloads
}

fn disconnect(mut client: Stream) {
    client.ping();
    client.send(&packet(0xE0, &[]));
    client.expect_end(b"");
}

/// How many shards before, and after.
const SHARDS: [(usize, usize); 4] = [(1, 1), (2, 2), (2, 1), (1, 3)];

#[test]
fn sessions_queued_and_retained_messages_survive() {
    for (before, after) in SHARDS {
        let folder = Folder::new();
        let broker = start(&folder, before);
        for id in ["a", "b", "c"] {
            let (mut client, was_there) = resume(&broker, id);
            assert!(!was_there);
            subscribe(&mut client, "t/#", 2);
            disconnect(client);
        }
        let mut publisher = connect_clean(&broker, "publisher");
        for (topic, payload, qos) in [("t/1", "one", 1), ("t/1", "two", 2), ("t/1", "three", 1)] {
            publish(&mut publisher, topic, payload, qos);
        }
        publish_as(&mut publisher, "r/1", "old", 0x33);
        publish_as(&mut publisher, "r/1", "new", 0x33);
        publish_as(&mut publisher, "r/2", "gone", 0x33);
        publish_as(&mut publisher, "r/2", "", 0x33);
        let mut broker = crash(broker, &folder, after);
        broker.wait_for("recovered 3 sessions, 9 queued messages, 1 retained message in");
        let mut expected = vec!["one", "three", "two"];
        for id in ["a", "b", "c"] {
            let (mut client, was_there) = resume(&broker, id);
            assert!(was_there, "{before} then {after} shards, {id}");
            let mut taken = take_all(&mut client, expected.len());
            // The order of each QoS is kept; one of QoS 2 may have to wait for more than the others.
            taken.sort_by_key(|payload| payload == "two");
            assert_eq!(taken, expected);
            // The subscription is still there.
            let mut publisher = connect_clean(&broker, "publisher");
            publish(&mut publisher, "t/2", id, 1);
            assert_eq!(take(&mut client), id);
            // To those who are still away.
            expected.insert(expected.len() - 1, id);
            client.send(&packet(0xA2, &[b"\0\x07\0\x03t/#" as &[u8]].concat()));
            assert_eq!(client.packet(), (0xB0, vec![0, 7]), "UNSUBACK");
        }
        let mut reader = connect_clean(&broker, "reader");
        subscribe(&mut reader, "r/#", 0);
        assert_eq!(receive(&mut reader).2, "new");
        reader.ping();
    }
}

#[test]
fn what_was_settled_ended_or_unsubscribed_does_not_come_back() {
    for (before, after) in SHARDS {
        let folder = Folder::new();
        let broker = start(&folder, before);
        let (mut client, _) = resume(&broker, "a");
        subscribe(&mut client, "t/1", 1);
        subscribe(&mut client, "t/2", 1);
        let mut publisher = connect_clean(&broker, "publisher");
        publish(&mut publisher, "t/1", "taken", 1);
        assert_eq!(take(&mut client), "taken");
        client.send(&packet(0xA2, b"\0\x07\0\x03t/1"));
        assert_eq!(client.packet(), (0xB0, vec![0, 7]), "UNSUBACK");
        let (mut ended, _) = resume(&broker, "b");
        subscribe(&mut ended, "t/#", 1);
        drop(ended);
        // Ends the session that the client had.
        drop(connect_clean(&broker, "b"));
        publish(&mut publisher, "t/1", "unsubscribed", 1);
        publish(&mut publisher, "t/2", "owed", 1);
        let broker = crash(broker, &folder, after);
        let (mut client, was_there) = resume(&broker, "a");
        assert!(was_there);
        // An acknowledgement of the last moment may be lost.
        let first = take(&mut client);
        if first == "taken" {
            assert_eq!(take(&mut client), "owed");
        } else {
            assert_eq!(first, "owed");
        }
        client.ping();
        assert!(!resume(&broker, "b").1);
    }
}

#[test]
fn exchanges_go_on_where_they_were() {
    for (before, after) in SHARDS {
        let folder = Folder::new();
        let broker = start(&folder, before);
        let (mut client, _) = resume(&broker, "a");
        subscribe(&mut client, "t", 2);
        let mut publisher = connect_clean(&broker, "publisher");
        publish(&mut publisher, "t", "first", 2);
        publish(&mut publisher, "t", "second", 2);
        let (first, second) = (receive(&mut client), receive(&mut client));
        client.send(&packet(0x50, &first.1));
        assert_eq!(client.packet(), (0x62, first.1.to_vec()), "PUBREL");
        let broker = crash(broker, &folder, after);
        let (mut client, was_there) = resume(&broker, "a");
        assert!(was_there);
        let (mut released, mut repeated) = (0, 0);
        for _ in 0..2 {
            let (kind, body) = client.packet();
            if kind == 0x62 {
                assert_eq!(body, first.1);
                released += 1;
            } else {
                // [MQTT-4.4.0-1] The same identifier, and DUP.
                assert_eq!((kind, &body[3..5]), (0x3C, &second.1[..]));
                repeated += 1;
            }
        }
        assert_eq!((released, repeated), (1, 1));
    }
}

#[test]
fn a_publisher_with_qos_2_repeats_what_it_does_not_know_and_it_comes_once() {
    for (before, after) in [(1, 1), (2, 2)] {
        let folder = Folder::new();
        let broker = start(&folder, before);
        let (mut client, _) = resume(&broker, "subscriber");
        subscribe(&mut client, "t", 2);
        let (mut publisher, _) = resume(&broker, "publisher");
        publisher.send(&publish_packet("t", "once", 0x34, 5));
        assert_eq!(publisher.packet(), (0x50, vec![0, 5]), "PUBREC");
        let broker = crash(broker, &folder, after);
        let (mut publisher, was_there) = resume(&broker, "publisher");
        assert!(was_there);
        publisher.send(&publish_packet("t", "once", 0x3C, 5));
        assert_eq!(publisher.packet(), (0x50, vec![0, 5]), "PUBREC");
        publisher.send(&packet(0x62, &[0, 5]));
        assert_eq!(publisher.packet(), (0x70, vec![0, 5]), "PUBCOMP");
        publish(&mut publisher, "t", "end", 2);
        let (mut client, _) = resume(&broker, "subscriber");
        let is_end = |payloads: &[String]| payloads.last().is_some_and(|last| last == "end");
        let mut payloads = take_until(&mut client, is_end);
        if before > 1 {
            // Two logs are no transaction: what was under way between two shards may come twice.
            payloads.dedup();
        }
        assert_eq!(payloads, ["once", "end"]);
    }
}

#[test]
fn the_will_of_a_client_that_never_came_back_is_published() {
    for (before, after) in SHARDS {
        let folder = Folder::new();
        let broker = start(&folder, before);
        let (mut client, _) = resume(&broker, "subscriber");
        subscribe(&mut client, "will/#", 1);
        let connect = connect_packet("a", false, Some(("will/a", "lost")));
        let (with_will, _) = resume_with(&broker, &connect);
        let broker = crash(broker, &folder, after);
        drop((client, with_will));
        let (mut client, was_there) = resume(&broker, "subscriber");
        assert!(was_there);
        let (_, _, payload) = receive(&mut client);
        assert_eq!(payload, "lost");
    }
}

#[test]
fn a_stop_keeps_everything_and_what_no_directory_keeps_is_told() {
    let folder = Folder::new();
    let fill = |broker: &Broker| {
        for id in ["a", "b"] {
            let (mut client, _) = resume(broker, id);
            subscribe(&mut client, "t", 1);
            disconnect(client);
        }
        let mut publisher = connect_clean(broker, "publisher");
        publish(&mut publisher, "t", "1", 1);
        publish(&mut publisher, "t", "2", 1);
        publish_as(&mut publisher, "r", "x", 0x33);
        disconnect(publisher);
    };
    let broker = start(&folder, 2);
    fill(&broker);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("end here"), "{log}");
    let mut broker = start(&folder, 2);
    broker.wait_for("recovered 2 sessions, 4 queued messages, 1 retained message in");
    broker.kill();

    let broker = Broker::start(&[]);
    fill(&broker);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    let told =
        "1 retained message, 4 queued messages and 2 sessions end here; --data-dir keeps them";
    assert!(log.contains(told), "{log}");
    let (_, log) = Broker::start(&[]).stop();
    assert!(!log.contains("end here"), "{log}");
}

#[test]
fn a_log_that_cannot_be_written_ends_the_broker() {
    let folder = Folder::new();
    let data = folder.path("data");
    let limited = |script: &str| {
        let mut limited = Command::new("bash");
        let script = format!("trap '' XFSZ; {script} exec \"$0\" \"$@\"");
        limited.args(["-c", &script, RINGMQ, "--listen", "127.0.0.1:0"]);
        limited.args(["--shards", "1", "--data-dir", &data]);
        limited
    };
    // Files of a mebibyte at most: too little for a segment.
    let output = limited("ulimit -f 1024;").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot make a segment of the log"), "{text}");

    let broker = Broker::start_as(limited(""));
    let (mut client, _) = resume(&broker, "a");
    subscribe(&mut client, "t", 1);
    let mut modern = Client::open(broker.socket(), "modern");
    // From here on every write to the log fails.
    let pid = broker.process.id().to_string();
    let limit = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=4096"])
        .status();
    assert!(limit.unwrap().success());
    let mut publisher = connect_clean(&broker, "publisher");
    publisher.send(&publish_packet("t", "lost", 0x32, 9));
    // No PUBACK: MQTT 3.1.1 is told by the end of the connection.
    publisher.expect_end(b"");
    let (first, body) = modern.packet();
    assert_eq!((first, body[0]), (0xE0, 0x80), "{body:?}");
    // Two clients do not close their side, and are not waited for.
    let (code, log) = broker.wait();
    assert_eq!(code, Some(74), "{log}");
    assert!(!log.contains("cut short"), "{log}");
    drop((client, modern));
    let told = "the log failed: no acknowledgement leaves any more";
    assert!(log.contains(told), "{log}");
    // What was acknowledged is there, and the rest was not.
    let broker = start(&folder, 1);
    let (_, was_there) = resume(&broker, "a");
    assert!(was_there);
}

#[test]
fn a_policy_says_what_outlives_the_process() {
    for (policy, is_kept) in [("always", true), ("interval", true), ("none", false)] {
        let folder = Folder::new();
        let data = folder.path("data");
        let start = || {
            let mut command = command(&data, 2);
            command.args(["--store-policy", policy, "--store-sync-interval", "60s"]);
            Broker::start_as(command)
        };
        let broker = start();
        let (mut client, _) = resume(&broker, "a");
        subscribe(&mut client, "t", 1);
        drop(client);
        let mut publisher = connect_clean(&broker, "publisher");
        publish(&mut publisher, "t", "one", 1);
        broker.kill();
        assert_eq!(Path::new(&data).exists(), is_kept, "{policy}");
        let broker = start();
        let (mut client, was_there) = resume(&broker, "a");
        assert_eq!(was_there, is_kept, "{policy}");
        if is_kept {
            assert_eq!(take(&mut client), "one", "{policy}");
        }
    }
}

/// Needs a file system of its own, so root; without, it says so and shows nothing. (threat T5)
#[test]
fn a_full_disk_refuses_messages_until_clients_have_taken_what_is_there() {
    let folder = Folder::new();
    let (image, place) = (folder.path("image"), folder.path("disk"));
    fs::create_dir(&place).unwrap();
    // The file system is there for the broker alone, and goes with it.
    let script = "truncate -s 420M \"$IMAGE\" && mkfs.ext4 -q -m 0 \"$IMAGE\" && \
                  mount -o loop \"$IMAGE\" \"$PLACE\" || exit 99; exec \"$0\" \"$@\"";
    let run = |program: &str| {
        let mut command = Command::new("unshare");
        command.args([
            "-m",
            "--propagation",
            "private",
            "bash",
            "-c",
            script,
            program,
        ]);
        command.env("IMAGE", &image).env("PLACE", &place);
        command
    };
    if !run("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let mut command = run(RINGMQ);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "1",
        "--store-free-bytes-min",
        "64MiB",
    ]);
    command.args([
        "--queued-bytes-max",
        "1GiB",
        "--data-dir",
        &format!("{place}/data"),
    ]);
    let mut broker = Broker::start_as(command);
    let (mut client, _) = resume(&broker, "subscriber");
    subscribe(&mut client, "t", 1);
    disconnect(client);
    let mut publisher = Client {
        stream: broker.socket(),
    };
    publisher.send(&packet(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01p"));
    assert_eq!(publisher.packet().0, 0x20, "CONNACK");
    let mut message = b"\0\x01t\0\x09\0".to_vec();
    message.resize(200_000, b'x');
    let mut store = || {
        publisher.send(&packet(0x32, &message));
        let (first, body) = publisher.packet();
        assert_eq!((first, &body[..2]), (0x40, &[0, 9][..]), "PUBACK");
        body.get(2).copied().unwrap_or(0)
    };
    let mut kept = 0;
    let refusal = loop {
        match store() {
            0 => kept += 1,
            code => break code,
        }
        assert!(kept < 2_000, "the disk is not as large as that");
    };
    assert_eq!(refusal, 0x97, "Quota exceeded");
    broker.wait_for("is almost full");
    assert!(kept > 100, "{kept}");
    let mut clean = connect_clean(&broker, "clean");
    subscribe(&mut clean, "c", 1);
    publish(&mut connect_clean(&broker, "other"), "c", "goes on", 1);
    assert_eq!(take(&mut clean), "goes on");
    let (mut client, was_there) = resume(&broker, "subscriber");
    assert!(was_there);
    assert_eq!(take_all(&mut client, kept).len(), kept);
    broker.wait_for("has room again");
    // The shard hears of it after the log does, and may be short of a segment once more.
    let is_stored = (0..300).any(|_| {
        let is_stored = store() == 0;
        if !is_stored {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        is_stored
    });
    assert!(is_stored, "it ends by itself");
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// What a start says that fails for what is in the directory.
fn refused(data: &Path) -> String {
    let output = command(data.to_str().unwrap(), 1).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_with_the_reason() {
    let folder = Folder::new();
    let data = folder.path("data");
    let data = Path::new(&data);
    let broker = start(&folder, 1);
    let text = refused(data);
    let pid = format!("in use by another broker (pid {})", broker.process.id());
    assert!(
        text.contains(&pid) && text.contains(data.to_str().unwrap()),
        "{text}"
    );
    let mut client = connect_clean(&broker, "c");
    for number in 0..3 {
        publish_as(&mut client, &format!("r/{number}"), "x", 0x33);
    }
    broker.kill();
    let log = data.join("e0001/s00/0000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[70] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let text = refused(data);
    for part in [
        "0000000000000000.log is damaged at byte 0",
        "restore a backup",
        "ringmq log repair",
    ] {
        assert!(text.contains(part), "{text}");
    }
    fs::remove_file(data.join("MANIFEST")).unwrap();
    assert!(refused(data).contains("no MANIFEST"));
    let memory = Path::new("/dev/shm/ringmq-test-data");
    assert!(refused(memory).contains("in memory (tmpfs)"));
    assert!(!memory.exists());
}
