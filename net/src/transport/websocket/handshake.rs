//! The HTTP request that opens a WebSocket (RFC 6455, section 4), and the responses to it.
//!
//! Not here: reading the request off the wire (`mod.rs`), frames (`frames.rs`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use super::Origins;

/// Why a request opens no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeError {
    /// It is not an HTTP/1.1 GET.
    NotHttp,
    /// It does not name the host, or names it more than once.
    Host,
    /// Its header is longer than [`HEADER_SIZE_MAX`], or has more than [`FIELDS_MAX`] fields.
    TooLong,
    /// It does not ask for a WebSocket.
    NoUpgrade,
    /// It asks for an unsupported version.
    Version,
    /// Its key is missing, repeated, or not 16 bytes.
    Key,
    /// It does not offer MQTT.
    Subprotocol,
    /// A page of that origin may not connect.
    Origin,
}

impl UpgradeError {
    /// The response, which may be shown in a browser.
    pub(super) fn answer(self) -> String {
        let status = match self {
            UpgradeError::Version => "426 Upgrade Required",
            UpgradeError::Origin => "403 Forbidden",
            // RFC 6585, section 5.
            UpgradeError::TooLong => "431 Request Header Fields Too Large",
            UpgradeError::NotHttp
            | UpgradeError::Host
            | UpgradeError::NoUpgrade
            | UpgradeError::Key
            | UpgradeError::Subprotocol => "400 Bad Request",
        };
        let extra = match self {
            UpgradeError::Version => "Sec-WebSocket-Version: 13\r\n",
            UpgradeError::NotHttp
            | UpgradeError::Host
            | UpgradeError::TooLong
            | UpgradeError::NoUpgrade
            | UpgradeError::Key
            | UpgradeError::Subprotocol
            | UpgradeError::Origin => "",
        };
        let text = self.to_string();
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n{extra}\r\n{text}\n",
            text.len() + 1
        )
    }
}

impl std::fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UpgradeError::NotHttp => f.write_str(
                "This port serves MQTT over WebSocket: the request has to be an HTTP/1.1 GET.",
            ),
            UpgradeError::Host => f.write_str("The request needs one Host header field."),
            UpgradeError::TooLong => write!(
                f,
                "The request header is larger than {} KiB, or has more than {FIELDS_MAX} fields.",
                HEADER_SIZE_MAX / 1024
            ),
            UpgradeError::NoUpgrade => f.write_str(
                "This port serves MQTT over WebSocket: the request lacks Upgrade: websocket and \
                 Connection: Upgrade.",
            ),
            UpgradeError::Version => f.write_str("Sec-WebSocket-Version has to be 13."),
            UpgradeError::Key => f.write_str("Sec-WebSocket-Key is not 16 bytes in base64."),
            UpgradeError::Subprotocol => {
                f.write_str("Sec-WebSocket-Protocol offers neither mqtt nor mqttv3.1.")
            }
            UpgradeError::Origin => {
                f.write_str("Pages of this origin may not connect: see websocket.origins.")
            }
        }
    }
}

/// Judges a whole request, up to its empty line; the answer that opens the WebSocket.
pub(super) fn accept(request: &[u8], origins: &Origins) -> Result<String, UpgradeError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(request) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(UpgradeError::TooLong),
        Ok(httparse::Status::Partial) | Err(_) => return Err(UpgradeError::NotHttp),
    }
    if parsed.method != Some("GET") || parsed.version != Some(1) {
        return Err(UpgradeError::NotHttp);
    }
    let fields = Fields(parsed.headers);
    let host = fields.only("Host").ok_or(UpgradeError::Host)?;
    if !fields.lists("Upgrade", "websocket") || !fields.lists("Connection", "upgrade") {
        return Err(UpgradeError::NoUpgrade);
    }
    if fields.only("Sec-WebSocket-Version") != Some("13") {
        return Err(UpgradeError::Version);
    }
    let key = fields.only("Sec-WebSocket-Key").ok_or(UpgradeError::Key)?;
    if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        return Err(UpgradeError::Key);
    }
    let subprotocol = choose(fields.values("Sec-WebSocket-Protocol").flat_map(tokens))
        .ok_or(UpgradeError::Subprotocol)?;
    // An origin that is not text cannot be a listed one.
    let is_admitted = match fields.count("Origin") {
        0 => true,
        1 => fields
            .only("Origin")
            .is_some_and(|page| origins.admit(page, host)),
        _ => false,
    };
    if !is_admitted {
        return Err(UpgradeError::Origin);
    }
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
        accept_key(key)
    ))
}

/// [MQTT-6.0.0-3] [MQTT-6.0.0-4] The client offers "mqtt", and that is selected; names of
/// subprotocols are compared as they are. Clients of MQTT 3.1 offer the name of before the
/// standard, and are answered with it.
fn choose<'a>(offers: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let rank = |offer| SUBPROTOCOLS.iter().position(|name| *name == offer);
    offers.filter_map(rank).min().map(|rank| SUBPROTOCOLS[rank])
}

fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

/// The fields of a request. Values that are not text count as absent.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn named(&self, name: &'static str) -> impl Iterator<Item = &httparse::Header<'a>> {
        let fields = self.0.iter();
        fields.filter(move |field| field.name.eq_ignore_ascii_case(name))
    }

    /// How often a field occurs, whatever its value.
    fn count(&self, name: &'static str) -> usize {
        self.named(name).count()
    }

    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.named(name)
            .filter_map(|f| std::str::from_utf8(f.value).ok().map(str::trim))
    }

    /// The value of a field that occurs once.
    fn only(&self, name: &'static str) -> Option<&'a str> {
        let mut values = self.values(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// Whether a list names the token, in any case.
    fn lists(&self, name: &'static str, token: &str) -> bool {
        self.values(name)
            .flat_map(tokens)
            .any(|found| found.eq_ignore_ascii_case(token))
    }
}

fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// The first of these that a client offers is selected.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What HAProxy accepts. A browser with the cookies of a large site sends some 8 KiB.
pub(crate) const HEADER_SIZE_MAX: usize = 16 * 1024;
/// Browsers send some twenty, and proxies add their own.
pub(crate) const FIELDS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl Fn(&str) -> String) -> String {
        change(
            "GET /mqtt HTTP/1.1\r\nHost: b.example:8083\r\nUpgrade: WebSocket\r\n\
             Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: chat, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
    }

    // [MQTT-6.0.0-3] [MQTT-6.0.0-4] [MQTT3-6.0.0-3] [MQTT3-6.0.0-4]
    #[test]
    fn a_request_of_the_rfc_is_answered_with_its_key_and_mqtt() {
        let answer = accept(request(str::to_owned).as_bytes(), &Origins::default()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"));
        // Threat 87: compression is offered, and not taken.
        let offer =
            "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
        let offered = request(|text| text.replace("\r\n\r\n", offer));
        let again = accept(offered.as_bytes(), &Origins::default());
        assert_eq!(again.as_ref(), Ok(&answer));
        assert!(!answer.contains("Extensions"));
    }

    #[test]
    fn the_subprotocol_of_mqtt_3_1_is_answered_with_its_own_name() {
        for (offer, expected) in [
            ("mqttv3.1", "mqttv3.1"),
            ("chat, mqttv3.1", "mqttv3.1"),
            ("mqttv3.1, mqtt", "mqtt"),
            ("mqtt, mqttv3.1", "mqtt"),
        ] {
            let text = request(|text| text.replace("chat, mqtt", offer));
            let answer = accept(text.as_bytes(), &Origins::default()).unwrap();
            let selected = format!("\r\nSec-WebSocket-Protocol: {expected}\r\n");
            assert!(answer.contains(&selected), "{offer}: {answer}");
        }
    }

    #[test]
    fn a_request_with_many_cookies_or_header_fields_is_let_in() {
        for more in [
            format!("\r\nCookie: {}", "x".repeat(16_000)),
            "\r\nX-Forwarded: y".repeat(FIELDS_MAX - 10),
        ] {
            let text = request(|text| text.replace("\r\n\r\n", &format!("{more}\r\n\r\n")));
            assert!(accept(text.as_bytes(), &Origins::default()).is_ok());
        }
    }

    // Threat 88.
    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let replaced = |from: &'static str, to: &'static str| {
            request(move |text| {
                assert!(text.contains(from), "{from}");
                text.replace(from, to)
            })
        };
        for (text, refusal) in [
            (replaced("GET ", "POST "), UpgradeError::NotHttp),
            (replaced("HTTP/1.1", "HTTP/1.0"), UpgradeError::NotHttp),
            (replaced("HTTP/1.1", "HTTP/2.0"), UpgradeError::NotHttp),
            (replaced("Host: b.example:8083\r\n", ""), UpgradeError::Host),
            (
                replaced("Host: b", "Host: a\r\nHost: b"),
                UpgradeError::Host,
            ),
            (
                replaced("Upgrade: WebSocket\r\n", ""),
                UpgradeError::NoUpgrade,
            ),
            (
                replaced("WebSocket\r\n", "h2c\r\n"),
                UpgradeError::NoUpgrade,
            ),
            (
                replaced("keep-alive, Upgrade", "close"),
                UpgradeError::NoUpgrade,
            ),
            (replaced("Version: 13", "Version: 8"), UpgradeError::Version),
            (
                replaced("Sec-WebSocket-Version: 13\r\n", ""),
                UpgradeError::Version,
            ),
            (
                replaced("dGhlIHNhbXBsZSBub25jZQ==", "dGhl"),
                UpgradeError::Key,
            ),
            (
                replaced("dGhlIHNhbXBsZSBub25jZQ==", "%%%"),
                UpgradeError::Key,
            ),
            (
                replaced("chat, mqtt", "chat, mqttv3.11"),
                UpgradeError::Subprotocol,
            ),
            (replaced("chat, mqtt", "MQTT"), UpgradeError::Subprotocol),
            (
                replaced("Sec-WebSocket-Protocol: chat, mqtt\r\n", ""),
                UpgradeError::Subprotocol,
            ),
            ("GET \0 HTTP/1.1\r\n\r\n".to_owned(), UpgradeError::NotHttp),
            ("GET\r\n\r\n".to_owned(), UpgradeError::NotHttp),
            (
                replaced(
                    "\r\n\r\n",
                    &"\r\nX: y".repeat(FIELDS_MAX)[..].to_owned().leak()[..],
                ) + "\r\n\r\n",
                UpgradeError::TooLong,
            ),
        ] {
            let found = accept(text.as_bytes(), &Origins::default());
            assert_eq!(found, Err(refusal), "{text}");
            let answer = refusal.answer();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 4"), "{head}");
            assert!(
                head.contains(&format!("Content-Length: {}\r\n", body.len()))
                    || head.ends_with(&format!("Content-Length: {}", body.len()))
            );
        }
    }

    #[test]
    fn pages_connect_from_permitted_origins_only() {
        let same = Origins::default();
        let listed = Origins::parse(["https://app.example", "null"]).unwrap();
        let any = Origins::parse(["*"]).unwrap();
        for (origin, from_same, from_listed) in [
            ("https://b.example:8083", true, true),
            ("https://B.EXAMPLE:8083", true, true),
            // Its owner may let the name point to this machine.
            ("http://b.example:8083", false, false),
            ("https://b.example", false, false),
            ("https://app.example", false, true),
            ("https://APP.example", false, true),
            ("http://app.example", false, false),
            ("https://app.example.evil", false, false),
            ("https://app.example:8083", false, false),
            ("null", false, true),
        ] {
            let text =
                request(|text| text.replace("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n")));
            let opens = |origins: &Origins| accept(text.as_bytes(), origins).is_ok();
            assert_eq!(opens(&same), from_same, "{origin}");
            assert_eq!(opens(&listed), from_listed, "{origin}");
            assert!(opens(&any), "{origin}");
        }
        for (host, opened) in [
            ("localhost:8083", true),
            ("localhost", true),
            ("127.0.0.1:8083", true),
            ("[::1]:8083", true),
            ("[::1]", true),
            ("localhost.evil.example:8083", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1@evil.example", false),
        ] {
            let text = request(|text| {
                text.replace("b.example:8083", host)
                    .replace("\r\n\r\n", &format!("\r\nOrigin: http://{host}\r\n\r\n"))
            });
            assert_eq!(accept(text.as_bytes(), &same).is_ok(), opened, "{host}");
        }
        let twice =
            request(|text| text.replace("\r\n\r\n", "\r\nOrigin: null\r\nOrigin: null\r\n\r\n"));
        assert!(accept(twice.as_bytes(), &any).is_err());
        let mut no_text =
            request(|text| text.replace("\r\n\r\n", "\r\nOrigin: ?\r\n\r\n")).into_bytes();
        *no_text.iter_mut().rfind(|byte| **byte == b'?').unwrap() = 0xFF;
        assert_eq!(accept(&no_text, &any), Err(UpgradeError::Origin));
    }
}
