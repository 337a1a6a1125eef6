//! Whom to trust: clients with certificates at a listener, brokers under test, servers called over
//! HTTP.
//!
//! rustls judges chains of X.509 version 3 certificates. It refuses these, which are trusted here
//! as by OpenSSL:
//! - a certificate that is itself in the file, byte for byte, even one that is its own CA;
//! - one of version 1, as Mosquitto's manual makes them, that a CA in the file signed directly;
//! - a server certificate with a common name and no alternative names: then the common name counts.
//!
//! Invariants:
//! - only a CA vouches for others: a device certificate in the file, with CA:FALSE, is trusted only
//!   itself.
//! - with revocation lists, everything that a CA has issued is looked up in them, or refused.
//!
//! Not here: which files (`pem.rs`), how certificates are laid out (`outline.rs`).

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_cert::der::asn1::ObjectIdentifier;

use crate::names;
use crate::outline::{Outline, PublicKey};

/// Certificates that are trusted.
#[derive(Debug)]
pub struct Trust {
    /// Those that vouch for others.
    cas: RootCertStore,
    /// All, which are trusted as they are.
    exact: Vec<CertificateDer<'static>>,
    /// All, for their names.
    named: RootCertStore,
    provider: Arc<CryptoProvider>,
}

/// What clients have to show.
#[derive(Debug)]
pub struct ClientDemand {
    /// They have to show a certificate.
    pub is_mandatory: bool,
    /// Revocation lists; those of one file follow those of another.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
}

impl Trust {
    /// Trusts nobody.
    pub fn new(provider: Arc<CryptoProvider>) -> Trust {
        Trust {
            cas: RootCertStore::empty(),
            exact: Vec::new(),
            named: RootCertStore::empty(),
            provider,
        }
    }

    /// Trusts a certificate, and if it is that of a CA, those that it has issued.
    pub fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        if Outline::read(&certificate)?.is_ca() {
            self.cas.add(certificate.clone())?;
        }
        self.named.add(certificate.clone())?;
        self.exact.push(certificate);
        Ok(())
    }

    /// Somebody vouches for others.
    pub fn has_cas(&self) -> bool {
        !self.cas.is_empty()
    }

    /// Judges the certificates of clients.
    pub fn for_clients(
        self,
        demand: ClientDemand,
    ) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        let has_lists = !demand.lists.is_empty();
        let mut chains = None;
        if self.has_cas() {
            let (cas, provider) = (Arc::new(self.cas.clone()), self.provider.clone());
            let mut builder =
                WebPkiClientVerifier::builder_with_provider(cas, provider).with_crls(demand.lists);
            if has_lists {
                // Lists of the CAs above are rarely at hand; the client's own has to be known and
                // valid.
                builder = builder
                    .only_check_end_entity_revocation()
                    .enforce_revocation_expiration();
            }
            chains = Some(builder.build()?);
        }
        Ok(Arc::new(Clients {
            chains,
            has_lists,
            is_mandatory: demand.is_mandatory,
            hints: self.named.subjects(),
            trust: self,
        }))
    }

    /// Judges the certificates of servers.
    pub fn for_servers(self) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError> {
        let mut chains = None;
        if self.has_cas() {
            let (cas, provider) = (Arc::new(self.cas.clone()), self.provider.clone());
            chains = Some(WebPkiServerVerifier::builder_with_provider(cas, provider).build()?);
        }
        Ok(Arc::new(Servers {
            chains,
            trust: self,
        }))
    }

    /// Judges a certificate but for its names; `by_chain` is the judgement of rustls.
    fn judge(
        &self,
        own: &CertificateDer<'_>,
        terms: &Terms,
        by_chain: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let outline = Outline::read(own)?;
        // A CA may have revoked what it has issued; what has no CA is revoked by leaving it out of
        // the file.
        let is_listable = terms.has_lists && !outline.is_self_issued();
        if !is_listable && self.exact.iter().any(|exact| exact == own) {
            outline.check_dates(terms.now)?;
            return if outline.is_for(terms.purpose) {
                Ok(())
            } else {
                Err(CertificateError::InvalidPurpose.into())
            };
        }
        if outline.is_version_1() {
            if terms.has_lists {
                return Err(Unusual::Version1WithLists.into());
            }
            if !self.has_signed(&outline) {
                return Err(Unusual::Version1.into());
            }
            return outline.check_dates(terms.now);
        }
        by_chain().map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::Other(_)) if outline.is_ca() => {
                Unusual::Ca.into()
            }
            error => error,
        })
    }

    /// A CA in the file has signed it, and does so for any name.
    fn has_signed(&self, outline: &Outline<'_>) -> bool {
        let algorithms = self.provider.signature_verification_algorithms;
        let is_issuer = |ca: &&rustls::pki_types::TrustAnchor<'_>| {
            ca.subject.as_ref() == outline.issuer && ca.name_constraints.is_none()
        };
        self.cas.roots.iter().filter(is_issuer).any(|ca| {
            let Some(key) = PublicKey::read_content(ca.subject_public_key_info.as_ref()) else {
                return false;
            };
            algorithms.all.iter().any(|algorithm| {
                algorithm.signature_alg_id().as_ref() == outline.algorithm
                    && algorithm.public_key_alg_id().as_ref() == key.algorithm
                    && algorithm
                        .verify_signature(key.bits, outline.signed, outline.signature)
                        .is_ok()
            })
        })
    }
}

/// Under which terms a certificate is judged.
struct Terms {
    purpose: ObjectIdentifier,
    has_lists: bool,
    now: UnixTime,
}

/// The methods of a verifier that check signatures, with the algorithms of its provider.
macro_rules! signatures_by {
    ($($provider:tt).+) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12(&self.$($provider).+, message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13(&self.$($provider).+, message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            let algorithms = self.$($provider).+.signature_verification_algorithms;
            algorithms.supported_schemes()
        }
    };
}

#[derive(Debug)]
struct Clients {
    trust: Trust,
    /// `None`: nobody vouches for others.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    has_lists: bool,
    is_mandatory: bool,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let terms = Terms {
            purpose: CLIENT_PURPOSE,
            has_lists: self.has_lists,
            now,
        };
        let by_chain = || match &self.chains {
            None => Err(CertificateError::UnknownIssuer.into()),
            Some(chains) => chains
                .verify_client_cert(own, intermediates, now)
                .map(|_| ()),
        };
        self.trust.judge(own, &terms, by_chain)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures_by!(trust.provider);
}

#[derive(Debug)]
struct Servers {
    trust: Trust,
    /// `None`: nobody vouches for others.
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let terms = Terms {
            purpose: SERVER_PURPOSE,
            has_lists: false,
            now,
        };
        let by_chain = || {
            let Some(chains) = &self.chains else {
                return Err(CertificateError::UnknownIssuer.into());
            };
            match chains.verify_server_cert(own, intermediates, name, ocsp_response, now) {
                // The chain was good: the name is judged last, below once more.
                Ok(_)
                | Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.trust.judge(own, &terms, by_chain)?;
        check_name(own, name)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(trust.provider);
}

/// Whether a server has this name. Alternative names win; without any it is the common name.
fn check_name(own: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    if Outline::read(own)?.has_alternative_names() {
        return verify_server_name(&ParsedCertificate::try_from(own)?, name);
    }
    let presented = names::common_name(own);
    let wanted = name.to_str();
    match presented {
        Some(presented) if names::is_for(&presented, &wanted) => Ok(()),
        presented => Err(CertificateError::NotValidForNameContext {
            expected: name.to_owned(),
            presented: presented.into_iter().collect(),
        }
        .into()),
    }
}

/// Takes any certificate of a server, and checks only that the server has its key.
pub fn anybody(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody(provider))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures_by!(0);
}

fn verify_tls12(
    provider: &CryptoProvider,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = &provider.signature_verification_algorithms;
    let outline = Outline::read(certificate)?;
    if !outline.is_version_1() {
        return verify_tls12_signature(message, certificate, signature, algorithms);
    }
    let key = PublicKey::read(outline.key_info).ok_or(CertificateError::BadEncoding)?;
    if is_signed_by(&key, message, signature, algorithms) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

/// TLS 1.2 does not say which curve belongs to a scheme: the key does.
fn is_signed_by(
    key: &PublicKey<'_>,
    message: &[u8],
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let mut schemes = algorithms.mapping.iter();
    let possible = schemes.find(|(scheme, _)| *scheme == signature.scheme);
    possible.is_some_and(|(_, possible)| {
        possible.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key.algorithm
                && algorithm
                    .verify_signature(key.bits, message, signature.signature())
                    .is_ok()
        })
    })
}

fn verify_tls13(
    provider: &CryptoProvider,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = &provider.signature_verification_algorithms;
    let outline = Outline::read(certificate)?;
    if !outline.is_version_1() {
        return verify_tls13_signature(message, certificate, signature, algorithms);
    }
    let key_info = SubjectPublicKeyInfoDer::from(outline.key_info);
    verify_tls13_signature_with_raw_key(message, &key_info, signature, algorithms)
}

/// Why a certificate is refused that others might take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusual {
    /// Of X.509 version 1, and from no CA in the file.
    Version1,
    /// Of X.509 version 1, for which there is no looking up in lists.
    Version1WithLists,
    /// That of a CA, which does not stand in the file itself.
    Ca,
}

impl Unusual {
    /// Found in an error of rustls.
    pub fn find(error: &CertificateError) -> Option<Unusual> {
        match error {
            CertificateError::Other(OtherError(inner)) => inner.downcast_ref().copied(),
            _ => None,
        }
    }

    /// Follows the name of the certificate.
    pub const fn text(self) -> &'static str {
        match self {
            Unusual::Version1 => {
                "is of X.509 version 1, and none of the trusted CAs has signed it itself: trust \
                 that CA, or issue one of version 3 (openssl x509 -req -extfile)"
            }
            Unusual::Version1WithLists => {
                "is of X.509 version 1, for which revocation lists are not looked up: issue one of \
                 version 3 (openssl x509 -req -extfile)"
            }
            Unusual::Ca => {
                "is that of a CA (CA:TRUE), and is not itself among the trusted ones: trust it as \
                 it is, or issue one with CA:FALSE"
            }
        }
    }
}

impl From<Unusual> for Error {
    fn from(unusual: Unusual) -> Error {
        CertificateError::Other(OtherError(Arc::new(unusual))).into()
    }
}

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Unusual {}

/// `id-kp-clientAuth` and `id-kp-serverAuth`.
const CLIENT_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const SERVER_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
