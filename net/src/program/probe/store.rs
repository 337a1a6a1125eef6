//! What is to be said of a data directory before the start.

use ringmq::store::{self, Direct, DirectoryFacts, FileSystem, Presence};

use super::facts::allowed_cores;
use super::{Finding, finding};
use crate::settings::Settings;
use crate::settings::runtime::Cores;

/// Looks at the data directory that the settings name, and judges it.
pub fn look(settings: &Settings) -> (Vec<Finding>, Vec<Finding>) {
    let Some(path) = settings.store.place() else {
        return (Vec::new(), Vec::new());
    };
    let shards = settings.shards.unwrap_or_else(|| match &settings.cores {
        Cores::Listed(cores) => cores.len(),
        Cores::Auto | Cores::None => allowed_cores().len(),
    });
    let facts = DirectoryFacts::gather(path);
    judge(&facts, needed_bytes(&facts, settings, shards))
}

/// What is to be left, and what new logs take up at once: a start goes on with the segments that are there.
pub fn needed_bytes(facts: &DirectoryFacts, settings: &Settings, shards: usize) -> u64 {
    let new_logs = match facts.is_used {
        true => 0,
        false => store::space_needed(&settings.limits, shards),
    };
    new_logs + settings.store.free_bytes_min
}

/// Reasons not to start, and warnings. `needed_bytes`: what has to be free.
pub fn judge(facts: &DirectoryFacts, needed_bytes: u64) -> (Vec<Finding>, Vec<Finding>) {
    let unfit = facts.unfit.as_ref();
    let errors = [
        refuse_place(facts),
        unfit.map(|error| finding(error.what(), error.fix())),
        refuse_space(facts, needed_bytes),
    ];
    let errors: Vec<Finding> = errors.into_iter().flatten().collect();
    let warnings = match errors.is_empty() {
        true => warn_of(facts, needed_bytes),
        false => Vec::new(),
    };
    (errors, warnings)
}

fn refuse_place(facts: &DirectoryFacts) -> Option<Finding> {
    let path = facts.path.display();
    let above = facts.path.parent().unwrap_or(&facts.path).display();
    match (facts.presence, &facts.unwritable, facts.file_system) {
        (Presence::Other, _, _) => Some(finding(
            format!("the data directory {path} is not a directory"),
            "name a directory: --data-dir DIR",
        )),
        (Presence::NoParent, _, _) => Some(finding(
            format!("the data directory {path} cannot be made: {above} does not exist"),
            format!("check the path, or make it: mkdir -p {above}"),
        )),
        (Presence::Nothing, Some(why), _) => Some(finding(
            format!("the data directory {path} cannot be made: {above}: {why}"),
            format!(
                "make it for the user of the broker: install -d -m 700 -o USER {path}; in a systemd \
                 unit, StateDirectory=ringmq makes /var/lib/ringmq"
            ),
        )),
        (Presence::Directory { .. }, Some(why), _) => Some(finding(
            format!("nothing can be written to the data directory {path}: {why}"),
            format!("make the user of the broker its owner: chown -R USER {path}"),
        )),
        (Presence::Nothing | Presence::Directory { .. }, None, FileSystem::Memory) => {
            Some(finding(
                format!(
                    "the data directory {path} is in memory (tmpfs): what it holds would not \
                     survive the machine"
                ),
                "name a directory on a disk, or none: then nothing is promised to survive",
            ))
        }
        (Presence::Nothing | Presence::Directory { .. }, None, _) => None,
    }
}

fn refuse_space(facts: &DirectoryFacts, needed_bytes: u64) -> Option<Finding> {
    let is_there = facts.presence != Presence::Other && facts.presence != Presence::NoParent;
    (is_there && !facts.is_used && facts.free_bytes < needed_bytes).then(|| {
        finding(
            format!(
                "the file system of the data directory {} has {} free, but the broker needs {}",
                facts.path.display(),
                mebibytes(facts.free_bytes),
                mebibytes(needed_bytes)
            ),
            "make room there, or name a directory on another file system; fewer shards need less",
        )
    })
}

fn warn_of(facts: &DirectoryFacts, needed_bytes: u64) -> Vec<Finding> {
    let path = facts.path.display();
    let space = (facts.is_used && facts.free_bytes < needed_bytes).then(|| {
        finding(
            format!(
                "the file system of the data directory {path} has {} free, less than {}: until there is room, what \
                 would be stored is refused (0x97)",
                mebibytes(facts.free_bytes),
                mebibytes(needed_bytes)
            ),
            "make room there",
        )
    });
    let place = match facts.file_system {
        FileSystem::Memory | FileSystem::Local => None,
        FileSystem::Network(name) => Some(finding(
            format!(
                "the data directory {path} is on a network file system ({name}): its server decides \
                 what survives, and how long that takes"
            ),
            "use a disk of this machine",
        )),
        FileSystem::CopyOnWrite(name) => Some(finding(
            format!(
                "the data directory {path} is on {name}, which never writes in place: each \
                 acknowledgement waits longer"
            ),
            "use ext4 or XFS",
        )),
        FileSystem::Overlay => Some(finding(
            format!("the data directory {path} is part of the container, and ends with it"),
            format!("mount a volume there: docker run -v ringmq-data:{path} ..."),
        )),
    };
    let cache = (facts.direct == Direct::No).then(|| {
        finding(
            format!(
                "the file system of the data directory {path} has no O_DIRECT in blocks of 4 KiB: \
                 writes go through the page cache, and each acknowledgement waits longer"
            ),
            "use ext4 or XFS",
        )
    });
    let owner = match facts.presence {
        Presence::Directory { is_own: false, .. } => Some(finding(
            format!("the data directory {path} belongs to another user"),
            format!("make the user of the broker its owner: chown -R USER {path}"),
        )),
        Presence::Directory { mode, .. } if mode & 0o077 != 0 => Some(finding(
            format!("other users may look into the data directory {path}: its mode is {mode:o}"),
            format!("chmod 700 {path}"),
        )),
        Presence::Directory { .. } | Presence::Nothing | Presence::NoParent | Presence::Other => {
            None
        }
    };
    let all = [place, space, cache, owner];
    all.into_iter().flatten().collect()
}

/// "12 MiB", rounded down.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with which nothing is wrong.
    fn facts() -> DirectoryFacts {
        DirectoryFacts {
            path: "/srv/data".into(),
            presence: Presence::Directory {
                mode: 0o700,
                is_own: true,
            },
            unwritable: None,
            unfit: None,
            is_used: true,
            file_system: FileSystem::Local,
            free_bytes: 1 << 40,
            direct: Direct::Yes,
        }
    }

    type Row = (fn(&mut DirectoryFacts), &'static str, &'static str);

    #[test]
    fn what_stands_in_the_way_is_named_with_its_fix() {
        assert_eq!(judge(&facts(), 1 << 30), (vec![], vec![]));
        let rows: [Row; 7] = [
            (
                |f| f.presence = Presence::Other,
                "is not a directory",
                "--data-dir",
            ),
            (
                |f| f.presence = Presence::NoParent,
                "/srv does not exist",
                "mkdir -p /srv",
            ),
            (
                |f| {
                    f.presence = Presence::Nothing;
                    f.unwritable = Some("denied".to_owned());
                },
                "cannot be made: /srv: denied",
                "install -d -m 700 -o USER /srv/data",
            ),
            (
                |f| f.unwritable = Some("read-only".to_owned()),
                "nothing can be written to the data directory /srv/data: read-only",
                "chown -R USER /srv/data",
            ),
            (|f| f.file_system = FileSystem::Memory, "tmpfs", "on a disk"),
            (
                |f| {
                    f.is_used = false;
                    f.free_bytes = 100 << 20;
                },
                "has 100 MiB free, but the broker needs 1024 MiB",
                "fewer shards",
            ),
            (
                |f| {
                    f.presence = Presence::Nothing;
                    f.is_used = false;
                    f.free_bytes = 0;
                },
                "has 0 MiB free",
                "make room",
            ),
        ];
        for (spoil, what, fix) in rows {
            let mut facts = facts();
            spoil(&mut facts);
            let (errors, warnings) = judge(&facts, 1 << 30);
            let [error] = &errors[..] else {
                panic!("{errors:?}")
            };
            assert!(error.what.contains(what), "{error:?} has no {what:?}");
            assert!(error.fix.contains(fix), "{error:?} has no {fix:?}");
            assert_eq!(warnings, []);
        }
    }

    #[test]
    fn what_is_unwise_is_a_warning() {
        let rows: [Row; 7] = [
            (
                |f| f.free_bytes = 100 << 20,
                "has 100 MiB free, less than 1024 MiB",
                "make room",
            ),
            (
                |f| f.file_system = FileSystem::Network("NFS"),
                "(NFS)",
                "a disk",
            ),
            (
                |f| f.file_system = FileSystem::CopyOnWrite("ZFS"),
                "is on ZFS",
                "ext4",
            ),
            (
                |f| f.file_system = FileSystem::Overlay,
                "part of the container",
                "-v ringmq-data:/srv/data",
            ),
            (|f| f.direct = Direct::No, "page cache", "ext4 or XFS"),
            (
                |f| {
                    f.presence = Presence::Directory {
                        mode: 0o755,
                        is_own: true,
                    }
                },
                "its mode is 755",
                "chmod 700 /srv/data",
            ),
            (
                |f| {
                    f.presence = Presence::Directory {
                        mode: 0o700,
                        is_own: false,
                    }
                },
                "another user",
                "chown",
            ),
        ];
        for (spoil, what, fix) in rows {
            let mut facts = facts();
            spoil(&mut facts);
            let (errors, warnings) = judge(&facts, 1 << 30);
            let [warning] = &warnings[..] else {
                panic!("{warnings:?}")
            };
            assert!(warning.what.contains(what), "{warning:?} has no {what:?}");
            assert!(warning.fix.contains(fix), "{warning:?} has no {fix:?}");
            assert_eq!(errors, []);
        }
    }
}
