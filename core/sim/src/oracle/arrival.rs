//! The promises about losses: what has to have arrived once everything is at rest.

use ringmq_core::codec::QoS;

use super::Oracle;
use crate::broken::Broken;
use crate::message::{Fate, MessageIndex};
use crate::subscription::{self, Subscription};

impl Oracle {
    /// Everything is at rest and every client is connected: what is owed must be there, but for
    /// `dropped_count` messages that the broker says it dropped, if it may drop any.
    pub fn check_converged(&mut self, dropped_count: u64) -> Result<(), Broken> {
        let mut missing = Vec::new();
        for (index, message) in self.messages.iter().enumerate() {
            if subscription::is_for_groups(&message.topic) {
                let views = self.views.iter().enumerate();
                let members = views
                    .flat_map(|(client, view)| view.subscriptions.iter().map(move |s| (client, s)));
                let spans_crash = self.spans_crash(message);
                let arrived = self
                    .groups
                    .check_arrived(index, message, members, spans_crash);
                missing.extend(arrived.err());
            } else {
                let clients = 0..self.views.len();
                missing
                    .extend(clients.filter_map(|client| self.check_arrived(client, index).err()));
            }
        }
        for client in 0..self.views.len() {
            // A value that was dropped is missing already.
            for versions in self.versions.values().filter(|_| !self.lossy) {
                missing.extend(self.check_last_value(client, versions).err());
            }
        }
        self.quiet_at = self.tick;
        if let Some(first) = missing.first().filter(|_| !self.lossy) {
            return Err(first.clone());
        }
        if missing.len() as u64 > dropped_count {
            let detail = format!("{} are missing, {dropped_count} counted", missing.len());
            return Err(Broken::new("every loss is counted", detail));
        }
        Ok(())
    }

    /// Whether a client has a message that it is owed.
    pub fn check_arrived(&self, client: usize, index: MessageIndex) -> Result<(), Broken> {
        let (message, view) = (&self.messages[index], &self.views[client]);
        let Fate::Settled(_) = message.fate else {
            return Ok(());
        };
        let sure = |s: &&Subscription| s.surely_matches(client, message) && s.unsure_from.is_none();
        if !view.subscriptions.iter().any(|s| sure(&s)) {
            return Ok(());
        }
        // An overlapping subscription that came and went may have lowered the QoS of the delivery.
        let qos = view
            .subscriptions
            .iter()
            .filter(|s| s.matches(client, message))
            .map(|s| s.options.qos)
            .fold(message.qos, QoS::min);
        let connected = view.link_open.is_some_and(|open| open <= message.begun);
        if qos == QoS::AtMostOnce && !connected {
            return Ok(());
        }
        if message.may_have_expired(self.now) {
            return Ok(());
        }
        let arrived = if message.payload.is_empty() {
            // One deletion may have been taken for another: nothing in it tells.
            view.deletions
                .get(&message.topic)
                .is_some_and(|&at| at >= message.begun)
        } else {
            view.copies.contains_key(&index)
        };
        if arrived {
            return Ok(());
        }
        Err(Broken::new(
            "no message is lost",
            format!("client {client} never got message {index} {message:?}"),
        ))
    }

    fn check_last_value(&self, client: usize, versions: &[MessageIndex]) -> Result<(), Broken> {
        let view = &self.views[client];
        let settled = |&&index: &&usize| matches!(self.messages[index].fate, Fate::Settled(_));
        let Some(&last) = versions.iter().rev().find(settled) else {
            return Ok(());
        };
        // Whether the broker took a later deletion, or a later value that has expired, may be open:
        // then there may be nothing to see.
        let message = &self.messages[last];
        let is_gone = |index: MessageIndex| {
            let later = &self.messages[index];
            later.payload.is_empty() || later.may_have_expired(self.now)
        };
        if versions
            .iter()
            .any(|&index| index >= last && is_gone(index))
        {
            return Ok(());
        }
        // A repetition of QoS 2 after a crash goes to nobody who has it, though that of an older value of QoS 1 has.
        let is_once = message.qos == QoS::ExactlyOnce && self.spans_crash(message);
        let is_repeated = |index: &MessageIndex| {
            let older = &self.messages[*index];
            *index < last && older.qos == QoS::AtLeastOnce && self.spans_crash(older)
        };
        let seen = view.values.get(&message.topic);
        let has_it_still = seen.is_some_and(|seen| Some(seen.last) >= message.version);
        let may_have_older = versions.iter().any(is_repeated);
        if is_once && view.copies.contains_key(&last) && (has_it_still || may_have_older) {
            return Ok(());
        }
        for subscription in &view.subscriptions {
            let is_qos_0 = subscription.options.qos.min(message.qos) == QoS::AtMostOnce;
            if !subscription.asks_retained()
                || (subscription.link != view.link && is_qos_0)
                || subscription.sure_from.is_none()
                || subscription.unsure_from.is_some()
                || !subscription.matches(client, message)
            {
                continue;
            }
            let value = view.values.get(&message.topic);
            if !value.is_some_and(|seen| {
                Some(seen.version) >= message.version && seen.at >= subscription.begun
            }) {
                return Err(Broken::new(
                    "a subscriber sees the last value",
                    format!(
                        "client {client} has {value:?} of message {last} {message:?} by \
                         {subscription:?}"
                    ),
                ));
            }
        }
        Ok(())
    }
}
