//! The last losses of a shard, one by one: who, what, why, when.
//!
//! Invariant: case `n`, counted from the first, stands at `n % CASES_MAX`, and the last `CASES_MAX`
//! are there.

use std::fmt;
use std::time::Duration;

use crate::ids::ClientKey;
use crate::loss::{Bound, Cut, Loss};
use crate::time::Instant;
use crate::topic::TopicFilter;

/// The last losses.
#[derive(Default)]
pub struct Cases {
    ring: Vec<Case>,
    /// Cases so far.
    count: u64,
}

/// Losses of one client on one topic for one reason, with nothing else in between.
#[derive(Clone, Copy)]
struct Case {
    loss: Loss,
    /// `None`: nobody in particular.
    key: Option<ClientKey>,
    client: Cut,
    topic: Cut,
    bound: Option<Bound>,
    /// When the last was.
    at: Instant,
    count: u64,
}

/// Who lost what.
#[derive(Clone, Copy)]
pub struct LossOf<'a> {
    pub loss: Loss,
    /// The client, if it is known.
    pub client: Option<(ClientKey, &'a str)>,
    pub topic: &'a [u8],
    pub bound: Option<Bound>,
}

/// Which cases a page is to have: those that all of this is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LossQuery {
    /// Only those before this one; `None`: beginning with the newest. [`LossPage::next`] of the
    /// page before.
    pub before: Option<u64>,
    /// At most that many rows; at least one.
    pub rows_max: usize,
    /// Only of this client.
    pub client_id: Option<Box<str>>,
    /// Only on topics that this matches. Topics are compared as far as they were kept.
    pub filter: Option<TopicFilter>,
    /// Only for the reason of this name.
    pub reason: Option<Box<str>>,
    /// Only such that are no older.
    pub age_max: Option<Duration>,
}

/// Some cases, the newest first.
#[derive(Clone, Debug, Default)]
pub struct LossPage {
    /// The cases; perhaps none, although there is a next page.
    pub rows: Vec<LossRow>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<u64>,
}

/// A case.
#[derive(Clone, Debug)]
pub struct LossRow {
    /// Why.
    pub loss: Loss,
    /// Who, cut at [`Cut::CUT_SIZE_MAX`] bytes; empty: nobody in particular.
    pub client: Cut,
    /// The topic or filter of it.
    pub topic: Cut,
    /// The bound that was reached.
    pub bound: Option<Bound>,
    /// So long ago the last was.
    pub ago: Duration,
    /// How many, one after the other.
    pub count: u64,
}

impl Cases {
    /// Cases that are kept.
    pub const CASES_MAX: usize = 4096;
    /// Cases that are looked at for a page.
    pub const LOOKED_AT_MAX: u64 = 1024;
    /// Most rows of a page.
    pub const ROWS_MAX: usize = 256;

    /// Adds one. Costs no allocation but while the ring grows.
    pub fn note(&mut self, of: &LossOf<'_>, now: Instant) {
        let (key, name) = match of.client {
            Some((key, name)) => (Some(key), name),
            None => (None, ""),
        };
        let topic = Cut::of(of.topic);
        let last = self.count.checked_sub(1).map(place);
        if let Some(last) = last.and_then(|at| self.ring.get_mut(at))
            && (last.loss, last.key, last.topic) == (of.loss, key, topic)
        {
            last.count += 1;
            last.at = now;
            last.bound = of.bound;
            return;
        }
        let case = Case {
            loss: of.loss,
            key,
            client: Cut::of(name.as_bytes()),
            topic,
            bound: of.bound,
            at: now,
            count: 1,
        };
        match self.ring.get_mut(place(self.count)) {
            Some(oldest) => *oldest = case,
            None => self.ring.push(case),
        }
        self.count += 1;
    }

    /// Some of them. `key`: of the client that `query` names.
    pub fn page(&self, query: &LossQuery, key: Option<ClientKey>, now: Instant) -> LossPage {
        let rows_max = query.rows_max.clamp(1, Cases::ROWS_MAX);
        let oldest = self.count - self.ring.len() as u64;
        let newest = query.before.unwrap_or(self.count).min(self.count);
        let until = newest.saturating_sub(Cases::LOOKED_AT_MAX).max(oldest);
        let mut page = LossPage::default();
        for number in (until..newest).rev() {
            let case = &self.ring[place(number)];
            let ago = now.saturating_since(case.at);
            if query.age_max.is_some_and(|max| ago > max) {
                return page; // What follows is older.
            }
            let is_meant = query.client_id.is_none() || case.key == key;
            let is_on_topic = |filter: &TopicFilter| filter.matches(case.topic.as_bytes());
            if !is_meant
                || query
                    .reason
                    .as_deref()
                    .is_some_and(|reason| reason != case.loss.name())
                || !query.filter.as_ref().is_none_or(is_on_topic)
            {
                continue;
            }
            if page.rows.len() == rows_max {
                page.next = Some(number + 1);
                return page;
            }
            page.rows.push(LossRow {
                loss: case.loss,
                client: case.client,
                topic: case.topic,
                bound: case.bound,
                ago,
                count: case.count,
            });
        }
        page.next = Some(until).filter(|&until| until > oldest);
        page
    }
}

fn place(number: u64) -> usize {
    (number % Cases::CASES_MAX as u64) as usize
}

impl fmt::Debug for Cases {
    /// Nothing: what a shard does next does not depend on it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cases")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::DropReason;
    use crate::topic::TopicLimits;

    const REASONS: [Loss; 2] = [
        Loss::Dropped(DropReason::QueueFull),
        Loss::Dropped(DropReason::Expired),
    ];

    /// What the ring is to hold.
    struct Model(Vec<(Loss, u64, String, u64)>);

    impl Model {
        fn note(&mut self, loss: Loss, client: u64, topic: &str) {
            match self.0.last_mut() {
                Some(last) if (last.0, last.1, &*last.2) == (loss, client, topic) => last.3 += 1,
                _ => self.0.push((loss, client, topic.to_owned(), 1)),
            }
        }

        fn newest(&self, fits: impl Fn(&(Loss, u64, String, u64)) -> bool) -> Vec<(String, u64)> {
            let kept = self.0.iter().rev().take(Cases::CASES_MAX);
            let fitting = kept.filter(|case| fits(case));
            fitting.map(|case| (case.2.clone(), case.3)).collect()
        }
    }

    fn listed(cases: &Cases, query: &LossQuery, key: Option<ClientKey>) -> Vec<(String, u64)> {
        let mut query = query.clone();
        let mut rows = Vec::new();
        loop {
            let page = cases.page(&query, key, Instant::from_nanos(1 << 40));
            assert!(page.rows.len() <= query.rows_max.clamp(1, Cases::ROWS_MAX));
            rows.extend(page.rows);
            match page.next {
                Some(next) => query.before = Some(next),
                None => break,
            }
        }
        let text = |row: LossRow| String::from_utf8(row.topic.as_bytes().to_vec()).unwrap();
        rows.into_iter()
            .map(|row| (text(row.clone()), row.count))
            .collect()
    }

    #[test]
    fn the_last_cases_are_listed_page_by_page_like_those_of_a_list() {
        for seed in 0..30 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut cases = Cases::default();
            let mut model = Model(Vec::new());
            for number in 0..random.u64(1..10_000) {
                let (reason, client) = (random.usize(..2), random.u64(..3));
                let topic = format!("t/{}", random.u8(..4));
                let of = LossOf {
                    loss: REASONS[reason],
                    client: Some((ClientKey(client), "c")),
                    topic: topic.as_bytes(),
                    bound: None,
                };
                cases.note(&of, Instant::from_nanos(number));
                model.note(REASONS[reason], client, &topic);
            }
            let all = LossQuery {
                rows_max: random.usize(1..300),
                ..LossQuery::default()
            };
            assert_eq!(listed(&cases, &all, None), model.newest(|_| true));
            let filter = TopicFilter::parse("+/1", &TopicLimits::default()).unwrap();
            let some = LossQuery {
                client_id: Some("c".into()),
                reason: Some(REASONS[1].name().into()),
                filter: Some(filter),
                ..all
            };
            let expected =
                model.newest(|case| (case.0, case.1, &*case.2) == (REASONS[1], 2, "t/1"));
            assert_eq!(
                listed(&cases, &some, Some(ClientKey(2))),
                expected,
                "{seed}"
            );
        }
    }

    #[test]
    fn what_is_too_old_is_not_listed() {
        let mut cases = Cases::default();
        for second in 0..10 {
            let topic = second.to_string();
            let of = LossOf {
                loss: REASONS[0],
                client: None,
                topic: topic.as_bytes(),
                bound: None,
            };
            cases.note(&of, Instant::ZERO + Duration::from_secs(second));
        }
        let query = LossQuery {
            age_max: Some(Duration::from_secs(3)),
            rows_max: 100,
            ..LossQuery::default()
        };
        let page = cases.page(&query, None, Instant::ZERO + Duration::from_secs(9));
        assert_eq!((page.rows.len(), page.next), (4, None));
    }
}
