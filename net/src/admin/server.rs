//! Connections of the control plane.
//!
//! Invariants: a listener has at most [`CONNECTIONS_MAX`] connections: another one takes the place of one that is idle, or waits in
//! the kernel; a request has
//! [`HEAD_TIME_MAX`] to send its head, of at most [`HEAD_SIZE_MAX`] bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{geteuid, setpriority_process};
use rustix::thread::gettid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use super::guard::{Door, Visitor};
use super::room::{Room, Seat};
use super::socket::Socket;
use super::tls::AdminTls;
use super::{Control, api, live};

/// Runs the control plane until it is told to stop, or whoever could tell is gone.
pub(super) fn run(
    control: Arc<Control>,
    sockets: Vec<Socket>,
    stall_threshold: Duration,
    stopped: oneshot::Receiver<()>,
) {
    // What clients wait for goes first. Without leave to be nice it is not.
    let _ = setpriority_process(Some(gettid()), NICE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return error!(%error, "no control plane"),
    };
    runtime.block_on(async {
        for socket in &sockets {
            if let Err(error) = listen(&control, socket) {
                error!(%error, address = %socket.address(), "no control plane here");
            }
        }
        if control.has_page {
            tokio::spawn(live::run(Arc::clone(&control)));
        }
        if !stall_threshold.is_zero() {
            let stalls = Arc::clone(&control.stalls);
            tokio::spawn(control.asker.watch(stalls, stall_threshold).run());
        }
        let _ = stopped.await;
    });
    // Requests under way are cut; the names of the sockets go with `sockets`.
}

fn listen(control: &Arc<Control>, socket: &Socket) -> io::Result<()> {
    let router = api::router(Arc::clone(control));
    match socket {
        Socket::Unix(listener, _) => {
            let listener = UnixListener::from_std(listener.try_clone()?)?;
            tokio::spawn(serve_unix(listener, router));
        }
        Socket::Tcp(listener, address) => {
            let listener = TcpListener::from_std(listener.try_clone()?)?;
            let door = Door::Tcp {
                address: *address,
                is_tls: control.tls.is_some(),
            };
            tokio::spawn(serve_tcp(listener, door, router, control.tls.clone()));
        }
    }
    Ok(())
}

async fn serve_unix(listener: UnixListener, router: Router) {
    let room = Room::of(CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().map(|peer| peer.uid());
                match uid {
                    Ok(uid) if uid == geteuid().as_raw() || uid == 0 => {
                        let visitor = Visitor {
                            door: Door::Unix { uid },
                        };
                        let seat = room.enter().await;
                        let inside = Arc::clone(&seat);
                        let served = tokio::spawn(serve(stream, visitor, router.clone(), inside));
                        seat.rest(served.abort_handle());
                    }
                    Ok(uid) => warn!(target: "ringmq::admin", uid, "another user is not served"),
                    Err(error) => {
                        warn!(target: "ringmq::admin", %error, "who connects is not known")
                    }
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn serve_tcp(listener: TcpListener, door: Door, router: Router, tls: Option<Arc<AdminTls>>) {
    let room = Room::of(CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let seat = room.enter().await;
                let (visitor, inside) = (Visitor { door }, Arc::clone(&seat));
                let router = router.clone();
                let served = match &tls {
                    None => tokio::spawn(serve(stream, visitor, router, inside)),
                    Some(tls) => {
                        let accepted = tls.acceptor().accept(stream);
                        tokio::spawn(serve_tls(accepted, visitor, router, inside))
                    }
                };
                seat.rest(served.abort_handle());
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn serve_tls(
    accepted: tokio_rustls::Accept<TcpStream>,
    visitor: Visitor,
    router: Router,
    seat: Arc<Seat>,
) {
    match timeout(HEAD_TIME_MAX, accepted).await {
        Ok(Ok(stream)) => serve(stream, visitor, router, seat).await,
        Ok(Err(error)) => debug!(target: "ringmq::admin", %error, "no TLS"),
        Err(_) => debug!(target: "ringmq::admin", "no TLS in time"),
    }
}

/// Out of file descriptors, say: others may give some back.
async fn pause_after(error: &io::Error) {
    warn!(target: "ringmq::admin", %error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    visitor: Visitor,
    router: Router,
    seat: Arc<Seat>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(visitor);
        let (answer, answering) = (router.call(request), seat.begin());
        async move {
            answer
                .await
                .map(|answer| answer.map(|body| answering.hold(body)))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        // One read may add as much again.
        .max_buf_size(HEAD_SIZE_MAX / 2)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(target: "ringmq::admin", %error, "a connection ended");
    }
}

/// Connections of one listener at once.
pub(crate) const CONNECTIONS_MAX: usize = 32;
/// From the beginning of a connection, or the end of the request before, to the end of the head.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of the body of a request: a client identifier of 64 KiB, however it is escaped, or a configuration file.
pub(crate) const BODY_SIZE_MAX: usize = 512 * 1024;
/// Bytes of a head.
pub(crate) const HEAD_SIZE_MAX: usize = 64 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const NICE: i32 = 5;
