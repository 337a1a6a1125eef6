//! One request of HTTP/1.1, and its answer as lines.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::place::{Host, Place};
use crate::tls::Terms;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
}

/// How an answer says where it ends.
enum Length {
    Whole(u64),
    Chunked,
    ToTheEnd,
}

/// Asks, and hands over the lines of the answer as they come.
pub(super) fn get(
    place: &Place,
    tls: Option<&Terms>,
    asked: &Asked<'_>,
    take: impl FnMut(&str),
) -> Result<(), String> {
    let request = request(place, asked);
    let done = match (place, tls) {
        (Place::Unix(path), _) => connect_unix(path).map(|stream| exchange(stream, &request, take)),
        (Place::Http(host) | Place::Https(host), None) => {
            connect(host).map(|stream| exchange(stream, &request, take))
        }
        (Place::Http(host) | Place::Https(host), Some(terms)) => match connect(host) {
            Ok(stream) => Ok(exchange(terms.over(stream)?, &request, take)),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(error) => Err(format!(
            "{error}; is the broker running, with its control plane there?"
        )),
    }
}

fn request(place: &Place, asked: &Asked<'_>) -> String {
    let token = asked
        .token
        .map(|token| format!("Authorization: Bearer {token}\r\n"));
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: application/x-ndjson\r\n{}Connection: close\r\n\r\n",
        asked.path,
        place.host(),
        token.unwrap_or_default()
    )
}

fn connect_unix(path: &str) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect(host: &Host) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (&*host.name, host.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange<S: Read + Write>(
    mut stream: S,
    request: &str,
    mut take: impl FnMut(&str),
) -> io::Result<()> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut reader = BufReader::new(stream);
    let (status, length) = read_head(&mut reader)?;
    if status == 200 {
        return each_line(body(&mut reader, length), &mut take);
    }
    let mut text = String::new();
    body(&mut reader, length)
        .take(REFUSAL_SIZE_MAX)
        .read_to_string(&mut text)?;
    Err(io::Error::other(refusal(status, &text)))
}

/// Status, and where the body ends.
fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Length)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let size = reader
            .by_ref()
            .take(HEAD_SIZE_MAX)
            .read_until(b'\n', &mut head)?;
        if size == 0 || head.len() as u64 > HEAD_SIZE_MAX {
            return Err(malformed("it is not HTTP"));
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(&head);
    let status = response
        .code
        .filter(|_| parsed.is_ok_and(|status| status.is_complete()));
    let status = status.ok_or_else(|| malformed("it is not HTTP"))?;
    let value = |name: &str| {
        let mut all = response.headers.iter();
        let header = all.find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let is_chunked = value("transfer-encoding").is_some_and(|how| how.contains("chunked"));
    let length = match (is_chunked, value("content-length")) {
        (true, _) => Length::Chunked,
        (false, Some(size)) => {
            let size = size.trim().parse();
            Length::Whole(size.map_err(|_| malformed("its length is no number"))?)
        }
        (false, None) => Length::ToTheEnd,
    };
    Ok((status, length))
}

fn body<'a, R: BufRead>(reader: &'a mut R, length: Length) -> Box<dyn Read + 'a> {
    match length {
        Length::Whole(size) => Box::new(reader.take(size)),
        Length::ToTheEnd => Box::new(reader),
        Length::Chunked => Box::new(Chunks {
            reader,
            left: 0,
            is_first: true,
            is_over: false,
        }),
    }
}

fn each_line(body: impl Read, take: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut body = BufReader::with_capacity(64 * 1024, body);
    let mut line = Vec::new();
    while body.read_until(b'\n', &mut line)? > 0 {
        take(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        line.clear();
    }
    Ok(())
}

/// A body that comes in chunks.
struct Chunks<'a, R> {
    reader: &'a mut R,
    /// Of this chunk.
    left: u64,
    is_first: bool,
    is_over: bool,
}

impl<R: BufRead> Read for Chunks<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_over {
            self.next_chunk()?;
        }
        if self.is_over {
            return Ok(0);
        }
        let size = out
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let size = self.reader.read(&mut out[..size])?;
        if size == 0 {
            return Err(malformed("the answer broke off"));
        }
        self.left -= size as u64;
        Ok(size)
    }
}

impl<R: BufRead> Chunks<'_, R> {
    fn next_chunk(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.line()?; // The end of the chunk before.
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        self.left =
            u64::from_str_radix(digits, 16).map_err(|_| malformed("the answer broke off"))?;
        self.is_over = self.left == 0;
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader
            .by_ref()
            .take(HEAD_SIZE_MAX)
            .read_line(&mut line)?;
        match line.ends_with('\n') {
            true => Ok(line),
            false => Err(malformed("the answer broke off")),
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Problem details, as a sentence.
fn refusal(status: u16, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let detail = problem["detail"].as_str();
    let what = detail.map_or(format!("it answers with status {status}"), str::to_owned);
    let fix = match (status, problem["fix"].as_str()) {
        (401 | 403, _) => "name a file with a token of the role viewer: --admin-token FILE",
        (404, _) if detail.is_none() => "is it a control plane of Ringmq?",
        (_, Some(fix)) => fix,
        (_, None) => "is it a control plane of Ringmq?",
    };
    format!("{what}; {fix}")
}

/// So long an answer may take to go on.
const PATIENCE: Duration = Duration::from_secs(10);
const HEAD_SIZE_MAX: u64 = 16 * 1024;
const REFUSAL_SIZE_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of an answer.
    fn read(answer: &str) -> Result<Vec<String>, String> {
        struct Both<'a>(&'a [u8]);
        impl Read for Both<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                // Byte by byte: no line depends on how it comes.
                let size = out.len().min(1);
                self.0.read(&mut out[..size])
            }
        }
        impl Write for Both<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Vec::new();
        exchange(Both(answer.as_bytes()), "GET", |line| {
            lines.push(line.to_owned());
        })
        .map_err(|error| error.to_string())?;
        Ok(lines)
    }

    #[test]
    fn answers_are_read_whatever_says_their_end() {
        let head = "HTTP/1.1 200 OK\r\n";
        for answer in [
            "Content-Length: 5\r\n\r\na\nbc\nrest",
            "Transfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n2;x\r\nc\n\r\n0\r\n\r\n",
            "\r\na\r\nbc",
        ] {
            assert_eq!(
                read(&format!("{head}{answer}")).unwrap(),
                ["a", "bc"],
                "{answer}"
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let json = r#"{"detail": "this needs the role viewer", "fix": "x"}"#;
        let refused = format!(
            "HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        );
        let missing = "HTTP/1.1 404 No\r\n\r\n".to_owned();
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab".to_owned();
        for (answer, what) in [
            (
                refused,
                "this needs the role viewer; name a file with a token",
            ),
            (missing, "status 404; is it a control plane"),
            (chunked, "broke off"),
            ("220 smtp\r\n".to_owned(), "not HTTP"),
            (String::new(), "not HTTP"),
        ] {
            let why = read(&answer).unwrap_err();
            assert!(why.contains(what), "{answer}: {why}");
        }
    }
}
