//! The control plane, over its sockets and through `ringmq ctl`.

mod described;
mod many;
mod secured;
mod see;
mod settled;
mod traffic;

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ringmq::admin::line_of;
use serde_json::Value;

use crate::program::{Broker, Folder, RINGMQ};

/// A broker with a control plane on a socket in its folder.
struct Place {
    /// Goes with it.
    folder: Folder,
    broker: Broker,
    socket: String,
}

impl Place {
    fn new() -> Place {
        let folder = Folder::new();
        let socket = folder.path("admin.sock");
        let broker = Broker::start(&["--admin", &format!("unix:{socket}")]);
        Place {
            folder,
            broker,
            socket,
        }
    }

    /// Sends bytes as they are; gives all that comes back.
    fn raw(&self, request: &str) -> String {
        exchange(UnixStream::connect(&self.socket).unwrap(), request)
    }

    fn get(&self, path: &str) -> Answered {
        self.ask("GET", path, "", "")
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answered {
        Answered::read(&self.raw(&request(method, path, headers, body)))
    }

    fn ctl(&self, args: &[&str]) -> Output {
        let mut command = Command::new(RINGMQ);
        command.args(["ctl", "--to", &format!("unix:{}", self.socket)]);
        command.args(args).output().unwrap()
    }
}

/// With a header that ends the connection behind the answer.
fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let size = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Length: {size}\r\n\r\n{body}"
    )
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    // A server that refuses closes before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn read(text: &str) -> Answered {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let head = head.to_ascii_lowercase();
        let body = match head.contains("transfer-encoding: chunked") {
            true => unchunk(body),
            false => body.to_owned(),
        };
        Answered { status, head, body }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body += &behind[..size];
        rest = &behind[size + 2..];
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn an_operator_sees_health_and_metrics() {
    let place = Place::new();
    let mode = fs::metadata(&place.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(place.get("/livez").body, "alive\n");
    let ready = place.get("/readyz?verbose");
    assert_eq!((ready.status, &*ready.body), (200, "ready\n"));
    let (_client, code) = place.broker.connect("meter", None);
    assert_eq!(code, 0);
    let metrics = place.get("/metrics");
    assert!(
        metrics.head.contains("text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    for line in [
        "ringmq_ready 1",
        "ringmq_shards 2",
        "ringmq_sessions{state=\"connected\"} 1",
        "ringmq_connects_total{result=\"accepted\"} 1",
        "ringmq_shard_responding{shard=\"1\"} 1",
        "ringmq_admin_requests_total{route=\"/readyz\",status=\"200\"} 1",
    ] {
        assert!(
            metrics.body.lines().any(|l| l == line),
            "{line}: {}",
            metrics.body
        );
    }
    let shards = place.ask(
        "GET",
        "/metrics/shards",
        "Accept: application/openmetrics-text\r\n",
        "",
    );
    assert!(shards.body.ends_with("# EOF\n"), "{}", shards.body);
    assert!(
        shards
            .body
            .contains("ringmq_shard_turns_total{shard=\"1\"} ")
    );
    let (code, _) = place.broker.stop();
    assert_eq!(code, Some(0));
    assert!(!fs::exists(&place.socket).unwrap());
}

#[test]
fn clients_are_listed_page_by_page() {
    let place = Place::new();
    let ids: Vec<String> = (0..25).map(|number| format!("client-{number}")).collect();
    let _clients: Vec<_> = ids
        .iter()
        .map(|id| place.broker.connect(id, None))
        .collect();
    let mut listed = Vec::new();
    let mut query = "limit=10".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = place.get(&format!("/api/v1/clients?{query}")).json();
        let clients = page["clients"].as_array().unwrap();
        sizes.push(clients.len());
        listed.extend(
            clients
                .iter()
                .map(|c| c["client_id"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page["missing_shards"], serde_json::json!([]));
        match page["cursor"].as_str() {
            Some(cursor) => query = format!("limit=10&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    listed.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!(listed, expected);
    // A whole number of pages has no empty one behind it.
    let page = place.get("/api/v1/clients?limit=25").json();
    assert_eq!(page["cursor"], Value::Null);
    let lines = place.ask(
        "GET",
        "/api/v1/clients",
        "Accept: application/x-ndjson\r\n",
        "",
    );
    assert_eq!(lines.body.lines().count(), 26);
    let some = place
        .get("/api/v1/clients?prefix=client-2&connected=true")
        .json();
    assert_eq!(some["clients"].as_array().unwrap().len(), 6);
    let none = place.get("/api/v1/clients?connected=false").json();
    assert_eq!(none["clients"], serde_json::json!([]));
    let client = place.get("/api/v1/clients/client-7").json();
    assert_eq!(client["connected"], true);
    assert_eq!(client["protocol"], "3.1.1");
    let peer = client["peer"].as_str().unwrap();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    let shards = place.get("/api/v1/shards").json();
    let sessions = |shard: &Value| shard["sessions"].as_u64().unwrap();
    let total: u64 = shards["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(sessions)
        .sum();
    assert_eq!(total, 25);
    assert_eq!(place.get("/api/v1/broker").json()["sessions_connected"], 25);
}

#[test]
fn a_client_of_any_name_is_found_and_disconnected() {
    const ODD: [(&str, &str); 4] = [
        (
            "a/b%2F#?<img onerror=x>",
            "a%2Fb%252F%23%3F%3Cimg%20onerror%3Dx%3E",
        ),
        ("..", ".."),
        ("disconnect", "disconnect"),
        ("Zähler 7", "Z%C3%A4hler%207"),
    ];
    let place = Place::new();
    for (id, encoded) in ODD {
        let (mut socket, code) = place.broker.connect(id, None);
        assert_eq!(code, 0, "{id}");
        let path = format!("/api/v1/clients/{encoded}");
        assert_eq!(place.get(&path).json()["client_id"], id);
        let order = |body: &str| {
            let json = "Content-Type: application/json\r\n";
            place.ask("POST", &format!("{path}/disconnect"), json, body)
        };
        assert_eq!(order("{\"wil\": true}").status, 422);
        let done = order("{}");
        assert_eq!(
            (done.status, &done.json()["disconnected"]),
            (200, &Value::from(id))
        );
        // MQTT 3.1.1 has no word for it: the connection ends.
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "{id}");
        let gone = order("{}");
        assert_eq!(gone.status, 404, "{id}");
        assert!(
            gone.head.contains("application/problem+json"),
            "{}",
            gone.head
        );
        assert!(
            gone.json()["fix"]
                .as_str()
                .unwrap()
                .contains("percent-encoded")
        );
    }
}

#[test]
fn a_request_that_means_nothing_is_told_what_is_wrong() {
    let place = Place::new();
    let json = "Content-Type: application/json\r\n";
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let disconnect = "/api/v1/clients/a/disconnect";
    let large = "x".repeat(70_000);
    let larger = "x".repeat(600_000);
    for (method, path, headers, body, status) in [
        ("GET", "/nothing", "", "", 404),
        ("GET", "/api/v1/clients/a/b", "", "", 404),
        ("GET", disconnect, "", "", 405),
        ("POST", "/metrics", json, "{}", 405),
        ("POST", disconnect, "", "{}", 415),
        ("POST", disconnect, form, "a=b", 415),
        ("POST", disconnect, json, "{", 400),
        ("POST", disconnect, json, &larger, 413),
        ("GET", "/api/v1/clients?limit=x", "", "", 400),
        ("GET", "/api/v1/clients?limit=0", "", "", 400),
        ("GET", "/api/v1/clients?limit=10001", "", "", 400),
        ("GET", "/api/v1/clients?sort=in&limit=1001", "", "", 400),
        ("GET", "/api/v1/losses?limit=1001", "", "", 400),
        ("GET", "/api/v1/explain?topic=a&limit=0", "", "", 400),
        ("GET", "/api/v1/retained?limit=0", "", "", 400),
        ("GET", "/api/v1/clients/a/queue?limit=0", "", "", 400),
        ("GET", "/api/v1/clients/find", "", "", 404),
        ("POST", "/api/v1/clients/find", json, "{}", 422),
        (
            "POST",
            "/api/v1/clients/find",
            json,
            "{\"client\": \"x\"}",
            404,
        ),
        ("GET", "/api/v1/clients?nothing=x", "", "", 400),
        ("GET", "/api/v1/clients?cursor=9.9", "", "", 400),
        ("GET", "/api/v1/clients/%FF", "", "", 400),
        ("GET", "/api/v1/clients/nobody", "", "", 404),
    ] {
        let answer = place.ask(method, path, headers, body);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{method} {path}");
        assert!(!problem["fix"].as_str().unwrap().is_empty());
        assert!(
            answer
                .head
                .contains("content-security-policy: default-src 'none'")
        );
    }
    // Not even a head.
    for garbage in ["\0\0\0\0\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &large] {
        let answer = place.raw(garbage);
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{answer:?}");
    }
    let long = format!("X-Long: {large}\r\n");
    let answer = place.raw(&request("GET", "/livez", &long, ""));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    let (code, _) = place.broker.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let place = Place::new();
    let half = "GET /livez HTTP/1.1\r\nHost: localhost\r\n";
    // Ends when the server closes.
    let answer = place.raw(half);
    assert!(!answer.contains("alive"), "{answer:?}");
}

/// A broker whose control plane listens on TCP too, with tokens.
fn with_tokens(args: &[&str]) -> (Folder, Broker, SocketAddr) {
    let folder = Folder::new();
    let lines =
        ["metrics", "viewer", "operator"].map(|role| line_of(role, role, &format!("t-{role}")));
    let tokens = folder.write("tokens", &lines.join("\n"));
    let given = ["--admin", "127.0.0.1:0", "--admin-token-file", &tokens];
    let mut broker = Broker::start(&[&given, args].concat());
    let address = tcp_address(&mut broker);
    (folder, broker, address)
}

/// Where the control plane listens, as the log says it.
fn tcp_address(broker: &mut Broker) -> SocketAddr {
    let line = broker.wait_for("control plane");
    let address = line
        .split("http://")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    address.trim_matches('"').parse().unwrap()
}

fn over_tcp(address: SocketAddr, method: &str, path: &str, headers: &str) -> u16 {
    let body = if method == "POST" { "{}" } else { "" };
    send_over_tcp(address, method, path, headers, body).status
}

fn send_over_tcp(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answered {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let size = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {size}\r\n\r\n{body}"
    );
    Answered::read(&exchange(stream, &text))
}

#[test]
fn over_tcp_a_token_of_the_right_role_is_needed() {
    let (_folder, _broker, address) = with_tokens(&[]);
    let host = format!("Host: {address}\r\n");
    let json = "Content-Type: application/json\r\n";
    let post = "/api/v1/clients/nobody/disconnect";
    for (method, path, token, status) in [
        ("GET", "/livez", "", 200),
        ("GET", "/readyz", "", 200),
        ("GET", "/metrics", "", 401),
        ("GET", "/metrics", "t-other", 401),
        ("GET", "/metrics", "t-metrics", 200),
        ("GET", "/metrics/shards", "t-metrics", 200),
        ("GET", "/api/v1/broker", "t-metrics", 403),
        ("GET", "/api/v1/broker", "t-viewer", 200),
        ("GET", "/api/v1/clients/nobody", "", 401),
        ("GET", "/nothing", "", 401),
        ("GET", "/", "", 200),
        ("GET", "/assets/main.js", "", 200),
        ("GET", "/assets/nothing.js", "", 401),
        ("GET", "/api/v1/live", "", 401),
        ("GET", "/api/v1/live", "t-metrics", 403),
        ("GET", "/api/v1/config", "", 401),
        ("GET", "/api/v1/config", "t-viewer", 200),
        ("POST", post, "t-viewer", 403),
        ("POST", post, "t-operator", 404),
    ] {
        let bearer = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let got = over_tcp(address, method, path, &format!("{host}{json}{bearer}"));
        assert_eq!(got, status, "{method} {path} {token}");
    }
}

#[test]
fn over_tcp_a_page_of_a_browser_gets_nothing() {
    let (_folder, _broker, address) = with_tokens(&["--admin-open-metrics"]);
    let port = address.port();
    let token = "Authorization: Bearer t-operator\r\nContent-Type: application/json\r\n";
    let post = "/api/v1/clients/nobody/disconnect";
    for (method, path, headers, status) in [
        ("GET", "/metrics", format!("Host: {address}\r\n"), 200),
        (
            "GET",
            "/metrics",
            format!("Host: localhost:{port}\r\n"),
            200,
        ),
        (
            "GET",
            "/livez",
            format!("Host: evil.example:{port}\r\n"),
            421,
        ),
        (
            "GET",
            "/metrics",
            format!("Host: evil.example:{port}\r\n"),
            421,
        ),
        ("GET", "/metrics", "Host: 127.0.0.1\r\n".to_owned(), 421),
        (
            "POST",
            post,
            format!("Host: {address}\r\n{token}Origin: http://{address}\r\n"),
            404,
        ),
        (
            "POST",
            post,
            format!("Host: {address}\r\n{token}Origin: http://evil.example\r\n"),
            403,
        ),
        (
            "POST",
            post,
            format!("Host: {address}\r\n{token}Origin: null\r\n"),
            403,
        ),
    ] {
        assert_eq!(
            over_tcp(address, method, path, &headers),
            status,
            "{headers}"
        );
    }
}

#[test]
fn two_brokers_of_one_user_do_not_collide_and_ctl_asks_which() {
    let folder = Folder::new();
    let start = || {
        let mut command = Command::new(RINGMQ);
        command.env("RUNTIME_DIRECTORY", folder.path("ringmq"));
        Broker::start_with(command)
    };
    let ctl = || {
        let mut command = Command::new(RINGMQ);
        command.env("RUNTIME_DIRECTORY", folder.path("ringmq"));
        command.args(["ctl", "status"]).output().unwrap()
    };
    let nobody = ctl();
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    let first = start();
    assert!(stdout(&ctl()).contains(", ready\n"));
    let second = start();
    let both = ctl();
    let said = String::from_utf8(both.stderr).unwrap();
    assert_eq!(both.status.code(), Some(1), "{said}");
    for pid in [first.process.id(), second.process.id()] {
        assert!(said.contains(&format!("/ringmq/{pid}.sock")), "{said}");
    }
    // One that was killed leaves its socket; nobody answers there.
    let killed = folder.path(&format!("ringmq/{}.sock", first.process.id()));
    first.kill();
    assert!(fs::exists(&killed).unwrap());
    assert!(stdout(&ctl()).contains(", ready\n"));
    let _third = start();
    assert!(!fs::exists(&killed).unwrap(), "the next start cleans up");
}

#[test]
fn a_broker_without_a_place_for_its_socket_starts_and_says_so() {
    let folder = Folder::new();
    let mut command = Command::new(RINGMQ);
    let file = folder.write("file", "not a directory");
    command
        .env("XDG_RUNTIME_DIR", file)
        .env_remove("RUNTIME_DIRECTORY");
    let mut broker = Broker::start_with(command);
    let line = broker.wait_for("no control plane at unix:auto");
    assert!(line.contains("Fix: "), "{line}");
    assert_eq!(broker.code(None), 0);
}

#[test]
fn an_address_that_was_asked_for_and_cannot_be_had_is_refused() {
    let place = Place::new();
    let address = format!("unix:{}", place.socket);
    let args = [
        "--admin",
        &address,
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "1",
    ];
    let output = Command::new(RINGMQ).args(args).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("in use by another process. Fix: name another path"),
        "{said}"
    );
    assert_eq!(place.get("/livez").status, 200);
}

#[test]
fn without_an_address_nothing_starts() {
    let mut broker = Broker::start(&["--admin", ""]);
    broker.wait_for("started");
    let tasks = format!("/proc/{}/task", broker.process.id());
    let names = fs::read_dir(tasks)
        .unwrap()
        .map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    assert!(names.into_iter().all(|name| name != "control\n"));
}

#[test]
fn ctl_shows_and_disconnects_clients() {
    let place = Place::new();
    assert_eq!(stdout(&place.ctl(&["ready"])), "ready\n");
    assert_eq!(stdout(&place.ctl(&["clients", "list"])), "no clients\n");
    let (mut socket, _) = place.broker.connect("a/b %2F#", None);
    let status = stdout(&place.ctl(&["status"]));
    assert!(status.contains("1, 1 connected"), "{status}");
    let shards = stdout(&place.ctl(&["shards"]));
    assert_eq!(shards.lines().count(), 3, "{shards}");
    let list = stdout(&place.ctl(&["clients", "list", "--connected"]));
    assert!(
        list.lines().nth(1).unwrap().ends_with("  a/b %2F#"),
        "{list}"
    );
    let json = stdout(&place.ctl(&["clients", "show", "a/b %2F#", "-o", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["client_id"], "a/b %2F#");
    let done = stdout(&place.ctl(&["clients", "disconnect", "a/b %2F#", "--without-will"]));
    assert_eq!(done, "disconnected a/b %2F#\n");
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
    for (args, code) in [
        (&["clients", "show", "nobody"][..], 4),
        (&["clients", "disconnect", "nobody"], 4),
        (&["clients", "list", "--cursor", "x"], 1),
        (&["client"], 2),
        (&["token", "a", "king"], 2),
        (&["--help"], 0),
    ] {
        let output = place.ctl(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
    let Place {
        folder: _folder,
        broker,
        socket,
    } = place;
    assert_eq!(broker.stop().0, Some(0));
    let mut command = Command::new(RINGMQ);
    let output = command
        .args(["ctl", "--to", &format!("unix:{socket}"), "status"])
        .output();
    assert_eq!(output.unwrap().status.code(), Some(1));
}

#[test]
fn a_token_that_ctl_makes_opens_the_door() {
    let folder = Folder::new();
    let made = Command::new(RINGMQ)
        .args(["ctl", "token", "ada", "viewer"])
        .output()
        .unwrap();
    let tokens = folder.write("tokens", &stdout(&made));
    let token = folder.write("token", &String::from_utf8(made.stderr).unwrap());
    let mut broker = Broker::start(&["--admin", "127.0.0.1:0", "--admin-token-file", &tokens]);
    let to = format!("http://{}", tcp_address(&mut broker));
    let ctl = |rest: &[&str]| {
        let mut command = Command::new(RINGMQ);
        command
            .args(["ctl", "--to", &to])
            .args(rest)
            .output()
            .unwrap()
    };
    assert_eq!(ctl(&["status"]).status.code(), Some(1));
    assert!(stdout(&ctl(&["status", "--token", &token])).contains(", ready\n"));
    let refused = ctl(&["clients", "disconnect", "c", "--token", &token]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("the role of the token ada does not permit this"),
        "{said}"
    );
}

/// Reads events of a stream until there are so many of a name; gives the contents of those.
fn events(place: &Place, name: &str, count: usize) -> Vec<Value> {
    let mut stream = UnixStream::connect(&place.socket).unwrap();
    let request = request("GET", "/api/v1/live", "", "");
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut contents = Vec::new();
    while contents.len() < count {
        let line = lines.next().expect("the stream goes on");
        if line == format!("event: {name}") {
            let data = lines.next().unwrap();
            contents.push(serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap());
        }
    }
    contents
}

#[test]
fn a_reader_gets_the_last_minutes_and_then_each_second() {
    let place = Place::new();
    let (_client, _) = place.broker.connect("meter", None);
    let frames = events(&place, "frame", 2);
    let at = |frame: &Value| frame["at_ms"].as_u64().unwrap();
    assert!(at(&frames[0]) < at(&frames[1]));
    let frame = &frames[1];
    assert_eq!(frame["ready"], true);
    assert_eq!(frame["totals"]["sessions_connected"], 1);
    assert_eq!(frame["shards"].as_array().unwrap().len(), 2);
    assert_eq!(frame["dropped"], serde_json::json!({}));
    let start = events(&place, "start", 1).remove(0);
    assert_eq!(start["caller"]["role"], "operator");
    assert_eq!(start["now"]["shards"].as_array().unwrap().len(), 2);
    let history = start["history"].as_object().unwrap();
    let seconds = history["at_ms"].as_array().unwrap().len();
    assert!(seconds >= 2);
    for (name, column) in history {
        let is_total = name == "at_ms" || frame["totals"].get(name).is_some();
        assert!(
            is_total && column.as_array().unwrap().len() == seconds,
            "{name}"
        );
    }
}

#[test]
fn readers_beyond_the_bound_are_refused_and_a_stop_waits_for_none() {
    let place = Place::new();
    let open = || {
        let mut stream = UnixStream::connect(&place.socket).unwrap();
        let request = request("GET", "/api/v1/live", "", "");
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = String::new();
        let mut stream = BufReader::new(stream);
        stream.read_line(&mut head).unwrap();
        (head, stream)
    };
    let mut readers: Vec<_> = (0..8).map(|_| open()).collect();
    assert!(readers.iter().all(|(head, _)| head.contains(" 200 ")));
    assert!(open().0.contains(" 503 "));
    drop(readers.pop());
    // The place of one that has left is free with the next second at the latest.
    while open().0.contains(" 503 ") {}
    assert_eq!(place.broker.stop().0, Some(0));
}

#[test]
fn the_page_is_served_with_a_policy_and_is_not_sent_twice() {
    let place = Place::new();
    let page = place.get("/");
    assert_eq!(page.status, 200);
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-cache",
        "default-src 'none'; script-src 'self';",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(page.head.contains(header), "{header}: {}", page.head);
    }
    let tag = page.head.split("etag: ").nth(1).unwrap();
    let tag = tag.split("\r\n").next().unwrap();
    let known = format!("If-None-Match: {tag}\r\n");
    let again = place.ask("GET", "/", &known, "");
    assert_eq!((again.status, &*again.body), (304, ""));
    let other = place.ask("GET", "/assets/main.js", &known, "");
    assert_eq!(other.status, 200);
    for part in page.body.split("\"/assets/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert_eq!(place.get(&format!("/assets/{name}")).status, 200, "{name}");
    }
    // A name that somebody pointed at a forwarded port.
    let text = "GET / HTTP/1.1\r\nHost: evil.example:1\r\nConnection: close\r\n\r\n";
    assert_eq!(Answered::read(&place.raw(text)).status, 421);
    let settings = place.get("/api/v1/config").json();
    let settings = settings["settings"].as_array().unwrap();
    let listen = settings
        .iter()
        .find(|row| row["section"] == "admin" && row["key"] == "listen");
    assert_eq!(listen.unwrap()["value"], format!("unix:{}", place.socket));
}

#[test]
fn what_is_compressed_comes_compressed_to_those_who_accept_it() {
    let place = Place::new();
    let sent = |path: &str, headers: &str| {
        let mut stream = UnixStream::connect(&place.socket).unwrap();
        stream
            .write_all(request("GET", path, headers, "").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap();
        let body = answer.split_off(head + 4);
        (
            String::from_utf8(answer).unwrap().to_ascii_lowercase(),
            body,
        )
    };
    for path in ["/", "/assets/main.js", "/metrics", "/metrics/shards"] {
        let (head, plain) = sent(path, "");
        assert!(head.contains("vary: accept-encoding"), "{path}: {head}");
        assert!(!head.contains("content-encoding"), "{path}: {head}");
        let (head, zipped) = sent(path, "Accept-Encoding: gzip\r\n");
        assert!(head.contains("content-encoding: gzip"), "{path}: {head}");
        assert!(zipped.len() < plain.len(), "{path}");
        let mut content = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&zipped[..]);
        decoder.read_to_string(&mut content).unwrap();
        let is_page = !path.starts_with("/metrics");
        assert!(!is_page || content.as_bytes() == plain, "{path}");
        assert!(is_page || content.contains("# TYPE ringmq_"), "{path}");
        // What a browser has of one form is not taken for the other.
        if let Some((_, tag)) = head.split_once("etag: ") {
            let tag = tag.split("\r\n").next().unwrap();
            let known = format!("If-None-Match: {tag}\r\n");
            let again = sent(path, &format!("{known}Accept-Encoding: gzip\r\n"));
            assert!(again.0.starts_with("http/1.1 304") && again.1.is_empty());
            assert!(sent(path, &known).0.starts_with("http/1.1 200"));
        }
    }
    // Streams and lists come as they are.
    let headers = "Accept-Encoding: gzip\r\nAccept: application/x-ndjson\r\n";
    let (head, _) = sent("/api/v1/clients", headers);
    assert!(!head.contains("content-encoding"), "{head}");
}

#[test]
fn without_the_page_nothing_of_it_is_there() {
    let folder = Folder::new();
    let socket = folder.path("admin.sock");
    let admin = format!("unix:{socket}");
    let broker = Broker::start(&["--admin", &admin, "--admin-page=false"]);
    let place = Place {
        folder,
        broker,
        socket,
    };
    for path in ["/", "/assets/main.js", "/api/v1/live"] {
        assert_eq!(place.get(path).status, 404, "{path}");
    }
    assert_eq!(place.get("/api/v1/broker").status, 200);
}

/// Where `promtool` is installed, as `scripts/install tests` does.
#[test]
fn prometheus_has_nothing_to_complain_of() {
    let place = Place::new();
    let (_client, _) = place.broker.connect("meter", None);
    for path in ["/metrics", "/metrics/shards"] {
        let url = format!("http://localhost{path}");
        let curl = Command::new("curl")
            .args(["-sSf", "--unix-socket", &place.socket, &url])
            .output();
        let Ok(scraped) = curl else {
            return eprintln!("no curl: scripts/install tests installs it");
        };
        let text = stdout(&scraped);
        let checked = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut checked) = checked else {
            return eprintln!("no promtool: scripts/install tests installs it");
        };
        checked
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let checked = checked.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(
            checked.status.success() && said.is_empty(),
            "{path}: {checked:?}"
        );
    }
}

/// As above: it comes with promtool.
#[test]
fn prometheus_scrapes_the_broker() {
    let folder = Folder::new();
    let tokens = folder.write("tokens", &line_of("prometheus", "metrics", "t-scrape"));
    let token = folder.write("token", "t-scrape");
    let mut broker = Broker::start(&["--admin", "127.0.0.1:0", "--admin-token-file", &tokens]);
    let address = tcp_address(&mut broker);
    let (_client, code) = broker.connect("meter", None);
    assert_eq!(code, 0);
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n\
         - {{ job_name: small, authorization: {{ credentials_file: {token} }}, \
         static_configs: [{{ targets: [\"{address}\"] }}] }}\n\
         - {{ job_name: shards, metrics_path: /metrics/shards, authorization: {{ credentials_file: {token} }}, \
         static_configs: [{{ targets: [\"{address}\"] }}] }}\n"
    );
    let config = folder.write("prometheus.yml", &config);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let started = Command::new("prometheus")
        .arg(format!("--config.file={config}"))
        .arg(format!("--storage.tsdb.path={}", folder.path("tsdb")))
        .arg(format!("--web.listen-address={port}"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path("prometheus.log")).unwrap())
        .spawn();
    let Ok(prometheus) = started else {
        return eprintln!("no prometheus: scripts/install tests installs it");
    };
    let mut prometheus = Running(prometheus);
    let ask = |query: &str| -> Option<String> {
        let stream = TcpStream::connect(port).ok()?;
        let path = format!("/api/v1/query?query={query}");
        let answer = Answered::read(&exchange(stream, &request("GET", &path, "", "")));
        let json: Value = serde_json::from_str(&answer.body).ok()?;
        Some(json["data"]["result"][0]["value"][1].as_str()?.to_owned())
    };
    for (query, expected) in [
        ("sum(ringmq_connections)", "1"),
        ("sum(up)", "2"),
        ("sum(ringmq_shard_turns_total)%3Ebool%200", "1"),
        (
            "count(ringmq_stage_duration_seconds_bucket)%3Ebool%2010",
            "1",
        ),
    ] {
        let begun = std::time::Instant::now();
        while ask(query).as_deref() != Some(expected) {
            let log = || fs::read_to_string(folder.path("prometheus.log")).unwrap();
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "{query}: {}",
                log()
            );
            assert!(prometheus.0.try_wait().unwrap().is_none(), "{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As above.
#[test]
fn alerts_and_board_can_be_used_and_alerts_come_when_they_should() {
    let folder = Folder::new();
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging");
    let board = fs::read_to_string(format!("{packaging}/grafana-board.json")).unwrap();
    let board: Value = serde_json::from_str(&board).unwrap();
    let mut queries = Vec::new();
    collect_queries(&board, &mut queries);
    assert!(queries.len() > 30, "{queries:?}");
    // What Grafana puts in place of its variables.
    let rule = |(index, query): (usize, &String)| {
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$__interval", "1m");
        serde_json::json!({"record": format!("query:{index}"), "expr": query})
    };
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let rules = serde_json::json!({"groups": [{"name": "board", "rules": rules}]});
    let queries = folder.write("board.json", &rules.to_string());
    for args in [
        ["check", "rules", &queries],
        ["check", "rules", &format!("{packaging}/alert-rules.yml")],
        [
            "test",
            "rules",
            &format!("{packaging}/alert-rules-test.yml"),
        ],
    ] {
        let Ok(output) = Command::new("promtool").args(args).output() else {
            return eprintln!("no promtool: scripts/install tests installs it");
        };
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

fn collect_queries(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            queries.extend(
                fields
                    .get("expr")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields
                .values()
                .for_each(|field| collect_queries(field, queries));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_queries(item, queries)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
