//! Connection limits: in total and per address, and how often an address may connect.
//!
//! Shards share the counts, without locks. Counts and rates of addresses are in tables of a fixed
//! size, two cells per address, chosen by a keyed hash: a client with many addresses cannot make
//! them grow. Two addresses that share one cell do not share the other, so the smaller of the two
//! counts is right; an IPv6 address stands for its /64, which belongs to one customer.
//!
//! Invariant: `connections` and the cells count the permits that were taken and not released.
//!
//! Not here: what happens to clients that are refused (`reactor/accept.rs`).

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use ringmq_core::rate::Pace;
use ringmq_core::refusal::Refusal;
use ringmq_core::time::Instant;

/// The bounds; 0 in any but the first is "none".
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Connections of all shards together.
    pub connections_max: usize,
    /// Connections of one address, over all shards.
    pub connections_per_address_max: u32,
    /// Connections that a listener of a shard accepts per second; the others wait in the kernel.
    pub connect_rate_max: u32,
    /// Connections per second of one address, for each shard; the others are refused.
    pub connect_rate_per_address_max: u32,
}

impl Default for Admission {
    fn default() -> Admission {
        Admission {
            connections_max: 1_000_000,
            connections_per_address_max: 0,
            connect_rate_max: 0,
            connect_rate_per_address_max: 0,
        }
    }
}

/// The permits of a broker.
#[derive(Debug)]
pub(crate) struct Permits {
    bounds: Admission,
    /// A drain: nobody is accepted.
    are_doors_shut: AtomicBool,
    /// Also those between two shards.
    connections: AtomicUsize,
    /// Connections that are only there to be told why they may not stay.
    unwelcome: AtomicUsize,
    hasher: RandomState,
    /// Empty if nothing is counted by address.
    addresses: [Box<[AtomicU32]>; 2],
}

/// What a connection has to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// A permit among all, and among those of its address if these are counted.
    Regular(Option<Cells>),
    /// It may not stay.
    Unwelcome,
}

/// The cells of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cells([u16; 2]);

/// What an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AddressPrefix {
    V4(u32),
    /// A /64.
    V6(u64),
}

impl AddressPrefix {
    pub(crate) fn of(address: IpAddr) -> AddressPrefix {
        match address.to_canonical() {
            IpAddr::V4(v4) => AddressPrefix::V4(v4.into()),
            IpAddr::V6(v6) => AddressPrefix::V6((u128::from(v6) >> 64) as u64),
        }
    }
}

/// Connections that wait to be told why they may not stay, over all shards; more are closed at
/// once.
pub(crate) const UNWELCOME_MAX: usize = 64;
/// Cells of a row: 256 KiB of counts. With 10,000 addresses connected, one in 50 shares both of its
/// cells with others.
const CELLS: usize = 1 << 16;

impl Permits {
    pub(crate) fn new(bounds: Admission) -> Permits {
        let count = match bounds.connections_per_address_max {
            0 => 0,
            _ => CELLS,
        };
        Permits {
            bounds,
            are_doors_shut: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            unwelcome: AtomicUsize::new(0),
            hasher: RandomState::new(),
            addresses: [(); 2].map(|()| (0..count).map(|_| AtomicU32::new(0)).collect()),
        }
    }

    /// From here on nobody is accepted, or everybody is again; shards see it in their next turn.
    pub(crate) fn shut_doors(&self, are_shut: bool) {
        self.are_doors_shut.store(are_shut, Ordering::Relaxed);
    }

    /// Nobody is accepted.
    pub(crate) fn are_doors_shut(&self) -> bool {
        self.are_doors_shut.load(Ordering::Relaxed)
    }

    pub(crate) fn bounds(&self) -> &Admission {
        &self.bounds
    }

    /// The cells of an address.
    pub(crate) fn cells(&self, address: IpAddr) -> Cells {
        let hash = self.hasher.hash_one(AddressPrefix::of(address));
        Cells([hash as u16, (hash >> 16) as u16])
    }

    /// A permit among all connections.
    pub(crate) fn take(&self) -> Result<(), Refusal> {
        if take_one(&self.connections, self.bounds.connections_max) {
            Ok(())
        } else {
            Err(Refusal::ConnectionsFull)
        }
    }

    /// A permit among the connections of an address; for one that has a permit among all.
    pub(crate) fn take_of_address(&self, cells: Cells) -> Result<Option<Cells>, Refusal> {
        let max = self.bounds.connections_per_address_max;
        if max == 0 {
            return Ok(None);
        }
        let before = self
            .counts(cells)
            .map(|count| count.fetch_add(1, Ordering::Relaxed));
        if before[0].min(before[1]) < max {
            return Ok(Some(cells));
        }
        self.leave_address(cells);
        Err(Refusal::AddressFull)
    }

    /// A permit for a connection that may not stay. False if there is not even that.
    pub(crate) fn take_unwelcome(&self) -> bool {
        take_one(&self.unwelcome, UNWELCOME_MAX)
    }

    /// Gives a permit back.
    pub(crate) fn give_back(&self, permit: Permit) {
        let count = match permit {
            Permit::Regular(cells) => {
                if let Some(cells) = cells {
                    self.leave_address(cells);
                }
                &self.connections
            }
            Permit::Unwelcome => &self.unwelcome,
        };
        let before = count.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a permit is given back once");
    }

    /// Permits taken, those of unwelcome connections aside.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn leave_address(&self, cells: Cells) {
        for count in self.counts(cells) {
            let before = count.fetch_sub(1, Ordering::Relaxed);
            assert!(before > 0, "a permit of an address is given back once");
        }
    }

    fn counts(&self, Cells(cells): Cells) -> [&AtomicU32; 2] {
        let [first, second] = &self.addresses;
        [
            &first[usize::from(cells[0])],
            &second[usize::from(cells[1])],
        ]
    }
}

fn take_one(count: &AtomicUsize, max: usize) -> bool {
    let is_free = count.fetch_add(1, Ordering::Relaxed) < max;
    if !is_free {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    is_free
}

/// How often addresses come to one shard.
#[derive(Debug, Default)]
pub(crate) struct AddressRates {
    /// Empty until the first connection.
    rows: [Vec<Pace>; 2],
}

impl AddressRates {
    /// Counts a connection of an address; refuses it if there were too many.
    pub(crate) fn admit(&mut self, now: Instant, cells: Cells, rate: u32) -> Result<(), Refusal> {
        if rate == 0 {
            return Ok(());
        }
        let mut is_admitted = false;
        for (row, cell) in self.rows.iter_mut().zip(cells.0) {
            if row.is_empty() {
                row.resize(CELLS, Pace::default());
            }
            is_admitted |= row[usize::from(cell)].try_take(now, 1, rate);
        }
        if is_admitted {
            Ok(())
        } else {
            Err(Refusal::AddressRate)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(connections_max: usize, connections_per_address_max: u32) -> Permits {
        Permits::new(Admission {
            connections_max,
            connections_per_address_max,
            ..Admission::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn permits_are_bounded_and_come_back() {
        let permits = permits(2, 0);
        assert_eq!(permits.take(), Ok(()));
        assert_eq!(permits.take(), Ok(()));
        assert_eq!(permits.take(), Err(Refusal::ConnectionsFull));
        assert_eq!(permits.connections(), 2);
        permits.give_back(Permit::Regular(None));
        assert_eq!(permits.take(), Ok(()));
        for _ in 0..UNWELCOME_MAX {
            assert!(permits.take_unwelcome());
        }
        assert!(!permits.take_unwelcome());
        permits.give_back(Permit::Unwelcome);
        assert!(permits.take_unwelcome());
        assert_eq!(permits.connections(), 2);
    }

    // (threat 28)
    #[test]
    fn one_address_has_its_share_of_the_permits_and_others_have_theirs() {
        let permits = permits(1_000_000, 3);
        let hog = permits.cells(ip("10.0.0.1"));
        let of_hog = || permits.take_of_address(hog);
        assert_eq!([of_hog(), of_hog(), of_hog()], [Ok(Some(hog)); 3]);
        assert_eq!(of_hog(), Err(Refusal::AddressFull));
        let refused = (0..1000_u32).filter(|n| {
            let other = permits.cells(IpAddr::from(0x0B00_0000_u32.wrapping_add(*n).to_be_bytes()));
            permits.take_of_address(other).is_err()
        });
        assert_eq!(refused.count(), 0);
        assert!(permits.take().is_ok());
        permits.give_back(Permit::Regular(Some(hog)));
        assert_eq!(of_hog(), Ok(Some(hog)));
        assert_eq!(of_hog(), Err(Refusal::AddressFull));
    }

    #[test]
    fn an_ipv6_network_and_a_mapped_address_count_as_one() {
        let permits = permits(1, 1);
        let cells = |text| permits.cells(ip(text));
        assert_eq!(cells("2001:db8::1"), cells("2001:db8::ffff:1:2:3"));
        assert_ne!(cells("2001:db8::1"), cells("2001:db8:0:1::1"));
        assert_eq!(cells("::ffff:10.0.0.1"), cells("10.0.0.1"));
    }

    #[test]
    fn each_address_may_connect_at_the_configured_rate() {
        let permits = permits(1, 0);
        let mut rates = AddressRates::default();
        let (hog, other) = (permits.cells(ip("10.0.0.1")), permits.cells(ip("10.0.0.2")));
        let now = Instant::from_nanos(5_000_000_000_000);
        let admitted = (0..100).filter(|_| rates.admit(now, hog, 5).is_ok());
        assert_eq!(admitted.count(), 5);
        assert_eq!(rates.admit(now, other, 5), Ok(()));
        let later = Instant::from_nanos(5_000_200_000_000);
        assert_eq!(rates.admit(later, hog, 5), Ok(()));
        assert_eq!(rates.admit(later, hog, 5), Err(Refusal::AddressRate));
        assert_eq!(rates.admit(later, hog, 0), Ok(()));
    }
}
