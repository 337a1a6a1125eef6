//! The busiest topics, and traces: through HTTP and `ringmq ctl`.

use std::io::BufRead as _;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::*;
use crate::mqtt::{Client, old_publish_packet};

const JSON: &str = "Content-Type: application/json\r\n";

fn client(place: &Place, id: &str) -> Client<TcpStream> {
    Client::open(place.broker.socket(), id)
}

#[test]
fn the_busiest_topics_are_listed_by_messages_and_by_bytes() {
    let place = Place::new();
    for number in 0..4 {
        let mut publisher = client(&place, &format!("p{number}"));
        for _ in 0..10 {
            publisher.publish("many/small", b"x");
        }
        publisher.publish("few/large", &[b'y'; 500]);
    }
    let listed = |query: &str| {
        let answer = place.get(&format!("/api/v1/topics/top{query}")).json();
        assert_eq!(answer["error"], 0, "{answer}");
        let topics = answer["topics"].as_array().unwrap().iter();
        let row = |row: &Value| {
            (
                row["topic"].clone(),
                row["messages"].clone(),
                row["bytes"].clone(),
            )
        };
        topics.map(row).collect::<Vec<_>>()
    };
    let small = (json!("many/small"), json!(40), json!(40));
    let large = (json!("few/large"), json!(4), json!(2000));
    assert_eq!(listed(""), [small.clone(), large.clone()]);
    assert_eq!(listed("?by=bytes&limit=1"), [large]);
    assert_eq!(place.get("/api/v1/topics/top?by=x").status, 400);
    let shown = stdout(&place.ctl(&["topics", "top", "--limit", "1"]));
    assert!(
        shown.contains("many/small\n") && shown.contains("counts are exact"),
        "{shown}"
    );
    assert!(!shown.contains("few/large"), "{shown}");
    let top = stdout(&place.ctl(&["clients", "top", "--by", "in", "--limit", "2"]));
    assert!(
        top.starts_with("no clients") || top.lines().count() <= 3,
        "{top}"
    );
}

#[test]
fn the_profile_counts_what_clients_publish_and_the_list_says_who() {
    let place = Place::new();
    let mut publisher = client(&place, "p");
    for _ in 0..10 {
        publisher.publish("a/b", &[b'x'; 90]);
    }
    // Some of QoS 0, which are handled as one run if they arrive together.
    let mut plain = Client::open_with(
        place.broker.socket(),
        &crate::mqtt::Connect::old("q").packet(),
    );
    let one = |size: usize| old_publish_packet("c/d", &vec![b'y'; size], false);
    let several: Vec<u8> = [200, 200, 7, 200].map(one).concat();
    plain.send(&several);
    plain.ping();
    let profile = place.get("/api/v1/profile").json();
    assert_eq!(profile["publishes_in"], json!([4, 10, 0]), "{profile}");
    assert_eq!(profile["payload_bytes_in"], json!(900 + 607));
    let size = |min: u32, max: u32, count: u32| json!({"min": min, "max": max, "count": count});
    let sizes = [size(7, 7, 1), size(88, 95, 10), size(192, 207, 3)];
    assert_eq!(profile["payload_sizes"], json!(sizes));
    let text = profile.to_string();
    assert!(!text.contains("a/b"), "no topic is shown: {text}");
    let row = |id: &str| place.get(&format!("/api/v1/clients/{id}")).json();
    let counts = |row: &Value| {
        let keys = ["in", "in_qos1", "in_qos2", "in_payload_bytes", "topic"];
        keys.map(|key| row[key].clone())
    };
    let of = |of: [u32; 4], topic: &str| {
        let [all, first, second, bytes] = of.map(|count| json!(count));
        [all, first, second, bytes, json!(topic)]
    };
    assert_eq!(counts(&row("p")), of([10, 10, 0, 900], "a/b"));
    assert_eq!(counts(&row("q")), of([4, 0, 0, 607], "c/d"));
    let _idle = client(&place, "idle");
    assert_eq!(row("idle")["topic"], Value::Null);
}

#[test]
fn a_trace_tells_what_a_client_does_from_its_first_connection_on() {
    let place = Place::new();
    let order = r#"{"client": "meter", "payload": 3}"#;
    let begun = place.ask("POST", "/api/v1/traces", JSON, order);
    assert_eq!(begun.status, 200, "{begun:?}");
    let begun = begun.json();
    assert_eq!(
        (&begun["client"], &begun["payload"]),
        (&json!("meter"), &json!(3))
    );
    let path = format!("/api/v1/traces/{}", begun["id"]);
    let mut stream = UnixStream::connect(&place.socket).unwrap();
    stream
        .write_all(request("GET", &path, "", "").as_bytes())
        .unwrap();
    let mut meter = client(&place, "meter");
    meter.subscribe("t");
    client(&place, "other").publish("t", b"abcdef");
    meter.message();
    drop(meter);
    // What it tells is there within a moment.
    let listed = || place.get("/api/v1/traces").json()["traces"][0]["events"].as_u64();
    while listed().unwrap() < 8 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = place.ask("DELETE", &path, JSON, "");
    assert_eq!(ended.status, 200, "{ended:?}");
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let told = Answered::read(&text);
    let events: Vec<Value> = told
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, events) = events.split_last().unwrap();
    assert_eq!(
        (&last["ended"], &last["left_out"]),
        (&json!(true), &json!(0))
    );
    let word = |event: &Value| match event["packet"].as_str() {
        Some(packet) => format!("{} {packet}", event["direction"].as_str().unwrap()),
        None => event["event"].as_str().unwrap().to_owned(),
    };
    let words: Vec<String> = events.iter().map(word).collect();
    let expected = [
        "connected",
        "out CONNACK",
        "in SUBSCRIBE",
        "out SUBACK",
        "delivery",
        "out PUBLISH",
        "in PUBACK",
        "ended",
    ];
    assert_eq!(words, expected);
    assert_eq!(events[5]["payload"], "abc");
    assert!(events.iter().all(|event| event["client_id"] == "meter"));
    assert_eq!(place.get(&path).status, 404);
    assert_eq!(place.get("/api/v1/traces").json(), json!({"traces": []}));
}

#[test]
fn a_trace_tells_how_long_things_take_to_those_who_ask() {
    let place = Place::new();
    let order = r#"{"client": "meter", "stages": true}"#;
    let begun = place.ask("POST", "/api/v1/traces", JSON, order).json();
    assert_eq!(begun["stages"], true);
    let path = format!("/api/v1/traces/{}", begun["id"]);
    let mut meter = client(&place, "meter");
    meter.subscribe("t");
    client(&place, "other").publish("t", b"abcdef");
    meter.message();
    // Its end is noted behind all else.
    let mut stream = UnixStream::connect(&place.socket).unwrap();
    stream
        .write_all(request("GET", &path, "", "").as_bytes())
        .unwrap();
    let mut lines = BufReader::new(&stream).lines();
    let mut stages = std::collections::BTreeSet::new();
    while !["ack", "send", "turn"]
        .iter()
        .all(|stage| stages.contains(*stage))
    {
        let line = lines.next().unwrap().unwrap();
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            continue; // The head, and the sizes of chunks.
        };
        if event["event"] == "stage" {
            assert!(event["took_us"].as_f64().unwrap() >= 0.0, "{event}");
            stages.insert(event["stage"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(place.ask("DELETE", &path, JSON, "").status, 200);
}

#[test]
fn there_are_ten_traces_at_most_and_they_end_by_themselves() {
    let place = Place::new();
    let begin = |order: &str| place.ask("POST", "/api/v1/traces", JSON, order);
    for order in [
        "{}",
        r#"{"client": "a", "address": "::1"}"#,
        r#"{"topic": "a/#/b"}"#,
        r#"{"client": "a", "for": 90000}"#,
        r#"{"client": "a", "payload": 2000}"#,
    ] {
        let refused = begin(order);
        assert!(
            refused.status == 422 || refused.status == 400,
            "{refused:?}"
        );
    }
    for number in 0..10 {
        let order = match number % 3 {
            0 => r#"{"topic": "a/+", "for": 1}"#,
            1 => r#"{"address": "127.0.0.1", "for": 1}"#,
            _ => r#"{"client": "a", "for": 1}"#,
        };
        assert_eq!(begin(order).status, 200, "{number}");
    }
    let refused = begin(r#"{"client": "a"}"#);
    assert_eq!(refused.status, 409, "{refused:?}");
    while place.get("/api/v1/traces").json() != json!({"traces": []}) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(begin(r#"{"client": "a"}"#).status, 200);
}

#[test]
fn ctl_shows_a_trace_and_ends_it_when_it_is_interrupted() {
    let place = Place::new();
    let mut command = Command::new(RINGMQ);
    let to = format!("unix:{}", place.socket);
    command.args([
        "ctl",
        "--to",
        &to,
        "trace",
        "--topic",
        "site/#",
        "--payload",
        "9",
    ]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut said = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "trace 1, for 10m; Ctrl-C ends it\n");
    client(&place, "meter").publish("site/4/power", b"21.5 kW");
    let mut shown = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    shown.read_line(&mut line).unwrap();
    let expected = "meter             published site/4/power qos 1, 7 bytes \"21.5 kW\": \
                    to 0 subscribers here, 0 groups, 0 other shards\n";
    assert!(line.ends_with(expected), "{line}");
    let list = stdout(&place.ctl(&["traces", "list"]));
    assert!(list.ends_with("topic site/#\n"), "{list}");
    let pid = Pid::from_child(&process);
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert_eq!(
        stdout(&place.ctl(&["traces", "list"])),
        "nothing is traced\n"
    );
}
