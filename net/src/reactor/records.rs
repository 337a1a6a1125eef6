//! Records of the core, as log lines. The core limits their rate to one per second and reason.

use std::borrow::Cow;

use ringmq_core::refusal::Refusal;
use ringmq_core::shard::{Loss, Record};
use tracing::{info, warn};

use super::{Core, Reactor};
use ringmq_ring::Ring;

impl<R: Ring, C: Core> Reactor<R, C> {
    pub(super) fn log_records(&mut self) {
        if self.outbox.records.is_empty() {
            return;
        }
        let shard = self.id.index();
        for record in self.outbox.records.drain(..) {
            log(shard, &record);
        }
    }
}

/// A lost message is a warning: somebody may look for it. A refusal was reported to the client,
/// which can provoke it as often as it likes.
fn log(shard: usize, record: &Record) {
    let (reason, count) = (record.loss.name(), record.count);
    // What is not known has no field.
    let client = Some(&*record.client).filter(|client| !client.is_empty());
    let user = Some(&*record.user).filter(|user| !user.is_empty());
    let peer = record.peer.map(|peer| peer.to_string());
    let by = record.by.map(|by| by.to_string());
    let topic = String::from_utf8_lossy(&record.topic);
    let topic = Some(&*topic).filter(|topic| !topic.is_empty());
    match record.loss {
        Loss::Dropped(_) => warn!(
            target: "ringmq::dropped",
            reason, client, user, peer, topic, count, shard, "messages dropped"
        ),
        Loss::Refused(refusal) => info!(
            target: "ringmq::refused",
            reason, client, user, peer, by, topic, count, shard, "{}", advice(refusal)
        ),
    }
}

/// The text of a refusal; of those that a setting on the other side explains, what that is.
fn advice(refusal: Refusal) -> Cow<'static, str> {
    let text = refusal.text();
    match refusal {
        Refusal::TlsHandshake => {
            format!("{text}: connect without TLS, or to a listener with mqtts://").into()
        }
        Refusal::HttpRequest => format!(
            "{text}: a health check wants plain TCP or /livez of the control plane, a browser ws://"
        )
        .into(),
        _ => text.into(),
    }
}
