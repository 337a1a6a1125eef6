//! Ringmq's control plane, as `--admin` names it: what the broker counts, and who its clients are.
//!
//! Blocking, one connection per request: nothing here is on the way of a message.

mod http;
pub mod metrics;
mod place;

use std::path::Path;
use std::sync::Arc;

use ringmq_problem::Complaint;
use ringmq_problem::file::read_text;
use serde_json::Value;

use crate::bound::Snapshot;
use crate::tls::Terms;
use metrics::Samples;
use place::Place;

/// A control plane.
#[derive(Clone, Debug)]
pub struct Admin {
    place: Place,
    tls: Option<Terms>,
    token: Option<Arc<str>>,
}

/// Where it is, and how to get in, as the user says it.
#[derive(Clone, Debug, Default)]
pub struct Access<'a> {
    /// `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`.
    pub address: &'a str,
    /// A file with a token.
    pub token: Option<&'a str>,
    /// A file with the CA of its certificate.
    pub ca: Option<&'a str>,
}

/// An option that is wrong, by its name.
pub type Wrong = (&'static str, Complaint);

impl Admin {
    /// Understands where it is; nothing is asked.
    pub fn of(access: &Access<'_>) -> Result<Admin, Wrong> {
        let place = Place::parse(access.address).map_err(|complaint| ("admin", complaint))?;
        let token = access.token.map(token_of).transpose();
        let token = token.map_err(|complaint| ("admin-token", complaint))?;
        let tls = match (&place, access.ca) {
            (Place::Https(host), ca) => {
                let terms = Terms::of_server(&host.name, ca);
                Some(terms.map_err(|complaint| ("admin-ca", complaint))?)
            }
            (Place::Unix(_) | Place::Http(_), Some(_)) => {
                let what = "is given, and --admin is no https:// address";
                let complaint = Complaint::new(what, "leave it out, or write https://");
                return Err(("admin-ca", complaint));
            }
            (Place::Unix(_) | Place::Http(_), None) => None,
        };
        Ok(Admin { place, tls, token })
    }

    /// As it is shown.
    pub fn shown(&self) -> String {
        self.place.to_string()
    }

    /// The text at a path; an error is a sentence with what to do.
    pub fn text(&self, path: &str) -> Result<String, String> {
        let mut text = String::new();
        self.lines(path, |line| {
            text.push_str(line);
            text.push('\n');
        })?;
        Ok(text)
    }

    /// The object at a path.
    pub fn json(&self, path: &str) -> Result<Value, String> {
        let text = self.text(path)?;
        serde_json::from_str(&text)
            .map_err(|error| format!("{}: {path} is not JSON: {error}", self.place))
    }

    /// What is at a path, line by line as it comes: lists are as long as there are clients.
    pub fn lines(&self, path: &str, take: impl FnMut(&str)) -> Result<(), String> {
        let asked = http::Asked {
            path,
            token: self.token.as_deref(),
        };
        http::get(&self.place, self.tls.as_ref(), &asked, take)
            .map_err(|why| format!("{}: {why}", self.place))
    }

    /// Adds what the broker has counted of its own bounds, and how long its stages took.
    pub fn add_to(&self, snapshot: &mut Snapshot) -> Result<(), String> {
        // The second has stops of reading, which the first has not.
        let pages = [self.text("/metrics")?, self.text("/metrics/shards")?];
        for page in pages {
            Samples::parse(&page).add_to(snapshot);
        }
        Ok(())
    }
}

/// The first line of a file: what has more was named by mistake.
fn token_of(path: &str) -> Result<Arc<str>, Complaint> {
    let unusable = |why: &str| {
        let what = format!("is `{path}`, which cannot be used: {why}");
        let fix = "name a file with a token; `ringmq ctl token NAME viewer` makes one";
        Complaint::new(what, fix)
    };
    let text = read_text(Path::new(path), TOKEN_FILE_SIZE_MAX)
        .map_err(|fault| unusable(&fault.to_string()))?;
    let token = text.trim();
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true if !token.is_empty() => Ok(token.into()),
        _ => Err(unusable("it holds no token")),
    }
}

/// A token has some dozens of bytes.
const TOKEN_FILE_SIZE_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_of_the_option() {
        let of = |address, token, ca| {
            let access = Access { address, token, ca };
            Admin::of(&access).map(|admin| admin.shown())
        };
        assert_eq!(of("unix:/x", None, None).unwrap(), "unix:/x");
        assert_eq!(of("http://[::1]:7", None, None).unwrap(), "http://[::1]:7");
        for (address, token, ca, option, what) in [
            ("x", None, None, "admin", "is `x`"),
            ("http://h", None, None, "admin", "names no port"),
            (
                "unix:/x",
                Some("/does/not/exist"),
                None,
                "admin-token",
                "does not exist",
            ),
            (
                "unix:/x",
                Some("/dev/null"),
                None,
                "admin-token",
                "cannot be used",
            ),
            (
                "http://h:1",
                None,
                Some("/x"),
                "admin-ca",
                "no https:// address",
            ),
            (
                "https://h:1",
                None,
                Some("/does/not"),
                "admin-ca",
                "/does/not",
            ),
        ] {
            let (wrong, complaint) = of(address, token, ca).unwrap_err();
            assert_eq!(wrong, option);
            assert!(complaint.what.contains(what), "{}", complaint.what);
        }
    }
}
