//! Leads a run that other machines make: starts their agents, gives each its part, and puts
//! together what they report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::Offset;
use super::crossing::Crossing;
use super::link::Link;
use super::notes::{Agent, Agents};
use super::protocol::{Job, Order, Report, Sent, Settlement};
use super::pump::{Pipes, Pump};
use super::{Elsewhere, On};
use crate::assemble::{self, Context};
use crate::cli::RunOptions;
use crate::driver::Way;
use crate::engine::{self, Options, Outcome};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::{Machine, ResultFile};
use crate::setup::{self, Failure};
use crate::sources::Sources;

/// Makes a run on other machines.
pub fn measure(
    options: &RunOptions,
    on: &On,
    run: u16,
    interrupted: Arc<AtomicBool>,
) -> Result<(ResultFile, Outcome), Failure> {
    let machines = on.hosts.len();
    let plan = plan(options, run, machines)?;
    let crossing = Crossing::of(&plan, options.threads);
    let problems = crossing.check(&plan);
    if !problems.is_empty() {
        return Err(Failure::Usage(problems));
    }
    setup::check_pids(&options.pids).map_err(Failure::Run)?;
    let metrics = setup::listen(options.metrics)?;
    let stop = || interrupted.load(Ordering::Relaxed);
    let ready = prepare(options, on, run, &plan, &stop).map_err(Failure::Run)?;
    let round_trip_ns = ready.iter().map(|ready| ready.offset.error_ns * 2).max();
    let elsewhere = Elsewhere::new(machines, round_trip_ns.unwrap_or(0));
    let how = Options {
        name: format!(
            "{} against {} from {machines} machines",
            plan.scenario.name, options.target
        ),
        way: way(options),
        sources: Sources::default(),
        cores: Vec::new(),
        pids: options.pids.clone(),
        run,
        keep_going: options.keep_going,
        sys_wait: options.sys_wait,
        metrics,
        interrupted: interrupted.clone(),
        elsewhere: Some(elsewhere.clone()),
    };
    let mut agents: Vec<Agent> = ready
        .iter()
        .map(|ready| ready.note(&plan, options))
        .collect();
    let mut pumps: Vec<JoinHandle<Pump>> = Vec::new();
    let mut progress = Progress::new(options.quiet);
    let outcome = engine::run_elsewhere(plan, how, &mut progress, |shared, events| {
        let pipes = pipes(machines, |inbox, others| Pipes {
            shared: shared.clone(),
            elsewhere: elsewhere.clone(),
            events: events.clone(),
            others,
            inbox,
        });
        for ((machine, ready), pipes) in ready.into_iter().enumerate().zip(pipes) {
            let own = machine * options.threads..(machine + 1) * options.threads;
            let pump = Pump::new(ready.link, ready.offset, machine, own, pipes);
            pumps.push(std::thread::spawn(move || pump.run()));
        }
    });
    let pumps = pumps.into_iter().map(JoinHandle::join);
    let mut pumps = pumps.collect::<Result<Vec<Pump>, _>>().map_err(|_| {
        Failure::Run("a thread of ringload did not end; this is a bug in ringload".to_owned())
    })?;
    let mut outcome = outcome.map_err(Failure::Run)?;
    conclude(&mut outcome, &mut pumps, &mut agents);
    let share = crossing.share(&outcome.shared.plan);
    let context = Context {
        agents: Some(Agents::new(agents, share, crossing)),
        ..setup::context(options, way(options).carrier(), Vec::new(), 0)
    };
    Ok((assemble::assemble(&outcome, context), outcome))
}

fn plan(options: &RunOptions, run: u16, machines: usize) -> Result<Plan, Failure> {
    let shape = (machines, options.threads);
    let run_id = format!("{run:04x}");
    Plan::for_machines(options.scenario.clone(), &run_id, shape, options.with_sys)
        .map_err(Failure::Usage)
}

/// How the broker would be reached from here: agents have ways of their own.
fn way(options: &RunOptions) -> Way {
    Way {
        peer: options.peers[0].clone(),
        tls: Vec::new(),
        websocket: options.websocket.clone(),
    }
}

/// An agent that can do its part.
struct Ready {
    link: Link,
    room: Room,
    offset: Offset,
    machine: usize,
}

/// What it has.
struct Room {
    machine: Machine,
    sources: Vec<String>,
    files_max: u64,
}

impl Ready {
    /// What is known of it before the run.
    fn note(&self, plan: &Plan, options: &RunOptions) -> Agent {
        let own = self.machine * options.threads..(self.machine + 1) * options.threads;
        let groups = 0..plan.groups.len();
        let clients = groups
            .filter(|group| plan.sys_group != Some(*group))
            .flat_map(|group| own.clone().map(move |thread| (group, thread)))
            .map(|(group, thread)| plan.clients_on(group, thread).len() as u64);
        Agent {
            host: self.link.host.clone(),
            machine: self.room.machine.clone(),
            clients: clients.sum(),
            threads: own,
            sources: self.room.sources.clone(),
            files_max: self.room.files_max,
            lag: Default::default(),
            ahead_ns: self.offset.ahead_ns,
            error_ns: self.offset.error_ns,
            lost: None,
        }
    }
}

/// Starts all agents, and gives each its part; the first that cannot do it ends the attempt.
fn prepare(
    options: &RunOptions,
    on: &On,
    run: u16,
    plan: &Plan,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<Ready>, String> {
    let links = on.hosts.iter().map(|host| Link::start(on, host));
    let mut links = links.collect::<Result<Vec<Link>, String>>()?;
    let mut greetings = links.iter_mut().map(|link| link.greet(stop));
    greetings.try_for_each(std::convert::identity)?;
    let offsets = links.iter_mut().map(|link| link.clock(stop));
    let offsets = offsets.collect::<Result<Vec<Offset>, String>>()?;
    for (machine, link) in links.iter_mut().enumerate() {
        let job = Job::of(options, run, on.hosts.len(), machine);
        link.say(&Order::Job(Box::new(job)));
    }
    let all = links.into_iter().zip(offsets).enumerate();
    all.map(|(machine, (mut link, offset))| {
        let room = accept(&mut link, plan, stop)?;
        Ok(Ready {
            link,
            room,
            offset,
            machine,
        })
    })
    .collect()
}

/// The answer to a job.
fn accept(link: &mut Link, plan: &Plan, stop: &dyn Fn() -> bool) -> Result<Room, String> {
    let (report, _) = link.expect("answer to its part of the scenario", READY_WAIT, stop)?;
    let host = &link.host;
    match report {
        Report::Ready {
            machine,
            streams,
            sources,
            files_max,
        } if streams == plan.streams.count() as u64 => Ok(Room {
            machine,
            sources,
            files_max,
        }),
        Report::Refused { why } => Err(format!("{host} cannot do its part: {why}")),
        _ => Err(format!("{host}: made another plan of the scenario")),
    }
}

/// The pipes of all pumps: each has an inbox that all others can write to.
fn pipes(
    machines: usize,
    make: impl Fn(mpsc::Receiver<Order>, Vec<mpsc::Sender<Order>>) -> Pipes,
) -> Vec<Pipes> {
    let (senders, inboxes): (Vec<_>, Vec<_>) = (0..machines).map(|_| mpsc::channel()).unzip();
    let all = inboxes.into_iter().enumerate();
    all.map(|(machine, inbox)| {
        let others = senders.iter().enumerate();
        let others = others.filter(|(other, _)| *other != machine);
        make(inbox, others.map(|(_, sender)| sender.clone()).collect())
    })
    .collect()
}

/// Settles with the readers of all machines, and looks at the clocks again.
fn conclude(outcome: &mut Outcome, pumps: &mut [Pump], agents: &mut [Agent]) {
    let sent = Box::new(sent(outcome));
    let order = Order::Settle(sent);
    let mut settlement = Settlement::default();
    for (pump, agent) in pumps.iter_mut().zip(agents) {
        agent.lag = std::mem::take(&mut pump.lag);
        agent.lost = pump.lost.take();
        if agent.lost.is_some() {
            continue;
        }
        match settle(&mut pump.link, &order) {
            Ok((settled, end)) => {
                settlement.add(settled);
                agent.error_ns = pump.offset.error_until(end);
            }
            Err(why) => agent.lost = Some(why),
        }
    }
    outcome.settled = Some(settlement);
}

fn settle(link: &mut Link, order: &Order) -> Result<(Settlement, Offset), String> {
    let never = || false;
    let end = link.clock(&never)?;
    link.say(order);
    match link.expect("settlement", SETTLE_WAIT, &never)? {
        (Report::Settled(settlement), _) => Ok((settlement, end)),
        _ => Err(format!("{}: said something out of turn", link.host)),
    }
}

/// What all machines have sent.
fn sent(outcome: &Outcome) -> Sent {
    let plan = &outcome.shared.plan;
    Sent {
        last: plan.streams.last_sequences(),
        uncertain: assemble::uncertain(outcome),
        ends: assemble::part_ends_of(outcome),
    }
}

/// A plan of millions of topics takes some seconds.
const READY_WAIT: Duration = Duration::from_secs(60);
/// So does a look at millions of cells.
const SETTLE_WAIT: Duration = Duration::from_secs(60);
