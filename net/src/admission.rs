//! Connection limits: in total and per address, and how often an address may connect.
//!
//! Shards share the counts, without locks. Counts and rates of addresses are in tables of a fixed size, two
//! cells per address, chosen by a keyed hash: a client with many addresses cannot make them grow. Two
//! addresses that share one cell do not share the other, so the smaller of the two counts is right; an IPv6
//! address stands for its /64, which belongs to one customer.
//!
//! Invariant: `connections` and the cells count the places that were taken and not released.
//!
//! Not here: what happens to clients that are refused (`reactor/accept.rs`).

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

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

/// The places of a broker.
#[derive(Debug)]
pub(crate) struct Places {
    bounds: Admission,
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
pub(crate) enum Place {
    /// A place among all, and among those of its address if these are counted.
    Regular(Option<Cells>),
    /// It may not stay.
    Unwelcome,
}

/// The cells of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cells([u16; 2]);

/// What an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4(u32),
    /// A /64.
    V6(u64),
}

impl Network {
    pub(crate) fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(v4) => Network::V4(v4.into()),
            IpAddr::V6(v6) => Network::V6((u128::from(v6) >> 64) as u64),
        }
    }
}

/// Connections that wait to be told why they may not stay, over all shards; more are closed at once.
pub(crate) const UNWELCOME_MAX: usize = 64;
/// Cells of a row: 256 KiB of counts. With 10,000 addresses connected, one in 50 shares both of its
/// cells with others.
const CELLS: usize = 1 << 16;

impl Places {
    pub(crate) fn new(bounds: Admission) -> Places {
        let count = match bounds.connections_per_address_max {
            0 => 0,
            _ => CELLS,
        };
        Places {
            bounds,
            connections: AtomicUsize::new(0),
            unwelcome: AtomicUsize::new(0),
            hasher: RandomState::new(),
            addresses: [(); 2].map(|()| (0..count).map(|_| AtomicU32::new(0)).collect()),
        }
    }

    pub(crate) fn bounds(&self) -> &Admission {
        &self.bounds
    }

    /// The cells of an address.
    pub(crate) fn cells(&self, address: IpAddr) -> Cells {
        let hash = self.hasher.hash_one(Network::of(address));
        Cells([hash as u16, (hash >> 16) as u16])
    }

    /// A place among all connections.
    pub(crate) fn take(&self) -> Result<(), Refusal> {
        if take_one(&self.connections, self.bounds.connections_max) {
            Ok(())
        } else {
            Err(Refusal::ConnectionsFull)
        }
    }

    /// A place among the connections of an address; for one that has a place among all.
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

    /// A place for a connection that may not stay. False if there is not even that.
    pub(crate) fn take_unwelcome(&self) -> bool {
        take_one(&self.unwelcome, UNWELCOME_MAX)
    }

    /// Gives a place back.
    pub(crate) fn give_back(&self, place: Place) {
        let count = match place {
            Place::Regular(cells) => {
                if let Some(cells) = cells {
                    self.leave_address(cells);
                }
                &self.connections
            }
            Place::Unwelcome => &self.unwelcome,
        };
        let before = count.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a place is given back once");
    }

    /// Places taken, those of unwelcome connections aside.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn leave_address(&self, cells: Cells) {
        for count in self.counts(cells) {
            let before = count.fetch_sub(1, Ordering::Relaxed);
            assert!(before > 0, "a place of an address is given back once");
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

    fn places(connections_max: usize, connections_per_address_max: u32) -> Places {
        Places::new(Admission {
            connections_max,
            connections_per_address_max,
            ..Admission::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let places = places(2, 0);
        assert_eq!(places.take(), Ok(()));
        assert_eq!(places.take(), Ok(()));
        assert_eq!(places.take(), Err(Refusal::ConnectionsFull));
        assert_eq!(places.connections(), 2);
        places.give_back(Place::Regular(None));
        assert_eq!(places.take(), Ok(()));
        for _ in 0..UNWELCOME_MAX {
            assert!(places.take_unwelcome());
        }
        assert!(!places.take_unwelcome());
        places.give_back(Place::Unwelcome);
        assert!(places.take_unwelcome());
        assert_eq!(places.connections(), 2);
    }

    // (threat 28)
    #[test]
    fn one_address_has_its_share_of_the_places_and_others_have_theirs() {
        let places = places(1_000_000, 3);
        let hog = places.cells(ip("10.0.0.1"));
        let of_hog = || places.take_of_address(hog);
        assert_eq!([of_hog(), of_hog(), of_hog()], [Ok(Some(hog)); 3]);
        assert_eq!(of_hog(), Err(Refusal::AddressFull));
        let refused = (0..1000_u32).filter(|n| {
            let other = places.cells(IpAddr::from(0x0B00_0000_u32.wrapping_add(*n).to_be_bytes()));
            places.take_of_address(other).is_err()
        });
        assert_eq!(refused.count(), 0);
        assert!(places.take().is_ok());
        places.give_back(Place::Regular(Some(hog)));
        assert_eq!(of_hog(), Ok(Some(hog)));
        assert_eq!(of_hog(), Err(Refusal::AddressFull));
    }

    #[test]
    fn an_ipv6_network_and_a_mapped_address_count_as_one() {
        let places = places(1, 1);
        let cells = |text| places.cells(ip(text));
        assert_eq!(cells("2001:db8::1"), cells("2001:db8::ffff:1:2:3"));
        assert_ne!(cells("2001:db8::1"), cells("2001:db8:0:1::1"));
        assert_eq!(cells("::ffff:10.0.0.1"), cells("10.0.0.1"));
    }

    #[test]
    fn an_address_may_come_so_often_and_another_one_too() {
        let places = places(1, 0);
        let mut rates = AddressRates::default();
        let (hog, other) = (places.cells(ip("10.0.0.1")), places.cells(ip("10.0.0.2")));
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
