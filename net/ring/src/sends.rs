//! Sends that are with the kernel: what it reads from until they complete.
//!
//! Invariants:
//! - a place is either free or holds a flight; `free` lists each free one once.
//! - what the kernel was pointed to stays where it is from `launch` to `land`, however many others
//!   there are: the bytes are on the heap, and so is the header of a send of several pieces.

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use ringmq_core::ids::ConnId;

use crate::flight::Flight;

/// All of them.
#[derive(Default)]
pub(crate) struct Sends {
    places: Vec<Option<InFlight>>,
    free: Vec<u32>,
}

/// A flight that is with the kernel.
struct InFlight {
    conn: ConnId,
    flight: Flight,
    /// For a send of several pieces: what the kernel is pointed to.
    gather: Option<Box<Gather>>,
}

/// The header of a gathering send. Boxed, because the kernel has its address.
struct Gather {
    header: libc::msghdr,
    pieces: Vec<libc::iovec>,
}

impl Sends {
    /// Stores the flight for the kernel, and makes the entry that sends it, for the user data with
    /// its place.
    pub(crate) fn launch(
        &mut self,
        conn: ConnId,
        socket: Fd,
        flight: Flight,
    ) -> (u32, squeue::Entry) {
        debug_assert!(!flight.is_landed(), "there is something to send");
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        assert!(place.is_none(), "a free place holds no flight");
        let stored = place.insert(InFlight {
            conn,
            flight,
            gather: None,
        });
        let entry = match stored.flight.contiguous() {
            Some(bytes) => {
                let size = bytes.len().min(SEND_SIZE_MAX);
                opcode::Send::new(socket, bytes.as_ptr(), size as u32)
                    .flags(SEND_FLAGS)
                    .build()
            }
            None => {
                let gather = stored.gather.insert(Gather::new(&stored.flight));
                opcode::SendMsg::new(socket, &raw const gather.header)
                    .flags(SEND_FLAGS as u32)
                    .build()
            }
        };
        (index, entry)
    }

    /// Takes back what was sent, of which the kernel has no use any more.
    pub(crate) fn land(&mut self, index: usize) -> (ConnId, Flight) {
        let landed = self.places[index].take();
        let InFlight { conn, flight, .. } = landed.expect("a send completes once");
        self.free.push(index as u32);
        (conn, flight)
    }

    /// Panics if an invariant is broken.
    #[cfg(test)]
    pub(crate) fn invariants(&self) {
        let mut free = self.free.clone();
        free.sort_unstable();
        let empty = (0..self.places.len()).filter(|&index| self.places[index].is_none());
        assert!(
            empty.eq(free.iter().map(|&index| index as usize)),
            "each free place is listed once"
        );
        for in_flight in self.places.iter().flatten() {
            in_flight.flight.invariants();
            let is_gathered = in_flight.flight.contiguous().is_none();
            assert_eq!(is_gathered, in_flight.gather.is_some());
        }
    }
}

impl Gather {
    /// The header for what is left of the flight, or as much of it as one send takes.
    fn new(flight: &Flight) -> Box<Gather> {
        let pieces: Vec<_> = flight
            .pieces(PIECES_MAX, SEND_SIZE_MAX)
            .map(|piece| libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            })
            .collect();
        // SAFETY: a C struct of integers and pointers, for which all zeros is a valid value.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        let mut gather = Box::new(Gather { header, pieces });
        // The heap memory of `pieces` stays in place: nobody touches the vector again.
        gather.header.msg_iov = gather.pieces.as_mut_ptr();
        gather.header.msg_iovlen = gather.pieces.len();
        gather
    }
}

/// No SIGPIPE; and the kernel goes on by itself until all is sent, so that a short send is an
/// error.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
/// IOV_MAX: what one gathering send may consist of. The rest follows when it completed.
const PIECES_MAX: usize = 1024;
/// Bytes of one send. What the socket took of it is told at its end only: until then a client that
/// reads all the time looks as if it had not read any of it, and `unsent_bytes_max` (2 MiB) is
/// judged by that.
pub(crate) const SEND_SIZE_MAX: usize = 64 * 1024;
