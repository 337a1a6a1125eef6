//! A run made by several machines: `ringload run --on HOST,HOST`.
//!
//! One machine *leads*: it starts an *agent* on each host over ssh, and talks to it in lines of
//! JSON on its stdin and stdout, so there is no port, and it is encrypted and authenticated by what
//! is there anyway. All make the same plan, in which the threads of all machines are numbered
//! through; an agent runs its own of them. The leader has the boards of all threads, so its control
//! of a run is the one of a run on one machine, and a result is assembled as any other.
//!
//! Invariants:
//! - an agent sends nothing to the broker that it was not told to, and ends all its clients when it
//!   hears nothing more from the leader.
//! - an answer to a question comes behind the sequences that it is about.
//!
//! Not here: what clients do (`fleet`), when a run goes from stage to stage (`engine`).

pub mod clock;
pub mod crossing;
mod job;
pub mod lead;
mod link;
pub mod notes;
pub mod protocol;
mod pump;
pub mod room;
pub mod serve;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringmq_problem::Complaint;

use crate::process::CpuTime;
pub use protocol::Settlement;

/// Where a run is made, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On {
    /// The machines, as ssh knows them.
    pub hosts: Vec<String>,
    /// The command that runs another one on a host: ssh, with its options.
    pub ssh: Vec<String>,
    /// ringload there.
    pub remote: String,
    /// The broker as the user wrote it.
    pub target: String,
}

impl On {
    /// Reads `HOST,HOST`.
    pub fn parse_hosts(text: &str) -> Result<Vec<String>, Complaint> {
        let mut hosts: Vec<String> = Vec::new();
        for host in text.split(',').map(str::trim) {
            if host.is_empty() || host.contains(char::is_whitespace) {
                let what = format!("is `{text}`, which has a host without a name");
                return Err(Complaint::new(what, FIX));
            }
            if host.starts_with('-') {
                // It would be an option of ssh.
                let what = format!("has `{host}`, which is not a host");
                return Err(Complaint::new(what, FIX));
            }
            if hosts.iter().any(|other| other == host) {
                let what = format!("has {host} twice");
                let fix = "name it once: --threads says how many threads each machine has";
                return Err(Complaint::new(what, fix));
            }
            hosts.push(host.to_owned());
        }
        if hosts.len() > HOSTS_MAX {
            let what = format!("has {} hosts", hosts.len());
            let fix = format!("name {HOSTS_MAX} at most");
            return Err(Complaint::new(what, fix));
        }
        Ok(hosts)
    }

    /// Reads a command: words, in quotes if they have spaces.
    pub fn parse_ssh(text: &str) -> Result<Vec<String>, Complaint> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for c in text.chars() {
            match (quote, c) {
                (Some(end), c) if c == end => quote = None,
                (None, '"' | '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, c) if c.is_whitespace() => words.extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        let fix = "write a command such as \"ssh -p 2222 -i key\"";
        match (quote, words.is_empty()) {
            (Some(quote), _) => {
                let what = format!("is `{text}`, in which a {quote} has no end");
                Err(Complaint::new(what, fix))
            }
            (None, true) => Err(Complaint::new("is empty", fix)),
            (None, false) => Ok(words),
        }
    }
}

/// What the control of a run has to know of machines elsewhere.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// They hear of the publishing so long before it begins.
    pub lead_ns: u64,
    /// CPU time of each so far, microseconds.
    cpu_us: Arc<[AtomicU64]>,
}

impl Elsewhere {
    /// So many machines, the farthest of which answers within a time.
    pub fn new(machines: usize, round_trip_ns: u64) -> Elsewhere {
        Elsewhere {
            lead_ns: LEAD_NS + 4 * round_trip_ns,
            cpu_us: (0..machines).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// What all of them have used.
    pub fn cpu(&self) -> Option<CpuTime> {
        let all = self.cpu_us.iter().map(|us| us.load(Ordering::Relaxed));
        Some(CpuTime {
            user_s: all.sum::<u64>() as f64 / 1e6,
            system_s: 0.0,
        })
    }

    fn note_cpu(&self, machine: usize, us: u64) {
        self.cpu_us[machine].store(us, Ordering::Relaxed);
    }
}

const FIX: &str = "write hosts as ssh knows them: --on one,two or --on user@10.0.0.2";
/// A slot has 16 bits for thread and group, and a leader a thread for each.
const HOSTS_MAX: usize = 32;
/// Both sides look around every few milliseconds.
const LEAD_NS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_or_named() {
        let hosts = On::parse_hosts("one, user@two").unwrap();
        assert_eq!(hosts, ["one", "user@two"]);
        for (text, expected) in [
            ("", "which has a host without a name"),
            ("a,,b", "which has a host without a name"),
            (
                "a,-oProxyCommand=x",
                "`-oProxyCommand=x`, which is not a host",
            ),
            ("a,b,a", "has a twice"),
        ] {
            let complaint = On::parse_hosts(text).unwrap_err();
            assert!(
                complaint.what.contains(expected),
                "{text}: {}",
                complaint.what
            );
        }
        let many: Vec<String> = (0..40).map(|n| format!("h{n}")).collect();
        assert!(On::parse_hosts(&many.join(",")).is_err());
    }

    #[test]
    fn a_command_is_split_into_words() {
        for (text, expected) in [
            ("ssh", &["ssh"][..]),
            (
                "ssh -p 2222  -i 'my key'",
                &["ssh", "-p", "2222", "-i", "my key"],
            ),
            ("a \"b c\"d ''", &["a", "b cd", ""]),
        ] {
            assert_eq!(On::parse_ssh(text).unwrap(), expected, "{text}");
        }
        for text in ["", "  ", "ssh 'x"] {
            assert!(On::parse_ssh(text).is_err(), "{text}");
        }
    }
}
