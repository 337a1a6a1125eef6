//! Reading certificates, revocation lists and keys from files in PEM.
//!
//! An empty, missing or unreadable file, and one with a section that would be passed over, is an
//! error that names it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringmq_problem::file::{FileFault, read_bytes};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use crate::trust::Trust;

/// A file that cannot be used, or that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProblem {
    /// The file; `None`: what is wrong is that none is named.
    pub file: Option<PathBuf>,
    /// What is wrong; continues the sentence that the file begins.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// Whoever is named in files of certificates.
pub fn read_trust(files: &[PathBuf], provider: &Arc<CryptoProvider>) -> Result<Trust, TlsProblem> {
    let mut trust = Trust::new(Arc::clone(provider));
    for file in files {
        for certificate in read_certificates(file)? {
            trust.add(certificate).map_err(|error| {
                let what = format!("holds a certificate that cannot be read: {error}");
                problem(
                    Some(file),
                    what,
                    "make the file again, of certificates in PEM",
                )
            })?;
        }
    }
    Ok(trust)
}

/// Every certificate of a file in PEM; at least one.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    read_pem(file, "a certificate")
}

/// Every item of its kind; at least one.
pub fn read_pem<T: PemObject>(file: &Path, noun: &str) -> Result<Vec<T>, TlsProblem> {
    let text = read(file)?;
    let items: Result<Vec<T>, _> = T::pem_slice_iter(&text).collect();
    match items {
        Ok(items) if !items.is_empty() => Ok(items),
        Ok(_) => Err(problem(
            Some(file),
            format!("does not hold {noun} in PEM"),
            format!("name a file with {noun} (\"-----BEGIN ...\")"),
        )),
        Err(pem::Error::MissingSectionEnd { .. }) => Err(problem(
            Some(file),
            format!("ends in the middle of {noun}"),
            "write the whole file again",
        )),
        Err(error) => Err(problem(
            Some(file),
            format!("is not PEM: {error}"),
            format!("name a file with {noun} (\"-----BEGIN ...\")"),
        )),
    }
}

/// The bytes of a file in PEM.
pub fn read(file: &Path) -> Result<Vec<u8>, TlsProblem> {
    let bytes = read_bytes(file, FILE_SIZE_MAX).map_err(|fault| {
        let fix = match fault {
            FileFault::Forbidden => "give the user of the broker access to it",
            FileFault::Missing
            | FileFault::Directory
            | FileFault::TooLarge(_)
            | FileFault::Utf16
            | FileFault::NotUtf8 { .. }
            | FileFault::Unreadable(_) => "check the path",
            FileFault::Changing => "write a new file beside it, and mv it over this one",
        };
        problem(Some(file), fault.to_string(), fix)
    })?;
    check_pem_lines(file, &bytes)?;
    Ok(bytes)
}

/// A section that does not begin its line would be passed over without a word: a certificate would
/// miss in its chain, a CA or a revocation list among the others.
fn check_pem_lines(file: &Path, bytes: &[u8]) -> Result<(), TlsProblem> {
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let begin = line.windows(PEM_BEGIN.len()).position(|w| w == PEM_BEGIN);
        let hides = begin.is_some_and(|at| at > 0 && line[at - 1] != b'\r');
        if hides && !line.starts_with(b"#") {
            let number = index + 1;
            return Err(problem(
                Some(file),
                format!("has something in front of `-----BEGIN` on line {number}"),
                "let the line begin with it: blanks, and marks that editors do not show, hide the \
                 section",
            ));
        }
    }
    Ok(())
}

/// A problem with a file, or without one.
pub fn problem(file: Option<&Path>, what: impl Into<String>, fix: impl Into<String>) -> TlsProblem {
    TlsProblem {
        file: file.map(Path::to_owned),
        what: what.into(),
        fix: fix.into(),
    }
}

impl std::error::Error for TlsProblem {}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} {}; {}", file.display(), self.what, self.fix),
            None => write!(f, "{}; {}", self.what, self.fix),
        }
    }
}

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
/// A CRL of a large CA has some MiB.
const FILE_SIZE_MAX: u64 = 64 << 20;
