//! Faults of a broker that are planted on the way between it and its clients, or in its shell, to
//! show that the oracle notices.

use std::time::Duration;

use crate::oracle::Oracle;
use crate::wire::{Connect, Delivery, Packet, Will};

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// One forward in fifty never arrives.
    DropForward,
    /// One forward in fifty arrives twice.
    RepeatForward,
    /// One message for a member of a group in fifty never arrives.
    DropShare,
    /// One message for a member of a group in fifty arrives twice.
    RepeatShare,
    /// A turn shows its answers first and its forwards last.
    FlushBackwards,
    /// Two neighbours in an inbox change places now and then.
    SwapMessages,
    /// A byte of output is lost now and then.
    DropOutput,
    /// Connections whose reads the shard has paused are read all the same.
    IgnorePause,
    /// Connections that the shard closes stay open.
    KeepOpen,
    /// The expiry interval does not count down.
    StaleExpiry,
    /// A message that has expired is sent.
    LateExpiry,
    /// Topic aliases of the broker are mixed up.
    WrongAlias,
    /// One message more is in flight than the client allows.
    OneMoreInFlight,
    /// The broker allows one message less than it says.
    OneLessAllowed,
    /// Wills do not wait for their delay.
    HastyWill,
    /// Wills wait for longer than their delay.
    LateWill,
    /// Wills are forgotten.
    LostWill,
    /// Wills are published although the client disconnected.
    StubbornWill,
    /// Silent clients are timed out too late.
    PatientKeepAlive,
    /// Clients are timed out too early.
    HastyKeepAlive,
    /// Deadlines are enforced before input that came in time is read.
    JudgeUnheard,
    /// The disk says that a write is durable when it is only written.
    AnswerBeforeSync,
    /// Names of files are not synced.
    NamesUnsynced,
    /// Segments go when the checkpoint that frees them is begun.
    HastyRemoval,
    /// What a start has read is not synced before it counts.
    ReadUnsynced,
    /// A mark becomes visible before what it speaks of.
    HastyMark,
    /// A mark is answered at once: receipts are recorded before other shards have the message.
    HastyReceipt,
    /// Checkpoints do not wait for receipts of what they let go of.
    HastyFooter,
    /// A start takes any wall clock at its word.
    TrustWallClock,
    /// A start retains nothing of a publish that a crash has interrupted.
    LoseRetains,
}

impl Sabotage {
    /// What the broker reads instead of a CONNECT.
    pub fn connect(self, connect: &mut Connect<'_>) {
        if self == Sabotage::OneMoreInFlight {
            connect.receive_maximum = connect.receive_maximum.map(|max| max.saturating_add(1));
        } else if self == Sabotage::PatientKeepAlive {
            connect.keep_alive_s *= 4;
        } else if self == Sabotage::HastyKeepAlive {
            connect.keep_alive_s = connect.keep_alive_s.min(1);
        }
    }

    /// What the broker reads instead of a will.
    pub fn will(self, will: &mut Will) {
        if self == Sabotage::HastyWill {
            will.delay_s = 0;
        } else if self == Sabotage::LateWill {
            will.delay_s = will.delay_s.saturating_add(1000);
        } else if self == Sabotage::LostWill {
            will.topic = "lost".to_owned();
        }
    }

    /// What the broker reads instead of the reason of a DISCONNECT.
    pub fn goodbye(self, reason: u8) -> u8 {
        if self == Sabotage::StubbornWill {
            4
        } else {
            reason
        }
    }

    /// What a client reads instead of a packet.
    pub fn packet(self, packet: &mut Packet, oracle: &Oracle) {
        match packet {
            Packet::Connack(connack) if self == Sabotage::OneLessAllowed => {
                connack.receive_maximum = connack.receive_maximum.saturating_add(1);
            }
            Packet::Publish(delivery) => self.delivery(delivery, oracle),
            Packet::Connack(_)
            | Packet::Ack { .. }
            | Packet::Suback { .. }
            | Packet::Unsuback { .. }
            | Packet::Pingresp
            | Packet::Disconnect { .. } => {}
        }
    }

    fn delivery(self, delivery: &mut Delivery, oracle: &Oracle) {
        if self == Sabotage::StaleExpiry {
            if let Some(message) = named(delivery) {
                delivery.expiry_s = delivery.expiry_s.and(oracle.message(message).expiry_s);
            }
        } else if self == Sabotage::LateExpiry {
            let later = delivery.encoded.by + Duration::from_secs(HOUR_S.into());
            (delivery.encoded.from, delivery.encoded.by) = (later, later);
            delivery.expiry_s = delivery.expiry_s.map(|s| s.saturating_sub(HOUR_S));
        } else if self == Sabotage::WrongAlias && delivery.topic.is_empty() {
            delivery.alias = delivery.alias.map(|alias| if alias == 1 { 2 } else { 1 });
        }
    }
}

/// The message that the payload names.
fn named(delivery: &Delivery) -> Option<usize> {
    let header = delivery.payload.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*header)).ok()
}

const HOUR_S: u32 = 3600;
