//! The broker's address as the user writes it: scheme, host and port or file, and the addresses that
//! the host resolves to.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use ringmq_problem::Complaint;
use rustix::net::SocketAddrUnix;

use crate::cloud::Endpoint;
use crate::peer::Peer;
use crate::secrets::masked_address;
use crate::setup::Place;
use crate::websocket::Resource;

/// The value of `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The scheme, if one is given.
    pub(super) scheme: Option<Scheme>,
    /// `HOST` or `HOST:PORT`, or the path of a Unix socket.
    place: String,
    /// Of a WebSocket: `/mqtt`.
    path: String,
}

/// How MQTT is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Mqtt,
    Mqtts,
    Ws,
    Wss,
    Unix,
}

impl Scheme {
    /// TLS in every group, or in none; `None`: as the groups say.
    pub(super) fn tls(self) -> Option<bool> {
        match self {
            Scheme::Mqtt | Scheme::Ws => Some(false),
            Scheme::Mqtts | Scheme::Wss => Some(true),
            Scheme::Unix => None,
        }
    }

    /// As it is written.
    pub(super) fn word(self) -> &'static str {
        match self {
            Scheme::Mqtt => "mqtt",
            Scheme::Mqtts => "mqtts",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
            Scheme::Unix => "unix",
        }
    }

    fn is_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }
}

impl Target {
    /// Reads `[SCHEME://]HOST[:PORT][/PATH]` or `unix:FILE`.
    pub(super) fn parse(text: &str) -> Result<Target, Complaint> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return unix(text, path);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let scheme = match scheme.as_deref() {
            None => None,
            Some("mqtt" | "tcp") => Some(Scheme::Mqtt),
            Some("mqtts" | "ssl" | "tls") => Some(Scheme::Mqtts),
            Some("ws") => Some(Scheme::Ws),
            Some("wss") => Some(Scheme::Wss),
            Some(scheme) => {
                let what = format!("has the scheme `{scheme}`, which is not one of MQTT");
                return Err(Complaint::new(
                    what,
                    "write mqtt://, mqtts://, ws://, wss:// or unix:",
                ));
            }
        };
        let is_websocket = scheme.is_some_and(Scheme::is_websocket);
        let (place, path) = match rest.find(['/', '?']) {
            Some(at) if is_websocket => match rest.split_at(at) {
                (place, query) if query.starts_with('?') => {
                    (place, format!("{WEBSOCKET_PATH}{query}"))
                }
                (place, path) => (place, path.to_owned()),
            },
            _ => (
                rest.strip_suffix('/').unwrap_or(rest),
                WEBSOCKET_PATH.to_owned(),
            ),
        };
        let text = &masked_address(text);
        if place.contains('@') {
            // The password is not repeated.
            let what = "holds a user name or a password";
            let fix = "write HOST:PORT alone, and give them with --user and --password-file";
            return Err(Complaint::new(what, fix));
        }
        if place.is_empty() || place.contains('/') {
            let what = format!("is `{text}`, which is not a host and a port");
            return Err(Complaint::new(what, FIX));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = format!("is `{text}`, whose path is not one of a URL");
            return Err(Complaint::new(
                what,
                "write spaces and other characters as %20",
            ));
        }
        Ok(Target {
            scheme,
            place: place.to_owned(),
            path,
        })
    }

    /// `HOST:PORT`, with the usual port if none is given; the path of a Unix socket.
    pub(super) fn with_port(&self, has_tls: bool) -> String {
        let port = match (self.scheme, has_tls) {
            (Some(Scheme::Unix), _) => return self.place.clone(),
            (Some(Scheme::Ws | Scheme::Wss), false) => 8083,
            (Some(Scheme::Ws | Scheme::Wss), true) => 8084,
            (Some(Scheme::Mqtt | Scheme::Mqtts) | None, false) => 1883,
            (Some(Scheme::Mqtt | Scheme::Mqtts) | None, true) => 8883,
        };
        let place = &self.place;
        if place.parse::<Ipv6Addr>().is_ok() {
            format!("[{place}]:{port}")
        } else if place.ends_with(']') || !place.contains(':') {
            format!("{place}:{port}")
        } else {
            place.clone()
        }
    }

    /// Where a service is reached; those of clouds are never without TLS.
    pub(super) fn endpoint(&self) -> Endpoint {
        let place = self.with_port(true);
        let port = place
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        Endpoint {
            host: host_of(&place).to_owned(),
            port: port.unwrap_or_default(),
            is_websocket: self.scheme.is_some_and(Scheme::is_websocket),
        }
    }

    /// As results name it: `127.0.0.1:1883`, `ws://127.0.0.1:8083/mqtt`, `unix:/run/x.sock`. A
    /// query may hold a secret, and is not shown.
    pub(super) fn shown(&self, place: &str) -> String {
        match self.scheme {
            None | Some(Scheme::Mqtt | Scheme::Mqtts) => place.to_owned(),
            Some(scheme @ (Scheme::Ws | Scheme::Wss)) => {
                masked_address(&format!("{}://{place}{}", scheme.word(), self.path))
            }
            Some(Scheme::Unix) => format!("unix:{place}"),
        }
    }

    /// What a WebSocket is opened on.
    pub(super) fn websocket(&self, place: &str) -> Option<Resource> {
        let is_websocket = self.scheme.is_some_and(Scheme::is_websocket);
        is_websocket.then(|| Resource {
            host: place.to_owned(),
            path: self.path.clone(),
        })
    }

    /// Where it is, in the order in which places are tried.
    pub(super) fn resolve(&self, place: &str, sources: &[IpAddr]) -> Result<Vec<Peer>, Complaint> {
        match self.scheme {
            Some(Scheme::Unix) if !sources.is_empty() => {
                let what = "is a Unix socket, which has nothing to do with --source";
                Err(Complaint::new(what, "leave out --source"))
            }
            Some(Scheme::Unix) => {
                let address = SocketAddrUnix::new(place).expect("checked when it was read");
                Ok(vec![Peer::Unix(address)])
            }
            None | Some(_) => {
                let all = resolve(place, sources)?;
                Ok(all.into_iter().map(Peer::Tcp).collect())
            }
        }
    }
}

/// Where a target is, seen from this machine.
pub fn reach(target: &str, has_tls: bool) -> Result<Place, Complaint> {
    let target = Target::parse(target)?;
    let place = target.with_port(has_tls);
    Ok(Place {
        target: target.shown(&place),
        host: host_of(&place).to_owned(),
        peers: target.resolve(&place, &[])?,
        websocket: target.websocket(&place),
    })
}

fn unix(text: &str, path: &str) -> Result<Target, Complaint> {
    if path.is_empty() || SocketAddrUnix::new(path).is_err() {
        let what = format!("is `{text}`, which names no file that can be a socket");
        let fix = "write unix:/run/ringmq.sock; such a path has 107 bytes at most";
        return Err(Complaint::new(what, fix));
    }
    Ok(Target {
        scheme: Some(Scheme::Unix),
        place: path.to_owned(),
        path: String::new(),
    })
}

/// Every address of a target, those of IPv4 first: names of this machine often stand for both, and
/// brokers listen on the older kind. With `sources`, those of their kind only.
fn resolve(target: &str, sources: &[IpAddr]) -> Result<Vec<SocketAddr>, Complaint> {
    let found = target.to_socket_addrs().map_err(|error| {
        let what = format!("is `{target}`, which is not an address ({error})");
        Complaint::new(what, FIX)
    })?;
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.is_empty() {
        return Err(Complaint::new(
            format!("is `{target}`, which has no address"),
            FIX,
        ));
    }
    all.sort_by_key(SocketAddr::is_ipv6);
    if let Some(source) = sources.first() {
        all.retain(|address| address.is_ipv4() == source.is_ipv4());
        if all.is_empty() {
            let (ours, theirs) = if source.is_ipv4() { (4, 6) } else { (6, 4) };
            let what = format!(
                "is `{target}`, which has IPv{theirs} addresses only, and --source has those of \
                 IPv{ours}"
            );
            return Err(Complaint::new(
                what,
                "give --source addresses of the same kind",
            ));
        }
    }
    Ok(all)
}

/// The first address that takes a connection. One alone is not tried: the clients will say what is
/// wrong with it.
pub fn choose(peers: &[Peer]) -> Result<Peer, String> {
    if let [only] = peers {
        return Ok(only.clone());
    }
    let mut why = Vec::new();
    for peer in peers {
        let Peer::Tcp(address) = peer else {
            continue;
        };
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => return Ok(peer.clone()),
            Err(error) => why.push(format!("{address}: {error}")),
        }
    }
    Err(format!(
        "cannot connect to any address: {}; start the broker, or name its address with --target",
        why.join("; ")
    ))
}

/// `localhost` of `localhost:8883`, `::1` of `[::1]:8883`.
pub(super) fn host_of(target: &str) -> &str {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// What brokers have by default, and proxies expect.
const WEBSOCKET_PATH: &str = "/mqtt";
const FIX: &str = "write HOST or HOST:PORT, such as 127.0.0.1:1883 or mqtts://broker.example:8883";
/// An address that does not answer holds up the others for so long.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_that_answers_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The port of a connection: nobody can come to listen there.
        let somebody = TcpStream::connect(address).unwrap();
        let closed = Peer::Tcp(somebody.local_addr().unwrap());
        let open = Peer::Tcp(address);
        assert_eq!(choose(&[closed.clone(), open.clone()]), Ok(open));
        let alone = choose(std::slice::from_ref(&closed));
        assert_eq!(alone, Ok(closed.clone()), "one alone is not tried");
        let why = choose(&[closed.clone(), closed]).unwrap_err();
        assert!(why.contains("cannot connect to any address"), "{why}");
    }

    #[test]
    fn schemes_are_accepted_or_named() {
        let long = format!("unix:/{}", "x".repeat(110));
        for (text, expected) in [
            ("mqtt://h", Ok((Some(false), "h:1883"))),
            ("MQTTS://h:7/", Ok((Some(true), "h:7"))),
            ("tcp://[::1]", Ok((Some(false), "[::1]:1883"))),
            ("ssl://::1", Ok((Some(true), "[::1]:8883"))),
            ("h", Ok((None, "h:1883"))),
            ("ws://h", Ok((Some(false), "ws://h:8083/mqtt"))),
            (
                "wss://h:443/a/b?secret",
                Ok((Some(true), "wss://h:443/a/b?***")),
            ),
            ("ws://h?k=secret", Ok((Some(false), "ws://h:8083/mqtt?***"))),
            (
                "ws://h/?k=secret x",
                Err("is `ws://h/?***`, whose path is not one of a URL"),
            ),
            ("WS://h/", Ok((Some(false), "ws://h:8083/"))),
            ("unix:/run/x.sock", Ok((None, "unix:/run/x.sock"))),
            ("unix:///run/x.sock", Ok((None, "unix:/run/x.sock"))),
            ("unix:", Err("is `unix:`, which names no file")),
            (&long, Err("is `unix:/xxx")),
            (
                "ws://h/a b",
                Err("is `ws://h/a b`, whose path is not one of a URL"),
            ),
            (
                "http://h",
                Err("has the scheme `http`, which is not one of MQTT"),
            ),
            ("mqtt://u:secret@h", Err("holds a user name or a password")),
            ("ws://u:secret@h/x", Err("holds a user name or a password")),
            (
                "mqtt://h/path",
                Err("is `mqtt://h/path`, which is not a host and a port"),
            ),
            ("", Err("is ``, which is not a host and a port")),
        ] {
            match (Target::parse(text), expected) {
                (Ok(target), Ok((tls, shown))) => {
                    let found = target.scheme.and_then(Scheme::tls);
                    let place = target.with_port(tls == Some(true));
                    assert_eq!(
                        (found, target.shown(&place).as_str()),
                        (tls, shown),
                        "{text}"
                    );
                }
                (Err(complaint), Err(what)) => {
                    assert!(
                        complaint.what.starts_with(what),
                        "{text}: {}",
                        complaint.what
                    );
                    assert!(!complaint.fix.is_empty() && !complaint.what.contains("secret"));
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
