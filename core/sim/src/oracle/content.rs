//! The promises about what a message looks like when it arrives, and when it may not arrive yet.

use super::{Oracle, expiry};
use crate::broken::Broken;
use crate::message::{Fate, MessageIndex};
use crate::wire::Delivery;

impl Oracle {
    pub(super) fn check_content(
        &self,
        client: usize,
        index: MessageIndex,
        got: &Delivery,
    ) -> Result<(), Broken> {
        let (message, view) = (&self.messages[index], &self.views[client]);
        let broken = |promise| self.broken(promise, client, index, got);
        if message.topic != got.topic {
            return Err(broken("a message keeps its topic"));
        }
        let named = message.label.is_some() && !message.payload.is_empty();
        if view.v5 && named && message.label != got.label {
            return Err(broken("user properties travel with the message"));
        }
        if got.retain && message.version.is_none() {
            return Err(broken("only retained messages carry RETAIN"));
        }
        if let Some(promise) = expiry::broken_promise(message, got, view.v5, self.lateness) {
            return Err(broken(promise));
        }
        if message.not_before.is_some_and(|at| got.encoded.by < at) {
            return Err(broken("a will waits for its delay"));
        }
        match message.fate {
            Fate::Armed => Err(broken("no will while its client is there")),
            Fate::Never => Err(broken("no will after DISCONNECT")),
            Fate::Open | Fate::Settled(_) => Ok(()),
        }
    }
}
