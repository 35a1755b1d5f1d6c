//! Randomness with a seed, so that what should not happen everywhere at once does not, and tests repeat.

use std::time::Duration;

/// A generator of random waits (splitmix64): small, seeded, good enough to spread things in time.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// Any seed will do, 0 too.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A random number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random wait from zero up to, not including, `limit`; zero if that is zero.
    pub fn below(&mut self, limit: Duration) -> Duration {
        // 53 bits: what an f64 holds exactly.
        limit.mul_f64((self.number() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// `middle`, give or take up to a tenth of it.
    pub fn around(&mut self, middle: Duration) -> Duration {
        middle * 9 / 10 + self.below(middle / 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_spread_over_the_whole_width() {
        let mut jitter = Jitter::new(0);
        let second = Duration::from_secs(1);
        let waits: Vec<_> = (0..1000).map(|_| jitter.below(second)).collect();
        for tenth in 0..10 {
            let within = second / 10 * tenth..second / 10 * (tenth + 1);
            let hits = waits.iter().filter(|wait| within.contains(wait)).count();
            assert!((60..140).contains(&hits), "{hits} of 1000 in {within:?}");
        }
        assert!((0..100).map(|_| jitter.around(second)).all(|w| (900..=1100).contains(&w.as_millis())));
        assert_eq!(jitter.below(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let row = |seed| {
            let mut jitter = Jitter::new(seed);
            [(); 4].map(|()| jitter.number())
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
    }
}
