//! Who may connect, and how they prove it, without sockets, files or clock.
//!
//! `access` is the policy for all clients, `password` Mosquitto's password file. Enhanced
//! authentication (MQTT 5.0, 4.12) has one method, SCRAM-SHA-256 (RFC 5802, RFC 7677): the password
//! does not cross the network, and what the broker stores is not enough to log in. The slow hash is
//! computed when the password is set; a login costs the broker a handful of HMACs.
//!
//! Not here: AUTH packets and states of connections (`shard/entry/authenticate.rs`), reading files
//! (the shell).

mod access;
mod acl;
mod acl_file;
mod credential;
mod password;
mod peer;
mod scram;

pub use access::{Access, AuthRequest, Exchange, Identity, Lease, Proof, Verdict};
pub use acl::{Acl, Action, Effect, Extent, Pattern, PatternFault, Rule, Rules, Subject, Who};
pub use acl_file::{AclFault, AclFileError, read_acl_file};
pub use credential::{
    CredentialError, ITERATIONS_DEFAULT, ITERATIONS_MIN, ScramCredential, check_user_name,
    file_lines, is_deceptive, trim_blanks,
};
pub use password::{Method, Password, PasswordFault, PasswordFileError, Passwords};
pub use peer::PeerIdentity;
pub use scram::CLIENT_FIRST_SIZE_MAX as SCRAM_FIRST_SIZE_MAX;
pub use scram::{METHOD, Reply, ScramError, ScramExchange, ScramServer, ScramStep, ScramUsers};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// HMAC-SHA-256 of the parts, one behind the other.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any size");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn first_word(hash: &[u8; 32]) -> u64 {
    u64::from_be_bytes(*hash.first_chunk().expect("it has 32 bytes"))
}

/// A key for one purpose out of a secret.
pub(crate) fn derive_key(purpose: &[u8], secret: &[&[u8]]) -> [u8; 32] {
    hmac(purpose, secret)
}
