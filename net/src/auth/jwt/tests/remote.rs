//! A JWK Set on the network, and all that can be wrong with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::auth::http::HttpUrl;

/// A server of HTTP that says what a test wants; tells of each question.
struct Server {
    url: HttpUrl,
    says: Arc<Mutex<String>>,
    asked: Receiver<()>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new(String::new()));
        let (tell, asked) = channel();
        let to_say = Arc::clone(&says);
        thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let text = to_say.lock().unwrap().clone();
                if let Some(stream) = answer(stream, &text) {
                    silent.push(stream);
                }
                if tell.send(()).is_err() {
                    return;
                }
            }
        });
        Server {
            url: HttpUrl::parse(&url).unwrap(),
            says,
            asked,
        }
    }

    fn says(&self, text: String) {
        *self.says.lock().unwrap() = text;
    }

    fn says_keys(&self, keys: &[(&Signer, &str)]) {
        self.says(response(200, &set_of(keys)));
    }

    fn config(&self) -> RemoteConfig {
        RemoteConfig {
            url: self.url.clone(),
            cas: Vec::new(),
            refresh: Duration::from_secs(3600),
            timeout: Duration::from_millis(300),
            stale_max: Duration::from_secs(60),
        }
    }
}

/// Gives a stream back that is to stay open.
fn answer(stream: TcpStream, text: &str) -> Option<TcpStream> {
    let mut lines = BufReader::new(&stream).lines();
    while lines.next()?.ok().is_some_and(|line| !line.is_empty()) {}
    drop(lines);
    // Whoever asked may have had enough.
    let _ = (&stream).write_all(text.as_bytes());
    text.ends_with(UNFINISHED).then_some(stream)
}

fn response(status: u16, body: &str) -> String {
    let size = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n{body}")
}

fn set_of(keys: &[(&Signer, &str)]) -> String {
    let jwks = keys.iter().map(|(signer, kid)| {
        let mut jwk = signer.jwk();
        jwk["kid"] = json!(kid);
        jwk
    });
    json!({"keys": jwks.collect::<Vec<_>>()}).to_string()
}

fn by(remote: &Arc<RemoteKeys>) -> Jwt {
    let source = RemoteSource {
        keys: Arc::clone(remote),
        fingerprint: 9,
    };
    Jwt::new(JwtConfig::default(), Vec::new(), vec![source])
}

fn token_of(signer: &Signer, kid: &str) -> String {
    let header = json!({"alg": signer.algorithm.name(), "kid": kid});
    signer.sign_as(&header, &good_claims())
}

/// Threat 80.
#[test]
fn without_keys_nobody_is_admitted_and_an_unreadable_set_leaves_the_current_keys() {
    let (server, signer) = (Server::start(), Signer::new(Algorithm::Es256));
    let remote = Arc::new(RemoteKeys::alone(server.config()));
    let (jwt, token) = (by(&remote), token_of(&signer, "k"));
    let good = response(200, &set_of(&[(&signer, "k")]));
    let long = response(
        200,
        &format!("{}{}", set_of(&[(&signer, "k")]), " ".repeat(300_000)),
    );
    let secret = json!({"keys": [{"kty": "oct", "alg": "HS256", "k": "A".repeat(43)}]}).to_string();
    let faults = [
        response(404, &set_of(&[(&signer, "k")])),
        response(500, ""),
        "HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        response(200, "<html>"),
        response(200, "{\"keys\":[]}"),
        response(200, &secret),
        long,
        "HTTP/1.1 200 X\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{\"keys\":".to_owned(),
        "no HTTP at all\r\n\r\n".to_owned(),
        String::new(),
        // Nothing more comes.
        format!("HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n{UNFINISHED}"),
        UNFINISHED.to_owned(),
    ];
    for fault in &faults {
        server.says(fault.clone());
        assert!(remote.fetch().is_err(), "{:.60}", fault);
        assert_eq!(
            check(&jwt, &token).unwrap_err(),
            Refusal::AuthenticationDown
        );
    }
    server.says(good);
    assert_eq!(remote.fetch().unwrap(), 1);
    assert_eq!(check(&jwt, &token).unwrap().1, 9);
    for fault in faults {
        server.says(fault);
        assert!(remote.fetch().is_err());
        assert_eq!(check(&jwt, &token).unwrap().1, 9);
    }
    let now = clock();
    assert!(remote.keys(now + Duration::from_secs(59)).is_some());
    assert!(
        remote.keys(now + Duration::from_secs(61)).is_none(),
        "they are too old"
    );
}

#[test]
fn keys_are_fetched_again_for_an_unknown_key_but_not_for_each_token() {
    let (server, old, new) = (
        Server::start(),
        Signer::new(Algorithm::EdDsa),
        Signer::new(Algorithm::EdDsa),
    );
    server.says_keys(&[(&old, "old")]);
    let remote = Arc::new(RemoteKeys::alone(server.config()));
    let jwt = by(&remote);
    remote.begin();
    remote.begin();
    server.asked.recv().unwrap();
    let until = |token: &str, expected: Result<u64, Refusal>| loop {
        match check(&jwt, token).map(|(_, issuer)| issuer) {
            Err(Refusal::AuthenticationDown) => thread::yield_now(),
            other => return assert_eq!(other, expected),
        }
    };
    until(&token_of(&old, "old"), Ok(9));
    // A signature that is wrong is nothing that other keys would mend.
    until(&token_of(&new, "old"), Err(Refusal::TokenSignature));
    // The keys rotate.
    server.says_keys(&[(&old, "old"), (&new, "new")]);
    until(&token_of(&new, "new"), Ok(9));
    server.asked.recv().unwrap();
    // Somebody tries names: that does not make the broker ask for each.
    for _ in 0..100 {
        until(&token_of(&new, "newer"), Err(Refusal::TokenKey));
    }
    assert!(server.asked.try_recv().is_err());
    // And a key that is gone proves nothing any more.
    server.says_keys(&[(&new, "new")]);
    assert_eq!(remote.fetch().unwrap(), 1);
    assert_eq!(
        check(&jwt, &token_of(&old, "old")).unwrap_err(),
        Refusal::TokenKey
    );
    until(&token_of(&new, "new"), Ok(9));
}

/// One is healthy, the keys of the second rotate, the third has never answered.
#[test]
fn a_rotation_at_one_address_is_noticed_whatever_the_others_do() {
    let new = || (Server::start(), Signer::new(Algorithm::EdDsa));
    let ((first, a), (second, b), (third, _)) = (new(), new(), new());
    let rotated = Signer::new(Algorithm::EdDsa);
    first.says_keys(&[(&a, "a")]);
    second.says_keys(&[(&b, "b")]);
    third.says(response(500, ""));
    let remotes: Vec<_> = [&first, &second, &third]
        .map(|server| Arc::new(RemoteKeys::alone(server.config())))
        .into();
    for (remote, is_up) in remotes.iter().zip([true, true, false]) {
        assert_eq!(remote.fetch().is_ok(), is_up);
        remote.begin();
    }
    for server in [&first, &second, &third] {
        // By hand, and by the thread.
        (0..2).for_each(|_| server.asked.recv().unwrap());
    }
    let sources = remotes
        .iter()
        .zip(1..)
        .map(|(remote, fingerprint)| RemoteSource {
            keys: Arc::clone(remote),
            fingerprint,
        });
    let jwt = Jwt::new(JwtConfig::default(), Vec::new(), sources.collect());
    assert_eq!(check(&jwt, &token_of(&b, "b")).unwrap().1, 2);
    while remotes.iter().any(|remote| remote.is_busy()) {
        thread::yield_now();
    }
    second.says_keys(&[(&rotated, "b2")]);
    let token = token_of(&rotated, "b2");
    assert_eq!(
        check(&jwt, &token).unwrap_err(),
        Refusal::AuthenticationDown
    );
    second.asked.recv().unwrap();
    while check(&jwt, &token).is_err() {
        thread::yield_now();
    }
    assert_eq!(check(&jwt, &token).unwrap().1, 2);
}

/// A token that names no key may be of one that is not there yet.
#[test]
fn a_rotation_is_noticed_by_tokens_that_name_no_key() {
    let (server, old, new) = (
        Server::start(),
        Signer::new(Algorithm::EdDsa),
        Signer::new(Algorithm::EdDsa),
    );
    server.says_keys(&[(&old, "old")]);
    let remote = Arc::new(RemoteKeys::alone(server.config()));
    remote.fetch().unwrap();
    let jwt = by(&remote);
    assert!(check(&jwt, &old.sign(&good_claims())).is_ok());
    let refused = |token: &str| check(&jwt, token).unwrap_err();
    assert_eq!(
        refused(&new.sign(&good_claims())),
        Refusal::AuthenticationDown
    );
    assert!(remote.is_busy(), "they are asked for");
}

/// Nine keys without names at the first address, and the right one at the second.
#[test]
fn many_keys_of_one_address_do_not_hide_those_of_another() {
    let signers: Vec<Signer> = (0..10).map(|_| Signer::new(Algorithm::EdDsa)).collect();
    let nameless = |signers: &[Signer]| {
        let keys: Vec<_> = signers.iter().map(Signer::jwk).collect();
        response(200, &json!({ "keys": keys }).to_string())
    };
    let (first, second) = (Server::start(), Server::start());
    first.says(nameless(&signers[..9]));
    second.says(nameless(&signers[9..]));
    let sources = [&first, &second].map(|server| {
        let keys = Arc::new(RemoteKeys::alone(server.config()));
        keys.fetch().unwrap();
        RemoteSource {
            keys,
            fingerprint: 7,
        }
    });
    let jwt = Jwt::new(JwtConfig::default(), Vec::new(), sources.into());
    assert!(check(&jwt, &signers[9].sign(&good_claims())).is_ok());
}

#[test]
fn a_reload_keeps_the_keys_of_an_unchanged_address() {
    let server = Server::start();
    let config = server.config();
    let first = RemoteKeys::of(&config).unwrap();
    assert!(Arc::ptr_eq(&first, &RemoteKeys::of(&config).unwrap()));
    let mut other = config.clone();
    other.timeout = Duration::from_secs(1);
    assert!(!Arc::ptr_eq(&first, &RemoteKeys::of(&other).unwrap()));
}

/// The answer goes on for ever.
const UNFINISHED: &str = "...";
