//! Folding: of many like events, one line in the log now and then, with their number.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One line at most so often.
const EVERY: Duration = Duration::from_secs(10);

/// Events of one kind. May be shared by threads; meant for what is rare.
#[derive(Debug, Default)]
pub struct Fold(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Fold {
    /// One more event; the number of events, this one included, that a line written now stands for. `None`: write none.
    pub fn tell(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().ok()?;
        state.untold += 1;
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < EVERY) {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_ones_together() {
        let (fold, start) = (Fold::default(), Instant::now());
        let tell = |millis| fold.tell(start + Duration::from_millis(millis));
        assert_eq!(tell(0), Some(1));
        assert_eq!([1, 5000, 9999].map(tell), [None; 3]);
        assert_eq!(tell(10_000), Some(4));
        assert_eq!(tell(10_001), None);
        assert_eq!(tell(60_000), Some(2));
    }
}
