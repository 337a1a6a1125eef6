//! CONNECT and CONNACK: the promises about sessions, and how connections end.

use std::time::Duration;

use ringmq_core::time::Instant;

use super::{Client, Outcome, Past, State};
use crate::broken::Broken;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::wire::{self, Connack, Reader};

impl Client {
    /// Writes CONNECT on a link of its own.
    pub fn connect(
        &mut self,
        clean_start: bool,
        will: Option<&wire::Will>,
        judged_until: Instant,
        oracle: &mut Oracle,
    ) {
        self.forget_connection();
        oracle.link_asked(self.index, self.traits.session_expiry_s > 0);
        if clean_start {
            self.drop_session(oracle);
        }
        self.state = State::Connecting {
            clean_start,
            asked_at: oracle.now,
            judged_until,
        };
        let mut connect = wire::Connect {
            version: self.traits.version,
            client_id: &self.name,
            clean_start,
            keep_alive_s: self.traits.keep_alive_asked_s,
            session_expiry_s: self.traits.session_expiry_asked_s,
            receive_maximum: self.traits.receive_maximum,
            topic_alias_max: self.traits.topic_alias_max,
            will,
        };
        if let Some(sabotage) = self.sabotage {
            sabotage.connect(&mut connect);
        }
        self.write(&wire::connect(&connect), oracle.now);
    }

    pub fn disconnect(&mut self, reason: u8, session_expiry_s: Option<u32>, now: Instant) {
        let reason = self.sabotage.map_or(reason, |s| s.goodbye(reason));
        let bytes = wire::disconnect(self.traits.version, reason, session_expiry_s);
        self.write(&bytes, now);
    }

    /// The connection is gone, whoever ended it.
    pub fn lose_connection(&mut self, now: Instant) {
        self.session.past = match self.state {
            State::Off => self.session.past,
            State::Open => Past::Known { lost_at: now },
            State::Connecting {
                clean_start: true, ..
            } => Past::CleanDoubt,
            // The unanswered CONNECT may have renewed the session, or begun one.
            State::Connecting { .. } => match self.session.past {
                Past::Known { lost_at } if self.session_expiry() > RUN_MAX => {
                    Past::Known { lost_at }
                }
                Past::None => Past::None,
                Past::Known { .. } | Past::Doubt | Past::CleanDoubt => Past::CleanDoubt,
            },
        };
        self.forget_connection();
    }

    /// The broker has crashed. A session that was about to end, or had ended a moment ago, may be there again
    /// with gaps: the client does not go on with it.
    pub fn broker_crashed(&mut self, now: Instant) {
        let expiry = self.session_expiry();
        let may_have_ended = match self.session.past {
            Past::Doubt => true,
            Past::Known { lost_at } => lost_at + expiry <= now,
            Past::None | Past::CleanDoubt => false,
        };
        if self.state == State::Off && may_have_ended {
            self.session.past = Past::CleanDoubt;
        }
    }

    pub fn session_expiry(&self) -> Duration {
        Duration::from_secs(self.traits.session_expiry_s.into())
    }

    fn forget_connection(&mut self) {
        self.state = State::Off;
        self.reader = Reader::default();
        self.to_send.clear();
        self.unsettled.clear();
        self.later.clear();
        self.requests.clear();
        self.unconfirmed.clear();
        self.pings.clear();
        self.aliases_in.clear();
        self.aliases_out.clear();
        self.alias_out_max = 0;
        self.receive_maximum_out = u16::MAX;
    }

    fn drop_session(&mut self, oracle: &mut Oracle) {
        self.session.outgoing.clear();
        self.session.received.clear();
        oracle.session_begun(self.index);
    }

    pub(super) fn on_connack(
        &mut self,
        connack: &Connack,
        oracle: &mut Oracle,
    ) -> Result<Outcome, Broken> {
        if connack.code != 0 {
            return Err(self.broken("a valid CONNECT is accepted", format!("{connack:?}")));
        }
        let State::Connecting { clean_start, .. } = self.state else {
            unreachable!("the caller saw the state");
        };
        let asked = self.traits.keep_alive_asked_s;
        let held = Some(self.traits.keep_alive_s).filter(|&held| held != asked && self.v5());
        if connack.keep_alive_s != held {
            return Err(self.broken("CONNACK tells the keep alive that holds", connack));
        }
        let asked_s = self.traits.session_expiry_asked_s;
        let held_s = Some(self.traits.session_expiry_s);
        if self.v5() && connack.session_expiry_s != held_s.filter(|&held| held != asked_s) {
            return Err(self.broken("CONNACK tells the session expiry that holds", connack));
        }
        self.state = State::Open;
        self.resumed = connack.session_present;
        self.alias_out_max = connack.topic_alias_max;
        self.receive_maximum_out = connack.receive_maximum;
        oracle.link_opened(self.index);
        if connack.session_present {
            self.resend(oracle);
        } else if !clean_start {
            self.drop_session(oracle);
        }
        Ok(Outcome::Connected {
            session_present: connack.session_present,
        })
    }

    /// Judges `session_present` of the CONNACK that just came. `earlier`: this client's links
    /// before, oldest first. `started_at`: when the broker was started, since when absences count that it
    /// had not recorded; `lateness`: time that starts have not counted.
    pub fn check_session_present(
        &self,
        session_present: bool,
        connecting: State,
        earlier: &[&Link],
        (started_at, lateness): (Instant, Duration),
    ) -> Result<(), Broken> {
        let State::Connecting {
            clean_start,
            asked_at,
            judged_until,
        } = connecting
        else {
            unreachable!("CONNACK came in another state");
        };
        let expiry = self.session_expiry();
        let confirmed = earlier.iter().rev().find(|link| link.confirmed);
        let closed_at = confirmed.and_then(|link| link.closed_at.or(link.ended_at));
        // As long as the broker holds any of them open, the session lives.
        let all_ended = earlier.iter().all(|link| link.ended_at.is_some());
        let ended_at = earlier
            .iter()
            .filter_map(|link| link.ended_at)
            .max()
            .filter(|_| all_ended);
        // The broker may have known earlier than the client that the connection was gone.
        let alive_until = |lost_at: Instant| closed_at.unwrap_or(lost_at).min(lost_at) + expiry;
        let expected = if clean_start {
            Some(false)
        } else {
            match self.session.past {
                Past::None if earlier.is_empty() => Some(false),
                Past::None | Past::Doubt | Past::CleanDoubt => None,
                Past::Known { lost_at } if asked_at < alive_until(lost_at) => Some(true),
                Past::Known { .. } => ended_at
                    .map(|at| at.max(started_at) + expiry + SESSION_SLACK + lateness)
                    .filter(|&over_at| judged_until > over_at)
                    .map(|_| false),
            }
        };
        if expected.is_none_or(|expected| expected == session_present) {
            return Ok(());
        }
        let detail = format!(
            "CONNACK says {session_present}, past {:?}",
            self.session.past
        );
        Err(self.broken("a session lives exactly as long as it should", detail))
    }
}

/// Longer than any run takes: a session with a longer expiry does not end by itself.
pub const RUN_MAX: Duration = Duration::from_secs(1800);

/// Sessions may live this much longer than they have to.
const SESSION_SLACK: Duration = Duration::from_secs(2);
