//! The program as it runs, with a folder of files, and a client of a few packets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::mqtt::{Connect, old_subscribe_packet};

pub const RINGMQ: &str = env!("CARGO_BIN_EXE_ringmq");

/// A folder of its own for each test, gone at the end of it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringmq-auth-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Puts a file in the place of the one that there is.
    pub fn write(&self, name: &str, text: &str) -> String {
        let aside = self.0.join("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, self.0.join(name)).unwrap();
        self.path(name)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub fn passwd(&self, name: &str, user: &str, password: &str) -> String {
        let path = self.path(name);
        let mut command = Command::new(RINGMQ);
        command.args(["passwd", "--pbkdf2", "--iterations", "4096", "--batch"]);
        if !self.0.join(name).exists() {
            command.arg("--create");
        }
        let output = command.args([&path, user, password]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running broker; killed if the test fails.
pub struct Broker {
    pub process: Child,
    pub address: SocketAddr,
    log: BufReader<std::process::ChildStderr>,
}

impl Broker {
    pub fn start(args: &[&str]) -> Broker {
        let mut command = Command::new(RINGMQ);
        command.args(args);
        Broker::start_with(command)
    }

    /// On a free port of this machine.
    pub fn start_with(mut command: Command) -> Broker {
        command.args(["--listen", "127.0.0.1:0"]);
        Broker::start_on(command)
    }

    /// On the one address that the command or its file names.
    pub fn start_on(mut command: Command) -> Broker {
        command.args(["--shards", "2"]);
        Broker::start_as(command)
    }

    /// With nothing but what the command says.
    pub fn start_as(mut command: Command) -> Broker {
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        while !greeting.contains("stop it with Ctrl-C") {
            if stdout.read_line(&mut greeting).unwrap() == 0 {
                let mut errors = String::new();
                process
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut errors)
                    .unwrap();
                panic!("the broker did not start: {errors}");
            }
        }
        let address = greeting.split_once("listens on ").unwrap().1;
        let address = address.split_whitespace().next().unwrap();
        // After the scheme, if there is one.
        let address = address.rsplit('/').next().unwrap();
        let mut address: SocketAddr = address.parse().unwrap();
        address.set_ip(Ipv4Addr::LOCALHOST.into());
        let log = BufReader::new(process.stderr.take().unwrap());
        Broker {
            process,
            address,
            log,
        }
    }

    /// Reads the log up to a line with this text.
    pub fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(
                self.log.read_line(&mut line).unwrap() > 0,
                "no line with {text}"
            );
        }
        line
    }

    pub fn hang_up(&self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::HUP).unwrap();
    }

    /// As power does, as far as the process is concerned.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop, and waits. Gives the exit code and the rest of the log.
    pub fn stop(self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.wait()
    }

    /// Waits for its end. Gives the exit code and the rest of the log.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.process.wait().unwrap().code(), rest)
    }

    pub fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        let time = Some(Duration::from_secs(60));
        socket.set_read_timeout(time).unwrap();
        socket
    }

    pub fn connect(&self, id: &str, credentials: Option<(&str, &str)>) -> (TcpStream, u8) {
        let mut socket = self.socket();
        socket.write_all(&connect_packet(id, credentials)).unwrap();
        let mut connack = [0; 4];
        socket.read_exact(&mut connack).unwrap();
        assert_eq!(connack[..3], [0x20, 2, 0]);
        (socket, connack[3])
    }

    /// The return code of a CONNECT.
    pub fn code(&self, credentials: Option<(&str, &str)>) -> u8 {
        self.connect("c", credentials).1
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A CONNECT of MQTT 3.1.1.
pub fn connect_packet(id: &str, credentials: Option<(&str, &str)>) -> Vec<u8> {
    let connect = Connect {
        credentials,
        ..Connect::old(id)
    };
    connect.packet()
}

/// The code of the SUBACK for a filter.
pub fn subscribe(socket: &mut (impl Read + Write), filter: &str) -> u8 {
    socket.write_all(&old_subscribe_packet(filter, 0)).unwrap();
    let mut suback = [0; 5];
    socket.read_exact(&mut suback).unwrap();
    suback[4]
}

/// What a start says that fails.
pub fn refused(args: &[&str]) -> String {
    let output = Command::new(RINGMQ).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}
