//! Who is at the other end of a connection, as far as known before MQTT.

use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Address of the peer; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// The verified name in its certificate, if the listener takes one from there.
    pub name: Option<Arc<str>>,
    /// What the shell calls its listener, for the log.
    pub listener: Option<Arc<str>>,
    /// Its listener has clients prove themselves by certificates, and this one has shown none.
    pub is_unproven: bool,
}
