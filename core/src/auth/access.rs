//! Who may connect: one immutable value that all shards share, replaced as a whole.

use std::fmt;
use std::sync::Arc;

use super::ScramUsers;
use crate::codec::Version;
use crate::ids::ConnId;
use crate::shard::PeerIdentity;

/// What holds for every client, from a reload to the next.
#[derive(Clone, Debug)]
pub struct Access {
    /// Clients that show no credentials are let in.
    pub allow_anonymous: bool,
    /// User names and passwords are for the shell to judge. Otherwise nobody looks at them.
    pub asks_shell: bool,
    /// Who may log in with SCRAM-SHA-256.
    pub scram: Arc<ScramUsers>,
}

impl Default for Access {
    /// Everybody is let in.
    fn default() -> Access {
        Access {
            allow_anonymous: true,
            asks_shell: false,
            scram: Arc::default(),
        }
    }
}

/// Who a client turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its name; `None`: anybody. A session belongs to this name.
    pub user: Option<Box<str>>,
}

impl Identity {
    /// Of a user who has proven to be one.
    pub fn of_user(user: impl Into<Box<str>>) -> Identity {
        Identity {
            user: Some(user.into()),
        }
    }
}

/// What the shell has to find out: whether somebody may call itself so. Answered with
/// [`Event::AuthDecided`](crate::shard::Event::AuthDecided), once.
#[derive(Clone)]
pub struct AuthRequest {
    /// The connection that waits for the answer.
    pub conn: ConnId,
    /// Who is at its other end.
    pub peer: PeerIdentity,
    /// What it speaks.
    pub version: Version,
    /// Empty: the broker will choose one.
    pub client_id: Box<str>,
    /// Who it claims to be.
    pub user_name: Option<Box<str>>,
    /// How it proves that; any bytes.
    pub password: Option<Box<[u8]>>,
}

/// The answer to an [`AuthRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is who it says.
    Granted(Identity),
    /// It is not.
    Denied,
    /// Nobody can tell at the moment: too many ask, or whoever knows does not answer. Not let in.
    Unavailable,
}

impl fmt::Debug for AuthRequest {
    // Passwords belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("conn", &self.conn)
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}
