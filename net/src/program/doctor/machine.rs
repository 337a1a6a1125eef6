//! What the kernel tells of a machine, in `/proc` and `/sys`; what is needed of it; and a row of the result.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

/// A machine, as its files show it.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The one that this runs on.
    pub(super) fn this() -> Machine {
        Machine::at("/")
    }

    /// One whose files are below a folder.
    pub(super) fn at(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    /// The text of a file, without the blanks around it; `None`: there is none, or it may not be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds a number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// A file that holds numbers alone.
    pub(super) fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        let text = self.text(path)?;
        let numbers = text.split_ascii_whitespace().map(|word| word.parse().ok());
        numbers.collect()
    }

    /// A setting of the kernel: `net.core.somaxconn`.
    pub(super) fn sysctl(&self, name: &str) -> Option<u64> {
        self.number(&sysctl_path(name))
    }

    /// A setting of the kernel that is several numbers.
    pub(super) fn sysctls(&self, name: &str) -> Option<Vec<u64>> {
        self.numbers(&sysctl_path(name))
    }

    /// The names in a folder, sorted.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The value of a line `key value...` of a file.
    pub(super) fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(key))?;
        Some(value.trim_start_matches(':').trim().to_owned())
    }

    /// A file of each control group that this process is in, the innermost first.
    pub(super) fn cgroup(&self, file: &str) -> Vec<String> {
        let own = self.field("proc/self/cgroup", "0::").unwrap_or_default();
        let folders = std::iter::successors(Some(own.trim_end_matches('/')), |folder| {
            folder.rsplit_once('/').map(|(above, _)| above)
        });
        let texts = folders.map(|folder| self.text(&format!("sys/fs/cgroup{folder}/{file}")));
        texts.flatten().collect()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

fn sysctl_path(name: &str) -> String {
    format!("proc/sys/{}", name.replace('.', "/"))
}

/// What the broker is to do.
#[derive(Clone, Debug)]
pub(super) struct Needs {
    /// Connections at the same time.
    pub(super) connections: u64,
    /// Messages in a second, in and out.
    pub(super) rate: u64,
    pub(super) shards: u64,
    /// File descriptors, beside those of connections.
    pub(super) own_files: u64,
    /// Ports that are listened on.
    pub(super) ports: Vec<u16>,
}

impl Needs {
    /// All file descriptors, and where the number comes from.
    pub(super) fn files(&self) -> (u64, String) {
        let Needs {
            connections,
            own_files,
            ..
        } = self;
        let why = format!("{connections} connections and {own_files} of the broker itself");
        (connections + own_files, why)
    }
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As needed.
    Ok,
    /// The broker starts, and is worse off.
    Warning,
    /// The broker does not start.
    Refused,
}

/// A row of the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    /// With the derivation.
    pub(super) needed: String,
    /// What to do; none if it is as needed.
    pub(super) fix: Option<String>,
    /// A setting of the kernel that does it, as `sysctl` takes it.
    pub(super) sysctl: Option<String>,
}

impl Row {
    /// As needed.
    pub(super) fn fine(name: &str, found: impl ToString, needed: impl ToString) -> Row {
        Row {
            name: name.to_owned(),
            verdict: Verdict::Ok,
            found: found.to_string(),
            needed: needed.to_string(),
            fix: None,
            sysctl: None,
        }
    }

    /// Of two verdicts, this one and how to mend it, unless it is fine.
    pub(super) fn unless(self, is_fine: bool, verdict: Verdict, fix: impl ToString) -> Row {
        match is_fine {
            true => self,
            false => Row {
                verdict,
                fix: Some(fix.to_string()),
                ..self
            },
        }
    }

    /// A warning that a setting of the kernel removes, unless it is fine.
    pub(super) fn unless_set(self, is_fine: bool, setting: &str) -> Row {
        let fix = format!("sysctl -w {}", quoted(setting));
        let row = self.unless(is_fine, Verdict::Warning, fix);
        Row {
            sysctl: (!is_fine).then(|| setting.to_owned()),
            ..row
        }
    }
}

/// For a shell.
fn quoted(setting: &str) -> String {
    match setting.contains(' ') {
        true => format!("'{setting}'"),
        false => setting.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A machine of files that a test has made; they go with it.
    pub(in crate::doctor) struct Fake {
        root: PathBuf,
        pub(in crate::doctor) machine: Machine,
    }

    impl Fake {
        pub(in crate::doctor) fn new(name: &str, files: &[(&str, &str)]) -> Fake {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ringmq-doctor-{}-{name}-{count}", std::process::id());
            let root = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&root);
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
                fs::write(path, text).unwrap();
            }
            fs::create_dir_all(&root).unwrap();
            let machine = Machine::at(&root);
            Fake { root, machine }
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    pub(in crate::doctor) fn needs() -> Needs {
        Needs {
            connections: 100_000,
            rate: 200_000,
            shards: 4,
            own_files: 200,
            ports: vec![1883],
        }
    }

    /// What a row says of a machine of these files: its verdict, what was found, and the fix.
    pub(in crate::doctor) fn judged(
        name: &str,
        files: &[(&str, &str)],
        row: fn(&Machine, &Needs) -> Option<Row>,
    ) -> Option<(Verdict, String, String)> {
        let fake = Fake::new(name, files);
        let row = row(&fake.machine, &needs())?;
        Some((row.verdict, row.found, row.fix.unwrap_or_default()))
    }

    /// A row by name, the files of a machine, and what the row says of them: the verdict, and a part of what was found, or of
    /// the fix.
    pub(in crate::doctor) type Case<'a> = (
        &'a str,
        fn(&Machine, &Needs) -> Option<Row>,
        &'a [(&'a str, &'a str)],
        Verdict,
        &'a str,
    );

    pub(in crate::doctor) fn check(cases: &[Case<'_>]) {
        for (index, (name, row, files, verdict, expected)) in cases.iter().enumerate() {
            let (found, text, fix) = judged(&format!("{name}-{index}"), files, *row).expect(name);
            assert_eq!(found, *verdict, "{name}: {text}");
            let is_ok = *verdict == Verdict::Ok;
            assert_eq!(is_ok, fix.is_empty(), "{name}: {fix}");
            let where_it_is = if is_ok { text } else { fix };
            assert!(where_it_is.contains(expected), "{name}: {where_it_is}");
        }
    }

    #[test]
    fn the_files_of_a_machine_are_read() {
        let fake = Fake::new(
            "files",
            &[
                ("proc/sys/net/core/somaxconn", "4096\n"),
                ("proc/sys/net/ipv4/tcp_mem", "1\t2\t3\n"),
                ("proc/meminfo", "MemTotal:  16 kB\nMemAvailable:  8 kB\n"),
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/b/memory.max", "7\n"),
                ("sys/fs/cgroup/memory.max", "9\n"),
            ],
        );
        let machine = &fake.machine;
        assert_eq!(machine.sysctl("net.core.somaxconn"), Some(4096));
        assert_eq!(machine.sysctl("net.core.nothing"), None);
        assert_eq!(machine.sysctls("net.ipv4.tcp_mem"), Some(vec![1, 2, 3]));
        let available = machine.field("proc/meminfo", "MemAvailable");
        assert_eq!(available.as_deref(), Some("8 kB"));
        assert_eq!(machine.cgroup("memory.max"), ["7", "9"]);
        assert_eq!(machine.names("sys/fs/cgroup/a"), ["b"]);
    }
}
