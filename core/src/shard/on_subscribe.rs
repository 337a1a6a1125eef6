//! SUBSCRIBE and UNSUBSCRIBE.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::Shard;
use super::event::ShardMsg;
use super::on_share::Joins;
use super::outbox::Outbox;
use super::refusal::{Refusal, Violation};
use crate::codec::{
    QoS, ReasonCode, ReasonProperties, Reasons, RetainHandling, Subscribe, Subscription, Unsuback,
    Unsubscribe, Version,
};
use crate::ids::{SessionId, ShardId};
use crate::limits::Limits;
use crate::time::Instant;
use crate::topic::{ShardSet, SubscriptionOptions, TopicFilter, TopicLimits};

/// What a SUBSCRIBE leads to besides its index entries.
#[derive(Default)]
struct Due {
    /// Subscriptions that are due retained messages.
    gathers: Vec<(Arc<TopicFilter>, SubscriptionOptions)>,
    /// Shared subscriptions that other shards have to hear of.
    joins: Joins,
}

impl Shard {
    pub(super) fn on_subscribe(
        &mut self,
        now: Instant,
        id: SessionId,
        subscribe: &Subscribe<'_>,
        out: &mut Outbox,
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
                self.subscribe_one(now, id, &item, filter, subscription_id, &mut due)
            });
            if let Err(refusal) = outcome {
                self.dispatch
                    .note_refusal(now, id, refusal, item.filter.as_bytes(), out);
            }
            outcomes.push(outcome);
        }
        self.suback_after(now, id, due.joins, subscribe.packet_id, outcomes, out);
        for (filter, options) in due.gathers {
            self.start_gather(now, id, filter, options, out);
        }
        Ok(())
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
        let subscribed = self.index.subscribe(&filter, id, options);
        if subscribed.first_of_filter {
            self.interest.add(&self.config.interest, &filter);
        }
        let wants_retained = match item.options.retain_handling {
            RetainHandling::Send => true,        // [MQTT-3.3.1-9]
            RetainHandling::SendIfNew => is_new, // [MQTT-3.3.1-10]
            RetainHandling::DoNotSend => false,  // [MQTT-3.3.1-11]
        };
        if wants_retained {
            due.gathers.push((Arc::new(filter), options));
        } else if !is_new {
            let dispatch = &mut self.dispatch;
            let session = dispatch.sessions.get(id).expect("the subscriber is live");
            let no_local_key = options.no_local.then_some(session.key);
            let running = &session.gathers;
            dispatch
                .gathers
                .renew(running, &filter, options, no_local_key);
        }
        Ok(granted)
    }

    /// Starts to collect the retained messages of a new subscription; see `gather.rs`.
    fn start_gather(
        &mut self,
        now: Instant,
        id: SessionId,
        filter: Arc<TopicFilter>,
        options: SubscriptionOptions,
        out: &mut Outbox,
    ) {
        let dispatch = &mut self.dispatch;
        let session = dispatch
            .sessions
            .get_mut(id)
            .expect("the subscriber is connected");
        let replaced = dispatch.gathers.end(&mut session.gathers, Some(&filter));
        let others = self.config.shards - 1;
        let no_local_key = options.no_local.then_some(session.key);
        let gather = dispatch
            .gathers
            .start(id, filter.clone(), options, no_local_key, others);
        session.gathers.push(gather);
        self.stop_gathers(replaced, out);
        if others == 0 {
            self.ask_owners(now, gather, &filter, out);
            return;
        }
        self.post_barrier(gather, out);
    }

    /// Asks every other shard to answer once everything that it handled before is on its way.
    pub(super) fn post_barrier(&self, gather: super::GatherId, out: &mut Outbox) {
        for shard in self.other_shards() {
            out.post(shard, ShardMsg::Barrier { gather });
        }
    }

    /// Asks the owners of the topics of a filter for their retained messages.
    pub(super) fn ask_owners(
        &mut self,
        now: Instant,
        gather: super::GatherId,
        filter: &Arc<TopicFilter>,
        out: &mut Outbox,
    ) {
        let own = self.config.id;
        let single = filter
            .is_exact()
            .then(|| self.home.of_topic(filter.pattern().as_bytes()));
        let owners = match single {
            Some(owner) => ShardSet::default().with(owner),
            None => (0..self.config.shards)
                .map(ShardId::new)
                .fold(ShardSet::default(), ShardSet::with),
        };
        self.dispatch.gathers.on_asked(gather, owners);
        for owner in owners.without(own).iter() {
            out.post(
                owner,
                ShardMsg::RetainedQuery {
                    gather,
                    filter: filter.clone(),
                },
            );
        }
        if owners.contains(own) {
            self.on_retained_query(now, own, gather, filter.clone(), out);
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
        for filter in filters {
            outcomes.push(
                filter.map(|filter| match self.unsubscribe_one(id, &filter, out) {
                    true => ReasonCode::Success,
                    false => ReasonCode::NoSubscriptionExisted,
                }),
            );
        }
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
            self.write(id, out, |buffer| {
                let reasons = Reasons::listed(&outcomes.reasons);
                encode(reasons, ReasonProperties::EMPTY, version, buffer);
            });
            return;
        };
        self.write_reasoned(id, out, refusal.text(), |reason_string, buffer| {
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
        match answer_size > self.link(id).packet_size_max as usize {
            true => Err(Refusal::AnswerTooLarge.into()),
            false => Ok(()),
        }
    }

    /// False if there was no such subscription [MQTT-3.10.4-1].
    pub(super) fn unsubscribe_one(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        out: &mut Outbox,
    ) -> bool {
        let dispatch = &mut self.dispatch;
        let session = dispatch
            .sessions
            .get_mut(id)
            .expect("the subscriber is connected");
        if !session.subscriptions.remove(filter) {
            return false;
        }
        if session.subscriptions.is_empty() {
            session.subscriptions = Default::default();
        }
        let ended = dispatch.gathers.end(&mut session.gathers, Some(filter));
        self.stop_gathers(ended, out);
        self.forget_subscription(id, filter, out);
        true
    }

    /// Takes a subscription out of its group or of the index, and its interest back if it was the
    /// last.
    pub(super) fn forget_subscription(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        out: &mut Outbox,
    ) {
        if filter.share_name().is_some() {
            self.leave(id, filter, out);
            return;
        }
        let unsubscribed = self.index.unsubscribe(filter, id);
        assert!(
            unsubscribed.removed.is_some(),
            "sessions and index agree on subscriptions: {filter:?}"
        );
        if unsubscribed.last_of_filter {
            self.interest.remove(&self.config.interest, filter);
        }
    }
}

/// Whether the broker makes such subscriptions, and `count` of them for one client.
fn check_offer(filter: &TopicFilter, count: usize, limits: &Limits) -> Result<(), Refusal> {
    if filter.share_name().is_some() && !limits.share_available {
        return Err(Refusal::SharedSubscription);
    }
    if !filter.is_exact() && !limits.wildcards_available {
        return Err(Refusal::Wildcard);
    }
    match count > limits.subscriptions_max as usize {
        true => Err(Refusal::SubscriptionsFull),
        false => Ok(()),
    }
}

/// What became of the filters of one packet.
#[derive(Debug)]
pub(super) struct Outcomes {
    version: Version,
    reasons: Vec<ReasonCode>,
    /// The first refusal.
    refused: Option<Refusal>,
}

impl Outcomes {
    fn new(version: Version) -> Outcomes {
        Outcomes {
            version,
            reasons: Vec::new(),
            refused: None,
        }
    }

    fn push(&mut self, outcome: Result<ReasonCode, Refusal>) {
        self.refused = self.refused.or(outcome.err());
        self.reasons.push(match (outcome, self.version) {
            (Ok(reason), _) => reason,
            // MQTT 3.1.1 knows one failure only [MQTT-3.9.3-2].
            (Err(_), Version::V31 | Version::V311) => ReasonCode::UnspecifiedError,
            (Err(refusal), Version::V5) => refusal.code(),
        });
    }
}
