//! An HTTP client for threads that may block.
//!
//! Nothing is followed and nothing is taken from the environment: no redirects, no proxies, no
//! cookies. A response that is too long or too late is an error.
//!
//! Not here: the requests, and what the responses mean (`auth`).

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, StreamOwned};
use ureq::http::Uri;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport, TransportAdapter, time,
};

use ringmq_certificates::{TlsProblem, Unusual, read_certificates, read_trust};

/// An address that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// Reads `http://HOST[:PORT]/PATH` or `https://...`; otherwise what is wrong with it.
    pub fn parse(text: &str) -> Result<HttpUrl, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is no URL")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("does not begin with http:// or https://");
        }
        match uri.authority() {
            None => Err("names no host"),
            Some(authority) if authority.host().is_empty() => Err("names no host"),
            // It would be logged, and shown by `--print-config`.
            Some(authority) if authority.as_str().contains('@') => Err("has a user name in it"),
            Some(_) => Ok(HttpUrl(text.to_owned())),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is sent there is for nobody else to read.
    pub fn is_private(&self) -> bool {
        let uri: Option<Uri> = self.0.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let is_local = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
        is_local || self.0.starts_with("https://")
    }
}

impl fmt::Display for HttpUrl {
    /// For the log and for messages: what the service wants to be told in the query may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once(['?', '#']) {
            Some((place, _)) => write!(f, "{place}?***"),
            None => f.write_str(&self.0),
        }
    }
}

/// Keeps connections open between questions. Any number of threads may use it.
#[derive(Clone)]
pub struct HttpClient {
    agent: ureq::Agent,
    headers: Vec<(String, String)>,
    /// For messages: the setting that names the CAs, and whether it names none.
    ca_setting: &'static str,
    trusts_machine: bool,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Such as 200.
    pub status: u16,
    /// At most [`BODY_SIZE_MAX`] bytes.
    pub body: Vec<u8>,
}

impl HttpClient {
    /// Trusts these CAs, which `ca_setting` names, or those of the machine if there are none. The
    /// headers are for every question; they are names and values that [`parse_headers`] has read.
    pub fn new(
        cas: &[PathBuf],
        ca_setting: &'static str,
        headers: Vec<(String, String)>,
    ) -> Result<HttpClient, TlsProblem> {
        let connector = ().chain(TcpConnector::default()).chain(Tls {
            config: read_terms(cas)?,
        });
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("ringmq/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(CONNECTIONS_KEPT)
            .max_idle_connections(CONNECTIONS_KEPT)
            .build();
        Ok(HttpClient {
            agent: ureq::Agent::with_parts(config, connector, DefaultResolver::default()),
            headers,
            ca_setting,
            trusts_machine: cas.is_empty(),
        })
    }

    /// GET.
    pub fn get(&self, url: &HttpUrl, timeout: Duration) -> Result<HttpAnswer, HttpError> {
        let mut request = self.agent.get(url.as_str());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        read_answer(request.call()).map_err(|error| self.explain(error))
    }

    /// POST of JSON.
    pub fn post_json(
        &self,
        url: &HttpUrl,
        body: &[u8],
        timeout: Duration,
    ) -> Result<HttpAnswer, HttpError> {
        let mut request = self.agent.post(url.as_str());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.content_type("application/json");
        let request = request.config().timeout_global(Some(timeout)).build();
        read_answer(request.send(body)).map_err(|error| self.explain(error))
    }

    fn explain(&self, error: ureq::Error) -> HttpError {
        HttpError {
            error,
            ca_setting: self.ca_setting,
            trusts_machine: self.trusts_machine,
        }
    }
}

fn read_answer(
    came: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<HttpAnswer, ureq::Error> {
    let mut response = came?;
    let body = response.body_mut().with_config().limit(BODY_SIZE_MAX);
    Ok(HttpAnswer {
        body: body.read_to_vec()?,
        status: response.status().as_u16(),
    })
}

/// Reads lines of `Name: value`; otherwise the number of the first line that is none.
pub fn parse_headers(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut headers = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or(index + 1)?;
        let value = value.trim_start();
        let is_name = ureq::http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        let is_value = ureq::http::HeaderValue::from_str(value).is_ok();
        if !(is_name && is_value) {
            return Err(index + 1);
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    Ok(headers)
}

/// Why nothing came back.
#[derive(Debug)]
pub struct HttpError {
    error: ureq::Error,
    /// The setting that names the CAs.
    ca_setting: &'static str,
    trusts_machine: bool,
}

impl HttpError {
    /// It took too long.
    pub fn is_timeout(&self) -> bool {
        match &self.error {
            ureq::Error::Timeout(_) => true,
            ureq::Error::Io(error) => error.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// What TLS has to say.
    fn of_tls(&self) -> Option<&rustls::Error> {
        match &self.error {
            ureq::Error::Rustls(error) => Some(error),
            ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    fn show_certificate(
        &self,
        fault: &CertificateError,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let setting = self.ca_setting;
        f.write_str("its certificate ")?;
        match fault {
            CertificateError::UnknownIssuer if self.trusts_machine => write!(
                f,
                "is not issued by a CA that this machine trusts: set its CA in {setting}"
            ),
            CertificateError::UnknownIssuer => write!(f, "is not issued by a CA in {setting}"),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                f.write_str("has expired: renew it on the server")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                f.write_str("is not valid yet: check the clock of this machine")
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => {
                // They come as `DnsName("a.example")` and `IpAddress(192.0.2.1)`.
                let names = presented.iter().map(|name| {
                    let name = name.split_once('(').map_or(&**name, |(_, name)| name);
                    name.trim_end_matches(')').trim_matches('"')
                });
                let names: Vec<&str> = names.collect();
                let (expected, names) = (expected.to_str(), names.join(", "));
                write!(
                    f,
                    "is for {names}, not for {expected}: use that name in the URL"
                )
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                f.write_str("is not a server certificate")
            }
            other => match Unusual::find(other) {
                Some(unusual) => write!(f, "{unusual}"),
                None => write!(f, "is not accepted: {other}"),
            },
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_timeout() {
            return f.write_str("no response before the timeout");
        }
        match self.of_tls() {
            Some(rustls::Error::InvalidCertificate(fault)) => self.show_certificate(fault, f),
            Some(rustls::Error::InvalidMessage(_)) => {
                f.write_str("it does not speak TLS: check the port, or write http://")
            }
            Some(_) | None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for HttpError {}

impl fmt::Debug for HttpClient {
    // Headers may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Whom to trust: the configured CAs, or those of the machine. The latter are for `https` only, so
/// having none is no error, and they are judged as browsers judge them.
///
/// # Errors
/// A file cannot be used.
pub fn read_terms(cas: &[PathBuf]) -> Result<Arc<ClientConfig>, TlsProblem> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has every version");
    let builder = match cas {
        [] => {
            let of_machine = MACHINE_CAS.iter().map(Path::new).find(|path| path.exists());
            let mut roots = rustls::RootCertStore::empty();
            if let Some(file) = of_machine {
                // Some of a thousand may be of kinds that nobody needs.
                roots.add_parsable_certificates(read_certificates(file)?);
            }
            builder.with_root_certificates(roots)
        }
        _ => {
            let verifier = read_trust(cas, &provider)?.for_servers();
            let verifier = verifier.expect("rustls takes every CA that was read");
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// Puts TLS around connections for `https`. That of ureq knows roots and no verifier.
#[derive(Debug)]
struct Tls {
    config: Arc<ClientConfig>,
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsStream>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']));
        let name =
            name.map_err(|_| ureq::Error::Tls("the host of the URL is no name that TLS knows"))?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name.to_owned())?;
        let mut socket =
            TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(time_left(details));
        connection.complete_io(&mut socket)?;
        let sizes = (
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(TlsStream {
            buffers: LazyBuffers::new(sizes.0, sizes.1),
            stream: StreamOwned::new(connection, socket),
        })))
    }
}

/// Looking up the name and connecting have taken some of the time.
fn time_left(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    let times = (details.now, (details.current_time)(), timeout.after);
    if let (time::Instant::Exact(begin), time::Instant::Exact(now), time::Duration::Exact(all)) =
        times
    {
        let left = all.saturating_sub(now.saturating_duration_since(begin));
        timeout.after = time::Duration::Exact(left);
    }
    timeout
}

/// A connection with TLS.
struct TlsStream {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

impl Transport for TlsStream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, size: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..size])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let size = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(size);
        Ok(size > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Where distributions keep the CAs that a machine trusts.
const MACHINE_CAS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Some thousand rules, or the keys of a large issuer.
pub const BODY_SIZE_MAX: u64 = 256 * 1024;
/// As many as threads may ask at a time.
const CONNECTIONS_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_of_http_and_hold_no_secrets() {
        for (text, expected) in [
            ("http://127.0.0.1:8080/auth", Ok(true)),
            ("https://auth.example/mqtt?x=1", Ok(true)),
            ("http://[::1]/", Ok(true)),
            ("http://localhost/", Ok(true)),
            ("http://auth.example/", Ok(false)),
            ("http://10.0.0.1/", Ok(false)),
            ("ftp://a/b", Err("does not begin with http:// or https://")),
            ("/auth", Err("does not begin with http:// or https://")),
            (
                "auth.example",
                Err("does not begin with http:// or https://"),
            ),
            ("http://", Err("is no URL")),
            ("http://a b/", Err("is no URL")),
            ("http://user:secret@host/", Err("has a user name in it")),
        ] {
            let read = HttpUrl::parse(text).map(|url| url.is_private());
            assert_eq!(read, expected, "{text}");
        }
        for text in [
            "https://a/x?key=S3CRET",
            "https://a/x?***#S3CRET",
            "https://a/x#S3CRET",
        ] {
            let shown = HttpUrl::parse(text).unwrap().to_string();
            assert_eq!(shown, "https://a/x?***");
        }
    }

    #[test]
    fn headers_are_read_line_by_line() {
        let read = parse_headers("# secret\nAuthorization: Bearer a:b\n\nX-Site:  7 \r\n").unwrap();
        let expected = [("Authorization", "Bearer a:b"), ("X-Site", "7")];
        assert_eq!(read, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        for text in ["a", "x: y\n: z", "x y: z", "a: \x07"] {
            assert!(parse_headers(text).is_err(), "{text}");
        }
    }
}
