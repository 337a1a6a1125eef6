//! A sample of something that was lost or refused.

use crate::loss::Loss;
use std::net::SocketAddr;

/// One case, and how many it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What happened.
    pub loss: Loss,
    /// To which client: of a dropped message the subscriber. Empty if it is not known.
    pub client: Box<str>,
    /// The user of the client, as proven or, if it is not let in, as claimed; empty: none.
    pub user: Box<str>,
    /// The topic or filter, cut at [`TOPIC_SIZE_MAX`] bytes; empty if it is not about one.
    pub topic: Box<[u8]>,
    /// Where the client is; `None`: it is away, or at a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Where the connection is from that takes its place.
    pub by: Option<SocketAddr>,
    /// Cases since the last record of this reason, this one included.
    pub count: u64,
}
