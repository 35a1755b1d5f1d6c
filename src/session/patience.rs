//! How long a client is waited for: one that takes nothing of what it is owed, and one that says nothing. Pure.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The limits of a pool; `None`: for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// For a client that takes not a byte of what it is owed.
    pub write: Option<Duration>,
    /// For a client that neither asks nor is owed anything.
    pub idle: Option<Duration>,
}

/// A client that has run out of patience's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken nothing for so long.
    Slow(Duration),
    /// It has said nothing for so long.
    Idle(Duration),
}

/// What is remembered of one client.
#[derive(Debug)]
pub struct Patience {
    /// When it last said something, or took the last of what it was owed.
    heard: Cell<Instant>,
    /// While its socket takes no more.
    stall: Cell<Option<Stall>>,
}

#[derive(Debug, Clone, Copy)]
struct Stall {
    /// When it last took a byte.
    since: Instant,
    /// Bytes in the kernel that it had not taken when it was last looked at; `None`: not looked at, or not known.
    untaken: Option<usize>,
}

impl Patience {
    pub fn new(now: Instant) -> Self {
        Self { heard: Cell::new(now), stall: Cell::new(None) }
    }

    /// It said something, or took the last of what it was owed.
    #[inline]
    pub fn heard(&self, now: Instant) {
        self.heard.set(now);
    }

    /// Its socket took everything.
    #[inline]
    pub fn flowing(&self, now: Instant) {
        self.stall.set(None);
        self.heard.set(now);
    }

    /// Its socket took `bytes` bytes, and no more.
    pub fn stalled(&self, bytes: usize, now: Instant) {
        if bytes > 0 || self.stall.get().is_none() {
            self.stall.set(Some(Stall { since: now, untaken: None }));
        }
    }

    /// How long it has taken nothing; zero if its socket takes all there is.
    pub fn took_nothing_for(&self, now: Instant, untaken: impl FnOnce() -> Option<usize>) -> Duration {
        let Some(mut stall) = self.stall.get() else { return Duration::ZERO };
        let before = std::mem::replace(&mut stall.untaken, untaken());
        if before.is_some() && before != stall.untaken {
            stall.since = now;
        }
        self.stall.set(Some(stall));
        now.saturating_duration_since(stall.since)
    }

    /// Judges the client. `untaken` says how many bytes lie in the kernel that it has not taken: these may become fewer
    /// long before the socket takes more. `settled`: it is owed nothing.
    pub fn judge(
        &self,
        limits: Limits,
        settled: bool,
        now: Instant,
        untaken: impl FnOnce() -> Option<usize>,
    ) -> Option<Verdict> {
        if self.stall.get().is_some() {
            let passed = self.took_nothing_for(now, untaken);
            return limits.write.filter(|limit| passed >= *limit).map(|_| Verdict::Slow(passed));
        }
        let passed = now.saturating_duration_since(self.heard.get());
        limits.idle.filter(|limit| settled && passed >= *limit).map(|_| Verdict::Idle(passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { write: Some(Duration::from_secs(30)), idle: Some(Duration::from_secs(100)) };

    /// A client and the time, in seconds since it came.
    fn client() -> (Patience, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Patience::new(start), move |seconds| start + Duration::from_secs(seconds))
    }

    fn slow(seconds: u64) -> Option<Verdict> {
        Some(Verdict::Slow(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_client_that_takes_nothing_is_slow_on_the_limit_not_before() {
        let (client, at) = client();
        client.stalled(100, at(10));
        assert_eq!(client.judge(LIMITS, false, at(39), || Some(500)), None);
        assert_eq!(client.judge(LIMITS, false, at(40), || Some(500)), slow(30));
        assert_eq!(client.judge(Limits::default(), false, at(4000), || Some(500)), None);
    }

    #[test]
    fn each_byte_taken_begins_the_time_anew() {
        let (client, at) = client();
        client.stalled(0, at(0));
        client.stalled(1, at(20));
        client.stalled(0, at(40));
        assert_eq!(client.judge(LIMITS, false, at(49), || None), None);
        // The kernel still has some of them: only there can it be seen that the client takes them.
        assert_eq!(client.judge(LIMITS, false, at(50), || Some(800)), slow(30));
        assert_eq!(client.judge(LIMITS, false, at(51), || Some(799)), None);
        assert_eq!(client.judge(LIMITS, false, at(80), || Some(799)), None);
        assert_eq!(client.judge(LIMITS, false, at(81), || Some(799)), slow(30));
        client.flowing(at(82));
        assert_eq!(client.judge(LIMITS, false, at(181), || unreachable!()), None);
    }

    #[test]
    fn a_client_is_idle_only_when_it_is_owed_nothing() {
        let (client, at) = client();
        client.heard(at(5));
        assert_eq!(client.judge(LIMITS, true, at(104), || None), None);
        assert_eq!(client.judge(LIMITS, false, at(1000), || None), None);
        assert_eq!(client.judge(LIMITS, true, at(105), || None), Some(Verdict::Idle(Duration::from_secs(100))));
        client.flowing(at(106));
        assert_eq!(client.judge(LIMITS, true, at(205), || None), None);
    }
}
