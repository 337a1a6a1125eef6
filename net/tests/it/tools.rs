//! `ringmq log`: the tools for data directories, as programs beside the broker.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::mqtt::{Client, Connect, old_subscribe_packet, packet, put};
use crate::program::{Broker, Folder, RINGMQ};

fn start(data: &str) -> Broker {
    let mut command = Command::new(RINGMQ);
    command.args(["--listen", "127.0.0.1:0", "--data-dir", data]);
    command.args(["--shards", "2", "--queued-messages-max", "1000000"]);
    Broker::start_as(command)
}

fn log(args: &[&str]) -> Output {
    Command::new(RINGMQ).arg("log").args(args).output().unwrap()
}

/// What a tool says, which ends with this code.
fn said(code: i32, args: &[&str]) -> String {
    let output = log(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// A kept session that has subscribed, and is away.
fn leave_session(broker: &Broker, id: &str) {
    let mut body = Vec::new();
    put(&mut body, "MQTT");
    body.extend([4, 0, 0, 0]);
    put(&mut body, id);
    let mut client = Client::open_with(broker.socket(), &packet(0x10, &body));
    client.send(&old_subscribe_packet("t/#", 1));
    assert_eq!(client.packet(), (0x90, vec![0, 1, 1]));
}

/// QoS 1 and acknowledged.
fn publish(client: &mut Client<impl std::io::Read + std::io::Write>, first: u8, payload: &str) {
    let mut body = Vec::new();
    put(&mut body, "t/1");
    body.extend([0, 7]);
    body.extend(payload.as_bytes());
    client.send(&packet(first, &body));
    assert_eq!(client.packet(), (0x40, vec![0, 7]), "PUBACK");
}

fn publisher(broker: &Broker) -> Client<std::net::TcpStream> {
    Client::open_with(broker.socket(), &Connect::old("publisher").packet())
}

#[test]
fn backups_of_a_running_broker_hold_all_that_was_acknowledged_before() {
    let folder = Folder::new();
    let data = folder.path("data");
    let broker = start(&data);
    leave_session(&broker, "one");
    leave_session(&broker, "two");
    let acknowledged = Arc::new(AtomicU64::new(0));
    // So that queues have room for all.
    let allowed = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|index| {
            let mut client = Client::open_with(
                broker.socket(),
                &Connect::old(&format!("publisher{index}")).packet(),
            );
            let (count, is_over) = (Arc::clone(&acknowledged), Arc::clone(&is_over));
            let allowed = Arc::clone(&allowed);
            std::thread::spawn(move || {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    if number as u64 >= allowed.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                        continue;
                    }
                    let filler = "x".repeat(number % 1_000);
                    publish(&mut client, 0x32, &format!("m{index}-{number};{filler}"));
                    number += 1;
                    if index == 0 {
                        count.store(number as u64, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for round in 0..6 {
        allowed.store(400 * (round + 1), Ordering::Relaxed);
        while acknowledged.load(Ordering::SeqCst) < 400 * round + 50 {
            std::thread::yield_now();
        }
        let before = acknowledged.load(Ordering::SeqCst);
        let target = folder.path(&format!("backup{round}"));
        let text = said(0, &["backup", &data, &target]);
        assert!(text.contains("2 sessions"), "{text}");
        assert!(said(0, &["verify", &target]).contains("ok, a start recovers 2 sessions"));
        let text = said(0, &["export", &target]);
        for number in 0..before {
            let payload = format!("\"m0-{number};");
            // Both sessions have it, by one body if they have one home.
            assert!(text.contains(&payload), "{payload} of {before} is lost");
        }
        let mut restored = start(&target);
        restored.wait_for("recovered 2 sessions");
        restored.kill();
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let text = said(75, &["verify", &data]);
    let pid = format!("(pid {})", broker.process.id());
    assert!(
        text.contains(&pid) && text.contains("ringmq log backup"),
        "{text}"
    );
    broker.kill();
    assert!(said(0, &["verify", &data]).contains("ok, a start recovers 2 sessions"));
    assert!(!Path::new(&data).join("before-repair-1").exists());
}

#[test]
fn a_damaged_directory_is_repaired_and_the_broker_starts_again() {
    let folder = Folder::new();
    let data = folder.path("data");
    let broker = start(&data);
    leave_session(&broker, "one");
    let mut client = publisher(&broker);
    for number in 0..5 {
        publish(&mut client, 0x32, &format!("m{number}"));
    }
    broker.kill();
    // In the log of the session's home: the batch with a message in the middle.
    let logs = ["s00", "s01"]
        .map(|shard| Path::new(&data).join(format!("e0001/{shard}/0000000000000000.log")));
    let is_it = |bytes: &[u8]| bytes.windows(2).position(|two| two == b"m2");
    let found = logs.iter().find_map(|path| {
        let bytes = fs::read(path).unwrap();
        is_it(&bytes).map(|at| (path, bytes, at))
    });
    let (path, mut bytes, at) = found.expect("the message was logged");
    bytes[at + 1] ^= 1;
    fs::write(path, bytes).unwrap();
    let file = path.display().to_string();
    let text = said(1, &["verify", &data]);
    for part in [&file[..], "\"t/1\"", "\"one\"", "ringmq log repair"] {
        assert!(text.contains(part), "{text} has no {part}");
    }
    let json = said(1, &["verify", "--json", &data]);
    assert!(
        json.contains("\"flaws\":[{\"path\":") && json.lines().count() == 1,
        "{json}"
    );
    let text = said(0, &["repair", &data]);
    assert!(
        text.contains("1 session with 1 subscription, 4 queued messages"),
        "{text}"
    );
    let text = said(0, &["export", &data]);
    assert!(text.contains("\"m1\"") && text.contains("\"m4\"") && !text.contains("\"m2\""));
    let mut broker = start(&data);
    broker.wait_for("recovered 1 session, 4 queued messages");
    broker.kill();
    assert!(said(0, &["inspect", &data]).contains("\"one\""));
}
