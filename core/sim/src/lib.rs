//! The deterministic simulator of Ringmq's shards.
//!
//! A run puts the real shards, simulated clients and a network that fails into one thread. A seed
//! decides everything: what the clients do, who takes the next step, what gets lost. The clients
//! speak MQTT in bytes and hold the broker to its promises (`oracle`, a file per promise). The same
//! seed gives the same run, so a failure is one number.
//!
//! Where to start reading: `world.rs` (a run), `client` (what a client does), `broker.rs` and
//! `shell.rs` (turns of shards), `oracle` (the promises), `mix.rs` (what seeds choose from),
//! `tamper.rs` (faults that are planted to see whether the oracle notices).

mod asker;
mod broken;
mod broker;
mod client;
mod crash;
mod disk;
mod link;
mod message;
mod mix;
mod oracle;
mod patience;
mod pipe;
mod rng;
mod shell;
mod storm;
mod subscription;
mod surroundings;
mod tamper;
mod trace;
mod will;
mod wire;
mod workload;
mod world;

pub use broken::Broken;
pub use disk::{Crash, Disk};
pub use rng::Rng;
pub use tamper::Sabotage;

use asker::Asker;
use mix::Mix;
use trace::Trace;
use world::World;

/// What a run without a broken promise amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Equal for two runs exactly when the same happened.
    pub trace_hash: u64,
    /// Messages that clients got.
    pub delivered_count: u64,
}

/// Runs one seed. `printed`: the event log goes to standard output.
pub fn run_seed(seed: u64, sabotage: Option<Sabotage>, printed: bool) -> Result<Summary, Broken> {
    run(seed, sabotage, printed, Some(Asker::new(seed)))
}

/// Runs one seed, in which nobody asks the shards anything: the same happens.
pub fn run_seed_unasked(seed: u64) -> Result<Summary, Broken> {
    run(seed, None, false, None)
}

fn run(
    seed: u64,
    sabotage: Option<Sabotage>,
    printed: bool,
    asker: Option<Asker>,
) -> Result<Summary, Broken> {
    let mix = Mix::draw(seed);
    if printed {
        println!("{mix:#?}");
    }
    let mut world = World::new(seed, mix, sabotage, Trace::new(printed));
    world.broker.asker = asker;
    world.run()?;
    Ok(Summary {
        trace_hash: world.trace.hash(),
        delivered_count: world.oracle.delivered_count(),
    })
}
