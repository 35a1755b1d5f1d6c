//! When a name is to be resolved again. Pure; the seed of the jitter is an argument.

use std::time::Duration;

/// A TTL is taken as at least this, and a name is not resolved more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// A TTL is taken as at most this; it is also the longest wait after failures.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest wait once somebody has asked.
const LONGEST_POKED: Duration = Duration::from_secs(4);

/// How long to wait, from the end of one attempt to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub usual: Duration,
    /// If somebody asks for it; not longer than `usual`.
    pub poked: Duration,
}

/// The waits of one name.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Failed attempts in a row.
    failures: u32,
    /// Attempts in a row that somebody asked for and that brought nothing new. A server that is simply down keeps its
    /// address, and the name servers must not be asked for it every second by every proxy.
    fruitless: u32,
    /// State of the jitter's generator; never 0.
    random: u64,
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, fruitless: 0, random: seed | 1 }
    }

    /// The name was resolved.
    pub fn answered(&mut self, ttl: Duration, changed: bool, poked: bool) -> Wait {
        self.failures = 0;
        self.fruitless = if poked && !changed { self.fruitless.saturating_add(1) } else { 0 };
        let ttl = ttl.clamp(SHORTEST, LONGEST);
        // Only upwards: earlier, a name server would answer from its cache.
        self.wait(ttl, ttl / 10)
    }

    /// The name was not resolved.
    pub fn failed(&mut self, poked: bool) -> Wait {
        self.fruitless = self.fruitless.saturating_add(u32::from(poked));
        let back_off = doubled(self.failures, LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.wait(back_off, back_off / 5)
    }

    fn wait(&mut self, least: Duration, jitter: Duration) -> Wait {
        let usual = least + jitter.mul_f64(self.fraction());
        Wait { usual, poked: doubled(self.fruitless, LONGEST_POKED).min(usual) }
    }

    /// Marsaglia's xorshift: 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as f64 / f64::from(u32::MAX)
    }
}

/// The shortest wait, doubled so many times.
fn doubled(times: u32, longest: Duration) -> Duration {
    SHORTEST.saturating_mul(1 << times.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_ttl_is_waited_out_within_bounds_and_with_jitter() {
        for (ttl, least, most) in [(0, 1000, 1100), (1, 1000, 1100), (10, 10_000, 11_000), (86_400, 30_000, 33_000)] {
            let waits: Vec<_> =
                (0..100).map(|seed| Schedule::new(seed).answered(seconds(ttl), false, false).usual).collect();
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            assert!(waits.iter().all(|w| (least..=most).contains(w)), "{ttl}: {waits:?}");
            let mut schedule = Schedule::new(7);
            let spread: std::collections::BTreeSet<_> =
                (0..100).map(|_| schedule.answered(seconds(ttl), false, false).usual).collect();
            assert!(spread.len() > 90, "{ttl}: no jitter");
        }
    }

    #[test]
    fn failures_back_off_and_a_success_forgets_them() {
        let mut schedule = Schedule::new(1);
        for least in [1, 2, 4, 8, 16, 30, 30, 30] {
            let wait = schedule.failed(false).usual;
            assert!(wait >= seconds(least) && wait <= seconds(least) * 6 / 5, "{wait:?} for {least} s");
        }
        schedule.answered(seconds(10), false, false);
        assert!(schedule.failed(false).usual < seconds(2));
    }

    #[test]
    fn a_poke_shortens_the_wait_less_and_less_while_it_brings_nothing() {
        let mut schedule = Schedule::new(1);
        let mut poked = |changed, poked| schedule.answered(seconds(30), changed, poked).poked;
        assert_eq!(poked(true, false), seconds(1));
        assert_eq!([poked(false, true), poked(false, true), poked(false, true)].map(|w| w.as_secs()), [2, 4, 4]);
        assert_eq!(poked(true, true), seconds(1), "it brought a change");
        poked(false, true);
        assert_eq!(poked(false, false), seconds(1), "nobody had asked");
        assert!(schedule.answered(seconds(1), false, true).poked <= Duration::from_millis(1100));
    }

    #[test]
    fn a_poke_shortens_the_back_off_too() {
        let mut schedule = Schedule::new(1);
        let waits: Vec<_> = (0..50).map(|_| schedule.failed(true)).collect();
        assert!(waits.iter().all(|w| w.poked <= seconds(4) && w.poked >= seconds(1)), "{waits:?}");
    }
}
