//! The subscribers of a topic one by one, for those who want to know and not to deliver.
//!
//! A place in it (which filter, which of its subscribers) stays valid while nothing changes; after
//! a change some subscribers may come twice, or not at all.

use std::num::NonZeroU32;

use super::routes::{Route, merge};
use super::subscribers::{Subscriber, Subscribers};
use crate::ids::SessionId;

/// The filters that match a topic, or a single filter, with their subscribers.
#[derive(Default)]
pub struct Matching<'a> {
    filters: Vec<&'a Subscribers>,
}

impl<'a> Matching<'a> {
    pub(super) fn new(filters: Vec<&'a Subscribers>) -> Matching<'a> {
        Matching { filters }
    }

    /// Filters.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// A subscriber of a filter; `None`: the filter has no more.
    pub fn subscriber(&self, filter: usize, at: usize) -> Option<SessionId> {
        let subscriber = self.filters.get(filter)?.as_slice().get(at)?;
        Some(subscriber.session)
    }

    /// Whether no filter before this one has the session among its subscribers.
    pub fn is_first(&self, filter: usize, session: SessionId) -> bool {
        let before = &self.filters[..filter];
        before.iter().all(|others| others.find(session).is_none())
    }

    /// How a session gets a message, by all the filters together. Replaces what is in `ids`.
    pub fn route(&self, session: SessionId, ids: &mut Vec<NonZeroU32>) -> Option<Route> {
        let options = self.filters.iter().filter_map(|all| all.find(session));
        let one = |options| Route::of(&Subscriber { session, options });
        let mut routes: Vec<Route> = options.map(one).collect();
        ids.clear();
        merge(&mut routes, ids);
        routes.pop()
    }
}
