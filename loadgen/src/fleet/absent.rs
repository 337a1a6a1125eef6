//! What disconnected subscribers miss: it is excused, and leaves the windows of its publishers.
//!
//! Without this, a closed loop would wait for messages that were lost with a connection.

use ringmq_core::codec::QoS;

use super::Fleet;
use super::client::Phase;
use crate::scenario::Group;

impl Fleet {
    /// The subscriber has no connection, or a new one, and no session that waits: what was sent up
    /// to this point need not arrive, but for the last message of each retained topic, which a new
    /// subscription brings.
    pub(super) fn excuse(&mut self, index: u32) {
        let shared = self.shared.clone();
        let (plan, streams) = (&shared.plan, &shared.plan.streams);
        let reader = self.clients[index as usize].reader.as_deref();
        let Some(own) = reader.and_then(|reader| reader.own) else {
            return;
        };
        let is_kept = |stream: u32| plan.sender(stream).retain;
        let upto = |stream| {
            let last = streams.last_sequence(stream);
            last.saturating_sub(u32::from(is_kept(stream)))
        };
        let (credits, credited) = (&mut self.credits, &mut self.credited);
        self.ledger.excuse_up_to(own, upto, |stream, count| {
            Fleet::credit(credits, credited, streams.slot(stream), count);
        });
    }

    /// The same for all members of a shared subscription, which brings no retained messages.
    pub(super) fn excuse_share(&mut self, index: u32) {
        let shared = self.shared.clone();
        let streams = &shared.plan.streams;
        let reader = self.clients[index as usize].reader.as_deref();
        let Some(share) = reader.and_then(|reader| reader.share) else {
            return;
        };
        let (credits, credited) = (&mut self.credits, &mut self.credited);
        let last = |stream| streams.last_sequence(stream);
        self.ledger.excuse_up_to(share, last, |stream, count| {
            Fleet::credit(credits, credited, streams.slot(stream), count);
        });
    }

    /// Back in a session that waited: messages of QoS 0 need not have waited.
    pub(super) fn excuse_at_most_once(&mut self, index: u32) {
        let shared = self.shared.clone();
        let (plan, streams) = (&shared.plan, &shared.plan.streams);
        let qos = plan.specs[self.group_of(index)].qos;
        let reader = self.clients[index as usize].reader.as_deref();
        let Some(own) = reader.and_then(|reader| reader.own) else {
            return;
        };
        let upto = |stream| match plan.qos(stream).min(qos) {
            QoS::AtMostOnce => streams.last_sequence(stream),
            QoS::AtLeastOnce | QoS::ExactlyOnce => 0,
        };
        let (credits, credited) = (&mut self.credits, &mut self.credited);
        self.ledger.excuse_up_to(own, upto, |stream, count| {
            Fleet::credit(credits, credited, streams.slot(stream), count);
        });
    }

    /// Messages for subscribers that are away do not stay in the windows until these come back, or
    /// for ever.
    pub(super) fn excuse_the_absent(&mut self, now: u64) {
        let shared = self.shared.clone();
        let specs = &shared.plan.specs;
        let has_window = specs.iter().any(|spec| spec.window.is_some());
        if !has_window || now.saturating_sub(self.excused_at) < EXCUSED_EVERY_NS {
            return;
        }
        self.excused_at = now;
        let is_absent = |client: &super::Client, spec: &Group| match client.phase {
            Phase::Ready => false,
            // A session that waits gets it all when its client is back.
            Phase::Away
            | Phase::Dialing
            | Phase::Greeting
            | Phase::Subscribing
            | Phase::Closing(_)
            | Phase::Gone => spec.clean || !client.settled,
        };
        for index in 0..self.clients.len() as u32 {
            let client = &self.clients[index as usize];
            if client.reader.is_some() && is_absent(client, &specs[usize::from(client.group)]) {
                self.excuse(index);
            }
        }
    }
}

/// How long a window full of messages that nobody receives stands still.
const EXCUSED_EVERY_NS: u64 = 50_000_000;
