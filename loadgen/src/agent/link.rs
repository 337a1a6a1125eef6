//! The connection to an agent: a process that runs `ringload agent` on a host.

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringmq_problem::printable;

use super::On;
use super::clock::{Offset, RoundTrip, TRIPS};
use super::protocol::{HELLO, Order, Report};
use crate::shared::now_ns;

/// The connection to an agent.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) host: String,
    child: Child,
    /// `None` once it is closed.
    stdin: Option<ChildStdin>,
    /// Reports with the time at which they were here. Ends when the agent is gone.
    reports: Receiver<(Report, u64)>,
    /// The end of what it wrote on stderr, and who reads that.
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: Option<JoinHandle<io::Result<()>>>,
}

/// What came of a wait.
#[derive(Debug)]
pub(super) enum Heard {
    /// A report, and when it was here.
    Report(Box<Report>, u64),
    /// Nothing yet.
    Nothing,
    /// Nothing more will come.
    End,
}

impl Link {
    /// Starts an agent; it has not said anything yet.
    pub(super) fn start(on: &On, host: &str) -> Result<Link, String> {
        let (program, arguments) = on.ssh.split_first().expect("a command has a word");
        let mut command = Command::new(program);
        command.args(arguments);
        if program.rsplit('/').next() == Some("ssh") {
            // Several at once cannot ask for passwords, and the terminal is ours.
            command.args(["-o", "BatchMode=yes", "-T"]);
        }
        // Ctrl-C is for us alone: agents end their clients in order.
        let child = command
            .args([host, &on.remote, "agent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = child.map_err(|error| format!("{host}: cannot run {program}: {error}"))?;
        let (sender, reports) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                read_reports(BufReader::new(stdout), |report| {
                    sender.send((report, now_ns())).is_ok()
                });
            });
        }
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = stderr.clone();
        let read = |pipe| std::thread::spawn(move || keep_end(pipe, &kept));
        let stderr_reader = child.stderr.take().map(read);
        Ok(Link {
            host: host.to_owned(),
            stdin: child.stdin.take(),
            child,
            reports,
            stderr,
            stderr_reader,
        })
    }

    /// Says something. A pipe that is broken is noticed by who listens.
    pub(super) fn say(&mut self, order: &Order) {
        let Some(stdin) = &mut self.stdin else {
            return;
        };
        let mut line = serde_json::to_vec(order).expect("no map with other keys than text");
        line.push(b'\n');
        let said = stdin.write_all(&line).and_then(|()| stdin.flush());
        if said.is_err() {
            self.stdin = None;
        }
    }

    /// Listens for so long.
    pub(super) fn hear(&self, wait: Duration) -> Heard {
        match self.reports.recv_timeout(wait) {
            Ok((report, at)) => Heard::Report(Box::new(report), at),
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// Waits for a report; `stop` may end that early.
    pub(super) fn expect(
        &mut self,
        what: &str,
        wait: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Report, u64), String> {
        let until = Instant::now() + wait;
        loop {
            match self.hear(LOOK) {
                Heard::Report(report, at) => return Ok((*report, at)),
                Heard::End => return Err(self.why_gone()),
                Heard::Nothing if stop() => return Err("interrupted".to_owned()),
                Heard::Nothing if Instant::now() >= until => {
                    let host = &self.host;
                    let seconds = wait.as_secs();
                    return Err(format!(
                        "{host}: no {what} within {seconds} s{}",
                        self.said()
                    ));
                }
                Heard::Nothing => {}
            }
        }
    }

    /// The first thing it says: that it is there, in the same version.
    pub(super) fn greet(&mut self, stop: &dyn Fn() -> bool) -> Result<(), String> {
        let (report, _) = self.expect("answer", GREET_WAIT, stop)?;
        let Report::Hello(hello) = report else {
            return Err(format!("{}: said something before its version", self.host));
        };
        let ours = env!("RINGMQ_VERSION");
        if hello.program != HELLO || hello.version != ours {
            return Err(format!(
                "{} has ringload {}, and this is {ours}: the same is needed; copy this one there, \
                 and name it with --remote",
                self.host, hello.version
            ));
        }
        Ok(())
    }

    /// How far its clock is from ours.
    pub(super) fn clock(&mut self, stop: &dyn Fn() -> bool) -> Result<Offset, String> {
        let mut trips = Vec::with_capacity(TRIPS);
        for _ in 0..TRIPS {
            let asked_ns = now_ns();
            self.say(&Order::Clock);
            let (report, answered_ns) = self.expect("time", ANSWER_WAIT, stop)?;
            let Report::Clock { at_ns } = report else {
                return Err(format!("{}: was asked for the time only", self.host));
            };
            trips.push(RoundTrip {
                asked_ns,
                theirs_ns: at_ns,
                answered_ns,
            });
        }
        Ok(Offset::of(&trips))
    }

    /// Ends a connection on which nothing moves any more.
    pub(super) fn cut(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
    }

    /// Why nothing more comes: what the process left behind.
    pub(super) fn why_gone(&mut self) -> String {
        self.stdin = None;
        let host = self.host.clone();
        let status = wait_a_while(&mut self.child);
        let code = status.and_then(|status| status.code());
        // What it said last may be underway; another process can hold the pipe open.
        let is_read = |link: &Link| link.stderr_reader.as_ref().is_none_or(|r| r.is_finished());
        let until = Instant::now() + STDERR_WAIT;
        while !is_read(self) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        let said = self.said();
        match code {
            Some(127) => format!(
                "{host}: there is no such program{said}; install ringload there, or name it with \
                 --remote /path/to/ringload"
            ),
            Some(2) => format!(
                "{host}: its ringload has no agents{said}; install version {} there",
                env!("RINGMQ_VERSION")
            ),
            Some(255) => format!(
                "{host}: cannot be reached{said}; `ssh {host} true` has to work without a question"
            ),
            Some(code) => format!("{host}: the agent ended with {code}{said}"),
            None => format!("{host}: the agent was lost{said}"),
        }
    }

    /// What it wrote last on stderr, for messages.
    fn said(&self) -> String {
        let bytes = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        match text.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(line) => format!(" ({})", printable(line.trim())),
            None => String::new(),
        }
    }
}

impl Drop for Link {
    /// An agent whose stdin ends, ends; one that does not is none any more.
    fn drop(&mut self) {
        self.stdin = None;
        if wait_a_while(&mut self.child).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait_a_while(child: &mut Child) -> Option<std::process::ExitStatus> {
    let until = Instant::now() + END_WAIT;
    while Instant::now() < until {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Reads lines to the end. Shells may greet before the agent does: what is no report is skipped.
fn read_reports(mut from: impl BufRead, mut each: impl FnMut(Report) -> bool) {
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line without an end does not fill the memory.
        let mut limited = from.by_ref().take(LINE_SIZE_MAX);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok(report) = serde_json::from_slice(&line)
            && !each(report)
        {
            return;
        }
    }
}

/// Keeps the last bytes of a stream.
fn keep_end(mut from: impl Read, kept: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let size = from.read(&mut buffer)?;
        if size == 0 {
            return Ok(());
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..size]);
        let surplus = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..surplus);
    }
}

/// Names that have to be looked up, a handshake, a program that starts.
const GREET_WAIT: Duration = Duration::from_secs(30);
/// An agent that does not say what time it is has other problems.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// For an agent that disconnects its clients.
const END_WAIT: Duration = Duration::from_secs(5);
const STDERR_WAIT: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(50);
/// The sequences of all streams there can be, as text, and more.
const LINE_SIZE_MAX: u64 = 1 << 28;
const STDERR_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_says_before_the_agent_is_skipped() {
        let text =
            b"Welcome to one!\n\n{\"clock\":{\"at_ns\":7}}\n{\"clock\":\n{\"clock\":{\"at_ns\":8}}";
        let mut times = Vec::new();
        read_reports(&text[..], |report| {
            if let Report::Clock { at_ns } = report {
                times.push(at_ns);
            }
            true
        });
        assert_eq!(times, [7, 8]);
    }

    #[test]
    fn only_the_end_of_stderr_is_kept() {
        let kept = Mutex::new(Vec::new());
        let text = "x".repeat(10_000) + "\nthe reason\n";
        keep_end(text.as_bytes(), &kept).unwrap();
        let kept = kept.into_inner().unwrap();
        assert_eq!(kept.len(), STDERR_KEPT);
        assert!(kept.ends_with(b"\nthe reason\n"));
    }
}
