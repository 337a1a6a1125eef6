//! Bounds that no setting changes, and that a client, or a server that the broker calls, can reach.
//! `docs/limits.md` lists them.
//!
//! Not here: the bounds set by settings (`ringmq_core::limits`), and bounds that are invisible
//! outside.

use ringmq_core::auth::SCRAM_FIRST_SIZE_MAX;
use ringmq_core::loss::Cut;
use ringmq_core::session::HeldAnswers;
use ringmq_core::shard::{Cases, Notes, Summary, TraceOrder, Traces};
use ringmq_core::topic::TopicFilter;
use ringmq_core::trace_set::TraceSet;

use crate::admin::{
    CONNECTIONS_MAX, HEAD_SIZE_MAX, HEAD_TIME_MAX, KEPT_MAX, LIMIT_MAX, LISTINGS_MAX,
    ORDER_SIZE_MAX, SPAN_MAX, STREAMS_MAX,
};
use crate::admission::UNWELCOME_MAX;
use crate::auth::http::BODY_SIZE_MAX;
use crate::auth::jwt::KEYS_MAX;
use crate::auth::{ARRIVING_MAX, TRIES_MAX};
use crate::reactor::HANDSHAKES_MAX;
use crate::transport::bounds;

/// A bound that no setting changes.
#[derive(Clone, Copy, Debug)]
pub struct FixedBound {
    /// The constant, behind the name of its module.
    pub name: &'static str,
    /// How much.
    pub value: u64,
    /// Of what.
    pub what: &'static str,
    /// What happens beyond it.
    pub beyond: &'static str,
}

const fn bound(
    name: &'static str,
    value: u64,
    what: &'static str,
    beyond: &'static str,
) -> FixedBound {
    FixedBound {
        name,
        value,
        what,
        beyond,
    }
}

/// In the order of a connection's life.
pub const FIXED_BOUNDS: &[FixedBound] = &[
    bound(
        "admission::UNWELCOME_MAX",
        UNWELCOME_MAX as u64,
        "Connections beyond `connections_max` that wait for their refusal, all shards together",
        "closed at once",
    ),
    bound(
        "proxy::V1_SIZE_MAX",
        bounds::PROXY_V1_SIZE_MAX as u64,
        "Bytes of a PROXY header of version 1",
        "closed",
    ),
    bound(
        "proxy::HEADER_SIZE_MAX",
        bounds::PROXY_SIZE_MAX as u64,
        "Bytes of a PROXY header of version 2",
        "closed",
    ),
    bound(
        "tls::HANDSHAKE_SIZE_MAX",
        bounds::HANDSHAKE_SIZE_MAX as u64,
        "Bytes that a client sends in a TLS handshake, certificates included",
        "closed",
    ),
    bound(
        "tls::RECORD_SIZE_MAX",
        bounds::RECORD_SIZE_MAX as u64,
        "Bytes of a TLS record that a client sends (RFC 8446, section 5.2)",
        "alert, closed",
    ),
    bound(
        "tls::PART_SIZE_MAX",
        bounds::PART_SIZE_MAX as u64,
        "Bytes of a TLS message after the handshake",
        "closed",
    ),
    bound(
        "terms::SESSIONS_MAX",
        bounds::SESSIONS_MAX as u64,
        "TLS 1.2 sessions of a listener that can be resumed by session ID (by ticket: no limit)",
        "a full handshake",
    ),
    bound(
        "layers::HANDSHAKES_MAX",
        HANDSHAKES_MAX as u64,
        "TLS handshakes that a shard works on in one turn",
        "wait for the next turn",
    ),
    bound(
        "handshake::HEADER_SIZE_MAX",
        bounds::REQUEST_SIZE_MAX as u64,
        "Bytes of the header of a WebSocket request, cookies included",
        "HTTP 431",
    ),
    bound(
        "handshake::FIELDS_MAX",
        bounds::FIELDS_MAX as u64,
        "Header fields of a WebSocket request",
        "HTTP 431",
    ),
    bound(
        "frames::CONTROL_SIZE_MAX",
        bounds::CONTROL_SIZE_MAX as u64,
        "Bytes in a WebSocket ping, pong or close (RFC 6455, section 5.5)",
        "closed with 1002",
    ),
    bound(
        "frames::PINGS_MAX",
        bounds::PINGS_MAX as u64,
        "WebSocket pings of a client per second",
        "closed with 1008",
    ),
    bound(
        "transport::PENDING_SIZE_MAX",
        bounds::PENDING_SIZE_MAX as u64,
        "Unread output of TLS and WebSocket themselves, in bytes: handshakes, pongs, alerts",
        "closed",
    ),
    bound(
        "service::ARRIVING_MAX",
        ARRIVING_MAX as u64,
        "Logins on their way from the shards to the threads that check them",
        "CONNACK 0x88",
    ),
    bound(
        "scram::CLIENT_FIRST_SIZE_MAX",
        SCRAM_FIRST_SIZE_MAX as u64,
        "Bytes of the first message of a SCRAM exchange",
        "CONNACK 0x87",
    ),
    bound(
        "jwt::TRIES_MAX",
        TRIES_MAX as u64,
        "Unnamed keys (without `kid`) that are tried for one token",
        "CONNACK 0x87",
    ),
    bound(
        "keys::KEYS_MAX",
        KEYS_MAX as u64,
        "Keys of a JWK Set",
        "the set is rejected",
    ),
    bound(
        "http::BODY_SIZE_MAX",
        BODY_SIZE_MAX,
        "Bytes of the response of a hook, or of a JWK Set from a URL",
        "counts as a failure",
    ),
    bound(
        "filter::PLUS_LEVELS_MAX",
        TopicFilter::PLUS_LEVELS_MAX as u64,
        "`+` levels in a topic filter",
        "SUBACK 0x8F",
    ),
    bound(
        "held::PACKETS_MAX",
        HeldAnswers::PACKETS_MAX as u64,
        "Answers of a connection that wait for the disk, or 256 KiB of them",
        "not read until most of them have left",
    ),
    bound(
        "server::CONNECTIONS_MAX",
        CONNECTIONS_MAX as u64,
        "Connections to each address of the control plane",
        "accepted later",
    ),
    bound(
        "server::HEAD_SIZE_MAX",
        HEAD_SIZE_MAX as u64,
        "Bytes of the head of a request to the control plane",
        "status 431",
    ),
    bound(
        "server::BODY_SIZE_MAX",
        ORDER_SIZE_MAX as u64,
        "Bytes of the body of a request to the control plane",
        "status 413",
    ),
    bound(
        "server::HEAD_TIME_MAX",
        HEAD_TIME_MAX.as_secs(),
        "Seconds for the head of a request to the control plane, also between two requests",
        "closed",
    ),
    bound(
        "live::STREAMS_MAX",
        STREAMS_MAX as u64,
        "Readers of `/api/v1/live`: pages of browsers, mostly",
        "status 503",
    ),
    bound(
        "asker::LISTINGS_MAX",
        LISTINGS_MAX as u64,
        "Lists of clients that the control plane makes at once",
        "status 503",
    ),
    bound(
        "listing::LIMIT_MAX",
        LIMIT_MAX as u64,
        "Clients in one answer of the control plane, unless it streams lines",
        "the rest comes by cursor",
    ),
    bound(
        "trace_set::TRACES_MAX",
        TraceSet::TRACES_MAX as u64,
        "Traces at once",
        "status 409",
    ),
    bound(
        "traces::SPAN_MAX",
        SPAN_MAX.as_secs(),
        "Seconds of a trace",
        "status 422",
    ),
    bound(
        "trace::PAYLOAD_SIZE_MAX",
        TraceOrder::PAYLOAD_SIZE_MAX as u64,
        "Bytes of a payload in a trace",
        "status 422",
    ),
    bound(
        "traces::EVENTS_MAX",
        Traces::EVENTS_MAX as u64,
        "Events of traces that wait in a shard, for a tenth of a second",
        "left out, and counted",
    ),
    bound(
        "traces::KEPT_MAX",
        KEPT_MAX as u64,
        "Events that a trace remembers",
        "the oldest is forgotten",
    ),
    bound(
        "traffic::TOPICS_MAX",
        Summary::TOPICS_MAX as u64,
        "Topics whose messages a shard counts beside the 4,096 that it has at hand",
        "those with least are forgotten, and the error grows",
    ),
    bound(
        "cases::CASES_MAX",
        Cases::CASES_MAX as u64,
        "Losses that a shard remembers one by one",
        "the oldest is forgotten",
    ),
    bound(
        "loss::CUT_SIZE_MAX",
        Cut::CUT_SIZE_MAX as u64,
        "Bytes of the topic, and of the client identifier, of a loss that is remembered",
        "cut",
    ),
    bound(
        "note::NOTES_MAX",
        Notes::NOTES_MAX as u64,
        "Lines of the connection log in one turn of a shard",
        "left out, and counted",
    ),
];
