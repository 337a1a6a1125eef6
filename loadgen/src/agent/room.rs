//! Whether a machine has what its part of a run needs: files, local ports, memory. A run that finds
//! out in the middle is lost on all machines.

use std::fs;
use std::ops::Range;

use crate::plan::Plan;

/// What the part of a machine needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Clients there.
    pub clients: u64,
    /// Bytes, at least.
    pub memory: u64,
}

impl Need {
    /// Of some threads of a plan.
    pub fn of(plan: &Plan, threads: Range<usize>) -> Need {
        let mut need = Need {
            memory: plan.streams.count() as u64 * STREAM_SIZE,
            ..Need::default()
        };
        for (group, planned) in plan.groups.iter().enumerate() {
            let each = CLIENT_SIZE + u64::from(plan.specs[group].tls) * TLS_SIZE;
            for thread in threads.clone() {
                let clients = plan.clients_on(group, thread);
                need.clients += clients.len() as u64;
                need.memory += clients.len() as u64 * each;
                let readers = clients.filter_map(|client| planned.readers.get(client as usize));
                let cells = readers
                    .flat_map(|reading| &reading.own)
                    .map(|own| own.count());
                need.memory += cells.sum::<usize>() as u64 * CELL_SIZE;
            }
        }
        need
    }
}

/// Refuses a part that takes more memory than the machine has to spare.
pub fn check_memory(need: &Need, available: Option<u64>) -> Result<(), String> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match available {
        Some(available) if available < need.memory => Err(format!(
            "{} clients need {} MiB of memory at least, and {} MiB are available; use more \
             machines or fewer clients",
            need.clients,
            mib(need.memory),
            mib(available)
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses more clients than there are local ports for; `addresses` is 0 if the kernel chooses.
pub fn check_ports(clients: u64, ports: u64, addresses: usize) -> Result<(), String> {
    let there_are = ports * addresses.max(1) as u64;
    match clients > there_are {
        true => Err(format!(
            "{clients} clients need as many local ports, and there are {there_are} \
             (net.ipv4.ip_local_port_range); widen the range, or use more machines"
        )),
        false => Ok(()),
    }
}

/// Memory that programs can have without swapping; `None` if the kernel does not tell.
pub fn memory_available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// A connection in the kernel takes 3 to 4 KiB when it is idle, a client here half of one.
const CLIENT_SIZE: u64 = 4 * 1024;
/// State and buffers of rustls.
const TLS_SIZE: u64 = 24 * 1024;
/// Topic, sequence and slot.
const STREAM_SIZE: u64 = 48;
/// What the ledger knows of a stream at a reader.
const CELL_SIZE: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::file;

    #[test]
    fn a_part_that_does_not_fit_is_refused() {
        let text = "[[group]]\nname = \"s\"\nclients = 10\nsubscribe = \"t/#\"\n\
                    [[group]]\nname = \"p\"\nclients = 100\npublish = \"t/{index}\"\nrate = 1\n";
        let scenario = file::parse("f.toml", text).unwrap();
        let plan = Plan::new(scenario, "0000", 4, false).unwrap();
        let (half, all) = (Need::of(&plan, 0..2), Need::of(&plan, 0..4));
        assert_eq!((half.clients, all.clients), (55, 110));
        let cells = 5 * 100 * CELL_SIZE;
        assert_eq!(half.memory, 55 * CLIENT_SIZE + 100 * STREAM_SIZE + cells);
        assert!(check_memory(&half, Some(half.memory)).is_ok());
        assert!(check_memory(&half, None).is_ok());
        let why = check_memory(&all, Some(1 << 18)).unwrap_err();
        assert!(why.starts_with("110 clients need 1 MiB of memory"), "{why}");
        for (clients, addresses, fits) in [(100, 0, true), (101, 0, false), (101, 2, true)] {
            assert_eq!(
                check_ports(clients, 100, addresses).is_ok(),
                fits,
                "{clients}"
            );
        }
    }
}
