//! `ringmq log`: tools for data directories.
//!
//! Not here: what they do (`ringmq::store::tools`), how it is shown (`text`).

mod text;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueHint};
use ringmq::store::tools::{self, ToolError, ToolErrorKind};

use crate::settings::file::Problem;

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

/// Inspect, verify, repair and move data directories
#[derive(Debug, Parser)]
#[command(name = "log", disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Line {
    /// Print the result as one JSON document, errors included
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Show epochs, files, counts and the largest sessions
    Inspect(Directory),
    /// Read everything as a start would; name all damage
    Verify(Directory),
    /// Leave out what is damaged, so that the broker starts
    Repair(Directory),
    /// Copy the directory; the broker may be running
    Backup {
        #[command(flatten)]
        of: Directory,
        /// Where to: a directory that does not exist or is empty
        #[arg(value_hint = ValueHint::DirPath)]
        target: PathBuf,
    },
    /// Write the state as lines of JSON
    Export {
        #[command(flatten)]
        of: Directory,
        /// Where to; stdout without it
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Make a data directory of an export
    Import {
        #[command(flatten)]
        of: Directory,
        /// The export; - is stdin
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Directory {
    /// The broker's --data-dir
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
}

/// Carries out what stands behind `ringmq log`.
pub fn run(line: &Line) -> Ended {
    carry_out(line).unwrap_or_else(|error| refused(line.json, &error))
}

/// A command line that is wrong, as JSON if that is what it asks for.
pub fn wrong_use(args: &[std::ffi::OsString], problem: &Problem) -> Option<Ended> {
    let is_log = args.first().is_some_and(|arg| arg == "log");
    let wants_json = args.iter().any(|arg| arg == "--json");
    let what = format!("{} {}", problem.subject, problem.what);
    (is_log && wants_json).then(|| Ended {
        code: 2,
        said: text::json(&serde_json::json!({"error": what, "fix": problem.fix})),
        complaint: None,
    })
}

fn refused(json: bool, error: &ToolError) -> Ended {
    let code = match error.kind {
        ToolErrorKind::Damaged => 1,
        ToolErrorKind::Wrong => 2,
        ToolErrorKind::Failed => 74,
        ToolErrorKind::InUse => 75,
    };
    let (said, complaint) = match json {
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

fn carry_out(line: &Line) -> Result<Ended, ToolError> {
    let json = line.json;
    let (code, said) = match &line.tool {
        Tool::Inspect(of) | Tool::Verify(of) => {
            let survey = tools::survey(&of.directory)?;
            let said = match (json, &line.tool) {
                (true, _) => text::json(&survey),
                (false, Tool::Inspect(_)) => text::inspected(&survey),
                (false, _) => text::verified(&survey),
            };
            (u8::from(!survey.flaws.is_empty()), said)
        }
        Tool::Repair(of) => {
            let repair = tools::repair(&of.directory)?;
            (0, show(json, &repair, || text::repaired(&repair)))
        }
        Tool::Backup { of, target } => {
            let backup = tools::backup(&of.directory, target)?;
            (0, show(json, &backup, || text::backed_up(&backup, target)))
        }
        Tool::Export { of, file } => (0, export(&of.directory, file.as_deref(), json)?),
        Tool::Import { of, file } => (0, import(&of.directory, file, json)?),
    };
    Ok(Ended {
        code,
        said,
        complaint: None,
    })
}

fn show(json: bool, result: &impl serde::Serialize, text: impl Fn() -> String) -> String {
    match json {
        true => text::json(result),
        false => text(),
    }
}

fn export(directory: &Path, file: Option<&Path>, json: bool) -> Result<String, ToolError> {
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        let mut out = BufWriter::new(io::stdout().lock());
        tools::export(directory, &mut out)?;
        return Ok(String::new());
    };
    let opened = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => ToolError {
            kind: ToolErrorKind::Wrong,
            what: format!("{} exists", path.display()),
            fix: "name a file that does not exist yet, or remove this one".to_owned(),
        },
        _ => failed("make", path, &error),
    })?;
    let mut out = BufWriter::new(file);
    let exported = tools::export(directory, &mut out).and_then(|transfer| {
        let synced = out.flush().and_then(|()| out.get_ref().sync_all());
        synced.map_err(|error| failed("write", path, &error))?;
        Ok(transfer)
    });
    if exported.is_err() {
        // Half of it is of no use.
        let _ = std::fs::remove_file(path);
    }
    let transfer = exported?;
    let sums = || text::sums(&transfer.totals);
    Ok(show(json, &transfer, || {
        format!("exported to {}: {}\n", path.display(), sums())
    }))
}

fn import(directory: &Path, path: &Path, json: bool) -> Result<String, ToolError> {
    let transfer = if path == Path::new("-") {
        tools::import(directory, &mut io::stdin().lock())?
    } else {
        let file = File::open(path).map_err(|error| failed("read", path, &error))?;
        tools::import(directory, &mut BufReader::new(file))?
    };
    let sums = || text::sums(&transfer.totals);
    Ok(show(json, &transfer, || {
        format!("imported into {}: {}\n", directory.display(), sums())
    }))
}

fn failed(action: &str, path: &Path, error: &io::Error) -> ToolError {
    ToolError {
        kind: ToolErrorKind::Failed,
        what: format!("cannot {action} {}: {error}", path.display()),
        fix: "check the path, its mode, and the space on its file system".to_owned(),
    }
}

const AFTER_HELP: &str = "\
All but backup need the broker to be stopped. repair keeps the files as they were in DIR/before-repair-1 (-2, ...), by links. \
backup and import take a directory that does not exist or is empty. Start a broker on a backup to restore it, or copy it to \
where DIR was.

Exit codes: 0 fine, 1 damage found, 2 wrong arguments or directory, 74 reading or writing failed, 75 a broker has the directory.";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::line;

    fn log(line: &str) -> Ended {
        let args = std::iter::once("log").chain(line.split_whitespace());
        let args: Vec<OsString> = args.map(OsString::from).collect();
        match line::parse(args.iter().cloned()) {
            Ok(line::Order::Log(line)) => run(&line),
            Ok(other) => panic!("{other:?}"),
            Err(problems) => wrong_use(&args, &problems[0]).unwrap_or_else(|| Ended {
                code: 2,
                complaint: Some(problems[0].to_string()),
                ..Ended::default()
            }),
        }
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
    }
}
