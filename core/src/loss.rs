//! Why messages are lost, and what a shard remembers of it.
//!
//! Not here: refusals ([`Refusal`]), counting over all clients (`shard/sys/metrics.rs`).

use crate::refusal::Refusal;

/// Why a message did not reach a client that was subscribed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// QoS 0, and the client's socket takes bytes too slowly (`unsent_bytes_max`).
    SlowSocket,
    /// QoS 1 or 2, and the client's queue is full (`queued_messages_max`, `queued_bytes_max`).
    QueueFull,
    /// Larger than the client's Maximum Packet Size [MQTT-3.1.2-25].
    PacketTooLarge,
    /// Its expiry passed before it was sent [MQTT-3.3.2-5].
    Expired,
    /// The retained store is full (`retained_messages_max`, `retained_bytes_max`).
    RetainedFull,
    /// Every member of a shared subscription was away (`share_queued_while_away`), or left while
    /// the message went from shard to shard.
    NoMember,
    /// QoS 1 or 2, and all clients of the shard together keep as much as they may
    /// (`total_queued_messages_max`, `total_queued_bytes_max`).
    ShardFull,
    /// It waited, and the rules that hold by now do not let the client have it.
    Denied,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 8;
    /// All of them, in the order of [`Metrics::dropped`].
    pub const ALL: [DropReason; DropReason::COUNT] = [
        DropReason::SlowSocket,
        DropReason::QueueFull,
        DropReason::PacketTooLarge,
        DropReason::Expired,
        DropReason::RetainedFull,
        DropReason::NoMember,
        DropReason::ShardFull,
        DropReason::Denied,
    ];

    /// Its name in topics and logs.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::SlowSocket => "slow_socket",
            DropReason::QueueFull => "queue_full",
            DropReason::PacketTooLarge => "packet_too_large",
            DropReason::Expired => "expired",
            DropReason::RetainedFull => "retained_full",
            DropReason::NoMember => "no_member",
            DropReason::ShardFull => "shard_full",
            DropReason::Denied => "denied",
        }
    }
}

/// What was lost, or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A message did not reach a subscriber.
    Dropped(DropReason),
    /// Something that a client wanted was refused.
    Refused(Refusal),
}

impl Loss {
    /// How many there are.
    pub const COUNT: usize = DropReason::COUNT + Refusal::COUNT;

    /// All of them, in the order of their indices.
    pub fn all() -> impl Iterator<Item = Loss> {
        let dropped = DropReason::ALL.into_iter().map(Loss::Dropped);
        dropped.chain(Refusal::ALL.into_iter().map(Loss::Refused))
    }

    /// 0-based position among all.
    pub fn index(self) -> usize {
        match self {
            Loss::Dropped(reason) => reason as usize,
            Loss::Refused(refusal) => DropReason::COUNT + refusal as usize,
        }
    }

    /// The name of the reason.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Dropped(reason) => reason.name(),
            Loss::Refused(refusal) => refusal.name(),
        }
    }
}

impl Loss {
    /// Whether there is a reason of this name. A loss and a refusal may share one.
    pub fn is_reason(name: &str) -> bool {
        Loss::all().any(|loss| loss.name() == name)
    }
}

impl From<DropReason> for Loss {
    fn from(reason: DropReason) -> Loss {
        Loss::Dropped(reason)
    }
}

/// The bound that was reached, and how much it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The name of the setting, or of what the client has stated.
    pub name: &'static str,
    /// How much.
    pub max: u64,
}

/// The beginning of a text, in a place of a fixed size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    size: u8,
    bytes: [u8; Cut::CUT_SIZE_MAX],
}

impl Cut {
    /// Bytes that are kept.
    pub const CUT_SIZE_MAX: usize = 64;

    /// The beginning of a text.
    pub fn of(text: &[u8]) -> Cut {
        let size = text.len().min(Cut::CUT_SIZE_MAX);
        let mut bytes = [0; Cut::CUT_SIZE_MAX];
        bytes[..size].copy_from_slice(&text[..size]);
        Cut {
            size: size as u8,
            bytes,
        }
    }

    /// What is kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }
}

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_index_and_a_name() {
        assert_eq!(Loss::all().count(), Loss::COUNT);
        for (index, loss) in Loss::all().enumerate() {
            assert_eq!(loss.index(), index);
            assert!(Loss::is_reason(loss.name()));
        }
        assert!(!Loss::is_reason("nothing"));
    }

    #[test]
    fn the_beginning_of_a_text_is_kept() {
        assert_eq!(Cut::of(b"a/b").as_bytes(), b"a/b");
        assert_eq!(Cut::of(&[b'x'; 1000]).as_bytes(), [b'x'; Cut::CUT_SIZE_MAX]);
    }
}
