//! Hot and big keys of one pool, as one worker sees them: written by that worker, read by anyone.
//!
//! Hot keys are found in a sample; the worker decides what is in it. The worker waits for nobody: while somebody reads, a
//! sample is lost. What there is to remember takes a fixed amount of memory, from the first sample on.

mod big;
mod sketch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::keys::Key;
pub use big::Big;
use big::{BigKeys, LEAST};
use sketch::{ONE, Sketch, Tracked};

/// One request in so many is looked at.
pub const SAMPLE_EVERY: u32 = 64;

/// What one worker has found out about the keys of one pool.
#[derive(Debug)]
pub struct HotKeys {
    /// `None` before the first sample.
    seen: Mutex<Option<Box<Seen>>>,
    /// See [`HotKeys::may_be_big`].
    floor: AtomicU64,
}

#[derive(Debug)]
struct Seen {
    sketch: Sketch,
    big: BigKeys,
}

impl Default for HotKeys {
    fn default() -> Self {
        Self { seen: Mutex::default(), floor: AtomicU64::new(LEAST) }
    }
}

/// A key that is asked for often.
#[derive(Debug, Clone, Copy)]
pub struct Hot {
    pub key: Key,
    /// The number of the server that was asked for it last.
    pub server: u64,
    /// Of all that is asked for in the pool, from 0 to 1; at least that, rather than about.
    pub share: f64,
}

/// What all workers have found out about one pool.
#[derive(Debug, Default)]
pub struct Found {
    /// Keys that the shares are of. Older ones count for less, so that it is what came in the last half minute or so.
    pub samples: u64,
    /// Hottest first.
    pub hot: Vec<Hot>,
    /// Largest first.
    pub big: Vec<Big>,
}

impl HotKeys {
    /// A key of a sampled request, and the number of the server that is asked for it.
    pub fn saw(&self, key: Key, server: u64, now: Instant) {
        self.note(now, |seen| seen.sketch.add(Tracked { key, server }));
    }

    /// Whether a request or a reply of this size may be one of the largest.
    pub fn may_be_big(&self, bytes: u64) -> bool {
        bytes > self.floor.load(Relaxed)
    }

    /// The size of a request or a reply, whichever is larger.
    pub fn saw_size(&self, big: Big) {
        if big.bytes >= LEAST {
            self.note(big.at, |seen| {
                seen.big.add(big);
                self.floor.store(seen.big.floor(), Relaxed);
            });
        }
    }

    fn note(&self, now: Instant, what: impl FnOnce(&mut Seen)) {
        let Ok(mut seen) = self.seen.try_lock() else { return };
        let seen = seen.get_or_insert_with(|| Box::new(Seen { sketch: Sketch::new(now), big: BigKeys::new() }));
        seen.sketch.fade(now);
        what(seen);
    }

    /// Forgets everything, and gives back the memory.
    pub fn clear(&self) {
        *self.lock() = None;
        self.floor.store(LEAST, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    /// By the workers of one pool together: the hottest, so many at the most.
    pub fn by<'a>(workers: impl IntoIterator<Item = &'a HotKeys>, most: usize, now: Instant) -> Self {
        let (mut total, mut hot, mut big) = (0, HashMap::new(), BigKeys::new());
        for worker in workers {
            let mut seen = worker.lock();
            let Some(seen) = seen.as_mut() else { continue };
            seen.sketch.fade(now);
            seen.big.forget(now);
            worker.floor.store(seen.big.floor(), Relaxed);
            total += seen.sketch.total();
            for counted in seen.sketch.all() {
                hot.entry(counted.key.id()).or_insert((counted, 0)).1 += u64::from(counted.least);
            }
            seen.big.all().iter().for_each(|one| big.add(*one));
        }
        let share = |least: u64| least as f64 / total.max(1) as f64;
        let hot = hot.into_values().map(|(counted, least)| Hot {
            key: counted.key,
            server: counted.server,
            share: share(least),
        });
        let (mut hot, mut big) = (hot.collect::<Vec<_>>(), big.all().to_vec());
        // By id, where they are as hot: the order is to be the same in the next answer.
        hot.sort_by(|one, other| other.share.total_cmp(&one.share).then(one.key.id().cmp(&other.key.id())));
        hot.truncate(most);
        big.sort_by_key(|big| std::cmp::Reverse(big.bytes));
        Self { samples: total / u64::from(ONE), hot, big }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::KeyForm;

    fn key(number: u64) -> Key {
        let text = number.to_string();
        Key::new(text.as_bytes(), text.len())
    }

    fn number(key: &Key) -> u64 {
        key.shown(KeyForm::Plain).parse().unwrap()
    }

    /// Marsaglia's xorshift.
    fn random(state: &mut u64) -> f64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A key of a Zipf distribution with exponent 1, from 1.
    fn zipf(cumulative: &[f64], state: &mut u64) -> u64 {
        let even = random(state) * cumulative.last().unwrap();
        cumulative.partition_point(|sum| *sum < even) as u64 + 1
    }

    #[test]
    fn the_shares_of_a_zipf_load_are_right_over_several_workers() {
        const KEYS: usize = 100_000;
        let mut sum = 0.0;
        let cumulative: Vec<f64> = (1..=KEYS).map(|rank| (sum += 1.0 / rank as f64, sum).1).collect();
        let (workers, now, mut state) =
            ([HotKeys::default(), HotKeys::default()], Instant::now(), 88_172_645_463_325_252);
        for sample in 0..200_000 {
            workers[sample % 2].saw(key(zipf(&cumulative, &mut state)), 7, now);
        }
        let found = Found::by(&workers, 10, now);
        assert_eq!((found.samples, found.hot.len(), found.big.len()), (200_000, 10, 0));
        assert_eq!(found.hot.iter().map(|hot| number(&hot.key)).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        for (rank, hot) in (1..).zip(&found.hot) {
            let expected = 1.0 / f64::from(rank) / sum;
            assert!((hot.share / expected - 1.0).abs() < 0.1, "{rank}: {} instead of {expected}", hot.share);
            assert_eq!(hot.server, 7);
        }
    }

    #[test]
    fn a_hot_key_shows_within_one_half_life_and_the_old_one_goes() {
        let (keys, start) = (HotKeys::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let hottest = |seconds| {
            let found = Found::by([&keys], 1, at(seconds));
            found.hot.first().map(|hot| (number(&hot.key), (hot.share * 100.0).round() as u64))
        };
        (0..60).for_each(|second| (0..100).for_each(|_| keys.saw(key(1), 0, at(second))));
        assert_eq!(hottest(60), Some((1, 100)));
        (60..75).for_each(|second| (0..100).for_each(|_| keys.saw(key(2), 0, at(second))));
        assert_eq!(hottest(75).map(|(key, _)| key), Some(2));
        assert_eq!(hottest(1000), None);
    }

    #[test]
    fn big_keys_of_all_workers_are_one_list() {
        let (workers, now) = ([HotKeys::default(), HotKeys::default()], Instant::now());
        assert!(workers[0].may_be_big(LEAST + 1) && !workers[0].may_be_big(LEAST));
        for number in 0..30 {
            let big = Big { key: key(number), command: "get", bytes: 10_000 + number, at: now };
            workers[number as usize % 2].saw_size(big);
        }
        workers[0].saw_size(Big { key: key(29), command: "set", bytes: 1, at: now });
        let found = Found::by(&workers, 5, now);
        assert_eq!(
            found.big.iter().map(|big| number(&big.key)).collect::<Vec<_>>(),
            (10..30).rev().collect::<Vec<_>>()
        );
        let later = Found::by(&workers, 5, now + Duration::from_secs(3600));
        assert_eq!(later.big, []);
        workers.iter().for_each(HotKeys::clear);
        assert!(Found::by(&workers, 5, now).big.is_empty());
    }

    #[test]
    fn a_sample_is_lost_while_somebody_reads() {
        let (keys, now) = (HotKeys::default(), Instant::now());
        let reader = keys.lock();
        keys.saw(key(1), 0, now);
        drop(reader);
        keys.saw(key(2), 0, now);
        let found = Found::by([&keys], 5, now);
        assert_eq!(found.hot.iter().map(|hot| number(&hot.key)).collect::<Vec<_>>(), [2]);
    }
}
