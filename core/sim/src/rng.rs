//! The source of every choice of a run: the same seed gives the same run.

/// Any seed is a good seed, so that seeds can simply be counted up.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// A stream of its own for each pair of `seed` and `salt`: what one part of a run draws does
    /// not shift what another part draws.
    pub fn new(seed: u64, salt: u64) -> Rng {
        let mut mixed = fastrand::Rng::with_seed(seed ^ salt.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Rng(mixed.fork())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number `< bound`; `bound > 0`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        self.0.u64(..bound)
    }

    /// An index into something of `count` entries; `count > 0`.
    pub fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// A number in `min..=max`.
    pub fn between(&mut self, min: u64, max: u64) -> u64 {
        assert!(min <= max, "the range {min}..={max} is empty");
        min + self.below(max - min + 1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the entries; `entries` is not empty.
    pub fn pick<'a, T>(&mut self, entries: &'a [T]) -> &'a T {
        &entries[self.index(entries.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_salt_give_the_same_stream() {
        let draw = |seed, salt| {
            let mut rng = Rng::new(seed, salt);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn below_gives_every_value_and_no_other() {
        let mut rng = Rng::new(1, 0);
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
    }
}
