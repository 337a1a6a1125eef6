//! From settings to who may connect and do what: reads the files of users and rules.
//!
//! All problems in all files are found at once, and nothing half-read is ever used.

pub mod advice;
pub mod control;
pub mod files;
mod rules;
mod tokens;
mod users;

use std::sync::Arc;

use ringmq::Tallies;
use ringmq::auth::http::parse_headers;
use ringmq::auth::{Authenticator, Authenticators, Hooks, PasswordFile, hooks, jwt};
use ringmq_core::auth::{Access, Acl, AclFault, read_acl_file};

use crate::settings::Settings;
use crate::settings::auth::{AccessDefault, AuthSettings};
use crate::settings::file::Problem;
use files::What;
use users::{read_passwords, read_scram};

/// Users and rules, as the broker takes them.
#[derive(Debug)]
pub struct Loaded {
    /// For the shards.
    pub access: Access,
    /// For the threads that authenticate.
    pub authenticators: Authenticators,
}

/// Reads the files. `key` is random, and the same as long as the process lives.
pub fn load(
    settings: &Settings,
    key: [u8; 32],
    tallies: &Arc<Tallies>,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let passwords = read_passwords(&settings.auth, &mut problems);
    let scram = read_scram(&settings.auth, &mut problems);
    let acl = read_rules(settings, &mut problems);
    let (authentication, authorization) = make_hooks(&settings.auth, tallies, &mut problems);
    let tokens = tokens::read(&settings.auth.jwt, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let passwords = Arc::new(passwords);
    let mut authenticators: Vec<Arc<dyn Authenticator>> = Vec::new();
    let (mut methods, mut token_issuers) = (Vec::new(), Vec::new());
    if let Some(tokens) = tokens {
        // First, so that a token is not checked as a password.
        methods.push(jwt::METHOD.into());
        token_issuers.extend(tokens.issuers());
        authenticators.push(Arc::new(tokens));
    }
    if !passwords.is_empty() {
        authenticators.push(Arc::new(PasswordFile::new(Arc::clone(&passwords), key)));
    }
    let asks_for_strangers = authentication.is_some();
    if let Some(hook) = authentication {
        authenticators.push(Arc::new(hook));
    }
    let access = Access {
        allow_anonymous: settings.lets_strangers_in(),
        allow_unproven: settings.allow_anonymous,
        asks_shell: !authenticators.is_empty(),
        asks_for_strangers,
        asks_rules: authorization.is_some(),
        methods: methods.into(),
        token_issuers: token_issuers.into(),
        passwords,
        scram: Arc::new(scram),
        acl: acl.map(Arc::new),
    };
    Ok(Loaded {
        access,
        authenticators: Authenticators {
            all: authenticators,
            authorization: authorization.map(Arc::new),
        },
    })
}

/// Whether the files could be used.
pub fn check(settings: &Settings) -> Result<(), Vec<Problem>> {
    load(settings, [0; 32], &Arc::default())?;
    control::config(&settings.admin).map(|_| ())
}

/// Every client that is admitted may do everything: there are no rules, and nothing requires any.
pub fn allows_everything(settings: &Settings) -> bool {
    let is_open = match settings.auth.default {
        AccessDefault::Allow => true,
        AccessDefault::Auto => !settings.has_authentication(),
        AccessDefault::Deny => false,
    };
    is_open && !settings.auth.has_rules() && !settings.auth.has_rules_of_clients()
}

/// `None`: everything is allowed.
fn read_rules(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Acl> {
    if allows_everything(settings) {
        return None;
    }
    let settings = &settings.auth;
    let mut acl = Acl::new(settings.default == AccessDefault::Allow);
    let (paths, what) = (&settings.acl_files, What::AclFile);
    files::read_each(paths, what, problems, |path, text, problems| {
        let Err(error) = read_acl_file(text, &mut acl) else {
            return;
        };
        let (what, fix) = (error.fault.to_string(), acl_fix(error.fault).to_owned());
        problems.push(match error.line {
            0 => files::wrong_file(path, what, fix),
            line => files::wrong_line(path, line, what, fix),
        });
    });
    let (paths, what) = (&settings.rules_files, What::RulesFile);
    files::read_each(paths, what, problems, |path, text, problems| {
        rules::read(path, text, &mut acl, problems);
    });
    Some(acl)
}

/// The hooks. They are not called yet: the first client finds out whether they respond.
fn make_hooks(
    settings: &AuthSettings,
    tallies: &Arc<Tallies>,
    problems: &mut Vec<Problem>,
) -> Hooks {
    let mut headers = Vec::new();
    let (paths, what) = (&settings.hooks.headers, What::HookHeaders);
    files::read_each(
        paths,
        what,
        problems,
        |path, text, problems| match parse_headers(text) {
            Ok(read) => headers.extend(read),
            Err(line) => {
                let fix = "write NAME: VALUE, such as `Authorization: Bearer SECRET`".to_owned();
                problems.push(files::wrong_line(
                    path,
                    line,
                    "is no header".to_owned(),
                    fix,
                ));
            }
        },
    );
    hooks(&settings.hooks.config(), headers, tallies).unwrap_or_else(|problem| {
        let file = problem.file.unwrap_or_default();
        problems.push(files::wrong_file(&file, problem.what, problem.fix));
        (None, None)
    })
}

fn acl_fix(fault: AclFault) -> &'static str {
    match fault {
        AclFault::Empty => "write rules, such as `topic read news/#`, or name no file",
        AclFault::UserName => "write the name again, and the space in front of it",
        AclFault::Keyword | AclFault::NoUser | AclFault::Access | AclFault::Topic(_) => {
            "write `user NAME`, `topic [read|write|readwrite|deny] FILTER`, or `pattern` and the \
             same with %u and %c in it"
        }
    }
}
