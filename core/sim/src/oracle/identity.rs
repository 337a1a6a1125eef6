//! The promise that payloads arrive unaltered: which message a delivery is.

use super::Oracle;
use crate::broken::Broken;
use crate::message::MessageIndex;
use crate::wire::Delivery;

impl Oracle {
    /// Which message that is; found by the payload, or by the topic for the deletion of a value.
    pub fn identify(&self, client: usize, got: &Delivery) -> Result<MessageIndex, Broken> {
        let unknown = || {
            let size = got.payload.len();
            Broken::new(
                "payloads arrive unaltered",
                format!("client {client} got {size} unknown bytes on {}", got.topic),
            )
        };
        if got.payload.is_empty() {
            let seen = self.views[client]
                .values
                .get(&got.topic)
                .map_or(0, |seen| seen.version);
            let deletions = self.versions.get(&got.topic).ok_or_else(unknown)?;
            let mut deletions = deletions
                .iter()
                .filter(|&&index| self.messages[index].payload.is_empty());
            let same_label =
                |&&index: &&usize| got.label.is_some() && self.messages[index].label == got.label;
            let at = |index: usize| self.messages[index].version.unwrap_or(0);
            // Without a label it is a deletion that was seen already, or else the next one. Of
            // several that were seen any may be sent again: the latest that this client may get
            // like this.
            let fits = |&&index: &&usize| self.check_subscribed(client, index, got).is_ok();
            let mut before = deletions.clone().filter(|&&index| at(index) <= seen);
            let again = before.clone().rfind(fits).or(before.next_back());
            return deletions
                .clone()
                .find(same_label)
                .or(again.filter(|_| got.dup))
                .or(deletions.clone().find(|&&index| at(index) >= seen))
                .or(deletions.next_back())
                .copied()
                .ok_or_else(unknown);
        }
        let header = got.payload.first_chunk::<4>().ok_or_else(unknown)?;
        let index = u32::from_le_bytes(*header) as usize;
        match self.messages.get(index) {
            Some(message) if message.payload == got.payload => Ok(index),
            Some(_) | None => Err(unknown()),
        }
    }
}
