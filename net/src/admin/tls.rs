//! TLS of the control plane: certificates that a reload replaces.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ringmq_certificates::TlsProblem;
use tokio_rustls::TlsAcceptor;

use crate::transport::{TlsFiles, TlsTerms};

/// Certificates, and their keys.
#[derive(Debug)]
pub struct AdminTls(ArcSwap<TlsTerms>);

impl AdminTls {
    /// Reads the files: a key for each certificate, in the same order.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn load(certificates: &[PathBuf], keys: &[PathBuf]) -> Result<AdminTls, TlsProblem> {
        let files = TlsFiles {
            certificates: certificates.to_vec(),
            keys: keys.to_vec(),
            ..TlsFiles::default()
        };
        let terms = TlsTerms::load(&files, &[b"http/1.1"])?;
        Ok(AdminTls(ArcSwap::from_pointee(terms)))
    }

    /// Connections that begin from here on get what the other one has read.
    pub fn replace(&self, other: AdminTls) {
        self.0.store(other.0.into_inner());
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(self.0.load().config()))
    }
}
