//! What a shard refuses: each rule and bound with the reason code that answers, the name it is counted
//! by, and a sentence for people.
//!
//! Invariant: names are topic levels of `$SYS` and parts of metric names: lower case and `_` only.
//!
//! Not here: messages that miss a subscriber ([`DropReason`](crate::shard::DropReason)), and what bytes are
//! no packet ([`DecodeError`]).

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
    ConnectMalformed, "connect_malformed", MalformedPacket, "the CONNECT cannot be read";
    /// No whole CONNECT in time (`connect_deadline`).
    ConnectDeadline, "connect_deadline", MaximumConnectTime, "no CONNECT came in time";
    /// Protocol level 6, say.
    ProtocolVersion, "protocol_version", UnsupportedProtocolVersion,
        "this broker speaks MQTT 3.1, 3.1.1 and 5.0";
    /// Empty where it may not be, or longer than `client_id_size_max`.
    ClientId, "client_id", ClientIdentifierNotValid,
        "the client identifier is longer than allowed here, or empty where it may not be";
    /// A method that the broker does not know.
    AuthenticationMethod, "authentication_method", BadAuthenticationMethod,
        "this authentication method is not supported";
    /// Nobody may come in without a name.
    AnonymousConnect, "anonymous", NotAuthorized, "clients have to say who they are here";
    /// The user name or the password is wrong.
    BadPassword, "bad_password", BadUserNameOrPassword, "the user name or the password is wrong";
    /// The proof of an authentication method is wrong.
    BadProof, "bad_proof", NotAuthorized, "the proof of who the client is does not hold";
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
    AuthenticationDown, "authentication_down", ServerUnavailable, "nobody can tell at the moment who the client is";
    /// Who gives clients their rules has none for this one.
    NoRules, "no_rules", NotAuthorized, "the client has no rights here";
    /// The session with this client identifier belongs to another user.
    OtherUser, "other_user", ClientIdentifierNotValid, "this client identifier is in use by somebody else";
    /// The will topic is not a topic name, or larger than `topic_size_max` or `topic_levels_max`.
    WillTopic, "will_topic", TopicNameInvalid, "the will topic is not a topic name that is allowed here";
    /// `server_redirect` is `temporarily`.
    Redirected, "redirected", UseAnotherServer, "use another server for the time being";
    /// `server_redirect` is `permanently`.
    Moved, "moved", ServerMoved, "the broker has moved to another server";
    /// As many connections as `connections_max`.
    ConnectionsFull, "connections_full", QuotaExceeded, "the broker has as many connections as it may";
    /// As many connections of one address as `connections_per_address_max`.
    AddressFull, "address_full", QuotaExceeded, "there are as many connections from this address as there may be";
    /// Above `connect_rate_per_address_max`.
    AddressRate, "address_rate", ConnectionRateExceeded, "too many connections per second from this address";
    /// The rules do not let the client publish on the will topic: at CONNECT, or when the will was due.
    WillDenied, "will_denied", NotAuthorized, "the rules do not let the client publish on the will topic";
    /// As many sessions as `sessions_max`.
    SessionsFull, "sessions_full", QuotaExceeded, "the broker keeps as many sessions as it may";

    // Connections that are ended.
    /// Bytes that are no packet.
    Malformed, "malformed", MalformedPacket, "a packet cannot be read";
    /// A packet that the protocol does not allow here.
    Protocol, "protocol_error", ProtocolError, "a packet is not allowed by the protocol here";
    /// Larger than `packet_size_max`.
    PacketTooLarge, "packet_too_large", PacketTooLarge, "the packet is larger than the broker takes";
    /// More unfinished QoS 2 messages than `receive_maximum`.
    ReceiveMaximum, "receive_maximum", ReceiveMaximumExceeded,
        "more unacknowledged messages than the Receive Maximum of the CONNACK";
    /// Above `topic_alias_max`.
    TopicAlias, "topic_alias", TopicAliasInvalid, "the topic alias is above the Topic Alias Maximum";
    /// A topic alias that was never set.
    TopicAliasUnset, "topic_alias_unset", ProtocolError, "the topic alias was never set";
    /// Packets that have arrived in part take more than `partial_bytes_max`.
    PartialsFull, "partials_full", QuotaExceeded, "too many packets have arrived in part";
    /// The answer would be larger than the client's Maximum Packet Size.
    AnswerTooLarge, "answer_too_large", PacketTooLarge,
        "the answer would be larger than the Maximum Packet Size of the client";
    /// Silent for one and a half times the keep alive.
    KeepAlive, "keep_alive", KeepAliveTimeout, "nothing came within one and a half times the keep alive";
    /// Who knows the users does not answer to a client that proves itself anew.
    ReauthenticationDown, "reauthentication_down", ServerBusy,
        "nobody can tell at the moment who the client is";
    /// The time of what the client has proven is over, of its token, say.
    CredentialsExpired, "credentials_expired", NotAuthorized,
        "the time of what the client came in with is over";
    /// The rules of the client have ended, and nobody has said how they go on.
    RulesEnded, "rules_ended", NotAuthorized, "nobody can tell at the moment what the client may do";
    /// The user is none any more, or has another password.
    Revoked, "revoked", NotAuthorized, "the client would not be let in any more";
    /// Another connection with the same client identifier.
    TakenOver, "taken_over", SessionTakenOver, "another connection uses this client identifier";
    /// The broker ends.
    ShuttingDown, "shutting_down", ServerShuttingDown, "the broker is being stopped";

    /// Above `message_rate_max` or `byte_rate_max`: slowed down, or closed.
    MessageRate, "message_rate", MessageRateTooHigh, "more messages or bytes per second than allowed here";
    /// More user properties than `user_properties_max`.
    UserProperties, "user_properties", QuotaExceeded, "more user properties than allowed here";
    /// Above `qos_max`.
    Qos, "qos", QosNotSupported, "the QoS is above the Maximum QoS of the broker";
    /// Not `retain_available`.
    Retain, "retain", RetainNotSupported, "retained messages are not available";

    // Messages that are not taken.
    /// Not a topic name, or larger than `topic_size_max` or `topic_levels_max`.
    TopicName, "topic_name", TopicNameInvalid, "this is not a topic name that is allowed here";
    /// `$SYS` and the like.
    ReservedTopic, "reserved_topic", NotAuthorized, "only the broker itself publishes on this topic";
    /// The rules do not let the client publish on the topic.
    PublishDenied, "publish_denied", NotAuthorized, "the rules do not let the client publish on this topic";
    /// The payload claims to be UTF-8 and is not.
    PayloadFormat, "payload_format", PayloadFormatInvalid, "the payload is not the UTF-8 that it claims to be";
    /// `retained_messages_max` or `retained_bytes_max`; subscribers got the message.
    RetainedFull, "retained_full", QuotaExceeded,
        "subscribers got the message, but the broker keeps as many retained messages as it may";

    // Subscriptions that are not made.
    /// Not a topic filter, or larger than `topic_size_max` or `topic_levels_max`.
    TopicFilter, "topic_filter", TopicFilterInvalid, "this is not a topic filter that is allowed here";
    /// Not supported.
    SharedSubscription, "shared_subscription", SharedSubscriptionsNotSupported,
        "shared subscriptions are not available";
    /// Not `wildcards_available`.
    Wildcard, "wildcard", WildcardSubscriptionsNotSupported, "subscriptions with wildcards are not available";
    /// The rules let the client receive nothing of what the filter matches; or, of a shared
    /// subscription, not all.
    SubscribeDenied, "subscribe_denied", NotAuthorized, "the rules do not let the client receive on these topics";
    /// As many subscriptions as `subscriptions_max`.
    SubscriptionsFull, "subscriptions_full", QuotaExceeded, "the client has as many subscriptions as it may";
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
