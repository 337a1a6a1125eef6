//! A search needs rates: a closed loop has none.

use crate::scenario::Scenario;
use crate::scenario::rates::Rates;
use ringmq_problem::{Complaint, Place, Problem};

/// The scenario as a search takes it: without stages, warm-up and limits of messages; a scenario of
/// closed loops only becomes an open one, in which every publisher has the same rate. The rates are
/// only what the load is a multiple of.
pub fn open_loop(mut scenario: Scenario) -> Result<Scenario, Vec<Problem>> {
    let complain = |what: &str, fix: &str| {
        let subject = format!("`{}`", scenario.name);
        vec![Complaint::new(what, fix).at(Place::CommandLine, subject)]
    };
    let publishers = || {
        scenario
            .groups
            .iter()
            .filter(|group| group.publish.is_some())
    };
    if publishers().next().is_none() {
        return Err(complain(
            "publishes nothing, and find-max varies the rate of what is published",
            "add a group with `publish`",
        ));
    }
    let (open, closed) = (
        publishers().filter(|group| group.rate.is_some()).count(),
        publishers().filter(|group| group.rate.is_none()).count(),
    );
    if open > 0 && closed > 0 {
        return Err(complain(
            "has groups with a rate and groups with a window, and a search varies rates",
            "give every publishing group a `rate`",
        ));
    }
    if scenario.restarts {
        return Err(complain(
            "is about restarts of the broker",
            "choose a scenario without `restarts`",
        ));
    }
    scenario.stages.clear();
    scenario.thresholds.clear();
    scenario.warmup = std::time::Duration::ZERO;
    for group in &mut scenario.groups {
        if group.publish.is_some() {
            group.rate.get_or_insert(Rates::Same(1.0));
            group.window = None;
        }
        group.ramp = std::time::Duration::ZERO;
        group.messages = None;
    }
    Ok(scenario)
}
