//! What there are lists of: how a shard is asked for a page, and what its rows are.

use ringmq_core::shard::{
    Answer, Ask, MatchPlace, RetainedQuery, SessionFilter, SessionQuery, SubscriberQuery, Whose,
};
use ringmq_core::topic::TopicFilter;
use serde::Serialize;

use super::findings::{self, SubscriberView};
use super::view::ClientView;

/// What is listed.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// Sessions.
    Clients(SessionFilter),
    /// Retained messages.
    Retained(Option<TopicFilter>),
    /// Subscribers of a topic or a filter.
    Subscribers(Whose),
}

/// Rows as JSON, each with its place in the shard.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<(u64, String)>,
    pub(super) next: Option<u64>,
}

impl Subject {
    /// What its rows are called.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Subject::Clients(_) => "clients",
            Subject::Retained(_) => "retained",
            Subject::Subscribers(_) => "subscriptions",
        }
    }

    /// Asks for the page that begins at a place.
    pub(super) fn ask(&self, at: u64, rows_max: usize) -> Ask {
        // Who makes up a cursor gets an empty page.
        let from = u32::try_from(at).unwrap_or(u32::MAX);
        match self {
            Subject::Clients(filter) => Ask::Sessions(SessionQuery {
                from,
                rows_max,
                filter: filter.clone(),
            }),
            Subject::Retained(filter) => Ask::Retained(RetainedQuery {
                from,
                rows_max,
                filter: filter.clone(),
            }),
            Subject::Subscribers(of) => Ask::Subscribers(SubscriberQuery {
                of: of.clone(),
                from: place_of(at),
                rows_max,
                message: None,
            }),
        }
    }

    /// The page that was asked for; `None`: this is another answer.
    pub(super) fn read(&self, shard: usize, answer: Answer) -> Option<Page> {
        match (self, answer) {
            (Subject::Clients(_), Answer::Sessions(page)) => {
                let rows = page.rows.into_iter().map(|row| {
                    let at = u64::from(row.slot);
                    (at, json(&ClientView::of(shard, row)))
                });
                Some(Page {
                    rows: rows.collect(),
                    next: page.next.map(u64::from),
                })
            }
            (Subject::Retained(_), Answer::Retained(page)) => {
                let rows = page.rows.iter().map(|row| {
                    let view = findings::retained(row, false);
                    (u64::from(row.place), view.to_string())
                });
                Some(Page {
                    rows: rows.collect(),
                    next: page.next.map(u64::from),
                })
            }
            (Subject::Subscribers(_), Answer::Subscribers(page)) => {
                let rows = page.rows.into_iter().map(|row| {
                    let at = number_of(row.place);
                    (at, json(&SubscriberView::of(shard, row)))
                });
                Some(Page {
                    rows: rows.collect(),
                    next: page.next.map(number_of),
                })
            }
            (Subject::Clients(_) | Subject::Retained(_) | Subject::Subscribers(_), _) => None,
        }
    }
}

fn json(view: &impl Serialize) -> String {
    serde_json::to_string(view).expect("a view is text and numbers")
}

/// A place among subscribers as one number: the filter in the upper half.
pub(super) fn number_of(place: MatchPlace) -> u64 {
    u64::from(place.source) << 32 | u64::from(place.at)
}

pub(super) fn place_of(number: u64) -> MatchPlace {
    MatchPlace {
        source: (number >> 32) as u32,
        at: number as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_number_and_back() {
        let place = MatchPlace { source: 7, at: 9 };
        assert_eq!(place_of(number_of(place)), place);
        assert_eq!(place_of(0), MatchPlace::default());
    }
}
