//! The sockets of the control plane.
//!
//! A Unix socket appears under its name with mode 0600 and listens from its first moment: it is made under another
//! name and renamed. One that an earlier process left behind is removed by the next broker of the same directory.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use super::AdminAddress;

/// A listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// With its path.
    Unix(UnixListener, PathBuf),
    /// With its address: the port is a real one.
    Tcp(std::net::TcpListener, SocketAddr),
}

/// Why a socket of the control plane cannot be opened.
#[derive(Debug)]
pub struct AdminError {
    /// Where it was to be.
    pub address: AdminAddress,
    /// What is wrong.
    pub what: String,
    /// How to put it right.
    pub fix: &'static str,
}

impl std::error::Error for AdminError {}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let AdminError { address, what, fix } = self;
        write!(f, "no control plane at {address}: {what}. Fix: {fix}")
    }
}

impl Socket {
    /// Opens a socket.
    pub(super) fn open(address: &AdminAddress) -> Result<Socket, AdminError> {
        let fail = |what: String, fix| AdminError {
            address: address.clone(),
            what,
            fix,
        };
        match address {
            AdminAddress::Auto => {
                let fix = "start it with XDG_RUNTIME_DIR set (systemd: RuntimeDirectory=), or name a \
                           socket: --admin unix:PATH; --admin \"\" starts none";
                let places = Places::of_process();
                let directory = places
                    .directory()
                    .ok_or_else(|| fail("this user has no runtime directory".to_owned(), fix))?;
                prepare(&directory)
                    .map_err(|error| fail(format!("{}: {error}", directory.display()), fix))?;
                let path = directory.join(format!("{}.sock", std::process::id()));
                open_unix(&path).map_err(|error| fail(format!("{}: {error}", path.display()), fix))
            }
            AdminAddress::Unix(path) => open_unix(path).map_err(|error| {
                let fix = "name another path, or stop the broker that has this one; --admin off \
                           starts none";
                fail(error.to_string(), fix)
            }),
            AdminAddress::Tcp(tcp) => open_tcp(*tcp).map_err(|error| {
                fail(
                    error.to_string(),
                    "name another port; --admin \"\" starts none",
                )
            }),
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> AdminAddress {
        match self {
            Socket::Unix(_, path) => AdminAddress::Unix(path.clone()),
            Socket::Tcp(_, address) => AdminAddress::Tcp(*address),
        }
    }
}

/// What the environment says of directories for sockets.
#[derive(Clone, Debug, Default)]
struct Places {
    /// Of a systemd unit: `RUNTIME_DIRECTORY`.
    unit: Option<String>,
    /// Of a user: `XDG_RUNTIME_DIR`.
    user: Option<String>,
    is_root: bool,
}

impl Places {
    fn of_process() -> Places {
        Places {
            unit: std::env::var("RUNTIME_DIRECTORY").ok(),
            user: std::env::var("XDG_RUNTIME_DIR").ok(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    /// Where this process makes its sockets; `None`: nowhere.
    fn directory(&self) -> Option<PathBuf> {
        let of_root = self.is_root.then(|| PathBuf::from(OF_ROOT));
        self.of_unit().or_else(|| self.of_user()).or(of_root)
    }

    /// Systemd separates several by colons.
    fn of_unit(&self) -> Option<PathBuf> {
        let unit = self.unit.as_deref()?.split(':').next()?;
        unit.starts_with('/').then(|| PathBuf::from(unit))
    }

    fn of_user(&self) -> Option<PathBuf> {
        let user = self.user.as_deref()?;
        user.starts_with('/')
            .then(|| Path::new(user).join("ringmq"))
    }
}

/// The sockets of brokers that this user may reach, by name. Whether anybody listens is not known.
pub fn sockets_of_user() -> Vec<PathBuf> {
    let places = Places::of_process();
    let all = match places.of_unit() {
        Some(unit) => vec![unit],
        None => {
            let of_root = PathBuf::from(OF_ROOT);
            places.of_user().into_iter().chain([of_root]).collect()
        }
    };
    let mut sockets: Vec<PathBuf> = all.iter().flat_map(|path| sockets_in(path)).collect();
    sockets.sort();
    sockets.dedup();
    sockets
}

fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_ours = |path: &PathBuf| path.extension().is_some_and(|end| end == "sock");
    paths.filter(is_ours).take(SOCKETS_MAX).collect()
}

/// Makes the directory, and removes what brokers have left in it that were killed.
fn prepare(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    for path in sockets_in(directory) {
        if is_abandoned(&path) {
            // Another start may have been faster.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

/// A socket on which nobody listens.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn open_unix(path: &Path) -> io::Result<Socket> {
    if is_abandoned(path) {
        fs::remove_file(path)?;
    }
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "in use by another process",
        ));
    }
    // Nobody finds it under its name before it listens, and takes it for abandoned.
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", std::process::id()));
    let _ = fs::remove_file(&aside);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux the file gets the mode of the socket: there is no moment at which others may connect.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(&aside)?)?;
    listen(&socket, BACKLOG)?;
    let renamed = fs::rename(&aside, path);
    if renamed.is_err() {
        let _ = fs::remove_file(&aside);
    }
    renamed?;
    Ok(Socket::Unix(UnixListener::from(socket), path.to_owned()))
}

fn open_tcp(address: SocketAddr) -> io::Result<Socket> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Socket::Tcp(listener, address))
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = self {
            // Gone already, or not ours to remove: the next start finds out.
            let _ = fs::remove_file(path);
        }
    }
}

/// Of root, and of a unit with `RuntimeDirectory=ringmq`.
const OF_ROOT: &str = "/run/ringmq";
const BACKLOG: i32 = 128;
/// Brokers of one user whose sockets are looked at.
const SOCKETS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_directory_is_that_of_the_unit_or_of_the_user() {
        let places = |unit: &str, user: &str, is_root| Places {
            unit: Some(unit.to_owned()).filter(|path| !path.is_empty()),
            user: Some(user.to_owned()).filter(|path| !path.is_empty()),
            is_root,
        };
        for (places, expected) in [
            (
                places("/run/a:/run/b", "/run/user/1", false),
                Some("/run/a"),
            ),
            (places("", "/run/user/1", true), Some("/run/user/1/ringmq")),
            (places("", "", true), Some("/run/ringmq")),
            (places("", "", false), None),
            (places("a", "b", false), None),
        ] {
            let directory = places.directory();
            assert_eq!(directory.as_deref(), expected.map(Path::new), "{places:?}");
        }
    }

    #[test]
    fn a_socket_is_for_its_user_alone_and_goes_with_its_broker() {
        let directory = std::env::temp_dir().join(format!("ringmq-admin-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("a.sock");
        let address = AdminAddress::Unix(path.clone());
        let socket = Socket::open(&address).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = Socket::open(&address).unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
        drop(socket);
        assert!(!path.exists());
        // A broker that was killed leaves its socket; so does one of any other name.
        drop(UnixListener::bind(&path).unwrap());
        let other = directory.join("b.sock");
        drop(UnixListener::bind(&other).unwrap());
        let reopened = Socket::open(&address).unwrap();
        prepare(&directory).unwrap();
        assert!(path.exists() && !other.exists());
        drop(reopened);
        fs::write(&path, "a file").unwrap();
        assert!(Socket::open(&address).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
