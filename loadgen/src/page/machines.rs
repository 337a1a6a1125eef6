//! The machines that made a run for the one that led it.

use maud::{Markup, html};

use super::text;
use crate::report::{Agent, ResultFile, ThreadUse};

/// Each of them, and what came from one to another.
pub(super) fn machines(file: &ResultFile) -> Markup {
    html! { @if let Some(agents) = &file.agents {
        p {
            "Made by " (agents.machines.len()) " machines. From one to another came "
            (text::share(agents.crossing_share))
            " of the deliveries, whose latencies are known to within "
            (text::micros(agents.clock_error_us))
            @if agents.latency_judged { "." } @else { ", too little to judge latencies." }
        }
        div.card tabindex="0" { table {
            thead { tr {
                th { "machine" } th { "processor" } th { "clients" } th { "busiest thread" }
                th { "waited" }
                th { "behind schedule" } th { "clock within" }
            } }
            tbody { @for agent in &agents.machines { (row(agent)) } }
        } }
    } }
}

fn row(agent: &Agent) -> Markup {
    let generator = &agent.validity.generator;
    let most = |of: fn(&ThreadUse) -> Option<f64>| {
        let shares = generator.threads.iter().filter_map(of);
        let most = shares.reduce(f64::max);
        most.map_or_else(|| "–".to_owned(), text::share)
    };
    let lag = generator.schedule_lag.as_ref();
    let lag = lag.map_or_else(|| "–".to_owned(), |lag| text::micros(lag.p99_us as f64));
    html! { tr {
        td {
            bdi { (agent.host) }
            @if !agent.validity.valid { small.bad { "not valid" } }
        }
        td { (agent.machine.cpu) }
        td { (agent.clients) }
        td { (most(|thread| thread.cpu_share)) }
        td { (most(|thread| thread.wait_share)) }
        td { (lag) }
        td { (text::micros(agent.clock_error_us)) }
    } }
}
