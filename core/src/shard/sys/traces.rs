//! The traces of a shard, and the events that wait to be asked for.
//!
//! Invariant: at most [`Traces::EVENTS_MAX`] events wait; further ones are counted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::shard::mail::trace::{TraceEvent, TraceOf, TraceOrder, TracePage, Traced};
use crate::stages::Stage;
use crate::time::Instant;
use crate::trace_set::TraceSet;

/// All traces.
#[derive(Debug, Default)]
pub struct Traces {
    orders: [Option<TraceOrder>; TraceSet::TRACES_MAX],
    events: VecDeque<(Instant, TraceEvent)>,
    left_out: u64,
    /// Of what was noted since the last turn ended.
    touched: TraceSet,
    /// Of the event at hand.
    pub now: Instant,
}

impl Traces {
    /// Events that wait.
    pub const EVENTS_MAX: usize = 4096;

    /// There is a trace of this index from here on.
    pub fn begin(&mut self, order: TraceOrder) {
        let index = usize::from(order.index);
        self.orders[index] = Some(order);
    }

    /// There is no trace of this index any more; gives what it was of.
    pub fn end(&mut self, index: u8) -> Option<TraceOf> {
        let ended = self.orders.get_mut(usize::from(index))?.take();
        ended.map(|order| order.of)
    }

    /// Nothing is traced, and nothing waits.
    pub fn is_over(&self) -> bool {
        self.orders.iter().all(Option::is_none) && self.events.is_empty()
    }

    /// The traces of a client at an address.
    pub fn of_client(&self, client_id: &str, peer: Option<SocketAddr>) -> TraceSet {
        self.those(|of| match of {
            TraceOf::Client(traced) => **traced == *client_id,
            TraceOf::Address(address) => {
                peer.is_some_and(|peer| peer.ip().to_canonical() == address.to_canonical())
            }
            TraceOf::Topic(_) => false,
        })
    }

    /// The traces of a topic.
    pub fn of_topic(&self, topic: &[u8]) -> TraceSet {
        self.those(|of| match of {
            TraceOf::Topic(filter) => filter.matches(topic),
            TraceOf::Client(_) | TraceOf::Address(_) => false,
        })
    }

    fn those(&self, is_meant: impl Fn(&TraceOf) -> bool) -> TraceSet {
        self.orders_where(|order| is_meant(&order.of))
    }

    fn orders_where(&self, is_meant: impl Fn(&TraceOrder) -> bool) -> TraceSet {
        let orders = self.orders.iter().flatten();
        let meant = orders.filter(|order| is_meant(order));
        meant.fold(TraceSet::default(), |set, order| {
            set.with(TraceSet::of(order.index))
        })
    }

    /// How much of a payload the traces of a set want.
    pub fn payload_max(&self, set: TraceSet) -> usize {
        let orders = self.orders.iter().flatten();
        let wanted = orders.filter(|order| set.contains(order.index));
        let most = wanted.map(|order| order.payload_max).max().unwrap_or(0);
        most.min(TraceOrder::PAYLOAD_SIZE_MAX)
    }

    /// Adds an event, if it belongs to a trace that there is.
    pub fn push(
        &mut self,
        traces: TraceSet,
        (client_id, peer): (&str, Option<SocketAddr>),
        what: Traced,
    ) {
        let traces = traces.only(self.those(|_| true));
        if !traces.is_any() {
            return;
        }
        self.touched = self.touched.with(traces);
        self.add(traces, (client_id, peer), what);
    }

    /// Adds how long something of a client took, for those who want to know.
    pub fn push_stage(
        &mut self,
        traces: TraceSet,
        who: (&str, Option<SocketAddr>),
        (stage, took): (Stage, Duration),
    ) {
        let traces = traces.only(self.orders_where(|order| order.has_stages));
        if traces.is_any() {
            self.add(traces, who, Traced::Stage(stage, took));
        }
    }

    /// A turn has ended: those hear of it for whom something was noted.
    pub fn push_turn(&mut self, took: Duration) {
        let touched = std::mem::take(&mut self.touched);
        self.push_stage(touched, ("", None), (Stage::Turn, took));
    }

    fn add(
        &mut self,
        traces: TraceSet,
        (client_id, peer): (&str, Option<SocketAddr>),
        what: Traced,
    ) {
        if self.events.len() >= Traces::EVENTS_MAX {
            self.left_out += 1;
            return;
        }
        let event = TraceEvent {
            ago: Default::default(),
            traces,
            client_id: client_id.into(),
            peer,
            what,
        };
        self.events.push_back((self.now, event));
    }

    /// Takes the oldest events out.
    pub fn take(&mut self, now: Instant) -> TracePage {
        let count = self.events.len().min(TracePage::EVENTS_MAX);
        let taken = self.events.drain(..count);
        let events = taken.map(|(at, event)| TraceEvent {
            ago: now.saturating_since(at),
            ..event
        });
        TracePage {
            events: events.collect(),
            left_out: std::mem::take(&mut self.left_out),
            has_more: !self.events.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mail::trace::RulesStep;
    use crate::topic::{TopicFilter, TopicLimits};

    fn order(index: u8, of: TraceOf) -> TraceOrder {
        TraceOrder {
            index,
            of,
            payload_max: 10 * usize::from(index),
            has_stages: index == 1,
        }
    }

    #[test]
    fn clients_addresses_and_topics_belong_to_their_traces() {
        let filter = TopicFilter::parse("a/+", &TopicLimits::default()).unwrap();
        let mut traces = Traces::default();
        traces.begin(order(0, TraceOf::Client("c".into())));
        traces.begin(order(3, TraceOf::Topic(filter)));
        traces.begin(order(9, TraceOf::Address([127, 0, 0, 1].into())));
        let at = |text: &str| Some(text.parse().unwrap());
        let set = |indices: &[u8]| {
            let sets = indices.iter().map(|index| TraceSet::of(*index));
            sets.fold(TraceSet::default(), TraceSet::with)
        };
        for (client, peer, expected) in [
            ("c", None, &[0][..]),
            ("d", None, &[]),
            ("d", at("127.0.0.1:7"), &[9]),
            ("c", at("[::ffff:127.0.0.1]:7"), &[0, 9]),
            ("d", at("127.0.0.2:7"), &[]),
        ] {
            assert_eq!(traces.of_client(client, peer), set(expected), "{client}");
        }
        assert_eq!(traces.of_topic(b"a/b"), set(&[3]));
        assert_eq!(traces.of_topic(b"a"), set(&[]));
        assert_eq!(traces.payload_max(set(&[0, 3])), 30);
        assert!(matches!(traces.end(3), Some(TraceOf::Topic(_))));
        assert!(traces.end(3).is_none());
        assert_eq!(traces.of_topic(b"a/b"), set(&[]));
    }

    #[test]
    fn times_are_for_those_who_want_them_and_turns_for_those_with_something_in_them() {
        let mut traces = Traces::default();
        for index in [0, 1] {
            traces.begin(order(index, TraceOf::Client("c".into())));
        }
        let both = TraceSet::of(0).with(TraceSet::of(1));
        let span = Duration::from_micros(7);
        traces.push_turn(span);
        traces.push_stage(TraceSet::of(0), ("c", None), (Stage::Ack, span));
        assert!(traces.take(Instant::ZERO).events.is_empty(), "nobody asked");
        traces.push_stage(both, ("c", None), (Stage::Ack, span));
        traces.push_turn(span);
        let told = traces.take(Instant::ZERO).events;
        assert!(matches!(
            told[..],
            [TraceEvent {
                what: Traced::Stage(Stage::Ack, _),
                ..
            }]
        ));
        assert_eq!(told[0].traces, TraceSet::of(1));
        traces.push(both, ("c", None), Traced::Rules(RulesStep::Asked));
        traces.push_turn(span);
        traces.push_turn(span);
        let told = traces.take(Instant::ZERO).events;
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(matches!(told[1].what, Traced::Stage(Stage::Turn, took) if took == span));
        assert_eq!((told[0].traces, told[1].traces), (both, TraceSet::of(1)));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut traces = Traces::default();
        traces.begin(order(1, TraceOf::Client("c".into())));
        let who = ("c", None);
        for _ in 0..Traces::EVENTS_MAX + 7 {
            traces.push(TraceSet::of(1), who, Traced::Rules(RulesStep::Asked));
        }
        // Of no trace that there is.
        traces.push(TraceSet::of(2), who, Traced::Rules(RulesStep::Asked));
        traces.end(1);
        let (mut count, mut left_out) = (0, 0);
        while !traces.is_over() {
            let page = traces.take(Instant::ZERO);
            assert!(page.events.len() <= TracePage::EVENTS_MAX);
            count += page.events.len();
            left_out += page.left_out;
            assert_eq!(page.has_more, count < Traces::EVENTS_MAX);
        }
        assert_eq!((count, left_out), (Traces::EVENTS_MAX, 7));
    }
}
