//! From a CONNECT to the decision who sent it (MQTT 5.0, 4.12).
//!
//! A CONNECT that names the method SCRAM-SHA-256 starts an exchange of AUTH packets; one that brings
//! a user name or a password, or what a method of the shell's asks for, is for the shell to judge, because
//! that takes time. In both cases the connection waits in the state `Authenticating`, until the deadline
//! of its CONNECT.
//!
//! Not here: a proof on an open connection (`on_auth.rs`), what a CONNECT does once its sender is known
//! (`on_connect.rs`), the method itself (`auth/scram.rs`), rules (`auth`).

use super::exchange::{OTHER_EXCHANGE, auth_packet, exchange_of, goes_on, is_over};
use super::refuse::Stranger;
use super::terms::packet_size_max;
use crate::auth::{AuthRequest, Identity, METHOD, Proof, Reply, ScramError, ScramStep, Verdict};
use crate::codec::{Auth, Connect, Direction, FrameRules, Framer, PacketKind, ReasonCode, Version};
use crate::connection::{AuthStep, Authenticating, Connection, Egress};
use crate::ids::ConnId;
use crate::refusal::{Refusal, Violation};
use crate::shard::Shard;
use crate::shard::mail::outbox::{Close, Reading};
use crate::shard::mail::turn::Turn;
use crate::shard::timers::Timer;
use crate::stages::Stage;
use crate::time::Instant;
use std::mem::take;
use std::sync::Arc;

/// Who sent a CONNECT.
pub struct Proven {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The authentication method of CONNECT; `None`: it named none.
    pub by: Option<ProvenBy>,
}

/// An authentication method by which somebody was let in.
pub struct ProvenBy {
    /// Its name.
    pub method: Arc<str>,
    /// What the method has to say at last.
    pub data: Vec<u8>,
}

/// How a CONNECT is to be judged.
enum Admission {
    /// At once.
    Now(Proven),
    /// By the shell.
    Ask,
    /// By an exchange.
    Challenge,
}

impl Shard {
    /// Finds out who sent a CONNECT, or starts to; then lets it take effect. `packet` is the CONNECT
    /// as it came, `rest` what came behind it.
    pub(in crate::shard) fn authenticate(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        packet: &[u8],
        rest: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let admission = self
            .check_connect(connect)
            .and_then(|()| self.admission_of(conn, connect));
        match admission {
            Ok(Admission::Now(proven)) if self.dispatch.access.asks_rules => {
                let known = Some(proven.identity);
                self.ask(conn, known, connect, packet, rest, turn);
            }
            Ok(Admission::Now(proven)) => self.complete(conn, connect, proven, rest, turn),
            Ok(Admission::Ask) => self.ask(conn, None, connect, packet, rest, turn),
            Ok(Admission::Challenge) => {
                let step = AuthStep::Challenged {
                    scram: ScramStep::First,
                    framer: Framer::default(),
                };
                if self
                    .start_waiting(conn, connect, packet, step, turn)
                    .is_some()
                {
                    let data = connect.properties.authentication_data;
                    self.take_proof(conn, data, rest, turn);
                }
            }
            Err(refusal) => {
                let stranger = Stranger::of(connect);
                self.refuse(conn, &stranger, refusal.into(), turn);
            }
        }
    }

    fn admission_of(&self, conn: ConnId, connect: &Connect<'_>) -> Result<Admission, Refusal> {
        if let Some(method) = connect.properties.authentication_method {
            let methods = &self.dispatch.access.methods;
            return match method {
                METHOD if !self.scram.is_empty() => Ok(Admission::Challenge),
                _ if methods.iter().any(|known| **known == *method) => Ok(Admission::Ask),
                _ => Err(Refusal::AuthenticationMethod), // [MQTT-4.12.0-1]
            };
        }
        if let Some(Connection::AwaitConnect(waiting)) = self.connections.get(conn)
            && let Some(name) = &waiting.peer.name
        {
            // Its certificate has said who it is: what CONNECT says of that does not matter.
            return Ok(Admission::Now(Proven {
                identity: Arc::new(Identity {
                    user: Some((**name).into()),
                    proof: Proof::Elsewhere,
                    ..Identity::default()
                }),
                by: None,
            }));
        }
        let access = &self.dispatch.access;
        let nameless = match self.connections.get(conn) {
            Some(Connection::AwaitConnect(waiting)) => access.proof_of_nameless(&waiting.peer),
            Some(
                Connection::Vacant
                | Connection::Authenticating(_)
                | Connection::Open(_)
                | Connection::Closing(_)
                | Connection::HandedOver,
            )
            | None => unreachable!("the CONNECT came from a waiting connection"),
        };
        let shows_something = connect.user_name.is_some() || connect.password.is_some();
        let is_asked_about = access.asks_for_strangers && nameless.is_none();
        if access.asks_shell && (shows_something || is_asked_about) {
            return Ok(Admission::Ask);
        }
        // Nobody could tell whether what it shows is right: it counts as nothing.
        let proof = nameless.ok_or(Refusal::AnonymousConnect)?;
        let identity = if proof == self.anonymous.proof {
            self.anonymous.clone()
        } else {
            Arc::new(Identity {
                proof,
                ..Identity::default()
            })
        };
        Ok(Admission::Now(Proven { identity, by: None }))
    }

    /// Asks the shell about the sender of a CONNECT: who it is, or if that is known, what it may do.
    #[allow(clippy::too_many_arguments)]
    fn ask(
        &mut self,
        conn: ConnId,
        known: Option<Arc<Identity>>,
        connect: &Connect<'_>,
        packet: &[u8],
        rest: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let step = AuthStep::Asked {
            input: rest.into(),
            data: Vec::new(),
            asked_at: turn.now,
        };
        let request = self.start_waiting(conn, connect, packet, step, turn);
        if let Some(request) = request {
            turn.out
                .auth_requests
                .push(AuthRequest { known, ..request });
            turn.out.readings.push(Reading { conn, paused: true });
        }
    }

    /// Puts a connection into the state `Authenticating`; gives what there is to ask about it. `None`
    /// if there is no room for it: then it has been closed.
    fn start_waiting(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        packet: &[u8],
        step: AuthStep,
        turn: &mut Turn<'_>,
    ) -> Option<AuthRequest> {
        self.forgive_lateness(turn.now, conn);
        let Some(Connection::AwaitConnect(waiting)) = self.connections.get(conn) else {
            unreachable!("the CONNECT came from a waiting connection");
        };
        let (peer, since) = (waiting.peer.clone(), waiting.since);
        let waiting = Authenticating {
            since,
            peer: peer.clone(),
            connect: packet.into(),
            packet_size_max: packet_size_max(connect),
            egress: Egress::default(),
            step,
        };
        let is_held = self.hold(waiting.held_size()).is_ok();
        self.connections
            .replace(conn, Connection::Authenticating(Box::new(waiting)));
        if !is_held {
            self.drop_unheard(conn, turn);
            return None;
        }
        Some(AuthRequest {
            conn,
            peer,
            version: connect.version,
            client_id: connect.client_id.into(),
            user_name: connect.user_name.map(Into::into),
            password: connect.password.map(Into::into),
            exchange: exchange_of(
                connect.properties.authentication_method,
                connect.properties.authentication_data,
            ),
            known: None,
            deadline: since + self.config.limits.connect_deadline,
        })
    }

    /// What came in time and is read after the deadline leaves no time for an answer, through no fault of the client:
    /// its time begins anew.
    fn forgive_lateness(&mut self, now: Instant, conn: ConnId) {
        let since = match self.connections.get_mut(conn) {
            Some(Connection::AwaitConnect(waiting)) => &mut waiting.since,
            Some(Connection::Authenticating(waiting)) => &mut waiting.since,
            Some(
                Connection::Vacant
                | Connection::Open(_)
                | Connection::Closing(_)
                | Connection::HandedOver,
            )
            | None => unreachable!("the caller saw a waiting connection"),
        };
        let span = self.config.limits.connect_deadline;
        let deadline = *since + span;
        if deadline <= now {
            *since = now;
            self.timers.cancel(deadline, Timer::Connect(conn));
            self.timers.set(now + span, Timer::Connect(conn));
        }
    }

    /// Bytes of a connection that is being authenticated.
    pub(in crate::shard) fn on_received_early(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) {
        self.forgive_lateness(turn.now, conn);
        let waiting = self.authenticating(conn);
        let size = waiting.held_size();
        match &mut waiting.step {
            AuthStep::Asked { input, .. } => {
                // Received before the shell stopped to read. More than a packet of a stranger may
                // have does not come.
                input.extend_from_slice(bytes);
                let grown = waiting.held_size();
                self.release(size);
                if self.hold(grown).is_err() {
                    self.drop_unheard(conn, turn);
                }
            }
            AuthStep::Challenged { framer, .. } => {
                let framer = take(framer);
                self.release_partial(&framer);
                self.read_auth(conn, framer, bytes, turn);
            }
        }
    }

    /// The next packet of a client that has to send AUTH. The caller has counted the framer out.
    fn read_auth(
        &mut self,
        conn: ConnId,
        mut framer: Framer,
        mut bytes: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let rules = FrameRules {
            version: Some(Version::V5),
            size_max: self.config.limits.connect_size_max,
            direction: Direction::FromClient,
        };
        let violation = match framer.next(&mut bytes, &rules) {
            Ok(None) => {
                let is_held = self.admit_partial(&framer).is_ok();
                let waiting = self.authenticating(conn);
                if let AuthStep::Challenged { framer: place, .. } = &mut waiting.step {
                    *place = framer;
                }
                if !is_held {
                    let counted = self.authenticating(conn).connect.len();
                    self.release(counted);
                    self.drop_unheard(conn, turn);
                }
                return;
            }
            Ok(Some(frame)) => {
                self.dispatch.metrics.packets_received += 1;
                self.dispatch.metrics.bytes_received += frame.raw.len() as u64;
                match frame.kind {
                    PacketKind::Auth => match Auth::decode(&frame, Direction::FromClient) {
                        Ok(auth) if goes_on(&auth, ReasonCode::ContinueAuthentication) => {
                            let data = auth.properties.authentication_data;
                            return self.take_proof(conn, data, bytes, turn);
                        }
                        Ok(_) => OTHER_EXCHANGE,
                        Err(error) => error.into(),
                    },
                    PacketKind::Disconnect => {
                        let egress = self.take_early_egress(conn);
                        self.leave_await(conn, Connection::Closing(Box::new(egress)));
                        turn.out.closes.push(Close { conn, flush: true });
                        return;
                    }
                    // [MQTT-3.1.2-30] Nothing but AUTH and DISCONNECT before CONNACK.
                    PacketKind::Connect
                    | PacketKind::Connack
                    | PacketKind::Publish
                    | PacketKind::Puback
                    | PacketKind::Pubrec
                    | PacketKind::Pubrel
                    | PacketKind::Pubcomp
                    | PacketKind::Subscribe
                    | PacketKind::Suback
                    | PacketKind::Unsubscribe
                    | PacketKind::Unsuback
                    | PacketKind::Pingreq
                    | PacketKind::Pingresp => {
                        Violation::Protocol("something else than AUTH before CONNACK")
                    }
                }
            }
            Err(error) => error.into(),
        };
        self.dispatch.metrics.violations += 1;
        self.refuse_waiting(conn, violation, turn);
    }

    /// A message of the client in an exchange before CONNACK.
    fn take_proof(&mut self, conn: ConnId, data: Option<&[u8]>, rest: &[u8], turn: &mut Turn<'_>) {
        let waiting = self.authenticating(conn);
        let packet_size_max = waiting.packet_size_max;
        let AuthStep::Challenged { scram, .. } = &mut waiting.step else {
            unreachable!("the caller saw an exchange");
        };
        let step = std::mem::replace(scram, ScramStep::First);
        let reply = self.scram.take(step, data);
        let refusal = match reply {
            Ok(Reply::Challenge { data, next }) => {
                let mut packet = Vec::new();
                auth_packet(METHOD, ReasonCode::ContinueAuthentication, &data).encode(&mut packet);
                if packet.len() <= packet_size_max as usize {
                    return self.challenge(conn, next, &packet, rest, turn);
                }
                Refusal::AnswerTooLarge // [MQTT-3.1.2-24]
            }
            Ok(Reply::Proven {
                user,
                fingerprint,
                data,
            }) => {
                let identity = Identity {
                    user: Some(user),
                    proof: Proof::Scram { fingerprint },
                    ..Identity::default()
                };
                // The exchange may have begun with other users.
                if !self.dispatch.access.proves(&identity) {
                    Refusal::BadProof
                } else if self.dispatch.access.asks_rules {
                    return self.ask_for_rules(conn, identity, data, rest, turn);
                } else {
                    return self.resume_connect(conn, identity, data, rest, turn);
                }
            }
            Err(ScramError::Malformed | ScramError::WrongProof) => Refusal::BadProof,
        };
        self.refuse_waiting(conn, refusal.into(), turn); // [MQTT-4.12.0-4]
    }

    /// The sender of a CONNECT has proven who it is in an exchange: what it may do, the shell has to say.
    fn ask_for_rules(
        &mut self,
        conn: ConnId,
        identity: Identity,
        data: Vec<u8>,
        rest: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let is_held = self.hold(rest.len() + data.len()).is_ok();
        let deadline = self.config.limits.connect_deadline;
        let waiting = self.authenticating(conn);
        if !is_held {
            let counted = waiting.connect.len();
            self.release(counted);
            return self.drop_unheard(conn, turn);
        }
        waiting.step = AuthStep::Asked {
            input: rest.into(),
            data,
            asked_at: turn.now,
        };
        let (peer, deadline) = (waiting.peer.clone(), waiting.since + deadline);
        let packet = waiting.connect.clone();
        let mut framer = Framer::default();
        let connect = self.read_again(&mut framer, &packet);
        turn.out.auth_requests.push(AuthRequest {
            conn,
            peer,
            version: connect.version,
            client_id: connect.client_id.into(),
            user_name: None,
            password: None,
            exchange: None,
            known: Some(Arc::new(identity)),
            deadline,
        });
        turn.out.readings.push(Reading { conn, paused: true });
    }

    /// Sends an AUTH and waits for the next one.
    fn challenge(
        &mut self,
        conn: ConnId,
        next: ScramStep,
        packet: &[u8],
        rest: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let Some(Connection::Authenticating(waiting)) = self.connections.get_mut(conn) else {
            unreachable!("the caller saw the state");
        };
        if let AuthStep::Challenged { scram, .. } = &mut waiting.step {
            *scram = next;
        }
        let buffer = waiting.egress.buffer(&mut self.dispatch.pool);
        buffer.extend_from_slice(packet);
        self.dispatch.metrics.controls_sent += 1;
        if waiting
            .egress
            .grew(packet.len(), &mut self.dispatch.pool.unsent)
        {
            turn.out.dirty.push(conn);
        }
        if !rest.is_empty() {
            self.read_auth(conn, Framer::default(), rest, turn);
        }
    }

    pub(in crate::shard) fn on_auth_decided(
        &mut self,
        conn: ConnId,
        was_known: bool,
        verdict: Verdict,
        turn: &mut Turn<'_>,
    ) {
        // The connection may be gone, and its slot may serve another one.
        let waiting = match self.connections.get_mut(conn) {
            Some(Connection::Authenticating(waiting)) => waiting,
            Some(Connection::Open(id)) => {
                let id = *id;
                return if was_known {
                    self.on_rules_decided(id, verdict, turn)
                } else {
                    self.on_reauth_decided(id, verdict, turn)
                };
            }
            Some(
                Connection::Vacant
                | Connection::AwaitConnect(_)
                | Connection::Closing(_)
                | Connection::HandedOver,
            )
            | None => return,
        };
        let AuthStep::Asked {
            input,
            data,
            asked_at,
        } = &mut waiting.step
        else {
            return;
        };
        let (input, data) = (take(input), take(data));
        let recorder = &mut self.dispatch.stages;
        recorder.record(Stage::Auth, *asked_at, turn.now);
        self.release(input.len() + data.len());
        turn.out.readings.push(Reading {
            conn,
            paused: false,
        });
        let refusal = match verdict {
            // Whoever judged may have known less than the shard does by now.
            Verdict::Granted(identity) if !self.dispatch.access.admits(&identity) => {
                Refusal::BadPassword
            }
            Verdict::Granted(identity) if is_over(&identity, turn.now) => {
                Refusal::CredentialsExpired
            }
            Verdict::Granted(identity) => {
                return self.resume_connect(conn, identity, data, &input, turn);
            }
            Verdict::Denied(refusal) => refusal,
            Verdict::Unavailable => Refusal::AuthenticationDown,
        };
        self.refuse_waiting(conn, refusal.into(), turn);
    }

    /// The sender of a CONNECT is known: it takes effect. `data` is what its authentication method
    /// has to say at last, if it named one.
    fn resume_connect(
        &mut self,
        conn: ConnId,
        identity: Identity,
        data: Vec<u8>,
        rest: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let waiting = self.authenticating(conn);
        let packet = take(&mut waiting.connect);
        self.release(packet.len());
        let mut framer = Framer::default();
        let connect = self.read_again(&mut framer, &packet);
        let method = connect.properties.authentication_method;
        let proven = Proven {
            identity: Arc::new(identity),
            by: method.map(|method| ProvenBy {
                method: method.into(),
                data,
            }),
        };
        self.complete(conn, &connect, proven, rest, turn);
    }

    fn complete(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        proven: Proven,
        rest: &[u8],
        turn: &mut Turn<'_>,
    ) {
        match self.on_connect(conn, connect, proven, turn) {
            Err(refusal) => {
                let stranger = Stranger::of(connect);
                self.refuse(conn, &stranger, refusal.into(), turn);
            }
            Ok(()) if rest.is_empty() => {}
            Ok(()) => self.on_received(conn, rest, turn),
        }
    }

    /// Closes a connection that was let to wait, without a word.
    fn drop_unheard(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        self.dispatch.metrics.connects_refused += 1;
        self.note_stranger(conn, ("", ""), Refusal::PartialsFull, turn);
        // What it holds was not counted.
        let waiting = self.authenticating(conn);
        waiting.connect = Box::default();
        waiting.step = AuthStep::Asked {
            input: Vec::new(),
            data: Vec::new(),
            asked_at: turn.now,
        };
        self.leave_await(conn, Connection::Closing(Box::default()));
        turn.out.closes.push(Close { conn, flush: false });
    }

    /// Refuses a connection that waits, in the terms of its CONNECT.
    pub(in crate::shard) fn refuse_waiting(
        &mut self,
        conn: ConnId,
        violation: Violation,
        turn: &mut Turn<'_>,
    ) {
        let packet = self.authenticating(conn).connect.clone();
        let mut framer = Framer::default();
        let connect = self.read_again(&mut framer, &packet);
        self.refuse(conn, &Stranger::of(&connect), violation, turn);
    }

    /// The CONNECT of a connection that waits, whose bytes are kept.
    fn read_again<'a>(&self, framer: &'a mut Framer, packet: &'a [u8]) -> Connect<'a> {
        let frame = framer.next(&mut &packet[..], &self.connect_rules());
        let frame = frame.ok().flatten().expect(DECODED_BEFORE);
        Connect::decode(&frame).expect(DECODED_BEFORE)
    }

    /// A connection that the caller knows to be in this state.
    fn authenticating(&mut self, conn: ConnId) -> &mut Authenticating {
        match self.connections.get_mut(conn) {
            Some(Connection::Authenticating(waiting)) => waiting,
            Some(
                Connection::Vacant
                | Connection::AwaitConnect(_)
                | Connection::Open(_)
                | Connection::Closing(_)
                | Connection::HandedOver,
            )
            | None => unreachable!("the caller saw the state"),
        }
    }
}

const DECODED_BEFORE: &str = "the packet was decoded when it came";
