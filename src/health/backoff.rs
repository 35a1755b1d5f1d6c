//! Waits that grow from try to try, up to a limit, and differ from one waiter to the next.

use std::time::Duration;

use super::Jitter;

/// The waits between attempts at something that keeps failing.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    random: Jitter,
    /// Waits handed out since the last success.
    waits: u32,
}

impl Backoff {
    /// The first wait is `base`, each further one `factor` times the one before, none longer than `max`. From each a
    /// random part is taken off, `jitter` (0 to 1) of it at the most.
    pub fn new(base: Duration, max: Duration, factor: f64, jitter: f64, seed: u64) -> Self {
        Self { base, max, factor, jitter: jitter.clamp(0.0, 1.0), random: Jitter::new(seed), waits: 0 }
    }

    /// How long to wait before the next attempt.
    #[allow(clippy::should_implement_trait)] // Not a sequence: `reset` starts it anew.
    pub fn next(&mut self) -> Duration {
        let wait = grown(self.base, self.factor, self.waits).min(self.max);
        self.waits = self.waits.saturating_add(1);
        wait.saturating_sub(self.random.below(wait.mul_f64(self.jitter)))
    }

    /// The attempt succeeded.
    pub fn reset(&mut self) {
        self.waits = 0;
    }
}

/// Longer than anyone waits, and short enough to be added to any time: ten years.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// `base`, `times` times multiplied by `factor`; at the most [`FOREVER`].
pub(super) fn grown(base: Duration, factor: f64, times: u32) -> Duration {
    // Nothing grows after a thousand times that had not exceeded every limit before.
    let seconds = base.as_secs_f64() * factor.powi(times.min(1000) as i32);
    Duration::try_from_secs_f64(seconds).map_or(FOREVER, |grown| grown.min(FOREVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(jitter: f64, seed: u64) -> Backoff {
        Backoff::new(Duration::from_millis(10), Duration::from_millis(100), 2.0, jitter, seed)
    }

    #[test]
    fn doubles_up_to_the_limit_and_starts_anew_after_a_success() {
        let mut backoff = backoff(0.0, 0);
        assert_eq!([(); 6].map(|()| backoff.next().as_millis()), [10, 20, 40, 80, 100, 100]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 10);
    }

    #[test]
    fn no_two_waiters_march_in_step() {
        let (mut one, mut other) = (backoff(0.5, 1), backoff(0.5, 2));
        for whole in [10, 20, 40, 80, 100, 100] {
            let waits = [one.next(), other.next()];
            assert_ne!(waits[0], waits[1]);
            let allowed = Duration::from_millis(whole / 2)..=Duration::from_millis(whole);
            assert!(waits.iter().all(|wait| allowed.contains(wait)), "{waits:?} beside {allowed:?}");
        }
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff::new(Duration::from_secs(600), Duration::MAX, 2.0, 1.0, 0);
        assert!((0..3000).all(|_| backoff.next() <= FOREVER));
        assert_eq!(grown(Duration::from_secs(1), 1.5, u32::MAX), FOREVER);
        assert_eq!(grown(Duration::ZERO, 1.5, u32::MAX), Duration::ZERO);
    }
}
