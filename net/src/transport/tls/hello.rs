//! The server name in a ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3), for the message
//! about an invalid one.
//!
//! rustls has refused the hello by then, and does not report the name.

/// What the client calls the broker, cut where it is longer than any name; empty if there is
/// nothing to be found.
pub(super) fn server_name(records: &[u8]) -> Box<[u8]> {
    let mut hello = Vec::new();
    let mut rest = records;
    // A hello may come in several records.
    while let Some((&[HANDSHAKE, _, _, high, low], after)) = rest.split_first_chunk() {
        let size = usize::from(u16::from_be_bytes([high, low]));
        let Some((content, after)) = after.split_at_checked(size) else {
            break;
        };
        hello.extend_from_slice(content);
        rest = after;
    }
    let name = find_name(&hello).unwrap_or_default();
    name[..name.len().min(NAME_SIZE_MAX)].into()
}

fn find_name(hello: &[u8]) -> Option<&[u8]> {
    let mut rest = hello.get(HEAD_SIZE..)?;
    take::<1>(&mut rest)?; // session
    take::<2>(&mut rest)?; // ciphers
    take::<1>(&mut rest)?; // compression
    let mut extensions = take::<2>(&mut rest)?;
    loop {
        let (kind, after) = extensions.split_first_chunk::<2>()?;
        extensions = after;
        let content = take::<2>(&mut extensions)?;
        if *kind == SERVER_NAME {
            let mut content = content;
            let list = take::<2>(&mut content)?;
            let mut name = list.get(1..)?;
            return take::<2>(&mut name);
        }
    }
}

/// Takes what stands behind its size in `SIZE` bytes.
fn take<'a, const SIZE: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (size, rest) = bytes.split_first_chunk::<SIZE>()?;
    let size = size
        .iter()
        .fold(0, |size, &byte| size << 8 | usize::from(byte));
    let (taken, rest) = rest.split_at_checked(size)?;
    *bytes = rest;
    Some(taken)
}

const HANDSHAKE: u8 = 22;
/// Kind and size of the message, version and random number.
const HEAD_SIZE: usize = 4 + 2 + 32;
/// The number of the extension.
const SERVER_NAME: [u8; 2] = [0, 0];
/// DNS knows none that is longer.
const NAME_SIZE_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &[u8]) -> Vec<u8> {
        let size = |size: usize| (size as u16).to_be_bytes();
        let list = [&[0][..], &size(name.len()), name].concat();
        let content = [&size(list.len())[..], &list].concat();
        let extensions = [b"\0\x17\0\0\0\0".as_slice(), &size(content.len()), &content].concat();
        let body = [
            &[3; 34][..],
            b"\x02ab\0\x02cc\x01\0",
            &size(extensions.len()),
            &extensions,
        ]
        .concat();
        [&[1, 0][..], &size(body.len()), &body].concat()
    }

    fn in_records(message: &[u8], size: usize) -> Vec<u8> {
        let head = |size: usize| [22, 3, 1, (size >> 8) as u8, size as u8];
        let records = message.chunks(size);
        records
            .flat_map(|part| [&head(part.len())[..], part].concat())
            .collect()
    }

    #[test]
    fn the_name_is_found_however_the_hello_is_cut() {
        let message = hello(b"living room");
        for size in [1, 7, 1000] {
            assert_eq!(&*server_name(&in_records(&message, size)), b"living room");
        }
        assert_eq!(
            server_name(&in_records(&hello(&[b'x'; 1000]), 4000)).len(),
            255
        );
        for end in 0..message.len() {
            assert!(server_name(&in_records(&message[..end], 1000)).is_empty());
        }
        assert!(server_name(b"GET / HTTP/1.1").is_empty());
    }
}
