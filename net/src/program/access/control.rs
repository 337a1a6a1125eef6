//! Who may use the control plane: reads the files of tokens.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ringmq::admin::{AdminConfig, AdminTls, Tokens};
use ringmq_certificates::TlsProblem;

use super::files;
use super::files::What;
use crate::settings::admin::AdminSettings;
use crate::settings::file::{Place, Problem};

/// The control plane as the settings want it.
pub fn config(settings: &AdminSettings) -> Result<AdminConfig, Vec<Problem>> {
    Ok(AdminConfig {
        listen: settings.listen.clone(),
        has_open_metrics: settings.open_metrics,
        has_page: settings.page,
        tokens: Arc::new(ArcSwap::from_pointee(tokens(settings)?)),
        tls: tls(settings)?.map(Arc::new),
        steward: None,
        stall_threshold: settings.stall_threshold,
    })
}

/// TLS, if there is any.
pub fn tls(settings: &AdminSettings) -> Result<Option<AdminTls>, Vec<Problem>> {
    if settings.certificates.is_empty() {
        return Ok(None);
    }
    let loaded = AdminTls::load(&settings.certificates, &settings.keys);
    let problem = |TlsProblem { file, what, fix }| {
        let is_key = file
            .as_ref()
            .is_some_and(|file| settings.keys.contains(file));
        let place = file.map_or(Place::Default, |file| {
            Place::File(file.display().to_string())
        });
        let subject = if is_key {
            "admin.key"
        } else {
            "admin.certificate"
        };
        vec![Problem {
            place,
            subject: subject.to_owned(),
            what,
            fix,
        }]
    };
    loaded.map(Some).map_err(problem)
}

/// Who may do what over TCP.
pub fn tokens(settings: &AdminSettings) -> Result<Tokens, Vec<Problem>> {
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
    Ok(tokens)
}
