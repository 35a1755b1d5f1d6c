//! Which of a stream of keys come most often, in a fixed amount of memory: the space-saving sketch of Metwally, Agrawal
//! and El Abbadi, with counts that are halved now and then, so that what was hot long ago is forgotten. Pure.
//!
//! Invariants, up to what halving rounds, for a key that came `n` times (halved along with the counts):
//! - one that has a counter: `count - error <= n <= count`;
//! - one that has none came at most as often as the smallest count says, which is at most `total / COUNTERS`.

use std::time::{Duration, Instant};

use super::super::keys::Key;

/// Keys that are watched at a time: whatever has more than a 256th of the requests is among them.
pub(super) const COUNTERS: usize = 256;
/// A key counts for so much, so that halving loses little.
pub(super) const ONE: u32 = 64;
/// How often the counts are halved, in seconds.
const HALF_LIFE: u64 = 10;
/// Counters that are compared in one go.
const STRIDE: usize = 16;

/// A key and where it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tracked {
    pub key: Key,
    /// The server that was asked last.
    pub server: u64,
}

/// The counters. What is looked through for each key lies together.
#[derive(Debug)]
pub(super) struct Sketch {
    /// The low halves of the keys' ids.
    marks: [u32; COUNTERS],
    /// 0: the counter is free.
    counts: [u32; COUNTERS],
    errors: [u32; COUNTERS],
    keys: [Tracked; COUNTERS],
    /// Of all keys that came.
    total: u64,
    /// When the counts were halved last.
    halved: Instant,
}

/// A counter as it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub key: Key,
    pub server: u64,
    /// It came at least so often, in [`ONE`]s.
    pub least: u32,
}

impl Sketch {
    pub fn new(now: Instant) -> Self {
        let nobody = Tracked { key: Key::new(b"", 0), server: 0 };
        let zeros = [0; COUNTERS];
        Self { marks: zeros, counts: zeros, errors: zeros, keys: [nobody; COUNTERS], total: 0, halved: now }
    }

    /// A key came.
    pub fn add(&mut self, tracked: Tracked) {
        self.total += u64::from(ONE);
        let at = self.find(&tracked.key).unwrap_or_else(|| {
            let at = self.least();
            // Nobody knows whether it came before, but not more often than this.
            self.errors[at] = self.counts[at];
            self.marks[at] = mark(&tracked.key);
            at
        });
        self.counts[at] = self.counts[at].saturating_add(ONE);
        self.keys[at] = tracked;
    }

    fn find(&self, key: &Key) -> Option<usize> {
        let mark = mark(key);
        let strides = self.marks.chunks_exact(STRIDE).enumerate();
        // Without a way out in the middle, so that it is one comparison of many at a time.
        let some = |marks: &[u32]| marks.iter().fold(false, |found, other| found | (*other == mark));
        strides.filter(|(_, marks)| some(marks)).find_map(|(stride, _)| {
            let mut places = stride * STRIDE..(stride + 1) * STRIDE;
            places.find(|at| self.counts[*at] > 0 && self.keys[*at].key.id() == key.id())
        })
    }

    fn least(&self) -> usize {
        let least = self.counts.iter().fold(u32::MAX, |least, count| least.min(*count));
        self.counts.iter().position(|count| *count == least).unwrap_or_default()
    }

    /// Halves the counts if it is time.
    pub fn fade(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.halved).as_secs() / HALF_LIFE;
        if periods == 0 {
            return;
        }
        let shift = periods.min(31) as u32;
        self.halved += Duration::from_secs(periods * HALF_LIFE);
        self.total >>= shift;
        for (count, error) in self.counts.iter_mut().zip(&mut self.errors) {
            (*count, *error) = (*count >> shift, *error >> shift);
        }
    }

    /// All keys that came, in [`ONE`]s.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn all(&self) -> impl Iterator<Item = Counted> {
        (0..COUNTERS).filter(|at| self.counts[*at] > self.errors[*at]).map(|at| Counted {
            key: self.keys[at].key,
            server: self.keys[at].server,
            least: self.counts[at] - self.errors[at],
        })
    }
}

fn mark(key: &Key) -> u32 {
    key.id() as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn tracked(key: u32) -> Tracked {
        Tracked { key: Key::new(&key.to_le_bytes(), 4), server: u64::from(key) }
    }

    fn seconds(seconds: u32) -> Duration {
        Duration::from_secs(u64::from(seconds))
    }

    /// The bounds of a key.
    fn bounds(sketch: &Sketch, key: u32) -> Option<(u32, u32)> {
        let at = sketch.find(&tracked(key).key)?;
        Some((sketch.counts[at] - sketch.errors[at], sketch.counts[at]))
    }

    /// Keys with skewed frequencies: the exponent turns an even number into one that is mostly small.
    fn skewed(even: f64, keys: u32, skew: i32) -> u32 {
        (f64::from(keys) * even.powi(skew)) as u32
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn counts_are_right_within_their_errors(
            stream in prop::collection::vec(0.0..1.0f64, 1..6000),
            keys in 1..2000u32,
            skew in 1..8i32,
        ) {
            let (mut sketch, mut exact) = (Sketch::new(Instant::now()), HashMap::new());
            for even in &stream {
                let key = skewed(*even, keys, skew);
                sketch.add(tracked(key));
                *exact.entry(key).or_insert(0) += ONE;
            }
            prop_assert_eq!(sketch.total(), stream.len() as u64 * u64::from(ONE));
            let longest = sketch.total() / COUNTERS as u64;
            prop_assert!(u64::from(sketch.counts[sketch.least()]) <= longest);
            for (key, count) in exact {
                match bounds(&sketch, key) {
                    Some((least, most)) => prop_assert!(least <= count && count <= most, "{least} {count} {most}"),
                    None => prop_assert!(u64::from(count) <= longest, "{count} of {}", sketch.total()),
                }
            }
        }

        #[test]
        fn halving_keeps_the_bounds(
            rounds in prop::collection::vec((prop::collection::vec(0.0..1.0f64, 0..500), 0..4u32), 1..12),
            keys in 1..1000u32,
        ) {
            let start = Instant::now();
            let (mut sketch, mut exact, mut halvings) = (Sketch::new(start), HashMap::new(), 0);
            for (stream, periods) in rounds {
                for even in stream {
                    let key = skewed(even, keys, 3);
                    sketch.add(tracked(key));
                    *exact.entry(key).or_insert(0.0) += f64::from(ONE);
                }
                halvings += periods;
                sketch.fade(start + seconds(10 * halvings));
                exact.values_mut().for_each(|count| *count /= f64::from(1 << periods));
            }
            // Each halving loses less than one, and halves what was lost before.
            let rounding = 2.0;
            for (key, count) in exact {
                let (least, most) = bounds(&sketch, key).unwrap_or((0, sketch.counts[sketch.least()]));
                prop_assert!(f64::from(least) <= count + rounding && count <= f64::from(most) + rounding);
            }
        }
    }

    #[test]
    fn what_was_hot_is_forgotten() {
        let start = Instant::now();
        let mut sketch = Sketch::new(start);
        (0..1000).for_each(|_| sketch.add(tracked(1)));
        sketch.fade(start + seconds(10));
        (0..1000).for_each(|_| sketch.add(tracked(2)));
        let share =
            |sketch: &Sketch, key| bounds(sketch, key).map(|(least, _)| f64::from(least) / sketch.total() as f64);
        assert!((share(&sketch, 2).unwrap() - 2.0 / 3.0).abs() < 0.01);
        sketch.fade(start + seconds(15));
        assert!((share(&sketch, 1).unwrap() - 1.0 / 3.0).abs() < 0.01, "not time yet");
        sketch.fade(start + seconds(400));
        assert_eq!((sketch.all().count(), sketch.total()), (0, 0));
    }
}
