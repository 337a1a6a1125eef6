//! `ringload report`: makes the page, and says what was made.

use std::process::ExitCode;

use super::verdict::of;
use super::{Request, write};

/// Runs `ringload report`.
pub fn command(request: &Request) -> ExitCode {
    match write(request) {
        Ok(written) => {
            for path in &written.skipped {
                eprintln!(
                    "ringload: {}: is no result of ringload, skipped",
                    path.display()
                );
            }
            let mut parts = Vec::new();
            if written.runs > 0 {
                let (runs, scenarios) = (written.runs, written.scenarios);
                parts.push(format!(
                    "{} of {}",
                    of(runs, "run"),
                    of(scenarios, "scenario")
                ));
            }
            if written.searches > 0 {
                let searches = if written.searches == 1 {
                    "search"
                } else {
                    "searches"
                };
                parts.push(format!("{} {searches}", written.searches));
            }
            println!("{}: {}", request.page.display(), parts.join(", "));
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
