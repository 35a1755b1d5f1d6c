//! The flush policy. Two system calls per request are the floor at depth 1; the rest is shared by the requests of a
//! batch, so what a pass costs is decided by how many requests it finds.
//!
//! When requests come densely and from many sessions, the worker sleeps for some microseconds between the writes of one
//! pass and the look for the next. The bytes of the pass are out already, so only what arrives meanwhile waits, and it is
//! found together; clients and servers find larger batches, too, and have the processor for themselves until then. With
//! few sessions there is nothing to collect, and the next event is taken at once: a lone client never waits.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::thread::{ClockId, Timespec, clock_nanosleep_relative, set_current_timer_slack};

/// When to sleep, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Length of one sleep; zero: never.
    pub pause: Duration,
    /// Sessions heard of in one window from which on they are a crowd.
    pub crowd: u32,
    /// Requests per second from which on they are dense.
    pub dense: u32,
}

impl Default for Pacing {
    /// Below 40,000 requests a second a pause finds too little to pay for itself: at 20,000 it doubled the median latency
    /// and saved nothing.
    fn default() -> Self {
        Self { pause: Duration::from_micros(20), crowd: 12, dense: 40_000 }
    }
}

/// Readings from clients after which the pacer makes up its mind anew.
const WINDOW: u32 = 64;

/// Watches which sessions are heard of, and how fast; says at the end of a pass whether to sleep.
#[derive(Debug)]
pub struct Pacer {
    pacing: Pacing,
    /// One bit per session heard of in this window, by the last six bits of its number.
    heard: u64,
    readings: u32,
    requests: u32,
    window_began: Instant,
    /// The last whole window was a crowd's.
    crowded: bool,
}

impl Pacer {
    pub fn new(pacing: Pacing, now: Instant) -> Self {
        Self { pacing, heard: 0, readings: 0, requests: 0, window_began: now, crowded: false }
    }

    /// So many requests of the session with this number were read at once.
    pub fn hear(&mut self, session: u64, requests: u32) {
        self.heard |= 1 << (session % 64);
        self.readings += 1;
        self.requests = self.requests.saturating_add(requests);
    }

    /// Called when the pass that began at `now` has written everything; how long to sleep.
    pub fn pass_ended(&mut self, now: Instant) -> Option<Duration> {
        if self.readings >= WINDOW {
            let elapsed = now.saturating_duration_since(self.window_began).as_secs_f32();
            let dense = self.requests as f32 >= self.pacing.dense as f32 * elapsed;
            self.crowded = dense && self.heard.count_ones() >= self.pacing.crowd && !self.pacing.pause.is_zero();
            (self.heard, self.readings, self.requests, self.window_began) = (0, 0, 0, now);
        }
        self.crowded.then_some(self.pacing.pause)
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

    /// The verdict after `readings` readings of `depth` requests from `sessions` sessions in turn, one every `gap` µs.
    fn verdict(readings: u64, sessions: u64, depth: u32, gap: u64) -> Option<Duration> {
        let began = Instant::now();
        let mut pacer = Pacer::new(Pacing::default(), began);
        let mut last = None;
        for n in 0..readings {
            pacer.hear(n % sessions, depth);
            last = pacer.pass_ended(began + Duration::from_micros(n * gap));
        }
        last
    }

    #[test]
    fn few_sessions_are_never_held_up() {
        assert_eq!(verdict(10_000, 1, 16, 10), None);
        assert_eq!(verdict(10_000, 11, 1, 10), None);
    }

    #[test]
    fn a_crowd_is_collected_after_one_window() {
        assert_eq!(verdict(63, 50, 1, 10), None);
        assert_eq!(verdict(64, 50, 1, 10), Some(Pacing::default().pause));
    }

    #[test]
    fn sparse_requests_are_not_held_up_however_many_send_them() {
        assert_eq!(verdict(10_000, 50, 1, 50), None);
        assert!(verdict(10_000, 50, 16, 50).is_some());
    }

    #[test]
    fn when_the_crowd_has_gone_the_pauses_end() {
        let began = Instant::now();
        let mut pacer = Pacer::new(Pacing::default(), began);
        (0..64).for_each(|n| pacer.hear(n, 1));
        assert!(pacer.pass_ended(began).is_some());
        (0..64).for_each(|_| pacer.hear(7, 1));
        assert_eq!(pacer.pass_ended(began), None);
    }
}
