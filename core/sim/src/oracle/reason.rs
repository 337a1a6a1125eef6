//! The promises about subscriptions: a message arrives for the sake of one, with its QoS and
//! identifier.

use ringmq_core::codec::QoS;

use super::Oracle;
use crate::broken::Broken;
use crate::message::{Fate, MessageIndex};
use crate::wire::Delivery;

impl Oracle {
    pub(super) fn check_subscribed(
        &self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let message = &self.messages[index];
        // What is passed on again may go to a member that came later.
        let old = matches!(message.fate, Fate::Settled(at) if at < self.quiet_at)
            && !self.may_be_passed_again(message);
        let mut matching = false;
        let mut qos_allowed = false;
        let mut qos_sure = QoS::AtMostOnce;
        let mut ids = Vec::new();
        for subscription in &self.views[client].subscriptions {
            let in_time = !old || message.version.is_some() || subscription.begun < self.quiet_at;
            if !in_time || !subscription.may_match(client, message) {
                continue;
            }
            matching = true;
            let qos = subscription.options.qos.min(message.qos);
            qos_allowed |= qos == got.qos;
            if subscription.is_undisturbed() && subscription.surely_matches(client, message) {
                qos_sure = qos_sure.max(qos);
            }
            ids.push(subscription.id);
        }
        let broken = |promise| self.broken(promise, client, index, got);
        if !matching {
            return Err(broken("no message without a matching subscription"));
        }
        // A retained snapshot belongs to one subscription, a live message to all that match.
        let live = message.version.is_none() && !got.dup;
        if !qos_allowed || live && got.qos < qos_sure {
            return Err(broken("the QoS is the lower of message and subscription"));
        }
        if got.subscription_ids.iter().any(|id| !ids.contains(id)) {
            return Err(broken("subscription identifiers are those of the matches"));
        }
        Ok(())
    }
}
