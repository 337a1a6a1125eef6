//! What TLS says of a client, in words that tell what to do.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error};

use super::trust::Unusual;

/// Shows why a client was not served; what TLS itself says of it stands behind.
pub(super) struct Fault<'a>(pub(super) &'a Error);

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Error::InvalidCertificate(fault) = self.0
            && let Some(unusual) = Unusual::find(fault)
        {
            return write!(f, "the certificate of the client {unusual}");
        }
        match meaning(self.0) {
            Some(meaning) => write!(f, "{meaning} ({})", self.0),
            None => self.0.fmt(f),
        }
    }
}

fn meaning(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::InvalidMessage(_) => "what comes is no TLS, which this listener needs",
        Error::PeerIncompatible(_) => {
            "the client offers no version, key exchange or cipher that is taken here"
        }
        Error::NoApplicationProtocol => "the client asks for another protocol than MQTT by ALPN",
        Error::NoCertificatesPresented => {
            "the client shows no certificate, and client_certificate says that it has to"
        }
        Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer => {
                "the certificate of the client comes from no CA in client_ca"
            }
            CertificateError::UnknownRevocationStatus => {
                "no list in client_crl is of the CA of the certificate of the client"
            }
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => {
                "the list in client_crl is out of date: fetch the next one"
            }
            CertificateError::Revoked => "the certificate of the client is revoked",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate of the client has expired"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the certificate of the client is not one for clients"
            }
            _ => "the certificate of the client is not accepted",
        },
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => {
            "the client does not accept the certificate of the broker: it needs the CA, or another name"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rustls::PeerIncompatible;

    use super::*;

    #[test]
    fn what_tls_says_is_told_with_what_it_means() {
        for (error, expected) in [
            (
                Error::NoCertificatesPresented,
                "the client shows no certificate, and client_certificate says that it has to (peer sent no certificates)",
            ),
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "the certificate of the client comes from no CA in client_ca (invalid peer certificate: UnknownIssuer)",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
                "the client offers no version, key exchange or cipher that is taken here (peer is incompatible: \
                 Tls12NotOfferedOrEnabled)",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "the client does not accept the certificate of the broker: it needs the CA, or another name (received \
                 fatal alert: UnknownCA)",
            ),
            (
                Unusual::Version1WithLists.into(),
                "the certificate of the client is of X.509 version 1, for which revocation lists are not looked up: issue \
                 one of version 3 (openssl x509 -req -extfile)",
            ),
            (Error::DecryptError, "cannot decrypt peer's message"),
        ] {
            assert_eq!(Fault(&error).to_string(), expected);
        }
    }
}
