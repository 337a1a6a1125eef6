//! Tests of the codec as a whole: golden bytes, malformed packets, framing, random packets.

mod framing;
mod golden;
mod malformed;
mod random;

use super::*;

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const DIRECTIONS: [Direction; 2] = [Direction::FromClient, Direction::FromServer];

/// Bytes from text: hexadecimal bytes, and after a `'` literal text up to the next blank.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in text.split_ascii_whitespace() {
        match token.strip_prefix('\'') {
            Some(literal) => bytes.extend_from_slice(literal.as_bytes()),
            None => bytes.push(u8::from_str_radix(token, 16).expect("two hexadecimal digits")),
        }
    }
    bytes
}

fn rules(version: Version, direction: Direction) -> FrameRules {
    FrameRules {
        version: Some(version),
        size_max: PACKET_SIZE_MAX,
        direction,
    }
}

/// The first and only frame of `packet`.
fn whole_frame<'a>(
    framer: &'a mut Framer,
    mut packet: &'a [u8],
    rules: &FrameRules,
) -> Result<Frame<'a>, DecodeError> {
    let frame = framer.next(&mut packet, rules)?.expect("a whole packet");
    assert!(packet.is_empty(), "exactly one packet");
    Ok(frame)
}

/// Cuts and decodes a stream as a connection does; how many packets there were before the error.
/// Without a version the stream begins with CONNECT, which says it.
fn run_stream(
    mut stream: &[u8],
    mut version: Option<Version>,
    direction: Direction,
) -> (usize, Result<(), DecodeError>) {
    let mut framer = Framer::default();
    let mut count = 0;
    loop {
        let rules = FrameRules {
            version,
            size_max: 1024 * 1024,
            direction,
        };
        let frame = match framer.next(&mut stream, &rules) {
            Ok(Some(frame)) => frame,
            Ok(None) => return (count, Ok(())),
            Err(error) => return (count, Err(error)),
        };
        let decoded = match version {
            Some(version) => decode(&frame, version, direction).map(drop),
            None => Connect::decode(&frame).map(|connect| version = Some(connect.version)),
        };
        if let Err(error) = decoded {
            return (count, Err(error));
        }
        count += 1;
    }
}
