//! A Unix socket.

use std::os::unix::net::UnixStream;

use ringmq::{Broker, Endpoint, ListenProblem, ListenerConfig, StartError};

use super::{address, config, local, start, stop, tcp};
use crate::mqtt::{Client, exchange};

#[test]
fn clients_of_a_unix_socket_reach_the_others_and_the_file_is_removed_at_the_end() {
    let name = format!("ringmq-transports-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let unix = ListenerConfig::plain(Endpoint::Unix(path.clone()));
    let broker = start(vec![unix.clone(), local()]);
    let taken = Broker::start(&config(vec![unix.clone()])).unwrap_err();
    let expected = StartError::Listen {
        endpoint: unix.endpoint.clone(),
        problem: ListenProblem::InUse,
    };
    assert_eq!(taken, expected);
    for index in 0..6 {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(super::WAIT)).unwrap();
        let mut client = Client::open(stream, &format!("u{index}"));
        let mut other = Client::open(tcp(address(&broker, 1)), &format!("o{index}"));
        exchange(&mut client, &mut other, &format!("t/{index}"));
        exchange(&mut other, &mut client, &format!("u/{index}"));
    }
    stop(broker);
    assert!(!path.exists());
}
