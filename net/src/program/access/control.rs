//! Who may use the control plane: reads the files of tokens.

use ringmq::admin::{AdminConfig, Tokens};

use super::files;
use super::files::What;
use crate::settings::admin::AdminSettings;
use crate::settings::file::Problem;

/// The control plane as the settings want it.
pub fn config(settings: &AdminSettings) -> Result<AdminConfig, Vec<Problem>> {
    let mut tokens = Tokens::default();
    let mut problems = Vec::new();
    for path in &settings.token_files {
        match files::read(path, What::AdminTokens) {
            Ok(text) => match Tokens::parse(&text) {
                Ok(more) => tokens.extend(more),
                Err((line, what)) => {
                    let fix = "write NAME:ROLE:SHA256, as `ringmq ctl token NAME ROLE` does";
                    let (what, fix) = (what.to_owned(), fix.to_owned());
                    problems.push(files::wrong_line(path, line, what, fix));
                }
            },
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(AdminConfig {
        listen: settings.listen.clone(),
        has_open_metrics: settings.open_metrics,
        has_page: settings.page,
        tokens,
        stall_threshold: settings.stall_threshold,
    })
}
