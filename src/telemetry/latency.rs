//! How long things took: a histogram that one worker writes and anyone may read.
//!
//! Bins are half octaves: 32, 48, 64, 96, 128 ... microseconds. Times are differences of [`Stamp`]s, which the worker reads
//! once a pass; so they are as exact as a pass is short.

use super::cells::Counter;

/// A moment of one worker's clock, in microseconds. It wraps after 71 minutes; differences do not notice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp(pub u32);

impl Stamp {
    /// Microseconds since an earlier moment.
    #[inline]
    pub fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The shortest time that is told from shorter ones is 2 to the power of this, in microseconds.
const LOWEST: u32 = 5;
/// The longest, likewise: 4.2 s.
const HIGHEST: u32 = 22;
/// Bins of a [`Latency`].
pub const BINS: usize = 2 * (HIGHEST - LOWEST) as usize + 2;

/// Upper bounds of all bins but the last, which has none; in microseconds, not included in the bin.
pub const BOUNDS: [u32; BINS - 1] = {
    let mut bounds = [0; BINS - 1];
    let mut bin = 0;
    while bin < BINS - 1 {
        let octave = 1 << (LOWEST + bin as u32 / 2);
        bounds[bin] = if bin % 2 == 0 { octave } else { octave + octave / 2 };
        bin += 1;
    }
    bounds
};

/// The bin of a time in microseconds.
#[inline]
fn bin(micros: u32) -> usize {
    if micros < 1 << LOWEST {
        return 0;
    }
    let octave = micros.ilog2();
    let half = (micros >> (octave - 1)) & 1;
    ((1 + 2 * (octave - LOWEST) + half) as usize).min(BINS - 1)
}

/// How many things took how long.
#[derive(Debug)]
pub struct Latency {
    bins: [Counter; BINS],
    /// All times together, in microseconds.
    sum: Counter,
}

impl Default for Latency {
    fn default() -> Self {
        Self { bins: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

impl Latency {
    /// Something took so many microseconds.
    #[inline]
    pub fn record(&self, micros: u32) {
        if micros == 0 {
            // Most of what waits in the proxy does not wait for the end of the pass.
            return self.bins[0].increment();
        }
        self.bins[bin(micros)].increment();
        self.sum.add(u64::from(micros));
    }

    /// Adds what was recorded to a total.
    pub fn add_to(&self, total: &mut Times) {
        total.bins.iter_mut().zip(&self.bins).for_each(|(total, own)| *total += own.get());
        total.sum_us += self.sum.get();
    }
}

/// The sum of several [`Latency`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// By bin; see [`BOUNDS`].
    pub bins: [u64; BINS],
    /// All times together, in microseconds.
    pub sum_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { bins: [0; BINS], sum_us: 0 }
    }
}

impl Times {
    /// Things recorded.
    pub fn count(&self) -> u64 {
        self.bins.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_half_octaves() {
        assert_eq!(BOUNDS[..6], [32, 48, 64, 96, 128, 192]);
        assert_eq!(BOUNDS[BINS - 2], 1 << HIGHEST);
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn stamps_wrap() {
        assert_eq!(Stamp(5).since(Stamp(u32::MAX - 4)), 10);
    }

    #[test]
    fn a_total_has_everything() {
        let latency = Latency::default();
        [0, 31, 32, 50, 1_000_000, u32::MAX].into_iter().for_each(|micros| latency.record(micros));
        let mut total = Times::default();
        latency.add_to(&mut total);
        latency.add_to(&mut total);
        assert_eq!((total.count(), total.bins[0], total.bins[BINS - 1]), (12, 4, 2));
        assert_eq!(total.sum_us, 2 * (31 + 32 + 50 + 1_000_000 + u64::from(u32::MAX)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn each_time_is_in_the_bin_whose_bounds_it_is_between(shift in 0..32u32, micros: u32) {
            let micros = micros >> shift;
            let bin = bin(micros);
            prop_assert!(bin == BINS - 1 || micros < BOUNDS[bin]);
            prop_assert!(bin == 0 || micros >= BOUNDS[bin - 1]);
        }
    }
}
