//! A WebSocket in any chunks gives the same bytes of MQTT, the same answers and the same end as in
//! one piece, and holds no more than its request.
//!
//! Input: a byte that says whether a request comes first, four chunk sizes that repeat, the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq::transport::{Breach, Origins, WebSocket};
use ringmq_core::time::Instant;

fuzz_target!(|input: &[u8]| {
    let Some((&[selector, ref sizes @ ..], rest)) = input.split_first_chunk::<5>() else {
        return;
    };
    // Frames are behind a request that takes long to guess.
    let request = if selector & 1 == 1 { REQUEST } else { b"" };
    let stream = [request, rest].concat();
    let mut whole = Cut::new();
    whole.feed(&stream);
    let mut pieces = Cut::new();
    let mut rest = stream.as_slice();
    for size in sizes.iter().cycle() {
        if rest.is_empty() || pieces.end != Ok(true) {
            break;
        }
        let (chunk, after) = rest.split_at(rest.len().min(1 + usize::from(*size)));
        pieces.feed(chunk);
        rest = after;
    }
    assert_eq!(pieces.end, whole.end);
    assert_eq!(pieces.plain, whole.plain);
    assert_eq!(pieces.answer, whole.answer);
    assert!(whole.plain.len() <= stream.len());
    assert!(whole.answer.len() <= stream.len() + 1024);
});

struct Cut {
    socket: WebSocket,
    plain: Vec<u8>,
    answer: Vec<u8>,
    end: Result<bool, Breach>,
}

impl Cut {
    fn new() -> Cut {
        Cut {
            socket: WebSocket::new(),
            plain: Vec::new(),
            answer: Vec::new(),
            end: Ok(true),
        }
    }

    fn feed(&mut self, chunk: &[u8]) {
        let Cut {
            socket,
            plain,
            answer,
            end,
        } = self;
        *end = socket.decode(Instant::ZERO, chunk, &Origins::default(), plain, answer);
        assert!(socket.partial_size() <= 32 * 1024);
        if *end != Ok(true) {
            assert!(!answer.is_empty(), "whoever is closed is told why");
        }
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
