//! The course of a storm: its phases, and when it is over.
//!
//! Phases are segments of the course whose ends are not known before: *before*, *away* until the
//! first client is back, *returning* until all are, *after*.

use std::sync::atomic::Ordering;

use super::abort;
use crate::course::Segment;
use crate::recovery::Recovery;
use crate::report::Second;
use crate::scenario::storm::{GOOD_S, Storm};
use crate::scenario::threshold::{Metric, Relation, Threshold};
use crate::shared::Shared;
use crate::times::Times;

/// What a storm has come to, on the main thread.
#[derive(Debug)]
pub(super) struct Course {
    before_ns: u64,
    phase: Phase,
    /// When all were back for the first time.
    all_back_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeforeOrAway,
    Returning,
    After,
}

impl Course {
    pub(super) fn of(storm: &Storm) -> Course {
        Course {
            before_ns: storm.before.as_nanos() as u64,
            phase: Phase::BeforeOrAway,
            all_back_at: None,
        }
    }

    /// Looks at who is back; true if there is nothing more to see.
    pub(super) fn look(&mut self, shared: &Shared, now: u64, recovered: bool) -> bool {
        if now < shared.publish_at().saturating_add(self.before_ns) {
            return false;
        }
        let Presence { hit, back } = Presence::of(shared);
        let is_next = match self.phase {
            Phase::BeforeOrAway => back > 0,
            Phase::Returning => back >= hit,
            Phase::After => false,
        };
        if is_next {
            self.phase = match self.phase {
                Phase::BeforeOrAway => Phase::Returning,
                Phase::Returning | Phase::After => Phase::After,
            };
            begin_segment(shared, now);
        }
        if self.phase == Phase::After {
            self.all_back_at.get_or_insert(now);
        }
        let since = self.all_back_at.map(|at| now.saturating_sub(at));
        recovered && since.is_some_and(|since| since >= AFTER_NS)
    }
}

/// The segment that is running ends in a moment, and another one begins.
fn begin_segment(shared: &Shared, now: u64) {
    let (course, _) = shared.course();
    let mut course = (*course).clone();
    let at = now + LEAD_NS - shared.publish_at();
    let end_ns = course.segments().last().map_or(at, |last| last.end_ns);
    course.end_segment(at);
    course.add_segment(Segment {
        begin_ns: at,
        end_ns,
    });
    shared.set_course(course);
}

/// Tells good seconds from others.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Vec<Threshold>,
    /// Of the clients that are hit, so many have to be back.
    back: f64,
    recovery: Recovery,
}

/// Who is there, as a good second wants it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Presence {
    /// Clients that the storm hit.
    pub(super) hit: u64,
    /// Of those, back.
    pub(super) back: u64,
}

impl Presence {
    pub(super) fn of(shared: &Shared) -> Presence {
        Presence {
            hit: shared.sum(|board| board.hit.load(Ordering::Acquire)),
            back: shared.sum(|board| board.back.load(Ordering::Acquire)),
        }
    }
}

impl Watch {
    pub(super) fn of(storm: &Storm) -> Watch {
        Watch {
            limits: storm.limits.clone(),
            back: storm.back,
            recovery: Recovery::new(storm.before.as_secs(), GOOD_S, storm.within.as_secs()),
        }
    }

    /// A second is over; with the latencies of what arrived in it, of a group or of all.
    pub(super) fn see(
        &mut self,
        second: &Second,
        presence: Presence,
        latencies: impl Fn(Option<&str>) -> Times,
    ) {
        let wanted = (presence.hit as f64 * self.back - ROUNDING).ceil() as u64;
        let is_back = presence.hit > 0 && presence.back >= wanted;
        let keeps = |limit: &Threshold| {
            let times = latencies(limit.group.as_deref());
            keeps_to(limit, abort::value(limit, second, &times), second)
        };
        let is_good = is_back && self.limits.iter().all(keeps);
        self.recovery.see(second.at_s as u64, is_good);
    }

    pub(super) fn recovered_s(&self) -> Option<u64> {
        self.recovery.recovered_s()
    }
}

/// Where nothing arrived though something was sent, no latency was kept.
fn keeps_to(limit: &Threshold, value: Option<f64>, second: &Second) -> bool {
    match (value, limit.metric) {
        (Some(value), _) => limit.holds(value),
        (None, Metric::Time(..)) => match limit.relation {
            Relation::Above | Relation::AtLeast => true,
            Relation::Below | Relation::AtMost | Relation::Equal => second.sent == 0,
        },
        (None, _) => false,
    }
}

/// The threads hear of a phase before it begins.
const LEAD_NS: u64 = 20_000_000;
/// What is seen once all are back.
const AFTER_NS: u64 = GOOD_S * 1_000_000_000;
/// Shares of large numbers are not exact.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::fleet::{Fleet, StormTally};
    use crate::payload::Payloads;
    use crate::plan::Plan;
    use crate::scenario::file;
    use crate::shared::Stage;

    fn watch(limits: &[&str]) -> Watch {
        let mut storm = Storm::default();
        let limits = limits.iter().map(|text| Storm::limit(text).unwrap());
        storm.limits = limits.collect();
        storm.before = std::time::Duration::from_secs(2);
        Watch::of(&storm)
    }

    /// When a broker recovers that has all back after some seconds, and answers fast after more.
    fn recovered(limits: &[&str], back_after: u64, fast_after: u64) -> Option<u64> {
        let mut watch = watch(limits);
        for number in 0..30 {
            let since = number as u64 - 2 * u64::from(number >= 2);
            let second = Second {
                at_s: f64::from(number),
                span_s: 1.0,
                sent: 10,
                received: 10,
                ..Second::default()
            };
            let is_back = number < 2 || since >= back_after;
            let presence = Presence {
                hit: if number < 2 { 0 } else { 1000 },
                back: if is_back { 990 } else { 989 },
            };
            watch.see(&second, presence, |group| {
                let mut times = Times::default();
                let slow = number >= 2 && since < fast_after && group != Some("calm");
                times.record(if slow { 90_000 } else { 100 });
                times
            });
        }
        watch.recovered_s()
    }

    #[test]
    fn a_good_second_has_the_clients_back_and_keeps_to_its_limits() {
        let limit = &["latency.p99 < 5ms"][..];
        for (limits, back_after, fast_after, expected) in [
            (&[][..], 0, 20, Some(0)),
            (&[], 7, 0, Some(7)),
            (limit, 3, 9, Some(9)),
            (limit, 9, 3, Some(9)),
            (limit, 0, 24, None),
            (&["calm: latency.p99 < 5ms"], 2, 20, Some(2)),
            (&["received >= 11"], 0, 0, None),
        ] {
            let found = recovered(limits, back_after, fast_after);
            assert_eq!(found, expected, "{limits:?} {back_after} {fast_after}");
        }
    }

    #[test]
    fn where_nothing_arrives_no_latency_is_kept_unless_nothing_was_sent() {
        let limit = Storm::limit("latency.p99 < 5ms").unwrap();
        for (sent, expected) in [(0, true), (1, false)] {
            let second = Second {
                sent,
                ..Second::default()
            };
            assert_eq!(keeps_to(&limit, None, &second), expected);
        }
    }

    /// How a broker answers CONNECT that came so long after the storm.
    #[derive(Clone, Copy)]
    enum Door {
        /// It refuses up to a time, and lets everybody in from there on.
        ShutFor(u64),
        /// It takes a while for each, one after the other, and does not know who has given up.
        Slow { per_s: u64 },
    }

    /// Clients in a storm, and a broker of which all is known, in virtual time.
    struct World {
        shared: Arc<Shared>,
        fleet: Fleet,
        door: Door,
        /// When the broker is done with what it has to do.
        free_at: u64,
        /// Answers: when, to whom, on which of its connections, and the packet.
        answers: VecDeque<(u64, u32, u32, [u8; 4])>,
        connections: Vec<u32>,
        storm_at: u64,
    }

    impl World {
        fn new(text: &str, door: Door) -> World {
            let scenario = file::parse("f.toml", text).unwrap();
            let plan = Plan::new(scenario, "0000", 1, false).unwrap();
            let wakeup = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
            let payloads = Payloads::new(0, 64);
            let shared = Arc::new(Shared::new(plan, payloads, false, vec![wakeup]));
            let mut fleet = Fleet::new(shared.clone(), 0);
            fleet.start(0);
            World {
                connections: vec![0; fleet.client_count()],
                shared,
                fleet,
                door,
                free_at: 0,
                answers: VecDeque::new(),
                storm_at: u64::MAX,
            }
        }

        /// What happens up to a time, and at it.
        fn step(&mut self, now: u64) {
            while let Some(&(at, client, connection, packet)) = self.answers.front()
                && at <= now
            {
                self.answers.pop_front();
                if self.connections[client as usize] == connection {
                    self.fleet.on_bytes(client, now, &packet);
                }
            }
            self.fleet.tick(now);
            for client in std::mem::take(&mut self.fleet.outbox.dials) {
                self.fleet.on_connected(client, now);
                self.connections[client as usize] += 1;
                let connection = self.connections[client as usize];
                let (at, code) = self.answer(now);
                let packet = [0x20, 2, 0, code];
                self.answers.push_back((at, client, connection, packet));
            }
            for client in std::mem::take(&mut self.fleet.outbox.dirty) {
                self.fleet.take_output(client, now);
            }
            for client in std::mem::take(&mut self.fleet.outbox.closes) {
                self.connections[client as usize] += 1;
                self.fleet.on_closed(client, now);
            }
        }

        fn answer(&mut self, now: u64) -> (u64, u8) {
            match self.door {
                _ if now < self.storm_at => (now, 0),
                Door::ShutFor(span_ns) => (now, 3 * u8::from(now < self.storm_at + span_ns)),
                Door::Slow { per_s } => {
                    self.free_at = self.free_at.max(now) + SECOND_NS / per_s;
                    (self.free_at, 0)
                }
            }
        }

        /// All of it; gives when the broker recovered, and what the storm did.
        fn run(mut self) -> (Option<u64>, StormTally, Vec<Segment>) {
            let settling = |shared: &Shared| {
                shared.sum(|board| u64::from(board.settling.load(Ordering::Relaxed)))
            };
            let mut now = 0;
            while settling(&self.shared) > 0 {
                self.step(now);
                now += STEP_NS;
            }
            let spec = self.shared.plan.scenario.storm.clone().unwrap();
            self.storm_at = now + spec.before.as_nanos() as u64;
            self.shared.set_publish_at(now);
            self.shared.set_window_start(now);
            let end = now + spec.span_max().as_nanos() as u64;
            self.shared.set_window_end(end);
            self.shared.set_stage(Stage::Publish);
            let (begin, mut second) = (now, 0);
            let (mut course, mut watch) = (Course::of(&spec), Watch::of(&spec));
            while now < end {
                self.step(now);
                now += STEP_NS;
                if now - begin >= (second + 1) * SECOND_NS {
                    let over = Second {
                        at_s: second as f64,
                        ..Second::default()
                    };
                    watch.see(&over, Presence::of(&self.shared), |_| Times::default());
                    second += 1;
                }
                if course.look(&self.shared, now, watch.recovered_s().is_some()) {
                    break;
                }
            }
            let segments = self.shared.course().0.segments().to_vec();
            (
                watch.recovered_s(),
                self.fleet.take_storm().unwrap(),
                segments,
            )
        }
    }

    fn crowd(clients: u32, backoff: &str, more: &str) -> String {
        format!(
            "answer_timeout = \"1s\"\n[storm]\nbackoff = \"{backoff}\"\n{more}\n\
             [[group]]\nname = \"crowd\"\nclients = {clients}\nkeep_alive = 0\n"
        )
    }

    #[test]
    fn a_broker_recovers_when_it_lets_everybody_in_again() {
        for (backoff, shut_s, attempts, expected) in [
            // At 0.5 s, 1 s and so on: the fourteenth attempt is the first that is let in.
            ("exp(500ms, 1, 500ms, none)", 7, 14, 7),
            // 1, 3, 7 and 15 s after the storm.
            ("exp(1s, 2, 60s, none)", 7, 3, 7),
            ("exp(1s, 2, 60s, none)", 8, 4, 15),
        ] {
            // A millisecond less, because clients dial a bit later than they mean to.
            let door = Door::ShutFor(shut_s * SECOND_NS - 1_000_000);
            let (recovered, tally, segments) = World::new(&crowd(300, backoff, ""), door).run();
            let case = format!("{backoff} {shut_s}");
            assert_eq!(recovered, Some(expected), "{case}");
            assert_eq!((tally.hit, tally.attempts), (300, 300 * attempts), "{case}");
            let failures: Vec<(&str, u64)> = tally
                .failures
                .iter()
                .map(|(why, count)| (why.as_str(), *count))
                .collect();
            let [(why, count)] = failures[..] else {
                panic!("{failures:?}");
            };
            assert!(why.starts_with("refused: ServerUnavailable"), "{why}");
            assert_eq!(count, 300 * (attempts - 1), "{case}");
            let last = *tally.returns_us.iter().max().unwrap();
            assert!((last / 1_000_000) == expected, "{case}: {last}");
            // Before, away up to the first return, returning, after.
            assert_eq!(segments.len(), 4, "{case}");
            assert!(segments[1].end_ns / SECOND_NS == 5 + expected, "{case}");
        }
    }

    #[test]
    fn time_outs_that_feed_on_themselves_end_with_a_polite_back_off_only() {
        let door = Door::Slow { per_s: 50 };
        let text = crowd(300, "exp(100ms, 1, 100ms, none)", "within = \"40s\"");
        let (recovered, tally, segments) = World::new(&text, door).run();
        assert_eq!(recovered, None);
        // Of the first queue, those of its first second are let in, and nobody after them.
        assert!(tally.returns_us.len() < 100, "{}", tally.returns_us.len());
        assert!(tally.failures["no answer"] > 5000, "{:?}", tally.failures);
        assert_eq!(segments.len(), 3, "it never comes to what is after");
        let text = crowd(300, "exp(1s, 2, 60s, full)", "");
        let (recovered, tally, _) = World::new(&text, door).run();
        assert!(
            recovered.is_some_and(|seconds| seconds > 5),
            "{recovered:?}"
        );
        assert_eq!(tally.returns_us.len(), 300);
    }

    #[test]
    fn a_return_counts_from_when_it_was_due() {
        let door = Door::Slow { per_s: 500 };
        // All at once: the last one waits for 400 others, whatever `connecting_max` is.
        let text = crowd(400, "exp(2s, 1, 2s, none)", "back = \"100 %\"");
        let (recovered, tally, _) = World::new(&text, door).run();
        assert_eq!((recovered, tally.attempts), (Some(2), 400));
        let longest = tally.connect.quantile(1.0).unwrap();
        assert!((795_000..850_000).contains(&longest), "{longest}");
    }

    #[test]
    fn only_a_share_of_the_groups_that_are_named_is_hit() {
        let text = crowd(
            100,
            "exp(1s, 1, 1s, none)",
            "share = \"25 %\"\nof = \"crowd\"",
        ) + "[[group]]\nname = \"others\"\nclients = 50\nkeep_alive = 0\n";
        let (recovered, tally, _) = World::new(&text, Door::ShutFor(0)).run();
        assert_eq!((recovered, tally.hit, tally.attempts), (Some(1), 25, 25));
    }

    const SECOND_NS: u64 = 1_000_000_000;
    /// As long as a turn of a busy generator.
    const STEP_NS: u64 = 2_000_000;
}
