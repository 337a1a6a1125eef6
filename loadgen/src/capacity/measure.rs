//! `ringload plan`: makes the runs, and the plan of them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringmq_problem::{Complaint, Place, Problem};

use super::design::{self, Purpose, Run};
use super::file::{FORMAT, FORMAT_VERSION, HeldOut, PlanFile};
use super::load::Load;
use super::model::{Measured, Model};
use super::predict::counted;
use super::room::Limits;
use super::slope::{median, theil_sen};
use crate::assemble;
use crate::bound::{self, Snapshot, Watch};
use crate::cli::{Command, RunOptions};
use crate::engine;
use crate::peer::Peer;
use crate::process;
use crate::progress::Progress;
use crate::report::{Check, Ended, ResultFile};
use crate::setup;

/// What `ringload plan` is asked for.
#[derive(Debug)]
pub struct Request {
    /// Options that every run gets: target, users, TLS, threads, processes.
    pub passed: Vec<OsString>,
    /// The plan.
    pub out: PathBuf,
    /// Fewer runs.
    pub is_quick: bool,
}

/// Why there is no plan.
#[derive(Debug)]
pub enum Failure {
    /// The user has to change something.
    Usage(Vec<Problem>),
    /// A run did not take place.
    Run(String),
    /// By Ctrl-C.
    Interrupted,
}

impl From<setup::Failure> for Failure {
    fn from(failure: setup::Failure) -> Failure {
        match failure {
            setup::Failure::Usage(problems) => Failure::Usage(problems),
            setup::Failure::Run(why) => Failure::Run(why),
        }
    }
}

/// Makes a plan; `say` is told of every run.
pub fn plan(
    request: &Request,
    interrupted: &Arc<AtomicBool>,
    say: &mut dyn FnMut(&str),
) -> Result<PlanFile, Failure> {
    let mut bench = Bench::new(request, interrupted)?;
    let (began, started) = (Instant::now(), SystemTime::now());
    let idle = bench.idle(say)?;
    let (scale, threads) = bench.closed_loop(say)?;
    let runs = design::runs(scale, request.is_quick);
    let taken = bench.take(&runs, say)?;
    let made = taken.made(threads)?;
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(PlanFile {
        format: FORMAT.to_owned(),
        version: FORMAT_VERSION,
        ringload: env!("CARGO_PKG_VERSION").to_owned(),
        target: bench.sample.target.clone(),
        tls: Some(bench.sample.scenario.groups.iter().any(|group| group.tls)),
        broker: process::command_of(bench.pid),
        machine: bench.machine.clone(),
        started_unix_ms: started.as_millis() as u64,
        took_s: began.elapsed().as_secs_f64(),
        threads,
        closed_loop_per_s: scale,
        costs: made.model.costs,
        runs: taken.fitted,
        void: taken.void,
        references: taken.references,
        held_out: made.held_out,
        memory: theil_sen(&idle.broker).filter(|slope| slope.slope > 0.0),
        kernel_memory: theil_sen(&idle.kernel).filter(|slope| slope.slope > 0.0),
        connect: idle.connect,
        limits: bench.limits(),
    })
}

/// What all runs have in common.
struct Bench<'a> {
    request: &'a Request,
    interrupted: &'a Arc<AtomicBool>,
    /// The options, as the closed loop has them.
    sample: RunOptions,
    pid: u32,
    machine: crate::report::Machine,
    watch: Watch,
}

/// What connections that do nothing take: `(connections, bytes)`.
struct Idle {
    broker: Vec<(f64, f64)>,
    kernel: Vec<(f64, f64)>,
    connect: Option<f64>,
}

/// The runs that were made.
#[derive(Default)]
struct Taken {
    fitted: Vec<Measured>,
    held_out: Vec<Measured>,
    references: Vec<f64>,
    void: u32,
}

/// What they make.
struct Made {
    model: Model,
    held_out: Vec<HeldOut>,
}

impl<'a> Bench<'a> {
    fn new(request: &'a Request, interrupted: &'a Arc<AtomicBool>) -> Result<Bench<'a>, Failure> {
        let sample = options_of(&design::closed_loop(), request, CLOSED_LOOP)?;
        let Some(pid) = sample.pids.first().copied() else {
            let complaint = Complaint::new(
                "needs the process of the broker, whose CPU it measures",
                "name it: --pid $(pidof BROKER)",
            );
            let problem = complaint.at(Place::CommandLine, "plan");
            return Err(Failure::Usage(vec![problem]));
        };
        if let Some(pid) = sample.pids.iter().find(|pid| !process::is_alive(**pid)) {
            return Err(Failure::Run(format!("--pid {pid}: no such process")));
        }
        Ok(Bench {
            request,
            interrupted,
            pid,
            machine: process::machine(),
            watch: Watch::of(&sample.pids),
            sample,
        })
    }

    /// More and more connections that do nothing.
    fn idle(&mut self, say: &mut dyn FnMut(&str)) -> Result<Idle, Failure> {
        let mut idle = Idle {
            broker: Vec::new(),
            kernel: Vec::new(),
            connect: None,
        };
        let is_local = self.sample.peers.iter().all(Peer::is_local);
        // Both ends of a connection are in the memory of one kernel then.
        let ends = if is_local { 2.0 } else { 1.0 };
        let mut connects = Vec::new();
        for connections in design::IDLE {
            let before = self.watch.kernel_bytes();
            let sampler = Sampler::start(self.watch.clone());
            let result = self.run(&design::idle(connections), IDLE);
            let most = sampler.stop();
            let (_, result) = result?;
            let Some(broker) = result.broker else {
                continue;
            };
            let count = result.totals.connected as f64;
            idle.broker.extend(
                broker
                    .rss_connected_bytes
                    .map(|bytes| (count, bytes as f64)),
            );
            let grown = most
                .zip(before)
                .map(|(most, before)| most.saturating_sub(before));
            idle.kernel
                .extend(grown.map(|bytes| (count, bytes as f64 / ends)));
            connects.extend(broker.connect_us_per_connection.map(|us| us / 1e6));
            say(&format!(
                "{connections} connections: {:.1} MiB",
                broker.rss_connected_bytes.unwrap_or(0) as f64 / f64::from(1 << 20)
            ));
        }
        connects.sort_by(f64::total_cmp);
        idle.connect = median(&connects);
        Ok(idle)
    }

    /// What a closed loop gets through, and how many threads share that work.
    fn closed_loop(&mut self, say: &mut dyn FnMut(&str)) -> Result<(f64, u32), Failure> {
        let before = self.watch.sample(crate::shared::now_ns());
        let (_, result) = self.run(&design::closed_loop(), CLOSED_LOOP)?;
        let after = self.watch.sample(crate::shared::now_ns());
        let scale = result.totals.received_per_s;
        if scale <= 0.0 {
            return Err(Failure::Run(
                "nothing came through a closed loop: see `ringload run pairs`".to_owned(),
            ));
        }
        let threads = self.threads(&before, &after);
        say(&format!(
            "closed loop: {scale:.0} messages/s, the work is done by {}",
            counted(threads)
        ));
        Ok((scale, threads))
    }

    /// Threads that share the work, on the cores that there are for them.
    fn threads(&self, before: &Snapshot, after: &Snapshot) -> u32 {
        let cores = process::allowed_cores(self.pid).unwrap_or(1).max(1);
        bound::workers(before, after).unwrap_or(1).min(cores)
    }

    fn limits(&self) -> Limits {
        let now = self.watch.sample(crate::shared::now_ns());
        Limits {
            memory_bytes: now
                .memory
                .map_or(self.machine.memory_bytes, |room| room.limit),
            files: now.files.map(|room| room.limit),
            conntrack: now.conntrack.map(|room| room.limit),
        }
    }

    fn take(&mut self, runs: &[Run], say: &mut dyn FnMut(&str)) -> Result<Taken, Failure> {
        let mut taken = Taken::default();
        for (index, run) in runs.iter().enumerate() {
            let (load, result) = self.run(run, LOAD)?;
            let at = format!("{}/{} {}", index + 1, runs.len(), run.name);
            match measured(run, load, &Seen::of(&result)) {
                Ok(measured) => {
                    say(&format!("{at}: {:.3} cores", measured.cores));
                    taken.add(run.purpose, measured);
                }
                Err(why) => {
                    say(&format!("{at}: void, {why}"));
                    taken.void += 1;
                    taken.check_void(index + 1, &why)?;
                }
            }
        }
        Ok(taken)
    }

    /// Makes a run, as `ringload run` does; with the load that it was to be.
    fn run(&mut self, run: &Run, times: Lengths) -> Result<(Option<Load>, ResultFile), Failure> {
        let options = options_of(run, self.request, times)?;
        let options = RunOptions {
            with_sys: false,
            ..options
        };
        let id = options.run.unwrap_or(RUN_ID);
        let interrupted = self.interrupted.clone();
        let scenario = options.scenario.clone();
        let setup = setup::set_up(&options, scenario, id, interrupted)?;
        let load = Load::of(&setup.plan).ok();
        let context = setup::context(&options, setup.carrier, Vec::new(), setup.files_max);
        let outcome = engine::run(setup.plan, setup.options, &mut Progress::new(true))
            .map_err(|why| Failure::Run(format!("{}: {why}", options.target)))?;
        if outcome.ended == Ended::Interrupted || self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        Ok((load, assemble::assemble(&outcome, context)))
    }
}

impl Taken {
    fn add(&mut self, purpose: Purpose, measured: Measured) {
        match purpose {
            Purpose::HeldOut => return self.held_out.push(measured),
            Purpose::Reference => {
                let each = measured.cores / measured.load.deliveries;
                self.references.push(each);
            }
            Purpose::Fit => {}
        }
        self.fitted.push(measured);
    }

    /// Gives up where most runs say nothing.
    fn check_void(&self, made: usize, why: &str) -> Result<(), Failure> {
        let void = self.void as usize;
        match made >= VOID_RUNS_MIN && 2 * void > made {
            true => Err(Failure::Run(format!(
                "{void} of {made} runs say nothing about the broker, the last one because {why}"
            ))),
            false => Ok(()),
        }
    }

    fn made(&self, threads: u32) -> Result<Made, Failure> {
        let model = Model::fit(&self.fitted, threads).map_err(Failure::Run)?;
        let tests = self.held_out.iter().map(|run| HeldOut {
            name: run.name.clone(),
            predicted: model.cores(&run.load),
            measured: run.cores,
        });
        let held_out = tests.collect();
        Ok(Made { model, held_out })
    }
}

/// What matters here of a result.
struct Seen {
    /// Why it says nothing about the broker.
    doubt: Option<String>,
    /// CPU of the broker.
    cores: Option<f64>,
    sent_per_s: f64,
    received_per_s: f64,
}

impl Seen {
    fn of(result: &ResultFile) -> Seen {
        // A generator that is late for a moment shows in latencies, which nobody looks at here.
        let mut reasons = result.validity.reasons.iter();
        let reason = reasons.find(|reason| reason.check != Check::ScheduleLag);
        let is_whole = result.run.ended == Ended::Planned;
        let broken = (!is_whole).then(|| "the broker was gone".to_owned());
        let broker = result.broker.as_ref();
        Seen {
            doubt: broken.or_else(|| reason.map(|reason| reason.text.clone())),
            cores: broker.and_then(|broker| Some(broker.user_cores? + broker.system_cores?)),
            sent_per_s: result.totals.sent_per_s,
            received_per_s: result.totals.received_per_s,
        }
    }
}

/// The load as it was, and the CPU that it took; or why the run says nothing.
fn measured(run: &Run, load: Option<Load>, seen: &Seen) -> Result<Measured, String> {
    if let Some(doubt) = &seen.doubt {
        return Err(doubt.clone());
    }
    let (Some(cores), Some(load)) = (seen.cores.filter(|cores| *cores > 0.0), load) else {
        return Err("no CPU time was measured".to_owned());
    };
    let sent = seen.sent_per_s / load.publications;
    let received = seen.received_per_s / load.deliveries;
    if sent <= 0.0 || received < RECEIVED_MIN * sent {
        return Err("more was sent than came through".to_owned());
    }
    Ok(Measured {
        name: run.name.clone(),
        load: load.times(sent),
        cores,
    })
}

/// How long the parts of a run take, seconds.
#[derive(Clone, Copy)]
struct Lengths {
    warmup: &'static str,
    duration: &'static str,
}

fn options_of(run: &Run, request: &Request, lengths: Lengths) -> Result<RunOptions, Failure> {
    let groups = run.groups.iter().flat_map(|group| ["--group", group]);
    let times = ["--warmup", lengths.warmup, "--duration", lengths.duration];
    let ours = groups.chain(times).map(OsString::from);
    let all = std::iter::once("run".into())
        .chain(ours)
        .chain(request.passed.iter().cloned());
    match Command::parse(all) {
        Ok(Command::Run(options)) => Ok(*options),
        // Only options of `run` are passed on, and none of them asks for anything else.
        Ok(_) => unreachable!("a run was asked for"),
        Err(problems) => Err(Failure::Usage(problems)),
    }
}

/// Looks at the memory of the kernel while a run takes place.
struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Option<u64>>,
}

impl Sampler {
    fn start(watch: Watch) -> Sampler {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut most = None;
            while !flag.load(Ordering::Relaxed) {
                most = most.max(watch.kernel_bytes());
                std::thread::sleep(SAMPLE_EVERY);
            }
            most
        });
        Sampler { is_over, thread }
    }

    /// The most there was; `None` if the kernel does not tell.
    fn stop(self) -> Option<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().ok().flatten()
    }
}

const CLOSED_LOOP: Lengths = Lengths {
    warmup: "1s",
    duration: "3s",
};
/// The kernel counts CPU time in hundredths of a second: a broker that is 1 % busy has 4 of them.
const LOAD: Lengths = Lengths {
    warmup: "1s",
    duration: "4s",
};
const IDLE: Lengths = Lengths {
    warmup: "0s",
    duration: "1s",
};
/// If less of what was sent came through, the broker was at its limit, or lost some.
const RECEIVED_MIN: f64 = 0.97;
/// With fewer runs it may be chance that most of them are void.
const VOID_RUNS_MIN: usize = 9;
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Identifies the runs of a plan in payloads and topics: one follows the other.
const RUN_ID: u16 = 0x0c4a;

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            publications: 1000.0,
            deliveries: 3000.0,
            kib: 100.0,
            arrivals: 1000.0,
            connections: 10.0,
            ..Load::default()
        }
    }

    fn seen() -> Seen {
        Seen {
            doubt: None,
            cores: Some(0.25),
            sent_per_s: 990.0,
            received_per_s: 2950.0,
        }
    }

    #[test]
    fn a_run_counts_with_the_load_that_came_through() {
        let run = design::closed_loop();
        let found = measured(&run, Some(load()), &seen()).unwrap();
        assert_eq!(found.cores, 0.25);
        assert!((found.load.deliveries - 2970.0).abs() < 1e-6, "{found:?}");
        assert_eq!(found.load.connections, 10.0);
        let doubted = Seen {
            doubt: Some("no core".to_owned()),
            ..seen()
        };
        let lost = Seen {
            received_per_s: 2000.0,
            ..seen()
        };
        let idle = Seen {
            cores: Some(0.0),
            ..seen()
        };
        for (seen, expected) in [
            (doubted, "no core"),
            (lost, "more was sent than came through"),
            (idle, "no CPU time was measured"),
        ] {
            assert_eq!(measured(&run, Some(load()), &seen).unwrap_err(), expected);
        }
        assert!(measured(&run, None, &seen()).is_err());
    }

    #[test]
    fn runs_are_sorted_by_what_they_are_for() {
        let mut taken = Taken::default();
        for index in 1..=16_u32 {
            let factor = f64::from(index);
            let run = Measured {
                name: format!("run {index}"),
                load: load().times(factor),
                cores: 0.02 * factor,
            };
            let purpose = match index {
                16 => Purpose::HeldOut,
                _ if index % 5 == 0 => Purpose::Reference,
                _ => Purpose::Fit,
            };
            taken.add(purpose, run);
        }
        assert_eq!((taken.fitted.len(), taken.references.len()), (15, 3));
        assert!((taken.references[0] - 0.02 / 3000.0).abs() < 1e-12);
        let made = taken.made(1).unwrap();
        assert_eq!(made.held_out[0].name, "run 16");
        assert!(made.held_out[0].error().abs() < 0.01, "{:?}", made.held_out);
    }

    #[test]
    fn a_machine_on_which_most_runs_are_void_is_given_up() {
        let taken = Taken {
            void: 5,
            ..Taken::default()
        };
        assert!(taken.check_void(8, "x").is_ok());
        assert!(taken.check_void(10, "x").is_ok());
        let Err(Failure::Run(why)) = taken.check_void(9, "another program ran") else {
            panic!("not given up");
        };
        assert_eq!(
            why,
            "5 of 9 runs say nothing about the broker, the last one because another program ran"
        );
    }
}
