//! A PROXY header in any chunks says the same as in one piece, and leaves the same bytes behind it.
//!
//! Input: four chunk sizes that repeat, the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq::transport::{Announced, ProxyError, ProxyHeader};

fuzz_target!(|input: &[u8]| {
    let Some((sizes, stream)) = input.split_first_chunk::<4>() else {
        return;
    };
    let whole = read(stream, &[usize::MAX]);
    let pieces = read(stream, &sizes.map(|size| 1 + usize::from(size)));
    assert_eq!(pieces.0, whole.0);
    if let Ok(Some(announced)) = &whole.0 {
        assert_eq!(pieces.1, whole.1, "what follows the header");
        let name_size = announced.common_name.as_ref().map_or(0, String::len);
        assert!(name_size < stream.len());
    }
});

/// What the header says, and the bytes that are left.
fn read(stream: &[u8], sizes: &[usize]) -> (Result<Option<Announced>, ProxyError>, usize) {
    let mut header = ProxyHeader::default();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (mut chunk, after) = rest.split_at(rest.len().min(*size));
        rest = after;
        let found = header.take_in(&mut chunk);
        assert!(header.partial_size() <= 8 * 1024);
        if found != Ok(None) {
            return (found, chunk.len() + after.len());
        }
        assert!(chunk.is_empty(), "a header in part takes all");
    }
    (Ok(None), 0)
}
