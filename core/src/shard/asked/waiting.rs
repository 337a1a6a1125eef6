//! What a client is subscribed to, and what waits for it.

use crate::ids::{DeliveryNo, SessionId};
use crate::session::Session;
use crate::shard::Shard;
use crate::shard::mail::ask::SessionPage;
use crate::shard::mail::findings::{ClientQuery, QueuedRow, Rows, SubscriptionRow};
use crate::time::Instant;

impl Shard {
    /// In no order, but the same one as long as nothing changes. A page skips what the pages before
    /// had: at most `subscriptions_max`.
    pub(super) fn subscriptions_of(
        &self,
        query: &ClientQuery,
    ) -> Option<Rows<SubscriptionRow, u64>> {
        let (id, session) = self.named(&query.client_id)?;
        let rows_max = query.rows_max.clamp(1, SessionPage::ROWS_MAX);
        let from = usize::try_from(query.from).unwrap_or(usize::MAX);
        let mut page = Rows::default();
        let mut text_size = 0;
        for (index, filter) in session.subscriptions.iter().enumerate().skip(from) {
            if page.rows.len() == rows_max || text_size >= SessionPage::TEXT_SIZE_MAX {
                page.next = Some(index as u64);
                break;
            }
            text_size += filter.as_str().len();
            let options = self.options_of(id, filter);
            page.rows.push(SubscriptionRow {
                filter: filter.as_str().into(),
                qos: options.qos,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                id: options.subscription_id,
            });
        }
        Some(page)
    }

    /// The oldest first.
    pub(super) fn queue_of(
        &self,
        query: &ClientQuery,
        now: Instant,
    ) -> Option<Rows<QueuedRow, u64>> {
        let (_, session) = self.named(&query.client_id)?;
        let rows_max = query.rows_max.clamp(1, SessionPage::ROWS_MAX);
        let mut page = Rows::default();
        for (number, delivery) in session.queue.waiting_from(DeliveryNo(query.from)) {
            if page.rows.len() == rows_max {
                page.next = Some(number.0);
                break;
            }
            let expires_at = delivery.message.expires_at;
            page.rows.push(QueuedRow {
                number: number.0,
                message: delivery.message.clone(),
                qos: delivery.qos,
                expires_in: expires_at.map(|at| at.saturating_since(now)),
            });
        }
        Some(page)
    }

    fn named(&self, client_id: &str) -> Option<(SessionId, &Session)> {
        let sessions = &self.dispatch.sessions;
        let id = sessions.find(client_id)?;
        Some((id, sessions.get(id)?))
    }
}
