//! The largest values and requests of late. Pure.

use std::time::{Duration, Instant};

use super::super::keys::Key;

/// Keys that are kept.
pub(super) const MOST: usize = 20;
/// What is smaller is not big, in bytes.
pub(super) const LEAST: u64 = 1024;
/// One that was not seen for so long, as large, is forgotten.
const AGE: Duration = Duration::from_secs(600);

/// A key with a large value, or a large request for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Big {
    pub key: Key,
    pub command: &'static str,
    /// Of the request or of the reply, whichever is larger.
    pub bytes: u64,
    /// When it was that large.
    pub at: Instant,
}

/// Each key once, with its largest size.
#[derive(Debug)]
pub(super) struct BigKeys(Vec<Big>);

impl BigKeys {
    pub fn new() -> Self {
        Self(Vec::with_capacity(MOST))
    }

    /// Takes it up if it is one of the largest. Of the same key the larger one stays.
    pub fn add(&mut self, big: Big) {
        if let Some(known) = self.0.iter_mut().find(|known| known.key.id() == big.key.id()) {
            if big.bytes >= known.bytes || is_old(known, big.at) {
                *known = big;
            }
            return;
        }
        if self.0.len() == MOST {
            self.forget(big.at);
        }
        if self.0.len() < MOST {
            self.0.push(big);
        } else if let Some(smallest) = self.0.iter_mut().min_by_key(|known| known.bytes)
            && smallest.bytes < big.bytes
        {
            *smallest = big;
        }
    }

    pub fn forget(&mut self, now: Instant) {
        self.0.retain(|known| !is_old(known, now));
    }

    /// What is not larger need not be added.
    pub fn floor(&self) -> u64 {
        if self.0.len() < MOST { LEAST } else { self.0.iter().map(|big| big.bytes).min().unwrap_or(LEAST) }
    }

    pub fn all(&self) -> &[Big] {
        &self.0
    }
}

fn is_old(big: &Big, now: Instant) -> bool {
    now.saturating_duration_since(big.at) >= AGE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn big(key: u64, bytes: u64, at: Instant) -> Big {
        Big { key: Key::new(&key.to_le_bytes(), 8), command: "get", bytes, at }
    }

    fn sizes(keys: &BigKeys) -> Vec<u64> {
        let mut sizes: Vec<u64> = keys.all().iter().map(|big| big.bytes).collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        sizes
    }

    #[test]
    fn the_largest_stay() {
        let (mut keys, now) = (BigKeys::new(), Instant::now());
        assert_eq!(keys.floor(), LEAST);
        // In an order that is neither up nor down.
        (0..100).map(|n| n * 37 % 100).for_each(|n| keys.add(big(n, 10_000 + n, now)));
        assert_eq!(sizes(&keys), (10_080..10_100).rev().collect::<Vec<_>>());
        assert_eq!(keys.floor(), 10_080);
        assert_eq!(keys.0.capacity(), MOST, "it does not grow");
    }

    #[test]
    fn a_key_is_there_once_with_its_largest_size() {
        let (mut keys, now) = (BigKeys::new(), Instant::now());
        [5000, 7000, 6000].into_iter().for_each(|bytes| keys.add(big(1, bytes, now)));
        assert_eq!(sizes(&keys), [7000]);
        keys.add(big(1, 2000, now + AGE));
        assert_eq!(sizes(&keys), [2000], "it is that large no more");
    }

    #[test]
    fn what_was_not_seen_for_long_makes_room() {
        let (mut keys, now) = (BigKeys::new(), Instant::now());
        (0..MOST as u64).for_each(|n| keys.add(big(n, 10_000, now + Duration::from_secs(n))));
        keys.add(big(100, 2000, now + AGE - Duration::from_secs(1)));
        assert_eq!(keys.floor(), 10_000);
        keys.add(big(100, 2000, now + AGE));
        assert_eq!((sizes(&keys).last(), sizes(&keys).len()), (Some(&2000), MOST));
        keys.forget(now + AGE * 3);
        assert_eq!(sizes(&keys), [0; 0]);
    }
}
