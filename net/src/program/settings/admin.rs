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
            open_metrics: false,
            page: true,
            stall_threshold: Duration::from_millis(100),
        }
    }
}

impl AdminSettings {
    /// What no value shows alone.
    pub fn check(&self) -> Option<Complaint> {
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
               Unix socket of mode 0600, unix:auto for one in the runtime directory of the user, IP:PORT for HTTP \
               on a loopback address. Empty: nothing starts.",
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
