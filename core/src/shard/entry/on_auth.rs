//! AUTH on an open connection (MQTT 5.0, 4.12.1): the client proves anew who it is, by the authentication method of
//! its CONNECT; and when what it has proven holds no longer. While the shell judges the proof, the client goes on as
//! before.
//!
//! Not here: the first proof (`authenticate.rs`), the method itself (`auth/scram.rs`).

use super::exchange::{OTHER_EXCHANGE, auth_packet, exchange_of, goes_on, is_over};
use std::mem::take;
use std::sync::Arc;

use crate::auth::PeerIdentity;
use crate::auth::{AuthRequest, Identity, METHOD, Proof, Reply, ScramStep, Verdict};
use crate::codec::{Auth, ReasonCode};
use crate::ids::SessionId;
use crate::refusal::{Refusal, Violation};
use crate::session::{Link, Reauth};
use crate::shard::Shard;
use crate::shard::mail::end::End;
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::turn::Turn;
use crate::shard::on_packet::Flow;
use crate::shard::timers::Timer;
use crate::time::Instant;

impl Shard {
    /// AUTH on an open connection: the client proves anew who it is [MQTT-4.12.1-1].
    pub(in crate::shard) fn on_auth(
        &mut self,
        id: SessionId,
        auth: &Auth<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Flow, Violation> {
        let deadline = turn.now + self.config.limits.connect_deadline;
        let session = self.session(id);
        let link = session
            .link
            .as_mut()
            .expect("the caller knows a connected session");
        // [MQTT-4.12.0-7] Only if CONNECT named a method [MQTT-4.12.0-5], and that one.
        let Some(reauth) = &mut link.reauth else {
            return Err(Violation::Protocol(
                "AUTH, and CONNECT named no authentication method",
            ));
        };
        let step = match reauth {
            Reauth::Scram(step) => match step.take() {
                None if goes_on(auth, ReasonCode::ReAuthenticate) => ScramStep::First,
                Some(step) if goes_on(auth, ReasonCode::ContinueAuthentication) => step,
                None | Some(_) => return Err(OTHER_EXCHANGE),
            },
            Reauth::Shell { method, is_asked } => {
                let named = auth.properties.authentication_method;
                if *is_asked || auth.reason != ReasonCode::ReAuthenticate || named != Some(method) {
                    return Err(OTHER_EXCHANGE);
                }
                *is_asked = true;
                turn.out.auth_requests.push(AuthRequest {
                    conn: link.conn,
                    peer: PeerIdentity::default(), // It is known no longer.
                    version: session.version,
                    client_id: session.client_id.clone(),
                    user_name: session.identity.user.clone(),
                    password: None,
                    exchange: exchange_of(named, auth.properties.authentication_data),
                    known: None,
                    deadline,
                });
                return Ok(Flow::Continue);
            }
        };
        self.take_proof_anew(id, step, auth.properties.authentication_data, turn.out)?;
        Ok(Flow::Continue)
    }

    /// A message of the client in an exchange on an open connection.
    fn take_proof_anew(
        &mut self,
        id: SessionId,
        step: ScramStep,
        data: Option<&[u8]>,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        let reply = self.scram.take(step, data);
        // [MQTT-4.12.1-2] The connection ends with DISCONNECT.
        let reply = reply.map_err(|_| Violation::Rule(Refusal::BadProof))?;
        match reply {
            Reply::Challenge { data, next } => {
                self.link(id).reauth = Some(Reauth::Scram(Some(next)));
                self.send_auth(id, ReasonCode::ContinueAuthentication, &data, out)
            }
            Reply::Proven {
                user,
                fingerprint,
                data,
            } => {
                let identity = Identity {
                    user: Some(user),
                    proof: Proof::Scram { fingerprint },
                    // What it may do is not in question.
                    lease: self.session(id).identity.lease.clone(),
                    ..Identity::default()
                };
                // The session belongs to who opened it.
                if self.session(id).identity.user != identity.user
                    || !self.dispatch.access.admits(&identity)
                {
                    return Err(Refusal::BadProof.into());
                }
                self.renew_identity(id, Arc::new(identity), out);
                self.send_auth(id, ReasonCode::Success, &data, out)
            }
        }
    }

    /// The shell has judged what a client proves itself anew with, if the client still waits for that.
    pub(super) fn on_reauth_decided(
        &mut self,
        id: SessionId,
        verdict: Verdict,
        turn: &mut Turn<'_>,
    ) {
        let is_asked = match &mut self.link(id).reauth {
            Some(Reauth::Shell { is_asked, .. }) => take(is_asked),
            Some(Reauth::Scram(_)) | None => false,
        };
        if !is_asked {
            return;
        }
        let refusal = match verdict {
            // The session belongs to who opened it.
            Verdict::Granted(identity) if self.session(id).identity.user != identity.user => {
                Refusal::BadProof
            }
            Verdict::Granted(identity) if !self.dispatch.access.admits(&identity) => {
                Refusal::BadProof
            }
            Verdict::Granted(identity) if is_over(&identity, turn.now) => {
                Refusal::CredentialsExpired
            }
            Verdict::Granted(identity) => {
                self.set_ends_of(id, &identity);
                self.renew_identity(id, Arc::new(identity), turn.out);
                match self.send_auth(id, ReasonCode::Success, &[], turn.out) {
                    Ok(()) => return,
                    Err(violation) => violation.refusal(),
                }
            }
            // DISCONNECT has no word for a wrong password.
            Verdict::Denied(Refusal::BadPassword) => Refusal::BadProof,
            Verdict::Denied(refusal) => refusal,
            Verdict::Unavailable => Refusal::ReauthenticationDown,
        };
        self.end_link(id, End::Refused(refusal.into()), turn); // [MQTT-4.12.1-2]
    }

    /// Sets the timers of what a connected client has proven, and of rules that hold for a while.
    pub(in crate::shard) fn set_ends_of(&mut self, id: SessionId, identity: &Identity) {
        self.set_credentials_timer(id, identity.expires_at);
        self.set_lease_timer(id, identity.lease.as_ref().map(|lease| lease.renew_at));
    }

    /// When what a connected client has proven holds no longer.
    fn set_credentials_timer(&mut self, id: SessionId, expires_at: Option<Instant>) {
        let before = std::mem::replace(&mut self.link(id).expires_at, expires_at);
        if let Some(at) = before {
            self.timers.cancel(at, Timer::Credentials(id));
        }
        if let Some(at) = expires_at {
            self.timers.set(at, Timer::Credentials(id));
        }
    }

    /// Time is up for what a client has proven: its connection ends, its session waits for it (threat 78).
    pub(in crate::shard) fn on_credentials_expired(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.link(id).expires_at = None; // The timer has just fired: nothing to cancel.
        let refusal = Refusal::CredentialsExpired;
        self.end_link(id, End::Refused(refusal.into()), turn);
    }

    fn send_auth(
        &mut self,
        id: SessionId,
        reason: ReasonCode,
        data: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        let mut packet = Vec::new();
        let link: &Link = self.link(id);
        let method = link.reauth.as_ref().map_or(METHOD, Reauth::method);
        auth_packet(method, reason, data).encode(&mut packet);
        if packet.len() > link.packet_size_max as usize {
            return Err(Refusal::AnswerTooLarge.into()); // [MQTT-3.1.2-24]
        }
        self.write(id, out, |buffer| buffer.extend_from_slice(&packet));
        Ok(())
    }
}
