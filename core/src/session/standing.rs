//! How ready a session is to take more messages.

/// How well a member can take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// No more may wait for it: it would lose what it is given, or something older.
    Full,
    /// Its client is away, and more may wait for it.
    Away,
    /// Its client is there, but something waits for it already: it is out of quota, or slow.
    Online,
    /// What it is given goes out at once.
    Ready,
}

impl Standing {
    /// How many of [`BORDERS`] it stands below: the part of the members that it is in.
    pub(crate) fn part(self) -> usize {
        Standing::Ready as usize - self as usize
    }
}
