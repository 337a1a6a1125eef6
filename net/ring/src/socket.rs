//! What is asked of a descriptor, and safe interfaces do not offer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use glommio::io::BufferedFile;
use rustix::io::Errno;

/// Binds a socket that is about to connect to a local address and leaves its port to the connect:
/// then one address has as many ports for each target as there are, instead of so many for all.
pub fn bind_source(socket: BorrowedFd<'_>, address: IpAddr) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed, and the option is an integer of this
    // size, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size,
        )
    };
    if result != 0 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    rustix::net::bind(socket, &SocketAddr::new(address, 0))
}

/// The file that the executor waits on while the reactor is parked. Closed by the executor.
pub fn wakeup_file(wakeup: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is open and owned, and its ownership goes to the file.
    unsafe { BufferedFile::from_raw_fd(wakeup.into_raw_fd()) }
}
