//! From settings to the keys that verify tokens: reads their files.

use std::path::Path;

use ringmq::auth::jwt::{self, Jwt, Key, KeyFault, LocalKey, RemoteKeys, RemoteSource};

use super::files;
use super::files::What;
use crate::settings::file::Problem;
use crate::settings::jwt::JwtSettings;

/// `None`: there are no tokens.
pub fn read(settings: &JwtSettings, problems: &mut Vec<Problem>) -> Option<Jwt> {
    let mut keys = Vec::new();
    let mut take = |key: Key, origin: &[u8]| {
        let of_key = [key.algorithm.name().as_bytes(), b":", origin].concat();
        let fingerprint = jwt::fingerprint(&settings.config, &of_key);
        keys.push(LocalKey { key, fingerprint });
    };
    for file in &settings.keys {
        match files::read_bytes(&file.path, What::KeyFile) {
            Ok(content) => match Key::read(file.algorithm, file.kid.as_deref(), &content) {
                Ok(key) => take(key, &content),
                Err(fault) => problems.push(key_problem(&file.path, fault)),
            },
            Err(problem) => problems.push(problem),
        }
    }
    for path in &settings.jwks_files {
        match files::read_bytes(path, What::KeySet) {
            Ok(content) => match jwt::read_set(&content, true) {
                // Keys that come and go beside it leave a key what it is.
                Ok(set) => set.into_iter().for_each(|(key, origin)| take(key, &origin)),
                Err(fault) => problems.push(key_problem(path, fault)),
            },
            Err(problem) => problems.push(problem),
        }
    }
    let remotes = settings.remotes();
    let remotes = remotes.filter_map(|remote| match RemoteKeys::of(&remote) {
        Ok(keys) => {
            let origin = format!("URL:{}", remote.url);
            let fingerprint = jwt::fingerprint(&settings.config, origin.as_bytes());
            Some(RemoteSource { keys, fingerprint })
        }
        Err(problem) => {
            let file = problem.file.unwrap_or_default();
            problems.push(files::wrong_file(&file, problem.what, problem.fix));
            None
        }
    });
    let remotes = remotes.collect();
    settings
        .is_on()
        .then(|| Jwt::new(settings.config.clone(), keys, remotes))
}

fn key_problem(path: &Path, fault: KeyFault) -> Problem {
    let shown = path.display();
    let fix = match fault {
        KeyFault::Private => {
            format!("give the broker the other half: openssl pkey -in {shown} -pubout")
        }
        KeyFault::NoSecret => {
            "name an algorithm of public keys, such as RS256, or a file with a secret".to_owned()
        }
        KeyFault::Short | KeyFault::Empty => {
            "write a secret of 32 bytes or more into it (HS384: 48, HS512: 64): openssl rand \
             -base64 64"
                .to_owned()
        }
        KeyFault::SeveralPem => "give each key a file and an entry of its own".to_owned(),
        KeyFault::NoPem => {
            "write the key between -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY-----"
                .to_owned()
        }
        KeyFault::Mismatch => {
            "name the algorithm of the key: RS or PS for RSA, ES256 for P-256, ES384 for \
             P-384, EdDSA for Ed25519"
                .to_owned()
        }
        KeyFault::NoSet | KeyFault::NothingUsable | KeyFault::TooMany => {
            "write {\"keys\": [...]} as of RFC 7517, with keys for signatures".to_owned()
        }
    };
    files::wrong_file(path, fault.to_string(), fix)
}
