//! Presets for services of clouds, against an endpoint that enforces their limits: what a preset
//! lets through is accepted, and what it refuses is refused by the endpoint when it is not checked.

mod endpoint;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::common::{Done, run};
use endpoint::{Endpoint, Setup};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use ringload::cloud::Service;
use ringload::cloud::limits::Rule;
use ringload::cloud::sas::Key;

/// A folder with certificates for a service and its clients, and a key.
struct World {
    folder: PathBuf,
    service: Service,
}

impl World {
    fn new(service: Service, test: &str) -> World {
        let name = format!(
            "ringload-cloud-{}-{test}-{}",
            std::process::id(),
            service.word()
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        fs::write(folder.join("key"), format!("{KEY}\n")).unwrap();
        for (file, name, usage) in [
            ("server", host(service), ExtendedKeyUsagePurpose::ServerAuth),
            ("device-0", "device-0", ExtendedKeyUsagePurpose::ClientAuth),
            ("device-1", "device-1", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let local = SanType::IpAddress([127, 0, 0, 1].into());
            params.subject_alt_names.push(local);
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(folder.join(format!("{file}.pem")), certificate.pem()).unwrap();
            fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
        }
        World { folder, service }
    }

    fn endpoint(&self, change: impl FnOnce(&mut Setup)) -> Endpoint {
        let mut setup = Setup {
            service: self.service,
            name: host(self.service),
            is_https: false,
            key: Key::parse(KEY).unwrap(),
            policy: None,
        };
        change(&mut setup);
        Endpoint::start(setup, &self.folder)
    }

    /// A scenario that the service accepts, with some lines in place of others.
    fn scenario(&self, changes: &[(&str, &str)]) -> PathBuf {
        let mut text = base(self.service);
        for (old, new) in changes {
            let may_miss = old.starts_with("CERTIFICATE");
            assert!(may_miss || text.contains(old), "{old} in {text}");
            text = text.replace(old, new);
        }
        let common = format!("TRUSTNAME{QOS}KEY");
        let again = format!(
            "[[group]]\nname = \"again\"\nclient_id = \"device-{{index}}\"\n{common}\
             subscribe = \"$iothub/twin/res/#\"\n"
        );
        let folder = self.folder.display().to_string();
        let name = format!("tls_name = \"{}\"\n", host(self.service));
        let long = "x".repeat(300);
        for (old, new) in [
            ("AGAIN", again.as_str()),
            ("TRUST", "tls_ca = \"FOLDER/ca.pem\"\n"),
            ("NAME", &name),
            ("KEY", "sas_key_file = \"FOLDER/key\"\n"),
            ("CERTIFICATE0", &certificate("0")),
            ("CERTIFICATE", &certificate("{index}")),
            ("LONG", &long),
            ("FOLDER", &folder),
        ] {
            text = text.replace(old, new);
        }
        let path = self.folder.join("scenario.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, endpoint: &Endpoint, changes: &[(&str, &str)]) -> Done {
        let path = self.scenario(changes);
        run(endpoint.port, &[&path.display().to_string()])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const KEY: &str = "c2VjcmV0LWtleS1vZi10aGUtaHVi";

fn host(service: Service) -> &'static str {
    match service {
        Service::AwsIotCore => "a1b2c3-ats.iot.eu-west-1.amazonaws.com",
        Service::AzureIotHub => "plant.azure-devices.net",
        Service::AzureEventGrid => "plant.westeurope-1.ts.eventgrid.azure.net",
    }
}

fn certificate(index: &str) -> String {
    let file = format!("FOLDER/device-{index}");
    format!("tls_cert = \"{file}.pem\"\ntls_key = \"{file}.key\"\n")
}

/// Two devices that publish, and where that can be, one that hears them. Words in capitals stand
/// for what differs from folder to folder.
fn base(service: Service) -> String {
    let word = service.word();
    let head = format!(
        "name = \"cloud\"\npreset = \"{word}\"\nwarmup = \"0s\"\nduration = \"500ms\"\n\
         drain = \"1s\"\nanswer_timeout = \"20s\"\n"
    );
    let common = format!("TRUSTNAME{QOS}");
    let devices = format!(
        "[[group]]\nname = \"devices\"\nclients = 2\n{RATE}{SMALL}\
         client_id = \"device-{{index}}\"\n{common}"
    );
    match service {
        Service::AzureIotHub => format!(
            "{head}{devices}KEY\
             publish = \"devices/device-{{index}}/messages/events/\"\n\
             subscribe = \"devices/device-{{index}}/messages/devicebound/#\"\n"
        ),
        Service::AwsIotCore | Service::AzureEventGrid => format!(
            "{head}[[group]]\nname = \"readers\"\nclient_id = \"reader\"\n{common}\
             CERTIFICATE0subscribe = [\"plant/{{run}}/+\"]\n\
             {devices}CERTIFICATEpublish = {TOPIC}\n"
        ),
    }
}

#[test]
fn a_scenario_with_a_preset_is_accepted() {
    for service in Service::ALL {
        let world = World::new(service, "accepted");
        let endpoint = world.endpoint(|_| {});
        let done = world.run(&endpoint, &[]);
        assert_eq!(done.code, Some(0), "{service:?}: {done:#?}");
        assert_eq!(endpoint.refused(), [], "{service:?}");
        let result = done.result();
        assert!(result.troubles.is_empty(), "{service:?}: {done:#?}");
        assert_eq!(endpoint.published(), 20, "{service:?}");
        let publish = result.groups.last().unwrap().publish.as_ref().unwrap();
        assert_eq!(
            (publish.sent, publish.acknowledged),
            (20, 20),
            "{service:?}"
        );
        let owed = if service == Service::AzureIotHub {
            0
        } else {
            20
        };
        let ledger = &result.totals.ledger;
        assert_eq!((ledger.owed, ledger.delivered), (owed, owed), "{service:?}");
        // Secrets stay where they are.
        let all = format!("{}{}{}", done.stdout, done.stderr, result.to_json());
        for secret in [KEY, "SharedAccessSignature", "PRIVATE KEY"] {
            assert!(!all.contains(secret), "{service:?}: {all}");
        }
    }
}

#[test]
fn clients_get_in_by_every_way_that_a_service_has() {
    // On port 443 the protocol has to be named; here that port has another number.
    let aws = World::new(Service::AwsIotCore, "ways");
    let endpoint = aws.endpoint(|setup| setup.is_https = true);
    let accepted = |done: &Done, endpoint: &Endpoint| {
        assert_eq!(
            (done.code, endpoint.refused()),
            (Some(0), vec![]),
            "{done:#?}"
        );
    };
    let by_certificate = (QOS, "tls_alpn = \"x-amzn-mqtt-ca\"\nqos = 1\n");
    accepted(&aws.run(&endpoint, &[by_certificate]), &endpoint);
    let by_authorizer = (
        QOS,
        "user = \"me\"\npassword = \"S3\"\ntls_alpn = \"mqtt\"\nqos = 1\n",
    );
    let nobody = [("CERTIFICATE0", ""), ("CERTIFICATE", "")];
    accepted(
        &aws.run(&endpoint, &[nobody[0], nobody[1], by_authorizer]),
        &endpoint,
    );

    let hub = World::new(Service::AzureIotHub, "ways");
    let endpoint = hub.endpoint(|setup| setup.policy = Some("device"));
    accepted(
        &hub.run(&endpoint, &[(QOS, "sas_policy = \"device\"\nqos = 1\n")]),
        &endpoint,
    );
    accepted(&hub.run(&endpoint, &[("KEY", "CERTIFICATE")]), &endpoint);
    // A key that is not that of the hub.
    fs::write(hub.folder.join("key"), "c29tZSBvdGhlciBrZXk=\n").unwrap();
    let done = hub.run(&endpoint, &[]);
    assert_eq!(
        (done.code, endpoint.refused()),
        (Some(1), vec![Rule::Identity]),
        "{done:#?}"
    );
}

#[test]
fn a_connection_ends_with_its_token_and_comes_back_with_a_new_one() {
    let world = World::new(Service::AzureIotHub, "token");
    let short = (QOS, "reconnect = true\nsas_expiry = \"3s\"\nqos = 1\n");
    let longer = ("\"500ms\"", "\"7s\"");
    let endpoint = world.endpoint(|_| {});
    let done = world.run(&endpoint, &[short, longer]);
    assert_eq!(endpoint.refused(), [Rule::Token], "{done:#?}");
    let devices = &done.result().groups[0];
    assert!(devices.reconnects >= 2, "{done:#?}");
}

/// What is changed in the scenario, and what is to come of it.
struct Row {
    services: &'static [Service],
    rule: Rule,
    /// What the problem is about.
    subject: &'static str,
    changes: &'static [(&'static str, &'static str)],
}

const AWS: &[Service] = &[Service::AwsIotCore];
const HUB: &[Service] = &[Service::AzureIotHub];
const GRID: &[Service] = &[Service::AzureEventGrid];
const BROKERS: &[Service] = &[Service::AwsIotCore, Service::AzureEventGrid];
const ALL: &[Service] = &Service::ALL;

/// Every rule of every service, broken.
const ROWS: &[Row] = &[
    row(
        ALL,
        Rule::Tls,
        "devices.tls",
        &[
            PLAIN,
            ("NAME", ""),
            ("CERTIFICATE0", ""),
            ("CERTIFICATE", ""),
        ],
    ),
    row(ALL, Rule::Sni, "devices.tls_name", &[("NAME", "")]),
    row(
        BROKERS,
        Rule::Identity,
        "devices.tls_cert",
        &[("CERTIFICATE0", ""), ("CERTIFICATE", "")],
    ),
    row(HUB, Rule::Identity, "devices.sas_key_file", &[("KEY", "")]),
    row(
        BROKERS,
        Rule::ClientId,
        "devices.client_id",
        &[("\"device-{index}\"", LONG_ID)],
    ),
    row(
        HUB,
        Rule::ClientId,
        "devices.client_id",
        &[("device-{index}", LONG_NAME)],
    ),
    row(
        BROKERS,
        Rule::Twice,
        "devices.client_id",
        &[("\"reader\"", "\"device-{index}\"")],
    ),
    row(
        HUB,
        Rule::Twice,
        "devices.client_id",
        &[("[[group]]", "AGAIN[[group]]")],
    ),
    row(
        HUB,
        Rule::User,
        "devices.user",
        &[(QOS, "user = \"me\"\nqos = 1\n")],
    ),
    row(
        HUB,
        Rule::Token,
        "devices.sas_expiry",
        &[
            (QOS, "sas_expiry = \"3s\"\nqos = 1\n"),
            ("\"500ms\"", "\"7s\""),
        ],
    ),
    row(
        HUB,
        Rule::Protocol,
        "devices.protocol",
        &[(QOS, "protocol = \"5.0\"\nqos = 1\n")],
    ),
    row(ALL, Rule::Qos, "devices.qos", &[(QOS, "qos = 2\n")]),
    row(
        AWS,
        Rule::Payload,
        "devices.payload",
        &[SLOW, (SMALL, "payload = 131073\n")],
    ),
    row(
        HUB,
        Rule::Payload,
        "devices.payload",
        &[SLOW, (SMALL, "payload = 262145\n")],
    ),
    row(
        GRID,
        Rule::Payload,
        "devices.payload",
        &[SLOW, (SMALL, "payload = 524289\n")],
    ),
    row(
        AWS,
        Rule::Topic,
        "devices.publish",
        &[(TOPIC, "\"plant/a/b/c/d/e/f/g/{index}\"")],
    ),
    row(
        AWS,
        Rule::Topic,
        "devices.publish",
        &[(TOPIC, "\"LONG/{index}\"")],
    ),
    row(
        HUB,
        Rule::Topic,
        "devices.publish",
        &[("messages/events", "events")],
    ),
    row(
        AWS,
        Rule::Filter,
        "readers.subscribe",
        &[("[\"plant/{run}/+\"]", NINE)],
    ),
    row(
        GRID,
        Rule::Filter,
        "readers.subscribe",
        &[("plant/{run}/+", "$share/g/plant/+")],
    ),
    row(
        HUB,
        Rule::Filter,
        "devices.subscribe",
        &[("messages/devicebound", "devicebound")],
    ),
    row(AWS, Rule::Rate, "devices.rate", &[(RATE, "rate = 1000\n")]),
    row(GRID, Rule::Rate, "devices.rate", &[(RATE, "rate = 5000\n")]),
    row(
        BROKERS,
        Rule::Bandwidth,
        "devices.payload",
        &[(RATE, "rate = 40\n"), (SMALL, "payload = \"120KiB\"\n")],
    ),
    row(
        AWS,
        Rule::Inflight,
        "devices.inflight_max",
        &[
            (RATE, "rate = 99\ninflight_max = 200\n"),
            ("drain =", "arrivals = \"bursts(140)\"\ndrain ="),
        ],
    ),
    row(
        &[Service::AzureIotHub, Service::AzureEventGrid],
        Rule::KeepAlive,
        "devices.keep_alive",
        &[(QOS, "keep_alive = \"1200s\"\nqos = 1\n")],
    ),
    row(
        GRID,
        Rule::Retain,
        "devices.retain",
        &[SLOW, (SMALL, "payload = 65537\nretain = true\n")],
    ),
    row(
        BROKERS,
        Rule::Session,
        "devices.session_expiry",
        &[(QOS, "clean = false\nsession_expiry = \"200h\"\nqos = 1\n")],
    ),
];

const fn row(
    services: &'static [Service],
    rule: Rule,
    subject: &'static str,
    changes: &'static [(&'static str, &'static str)],
) -> Row {
    Row {
        services,
        rule,
        subject,
        changes,
    }
}

const QOS: &str = "qos = 1\n";
const RATE: &str = "rate = 20\n";
const SMALL: &str = "payload = 64\n";
const TOPIC: &str = "\"plant/{run}/{index}\"";
/// So few that their bytes are no matter.
const SLOW: (&str, &str) = (RATE, "rate = 1\n");
const PLAIN: (&str, &str) = ("TRUST", "tls = false\n");
const LONG_ID: &str = "\"device-{index}-LONG\"";
const LONG_NAME: &str = "device-{index}-LONG";
const NINE: &str = "[\"0\", \"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\"]";

#[test]
fn what_a_preset_refuses_is_refused_by_the_service() {
    for service in Service::ALL {
        let world = World::new(service, "refused");
        let rows = ROWS.iter().filter(|row| row.services.contains(&service));
        let mut seen: BTreeSet<Rule> = [Rule::Alpn].into();
        for row in rows {
            let what = format!("{service:?}, {:?}", row.rule);
            let endpoint = world.endpoint(|_| {});
            let done = world.run(&endpoint, row.changes);
            assert_eq!(done.code, Some(2), "{what}: {done:#?}");
            let named = format!("{} ", row.subject);
            let source = service.limits().source;
            for expected in [
                &named,
                service.limits().name,
                source,
                "fix: ",
                "scenario.toml:",
            ] {
                assert!(done.stderr.contains(expected), "{what}: {}", done.stderr);
            }
            assert_eq!(
                (endpoint.refused(), endpoint.published()),
                (vec![], 0),
                "{what}"
            );
            // Unchecked, it is the endpoint that says no, and for the same reason.
            let mut changes = row.changes.to_vec();
            changes.push(("answer_timeout", "preset_check = false\nanswer_timeout"));
            let done = world.run(&endpoint, &changes);
            assert_eq!(endpoint.refused(), [row.rule], "{what}: {done:#?}");
            seen.insert(row.rule);
        }
        let rules: BTreeSet<Rule> = service.limits().rules.iter().copied().collect();
        seen.retain(|rule| *rule != Rule::Alpn || rules.contains(&Rule::Alpn));
        assert_eq!(
            seen, rules,
            "{service:?}: a rule without a row, or the other way round"
        );
    }
}

#[test]
fn the_port_of_https_wants_the_name_of_the_protocol() {
    let world = World::new(Service::AwsIotCore, "alpn");
    let endpoint = world.endpoint(|setup| setup.is_https = true);
    let wrong = (QOS, "tls_alpn = \"mqtt\"\nqos = 1\n");
    let path = world.scenario(&[wrong]).display().to_string();
    let done = run(443, &[&path]);
    assert_eq!(done.code, Some(2), "{done:#?}");
    assert!(
        done.stderr
            .contains("devices.tls_alpn is not `x-amzn-mqtt-ca`"),
        "{}",
        done.stderr
    );
    // The endpoint has another port in truth, so the preset does not see it.
    for changes in [&[wrong][..], &[]] {
        let done = world.run(&endpoint, changes);
        assert_eq!(
            (done.code, endpoint.refused()),
            (Some(1), vec![Rule::Alpn]),
            "{done:#?}"
        );
    }
}

#[test]
fn quotas_of_an_account_are_warnings() {
    let world = World::new(Service::AwsIotCore, "quota");
    let endpoint = world.endpoint(|_| {});
    let path = world.scenario(&[]).display().to_string();
    // 601 clients need certificates; here all have the same.
    let one = ["device-0.pem", "device-0.key"].map(|f| world.folder.join(f).display().to_string());
    let set = [
        "devices.clients=601".to_owned(),
        "devices.rate=40".to_owned(),
        format!("devices.tls_cert={}", one[0]),
        format!("devices.tls_key={}", one[1]),
        "devices.messages=1".to_owned(),
    ];
    let sets = set.iter().flat_map(|set| ["--set", set.as_str()]);
    let all: Vec<&str> = [path.as_str(), "--keep-going"]
        .into_iter()
        .chain(sets)
        .collect();
    let done = run(endpoint.port, &all);
    for expected in [
        "warning: ",
        "devices.rate comes to 24040 messages/s of all clients, and an account in a region has",
        "devices.connect_rate is not set, so 601 clients connect at once, and an account",
        "costs money",
    ] {
        assert!(
            done.stderr.contains(expected),
            "{expected}: {}",
            done.stderr
        );
    }
    assert!(done.result.is_some());
}
