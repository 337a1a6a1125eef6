//! `ringload report`: result files as one page with tables and plots, which needs nothing but
//! itself, and the plots as SVG files.
//!
//! Files are read and sorted (`subject`), named (`title`), plots are chosen (`plots`, `curve`,
//! `course`) and drawn (`plot`, `bars`, on `svg`), tables are filled (`table`), and all of it becomes
//! HTML (`view`, `verdict`, `details`, `search`, `storm`).

mod bars;
mod command;
mod course;
mod curve;
mod details;
mod machines;
mod plot;
mod plots;
mod search;
mod storm;
mod subject;
mod svg;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod title;
mod verdict;
mod view;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use command::command;

use serde::Deserialize;

use crate::report::{self, ResultFile};
use crate::storm::StormFile;
use search::Search;

/// What to make of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Result files; a folder stands for every `.json` file in it and below.
    pub files: Vec<PathBuf>,
    /// Where the page goes.
    pub page: PathBuf,
    /// The folder for the plots, one file each; made if need be.
    pub svg: Option<PathBuf>,
    /// The heading; absent: one that names scenarios and brokers.
    pub title: Option<String>,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Results of runs read.
    pub runs: usize,
    /// Results of searches read.
    pub searches: usize,
    /// Different scenarios among them.
    pub scenarios: usize,
    /// SVG files.
    pub plots: usize,
    /// Files of the folders that are no results of ringload, and were left out.
    pub skipped: Vec<PathBuf>,
}

/// What went wrong, and with which file.
#[derive(Debug)]
pub struct PageError {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl PageError {
    /// What to do about it.
    fn fix(&self) -> &'static str {
        match self.error.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "check the permissions, or choose another path",
            io::ErrorKind::InvalidData => "name files that ringload run --json wrote",
            _ => "name result files, or a folder with some, and a page that can be written",
        }
    }
}

impl std::error::Error for PageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Reads the files, and writes the page and the plots.
pub fn write(request: &Request) -> Result<Written, PageError> {
    let (paths, skipped) = collect(&request.files)?;
    let (mut files, mut searches) = (Vec::new(), Vec::new());
    for path in &paths {
        if let Some(storms) = StormFile::read(path).map_err(|error| at(path, error))? {
            files.extend(storms.runs);
            continue;
        }
        match Search::read(path).map_err(|error| at(path, error))? {
            Some(search) => searches.push(search),
            None => files.push(ResultFile::read(path).map_err(|error| at(path, error))?),
        }
    }
    let runs = files.len();
    let scenarios = subject::arrange(files);
    let found = searches.iter().enumerate();
    let found: Vec<_> = found.map(|(number, search)| search.plots(number)).collect();
    let overview = plots::overview(&scenarios);
    let by_scenario: Vec<_> = scenarios.iter().map(plots::of).collect();
    let mut written = Written {
        runs,
        searches: searches.len(),
        scenarios: scenarios.len(),
        plots: 0,
        skipped,
    };
    if let Some(folder) = &request.svg {
        fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
        let all = overview.iter().chain(by_scenario.iter().flatten());
        for named in all.chain(found.iter().flatten()) {
            let path = folder.join(format!("{}.svg", named.name));
            fs::write(&path, standalone(&named.plot.svg)).map_err(|error| at(&path, error))?;
            written.plots += 1;
        }
    }
    let title = request.title.as_deref();
    let contents = view::Contents {
        scenarios: &scenarios,
        overview: &overview,
        plots: &by_scenario,
        searches: &searches,
        found: &found,
    };
    let page = view::page(title, &contents).into_string();
    fs::write(&request.page, page).map_err(|error| at(&request.page, error))?;
    Ok(written)
}

/// The files, in order; those of folders by name, and what there is besides results.
fn collect(given: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<PathBuf>), PageError> {
    let (mut files, mut skipped) = (Vec::new(), Vec::new());
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        for inside in json_files(path)? {
            match is_result(&inside).map_err(|error| at(&inside, error))? {
                true => files.push(inside),
                false => skipped.push(inside),
            }
        }
        if files.len() == before {
            let what = "contains no result file (*.json)";
            return Err(at(path, io::Error::other(what)));
        }
    }
    Ok((files, skipped))
}

/// Every `.json` file in a folder and below.
fn json_files(folder: &Path) -> Result<Vec<PathBuf>, PageError> {
    let entries = fs::read_dir(folder).map_err(|error| at(folder, error))?;
    let entries = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut inside = entries
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| at(folder, error))?;
    inside.sort();
    let mut files = Vec::new();
    for path in inside {
        if path.is_dir() {
            files.extend(json_files(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    Ok(files)
}

/// Whether a file says that it is the result of a run or of a search.
fn is_result(path: &Path) -> io::Result<bool> {
    let bytes = fs::read(path)?;
    let head = serde_json::from_slice::<Head>(&bytes);
    Ok(head.is_ok_and(|head| FORMATS.contains(&head.format.as_str())))
}

/// What a page is made of.
const FORMATS: [&str; 3] = [report::FORMAT, search::FORMAT, crate::storm::FORMAT];

/// What is looked at first.
#[derive(Deserialize)]
struct Head {
    format: String,
}

/// A drawing as a file of its own: it brings its colours along.
fn standalone(svg: &str) -> String {
    let style = format!("<style>{}</style>", theme::drawing_style());
    match svg.find('>') {
        Some(end) => format!("{}{style}{}\n", &svg[..=end], svg[end + 1..].trim_end()),
        None => unreachable!("an SVG has a root"),
    }
}

fn at(path: &Path, error: io::Error) -> PageError {
    PageError {
        path: path.to_owned(),
        error,
    }
}
