//! Asks shards at random what they hold, as an operator would, and checks what they answer.
//!
//! It draws from a stream of its own and leaves no trace: a run with it and one without it are the same.

use std::collections::BTreeSet;

use ringmq_core::codec::QoS;
use ringmq_core::shard::{
    Answer, Ask, ClientQuery, Disconnected, Event, Gauges, LossQuery, MatchPlace, MessageTerms,
    Outbox, RetainedQuery, SessionFilter, SessionPage, SessionQuery, SessionRow, Shard,
    SubscriberQuery, SubscriberRow, TopicOrder, TopicQuery, TraceOf, TraceOrder, TracePage, Traces,
    Whose,
};
use ringmq_core::time::Instant;
use ringmq_core::topic::{TopicFilter, TopicLimits};

use crate::rng::Rng;

/// Who asks.
#[derive(Debug)]
pub struct Asker {
    rng: Rng,
    /// Takes the answers; nothing else may come into it.
    outbox: Outbox,
}

impl Asker {
    pub fn new(seed: u64) -> Asker {
        Asker {
            rng: Rng::new(seed, ASKER_SALT),
            outbox: Outbox::new(1),
        }
    }

    /// Asks a shard now and then, between two of its events.
    pub fn may_ask(&mut self, shard: &mut Shard, now: Instant) {
        if !self.rng.one_in(ASKED_EVERY) {
            return;
        }
        if shard.deadlines().earliest() == Some(Instant::ZERO) {
            return; // The next event does what is due in any turn, and its effects are not the asker's.
        }
        let gauges = shard.gauges();
        match self.rng.below(8) {
            0 => self.check_report(shard, now, &gauges),
            1 | 2 => self.check_pages(shard, now, &gauges),
            3 => self.check_retained(shard, now, &gauges),
            4 => self.check_losses(shard, now),
            5 => self.check_topics(shard, now),
            6 => self.trace(shard, now),
            _ => self.check_stranger(shard, now),
        }
    }

    fn check_report(&mut self, shard: &mut Shard, now: Instant, gauges: &Gauges) {
        let Answer::Report(report) = self.ask(shard, now, Ask::Report) else {
            panic!("a report was asked for");
        };
        let holdings = report.holdings;
        assert_eq!(holdings.sessions, gauges.sessions as u64);
        assert_eq!(holdings.sockets, gauges.connections as u64);
        assert_eq!(holdings.queued_messages, gauges.queued_messages as u64);
        assert_eq!(holdings.unsent_bytes, gauges.unsent_bytes);
        assert_eq!(holdings.retained_messages, gauges.retained as u64);
        assert_eq!(report.metrics, *shard.metrics());
    }

    /// All pages together have every session once, and each page no more than was asked for.
    fn check_pages(&mut self, shard: &mut Shard, now: Instant, gauges: &Gauges) {
        let rows_max = 1 + self.rng.index(8);
        let is_connected = [None, Some(true), Some(false)][self.rng.index(3)];
        let mut rows: Vec<SessionRow> = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let query = SessionQuery {
                from,
                rows_max,
                filter: SessionFilter {
                    is_connected,
                    ..SessionFilter::default()
                },
            };
            let Answer::Sessions(page) = self.ask(shard, now, Ask::Sessions(query)) else {
                panic!("sessions were asked for");
            };
            let SessionPage {
                rows: more,
                next: after,
            } = page;
            assert!(more.len() <= rows_max, "a page is bounded");
            assert!(after.is_none_or(|after| after > from), "pages go on");
            assert!(more.iter().all(|row| row.slot >= from), "no page goes back");
            rows.extend(more);
            next = after;
        }
        let slots: BTreeSet<u32> = rows.iter().map(|row| row.slot).collect();
        assert_eq!(slots.len(), rows.len(), "a session is listed once");
        let is_right = |row: &SessionRow| is_connected.is_none_or(|is| is == row.link.is_some());
        assert!(rows.iter().all(is_right), "the filter holds");
        if is_connected.is_none() {
            assert_eq!(rows.len(), gauges.sessions, "every session is listed");
            let queued: usize = rows.iter().map(|row| row.queued_messages).sum();
            assert_eq!(queued, gauges.queued_messages);
        }
        for row in rows {
            let client_id = row.client_id.clone();
            let Answer::Session(Some(one)) = self.ask(shard, now, Ask::Session { client_id })
            else {
                panic!("{} is listed", row.client_id);
            };
            assert_eq!(one.slot, row.slot);
            self.check_session(shard, now, &one);
        }
    }

    /// What belongs to a session is as much as its row says, and every subscription has the session among its
    /// subscribers.
    fn check_session(&mut self, shard: &mut Shard, now: Instant, row: &SessionRow) {
        let query = |from| ClientQuery {
            client_id: row.client_id.clone(),
            from,
            rows_max: 7,
        };
        let mut filters = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let Answer::SubscriptionsOf(Some(page)) =
                self.ask(shard, now, Ask::SubscriptionsOf(query(from)))
            else {
                panic!("its subscriptions were asked for");
            };
            filters.extend(page.rows.into_iter().map(|row| row.filter));
            next = page.next;
        }
        assert_eq!(filters.len(), row.subscriptions);
        let (mut queued, mut next) = (0, Some(0));
        while let Some(from) = next {
            let Answer::QueueOf(Some(page)) = self.ask(shard, now, Ask::QueueOf(query(from)))
            else {
                panic!("its queue was asked for");
            };
            queued += page.rows.len();
            next = page.next;
        }
        assert_eq!(queued, row.queued_messages);
        for filter in filters {
            let filter = TopicFilter::parse(&filter, &TopicLimits::default());
            let of = Whose::Filter(filter.expect("it was subscribed to"));
            let rows = self.subscribers(shard, now, &of, None);
            let own = rows.iter().filter(|other| other.client_id == row.client_id);
            assert_eq!(own.count(), 1, "a subscriber of its filter");
        }
    }

    fn subscribers(
        &mut self,
        shard: &mut Shard,
        now: Instant,
        of: &Whose,
        message: Option<MessageTerms>,
    ) -> Vec<SubscriberRow> {
        let mut rows = Vec::new();
        let mut next = Some(MatchPlace::default());
        while let Some(from) = next {
            let ask = Ask::Subscribers(SubscriberQuery {
                of: of.clone(),
                from,
                rows_max: 5,
                message: message.clone(),
            });
            let Answer::Subscribers(page) = self.ask(shard, now, ask) else {
                panic!("subscribers were asked for");
            };
            assert!(page.next.is_none_or(|after| after > from), "pages go on");
            rows.extend(page.rows);
            next = page.next;
        }
        rows
    }

    /// Every retained message is listed once, found by its topic, and has subscribers that can be told.
    fn check_retained(&mut self, shard: &mut Shard, now: Instant, gauges: &Gauges) {
        let mut topics = BTreeSet::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let query = RetainedQuery {
                from,
                rows_max: 6,
                filter: None,
            };
            let Answer::Retained(page) = self.ask(shard, now, Ask::Retained(query)) else {
                panic!("retained messages were asked for");
            };
            for row in page.rows {
                let topic = String::from_utf8(row.message.topic().to_vec());
                let is_new = topics.insert(topic.expect("topics are text"));
                assert!(is_new, "a message is listed once");
            }
            next = page.next;
        }
        // Those of the broker, and those that have expired and are still there, are not listed.
        assert!(topics.len() <= gauges.retained);
        for topic in topics {
            let topic: Box<str> = topic.into();
            let ask = Ask::RetainedOf {
                topic: topic.clone(),
            };
            let answer = self.ask(shard, now, ask);
            assert!(matches!(answer, Answer::RetainedOf(Some(_))), "{answer:?}");
            let message = MessageTerms {
                publisher: None,
                qos: QoS::AtLeastOnce,
                payload_size: 9,
            };
            let rows = self.subscribers(shard, now, &Whose::Topic(topic), Some(message));
            assert!(rows.iter().all(|row| row.fate.is_some()));
        }
    }

    /// The pages of the losses hold no more than was asked for, and go on.
    fn check_losses(&mut self, shard: &mut Shard, now: Instant) {
        let mut before = None;
        let mut count = 0;
        loop {
            let query = LossQuery {
                before,
                rows_max: 9,
                ..LossQuery::default()
            };
            let Answer::Losses(page) = self.ask(shard, now, Ask::Losses(query)) else {
                panic!("losses were asked for");
            };
            assert!(page.rows.len() <= 9, "a page is bounded");
            count += page.rows.iter().map(|row| row.count).sum::<u64>();
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        let metrics = shard.metrics();
        let all: u64 = metrics.dropped.iter().chain(&metrics.refused.0).sum();
        assert!(count <= all, "what is a case is counted");
    }

    /// No more is counted by topic than there was.
    fn check_topics(&mut self, shard: &mut Shard, now: Instant) {
        let mut count = 0;
        let mut next = Some(0);
        while let Some(from) = next {
            let ask = Ask::Topics(TopicQuery {
                from,
                rows_max: 8,
                by: TopicOrder::Messages,
            });
            let Answer::Topics(page) = self.ask(shard, now, ask) else {
                panic!("topics were asked for");
            };
            assert!(page.rows.len() <= 8, "a page is bounded");
            assert!(page.next.is_none_or(|after| after > from), "pages go on");
            count += page
                .rows
                .iter()
                .map(|row| row.traffic.messages)
                .sum::<u64>();
            next = page.next;
        }
        let metrics = shard.metrics();
        let all = metrics.publishes_received.iter().sum::<u64>() + metrics.wills_published;
        assert!(count <= all, "what is counted was published");
    }

    /// Takes out what was traced, and mostly traces something else.
    fn trace(&mut self, shard: &mut Shard, now: Instant) {
        let (mut count, mut has_more) = (0, true);
        while has_more {
            let Answer::Traced(page) = self.ask(shard, now, Ask::Traced) else {
                panic!("events were asked for");
            };
            assert!(page.events.len() <= TracePage::EVENTS_MAX);
            count += page.events.len();
            has_more = page.has_more;
        }
        assert!(count <= Traces::EVENTS_MAX, "what waits is bounded");
        let index = 3;
        self.ask(shard, now, Ask::EndTrace { index });
        self.find_traced(shard, now);
        let of = match self.rng.below(4) {
            0 => return,
            1 => {
                let filter = TopicFilter::parse("#", &TopicLimits::default());
                TraceOf::Topic(filter.expect("it is one"))
            }
            2 => TraceOf::Address([127, 0, 0, 1].into()),
            _ => match self.some_client(shard, now) {
                Some(client_id) => TraceOf::Client(client_id),
                None => return,
            },
        };
        let order = TraceOrder {
            index,
            of,
            payload_max: self.rng.index(20),
            has_stages: true,
        };
        self.ask(shard, now, Ask::Trace(order));
        self.find_traced(shard, now);
    }

    fn find_traced(&mut self, shard: &mut Shard, now: Instant) {
        let mut next = Some(0);
        while let Some(from) = next {
            let Answer::FindTraced(after) = self.ask(shard, now, Ask::FindTraced { from }) else {
                panic!("it was to look");
            };
            next = after;
        }
    }

    fn some_client(&mut self, shard: &mut Shard, now: Instant) -> Option<Box<str>> {
        let query = SessionQuery {
            rows_max: 20,
            ..SessionQuery::default()
        };
        let Answer::Sessions(mut page) = self.ask(shard, now, Ask::Sessions(query)) else {
            panic!("sessions were asked for");
        };
        let count = page.rows.len();
        let row = (count > 0).then(|| page.rows.swap_remove(self.rng.index(count)));
        row.map(|row| row.client_id)
    }

    /// Who is not there is not found, nor disconnected.
    fn check_stranger(&mut self, shard: &mut Shard, now: Instant) {
        let client_id: Box<str> = "no client of any workload".into();
        let ask = Ask::Session {
            client_id: client_id.clone(),
        };
        let answer = self.ask(shard, now, ask);
        assert!(matches!(answer, Answer::Session(None)), "{answer:?}");
        let answer = self.ask(
            shard,
            now,
            Ask::EndSession {
                client_id: client_id.clone(),
            },
        );
        assert!(matches!(answer, Answer::EndSession(false)), "{answer:?}");
        let topic: Box<str> = "no/topic/of any workload".into();
        let answer = self.ask(shard, now, Ask::Unretain { topic });
        assert!(matches!(answer, Answer::Unretain(false)), "{answer:?}");
        let ask = Ask::Disconnect {
            client_id,
            with_will: self.rng.one_in(2),
        };
        let answer = self.ask(shard, now, ask);
        let is_unknown = matches!(answer, Answer::Disconnect(Disconnected::Unknown));
        assert!(is_unknown, "{answer:?}");
    }

    fn ask(&mut self, shard: &mut Shard, now: Instant, ask: Ask) -> Answer {
        let out = &mut self.outbox;
        shard.handle(now, Event::Asked { ask }, out);
        let answer = out
            .answers
            .pop()
            .expect("what is asked is answered at once");
        let is_quiet = out.dirty.is_empty() && out.closes.is_empty() && out.readings.is_empty();
        assert!(
            is_quiet && out.posted_count() == 0,
            "asking changes nothing"
        );
        assert!(out.answers.is_empty() && out.disk.is_empty() && out.records.is_empty());
        answer
    }
}

/// A stream of its own.
const ASKER_SALT: u64 = 0xA5C;
/// Chances to ask, for one question: an answer is compared with a walk over everything.
const ASKED_EVERY: u64 = 200;
