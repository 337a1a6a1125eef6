//! SUBSCRIBE and UNSUBSCRIBE.

use super::mail::turn::Turn;
use super::share::suback::Outcomes;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::Shard;
use super::mail::message::ShardMsg;
use super::mail::note::Note;
use super::mail::outbox::Outbox;
use super::share::on_share::Joins;
use crate::codec::{
    QoS, ReasonCode, ReasonProperties, Reasons, RetainHandling, Subscribe, Subscription, Unsuback,
    Unsubscribe, Version,
};
use crate::ids::{SessionId, ShardId};
use crate::limits::Limits;
use crate::refusal::{Refusal, Violation};
use crate::session::gather::{Ended, Wanted};
use crate::store::{Record, SubscribedRecord};
use crate::time::Instant;
use crate::topic::{ShardSet, SubscriptionOptions, TopicFilter, TopicLimits};

/// What a SUBSCRIBE leads to besides its index entries.
#[derive(Default)]
struct Due {
    /// Subscriptions that are due retained messages.
    gathers: Vec<Wanted>,
    /// Shared subscriptions that other shards have to hear of.
    joins: Joins,
}

impl Shard {
    pub(super) fn on_subscribe(
        &mut self,
        id: SessionId,
        subscribe: &Subscribe<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        self.check_answer_size(id, subscribe.filters.iter().count())?;
        let version = self.session(id).version;
        let filters = subscribe.filters.iter().map(|item| item.filter);
        let filters = self.parse_filters(version, filters)?;
        let mut outcomes = Outcomes::new(version);
        let mut due = Due::default();
        let subscription_id = subscribe.subscription_id.and_then(NonZeroU32::new);
        for (item, filter) in subscribe.filters.iter().zip(filters) {
            let outcome = filter.and_then(|filter| {
                self.subscribe_one(turn.now, id, &item, filter, subscription_id, &mut due)
            });
            if let Err(refusal) = outcome {
                self.dispatch
                    .note_refusal(id, refusal, item.filter.as_bytes(), turn);
            }
            self.note_subscribed(id, &item, outcome.err(), turn.out);
            outcomes.push(outcome);
        }
        self.suback_after(id, due.joins, subscribe.packet_id, outcomes, turn);
        self.start_gathers(id, due.gathers, turn);
        Ok(())
    }

    /// For the log.
    fn note_subscribed(
        &self,
        id: SessionId,
        item: &Subscription<'_>,
        refused: Option<Refusal>,
        out: &mut Outbox,
    ) {
        if !out.notes.wanted.packets {
            return;
        }
        let session = self.dispatch.sessions.get(id);
        let session = session.expect("the subscriber is connected");
        out.notes.push(Note::Subscribed {
            client_id: session.client_id.clone(),
            filter: item.filter.into(),
            qos: item.options.qos,
            refused,
        });
    }

    /// For the log.
    fn note_unsubscribed(&self, id: SessionId, unsubscribe: &Unsubscribe<'_>, out: &mut Outbox) {
        if !out.notes.wanted.packets {
            return;
        }
        let session = self.dispatch.sessions.get(id);
        let session = session.expect("the subscriber is connected");
        for filter in unsubscribe.filters.iter() {
            out.notes.push(Note::Unsubscribed {
                client_id: session.client_id.clone(),
                filter: filter.into(),
            });
        }
    }

    /// Each filter of a SUBSCRIBE or UNSUBSCRIBE, before anything is done about one of them: a
    /// malformed one ends a connection of MQTT 3.1.1 [MQTT-4.7.1-2].
    fn parse_filters<'a>(
        &self,
        version: Version,
        filters: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Result<TopicFilter, Refusal>>, Violation> {
        let limits = TopicLimits::of(&self.config.limits);
        let parsed = filters.map(|text| match TopicFilter::parse(text, &limits) {
            Ok(filter) => Ok(Ok(filter)),
            Err(error) if error.is_limit() || version == Version::V5 => {
                Ok(Err(Refusal::TopicFilter))
            }
            Err(_) => Err(Refusal::Malformed.into()),
        });
        parsed.collect()
    }

    /// One filter of a SUBSCRIBE: what it is granted; notes what is still `due`.
    fn subscribe_one(
        &mut self,
        now: Instant,
        id: SessionId,
        item: &Subscription<'_>,
        filter: TopicFilter,
        subscription_id: Option<NonZeroU32>,
        due: &mut Due,
    ) -> Result<ReasonCode, Refusal> {
        let limits = self.config.limits.clone();
        self.check_rules(id, &filter)?;
        let session = self.session(id);
        let is_new = !session.subscriptions.contains(&filter);
        let count = session.subscriptions.len() + usize::from(is_new);
        check_offer(&filter, count, &limits)?;
        let is_bridge = session.link.as_ref().is_some_and(|link| link.is_bridge);
        let options = SubscriptionOptions {
            // [MQTT-3.2.2-10] A wish for more is granted as far as it goes.
            qos: item.options.qos.min(limits.qos_max),
            // [MQTT-3.8.3-4] Not for a group, whose members get what others may not.
            no_local: item.options.no_local || (is_bridge && filter.share_name().is_none()),
            retain_as_published: item.options.retain_as_published || is_bridge,
            subscription_id,
        };
        if is_new {
            session.subscriptions.insert(filter.clone());
        }
        self.record_subscribed(id, &filter, item, options);
        let granted = match options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQos1,
            QoS::ExactlyOnce => ReasonCode::GrantedQos2,
        };
        if filter.share_name().is_some() {
            // A group gets no retained messages: nobody in it could say that it is new.
            self.join(now, id, filter, options, &mut due.joins);
            return Ok(granted);
        }
        // [MQTT-3.8.4-3] Replaced in place: no message is missed in between.
        self.index_subscription(id, &filter, options);
        let wants_retained = match item.options.retain_handling {
            RetainHandling::Send => true,        // [MQTT-3.3.1-9]
            RetainHandling::SendIfNew => is_new, // [MQTT-3.3.1-10]
            RetainHandling::DoNotSend => false,  // [MQTT-3.3.1-11]
        };
        let no_local_key = options.no_local.then_some(self.session(id).key);
        if wants_retained {
            if let Some(no) = self.session(id).no {
                let filter = filter.clone();
                let gather = Record::Gather { no, filter };
                self.dispatch.journal.record(&gather);
            }
            due.gathers.push(Wanted {
                owners: self.owners_of(&filter),
                filter: Arc::new(filter),
                options,
                no_local_key,
            });
        } else if !is_new && let Some(feed) = &mut self.session(id).feed {
            feed.renew(&filter, options, no_local_key);
        }
        Ok(granted)
    }

    fn record_subscribed(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        item: &Subscription<'_>,
        options: SubscriptionOptions,
    ) {
        let Some(no) = self.session(id).no else {
            return;
        };
        let handling = item.options.retain_handling;
        let record = SubscribedRecord::new(no, filter, options, handling);
        let record = Record::Subscribed(record);
        self.dispatch.journal.record(&record);
    }

    /// Starts to collect the retained messages of new subscriptions; see `gather.rs`.
    fn start_gathers(&mut self, id: SessionId, gathers: Vec<Wanted>, turn: &mut Turn<'_>) {
        let dispatch = &mut self.dispatch;
        let session = dispatch
            .sessions
            .get_mut(id)
            .expect("the subscriber is connected");
        let mut replaced = Vec::new();
        for wanted in gathers {
            replaced.extend(dispatch.gathers.start(&mut session.feed, id, wanted));
        }
        self.stop_gathers(replaced, turn.out);
        // Before the next packet takes effect.
        self.feed_gathers(turn);
    }

    /// The shards that may have retained messages for a filter.
    pub(super) fn owners_of(&self, filter: &TopicFilter) -> ShardSet {
        if filter.is_exact() {
            let owner = self.home.of_topic(filter.pattern().as_bytes());
            ShardSet::EMPTY.with(owner)
        } else {
            (0..self.config.shards)
                .map(ShardId::new)
                .fold(ShardSet::EMPTY, ShardSet::with)
        }
    }

    pub(super) fn other_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.config.id;
        (0..self.config.shards)
            .map(ShardId::new)
            .filter(move |&shard| shard != own)
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        id: SessionId,
        unsubscribe: &Unsubscribe<'_>,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        self.check_answer_size(id, unsubscribe.filters.iter().count())?;
        let version = self.session(id).version;
        let filters = self.parse_filters(version, unsubscribe.filters.iter())?;
        let mut outcomes = Outcomes::new(version);
        let mut dropped = Dropped::default();
        for filter in filters {
            outcomes.push(filter.map(|filter| {
                if self.unsubscribe_one(id, &filter, &mut dropped) {
                    ReasonCode::Success
                } else {
                    ReasonCode::NoSubscriptionExisted
                }
            }));
        }
        self.tell_dropped(id, dropped, out);
        self.note_unsubscribed(id, unsubscribe, out);
        self.write_outcomes(
            id,
            &outcomes,
            out,
            |reasons, properties, version, buffer| {
                let unsuback = Unsuback {
                    packet_id: unsubscribe.packet_id,
                    reasons,
                    properties,
                };
                unsuback.encode(version, buffer); // [MQTT-3.10.4-4]
            },
        );
        Ok(())
    }

    /// Writes a SUBACK or UNSUBACK, with the reason of the first refusal if that is welcome and fits.
    pub(super) fn write_outcomes(
        &mut self,
        id: SessionId,
        outcomes: &Outcomes,
        out: &mut Outbox,
        encode: impl Fn(Reasons<'_>, ReasonProperties<'_>, Version, &mut Vec<u8>),
    ) {
        let version = outcomes.version;
        let Some(refusal) = outcomes.refused else {
            self.dispatch.answer(id, out, |buffer| {
                let reasons = Reasons::listed(&outcomes.reasons);
                encode(reasons, ReasonProperties::EMPTY, version, buffer);
            });
            return;
        };
        self.answer_reasoned(id, out, refusal.text(), |reason_string, buffer| {
            let properties = ReasonProperties {
                reason_string,
                ..ReasonProperties::EMPTY
            };
            let reasons = Reasons::listed(&outcomes.reasons);
            encode(reasons, properties, version, buffer);
        });
    }

    /// Ends the connection of a client that asks for so much at once that it would not take the
    /// SUBACK or UNSUBACK [MQTT-3.1.2-24]; before anything is done.
    fn check_answer_size(&mut self, id: SessionId, filters_count: usize) -> Result<(), Violation> {
        // At most: type, remaining length, packet identifier, no properties, one code each.
        let answer_size = 1 + 4 + 2 + 1 + filters_count;
        if answer_size > self.link(id).packet_size_max as usize {
            Err(Refusal::AnswerTooLarge.into())
        } else {
            Ok(())
        }
    }

    /// Ends a subscription of a live session; other shards are still to hear of it (`tell_dropped`). False
    /// if there was none [MQTT-3.10.4-1].
    pub(super) fn unsubscribe_one(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        dropped: &mut Dropped,
    ) -> bool {
        let dispatch = &mut self.dispatch;
        let session = dispatch
            .sessions
            .get_mut(id)
            .expect("the subscriber is connected");
        if !session.subscriptions.remove(filter) {
            return false;
        }
        if let Some(no) = session.no {
            let filter = filter.clone();
            dispatch
                .journal
                .record(&Record::Unsubscribed { no, filter });
        }
        if session.subscriptions.is_empty() {
            session.subscriptions.shrink_to_fit();
        }
        let ended = dispatch.gathers.end(&mut session.feed, filter);
        dropped.gathers.extend(ended);
        let no = session.no;
        self.forget_subscription((id, no), filter, dropped);
        true
    }

    /// Tells other shards what has ended, all of it at once.
    pub(super) fn tell_dropped(&mut self, id: SessionId, dropped: Dropped, out: &mut Outbox) {
        self.stop_gathers(dropped.gathers, out);
        if dropped.groups.is_empty() {
            return;
        }
        let filters: Arc<[TopicFilter]> = dropped.groups.into();
        for shard in self.other_shards() {
            let message = ShardMsg::Leave {
                filters: filters.clone(),
                session: id,
            };
            out.post(shard, message);
        }
    }
}

/// Subscriptions of one session that have ended, as far as other shards have to hear of it.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Whose retained messages were under way.
    pub(super) gathers: Vec<Ended>,
    /// Shared ones.
    pub(super) groups: Vec<TopicFilter>,
}

/// Whether the broker makes such subscriptions, and `count` of them for one client.
fn check_offer(filter: &TopicFilter, count: usize, limits: &Limits) -> Result<(), Refusal> {
    if filter.share_name().is_some() && !limits.share_available {
        return Err(Refusal::SharedSubscription);
    }
    if !filter.is_exact() && !limits.wildcards_available {
        return Err(Refusal::Wildcard);
    }
    if count > limits.subscriptions_max as usize {
        Err(Refusal::SubscriptionsFull)
    } else {
        Ok(())
    }
}
