//! The PROXY protocol header, versions 1 and 2, in which a proxy names the client of a connection.
//!
//! A header is believed only if the proxy's own address is trusted; untrusted peers never get this
//! far. The header is mandatory: guessing would let clients forge one.
//!
//! Invariant: at most [`HEADER_SIZE_MAX`] bytes are buffered.
//!
//! Not here: what follows the header.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads the header of one connection.
#[derive(Debug, Default)]
pub struct ProxyHeader {
    /// The part that has arrived.
    part: Vec<u8>,
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The client; `None`: the proxy itself connects, or does not know.
    pub address: Option<SocketAddr>,
    /// Common name of a client certificate that the proxy has verified.
    pub common_name: Option<String>,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The connection does not begin with a header.
    Missing,
    /// It is malformed.
    Malformed,
    /// It is longer than [`HEADER_SIZE_MAX`].
    TooLong,
    /// Its checksum is wrong.
    Checksum,
}

impl ProxyHeader {
    /// Takes the bytes of the header from `bytes`; `None`: it is incomplete.
    pub fn take_in(&mut self, bytes: &mut &[u8]) -> Result<Option<Announced>, ProxyError> {
        let seen = self.part.len();
        let size = bytes.len().min(HEADER_SIZE_MAX - seen);
        self.part.extend_from_slice(&bytes[..size]);
        let found = parse(&self.part)?;
        match found {
            None if self.part.len() == HEADER_SIZE_MAX => Err(ProxyError::TooLong),
            None => {
                *bytes = &[];
                Ok(None)
            }
            Some((size, announced)) => {
                *bytes = &bytes[size - seen..];
                self.part = Vec::new();
                Ok(Some(announced))
            }
        }
    }

    /// Memory held for incomplete input.
    pub fn partial_size(&self) -> usize {
        self.part.capacity()
    }
}

/// The header at the front of `bytes`, and its size.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Announced)>, ProxyError> {
    let begins = |with: &[u8]| {
        let size = bytes.len().min(with.len());
        bytes[..size] == with[..size]
    };
    if begins(SIGNATURE_V2) {
        parse_v2(bytes)
    } else if begins(SIGNATURE_V1) {
        parse_v1(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(usize, Announced)>, ProxyError> {
    let Some(end) = bytes.iter().take(V1_SIZE_MAX).position(|&b| b == b'\n') else {
        return match bytes.len() {
            0..V1_SIZE_MAX => Ok(None),
            _ => Err(ProxyError::TooLong),
        };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| ProxyError::Malformed)?;
    let line = line.strip_suffix('\r').ok_or(ProxyError::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let address = match words[..] {
        // Whatever follows is to be ignored.
        ["PROXY", "UNKNOWN", ..] => None,
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            target,
            source_port,
            target_port,
        ] => {
            let is_v4 = family == "TCP4";
            let _ = v1_address(is_v4, target, target_port)?;
            Some(v1_address(is_v4, source, source_port)?)
        }
        _ => return Err(ProxyError::Malformed),
    };
    let announced = Announced {
        address,
        common_name: None,
    };
    Ok(Some((end + 1, announced)))
}

fn v1_address(is_v4: bool, ip: &str, port: &str) -> Result<SocketAddr, ProxyError> {
    let ip: IpAddr = ip.parse().map_err(|_| ProxyError::Malformed)?;
    // No sign, no leading zero, as `u16::parse` would let through.
    let is_plain =
        port.bytes().all(|b| b.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    let port = port.parse().map_err(|_| ProxyError::Malformed)?;
    if ip.is_ipv4() != is_v4 || !is_plain {
        return Err(ProxyError::Malformed);
    }
    Ok(SocketAddr::new(ip, port))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(usize, Announced)>, ProxyError> {
    let Some((head, rest)) = bytes.split_at_checked(V2_HEAD_SIZE) else {
        return Ok(None);
    };
    let (version_command, family) = (head[12], head[13]);
    let size = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if version_command >> 4 != 2 {
        return Err(ProxyError::Malformed);
    }
    if V2_HEAD_SIZE + size > HEADER_SIZE_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = rest.get(..size) else {
        return Ok(None);
    };
    let (address, fields) = match (version_command & 0x0F, family) {
        // LOCAL: a health check of the proxy itself. The body is to be ignored.
        (0, _) => return Ok(Some((V2_HEAD_SIZE + size, Announced::default()))),
        (1, 0x11) => {
            let (block, fields) = split::<12>(body)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *block;
            let port = u16::from_be_bytes([high, low]);
            (Some((Ipv4Addr::new(a, b, c, d), port).into()), fields)
        }
        (1, 0x21) => {
            let (block, fields) = split::<36>(body)?;
            let (ip, _) = split::<16>(block)?;
            let port = u16::from_be_bytes([block[32], block[33]]);
            (Some((Ipv6Addr::from(*ip), port).into()), fields)
        }
        (1, 0x31) => (None, split::<216>(body)?.1),
        // UNSPEC, and everything that is not a stream, such as QUIC, whose datagrams a proxy puts
        // on a stream: a client that the proxy cannot name. The body is to be ignored.
        (1, family) if family >> 4 <= 3 && family & 0x0F <= 2 => (None, &[][..]),
        _ => return Err(ProxyError::Malformed),
    };
    let header = &bytes[..V2_HEAD_SIZE + size];
    let common_name = read_fields(header, fields)?;
    let announced = Announced {
        address,
        common_name,
    };
    Ok(Some((header.len(), announced)))
}

fn split<const SIZE: usize>(body: &[u8]) -> Result<(&[u8; SIZE], &[u8]), ProxyError> {
    body.split_first_chunk().ok_or(ProxyError::Malformed)
}

/// Walks the fields behind the addresses; the common name of a verified client, if there is one.
fn read_fields(header: &[u8], mut fields: &[u8]) -> Result<Option<String>, ProxyError> {
    let mut common_name = None;
    while !fields.is_empty() {
        let (kind, value) = next_field(&mut fields)?;
        match kind {
            FIELD_CRC32C => {
                let told = value.try_into().map_err(|_| ProxyError::Malformed)?;
                // The checksum is that of the header with zeros in its place.
                let at = header.len() - fields.len() - 4;
                if crc32c(header, at..at + 4) != u32::from_be_bytes(told) {
                    return Err(ProxyError::Checksum);
                }
            }
            FIELD_SSL => common_name = verified_name(value)?,
            _ => {}
        }
    }
    Ok(common_name)
}

/// The common name within a TLS field, if the client showed a certificate that was verified.
fn verified_name(value: &[u8]) -> Result<Option<String>, ProxyError> {
    let ([client, verify @ ..], mut fields) = split::<5>(value)?;
    let is_verified = client & CLIENT_SHOWED_CERTIFICATE != 0 && *verify == [0; 4];
    let mut name = None;
    // These fields nest no further.
    while !fields.is_empty() {
        let (kind, value) = next_field(&mut fields)?;
        if kind == FIELD_SSL_CN {
            let text = std::str::from_utf8(value).map_err(|_| ProxyError::Malformed)?;
            name = Some(text.to_owned());
        }
    }
    Ok(name.filter(|_| is_verified))
}

fn next_field<'a>(fields: &mut &'a [u8]) -> Result<(u8, &'a [u8]), ProxyError> {
    let ([kind, high, low], rest) = split::<3>(fields)?;
    let size = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, rest) = rest.split_at_checked(size).ok_or(ProxyError::Malformed)?;
    *fields = rest;
    Ok((*kind, value))
}

/// CRC-32C of `bytes`, those of `blank` taken as zeros. Bit by bit: it is done once per connection.
fn crc32c(bytes: &[u8], blank: std::ops::Range<usize>) -> u32 {
    let mut sum = !0u32;
    for (index, &byte) in bytes.iter().enumerate() {
        sum ^= u32::from(if blank.contains(&index) { 0 } else { byte });
        for _ in 0..8 {
            sum = sum >> 1 ^ (0x82F6_3B78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyError::Missing => "no PROXY header: this listener is for proxies that send one",
            ProxyError::Malformed => "a malformed PROXY header",
            ProxyError::TooLong => "a PROXY header that is too long",
            ProxyError::Checksum => "a PROXY header with a wrong checksum",
        })
    }
}

/// Addresses with a common prefix, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_size: u8,
}

impl Network {
    /// The networks of this list contain the address. IPv4 written as IPv6 is IPv4.
    pub fn any_contains(networks: &[Network], address: IpAddr) -> bool {
        let address = address.to_canonical();
        networks.iter().any(|network| network.contains(address))
    }

    fn contains(&self, address: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let differing = bits(self.address) ^ bits(address);
        self.address.is_ipv4() == address.is_ipv4()
            && differing.leading_zeros() >= u32::from(self.prefix_size)
    }
}

impl std::str::FromStr for Network {
    type Err = ();

    /// `ADDRESS/BITS`, or an address alone. IPv4 written as IPv6 is IPv4, as peers are when they
    /// are looked up.
    fn from_str(text: &str) -> Result<Network, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let size_max: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_size = match prefix {
            None => size_max,
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                prefix.parse().map_err(|_| ())?
            }
            Some(_) => return Err(()),
        };
        if prefix_size > size_max {
            return Err(());
        }
        let (address, prefix_size) = match address.to_canonical() {
            canonical if canonical.is_ipv4() && address.is_ipv6() => {
                // A prefix shorter than the one that marks IPv4 would match nothing.
                (
                    canonical,
                    prefix_size.checked_sub(MAPPED_PREFIX_SIZE).ok_or(())?,
                )
            }
            canonical => (canonical, prefix_size),
        };
        Ok(Network {
            address,
            prefix_size,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_size)
    }
}

/// Bits of `::ffff:0:0`.
const MAPPED_PREFIX_SIZE: u8 = 96;
const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Two IPv6 addresses and two ports take 107 bytes with the line's end.
pub(crate) const V1_SIZE_MAX: usize = 107;
const V2_HEAD_SIZE: usize = 16;
/// Proxies send a few hundred bytes; the length field could say 64 KiB.
pub(crate) const HEADER_SIZE_MAX: usize = 2048;
const FIELD_CRC32C: u8 = 0x03;
const FIELD_SSL: u8 = 0x20;
const FIELD_SSL_CN: u8 = 0x22;
/// On this connection, or on an earlier one of the same TLS session.
const CLIENT_SHOWED_CERTIFICATE: u8 = 0x02 | 0x04;

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = (Result<Option<Announced>, ProxyError>, Vec<u8>);

    fn take_in(chunk_size: usize, bytes: &[u8]) -> Outcome {
        let mut header = ProxyHeader::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (mut chunk, later) = rest.split_at(chunk_size.min(rest.len()));
            rest = later;
            match header.take_in(&mut chunk) {
                Ok(None) => assert!(chunk.is_empty()),
                found => return (found, [chunk, rest].concat()),
            }
        }
        (Ok(None), Vec::new())
    }

    /// What the header says and what follows it, whole and in any cut.
    fn parsed(bytes: &[u8]) -> Outcome {
        let whole = take_in(usize::MAX, bytes);
        for chunk_size in 1..bytes.len().min(64) {
            let cut = take_in(chunk_size, bytes);
            assert_eq!(cut.0, whole.0, "in {chunk_size}s");
            if cut.0.is_ok() {
                assert_eq!(cut.1, whole.1, "in {chunk_size}s");
            }
        }
        whole
    }

    fn from(address: &str) -> Announced {
        Announced {
            address: Some(address.parse().unwrap()),
            common_name: None,
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE_V2.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 7, 0x5B];

    // Threat 89.
    #[test]
    fn headers_announce_the_address_of_the_client() {
        let mut v6 = vec![0; 36];
        v6[15] = 1;
        v6[32..34].copy_from_slice(&4660u16.to_be_bytes());
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n".to_vec(),
                from("192.0.2.1:4660"),
            ),
            (
                b"PROXY TCP6 ::1 ::2 4660 1883\r\n".to_vec(),
                from("[::1]:4660"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Announced::default()),
            (b"PROXY UNKNOWN x y\r\n".to_vec(), Announced::default()),
            (v2(1, 0x11, &V4), from("192.0.2.1:4660")),
            (v2(1, 0x21, &v6), from("[::1]:4660")),
            (v2(1, 0x31, &[7; 216]), Announced::default()),
            (v2(1, 0x00, b"whatever"), Announced::default()),
            (v2(1, 0x01, b""), Announced::default()),
            (v2(1, 0x10, &V4), Announced::default()),
            (v2(1, 0x12, &V4), Announced::default()),
            (v2(1, 0x22, &[7; 36]), Announced::default()),
            (v2(1, 0x32, b"too short"), Announced::default()),
            (v2(0, 0x00, b""), Announced::default()),
            (v2(0, 0x11, &V4), Announced::default()),
            (
                v2(
                    1,
                    0x11,
                    &[&V4[..], &field(0xE0, b"x"), &field(1, b"")].concat(),
                ),
                from("192.0.2.1:4660"),
            ),
        ] {
            let bytes = [&header[..], b"\x10rest"].concat();
            let (found, rest) = parsed(&bytes);
            assert_eq!(found, Ok(Some(expected)), "{bytes:?}");
            assert_eq!(rest, b"\x10rest");
            for size in 0..header.len() {
                assert_eq!(parsed(&header[..size]).0, Ok(None), "{size} of {header:?}");
            }
        }
    }

    #[test]
    fn a_header_that_breaks_the_rules_is_refused() {
        use ProxyError::*;
        let with = |fields: &[u8]| v2(1, 0x11, &[&V4[..], fields].concat());
        let long_line = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100], b"\r\n"].concat();
        for (bytes, expected) in [
            (b"\x10\x0C\0\x04MQTT".to_vec(), Missing),
            (b"GET / HTTP/1.1\r\n".to_vec(), Missing),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 4660\r\n".to_vec(),
                Malformed,
            ),
            (b"PROXY TCP4 ::1 ::2 4660 1883\r\n".to_vec(), Malformed),
            (
                b"PROXY TCP6 192.0.2.1 ::2 4660 1883\r\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 70000 1\r\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 1\r\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 01 1\r\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY TCP4  192.0.2.1 192.0.2.2 1 1\r\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY UDP4 192.0.2.1 192.0.2.2 1 1\r\n".to_vec(),
                Malformed,
            ),
            (b"PROXY \xFF\r\n".to_vec(), Malformed),
            (long_line, TooLong),
            (v2(1, 0x11, &V4[..11]), Malformed),
            (v2(1, 0x13, &V4), Malformed),
            (v2(1, 0x41, &V4), Malformed),
            (v2(2, 0x11, &V4), Malformed),
            (v2(1, 0x11, &[0; 2040]), TooLong),
            (v2(1, 0x11, &[0; 0xFFFF]), TooLong),
            ([SIGNATURE_V2, b"\x31\x11\0\x0C", &V4].concat(), Malformed),
            (with(&[1, 0]), Malformed),
            (with(&[1, 0, 2, 0]), Malformed),
            (with(&field(FIELD_SSL, b"\x03\0\0\0")), Malformed),
            (
                with(&field(FIELD_SSL, b"\x03\0\0\0\0\x22\0\x09x")),
                Malformed,
            ),
            (
                with(&field(FIELD_SSL, b"\x03\0\0\0\0\x22\0\x01\xFF")),
                Malformed,
            ),
            (with(&field(FIELD_CRC32C, b"\0\0\0\0")), Checksum),
            (with(&field(FIELD_CRC32C, b"\0\0\0")), Malformed),
        ] {
            assert_eq!(parsed(&bytes).0, Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn a_checksum_that_fits_is_accepted() {
        let mut bytes = v2(1, 0x11, &[&V4[..], &field(FIELD_CRC32C, &[0; 4])].concat());
        let at = bytes.len() - 4;
        let sum = crc32c(&bytes, 0..0);
        bytes[at..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parsed(&bytes).0, Ok(Some(from("192.0.2.1:4660"))));
        assert_eq!(
            crc32c(b"123456789", 0..0),
            0xE306_9283,
            "the known check value"
        );
    }

    #[test]
    fn only_a_name_that_the_proxy_verified_is_told() {
        let ssl = |client: u8, verify: u8| {
            let fields = [vec![client, 0, 0, 0, verify], field(FIELD_SSL_CN, b"dev-1")].concat();
            let body = [&V4[..], &field(FIELD_SSL, &fields)].concat();
            let (found, _) = parsed(&v2(1, 0x11, &body));
            found.unwrap().unwrap().common_name
        };
        let name = Some("dev-1".to_owned());
        assert_eq!(ssl(0x01 | 0x02, 0), name);
        assert_eq!(ssl(0x01 | 0x04, 0), name);
        assert_eq!(ssl(0x01, 0), None, "no certificate");
        assert_eq!(ssl(0x01 | 0x02, 1), None, "not verified");
    }

    #[test]
    fn networks_contain_their_addresses() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "11.9.9.9", false),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "192.0.2.1", false),
        ] {
            let network: Network = network.parse().unwrap();
            let found = Network::any_contains(&[network], address.parse().unwrap());
            assert_eq!(found, expected, "{network} {address}");
        }
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "::ffff:10.0.0.0/95",
            "fe80::1%eth0",
            "10.0.0.0/+8",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "host",
        ] {
            assert_eq!(text.parse::<Network>(), Err(()), "{text}");
        }
    }
}
