//! What the broker promises to shared subscriptions, and whether it keeps it.
//!
//! Shared subscriptions have topics of their own (`$s/...`, which no other filter of the workload
//! matches), each topic belongs to one group, and each group has one QoS, never 0. So every copy of
//! such a message was given to a member of that group.
//!
//! The promises: each message goes to one member; a second one gets it only if the first had it
//! with QoS 1 and may have been lost before it acknowledged; none is lost while somebody is a
//! member all the time, but for QoS 2 messages of a session that ended.

use std::collections::BTreeMap;

use ringmq_core::codec::QoS;

use crate::broken::Broken;
use crate::message::{Fate, Message, MessageIndex, Tick};
use crate::subscription::Subscription;
use crate::wire::Delivery;

/// Who got what of the messages for groups.
#[derive(Debug, Default)]
pub struct Groups {
    copies: BTreeMap<MessageIndex, Vec<Copy>>,
    contacts: Vec<Contact>,
}

/// One member's copy of a message.
#[derive(Clone, Copy, Debug)]
struct Copy {
    client: usize,
    qos: QoS,
    dup: bool,
    contact: Contact,
}

/// The contact between the broker and a client, as far as it can be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Contact {
    /// Times that it may have been lost.
    breaks: u32,
    /// It may be lost, and no later connection was asked for.
    is_broken: bool,
    /// It is not known to be there: its session may have ended.
    is_away: bool,
    /// When the last session may have ended.
    session_ended: Tick,
    /// Its session outlives connections, and crashes.
    is_kept: bool,
    /// Since then.
    kept_since: Tick,
}

impl Groups {
    pub fn new(clients: usize) -> Groups {
        Groups {
            copies: BTreeMap::new(),
            contacts: vec![Contact::default(); clients],
        }
    }

    /// The connection of a client may be lost, for one side at least.
    pub fn contact_broken(&mut self, client: usize) {
        let contact = &mut self.contacts[client];
        contact.breaks += 1;
        contact.is_broken = true;
        contact.is_away = true;
    }

    /// A client asks for another connection, which ends the former one. `is_kept`: its session is to outlive it.
    pub fn link_asked(&mut self, client: usize, is_kept: bool, tick: Tick) {
        let contact = &mut self.contacts[client];
        contact.breaks += 1;
        contact.is_broken = false;
        contact.is_away = true;
        if is_kept && !contact.is_kept {
            contact.kept_since = tick;
        }
        contact.is_kept = is_kept;
    }

    /// CONNACK came: the session is known to be there, or another one has begun.
    pub fn link_opened(&mut self, client: usize) {
        self.contacts[client].is_away = false;
    }

    /// A session may have ended since then, and left to others what its groups gave it. A crash may have them get
    /// that twice.
    pub fn may_have_passed(&self, since: Tick) -> bool {
        let may_have_ended = |contact: &Contact| contact.is_away || contact.session_ended >= since;
        self.contacts.iter().any(may_have_ended)
    }

    /// The client has a session without past: the former one has ended by now.
    pub fn session_begun(&mut self, client: usize, tick: Tick) {
        self.contacts[client].session_ended = tick;
    }

    /// A member got a message of its group. `spans_crash`: a crash came after it was published first.
    pub fn delivered(
        &mut self,
        client: usize,
        index: MessageIndex,
        message: &Message,
        got: &Delivery,
        spans_crash: bool,
    ) -> Result<(), Broken> {
        let is_passed_again = spans_crash && self.may_have_passed(message.begun);
        let copies = self.copies.entry(index).or_default();
        copies.push(Copy {
            client,
            qos: got.qos,
            dup: got.dup,
            contact: self.contacts[client],
        });
        let broken = |promise| {
            let detail = format!("message {index} {message:?} went to {copies:?}");
            Err(Broken::new(promise, detail))
        };
        let exactly_once = copies
            .iter()
            .filter(|copy| copy.qos == QoS::ExactlyOnce && !copy.dup);
        if message.qos == QoS::ExactlyOnce && exactly_once.count() > 1 && !is_passed_again {
            return broken("a QoS 2 message goes to one member exactly once");
        }
        let published = match message.qos {
            QoS::AtLeastOnce => message.sends,
            // The crash may have lost what a member got with QoS 1 before it was durable.
            QoS::ExactlyOnce if spans_crash => message.sends,
            QoS::AtMostOnce | QoS::ExactlyOnce => 1,
        };
        let may_be_lost = |copy: &&Copy| {
            let contact = self.contacts[copy.client];
            copy.qos == QoS::AtLeastOnce
                && (copy.contact.is_broken || contact.breaks > copy.contact.breaks)
        };
        let excused = copies.iter().filter(may_be_lost).count() as u32;
        let fresh = copies.iter().filter(|copy| !copy.dup).count() as u32;
        // What a session that ended had left to others is given again if that was not durable.
        if fresh > published + excused && !spans_crash {
            return broken("a message goes to one member of a group");
        }
        Ok(())
    }

    /// Everything is at rest: whether a message for a group has to be with somebody, and is.
    pub fn check_arrived<'a>(
        &self,
        index: MessageIndex,
        message: &Message,
        members: impl IntoIterator<Item = (usize, &'a Subscription)>,
        spans_crash: bool,
    ) -> Result<(), Broken> {
        let Fate::Settled(_) = message.fate else {
            return Ok(());
        };
        if message.expiry_s.is_some() || self.copies.contains_key(&index) {
            return Ok(());
        }
        let is_steady = |(client, s): &(usize, &Subscription)| {
            s.surely_matches(*client, message) && s.unsure_from.is_none()
        };
        let Some((_, steady)) = members.into_iter().find(is_steady) else {
            return Ok(());
        };
        let may_be_forgotten =
            |contact: &Contact| !contact.is_kept || contact.kept_since >= message.begun;
        let ended_since = |contact: &Contact| contact.session_ended >= message.begun;
        // All members of a group have the same QoS.
        let may_be_gone = match steady.options.qos.min(message.qos) {
            QoS::AtMostOnce => true,
            // What a session that is not kept got goes with it.
            QoS::AtLeastOnce => spans_crash && self.contacts.iter().any(may_be_forgotten),
            QoS::ExactlyOnce => self.contacts.iter().any(ended_since),
        };
        if may_be_gone {
            return Ok(());
        }
        let detail = format!("no member got message {index} {message:?}");
        Err(Broken::new("no message for a group is lost", detail))
    }
}
