//! Listeners with layers below MQTT, on real sockets: TLS, WebSocket, PROXY, Unix sockets. What
//! each layer makes of its bytes is tested beside it; here they meet the reactor and the shards.

mod proxy;
mod tls;
mod tls_abuse;
mod unix;
mod websocket;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringmq::transport::TlsFiles;
use ringmq::{Broker, BrokerConfig, Endpoint, ListenerConfig, RingConfig};

/// A broker of two shards with small buffers, so that records and frames come in parts.
fn config(listen: Vec<ListenerConfig>) -> BrokerConfig {
    BrokerConfig {
        listen,
        shards: 2,
        ring: RingConfig {
            entries: 256,
            buffers_count: 64,
            buffer_size: 1024,
            ..RingConfig::default()
        },
        ..BrokerConfig::default()
    }
}

fn start(listen: Vec<ListenerConfig>) -> Broker {
    Broker::start(&config(listen)).unwrap()
}

fn stop(broker: Broker) {
    broker.shutdown();
    broker.join();
}

/// A listener on a free port of the loopback address.
fn local() -> ListenerConfig {
    SocketAddr::from(([127, 0, 0, 1], 0)).into()
}

fn with_tls(files: TlsFiles) -> ListenerConfig {
    ListenerConfig {
        tls: Some(files),
        ..local()
    }
}

fn address(broker: &Broker, index: usize) -> SocketAddr {
    match broker.endpoints()[index] {
        Endpoint::Tcp(address) => address,
        Endpoint::Unix(_) | Endpoint::Passed(_) => panic!("not a TCP listener"),
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream
}

/// Far above what anything here takes.
const WAIT: Duration = Duration::from_secs(20);
