//! Why a message is missing, who would get one, what is retained, and a drain: through HTTP and
//! `ringmq ctl`.

use serde_json::json;

use super::*;
use crate::mqtt::{Client, connect_packet, old_publish_packet, packet, put, subscribe_packet};

const JSON: &str = "Content-Type: application/json\r\n";

impl Place {
    fn with(args: &[&str]) -> Place {
        let folder = Folder::new();
        let socket = folder.path("admin.sock");
        let admin = format!("unix:{socket}");
        let broker = Broker::start(&[&["--admin", &admin], args].concat());
        Place {
            folder,
            broker,
            socket,
        }
    }

    fn client(&self, id: &str) -> Client<TcpStream> {
        Client::open(self.broker.socket(), id)
    }

    /// What ctl says that fails, and its exit code.
    fn ctl_fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.ctl(args);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    }
}

/// A CONNECT of MQTT 5.0 whose session outlives it by an hour.
fn lasting(id: &str) -> Vec<u8> {
    let mut body = vec![];
    put(&mut body, "MQTT");
    body.extend([5, 0, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10]);
    put(&mut body, id);
    packet(0x10, &body)
}

/// Publishes with QoS 1, and waits for PUBACK.
fn publish(client: &mut Client<TcpStream>, topic: &str, payload: &str) {
    client.publish(topic, payload.as_bytes());
}

#[test]
fn a_client_is_shown_whose_identifier_no_path_has_room_for() {
    let place = Place::with(&["--client-id-size-max", "65535"]);
    // Percent-encoded it is three times as long.
    let id = "\u{e4}".repeat(12_000);
    let _client = place.client(&id);
    let shown = stdout(&place.ctl(&["clients", "show", &id]));
    assert!(shown.contains(&id), "{} bytes", shown.len());
    let (code, said) = place.ctl_fails(&["losses", &id]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("too many for a path"), "{said}");
    assert!(said.contains("fix: "), "{said}");
    let short = "\u{e4}".repeat(9_000);
    let (code, said) = place.ctl_fails(&["clients", "show", &short]);
    assert_eq!(code, 4, "{} bytes", said.len());
}

#[test]
fn the_log_says_who_comes_and_goes_and_why() {
    let mut place = Place::new();
    let mut client = place.client("meter 17");
    let line = place.broker.wait_for("connected client=");
    for part in [
        "INFO ringmq::clients: connected client=\"meter 17\" peer=127.0.0.1:",
        " listener=127.0.0.1:0 tls=no protocol=5.0 clean=true session=new keep_alive=60",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    client.subscribe("t");
    place.client("p").publish("t", b"x");
    client.message();
    place.broker.wait_for("disconnected client=p");
    let second = place.client("meter 17");
    let line = place.broker.wait_for("disconnected client=");
    for part in [
        "client=\"meter 17\" peer=127.0.0.1:",
        " reason=taken_over by=127.0.0.1:",
        " in=0 out=1 dropped=0",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    drop(second);
    let line = place.broker.wait_for("disconnected client=");
    assert!(line.contains(" reason=closed_by_client after="), "{line}");
}

#[test]
fn tls_and_http_at_a_plain_listener_are_named_and_packets_at_debug() {
    let mut place = Place::with(&["--log", "info,ringmq::packets=debug"]);
    for (bytes, reason, advice) in [
        (
            &b"\x16\x03\x01\x02\x00\x01"[..],
            "tls_handshake",
            "mqtts://",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "http_request",
            "/livez",
        ),
    ] {
        let mut socket = place.broker.socket();
        socket.write_all(bytes).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0);
        let line = place.broker.wait_for(&format!("reason={reason}"));
        assert!(
            line.contains(advice) && line.contains("peer=127.0.0.1:"),
            "{line}"
        );
    }
    let mut client = place.client("c");
    client.subscribe("a/+");
    place.broker.wait_for("subscribe client=c filter=a/+ qos=");
    publish(&mut place.client("p"), "a/b", "hello");
    let line = place.broker.wait_for("publish client=p topic=a/b");
    assert!(line.contains(" retain=false size=5 count=1"), "{line}");
}

#[test]
fn a_reload_names_the_file_and_says_how_many_it_has_cut_off() {
    let folder = Folder::new();
    let users = folder.passwd("users", "ada", "secret");
    folder.passwd("users", "bob", "secret");
    let mut broker = Broker::start(&["--password-file", &users, "--access-default", "allow"]);
    let (_ada, code) = broker.connect("a", Some(("ada", "secret")));
    assert_eq!(code, 0);
    let line = broker.wait_for("connected client=a");
    assert!(line.contains(" user=ada "), "{line}");
    let (_wrong, code) = broker.connect("b", Some(("bob", "wrong")));
    assert_ne!(code, 0);
    let line = broker.wait_for("reason=bad_password");
    assert!(
        line.contains(" client=b user=bob peer=127.0.0.1:"),
        "{line}"
    );
    let rest = fs::read_to_string(&users).unwrap();
    let rest: Vec<&str> = rest
        .lines()
        .filter(|line| !line.starts_with("ada:"))
        .collect();
    folder.write("users", &(rest.join("\n") + "\n"));
    // In whatever order.
    let lines = [(); 2].map(|()| broker.wait_for(" reload"));
    let has = |parts: &[&str]| {
        let fits = |line: &&String| parts.iter().all(|part| line.contains(part));
        assert!(lines.iter().any(|line| fits(&line)), "{parts:?}: {lines:?}");
    };
    has(&[
        "a reload has ended what is no longer permitted",
        " disconnected=1 ",
    ]);
    has(&["reloaded", &format!("changed: {users}")]);
}

#[test]
fn what_a_client_has_lost_is_told_with_the_reason_the_bound_and_a_fix() {
    let place = Place::with(&["--queued-messages-max", "2"]);
    let mut subscriber = Client::open_with(place.broker.socket(), &lasting("meter-17"));
    let mut body = vec![0, 1, 0];
    put(&mut body, "site/#");
    body.push(1);
    subscriber.send(&packet(0x82, &body));
    assert_eq!(subscriber.packet().0, 0x90);
    drop(subscriber);
    let mut publisher = place.client("p");
    let is_away = || place.get("/api/v1/clients/meter-17").json()["connected"] == false;
    while !is_away() {
        std::thread::yield_now();
    }
    for number in 0..5 {
        let mut body = vec![];
        put(&mut body, &format!("site/{number}"));
        body.extend([0, 1, 0]);
        publisher.send(&packet(0x32, &body));
        assert_eq!(publisher.packet().0, 0x40);
    }
    let told = place.get("/api/v1/clients/meter-17/losses").json();
    let loss = &told["losses"][0];
    assert_eq!(
        (&loss["reason"], &loss["count"]),
        (&json!("queue_full"), &json!(3))
    );
    assert_eq!(loss["topic"], "site/4");
    assert_eq!(
        loss["bound"],
        json!({"name": "queued_messages_max", "max": 2})
    );
    let said = stdout(&place.ctl(&["losses", "meter-17"]));
    for part in [
        "3 messages, ",
        "the last on site/4: queue_full, queued_messages_max = 2; the client is away for 0 s\n",
        "\n  fix: raise the bound",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let cases = place
        .get("/api/v1/losses?client=meter-17&topic=site/3")
        .json();
    assert_eq!(cases["losses"].as_array().unwrap().len(), 1, "{cases}");
    let said = stdout(&place.ctl(&["losses", "--reason", "queue_full", "--since", "1h"]));
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.contains("queue_full        meter-17"), "{said}");
    let none = stdout(&place.ctl(&["losses", "p"]));
    assert!(
        none.starts_with("nothing was lost since this session began"),
        "{none}"
    );
    assert_eq!(place.get("/api/v1/losses?reason=bad_luck").status, 400);
    let queue = stdout(&place.ctl(&["clients", "queue", "meter-17"]));
    assert!(queue.lines().nth(1).unwrap().ends_with("site/0"), "{queue}");
    let (code, said) = place.ctl_fails(&["losses", "nobody"]);
    assert_eq!(code, 4);
    assert!(
        said.contains("`ringmq ctl clients list`") && !said.contains("/api/"),
        "{said}"
    );
}

#[test]
fn who_would_get_a_message_is_explained() {
    let folder = Folder::new();
    let rules = "topic readwrite open/#\ntopic write secret/#\n";
    let rules = folder.write("rules", rules);
    let place = Place::with(&["--acl-file", &rules]);
    let mut reader = place.client("reader");
    reader.subscribe("#");
    let mut publisher = place.client("gateway");
    publisher.send(&subscribe_packet("open/+"));
    publisher.packet();
    let explain = |query: &str| place.get(&format!("/api/v1/explain?{query}")).json();
    let open = explain("topic=open/1&from=gateway&qos=1");
    assert_eq!(open["publisher"]["may_publish"], true, "{open}");
    let subscribers = open["subscribers"].as_array().unwrap();
    assert_eq!(subscribers.len(), 2, "{open}");
    assert!(subscribers.iter().all(|one| one["gets"] == true), "{open}");
    let secret = explain("topic=secret/1&from=nobody");
    assert_eq!(secret["publisher"]["may_publish"], Value::Null);
    assert_eq!(secret["subscribers"][0]["fate"], "denied", "{secret}");
    let said = stdout(&place.ctl(&["explain", "secret/1", "--from", "gateway"]));
    assert!(said.contains("NO    reader"), "{said}");
    assert!(said.contains("no access rule allows it"), "{said}");
    assert!(
        said.contains("0 of 1 would get a message of QoS 0 on secret/1\n"),
        "{said}"
    );
    let nobody = stdout(&place.ctl(&["explain", "$other/1"]));
    assert_eq!(nobody, "nobody has a subscription that matches $other/1\n");
    for (query, status) in [
        ("topic=a/%2B", 400),
        ("topic=a&qos=3", 400),
        ("qos=1", 400),
        ("topic=a&size=9&limit=1", 200),
    ] {
        let path = format!("/api/v1/explain?{query}");
        assert_eq!(place.get(&path).status, status, "{query}");
    }
}

#[test]
fn a_group_gets_one_message_and_who_is_there_goes_first() {
    let place = Place::new();
    let mut body = vec![0, 1, 0];
    put(&mut body, "$share/g/site/#");
    body.push(1);
    let mut members = ["there", "away"].map(|id| {
        let mut member = Client::open_with(place.broker.socket(), &lasting(id));
        member.send(&packet(0x82, &body));
        assert_eq!(member.packet().0, 0x90);
        Some(member)
    });
    drop(members[1].take());
    while place.get("/api/v1/clients/away").json()["connected"] == true {
        std::thread::yield_now();
    }
    let path = "/api/v1/explain?topic=site/1&qos=0";
    let answer = place.get(path).json();
    assert_eq!(answer["would_get"], 1, "{answer}");
    let subscribers = answer["subscribers"].as_array().unwrap();
    for subscriber in subscribers {
        let is_there = subscriber["client_id"] == "there";
        assert_eq!(subscriber["gets"], is_there, "{answer}");
        assert_eq!(subscriber["qos"], 0, "as it is delivered: {answer}");
    }
    let said = stdout(&place.ctl(&["explain", "site/1"]));
    assert!(said.contains("1 of 2 would get a message"), "{said}");
}

#[test]
fn subscriptions_are_listed_by_client_by_filter_and_by_topic() {
    let place = Place::new();
    let mut clients: Vec<_> = (0..5).map(|n| place.client(&format!("c{n}"))).collect();
    for client in &mut clients {
        client.subscribe("a/+");
    }
    clients[0].subscribe("b");
    let listed = |path: &str| {
        let mut names = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = place.get(&format!("{path}&limit=2{cursor}")).json();
            let rows = page["subscriptions"].as_array().unwrap().clone();
            names.extend(
                rows.iter()
                    .map(|row| row["client_id"].as_str().unwrap().to_owned()),
            );
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        names.sort();
        names
    };
    let all = ["c0", "c1", "c2", "c3", "c4"];
    assert_eq!(listed("/api/v1/subscriptions?topic=a/1"), all);
    assert_eq!(listed("/api/v1/subscriptions?filter=a/%2B"), all);
    assert_eq!(listed("/api/v1/subscriptions?topic=b"), ["c0"]);
    assert_eq!(place.get("/api/v1/subscriptions").status, 400);
    let own = place.get("/api/v1/clients/c0/subscriptions").json();
    assert_eq!(own["subscriptions"].as_array().unwrap().len(), 2);
    let said = stdout(&place.ctl(&["subscriptions", "match", "a/1"]));
    assert_eq!(said.lines().count(), 6, "{said}");
    let said = stdout(&place.ctl(&["subscriptions", "list", "c0"]));
    assert!(said.lines().any(|line| line.ends_with("  b")), "{said}");
    let said = stdout(&place.ctl(&["subscriptions", "list", "--filter", "nothing"]));
    assert_eq!(said, "no subscribers\n");
}

#[test]
fn retained_messages_are_shown_and_deleted() {
    let place = Place::new();
    let (mut client, _) = place.broker.connect("c", None);
    for topic in ["a/1", "a/2", "b"] {
        client
            .write_all(&old_publish_packet(topic, b"hot", true))
            .unwrap();
    }
    client
        .write_all(&old_publish_packet("raw", b"\xff\x00", true))
        .unwrap();
    client.write_all(b"\xC0\x00").unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    let topics = |filter: &str| {
        let list = place
            .get(&format!("/api/v1/retained?filter={filter}"))
            .json();
        list["retained"].as_array().unwrap().len()
    };
    // The owner of a topic may be another shard than that of its publisher.
    while topics("%23") < 4 {
        std::thread::yield_now();
    }
    let one = place.get("/api/v1/retained/a%2F1").json();
    assert_eq!(
        (&one["topic"], &one["payload"]),
        (&json!("a/1"), &json!("hot"))
    );
    assert_eq!(
        place.get("/api/v1/retained/raw").json()["payload_base64"],
        "/wA="
    );
    assert_eq!(place.get("/api/v1/retained/none").status, 404);
    let said = stdout(&place.ctl(&["retained", "list", "--filter", "a/+"]));
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(
        stdout(&place.ctl(&["retained", "delete", "b"])),
        "deleted b\n"
    );
    assert_eq!(place.ctl_fails(&["retained", "delete", "b"]).0, 4);
    let own = ["retained", "delete", "--filter", "$SYS/#", "--yes"];
    let (code, said) = place.ctl_fails(&own);
    assert!(code == 1 && said.contains("the broker's own"), "{said}");
    let dry = stdout(&place.ctl(&["retained", "delete", "--filter", "a/#", "--dry-run"]));
    assert_eq!(dry, "2 retained messages that match a/# would be deleted\n");
    let (code, said) = place.ctl_fails(&["retained", "delete", "--filter", "a/#"]);
    assert_eq!(code, 2);
    assert!(
        said.contains("delete 2 retained messages") && said.contains("--yes"),
        "{said}"
    );
    let args = [
        "retained", "delete", "--filter", "a/#", "--yes", "--rate", "50",
    ];
    assert_eq!(
        stdout(&place.ctl(&args)),
        "2 retained messages that match a/# deleted\n"
    );
    assert_eq!(topics("%23"), 1);
}

#[test]
fn a_session_is_ended_whether_its_client_is_there_or_not() {
    let place = Place::new();
    let mut there = Client::open_with(place.broker.socket(), &lasting("there"));
    drop(Client::open_with(place.broker.socket(), &lasting("away")));
    let (code, said) = place.ctl_fails(&["sessions", "delete", "there", "away"]);
    assert_eq!(code, 2);
    assert!(said.contains("end 2 sessions"), "{said}");
    stdout(&place.ctl(&["sessions", "delete", "there", "away", "--yes"]));
    assert_eq!(there.packet().0, 0xE0);
    for id in ["there", "away"] {
        assert_eq!(
            place.get(&format!("/api/v1/clients/{id}")).status,
            404,
            "{id}"
        );
        let path = format!("/api/v1/sessions/{id}");
        assert_eq!(place.ask("DELETE", &path, JSON, "").status, 404);
    }
}

#[test]
fn clients_with_most_are_listed_first() {
    let place = Place::new();
    let mut quiet = place.client("quiet");
    quiet.subscribe("t");
    let mut loud = place.client("loud");
    for _ in 0..3 {
        publish(&mut loud, "t", "x");
        quiet.message();
    }
    let sorted = place.get("/api/v1/clients?sort=in&limit=1").json();
    let [first] = &sorted["clients"].as_array().unwrap()[..] else {
        panic!("{sorted}");
    };
    assert_eq!(
        (&first["client_id"], &first["in"]),
        (&json!("loud"), &json!(3))
    );
    let said = stdout(&place.ctl(&["clients", "list", "--sort", "out"]));
    assert!(said.lines().nth(1).unwrap().ends_with("quiet"), "{said}");
    let shown = place.get("/api/v1/clients/quiet").json();
    assert_eq!((&shown["out"], &shown["dropped"]), (&json!(3), &json!(0)));
    assert_eq!(place.get("/api/v1/clients?sort=luck").status, 400);
    assert_eq!(place.get("/api/v1/clients?sort=in&cursor=0.0").status, 400);
}

#[test]
fn a_drain_stops_readiness_then_accepts_then_the_clients_and_the_broker() {
    let place = Place::new();
    let drain = |method: &str, body: &str| place.ask(method, "/api/v1/drain", JSON, body);
    assert_eq!(drain("GET", "").json(), json!({"draining": false}));
    assert_eq!(drain("DELETE", "").status, 404);
    for wrong in ["{\"wait\": -1}", "{\"redirect\": \"\"}", "{\"who\": 1}"] {
        assert_eq!(drain("POST", wrong).status, 422, "{wrong}");
    }
    // Cancelled while it waits: as if it had never been.
    assert_eq!(drain("POST", "{\"wait\": 3600}").json()["phase"], "waiting");
    assert_eq!(drain("POST", "{}").status, 409);
    let ready = place.get("/readyz");
    assert_eq!(
        (ready.status, &*ready.body),
        (503, "not ready: the broker is being drained\n")
    );
    assert!(place.get("/metrics").body.contains("\nringmq_draining 1\n"));
    let mut new = Client::open(place.broker.socket(), "new");
    let (mut old, _) = place.broker.connect("old", None);
    assert_eq!(drain("DELETE", "").status, 200);
    assert_eq!(place.get("/readyz").status, 200);
    let (code, said) = place.ctl_fails(&["drain", "start"]);
    assert_eq!(code, 2);
    assert!(
        said.contains("disconnect all clients") && said.contains("--yes"),
        "{said}"
    );
    let args = [
        "drain",
        "start",
        "--wait",
        "0s",
        "--over",
        "0s",
        "--redirect",
        "b.example:1883",
    ];
    stdout(&place.ctl(&[&args[..], &["--yes"]].concat()));
    let (first, disconnect) = new.packet();
    assert_eq!((first, disconnect[0]), (0xE0, 0x9C));
    let text = String::from_utf8_lossy(&disconnect).into_owned();
    assert!(text.contains("b.example:1883"), "{text}");
    assert_eq!(old.read(&mut [0]).unwrap(), 0);
    while drain("GET", "").json()["phase"] != "drained" {
        std::thread::yield_now();
    }
    let said = stdout(&place.ctl(&["drain", "status"]));
    assert_eq!(
        said,
        "drained: 2 clients have left; no connection is accepted\n"
    );
    // Whoever comes waits in the kernel, until the drain is cancelled.
    let mut waiting = place.broker.socket();
    waiting.write_all(&connect_packet("waiting", 0)).unwrap();
    waiting
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(waiting.read(&mut [0]).is_err());
    assert_eq!(
        stdout(&place.ctl(&["drain", "cancel"])),
        "cancelled; 2 clients had left\n"
    );
    waiting
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    waiting.read_exact(&mut [0; 4]).unwrap();
    let order = "{\"wait\": 0, \"over\": 0, \"then_stop\": true}";
    assert_eq!(drain("POST", order).status, 200);
    assert_eq!(place.broker.wait().0, Some(0));
}

#[test]
fn clients_leave_evenly() {
    let place = Place::new();
    let clients: Vec<_> = (0..40)
        .map(|n| place.broker.connect(&format!("c{n}"), None).0)
        .collect();
    let order = "{\"wait\": 0, \"over\": 2}";
    assert_eq!(place.ask("POST", "/api/v1/drain", JSON, order).status, 200);
    let mut seen = Vec::new();
    loop {
        let status = place.get("/api/v1/drain").json();
        let left = status["left"].as_u64().unwrap();
        if seen.last() != Some(&left) {
            seen.push(left);
        }
        if status["phase"] == "drained" {
            break;
        }
    }
    assert_eq!(seen.last(), Some(&40));
    // Not all at once: some of the way there was seen, in steps.
    assert!(seen.len() > 4 && seen.is_sorted(), "{seen:?}");
    drop(clients);
}

#[test]
fn a_viewer_reads_and_changes_nothing() {
    let (_folder, _broker, address) = with_tokens(&[]);
    let headers = format!("Host: {address}\r\n{JSON}Authorization: Bearer t-viewer\r\n");
    for (method, path, status) in [
        ("GET", "/api/v1/losses", 200),
        ("GET", "/api/v1/retained", 200),
        ("GET", "/api/v1/explain?topic=a", 200),
        ("GET", "/api/v1/drain", 200),
        ("POST", "/api/v1/drain", 403),
        ("DELETE", "/api/v1/drain", 403),
        ("DELETE", "/api/v1/sessions/a", 403),
        ("DELETE", "/api/v1/retained/a", 403),
        ("POST", "/api/v1/retained/delete", 403),
        ("POST", "/api/v1/reload", 403),
    ] {
        assert_eq!(
            over_tcp(address, method, path, &headers),
            status,
            "{method} {path}"
        );
    }
    let disconnect = "/api/v1/clients/disconnect";
    for (path, order, status) in [
        ("/api/v1/config/check", r#"{"toml": ""}"#, 403),
        (disconnect, r#"{"all": true, "dry_run": true}"#, 200),
        (disconnect, r#"{"all": true}"#, 403),
        (
            "/api/v1/sessions/delete",
            r#"{"all": true, "dry_run": true}"#,
            200,
        ),
        (
            "/api/v1/sessions/delete",
            r#"{"all": true, "dry_run": false}"#,
            403,
        ),
        (
            "/api/v1/retained/delete",
            r##"{"filter": "#", "dry_run": true}"##,
            200,
        ),
        ("/api/v1/retained/delete", r##"{"filter": "#"}"##, 403),
    ] {
        let answer = send_over_tcp(address, "POST", path, &headers, order);
        assert_eq!(answer.status, status, "{path} {order}: {answer:?}");
    }
}
