//! Lists: page after page from the shards, streamed at the pace of the reader.
//!
//! What was there from the beginning to the end of a listing is in it once; what came or ended meanwhile, once or not at
//! all. A cursor is the place of the next row, and there is none behind the last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};
use ringmq_core::ids::ShardId;
use ringmq_core::shard::SessionPage;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Control;
use super::problem::Problem;
use super::routes::{begin_listing, read_limit};
use super::subject::{Page, Subject};

/// How much of a list a request asks for.
#[derive(Debug, Default)]
pub(super) struct Span {
    /// Rows; `None`: the usual.
    pub(super) limit: Option<usize>,
    /// Of the page before.
    pub(super) cursor: Option<String>,
}

/// Where the next row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    shard: usize,
    /// As the shard calls it.
    at: u64,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One object: the rows below the name of the list, `cursor`, `missing_shards`.
    Json,
    /// A line for each row, and one with `cursor` and `missing_shards`.
    Lines,
}

struct Listing {
    control: Arc<Control>,
    leave: OwnedSemaphorePermit,
    subject: Subject,
    form: Form,
    /// Rows that may still come; `None`: all.
    left: Option<usize>,
    is_first: bool,
    /// Shards that do not answer.
    missing: Vec<usize>,
}

/// Answers with a stream of rows.
pub(super) fn list(
    control: Arc<Control>,
    subject: Subject,
    span: &Span,
    form: Form,
) -> Result<Response, Problem> {
    let shards = control.asker.shards();
    let from = match &span.cursor {
        None => Place { shard: 0, at: 0 },
        Some(cursor) => Place::parse(cursor, shards).ok_or_else(|| {
            let fix = "use the cursor of the page before, as it is";
            let what = "this is not a cursor of this broker";
            Problem::new(StatusCode::BAD_REQUEST, what, fix)
        })?,
    };
    let left = match (span.limit, form) {
        (None, Form::Lines) => None,
        (asked, _) => Some(read_limit(asked, (LIMIT, LIMIT_MAX))?),
    };
    let leave = begin_listing(&control)?;
    let listing = Listing {
        control,
        leave,
        subject,
        form,
        left,
        is_first: true,
        missing: Vec::new(),
    };
    let (sender, channel) = Channel::<Bytes, io::Error>::new(PAGES_AHEAD);
    tokio::spawn(listing.run(from, sender));
    let kind = match form {
        Form::Json => "application/json",
        Form::Lines => "application/x-ndjson",
    };
    Ok(([(header::CONTENT_TYPE, kind)], Body::new(channel)).into_response())
}

impl Listing {
    /// To the end, or until the reader takes nothing any more: then its connection ends without one.
    async fn run(mut self, from: Place, mut sender: Sender<Bytes, io::Error>) {
        let mut next = Some(from);
        while let Some(place) = next {
            let (text, after) = match self.page(place).await {
                Paged::More(text, after) => (text, Some(after)),
                Paged::Last(text) => (text, None),
            };
            let sent = timeout(READER_TIME_MAX, sender.send_data(Bytes::from(text))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return sender.abort(io::Error::from(io::ErrorKind::TimedOut));
            }
            next = after;
        }
    }

    /// The rows of one page, and where to go on.
    async fn page(&mut self, place: Place) -> Paged {
        let shard = ShardId::new(place.shard);
        // One row more tells whether there is another page.
        let wanted = self
            .left
            .map_or(SessionPage::ROWS_MAX, |left| left.saturating_add(1));
        let ask = self.subject.ask(place.at, wanted);
        let answer = self.control.asker.ask_page(&self.leave, shard, ask).await;
        let page = answer.and_then(|answer| self.subject.read(place.shard, answer));
        let Some(Page { rows, next }) = page else {
            self.missing.push(place.shard);
            return self.go_on(String::new(), place.shard + 1, 0);
        };
        let mut text = String::new();
        for (at, row) in rows {
            if self.left == Some(0) {
                return self.end(text, Some(Place { at, ..place }));
            }
            self.left = self.left.map(|left| left - 1);
            self.write(&mut text, &row);
        }
        match next {
            Some(at) => self.go_on(text, place.shard, at),
            None => self.go_on(text, place.shard + 1, 0),
        }
    }

    fn go_on(&mut self, text: String, shard: usize, at: u64) -> Paged {
        match shard < self.control.asker.shards() {
            true => Paged::More(text, Place { shard, at }),
            false => self.end(text, None),
        }
    }

    fn write(&mut self, text: &mut String, row: &str) {
        let is_first = std::mem::take(&mut self.is_first);
        match (self.form, is_first) {
            (Form::Json, true) => *text += &format!("{{\"{}\":[\n", self.subject.name()),
            (Form::Json, false) => *text += ",\n",
            (Form::Lines, _) => {}
        }
        *text += row;
        if self.form == Form::Lines {
            text.push('\n');
        }
    }

    fn end(&mut self, mut text: String, cursor: Option<Place>) -> Paged {
        let cursor = cursor.map(Place::text);
        let end = serde_json::json!({"cursor": cursor, "missing_shards": self.missing});
        let end = end.to_string();
        text += &match (self.form, self.is_first) {
            (Form::Json, true) => format!("{{\"{}\":[],{}\n", self.subject.name(), &end[1..]),
            (Form::Json, false) => format!("\n],{}\n", &end[1..]),
            (Form::Lines, _) => end + "\n",
        };
        Paged::Last(text)
    }
}

enum Paged {
    More(String, Place),
    Last(String),
}

impl Place {
    fn text(self) -> String {
        format!("{}.{}", self.shard, self.at)
    }

    fn parse(text: &str, shards: usize) -> Option<Place> {
        let (shard, at) = text.split_once('.')?;
        let place = Place {
            shard: shard.parse().ok()?,
            at: at.parse().ok()?,
        };
        (place.shard < shards && place.text() == text).then_some(place)
    }
}

/// Pages that wait for the reader.
const PAGES_AHEAD: usize = 1;
/// Rows of a page if the request does not say.
const LIMIT: usize = 100;
pub(crate) const LIMIT_MAX: usize = 10_000;
/// A reader that takes nothing for so long makes room for others.
const READER_TIME_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let place = Place { shard: 1, at: 77 };
        assert_eq!(Place::parse(&place.text(), 2), Some(place));
        for wrong in [
            "",
            "1",
            "2.0",
            "1.x",
            "01.2",
            "+1.2",
            "1.18446744073709551616",
            "1.2.3",
        ] {
            assert_eq!(Place::parse(wrong, 2), None, "{wrong}");
        }
    }
}
