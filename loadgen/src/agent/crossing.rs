//! Which deliveries go from one machine to another.

use ringmq_core::codec::QoS;
use ringmq_problem::{Complaint, Problem};

use crate::plan::Plan;
use crate::scenario::{Keyed as _, Start};

/// The deliveries of a plan whose publisher and subscriber are on different machines.
#[derive(Debug)]
pub struct Crossing {
    /// By stream: deliveries on other machines that a message owes.
    copies: Vec<u32>,
    /// By group: some of its clients get messages of other machines, and the lowest QoS of those.
    groups: Vec<Option<QoS>>,
}

impl Crossing {
    /// Of a plan for machines of so many threads each.
    pub fn of(plan: &Plan, threads_each: usize) -> Crossing {
        let mut crossing = Crossing {
            copies: vec![0; plan.streams.count()],
            groups: vec![None; plan.groups.len()],
        };
        if plan.threads == threads_each {
            return crossing;
        }
        let mut shares = std::collections::HashSet::new();
        for (group, planned) in plan.groups.iter().enumerate() {
            for thread in 0..plan.threads {
                for client in plan.clients_on(group, thread) {
                    let Some(reading) = planned.readers.get(client as usize) else {
                        continue;
                    };
                    let share = reading.share.as_ref();
                    let share = share.filter(|share| shares.insert(share.id));
                    let matched = reading.own.iter().chain(share.map(|share| &share.matched));
                    for stream in matched.flat_map(|matched| matched.streams()) {
                        crossing.count(plan, threads_each, (group, thread), stream);
                    }
                }
            }
        }
        crossing
    }

    fn count(&mut self, plan: &Plan, threads_each: usize, to: (usize, usize), stream: u32) {
        let (group, thread) = to;
        let from = plan.thread_of(plan.streams.slot(stream));
        if from / threads_each != thread / threads_each {
            self.copies[stream as usize] += 1;
            let qos = plan.qos(stream);
            let lowest = &mut self.groups[group];
            *lowest = Some(lowest.map_or(qos, |lowest| lowest.min(qos)));
        }
    }

    /// There is one.
    pub fn is_any(&self) -> bool {
        self.groups.iter().any(Option::is_some)
    }

    /// Clients of the group get messages of other machines.
    pub fn reaches(&self, group: usize) -> bool {
        self.groups.get(group).is_some_and(Option::is_some)
    }

    /// The share of the deliveries that cross, of all that were owed.
    pub fn share(&self, plan: &Plan) -> f64 {
        let (mut crossed, mut owed) = (0.0, 0.0);
        for (stream, copies) in (0..).zip(&self.copies) {
            let sent = f64::from(plan.streams.last_sequence(stream));
            crossed += sent * f64::from(*copies);
            owed += sent * f64::from(plan.streams.copies(stream));
        }
        if owed > 0.0 { crossed / owed } else { 0.0 }
    }

    /// What cannot be done if deliveries cross: the machines would have to know of each other's
    /// messages at once.
    pub fn check(&self, plan: &Plan) -> Vec<Problem> {
        let mut problems = Vec::new();
        let windows = plan.specs.iter().enumerate();
        for (group, spec) in windows.filter(|(_, spec)| spec.window.is_some()) {
            if self.leaves(plan, group) {
                let what =
                    "is a closed loop, and subscribers of its messages are on other machines";
                let fix = "give it a `rate`, or topics that pair clients of the same number, such \
                           as t/{index}; or leave out --on";
                problems.push(spec.problem("window", Complaint::new(what, fix)));
            }
        }
        for (group, spec) in plan.specs.iter().enumerate() {
            let Some(lowest) = self.groups[group] else {
                continue;
            };
            let comes_back = [
                (spec.reconnect, "reconnect"),
                (spec.cut_every.is_some(), "cut_every"),
                (spec.online.is_some(), "online"),
                (spec.start == Start::Window, "start"),
            ];
            let keeps = !spec.clean && spec.qos.min(lowest) > QoS::AtMostOnce;
            if let Some((_, key)) = comes_back.iter().find(|(comes, _)| *comes && !keeps) {
                let what = "makes subscribers miss messages of other machines, which they cannot \
                            tell from lost ones";
                let fix = "add clean = false with QoS 1 or 2, or topics that pair clients of the \
                           same number; or leave out --on";
                problems.push(spec.problem(key, Complaint::new(what, fix)));
            }
        }
        problems
    }

    /// Messages of the group go to other machines.
    fn leaves(&self, plan: &Plan, group: usize) -> bool {
        let count = self.copies.len() as u32;
        (0..count).any(|stream| {
            self.copies[stream as usize] > 0 && plan.streams.slot(stream) / plan.threads == group
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    fn plan(text: &str, threads: usize) -> Plan {
        Plan::new(file::parse("f.toml", text).unwrap(), "0000", threads, false).unwrap()
    }

    const PAIRS: &str = "[[group]]\nname = \"s\"\nclients = 5\nsubscribe = \"t/{index}\"\n\
                         [[group]]\nname = \"p\"\nclients = 5\npublish = \"t/{index}\"\n\
                         window = 1\n";

    #[test]
    fn pairs_stay_on_a_machine_and_what_everybody_reads_does_not() {
        for (text, machines, share, subjects) in [
            (PAIRS.to_owned(), 1, 0.0, &[][..]),
            (PAIRS.to_owned(), 2, 0.0, &[]),
            (PAIRS.to_owned(), 3, 0.0, &[]),
            // Two of five subscribers are on the other machine than each of the publishers.
            (PAIRS.replace("t/{index}\"\n[", "t/+\"\n["), 1, 0.0, &[]),
            (
                PAIRS.replace("t/{index}\"\n[", "t/+\"\n["),
                2,
                (2.0 * 3.0 + 3.0 * 2.0) / 25.0,
                &["p.window"],
            ),
            (
                PAIRS
                    .replace("t/{index}\"\n[", "t/+\"\nreconnect = true\n[")
                    .replace("window", "rate"),
                2,
                (2.0 * 3.0 + 3.0 * 2.0) / 25.0,
                &["s.reconnect"],
            ),
            (
                PAIRS
                    .replace(
                        "t/{index}\"\n[",
                        "t/+\"\nreconnect = true\nclean = false\nqos = 1\n[",
                    )
                    .replace("window = 1", "rate = 1\nqos = 1"),
                2,
                (2.0 * 3.0 + 3.0 * 2.0) / 25.0,
                &[],
            ),
        ] {
            let plan = plan(&text, machines * 2);
            let crossing = Crossing::of(&plan, 2);
            assert_eq!(crossing.is_any(), share > 0.0, "{machines}: {text}");
            for stream in 0..plan.streams.count() as u32 {
                plan.streams.note_sent(stream, 10);
            }
            assert!(
                (crossing.share(&plan) - share).abs() < 1e-9,
                "{machines}: {text}"
            );
            let problems = crossing.check(&plan);
            let found: Vec<&str> = problems.iter().map(|p| p.subject.as_str()).collect();
            assert_eq!(found, subjects, "{machines}: {text}");
        }
    }

    #[test]
    fn a_shared_subscription_gets_each_message_once() {
        let text = PAIRS.replace("\"t/{index}\"\n[", "\"$share/g/t/+\"\n[");
        let plan = plan(&text, 4);
        let crossing = Crossing::of(&plan, 2);
        for stream in 0..plan.streams.count() as u32 {
            plan.streams.note_sent(stream, 1);
        }
        // All its members are on the first machine, with two of the five publishers.
        assert!((crossing.share(&plan) - 0.6).abs() < 1e-9);
        assert!(crossing.reaches(0) && !crossing.reaches(1));
    }
}
