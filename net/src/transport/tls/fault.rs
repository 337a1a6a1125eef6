//! TLS errors of clients, in words that suggest a fix.

use std::fmt;

use ringmq_certificates::Unusual;
use rustls::{AlertDescription, CertificateError, Error};

/// Shows why a client was not served; what TLS itself says of it stands behind.
pub(super) struct Fault<'a>(pub(super) &'a Error);

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Error::InvalidCertificate(fault) = self.0
            && let Some(unusual) = Unusual::find(fault)
        {
            return write!(f, "the client's certificate {unusual}");
        }
        match meaning(self.0) {
            Some(meaning) => write!(f, "{meaning} ({})", self.0),
            None => self.0.fmt(f),
        }
    }
}

fn meaning(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::InvalidMessage(_) => "not TLS, which this listener expects",
        Error::PeerIncompatible(_) => "no common TLS version, key exchange or cipher",
        Error::NoApplicationProtocol => "the client requests a protocol other than MQTT (ALPN)",
        Error::NoCertificatesPresented => {
            "the client presents no certificate, but client_certificate requires one"
        }
        Error::InvalidCertificate(fault) => match fault {
            CertificateError::UnknownIssuer => {
                "no CA in client_ca has issued the client's certificate"
            }
            CertificateError::UnknownRevocationStatus => {
                "client_crl has no list for the CA of the client's certificate"
            }
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => {
                "the list in client_crl has expired: fetch a new one"
            }
            CertificateError::Revoked => "the client's certificate is revoked",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the client's certificate has expired"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the client's certificate is not for client authentication"
            }
            _ => "the client's certificate is not accepted",
        },
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => {
            "the client does not accept the broker's certificate: it needs the CA, or another host \
             name"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rustls::PeerIncompatible;

    use super::*;

    #[test]
    fn tls_errors_are_reported_with_their_meaning() {
        for (error, expected) in [
            (
                Error::NoCertificatesPresented,
                "the client presents no certificate, but client_certificate requires one (peer \
                 sent no certificates)",
            ),
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "no CA in client_ca has issued the client's certificate (invalid peer certificate: \
                 UnknownIssuer)",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
                "no common TLS version, key exchange or cipher (peer is incompatible: \
                 Tls12NotOfferedOrEnabled)",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "the client does not accept the broker's certificate: it needs the CA, or another \
                 host name (received fatal alert: UnknownCA)",
            ),
            (
                Unusual::Version1WithLists.into(),
                "the client's certificate is of X.509 version 1, for which revocation lists are \
                 not looked up: issue one of version 3 (openssl x509 -req -extfile)",
            ),
            (Error::DecryptError, "cannot decrypt peer's message"),
        ] {
            assert_eq!(Fault(&error).to_string(), expected);
        }
    }
}
