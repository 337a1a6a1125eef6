//! Compressed answers, for those who accept them: the files of the page and the metrics.
//!
//! Not here: what is streamed. A line that a compressor holds back would come late.

use std::io::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Whether a request accepts gzip.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    let mut any = false;
    for coding in codings {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let name = name.trim();
        if name.eq_ignore_ascii_case("gzip") {
            return !is_zero(parameters);
        }
        any |= name == "*" && !is_zero(parameters);
    }
    any
}

/// `q=0`: not wanted (RFC 9110, 12.4.2).
fn is_zero(parameters: &str) -> bool {
    let mut weights = parameters
        .split(';')
        .filter_map(|parameter| parameter.trim().strip_prefix("q="));
    weights.any(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
}

/// How much work it is worth.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effort {
    /// Done once, and kept.
    Once,
    /// Done for each answer.
    Each,
}

/// The content, compressed.
pub(super) fn zip(content: &[u8], effort: Effort) -> Bytes {
    let level = match effort {
        Effort::Once => Compression::best(),
        Effort::Each => Compression::fast(),
    };
    let mut encoder = GzEncoder::new(Vec::new(), level);
    let zipped = encoder.write_all(content).and_then(|()| encoder.finish());
    Bytes::from(zipped.expect("a vector takes everything"))
}

/// Says that an answer is compressed, or would be for others: no cache mixes them up.
pub(super) fn note(response: &mut Response, is_zipped: bool) {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_zipped {
        let gzip = HeaderValue::from_static("gzip");
        headers.insert(header::CONTENT_ENCODING, gzip);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_request_says_whether_it_accepts_gzip() {
        for (lists, expected) in [
            (&["gzip"][..], true),
            (&["deflate, GZIP;q=0.5, br"], true),
            (&["br", "gzip"], true),
            (&["*"], true),
            (&["*;q=0.1"], true),
            (&[], false),
            (&[""], false),
            (&["identity"], false),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, *"], false),
            (&["*;q=0"], false),
            (&["x-gzipped"], false),
        ] {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(list));
            }
            assert_eq!(is_accepted(&headers), expected, "{lists:?}");
        }
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let content = b"ringmq_connections 7\n".repeat(1000);
        for effort in [Effort::Once, Effort::Each] {
            let zipped = zip(&content, effort);
            assert!(zipped.len() < content.len() / 20, "{effort:?}");
            let mut back = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&zipped[..]);
            decoder.read_to_end(&mut back).unwrap();
            assert_eq!(back, content, "{effort:?}");
        }
    }
}
