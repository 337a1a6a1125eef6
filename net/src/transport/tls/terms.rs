//! The TLS configuration of a listener: certificates, keys, trusted CAs. Read from files, checked
//! as a whole, and replaced as a whole while connections continue.
//!
//! Invariant: terms that exist are usable. An empty, missing, unreadable or contradictory file is
//! an error that names it, never less security than asked for.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringmq_certificates::{
    ClientDemand, IdentityField, Outline, TlsProblem, host_names, is_for, lifetimes, problem, read,
    read_certificates, read_pem, read_trust,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;

use super::RECORD_HEAD_SIZE;

/// The files and rules of a listener with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chains in PEM, the server's own first; one file per certificate.
    pub certificates: Vec<PathBuf>,
    /// The private key of each certificate, in the same order.
    pub keys: Vec<PathBuf>,
    /// CA certificates that clients are verified against.
    pub client_cas: Vec<PathBuf>,
    /// Revocation lists of these CAs.
    pub client_crls: Vec<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub client_certificate: Demand,
    /// The field of a client certificate that is the user name.
    pub identity: IdentityField,
    /// Nothing below TLS 1.3.
    pub only_tls13: bool,
    /// Maximum content of a record that is sent, in bytes.
    pub record_size: RecordSize,
}

/// Maximum content of a record, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSize(pub u16);

impl RecordSize {
    /// The smallest in RFC 6066, section 4.
    pub const MIN: RecordSize = RecordSize(512);
    /// The largest that every implementation accepts.
    pub const MAX: RecordSize = RecordSize(1 << 14);
}

impl Default for RecordSize {
    fn default() -> RecordSize {
        RecordSize::MAX
    }
}

/// Whether a listener asks its clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// No certificate.
    #[default]
    None,
    /// Optional: a certificate is verified if there is one.
    Optional,
    /// Required.
    Required,
}

/// The configuration of TLS of a listener.
#[derive(Debug)]
pub struct TlsTerms {
    pub(super) config: Arc<ServerConfig>,
    /// Judges client certificates, in a handshake and again when the terms have changed.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) identity: IdentityField,
    /// Most bytes of content in a record.
    pub(super) record_size: usize,
    /// Of the rules and of what the files held.
    fingerprint: u64,
    /// When the first of its certificates ends, since 1970.
    ends: Option<Duration>,
}

impl TlsTerms {
    /// Reads the files. `protocols` are those of ALPN.
    pub fn load(files: &TlsFiles, protocols: &[&[u8]]) -> Result<TlsTerms, TlsProblem> {
        // First: what changes between two looks at a file is noticed at the next reload.
        let fingerprint = fingerprint(files)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Certificates::load(files, &provider)?;
        let verifier = load_verifier(files, &provider)?;
        if files.identity != IdentityField::None && verifier.is_none() {
            return Err(problem(
                None,
                "identity is set, but no client certificates are requested",
                "name client_ca and set client_certificate, or leave out identity",
            ));
        }
        let versions: &[_] = if files.only_tls13 {
            &[&rustls::version::TLS13]
        } else {
            rustls::ALL_VERSIONS
        };
        let broken = |error: rustls::Error| {
            problem(None, format!("TLS cannot be set up: {error}"), "report it")
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(broken)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        // Both belong to these terms alone: a session that was begun under others, with another CA
        // or before a revocation, cannot be resumed under these.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(broken)?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        config.send_tls13_tickets = TICKETS;
        config.max_fragment_size = Some(usize::from(files.record_size.0) + RECORD_HEAD_SIZE);
        let files_dated = files.certificates.iter();
        let dated = files_dated.flat_map(|file| lifetimes(file).unwrap_or_default());
        Ok(TlsTerms {
            ends: dated.filter_map(|one| one.ends).min(),
            config: Arc::new(config),
            verifier,
            identity: files.identity,
            record_size: files.record_size.0.into(),
            fingerprint,
        })
    }

    /// For whoever has sockets of its own.
    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Made of the same rules and files: there is nothing to replace, and sessions may be resumed.
    pub(crate) fn is_like(&self, other: &TlsTerms) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// When the first of its certificates ends, since 1970; `None`: none does.
    pub(in crate::transport) fn ends(&self) -> Option<Duration> {
        self.ends
    }

    /// Clients are asked for certificates.
    pub(in crate::transport) fn asks_clients(&self) -> bool {
        self.verifier.is_some()
    }

    /// Whether clients with these certificates are admitted.
    pub(super) fn admit(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        match chain {
            [] if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            [] => Ok(()),
            [own, intermediates @ ..] => verifier
                .verify_client_cert(own, intermediates, UnixTime::now())
                .map(|_| ()),
        }
    }
}

/// Certificates by name.
#[derive(Debug)]
struct Certificates {
    all: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl Certificates {
    fn load(files: &TlsFiles, provider: &CryptoProvider) -> Result<Certificates, TlsProblem> {
        let (certificates, keys) = (&files.certificates, &files.keys);
        if certificates.is_empty() || certificates.len() != keys.len() {
            return Err(problem(
                None,
                format!(
                    "there are {} certificates and {} keys",
                    certificates.len(),
                    keys.len()
                ),
                "name a certificate and its key, in `certificate` and `key`; with several, each \
                 key stands at the place of its certificate",
            ));
        }
        let pairs = certificates.iter().zip(keys);
        let all = pairs.map(|(certificate, key)| {
            let chain = read_certificates(certificate)?;
            let names = host_names(&chain[0]);
            let outline = Outline::read(&chain[0]).map_err(|error| {
                let what = format!("holds a certificate that cannot be read: {error}");
                problem(
                    Some(certificate),
                    what,
                    "make the file again, of certificates in PEM",
                )
            })?;
            let private = read_key(key)?;
            let fix = "name the key that the certificate was made for: RSA from 2048 bits, \
                       ECDSA P-256 to P-521, or Ed25519";
            let private = provider
                .key_provider
                .load_private_key(private)
                .map_err(|error| problem(Some(key), format!("has no usable key: {error}"), fix))?;
            // Not by `CertifiedKey::from_der`, which knows no certificates of version 1.
            let is_of_key = private
                .public_key()
                .is_none_or(|public| public.as_ref() == outline.key_info);
            if !is_of_key {
                let certificate = certificate.display();
                let what = format!("is not the key of the certificate in {certificate}");
                return Err(problem(Some(key), what, fix));
            }
            Ok((names, Arc::new(CertifiedKey::new(chain, private))))
        });
        Ok(Certificates {
            all: all.collect::<Result<_, TlsProblem>>()?,
        })
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that is for the name and that the client can check; the first of all for clients
    /// that name no host, or one that nobody knows: they see who is there, and may go.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let fits = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let named = hello.server_name().and_then(|host| {
            let mut all = self.all.iter();
            all.find(|(names, key)| names.iter().any(|n| is_for(n, host)) && fits(key))
        });
        let (_, key) = named
            .or_else(|| self.all.iter().find(|(_, key)| fits(key)))
            .or(self.all.first())?;
        Some(Arc::clone(key))
    }
}

fn load_verifier(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsProblem> {
    let cas = match (files.client_certificate, files.client_cas.as_slice()) {
        (Demand::None, []) if files.client_crls.is_empty() => return Ok(None),
        (Demand::None, _) => {
            return Err(problem(
                None,
                "there is a CA or CRL for client certificates, but none are requested",
                "set client_certificate to \"required\" or \"optional\"",
            ));
        }
        (Demand::Optional | Demand::Required, []) => {
            return Err(problem(
                None,
                "client certificates are requested, but no CA is named",
                "name it in client_ca",
            ));
        }
        (Demand::Optional | Demand::Required, cas) => cas,
    };
    let trust = read_trust(cas, provider)?;
    let mut lists = Vec::new();
    for file in &files.client_crls {
        if !trust.has_cas() {
            let what = "is never used: no certificate in client_ca is that of a CA";
            let fix = "name the CA in client_ca, or leave out client_crl";
            return Err(problem(Some(file), what, fix));
        }
        lists.extend(read_pem(file, "a revocation list")?);
    }
    let demand = ClientDemand {
        is_mandatory: files.client_certificate == Demand::Required,
        lists,
    };
    let verifier = trust.for_clients(demand).map_err(|error| {
        let file = files.client_crls.first().or(files.client_cas.first());
        let what = format!("cannot be used: {error}");
        problem(
            file.map(PathBuf::as_path),
            what,
            "name CRLs in PEM that a CA of client_ca has signed",
        )
    })?;
    Ok(Some(verifier))
}

fn fingerprint(files: &TlsFiles) -> Result<u64, TlsProblem> {
    // Compared within this process only, and no defence: an attacker who can write these files
    // needs no collision.
    let mut hasher = DefaultHasher::new();
    format!("{files:?}").hash(&mut hasher);
    let lists = [
        &files.certificates,
        &files.keys,
        &files.client_cas,
        &files.client_crls,
    ];
    for file in lists.into_iter().flatten() {
        read(file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        problem(
            Some(file),
            "does not hold a private key in PEM",
            "name a file with an unencrypted key (\"-----BEGIN PRIVATE KEY-----\"); \
             `openssl pkey -in FILE -out PLAIN` takes a passphrase off",
        )
    })
}

/// Sessions of TLS 1.2 clients that ask to resume by number: some 200 bytes each. Tickets need
/// none.
pub(crate) const SESSIONS_MAX: usize = 16 * 1024;
/// Two, so that a client that connects twice at once can resume both times.
const TICKETS: usize = 2;
