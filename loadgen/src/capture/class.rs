//! Groups of clients that do the same, and how similar ones become one.
//!
//! A group of fewer than [`CLIENTS_MIN`] clients says something about single ones, so it joins the group that
//! is most like it. Together they send and get as much as before: that is all that remains of them.

use ringmq_core::codec::{QoS, Version};

use super::shape::Shape;
use super::sizes::Shares;

/// Clients that do the same.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) clients: f64,
    pub(super) terms: Terms,
    pub(super) publishes: Option<Publishes>,
    /// What each gets.
    pub(super) wants: Vec<Want>,
    /// The highest QoS that it gets that with.
    pub(super) wanted_qos: QoS,
}

/// How clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Terms {
    pub(super) version: Version,
    /// How long the session outlives the connection; 0: not at all.
    pub(super) expiry_s: u64,
    /// 0: none.
    pub(super) keep_alive_s: u16,
}

/// What clients publish.
#[derive(Clone, Debug)]
pub(super) struct Publishes {
    /// Messages per second of each.
    pub(super) per_s: f64,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) sizes: Shares,
    pub(super) shape: Shape,
    /// Topics of each, as far as was seen.
    pub(super) topics: u32,
}

/// What clients get from a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Want {
    /// The group.
    pub(super) of: usize,
    /// Messages per second for each client.
    pub(super) per_s: f64,
    /// Through a shared subscription.
    pub(super) is_shared: bool,
}

impl Class {
    /// Messages per second that all its clients publish.
    pub(super) fn sent_per_s(&self) -> f64 {
        let per_s = self
            .publishes
            .as_ref()
            .map_or(0.0, |publishes| publishes.per_s);
        per_s * self.clients
    }

    /// Messages per second that each of its clients gets.
    pub(super) fn wanted_per_s(&self) -> f64 {
        self.wants.iter().map(|want| want.per_s).sum()
    }
}

/// Joins groups until each has enough clients, no two are alike, and there are few enough.
pub(super) fn join(mut classes: Vec<Class>) -> Vec<Class> {
    loop {
        let is_small = |class: &Class| class.clients < CLIENTS_MIN - 0.5;
        let fewest = |a: &usize, b: &usize| classes[*a].clients.total_cmp(&classes[*b].clients);
        let smallest = (0..classes.len()).min_by(fewest);
        let pair = match smallest {
            Some(one) if is_small(&classes[one]) => nearest(&classes, one).map(|to| (one, to)),
            _ => {
                let pairs = (0..classes.len()).filter_map(|one| {
                    let to = nearest(&classes, one)?;
                    Some((one, to, distance(&classes[one], &classes[to])))
                });
                let pair = pairs.min_by(|a, b| a.2.total_cmp(&b.2));
                let is_alike = |distance: f64| distance < ALIKE || classes.len() > CLASSES_MAX;
                let pair = pair.filter(|(_, _, distance)| is_alike(*distance));
                pair.map(|(one, to, _)| (one, to))
            }
        };
        let Some((one, to)) = pair else {
            return classes;
        };
        join_two(&mut classes, one, to);
    }
}

fn nearest(classes: &[Class], of: usize) -> Option<usize> {
    let others = (0..classes.len()).filter(|other| *other != of);
    others.min_by(|a, b| {
        let distance = |other: usize| distance(&classes[of], &classes[other]);
        distance(*a).total_cmp(&distance(*b))
    })
}

/// How different two groups are: 1 is a rate that is 2.7 times as high.
fn distance(one: &Class, other: &Class) -> f64 {
    let ratio = |a: f64, b: f64| match (a > 0.0, b > 0.0) {
        (true, true) => (a / b).ln().abs(),
        (false, false) => 0.0,
        _ => OTHER_KIND,
    };
    let rate = |class: &Class| class.publishes.as_ref().map_or(0.0, |all| all.per_s);
    let mut sum = ratio(rate(one), rate(other));
    sum += ratio(one.wanted_per_s(), other.wanted_per_s());
    if let (Some(mine), Some(theirs)) = (&one.publishes, &other.publishes) {
        sum += ratio(mine.sizes.mean().max(1.0), theirs.sizes.mean().max(1.0));
        sum += f64::from(u8::from(mine.qos != theirs.qos)) * 2.0;
        sum += f64::from(u8::from(mine.retain != theirs.retain)) * 2.0;
        // Topics that were not seen may be any.
        let is_known = !mine.shape.levels.is_empty() && !theirs.shape.levels.is_empty();
        sum += f64::from(u8::from(is_known && mine.shape != theirs.shape));
    }
    let is_shared = |class: &Class| class.wants.iter().any(|want| want.is_shared);
    sum += f64::from(u8::from(is_shared(one) != is_shared(other))) * 3.0;
    sum + f64::from(u8::from(one.terms.version != other.terms.version))
        + f64::from(u8::from(one.terms.expiry_s != other.terms.expiry_s))
}

/// The first joins the second.
fn join_two(classes: &mut Vec<Class>, one: usize, to: usize) {
    let leaving = classes[one].clone();
    let class = &mut classes[to];
    let (mine, theirs) = (class.clients, leaving.clients);
    let all = mine + theirs;
    class.clients = all;
    if theirs > mine {
        class.terms = leaving.terms;
    }
    class.wanted_qos = class.wanted_qos.max(leaving.wanted_qos);
    class.publishes = joined(
        (class.publishes.take(), mine / all),
        (leaving.publishes, theirs / all),
    );
    class
        .wants
        .iter_mut()
        .for_each(|want| want.per_s *= mine / all);
    for want in leaving.wants {
        let per_s = want.per_s * theirs / all;
        add_want(&mut class.wants, Want { per_s, ..want });
    }
    classes.remove(one);
    // What was got from the one comes from the other now.
    let place = |of: usize| {
        let of = if of == one { to } else { of };
        of - usize::from(of > one)
    };
    for class in classes {
        let wants = std::mem::take(&mut class.wants);
        for want in wants {
            let of = place(want.of);
            add_want(&mut class.wants, Want { of, ..want });
        }
    }
}

/// Shared subscriptions remain such only if both are: then all members are members of one.
fn add_want(wants: &mut Vec<Want>, want: Want) {
    match wants.iter_mut().find(|known| known.of == want.of) {
        Some(known) => {
            known.per_s += want.per_s;
            known.is_shared &= want.is_shared;
        }
        None => wants.push(want),
    }
}

/// What two groups publish, each with its share of the clients.
fn joined(
    (mine, my_share): (Option<Publishes>, f64),
    (theirs, their_share): (Option<Publishes>, f64),
) -> Option<Publishes> {
    let thinned = |publishes: Publishes, share: f64| Publishes {
        per_s: publishes.per_s * share,
        ..publishes
    };
    let (mine, theirs) = match (mine, theirs) {
        (None, None) => return None,
        (Some(only), None) => return Some(thinned(only, my_share)),
        (None, Some(only)) => return Some(thinned(only, their_share)),
        (Some(mine), Some(theirs)) => (thinned(mine, my_share), thinned(theirs, their_share)),
    };
    let (mut most, least) = match mine.per_s >= theirs.per_s {
        true => (mine, theirs),
        false => (theirs, mine),
    };
    most.sizes = most.sizes.scaled(most.per_s);
    most.sizes.merge(&least.sizes.scaled(least.per_s), 1.0);
    most.per_s += least.per_s;
    most.topics = most.topics.max(least.topics);
    if most.shape.levels.is_empty() {
        most.shape = least.shape;
    }
    Some(most)
}

/// Groups with fewer clients join others.
pub(super) const CLIENTS_MIN: f64 = 5.0;
/// Groups of a profile.
pub(super) const CLASSES_MAX: usize = 40;
/// Groups that differ by less are one: a sum of logarithms of ratios.
const ALIKE: f64 = 0.9;
/// One publishes, the other does not.
const OTHER_KIND: f64 = 6.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::shape::shapes_of;

    fn terms() -> Terms {
        Terms {
            version: Version::V311,
            expiry_s: 0,
            keep_alive_s: 60,
        }
    }

    fn class(clients: f64, per_s: f64, wants: &[Want]) -> Class {
        let mut sizes = Shares::default();
        sizes.add_size(64, 1.0);
        let (shapes, _) = shapes_of(&["a/b"]);
        let publishes = Publishes {
            per_s,
            qos: QoS::AtMostOnce,
            retain: false,
            sizes,
            shape: shapes[0].clone(),
            topics: 1,
        };
        Class {
            clients,
            terms: terms(),
            publishes: (per_s > 0.0).then_some(publishes),
            wants: wants.to_vec(),
            wanted_qos: QoS::AtMostOnce,
        }
    }

    fn want(of: usize, per_s: f64) -> Want {
        let is_shared = false;
        Want {
            of,
            per_s,
            is_shared,
        }
    }

    #[test]
    fn small_groups_join_those_that_are_like_them_and_nothing_is_lost() {
        let classes = vec![
            class(1.0, 0.2, &[]),
            class(10.0, 20.0, &[]),
            class(1000.0, 0.0, &[want(0, 0.2), want(1, 0.2)]),
            class(2.0, 0.0, &[want(1, 200.0)]),
        ];
        let sums = |classes: &[Class]| {
            let sent: f64 = classes.iter().map(Class::sent_per_s).sum();
            let wanted = classes
                .iter()
                .map(|class| class.wanted_per_s() * class.clients);
            (sent.round(), wanted.sum::<f64>().round())
        };
        let before = sums(&classes);
        let joined = join(classes);
        assert_eq!(sums(&joined), before);
        let clients: Vec<f64> = joined.iter().map(|class| class.clients).collect();
        assert_eq!(clients, [11.0, 1002.0]);
        assert_eq!(joined[1].wants.len(), 1, "both are one group now");
        assert_eq!(joined[1].wants[0].of, 0);
    }

    #[test]
    fn there_are_no_more_groups_than_a_profile_has() {
        let classes = (0..100).map(|n| class(5.0 + f64::from(n), 3_f64.powi(n), &[]));
        let classes: Vec<Class> = classes.collect();
        let sent: f64 = classes.iter().map(Class::sent_per_s).sum();
        let joined = join(classes);
        assert_eq!(joined.len(), CLASSES_MAX);
        let after: f64 = joined.iter().map(Class::sent_per_s).sum();
        assert!((after / sent - 1.0).abs() < 1e-9);
    }
}
