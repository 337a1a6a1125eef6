//! Certificates: in PEM files, with names and a lifetime, and whom TLS trusts because of them.
//!
//! The broker judges clients with it, the load generator brokers, and hooks the services that they
//! call.
//!
//! Not here: TLS itself, and which files a listener has (`transport` in `ringmq`).
#![forbid(unsafe_code)]

mod lifetimes;
mod names;
mod outline;
mod pem;
mod trust;

pub use lifetimes::{Lifetime, lifetimes};
pub use names::{IdentityField, host_names, is_for, is_usable};
pub use outline::Outline;
pub use pem::{TlsProblem, problem, read, read_certificates, read_pem, read_trust};
pub use trust::{ClientDemand, Trust, Unusual, anybody};
