//! What an account may do before it is throttled, and pays for: beyond it, the run measures the
//! quota.

use ringmq_problem::{Complaint, Problem};

use super::Service;
use super::check::peak_of;
use crate::scenario::{Group, Keyed as _, Scenario};

/// Warnings for what is beyond the quotas that an account has at first.
pub(super) fn warn(scenario: &Scenario, service: Service, warnings: &mut Vec<Problem>) {
    let quota = &service.limits().quota;
    let groups = || scenario.groups.iter();
    let mut over = |group: Option<&Group>, key: &str, what: String, most: f64| {
        let what = format!(
            "{what}, and {} has {most} at first ({}: {}): more is throttled, and costs money",
            quota.of,
            service.limits().name,
            quota.source
        );
        let fix = "have the quota raised, or use less";
        if let Some(group) = group {
            warnings.push(group.problem(key, Complaint::new(what, fix)));
        }
    };
    let publishers = || groups().filter(|group| group.publish.is_some());
    let published: f64 = publishers().map(|group| per_s(scenario, group)).sum();
    if let Some(most) = quota.published_per_s.filter(|most| published > *most) {
        let what = format!("comes to {published:.0} messages/s of all clients");
        over(publishers().next(), "rate", what, most);
    }
    let all = scenario.client_count();
    if let Some(most) = quota.clients.filter(|most| all > *most) {
        over(
            groups().next(),
            "clients",
            format!("comes to {all} clients"),
            most as f64,
        );
    }
    // Without a rate, clients connect as fast as the service answers.
    let most = quota.connects_per_s;
    for group in groups().filter(|group| group.clients > 1) {
        let rate = group.connect_rate.unwrap_or(f64::from(group.clients));
        if let Some(most) = most.filter(|most| rate > *most) {
            let what = match group.connect_rate {
                Some(rate) => format!("is {rate} connections/s"),
                None => format!("is not set, so {} clients connect at once", group.clients),
            };
            over(Some(group), "connect_rate", what, most);
        }
    }
}

/// What a group publishes at its peak.
fn per_s(scenario: &Scenario, group: &Group) -> f64 {
    let rates = group.rate.as_ref();
    rates.map_or(0.0, |rates| rates.sum(group.clients, 0)) * peak_of(scenario)
}
