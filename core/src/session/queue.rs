//! Messages that wait for one client: it is away, or its window is full, or its socket is slow.
//!
//! Invariant: `bytes` is the sum of the sizes of the messages in it.

use std::collections::VecDeque;
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
    pub grounds: Option<Arc<Grounds>>,
    /// The generation of the rules by which the client may have it.
    pub rules: u32,
}

/// On what grounds a client gets a message, where it matters later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grounds {
    /// Subscription identifiers to send.
    pub subscription_ids: Box<[NonZeroU32]>,
    /// The shared subscription that chose the client; the message goes to another member if the
    /// session ends before it was delivered.
    pub share: Option<Arc<TopicFilter>>,
}

impl Delivery {
    /// Subscription identifiers to send.
    pub fn subscription_ids(&self) -> &[NonZeroU32] {
        self.grounds
            .as_deref()
            .map_or(&[], |grounds| &grounds.subscription_ids)
    }

    /// The shared subscription that chose the client.
    pub fn share(&self) -> Option<&Arc<TopicFilter>> {
        self.grounds.as_deref()?.share.as_ref()
    }
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Delivery) -> bool {
        self.message.parts().payload == other.message.parts().payload
            && self.message.topic() == other.message.topic()
            && (self.qos, self.retain) == (other.qos, other.retain)
            && self.grounds == other.grounds
    }
}

impl Eq for Delivery {}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Delivery>,
    bytes: u64,
    /// No message that waits expires before; `None`: none expires.
    expires_first: Option<Instant>,
}

impl Queue {
    /// Whether one more message of this size keeps it within `count_max` messages and `bytes_max`
    /// bytes. One message always fits into an empty queue.
    pub fn has_room(&self, size: u64, count_max: u32, bytes_max: u32) -> bool {
        let is_over =
            self.waiting.len() >= count_max as usize || self.bytes + size > u64::from(bytes_max);
        !is_over || (self.waiting.is_empty() && count_max > 0)
    }

    /// Appends a message.
    pub fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.message.size() as u64;
        let expires_at = delivery.message.expires_at;
        self.expires_first = [self.expires_first, expires_at].into_iter().flatten().min();
        self.waiting.push_back(delivery);
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.waiting.pop_front()?;
        self.bytes -= delivery.message.size() as u64;
        if self.waiting.is_empty() {
            assert!(self.bytes == 0, "an empty queue holds no bytes");
            *self = Queue::default();
        }
        Some(delivery)
    }

    /// Takes what has expired, wherever it stands [MQTT-3.3.2-5]. Looks at every message only if one
    /// may have expired since the last time.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Delivery> {
        if self.expires_first.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let waiting = std::mem::take(self);
        for delivery in waiting {
            match delivery.message.expires_at {
                Some(at) if at <= now => expired.push(delivery),
                _ => self.push(delivery),
            }
        }
        expired
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that the waiting messages keep in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl IntoIterator for Queue {
    type Item = Delivery;
    type IntoIter = std::collections::vec_deque::IntoIter<Delivery>;

    fn into_iter(self) -> Self::IntoIter {
        self.waiting.into_iter()
    }
}

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
            grounds: None,
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
