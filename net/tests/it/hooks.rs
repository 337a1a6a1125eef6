//! Hooks: a broker that asks a server for who clients are and what they may do, over real sockets.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::mqtt::{self, Client};
use ringmq::auth::http::HttpUrl;
use ringmq::auth::{
    AuthServiceConfig, Authenticator, Authenticators, HookConfig, PasswordFile, hooks,
};
use ringmq::{Broker, BrokerConfig, Endpoint, Tallies};
use ringmq_core::auth::{Access, Acl, Method, Password, Passwords};
use ringmq_core::limits::Limits;
use serde_json::Value;

/// What the server says next.
#[derive(Clone, Debug)]
enum Reply {
    /// A status and a body.
    Says(u16, String),
    /// These bytes, and then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, until somebody says so.
    Hangs(Arc<Mutex<Receiver<()>>>),
}

fn json(text: &str) -> Reply {
    Reply::Says(200, text.to_owned())
}

/// An HTTP server on a free port. Ends with the process.
struct Server {
    address: SocketAddr,
    /// By path; the same until there is another one.
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    /// Path, headers in small letters, body.
    questions: Receiver<(String, String, Value)>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let replies: Arc<Mutex<HashMap<String, Reply>>> = Arc::default();
        let (asked, questions) = mpsc::channel();
        let known = Arc::clone(&replies);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (known, asked) = (Arc::clone(&known), asked.clone());
                thread::spawn(move || serve(socket.unwrap(), &known, &asked));
            }
        });
        Server {
            address,
            replies,
            questions,
        }
    }

    fn says(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    fn url(&self, path: &str) -> Option<HttpUrl> {
        Some(HttpUrl::parse(&format!("http://{}{path}", self.address)).unwrap())
    }

    fn asked_count(&self) -> usize {
        self.questions.try_iter().count()
    }
}

/// One connection, kept open from question to question.
fn serve(
    socket: TcpStream,
    replies: &Mutex<HashMap<String, Reply>>,
    asked: &Sender<(String, String, Value)>,
) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut socket = socket;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let head = head.to_lowercase();
        let size = head.split("content-length: ").nth(1).unwrap();
        let size = size.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; size];
        reader.read_exact(&mut body).unwrap();
        let reply = replies.lock().unwrap().get(&path).cloned();
        let _ = asked.send((path, head, serde_json::from_slice(&body).unwrap()));
        let written = match reply.unwrap_or(Reply::Says(404, String::new())) {
            Reply::Says(status, body) => write!(
                socket,
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            Reply::Raw(bytes) => {
                let _ = socket.write_all(&bytes);
                return;
            }
            Reply::Hangs(until) => {
                let _ = until.lock().unwrap().recv();
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

struct Setup {
    config: HookConfig,
    service: AuthServiceConfig,
    users: &'static str,
    headers: Vec<(String, String)>,
}

fn setup(config: HookConfig) -> Setup {
    Setup {
        config,
        service: AuthServiceConfig::default(),
        users: "",
        headers: Vec::new(),
    }
}

/// A broker that knows these hooks, and perhaps users of a file; what was counted comes with it.
fn start(setup: Setup) -> (Broker, Arc<Tallies>) {
    start_within(setup, Limits::default())
}

fn start_within(setup: Setup, limits: Limits) -> (Broker, Arc<Tallies>) {
    let tallies = Arc::default();
    let (access, authenticators) = access(&setup, &tallies);
    let config = BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards: 2,
        access,
        authenticators,
        auth: setup.service,
        limits,
        tallies: Arc::clone(&tallies),
        ..BrokerConfig::default()
    };
    (Broker::start(&config).unwrap(), tallies)
}

fn access(setup: &Setup, tallies: &Arc<Tallies>) -> (Access, Authenticators) {
    let (authentication, authorization) =
        hooks(&setup.config, setup.headers.clone(), tallies).unwrap();
    let mut all: Vec<Arc<dyn Authenticator>> = Vec::new();
    let mut passwords = Arc::default();
    if !setup.users.is_empty() {
        let stored = Password::new(Method::Pbkdf2 { rounds: 2 }, b"secret", b"salt of a test");
        let line = format!("{}:{stored}\n", setup.users);
        passwords = Arc::new(Passwords::parse(&line).unwrap());
        all.push(Arc::new(PasswordFile::new(Arc::clone(&passwords), [7; 32])));
    }
    let asks_for_strangers = authentication.is_some();
    all.extend(authentication.map(|hook| Arc::new(hook) as Arc<dyn Authenticator>));
    let access = Access {
        allow_anonymous: all.is_empty(),
        asks_shell: !all.is_empty(),
        asks_for_strangers,
        asks_rules: authorization.is_some(),
        passwords,
        acl: Some(Arc::new(Acl::new(false))),
        ..Access::default()
    };
    let authorization = authorization.map(Arc::new);
    (access, Authenticators { all, authorization })
}

fn stop(broker: Broker) {
    broker.shutdown();
    broker.join();
}

/// CONNECT of MQTT 5.0.
fn connect(id: &str, user: Option<&str>, password: Option<&[u8]>) -> Vec<u8> {
    let flags = 2 | u8::from(user.is_some()) << 7 | u8::from(password.is_some()) << 6;
    let mut body = b"\0\x04MQTT\x05".to_vec();
    body.extend([flags, 0, 0, 0]);
    let parts = [Some(id.as_bytes()), user.map(str::as_bytes), password];
    for part in parts.into_iter().flatten() {
        body.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        body.extend(part);
    }
    mqtt::packet(0x10, &body)
}

/// Connects, and gives what CONNACK says.
fn login(broker: &Broker, packet: &[u8]) -> (Client<TcpStream>, u8) {
    let Endpoint::Tcp(address) = broker.endpoints()[0] else {
        unreachable!("it listens on TCP");
    };
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut client = Client { stream };
    client.send(packet);
    let (first, body) = client.packet();
    assert_eq!(first, 0x20, "CONNACK");
    (client, body[1])
}

fn code(broker: &Broker, user: &str, password: &[u8]) -> u8 {
    login(broker, &connect("c", Some(user), Some(password))).1
}

/// The code of SUBACK.
fn subscribe(client: &mut Client<TcpStream>, filter: &str) -> u8 {
    client.send(&mqtt::subscribe_packet(filter));
    let (first, body) = client.packet();
    assert_eq!(first, 0x90, "SUBACK");
    *body.last().unwrap()
}

fn count(tallies: &Tallies, name: &str) -> u64 {
    let all = tallies.named();
    all.iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn a_server_authenticates_clients_and_is_sent_everything_that_is_known() {
    let server = Server::start();
    let config = HookConfig {
        authentication: server.url("/auth"),
        ..HookConfig::default()
    };
    let headers = vec![("Authorization".to_owned(), "Bearer abc".to_owned())];
    let (broker, tallies) = start(Setup {
        headers,
        ..setup(config)
    });
    for (reply, expected) in [
        (json(r#"{"result":"allow"}"#), 0),
        (Reply::Says(204, String::new()), 0),
        (json(r#"{"result":"deny"}"#), 0x86),
        (Reply::Says(401, String::new()), 0x86),
        (Reply::Says(403, "no".to_owned()), 0x86),
        (json(r#"{"result":"ignore"}"#), 0x86),
    ] {
        server.says("/auth", reply.clone());
        assert_eq!(code(&broker, "alice", b"secret"), expected, "{reply:?}");
        let (_, head, question) = server.questions.recv().unwrap();
        assert!(head.contains("authorization: bearer abc\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/json\r\n"),
            "{head}"
        );
        let peer = question["peer"].as_str().unwrap();
        assert!(peer.starts_with("127.0.0.1:"), "{peer}");
        let expected = serde_json::json!({
            "client_id": "c", "user": "alice", "password": "secret", "peer": peer, "protocol": "5.0",
        });
        assert_eq!(question, expected);
    }
    // Credentials that are absent, empty or binary (threat 82).
    server.says("/auth", json(r#"{"result":"deny"}"#));
    for (user, password, key, value) in [
        (None, None, "user", Value::Null),
        (Some(""), None, "user", "".into()),
        (Some(""), Some(&b""[..]), "password", "".into()),
        (None, Some(b"x"), "user", Value::Null),
        (Some("a\"\\"), Some(b"\""), "user", "a\"\\".into()),
        (
            Some("a"),
            Some(&[0xFF, 0]),
            "password_base64",
            "/wA=".into(),
        ),
        (Some("a"), Some(&[0xFF, 0]), "password", Value::Null),
        (Some("a"), Some(&[b'x'; 60_000]), "user", "a".into()),
    ] {
        assert_eq!(login(&broker, &connect("c", user, password)).1, 0x86);
        let (_, _, question) = server.questions.recv().unwrap();
        assert_eq!(question[key], value, "{user:?}");
    }
    assert_eq!(count(&tallies, "hooks/authentication/allowed"), 2);
    assert_eq!(count(&tallies, "hooks/authentication/ignored"), 1);
    assert_eq!(count(&tallies, "hooks/authentication/failed"), 0);
    stop(broker);
}

#[test]
fn an_answer_may_hold_a_name_rules_and_an_expiry() {
    let server = Server::start();
    let config = HookConfig {
        authentication: server.url("/auth"),
        ..HookConfig::default()
    };
    let (broker, _) = start(setup(config));
    server.says(
        "/auth",
        json(r#"{"result":"allow","user":"bob","rules":{"subscribe":["of/%u/#"]},"expires_in":2}"#),
    );
    let (mut client, code) = login(&broker, &connect("c", Some("alice"), Some(b"x")));
    assert_eq!(code, 0);
    assert_eq!(subscribe(&mut client, "of/bob/x"), 1);
    assert_eq!(subscribe(&mut client, "of/alice/x"), 0x87);
    // Nobody else takes its session over.
    server.says("/auth", json(r#"{"result":"allow","user":"carol"}"#));
    assert_eq!(login(&broker, &connect("c", Some("bob"), None)).1, 0x85);
    assert_eq!(client.packet().0, 0xE0, "DISCONNECT at the end of its time");
    stop(broker);
}

// (threat 80)
#[test]
fn without_a_valid_answer_nobody_is_admitted() {
    let server = Server::start();
    let config = |timeout| HookConfig {
        authentication: server.url("/auth"),
        timeout: Duration::from_millis(timeout),
        failures_max: 1000,
        ..HookConfig::default()
    };
    let (broker, tallies) = start(setup(config(60_000)));
    let huge = format!("{{\"result\":\"allow\"}}{}", " ".repeat(300_000));
    let mut failed = 0;
    for reply in [
        Reply::Says(500, r#"{"result":"allow"}"#.to_owned()),
        Reply::Says(404, String::new()),
        Reply::Says(302, String::new()),
        Reply::Says(200, String::new()),
        Reply::Says(200, "ok".to_owned()),
        Reply::Says(200, r#"{"result":"allow","unknown":1}"#.to_owned()),
        Reply::Says(200, huge),
        Reply::Raw(Vec::new()),
        Reply::Raw(b"SSH-2.0-x\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"result\":\"allow\"}".to_vec()),
        Reply::Raw(b"HTTP/1.1 302 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ] {
        server.says("/other", json(r#"{"result":"allow"}"#));
        server.says("/auth", reply.clone());
        assert_eq!(code(&broker, "alice", b"x"), 0x88, "{reply:?}");
        failed += 1;
        assert_eq!(count(&tallies, "hooks/authentication/failed"), failed);
    }
    stop(broker);
    let (broker, tallies) = start(setup(config(50)));
    let (_go, gate) = mpsc::channel();
    server.says("/auth", Reply::Hangs(Arc::new(Mutex::new(gate))));
    assert_eq!(code(&broker, "alice", b"x"), 0x88);
    assert_eq!(count(&tallies, "hooks/authentication/failed"), 1);
    stop(broker);
    // The address of a client: in use, so that nobody can come to listen there.
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpStream::connect(somebody.local_addr().unwrap()).unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    let (broker, _) = start(setup(HookConfig {
        authentication: Some(HttpUrl::parse(&url).unwrap()),
        ..HookConfig::default()
    }));
    assert_eq!(code(&broker, "alice", b"x"), 0x88);
    stop(broker);
}

#[test]
fn a_hook_that_fails_too_often_is_skipped_and_tried_again() {
    let server = Server::start();
    let (broker, tallies) = start(setup(HookConfig {
        authentication: server.url("/auth"),
        failures_max: 3,
        pause: Duration::from_millis(200),
        ..HookConfig::default()
    }));
    for _ in 0..3 {
        assert_eq!(code(&broker, "alice", b"x"), 0x88);
    }
    assert_eq!(server.asked_count(), 3);
    // Refused at once, as long as the pause lasts.
    while count(&tallies, "hooks/authentication/cut_off") < 3 {
        assert_eq!(code(&broker, "alice", b"x"), 0x88);
    }
    server.says("/auth", json(r#"{"result":"allow"}"#));
    server.asked_count();
    while code(&broker, "alice", b"x") != 0 {}
    assert_eq!(server.asked_count(), 1, "one question was enough");
    stop(broker);
}

/// A storm of logins: their own time is up before that of the server, which says nothing of the
/// server.
#[test]
fn clients_that_run_out_of_time_do_not_open_the_breaker() {
    let server = Server::start();
    let (_go, gate) = mpsc::channel();
    server.says("/auth", Reply::Hangs(Arc::new(Mutex::new(gate))));
    let limits = Limits {
        connect_deadline: Duration::from_millis(100),
        ..Limits::default()
    };
    let setup = setup(HookConfig {
        authentication: server.url("/auth"),
        timeout: Duration::from_secs(60),
        failures_max: 1,
        pause: Duration::from_secs(600),
        ..HookConfig::default()
    });
    let (broker, tallies) = start_within(setup, limits);
    for _ in 0..3 {
        assert_eq!(code(&broker, "alice", b"x"), 0x88);
    }
    while count(&tallies, "hooks/authentication/out_of_time") < 3 {
        thread::yield_now();
    }
    server.says("/auth", json(r#"{"result":"allow"}"#));
    // Where others have the processor, a login may take longer than the time that it has here.
    while code(&broker, "alice", b"x") != 0 {}
    assert_eq!(count(&tallies, "hooks/authentication/failed"), 0);
    assert_eq!(count(&tallies, "hooks/authentication/cut_off"), 0);
    stop(broker);
}

#[test]
fn a_hanging_server_delays_only_clients_that_need_it_and_a_bounded_number() {
    let server = Server::start();
    let (go, gate) = mpsc::channel();
    server.says("/auth", Reply::Hangs(Arc::new(Mutex::new(gate))));
    let config = HookConfig {
        authentication: server.url("/auth"),
        timeout: Duration::from_secs(60),
        ..HookConfig::default()
    };
    let service = AuthServiceConfig {
        waiting_threads: 1,
        waiting_queue_max: 1,
        ..AuthServiceConfig::default()
    };
    let (broker, tallies) = start(Setup {
        service,
        users: "known",
        ..setup(config)
    });
    let Endpoint::Tcp(address) = broker.endpoints()[0] else {
        unreachable!("it listens on TCP");
    };
    let mut first = TcpStream::connect(address).unwrap();
    first.write_all(&connect("first", Some("a"), None)).unwrap();
    server.questions.recv().unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    second
        .write_all(&connect("second", Some("b"), None))
        .unwrap();
    // Of those who come later, one may find the place of the second.
    while count(&tallies, "hooks/overflows") < 2 {
        let mut later = TcpStream::connect(address).unwrap();
        later.write_all(&connect("later", Some("c"), None)).unwrap();
        assert_eq!(code(&broker, "known", b"secret"), 0, "the file knows it");
        assert_eq!(code(&broker, "known", b"Secret"), 0x86);
    }
    drop((first, second, go));
    stop(broker);
}

/// Rules for whoever is let in, by whatever: here without a name.
#[test]
fn rules_come_from_a_server_and_are_renewed() {
    let server = Server::start();
    let (broker, tallies) = start(setup(HookConfig {
        authorization: server.url("/rules"),
        rules_last: Duration::from_secs(2),
        failures_max: 1000,
        ..HookConfig::default()
    }));
    for (reply, expected) in [
        (json(r#"{"result":"deny"}"#), 0x87),
        (Reply::Says(403, String::new()), 0x87),
        // Who forgot the rules has not said that there are none.
        (json(r#"{"result":"allow"}"#), 0x88),
        (Reply::Says(204, String::new()), 0x88),
        (Reply::Says(500, String::new()), 0x88),
        (json(r#"{"result":"ignore"}"#), 0),
        (
            json(r#"{"result":"allow","rules":{"subscribe":["a/%c"]}}"#),
            0,
        ),
    ] {
        server.says("/rules", reply.clone());
        let (mut client, code) = login(&broker, &connect("c", None, None));
        assert_eq!(code, expected, "{reply:?}");
        if code == 0 {
            assert_eq!(subscribe(&mut client, "b"), 0x87);
        }
        let (_, _, question) = server.questions.recv().unwrap();
        assert_eq!(
            (&question["client_id"], &question["user"]),
            (&"c".into(), &Value::Null)
        );
    }
    let (mut client, _) = login(&broker, &connect("c", None, None));
    assert_eq!(subscribe(&mut client, "a/c"), 1);
    server.says(
        "/rules",
        json(r#"{"result":"allow","rules":{"subscribe":["b"]}}"#),
    );
    while subscribe(&mut client, "a/c") != 0x87 {}
    assert_eq!(subscribe(&mut client, "b"), 1);
    // While nobody answers the rules hold, until they end.
    server.says("/rules", Reply::Says(500, String::new()));
    let failed = count(&tallies, "hooks/authorization/failed");
    while count(&tallies, "hooks/authorization/failed") == failed {
        assert_eq!(subscribe(&mut client, "b"), 1);
    }
    let (first, body) = client.packet();
    assert_eq!((first, body[0]), (0xE0, 0x87), "DISCONNECT");
    // Who has no rights any more goes at once.
    server.says(
        "/rules",
        json(r#"{"result":"allow","rules":{"subscribe":["b"]},"expires_in":2}"#),
    );
    let (mut client, _) = login(&broker, &connect("c", None, None));
    assert_eq!(subscribe(&mut client, "b"), 1);
    server.says("/rules", Reply::Says(401, String::new()));
    let (first, body) = client.packet();
    assert_eq!((first, body[0]), (0xE0, 0x87), "DISCONNECT");
    stop(broker);
}

#[test]
fn a_reload_removes_hooks_and_adds_others() {
    let server = Server::start();
    server.says(
        "/rules",
        json(r#"{"result":"allow","rules":{"subscribe":["a"]}}"#),
    );
    server.says(
        "/auth",
        json(r#"{"result":"allow","rules":{"subscribe":["b"]}}"#),
    );
    let rules = setup(HookConfig {
        authorization: server.url("/rules"),
        ..HookConfig::default()
    });
    let (broker, tallies) = start(rules);
    let (mut client, _) = login(&broker, &connect("c", None, None));
    assert_eq!(subscribe(&mut client, "a"), 1);
    let auth = setup(HookConfig {
        authentication: server.url("/auth"),
        ..HookConfig::default()
    });
    let (access, authenticators) = access(&auth, &tallies);
    broker.replace_access(access, authenticators);
    let (first, body) = client.packet();
    assert_eq!((first, body[0]), (0xE0, 0x87), "DISCONNECT");
    let (mut client, code) = login(&broker, &connect("c", Some("alice"), None));
    assert_eq!(code, 0);
    assert_eq!(
        (subscribe(&mut client, "a"), subscribe(&mut client, "b")),
        (0x87, 1)
    );
    stop(broker);
}
