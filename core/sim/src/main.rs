//! Runs seeds of the simulator.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ringmq_sim::{Broken, Summary, run_seed};

const USAGE: &str = "\
Usage: ringmq-sim [--seeds N] [--from SEED] [--threads N]
       ringmq-sim --seed SEED [--trace]

Runs N seeds (1000) from SEED on (1), or one seed. A seed is a number, decimal or 0x... .
A seed that fails prints the promise that was broken and the line that runs it again.
";

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    from: u64,
    seeds: u64,
    threads: u64,
    trace: bool,
}

thread_local! {
    /// The seed that this thread runs, for the panic hook: a release build cannot unwind.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprint!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    name_the_seed_of_a_panic();
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let (mut passed, mut failed, mut delivered) = (0u64, 0u64, 0u64);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads)
            .map(|_| scope.spawn(|| run_seeds(&options, &next)))
            .collect();
        for thread in threads {
            let counts = thread.join().unwrap_or(Counts {
                failed: 1,
                ..Counts::default()
            });
            passed += counts.passed;
            failed += counts.failed;
            delivered += counts.delivered;
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let rate = (passed + failed) as f64 / seconds;
    println!("{passed} passed, {failed} failed; {rate:.0} seeds/s, {delivered} deliveries checked");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    delivered: u64,
}

fn run_seeds(options: &Options, next: &AtomicU64) -> Counts {
    let mut counts = Counts::default();
    loop {
        let position = next.fetch_add(1, Ordering::Relaxed);
        if position >= options.seeds {
            return counts;
        }
        let seed = options.from.wrapping_add(position);
        SEED.set(Some(seed));
        let result = std::panic::catch_unwind(|| run_seed(seed, None, options.trace));
        match result.unwrap_or_else(|_| Err(panicked())) {
            Ok(Summary {
                trace_hash,
                delivered_count,
            }) => {
                counts.passed += 1;
                counts.delivered += delivered_count;
                if options.seeds == 1 {
                    println!("seed {seed:#x} passed, trace hash {trace_hash:#018x}");
                }
            }
            Err(broken) => {
                counts.failed += 1;
                println!("{}  # {}: {}", replay(seed), broken.promise, broken.detail);
            }
        }
    }
}

fn panicked() -> Broken {
    Broken {
        promise: "a shard never panics",
        detail: "see the message above".to_owned(),
    }
}

fn replay(seed: u64) -> String {
    format!("cargo run -p ringmq-sim -- --seed {seed:#x}")
}

fn name_the_seed_of_a_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(seed) = SEED.get() {
            println!("{}  # panic", replay(seed));
        }
        report(panic);
    }));
}

/// `None`: help is asked for.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        from: 1,
        seeds: 1000,
        threads: 1,
        trace: false,
    };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments
                .next()
                .ok_or(format!("{argument} wants a number"))?;
            parse_number(&value).ok_or(format!("{argument}: {value} is no number"))
        };
        match argument.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--threads" => options.threads = number()?.max(1),
            "--seed" => {
                options.from = number()?;
                options.seeds = 1;
            }
            "--trace" => options.trace = true,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    Ok(Some(options))
}

fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
