//! What a match gives: one route per session, with its overlapping subscriptions merged.

use std::num::NonZeroU32;

use super::subscribers::Subscriber;
use crate::codec::QoS;
use crate::ids::SessionId;

/// All subscriptions of one session that match a topic, merged into one delivery: a client gets a
/// message once, however many of its filters match.
///
/// The ids of a route are a range of the list that was filled with it: first those of subscriptions
/// that want the session's own messages, then those with No Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    session: SessionId,
    ids_start: u32,
    ids_own_end: u32,
    ids_end: u32,
    all: Merged,
    own: Option<Merged>,
}

/// How to deliver to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The highest QoS of the subscriptions [MQTT-3.3.4-2].
    pub qos: QoS,
    /// At least one subscription keeps the RETAIN flag.
    pub retain_as_published: bool,
    /// The identifiers of all the subscriptions that have one [MQTT-3.3.4-3], [MQTT-3.3.4-4]; equal
    /// ones as often as they were given.
    pub ids: &'a [NonZeroU32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Merged {
    qos: QoS,
    retain_as_published: bool,
}

impl Route {
    /// The route of one subscription, before `merge`: `ids_start` holds the identifier itself.
    pub(super) fn of(subscriber: &Subscriber) -> Route {
        let options = subscriber.options;
        let merged = Merged {
            qos: options.qos,
            retain_as_published: options.retain_as_published,
        };
        Route {
            session: subscriber.session,
            ids_start: options.subscription_id.map_or(0, NonZeroU32::get),
            ids_own_end: 0,
            ids_end: 0,
            all: merged,
            own: (!options.no_local).then_some(merged),
        }
    }

    /// Whom to deliver to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// How to deliver a message that another client published. `ids` is the list that was filled
    /// together with this route.
    pub fn delivery<'a>(&self, ids: &'a [NonZeroU32]) -> Delivery<'a> {
        self.all
            .delivery(&ids[self.ids_start as usize..self.ids_end as usize])
    }

    /// How to deliver a message that the session itself published: as if its No Local subscriptions
    /// did not exist [MQTT-3.8.3-3]; `None`: not at all.
    pub fn delivery_to_publisher<'a>(&self, ids: &'a [NonZeroU32]) -> Option<Delivery<'a>> {
        let ids = &ids[self.ids_start as usize..self.ids_own_end as usize];
        self.own.map(|own| own.delivery(ids))
    }

    /// Orders the subscriptions of a session so that those without No Local come first.
    fn key(&self) -> (SessionId, bool, u32) {
        (self.session, self.own.is_none(), self.ids_start)
    }

    fn absorb(&mut self, other: &Route) {
        self.all = self.all.with(other.all);
        self.ids_end = other.ids_end;
        if let Some(more) = other.own {
            self.own = Some(self.own.map_or(more, |own| own.with(more)));
            self.ids_own_end = other.ids_end;
        }
    }
}

impl Merged {
    fn with(self, other: Merged) -> Merged {
        Merged {
            qos: self.qos.max(other.qos),
            retain_as_published: self.retain_as_published || other.retain_as_published,
        }
    }

    fn delivery(self, ids: &[NonZeroU32]) -> Delivery<'_> {
        Delivery {
            qos: self.qos,
            retain_as_published: self.retain_as_published,
            ids,
        }
    }
}

/// Merges the routes of single subscriptions into one per session, in place.
pub(super) fn merge(routes: &mut Vec<Route>, ids: &mut Vec<NonZeroU32>) {
    routes.sort_unstable_by_key(Route::key);
    for route in routes.iter_mut() {
        let ids_start = position(ids);
        ids.extend(NonZeroU32::new(route.ids_start));
        route.ids_start = ids_start;
        route.ids_end = position(ids);
        route.ids_own_end = match route.own {
            Some(_) => route.ids_end,
            None => ids_start,
        };
    }
    routes.dedup_by(|later, kept| {
        let is_same = later.session == kept.session;
        if is_same {
            kept.absorb(later);
        }
        is_same
    });
}

fn position(ids: &[NonZeroU32]) -> u32 {
    u32::try_from(ids.len()).expect("fewer than 2^32 subscriptions match")
}
