//! Reason codes of MQTT 5.0, and which packet of which side may carry which.
//!
//! MQTT 3.1 and 3.1.1 know only five CONNACK codes and one SUBACK failure:
//! [`ReasonCode::to_v3_connack`] and its reverse translate; nothing else may leak to such a client.

use std::fmt;

use super::kind::{Direction, PacketKind};

/// A reason code; the discriminant is the byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum ReasonCode {
    Success = 0x00,
    GrantedQos1 = 0x01,
    GrantedQos2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QosNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

use ReasonCode::*;

impl ReasonCode {
    /// 0x00 of a DISCONNECT.
    #[expect(non_upper_case_globals, reason = "another name of a variant")]
    pub const NormalDisconnection: ReasonCode = Success;
    /// 0x00 of a SUBACK.
    #[expect(non_upper_case_globals, reason = "another name of a variant")]
    pub const GrantedQos0: ReasonCode = Success;

    /// Every reason code of the standard, ascending.
    pub const ALL: [ReasonCode; 43] = [
        Success,
        GrantedQos1,
        GrantedQos2,
        DisconnectWithWill,
        NoMatchingSubscribers,
        NoSubscriptionExisted,
        ContinueAuthentication,
        ReAuthenticate,
        UnspecifiedError,
        MalformedPacket,
        ProtocolError,
        ImplementationSpecificError,
        UnsupportedProtocolVersion,
        ClientIdentifierNotValid,
        BadUserNameOrPassword,
        NotAuthorized,
        ServerUnavailable,
        ServerBusy,
        Banned,
        ServerShuttingDown,
        BadAuthenticationMethod,
        KeepAliveTimeout,
        SessionTakenOver,
        TopicFilterInvalid,
        TopicNameInvalid,
        PacketIdentifierInUse,
        PacketIdentifierNotFound,
        ReceiveMaximumExceeded,
        TopicAliasInvalid,
        PacketTooLarge,
        MessageRateTooHigh,
        QuotaExceeded,
        AdministrativeAction,
        PayloadFormatInvalid,
        RetainNotSupported,
        QosNotSupported,
        UseAnotherServer,
        ServerMoved,
        SharedSubscriptionsNotSupported,
        ConnectionRateExceeded,
        MaximumConnectTime,
        SubscriptionIdentifiersNotSupported,
        WildcardSubscriptionsNotSupported,
    ];

    /// `None` for a byte that the standard gives no meaning.
    pub const fn from_byte(byte: u8) -> Option<ReasonCode> {
        let index = match byte {
            0x00..=0x02 => byte,
            0x04 => 3,
            0x10 => 4,
            0x11 => 5,
            0x18 => 6,
            0x19 => 7,
            0x80..=0xA2 => byte - 0x80 + 8,
            _ => return None,
        };
        Some(ReasonCode::ALL[index as usize])
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// 0x80 and above: what was asked for did not happen.
    pub const fn is_error(self) -> bool {
        self.byte() >= 0x80
    }

    /// Whether a packet of this kind, sent by this side, may carry the code: the lists of
    /// [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1],
    /// [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1] and [MQTT-3.15.2-1].
    pub const fn allowed_in(self, kind: PacketKind, direction: Direction) -> bool {
        let from_server = matches!(direction, Direction::FromServer);
        match kind {
            PacketKind::Connack => from_server && self.allowed_in_connack(),
            PacketKind::Puback | PacketKind::Pubrec => self.allowed_in_puback(from_server),
            PacketKind::Pubrel | PacketKind::Pubcomp => {
                matches!(self, Success | PacketIdentifierNotFound)
            }
            PacketKind::Suback => from_server && self.allowed_in_suback(),
            PacketKind::Unsuback => from_server && self.allowed_in_unsuback(),
            PacketKind::Disconnect => self.allowed_in_disconnect(from_server),
            // The server ends the exchange, the client begins a new one.
            PacketKind::Auth => {
                matches!(self, ContinueAuthentication)
                    || (from_server && matches!(self, Success))
                    || (!from_server && matches!(self, ReAuthenticate))
            }
            PacketKind::Connect
            | PacketKind::Publish
            | PacketKind::Subscribe
            | PacketKind::Unsubscribe
            | PacketKind::Pingreq
            | PacketKind::Pingresp => false,
        }
    }

    const fn allowed_in_connack(self) -> bool {
        matches!(
            self,
            Success
                | UnspecifiedError
                | MalformedPacket
                | ProtocolError
                | ImplementationSpecificError
                | UnsupportedProtocolVersion
                | ClientIdentifierNotValid
                | BadUserNameOrPassword
                | NotAuthorized
                | ServerUnavailable
                | ServerBusy
                | Banned
                | BadAuthenticationMethod
                | TopicNameInvalid
                | PacketTooLarge
                | QuotaExceeded
                | PayloadFormatInvalid
                | RetainNotSupported
                | QosNotSupported
                | UseAnotherServer
                | ServerMoved
                | ConnectionRateExceeded
        )
    }

    const fn allowed_in_puback(self, from_server: bool) -> bool {
        // Only a server knows who subscribes.
        (from_server && matches!(self, NoMatchingSubscribers))
            || matches!(
                self,
                Success
                    | UnspecifiedError
                    | ImplementationSpecificError
                    | NotAuthorized
                    | TopicNameInvalid
                    | PacketIdentifierInUse
                    | QuotaExceeded
                    | PayloadFormatInvalid
            )
    }

    const fn allowed_in_suback(self) -> bool {
        matches!(
            self,
            Success
                | GrantedQos1
                | GrantedQos2
                | UnspecifiedError
                | ImplementationSpecificError
                | NotAuthorized
                | TopicFilterInvalid
                | PacketIdentifierInUse
                | QuotaExceeded
                | SharedSubscriptionsNotSupported
                | SubscriptionIdentifiersNotSupported
                | WildcardSubscriptionsNotSupported
        )
    }

    const fn allowed_in_unsuback(self) -> bool {
        matches!(
            self,
            Success
                | NoSubscriptionExisted
                | UnspecifiedError
                | ImplementationSpecificError
                | NotAuthorized
                | TopicFilterInvalid
                | PacketIdentifierInUse
        )
    }

    const fn allowed_in_disconnect(self, from_server: bool) -> bool {
        let from_both = matches!(
            self,
            Success
                | UnspecifiedError
                | MalformedPacket
                | ProtocolError
                | ImplementationSpecificError
                | TopicNameInvalid
                | ReceiveMaximumExceeded
                | TopicAliasInvalid
                | PacketTooLarge
                | MessageRateTooHigh
                | QuotaExceeded
                | AdministrativeAction
                | PayloadFormatInvalid
        );
        let from_server_only = matches!(
            self,
            NotAuthorized
                | ServerBusy
                | ServerShuttingDown
                | BadAuthenticationMethod
                | KeepAliveTimeout
                | SessionTakenOver
                | TopicFilterInvalid
                | RetainNotSupported
                | QosNotSupported
                | UseAnotherServer
                | ServerMoved
                | SharedSubscriptionsNotSupported
                | ConnectionRateExceeded
                | MaximumConnectTime
                | SubscriptionIdentifiersNotSupported
                | WildcardSubscriptionsNotSupported
        );
        from_both
            || (from_server && from_server_only)
            || (!from_server && matches!(self, DisconnectWithWill))
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1 that comes nearest; 3 (server unavailable)
    /// when none does.
    pub const fn to_v3_connack(self) -> u8 {
        if !self.is_error() {
            return 0;
        }
        match self {
            UnsupportedProtocolVersion => 1,
            ClientIdentifierNotValid => 2,
            BadUserNameOrPassword => 4,
            NotAuthorized | Banned => 5,
            // Any other failure may be temporary: the client may try again.
            _ => 3,
        }
    }

    /// Meaning of a CONNACK return code of MQTT 3.1 and 3.1.1; `None` for 6 and above.
    pub const fn from_v3_connack(code: u8) -> Option<ReasonCode> {
        match code {
            0 => Some(Success),
            1 => Some(UnsupportedProtocolVersion),
            2 => Some(ClientIdentifierNotValid),
            3 => Some(ServerUnavailable),
            4 => Some(BadUserNameOrPassword),
            5 => Some(NotAuthorized),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} (0x{:02X})", self.byte())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_codes_round_trip_through_their_bytes() {
        for byte in 0..=255u8 {
            if let Some(code) = ReasonCode::from_byte(byte) {
                assert_eq!(code.byte(), byte);
            }
        }
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_byte(code.byte()), Some(code));
        }
    }

    #[test]
    fn v3_return_codes_round_trip() {
        for code in 0..=5 {
            let reason = ReasonCode::from_v3_connack(code).unwrap();
            assert_eq!(reason.to_v3_connack(), code);
        }
        assert_eq!(ReasonCode::from_v3_connack(6), None);
        for reason in ReasonCode::ALL {
            assert!(reason.to_v3_connack() <= 5);
            assert_eq!(reason.to_v3_connack() == 0, !reason.is_error());
        }
    }

    /// The lists of the standard as bytes, written down a second time and apart from the code.
    #[test]
    fn each_packet_takes_only_the_reason_codes_of_its_table() {
        use Direction::{FromClient, FromServer};
        use PacketKind::*;
        let disconnect_both: &[u8] = &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
        ];
        let disconnect_client = [disconnect_both, &[0x04]].concat();
        let disconnect_server = [
            disconnect_both,
            &[
                0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0,
                0xA1, 0xA2,
            ],
        ]
        .concat();
        let rows: &[(PacketKind, Direction, &[u8])] = &[
            (
                Connack,
                FromServer,
                &[
                    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C,
                    0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
                ],
            ),
            (
                Puback,
                FromServer,
                &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
            ),
            (
                Pubrec,
                FromClient,
                &[0x00, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
            ),
            (Pubrel, FromClient, &[0x00, 0x92]),
            (Pubcomp, FromServer, &[0x00, 0x92]),
            (
                Suback,
                FromServer,
                &[
                    0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
                ],
            ),
            (
                Unsuback,
                FromServer,
                &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
            ),
            (Disconnect, FromClient, &disconnect_client),
            (Disconnect, FromServer, &disconnect_server),
            (Auth, FromClient, &[0x18, 0x19]),
            (Auth, FromServer, &[0x00, 0x18]),
            (Publish, FromServer, &[]),
            (Suback, FromClient, &[]),
        ];
        for (kind, direction, expected) in rows {
            for code in ReasonCode::ALL {
                assert_eq!(
                    code.allowed_in(*kind, *direction),
                    expected.contains(&code.byte()),
                    "{code} in {kind:?} {direction:?}"
                );
            }
        }
    }
}
