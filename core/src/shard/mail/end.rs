//! Why a session lost its connection.

use crate::refusal::Violation;

/// Why a session loses its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said DISCONNECT: no will.
    Disconnected,
    /// The client said DISCONNECT and wants its will published.
    DisconnectedWithWill,
    /// The socket is gone already.
    Lost,
    /// The broker ends the connection, and says why to clients that can be told.
    Refused(Violation),
}
