//! Hooks and keys of tokens over https, with the program as it runs: whom it believes to be the
//! server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::certificates::{Authority, Pair};
use crate::program::{Broker, Folder};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How a server meets whoever connects.
#[derive(Clone)]
enum Manner {
    /// With this certificate.
    Tls(Arc<ServerConfig>),
    /// Without TLS.
    Plain,
    /// Not at all.
    Silent,
}

fn with_certificate(pair: &Pair) -> Manner {
    let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    Manner::Tls(Arc::new(config.with_single_cert(chain, key).unwrap()))
}

/// A server of a hook and of keys, on a free port. Ends with the process.
struct Server {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    issuer: Arc<Ed25519KeyPair>,
}

impl Server {
    fn start(manner: Manner) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let issuer = Arc::new(Ed25519KeyPair::generate().unwrap());
        let (met, keys) = (Arc::clone(&manner), key_set(&issuer));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (manner, keys) = (met.lock().unwrap().clone(), keys.clone());
                thread::spawn(move || meet(socket.unwrap(), manner, &keys));
            }
        });
        Server {
            address,
            manner,
            issuer,
        }
    }

    fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// Of alice's, for an hour.
    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        let claims = format!(r#"{{"sub":"alice","exp":{}}}"#, now.as_secs() + 3600);
        let header = encode(br#"{"alg":"EdDSA","kid":"k"}"#);
        let signed = format!("{header}.{}", encode(claims.as_bytes()));
        let signature = self.issuer.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature.as_ref()))
    }
}

fn key_set(issuer: &Ed25519KeyPair) -> String {
    let x = URL_SAFE_NO_PAD.encode(issuer.public_key());
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#)
}

fn meet(socket: TcpStream, manner: Manner, keys: &str) {
    match manner {
        Manner::Tls(config) => {
            let connection = ServerConnection::new(config).unwrap();
            answer(StreamOwned::new(connection, socket), keys);
        }
        Manner::Plain => {
            let mut socket = socket;
            // What comes is no HTTP.
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = socket.read(&mut [0; 4096]);
        }
        Manner::Silent => {
            let _ = (&socket).read_to_end(&mut Vec::new());
        }
    }
}

/// One question, and the end of the connection.
fn answer(stream: impl Read + Write, keys: &str) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let body = if head.starts_with("GET /keys ") {
        keys
    } else {
        r#"{"result":"allow"}"#
    };
    let size = head.to_lowercase();
    let size = size.split_once("content-length: ");
    let size = size.map_or(0, |(_, text)| {
        text.split_once("\r\n").unwrap().0.parse().unwrap()
    });
    reader.read_exact(&mut vec![0; size]).unwrap();
    let mut stream = reader.into_inner();
    let size = body.len();
    let head = format!("HTTP/1.1 200 X\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
    // Whoever asked may have had enough.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    let _ = stream.flush();
}

/// A broker that asks the server at this address both.
fn start(folder: &Folder, server: &Server, cas: &str) -> Broker {
    start_with(folder, server, cas, "60s")
}

/// The time for an answer is far above what one takes, however busy the machine; who never answers
/// has less.
fn start_with(folder: &Folder, server: &Server, cas: &str, timeout: &str) -> Broker {
    let address = server.address;
    let config = format!(
        "[auth]\ndefault = \"allow\"\n[limits]\nconnect_deadline = \"300s\"\n\
         [hooks]\nauthentication_url = \"https://{address}/login\"\ntimeout = \"{timeout}\"\n\
         failures_max = 1000\n{}\n\
         [jwt]\njwks_url = [\"https://{address}/keys\"]\njwks_timeout = \"{timeout}\"\n{}\n",
        cas.replace("CA", "ca"),
        cas.replace("CA", "jwks_ca"),
    );
    Broker::start(&["--config", &folder.write("ringmq.toml", &config)])
}

/// The codes of a client with a password, and of one with a token.
fn codes(broker: &Broker, server: &Server) -> (u8, u8) {
    let by_password = broker.code(Some(("alice", "secret")));
    (by_password, broker.code(Some(("", &server.token()))))
}

/// For a server at 127.0.0.1, and not for long.
fn server_params(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
}

#[test]
fn a_server_of_a_configured_ca_is_trusted_and_a_changed_ca_takes_effect() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = Folder::new();
    folder.write("ca.pem", &fs::read_to_string(authority.ca()).unwrap());
    let server = Server::start(with_certificate(&authority.server("localhost")));
    let mut broker = start(&folder, &server, "CA = [\"ca.pem\"]");
    broker.wait_for("fetched token keys");
    assert_eq!(codes(&broker, &server), (0, 0));
    assert_eq!(broker.code(Some(("bob", &server.token()))), 5);
    // The server shows a certificate of another CA, which the settings name from the next reload
    // on.
    server.becomes(with_certificate(&other.server("localhost")));
    assert_eq!(codes(&broker, &server), (3, 0), "the keys are there");
    broker.wait_for("is not issued by a CA in hooks.ca");
    folder.write("ca.pem", &fs::read_to_string(other.ca()).unwrap());
    broker.hang_up();
    broker.wait_for("reloaded");
    assert_eq!(codes(&broker, &server), (0, 0));
}

/// Threat 80: nobody is let in by a server that is not who it should be, and the log says why.
#[test]
fn an_impostor_of_the_server_admits_nobody() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = Folder::new();
    folder.write("ca.pem", &fs::read_to_string(authority.ca()).unwrap());
    let made = |change: &dyn Fn(&mut CertificateParams)| {
        let pair = authority.client_with("server", 1, |params| {
            server_params(params);
            change(params);
        });
        with_certificate(&pair)
    };
    let named = "CA = [\"ca.pem\"]";
    for (manner, cas, reason) in [
        (
            with_certificate(&other.server("localhost")),
            named,
            "its certificate is not issued by a CA in KEY",
        ),
        (
            with_certificate(&authority.server("localhost")),
            "",
            "its certificate is not issued by a CA that this machine trusts: set its CA in KEY",
        ),
        (
            made(&|params| params.not_after = date_time_ymd(2020, 1, 1)),
            named,
            "its certificate has expired",
        ),
        (
            made(&|params| params.not_before = date_time_ymd(2090, 1, 1)),
            named,
            "its certificate is not valid yet",
        ),
        (
            made(&|params| {
                params.subject_alt_names = vec![SanType::IpAddress([192, 0, 2, 1].into())];
            }),
            named,
            "its certificate is for 192.0.2.1, not for 127.0.0.1",
        ),
        (
            made(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            named,
            "its certificate is not a server certificate",
        ),
        (Manner::Plain, named, "it does not speak TLS"),
        (Manner::Silent, named, "no response before the timeout"),
    ] {
        let timeout = match manner {
            Manner::Silent => "1s",
            Manner::Tls(_) | Manner::Plain => "60s",
        };
        let server = Server::start(manner);
        let mut broker = start_with(&folder, &server, cas, timeout);
        let line = broker.wait_for("cannot fetch token keys");
        let expected = reason.replace("KEY", "jwt.jwks_ca");
        assert!(line.contains(&expected), "{reason}: {line}");
        assert!(line.contains("setting=jwt.jwks_url"), "{line}");
        assert_eq!(codes(&broker, &server), (3, 3), "{reason}");
        let line = broker.wait_for("hook failed");
        let expected = reason.replace("KEY", "hooks.ca");
        assert!(line.contains(&expected), "{reason}: {line}");
        assert!(line.contains("setting=hooks.authentication_url"), "{line}");
    }
}
