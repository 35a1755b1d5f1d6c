//! When a new dedicated connection is worth an attempt: a thousand clients must not all try a server that is down. Pure; time is
//! an argument.
//!
//! ```text
//!  well ──an attempt failed──► waiting ──time over, or the server was heard──► one tries, nobody else
//!   ▲                             ▲                                             │   │
//!   │                             └───────────────── it failed: a longer wait ──┘   │
//!   └───────────────────────────────────── it is connected ─────────────────────────┘
//! ```
//! Invariant: of the attempts that fail together, and of the links that are lost together, one counts.

use std::time::{Duration, Instant};

use crate::backend::Reason;
use crate::health::Backoff;

/// Wait after the first failed attempt.
const FIRST_DELAY: Duration = Duration::from_millis(10);
/// Losses in a row of links on which nothing was heard that are as bad as a failed attempt: a server that takes connections only to
/// drop them is not tried in circles. Once it may have been restarted while clients were blocked.
const UNHEARD: u32 = 2;

pub(super) struct Attempts {
    backoff: Backoff,
    doubt: Option<Doubt>,
    /// When the last failure that counted was seen.
    noticed: Option<Instant>,
    /// Links made and lost since the server was last heard.
    unheard: u32,
}

/// The last attempt has failed.
struct Doubt {
    reason: Reason,
    /// No attempt before this.
    until: Instant,
    /// The server's count of recoveries then.
    recoveries: u64,
    /// The connection that tries now.
    scout: Option<u64>,
}

impl Attempts {
    pub fn new(max_delay: Duration, seed: u64) -> Self {
        let backoff = Backoff::new(FIRST_DELAY.min(max_delay), max_delay, 2.0, 0.3, seed);
        Self { backoff, doubt: None, noticed: None, unheard: 0 }
    }

    /// Why connection `number` is not to be made now; if `None` it is to be, and the others wait for what becomes of it.
    pub fn refuse(&mut self, number: u64, recoveries: u64, now: Instant) -> Option<Reason> {
        let doubt = self.doubt.as_mut()?;
        if doubt.scout.is_some() || (now < doubt.until && recoveries == doubt.recoveries) {
            return Some(doubt.reason.clone());
        }
        doubt.scout = Some(number);
        None
    }

    /// An attempt has failed that began at `begun`. `linked`: not quite, but nothing was ever heard on the link before it was
    /// lost.
    pub fn failed(&mut self, (begun, linked): (Instant, bool), reason: &Reason, recoveries: u64, now: Instant) {
        if self.noticed.is_some_and(|noticed| begun <= noticed) {
            return;
        }
        self.noticed = Some(now);
        self.unheard += u32::from(linked);
        if !linked || self.unheard >= UNHEARD {
            let until = now + self.backoff.next();
            self.doubt = Some(Doubt { reason: reason.clone(), until, recoveries, scout: None });
        }
    }

    /// There is a link; what it is worth is not known yet.
    pub fn connected(&mut self) {
        self.doubt = None;
    }

    /// A new link was heard on: the next wait is a short one again.
    pub fn heard(&mut self) {
        self.backoff.reset();
        self.unheard = 0;
    }

    /// This connection is over. If nothing has become of its attempt, the next one may try.
    pub fn over(&mut self, number: u64) {
        if let Some(doubt) = self.doubt.as_mut().filter(|doubt| doubt.scout == Some(number)) {
            doubt.scout = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn refused(attempts: &mut Attempts, number: u64, at: Instant) -> bool {
        attempts.refuse(number, 0, at).is_some()
    }

    #[test]
    fn one_at_a_time_tries_a_server_that_is_down_and_ever_less_often() {
        let (mut attempts, start) = (Attempts::new(MS * 1000, 1), Instant::now());
        assert!((0..1000).all(|number| !refused(&mut attempts, number, start)), "nothing is known of it");
        // They all fail.
        for late in 0..1000 {
            attempts.failed((start, false), &Reason::Closed, 0, start + MS + Duration::from_micros(late));
        }
        let (mut now, mut tries) = (start + MS, Vec::new());
        while now < start + MS * 10_000 {
            let through = (0..100).filter(|number| !refused(&mut attempts, *number, now)).count();
            assert!(through <= 1, "{through} at once");
            if through == 1 {
                tries.push(now);
                attempts.failed((now, false), &Reason::Closed, 0, now + MS / 2);
            }
            now += MS;
        }
        assert!((12..30).contains(&tries.len()), "{} tries in ten seconds", tries.len());
        let first = tries[0] - start;
        assert!(first >= MS * 7 && first <= MS * 13, "{first:?}");
    }

    #[test]
    fn a_link_lets_everybody_through_and_a_word_on_it_makes_waits_short_again() {
        let (mut attempts, start) = (Attempts::new(MS * 1000, 1), Instant::now());
        for round in 0..9 {
            // Connected, and dropped without a word.
            attempts.connected();
            let lost = start + MS * (2000 * round + 1);
            attempts.failed((lost - MS, true), &Reason::Closed, 0, lost);
            assert_eq!(refused(&mut attempts, 1, lost), round > 0, "once is nothing");
        }
        let late = start + MS * (2000 * 8 + 1);
        assert!(refused(&mut attempts, 1, late + MS * 500), "no circles");
        assert!(!refused(&mut attempts, 1, late + MS * 1000));
        attempts.connected();
        assert!((0..100).all(|number| !refused(&mut attempts, number, late + MS * 1000)));
        attempts.heard();
        attempts.failed((late + MS * 2000, false), &Reason::Closed, 0, late + MS * 2001);
        assert!(refused(&mut attempts, 1, late + MS * 2005) && !refused(&mut attempts, 1, late + MS * 2012));
    }

    #[test]
    fn whoever_hears_the_server_ends_the_wait_and_a_try_given_up_is_the_next_ones() {
        let (mut attempts, start) = (Attempts::new(MS * 1000, 1), Instant::now());
        attempts.failed((start, false), &Reason::Closed, 5, start + MS);
        assert_eq!(attempts.refuse(1, 5, start + MS), Some(Reason::Closed));
        assert_eq!(attempts.refuse(1, 6, start + MS), None, "a probe was answered");
        assert_eq!(attempts.refuse(2, 6, start + MS), Some(Reason::Closed));
        attempts.over(2);
        assert_eq!(attempts.refuse(2, 6, start + MS), Some(Reason::Closed), "it was not that one's try");
        attempts.over(1);
        assert_eq!(attempts.refuse(2, 6, start + MS), None);
    }
}
