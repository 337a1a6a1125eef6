//! From settings to who may connect and do what: reads the files of users and rules.
//!
//! All problems in all files are found at once, and nothing half-read is ever used.

pub mod advice;
pub mod files;
mod rules;
mod tokens;

use std::path::Path;
use std::sync::Arc;

use ringmq::Tallies;
use ringmq::auth::http::parse_headers;
use ringmq::auth::{Authenticator, Authenticators, Hooks, PasswordFile, hooks, jwt};
use ringmq_core::auth::{
    Access, Acl, AclFault, PasswordFault, Passwords, ScramCredential, ScramUsers, read_acl_file,
    user_lines,
};

use crate::settings::file::{Place, Problem};
use files::What;

use crate::settings::Settings;
use crate::settings::auth::{AccessDefault, AuthSettings};

/// What the broker is told of users.
#[derive(Debug)]
pub struct Loaded {
    /// For the shards.
    pub access: Access,
    /// For the threads beside them.
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
        // First: what looks like a token is no password.
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
    load(settings, [0; 32], &Arc::default()).map(|_| ())
}

/// Whoever is in may do everything: there are no rules, and nothing asks for any.
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
    for path in &settings.acl_files {
        let text = match files::read(path, What::AclFile) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if let Err(error) = read_acl_file(&text, &mut acl) {
            let (place, subject) = match error.line {
                0 => (Place::File(path.display().to_string()), "the file"),
                line => (line_of(path, line), "the line"),
            };
            problems.push(Problem {
                place,
                subject: subject.to_owned(),
                what: error.fault.to_string(),
                fix: acl_fix(error.fault).to_owned(),
            });
        }
    }
    for path in &settings.rules_files {
        match files::read(path, What::RulesFile) {
            Ok(text) => rules::read(path, &text, &mut acl, problems),
            Err(problem) => problems.push(problem),
        }
    }
    Some(acl)
}

/// The hooks. Nothing is asked yet: whether somebody answers, the first client finds out.
fn make_hooks(
    settings: &AuthSettings,
    tallies: &Arc<Tallies>,
    problems: &mut Vec<Problem>,
) -> Hooks {
    let mut headers = Vec::new();
    for path in &settings.hooks.headers {
        match files::read(path, What::HookHeaders) {
            Ok(text) => match parse_headers(&text) {
                Ok(read) => headers.extend(read),
                Err(line) => problems.push(Problem {
                    place: line_of(path, line),
                    // Never the line itself: what stands there may be a secret.
                    subject: "the line".to_owned(),
                    what: "is no header".to_owned(),
                    fix: "write NAME: VALUE, such as `Authorization: Bearer SECRET`".to_owned(),
                }),
            },
            Err(problem) => problems.push(problem),
        }
    }
    hooks(&settings.hooks.config(), headers, tallies).unwrap_or_else(|problem| {
        let file = problem.file.unwrap_or_default();
        problems.push(Problem {
            place: Place::File(file.display().to_string()),
            subject: "the file".to_owned(),
            what: problem.what,
            fix: problem.fix,
        });
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

fn read_passwords(settings: &AuthSettings, problems: &mut Vec<Problem>) -> Passwords {
    let mut all = Passwords::default();
    for path in &settings.password_files {
        let text = match files::read(path, What::PasswordFile) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match Passwords::parse(&text) {
            Ok(some) => {
                if let Err(user) = all.extend(some) {
                    problems.push(twice(path, &user));
                }
            }
            Err(error) if error.line == 0 => problems.push(empty(path)),
            Err(error) => problems.push(Problem {
                place: line_of(path, error.line),
                // Never the line itself: what stands there may be a password.
                subject: "the line".to_owned(),
                what: error.fault.to_string(),
                fix: password_fix(error.fault, path),
            }),
        }
    }
    all
}

fn password_fix(fault: PasswordFault, path: &Path) -> String {
    match fault {
        PasswordFault::Repeated => "remove one of the two lines".to_owned(),
        PasswordFault::Empty
        | PasswordFault::NoColon
        | PasswordFault::UserName
        | PasswordFault::NotHashed
        | PasswordFault::Method
        | PasswordFault::Fields
        | PasswordFault::Parameters
        | PasswordFault::Salt
        | PasswordFault::Hash => format!(
            "remove it, and enter the user with `ringmq passwd {} USER`",
            path.display()
        ),
    }
}

fn read_scram(settings: &AuthSettings, problems: &mut Vec<Problem>) -> ScramUsers {
    let mut all = ScramUsers::default();
    for path in &settings.scram_files {
        let text = match files::read(path, What::ScramFile) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let before = all.len();
        for (number, line) in user_lines(&text) {
            match ScramCredential::parse_line(line) {
                Ok((user, credential)) => {
                    if !all.insert(user, credential) {
                        problems.push(twice(path, user));
                    }
                }
                Err(error) => problems.push(Problem {
                    place: line_of(path, number),
                    subject: "the line is wrong:".to_owned(),
                    what: error.to_string(),
                    fix: format!(
                        "remove it, and enter the user with `ringmq passwd --scram {} USER`",
                        path.display()
                    ),
                }),
            }
        }
        if all.len() == before && problems.is_empty() {
            problems.push(empty(path));
        }
    }
    all
}

fn line_of(path: &Path, line: usize) -> Place {
    Place::File(format!("{}:{line}", path.display()))
}

fn empty(path: &Path) -> Problem {
    Problem {
        place: Place::File(path.display().to_string()),
        subject: "the file".to_owned(),
        what: "has no user in it: nobody could connect".to_owned(),
        fix: format!("enter one with `ringmq passwd {} USER`", path.display()),
    }
}

fn twice(path: &Path, user: &str) -> Problem {
    Problem {
        place: Place::File(path.display().to_string()),
        subject: format!("the user `{}`", user.escape_debug()),
        what: "is entered twice".to_owned(),
        fix: "remove one of the two lines".to_owned(),
    }
}
