//! The promises about the order in which messages arrive.

use ringmq_core::codec::QoS;

use super::Oracle;
use crate::broken::Broken;
use crate::message::MessageIndex;
use crate::subscription::Subscription;
use crate::wire::Delivery;

impl Oracle {
    pub(super) fn check_order(
        &mut self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        match self.messages[index].version {
            Some(version) => self.check_value_order(client, index, version, got),
            None => self.check_message_order(client, index, got),
        }
    }

    fn check_value_order(
        &mut self,
        client: usize,
        index: MessageIndex,
        version: u32,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let topic = &got.topic;
        let durable = match self.spans_crash(&self.messages[index]) {
            // Of what was under way in the crash, this subscriber may have got its part and the retained store not;
            // what left the broker before the publisher had its answer may have an older value behind it.
            true => self.last_settled(&self.versions[topic], got.encoded.from),
            false => version,
        };
        let view = &mut self.views[client];
        if got.payload.is_empty() {
            view.deletions.insert(topic.clone(), self.tick);
        }
        let seen = view.values.entry(topic.clone()).or_default();
        if got.dup && version < seen.version {
            return Ok(());
        }
        if version >= seen.surely {
            (seen.version, seen.last) = (version, version);
            seen.at = self.tick;
            seen.surely = seen.surely.max(version.min(durable));
            return Ok(());
        }
        let detail = format!("client {client} got value {version} of {topic} after {seen:?}");
        Err(Broken::new("no old value after a later one", detail))
    }

    fn check_message_order(
        &mut self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let spans_crash = self.spans_crash(&self.messages[index]);
        let (message, view) = (&self.messages[index], &mut self.views[client]);
        let key = (message.publisher, got.topic.clone(), message.qos, got.qos);
        let first = view.copies[&index].all == 1;
        // The first copy may have come too early for this subscriber, or expired: then it sees only
        // the repetition. Or it waits with a higher QoS, of a subscription that has gone since.
        let sure = |s: &Subscription| {
            let early = s.sure_from.is_some_and(|from| from <= message.begun);
            s.is_undisturbed() && early && s.options.qos >= got.qos
        };
        let subscribed = view
            .subscriptions
            .iter()
            .any(|s| sure(s) && s.matches(client, message));
        let connected = view.link_open.is_some_and(|open| open <= message.begun);
        let offline = got.qos == QoS::AtMostOnce && !connected;
        let is_higher = |s: &Subscription| s.options.qos > got.qos && s.matches(client, message);
        let waits = got.qos < message.qos && view.subscriptions.iter().any(is_higher);
        let missed = !subscribed || offline || waits || message.expiry_s.is_some() || self.lossy;
        // A crash may come between a message and its receipt: then the repetition goes to all who lack it.
        let may_repeat = match message.qos {
            QoS::AtMostOnce => false,
            QoS::AtLeastOnce => true,
            QoS::ExactlyOnce => spans_crash,
        };
        let repeated = may_repeat && message.sends > 1 && missed;
        // One of which nobody knows whether it was published is published again at the start, behind the next one perhaps.
        let is_late_will = message.is_will && (spans_crash || self.stormy);
        let any_order = repeated || is_late_will;
        let latest = view.latest.entry(key).or_insert(message.seq);
        if message.seq < *latest && first && !any_order {
            return Err(Broken::new(
                "messages of one publisher, topic and QoS keep their order",
                format!(
                    "client {client} got message {index} {message:?} as {got:?} after seq {latest}"
                ),
            ));
        }
        *latest = message.seq.max(*latest);
        Ok(())
    }
}
