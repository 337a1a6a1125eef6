//! Validity periods of certificates and revocation lists.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::pem::{PemObject as _, SectionKind};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::pem::{TlsProblem, read};

/// From when to when something holds; times are those of the day, since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Of a certificate its subject, of a list its issuer.
    pub name: String,
    /// A revocation list.
    pub is_crl: bool,
    /// Its first moment.
    pub begins: Duration,
    /// Its last moment, if there is one.
    pub ends: Option<Duration>,
}

/// Those of all certificates and revocation lists of a file in PEM. What cannot be read has none:
/// whoever uses it will say so.
pub fn lifetimes(file: &Path) -> Result<Vec<Lifetime>, TlsProblem> {
    let text = read(file)?;
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&text).filter_map(Result::ok);
    let found = sections.filter_map(|(kind, der)| match kind {
        SectionKind::Certificate => of_certificate(&der),
        SectionKind::Crl => of_list(&der),
        _ => None,
    });
    Ok(found.collect())
}

fn of_certificate(der: &[u8]) -> Option<Lifetime> {
    let content = CertificateInner::<Raw>::from_der(der).ok()?.tbs_certificate;
    Some(Lifetime {
        name: content.subject.to_string(),
        is_crl: false,
        begins: content.validity.not_before.to_unix_duration(),
        ends: Some(content.validity.not_after.to_unix_duration()),
    })
}

fn of_list(der: &[u8]) -> Option<Lifetime> {
    let content = CertificateList::from_der(der).ok()?.tbs_cert_list;
    Some(Lifetime {
        name: content.issuer.to_string(),
        is_crl: true,
        begins: content.this_update.to_unix_duration(),
        ends: content.next_update.map(|at| at.to_unix_duration()),
    })
}
