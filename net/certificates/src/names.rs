//! Names in certificates: which hosts our certificates are for, and who a client is.
//!
//! Only verified certificates get here.

use rustls::pki_types::CertificateDer;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Where the identity of a client stands in its certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentityField {
    /// Nowhere: a certificate lets a client in, but does not say who it is.
    #[default]
    None,
    /// The first common name of the subject, in the order in which they stand; Mosquitto and
    /// HAProxy take it, too.
    CommonName,
    /// The first DNS name among the alternative names.
    SanDns,
    /// The first mail address among the alternative names.
    SanEmail,
    /// The first URI among the alternative names.
    SanUri,
}

impl IdentityField {
    /// Who the client is; `None` if its certificate does not say so. Of several names of that kind
    /// the first counts, and if it cannot stand for a user, none does: a second one is not looked
    /// for.
    pub fn of(self, certificate: &CertificateDer<'_>) -> Option<String> {
        let name = match self {
            IdentityField::None => return None,
            IdentityField::CommonName => common_name(certificate),
            IdentityField::SanDns => find_alternative(certificate, |name| match name {
                GeneralName::DnsName(name) => Some(name.to_string()),
                _ => None,
            }),
            IdentityField::SanEmail => find_alternative(certificate, |name| match name {
                GeneralName::Rfc822Name(name) => Some(name.to_string()),
                _ => None,
            }),
            IdentityField::SanUri => find_alternative(certificate, |name| match name {
                GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
                _ => None,
            }),
        };
        name.filter(|name| is_usable(name))
    }
}

/// A name that can stand for a user: it is not empty, no longer than a user name of MQTT, and holds
/// nothing that would be cut off or hidden where it is shown.
pub fn is_usable(name: &str) -> bool {
    !name.is_empty() && name.len() <= usize::from(u16::MAX) && !name.chars().any(char::is_control)
}

/// The hosts that a certificate is for: its DNS names, or its common name if it has none.
pub fn host_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let mut names = Vec::new();
    let _: Option<()> = find_alternative(certificate, |name| {
        if let GeneralName::DnsName(name) = name {
            names.push(name.to_string());
        }
        None
    });
    if names.is_empty() {
        names.extend(common_name(certificate));
    }
    names
}

/// Whether a name of a certificate, which may begin with `*.`, is that of the host. A dot at the
/// end of either only says that nothing is left out.
pub fn is_for(name: &str, host: &str) -> bool {
    let (name, host) = (without_dot(name), without_dot(host));
    match name.strip_prefix("*.") {
        None => name.eq_ignore_ascii_case(host),
        // A wildcard stands for one label.
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn parse(certificate: &CertificateDer<'_>) -> Option<CertificateInner<Raw>> {
    CertificateInner::from_der(certificate).ok()
}

pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let subject = parse(certificate)?.tbs_certificate.subject;
    let mut attributes = subject.0.iter().flat_map(|relative| relative.0.iter());
    let value = &attributes.find(|a| a.oid == COMMON_NAME)?.value;
    let text = match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok()?.to_string(),
        Tag::PrintableString => value
            .decode_as::<PrintableStringRef<'_>>()
            .ok()?
            .to_string(),
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok()?.to_string(),
        Tag::TeletexString => value.decode_as::<TeletexStringRef<'_>>().ok()?.to_string(),
        // Two or four bytes to a character, which nobody has issued for decades.
        _ => return None,
    };
    Some(text)
}

fn find_alternative<T>(
    certificate: &CertificateDer<'_>,
    pick: impl FnMut(&GeneralName) -> Option<T>,
) -> Option<T> {
    let parsed = parse(certificate)?;
    let (_, names) = parsed.tbs_certificate.get::<SubjectAltName>().ok()??;
    names.0.iter().find_map(pick)
}

const COMMON_NAME: x509_cert::der::asn1::ObjectIdentifier =
    x509_cert::der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3");

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_names: &[&str], alternatives: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common_names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_identity_is_taken_from_where_the_setting_says() {
        let san = vec![
            SanType::URI("urn:dev:7".try_into().unwrap()),
            SanType::DnsName("dev-7.example".try_into().unwrap()),
            SanType::DnsName("second.example".try_into().unwrap()),
            SanType::Rfc822Name("dev@example".try_into().unwrap()),
        ];
        let full = certificate(&["dev-7 \u{fc}"], san);
        let bare = certificate(&[], Vec::new());
        for (identity, expected) in [
            (IdentityField::None, None),
            (IdentityField::CommonName, Some("dev-7 \u{fc}")),
            (IdentityField::SanDns, Some("dev-7.example")),
            (IdentityField::SanEmail, Some("dev@example")),
            (IdentityField::SanUri, Some("urn:dev:7")),
        ] {
            assert_eq!(identity.of(&full).as_deref(), expected, "{identity:?}");
            assert_eq!(identity.of(&bare), None, "{identity:?}");
        }
    }

    #[test]
    fn of_several_names_the_first_counts() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationalUnitName, "unit");
        name.push(DnType::CommonName, "first");
        // Of the same kind; rcgen would replace one that is named the same way.
        name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "second");
        params.subject_alt_names = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::Rfc822Name("a@example".try_into().unwrap()),
            SanType::DnsName("b.example".try_into().unwrap()),
            SanType::Rfc822Name("b@example".try_into().unwrap()),
            SanType::URI("urn:a".try_into().unwrap()),
            SanType::URI("urn:b".try_into().unwrap()),
        ];
        let key = KeyPair::generate().unwrap();
        let made = |params: CertificateParams| params.self_signed(&key).unwrap().der().clone();
        let several = made(params.clone());
        for (identity, expected) in [
            (IdentityField::CommonName, "first"),
            (IdentityField::SanDns, "a.example"),
            (IdentityField::SanEmail, "a@example"),
            (IdentityField::SanUri, "urn:a"),
        ] {
            assert_eq!(identity.of(&several).as_deref(), Some(expected));
        }
        params
            .distinguished_name
            .push(DnType::CommonName, "fir\0st");
        assert_eq!(IdentityField::CommonName.of(&made(params)), None);
    }

    #[test]
    fn a_name_that_could_hide_something_is_none() {
        for name in ["", "a\0b", "a\nb", "\u{85}"] {
            assert!(!is_usable(name), "{name:?}");
        }
        let certificate = certificate(&["dev\0"], Vec::new());
        assert_eq!(IdentityField::CommonName.of(&certificate), None);
        assert_eq!(
            IdentityField::CommonName.of(&CertificateDer::from(vec![1, 2])),
            None
        );
    }

    #[test]
    fn certificates_are_for_their_names() {
        for (name, host, expected) in [
            ("mqtt.example", "mqtt.example", true),
            ("mqtt.example", "MQTT.Example", true),
            ("*.example", "mqtt.example", true),
            ("*.example", "a.mqtt.example", false),
            ("mqtt.example.", "mqtt.example", true),
            ("mqtt.example", "mqtt.example.", true),
            ("*.example.", "MQTT.example", true),
            ("*.example", "example", false),
            ("*.example", ".example", false),
        ] {
            assert_eq!(is_for(name, host), expected, "{name} {host}");
        }
    }
}
