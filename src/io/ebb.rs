//! The ebb: a worker that held much and has held little for a while may give memory back. Pure.
//!
//! Allocators keep what was freed until the thread that freed it asks for more, and a worker with nothing to do never
//! does.

use std::time::{Duration, Instant};

/// Less is not worth the trouble, in bytes.
const MUCH: usize = 8 << 20;
/// Little is so much less than the most.
const FRACTION: usize = 8;
/// How long it must have been little: what comes and goes is needed again.
const WHILE: Duration = Duration::from_secs(1);

/// What one worker holds, and the most that it held since it last gave memory back.
#[derive(Debug, Default)]
pub struct Ebb {
    held: usize,
    most: usize,
    /// Since when it has held little.
    since: Option<Instant>,
}

impl Ebb {
    /// It holds so many bytes more, or less; true when the wait begins.
    pub fn change(&mut self, bytes: isize, now: Instant) -> bool {
        self.held = self.held.saturating_add_signed(bytes);
        self.most = self.most.max(self.held);
        if self.most < MUCH || self.held > self.most / FRACTION {
            self.since = None;
            return false;
        }
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// Something is to be given back sooner or later.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Whether memory is to be given back now; true once.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.since.is_some_and(|since| now.saturating_duration_since(since) >= WHILE);
        if due {
            (self.most, self.since) = (self.held, None);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_when_little_has_been_held_for_a_while() {
        let (mut ebb, start) = (Ebb::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!ebb.change(40 << 20, at(0)) && !ebb.is_waiting());
        assert!(!ebb.change(-(30 << 20), at(1)), "a quarter is not little");
        assert!(ebb.change(-(6 << 20), at(2)) && ebb.is_waiting());
        assert!(!ebb.is_due(at(900)));
        assert!(!ebb.change(20 << 20, at(950)) && !ebb.is_waiting(), "it is needed again");
        assert!(ebb.change(-(20 << 20), at(960)));
        assert!(!ebb.change(1000, at(1500)), "little, still");
        assert!(!ebb.is_due(at(1900)) && ebb.is_due(at(1960)));
        assert!(!ebb.is_waiting() && !ebb.is_due(at(9000)));
    }

    #[test]
    fn what_comes_and_goes_is_kept() {
        let (mut ebb, start) = (Ebb::default(), Instant::now());
        for millis in (0..10_000).step_by(500) {
            ebb.change(20 << 20, start + Duration::from_millis(millis));
            ebb.change(-(20 << 20), start + Duration::from_millis(millis + 1));
            assert!(!ebb.is_due(start + Duration::from_millis(millis + 499)));
        }
        assert!(!ebb.change(1 << 20, start) && !Ebb::default().change(7 << 20, start));
    }
}
