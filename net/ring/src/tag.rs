//! The user data of an operation: what it is, and whom it is for.
//!
//! The kernel gives it back with each completion and looks at it only to find what a cancel is for.

use ringmq_core::ids::ConnId;

/// What an operation is, in the top byte of its user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Accept = 1,
    Receive,
    Send,
    Cancel,
    Close,
    Timer,
    TimerUpdate,
    /// Somebody signalled the wake-up descriptor.
    Signal,
    /// The completion says nothing.
    Quiet,
    Connect,
    Write,
    Sync,
}

impl Tag {
    /// The user data of an operation of this kind.
    pub(crate) fn with(self, rest: u64) -> u64 {
        assert!(rest < 1 << TAG_SHIFT, "the rest has 56 bits");
        (self as u64) << TAG_SHIFT | rest
    }

    /// Takes user data apart.
    pub(crate) fn split(user_data: u64) -> (Tag, u64) {
        let tag = match user_data >> TAG_SHIFT {
            1 => Tag::Accept,
            2 => Tag::Receive,
            3 => Tag::Send,
            4 => Tag::Cancel,
            5 => Tag::Close,
            6 => Tag::Timer,
            7 => Tag::TimerUpdate,
            8 => Tag::Signal,
            9 => Tag::Quiet,
            10 => Tag::Connect,
            11 => Tag::Write,
            12 => Tag::Sync,
            other => panic!("a completion of an unknown kind: {other}"),
        };
        (tag, user_data & ((1 << TAG_SHIFT) - 1))
    }
}

/// 24 bits of index above 32 bits of generation.
pub(crate) fn pack(conn: ConnId) -> u64 {
    u64::from(conn.index) << 32 | u64::from(conn.generation)
}

pub(crate) fn unpack(rest: u64) -> ConnId {
    ConnId {
        index: (rest >> 32) as u32,
        generation: rest as u32,
    }
}

const TAG_SHIFT: u32 = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_decodes_to_what_was_encoded() {
        let conn = ConnId {
            index: (1 << 24) - 1,
            generation: u32::MAX,
        };
        for number in 1..=12 {
            let (tag, rest) = Tag::split(number << TAG_SHIFT | pack(conn));
            assert_eq!((tag as u64, unpack(rest)), (number, conn));
            assert_eq!(tag.with(rest), number << TAG_SHIFT | pack(conn));
        }
    }
}
