//! The settings of section `[admin]`.

use std::path::PathBuf;
use std::time::Duration;

use ringmq::admin::AdminAddress;

use super::value::{Complaint, Items, Kind, Value};
use super::{IN_RANGE, MINUTE_MS, Setting, files, paths, range, to_paths};

/// The control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it listens; empty: nothing starts.
    pub listen: Vec<AdminAddress>,
    /// Who may do what over TCP.
    pub token_files: Vec<PathBuf>,
    /// Certificates for TLS over TCP.
    pub certificates: Vec<PathBuf>,
    /// Their keys.
    pub keys: Vec<PathBuf>,
    /// HTTP without TLS on addresses that other machines can reach.
    pub allow_plain: bool,
    /// Metrics need no token.
    pub open_metrics: bool,
    /// There is a page for browsers.
    pub page: bool,
    /// A turn of a shard that takes longer is reported; zero: none is.
    pub stall_threshold: Duration,
}

impl Default for AdminSettings {
    fn default() -> AdminSettings {
        AdminSettings {
            listen: vec![AdminAddress::Auto],
            token_files: Vec::new(),
            certificates: Vec::new(),
            keys: Vec::new(),
            allow_plain: false,
            open_metrics: false,
            page: true,
            stall_threshold: Duration::from_millis(100),
        }
    }
}

impl AdminSettings {
    /// What no value shows alone.
    pub fn check(&self) -> Option<Complaint> {
        if self.certificates.len() != self.keys.len() {
            let (certificates, keys) = (self.certificates.len(), self.keys.len());
            let what = format!("has {certificates} certificates and {keys} keys");
            let fix = "name a key for each certificate, in the same order: --admin-certificate FILE \
                       --admin-key FILE";
            return Some(Complaint::new(what, fix));
        }
        let reachable = self.listen.iter().find(|address| address.is_reachable());
        if let Some(AdminAddress::Tcp(address)) = reachable
            && self.certificates.is_empty()
            && !self.allow_plain
        {
            let what =
                format!("names {address}, which other machines can reach, and there is no TLS");
            let fix = "name a certificate and its key: --admin-certificate FILE --admin-key FILE, or \
                       certificate and key under [admin]; or say that all who reach it may read the \
                       tokens: --admin-allow-plain";
            return Some(Complaint::new(what, fix));
        }
        let mut listen = self.listen.iter();
        let has_tcp = listen.any(|address| matches!(address, AdminAddress::Tcp(_)));
        if !has_tcp || !self.token_files.is_empty() || self.open_metrics {
            return None;
        }
        let what = "names a TCP address, which nobody could use: there are no tokens";
        let fix = "name a file of tokens: --admin-token-file FILE, or token_file under [admin]; \
                   `ringmq ctl token` makes lines for it";
        Some(Complaint::new(what, fix))
    }
}

/// The rows of `[admin]`.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        section: "admin",
        key: "listen",
        flag: "admin",
        kind: Kind::List(Items::AdminAddresses),
        auto: None,
        help: "Where the control plane listens: for `ringmq ctl`, metrics and the REST interface. unix:PATH for a \
               Unix socket of mode 0600, unix:auto for one in the runtime directory of the user, IP:PORT for HTTP, \
               or HTTPS with a certificate. Empty: nothing starts.",
        get: |settings| {
            let listen = settings.admin.listen.iter();
            Value::List(listen.map(show).collect())
        },
        set: |settings, value| {
            let parse = |text: String| {
                text.parse()
                    .expect("settings hold addresses that were read")
            };
            settings.admin.listen = value.list().into_iter().map(parse).collect();
        },
    },
    files!(
        "admin",
        "token_file",
        "admin-token-file",
        admin.token_files,
        "Files that say who may use the control plane over TCP, even on this machine: lines NAME:ROLE:SHA256, which \
         `ringmq ctl token` makes. Roles: metrics, viewer, operator."
    ),
    files!(
        "admin",
        "certificate",
        "admin-certificate",
        admin.certificates,
        "Certificates in PEM, each with its chain: over TCP, the control plane is HTTPS. Beyond loopback addresses it \
         has to be."
    ),
    files!(
        "admin",
        "key",
        "admin-key",
        admin.keys,
        "The private keys of these certificates, in the same order."
    ),
    Setting {
        section: "admin",
        key: "allow_plain",
        flag: "admin-allow-plain",
        kind: Kind::Switch,
        auto: None,
        help: "Serve HTTP without TLS on addresses that other machines can reach: where a proxy or the network \
               itself keeps tokens secret.",
        get: |settings| Value::Switch(settings.admin.allow_plain),
        set: |settings, value| settings.admin.allow_plain = value.switch(),
    },
    Setting {
        section: "admin",
        key: "open_metrics",
        flag: "admin-open-metrics",
        kind: Kind::Switch,
        auto: None,
        help: "Serve metrics over TCP without a token.",
        get: |settings| Value::Switch(settings.admin.open_metrics),
        set: |settings, value| settings.admin.open_metrics = value.switch(),
    },
    Setting {
        section: "admin",
        key: "page",
        flag: "admin-page",
        kind: Kind::Switch,
        auto: None,
        help: "Serve a page for browsers, and keep its figures of the last five minutes.",
        get: |settings| Value::Switch(settings.admin.page),
        set: |settings, value| settings.admin.page = value.switch(),
    },
    Setting {
        section: "admin",
        key: "stall_threshold",
        flag: "admin-stall-threshold",
        kind: Kind::Millis(range(0, MINUTE_MS)),
        auto: None,
        help: "A turn of a shard that takes longer is reported, with the reason: `ringmq ctl stalls`. Clients of the shard \
               wait meanwhile. 0: none is.",
        get: |settings| {
            let millis = settings.admin.stall_threshold.as_millis();
            Value::Number(millis.try_into().expect(IN_RANGE))
        },
        set: |settings, value| {
            settings.admin.stall_threshold = Duration::from_millis(value.number());
        },
    },
];

/// As in the file.
fn show(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(tcp) => tcp.to_string(),
        AdminAddress::Auto | AdminAddress::Unix(_) => address.to_string(),
    }
}
