//! Listing and deleting retained messages.
//!
//! A page is made of places in the store, as a page of sessions is of slots: a message keeps its
//! place while its topic has one, so what is there the whole time is listed once.

use std::sync::Arc;

use crate::ids::ClientKey;
use crate::message::Message;
use crate::shard::Shard;
use crate::shard::mail::ask::SessionPage;
use crate::shard::mail::findings::{Dealt, RetainedQuery, RetainedRow, Rows};
use crate::store::Record;
use crate::time::Instant;

impl Shard {
    pub(super) fn retained_page(
        &self,
        query: &RetainedQuery,
        now: Instant,
    ) -> Rows<RetainedRow, u32> {
        let rows_max = query.rows_max.clamp(1, SessionPage::ROWS_MAX);
        let mut page = Rows::default();
        let mut text_size = 0;
        for place in query.from..query.from.saturating_add(SessionPage::SLOTS_MAX) {
            let (message, is_more) = self.retained.at(place);
            if let Some(message) = message.filter(|message| is_meant(query, message, now)) {
                if page.rows.len() == rows_max || text_size >= SessionPage::TEXT_SIZE_MAX {
                    page.next = Some(place);
                    return page;
                }
                text_size += message.topic().len();
                page.rows.push(row(place, message, now));
            }
            if !is_more {
                return page;
            }
        }
        page.next = query.from.checked_add(SessionPage::SLOTS_MAX);
        page
    }

    pub(super) fn retained_of(&self, topic: &str, now: Instant) -> Option<RetainedRow> {
        let message = self.retained.get(topic.as_bytes())?;
        let is_over = message.expires_at.is_some_and(|at| at <= now);
        (!is_over).then(|| row(0, message, now))
    }

    /// Deletes a retained message, as an empty one would [MQTT-3.3.1-6].
    pub(super) fn unretain(&mut self, topic: &[u8], now: Instant) -> bool {
        let Some(message) = self.retained.remove(topic) else {
            return false;
        };
        // What the broker itself publishes is not stored.
        if message.parts().publisher != ClientKey::BROKER {
            self.dispatch.journal.record(&Record::Unretained { topic });
        }
        self.set_retained_timer(now);
        true
    }

    /// Deletes what a page would have.
    pub(super) fn unretain_page(&mut self, query: &RetainedQuery, now: Instant) -> Dealt {
        let page = self.retained_page(query, now);
        let count = page.rows.len() as u32;
        for row in page.rows {
            self.unretain(row.message.topic(), now);
        }
        Dealt {
            count,
            next: page.next,
        }
    }
}

fn is_meant(query: &RetainedQuery, message: &Message, now: Instant) -> bool {
    let topic = message.topic();
    let is_wanted = match &query.filter {
        Some(filter) => filter.matches(topic),
        None => topic.first() != Some(&b'$'),
    };
    is_wanted && message.expires_at.is_none_or(|at| at > now)
}

fn row(place: u32, message: &Arc<Message>, now: Instant) -> RetainedRow {
    RetainedRow {
        place,
        message: message.clone(),
        expires_in: message.expires_at.map(|at| at.saturating_since(now)),
    }
}
