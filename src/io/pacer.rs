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
    /// Shortest sleep; zero: never.
    pub pause: Duration,
    /// Longest sleep.
    pub longest: Duration,
    /// What each session heard of adds, between the two: the larger the crowd, the more there is to collect, and the
    /// less a pause is beside the time that each waits for its turn.
    pub per_session: Duration,
    /// Sessions heard of in one window from which on they are a crowd.
    pub crowd: u32,
    /// Requests per second from which on they are dense.
    pub dense: u32,
}

impl Default for Pacing {
    /// Below 40,000 requests a second a pause finds too little to pay for itself: at 20,000 it doubled the median latency
    /// and saved nothing.
    fn default() -> Self {
        Self {
            pause: Duration::from_micros(20),
            longest: Duration::from_micros(40),
            per_session: Duration::from_nanos(400),
            crowd: 12,
            dense: 40_000,
        }
    }
}

impl Pacing {
    /// The sleep that collects so many sessions.
    fn pause_for(&self, sessions: u32) -> Duration {
        if sessions < self.crowd || self.pause.is_zero() {
            return Duration::ZERO;
        }
        (self.per_session * sessions).clamp(self.pause, self.longest)
    }
}

/// Readings from clients after which the pacer makes up its mind anew.
const WINDOW: u32 = 256;

/// Watches which sessions are heard of, and how fast; says at the end of a pass whether to sleep.
#[derive(Debug)]
pub struct Pacer {
    pacing: Pacing,
    /// One bit per session heard of in this window, by the last eight bits of its number.
    heard: [u64; 4],
    readings: u32,
    requests: u32,
    window_began: Instant,
    /// What the last whole window asks for; zero: no sleep.
    pause: Duration,
}

impl Pacer {
    pub fn new(pacing: Pacing, now: Instant) -> Self {
        Self { pacing, heard: [0; 4], readings: 0, requests: 0, window_began: now, pause: Duration::ZERO }
    }

    /// So many requests of the session with this number were read at once.
    pub fn hear(&mut self, session: u64, requests: u32) {
        self.heard[session as usize / 64 % 4] |= 1 << (session % 64);
        self.readings += 1;
        self.requests = self.requests.saturating_add(requests);
    }

    /// Called when the pass that began at `now` has written everything; how long to sleep.
    pub fn pass_ended(&mut self, now: Instant) -> Option<Duration> {
        if self.readings >= WINDOW {
            let elapsed = now.saturating_duration_since(self.window_began).as_secs_f32();
            let dense = self.requests as f32 >= self.pacing.dense as f32 * elapsed;
            let sessions = self.heard.iter().map(|bits| bits.count_ones()).sum();
            self.pause = if dense { self.pacing.pause_for(sessions) } else { Duration::ZERO };
            (self.heard, self.readings, self.requests, self.window_began) = ([0; 4], 0, 0, now);
        }
        (!self.pause.is_zero()).then_some(self.pause)
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
        assert_eq!(verdict(255, 50, 1, 10), None);
        assert_eq!(verdict(256, 50, 1, 10), Some(Pacing::default().pause));
    }

    #[test]
    fn the_larger_the_crowd_the_longer_the_pause() {
        let micros = |sessions| verdict(1024, sessions, 1, 10).map(|p| p.as_micros());
        assert_eq!([12, 50, 75, 100, 250].map(micros), [20, 20, 30, 40, 40].map(Some));
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
        (0..256).for_each(|n| pacer.hear(n, 1));
        assert!(pacer.pass_ended(began).is_some());
        (0..256).for_each(|_| pacer.hear(7, 1));
        assert_eq!(pacer.pass_ended(began), None);
    }
}
