//! Who gets a message on a topic, and who would not, and why: the decisions of `delivery`, without
//! their effects.

use std::cmp::min;
use std::num::NonZeroU32;

use crate::auth::Action;
use crate::codec::{self, PublishParts, QoS};
use crate::ids::{GroupId, SessionId};
use crate::loss::DropReason;
use crate::message::Message;
use crate::message::MessageParts;
use crate::session::{Link, Session};
use crate::shard::Shard;
use crate::shard::delivery::dispatch::{is_ready, is_slow};
use crate::shard::delivery::guard::who_is;
use crate::shard::delivery::losses::bound_of;
use crate::shard::delivery::routes;
use crate::shard::mail::ask::SessionPage;
use crate::shard::mail::findings::{
    Fate, MatchPlace, MessageTerms, Publishing, Rows, SubscriberQuery, SubscriberRow, Whose,
};
use crate::shard::share::groups::Local;
use crate::topic::{Matching, TopicFilter, TopicLimits, TopicName};

/// Where subscribers are found: filters, then groups.
struct Sources<'a> {
    topic: Option<&'a str>,
    /// The filter that was asked for.
    filter: Option<&'a str>,
    filters: Matching<'a>,
    groups: Vec<GroupId>,
    message: Option<&'a MessageTerms>,
}

impl Shard {
    pub(super) fn subscribers(&self, query: &SubscriberQuery) -> Rows<SubscriberRow, MatchPlace> {
        let mut page = Rows::default();
        let Some(sources) = self.sources(query) else {
            return page; // No topic of this broker: nobody can be subscribed to it.
        };
        let rows_max = query.rows_max.clamp(1, SessionPage::ROWS_MAX);
        let (mut looks, mut compared, mut text_size) = (0, 0, 0);
        let mut place = query.from;
        let sources_count = (sources.filters.len() + sources.groups.len()) as u32;
        while place.source < sources_count {
            let is_full = page.rows.len() == rows_max || text_size >= SessionPage::TEXT_SIZE_MAX;
            if is_full || looks >= LOOKS_MAX {
                page.next = Some(place);
                break;
            }
            looks += 1 + sources.filters.len();
            let row = match self.subscriber_at(&sources, place, &mut compared) {
                Found::Nobody => {
                    place = MatchPlace {
                        source: place.source + 1,
                        at: 0,
                    };
                    continue;
                }
                Found::Again => None,
                Found::One(row) => Some(row),
            };
            place.at += 1;
            if let Some(mut row) = row {
                row.place = MatchPlace {
                    at: place.at - 1,
                    ..place
                };
                let filters = row.filters.iter().map(|filter| filter.len());
                text_size += row.client_id.len() + filters.sum::<usize>();
                page.rows.push(*row);
            }
        }
        page
    }

    fn sources<'a>(&'a self, query: &'a SubscriberQuery) -> Option<Sources<'a>> {
        let limits = TopicLimits::of(&self.config.limits);
        let mut groups = Vec::new();
        let filter = match &query.of {
            Whose::Topic(_) => None,
            Whose::Filter(filter) => Some(filter.as_str()),
        };
        let (topic, filters) = match &query.of {
            Whose::Topic(topic) => {
                let name = TopicName::parse(topic.as_bytes(), &limits).ok()?;
                self.dispatch.shares.groups_for(name, &mut groups);
                (Some(&**topic), self.index.matching(name))
            }
            Whose::Filter(filter) if filter.share_name().is_some() => {
                groups.extend(self.dispatch.shares.find(filter));
                (None, Matching::default())
            }
            Whose::Filter(filter) => (None, self.index.having(filter)),
        };
        Some(Sources {
            topic,
            filter,
            filters,
            groups,
            message: query.message.as_ref(),
        })
    }

    fn subscriber_at(
        &self,
        sources: &Sources<'_>,
        place: MatchPlace,
        compared: &mut usize,
    ) -> Found {
        let (source, at) = (place.source as usize, place.at as usize);
        if let Some(group) = source.checked_sub(sources.filters.len()) {
            let id = sources.groups[group];
            let (locals, members) = self.dispatch.shares.members(id);
            return match locals.get(at) {
                None => Found::Nobody,
                Some(local) => Found::One(Box::new(self.member(sources, (id, members), local))),
            };
        }
        match sources.filters.subscriber(source, at) {
            None => Found::Nobody,
            Some(session) if !sources.filters.is_first(source, session) => Found::Again,
            Some(session) => {
                let row = self.subscriber(sources, session, compared);
                Found::One(Box::new(row))
            }
        }
    }

    /// A subscriber of its own account.
    fn subscriber(
        &self,
        sources: &Sources<'_>,
        id: SessionId,
        compared: &mut usize,
    ) -> SubscriberRow {
        let session = self.live(id);
        let mut ids: Vec<NonZeroU32> = Vec::new();
        let route = sources.filters.route(id, &mut ids);
        let route = route.expect("it is a subscriber");
        let granted = route.delivery(&ids);
        let mut qos = granted.qos;
        let fate = sources.message.map(|message| {
            let publisher = message.publisher.as_deref();
            let is_publisher = publisher == Some(&*session.client_id);
            let given = match is_publisher {
                true => route.delivery_to_publisher(&ids).map(|given| given.qos),
                false => Some(granted.qos),
            };
            qos = min(given.unwrap_or(qos), message.qos);
            match given {
                None => Fate::NoLocal, // [MQTT-3.8.3-3]
                Some(given) => self.fate(sources.topic, id, given, message),
            }
        });
        SubscriberRow {
            place: MatchPlace::default(),
            client_id: session.client_id.clone(),
            user: session.identity.user.clone(),
            is_connected: session.link.is_some(),
            filters: match sources.filter {
                Some(filter) => vec![filter.into()],
                None => filters_of(session, sources.topic, compared),
            },
            group: None,
            qos,
            no_local: route.delivery_to_publisher(&ids).is_none(),
            retain_as_published: granted.retain_as_published,
            ids,
            fate,
        }
    }

    /// A member of a group.
    fn member(
        &self,
        sources: &Sources<'_>,
        (group, members): (GroupId, usize),
        local: &Local,
    ) -> SubscriberRow {
        let shares = &self.dispatch.shares;
        let session = self.live(local.session);
        let filter: Box<str> = shares.filter(group).as_str().into();
        let fate = sources.message.map(|message| {
            let standing = shares.standing(group, local.session);
            let standing = standing.expect("it is a member");
            let fate = self.fate(sources.topic, local.session, local.qos, message);
            let is_lonely = members == 1 && session.link.is_none();
            match fate {
                Fate::Waits { .. } if is_lonely && !self.config.limits.share_queued_while_away => {
                    self.lost(session, DropReason::NoMember)
                }
                // Whoever would take it is one of several who would.
                Fate::Sent | Fate::Waits { .. } | Fate::Lost { .. } | Fate::NotKept
                    if members > 1 =>
                {
                    Fate::OneOf { members, standing }
                }
                fate => fate,
            }
        });
        SubscriberRow {
            place: MatchPlace::default(),
            client_id: session.client_id.clone(),
            user: session.identity.user.clone(),
            is_connected: session.link.is_some(),
            filters: vec![filter.clone()],
            group: Some(filter),
            qos: sources
                .message
                .map_or(local.qos, |message| min(local.qos, message.qos)),
            no_local: false,
            retain_as_published: local.retain_as_published,
            ids: local.matched.subscription_ids.to_vec(),
            fate,
        }
    }

    /// As `offer` decides, with nothing done.
    fn fate(
        &self,
        topic: Option<&str>,
        id: SessionId,
        granted: QoS,
        message: &MessageTerms,
    ) -> Fate {
        let session = self.live(id);
        let topic = topic.unwrap_or_default().as_bytes();
        if let Some(acl) = self.dispatch.access.acl.as_deref()
            && let Err(rule) = acl.check(who_is(session), Action::Receive, topic)
        {
            let by = rule.map(|rule| rule.to_string().into());
            return Fate::Denied { by };
        }
        let qos = min(granted, message.qos);
        let dispatch = &self.dispatch;
        let waits = match &session.link {
            None if qos == QoS::AtMostOnce => return Fate::NotKept,
            None => true,
            Some(link) => {
                if let Some(fate) = self.unsendable(session, link, (topic, qos), message) {
                    return fate;
                }
                let may_wait = qos > QoS::AtMostOnce;
                let is_full = dispatch.held.is_full(&dispatch.limits);
                may_wait
                    && (!is_ready(session, link, &dispatch.pool, &dispatch.limits)
                        || is_full && session.outlives_connection())
            }
        };
        if !waits {
            return Fate::Sent;
        }
        let empty = MessageParts {
            topic,
            properties: &[],
            payload: &[],
            qos,
            retain: false,
            expires_at: None,
            publisher: session.key,
            author: None,
        };
        let size = Message::size_of(&empty) as u64 + u64::from(message.payload_size);
        match dispatch.lacks_room(id, size) {
            Some(reason) => self.lost(session, reason),
            None => Fate::Waits {
                ahead: session.queue.len(),
            },
        }
    }

    /// What keeps a message from a client that is connected.
    fn unsendable(
        &self,
        session: &Session,
        link: &Link,
        (topic, qos): (&[u8], QoS),
        message: &MessageTerms,
    ) -> Option<Fate> {
        let dispatch = &self.dispatch;
        let empty = PublishParts {
            topic,
            properties: &[],
            message_expiry_s: None,
            topic_alias: None,
            subscription_ids: &[],
            payload: &[],
        };
        let head = codec::publish_size(session.version, qos, &empty);
        if head.saturating_add(message.payload_size) > link.packet_size_max {
            return Some(self.lost(session, DropReason::PacketTooLarge));
        }
        let is_slow = is_slow(link, &dispatch.pool, &dispatch.limits);
        (qos == QoS::AtMostOnce && is_slow).then(|| self.lost(session, DropReason::SlowSocket))
    }

    fn lost(&self, session: &Session, reason: DropReason) -> Fate {
        let dispatch = &self.dispatch;
        Fate::Lost {
            reason,
            bound: bound_of(reason, session, &dispatch.held, &dispatch.limits),
        }
    }

    fn live(&self, id: SessionId) -> &Session {
        let session = self.dispatch.sessions.get(id);
        session.expect("only live sessions have subscriptions")
    }

    /// Whether a client may publish on a topic.
    pub(super) fn publishing(&self, client_id: &str, topic: &str) -> Publishing {
        let sessions = &self.dispatch.sessions;
        let session = sessions.find(client_id).and_then(|id| sessions.get(id));
        let Some(session) = session else {
            return Publishing::Unknown;
        };
        let topic = topic.as_bytes();
        if routes::is_reserved(topic) && !routes::is_state_of(client_id, topic) {
            return Publishing::Reserved;
        }
        let acl = self.dispatch.access.acl.as_deref();
        match acl.map(|acl| acl.check(who_is(session), Action::Publish, topic)) {
            None | Some(Ok(())) => Publishing::Allowed,
            Some(Err(rule)) => Publishing::Denied {
                by: rule.map(|rule| rule.to_string().into()),
            },
        }
    }
}

/// What stands at a place.
enum Found {
    /// The source has no more.
    Nobody,
    /// Somebody who stood in a source before.
    Again,
    One(Box<SubscriberRow>),
}

/// The filters of a session that match a topic, unless too much has been compared already.
fn filters_of(session: &Session, topic: Option<&str>, compared: &mut usize) -> Vec<Box<str>> {
    let Some(topic) = topic else {
        return Vec::new();
    };
    let left = COMPARED_MAX.saturating_sub(*compared);
    *compared += session.subscriptions.len();
    let is_match =
        |filter: &&TopicFilter| filter.share_name().is_none() && filter.matches(topic.as_bytes());
    let filters = session.subscriptions.iter().take(left);
    let matching = filters.filter(is_match);
    let mut matching: Vec<Box<str>> = matching.map(|filter| filter.as_str().into()).collect();
    matching.sort_unstable();
    matching
}

/// Looks at the subscribers of a filter for a page: a hash and a cache miss each.
const LOOKS_MAX: usize = 16 * 1024;
/// Filters of clients that are compared with the topic for a page, to name those that match.
const COMPARED_MAX: usize = 8 * 1024;
