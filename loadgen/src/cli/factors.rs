//! `--speed` and `--scale`: the same scenario, faster or with more clients. They are not the same: more
//! clients also mean more subscribers, so that a message for all of them goes to more.

use ringmq_problem::{Complaint, Problem};

use super::{at, problem};
use crate::scenario::Scenario;

/// Multiplies the rate of each client.
pub(super) fn apply_speed(scenario: &mut Scenario, text: &str) -> Result<(), Problem> {
    let factor = factor_of(text).map_err(|complaint| at("speed", complaint))?;
    let mut is_changed = false;
    for group in &mut scenario.groups {
        if let Some(rate) = &mut group.rate {
            *rate = rate.times(factor);
            is_changed = true;
        }
    }
    if is_changed {
        return Ok(());
    }
    let what = "applies to no group of this scenario: none has a rate";
    let fix = "use a scenario with `rate`, or --rate; a closed loop has the speed of the broker";
    Err(problem("--speed", what, fix.to_owned()))
}

/// Multiplies the clients of each group, at least to one.
pub(super) fn apply_scale(scenario: &mut Scenario, text: &str) -> Result<(), Problem> {
    let factor = factor_of(text).map_err(|complaint| at("scale", complaint))?;
    for group in &mut scenario.groups {
        let clients = (f64::from(group.clients) * factor).round().max(1.0);
        if clients > f64::from(CLIENTS_MAX) {
            let what = format!("gives the group {} {clients} clients", group.name);
            let fix = format!("a group has at most {CLIENTS_MAX}: choose a smaller factor");
            return Err(at("scale", Complaint::new(what, fix)));
        }
        group.clients = clients as u32;
    }
    Ok(())
}

fn factor_of(text: &str) -> Result<f64, Complaint> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|number| (FACTOR_MIN..=FACTOR_MAX).contains(number));
    number.ok_or_else(|| {
        let what = format!("is `{text}`, which is no factor");
        Complaint::new(what, "write a number such as 2 or 0.5, from 0.001 to 1000")
    })
}

const FACTOR_MIN: f64 = 0.001;
const FACTOR_MAX: f64 = 1000.0;
/// Clients have numbers of 22 bits in a payload.
const CLIENTS_MAX: u32 = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::builtin;

    #[test]
    fn speed_is_the_rate_of_each_client_and_scale_how_many_there_are() {
        let mut scenario = builtin::load("mixed").unwrap();
        apply_speed(&mut scenario, "2").unwrap();
        apply_scale(&mut scenario, "0.1").unwrap();
        let shown: Vec<(u32, String)> = scenario
            .groups
            .iter()
            .map(|group| {
                (
                    group.clients,
                    group.rate.as_ref().map_or(String::new(), |r| r.show()),
                )
            })
            .collect();
        let shown: Vec<(u32, &str)> = shown.iter().map(|(n, rate)| (*n, &**rate)).collect();
        let expected = [
            (100, "2"),
            (2, ""),
            (1, ""),
            (1, "40"),
            (1, "0.4"),
            (50, ""),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_has_no_effect_or_is_no_factor_is_refused() {
        let mut closed = builtin::load("pairs").unwrap();
        let problem = apply_speed(&mut closed, "2").unwrap_err().to_string();
        assert!(problem.contains("none has a rate"), "{problem}");
        for text in ["", "0", "-1", "x", "1e9", "nan"] {
            let problem = apply_scale(&mut closed, text).unwrap_err().to_string();
            assert!(problem.contains("which is no factor"), "{text}: {problem}");
        }
        closed.groups[0].clients = 3_000_000;
        let problem = apply_scale(&mut closed, "2").unwrap_err().to_string();
        assert!(problem.contains("6000000 clients"), "{problem}");
    }
}
