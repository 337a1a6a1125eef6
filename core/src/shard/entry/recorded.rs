//! What of a session is recorded besides its subscriptions and messages: its terms, its will, its end.

use crate::ids::{SessionId, SessionNo};
use crate::message::Message;
use crate::session::{Expiry, Session, Will};
use crate::shard::Shard;
use crate::store::{Changed, Opened, Record, SessionTerms, WillRecord};
use crate::time::Instant;

impl Shard {
    /// Records what a CONNECT made of a session: one that outlives its connection is known after a start.
    pub(super) fn record_connect(&mut self, id: SessionId, had_will: bool) {
        let dispatch = &mut self.dispatch;
        let session = dispatch.sessions.get_mut(id).expect("just linked");
        let journal = &mut dispatch.journal;
        let no = match (session.no, session.outlives_connection()) {
            (None, false) => return,
            (None, true) => {
                let Some(no) = journal.number_session() else {
                    return;
                };
                // Without a number it would have ended with its last connection.
                assert!(session.subscriptions.is_empty(), "the session is new");
                session.no = Some(no);
                // Packet identifiers are free again when the log says so.
                let floor = session.queue.next_to_send();
                session.window.hold_for_log(floor);
                journal.record(&Record::Opened(Opened {
                    no,
                    client_id: &session.client_id,
                    terms: terms_of(session),
                }));
                no
            }
            (Some(no), true) => {
                let terms = terms_of(session);
                journal.record(&Record::Changed(Changed { no, terms }));
                no
            }
            (Some(no), false) => {
                session.no = None;
                if had_will {
                    // The client is back in time. A will that was published stays owed.
                    journal.record(&Record::WillGone(no));
                }
                journal.record(&Record::Ended(no));
                // What its groups gave it stays with it.
                journal.record(&Record::Passed(no));
                self.end_durable_interest(id);
                return;
            }
        };
        match &session.will {
            Some(will) => {
                if let Some((heir, owed)) = journal.hand_over_will(no) {
                    journal.record(&Record::Opened(Opened {
                        no: heir,
                        client_id: &session.client_id,
                        terms: terms_of(session),
                    }));
                    journal.record(&Record::Will(will_record(heir, &owed)));
                    journal.record(&Record::Ended(heir));
                }
                journal.record(&Record::Will(will_record(no, will)));
            }
            None if had_will => journal.record(&Record::WillGone(no)),
            None => {}
        }
    }

    /// DISCONNECT gave another Session Expiry Interval.
    pub(in crate::shard) fn record_terms(&mut self, id: SessionId) {
        let dispatch = &mut self.dispatch;
        let session = dispatch.sessions.get(id).expect("the client is connected");
        if let Some(no) = session.no
            && session.outlives_connection()
        {
            let terms = terms_of(session);
            let record = Record::Changed(Changed { no, terms });
            dispatch.journal.record_lazily(&record);
        }
    }

    /// The client is away from now on.
    pub(in crate::shard) fn record_away(&mut self, id: SessionId, at: Instant) {
        if let Some(no) = self.session(id).no {
            self.dispatch
                .journal
                .record_lazily(&Record::Away { no, at });
        }
    }

    /// Forgets the will of a session: it is not to be published.
    pub(in crate::shard) fn forget_will(&mut self, id: SessionId) {
        let session = self.session(id);
        let had_will = session.will.take().is_some();
        if let Some(no) = session.no
            && had_will
        {
            self.dispatch.journal.record_lazily(&Record::WillGone(no));
        }
    }
}

/// What is recorded of the terms of a session.
pub(in crate::shard) fn terms_of(session: &Session) -> SessionTerms<'_> {
    SessionTerms {
        user: session.identity.user.as_deref(),
        version: session.version,
        expiry_s: match session.expiry {
            Expiry::WithConnection => unreachable!("such a session is not recorded"),
            Expiry::After(span) => u32::try_from(span.as_secs()).unwrap_or(u32::MAX),
        },
    }
}

/// What is recorded of a will.
pub(in crate::shard) fn will_record(no: SessionNo, will: &Will) -> WillRecord<'_> {
    let message: &Message = &will.message;
    WillRecord {
        no,
        message: message.parts().into(),
        expiry_s: will.expiry_s,
        delay_s: u32::try_from(will.delay.as_secs()).unwrap_or(u32::MAX),
    }
}
