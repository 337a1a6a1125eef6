//! A broker out of file descriptors. Alone in its process, because the limit is the process's.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ringmq::{Broker, BrokerConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn a_broker_out_of_descriptors_keeps_its_clients_does_not_spin_and_recovers() {
    // The kernel notes the limit when the accept is armed: it has to be low from the start.
    let limit = Rlimit {
        current: Some(64),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let broker = Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        ..BrokerConfig::default()
    })
    .unwrap();
    let address = broker.local_addresses()[0];
    let mut client = TcpStream::connect(address).unwrap();
    let connect = *b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a";
    client.write_all(&connect).unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    // A client in a process of its own, which connects when it gets a line.
    let script = "read x; exec 3<>/dev/tcp/127.0.0.1/$0; \
                  printf '\\x10\\x0d\\x00\\x04MQTT\\x04\\x02\\x00\\x00\\x00\\x01b' >&3; head -c 4 <&3";
    let mut other = Command::new("bash")
        .args(["-c", script, &address.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut go = other.stdin.take().unwrap();
    let fillers: Vec<_> = (0..64)
        .map_while(|_| File::open("/dev/null").ok())
        .collect();
    go.write_all(b"\n").unwrap();
    thread::sleep(Duration::from_millis(400));
    let paused = broker.counts()[0];
    assert_eq!((paused.accepted, paused.accept_pauses), (1, 1));
    let pingreq = [0xC0, 0];
    client.write_all(&pingreq).unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    let turns = broker.counts()[0].turns - paused.turns;
    assert!(turns < 20, "{turns} turns for one ping");
    drop(fillers);
    let mut answer = Vec::new();
    let mut output = other.stdout.take().unwrap();
    output.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    assert!(other.wait().unwrap().success());
    assert_eq!(broker.counts()[0].accepted, 2);
    broker.shutdown();
    broker.join();
}
