//! Checks an MQTT broker with rumqttc, speaking 3.1.1 and 5.0.
//!
//! Usage: `ringmq-rumqttc-check HOST PORT [SCENARIO...]`
//!
//! Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed.
//! Every scenario runs with [`PAIRS`] pairs of client ids at once, so that publishers and
//! subscribers meet on every shard of a broker that places clients by a hash of their id.

#![forbid(unsafe_code)]

mod client;
mod scenarios;

use std::process::ExitCode;
use std::time::Duration;

use client::{Fault, Place, Version};
use scenarios::Scenario;
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, wanted @ ..] = arguments.as_slice() else {
        eprintln!("usage: ringmq-rumqttc-check HOST PORT [SCENARIO...]");
        return ExitCode::from(2);
    };
    let Ok(port) = port.parse() else {
        eprintln!("not a port: {port}");
        return ExitCode::from(2);
    };
    let mut runs = JoinSet::new();
    for version in [Version::V311, Version::V5] {
        for scenario in scenarios::ALL
            .iter()
            .filter(|scenario| scenario.speaks(version))
        {
            if wanted.is_empty() || wanted.iter().any(|name| name == scenario.name) {
                runs.spawn(run_pairs(*scenario, version, host.clone(), port));
            }
        }
    }
    let mut failed = false;
    while let Some(run) = runs.join_next().await {
        let (name, outcome) = run.expect("a scenario reports its faults as values");
        failed |= outcome.is_err();
        match outcome {
            Ok(()) => println!("ok {name}"),
            Err(why) => println!("FAIL {name}: {why}"),
        }
    }
    ExitCode::from(u8::from(failed))
}

/// Runs one scenario for every pair of client ids; its name and the first fault.
async fn run_pairs(
    scenario: Scenario,
    version: Version,
    host: String,
    port: u16,
) -> (String, Result<(), Fault>) {
    let name = format!("{version}/{}", scenario.name);
    let mut pairs = JoinSet::new();
    for index in 0..PAIRS {
        let tag = format!(
            "rs-{}-{}-{index}",
            std::process::id(),
            name.replace('/', "-")
        );
        let place = Place {
            host: host.clone(),
            port,
            version,
            tag: tag.clone(),
        };
        pairs.spawn(async move {
            let body = (scenario.body)(place);
            let outcome = tokio::time::timeout(SCENARIO_MAX, body).await;
            outcome
                .unwrap_or_else(|_| Err(format!("not done within {SCENARIO_MAX:?}")))
                .map_err(|why| format!("{tag}: {why}"))
        });
    }
    let mut outcome = Ok(());
    while let Some(pair) = pairs.join_next().await {
        outcome = outcome.and(pair.unwrap_or_else(|panic| Err(panic.to_string())));
    }
    (name, outcome)
}

const PAIRS: usize = 8;
/// Far above the sum of what a scenario waits for; each wait inside has a shorter deadline of its
/// own.
const SCENARIO_MAX: Duration = Duration::from_secs(60);
