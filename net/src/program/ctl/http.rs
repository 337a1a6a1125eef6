//! The connection of `ringmq ctl` to a control plane.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::http::uri::Authority;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use ringmq::admin::{AdminAddress, sockets_of_user};
use ringmq::auth::http::read_terms;
use ringmq_problem::file::read_text;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::trace::Whereabouts;
use super::{EXIT_FAILED, EXIT_NOT_FOUND, EXIT_WRONG_USE, Failure, PATH_SIZE_MAX};

/// A control plane.
#[derive(Debug)]
pub(super) struct Server {
    runtime: Runtime,
    place: Place,
    /// For HTTPS.
    tls: Option<Arc<ClientConfig>>,
    /// `--ca` is given.
    has_ca: bool,
    token: Option<String>,
    /// So long an answer may take to begin.
    patience: Duration,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    server: &'a Server,
    pub(super) status: u16,
    body: Incoming,
}

impl Server {
    /// The one that is named, or that of the only broker of this user.
    pub(super) fn find(whereabouts: &Whereabouts) -> Result<Server, Failure> {
        let place = match whereabouts.to.as_deref() {
            Some(to) => place_of(to)?,
            None => only_socket()?,
        };
        let tls = match &place {
            Place::Https(_) => Some(connector(whereabouts.ca.as_slice())?),
            Place::Unix(_) | Place::Http(_) => None,
        };
        let token = whereabouts.token.as_deref();
        let token = token.map(|path| {
            let read = read_text(path, TOKEN_FILE_SIZE);
            let read = read.map(|text| text.trim().to_owned());
            read.map_err(|fault| {
                Failure::new(
                    format!("{} {fault}", path.display()),
                    "name a file with a token",
                )
            })
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Server {
            runtime,
            place,
            tls,
            has_ca: !whereabouts.ca.is_empty(),
            token: token.transpose()?,
            patience: ANSWER_TIME,
        })
    }

    /// Waits less long: for a look that something else waits for.
    pub(super) fn impatient(self) -> Server {
        Server {
            patience: HEALTH_TIME,
            ..self
        }
    }

    /// What there is at a path.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, None, "")?.json()
    }

    /// Changes something.
    pub(super) fn change(&self, method: &str, path: &str, order: &Value) -> Result<Value, Failure> {
        self.ask(method, path, Some(order), "")?.json()
    }

    /// Sends a request; fails if it cannot be reached.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> Result<Answer<'_>, Failure> {
        if path.len() > PATH_SIZE_MAX {
            let what = format!("{} bytes are too many for a path", path.len());
            let fix = "`ringmq ctl clients show` takes identifiers of any length, and so do the \
                       verbs for many clients";
            return Err(Failure::new(what, fix));
        }
        let request = self.request(method, path, body, accept)?;
        let sent = self.runtime.block_on(async {
            let exchange = async {
                let tcp = match &self.place {
                    Place::Unix(path) => {
                        return send(UnixStream::connect(path).await?, request).await;
                    }
                    Place::Http(host) | Place::Https(host) => host,
                };
                let stream = TcpStream::connect((&*tcp.name, tcp.port)).await?;
                match &self.tls {
                    None => send(stream, request).await,
                    Some(tls) => {
                        let name = ServerName::try_from(tcp.name.clone());
                        let name = name.map_err(io::Error::other)?;
                        let tls = TlsConnector::from(Arc::clone(tls));
                        send(tls.connect(name, stream).await?, request).await
                    }
                }
            };
            timeout(self.patience, exchange)
                .await
                .map_err(io::Error::from)?
        });
        let response = sent.map_err(|error| {
            let what = format!("{} cannot be reached: {error}", self.place);
            Failure::new(what, &self.fix_of(&error))
        })?;
        let status = response.status().as_u16();
        let body = response.into_body();
        Ok(Answer {
            server: self,
            status,
            body,
        })
    }

    /// What to do if it cannot be reached.
    fn fix_of(&self, error: &io::Error) -> String {
        let inner = error.get_ref();
        let tls = inner.and_then(|error| error.downcast_ref::<rustls::Error>());
        let hyper = inner.and_then(|error| error.downcast_ref::<hyper::Error>());
        match (&self.place, tls) {
            (Place::Https(host), Some(error)) => fix_of_tls(error, host, self.has_ca),
            (Place::Http(host), None) if hyper.is_some() => {
                format!("if it serves HTTPS, write --to https://{host}")
            }
            _ => "is the broker running, for this user? --to names another one".to_owned(),
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> io::Result<Request<Full<Bytes>>> {
        let host = match &self.place {
            Place::Http(host) | Place::Https(host) => host.to_string(),
            Place::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder().method(method).uri(path);
        request = request
            .header(header::HOST, host)
            .header(header::ACCEPT, accept);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let text = body.map_or_else(String::new, Value::to_string);
        request
            .body(Full::new(Bytes::from(text)))
            .map_err(io::Error::other)
    }
}

/// What to do if the server does not prove to be who it should be.
fn fix_of_tls(error: &rustls::Error, host: &Host, has_ca: bool) -> String {
    use CertificateError::*;
    match error {
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            format!(
                "its certificate is not for {}: write --to https://NAME:{} with a name that it has",
                host.name, host.port
            )
        }
        rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. },
        ) => "renew its certificate, or put the clock right".to_owned(),
        rustls::Error::InvalidCertificate(_) if has_ca => {
            "--ca FILE has to name the CA that has issued its certificate, or the certificate \
             itself"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(_) => {
            "name the CA that has issued its certificate: --ca FILE".to_owned()
        }
        rustls::Error::InvalidMessage(_) => {
            format!("if it serves HTTP without TLS, write --to http://{host}")
        }
        _ => "see the log of the broker".to_owned(),
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    // Its errors show in the answer.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}

impl Answer<'_> {
    /// The whole text, whatever the status.
    pub(super) fn body(self) -> Result<String, Failure> {
        let collected = self.server.runtime.block_on(self.body.collect());
        let bytes = collected.map_err(io::Error::other)?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What it says, or why it refuses.
    pub(super) fn json(self) -> Result<Value, Failure> {
        let status = self.status;
        let body = self.body()?;
        match status {
            200 => serde_json::from_str(&body).map_err(|error| {
                let what = format!("the answer is not JSON: {error}");
                Failure::new(what, "is it a control plane of ringmq?")
            }),
            _ => Err(refusal(status, &body)),
        }
    }

    /// Line by line, as they come.
    pub(super) fn lines(
        mut self,
        mut take: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.status != 200 {
            return self.json().map(|_| ());
        }
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = self.server.runtime.block_on(self.body.frame()) {
            let frame = frame.map_err(|error| {
                let what = format!("the answer broke off: {error}");
                Failure::new(what, "try again")
            })?;
            rest.extend_from_slice(frame.data_ref().map_or(b"", |data| data));
            let end = rest
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            for line in String::from_utf8_lossy(&rest[..end]).lines() {
                take(line)?;
            }
            rest.drain(..end);
        }
        Ok(())
    }
}

/// Problem details, as text.
fn refusal(status: u16, body: &str) -> Failure {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |key: &str| problem[key].as_str().map(str::to_owned);
    let what = text("detail").unwrap_or_else(|| format!("status {status}"));
    let fix = text("ctl").or_else(|| text("fix"));
    let fix = fix.unwrap_or_else(|| "is it a control plane of ringmq?".to_owned());
    Failure {
        code: if status == 404 {
            EXIT_NOT_FOUND
        } else {
            EXIT_FAILED
        },
        ..Failure::new(what, &fix)
    }
}

/// Where a control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Unix(PathBuf),
    Http(Host),
    Https(Host),
}

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// Without the brackets of IPv6.
    name: String,
    port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Http(host) => write!(f, "http://{host}"),
            Place::Https(host) => write!(f, "https://{host}"),
        }
    }
}

/// Reads `unix:PATH`, `http://HOST:PORT`, `https://HOST:PORT` or `IP:PORT`.
fn place_of(to: &str) -> Result<Place, Failure> {
    let wrong = |what: &str| Failure {
        code: EXIT_WRONG_USE,
        ..Failure::new(
            format!("--to is `{to}`, which {what}"),
            "write unix:PATH, http://HOST:PORT or https://HOST:PORT",
        )
    };
    if to.starts_with("unix:") {
        return match to.parse() {
            Ok(AdminAddress::Unix(path)) => Ok(Place::Unix(path)),
            Ok(AdminAddress::Auto | AdminAddress::Tcp(_)) => only_socket(),
            Err(what) => Err(wrong(what)),
        };
    }
    let (is_tls, rest) = match (to.strip_prefix("http://"), to.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => (false, to),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let authority: Authority = authority.parse().map_err(|_| wrong("names no host"))?;
    let port = authority.port_u16().ok_or_else(|| wrong("names no port"))?;
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let name = name.to_owned();
    let host = Host { name, port };
    Ok(if is_tls {
        Place::Https(host)
    } else {
        Place::Http(host)
    })
}

/// Trusts these CAs, or those of the machine.
fn connector(cas: &[PathBuf]) -> Result<Arc<ClientConfig>, Failure> {
    read_terms(cas).map_err(|problem| Failure {
        code: EXIT_WRONG_USE,
        ..Failure::new(
            format!("--ca {problem}"),
            "name a file with the CA of the control plane",
        )
    })
}

/// The socket of the one broker of this user that runs.
fn only_socket() -> Result<Place, Failure> {
    let is_alive =
        |path: &std::path::PathBuf| std::os::unix::net::UnixStream::connect(path).is_ok();
    let mut alive: Vec<_> = sockets_of_user().into_iter().filter(is_alive).collect();
    match (alive.pop(), alive.is_empty()) {
        (Some(path), true) => Ok(Place::Unix(path)),
        (Some(last), false) => {
            alive.push(last);
            let named = alive
                .iter()
                .map(|path| format!("--to unix:{}", path.display()));
            let named: Vec<String> = named.collect();
            let what = format!("{} brokers of this user run", named.len());
            Err(Failure::new(
                what,
                &format!("name one: {}", named.join(" or ")),
            ))
        }
        (None, _) => Err(Failure::new(
            "no broker of this user runs, or none with a socket in its runtime directory",
            "name its control plane: --to unix:PATH or --to http://IP:PORT --token FILE",
        )),
    }
}

/// Health checks of containers give up after some seconds, often 5, and a broker whose shards do not answer says so after one.
const HEALTH_TIME: Duration = Duration::from_secs(3);
/// A broker reports a shard that does not answer after a second.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// A token is a line.
const TOKEN_FILE_SIZE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_has_its_fix() {
        let host = Host {
            name: "a.example".to_owned(),
            port: 1,
        };
        let wrong = |error| rustls::Error::InvalidCertificate(error);
        for (error, has_ca, expected) in [
            (wrong(CertificateError::UnknownIssuer), false, ": --ca FILE"),
            (
                wrong(CertificateError::UnknownIssuer),
                true,
                "--ca FILE has to",
            ),
            (
                wrong(CertificateError::NotValidForName),
                true,
                "is not for a.example",
            ),
            (wrong(CertificateError::Expired), true, "renew"),
            (
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                false,
                "--to http://a.example:1",
            ),
        ] {
            let fix = fix_of_tls(&error, &host, has_ca);
            assert!(fix.contains(expected), "{error}: {fix}");
        }
    }

    #[test]
    fn a_place_is_a_socket_or_a_host_with_a_port() {
        for (to, expected) in [
            ("unix:/run/a.sock", Ok("unix:/run/a.sock")),
            ("http://localhost:18830", Ok("http://localhost:18830")),
            ("http://localhost:18830/", Ok("http://localhost:18830")),
            (
                "https://broker-a.example:8443",
                Ok("https://broker-a.example:8443"),
            ),
            ("127.0.0.1:1", Ok("http://127.0.0.1:1")),
            ("http://[::1]:1", Ok("http://[::1]:1")),
            ("http://localhost", Err("names no port")),
            ("unix:a.sock", Err("names no absolute path")),
            ("http://", Err("names no host")),
        ] {
            let place = place_of(to);
            match (place, expected) {
                (Ok(place), Ok(expected)) => assert_eq!(place.to_string(), expected),
                (Err(failure), Err(what)) => assert!(failure.what.contains(what), "{to}"),
                (place, _) => panic!("{to}: {place:?}"),
            }
        }
    }
}
