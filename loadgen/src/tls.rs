//! TLS of clients, by rustls: bytes in, bytes out, no sockets.
//!
//! Every client makes a full handshake, as every device does that connects for the first time.
//! Sessions are resumed only with `tls_resume`: then a client goes on with a session of any client
//! of its group.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use ringmq_certificates::{anybody, read_trust};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::scenario::pattern::{Filling, Pattern};
use crate::scenario::{Group, Keyed as _};
use ringmq_problem::{Complaint, Problem};

/// What the clients of a group need to begin.
#[derive(Clone, Debug)]
pub struct Terms {
    config: Arc<ClientConfig>,
    /// Of clients with certificates of their own, by number.
    own: HashMap<u32, Arc<ClientConfig>>,
    name: ServerName<'static>,
}

/// TLS of one connection.
#[derive(Debug)]
pub struct Channel {
    connection: ClientConnection,
}

impl Terms {
    /// The terms of a group; `None` if it speaks plainly. `host` is the broker as the user named
    /// it, `numbers` are those of the clients that live here.
    pub fn of(
        group: &Group,
        host: &str,
        run: &str,
        numbers: impl Iterator<Item = u32>,
    ) -> Result<Option<Terms>, Problem> {
        if !group.tls {
            return Ok(None);
        }
        let mut own = HashMap::new();
        let mut common = Files::of(group, run, 0);
        if Files::differ(group) {
            common = Files::default();
            for number in numbers {
                let config = Terms::config(group, &Files::of(group, run, number))?;
                own.insert(number, Arc::new(config));
            }
        }
        let name = group.tls_name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name.clone()).map_err(|_| {
            let what = format!("is `{name}`, which is neither a name nor an address");
            group.problem(
                "tls_name",
                Complaint::new(what, "write the name in the broker's certificate"),
            )
        })?;
        Ok(Some(Terms {
            config: Arc::new(Terms::config(group, &common)?),
            own,
            name,
        }))
    }

    fn config(group: &Group, files: &Files) -> Result<ClientConfig, Problem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has every version");
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier(group, &provider)?);
        let mut config = match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(group, "tls_cert", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unusable(group, "tls_key", key, &error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unusable(group, "tls_cert", certificate, &error.to_string()))?
            }
            _ => builder.with_no_client_auth(),
        };
        if !group.tls_resume {
            config.resumption = Resumption::disabled();
        }
        let alpn = group.tls_alpn.iter();
        config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }

    fn config_of(&self, number: u32) -> Arc<ClientConfig> {
        self.own.get(&number).unwrap_or(&self.config).clone()
    }
}

/// The files of a client's certificate.
#[derive(Default)]
struct Files {
    certificate: Option<String>,
    key: Option<String>,
}

impl Files {
    /// Of the client with this number.
    fn of(group: &Group, run: &str, number: u32) -> Files {
        let fill = |path: &Option<String>| {
            let path = path.as_ref()?;
            // A path with braces that are no pattern is a path.
            let Ok(pattern) = Pattern::parse(path) else {
                return Some(path.clone());
            };
            let mut text = String::new();
            let filling = Filling {
                run,
                group: &group.name,
                index: number,
                message: 0,
            };
            pattern.fill(filling, &mut text);
            Some(text)
        };
        Files {
            certificate: fill(&group.tls_cert),
            key: fill(&group.tls_key),
        }
    }

    /// Each client has its own.
    fn differ(group: &Group) -> bool {
        let patterns = [&group.tls_cert, &group.tls_key].into_iter().flatten();
        let mut patterns = patterns.filter_map(|path| Pattern::parse(path).ok());
        patterns.any(|pattern| !pattern.is_common())
    }
}

impl Terms {
    /// The terms of a server that is no broker, or a client that is no load: with the CA of this file, or
    /// those that the system trusts.
    pub fn of_server(host: &str, ca: Option<&str>) -> Result<Terms, Complaint> {
        let mut group = Group::default();
        group.tls = true;
        group.tls_ca = ca.map(str::to_owned);
        match Terms::of(&group, host, "", std::iter::empty()) {
            Ok(terms) => Ok(terms.expect("the group has TLS")),
            Err(problem) => Err(Complaint::new(problem.what, problem.fix)),
        }
    }

    /// A connection that blocks.
    pub fn over<S: Read + Write>(
        &self,
        stream: S,
    ) -> Result<StreamOwned<ClientConnection, S>, String> {
        let connection = ClientConnection::new(self.config_of(0), self.name.clone());
        let connection = connection.map_err(|error| error.to_string())?;
        Ok(StreamOwned::new(connection, stream))
    }
}

impl Channel {
    /// A connection of the client with this number; its first bytes are appended to `wire`.
    pub fn open(terms: &Terms, number: u32, wire: &mut Vec<u8>) -> Result<Channel, String> {
        let connection = ClientConnection::new(terms.config_of(number), terms.name.clone());
        let mut connection = connection.map_err(|error| error.to_string())?;
        // The fleet has its own bound for what is unsent.
        connection.set_buffer_limit(None);
        let mut channel = Channel { connection };
        channel.flush(wire);
        Ok(channel)
    }

    /// Processes received bytes: plain bytes are appended to `plain`, responses of the handshake to
    /// `wire`.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            self.connection
                .read_tls(&mut bytes)
                .map_err(|error| error.to_string())?;
            let processed = self.connection.process_new_packets();
            // An alert says why before the connection ends.
            self.flush(wire);
            processed.map_err(|error| error.to_string())?;
            // It ends with "would block": all that there was is in `plain`.
            let _ = self.connection.reader().read_to_end(plain);
        }
        Ok(())
    }

    /// Encrypts; the records are appended to `wire`.
    pub fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        // Without a limit of its buffer it accepts everything.
        let _ = self.connection.writer().write_all(plain);
        self.flush(wire);
    }

    /// The handshake is done.
    pub fn is_established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// The handshake went on with an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn flush(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // Writing to memory does not fail.
            let _ = self.connection.write_tls(wire);
        }
    }
}

/// Whom the clients trust: anybody, the certificates of a file, or those that the system trusts.
fn verifier(
    group: &Group,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Problem> {
    if group.tls_insecure {
        return Ok(anybody(Arc::clone(provider)));
    }
    if let Some(path) = &group.tls_ca {
        let read = read_trust(&[path.into()], provider);
        let trust = read.map_err(|problem| {
            let what = format!("is `{path}`, which {}", problem.what);
            group.problem("tls_ca", Complaint::new(what, problem.fix))
        })?;
        let verifier = trust.for_servers();
        return verifier.map_err(|error| unusable(group, "tls_ca", path, &error.to_string()));
    }
    let mut system = SYSTEM_BUNDLES.iter();
    let Some(path) = system.find(|path| Path::new(path).exists()) else {
        let what = "is not set, and this system has no certificates of its own";
        let fix = "name the CA of the broker, or set tls_insecure = true";
        return Err(group.problem("tls_ca", Complaint::new(what, fix)));
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(group, "tls_ca", path)?);
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(verifier.map_err(|error| unusable(group, "tls_ca", path, &error.to_string()))?)
}

fn certificates(
    group: &Group,
    key: &str,
    path: &str,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    all.map_err(|error| unusable(group, key, path, &error.to_string()))
}

fn unusable(group: &Group, key: &str, path: &str, why: &str) -> Problem {
    let what = format!("is `{path}`, which cannot be used: {why}");
    group.problem(key, Complaint::new(what, "name a file in PEM format"))
}

/// Debian, Red Hat, and those who follow them.
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
