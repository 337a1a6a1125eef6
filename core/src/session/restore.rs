//! What a session still owes its client: out of its window and its queue, and back.
//!
//! Not here: how it is written and read (`store`).

use super::{Queue, Unsettled, Window};
use crate::ids::DeliveryNo;

/// The deliveries that are not settled, in the order of their numbers, beginning with `from`. Of a session
/// that outlives its connections.
pub fn unsettled(
    window: &Window,
    queue: &Queue,
    from: DeliveryNo,
) -> impl Iterator<Item = (DeliveryNo, Unsettled)> {
    window.unsettled(from).chain(queue.unsettled(from))
}

/// The window and the queue of a session whose deliveries are these, in the order of their numbers; the next
/// one that it takes gets the number `next`. Numbers below the first one, and those that are missing, are settled.
pub fn restore(
    deliveries: impl IntoIterator<Item = (DeliveryNo, Unsettled)>,
    next: DeliveryNo,
) -> (Window, Queue) {
    let mut deliveries = deliveries.into_iter().peekable();
    let oldest = deliveries.peek().map_or(next, |(no, _)| *no);
    let (mut window, mut queue) = (Window::default(), Queue::default());
    window.hold_for_log(oldest);
    for (no, delivery) in deliveries {
        // What is sent is sent in order, and no further than identifiers reach: behind something that was
        // not sent, and beyond these, nothing was.
        let is_perhaps_sent = queue.is_empty() && window.has_identifier(no);
        match delivery {
            Unsettled::Released => {
                assert!(is_perhaps_sent, "PUBREL is due for what was not sent");
                window.reopen(no, None);
            }
            Unsettled::MaybeSent(delivery) if is_perhaps_sent => window.reopen(no, Some(delivery)),
            Unsettled::MaybeSent(delivery) | Unsettled::Unsent(delivery) => {
                queue.push_as(no, delivery);
            }
        }
    }
    queue.skip_to(next);
    (window, queue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::session::testing;
    use crate::session::{Delivery, Resend};
    use crate::time::Instant;

    fn delivery(qos: QoS) -> Delivery {
        testing::delivery(b"payload", qos, None)
    }

    fn check(window: &Window, queue: &Queue) {
        window.assert_invariants(queue.next_to_send());
        queue.assert_invariants();
    }

    #[test]
    fn what_was_open_goes_again_in_order_and_with_its_identifier() {
        let (one, two) = (delivery(QoS::AtLeastOnce), delivery(QoS::ExactlyOnce));
        let deliveries = [
            (70_000, Unsettled::Released),
            (70_003, Unsettled::MaybeSent(one.clone())),
            (70_004, Unsettled::MaybeSent(two.clone())),
            (70_006, Unsettled::Unsent(one.clone())),
            (70_007, Unsettled::MaybeSent(two.clone())),
        ];
        let deliveries = deliveries.map(|(no, delivery)| (DeliveryNo(no), delivery));
        let (mut window, mut queue) = restore(deliveries, DeliveryNo(70_009));
        check(&window, &queue);
        assert_eq!((window.unsettled_count(), queue.len()), (3, 2));
        let id = |no| DeliveryNo(no).packet_id();
        assert_eq!(id(70_000).get(), 4_466);
        let mut resend = || window.next_resend(Instant::ZERO, 9);
        assert_eq!(resend(), Some(Resend::Pubrel(id(70_000))));
        let again = |no, delivery| Some(Resend::Publish(id(no), delivery));
        assert_eq!(resend(), again(70_003, one.clone()));
        assert_eq!(resend(), again(70_004, two.clone()));
        assert_eq!(resend(), None);
        assert_eq!(queue.pop(), Some((DeliveryNo(70_006), one)));
        // Behind what was not sent, nothing was.
        assert_eq!(queue.pop(), Some((DeliveryNo(70_007), two)));
        assert_eq!(queue.take_number(), DeliveryNo(70_009));
    }

    #[test]
    fn beyond_the_identifiers_nothing_was_sent() {
        let at = |no| {
            let delivery = Unsettled::MaybeSent(delivery(QoS::ExactlyOnce));
            (DeliveryNo(no), delivery)
        };
        let (window, queue) = restore([at(10), at(65_544), at(65_545)], DeliveryNo(65_546));
        check(&window, &queue);
        assert_eq!((window.unsettled_count(), queue.len()), (2, 1));
        assert_eq!(queue.next_to_send(), DeliveryNo(65_545));
        assert!(!window.has_identifier(DeliveryNo(65_545)), "10 has it");
    }

    #[test]
    fn a_session_with_nothing_open_goes_on_with_its_numbers() {
        let (window, mut queue) = restore([], DeliveryNo(1 << 40));
        check(&window, &queue);
        assert!(window.is_empty() && queue.is_empty());
        assert!(window.has_identifier(DeliveryNo(1 << 40)));
        assert_eq!(queue.take_number(), DeliveryNo(1 << 40));
    }

    /// A session after some random traffic, with the window as its last connection left it.
    fn some_session(random: &mut fastrand::Rng) -> (Window, Queue) {
        let (mut window, mut queue) = (Window::default(), Queue::default());
        for _ in 0..random.usize(..200) {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][random.usize(..2)];
            match random.u8(..8) {
                0..4 => {
                    queue.push(delivery(qos));
                }
                4 => drop(queue.pop()),
                5 => {
                    if let Some((no, delivery)) = queue.pop() {
                        window.push(Instant::ZERO, no, delivery.qos, Some(delivery));
                    }
                }
                _ => {
                    let id = DeliveryNo(random.u64(..queue.next_to_send().0 + 1)).packet_id();
                    // Whichever of them fits.
                    let _ = window.on_puback(id).or_else(|_| window.on_pubcomp(id));
                    let _ = window.on_pubrec(id);
                }
            }
        }
        (window, queue)
    }

    #[test]
    fn a_session_goes_on_after_a_restart_as_after_a_reconnect() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let (mut window, queue) = some_session(&mut random);
            let start = DeliveryNo(0);
            let owed: Vec<(DeliveryNo, Unsettled)> = unsettled(&window, &queue, start).collect();
            assert!(owed.is_sorted_by(|(a, _), (b, _)| a < b));
            let from = DeliveryNo(random.u64(..100));
            let rest = owed.iter().filter(|(no, _)| *no >= from);
            assert!(unsettled(&window, &queue, from).eq(rest.cloned()));
            let (mut restored, queue_again) = restore(owed, queue.next_number());
            check(&restored, &queue_again);
            window.rewind();
            loop {
                let resend = window.next_resend(Instant::ZERO, u16::MAX);
                assert_eq!(restored.next_resend(Instant::ZERO, u16::MAX), resend);
                if resend.is_none() {
                    break;
                }
            }
            assert_eq!(queue_again.next_number(), queue.next_number());
            assert_eq!(queue_again.bytes(), queue.bytes());
            assert!(queue_again.into_waiting().eq(queue.into_waiting()));
        }
    }
}
