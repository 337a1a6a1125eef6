//! What cloud services accept, in numbers, with the pages that say so.

use ringmq_core::codec::Version;

use super::Service;

/// What a service looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Connections are made over TLS.
    Tls,
    /// With the name of the endpoint.
    Sni,
    /// On port 443, with the name of the protocol.
    Alpn,
    /// Clients say who they are: by certificate, token or password.
    Identity,
    /// Size and form of client ids.
    ClientId,
    /// One connection for each client id.
    Twice,
    /// Form of user names.
    User,
    /// Tokens end, and connections with them.
    Token,
    /// Version of MQTT.
    Protocol,
    /// The highest QoS.
    Qos,
    /// Size of payloads.
    Payload,
    /// Size, depth and form of topics.
    Topic,
    /// Number and form of filters.
    Filter,
    /// Messages per second of a connection.
    Rate,
    /// Bytes per second of a connection.
    Bandwidth,
    /// Messages without acknowledgement.
    Inflight,
    /// Longest keep alive.
    KeepAlive,
    /// Retained messages.
    Retain,
    /// How long sessions are kept.
    Session,
}

/// What a service accepts.
#[derive(Debug)]
pub struct Limits {
    /// As people call it.
    pub name: &'static str,
    /// What it refuses or throttles.
    pub rules: &'static [Rule],
    /// Where its limits stand.
    pub source: &'static str,
    /// Versions of MQTT.
    pub versions: &'static [Version],
    /// Bytes of a payload.
    pub payload_max: u64,
    /// Bytes of a topic.
    pub topic_size_max: usize,
    /// Slashes of a topic or filter; `None`: any number.
    pub slashes_max: Option<usize>,
    /// Bytes of a client id.
    pub client_id_size_max: usize,
    /// Filters of a SUBSCRIBE; `None`: any number.
    pub filters_max: Option<usize>,
    /// Messages per second that a connection may publish; `None`: no limit of its own.
    pub rate_max: Option<f64>,
    /// Payload bytes per second that a connection may publish.
    pub bandwidth_max: Option<f64>,
    /// Messages of QoS 1 without PUBACK.
    pub inflight_max: Option<u16>,
    /// Seconds.
    pub keep_alive_max_s: u16,
    /// Bytes of a retained payload; `None`: no limit of its own.
    pub retained_max: Option<u64>,
    /// Seconds that a session may be kept; `None`: no limit that a client sees.
    pub session_max_s: Option<u64>,
    /// Of an account, as it is at first.
    pub quota: Quota,
}

/// What a whole account or unit may do before it is throttled. Larger ones cost more.
#[derive(Debug)]
pub struct Quota {
    /// What it is the quota of.
    pub of: &'static str,
    /// Connections per second.
    pub connects_per_s: Option<f64>,
    /// Clients that are connected at the same time.
    pub clients: Option<u64>,
    /// Messages per second that clients publish.
    pub published_per_s: Option<f64>,
    /// Where it stands.
    pub source: &'static str,
}

impl Service {
    /// What it accepts.
    pub fn limits(self) -> &'static Limits {
        match self {
            Service::AwsIotCore => &AWS_IOT_CORE,
            Service::AzureIotHub => &AZURE_IOT_HUB,
            Service::AzureEventGrid => &AZURE_EVENT_GRID,
        }
    }
}

static AWS_IOT_CORE: Limits = Limits {
    name: "AWS IoT Core",
    rules: &[
        Rule::Tls,
        Rule::Sni,
        Rule::Alpn,
        Rule::Identity,
        Rule::ClientId,
        Rule::Twice,
        Rule::Qos,
        Rule::Payload,
        Rule::Topic,
        Rule::Filter,
        Rule::Rate,
        Rule::Bandwidth,
        Rule::Inflight,
        Rule::Session,
    ],
    source: AWS_PAGE,
    versions: &[Version::V311, Version::V5],
    payload_max: 128 * KIB,
    topic_size_max: 256,
    slashes_max: Some(7),
    client_id_size_max: 128,
    filters_max: Some(8),
    rate_max: Some(100.0),
    bandwidth_max: Some(512.0 * 1024.0),
    inflight_max: Some(100),
    // A longer one becomes this; it is not refused.
    keep_alive_max_s: 1200,
    retained_max: None,
    session_max_s: Some(7 * 24 * 3600),
    quota: Quota {
        of: "an account in a region",
        connects_per_s: Some(500.0),
        clients: Some(500_000),
        published_per_s: Some(20_000.0),
        source: AWS_PAGE,
    },
};

static AZURE_IOT_HUB: Limits = Limits {
    name: "Azure IoT Hub",
    rules: &[
        Rule::Tls,
        Rule::Sni,
        Rule::Identity,
        Rule::ClientId,
        Rule::Twice,
        Rule::User,
        Rule::Token,
        Rule::Protocol,
        Rule::Qos,
        Rule::Payload,
        Rule::Topic,
        Rule::Filter,
        Rule::KeepAlive,
    ],
    source: HUB_PAGE,
    versions: &[Version::V311],
    payload_max: 256 * KIB,
    topic_size_max: u16::MAX as usize,
    slashes_max: None,
    client_id_size_max: 128,
    filters_max: None,
    rate_max: None,
    bandwidth_max: None,
    inflight_max: None,
    keep_alive_max_s: 1177,
    retained_max: None,
    session_max_s: None,
    quota: Quota {
        of: "a hub with up to eight units S1",
        connects_per_s: Some(100.0),
        clients: Some(1_000_000),
        published_per_s: Some(100.0),
        source: HUB_QUOTAS,
    },
};

static AZURE_EVENT_GRID: Limits = Limits {
    name: "Azure Event Grid",
    rules: &[
        Rule::Tls,
        Rule::Sni,
        Rule::Identity,
        Rule::ClientId,
        Rule::Twice,
        Rule::Qos,
        Rule::Payload,
        Rule::Filter,
        Rule::Rate,
        Rule::Bandwidth,
        Rule::KeepAlive,
        Rule::Retain,
        Rule::Session,
    ],
    source: GRID_PAGE,
    versions: &[Version::V311, Version::V5],
    payload_max: 512 * KIB,
    topic_size_max: u16::MAX as usize,
    slashes_max: None,
    client_id_size_max: 128,
    filters_max: None,
    rate_max: Some(1000.0),
    bandwidth_max: Some(1024.0 * 1024.0),
    inflight_max: None,
    keep_alive_max_s: 1160,
    retained_max: Some(64 * KIB),
    session_max_s: Some(8 * 3600),
    quota: Quota {
        of: "a throughput unit",
        connects_per_s: None,
        clients: Some(10_000),
        published_per_s: Some(1000.0),
        source: GRID_QUOTAS,
    },
};

const KIB: u64 = 1024;
const AWS_PAGE: &str = "docs.aws.amazon.com/general/latest/gr/iot-core.html";
const HUB_PAGE: &str = "learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub";
const HUB_QUOTAS: &str = "learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling";
const GRID_PAGE: &str = "learn.microsoft.com/azure/event-grid/mqtt-support";
const GRID_QUOTAS: &str = "learn.microsoft.com/azure/event-grid/quotas-limits";
