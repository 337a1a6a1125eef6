//! Listeners as configured, and the layers of each, shared by the shards.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Announced, Network, Origins, PeerNews, TlsFiles, TlsProblem, TlsTerms, Transport};
use ringmq_certificates::is_usable;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP; port 0 means any free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// A listening socket that the service manager opened and passed under this name (`sd_listen_fds(3)`).
    Passed(String),
}

/// A listener as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where.
    pub endpoint: Endpoint,
    /// Proxies that connect to it, if they announce their clients with the PROXY protocol.
    pub proxy: Option<ProxyRules>,
    /// TLS.
    pub tls: Option<TlsFiles>,
    /// WebSocket: whose pages may connect.
    pub websocket: Option<Origins>,
}

/// What proxies are trusted with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyRules {
    /// Addresses of the proxies. Nobody else may connect, except on a Unix socket.
    pub trusted: Vec<Network>,
    /// Use the common name of the client certificate that the proxy has verified as user name.
    pub takes_common_name: bool,
}

impl ListenerConfig {
    /// MQTT and nothing else.
    pub fn plain(endpoint: Endpoint) -> ListenerConfig {
        ListenerConfig {
            endpoint,
            proxy: None,
            tls: None,
            websocket: None,
        }
    }
}

impl From<SocketAddr> for ListenerConfig {
    fn from(address: SocketAddr) -> ListenerConfig {
        ListenerConfig::plain(Endpoint::Tcp(address))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Passed(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl Endpoint {
    /// Its address, if it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Tcp(address) => Some(*address),
            Endpoint::Unix(_) | Endpoint::Passed(_) => None,
        }
    }
}

/// Whether the socket of an address is for IPv6 alone. `[::]` serves IPv4 as well, as it does with
/// other servers, unless another of the listeners has an IPv4 address of the same port.
pub fn is_ipv6_only(address: SocketAddr, all: impl IntoIterator<Item = SocketAddr>) -> bool {
    let is_beside = |other: SocketAddr| other.is_ipv4() && other.port() == address.port();
    let has_own_port = address.port() != 0;
    address.is_ipv6()
        && (!address.ip().is_unspecified() || has_own_port && all.into_iter().any(is_beside))
}

/// The layers of a listener.
#[derive(Debug)]
pub struct Stack {
    /// Name of the listener in messages.
    name: Arc<str>,
    pub(super) proxy: Option<ProxyRules>,
    pub(super) tls: Option<TlsListener>,
    pub(super) websocket: Option<Origins>,
}

/// The terms of a listener with TLS. Connections keep those that they began with, until a change
/// makes the shard recheck each.
#[derive(Debug)]
pub(super) struct TlsListener(ArcSwap<TlsTerms>);

impl TlsListener {
    pub(super) fn terms(&self) -> Arc<TlsTerms> {
        self.0.load_full()
    }
}

impl Stack {
    /// No layers: MQTT over TCP, or over a Unix socket.
    pub fn plain() -> Stack {
        Stack {
            name: Arc::default(),
            proxy: None,
            tls: None,
            websocket: None,
        }
    }

    /// The layers of a listener; reads the files of TLS.
    pub fn load(config: &ListenerConfig) -> Result<Stack, TlsProblem> {
        let terms = Stack::load_terms(config)?;
        let scheme = match (&config.tls, &config.websocket) {
            (None, None) => "",
            (Some(_), None) => "mqtts://",
            (None, Some(_)) => "ws://",
            (Some(_), Some(_)) => "wss://",
        };
        Ok(Stack {
            name: format!("{scheme}{}", config.endpoint).into(),
            proxy: config.proxy.clone(),
            tls: terms.map(|terms| TlsListener(ArcSwap::from_pointee(terms))),
            websocket: config.websocket.clone(),
        })
    }

    /// The terms of TLS, if the listener has it.
    pub(crate) fn load_terms(config: &ListenerConfig) -> Result<Option<TlsTerms>, TlsProblem> {
        let protocols: &[&[u8]] = match config.websocket {
            Some(_) => &[b"http/1.1"],
            None => &[b"mqtt"],
        };
        let files = config.tls.as_ref();
        files
            .map(|files| TlsTerms::load(files, protocols))
            .transpose()
    }

    /// Replaces the terms of TLS for new connections.
    pub(crate) fn replace_terms(&self, terms: TlsTerms) {
        if let Some(listener) = &self.tls
            && !listener.terms().is_like(&terms)
        {
            listener.0.store(Arc::new(terms));
        }
    }

    /// What messages call the listener.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same, to keep.
    pub(crate) fn name_shared(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// When the first certificate of the broker ends there, since 1970; `None`: there is none.
    pub(crate) fn certificate_ends(&self) -> Option<Duration> {
        self.tls.as_ref()?.terms().ends()
    }

    /// Whether a peer may connect at all.
    pub(crate) fn lets_in(&self, peer: Option<SocketAddr>) -> bool {
        match (&self.proxy, peer) {
            (Some(rules), Some(peer)) => Network::any_contains(&rules.trusted, peer.ip()),
            (Some(_), None) | (None, _) => true,
        }
    }

    /// Clients are asked for a certificate, which the broker or a proxy verifies.
    pub(crate) fn asks_for_proof(&self) -> bool {
        let by_proxy = self.proxy.as_ref();
        by_proxy.is_some_and(|rules| rules.takes_common_name)
            || self
                .tls
                .as_ref()
                .is_some_and(|tls| tls.terms().asks_clients())
    }

    /// Its connections come through a proxy, which announces the client.
    pub(crate) fn has_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// The layers of a connection that was accepted; `None`: bytes are those of MQTT.
    pub fn transport(self: &Arc<Stack>) -> Option<Box<Transport>> {
        let has_layers = self.proxy.is_some() || self.tls.is_some() || self.websocket.is_some();
        has_layers.then(|| Box::new(Transport::new(self)))
    }

    /// What is taken from a PROXY header; `None`: nothing new.
    pub(super) fn believe(&self, announced: Announced) -> Option<PeerNews> {
        let takes_name = self
            .proxy
            .as_ref()
            .is_some_and(|rules| rules.takes_common_name);
        let name = announced
            .common_name
            .filter(|name| takes_name && is_usable(name));
        let address = announced.address.map(|address| {
            let ip: IpAddr = address.ip().to_canonical();
            SocketAddr::new(ip, address.port())
        });
        (address.is_some() || name.is_some()).then_some(PeerNews {
            address,
            name,
            is_unproven: None,
        })
    }
}
