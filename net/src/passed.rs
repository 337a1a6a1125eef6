//! Sockets that the service manager opened before it started this process: clients that connect while the broker is down
//! wait in the kernel (`sd_listen_fds(3)`, `systemd.socket(5)`).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use listenfd::ListenFd;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use crate::error::ListenProblem;

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Those that no listener has taken yet, with their names.
#[derive(Debug, Default)]
pub(crate) struct Passed(VecDeque<(String, OwnedFd)>);

impl Passed {
    /// What was passed to this process. Only the first call finds anything: who takes a socket owns it.
    pub(crate) fn take() -> Passed {
        if IS_TAKEN.swap(true, Ordering::Relaxed) {
            return Passed::default();
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut all = ListenFd::from_env();
        let mut passed = VecDeque::new();
        for index in 0..all.len() {
            let name = names.next().filter(|name| !name.is_empty());
            // What is no TCP socket is one of Unix, or of no use.
            let socket = match all.take_tcp_listener(index) {
                Ok(socket) => socket.map(OwnedFd::from),
                Err(_) => all
                    .take_unix_listener(index)
                    .ok()
                    .flatten()
                    .map(OwnedFd::from),
            };
            if let Some(socket) = socket {
                passed.push_back((name.unwrap_or("unknown").to_owned(), socket));
            }
        }
        Passed(passed)
    }

    /// The names of those that are left.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The one of this name.
    pub(crate) fn remove(&mut self, name: &str) -> Result<OwnedFd, ListenProblem> {
        let mut found = (0..self.0.len()).filter(|&index| self.0[index].0 == name);
        let first = found.next().ok_or(ListenProblem::NotPassed)?;
        if found.next().is_some() {
            return Err(ListenProblem::PassedTwice);
        }
        let (_, socket) = self.0.remove(first).ok_or(ListenProblem::NotPassed)?;
        let is_stream = socket_type(&socket) == Ok(SocketType::STREAM);
        if is_stream && socket_acceptconn(&socket) == Ok(true) {
            Ok(socket)
        } else {
            Err(ListenProblem::NoListener)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_name_once() {
        let listener = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let datagrams = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let named = [
            ("one", listener()),
            ("two", listener()),
            ("two", listener()),
            ("odd", datagrams),
        ];
        let mut passed = Passed(named.map(|(name, fd)| (name.to_owned(), fd)).into());
        assert!(passed.remove("one").is_ok());
        assert_eq!(passed.remove("one").unwrap_err(), ListenProblem::NotPassed);
        assert_eq!(
            passed.remove("two").unwrap_err(),
            ListenProblem::PassedTwice
        );
        assert_eq!(passed.remove("odd").unwrap_err(), ListenProblem::NoListener);
    }
}
