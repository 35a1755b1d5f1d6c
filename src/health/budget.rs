//! How many requests may be sent a second time: a share of all, so that retries never make an overload worse.

use std::cell::Cell;

/// In hundredths of a token: what one retry costs.
const RETRY: u64 = 100;
/// What can be saved up: a thousand retries, about what is in flight when a busy connection breaks.
const CAP: u64 = 1000 * RETRY;
/// What there is at the start, so that a proxy with little traffic retries too.
const START: u64 = 100 * RETRY;

/// The retries of one pool of one worker. Needs no clock: what fills it is the traffic.
#[derive(Debug)]
pub struct RetryBudget {
    percent: u64,
    /// Above [`CAP`] between two retries; nothing above it can be spent.
    hundredths: Cell<u64>,
}

impl RetryBudget {
    /// Up to `percent` retries in a hundred requests; 0: none at all.
    pub fn new(percent: u8) -> Self {
        let start = if percent == 0 { 0 } else { START };
        Self { percent: percent.into(), hundredths: Cell::new(start) }
    }

    /// A request came. One addition: this is on the request path. The cap is seen to when something is spent.
    #[inline]
    pub fn deposit(&self) {
        self.hundredths.set(self.hundredths.get().wrapping_add(self.percent));
    }

    /// Whether one request may be sent again; if so, it is paid for.
    pub fn withdraw(&self) -> bool {
        let left = self.hundredths.get().min(CAP).checked_sub(RETRY);
        self.hundredths.set(left.unwrap_or(self.hundredths.get()));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &RetryBudget) -> usize {
        std::iter::from_fn(|| budget.withdraw().then_some(())).count()
    }

    #[test]
    fn a_tenth_of_the_requests_can_be_sent_again() {
        let budget = RetryBudget::new(10);
        assert_eq!(retries(&budget), 100, "at the start");
        (0..99).for_each(|_| budget.deposit());
        assert_eq!(retries(&budget), 9);
        budget.deposit();
        assert_eq!(retries(&budget), 1, "what is left over is kept");
    }

    #[test]
    fn a_quiet_day_buys_no_storm() {
        let budget = RetryBudget::new(10);
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!(retries(&budget), 1000);
    }

    #[test]
    fn zero_percent_is_never() {
        let budget = RetryBudget::new(0);
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(retries(&budget), 0);
    }
}
