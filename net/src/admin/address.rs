//! Where the control plane listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A Unix socket in the runtime directory of this user, named by the process: brokers do not get in each other's way.
    Auto,
    /// A Unix socket.
    Unix(PathBuf),
    /// HTTP, or HTTPS; port 0 means any free one.
    Tcp(SocketAddr),
}

impl AdminAddress {
    /// Other machines can reach it.
    pub fn is_reachable(&self) -> bool {
        match self {
            AdminAddress::Auto | AdminAddress::Unix(_) => false,
            AdminAddress::Tcp(address) => !address.ip().to_canonical().is_loopback(),
        }
    }
}

impl FromStr for AdminAddress {
    /// What is wrong, behind "which".
    type Err = &'static str;

    fn from_str(text: &str) -> Result<AdminAddress, &'static str> {
        match text.strip_prefix("unix:") {
            Some("auto") => Ok(AdminAddress::Auto),
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                match path.starts_with('/') {
                    true => Ok(AdminAddress::Unix(PathBuf::from(path))),
                    false => Err("names no absolute path"),
                }
            }
            None => match text.parse::<SocketAddr>() {
                Ok(address) => Ok(AdminAddress::Tcp(address)),
                Err(_) => Err("is neither unix:PATH nor IP:PORT"),
            },
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Auto => f.write_str("unix:auto"),
            AdminAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            AdminAddress::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_the_reason_is_given() {
        for (text, expected) in [
            ("unix:auto", Ok("unix:auto")),
            ("unix:/run/a.sock", Ok("unix:/run/a.sock")),
            ("unix:///run/a.sock", Ok("unix:/run/a.sock")),
            ("127.0.0.1:18830", Ok("http://127.0.0.1:18830")),
            ("[::1]:0", Ok("http://[::1]:0")),
            ("unix:a.sock", Err("names no absolute path")),
            ("unix:", Err("names no absolute path")),
            ("0.0.0.0:18830", Ok("http://0.0.0.0:18830")),
            ("localhost:1", Err("is neither unix:PATH nor IP:PORT")),
            ("", Err("is neither unix:PATH nor IP:PORT")),
        ] {
            let read = text.parse::<AdminAddress>();
            let shown = read.map(|address| address.to_string());
            assert_eq!(shown.as_deref().map_err(|why| *why), expected, "{text}");
        }
    }
}
