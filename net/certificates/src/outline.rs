//! The parts of a certificate that are needed before it is verified, whatever its version.
//!
//! Not here: names (`names.rs`), and any judgement (`trust.rs`).

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error};
use x509_cert::certificate::{CertificateInner, Raw, Version};
use x509_cert::der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use x509_cert::der::{self, Decode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};

/// A certificate, as far as it matters here.
pub struct Outline<'a> {
    parsed: CertificateInner<Raw>,
    /// The bytes that are signed.
    pub(crate) signed: &'a [u8],
    /// With what.
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
    /// The name of the CA, without the head of its sequence.
    pub(crate) issuer: &'a [u8],
    subject: &'a [u8],
    /// Algorithm and bits of the key, with the head of their sequence.
    pub key_info: &'a [u8],
}

/// A public key and what it is for, as the algorithms of TLS compare it.
pub(crate) struct PublicKey<'a> {
    pub(crate) algorithm: &'a [u8],
    pub(crate) bits: &'a [u8],
}

impl<'a> Outline<'a> {
    /// Reads a certificate in DER.
    pub fn read(certificate: &'a CertificateDer<'_>) -> Result<Outline<'a>, Error> {
        Outline::parse(certificate).map_err(|_| CertificateError::BadEncoding.into())
    }

    fn parse(bytes: &'a [u8]) -> der::Result<Outline<'a>> {
        let parsed = CertificateInner::from_der(bytes)?;
        let mut reader = SliceReader::new(bytes)?;
        let (signed, algorithm, signature) = reader.sequence(|whole| {
            let signed = whole.tlv_bytes()?;
            let algorithm = AnyRef::decode(whole)?.value();
            Ok((signed, algorithm, BitStringRef::decode(whole)?.raw_bytes()))
        })?;
        let mut reader = SliceReader::new(signed)?;
        let fields = reader.sequence(|fields| {
            let mut all = Vec::new();
            while !fields.is_finished() {
                all.push(fields.tlv_bytes()?);
            }
            Ok(all)
        })?;
        // The version comes first, and may be left out.
        let has_version = fields.first().is_some_and(|first| first[0] == EXPLICIT_0);
        let fields = &fields[usize::from(has_version)..];
        let [
            _serial,
            algorithm_within,
            issuer,
            _validity,
            subject,
            key_info,
            ..,
        ] = *fields
        else {
            return Err(der::ErrorKind::Failed.into());
        };
        if AnyRef::from_der(algorithm_within)?.value() != algorithm {
            return Err(der::ErrorKind::Failed.into());
        }
        Ok(Outline {
            parsed,
            signed,
            algorithm,
            signature,
            issuer: AnyRef::from_der(issuer)?.value(),
            subject: AnyRef::from_der(subject)?.value(),
            key_info,
        })
    }

    /// It has no extensions, as of version 1; nobody issues version 2.
    pub(crate) fn is_version_1(&self) -> bool {
        self.parsed.tbs_certificate.version != Version::V3
    }

    /// It names itself as its CA.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// It may vouch for others, as OpenSSL sees it.
    pub(crate) fn is_ca(&self) -> bool {
        let fields = &self.parsed.tbs_certificate;
        if self.is_version_1() {
            return self.is_self_issued();
        }
        match fields.get::<BasicConstraints>() {
            Ok(Some((_, constraints))) => constraints.ca,
            Ok(None) => {
                let usage = fields.get::<KeyUsage>();
                usage.is_ok_and(|usage| usage.is_some_and(|(_, usage)| usage.key_cert_sign()))
            }
            Err(_) => false,
        }
    }

    /// Its time has come and is not over.
    pub(crate) fn check_dates(&self, now: UnixTime) -> Result<(), Error> {
        let validity = &self.parsed.tbs_certificate.validity;
        let (begin, end) = (&validity.not_before, &validity.not_after);
        let now = now.as_secs();
        if now < begin.to_unix_duration().as_secs() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > end.to_unix_duration().as_secs() {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }

    /// It does not say that it is for other purposes.
    pub(crate) fn is_for(&self, purpose: ObjectIdentifier) -> bool {
        match self.parsed.tbs_certificate.get::<ExtendedKeyUsage>() {
            Ok(Some((_, usage))) => usage.0.contains(&purpose) || usage.0.contains(&ANY_PURPOSE),
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// It has names besides that of its subject.
    pub(crate) fn has_alternative_names(&self) -> bool {
        let names = self.parsed.tbs_certificate.get::<SubjectAltName>();
        !matches!(names, Ok(None))
    }
}

impl<'a> PublicKey<'a> {
    /// Reads what stands in a certificate.
    pub(crate) fn read(key_info: &'a [u8]) -> Option<PublicKey<'a>> {
        PublicKey::read_content(AnyRef::from_der(key_info).ok()?.value())
    }

    /// The same without the head of the sequence.
    pub(crate) fn read_content(content: &'a [u8]) -> Option<PublicKey<'a>> {
        let mut reader = SliceReader::new(content).ok()?;
        Some(PublicKey {
            algorithm: AnyRef::decode(&mut reader).ok()?.value(),
            bits: BitStringRef::decode(&mut reader).ok()?.as_bytes()?,
        })
    }
}

/// The tag of the version.
const EXPLICIT_0: u8 = 0xA0;
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
