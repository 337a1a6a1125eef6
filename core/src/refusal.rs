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
        /// A rule or a bound that stood against what a client wanted.
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
    // Connections that are not let in.
    /// The first bytes are no CONNECT, or one that cannot be read.
    ConnectMalformed, "connect_malformed", MalformedPacket, "malformed CONNECT";
    /// No whole CONNECT in time (`connect_deadline`).
    ConnectDeadline, "connect_deadline", MaximumConnectTime, "no CONNECT before the deadline";
    /// Protocol level 6, say.
    ProtocolVersion, "protocol_version", UnsupportedProtocolVersion,
        "this broker speaks MQTT 3.1, 3.1.1 and 5.0";
    /// Empty where it may not be, or longer than `client_id_size_max`.
    ClientId, "client_id", ClientIdentifierNotValid,
        "the client identifier is too long, or empty where one is required";
    /// A method that the broker does not know.
    AuthenticationMethod, "authentication_method", BadAuthenticationMethod,
        "this authentication method is not supported";
    /// Nobody may come in without a name.
    AnonymousConnect, "anonymous", NotAuthorized, "authentication required";
    /// The user name or the password is wrong.
    BadPassword, "bad_password", BadUserNameOrPassword, "wrong user name or password";
    /// The proof of an authentication method is wrong.
    BadProof, "bad_proof", NotAuthorized, "authentication failed";
    /// What claims to be a token is none: its size, its form, what stands in it twice.
    TokenMalformed, "token_malformed", NotAuthorized, TOKEN_TEXT;
    /// No key for it: its algorithm is not that of the key, or nobody knows the key.
    TokenKey, "token_key", NotAuthorized, TOKEN_TEXT;
    /// The signature is not that of the key.
    TokenSignature, "token_signature", NotAuthorized, TOKEN_TEXT;
    /// Its time is over.
    TokenExpired, "token_expired", NotAuthorized, TOKEN_TEXT;
    /// Its time has not come, or it is for somebody else's server, or a claim is missing.
    TokenClaims, "token_claims", NotAuthorized, TOKEN_TEXT;
    /// It is for another client or user.
    TokenClient, "token_client", NotAuthorized, TOKEN_TEXT;
    /// Who knows the users does not answer.
    AuthenticationDown, "authentication_down", ServerUnavailable, "authentication backend unavailable";
    /// Who gives clients their rules has none for this one.
    NoRules, "no_rules", NotAuthorized, "the client has no permissions on this broker";
    /// The session with this client identifier belongs to another user.
    OtherUser, "other_user", ClientIdentifierNotValid, "the client identifier belongs to another user";
    /// The will topic is not a topic name, or larger than `topic_size_max` or `topic_levels_max`.
    WillTopic, "will_topic", TopicNameInvalid, "invalid will topic, or too long or too deep";
    /// `server_redirect` is `temporarily`.
    Redirected, "redirected", UseAnotherServer, "temporarily, use another server";
    /// `server_redirect` is `permanently`.
    Moved, "moved", ServerMoved, "the broker has moved to another server";
    /// As many connections as `connections_max`.
    ConnectionsFull, "connections_full", QuotaExceeded, "connection limit reached";
    /// As many connections of one address as `connections_per_address_max`.
    AddressFull, "address_full", QuotaExceeded, "connection limit of this address reached";
    /// Above `connect_rate_per_address_max`.
    AddressRate, "address_rate", ConnectionRateExceeded, "connection rate limit of this address exceeded";
    /// The rules do not let the client publish on the will topic: at CONNECT, or when the will was due.
    WillDenied, "will_denied", NotAuthorized, "the access rules deny publishing to the will topic";
    /// As many sessions as `sessions_max`.
    SessionsFull, "sessions_full", QuotaExceeded, "session limit reached";

    // Connections that are ended.
    /// Bytes that are no packet.
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
    /// Packets that have arrived in part take more than `partial_bytes_max`.
    PartialsFull, "partials_full", QuotaExceeded, "the memory for incomplete packets is used up";
    /// The answer would be larger than the client's Maximum Packet Size.
    AnswerTooLarge, "answer_too_large", PacketTooLarge,
        "the response would exceed the Maximum Packet Size of the client";
    /// Silent for one and a half times the keep alive.
    KeepAlive, "keep_alive", KeepAliveTimeout, "nothing received within 1.5 times the keep alive";
    /// Who knows the users does not answer to a client that proves itself anew.
    ReauthenticationDown, "reauthentication_down", ServerBusy,
        "authentication backend unavailable";
    /// The time of what the client has proven is over, of its token, say.
    CredentialsExpired, "credentials_expired", NotAuthorized,
        "credentials expired";
    /// The rules of the client have ended, and nobody has said how they go on.
    RulesEnded, "rules_ended", NotAuthorized, "access rules expired and could not be renewed";
    /// The user is none any more, or has another password.
    Revoked, "revoked", NotAuthorized, "the client is no longer permitted to connect";
    /// Another connection with the same client identifier.
    TakenOver, "taken_over", SessionTakenOver, "another connection uses this client identifier";
    /// The broker ends.
    ShuttingDown, "shutting_down", ServerShuttingDown, "the broker is shutting down";

    /// Above `message_rate_max` or `byte_rate_max`: slowed down, or closed.
    MessageRate, "message_rate", MessageRateTooHigh, "message or byte rate limit exceeded";
    /// More user properties than `user_properties_max`.
    UserProperties, "user_properties", QuotaExceeded, "too many user properties";
    /// Above `qos_max`.
    Qos, "qos", QosNotSupported, "the QoS is above the Maximum QoS of the broker";
    /// Not `retain_available`.
    Retain, "retain", RetainNotSupported, "retained messages are not available";

    // Messages that are not taken.
    /// Not a topic name, or larger than `topic_size_max` or `topic_levels_max`.
    TopicName, "topic_name", TopicNameInvalid, "invalid topic name, or too long or too deep";
    /// `$SYS` and the like.
    ReservedTopic, "reserved_topic", NotAuthorized, "only the broker publishes to this topic";
    /// The rules do not let the client publish on the topic.
    PublishDenied, "publish_denied", NotAuthorized, "the access rules deny publishing to this topic";
    /// The payload claims to be UTF-8 and is not.
    PayloadFormat, "payload_format", PayloadFormatInvalid, "the payload is declared as UTF-8 but is not";
    /// `retained_messages_max` or `retained_bytes_max`; subscribers got the message.
    RetainedFull, "retained_full", QuotaExceeded,
        "delivered, but not retained: limit of retained messages reached";

    // Subscriptions that are not made.
    /// Not a topic filter, or larger than `topic_size_max` or `topic_levels_max`.
    TopicFilter, "topic_filter", TopicFilterInvalid, "invalid topic filter, or too long or too deep";
    /// Not supported.
    SharedSubscription, "shared_subscription", SharedSubscriptionsNotSupported,
        "shared subscriptions are not available";
    /// Not `wildcards_available`.
    Wildcard, "wildcard", WildcardSubscriptionsNotSupported, "subscriptions with wildcards are not available";
    /// The rules let the client receive nothing of what the filter matches; or, of a shared
    /// subscription, not all.
    SubscribeDenied, "subscribe_denied", NotAuthorized, "the access rules deny receiving on these topics";
    /// As many subscriptions as `subscriptions_max`.
    SubscriptionsFull, "subscriptions_full", QuotaExceeded, "subscription limit of the client reached";
}

impl Refusal {
    /// Another broker may well have what this one lacks.
    pub const fn is_for_want_of_room(self) -> bool {
        matches!(self, Refusal::ConnectionsFull | Refusal::SessionsFull)
    }
}

/// The same for all: what is wrong with a token is for the log, not for who tries one.
const TOKEN_TEXT: &str = "the token is not accepted";

/// Why a connection is ended [MQTT-4.13.1-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// What the client did stands against a rule.
    Rule(Refusal),
    /// What the client sent is no packet.
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
                // Integer input: whatever else the codec may say in time.
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
