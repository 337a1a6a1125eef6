//! The command line of `ringload report`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::{Arg, ValueExt};

use super::{Request, write};

/// The text of `ringload report --help`.
pub const HELP: &str = "\
Usage: ringload report [OPTIONS] FILE|FOLDER...

Turns result files (ringload run --json) into one self-contained page with tables and plots, runs of the same scenario side by
side. A folder stands for all result files below it. Runs of one scenario with the same --label are rounds: numbers are their
medians.

Options:
  -o, --out FILE     write the page to this file [default: report.html]
      --svg FOLDER   also write the plots, one SVG file each
      --title TEXT   heading of the page [default: brokers and scenarios]
  -h, --help         print this
";

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Help,
    Page(Request),
}

/// Runs `ringload report` with the arguments behind its name.
pub fn command(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let request = match parse(arguments) {
        Ok(Wish::Page(request)) => request,
        Ok(Wish::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("ringload: report: {problem}\n  fix: see ringload report --help");
            return ExitCode::from(2);
        }
    };
    match write(&request) {
        Ok(written) => {
            let (runs, scenarios) = (written.runs, written.scenarios);
            let page = request.page.display();
            println!("{page}: {runs} runs of {scenarios} scenarios");
            if let Some(folder) = &request.svg {
                println!("{}: {} plots", folder.display(), written.plots);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringload: {error}\n  fix: {}", error.fix());
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Wish, lexopt::Error> {
    let mut request = Request {
        files: Vec::new(),
        page: PathBuf::from("report.html"),
        svg: None,
        title: None,
    };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Wish::Help),
            Arg::Short('o') | Arg::Long("out") => request.page = parser.value()?.into(),
            Arg::Long("svg") => request.svg = Some(parser.value()?.into()),
            Arg::Long("title") => request.title = Some(parser.value()?.string()?),
            Arg::Value(path) => request.files.push(path.into()),
            other => return Err(other.unexpected()),
        }
    }
    if request.files.is_empty() {
        Err("needs a result file".into())
    } else {
        Ok(Wish::Page(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_files_come_in_any_order() {
        let words = [
            "a.json",
            "--svg",
            "plots",
            "raw",
            "--title=A B",
            "-o",
            "x.html",
        ];
        let wish = parse(words.map(OsString::from)).unwrap();
        let request = Request {
            files: vec!["a.json".into(), "raw".into()],
            page: "x.html".into(),
            svg: Some("plots".into()),
            title: Some("A B".to_owned()),
        };
        assert_eq!(wish, Wish::Page(request));
        let help = parse(["a.json", "--help"].map(OsString::from)).unwrap();
        assert_eq!(help, Wish::Help);
        for wrong in [&[][..], &["--out"], &["a.json", "--colour"]] {
            assert!(
                parse(wrong.iter().map(OsString::from)).is_err(),
                "{wrong:?}"
            );
        }
    }
}
