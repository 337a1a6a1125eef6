//! Output in frames of WebSocket and records of TLS.

use std::ops::Range;

use bytes::Bytes;
use ringmq_core::connection::{Chunk, Output};

use super::tls::Tls;
use super::websocket::WebSocket;

/// A piece of output that lies within one frame.
pub(super) struct Part<'a> {
    /// The first one of a frame: how many bytes the frame has.
    pub(super) frame_size: Option<usize>,
    chunk: PartOf<'a>,
    range: Range<usize>,
}

/// Where the bytes of a part are.
#[derive(Clone, Copy)]
enum PartOf<'a> {
    Own(&'a [u8]),
    Shared(&'a Bytes),
}

impl Part<'_> {
    /// What it holds.
    pub(super) fn bytes(&self) -> &[u8] {
        let range = self.range.clone();
        match self.chunk {
            PartOf::Own(bytes) => &bytes[range],
            PartOf::Shared(bytes) => &bytes[range],
        }
    }
}

/// The output, cut at the ends of its chunks and of frames of `frame_size_max` bytes; all but the
/// last are of that size.
pub(super) fn parts(output: &Output, frame_size_max: usize) -> impl Iterator<Item = Part<'_>> {
    let (one, many) = match output {
        Output::One(bytes) => (Some(PartOf::Own(bytes)), &[][..]),
        Output::Many(chunks) => (None, chunks.as_slice()),
    };
    let many = many.iter().map(|chunk| match chunk {
        Chunk::Own(bytes) => PartOf::Own(bytes),
        Chunk::Shared(bytes) => PartOf::Shared(bytes),
    });
    // `frame_left <= left`: what is still to come of the frame, and of the output.
    let (mut left, mut frame_left) = (output.size(), 0);
    one.into_iter().chain(many).flat_map(move |chunk| {
        let size = match chunk {
            PartOf::Own(bytes) => bytes.len(),
            PartOf::Shared(bytes) => bytes.len(),
        };
        let mut cuts = Vec::with_capacity(size / frame_size_max + 1);
        let mut start = 0;
        while start < size {
            let frame_size = (frame_left == 0).then(|| left.min(frame_size_max));
            frame_left = frame_size.unwrap_or(frame_left);
            let end = start + frame_left.min(size - start);
            cuts.push(Part {
                frame_size,
                chunk,
                range: start..end,
            });
            frame_left -= end - start;
            left -= end - start;
            start = end;
        }
        cuts
    })
}

/// Puts output into frames, behind what is in `wire`. Large payloads go out from where they are.
pub(super) fn frame(websocket: &WebSocket, output: &Output, wire: Vec<u8>) -> Output {
    let mut pieces = Vec::new();
    let mut open = wire;
    for part in parts(output, FRAME_SIZE_MAX) {
        if let Some(size) = part.frame_size {
            websocket.push_header(size, &mut open);
        }
        match part.chunk {
            PartOf::Own(_) => open.extend_from_slice(part.bytes()),
            PartOf::Shared(bytes) => {
                // Empty between two parts of one frame, or of two payloads.
                if pieces.is_empty() || !open.is_empty() {
                    pieces.push(Chunk::Own(std::mem::take(&mut open)));
                }
                pieces.push(Chunk::Shared(bytes.slice(part.range.clone())));
            }
        }
    }
    if pieces.is_empty() {
        return Output::One(open);
    }
    if !open.is_empty() {
        pieces.push(Chunk::Own(open));
    }
    Output::Many(pieces)
}

/// Encrypts `middle` and the bytes behind it. Small pieces go into one record with the next.
pub(super) fn encrypt(tls: &mut Tls, bytes: &[u8], middle: &mut Vec<u8>, wire: &mut Vec<u8>) {
    if middle.is_empty() {
        return tls.encode(bytes, wire);
    }
    middle.extend_from_slice(bytes);
    tls.encode(middle, wire);
    middle.clear();
}

/// Payload of a WebSocket frame: with its header, 16 KiB. Clients gather a frame before they read
/// it, and many have a bound on it; and it fits one record of TLS.
pub(super) const FRAME_SIZE_MAX: usize = 16 * 1024 - 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of the frames in bytes of ours, and what they carry.
    fn unframe(mut bytes: &[u8]) -> (Vec<usize>, Vec<u8>) {
        let (mut sizes, mut payload) = (Vec::new(), Vec::new());
        while let [first, length, rest @ ..] = bytes {
            assert_eq!(*first, 0x82, "a whole binary message");
            let (size, rest) = match length {
                126 => (
                    usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                    &rest[2..],
                ),
                0..126 => (usize::from(*length), rest),
                _ => panic!("a frame of more than 64 KiB"),
            };
            sizes.push(size);
            payload.extend_from_slice(&rest[..size]);
            bytes = &rest[size..];
        }
        (sizes, payload)
    }

    #[test]
    fn output_goes_into_frames_of_bounded_size_whatever_it_is_made_of() {
        const MAX: usize = FRAME_SIZE_MAX;
        for (chunks, sizes) in [
            (vec![("own", 1)], vec![1]),
            (vec![("own", MAX)], vec![MAX]),
            (vec![("own", MAX + 1)], vec![MAX, 1]),
            (
                vec![("own", 2_000_000)],
                [vec![MAX; 122], vec![2_000_000 - 122 * MAX]].concat(),
            ),
            (
                vec![("own", 5), ("shared", 20_000)],
                vec![MAX, 20_005 - MAX],
            ),
            (
                vec![
                    ("own", 5),
                    ("shared", MAX - 5),
                    ("own", 7),
                    ("shared", 2 * MAX),
                ],
                vec![MAX, MAX, MAX, 7],
            ),
            (
                vec![("own", 5), ("shared", 3 * MAX), ("own", 2)],
                vec![MAX, MAX, MAX, 7],
            ),
        ] {
            let mut byte = 0;
            let mut fill = |size: usize| -> Vec<u8> {
                let next = || {
                    byte = (byte + 1) % 251;
                    byte as u8
                };
                std::iter::repeat_with(next).take(size).collect()
            };
            let chunks = chunks.into_iter().map(|(kind, size)| match kind {
                "own" => Chunk::Own(fill(size)),
                _ => Chunk::Shared(fill(size).into()),
            });
            let mut chunks: Vec<Chunk> = chunks.collect();
            let plain: Vec<u8> = chunks.iter().flat_map(|c| c.as_slice().to_vec()).collect();
            let shared = |chunks: &[Chunk]| -> usize {
                let sizes = chunks.iter().map(|chunk| match chunk {
                    Chunk::Own(_) => 0,
                    Chunk::Shared(bytes) => bytes.len(),
                });
                sizes.sum()
            };
            let shared_before = shared(&chunks);
            let output = match (chunks.pop(), chunks.is_empty()) {
                (Some(Chunk::Own(bytes)), true) => Output::One(bytes),
                (last, _) => Output::Many(chunks.into_iter().chain(last).collect()),
            };
            let framed = frame(&WebSocket::new(), &output, b"pending".to_vec());
            let pieces = match framed {
                Output::One(bytes) => vec![Chunk::Own(bytes)],
                Output::Many(pieces) => pieces,
            };
            assert_eq!(shared(&pieces), shared_before, "payloads are not copied");
            assert!(pieces.iter().all(|piece| !piece.as_slice().is_empty()));
            let wire: Vec<u8> = pieces.iter().flat_map(|p| p.as_slice().to_vec()).collect();
            assert_eq!(&wire[..7], b"pending");
            assert_eq!(unframe(&wire[7..]), (sizes, plain));
        }
    }
}
