//! Local addresses. One address has some 28,000 ports for connections to one broker
//! (`ip_local_port_range` of ip(7)), so more clients need more addresses. The loopback network has
//! 16 million.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringmq_problem::Complaint;

/// Addresses that clients are bound to in turn; none: the kernel chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    addresses: Vec<IpAddr>,
    next: usize,
}

impl Sources {
    /// Reads `127.0.0.2`, `127.0.0.2-127.0.0.9` or a list of them with commas.
    pub fn parse(text: &str) -> Result<Sources, Complaint> {
        let complaint = |part: &str| {
            Complaint::new(
                format!("holds `{part}`, which is neither an address nor a range of them"),
                "write addresses such as 127.0.0.2 or 127.0.0.2-127.0.0.9",
            )
        };
        let mut addresses = Vec::new();
        for part in text.split(',').map(str::trim) {
            match part.split_once('-') {
                None => addresses.push(part.parse().map_err(|_| complaint(part))?),
                Some((first, last)) => {
                    let range = (
                        first.trim().parse::<Ipv4Addr>(),
                        last.trim().parse::<Ipv4Addr>(),
                    );
                    let (Ok(first), Ok(last)) = range else {
                        return Err(complaint(part));
                    };
                    let range = u32::from(first)..=u32::from(last);
                    if range.is_empty() || range.clone().count() > ADDRESSES_MAX {
                        return Err(complaint(part));
                    }
                    addresses.extend(range.map(|bits| IpAddr::V4(Ipv4Addr::from(bits))));
                }
            }
        }
        Ok(Sources { addresses, next: 0 })
    }

    /// What `clients` clients of a broker need, if an address has `ports` of them: on the loopback
    /// network addresses are there for the asking.
    pub fn automatic(target: SocketAddr, clients: u64, ports: u64) -> Sources {
        let needed = clients.div_ceil((ports - ports / PORTS_LEFT).max(1));
        let is_loopback = target.ip().is_loopback() && target.is_ipv4();
        if needed <= 1 || !is_loopback {
            return Sources::default();
        }
        let first = u32::from(Ipv4Addr::new(127, 0, 1, 1));
        let addresses = (0..needed as u32).map(|at| IpAddr::V4(Ipv4Addr::from(first + at)));
        Sources {
            addresses: addresses.collect(),
            next: 0,
        }
    }

    /// The address of the next client.
    pub fn take(&mut self) -> Option<IpAddr> {
        let address = self.addresses.get(self.next)?;
        self.next = (self.next + 1) % self.addresses.len();
        Some(*address)
    }

    /// The part of one of so many threads: each begins with another address.
    pub fn rotated(mut self, thread: usize, threads: usize) -> Sources {
        if !self.addresses.is_empty() {
            self.next = thread * self.addresses.len() / threads % self.addresses.len();
        }
        self
    }

    /// All of them.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }
}

/// Of so many ports one is left for others.
const PORTS_LEFT: u64 = 8;
const ADDRESSES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_taken_in_turn() {
        let mut sources = Sources::parse("127.0.0.2-127.0.0.3, 10.0.0.1").unwrap();
        let taken: Vec<String> = (0..4)
            .filter_map(|_| sources.take())
            .map(|a| a.to_string())
            .collect();
        assert_eq!(taken, ["127.0.0.2", "127.0.0.3", "10.0.0.1", "127.0.0.2"]);
        for text in ["", "localhost", "127.0.0.9-127.0.0.2", "1.0.0.0-2.0.0.0"] {
            assert!(Sources::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn many_clients_get_many_addresses_on_the_loopback_network() {
        let local: SocketAddr = "127.0.0.1:1883".parse().unwrap();
        assert_eq!(
            Sources::automatic(local, 20_000, 28_232).addresses().len(),
            0
        );
        assert_eq!(
            Sources::automatic(local, 100_000, 28_232).addresses().len(),
            5
        );
        assert_eq!(Sources::automatic(local, 250, 100).addresses().len(), 3);
        assert_eq!(Sources::automatic(local, 2, 0).addresses().len(), 2);
        let remote: SocketAddr = "10.0.0.1:1883".parse().unwrap();
        assert_eq!(
            Sources::automatic(remote, 100_000, 28_232)
                .addresses()
                .len(),
            0
        );
    }
}
