//! Warnings about what works but is unwise: secrets that other users of the machine can read,
//! certificates and revocation lists that have expired or soon will, a hook whose timeout no client
//! can wait for.
//!
//! Issued at start, at reload and by `--check-config`; nothing is refused for it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmq::transport::{Lifetime, lifetimes};

use crate::settings::Settings;
use crate::settings::file::{Place, Problem};

/// All warnings.
pub fn advice(settings: &Settings) -> Vec<Problem> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let secrets = distinct(secrets(settings));
    let secrets = secrets.into_iter().filter_map(of_secret);
    let dated = distinct(dated_files(settings))
        .into_iter()
        .flat_map(|file| {
            // What cannot be read is refused elsewhere.
            let all = lifetimes(file).unwrap_or_default().into_iter();
            all.filter_map(move |one| of_lifetime(file, &one, now))
        });
    let hooks = hook_timeout(settings).into_iter();
    hooks.chain(secrets).chain(dated).collect()
}

/// A late hook counts as failing only if a client has waited for its whole timeout.
fn hook_timeout(settings: &Settings) -> Option<Problem> {
    let hooks = &settings.auth.hooks;
    let is_asked = hooks.urls().iter().any(|(_, url)| !url.is_empty());
    let is_late = hooks.config.timeout >= settings.limits.connect_deadline;
    (is_asked && is_late).then(|| Problem {
        place: Place::File("settings".to_owned()),
        subject: "hooks.timeout".to_owned(),
        what:
            "is not below limits.connect_deadline: the time of clients is up before a server that \
               hangs is known to hang"
                .to_owned(),
        fix: "lower it, or raise connect_deadline".to_owned(),
    })
}

fn distinct(mut files: Vec<&PathBuf>) -> Vec<&PathBuf> {
    files.sort();
    files.dedup();
    files
}

/// Files whose readers could log in, or impersonate the broker.
fn secrets(settings: &Settings) -> Vec<&PathBuf> {
    let auth = &settings.auth;
    let users = auth.password_files.iter().chain(&auth.scram_files);
    let listeners = settings.all_listeners();
    let keys = listeners.flat_map(|(_, layers)| &layers.tls.keys);
    let sets = auth.jwt.jwks_files.iter().filter(|set| holds_secret(set));
    let others = auth.hooks.headers.iter().chain(auth.jwt.secret_files());
    let all = users.chain(keys).chain(others).chain(sets);
    all.chain(&settings.admin.keys).collect()
}

/// Whether a JWK Set has keys that sign (`kty` of `oct`); most have not, and are for everybody.
fn holds_secret(set: &Path) -> bool {
    let text = std::fs::read_to_string(set).unwrap_or_default();
    text.contains("\"oct\"")
}

/// Files with certificates or revocation lists.
fn dated_files(settings: &Settings) -> Vec<&PathBuf> {
    let listeners = settings.all_listeners();
    let of_tls = listeners.flat_map(|(_, layers)| {
        let tls = &layers.tls;
        let cas = tls.client_cas.iter().chain(&tls.client_crls);
        tls.certificates.iter().chain(cas)
    });
    let auth = &settings.auth;
    let of_servers = auth.hooks.config.cas.iter().chain(&auth.jwt.fetch.cas);
    let of_admin = &settings.admin.certificates;
    of_tls.chain(of_servers).chain(of_admin).collect()
}

/// Groups may be there for exactly that: only what everybody may do is told.
fn of_secret(file: &PathBuf) -> Option<Problem> {
    let mode = std::fs::metadata(file).ok()?.mode();
    let what = match (mode & OTHERS_WRITE != 0, mode & OTHERS_READ != 0) {
        (true, _) => "may be written by everybody on this machine",
        (false, true) => "holds secrets, and may be read by everybody on this machine",
        (false, false) => return None,
    };
    let fix = format!("chmod o= {}", file.display());
    Some(of_file(file, "the file".to_owned(), what.to_owned(), fix))
}

fn of_lifetime(file: &Path, lifetime: &Lifetime, now: Duration) -> Option<Problem> {
    let Lifetime {
        name,
        is_crl,
        begins,
        ends,
    } = lifetime;
    let days = |span: Duration| match span.as_secs() / DAY_S {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    };
    let left = ends.map(|ends| ends.checked_sub(now));
    let (what, fix) = match left {
        _ if *begins > now => (
            format!("begins to hold in {}", days(*begins - now)),
            "check the clock of this machine, or wait",
        ),
        Some(None) => {
            let since = now - ends.unwrap_or_default();
            let what = if *is_crl {
                "nobody gets in with a certificate of this CA"
            } else {
                "whoever checks it refuses it"
            };
            (format!("ended {} ago: {what}", days(since)), "replace it")
        }
        // Lists are short-lived: only certificates are told beforehand.
        Some(Some(left)) if left <= ENDS_SOON && !is_crl => {
            (format!("ends in {}", days(left)), "replace it before")
        }
        Some(Some(_)) | None => return None,
    };
    let noun = if *is_crl {
        "the revocation list of"
    } else {
        "the certificate"
    };
    let subject = format!("{noun} `{}`", name.escape_debug());
    Some(of_file(file, subject, what, fix.to_owned()))
}

/// On one line, for the log.
pub fn on_one_line(problem: &Problem) -> String {
    let Problem {
        place,
        subject,
        what,
        fix,
    } = problem;
    format!("{place}: {subject} {what}. Fix: {fix}")
}

fn of_file(file: &Path, subject: String, what: String, fix: String) -> Problem {
    Problem {
        place: Place::File(file.display().to_string()),
        subject,
        what,
        fix,
    }
}

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
const DAY_S: u64 = 24 * 60 * 60;
/// Time to get another one, also where people have to be asked.
const ENDS_SOON: Duration = Duration::from_secs(30 * DAY_S);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    type Files = fn(&mut Settings) -> &mut Vec<PathBuf>;

    #[test]
    fn permissions_of_secrets_are_reported() {
        let path = std::env::temp_dir().join(format!("ringmq-advice-{}", std::process::id()));
        std::fs::write(&path, "secret").unwrap();
        let mut settings = Settings::default();
        settings.auth.password_files = vec![path.clone(), path.clone()];
        for (mode, expected) in [
            (0o600, None),
            (0o640, None),
            (0o660, None),
            (0o644, Some("may be read by everybody")),
            (0o646, Some("may be written by everybody")),
            (0o602, Some("may be written by everybody")),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = advice(&settings);
            assert_eq!(told.len(), usize::from(expected.is_some()), "{mode:o}");
            for problem in told {
                assert!(problem.what.contains(expected.unwrap()), "{problem}");
                assert_eq!(problem.fix, format!("chmod o= {}", path.display()));
            }
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let places: [(&str, Files); 5] = [
            ("password files", |s| &mut s.auth.password_files),
            ("SCRAM files", |s| &mut s.auth.scram_files),
            ("keys of listeners", |s| &mut s.layers.tls.keys),
            ("headers of hooks", |s| &mut s.auth.hooks.headers),
            ("keys of the control plane", |s| &mut s.admin.keys),
        ];
        for (name, place) in places {
            let mut settings = Settings::default();
            place(&mut settings).push(path.clone());
            assert_eq!(advice(&settings).len(), 1, "{name}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_hook_timeout_that_no_client_can_wait_for_is_a_warning() {
        let mut settings = Settings::default();
        settings.limits.connect_deadline = Duration::from_secs(3);
        settings.auth.hooks.config.timeout = Duration::from_secs(3);
        assert!(advice(&settings).is_empty(), "nobody is asked");
        settings.auth.hooks.authorization_url = "http://127.0.0.1/".to_owned();
        assert_eq!(advice(&settings)[0].subject, "hooks.timeout");
        settings.limits.connect_deadline = Duration::from_secs(4);
        assert!(advice(&settings).is_empty());
    }

    #[test]
    fn expired_and_soon_expiring_files_are_reported() {
        let now = Duration::from_secs(1000 * DAY_S);
        let days = |days: u64| Duration::from_secs(days * DAY_S);
        for (is_crl, begins, ends, expected) in [
            (false, 0, Some(1031), None),
            (false, 0, Some(1030), Some("ends in 30 days")),
            (false, 0, Some(1001), Some("ends in a day")),
            (false, 0, Some(1000), Some("ends in less than a day")),
            (false, 0, Some(998), Some("ended 2 days ago: whoever")),
            (false, 1002, Some(2000), Some("begins to hold in 2 days")),
            (true, 0, Some(1001), None),
            (true, 0, None, None),
            (true, 0, Some(999), Some("ended a day ago: nobody gets in")),
        ] {
            let lifetime = Lifetime {
                name: "CN=x".to_owned(),
                is_crl,
                begins: days(begins),
                ends: ends.map(days),
            };
            let told = of_lifetime(Path::new("f"), &lifetime, now);
            let what = told.map(|problem| problem.what);
            assert_eq!(what.is_some(), expected.is_some(), "{lifetime:?}: {what:?}");
            assert!(
                what.unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
    }

    #[test]
    fn lifetimes_are_those_of_the_file() {
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let path = std::env::temp_dir().join(format!("ringmq-dates-{}", std::process::id()));
        std::fs::write(&path, format!("{pem}\n{pem}")).unwrap();
        let found = lifetimes(&path).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].begins, Duration::from_secs(978_307_200));
        assert_eq!(found[0].ends, Some(Duration::from_secs(1_009_843_200)));
        let mut settings = Settings::default();
        settings.auth.hooks.config.cas = vec![path.clone()];
        let told = advice(&settings);
        assert!(told[0].to_string().contains("days ago"), "{}", told[0]);
        let mut settings = Settings::default();
        settings.admin.certificates = vec![path.clone()];
        let told = advice(&settings);
        assert!(told[0].to_string().contains("days ago"), "{}", told[0]);
        std::fs::remove_file(&path).unwrap();
    }
}
