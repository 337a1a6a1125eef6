//! Whom TLS trusts, and a listener that trusts so.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SigningKey as _,
};
use ringmq_certificates::{ClientDemand, IdentityField, Trust, Unusual, anybody};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};

use crate::transport::tls::{Demand, Tls, TlsFiles, TlsTerms};

type Certificate = CertificateDer<'static>;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn params(name: &str, hosts: &[&str], is_ca: IsCa) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params
}

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::self_signed(params(name, &[], CA), key).unwrap()
}

/// As `openssl req -x509` makes it, but for what `change` changes.
fn alone(
    name: &str,
    is_ca: IsCa,
    change: impl FnOnce(&mut CertificateParams),
) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = params(name, &["localhost"], is_ca);
    change(&mut params);
    (params.self_signed(&key).unwrap().der().clone(), key)
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let size = match content.len() {
        0..0x80 => &[low][..],
        0x80..0x100 => &[0x81, low],
        _ => &[0x82, high, low],
    };
    [&[tag], size, content].concat()
}

/// The same as of X.509 version 1, without its extensions.
fn as_version_1(certificate: &Certificate, signer: &KeyPair) -> Certificate {
    let mut reader = SliceReader::new(certificate).unwrap();
    let (signed, algorithm) = reader
        .sequence(|whole| {
            let parts = (whole.tlv_bytes()?, whole.tlv_bytes()?);
            whole.tlv_bytes().map(|_| parts)
        })
        .unwrap();
    let mut fields = SliceReader::new(AnyRef::from_der(signed).unwrap().value()).unwrap();
    let mut kept = Vec::new();
    while !fields.is_finished() {
        let field = fields.tlv_bytes().unwrap();
        // The version, and the extensions.
        if !matches!(field[0], 0xA0 | 0xA3) {
            kept.extend_from_slice(field);
        }
    }
    let signed = wrap(0x30, &kept);
    let signature = [&[0][..], &signer.sign(&signed).unwrap()].concat();
    let whole = [&signed[..], algorithm, &wrap(0x03, &signature)].concat();
    Certificate::from(wrap(0x30, &whole))
}

/// A certificate of version 1 that the CA has issued.
fn issue_version_1(ca: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let issued = params(name, &[], IsCa::NoCa).signed_by(&key, ca).unwrap();
    (as_version_1(issued.der(), ca.key()), key)
}

fn trust(certificates: &[&Certificate]) -> Trust {
    let mut trust = Trust::new(provider());
    for &certificate in certificates {
        trust.add(certificate.clone()).unwrap();
    }
    trust
}

fn judge_client(trusted: &[&Certificate], own: &Certificate) -> Result<(), Error> {
    let demand = ClientDemand {
        is_mandatory: true,
        lists: Vec::new(),
    };
    let verifier = trust(trusted).for_clients(demand).unwrap();
    verifier
        .verify_client_cert(own, &[], UnixTime::now())
        .map(|_| ())
}

fn judge_server(trusted: &[&Certificate], own: &Certificate, host: &str) -> Result<(), Error> {
    let verifier = trust(trusted).for_servers().unwrap();
    let name = ServerName::try_from(host).unwrap();
    verifier
        .verify_server_cert(own, &[], &name, &[], UnixTime::now())
        .map(|_| ())
}

fn unusual(result: Result<(), Error>) -> Option<Unusual> {
    match result {
        Err(Error::InvalidCertificate(error)) => Unusual::find(&error),
        Err(_) | Ok(()) => None,
    }
}

#[test]
fn a_certificate_in_the_file_itself_is_trusted() {
    for is_ca in [CA, IsCa::NoCa, IsCa::ExplicitNoCa] {
        let (own, key) = alone("device-1", is_ca, |_| {});
        assert_eq!(judge_client(&[&own], &own), Ok(()), "{is_ca:?}");
        assert_eq!(
            judge_server(&[&own], &own, "localhost"),
            Ok(()),
            "{is_ca:?}"
        );
        let version_1 = as_version_1(&own, &key);
        assert_eq!(judge_client(&[&version_1], &version_1), Ok(()));
        // One that looks the same is another one.
        let (other, _) = alone("device-1", is_ca, |_| {});
        assert!(judge_client(&[&own], &other).is_err());
    }
}

#[test]
fn a_trusted_certificate_still_has_a_validity_a_purpose_and_a_name() {
    let now = std::time::SystemTime::now();
    let (expired, _) = alone("a", CA, |params| {
        params.not_after = (now - Duration::from_secs(60)).into()
    });
    let (early, _) = alone("a", CA, |params| {
        params.not_before = (now + Duration::from_secs(60)).into()
    });
    let (server, _) = alone("a", CA, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (own, expected) in [
        (&expired, CertificateError::Expired),
        (&early, CertificateError::NotValidYet),
        (&server, CertificateError::InvalidPurpose),
    ] {
        assert_eq!(judge_client(&[own], own), Err(expected.into()));
    }
    assert_eq!(judge_server(&[&server], &server, "localhost"), Ok(()));
    let other = judge_server(&[&server], &server, "other.example");
    assert!(matches!(
        other,
        Err(Error::InvalidCertificate(
            CertificateError::NotValidForNameContext { .. }
        ))
    ));
}

#[test]
fn a_certificate_of_version_1_is_trusted_if_a_ca_of_the_file_has_signed_it() {
    let ca = authority("ca");
    let (own, key) = issue_version_1(&ca, "device-1");
    assert_eq!(judge_client(&[ca.der()], &own), Ok(()));
    // The same names, and another key.
    let stranger = authority("ca");
    assert_eq!(
        unusual(judge_client(&[stranger.der()], &own)),
        Some(Unusual::Version1)
    );
    let forged = as_version_1(&own, &key);
    assert_eq!(
        unusual(judge_client(&[ca.der()], &forged)),
        Some(Unusual::Version1)
    );
    for at in [40, own.len() / 2, own.len() - 1] {
        let mut altered = own.to_vec();
        altered[at] ^= 1;
        assert!(judge_client(&[ca.der()], &Certificate::from(altered)).is_err());
    }
    // In any cut it is no certificate.
    for size in 0..own.len() {
        let cut = Certificate::from(own[..size].to_vec());
        assert!(judge_client(&[ca.der()], &cut).is_err());
    }
}

#[test]
fn only_a_ca_vouches_for_others() {
    let key = KeyPair::generate().unwrap();
    let device =
        CertifiedIssuer::self_signed(params("device-1", &[], IsCa::ExplicitNoCa), key).unwrap();
    let other = params("device-2", &[], IsCa::NoCa)
        .signed_by(&KeyPair::generate().unwrap(), &device)
        .unwrap();
    assert!(judge_client(&[device.der()], other.der()).is_err());
    let (version_1, _) = issue_version_1(&device, "device-2");
    assert!(judge_client(&[device.der()], &version_1).is_err());
    assert_eq!(judge_client(&[device.der()], device.der()), Ok(()));
}

#[test]
fn a_ca_that_is_not_in_the_file_is_told_apart() {
    let ca = authority("ca");
    let below = params("below", &[], CA)
        .signed_by(&KeyPair::generate().unwrap(), &ca)
        .unwrap();
    assert_eq!(
        unusual(judge_client(&[ca.der()], below.der())),
        Some(Unusual::Ca)
    );
}

#[test]
fn a_server_has_its_common_name_if_there_is_no_other() {
    let ca = authority("ca");
    let (old, _) = issue_version_1(&ca, "mqtt.example");
    let issue = |name: &str, hosts: &[&str]| {
        let key = KeyPair::generate().unwrap();
        let issued = params(name, hosts, IsCa::NoCa)
            .signed_by(&key, &ca)
            .unwrap();
        issued.der().clone()
    };
    let bare = issue("mqtt.example", &[]);
    let full = issue("mqtt.example", &["other.example"]);
    for (own, host, expected) in [
        (&old, "mqtt.example", true),
        (&old, "MQTT.example", true),
        (&old, "other.example", false),
        (&bare, "mqtt.example", true),
        (&bare, "other.example", false),
        (&full, "mqtt.example", false),
        (&full, "other.example", true),
    ] {
        let judged = judge_server(&[ca.der()], own, host);
        assert_eq!(judged.is_ok(), expected, "{host}: {judged:?}");
    }
    let stranger = authority("ca");
    assert!(judge_server(&[stranger.der()], &bare, "mqtt.example").is_err());
}

/// Files of a listener, in a folder that goes with them.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ringmq-trust-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: String) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn certificate(&self, name: &str, der: &Certificate) -> std::path::PathBuf {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        self.write(
            name,
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"),
        )
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// Both sides of version 1, as Mosquitto's manual makes them.
#[test]
fn a_broker_and_a_client_of_version_1_shake_hands() {
    let folder = Folder::new("handshake");
    let ca = authority("ca");
    let (server, server_key) = issue_version_1(&ca, "localhost");
    let (own, key) = issue_version_1(&ca, "device-1");
    let files = TlsFiles {
        certificates: vec![folder.certificate("server.pem", &server)],
        keys: vec![folder.write("server.key", server_key.serialize_pem())],
        client_cas: vec![folder.certificate("ca.pem", ca.der())],
        client_certificate: Demand::Required,
        identity: IdentityField::CommonName,
        ..TlsFiles::default()
    };
    let terms = Arc::new(TlsTerms::load(&files, &[b"mqtt"]).unwrap());
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let private = provider().key_provider.load_private_key(private).unwrap();
    let pair = CertifiedKey::new(vec![own], private);
    for version in [&TLS12, &TLS13] {
        for verifier in [
            trust(&[ca.der()]).for_servers().unwrap(),
            anybody(provider()),
        ] {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.clone())));
            config.alpn_protocols = vec![b"mqtt".to_vec()];
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
            let mut tls = Tls::new(Arc::clone(&terms));
            let (mut plain, mut wire) = (Vec::new(), Vec::new());
            let mut established = None;
            while client.is_handshaking() || established.is_none() {
                let mut flight = Vec::new();
                while client.wants_write() {
                    client.write_tls(&mut flight).unwrap();
                }
                assert!(
                    tls.gather(&flight).unwrap(),
                    "the client has something to say"
                );
                let taken = tls.advance(&terms, &mut plain, &mut wire).unwrap();
                established = taken.established.or(established);
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    client.read_tls(&mut rest).unwrap();
                    client.process_new_packets().unwrap();
                }
                wire.clear();
            }
            let identity = established.and_then(|established| established.identity);
            assert_eq!(identity.as_deref(), Some("device-1"));
        }
    }
}

#[test]
fn the_file_at_fault_is_named() {
    let folder = Folder::new("files");
    let ca = authority("ca");
    let (server, key) = issue_version_1(&ca, "localhost");
    let (device, _) = alone("device-1", IsCa::ExplicitNoCa, |_| {});
    let other = KeyPair::generate().unwrap();
    let files = TlsFiles {
        certificates: vec![folder.certificate("server.pem", &server)],
        keys: vec![folder.write("server.key", key.serialize_pem())],
        ..TlsFiles::default()
    };
    let wrong_key = TlsFiles {
        keys: vec![folder.write("other.key", other.serialize_pem())],
        ..files.clone()
    };
    let broken = TlsFiles {
        certificates: vec![folder.certificate("broken.pem", &Certificate::from(vec![0x30, 0]))],
        ..files.clone()
    };
    let server_pem = std::fs::read_to_string(&files.certificates[0]).unwrap();
    let hidden = TlsFiles {
        certificates: vec![folder.write("hidden.pem", format!("{server_pem} {server_pem}"))],
        ..files.clone()
    };
    let marked = TlsFiles {
        certificates: vec![folder.write("marked.pem", format!("\u{FEFF}{server_pem}"))],
        ..files.clone()
    };
    assert!(TlsTerms::load(&marked, &[]).is_ok(), "a byte-order mark");
    let unused_list = TlsFiles {
        client_cas: vec![folder.certificate("device.pem", &device)],
        client_crls: vec![folder.write("crl.pem", String::new())],
        client_certificate: Demand::Required,
        ..files
    };
    for (files, name, what) in [
        (
            wrong_key,
            "other.key",
            "is not the key of the certificate in",
        ),
        (
            broken,
            "broken.pem",
            "holds a certificate that cannot be read",
        ),
        (
            hidden,
            "hidden.pem",
            "has something in front of `-----BEGIN` on line 4",
        ),
        (unused_list, "crl.pem", "is never used"),
    ] {
        let problem = TlsTerms::load(&files, &[]).unwrap_err();
        assert!(
            problem.file.is_some_and(|file| file.ends_with(name)),
            "{name}"
        );
        assert!(problem.what.contains(what), "{}", problem.what);
    }
}
