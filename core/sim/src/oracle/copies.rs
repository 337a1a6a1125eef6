//! The promises about duplicates.

use ringmq_core::codec::QoS;

use super::Oracle;
use crate::broken::Broken;
use crate::message::{Message, MessageIndex};
use crate::subscription::is_for_groups;
use crate::wire::Delivery;

impl Oracle {
    /// A crash may have forgotten that another member of a group has got what an ended session left.
    pub(super) fn may_be_passed_again(&self, message: &Message) -> bool {
        self.spans_crash(message)
            && is_for_groups(&message.topic)
            && self.groups.may_have_passed(message.begun)
    }

    pub(super) fn check_copies(
        &mut self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let spans_crash = self.spans_crash(&self.messages[index]);
        let is_passed_again = self.may_be_passed_again(&self.messages[index]);
        let (message, view) = (&self.messages[index], &mut self.views[client]);
        let copies = view.copies.entry(index).or_default();
        let known = copies.all > 0;
        copies.all += 1;
        copies.fresh += u32::from(!got.dup);
        copies.exactly_once += u32::from(got.qos == QoS::ExactlyOnce);
        let fresh_max = match message.qos {
            QoS::AtMostOnce | QoS::ExactlyOnce => 1,
            QoS::AtLeastOnce => message.sends,
        };
        let again = got.dup
            && message.sends == 1
            && if known {
                copies.link == view.link
            } else {
                view.session_link == view.link
            };
        copies.link = view.link;
        // A crash may lose the message after a subscriber got it with QoS 0 or 1. The next copy may have another QoS, if the
        // subscription has: more than one of QoS 2 is noticed above all.
        let is_repeated = spans_crash;
        // Whether a will was published, or what a session left was passed on, may not be known any more.
        let is_given_again = is_passed_again || spans_crash && message.is_will;
        // A retained value comes once more with every subscription that asks for it.
        let once = message.version.is_none();
        let promise = if once
            && message.qos == QoS::ExactlyOnce
            && copies.exactly_once > 1
            && !is_given_again
        {
            "QoS 2 arrives exactly once"
        } else if once && copies.fresh > fresh_max && !is_repeated && !is_given_again {
            "no duplicates without DUP"
        } else if once && again && !is_given_again {
            "nothing is sent again on one connection"
        } else {
            return Ok(());
        };
        Err(Broken::new(
            promise,
            format!("client {client} got message {index} {message:?} as {got:?} ({copies:?})"),
        ))
    }
}
