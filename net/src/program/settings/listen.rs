//! Listeners as a user writes them: an address with a scheme, and the layers between TCP and MQTT.
//!
//! The sections `[tls]`, `[websocket]` and `[proxy]` hold for every listener; a `[[listener]]`
//! table of the file has addresses of its own, and may set any key of these sections for them:
//!
//! ```toml
//! [[listener]]
//! listen = ["mqtts://0.0.0.0:8883"]
//! tls.certificate = ["server.pem"]
//! tls.key = ["server.key"]
//! ```

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use ringmq::transport::{Demand, IdentityField, Network, Origins, ProxyRules, TlsFiles};
use ringmq::{Endpoint, ListenerConfig};
use rustix::net::{self, AddressFamily, SocketType};

use super::value::Complaint;

/// An address to listen on, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken there.
    pub scheme: Scheme,
    /// Where.
    pub endpoint: Endpoint,
}

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// MQTT.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
}

/// What the sections of the layers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Files and rules of TLS.
    pub tls: TlsFiles,
    /// Origins of pages that may connect by WebSocket.
    pub origins: Vec<String>,
    /// Proxies that announce their clients; empty: nobody does.
    pub proxies: Vec<Network>,
    /// The proxies say who a client is that showed them a certificate.
    pub proxy_common_name: bool,
}

/// A `[[listener]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTable {
    /// Its addresses.
    pub listen: Vec<Listen>,
    /// The sections of the layers, with what the table says in place.
    pub layers: Layers,
}

impl Listen {
    /// Reads `IP:PORT`, `SCHEME://IP:PORT`, `unix:PATH`, `systemd:NAME` or `SCHEME://systemd:NAME`.
    pub fn parse(text: &str) -> Result<Listen, Complaint> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                let what = format!("holds `{text}`, which names no file");
                return Err(Complaint::new(what, "write unix:/run/ringmq.sock"));
            }
            return Ok(Listen {
                scheme: Scheme::Mqtt,
                endpoint: Endpoint::Unix(PathBuf::from(path)),
            });
        }
        let (scheme, address) = match text.split_once("://") {
            None => (Scheme::Mqtt, text),
            Some((word, address)) => match Scheme::ALL.iter().find(|s| s.word() == word) {
                Some(scheme) => (*scheme, address),
                None => {
                    let what = format!("holds `{text}`, whose scheme `{word}` is not known");
                    let fix = match word {
                        "tcp" => format!("did you mean {address}?"),
                        "ssl" | "tls" | "mqtt+ssl" => format!("did you mean mqtts://{address}?"),
                        "http" => format!("did you mean ws://{address}?"),
                        "https" => format!("did you mean wss://{address}?"),
                        _ => "use mqtt, mqtts, ws or wss".to_owned(),
                    };
                    return Err(Complaint::new(what, fix));
                }
            },
        };
        let endpoint = match address.strip_prefix("systemd:") {
            Some(name) => Endpoint::Passed(check_socket_name(text, name)?),
            None => Endpoint::Tcp(parse_address(text, address, scheme)?),
        };
        Ok(Listen { scheme, endpoint })
    }

    /// MQTT on a TCP address.
    pub fn plain(address: SocketAddr) -> Listen {
        Listen {
            scheme: Scheme::Mqtt,
            endpoint: Endpoint::Tcp(address),
        }
    }

    /// Only this machine reaches it: not so if a proxy brings clients there. Also for the loopback
    /// addresses of IPv4 written as IPv6.
    pub fn is_local(&self, layers: &Layers) -> bool {
        let is_near = match &self.endpoint {
            Endpoint::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Endpoint::Unix(_) => true,
            // Its address is known to who made it.
            Endpoint::Passed(_) => false,
        };
        is_near && layers.proxies.is_empty()
    }

    /// The same on another endpoint.
    pub fn at(&self, endpoint: &Endpoint) -> Listen {
        Listen {
            scheme: self.scheme,
            endpoint: endpoint.clone(),
        }
    }

    /// What the broker is told.
    pub fn config(&self, layers: &Layers) -> ListenerConfig {
        let proxy = (!layers.proxies.is_empty()).then(|| ProxyRules {
            trusted: layers.proxies.clone(),
            takes_common_name: layers.proxy_common_name,
        });
        ListenerConfig {
            endpoint: self.endpoint.clone(),
            proxy,
            tls: self.scheme.has_tls().then(|| layers.tls.clone()),
            websocket: self.scheme.has_websocket().then(|| {
                Origins::parse(layers.origins.iter().map(String::as_str))
                    .expect("settings hold origins that were read")
            }),
        }
    }

    /// Its clients show certificates, which say who they are, or at least that they belong here.
    /// Those that show none get in only by a password or the like, or where everybody is welcome.
    pub fn proves_clients(&self, layers: &Layers) -> bool {
        let by_proxy = !layers.proxies.is_empty() && layers.proxy_common_name;
        by_proxy || self.scheme.has_tls() && layers.tls.client_certificate != Demand::None
    }

    /// Nobody gets in without a certificate that the broker checks.
    pub fn has_certificates(&self, layers: &Layers) -> bool {
        self.scheme.has_tls() && layers.tls.client_certificate == Demand::Required
    }
}

impl Scheme {
    const ALL: [Scheme; 4] = [Scheme::Mqtt, Scheme::Mqtts, Scheme::Ws, Scheme::Wss];

    fn word(self) -> &'static str {
        match self {
            Scheme::Mqtt => "mqtt",
            Scheme::Mqtts => "mqtts",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }

    /// The port that is usual for it.
    fn port(self) -> u16 {
        match self {
            Scheme::Mqtt => 1883,
            Scheme::Mqtts => 8883,
            Scheme::Ws => 8083,
            Scheme::Wss => 8084,
        }
    }

    pub fn has_tls(self) -> bool {
        matches!(self, Scheme::Mqtts | Scheme::Wss)
    }

    fn has_websocket(self) -> bool {
        matches!(self, Scheme::Ws | Scheme::Wss)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Mqtt => self.endpoint.fmt(f),
            Scheme::Mqtts | Scheme::Ws | Scheme::Wss => {
                write!(f, "{}://{}", self.scheme.word(), self.endpoint)
            }
        }
    }
}

/// The words for what is asked of clients.
pub const DEMANDS: &[&str] = &["none", "optional", "required"];

/// Reads and writes [`DEMANDS`].
pub fn demand_word(demand: Demand) -> &'static str {
    match demand {
        Demand::None => "none",
        Demand::Optional => "optional",
        Demand::Required => "required",
    }
}

/// The demand of a word out of [`DEMANDS`].
pub fn demand_of(word: &str) -> Demand {
    match word {
        "none" => Demand::None,
        "optional" => Demand::Optional,
        "required" => Demand::Required,
        other => unreachable!("{other} is not one of the choices"),
    }
}

/// The words for where an identity stands.
pub const IDENTITIES: &[&str] = &["none", "cn", "san-dns", "san-email", "san-uri"];

/// The word for it, out of [`IDENTITIES`].
pub fn identity_word(identity: IdentityField) -> &'static str {
    match identity {
        IdentityField::None => "none",
        IdentityField::CommonName => "cn",
        IdentityField::SanDns => "san-dns",
        IdentityField::SanEmail => "san-email",
        IdentityField::SanUri => "san-uri",
    }
}

/// The identity of a word out of [`IDENTITIES`].
pub fn identity_of(word: &str) -> IdentityField {
    match word {
        "none" => IdentityField::None,
        "cn" => IdentityField::CommonName,
        "san-dns" => IdentityField::SanDns,
        "san-email" => IdentityField::SanEmail,
        "san-uri" => IdentityField::SanUri,
        other => unreachable!("{other} is not one of the choices"),
    }
}

/// What `FileDescriptorName=` takes.
fn check_socket_name(text: &str, name: &str) -> Result<String, Complaint> {
    let is_plain = name.chars().all(|c| c.is_ascii_graphic() && c != ':');
    if is_plain && (1..=255).contains(&name.len()) {
        return Ok(name.to_owned());
    }
    let what = format!("holds `{text}`, whose name no socket of systemd can have");
    let fix = "write systemd:mqtt, with FileDescriptorName=mqtt in the .socket unit";
    Err(Complaint::new(what, fix))
}

/// `text` is `address` with its scheme, as the user wrote it.
fn parse_address(text: &str, address: &str, scheme: Scheme) -> Result<SocketAddr, Complaint> {
    if let Ok(address) = address.parse() {
        return check_scope(text, address);
    }
    if let Some((ip, zone, port)) = split_zone(address) {
        let Some(index) = interface_index(zone) else {
            let what = format!("holds `{text}`, but this machine has no interface `{zone}`");
            return Err(Complaint::new(what, "take one that `ip address` shows"));
        };
        return Ok(SocketAddrV6::new(ip, port, 0, index).into());
    }
    let prefix = text.strip_suffix(address).unwrap_or_default();
    let what = format!("holds `{text}`, which is not IP:PORT");
    let mean = |address: String| format!("did you mean {prefix}{address}?");
    let write = format!(
        "write an address such as \"{prefix}127.0.0.1:{}\"",
        scheme.port()
    );
    if let Ok(ip) = address.parse::<std::net::IpAddr>() {
        let with_port = SocketAddr::new(ip, scheme.port());
        return Err(Complaint::new(what, mean(with_port.to_string())));
    }
    if let Ok(port) = address.trim_start_matches(':').parse::<u16>() {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let fix = format!(
            "did you mean {prefix}{local} (this machine only) or {prefix}{all} (every interface)?"
        );
        return Err(Complaint::new(what, fix));
    }
    if address.starts_with('/') && prefix.is_empty() {
        return Err(Complaint::new(
            what,
            format!("did you mean unix:{address}?"),
        ));
    }
    match address.rsplit_once(':') {
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
            let fix = format!(
                "{} Host names are not resolved",
                mean(format!("127.0.0.1:{port}"))
            );
            Err(Complaint::new(what, fix))
        }
        Some((host, port)) if port.parse::<u16>().is_err() && !host.contains(':') => {
            let what = format!("holds `{text}`, whose port is not a number from 0 to 65535");
            Err(Complaint::new(what, write))
        }
        Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            Err(Complaint::new(what, mean(format!("[{host}]:{port}"))))
        }
        Some(_) | None => Err(Complaint::new(
            what,
            format!("{write}; host names are not resolved"),
        )),
    }
}

/// Each interface has the same link-local network: such an address alone says nothing.
fn check_scope(text: &str, address: SocketAddr) -> Result<SocketAddr, Complaint> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let (ip, port) = (v6.ip(), v6.port());
            let what = format!("holds `{text}`, a link-local address without its interface");
            let fix =
                format!("write [{ip}%eth0]:{port}, with an interface that `ip address` shows");
            Err(Complaint::new(what, fix))
        }
        // IPv4 written as IPv6 is IPv4.
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            Ok(SocketAddr::new(address.ip().to_canonical(), v6.port()))
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => Ok(address),
    }
}

/// `[IP%INTERFACE]:PORT`.
fn split_zone(address: &str) -> Option<(Ipv6Addr, &str, u16)> {
    let (host, port) = address.strip_prefix('[')?.split_once("]:")?;
    let (ip, zone) = host.split_once('%')?;
    Some((ip.parse().ok()?, zone, port.parse().ok()?))
}

fn interface_index(name: &str) -> Option<u32> {
    let socket = net::socket(AddressFamily::INET6, SocketType::DGRAM, None).ok()?;
    net::netdevice::name_to_index(socket, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_needs_its_interface() {
        let scoped = Listen::parse("ws://[fe80::1%lo]:80").unwrap();
        let index = interface_index("lo").unwrap();
        assert_eq!(scoped.to_string(), format!("ws://[fe80::1%{index}]:80"));
        assert_eq!(Listen::parse(&scoped.to_string()), Ok(scoped));
        for (text, what, fix) in [
            (
                "[fe80::1%no-such]:80",
                "no interface `no-such`",
                "`ip address`",
            ),
            (
                "mqtts://[fe80::1]:80",
                "without its interface",
                "[fe80::1%eth0]:80",
            ),
        ] {
            let complaint = Listen::parse(text).unwrap_err();
            assert!(complaint.what.contains(what), "{complaint:?}");
            assert!(complaint.fix.contains(fix), "{complaint:?}");
        }
    }

    #[test]
    fn ipv4_written_as_ipv6_is_ipv4() {
        let mapped = Listen::parse("[::ffff:127.0.0.1]:1").unwrap();
        assert_eq!(mapped.to_string(), "127.0.0.1:1");
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in [
            "127.0.0.1:1883",
            "[::1]:0",
            "mqtts://0.0.0.0:8883",
            "ws://127.0.0.1:8083",
            "wss://[::]:8084",
            "unix:/run/ringmq.sock",
            "systemd:mqtt",
            "mqtts://systemd:secure.socket",
        ] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
        let plain = Listen::parse("127.0.0.1:1").unwrap();
        assert_eq!(Listen::parse("mqtt://127.0.0.1:1").unwrap(), plain);
    }

    #[test]
    fn a_wrong_address_is_shown_with_its_scheme() {
        for (text, fix) in [
            ("tls://127.0.0.1:1", "did you mean mqtts://127.0.0.1:1?"),
            ("tcp://127.0.0.1:1", "did you mean 127.0.0.1:1?"),
            ("https://127.0.0.1:1", "did you mean wss://127.0.0.1:1?"),
            ("quic://127.0.0.1:1", "use mqtt, mqtts, ws or wss"),
            ("wss://127.0.0.1", "did you mean wss://127.0.0.1:8084?"),
            (
                "ws://localhost:80",
                "did you mean ws://127.0.0.1:80? Host names are not resolved",
            ),
            ("/run/ringmq.sock", "did you mean unix:/run/ringmq.sock?"),
            ("unix:", "write unix:/run/ringmq.sock"),
            (
                "systemd:",
                "write systemd:mqtt, with FileDescriptorName=mqtt in the .socket unit",
            ),
            ("mqtts://::1", "did you mean mqtts://[::1]:8883?"),
        ] {
            assert_eq!(Listen::parse(text).unwrap_err().fix, fix, "{text}");
        }
    }

    #[test]
    fn a_scheme_has_its_layers() {
        let layers = Layers {
            proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..Layers::default()
        };
        for (text, tls, websocket) in [
            ("127.0.0.1:1", false, false),
            ("mqtts://127.0.0.1:1", true, false),
            ("ws://127.0.0.1:1", false, true),
            ("wss://127.0.0.1:1", true, true),
            ("unix:/x", false, false),
        ] {
            let config = Listen::parse(text).unwrap().config(&layers);
            let found = (config.tls.is_some(), config.websocket.is_some());
            assert_eq!(found, (tls, websocket), "{text}");
            assert!(config.proxy.is_some());
        }
    }
}
