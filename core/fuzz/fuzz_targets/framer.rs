//! Any chunking of a stream gives the same frames and the same end as the whole stream, with memory
//! bounded by what arrived.
//!
//! Input: one byte that picks the rules, four chunk sizes that repeat, the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_core::codec::{
    DecodeError, Direction, FrameRules, Framer, PACKET_SIZE_MAX, PacketKind, Version,
};

fuzz_target!(|input: &[u8]| {
    let Some((&[selector, ref sizes @ ..], stream)) = input.split_first_chunk::<5>() else {
        return;
    };
    let rules = rules(selector);
    let mut whole = Cut::default();
    whole.feed(stream, &rules);
    let mut pieces = Cut::default();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        if rest.is_empty() || pieces.error.is_some() {
            break;
        }
        let (chunk, after) = rest.split_at(rest.len().min(1 + usize::from(*size)));
        pieces.feed(chunk, &rules);
        rest = after;
    }
    assert_eq!(pieces.frames, whole.frames);
    assert_eq!(pieces.error, whole.error);
    if whole.error.is_none() {
        assert_eq!(pieces.framer.into_partial(), whole.framer.into_partial());
    }
});

fn rules(selector: u8) -> FrameRules {
    FrameRules {
        version: match selector & 0b11 {
            0 => None,
            1 => Some(Version::V31),
            2 => Some(Version::V311),
            _ => Some(Version::V5),
        },
        direction: match selector & 0b100 {
            0 => Direction::FromClient,
            _ => Direction::FromServer,
        },
        size_max: match selector >> 3 & 0b11 {
            0 => 16,
            1 => 200,
            2 => 64 * 1024,
            _ => PACKET_SIZE_MAX,
        },
    }
}

/// A framer and all that came out of it.
#[derive(Default)]
struct Cut {
    framer: Framer,
    frames: Vec<(PacketKind, u8, Vec<u8>, Vec<u8>)>,
    error: Option<DecodeError>,
}

impl Cut {
    fn feed(&mut self, mut chunk: &[u8], rules: &FrameRules) {
        loop {
            match self.framer.next(&mut chunk, rules) {
                Ok(Some(frame)) => {
                    assert!(frame.raw.len() <= rules.size_max as usize);
                    assert!(frame.raw.ends_with(frame.body));
                    let (body, raw) = (frame.body.to_vec(), frame.raw.to_vec());
                    self.frames.push((frame.kind, frame.flags, body, raw));
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(self.framer.next(&mut chunk, rules), Err(error));
                    self.error = Some(error);
                    return;
                }
            }
        }
        assert!(chunk.is_empty());
        let held = self.framer.partial_size();
        assert!(self.framer.memory_size() <= (2 * held).max(512));
        assert!(held > 0 || self.framer.memory_size() == 0);
    }
}
