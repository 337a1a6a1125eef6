//! The connection of `ringmq ctl` to a control plane.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use ringmq::admin::{AdminAddress, sockets_of_user};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{EXIT_FAILED, EXIT_NOT_FOUND, EXIT_WRONG_USE, Failure};

/// A control plane.
#[derive(Debug)]
pub(super) struct Server {
    runtime: Runtime,
    address: AdminAddress,
    token: Option<String>,
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
    pub(super) fn find(to: Option<&str>, token: Option<&Path>) -> Result<Server, Failure> {
        let address = match to {
            Some(to) => to
                .strip_prefix("http://")
                .unwrap_or(to)
                .parse()
                .map_err(|what| Failure {
                    code: EXIT_WRONG_USE,
                    ..Failure::new(
                        format!("--to is `{to}`, which {what}"),
                        "write unix:PATH or http://IP:PORT",
                    )
                })?,
            None => AdminAddress::Auto,
        };
        let address = match address {
            AdminAddress::Auto => only_socket()?,
            AdminAddress::Unix(_) | AdminAddress::Tcp(_) => address,
        };
        let token = token.map(|path| {
            let read = std::fs::read_to_string(path);
            let read = read.map(|text| text.trim().to_owned());
            read.map_err(|error| {
                Failure::new(
                    format!("{}: {error}", path.display()),
                    "name a file with a token",
                )
            })
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Server {
            runtime,
            address,
            token: token.transpose()?,
        })
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
        let request = self.request(method, path, body, accept)?;
        let sent = self.runtime.block_on(async {
            let exchange = async {
                match &self.address {
                    AdminAddress::Unix(path) => {
                        send(UnixStream::connect(path).await?, request).await
                    }
                    AdminAddress::Tcp(tcp) => send(TcpStream::connect(tcp).await?, request).await,
                    AdminAddress::Auto => unreachable!("it was found"),
                }
            };
            timeout(ANSWER_TIME, exchange)
                .await
                .map_err(io::Error::from)?
        });
        let response = sent.map_err(|error| {
            let what = format!("{} cannot be reached: {error}", self.address);
            Failure::new(
                what,
                "is the broker running, for this user? --to names another one",
            )
        })?;
        let status = response.status().as_u16();
        let body = response.into_body();
        Ok(Answer {
            server: self,
            status,
            body,
        })
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        accept: &str,
    ) -> io::Result<Request<Full<Bytes>>> {
        let host = match &self.address {
            AdminAddress::Tcp(tcp) => tcp.to_string(),
            AdminAddress::Auto | AdminAddress::Unix(_) => "localhost".to_owned(),
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

/// The socket of the one broker of this user that runs.
fn only_socket() -> Result<AdminAddress, Failure> {
    let is_alive =
        |path: &std::path::PathBuf| std::os::unix::net::UnixStream::connect(path).is_ok();
    let mut alive: Vec<_> = sockets_of_user().into_iter().filter(is_alive).collect();
    match (alive.pop(), alive.is_empty()) {
        (Some(path), true) => Ok(AdminAddress::Unix(path)),
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

/// A broker reports a shard that does not answer after a second.
const ANSWER_TIME: Duration = Duration::from_secs(10);
