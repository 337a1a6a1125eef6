//! The syntax of `mosquitto.conf`: a name and its value on each line, and files that are included.

use std::fmt;
use std::path::{Path, PathBuf};

use ringmq_problem::file::{FileFault, read_text};
use ringmq_problem::{Place, Problem, printable};

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) file: String,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) value: String,
}

/// As it stands there, without what is secret.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statement {
            file, line, name, ..
        } = self;
        let is_secret = name.ends_with("password") || name == "bridge_psk";
        let value = match is_secret {
            true => "***",
            false => &self.value,
        };
        let (file, text) = (printable(file), printable(&format!("{name} {value}")));
        write!(f, "{file}:{line}: {}", text.trim_end())
    }
}

/// Reads a file, and those of the directories that it includes.
pub(super) fn read(path: &Path) -> Result<Vec<Statement>, Problem> {
    let fault = |fault: FileFault| Problem {
        place: Place::File(path.display().to_string()),
        subject: "the configuration of Mosquitto".to_owned(),
        what: fault.to_string(),
        fix: "name its file: --import-mosquitto /etc/mosquitto/mosquitto.conf".to_owned(),
    };
    let text = read_text(path, SIZE_MAX).map_err(fault)?;
    let mut statements = Vec::new();
    for statement in parse(&path.display().to_string(), &text) {
        let included = match &*statement.name {
            "include_dir" => included(Path::new(&statement.value)),
            _ => None,
        };
        match included {
            Some(files) => {
                for (path, text) in files {
                    statements.extend(parse(&path.display().to_string(), &text));
                }
            }
            // If it cannot be read, it is a line that is not taken on.
            None => statements.push(statement),
        }
    }
    Ok(statements)
}

/// The files of an included directory, in the order in which Mosquitto reads them; `None`: one
/// cannot be read.
fn included(directory: &Path) -> Option<Vec<(PathBuf, String)>> {
    let entries = std::fs::read_dir(directory).ok()?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().ok()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    // Upper case before the lower case of the same letter.
    paths.sort_by_cached_key(|path| {
        let name = path.as_os_str().to_string_lossy().into_owned();
        (name.to_lowercase(), name)
    });
    let read = paths.into_iter().map(|path| {
        let text = read_text(&path, SIZE_MAX).ok()?;
        Some((path, text))
    });
    read.collect()
}

/// The statements of a text.
pub(super) fn parse(file: &str, text: &str) -> Vec<Statement> {
    let statement = |(index, line): (usize, &str)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        Some(Statement {
            file: file.to_owned(),
            line: index + 1,
            name: name.to_owned(),
            value: value.trim().to_owned(),
        })
    };
    text.lines().enumerate().filter_map(statement).collect()
}

/// No configuration is that large.
const SIZE_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_names_and_values() {
        let text =
            "# a comment\n\n  listener 1883\t127.0.0.1 \r\npersistence true\nremote_password x y\n";
        let statements = parse("m.conf", text);
        let shown: Vec<String> = statements.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "m.conf:3: listener 1883 127.0.0.1",
                "m.conf:4: persistence true",
                "m.conf:5: remote_password ***",
            ]
        );
        assert_eq!(statements[2].value, "x y");
    }

    #[test]
    fn included_files_are_read_in_their_place() {
        let folder = std::env::temp_dir().join(format!("ringmq-import-{}", std::process::id()));
        let inner = folder.join("conf.d");
        std::fs::create_dir_all(&inner).unwrap();
        for (name, text) in [
            ("b.conf", "max_qos 1\n"),
            ("A.conf", "max_qos 0\n"),
            ("a.conf", "max_qos 2\n"),
            ("README", "nonsense\n"),
        ] {
            std::fs::write(inner.join(name), text).unwrap();
        }
        let main = folder.join("mosquitto.conf");
        let text = format!(
            "persistence true\ninclude_dir {}\nport 1\n",
            inner.display()
        );
        std::fs::write(&main, text).unwrap();
        let statements = read(&main).unwrap();
        let shown: Vec<String> = statements
            .iter()
            .map(|statement| format!("{} {}", statement.name, statement.value))
            .collect();
        assert_eq!(
            shown,
            [
                "persistence true",
                "max_qos 0",
                "max_qos 2",
                "max_qos 1",
                "port 1"
            ]
        );
        assert!(statements[1].file.ends_with("A.conf"));
        std::fs::remove_dir_all(&folder).unwrap();
        let problem = read(&main).unwrap_err().to_string();
        assert!(problem.contains("--import-mosquitto"), "{problem}");
    }
}
