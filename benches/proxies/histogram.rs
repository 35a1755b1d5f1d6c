//! Latencies in ns, log-linear: 128 steps an octave, so a value read back is off by less than 0.4 %.

const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
/// Up to 2^36 ns, 68 s; anything longer is counted there.
const OCTAVES: usize = 36 - STEP_BITS as usize;

pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; STEPS * (OCTAVES + 1)], total: 0 }
    }

    pub fn record(&mut self, ns: u64) {
        self.counts[bucket(ns).min(STEPS * (OCTAVES + 1) - 1)] += 1;
        self.total += 1;
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value that `share` (0 to 1) of all latencies do not exceed, in ns; 0 when there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= wanted {
                return middle(index);
            }
        }
        0.0
    }
}

/// Below 2 × STEPS a bucket is one ns wide; then its width doubles with each octave.
fn bucket(ns: u64) -> usize {
    let octave = (64 - STEP_BITS - 1).saturating_sub(ns.leading_zeros());
    octave as usize * STEPS + (ns >> octave) as usize
}

fn middle(index: usize) -> f64 {
    let octave = (index / STEPS).saturating_sub(1);
    let first = ((index - octave * STEPS) as u64) << octave;
    first as f64 + ((1u64 << octave) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_within_half_a_percent() {
        for ns in (0..35).flat_map(|bits| [1u64 << bits, (1 << bits) + (1 << bits) / 3, (2 << bits) - 1]) {
            let read = middle(bucket(ns));
            assert!((read - ns as f64).abs() <= ns as f64 * 0.004, "{ns} read back as {read}");
        }
    }

    #[test]
    fn buckets_never_go_back() {
        let all: Vec<usize> = (0..100_000).map(bucket).collect();
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] - pair[0] <= 1));
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|us| histogram.record(us * 1000));
        for (share, us) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let read = histogram.quantile(share) / 1000.0;
            assert!((read - us).abs() <= us * 0.004, "p{share}: {read} for {us}");
        }
    }

    #[test]
    fn nothing_and_too_much() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0.0);
        histogram.record(u64::MAX);
        assert!(histogram.quantile(0.5) > 60e9);
    }
}
