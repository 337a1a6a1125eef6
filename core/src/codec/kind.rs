//! Kinds of packets, and which side sends them.

/// The kind of a packet; the discriminant is its type number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// Which side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Sent by a client, received by a broker.
    FromClient,
    /// Sent by a broker, received by a client.
    FromServer,
}

impl PacketKind {
    /// All kinds, by type number.
    pub const ALL: [PacketKind; 15] = [
        PacketKind::Connect,
        PacketKind::Connack,
        PacketKind::Publish,
        PacketKind::Puback,
        PacketKind::Pubrec,
        PacketKind::Pubrel,
        PacketKind::Pubcomp,
        PacketKind::Subscribe,
        PacketKind::Suback,
        PacketKind::Unsubscribe,
        PacketKind::Unsuback,
        PacketKind::Pingreq,
        PacketKind::Pingresp,
        PacketKind::Disconnect,
        PacketKind::Auth,
    ];

    /// The kind of a type number; `None` for 0 and above 15.
    #[inline]
    pub const fn from_number(number: u8) -> Option<PacketKind> {
        match number {
            1..=15 => Some(PacketKind::ALL[number as usize - 1]),
            _ => None,
        }
    }

    /// The first byte of a packet of this kind; `flags < 16`.
    #[inline]
    pub const fn first_byte(self, flags: u8) -> u8 {
        ((self as u8) << 4) | flags
    }

    /// Whether this side sends packets of this kind in some version.
    #[inline]
    pub const fn sent_by(self, direction: Direction) -> bool {
        match self {
            PacketKind::Connect
            | PacketKind::Subscribe
            | PacketKind::Unsubscribe
            | PacketKind::Pingreq => matches!(direction, Direction::FromClient),
            PacketKind::Connack
            | PacketKind::Suback
            | PacketKind::Unsuback
            | PacketKind::Pingresp => matches!(direction, Direction::FromServer),
            PacketKind::Publish
            | PacketKind::Puback
            | PacketKind::Pubrec
            | PacketKind::Pubrel
            | PacketKind::Pubcomp
            | PacketKind::Disconnect
            | PacketKind::Auth => true,
        }
    }
}
