//! Addresses of control planes.

use std::fmt;

use ringmq_problem::Complaint;
use rustix::net::SocketAddrUnix;

/// Where a control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Unix(String),
    Http(Host),
    Https(Host),
}

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Without the brackets of IPv6.
    pub(super) name: String,
    pub(super) port: u16,
}

impl Place {
    /// Reads `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.
    pub(super) fn parse(text: &str) -> Result<Place, Complaint> {
        let wrong = |what: &str| {
            let fix = "write unix:PATH, http://HOST:PORT or https://HOST:PORT";
            Complaint::new(format!("is `{text}`, which {what}"), fix)
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.is_empty() || SocketAddrUnix::new(path).is_err() {
                true => Err(wrong("names no socket")),
                false => Ok(Place::Unix(path.to_owned())),
            };
        }
        let (is_tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(wrong("has no scheme")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let port = authority
            .rsplit_once(':')
            .filter(|_| !authority.ends_with(']'));
        let (name, port) = port.ok_or_else(|| wrong("names no port"))?;
        let port = port.parse().map_err(|_| wrong("names no port"))?;
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() || name.contains(['/', '@', '?', ' ']) {
            return Err(wrong("names no host"));
        }
        let host = Host {
            name: name.to_owned(),
            port,
        };
        Ok(match is_tls {
            true => Place::Https(host),
            false => Place::Http(host),
        })
    }

    /// For the header.
    pub(super) fn host(&self) -> String {
        match self {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Http(host) | Place::Https(host) => host.to_string(),
        }
    }
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
            Place::Unix(path) => write!(f, "unix:{path}"),
            Place::Http(host) => write!(f, "http://{host}"),
            Place::Https(host) => write!(f, "https://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for (text, expected) in [
            ("unix:/run/x.sock", Ok("unix:/run/x.sock")),
            ("unix:///run/x.sock", Ok("unix:/run/x.sock")),
            ("http://127.0.0.1:18830", Ok("http://127.0.0.1:18830")),
            ("https://[::1]:1/", Ok("https://[::1]:1")),
            ("unix:", Err("names no socket")),
            ("127.0.0.1:1", Err("has no scheme")),
            ("http://h", Err("names no port")),
            ("http://[::1]", Err("names no port")),
            ("http://h:x", Err("names no port")),
            ("http://:1", Err("names no host")),
            ("http://h/x:1", Err("names no host")),
        ] {
            match (Place::parse(text), expected) {
                (Ok(place), Ok(shown)) => assert_eq!(place.to_string(), shown),
                (Err(complaint), Err(what)) => assert!(complaint.what.contains(what), "{text}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
