//! `ringmq log`: tools for data directories.
//!
//! Not here: what they do (`ringmq::store::tools`), how it is shown (`text`).

mod text;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use lexopt::Arg;
use ringmq::store::tools::{self, ToolError, ToolErrorKind};

use crate::settings::file::{Place, Problem};

/// How a tool ended, and what there is to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// 0 fine, 1 damage found, 2 wrong use, 74 input or output failed, 75 in use.
    pub code: u8,
    /// For stdout.
    pub said: String,
    /// For stderr.
    pub complaint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Inspect,
    Verify,
    Repair,
    Export,
    Import,
    Backup,
}

#[derive(Debug)]
struct Order {
    tool: Tool,
    directory: PathBuf,
    /// A file or a directory; not all tools have one.
    other: Option<PathBuf>,
    json: bool,
}

/// Carries out what stands behind `ringmq log`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Ended {
    let args: Vec<OsString> = args.into_iter().collect();
    let json = args.iter().any(|arg| arg == "--json");
    let order = match parse(args) {
        Ok(Some(order)) => order,
        Ok(None) => {
            return Ended {
                said: HELP.to_owned(),
                ..Ended::default()
            };
        }
        Err(problem) if json => {
            let what = format!("{} {}", problem.subject, problem.what);
            return Ended {
                code: 2,
                said: text::json(&serde_json::json!({"error": what, "fix": problem.fix})),
                ..Ended::default()
            };
        }
        Err(problem) => {
            return Ended {
                code: 2,
                complaint: Some(problem.to_string()),
                ..Ended::default()
            };
        }
    };
    carry_out(&order).unwrap_or_else(|error| refused(&order, &error))
}

fn refused(order: &Order, error: &ToolError) -> Ended {
    let code = match error.kind {
        ToolErrorKind::Damaged => 1,
        ToolErrorKind::Wrong => 2,
        ToolErrorKind::Failed => 74,
        ToolErrorKind::InUse => 75,
    };
    let (said, complaint) = match order.json {
        true => (
            text::json(&serde_json::json!({"error": error.what, "fix": error.fix})),
            None,
        ),
        false => (String::new(), Some(error.to_string())),
    };
    Ended {
        code,
        said,
        complaint,
    }
}

fn carry_out(order: &Order) -> Result<Ended, ToolError> {
    let directory = &order.directory;
    let (code, said) = match order.tool {
        Tool::Inspect | Tool::Verify => {
            let survey = tools::survey(directory)?;
            let said = match (order.json, order.tool) {
                (true, _) => text::json(&survey),
                (false, Tool::Inspect) => text::inspected(&survey),
                (false, _) => text::verified(&survey),
            };
            (u8::from(!survey.flaws.is_empty()), said)
        }
        Tool::Repair => {
            let repair = tools::repair(directory)?;
            let said = match order.json {
                true => text::json(&repair),
                false => text::repaired(&repair),
            };
            (0, said)
        }
        Tool::Backup => {
            let target = order.other.as_deref().unwrap_or(Path::new(""));
            let backup = tools::backup(directory, target)?;
            let said = match order.json {
                true => text::json(&backup),
                false => text::backed_up(&backup, target),
            };
            (0, said)
        }
        Tool::Export => (0, export(order)?),
        Tool::Import => (0, import(order)?),
    };
    Ok(Ended {
        code,
        said,
        complaint: None,
    })
}

fn export(order: &Order) -> Result<String, ToolError> {
    let Some(path) = order
        .other
        .as_deref()
        .filter(|path| *path != Path::new("-"))
    else {
        let mut out = BufWriter::new(io::stdout().lock());
        tools::export(&order.directory, &mut out)?;
        return Ok(String::new());
    };
    let opened = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = opened.map_err(|error| failed("make", path, &error))?;
    let mut out = BufWriter::new(file);
    let exported = tools::export(&order.directory, &mut out).and_then(|transfer| {
        let synced = out.flush().and_then(|()| out.get_ref().sync_all());
        synced.map_err(|error| failed("write", path, &error))?;
        Ok(transfer)
    });
    if exported.is_err() {
        // Half of it is of no use.
        let _ = std::fs::remove_file(path);
    }
    let transfer = exported?;
    Ok(match order.json {
        true => text::json(&transfer),
        false => format!(
            "exported to {}: {}\n",
            path.display(),
            text::sums(&transfer.totals)
        ),
    })
}

fn import(order: &Order) -> Result<String, ToolError> {
    let path = order.other.as_deref().unwrap_or(Path::new("-"));
    let transfer = if path == Path::new("-") {
        tools::import(&order.directory, &mut io::stdin().lock())?
    } else {
        let file = File::open(path).map_err(|error| failed("read", path, &error))?;
        tools::import(&order.directory, &mut BufReader::new(file))?
    };
    Ok(match order.json {
        true => text::json(&transfer),
        false => format!(
            "imported into {}: {}\n",
            order.directory.display(),
            text::sums(&transfer.totals)
        ),
    })
}

fn failed(action: &str, path: &Path, error: &io::Error) -> ToolError {
    ToolError {
        kind: ToolErrorKind::Failed,
        what: format!("cannot {action} {}: {error}", path.display()),
        fix: "check the path, its mode, and the space on its file system".to_owned(),
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Order>, Problem> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut json, mut values) = (false, Vec::new());
    let wrong = |error: lexopt::Error| usage(&error.to_string());
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Long("json") => json = true,
            Arg::Value(value) => values.push(value),
            other => return Err(usage(&other.unexpected().to_string())),
        }
    }
    let mut values = values.into_iter();
    let Some(name) = values.next() else {
        return Err(usage(
            "a command is needed: inspect, verify, repair, export, import or backup",
        ));
    };
    let name = name.to_string_lossy();
    let (tool, takes_other, needs_other) = match &*name {
        "inspect" => (Tool::Inspect, false, false),
        "verify" => (Tool::Verify, false, false),
        "repair" => (Tool::Repair, false, false),
        "export" => (Tool::Export, true, false),
        "import" => (Tool::Import, true, true),
        "backup" => (Tool::Backup, true, true),
        _ => return Err(usage(&format!("`{name}` is not a command"))),
    };
    let Some(directory) = values.next() else {
        return Err(usage(&format!("{name} needs DIR, the broker's --data-dir")));
    };
    let other = if takes_other { values.next() } else { None };
    if needs_other && other.is_none() {
        let what = if tool == Tool::Import {
            "FILE"
        } else {
            "TARGET"
        };
        return Err(usage(&format!("{name} needs {what} behind DIR")));
    }
    if values.next().is_some() {
        return Err(usage(&format!("{name} takes no more arguments")));
    }
    Ok(Some(Order {
        tool,
        directory: directory.into(),
        other: other.map(PathBuf::from),
        json,
    }))
}

fn usage(what: &str) -> Problem {
    Problem {
        place: Place::CommandLine,
        subject: "log:".to_owned(),
        what: what.to_owned(),
        fix: "`ringmq log --help` says how".to_owned(),
    }
}

/// The text of `ringmq log --help`.
pub const HELP: &str = "\
Usage: ringmq log inspect DIR          Show epochs, files, counts and the largest sessions
       ringmq log verify DIR           Read everything as a start would; name all damage
       ringmq log repair DIR           Leave out what is damaged, so that the broker starts
       ringmq log backup DIR TARGET    Copy the directory; the broker may be running
       ringmq log export DIR [FILE]    Write the state as lines of JSON, to stdout without FILE
       ringmq log import DIR FILE      Make a data directory of an export (- is stdin)

DIR is the broker's --data-dir. All but backup need the broker to be stopped.

      --json  Print the result as one JSON document, errors included
  -h, --help  Print this help

repair keeps the files as they were in DIR/before-repair-1 (-2, ...), by links. backup and import take a directory
that does not exist or is empty. Start a broker on a backup to restore it, or copy it to where DIR was.

Exit codes: 0 fine, 1 damage found, 2 wrong arguments or directory, 74 reading or writing failed, 75 a broker
has the directory.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn log(line: &str) -> Ended {
        run(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn mistakes_in_a_command_are_reported_with_a_fix() {
        for (line, expected) in [
            ("", "a command is needed"),
            ("frob x", "`frob` is not a command"),
            ("verify", "verify needs DIR"),
            ("verify a b", "takes no more arguments"),
            ("backup a", "backup needs TARGET"),
            ("import a", "import needs FILE"),
            ("export a b c", "takes no more arguments"),
            ("--frob verify a", "--frob"),
            ("verify /nonexistent/ringmq", "is not a directory"),
            (
                "backup /nonexistent/ringmq /tmp/x",
                "is not a data directory",
            ),
        ] {
            let ended = log(line);
            let complaint = ended.complaint.unwrap();
            assert_eq!(ended.code, 2, "{line}");
            assert!(complaint.contains(expected), "{line}: {complaint}");
            assert!(complaint.contains("fix: "), "{line}: {complaint}");
        }
        let ended = log("verify --json a b");
        let said: serde_json::Value = serde_json::from_str(&ended.said).unwrap();
        assert_eq!((ended.code, ended.complaint), (2, None));
        assert_eq!(said["error"], "log: verify takes no more arguments");
        assert_eq!(log("--help").said, HELP);
    }
}
