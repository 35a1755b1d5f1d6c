//! The flush policy. Two system calls per request are the floor at depth 1; the rest is shared by the requests of a
//! batch, so what a pass costs is decided by how many requests it finds.
//!
//! When many sessions are waiting for replies, the worker sleeps for some microseconds between the writes of one pass
//! and the look for the next. The bytes of the pass are out already, so only what arrives meanwhile waits, and it is
//! found together; client and server find larger batches, too, and have the processor for themselves until then. With
//! few sessions waiting there is nothing to collect, and the next event is taken at once: a lone client never waits.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::{ClockId, Timespec, clock_nanosleep_relative, set_current_timer_slack};

/// When to sleep, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pacing {
    /// Length of one sleep; zero: never.
    pub pause: Duration,
    /// Sessions that wait for a reply, averaged over the last passes, from which on it pays.
    pub crowd: f32,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { pause: Duration::from_micros(20), crowd: 6.0 }
    }
}

/// Weight of the newest pass in the average.
const NEWEST: f32 = 1.0 / 32.0;

/// Decides at the end of each pass.
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    pacing: Pacing,
    /// Moving average of the sessions that wait for a reply.
    waiting: f32,
}

impl Pacer {
    pub fn new(pacing: Pacing) -> Self {
        Self { pacing, waiting: 0.0 }
    }

    /// Called when a pass has written everything, with the number of sessions that wait for a reply; how long to sleep.
    pub fn pass_ended(&mut self, waiting: usize) -> Option<Duration> {
        self.waiting += (waiting as f32 - self.waiting) * NEWEST;
        let crowded = self.waiting >= self.pacing.crowd && waiting > 1;
        (crowded && !self.pacing.pause.is_zero()).then_some(self.pacing.pause)
    }
}

/// Lets [`pause`] of this thread be as short as it is asked to be; Linux adds 50 µs to every sleep by default.
pub fn allow_short_pauses() {
    // Without it pauses are longer than they should be, which costs latency under load, not correctness.
    if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::debug!(%error, "timer slack");
    }
}

/// Sleeps the thread.
pub fn pause(duration: Duration) {
    let request = Timespec { tv_sec: 0, tv_nsec: i64::from(duration.subsec_nanos()) };
    let _ = clock_nanosleep_relative(ClockId::Monotonic, &request);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(passes: usize, waiting: usize) -> Option<Duration> {
        let mut pacer = Pacer::new(Pacing::default());
        (0..passes).map(|_| pacer.pass_ended(waiting)).last().flatten()
    }

    #[test]
    fn few_sessions_are_never_held_up() {
        assert_eq!(after(10_000, 1), None);
        assert_eq!(after(10_000, 5), None);
    }

    #[test]
    fn a_crowd_is_collected_once_it_has_lasted() {
        assert_eq!(after(2, 50), None);
        assert_eq!(after(100, 50), Some(Duration::from_micros(20)));
    }

    #[test]
    fn the_last_of_a_crowd_is_not_held_up() {
        let mut pacer = Pacer::new(Pacing::default());
        for _ in 0..100 {
            pacer.pass_ended(50);
        }
        assert_eq!(pacer.pass_ended(1), None);
    }
}
