//! The broker's address as the user writes it: scheme, host and port, and the addresses that the
//! host resolves to.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use ringmq_problem::Complaint;

/// The value of `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether the scheme asks for TLS; `None` without a scheme.
    pub(super) tls: Option<bool>,
    /// `HOST` or `HOST:PORT`.
    place: String,
}

impl Target {
    /// Reads `[SCHEME://]HOST[:PORT]`.
    pub(super) fn parse(text: &str) -> Result<Target, Complaint> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let tls = match scheme.as_deref() {
            None => None,
            Some("mqtt" | "tcp") => Some(false),
            Some("mqtts" | "ssl" | "tls") => Some(true),
            Some(scheme @ ("ws" | "wss")) => {
                let what =
                    format!("is a {scheme}:// address, and ringload does not speak WebSocket");
                let other = if scheme == "ws" { "mqtt" } else { "mqtts" };
                let fix =
                    format!("name the broker's port for MQTT over TCP or TLS: {other}://HOST:PORT");
                return Err(Complaint::new(what, fix));
            }
            Some(scheme) => {
                let what = format!("has the scheme `{scheme}`, which is not one of MQTT");
                return Err(Complaint::new(what, "write mqtt:// or mqtts://"));
            }
        };
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
        Ok(Target {
            tls,
            place: place.to_owned(),
        })
    }

    /// `HOST:PORT`, with the usual port if none is given.
    pub(super) fn with_port(&self, port: u16) -> String {
        let place = &self.place;
        if place.parse::<Ipv6Addr>().is_ok() {
            format!("[{place}]:{port}")
        } else if place.ends_with(']') || !place.contains(':') {
            format!("{place}:{port}")
        } else {
            place.clone()
        }
    }
}

/// Every address of a target, those of IPv4 first: names of this machine often stand for both, and
/// brokers listen on the older kind. With `sources`, those of their kind only.
pub(super) fn resolve(target: &str, sources: &[IpAddr]) -> Result<Vec<SocketAddr>, Complaint> {
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
pub fn choose(addresses: &[SocketAddr]) -> Result<SocketAddr, String> {
    if let [only] = addresses {
        return Ok(*only);
    }
    let mut why = Vec::new();
    for address in addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => return Ok(*address),
            Err(error) => why.push(format!("{address}: {error}")),
        }
    }
    Err(format!(
        "cannot connect to any address: {}; start the broker, or name its address with --target",
        why.join("; ")
    ))
}

const FIX: &str = "write HOST or HOST:PORT, such as 127.0.0.1:1883 or mqtts://broker.example:8883";
/// An address that does not answer holds up the others for so long.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_that_answers_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        // The port of a connection: nobody can come to listen there.
        let somebody = TcpStream::connect(open).unwrap();
        let closed = somebody.local_addr().unwrap();
        assert_eq!(choose(&[closed, open]), Ok(open));
        assert_eq!(choose(&[closed]), Ok(closed), "one alone is not tried");
        let why = choose(&[closed, closed]).unwrap_err();
        assert!(why.contains("cannot connect to any address"), "{why}");
    }

    #[test]
    fn schemes_are_accepted_or_named() {
        for (text, expected) in [
            ("mqtt://h", Ok((Some(false), "h:1"))),
            ("MQTTS://h:7/", Ok((Some(true), "h:7"))),
            ("tcp://[::1]", Ok((Some(false), "[::1]:1"))),
            ("ssl://::1", Ok((Some(true), "[::1]:1"))),
            ("h", Ok((None, "h:1"))),
            (
                "ws://h:8083/mqtt",
                Err("is a ws:// address, and ringload does not speak WebSocket"),
            ),
            ("wss://h", Err("is a wss:// address")),
            (
                "http://h",
                Err("has the scheme `http`, which is not one of MQTT"),
            ),
            ("mqtt://u:secret@h", Err("holds a user name or a password")),
            (
                "mqtt://h/path",
                Err("is `mqtt://h/path`, which is not a host and a port"),
            ),
            ("", Err("is ``, which is not a host and a port")),
        ] {
            match (Target::parse(text), expected) {
                (Ok(target), Ok((tls, place))) => {
                    assert_eq!(
                        (target.tls, target.with_port(1).as_str()),
                        (tls, place),
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
