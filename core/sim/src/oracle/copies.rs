//! The promises about duplicates.

use ringmq_core::codec::QoS;

use super::Oracle;
use crate::broken::Broken;
use crate::message::MessageIndex;
use crate::subscription::is_for_groups;
use crate::wire::Delivery;

impl Oracle {
    pub(super) fn check_copies(
        &mut self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let spans_crash = self.spans_crash(&self.messages[index]);
        let begun = self.messages[index].begun;
        let is_passed_again = spans_crash
            && is_for_groups(&self.messages[index].topic)
            && self.groups.may_have_passed(begun);
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
        // A crash may lose the message after a subscriber got it with QoS 0 or 1.
        let is_repeated = spans_crash && got.qos != QoS::ExactlyOnce;
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
