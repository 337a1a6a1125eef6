//! Output on its way into a socket: the bytes, and how many of them the socket has taken.

use ringmq_core::connection::Output;
use ringmq_core::time::Instant;

/// One output of one connection. It belongs to the ring from the send until its completion, because
/// the kernel reads from it; then it comes back.
#[derive(Debug)]
pub struct Flight {
    output: Output,
    /// `sent <= size`.
    sent: usize,
    size: usize,
    /// Of an encoded flight: how many bytes of the core it carries.
    carried: Option<u32>,
    /// When it was given to the kernel last.
    pub launched_at: Instant,
}

impl Flight {
    /// An output of which nothing was sent.
    pub fn new(output: Output) -> Flight {
        let size = output.size();
        Flight {
            output,
            sent: 0,
            size,
            carried: None,
            launched_at: Instant::ZERO,
        }
    }

    /// An output that layers below MQTT have made of `carried` bytes of the core.
    pub fn encoded(output: Output, carried: u32) -> Flight {
        Flight {
            carried: Some(carried),
            ..Flight::new(output)
        }
    }

    /// It is not the core's own output.
    pub fn is_encoded(&self) -> bool {
        self.carried.is_some()
    }

    /// Notes that the socket took `size` more bytes. Gives how many of the core's bytes left with
    /// them: those of an encoded flight leave with its last byte.
    pub fn advance(&mut self, size: u32) -> u32 {
        self.sent += size as usize;
        assert!(self.sent <= self.size, "the kernel sent more than it got");
        match self.carried {
            None => size,
            Some(carried) if self.is_landed() => carried,
            Some(_) => 0,
        }
    }

    /// Panics if an invariant is broken.
    #[cfg(test)]
    pub(crate) fn invariants(&self) {
        assert!(self.sent <= self.size, "more was sent than there is");
        assert_eq!(self.size, self.output.size(), "output changes in flight");
        let left: usize = self.pieces(usize::MAX, usize::MAX).map(<[u8]>::len).sum();
        assert_eq!(
            self.sent + left,
            self.size,
            "what is left is what was not sent"
        );
    }

    /// The socket has taken everything.
    pub fn is_landed(&self) -> bool {
        self.sent == self.size
    }

    /// The buffers, for the pool they came from.
    pub fn into_output(self) -> Output {
        self.output
    }

    /// What is left to send, if it is one contiguous piece.
    pub fn contiguous(&self) -> Option<&[u8]> {
        match &self.output {
            Output::One(bytes) => Some(&bytes[self.sent..]),
            Output::Many(_) => None,
        }
    }

    /// What is left to send, piece by piece, none of them empty; at most `count_max` pieces of
    /// `size_max` bytes together.
    pub fn pieces(&self, count_max: usize, size_max: usize) -> impl Iterator<Item = &[u8]> {
        let (one, many) = match &self.output {
            Output::One(bytes) => (Some(bytes.as_slice()), &[][..]),
            Output::Many(chunks) => (None, chunks.as_slice()),
        };
        let mut skip = self.sent;
        let mut room = size_max;
        one.into_iter()
            .chain(many.iter().map(|chunk| chunk.as_slice()))
            .filter_map(move |piece| {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                (skipped < piece.len()).then(|| &piece[skipped..])
            })
            .map_while(move |piece| {
                let piece = &piece[..piece.len().min(room)];
                room -= piece.len();
                (!piece.is_empty()).then_some(piece)
            })
            .take(count_max)
    }
}

#[cfg(test)]
mod tests {
    use ringmq_core::connection::Chunk;

    use super::*;

    fn many(pieces: &[&str]) -> Flight {
        let own = |piece: &&str| Chunk::Own(piece.as_bytes().to_vec());
        Flight::new(Output::Many(pieces.iter().map(own).collect()))
    }

    #[test]
    fn the_pieces_of_a_flight_begin_where_the_socket_stopped() {
        for (sent, count_max, size_max, expected) in [
            (0, 9, 9, vec!["ab", "c", "def"]),
            (1, 9, 9, vec!["b", "c", "def"]),
            (2, 9, 9, vec!["c", "def"]),
            (3, 1, 9, vec!["def"]),
            (4, 9, 9, vec!["ef"]),
            (6, 9, 9, vec![]),
            (0, 2, 9, vec!["ab", "c"]),
            (0, 9, 2, vec!["ab"]),
            (0, 9, 4, vec!["ab", "c", "d"]),
            (4, 9, 1, vec!["e"]),
        ] {
            let mut flight = many(&["ab", "", "c", "def"]);
            flight.advance(sent);
            let pieces: Vec<_> = flight.pieces(count_max, size_max).collect();
            let expected: Vec<_> = expected.iter().map(|e| e.as_bytes()).collect();
            assert_eq!(pieces, expected, "{sent} sent");
            assert_eq!(flight.is_landed(), sent == 6);
            flight.invariants();
        }
    }
}
