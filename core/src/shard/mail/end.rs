//! Why a session lost its connection.

use std::net::SocketAddr;

use super::event::CloseCause;
use crate::refusal::{Refusal, Violation};

/// Why a session loses its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said DISCONNECT: no will.
    Disconnected,
    /// The client said DISCONNECT and wants its will published.
    DisconnectedWithWill,
    /// The socket is gone already.
    Lost(CloseCause),
    /// The broker ends the connection, and says why to clients that can be told.
    Refused(Violation),
    /// Another connection with the same client identifier takes its place.
    TakenOver {
        /// Where that one is from.
        by: Option<SocketAddr>,
    },
}

impl End {
    /// What the client is told, if it is the broker that ends the connection.
    pub fn violation(self) -> Option<Violation> {
        match self {
            End::Disconnected | End::DisconnectedWithWill | End::Lost(_) => None,
            End::Refused(violation) => Some(violation),
            End::TakenOver { by: _ } => Some(Refusal::TakenOver.into()),
        }
    }

    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            End::Disconnected => "disconnect",
            End::DisconnectedWithWill => "disconnect_with_will",
            End::Lost(CloseCause::PeerClosed) => "closed_by_client",
            // A layer below MQTT has ended, or the shutdown waits no longer.
            End::Lost(CloseCause::Requested) => "closed",
            End::Lost(CloseCause::TransportFailed) => "transport_failed",
            End::Lost(CloseCause::Failed(_)) => "socket_failed",
            End::Lost(CloseCause::HandedOver) => "handed_over",
            End::Refused(violation) => violation.refusal().name(),
            End::TakenOver { by: _ } => Refusal::TakenOver.name(),
        }
    }
}
