//! Chance from a seed, for tests.

/// Numbers that look random; SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    #[allow(dead_code, reason = "only some tests ask")]
    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    #[allow(dead_code, reason = "only some tests ask")]
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
