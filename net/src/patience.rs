//! Waiting for a port that a process which was killed has not let go of yet.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tracing::info;

/// How long a port that is in use is waited for. io_uring lets go of the sockets of a process that was killed
/// a while after the process is gone, and whoever starts the next one was told that it may.
#[derive(Debug)]
pub struct Patience {
    tries_left: u32,
    has_waited: bool,
}

impl Patience {
    /// Waits for two seconds at most, all attempts together.
    pub fn new() -> Patience {
        Patience {
            tries_left: 40,
            has_waited: false,
        }
    }

    /// Tries to take the port of an address, and again while it is in use. `may_pass` is asked first
    /// whether there is hope. A line in the log says that it waits.
    pub fn attempt<T>(
        &mut self,
        address: SocketAddr,
        mut attempt: impl FnMut() -> Result<T, Errno>,
        may_pass: impl Fn() -> bool,
    ) -> Result<T, Errno> {
        loop {
            let result = attempt();
            let is_in_use = matches!(result, Err(Errno::ADDRINUSE));
            if !is_in_use || self.tries_left == 0 || !may_pass() {
                return result;
            }
            if !std::mem::replace(&mut self.has_waited, true) {
                info!(
                    "{address} is in use; if its process has just ended it is free soon: trying for 2 s"
                );
            }
            self.tries_left -= 1;
            std::thread::sleep(PAUSE);
        }
    }
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::new()
    }
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_tried_again_while_there_is_hope_that_it_gets_free() {
        let address = "127.0.0.1:1883".parse().unwrap();
        for (refusals, errno, may_pass, expected) in [
            (2, Errno::ADDRINUSE, true, (Ok(()), 3)),
            (3, Errno::ADDRINUSE, true, (Err(Errno::ADDRINUSE), 3)),
            (2, Errno::ADDRINUSE, false, (Err(Errno::ADDRINUSE), 1)),
            (2, Errno::ACCESS, true, (Err(Errno::ACCESS), 1)),
        ] {
            let mut patience = Patience {
                tries_left: 2,
                ..Patience::new()
            };
            let mut attempts = 0;
            let attempt = || {
                attempts += 1;
                if attempts > refusals {
                    Ok(())
                } else {
                    Err(errno)
                }
            };
            let result = patience.attempt(address, attempt, || may_pass);
            assert_eq!((result, attempts), expected);
        }
    }
}
