//! The version as `ringmq --version` and `ringload --version` show it: in a release, with the commit.

use std::process::Command;

fn main() {
    // From the folder of either package.
    println!("cargo::rerun-if-changed=../net/build.rs");
    println!("cargo::rerun-if-env-changed=RINGMQ_REVISION");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = match revision() {
        Some(revision) => format!("{version} ({revision})"),
        None => version,
    };
    println!("cargo::rustc-env=RINGMQ_VERSION={version}");
}

/// From who builds a source without its history, or from git. A development build would be compiled anew with each
/// commit.
fn revision() -> Option<String> {
    if let Ok(revision) = std::env::var("RINGMQ_REVISION") {
        return Some(revision).filter(|revision| !revision.is_empty());
    }
    if std::env::var("PROFILE").ok()? != "release" {
        return None;
    }
    // Every commit and checkout adds a line to it.
    if let Some(journal) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={journal}");
    }
    let revision = git(&["rev-parse", "--short=10", "HEAD"])?;
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if is_changed {
        format!("{revision}, changed")
    } else {
        revision
    })
}

/// What it says; `None`: nothing, or there is no git or no history.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
