//! How traces begin, are asked for, and end.

use crate::shard::Shard;
use crate::shard::mail::ask::SessionPage;
use crate::shard::mail::trace::{TraceOf, TraceOrder, TracePage};
use crate::time::Instant;

impl Shard {
    /// Begins a trace. Clients of an address that are there already are found by
    /// [`Shard::find_traced`].
    pub(super) fn begin_trace(&mut self, order: TraceOrder, now: Instant) {
        // A broker that could not reach this shard at its end begins another one.
        self.end_trace(order.index);
        let traces = self.dispatch.traces.get_or_insert_default();
        traces.now = now;
        traces.begin(order.clone());
        match order.of {
            TraceOf::Client(client_id) => self.find_traces_of_client(&client_id),
            TraceOf::Topic(filter) => self.routes.trace(order.index, filter),
            TraceOf::Address(_) => {}
        }
    }

    /// Ends a trace. What it has told can still be asked for.
    pub(super) fn end_trace(&mut self, index: u8) {
        let traces = self.dispatch.traces.as_mut();
        match traces.and_then(|traces| traces.end(index)) {
            Some(TraceOf::Client(client_id)) => self.find_traces_of_client(&client_id),
            Some(TraceOf::Topic(_)) => self.routes.end_trace(index),
            Some(TraceOf::Address(_)) | None => {}
        }
        self.forget_traces();
    }

    fn find_traces_of_client(&mut self, client_id: &str) {
        if let Some(id) = self.dispatch.sessions.find(client_id) {
            self.find_traces_of(id);
        }
    }

    /// Looks again at which traces the clients of some slots belong to; gives where to go on.
    pub(super) fn find_traced(&mut self, from: u32) -> Option<u32> {
        for slot in from..from.saturating_add(SessionPage::SLOTS_MAX) {
            let (id, is_more) = self.dispatch.sessions.at(slot);
            if let Some(id) = id {
                self.find_traces_of(id);
            }
            if !is_more {
                return None;
            }
        }
        from.checked_add(SessionPage::SLOTS_MAX)
    }

    /// Takes out what the traces have to tell.
    pub(super) fn take_traced(&mut self, now: Instant) -> TracePage {
        let traces = self.dispatch.traces.as_mut();
        let page = traces.map_or_else(TracePage::default, |traces| traces.take(now));
        self.forget_traces();
        page
    }

    fn forget_traces(&mut self) {
        let traces = self.dispatch.traces.as_ref();
        if traces.is_some_and(|traces| traces.is_over()) {
            self.dispatch.traces = None;
        }
    }
}
