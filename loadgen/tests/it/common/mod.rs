//! What the integration tests share: a broker that does wrong on purpose, and runs of ringload.

pub mod broker;
pub mod ceiling;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ringload::find::file::CapacityFile;
use ringload::report::ResultFile;
use ringload::storm::StormFile;

/// What a run of ringload came to.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// If there is one.
    pub result: Option<ResultFile>,
}

impl Done {
    /// The result, which there has to be.
    pub fn result(&self) -> &ResultFile {
        self.result
            .as_ref()
            .unwrap_or_else(|| panic!("no result: {self:#?}"))
    }
}

/// A run that is going on.
#[derive(Debug)]
pub struct Running {
    pub child: std::process::Child,
    json: PathBuf,
}

/// Starts `ringload run` against a port.
pub fn start(port: u16, args: &[&str]) -> Running {
    start_command("run", &at(port), args)
}

/// Starts `ringload run` against a target.
pub fn start_at(target: &str, args: &[&str]) -> Running {
    start_command("run", target, args)
}

/// The target of a port.
pub fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Starts a command of ringload against a target.
pub fn start_command(command: &str, target: &str, args: &[&str]) -> Running {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("ringload-test-{}-{number}.json", std::process::id());
    let json = std::env::temp_dir().join(name);
    let child = Command::new(env!("CARGO_BIN_EXE_ringload"))
        .arg(command)
        .args(args)
        .args(["--target", target, "--json"])
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Running { child, json }
}

impl Running {
    /// Waits for the end of a search; gives exit code, output and what was found.
    pub fn finish_search(self) -> (Option<i32>, String, CapacityFile) {
        let output = self.child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let json = std::fs::read(&self.json).unwrap_or_else(|_| panic!("no file: {text}"));
        let _ = std::fs::remove_file(&self.json);
        let text = text + &String::from_utf8(output.stdout).unwrap();
        (
            output.status.code(),
            text,
            serde_json::from_slice(&json).unwrap(),
        )
    }

    /// Waits for the end of several storms; gives exit code, output and what was found.
    pub fn finish_storms(self) -> (Option<i32>, String, StormFile) {
        let output = self.child.wait_with_output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let found = StormFile::read(&self.json);
        let _ = std::fs::remove_file(&self.json);
        let found = found.unwrap_or_else(|error| panic!("{error}: {text}"));
        (output.status.code(), text, found.unwrap())
    }

    /// Waits for the end.
    pub fn finish(self) -> Done {
        let Output {
            status,
            stdout,
            stderr,
        } = self.child.wait_with_output().unwrap();
        let result = self
            .json
            .exists()
            .then(|| ResultFile::read(&self.json).unwrap());
        let _ = std::fs::remove_file(&self.json);
        Done {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            result,
        }
    }
}

/// Runs `ringload run` against a port.
pub fn run(port: u16, args: &[&str]) -> Done {
    start(port, args).finish()
}
