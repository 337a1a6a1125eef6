//! The page for browsers: files that are part of the program.
//!
//! They hold nothing of the broker, so they are for everybody; what they show, they ask for with the token of the reader.
//! Nothing comes from elsewhere: the policy of the page permits this server alone.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};

use super::Control;
use super::gzip::{self, Effort};
use super::tokens::to_hex;

/// A file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// The same, once somebody has asked for it.
    zipped: OnceLock<Bytes>,
}

/// A row.
macro_rules! asset {
    ($path:literal, $file:literal, $kind:ident) => {
        Asset {
            path: $path,
            kind: $kind,
            bytes: include_bytes!(concat!("../../assets/", $file)),
            zipped: OnceLock::new(),
        }
    };
}

/// Adds a route for each file.
pub(super) fn add_to(mut router: Router<Arc<Control>>) -> Router<Arc<Control>> {
    for asset in &ASSETS {
        let digest = to_hex(&Sha256::digest(asset.bytes));
        let tag = |form: &str| {
            let tag = format!("\"{}{form}\"", &digest[..16]);
            HeaderValue::try_from(tag).expect("letters and digits")
        };
        let tags = Tags {
            plain: tag(""),
            zipped: tag("-gzip"),
        };
        let answer = move |headers: HeaderMap| {
            let tags = tags.clone();
            async move { asset.answer(&headers, tags) }
        };
        router = router.route(asset.path, get(answer));
    }
    router
}

/// It is one of the files, which need no token.
pub(super) fn has(route: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == route)
}

/// All files are one route to whoever counts requests.
pub(super) fn counted_as(route: &str) -> &str {
    match route.starts_with(FOLDER) {
        true => FOLDER,
        false => route,
    }
}

/// Names of a version of a file, as it is and compressed.
#[derive(Clone, Debug)]
struct Tags {
    plain: HeaderValue,
    zipped: HeaderValue,
}

impl Asset {
    /// A browser asks each time, so that it never mixes files of two versions; what it has, it does not get again.
    fn answer(&self, headers: &HeaderMap, tags: Tags) -> Response {
        let is_zipped = gzip::is_accepted(headers);
        let tag = match is_zipped {
            true => tags.zipped,
            false => tags.plain,
        };
        let known = headers.get_all(header::IF_NONE_MATCH);
        let is_known = known.iter().any(|known| *known == tag);
        let mut response = match is_known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => {
                let kind = [(header::CONTENT_TYPE, self.kind)];
                (kind, self.content(is_zipped)).into_response()
            }
        };
        gzip::note(&mut response, is_zipped && !is_known);
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag);
        for (name, value) in HEADERS {
            let (name, value) = (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
            headers.insert(name, value);
        }
        response
    }

    fn content(&self, is_zipped: bool) -> Bytes {
        match is_zipped {
            true => {
                let zip = || gzip::zip(self.bytes, Effort::Once);
                self.zipped.get_or_init(zip).clone()
            }
            false => Bytes::from_static(self.bytes),
        }
    }
}

const HEADERS: [(&str, &str); 4] = [
    ("cache-control", "no-cache"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
];

const FOLDER: &str = "/assets/";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

static ASSETS: [Asset; 17] = [
    asset!("/", "index.html", HTML),
    asset!("/assets/icon.svg", "icon.svg", SVG),
    asset!("/assets/page.css", "page.css", CSS),
    asset!("/assets/main.js", "main.js", SCRIPT),
    asset!("/assets/api.js", "api.js", SCRIPT),
    asset!("/assets/chart.js", "chart.js", SCRIPT),
    asset!("/assets/clients.js", "clients.js", SCRIPT),
    asset!("/assets/live.js", "live.js", SCRIPT),
    asset!("/assets/losses.js", "losses.js", SCRIPT),
    asset!("/assets/overview.js", "overview.js", SCRIPT),
    asset!("/assets/parts.js", "parts.js", SCRIPT),
    asset!("/assets/settings.js", "settings.js", SCRIPT),
    asset!("/assets/text.js", "text.js", SCRIPT),
    asset!("/assets/topics.js", "topics.js", SCRIPT),
    asset!("/assets/traced.js", "traced.js", SCRIPT),
    asset!("/assets/traces.js", "traces.js", SCRIPT),
    asset!("/assets/vendor/preact.js", "vendor/preact.js", SCRIPT),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_keeps_its_budget() {
        let plain: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(plain <= 120 * 1024, "{plain} bytes");
        // As they are sent: each by itself.
        let zipped: usize = ASSETS.iter().map(|asset| asset.content(true).len()).sum();
        assert!(zipped <= 45 * 1024, "{zipped} bytes");
    }

    #[test]
    fn every_file_is_served_and_none_names_another_server() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut files = BTreeSet::new();
        for folder in ["", "vendor"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if !["vendor", "LICENSES"].contains(&name.as_str()) {
                    files.insert(Path::new(folder).join(name).display().to_string());
                }
            }
        }
        let served: BTreeSet<String> = ASSETS
            .iter()
            .map(|asset| match asset.path {
                "/" => "index.html".to_owned(),
                path => path.strip_prefix("/assets/").unwrap().to_owned(),
            })
            .collect();
        assert_eq!(files, served);
        for asset in &ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for (at, _) in text.match_indices("://") {
                let before = &text[..at];
                // Names of namespaces, and of licences in comments, are not addresses that are asked.
                let is_name = text[at..].starts_with("://www.w3.org/")
                    || before
                        .lines()
                        .last()
                        .is_some_and(|line| line.contains("/*!"));
                assert!(
                    is_name,
                    "{}: {}",
                    asset.path,
                    &text[at..text.len().min(at + 40)]
                );
            }
        }
    }
}
