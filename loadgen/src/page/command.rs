//! `ringload report`: makes the page, and says what was made.

use std::process::ExitCode;

use super::{Request, write};

/// Runs `ringload report`.
pub fn command(request: &Request) -> ExitCode {
    match write(request) {
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
