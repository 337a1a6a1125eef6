//! Messages queued for one client: it is offline, its window is full, or its socket is slow.
//!
//! It also counts: each QoS 1 or 2 message that the session takes has a number, whether it waits here or is
//! sent at once. A message that is refused has none, and QoS 0 never waits.
//!
//! Invariants:
//! - numbers ascend along `places`, and all are below `next`.
//! - `bytes` is the sum of the sizes of the messages in it.
//! - `expiries` names exactly the messages that expire.
//! - `holes` counts the places without a message; the first is never one.
//! - an empty queue holds no memory.

use std::collections::{BTreeSet, VecDeque};

use super::{Delivery, Unsettled};
use crate::codec::QoS;
use crate::ids::DeliveryNo;
use crate::time::Instant;

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    places: VecDeque<Place>,
    /// Number of the next message that the session takes.
    next: DeliveryNo,
    holes: u32,
    bytes: u64,
    /// `None`: none expires.
    expiries: Option<Box<Expiries>>,
}

/// Of one message.
#[derive(Debug)]
struct Place {
    no: DeliveryNo,
    /// `None`: has expired, and was taken.
    delivery: Option<Delivery>,
}

/// When messages expire, and which.
type Expiries = BTreeSet<(Instant, DeliveryNo)>;

impl Queue {
    /// Whether one more message of this size keeps it within `count_max` messages and `bytes_max`
    /// bytes. One message always fits into an empty queue.
    pub fn has_room(&self, size: u64, count_max: u32, bytes_max: u32) -> bool {
        let is_over = self.len() >= count_max as usize || self.bytes + size > u64::from(bytes_max);
        !is_over || (self.is_empty() && count_max > 0)
    }

    /// Appends a message, and gives its number.
    pub fn push(&mut self, delivery: Delivery) -> DeliveryNo {
        let no = self.next;
        self.push_as(no, delivery);
        no
    }

    /// The number of a message that is sent at once: nothing waits that would go before it.
    pub fn take_number(&mut self) -> DeliveryNo {
        assert!(
            self.places.is_empty(),
            "messages are sent in the order of their numbers"
        );
        let no = self.next;
        self.next.0 += 1;
        no
    }

    /// Number of the next message that the session takes.
    pub fn next_number(&self) -> DeliveryNo {
        self.next
    }

    /// Number of the next message to be sent: of the oldest one, or of the next one that comes.
    pub fn next_to_send(&self) -> DeliveryNo {
        self.places.front().map_or(self.next, |place| place.no)
    }

    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<(DeliveryNo, Delivery)> {
        let Place { no, delivery } = self.places.pop_front()?;
        let delivery = delivery.expect("no hole is first");
        self.bytes -= delivery.message.size() as u64;
        if let Some(at) = delivery.message.expires_at {
            let expiries = self.expiries.as_mut().expect("this one expires");
            expiries.remove(&(at, no));
        }
        self.drop_holes();
        Some((no, delivery))
    }

    /// Takes what has expired, wherever it stands [MQTT-3.3.2-5]. Costs nothing for what has not.
    pub fn take_expired(&mut self, now: Instant) -> Vec<(DeliveryNo, Delivery)> {
        let mut expired = Vec::new();
        let Some(expiries) = &mut self.expiries else {
            return expired;
        };
        while let Some(&(at, no)) = expiries.first()
            && at <= now
        {
            expiries.pop_first();
            let index = self.places.binary_search_by_key(&no, |place| place.no);
            let place = &mut self.places[index.expect("what expires has a place")];
            let delivery = place.delivery.take().expect("what expires waits");
            self.bytes -= delivery.message.size() as u64;
            self.holes += 1;
            expired.push((no, delivery));
        }
        self.drop_holes();
        expired
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.places.len() - self.holes as usize
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the waiting messages keep in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What waits, the oldest first, from a number on.
    pub fn waiting_from(&self, no: DeliveryNo) -> impl Iterator<Item = (DeliveryNo, &Delivery)> {
        let begin = self.places.partition_point(|place| place.no < no);
        let places = self.places.range(begin..);
        places.filter_map(|place| Some((place.no, place.delivery.as_ref()?)))
    }

    /// What waits, of a session that ends.
    pub fn into_waiting(self) -> impl Iterator<Item = Delivery> {
        self.places.into_iter().filter_map(|place| place.delivery)
    }

    /// What waits, beginning with `from`.
    pub(super) fn unsettled(
        &self,
        from: DeliveryNo,
    ) -> impl Iterator<Item = (DeliveryNo, Unsettled)> {
        let begin = self.places.partition_point(|place| place.no < from);
        self.places.range(begin..).filter_map(|place| {
            let delivery = place.delivery.clone()?;
            Some((place.no, Unsettled::Unsent(delivery)))
        })
    }

    /// Appends a message that has a number: that of the next one, or after a restart a higher one.
    pub(super) fn push_as(&mut self, no: DeliveryNo, delivery: Delivery) {
        assert!(
            delivery.qos > QoS::AtMostOnce,
            "QoS 0 is sent at once or dropped, and has no number"
        );
        self.skip_to(no);
        self.next.0 += 1;
        self.bytes += delivery.message.size() as u64;
        if let Some(at) = delivery.message.expires_at {
            self.expiries.get_or_insert_default().insert((at, no));
        }
        let delivery = Some(delivery);
        self.places.push_back(Place { no, delivery });
    }

    /// Numbers below `next` are given no more.
    pub(super) fn skip_to(&mut self, next: DeliveryNo) {
        assert!(next >= self.next, "no number is given twice");
        self.next = next;
    }

    /// Drops the holes at the front, and all once they are more than half; gives memory back with the last
    /// message.
    fn drop_holes(&mut self) {
        if self.is_empty() {
            assert!(self.bytes == 0, "an empty queue holds no bytes");
            *self = Queue {
                next: self.next,
                ..Queue::default()
            };
            return;
        }
        while self.places.front().is_some_and(Place::is_hole) {
            self.places.pop_front();
            self.holes -= 1;
        }
        if self.holes as usize > HOLES_KEPT_MAX.max(self.places.len() / 2) {
            self.places.retain(|place| !place.is_hole());
            self.places.shrink_to_fit();
            self.holes = 0;
        }
    }

    /// Panics if an invariant does not hold. Walks the queue: for tests and the simulator.
    pub fn assert_invariants(&self) {
        let mut bytes = 0;
        let mut expiries = Expiries::new();
        for Place { no, delivery } in &self.places {
            let Some(delivery) = delivery else { continue };
            bytes += delivery.message.size() as u64;
            expiries.extend(delivery.message.expires_at.map(|at| (at, *no)));
        }
        assert_eq!(self.bytes, bytes, "bytes are counted as they change");
        let listed = self.expiries.as_deref();
        assert!(
            listed.unwrap_or(&Expiries::new()) == &expiries,
            "exactly what expires is listed"
        );
        let holes = self.places.iter().filter(|place| place.is_hole()).count();
        assert_eq!(self.holes as usize, holes, "holes are counted as they come");
        assert!(
            !self.places.front().is_some_and(Place::is_hole),
            "no hole is first"
        );
        assert!(
            self.places.iter().is_sorted_by(|a, b| a.no < b.no),
            "numbers ascend"
        );
        assert!(
            self.places.back().is_none_or(|last| last.no < self.next),
            "what waits was given its number before"
        );
        if self.places.is_empty() {
            assert_eq!(self.places.capacity(), 0, "an empty queue holds no memory");
            assert!(self.expiries.is_none(), "an empty queue holds no memory");
        }
    }
}

impl Place {
    fn is_hole(&self) -> bool {
        self.delivery.is_none()
    }
}

/// So few holes are not worth moving messages.
const HOLES_KEPT_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::testing;

    fn delivery(payload_size: usize) -> Delivery {
        expiring(payload_size, None)
    }

    fn expiring(payload_size: usize, expires_at: Option<Instant>) -> Delivery {
        testing::delivery(&vec![0; payload_size], QoS::AtLeastOnce, expires_at)
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
            let no = queue.push(expiring(step as usize % 100, expires_at));
            assert_eq!(no, DeliveryNo(step), "each message has its number");
            model.push_back((no, step as usize % 100, expires_at));
            if random % 4 == 0 {
                let popped = queue
                    .pop()
                    .map(|(no, d)| (no, d.message.parts().payload.len()));
                assert_eq!(popped, model.pop_front().map(|(no, size, _)| (no, size)));
            }
            let expired = queue.take_expired(at(step)).into_iter();
            let expired: BTreeSet<DeliveryNo> = expired.map(|(no, _)| no).collect();
            let is_due = |expires_at: &Option<Instant>| expires_at.is_some_and(|on| on <= at(step));
            let due = model.iter().filter(|(_, _, expires_at)| is_due(expires_at));
            assert_eq!(expired, due.map(|(no, _, _)| *no).collect());
            model.retain(|(_, _, expires_at)| !is_due(expires_at));
            assert_eq!(queue.len(), model.len());
            assert_eq!(queue.next_number(), DeliveryNo(step + 1));
            let first = model.front().map_or(DeliveryNo(step + 1), |(no, _, _)| *no);
            assert_eq!(queue.next_to_send(), first);
            if model.len() > 200 {
                model.pop_front();
                queue.pop();
            }
            places_max = places_max.max(queue.places.len());
            if step % 64 == 0 {
                queue.assert_invariants();
            }
        }
        let rest = queue
            .into_waiting()
            .map(|d| d.message.parts().payload.len());
        assert!(rest.eq(model.into_iter().map(|(_, size, _)| size)));
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
        let sizes = |taken: &[(DeliveryNo, Delivery)]| -> Vec<usize> {
            // Each has the payload of its number, and one byte more.
            for (no, delivery) in taken {
                assert_eq!(delivery.message.parts().payload.len() as u64, no.0 + 1);
            }
            let payloads = taken.iter().map(|(_, d)| d.message.parts().payload.len());
            payloads.collect()
        };
        assert_eq!(sizes(&queue.take_expired(at(4))), []);
        assert_eq!(sizes(&queue.take_expired(at(5))), [2, 5]);
        assert_eq!(sizes(&queue.take_expired(at(8))), []);
        assert_eq!(sizes(&queue.take_expired(at(9))), [3]);
        let rest: Vec<(DeliveryNo, Delivery)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(sizes(&rest), [1, 4]);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn a_number_is_given_once_whether_its_message_waits_or_not() {
        let mut queue = Queue::default();
        assert_eq!(queue.take_number(), DeliveryNo(0));
        assert_eq!(queue.push(delivery(1)), DeliveryNo(1));
        assert_eq!(queue.push(delivery(1)), DeliveryNo(2));
        assert_eq!(queue.next_to_send(), DeliveryNo(1));
        assert_eq!(queue.pop().map(|(no, _)| no), Some(DeliveryNo(1)));
        assert_eq!(queue.next_to_send(), DeliveryNo(2));
        assert_eq!(queue.pop().map(|(no, _)| no), Some(DeliveryNo(2)));
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.next_to_send(), DeliveryNo(3));
        assert_eq!(queue.take_number(), DeliveryNo(3));
        assert_eq!(queue.next_number(), DeliveryNo(4));
        queue.assert_invariants();
    }

    #[test]
    #[should_panic(expected = "in the order of their numbers")]
    fn nothing_overtakes_what_waits() {
        let mut queue = Queue::default();
        queue.push(delivery(1));
        queue.take_number();
    }

    #[test]
    fn a_place_in_the_queue_is_as_large_as_one_in_the_window() {
        assert_eq!(size_of::<Delivery>(), 24);
        assert_eq!(size_of::<Place>(), 32);
        assert_eq!(size_of::<Queue>(), 64);
    }
}
