//! The connection log: clients that come and go at info, what they subscribe to and publish at
//! debug.
//!
//! Whether somebody wants to read it is asked when the filter of the log changes. If nobody does, the core makes no
//! notes.

use std::sync::atomic::{AtomicU32, Ordering};

use ringmq_core::codec::Version;
use ringmq_core::shard::{Arrival, CloseCause, Departure, End, Note, NoteKinds, Party};
use rustix::io::Errno;
use tracing::{Level, debug, enabled, info, warn};

use super::{Core, Reactor};
use ringmq_ring::Ring;

/// Counts the filters of the log that there have been.
static FILTERS: AtomicU32 = AtomicU32::new(0);

/// Another filter of the log is in force: to be called whenever that happens in a running broker.
pub fn log_filter_has_changed() {
    FILTERS.fetch_add(1, Ordering::Relaxed);
}

/// What the filter of the log lets through.
pub(super) fn wanted() -> NoteKinds {
    NoteKinds {
        clients: enabled!(target: "ringmq::clients", Level::INFO),
        packets: enabled!(target: "ringmq::packets", Level::DEBUG),
    }
}

impl<R: Ring, C: Core> Reactor<R, C> {
    /// Asks again what is to be noted, if the filter of the log has changed.
    pub(super) fn heed_log_filter(&mut self) {
        let filters = FILTERS.load(Ordering::Relaxed);
        if filters != self.log_filters_seen {
            self.log_filters_seen = filters;
            self.outbox.notes.wanted = wanted();
        }
    }

    pub(super) fn log_notes(&mut self) {
        if self.outbox.notes.is_empty() {
            return;
        }
        let (notes, left_out) = self.outbox.notes.take();
        for note in notes {
            match note {
                Note::Connected(arrival) => self.log_arrival(&arrival),
                Note::Disconnected(departure) => log_departure(&departure),
                Note::Reviewed { cut_off, ended } => {
                    let shard = self.id.index();
                    info!(
                        target: "ringmq::clients", shard, disconnected = cut_off,
                        sessions_ended = ended,
                        "a reload has ended what is no longer permitted"
                    );
                }
                Note::Subscribed { .. } | Note::Unsubscribed { .. } | Note::Published { .. } => {
                    log_packet(&note);
                }
            }
        }
        if left_out > 0 {
            let shard = self.id.index();
            let text = "more happened in a turn than is logged";
            warn!(target: "ringmq::clients", shard, left_out, "{text}");
        }
    }

    fn log_arrival(&mut self, arrival: &Arrival) {
        let Party {
            client_id,
            identity,
            peer,
        } = &arrival.party;
        let slot = self.slots.get(arrival.conn);
        let transport = slot.and_then(|slot| slot.transport.as_deref());
        let tls = transport.and_then(|transport| transport.tls_version());
        info!(
            target: "ringmq::clients",
            client = &**client_id,
            user = identity.user.as_deref(),
            peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string()),
            listener = arrival.listener.as_deref(),
            tls = tls.unwrap_or("no"),
            protocol = protocol(arrival.version),
            clean = arrival.clean,
            session = if arrival.session_present { "resumed" } else { "new" },
            keep_alive = arrival.keep_alive_s,
            "connected"
        );
    }
}

fn log_departure(departure: &Departure) {
    let Party {
        client_id,
        identity,
        peer,
    } = &departure.party;
    let by = match departure.end {
        End::TakenOver { by } => by.map(|by| by.to_string()),
        End::Disconnected | End::DisconnectedWithWill | End::Lost(_) | End::Refused(_) => None,
    };
    let error = match departure.end {
        End::Lost(CloseCause::Failed(errno)) => Some(Errno::from_raw_os_error(errno).to_string()),
        End::Disconnected
        | End::DisconnectedWithWill
        | End::Lost(_)
        | End::Refused(_)
        | End::TakenOver { .. } => None,
    };
    let counts = departure.counts;
    info!(
        target: "ringmq::clients",
        client = &**client_id,
        user = identity.user.as_deref(),
        peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string()),
        reason = departure.end.name(),
        error,
        by,
        after = format!("{:.1}s", departure.after.as_secs_f64()),
        "in" = counts.received,
        out = counts.sent,
        dropped = counts.dropped,
        "disconnected"
    );
}

fn log_packet(note: &Note) {
    match note {
        Note::Connected(_) | Note::Disconnected(_) | Note::Reviewed { .. } => {
            unreachable!("the caller tells them apart")
        }
        Note::Subscribed {
            client_id,
            filter,
            qos,
            refused,
        } => debug!(
            target: "ringmq::packets",
            client = &**client_id,
            filter = &**filter,
            qos = *qos as u8,
            refused = refused.map(|refusal| refusal.name()),
            "subscribe"
        ),
        Note::Unsubscribed { client_id, filter } => debug!(
            target: "ringmq::packets",
            client = &**client_id,
            filter = &**filter,
            "unsubscribe"
        ),
        Note::Published {
            client_id,
            topic,
            qos,
            retain,
            payload_size,
            count,
            refused,
        } => debug!(
            target: "ringmq::packets",
            client = &**client_id,
            topic = &*String::from_utf8_lossy(topic),
            qos = *qos as u8,
            retain,
            size = payload_size,
            count,
            refused = refused.map(|refusal| refusal.name()),
            "publish"
        ),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}
