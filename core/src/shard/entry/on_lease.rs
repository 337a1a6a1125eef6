//! Rules that the shell gives a client for a while: asked for again before they end.
//!
//! A client goes on under the rules that it has while the shell is asked. Who is asked in vain is asked
//! again, until the rules end; then the connection does, so that nobody lives on a right that nobody
//! vouches for. A client that is away keeps what it had: it gets other rules when it comes back.
//!
//! Not here: the first rules of a connection, which come with its CONNECT (`authenticate.rs`).

use std::sync::Arc;
use std::time::Duration;

use crate::auth::PeerIdentity;
use crate::auth::{AuthRequest, Identity, Lease, Verdict};
use crate::ids::SessionId;
use crate::refusal::Refusal;
use crate::shard::Shard;
use crate::shard::mail::end::End;
use crate::shard::mail::event::Heard;
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::trace::{RulesStep, Traced};
use crate::shard::mail::turn::Turn;
use crate::shard::timers::Timer;
use crate::time::Instant;

impl Shard {
    /// The rules of a connected client are to be asked for again, or end.
    pub(in crate::shard) fn on_lease(&mut self, heard: Heard, id: SessionId, turn: &mut Turn<'_>) {
        let session = self.session(id);
        let link = session.link.as_mut().expect("the timer goes with the link");
        link.lease_at = None; // The timer has just fired: nothing to cancel.
        let Some(lease) = &session.identity.lease else {
            return;
        };
        let ends_at = lease.ends_at;
        if heard.here >= ends_at {
            return self.end_link(id, End::Refused(Refusal::RulesEnded.into()), turn);
        }
        if !link.lease_is_asked {
            link.lease_is_asked = true;
            turn.out.auth_requests.push(AuthRequest {
                conn: link.conn,
                peer: PeerIdentity::default(), // It is known no longer.
                version: session.version,
                client_id: session.client_id.clone(),
                user_name: None,
                password: None,
                exchange: None,
                known: Some(session.identity.clone()),
                deadline: ends_at,
            });
            self.trace_rules(id, RulesStep::Asked);
        }
        self.set_lease_timer(id, Some(ends_at));
    }

    /// The shell has said how the rules of a client go on, if it was asked.
    pub(in crate::shard) fn on_rules_decided(
        &mut self,
        id: SessionId,
        verdict: Verdict,
        turn: &mut Turn<'_>,
    ) {
        let session = self.session(id);
        let link = session
            .link
            .as_mut()
            .expect("the caller knows a connected session");
        let lease = match (&session.identity.lease, link.lease_is_asked) {
            (Some(lease), true) => lease.clone(),
            (None, _) | (_, false) => return,
        };
        link.lease_is_asked = false;
        match verdict {
            Verdict::Granted(Identity {
                lease: Some(renewed),
                ..
            }) => {
                self.trace_rules(id, RulesStep::Renewed);
                self.set_lease_timer(id, Some(renewed.renew_at));
                self.replace_lease(id, renewed, turn.out);
            }
            Verdict::Denied(_) => {
                self.trace_rules(id, RulesStep::Denied);
                self.forget_will(id);
                let none = Lease {
                    rules: Some(Arc::default()),
                    ..lease
                };
                self.replace_lease(id, none, turn.out);
                self.end_link(id, End::Refused(Refusal::NoRules.into()), turn);
            }
            Verdict::Granted(_) | Verdict::Unavailable => {
                self.trace_rules(id, RulesStep::Unavailable);
                let pause = (lease.ends_at.saturating_since(turn.now) / 4).max(RETRY_PAUSE_MIN);
                let again_at = (turn.now + pause).min(lease.ends_at);
                self.set_lease_timer(id, Some(again_at));
            }
        }
    }

    fn trace_rules(&mut self, id: SessionId, step: RulesStep) {
        self.dispatch.trace_client(id, Traced::Rules(step));
    }

    /// All else about the client may have changed since the shell was asked, and stays.
    fn replace_lease(&mut self, id: SessionId, lease: Lease, out: &mut Outbox) {
        let identity = Identity {
            lease: Some(lease),
            ..(*self.session(id).identity).clone()
        };
        self.renew_identity(id, Arc::new(identity), out);
    }

    pub(in crate::shard) fn set_lease_timer(&mut self, id: SessionId, at: Option<Instant>) {
        let before = std::mem::replace(&mut self.link(id).lease_at, at);
        if let Some(at) = before {
            self.timers.cancel(at, Timer::Lease(id));
        }
        if let Some(at) = at {
            self.timers.set(at, Timer::Lease(id));
        }
    }
}

/// Whoever could not answer needs a moment.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
