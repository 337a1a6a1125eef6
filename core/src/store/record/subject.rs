//! What a record is called, and whom and what it is about: for tools that show logs.

use super::{Kind, MessageRecord, Record};
use crate::ids::SessionNo;

impl<'a> Record<'a> {
    /// Its kind in a word.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The names of all kinds.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let kinds = (0..=u8::MAX).filter_map(|byte| Kind::from_byte(byte).ok());
        kinds.map(Kind::name)
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
            | Record::Kept(_)
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
            Record::Spread(origin) | Record::Kept(origin) | Record::Reached { origin, .. } => {
                to(origin.no);
            }
            Record::Message(MessageRecord { receivers, .. })
            | Record::MoreReceivers { receivers, .. } => {
                receivers.iter().for_each(|receiver| to(receiver.no));
            }
            Record::Retained(_) | Record::Unretained { .. } | Record::Footer(_) => {}
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Opened => "opened",
            Kind::Changed => "changed",
            Kind::Ended => "ended",
            Kind::Away => "away",
            Kind::Will => "will",
            Kind::WillGone => "will_gone",
            Kind::Subscribed => "subscribed",
            Kind::Unsubscribed => "unsubscribed",
            Kind::Gather => "gather",
            Kind::GatherDone => "gather_done",
            Kind::Passed => "passed",
            Kind::Message => "message",
            Kind::MoreReceivers => "more_receivers",
            Kind::Received => "received",
            Kind::Spread => "spread",
            Kind::Released => "released",
            Kind::Phase2 => "phase2",
            Kind::Settled => "settled",
            Kind::Retained => "retained",
            Kind::Unretained => "unretained",
            Kind::Kept => "kept",
            Kind::Numbers => "numbers",
            Kind::Reached => "reached",
            Kind::Tickets => "tickets",
            Kind::Footer => "footer",
        }
    }
}
