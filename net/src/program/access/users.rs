//! Users from files: their password hashes and their credentials for SCRAM.

use std::path::Path;

use ringmq_core::auth::{PasswordFault, Passwords, ScramCredential, ScramUsers, file_lines};

use super::files;
use super::files::What;
use crate::settings::auth::AuthSettings;
use crate::settings::file::{Place, Problem};

/// The users of all password files.
pub(super) fn read_passwords(settings: &AuthSettings, problems: &mut Vec<Problem>) -> Passwords {
    let mut all = Passwords::default();
    let (paths, what) = (&settings.password_files, What::PasswordFile);
    files::read_each(
        paths,
        what,
        problems,
        |path, text, problems| match Passwords::parse(text) {
            Ok(some) => {
                let repeated = all.extend(some).err();
                problems.extend(repeated.map(|user| twice(path, &user)));
            }
            Err(error) if error.line == 0 => problems.push(empty(path)),
            Err(error) => {
                let (what, fix) = (error.fault.to_string(), password_fix(error.fault, path));
                problems.push(files::wrong_line(path, error.line, what, fix));
            }
        },
    );
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

/// The users of all files for SCRAM.
pub(super) fn read_scram(settings: &AuthSettings, problems: &mut Vec<Problem>) -> ScramUsers {
    let mut all = ScramUsers::default();
    let (paths, what) = (&settings.scram_files, What::ScramFile);
    files::read_each(paths, what, problems, |path, text, problems| {
        let before = all.len();
        for (number, line) in file_lines(text) {
            match ScramCredential::parse_line(line) {
                Ok((user, credential)) => {
                    if !all.insert(user, credential) {
                        problems.push(twice(path, user));
                    }
                }
                Err(error) => {
                    let fix = format!(
                        "remove it, and enter the user with `ringmq passwd --scram {} USER`",
                        path.display()
                    );
                    problems.push(Problem {
                        subject: "the line is wrong:".to_owned(),
                        ..files::wrong_line(path, number, error.to_string(), fix)
                    });
                }
            }
        }
        if all.len() == before && problems.is_empty() {
            problems.push(empty(path));
        }
    });
    all
}

fn empty(path: &Path) -> Problem {
    let what = "has no user in it: nobody could connect".to_owned();
    let fix = format!("enter one with `ringmq passwd {} USER`", path.display());
    files::wrong_file(path, what, fix)
}

fn twice(path: &Path, user: &str) -> Problem {
    Problem {
        place: Place::File(path.display().to_string()),
        subject: format!("the user `{}`", user.escape_debug()),
        what: "is entered twice".to_owned(),
        fix: "remove one of the two lines".to_owned(),
    }
}
