//! What a shard refuses: for each rule and bound, the reason code, the name of its counter, and a text
//! for people.
//!
//! Invariant: names are topic levels of `$SYS` and parts of metric names: lower case and `_` only.
//!
//! Not here: messages that a subscriber misses ([`DropReason`](crate::shard::DropReason)), and malformed
//! packets ([`DecodeError`]).

use std::borrow::Cow;

use crate::codec::{DecodeError, ReasonCode};

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $code:ident, $text:expr;)*) => {
        /// The rule or bound behind a refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
        }

        impl Refusal {
            /// All of them, in the order of [`Metrics::refused`](crate::shard::Metrics::refused).
            pub const ALL: [Refusal; Refusal::COUNT] = [$(Refusal::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = [$($name,)*].len();

            /// Its name in topics and logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Refusal::$variant => $name,)*
                }
            }

            /// The reason code that a client of 5.0 is told.
            pub const fn code(self) -> ReasonCode {
                match self {
                    $(Refusal::$variant => ReasonCode::$code,)*
                }
            }

            /// The Reason String that a client of 5.0 is told.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Refusal::$variant => $text,)*
                }
            }
        }
    };
}

refusals! {
    // Connections that are refused.
    /// The first bytes are not a CONNECT, or a malformed one.
    ConnectMalformed, "connect_malformed", MalformedPacket, "malformed CONNECT";
    /// The first bytes are a TLS ClientHello, and the listener has no TLS.
    TlsHandshake, "tls_handshake", MalformedPacket, "a TLS handshake at a listener without TLS";
    /// The first bytes are an HTTP request, and the listener speaks MQTT.
    HttpRequest, "http_request", MalformedPacket, "an HTTP request at a listener for MQTT";
    /// No complete CONNECT before `connect_deadline`.
    ConnectDeadline, "connect_deadline", MaximumConnectTime, "no CONNECT before the deadline";
    /// For example protocol level 6.
    ProtocolVersion, "protocol_version", UnsupportedProtocolVersion,
        "this broker speaks MQTT 3.1, 3.1.1 and 5.0";
    /// Empty where one is required, or longer than `client_id_size_max`.
    ClientId, "client_id", ClientIdentifierNotValid,
        "the client identifier is too long, or empty where one is required";
    /// An unknown authentication method.
    AuthenticationMethod, "authentication_method", BadAuthenticationMethod,
        "this authentication method is not supported";
    /// Anonymous clients are not admitted.
    AnonymousConnect, "anonymous", NotAuthorized, "authentication required";
    /// The user name or the password is wrong.
    BadPassword, "bad_password", BadUserNameOrPassword, "wrong user name or password";
    /// The exchange of an authentication method failed.
    BadProof, "bad_proof", NotAuthorized, "authentication failed";
    /// Not a valid token: its size, its form, a duplicate member.
    TokenMalformed, "token_malformed", NotAuthorized, TOKEN_TEXT;
    /// No key for it: the key is unknown, or has another algorithm.
    TokenKey, "token_key", NotAuthorized, TOKEN_TEXT;
    /// The signature does not match the key.
    TokenSignature, "token_signature", NotAuthorized, TOKEN_TEXT;
    /// It has expired.
    TokenExpired, "token_expired", NotAuthorized, TOKEN_TEXT;
    /// It is not valid yet, it is for another server, or a claim is missing.
    TokenClaims, "token_claims", NotAuthorized, TOKEN_TEXT;
    /// It is for another client or user.
    TokenClient, "token_client", NotAuthorized, TOKEN_TEXT;
    /// An authentication service does not respond.
    AuthenticationDown, "authentication_down", ServerUnavailable, "authentication backend unavailable";
    /// The authorization service has no rules for this client.
    NoRules, "no_rules", NotAuthorized, "the client has no permissions on this broker";
    /// The session with this client identifier belongs to another user.
    OtherUser, "other_user", ClientIdentifierNotValid, "the client identifier belongs to another user";
    /// The will topic is not a topic name, or larger than `topic_size_max` or `topic_levels_max`.
    WillTopic, "will_topic", TopicNameInvalid, "invalid will topic, or too long or too deep";
    /// `server_redirect` is `temporarily`.
    Redirected, "redirected", UseAnotherServer, "temporarily, use another server";
    /// `server_redirect` is `permanently`.
    Moved, "moved", ServerMoved, "the broker has moved to another server";
    /// `connections_max` reached.
    ConnectionsFull, "connections_full", QuotaExceeded, "connection limit reached";
    /// `connections_per_address_max` reached.
    AddressFull, "address_full", QuotaExceeded, "connection limit of this address reached";
    /// Above `connect_rate_per_address_max`.
    AddressRate, "address_rate", ConnectionRateExceeded, "connection rate limit of this address exceeded";
    /// The rules do not let the client publish on the will topic: at CONNECT, or when the will was due.
    WillDenied, "will_denied", NotAuthorized, "the access rules deny publishing to the will topic";
    /// `sessions_max` reached.
    SessionsFull, "sessions_full", QuotaExceeded, "session limit reached";
    /// The disk of the data directory is almost full: a session or a message that would be stored.
    DiskFull, "disk_full", QuotaExceeded, "the disk of the broker is almost full";

    // Connections that are closed.
    /// Bytes that are not a packet.
    Malformed, "malformed", MalformedPacket, "malformed packet";
    /// A packet that the protocol does not allow here.
    Protocol, "protocol_error", ProtocolError, "the protocol does not allow this packet here";
    /// Larger than `packet_size_max`.
    PacketTooLarge, "packet_too_large", PacketTooLarge, "the packet exceeds the Maximum Packet Size of the broker";
    /// More unfinished QoS 2 messages than `receive_maximum`.
    ReceiveMaximum, "receive_maximum", ReceiveMaximumExceeded,
        "more unacknowledged messages than the Receive Maximum in CONNACK";
    /// Above `topic_alias_max`.
    TopicAlias, "topic_alias", TopicAliasInvalid, "the topic alias is above the Topic Alias Maximum";
    /// A topic alias that was never set.
    TopicAliasUnset, "topic_alias_unset", ProtocolError, "the topic alias was never set";
    /// Incomplete packets take more than `partial_bytes_max`.
    PartialsFull, "partials_full", QuotaExceeded, "the memory for incomplete packets is used up";
    /// The response would exceed the client's Maximum Packet Size.
    AnswerTooLarge, "answer_too_large", PacketTooLarge,
        "the response would exceed the Maximum Packet Size of the client";
    /// Silent for one and a half times the keep alive.
    KeepAlive, "keep_alive", KeepAliveTimeout, "nothing received within 1.5 times the keep alive";
    /// An authentication service does not respond to a re-authentication.
    ReauthenticationDown, "reauthentication_down", ServerBusy,
        "authentication backend unavailable";
    /// The client's credentials, such as a token, have expired.
    CredentialsExpired, "credentials_expired", NotAuthorized,
        "credentials expired";
    /// The client's rules have expired and were not renewed.
    RulesEnded, "rules_ended", NotAuthorized, "access rules expired and could not be renewed";
    /// The user was removed, or has another password.
    Revoked, "revoked", NotAuthorized, "the client is no longer permitted to connect";
    /// An operator has disconnected the client.
    Administrative, "administrative", AdministrativeAction, "disconnected by an operator";
    /// Another connection with the same client identifier.
    TakenOver, "taken_over", SessionTakenOver, "another connection uses this client identifier";
    /// An operator has the clients leave, one after the other.
    Draining, "draining", ServerShuttingDown, "the broker is about to shut down";
    /// The same, and there is another server for them.
    DrainingElsewhere, "draining_elsewhere", UseAnotherServer, "the broker is about to shut down: use another server";
    /// The broker stops.
    ShuttingDown, "shutting_down", ServerShuttingDown, "the broker is shutting down";
    /// What is to be kept cannot be stored any more: the broker stops.
    LogFailed, "log_failed", UnspecifiedError, "the broker can store nothing any more";

    /// Above `message_rate_max` or `byte_rate_max`: slowed down, or closed.
    MessageRate, "message_rate", MessageRateTooHigh, "message or byte rate limit exceeded";
    /// More user properties than `user_properties_max`.
    UserProperties, "user_properties", QuotaExceeded, "too many user properties";
    /// Above `qos_max`.
    Qos, "qos", QosNotSupported, "the QoS is above the Maximum QoS of the broker";
    /// Not `retain_available`.
    Retain, "retain", RetainNotSupported, "retained messages are not available";

    // Messages that are refused.
    /// Not a topic name, or larger than `topic_size_max` or `topic_levels_max`.
    TopicName, "topic_name", TopicNameInvalid, "invalid topic name, or too long or too deep";
    /// `$SYS` and other reserved topics.
    ReservedTopic, "reserved_topic", NotAuthorized, "only the broker publishes to this topic";
    /// The rules do not let the client publish on the topic.
    PublishDenied, "publish_denied", NotAuthorized, "the access rules deny publishing to this topic";
    /// The payload claims to be UTF-8 and is not.
    PayloadFormat, "payload_format", PayloadFormatInvalid, "the payload is declared as UTF-8 but is not";
    /// `retained_messages_max` or `retained_bytes_max`; subscribers got the message.
    RetainedFull, "retained_full", QuotaExceeded,
        "delivered, but not retained: limit of retained messages reached";

    // Subscriptions that are refused.
    /// Not a topic filter, or larger than `topic_size_max` or `topic_levels_max`.
    TopicFilter, "topic_filter", TopicFilterInvalid, "invalid topic filter, or too long or too deep";
    /// Not supported.
    SharedSubscription, "shared_subscription", SharedSubscriptionsNotSupported,
        "shared subscriptions are not available";
    /// Not `wildcards_available`.
    Wildcard, "wildcard", WildcardSubscriptionsNotSupported, "subscriptions with wildcards are not available";
    /// The access rules deny every topic that the filter matches or, for a shared subscription, some.
    SubscribeDenied, "subscribe_denied", NotAuthorized, "the access rules deny receiving on these topics";
    /// `subscriptions_max` reached.
    SubscriptionsFull, "subscriptions_full", QuotaExceeded, "subscription limit of the client reached";
}

impl Refusal {
    /// Another broker may have the capacity that this one lacks.
    pub const fn is_for_want_of_room(self) -> bool {
        matches!(
            self,
            Refusal::ConnectionsFull | Refusal::SessionsFull | Refusal::DiskFull
        )
    }
}

/// The same text for all: what is wrong with a token is for the log, not for the client.
const TOKEN_TEXT: &str = "the token is not accepted";

/// Why a connection is closed [MQTT-4.13.1-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The client broke a rule or exceeded a bound.
    Rule(Refusal),
    /// The client sent something that is not a packet.
    Bytes(DecodeError),
    /// The packet is not allowed here, for this reason.
    Protocol(&'static str),
}

impl Violation {
    /// What it is counted as.
    pub fn refusal(self) -> Refusal {
        match self {
            Violation::Rule(refusal) => refusal,
            Violation::Bytes(error) => match error.reason() {
                ReasonCode::PacketTooLarge => Refusal::PacketTooLarge,
                ReasonCode::MalformedPacket => Refusal::Malformed,
                // Any other reason that the codec may gain.
                _ => Refusal::Protocol,
            },
            Violation::Protocol(_) => Refusal::Protocol,
        }
    }

    /// The reason code that a client of 5.0 is told.
    pub fn code(self) -> ReasonCode {
        match self {
            Violation::Rule(refusal) => refusal.code(),
            Violation::Bytes(error) => error.reason(),
            Violation::Protocol(_) => ReasonCode::ProtocolError,
        }
    }

    /// The Reason String that a client of 5.0 is told.
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Violation::Rule(refusal) => refusal.text().into(),
            Violation::Bytes(error) => error.to_string().into(),
            Violation::Protocol(text) => text.into(),
        }
    }
}

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Violation {
        Violation::Bytes(error)
    }
}

impl From<Refusal> for Violation {
    fn from(refusal: Refusal) -> Violation {
        Violation::Rule(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::is_encodable;

    #[test]
    fn names_serve_as_topic_levels_and_metric_names_and_are_unique() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            let name = refusal.name();
            assert_eq!(refusal as usize, index);
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(is_encodable(refusal.text()));
            assert!(refusal.code().is_error());
            for other in &Refusal::ALL[..index] {
                assert_ne!(name, other.name());
            }
        }
    }
}
