//! Messages queued for one client: it is offline, its window is full, or its socket is slow.
//!
//! Invariants:
//! - `bytes` is the sum of the sizes of the messages in it.
//! - `expiries` names exactly the messages that expire.
//! - `holes` counts the places in `waiting` without a message; the first is never one.

use std::collections::{BTreeSet, VecDeque, vec_deque};
use std::iter::Flatten;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::codec::QoS;
use crate::message::Message;
use crate::time::Instant;
use crate::topic::TopicFilter;

/// A message on its way to one client: what its subscriptions made of it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The smaller of the message's and the subscription's QoS [MQTT-3.8.4-8].
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// `None`: subscriptions without identifier, none of them shared.
    pub matched: Option<Arc<KeptMatch>>,
    /// The generation of the rules by which the client may have it.
    pub rules: u32,
}

/// Which subscriptions a client gets a message by, where it matters later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptMatch {
    /// Subscription identifiers to send.
    pub subscription_ids: Box<[NonZeroU32]>,
    /// The shared subscription that chose the client; the message goes to another member if the
    /// session ends before it was delivered.
    pub share: Option<Arc<TopicFilter>>,
}

impl Delivery {
    /// Subscription identifiers to send.
    pub fn subscription_ids(&self) -> &[NonZeroU32] {
        self.matched
            .as_deref()
            .map_or(&[], |matched| &matched.subscription_ids)
    }

    /// The shared subscription that chose the client.
    pub fn share(&self) -> Option<&Arc<TopicFilter>> {
        self.matched.as_deref()?.share.as_ref()
    }
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Delivery) -> bool {
        self.message.parts().payload == other.message.parts().payload
            && self.message.topic() == other.message.topic()
            && (self.qos, self.retain) == (other.qos, other.retain)
            && self.matched == other.matched
    }
}

impl Eq for Delivery {}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    /// `None`: has expired, and was taken.
    waiting: VecDeque<Option<Delivery>>,
    /// Messages that came before the first one of `waiting`.
    first: u64,
    holes: u32,
    bytes: u64,
    /// `None`: none expires.
    expiries: Option<Box<Expiries>>,
}

/// When messages expire, and how many came before them.
type Expiries = BTreeSet<(Instant, u64)>;

impl Queue {
    /// Whether one more message of this size keeps it within `count_max` messages and `bytes_max`
    /// bytes. One message always fits into an empty queue.
    pub fn has_room(&self, size: u64, count_max: u32, bytes_max: u32) -> bool {
        let is_over = self.len() >= count_max as usize || self.bytes + size > u64::from(bytes_max);
        !is_over || (self.is_empty() && count_max > 0)
    }

    /// Appends a message.
    pub fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.message.size() as u64;
        if let Some(at) = delivery.message.expires_at {
            let number = self.first + self.waiting.len() as u64;
            self.expiries.get_or_insert_default().insert((at, number));
        }
        self.waiting.push_back(Some(delivery));
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.waiting.pop_front()?.expect("no hole is first");
        self.bytes -= delivery.message.size() as u64;
        if let Some(at) = delivery.message.expires_at {
            let expiries = self.expiries.as_mut().expect("this one expires");
            expiries.remove(&(at, self.first));
        }
        self.first += 1;
        self.drop_holes();
        Some(delivery)
    }

    /// Takes what has expired, wherever it stands [MQTT-3.3.2-5]. Costs nothing for what has not.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Delivery> {
        let mut expired = Vec::new();
        let Some(expiries) = &mut self.expiries else {
            return expired;
        };
        while let Some(&(at, number)) = expiries.first()
            && at <= now
        {
            expiries.pop_first();
            let delivery = self.waiting[(number - self.first) as usize].take();
            let delivery = delivery.expect("what expires waits");
            self.bytes -= delivery.message.size() as u64;
            self.holes += 1;
            expired.push(delivery);
        }
        self.drop_holes();
        expired
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.waiting.len() - self.holes as usize
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the waiting messages keep in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Drops the holes at the front, and all once they are more than half; gives memory back with the last
    /// message.
    fn drop_holes(&mut self) {
        if self.is_empty() {
            assert!(self.bytes == 0, "an empty queue holds no bytes");
            *self = Queue::default();
            return;
        }
        while self.waiting.front().is_some_and(Option::is_none) {
            self.waiting.pop_front();
            self.first += 1;
            self.holes -= 1;
        }
        if self.holes as usize > HOLES_KEPT_MAX.max(self.waiting.len() / 2) {
            std::mem::take(self).into_iter().for_each(|d| self.push(d));
        }
    }
}

impl IntoIterator for Queue {
    type Item = Delivery;
    type IntoIter = Flatten<vec_deque::IntoIter<Option<Delivery>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.waiting.into_iter().flatten()
    }
}

/// So few holes are not worth moving messages.
const HOLES_KEPT_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::ClientKey;
    use crate::message::MessageParts;

    fn delivery(payload_size: usize) -> Delivery {
        expiring(payload_size, None)
    }

    fn expiring(payload_size: usize, expires_at: Option<Instant>) -> Delivery {
        let message = Message::new(MessageParts {
            topic: b"t",
            properties: b"",
            payload: &vec![0; payload_size],
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at,
            publisher: ClientKey(0),
            author: None,
        });
        Delivery {
            message: Arc::new(message),
            qos: QoS::AtLeastOnce,
            retain: false,
            matched: None,
            rules: 0,
        }
    }

    #[test]
    fn the_queue_is_bounded_by_count_and_by_bytes() {
        let size = delivery(1000).message.size() as u32;
        for (count_max, bytes_max, expected) in [
            (3, u32::MAX, 3),
            (100, 3 * size, 3),
            (100, 3 * size - 1, 2),
            (100, 1, 1), // One message always fits.
            (0, u32::MAX, 0),
        ] {
            let mut queue = Queue::default();
            let mut taken = 0;
            while taken < 10 && queue.has_room(u64::from(size), count_max, bytes_max) {
                queue.push(delivery(1000));
                taken += 1;
            }
            assert_eq!(taken, expected, "{count_max} messages, {bytes_max} bytes");
            assert_eq!(queue.bytes(), expected as u64 * u64::from(size));
            while queue.pop().is_some() {}
            assert_eq!((queue.len(), queue.bytes()), (0, 0));
        }
    }

    #[test]
    fn a_queue_with_holes_is_a_list_of_messages() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let (mut queue, mut model) = (Queue::default(), VecDeque::new());
        let mut places_max = 0;
        for step in 0..20_000_u64 {
            let random = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            let expires_at = (random % 3 > 0).then(|| at(step + 1 + random % 50));
            queue.push(expiring(step as usize % 100, expires_at));
            model.push_back((step as usize % 100, expires_at));
            if random % 4 == 0 {
                let popped = queue.pop().map(|d| d.message.parts().payload.len());
                assert_eq!(popped, model.pop_front().map(|(size, _)| size));
            }
            let expired = queue.take_expired(at(step)).len();
            let before = model.len();
            model.retain(|(_, expires_at)| {
                expires_at.is_none_or(|expires_at| expires_at > at(step))
            });
            assert_eq!((expired, queue.len()), (before - model.len(), model.len()));
            if model.len() > 200 {
                model.pop_front();
                queue.pop();
            }
            places_max = places_max.max(queue.waiting.len());
        }
        let rest = queue.into_iter().map(|d| d.message.parts().payload.len());
        assert!(rest.eq(model.into_iter().map(|(size, _)| size)));
        assert!(places_max <= 2 * 201 + HOLES_KEPT_MAX, "{places_max}");
    }

    #[test]
    fn what_has_expired_is_taken_from_any_place_and_the_rest_keeps_its_order() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let mut queue = Queue::default();
        for (size, expires_at) in [
            (1, None),
            (2, Some(5)),
            (3, Some(9)),
            (4, None),
            (5, Some(5)),
        ] {
            queue.push(expiring(size, expires_at.map(at)));
        }
        let sizes = |taken: &[Delivery]| -> Vec<usize> {
            let payloads = taken.iter().map(|d| d.message.parts().payload.len());
            payloads.collect()
        };
        assert_eq!(sizes(&queue.take_expired(at(4))), []);
        assert_eq!(sizes(&queue.take_expired(at(5))), [2, 5]);
        assert_eq!(sizes(&queue.take_expired(at(8))), []);
        assert_eq!(sizes(&queue.take_expired(at(9))), [3]);
        let rest: Vec<Delivery> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(sizes(&rest), [1, 4]);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }
}
