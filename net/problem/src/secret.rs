//! URLs without what may be secret in them: user names, passwords and queries.
//!
//! What is no URL is hidden as well as if it were one: it is the wrong ones that are complained of.

use std::ops::Range;

/// A URL, right or wrong, for a message: `http://u:p@h/x?key=1` as `http://***@h/x?***`.
pub fn hide_in_url(url: &str) -> String {
    let mut shown = String::new();
    let mut at = 0;
    for secret in secrets(url) {
        shown += &url[at..secret.start];
        shown += "***";
        at = secret.end;
    }
    shown + &url[at..]
}

/// A line of a file, each secret character of its URLs as `*`: what stands where stays so.
pub fn hide_in_line(line: &str) -> String {
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    let is_of_url = key.trim_matches(['"', '\'']).ends_with("url");
    let mut shown = String::new();
    let mut rest = line;
    while let Some(place) = next_url(rest, is_of_url) {
        let url = &rest[place.clone()];
        let secrets = secrets(url);
        shown += &rest[..place.start];
        for (at, c) in url.char_indices() {
            let is_secret = secrets.iter().any(|secret| secret.contains(&at));
            shown.push(if is_secret { '*' } else { c });
        }
        // With its quote, so that this does not open another.
        let end = place.end + rest[place.end..].chars().next().map_or(0, char::len_utf8);
        shown += &rest[place.end..end];
        rest = &rest[end..];
    }
    shown + rest
}

/// What is a URL, by its scheme, or by the key that it belongs to.
fn next_url(text: &str, is_of_url: bool) -> Option<Range<usize>> {
    let quoted = text.find(['"', '\'']).filter(|_| is_of_url);
    let begin = match quoted {
        Some(at) => at + 1,
        None => {
            let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
            text[..text.find("://")?].trim_end_matches(is_scheme).len()
        }
    };
    let quote = text[..begin].chars().next_back();
    let quote = quote.filter(|c| matches!(c, '"' | '\'' | '`'));
    let is_end = |c: char| quote.map_or(c.is_whitespace(), |quote| c == quote);
    let end = text[begin..].find(is_end);
    Some(begin..end.map_or(text.len(), |end| begin + end))
}

/// Where they are, in order.
fn secrets(url: &str) -> Vec<Range<usize>> {
    let begin = url.find("://").map_or(0, |at| at + "://".len());
    let query = url[begin..].find(['?', '#']).map(|at| begin + at);
    let place = &url[begin..query.unwrap_or(url.len())];
    let mut secrets = Vec::new();
    match place.rfind('@') {
        Some(at) => secrets.push(begin..begin + at),
        // The question mark may belong to a password.
        None if !place.contains('/') && url[begin..].contains('@') => {
            let rest = begin..url.len();
            return vec![rest];
        }
        None => {}
    }
    if let Some(query) = query.filter(|query| query + 1 < url.len()) {
        secrets.push(query + 1..url.len());
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_hidden() {
        for (url, expected) in [
            ("https://a.example:8443/x", "https://a.example:8443/x"),
            ("http://u:S@h/x?key=S", "http://***@h/x?***"),
            ("http://u:S/S@h/x", "http://***@h/x"),
            ("http://u:S?S@h/x", "http://***"),
            ("http://h/x?mail=a@b", "http://h/x?***"),
            ("http://h/x#S", "http://h/x#***"),
            ("http://h/?", "http://h/?"),
            ("u:S@h/x?S", "***@h/x?***"),
            ("ftp://ü:S S@h", "ftp://***@h"),
            ("", ""),
        ] {
            assert_eq!(hide_in_url(url), expected, "{url}");
        }
    }

    #[test]
    fn a_line_keeps_its_columns() {
        for (line, expected) in [
            (
                "url = \"http://u:S S@h/x?S\" # http://i",
                "url = \"http://*****@h/x?*\" # http://i",
            ),
            (
                "url = ['http://h/?S', 'http://h/?T'] # 'x'",
                "url = ['http://h/?*', 'http://h/?*'] # 'x'",
            ),
            ("url = http://u:S@h/?S # x", "url = http://***@h/?* # x"),
            (
                "jwks_url = [\"http:/u:S@h\", \"S@i\"]",
                "jwks_url = [\"*********@h\", \"*@i\"]",
            ),
            (
                "listen = \"mqtts://0.0.0.0:1\"",
                "listen = \"mqtts://0.0.0.0:1\"",
            ),
        ] {
            assert_eq!(hide_in_line(line), expected);
            assert_eq!(line.chars().count(), expected.chars().count());
        }
    }
}
