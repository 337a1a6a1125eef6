//! Origins of web pages (RFC 6454), and which pages may connect.
//!
//! Invariant: an [`Origin`] has one form. Scheme and host are in lower case, and the port is always
//! present if the scheme has a default, so that configured and received origins can be compared
//! directly.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Where a page comes from: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    authority: Authority,
}

/// A host and its port; `None` for schemes without a usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    host: String,
    port: Option<u16>,
}

/// Why no browser could send this origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginFault {
    /// It does not begin with `SCHEME://`.
    NoScheme,
    /// Something follows the host and the port: the origin without it.
    Path(String),
    /// It contains `*`, and is not `*` alone.
    Wildcard,
    /// Browsers send such names in ASCII.
    NotAscii,
    /// The host or the port is invalid.
    Authority,
}

impl Origin {
    /// Reads `SCHEME://HOST` or `SCHEME://HOST:PORT`.
    pub fn parse(text: &str) -> Result<Origin, OriginFault> {
        let (scheme, rest) = text.split_once("://").ok_or(OriginFault::NoScheme)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if !is_scheme {
            return Err(OriginFault::NoScheme);
        }
        if text.contains('*') {
            return Err(OriginFault::Wildcard);
        }
        if !rest.is_ascii() {
            return Err(OriginFault::NotAscii);
        }
        if let Some(at) = rest.find(['/', '?', '#']) {
            return Err(OriginFault::Path(format!("{scheme}://{}", &rest[..at])));
        }
        let scheme = scheme.to_ascii_lowercase();
        // Pages from files have no host.
        let authority = match rest {
            "" if scheme == "file" => Authority {
                host: String::new(),
                port: None,
            },
            _ => Authority::parse(rest, &scheme).ok_or(OriginFault::Authority)?,
        };
        Ok(Origin { scheme, authority })
    }

    /// A page of this origin certainly comes from the host that it connects to.
    ///
    /// Anyone with a domain name can make it point to this machine, and a page of theirs then has
    /// the host that it connects to (DNS rebinding). So a name alone proves nothing. A page loaded
    /// over TLS comes from a server with the certificate of that name, and an address or
    /// `localhost` points nowhere else.
    fn is_of(&self, host: &str) -> bool {
        let is_proven = self.scheme == "https" || self.authority.is_no_name();
        // The scheme of the connection does not matter: a proxy in front of the broker may
        // terminate TLS.
        is_proven && Authority::parse(host, &self.scheme).is_some_and(|host| host == self.authority)
    }
}

impl Authority {
    fn parse(text: &str, scheme: &str) -> Option<Authority> {
        let (host, port) = match text.rsplit_once(':') {
            // The last colon of an IPv6 address is within its brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(parse_port(port)?)),
            Some(_) | None => (text, None),
        };
        let host = match host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')) {
            Some(ip) => format!("[{}]", ip.parse::<Ipv6Addr>().ok()?),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                let is_host = !host.is_empty() && host.chars().all(is_name);
                is_host.then(|| host.to_ascii_lowercase())?
            }
        };
        let usual = match scheme {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        Some(Authority {
            host,
            port: port.or(usual),
        })
    }

    /// It is an address or `localhost`.
    fn is_no_name(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']);
        self.host == "localhost" || address.parse::<IpAddr>().is_ok()
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// The origins whose pages may connect. Browsers send the origin of the page; other clients send
/// none, or any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    listed: Vec<Origin>,
    /// `*` is listed.
    admits_any: bool,
    /// `null` is listed: pages without an origin, such as sandboxed ones.
    admits_null: bool,
}

impl Origins {
    /// Pages of the listed origins, besides those of the host and port that they connect to; `*`:
    /// any.
    pub fn parse<'a>(
        listed: impl IntoIterator<Item = &'a str>,
    ) -> Result<Origins, (&'a str, OriginFault)> {
        let mut origins = Origins::default();
        for text in listed {
            match text {
                "*" => origins.admits_any = true,
                "null" => origins.admits_null = true,
                _ => {
                    let origin = Origin::parse(text).map_err(|fault| (text, fault))?;
                    origins.listed.push(origin);
                }
            }
        }
        Ok(origins)
    }

    /// Whether a page of that origin may connect to that host.
    pub(super) fn admit(&self, page: &str, host: &str) -> bool {
        if self.admits_any {
            return true;
        }
        match Origin::parse(page) {
            Ok(origin) => origin.is_of(host) || self.listed.contains(&origin),
            Err(_) => self.admits_null && page == "null",
        }
    }
}

impl fmt::Display for OriginFault {
    /// What is wrong, to follow the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OriginFault::NoScheme => "has no scheme",
            OriginFault::Path(_) => "has a path, which browsers do not send",
            OriginFault::Wildcard => "has a wildcard in it, which would never match",
            OriginFault::NotAscii => "is not ASCII, as browsers send it",
            OriginFault::Authority => "has no valid host and port",
        })
    }
}

impl OriginFault {
    /// What to write instead.
    pub fn fix(&self) -> String {
        match self {
            OriginFault::NoScheme | OriginFault::Authority => {
                "write https://HOST or https://HOST:PORT; \"*\" admits every page".to_owned()
            }
            OriginFault::Path(origin) => format!("did you mean {origin}?"),
            OriginFault::Wildcard => {
                "list each origin in full; \"*\" alone admits every page".to_owned()
            }
            OriginFault::NotAscii => {
                "write the host in its ASCII form (xn--...), which the browser shows as origin"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_matches_whatever_its_spelling() {
        for (listed, page) in [
            ("https://app.example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("https://app.example", "https://app.example:443"),
            ("http://app.example:80", "http://app.example"),
            ("HTTPS://App.Example", "https://app.example"),
            ("https://[2001:DB8:0::1]", "https://[2001:db8::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("file://", "file://"),
            ("null", "null"),
            ("*", "whatever"),
        ] {
            let origins = Origins::parse([listed]).unwrap();
            assert!(origins.admit(page, "b.example"), "{listed} {page}");
        }
        let origins = Origins::parse(["https://app.example"]).unwrap();
        for page in [
            "https://app.example:80",
            "http://app.example",
            "null",
            "",
            "https://app.example/",
        ] {
            assert!(!origins.admit(page, "b.example"), "{page}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_its_fix() {
        for (text, fault) in [
            ("app.example", OriginFault::NoScheme),
            ("//app.example", OriginFault::NoScheme),
            ("*.app.example", OriginFault::NoScheme),
            ("https://*.app.example", OriginFault::Wildcard),
            ("https://*", OriginFault::Wildcard),
            ("*://app.example", OriginFault::NoScheme),
            ("https://", OriginFault::Authority),
            ("https://app.example:", OriginFault::Authority),
            ("https://app.example:70000", OriginFault::Authority),
            ("https://app.example:+80", OriginFault::Authority),
            ("https://user@app.example", OriginFault::Authority),
            ("https://a b", OriginFault::Authority),
            ("https://b\u{fc}cher.example", OriginFault::NotAscii),
            (
                "https://app.example/",
                OriginFault::Path("https://app.example".to_owned()),
            ),
            (
                "https://app.example:8443/mqtt",
                OriginFault::Path("https://app.example:8443".to_owned()),
            ),
        ] {
            assert_eq!(Origin::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_page_of_the_host_itself_may_leave_out_the_usual_port_or_name_it() {
        let none = Origins::default();
        for (page, host, expected) in [
            ("https://b.example", "b.example", true),
            ("https://b.example", "B.example:443", true),
            ("https://b.example:443", "b.example", true),
            ("http://127.0.0.1", "127.0.0.1:80", true),
            ("https://b.example", "b.example:8084", false),
            ("http://b.example", "b.example", false),
            ("https://b.example", "", false),
        ] {
            assert_eq!(none.admit(page, host), expected, "{page} {host}");
        }
    }
}
