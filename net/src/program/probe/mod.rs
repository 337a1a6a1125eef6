//! Start-up checks: what is missing, what is too low, and the fix.
//!
//! [`facts`] reads the machine; [`Plan::make`] judges, and is a pure function of those facts, so
//! that every refusal can be tested without a machine that refuses.

pub mod facts;
pub mod store;

use std::fmt;
use std::net::SocketAddr;

use crate::settings::Settings;
use crate::settings::file::count;
use crate::settings::runtime::Cores;
use facts::{Bind, BindRefusal, Facts, Holder, RingRefusal, RingStep};

/// What the broker is going to use of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many shards.
    pub shards: usize,
    /// What the shards are pinned to.
    pub pinning: Pinning,
    /// Most connections of all shards together.
    pub connections_max: u32,
}

/// What the shards are pinned to, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinning {
    /// The core of each shard; empty: they are not pinned.
    pub cores: Vec<usize>,
    /// Why these, or why none.
    pub why: &'static str,
}

impl fmt::Display for Pinning {
    /// "pinned to cores 0-3 (...)", "not pinned to cores (...)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cores[..] {
            [] => f.write_str("not pinned to cores")?,
            [core] => write!(f, "pinned to core {core}")?,
            _ => write!(f, "pinned to cores {}", show_cores(&self.cores))?,
        }
        write!(f, " ({})", self.why)
    }
}

/// Something about the machine that the user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A sentence without its full stop.
    pub what: String,
    /// What to do about it, as an imperative.
    pub fix: String,
}

impl Plan {
    /// What to use of the machine, with warnings; or all reasons not to start.
    pub fn make(facts: &Facts, settings: &Settings) -> Result<(Plan, Vec<Finding>), Vec<Finding>> {
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        errors.extend(check_kernel(facts));
        errors.extend(check_memlock(facts));
        errors.extend(
            facts
                .binds
                .iter()
                .filter_map(|bind| check_bind(bind, facts)),
        );
        let (shards, pinning) = match place_shards(facts, settings) {
            Ok(placed) => placed,
            Err(error) => {
                errors.push(error);
                (
                    0,
                    Pinning {
                        cores: Vec::new(),
                        why: "",
                    },
                )
            }
        };
        if shards > facts.cores.len() {
            warnings.push(finding(
                format!("{shards} shards share {}", count(facts.cores.len(), "core")),
                "more shards than cores only make sense in tests: leave out `shards`",
            ));
        }
        let connections_max = match fit_connections(facts, settings, shards) {
            Ok((connections_max, warning)) => {
                warnings.extend(warning);
                connections_max
            }
            Err(error) => {
                errors.push(error);
                0
            }
        };
        warnings.extend(check_backlog(facts));
        if let Some(data_dir) = &facts.data_dir {
            let needed_bytes = store::needed_bytes(data_dir, settings, shards);
            let (refusals, doubts) = store::judge(data_dir, needed_bytes);
            errors.extend(refusals);
            warnings.extend(doubts);
        }
        if errors.is_empty() {
            let plan = Plan {
                shards,
                pinning,
                connections_max,
            };
            Ok((plan, warnings))
        } else {
            Err(errors)
        }
    }
}

/// One complaint at most: an old kernel also lacks what a ring needs.
fn check_kernel(facts: &Facts) -> Option<Finding> {
    let release = &facts.kernel_release;
    if parse_release(release).is_some_and(|version| version < KERNEL_MIN) {
        let (major, minor) = KERNEL_MIN;
        return Some(finding(
            format!("this kernel is {release}, but ringmq needs Linux {major}.{minor} or later"),
            "run it on a newer kernel; in a container it is the kernel of the host that counts",
        ));
    }
    match &facts.ring {
        Ok(()) => None,
        Err(refusal) => Some(explain_ring(refusal, facts)),
    }
}

fn explain_ring(refusal: &RingRefusal, facts: &Facts) -> Finding {
    let RingRefusal { step, errno } = *refusal;
    let name = errno_name(errno);
    match (step, errno, facts.io_uring_disabled) {
        (RingStep::Setup, EPERM, Some(2)) => finding(
            format!(
                "io_uring is turned off on this machine ({name}): kernel.io_uring_disabled = 2"
            ),
            "turn it on: sysctl -w kernel.io_uring_disabled=0, and keep it in /etc/sysctl.d",
        ),
        (RingStep::Setup, EPERM, Some(1)) => finding(
            format!(
                "io_uring is not available to this user ({name}): kernel.io_uring_disabled = 1 \
                 admits only the group in kernel.io_uring_group"
            ),
            "add the user of the broker to that group, or sysctl -w kernel.io_uring_disabled=0",
        ),
        (RingStep::Setup | RingStep::Register, EPERM | EACCES, _) if facts.seccomp_filtered => {
            finding(
                format!("a seccomp filter forbids io_uring ({name}), as container runtimes do"),
                "start the container with --security-opt seccomp=scripts/seccomp.json, the profile \
                 that comes with ringmq; in a systemd unit, add @aio to SystemCallFilter=",
            )
        }
        (RingStep::Setup | RingStep::Register, EPERM | EACCES, _) => finding(
            format!("io_uring is forbidden ({name}), by a security module such as SELinux"),
            "look for the denial in the audit log (ausearch -m avc), and allow io_uring there",
        ),
        (RingStep::Setup, ENOSYS, _) if facts.seccomp_filtered => finding(
            format!(
                "io_uring is missing ({name}): hidden by a seccomp filter, or not in this kernel"
            ),
            "in a container, start it with --security-opt seccomp=scripts/seccomp.json; else use \
             a kernel with CONFIG_IO_URING=y",
        ),
        (RingStep::Setup, ENOSYS, _) => finding(
            format!("this kernel has no io_uring ({name})"),
            "use a kernel with CONFIG_IO_URING=y; gVisor and WSL 1 have none",
        ),
        (RingStep::Setup, ENOMEM, _) => finding(
            format!("there is not enough memory for an io_uring ({name})"),
            "raise the memory limit of the service or container",
        ),
        (RingStep::Setup, EMFILE | ENFILE, _) => finding(
            format!("no file descriptor is left for an io_uring ({name})"),
            "raise the limit of open files: ulimit -n, or LimitNOFILE= of the systemd unit",
        ),
        (RingStep::Operations, _, _) => finding(
            "the io_uring of this kernel lacks socket operations that ringmq needs".to_owned(),
            "use an unrestricted Linux 6.1 or later",
        ),
        (RingStep::Setup | RingStep::Register, _, _) => finding(
            format!("an io_uring cannot be set up: {name}"),
            "use an unrestricted Linux 6.1 or later",
        ),
    }
}

fn check_memlock(facts: &Facts) -> Option<Finding> {
    let limit = facts.locked_memory?;
    (limit.soft < MEMLOCK_MIN).then(|| {
        finding(
            format!(
                "the limit of locked memory is {} KiB, but the rings need {} KiB",
                limit.soft / 1024,
                MEMLOCK_MIN / 1024
            ),
            "raise it: ulimit -l, LimitMEMLOCK= of the systemd unit, or --ulimit memlock=-1 of \
             the container",
        )
    })
}

fn check_bind(bind: &Bind, facts: &Facts) -> Option<Finding> {
    let address = bind.address;
    let BindRefusal { errno, holder } = bind.refusal.as_ref()?;
    let name = errno_name(*errno);
    let refused = match *errno {
        EADDRINUSE => check_holder(address, holder.as_ref()),
        EACCES | EPERM if address.port() < facts.unprivileged_port_start => finding(
            format!(
                "port {} is reserved for root ({name}): ports below {} are",
                address.port(),
                facts.unprivileged_port_start
            ),
            format!(
                "choose a higher port, or allow it: setcap cap_net_bind_service=+ep on the binary, \
                 or AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit (MQTT has \
                 {MQTT_PORT})"
            ),
        ),
        EADDRNOTAVAIL => finding(
            format!("{address} is not an address of this machine"),
            "take one that `ip -brief address` lists, or 0.0.0.0 for all",
        ),
        _ => finding(
            format!("{address} cannot be listened on: {name}"),
            "check the address and the rules of the firewall or sandbox",
        ),
    };
    Some(refused)
}

/// A port that something else has.
fn check_holder(address: SocketAddr, holder: Option<&Holder>) -> Finding {
    let (port, other) = (address.port(), other_port(address));
    let process = holder.and_then(|holder| holder.process.as_ref());
    let by = process.map_or_else(String::new, |process| format!(" by {process}"));
    match holder {
        Some(Holder {
            is_listener: false, ..
        }) => finding(
            format!(
                "port {port} is in use{by}: not by a server, but by a connection that was made \
                 from it"
            ),
            format!(
                "see it with `ss -atnp 'sport = :{port}'`, and wait until it ends or end it; or \
                 choose a port outside of net.ipv4.ip_local_port_range, from which the kernel \
                 takes ports for connections, such as {MQTT_PORT}; or keep this one free: sysctl \
                 -w net.ipv4.ip_local_reserved_ports={port}"
            ),
        ),
        Some(_) | None => finding(
            format!("{address} is already in use{by}"),
            match process {
                Some(_) => format!("stop it, or choose another port: {other}"),
                None => format!(
                    "find who has it with `ss -atnp 'sport = :{port}'` as root, or choose another \
                     port: {other}"
                ),
            },
        ),
    }
}

/// How many shards, and the core of each.
///
/// A pinned shard stands still while something else holds its core; one that is not pinned moves
/// away. So shards are pinned if cores are reserved for this process, and not if all programs may
/// use them.
fn place_shards(facts: &Facts, settings: &Settings) -> Result<(usize, Pinning), Finding> {
    let allowed = &facts.cores;
    let shards = settings.shards.unwrap_or(allowed.len().min(SHARDS_MAX));
    let unpinned = |why| {
        let cores = Vec::new();
        Ok((shards, Pinning { cores, why }))
    };
    match &settings.cores {
        Cores::Listed(cores) => match cores.iter().find(|core| !allowed.contains(core)) {
            None => {
                let (cores, why) = (cores.clone(), "as runtime.cores says");
                Ok((cores.len(), Pinning { cores, why }))
            }
            Some(core) => Err(finding(
                format!("core {core} is not among the cores that this process may use"),
                format!("name cores out of {}", show_cores(allowed)),
            )),
        },
        Cores::None => unpinned("as runtime.cores says"),
        Cores::Auto if !facts.is_confined => unpinned("other programs may use the same cores"),
        Cores::Auto => match allowed.get(..shards) {
            Some(cores) => {
                let (cores, why) = (cores.to_vec(), "the process is confined to them");
                Ok((shards, Pinning { cores, why }))
            }
            None => unpinned("there are more shards than cores"),
        },
    }
}

/// File descriptors that are no connections.
pub fn files_of_broker(settings: &Settings, shards: usize) -> u64 {
    let per_shard = FILES_PER_SHARD + settings.all_listeners().count() as u64;
    FILES_RESERVED + shards as u64 * per_shard
}

fn fit_connections(
    facts: &Facts,
    settings: &Settings,
    shards: usize,
) -> Result<(u32, Option<Finding>), Finding> {
    let reserve = files_of_broker(settings, shards);
    let files = facts.open_files;
    let room = u32::try_from(files.soft.saturating_sub(reserve)).unwrap_or(u32::MAX);
    if room == 0 {
        return Err(finding(
            format!(
                "the limit of open files is {}, but the broker itself needs {reserve}",
                files.soft
            ),
            raise_files(reserve + 1024),
        ));
    }
    match settings.connections_max {
        None => Ok((room, None)),
        Some(wanted) if wanted <= room => Ok((wanted, None)),
        Some(wanted) => {
            let warning = finding(
                format!(
                    "connections_max is {wanted}, but the limit of {} open files leaves room for \
                     {room}: the broker accepts {room}",
                    files.soft
                ),
                raise_files(u64::from(wanted) + reserve),
            );
            Ok((room, Some(warning)))
        }
    }
}

fn check_backlog(facts: &Facts) -> Option<Finding> {
    let somaxconn = facts.somaxconn?;
    (somaxconn < BACKLOG).then(|| {
        finding(
            format!(
                "net.core.somaxconn is {somaxconn}: if more clients connect at once, some have to \
                 retry"
            ),
            format!("sysctl -w net.core.somaxconn={BACKLOG}"),
        )
    })
}

fn raise_files(files: u64) -> String {
    format!(
        "raise it to {files}: LimitNOFILE={files} in the systemd unit, --ulimit nofile={files} of \
         the container, or `ulimit -Hn {files}` as root before the start"
    )
}

fn other_port(address: SocketAddr) -> String {
    let port = address.port().checked_add(1).unwrap_or(MQTT_PORT);
    format!("--listen {}", SocketAddr::new(address.ip(), port))
}

/// `0-3,6`.
pub fn show_cores(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            Some(_) | None => runs.push((core, core)),
        }
    }
    let shown: Vec<String> = runs
        .iter()
        .map(|&(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    shown.join(",")
}

/// Major and minor number; `None` for a release that is not one.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

fn errno_name(errno: i32) -> String {
    match errno {
        EPERM => "EPERM".to_owned(),
        EACCES => "EACCES".to_owned(),
        ENOSYS => "ENOSYS".to_owned(),
        ENOMEM => "ENOMEM".to_owned(),
        EMFILE => "EMFILE".to_owned(),
        ENFILE => "ENFILE".to_owned(),
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

fn finding(what: String, fix: impl Into<String>) -> Finding {
    Finding {
        what,
        fix: fix.into(),
    }
}

const EPERM: i32 = libc::EPERM;
const EACCES: i32 = libc::EACCES;
const ENOSYS: i32 = libc::ENOSYS;
const ENOMEM: i32 = libc::ENOMEM;
const EMFILE: i32 = libc::EMFILE;
const ENFILE: i32 = libc::ENFILE;
const EADDRINUSE: i32 = libc::EADDRINUSE;
const EADDRNOTAVAIL: i32 = libc::EADDRNOTAVAIL;

/// The first kernel whose rings run completions in their own task only (DEFER_TASKRUN).
const KERNEL_MIN: (u32, u32) = (6, 1);

/// The executor of each shard refuses to start below.
const MEMLOCK_MIN: u64 = 512 * 1024;

/// Standard streams, the log, signals, files that libraries open for a moment, and connections that
/// are told why they may not stay.
const FILES_RESERVED: u64 = 128;

/// Rings, event and timer descriptors of one shard, and its listening sockets beyond.
const FILES_PER_SHARD: u64 = 16;

/// Connections that may wait to be accepted, as the broker asks the kernel for.
const BACKLOG: u32 = 4096;

const SHARDS_MAX: usize = ringmq_core::ids::ShardId::COUNT_MAX;
const MQTT_PORT: u16 = 1883;

#[cfg(test)]
mod tests {
    use super::facts::Bound;
    use super::*;

    /// A machine with which nothing is wrong.
    fn machine() -> Facts {
        Facts {
            kernel_release: "6.1.0-13-amd64".to_owned(),
            ring: Ok(()),
            io_uring_disabled: Some(0),
            seccomp_filtered: false,
            open_files: Bound {
                soft: 20_000,
                hard: 20_000,
            },
            locked_memory: Some(Bound {
                soft: 8 << 20,
                hard: 8 << 20,
            }),
            somaxconn: Some(4096),
            unprivileged_port_start: 1024,
            cores: vec![0, 1, 2, 3],
            is_confined: false,
            binds: Vec::new(),
            data_dir: None,
        }
    }

    fn refuse_ring(facts: &mut Facts, step: RingStep, errno: i32) {
        facts.ring = Err(RingRefusal { step, errno });
    }

    fn refuse_bind(facts: &mut Facts, address: &str, errno: i32, holder: Option<&str>) {
        facts.binds.push(Bind {
            address: address.parse().unwrap(),
            refusal: Some(BindRefusal {
                errno,
                holder: holder.map(|process| Holder {
                    is_listener: true,
                    process: Some(process.to_owned()),
                }),
            }),
        });
    }

    #[test]
    fn a_port_that_a_connection_has_is_told_apart() {
        for process in [None, Some("curl (pid 7)".to_owned())] {
            let mut facts = machine();
            refuse_bind(&mut facts, "127.0.0.1:39000", EADDRINUSE, None);
            facts.binds[0].refusal.as_mut().unwrap().holder = Some(Holder {
                is_listener: false,
                process,
            });
            let errors = Plan::make(&facts, &Settings::default()).unwrap_err();
            assert!(errors[0].what.contains("by a connection"), "{errors:?}");
            for fix in ["ss -atnp 'sport = :39000'", "ip_local_port_range"] {
                assert!(errors[0].fix.contains(fix), "{errors:?}");
            }
        }
    }

    #[test]
    fn a_good_machine_is_used_whole() {
        let (plan, warnings) = Plan::make(&machine(), &Settings::default()).unwrap();
        assert_eq!(plan.shards, 4);
        assert_eq!(plan.pinning.cores, [0; 0]);
        assert_eq!(plan.connections_max, 20_000 - 128 - 4 * 17);
        assert_eq!(warnings, []);
    }

    #[test]
    fn shards_are_pinned_where_cores_were_set_aside_or_named() {
        let listed = |cores: &[usize]| Cores::Listed(cores.to_vec());
        for (is_confined, shards, cores, expected) in [
            (
                false,
                None,
                Cores::Auto,
                "not pinned to cores (other programs may use the same cores)",
            ),
            (
                true,
                None,
                Cores::Auto,
                "pinned to cores 0-3 (the process is confined to them)",
            ),
            (
                true,
                Some(1),
                Cores::Auto,
                "pinned to core 0 (the process is confined to them)",
            ),
            (
                true,
                Some(5),
                Cores::Auto,
                "not pinned to cores (there are more shards than cores)",
            ),
            (
                true,
                None,
                Cores::None,
                "not pinned to cores (as runtime.cores says)",
            ),
            (
                false,
                None,
                listed(&[1, 3]),
                "pinned to cores 1,3 (as runtime.cores says)",
            ),
        ] {
            let facts = Facts {
                is_confined,
                ..machine()
            };
            let mut settings = Settings {
                shards,
                ..Settings::default()
            };
            settings.cores = cores.clone();
            let (plan, _) = Plan::make(&facts, &settings).unwrap();
            assert_eq!(plan.pinning.to_string(), expected, "{shards:?} {cores:?}");
        }
    }

    #[test]
    fn obstacles_are_named_with_their_fix() {
        type Row = (fn(&mut Facts), &'static str, &'static str);
        let rows: [Row; 19] = [
            (
                |f| f.kernel_release = "5.15.0-91-generic".into(),
                "this kernel is 5.15.0-91-generic, but ringmq needs Linux 6.1 or later",
                "newer kernel",
            ),
            (
                |f| f.kernel_release = "6.0.19".into(),
                "this kernel is 6.0.19, but ringmq needs Linux 6.1 or later",
                "newer kernel",
            ),
            (
                |f| {
                    f.kernel_release = "4.4".into();
                    refuse_ring(f, RingStep::Setup, ENOSYS);
                },
                "this kernel is 4.4",
                "newer kernel",
            ),
            (
                |f| refuse_ring(f, RingStep::Setup, ENOSYS),
                "this kernel has no io_uring (ENOSYS)",
                "CONFIG_IO_URING=y",
            ),
            (
                |f| {
                    f.seccomp_filtered = true;
                    refuse_ring(f, RingStep::Setup, ENOSYS);
                },
                "hidden by a seccomp filter",
                "--security-opt seccomp=scripts/seccomp.json",
            ),
            (
                |f| {
                    f.seccomp_filtered = true;
                    refuse_ring(f, RingStep::Setup, EPERM);
                },
                "a seccomp filter forbids io_uring (EPERM)",
                "--security-opt seccomp=scripts/seccomp.json",
            ),
            (
                |f| {
                    f.seccomp_filtered = true;
                    f.io_uring_disabled = Some(2);
                    refuse_ring(f, RingStep::Setup, EPERM);
                },
                "kernel.io_uring_disabled = 2",
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (
                |f| {
                    f.io_uring_disabled = Some(1);
                    refuse_ring(f, RingStep::Setup, EPERM);
                },
                "io_uring is not available to this user (EPERM): kernel.io_uring_disabled = 1",
                "group",
            ),
            (
                |f| {
                    f.io_uring_disabled = None;
                    refuse_ring(f, RingStep::Setup, EPERM);
                },
                "a security module such as SELinux",
                "audit log",
            ),
            (
                |f| {
                    f.seccomp_filtered = true;
                    refuse_ring(f, RingStep::Register, EPERM);
                },
                "a seccomp filter forbids io_uring (EPERM)",
                "seccomp.json",
            ),
            (
                |f| refuse_ring(f, RingStep::Setup, ENOMEM),
                "not enough memory for an io_uring (ENOMEM)",
                "memory limit",
            ),
            (
                |f| refuse_ring(f, RingStep::Setup, EMFILE),
                "no file descriptor is left for an io_uring (EMFILE)",
                "ulimit -n",
            ),
            (
                |f| refuse_ring(f, RingStep::Setup, libc::EINVAL),
                "an io_uring cannot be set up: Invalid argument",
                "Linux 6.1",
            ),
            (
                |f| refuse_ring(f, RingStep::Operations, 0),
                "lacks socket operations",
                "Linux 6.1",
            ),
            (
                |f| {
                    f.locked_memory = Some(Bound {
                        soft: 65_536,
                        hard: 65_536,
                    })
                },
                "the limit of locked memory is 64 KiB, but the rings need 512 KiB",
                "LimitMEMLOCK=",
            ),
            (
                |f| f.open_files.soft = 100,
                "the limit of open files is 100, but the broker itself needs 196",
                "raise it to 1220: LimitNOFILE=1220",
            ),
            (
                |f| refuse_bind(f, "127.0.0.1:1883", EADDRINUSE, Some("mosquitto (pid 7)")),
                "127.0.0.1:1883 is already in use by mosquitto (pid 7)",
                "stop it, or choose another port: --listen 127.0.0.1:1884",
            ),
            (
                |f| refuse_bind(f, "[::1]:80", EACCES, None),
                "port 80 is reserved for root (EACCES): ports below 1024 are",
                "cap_net_bind_service",
            ),
            (
                |f| refuse_bind(f, "192.0.2.1:1883", EADDRNOTAVAIL, None),
                "192.0.2.1:1883 is not an address of this machine",
                "ip -brief address",
            ),
        ];
        for (spoil, what, fix) in rows {
            let mut facts = machine();
            spoil(&mut facts);
            let errors = Plan::make(&facts, &Settings::default()).expect_err(what);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(
                errors[0].what.contains(what),
                "{:?} has no {what:?}",
                errors[0]
            );
            assert!(
                errors[0].fix.contains(fix),
                "{:?} has no {fix:?}",
                errors[0]
            );
        }
    }

    #[test]
    fn a_port_in_use_by_an_unknown_process_says_how_to_find_it() {
        let mut facts = machine();
        refuse_bind(&mut facts, "127.0.0.1:1883", EADDRINUSE, None);
        let errors = Plan::make(&facts, &Settings::default()).unwrap_err();
        assert!(errors[0].fix.contains("ss -atnp 'sport = :1883'"));
    }

    #[test]
    fn all_reasons_are_given_at_once() {
        let mut facts = machine();
        refuse_ring(&mut facts, RingStep::Setup, ENOSYS);
        facts.open_files.soft = 3;
        refuse_bind(&mut facts, "127.0.0.1:1883", EADDRINUSE, None);
        assert_eq!(
            Plan::make(&facts, &Settings::default()).unwrap_err().len(),
            3
        );
    }

    #[test]
    fn an_unknown_kernel_release_is_judged_by_its_ring_alone() {
        let mut facts = machine();
        facts.kernel_release = "custom".to_owned();
        assert!(Plan::make(&facts, &Settings::default()).is_ok());
    }

    #[test]
    fn connections_beyond_the_open_files_are_a_warning() {
        let settings = Settings {
            connections_max: Some(1_000_000),
            ..Settings::default()
        };
        let (plan, warnings) = Plan::make(&machine(), &settings).unwrap();
        assert_eq!(plan.connections_max, 19_804);
        assert!(
            warnings[0].what.contains("leaves room for 19804"),
            "{warnings:?}"
        );
        assert!(
            warnings[0].fix.contains("LimitNOFILE=1000196"),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_short_accept_queue_is_a_warning() {
        let mut facts = machine();
        facts.somaxconn = Some(128);
        let (_, warnings) = Plan::make(&facts, &Settings::default()).unwrap();
        assert_eq!(warnings[0].fix, "sysctl -w net.core.somaxconn=4096");
    }

    #[test]
    fn shards_are_counted_by_cores_and_pinned_to_allowed_ones() {
        type Row = (Option<usize>, Cores, Result<usize, &'static str>);
        let rows: [Row; 5] = [
            (None, Cores::Auto, Ok(4)),
            (Some(2), Cores::Auto, Ok(2)),
            (Some(6), Cores::Auto, Ok(6)),
            (None, Cores::Listed(vec![3, 1]), Ok(2)),
            (
                None,
                Cores::Listed(vec![1, 9]),
                Err("name cores out of 0-3"),
            ),
        ];
        for (shards, cores, expected) in rows {
            let settings = Settings {
                shards,
                cores: cores.clone(),
                ..Settings::default()
            };
            match (Plan::make(&machine(), &settings), expected) {
                (Ok((plan, warnings)), Ok(expected)) => {
                    assert_eq!(plan.shards, expected);
                    assert_eq!(warnings.len(), usize::from(expected > 4));
                }
                (Err(errors), Err(fix)) => assert_eq!(errors[0].fix, fix),
                (found, _) => panic!("{shards:?} {cores:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn cores_are_shown_as_they_are_written() {
        for (cores, shown) in [
            (&[0][..], "0"),
            (&[0, 1, 2, 3], "0-3"),
            (&[0, 2, 3, 7], "0,2-3,7"),
            (&[1, 0], "1,0"),
        ] {
            assert_eq!(show_cores(cores), shown);
        }
    }
}
