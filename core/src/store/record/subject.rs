//! What a record is called, and whom and what it is about: for tools that show logs.

use super::{MessageRecord, Record};
use crate::ids::SessionNo;

impl<'a> Record<'a> {
    /// Its kind in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Record::Opened(_) => "opened",
            Record::Changed(_) => "changed",
            Record::Ended(_) => "ended",
            Record::Away { .. } => "away",
            Record::Will(_) => "will",
            Record::WillGone(_) => "will_gone",
            Record::Subscribed(_) => "subscribed",
            Record::Unsubscribed { .. } => "unsubscribed",
            Record::Gather { .. } => "gather",
            Record::GatherDone { .. } => "gather_done",
            Record::Passed(_) => "passed",
            Record::Message(_) => "message",
            Record::MoreReceivers { .. } => "more_receivers",
            Record::Received { .. } => "received",
            Record::Spread(_) => "spread",
            Record::Released { .. } => "released",
            Record::Phase2 { .. } => "phase2",
            Record::Settled { .. } => "settled",
            Record::Retained(_) => "retained",
            Record::Unretained { .. } => "unretained",
            Record::Numbers { .. } => "numbers",
            Record::Reached { .. } => "reached",
            Record::Tickets { .. } => "tickets",
            Record::Footer(_) => "footer",
        }
    }

    /// The topic of the message that it is about.
    pub fn topic(&self) -> Option<&'a [u8]> {
        match self {
            Record::Message(record) => Some(record.message.topic),
            Record::Will(will) => Some(will.message.topic),
            Record::Retained(message) => Some(message.topic),
            Record::Unretained { topic } => Some(topic),
            Record::Opened(_)
            | Record::Changed(_)
            | Record::Ended(_)
            | Record::Away { .. }
            | Record::WillGone(_)
            | Record::Subscribed(_)
            | Record::Unsubscribed { .. }
            | Record::Gather { .. }
            | Record::GatherDone { .. }
            | Record::Passed(_)
            | Record::MoreReceivers { .. }
            | Record::Received { .. }
            | Record::Spread(_)
            | Record::Released { .. }
            | Record::Phase2 { .. }
            | Record::Settled { .. }
            | Record::Numbers { .. }
            | Record::Reached { .. }
            | Record::Tickets { .. }
            | Record::Footer(_) => None,
        }
    }

    /// Gives the sessions that it is about.
    pub fn for_each_session(&self, to: &mut dyn FnMut(SessionNo)) {
        match self {
            Record::Opened(opened) => to(opened.no),
            Record::Changed(changed) => to(changed.no),
            Record::Will(will) => to(will.no),
            Record::Subscribed(subscribed) => to(subscribed.no),
            Record::Ended(no)
            | Record::WillGone(no)
            | Record::Away { no, .. }
            | Record::Unsubscribed { no, .. }
            | Record::Gather { no, .. }
            | Record::GatherDone { no, .. }
            | Record::Passed(no)
            | Record::Received { no, .. }
            | Record::Released { no, .. }
            | Record::Phase2 { no, .. }
            | Record::Settled { no, .. }
            | Record::Tickets { no, .. }
            | Record::Numbers { no, .. } => to(*no),
            Record::Spread(origin) | Record::Reached { origin, .. } => to(origin.no),
            Record::Message(MessageRecord { receivers, .. })
            | Record::MoreReceivers { receivers, .. } => {
                receivers.iter().for_each(|receiver| to(receiver.no));
            }
            Record::Retained(_) | Record::Unretained { .. } | Record::Footer(_) => {}
        }
    }
}
